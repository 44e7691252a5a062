-- what sets some customers apart, and who else is like them: figures made by hand, sets that are empty, what is refused
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET extra_float_digits = 0;
SET cdp.now = '2026-03-01 00:00:00+00';
-- nobody is there
SELECT * FROM cdp.lift_table('{1-5}');
SELECT * FROM cdp.find_lookalikes('{1-5}', 10);
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i)) ORDER BY i) FROM generate_series(1, 200) i));
-- customers without tags
SELECT * FROM cdp.lift_table('{1-5}', NULL, 0);
-- 200 customers, the seed is 1-40.  vip: 20 of the seed, 30 of all.  上海: 30 and 60.  region.*: 20 and 100, in two places of
-- 10 and 50.  member: all.  nobody of the seed is churned.  rare: 10 and 12.  aov: 40 and 40, a number.
INSERT INTO cdp.profile_tag (profile_id, tags) SELECT i, concat_ws(', ', 'member', CASE WHEN i <= 20 OR i BETWEEN 41 AND 50 THEN 'vip' END,
	CASE WHEN i <= 30 OR i BETWEEN 41 AND 70 THEN 'city=上海' WHEN i BETWEEN 71 AND 110 THEN 'city="now"' END,
	CASE WHEN i <= 10 OR i BETWEEN 101 AND 140 THEN 'region.华东.上海' WHEN i <= 20 OR i BETWEEN 141 AND 180 THEN 'region.华南' END,
	CASE WHEN i BETWEEN 161 AND 200 THEN '"churned in"' END, CASE WHEN i <= 12 AND i > 2 OR i BETWEEN 199 AND 200 THEN 'rare' END,
	CASE WHEN i <= 40 THEN 'aov=' || i END)::cdp.tagset FROM generate_series(1, 200) i;
CREATE FUNCTION public.lifts(seed cdp.audience, baseline cdp.audience DEFAULT NULL, min_count int DEFAULT 30)
	RETURNS TABLE (tag text, seed_count bigint, base_count bigint, seed_rate float8, base_rate float8, lift numeric, tgi numeric, z numeric) LANGUAGE sql AS
	'SELECT tag, seed_count, base_count, seed_rate, base_rate, round(lift::numeric, 4), round(tgi::numeric, 2), round(z::numeric, 4) FROM cdp.lift_table(seed, baseline, min_count)';
-- by rows, and by bitmaps
SELECT * FROM lifts('{1-40}');
CREATE TABLE public.by_rows AS SELECT * FROM cdp.lift_table('{1-40}', NULL, 0);
CALL cdp.merge_tags();
SELECT count(*) AS keys, count(*) FILTER (WHERE r IS DISTINCT FROM l) AS other FROM public.by_rows r FULL JOIN cdp.lift_table('{1-40}', NULL, 0) l USING (tag);
-- what the columns say is what the queries count
SELECT count(*) FROM cdp.lift_table('{1-40}', NULL, 0) WHERE base_count <> cdp.count_customers(tag::cdp.tagquery)
	OR seed_count <> cdp.audience_count(cdp.audience_of(tag::cdp.tagquery) OPERATOR(cdp.&) '{1-40}'::cdp.audience);
-- ids that are no customers are ignored; least counts
SELECT * FROM lifts('{1-40,500,9223372036854775807}', min_count => 51);
SELECT tag FROM cdp.lift_table('{1-40}', min_count => 60) WHERE base_count = 60;
-- against others: what those have not has no end, what neither has no row
SELECT * FROM lifts('{1-40}', '{41-100}', 0) WHERE tag <> 'region.华南';
SELECT * FROM cdp.lift_table('{1-40}', '{41-100}', 0) WHERE base_count = 0 ORDER BY tag;
SELECT tag, z FROM cdp.lift_table('{1-40}', '{41-100}', 1) WHERE base_count = 0;
-- a set without customers
SELECT * FROM cdp.lift_table('{}');
SELECT * FROM cdp.lift_table('{201-300}');
SELECT * FROM cdp.lift_table('{1-40}', '{}');
SELECT * FROM cdp.lift_table('{1-40}', '{201-300}', 0);
-- name.* where it is not the same customers as the name
SELECT cdp.add_tag(60, 'vip.gold'), cdp.add_tag(1, 'vip.gold');
SELECT tag, seed_count, base_count FROM cdp.lift_table('{1-40}', min_count => 1) WHERE tag LIKE 'vip%' ORDER BY tag;
SELECT cdp.remove_tag(60, 'vip.gold');
SELECT tag, seed_count, base_count FROM cdp.lift_table('{1-40}', min_count => 1) WHERE tag LIKE 'vip%' ORDER BY tag;
CALL cdp.merge_tags();
SELECT tag, seed_count, base_count FROM cdp.lift_table('{1-40}', min_count => 1) WHERE tag LIKE 'vip%' ORDER BY tag;
SELECT cdp.remove_tag(1, 'vip.gold');
CALL cdp.merge_tags();
-- lookalikes: vip 10/3 and 上海 2.5 set the seed apart; who has both (41-50), then who has one
SELECT tag, ln(lift) AS weight FROM cdp.lift_table('{1-40}') WHERE z >= 3;
SELECT * FROM cdp.find_lookalikes('{1-40}', 3);
SELECT score, count(*), min(customer_id), max(customer_id) FROM cdp.find_lookalikes('{1-40}', 1000) GROUP BY 1 ORDER BY 1 DESC;
SELECT customer_id FROM cdp.find_lookalikes('{1-40}', 12) WITH ORDINALITY ORDER BY ordinality DESC LIMIT 3;
-- a lower bar: what the seed has less often counts against; what it never has is no weight
SELECT round(score::numeric, 4) AS score, count(*), min(customer_id) FROM cdp.find_lookalikes('{1-40}', 1000, '-Infinity') GROUP BY 1 ORDER BY 1 DESC;
SELECT count(*) FROM cdp.find_lookalikes('{1-40}', 1000, 'Infinity');
SELECT count(*) FROM cdp.find_lookalikes('{}', 1000);
SELECT count(*) FROM cdp.find_lookalikes('{1-200}', 1000, 0);
-- what is not merged yet counts: who is new among them, who has lost it, and who has it no more
BEGIN;
SELECT cdp.add_tag(200, 'vip'), cdp.add_tag(200, 'city', '上海'), cdp.remove_tag(41, 'vip');
SELECT cdp.add_tag(199, 'vip'), cdp.add_tag(42, 'vip', NULL, '2026-03-02 00:00+00');
SELECT * FROM lifts('{1-40}') WHERE tag IN ('vip', 'city = 上海');
SELECT customer_id, round(score::numeric, 4) AS score FROM cdp.find_lookalikes('{1-40}', 11);
SET LOCAL cdp.now = '2026-03-02 00:00:00+00';
SELECT seed_count, base_count FROM cdp.lift_table('{1-40}', NULL, 0) WHERE tag = 'vip';
SELECT customer_id, round(score::numeric, 4) AS score FROM cdp.find_lookalikes('{1-40}', 11);
ROLLBACK;
SELECT base_count FROM cdp.lift_table('{1-40}') WHERE tag = 'vip';
-- merged customers: one less; the loser's id is no customer
BEGIN;
SELECT cdp.merge_customers(1, 200, 'test') IS NOT NULL AS merged;
SELECT * FROM lifts('{1-40,200}') WHERE tag IN ('vip', 'rare', 'member', '"churned in"');
ROLLBACK;
-- arguments
SELECT * FROM cdp.lift_table(NULL);
SELECT * FROM cdp.lift_table('{1}', NULL, NULL);
SELECT * FROM cdp.lift_table('{1}', NULL, -1);
SELECT * FROM cdp.find_lookalikes(NULL, 5);
SELECT * FROM cdp.find_lookalikes('{1}', NULL);
SELECT * FROM cdp.find_lookalikes('{1}', 0);
SELECT * FROM cdp.find_lookalikes('{1}', 10000001);
SELECT * FROM cdp.find_lookalikes('{1}', 5, NULL);
SELECT * FROM cdp.find_lookalikes('{1}', 5, 'NaN');
-- a reader, who writes nothing
CREATE ROLE regress_cdp_lookalike;
SELECT cdp.grant_access('reader', 'regress_cdp_lookalike');
BEGIN READ ONLY;
SET LOCAL ROLE regress_cdp_lookalike;
SELECT (SELECT count(*) FROM cdp.lift_table('{1-40}')) AS keys, (SELECT count(*) FROM cdp.find_lookalikes('{1-40}', 5)) AS found;
ROLLBACK;
SELECT cdp.revoke_access('reader', 'regress_cdp_lookalike');
DROP ROLE regress_cdp_lookalike;
-- bytes that are no bitmap
UPDATE cdp.tag_bits b SET bits = '\x0500ffff' FROM cdp.tag_key k WHERE k.key_id = b.key_id AND k.tag = 'vip';
SELECT * FROM cdp.lift_table('{1-40}');
DROP TABLE public.by_rows;
DROP FUNCTION public.lifts;
