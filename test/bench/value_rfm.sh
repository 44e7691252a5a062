#!/bin/bash
# cdp.rfm_table against the scan of its orders and against plain SQL.  Runs on the server of `make bench`;
# ROWS=10000000 for the full run, RUNS=3 repetitions, ONLY=regex picks lines, ORDERS=1 also fills cdp.sales_order.
#
# Baseline: the serial, warm scan "SELECT count(*), sum(amount)" of the same heap, measured beside every line because
# a shared machine wobbles; medians of the ratios' parts are compared.  Reach: rfm_table 4.5 x the scan, 3 x with two
# workers (of the serial scan), a third of GROUP BY with three window functions for the same scores, below plain
# GROUP BY; 100 MB of memory per million customers.  Rows: ROWS orders of ROWS/10 customers, seeded.
set -euo pipefail
rows=${ROWS:-2000000} runs=${RUNS:-3}

psql -Xq -v ON_ERROR_STOP=1 <<SQL
SELECT setseed(0.42) \g /dev/null
CREATE TABLE orders (customer_id bigint, ordered_at timestamptz, amount numeric);
INSERT INTO orders SELECT 1 + floor(random() * $rows / 10), '2024-01-01'::timestamptz + random() * interval '700 days',
	round((5 + 500 * random() ^ 3)::numeric, 2) * CASE WHEN random() < 0.03 THEN -1 ELSE 1 END FROM generate_series(1, $rows);
ALTER TABLE orders SET (parallel_workers = 2);
VACUUM ANALYZE orders;
SQL

# milliseconds of one execution
once() {	# SETTINGS QUERY
	psql -XAtq -v ON_ERROR_STOP=1 -c "SET jit = off; $1" -c "EXPLAIN (ANALYZE, TIMING OFF) $2" | sed -n 's/Execution Time: \([0-9.]*\) ms/\1/p'
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
line() {	# NAME SETTINGS QUERY [BASELINE]
	local a='' b='' i
	[[ $1 =~ ${ONLY:-} ]] || return 0
	once "$serial" "${4:-$scan}" >/dev/null
	for i in $(seq "$runs"); do
		a+="$(once "$serial" "${4:-$scan}")"$'\n'; b+="$(once "$2" "$3")"$'\n'
	done
	a=$(printf %s "$a" | median) b=$(printf %s "$b" | median)
	awk -v n="$1" -v a="$a" -v b="$b" 'BEGIN {printf "%-52s %9.0f %9.0f %6.2f\n", n, a, b, b / a}'
}
scan='SELECT count(*), sum(amount) FROM orders'
ours() { echo "SELECT count(*) FROM cdp.rfm_table('2026-01-01', 'SELECT customer_id, ordered_at, amount FROM orders'${1:-})"; }
group='SELECT customer_id, max(ordered_at) FILTER (WHERE amount >= 0) AS last_at, count(*) FILTER (WHERE amount >= 0) AS frequency, sum(amount) AS monetary FROM orders GROUP BY customer_id'
plain="SELECT count(*) FROM (SELECT customer_id, max(ordered_at), count(*), sum(amount) FROM orders GROUP BY customer_id OFFSET 0) g"
windows="SELECT count(*) FILTER (WHERE r > 0 AND f > 0 AND m > 0) FROM (SELECT customer_id,
	1 + (5 * (rank() OVER (ORDER BY last_at) - 1) / count(*) OVER ())::int AS r,
	1 + (5 * (rank() OVER (ORDER BY frequency) - 1) / count(*) OVER ())::int AS f,
	1 + (5 * (rank() OVER (ORDER BY monetary) - 1) / count(*) OVER ())::int AS m FROM ($group) g WHERE frequency > 0) s"

printf '%s orders, %s customers, medians of %s alternating runs, milliseconds\n' "$rows" "$((rows / 10))" "$runs"
printf '%-52s %9s %9s %6s\n' 'beside the serial scan' scan this ratio
mem="SET work_mem = '256MB'; SET hash_mem_multiplier = 2"
serial="$mem; SET max_parallel_workers_per_gather = 0"
two="$mem; SET max_parallel_workers_per_gather = 2"
line 'the scan, 2 workers'                             "$two" "$scan"
line 'rfm_table, serial (reach 4.5)'                   "$serial" "$(ours)"
line 'rfm_table, 2 workers (reach 3)'                  "$two" "$(ours)"
line 'rfm_table, serial, default work_mem'             "SET max_parallel_workers_per_gather = 0" "$(ours)"
line 'plain GROUP BY: max, count, sum, serial'         "$serial" "$plain"
line 'plain GROUP BY: max, count, sum, 2 workers'      "$two" "$plain"
line 'GROUP BY and three windows, serial'              "$serial" "$windows"
line 'GROUP BY and three windows, 2 workers'           "$two" "$windows"
line 'the state alone, serial'                         "$serial" "SELECT cdp._rfm_all(customer_id, ordered_at, amount, '2026-01-01') IS NULL FROM orders"
line 'rfm_table, nested, serial'                       "$serial" "$(ours ", method => 'nested'")"
line 'rfm_table, monetary mean (numeric), serial'      "$serial" "$(ours ", monetary => 'mean'")"
line 'rfm_table, refunds net_day, serial'              "$serial" "$(ours ", refunds => 'net_day'")"
line 'rfm_table, refunds cancel, serial'               "$serial" "$(ours ", refunds => 'cancel'")"
line 'rfm_cuts, serial'                                "$serial" "$(ours | sed s/rfm_table/rfm_cuts/)"
if [ -n "${ORDERS:-}" ]; then
	psql -Xq -v ON_ERROR_STOP=1 -c "INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount)
		SELECT 'o' || row_number() OVER (), customer_id, ordered_at, 'completed', abs(amount) FROM orders" -c 'VACUUM ANALYZE cdp.sales_order'
	of="SELECT count(*), sum(amount) FROM cdp.sales_order"
	line 'rfm_table of the orders of the CDP, serial'    "$serial" "SELECT count(*) FROM cdp.rfm_table('2026-01-01')" "$of"
	line 'rfm_table of the orders of the CDP, 2 workers' "$two" "SELECT count(*) FROM cdp.rfm_table('2026-01-01')" "$of"
fi

echo 'the same scores, and how many times faster they come:'
for s in "$serial" "$two"; do
	awk -v a="$(once "$s" "$windows")" -v b="$(once "$s" "$(ours)")" 'BEGIN {printf "%9.0f %9.0f %6.2f (reach 3)\n", a, b, a / b}'
done

# memory of the backend that is its own, while rfm_table runs with the default work_mem: largest of many looks
PGAPPNAME=rfm_memory psql -XAtq -c "SET max_parallel_workers_per_gather = 0; $(ours)" >/dev/null &
job=$!
most=0 pid=
while kill -0 $job 2>/dev/null; do
	pid=${pid:-$(psql -XAtqc "SELECT pid FROM pg_stat_activity WHERE application_name = 'rfm_memory'")}
	now=$(sed -n 's/^RssAnon:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/${pid:-0}/status" 2>/dev/null || true)
	[ "${now:-0}" -le "$most" ] || most=$now
	sleep 0.02
done
awk -v kb="$most" -v n="$((rows / 10))" 'BEGIN {printf "memory: %.0f MB, %.0f MB per million customers (reach 100)\n", kb / 1024, kb / 1024 * 1e6 / n}'
