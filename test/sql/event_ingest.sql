-- files through staging tables, views
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-01 12:00:00+08';
SET TimeZone = 'America/New_York';
SET DateStyle = 'SQL, DMY';
DROP SCHEMA IF EXISTS shop CASCADE;
CREATE SCHEMA shop;
SET search_path = shop, public;
SELECT cdp.make_staging('order');
SELECT attname, atttypid::regtype FROM pg_attribute WHERE attrelid = 'shop.staging_order'::regclass AND attnum > 0 ORDER BY attnum;
COPY staging_order (order_id, phone, ordered_at, amount, status) FROM stdin WITH (FORMAT csv);
o-1,138 0013 8000,2026-02-01 10:00,100,completed
o-2,13800138001,2026-02-01T10:00:00+09:00,50.5,paid
o-3,not a phone,2026-02-01 10:00,1,paid
o-4,13800138001,yesterday noon,1,paid
o-5,13800138001,2026-02-01 10:00,many,paid
o-6,13800138001,2026-02-01 10:00,-1,paid
o-7,13800138001,2026-02-01 10:00,NaN,paid
o-8,13800138001,infinity,1,paid
,13800138001,2026-02-01 10:00,1,paid
o-10,13800138001,2026-02-01 10:00,10,eaten
o-11,13800138002,2026-02-01 10:00,11,
\.
CALL cdp.ingest('staging_order', 'order');
SELECT order_id, profile_id, ordered_at AT TIME ZONE 'UTC' AS utc, amount, status, source FROM cdp.sales_order ORDER BY order_id;
SELECT line_no, sqlstate, reason FROM cdp.ingest_reject ORDER BY line_no;
SELECT hint, row_image - 'customer_no' AS image FROM cdp.ingest_reject WHERE line_no = 10;
-- the same file again adds nothing
CREATE TABLE before AS SELECT (SELECT count(*) FROM cdp.event) AS events, (SELECT count(*) FROM cdp.sales_order) AS orders, (SELECT count(*) FROM cdp.profile) AS profiles;
CALL cdp.ingest('staging_order', 'order', batch => 2);
SELECT events = (SELECT count(*) FROM cdp.event) AS events, orders = (SELECT count(*) FROM cdp.sales_order) AS orders,
	profiles = (SELECT count(*) FROM cdp.profile) AS profiles FROM before;
SELECT count(*) FROM cdp.ingest_reject;
-- mended lines come in
UPDATE staging_order SET amount = '5' WHERE order_id = 'o-5';
CALL cdp.ingest('staging_order', 'order');
-- customers, with columns of one's own
SELECT cdp.make_staging('customer', 'shop.people', '{name,"家乡"}');
COPY people (member_id, name, "家乡", traits, occurred_at) FROM stdin WITH (FORMAT csv);
m-1,王芳,上海,"{""level"": 3}",2026-01-05
m-2,Li Lei,,,
m-3,Bad,x,"[1]",2026-01-05
m-4,Bad,x,"{""unfinished",2026-01-05
\.
CALL cdp.ingest('people', 'customer');
SELECT traits FROM cdp.customer WHERE traits ? 'name' ORDER BY customer_id;
SELECT line_no, sqlstate, reason FROM cdp.ingest_reject WHERE source = 'shop.people' ORDER BY line_no;
-- events: a line without message_id is known by its content, also when it is loaded again
SELECT cdp.make_staging('event', 'clicks', '{product_id}');
COPY clicks (member_id, name, occurred_at, product_id) FROM stdin WITH (FORMAT csv);
m-1,Product Viewed,2026-02-01 10:00,tea
m-1,Product Viewed,2026-02-01 10:00,tea
m-1,Product Viewed,2026-02-01 10:01,tea
m-1,,2026-02-01 10:01,tea
m-1,Product Viewed,,tea
m-1,Product Viewed,2036-02-01 10:01,tea
\.
CALL cdp.ingest('clicks', 'event');
CREATE TABLE again AS TABLE clicks;
DROP TABLE clicks;
SELECT cdp.make_staging('event', 'clicks', '{product_id}');
INSERT INTO clicks (member_id, name, occurred_at, product_id) SELECT member_id, name, occurred_at, product_id FROM again ORDER BY file_line DESC;
CALL cdp.ingest('clicks', 'event');
SELECT name, occurred_at AT TIME ZONE 'UTC' AS utc, properties, source FROM cdp.event WHERE name = 'Product Viewed' ORDER BY event_id;
SELECT line_no, sqlstate, reason FROM cdp.ingest_reject WHERE source = 'shop.clicks' ORDER BY line_no;
-- lines and products
SELECT cdp.make_staging('product'), cdp.make_staging('order_line');
COPY staging_product (product_id, name, price) FROM stdin WITH (FORMAT csv);
tea,Green tea,25
pot,Pot,-1
\.
COPY staging_order_line (order_id, line_no, product_id, quantity) FROM stdin WITH (FORMAT csv);
o-1,1,tea,2
o-1,2,pot,-2
\.
CALL cdp.ingest('staging_product', 'product');
CALL cdp.ingest('staging_order_line', 'order_line');
SELECT product_id, price FROM cdp.product ORDER BY 1;
SELECT order_id, line_no, product_id, quantity FROM cdp.sales_order_line ORDER BY 1, 2;
SELECT source, line_no, reason FROM cdp.ingest_reject WHERE source LIKE '%line' OR source LIKE '%product' ORDER BY 1, 2;
-- views, with and without a key; a name of one's own
CREATE TABLE raw (id int, who text, at timestamp, total numeric);
INSERT INTO raw SELECT g, 'v-' || g, '2026-02-01', CASE WHEN g = 3 THEN -1 ELSE g END FROM generate_series(1, 5) g;
CREATE VIEW v AS SELECT * FROM raw;
CALL cdp.ingest('v', 'order', '{"key": "id", "order_id": "''v-'' || id", "identifiers": {"member_id": "who"}, "ordered_at": "at", "amount": "total"}', 'legacy', 2);
CALL cdp.ingest('v', 'order', '{"order_id": "''v-'' || id", "identifiers": {"member_id": "who"}, "ordered_at": "at", "amount": "total"}', 'legacy', 2);
SELECT order_id, source FROM cdp.sales_order WHERE order_id LIKE 'v-%' ORDER BY 1;
SELECT line_no, reason FROM cdp.ingest_reject WHERE source = 'legacy';
SELECT job, status, done FROM cdp.job_status WHERE job LIKE 'ingest %' ORDER BY job;
-- new persons in every part of a relation without key, and an error between them: nothing of one part is used by the next
CREATE VIEW w AS SELECT g AS id, 'w-' || g % 300 AS who, CASE WHEN g % 50 = 0 THEN 'infinity' ELSE timestamp '2026-02-01' END AS at, g AS total
	FROM generate_series(1, 600) g;
CALL cdp.ingest('w', 'order', '{"order_id": "''w-'' || id", "identifiers": {"member_id": "who"}, "ordered_at": "at", "amount": "total"}', 'parts', 1);
SELECT count(*), count(DISTINCT profile_id) AS persons FROM cdp.sales_order WHERE source = 'parts';
-- refused
SELECT cdp.make_staging('emperor');
SELECT cdp.make_staging(NULL);
SELECT cdp.make_staging('order');
SELECT cdp.make_staging('order', 'x', '{a}');
CALL cdp.ingest(NULL, 'order');
CALL cdp.ingest('v', NULL);
CALL cdp.ingest('v', 'order', '{"order_id": "nope"}');
CALL cdp.ingest('v', 'order', batch => 0);
CALL cdp.ingest('v', 'emperor');
CREATE ROLE cdp_t_app;
SELECT cdp.grant_access('application', 'cdp_t_app');
GRANT USAGE ON SCHEMA shop TO cdp_t_app;
SET ROLE cdp_t_app;
CALL cdp.ingest('shop.v', 'order');
SELECT cdp.make_staging('order', 'shop.mine');
RESET ROLE;
GRANT CREATE ON SCHEMA shop TO cdp_t_app;
SET ROLE cdp_t_app;
SELECT cdp.make_staging('order', 'shop.mine');
INSERT INTO shop.mine (order_id, member_id, ordered_at, amount) VALUES ('app-1', 'm-9', '2026-02-01', '9');
CALL cdp.ingest('shop.mine', 'order');
RESET ROLE;
SELECT cdp.revoke_access('application', 'cdp_t_app');
DROP SCHEMA shop CASCADE;
DROP ROLE cdp_t_app;
