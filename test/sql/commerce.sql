-- record_order, refund_order: what they write, what they refuse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-10 12:00:00+00';
SET TimeZone = 'America/New_York';
SET DateStyle = 'ISO, DMY';
-- refused before anything is written: SQLSTATE, message, hint of one call
CREATE FUNCTION pg_temp.refused(call text) RETURNS TABLE (sqlstate text, message text, hint text) LANGUAGE plpgsql AS $$
DECLARE h text;
BEGIN
	EXECUTE call;
	RETURN QUERY VALUES ('00000', 'was taken', NULL);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
	RETURN QUERY VALUES (SQLSTATE::text, SQLERRM::text, h);
END $$;
CREATE FUNCTION pg_temp.order_refused(sales_order jsonb) RETURNS TABLE (sqlstate text, message text, hint text) LANGUAGE sql AS $$
	SELECT * FROM pg_temp.refused(format('SELECT cdp.record_order(''{"member_id": "m1"}'', %L)', sales_order)) $$;

-- an order on its way; times without an offset are Shanghai's, whatever the session says
SELECT cdp.record_order('{"member_id": "m1"}', '{"order_id": "o1", "ordered_at": "2026-03-01 09:00", "amount": 100, "channel": "app",
	"store_id": 7, "lines": [{"product_id": "tea", "quantity": 2, "unit_price": 30}, {"product_id": "cup", "unit_price": 40, "category": "kitchen"}]}');
SELECT cdp.record_order('{"member_id": "m1"}', '{"order_id": "o1", "status": "paid", "paid_at": "2026-03-01T01:30:00Z", "payment_method": "wechat"}');
SELECT cdp.record_order('{"member_id": "m1"}', '{"order_id": "o1", "status": "shipped", "shipped_at": "2026-03-03T09:00:00+08:00", "tracking_no": "SF-1"}');
SELECT cdp.record_order('{"member_id": "m1"}', '{"order_id": "o1", "status": "completed"}');
SELECT order_id, profile_id, ordered_at AT TIME ZONE 'UTC' AS ordered_utc, status, amount, refunded, currency, channel, store_id, payment_method, tracking_no, source
FROM cdp.sales_order;
SELECT line_no, product_id, quantity, unit_price, category FROM cdp.sales_order_line ORDER BY 1;
SELECT name, occurred_at AT TIME ZONE 'UTC' AS utc, message_id, properties, source, channel FROM cdp.event ORDER BY event_id;
SELECT order_id, customer_id, status, tracking_no, hours_to_pay, hours_to_ship, hours_to_complete, hours_waiting FROM cdp.order_track;
-- said again, nothing happens
SELECT sum(hashtextextended(o::text, 0)) AS before FROM cdp.sales_order o \gset
SELECT cdp.record_order('{"member_id": "m1"}', '{"order_id": "o1", "status": "completed", "amount": 100.0,
	"lines": [{"line_no": 2, "product_id": "cup", "unit_price": 40, "category": "kitchen"}, {"line_no": 1, "product_id": "tea", "quantity": 2, "unit_price": 30.00}]}');
SELECT sum(hashtextextended(o::text, 0)) = :before AS unchanged FROM cdp.sales_order o;
SELECT count(*), max(line_id) FROM cdp.sales_order_line;
SELECT count(*) FROM cdp.event;
-- lines given replace lines, lines absent leave them, an empty array takes them away
SELECT cdp.record_order('{"member_id": "m1"}', '{"order_id": "o1", "lines": [{"line_no": 2, "product_id": "cup", "unit_price": 41}, {"line_no": 9, "product_id": "pot"}]}');
SELECT line_no, product_id, quantity, unit_price, category FROM cdp.sales_order_line ORDER BY 1;
SELECT cdp.record_order('{"member_id": "m1"}', '{"order_id": "o1", "lines": []}');
SELECT count(*) FROM cdp.sales_order_line;
-- an order keeps the profile it was first recorded under
SELECT cdp.record_order('{"member_id": "m2"}', '{"order_id": "o1", "channel": "web"}');
SELECT profile_id, channel FROM cdp.sales_order;

-- the status goes forward only
SELECT * FROM pg_temp.order_refused('{"order_id": "o1", "status": "placed"}');
SELECT * FROM pg_temp.order_refused('{"order_id": "o1", "status": "cancelled"}');
-- first seen with any status; forward in one leap
SELECT cdp.record_order('{"member_id": "m1"}', '{"order_id": "o2", "ordered_at": "2026-01-01T00:00:00Z", "status": "cancelled", "cancelled_at": "2026-01-02T00:00:00Z", "amount": 5}');
SELECT cdp.record_order('{"member_id": "m1"}', '{"order_id": "o3", "amount": 5, "currency": "USD"}');
SELECT cdp.record_order('{"member_id": "m1"}', '{"order_id": "o3", "status": "completed"}');
SELECT name, occurred_at AT TIME ZONE 'UTC' AS utc, message_id FROM cdp.event WHERE message_id ~ '^order/o[23]' ORDER BY event_id;
SELECT * FROM pg_temp.order_refused('{"order_id": "o2", "status": "paid"}');

-- bad input
CREATE TEMP TABLE bad (n serial, o jsonb);
INSERT INTO bad (o) VALUES (NULL), ('[]'), ('"o9"'), ('{}'), ('{"order_id": ""}'), ('{"order_id": null, "amount": 1}'), ('{"order_id": "o9"}'),
	('{"order_id": "o9", "amount": "12.50"}'), ('{"order_id": "o9", "amount": "NaN"}'), ('{"order_id": "o9", "amount": -1}'),
	('{"order_id": "o9", "amount": 1, "refunded": -1}'), ('{"order_id": "o9", "amount": 1, "refunded": 2}'), ('{"order_id": "o9", "amount": [1]}'),
	('{"order_id": {"a": 1}, "amount": 1}'), ('{"order_id": "o9", "amount": 1, "colour": "red"}'), ('{"order_id": "o9", "amount": 1, "source": null}'),
	('{"order_id": "o9", "amount": 1, "status": "lost"}'), ('{"order_id": "o9", "amount": 1, "status": 3}'), ('{"order_id": "o9", "amount": 1, "currency": "yuan"}'),
	('{"order_id": "o9", "amount": 1, "ordered_at": "infinity"}'), ('{"order_id": "o9", "amount": 1, "ordered_at": "yesterday"}'),
	('{"order_id": "o9", "amount": 1, "paid_at": "2026-02-30 10:00"}'), ('{"order_id": "o9", "amount": 1, "paid_at": 1234567890}'),
	('{"order_id": "o9", "amount": 1, "ordered_at": "2036-01-01T00:00:00Z"}'),
	('{"order_id": "o9", "amount": 1, "lines": {"product_id": "tea"}}'), ('{"order_id": "o9", "amount": 1, "lines": ["tea"]}'),
	('{"order_id": "o9", "amount": 1, "lines": [{"product_id": "tea", "line_no": 1}, {"product_id": "cup", "line_no": 1}]}'),
	('{"order_id": "o9", "amount": 1, "lines": [{"product_id": "tea"}, {"product_id": "cup", "line_no": 1}]}'),
	('{"order_id": "o9", "amount": 1, "lines": [{"product_id": "tea", "quantity": -1}]}'), ('{"order_id": "o9", "amount": 1, "lines": [{"quantity": 1}]}'),
	('{"order_id": "o9", "amount": 1, "lines": [{"product_id": "tea", "line_no": 1.5}]}'), ('{"order_id": "o9", "amount": 1, "lines": [{"product_id": "tea", "line_no": 1e30}]}'),
	('{"order_id": "o9", "amount": 1, "lines": [{"product_id": "tea", "unit_price": "3"}]}'), ('{"order_id": "o9", "amount": 1, "lines": [{"product_id": "tea", "price": 3}]}'),
	('{"order_id": "o9", "amount": 1, "lines": [{"product_id": "tea", "order_id": "o1"}]}');
INSERT INTO bad (o) VALUES (jsonb_build_object('order_id', repeat('x', 1000), 'amount', 1));
SELECT n, left(o::text, 60) AS sales_order, r.* FROM bad, LATERAL pg_temp.order_refused(o) r ORDER BY n;
SELECT * FROM pg_temp.refused($$SELECT cdp.record_order(NULL, '{"order_id": "o9", "amount": 1}')$$);
SELECT * FROM pg_temp.refused($$SELECT cdp.record_order('{}', '{"order_id": "o9", "amount": 1}')$$);
SELECT * FROM pg_temp.refused($$SELECT cdp.record_order('{"shoe_size": "43"}', '{"order_id": "o9", "amount": 1}')$$);
SELECT (SELECT count(*) FROM cdp.sales_order) AS orders, (SELECT count(*) FROM cdp.sales_order_line) AS lines,
	(SELECT count(*) FROM cdp.event) AS events, (SELECT count(*) FROM cdp.profile) AS profiles;
-- a quoted name of a thing that is not there is cut short
SELECT message FROM pg_temp.order_refused(jsonb_build_object('order_id', 'o9', repeat('k', 500), 1));

-- what another source owns
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, amount, source) VALUES ('pos-1', 1, '2026-01-01', 10, 'pos.sale');
INSERT INTO cdp.sales_order_line (order_id, line_no, product_id, source) VALUES ('o3', 1, 'tea', 'pos.line');
SELECT * FROM pg_temp.order_refused('{"order_id": "pos-1", "amount": 11}');
SELECT * FROM pg_temp.order_refused('{"order_id": "o3", "lines": []}');

-- refunds
SELECT cdp.refund_order('o1', 30, 'damaged', 'r-1');
SELECT cdp.refund_order('o1', 30.00, refund_id => 'r-1');
SELECT cdp.refund_order(order_id => 'o1', amount => 10);
SELECT cdp.refund_order('o1', 10);
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order('o1', 31, NULL, 'r-1')$$);
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order('o3', 30, NULL, 'r-1')$$);
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order('o1', 50.01)$$);
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order('o1', 0)$$);
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order('o1', -5)$$);
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order('o1', 'NaN')$$);
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order('o1', 'Infinity')$$);
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order('o1', NULL)$$);
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order(NULL, 1)$$);
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order('nothing', 1)$$);
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order('o1', 1, NULL, '')$$);
SELECT status, refunded FROM cdp.sales_order WHERE order_id = 'o1';
SELECT cdp.refund_order('o1', 50, NULL, 'r-2');
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order('o1', 0.01)$$);
SELECT cdp.refund_order('o1', 50, NULL, 'r-2');
SELECT status, refunded FROM cdp.sales_order WHERE order_id = 'o1';
SELECT * FROM cdp.sales_refund ORDER BY refund_id;
SELECT message_id, properties FROM cdp.event WHERE name = 'Order Refunded' ORDER BY event_id;
SELECT * FROM pg_temp.order_refused('{"order_id": "o1", "status": "completed"}');
-- a cancelled order is refunded and stays cancelled; an attached order can be refunded too
SELECT cdp.refund_order('o2', 5), cdp.refund_order('pos-1', 4);
SELECT order_id, status, refunded FROM cdp.sales_order WHERE order_id IN ('o2', 'pos-1') ORDER BY 1;

-- read only
BEGIN READ ONLY;
SELECT cdp.record_order('{"member_id": "m1"}', '{"order_id": "o9", "amount": 1}');
ROLLBACK;
-- rights: verbs need nothing on the tables
CREATE ROLE commerce_app;
SELECT cdp.grant_access('application', 'commerce_app');
SET ROLE commerce_app;
SELECT cdp.record_order('{"member_id": "m3"}', '{"order_id": "o10", "amount": 8}');
SELECT cdp.refund_order('o10', 8, NULL, 'r-10');
SELECT count(*) FROM cdp.sales_order;
SELECT cdp._apply_orders(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, true);
RESET ROLE;
SELECT cdp.revoke_access('application', 'commerce_app');
DROP OWNED BY commerce_app;
DROP ROLE commerce_app;
-- the shape of an object: the first key that is not right, whatever is in it
SELECT cdp._check_object('{"a": 1, "n": 2, "m": "2026-01-01", "o": [], "x": null}', 'it', '{a,x}', '{n}', '{m}', '{o}');
SELECT r.* FROM unnest(ARRAY['{"a": true}', '{"n": "2"}', '{"m": "infinity"}', '{"m": 5}', '{"o": {}}', '{"z": null}', '{"a": {"n": 1}}', '[]', '1', NULL]) WITH ORDINALITY u(o, n),
	LATERAL pg_temp.refused(format('SELECT cdp._check_object(%L, ''it'', ''{a,x}'', ''{n}'', ''{m}'', ''{o}'')', o)) r ORDER BY n;
SELECT * FROM pg_temp.refused(format('SELECT cdp._check_object(%L, ''it'', ''{a}'', ''{}'', ''{}'', ''{}'')', jsonb_build_object(repeat('钥', 100), 1)));
SELECT cdp._check_object('{}', NULL, '{}', '{}', '{}', '{}');
