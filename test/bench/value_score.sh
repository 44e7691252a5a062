#!/bin/bash
# cdp.fit_value_models and cdp.score_customers over the orders of the CDP.  Runs on the server of `make bench`; ROWS=10000000 for
# the full run, RUNS=3 repetitions.
#
# Baseline: the serial, warm scan "SELECT count(*), sum(amount)" of cdp.sales_order, measured beside every run.  Reach: a scoring
# in which nothing changed 25 x the scan, and it writes no row.  The rest are figures.  Rows: ROWS orders of ROWS/10 customers,
# each with a rate and an end of his own, seeded.
set -euo pipefail
rows=${ROWS:-2000000} runs=${RUNS:-3} n=$((${ROWS:-2000000} / 10))

psql -Xq -v ON_ERROR_STOP=1 <<SQL
SET client_min_messages = warning;
SELECT setseed(0.42) \g /dev/null
SET session_replication_role = replica;
INSERT INTO cdp.profile (profile_id) OVERRIDING SYSTEM VALUE SELECT g FROM generate_series(1, $n) g;
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount)
SELECT 'o' || row_number() OVER (), c.id, at, 'completed', round((5 + 200 * random() ^ 3)::numeric, 2)
FROM (SELECT g AS id, '2024-01-01'::timestamptz + random() * interval '500 days' AS begun, (random() * 600 + 5) * interval '1 day' AS stays,
		greatest(1, round(-ln(random()) * 10))::int AS orders FROM generate_series(1, $n) g) c,
	LATERAL (SELECT c.begun + random() * least(c.stays, '2026-01-01' - c.begun) AS at FROM generate_series(1, c.orders)) o;
RESET session_replication_role;
VACUUM ANALYZE cdp.profile, cdp.sales_order;
SQL
serial="SET jit = off; SET work_mem = '256MB'; SET max_parallel_workers_per_gather = 0; SET cdp.now = '2026-01-01 00:00+08'"
ms() { psql -XAtq -v ON_ERROR_STOP=1 <<SQL | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -1
$serial;
\timing on
$1
SQL
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
scan='SELECT count(*), sum(amount) FROM cdp.sales_order;'
line() {	# NAME STATEMENT RUNS [REACH]
	local a='' b='' i
	ms "$scan" >/dev/null
	for i in $(seq "$3"); do a+="$(ms "$scan")"$'\n'; b+="$(ms "$2")"$'\n'; done
	awk -v n="$1" -v a="$(printf %s "$a" | median)" -v b="$(printf %s "$b" | median)" -v want="${4:-}" 'BEGIN {
		printf "%-52s %9.0f %9.0f %7.2f %s\n", n, a, b, b / a, want == "" ? "" : "(reach " want ") " (b / a <= want ? "ok" : "MISSED")}'
}
printf '%s orders, %s customers, milliseconds\n%-52s %9s %9s %7s\n' "$(psql -XAtqc 'SELECT count(*) FROM cdp.sales_order')" "$n" 'beside the serial scan' scan this ratio
line 'rfm_table'                                    "SELECT count(*) FROM cdp.rfm_table();" "$runs"
line 'btyd_table'                                   "SELECT count(*) FROM cdp.btyd_table();" "$runs"
line 'fit_value_models'                             'CALL cdp.fit_value_models();' 1
line 'score_customers, every row is new'            'CALL cdp.score_customers();' 1
line 'score_customers, nothing changed'             'CALL cdp.score_customers();' "$runs" 25
line 'score_customers, a day later'                 "SET cdp.now = '2026-01-02 00:00+08'; CALL cdp.score_customers();" 1
psql -XAtq -F ' ' -c "SELECT 'rows written by run ' || value_run_id || ':', differ FROM cdp.value_run ORDER BY value_run_id" -c "SELECT 'model:', cdp.model()->>'name'"
line 'value_of, 100 customers one by one'           "SELECT count(cdp.value_of(g)) FROM generate_series(1, 100) g;" "$runs"
