-- 宝宝年龄: a rule over the trait baby_birthday, whose segment is entered on the day the child is 12 months old.
-- The clock goes on day by day, and nothing else happens but the two jobs.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'Asia/Shanghai';
SET DateStyle = ISO;
SET cdp.now = '2025-03-20 10:00:00+08';
INSERT INTO cdp.trait_definition VALUES ('baby_birthday', 'date', false, '宝宝生日');
SELECT cdp.identify(jsonb_build_object('member_id', m), jsonb_build_object('baby_birthday', b)) AS mother
FROM (VALUES ('march', '2025-03-10'), ('day before', '2025-03-09'), ('leap', '2024-02-29'), ('last of month', '2025-01-31'), ('no date', 'soon'), ('not born', '2026-06-01')) v(m, b);
SELECT cdp.identify('{"member_id": "no child"}') AS other;
-- what is no date never became a trait
SELECT trait, count(*) FROM cdp.trait_reject GROUP BY trait;
\i doc/examples/baby_age.sql
-- 400 days, each at its midnight
CREATE PROCEDURE pg_temp.day(d date) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('cdp.now', to_char(d, 'YYYY-MM-DD') || ' 00:00:00+08', false);
	COMMIT;
	CALL cdp.refresh_tags();
	CALL cdp.refresh_segments();
	CALL cdp.merge_tags();
END $$;
DO $$
BEGIN
	FOR d IN 0 .. 400 LOOP
		CALL pg_temp.day('2025-03-20'::date + d);
	END LOOP;
END $$;
SELECT v.traits ->> 'baby_birthday' AS born, e.name, e.occurred_at, e.properties -> 'initial' AS initial FROM cdp.event e
JOIN cdp.customer v ON v.customer_id = cdp.customer_id(e.profile_id) WHERE e.name LIKE 'Segment %' ORDER BY e.occurred_at, born, e.name;
SELECT c.traits ->> 'baby_birthday' AS born, cdp.tag_number(t.tags, '宝宝年龄') AS months FROM cdp.customer c JOIN cdp.customer_tag t USING (customer_id) ORDER BY c.customer_id;
-- an age is written once a month: each child has as many changes as months
SELECT c.traits ->> 'baby_birthday' AS born, count(*) AS changes, count(DISTINCT h.value) AS ages FROM cdp.tag_history h JOIN cdp.customer c ON c.customer_id = cdp.customer_id(h.profile_id)
WHERE h.tag = '宝宝年龄' GROUP BY 1 ORDER BY 1;
SELECT * FROM cdp.verify_tags();
-- to the second, and back again
SET cdp.now = '2026-03-09 23:59:59+08';
CALL cdp.refresh_tags('宝宝年龄');
CALL cdp.refresh_segments('宝宝满一岁');
SELECT cdp.in_segment(cdp.resolve('member_id', 'march'), '宝宝满一岁') AS not_yet, cdp.in_segment(cdp.resolve('member_id', 'day before'), '宝宝满一岁') AS born_a_day_before;
SET cdp.now = '2026-03-10 00:00:00+08';
CALL cdp.refresh_tags('宝宝年龄');
CALL cdp.refresh_segments('宝宝满一岁');
SELECT cdp.in_segment(cdp.resolve('member_id', 'march'), '宝宝满一岁') AS now_it_is;
SELECT * FROM cdp.explain_segment('宝宝满一岁', cdp.resolve('member_id', 'march'));
RESET cdp.now;
DROP EXTENSION customer_cdp CASCADE;
DROP SCHEMA cdp CASCADE;
