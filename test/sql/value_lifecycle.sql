-- value_lifecycle: stages, tiers, churn score
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SELECT lifecycle_rule, label_zh, label_en, sort, max_purchases, min_purchases, min_gap_ratio, max_p_alive FROM cdp.lifecycle_rule ORDER BY sort;
-- the first rule that holds, at and beside each limit
SELECT v.purchases, v.gap_ratio, v.p_alive, cdp.lifecycle_stage(v.purchases, v.gap_ratio, v.p_alive)
FROM (VALUES (0, NULL::float8, NULL::float8), (1, 0, NULL), (1, 1.5, 0.5), (1, 1.51, 0.5), (1, 0, 0.49), (2, 3, 0.2), (2, 3.01, 1), (2, 0, 0.19),
	(2, 1, 1), (4, NULL, NULL), (5, 1, NULL), (5, NULL, 0.5), (500, 'infinity', NULL)) v(purchases, gap_ratio, p_alive);
-- without a purchase only down, whatever the models say
SELECT p.lifecycle_rule AS previous,
	cdp.lifecycle_stage(9, 1, 1, p.lifecycle_rule, false) AS better, cdp.lifecycle_stage(9, 2, 1, p.lifecycle_rule, false) AS worse,
	cdp.lifecycle_stage(9, 4, 1, p.lifecycle_rule, false) AS gone, cdp.lifecycle_stage(9, 1, 1, p.lifecycle_rule, true) AS bought,
	cdp.lifecycle_stage(9, 1, 1, p.lifecycle_rule, NULL) AS bought_too
FROM cdp.lifecycle_rule p ORDER BY p.sort;
SELECT cdp.lifecycle_stage(NULL, 1) IS NULL AS nobody;
-- refused
SELECT cdp.lifecycle_stage(-1, 1);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.lifecycle_stage(1, -0.1);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.lifecycle_stage(1, 'NaN');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.lifecycle_stage(1, 1, 1.01);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.lifecycle_stage(1, 1, 'NaN');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.lifecycle_stage(1, 1, 1, 'growth');
\echo :LAST_ERROR_SQLSTATE
INSERT INTO cdp.lifecycle_rule (lifecycle_rule, label_zh, label_en, sort) VALUES ('回流期', 'x', 'x', 9);
\echo :LAST_ERROR_SQLSTATE
UPDATE cdp.lifecycle_rule SET max_p_alive = 1.1 WHERE lifecycle_rule = '流失期';
\echo :LAST_ERROR_SQLSTATE
UPDATE cdp.lifecycle_rule SET min_gap_ratio = 'NaN' WHERE lifecycle_rule = '流失期';
\echo :LAST_ERROR_SQLSTATE
-- rules are rows: this session follows at once, and goes back with the transaction
BEGIN;
UPDATE cdp.lifecycle_rule SET min_purchases = 3 WHERE lifecycle_rule = '成熟期';
SELECT cdp.lifecycle_stage(3, 1);
ROLLBACK;
SELECT cdp.lifecycle_stage(3, 1);
UPDATE cdp.lifecycle_rule SET min_gap_ratio = 10, max_p_alive = NULL, label_zh = '沉睡客户' WHERE lifecycle_rule = '流失期';
CALL cdp.migrate();
SELECT cdp.lifecycle_stage(3, 9, 0.01), (SELECT label_zh FROM cdp.lifecycle_rule WHERE lifecycle_rule = '流失期');
-- a rule that was taken away: the next one holds, at last none
BEGIN;
DELETE FROM cdp.lifecycle_rule WHERE lifecycle_rule = '成长期';
SELECT cdp.lifecycle_stage(3, 1) IS NULL AS none, cdp.lifecycle_stage(3, 1, 1, '成熟期', false) AS kept;
ROLLBACK;
-- with workers, too
BEGIN;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
UPDATE cdp.lifecycle_rule SET min_purchases = 8 WHERE lifecycle_rule = '成熟期';
CREATE TABLE public.lifecycle_many AS SELECT i % 10 AS n FROM generate_series(1, 20000) i;
ALTER TABLE public.lifecycle_many SET (parallel_workers = 2);
EXPLAIN (COSTS OFF) SELECT cdp.lifecycle_stage(n, 1), count(*) FROM public.lifecycle_many GROUP BY 1;
SELECT cdp.lifecycle_stage(n, 1), count(*) FROM public.lifecycle_many GROUP BY 1 ORDER BY 2;
ROLLBACK;

-- the log is kept
SELECT cdp.identify(jsonb_build_object('member_id', 'm-' || i)) FROM generate_series(1, 6) i;
SET cdp.now = '2026-06-30T12:00:00+08:00';
INSERT INTO cdp.lifecycle_log (customer_id, from_stage, to_stage, as_of, reason) VALUES
	(1, NULL, '获取期', '2026-03-01 00:00+08', '{"purchases": 1}'), (1, '获取期', '成长期', '2026-06-15 00:00+08', '{"purchases": 2}'),
	(2, NULL, '获取期', '2026-03-31 23:59+08', NULL), (2, '获取期', '衰退期', '2026-05-31 12:00+08', NULL), (2, '衰退期', '流失期', '2026-06-29 00:00+08', NULL),
	(3, NULL, '获取期', '2026-03-31 16:01+00', NULL),
	(4, NULL, '获取期', '2026-05-31 12:01+08', NULL),
	(5, NULL, '成熟期', '2026-05-01 00:00+08', NULL), (5, '成熟期', '衰退期', '2026-07-01 00:00+08', NULL),
	(6, NULL, '获取期', '2026-03-01 00:00+08', NULL);
SELECT cdp.merge_customers(1, 6, 'the same person') AS merged;
UPDATE cdp.lifecycle_log SET to_stage = '成熟期' WHERE customer_id = 1;
\echo :LAST_ERROR_SQLSTATE
-- months of cdp.timezone; 1 and 6 are one customer; in the matrix 4 had no stage 30 days ago, and July is not yet
SELECT * FROM cdp.lifecycle_flow ORDER BY month, from_stage COLLATE "C" NULLS FIRST, to_stage COLLATE "C";
SELECT * FROM cdp.lifecycle_matrix WHERE customers > 0;
SELECT count(*), count(share), sum(customers) FROM cdp.lifecycle_matrix;
RESET cdp.now;

-- tiers: ties in the better one
SELECT value_tier, label_zh, label_en, top_percent FROM cdp.value_tier ORDER BY top_percent;
SELECT t.tier, count(*), min(t.position), max(t.position) FROM (SELECT p AS position, cdp._value_tier(p, 1000) AS tier FROM generate_series(1, 1000) p) t GROUP BY t.tier ORDER BY 3;
SELECT v.clv, cdp._value_tier(rank() OVER (ORDER BY v.clv DESC), count(*) OVER ()) FROM (VALUES (9), (9), (9), (5), (1), (1), (1), (1), (1), (1)) v(clv);
SELECT cdp._value_tier(0, 10);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._value_tier(11, 10);
\echo :LAST_ERROR_SQLSTATE
INSERT INTO cdp.value_tier (value_tier, label_zh, label_en, top_percent) VALUES ('none', 'x', 'x', 0);
\echo :LAST_ERROR_SQLSTATE
DELETE FROM cdp.value_tier WHERE value_tier = 'base';
CALL cdp.migrate();
SELECT cdp._value_tier(100, 100) IS NULL AS none, cdp._value_tier(50, 100) AS middle;

-- churn: without model
SELECT v.p, v.g, cdp.churn_score(v.p, v.g) FROM (VALUES (1, 0), (1, 1), (1, 2), (0.5, 0.5), (0.5, 4), (0, 1), (0, 'infinity'), (1, 'infinity')) v(p, g);
-- with one: 1 / (1 + exp(-eta)), eta = 0.5 - 0.8 logit p + 0.7 ln g - 0.3 ln(1 + x) + 0.1 ln T
CREATE FUNCTION pg_temp.model(b float8[]) RETURNS cdp.logistic_model LANGUAGE sql AS
	'SELECT ROW(b, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::cdp.logistic_model';
SELECT round(cdp.churn_score(0.7, 2, 4, 30, pg_temp.model('{0.5,-0.8,0.7,-0.3,0.1}'))::numeric, 12) AS score,
	round((1 / (1 + exp(-(0.5 - 0.8 * ln(0.7 / 0.3) + 0.7 * ln(2) - 0.3 * ln(5) + 0.1 * ln(30)))))::numeric, 12) AS by_hand;
SELECT round(unnest(cdp._churn_features(0.7, 2, 4, 30))::numeric, 6);
SELECT cdp._churn_features(1, 0, 0, 0);
-- the edges stay in 0 to 1, coefficients of the wrong sign count as 0
SELECT cdp.churn_score(1, 0, 0, 0, m) BETWEEN 0 AND 1 AS low, cdp.churn_score(0, 'infinity', 1e6, 1e6, m) BETWEEN 0 AND 1 AS high,
	cdp.churn_score(0.9, 1, 1, 1, m) = cdp.churn_score(0.1, 5, 1, 1, m) AS flat FROM pg_temp.model('{800,0.8,-0.7,900,-900}') m;
SELECT cdp.churn_score(NULL, 1) IS NULL AS no_p, cdp.churn_score(1, NULL) IS NULL AS no_gap, cdp.churn_score(0.5, 2, NULL, 3, m) IS NULL AS no_x,
	cdp.churn_score(0.5, 2, 3, NULL, m) IS NULL AS no_t FROM pg_temp.model('{0,0,0,0,0}') m;
-- refused
SELECT cdp.churn_score(1.01, 1);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.churn_score('NaN', 1);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.churn_score(0.5, -1);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.churn_score(0.5, 1, -1, 1, pg_temp.model('{0,0,0,0,0}'));
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.churn_score(0.5, 1, 1, 'infinity', pg_temp.model('{0,0,0,0,0}'));
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.churn_score(0.5, 1, 1, 1, pg_temp.model('{0,0,0,0}'));
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.churn_score(0.5, 1, 1, 1, pg_temp.model('{0,0,0,0,NaN}'));
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.churn_score(0.5, 1, 1, 1, pg_temp.model('{0,0,NULL,0,0}'));
\echo :LAST_ERROR_SQLSTATE
-- the session goes on
SELECT cdp.churn_score(0.5, 1);
DROP EXTENSION customer_cdp CASCADE;
