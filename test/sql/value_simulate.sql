-- customers drawn from a model: the same for a seed, like the model, and fitted back
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
SET search_path = cdp, pg_catalog;
SET extra_float_digits = 0;
-- these very customers, on every machine
SELECT customer, x, round(t_x::numeric, 9) AS t_x, t_cal, round(log_gaps::numeric, 9) AS log_gaps, alive FROM simulate_purchases(bgnbd_model(1.2, 4.4, 0.8, 2.4), 6, 39, 42);
SELECT customer, x, round(t_x::numeric, 9) AS t_x, t_cal, round(log_gaps::numeric, 9) AS log_gaps, alive FROM simulate_purchases(mbgnbd_model(1.2, 4.4, 0.8, 2.4), 6, 39, 42);
SELECT customer, x, round(t_x::numeric, 9) AS t_x, t_cal, round(log_gaps::numeric, 9) AS log_gaps, alive FROM simulate_purchases(mbgcnbd_model(3, 1.2, 1.4, 0.8, 2.4), 6, 39, 42);
SELECT customer, x, round(t_x::numeric, 9) AS t_x, t_cal, round(log_gaps::numeric, 9) AS log_gaps, alive FROM simulate_purchases(paretonbd_model(1.2, 4.4, 0.8, 12.4), 6, 39, 42);
SELECT md5(string_agg(s::text, ',' ORDER BY customer)) AS to_the_last_bit FROM simulate_purchases(paretonbd_model(0.55, 10.58, 0.61, 11.67), 2000, 39, -1) s;
-- a customer does not depend on how many there are; another seed is another shop
SELECT (SELECT array_agg(s ORDER BY customer) FROM simulate_purchases(bgnbd_model(1.2, 4.4, 0.8, 2.4), 1000, 39, 7) s WHERE customer <= 20) =
	(SELECT array_agg(s ORDER BY customer) FROM simulate_purchases(bgnbd_model(1.2, 4.4, 0.8, 2.4), 20, 39, 7) s) AS same,
	(SELECT count(*) FROM simulate_purchases(bgnbd_model(1.2, 4.4, 0.8, 2.4), 1000, 39, 7) a JOIN simulate_purchases(bgnbd_model(1.2, 4.4, 0.8, 2.4), 1000, 39, 8) b USING (customer, x, t_x, alive) WHERE x > 0) AS in_common,
	(SELECT count(DISTINCT t_x) FILTER (WHERE x > 0) = count(*) FILTER (WHERE x > 0) FROM simulate_purchases(bgnbd_model(1.2, 4.4, 0.8, 2.4), 1000, 39, 7)) AS all_different;
-- what they are: within four standard errors of what the model expects of new customers
SELECT name, n, min(x) >= 0 AND bool_and(t_x <= 39 AND (x > 0) = (t_x > 0) AND (x > 0 OR log_gaps = 0)) AS sound,
	abs(avg(x) - min(e)) < 4 * stddev(x) / sqrt(n) AS purchases, abs(avg(alive::int) - min(p)) < 4 * sqrt(0.25 / n) AS alive, abs(avg((x = 0)::int) - (1 - min(q))) < 4 * sqrt(0.25 / n) AS one_timers
FROM (SELECT 'bgnbd' AS name, 20000 AS n, s.*, expected_purchases(m, 39) AS e, p_alive(m, 0, 0, 0, 39) AS p, p_purchase(m, 0, 0, 0, 39) AS q FROM bgnbd_model(0.6, 4.4, 0.8, 2.4) m, simulate_purchases(m, 20000, 39, 1) s
	UNION ALL SELECT 'mbgnbd', 20000, s.*, expected_purchases(m, 39), p_alive(m, 0, 0, 0, 39), p_purchase(m, 0, 0, 0, 39) FROM mbgnbd_model(0.6, 4.4, 0.8, 2.4) m, simulate_purchases(m, 20000, 39, 2) s
	UNION ALL SELECT 'mbgcnbd 2', 20000, s.*, expected_purchases(m, 39), p_alive(m, 0, 0, 0, 39), p_purchase(m, 0, 0, 0, 39) FROM mbgcnbd_model(2, 0.6, 2.2, 0.8, 2.4) m, simulate_purchases(m, 20000, 39, 3) s
	UNION ALL SELECT 'mbgcnbd 12', 20000, s.*, expected_purchases(m, 39), p_alive(m, 0, 0, 0, 39), p_purchase(m, 0, 0, 0, 39) FROM mbgcnbd_model(12, 3.6, 0.8, 0.3, 2.4) m, simulate_purchases(m, 20000, 39, 4) s
	UNION ALL SELECT 'paretonbd', 20000, s.*, expected_purchases(m, 39), p_alive(m, 0, 0, 0, 39), p_purchase(m, 0, 0, 0, 39) FROM paretonbd_model(0.6, 4.4, 0.8, 12.4) m, simulate_purchases(m, 20000, 39, 5) s) q
GROUP BY name, n ORDER BY name;
-- no purchases, no time, nobody, nothing known
SELECT * FROM simulate_purchases(bgnbd_model(1e-9, 4.4, 0.8, 2.4), 2, 39, 1);
SELECT * FROM simulate_purchases(mbgcnbd_model(2, 1.2, 4.4, 1e9, 1e-9), 2, 0, 1);
SELECT count(*) FROM simulate_purchases(bgnbd_model(1.2, 4.4, 0.8, 2.4), 0, 39, 1);
SELECT count(*) FROM simulate_purchases(NULL::bgnbd_model, 10, 39, 1);
-- a row at a time: a million asked for, ten taken
SELECT count(*) FROM (SELECT simulate_purchases(bgnbd_model(1.2, 4.4, 0.8, 2.4), 100000000, 39, 1) LIMIT 10) s;
-- fitted again they give the model
SELECT name, abs(r / 0.5 - 1) < 0.15 AS r, abs(alpha / 5 - 1) < 0.15 AS alpha, abs(a / 0.8 - 1) < 0.15 AS a, abs(b / 2.5 - 1) < 0.15 AS b, converged
FROM (SELECT 'bgnbd' AS name, (m).r, (m).alpha, (m).a, (m).b, (m).converged FROM (SELECT fit_bgnbd(x, t_x, t_cal) AS m FROM simulate_purchases(bgnbd_model(0.5, 5, 0.8, 2.5), 100000, 39, 11)) q
	UNION ALL SELECT 'mbgnbd', (m).r, (m).alpha, (m).a, (m).b, (m).converged FROM (SELECT fit_mbgnbd(x, t_x, t_cal) AS m FROM simulate_purchases(mbgnbd_model(0.5, 5, 0.8, 2.5), 100000, 39, 11)) q
	UNION ALL SELECT 'paretonbd', (m).r, (m).alpha, (m).s, (m).beta / 10, (m).converged FROM (SELECT fit_paretonbd(x, t_x, t_cal) AS m FROM simulate_purchases(paretonbd_model(0.5, 5, 0.8, 25), 50000, 39, 11)) q) f ORDER BY name;
SELECT (m).k, abs((m).r / 0.8 - 1) < 0.15 AS r, abs((m).alpha / 3 - 1) < 0.15 AS alpha, (m).converged FROM (SELECT fit_mbgcnbd(x, t_x, t_cal, log_gaps) AS m FROM simulate_purchases(mbgcnbd_model(2, 0.8, 3, 0.8, 2.5), 10000, 39, 3)) q;
