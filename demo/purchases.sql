-- The same with a file of real purchases: customer_id, ordered_at, quantity, amount.
\set QUIET on
\set ON_ERROR_STOP on
\pset footer off
CREATE SCHEMA shop;
CREATE TABLE shop.purchase (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer_id text, ordered_at date, quantity int, amount numeric);
\copy shop.purchase (customer_id, ordered_at, quantity, amount) FROM pstdin WITH (FORMAT csv, HEADER)
\set ECHO queries
SELECT count(*) AS purchases, count(DISTINCT customer_id) AS customers, sum(amount) AS money FROM shop.purchase;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();

\echo '-- 1. one table holds the customers and what they bought'
SELECT cdp.attach_source('shop.purchase', 'order', '{
	"order_id": "id", "identifiers": {"customer_no": "customer_id"}, "ordered_at": "ordered_at", "status": "''completed''",
	"amount": "amount", "currency": "''USD''"}');

\echo '-- 2. who the customers are'
SELECT (SELECT count(*) FROM cdp.customer) AS customers, (SELECT count(*) FROM cdp.sales_order) AS purchases,
	(SELECT sum(amount) FROM cdp.sales_order) AS money;

\echo '-- 3. what they are worth: the eight RFM groups on the day after the last purchase'
SELECT group8 AS "group", count(*) AS customers, sum(frequency) AS purchases, sum(monetary) AS money
FROM cdp.rfm_table((SELECT max(ordered_at) + interval '1 day' FROM cdp.sales_order)) GROUP BY group8 ORDER BY money DESC;
