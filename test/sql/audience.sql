-- type cdp.audience: forms, algebra, aggregates, casts, each error
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
SET search_path = cdp, public;
SET parallel_leader_participation = on;
-- what happens, in words
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	detail text;
BEGIN
	EXECUTE statement INTO answer;
	RETURN answer;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN sqlstate || ' ' || sqlerrm || coalesce(nullif(': ' || detail, ': '), '');
END $$;

-- text: any order, overlaps, white space; one form comes out
SELECT t AS text, t::audience AS audience, t::audience::text::audience = t::audience AS same FROM unnest(ARRAY['{}', ' { } ', '{0}', '{7,7,7}', '{9,1-5}', '{1-5,9}', '{1-3,2-8,5}',
	'{ 1 - 5 , 9 }', E'{1,\n2}', '{3,2,1}', '{1,3,5}', '{1-2}', '{5-5}', '{007}', '{0-65535}', '{65535,65536}', '{65535-65536}', '{65000-66000}', '{0-200000}',
	'{65536-131071}', '{1,65536-131071,131073}', '{10-70000,69999-300000,400000}', '{4294967295,4294967296}', '{4294967290-4294967300}',
	'{9223372036854775807}', '{9223372036854775806-9223372036854775807,0}', '{9223372036854710000-9223372036854775807}']) t;
SELECT '{1,x}'::audience;
\echo :LAST_ERROR_SQLSTATE
SELECT '{1,-5}'::audience;
\echo :LAST_ERROR_SQLSTATE
SELECT t AS text, pg_temp.try(format('SELECT %L::cdp.audience', t)) AS answer FROM unnest(ARRAY['', ' ', '1,2', '{', '{1', '{1,', '{1,}', '{,1}', '{1,,2}', '{1}}', '{1} x', '}', '{1 2}',
	'{1-}', '{-}', '{1--2}', '{5-1}', '{1-2-3}', '{1.5}', '{+1}', '{1e3}', '{a}', '[1,2]', '{1;2}', '{１}', '{-1}', '{1--5}', '{-0}', '{9223372036854775808}',
	'{1-9223372036854775808}', '{99999999999999999999999999999999}']) t;
-- what would not fit is refused before it takes room
SELECT pg_temp.try('SELECT ''{0-9223372036854775807}''::cdp.audience') AS too_large;
SELECT pg_temp.try('SELECT ''{5,100-5000000000000}''::cdp.audience') AS too_large;

-- questions
SELECT audience_count('{}'), audience_count('{1-5,9}'), audience_count('{0-4294967295}'), audience_count(NULL);
SELECT id, '{0,5-9,65536,100000-200000,9223372036854775807}'::audience @> id AS contains, id <@ '{0,5-9,65536,100000-200000,9223372036854775807}'::audience AS contained
FROM unnest(ARRAY[0, 1, 4, 5, 9, 10, 65535, 65536, 65537, 99999, 100000, 131072, 200000, 200001, 4294967296, 9223372036854775807, 9223372036854775806, -1, -9223372036854775808]) id;
SELECT '{}'::audience && '{}' AS e, '{1-5}'::audience && '{5}' AS y, '{1-5}'::audience && '{6}' AS n, '{1-5}'::audience && '{65537}' AS n, '{0-100000}'::audience && '{70000}' AS y,
	'{1,70000}'::audience && '{2,70000}' AS y;
-- where it is NULL
SELECT NULL::audience && '{1}', '{1}'::audience @> NULL, '{1}'::audience & NULL, NULL::audience = '{}';

-- algebra
SELECT a, b, a & b AS both, a | b AS either, a - b AS minus, a # b AS one, a = b AS eq, a <> b AS ne
FROM (VALUES ('{}', '{}'), ('{1-5}', '{}'), ('{}', '{1-5}'), ('{1-5,9}', '{3-7}'), ('{1-5}', '{1-5}'), ('{1,70000}', '{2,70000,140000}'),
	('{0-200000}', '{100-200}'), ('{100-200}', '{0-200000}'), ('{65535}', '{65536}'), ('{9223372036854775807}', '{0,9223372036854775807}'),
	('{1-1000,2000-3000}', '{500-2500}')) v(x, y), LATERAL (SELECT x::audience AS a, y::audience AS b) s;
-- every pair of forms: array, run, bitset
CREATE TEMP TABLE form AS
SELECT name, audience_agg(i) AS a FROM (SELECT 'array 5' AS name, i * 7919::bigint AS i FROM generate_series(0, 4) i
	UNION ALL SELECT 'array 300', i * 211 FROM generate_series(0, 299) i UNION ALL SELECT 'array 4096', i * 16 FROM generate_series(0, 4095) i
	UNION ALL SELECT 'bitset', i FROM generate_series(0, 65535) i WHERE i * 2654435761 % 7 < 3
	UNION ALL SELECT 'run', i FROM generate_series(1000, 60000) i WHERE i % 9000 < 8000 UNION ALL SELECT 'all', i FROM generate_series(0, 65535) i) x GROUP BY name;
SELECT name, audience_count(a), pg_column_size(a) FROM form ORDER BY name COLLATE "C";
SELECT count(*) AS pairs, bool_and((x.a & y.a)::bigint[] = ARRAY(SELECT unnest(x.a::bigint[]) INTERSECT SELECT unnest(y.a::bigint[]) ORDER BY 1)) AS "&",
	bool_and((x.a | y.a)::bigint[] = ARRAY(SELECT unnest(x.a::bigint[]) UNION SELECT unnest(y.a::bigint[]) ORDER BY 1)) AS "|",
	bool_and((x.a - y.a)::bigint[] = ARRAY(SELECT unnest(x.a::bigint[]) EXCEPT SELECT unnest(y.a::bigint[]) ORDER BY 1)) AS "-",
	bool_and((x.a # y.a) = (x.a | y.a) - (x.a & y.a)) AS "#", bool_and((x.a && y.a) = (audience_count(x.a & y.a) > 0)) AS "&&"
FROM form x, form y;

-- aggregates
SELECT audience_agg(i), audience_union(a), audience_intersection(a) FROM (VALUES (5, '{1-5}'::audience), (NULL, NULL), (3, '{4-8}'), (5, '{5,100000}'), (4, NULL)) v(i, a);
SELECT audience_agg(i), audience_union(a), audience_intersection(a) FROM (SELECT 1::bigint AS i, '{1}'::audience AS a WHERE false) x;
SELECT audience_agg(NULL), audience_union(NULL), audience_intersection(NULL) FROM generate_series(1, 3);
SELECT audience_agg(-5);
\echo :LAST_ERROR_SQLSTATE
SELECT audience_agg(DISTINCT i % 3), audience_agg(i ORDER BY i DESC), audience_agg(i) FILTER (WHERE i > 8) FROM generate_series(1, 10) i;
SELECT i, audience_agg(i) OVER (ORDER BY i) AS running, audience_agg(i) OVER (ORDER BY i ROWS 1 PRECEDING) AS pairs FROM unnest('{3,1,70000,2}'::bigint[]) i ORDER BY i;
SELECT i % 3 AS g, audience_agg(i), audience_count(audience_agg(i * 70000)) FROM generate_series(1, 10) i GROUP BY ROLLUP (i % 3) ORDER BY 1;
-- ascending, descending, shuffled, far apart: the same set
SELECT audience_agg(i) = audience_agg(400000 - i) AS back, audience_agg(i) = audience_agg(i * 7919 % 400001) AS shuffled, audience_count(audience_agg(i * 1000000007)) AS far
FROM generate_series(0, 400000::bigint) i;
-- parts of every size, filled from the middle, from below, from above, twice
SELECT audience_agg(x) = audience_agg(y) AND audience_agg(y) = audience_agg(z) AND audience_agg(z) = audience_union(ARRAY[x, z]::bigint[]::audience) AS same, audience_agg(x)
FROM generate_series(0, 1500) i, LATERAL (SELECT 70000 + CASE i % 2 WHEN 0 THEN i / 2 ELSE 1500 - i / 2 END AS x, 70000 + i AS y, 71500 - i AS z) s;
-- a state that was stored is not changed by going on from it
CREATE TEMP TABLE kept AS SELECT '{1-5}'::audience AS a;
SELECT _audience_add(a, 9), _audience_add_all(a, '{7}') FROM kept;
CREATE AGGREGATE pg_temp.more(audience) (SFUNC = _audience_add_all, STYPE = audience);
SELECT pg_temp.more(a), pg_temp.more(a | '{6}') FROM kept, generate_series(1, 3);
SELECT a FROM kept;

-- ids, samples
SELECT audience_ids('{9,1-3,100000}');
SELECT count(*), min(i), max(i), sum(i) FROM audience_ids('{1-200000}') i;
SELECT * FROM audience_ids('{5,3}') WITH ORDINALITY;
SELECT count(*) AS none FROM audience_ids(NULL);
SELECT count(*) AS none FROM audience_ids('{}');
SET work_mem = '64kB';
SELECT count(*), sum(i) FROM audience_ids('{1-200000}') i;
-- in a select list they come one by one: the same ids, beside others, nested, stopped before the end
SELECT audience_ids('{1-200000}') LIMIT 3;
SELECT audience_ids('{1-3}'), audience_ids('{7,65535-65537,131072,9223372036854775807}'), generate_series(1, 2);
SELECT generate_series(1, audience_ids('{}')) AS none;
SELECT i, audience_ids(a) FROM (VALUES (1, '{5,3}'::audience), (2, NULL), (3, '{}'), (4, '{0}')) v(i, a);
SELECT generate_series(1, audience_ids('{1-3}')) AS nested;
SELECT count(*), sum(i) FROM (SELECT audience_ids(a) AS i FROM (VALUES ('{1-200000}'::audience), ('{1-70000,99999999}')) v(a)) s;
SELECT array_agg(i) = ARRAY(SELECT i FROM audience_ids('{1-100,60000-140000,9000000000}') i) AS same FROM (SELECT audience_ids('{1-100,60000-140000,9000000000}') AS i) s;
SELECT n, (SELECT sum(i) FROM (SELECT audience_ids(a) AS i LIMIT n) s) FROM (VALUES (1, '{5-9}'::audience), (3, '{5-9}'), (9, '{5-9}')) v(n, a);
BEGIN;
DECLARE ids CURSOR FOR SELECT audience_ids('{1-1000000}');
FETCH 2 FROM ids;
MOVE 65534 FROM ids;
FETCH 2 FROM ids;
COMMIT;
RESET work_mem;
SELECT array_agg(i) AS sample FROM audience_sample('{1-1000000}', 5, 1) i;
SELECT array_agg(i) AS again FROM audience_sample('{1-1000000}', 5, 1) i;
SELECT array_agg(i) AS other_seed FROM audience_sample('{1-1000000}', 5, 2) i;
SELECT array_agg(i) AS more FROM audience_sample('{1-1000000}', 8, 1) i;
SELECT array_agg(i) AS everybody FROM audience_sample('{3,1,2}', 5, 1) i;
SELECT count(*) AS none FROM audience_sample(NULL, 5, 1);
SELECT count(*) AS none FROM audience_sample('{}', 5, 1);
SELECT count(*), count(*) FILTER (WHERE i <= 50000) BETWEEN 480 AND 520 AS even FROM audience_sample('{1-100000}', 1000, 7) i;
SELECT audience_sample('{1}', 0, 1);
\echo :LAST_ERROR_SQLSTATE
SELECT audience_sample('{1}', -1, 1);
SELECT audience_sample('{1}', NULL, 1);
\echo :LAST_ERROR_SQLSTATE
SELECT audience_sample('{1}', 1, NULL);

-- casts
SELECT '{5,1,1,3}'::bigint[]::audience, '{}'::bigint[]::audience, '{{1,2},{3,70000}}'::bigint[]::audience, '{5,1-3}'::audience::bigint[], '{}'::audience::bigint[];
SELECT '{1,NULL}'::bigint[]::audience;
\echo :LAST_ERROR_SQLSTATE
SELECT '{1,-1}'::bigint[]::audience;
\echo :LAST_ERROR_SQLSTATE
CREATE TEMP TABLE assigned (a audience);
INSERT INTO assigned VALUES (ARRAY[3, 1, 2]::bigint[]), (NULL);
SELECT a FROM assigned ORDER BY a IS NULL;
-- Roaring bytes: as the public specification writes them
SELECT t AS audience, t::audience::bytea AS bytes, t::audience::bytea::audience = t::audience AS same FROM unnest(ARRAY['{}', '{1,3}', '{1-5,9}', '{0-65535}', '{1,70000}', '{1-5,70000,140000,210000}',
	'{1-5,70000,140000,210000-220000}', '{4294967295}']) t;
SELECT name, length(a::bytea), a::bytea::audience = a AS same FROM form ORDER BY name COLLATE "C";
SELECT t AS audience, audience_to_roaring64(t::audience) AS bytes, audience_from_roaring64(audience_to_roaring64(t::audience)) = t::audience AS same
FROM unnest(ARRAY['{}', '{1,3}', '{4294967295,4294967296}', '{9223372036854775807}']) t;
SELECT '{4294967296}'::audience::bytea;
\echo :LAST_ERROR_SQLSTATE
-- not in the shortest form, but right: the same set
SELECT '\x3b300000010000000001000700 0000'::bytea::audience AS run_of_one, '\x3b3000000100000300020000000100 02000100'::bytea::audience AS runs_side_by_side;
SELECT b AS bytes, pg_temp.try(format('SELECT %L::bytea::cdp.audience', b)) AS answer FROM unnest(ARRAY['\x', '\x3a', '\x3a300000', '\x3930000000000000',
	'\x3a30000001000000', '\x3a300000ffffffff', '\x3a3000000000010000', '\x3a30000000000000ff', '\x3a3000000100000000000100100000000100',
	'\x3a30000001000000000001001000000001000100', '\x3a30000001000000000001001000000003000100', '\x3a30000001000000000001001100000001000300', '\x3a300000010000000000010010000000010003',
	'\x3a3000000100000000000100100000000100030000', '\x3a30000002000000010000000100000018000000180000000100', '\x3a300000010000000000ffff100000000000',
	'\x3b3000000100000000', '\x3b300000010000000000 00', '\x3b30000001000005000100 00000100', '\x3b30000001000003000200 0000010001000100', '\x3b30000001000003000200 0500010000000100',
	'\x3b30000001000001000100 ffff0100', '\x3b300000010000ffff0100 0100ffff', '\x3b30000001000003000200 00000100', '\x3b300300 00000001000000']::text[]) b;
SELECT b AS bytes, pg_temp.try(format('SELECT cdp.audience_from_roaring64(%L::bytea)', b)) AS answer FROM unnest(ARRAY['\x', '\x00000000000000', '\x0100000000000000', '\xffffffffffffffff00000000', '\x000000000000000000',
	'\x0200000000000000010000003a30000000000000010000003a30000000000000', '\x0200000000000000010000003a30000000000000020000003a30000000000000',
	'\x0100000000000000000000803a3000000100000000000000100000000500', '\x0100000000000000ffffff7f3a30000001000000ffff000010000000ffff']::text[]) b;
SELECT '\x3a30'::bytea::audience;
\echo :LAST_ERROR_SQLSTATE

-- hashing: equal sets are equal keys
SELECT a, count(*) FROM (VALUES ('{1-3}'::audience), ('{3,1,2}'), ('{1}'), ('{}'), ('{}'), (NULL)) v(a) GROUP BY a ORDER BY a::text;
SET enable_mergejoin = off; SET enable_nestloop = off;
EXPLAIN (COSTS OFF) SELECT FROM form x JOIN form y ON x.a = y.a;
SELECT count(*) FROM form x JOIN form y ON x.a = y.a;
RESET enable_mergejoin; RESET enable_nestloop;
SELECT count(DISTINCT _audience_hash_extended(a, 0)) > 1 AND bool_and(_audience_hash_extended(a, 0) & 4294967295 = _audience_hash(a)::bigint & 4294967295) AS extended FROM form;
CREATE TEMP TABLE by_audience (a audience, n int, EXCLUDE USING hash (a WITH =));
INSERT INTO by_audience SELECT a, 1 FROM form;
INSERT INTO by_audience SELECT a, 2 FROM form WHERE name = 'run' ON CONFLICT DO NOTHING;
SELECT count(*), sum(n) FROM by_audience;
-- there is no order
SELECT 1 FROM form ORDER BY a;

-- stored apart: read in parts, and once per query
CREATE TABLE audience_far (name text, a audience);
INSERT INTO audience_far SELECT 'odd', audience_agg(2 * i + 1) FROM generate_series(1, 500000) i;
INSERT INTO audience_far SELECT 'scattered', audience_agg(i * i) FROM generate_series(1, 20000::bigint) i;
SELECT attstorage FROM pg_attribute WHERE attrelid = 'audience_far'::regclass AND attname = 'a';
SELECT name, audience_count(a), pg_column_size(a) > 100000 AS large, a @> 9 AS nine, a @> 10 AS ten, a = a AS same FROM audience_far ORDER BY name;
SELECT count(*) FROM audience_far, generate_series(1, 200) i WHERE i <@ a;
SELECT name, count(*) FROM generate_series(1, 200) i, audience_far WHERE a @> i GROUP BY name ORDER BY name;
SELECT audience_count(x.a & y.a), audience_count(x.a | y.a), x.a = y.a AS same FROM audience_far x, audience_far y WHERE (x.name, y.name) = ('odd', 'scattered');
SELECT count(*) FROM (SELECT a FROM audience_far UNION SELECT a FROM audience_far) u;

-- parallel: partial sets are united
CREATE TABLE audience_rows (id bigint) WITH (parallel_workers = 2);
INSERT INTO audience_rows SELECT i * 3 FROM generate_series(1, 50000) i;
CREATE TABLE audience_sets (a audience) WITH (parallel_workers = 2);
INSERT INTO audience_sets SELECT ARRAY[i, i + 1, 7]::bigint[] FROM generate_series(1, 3000) i;
ANALYZE audience_rows; ANALYZE audience_sets;
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
EXPLAIN (COSTS OFF) SELECT audience_agg(id) FROM audience_rows;
SELECT audience_agg(id) = (SELECT audience_agg(3 * i) FROM generate_series(1, 50000) i) AS same FROM audience_rows;
EXPLAIN (COSTS OFF) SELECT audience_union(a), audience_intersection(a) FROM audience_sets;
SELECT audience_union(a), audience_intersection(a) FROM audience_sets;
SELECT audience_union(a), audience_intersection(a) FROM audience_sets WHERE a @> 0;
DROP TABLE audience_far, audience_rows, audience_sets;
