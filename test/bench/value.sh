#!/bin/bash
# cdp.rfm against plain SQL.  Runs on the server of `make bench`; ROWS=10000000 for the full run, RUNS=5 repetitions,
# ONLY=regex picks comparisons.
#
# Baseline: max, count and sum(amount) GROUP BY customer, the same rows, settings and kind of plan; runs alternate
# and medians are compared, because a shared machine wobbles.  Reach: 1.15 times the baseline, serial; with two
# workers the same ratio, as the parallel plan only combines states.  Rows: ROWS orders of ROWS/10 customers.
set -euo pipefail
rows=${ROWS:-2000000} runs=${RUNS:-5}

psql -Xq -v ON_ERROR_STOP=1 <<SQL
SELECT setseed(0.42) \g /dev/null
CREATE TABLE orders (customer_id bigint, ordered_at timestamptz, amount numeric);
INSERT INTO orders SELECT 1 + floor(random() * $rows / 10), '2024-01-01'::timestamptz + random() * interval '700 days',
	round((5 + 500 * random() ^ 3)::numeric, 2) FROM generate_series(1, $rows);
ALTER TABLE orders SET (parallel_workers = 2);
VACUUM ANALYZE orders;
CREATE TABLE orders_bigint AS SELECT customer_id, ordered_at, (amount * 100)::bigint AS amount FROM orders;
CREATE TABLE orders_float8 AS SELECT customer_id, ordered_at, amount::float8 AS amount FROM orders;
VACUUM ANALYZE orders_bigint, orders_float8;
SQL

# milliseconds of one execution
once() {	# SETTINGS QUERY
	psql -XAtq -v ON_ERROR_STOP=1 -c "SET jit = off; $1" -c "EXPLAIN (ANALYZE, TIMING OFF) $2" | sed -n 's/Execution Time: \([0-9.]*\) ms/\1/p'
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
compare() {	# NAME SETTINGS BASELINE OURS
	local a='' b='' i
	[[ $1 =~ ${ONLY:-} ]] || return 0
	once "$2" "$3" >/dev/null
	for i in $(seq "$runs"); do
		a+="$(once "$2" "$3")"$'\n'; b+="$(once "$2" "$4")"$'\n'
	done
	a=$(printf %s "$a" | median) b=$(printf %s "$b" | median)
	awk -v n="$1" -v a="$a" -v b="$b" 'BEGIN {printf "%-44s %9.0f %9.0f %6.2f\n", n, a, b, b / a}'
}
plain() { echo "SELECT customer_id, max(ordered_at), count(*), sum(amount) FROM $1 GROUP BY customer_id"; }
ours() { echo "SELECT customer_id, cdp.rfm(ordered_at, amount, '2026-01-01') FROM $1 GROUP BY customer_id"; }

printf '%s orders, %s customers, medians of %s alternating runs, milliseconds\n' "$rows" "$((rows / 10))" "$runs"
printf '%-44s %9s %9s %6s\n' 'GROUP BY customer' 'plain SQL' 'cdp.rfm' ratio
mem="SET work_mem = '1GB'; SET hash_mem_multiplier = 2"
serial="$mem; SET max_parallel_workers_per_gather = 0"
two="$mem; SET max_parallel_workers_per_gather = 2"
forced="$two; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0"
compare 'numeric, serial'                         "$serial" "$(plain orders)" "$(ours orders)"
compare 'numeric, 2 workers if the planner likes' "$two" "$(plain orders)" "$(ours orders)"
compare 'numeric, 2 workers forced'               "$forced" "$(plain orders)" "$(ours orders)"
compare 'numeric, one group, 2 workers forced'    "$forced" \
	"SELECT max(ordered_at), count(*), sum(amount) FROM orders" "SELECT cdp.rfm(ordered_at, amount, '2026-01-01') FROM orders"
compare 'numeric, serial, default work_mem'       "SET max_parallel_workers_per_gather = 0" "$(plain orders)" "$(ours orders)"
compare 'bigint, serial'                          "$serial" "$(plain orders_bigint)" "$(ours orders_bigint)"
compare 'float8 (inexact sum), serial'            "$serial" "$(plain orders_float8)" "$(ours orders_float8)"
echo 'plans, 2 workers forced:'
for q in "$(plain orders)" "$(ours orders)"; do
	psql -XAtq -c "SET jit = off; $forced" -c "EXPLAIN (COSTS OFF) $q"
done
