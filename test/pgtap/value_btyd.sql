-- cdp.btyd and cdp.btyd_table against window functions that share nothing with them, over random data; damaged states; real purchases.
BEGIN;
SELECT plan(24);
\getenv seed CDP_SEED
\if :{?seed}
\else
\set seed 20260401
\endif
SELECT diag('seed ' || :'seed' || ' (CDP_SEED chooses another)');
SELECT setseed((:seed % 1000) / 1000.0) IS NULL AS x \gset
SET LOCAL TimeZone = 'UTC';
SET LOCAL cdp.timezone = 'Asia/Shanghai';
-- many rows of one day, moments around midnight, refunds, NULLs, rows after as_of, refunds only, ids of every size
CREATE TEMP TABLE p AS
SELECT CASE WHEN random() < 0.01 THEN NULL WHEN random() < 0.3 THEN 9e17::bigint - floor(random() * 50)::bigint ELSE floor(random() ^ 2 * 500)::bigint - 20 END AS customer_id,
	CASE WHEN random() < 0.01 THEN NULL ELSE '2024-01-01'::timestamptz + floor(random() * 600) * interval '1 day' + CASE WHEN random() < 0.2 THEN interval '0' WHEN random() < 0.3 THEN interval '16 hours' - floor(random() * 3) * interval '1 microsecond'
		ELSE random() * interval '1 day' END END AS at,
	CASE WHEN random() < 0.01 THEN NULL WHEN random() < 0.2 THEN -round((random() * 50)::numeric, 2) WHEN random() < 0.02 THEN round((random() * 1e6)::numeric, 8) WHEN random() < 0.01 THEN 1e15 + round(random()::numeric, 2)
	     ELSE round((random() * 8)::numeric) * 5 END AS amount, random() AS shuffle, floor(random() * 5)::int AS part
FROM generate_series(1, 12000);
INSERT INTO p SELECT 1000 + i, '2025-01-01', -1, 0, 0 FROM generate_series(1, 5) i;
-- the definition, in SQL: days, then windows
CREATE FUNCTION pg_temp.plain(as_of timestamptz, unit int, net boolean, zone text) RETURNS TABLE (customer_id bigint, x bigint, t_x float8, t_cal float8, mean_amount float8, log_gaps float8, first_at timestamptz, last_at timestamptz) LANGUAGE sql AS $$
	WITH r AS (SELECT p.customer_id, at, amount, (at AT TIME ZONE zone)::date AS day FROM p WHERE at <= as_of AND amount IS NOT NULL AND p.customer_id IS NOT NULL AND (net OR amount >= 0)),
	d AS (SELECT r.customer_id, day, sum(amount) AS money, min(at) FILTER (WHERE amount >= 0) AS first, max(at) FILTER (WHERE amount >= 0) AS last FROM r GROUP BY 1, 2 HAVING NOT net OR sum(amount) > 0),
	w AS (SELECT *, row_number() OVER c AS i, day - lag(day) OVER c AS gap FROM d WINDOW c AS (PARTITION BY d.customer_id ORDER BY day))
	SELECT w.customer_id, count(*) - 1, (max(day) - min(day)) / unit::float8, ((as_of AT TIME ZONE zone)::date - min(day)) / unit::float8,
		(sum(money) FILTER (WHERE i > 1) / nullif(count(*) - 1, 0))::float8, coalesce(sum(ln(gap / unit::float8) ORDER BY i), 0), min(first), max(last)
	FROM w GROUP BY 1 $$;
\set as_of '''2025-06-30 15:30:00Z''::timestamptz'
\set same 'a.x IS DISTINCT FROM b.x OR a.t_x IS DISTINCT FROM b.t_x OR a.t_cal IS DISTINCT FROM b.t_cal OR (a.mean_amount IS NULL) <> (b.mean_amount IS NULL) OR abs(a.mean_amount - b.mean_amount) > 4e-16 * abs(b.mean_amount) OR abs(a.log_gaps - b.log_gaps) > 1e-12'
\set same_times ' OR a.first_at IS DISTINCT FROM b.first_at OR a.last_at IS DISTINCT FROM b.last_at'
CREATE TEMP TABLE plain AS SELECT * FROM pg_temp.plain(:as_of, 7, false, 'Asia/Shanghai');
CREATE TEMP TABLE plain_net AS SELECT * FROM pg_temp.plain(:as_of, 1, true, 'Asia/Shanghai');
CREATE TEMP TABLE ours AS SELECT * FROM cdp.btyd_table('2025-06-30 15:30:00Z', 'SELECT customer_id, at, amount FROM p');
CREATE TEMP TABLE ours_net AS SELECT * FROM cdp.btyd_table('2025-06-30 15:30:00Z', 'SELECT customer_id, at, amount FROM p', '1 day', 'net_day');
CREATE TEMP TABLE agg AS SELECT customer_id, (b).* FROM (SELECT customer_id, cdp.btyd(at, amount, :as_of, '7 days') AS b FROM p WHERE customer_id IS NOT NULL GROUP BY 1) s WHERE b IS DISTINCT FROM NULL;
CREATE TEMP TABLE agg_net AS SELECT customer_id, (b).* FROM (SELECT customer_id, cdp.btyd(at, amount, :as_of, '1 day', 'net_day') AS b FROM p WHERE customer_id IS NOT NULL GROUP BY 1) s WHERE b IS DISTINCT FROM NULL;
SELECT cmp_ok((SELECT count(*) FROM plain WHERE x > 5), '>', 300::bigint, 'there is something to compare');
SELECT isnt((SELECT sum(x) FROM plain), (SELECT sum(x) FROM plain_net), 'and the rules differ');
SELECT is_empty('SELECT FROM ours a FULL JOIN plain b USING (customer_id) WHERE ' || :'same' || :'same_times', 'btyd_table is what window functions say');
SELECT is_empty('SELECT FROM ours_net a FULL JOIN plain_net b USING (customer_id) WHERE ' || :'same' || :'same_times', 'with net_day too');
SELECT bag_eq('SELECT customer_id, x, t_x, t_cal, mean_amount, log_gaps FROM agg', 'SELECT customer_id, x, t_x, t_cal, mean_amount, log_gaps FROM ours', 'the aggregate is the table, to the last bit');
SELECT bag_eq('SELECT customer_id, x, t_x, t_cal, mean_amount, log_gaps FROM agg_net', 'SELECT customer_id, x, t_x, t_cal, mean_amount, log_gaps FROM ours_net', 'with net_day too');
SELECT is_empty('SELECT FROM (SELECT customer_id, (cdp.btyd(at, ''2025-06-30 15:30:00Z'', ''7 days'')).* FROM p WHERE amount >= 0 AND customer_id IS NOT NULL GROUP BY 1) a JOIN ours b USING (customer_id) WHERE (a.x, a.t_x, a.t_cal, a.log_gaps) IS DISTINCT FROM (b.x, b.t_x, b.t_cal, b.log_gaps) OR a.mean_amount IS NOT NULL',
	'without amounts: the same days');
-- order, splitting, plans
SELECT bag_eq('SELECT customer_id, (cdp.btyd(at, amount, ''2025-06-30 15:30:00Z'', ''1 day'', ''net_day'')).* FROM (SELECT * FROM p WHERE customer_id IN (SELECT customer_id FROM ours_net) ORDER BY shuffle OFFSET 0) s GROUP BY 1', 'SELECT * FROM agg_net', 'the order of the rows does not matter');
SELECT bag_eq('SELECT customer_id, x, t_x, t_cal, mean_amount, log_gaps, first_at, last_at FROM cdp.btyd_table(''2025-06-30 15:30:00Z'', ''SELECT customer_id, at, amount FROM p ORDER BY shuffle'', ''1 day'', ''net_day'')', 'SELECT * FROM ours_net', 'nor in the table');
CREATE AGGREGATE pg_temp.collect(timestamptz, numeric, timestamptz, interval, text) (SFUNC = cdp._btyd_accum, STYPE = cdp.btyd_state, INITCOND = '()');
CREATE AGGREGATE pg_temp.merge(cdp.btyd_state) (SFUNC = cdp._btyd_combine, STYPE = cdp.btyd_state, INITCOND = '()');
CREATE TEMP TABLE st AS SELECT customer_id, part, pg_temp.collect(at, amount, '2025-06-30 15:30:00Z', '1 day', 'net_day') AS s FROM p WHERE customer_id IN (SELECT customer_id FROM ours_net) GROUP BY 1, 2;
SELECT bag_eq('SELECT customer_id, (cdp._btyd_final(pg_temp.merge(s::text::cdp.btyd_state))).* FROM st GROUP BY 1', 'SELECT * FROM agg_net', 'split, written as text, read and combined: the same');
CREATE TABLE value_btyd_p AS SELECT * FROM p WHERE customer_id IN (SELECT customer_id FROM ours_net);
ALTER TABLE value_btyd_p SET (parallel_workers = 2);
SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0;
CREATE FUNCTION pg_temp.plan_of(q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE t text := ''; l text;
BEGIN FOR l IN EXECUTE 'EXPLAIN (COSTS OFF) ' || q LOOP t := t || l || E'\n'; END LOOP; RETURN t; END $$;
SELECT matches(pg_temp.plan_of('SELECT customer_id, cdp.btyd(at, amount, ''2025-06-30 15:30:00Z'', ''1 day'', ''net_day'') FROM value_btyd_p GROUP BY 1'), 'Finalize.*Gather.*Partial', 'the plan is parallel');
SELECT bag_eq('SELECT customer_id, (b).* FROM (SELECT customer_id, cdp.btyd(at, amount, ''2025-06-30 15:30:00Z'', ''1 day'', ''net_day'') AS b FROM value_btyd_p GROUP BY 1) s', 'SELECT * FROM agg_net', 'in parallel: the same');
SELECT bag_eq('SELECT * FROM cdp.btyd_table(''2025-06-30 15:30:00Z'', ''SELECT customer_id, at, amount FROM value_btyd_p'', ''1 day'', ''net_day'')', 'SELECT * FROM ours_net', 'a source that runs in parallel: the same');
RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size;
-- zones: days move, the session's TimeZone moves nothing
SET LOCAL TimeZone = 'America/New_York';
SELECT bag_eq('SELECT * FROM cdp.btyd_table(''2025-06-30 15:30:00Z'', ''SELECT customer_id, at, amount FROM p'')', 'SELECT * FROM ours', 'TimeZone of the session');
CREATE FUNCTION pg_temp.zones() RETURNS TABLE (zone text, wrong bigint) LANGUAGE plpgsql AS $$
BEGIN
	FOR zone IN SELECT unnest('{UTC,America/New_York,Europe/London,America/St_Johns,Asia/Kathmandu,Pacific/Apia,Australia/Lord_Howe,America/Havana,Asia/Tehran,Africa/Cairo}'::text[]) LOOP
		PERFORM set_config('cdp.timezone', zone, true);
		-- three hundred years of moments, half of them within an hour of midnight
		CREATE TEMP TABLE z AS SELECT at, (at AT TIME ZONE zone)::date AS day FROM (SELECT '1900-01-01'::timestamptz + CASE WHEN random() < 0.5 THEN date_trunc('day', random() * interval '60000 days') - interval '12 hours' + floor(random() * 48) * interval '30 minutes' + random() * interval '5 seconds'
			ELSE random() * interval '60000 days' END AS at FROM generate_series(1, 4000)) s;
		SELECT count(*) INTO wrong FROM (SELECT (cdp.btyd(u, '2100-01-01', '1 day')).t_x AS ours, abs(a.day - b.day) AS plain FROM (SELECT at, day, row_number() OVER () AS i FROM z) a JOIN (SELECT at, day, row_number() OVER () - 1 AS i FROM z) b USING (i), unnest(ARRAY[a.at, b.at]) u GROUP BY i, a.day, b.day) s WHERE ours <> plain;
		DROP TABLE z;
		RETURN NEXT;
	END LOOP;
END $$;
SELECT is_empty('SELECT * FROM pg_temp.zones() WHERE wrong > 0', 'the days of ten zones are those of PostgreSQL');
SET LOCAL cdp.timezone = 'America/New_York';
SELECT is_empty('SELECT FROM cdp.btyd_table(''2025-06-30 15:30:00Z'', ''SELECT customer_id, at, amount FROM p'') a FULL JOIN pg_temp.plain(''2025-06-30 15:30:00Z'', 7, false, ''America/New_York'') b USING (customer_id) WHERE ' || :'same' || :'same_times', 'and so is the whole table');
SET LOCAL cdp.timezone = 'Asia/Shanghai';
-- what the numbers promise each other
SELECT is_empty('SELECT FROM ours WHERE x < 0 OR t_x < 0 OR t_x > t_cal OR (x = 0) <> (t_x = 0) OR (x = 0) <> (mean_amount IS NULL) OR first_at > last_at', 'x = 0 exactly when t_x = 0; t_x <= t_cal');
SELECT is_empty('SELECT FROM ours a JOIN cdp.btyd_table(''2025-06-30 15:30:00Z'', ''SELECT customer_id, at, amount FROM p'', ''1 day'') b USING (customer_id) WHERE a.x <> b.x OR abs(a.t_x * 7 - b.t_x) > 1e-9 OR abs(a.t_cal * 7 - b.t_cal) > 1e-9 OR abs(a.log_gaps + a.x * ln(7::float8) - b.log_gaps) > 1e-9 OR a.mean_amount <> b.mean_amount', 'days for weeks: times seven, else the same');

-- binary states: what is sent comes back; damaged ones are refused or are states again, the server lives
CREATE TEMP TABLE sent (s cdp.btyd_state);
INSERT INTO sent SELECT s FROM st LIMIT 300;
INSERT INTO sent VALUES ('()');
SELECT current_setting('data_directory') || '/value_btyd.bin' AS file \gset
COPY sent TO :'file' (FORMAT binary);
CREATE TEMP TABLE back (s cdp.btyd_state);
COPY back FROM :'file' (FORMAT binary);
SELECT bag_eq('SELECT s::text FROM back', 'SELECT s::text FROM sent', 'binary round trip');
CREATE FUNCTION pg_temp.damage(path text) RETURNS TABLE (how text, answer text) LANGUAGE plpgsql AS $$
DECLARE
	good bytea := (SELECT cdp._btyd_state_send('(820454400000000,9496,7,net_day)(9300,1999000000,1)(9350,-50,0)(9400,0,1)'::cdp.btyd_state));
	bad  bytea;
BEGIN
	FOR i IN 0 .. 999 LOOP
		how := CASE i % 3 WHEN 0 THEN 'cut' WHEN 1 THEN 'changed' ELSE 'longer' END;
		bad := CASE i % 3 WHEN 0 THEN substr(good, 1, floor(random() * length(good))::int)
		                  WHEN 1 THEN set_byte(good, floor(random() * length(good))::int, floor(random() * 256)::int)
		                  ELSE good || decode(lpad(to_hex(floor(random() * 65536)::int), 4, '0'), 'hex') END;
		BEGIN
			EXECUTE format('COPY (SELECT %L::bytea) TO %L (FORMAT binary)', bad, path);
			TRUNCATE pg_temp.back;
			EXECUTE format('COPY pg_temp.back FROM %L (FORMAT binary)', path);
			-- what came in is sound: its own text form is accepted
			SELECT CASE WHEN s::text::cdp.btyd_state::text = s::text AND cdp._btyd_final(s) IS DISTINCT FROM ROW(-1, 0, 0, 0, 0)::cdp.btyd THEN 'sound' ELSE 'unsound' END INTO answer FROM pg_temp.back;
		EXCEPTION WHEN OTHERS THEN
			answer := sqlstate;
		END;
		RETURN NEXT;
	END LOOP;
END $$;
CREATE TEMP TABLE damage AS SELECT * FROM pg_temp.damage(:'file');
SELECT set_eq('SELECT DISTINCT answer FROM damage', $$VALUES ('22P03'), ('08P01'), ('sound')$$, 'damaged binary states: 22P03, a protocol error or a sound state');
SELECT is_empty('SELECT FROM damage WHERE how <> ''changed'' AND answer = ''sound'' ', 'neither short nor long ones come in');
-- many rows of one customer, so that a state grows and a part has them all
SELECT results_eq('SELECT (cdp.btyd(''2000-01-01''::timestamptz + (i * 7919 % 20000) * interval ''1 hour'', 1, ''2010-01-01'', ''1 day'')).x FROM generate_series(1, 100000) i', 'SELECT x FROM cdp.btyd_table(''2010-01-01'', ''SELECT 1, ''''2000-01-01''''::timestamptz + (i * 7919 % 20000) * interval ''''1 hour'''', 1 FROM generate_series(1, 100000) i'')', 'a hundred thousand rows of one customer');

-- real purchases, where they are at hand
\getenv data CDP_DATA
\if :{?data}
\else
\set data /nowhere
\endif
\set file :data '/cdnow/cdnow_sample.csv'
CREATE TEMP TABLE cdnow (customer_id int, ordered_at date, quantity int, amount numeric);
SELECT coalesce((pg_stat_file(:'file', true)).size > 0, false) AS have \gset
\if :have
\copy cdnow FROM PROGRAM 'cat "$CDP_DATA"/cdnow/cdnow_sample.csv' (FORMAT csv, HEADER)
SELECT results_eq('SELECT count(*), count(*) FILTER (WHERE x > 0), sum(x) FROM cdp.btyd_table(''1997-09-30 23:59:59+08'', ''SELECT customer_id, ordered_at, amount FROM cdnow'')', 'VALUES (2357::bigint, 946::bigint, 2457::numeric)', 'CDNOW to 1997-09-30: 2,357 customers, 946 came back, 2,457 times');
SELECT results_eq('SELECT x, round(t_x::numeric, 2), round(t_cal::numeric, 2), mean_amount FROM cdp.btyd_table(''1997-09-30'', ''SELECT customer_id, ordered_at, amount FROM cdnow WHERE customer_id = 1'')', 'VALUES (2::bigint, 30.43, 38.86, 22.345::float8)', 'CDNOW: the first customer as published');
\else
SELECT skip('no CDNOW data: CDP_DATA names the directory', 2);
\endif
SELECT * FROM finish();
ROLLBACK;
