-- cdp.match_profiles, decide_match, match_queue: zones, what is asked and what never again, who may
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD';
SET cdp.now = '2026-01-01 00:00:00Z';
SET extra_float_digits = 0;

-- 40 customers nobody is alike, then three pairs: 41/42 are sure, 43/44 and 45/46 doubtful
SELECT count(*) FROM generate_series(1, 40) i, LATERAL cdp.identify(jsonb_build_object('member_id', 'm' || i),
	jsonb_build_object('name', 'name' || md5(i::text), 'birthday', (date '1960-01-01' + i * 37)::text, 'city', 'c' || i % 8));
SELECT i, cdp.identify(jsonb_build_object('member_id', 'm' || i, 'phone', '138000000' || i), t::jsonb) FROM (VALUES
	(41, '{"name": "欧阳修", "birthday": "1980-05-05", "city": "庐陵"}'), (42, '{"name": "歐陽修", "birthday": "1980-05-05", "city": "庐陵"}'),
	(43, '{"name": "王安石", "birthday": "1981-12-18", "city": "临川"}'), (44, '{"name": "王安石", "birthday": "1971-02-20", "city": "临川"}'),
	(45, '{"name": "苏轼", "birthday": "1987-01-08", "city": "眉山"}'), (46, '{"name": "苏辙", "birthday": "1987-01-08", "city": "眉山"}')) v(i, t) ORDER BY i;
INSERT INTO cdp.match_model (name, comparisons, blocking) VALUES ('person',
	'[{"column": "name", "kind": "han_name"}, {"column": "birthday", "kind": "date"}, {"column": "city", "kind": "text"}]',
	ARRAY['l.birthday = r.birthday', 'l.name = r.name', 'l.city = r.city']);
SELECT name, options, fitted, fitted_at, owner = current_user AS mine FROM cdp.match_model;

-- a look writes nothing
SELECT left_id, right_id, zone, round(probability::numeric, 4) AS p FROM cdp.match_profiles('person');
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.95, 0.94);
SELECT (SELECT count(*) FROM cdp.match_candidate) AS candidates, (SELECT count(*) FROM cdp.profile_alias) AS aliases, fitted IS NULL AS not_fitted FROM cdp.match_model;
BEGIN READ ONLY;
SELECT count(*) FROM cdp.match_profiles('person');
SAVEPOINT s;
SELECT count(*) FROM cdp.match_profiles('person', dry_run => false);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
-- the real thing: the sure pair is one customer by evidence, the doubtful ones wait
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', dry_run => false);
SELECT cdp.customer_id(42), action, customer_id, other_id FROM cdp.merge_log;
SELECT a.kind, a.profile_id, b.kind, b.profile_id, relation, rule, round(weight::numeric, 2) AS weight FROM cdp.identity_link JOIN cdp.identifier a ON a.identifier_id = identifier_a JOIN cdp.identifier b ON b.identifier_id = identifier_b
	WHERE rule LIKE 'match:%';
SELECT fitted IS NOT NULL AS fitted, fitted ->> 'records' AS records, fitted_at, owner = current_user AS mine FROM cdp.match_model;
SELECT candidate_id, left_id, right_id, status, levels, level_names, proposed_at, decided_by FROM cdp.match_candidate ORDER BY 1;
SELECT candidate_id, model, round(gain::numeric, 3) AS gain, levels, left_id, left_traits ->> 'name' AS left_name, left_identifiers AS n, right_id, right_traits ->> 'name' AS right_name, right_identifiers AS n FROM cdp.match_queue;
-- again: nobody is asked twice, nothing moves
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', dry_run => false);
SELECT candidate_id, left_id, right_id, status FROM cdp.match_candidate ORDER BY 1;

-- a household is evidence that merges nobody; apart stays apart
SELECT candidate_id AS brothers FROM cdp.match_candidate WHERE left_id = 45 \gset
SELECT candidate_id AS namesakes FROM cdp.match_candidate WHERE left_id = 43 \gset
SELECT cdp.decide_match(:brothers, 'household', 'brothers'), cdp.decide_match(:brothers, 'household'), cdp.decide_match(:namesakes, 'apart');
SELECT cdp.decide_match(:brothers, 'same');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.decide_match(:namesakes, 'household');
\echo :LAST_ERROR_SQLSTATE
SELECT candidate_id, status, decided_by = session_user AS by_me, decided_at, note FROM cdp.match_candidate ORDER BY 1;
SELECT a.profile_id, b.profile_id, relation, rule, identity_link.source, revoked_at FROM cdp.identity_link JOIN cdp.identifier a ON a.identifier_id = identifier_a JOIN cdp.identifier b ON b.identifier_id = identifier_b
	WHERE relation <> 'same' ORDER BY 1;
SELECT cdp.customer_id(44), cdp.customer_id(46), (SELECT count(*) FROM cdp.match_queue) AS open;
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.5, 0.5);
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', dry_run => false);
-- nor do identifiers that are seen together make one of them
SELECT cdp.identify('{"member_id": ["m43", "m44"]}') IN (43, 44) AS known;
SELECT cdp.customer_id(43), cdp.customer_id(44);
-- also when a side is known by another id meanwhile, and when only the evidence tells
SET cdp.now = '2026-01-02 00:00:00Z';
SELECT cdp.identify('{"member_id": ["m7", "m44"]}'), cdp.set_traits(44, '{"name": "王安石", "birthday": "1971-02-20", "city": "临川"}');
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.5, 0.5);
DELETE FROM cdp.match_candidate WHERE status = 'apart';
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.5, 0.5);
UPDATE cdp.identity_link SET revoked_at = cdp.now() WHERE relation = 'apart';
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.5, 0.5);
UPDATE cdp.identity_link SET revoked_at = NULL WHERE relation = 'apart';

-- the life of a question: new probability, no longer likely, asked anew, settled elsewhere
SELECT cdp.identify('{"member_id": "m51"}', '{"name": "李清照", "birthday": "1984-03-13", "city": "济南"}'), cdp.identify('{"member_id": "m52"}', '{"name": "李清昭", "birthday": "1984-03-13", "city": "济南"}');
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.99999, 0.05, false);
SELECT candidate_id AS asked, probability AS p FROM cdp.match_candidate WHERE status = 'open' \gset
SET cdp.now = '2026-01-03 00:00:00Z';
SELECT cdp.set_traits(48, '{"birthday": "1984-03-12"}') \g /dev/null
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.99999, 0.05, false);
SELECT status, candidate_id = :asked AS same_row, probability = :p AS same_probability, level_names FROM cdp.match_candidate WHERE candidate_id >= :asked;
SET cdp.now = '2026-01-04 00:00:00Z';
SELECT cdp.set_traits(48, '{"birthday": "1949-01-01", "name": "朱淑真"}') \g /dev/null
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.99999, 0.05, false);
SELECT status, decided_at, decided_by FROM cdp.match_candidate WHERE candidate_id >= :asked;
SELECT cdp.decide_match(:asked, 'apart');
\echo :LAST_ERROR_SQLSTATE
SET cdp.now = '2026-01-05 00:00:00Z';
SELECT cdp.set_traits(48, '{"birthday": "1984-03-13", "name": "李清照"}') \g /dev/null
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.99999, 0.05, false);
SELECT status, candidate_id > :asked AS new FROM cdp.match_candidate WHERE candidate_id >= :asked ORDER BY candidate_id;
SELECT count(*) FROM cdp.match_queue;
SELECT max(candidate_id) AS asked FROM cdp.match_candidate \gset
SELECT cdp.identify('{"member_id": ["m51", "m52"]}');
SELECT count(*) FROM cdp.match_queue;
SELECT cdp.decide_match(:asked, 'apart');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM cdp.match_profiles('person', dry_run => false);
SELECT status FROM cdp.match_candidate WHERE candidate_id = :asked;
SELECT cdp.decide_match(:asked, 'same'), cdp.decide_match(:asked, 'same');
-- a person says same: they are one; two questions that became one are asked once
SELECT cdp.identify('{"member_id": "m61"}', '{"name": "秦观", "birthday": "1990-12-07", "city": "高邮"}'), cdp.identify('{"member_id": "m62"}', '{"name": "秦观", "birthday": "1990-12-17", "city": "高邮"}'), cdp.identify('{"member_id": "m63"}', '{"name": "秦观", "birthday": "1990-12-27", "city": "高邮"}');
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 1, 0.9, false) ORDER BY 1, 2;
SELECT candidate_id, left_id, right_id, status FROM cdp.match_candidate WHERE status = 'open' ORDER BY left_id, right_id;
SELECT cdp.decide_match(candidate_id, 'same', 'one address') FROM cdp.match_candidate WHERE (left_id, right_id) = (49, 50);
SELECT cdp.customer_id(50), left_id, right_id FROM cdp.match_queue;
BEGIN;
SELECT cdp.decide_match(candidate_id, 'apart') FROM cdp.match_queue;
SELECT left_id, right_id, status FROM cdp.match_candidate WHERE left_id >= 49 ORDER BY candidate_id;
ROLLBACK;
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 1, 0.9, false) ORDER BY 1, 2;
SELECT left_id, right_id, status, note FROM cdp.match_candidate WHERE left_id >= 49 ORDER BY candidate_id;

-- likeness is no chain: who is like both ends joins one of them, the other pair is for a person
SELECT cdp.identify('{"member_id": "m71"}', '{"name": "黄庭坚", "birthday": "1985-06-12", "city": "分宁"}'), cdp.identify('{"member_id": "m72"}', '{"name": "黄庭坚", "birthday": "1985-06-12", "city": "洪州"}'), cdp.identify('{"member_id": "m73"}', '{"name": "黄庭坚", "birthday": "1971-01-01", "city": "洪州"}');
SELECT left_id, right_id, zone, round(probability::numeric, 3) AS p FROM cdp.match_profiles('person', 0.5, 0) WHERE left_id >= 52 ORDER BY 1, 2;
-- what is apart stays apart also by way of a third: three of one name, birthday and city
SELECT cdp.identify('{"member_id": "m81"}', '{"name": "晏几道", "birthday": "1978-06-12", "city": "抚州"}'), cdp.identify('{"member_id": "m82"}', '{"name": "晏几道", "birthday": "1978-06-12", "city": "抚州"}'), cdp.identify('{"member_id": "m83"}', '{"name": "晏几道", "birthday": "1978-06-12", "city": "抚州"}');
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.9, 0.9) WHERE left_id >= 55 ORDER BY 1, 2;
SELECT count(*) FROM cdp.match_profiles('person', 1, 0.9, false);
SELECT cdp.decide_match(candidate_id, 'apart') FROM cdp.match_candidate WHERE (left_id, right_id) = (55, 57);
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.9, 0.9, false) WHERE left_id >= 55 ORDER BY 1, 2;
SELECT profile_id, cdp.customer_id(profile_id) FROM cdp.profile WHERE profile_id >= 55 ORDER BY 1;
SELECT left_id, right_id, status FROM cdp.match_candidate WHERE left_id >= 55 ORDER BY candidate_id;
-- three that are one: the third pair is evidence too, for when another is taken back
SELECT cdp.identify('{"member_id": "m91"}', '{"name": "周邦彦", "birthday": "1956-06-12", "city": "钱塘"}'), cdp.identify('{"member_id": "m92"}', '{"name": "周邦彦", "birthday": "1956-06-12", "city": "钱塘"}'), cdp.identify('{"member_id": "m93"}', '{"name": "周邦彥", "birthday": "1956-06-12", "city": "钱塘"}');
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.99, 0.99, false) WHERE left_id >= 58 ORDER BY 1, 2;
SELECT profile_id, cdp.customer_id(profile_id) FROM cdp.profile WHERE profile_id >= 58 ORDER BY 1;
SELECT a.profile_id AS a, b.profile_id AS b, relation, rule FROM cdp.identity_link JOIN cdp.identifier a ON a.identifier_id = identifier_a JOIN cdp.identifier b ON b.identifier_id = identifier_b
	WHERE a.profile_id >= 58 AND rule LIKE 'match:%' ORDER BY 1, 2;
-- a merge that was taken back is a decision
SELECT cdp.unmerge_customer(60, 'two people after all');
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.5, 0.5) WHERE left_id >= 58;
-- a limit forbids: not merged but asked, refused when a person says same, and done when the limit is gone
UPDATE cdp.identifier_kind SET max_per_customer = 1 WHERE kind = 'member_id';
SELECT cdp.identify('{"member_id": "m101"}', '{"name": "贺铸", "birthday": "1952-06-12", "city": "卫州"}'), cdp.identify('{"member_id": "m102"}', '{"name": "贺铸", "birthday": "1952-06-12", "city": "卫州"}');
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.99, 0.99, false) WHERE left_id >= 61;
SELECT candidate_id AS limited, status FROM cdp.match_candidate WHERE left_id = 61 \gset
SELECT cdp.decide_match(:limited, 'same'), cdp.customer_id(62);
SELECT count(*) FROM cdp.match_profiles('person', 0.99, 0.99, false) WHERE left_id >= 61;
SELECT status, note FROM cdp.match_candidate WHERE candidate_id = :limited;
UPDATE cdp.identifier_kind SET max_per_customer = NULL WHERE kind = 'member_id';
SELECT cdp.decide_match(:limited, 'same', 'two cards');
SELECT cdp.customer_id(62), status, note FROM cdp.match_candidate WHERE candidate_id = :limited;
SELECT * FROM cdp.verify_identity();

-- what is refused
CREATE FUNCTION pg_temp.try(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	h text;
BEGIN
	EXECUTE 'SELECT count(*) FROM ' || call;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', sqlstate, sqlerrm, h);
END $$;
SELECT c, pg_temp.try(c) FROM unnest(ARRAY['cdp.match_profiles(NULL)', 'cdp.match_profiles(''none'')', 'cdp.match_profiles(''person'', ''NaN'')', 'cdp.match_profiles(''person'', 1.5)', 'cdp.match_profiles(''person'', 0.5, 0.6)', 'cdp.match_profiles(''person'', 0.5, -0.1)', 'cdp.match_profiles(''person'', NULL)',
	'cdp.match_profiles(''person'', 0, 0)', 'cdp.decide_match(NULL, ''same'')', 'cdp.decide_match(1, NULL)', 'cdp.decide_match(1, ''maybe'')', 'cdp.decide_match(-1, ''same'')', 'cdp._match_edges()']) c;
INSERT INTO cdp.match_model (name, comparisons, blocking) VALUES ('bad', '[]', '{l.id = r.id}');
INSERT INTO cdp.match_model (name, comparisons, blocking) VALUES ('bad', '[{"column": "name", "kind": "text"}]', '{}');
INSERT INTO cdp.match_model (name, comparisons, blocking) VALUES ('bad', '[{"column": "name", "kind": "text"}]', '{"true) UNION SELECT (1, 1"}');
INSERT INTO cdp.match_model (name, comparisons, blocking, options) VALUES ('bad', '[{"column": "name", "kind": "text"}]', '{l.id = r.id}', '{"colour": 1}');
INSERT INTO cdp.match_model (name, records, comparisons, blocking) VALUES ('strangers', 'SELECT i AS id, ''x''::text AS name FROM generate_series(1001, 1003) i', '[{"column": "name", "kind": "text"}]', '{l.name = r.name}'),
	('here', 'SELECT 1 AS id, ''x''::text AS name FROM nowhere', '[{"column": "name", "kind": "text"}]', '{l.name = r.name}');
SELECT pg_temp.try('cdp.match_profiles(''strangers'', 0.1, 0)'), pg_temp.try('cdp.match_profiles(''here'')');

-- texts run as who wrote them, for those who have his privileges
CREATE ROLE review_ann; CREATE ROLE review_bob; CREATE ROLE review_eve;
SELECT cdp.grant_access('operator', 'review_ann'), cdp.grant_access('operator', 'review_bob'), cdp.grant_access('reader', 'review_eve');
CREATE TABLE secret AS SELECT 1 AS id, 'x'::text AS name;
CREATE TABLE anns AS SELECT 1 AS id, 'x'::text AS name;
GRANT SELECT ON anns TO review_ann;
SET ROLE review_ann;
INSERT INTO cdp.match_model (name, records, comparisons, blocking, owner) VALUES ('ann', 'SELECT * FROM public.anns', '[{"column": "name", "kind": "text"}]', '{l.name = r.name}', 'postgres'),
	('peep', 'SELECT * FROM public.secret', '[{"column": "name", "kind": "text"}]', '{l.name = r.name}', 'postgres');
UPDATE cdp.match_model SET owner = 'postgres' WHERE name = 'ann';
UPDATE cdp.match_model SET fitted = fitted WHERE name = 'person';
SELECT name, owner FROM cdp.match_model WHERE name IN ('ann', 'peep', 'person') ORDER BY 1;
SELECT count(*) FROM cdp.match_profiles('ann');
SELECT count(*) FROM cdp.match_profiles('peep');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM cdp.match_profiles('person');
\echo :LAST_ERROR_SQLSTATE
SET ROLE review_bob;
SELECT count(*) FROM cdp.match_profiles('ann');
\echo :LAST_ERROR_SQLSTATE
UPDATE cdp.match_model SET records = records || ' WHERE true' WHERE name = 'ann';
SELECT owner FROM cdp.match_model WHERE name = 'ann';
SELECT count(*) FROM cdp.match_profiles('ann');
\echo :LAST_ERROR_SQLSTATE
SET ROLE review_eve;
SELECT count(*) FROM cdp.match_queue;
SELECT count(*) FROM cdp.match_profiles('person');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.decide_match(1, 'same');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
-- the superuser reads no more through it than its owner may
SELECT count(*) FROM cdp.match_profiles('peep');
\echo :LAST_ERROR_SQLSTATE
-- rules that somebody wrote into fitted do not run
UPDATE cdp.match_model SET fitted = (SELECT jsonb_set(p.fitted, '{rules}', '[{"rule": "l.name = (SELECT name FROM public.secret)"}]') FROM cdp.match_model p WHERE p.name = 'person') WHERE name = 'person';
SELECT count(*) > 0 AS runs FROM cdp.match_profiles('person');
-- a change of a text makes the fit void, its own change does not
UPDATE cdp.match_model SET fitted = cdp.fit_match(records, comparisons, blocking, options) WHERE name = 'person';
SELECT fitted IS NOT NULL AS fitted FROM cdp.match_model WHERE name = 'person';
UPDATE cdp.match_model SET blocking = blocking || '{"false"}' WHERE name = 'person';
SELECT fitted IS NOT NULL AS fitted, fitted_at FROM cdp.match_model WHERE name = 'person';
SELECT cdp.revoke_access('operator', 'review_ann'), cdp.revoke_access('operator', 'review_bob'), cdp.revoke_access('reader', 'review_eve');
DELETE FROM cdp.match_model WHERE owner LIKE 'review%';
DROP TABLE secret, anns;
DROP ROLE review_ann; DROP ROLE review_bob; DROP ROLE review_eve;
