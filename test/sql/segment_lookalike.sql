-- what members of a set have in common, and who else has it
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 1000) i));
-- everybody may be a cat person; buyers of the seed (1 to 100) are, and live in the east, more often; colour is a text
INSERT INTO cdp.profile_tag (profile_id, tags) SELECT i, array_to_string(ARRAY['all'] || CASE WHEN i % 2 = 0 OR i <= 80 THEN ARRAY['cat'] END
	|| CASE WHEN i <= 60 OR i BETWEEN 500 AND 540 THEN ARRAY['region.华东.上海'] ELSE ARRAY['region.华南'] END
	|| CASE WHEN i % 10 = 0 THEN ARRAY['colour=red'] ELSE ARRAY['colour=blue'] END
	|| CASE WHEN i IN (510, 700) THEN ARRAY['rare'] END || ARRAY['spend=' || i], ', ')::cdp.tagset FROM generate_series(1, 1000) i;
CALL cdp.merge_tags();
SELECT tag, seed_count, base_count, round(seed_rate::numeric, 4) AS seed_rate, round(base_rate::numeric, 4) AS base_rate, round(lift::numeric, 4) AS lift,
	round(tgi::numeric, 2) AS tgi, round(z::numeric, 4) AS z FROM cdp.lift_table('{1-100}') ORDER BY lift DESC, tag COLLATE "C";
-- the same by hand
WITH f AS (SELECT c.customer_id, e.tag FROM cdp.customer_tag c, cdp.tagset_entries(c.tags) e)
SELECT l.tag, l.seed_count = count(*) FILTER (WHERE f.customer_id <= 100) AND l.base_count = count(*) FILTER (WHERE f.customer_id BETWEEN 50 AND 600) AS counts,
	abs(l.z - (l.seed_rate - l.base_rate) / sqrt((l.seed_count + l.base_count) / 651.0 * (1 - (l.seed_count + l.base_count) / 651.0) * (1 / 100.0 + 1 / 551.0))) < 1e-9 AS z
FROM cdp.lift_table('{1-100}', '{50-600}') l JOIN f USING (tag) WHERE l.tag IN ('cat', 'region.华南') GROUP BY l.tag, l.seed_count, l.base_count, l.z, l.seed_rate, l.base_rate ORDER BY 1;
SELECT tag FROM cdp.lift_table('{1-100}', min_count => 0) WHERE base_count < 30;
SELECT (SELECT count(*) FROM cdp.lift_table('{}')), (SELECT count(*) FROM cdp.lift_table('{1}', '{}'));
-- who looks like them: the seed is out, best first, ties by id; the score by hand
SELECT * FROM (SELECT customer_id, round(score::numeric, 6) AS score FROM cdp.find_lookalikes('{1-100}', 5)) l;
SELECT count(*), min(customer_id), bool_and(abs(l.score - w.score) < 1e-9) AS same FROM cdp.find_lookalikes('{1-100}', 1000) l JOIN (
	SELECT c.customer_id, sum(ln(t.lift)) AS score FROM cdp.customer_tag c JOIN cdp.lift_table('{1-100}') t ON t.z >= 3 AND c.tags OPERATOR(cdp.@@) t.tag::cdp.tagquery GROUP BY 1) w USING (customer_id);
SELECT count(*) FROM cdp.find_lookalikes('{1-100}', 1000, min_z => 1000);
-- changes count without a merge
SELECT cdp.add_tag(999, 'region.华东.上海'), cdp.add_tag(999, 'cat');
SELECT customer_id FROM cdp.find_lookalikes('{1-100}', 1000) WHERE customer_id = 999;
SELECT cdp.lift_table(NULL);
SELECT cdp.find_lookalikes(NULL, 1);
SELECT cdp.find_lookalikes('{1}', NULL);
SELECT cdp.find_lookalikes('{1}', 0);
SELECT cdp.find_lookalikes('{1}', 1, -1);
