-- Customers in 华东 who bought product A within the last month, average order value over 1000, of high value, female:
-- doc/examples/segment.sql on the demo, then one who fits and fifteen who fail one of the five conditions, three each.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'Asia/Shanghai';
SET DateStyle = ISO;
CALL cdp.load_demo(2000, 42);
\i doc/examples/segment.sql
-- the same, told from tables alone
SELECT c.customer_id FROM cdp.customer c
WHERE c.traits ->> 'city' IN ('上海', '杭州') AND c.traits ->> 'gender' = 'f'
  AND (SELECT avg(o.amount - o.refunded) > 1000 AND sum(o.amount - o.refunded) >= 2000 FROM cdp.sales_order o
       WHERE cdp.customer_id(o.profile_id) = c.customer_id AND o.status NOT IN ('cancelled', 'refunded'))
  AND EXISTS (SELECT FROM cdp.sales_order o JOIN cdp.sales_order_line l USING (order_id)
       WHERE cdp.customer_id(o.profile_id) = c.customer_id AND l.product_id = 'DG-009' AND o.status NOT IN ('cancelled', 'refunded')
         AND o.ordered_at > '2025-06-01 00:00+08' AND o.ordered_at <= '2025-07-01 00:00+08')
ORDER BY c.customer_id;
DROP EXTENSION customer_cdp CASCADE;
DROP SCHEMA cdp CASCADE;

CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
-- a month before is the last of February
SET cdp.now = '2026-03-31 12:00:00+08';
-- everyone fits but for what his row says: an order of A of 1500 and one of B of 900
CREATE TEMP TABLE person (who text PRIMARY KEY, fails text, bought timestamptz DEFAULT '2026-03-10 09:00+08', a numeric DEFAULT 1500, status text DEFAULT 'completed',
	refunded numeric, b numeric DEFAULT 900, region text DEFAULT 'region.华东.上海', high text DEFAULT '高价值', high_until timestamptz, gender text DEFAULT 'female');
INSERT INTO person (who) VALUES ('fits');
INSERT INTO person (who, fails, bought) VALUES ('A a month ago to the instant', 'bought', '2026-02-28 12:00:00+08');
INSERT INTO person (who, fails, status) VALUES ('A cancelled', 'bought', 'cancelled');
INSERT INTO person (who, fails, refunded) VALUES ('A refunded in full', 'bought', 1500);
UPDATE person SET b = 1300 WHERE who IN ('A cancelled', 'A refunded in full');
INSERT INTO person (who, fails, region) VALUES ('region.华南.深圳', 'region', 'region.华南.深圳'),
	('region.华东x.上海', 'region', 'region.华东x.上海'), ('华东.上海, no region above', 'region', '华东.上海');
INSERT INTO person (who, fails, b) VALUES ('average exactly 1000', 'aov', 500), ('average 999.995', 'aov', 499.99);
INSERT INTO person (who, fails, refunded) VALUES ('average 950 by a refund', 'aov', 500);
INSERT INTO person (who, fails, high) VALUES ('never of high value', 'high', NULL), ('a tag below high value', 'high', '高价值.候选');
INSERT INTO person (who, fails, high_until) VALUES ('high value until this instant', 'high', '2026-03-31 12:00:00+08');
INSERT INTO person (who, fails, gender) VALUES ('no gender', 'gender', NULL), ('male', 'gender', 'male'), ('Female', 'gender', 'Female');
-- the order of who fits, the earliest that counts, was made by a visitor who said later that he is this member
UPDATE person SET bought = '2026-02-28 12:00:00.000001+08' WHERE who = 'fits';
SELECT count(cdp.record_order(CASE who WHEN 'fits' THEN '{"anonymous_id": "cookie"}' ELSE jsonb_build_object('member_id', who) END, jsonb_build_object('order_id', 'A/' || who,
	'ordered_at', bought, 'status', status, 'amount', a, 'currency', 'CNY', 'lines', jsonb_build_array(jsonb_build_object('product_id', 'A', 'quantity', 1, 'unit_price', a))))) AS a,
	count(cdp.record_order(jsonb_build_object('member_id', who), jsonb_build_object('order_id', 'B/' || who,
	'ordered_at', timestamptz '2026-01-10 09:00+08', 'status', 'completed', 'amount', b, 'currency', 'CNY', 'lines', jsonb_build_array(jsonb_build_object('product_id', 'B', 'quantity', 1, 'unit_price', b))))) AS b
FROM (SELECT * FROM person ORDER BY who COLLATE "C") p;
SELECT count(cdp.refund_order('A/' || who, refunded, 'no reason', 'R/' || who)) AS refunds FROM person WHERE refunded > 0;
SELECT count(cdp.identify(jsonb_build_object('member_id', who), jsonb_strip_nulls(jsonb_build_object('gender', gender)))) AS known FROM person;
SELECT cdp.add_tag_many((SELECT jsonb_agg(jsonb_build_object('customer_id', cdp.resolve('member_id', who), 'tag', tag, 'valid_until', until))
	FROM person, LATERAL (VALUES (region, NULL), (high, high_until)) t(tag, until) WHERE tag IS NOT NULL)) AS tags;
SELECT cdp.identify('{"anonymous_id": "cookie", "member_id": "fits"}') > 0 AS told;
SELECT count(DISTINCT i.profile_id) AS profiles, count(DISTINCT cdp.customer_id(i.profile_id)) AS customers FROM cdp.identifier i WHERE i.value IN ('cookie', 'fits');
SELECT cdp.define_tag('aov', 'consumption', 'number', rule => $$
	SELECT cdp.customer_id(profile_id) AS customer_id, avg(amount - refunded) AS value FROM cdp.sales_order
	WHERE status NOT IN ('placed', 'cancelled', 'refunded') GROUP BY 1$$);
SELECT cdp.define_tag('gender', value_type => 'text', rule => $$SELECT customer_id, traits ->> 'gender' AS value FROM cdp.customer$$);
CALL cdp.refresh_tags();

CREATE TEMP VIEW found AS
SELECT customer_id
FROM cdp.find_customers('region.华东.* & aov > 1000 & 高价值 & gender = female') AS f(customer_id)
JOIN cdp.find_buyers('A', '1 month') AS b(customer_id) USING (customer_id);
CREATE TEMP TABLE answer (customer_id bigint);
INSERT INTO answer SELECT * FROM found;
-- each of the fifteen is out, by the one condition that he fails
SELECT p.who, p.fails, c.id IN (SELECT customer_id FROM answer) AS found, c.id IN (SELECT cdp.find_buyers('A', '1 month')) AS bought,
	cdp.matches_customer(c.id, 'region.华东.*') AS region, cdp.matches_customer(c.id, 'aov > 1000') AS aov,
	cdp.matches_customer(c.id, '高价值') AS high, cdp.matches_customer(c.id, 'gender = female') AS gender
FROM person p, LATERAL (SELECT cdp.resolve('member_id', p.who) AS id) c ORDER BY p.fails NULLS FIRST, p.who COLLATE "C";
SELECT p.who, cdp.tag_number(t.tags, 'aov') AS aov FROM person p JOIN cdp.customer_tag t ON t.customer_id = cdp.resolve('member_id', p.who)
WHERE p.fails IS NULL OR p.fails = 'aov' ORDER BY p.who COLLATE "C";
-- the bitmaps say the same
CALL cdp.merge_tags();
TRUNCATE answer;
INSERT INTO answer SELECT * FROM found;
SELECT p.who FROM person p JOIN answer a ON a.customer_id = cdp.resolve('member_id', p.who);
-- and the rows
SELECT p.who FROM person p JOIN cdp.customer_tag t ON t.customer_id = cdp.resolve('member_id', p.who)
WHERE t.tags OPERATOR(cdp.@@) 'region.华东.* & aov > 1000 & 高价值 & gender = female' AND t.customer_id IN (SELECT cdp.find_buyers('A', '1 month'));
-- a microsecond earlier the one of high value until then is in, and a month ago to the instant is within the month
SET cdp.now = '2026-03-31 11:59:59.999999+08';
TRUNCATE answer;
INSERT INTO answer SELECT * FROM found;
SELECT p.who FROM person p JOIN answer a ON a.customer_id = cdp.resolve('member_id', p.who) ORDER BY p.who COLLATE "C";
-- a microsecond later who fits has fallen out of the month
SET cdp.now = '2026-03-31 12:00:00.000001+08';
TRUNCATE answer;
INSERT INTO answer SELECT * FROM found;
SELECT count(*) AS nobody FROM answer;
-- under a name: who fits enters, and leaves at that microsecond
SET cdp.now = '2026-03-31 12:00:00+08';
SELECT cdp.define_segment('outcome', $$
	SELECT customer_id FROM cdp.find_customers('region.华东.* & aov > 1000 & 高价值 & gender = female') AS f(customer_id)
	JOIN cdp.find_buyers('A', '1 month') AS b(customer_id) USING (customer_id)$$);
CALL cdp.refresh_segments('outcome');
SELECT p.who FROM person p WHERE cdp.in_segment(cdp.resolve('member_id', p.who), 'outcome');
SET cdp.now = '2026-03-31 12:00:00.000001+08';
CALL cdp.refresh_segments('outcome');
SELECT e.name, p.who, e.occurred_at FROM cdp.event e JOIN person p ON cdp.resolve('member_id', p.who) = cdp.customer_id(e.profile_id)
WHERE e.properties ->> 'segment' = 'outcome' ORDER BY e.occurred_at;
SELECT * FROM cdp.verify_tags();
RESET cdp.now;
DROP EXTENSION customer_cdp CASCADE;
DROP SCHEMA cdp CASCADE;
