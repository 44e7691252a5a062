-- attach a table, follow it, detach it
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-01 12:00:00+08';
SET TimeZone = 'America/New_York';
SET DateStyle = ISO;
DROP SCHEMA IF EXISTS shop CASCADE;
CREATE SCHEMA shop;
CREATE TABLE shop.member (id int PRIMARY KEY, mobile text, full_name text, born date, created_at timestamp);
CREATE TABLE shop.orders (id int PRIMARY KEY, member_id int, paid_at timestamp, state text, total numeric(12,2), note text, gone text);
ALTER TABLE shop.orders DROP COLUMN gone;
CREATE TABLE shop.line (order_id int, n int, sku text, qty int, price money, PRIMARY KEY (order_id, n));
CREATE TABLE shop.product (sku text PRIMARY KEY, title text, price numeric, live boolean);
CREATE TABLE shop."Click" (seq bigint NOT NULL, at timestamptz, cookie text, member_id int, sku text);
INSERT INTO shop.member VALUES (1, '138 0013 8000', '王芳', '1990-05-06', '2024-01-01 08:00'), (2, NULL, 'Li Lei', NULL, '2024-01-02 08:00');
INSERT INTO shop.orders VALUES (1, 1, '2024-02-01 00:30', 'completed', 100, ''), (2, 2, '2024-02-02 00:30', 'paid', 50, '');
INSERT INTO shop.line VALUES (1, 1, 'tea', 2, 25), (1, 2, 'cup', 1, 50);
INSERT INTO shop.product VALUES ('tea', 'Green tea', 25, true), ('pot', 'Pot', 80, false);
INSERT INTO shop."Click" VALUES (1, '2026-02-28 10:00+08', 'c-1', NULL, 'tea');
SELECT cdp.attach_source('shop.member', 'customer', '{"identifiers": {"member_id": "id", "phone": "mobile"},
	"traits": {"name": "full_name", "birthday": "born", "joined": "created_at"}, "occurred_at": "created_at"}');
SELECT cdp.attach_source('shop.orders', 'order', '{"order_id": "''pos-'' || id", "identifiers": {"member_id": "member_id"}, "ordered_at": "paid_at",
	"status": "state", "amount": "total", "currency": "''CNY''"}');
SELECT cdp.attach_source('shop.line', 'order_line', '{"order_id": "''pos-'' || order_id", "line_no": "n", "product_id": "sku", "quantity": "qty",
	"unit_price": "price::numeric"}');
SELECT cdp.attach_source('shop.product', 'product', '{"product_id": "sku", "name": "title", "price": "price",
	"status": "CASE WHEN live THEN ''listed'' ELSE ''delisted'' END"}');
SELECT cdp.attach_source('shop."Click"', 'event', '{"key": "seq", "identifiers": {"anonymous_id": "cookie", "member_id": "member_id"},
	"name": "''Product Viewed''", "occurred_at": "at", "properties": {"product_id": "sku", "price": "NULL"}}');
-- the moments are those of the business, not of the session
SELECT customer_id, traits FROM cdp.customer WHERE traits ? 'name' ORDER BY 1;
SELECT order_id, ordered_at AT TIME ZONE 'UTC' AS utc, status, amount, currency, source FROM cdp.sales_order ORDER BY 1;
SELECT order_id, line_no, product_id, quantity, unit_price FROM cdp.sales_order_line ORDER BY 1, 2;
SELECT product_id, name, price, status FROM cdp.product ORDER BY 1;
SELECT name, message_id, source, properties FROM cdp.event ORDER BY event_id;
SELECT source, role, state, backfill, taken, queued, lag_seconds FROM cdp.source_status ORDER BY 1;
SELECT source, select_list FROM cdp.source s JOIN cdp.source_status t ON t.source = s.schema_name || '.' || s.table_name ORDER BY 1;
-- changes follow, set by set
INSERT INTO shop.orders SELECT g, 1 + g % 2, timestamp '2024-03-01' + g * interval '1 day', 'placed', g, '' FROM generate_series(10, 20) g;
UPDATE shop.orders SET state = 'paid' WHERE id IN (10, 11);
UPDATE shop.orders SET state = 'placed' WHERE id = 10;          -- the source is the truth
UPDATE shop.orders SET total = total + 1 WHERE id > 18;
INSERT INTO shop.orders VALUES (10, 1, '2024-03-11', 'completed', 10, ''), (21, 1, '2024-03-22', 'paid', 21, '')
	ON CONFLICT (id) DO UPDATE SET state = excluded.state;
SELECT order_id, status, amount FROM cdp.sales_order WHERE order_id >= 'pos-10' AND order_id NOT IN ('pos-2') ORDER BY length(order_id), order_id;
SELECT name, properties ->> 'order_id' AS order_id FROM cdp.event WHERE properties ->> 'order_id' IN ('pos-10', 'pos-11', 'pos-21') ORDER BY event_id;
UPDATE shop.member SET full_name = '王小芳' WHERE id = 1;
INSERT INTO shop.member VALUES (3, '13800138001', 'Han', NULL, '2026-02-01');
SELECT traits ->> 'name' FROM cdp.customer WHERE traits ? 'name' ORDER BY customer_id;
SELECT value FROM cdp.identifier WHERE kind = 'phone' ORDER BY 1;
-- an UPDATE of what the mapping does not read is not taken
SELECT taken AS before FROM cdp.source_status WHERE source = 'shop.orders' \gset
UPDATE shop.orders SET note = 'x';
SELECT taken - :before AS taken FROM cdp.source_status WHERE source = 'shop.orders';
-- COPY and MERGE are statements, too
COPY shop."Click" FROM stdin;
2	2026-02-28 10:01:00+08	c-1	1	pot
3	2026-02-28 10:02:00+08	c-2	\N	tea
\.
MERGE INTO shop.product p USING (VALUES ('tea', 30), ('cup', 15)) v(sku, price) ON p.sku = v.sku
	WHEN MATCHED THEN UPDATE SET price = v.price WHEN NOT MATCHED THEN INSERT VALUES (v.sku, v.sku, v.price, true);
SELECT product_id, price, status FROM cdp.product ORDER BY 1;
SELECT message_id, source, properties FROM cdp.event WHERE source = 'shop.Click' ORDER BY event_id;
-- a transaction that is rolled back leaves nothing
BEGIN;
INSERT INTO shop.orders VALUES (30, 1, '2024-03-22', 'paid', 21, '');
SELECT count(*) FROM cdp.event WHERE properties ->> 'order_id' = 'pos-30';
ROLLBACK;
SELECT count(*) FROM cdp.sales_order WHERE order_id = 'pos-30';
-- what is deleted is kept, and counted
DELETE FROM shop.orders WHERE id < 12;
DELETE FROM shop.orders WHERE id < 0;
TRUNCATE shop.line;
SELECT count(*) FROM cdp.sales_order;
SELECT count(*) FROM cdp.sales_order_line;
SELECT source, deletes_ignored, truncates_ignored FROM cdp.source_status WHERE deletes_ignored + truncates_ignored > 0 ORDER BY 1;
-- more than one chunk of a statement
INSERT INTO shop.product SELECT 'bulk-' || g, 'b', g, true FROM generate_series(1, 25000) g;
UPDATE shop.product SET price = price + 1, live = (sku <> 'bulk-24999') WHERE sku LIKE 'bulk-%' AND price > 9000;
SELECT count(*), sum(price), count(*) FILTER (WHERE status = 'delisted') AS delisted FROM cdp.product WHERE product_id LIKE 'bulk-%';
-- on_delete cancel
SELECT cdp.detach_source('shop.orders');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop.orders'::regclass;
INSERT INTO shop.orders VALUES (40, 1, '2024-03-22', 'paid', 40, '');
SELECT count(*) FROM cdp.sales_order WHERE order_id = 'pos-40';
SELECT cdp.attach_source('shop.orders', 'order', '{"order_id": "''pos-'' || id", "identifiers": {"member_id": "member_id"}, "ordered_at": "paid_at",
	"status": "state", "amount": "total"}', on_delete => 'cancel');
DELETE FROM shop.orders WHERE id IN (40, 21);
SELECT order_id, status FROM cdp.sales_order WHERE order_id IN ('pos-40', 'pos-21') ORDER BY 1;
TRUNCATE shop.orders;
SELECT count(*) FROM cdp.sales_order WHERE status = 'cancelled';
-- partitions: a statement may name the parent or a partition
CREATE TABLE shop.visit (id bigint, at timestamp, cookie text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE shop.visit_1 PARTITION OF shop.visit FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE shop.visit_2 (cookie text, junk int, at timestamp NOT NULL, id bigint NOT NULL);
ALTER TABLE shop.visit_2 DROP COLUMN junk;
ALTER TABLE shop.visit ATTACH PARTITION shop.visit_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO shop.visit VALUES (1, '2026-01-05', 'v-1'), (2, '2026-02-05', 'v-1');
SELECT cdp.attach_source('shop.visit', 'event', '{"identifiers": {"anonymous_id": "cookie"}, "name": "''Store Visited''", "occurred_at": "at", "message_id": "id"}');
INSERT INTO shop.visit VALUES (3, '2026-01-06', 'v-1'), (4, '2026-02-06', 'v-2');
INSERT INTO shop.visit_2 VALUES ('v-3', '2026-02-07', 5);
UPDATE shop.visit SET at = '2026-02-08' WHERE id = 1;            -- moves to another partition
SELECT message_id, source, occurred_at AT TIME ZONE 'Asia/Shanghai' AS at FROM cdp.event WHERE source = 'shop.visit' ORDER BY event_id;
SELECT cdp.attach_source('shop.visit_2', 'event', '{"identifiers": {"anonymous_id": "cookie"}, "name": "''Store Visited''", "occurred_at": "at", "message_id": "id"}');
-- a partition that came later
CREATE TABLE shop.visit_3 PARTITION OF shop.visit FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
INSERT INTO shop.visit VALUES (6, '2026-03-01', 'v-3');
CALL cdp.retry_sources();
INSERT INTO shop.visit_3 VALUES (7, '2026-03-01', 'v-3');
SELECT count(*) FROM cdp.event WHERE source = 'shop.visit';
DROP TABLE shop.visit_1;
SELECT cdp.detach_source('shop.visit');
SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'shop'::regnamespace AND c.relname LIKE 'visit%';
-- the table is dropped while attached
DROP TABLE shop.line;
SELECT source, state FROM cdp.source_status WHERE source = 'shop.line';
SELECT check_name, ok, detail FROM cdp.health() WHERE check_name LIKE 'source%' ORDER BY 1;
CALL cdp.retry_sources();
CREATE TABLE shop.line (order_id int, n int, sku text, PRIMARY KEY (order_id, n));
SELECT cdp.attach_source('shop.line', 'order_line', '{"order_id": "order_id", "line_no": "n", "product_id": "sku"}');
DROP TABLE shop.line;
SELECT cdp.detach_source('shop.line');
SELECT cdp.detach_source('shop.line');
-- DROP EXTENSION takes the triggers, migrate() brings them back
DROP EXTENSION customer_cdp CASCADE;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop.member'::regclass;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SELECT tgname FROM pg_trigger WHERE tgrelid = 'shop.member'::regclass ORDER BY 1;
INSERT INTO shop.member VALUES (4, '13800138004', 'Back', NULL, '2026-02-01');
SELECT count(*) FROM cdp.identifier WHERE kind = 'member_id' AND value = '4';
DROP SCHEMA shop CASCADE;
