-- two customers are made one by an operator
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-01 09:00:00+08';
SELECT cdp.identify('{"member_id": "m-1", "phone": "13800000001"}', '{"name": "王芳"}', 'crm') AS one;
SELECT cdp.identify('{"member_id": "m-2", "phone": "13800000002", "email": "w@example.com"}', '{"city": "上海"}', 'shop') AS two;
SELECT cdp.identify('{"anonymous_id": "c-3"}') AS three;
-- what it would be; nothing is written
SELECT * FROM cdp.preview_merge(1, 2);
SELECT count(*) AS merges FROM cdp.merge_log;
-- the winner keeps its id, also when it is the younger one
SELECT cdp.merge_customers(2, 1, 'called us') AS id;
SELECT * FROM cdp.profile_alias;
SELECT customer_id, traits, profile_ids FROM cdp.customer ORDER BY 1;
SELECT merge_id, action, customer_id, other_id, rule, reason, before, after, undoes FROM cdp.merge_log;
SELECT l.relation, l.rule, l.merge_id, i.value AS a, j.value AS b FROM cdp.identity_link l
	JOIN cdp.identifier i ON i.identifier_id = l.identifier_a JOIN cdp.identifier j ON j.identifier_id = l.identifier_b WHERE l.rule = 'manual';
SELECT profile_id, name, source, properties FROM cdp.event;
-- any id of theirs; already one: nothing is written
BEGIN;
SELECT cdp.merge_customers(1, 2, 'again') AS id;
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;
SELECT cdp.merge_customers(1, 3, 'by an old id') AS id;
SELECT cdp.customer_id(p) FROM generate_series(1, 3) p;
SELECT count(*) FROM cdp.merge_log;
-- a limit forbids it, unless somebody knows better; a re-check lets that be
UPDATE cdp.identifier_kind SET max_per_customer = 2 WHERE kind = 'phone';
SELECT cdp.identify('{"member_id": "m-4", "phone": "13800000004"}') AS four \gset
SELECT * FROM cdp.preview_merge(2, :four);
SELECT cdp.merge_customers(2, :four, 'family');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.merge_customers(2, :four, 'family', override_limits => true) AS id;
SELECT overrides_limits FROM cdp.identity_link WHERE rule = 'manual' ORDER BY link_id;
SELECT * FROM cdp.verify_identity();
SELECT * FROM cdp.recheck_identity();
-- the size of a customer
SET cdp.max_profiles_per_customer = 4;
SELECT cdp.identify('{"anonymous_id": "c-5"}') AS five \gset
SELECT * FROM cdp.preview_merge(2, :five);
SELECT cdp.merge_customers(2, :five, 'more');
RESET cdp.max_profiles_per_customer;
-- taken apart: nobody joins them, until that is allowed
SELECT cdp.unmerge_customer(:four, 'not family') = :four AS own_again;
SELECT cdp.merge_customers(2, :four, 'family', override_limits => true);
SELECT * FROM cdp.preview_merge(2, :four);
SELECT cdp.allow_merge(:four, 1, 'family after all') AS revoked;
SELECT cdp.allow_merge(:four, 1, 'again') AS revoked;
SELECT revoked_reason FROM cdp.identity_link WHERE relation = 'apart';
SELECT cdp.merge_customers(2, :four, 'family', true) AS id;
-- an identifier means its customer no more
SELECT cdp.detach_identifier('phone', '138-0000-0001', 'given back') AS had_it;
SELECT cdp.resolve('phone', '13800000001') IS NULL AS nobody;
SELECT cdp.detach_identifier('phone', '13800000001', 'again') IS NULL AS nobody_had_it;
SELECT value, profile_id, valid_to IS NOT NULL AS closed FROM cdp.identifier WHERE value LIKE '%0001' AND kind = 'phone';
SELECT action, customer_id, rule, reason FROM cdp.merge_log WHERE rule = 'detach';
SELECT cdp.identify('{"phone": "13800000001"}') NOT IN (1, 2, 3) AS a_newcomer;
SELECT * FROM cdp.verify_identity();
-- refused
SELECT cdp.merge_customers(NULL, 1, 'x');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.merge_customers(1, NULL, 'x');
SELECT cdp.merge_customers(1, 1, 'x');
SELECT cdp.merge_customers(1, 987654321, 'x');
SELECT cdp.merge_customers(-1, 1, 'x');
SELECT cdp.preview_merge(1, NULL);
SELECT cdp.preview_merge(1, 987654321);
SELECT cdp.allow_merge(1, NULL, 'x');
SELECT cdp.allow_merge(1, 987654321, 'x');
SELECT cdp.detach_identifier('phone', NULL, 'x');
SELECT cdp.detach_identifier('shoe_size', '43', 'x');
-- an error leaves no transaction block behind
SELECT 1 AS still_here;
BEGIN READ ONLY;
SELECT cdp.merge_customers(1, 2, 'x');
ROLLBACK;
-- savepoints and errors that somebody catches
BEGIN;
SAVEPOINT s;
SELECT cdp.merge_customers(:five, 2, 'x') = :five AS merged;
ROLLBACK TO s;
SELECT cdp.customer_id(2);
DO $$ BEGIN PERFORM cdp.merge_customers(1, 1, 'x'); EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$;
COMMIT;
-- who may
CREATE ROLE regress_cdp_reader;
SELECT cdp.grant_access('reader', 'regress_cdp_reader');
SET ROLE regress_cdp_reader;
SELECT allowed FROM cdp.preview_merge(1, :five);
SELECT cdp.merge_customers(1, :five, 'x');
SELECT cdp.allow_merge(1, :five, 'x');
SELECT cdp.detach_identifier('phone', '1', 'x');
SELECT cdp.unmerge_customer(1, 'x');
SELECT cdp.recheck_identity();
CALL cdp.recheck_identities();
CALL cdp.rebuild_aliases();
CALL cdp.check_identity();
SELECT count(*) FROM cdp.preview_unmerge(1);
SELECT * FROM cdp.verify_identity();
RESET ROLE;
SELECT cdp.revoke_access('reader', 'regress_cdp_reader');
DROP ROLE regress_cdp_reader;
-- of several limits the strongest kind comes first, in whatever order the rows were written
BEGIN;
UPDATE cdp.identifier_kind SET max_per_customer = 1 WHERE kind IN ('email', 'phone', 'device_id');
SELECT cdp.identify('{"device_id": "d-1"}') AS a, cdp.identify('{"email": "b@example.com"}') AS b \gset
SELECT cdp.identify('{"device_id": "d-1", "email": "a@example.com"}'), cdp.identify('{"device_id": "d-1", "phone": "13800000011"}'),
	cdp.identify('{"email": "b@example.com", "phone": "13800000012"}'), cdp.identify('{"email": "b@example.com", "device_id": "d-2"}') \g /dev/null
SELECT jsonb_path_query_array(violations, '$[*].kind') FROM cdp.preview_merge(:a, :b);
SELECT jsonb_path_query_array(violations, '$[*].kind') FROM cdp.preview_merge(:b, :a);
SELECT cdp.merge_customers(:b, :a, 'test');
ROLLBACK;
