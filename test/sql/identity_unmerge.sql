-- a merge is taken back, exactly
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-01 09:00:00+08';
SET cdp.last_seen_resolution = '100d';
SELECT cdp.identify('{"member_id": "m-1", "device_id": "d-1"}', '{"name": "王芳"}', 'crm') AS one;
SELECT cdp.identify('{"member_id": "m-2", "email": "w@example.com"}', '{"name": "王方", "city": "上海"}', 'shop') AS two;
-- 100 events before, 100 later, of either side
SELECT count(cdp.track(jsonb_build_object('member_id', 'm-' || 1 + i % 2), 'Page Viewed', jsonb_build_object('n', i), '2026-02-01Z'::timestamptz + i * interval '1 minute')) FROM generate_series(1, 100) i;
CREATE TABLE public.was AS SELECT 'identifier' AS what, i::text AS row FROM cdp.identifier i
	UNION ALL SELECT 'alias', a::text FROM cdp.profile_alias a UNION ALL SELECT 'customer', c::text FROM cdp.customer c
	UNION ALL SELECT 'event', e::text FROM cdp.event e;
SELECT what, count(*) FROM was GROUP BY 1 ORDER BY 1;
-- both on one sheet of paper: one customer
SELECT cdp.identify('{"member_id": "m-1", "email": "w@example.com"}', source => 'paper') AS one;
SELECT count(cdp.track(jsonb_build_object('member_id', 'm-' || 1 + i % 2), 'Page Viewed', jsonb_build_object('n', 100 + i), '2026-02-02Z'::timestamptz + i * interval '1 minute')) FROM generate_series(1, 100) i;
SELECT customer_id, profile_ids FROM cdp.customer;
SELECT * FROM cdp.preview_unmerge(2);
SELECT cdp.unmerge_customer(2, 'two sisters') AS two;
SELECT customer_id, traits, profile_ids FROM cdp.customer ORDER BY 1;
-- everything older is the same, byte by byte
SELECT * FROM was EXCEPT SELECT 'identifier', i::text FROM cdp.identifier i EXCEPT SELECT 'alias', a::text FROM cdp.profile_alias a
	EXCEPT SELECT 'customer', c::text FROM cdp.customer c EXCEPT SELECT 'event', e::text FROM cdp.event e;
SELECT count(*) FROM cdp.profile_alias a WHERE a.profile_id IN (1, 2) OR a.customer_id = 1;
SELECT cdp.customer_id(profile_id) AS customer_id, count(*) FROM cdp.event WHERE name = 'Page Viewed' GROUP BY 1 ORDER BY 1;
SELECT merge_id, action, customer_id, other_id, rule, reason, before, after, undoes FROM cdp.merge_log ORDER BY 1;
SELECT profile_id, name, properties FROM cdp.event WHERE source = 'cdp' ORDER BY event_id;
SELECT relation, rule, source, merge_id, refusal, revoked_at IS NOT NULL AS revoked, revoked_reason FROM cdp.identity_link ORDER BY link_id;
SELECT * FROM cdp.verify_identity();
-- the same event again does not merge; after it is allowed, it does
SELECT cdp.identify('{"member_id": "m-1", "email": "w@example.com"}', source => 'paper') AS one;
SELECT cdp.customer_id(1), cdp.customer_id(2);
SELECT * FROM cdp.recheck_identity();
SELECT cdp.allow_merge(1, 2, 'one after all') AS revoked;
SELECT cdp.customer_id(1), cdp.customer_id(2);
SELECT cdp.identify('{"member_id": "m-1", "email": "w@example.com"}', source => 'paper') AS one;
SELECT cdp.customer_id(1), cdp.customer_id(2);
SELECT * FROM cdp.verify_identity();
-- who came later goes where his evidence leads
SELECT cdp.identify('{"member_id": "m-2", "phone": "13900000002"}') AS one;
SELECT cdp.identify('{"member_id": "m-9", "phone": "13900000002"}') AS one;
SELECT customer_id, profile_ids FROM cdp.customer;
SELECT cdp.preview_unmerge(2);
SELECT cdp.unmerge_customer(2, 'two sisters') AS two;
SELECT customer_id, profile_ids FROM cdp.customer ORDER BY 1;
SELECT * FROM cdp.verify_identity();
-- the winner's id was the younger one: it is so again
SELECT cdp.identify(jsonb_build_object('member_id', 's-' || i)) AS id FROM generate_series(1, 5) i;
SELECT cdp.resolve('member_id', 's-1') AS s1, cdp.resolve('member_id', 's-2') AS s2, cdp.resolve('member_id', 's-3') AS s3,
	cdp.resolve('member_id', 's-4') AS s4, cdp.resolve('member_id', 's-5') AS s5 \gset
SELECT cdp.merge_customers(:s2, :s1, 'x') = :s2 AS s2;
SELECT cdp.merge_customers(:s3, :s2, 'x') = :s3 AS s3;
SELECT cdp.unmerge_customer(:s2, 'back') = :s2 AS s2;
SELECT cdp.customer_id(:s1) = :s2 AS s1_with_s2;
-- the customer's own id: its last merge; a merge by name; a profile that is merged with nobody writes nothing
SELECT cdp.merge_customers(:s3, :s4, 'x') = :s3 AS s3;
SELECT cdp.merge_customers(:s3, :s5, 'x') = :s3 AS s3;
SELECT cdp.unmerge_customer(:s3, 'the last') = :s3 AS s3;
SELECT cdp.customer_id(:s5) = :s5 AS s5_alone, cdp.customer_id(:s4) = :s3 AS s4_not;
SELECT max(merge_id) AS m FROM cdp.merge_log WHERE other_id = :s4 \gset
SELECT cdp.unmerge_customer(:s3, 'by name', :m) = :s3 AS s3;
SELECT cdp.customer_id(:s4) = :s4 AS s4_alone;
BEGIN;
SELECT cdp.unmerge_customer(:s4, 'x') = :s4 AS as_it_is;
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;
SELECT count(*) FROM cdp.preview_unmerge(:s4);
-- refused
SELECT cdp.unmerge_customer(NULL, 'x');
SELECT cdp.unmerge_customer(987654321, 'x');
SELECT cdp.unmerge_customer(1, 'x', 987654321);
SELECT cdp.preview_unmerge(1, 987654321);
SELECT cdp.preview_unmerge(NULL);
BEGIN READ ONLY;
SELECT count(*) > 0 AS preview FROM cdp.preview_unmerge(1);
SELECT cdp.unmerge_customer(1, 'x');
ROLLBACK;
SELECT 1 AS still_here;
DROP TABLE public.was;
