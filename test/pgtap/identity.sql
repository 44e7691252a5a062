-- Properties of identify over random streams: however a stream is cut into calls, the same identifiers end up together,
-- and they are the connected components of what was seen together.
\set seed `echo ${CDP_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d " ")}`
BEGIN;
SELECT plan(7);
SELECT diag('identity: seed ' || :'seed');
SELECT setseed(:seed::float8 / 65536) \g /dev/null
SET LOCAL client_min_messages = warning;

-- 600 sightings of 2 or 3 identifiers out of few values: long chains, many merges
CREATE TEMP TABLE sighting AS
SELECT i, (SELECT jsonb_object_agg(k, 'v' || floor(random() * 220 + i * 0)::int) FROM
	(SELECT k FROM unnest(ARRAY['member_id', 'phone', 'device_id', 'anonymous_id', 'wechat_unionid']) k
	 ORDER BY random() + i * 0 LIMIT 2 + (i % 2)) x) AS seen
FROM generate_series(1, 600) i;
-- a phone that the normaliser keeps
UPDATE sighting SET seen = seen || jsonb_build_object('phone', '138' || lpad(substr(seen ->> 'phone', 2), 8, '0')) WHERE seen ? 'phone';

-- the same stream under four prefixes: one by one, in sevens, all at once, and backwards
CREATE FUNCTION pg_temp.with_prefix(seen jsonb, p text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_object_agg(key, CASE key WHEN 'phone' THEN '13' || p || substr(value, 4) ELSE p || '-' || value END) FROM jsonb_each_text(seen) $$;
SELECT count(cdp.identify(pg_temp.with_prefix(seen, '6'))) FROM (SELECT * FROM sighting ORDER BY i) s \g /dev/null
SELECT count(*) FROM (SELECT jsonb_agg(jsonb_build_object('identifiers', pg_temp.with_prefix(seen, '7')) ORDER BY i) AS items FROM sighting GROUP BY i / 7 ORDER BY i / 7) b,
	LATERAL cdp.identify_many(b.items) \g /dev/null
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', pg_temp.with_prefix(seen, '8')) ORDER BY i) FROM sighting)) \g /dev/null
SELECT count(cdp.identify(pg_temp.with_prefix(seen, '9'))) FROM (SELECT * FROM sighting ORDER BY i DESC) s \g /dev/null

-- label of an identifier: the smallest identifier text it shares a customer with
CREATE FUNCTION pg_temp.partition(p text) RETURNS TABLE (node text, label text) LANGUAGE sql AS $$
	SELECT n, min(n) OVER (PARTITION BY c) FROM (
		SELECT i.kind || '/' || CASE i.kind WHEN 'phone' THEN substr(i.value, 7) ELSE substr(i.value, 3) END AS n, cdp.customer_id(i.profile_id) AS c
		FROM cdp.identifier i WHERE CASE i.kind WHEN 'phone' THEN i.value LIKE '+8613' || p || '%' ELSE i.value LIKE p || '-v%' END) x $$;
-- closure by plain label propagation
CREATE TEMP TABLE edge AS
	SELECT s.i, kind || '/' || CASE kind WHEN 'phone' THEN substr(value, 4) ELSE value END AS node FROM sighting s, jsonb_each_text(s.seen) AS e(kind, value);
CREATE TEMP TABLE label AS SELECT DISTINCT node, node AS label FROM edge;
DO $$
DECLARE n bigint := 1;
BEGIN
	WHILE n > 0 LOOP
		UPDATE label l SET label = m.low FROM (
			SELECT e.node, min(w.low) AS low FROM edge e
			JOIN (SELECT e2.i, min(l2.label) AS low FROM edge e2 JOIN label l2 USING (node) GROUP BY e2.i) w USING (i) GROUP BY e.node) m
		WHERE m.node = l.node AND m.low < l.label;
		GET DIAGNOSTICS n = ROW_COUNT;
	END LOOP;
END $$;
SELECT set_eq('SELECT * FROM pg_temp.partition(''6'')', 'SELECT * FROM label', 'one by one gives the connected components');
SELECT set_eq('SELECT * FROM pg_temp.partition(''7'')', 'SELECT * FROM label', 'so does a batch of seven');
SELECT set_eq('SELECT * FROM pg_temp.partition(''8'')', 'SELECT * FROM label', 'so does one batch');
SELECT set_eq('SELECT * FROM pg_temp.partition(''9'')', 'SELECT * FROM label', 'so does the stream backwards');
SELECT is_empty('SELECT a.* FROM cdp.profile_alias a JOIN cdp.profile_alias b ON b.profile_id = a.customer_id', 'aliases have depth one');
SELECT is_empty('SELECT customer_id FROM cdp.profile_alias WHERE customer_id > profile_id', 'the oldest id of a customer is its id');
-- \d+ of what identity keeps reads as a reference
SELECT is_empty($$
	SELECT a.attrelid::regclass, a.attname FROM pg_attribute a
	WHERE a.attrelid = ANY ('{cdp.identifier_kind,cdp.profile,cdp.identifier,cdp.profile_alias,cdp.identity_link,cdp.merge_log,cdp.merge_refusal,
			cdp.identifier_tombstone,cdp.profile_trait,cdp.survivorship,cdp.trait_definition,cdp.trait_reject,cdp.customer,cdp.identity_audit,
			cdp.match_model,cdp.match_candidate,cdp.match_queue}'::regclass[])
	  AND a.attnum > 0 AND NOT a.attisdropped AND col_description(a.attrelid, a.attnum) IS NULL
$$, 'every column of identity has a comment');
SELECT * FROM finish();
ROLLBACK;
