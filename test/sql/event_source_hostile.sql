-- Mappings of people who are not the owner of the tables: what their functions do stays with them.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
CREATE ROLE hostile_admin;
SELECT cdp.grant_access('admin', 'hostile_admin');
CREATE SCHEMA ev AUTHORIZATION hostile_admin;
GRANT USAGE ON SCHEMA ev TO public;
SET ROLE hostile_admin;
CREATE TABLE ev.shop (id text PRIMARY KEY, n int);
INSERT INTO ev.shop VALUES ('e1', 1), ('e2', 2);

-- a mapping that changes search_path would choose the operators of the statements that follow, which run as the owner
CREATE FUNCTION ev.equal(a bigint, b bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF current_user <> 'hostile_admin' THEN
		RAISE EXCEPTION 'code of hostile_admin runs as somebody else';
	END IF;
	RETURN a OPERATOR(pg_catalog.=) b;
END $$;
CREATE OPERATOR ev.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = ev.equal);
CREATE FUNCTION ev.path(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	PERFORM set_config('search_path', 'ev, pg_catalog', false), set_config('cdp.timezone', 'UTC', false);
	RETURN t;
END $$;
SELECT cdp.attach_source('ev.shop', 'customer', '{"identifiers": {"member_id": "ev.path(id)"}, "traits": {"n": "n"}}');
INSERT INTO ev.shop VALUES ('e3', 3);
UPDATE ev.shop SET n = 9;
SELECT count(*), min(sqlstate) FROM cdp.source_queue;
CALL cdp.retry_sources();
-- and nothing of it is left in the session
SELECT current_setting('search_path') AS search_path, current_setting('cdp.timezone') AS timezone;
SELECT cdp.detach_source('ev.shop'::regclass);
CALL cdp.ingest('ev.shop', 'customer', '{"key": "id", "identifiers": {"member_id": "ev.path(id)"}, "traits": {"n": "n"}}');
CREATE VIEW ev.seen AS SELECT ev.path(id) AS member_id, n FROM ev.shop;
CALL cdp.ingest('ev.seen', 'customer');
SELECT current_setting('search_path') AS search_path, current_setting('cdp.timezone') AS timezone;

RESET ROLE;
-- a column changes its type under an attached source: the value is converted as attaching would have converted it,
-- and what cannot be converted waits in the queue
CREATE TABLE ev.orders (id int PRIMARY KEY, total numeric, at timestamptz, member varchar(20), tags text[]);
SELECT cdp.attach_source('ev.orders', 'order', '{"order_id": "id", "amount": "total", "ordered_at": "at", "identifiers": {"member_id": "member", "device_id": "tags"}}');
INSERT INTO ev.orders VALUES (1, 1, '2024-01-01 00:00+08', 'm1', '{d1,d2}');
ALTER TABLE ev.orders ALTER total TYPE int, ALTER at TYPE timestamp USING at AT TIME ZONE 'Asia/Shanghai', ALTER member TYPE int USING 7, ALTER tags TYPE varchar USING tags[1];
INSERT INTO ev.orders VALUES (2, 2, '2024-01-02 00:00', 8, 'd3');
ALTER TABLE ev.orders ALTER total TYPE text;
INSERT INTO ev.orders VALUES (3, '3', '2024-01-03 00:00', 9, 'd4'), (4, 'four', '2024-01-04 00:00', 9, 'd4');
ALTER TABLE ev.orders ALTER at TYPE boolean USING true;
INSERT INTO ev.orders VALUES (5, '5', true, 9, 'd5');
SELECT order_id, amount, ordered_at AT TIME ZONE 'Asia/Shanghai' AS ordered_at FROM cdp.sales_order ORDER BY 1;
SELECT row_image ->> 'id' AS id, sqlstate, error, hint FROM cdp.source_queue ORDER BY queue_id;
SELECT cdp.detach_source('ev.orders'::regclass);

-- a table of more columns than a function has arguments
DO $$ BEGIN EXECUTE 'CREATE TABLE ev.wide (member_id text PRIMARY KEY, ' || (SELECT string_agg('c' || i || ' int', ', ') FROM generate_series(1, 120) i) || ')'; END $$;
INSERT INTO ev.wide (member_id, c1, c41, c120) VALUES ('wide', 1, 41, 120);
CALL cdp.ingest('ev.wide', 'customer');
SELECT traits FROM cdp.profile WHERE traits ? 'c120';

-- what is longer than an index can hold is told so, by every way in
SELECT cdp.identify('{"member_id": "e1"}', '{}', repeat('x', 9000));
SELECT cdp.identify('{"member_id": "e1"}', jsonb_build_object(repeat('x', 9000), 1));
SELECT cdp.set_traits(cdp.resolve('member_id', 'e1'), '{"n": 1}', repeat('x', 9000));
CALL cdp.ingest('ev.shop', 'customer', NULL, repeat('x', 9000));

DROP SCHEMA ev CASCADE;
SELECT cdp.revoke_access('admin', 'hostile_admin');
DROP ROLE hostile_admin;
