-- clusters out of scored pairs, without chains
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;

-- a hundred records chained at 0.95: no cluster below the density, none holds a rejected pair
CREATE TEMP TABLE chain AS SELECT i AS left_id, i + 1 AS right_id, 0.95 AS probability FROM generate_series(1, 99) i
	UNION ALL SELECT i, i + 3, 0.01 FROM generate_series(1, 97, 8) i;
CREATE TEMP TABLE cluster AS SELECT * FROM cdp.cluster_pairs('TABLE chain');
SELECT count(*) AS nodes, count(DISTINCT component) AS clusters FROM cluster;
SELECT size, count(*) AS clusters, min(support / (size * (size - 1) / 2.0)) AS least_density FROM (
	SELECT component, count(*) AS size, (SELECT count(*) FROM chain JOIN cluster l ON l.node = left_id JOIN cluster r ON r.node = right_id
		WHERE l.component = r.component AND l.component = c.component AND probability >= 0.9) AS support
	FROM cluster c GROUP BY component HAVING count(*) > 1) s GROUP BY size ORDER BY size;
SELECT count(*) AS rejected_inside FROM chain JOIN cluster l ON l.node = left_id JOIN cluster r USING (component) WHERE r.node = right_id AND probability < 0.05;

-- what plain closure would do with the same pairs
SELECT count(DISTINCT component) FROM cdp.connected_components('SELECT left_id::bigint, right_id::bigint FROM chain WHERE probability >= 0.9');
-- the strongest pair first, whatever the order of the rows; ids decide between equals
SELECT * FROM cdp.cluster_pairs('VALUES (1, 2, 0.95), (2, 3, 0.97), (1, 3, 0.01)') ORDER BY 1;
SELECT * FROM cdp.cluster_pairs('VALUES (2, 3, 0.95), (1, 2, 0.95), (3, 1, 0.01)') ORDER BY 1;
-- every node that occurs comes back: below the threshold, rejected, paired with itself
SELECT * FROM cdp.cluster_pairs('VALUES (5, 5, 0.3), (7, 8, 0.5), (-1, 4, 0), (9, 10, 1)') ORDER BY 1;
-- a pair given twice counts with the lower probability, in either direction
SELECT * FROM cdp.cluster_pairs('VALUES (1, 2, 0.95), (2, 1, 0.5), (3, 4, 0.95), (4, 3, 0.95)') ORDER BY 1;
SELECT * FROM cdp.cluster_pairs('VALUES (1, 2, 0.95), (2, 3, 0.95), (1, 3, 0.95), (3, 1, 0.04)') ORDER BY 1;
-- thresholds are inclusive, reject is not; pairs that were not given do not forbid but do not support
SELECT * FROM cdp.cluster_pairs('VALUES (1, 2, 0.9), (3, 4, 0.8999)') ORDER BY 1;
SELECT * FROM cdp.cluster_pairs('VALUES (1, 2, 0.9), (2, 3, 0.9), (1, 3, 0.05)') ORDER BY 1;
SELECT d, array_agg(component ORDER BY node) FROM unnest(ARRAY[0, 0.5, 0.66, 0.67, 1]) d, cdp.cluster_pairs('VALUES (1, 2, 0.95), (2, 3, 0.95)', min_density => d) GROUP BY 1 ORDER BY 1;
-- a clique stays whole at any density, two of them with one bridge stay two
SELECT component, count(*) FROM cdp.cluster_pairs('SELECT i, j, 0.95 FROM generate_series(1, 20) i, generate_series(1, 20) j WHERE i < j', min_density => 1) GROUP BY 1;
SELECT component, count(*) FROM cdp.cluster_pairs('SELECT i, j, 0.95 FROM generate_series(1, 20) i, generate_series(1, 20) j WHERE i < j AND (i > 10) = (j > 10) UNION ALL SELECT 10, 11, 0.99', min_density => 0.6) GROUP BY 1 ORDER BY 1;
-- types of ids and probabilities
SELECT * FROM cdp.cluster_pairs('SELECT 1::smallint, 2::bigint, 0.95::real UNION ALL SELECT 3, 9223372036854775807, 1') ORDER BY 1;
SELECT count(*) FROM cdp.cluster_pairs('SELECT 1, 2, 0.95 WHERE false');

-- refused
CREATE FUNCTION pg_temp.try(args text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint; h text;
BEGIN
	EXECUTE 'SELECT count(*) FROM cdp.cluster_pairs(' || args || ')' INTO n;
	RETURN n || ' nodes';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', sqlstate, sqlerrm, nullif(h, ''));
END $$;
SELECT a, pg_temp.try('''VALUES (1, 2, 0.5)'', ' || a) FROM unnest(ARRAY['1.1', '-0.1', '''NaN''', '''infinity''', 'NULL', '0.9, NULL', '0.9, ''NaN''', '0.9, 1.5', '0.9, 0.1, NULL', '0.9, 0.1, ''NaN''', '0.9, 0.1, -1', '0.1, 0.2', '0.2, 0.2, 0', '0, 0, 1']) a;
SELECT q, pg_temp.try(quote_nullable(q)) FROM unnest(ARRAY[NULL, '', 'SELECT 1, 2', 'SELECT 1, 2, 0.5, 3', 'SELECT ''a'', 2, 0.5', 'SELECT 1, 2.0, 0.5', 'SELECT 1, 2, ''0.5''', 'SELECT 1, 2, now()',
	'SELECT 1, 2, 1.5', 'SELECT 1, 2, -0.0001', 'SELECT 1, 2, ''NaN''::float8', 'SELECT 1, 2, ''NaN''::numeric', 'SELECT 1, 2, 1e400', 'SELECT 1, 2, ''-infinity''::real', 'SELECT 1, 2, NULL::float8', 'SELECT 1, NULL::int, 0.5', 'SELECT NULL::int, 2, 0.5',
	'SELECT 1, 2, 0.5; SELECT 1', 'DELETE FROM chain', 'WITH d AS (DELETE FROM chain RETURNING *) TABLE d', 'TABLE chain FOR UPDATE']) q;
SELECT count(*) FROM chain;
-- memory
SET cdp.components_memory = '1MB';
SELECT pg_temp.try('''SELECT i, i + 1, 0.95 FROM generate_series(1, 5000) i''');
SELECT pg_temp.try('''SELECT i, i + 1, 0.95 FROM generate_series(1, 20000) i''');
SELECT pg_temp.try('''SELECT i % 100, i % 101, 0.5 FROM generate_series(1, 100000) i''');
RESET cdp.components_memory;
-- cancelled
SET statement_timeout = '300ms';
SELECT count(*) FROM cdp.cluster_pairs('SELECT i, i * 7 % 1000003, 0.95 FROM generate_series(1, 20000000::bigint) i');
RESET statement_timeout;
SELECT count(*) AS contexts FROM pg_backend_memory_contexts WHERE name LIKE 'customer_cdp nodes%';
DROP EXTENSION customer_cdp;
