-- Properties of identify under rules: whatever way a random stream with limits, windows, recycled and generic
-- identifiers is cut into calls, every table ends the same, and no limit is ever broken.
\set seed `echo ${CDP_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d " ")}`
BEGIN;
SELECT plan(12);
SELECT diag('identity_limits: seed ' || :'seed');
SELECT setseed(:seed::float8 / 65536) \g /dev/null
SET LOCAL client_min_messages = warning;
SET LOCAL cdp.generic_after = 4;
SET LOCAL cdp.now = '2026-03-01 09:00:00+08';
INSERT INTO cdp.identifier_kind (kind, priority, max_per_customer, max_window, ttl, own_profile) VALUES
	('t_member', 1, 1, NULL, NULL, true), ('t_union', 2, 2, NULL, NULL, true),
	('t_phone', 5, 2, NULL, '60 days', false), ('t_browser', 8, 3, '20 days', NULL, false), ('t_device', 9, NULL, NULL, NULL, false);

-- 700 sightings of 1 to 4 identifiers out of few values, a year long, some of them late
CREATE TEMP TABLE sighting AS
SELECT i, timestamptz '2025-03-01 00:00+08' + i * interval '12 hours' - (random() < 0.1)::int * interval '40 days' AS at,
	(SELECT jsonb_object_agg(k, 'v' || floor(random() * CASE k WHEN 't_device' THEN 12 ELSE 60 END + i * 0)::int) FROM
	(SELECT k FROM unnest(ARRAY['t_member', 't_union', 't_phone', 't_browser', 't_device']) k
	 ORDER BY random() + i * 0 LIMIT 1 + (random() * 3 + i * 0)::int) x) AS seen
FROM generate_series(1, 700) i;
CREATE FUNCTION pg_temp.with_prefix(seen jsonb, p text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_object_agg(key, p || '-' || value) FROM jsonb_each_text(seen) $$;
CREATE FUNCTION pg_temp.feed(p text, n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE b jsonb;
BEGIN
	FOR b IN SELECT jsonb_agg(jsonb_build_object('identifiers', pg_temp.with_prefix(seen, p), 'occurred_at', at, 'source', p) ORDER BY i)
		FROM sighting GROUP BY i / n ORDER BY i / n
	LOOP
		PERFORM cdp.identify_many(b, 'skip');
	END LOOP;
END $$;
SELECT pg_temp.feed('one', 1) \g /dev/null
SELECT pg_temp.feed('few', 7) \g /dev/null
SELECT pg_temp.feed('all', 1000) \g /dev/null

-- the rows of identifiers, each incarnation with the first identifier of its customer, without ids
CREATE FUNCTION pg_temp.ident(p text) RETURNS TABLE (k text, v text, first timestamptz, last timestamptz, closed timestamptz, generic boolean, profile text, customer text) LANGUAGE sql AS $$
	SELECT kind, substr(value, 5), first_seen, last_seen, valid_to, generic_since IS NOT NULL,
		min(kind || value || first_seen) OVER (PARTITION BY profile_id), min(kind || substr(value, 5) || first_seen) OVER (PARTITION BY cdp.customer_id(profile_id))
	FROM (SELECT i.kind, substr(i.value, 5) AS value, i.first_seen, i.last_seen, i.valid_to, i.generic_since, i.profile_id FROM cdp.identifier i WHERE i.value LIKE p || '-%') i $$;
CREATE FUNCTION pg_temp.link(p text) RETURNS TABLE (a text, b text, at timestamptz, refusal text, rule text, merged boolean) LANGUAGE sql AS $$
	SELECT least(x, y), greatest(x, y), occurred_at, refusal, rule, merge_id IS NOT NULL FROM (
		SELECT i.kind || substr(i.value, 5) || coalesce(i.valid_to::text, '') AS x, j.kind || substr(j.value, 5) || coalesce(j.valid_to::text, '') AS y, l.*
		FROM cdp.identity_link l JOIN cdp.identifier i ON i.identifier_id = l.identifier_a JOIN cdp.identifier j ON j.identifier_id = l.identifier_b
		WHERE i.value LIKE p || '-%') e $$;
CREATE FUNCTION pg_temp.refused(p text) RETURNS TABLE (reason text, kind text, what text, occurred_at timestamptz, times bigint) LANGUAGE sql AS $$
	SELECT r.reason, r.kind, i.kind || substr(i.value, 5) || coalesce(i.valid_to::text, ''), r.occurred_at, r.times
	FROM cdp.merge_refusal r JOIN cdp.identifier i USING (identifier_id) WHERE i.value LIKE p || '-%' $$;
SELECT bag_eq('SELECT * FROM pg_temp.ident(''few'')', 'SELECT * FROM pg_temp.ident(''one'')', 'identifiers: sevens are as one by one');
SELECT bag_eq('SELECT * FROM pg_temp.ident(''all'')', 'SELECT * FROM pg_temp.ident(''one'')', 'identifiers: one batch is as one by one');
SELECT bag_eq('SELECT * FROM pg_temp.link(''few'')', 'SELECT * FROM pg_temp.link(''one'')', 'evidence: sevens are as one by one');
SELECT bag_eq('SELECT * FROM pg_temp.link(''all'')', 'SELECT * FROM pg_temp.link(''one'')', 'evidence: one batch is as one by one');
SELECT bag_eq('SELECT * FROM pg_temp.refused(''few'')', 'SELECT * FROM pg_temp.refused(''one'')', 'refusals: sevens are as one by one');
SELECT bag_eq('SELECT * FROM pg_temp.refused(''all'')', 'SELECT * FROM pg_temp.refused(''one'')', 'refusals: one batch is as one by one');
SELECT ok(count(*) > 10, 'the stream meets limits') FROM pg_temp.refused('one') WHERE reason = 'limit';
SELECT ok(count(*) > 0, '... generic values') FROM pg_temp.refused('one') WHERE reason = 'generic_value';
SELECT ok(count(*) > 0, '... and recycled ones') FROM pg_temp.ident('one') WHERE closed IS NOT NULL;
SELECT is_empty($$
	SELECT cdp.customer_id(i.profile_id), i.kind FROM cdp.identifier i JOIN cdp.identifier_kind k USING (kind)
	WHERE i.valid_to IS NULL AND i.generic_since IS NULL AND k.max_window IS NULL GROUP BY 1, 2, k.max_per_customer HAVING count(*) > k.max_per_customer $$, 'no limit is broken');
SELECT is_empty($$
	SELECT l.link_id FROM cdp.identity_link l JOIN cdp.identifier a ON a.identifier_id = l.identifier_a JOIN cdp.identifier b ON b.identifier_id = l.identifier_b
	WHERE l.relation = 'same' AND l.revoked_at IS NULL AND l.refusal IS NULL AND cdp.customer_id(a.profile_id) <> cdp.customer_id(b.profile_id) $$,
	'what is followed is one customer');
SELECT is_empty('SELECT kind, value FROM cdp.identifier WHERE valid_to IS NULL GROUP BY 1, 2 HAVING count(*) > 1', 'one live row per value');
SELECT * FROM finish();
ROLLBACK;
