-- what attach_source refuses, and that nothing is left of it; rights
\set SHOW_CONTEXT never
\set VERBOSITY default
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
DROP SCHEMA IF EXISTS shop CASCADE;
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id int PRIMARY KEY, member_id int, at timestamp, total numeric, flag boolean, doc jsonb);
INSERT INTO shop.orders VALUES (1, 1, '2024-01-01', 5, true, '{}');
CREATE TABLE shop.nokey (id int, member_id int);
CREATE VIEW shop.v AS SELECT * FROM shop.orders;
CREATE TEMP TABLE t (id int PRIMARY KEY);
-- answers the SQLSTATE, the message and the hint of a refused mapping of shop.orders
CREATE FUNCTION shop.try(mapping jsonb, role text DEFAULT 'order', source regclass DEFAULT 'shop.orders') RETURNS text LANGUAGE plpgsql AS $$
DECLARE h text;
BEGIN
	PERFORM cdp.attach_source(source, role, mapping);
	RETURN 'taken';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, h);
END $$;
CREATE FUNCTION shop.order_map(extra jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT '{"order_id": "id", "identifiers": {"member_id": "member_id"}, "ordered_at": "at", "amount": "total"}'::jsonb || extra $$;
\t on
SELECT shop.try('[]');
SELECT shop.try('{}');
SELECT shop.try('"id"');
SELECT shop.try(NULL);
SELECT shop.try('{"order_id": "id"}');
SELECT shop.try(shop.order_map('{"identifiers": null}'));
SELECT shop.try(shop.order_map('{"identifiers": {}}'));
SELECT shop.try(shop.order_map('{"identifiers": ["id"]}'));
SELECT shop.try(shop.order_map('{"identifiers": {"shoe_size": "id"}}'));
SELECT shop.try(shop.order_map('{"identifiers": {"member_id": "no_such"}}'));
SELECT shop.try(shop.order_map('{"amount": 5}'));
SELECT shop.try(shop.order_map('{"amount": "no_such_column"}'));
SELECT shop.try(shop.order_map('{"amount": ""}'));
SELECT shop.try(shop.order_map('{"amount": "total +"}'));
SELECT shop.try(shop.order_map('{"amount": "flag"}'));
SELECT shop.try(shop.order_map('{"amount": "no_such_function(id)"}'));
SELECT shop.try(shop.order_map('{"amount": "sum(total)"}'));
SELECT shop.try(shop.order_map('{"amount": "row_number() OVER ()"}'));
SELECT shop.try(shop.order_map('{"amount": "generate_series(1, 3)"}'));
SELECT shop.try(shop.order_map('{"amount": "(SELECT 1)"}'));
SELECT shop.try(shop.order_map('{"amount": "random()"}'));
SELECT shop.try(shop.order_map('{"amount": "xmin::text::int"}'));
SELECT shop.try(shop.order_map('{"amount": "total FROM shop.orders"}'));
SELECT shop.try(shop.order_map('{"amount": "total, 1"}'));
SELECT shop.try(shop.order_map('{"amount": "total; DROP TABLE shop.orders"}'));
SELECT shop.try(shop.order_map('{"amount": "*"}'));
SELECT shop.try(shop.order_map('{"amount": "orders.*"}'));
SELECT shop.try(shop.order_map('{"amount": "''NaN)"}'));
SELECT shop.try(shop.order_map('{"amont": "total"}'));
SELECT shop.try(shop.order_map('{"key": "no_such"}'));
SELECT shop.try(shop.order_map('{"key": 5}'));
SELECT shop.try('{"identifiers": {"member_id": "member_id"}}', 'customer', 'shop.nokey');
SELECT shop.try('{"identifiers": {"member_id": "member_id"}, "traits": {"x": "nope"}}', 'customer');
SELECT shop.try('{"identifiers": {"member_id": "member_id"}, "traits": "nope"}', 'customer');
SELECT shop.try('{}', 'emperor');
SELECT shop.try('{"identifiers": {"member_id": "id"}}', 'customer', 'shop.v');
SELECT shop.try('{"identifiers": {"member_id": "id"}}', 'customer', 't');
SELECT shop.try('{"identifiers": {"member_id": "profile_id"}}', 'customer', 'cdp.profile');
SELECT shop.try('{"identifiers": {"member_id": "oid"}}', 'customer', 'pg_class');
SELECT shop.try('{"identifiers": {"member_id": "id"}}', 'customer', 'shop.orders_pkey');
SELECT shop.try('{"identifiers": {"member_id": "id"}}', 'customer', 0);
\t off
-- nothing is left of all that
SELECT (SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('shop.orders'::regclass, 'shop.nokey'::regclass)) AS triggers,
	(SELECT count(*) FROM cdp.source) AS sources, (SELECT count(*) FROM cdp.sales_order) AS orders;
SELECT cdp.attach_source(NULL, 'order', '{}');
SELECT cdp.attach_source('shop.orders', NULL, '{}');
SELECT cdp.attach_source('shop.orders', 'order', '{}', on_error => 'ignore');
SELECT cdp.attach_source('shop.orders', 'order', '{}', on_delete => 'forget');
SELECT cdp.attach_source('shop.orders', 'customer', '{}', on_delete => 'cancel');
BEGIN READ ONLY;
SELECT cdp.attach_source('shop.orders', 'order', shop.order_map('{}'));
ROLLBACK;
-- odd but right
SELECT shop.try(shop.order_map('{"amount": "total -- net", "status": "''paid''", "channel": "CASE WHEN flag THEN ''web'' END", "currency": "coalesce(doc ->> ''cur'', ''CNY'')"}'));
SELECT order_id, status, channel, currency FROM cdp.sales_order;
SELECT shop.try(shop.order_map('{}'));
CALL cdp.backfill_source('shop.nokey');
CALL cdp.backfill_source('shop.orders', 0);
CALL cdp.backfill_source(NULL);
CALL cdp.retry_sources(0);
SELECT cdp.detach_source('shop.nokey');
SELECT cdp.detach_source('no.such');
SELECT cdp.detach_source(NULL::regclass);
-- on_error raise: the user's statement fails, with the reason
SELECT cdp.detach_source('shop.orders');
TRUNCATE shop.orders;
INSERT INTO shop.orders VALUES (2, NULL, '2024-01-01', 5);
SELECT cdp.attach_source('shop.orders', 'order', shop.order_map('{}'), on_error => 'raise');
DELETE FROM shop.orders;
SELECT cdp.attach_source('shop.orders', 'order', shop.order_map('{}'), on_error => 'raise');
INSERT INTO shop.orders VALUES (3, 1, '2024-01-01', 5), (4, NULL, '2024-01-01', 5);
INSERT INTO shop.orders VALUES (3, 1, 'infinity', 5);
INSERT INTO shop.orders VALUES (3, 1, '2024-01-01', 'NaN');
SELECT count(*) FROM shop.orders;
INSERT INTO shop.orders VALUES (3, 1, '2024-01-01', 5);
SELECT cdp.detach_source('shop.orders');
-- who inserts needs no right on cdp; the mapping runs as who attached
CREATE ROLE cdp_t_owner;
CREATE ROLE cdp_t_clerk;
CREATE ROLE cdp_t_other;
GRANT USAGE, CREATE ON SCHEMA shop TO cdp_t_owner, cdp_t_clerk, cdp_t_other;
SELECT cdp.grant_access('operator', 'cdp_t_owner'), cdp.grant_access('operator', 'cdp_t_other');
SET ROLE cdp_t_owner;
CREATE TABLE shop.mine (id int PRIMARY KEY, member_id int, at timestamptz, total numeric);
GRANT INSERT ON shop.mine TO cdp_t_clerk;
CREATE FUNCTION shop.secret(x numeric) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT x * 2';
CREATE FUNCTION shop.who() RETURNS text LANGUAGE sql STABLE AS 'SELECT current_user::text';
REVOKE ALL ON FUNCTION shop.secret FROM PUBLIC;
SET ROLE cdp_t_clerk;
SELECT cdp.attach_source('shop.mine', 'order', shop.order_map('{}'));
SET ROLE cdp_t_other;
SELECT cdp.attach_source('shop.mine', 'order', shop.order_map('{}'));
SET ROLE cdp_t_owner;
SET search_path = shop, public;
SELECT cdp.attach_source('shop.mine', 'order', shop.order_map('{"amount": "secret(total)", "channel": "who()"}'));
RESET search_path;
SET ROLE cdp_t_clerk;
INSERT INTO shop.mine VALUES (100, 7, '2024-01-01 00:00+08', 21);
SELECT shop.secret(1);
SELECT count(*) FROM cdp.sales_order;
RESET ROLE;
SELECT order_id, amount, channel FROM cdp.sales_order WHERE order_id = '100';
SELECT count(*) FROM cdp.source_queue;
-- a superuser attaches somebody's table: the mapping runs as its owner
SET ROLE cdp_t_owner;
SELECT cdp.detach_source('shop.mine');
RESET ROLE;
SELECT cdp.attach_source('shop.mine', 'order', shop.order_map('{"channel": "shop.who()"}'));
INSERT INTO shop.mine VALUES (101, 7, '2024-01-01 00:00+08', 21);
SELECT order_id, channel FROM cdp.sales_order WHERE order_id = '101';
-- a mapping that was changed behind attach_source's back does not run
UPDATE cdp.source SET select_list = replace(select_list, 'shop.who()', '''evil''::text') WHERE table_name = 'mine';
INSERT INTO shop.mine VALUES (102, 7, '2024-01-01 00:00+08', 21);
SELECT sqlstate, error, hint FROM cdp.source_queue;
SELECT cdp.detach_source('shop.mine');
-- a table that was dropped and made anew: it has no triggers, and the back-fill says so, in whatever shape it is
CREATE TABLE shop.again (id int PRIMARY KEY, phone text, mail text);
INSERT INTO shop.again VALUES (1, '13800138000', 'a@example.com');
SELECT cdp.attach_source('shop.again', 'customer', '{"identifiers": {"phone": "phone", "email": "mail"}}');
DROP TABLE shop.again;
CREATE TABLE shop.again (id int PRIMARY KEY, phone text, mail text);
INSERT INTO shop.again VALUES (2, '13800138002', 'b@example.com');
SELECT source, state FROM cdp.source_status;
CALL cdp.backfill_source('shop.again');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.attach_source('shop.again', 'customer', '{"identifiers": {"phone": "phone", "email": "mail"}}');
SELECT source, state FROM cdp.source_status;
CALL cdp.backfill_source('shop.again');
DROP TABLE shop.again;
CREATE TABLE shop.again (id int PRIMARY KEY, phone text);
CALL cdp.backfill_source('shop.again');
-- with its triggers back, but without a column of the mapping
CALL cdp.migrate();
INSERT INTO shop.again VALUES (3, '13800138003');
SELECT sqlstate, error, hint FROM cdp.source_queue WHERE row_image ->> 'id' = '3';
CALL cdp.backfill_source('shop.again');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.detach_source('shop.again');
SELECT cdp.attach_source('shop.again', 'customer', '{"identifiers": {"phone": "phone"}}');
SELECT cdp.detach_source('shop.again');
-- the first rows that a session brings, many and half of them bad: each reaches the queue with its reason
SELECT cdp.attach_source('shop.again', 'customer', '{"identifiers": {"phone": "phone"}}');
\c -
\set SHOW_CONTEXT never
SET client_min_messages = warning;
INSERT INTO shop.again SELECT 10 + g, CASE WHEN g % 2 = 0 THEN 'no phone ' || g ELSE '1380013' || lpad(g::text, 4, '0') END FROM generate_series(1, 3000) g;
SELECT q.sqlstate, q.error, count(DISTINCT row_image ->> 'id'), min(row_image ->> 'phone') FROM cdp.source_queue q JOIN cdp.source s USING (source_id) WHERE s.table_name = 'again' GROUP BY 1, 2;
SELECT cdp.detach_source('shop.again');
SELECT cdp.revoke_access('operator', 'cdp_t_owner'), cdp.revoke_access('operator', 'cdp_t_other');
DROP SCHEMA shop CASCADE;
DROP ROLE cdp_t_owner, cdp_t_clerk, cdp_t_other;
