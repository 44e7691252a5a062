#!/bin/bash
# verify_points() and the reading functions on a generated ledger.  Runs on the server of `make bench`; ENTRIES=1000000
# is how many entries (six earned lots and four spendings of an account in ten entries), RUNS=5 repetitions.
#
# Reach: verify_points() at most 1 s per million entries.  "by grouping" is what each sum would cost without fingerprints
# (one GROUP BY of every rule, run for its time only).
set -euo pipefail
entries=${ENTRIES:-1000000} runs=${RUNS:-5} n=$((${ENTRIES:-1000000} / 10))

psql -Xq -v ON_ERROR_STOP=1 <<SQL
SET client_min_messages = warning;
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 100) i)) \g /dev/null
-- rows that the engine would have written, by months
SET session_replication_role = replica;
DO \$\$
DECLARE
	t regclass;
BEGIN
	FOR t IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname ~ '^points_' AND c.relname <> 'points_program' LOOP
		EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', t);
	END LOOP;
	FOR i IN 0 .. 24 LOOP
		EXECUTE format('CREATE TABLE IF NOT EXISTS cdp.points_entry_%s PARTITION OF cdp.points_entry FOR VALUES FROM (%L) TO (%L)', to_char(date '2020-01-01' + i * interval '1 month', 'YYYY_MM'),
			(date '2020-01-01' + i * interval '1 month')::text || '+00', (date '2020-01-01' + (i + 1) * interval '1 month')::text || '+00');
	END LOOP;
END \$\$;
CREATE TEMP TABLE op AS SELECT s.t * $n::bigint + c AS id, c, s.k, s.i, timestamptz '2020-01-02Z' + (s.t + c::float8 / $n) * interval '70 days' AS at
	FROM (VALUES (0, 'earn', 0), (1, 'earn', 1), (2, 'spend', 0), (3, 'earn', 2), (4, 'spend', 1), (5, 'earn', 3), (6, 'spend', 2), (7, 'earn', 4), (8, 'spend', 3), (9, 'earn', 5)) s(t, k, i),
		generate_series(1, $n) c;
INSERT INTO cdp.points_entry (entry_id, posted_at, occurred_at, profile_id, customer_id, kind, amount, reference, idempotency_key)
	SELECT id, at, at, c, c, k, CASE k WHEN 'earn' THEN 100 ELSE -120 END, 'order-' || id, 'key-' || id FROM op ORDER BY id;
INSERT INTO cdp.points_key (idempotency_key, verb, profile_id, customer_id, program, amount, reference, result, posted, posted_at)
	SELECT 'key-' || id, k, c, c, 'points', CASE k WHEN 'earn' THEN 100 ELSE 120 END, 'order-' || id, id, CASE k WHEN 'earn' THEN 100 ELSE 120 END, at FROM op ORDER BY id;
INSERT INTO cdp.points_lot (lot_id, customer_id, program, profile_id, entry_id, earned_entry, amount, remaining, earned_at, available_at, expires_at)
	SELECT id, c, 'points', c, id, id, 100, CASE i WHEN 4 THEN 20 WHEN 5 THEN 100 ELSE 0 END, at, at, at + interval '6 years' FROM op WHERE k = 'earn' ORDER BY id;
INSERT INTO cdp.points_lot_use (entry_id, ord, lot_id, amount)
	SELECT s.id, row_number() OVER (PARTITION BY s.id ORDER BY l.i), l.id, least(l.i * 100 + 100, s.i * 120 + 120) - greatest(l.i * 100, s.i * 120)
	FROM op s JOIN op l ON l.c = s.c AND l.k = 'earn' AND s.k = 'spend' AND l.i * 100 < s.i * 120 + 120 AND s.i * 120 < l.i * 100 + 100 ORDER BY s.id, l.i;
INSERT INTO cdp.points_account (customer_id, program, balance, entries) SELECT c, 'points', 120, 10 FROM generate_series(1, $n) c;
VACUUM (ANALYZE) cdp.points_entry, cdp.points_key, cdp.points_lot, cdp.points_lot_use, cdp.points_account;
SQL

median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
measure() {	# NAME QUERY [SETTINGS]
	local i t=
	psql -XAtq -c "${3:-SELECT}" -c "$2" >/dev/null
	for i in $(seq "$runs"); do
		t+="$(psql -XAtq -v ON_ERROR_STOP=1 -c "SET jit = off; ${3:-}" -c "EXPLAIN (ANALYZE, TIMING OFF) $2" | sed -n 's/Execution Time: \([0-9.]*\) ms/\1/p')"$'\n'
	done
	printf '%-52s %9.1f ms\n' "$1" "$(printf %s "$t" | median)"
}
psql -XAtq -c "SELECT CASE count(*) WHEN 0 THEN 'the ledger is sound' ELSE count(*) || ' PROBLEMS' END FROM cdp.verify_points()"
measure "verify_points(), $entries entries" "SELECT * FROM cdp.verify_points()"
measure "the same in one process" "SELECT * FROM cdp.verify_points()" "SET max_parallel_workers_per_gather = 0"
measure "by grouping, what fingerprints tell" "SELECT * FROM cdp._verify_points_sums(NULL, '{balance,count,lots,lot,entry,key,held,total,reversal,move}')"
measure "points_balance() now" "SELECT cdp.points_balance(7)"
measure "points_balance() half a year ago" "SELECT cdp.points_balance(7, as_of => '2021-06-01Z')" "SET cdp.now = '2022-01-01 00:00:00+00'"
measure "points_statement()" "SELECT * FROM cdp.points_statement(7)"
measure "points_account_status, all accounts" "SELECT count(*), sum(available) FROM cdp.points_account_status"
psql -Xq -v ON_ERROR_STOP=1 -c "INSERT INTO cdp.points_lot (lot_id, customer_id, program, profile_id, entry_id, earned_entry, amount, remaining, earned_at, available_at, expires_at)
	SELECT 1000000000 + i, 1, 'points', 1, 1, 1, 10, 10, '2020-01-02Z', '2020-01-02Z', '2040-01-01Z'::timestamptz + (i % 1000) * interval '1 hour' FROM generate_series(1, 300000) i" -c "ANALYZE cdp.points_lot"
measure "points_balance() with 300,000 open lots" "SELECT cdp.points_balance(1)"
