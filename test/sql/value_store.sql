-- value_store: fitted models as rows, chosen, judged by the past; what cannot be fitted; rights
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
RESET client_min_messages;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET cdp.now = '2025-07-01 00:00+08';

-- nothing to fit
CALL cdp.fit_value_models();
SELECT count(*) FROM cdp.value_model;
SELECT cdp.model() IS NULL AS none, cdp.as_bgnbd(NULL) IS NULL AS null_in;
SELECT * FROM cdp.health() WHERE check_name = 'value_model';

CALL cdp.load_demo(500);
CALL cdp.fit_value_models();
SELECT name, scope, chosen, unit, time_zone, refunds, currency, customers = (SELECT count(*) FROM cdp.btyd_table()) AS all_customers,
	purchases = (SELECT sum(x + 1) FROM cdp.btyd_table()) AS all_purchases, converged, boundary, reason,
	jsonb_object_keys_sorted AS parameters, standard_errors IS NOT NULL AS se
FROM cdp.value_model, LATERAL (SELECT string_agg(k, ' ' ORDER BY k) AS jsonb_object_keys_sorted FROM jsonb_object_keys(parameters) k) k ORDER BY value_model_id;
-- exactly one of each kind is used, and it is the one with the least BIC
SELECT count(*) FILTER (WHERE name NOT IN ('gammagamma', 'churn')) AS of_purchases, count(*) FILTER (WHERE name = 'gammagamma') AS of_money,
	count(*) FILTER (WHERE name = 'churn') AS of_churn FROM cdp.value_model WHERE chosen;
SELECT cdp.model()->>'name' = (SELECT name FROM cdp.value_model WHERE name IN ('mbgnbd', 'mbgcnbd', 'paretonbd') AND converged ORDER BY bic LIMIT 1) AS best;
-- a row is the model again, to the last bit: what the aggregate answers
SELECT m.name, CASE m.name
	WHEN 'bgnbd' THEN (SELECT cdp.as_bgnbd(m.value_model_id)::text = cdp.fit_bgnbd(x, t_x, t_cal)::text FROM cdp.btyd_table())
	WHEN 'mbgnbd' THEN (SELECT cdp.as_mbgnbd(m.value_model_id)::text = cdp.fit_mbgnbd(x, t_x, t_cal)::text FROM cdp.btyd_table())
	WHEN 'paretonbd' THEN (SELECT cdp.as_paretonbd(m.value_model_id)::text = cdp.fit_paretonbd(x, t_x, t_cal)::text FROM cdp.btyd_table())
	WHEN 'nbd' THEN (SELECT cdp.as_nbd(m.value_model_id)::text = cdp.fit_nbd(x, t_cal)::text FROM cdp.btyd_table())
	WHEN 'mbgcnbd' THEN (SELECT cdp.as_mbgcnbd(m.value_model_id)::text = cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps)::text FROM cdp.btyd_table())
	WHEN 'gammagamma' THEN (SELECT cdp.as_gammagamma(m.value_model_id)::text = cdp.fit_gammagamma(x, mean_amount)::text FROM cdp.btyd_table())
	END AS the_same FROM cdp.value_model m WHERE m.name <> 'churn' ORDER BY m.value_model_id;
SELECT (cdp.as_logistic(value_model_id)).customers = (SELECT count(*) FROM cdp.btyd_table(cdp.now() - interval '90 days')) AS rows_of_the_split,
	(cdp.as_logistic(value_model_id)).auc > 0.5 AS better_than_a_coin FROM cdp.value_model WHERE name = 'churn';
SELECT cdp.as_bgnbd((SELECT value_model_id FROM cdp.value_model WHERE name = 'nbd'));
SELECT cdp.as_logistic(0);

SELECT cdp.model() - '{parameters,standard_errors,bic,log_likelihood,data_from,data_until,name,customers,purchases,reason}'::text[];

-- again: new rows take the place, old ones stay; a query of one's own is another scope
CALL cdp.fit_value_models(holdout => '60 days');
CALL cdp.fit_value_models(purchases => 'SELECT profile_id, ordered_at, amount FROM cdp.sales_order WHERE status = ''completed''', unit => '1 day');
SELECT scope, count(*) AS rows, count(*) FILTER (WHERE chosen) AS chosen, min(unit) FROM cdp.value_model GROUP BY scope ORDER BY scope;
SELECT (cdp.model()->>'value_model_id')::bigint = (SELECT max(value_model_id) FROM cdp.value_model WHERE chosen AND scope = 'sales_order' AND name NOT IN ('gammagamma', 'churn')) AS newest;
SELECT count(*) FROM cdp.repurchase_cycle WHERE k > 0;
-- what cannot be fitted is told, not raised: one customer; everybody once
CALL cdp.fit_value_models(purchases => 'SELECT 1, timestamptz ''2025-06-01'', 10.0');
CALL cdp.fit_value_models(purchases => 'SELECT g, timestamptz ''2025-06-01'' - g * interval ''1 day'', 10.0 FROM generate_series(1, 50) g');
SELECT name, chosen, converged, boundary, reason, parameters::text ~ 'NaN' AS nan FROM cdp.value_model ORDER BY value_model_id DESC LIMIT 12;

-- names are found in the search_path of the caller
CREATE SCHEMA value_store_shop;
CREATE TABLE value_store_shop.bought AS SELECT i % 20 AS buyer, date '2025-01-01' + i * 3 AS day, 5 AS total FROM generate_series(1, 50) i;
SET search_path = value_store_shop;
CALL cdp.fit_value_models(purchases => 'SELECT buyer, day, total FROM bought');
RESET search_path;
SELECT count(*), min(customers), min(purchases) FROM cdp.value_model WHERE scope = 'query' AND chosen AND name <> 'churn';
-- nothing but gifts; a date of the year 1, which must not cost a line for every week since
CALL cdp.fit_value_models(purchases => 'SELECT i % 20, date ''2025-01-01'' + i * 3, 0 FROM generate_series(1, 50) i');
SELECT name, chosen, reason, bic FROM cdp.value_model WHERE name = 'gammagamma' ORDER BY value_model_id DESC LIMIT 1;
SET statement_timeout = '60s';
CALL cdp.fit_value_models(purchases => 'SELECT i % 20, CASE i WHEN 9 THEN date ''0001-01-01'' ELSE date ''2025-01-01'' + i * 3 END, 5 FROM generate_series(1, 50) i');
RESET statement_timeout;
SELECT m.name IS NOT NULL AS chosen, (SELECT count(*) FROM cdp.value_tracking t WHERE t.value_model_id = m.value_model_id) AS periods, (SELECT count(*) > 0 FROM cdp.value_holdout t WHERE t.value_model_id = m.value_model_id) AS judged
FROM cdp.value_model m WHERE m.scope = 'query' AND m.chosen AND m.name NOT IN ('churn', 'gammagamma');
DROP SCHEMA value_store_shop CASCADE;

-- bad input
CALL cdp.fit_value_models(unit => '1 month');
CALL cdp.fit_value_models(unit => '90 minutes');
CALL cdp.fit_value_models(holdout => '0 days');
CALL cdp.fit_value_models(as_of => 'infinity');
CALL cdp.fit_value_models(purchases => 'SELEKT 1');
CALL cdp.fit_value_models(purchases => 'SELECT 1, 2, 3');
CALL cdp.fit_value_models(purchases => 'SELECT 1, timestamptz ''2025-06-01'', ''NaN''::numeric');
CALL cdp.fit_value_models(purchases => 'DELETE FROM cdp.sales_order RETURNING profile_id, ordered_at, amount');
BEGIN;
CALL cdp.fit_value_models();
ROLLBACK;
SELECT status, count(*) FROM cdp.job_run WHERE job = 'fit_value_models' GROUP BY 1 ORDER BY 1;
-- rights
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_value_store;
RESET client_min_messages;
CREATE ROLE regress_value_store;
SELECT cdp.grant_access('reader', 'regress_value_store');
SET ROLE regress_value_store;
SELECT count(*) > 0 AS sees_models FROM cdp.value_tracking;
CALL cdp.fit_value_models();
RESET ROLE;
SELECT cdp.grant_access('operator', 'regress_value_store');
SET ROLE regress_value_store;
CALL cdp.fit_value_models();
CALL cdp.fit_value_models(purchases => 'SELECT 1, timestamptz ''2025-06-01'', 1 FROM public.regress_value_secret');
RESET ROLE;
CREATE TABLE public.regress_value_secret (a int);
SET ROLE regress_value_store;
CALL cdp.fit_value_models(purchases => 'SELECT 1, timestamptz ''2025-06-01'', 1 FROM public.regress_value_secret');
RESET ROLE;
DROP TABLE public.regress_value_secret;
SELECT scope, count(*) FILTER (WHERE chosen) AS chosen FROM cdp.value_model GROUP BY scope ORDER BY scope;
-- age
SET cdp.now = '2025-08-01 00:00+08';
SELECT check_name, ok, detail ~ 'fitted 31 days ago' AS told FROM cdp.health() WHERE check_name = 'value_model';
DROP OWNED BY regress_value_store;
DROP ROLE regress_value_store;
