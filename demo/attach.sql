-- What a DBA types into a database that already exists.
\set QUIET on
\set ON_ERROR_STOP on
\pset footer off
\pset border 1
\echo '-- the shop as it is'
SELECT (SELECT count(*) FROM shop.member) AS members, (SELECT count(*) FROM shop.orders) AS orders,
	(SELECT count(*) FROM shop.order_line) AS order_lines, (SELECT count(*) FROM shop.web_click) AS web_clicks;

\set ECHO queries
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();

\echo '-- 1. its tables are attached: copied once, then followed by triggers'
SELECT cdp.attach_source('shop.member', 'customer', '{
	"identifiers": {"member_id": "id", "phone": "mobile", "email": "email"},
	"traits": {"name": "full_name", "city": "city"}, "occurred_at": "joined_at"}');
SELECT cdp.attach_source('shop.orders', 'order', '{
	"order_id": "id", "identifiers": {"member_id": "member_id", "phone": "phone"}, "ordered_at": "paid_at", "status": "state",
	"amount": "total", "refunded": "returned", "currency": "''CNY''", "store_id": "shop"}');
SELECT cdp.attach_source('shop.order_line', 'order_line', '{
	"order_id": "order_id", "line_no": "line_no", "product_id": "sku", "quantity": "quantity", "unit_price": "price"}');
SELECT cdp.attach_source('shop.web_click', 'event', '{
	"identifiers": {"anonymous_id": "cookie", "member_id": "member_id"}, "name": "''Product Viewed''", "occurred_at": "at",
	"properties": {"product_id": "sku"}}');

\echo '-- 2. who the customers are, and how many identities became one'
SELECT (SELECT count(*) FROM cdp.identifier) AS identifiers, (SELECT count(*) FROM cdp.profile) AS profiles,
	(SELECT count(*) FROM cdp.profile_alias) AS merged, (SELECT count(*) FROM cdp.customer) AS customers;
SELECT customer_id, traits ->> 'name' AS name, traits ->> 'city' AS city, cardinality(profile_ids) AS profiles
FROM cdp.customer WHERE traits ? 'name' ORDER BY cardinality(profile_ids) DESC, customer_id LIMIT 5;

\echo '-- 3. the shop goes on selling; the CDP knows in the same transaction'
BEGIN;
INSERT INTO shop.orders VALUES (999999, 7, '138 0000 0007', '2026-06-30 12:00', 'completed', 88.80, 0, 'S1');
SELECT at, title, detail ->> 'total' AS total FROM cdp.timeline(cdp.resolve('member_id', '7'), '2026-06-30', '2026-07-01');
COMMIT;

\echo '-- 4. what they are worth: the eight RFM groups'
SELECT group8 AS "group", count(*) AS customers, sum(monetary) AS money, round(avg(monetary), 2) AS average
FROM cdp.rfm_table('2026-07-01 00:00+08') GROUP BY group8 ORDER BY money DESC;
