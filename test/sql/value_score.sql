-- value_score: one row per customer, written only where it differs; merges, events, stages, one customer now; bad input, rights
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
RESET client_min_messages;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET cdp.now = '2025-07-01 00:00+08';
CALL cdp.load_demo(300);
SELECT * FROM cdp.health() WHERE check_name = 'customer_value';

-- without a model: what needs none
CALL cdp.score_customers();
SELECT count(*) = (SELECT count(*) FROM cdp.rfm_table()) AS everybody, count(p_alive) AS p, count(clv) AS clv, count(value_tier) AS tier, count(typical_gap) AS gaps,
	count(DISTINCT lifecycle_stage) > 1 AS stages FROM cdp.customer_value;
CALL cdp.fit_value_models();
CALL cdp.score_customers();
SELECT differ = customers AS all_differ FROM cdp.value_run ORDER BY value_run_id DESC LIMIT 1;
-- the facts are those of rfm_table and btyd_table, the scores those of the functions, rounded
SELECT count(*) FILTER (WHERE (v.frequency, v.monetary, v.first_at, v.last_at, v.r, v.f, v.m, v.group8, v.group11) IS DISTINCT FROM
		(r.frequency, r.monetary, r.first_at, r.last_at, r.r, r.f, r.m, r.group8, r.group11)) AS wrong_facts,
	count(*) FILTER (WHERE v.x <> b.x OR v.mean_amount IS DISTINCT FROM round(b.mean_amount::numeric, 2)) AS wrong_summary, count(*) = (SELECT count(*) FROM cdp.rfm_table()) AS all
FROM cdp.customer_value v JOIN cdp.rfm_table() r USING (customer_id) JOIN cdp.btyd_table() b USING (customer_id);
SELECT cdp.model()->>'name' AS chosen;
SELECT count(*) FILTER (WHERE abs(v.p_alive - cdp.p_alive(m.m, b.x, b.t_x, b.t_cal)) > 0.005001) AS wrong_p,
	count(*) FILTER (WHERE abs(v.expected_90 - cdp.expected_purchases(m.m, b.x, b.t_x, b.t_cal, 90 / 7.0)) > 0.005001) AS wrong_expected,
	count(*) FILTER (WHERE abs(v.expected_365 - cdp.expected_purchases(m.m, b.x, b.t_x, b.t_cal, 365 / 7.0)) > 0.005001) AS wrong_year,
	count(*) FILTER (WHERE abs(v.expected_amount - cdp.expected_amount(m.g, b.x, b.mean_amount)::numeric) > 0.005001) AS wrong_amount,
	count(*) FILTER (WHERE abs(v.clv - c.clv) > greatest(0.005001, 0.005001 * c.clv)) AS wrong_clv,
	count(*) FILTER (WHERE v.clv > 0 AND NOT v.clv_lo <= v.clv) + count(*) FILTER (WHERE v.clv > 0 AND NOT v.clv <= v.clv_hi) AS wrong_interval,
	count(*) FILTER (WHERE v.clv > 0) > 10 AS some
FROM cdp.customer_value v JOIN cdp.btyd_table() b USING (customer_id),
	(SELECT cdp.as_mbgcnbd(p.value_model_id) AS m, cdp.as_gammagamma(g.value_model_id) AS g FROM cdp.value_model p, cdp.value_model g
		WHERE p.chosen AND p.name = 'mbgcnbd' AND g.chosen AND g.name = 'gammagamma') m,
	LATERAL (SELECT cdp.clv(m.m, m.g, b.x, b.t_x, b.t_cal, b.mean_amount, 365 / 7.0, ln(1.1) * 7 / 365)::numeric AS clv) c;
-- tiers: the best first, ties together
SELECT value_tier, count(*) <= ceil(t.top_percent * (SELECT count(*) FROM cdp.customer_value) / 100.0) + 1 AS not_too_many
FROM cdp.customer_value JOIN cdp.value_tier t USING (value_tier) WHERE value_tier IN ('top', 'high') GROUP BY 1, t.top_percent ORDER BY 1;
SELECT count(*) FROM cdp.customer_value a JOIN cdp.customer_value b ON a.clv = b.clv AND a.value_tier <> b.value_tier;
-- again: nothing is written, nobody is told
SELECT max(xmin::text::bigint) AS before, (SELECT count(*) FROM cdp.event WHERE name IN ('Lifecycle Stage Changed', 'Value Tier Changed', 'Churn Risk Raised')) AS told FROM cdp.customer_value \gset
CALL cdp.score_customers();
SELECT differ FROM cdp.value_run ORDER BY value_run_id DESC LIMIT 1;
SELECT max(xmin::text::bigint) = :before AS untouched FROM cdp.customer_value;
SELECT count(*) = :told AS nobody_told FROM cdp.event WHERE name IN ('Lifecycle Stage Changed', 'Value Tier Changed', 'Churn Risk Raised');
-- in another time zone of the session: the same rows
SET TimeZone = 'America/New_York';
CALL cdp.score_customers();
SET TimeZone = 'Asia/Shanghai';
CALL cdp.score_customers();
SET TimeZone = 'UTC';
SELECT differ FROM cdp.value_run ORDER BY value_run_id DESC LIMIT 2;
-- one customer now is the row
SELECT count(*) FILTER (WHERE v IS DISTINCT FROM cdp.value_of(v.customer_id)) AS differ, count(*) > 100 AS some FROM cdp.customer_value v;
SELECT cdp.value_of(NULL) IS NULL AS null_in, cdp.value_of(0) IS NULL AS nobody, cdp.value_of((SELECT min(customer_id) FROM cdp.customer_value), '2001-01-01') IS NULL AS before_all;

-- a customer who left buys again: his stage moves up, one row of the log, one event
SELECT customer_id AS lost FROM cdp.customer_value WHERE lifecycle_stage = '流失期' ORDER BY customer_id LIMIT 1 \gset
SELECT i.kind AS kind, i.value AS value FROM cdp.identifier i WHERE i.profile_id = :lost AND i.valid_to IS NULL ORDER BY i.identifier_id LIMIT 1 \gset
SET cdp.now = '2025-07-02 00:00+08';
SELECT cdp.record_order(jsonb_build_object(:'kind', :'value'), '{"order_id": "back", "status": "paid", "amount": 120, "ordered_at": "2025-07-01 10:00+08"}');
SELECT (cdp.value_of(:lost)).lifecycle_stage AS will_be;
CALL cdp.score_customers();
SELECT lifecycle_stage, frequency > 1 AS more FROM cdp.customer_value WHERE customer_id = :lost;
SELECT count(*) AS in_log, max(from_stage) AS from_stage FROM cdp.lifecycle_log WHERE customer_id = :lost AND as_of = cdp.now();
SELECT name, properties->>'from' AS was, source, occurred_at FROM cdp.event WHERE profile_id = :lost AND name = 'Lifecycle Stage Changed';
SELECT count(*) = (SELECT count(*) FROM cdp.lifecycle_log WHERE as_of = cdp.now() AND from_stage IS NOT NULL) AS one_event_per_change, count(*) = count(DISTINCT message_id) AS no_double
FROM cdp.event WHERE name = 'Lifecycle Stage Changed' AND occurred_at = cdp.now();
SELECT kind, title ~ '流失期 → ' AS moved FROM cdp.timeline(:lost, from_time => '2025-07-01') WHERE kind = 'lifecycle';
-- the order goes again before the clock moves: told, too
DELETE FROM cdp.sales_order WHERE order_id = 'back';
CALL cdp.score_customers();
SELECT properties->>'to' AS becomes FROM cdp.event WHERE profile_id = :lost AND name = 'Lifecycle Stage Changed' ORDER BY event_id;
-- a merge takes the loser's row with it; the next run counts both as one
SELECT customer_id AS winner FROM cdp.customer_value WHERE customer_id <> :lost ORDER BY customer_id LIMIT 1 \gset
SELECT a.frequency + b.frequency AS together FROM cdp.customer_value a, cdp.customer_value b WHERE a.customer_id = :winner AND b.customer_id = :lost \gset
SELECT cdp.merge_customers(:winner, :lost, 'test') = :winner AS merged;
SELECT count(*) FROM cdp.customer_value WHERE customer_id = :lost;
SELECT (cdp.value_of(:lost)).customer_id = :winner AS winner, (cdp.value_of(:lost)).frequency = :together AS together;
CALL cdp.score_customers();
SELECT count(*) AS rows, min(frequency) = :together AS together FROM cdp.customer_value WHERE customer_id IN (:winner, :lost);
SELECT cdp.unmerge_customer(:lost, 'test') IS NOT NULL AS apart;
CALL cdp.score_customers();
SELECT count(*) AS rows, sum(frequency) = :together AS together FROM cdp.customer_value WHERE customer_id IN (:winner, :lost);
-- a profile that goes takes his rows; orders that are taken back too, in the next run
UPDATE cdp.sales_order SET status = 'cancelled' WHERE cdp.customer_id(profile_id) = :lost;
CALL cdp.score_customers();
SELECT count(*) FROM cdp.customer_value WHERE customer_id = :lost;
SELECT count(*) FROM cdp.value_work;
-- rules that hold for nobody with two purchases: no stage, no row of the log, and no end of the run
BEGIN;
DELETE FROM cdp.customer_value;
UPDATE cdp.lifecycle_rule SET min_purchases = 5, min_gap_ratio = NULL, max_p_alive = NULL WHERE lifecycle_rule <> '获取期';
SELECT cdp._score_prepare('2025-07-03 00:00+08') > 0 AS differ, cdp._apply_scores('2025-07-03 00:00+08', 1000000, true) > 0 AS written;
SELECT count(*) > 0 AS no_stage, bool_and(frequency BETWEEN 2 AND 4) AS as_ruled FROM cdp.customer_value WHERE lifecycle_stage IS NULL;
SELECT count(*) FROM cdp.lifecycle_log WHERE as_of = '2025-07-03 00:00+08' AND customer_id IN (SELECT customer_id FROM cdp.customer_value WHERE lifecycle_stage IS NULL);
ROLLBACK;
-- without events
SET cdp.now = '2026-01-01 00:00+08';
CALL cdp.score_customers(events => false, batch => 7);
SELECT count(*) > 0 AS changed, (SELECT count(*) FROM cdp.event WHERE occurred_at >= '2025-12-31') AS events FROM cdp.customer_value WHERE changed_at = cdp.now();
SELECT count(*) FILTER (WHERE v IS DISTINCT FROM cdp.value_of(v.customer_id)) <= 5 AS nearly_all_the_same FROM cdp.customer_value v;

-- bad input
CALL cdp.score_customers('infinity');
CALL cdp.score_customers(batch => 0);
SELECT cdp.value_of(1, 'infinity');
SET cdp.clv_discount = -1;
SET cdp.churn_threshold = 2;
-- rights
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_value_score;
RESET client_min_messages;
CREATE ROLE regress_value_score;
SELECT cdp.grant_access('application', 'regress_value_score');
SET ROLE regress_value_score;
SELECT (cdp.value_of(:winner)).frequency > 0 AS application_asks_for_one;
SELECT count(*) FROM cdp.customer_value;
CALL cdp.score_customers();
RESET ROLE;
DROP OWNED BY regress_value_score;
DROP ROLE regress_value_score;
