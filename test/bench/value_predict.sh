#!/bin/bash
# Predictions against a scan.  Runs on the server of `make bench`; ROWS=1000000 for the full run, RUNS=3 repetitions,
# ONLY=regex picks comparisons.
#
# Baseline: count(*) and the sums of x, t_x, t_cal over the same table, serial; runs alternate and medians are compared,
# because a shared machine wobbles.  Reach: p_alive, expected_purchases and expected_amount together (bgnbd) 60 times the
# scan.  Rows: customers of a BG/NBD in weeks, observed for 27 to 39 weeks, times in whole days.
set -euo pipefail
rows=${ROWS:-1000000} runs=${RUNS:-3}

psql -Xq -v ON_ERROR_STOP=1 <<SQL
CREATE TABLE buyers AS SELECT x::float8, round(t_x * 7) / 7 AS t_x, t_cal, 10 + 50 * (customer * 7919 % 1000) / 1000.0::float8 AS mean_amount
FROM generate_series(0, 83) day, LATERAL cdp.simulate_purchases(cdp.bgnbd_model(0.243, 4.414, 0.793, 2.426), $rows / 84 + 1, (27 * 7 + day) / 7.0::float8, day) LIMIT $rows;
VACUUM ANALYZE buyers;
SQL

# milliseconds of one execution
once() {	# QUERY
	psql -XAtq -v ON_ERROR_STOP=1 -c 'SET jit = off; SET max_parallel_workers_per_gather = 0' -c "EXPLAIN (ANALYZE, TIMING OFF) $1" | sed -n 's/Execution Time: \([0-9.]*\) ms/\1/p'
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
compare() {	# NAME OURS [LIMIT]
	local a='' b='' i
	[[ $1 =~ ${ONLY:-} ]] || return 0
	once "$scan" >/dev/null
	for i in $(seq "$runs"); do
		a+="$(once "$scan")"$'\n'; b+="$(once "$2")"$'\n'
	done
	a=$(printf %s "$a" | median) b=$(printf %s "$b" | median)
	awk -v n="$1" -v a="$a" -v b="$b" -v l="${3:-}" 'BEGIN {printf "%-44s %9.0f %9.0f %6.1f %s\n", n, a, b, b / a, l}'
}
scan='SELECT count(*), sum(x), sum(t_x), sum(t_cal) FROM buyers'
ask() {	# MODEL EXPRESSION
	echo "SELECT sum($2) FROM buyers, (SELECT cdp.$1 AS m, cdp.gammagamma_model(6.25, 3.74, 15.44) AS g) q"
}
bg='bgnbd_model(0.243, 4.414, 0.793, 2.426)' mbg='mbgnbd_model(0.525, 6.183, 0.891, 1.614)' two='mbgcnbd_model(2, 0.525, 2.6, 0.891, 1.614)' pareto='paretonbd_model(0.553, 10.578, 0.606, 11.669)'
printf '%s customers, medians of %s alternating runs, milliseconds\n' "$rows" "$runs"
printf '%-44s %9s %9s %6s %s\n' 'one prediction per row' scan ours ratio reach
compare 'bgnbd: alive + purchases + amount' "$(ask "$bg" 'cdp.p_alive(m, x, t_x, t_cal) + cdp.expected_purchases(m, x, t_x, t_cal, 39) + cdp.expected_amount(g, x, mean_amount)')" '<= 60'
for name in bg mbg two pareto; do
	compare "$name: p_alive" "$(ask "${!name}" 'cdp.p_alive(m, x, t_x, t_cal)')"
	compare "$name: expected_purchases 39" "$(ask "${!name}" 'cdp.expected_purchases(m, x, t_x, t_cal, 39)')"
	compare "$name: next_purchase" "$(ask "${!name}" 'cdp.next_purchase(m, x, t_x, t_cal, 0.1)')"
	compare "$name: clv of 52" "$(ask "${!name}" 'cdp.clv(m, g, x, t_x, t_cal, mean_amount, 52, 0.00183)')"
done
