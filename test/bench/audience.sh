#!/bin/bash
# cdp.audience against arrays and plain SQL.  Runs on the server of `make bench`; ROWS=10000000 for more, RUNS=5
# repetitions, ONLY=regex picks comparisons.
#
# Baselines: array_agg, intarray's uniq(sort(array_agg)), count(DISTINCT) over the same rows; unnest of the same ids;
# INTERSECT and EXCEPT of rows.  Runs alternate and medians are compared, because a shared machine wobbles.  Reach:
# parallel audience_agg with 2 workers at least 1.5 times as fast as with one (the leader does not take part in either).
set -euo pipefail
rows=${ROWS:-2000000} runs=${RUNS:-5}

psql -Xq -v ON_ERROR_STOP=1 <<SQL
CREATE EXTENSION IF NOT EXISTS intarray;
ALTER DATABASE ${PGDATABASE:-postgres} SET search_path = public, cdp;
CREATE TABLE ids (id bigint, shuffled bigint, hashed bigint, half int);
INSERT INTO ids SELECT i, i * 7919::bigint % $rows, hashint8(i)::bigint + 2147483648, i FROM generate_series(1, $rows) i;
ALTER TABLE ids SET (parallel_workers = 2);
CREATE TABLE sets AS SELECT cdp.audience_agg(id) FILTER (WHERE hashed % 1000 < 162) AS a, cdp.audience_agg(id) FILTER (WHERE hashed % 7 < 3) AS b,
	array_agg(id) FILTER (WHERE hashed % 1000 < 162) AS x, array_agg(id) FILTER (WHERE hashed % 7 < 3) AS y FROM ids;
VACUUM ANALYZE ids, sets;
SQL
psql -XAtq -c "SELECT format('sets of %s and %s ids, %s and %s kB as audience, %s and %s kB as bigint[]', cdp.audience_count(a), cdp.audience_count(b),
	pg_column_size(a) / 1024, pg_column_size(b) / 1024, length(array_send(x)) / 1024, length(array_send(y)) / 1024) FROM sets"

# milliseconds of one execution
once() {	# SETTINGS QUERY
	psql -XAtq -v ON_ERROR_STOP=1 -c "SET jit = off; SET work_mem = '256MB'; SET max_parallel_workers_per_gather = 0; $1" -c "EXPLAIN (ANALYZE, TIMING OFF) $2" |
		sed -n 's/Execution Time: \([0-9.]*\) ms/\1/p'
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
compare() {	# NAME BASELINE OURS [SETTINGS OF BASELINE] [SETTINGS OF OURS]
	local a='' b='' i
	[[ $1 =~ ${ONLY:-} ]] || return 0
	once "${4:-}" "$2" >/dev/null
	for i in $(seq "$runs"); do
		a+="$(once "${4:-}" "$2")"$'\n'; b+="$(once "${5:-}" "$3")"$'\n'
	done
	a=$(printf %s "$a" | median) b=$(printf %s "$b" | median)
	awk -v n="$1" -v a="$a" -v b="$b" 'BEGIN {printf "%-52s %9.1f %9.1f %8.3f\n", n, a, b, b / a}'
}

printf '%-52s %9s %9s %8s\n' "$rows ids; milliseconds" baseline ours ratio
compare 'audience_agg, ascending : count(id)' 'SELECT count(id) FROM ids' 'SELECT cdp.audience_agg(id) FROM ids'
compare 'audience_agg, ascending : array_agg' 'SELECT array_agg(id) FROM ids' 'SELECT cdp.audience_agg(id) FROM ids'
compare 'audience_agg, shuffled : uniq(sort(array_agg))' 'SELECT uniq(sort(array_agg(shuffled::int))) FROM ids' 'SELECT cdp.audience_agg(shuffled) FROM ids'
compare 'audience_agg, shuffled : count(DISTINCT)' 'SELECT count(DISTINCT shuffled) FROM ids' 'SELECT cdp.audience_count(cdp.audience_agg(shuffled)) FROM ids'
compare 'audience_agg, hashes of 32 bits : count(DISTINCT)' 'SELECT count(DISTINCT hashed) FROM ids' 'SELECT cdp.audience_count(cdp.audience_agg(hashed)) FROM ids'
two='SET max_parallel_workers_per_gather = 2; SET parallel_leader_participation = off; SET parallel_setup_cost = 0'
one=${two/= 2/= 1}
compare 'audience_agg, ascending, 2 workers : 1 worker' 'SELECT cdp.audience_agg(id) FROM ids' 'SELECT cdp.audience_agg(id) FROM ids' "$one" "$two"
compare 'audience_agg, shuffled, 2 workers : 1 worker' 'SELECT cdp.audience_agg(shuffled) FROM ids' 'SELECT cdp.audience_agg(shuffled) FROM ids' "$one" "$two"
compare 'audience_ids : unnest(bigint[]), FROM' 'SELECT count(*) FROM sets, unnest(x)' 'SELECT count(*) FROM sets, cdp.audience_ids(a)'
compare 'audience_ids : unnest(bigint[]), SELECT list' 'SELECT count(*) FROM (SELECT unnest(x) FROM sets) s' 'SELECT count(*) FROM (SELECT cdp.audience_ids(a) FROM sets) s'
compare 'a & b, 100 times : INTERSECT, once' 'SELECT count(*) FROM (SELECT unnest(x) FROM sets INTERSECT SELECT unnest(y) FROM sets) s' \
	'SELECT sum(cdp.audience_count(CASE WHEN g > 0 THEN a & b END)) FROM sets, generate_series(1, 100) g'
compare 'a - b, 100 times : EXCEPT, once' 'SELECT count(*) FROM (SELECT unnest(x) FROM sets EXCEPT SELECT unnest(y) FROM sets) s' \
	'SELECT sum(cdp.audience_count(CASE WHEN g > 0 THEN a - b END)) FROM sets, generate_series(1, 100) g'
compare 'id <@ a for every row : hash join with the ids' 'SELECT count(*) FROM ids JOIN (SELECT unnest(x) AS id FROM sets) s USING (id)' 'SELECT count(*) FROM ids, sets WHERE id <@ a'
compare 'a::bigint[] : array_agg of them' 'SELECT array_agg(i) FROM sets, unnest(x) i' 'SELECT a::bigint[] FROM sets'
compare 'a text : bigint[] text' 'SELECT length(x::text) FROM sets' 'SELECT length(a::text) FROM sets'
