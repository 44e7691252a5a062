-- cdp.tagquery against a judge in plain SQL over random expressions, and the laws of logic.  Another run takes other
-- values; to repeat one: psql -v seed=NUMBER -f test/pgtap/tag_query.sql.  QUERIES chooses how many (2000).
\if :{?seed}
\else
\getenv seed CDP_SEED
\endif
\if :{?seed}
\else
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 1000000 AS seed \gset
\endif
\getenv queries CDP_QUERIES
\if :{?queries}
\else
\set queries 2000
\endif
BEGIN;
SELECT plan(13);
SELECT diag('tag_query: seed ' || :seed || ' (CDP_SEED chooses another), ' || :queries || ' expressions (CDP_QUERIES)');
SELECT setseed((:seed % 1000000) / 1000000.0)::text = '' AS seeded \gset
SET LOCAL search_path = pg_temp, public, cdp;
SET LOCAL TimeZone = 'Asia/Shanghai';
SET LOCAL DateStyle = 'SQL, DMY';
\ir tag_judge.psql
SET LOCAL DateStyle = 'ISO, YMD';
SELECT pg_temp.fill_entries(60) IS NULL AS filled \gset
ANALYZE entry;
CREATE TEMP TABLE subject AS SELECT id, pg_temp.entries_text(id)::cdp.tagset AS tags FROM generate_series(1::bigint, 60) id;
SELECT ok((SELECT count(*) > 200 FROM entry) AND EXISTS (SELECT FROM subject WHERE tags = ''), 'there are entries, and customers without any');

-- the answers to every expression
CREATE TEMP TABLE asked (i int, tree jsonb, text text, query cdp.tagquery, at timestamptz, judge bigint[], operator bigint[], commuted bigint[], function bigint[]);
CREATE FUNCTION pg_temp.ask(n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	a asked;
BEGIN
	FOR i IN 1..n LOOP
		a.i := i;
		a.tree := pg_temp.random_query(pg_temp.pick(4) - 1);
		a.text := pg_temp.blank() || pg_temp.query_text(a.tree) || pg_temp.blank();
		a.query := a.text;
		a.at := pg_temp.some_moment() + (ARRAY['0', '1 microsecond', '-1 microsecond', '1 day', '-1 month'])[pg_temp.pick(5)]::interval;
		EXECUTE format('SELECT array_agg(c.id ORDER BY c.id) FROM subject c WHERE %s', pg_temp.query_sql(a.tree, a.at)) INTO a.judge;
		PERFORM set_config('cdp.now', a.at::text, true);
		SELECT array_agg(c.id ORDER BY c.id) FILTER (WHERE c.tags @@ a.query), array_agg(c.id ORDER BY c.id) FILTER (WHERE a.query @@ c.tags),
			array_agg(c.id ORDER BY c.id) FILTER (WHERE cdp.tagset_matches(c.tags, a.query, a.at))
			INTO a.operator, a.commuted, a.function FROM subject c;
		INSERT INTO asked VALUES (a.*);
	END LOOP;
END $$;
SELECT pg_temp.ask(:queries) IS NULL AS asked \gset
SELECT diag(format('%s of %s expressions hold for some but not all', count(*) FILTER (WHERE cardinality(judge) BETWEEN 1 AND 59), count(*))) FROM asked;
SELECT ok(count(*) FILTER (WHERE cardinality(judge) BETWEEN 1 AND 59) > count(*) / 3, 'the expressions tell customers apart') FROM asked;
SELECT is_empty('SELECT text, at, judge, operator FROM asked WHERE judge IS DISTINCT FROM operator LIMIT 5', 'tagset @@ tagquery is what the judge says');
SELECT is_empty('SELECT text, at FROM asked WHERE operator IS DISTINCT FROM commuted LIMIT 5', 'tagquery @@ tagset is tagset @@ tagquery');
SELECT is_empty('SELECT text, at FROM asked WHERE operator IS DISTINCT FROM function LIMIT 5', 'tagset_matches() is @@ at a time');
-- a query that changes from row to row
SELECT is_empty('SELECT a.text, a.at FROM (SELECT a.*, (SELECT array_agg(c.id ORDER BY c.id) FILTER (WHERE cdp.tagset_matches(c.tags, a.query, a.at)) FROM subject c) AS again FROM asked a) a
	WHERE a.again IS DISTINCT FROM a.judge LIMIT 5', 'a column of queries is answered as constants are');

-- text and binary
SELECT is_empty('SELECT text FROM asked WHERE query::text::cdp.tagquery <> query OR query::text::cdp.tagquery::text <> query::text LIMIT 5', 'the text of a query is read as that query');
SELECT current_setting('data_directory') || '/tag_query.bin' AS file \gset
CREATE TEMP TABLE back (i int, query cdp.tagquery);
COPY (SELECT i, query FROM asked) TO :'file' (FORMAT binary);
COPY back FROM :'file' (FORMAT binary);
SELECT is_empty('SELECT a.text FROM asked a JOIN back b USING (i) WHERE a.query <> b.query OR a.query::text <> b.query::text LIMIT 5', 'what is sent comes back');
-- damaged bytes and damaged text
CREATE FUNCTION pg_temp.damage(q cdp.tagquery, file text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	bytes bytea := cdp._tagquery_send(q);
	k     int := pg_temp.pick(length(bytes)) - 1;
BEGIN
	bytes := CASE pg_temp.pick(4) WHEN 1 THEN set_byte(bytes, k, pg_temp.pick(256) - 1) WHEN 2 THEN substr(bytes, 1, k)
		WHEN 3 THEN substr(bytes, 1, k) || substr(bytes, k + 2) ELSE bytes || set_byte('\x00', 0, pg_temp.pick(256) - 1) END;
	EXECUTE format('COPY (SELECT %L::bytea) TO %L (FORMAT binary)', bytes, file);
	BEGIN
		EXECUTE format('COPY pg_temp.damaged FROM %L (FORMAT binary)', file);
		RETURN 'sound';
	EXCEPTION WHEN OTHERS THEN
		RETURN sqlstate;
	END;
END $$;
CREATE TEMP TABLE damaged (query cdp.tagquery);
SELECT is_empty(format('SELECT * FROM (SELECT pg_temp.damage(query, %L) AS answer, text FROM asked WHERE i <= 500) d
	WHERE answer NOT IN (''sound'', ''22P03'', ''08P01'', ''22021'', ''22003'', ''54000'')', :'file'), 'damaged binary forms: an error of their own, or a query');
SELECT is_empty('SELECT query FROM damaged WHERE query::text::cdp.tagquery <> query', 'what came in damaged is a query as any other');

-- the laws, with the operators of the type
CREATE FUNCTION pg_temp.same(a cdp.tagquery, b cdp.tagquery, at timestamptz) RETURNS boolean LANGUAGE sql STABLE AS
	'SELECT bool_and(cdp.tagset_matches(c.tags, a, at) = cdp.tagset_matches(c.tags, b, at)) FROM subject c';
SELECT is_empty($$SELECT law, x, y, z FROM (SELECT x.query AS x, y.query AS y, z.query AS z, x.at
		FROM asked x JOIN asked y ON y.i = x.i + 1 JOIN asked z ON z.i = x.i + 2 WHERE x.i <= 500) q CROSS JOIN LATERAL (VALUES
	('De Morgan', pg_temp.same(!(x & y), (!x) | (!y), at) AND pg_temp.same(!(x | y), (!x) & (!y), at)),
	('double negation', pg_temp.same(!(!x), x, at)),
	('distributivity', pg_temp.same(x & (y | z), (x & y) | (x & z), at) AND pg_temp.same(x | (y & z), (x | y) & (x | z), at)),
	('excluded middle', pg_temp.same(x | !x, '*', at)), ('contradiction', pg_temp.same(x & !x, '!*', at)),
	('absorption', pg_temp.same(x & (x | y), x, at)), ('commutativity', pg_temp.same(x & y, y & x, at) AND pg_temp.same(x | y, y | x, at)),
	('associativity', (x & y) & z = x & (y & z) AND (x | y) | z = x | (y | z)),
	('composition', pg_temp.same(x & y, format('(%s) & (%s)', x, y)::cdp.tagquery, at) AND x & y = format('(%s) & (%s)', x, y)::cdp.tagquery
		AND x | y = format('(%s) | (%s)', x, y)::cdp.tagquery AND !x = format('!(%s)', x)::cdp.tagquery)) l(law, kept)
	WHERE kept IS NOT TRUE LIMIT 5$$, 'the laws of logic');
-- every unit, operator and moment at the dates where it turns: PostgreSQL's own calendar says the same
CREATE TEMP TABLE step AS SELECT u, n, at, CASE u WHEN 'h' THEN utc + n * interval '1 hour' WHEN 'd' THEN utc::date + n WHEN 'w' THEN utc::date + 7 * n
		WHEN 'mo' THEN (utc::date + n * interval '1 month')::date ELSE (utc::date + n * interval '1 year')::date END AS turn
	FROM (SELECT at + shift AS at, (at + shift) AT TIME ZONE 'UTC' AS utc FROM moment, unnest(ARRAY['0', '1 microsecond', '-1 microsecond', '13 hours', '-1 day']::interval[]) shift) m,
	unnest(ARRAY['h', 'd', 'w', 'mo', 'y']) u, (SELECT DISTINCT pg_temp.pick(100) - 50 AS n FROM generate_series(1, 20)) n;
SELECT is_empty($$SELECT * FROM (SELECT s.*, op, day, cdp.tagset_matches(format('d=%s', to_char(day, 'YYYY-MM-DD'))::cdp.tagset, format('d %s now%s%s%s', op, CASE WHEN n < 0 THEN '-' ELSE '+' END, abs(n), u)::cdp.tagquery, at) AS answer,
		CASE op WHEN '=' THEN day = turn WHEN '!=' THEN day <> turn WHEN '<' THEN day < turn WHEN '<=' THEN day <= turn WHEN '>' THEN day > turn ELSE day >= turn END AS wanted
	FROM step s, unnest(ARRAY['=', '!=', '<', '<=', '>', '>=']) op, generate_series(-2, 2) around, LATERAL (SELECT s.turn::date + around AS day) d) q
	WHERE answer <> wanted LIMIT 5$$, 'a date told from now is the one of the calendar');
-- terms explained: with them alone the answer can be put together
SELECT is_empty($$SELECT a.text, c.id, e.term FROM asked a, subject c, cdp.tagset_explain(c.tags, a.query, a.at) e
	WHERE a.i <= 200 AND (e.holds IS NULL OR e.holds <> cdp.tagset_matches(c.tags, e.term::cdp.tagquery, a.at)) LIMIT 5$$, 'each term is explained as it is alone');
SELECT * FROM finish();
ROLLBACK;
