-- cdp.rfm_summary: text and binary forms, and what is not one
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
CREATE TEMP TABLE s (what text, v cdp.rfm_summary);
INSERT INTO s VALUES ('empty', '()');
INSERT INTO s SELECT 'one', cdp._rfm_all(1, '2025-12-31Z', 1.50, '2026-01-01Z');
INSERT INTO s SELECT 'refund only', cdp._rfm_all(1, '2025-12-31Z', -1.50, '2026-01-01Z');
INSERT INTO s SELECT 'skipped', cdp._rfm_all(NULL, '2025-12-31Z', 1.50, '2026-01-01Z');
INSERT INTO s SELECT 'ids', cdp._rfm_all(i, '2025-12-31Z', 1, '2026-01-01Z') FROM unnest('{9223372036854775807,-9223372036854775808,0,-1}'::bigint[]) i;
INSERT INTO s SELECT 'rests', cdp._rfm_all(1, '2025-12-31Z', a, '2026-01-01Z') FROM unnest('{1e30,-0.0000000001,90000000000,90000000000}'::numeric[]) a;
INSERT INTO s SELECT 'currency', cdp._rfm_all(1, '2025-12-31Z', 1.50, '2026-01-01Z', 0.5, 'CNY');
INSERT INTO s SELECT 'net_day', cdp._rfm_sorted(1, '2025-12-31Z', 1.50, '2026-01-01Z', 0.5, '', true);
SELECT what, v FROM s;
-- what is printed is read again, as the same; the order of rows does not matter
SELECT what FROM s WHERE v::text::cdp.rfm_summary::text <> v::text;
SELECT cdp._rfm_all(i, '2025-12-31Z', i, '2026-01-01Z')::text = (SELECT cdp._rfm_all(j, '2025-12-31Z', j, '2026-01-01Z')::text FROM generate_series(100, -100, -1) j) AS same FROM generate_series(-100, 100) i;
SELECT substr(cdp._rfm_summary_send(v), 1, 2) FROM s WHERE what = 'one';
-- states in a table give rows
SELECT what, r.customer_id, r.frequency, r.monetary, r.gross, r.refunded FROM s, LATERAL cdp._rfm_rows(v, refunds => CASE what WHEN 'net_day' THEN 'net_day' ELSE 'net' END) r ORDER BY 1, 2;
-- unsound ones; the second list is a sound state with one thing wrong
CREATE FUNCTION pg_temp.try(t text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d text; h text;
BEGIN
	RETURN 'accepted: ' || t::cdp.rfm_summary::text;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', sqlstate, sqlerrm, d, h);
END $$;
SELECT t, pg_temp.try(t) FROM unnest(ARRAY['', '(', '(1)', '\x', '\x0', '\x0g', 'x01', '\x01', '\x02000002e9cc5ac00000000000', '\x01030002e9cc5ac00000000000', '\x01007fffffffffffffff00000000']) t;
SELECT why, pg_temp.try('\x01000002ea470ae86000' || replace(t, ' ', '')) FROM (VALUES
	('sound',                     '00 00 00 01 81808080808080808001 08 01 80c0ddeec102 00 80a3c347 00'),
	('a customer twice',          '00 00 00 02 81808080808080808001 08 01 80c0ddeec102 00 80a3c347 00 00 08 01 80c0ddeec102 00 80a3c347 00'),
	('behind the last bigint',    '00 00 00 02 ffffffffffffffffff01 08 01 80c0ddeec102 00 80a3c347 00 01 08 01 80c0ddeec102 00 80a3c347 00'),
	('more customers than bytes', '00 00 00 80808001 81808080808080808001 08 01 80c0ddeec102 00 80a3c347 00'),
	('fewer customers',           '00 00 00 00 81808080808080808001 08 01 80c0ddeec102 00 80a3c347 00'),
	('one purchase, two times',   '00 00 00 01 81808080808080808001 08 01 80c0ddeec102 01 80a3c347 00'),
	('before the first time',     '00 00 00 01 81808080808080808001 08 02 80c0ddeec102 ffffffffffffffffff01 80a3c347 00'),
	('money without purchase',    '00 00 00 01 81808080808080808001 08 00 80a3c347 00'),
	('money above bigint',        '00 00 00 01 81808080808080808001 08 01 80c0ddeec102 00 80808080808080808001 00'),
	('zeros at the end',          '00 00 00 01 81808080808080808001 08 01 80c0ddeec102 8000 80a3c347 00'),
	('11 bytes of a number',      '00 00 00 01 8180808080808080808001 08 01 80c0ddeec102 00 80a3c347 00'),
	('purchases above 32 bits',   '00 00 00 01 81808080808080808001 08 8080808010 80c0ddeec102 00 80a3c347 00'),
	('a scale that is none',      '00 00 00 01 81808080808080808001 808008 01 80c0ddeec102 00 80a3c347 00'),
	('a rest that is missing',    '00 00 00 01 81808080808080808001 09 01 80c0ddeec102 00 80a3c347 00'),
	('a rest below zero',         '00 00 00 01 81808080808080808001 09 01 80c0ddeec102 00 80a3c347 00 0a 0001 0000 4000 0000 0001'),
	('a rest that is NaN',        '00 00 00 01 81808080808080808001 09 01 80c0ddeec102 00 80a3c347 00 08 0000 0000 c000 0000'),
	('a rest that goes on',       '00 00 00 01 81808080808080808001 09 01 80c0ddeec102 00 80a3c347 00 0b 0001 0000 0000 0000 0001 00'),
	('a currency that is none',   '00 00 02 c328 00'),
	('a currency too long',       '00 00 05 434e59 00')) v(why, t);
-- every cut and every changed byte of every state: refused, or a state that prints and reads the same
CREATE FUNCTION pg_temp.damage() RETURNS TABLE (answer text, n bigint) LANGUAGE plpgsql AS $$
DECLARE
	good bytea; bad bytea; what text; got cdp.rfm_summary;
BEGIN
	CREATE TEMP TABLE damage (answer text);
	FOR what, good IN SELECT s.what, decode(substr(s.v::text, 3), 'hex') FROM s WHERE s.v::text <> '()' LOOP
		FOR i IN 0 .. length(good) - 1 LOOP
			FOREACH bad IN ARRAY ARRAY[substr(good, 1, i), set_byte(good, i, get_byte(good, i) # 1), set_byte(good, i, get_byte(good, i) # 128), set_byte(good, i, 255), set_byte(good, i, 0), substr(good, 1, i) || '\x00' || substr(good, i + 1)] LOOP
				CONTINUE WHEN bad = good OR bad = '';
				BEGIN
					got := ('\x' || encode(bad, 'hex'))::cdp.rfm_summary;
					INSERT INTO damage VALUES (CASE WHEN got::text = '\x' || encode(bad, 'hex') AND (SELECT cdp._rfm_all_final(got)::text) = got::text THEN 'a state' ELSE 'not what was read' END);
					PERFORM count(*) FROM cdp._rfm_rows(got, refunds => CASE get_byte(bad, 1) WHEN 0 THEN 'net' WHEN 1 THEN 'net_day' ELSE 'cancel' END);
				EXCEPTION WHEN invalid_text_representation OR invalid_binary_representation OR SQLSTATE '22008' OR protocol_violation THEN
					INSERT INTO damage VALUES ('refused');
				END;
			END LOOP;
		END LOOP;
	END LOOP;
	RETURN QUERY SELECT d.answer, count(*) FROM damage d GROUP BY 1 ORDER BY 1;
END $$;
SELECT * FROM pg_temp.damage();
