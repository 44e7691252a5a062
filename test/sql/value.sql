-- aggregate cdp.rfm: answers, NULLs, overloads, exactness, refusals, windows, partial states, plans
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
CREATE TEMP TABLE o (customer_id int, at timestamptz, amount numeric);
INSERT INTO o VALUES
	(1, '2025-01-01', 10.50), (1, '2025-05-01', 0.1), (1, '2025-06-01', -3), (1, '2026-02-01', 77),	-- refund; after as_of
	(2, '2025-12-31 23:59:59.999999', 0), (2, '2026-01-01', 5),		-- a gift counts; as_of itself counts
	(3, '2025-06-01', -20.00),										-- only a refund: no customer
	(4, '2026-06-01', 20.00),										-- only later
	(5, NULL, 1), (5, '2025-06-01', NULL),							-- skipped
	(6, '2025-07-01', 1), (6, NULL, 1), (6, '2025-08-01', NULL);
SELECT customer_id, (cdp.rfm(at, amount, '2026-01-01')).* FROM o GROUP BY customer_id ORDER BY 1;
SELECT cdp.rfm(at, amount, '2026-01-01') IS NULL AS none FROM o WHERE false;
SELECT cdp.rfm(at, amount, NULL) IS NULL AS skipped FROM o;
SELECT pg_typeof(cdp.rfm(at, amount, '2026-01-01')) FROM o;
-- overloads
SELECT customer_id, cdp.rfm(at, (amount * 100)::bigint, '2026-01-01') AS cents, cdp.rfm(at, amount::float8, '2026-01-01') AS float,
	cdp.rfm(at, amount::int, '2026-01-01') AS int FROM o WHERE customer_id < 4 GROUP BY customer_id ORDER BY 1;
SELECT (cdp.rfm(at, a::float8, now())).monetary AS exact, sum(a::float8) AS not_exact
FROM (SELECT '2025-01-01'::timestamptz AS at, 0.1 AS a FROM generate_series(1, 10)) x;
-- money equals sum(), digits after the point included, whatever the size
SELECT name, (cdp.rfm('2025-01-01', a, '2026-01-01')).monetary AS rfm, sum(a) AS sum, (cdp.rfm('2025-01-01', a, '2026-01-01')).monetary::text = sum(a)::text AS equal
FROM (VALUES ('cents', 19.99), ('cents', 0.01), ('cents', -3.5),
	('scale 8', 0.00000001), ('scale 8', 99999999.99999999),
	('scale 9', 0.000000001), ('scale 9', 1),
	('large', 9999999999999999.99), ('large', 9999999999999999.99),
	('huge', 1e16), ('huge', -1e40), ('huge', 0.5),
	('mixed', 1e30), ('mixed', 1e-30), ('mixed', 12.34), ('mixed', -1e30),
	('zeros', 1.5000000000000000000000), ('zeros', 1e-100 * 0),
	('zero', 0.00), ('zero', 0)) v(name, a) GROUP BY name ORDER BY name;
SELECT (cdp.rfm('2025-01-01', x, '2026-01-01')).monetary = 9223372036854775807::numeric * 3 AS bigints FROM unnest(ARRAY[9223372036854775807, 9223372036854775807, 9223372036854775807]) x;
SELECT (cdp.rfm('2025-01-01', x, '2026-01-01')).monetary AS smallest FROM unnest(ARRAY[(-9223372036854775808)::bigint, 0]) x;
SELECT x, (cdp.rfm('2025-01-01', x, '2026-01-01')).monetary::text = x::numeric::text AS as_cast
FROM unnest('{0,0.1,19.99,123456789012.34,0.00005,1e14,123456789012345,1e15,1.0000000000000002,3.14159265358979,1e-300,1e300,4.35,2.675}'::float8[]) x GROUP BY x ORDER BY x;
-- a state whose integers are full goes on in numeric: 2^50 times 10^16
CREATE AGGREGATE pg_temp.merge(cdp.rfm_state) (SFUNC = cdp._rfm_combine, STYPE = cdp.rfm_state);
CREATE TEMP TABLE doubling AS SELECT '(0,0,0,1,9999999999999999.99,9999999999999999)'::cdp.rfm_state AS s;
DO $$ BEGIN FOR i IN 1 .. 50 LOOP
	UPDATE doubling SET s = (SELECT pg_temp.merge(d.s) FROM doubling d, generate_series(1, 2));
END LOOP; END $$;
SELECT s, (cdp._rfm_final(s)).monetary = 0.99 * 2::numeric ^ 50 AS right FROM doubling;
-- refusals
SELECT cdp.rfm(at, 'NaN', '2026-01-01') FROM o;
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.rfm(at, '-Infinity'::numeric, '2026-01-01') FROM o;
SELECT cdp.rfm(at, 'NaN'::float8, '2026-01-01') FROM o;
SELECT cdp.rfm(at, 'Infinity'::float8, '2026-01-01') FROM o;
SELECT cdp.rfm('infinity', amount, '2026-01-01') FROM o;
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.rfm('-infinity', amount, '2026-01-01') FROM o;
SELECT cdp.rfm(at, amount, 'infinity') FROM o;
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.rfm(at, amount, '-infinity') FROM o;
SELECT cdp.rfm_partial(at, amount, '-infinity') FROM o;
SELECT cdp.rfm('4713-01-01 BC', 1, '294000-01-01');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.rfm(at, amount, at) FROM o WHERE customer_id = 1;
\echo :LAST_ERROR_SQLSTATE
-- the parts of the aggregate refuse to work outside of it
SELECT cdp._rfm_accum('()', now(), 1::numeric, now());
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._rfm_accum('()', now(), 1::bigint, now());
SELECT cdp._rfm_accum('()', now(), 1::float8, now());
SELECT cdp._rfm_accum('()', now(), 1::numeric, now(), 1);
SELECT cdp._rfm_combine('()', '()');
SELECT cdp._rfm_final('()') IS NULL AS none, cdp._rfm_final(NULL) IS NULL AS null;
-- all facts of a customer, with what was paid back of an order in a column of its own, or as a row below 0
SELECT customer_id, (cdp._rfm_detail(at, amount, '2026-01-01')).* FROM o GROUP BY 1 ORDER BY 1;
SELECT (d).* FROM (SELECT cdp._rfm_detail(at, amount, '2026-01-01', refunded) AS d FROM (VALUES
	(timestamptz '2025-12-01', 19.90, 0.0), ('2025-12-03', 10, 10), ('2025-11-01', 5, 1.250), ('2025-12-04', -3, 0), ('2026-01-02', 99, 99)) v(at, amount, refunded)) x;
SELECT (d).* FROM (SELECT cdp._rfm_detail('2025-12-01', 1e20, '2026-01-01', 1e19 + 0.000000000001) AS d) x;
SELECT cdp._rfm_detail(at, 1, '2026-01-01', 0) IS NULL AS none_yet, cdp._rfm_detail(at, -1, '2026-01-01') IS NULL AS refund_only FROM (VALUES (timestamptz '2026-02-01')) v(at);
SELECT cdp._rfm_detail('2025-12-01', 1, '2026-01-01', -1);
SELECT cdp._rfm_detail('2025-12-01', 1, '2026-01-01', -1e20);
SELECT cdp._rfm_detail('2025-12-01', 1, '2026-01-01', 'NaN');
-- windows: growing, moving, with ties of the frame; the state of one row is not the next one's
SELECT customer_id, at, amount, cdp.rfm(at, amount, '2026-01-01') OVER (ORDER BY at, customer_id) AS growing,
	cdp.rfm(at, amount, '2026-01-01') OVER (ORDER BY at, customer_id ROWS 1 PRECEDING) AS moving,
	cdp.rfm_partial(at, amount, '2026-01-01') OVER (ORDER BY at, customer_id) AS partial
FROM o WHERE at < '2026-01-01' ORDER BY at, customer_id;
-- DISTINCT, FILTER, ORDER BY, grouping sets
SELECT cdp.rfm(DISTINCT at, amount, '2026-01-01') AS "distinct", cdp.rfm(at, amount, '2026-01-01') FILTER (WHERE customer_id = 6) AS filter,
	cdp.rfm(at, amount, '2026-01-01' ORDER BY amount) AS ordered FROM (SELECT * FROM o UNION ALL SELECT * FROM o) x;
SELECT customer_id, (cdp.rfm(at, amount, '2026-01-01')).frequency FROM o GROUP BY ROLLUP (customer_id) ORDER BY 1;
-- partial results, kept and put together later
CREATE TEMP TABLE kept AS SELECT customer_id, date_trunc('month', at) AS month, cdp.rfm_partial(at, amount, '2026-01-01') AS state FROM o GROUP BY 1, 2;
SELECT customer_id, cdp.rfm_combine(state) FROM kept GROUP BY 1 ORDER BY 1;
INSERT INTO kept SELECT 1, NULL, cdp.rfm_partial(at, amount, '2026-01-02') FROM o;
SELECT cdp.rfm_combine(state) FROM kept WHERE customer_id = 1;
\echo :LAST_ERROR_SQLSTATE
-- the plan is parallel, hashed, and its answer the same; the state has no INTERNAL in it
CREATE TABLE value_big AS SELECT i % 97 AS customer_id, '2024-01-01'::timestamptz + i * interval '1 hour' AS at,
	CASE i % 50 WHEN 0 THEN 1e20 WHEN 1 THEN -0.000000000001 ELSE (i % 1000) / 100.0 END AS amount FROM generate_series(1, 20000) i;
ALTER TABLE value_big SET (parallel_workers = 2);
ANALYZE value_big;
CREATE TEMP TABLE serial AS SELECT customer_id, cdp.rfm(at, amount, '2026-01-01') AS v FROM value_big GROUP BY 1;
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT customer_id, cdp.rfm(at, amount, '2026-01-01') FROM value_big GROUP BY 1;
CREATE TEMP TABLE parallel AS SELECT customer_id, cdp.rfm(at, amount, '2026-01-01') AS v FROM value_big GROUP BY 1;
SELECT count(*), count(*) FILTER (WHERE s.v::text = p.v::text) AS equal FROM serial s JOIN parallel p USING (customer_id);
DROP TABLE value_big;
SELECT aggfnoid::regprocedure, aggtranstype::regtype, aggserialfn, aggcombinefn, proparallel FROM pg_aggregate JOIN pg_proc ON pg_proc.oid = aggfnoid
WHERE pronamespace = 'cdp'::regnamespace AND proname LIKE '%rfm%' ORDER BY aggfnoid::regprocedure::text COLLATE "C";
-- PUBLIC may use the aggregates and nothing behind them
CREATE ROLE value_nobody;
SET ROLE value_nobody;
SELECT cdp.rfm('2025-12-01', 1, '2026-01-01');
SELECT cdp._rfm_final('()');
RESET ROLE;
DROP ROLE value_nobody;
