#!/bin/bash
# tags @@ query, sequentially, beside intarray's @@ on the same facts.  Runs on the server of `make bench`; ROWS=2000000
# for the full run, RUNS=7 repetitions.
#
# Facts: about 20 of 200 tags for each row with zipf-like rates from 0.9 to 0.0005, three numbers, a tenth of the tags with
# a valid-until.  Baseline: int[] with the numbers of the tags, and columns for the three numbers.  Runs alternate, one
# backend without
# parallel workers; the figure is the best run of each, the scan being part of both.
# Reach: 1.5 times the baseline for plain tags, 2 times where values are compared and entries expire.
set -u
rows=${ROWS:-200000} runs=${RUNS:-7}
q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
q -c 'CREATE EXTENSION intarray' || { echo "intarray is not installed"; exit 1; }
q <<X || exit 1
SET search_path = public, cdp;
SELECT setseed(0.42) \g /dev/null
CREATE UNLOGGED TABLE fact AS SELECT i AS id, i % 2000 AS aov, i * 79 % 3000 AS spend, i * 31 % 50 AS visits,
	array(SELECT k FROM generate_series(1, 200) k WHERE random() + 0 * i < least(0.9, greatest(0.0005, 4.3 / (k + 1))))::int[] AS a FROM generate_series(1, $rows) i;
CREATE UNLOGGED TABLE plain_int AS SELECT id, aov, spend, visits, a FROM fact;
CREATE UNLOGGED TABLE plain_tag AS SELECT id, (SELECT cdp.tagset(array_agg('t' || k)) FROM unnest(a) k) AS tags FROM fact;
UPDATE plain_tag SET tags = '' WHERE tags IS NULL;
CREATE UNLOGGED TABLE valued_tag AS SELECT id, (format('aov=%s, spend=%s, visits=%s', aov, spend, visits)
	|| coalesce((SELECT string_agg(', t' || k || CASE WHEN (k * 7 + id) % 10 = 0 THEN '@2099-01-01' ELSE '' END, '') FROM unnest(a) k), ''))::cdp.tagset AS tags FROM fact;
VACUUM ANALYZE plain_int; VACUUM ANALYZE plain_tag; VACUUM ANALYZE valued_tag;
X
echo "rows: $rows; tags a row: $(q -c 'SELECT round(avg(cardinality(a)), 1) FROM plain_int'); bytes a row: int[] $(q -c "SELECT round(avg(pg_column_size(a))) FROM plain_int"), tagset $(q -c "SELECT round(avg(pg_column_size(tags))) FROM plain_tag"), with values and valid-until $(q -c "SELECT round(avg(pg_column_size(tags))) FROM valued_tag")"
table=$(q <<X
SET search_path = public, cdp;
SET max_parallel_workers_per_gather = 0;
SET jit = off;
CREATE TEMP TABLE pair (i serial, name text, limit_ratio numeric, baseline text, tagset text);
INSERT INTO pair (name, limit_ratio, baseline, tagset) VALUES
	('t30 & t50 & t20', 1.5, 'plain_int WHERE a @@ ''30 & 50 & 20''::query_int', 'plain_tag WHERE tags @@ ''t30 & t50 & t20'''),
	('(t30 | t50) & !t20', 1.5, 'plain_int WHERE a @@ ''(30 | 50) & !20''::query_int', 'plain_tag WHERE tags @@ ''(t30 | t50) & !t20'''),
	('t195 & (t10 | t20) & !t50 & t15', 1.5, 'plain_int WHERE a @@ ''195 & (10 | 20) & !50 & 15''::query_int', 'plain_tag WHERE tags @@ ''t195 & (t10 | t20) & !t50 & t15'''),
	('(t12 | t20) & t10', 1.5, 'plain_int WHERE a @@ ''(12 | 20) & 10''::query_int', 'plain_tag WHERE tags @@ ''(t12 | t20) & t10'''),
	('t1', 1.5, 'plain_int WHERE a @@ ''1''::query_int', 'plain_tag WHERE tags @@ ''t1'''),
	('(t12 | t20) & t10, some expire', 2, 'plain_int WHERE a @@ ''(12 | 20) & 10''::query_int', 'valued_tag WHERE tags @@ ''(t12 | t20) & t10'''),
	('t30 & spend > 1000', 2, 'plain_int WHERE a @@ ''30''::query_int AND spend > 1000', 'valued_tag WHERE tags @@ ''t30 & spend > 1000'''),
	('t1 & spend > 1000 & aov < 1500', 2, 'plain_int WHERE a @@ ''1''::query_int AND spend > 1000 AND aov < 1500', 'valued_tag WHERE tags @@ ''t1 & spend > 1000 & aov < 1500'''),
	('t1 & t2 & visits in (1, 2, 3)', 2, 'plain_int WHERE a @@ ''1 & 2''::query_int AND visits IN (1, 2, 3)', 'valued_tag WHERE tags @@ ''t1 & t2 & visits in (1, 2, 3)''');
CREATE TEMP TABLE ms (i int, baseline boolean, ms float8, n bigint);
DO \$\$
DECLARE
	p record;
	t timestamptz;
	n bigint;
BEGIN
	FOR run IN 1..$runs LOOP
		FOR p IN SELECT i, b, CASE WHEN b THEN baseline ELSE tagset END AS query FROM pair, (VALUES (true), (false)) v(b) ORDER BY i, b LOOP
			t := clock_timestamp();
			EXECUTE 'SELECT count(*) FROM ' || p.query INTO n;
			INSERT INTO ms VALUES (p.i, p.b, extract(epoch FROM clock_timestamp() - t) * 1000, n);
		END LOOP;
	END LOOP;
END \$\$;
\echo '| query | rows found | int[] | tagset | ratio | reach |'
\echo '|---|---|---|---|---|---|'
SELECT format('| \`%s\` | %s | %s ms | %s ms | %s | %s |%s', replace(name, '|', '\|'), n, round(b::numeric, 1), round(t::numeric, 1), round((t / b)::numeric, 2), limit_ratio,
	CASE WHEN found > 1 THEN ' different answers, too slow to be true' WHEN t / b > limit_ratio THEN ' too slow' ELSE '' END)
FROM (SELECT p.i, name, limit_ratio, min(n) AS n, count(DISTINCT n) AS found, min(ms) FILTER (WHERE baseline) AS b, min(ms) FILTER (WHERE NOT baseline) AS t
	FROM (SELECT i, name, limit_ratio FROM pair) p JOIN ms USING (i) GROUP BY p.i, name, limit_ratio) x ORDER BY i;
X
) || exit 1
echo "$table"
! grep -q 'too slow' <<<"$table"
