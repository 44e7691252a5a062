-- rules of tags: checked when written, run as the one who wrote them, only differences are written
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET cdp.now = '2026-03-01 00:00:00+00';
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 8) i;
CREATE SCHEMA shop;
CREATE TABLE shop.spend (customer_id bigint, amount numeric, since date, until timestamptz, note text);
INSERT INTO shop.spend SELECT i, i * 100.5, date '2026-01-01' + i, timestamptz '2026-03-01' + i * interval '1 day', 'n' || i FROM generate_series(1, 4) i;
CREATE FUNCTION shop.state(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE sql;
	RETURN 'taken';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
CREATE VIEW shop.has AS SELECT c.customer_id, string_agg(e::text, ' ' ORDER BY e.tag) AS entries FROM cdp.customer_tag c, cdp.tagset_entries(c.tags) e GROUP BY 1;

-- what a rule is
SET search_path = shop;
SELECT cdp.define_tag('spend', 'consumption', 'number', rule => 'SELECT customer_id, amount AS value FROM spend');
SET search_path = public;
SELECT cdp.define_tag('since', 'fact', 'date', rule => 'SELECT customer_id, since AS value FROM shop.spend');
SELECT cdp.define_tag('note', 'fact', 'text', rule => 'SELECT customer_id, amount AS value, until AS valid_until FROM shop.spend');
SELECT cdp.define_tag('buyer', 'behaviour', rule => 'SELECT customer_id FROM shop.spend');
SELECT cdp.define_tag('big', 'predictive', rule => 'spend > 250 | level.*', emits_events => true);
SELECT cdp.define_tag('level.gold', rule => 'spend > 400');
SELECT name, rule_path, rule_tags, rule_segments, refreshed_at, last_error FROM cdp.tag ORDER BY name;
SELECT cdp._tag_order(NULL);
SELECT cdp._tag_order('big');
CALL cdp.refresh_tags();
SELECT * FROM shop.has ORDER BY 1;
SELECT tag, count(*), min(source) FROM cdp.tag_history GROUP BY tag ORDER BY tag;
SELECT name, profile_id, properties FROM cdp.event WHERE name LIKE 'Tag%' ORDER BY event_id;
-- a second time nothing is written but the time
SET cdp.now = '2026-03-01 01:00:00+00';
CREATE TABLE shop.was AS SELECT profile_id, xmin::text AS wrote, tags::text FROM cdp.profile_tag;
CALL cdp.refresh_tags();
SELECT count(*), count(*) FILTER (WHERE p.xmin::text = w.wrote) AS same FROM cdp.profile_tag p JOIN shop.was w USING (profile_id);
SELECT count(*), count(*) FILTER (WHERE refreshed_at = cdp.now()) AS now FROM cdp.tag WHERE rule IS NOT NULL;
-- differences: another value, one more, one less, one that was given by hand before, one that has ended
UPDATE shop.spend SET amount = 1000 WHERE customer_id = 1;
DELETE FROM shop.spend WHERE customer_id = 2;
INSERT INTO shop.spend VALUES (5, 7, NULL, '2026-01-01', 'five'), (999, 1, NULL, NULL, NULL), (NULL, 1, NULL, NULL, NULL);
SELECT cdp.add_tag(3, 'other', 'kept');
CALL cdp.refresh_tags();
SELECT * FROM shop.has ORDER BY 1;
SELECT profile_id, tag, change, value, valid_until FROM cdp.tag_history WHERE changed_at = cdp.now() ORDER BY profile_id, tag;
SET cdp.now = '2026-03-03 12:00:00+00';
CALL cdp.refresh_tags('note');
SELECT customer_id, cdp.tagset_matches(tags, 'note = "301.5"', cdp.now()) FROM cdp.customer_tag WHERE customer_id IN (1, 3) ORDER BY 1;
-- of several rows of a customer the largest value
SELECT cdp.merge_customers(4, 3, 'x');
INSERT INTO shop.spend VALUES (3, 4000), (4, 50);
CALL cdp.refresh_tags('spend');
SELECT customer_id, cdp.tag_number(tags, 'spend') FROM cdp.customer_tag WHERE customer_id IN (3, 4);
SELECT * FROM cdp.verify_tags();
-- what belongs to a rule nobody else writes
SELECT cdp.add_tag(1, 'big');
SELECT cdp.remove_tag(1, 'big');
UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.-) '{big}'::text[];

-- what is refused
SELECT d, shop.state(format('SELECT cdp.define_tag(%L, rule => %L)', 'x', d)) FROM unnest(ARRAY[
	'SELECT 1::bigint AS customer_id; SELECT 2', 'DELETE FROM shop.spend', 'delete & update', 'SELECT customer_id FROM shop.spend FOR UPDATE',
	'SELECT customer_id AS id FROM shop.spend', 'SELECT customer_id::int FROM shop.spend', 'SELECT customer_id, amount FROM shop.spend',
	'SELECT customer_id, amount AS value FROM shop.spend', 'SELECT customer_id, ARRAY[1] AS value FROM shop.spend',
	'SELECT customer_id, note AS value, since AS valid_until FROM shop.spend', 'SELECT customer_id, 1 AS value, now() AS valid_until, 2 AS more FROM shop.spend',
	'SELECT $1 AS customer_id', 'SELECT customer_id FROM shop.nothing', 'vip &', 'segment(nix)', 'x & vip', 'x.*', 'y']) d;
SELECT shop.state($$SELECT cdp.define_tag('x', value_type => 'number', rule => 'vip')$$), shop.state($$SELECT cdp.define_tag('spend', value_type => 'none', rule => 'SELECT customer_id, amount AS value FROM shop.spend')$$);
SELECT cdp.define_tag('x', rule => 'SELECT customer_id, amount AS value FROM shop.spend');
SELECT cdp.define_tag('x', value_type => 'text', rule => 'vip');
SELECT cdp.define_tag('level.gold', rule => 'big | vip');
SELECT cdp.define_tag(NULL, rule => 'vip');
SELECT cdp.define_tag('x', owner => 'somebody');
SELECT cdp.drop_tag('spend');
CALL cdp.refresh_tags('nix');
CALL cdp.refresh_tags('other');
SELECT cdp.define_tag('other', value_type => 'text');
CALL cdp.refresh_tags('other');

-- what fails stands in last_error, the others go on
ALTER TABLE shop.spend RENAME COLUMN since TO since_when;
INSERT INTO shop.spend VALUES (6, 'NaN');
SELECT cdp.define_tag('last', rule => 'buyer');
CALL cdp.refresh_tags();
SELECT name, last_error, refreshed_at FROM cdp.tag WHERE rule IS NOT NULL ORDER BY name;
SELECT customer_id, cdp.tag_date(tags, 'since') FROM cdp.customer_tag WHERE customer_id = 1;
CALL cdp.refresh_tags('spend');
SELECT * FROM cdp.health() WHERE check_name = 'rules_of_tags';
DELETE FROM shop.spend WHERE amount = 'NaN';
ALTER TABLE shop.spend RENAME COLUMN since_when TO since;
CALL cdp.refresh_tags();
SELECT count(*) FROM cdp.tag WHERE last_error IS NOT NULL;
-- a value that does not fit the query's own cast may be personal: it is neither kept nor told
SELECT cdp.define_tag('cast', value_type => 'number', rule => 'SELECT customer_id, (''No "secret" '' || customer_id)::int AS value FROM shop.spend');
CALL cdp.refresh_tags('cast');
SELECT last_error FROM cdp.tag WHERE name = 'cast';
SELECT cdp.drop_tag('cast');
-- texts that are numbers, and those that are none
SELECT cdp.define_tag('typed', value_type => 'number', rule => 'SELECT customer_id, note AS value FROM shop.spend');
CALL cdp.refresh_tags('typed');
UPDATE shop.spend SET note = '12.50' WHERE note IS NOT NULL;
CALL cdp.refresh_tags('typed');
SELECT customer_id, cdp.tag_value(tags, 'typed') FROM cdp.customer_tag WHERE cdp.tag_value(tags, 'typed') IS NOT NULL ORDER BY 1;

-- rights
DROP ROLE IF EXISTS regress_tag_rule;
CREATE ROLE regress_tag_rule;
SELECT cdp.grant_access('operator', 'regress_tag_rule');
SET ROLE regress_tag_rule;
SELECT cdp.define_tag('theirs', rule => 'SELECT customer_id FROM shop.spend');
SELECT cdp.define_tag('theirs', rule => 'SELECT CASE WHEN current_user = ''regress_tag_rule'' THEN 8::bigint END AS customer_id');
CALL cdp.refresh_tags('buyer');
CALL cdp.refresh_tags();
RESET ROLE;
SELECT customer_id FROM cdp.customer_tag c, cdp.tagset_entries(c.tags) e WHERE e.tag = 'theirs';
UPDATE cdp.tag SET rule = 'SELECT 1::bigint AS customer_id, pg_sleep(0) IS NULL AS value' WHERE name = 'theirs';
DELETE FROM cdp.tag WHERE name = 'theirs';
SELECT cdp.revoke_access('operator', 'regress_tag_rule');
DROP OWNED BY regress_tag_rule;
DROP ROLE regress_tag_rule;
-- a function that writes
CREATE FUNCTION shop.busy() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN INSERT INTO shop.spend VALUES (1); RETURN 1; END $$;
SELECT cdp.define_tag('busy', rule => 'SELECT shop.busy() AS customer_id');
\set VERBOSITY sqlstate
CALL cdp.refresh_tags('busy');
\set VERBOSITY default
-- a rule over a segment, which stays while it is asked for; without a rule tags stay
SELECT cdp.define_segment('buyers', 'buyer');
CALL cdp.refresh_segments('buyers');
SELECT cdp.define_tag('busy', rule => 'segment(buyers) & !big');
CALL cdp.refresh_tags('busy');
SELECT customer_id FROM cdp.customer_tag c, cdp.tagset_entries(c.tags) e WHERE e.tag = 'busy' ORDER BY 1;
SELECT cdp.drop_segment('buyers');
SELECT cdp.define_tag('busy');
SELECT cdp.drop_segment('buyers'), cdp.remove_tag(5, 'busy');
-- dates that move: the child is a year old
SELECT cdp.set_traits(7, '{"baby_birthday": "2025-03-10"}');
SELECT cdp.define_tag('baby_birthday', value_type => 'date', rule => $$
	SELECT customer_id, (traits->>'baby_birthday')::date AS value FROM cdp.customer WHERE traits ? 'baby_birthday'$$);
SELECT cdp.define_segment('one year', 'baby_birthday <= now-12mo');
CALL cdp.refresh_tags('baby_birthday');
SET cdp.now = '2026-03-09 23:59:59+00';
CALL cdp.refresh_segments('one year');
SELECT cdp.segment_members('one year');
SET cdp.now = '2026-03-10 00:00:00+00';
CALL cdp.refresh_segments('one year');
SELECT cdp.segment_members('one year');
-- a row that has ended and has no value either takes nothing with it
SELECT cdp.define_tag('neighbour', value_type => 'number', rule => $$
	SELECT * FROM (VALUES (1::bigint, 7::float8, NULL::timestamptz), (2, NULL, '2020-01-01 00:00:00+00')) v (customer_id, value, valid_until)$$);
CALL cdp.refresh_tags('neighbour');
SELECT cdp.find_customers('neighbour = 7');
SELECT * FROM cdp.verify_tags();
DROP SCHEMA shop CASCADE;
