-- type cdp.tagquery: reading, printing, what each term means, limits
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET search_path = public, cdp;
-- a query as it prints, or how it is refused: code, message, detail; the hint with it when asked for
CREATE FUNCTION pg_temp.try(q text, hints boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint   text;
BEGIN
	RETURN q::cdp.tagquery;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' ', sqlstate, sqlerrm, nullif(detail, ''), CASE WHEN hints THEN hint WHEN hint = '' THEN 'NO HINT' END);
END $$;

-- one spelling for what is the same tree
SELECT t AS text, pg_temp.try(t) AS prints, pg_temp.try(pg_temp.try(t)) = pg_temp.try(t) AS fixed FROM unnest(ARRAY[
	'region.华东.* & (aov > 1000 | 高价值) & !churned', 'a&b|c', 'a|b&c', '(a|b)&c', '(a&b)|c', 'a&(b&c)', '(a|b)|(c|d)', '((a))', '!a', '!!a', '! ( a )', '!(a&b)', '!(a|b)&c',
	'!(a = 1)', '!a = 1', '!(a in (x))', '(a > 1)&(b)', E'\t a\n&\r b ', '*', '!*', '* & a', 'a.*', 'a.b.c.*|a.b', '"sp ace".*', '"a"', '"a=b" = "a=b"', '"q""uote"', '"a.b".*',
	'a=1', 'a=1.50', 'a=-0', 'a=1e3', 'a=1e-7', 'a>=-5', 'a<=5', 'a<5', 'a!=x', 'a = gold', 'a = "gold"', 'a = "5"', 'a = "2026-01-31"', 'a = 2026-01-31', 'a = ""', 'a = "x y"', 'a = v1.2+3',
	'a in (x)', 'a in(1,"1",2026-01-01,now-1d)', 'a IN (x, y)', 'a In (x)']) t;
-- words of the language are names where a name stands
SELECT t AS text, pg_temp.try(t) AS prints FROM unnest(ARRAY['in', 'in in (in, "in")', '"in" in (x)', 'segment', 'segment & segment(x)', 'segment (x)', 'segment("big spenders")', 'segment("a.b")',
	'segment in (a)', 'segment.*', 'segment = 1', 'now', 'now = now', 'now-30d', 'now-30d = now-30d', '!now.*', 'a = "now"', 'a = "now-30d"', 'a = nowhere', 'a = now.x', 'and & or & not', 'a = in', '"segment"']) t;
-- dates told from now
SELECT t AS text, pg_temp.try('d = ' || t) AS prints FROM unnest(ARRAY['now', 'now-30d', 'now+2w', 'now-3mo', 'now-1y', 'now-12h', 'now+0d', 'now-0w', 'now+0h', 'now-007d', 'now+999999y',
	'now+1000000y', 'now-99999999999999999999d', 'now-', 'now+', 'now-3', 'now-d', 'now-3m', 'now-3dd', 'now-3 d', 'now--3d', 'now-3.5d', 'now -3d', 'now-3D']) t;

-- refused, with what to write instead
SELECT t AS text, pg_temp.try(t, true) AS answer FROM unnest(ARRAY['', ' ', 'a b', 'a and b', 'a &', '& a', '|', '!', 'a & & b', 'a && b', 'a || b', '(a', 'a)', '()', 'a & (b | c', 'a, b', 'a(b)', '"segment"(a)',
	'a.*.b', 'a.*b', '*a', '*.a', '**', 'a*', 'a.b*', 'a.* > 1', 'a.* in (1)', 'a < gold', 'a >= "5"', 'a =', 'a = & b', 'a == 1', 'a >== 1', 'a <> 1', 'a ! = 1', '!= 1', '= 1', 'a = ''x''', 'a = b = c', 'a in', 'a in x', 'a in ()',
	'a in (x', 'a in (x,)', 'a in (,x)', 'a in (x y)', 'a in (x) y', 'a in (a > 1)', 'segment(', 'segment()', 'segment(a', 'segment(a b)', 'segment(a.*)', 'segment(*)', 'a..b', '.a', 'a.', '"a', '"a"b', '"a"."b"', '"a.*"', '""', 'a = "x',
	'a = 01', 'a = 1.', 'a = .5', 'a = 2026-02-30', 'a = 1234567890123456', 'a = 1e400', 'a#b', 'a@2026-01-01', 'a;b', 'a\b']) t;
-- full-width signs and blanks of an input method; inside quotes they are characters as any
SELECT replace(t, U&'\200b', '<zero width space>') AS text, pg_temp.try(t, true) AS answer FROM unnest(ARRAY['（a）', 'a（b', 'a ＆ b', 'a＆b', 'a｜b', '！a', 'a in (x，y)', 'a in （x）', 'a＝1', 'a＞1', 'a ＜ 1', 'a = now＆b', 'a.*＆b', 'a > 1＆b', 'a　& b', U&'a\200b', '"a＆b" = "（x）"']) t;
-- the place is told in characters
SELECT '高价值 & 新客 ？'::tagquery;
\echo :LAST_ERROR_SQLSTATE

-- limits: bytes, terms, levels; whatever comes, an answer comes back
SELECT t.what, left(pg_temp.try(t.text), 40) AS answer, pg_temp.try(pg_temp.try(t.text)) = pg_temp.try(t.text) AS fixed FROM (VALUES
	('1 MB of (', repeat('(', 1000000)), ('1 MB of !', repeat('!', 1000000)), ('64 KiB of (', repeat('(', 65536)), ('64 KiB of !', repeat('!', 65536)), ('64 KiB of !(', repeat('!(', 32768)),
	('64 KiB of blanks', repeat(' ', 65535) || 'a'), ('one more', repeat(' ', 65536) || 'a'), ('256 levels of !', repeat('!', 255) || 'a'), ('257', repeat('!', 256) || 'a'),
	('256 levels of (', repeat('(', 256) || 'a' || repeat(')', 256)), ('257', repeat('(', 257) || 'a' || repeat(')', 257)),
	('256 levels of & and |', repeat('(a & (b | ', 127) || 'c' || repeat('))', 127)), ('of ! and comparison', repeat('!', 255) || 'a = 1'),
	('4096 terms', repeat('a | ', 4095) || 'a'), ('4097', repeat('a | ', 4096) || 'a'), ('4096 values', 'a in (' || repeat('1,', 4095) || '1)'), ('4097', 'a in (' || repeat('1,', 4096) || '1)'),
	('prints longer than it is', repeat('name_of_16_bytes=1&', 3300) || 'a'),
	('name of 255 bytes', repeat('n', 255)), ('256', repeat('n', 256)), ('16 levels', repeat('n.', 15) || 'n'), ('17', repeat('n.', 16) || 'n'), ('text of 256', 'a = ' || repeat('n', 256)), ('segment of 256', 'segment(' || repeat('n', 256) || ')')) t(what, text);
-- trees made by operators have the same limits, and print as they are read
CREATE FUNCTION pg_temp.grow(start tagquery, step text, times int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	q tagquery := start;
	n int := 0;
BEGIN
	FOR i IN 1..times LOOP
		EXECUTE 'SELECT ' || step INTO q USING q, i;
		n := i;
	END LOOP;
	RETURN format('%s: %s', n, q::text::tagquery = q);
EXCEPTION WHEN OTHERS THEN
	RETURN concat_ws(' ', n, sqlstate, sqlerrm, q::text::tagquery = q);
END $$;
SELECT left(step, 20) AS step, pg_temp.grow('a', step, 5000) FROM unnest(ARRAY['! $1', '$1 & $1', '$1 & ''b''', '''b'' | $1', '($1 & ''b'') | ''c''', '!($1 & ''b'')', format('$1 | %L::tagquery', repeat('n', 250))]) step;

-- operators of queries: both, one of them, not; the tree is the one of the text
SELECT 'a | b'::tagquery & 'c' AS one, 'c' & 'a & b'::tagquery AS two, 'a | b'::tagquery | 'c | d' AS three, ! 'a | b'::tagquery AS four, ! 'a = 1'::tagquery AS five, 'a'::tagquery & NULL AS six;
SELECT 'a | b'::tagquery & 'c' = '(a|b)&c' AS eq, 'a & b'::tagquery = 'b & a' AS order_counts, 'a = 1'::tagquery <> 'a = "1"' AS kinds_differ, 'a'::tagquery <> '"a"' AS quotes_do_not, 'a.*'::tagquery = 'a' AS prefix,
	'a = x'::tagquery = 'a in (x)' AS list, 'd = now'::tagquery = 'd = now-0d' AS today;

-- what each kind of term means
SET cdp.now = '2026-03-31 10:30:00Z';
CREATE TEMP TABLE person (id int, tags tagset);
INSERT INTO person VALUES (1, 'vip, region.华东.上海, aov=1280.5, gender=female, grade=gold, joined=2026-03-01'), (2, 'vip@2026-03-31T10:30:00Z, region.华东, aov=1000, gender=male'),
	(3, 'vip@2026-03-31T10:30:00.000001Z, region.华东x, aov="1280.5", joined=2026-03-31'), (4, 'region.华南.广州, aov=1280.5@2026-03-01, grade="5"'), (5, '');
SELECT q AS query, array_agg(id ORDER BY id) FILTER (WHERE tags @@ q::tagquery) AS holds, array_agg(id ORDER BY id) FILTER (WHERE tags @@ ! q::tagquery) AS not_holds
FROM person, unnest(ARRAY['*', 'vip', 'vip.*', 'region', 'region.*', 'region.华东', 'region.华东.*', 'region.华东.上海.*', 'aov', 'aov > 1000', 'aov >= 1000', 'aov = 1000', 'aov != 1000', 'aov < 2e3', 'aov = "1280.5"', 'aov > 1999-01-01',
	'gender != female', '!(gender = female)', 'gender = Female', 'grade in (gold, 5)', 'grade in (gold, "5")', 'aov in (1000, "1280.5", x)', 'joined > 2026-03-01', 'joined = now', 'joined >= now-30d', 'vip & gender = male | grade', 'vip & (gender = male | grade)']) WITH ORDINALITY u(q, ord)
GROUP BY ord, q ORDER BY ord;
-- the two ways to write it, the form with a time, NULL
SELECT 'a'::tagset @@ 'a' AS left_to_right, 'a'::tagquery @@ 'a'::tagset AS right_to_left, cdp.tagset_matches('a@2026-01-01', 'a', '2025-12-31 23:59:59.999999Z') AS before, cdp.tagset_matches('a@2026-01-01', 'a', '2026-01-01Z') AS at,
	cdp.tagset_matches('a, b@2026-01-01', 'a & !b', 'infinity') AS for_ever, cdp.tagset_matches('a@2026-01-01', 'a', '-infinity') AS ever, NULL::tagset @@ 'a' AS no_tags, 'a'::tagset @@ NULL::tagquery AS no_query, cdp.tagset_matches('a', 'a', NULL) AS no_time;
-- the calendar is the one of UTC, whatever the session's settings are
CREATE FUNCTION pg_temp.is(tags text, query text, at text) RETURNS boolean LANGUAGE sql AS 'SELECT cdp.tagset_matches(tags::tagset, query::tagquery, at::timestamptz)';
SET TimeZone = 'America/New_York';
SET DateStyle = 'SQL, DMY';
SELECT * FROM (VALUES ('d=2026-03-31', 'd = now', '2026-03-31 23:59:59Z'), ('d=2026-03-31', 'd = now', '2026-04-01 00:00:00Z'), ('d=2026-02-28', 'd = now-1mo', '2026-03-31 12:00:00Z'), ('d=2026-02-28', 'd = now-1mo', '2026-03-28 12:00:00Z'),
	('d=2024-02-29', 'd = now-1y', '2025-02-28 12:00:00Z'), ('d=2023-02-28', 'd = now-1y', '2024-02-29 12:00:00Z'), ('d=2024-02-29', 'd = now+4y', '2020-02-29 00:00:00Z'), ('d=2026-03-17', 'd = now-2w', '2026-03-31 12:00:00Z'),
	('d=2026-03-30', 'd = now-1d', '2026-03-31 00:00:00Z'), ('d=2026-03-31', 'd > now-12h', '2026-03-31 11:59:59Z'), ('d=2026-03-31', 'd > now-12h', '2026-03-31 12:00:00Z'), ('d=2026-03-31', 'd >= now-12h', '2026-03-31 12:00:00Z'),
	('d=2026-03-31', 'd >= now-12h', '2026-03-31 12:00:00.000001Z'), ('d=2026-03-31', 'd = now-12h', '2026-03-31 12:00:00Z'), ('d=2026-03-31', 'd = now-12h', '2026-03-31 12:00:01Z'), ('d=2026-03-31', 'd != now-12h', '2026-03-31 12:00:01Z'),
	('d=x', 'd != now-12h', '2026-03-31 12:00:01Z'), ('d=2026-03-31', 'd in (1, now-12h)', '2026-03-31 12:00:01Z'), ('d=2026-03-31', 'd <= now-12h', '2026-03-31 12:00:01Z'), ('d=2026-03-31', 'd < now-12h', '2026-03-31 12:00:00Z'),
	('d=0001-01-01', 'd > now-999999y', '2026-01-01Z'), ('d=9999-12-31', 'd < now+999999mo', '2026-01-01Z'), ('d=9999-12-31', 'd > now+999999h', '2026-01-01Z'), ('d=9999-12-31', 'd < now+999999w', '294276-12-31 23:59:59.999999Z'),
	('d=0001-01-01', 'd > now-1mo', '4713-01-01 00:00:00Z BC'), ('d=9999-12-31', 'd < now-1h', '294276-12-31 23:59:59.999999Z'), ('d=9999-12-31', 'd < now+5y', '294276-12-31 23:59:59.999999Z'), ('d=9999-12-31', 'd < now', 'infinity'), ('d=0001-01-01', 'd < now', '-infinity'), ('d=0001-01-01', 'd >= now-1h', '-infinity')) v(tags, query, at),
	LATERAL (SELECT pg_temp.is(v.tags, v.query, v.at) AS holds) h;
RESET TimeZone;
RESET DateStyle;

-- a segment is not known from tags: refused whatever the rest says
SELECT 'a'::tagset @@ 'segment(x)';
SELECT 'a'::tagset @@ 'a | segment(x)';
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.tagset_matches('a', 'b & segment(x)', now());
SELECT cdp._tagquery_segments('segment(b) & !segment(a) | segment("b") | a') AS segments, cdp._tagquery_segments('a') AS none;

-- terms explained, in the order of the text
SELECT id, e.* FROM (VALUES (1, 'vip@2027-01-01, aov=800, region.华东.上海, region.华东.杭州@2027-01-01, old@2026-01-01, note="a ""b"""'::tagset), (2, '')) t(id, tags),
	LATERAL cdp.tagset_explain(tags, 'region.华东.* & (aov > 1000 | vip) & !old & note in (x, "a ""b""") & * & !segment(s) & gone & d > now-30d', '2026-03-31 10:00:00Z') WITH ORDINALITY e ORDER BY id, ordinality;
SELECT * FROM cdp.tagset_explain('r.a@2026-01-01, r.b@2026-06-01, r@2026-02-01', 'r.*', '2026-03-01Z');
SELECT * FROM cdp.tagset_explain(NULL, 'a', now());

-- stored queries: short, long, compressed; which of them fit
CREATE TABLE asked (id int PRIMARY KEY, query tagquery);
INSERT INTO asked VALUES (1, 'vip'), (2, 'joined >= now-30d'), (3, (repeat('x & ', 3000) || 'y')::tagquery | 'vip'), (4, ('grade in (' || repeat('"000000", ', 4000) || 'gold)')::tagquery), (5, NULL),
	(7, 'vip'), (6, (SELECT string_agg('n' || md5(i::text), ' | ') || ' | gold.* | aov > 1000' FROM generate_series(1, 1500) i)::tagquery);
SELECT a.id, array_agg(p.id ORDER BY p.id) FILTER (WHERE p.tags @@ a.query) AS fit, a.query = a.query::text::tagquery AS same FROM asked a, person p GROUP BY a.id, a.query ORDER BY a.id;
SELECT count(*) AS queries, count(n) AS groups FROM (SELECT query, count(*) AS n FROM asked GROUP BY query) q;
SELECT a.id, b.id FROM asked a JOIN asked b ON a.query = b.query AND a.id < b.id;
SELECT count(*) FROM person WHERE tags @@ (SELECT query FROM asked WHERE id = 6);
SELECT count(*) FROM person WHERE tags @@ (SELECT query FROM asked WHERE id = 1);
-- one prepared statement, changing queries, and a clock that moves inside a transaction
PREPARE p(tagquery) AS SELECT array_agg(id ORDER BY id) FROM person WHERE tags @@ $1;
EXECUTE p('vip');
EXECUTE p('joined = now');
BEGIN;
SET LOCAL cdp.now = '2026-03-01 00:00:00+00';
EXECUTE p('joined = now');
COMMIT;
CREATE FUNCTION pg_temp.clock() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	q tagquery := 'd = now';
	r text := '';
BEGIN
	FOR i IN 1..3 LOOP
		PERFORM set_config('cdp.now', format('2026-01-0%s 00:00:00+00', i), true);
		r := r || (('d=2026-01-02'::tagset) @@ q)::text || ' ';
	END LOOP;
	RETURN r;
END $$;
SELECT pg_temp.clock();
-- binary form
SELECT encode(cdp._tagquery_send('a & b'), 'escape') AS sent;
-- fit for constraints and generated columns; of everybody's
CREATE TEMP TABLE g (tags tagset CHECK (cdp.tagset_matches(tags, 'a | b', '2026-01-01Z')), good boolean GENERATED ALWAYS AS (cdp.tagset_matches(tags, 'a', '2026-01-01Z')) STORED);
INSERT INTO g VALUES ('a'), ('b');
SELECT * FROM g ORDER BY good;
SELECT p.oid::regprocedure AS function, provolatile, proparallel, proisstrict, has_function_privilege('pg_read_all_stats', p.oid, 'EXECUTE') AS everybody FROM pg_proc p
WHERE pronamespace = 'cdp'::regnamespace AND (proname ~ 'tagquery|tagset_(matches|explain)' OR proname IN ('_tagset_query', '_query_tagset')) ORDER BY proname COLLATE "C";
-- of somebody who may do nothing else
CREATE ROLE cdp_tag_query_user;
GRANT USAGE ON SCHEMA cdp TO cdp_tag_query_user;
GRANT SELECT ON asked, person TO cdp_tag_query_user;
SET ROLE cdp_tag_query_user;
SELECT count(*) FROM person WHERE tags @@ ('vip'::tagquery & ! 'gone' | 'x') AND 'vip'::tagquery @@ tags;
SELECT count(*) FROM (SELECT DISTINCT query FROM asked WHERE query <> 'x' OR query = 'x') q;
SELECT count(*) FROM asked a JOIN asked b USING (query);
SELECT count(*) FROM cdp.tagset_explain('a', 'a', now());
RESET ROLE;
DROP TABLE asked;
DROP OWNED BY cdp_tag_query_user;
DROP ROLE cdp_tag_query_user;
