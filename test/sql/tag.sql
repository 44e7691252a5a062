-- cdp.tagset: text form, limits, operators, answers, jsonb, binary form
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET search_path = public, cdp;
SET TimeZone = 'UTC';
\pset format unaligned

-- the example of the contract: read, printed, read again; no setting changes it
\set example '''vip, region.华东.上海, aov=1280.5, churn_risk=0.83@2026-12-31'''
SELECT :example::tagset;
SELECT :example::tagset::text::tagset = :example::tagset AS fixed_point;
BEGIN;
CREATE TABLE setting AS SELECT :example::tagset AS tags, 'a=2026-01-02, b@2026-06-30T23:30:00.5+08:00, c=0.1'::tagset AS more;
SET TimeZone = 'America/New_York'; SET DateStyle = 'SQL, DMY'; SET extra_float_digits = 0; SET lc_numeric = 'C'; SET IntervalStyle = 'sql_standard';
SELECT tags, more FROM setting;
SELECT tags = :example::tagset AS same, more = 'a=2026-01-02, b@2026-06-30T23:30:00.5+08:00, c=0.1'::tagset AS same FROM setting;
SELECT tags::jsonb::tagset = tags AS same, more::jsonb AS jsonb FROM setting;
ROLLBACK;
SELECT proname, provolatile, proparallel FROM pg_proc WHERE oid IN (SELECT unnest(ARRAY[typinput, typoutput, typreceive, typsend]::oid[]) FROM pg_type WHERE oid = 'tagset'::regtype) ORDER BY 1;

-- what is written, and its canonical form
SELECT v AS written, v::tagset AS canonical, v::tagset::text::tagset = v::tagset AS fixed_point FROM unnest(ARRAY[
	'', 'b,a', ' b , a ', 'a,A,aa', 'a=1,a', 'a,a=1', 'a@2026-01-01,a=2', 'region.b,region-b,region,region.b.c', '0, -, /:_',
	'"a"', '"a b"', '"a.b c"', '"a""b"', '"(a)"', '"a,b=c@d"', E'"\u3000"', '"（促销）"', '"夏季 促销".', '"*a", "a*.b"', '😀.👨‍👩‍👧',
	'n=0', 'n=-0', 'n=-0.0e5', 'n=1.50', 'n=100000000000000', 'n=1000000000000000', 'n=123456789012345', 'n=1e300', 'n=1E+2', 'n=9.877089e19', 'n=9.00719925474099e15', 'n=5e-324',
	'n=-1.25e-7', 'n=0.10000000000000000000', 'n=000.5', 'n=1e1000', 'n=0e1000',
	'd=2026-02-28', 'd=2024-02-29', 'd=0001-01-01', 'd=9999-12-31', 'd="2026-02-28"',
	't=gold', 't=""', 't="gold"', 't="gold medal"', 't="123"', 't="1e5"', 't="1.2.3"', 't="-"', 't=-', 't=qq.com', 't=5G', 't=a+b', 't="now"', 't="now-30d"', 't=nowhere', 't=a.*',
	't=12ab', 't=2026Q1', 't="a""b"', 't=e', 't=.', 't=上海.', 't=https://x.cn/a-b:1',
	'e@2026-12-31', 'e@2026-12-31T00:00:00Z', 'e @ 2026-12-31T00:00Z', 'e@2026-12-31T08:30:00+08:00', 'e@2026-12-31T08:30:00+08', 'e@2026-12-31T08:30:00+0800', 'e@2026-12-30T23:59:59.999999-00:30',
	'e@2026-12-31T12:00:00.100000Z', 'e=1@1969-12-31T23:59:59.5Z', 'e@0001-01-01', 'e@9999-12-31T23:59:59.999999Z', 'e = "x" @ 2026-12-31 , f'
	]) v WHERE v NOT IN ('"夏季 促销".', 'n=000.5', 'n=1e1000', 't=a.*');

-- what is refused, where, and what to write
CREATE FUNCTION pg_temp.try(expression text, OUT state text, OUT message text) LANGUAGE plpgsql AS $$
DECLARE
	detail text; hint text;
BEGIN
	EXECUTE 'SELECT ' || expression INTO message;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	message := concat_ws(' | ', message, nullif(detail, ''), CASE WHEN hint = '' THEN 'NO HINT' ELSE hint END);
END $$;
SELECT v AS written, (pg_temp.try(format('%L::cdp.tagset', v))).* FROM unnest(ARRAY[
	',', 'a,', ',a', 'a,,b', 'a b', 'a;b', '=1', '@2026-01-01', 'a=', 'a@', 'a=1=2', 'a=1 2', 'a@2026-01-01@2026-01-02', 'a@2026-01-01=1', '(a)', '!a', 'a|b', '*',
	'.', '.a', 'a.', 'a..b', 'a.*', 'a.*.b', '"夏季 促销".*', 'a.b.* = 1', '""', '"."', '"a."', '"a.*"', '"a"".*"', '"a""..b"', '"*"',
	'"a', 'a=", b', '"a"b', '"a"华', 'a"b"', '"a"."b"', 'a."b c"', '"a".b', 'a b"', 'a="x"y', 'a=x"y"',
	'a=01', 'a=.5', 'a=1.', 'a=+1', 'a=1e', 'a=1.2.3', 'a=0x10', 'a=2026-1-5', 'a=2026-02-29', 'a=2026-13-01', 'a=0000-01-01', 'a=12026-01-01', 'a=138-0013-8000',
	'a=now', 'a=now-30d', 'a=now+2w', 'a=1e1000', 'a=-1e309', 'a=1e-400', 'a=1234567890123456', 'a=6217000012345678901', 'a=0.1234567890123456',
	'a@now', 'a@2026', 'a@2026-02-30', 'a@2026-12-31T08:30:00', 'a@2026-12-31 08:30:00Z', 'a@2026-12-31T24:00:00Z', 'a@2026-12-31T08:60:00Z', 'a@2026-12-31T08:30:60Z', 'a@2026-12-31T8:30Z',
	'a@2026-12-31T08:30:00.1234567Z', 'a@2026-12-31T08:30:00.Z', 'a@2026-12-31T08:30:00+16:00', 'a@2026-12-31T08:30:00Zulu', 'a@2026-12-31Z', 'a@0001-01-01T00:00:00+08:00', 'a@infinity', 'a@"2026-12-31"',
	'a（b', 'a，b', 'vip，高价值', 'vip、新客', 'aov＝1', 'a＠2026-01-01', 'region。华东', 'a．b', '＊', 'a=“gold”', 'a＆b', 'a｜b', '！a', 'a＞1', 'a＜1', '（a）', '＂a＂']) v;
-- blanks: those of ASCII part words, others must be quoted, and so must what cannot be seen; joiners are parts of letters and emoji
SELECT E' \t\r\n\x0b\fvip \t\r\n\x0b\f,\n new = \t1\n@\n2026-01-01\n'::tagset AS ascii_blanks, E' \t\r\n'::tagset = '' AS nothing;
SELECT to_hex(c) AS code, (pg_temp.try(format('%L::cdp.tagset', 'vip' || chr(c)))).*, tag_value(format('a="vip%s"', chr(c))::tagset, 'a') = 'vip' || chr(c) AS quoted
	FROM unnest('{1,127,133,160,173,5760,8195,8203,8206,8239,8288,12288,65279}'::int[]) c;
SELECT count(*) AS joined FROM unnest('{8204,8205}'::int[]) c WHERE ('vip' || chr(c) || 'x')::tagset::text = 'vip' || chr(c) || 'x';
-- limits: each just inside, each just outside
SELECT length(('a' || repeat('华', 84) || 'bb')::tagset::text) AS name_255, (pg_temp.try(format('%L::cdp.tagset', 'a' || repeat('华', 84) || 'bbb'))).*;
SELECT length(('"a ' || repeat('b', 253) || '"')::tagset::text) AS quoted_255, (pg_temp.try(format('%L::cdp.tagset', '"a ' || repeat('b', 254) || '"'))).*;
SELECT length(('a=' || repeat('b', 255))::tagset::text) AS word_255, (pg_temp.try(format('%L::cdp.tagset', 'a=' || repeat('b', 256)))).*;
SELECT length(('a="' || repeat(' ', 255) || '"')::tagset::text) AS text_255, (pg_temp.try(format('%L::cdp.tagset', 'a="' || repeat(' ', 256) || '"'))).*;
SELECT ('a' || repeat('.b', 15))::tagset AS levels_16, (pg_temp.try(format('%L::cdp.tagset', 'a' || repeat('.b', 16)))).*;
SELECT (SELECT string_agg('t' || i, ',')::tagset FROM generate_series(1, 4096) i) = tagset(ARRAY(SELECT 't' || i FROM generate_series(1, 4096) i)) AS entries_4096;
SELECT (pg_temp.try($$string_agg('t' || i, ',')::cdp.tagset FROM generate_series(1, 4097) i$$)).*;
SELECT (pg_temp.try($$cdp.tagset(ARRAY(SELECT 't' || i FROM generate_series(1, 4097) i))$$)).*;
SELECT (pg_temp.try($$(SELECT string_agg('t' || i, ',')::cdp.tagset FROM generate_series(1, 4096) i) OPERATOR(cdp.+) 'x'$$)).*;
SELECT (pg_temp.try($$cdp.tagset_union(('t' || i)::cdp.tagset) FROM generate_series(1, 4097) i$$)).*;
SELECT (pg_temp.try($$(SELECT jsonb_object_agg('t' || i, null) FROM generate_series(1, 4097) i)::cdp.tagset$$)).*;
-- a megabyte of nothing good ends soon, whatever it is
SET statement_timeout = '20s';
SELECT repeat('a,', 500000)::text || 'a' AS x, repeat('a=1@2026-01-01,b.c="d e",', 40000) || 'z' AS y \gset
SELECT :'x'::tagset AS once, :'y'::tagset AS thrice;
SELECT v, (pg_temp.try(format('%L::cdp.tagset', repeat(v, 1000000 / octet_length(v))))).state FROM unnest(ARRAY[
	'(', '"', '""', ',', '.', 'a', 'a.', '*', '=', '@', ' ', '华', '，', E'\u3000', '1', 'a=1', 'a="', '-', 'a=1,', 'a@', 'a..', '"a",']) v;
SELECT (pg_temp.try(format('%L::cdp.tagset', 'a=' || repeat('1', 1000000)))).state, (pg_temp.try(format('%L::cdp.tagset', 'a=0.' || repeat('0', 1000000)))).*,
	(pg_temp.try(format('%L::cdp.tagset', 'a=1e' || repeat('0', 1000000)))).*, (pg_temp.try(format('%L::cdp.tagset', 'a=1e' || repeat('9', 1000000)))).state;
RESET statement_timeout;

-- + : the right one wins; - : names, and what is below them
SELECT a, b, a::tagset + b::tagset AS sum FROM (VALUES ('a, b=1', 'b=2@2027-01-01, c'), ('a=1@2026-01-01', 'a'), ('', 'a'), ('a', ''), ('', ''), ('c, a', 'b, d')) v(a, b);
SELECT n, 'region, region.华东, region.华东.上海, region.华东x, region-x, "a b", vip=1'::tagset - n::text[] AS rest FROM unnest(ARRAY[
	'{}', '{vip}', '{nobody}', '{region}', '{region.*}', '{region.华东.*}', '{region.华东.上海.*}', '{region.华东.上}', '{vip,region.*,vip.*}', '{a b,vip}', '{{region,vip}}']) n;
SELECT n, (pg_temp.try(format($$'a'::cdp.tagset OPERATOR(cdp.-) %L::text[]$$, n))).* FROM unnest(ARRAY['{NULL}', '{""}', '{*}', '{.*}', '{a.*.b}', '{a..b}', '{a.*.*}']) n;
SELECT 'a'::tagset + NULL AS sum, 'a'::tagset - NULL::text[] AS rest;

-- names are raw in arguments and results
SELECT tagset(ARRAY['vip', 'a b', 'a"b', 'region.华东', 'vip']), tagset('vip, a=1') AS a_literal_is_cast;
SELECT n, (pg_temp.try(format('cdp.tagset(%L::text[])', n))).* FROM unnest(ARRAY['{NULL}', '{a,""}', '{a.}', '{a.*}', '{*}']) n;
SELECT (pg_temp.try(format('cdp.tagset(ARRAY[%L])', repeat('a', 256)))).*;
SELECT tagset(t), tag FROM (SELECT ARRAY['"a"', '（促销）', E'tab\t', E'\u3000']) s(t), tagset_entries(tagset(t));
SELECT tag, tag_value(t, tag), tag_number(t, tag), tag_date(t, tag), tag_valid_until(t, tag)
	FROM (SELECT 'none, n=1e3@2026-01-01, d=2026-05-06, "a b"="1.50"@2026-01-01T08:00:00+08:00, e=""'::tagset) s(t), unnest('{none,n,d,a b,e,N,nn,no}'::text[]) tag;
SELECT * FROM tagset_entries('none, n=1e3@2026-01-01, d=2026-05-06, "a b"="1.50"@2026-01-01T08:00:00+08:00, e=""');
SELECT tag_value(NULL, 'a') AS a, tag_value('a=1', NULL) AS b, tag_number(NULL, 'a') AS c, tag_valid_until('a', NULL) AS d, tagset(NULL) AS e, tagset_prune(NULL, now()) AS f, (SELECT count(*) FROM tagset_entries(NULL)) AS g;
SELECT (pg_temp.try($$cdp.tag_value('a', 'region.*')$$)).*;
SELECT (pg_temp.try($$cdp.tag_value('a', '')$$)).*;

-- time: an entry is there while at < valid_until
SELECT at, tagset_prune('forever, a@2026-01-01, b=1@2026-01-01T00:00:00.000001Z', at::timestamptz)
	FROM unnest('{-infinity,2025-12-31T23:59:59.999999Z,2026-01-01Z,2026-01-01T00:00:00.000001Z,infinity}'::text[]) at;
SELECT o, n, d.* FROM (VALUES ('a, b, c=1, d@2026-01-01, e=1', 'b, c=2, d@2026-01-02, e="1", f'), (NULL, 'a'), ('a', NULL), ('a', 'a'), ('', '')) v(o, n), tagset_diff(o::tagset, n::tagset) d;

-- the aggregate: later rows win, NULLs do not count
SELECT g, tagset_union(t::tagset ORDER BY i), tagset_union(t::tagset ORDER BY i DESC) FROM (VALUES (1, 1, 'a=1, b'), (1, 2, NULL), (1, 3, 'a=2, c@2026-01-01'), (1, 4, ''), (2, 1, NULL), (3, 1, 'x'), (4, 1, ''), (4, 2, '')) v(g, i, t) GROUP BY g ORDER BY g;
SELECT tagset_union(t) FROM (SELECT 'a'::tagset AS t WHERE false) s;
SELECT i, tagset_union(t::tagset) OVER (ORDER BY i) FROM (VALUES (1, 'a=1'), (2, 'b'), (3, 'a=3')) v(i, t) ORDER BY i;
SELECT (pg_temp.try($$cdp._tagset_union('a', 'b')$$)).*;
-- a text that changes a little, in a state that knows its name; texts enough to be moved
SELECT tag_value(u, 'a') AS a, tag_value(u, 'b') AS b, (SELECT count(*) FROM tagset_entries(u)) FROM (
	SELECT tagset_union(t ORDER BY i) AS u FROM (SELECT 0 AS i, tagset(ARRAY(SELECT 't' || n FROM generate_series(1, 100) n)) + 'a=same0, b=same' AS t
	UNION ALL SELECT n, format('a=same%s, b=same, c="%s"', n, repeat(n::text, 60))::tagset FROM generate_series(1, 5000) n) s) x;

-- order: by the first entry that differs; equal sets meet in hash and sort
SELECT t FROM unnest(ARRAY['b', 'a=gold', '', 'a', 'a=1', 'a, b', 'a=2026-01-01', 'a=-5', 'a@2026-01-01', 'a@2025-01-01', 'aa', 'a=1, b', 'a=golden']::tagset[]) t ORDER BY t;
SELECT count(DISTINCT t) FROM unnest(ARRAY['a,b', 'b,a', 'b, a, a', 'a=1', 'a=1.0', 'a=10e-1']::tagset[]) t;
SET enable_sort = off;
SELECT count(*) FROM (SELECT t FROM unnest(ARRAY['a,b', 'b,a', 'b, a, a', 'a=1', 'a=1.0', 'a=10e-1']::tagset[]) t GROUP BY t) s;
RESET enable_sort;
SELECT 'a'::tagset < 'b' AS lt, 'a'::tagset <= 'a' AS le, 'a'::tagset > 'b' AS gt, 'a, b'::tagset >= 'b, a' AS ge, 'a'::tagset = 'A' AS eq, 'a'::tagset <> 'a=1' AS ne;
CREATE TABLE sorted (t tagset PRIMARY KEY);
INSERT INTO sorted VALUES ('a'), ('b'), ('a=1'), ('a, b');
INSERT INTO sorted VALUES ('b, a') ON CONFLICT DO NOTHING;
SET enable_seqscan = off;
SELECT t FROM sorted WHERE t > 'a' AND t < 'b' ORDER BY t;
RESET enable_seqscan;
DROP TABLE sorted;

-- jsonb
SELECT t::tagset AS tags, t::tagset::jsonb AS jsonb, t::tagset::jsonb::tagset = t::tagset AS back FROM unnest(ARRAY[
	'', 'vip', 'aov=1280.5@2026-12-31', 'grade=gold', 'birthday=2019-05-01', 'x="2019-05-01"', 'x="123"', 'x=123', 'x@2026-12-31T08:30:00.25Z', 'x=1e300, y=5e-324, z=1e16', '"a b"="c ""d"""', 'e=""',
	:example]) t;
SELECT j AS jsonb, j::jsonb::tagset AS tags FROM unnest(ARRAY[
	'{}', '{"a": 1.50}', '{"a": "gold"}', '{"a": "2026-01-01"}', '{"a": {}}', '{"a": {"value": null, "type": "none"}}', '{"a": {"value": 1, "type": "number", "valid_until": null}}',
	'{"a": {"value": "1", "type": "text"}}', '{"a": {"value": 1, "type": null}}', '{"a": {"valid_until": "2026-12-31"}}', '{"a": {"valid_until": "2026-12-31T08:00:00+08:00"}}', '{"a b": null, "\"c\"": 1}', '{"a": 1, "a": 2}']) j;
SELECT j AS jsonb, (pg_temp.try(format('%L::jsonb::cdp.tagset', j))).* FROM unnest(ARRAY[
	'[]', 'null', '"vip"', '1', '{"": null}', '{"a.*": null}', '{"a": true}', '{"a": []}', '{"a": [1]}', '{"a": {"value": {}}}', '{"a": {"value": [1]}}', '{"a": {"values": 1}}', '{"a": {"value": true}}',
	'{"a": {"value": "2026-1-1", "type": "date"}}', '{"a": {"value": 20260101, "type": "date"}}', '{"a": {"type": "date"}}', '{"a": {"value": 1, "type": "text"}}', '{"a": {"value": "1", "type": "number"}}',
	'{"a": {"value": 1, "type": "money"}}', '{"a": {"value": 1, "type": 1}}', '{"a": {"valid_until": "tomorrow"}}', '{"a": {"valid_until": 1798675200}}', '{"a": {"valid_until": "2026-12-31T08:00:00"}}',
	'{"a": 1234567890123456}', '{"a": 1e400}']) j;
SELECT (pg_temp.try(format('%L::jsonb::cdp.tagset', jsonb_build_object('a', repeat('b', 256))))).*;
SELECT NULL::tagset::jsonb AS j, NULL::jsonb::tagset AS t;

-- the binary form: written, damaged, refused
SELECT _tagset_send('vip, n=1.5@2026-12-31, d=2026-01-01, t=x');
CREATE FUNCTION pg_temp.recv(bytes bytea) RETURNS tagset LANGUAGE plpgsql AS $$
-- PostgreSQL takes binary values from clients and files only: a row of COPY, printed by a shell
DECLARE
	t tagset;
	copy bytea := '\x5047434f50590aff0d0a00' || int4send(0) || int4send(0) || int2send(1::int2) || int4send(length(bytes)) || bytes || int2send((-1)::int2);
BEGIN
	CREATE TEMP TABLE recv (t tagset);
	EXECUTE format('COPY recv FROM PROGRAM %L (FORMAT binary)', format('printf ''%s''',
		(SELECT string_agg(format('\%s%s%s', b / 64, b / 8 % 8, b % 8), '' ORDER BY i) FROM generate_series(0, length(copy) - 1) i, get_byte(copy, i) b)));
	SELECT r.t INTO t FROM recv r;
	DROP TABLE recv;
	RETURN t;
END $$;
SELECT pg_temp.recv(_tagset_send(t::tagset)) FROM unnest(ARRAY['', :example, 'vip, n=1.5@2026-12-31, d=2026-01-01, t=x, "a b"=""']) t;
SELECT pg_temp.recv('\x01' || int4send(2) || '\x00' || int4send(1) || 'b' || '\x00' || int4send(1) || 'a') AS other_order;
CREATE TABLE damaged (what text, bytes bytea);
INSERT INTO damaged VALUES
	('nothing', ''), ('another version', '\x02' || int4send(0)), ('no count', '\x010000'), ('count below 0', '\x01' || int4send(-1)), ('count of 4097', '\x01' || int4send(4097)),
	('count of 2^31 - 1', '\x01' || int4send(2147483647)), ('count above what is there', '\x01' || int4send(4096) || '\x000000000161'), ('behind the end', '\x01' || int4send(0) || '\x00'),
	('kind 8', '\x01' || int4send(1) || '\x08' || int4send(1) || 'a'), ('name of no bytes', '\x01' || int4send(1) || '\x00' || int4send(0) || 'a'),
	('name of -1 bytes', '\x01' || int4send(1) || '\x00' || int4send(-1) || 'a'), ('name of 2^31 - 1 bytes', '\x01' || int4send(1) || '\x00' || int4send(2147483647) || 'a'),
	('name of 256 bytes', '\x01' || int4send(1) || '\x00' || int4send(256) || convert_to(repeat('a', 256), 'UTF8')), ('empty level', '\x01' || int4send(1) || '\x00' || int4send(2) || 'a.'),
	('level *', '\x01' || int4send(1) || '\x00' || int4send(3) || 'a.*'), ('17 levels', '\x01' || int4send(1) || '\x00' || int4send(33) || convert_to('a' || repeat('.a', 16), 'UTF8')),
	('a zero byte', '\x01' || int4send(1) || '\x00' || int4send(2) || '\x6100'), ('no UTF-8', '\x01' || int4send(1) || '\x00' || int4send(2) || '\x61e5'),
	('twice', '\x01' || int4send(2) || '\x00' || int4send(1) || 'a' || '\x00' || int4send(1) || 'a'), ('no number', '\x01' || int4send(1) || '\x01' || int4send(1) || 'a' || '\x00'),
	('NaN', '\x01' || int4send(1) || '\x01' || int4send(1) || 'a' || float8send('NaN')), ('infinity', '\x01' || int4send(1) || '\x01' || int4send(1) || 'a' || float8send('Infinity')),
	('-0', '\x01' || int4send(1) || '\x01' || int4send(1) || 'a' || float8send('-0')), ('0.1 + 0.2', '\x01' || int4send(1) || '\x01' || int4send(1) || 'a' || float8send(0.1::float8 + 0.2::float8)),
	('no date', '\x01' || int4send(1) || '\x02' || int4send(1) || 'a'), ('date infinity', '\x01' || int4send(1) || '\x02' || int4send(1) || 'a' || date_send('infinity')),
	('date 10000-01-01', '\x01' || int4send(1) || '\x02' || int4send(1) || 'a' || date_send('10000-01-01')), ('date 0001-12-31 BC', '\x01' || int4send(1) || '\x02' || int4send(1) || 'a' || date_send('0001-12-31 BC')),
	('text of 256 bytes', '\x01' || int4send(1) || '\x03' || int4send(1) || 'a' || int4send(256) || convert_to(repeat('a', 256), 'UTF8')), ('text longer than the rest', '\x01' || int4send(1) || '\x03' || int4send(1) || 'a' || int4send(2) || 'a'),
	('no valid-until', '\x01' || int4send(1) || '\x04' || int4send(1) || 'a' || int4send(1)), ('valid-until infinity', '\x01' || int4send(1) || '\x04' || int4send(1) || 'a' || timestamptz_send('infinity')),
	('valid-until 10000-01-01', '\x01' || int4send(1) || '\x04' || int4send(1) || 'a' || timestamptz_send('10000-01-01Z'));
SELECT what, (pg_temp.try(format('pg_temp.recv(%L)', bytes))).* FROM damaged;
DROP TABLE damaged;
-- clients with another encoding
SET client_encoding = 'GBK';
SELECT length(_tagset_send(convert_from('\xe58d8ee4b89c', 'UTF8')::tagset));
RESET client_encoding;

-- in tables: short, long and compressed values are the same
CREATE TABLE stored (id int, t tagset);
INSERT INTO stored SELECT 1, 'a=1, b' UNION ALL SELECT 2, string_agg('tag' || i || '=' || i, ',')::tagset FROM generate_series(1, 4000) i;
INSERT INTO stored SELECT 3, tagset(ARRAY(SELECT md5(i::text) FROM generate_series(1, 1000) i));
SELECT id, tag_number(t, 'a') AS a, tag_number(t, 'tag77') AS tag77, (SELECT count(*) FROM tagset_entries(t)), t = t::text::tagset AS same, t + '' = t AS same, tagset_prune(t, now()) = t AS same FROM stored ORDER BY id;
DROP TABLE stored;
-- everybody may use them
CREATE ROLE regress_tag_nobody;
SET ROLE regress_tag_nobody;
SELECT t::jsonb AS jsonb, t + 'b' AS sum, t - '{a}'::text[] AS rest, tag_number(t, 'a') AS n FROM (SELECT 'a=1'::tagset AS t GROUP BY 1) s WHERE t <> '' ORDER BY t;
RESET ROLE;
DROP ROLE regress_tag_nobody;
