-- cdp.fit_match, score_pairs, count_block_pairs, explain_pair: levels, the model against an independent one, what is refused
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
DROP SCHEMA IF EXISTS match_shop CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET extra_float_digits = 0;

-- levels of each kind, seen through two records
CREATE FUNCTION pg_temp.level(kind text, a text, b text, type text DEFAULT 'text') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	records text := format('SELECT 1 AS id, %L::%s AS v UNION ALL SELECT 2, %L', a, type, b);
BEGIN
	RETURN (SELECT level FROM cdp.explain_pair(records, cdp.fit_match(records, jsonb_build_array(jsonb_build_object('column', 'v', 'kind', kind)), '{l.id = r.id}'), 1, 2));
END $$;
SELECT k, a, b, pg_temp.level(k, a, b) FROM (VALUES
	('exact', 'abc', 'abc'), ('exact', 'abc', 'abd'), ('exact', 'abc', 'ABC'), ('exact', ' abc ', 'abc'), ('exact', '  ', 'abc'), ('exact', NULL, 'abc'), ('exact', '', ''),
	('text', 'Main  Street', ' main street'), ('text', 'ＭＡＩＮ', 'main'), ('text', 'martha', 'marhta'), ('text', 'smith', 'smyth'), ('text', 'abc', 'abd'), ('text', 'dixon', 'dicksonx'), ('text', 'jones', 'wilkins'), ('text', 'ebden street', 'ebdenstreet'),
	('name', '張 三', '张三'), ('name', '卡尔•马克思', '卡尔·马克思'), ('name', '李明先生', '李明'), ('name', 'Anna', 'Hanna'),
	('date', '19840131', '1984-01-31'), ('date', '1984/1/31', '1984年1月31日'), ('date', '1984-01-31 10:00', '19840131'), ('date', '19840131', '19840113'), ('date', '19840102', '19840201'), ('date', '19840131', '19850131'),
	('date', '19840131', '19840215'), ('date', '19840131', '19551231'), ('date', '19840231', '19840231'), ('date', '84', '1984'), ('date', 'unknown', '19840131'), ('date', '1984013112', '19840131'),
	('number', '10', '10.0'), ('number', '1000', '1001'), ('number', '1000', '1050'), ('number', '1000', '2000'), ('number', '0', '-0'), ('number', 'NaN', 'NaN'), ('number', '1e400', '1'), ('number', 'ten', '10'),
	('phone', '138 0000 0001', '+86 13800000001'), ('phone', '13800000001', '13800000010'), ('phone', '13800000001', '13900000002'), ('phone', '400', '400'),
	('email', 'Ann@Example.com', 'ann@example.com'), ('email', 'ann@example.com', 'ann@example.co'), ('email', 'ann@example.com', 'ann@another.org'), ('email', 'annabell@example.com', 'anabell@example.com'), ('email', 'bob@example.com', 'ann@example.com'), ('email', 'ann', 'ann'),
	('han_name', '欧阳修', '欧阳修'), ('han_name', '欧阳修', '欧阳询'), ('han_name', '張國榮', '张国荣'), ('han_name', '曾国藩', '增国番'), ('han_name', '曾国藩', 'Zeng Guofan'), ('han_name', 'Guofan Zeng', '曾国藩'), ('han_name', '单田芳', 'dan tian fang'), ('han_name', '张三', '李四'), ('han_name', 'Zhang San', 'Li Si')) v(k, a, b);
SELECT pg_temp.level('date', '1984-01-31', '1984-01-31', 'date'), pg_temp.level('date', '1984-01-31', '1984-01-13', 'date'), pg_temp.level('date', 'infinity', '1984-01-13', 'date'),
	pg_temp.level('date', '1984-01-31 23:30+08', '1984-01-31 00:30+08', 'timestamptz'), pg_temp.level('date', '1984-01-31 23:30', '1984-01-31', 'timestamp'),
	pg_temp.level('number', '1000', '1001', 'int'), pg_temp.level('number', '1000', '1001', 'numeric'), pg_temp.level('number', 'Infinity', '1', 'float8'), pg_temp.level('exact', 't', 't', 'boolean');

-- a model, and the same one computed by a plain loop over the pairs
CREATE SCHEMA match_shop;
CREATE TABLE match_shop.person (id bigint, surname text, city text, born int);
INSERT INTO match_shop.person VALUES (1, 'li', 'sh', 1980), (2, 'li', 'sh', 1980), (3, 'li', 'bj', 1980), (4, 'wang', 'sh', 1975), (5, 'wang', 'sh', 1975), (6, 'wang', NULL, 1991),
	(7, 'zhao', 'gz', 1960), (8, 'zhou', 'gz', 1960), (9, 'qian', 'sh', 1988), (10, 'sun', 'bj', NULL), (11, 'li', 'gz', 1999), (12, 'chen', 'bj', 2001);
CREATE TEMP TABLE model AS SELECT cdp.fit_match('SELECT * FROM match_shop.person',
	'[{"column": "surname", "kind": "exact"}, {"column": "city", "kind": "exact"}, {"column": "born", "kind": "exact"}]',
	ARRAY['l.surname = r.surname', 'l.born = r.born']) AS m;
SELECT jsonb_pretty(m - 'columns') FROM model;
SELECT c ->> 'column' AS "column", l ->> 'level' AS level, l ->> 'name' AS name, round((l ->> 'm')::numeric, 6) AS m, round((l ->> 'u')::numeric, 6) AS u, round((l ->> 'weight')::numeric, 4) AS weight
	FROM model, jsonb_array_elements(m -> 'columns') WITH ORDINALITY c(c, i), jsonb_array_elements(c -> 'levels') l ORDER BY i, (l ->> 'level')::int;
CREATE TEMP TABLE pair AS SELECT l.id AS a, r.id AS b, l.surname = r.surname OR l.born = r.born AS candidate,
	ARRAY[(l.surname = r.surname)::int, (l.city = r.city)::int, (l.born = r.born)::int] AS v
	FROM match_shop.person l JOIN match_shop.person r ON l.id < r.id;
CREATE TEMP TABLE param AS SELECT c, lv, CASE lv WHEN 1 THEN 0.9 ELSE 0.1 END::float8 AS m, NULL::float8 AS u FROM generate_series(1, 3) c, generate_series(0, 1) lv;
CREATE FUNCTION pg_temp.lambda_and_rounds() RETURNS TABLE (lambda float8, rounds int) LANGUAGE plpgsql AS $$
DECLARE
	pairs  float8 := (SELECT count(*) FROM pair);
	before float8;
	moved  float8;
BEGIN
	lambda := (12 / 2 + 0.5) / (pairs + 12 + 1);
	rounds := 0;
	LOOP
		UPDATE param p SET u = x.n FROM (
			SELECT q.c, q.lv, greatest((SELECT count(*) FROM pair WHERE v[q.c] = q.lv) - lambda * (SELECT count(v[q.c]) FROM pair) * q.m, 0.5) AS n FROM param q) x
			WHERE (p.c, p.lv) = (x.c, x.lv);
		UPDATE param p SET u = p.u / s.sum FROM (SELECT c, sum(u) FROM param GROUP BY c) s WHERE s.c = p.c;
		EXIT WHEN moved < 1e-7;
		CREATE TEMP TABLE belief AS SELECT a, v, 1 / (1 + (1 - lambda) / lambda * exp(sum(coalesce(ln(p.u / p.m), 0)))) AS p
			FROM pair CROSS JOIN generate_series(1, 3) i(c) LEFT JOIN param p ON p.c = i.c AND p.lv = v[i.c] WHERE candidate GROUP BY a, b, v;
		before := lambda;
		SELECT (sum(p) + 0.5) / (pairs + 1) INTO lambda FROM belief;
		moved := abs(lambda / before - 1);
		CREATE TEMP TABLE better AS SELECT q.c, q.lv, (coalesce((SELECT sum(p) FROM belief WHERE v[q.c] = q.lv), 0) + CASE q.lv WHEN 1 THEN 0.9 ELSE 0.1 END)
			/ ((SELECT sum(p) FROM belief WHERE v[q.c] IS NOT NULL) + 1) AS m FROM param q;
		moved := greatest(moved, (SELECT max(abs(b.m - p.m)) FROM better b JOIN param p USING (c, lv)));
		UPDATE param p SET m = b.m FROM better b WHERE (p.c, p.lv) = (b.c, b.lv);
		DROP TABLE belief, better;
		rounds := rounds + 1;
	END LOOP;
	RETURN NEXT;
END $$;
SELECT abs(lambda / (m ->> 'lambda')::float8 - 1) < 1e-9 AS same_lambda, rounds = (m ->> 'iterations')::int AS same_rounds FROM model, pg_temp.lambda_and_rounds();
SELECT count(*), bool_and(abs(p.m - (l ->> 'm')::float8) < 1e-9 AND abs(p.u - (l ->> 'u')::float8) < 1e-9 AND abs(log(2::numeric, (p.m / p.u)::numeric)::float8 - (l ->> 'weight')::float8) < 1e-7) AS same
	FROM model, jsonb_array_elements(m -> 'columns') WITH ORDINALITY c(c, i), jsonb_array_elements(c -> 'levels') l JOIN param p ON p.lv = (l ->> 'level')::int WHERE p.c = i;
SELECT left_id, right_id, round(weight::numeric, 4) AS weight, round(probability::numeric, 4) AS probability, levels FROM model, cdp.score_pairs('SELECT * FROM match_shop.person', m);
-- weights and probabilities by the formula; an explanation adds up
SELECT bool_and(abs(s.weight - w.weight) < 1e-9 AND abs(s.probability - 1 / (1 + 2 ^ -(w.weight + log(2, (lambda / (1 - lambda)))::float8))) < 1e-9) AS same
	FROM model, LATERAL (SELECT (m ->> 'lambda')::numeric AS lambda) x, cdp.score_pairs('SELECT * FROM match_shop.person', m) s,
	LATERAL (SELECT sum(e.weight) AS weight FROM cdp.explain_pair('SELECT * FROM match_shop.person', m, s.left_id, s.right_id) e) w;
SELECT column_name, level, round(e.m::numeric, 4) AS m, round(u::numeric, 4) AS u, round(weight::numeric, 4) AS weight FROM model, cdp.explain_pair('SELECT * FROM match_shop.person', m, 6, 4) e;

-- what term_frequency adds: the rare surname weighs more than the common one, and the sum is as expected
CREATE TEMP TABLE tf AS SELECT jsonb_set(m, '{columns,0,term_frequency}', 'true') AS m FROM model;
SELECT round((t.weight - s.weight)::numeric, 6) AS added, round(log(2, (s.u / f.share)::numeric), 6) AS expected, t.level
	FROM (VALUES (1, 2, 4.0 / 12), (4, 5, 3.0 / 12), (7, 8, NULL)) f(a, b, share), model, tf, cdp.explain_pair('SELECT * FROM match_shop.person', model.m, a, b) s, cdp.explain_pair('SELECT * FROM match_shop.person', tf.m, a, b) t
	WHERE s.column_name = 'surname' AND t.column_name = 'surname';

-- swapped names
CREATE TEMP TABLE swapped AS SELECT * FROM (VALUES (1, 'wei', 'zhang'), (2, 'zhang', 'wei'), (3, 'zhangg', 'wei'), (4, 'zhang', NULL), (5, 'fang', 'chen')) v(id, given, family);
SELECT l, r, (cdp.explain_pair('SELECT * FROM swapped', cdp.fit_match('SELECT * FROM swapped', '[{"column": "given", "kind": "name", "swap": "family"}]', '{l.id = r.id}'), l, r)).level
	FROM (VALUES (1, 2), (1, 3), (1, 4), (1, 5), (2, 4)) v(l, r);

-- same rows, same model: other order, other plans, other workers
CREATE TABLE match_shop.many AS SELECT i AS id, 'name' || (i * 7919 % 60) AS name, md5((i % 150)::text) AS code, date '1970-01-01' + (i * 31 % 190) AS born FROM generate_series(1, 600) i;
ANALYZE match_shop.many;
CREATE FUNCTION pg_temp.fitted(records text DEFAULT 'SELECT * FROM match_shop.many', options jsonb DEFAULT '{"sample": 1000}') RETURNS text LANGUAGE sql AS $$
	SELECT md5(m::text) || ' ' || (SELECT md5(string_agg(s::text, ',')) FROM cdp.score_pairs(records, m) s)
	FROM cdp.fit_match(records, '[{"column": "name", "kind": "text"}, {"column": "code", "kind": "text", "term_frequency": true}, {"column": "born", "kind": "date"}]',
		ARRAY['l.name = r.name', 'l.code = r.code AND l.born < r.born', 'l.born = r.born'], options) m $$;
SELECT pg_temp.fitted() AS fitted \gset
SELECT pg_temp.fitted('SELECT * FROM match_shop.many ORDER BY md5(id::text)') = :'fitted' AS other_order;
SET enable_hashjoin = off;
SELECT pg_temp.fitted() = :'fitted' AS merge_join;
SET enable_mergejoin = off;
SELECT pg_temp.fitted() = :'fitted' AS nested_loop;
RESET enable_hashjoin; RESET enable_mergejoin;
ALTER TABLE match_shop.many SET (parallel_workers = 2);
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
SELECT pg_temp.fitted() = :'fitted' AS parallel;
SET work_mem = '64kB'; SET datestyle = 'German';
SELECT pg_temp.fitted() = :'fitted' AS settings;
RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size; RESET work_mem; RESET datestyle;
SET extra_float_digits = 0;
SELECT pg_temp.fitted(options => '{"sample": 1000, "seed": 42}') = :'fitted' AS default_seed, pg_temp.fitted(options => '{"sample": 1000, "seed": 43}') = :'fitted' AS other_seed;

-- blocking: each pair once, for the first rule that has it
SELECT * FROM cdp.count_block_pairs('SELECT * FROM match_shop.many', ARRAY['l.name = r.name', 'l.name = r.name -- again', 'l.code = r.code', 'l.name = r.name AND l.code = r.code', 'l.born = r.born OR l.code = r.code', 'l.id = r.id']);
SELECT count(*), count(*) FILTER (WHERE l.name = r.name OR l.code = r.code OR l.born = r.born) AS expected FROM match_shop.many l JOIN match_shop.many r ON l.id < r.id AND (l.name = r.name OR l.code = r.code OR l.born = r.born);
-- of two records l is the one with the smaller id
SELECT * FROM cdp.count_block_pairs('SELECT i AS id, i AS v FROM generate_series(1, 10) i', ARRAY['l.v = r.v - 1', 'l.v - 1 = r.v', 'l.id > 8 AND l.v <> r.v', 'l.id <> r.id', 'l.id + r.id = NULL']);
-- across sources: left is the source that sorts first, and an id may stand in both
SELECT * FROM cdp.count_block_pairs('SELECT * FROM (VALUES (1, ''b'', 7), (2, ''b'', 7), (1, ''a'', 7), (3, ''a'', 8), (5, ''c'', 7)) v(id, source, x)', ARRAY['l.x = r.x', 'l.x + r.x > 0'], '{"link_only": true}');
SELECT left_id, right_id FROM cdp.score_pairs('SELECT * FROM (VALUES (1, ''b'', 7), (2, ''b'', 7), (9, ''a'', 7), (3, ''a'', 8)) v(id, source, x)',
	cdp.fit_match('SELECT * FROM (VALUES (1, ''b'', 7), (2, ''b'', 7), (9, ''a'', 7), (3, ''a'', 8)) v(id, source, x)', '[{"column": "x", "kind": "number"}]', '{l.x = r.x}', '{"link_only": true}'));

-- data from which nothing can be learnt: said, and never NaN
SELECT what, m ->> 'converged' AS converged, m ->> 'note' AS note, m ->> 'pairs' AS pairs, round((m ->> 'lambda')::numeric, 6) AS lambda, m::text ~ '[Nn]a[Nn]|[Ii]nf' AS odd,
	(SELECT count(*) || '/' || count(*) FILTER (WHERE probability BETWEEN 0 AND 1) FROM cdp.score_pairs(q, m)) AS scored
FROM (VALUES ('no rows', 'SELECT 1 AS id, ''a''::text AS v WHERE false'), ('one row', 'SELECT 1 AS id, ''a''::text AS v'), ('no pairs', 'SELECT i AS id, i::text AS v FROM generate_series(1, 9) i'),
	('all equal', 'SELECT i AS id, ''a''::text AS v FROM generate_series(1, 9) i'), ('all null', 'SELECT i AS id, NULL::text AS v FROM generate_series(1, 9) i'),
	('extreme ids', 'SELECT i AS id, ''a''::text AS v FROM unnest(''{-9223372036854775808,9223372036854775807,0}''::bigint[]) i')) d(what, q),
	LATERAL cdp.fit_match(q, '[{"column": "v", "kind": "text"}]', ARRAY[CASE what WHEN 'all null' THEN 'l.id <> r.id' ELSE 'l.v = r.v' END]) m;
SELECT m ->> 'iterations' AS iterations, m ->> 'converged' AS converged, m ->> 'note' AS note FROM cdp.fit_match('SELECT * FROM match_shop.person', '[{"column": "city", "kind": "exact"}]', '{l.surname = r.surname}', '{"max_iterations": 2}') m;

-- what is refused, before anything runs; never a value
CREATE FUNCTION pg_temp.try(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	h text;
BEGIN
	EXECUTE 'SELECT count(*) FROM ' || call;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', sqlstate, sqlerrm, h);
END $$;
SELECT r AS rule, pg_temp.try(format('cdp.count_block_pairs(''SELECT * FROM match_shop.many'', ARRAY[%L])', r)) FROM unnest(ARRAY['', '  ', 'l.id', 'l.id = ', 'true) UNION SELECT (1, 1', 'true) OR (true', 'true', 'l.id = 1', 'true; DROP TABLE match_shop.many',
	'true FROM match_shop.many', 'true WHERE true', 'true, true', 'true AS x', '*', 'l.*', 'DISTINCT true', 'l.id = r.id -- comment', 'true /* comment', 'true ORDER BY 1', 'true LIMIT 1', 'l.nothing = r.id', 'x.id = r.id', 'random() < 0.5', 'count(*) > 1',
	'generate_series(1, 2) = 1', '$1', 'l.id = r.id - (SELECT max(id) FROM match_shop.many)', 'SELECT true', '(SELECT true)', '(SELECT l.id = r.id)', 'l.name = r.name COLLATE "C"', 'l = r']) r;
SELECT q AS records, pg_temp.try(format('cdp.count_block_pairs(%L, ''{l.id = r.id}'')', q)) FROM unnest(ARRAY['', 'SELECT 1', 'SELECT 1 AS id; SELECT 2 AS id', 'SELECT ''a'' AS id', 'SELECT NULL::int AS id', 'SELECT 1 AS id, 2 AS id', 'VALUES (1)',
	'SELECT i % 2 AS id FROM generate_series(1, 3) i', 'INSERT INTO match_shop.person VALUES (1) RETURNING id', 'WITH d AS (DELETE FROM match_shop.person RETURNING id) SELECT id FROM d', 'SELECT id FROM match_shop.person FOR UPDATE',
	'SELECT 1 AS id INTO match_shop.new', 'EXPLAIN SELECT 1', 'SELECT id FROM nowhere', 'SELECT $1 AS id', 'CALL cdp.migrate()', 'SELECT 1.5 AS id', 'SELECT nextval(''match_shop.s'') AS id']) q;
SELECT c AS comparisons, pg_temp.try(format('cdp.fit_match(''SELECT * FROM match_shop.person'', %L, ''{l.surname = r.surname}'')', c)) FROM unnest(ARRAY['[]', '{}', '"x"', '7', 'null', '[7]', '[{}]', '[{"column": "surname"}]', '[{"column": "surname", "kind": "soundex"}]', '[{"column": "surname", "kind": 7}]',
	'[{"column": "", "kind": "text"}]', '[{"column": "nothing", "kind": "text"}]', '[{"column": "surname", "kind": "text", "swap": "nothing"}]', '[{"column": "surname", "kind": "text", "swap": "surname"}]', '[{"column": "born", "kind": "date", "swap": "city"}]', '[{"column": "surname", "kind": "text", "swap": 7}]',
	'[{"column": "surname", "kind": "text", "term_frequency": 1}]', '[{"column": "surname", "kind": "text", "weight": 1}]', '[{"column": "surname", "kind": "text"}, {"column": "surname", "kind": "text"}]', '[{"column": "surname", "kind": "text"}, {"column": "surname", "kind": "exact"}]', '[[{"column": "surname", "kind": "text"}]]']) c;
SELECT pg_temp.try(format('cdp.fit_match(''SELECT * FROM match_shop.person'', (SELECT jsonb_agg(jsonb_build_object(''column'', ''c'' || i, ''kind'', ''text'')) FROM generate_series(1, 17) i), ''{l.id = r.id}'')'));
SELECT o AS options, pg_temp.try(format('cdp.fit_match(''SELECT * FROM match_shop.person'', ''[{"column": "surname", "kind": "text"}]'', ''{l.surname = r.surname}'', %L)', o)) FROM unnest(ARRAY['[]', 'null', '{"seed": "x"}', '{"seed": 1.5}', '{"seed": -1}', '{"seed": 1e400}', '{"sample": 1}', '{"max_iterations": 0}', '{"link_only": 1}', '{"link_only": true}', '{"colour": 1}', '{"seed": null}']) o;
SELECT pg_temp.try('cdp.count_block_pairs(''SELECT 1 AS id, NULL::text AS source'', ''{l.id = r.id}'', ''{"link_only": true}'')');
SELECT b AS blocking, pg_temp.try(format('cdp.count_block_pairs(''SELECT 1 AS id'', %L)', b)) FROM unnest(ARRAY['{}', '{NULL}', '{{true},{true}}', '{l.id = r.id}']) b;
SELECT pg_temp.try(c) FROM unnest(ARRAY['cdp.fit_match(NULL, ''[]'', ''{}'')', 'cdp.fit_match('''', ''[]'', NULL)', 'cdp.score_pairs(''SELECT 1 AS id'', NULL)', 'cdp.count_block_pairs(NULL, ''{true}'')', 'cdp.explain_pair(''SELECT 1 AS id'', ''{}'', NULL, 1)']) c;
-- too many pairs: counted no further than the limit; without an equality not at all
SET cdp.max_block_pairs = 1000;
SELECT r AS rule, pg_temp.try(format('cdp.fit_match(''SELECT * FROM match_shop.many'', ''[{"column": "name", "kind": "text"}]'', %L)', r)) FROM unnest(ARRAY['{"l.code = r.code","l.name = r.name"}', '{true}', '{"l.id < r.id"}', '{"l.id > 0"}', '{"l.name || ''x'' = r.name OR l.id = r.id"}', '{"l.code = r.code","l.born = r.born"}', '{"l.code = r.code"}']) r;
SET cdp.max_block_pairs = 0;
RESET cdp.max_block_pairs;

-- a model comes back from anywhere
SELECT what, pg_temp.try(format('cdp.score_pairs(''SELECT * FROM match_shop.person'', %L)', x)) FROM model, LATERAL (VALUES
	('as it was', m), ('array', '[]'), ('scalar', '1'), ('empty', '{}'), ('version', jsonb_set(m, '{version}', '2')), ('no lambda', m - 'lambda'), ('lambda 0', jsonb_set(m, '{lambda}', '0')), ('lambda 1', jsonb_set(m, '{lambda}', '1')), ('lambda text', jsonb_set(m, '{lambda}', '"NaN"')),
	('no columns', m - 'columns'), ('columns object', jsonb_set(m, '{columns}', '{}')), ('columns empty', jsonb_set(m, '{columns}', '[]')), ('column scalar', jsonb_set(m, '{columns,0}', '1')), ('kind', jsonb_set(m, '{columns,0,kind}', '"none"')), ('other kind', jsonb_set(m, '{columns,0,kind}', '"text"')),
	('swap', jsonb_set(m, '{columns,0,swap}', '"city"')), ('no levels', m #- '{columns,0,levels}'), ('a level less', m #- '{columns,0,levels,1}'), ('level scalar', jsonb_set(m, '{columns,0,levels,1}', '1')), ('level order', jsonb_set(m, '{columns,0,levels,1,level}', '5')),
	('m 0', jsonb_set(m, '{columns,0,levels,1,m}', '0')), ('m 1', jsonb_set(m, '{columns,0,levels,1,m}', '1')), ('m negative', jsonb_set(m, '{columns,0,levels,1,m}', '-0.5')), ('m text', jsonb_set(m, '{columns,0,levels,1,m}', '"0.5"')), ('m missing', m #- '{columns,0,levels,1,m}'), ('u tiny', jsonb_set(m, '{columns,0,levels,1,u}', '1e-400')), ('u 2', jsonb_set(m, '{columns,0,levels,1,u}', '1e400')), ('sum', jsonb_set(m, '{columns,0,levels,1,u}', '0.2')),
	('no rules', m - 'rules'), ('rules empty', jsonb_set(m, '{rules}', '[]')), ('rule scalar', jsonb_set(m, '{rules,0}', '"l.id = r.id"')), ('rule number', jsonb_set(m, '{rules,0,rule}', '7')), ('rule union', jsonb_set(m, '{rules,0,rule}', '"true) UNION SELECT (1, 1"')), ('column unknown', jsonb_set(m, '{columns,0,column}', '"nothing"')), ('link_only', jsonb_set(m, '{link_only}', 'true'))) v(what, x);
SELECT pg_temp.try(format('cdp.explain_pair(''SELECT * FROM match_shop.person'', %L, 1, 99)', m)) FROM model;

-- texts run as the caller and cannot write
CREATE TABLE match_shop.log (t text);
CREATE FUNCTION match_shop.noisy(bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN INSERT INTO match_shop.log VALUES ('x'); RETURN $1; END $$;
CREATE FUNCTION match_shop.sly(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN SET transaction_read_only = off; INSERT INTO match_shop.log VALUES ('x'); RETURN $1; END $$;
SELECT pg_temp.try('cdp.count_block_pairs(''SELECT match_shop.sly(id) AS id FROM match_shop.person'', ''{l.id = r.id}'')'), pg_temp.try('cdp.count_block_pairs(''SELECT id FROM match_shop.person'', ''{match_shop.sly(l.id) = r.id}'')'), pg_temp.try('cdp.count_block_pairs(''SELECT id FROM match_shop.person'', ''{match_shop.noisy(l.id) = r.id}'')');
SELECT count(*) FROM match_shop.log;
BEGIN;
SELECT count(*) FROM cdp.count_block_pairs('SELECT id FROM match_shop.person', '{l.id = r.id}');
INSERT INTO match_shop.log VALUES ('mine');
ROLLBACK;
BEGIN READ ONLY;
SELECT count(*) FROM cdp.count_block_pairs('SELECT id FROM match_shop.person', '{l.id = r.id}');
ROLLBACK;
-- names are the caller's
SET search_path = match_shop;
SELECT count(*) FROM cdp.count_block_pairs('SELECT id FROM person', '{l.id = r.id}');
RESET search_path;
CREATE ROLE match_reader;
CREATE ROLE match_nobody;
SELECT cdp.grant_access('reader', 'match_reader');
GRANT USAGE ON SCHEMA match_shop TO match_reader;
SET ROLE match_reader;
SELECT count(*) FROM cdp.count_block_pairs('SELECT i AS id FROM generate_series(1, 3) i', '{l.id = r.id}');
SELECT count(*) FROM cdp.count_block_pairs('SELECT id FROM match_shop.person', '{l.id = r.id}');
\echo :LAST_ERROR_SQLSTATE
SET ROLE match_nobody;
SELECT count(*) FROM cdp.count_block_pairs('SELECT 1 AS id', '{l.id = r.id}');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
SELECT cdp.revoke_access('reader', 'match_reader');
DROP SCHEMA match_shop CASCADE;
DROP ROLE match_reader; DROP ROLE match_nobody;
