#!/bin/bash
# cdp.btyd_table against a scan of the same heap.  Runs on the server of `make bench`; ROWS=10000000 for the full run,
# RUNS=3 repetitions, ONLY=regex picks comparisons.
#
# Baseline: SELECT count(*), sum(amount), serial and warm; runs alternate and medians are compared, because a shared machine
# wobbles.  Reach: 6 times the baseline; memory work_mem + 160 MB per 10 million orders.  Rows: ROWS orders of ROWS/10
# customers, over 700 days.
set -euo pipefail
rows=${ROWS:-1000000} runs=${RUNS:-3}

psql -Xq -v ON_ERROR_STOP=1 <<SQL
SELECT setseed(0.42) \g /dev/null
CREATE TABLE orders (customer_id bigint, ordered_at timestamptz, amount numeric);
INSERT INTO orders SELECT 1 + floor(random() * $rows / 10), '2024-01-01'::timestamptz + random() * interval '700 days',
	round((5 + 500 * random() ^ 3)::numeric, 2) FROM generate_series(1, $rows);
VACUUM ANALYZE orders;
SQL

once() {	# SETTINGS QUERY
	psql -XAtq -v ON_ERROR_STOP=1 -c "SET jit = off; SET max_parallel_workers_per_gather = 0; $1" -c "EXPLAIN (ANALYZE, TIMING OFF) $2" | sed -n 's/Execution Time: \([0-9.]*\) ms/\1/p'
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
scan="SELECT count(*), sum(amount) FROM orders"
compare() {	# NAME SETTINGS QUERY
	local a='' b='' i
	[[ $1 =~ ${ONLY:-} ]] || return 0
	once "$2" "$scan" >/dev/null
	for i in $(seq "$runs"); do
		a+="$(once "$2" "$scan")"$'\n'; b+="$(once "$2" "$3")"$'\n'
	done
	a=$(printf %s "$a" | median) b=$(printf %s "$b" | median)
	awk -v n="$1" -v a="$a" -v b="$b" 'BEGIN {printf "%-44s %9.0f %9.0f %6.2f\n", n, a, b, b / a}'
}
# the most memory of its own that a backend holds, in MB, looked at every 20 ms
memory() {	# SETTINGS QUERY
	local pid most=0 now
	psql -XAtq -v ON_ERROR_STOP=1 -c "SET application_name = 'value_btyd'" -c "SET max_parallel_workers_per_gather = 0; $1" \
		-c "$scan" -c "$2" -c 'SELECT pg_sleep(0.1)' >/dev/null &
	sleep 0.2
	pid=$(psql -XAtc "SELECT pid FROM pg_stat_activity WHERE application_name = 'value_btyd'")
	while now=$(sed -n 's/^RssAnon:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status" 2>/dev/null) && [ -n "$now" ]; do
		[ "$now" -le "$most" ] || most=$now
		sleep 0.02
	done
	wait
	echo $((most / 1024))
}
source="'SELECT customer_id, ordered_at, amount FROM orders'"
ours() { echo "SELECT count(*) FROM cdp.btyd_table('2026-01-01', $source$1)"; }

printf '%s orders, %s customers, medians of %s alternating runs, milliseconds\n' "$rows" "$((rows / 10))" "$runs"
printf '%-44s %9s %9s %6s\n' '' 'scan' 'ours' ratio
compare 'btyd_table'                            "SET work_mem = '256MB'" "$(ours '')"
compare 'btyd_table, net_day'                   "SET work_mem = '256MB'" "$(ours ", refunds => 'net_day'")"
compare 'btyd_table, default work_mem'          ""                       "$(ours '')"
compare 'aggregate cdp.btyd, GROUP BY'          "SET work_mem = '1GB'; SET hash_mem_multiplier = 2" \
	"SELECT customer_id, cdp.btyd(ordered_at, amount, '2026-01-01', '7 days') FROM orders GROUP BY customer_id"
compare 'window functions'                      "SET work_mem = '1GB'; SET hash_mem_multiplier = 2" \
	"SELECT customer_id, count(*) - 1, (max(day) - min(day)) / 7.0, sum(money) FILTER (WHERE i > 1), sum(ln((day - before) / 7.0::float8)) FROM (
		SELECT customer_id, day, money, row_number() OVER c AS i, lag(day) OVER c AS before FROM (
			SELECT customer_id, (ordered_at AT TIME ZONE 'Asia/Shanghai')::date AS day, sum(amount) AS money FROM orders GROUP BY 1, 2) d
		WINDOW c AS (PARTITION BY customer_id ORDER BY day)) w GROUP BY 1"
echo "memory of the backend's own, default work_mem, MB: $(memory "SET work_mem = '4MB'" "$(ours '')")"
