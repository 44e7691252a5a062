#!/bin/bash
# add_tag against the UPDATE of an int[] row with intarray's GIN index.  Runs on the server of `make bench`.
#
#   add_tag with history and index, 1 and 2 clients    >= 0.5 x UPDATE of the int[] row
#   2 clients on one tag                               >= 0.9 x 2 clients on different tags
#   the same by processor time of the backends, which says more on a machine that others use as well
#   median WAL per call, after the images of a checkpoint: a figure
#   plain UPDATE of a value for 10 % of the customers: figures
# FASTUPDATE="on off" measures both settings of our index.
set -eu
n=${N:-200000} rounds=${ROUNDS:-5} calls=${CALLS:-20000}
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
X
tmp=$(mktemp -d)
one() { cat > "$tmp/$1.sql"; }
one plain <<X
\set i random(1, $n)
\set k random(1, 2000000000)
UPDATE plain SET tags = tags + :k::int WHERE id = :i;
X
one ours <<X
\set i random(1, $n)
\set t random(1, 2000)
\set k random(1, 1000000000)
SELECT cdp.add_tag(:i, 'u' || :t, :k::text);
X
one same <<X
\set i random(1, $n)
\set k random(1, 1000000000)
SELECT cdp.add_tag(:i, 'one', :k::text);
X
# calls per second, and microseconds of processor time of the backends per call
tps() {
	PGOPTIONS='-c synchronous_commit=off' pgbench -n -M prepared -t $((calls / $2)) -c "$2" -j "$2" -f "$tmp/$1.sql" "$PGDATABASE" > "$tmp/out" 2>/dev/null &
	pids=
	while [ "$(echo $pids | wc -w)" -lt "$2" ] && kill -0 $! 2>/dev/null; do
		pids=$(q -c "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench'" | tr '\n' ' ')
	done
	while cat $(printf '/proc/%s/schedstat ' $pids) > "$tmp/now" 2>/dev/null; do mv "$tmp/now" "$tmp/cpu"; sleep 0.05; done
	wait
	awk -v calls="$calls" '{cpu += $1} END {print cpu / 1000 / calls}' "$tmp/cpu" >> "$tmp/$1.$2.cpu"
	sed -n 's/^tps = \([0-9.]*\).*/\1/p' "$tmp/out" >> "$tmp/$1.$2.tps"
}
median() { sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }
row() { awk -v n="$1" -v a="$2" -v b="$3" -v want="$4" 'BEGIN {r = a / b; printf "%-52s %10.0f %10.0f calls/s  ratio %.2f  (at least %s) %s\n", n, a, b, r, want, (r >= want ? "ok" : "MISSED")}'; }
for setting in ${FASTUPDATE:-as_is}; do
	[ "$setting" = as_is ] || { q -c "ALTER INDEX cdp.profile_tag_tags SET (fastupdate = $setting)"; echo "fastupdate = $setting"; }
	q -c CHECKPOINT
	for c in 1 2; do for f in plain ours same; do tps $f $c; done; done
	rm -f "$tmp"/*.tps "$tmp"/*.cpu
	for r in $(seq "$rounds"); do for c in 1 2; do for f in plain ours same; do tps $f $c; done; done; done
	row "add_tag, 1 client" "$(median < "$tmp/ours.1.tps")" "$(median < "$tmp/plain.1.tps")" 0.5
	row "add_tag, 2 clients" "$(median < "$tmp/ours.2.tps")" "$(median < "$tmp/plain.2.tps")" 0.5
	row "2 clients on one tag, against different tags" "$(median < "$tmp/same.2.tps")" "$(median < "$tmp/ours.2.tps")" 0.9
	for c in 1 2; do
		awk -v c="$c" -v p="$(median < "$tmp/plain.$c.cpu")" -v o="$(median < "$tmp/ours.$c.cpu")" -v s="$(median < "$tmp/same.$c.cpu")" \
			'BEGIN {printf "processor time per call, clients: %d   UPDATE %.0f us, add_tag %.0f us, ratio %.2f; on one tag %.0f us, ratio %.2f\n", c, p, o, p / o, s, o / s}'
	done
	for i in $(seq 51); do
		q <<X
SELECT pg_current_wal_insert_lsn() AS a \gset
SELECT cdp.add_tag($((i * 37 % n + 1)), 'w$i', '$i') \g /dev/null
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), :'a');
X
	done | median | sed 's/^/WAL of one add_tag, median: /; s/$/ bytes/'
done
psql -XAtq <<'X'
\timing on
UPDATE plain SET tags = tags + 777 WHERE id % 10 = 3;
UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.+) 'refreshed=1' WHERE profile_id % 10 = 3;
X
rm -rf "$tmp"
