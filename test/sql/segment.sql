-- segments: definitions and what they are refused for, refresh, events, rights, nested, merged customers, dropped
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET IntervalStyle = 'postgres';
SET cdp.now = '2026-03-01 00:00:00+00';
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 10) i;
SELECT count(cdp.add_tag(i, 'vip')) FROM generate_series(1, 5) i;
CREATE SCHEMA shop;
CREATE TABLE shop.fans (customer_id bigint);
INSERT INTO shop.fans VALUES (2), (3), (3), (NULL), (999), (-1);
CREATE FUNCTION shop.state(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE sql;
	RETURN 'taken';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

-- what a definition is
SELECT cdp.define_segment('c', 'vip', 'those who are'), cdp.define_segment('fans', 'TABLE shop.fans'), cdp.define_segment('b', 'segment(c) & segment(fans)');
SELECT cdp.define_segment('a', $$ -- a remark
	/* and /* another */ */ (SELECT cdp.segment_members('b') AS customer_id) UNION SELECT 9$$);
SELECT cdp.define_segment('selected', 'selected | "select"');
SELECT name, kind, version, depends_on, refresh_every, due, last_error FROM cdp.segment_status ORDER BY name;
-- the same again is the same version, something else another one
SELECT cdp.define_segment('selected', 'selected | "select"'), cdp.define_segment('selected', 'selected'), cdp.define_segment('selected', 'selected | "select"');
SELECT segment, version, definition, kind, owner = current_user AS mine, search_path, defined_at FROM cdp.segment_definition WHERE segment = 'selected' ORDER BY version;
SELECT cdp.drop_segment('selected');

-- what is refused, before anything is stored
SELECT d, shop.state(format('SELECT cdp.define_segment(%L, %L)', 'x', d)) FROM unnest(ARRAY[
	'SELECT 1::bigint AS customer_id; SELECT 2', 'SELECT FROM WHERE', 'SELECT 1::bigint AS customer_id LIMIT',
	'WITH d AS (DELETE FROM shop.fans RETURNING *) SELECT customer_id FROM d', 'SELECT customer_id FROM (WITH d AS (DELETE FROM shop.fans RETURNING *) SELECT * FROM d) f',
	'WITH a AS (WITH b AS (UPDATE shop.fans SET customer_id = 1 RETURNING *) SELECT * FROM b) SELECT customer_id FROM a', 'WITH x AS (SELECT 1) DELETE FROM shop.fans',
	'SELECT customer_id INTO shop.other FROM shop.fans', ' update shop.fans SET customer_id = 1', 'INSERT INTO shop.fans VALUES (1)', 'CREATE TABLE x()',
	'LOCK TABLE shop.fans', 'SELECT customer_id FROM shop.fans FOR UPDATE', 'SELECT customer_id FROM (SELECT * FROM shop.fans FOR SHARE) f',
	'SELECT customer_id AS id FROM shop.fans', 'VALUES (1::bigint)', 'SELECT FROM shop.fans', 'SELECT customer_id, 1 AS value FROM shop.fans',
	'SELECT 1 AS customer_id', 'SELECT customer_id::text FROM shop.fans', 'SELECT $1 AS customer_id', 'SELECT customer_id FROM shop.nothing',
	'SELECT nothing AS customer_id FROM shop.fans', 'SELECT cdp.segment_members(''nix'') AS customer_id', 'segment(nix)',
	'SELECT m AS customer_id FROM shop.fans, cdp.segment_members(''c'' || customer_id) m',
	'SELECT customer_id FROM shop.fans WHERE cdp.in_segment(name => (SELECT ''c''), customer_id => customer_id)',
	'vip &', 'vip & (', 'segment(x)', 'SELECT cdp.segment_members(''x'') AS customer_id', '']) d;
SELECT count(*) FROM cdp.segment WHERE name = 'x';
SELECT count(*) FROM cdp.segment_definition WHERE segment = 'x';
SELECT cdp.define_segment('x', 'SELECT customer_id FROM shop.nothing');
-- a position counts in the definition
SELECT cdp.define_segment('x', 'SELECT customer_id FROM shop.fans WHERE customer_id = ''7');
SELECT cdp.define_segment('x', 'SELECT customer_id FROM shop.fans WHERE AND');
SELECT cdp.define_segment('x', 'SELECT m AS customer_id FROM shop.fans, cdp.segment_members(customer_id::text) m');
SELECT cdp.define_segment('x', 'SELECT customer_id::int FROM shop.fans');
CREATE TEMP TABLE mine (customer_id bigint);
SELECT cdp.define_segment('x', 'TABLE mine');
DROP TABLE mine;
SELECT cdp.define_segment(NULL, 'vip');
SELECT cdp.define_segment('x', NULL);
SELECT cdp.define_segment('x..y', 'vip');
SELECT cdp.define_segment('x', 'vip', holdout_percent => 101);
SELECT cdp.define_segment('x', 'vip', refresh_every => '0');
SELECT cdp.define_segment('x', 'vip', snapshots_kept => -1);
-- planning evaluates what is immutable, and nothing of it can write or stay
CREATE FUNCTION shop.helper() RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO shop.fans VALUES (1); END $$;
CREATE FUNCTION shop.sly() RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM shop.helper(); RETURN 1; END $$;
SELECT shop.state($s$SELECT cdp.define_segment('x', 'SELECT shop.sly() AS customer_id')$s$);
CREATE OR REPLACE FUNCTION shop.helper() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('role', 'none', false); END $$;
SELECT shop.state($s$SELECT cdp.define_segment('x', 'SELECT shop.sly() AS customer_id')$s$);
-- a circle has a path
SELECT cdp.define_segment('fans', 'segment(a)');
SELECT cdp.define_segment('c', 'segment(c)');
UPDATE cdp.segment SET definition = 'segment(a)' WHERE name = 'c';

-- all in one call, those that are asked for first
CALL cdp.refresh_segments();
SELECT name, member_count, cdp.segment_audience(name), refreshed_at, due, last_error FROM cdp.segment_status ORDER BY name;
SELECT name, profile_id, occurred_at, source, message_id, properties FROM cdp.event WHERE name LIKE 'Segment%' ORDER BY event_id;
SELECT segment, customer_id, entered_at, left_at, version FROM cdp.segment_history ORDER BY segment, customer_id;
SELECT segment, refreshed_at, member_count, cdp.audience_from_roaring64(members) FROM cdp.segment_snapshot ORDER BY segment;
-- a second one writes refreshed_at only
CREATE TABLE shop.before AS SELECT to_jsonb(s) - 'refreshed_at' AS s, s.name FROM cdp.segment s;
SET cdp.now = '2026-03-01 01:00:00+00';
CALL cdp.refresh_segments();
SELECT count(*), count(*) FILTER (WHERE to_jsonb(s) - 'refreshed_at' = b.s) AS same, min(refreshed_at) FROM cdp.segment s JOIN shop.before b USING (name);
SELECT count(*) FROM cdp.event WHERE name LIKE 'Segment%';
SELECT count(*) FROM cdp.segment_snapshot;

-- ids of its events written in advance by who may write events do not stop a refresh
SELECT cdp.track_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm1'), 'name', 'X', 'source', 'cdp',
	'message_id', format('segment:%s:%s:%s', r, c, d))) FROM generate_series(1, 50) r, generate_series(1, 10) c, unnest('{entered,left}'::text[]) d));

-- who enters and who leaves
SELECT cdp.add_tag(7, 'vip'), cdp.remove_tag(2, 'vip');
INSERT INTO shop.fans VALUES (7);
CALL cdp.refresh_segments('a');
SELECT name, profile_id, properties->>'segment' AS segment, properties->>'initial' AS initial, properties->>'reason' AS reason
FROM cdp.event WHERE name LIKE 'Segment%' AND occurred_at = cdp.now() ORDER BY segment, name, profile_id;
SELECT * FROM cdp.segments_of(7);
SELECT * FROM cdp.segments_of(2);
SELECT * FROM cdp.explain_segment('c', 2);
SELECT * FROM cdp.explain_segment('b', 7);
SELECT * FROM cdp.explain_segment('fans', 7);
SELECT * FROM cdp.explain_segment('fans', 4);
SELECT cdp.in_segment(7, 'c'), cdp.in_segment(2, 'c'), cdp.count_customers('segment(c) & !segment(b)'), cdp.matches_customer(7, 'segment(a)');
-- an entry that ends leaves at that instant
SELECT cdp.add_tag(10, 'vip', valid_until => '2026-03-01 02:00+00');
CALL cdp.refresh_segments('c');
SELECT cdp.in_segment(10, 'c');
SET cdp.now = '2026-03-01 01:59:59.999999+00';
CALL cdp.refresh_segments();
SELECT cdp.in_segment(10, 'c');
SET cdp.now = '2026-03-01 02:00:00+00';
CALL cdp.refresh_segments('c');
SELECT cdp.in_segment(10, 'c');
SET cdp.now = '2026-03-01 01:59:00+00';
CALL cdp.refresh_segments('c');
SELECT cdp.in_segment(10, 'c');
SET cdp.now = '2026-03-01 03:00:00+00';
CALL cdp.refresh_segments();
-- a new version
SELECT cdp.define_segment('c', 'vip & !"of yore"', refresh_every => '1 day');
SELECT due FROM cdp.segment_status WHERE name = 'c';
SELECT cdp.add_tag(7, 'of yore');
CALL cdp.refresh_segments();
SELECT due FROM cdp.segment_status WHERE name = 'c';
SELECT profile_id, properties - 'refresh_id' AS properties FROM cdp.event WHERE name = 'Segment Left' AND properties->>'segment' = 'c' AND occurred_at = cdp.now();

-- what is wrong is said and kept, the others go on
ALTER TABLE shop.fans RENAME TO friends;
SET cdp.now = '2026-03-02 05:00:00+00';
SELECT cdp.add_tag(8, 'vip');
CALL cdp.refresh_segments();
SELECT name, member_count, refreshed_at, last_error FROM cdp.segment_status ORDER BY name;
CALL cdp.refresh_segments('b');
SELECT * FROM cdp.health() WHERE check_name = 'segments';
ALTER TABLE shop.friends RENAME TO fans;
CALL cdp.refresh_segments();
SELECT name, member_count, refreshed_at, last_error FROM cdp.segment_status ORDER BY name;
CALL cdp.refresh_segments('nix');

-- a function that writes
CREATE FUNCTION shop.busy() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN INSERT INTO shop.fans VALUES (1); RETURN 1; END $$;
SELECT cdp.define_segment('busy', 'SELECT shop.busy() AS customer_id');
\set VERBOSITY sqlstate
CALL cdp.refresh_segments('busy');
CREATE OR REPLACE FUNCTION shop.busy() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('transaction_read_only', 'off', false); INSERT INTO shop.fans VALUES (1); RETURN 1; END $$;
CALL cdp.refresh_segments('busy');
CREATE OR REPLACE FUNCTION shop.busy() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM cdp._end_read_only(); INSERT INTO shop.fans VALUES (1); RETURN 1; END $$;
CALL cdp.refresh_segments('busy');
CREATE OR REPLACE FUNCTION shop.busy() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM cdp.add_tag(1, 'busy'); RETURN 1; END $$;
CALL cdp.refresh_segments('busy');
CREATE OR REPLACE FUNCTION shop.busy() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('role', 'none', false); RETURN 1; END $$;
CALL cdp.refresh_segments('busy');
CREATE OR REPLACE FUNCTION shop.busy() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('search_path', 'shop', false), pg_sleep(10); RETURN 1; END $$;
SET statement_timeout = '100ms';
CALL cdp.refresh_segments('busy');
RESET statement_timeout;
\set VERBOSITY default
SELECT member_count, last_error, current_setting('search_path') FROM cdp.segment_status WHERE name = 'busy';
SELECT count(*) FROM shop.fans;
SELECT cdp.drop_segment('busy');

-- rights: as the role that defined it, whoever refreshes
DROP ROLE IF EXISTS regress_segment_writer, regress_segment_other;
CREATE ROLE regress_segment_writer;
CREATE ROLE regress_segment_other;
SELECT cdp.grant_access('operator', 'regress_segment_writer');
SELECT cdp.grant_access('operator', 'regress_segment_other');
CREATE SCHEMA desk AUTHORIZATION regress_segment_writer;
CREATE TABLE shop.secret AS SELECT 1::bigint AS customer_id;
GRANT USAGE ON SCHEMA shop TO regress_segment_writer, regress_segment_other;
SET ROLE regress_segment_writer;
SELECT cdp.define_segment('theirs', 'TABLE shop.secret');
SELECT cdp.define_segment('theirs', 'SELECT customer_id FROM shop.fans WHERE EXISTS (SELECT FROM shop.secret)');
SELECT count(*) FROM cdp.segment WHERE name = 'theirs';
SET search_path = desk;
CREATE TABLE list (customer_id bigint);
INSERT INTO list VALUES (6);
CREATE FUNCTION peek() RETURNS SETOF bigint LANGUAGE sql AS 'SELECT customer_id FROM list';
SELECT cdp.define_segment('theirs', 'SELECT peek() AS customer_id');
RESET ROLE;
SET search_path = public;
-- neither the superuser's rights nor a temporary table of his
CREATE TEMP TABLE list AS SELECT 1::bigint AS customer_id;
GRANT ALL ON list TO PUBLIC;
CALL cdp.refresh_segments('theirs');
SELECT owner, search_path, cdp.segment_audience(name), last_error FROM cdp.segment WHERE name = 'theirs';
CREATE OR REPLACE FUNCTION desk.peek() RETURNS SETOF bigint LANGUAGE sql AS 'SELECT customer_id FROM shop.secret';
CALL cdp.refresh_segments('theirs');
SELECT cdp.segment_audience(name), last_error FROM cdp.segment WHERE name = 'theirs';
CREATE OR REPLACE FUNCTION desk.peek() RETURNS SETOF bigint LANGUAGE plpgsql AS $$ BEGIN RETURN NEXT CASE WHEN current_user = 'regress_segment_writer' THEN 6 END; END $$;
-- another role may not have it run, and leaves it to others; what is a tagquery anybody may
SET ROLE regress_segment_other;
CALL cdp.refresh_segments('theirs');
SELECT last_error FROM cdp.segment WHERE name = 'theirs';
CALL cdp.refresh_segments('c');
SELECT holds FROM cdp.explain_segment('theirs', 6);
SET cdp.now = '2026-03-05 00:00+00';
RESET ROLE;
SET cdp.now = '2026-03-05 00:00+00';
SET ROLE regress_segment_other;
CALL cdp.refresh_segments();
SELECT name, refreshed_at = cdp.now() AS now FROM cdp.segment_status ORDER BY name;
-- who changes a definition makes it his own
UPDATE cdp.segment SET definition = 'TABLE shop.secret' WHERE name = 'theirs';
UPDATE cdp.segment SET definition = 'SELECT 6::bigint AS customer_id' WHERE name = 'theirs';
SELECT owner, version FROM cdp.segment WHERE name = 'theirs';
RESET ROLE;
UPDATE cdp.segment SET owner = 'regress_segment_writer' WHERE name = 'theirs';
SELECT owner = current_user AS mine, version FROM cdp.segment WHERE name = 'theirs';
SET ROLE regress_segment_writer;
UPDATE cdp.segment SET definition = 'SELECT 6::bigint AS customer_id' WHERE name = 'theirs';
UPDATE cdp.segment SET description = 'a list', version = 9 WHERE name = 'theirs';
SELECT owner, version, description FROM cdp.segment WHERE name = 'theirs';
RESET ROLE;
-- an owner who is gone
DROP SCHEMA desk CASCADE;
REVOKE USAGE ON SCHEMA shop FROM regress_segment_writer, regress_segment_other;
SELECT cdp.revoke_access('operator', 'regress_segment_writer'), cdp.revoke_access('operator', 'regress_segment_other');
DROP OWNED BY regress_segment_writer, regress_segment_other;
DROP ROLE regress_segment_writer, regress_segment_other;
CALL cdp.refresh_segments('theirs');
SELECT last_error FROM cdp.segment WHERE name = 'theirs';
SELECT cdp.drop_segment('theirs');

-- by hand
INSERT INTO cdp.segment (name, definition, holdout_percent) VALUES ('hand', 'vip', 50);
INSERT INTO cdp.segment (name, definition) VALUES ('hand2', 'segment(nix)');
INSERT INTO cdp.segment (definition) VALUES ('vip');
UPDATE cdp.segment SET members = '{1}' WHERE name = 'hand';
UPDATE cdp.segment SET member_count = 7 WHERE name = 'hand';
UPDATE cdp.segment SET name = 'foot' WHERE name = 'hand';
UPDATE cdp.segment SET refresh_every = '-1 day' WHERE name = 'hand';
DELETE FROM cdp.segment WHERE name = 'hand';
TRUNCATE cdp.segment;
CALL cdp.refresh_segments('hand');
-- the holdout: everyone is a member, some are no targets; the same by SQL
SELECT m, cdp.holdout_bucket(m, 'hand'), m IN (SELECT cdp.segment_targets('hand')) AS target,
	cdp.holdout_bucket(m, 'hand') = mod((SELECT sum(get_byte(sha256(convert_to('hand:' || m, 'UTF8')), i) * 256::numeric ^ (7 - i)) FROM generate_series(0, 7) i), 100) AS as_defined
FROM cdp.segment_members('hand') m;
SELECT profile_id, (properties->'holdout')::boolean = (cdp.holdout_bucket(profile_id, 'hand') < 50) AS told FROM cdp.event
WHERE name = 'Segment Entered' AND properties->>'segment' = 'hand' ORDER BY 1;
SELECT cdp.define_segment('hand', 'vip', holdout_percent => 100, holdout_salt => 'other');
SELECT cdp.segment_targets('hand');
SELECT cdp.holdout_bucket(1, 'x', 1), cdp.holdout_bucket(1, 'x', 2147483647), cdp.holdout_bucket(NULL, 'x') IS NULL AS nobody;
SELECT cdp.holdout_bucket(1, 'x', 0);

-- static
SELECT cdp.define_static_segment('list', '{1-3,8}');
SELECT cdp.define_static_segment('list', '{2-4}');
SELECT cdp.define_static_segment('list', '{2-4}');
SELECT cdp.define_static_segment('list', '{2-4,999}');
SELECT cdp.define_static_segment('list', NULL);
SELECT cdp.define_static_segment(NULL, '{1}');
SELECT name, profile_id, properties - 'refresh_id' AS properties FROM cdp.event WHERE properties->>'segment' = 'list' ORDER BY event_id;
SELECT cdp.segment_audience('list'), kind, version, due FROM cdp.segment_status WHERE name = 'list';

-- one event for each change of membership
SELECT s.name, s.member_count = count(*) FILTER (WHERE e.name = 'Segment Entered') - count(*) FILTER (WHERE e.name = 'Segment Left') AS told,
	count(*) = count(DISTINCT e.message_id) AS once
FROM cdp.segment s JOIN cdp.event e ON e.properties->>'segment' = s.name AND e.name LIKE 'Segment%' GROUP BY s.name, s.member_count ORDER BY 1;
SELECT s.name, cdp.segment_audience(s.name) OPERATOR(cdp.=) cdp.audience_agg(h.customer_id) AS told FROM cdp.segment s JOIN cdp.segment_history h ON h.segment = s.name AND h.left_at IS NULL
GROUP BY s.name ORDER BY 1;

-- merged: nobody leaves who stays; taken apart: as before
SELECT cdp.define_static_segment('both', '{3,4}'), cdp.define_static_segment('one', '{3}');
SELECT cdp.merge_customers(5, 3, 'x'), cdp.merge_customers(5, 4, 'x');
SELECT cdp.segment_audience('both'), cdp.segment_audience('one'), cdp.in_segment(3, 'one'), cdp.in_segment(5, 'one'), cdp.count_customers('segment(one)');
SELECT * FROM cdp.segments_of(4);
CALL cdp.refresh_segments('both');
CALL cdp.refresh_segments('one');
CALL cdp.refresh_segments('c');
SELECT name, members, member_count FROM cdp.segment WHERE name IN ('both', 'one', 'c') ORDER BY name;
SELECT count(*) FROM cdp.event WHERE name = 'Segment Left' AND properties->>'segment' IN ('both', 'one', 'c') AND profile_id IN (3, 4, 5) AND occurred_at = cdp.now();
SELECT cdp.unmerge_customer(3, 'x');
SELECT name, members, cdp.segment_audience(name) FROM cdp.segment WHERE name IN ('both', 'one') ORDER BY name;
SELECT cdp.unmerge_customer(4, 'x');
SELECT name, members, cdp.segment_audience(name) FROM cdp.segment WHERE name IN ('both', 'one') ORDER BY name;
-- who leaves as part of another is noted for all his ids
SELECT cdp.define_static_segment('one', '{6}');
SELECT cdp.merge_customers(7, 6, 'x');
SELECT cdp.define_static_segment('one', '{}');
SELECT customer_id, left_at IS NOT NULL AS left FROM cdp.segment_history WHERE segment = 'one';
SELECT profile_id, name FROM cdp.event WHERE properties->>'segment' = 'one' ORDER BY event_id;
-- a profile that is deleted
SELECT cdp.define_static_segment('one', '{9,10}');
DELETE FROM cdp.identifier WHERE profile_id = 10;
DELETE FROM cdp.profile WHERE profile_id = 10;
SELECT cdp.segment_audience('one');
CALL cdp.refresh_segments('one');
SELECT profile_id, name, properties->>'reason' AS reason FROM cdp.event WHERE properties->>'segment' = 'one' AND profile_id > 5 ORDER BY event_id;
SELECT customer_id FROM cdp.segment_history WHERE segment = 'one' AND left_at IS NULL;

-- snapshots that are kept
SELECT cdp.define_segment('few', 'few', snapshots_kept => 2), cdp.define_segment('none', 'few', snapshots_kept => 0);
SELECT cdp.add_tag(1, 'few');
CALL cdp.refresh_segments('few');
SELECT cdp.add_tag(2, 'few');
CALL cdp.refresh_segments('few');
SELECT cdp.add_tag(5, 'few');
CALL cdp.refresh_segments('few');
CALL cdp.refresh_segments('none');
SELECT segment, cdp.audience_from_roaring64(members) FROM cdp.segment_snapshot WHERE segment IN ('few', 'none') ORDER BY snapshot_id;

-- dropped
SELECT cdp.drop_segment('fans');
SELECT cdp.drop_segment('nix');
SELECT cdp.drop_segment(NULL);
SELECT cdp.drop_segment('few');
SELECT name, profile_id, properties->>'reason' AS reason FROM cdp.event WHERE properties->>'segment' = 'few' AND name = 'Segment Left' ORDER BY profile_id;
SELECT count(*) FROM cdp.segment_history WHERE segment = 'few' AND left_at IS NULL;
SELECT cdp.define_segment('few', 'few');
SELECT cdp.segment_members('few');
SELECT cdp.segment_members('nix');
SELECT cdp.segment_members(NULL);
SELECT cdp.segment_audience('nix');
SELECT cdp.in_segment(1, 'nix');
SELECT cdp.in_segment(999, 'few');
SELECT cdp.in_segment(NULL, 'few');
SELECT * FROM cdp.segments_of(999);
SELECT * FROM cdp.segments_of(NULL);
SELECT cdp.count_customers('segment(nix)');

-- what went away with its type comes back, and nobody is told
CREATE TABLE shop.kept AS SELECT name, members::text, member_count FROM cdp.segment;
CREATE TABLE shop.events AS SELECT count(*) AS n FROM cdp.event;
DROP EXTENSION customer_cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
CALL cdp.rebuild_tags();
SELECT count(*), count(*) FILTER (WHERE k.members IS NOT DISTINCT FROM s.members::text AND k.member_count IS NOT DISTINCT FROM s.member_count) AS same
FROM shop.kept k JOIN cdp.segment s USING (name);
SELECT name, k.members, s.members FROM shop.kept k JOIN cdp.segment s USING (name) WHERE k.members IS DISTINCT FROM s.members::text;
SELECT count(*) = (SELECT n FROM shop.events) AS same FROM cdp.event;
CALL cdp.refresh_segments();
SELECT count(*) - (SELECT n FROM shop.events) AS more FROM cdp.event;
DROP SCHEMA shop CASCADE;
