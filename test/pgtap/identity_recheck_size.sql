-- Properties of the re-check where cdp.max_profiles_per_customer bites: the partition is that of a plain replay, whatever
-- the order of arrival and whatever profiles earlier splits have left; it predicts itself, converges, and goes back with
-- the rules, the bound itself among them.
\set seed `echo ${CDP_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d " ")}`
BEGIN;
SELECT plan(30);
SELECT diag('identity_recheck_size: seed ' || :'seed');
SELECT setseed(:seed::float8 / 65536) \g /dev/null
SET LOCAL client_min_messages = warning;
SET LOCAL cdp.last_seen_resolution = 0;
SET LOCAL cdp.generic_after = 10000;
SELECT 5 + floor(random() * 26)::int AS cap \gset
SELECT diag('profiles per customer: ' || :cap);
SET LOCAL cdp.max_profiles_per_customer = :cap;
INSERT INTO cdp.identifier_kind (kind, priority, own_profile, max_per_customer, max_window) VALUES
	('t_member', 1, true, NULL, NULL), ('t_phone', 5, false, 6, NULL), ('t_device', 8, false, 3, '20 days'), ('t_cookie', 9, false, NULL, NULL);

-- one giant component: sightings of one to three identifiers, some at the same moment
CREATE TEMP TABLE sighting AS
SELECT i, '2026-01-01Z'::timestamptz + (i - i % 2) * interval '3 hours' AS at,
	(SELECT jsonb_object_agg(k, k || floor(random() * n + i * 0)::int) FROM
		(SELECT k, n FROM (VALUES ('t_member', 60), ('t_phone', 40), ('t_device', 40), ('t_cookie', 80)) v(k, n)
		 ORDER BY random() + i * 0 LIMIT 1 + i % 3) x) AS seen
FROM generate_series(1, 450) i;
CREATE TEMP TABLE node AS
SELECT key AS kind, value, min(at) AS born, max(at) AS last_seen FROM sighting, jsonb_each_text(seen) GROUP BY 1, 2;
CREATE TEMP TABLE pair AS
SELECT x.value AS a, y.value AS b, min(at) AS at
FROM sighting, jsonb_each_text(seen) x, jsonb_each_text(seen) y WHERE x.value < y.value GROUP BY 1, 2;

CREATE FUNCTION pg_temp.as_seen(seen jsonb, p text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_object_agg(key, p || value) FROM jsonb_each_text(seen) $$;
CREATE FUNCTION pg_temp.partition(p text) RETURNS TABLE (node text, label text) LANGUAGE sql AS $$
	SELECT n, min(n) OVER (PARTITION BY c) FROM (
		SELECT substr(i.value, 2) AS n, cdp.customer_id(i.profile_id) AS c
		FROM cdp.identifier i WHERE i.kind LIKE 't\_%' AND i.value LIKE p || '%' AND i.valid_to IS NULL) x $$;

-- the replay in plain SQL.  It counts the profiles that the evidence makes: one per identifier, but none for a weak one
-- that was first seen beside an older one of the same customer, or at one moment with a stronger one.
CREATE FUNCTION pg_temp.replay() RETURNS TABLE (node text, label text) LANGUAGE plpgsql AS $$
DECLARE
	cap int := current_setting('cdp.max_profiles_per_customer');
	p record;
	x text;
	y text;
	after int;
	fewer int;
BEGIN
	CREATE TEMP TABLE IF NOT EXISTS l AS SELECT n.*, n.value AS label, 1 AS makes, k.priority, k.max_per_customer, k.max_window, k.own_profile
		FROM node n JOIN cdp.identifier_kind k USING (kind) LIMIT 0;
	DELETE FROM l;
	INSERT INTO l SELECT n.*, n.value, 1, k.priority, k.max_per_customer, k.max_window, k.own_profile FROM node n JOIN cdp.identifier_kind k USING (kind);
	FOR p IN
		SELECT q.at, strong.value AS a, weak.value AS b, CASE WHEN NOT young.own_profile AND young.born >= q.at THEN young.value END AS guest
		FROM pair q
		CROSS JOIN LATERAL (SELECT * FROM l WHERE l.value IN (q.a, q.b) ORDER BY l.priority, l.kind COLLATE "C", l.value COLLATE "C" LIMIT 1) strong
		CROSS JOIN LATERAL (SELECT * FROM l WHERE l.value IN (q.a, q.b) AND l.value <> strong.value) weak
		CROSS JOIN LATERAL (SELECT * FROM l WHERE l.value IN (q.a, q.b) ORDER BY l.born DESC, l.value = strong.value LIMIT 1) young
		ORDER BY strong.priority, weak.priority, q.at, strong.kind COLLATE "C", strong.value COLLATE "C", weak.kind COLLATE "C", weak.value COLLATE "C"
	LOOP
		SELECT l.label INTO x FROM l WHERE l.value = p.a;
		SELECT l.label INTO y FROM l WHERE l.value = p.b;
		IF x <> y THEN
			fewer := coalesce((SELECT l.makes FROM l WHERE l.value = p.guest), 0);
			SELECT sum(l.makes) - fewer INTO after FROM l WHERE l.label IN (x, y);
			CONTINUE WHEN after > cap OR EXISTS (SELECT FROM l
				WHERE l.label IN (x, y) AND (l.max_window IS NULL OR l.last_seen >= p.at - l.max_window)
				GROUP BY l.kind, l.max_per_customer HAVING count(*) > l.max_per_customer
				AND count(*) FILTER (WHERE l.label = x) > 0 AND count(*) FILTER (WHERE l.label = y) > 0);
			UPDATE l SET label = x WHERE l.label = y;
		END IF;
		UPDATE l SET makes = 0 WHERE l.value = p.guest;
	END LOOP;
	RETURN QUERY SELECT l.value, min(l.value) OVER (PARTITION BY l.label) FROM l;
END $$;

-- predicted, done, done again, and what a plain replay says
CREATE TEMP TABLE predicted (profile_id bigint, customer_before bigint, customer_after bigint, reason text, n bigint);
CREATE FUNCTION pg_temp.recheck(what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM predicted;
	INSERT INTO predicted SELECT * FROM cdp.recheck_identity() WITH ORDINALITY;
	RETURN NEXT results_eq('SELECT * FROM cdp.recheck_identity(dry_run => false)',
		'SELECT profile_id, customer_before, customer_after, reason FROM predicted ORDER BY n', what || ': as predicted');
	RETURN NEXT is_empty('SELECT * FROM cdp.recheck_identity(dry_run => false)', what || ': a second call has nothing to do');
	RETURN NEXT set_eq('SELECT * FROM pg_temp.partition(''A'')', 'SELECT * FROM pg_temp.replay()', what || ': it is the replay');
	RETURN NEXT set_eq('SELECT * FROM pg_temp.partition(''B'') UNION ALL SELECT * FROM pg_temp.partition(''C'')',
		'SELECT * FROM pg_temp.partition(''A'')', what || ': in whatever order it came');
	RETURN NEXT is_empty('SELECT * FROM cdp.verify_identity()', what || ': sound');
END $$;

SELECT count(cdp.identify(pg_temp.as_seen(seen, 'A'), occurred_at => at)) FROM (SELECT * FROM sighting ORDER BY i) s \g /dev/null
SELECT count(cdp.identify(pg_temp.as_seen(seen, 'B'), occurred_at => at)) FROM (SELECT * FROM sighting ORDER BY random()) s \g /dev/null
SELECT count(*) FROM (SELECT jsonb_agg(jsonb_build_object('identifiers', pg_temp.as_seen(seen, 'C'), 'occurred_at', at) ORDER BY i % 3, i DESC) AS items
	FROM sighting GROUP BY i % 7) b, LATERAL cdp.identify_many(b.items) \g /dev/null
SELECT pg_temp.recheck('as it came');
SELECT cmp_ok((SELECT count(*) FROM cdp.identity_link WHERE refusal = 'customer_too_large'), '>', 20::bigint, 'the bound bites');
CREATE TEMP TABLE loose AS SELECT * FROM pg_temp.partition('A');
UPDATE cdp.identifier_kind SET max_per_customer = 1 WHERE kind IN ('t_phone', 't_device');
SELECT pg_temp.recheck('a rule tightened');
UPDATE cdp.identifier_kind SET max_per_customer = CASE kind WHEN 't_phone' THEN 6 ELSE 3 END WHERE kind IN ('t_phone', 't_device');
SELECT pg_temp.recheck('loosened');
SELECT set_eq('SELECT * FROM pg_temp.partition(''A'')', 'SELECT * FROM loose', '… the partition is the first one');
-- the bound is a rule, too
SET LOCAL cdp.max_profiles_per_customer = 2;
SELECT pg_temp.recheck('the bound lowered');
SET LOCAL cdp.max_profiles_per_customer = :cap;
SELECT pg_temp.recheck('raised again');
SELECT set_eq('SELECT * FROM pg_temp.partition(''C'')', 'SELECT * FROM loose', '… the partition is the first one');

-- where evidence comes in canonical order, identify() decides as the re-check does
SELECT count(cdp.identify(jsonb_build_object('t_member', 'Z' || m, 't_cookie', 'Z' || c), occurred_at => '2026-06-01Z'::timestamptz + i * interval '1 minute'))
FROM (SELECT i, floor(random() * 150)::int AS m, floor(random() * 100)::int AS c FROM generate_series(1, 400) i ORDER BY i) s \g /dev/null
SELECT cmp_ok((SELECT count(*) FROM cdp.identity_link l JOIN cdp.identifier i ON i.identifier_id = l.identifier_a
	WHERE l.refusal = 'customer_too_large' AND i.value LIKE 'Z%'), '>', 5::bigint, 'a stream in canonical order that the bound cuts');
SELECT is_empty('SELECT * FROM cdp.recheck_identity()', '… leaves nothing to do');
SELECT * FROM finish();
ROLLBACK;
