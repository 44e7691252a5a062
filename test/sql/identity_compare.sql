-- how alike two values are, character by character
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
-- what a call answers or how it fails
CREATE FUNCTION pg_temp.try(call text, OUT result text, OUT state text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'SELECT ' || call INTO result;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, result = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
END $$;

-- Winkler's own examples, and Jaro alone where nothing is added
SELECT a, b, round(cdp.jaro_winkler(a, b)::numeric, 4) AS jaro_winkler FROM (VALUES
	('MARTHA', 'MARHTA'), ('DWAYNE', 'DUANE'), ('DIXON', 'DICKSONX'), ('SHACKLEFORD', 'SHACKELFORD'), ('DUNNINGHAM', 'CUNNIGHAM'),
	('NICHLESON', 'NICHULSON'), ('JONES', 'JOHNSON'), ('MASSEY', 'MASSIE'), ('ABROMS', 'ABRAMS'), ('HARDIN', 'MARTINEZ'),
	('ITMAN', 'SMITH'), ('JERALDINE', 'GERALDINE'), ('MICHELLE', 'MICHAEL'), ('JULIES', 'JULIUS'), ('TANYA', 'TONYA'),
	('SEAN', 'SUSAN'), ('JON', 'JOHN'), ('JON', 'JAN'), ('ABC', 'CAB')) AS t(a, b);
-- characters, not bytes; the empty string; case counts
SELECT a, b, round(cdp.jaro_winkler(a, b)::numeric, 4) AS jaro_winkler, cdp.damerau_levenshtein(a, b) FROM (VALUES
	('欧阳修', '欧阳俢'), ('曾国藩', '国曾藩'), ('张三', '李四'), ('😀a', 'a😀'), ('é', E'e\u0301'), ('', ''), ('', 'abc'), ('abc', ''),
	('a', 'a'), ('a', 'b'), ('ab', 'ba'), ('Li', 'li'), ('aaaaaaaa', 'aaaa'), ('abcd', 'abcd ')) AS t(a, b);
-- the true distance: a swapped pair may be torn apart
SELECT a, b, cdp.damerau_levenshtein(a, b), cdp.damerau_levenshtein(b, a) AS back FROM (VALUES
	('ca', 'abc'), ('abc', 'acb'), ('abcdef', 'badcfe'), ('a cat', 'an abct'), ('kitten', 'sitting'), ('saturday', 'sunday'),
	('abcd', 'cxxa'), ('ab', 'bxxa'), ('zhang', 'zhagn'), ('张曾国', '曾张x国')) AS t(a, b);
-- max_distance: exact up to it, one more above
SELECT m, cdp.damerau_levenshtein('kitten', 'sitting', m) AS three, cdp.damerau_levenshtein('ca', 'abc', m) AS two,
	cdp.damerau_levenshtein('same', 'same', m) AS none, cdp.damerau_levenshtein('', 'abcd', m) AS four
FROM unnest(ARRAY[0, 1, 2, 3, 4, 2147483647, NULL]) m;
-- more than 64 characters take another way to the same answer
SELECT round(cdp.jaro_winkler(repeat('ab', 40), repeat('ba', 40))::numeric, 4) AS swapped,
	round(cdp.jaro_winkler(repeat('x', 65), repeat('x', 64) || 'y')::numeric, 4) AS last_one,
	cdp.jaro_winkler(repeat('x', 100), repeat('y', 100)) AS nothing,
	cdp.damerau_levenshtein(repeat('ab', 300), repeat('ba', 300)) AS distance,
	cdp.damerau_levenshtein(repeat('a', 1000) || 'xy' || repeat('b', 1000), repeat('a', 1000) || 'yx' || repeat('b', 1000)) AS swap;
-- NULL in, NULL out
SELECT cdp.jaro_winkler(NULL, 'a') AS a, cdp.jaro_winkler('a', NULL) AS b, cdp.damerau_levenshtein(NULL, 'a') AS c,
	cdp.damerau_levenshtein('a', NULL, 1) AS d, cdp.damerau_levenshtein(NULL, NULL, NULL) AS e;
-- refused
SELECT (pg_temp.try(c)).* FROM unnest(ARRAY[
	'cdp.damerau_levenshtein(''a'', ''b'', -1)', 'cdp.damerau_levenshtein(repeat(''a'', 100001), ''b'')',
	'cdp.jaro_winkler(''b'', repeat(''a'', 100001))', 'cdp.jaro_winkler(repeat(''a'', 100000), repeat(''a'', 100000))']) c;
-- a long comparison can be cancelled
SET statement_timeout = '100ms';
SELECT cdp.damerau_levenshtein(string_agg(chr(97 + (i * i * 7 % 26)::int), ''), string_agg(chr(97 + (i * i % 25)::int), '')) > 0 AS done
FROM generate_series(1::bigint, 99999) i;
RESET statement_timeout;
-- fit for an index and a parallel plan
SELECT proname, provolatile, proparallel, proisstrict FROM pg_proc
WHERE pronamespace = 'cdp'::regnamespace AND proname IN ('jaro_winkler', 'damerau_levenshtein', 'simplify_han', 'pinyin_key', 'pinyin_keys')
ORDER BY proname COLLATE "C";
-- another encoding of the server: by character as well; what needs code points says so
SELECT current_database() AS here \gset
CREATE DATABASE identity_compare_euc ENCODING 'EUC_CN' LOCALE 'C' TEMPLATE template0;
\c identity_compare_euc
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE FUNCTION jaro_winkler(text, text) RETURNS float8 LANGUAGE c STRICT AS '$libdir/customer_cdp', 'cdp_jaro_winkler';
CREATE FUNCTION damerau_levenshtein(text, text, int) RETURNS int LANGUAGE c AS '$libdir/customer_cdp', 'cdp_damerau_levenshtein';
CREATE FUNCTION simplify_han(text) RETURNS text LANGUAGE c STRICT AS '$libdir/customer_cdp', 'cdp_simplify_han';
CREATE FUNCTION pinyin_key(text) RETURNS text LANGUAGE c STRICT AS '$libdir/customer_cdp', 'cdp_pinyin_key';
SELECT octet_length('欧阳修') AS bytes, damerau_levenshtein('欧阳修', '阳欧秀', NULL) AS distance,
	round(jaro_winkler('欧阳修', '欧阳秀')::numeric, 4) AS jaro_winkler;
SELECT simplify_han('abc');
\echo :LAST_ERROR_SQLSTATE
SELECT pinyin_key('abc');
\echo :LAST_ERROR_SQLSTATE
\c :here
DROP DATABASE identity_compare_euc;
SET client_min_messages = warning;
DROP EXTENSION customer_cdp;
