-- The fits: what must not change the answer does not, to the last bit; what must change it does; damaged states.
BEGIN;
SELECT plan(33);
\getenv seed CDP_SEED
\if :{?seed}
\else
\set seed 20260101
\endif
SELECT diag('seed ' || :'seed' || ' (CDP_SEED chooses another)');
SELECT setseed((:seed % 1000) / 1000.0) IS NULL AS x \gset
-- Marsaglia, Tsang 2000
CREATE FUNCTION pg_temp.random_gamma(shape float8) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
	d float8 := CASE WHEN shape < 1 THEN shape + 1 ELSE shape END - 1.0 / 3;
	z float8; v float8;
BEGIN
	LOOP
		z := sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random());
		v := (1 + z / sqrt(9 * d)) ^ 3;
		IF v > 0 AND ln(1 - random()) < 0.5 * z * z + d - d * v + d * ln(v) THEN
			RETURN d * v * CASE WHEN shape < 1 THEN (1 - random()) ^ (1 / shape) ELSE 1 END;
		END IF;
	END LOOP;
END $$;
-- customers of an MBG/CNBD-k: weeks, or with day = 0 continuous time; phases of mean 1/k
CREATE FUNCTION pg_temp.buyers(n int, k int, day float8) RETURNS TABLE (x float8, t_x float8, t_cal float8, log_gaps float8, amount float8) LANGUAGE plpgsql AS $$
DECLARE
	rate float8; leaves float8; stays float8; at float8; gap float8; size float8;
BEGIN
	FOR i IN 1 .. n LOOP
		rate := k * pg_temp.random_gamma(0.8) / 6; size := pg_temp.random_gamma(4) / 15;
		leaves := pg_temp.random_gamma(0.9); stays := pg_temp.random_gamma(2);
		t_cal := 30 + floor(random() * 70) / 7; x := 0; t_x := 0; log_gaps := 0; amount := 0;
		LOOP
			EXIT WHEN random() < leaves / (leaves + stays);
			gap := pg_temp.random_gamma(k) / rate;
			at := t_x + CASE WHEN day > 0 THEN ceil(gap / day) * day ELSE gap END;
			EXIT WHEN at > t_cal;
			x := x + 1; log_gaps := log_gaps + ln(at - t_x); t_x := at; amount := amount + pg_temp.random_gamma(6) / size;
		END LOOP;
		amount := amount / nullif(x, 0);
		RETURN NEXT;
	END LOOP;
END $$;
CREATE TABLE value_fit_p AS SELECT *, floor(random() * 5)::int AS part, 1 + floor(random() * 4) AS times, random() AS shuffle FROM pg_temp.buyers(3000, 1, 1 / 7.0);
ALTER TABLE value_fit_p SET (parallel_workers = 2);
ANALYZE value_fit_p;
-- all fits of a source as one text; w is the weight of a row, NULL: without one
CREATE FUNCTION pg_temp.fits(source text, w text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r text;
BEGIN
	EXECUTE format('SELECT concat_ws(E''\n'', cdp.fit_bgnbd(x, t_x, t_cal%1$s), cdp.fit_mbgnbd(x, t_x, t_cal%1$s), cdp.fit_paretonbd(x, t_x, t_cal%1$s), cdp.fit_nbd(x, t_cal%1$s),
		cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps%1$s), cdp.fit_gammagamma(x, amount%1$s), cdp.fit_bgbb(least(x, 5), CASE WHEN x > 0 THEN greatest(least(x, 5), ceil(t_x / t_cal * 8)) ELSE 0 END, 8%1$s),
		cdp.fit_sbg(1 + x::int, part > 0%1$s)) FROM %2$s', ', ' || w, source) INTO r;
	RETURN r;
END $$;
SET LOCAL max_parallel_workers_per_gather = 0;
SELECT pg_temp.fits('(SELECT * FROM value_fit_p OFFSET 0) s') AS fits \gset
SELECT is((SELECT count(*) FROM regexp_matches(:'fits', '"?boundary|flat ridge', 'g')) <= 2, true, 'nearly all fits end inside');
SELECT doesnt_match(:'fits'::text, 'NaN|Infinity', 'and are numbers');
SELECT is(pg_temp.fits('(SELECT * FROM value_fit_p ORDER BY random() LIMIT 100000) s'), :'fits', 'another order of the rows: the same text, first time');
SELECT is(pg_temp.fits('(SELECT * FROM value_fit_p ORDER BY shuffle LIMIT 100000) s'), :'fits', '... second time');
SELECT is(pg_temp.fits('(SELECT * FROM value_fit_p ORDER BY x DESC, t_cal, shuffle LIMIT 100000) s'), :'fits', '... third time');
SELECT is(pg_temp.fits('(SELECT x, t_x, t_cal, log_gaps, amount, part, count(*)::float8 AS n FROM value_fit_p GROUP BY 1, 2, 3, 4, 5, 6) s', 'n'), :'fits', 'rows or (distinct row, weight): the same text');
SELECT is(pg_temp.fits('value_fit_p', 'times'), pg_temp.fits('value_fit_p, generate_series(1, times::int)'), 'a weight or so many rows: the same text');
SELECT is(pg_temp.fits('(SELECT * FROM value_fit_p ORDER BY shuffle LIMIT 100000) s', 'shuffle + 0.1'), pg_temp.fits('(SELECT * FROM value_fit_p ORDER BY random() LIMIT 100000) s', 'shuffle + 0.1'), 'weights that are no whole numbers: any order, the same text');
SELECT is(pg_temp.fits('value_fit_p', '0.5'), pg_temp.fits('(SELECT * FROM value_fit_p UNION ALL SELECT * FROM value_fit_p) s', '0.25'), 'half of all, and twice a quarter');
SET LOCAL max_parallel_workers_per_gather = 2; SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0;
CREATE FUNCTION pg_temp.plan_of(q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE t text := ''; l text;
BEGIN FOR l IN EXECUTE 'EXPLAIN (COSTS OFF) ' || q LOOP t := t || l || E'\n'; END LOOP; RETURN t; END $$;
SELECT matches(pg_temp.plan_of('SELECT cdp.fit_bgnbd(x, t_x, t_cal), cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps, times) FROM value_fit_p'), 'Finalize.*Gather.*Partial', 'the plan is parallel');
SELECT is(pg_temp.fits('value_fit_p'), :'fits', 'parallel: the same text');
SELECT is(pg_temp.fits('value_fit_p', 'times'), (SELECT pg_temp.fits('(SELECT * FROM value_fit_p OFFSET 0) s', 'times')), 'parallel with weights: the same text');
RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size;
SET LOCAL max_parallel_workers_per_gather = 0;

-- states: split, written as text and in binary, put together
CREATE AGGREGATE pg_temp.counted(float8, float8, float8) (SFUNC = cdp._fit_add_transactions, STYPE = cdp.fit_state, INITCOND = '()');
CREATE AGGREGATE pg_temp.counted(float8, float8, float8, float8) (SFUNC = cdp._fit_add_transactions, STYPE = cdp.fit_state, INITCOND = '()');
CREATE AGGREGATE pg_temp.together(cdp.fit_state) (SFUNC = cdp._fit_combine, STYPE = cdp.fit_state, INITCOND = '()', COMBINEFUNC = cdp._fit_combine);
CREATE TEMP TABLE st AS SELECT part, pg_temp.counted(x, t_x, t_cal, times * 0.1) AS s FROM value_fit_p GROUP BY 1;
INSERT INTO st VALUES (99, '()');
SELECT is((SELECT pg_temp.together(s)::text FROM st), (SELECT pg_temp.counted(x, t_x, t_cal, times * 0.1)::text FROM value_fit_p), 'parts together are the whole, tenths of customers too');
SELECT is((SELECT pg_temp.together(s::text::cdp.fit_state ORDER BY part DESC)::text FROM st), (SELECT pg_temp.counted(x, t_x, t_cal, times * 0.1)::text FROM value_fit_p), '... through text, in another order');
SELECT is((SELECT cdp._fit_mbgnbd(pg_temp.counted(x, t_x, t_cal))::text FROM value_fit_p), split_part(:'fits', E'\n', 2), 'a state that was kept gives the same model');
SELECT is((SELECT pg_temp.together(s)::text FROM (SELECT pg_temp.together(s) AS s FROM st WHERE part < 2 UNION ALL SELECT pg_temp.together(s) FROM st WHERE part >= 2) x), (SELECT pg_temp.together(s)::text FROM st), 'combined in two levels: the same');
SELECT current_setting('data_directory') || '/value_fit.bin' AS file \gset
COPY st TO :'file' (FORMAT binary);
CREATE TEMP TABLE back (part int, s cdp.fit_state);
COPY back FROM :'file' (FORMAT binary);
SELECT bag_eq('SELECT part, s::text FROM back', 'SELECT part, s::text FROM st', 'binary round trip');
CREATE FUNCTION pg_temp.damage(path text) RETURNS TABLE (how text, answer text) LANGUAGE plpgsql AS $$
DECLARE
	good bytea := (SELECT cdp._fit_state_send('(0,0,8:3;2,3.5,8:1.5;2,3.5,9.25:0.30000000000000004+-2.7755575615628914e-17)'::cdp.fit_state));
	bad  bytea;
BEGIN
	CREATE TEMP TABLE one (s cdp.fit_state);
	FOR i IN 0 .. 1499 LOOP
		how := CASE i % 3 WHEN 0 THEN 'cut' WHEN 1 THEN 'changed' ELSE 'longer' END;
		bad := CASE i % 3 WHEN 0 THEN substr(good, 1, floor(random() * length(good))::int)
		                  WHEN 1 THEN set_byte(good, floor(random() * length(good))::int, floor(random() * 256)::int)
		                  ELSE good || decode(lpad(to_hex(floor(random() * 65536)::int), 4, '0'), 'hex') END;
		BEGIN
			EXECUTE format('COPY (SELECT %L::bytea) TO %L (FORMAT binary)', bad, path);
			TRUNCATE one;
			EXECUTE format('COPY one FROM %L (FORMAT binary)', path);
			-- what came in is sound: its own text form is accepted, a fit ends or names a rule
			SELECT CASE WHEN s::text::cdp.fit_state::text = s::text THEN 'sound' ELSE 'unsound' END INTO answer FROM one;
			BEGIN
				PERFORM cdp._fit_bgnbd(s) FROM one;
			EXCEPTION WHEN invalid_parameter_value THEN
			END;
		EXCEPTION WHEN OTHERS THEN
			answer := sqlstate;
		END;
		RETURN NEXT;
	END LOOP;
	-- and damaged text
	FOR i IN 1 .. 1500 LOOP
		how := 'text';
		BEGIN
			SELECT CASE WHEN s::text::cdp.fit_state::text = s::text THEN 'sound' ELSE 'unsound' END INTO answer
			FROM (SELECT overlay('(0,0,8:3;2,3.5,8:1.5;2,3.5,9.25:0.3)' PLACING substr('0123456789.,:;()+-eE', 1 + floor(random() * 20)::int, floor(random() * 3)::int) FROM 1 + floor(random() * 36)::int FOR floor(random() * 3)::int)::cdp.fit_state AS s) x;
		EXCEPTION WHEN OTHERS THEN
			answer := sqlstate;
		END;
		RETURN NEXT;
	END LOOP;
END $$;
CREATE TEMP TABLE damage AS SELECT * FROM pg_temp.damage(:'file');
SELECT set_has('VALUES (''22P03''), (''22P02''), (''08P01''), (''sound'')', 'SELECT DISTINCT answer FROM damage', 'damaged states: 22P02, 22P03, a protocol error or a sound state');
SELECT is_empty('SELECT FROM damage WHERE how IN (''cut'', ''longer'') AND answer = ''sound''', 'neither short nor long ones come in');
SELECT is_empty('SELECT FROM damage WHERE how = ''text'' AND answer NOT IN (''sound'', ''22P02'')', 'text: 22P02 or sound');

-- another unit changes what has a unit, and nothing else
CREATE FUNCTION pg_temp.unit(f float8) RETURNS TABLE (what text, wrong float8) LANGUAGE sql AS $$
	WITH m AS (SELECT cdp.fit_bgnbd(x, t_x, t_cal) AS a, cdp.fit_bgnbd(x, f * t_x, f * t_cal) AS a2, cdp.fit_mbgnbd(x, t_x, t_cal) AS b, cdp.fit_mbgnbd(x, f * t_x, f * t_cal) AS b2,
		cdp.fit_paretonbd(x, t_x, t_cal) AS c, cdp.fit_paretonbd(x, f * t_x, f * t_cal) AS c2, cdp.fit_gammagamma(x, amount) AS g, cdp.fit_gammagamma(x, f * amount) AS g2,
		cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps) AS k, cdp.fit_mbgcnbd(x, f * t_x, f * t_cal, log_gaps + x * ln(f)) AS k2, sum(x) AS sx FROM value_fit_p)
	SELECT v.* FROM m, LATERAL (VALUES ('bgnbd', greatest(abs((a2).r - (a).r), abs((a2).alpha / f / (a).alpha - 1), abs((a2).a - (a).a), abs((a2).b - (a).b), abs((a2).log_likelihood - (a).log_likelihood + sx * ln(f)))),
		('mbgnbd', greatest(abs((b2).r - (b).r), abs((b2).alpha / f / (b).alpha - 1), abs((b2).a - (b).a), abs((b2).b - (b).b), abs((b2).log_likelihood - (b).log_likelihood + sx * ln(f)))),
		('paretonbd', greatest(abs((c2).r - (c).r), abs((c2).alpha / f / (c).alpha - 1), abs((c2).s - (c).s), abs((c2).beta / f / (c).beta - 1), abs((c2).log_likelihood - (c).log_likelihood + sx * ln(f)))),
		('gammagamma', greatest(abs((g2).p - (g).p), abs((g2).q - (g).q), abs((g2).v / f / (g).v - 1), abs((g2).log_likelihood - (g).log_likelihood + (g).customers * ln(f)))),
		('mbgcnbd', greatest((k2).k - (k).k, abs((k2).r - (k).r), abs((k2).alpha / f / (k).alpha - 1), abs((k2).a - (k).a), abs((k2).b - (k).b), abs((k2).log_likelihood - (k).log_likelihood + sx * ln(f))))) v $$;
SELECT is_empty('SELECT * FROM pg_temp.unit(7) WHERE NOT wrong < 1e-6', 'days instead of weeks');
SELECT is_empty('SELECT * FROM pg_temp.unit(604800) WHERE NOT wrong < 1e-6', 'seconds instead of weeks');
SELECT is_empty('SELECT * FROM pg_temp.unit(1 / 52.1786) WHERE NOT wrong < 1e-6', 'years instead of weeks');

-- the shortcuts of a fit against the likelihood of one customer, where time is continuous and no two customers are alike
CREATE TEMP TABLE smooth AS SELECT * FROM pg_temp.buyers(4000, 1, 0);
SELECT cmp_ok((SELECT count(DISTINCT t_x) FROM smooth), '>', 1500::bigint, 'so many times that the grid of Pareto/NBD is thinned out');
SELECT is_empty($$WITH m AS (SELECT cdp.fit_bgnbd(x, t_x, t_cal) AS a, cdp.fit_mbgnbd(x, t_x, t_cal) AS b, cdp.fit_paretonbd(x, t_x, t_cal) AS c, cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps) AS d, cdp.fit_gammagamma(x, amount) AS g FROM smooth)
	SELECT * FROM (SELECT sum(cdp.log_likelihood(a, x, t_x, t_cal)) - min((a).log_likelihood) AS a, sum(cdp.log_likelihood(b, x, t_x, t_cal)) - min((b).log_likelihood) AS b, sum(cdp.log_likelihood(c, x, t_x, t_cal)) - min((c).log_likelihood) AS c,
		sum(cdp.log_likelihood(d, x, t_x, t_cal, log_gaps)) - min((d).log_likelihood) AS d, sum(cdp.log_likelihood(g, x, amount)) - min((g).log_likelihood) AS g FROM m, smooth) s WHERE NOT greatest(abs(a), abs(b), abs(c), abs(d), abs(g)) < 1e-7$$,
	'log_likelihood of the fit is the sum over the customers');
SELECT is_empty($$WITH m AS MATERIALIZED (SELECT cdp.fit_paretonbd(x, t_x, t_cal) AS c FROM smooth), f AS (SELECT (c).log_likelihood AS best, (SELECT sum(cdp.log_likelihood(cdp.paretonbd_model((c).r * (1 + u * 0.01), (c).alpha * (1 + v * 0.01), (c).s * (1 + w * 0.02), (c).beta * (1 + z * 0.02)), x, t_x, t_cal)) FROM smooth) AS l
	FROM m, (VALUES (1,0,0,0),(-1,0,0,0),(0,1,0,0),(0,-1,0,0),(0,0,1,0),(0,0,-1,0),(0,0,0,1),(0,0,0,-1)) d(u, v, w, z)) SELECT * FROM f WHERE NOT l < best$$, 'Pareto/NBD: lower in every direction');
SELECT is((SELECT cdp.fit_paretonbd(x, t_x, t_cal)::text FROM (SELECT * FROM smooth ORDER BY random() LIMIT 10000) s), (SELECT cdp.fit_paretonbd(x, t_x, t_cal)::text FROM smooth), 'and in any order the same text');

-- what was put in comes out
SELECT is((SELECT (cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps)).k FROM smooth), 1, 'random buyers: k = 1');
CREATE TEMP TABLE regular AS SELECT * FROM pg_temp.buyers(3000, 2, 0);
SELECT is((SELECT (cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps)).k FROM regular), 2, 'Erlang-2 buyers: k = 2');
SELECT is_empty('SELECT m FROM (SELECT cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps) AS m FROM regular) s WHERE abs((m).r - 0.8) > 4 * (m).se[1] OR abs((m).alpha - 3) > 4 * (m).se[2] OR abs((m).a - 0.9) > 4 * (m).se[3] OR abs((m).b - 2) > 4 * (m).se[4]',
	'within four standard errors of the truth');
-- a sample leads to the same optimum as all rows, and more than 20,000 distinct rows take that way
CREATE TEMP TABLE many AS SELECT x, t_x, t_cal + random() / 100 AS t_cal, log_gaps FROM pg_temp.buyers(25000, 3, 1 / 7.0);
SELECT is_empty('SELECT m FROM (SELECT cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps) AS m FROM many) s WHERE (m).k <> 3 OR (m).reason <> ''ok'' OR (m).gradient_norm > 1e-10 OR abs((m).r - 0.8) > 0.1', '25,000 distinct rows, Erlang-3');

-- what nobody has: values from nothing to 10^300, a handful of customers or billions of one kind; an answer is numbers
CREATE FUNCTION pg_temp.absurd(sets int) RETURNS TABLE (fit text, answer text) LANGUAGE plpgsql AS $$
BEGIN
	FOR s IN 1 .. sets LOOP
		CREATE TEMP TABLE rare AS SELECT x, CASE WHEN x > 0 THEN least(t * part, t) ELSE 0 END AS t_x, t AS t_cal, w, z, CASE WHEN x > 0 THEN (random() * 10 - 5) * least(x, 1e6) ELSE 0 END AS g, k
			FROM (SELECT (ARRAY[0, 1, 2, 5, 1000, 1e6, 1e9])[1 + floor(random() * (2 + s % 6))::int]::float8 AS x, (ARRAY[0, 1e-300, 1e-10, 1, 7, 39, 365, 1e6, 1e10, 1e300])[1 + floor(random() * 10)::int]::float8 AS t, random() * (s % 3) / 2 AS part,
				(ARRAY[0.001, 1, 1, 3, 1000, 1e15])[1 + floor(random() * 6)::int]::float8 AS w, (ARRAY[0, 1e-300, 0.01, 5, 17, 100, 1e10, 1e300])[1 + floor(random() * 8)::int]::float8 AS z, floor(random() * 4) AS k
				FROM generate_series(1, (ARRAY[2, 5, 12, 30, 200])[1 + s % 5])) v;
		FOREACH fit IN ARRAY ARRAY['cdp.fit_bgnbd(x, t_x, t_cal, w)', 'cdp.fit_mbgnbd(x, t_x, t_cal, w)', 'cdp.fit_paretonbd(x, t_x, t_cal, w)', 'cdp.fit_nbd(x, t_cal, w)', 'cdp.fit_mbgcnbd(x, t_x, t_cal, g, w)',
			'cdp.fit_gammagamma(x, z, w)', 'cdp.fit_sbg(1 + k::int * 1000, x > 1, w)', 'cdp.fit_bgbb(least(x, k), least(x, k) * least(2, 1 + k), k * 3, w)'] LOOP
			EXECUTE format('SELECT %s::text FROM rare', fit) INTO answer;
			RETURN NEXT;
		END LOOP;
		DROP TABLE rare;
	END LOOP;
END $$;
CREATE TEMP TABLE absurd AS SELECT * FROM pg_temp.absurd(60);
SELECT is_empty($$SELECT * FROM absurd WHERE answer IS NULL OR replace(answer, 'infinity', '') ~* 'nan|inf' LIMIT 5$$, 'absurd data: numbers, nothing else');
SELECT is((SELECT count(*) FROM absurd), 480::bigint, 'of every fit');
SELECT * FROM finish();
ROLLBACK;
