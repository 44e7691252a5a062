#!/bin/bash
# The fit aggregates against a scan.  Runs on the server of `make bench`; ROWS=1000000 for the full run, RUNS=5
# repetitions, ONLY=regex picks comparisons.
#
# Baseline: count(*) and the sums of x, t_x, t_cal over the same table, serial; runs alternate and medians are
# compared, because a shared machine wobbles.  Reach: fit_bgnbd 10 times the scan by week, 20 by day; fit_mbgnbd 15 by
# week; fit_paretonbd 80 by week.  Rows: customers of an MBG/NBD (r 0.7, alpha 60 days, a 0.9, b 4) over two years, in
# whole days and in whole weeks.  Then memory, the peak of a backend per million distinct rows; and how often 95 %
# intervals of 100 fits to simulated customers hold the true parameter, which should be 90 to 99 times.
set -euo pipefail
rows=${ROWS:-1000000} runs=${RUNS:-5}

psql -Xq -v ON_ERROR_STOP=1 <<SQL
SELECT setseed(0.42) \g /dev/null
-- Marsaglia, Tsang 2000
CREATE FUNCTION pg_temp.random_gamma(shape float8) RETURNS float8 LANGUAGE plpgsql AS \$\$
DECLARE
	d float8 := CASE WHEN shape < 1 THEN shape + 1 ELSE shape END - 1.0 / 3;
	z float8; v float8;
BEGIN
	LOOP
		z := sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random());
		v := (1 + z / sqrt(9 * d)) ^ 3;
		IF v > 0 AND ln(1 - random()) < 0.5 * z * z + d - d * v + d * ln(v) THEN
			RETURN d * v * CASE WHEN shape < 1 THEN (1 - random()) ^ (1 / shape) ELSE 1 END;
		END IF;
	END LOOP;
END \$\$;
CREATE FUNCTION pg_temp.buyers(n int) RETURNS TABLE (x float8, t_x float8, t_cal float8) LANGUAGE plpgsql AS \$\$
DECLARE
	rate float8; leaves float8; stays float8; at float8;
BEGIN
	FOR i IN 1 .. n LOOP
		rate := pg_temp.random_gamma(0.7) / 60;
		leaves := pg_temp.random_gamma(0.9); stays := pg_temp.random_gamma(4);
		t_cal := 1 + floor(random() * 729); x := 0; t_x := 0; at := 0;
		LOOP
			EXIT WHEN random() < leaves / (leaves + stays);
			at := at - ln(1 - random()) / rate;
			EXIT WHEN at > t_cal;
			-- purchases of one day are one
			IF floor(at) > t_x THEN x := x + 1; t_x := floor(at); END IF;
		END LOOP;
		RETURN NEXT;
	END LOOP;
END \$\$;
CREATE TABLE by_day AS SELECT * FROM pg_temp.buyers($rows);
CREATE TABLE by_week AS SELECT x, floor(t_x / 7) AS t_x, ceil(t_cal / 7) AS t_cal FROM by_day;
-- no row twice
CREATE TABLE distinct_rows AS SELECT x, CASE WHEN x > 0 THEN t_x + (1 - random()) / 2 ELSE 0 END AS t_x, t_cal + 1 + random() AS t_cal FROM by_day;
ALTER TABLE by_week SET (parallel_workers = 2);
VACUUM ANALYZE by_day, by_week, distinct_rows;
SELECT format('%s rows; distinct by week %s, by day %s', count(*), (SELECT count(DISTINCT (x, t_x, t_cal)) FROM by_week), count(DISTINCT (x, t_x, t_cal))) FROM by_day \g (tuples_only=on format=unaligned)
SQL

# milliseconds of one execution
once() {	# SETTINGS QUERY
	psql -XAtq -v ON_ERROR_STOP=1 -c "SET jit = off; $1" -c "EXPLAIN (ANALYZE, TIMING OFF) $2" | sed -n 's/Execution Time: \([0-9.]*\) ms/\1/p'
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
compare() {	# NAME SETTINGS TABLE OURS
	local a='' b='' i scan="SELECT count(*), sum(x), sum(t_x), sum(t_cal) FROM $3"
	[[ $1 =~ ${ONLY:-} ]] || return 0
	once "$serial" "$scan" >/dev/null
	for i in $(seq "$runs"); do
		a+="$(once "$serial" "$scan")"$'\n'; b+="$(once "$2" "SELECT $4 FROM $3")"$'\n'
	done
	a=$(printf %s "$a" | median) b=$(printf %s "$b" | median)
	awk -v n="$1" -v a="$a" -v b="$b" 'BEGIN {printf "%-44s %9.0f %9.0f %6.1f\n", n, a, b, b / a}'
}
serial="SET max_parallel_workers_per_gather = 0"
two="SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0"
printf 'medians of %s alternating runs, milliseconds\n' "$runs"
printf '%-44s %9s %9s %6s\n' '' scan fit ratio
compare 'fit_bgnbd by week'            "$serial" by_week 'cdp.fit_bgnbd(x, t_x, t_cal)'
compare 'fit_bgnbd by day'             "$serial" by_day  'cdp.fit_bgnbd(x, t_x, t_cal)'
compare 'fit_bgnbd by week, 2 workers' "$two"    by_week 'cdp.fit_bgnbd(x, t_x, t_cal)'
compare 'fit_mbgnbd by week'           "$serial" by_week 'cdp.fit_mbgnbd(x, t_x, t_cal)'
compare 'fit_mbgnbd by day'            "$serial" by_day  'cdp.fit_mbgnbd(x, t_x, t_cal)'
compare 'fit_paretonbd by week'        "$serial" by_week 'cdp.fit_paretonbd(x, t_x, t_cal)'
compare 'fit_paretonbd by day'         "$serial" by_day  'cdp.fit_paretonbd(x, t_x, t_cal)'
compare 'fit_nbd by week'              "$serial" by_week 'cdp.fit_nbd(x, t_cal)'
compare 'three models in one query, by week' "$serial" by_week \
	'cdp.fit_bgnbd(x, t_x, t_cal), cdp.fit_mbgnbd(x, t_x, t_cal), cdp.fit_paretonbd(x, t_x, t_cal)'
compare 'fit_bgnbd, all rows distinct'     "$serial" distinct_rows 'cdp.fit_bgnbd(x, t_x, t_cal)'
compare 'fit_paretonbd, all rows distinct' "$serial" distinct_rows 'cdp.fit_paretonbd(x, t_x, t_cal)'

# VmHWM of a backend less that of one that only scans
peak() {	# QUERY
	psql -XAtq -v ON_ERROR_STOP=1 -c "SET jit = off; $serial" -c "$1" \
		-c "SELECT (regexp_match(pg_read_file('/proc/' || pg_backend_pid() || '/status'), 'VmHWM:\s+(\d+)'))[1]" | tail -1
}
base=$(peak 'SELECT count(*), sum(x), sum(t_x), sum(t_cal) FROM distinct_rows')
for f in fit_bgnbd fit_paretonbd; do
	most=$(peak "SELECT cdp.$f(x, t_x, t_cal) IS NULL FROM distinct_rows")
	awk -v f=$f -v m="$most" -v b="$base" -v r="$rows" 'BEGIN {printf "%-44s %9.0f MB per million distinct rows\n", f, (m - b) / 1024 * 1e6 / r}'
done

# intervals on the log scale, as cdp.expected_purchases_ci takes them
held() {	# NAME MODEL PARAMETER TRUTH INDEX
	psql -XAtq -v ON_ERROR_STOP=1 -c "SELECT format('%s, 95 %% interval of %s: true %s times of 100', '$1', '$3',
		count(*) FILTER (WHERE abs(ln((m).$3 / $4)) <= 1.959964 * (m).se[$5] / (m).$3))
		FROM (SELECT cdp.fit_$1(x, t_x, t_cal) AS m FROM generate_series(1, 100) s, LATERAL cdp.simulate_purchases($2, 3000, 39, s) GROUP BY s) f"
}
if [[ intervals =~ ${ONLY:-} ]]; then
	held bgnbd 'cdp.bgnbd_model(0.25, 4.4, 0.8, 2.5)' r 0.25 1
	held bgnbd 'cdp.bgnbd_model(0.25, 4.4, 0.8, 2.5)' b 2.5 4
	held mbgnbd 'cdp.mbgnbd_model(0.8, 6, 0.8, 2.5)' r 0.8 1
	held paretonbd 'cdp.paretonbd_model(0.55, 10.6, 0.6, 11.7)' r 0.55 1
fi
