#!/bin/bash
# Write the generated pages anew: doc/roles.md.  Usage: make docs (test/run.sh docs does the work on a private server).
set -euo pipefail
cat <<'X'
# Who may do what

`SELECT cdp.grant_access(kind, role)` gives a role what one kind of user needs, `SELECT cdp.revoke_access(kind, role)` takes
it back; both are run by the owner of the tables. *everybody* is what every role may do from birth: pure functions only.
*reader* is part of *operator*, *admin* has everything. A line of dashes is for the owner of the tables alone, and so is
everything that is not in this list. The owner of the database may do everything and hand it on.

This page is generated from the access rules in `sql/*.sql`; `make docs` writes it, a test compares it with the rules and
the rules with the rights that four roles really have.

| object | everybody | reader | application | operator | admin |
|---|---|---|---|---|---|
X
psql -XAtq -v ON_ERROR_STOP=1 -f test/roles.sql
