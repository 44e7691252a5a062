-- rules are applied to the past, and the partition is verified
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-01 09:00:00+08';
CREATE TABLE public.kept (at int, value text, customer text);
CREATE PROCEDURE public.keep(n int) LANGUAGE sql AS $$
	INSERT INTO public.kept SELECT n, i.kind || '/' || i.value, min(i.kind || '/' || i.value) OVER (PARTITION BY cdp.customer_id(i.profile_id))
	FROM cdp.identifier i WHERE i.valid_to IS NULL $$;
-- a tablet in the shop: three members sign in on it; a member with three phones
UPDATE cdp.identifier_kind SET max_per_customer = 2 WHERE kind IN ('member_id', 'phone');
SELECT cdp.identify(jsonb_build_object('member_id', 'm-' || i, 'device_id', 'tablet'), occurred_at => '2026-01-01Z'::timestamptz + i * interval '1 day') AS id FROM generate_series(1, 3) i;
SELECT cdp.identify(jsonb_build_object('member_id', 'm-1', 'phone', '1380000000' || i), occurred_at => '2026-02-01Z'::timestamptz + i * interval '1 day') AS id FROM generate_series(1, 3) i;
SELECT * FROM cdp.recheck_identity();
CALL keep(1);
-- tightened: predicted, done, and nothing is left to do
UPDATE cdp.identifier_kind SET max_per_customer = 1 WHERE kind IN ('member_id', 'phone');
SELECT check_name, detail FROM cdp.verify_identity();
SELECT * FROM cdp.recheck_identity();
SELECT * FROM cdp.recheck_identity(dry_run => false);
SELECT * FROM cdp.recheck_identity(dry_run => false);
SELECT * FROM cdp.verify_identity();
SELECT kind, value, profile_id, cdp.customer_id(profile_id), valid_to IS NOT NULL AS closed FROM cdp.identifier ORDER BY kind, value, identifier_id;
SELECT action, customer_id, other_id, rule, reason, before, after FROM cdp.merge_log ORDER BY merge_id;
SELECT profile_id, name, properties FROM cdp.event WHERE source = 'cdp' ORDER BY event_id;
SELECT i.value COLLATE "C" AS a, j.value COLLATE "C" AS b, l.refusal FROM cdp.identity_link l JOIN cdp.identifier i ON i.identifier_id = l.identifier_a
	JOIN cdp.identifier j ON j.identifier_id = l.identifier_b ORDER BY 1, 2, l.link_id;
-- loosened again: the partition is the first one
UPDATE cdp.identifier_kind SET max_per_customer = 2 WHERE kind IN ('member_id', 'phone');
SELECT * FROM cdp.recheck_identity();
SELECT * FROM cdp.recheck_identity(dry_run => false);
SELECT * FROM cdp.recheck_identity(dry_run => false);
CALL keep(2);
SELECT value, customer FROM kept WHERE at = 1 EXCEPT SELECT value, customer FROM kept WHERE at = 2;
SELECT * FROM cdp.verify_identity();
-- since: only what was touched
UPDATE cdp.identifier_kind SET max_per_customer = 1 WHERE kind IN ('member_id', 'phone');
SELECT count(*) FROM cdp.recheck_identity('2026-03-02Z');
SELECT count(*) > 0 AS some FROM cdp.recheck_identity('2026-02-28Z');
UPDATE cdp.identifier_kind SET max_per_customer = NULL WHERE kind IN ('member_id', 'phone');
SELECT count(*) > 0 AS some FROM cdp.recheck_identity(dry_run => false);
-- … also what an operator allowed since
SELECT cdp.identify('{"member_id": "k-1", "email": "k@example.com"}', occurred_at => '2026-02-01Z') AS k1 \gset
SELECT cdp.identify('{"member_id": "k-2", "email": "k@example.com"}', occurred_at => '2026-02-01Z') = :k1 AS one;
SELECT cdp.unmerge_customer(profile_id, 'two people') <> :k1 AS two FROM cdp.identifier WHERE value = 'k-2';
SELECT cdp.identify('{"member_id": "k-2", "email": "k@example.com"}', occurred_at => '2026-02-01Z') <> :k1 AS two;
SET cdp.now = '2026-03-02 09:00:00+08';
SELECT count(*) FROM cdp.recheck_identity('2026-03-02 08:00:00+08');
SELECT cdp.allow_merge(:k1, cdp.resolve('member_id', 'k-2'), 'one after all');
SELECT reason FROM cdp.recheck_identity('2026-03-02 08:00:00+08');
SELECT reason FROM cdp.recheck_identity('2026-03-02 08:00:00+08', dry_run => false);
SELECT cdp.resolve('member_id', 'k-2') = :k1 AS one;
-- in committed batches, with progress; stopped it goes on
CALL cdp.recheck_identities(batch => 2);
SELECT job, status, done, total FROM cdp.job_status WHERE job = 'recheck_identities';
SELECT * FROM cdp.recheck_identity();
SELECT cdp.customer_id(1) AS m1, cdp.customer_id(2) AS m2, count(DISTINCT cdp.customer_id(profile_id)) AS customers FROM cdp.identifier WHERE valid_to IS NULL;
SELECT count(*) FROM cdp.meta WHERE key = 'recheck_position';
SELECT cdp._recheck_position(NULL, NULL), cdp._recheck_position(NULL, 3), cdp._recheck_position(NULL, NULL), cdp._recheck_position('2026-01-01Z', NULL);
UPDATE cdp.identifier_kind SET max_per_customer = 7 WHERE kind = 'email';
SELECT cdp._recheck_position(NULL, NULL) AS other_rules;
SELECT cdp._recheck_position(NULL, -1);
-- … of those touched since; stopped it goes on there, too
SET cdp.now = '2026-07-01 09:00:00+08';
SELECT count(cdp.identify(jsonb_build_object('member_id', 's-' || i, 'email', 's' || i / 2 || '@example.com'), occurred_at => '2026-02-01Z')) FROM generate_series(2, 9) i;
UPDATE cdp.identity_link SET linked_at = '2026-02-01Z';
UPDATE cdp.merge_log SET at = '2026-02-01Z';
SELECT count(cdp.identify(jsonb_build_object('member_id', 's-' || i), occurred_at => '2026-03-20Z')) FROM generate_series(2, 6, 2) i;
UPDATE cdp.identifier_kind SET max_per_customer = 1 WHERE kind = 'member_id';
SELECT cardinality(cdp._recheck_touched('2026-03-10Z')), cdp._recheck_touched('infinity'), cdp._recheck_touched(NULL);
SELECT count(*) FROM cdp.recheck_identity('2026-03-10Z');
SELECT cdp._recheck_position('2026-03-10Z', (cdp._recheck_touched('2026-03-10Z'))[1]) > 0 AS stopped;
CALL cdp.recheck_identities('2026-03-10Z', batch => 1);
SELECT status, done, total FROM cdp.job_status WHERE job = 'recheck_identities';
SELECT count(*) FROM cdp.recheck_identity('2026-03-10Z');
CALL cdp.recheck_identities('2026-03-10Z', batch => 2);
SELECT status, done, total FROM cdp.job_status WHERE job = 'recheck_identities';
SELECT count(*) FROM cdp.recheck_identity('2026-03-10Z');
SELECT count(*) > 0 AS others FROM cdp.recheck_identity();
UPDATE cdp.identifier_kind SET max_per_customer = NULL WHERE kind = 'member_id';
CALL cdp.recheck_identities();
-- what is wrong is found and mended
CALL cdp.check_identity();
SELECT check_name, ok FROM cdp.health() WHERE check_name = 'identity';
CREATE TABLE public.alias AS SELECT * FROM cdp.profile_alias;
SET session_replication_role = replica;
DELETE FROM cdp.profile_alias WHERE profile_id = (SELECT min(profile_id) FROM cdp.profile_alias);
INSERT INTO cdp.profile_alias SELECT max(profile_id) + 1000, 1 FROM cdp.profile;
RESET session_replication_role;
SELECT check_name, count(*) FROM cdp.verify_identity() GROUP BY 1 ORDER BY 1;
CALL cdp.check_identity();
SELECT check_name, ok FROM cdp.health() WHERE check_name = 'identity';
SET client_min_messages = notice;
CALL cdp.rebuild_aliases();
CALL cdp.rebuild_aliases(batch => 1);
SET client_min_messages = warning;
SELECT * FROM cdp.verify_identity();
TABLE public.alias EXCEPT TABLE cdp.profile_alias;
SELECT count(*) = (SELECT count(*) FROM public.alias) AS same FROM cdp.profile_alias;
SELECT job, status FROM cdp.job_status WHERE job IN ('check_identity', 'rebuild_aliases') ORDER BY job;
-- a limit within a window: at most two phones that were seen within 30 days
SET cdp.now = '2026-07-01 09:00:00+08';
UPDATE cdp.identifier_kind SET max_per_customer = 2, max_window = '30 days' WHERE kind = 'phone';
SELECT count(*) > 0 AS some FROM cdp.recheck_identity(dry_run => false);
-- a third one after that time, the first one rings again; two customers of two phones each that become one long after
SELECT count(DISTINCT cdp.identify(jsonb_build_object('member_id', 'w-1', 'phone', '1390000000' || p), occurred_at => at::timestamptz))
	FROM (VALUES (1, '2026-01-01Z'), (2, '2026-01-02Z'), (3, '2026-03-01Z'), (1, '2026-03-02Z'), (2, '2026-03-02Z')) v(p, at);
SELECT count(DISTINCT cdp.identify(jsonb_build_object('member_id', 'w-' || m, 'phone', '1390000001' || m || p), occurred_at => '2026-01-01Z'::timestamptz + p * interval '1 day'))
	FROM generate_series(2, 3) m, generate_series(1, 2) p;
SELECT cdp.identify(jsonb_build_object('member_id', ARRAY['w-2', 'w-3'], 'email', 'w@example.com'), occurred_at => '2026-06-01Z') = cdp.resolve('member_id', 'w-2') AS one;
SELECT * FROM cdp.verify_identity();
-- forged: a rule looser than it is now let them in
UPDATE cdp.identifier_kind SET max_per_customer = NULL WHERE kind = 'phone';
SELECT count(DISTINCT cdp.identify(jsonb_build_object('member_id', 'w-4', 'phone', '1390000002' || p), occurred_at => '2026-01-01Z'::timestamptz + p * interval '1 day'))
	FROM generate_series(1, 3) p;
SELECT cdp.identify(jsonb_build_object('member_id', 'w-4', 'email', 'w4@example.com'), occurred_at => '2026-06-01Z') = cdp.resolve('member_id', 'w-4') AS same;
SELECT * FROM cdp.verify_identity();
UPDATE cdp.identifier_kind SET max_per_customer = 2 WHERE kind = 'phone';
SELECT check_name, replace(detail, cdp.resolve('member_id', 'w-4')::text, 'W-4') AS detail FROM cdp.verify_identity();
UPDATE cdp.identifier_kind SET max_window = '1 day' WHERE kind = 'phone';
SELECT * FROM cdp.verify_identity();
UPDATE cdp.identifier_kind SET max_window = '30 days' WHERE kind = 'phone';
SELECT reason FROM cdp.recheck_identity(dry_run => false);
SELECT * FROM cdp.verify_identity();
-- forged: by hand, as no verb would
SELECT cdp.customer_id(profile_id) AS w5 FROM cdp.identifier WHERE value = 'w-4' \gset
SELECT cdp.identify('{"member_id": "w-5", "phone": "13900000031"}', occurred_at => '2026-01-03Z') AS other \gset
SET session_replication_role = replica;
INSERT INTO cdp.profile_alias VALUES (:other, :w5);
INSERT INTO cdp.identity_link (identifier_a, identifier_b, rule, occurred_at) SELECT min(identifier_id), max(identifier_id), 'forged', '2026-01-03Z'
	FROM cdp.identifier WHERE value IN ('w-4', 'w-5');
RESET session_replication_role;
SELECT check_name, replace(detail, :'w5', 'W-4') AS detail FROM cdp.verify_identity();
SELECT reason FROM cdp.recheck_identity(dry_run => false);
SELECT * FROM cdp.verify_identity();
-- refused
CALL cdp.recheck_identities(batch => 0);
CALL cdp.rebuild_aliases(NULL);
BEGIN READ ONLY;
SELECT count(*) FROM cdp.recheck_identity();
SELECT cdp.recheck_identity(dry_run => false);
ROLLBACK;
BEGIN;
CALL cdp.recheck_identities();
ROLLBACK;
DROP PROCEDURE public.keep;
DROP TABLE public.kept, public.alias;
