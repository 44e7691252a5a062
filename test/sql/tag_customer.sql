-- tags of customers: verbs, what they refuse, history, plain statements, merged customers
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'Asia/Shanghai';
SET DateStyle = 'ISO';
SET cdp.now = '2026-03-01 00:00:00+00';
SELECT cdp.identify(jsonb_build_object('member_id', 'm' || i)) FROM generate_series(1, 6) i;
-- what a customer gets and loses; true when anything changed
SELECT cdp.add_tag(1, 'vip'), cdp.add_tag(1, 'vip') AS again;
SELECT cdp.add_tag(1, 'region.华东.上海', source => 'shop'), cdp.add_tag(1, 'region.华南'), cdp.add_tag(1, 'regional');
SELECT cdp.add_tag(1, 'aov', '1280.5'), cdp.add_tag(1, 'aov', '1280.50') AS same_number, cdp.add_tag(1, 'aov', '1300') AS another;
SELECT cdp.add_tag(1, 'born', '1990-05-01'), cdp.add_tag(1, 'city', '上海 市'), cdp.add_tag(1, '宝宝 "a"', '');
SELECT cdp.add_tag(1, 'risk', '0.83', '2026-12-31 08:00+08'), cdp.add_tag(1, 'risk', '0.83', '2026-12-31 00:00+00') AS same,
	cdp.add_tag(1, 'risk', '0.83', 'infinity') AS for_ever;
SELECT customer_id, tags FROM cdp.customer_tag ORDER BY customer_id LIMIT 2;
SELECT cdp.remove_tag(1, 'region.*'), cdp.remove_tag(1, 'region.*') AS again, cdp.remove_tag(1, 'nothing');
SELECT cdp.remove_tag(1, 'vip', 'shop');
SELECT tags FROM cdp.customer_tag WHERE customer_id = 1;
SELECT profile_id, tag, change, value, value_type, valid_until, source, changed_at FROM cdp.tag_history ORDER BY change_id;
-- bad input
SELECT cdp.add_tag(NULL, 'vip');
SELECT cdp.add_tag(1, NULL);
SELECT cdp.remove_tag(NULL, 'vip');
SELECT cdp.add_tag(999, 'vip');
SELECT cdp.add_tag(1, '');
SELECT cdp.add_tag(1, 'region..x');
SELECT cdp.add_tag(1, 'region.*');
SELECT cdp.add_tag(1, repeat('x', 256));
SELECT cdp.add_tag(1, 'x', repeat('x', 256));
SELECT cdp.add_tag(1, 'card', '6222021234567890123');
SELECT cdp.add_tag(1, 'x', '1e999');
SELECT cdp.add_tag(1, 'x', NULL, '-infinity');
-- what is declared is kept
SELECT cdp.define_tag('spend', 'consumption', 'number', description => 'all orders');
SELECT cdp.define_tag('card', value_type => 'text');
SELECT cdp.define_tag('churned', 'predictive', default_ttl => '90 days', emits_events => true);
SELECT cdp.define_tag('since', value_type => 'date');
SELECT cdp.add_tag(1, 'spend', 'much');
SELECT cdp.add_tag(1, 'spend');
SELECT cdp.add_tag(1, 'churned', '1');
SELECT cdp.add_tag(1, 'since', '2026-02-30');
SELECT cdp.add_tag(1, 'spend', '12'), cdp.add_tag(1, 'card', '6222021234567890123'), cdp.add_tag(1, 'churned'), cdp.add_tag(1, 'since', '2026-02-28');
SELECT cdp.tag_value(tags, 'card'), cdp.tag_number(tags, 'spend'), cdp.tag_date(tags, 'since'), cdp.tag_valid_until(tags, 'churned') FROM cdp.customer_tag WHERE customer_id = 1;
SELECT cdp.define_tag(NULL);
SELECT cdp.define_tag('a..b');
SELECT cdp.define_tag('x', kind => 'fiction');
SELECT cdp.define_tag('x', kind => NULL);
SELECT cdp.define_tag('x', value_type => 'money');
SELECT cdp.define_tag('x', default_ttl => '-1 day');
SELECT cdp.define_tag('x', owner => 'somebody');
UPDATE cdp.tag SET name = 'cost' WHERE name = 'spend';
INSERT INTO cdp.tag (name) VALUES ('a.*');
SELECT name, kind, value_type, default_ttl, rule, owner = current_user AS mine, description, emits_events FROM cdp.tag ORDER BY name;
-- a tag of a rule is its rule's
UPDATE cdp.tag SET rule = 'SELECT 1::bigint AS customer_id, ''1''::text AS value' WHERE name = 'card';
SELECT cdp.add_tag(1, 'card', '1');
SELECT cdp.remove_tag(1, 'card');
UPDATE cdp.profile_tag SET tags = ''; -- nor by hand, and nothing else is lost
UPDATE cdp.tag SET rule = NULL WHERE name = 'card';
-- many at once
SELECT cdp.add_tag_many('[{"customer_id": 2, "tag": "vip"}, {"customer_id": 3, "tag": "aov", "value": 12.5, "valid_until": "2026-04-01T00:00:00+08:00"},
	{"customer_id": 2, "tag": "size", "value": "XL"}, {"customer_id": 2, "tag": "vip", "remove": true}, {"customer_id": 2, "tag": "vip", "value": null},
	{"customer_id": 1, "tag": "aov", "remove": true}, {"customer_id": 1, "tag": "nothing", "remove": true}]', 'import');
SELECT cdp.add_tag_many('[{"customer_id": 2, "tag": "vip"}]'), cdp.add_tag_many('[]');
SELECT customer_id, tags FROM cdp.customer_tag ORDER BY customer_id LIMIT 3;
SELECT cdp.add_tag_many(NULL);
SELECT cdp.add_tag_many('{}');
SELECT cdp.add_tag_many('7');
SELECT cdp.add_tag_many('[7]');
\set SHOW_CONTEXT errors
SELECT cdp.add_tag_many('[{"customer_id": 2, "tag": "x"}, {"customer_id": 2}]');
SELECT cdp.add_tag_many('[{"customer_id": null, "tag": "x"}]');
SELECT cdp.add_tag_many('[{"customer_id": 2.5, "tag": "x"}]');
SELECT cdp.add_tag_many('[{"customer_id": 1e30, "tag": "x"}]');
SELECT cdp.add_tag_many('[{"customer_id": 2, "tag": 7}]');
SELECT cdp.add_tag_many('[{"customer_id": 2, "tag": "x", "value": {}}]');
SELECT cdp.add_tag_many('[{"customer_id": 2, "tag": "x", "valid_until": "tomorrow"}]');
SELECT cdp.add_tag_many('[{"customer_id": 2, "tag": "x", "remove": 1}]');
SELECT cdp.add_tag_many('[{"customer_id": 2, "tag": "x", "value": 1, "remove": true}]');
SELECT cdp.add_tag_many('[{"customer_id": 2, "tag": "x", "colour": "red"}]');
SELECT cdp.add_tag_many('[{"customer_id": 2, "tag": "x"}, {"customer_id": 99, "tag": "x"}]');
SELECT cdp.add_tag_many('[{"customer_id": 2, "tag": "x"}, {"customer_id": 2, "tag": "spend", "value": "y"}]');
\set SHOW_CONTEXT never
-- events, of tags that emit them; a tag that has expired is not there any more
SELECT cdp.remove_tag(1, 'churned'), cdp.add_tag(2, 'churned', valid_until => '2026-03-02Z', source => 'model'), cdp.add_tag(2, 'churned', valid_until => '2026-03-03Z');
SET cdp.now = '2026-03-05 00:00:00+00';
SELECT cdp.add_tag(2, 'churned', valid_until => '2026-03-09Z');
SET cdp.now = '2026-03-10 00:00:00+00';
SELECT cdp.remove_tag(2, 'churned');
SELECT profile_id, name, properties, source, occurred_at FROM cdp.event WHERE name LIKE 'Tag %' ORDER BY event_id;
-- plain statements do all of that, too
TRUNCATE cdp.tag_change;
INSERT INTO cdp.profile_tag VALUES (4, 'vip, aov=3'), (5, 'churned');
COPY cdp.profile_tag (profile_id, tags) FROM stdin;
6	gold, silver
\.
UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.+) 'aov=4' WHERE profile_id IN (4, 5);
DELETE FROM cdp.profile_tag WHERE profile_id = 5;
UPDATE cdp.profile_tag SET profile_id = 5 WHERE profile_id = 6;
UPDATE cdp.profile_tag SET tags = tags WHERE profile_id = 4;
INSERT INTO cdp.profile_tag VALUES (77, 'vip');
UPDATE cdp.profile_tag SET tags = 'spend=x' WHERE profile_id = 4;
SELECT profile_id, tag, change, value, source FROM cdp.tag_history WHERE profile_id IN (4, 5, 6) ORDER BY change_id;
SELECT customer_id, old, new FROM cdp.tag_change ORDER BY seq;
SELECT profile_id, name, properties FROM cdp.event WHERE name LIKE 'Tag %' AND profile_id = 5 ORDER BY event_id;
-- customers who become one have the tags of both, the winner's first; what is said later is said of the One ID
SELECT profile_id, tags, own_tags FROM cdp.profile_tag ORDER BY 1;
SELECT cdp.merge_customers(3, 2, 'test');
SELECT profile_id, tags, own_tags FROM cdp.profile_tag WHERE profile_id IN (2, 3) ORDER BY 1;
SELECT cdp.add_tag(2, 'gold'), cdp.remove_tag(2, 'vip'), cdp.add_tag(3, 'size', 'M');
SELECT profile_id, tags, own_tags FROM cdp.profile_tag WHERE profile_id IN (2, 3) ORDER BY 1;
-- ... also when it is said by hand, of whichever profile
UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.+) 'silver' OPERATOR(cdp.-) '{aov}'::text[] WHERE profile_id = 3;
UPDATE cdp.profile_tag SET tags = 'bronze' WHERE profile_id = 2;
SELECT profile_id, tags, own_tags FROM cdp.profile_tag WHERE profile_id IN (2, 3) ORDER BY 1;
SELECT tag, change, value FROM cdp.tag_history WHERE profile_id IN (2, 3) ORDER BY change_id DESC LIMIT 8;
SELECT cdp.unmerge_customer(2, 'test');
SELECT profile_id, tags, own_tags FROM cdp.profile_tag WHERE profile_id IN (2, 3) ORDER BY 1;
-- nobody has tags, then one has
SELECT cdp.merge_customers(6, 5, 'test');
SELECT profile_id, tags, own_tags FROM cdp.profile_tag WHERE profile_id IN (5, 6) ORDER BY 1;
DELETE FROM cdp.profile_tag WHERE profile_id = 6;
SELECT profile_id, tags, own_tags FROM cdp.profile_tag WHERE profile_id IN (5, 6) ORDER BY 1;
-- one statement about several rows of a customer: all that it says counts; what each row was and is makes a chain
SELECT cdp.add_tag_many('[{"customer_id": 2, "tag": "two"}, {"customer_id": 3, "tag": "three"}]'), cdp.allow_merge(3, 2, 'again'), cdp.merge_customers(3, 2, 'again');
TRUNCATE cdp.tag_change;
UPDATE cdp.profile_tag t SET tags = v.tags FROM (VALUES (2, 'copper'::cdp.tagset), (3, 'three, iron')) v (id, tags) WHERE v.id = t.profile_id;
SELECT profile_id, tags, own_tags FROM cdp.profile_tag WHERE profile_id IN (2, 3) ORDER BY 1;
SELECT tag, change FROM cdp.tag_history WHERE profile_id IN (2, 3) ORDER BY change_id DESC LIMIT 3;
UPDATE cdp.profile_tag SET own_tags = NULL WHERE profile_id = 3;
SELECT cdp.remove_tag(3, 'copper');
SELECT profile_id, tags, own_tags FROM cdp.profile_tag WHERE profile_id IN (2, 3) ORDER BY 1;
UPDATE cdp.profile_tag SET tags = '' WHERE profile_id IN (2, 3);
SELECT profile_id, tags, own_tags FROM cdp.profile_tag WHERE profile_id IN (2, 3) ORDER BY 1;
SELECT customer_id, old, new FROM cdp.tag_change WHERE customer_id = 2 ORDER BY seq;
SELECT count(*) AS broken FROM (SELECT *, lag(new) OVER w AS before, row_number() OVER w AS i FROM cdp.tag_change WINDOW w AS (PARTITION BY customer_id ORDER BY seq)) c
WHERE i > 1 AND before::text IS DISTINCT FROM old::text;
-- a row in the place of another, in one statement
SELECT cdp.identify('{"member_id": "m7"}') AS seven \gset
INSERT INTO cdp.profile_tag VALUES (:seven, 'old');
WITH gone AS (DELETE FROM cdp.profile_tag WHERE profile_id = :seven RETURNING profile_id) INSERT INTO cdp.profile_tag SELECT profile_id, 'new' FROM gone;
MERGE INTO cdp.profile_tag t USING (VALUES (:seven, NULL), (NULL, :seven)) v (old, new) ON t.profile_id = v.old
WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.new, 'newer');
-- ... unless the new one is there before the statement has done with the old one
WITH gone AS (DELETE FROM cdp.profile_tag WHERE profile_id = :seven RETURNING profile_id) INSERT INTO cdp.profile_tag SELECT profile_id, 'newest' FROM gone LIMIT 1;
-- ... or the customer is several profiles
WITH gone AS (DELETE FROM cdp.profile_tag WHERE profile_id = 2 RETURNING profile_id) INSERT INTO cdp.profile_tag SELECT profile_id, 'new' FROM gone;
SELECT tag, change FROM cdp.tag_history WHERE profile_id = :seven ORDER BY change_id DESC LIMIT 5;
SELECT old, new FROM cdp.tag_change WHERE customer_id = :seven ORDER BY seq;
SELECT * FROM cdp.verify_tags() WHERE customer_id = :seven;
DELETE FROM cdp.profile_tag WHERE profile_id = :seven;
-- a tag that is declared, then not, is what it was before
BEGIN;
SAVEPOINT s;
SELECT cdp.define_tag('level', value_type => 'number'), cdp.add_tag(4, 'level', '5');
ROLLBACK TO s;
SELECT cdp.add_tag(4, 'level');
ROLLBACK;
-- a tag that is dropped is everybody's loss
SELECT cdp.add_tag_many('[{"customer_id": 1, "tag": "gold"}, {"customer_id": 1, "tag": "gold.plus"}]'), cdp.drop_tag('gold'), cdp.drop_tag('spend');
SELECT cdp.drop_tag('gold');
SELECT cdp.drop_tag('gold.*');
SELECT cdp.drop_tag(NULL);
SELECT tags FROM cdp.customer_tag WHERE customer_id = 1;
-- history brings all of it back
CREATE TABLE public.before AS SELECT profile_id, tags::text, own_tags::text FROM cdp.profile_tag WHERE tags::text <> '' OR own_tags::text <> '';
SELECT cdp._restore_tags();
SET session_replication_role = replica;
DELETE FROM cdp.profile_tag WHERE profile_id = 1;
UPDATE cdp.profile_tag SET tags = 'forged' WHERE profile_id = 3;
INSERT INTO cdp.profile_tag VALUES (6, 'forged');
RESET session_replication_role;
SELECT cdp._restore_tags();
SELECT * FROM public.before EXCEPT SELECT profile_id, tags::text, own_tags::text FROM cdp.profile_tag;
SELECT profile_id, tags::text, own_tags::text FROM cdp.profile_tag WHERE tags::text <> '' OR own_tags::text <> '' EXCEPT SELECT * FROM public.before;
TRUNCATE cdp.profile_tag;
SELECT count(*) FROM cdp.profile_tag;
SELECT h.profile_id, h.tag, h.change FROM (SELECT DISTINCT ON (profile_id, tag) * FROM cdp.tag_history ORDER BY profile_id, tag, change_id DESC) h WHERE h.change <> 'removed';
-- who may do what
CREATE ROLE regress_tag_reader;
SELECT cdp.grant_access('reader', 'regress_tag_reader');
CREATE ROLE regress_tag_operator;
SELECT cdp.grant_access('operator', 'regress_tag_operator');
SET ROLE regress_tag_reader;
SELECT count(*) FROM cdp.customer_tag;
SELECT cdp.add_tag(1, 'vip');
INSERT INTO cdp.profile_tag VALUES (1, 'vip');
SET ROLE regress_tag_operator;
INSERT INTO cdp.profile_tag VALUES (1, 'vip');
SELECT cdp.add_tag(1, 'gold'), cdp.define_tag('silver'), cdp.drop_tag('silver');
INSERT INTO cdp.tag_history (profile_id, tag, change) VALUES (1, 'x', 'added');
RESET ROLE;
-- what history may say
SELECT change, value_type, cdp._is_tag_change(change, value_type) FROM (VALUES ('added', NULL), ('changed', 'text'), ('removed', 'none'), ('expired', 'date'), ('added', 'number'), ('given', 'none'), ('added', 'list'), ('', NULL), (NULL, NULL)) v (change, value_type);
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'cdp.tag_history'::regclass AND contype IN ('c', 'p') ORDER BY contype;
SELECT tags FROM cdp.customer_tag WHERE customer_id = 1;
BEGIN READ ONLY;
SELECT cdp.add_tag(1, 'x');
ROLLBACK;
SELECT cdp.revoke_access('reader', 'regress_tag_reader'), cdp.revoke_access('operator', 'regress_tag_operator');
DROP ROLE regress_tag_reader, regress_tag_operator;
