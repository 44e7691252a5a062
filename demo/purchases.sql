-- A file of purchases (customer_id,ordered_at,quantity,amount) in a table of the shop, attached as its orders.
-- psql variables: file, awk_customers awk_purchases awk_sum (what awk counted in the file).
\echo 'This is a shop that has one table, filled from the file:'
\echo
CREATE SCHEMA shop;
CREATE TABLE shop.purchases (
	id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	customer_id text NOT NULL,
	ordered_at  date NOT NULL,
	quantity    int NOT NULL,
	amount      numeric(10,2) NOT NULL
);
\set ECHO none
\copy shop.purchases (customer_id, ordered_at, quantity, amount) FROM pstdin WITH (FORMAT csv, HEADER)
\set ECHO queries
SELECT count(*) AS rows, min(ordered_at) AS from, max(ordered_at) AS to FROM shop.purchases;
\set ECHO none
SELECT max(ordered_at) + 1 AS as_of FROM shop.purchases \gset
\set ECHO queries

\echo '--- The extension: code, then its tables in schema cdp.'
\echo
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();

\echo
\echo '--- Attach the table.'
\echo
SELECT cdp.attach_source('shop.purchases', 'order', $${
	"order_id": "id", "identifiers": {"customer_no": "customer_id"}, "ordered_at": "ordered_at",
	"status": "'completed'", "amount": "amount", "currency": "'USD'"}$$);

\echo '--- Is it all there? The file, counted by awk, and the CDP.'
\echo
SELECT 'file' AS counted_in, :awk_customers AS customers, :awk_purchases AS purchases, :awk_sum AS sum
UNION ALL
SELECT 'customer_cdp', (SELECT count(*) FROM cdp.customer), count(*), sum(amount) FROM cdp.sales_order;
\set ECHO none
SELECT (SELECT count(*) FROM cdp.customer) = :awk_customers AND count(*) = :awk_purchases AND sum(amount) = :awk_sum AS same
FROM cdp.sales_order \gset
\if :same
\else
	\warn 'demo: the CDP does not hold what stands in the file'
	DO $$ BEGIN RAISE EXCEPTION 'counts differ'; END $$;
\endif
\set ECHO queries

\echo '--- The best customers.'
\echo
SELECT cdp.customer_id(i.profile_id) AS customer_id, i.value AS number_in_file, t.frequency, t.monetary, t.last_at::date AS last, t.score
FROM cdp.rfm_table(as_of => :'as_of') t JOIN cdp.identifier i ON i.profile_id = t.customer_id
ORDER BY t.monetary DESC LIMIT 5;

\echo '--- What they are worth on the day after the last purchase: the eight RFM groups.'
\echo
SELECT g.label_zh AS group8, g.label_en AS group8_en, count(t.customer_id) AS customers,
	round(100.0 * count(t.customer_id) / sum(count(t.customer_id)) OVER (), 1) AS percent,
	coalesce(sum(t.monetary), 0) AS money, round(avg(t.frequency), 1) AS purchases_each
FROM cdp.rfm_group g LEFT JOIN cdp.rfm_table(as_of => :'as_of') t ON t.group8 = g.label_zh
WHERE g.scheme = 8 GROUP BY g.label_zh, g.label_en, g.sort ORDER BY g.sort;
