-- Properties of the re-check over random evidence: it is a plain replay in canonical order, whatever order the evidence
-- came in and wherever its identifiers sat; it predicts itself, converges, and goes back with the rules.
\set seed `echo ${CDP_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d " ")}`
BEGIN;
SELECT plan(22);
SELECT diag('identity_recheck: seed ' || :'seed');
SELECT setseed(:seed::float8 / 65536) \g /dev/null
SET LOCAL client_min_messages = warning;
INSERT INTO cdp.identifier_kind (kind, priority, own_profile, max_per_customer, max_window) VALUES
	('t_member', 1, true, NULL, NULL), ('t_phone', 5, false, 2, NULL), ('t_mail', 5, false, 3, NULL), ('t_device', 8, false, 2, '20 days'),
	('t_cookie', 9, false, NULL, NULL);

-- 160 identifiers; pairs of them seen together, some only probable, some kept apart
CREATE TEMP TABLE node AS
SELECT kind, kind || i AS value, '2026-01-01Z'::timestamptz + random() * interval '60 days' AS first_seen,
	'2026-03-02Z'::timestamptz + random() * interval '60 days' AS last_seen
FROM unnest('{t_member,t_phone,t_mail,t_device,t_cookie}'::text[]) kind, generate_series(1, 32) i;
CREATE TEMP TABLE pair AS
SELECT DISTINCT ON (a, b) * FROM (
	SELECT least(x.value, y.value) AS a, greatest(x.value, y.value) AS b,
		CASE WHEN random() < 0.04 THEN 'apart' ELSE 'same' END AS relation,
		CASE WHEN random() < 0.15 THEN round((random() * 12)::numeric, 1)::float8 END AS weight,
		'2026-01-01Z'::timestamptz + floor(random() * 90) * interval '1 day' AS at,
		CASE WHEN random() < 0.3 THEN (ARRAY['limit', 'kept_apart', 'customer_too_large'])[1 + floor(random() * 3)] END AS refusal
	FROM generate_series(1, 210) i,
		LATERAL (SELECT n.value FROM node n ORDER BY random() + i * 0 LIMIT 1) x,
		LATERAL (SELECT n.value FROM node n ORDER BY random() + i * 0 LIMIT 1) y
	WHERE x.value <> y.value) p
ORDER BY a, b;

-- the same evidence as it may stand in the database: any order of ids, weak identifiers in any profile
CREATE FUNCTION pg_temp.make_world(p text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	n record;
	mine bigint[] := '{}';
	profile bigint;
BEGIN
	FOR n IN SELECT * FROM node ORDER BY random() LOOP
		IF n.kind = 't_member' OR random() < 0.5 OR mine = '{}' THEN
			INSERT INTO cdp.profile (created_at) VALUES (n.first_seen) RETURNING profile_id INTO profile;
			mine := mine || profile;
		ELSE
			profile := mine[1 + floor(random() * cardinality(mine))];
		END IF;
		INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen) VALUES (n.kind, p || n.value, profile, n.first_seen, n.last_seen);
	END LOOP;
	INSERT INTO cdp.identity_link (identifier_a, identifier_b, relation, rule, weight, occurred_at, refusal)
	SELECT least(i.identifier_id, j.identifier_id), greatest(i.identifier_id, j.identifier_id), q.relation, 'test', q.weight, q.at,
		CASE q.relation WHEN 'same' THEN q.refusal END
	FROM (SELECT * FROM pair ORDER BY random()) q
	JOIN cdp.identifier i ON i.value = p || q.a AND i.kind LIKE 't\_%' JOIN cdp.identifier j ON j.value = p || q.b AND j.kind LIKE 't\_%';
END $$;
SELECT pg_temp.make_world('A'), pg_temp.make_world('B') \g /dev/null

-- label of an identifier: the smallest it shares a customer with
CREATE FUNCTION pg_temp.partition(p text) RETURNS TABLE (node text, label text) LANGUAGE sql AS $$
	SELECT n, min(n) OVER (PARTITION BY c) FROM (
		SELECT substr(i.value, 2) AS n, cdp.customer_id(i.profile_id) AS c
		FROM cdp.identifier i WHERE i.kind LIKE 't\_%' AND i.value LIKE p || '%' AND i.valid_to IS NULL) x $$;

-- the replay once more, in plain SQL over values
CREATE FUNCTION pg_temp.replay() RETURNS TABLE (node text, label text) LANGUAGE plpgsql AS $$
DECLARE
	p record;
	x text;
	y text;
BEGIN
	CREATE TEMP TABLE IF NOT EXISTS l AS SELECT n.*, n.value AS label, k.priority, k.max_per_customer, k.max_window
		FROM node n JOIN cdp.identifier_kind k USING (kind) LIMIT 0;
	DELETE FROM l;
	INSERT INTO l SELECT n.*, n.value, k.priority, k.max_per_customer, k.max_window FROM node n JOIN cdp.identifier_kind k USING (kind);
	FOR p IN
		SELECT q.at, strong.value AS a, weak.value AS b FROM pair q
		CROSS JOIN LATERAL (SELECT * FROM l WHERE l.value IN (q.a, q.b) ORDER BY l.priority, l.kind COLLATE "C", l.value COLLATE "C" LIMIT 1) strong
		CROSS JOIN LATERAL (SELECT * FROM l WHERE l.value IN (q.a, q.b) AND l.value <> strong.value) weak
		WHERE q.relation = 'same'
		ORDER BY q.weight IS NOT NULL, q.weight DESC, strong.priority, weak.priority, q.at, strong.kind COLLATE "C", strong.value COLLATE "C",
			weak.kind COLLATE "C", weak.value COLLATE "C"
	LOOP
		SELECT l.label INTO x FROM l WHERE l.value = p.a;
		SELECT l.label INTO y FROM l WHERE l.value = p.b;
		CONTINUE WHEN x = y
			OR EXISTS (SELECT FROM pair o JOIN l i ON i.value = o.a JOIN l j ON j.value = o.b
				WHERE o.relation = 'apart' AND (i.label, j.label) IN ((x, y), (y, x)))
			OR EXISTS (SELECT FROM l WHERE l.label IN (x, y) AND (l.max_window IS NULL OR l.last_seen >= p.at - l.max_window)
				GROUP BY l.kind, l.max_per_customer HAVING count(*) > l.max_per_customer
				AND count(*) FILTER (WHERE l.label = x) > 0 AND count(*) FILTER (WHERE l.label = y) > 0);
		UPDATE l SET label = x WHERE l.label = y;
	END LOOP;
	RETURN QUERY SELECT l.value, min(l.value) OVER (PARTITION BY l.label) FROM l;
END $$;

-- predicted, done, done again
-- n: a table keeps no order
CREATE TEMP TABLE predicted AS SELECT * FROM cdp.recheck_identity() WITH ORDINALITY r(profile_id, customer_before, customer_after, reason, n);
SELECT ok((SELECT count(*) > 20 FROM predicted), 'the evidence changes something');
SELECT results_eq('SELECT * FROM cdp.recheck_identity(''-infinity'')', 'SELECT profile_id, customer_before, customer_after, reason FROM predicted ORDER BY n', 'what was touched ever is all');
SELECT is_empty('SELECT * FROM cdp.recheck_identity(''infinity'')', '… and nothing after all times');
SELECT results_eq('SELECT * FROM cdp.recheck_identity(dry_run => false)', 'SELECT profile_id, customer_before, customer_after, reason FROM predicted ORDER BY n', 'a dry run predicts the real one, row by row');
SELECT is_empty('SELECT * FROM cdp.recheck_identity(dry_run => false)', 'a second one has nothing to do');
SELECT set_eq('SELECT * FROM pg_temp.partition(''A'')', 'SELECT * FROM pg_temp.replay()', 'the partition is that of a plain replay');
SELECT set_eq('SELECT * FROM pg_temp.partition(''B'')', 'SELECT * FROM pg_temp.partition(''A'')', 'the order in which evidence came does not matter');
SELECT is_empty('SELECT * FROM cdp.verify_identity()', 'the partition is sound');
SELECT is_empty($$SELECT l.link_id FROM cdp.identity_link l JOIN cdp.identifier i ON i.identifier_id = l.identifier_a JOIN cdp.identifier j ON j.identifier_id = l.identifier_b
	WHERE l.relation = 'same' AND l.revoked_at IS NULL AND (l.refusal IS NULL) <> (cdp.customer_id(i.profile_id) = cdp.customer_id(j.profile_id))$$,
	'exactly the links inside of customers are followed');

-- rules loosened, tightened, loosened
UPDATE cdp.identifier_kind SET max_per_customer = 4 WHERE kind IN ('t_phone', 't_mail');
SELECT count(*) FROM cdp.recheck_identity(dry_run => false) \g /dev/null
CREATE TEMP TABLE loose AS SELECT * FROM pg_temp.partition('A');
UPDATE cdp.identifier_kind SET max_per_customer = 1 WHERE kind IN ('t_phone', 't_mail');
DELETE FROM predicted;
INSERT INTO predicted SELECT * FROM cdp.recheck_identity() WITH ORDINALITY;
SELECT results_eq('SELECT * FROM cdp.recheck_identity(dry_run => false)', 'SELECT profile_id, customer_before, customer_after, reason FROM predicted ORDER BY n', 'tightened: as predicted');
SELECT set_eq('SELECT * FROM pg_temp.partition(''B'')', 'SELECT * FROM pg_temp.replay()', '… it is the replay');
SELECT is_empty('SELECT * FROM cdp.verify_identity()', '… and sound');
UPDATE cdp.identifier_kind SET max_per_customer = 4 WHERE kind IN ('t_phone', 't_mail');
DELETE FROM predicted;
INSERT INTO predicted SELECT * FROM cdp.recheck_identity() WITH ORDINALITY;
SELECT results_eq('SELECT * FROM cdp.recheck_identity(dry_run => false)', 'SELECT profile_id, customer_before, customer_after, reason FROM predicted ORDER BY n', 'loosened again: as predicted');
SELECT set_eq('SELECT * FROM pg_temp.partition(''A'')', 'SELECT * FROM loose', '… the partition is the first one');

-- the aliases can be had from the links and the log
CREATE TEMP TABLE alias AS SELECT * FROM cdp.profile_alias;
SELECT last FROM cdp._recheck_step(0, 1000000, NULL, true) \g /dev/null
SELECT set_eq('SELECT * FROM cdp.profile_alias', 'SELECT * FROM alias', 'rebuilding changes nothing');
SET LOCAL session_replication_role = replica;
DELETE FROM cdp.profile_alias;
INSERT INTO cdp.profile_alias SELECT profile_id, min(customer_id) FROM alias WHERE profile_id % 3 = 0 GROUP BY 1;
SET LOCAL session_replication_role = origin;
SELECT last FROM cdp._recheck_step(0, 1000000, NULL, true) \g /dev/null
SELECT set_eq('SELECT * FROM cdp.profile_alias', 'SELECT * FROM alias', '… and brings back what was lost, ids included');

-- a stream of sightings in three orders and cuts: identify() may differ on the way, the re-check does not
SET LOCAL cdp.last_seen_resolution = 0;
SET LOCAL cdp.generic_after = 10000;
UPDATE cdp.identifier_kind SET max_per_customer = 2 WHERE kind IN ('t_phone', 't_mail');
CREATE TEMP TABLE sighting AS
SELECT i, '2026-01-01Z'::timestamptz + i * interval '5 hours' AS at,
	(SELECT jsonb_object_agg(k, 's' || k || floor(random() * 60 + i * 0)::int) FROM
		(SELECT k FROM unnest('{t_member,t_phone,t_mail,t_device,t_cookie}'::text[]) k ORDER BY random() + i * 0 LIMIT 2 + (i % 2)) x) AS seen
FROM generate_series(1, 250) i;
CREATE FUNCTION pg_temp.as_seen(seen jsonb, p text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_object_agg(key, p || value) FROM jsonb_each_text(seen) $$;
SELECT count(cdp.identify(pg_temp.as_seen(seen, 'C'), occurred_at => at)) FROM (SELECT * FROM sighting ORDER BY i) s \g /dev/null
SELECT count(cdp.identify(pg_temp.as_seen(seen, 'D'), occurred_at => at)) FROM (SELECT * FROM sighting ORDER BY random()) s \g /dev/null
SELECT count(*) FROM (SELECT jsonb_agg(jsonb_build_object('identifiers', pg_temp.as_seen(seen, 'E'), 'occurred_at', at) ORDER BY i % 3, i DESC) AS items
	FROM sighting GROUP BY i % 7) b, LATERAL cdp.identify_many(b.items) \g /dev/null
SELECT count(*) FROM cdp.recheck_identity(dry_run => false) \g /dev/null
SELECT set_eq('SELECT * FROM pg_temp.partition(''D'')', 'SELECT * FROM pg_temp.partition(''C'')', 'a stream in any order ends in one partition');
SELECT set_eq('SELECT * FROM pg_temp.partition(''E'')', 'SELECT * FROM pg_temp.partition(''C'')', '… in batches, too');
SELECT is_empty('SELECT check_name, detail FROM cdp.verify_identity() UNION ALL SELECT ''recheck'', r::text FROM cdp.recheck_identity() r', '… sound, and with nothing left to do');

-- since: what the evidence of those who were touched reaches
SET LOCAL cdp.now = '2100-01-01 00:00:00+00';
SELECT count(cdp.identify(jsonb_build_object('t_member', 'F' || i, 't_phone', 'F' || i % 200), occurred_at => '2026-01-01Z')) FROM generate_series(1, 400) i \g /dev/null
UPDATE cdp.identifier_kind SET max_per_customer = 1 WHERE kind IN ('t_member', 't_phone', 't_mail');
SET LOCAL cdp.now = '2100-02-01 00:00:00+00';
SELECT count(cdp.identify(pg_temp.as_seen(seen, 'D'), occurred_at => '2100-01-15Z')) FROM sighting WHERE i = 100 \g /dev/null
SELECT cdp.detach_identifier('t_member', 'F7', 'test') AS detached \gset
SELECT cdp.unmerge_customer(cdp.resolve('t_member', 'F8'), 'test') AS parted \gset
CREATE TEMP TABLE place AS SELECT * FROM cdp.connected_components($$
	SELECT l.identifier_a, l.identifier_b FROM cdp.identity_link l WHERE l.relation = 'same' AND l.revoked_at IS NULL
	UNION ALL SELECT i.identifier_id, - cdp.customer_id(i.profile_id) FROM cdp.identifier i$$);
CREATE TEMP TABLE since AS SELECT * FROM cdp.recheck_identity('2100-01-10Z');
CREATE TEMP TABLE every AS SELECT * FROM cdp.recheck_identity();
SELECT set_eq('SELECT * FROM since', $$SELECT e.* FROM every e JOIN place p ON p.node = - e.customer_before WHERE p.component IN (SELECT q.component FROM place q
	JOIN cdp.identifier i ON q.node = - cdp.customer_id(i.profile_id)
	WHERE i.value IN ('F7', 'F8') OR i.last_seen > '2100-01-10Z')$$, 'since: the components that were touched');
SELECT cmp_ok((SELECT count(*) FROM since), '>', 0::bigint, '… they are some');
SELECT cmp_ok((SELECT count(*) FROM since), '<', (SELECT count(*) / 5 FROM every), '… of many');
SELECT * FROM finish();
ROLLBACK;
