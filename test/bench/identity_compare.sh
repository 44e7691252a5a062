#!/bin/bash
# The comparators against fuzzystrmatch, on a million pairs of short names; every figure is the median of five runs of one
# backend without parallel workers, less the median of the scan alone.
set -u
q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
q -c 'CREATE EXTENSION fuzzystrmatch' || { echo "fuzzystrmatch is not installed"; exit 1; }
q <<'X'
CREATE UNLOGGED TABLE word AS
SELECT i, substr(translate(md5(i::text), '0123456789', 'ghijklmnop'), 1, 4 + i % 8) AS a FROM generate_series(1, 1000000) i;
CREATE UNLOGGED TABLE pair AS
SELECT i, a, CASE i % 4 WHEN 0 THEN a
	WHEN 1 THEN substr(translate(md5((i * 7)::text), '0123456789', 'ghijklmnop'), 1, 4 + i % 7)
	WHEN 2 THEN substr(a, 1, 2) || 'x' || substr(a, 4)
	ELSE substr(a, 1, 1) || substr(a, 3, 1) || substr(a, 2, 1) || substr(a, 4) || 'e' END AS b
FROM word;
CREATE UNLOGGED TABLE han AS
SELECT i, translate(a, 'abcdefghijklmnop', '王李张刘陈杨赵黄周吴徐孙胡朱高林') AS a, translate(b, 'abcdefghijklmnop', '王李张刘陈杨赵黄周吴徐孙胡朱高林') AS b
FROM (SELECT i, substr(a, 1, 2 + i % 3) AS a, substr(b, 1, 2 + (i / 3) % 3) AS b FROM pair) p;
VACUUM ANALYZE pair;
VACUUM ANALYZE han;
X
# TABLE CONDITION EXPRESSION...: medians in ms
medians() {
	table=$1 cond=$2; shift 2
	{
		echo "SET max_parallel_workers_per_gather = 0;"
		echo "CREATE TEMP TABLE ms(f int, ms float8);"
		# the same number of rows whatever the condition
		echo "CREATE TEMP TABLE p AS SELECT a, b FROM $table WHERE $cond LIMIT 250000;"
		[ "$cond" = true ] && echo "TRUNCATE p; INSERT INTO p SELECT a, b FROM $table;"
		for run in 1 2 3 4 5; do
			n=0
			for f in 1 "$@"; do
				cat <<-X
				DO \$\$ DECLARE t timestamptz := clock_timestamp(); BEGIN
					PERFORM sum($f) FROM p;
					INSERT INTO ms VALUES ($n, extract(epoch FROM clock_timestamp() - t) * 1000);
				END \$\$;
				X
				n=$((n + 1))
			done
		done
		echo "WITH m AS (SELECT f, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS ms FROM ms GROUP BY f)
			SELECT string_agg(round(greatest(ms - (SELECT ms FROM m WHERE f = 0), 0.1)::numeric, 1)::text, ' ' ORDER BY f) FROM m WHERE f > 0;"
	} | q
}
echo "| pairs | levenshtein | damerau_levenshtein | ratio | levenshtein_less_equal 2 | with max_distance 2 | jaro_winkler |"
echo "|---|---|---|---|---|---|---|"
bad=0
while IFS='|' read -r title table cond; do
	set -- $(medians "$table" "$cond" 'levenshtein(a, b)' 'cdp.damerau_levenshtein(a, b)' 'levenshtein_less_equal(a, b, 2)' 'cdp.damerau_levenshtein(a, b, 2)' 'cdp.jaro_winkler(a, b)')
	ratio=$(awk "BEGIN {printf \"%.2f\", $2 / $1}")
	echo "| $title | $1 ms | $2 ms | $ratio | $3 ms | $4 ms | $5 ms |"
	[ "$title" != "all, 1 million" ] || awk "BEGIN {exit !($2 / $1 > 1.5)}" || continue
	[ "$title" != "all, 1 million" ] || { echo "damerau_levenshtein is above 1.5 x levenshtein"; bad=1; }
done <<'X'
all, 1 million|pair|true
equal|pair|i % 4 = 0
unrelated|pair|i % 4 = 1
one replaced|pair|i % 4 = 2
swapped, one more|pair|i % 4 = 3
Han names, 1 million|han|true
X
exit $bad
