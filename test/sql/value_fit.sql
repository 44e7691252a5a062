-- fits: answers, data that cannot be fitted, data that are none, the type of the state
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET extra_float_digits = 0;
-- 900 customers, from a random generator that is the same everywhere: each with a rate, a probability to leave after a
-- purchase, a mean amount of his own
CREATE TABLE value_fit_c (i int, x float8, t_x float8, t_cal float8, log_gaps float8, amount float8);
DO $$
DECLARE
	seed bigint := 42; rate float8; leaves float8; size float8; at float8; before float8; gap float8; who record;
BEGIN
	CREATE FUNCTION pg_temp.next(inout seed bigint, out u float8) LANGUAGE sql AS 'SELECT (seed * 1103515245 + 12345) & 2147483647, (((seed * 1103515245 + 12345) & 2147483647) >> 8) / 8388608.0 + 0.00000005';
	FOR c IN 1 .. 900 LOOP
		SELECT * INTO who FROM (SELECT c AS i, 0::float8 AS x, 0::float8 AS t_x, (20 + c % 33)::float8 AS t_cal, 0::float8 AS log_gaps, 0::float8 AS amount) s;
		SELECT n.seed, -ln(n.u) / 12 INTO seed, rate FROM pg_temp.next(seed) n;
		SELECT n.seed, sin(pi() * n.u / 2) ^ 2 INTO seed, leaves FROM pg_temp.next(seed) n;
		size := 0;
		FOR k IN 1 .. 4 LOOP SELECT n.seed, size - ln(n.u) / 15 INTO seed, size FROM pg_temp.next(seed) n; END LOOP;
		at := 0;
		LOOP
			SELECT n.seed, n.u INTO seed, gap FROM pg_temp.next(seed) n;
			EXIT WHEN gap < leaves;
			SELECT n.seed, -ln(n.u) / rate INTO seed, gap FROM pg_temp.next(seed) n;
			EXIT WHEN at + gap > who.t_cal;
			before := ceil(at * 7) / 7; at := at + gap;
			CONTINUE WHEN ceil(at * 7) / 7 = before;
			who.x := who.x + 1; who.t_x := ceil(at * 7) / 7; who.log_gaps := who.log_gaps + ln(who.t_x - before);
			FOR k IN 1 .. 2 LOOP SELECT n.seed, who.amount - ln(n.u) / size INTO seed, who.amount FROM pg_temp.next(seed) n; END LOOP;
		END LOOP;
		INSERT INTO value_fit_c VALUES (c, who.x, who.t_x, who.t_cal, who.log_gaps, who.amount / nullif(who.x, 0));
	END LOOP;
END $$;
SELECT count(*), sum(x), count(*) FILTER (WHERE x = 0) AS once, round(sum(t_x)) AS t_x, sum(t_cal) AS t_cal, round(sum(log_gaps)) AS log_gaps, round(sum(amount)) AS amount FROM value_fit_c;

-- every model; parameters and standard errors to 5 digits
CREATE FUNCTION pg_temp.digits(v float8) RETURNS numeric LANGUAGE sql AS $$ SELECT round(v::numeric, 4 - floor(log(abs(v)))::int) $$;
CREATE FUNCTION pg_temp.digits(v float8[]) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(pg_temp.digits(e)::text, ' ' ORDER BY o) FROM unnest(v) WITH ORDINALITY u(e, o) $$;
CREATE FUNCTION pg_temp.show(m anyelement) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s=%s', key, pg_temp.digits(value::text::float8)), ' ' ORDER BY o) FILTER (WHERE o < (SELECT o FROM json_each(to_json(m)) WITH ORDINALITY e(key, value, o) WHERE key = 'log_likelihood'))
		|| ' | ' || string_agg(format('%s=%s', key, CASE WHEN key = 'log_likelihood' THEN round(value::text::numeric, 4)::text ELSE value #>> '{}' END), ' ' ORDER BY o)
			FILTER (WHERE key IN ('log_likelihood', 'customers', 'distinct_rows', 'converged', 'boundary', 'reason'))
		|| ' | se ' || coalesce((SELECT pg_temp.digits(array_agg(v::float8 ORDER BY o)) FROM json_array_elements_text(nullif(to_json(m) ->> 'se', '')::json) WITH ORDINALITY u(v, o)), '-')
	FROM json_each(to_json(m)) WITH ORDINALITY e(key, value, o) $$;
SELECT pg_temp.show(cdp.fit_bgnbd(x, t_x, t_cal)) FROM value_fit_c;
SELECT pg_temp.show(cdp.fit_mbgnbd(x, t_x, t_cal)) FROM value_fit_c;
SELECT pg_temp.show(cdp.fit_paretonbd(x, t_x, t_cal)) FROM value_fit_c;
SELECT pg_temp.show(cdp.fit_nbd(x, t_cal)) FROM value_fit_c;
SELECT pg_temp.show(cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps)) FROM value_fit_c;
SELECT pg_temp.show(cdp.fit_gammagamma(x, amount)) FROM value_fit_c;
-- BG/BB, sBG: as many customers as a model expects give that model
SELECT pg_temp.show(cdp.fit_bgbb(x, t_x, 6, 1000 * ways * exp(cdp.log_likelihood(cdp.bgbb_model(1.2, 0.75, 0.66, 2.8), x, t_x, 6))))
FROM (SELECT 0 AS x, 0 AS t_x, 1 AS ways UNION ALL SELECT x, t, round(exp(cdp._value_math('log_gamma', t) - cdp._value_math('log_gamma', x) - cdp._value_math('log_gamma', t - x + 1)))
	FROM generate_series(1, 6) t, generate_series(1, t) x) s;
SELECT pg_temp.show(cdp.fit_sbg(t, c, 1000 * exp(cdp.log_likelihood(cdp.sbg_model(0.7, 1.2), t, c)))) FROM generate_series(1, 7) t, unnest(ARRAY[true, false]) c WHERE c OR t = 7;
SELECT pg_temp.show(cdp.fit_sbg(p, c, w)) FROM (VALUES (1, true, 131), (2, true, 126), (3, true, 90), (4, true, 60), (5, true, 42), (5, false, 551)) v(p, c, w);

-- the likelihood is the sum over the customers, and lower everywhere around
CREATE TABLE value_fit_f AS SELECT cdp.fit_bgnbd(x, t_x, t_cal) AS bg, cdp.fit_mbgnbd(x, t_x, t_cal) AS mbg, cdp.fit_paretonbd(x, t_x, t_cal) AS par, cdp.fit_nbd(x, t_cal) AS nbd,
	cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps) AS mbgc, cdp.fit_gammagamma(x, amount) AS gg FROM value_fit_c;
SELECT abs(sum(cdp.log_likelihood(bg, x, t_x, t_cal)) - min((bg).log_likelihood)) < 1e-8 AS bgnbd, abs(sum(cdp.log_likelihood(mbg, x, t_x, t_cal)) - min((mbg).log_likelihood)) < 1e-8 AS mbgnbd,
	abs(sum(cdp.log_likelihood(par, x, t_x, t_cal)) - min((par).log_likelihood)) < 1e-8 AS paretonbd, abs(sum(cdp.log_likelihood(nbd, x, t_cal)) - min((nbd).log_likelihood)) < 1e-8 AS nbd,
	abs(sum(cdp.log_likelihood(mbgc, x, t_x, t_cal, log_gaps)) - min((mbgc).log_likelihood)) < 1e-8 AS mbgcnbd, abs(sum(cdp.log_likelihood(gg, x, amount)) - min((gg).log_likelihood)) < 1e-8 AS gammagamma
FROM value_fit_c, value_fit_f;
SELECT bool_and(around < best) AS bgnbd_lower_around FROM (SELECT (bg).log_likelihood AS best, (SELECT sum(cdp.log_likelihood(cdp.bgnbd_model((bg).r * a, (bg).alpha * b, (bg).a * c, (bg).b * d), x, t_x, t_cal)) FROM value_fit_c) AS around
	FROM value_fit_f, (VALUES (1.01), (0.99), (1)) a(a), (VALUES (1.01), (0.99), (1)) b(b), (VALUES (1.02), (0.98), (1)) c(c), (VALUES (1.02), (0.98), (1)) d(d) WHERE a <> 1 OR b <> 1 OR c <> 1 OR d <> 1) s;
SELECT bool_and(around < best) AS paretonbd_lower_around FROM (SELECT (par).log_likelihood AS best, (SELECT sum(cdp.log_likelihood(cdp.paretonbd_model((par).r * a, (par).alpha * b, (par).s * c, (par).beta * d), x, t_x, t_cal)) FROM value_fit_c) AS around
	FROM value_fit_f, (VALUES (1.01), (0.99)) a(a), (VALUES (1.01), (0.99)) b(b), (VALUES (1.02), (0.98)) c(c), (VALUES (1.02), (0.98)) d(d)) s;
-- covariance is the inverse of the curvature: NBD by second differences of the sum
WITH h AS (SELECT (nbd).r AS r, (nbd).alpha AS al, (nbd).covariance AS v, 0.002 * (nbd).r AS dr, 0.002 * (nbd).alpha AS da FROM value_fit_f),
s AS (SELECT up, on_, (SELECT sum(cdp.log_likelihood(cdp.nbd_model(r + up * dr, al + on_ * da), x, t_cal)) FROM value_fit_c) AS l FROM h, generate_series(-1, 1) up, generate_series(-1, 1) on_),
l AS (SELECT jsonb_object_agg(format('%s %s', up, on_), l) AS l FROM s),
d AS (SELECT -((l -> '1 0')::float8 - 2 * (l -> '0 0')::float8 + (l -> '-1 0')::float8) / dr ^ 2 AS rr, -((l -> '0 1')::float8 - 2 * (l -> '0 0')::float8 + (l -> '0 -1')::float8) / da ^ 2 AS aa,
	-((l -> '1 1')::float8 - (l -> '1 -1')::float8 - (l -> '-1 1')::float8 + (l -> '-1 -1')::float8) / (4 * dr * da) AS ra, v FROM h, l)
SELECT abs(v[1] / (aa / (rr * aa - ra * ra)) - 1) < 1e-3 AS rr, abs(v[4] / (rr / (rr * aa - ra * ra)) - 1) < 1e-3 AS aa, abs(v[2] / (-ra / (rr * aa - ra * ra)) - 1) < 1e-3 AS ra, v[2] = v[3] AS symmetric FROM d;
SELECT abs((nbd).se[2] - sqrt((nbd).covariance[4])) < 1e-12 AS se_is_the_root FROM value_fit_f;

-- NULL, no rows, weights
SELECT cdp.fit_bgnbd(x, t_x, t_cal) IS NULL AS no_rows FROM value_fit_c WHERE false;
SELECT cdp.fit_bgnbd(x, t_x, NULL) IS NULL AS only_nulls FROM value_fit_c;
SELECT cdp.fit_bgnbd(x, t_x, t_cal)::text = (SELECT bg::text FROM value_fit_f) AS nulls_are_skipped FROM (SELECT x, t_x, t_cal FROM value_fit_c UNION ALL VALUES (NULL, 1, 2), (1, NULL, 2), (1, 1, NULL)) s(x, t_x, t_cal);
SELECT cdp.fit_bgnbd(x, t_x, t_cal, w)::text = (SELECT bg::text FROM value_fit_f) AS weights FROM (SELECT x, t_x, t_cal, count(*)::float8 FROM value_fit_c GROUP BY 1, 2, 3 UNION ALL VALUES (5, 1, 2, 0), (5, 1, 2, NULL)) s(x, t_x, t_cal, w);
SELECT (cdp.fit_nbd(x, t_cal, 0)) IS NULL AS weight_0 FROM value_fit_c;
SELECT round((f).customers::numeric, 6) AS customers, round(((f).r / (nbd).r)::numeric, 8) AS r, round(((f).log_likelihood / (nbd).log_likelihood)::numeric, 8) AS ll, round(((f).se[1] / (nbd).se[1])::numeric, 4) AS se
FROM (SELECT cdp.fit_nbd(x, t_cal, 0.25) AS f FROM value_fit_c) s, value_fit_f;
-- plan: parallel; a group each; a window
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
ALTER TABLE value_fit_c SET (parallel_workers = 2);
EXPLAIN (COSTS OFF) SELECT cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps) FROM value_fit_c;
SELECT cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps)::text = (SELECT mbgc::text FROM value_fit_f) AS parallel FROM value_fit_c;
RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size;
SELECT i % 3 AS part, pg_temp.show(cdp.fit_nbd(x, t_cal)) FROM value_fit_c GROUP BY 1 ORDER BY 1;
SELECT i, (w).customers, (w).reason FROM (SELECT i, cdp.fit_nbd(x, t_cal) OVER (ORDER BY i) AS w FROM value_fit_c WHERE i <= 12) s ORDER BY i;

-- data that cannot be fitted: a row with its reason, no NaN
CREATE TABLE value_fit_d AS
SELECT 'one customer' AS data, 2::float8 AS x, 30::float8 AS t_x, 40::float8 AS t_cal, 5::float8 AS g, 20::float8 AS z
UNION ALL SELECT 'one customer, x = 0', 0, 0, 40, 0, 0
UNION ALL SELECT 'all x = 0', 0, 0, i, 0, 0 FROM generate_series(1, 100) i
UNION ALL SELECT 'all identical', 2, 30, 40, 5, 20 FROM generate_series(1, 1000)
UNION ALL SELECT '3 customers', i, i * 5, 40, i, i * 10 FROM generate_series(0, 2) i
UNION ALL SELECT 't_cal = 0', 0, 0, 0, 0, 0 FROM generate_series(1, 50)
UNION ALL SELECT 'all t_cal equal', x, t_x / t_cal * 40, 40, log_gaps, coalesce(amount, 0) FROM value_fit_c
UNION ALL SELECT 'as regular as a clock', 10, 40 - i % 4, 40, 10 * ln(4.0), 20 + i % 5 FROM generate_series(1, 300) i
UNION ALL SELECT 'twice at time 0', i % 3, 0, 40, i % 3, 20 + i % 5 FROM generate_series(1, 300) i
UNION ALL SELECT 'a million purchases', 1e6, 700 + i, 730 + i, 1, 1e9 FROM generate_series(1, 30) i
UNION ALL SELECT 'tiny', i % 3, (i % 3) * 1e-300, 3e-300, 0, 1e-300 FROM generate_series(1, 30) i
UNION ALL SELECT 'vast', i % 3, (i % 3) * 1e300, 3e300, 0, 1e300 FROM generate_series(1, 30) i;
CREATE FUNCTION pg_temp.state(m anyelement) RETURNS text LANGUAGE sql AS $$
	SELECT concat(j ->> 'reason', CASE WHEN (j ->> 'converged')::boolean THEN ', converged' ELSE ', not converged' END, CASE WHEN (j ->> 'boundary')::boolean THEN ', boundary' END,
		CASE WHEN j ->> 'se' IS NULL THEN ', no se' END, CASE WHEN replace(m::text, 'infinity', '') ~* 'nan|inf' THEN ', NOT A NUMBER' END) FROM (SELECT to_json(m) AS j) s $$;
SELECT data, pg_temp.state(cdp.fit_bgnbd(x, t_x, t_cal)) AS bgnbd, pg_temp.state(cdp.fit_mbgnbd(x, t_x, t_cal)) AS mbgnbd FROM value_fit_d GROUP BY 1 ORDER BY 1;
SELECT data, pg_temp.state(cdp.fit_paretonbd(x, t_x, t_cal)) AS paretonbd, pg_temp.state(cdp.fit_nbd(x, t_cal)) AS nbd FROM value_fit_d GROUP BY 1 ORDER BY 1;
SELECT data, pg_temp.state(cdp.fit_mbgcnbd(x, t_x, t_cal, g)) AS mbgcnbd, pg_temp.state(cdp.fit_gammagamma(x, z)) AS gammagamma FROM value_fit_d GROUP BY 1 ORDER BY 1;
SELECT what, pg_temp.state(cdp.fit_bgbb(x, t_x, n, w)) FROM (VALUES ('nobody bought', 0, 0, 6, 100), ('everybody always', 6, 6, 6, 100), ('no occasion', 0, 0, 0, 100), ('one kind', 2, 4, 6, 100)) v(what, x, t_x, n, w) GROUP BY 1 ORDER BY 1;
SELECT what, pg_temp.state(cdp.fit_sbg(p, c, w)) FROM (VALUES ('nobody left', 5, false, 100), ('all left at once', 1, true, 100), ('half left at once', 1, true, 50), ('half left at once', 1, false, 50)) v(what, p, c, w) GROUP BY 1 ORDER BY 1;

-- data that are none: what is said, and that the WHERE clause of the hint is the way out
CREATE FUNCTION pg_temp.refused(fit text, columns text, bad text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	h text;
	s text;
	m text;
	r text;
	q text := format('SELECT (cdp.%s(%s)).customers FROM (SELECT * FROM value_fit_good UNION ALL SELECT %s) s(%s)', fit, columns, bad, columns);
BEGIN
	BEGIN
		EXECUTE q INTO r;
		RETURN 'taken';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT, s = RETURNED_SQLSTATE, m = MESSAGE_TEXT;
	END;
	EXECUTE q || substring(h FROM ' WHERE .*[^.]') INTO r;
	RETURN format('%s %s | %s | then %s', s, m, substring(h FROM 'WHERE .*[^.]'), r);
END $$;
CREATE TEMP TABLE value_fit_good AS SELECT x, t_x, t_cal FROM value_fit_c;
SELECT bad, pg_temp.refused('fit_bgnbd', 'x, t_x, t_cal', bad) FROM unnest(ARRAY['-1, 0, 5', '1.5, 2, 5', '1, -2, 5', '1, 6, 5', '0, 1, 5', '''NaN'', 0, 5', '1, ''infinity'', ''infinity''', '1, 0, ''-infinity''', '1e10, 1, 5', '3, 0, 5']) bad;
ALTER TABLE value_fit_good ADD weight float8 DEFAULT 1;
SELECT bad, pg_temp.refused('fit_paretonbd', 'x, t_x, t_cal, weight', bad) FROM unnest(ARRAY['1, 1, 5, -1', '1, 1, 5, ''NaN''', '1, 1, 5, ''infinity''', '1, 6, 5, 0']) bad;
CREATE FUNCTION pg_temp.good(q text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN DROP TABLE value_fit_good; EXECUTE 'CREATE TEMP TABLE value_fit_good AS ' || q; END $$;
SELECT pg_temp.good('SELECT x, t_cal FROM value_fit_c');
SELECT bad, pg_temp.refused('fit_nbd', 'x, t_cal', bad) FROM unnest(ARRAY['-1, 5', '0.5, 5', '1, -5', '''NaN'', 5']) bad;
SELECT pg_temp.good('SELECT x, t_x, t_cal, log_gaps FROM value_fit_c WHERE i < 100');
SELECT bad, pg_temp.refused('fit_mbgcnbd', 'x, t_x, t_cal, log_gaps', bad) FROM unnest(ARRAY['1, 1, 5, ''-infinity''', '0, 0, 5, 1', '2, 7, 5, 1']) bad;
SELECT pg_temp.good('SELECT x, amount FROM value_fit_c');
SELECT bad, pg_temp.refused('fit_gammagamma', 'x, mean_amount', bad) FROM unnest(ARRAY['1, -5', '1, ''NaN''', '1.5, 5', '0, 0', '3, 0']) bad;
SELECT pg_temp.good('SELECT 1::float8 AS x, 2::float8 AS t_x, 6::float8 AS n FROM generate_series(1, 20)');
SELECT bad, pg_temp.refused('fit_bgbb', 'x, t_x, n', bad) FROM unnest(ARRAY['-1, 0, 6', '1.5, 2, 6', '1, 2.5, 6', '1, 2, 6.5', '1, 7, 6', '3, 2, 6', '0, 2, 6', '1, 1, 1e7', '1, ''NaN'', 6']) bad;
SELECT pg_temp.good('SELECT 1 + i % 5 AS period, i % 2 = 0 AS churned FROM generate_series(1, 20) i');
SELECT bad, pg_temp.refused('fit_sbg', 'period, churned', bad) FROM unnest(ARRAY['0, true', '-5, false']) bad;
SELECT count(*) AS "the session goes on" FROM value_fit_c;

-- the state
CREATE AGGREGATE pg_temp.counted(float8, float8, float8, float8) (SFUNC = cdp._fit_add_transactions, STYPE = cdp.fit_state, INITCOND = '()');
SELECT pg_temp.counted(x, t_x, t_cal, w) FROM (VALUES (2, 3.5, 8, 1), (0, -0.0, 8, 2), (2, 3.5, 8, 0.5), (0, 0, 8, 1)) v(x, t_x, t_cal, w);
SELECT pg_temp.counted(0, 0, 8, w) FROM unnest(ARRAY[0.1, 0.2, 1e15, 0.3]) w;
CREATE FUNCTION pg_temp.try(state text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	why text;
BEGIN
	RETURN state::cdp.fit_state;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
	RETURN sqlstate || ' ' || coalesce(nullif(why, ''), sqlerrm);
END $$;
SELECT t AS text, pg_temp.try(t) = t AS same FROM unnest(ARRAY['()', '(0,0,8:3;2,3.5,8:1.5)', '(1:1)', '(1,2,3,4:0.5)', '(0,0,38.857142857142854:12)', '(1:0.30000000000000004+-2.7755575615628914e-17)', '(-1e+300:1e+16+1)']) t;
SELECT t AS text, pg_temp.try(t) AS answer FROM unnest(ARRAY['', '(', ')', '(1)', '(1:)', '(:1)', '(1,:1)', '(1:1', '(1:1;)', '(1:1)x', '(1,2,3,4,5:1)', '(1:1;1:1)', '(2:1;1:1)', '(1:1;1,2:1)',
	'(1:0)', '(1:-1)', '(NaN:1)', '(1:NaN)', '(1e999:1)', '(1:1e999)', '(-0:1)', '(1:1e40)', '(1:1+1)', '(1:1+)', '(1:1+1e-17+1)', '(1e:1)', '(--1:1)', '(1 :1)', '(0x10:1)', '(1:1) ']) t;
SELECT (cdp._fit_bgnbd('(0,0,8:30;2,3.5,8:10)')).customers AS finished, cdp._fit_bgnbd('()') IS NULL AS empty;
CREATE FUNCTION pg_temp.fails(q text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE q; RETURN 'taken'; EXCEPTION WHEN OTHERS THEN RETURN sqlstate || ' ' || sqlerrm; END $$;
SELECT q, pg_temp.fails(q) FROM unnest(ARRAY['SELECT cdp._fit_bgnbd(''(1,2:3)'')', 'SELECT cdp._fit_bgnbd(''(-1,2,3:4)'')', 'SELECT cdp._fit_sbg(''(0,1:4)'')', 'SELECT cdp._fit_mbgcnbd(''(0,0,8,1:4)'')',
	'SELECT cdp._fit_add_counts(''()'', 1, 2)', 'SELECT cdp._fit_combine(''()'', ''()'')']) q;
CREATE AGGREGATE pg_temp.together(cdp.fit_state) (SFUNC = cdp._fit_combine, STYPE = cdp.fit_state, INITCOND = '()');
SELECT pg_temp.together(s) FROM unnest(ARRAY['(0,8:2;1,8:1)', '()', '(1,8:0.5;2,8:1)']::cdp.fit_state[]) s;
SELECT pg_temp.fails('SELECT pg_temp.together(s) FROM unnest(ARRAY[''(0,8:2)'', ''(0,8,9:2)'']::cdp.fit_state[]) s');
DROP TABLE value_fit_c, value_fit_d, value_fit_f;
