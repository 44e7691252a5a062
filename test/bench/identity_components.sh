#!/bin/bash
# cdp.connected_components against one round of label propagation in SQL, and against pgrouting where it is installed.
# Random graphs with as many nodes as edges; every figure is the median of the rounds, an output table written each time.
set -u
rounds=${ROUNDS:-5}
q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
q <<'X'
SELECT setseed(0.42);
CREATE UNLOGGED TABLE edge1 AS SELECT i AS id, (random() * 1020000)::bigint AS a, (random() * 1020000)::bigint AS b FROM generate_series(1, 1000000) i;
CREATE UNLOGGED TABLE edge5 AS SELECT i AS id, (random() * 5100000)::bigint AS a, (random() * 5100000)::bigint AS b FROM generate_series(1, 5000000) i;
CREATE UNLOGGED TABLE pair1 AS SELECT a, b, random() AS p FROM edge1;
VACUUM ANALYZE edge1;
VACUUM ANALYZE edge5;
VACUUM ANALYZE pair1;
CREATE TABLE ms(round int, f text, ms float8);
CREATE PROCEDURE timed(round int, f text, query text) LANGUAGE plpgsql AS $$
DECLARE
	t timestamptz;
BEGIN
	DROP TABLE IF EXISTS result;
	t := clock_timestamp();
	EXECUTE 'CREATE UNLOGGED TABLE result AS ' || query;
	IF round > 0 THEN
		INSERT INTO ms VALUES (round, f, extract(epoch FROM clock_timestamp() - t) * 1000);
	END IF;
END $$;
ALTER DATABASE :"DBNAME" SET work_mem = '256MB';
X
round() {
	q <<-X
	CALL timed($1, 'connected_components', 'SELECT * FROM cdp.connected_components(''SELECT a, b FROM edge1'')');
	CALL timed($1, 'label round', 'SELECT node, min(other) AS component FROM (SELECT a AS node, b AS other FROM edge1 UNION ALL SELECT b, a FROM edge1) x GROUP BY node');
	CALL timed($1, 'connected_components, 5 million', 'SELECT * FROM cdp.connected_components(''SELECT a, b FROM edge5'')');
	CALL timed($1, 'cluster_pairs, probabilities at random', 'SELECT * FROM cdp.cluster_pairs(''SELECT a, b, p FROM pair1'')');
	X
}
round 0
for i in $(seq "$rounds"); do round "$i"; done
if q -c 'CREATE EXTENSION pgrouting CASCADE' 2>/dev/null; then
	for i in 0 1; do
		q -c "CALL timed($i, 'pgrouting', 'SELECT node, component FROM pgr_connectedComponents(''SELECT id, a AS source, b AS target, 1 AS cost, 1 AS reverse_cost FROM edge1'')')"
	done
else
	echo "pgrouting is not installed: no comparison with it"
fi
q <<'X'
CREATE VIEW median AS SELECT f, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS ms FROM ms GROUP BY f;
CREATE VIEW ratio AS
SELECT f, ms, CASE f WHEN 'connected_components, 5 million' THEN 6.0 WHEN 'label round' THEN 1.0 WHEN 'pgrouting' THEN 0.15 END AS goal,
	CASE WHEN f = 'connected_components, 5 million' THEN ms / c WHEN f IN ('label round', 'pgrouting') THEN c / ms END AS ratio
FROM median, LATERAL (SELECT m.ms AS c FROM median m WHERE m.f = 'connected_components') t;
X
echo "| 1 million edges unless said | ms | ratio | goal |"
echo "|---|---|---|---|"
q -c "SELECT format('| %s | %s | %s | %s |', f, round(ms), round(ratio::numeric, 2), '≤ ' || goal) FROM ratio ORDER BY f"
[ "$(q -c 'SELECT count(*) FROM ratio WHERE ratio > goal')" = 0 ] || { echo "a goal is missed"; exit 1; }
