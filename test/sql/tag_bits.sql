-- customers by tag as bitmaps: questions, what they refuse, merging, ends of entries, everyone, rebuilding, verifying
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET cdp.now = '2026-03-01 00:00:00+00';
-- nobody is there
SELECT cdp.count_customers('*'), cdp.count_customers('!vip'), cdp.audience_of('*'), (SELECT count(*) FROM cdp.find_customers('*'));
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i)) ORDER BY i) FROM generate_series(1, 10) i));
SELECT first_id, last_id, added FROM cdp.tag_everyone;
-- the language, over rows that were never merged and then over bitmaps
SELECT cdp.add_tag(1, 'region.华东.上海'), cdp.add_tag(1, 'aov', '1280.5'), cdp.add_tag(1, '高价值'), cdp.add_tag(1, 'gender', 'female'), cdp.add_tag(1, 'born', '1990-05-01');
SELECT cdp.add_tag(2, 'region.华东'), cdp.add_tag(2, 'aov', '1000'), cdp.add_tag(2, 'gender', 'male'), cdp.add_tag(2, 'churned');
SELECT cdp.add_tag(3, 'region.华南.广州'), cdp.add_tag(3, 'aov', 'much'), cdp.add_tag(3, 'gender', 'female'), cdp.add_tag(3, 'born', '2001-01-31');
SELECT cdp.add_tag(4, 'region.华东x'), cdp.add_tag(4, 'vip', NULL, '2026-03-02 00:00+00');
CREATE TABLE public.bits_question (i int, q cdp.tagquery);
INSERT INTO public.bits_question SELECT ord, q::cdp.tagquery FROM unnest('{*,vip,!vip,region.*,region.华东.*,region.华东,aov > 1000,aov >= 1000,aov <= 1000,aov != 1000,!(aov = 1000),aov = much,aov != much,
	gender = female,gender != female,"gender in (male, 5)",born < 1995-01-01,born >= now-30y,region.华东.* & (aov > 1000 | 高价值) & !churned,churned | !churned,churned & !churned,nobody,!nobody & !region.*,
	(region.* | vip) & !(gender = female & !高价值)}'::text[]) WITH ORDINALITY u(q, ord);
CREATE FUNCTION public.bits_same(at timestamptz DEFAULT NULL) RETURNS TABLE (query cdp.tagquery, counted bigint, by_row bigint) LANGUAGE sql AS
	'SELECT q, cdp.count_customers(q, at), (SELECT count(*) FROM cdp.customer_tag t WHERE cdp.tagset_matches(t.tags, q, coalesce(at, cdp.now()))) FROM public.bits_question ORDER BY i';
SELECT * FROM bits_same();
CALL cdp.merge_tags();
SELECT (SELECT count(*) FROM cdp.tag_change) AS changes, (SELECT count(*) FROM cdp.tag_everyone) AS everyone;
SELECT query, counted FROM bits_same() WHERE counted <> by_row;
SELECT kind, tag, value, members, (SELECT sum(n) FROM cdp.tag_bits b WHERE b.key_id = k.key_id) AS n FROM cdp.tag_key k ORDER BY kind COLLATE "C", tag, value;
SELECT name, kind, value_type, member_count FROM cdp.tag ORDER BY name;
SELECT * FROM cdp.verify_tags();
-- answers
SELECT * FROM cdp.find_customers('region.华东.*');
SELECT cdp.audience_of('!region.华东.*'), cdp.audience_of('nobody');
SELECT * FROM cdp.overlap_customers('{region.*, gender = female, !vip}');
SELECT cdp.matches_customer(1, 'vip | aov > 1000'), cdp.matches_customer(4, 'vip', '2026-03-02 00:00+00'), cdp.matches_customer(9, '!vip');
SELECT * FROM cdp.explain_tags(1, 'region.华东.* & (aov > 2000 | 高价值) & !churned');
SELECT * FROM cdp.explain_tags(9, '!vip');
-- an entry is there before its end and not from then on, merged or not
SELECT cdp.count_customers('vip', '2026-03-01 23:59:59.999999+00') AS before, cdp.count_customers('vip', '2026-03-02 00:00+00') AS after;
SET cdp.now = '2026-03-02 00:00:00+00';
SELECT cdp.count_customers('vip') AS unmerged;
CALL cdp.merge_tags();
SELECT cdp.count_customers('vip') AS merged, (SELECT count(*) FROM cdp.tag_expiry) AS ends, (SELECT tags FROM cdp.customer_tag WHERE customer_id = 4);
SET cdp.now = '2026-03-01 12:00:00+00';
SELECT cdp.count_customers('vip') AS clock_back, (SELECT count(*) FROM bits_same() WHERE counted <> by_row) AS wrong;
SET cdp.now = '2026-03-03 00:00:00+00';
SELECT profile_id, tag, change, valid_until, changed_at FROM cdp.tag_history WHERE change = 'expired';
-- many entries that end at one moment go in batches; each is said once, as an event where the tag emits them
SELECT cdp.define_tag('trial', emits_events => true);
SELECT count(cdp.add_tag(i, 'trial', NULL, '2026-03-04 00:00+00')) FROM generate_series(1, 8) i;
SELECT cdp.add_tag(9, 'trial', NULL, '2026-03-05 00:00+00');
CALL cdp.merge_tags(3);
SET cdp.now = '2026-03-04 12:00:00+00';
SELECT changes, ended, more FROM cdp._merge_tags_step(3);
SELECT at, customer_id FROM cdp.tag_horizon;
SELECT cdp.count_customers('trial'), cdp.count_customers('trial', '2026-03-04 00:00+00') AS at_the_end, cdp.count_customers('trial', '2026-03-03 12:00+00') AS before;
SELECT cdp.add_tag(2, 'trial', NULL, '2026-03-10 00:00+00'), cdp.add_tag(7, 'trial');
SELECT cdp.count_customers('trial');
CALL cdp.merge_tags(3);
SELECT cdp.count_customers('trial'), (SELECT count(*) FROM cdp.tag_history WHERE change = 'expired' AND tag = 'trial') AS said,
	(SELECT count(*) FROM cdp.event WHERE name = 'Tag Expired') AS events;
SELECT profile_id, occurred_at, properties, source FROM cdp.event WHERE name = 'Tag Expired' ORDER BY profile_id LIMIT 1;
CALL cdp.merge_tags();
SELECT count(*) AS not_again FROM cdp.event WHERE name = 'Tag Expired';
SELECT * FROM cdp.verify_tags();
-- the own transaction, savepoints, REPEATABLE READ
BEGIN;
SELECT cdp.add_tag(5, 'vip'), cdp.add_tag(6, 'vip');
SELECT cdp.count_customers('vip'), cdp.count_customers('!vip');
SAVEPOINT s;
SELECT cdp.remove_tag(5, 'vip'), cdp.add_tag(6, 'aov', '5'), cdp.identify('{"member_id": "m11"}');
SELECT cdp.count_customers('vip'), cdp.count_customers('*'), cdp.count_customers('aov = 5 & vip'), cdp.count_customers('!vip');
ROLLBACK TO s;
SELECT cdp.count_customers('vip'), cdp.count_customers('*'), cdp.count_customers('aov = 5 & vip'), cdp.count_customers('!vip');
ROLLBACK;
SELECT cdp.count_customers('vip'), cdp.count_customers('!vip');
-- plain statements
INSERT INTO cdp.profile_tag (profile_id, tags) VALUES (10, 'vip, aov=9');
UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.+) 'touched' WHERE profile_id <= 3;
DELETE FROM cdp.profile_tag WHERE profile_id = 2;
SELECT cdp.count_customers('vip & aov = 9'), cdp.count_customers('touched'), cdp.count_customers('!touched'), (SELECT count(*) FROM bits_same() WHERE counted <> by_row) AS wrong;
-- merged customers; profiles that are deleted
SELECT cdp.merge_customers(1, 4, 'test');
SELECT cdp.count_customers('*'), cdp.count_customers('region.华东x & 高价值'), cdp.count_customers('!region.*'), (SELECT count(*) FROM bits_same() WHERE counted <> by_row) AS wrong;
CALL cdp.merge_tags();
SELECT cdp.count_customers('*'), cdp.count_customers('region.华东x & 高价值'), cdp.count_customers('!region.*'), (SELECT count(*) FROM bits_same() WHERE counted <> by_row) AS wrong;
SELECT cdp.matches_customer(4, '高价值') AS by_any_id;
SELECT cdp.unmerge_customer(4, 'test');
SELECT cdp.count_customers('*'), cdp.count_customers('region.华东x & 高价值'), cdp.count_customers('!region.*'), (SELECT count(*) FROM bits_same() WHERE counted <> by_row) AS wrong;
CALL cdp.merge_tags();
SELECT (SELECT count(*) FROM bits_same() WHERE counted <> by_row) AS wrong, (SELECT count(*) FROM cdp.verify_tags()) AS problems;
-- ids at the end of what there is; chunks between are not walked over
INSERT INTO cdp.profile (profile_id) VALUES (9223372036854775807), (9223372036854775000), (4611686018427387904);
SELECT cdp.add_tag(9223372036854775807, 'far', '-0.5'), cdp.add_tag(4611686018427387904, 'far', '7');
SELECT cdp.audience_of('far'), cdp.count_customers('!far'), cdp.audience_of('far < 0');
CALL cdp.merge_tags();
SELECT cdp.audience_of('far'), cdp.count_customers('!far'), cdp.audience_of('far < 0'), cdp.audience_of('!far & !region.* & !aov <= 9');
SELECT cdp.add_tag(9223372036854775000, 'far', '0');
DELETE FROM cdp.profile WHERE profile_id = 9223372036854775000;
SELECT cdp.count_customers('*') AS one_less, cdp.audience_of('far') AS without_him;
CALL cdp.merge_tags();
SELECT cdp.count_customers('*') AS one_less, cdp.audience_of('far') AS without_him;
-- a large query
SELECT cdp.count_customers(string_agg('x' || i, '|')::cdp.tagquery), cdp.count_customers(('!(' || string_agg('x' || i, '|') || ')')::cdp.tagquery) = cdp.count_customers('*') AS everyone,
	cdp.count_customers(string_agg('far = ' || i, '|')::cdp.tagquery) AS seven
	FROM generate_series(1, 4096) i;
-- bad input
SELECT cdp.count_customers(NULL);
SELECT * FROM cdp.find_customers(NULL);
SELECT cdp.audience_of(NULL);
SELECT * FROM cdp.overlap_customers(NULL);
SELECT * FROM cdp.overlap_customers(ARRAY['vip', NULL]::cdp.tagquery[]);
SELECT count(*) FROM cdp.overlap_customers('{}');
SELECT * FROM cdp.overlap_customers(array_fill('vip'::cdp.tagquery, ARRAY[1025]));
SELECT cdp.matches_customer(NULL, 'vip');
SELECT cdp.matches_customer(1, NULL);
SELECT cdp.matches_customer(999, 'vip');
SELECT * FROM cdp.explain_tags(NULL, 'vip');
SELECT * FROM cdp.explain_tags(1, NULL);
SELECT * FROM cdp.explain_tags(999, 'vip');
SELECT cdp.count_customers('vip', 'infinity');
SELECT cdp.count_customers('segment(nobody)');
SELECT cdp.matches_customer(1, 'segment(nobody)');
CALL cdp.merge_tags(0);
CALL cdp.merge_tags(NULL);
CALL cdp.prune_tags('-1 day');
CALL cdp.prune_tags(NULL);
-- pruning takes what ended long ago out of the rows
SELECT profile_id, tags FROM cdp.profile_tag WHERE cdp.tag_valid_until(tags, 'trial') IS NOT NULL ORDER BY profile_id;
CALL cdp.prune_tags('12 hours 1 second');
SELECT count(*) AS kept FROM cdp.profile_tag WHERE cdp.tag_valid_until(tags, 'trial') < cdp.now();
CALL cdp.prune_tags('6 hours');
SELECT count(*) AS kept FROM cdp.profile_tag WHERE cdp.tag_valid_until(tags, 'trial') < cdp.now();
SELECT tag, change, source FROM cdp.tag_history WHERE profile_id = 1 AND tag = 'trial' ORDER BY change_id;
SELECT count(*) AS events FROM cdp.event WHERE name = 'Tag Removed' AND properties ->> 'tag' = 'trial';
CALL cdp.merge_tags();
SELECT * FROM cdp.verify_tags();
-- damage is found, a rebuild mends it and says nothing
SELECT count(*) AS events FROM cdp.event \gset
SELECT count(*) AS history FROM cdp.tag_history \gset
UPDATE cdp.tag_bits b SET bits = '\x00000000', n = 1 FROM cdp.tag_key k WHERE k.key_id = b.key_id AND k.tag = 'gender' AND k.kind = 'tag';
DELETE FROM cdp.tag_bits b USING cdp.tag_key k WHERE k.key_id = b.key_id AND k.kind = 'everyone' AND b.chunk > 0;
SELECT * FROM cdp.verify_tags();
ALTER TABLE cdp.profile_tag DISABLE TRIGGER USER;
UPDATE cdp.profile_tag SET tags = 'wrong' WHERE profile_id = 3;
ALTER TABLE cdp.profile_tag ENABLE TRIGGER USER;
SELECT problem, tag FROM cdp.verify_tags() WHERE customer_id = 3 ORDER BY 1, 2;
-- bytes that are no bitmap
UPDATE cdp.tag_bits b SET bits = '\x0500ffff' FROM cdp.tag_key k WHERE k.key_id = b.key_id AND k.tag = 'touched';
SELECT cdp.count_customers('touched');
UPDATE cdp.tag_bits b SET bits = '\x01000005' FROM cdp.tag_key k WHERE k.key_id = b.key_id AND k.tag = 'aov' AND k.kind = 'number';
SELECT cdp.count_customers('aov > 5');
CALL cdp.rebuild_tags();
SELECT * FROM cdp.verify_tags();
SELECT cdp.count_customers('touched'), cdp.count_customers('aov > 5'), (SELECT count(*) FROM bits_same() WHERE counted <> by_row) AS wrong;
SELECT (SELECT count(*) FROM cdp.event) - :events AS events, (SELECT count(*) FROM cdp.tag_history) - :history AS history;
-- an end that no merge has met before a rebuild is said after it
SELECT cdp.add_tag(9, 'trial', NULL, '2026-03-06 00:00+00');
CALL cdp.merge_tags();
SET cdp.now = '2026-03-07 00:00:00+00';
CALL cdp.rebuild_tags();
SELECT cdp.count_customers('trial'), (SELECT count(*) FROM cdp.event WHERE name = 'Tag Expired' AND profile_id = 9) AS said;
-- bitmaps made between two changes of a customer show neither what was before the first nor what is after the last
SELECT cdp.add_tag(8, 'aov', '1'), cdp.add_tag(8, 'kept');
CALL cdp.merge_tags();
SELECT cdp._set_horizon('infinity');
SELECT cdp.add_tag(8, 'aov', '2'), cdp.add_tag(8, 'short.lived', 'x', '2026-03-08 00:00+00'), cdp.remove_tag(8, 'kept');
SELECT cdp._empty_bits() AS at \gset
SELECT cdp._rebuild_bits_step(-9223372036854775808, :'at');
SELECT cdp.add_tag(8, 'aov', '3'), cdp.remove_tag(8, 'short.lived'), cdp.add_tag(8, 'kept');
SELECT cdp._set_horizon(:'at');
SELECT * FROM cdp.verify_tags();
CALL cdp.merge_tags();
SELECT * FROM cdp.verify_tags();
SELECT q, cdp.count_customers(q) FROM unnest('{short.*,kept,aov = 2,aov = 3}'::cdp.tagquery[]) q;
SELECT count(*) FROM cdp.tag_expiry WHERE customer_id = 8;
-- a clock that was ahead: exact, and a rebuild makes it fast again
SET cdp.now = '2030-01-01 00:00:00+00';
CALL cdp.merge_tags();
RESET cdp.now;
SELECT check_name, ok, detail FROM cdp.health() WHERE check_name LIKE 'tag\_%';
CALL cdp.rebuild_tags();
SELECT ok FROM cdp.health() WHERE check_name = 'tag_horizon';
-- read-only, and a reader without rights on the tables
CREATE ROLE regress_cdp_bits;
SELECT cdp.grant_access('reader', 'regress_cdp_bits');
SELECT cdp.add_tag(8, 'dirty');
BEGIN READ ONLY;
SET LOCAL ROLE regress_cdp_bits;
SELECT cdp.count_customers('dirty'), (SELECT count(*) FROM cdp.find_customers('!dirty')), cdp.matches_customer(8, 'dirty');
SELECT cdp.add_tag(8, 'x');
ROLLBACK;
SET ROLE regress_cdp_bits;
CALL cdp.merge_tags();
RESET ROLE;
SELECT cdp.revoke_access('reader', 'regress_cdp_bits');
DROP ROLE regress_cdp_bits;
-- TRUNCATE of all profiles
BEGIN;
TRUNCATE cdp.profile_tag;
TRUNCATE cdp.profile CASCADE;
SELECT cdp.count_customers('*'), cdp.count_customers('!vip'), cdp.count_customers('vip');
INSERT INTO cdp.profile (profile_id) VALUES (5), (6), (20000);
SELECT cdp.audience_of('!vip');
SELECT more FROM cdp._merge_tags_step(1000);
SELECT cdp.audience_of('!vip');
ROLLBACK;
DROP TABLE public.bits_question CASCADE;
