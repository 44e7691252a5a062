-- type cdp.rfm_state: forms, hostile input
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
CREATE FUNCTION pg_temp.try(state text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	why text;
BEGIN
	RETURN state::cdp.rfm_state;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
	RETURN sqlstate || ' ' || coalesce(nullif(why, ''), sqlerrm);
END $$;
-- sound states come back as they were
SELECT t AS text, pg_temp.try(t) = t AS same FROM unnest(ARRAY['()', '(820454400000000,815184000000000,820368000000000,3,290.00,20.00)',
	'(820454400000000,,,0,0,20)', '(820454400000000,,,0,0,0)', '(0,-1,0,2,1.00000000000000000000,0.00000000000000000000)',
	'(0,0,0,1,123456789012345678901234567890.5,0.1)', '(0,0,0,9223372036854775807,0,0)']) t;
-- others do not come in
SELECT t AS text, pg_temp.try(t) AS answer FROM unnest(ARRAY['', '(', ')', '(,)', ' ()', '(),', '(1,2)', '(0,0,0,1,1,0,0)', '(0,0,0,1,1,0', '0,0,0,1,1,0',
	'(a,0,0,1,1,0)', '(0,0,0,1,NaN,0)', '(0,0,0,1,Infinity,0)', '(0,0,0,1,1e5,0)', '(0,0,0,1,-1,0)', '(0,0,0,1,1,-0.01)', '(0,0,0,-1,1,0)',
	'(0,1,1,1,1,0)', '(2,1,0,2,1,0)', '(2,0,1,1,1,0)', '(0,,,1,1,0)', '(0,,0,1,1,0)', '(0,0,0,0,0,0)', '(0,,,0,1,0)', '(0,,,0,0,)', '(0,,,,0,0)', '(,,,0,0,0)',
	'(9223372036854775807,,,0,0,0)', '(-9223372036854775808,,,0,0,0)', '(-9223372036854775808,0,0,1,1,0)', '(9223371331200000000,,,0,0,0)', '(9300000000000000000000,,,0,0,0)',
	'(0,-9223372036854775807,0,2,1,0)', '(0,0,0,1,1..2,0)', '(0,0,0,1,--1,0)', '(0,0,0,1.5,1,0)', '(0 ,0,0,1,1,0)']) t;
-- binary form; what damaged bytes do is in test/pgtap/value.sql
CREATE FUNCTION pg_temp.bin(state cdp.rfm_state) RETURNS bytea LANGUAGE sql AS 'SELECT cdp._rfm_state_send(state)';
SELECT encode(pg_temp.bin(t::cdp.rfm_state), 'hex') FROM unnest(ARRAY['()', '(0,-1,0,2,1.00,0.50)']) t;
-- a state in a table, packed and unpacked
CREATE TEMP TABLE s (id int, small boolean, st cdp.rfm_state);
INSERT INTO s VALUES (1, true, '(0,-1,0,2,1.00,0.50)'), (2, true, '()'), (3, NULL, NULL), (4, false, '(0,0,0,1,123456789012345678901234567890.5,0.1)');
SELECT id, st FROM s ORDER BY id;
SELECT cdp.rfm_combine(st) FROM s;
SELECT id, st FROM s ORDER BY id;
-- a combine that starts from a stored state leaves the stored one alone
CREATE AGGREGATE pg_temp.merge(cdp.rfm_state) (SFUNC = cdp._rfm_combine, STYPE = cdp.rfm_state);
SELECT pg_temp.merge(st) FROM s;
SELECT pg_temp.merge(st) FROM s;
SELECT id, st FROM s ORDER BY id;
-- too many purchases
SELECT cdp.rfm_combine(x::cdp.rfm_state) FROM unnest(ARRAY['(0,0,0,9223372036854775807,0,0)', '(0,0,0,1,0,0)']) x;
\echo :LAST_ERROR_SQLSTATE
