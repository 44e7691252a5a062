#!/bin/sh
# Build an extension script from the module files.  Usage: assemble.sh install NEW MODULE...
#                                                         assemble.sh update OLD NEW MODULE...
#
# Every release can be updated to NEW in one script: sql/upgrade/A--B.sql holds by hand what one step needs, and the
# chain of steps from OLD to NEW is followed.  A step has the sections
#   @drop    what must leave before the new code can come (a function whose result type changes, an old overload)
#   @type    types that are new in B
#   @bind    operators, operator classes and casts that are new in B
#   @data    what cdp.migrate() has to do to tables of A before the modules' own @data runs
#
# A module file sql/NAME.sql has these sections, in any order:
#   @type    types and what they cannot be made without: before all code, once; later by hand in sql/upgrade
#   @code    functions, aggregates: members of the extension, rewritten by every script
#   @bind    what cannot be replaced (operators, operator classes, casts): install, later by hand in sql/upgrade
#   @access  who may use what: VALUES rows (object_type, name, privileges, kinds), see sql/core.sql; the kinds are public,
#            reader, application, operator, admin, and owner for what is the table owner's alone
#   @data    tables, indexes, triggers, seed rows: the body of cdp.migrate(), never members; every statement
#            can be run again, so that migrate() repairs what went missing
#   @view    views and functions that read tables when they are parsed, and SECURITY DEFINER verbs: re-made at
#            the end of every cdp.migrate(), owned by whoever owns the tables
set -eu
section() { want=$1; shift
	for f in "$@"; do awk -v want="@$want" '/^-- @[a-z]+/ {on = ($2 == want); next} on' "$f"; done; }
mode=$1; shift
old=; if [ "$mode" = update ]; then old=$1; shift; fi
new=$1; shift
mods=; for m in "$@"; do mods="$mods sql/$m.sql"; done
steps=$(ls sql/upgrade/*.sql 2>/dev/null | sort -V || true)

access() {
	echo 'CREATE OR REPLACE FUNCTION cdp._access_rules() RETURNS TABLE (object_type text, object text, privileges text, kinds text[])'
	echo '	LANGUAGE sql IMMUTABLE PARALLEL SAFE'
	echo 'BEGIN ATOMIC'
	echo '	SELECT v.t, v.o, v.p, v.k::pg_catalog.text[] FROM (VALUES'
	section access $mods | grep '^(' | sed '$s/,$//' | sed 's/^/	/'
	echo '	) AS v(t, o, p, k);'
	echo 'END;'
	echo "COMMENT ON FUNCTION cdp._access_rules() IS 'internal: what each kind of user may do; assembled from the @access sections';"
}

migrate() {
	cat <<-'X'
	CREATE OR REPLACE FUNCTION cdp._migrate() RETURNS void LANGUAGE plpgsql
		SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
	AS $migrate$
	DECLARE
		m_at text;		-- version of the tables; NULL: there are none
	BEGIN
	m_at := cdp._migrate_begin();
	X
	for s in $steps; do
		v=$(basename "$s" .sql)
		echo "IF m_at = '${v%%--*}' THEN"; section data "$s"; echo "	m_at := '${v##*--}';"; echo "END IF;"
	done
	section data $mods
	section view $mods
	echo "PERFORM cdp._migrate_end('$new');"
	echo 'END $migrate$;'
	echo "COMMENT ON FUNCTION cdp._migrate() IS 'internal: body of cdp.migrate(), run as the owner of the tables';"
	cat <<-'X'
	CREATE OR REPLACE PROCEDURE cdp.migrate() LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $migrate$ BEGIN PERFORM cdp._as_owner('_migrate'); END $migrate$;
	X
	echo "COMMENT ON PROCEDURE cdp.migrate() IS 'Creates the tables of schema cdp, or brings them to the version of the code and repairs what is missing (columns, constraints, indexes, triggers, views, rights). Never commits, so it fits into one transaction with ALTER EXTENSION. Run it as the role that shall own the tables, usually the database owner. Errors: 42501 when the tables belong to a role you may not act as.';"
}

printf '\\echo Load this file with CREATE/ALTER EXTENSION customer_cdp. \\quit\n'
echo 'SET LOCAL search_path TO pg_catalog, pg_temp;'
if [ "$mode" = install ]; then
	cat sql/guard.sql
	{ section type $mods; section code $mods; access; } | sed 's/^CREATE OR REPLACE /CREATE /'
	migrate | sed 's/^CREATE OR REPLACE \(FUNCTION cdp._migrate()\|PROCEDURE cdp.migrate()\)/CREATE \1/'
	section bind $mods
else
	# the steps from old to new, in order
	chain=; at=$old
	while [ "$at" != "$new" ]; do
		step=
		for s in $steps; do case $s in */"$at"--*.sql) step=$s;; esac; done
		[ -n "$step" ] || { echo "assemble.sh: sql/upgrade has no step from $at" >&2; exit 1; }
		chain="$chain $step"; at=$(basename "$step" .sql); at=${at##*--}
	done
	section drop $chain
	section type $chain
	section code $mods; access; migrate
	section bind $chain
fi
echo 'SELECT cdp._member_rights();'
