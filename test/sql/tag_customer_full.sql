-- customers with as many tags as there may be: one more is refused, and two of them become one all the same
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET cdp.now = '2026-03-01 00:00:00+00';
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 4) i;
SELECT cdp.add_tag_many((SELECT jsonb_agg(jsonb_build_object('customer_id', 1, 'tag', 'a' || i)) FROM generate_series(1, 4096) i));
SELECT cdp.add_tag_many((SELECT jsonb_agg(jsonb_build_object('customer_id', 2, 'tag', 'b' || i)) FROM generate_series(1, 4000) i));
SELECT cdp.add_tag(2, 'a1', 'of two'), cdp.add_tag(2, 'a9', 'of two'), cdp.add_tag(3, 'c');
SELECT cdp.add_tag(1, 'a1', 'of one') AS one_of_them_changes;
\set VERBOSITY sqlstate
SELECT cdp.add_tag(1, 'more');
UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.+) 'more' WHERE profile_id = 1;
\set VERBOSITY default
CALL cdp.merge_tags();
-- the One ID's own come first, then as many as there is room for
SELECT cdp.merge_customers(1, 2, 'test');
CREATE VIEW held AS SELECT c.customer_id, count(*) AS tags, count(*) FILTER (WHERE e.tag LIKE 'a%') AS a, count(*) FILTER (WHERE e.tag LIKE 'b%') AS b, max(e.value) FILTER (WHERE e.tag = 'a1') AS a1
	FROM cdp.customer_tag c, cdp.tagset_entries(c.tags) e GROUP BY 1;
SELECT * FROM held ORDER BY 1;
SELECT cdp.count_customers('a1'), cdp.count_customers('b1'), cdp.count_customers('a1 & b1');
SELECT cdp.merge_customers(3, 1, 'test');
SELECT * FROM held ORDER BY 1;
SELECT cdp.count_customers('c'), cdp.count_customers('a4096'), cdp.count_customers('*');
CALL cdp.merge_tags();
SELECT * FROM cdp.verify_tags();
-- where one goes, another has room as soon as the customer is put together anew
SELECT cdp.remove_tag(3, 'a1'), cdp.remove_tag(3, 'a2');
SELECT * FROM held ORDER BY 1;
SELECT cdp.merge_customers(3, 4, 'test');
SELECT * FROM held ORDER BY 1;
SELECT * FROM cdp.verify_tags();
-- and nothing was lost, link by link
SELECT cdp.unmerge_customer(i, 'test') IS NOT NULL AS parted FROM unnest('{2,1,2}'::bigint[]) i;
SELECT profile_id, customer_id FROM cdp.profile_alias;
SELECT * FROM held ORDER BY 1;
CALL cdp.merge_tags();
SELECT * FROM cdp.verify_tags();
