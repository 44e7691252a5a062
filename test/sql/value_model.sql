-- models as values: constructors, log_likelihood
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
CREATE FUNCTION pg_temp.try(q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	h text;
	r text;
BEGIN
	EXECUTE q INTO r;
	RETURN r;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
	RETURN sqlstate || ' ' || sqlerrm || ' | ' || h;
END $$;

-- parameters, and nothing else
SELECT cdp.bgnbd_model(0.24, 4.4, 0.8, 2.4);
SELECT cdp.mbgnbd_model(0.52, 6.2, 0.9, 1.6);
SELECT cdp.paretonbd_model(0.55, 10.6, 0.6, 11.7);
SELECT cdp.nbd_model(0.38, 12);
SELECT cdp.mbgcnbd_model(2, 0.58, 2.3, 1.1, 1.6);
SELECT cdp.gammagamma_model(6.25, 3.74, 15.4);
SELECT cdp.bgbb_model(1.2, 0.75, 0.66, 2.8);
SELECT cdp.sbg_model(0.7, 1.2);
SELECT (cdp.bgnbd_model(0.24, 4.4, 0.8, 2.4)).alpha, (cdp.bgnbd_model(0.24, 4.4, 0.8, 2.4)).converged, cdp.nbd_model(NULL, 1) AS of_null;

-- what is no parameter
SELECT q, pg_temp.try('SELECT ' || q) FROM unnest(ARRAY['cdp.bgnbd_model(0, 1, 1, 1)', 'cdp.mbgnbd_model(1, -1, 1, 1)', 'cdp.paretonbd_model(1, 1, ''NaN'', 1)',
	'cdp.nbd_model(1, ''infinity'')', 'cdp.mbgcnbd_model(0, 1, 1, 1, 1)', 'cdp.mbgcnbd_model(101, 1, 1, 1, 1)', 'cdp.gammagamma_model(1, 1, -0.0)', 'cdp.sbg_model(1, ''-infinity'')']) q;
-- a model that was not made here
SELECT q, pg_temp.try('SELECT ' || q) FROM unnest(ARRAY['cdp.log_likelihood(ROW(1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::cdp.nbd_model, 1, 2)',
	'cdp.log_likelihood(''(1,-2,,,,,,,,,,)''::cdp.nbd_model, 1, 2)', 'cdp.log_likelihood(''(0,1,1,1,1,,,,,,,,,,)''::cdp.mbgcnbd_model, 1, 1, 2, 0)', 'cdp.log_likelihood(NULL::cdp.nbd_model, 1, 2)']) q;

-- one customer: the formulas of the papers, written down again
CREATE FUNCTION pg_temp.lg(x float8) RETURNS float8 LANGUAGE sql AS $$ SELECT cdp._value_math('log_gamma', x) $$;
CREATE FUNCTION pg_temp.lb(a float8, b float8) RETURNS float8 LANGUAGE sql AS $$ SELECT pg_temp.lg(a) + pg_temp.lg(b) - pg_temp.lg(a + b) $$;
CREATE TEMP TABLE c (x float8, t_x float8, t_cal float8);
INSERT INTO c VALUES (0, 0, 0), (0, 0, 39), (1, 1.7, 38.9), (2, 30.4, 38.9), (7, 38.9, 38.9), (3, 0, 10), (40, 30, 31);
SELECT x, t_x, t_cal,
	round((cdp.log_likelihood(cdp.nbd_model(0.4, 12), x, t_cal)
		- (pg_temp.lg(0.4 + x) - pg_temp.lg(0.4) + 0.4 * ln(12) - (0.4 + x) * ln(12 + t_cal)))::numeric, 9) AS nbd,
	round((cdp.log_likelihood(cdp.bgnbd_model(0.4, 12, 0.8, 2.4), x, t_x, t_cal)
		- (pg_temp.lg(0.4 + x) - pg_temp.lg(0.4) + 0.4 * ln(12) + pg_temp.lb(0.8, 2.4 + x) - pg_temp.lb(0.8, 2.4)
		+ ln((12 + t_cal) ^ -(0.4 + x) + CASE WHEN x > 0 THEN 0.8 / (2.4 + x - 1) * (12 + t_x) ^ -(0.4 + x) ELSE 0 END)))::numeric, 9) AS bgnbd,
	round((cdp.log_likelihood(cdp.mbgcnbd_model(2, 0.4, 12, 0.8, 2.4), x, t_x, t_cal, x / 2)
		- (0.4 * ln(12) - pg_temp.lg(0.4) + x / 2 + ln(exp(pg_temp.lg(0.4 + 2 * x) + pg_temp.lb(1.8, 2.4 + x) - pg_temp.lb(0.8, 2.4)) * (12 + t_x) ^ -(0.4 + 2 * x)
		+ exp(pg_temp.lg(0.4 + 2 * x) + pg_temp.lb(0.8, 3.4 + x) - pg_temp.lb(0.8, 2.4)) * (12 + t_cal) ^ -(0.4 + 2 * x)
		+ exp(pg_temp.lg(1.4 + 2 * x) + pg_temp.lb(0.8, 3.4 + x) - pg_temp.lb(0.8, 2.4)) * (t_cal - t_x) * (12 + t_cal) ^ -(1.4 + 2 * x))))::numeric, 9) AS mbgcnbd
FROM c ORDER BY 1, 2;
SELECT bool_and(cdp.log_likelihood(cdp.mbgnbd_model(0.4, 12, 0.8, 2.4), x, t_x, t_cal) = cdp.log_likelihood(cdp.mbgcnbd_model(1, 0.4, 12, 0.8, 2.4), x, t_x, t_cal, x)) AS mbgnbd_is_k_1 FROM c;
-- Pareto/NBD: the integral over the time of leaving in 20,000 steps
SELECT x, t_x, t_cal, abs(cdp.log_likelihood(cdp.paretonbd_model(0.5, 11, 0.6, 12), x, t_x, t_cal)
	- (pg_temp.lg(0.5 + x) - pg_temp.lg(0.5) + 0.5 * ln(11) + 0.6 * ln(12) + ln((11 + t_cal) ^ -(0.5 + x) * (12 + t_cal) ^ -0.6
	+ (SELECT 0.6 * (t_cal - t_x) / 20000 * sum((11 + y) ^ -(0.5 + x) * (12 + y) ^ -1.6) FROM (SELECT t_x + (t_cal - t_x) * (i - 0.5) / 20000 AS y FROM generate_series(1, 20000) i) s)))) < 1e-6 AS agrees
FROM c WHERE t_cal > t_x ORDER BY 1, 2;
-- what adds up to 1: BG/BB over all x and t_x of 6 occasions, sBG over all periods or still there
SELECT round((SELECT exp(cdp.log_likelihood(cdp.bgbb_model(1.2, 0.75, 0.66, 2.8), 0, 0, 6)) + sum(ways * exp(cdp.log_likelihood(cdp.bgbb_model(1.2, 0.75, 0.66, 2.8), x, t, 6)))
	FROM (SELECT x, t, exp(pg_temp.lg(t) - pg_temp.lg(x) - pg_temp.lg(t - x + 1)) AS ways FROM generate_series(1, 6) t, generate_series(1, t) x) w)::numeric, 12) AS bgbb,
	round((SELECT sum(exp(cdp.log_likelihood(cdp.sbg_model(0.7, 1.2), t, true))) + exp(cdp.log_likelihood(cdp.sbg_model(0.7, 1.2), 50, false)) FROM generate_series(1, 50) t)::numeric, 12) AS sbg;
-- ... and Gamma-Gamma over all means
SELECT round((SELECT sum(exp(cdp.log_likelihood(cdp.gammagamma_model(6.25, 3.74, 15.4), 3, exp(i / 100.0)) + i / 100.0)) / 100 FROM generate_series(-1500, 2000) i)::numeric, 9) AS gammagamma,
	cdp.log_likelihood(cdp.gammagamma_model(6.25, 3.74, 15.4), 0, 0) AS without_purchase, cdp.log_likelihood(cdp.gammagamma_model(6.25, 3.74, 15.4), 2, 0) AS without_money;
-- far out
SELECT round(cdp.log_likelihood(cdp.bgnbd_model(0.24, 4.4, 0.8, 2.4), 1e6, 700, 730)::numeric, 3) AS bgnbd,
	round(cdp.log_likelihood(cdp.mbgcnbd_model(3, 0.24, 4.4, 0.8, 2.4), 1e6, 700, 730, -7e6)::numeric, 3) AS mbgcnbd,
	round(cdp.log_likelihood(cdp.paretonbd_model(0.5, 11, 0.6, 12), 1e6, 700, 730)::numeric, 3) AS paretonbd,
	round(cdp.log_likelihood(cdp.bgbb_model(1.2, 0.75, 0.66, 2.8), 3, 5, 1000000)::numeric, 3) AS bgbb;
-- data that are none
SELECT q, pg_temp.try('SELECT cdp.log_likelihood(' || q || ')') FROM unnest(ARRAY['cdp.bgnbd_model(1, 1, 1, 1), -1, 0, 1', 'cdp.mbgnbd_model(1, 1, 1, 1), 1.5, 1, 2', 'cdp.paretonbd_model(1, 1, 1, 1), 1, 3, 2',
	'cdp.paretonbd_model(1, 1, 1, 1), 0, 1, 2', 'cdp.bgnbd_model(1, 1, 1, 1), ''NaN'', 0, 1', 'cdp.bgnbd_model(1, 1, 1, 1), 1, -1, 1', 'cdp.nbd_model(1, 1), 1, -1', 'cdp.nbd_model(1, 1), 1e10, 1',
	'cdp.mbgcnbd_model(2, 1, 1, 1, 1), 1, 1, 2, ''-infinity''', 'cdp.mbgcnbd_model(2, 1, 1, 1, 1), 0, 0, 2, 1', 'cdp.gammagamma_model(1, 2, 1), 1, -5', 'cdp.gammagamma_model(1, 2, 1), 1, ''NaN''',
	'cdp.bgbb_model(1, 1, 1, 1), 3, 2, 6', 'cdp.bgbb_model(1, 1, 1, 1), 1, 7, 6', 'cdp.bgbb_model(1, 1, 1, 1), 1, 1.5, 6', 'cdp.bgbb_model(1, 1, 1, 1), 1, 1, 6.5', 'cdp.bgbb_model(1, 1, 1, 1), 0, 2, 6',
	'cdp.bgbb_model(1, 1, 1, 1), 1, 1, 1e7', 'cdp.sbg_model(1, 1), 0, true', 'cdp.nbd_model(1, 1), NULL, 1']) q;
