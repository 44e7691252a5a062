-- record_order_many, refund_order_many, record_products: what one call does for many, and that it is what many calls do
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-10 12:00:00+00';
SET TimeZone = 'America/New_York';
CREATE FUNCTION pg_temp.refused(call text) RETURNS TABLE (sqlstate text, message text, detail text, hint text) LANGUAGE plpgsql AS $$
DECLARE h text; d text;
BEGIN
	EXECUTE call;
	RETURN QUERY VALUES ('00000', 'was taken', NULL, NULL);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT, d = PG_EXCEPTION_DETAIL;
	RETURN QUERY VALUES (SQLSTATE::text, SQLERRM::text, d, h);
END $$;
CREATE FUNCTION pg_temp.many_refused(items jsonb) RETURNS TABLE (sqlstate text, message text, detail text, hint text) LANGUAGE sql AS $$
	SELECT * FROM pg_temp.refused(format('SELECT * FROM cdp.record_order_many(%L)', items)) $$;
CREATE FUNCTION pg_temp.item(member text, o jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('identifiers', jsonb_build_object('member_id', member), 'order', o) $$;

-- several orders, one of them three times: placed with lines, paid, shipped
SELECT * FROM cdp.record_order_many('[
	{"identifiers": {"member_id": "m2"}, "order": {"order_id": "b", "amount": 20, "status": "completed", "ordered_at": "2026-03-01 09:00"}},
	{"identifiers": {"member_id": "m1"}, "order": {"order_id": "a", "amount": 100, "lines": [{"product_id": "tea", "quantity": 2, "unit_price": 30}, {"product_id": "cup", "unit_price": 40}]}},
	{"identifiers": {"member_id": "m1"}, "order": {"order_id": "a", "status": "paid", "paid_at": "2026-03-10T11:00:00Z"}},
	{"identifiers": {"member_id": "m3"}, "order": {"order_id": "c", "amount": 5, "refunded": 2, "currency": "USD", "status": "paid"}},
	{"identifiers": {"member_id": "m1"}, "order": {"order_id": "a", "status": "shipped", "lines": [{"product_id": "pot", "unit_price": 100}]}}]');
SELECT order_id, profile_id, ordered_at AT TIME ZONE 'UTC' AS ordered_utc, status, amount, refunded, currency, paid_at IS NOT NULL AS paid, source FROM cdp.sales_order ORDER BY 1;
SELECT order_id, line_no, product_id, quantity, unit_price FROM cdp.sales_order_line ORDER BY 1, 2;
SELECT name, message_id, properties FROM cdp.event ORDER BY message_id COLLATE "C";
SELECT refund_id, amount FROM cdp.sales_refund;
-- the same again changes nothing; but what goes backward is refused, as in record_order
SELECT sum(hashtextextended(o::text, 0)) AS before FROM cdp.sales_order o \gset
SELECT * FROM cdp.record_order_many('[{"identifiers": {"member_id": "m3"}, "order": {"order_id": "c", "amount": 5, "refunded": 2, "status": "paid"}},
	{"identifiers": {"member_id": "m1"}, "order": {"order_id": "a", "lines": [{"product_id": "pot", "unit_price": 100.0}]}}]');
SELECT sum(hashtextextended(o::text, 0)) = :before AS unchanged, (SELECT count(*) FROM cdp.event) AS events FROM cdp.sales_order o;
SELECT * FROM cdp.record_order_many('[]');

-- raise: the number of the item stands in the detail, nothing is written
SELECT * FROM pg_temp.refused('SELECT * FROM cdp.record_order_many(NULL)');
SELECT * FROM pg_temp.refused('SELECT * FROM cdp.record_order_many(''{}'')');
SELECT * FROM pg_temp.refused('SELECT * FROM cdp.record_order_many(''[]'', ''ignore'')');
SELECT * FROM pg_temp.refused('SELECT * FROM cdp.record_order_many(''[]'', NULL)');
SELECT * FROM pg_temp.refused('SELECT * FROM cdp.record_order_many((SELECT jsonb_agg(1) FROM generate_series(1, 100001)))');
SELECT r.* FROM unnest(ARRAY['[1]', '[null]', '[[]]', '[{}]', '[{"identifiers": {"member_id": "n1"}}]', '[{"order": {"order_id": "n1", "amount": 1}}]',
	'[{"identifiers": null, "order": {"order_id": "n1", "amount": 1}}]', '[{"identifiers": {"member_id": "n1"}, "sales_order": {}}]']::jsonb[]) WITH ORDINALITY u(items, n),
	LATERAL pg_temp.many_refused(items) r ORDER BY n;
SELECT r.* FROM unnest(ARRAY['{"order_id": "n1"}', '{"amount": 1}', '{"order_id": "n1", "amount": "1"}', '{"order_id": "n1", "amount": -1}', '{"order_id": "n1", "amount": 1, "total": 1}',
	'{"order_id": "n1", "amount": 1, "ordered_at": "infinity"}', '{"order_id": "n1", "amount": 1, "lines": [{"product_id": "x", "quantity": -1}]}', '{"order_id": "n1", "amount": 1, "lines": {}}',
	'{"order_id": "n1", "amount": 1, "refunded": 2}', '{"order_id": "a", "status": "paid"}']::jsonb[]) WITH ORDINALITY u(o, n),
	LATERAL pg_temp.many_refused(jsonb_build_array(pg_temp.item('n0', '{"order_id": "n0", "amount": 1}'), pg_temp.item('n1', o))) r ORDER BY n;
SELECT count(*) FROM cdp.sales_order WHERE order_id ~ '^n';
SELECT cdp.resolve('member_id', 'n0');

-- what sources own
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, amount, source) VALUES ('pos-1', 1, '2026-01-01', 7, 'shop.orders');
INSERT INTO cdp.sales_order_line (order_id, line_no, product_id, source) VALUES ('b', 1, 'x', 'shop.lines');
SELECT * FROM pg_temp.many_refused(jsonb_build_array(pg_temp.item('m1', '{"order_id": "pos-1", "amount": 8}')));
SELECT * FROM pg_temp.many_refused(jsonb_build_array(pg_temp.item('m1', '{"order_id": "b", "channel": "app", "lines": []}')));

-- skip: bad ones are NULL, the others are taken, also those of the same order
SELECT * FROM cdp.record_order_many(jsonb_build_array(1, pg_temp.item('s1', '{"order_id": "s1"}'), pg_temp.item('s1', '{"order_id": "s1", "amount": 3}'),
	pg_temp.item('s1', '{"order_id": "s1", "status": "paid"}'), pg_temp.item('s1', '{"order_id": "s1", "status": "placed", "channel": "no"}'),
	pg_temp.item(' ', '{"order_id": "s2", "amount": 3}'), pg_temp.item('s3', '{"order_id": "s3", "amount": 3, "lines": [{"product_id": "x"}]}'),
	pg_temp.item('s4', '{"order_id": "b", "channel": "app", "lines": []}'), pg_temp.item('s4', '{"order_id": "pos-1", "channel": "app"}'),
	pg_temp.item('s5', '{"order_id": "s5", "amount": 1, "lines": [{"product_id": "x"}, {"product_id": "x", "line_no": 1}]}')), 'skip');
SELECT order_id, ordered_at AT TIME ZONE 'UTC' AS ordered_utc, status, amount, channel, source FROM cdp.sales_order WHERE order_id ~ '^(s|b|pos)' ORDER BY 1;
SELECT order_id, line_no, product_id, source FROM cdp.sales_order_line WHERE order_id ~ '^(s|b)' ORDER BY 1, 2;
SELECT * FROM cdp.record_order_many('[1, 2]', 'skip');

-- more than a batch: 12,000 orders in mixed order, one bad in the middle
SELECT count(*), count(order_id), min(ord) FILTER (WHERE order_id IS NULL) AS bad, bool_and(order_id = 'k' || (ord * 7919) % 12007) AS in_order FROM cdp.record_order_many((
	SELECT jsonb_agg(pg_temp.item('k' || g % 100, jsonb_build_object('order_id', 'k' || (g * 7919) % 12007, 'amount', CASE g WHEN 6000 THEN -1 ELSE g END)) ORDER BY g)
	FROM generate_series(1, 12000) g), 'skip');
SELECT count(*), sum(amount), (SELECT count(*) FROM cdp.event WHERE message_id ~ '^order/k') AS events FROM cdp.sales_order WHERE order_id ~ '^k';

-- refunds
SELECT * FROM cdp.refund_order_many('[{"order_id": "s3", "amount": 1, "refund_id": "r1", "reason": "late"}, {"order_id": "s3", "amount": 1},
	{"order_id": "s3", "amount": 1, "refund_id": "r1"}, {"order_id": "a", "amount": 100}]');
SELECT order_id, status, refunded FROM cdp.sales_order WHERE order_id IN ('s3', 'a') ORDER BY 1;
SELECT * FROM pg_temp.refused($$SELECT * FROM cdp.refund_order_many('[{"order_id": "s3", "amount": 0.5}, {"order_id": "s3", "amount": 0.6}]')$$);
SELECT * FROM pg_temp.refused($$SELECT * FROM cdp.refund_order_many('[{"order_id": "s3", "amount": 0.5, "note": 1}]')$$);
SELECT * FROM pg_temp.refused($$SELECT * FROM cdp.refund_order_many('[{"order_id": "s3"}]')$$);
SELECT refunded FROM cdp.sales_order WHERE order_id = 's3';
SELECT * FROM cdp.refund_order_many('[{"order_id": "s3", "amount": 0.5}, {"order_id": "s3", "amount": 0.6}, 7, {"order_id": "no", "amount": 1},
	{"order_id": "s3", "amount": 0.5}]', 'skip');
SELECT status, refunded, (SELECT sum(amount) FROM cdp.sales_refund f WHERE f.order_id = o.order_id) AS refunds FROM cdp.sales_order o WHERE order_id = 's3';

-- products
SELECT cdp.record_products('[{"product_id": "tea", "name": "绿茶", "price": 30}, {"product_id": 7, "category": "kitchen", "currency": "USD", "status": "draft"}]');
SELECT cdp.record_products('[{"product_id": "tea", "name": "绿茶", "price": 30.0}, {"product_id": 7, "category": null}]') AS again;
SELECT cdp.record_products('[{"product_id": "tea", "status": "delisted"}, {"product_id": "cup", "price": 1}, {"product_id": "tea", "price": 31}, {"product_id": "cup", "price": 2}]') AS changed;
SELECT cdp.record_products('[{"product_id": "tea", "status": "delisted"}, {"product_id": "cup", "price": 1}, {"product_id": "tea", "price": 31}, {"product_id": "cup", "price": 2}]') AS again;
SELECT product_id, name, category, price, currency, status, source FROM cdp.product ORDER BY product_id COLLATE "C";
INSERT INTO cdp.product (product_id, source) VALUES ('theirs', 'shop.products');
SELECT r.* FROM unnest(ARRAY['[1]', '[{"name": "x"}]', '[{"product_id": "p", "price": -1}]', '[{"product_id": "p", "price": "1"}]', '[{"product_id": "p", "status": "gone"}]',
	'[{"product_id": "p", "currency": "cny"}]', '[{"product_id": "p", "weight": 1}]', '[{"product_id": "p"}, {"product_id": "theirs", "price": 1}]']::jsonb[]) WITH ORDINALITY u(items, n),
	LATERAL pg_temp.refused(format('SELECT cdp.record_products(%L)', items)) r ORDER BY n;
SELECT cdp.record_products('[1, {"name": "x"}, {"product_id": "p"}, {"product_id": "theirs", "price": 1}, {"product_id": "q", "price": -1}]', 'skip') AS taken;
SELECT product_id, price FROM cdp.product WHERE product_id IN ('p', 'q', 'theirs') ORDER BY 1;
SELECT cdp.record_products('[]');

-- one by one and all at once give the same: 600 random calls over 40 orders
CREATE TEMP TABLE call AS SELECT g AS ord, pg_temp.item('r' || hashint4(g) % 9, jsonb_strip_nulls(jsonb_build_object('order_id', 'x' || abs(hashint4(g * 3) % 40),
	'amount', CASE WHEN hashint4(g * 5) % 3 <> 0 THEN abs(hashint4(g * 7) % 50) END, 'refunded', CASE WHEN hashint4(g * 11) % 5 = 0 THEN abs(hashint4(g * 13) % 60) END,
	'status', (ARRAY['placed', 'paid', 'shipped', 'completed', 'cancelled', 'refunded', NULL, NULL, NULL])[1 + abs(hashint4(g * 17) % 9)],
	'ordered_at', CASE WHEN hashint4(g * 19) % 2 = 0 THEN '2026-02-01T00:00:00Z'::timestamptz + abs(hashint4(g * 23) % 900) * interval '1 hour' END,
	'channel', CASE WHEN hashint4(g * 29) % 4 = 0 THEN 'c' || g % 3 END,
	'lines', CASE WHEN hashint4(g * 31) % 3 = 0 THEN (SELECT coalesce(jsonb_agg(jsonb_build_object('product_id', 'p' || hashint4(g * 37 + l) % 5, 'unit_price', l)), '[]')
		FROM generate_series(1, abs(hashint4(g * 41) % 4)) l) END))) AS item FROM generate_series(1, 600) g;
CREATE FUNCTION pg_temp.one(item jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN cdp.record_order(item -> 'identifiers', item -> 'order');
EXCEPTION WHEN data_exception OR unique_violation THEN
	RETURN NULL;
END $$;
CREATE TEMP VIEW outcome AS SELECT
	(SELECT count(*) FROM cdp.sales_order o WHERE o.order_id ~ '^x') AS n,
	md5((SELECT jsonb_agg(to_jsonb(o) - 'profile_id' ORDER BY o.order_id) FROM cdp.sales_order o WHERE o.order_id ~ '^x')::text) AS orders,
	md5((SELECT jsonb_agg(to_jsonb(l) - 'line_id' ORDER BY l.order_id, l.line_no) FROM cdp.sales_order_line l WHERE l.order_id ~ '^x')::text) AS lines,
	md5((SELECT jsonb_agg(to_jsonb(f) ORDER BY f.refund_id) FROM cdp.sales_refund f WHERE f.order_id ~ '^x')::text) AS refunds,
	md5((SELECT jsonb_agg(to_jsonb(e) - '{event_id,profile_id,xid}'::text[] ORDER BY e.message_id) FROM cdp.event e WHERE e.properties ->> 'order_id' ~ '^x')::text) AS events;
BEGIN;
SELECT md5(string_agg(coalesce(order_id, '-'), ',' ORDER BY ord)) AS answer, count(order_id) AS taken
FROM (SELECT ord, pg_temp.one(item) AS order_id FROM (SELECT * FROM call ORDER BY ord) c) a \gset one_
SELECT n, orders, lines, refunds, events FROM outcome \gset one_
ROLLBACK;
SELECT md5(string_agg(coalesce(order_id, '-'), ',' ORDER BY ord)) = :'one_answer' AS answers, count(order_id) = :one_taken AS taken, count(order_id) BETWEEN 100 AND 599 AS mixed
FROM cdp.record_order_many((SELECT jsonb_agg(item ORDER BY ord) FROM call), 'skip');
SELECT n = :one_n AS n, orders = :'one_orders' AS orders, lines = :'one_lines' AS lines, refunds = :'one_refunds' AS refunds, events = :'one_events' AS events FROM outcome;
