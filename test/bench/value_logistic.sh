#!/bin/bash
# cdp.fit_logistic against a pass over the same rows.  Runs on the server of `make bench`; ROWS=1000000, RUNS=3, ONLY=regex.
#
# Baseline: SELECT count(*) FILTER (WHERE y), sum(f[1]) .. of all features, serial and warm.  A fit sorts the rows and passes
# over them some eight times.
set -euo pipefail
rows=${ROWS:-200000} runs=${RUNS:-3}

psql -Xq -v ON_ERROR_STOP=1 <<SQL
SELECT setseed(0.42) \g /dev/null
CREATE TABLE t4 AS SELECT random() < 1 / (1 + exp(1 - 0.5 * a + 0.3 * b - 0.01 * c)) AS y, ARRAY[a, b, c, d] AS f
	FROM (SELECT random() * 3 AS a, ln(1 + floor(random() * 20)) AS b, random() ^ 3 * 100 AS c, floor(random() * 10) AS d FROM generate_series(1, $rows)) s;
CREATE TABLE t4_ties AS SELECT y, ARRAY[round(f[1]), round(f[2]), round(f[3] / 10), f[4]] AS f FROM t4;
CREATE TABLE t50 AS SELECT random() < 0.3 AS y, ARRAY(SELECT random() + i * 0 FROM generate_series(1, 50)) AS f FROM generate_series(1, $rows / 10) i;
VACUUM ANALYZE t4, t4_ties, t50;
SQL
once() {	# QUERY
	psql -XAtq -v ON_ERROR_STOP=1 -c "SET jit = off; SET max_parallel_workers_per_gather = 0" -c "EXPLAIN (ANALYZE, TIMING OFF) $1" | sed -n 's/Execution Time: \([0-9.]*\) ms/\1/p'
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
compare() {	# NAME TABLE FEATURES
	local a='' b='' i sums
	[[ $1 =~ ${ONLY:-} ]] || return 0
	sums=$(for i in $(seq "$3"); do printf ', sum(f[%d])' "$i"; done)
	for i in $(seq "$runs"); do
		a+="$(once "SELECT count(*) FILTER (WHERE y)$sums FROM $2")"$'\n'; b+="$(once "SELECT cdp.fit_logistic(y, f) FROM $2")"$'\n'
	done
	a=$(printf %s "$a" | median) b=$(printf %s "$b" | median)
	awk -v n="$1" -v a="$a" -v b="$b" 'BEGIN {printf "%-44s %9.0f %9.0f %6.2f\n", n, a, b, b / a}'
}
printf '%-44s %9s %9s %6s\n' "medians of $runs runs, milliseconds" 'sums' 'fit' ratio
compare "$rows rows, 4 features"             t4 4
compare "$rows rows, 4 features, many equal" t4_ties 4
compare "$((rows / 10)) rows, 50 features"   t50 50
