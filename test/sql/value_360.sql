-- value_360: value in tags, customer_360 and the timeline
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
RESET client_min_messages;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET cdp.now = '2025-07-01 00:00+08';
CALL cdp.load_demo(200);
CALL cdp.fit_value_models();
CALL cdp.score_customers('2025-05-01 00:00+08');
CALL cdp.score_customers();
CALL cdp.define_value_tags();
SELECT name, kind, value_type, owner = current_user AS mine, description FROM cdp.tag WHERE name ~ '^(rfm|value_tier|lifecycle)\.|^(churn_risk|p_alive)$' ORDER BY name COLLATE "C";
CALL cdp.refresh_tags();
SELECT count(*) FROM cdp.tag WHERE last_error IS NOT NULL;
-- an expression counts what the table says
SELECT cdp.count_customers('lifecycle.流失期') = (SELECT count(*) FROM cdp.customer_value WHERE lifecycle_stage = '流失期') AS lost,
	cdp.count_customers('rfm.重要价值客户') = (SELECT count(*) FROM cdp.customer_value WHERE group8 = '重要价值客户') AS best_group,
	cdp.count_customers('value_tier.top | value_tier.high') = (SELECT count(*) FROM cdp.customer_value WHERE value_tier IN ('top', 'high')) AS tiers,
	cdp.count_customers('churn_risk >= 0.7 & p_alive < 0.5') = (SELECT count(*) FROM cdp.customer_value WHERE churn_score >= 0.7 AND p_alive < 0.5) AS numbers,
	cdp.count_customers('rfm.*') = (SELECT count(*) FROM cdp.customer_value) AS each_in_one_group;
-- a stage that changes moves the tag; a second definition changes nothing
SET cdp.now = '2025-10-01 00:00+08';
CALL cdp.score_customers();
CALL cdp.define_value_tags();
CALL cdp.refresh_tags();
SELECT cdp.count_customers('lifecycle.流失期') = (SELECT count(*) FROM cdp.customer_value WHERE lifecycle_stage = '流失期') AS lost;
-- one customer
SELECT min(customer_id) AS one FROM cdp.lifecycle_log WHERE from_stage IS NOT NULL \gset
SELECT (cdp.customer_360(:one)->'value') - 'changed_at' = (SELECT to_jsonb(v) - 'customer_id' - 'changed_at' FROM cdp.customer_value v WHERE customer_id = :one) AS row_of_the_table;
SELECT cdp.customer_360((SELECT p.profile_id FROM cdp.profile p WHERE NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = p.profile_id)
	AND NOT EXISTS (SELECT FROM cdp.customer_value v WHERE v.customer_id = p.profile_id) ORDER BY 1 LIMIT 1))->'value' AS nothing_known;
SELECT count(*) = (SELECT count(*) FROM cdp.lifecycle_log WHERE customer_id = :one) AS every_stage, count(*) FILTER (WHERE title ~ ' → ') > 0 AS moved,
	bool_and(detail ? 'to') AS told FROM cdp.timeline(:one) WHERE kind = 'lifecycle';
SELECT count(*) AS told_twice FROM cdp.timeline(:one) WHERE title ~ 'Lifecycle Stage Changed';
-- rights: the rules run as who defined them
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_value_360;
RESET client_min_messages;
CREATE ROLE regress_value_360;
SELECT cdp.grant_access('reader', 'regress_value_360');
SET ROLE regress_value_360;
CALL cdp.define_value_tags();
RESET ROLE;
DROP OWNED BY regress_value_360;
DROP ROLE regress_value_360;
