-- Properties of the re-check over evidence that nobody would make: weights without bounds, judgements of all sorts, one pair
-- many times, revoked and refused, profiles that hold anybody; under rules that change at random, and back.  Each time it is
-- a plain replay, wherever the identifiers sat, predicts itself, converges, and leaves a sound partition.
\set seed `echo ${CDP_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d " ")}`
BEGIN;
SELECT plan(37);
SELECT diag('identity_recheck_hostile: seed ' || :'seed');
SELECT setseed(:seed::float8 / 65536) \g /dev/null
SET LOCAL client_min_messages = warning;
INSERT INTO cdp.identifier_kind (kind, priority, own_profile) VALUES ('t_a', 1, true), ('t_b', 2, true), ('t_c', 3, false), ('t_d', 4, false), ('t_e', 5, false);

CREATE TEMP TABLE node AS
SELECT kind, kind || i AS value, '2026-01-01Z'::timestamptz + floor(random() * 60) * interval '1 day' AS first_seen,
	'2026-03-02Z'::timestamptz + floor(random() * 60) * interval '1 day' AS last_seen, random() < 0.05 AS generic
FROM unnest('{t_a,t_b,t_c,t_d,t_e}'::text[]) kind, generate_series(1, 24) i;
-- e tells rows apart that say the same; of one pair and relation only one is followed
CREATE TEMP TABLE evidence AS
SELECT *, revoked OR refusal IS NOT NULL OR row_number() OVER (PARTITION BY a, b, relation, revoked, refusal IS NULL ORDER BY e) = 1 AS possible FROM (
	SELECT e, least(x, y) AS a, greatest(x, y) AS b, relation, CASE relation WHEN 'same' THEN rule ELSE 'manual' END AS rule,
		CASE WHEN relation = 'same' AND rule <> 'test' THEN weight END AS weight, relation = 'same' AND rule = 'manual' AND overrides AS overrides,
		at, CASE relation WHEN 'same' THEN refusal END AS refusal, revoked
	FROM (SELECT e, (SELECT value FROM node ORDER BY random() + e * 0 LIMIT 1) AS x, (SELECT value FROM node ORDER BY random() + e * 0 LIMIT 1) AS y,
		(ARRAY['apart', 'household', 'same', 'same', 'same', 'same', 'same', 'same', 'same', 'same'])[1 + floor(random() * 10)] AS relation,
		(ARRAY['test', 'test', 'test', 'manual', 'match:m'])[1 + floor(random() * 5)] AS rule,
		(ARRAY['Infinity', '-Infinity', 'NaN', '0', '-3.5', '12', '12', NULL, (random() * 10)::text])[1 + floor(random() * 9)]::float8 AS weight,
		random() < 0.3 AS overrides, '2026-01-01Z'::timestamptz + floor(random() * 90) * interval '1 day' AS at,
		CASE WHEN random() < 0.4 THEN (ARRAY['limit', 'kept_apart', 'customer_too_large'])[1 + floor(random() * 3)] END AS refusal,
		random() < 0.1 AS revoked FROM generate_series(1, 260) e) r
	WHERE x <> y) s;
DELETE FROM evidence WHERE NOT possible;
-- what is generic stays with its profile, and so does what was judged of it
DELETE FROM evidence WHERE relation = 'apart' AND EXISTS (SELECT FROM node n WHERE n.value IN (a, b) AND n.generic);
INSERT INTO evidence SELECT e + 1000, a, b, relation, rule, weight, overrides, at + interval '1 day', 'limit', false FROM evidence WHERE relation = 'same' AND random() < 0.2;

-- identifiers in any profile; profiles that had others once
CREATE FUNCTION pg_temp.make_world(p text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	n record;
	mine bigint[] := '{}';
	profile bigint;
BEGIN
	FOR n IN SELECT * FROM node ORDER BY random() LOOP
		IF random() < 0.6 OR mine = '{}' THEN
			INSERT INTO cdp.profile (created_at) VALUES (n.first_seen) RETURNING profile_id INTO profile;
			mine := mine || profile;
		ELSE
			profile := mine[1 + floor(random() * cardinality(mine))];
		END IF;
		INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen, generic_since)
		VALUES (n.kind, p || n.value, profile, n.first_seen, n.last_seen, CASE WHEN n.generic THEN n.last_seen END);
		INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen, valid_to)
		SELECT 't_e', p || 'was' || n.value, profile, n.first_seen, n.first_seen, n.last_seen WHERE random() < 0.1;
	END LOOP;
	INSERT INTO cdp.identity_link (identifier_a, identifier_b, relation, rule, weight, overrides_limits, occurred_at, refusal, revoked_at)
	SELECT least(i.identifier_id, j.identifier_id), greatest(i.identifier_id, j.identifier_id), q.relation, q.rule, q.weight, q.overrides, q.at,
		CASE WHEN q.relation = 'same' THEN coalesce(q.refusal, CASE WHEN i.generic_since IS NOT NULL OR j.generic_since IS NOT NULL THEN 'limit' END) END,
		CASE WHEN q.revoked THEN q.at END
	FROM (SELECT * FROM evidence ORDER BY random()) q
	JOIN cdp.identifier i ON i.value = p || q.a AND i.kind LIKE 't\__' JOIN cdp.identifier j ON j.value = p || q.b AND j.kind LIKE 't\__';
END $$;
SELECT pg_temp.make_world('A'), pg_temp.make_world('B') \g /dev/null

CREATE FUNCTION pg_temp.partition(p text) RETURNS TABLE (node text, label text) LANGUAGE sql AS $$
	SELECT n, min(n) OVER (PARTITION BY c) FROM (
		SELECT substr(i.value, 2) AS n, cdp.customer_id(i.profile_id) AS c FROM cdp.identifier i
		WHERE i.kind LIKE 't\__' AND i.value LIKE p || '%' AND i.valid_to IS NULL AND i.generic_since IS NULL) x $$;
CREATE FUNCTION pg_temp.replay() RETURNS TABLE (node text, label text) LANGUAGE plpgsql AS $$
DECLARE
	cap int := current_setting('cdp.max_profiles_per_customer');
	p record;
	x text;
	y text;
	fewer int;
	made int[];
BEGIN
	DROP TABLE IF EXISTS l;
	CREATE TEMP TABLE l AS SELECT n.*, least(n.first_seen, (SELECT min(q.at) FROM evidence q WHERE n.value IN (q.a, q.b) AND q.rule = 'test' AND NOT q.revoked
			AND NOT EXISTS (SELECT FROM node g WHERE g.value IN (q.a, q.b) AND g.generic))) AS born,
		n.value AS label, 1 AS makes, k.priority, k.max_per_customer, k.max_window, k.own_profile
	FROM node n JOIN cdp.identifier_kind k USING (kind) WHERE NOT n.generic;
	FOR p IN
		SELECT q.at, q.overrides, strong.value AS a, weak.value AS b, CASE WHEN q.rule = 'test' AND NOT young.own_profile AND young.born >= q.at THEN young.value END AS guest
		FROM evidence q
		CROSS JOIN LATERAL (SELECT * FROM l WHERE l.value IN (q.a, q.b) ORDER BY l.priority, l.kind COLLATE "C", l.value COLLATE "C" LIMIT 1) strong
		CROSS JOIN LATERAL (SELECT * FROM l WHERE l.value IN (q.a, q.b) AND l.value <> strong.value) weak
		CROSS JOIN LATERAL (SELECT * FROM l WHERE l.value IN (q.a, q.b) ORDER BY l.born DESC, l.value = strong.value LIMIT 1) young
		WHERE q.relation = 'same' AND NOT q.revoked
		ORDER BY q.overrides, q.weight IS NOT NULL, q.weight DESC, strong.priority, weak.priority, q.at, strong.kind COLLATE "C", strong.value COLLATE "C",
			weak.kind COLLATE "C", weak.value COLLATE "C", q.e
	LOOP
		SELECT l.label INTO x FROM l WHERE l.value = p.a;
		SELECT l.label INTO y FROM l WHERE l.value = p.b;
		IF x <> y THEN
			CONTINUE WHEN EXISTS (SELECT FROM evidence o JOIN l i ON i.value = o.a JOIN l j ON j.value = o.b
				WHERE o.relation = 'apart' AND NOT o.revoked AND (i.label, j.label) IN ((x, y), (y, x)));
			fewer := coalesce((SELECT l.makes FROM l WHERE l.value = p.guest), 0);
			made := ARRAY[(SELECT sum(l.makes) FROM l WHERE l.label = x), (SELECT sum(l.makes) FROM l WHERE l.label = y)];
			CONTINUE WHEN NOT p.overrides AND (
				(made[1] + made[2] - fewer > cap AND made[1] + made[2] - fewer > greatest(made[1], made[2]))
				OR EXISTS (SELECT FROM l WHERE l.label IN (x, y) AND (l.max_window IS NULL OR l.last_seen >= p.at - l.max_window)
					GROUP BY l.kind, l.max_per_customer HAVING count(*) > l.max_per_customer
					AND count(*) FILTER (WHERE l.label = x) > 0 AND count(*) FILTER (WHERE l.label = y) > 0));
			UPDATE l SET label = x WHERE l.label = y;
		END IF;
		UPDATE l SET makes = 0 WHERE l.value = p.guest;
	END LOOP;
	RETURN QUERY SELECT l.value, min(l.value) OVER (PARTITION BY l.label) FROM l;
END $$;

CREATE TEMP TABLE predicted (profile_id bigint, customer_before bigint, customer_after bigint, reason text, n bigint);
CREATE FUNCTION pg_temp.recheck(what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM predicted;
	INSERT INTO predicted SELECT * FROM cdp.recheck_identity() WITH ORDINALITY;
	RETURN NEXT results_eq('SELECT * FROM cdp.recheck_identity(''-infinity'', dry_run => false)',
		'SELECT profile_id, customer_before, customer_after, reason FROM predicted ORDER BY n', what || ': as predicted');
	RETURN NEXT is_empty('SELECT * FROM cdp.recheck_identity(dry_run => false)', what || ': a second call has nothing to do');
	RETURN NEXT set_eq('SELECT * FROM pg_temp.partition(''A'')', 'SELECT * FROM pg_temp.replay()', what || ': it is the replay');
	RETURN NEXT set_eq('SELECT * FROM pg_temp.partition(''B'')', 'SELECT * FROM pg_temp.partition(''A'')', what || ': wherever the identifiers sat');
	RETURN NEXT is_empty('SELECT * FROM cdp.verify_identity()', what || ': sound');
END $$;
-- any priority, bound, window and size; whether a kind has profiles of its own is known to the profiles only
CREATE FUNCTION pg_temp.change_rules() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE cdp.identifier_kind SET priority = 1 + floor(random() * 3), max_per_customer = (ARRAY[NULL, 1, 2, 3, 6])[1 + floor(random() * 5)]::int,
		max_window = CASE WHEN random() < 0.4 THEN '1 day'::interval * (1 + floor(random() * 60)) END WHERE kind LIKE 't\__';
	PERFORM set_config('cdp.max_profiles_per_customer', (2 + floor(random() * 20))::text, true);
END $$;

SELECT pg_temp.change_rules() \g /dev/null
CREATE TEMP TABLE rule AS SELECT kind, priority, max_per_customer, max_window, current_setting('cdp.max_profiles_per_customer') AS cap FROM cdp.identifier_kind;
SELECT pg_temp.recheck('as it is');
CREATE TEMP TABLE first AS SELECT * FROM pg_temp.partition('A');
SELECT pg_temp.change_rules() \g /dev/null
SELECT pg_temp.recheck('other rules');
SELECT pg_temp.change_rules() \g /dev/null
SELECT pg_temp.recheck('others');
UPDATE cdp.identifier_kind SET max_per_customer = NULL WHERE kind LIKE 't\__';
SET LOCAL cdp.max_profiles_per_customer = 1000;
SELECT pg_temp.recheck('no rules');
SELECT pg_temp.change_rules() \g /dev/null
SELECT pg_temp.recheck('rules again');
UPDATE cdp.identifier_kind SET max_per_customer = 1, max_window = NULL WHERE kind LIKE 't\__';
SET LOCAL cdp.max_profiles_per_customer = 2;
SELECT pg_temp.recheck('hardly anything');
UPDATE cdp.identifier_kind k SET priority = r.priority, max_per_customer = r.max_per_customer, max_window = r.max_window FROM rule r WHERE r.kind = k.kind AND k.kind LIKE 't\__';
SELECT set_config('cdp.max_profiles_per_customer', cap, true) FROM rule LIMIT 1 \g /dev/null
SELECT pg_temp.recheck('the first rules');
SELECT set_eq('SELECT * FROM pg_temp.partition(''A'')', 'SELECT * FROM first', '… the partition is the first one');
SELECT is((SELECT count(*) FROM first f WHERE label <> node) > 20, true, '… and it was one of customers');
SELECT * FROM finish();
ROLLBACK;
