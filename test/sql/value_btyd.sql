-- cdp.btyd, cdp.btyd_table: known answers, days of time zones, refunds, bad input, the state
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres';
SET cdp.timezone = 'Asia/Shanghai';
SET cdp.now = '2026-03-01 12:00+08';
CREATE TEMP TABLE p (customer_id int, at timestamptz, amount numeric);
INSERT INTO p VALUES
	(1, '2026-01-01 09:00+08', 100),                                     -- bought once
	(2, '2026-01-29 23:59+08', 30), (2, '2026-01-01 09:00+08', 100), (2, '2026-01-29 00:00+08', 20), (2, '2026-01-08 09:00+08', 50),  -- x = 2: two rows of one day, any order
	(3, '2026-01-01 09:00+08', 80), (3, '2026-01-15 09:00+08', 80), (3, '2026-01-15 10:00+08', -80), (3, '2026-01-22 09:00+08', 60), (3, '2026-01-25 09:00+08', -20),  -- sent back the same day
	(4, '2026-01-02 09:00+08', -10),                                     -- refunds only
	(5, '2026-03-01 12:00+08', 10), (5, '2026-03-01 12:00:00.000001+08', 10), (5, '2026-04-01 12:00+08', 10),  -- at as_of, and after it
	(6, '2026-01-01 09:00+08', 0), (6, '2026-01-02 09:00+08', 0);        -- gifts
\set table 'SELECT customer_id, x, round(t_x::numeric, 6) AS t_x, round(t_cal::numeric, 6) AS t_cal, mean_amount AS mean, round(log_gaps::numeric, 6) AS log_gaps, first_at, last_at FROM cdp.btyd_table'
:table (purchases => 'TABLE p') ORDER BY 1;
:table (purchases => 'TABLE p', unit => '1 day', refunds => 'net_day') ORDER BY 1;
-- the aggregate says the same
SELECT customer_id, (b).x, round((b).t_x::numeric, 6) AS t_x, round((b).t_cal::numeric, 6) AS t_cal, (b).mean_amount AS mean, round((b).log_gaps::numeric, 6) AS log_gaps FROM (SELECT customer_id, cdp.btyd(at, amount, cdp.now(), '7 days') AS b FROM p GROUP BY 1) s ORDER BY 1;
SELECT customer_id, (b).x, (b).mean_amount AS mean FROM (SELECT customer_id, cdp.btyd(at, amount, cdp.now(), '1 day', 'net_day') AS b FROM p GROUP BY 1) s ORDER BY 1;
SELECT customer_id, (b).* FROM (SELECT customer_id, cdp.btyd(at, cdp.now(), '1 day') AS b FROM p WHERE customer_id IN (2, 4) GROUP BY 1) s ORDER BY 1;
-- a NULL anywhere skips the row; nothing at all is NULL, and no row
SELECT cdp.btyd(at, amount, as_of, unit) FROM (VALUES ('2026-01-01'::timestamptz, 1::numeric, '2026-02-01'::timestamptz, '1 day'::interval), (NULL, 1, '2026-02-01', '1 day'), ('2026-01-02', NULL, '2026-02-01', '1 day'),
	('2026-01-03', 1, NULL, '1 day'), ('2026-01-04', 1, '2026-02-01', NULL)) v(at, amount, as_of, unit);
SELECT cdp.btyd(at, amount, cdp.now(), '7 days') IS NULL AS is_null FROM p WHERE false;
SELECT count(*) FROM cdp.btyd_table(purchases => 'SELECT NULL::int, now(), 1 UNION ALL SELECT 1, NULL, 1 UNION ALL SELECT 1, now() - interval ''1 year'', NULL');
-- integers, dates and local times of a source
SELECT customer_id, first_at, last_at FROM cdp.btyd_table(purchases => 'SELECT 1::smallint, ''2026-01-01''::date, 1::float4 UNION ALL SELECT 1, ''2026-01-02 10:00''::timestamp, 2');
-- a day is one of cdp.timezone: 16:00 UTC is midnight in Shanghai
CREATE FUNCTION pg_temp.days(zone text, VARIADIC at timestamptz[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE b cdp.btyd; t record;
BEGIN
	PERFORM set_config('cdp.timezone', zone, true);
	SELECT (cdp.btyd(u, '2030-01-01', '1 day')).* INTO b FROM unnest(at) u;
	EXECUTE 'SELECT * FROM cdp.btyd_table(''2030-01-01'', $q$SELECT 1, u, 1 FROM unnest(' || quote_literal(at) || '::timestamptz[]) u$q$, ''1 day'')' INTO t;
	IF (b.x, b.t_x, b.t_cal) IS DISTINCT FROM (t.x, t.t_x, t.t_cal) THEN RETURN 'differ'; END IF;
	RETURN b.x || ' ' || b.t_x || ' ' || b.t_cal || CASE (SELECT count(DISTINCT (u AT TIME ZONE zone)::date) - 1 FROM unnest(at) u) WHEN b.x THEN ' ok' ELSE ' wrong' END;
END $$;
SELECT pg_temp.days('Asia/Shanghai', '2026-01-01 15:59:59.999999Z', '2026-01-01 16:00Z'), pg_temp.days('UTC', '2026-01-01 15:59Z', '2026-01-01 16:00Z'), pg_temp.days('UTC', '2026-01-01 23:59:59.999999Z', '2026-01-02 00:00Z');
SELECT pg_temp.days('America/New_York', '2026-03-08 04:59Z', '2026-03-08 05:00Z', '2026-03-09 03:59Z', '2026-03-09 04:00Z') AS "a day of 23 hours",
	pg_temp.days('America/New_York', '2026-11-01 03:59Z', '2026-11-01 04:00Z', '2026-11-02 04:59Z', '2026-11-02 05:00Z') AS "of 25",
	pg_temp.days('America/Sao_Paulo', '2018-11-04 02:59Z', '2018-11-04 03:00Z', '2018-11-05 01:59Z', '2018-11-05 02:00Z') AS "without midnight",
	pg_temp.days('America/St_Johns', '2006-10-29 02:29Z', '2006-10-29 02:30:30Z', '2006-10-29 02:31:30Z', '2006-10-29 03:29Z', '2006-10-29 03:31Z') AS "back over midnight",
	pg_temp.days('Pacific/Apia', '2011-12-30 09:59Z', '2011-12-30 10:00Z') AS "a day left out", pg_temp.days('Asia/Shanghai', '1899-12-31 15:54Z', '1899-12-31 15:55Z') AS "local mean time";
SELECT pg_temp.days('Asia/Shanghai', '4714-11-24 00:00Z BC', '2029-12-31 00:00Z'), pg_temp.days('America/New_York', '1999-12-31 23:00Z', '2000-01-01 00:00Z', '2000-01-01 05:00Z');
-- amounts: eight decimals, large ones, means as a division would give them
SELECT (cdp.btyd(at, amount, '2026-02-01', '1 day')).mean_amount FROM (VALUES ('2026-01-01'::timestamptz, 5::numeric), ('2026-01-02', 0.1), ('2026-01-03', 0.2), ('2026-01-04', 0.3)) v(at, amount);
SELECT m, mean FROM unnest('{0.00000001,0.000000004,0.000000006,12345678901234.12,99999999999999999999,1e-30,0,-0.000000001}'::numeric[]) m,
	LATERAL (SELECT (cdp.btyd(at, CASE WHEN at = '2026-01-02' THEN m ELSE 1 END, '2026-02-01', '1 day')).mean_amount AS mean FROM (VALUES ('2026-01-01'::timestamptz), ('2026-01-02')) v(at)) b;
SELECT mean_amount FROM cdp.btyd_table('2026-02-01', 'VALUES (1, ''2026-01-01''::date, 1::numeric), (1, ''2026-01-02'', 99999999999999999999), (1, ''2026-01-03'', 1), (2, ''2026-01-01'', 1), (2, ''2026-01-01'', 1), (2, ''2026-01-02'', 12345.123456)') ORDER BY customer_id;
-- any id
SELECT customer_id, x FROM cdp.btyd_table('2026-02-01', $$SELECT id, '2026-01-01'::date + i, 1 FROM unnest('{0,-1,9223372036854775807,-9223372036854775808,4294967296}'::bigint[]) id, generate_series(0, 1) i$$) ORDER BY 1;
-- bad input: what, message and hint
CREATE FUNCTION pg_temp.try(q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text; message text; answer text;
BEGIN
	EXECUTE 'SELECT t::text FROM (' || q || ') t' INTO answer;
	RETURN answer;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT, message = MESSAGE_TEXT;
	RETURN sqlstate || ' ' || message || ' | ' || hint;
END $$;
SELECT u AS unit, pg_temp.try(format('SELECT cdp.btyd(at, amount, cdp.now(), %L) FROM p WHERE customer_id = 2', u)) AS aggregate,
	pg_temp.try(format('SELECT count(*) FROM cdp.btyd_table(NULL, ''TABLE p'', %L)', u)) AS "table"
	FROM unnest('{1 month,23 hours,1 day 1 second,0 days,-7 days,1000001 days,24 hours,14 days}'::interval[]) u;
SELECT a AS as_of, pg_temp.try(format('SELECT cdp.btyd(at, amount, %L, ''7 days'') FROM p WHERE customer_id = 2', a)) AS aggregate, pg_temp.try(format('SELECT count(*) FROM cdp.btyd_table(%L, ''TABLE p'')', a)) AS "table" FROM unnest('{infinity,-infinity}'::timestamptz[]) a;
SELECT v AS row, pg_temp.try(format('SELECT cdp.btyd(%s, cdp.now(), ''7 days'')', v)) AS aggregate, pg_temp.try(format('SELECT count(*) FROM cdp.btyd_table(NULL, $q$SELECT 1, %s$q$)', v)) AS "table"
	FROM unnest(ARRAY['timestamptz ''infinity'', 1', 'timestamptz ''-infinity'', 1', 'timestamptz ''2020-01-01'', numeric ''NaN''', 'timestamptz ''2020-01-01'', numeric ''Infinity''', 'timestamptz ''2030-01-01'', numeric ''NaN''', 'timestamptz ''2020-01-01'', 1e20', 'timestamptz ''2020-01-01'', -1e30']) v;
SELECT pg_temp.try('SELECT cdp.btyd(at, amount, cdp.now() + (amount > 40)::int * interval ''1 day'', ''7 days'') FROM p') AS as_of_differs;
SELECT pg_temp.try('SELECT cdp.btyd(at, amount, cdp.now(), (customer_id || '' days'')::interval) FROM p') AS unit_differs;
SELECT pg_temp.try('SELECT cdp.btyd(at, amount, cdp.now(), ''7 days'', CASE WHEN customer_id = 1 THEN ''ignore'' ELSE ''net_day'' END) FROM p') AS refunds_differ;
SELECT r AS refunds, pg_temp.try(format('SELECT cdp.btyd(at, amount, cdp.now(), ''7 days'', %L) FROM p WHERE customer_id = 2', r)) AS aggregate, pg_temp.try(format('SELECT count(*) FROM cdp.btyd_table(NULL, ''TABLE p'', refunds => %L)', r)) AS "table"
	FROM unnest(ARRAY['net', 'cancel', '', 'Ignore', repeat('长', 100), NULL]) r;
SELECT pg_temp.try('SELECT cdp._btyd_accum(''()'', now(), now(), ''1 day'')'), pg_temp.try('SELECT cdp._btyd_combine(''()'', ''()'')');
-- a query that is not fit; names are found in the caller's path; nothing is written
CREATE TABLE value_btyd_t (i int);
CREATE FUNCTION public.value_btyd_write() RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO public.value_btyd_t VALUES (1) RETURNING 1';
CREATE FUNCTION public.value_btyd_fail(i int) RETURNS int LANGUAGE plpgsql AS $$BEGIN IF i = 5000 THEN RAISE 'row 5000' USING ERRCODE = 'XX123'; END IF; RETURN i; END$$;
SELECT q AS query, pg_temp.try(format('SELECT count(*) FROM cdp.btyd_table(NULL, %L)', q)) AS answer FROM unnest(ARRAY['', 'SELECT', 'SELECT 1', 'SELECT 1, now()', 'SELECT 1, now(), 1, ''CNY'', 5', 'SELECT ''a''::text, now(), 1', 'SELECT 1, ''a''::text, 1', 'SELECT 1, now(), ''a''::text', 'SELECT 1, now(), 1, 5',
	'SELECT 1, now(), 1; SELECT 1', 'DELETE FROM value_btyd_t', 'WITH d AS (DELETE FROM value_btyd_t RETURNING i) SELECT i, now(), 1 FROM d', 'SELECT i, now(), 1 FROM value_btyd_t FOR UPDATE', 'SELECT i, now(), 1 FROM nowhere',
	'SELECT value_btyd_write(), now(), 1', 'SELECT value_btyd_fail(i), now(), 1 FROM generate_series(1, 10000) i', 'SELEC 1']) q;
SELECT count(*) AS written FROM value_btyd_t;
INSERT INTO value_btyd_t VALUES (7);
SELECT customer_id FROM cdp.btyd_table(NULL, 'SELECT i, ''2026-01-01''::timestamptz, 1 FROM value_btyd_t');
-- currencies
SELECT pg_temp.try($$SELECT count(*) FROM cdp.btyd_table(NULL, 'SELECT 1, cdp.now(), 1, c FROM unnest(''{CNY,USD}''::text[]) c')$$) AS two,
	pg_temp.try($$SELECT count(*) FROM cdp.btyd_table(NULL, 'SELECT 1, cdp.now(), 1, c FROM unnest(''{CNY,NULL,CNY}''::text[]) c')$$) AS one,
	pg_temp.try($$SELECT count(*) FROM cdp.btyd_table(NULL, 'SELECT 1, cdp.now(), 1', currency => 'CNY')$$) AS no_column,
	pg_temp.try($$SELECT count(*) FROM cdp.btyd_table(NULL, 'SELECT 1, cdp.now(), 1, ''EUR''', currency => 'CNY')$$) AS no_rate;
INSERT INTO cdp.currency_rate (from_currency, to_currency, rate, valid_from) VALUES ('USD', 'CNY', 7, '2026-01-01+08'), ('USD', 'CNY', 8, '2026-02-01+08');
SELECT customer_id, x, mean_amount FROM cdp.btyd_table(NULL, $$VALUES (1, '2026-01-10'::date, 5::numeric, 'CNY'), (1, '2026-01-11', 10, 'USD'), (1, '2026-02-11', 10, 'USD'), (1, '2026-03-11', 10, 'EUR'), (NULL, '2026-01-11', 10, 'EUR')$$, currency => 'CNY');
-- the orders of the CDP, by One ID; nobody else may read them
SELECT cdp.identify('{"phone": "13800000001"}') AS one, cdp.identify('{"email": "one@example.com"}') AS two \gset
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount, refunded, currency) VALUES
	('b1', :one, '2026-01-01 09:00+08', 'paid', 100, 0, 'CNY'), ('b2', :one, '2026-01-08 09:00+08', 'refunded', 50, 50, 'CNY'), ('b3', :one, '2026-01-15 09:00+08', 'completed', 80, 30, 'CNY'), ('b4', :one, '2026-01-22 09:00+08', 'cancelled', 80, 0, 'CNY'),
	('b5', :two, '2026-01-02 09:00+08', 'shipped', 10, 0, 'CNY');
SELECT customer_id = :one AS one, x, t_x, mean_amount, first_at, last_at FROM cdp.btyd_table() ORDER BY x DESC;
SELECT customer_id = :one AS one, x, t_x, mean_amount, first_at, last_at FROM cdp.btyd_table(refunds => 'net_day') ORDER BY x DESC;
SELECT cdp.merge_customers(:one, :two, 'test') = :one AS merged;
SELECT customer_id = :one AS one, x, round(t_x::numeric, 6) AS t_x, round(mean_amount::numeric, 6) AS mean, first_at, last_at FROM cdp.btyd_table();
CREATE ROLE value_btyd_nobody;
SET ROLE value_btyd_nobody;
SELECT pg_temp.try('SELECT count(*) FROM cdp.btyd_table()');
RESET ROLE;
SELECT cdp.grant_access('reader', 'value_btyd_nobody') IS NOT NULL AS granted;
SET ROLE value_btyd_nobody;
SELECT count(*) FROM cdp.btyd_table();
SELECT count(*) FROM cdp.btyd_table(purchases => 'SELECT i, now(), 1 FROM value_btyd_t');
RESET ROLE;
SELECT cdp.revoke_access('reader', 'value_btyd_nobody') IS NOT NULL AS revoked;
DROP ROLE value_btyd_nobody;
-- states: sound ones come back, others do not come in
CREATE FUNCTION pg_temp.state(state text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	why text;
BEGIN
	RETURN state::cdp.btyd_state;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
	RETURN sqlstate || ' ' || coalesce(nullif(why, ''), sqlerrm);
END $$;
SELECT t AS text, pg_temp.state(t) = t AS same FROM unnest(ARRAY['()', '(0,0,7,days)', '(820454400000000,9496,7,ignore)(9300,1999000000,1)(9400,0,1)', '(0,0,1,net_day)(-5,-170000000000000000000000000,0)(-1,0,1)']) t;
SELECT t AS text, pg_temp.state(t) AS answer FROM unnest(ARRAY['', '(', '(0,0,7)', '(0,0,7,net)', '(0,0,7,ignore', '(0,0,0,ignore)', '(0,0,1000001,ignore)', '(0,5,7,ignore)', '(9223372036854775807,0,7,days)', '(-9223372036854775808,0,7,days)', '(0,0,7,ignore)(0,1)', '(0,0,7,ignore)(0,1,2)',
	'(0,0,7,ignore)(0,-1,1)', '(0,0,7,ignore)(0,1,0)', '(0,0,7,days)(0,1,1)', '(0,0,7,net_day)(0,1,0)', '(0,0,7,ignore)(1,0,1)(1,0,1)', '(0,0,7,ignore)(2,0,1)', '(0,0,7,ignore)(-99999999,0,1)', '(0,0,7,ignore)(-1,1e5,1)', '(0,0,7,ignore)(-1,100000000000000000000000000000000000000000,1)',
	'(0,0,7,ignore)(-1,0,1)x', ' ()', '(0,0,7,ignore)(-1,0,-1)']) t;
SELECT encode(cdp._btyd_state_send(t::cdp.btyd_state), 'hex') AS binary FROM unnest(ARRAY['()', '(0,0,7,net_day)(-5,-1,0)(-1,25,1)']) t;
-- a state in a table, combined: the stored one stays as it is
CREATE AGGREGATE pg_temp.collect(timestamptz, numeric, timestamptz, interval) (SFUNC = cdp._btyd_accum, STYPE = cdp.btyd_state, INITCOND = '()');
CREATE AGGREGATE pg_temp.merge(cdp.btyd_state) (SFUNC = cdp._btyd_combine, STYPE = cdp.btyd_state);
CREATE TEMP TABLE s AS SELECT amount > 40 AS part, pg_temp.collect(at, amount, '2026-03-01+08', '7 days') AS st FROM p WHERE customer_id = 2 GROUP BY 1;
SELECT cdp._btyd_final(pg_temp.merge(st ORDER BY part)), cdp._btyd_final(pg_temp.merge(st ORDER BY part DESC)) FROM s;
TABLE s ORDER BY part;
SELECT pg_temp.merge(st::cdp.btyd_state) FROM unnest(ARRAY['(0,0,7,ignore)', '(1,0,7,ignore)']) st;
SELECT pg_temp.merge(st::cdp.btyd_state) FROM unnest(ARRAY['(0,0,7,ignore)', '(0,0,8,ignore)']) st;
SELECT pg_temp.merge(st::cdp.btyd_state) FROM unnest(ARRAY['(0,0,7,ignore)', '(0,0,7,net_day)']) st;
SELECT pg_temp.merge(st::cdp.btyd_state) FROM unnest(ARRAY['(0,0,7,ignore)', '(0,-1,7,ignore)']) st;
SELECT pg_temp.merge(st::cdp.btyd_state) FROM unnest(ARRAY['()', '(0,0,7,net_day)(-5,-1,0)(-1,25,1)', '()', '(0,0,7,net_day)(-5,3,1)(-2,25,1)']) st;
-- as a window the rows before are kept
SELECT at, (cdp.btyd(at, amount, '2026-03-01+08', '1 day') OVER (ORDER BY at)).x FROM p WHERE customer_id = 2 ORDER BY at;
DROP TABLE value_btyd_t;
DROP FUNCTION public.value_btyd_write(), public.value_btyd_fail(int);
