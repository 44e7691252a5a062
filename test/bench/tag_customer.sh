#!/bin/bash
# add_tag against the UPDATE of an int[] row with intarray's GIN index.  Runs on the server of `make bench`.
#
#   add_tag with history and index, 1 and 2 clients    >= 0.5 x UPDATE of the int[] row
#   2 clients on one tag                               >= 0.9 x 2 clients on different tags
#   median WAL per call, after the images of a checkpoint
#   plain UPDATE of a value for 10 % of the customers  a figure: what refreshing a tag cannot be faster than
set -eu
n=${N:-200000} rounds=${ROUNDS:-5} secs=${SECS:-4}
q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
q -v n="$n" <<'X'
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS intarray;
INSERT INTO cdp.profile (profile_id) SELECT g FROM generate_series(1, :n) g;
CREATE TABLE fact AS SELECT g AS id, array_agg(k ORDER BY k) AS k FROM generate_series(1, :n) g, generate_series(1, 200) k
	WHERE hashint8(g::bigint * 1000 + k)::bigint & 65535 < 65536 * 0.9 / (1 + k * 0.12) ^ 1.2 GROUP BY g;
CREATE TABLE plain (id bigint PRIMARY KEY, tags int[]);
INSERT INTO plain SELECT id, k FROM fact;
CREATE INDEX plain_tags ON plain USING gin (tags gin__int_ops);
INSERT INTO cdp.profile_tag (profile_id, tags) SELECT id, cdp.tagset(ARRAY(SELECT 't' || x FROM unnest(k) x)) FROM fact;
VACUUM ANALYZE;
