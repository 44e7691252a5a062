-- What match_profiles() tells with dry_run is what it then does, over random customers, limits and settings: also which
-- of its merges, one after the other, a limit will refuse.
\set seed `echo ${CDP_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d " ")}`
BEGIN;
SELECT plan(17);
SELECT diag('identity_review: seed ' || :'seed');
SELECT setseed(:seed::float8 / 65536) \g /dev/null
SET LOCAL client_min_messages = warning;

-- 150 customers of 40 names: cards, phones and e-mails, seen long ago or lately, some closed, some generic; five without any
INSERT INTO cdp.identifier_kind (kind, priority) VALUES ('t_card', 5), ('t_phone', 6), ('t_mail', 7);
CREATE TEMP TABLE person AS
SELECT i, 'n' || floor(random() * 40)::int AS name, ('1980-01-01'::date + floor(random() * 30)::int)::text AS birthday,
	(ARRAY['a', 'b', 'c'])[1 + floor(random() * 3)] AS city, NULL::bigint AS profile_id
FROM generate_series(1, 150) i;
DO $$
DECLARE
	p person;
BEGIN
	FOR p IN SELECT * FROM person ORDER BY i LOOP
		INSERT INTO cdp.profile DEFAULT VALUES RETURNING profile_id INTO p.profile_id;
		UPDATE person SET profile_id = p.profile_id WHERE i = p.i;
	END LOOP;
END $$;
INSERT INTO cdp.profile_trait (profile_id, trait, value, observed_at)
SELECT profile_id, t.trait, to_jsonb(t.value), now() FROM person, LATERAL (VALUES ('t_name', name), ('t_birthday', birthday), ('t_city', city)) t(trait, value);
INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen, valid_to, generic_since)
SELECT kind, kind || i || '-' || k, profile_id, '2026-01-01Z', cdp.now() - random() * interval '60 days',
	CASE WHEN random() < 0.1 THEN cdp.now() END, CASE WHEN random() < 0.1 THEN cdp.now() END
FROM person, unnest('{t_card,t_phone,t_mail}'::text[]) kind, generate_series(1, 2) k
WHERE i > 5 AND random() < 0.5;
-- numbers of a model that takes everybody of one name for one person, the surer ones first
INSERT INTO cdp.match_model (name, records, comparisons, blocking, fitted) VALUES ('t_person',
	$q$SELECT c.customer_id AS id, c.traits ->> 't_name' AS name, c.traits ->> 't_birthday' AS birthday, c.traits ->> 't_city' AS city
		FROM cdp.customer c WHERE c.traits ? 't_name'$q$,
	'[{"column": "name", "kind": "exact"}, {"column": "birthday", "kind": "exact"}, {"column": "city", "kind": "exact"}]',
	'{l.name = r.name}',
	(SELECT jsonb_build_object('version', 1, 'link_only', false, 'seed', 42, 'sample', 1000000, 'max_iterations', 500, 'records', 0, 'pairs', 0,
		'lambda', 0.2, 'iterations', 0, 'converged', true, 'rules', '[{"rule": "l.name = r.name", "pairs": 0, "new_pairs": 0}]'::jsonb, 'columns', jsonb_agg(jsonb_build_object('column', c.name, 'kind', 'exact',
		'levels', jsonb_build_array('{"level": -1, "name": "null", "weight": 0}'::jsonb, jsonb_build_object('level', 0, 'name', 'different', 'm', 0.1, 'u', 1 - c.u),
			jsonb_build_object('level', 1, 'name', 'equal', 'm', 0.9, 'u', c.u))) ORDER BY n))
	 FROM (VALUES (1, 'name', 0.05), (2, 'birthday', 0.03), (3, 'city', 0.33)) c(n, name, u)));

CREATE TEMP TABLE told (left_id bigint, right_id bigint, probability float8, zone text);
CREATE TEMP TABLE done (LIKE told);
CREATE FUNCTION pg_temp.both(auto float8, review float8) RETURNS void LANGUAGE sql AS $$
	TRUNCATE told, done;
	INSERT INTO told SELECT * FROM cdp.match_profiles('t_person', auto, review);
	INSERT INTO done SELECT * FROM cdp.match_profiles('t_person', auto, review, false);
$$;
CREATE FUNCTION pg_temp.refused() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM cdp.merge_refusal WHERE source = 'match:t_person' AND reason IN ('limit', 'customer_too_large') $$;

SAVEPOINT s;
SELECT pg_temp.both(0.06, 0) \g /dev/null
SELECT bag_eq('TABLE told', 'TABLE done', 'without limits: told is done');
SELECT cmp_ok(count(*), '>', 20::bigint, 'there is something to merge') FROM done WHERE zone = 'auto';
SELECT is((SELECT count(*) FROM done WHERE zone = 'auto' AND cdp.customer_id(left_id) <> cdp.customer_id(right_id)), 0::bigint, 'auto is merged');
SELECT is((SELECT count(*) FROM told WHERE zone = 'auto' AND EXISTS (SELECT FROM person WHERE i <= 5 AND profile_id IN (left_id, right_id))), 0::bigint,
	'whoever has no identifier is for a person to judge');
ROLLBACK TO s;

-- limits, without and with a window
UPDATE cdp.identifier_kind SET max_per_customer = 2 WHERE kind = 't_card';
UPDATE cdp.identifier_kind SET max_per_customer = 2, max_window = '30 days' WHERE kind = 't_phone';
SAVEPOINT s;
SELECT pg_temp.both(0.06, 0) \g /dev/null
SELECT bag_eq('TABLE told', 'TABLE done', 'with limits: told is done');
SELECT cmp_ok(pg_temp.refused(), '>', 0::bigint, 'some were refused');
SELECT is((SELECT count(*) FROM done WHERE zone = 'auto' AND cdp.customer_id(left_id) <> cdp.customer_id(right_id)), 0::bigint, 'auto is merged');
SELECT is((SELECT count(*) FROM told t WHERE zone = 'review' AND cdp.customer_id(left_id) = cdp.customer_id(right_id)), 0::bigint, 'review is not');
SELECT is_empty($$SELECT * FROM cdp.verify_identity() WHERE check_name = 'limit'$$, 'no limit is broken');
SELECT set_eq('SELECT left_id, right_id FROM told WHERE zone = ''review''',
	$$SELECT d.left_id, d.right_id FROM done d JOIN cdp.match_candidate c ON (cdp.customer_id(c.left_id), cdp.customer_id(c.right_id)) =
		(least(cdp.customer_id(d.left_id), cdp.customer_id(d.right_id)), greatest(cdp.customer_id(d.left_id), cdp.customer_id(d.right_id)))
		WHERE c.status = 'open' AND d.zone = 'review'$$, 'and waits in the queue');
-- a second round over what is left
SELECT pg_temp.both(0.06, 0) \g /dev/null
SELECT bag_eq('TABLE told', 'TABLE done', 'again: told is done');
SELECT is_empty('SELECT * FROM done WHERE zone = ''auto''', 'again: nothing is left to merge');
ROLLBACK TO s;

-- the size of a customer
SET LOCAL cdp.max_profiles_per_customer = 2;
SAVEPOINT s;
SELECT pg_temp.both(0.06, 0) \g /dev/null
SELECT bag_eq('TABLE told', 'TABLE done', 'with a bound on profiles: told is done');
SELECT cmp_ok(pg_temp.refused(), '>', 0::bigint, 'some were refused');
SELECT is((SELECT max(n) FROM (SELECT count(*) + 1 AS n FROM cdp.profile_alias WHERE profile_id IN (SELECT profile_id FROM person) GROUP BY customer_id) x), 2::bigint,
	'nobody has more profiles');
ROLLBACK TO s;

-- and what a person has said, with the limits
RESET cdp.max_profiles_per_customer;
SELECT count(*) FROM cdp.match_profiles('t_person', 1, 0, false) \g /dev/null
CREATE FUNCTION pg_temp.judge() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	m cdp.match_candidate;
BEGIN
	FOR i IN 1..15 LOOP
		-- an answer may have closed others
		SELECT * INTO m FROM cdp.match_candidate c WHERE c.model = 't_person' AND c.status = 'open'
			AND EXISTS (SELECT FROM cdp.identifier x WHERE x.profile_id = c.left_id) AND EXISTS (SELECT FROM cdp.identifier x WHERE x.profile_id = c.right_id)
			ORDER BY random() LIMIT 1;
		PERFORM cdp.decide_match(m.candidate_id, (ARRAY['same', 'apart', 'household'])[1 + i % 3]);
	END LOOP;
END $$;
SELECT pg_temp.judge() \g /dev/null
SELECT pg_temp.both(0.06, 0) \g /dev/null
SELECT bag_eq('TABLE told', 'TABLE done', 'after judgements: told is done');
SELECT is_empty($$SELECT * FROM cdp.verify_identity() WHERE check_name IN ('apart', 'limit', 'alias', 'alias_depth')$$, 'and all is sound');
SELECT * FROM finish();
ROLLBACK;
