-- What a newcomer does with a database of his own; psql shows each statement before its answer.
\echo 'This is a shop. Its tables know nothing of customer_cdp:'
\echo
SELECT (SELECT count(*) FROM shop.members) AS members, (SELECT count(*) FROM shop.orders) AS orders,
	(SELECT count(*) FROM shop.order_lines) AS order_lines, (SELECT count(*) FROM shop.web_clicks) AS web_clicks,
	(SELECT sum(total) FROM shop.orders WHERE state <> 'closed') AS money;

\echo '--- The extension: code, then its tables in schema cdp.'
\echo
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();

\echo
\echo '--- Attach the tables. What is there is taken now; what changes from now on follows by itself.'
\echo
SELECT cdp.attach_source('shop.members', 'customer', $${
	"identifiers": {"member_id": "id", "phone": "mobile", "email": "email", "wechat_openid": "wechat_openid"},
	"traits": {"name": "full_name", "gender": "gender", "birthday": "born", "city": "city"},
	"occurred_at": "created_at"}$$);
SELECT cdp.attach_source('shop.products', 'product', $${
	"product_id": "sku", "name": "title", "category": "category", "price": "price"}$$);
SELECT cdp.attach_source('shop.orders', 'order', $${
	"order_id": "id", "identifiers": {"member_id": "member_id", "phone": "guest_mobile"},
	"ordered_at": "created_at", "amount": "total", "refunded": "refunded", "currency": "'CNY'",
	"status": "CASE state WHEN 'done' THEN 'completed' WHEN 'closed' THEN 'cancelled' ELSE state END",
	"payment_method": "pay_method", "channel": "channel", "store_id": "shop"}$$);
SELECT cdp.attach_source('shop.order_lines', 'order_line', $${
	"order_id": "order_id", "line_no": "line_no", "product_id": "sku", "quantity": "qty", "unit_price": "price"}$$);
SELECT cdp.attach_source('shop.web_clicks', 'event', $${
	"identifiers": {"anonymous_id": "cookie", "member_id": "member_id"},
	"name": "CASE page WHEN 'product' THEN 'Product Viewed' WHEN 'cart' THEN 'Cart Viewed' ELSE 'Page Viewed' END",
	"occurred_at": "at", "message_id": "id", "channel": "'web'",
	"properties": {"product_id": "sku", "utm_source": "utm_source"}}$$);

\echo '--- Who the customers are: one row per person, whatever he called himself.'
\echo
SELECT c.customer_id, c.traits ->> 'name' AS name, c.traits ->> 'city' AS city, cardinality(c.profile_ids) AS profiles,
	string_agg(DISTINCT i.kind, ', ' ORDER BY i.kind) AS known_by
FROM cdp.customer c JOIN cdp.identifier i ON i.profile_id = ANY (c.profile_ids)
GROUP BY 1, 2, 3, 4 ORDER BY profiles DESC, customer_id LIMIT 5;

\echo '--- Some had two accounts, their phone written in two ways. The phone is one identifier, so each is one customer:'
\echo
SELECT cdp.resolve('phone', mobile) AS customer_id, min(full_name) AS name, count(*) AS accounts,
	string_agg(mobile, '  |  ' ORDER BY id) AS as_written, min(cdp.normalize_phone(mobile)) AS normalised
FROM shop.members GROUP BY 1 HAVING count(DISTINCT mobile) > 1 ORDER BY 1 LIMIT 5;

\echo '--- How many identities became one.'
\echo
SELECT (SELECT count(*) FROM cdp.identifier) AS identifiers, (SELECT count(*) FROM cdp.profile) AS profiles,
	(SELECT count(*) FROM cdp.profile_alias) AS became_part_of_another, (SELECT count(*) FROM cdp.customer) AS customers,
	(SELECT count(*) FROM cdp.customer WHERE traits ? 'name') AS with_a_name;

\echo '--- What happened.'
\echo
SELECT name, count(*) AS events, count(DISTINCT cdp.customer_id(profile_id)) AS customers FROM cdp.event GROUP BY name ORDER BY events DESC;

\echo '--- An order comes in at the shop, and the customer has it in the same transaction.'
\echo
BEGIN;
INSERT INTO shop.orders (id, member_id, state, total, channel, created_at)
	VALUES (900001, (SELECT min(id) FROM shop.members), 'done', 520.00, 'app', localtimestamp);
SELECT order_id, status, amount, cdp.customer_id(profile_id) AS customer_id FROM cdp.sales_order WHERE order_id = '900001';
ROLLBACK;

\echo
\echo '--- What they are worth: the eight RFM groups, orders less refunds.'
\echo
SELECT g.label_zh AS group8, g.label_en AS group8_en, count(t.customer_id) AS customers,
	round(100.0 * count(t.customer_id) / sum(count(t.customer_id)) OVER (), 1) AS percent,
	coalesce(sum(t.monetary), 0) AS money, round(avg(t.frequency), 1) AS purchases_each
FROM cdp.rfm_group g LEFT JOIN cdp.rfm_table() t ON t.group8 = g.label_zh
WHERE g.scheme = 8 GROUP BY g.label_zh, g.label_en, g.sort ORDER BY g.sort;
