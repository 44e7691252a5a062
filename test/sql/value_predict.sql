-- predictions: hard points, identities that need no other program, bad input
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
SET search_path = cdp, pg_catalog;
SET extra_float_digits = 0;
CREATE FUNCTION pg_temp.near(got float8, want float8, tolerance float8) RETURNS text LANGUAGE sql AS
	$$ SELECT CASE WHEN abs(got - want) <= tolerance * greatest(abs(want), 1e-300) THEN 'ok' ELSE format('%s instead of %s', got, want) END $$;
-- one customer, all models
SELECT name, round(p_alive::numeric, 6) AS p_alive, round(ahead::numeric, 6) AS p_alive_13, round(cet::numeric, 6) AS purchases_39, round(p::numeric, 6) AS p_purchase_39,
	round(next::numeric, 4) AS next_half, round(late::numeric, 4) AS next_95, round(dert::numeric, 5) AS dert
FROM (SELECT 1 AS n, 'bgnbd' AS name, p_alive(m, 2, 30.43, 38.86), p_alive(m, 2, 30.43, 38.86, 13) AS ahead, expected_purchases(m, 2, 30.43, 38.86, 39) AS cet,
		p_purchase(m, 2, 30.43, 38.86, 39) AS p, next_purchase(m, 2, 30.43, 38.86) AS next, next_purchase(m, 2, 30.43, 38.86, 0.95) AS late, dert(m, 2, 30.43, 38.86, 0.0027) AS dert
	FROM bgnbd_model(0.2426, 4.4136, 0.7929, 2.4259) m
	UNION ALL SELECT 2, 'mbgnbd', p_alive(m, 2, 30.43, 38.86), p_alive(m, 2, 30.43, 38.86, 13), expected_purchases(m, 2, 30.43, 38.86, 39),
		p_purchase(m, 2, 30.43, 38.86, 39), next_purchase(m, 2, 30.43, 38.86), next_purchase(m, 2, 30.43, 38.86, 0.95), dert(m, 2, 30.43, 38.86, 0.0027)
	FROM mbgnbd_model(0.5248, 6.1831, 0.8914, 1.6140) m
	UNION ALL SELECT 3, 'mbgcnbd 2', p_alive(m, 2, 30.43, 38.86), p_alive(m, 2, 30.43, 38.86, 13), expected_purchases(m, 2, 30.43, 38.86, 39),
		p_purchase(m, 2, 30.43, 38.86, 39), next_purchase(m, 2, 30.43, 38.86), next_purchase(m, 2, 30.43, 38.86, 0.95), dert(m, 2, 30.43, 38.86, 0.0027)
	FROM mbgcnbd_model(2, 0.5248, 3.0, 0.8914, 1.6140) m
	UNION ALL SELECT 4, 'paretonbd', p_alive(m, 2, 30.43, 38.86), p_alive(m, 2, 30.43, 38.86, 13), expected_purchases(m, 2, 30.43, 38.86, 39),
		p_purchase(m, 2, 30.43, 38.86, 39), next_purchase(m, 2, 30.43, 38.86), next_purchase(m, 2, 30.43, 38.86, 0.95), dert(m, 2, 30.43, 38.86, 0.0027)
	FROM paretonbd_model(0.5533, 10.5777, 0.6062, 11.6687) m
	UNION ALL SELECT 5, 'nbd', p_alive(m, 2, 30.43, 38.86), p_alive(m, 2, 30.43, 38.86, 13), expected_purchases(m, 2, 30.43, 38.86, 39),
		p_purchase(m, 2, 30.43, 38.86, 39), next_purchase(m, 2, 30.43, 38.86), next_purchase(m, 2, 30.43, 38.86, 0.95), dert(m, 2, 30.43, 38.86, 0.0027)
	FROM nbd_model(0.3848, 12.072) m) q ORDER BY n;
-- a = 1 is a place like any other; near 1 nothing is lost
SELECT a, pg_temp.near(expected_purchases(bgnbd_model(0.2426, 4.4136, a, 2.4259), 2, 30.43, 38.86, 39), want, 1e-12)
FROM (VALUES (1.0, 1.1019895239724575::float8), (1.0000001, 1.1019894693596914)) v(a, want);
-- purchases are the sum of n P(n), and the P(n) make one
SELECT name, abs(sum(p) - 1) < 1e-9 AS one, abs(sum(n * p) / min(e) - 1) < 1e-9 AS mean FROM (
	SELECT 'bgnbd' AS name, n, purchase_pmf(m, n, 20) AS p, expected_purchases(m, 20) AS e FROM bgnbd_model(2.2, 14.4, 0.8, 2.4) m, generate_series(0, 400) n
	UNION ALL SELECT 'mbgnbd', n, purchase_pmf(m, n, 20), expected_purchases(m, 20) FROM mbgnbd_model(2.2, 14.4, 0.8, 2.4) m, generate_series(0, 400) n
	UNION ALL SELECT 'paretonbd', n, purchase_pmf(m, n, 20), expected_purchases(m, 20) FROM paretonbd_model(2.2, 14.4, 0.6, 11.7) m, generate_series(0, 400) n
	UNION ALL SELECT 'paretonbd, s = 1', n, purchase_pmf(m, n, 20), expected_purchases(m, 20) FROM paretonbd_model(2.2, 14.4, 1, 11.7) m, generate_series(0, 400) n
	UNION ALL SELECT 'nbd', n, purchase_pmf(m, n, 20), expected_purchases(m, 20) FROM nbd_model(2.2, 14.4) m, generate_series(0, 400) n) q GROUP BY name ORDER BY name;
SELECT purchase_pmf(m, 0, 0) AS none_yet, purchase_pmf(m, 3, 0) AS three_at_once, pg_temp.near(1 - purchase_pmf(m, 0, 17), p_purchase(m, 0, 0, 0, 17), 1e-13) AS first
FROM paretonbd_model(0.55, 10.6, 0.6, 11.7) m;
-- MBG/CNBD-k with k = 1 is MBG/NBD; short and long horizons, where the ways to compute differ
SELECT bool_and(pg_temp.near(expected_purchases(one, x, t_x, 100, h), expected_purchases(two, x, t_x, 100, h), 1e-12) = 'ok') AS purchases,
	bool_and(pg_temp.near(p_alive(one, x, t_x, 100, h), p_alive(two, x, t_x, 100, h), 1e-12) = 'ok') AS alive
FROM mbgnbd_model(0.52, 6.2, 0.9, 1.6) one, mbgcnbd_model(1, 0.52, 6.2, 0.9, 1.6) two, (VALUES (0, 0), (1, 80), (40, 99.5), (3000, 99.9)) c(x, t_x), unnest(ARRAY[0.01, 1, 30, 400, 5000, 1e6, 1e9]::float8[]) h;
-- the ways meet: purchases grow without a step where one takes over from the other
SELECT k, count(*) > 700 AS many, bool_and(grows > 0 AND grows < k) AS grows, max(abs(bends)) < 0.002 AS smooth FROM (
	SELECT k, ln(e / lag(e) OVER w) / 0.02 AS grows, ln(e / lag(e) OVER w) - ln(lead(e) OVER w / e) AS bends FROM (
		SELECT k, h, expected_purchases(mbgcnbd_model(k, 1.3, 20, 0.4, 3.7), 5, 40, 41, exp(h)) AS e FROM unnest(ARRAY[1, 2, 5]) k, generate_series(0, 15, 0.02) h) q
	WINDOW w AS (PARTITION BY k ORDER BY h)) s GROUP BY k ORDER BY k;
-- who came daily for some days, and a long horizon: no arrival at all has a probability below the least float8 (values of 40-digit arithmetic)
SELECT c.*, abs(expected_purchases(m, x, t_x, t_cal, 52) / p_alive(m, x, t_x, t_cal) / exact - 1) < 1e-11 AS right
FROM (VALUES (4, 3.1272999093289373, 0.7448987503230192, 0.5616766857833922, 3.9834566463767334, 50, 0.5, 0.5, 502.63137940749355375),
	(4, 1.7391150853456128, 1.0312072821817064, 0.25240268217504375, 19.467035054393484, 50, 0.14356111584519304, 0.5, 970.89862608523380309),
	(8, 0.5, 0.5, 0.8, 2.4, 40, 5.9, 6, 116.04048197094576536)) c(k, r, alpha, a, b, x, t_x, t_cal, exact),
	mbgcnbd_model(k, r, alpha, a, b) m;
-- many phases cost no minutes
SET statement_timeout = '30s';
SELECT dert(mbgcnbd_model(100, 0.5, 0.01, 0.8, 2.4), 3, 30, 52, 0.002) BETWEEN 0 AND 100 AS cheap;
RESET statement_timeout;
-- a quantile is where the chance of a purchase is that probability
SELECT name, bool_and(pg_temp.near(p, q, 1e-11) = 'ok') AS back, count(p) FROM (
	SELECT 'bgnbd' AS name, q, p_purchase(m, 3, 30, 40, next_purchase(m, 3, 30, 40, q)) AS p FROM bgnbd_model(0.24, 4.4, 0.8, 2.4) m, unnest(ARRAY[0.001, 0.1, 0.3, 0.6]::float8[]) q
	UNION ALL SELECT 'mbgcnbd', q, p_purchase(m, 3, 30, 40, next_purchase(m, 3, 30, 40, q)) FROM mbgcnbd_model(3, 0.24, 1.4, 0.8, 2.4) m, unnest(ARRAY[0.001, 0.1, 0.2, 0.4]::float8[]) q
	UNION ALL SELECT 'paretonbd', q, p_purchase(m, 3, 30, 40, next_purchase(m, 3, 30, 40, q)) FROM paretonbd_model(0.55, 10.6, 0.6, 11.7) m, unnest(ARRAY[0.001, 0.1, 0.3, 0.6]::float8[]) q
	UNION ALL SELECT 'nbd', q, p_purchase(m, 3, 30, 40, next_purchase(m, 3, 30, 40, q)) FROM nbd_model(0.55, 10.6) m, unnest(ARRAY[0.001, 0.1, 0.3, 0.9]::float8[]) q) s GROUP BY name ORDER BY name;
SELECT next_purchase(bgnbd_model(0.24, 4.4, 0.8, 2.4), 3, 2, 40, 0.5) AS gone, next_purchase(paretonbd_model(0.55, 10.6, 0.6, 11.7), 0, 0, 40, 0.9) AS gone_too, next_purchase(nbd_model(1e-3, 1), 0, 0, 9, 0.5) AS never;
-- discounting: none is the sum of purchases; a horizon of many lifetimes is all of them
SELECT pg_temp.near(clv(m, g, 2, 30, 39, 20, 52, 0), expected_purchases(m, 2, 30, 39, 52) * expected_amount(g, 2, 20), 1e-14) AS undiscounted,
	pg_temp.near(clv(m, g, 2, 30, 39, 20, 'Infinity', 0.003, 0.3), dert(m, 2, 30, 39, 0.003) * expected_amount(g, 2, 20) * 0.3, 1e-14) AS endless,
	pg_temp.near(clv(m, g, 2, 30, 39, 20, 20000, 0.003), clv(m, g, 2, 30, 39, 20, 'Infinity', 0.003), 1e-10) AS long,
	clv(m, g, 2, 30, 39, 20, 0, 0.003) AS nothing
FROM mbgnbd_model(0.5248, 6.1831, 0.8914, 1.6140) m, gammagamma_model(6.25, 3.74, 15.44) g;
-- NBD discounted has a closed form: rate / discount * (1 - e^(-discount horizon))
SELECT pg_temp.near(dert(nbd_model(0.55, 10.6), 3, 20, 39, 0.003), 3.55 / 49.6 / 0.003, 1e-13) AS dert,
	pg_temp.near(clv(nbd_model(0.55, 10.6), gammagamma_model(6, 4, 15), 3, 20, 39, 0, 520, 0.003), 90 / 21.0 * 3.55 / 49.6 / 0.003 * (1 - exp(-1.56::float8)), 1e-13) AS clv;
-- the schedule adds up
SELECT name, n, abs(sum((plan).purchases) / min(e) - 1) < 1e-12 AS purchases, abs(sum((plan).discounted) / min(v) - 1) < 1e-11 AS discounted, min((plan).period), max((plan).period), bool_and((plan).discounted < (plan).amount) AS less
FROM unnest(ARRAY[1, 12, 365]) n, LATERAL (
	SELECT 'bgnbd' AS name, expected_purchases(m, 2, 30, 39, 52) AS e, clv(m, g, 2, 30, 39, 20, 52, 0.003, 0.4) AS v, plan FROM bgnbd_model(0.2426, 4.4136, 0.7929, 2.4259) m, gammagamma_model(6.25, 3.74, 15.44) g, clv_schedule(m, g, 2, 30, 39, 20, 52, 0.003, 0.4, n) plan
	UNION ALL SELECT 'mbgnbd', expected_purchases(m, 2, 30, 39, 52), clv(m, g, 2, 30, 39, 20, 52, 0.003, 0.4), plan FROM mbgnbd_model(0.5248, 6.1831, 0.8914, 1.6140) m, gammagamma_model(6.25, 3.74, 15.44) g, clv_schedule(m, g, 2, 30, 39, 20, 52, 0.003, 0.4, n) plan
	UNION ALL SELECT 'mbgcnbd', expected_purchases(m, 2, 30, 39, 52), clv(m, g, 2, 30, 39, 20, 52, 0.003, 0.4), plan FROM mbgcnbd_model(3, 0.5248, 2.1831, 0.8914, 1.6140) m, gammagamma_model(6.25, 3.74, 15.44) g, clv_schedule(m, g, 2, 30, 39, 20, 52, 0.003, 0.4, n) plan
	UNION ALL SELECT 'paretonbd', expected_purchases(m, 2, 30, 39, 52), clv(m, g, 2, 30, 39, 20, 52, 0.003, 0.4), plan FROM paretonbd_model(0.5533, 10.5777, 0.6062, 11.6687) m, gammagamma_model(6.25, 3.74, 15.44) g, clv_schedule(m, g, 2, 30, 39, 20, 52, 0.003, 0.4, n) plan
	UNION ALL SELECT 'nbd', expected_purchases(m, 2, 30, 39, 52), clv(m, g, 2, 30, 39, 20, 52, 0.003, 0.4), plan FROM nbd_model(0.3848, 12.072) m, gammagamma_model(6.25, 3.74, 15.44) g, clv_schedule(m, g, 2, 30, 39, 20, 52, 0.003, 0.4, n) plan) q
GROUP BY name, n ORDER BY name, n;
-- money
SELECT expected_amount(g, 0, NULL) = 6 * 15 / 3.0 AS everybody, pg_temp.near(expected_amount(g, 1e6, 42), 42, 1e-5) AS himself, expected_amount(g, 2, NULL) AS unknown,
	expected_amount(gammagamma_model(6, 0.5, 15), 0, NULL) AS no_mean, expected_amount(gammagamma_model(0.1, 0.5, 15), 5, 3) AS no_mean_either, round(expected_amount(gammagamma_model(0.2, 0.5, 15), 5, 3)::numeric, 6) AS mean,
	clv(bgnbd_model(0.24, 4.4, 0.8, 2.4), gammagamma_model(6, 0.5, 15), 0, 0, 9, NULL, 52, 0) AS worthless, clv(bgnbd_model(0.24, 4.4, 0.8, 2.4), g, 1, 3, 9, NULL, 52, 0) AS unknown_worth, simple_clv(58.5, 4, 3, 0.3)
FROM gammagamma_model(6, 4, 15) g;
SELECT count(*) AS no_row FROM clv_schedule(bgnbd_model(0.24, 4.4, 0.8, 2.4), gammagamma_model(6, 0.5, 15), 0, 0, 9, NULL, 52, 0, 1, 12);
-- discrete time: nothing observed yet is the population; one period ahead is the first of the sum
SELECT round(p_alive(m, 0, 0, 0, 1)::numeric, 6) AS stays, pg_temp.near(p_alive(m, 0, 0, 0, 1), 2.783 / 3.44, 1e-14) AS population, pg_temp.near(expected_purchases(m, 3, 4, 6, 1), p_alive(m, 3, 4, 6, 1) * 4.2 / (7.2 + 0.75), 1e-13) AS one_period,
	pg_temp.near((SELECT sum(expected_purchases(m, 3, 4, 6, i) - expected_purchases(m, 3, 4, 6, i - 1)) FROM generate_series(1, 20) i), expected_purchases(m, 3, 4, 6, 20), 1e-13) AS sum,
	pg_temp.near((SELECT sum((expected_purchases(m, 3, 4, 6, i) - expected_purchases(m, 3, 4, 6, i - 1)) / 1.25::float8 ^ i) FROM generate_series(1, 200) i), dert(m, 3, 4, 6, 0.25), 1e-12) AS dert
FROM bgbb_model(1.2, 0.75, 0.657, 2.783) m;
SELECT survival(m, 0) AS all, pg_temp.near(survival(m, 7), (SELECT exp(sum(ln(retention_rate(m, t)))) FROM generate_series(1, 7) t), 1e-13) AS product,
	pg_temp.near(del(m, 0.25), (SELECT sum(survival(m, t) / 1.25::float8 ^ t) FROM generate_series(0, 200) t), 1e-12) AS del,
	pg_temp.near(derl(m, 0.25, 3), (SELECT sum(survival(m, 3 + t) / survival(m, 2) / 1.25::float8 ^ t) FROM generate_series(0, 200) t), 1e-12) AS derl, round(del(m, 1e-9)::numeric, 1) AS hardly_discounted
FROM sbg_model(0.668, 3.806) m;
-- intervals: none without covariance; z of the normal distribution; no parameter, no width
SELECT * FROM expected_purchases_ci(bgnbd_model(0.25, 4, 0.75, 2.5), 2, 30, 39, 39);
SELECT level, pg_temp.near(ln(hi / estimate), z * 0.1, 1e-8) AS hi, pg_temp.near(ln(estimate / lo), z * 0.1, 1e-8) AS lo
FROM (VALUES (0.5, 0.674489750196082::float8), (0.9, 1.64485362695147), (0.95, 1.95996398454005), (0.999, 3.29052673149190), (0.01, 0.0125334695080693)) v(level, z),
	-- NBD: expected purchases of a new customer are r t / alpha, so the variance of their logarithm is that of ln r and of ln alpha
	LATERAL expected_purchases_ci(ROW(2, 10, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, ARRAY[0.02, 0, 0, 0.5])::nbd_model, 0, 0, 0, 39, level);
SELECT round(lo::numeric, 4) AS lo, round(estimate::numeric, 4) AS estimate, round(hi::numeric, 4) AS hi, lo < e.e AND e.e < hi AND estimate = e.e AS around FROM (
	SELECT fit_bgnbd(x, t_x, t_cal) AS m FROM simulate_purchases(bgnbd_model(0.25, 4.4, 0.8, 2.5), 3000, 39, 7)) f, LATERAL expected_purchases_ci(m, 2, 30, 39, 39), LATERAL (SELECT expected_purchases(m, 2, 30, 39, 39)) e(e);
SELECT c.lo IS NULL AS no_money_covariance, c.estimate = clv(n, g, 1, 5, 10, 20, 50, 0.001, 0.5) AS same, d.lo < d.estimate AND d.estimate < d.hi AS wide, pg_temp.near(ln(d.hi / d.estimate), 1.95996398454005 * sqrt(v.v + w.w), 1e-6) AS adds
FROM (SELECT ROW(2, 10, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, ARRAY[0.02, 0.01, 0.01, 0.5])::nbd_model, gammagamma_model(6, 4, 15),
	ROW(6, 4, 15, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, ARRAY[0, 0, 0, 0, 0, 0, 0, 0, 2.25])::gammagamma_model) x(n, g, h),
	LATERAL clv_ci(n, g, 1, 5, 10, 20, 50, 0.001, 0.5) c, LATERAL clv_ci(n, h, 1, 5, 10, 20, 50, 0.001, 0.5) d,
	-- by hand: ln(r + x) - ln(alpha + T), ln(v + x z)
	(SELECT 0.02 / 9 - 2 * 0.01 / 3 / 20 + 0.5 / 400) v(v), (SELECT 2.25 / 35.0 ^ 2) w(w);
-- beyond all measure an answer or an error, never NaN, and at once
SELECT p_alive(m, 1e9, 0, 1e300) AS gone, expected_purchases(m, 0, 0, 0, 1e15) > 100 AS many, p_purchase(m, 0, 0, 1e300, 1e15) < 1e-200 AS never FROM bgnbd_model(0.24, 4.4, 0.8, 2.4) m;
SELECT name, bool_and(e >= 0 AND p BETWEEN 0 AND 1 AND d >= 0) AS sane FROM (
	SELECT 'bgnbd' AS name, expected_purchases(m, x, t_x, t, h) AS e, p_alive(m, x, t_x, t, h) AS p, clv(m, g, x, t_x, t, 1, h, 0.01) AS d
		FROM unnest(ARRAY[1e-9, 1, 1e9]::float8[]) a, unnest(ARRAY[1e-9, 1, 1e9]::float8[]) b, unnest(ARRAY[1e-6, 1e6]::float8[]) r, bgnbd_model(r, 10, a, b) m, gammagamma_model(6, 4, 15) g, (VALUES (0, 0, 0), (1, 1, 100), (1000000, 99, 100)) c(x, t_x, t), unnest(ARRAY[1e-6, 1, 1e6]::float8[]) h
	UNION ALL SELECT 'mbgcnbd', expected_purchases(m, x, t_x, t, h), p_alive(m, x, t_x, t, h), 0
		FROM unnest(ARRAY[1e-9, 1, 1e9]::float8[]) a, unnest(ARRAY[1e-9, 1, 1e9]::float8[]) b, unnest(ARRAY[1e-6, 1e6]::float8[]) r, mbgcnbd_model(3, r, 10, a, b) m, (VALUES (0, 0, 0), (1, 1, 100), (1000000, 99, 100)) c(x, t_x, t), unnest(ARRAY[1e-6, 1, 1e6]::float8[]) h
	UNION ALL SELECT 'paretonbd', expected_purchases(m, x, t_x, t, h), p_alive(m, x, t_x, t, h), clv(m, g, x, t_x, t, 1, h, 0.01)
		FROM unnest(ARRAY[1e-9, 1, 1e9]::float8[]) a, unnest(ARRAY[1e-9, 1, 1e9]::float8[]) b, unnest(ARRAY[1e-6, 1e6]::float8[]) r, paretonbd_model(r, 10, a, b) m, gammagamma_model(6, 4, 15) g, (VALUES (0, 0, 0), (1, 1, 100), (1000000, 99, 100)) c(x, t_x, t), unnest(ARRAY[1e-6, 1, 1e6]::float8[]) h) q
GROUP BY name ORDER BY name;
-- the call site remembers a model, and sees another one
SELECT round(p_alive(m, 2, 30, 39)::numeric, 4) AS p FROM (SELECT bgnbd_model(0.2 + i, 4, 0.8, 2.4) AS m FROM (VALUES (0), (0), (1), (0)) v(i)) q;
CREATE TEMP TABLE models (id int, m bgnbd_model);
INSERT INTO models VALUES (1, bgnbd_model(0.24, 4.4, 0.8, 2.4)), (2, NULL), (3, (SELECT fit_bgnbd(x, t_x, t_cal) FROM simulate_purchases(bgnbd_model(0.25, 4.4, 0.8, 2.5), 500, 39, 1)));
SELECT id, p_alive(m, 2, 30, 39) > 0.5 AS p, next_purchase(m, 2, 30, 39) > 1 AS next FROM models ORDER BY id;
-- many customers of one model, each with another x, in this order and in that: a number does not depend on what was computed before
SELECT count(*) AS customers, count(*) FILTER (WHERE a.e = b.e) AS the_same, bool_and(a.e > 0) AS positive
FROM (SELECT x, expected_purchases(m, x, 30, 39, 5000) AS e FROM mbgnbd_model(0.5, 7, 0.5, 2.5) m, generate_series(1, 600) x) a
JOIN (SELECT x, expected_purchases(m, x, 30, 39, 5000) AS e FROM mbgnbd_model(0.5, 7, 0.5, 2.5) m, generate_series(600, 1, -1) x) b USING (x);
-- a chance p to leave that is the same for all, one in 200: what a and b are spread over is a point, and the answer elementary:
-- alive 1 / (1 + p / (1 - p) * ((alpha + T) / (alpha + t_x))^(r + x)), purchases of who is alive (1 - (1 + p t / (alpha + T))^-(r + x)) / p
SELECT size, round(p_alive(m, 2, 30, 39)::numeric, 7) AS alive, round((1 / (1 + 0.005 / 0.995 * (46 / 37.0) ^ 2.5))::numeric, 7) AS by_hand,
	round(expected_purchases(m, 2, 30, 39, 50000)::numeric, 4) AS purchases,
	round(((1 - (1 + 0.005 * 50000 / 46) ^ -2.5) / 0.005 / (1 + 0.005 / 0.995 * (46 / 37.0) ^ 2.5))::numeric, 4) AS by_hand,
	round(p_alive(m, 2, 30, 39, 50000)::numeric, 6) AS later, round(((1 + 0.005 * 50000 / 46) ^ -2.5 / (1 + 0.005 / 0.995 * (46 / 37.0) ^ 2.5))::numeric, 6) AS by_hand
FROM unnest('{1e10,1e12,1e14,1e17,1e20}'::float8[]) size, mbgnbd_model(0.5, 7, 0.005 * size, 0.995 * size) m;
-- NULL
SELECT p_alive(m, NULL, 0, 9) AS a, expected_purchases(m, 0, 0, 9, NULL) AS b, next_purchase(m, 0, 0, NULL) AS c, clv(m, NULL, 0, 0, 9, 1, 9, 0) AS d, expected_amount(NULL, 1, 1) AS e, purchase_pmf(NULL::nbd_model, 1, 1) AS f, clv_ci(m, NULL, 0, 0, 9, 1, 9, 0) AS g, simple_clv(1, NULL, 1, 1) AS h
FROM bgnbd_model(0.24, 4.4, 0.8, 2.4) m;
-- what no customer can have
CREATE FUNCTION pg_temp.try(expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text;
BEGIN
	EXECUTE 'SELECT ' || expression || ' FROM cdp.bgnbd_model(0.24, 4.4, 0.8, 2.4) m, cdp.gammagamma_model(6, 4, 15) g, cdp.bgbb_model(1, 1, 1, 1) bb, cdp.sbg_model(1, 1) s' INTO said;
	RETURN coalesce(said, 'NULL');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS said = PG_EXCEPTION_HINT;
	RETURN sqlstate || ' ' || sqlerrm || CASE WHEN said = '' THEN ' NO HINT' ELSE '' END;
END $$;
SELECT e AS expression, pg_temp.try(e) AS answer FROM unnest(ARRAY['p_alive(m, -1, 0, 9)', 'p_alive(m, 1.5, 1, 9)', 'p_alive(m, ''NaN'', 1, 9)', 'p_alive(m, 1, 10, 9)', 'p_alive(m, 1, -1, 9)', 'p_alive(m, 0, 1, 9)', 'p_alive(m, 1, 1, ''Infinity'')', 'p_alive(m, 1, 0, 9) > 0',
	'p_alive(m, 1, 1, 9, -1)', 'expected_purchases(m, 1, 1, 9, -1)', 'expected_purchases(m, 1, 1, 9, ''NaN'')', 'expected_purchases(m, 1, 1, 9, ''Infinity'')', 'expected_purchases(m, -0.1)', 'purchase_pmf(m, -1, 9)', 'purchase_pmf(m, 1, ''NaN'')', 'p_purchase(m, 1, 1, 9, -1)',
	'next_purchase(m, 1, 1, 9, 0)', 'next_purchase(m, 1, 1, 9, 1)', 'next_purchase(m, 1, 1, 9, ''NaN'')', 'dert(m, 1, 1, 9, 0)', 'dert(m, 1, 1, 9, -1)', 'clv(m, g, 1, 1, 9, 5, ''Infinity'', 0)', 'clv(m, g, 1, 1, 9, 5, -1, 0)', 'clv(m, g, 1, 1, 9, -5, 9, 0)', 'clv(m, g, 1, 1, 9, 5, 9, -0.1)', 'clv(m, g, 1, 1, 9, 5, 9, ''NaN'')',
	'clv(m, g, 1, 1, 9, 5, 9, 0, -1)', '(clv_schedule(m, g, 1, 1, 9, 5, ''Infinity'', 0.1, 1, 12)).period', '(clv_schedule(m, g, 1, 1, 9, 5, 52, 0.1, 1, 0)).period', '(clv_ci(m, g, 1, 1, 9, 5, 9, 0, 1, 1)).lo', '(expected_purchases_ci(m, 1, 1, 9, 5, 0)).lo',
	'expected_amount(g, 1, ''NaN'')', 'expected_amount(g, 0.5, 1)', 'p_alive(bb, 3, 2, 6, 1)', 'p_alive(bb, 2, 3, 2, 1)', 'p_alive(bb, 1, 1, 6, -1)', 'expected_purchases(bb, 1, 1, 6, 1000001)', 'expected_purchases(bb, 1, 1, 1e7, 1)', 'dert(bb, 1, 1, 6, 0)', 'survival(s, -1)', 'retention_rate(s, 0)', 'del(s, 0)', 'derl(s, 0.1, 0)', 'derl(s, ''NaN'', 1)',
	'p_alive(ROW(1, -1, 1, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::cdp.bgnbd_model, 1, 1, 9)', 'p_alive(ROW(1, NULL, 1, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::cdp.bgnbd_model, 1, 1, 9)',
	'p_alive(ROW(0, 1, 1, 1, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::cdp.mbgcnbd_model, 1, 1, 9)', '(expected_purchases_ci(ROW(1, 1, 1, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, ARRAY[1, 2])::cdp.bgnbd_model, 1, 1, 9, 9)).lo',
	'simulate_purchases(m, -1, 9, 1)', 'simulate_purchases(m, 1, -9, 1)', '(simulate_purchases(cdp.bgnbd_model(1e6, 1e-6, 1e-6, 1e6), 1, 1e9, 1)).x']) WITH ORDINALITY u(e, n) ORDER BY n;
