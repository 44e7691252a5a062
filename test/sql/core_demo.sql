-- The synthetic retailer: what it holds, what it refuses.  That it is the same everywhere is tested by
-- test/t/011_core_demo_checksums.pl.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();

-- refused
CALL cdp.load_demo(NULL);
\echo :LAST_ERROR_SQLSTATE
CALL cdp.load_demo(100, NULL);
\echo :LAST_ERROR_SQLSTATE
CALL cdp.load_demo(0);
\echo :LAST_ERROR_SQLSTATE
CALL cdp.load_demo(1000001);
\echo :LAST_ERROR_SQLSTATE
BEGIN;
SELECT cdp.identify('{"member_id": "m1"}') > 0 AS known;
CALL cdp.load_demo(100);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
CALL cdp.load_demo(100);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
SELECT (SELECT count(*) FROM cdp.profile) AS profiles, (SELECT count(*) FROM cdp.product) AS products, (SELECT count(*) FROM cdp.event) AS events;

-- 400 people
CALL cdp.load_demo(400, 7);
SELECT (SELECT count(*) FROM cdp.customer) AS customers, (SELECT count(*) FROM cdp.profile) AS profiles,
	(SELECT count(*) FROM cdp.profile_alias) AS became_part_of_another, (SELECT count(*) FROM cdp.product) AS products;
SELECT kind, count(*), count(DISTINCT cdp.customer_id(profile_id)) AS customers FROM cdp.identifier GROUP BY kind ORDER BY kind COLLATE "C";
SELECT name, count(*) FROM cdp.event GROUP BY name ORDER BY name COLLATE "C";
SELECT status, count(*), sum(amount) AS amount, sum(refunded) AS refunded FROM cdp.sales_order GROUP BY status ORDER BY status COLLATE "C";
SELECT channel, count(*) FROM cdp.sales_order GROUP BY channel ORDER BY channel COLLATE "C";
-- six shops with their places
SELECT DISTINCT properties ->> 'store_id' AS store_id, properties ->> 'city' AS city, properties ->> 'lat' AS lat, properties ->> 'lon' AS lon
FROM cdp.event WHERE name = 'Store Visited' ORDER BY 1;
-- campaigns
SELECT properties ->> 'utm_campaign' AS campaign, count(*), count(DISTINCT properties ->> 'utm_source') AS sources
FROM cdp.event WHERE properties ? 'utm_campaign' GROUP BY 1 ORDER BY 2 DESC, 1;
-- every phone is one spelling in the end
SELECT count(*), bool_and(value ~ '^\+861[0-9]{10}$') AS normalised FROM cdp.identifier WHERE kind = 'phone';
-- names in two languages
SELECT traits ->> 'language' AS language, count(*), min(traits ->> 'name' COLLATE "C") AS for_example
FROM cdp.customer WHERE traits ? 'name' GROUP BY 1 ORDER BY 1;
-- a few buy much
SELECT count(*) AS buyers, round(100 * sum(n) FILTER (WHERE place <= 0.2) / sum(n)) AS percent_of_orders_by_a_fifth
FROM (SELECT count(*) AS n, percent_rank() OVER (ORDER BY count(*) DESC, cdp.customer_id(profile_id)) AS place
      FROM cdp.sales_order GROUP BY cdp.customer_id(profile_id)) x;
-- anonymous first, a login later: cookies whose events now belong to somebody with a name
SELECT count(DISTINCT e.profile_id) AS cookies FROM cdp.event e JOIN cdp.identifier i ON i.profile_id = e.profile_id AND i.kind = 'anonymous_id'
JOIN cdp.customer c ON c.customer_id = cdp.customer_id(e.profile_id) WHERE c.traits ? 'name' AND e.name = 'Product Viewed';
-- a device of a household
SELECT count(*) AS shared_devices FROM (
	SELECT cdp.customer_id(profile_id) FROM cdp.identifier WHERE kind = 'member_id' GROUP BY 1 HAVING count(*) > 1) x;
-- tags: as the orders and the traits say, exact before the merge and after it; segments wait for their first refresh
SET cdp.now = '2025-07-01 00:00+08';
CREATE TEMP VIEW asked AS SELECT q, cdp.count_customers(q::cdp.tagquery) AS customers
FROM unnest('{*,region.*,region.华东.*,gender = female,"gender in (female, male)",aov > 500,orders > 1,last_order >= now-30d,高价值,nps.*,nps.promoter & nps.detractor,churn_risk >= 0.7,churned & !churn_risk}'::text[]) q;
CREATE TEMP TABLE before_merge AS SELECT * FROM asked;
SELECT * FROM before_merge;
SELECT count(*) AS buyers, count(*) FILTER (WHERE n > 1) AS again, count(*) FILTER (WHERE amount / n > 500) AS large, count(*) FILTER (WHERE amount >= 2000) AS high
FROM (SELECT count(*) AS n, sum(amount - refunded) AS amount FROM cdp.sales_order WHERE status NOT IN ('cancelled', 'refunded') GROUP BY cdp.customer_id(profile_id)) x;
SELECT name, member_count, defined_at = '2025-07-01 00:00+08' AS defined_that_day FROM cdp.segment_status ORDER BY name;
CALL cdp.merge_tags();
CALL cdp.refresh_segments();
SELECT count(*) AS differ FROM asked JOIN before_merge b USING (q) WHERE asked.customers <> b.customers;
SELECT name, member_count, last_error FROM cdp.segment_status ORDER BY name;
SELECT count(*) FROM cdp.verify_tags();
SELECT min(changed_at) = '2025-07-01 00:00+08' AND max(changed_at) = '2025-07-01 00:00+08' AS of_that_day FROM cdp.tag_history;
-- the predictions hold for 30 days
SELECT cdp.count_customers('churn_risk | churned', at => '2025-07-31 00:00+08'::timestamptz - interval '1 microsecond') AS predicted,
	cdp.count_customers('churn_risk | churned', at => '2025-07-31 00:00+08') AS after_a_month;
RESET cdp.now;
-- no second time
CALL cdp.load_demo(400, 7);

-- with the clock set it ends there
DROP EXTENSION customer_cdp CASCADE;
DROP SCHEMA cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-15 13:00:00+08';
CALL cdp.load_demo(50);
SELECT max(occurred_at) < '2026-03-15 00:00+08' AS before_the_day, max(occurred_at) > '2026-03-01Z' AS but_not_long,
	min(occurred_at) >= '2024-09-15 00:00+08' AS from_18_months FROM cdp.event;
RESET cdp.now;
SET client_min_messages = warning;
DROP EXTENSION customer_cdp CASCADE;
DROP SCHEMA cdp CASCADE;
