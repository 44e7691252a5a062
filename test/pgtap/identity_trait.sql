-- Properties of survivorship over random words of random sources: the answer is that of a slow reference in SQL, and
-- neither the order of arrival nor the cut into calls matters.
\set seed `echo ${CDP_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d " ")}`
BEGIN;
SELECT plan(8);
SELECT diag('identity_trait: seed ' || :'seed');
SELECT setseed(:seed::float8 / 65536) \g /dev/null
SET LOCAL client_min_messages = warning;
SET LOCAL cdp.now = '2026-03-01 00:00+00';

-- twelve persons with two profiles each, in four worlds; word: who said what of whom when; few moments, few values, so
-- that there are ties of every kind; a trait per strategy, and one without a rule
CREATE TEMP TABLE person AS SELECT world, p, cdp.identify(jsonb_build_object('anonymous_id', world || '-' || p)) AS a, NULL::bigint AS m
	FROM generate_series(1, 4) world, generate_series(1, 12) p;
UPDATE person SET m = (SELECT profile_id FROM cdp.identify_many(jsonb_build_array(jsonb_build_object('identifiers', jsonb_build_object('member_id', world || '-' || p)))));
CREATE TEMP TABLE word AS
SELECT i, 1 + floor(random() * 12)::int AS p, 1 + floor(random() * 2)::int AS who,
	(ARRAY['newest', 'oldest', 'source_rank', 'most_frequent', 'longest', 'min', 'max', 'union', 'without'])[1 + floor(random() * 9)::int] AS trait,
	(ARRAY['', 'A', 'b', 'shop', 'crm', '店'])[1 + floor(random() * 6)::int] AS source,
	(ARRAY['"a"', '"b"', '"上海"', '"ab"', '"B"', '1', '1.0', '10', '9', 'true', '"true"', 'null', '{"k": 1}'])[1 + floor(random() * 13)::int]::jsonb AS value,
	'2026-01-01 00:00+00'::timestamptz + floor(random() * 5) * interval '1 hour' AS at
FROM generate_series(1, 3000) i;
INSERT INTO cdp.survivorship SELECT s, s, CASE s WHEN 'source_rank' THEN '{crm,A,nobody}'::text[] END
	FROM unnest('{oldest,source_rank,most_frequent,longest,min,max,union}'::text[]) s;

CREATE FUNCTION pg_temp.put(w int, ids int[]) RETURNS void LANGUAGE sql AS $$
	SELECT cdp._put_traits(array_agg(CASE x.who WHEN 1 THEN n.a ELSE n.m END ORDER BY o), array_agg(jsonb_build_object(x.trait, x.value) ORDER BY o),
		array_agg(x.source ORDER BY o), array_agg(x.at ORDER BY o), true)
	FROM unnest(ids) WITH ORDINALITY u(i, o) JOIN word x USING (i) JOIN person n ON (n.world, n.p) = (w, x.p) $$;
-- one by one; backwards in sevens; all at once; shuffled in batches of random size, persons merged half-way
SELECT count(pg_temp.put(1, ARRAY[i])) FROM (SELECT i FROM word ORDER BY i) s \g /dev/null
SELECT count(pg_temp.put(2, ids)) FROM (SELECT array_agg(i ORDER BY i DESC) AS ids FROM word GROUP BY i / 7 ORDER BY i / 7 DESC) s \g /dev/null
SELECT pg_temp.put(3, array_agg(i ORDER BY i)) FROM word \g /dev/null
CREATE TEMP TABLE shuffled AS SELECT i, floor(random() * 200)::int AS batch, random() AS r FROM word;
SELECT count(pg_temp.put(4, ids)) FROM (SELECT array_agg(i ORDER BY r) AS ids FROM shuffled WHERE batch < 100 GROUP BY batch ORDER BY min(r)) s \g /dev/null
SELECT count(cdp.identify(jsonb_build_object('anonymous_id', world || '-' || p, 'member_id', world || '-' || p))) FROM person \g /dev/null
SELECT count(pg_temp.put(4, ids)) FROM (SELECT array_agg(i ORDER BY r) AS ids FROM shuffled WHERE batch >= 100 GROUP BY batch ORDER BY min(r)) s \g /dev/null

CREATE TEMP VIEW kept AS
	SELECT n.world, n.p, CASE t.profile_id WHEN n.a THEN 1 ELSE 2 END AS who, t.trait, t.source, t.value::text, t.observed_at
	FROM person n JOIN cdp.profile_trait t ON t.profile_id IN (n.a, n.m);
-- the last word of a source is the greatest by time and text
CREATE TEMP TABLE last_word AS
	SELECT DISTINCT ON (p, who, trait, source) p, who, trait, source, value, at FROM word
	ORDER BY p, who, trait, source, at DESC, value::text COLLATE "C" DESC;
SELECT set_eq(format('SELECT p, who, trait, source, value, observed_at FROM kept WHERE world = %s', w),
	'SELECT p, who, trait, source, value::text, at FROM last_word', format('profile_trait has the last word of each source, whatever came first (order %s)', w))
FROM generate_series(1, 4) w;

-- the reference
CREATE FUNCTION pg_temp.txt(v jsonb) RETURNS text LANGUAGE sql AS $$ SELECT v #>> '{}' $$;
CREATE FUNCTION pg_temp.num(v jsonb) RETURNS numeric LANGUAGE sql AS $$ SELECT CASE jsonb_typeof(v) WHEN 'number' THEN v::text::numeric END $$;
CREATE TEMP VIEW value AS SELECT *, pg_temp.num(value) AS num, pg_temp.txt(value) AS txt, jsonb_typeof(value) = 'boolean' AS bool FROM last_word WHERE value <> 'null';
CREATE TEMP TABLE reference AS
SELECT DISTINCT ON (p, trait) p, trait, value FROM (
	SELECT *, row_number() OVER (PARTITION BY p, trait ORDER BY at DESC, source COLLATE "C", who) AS place FROM last_word WHERE trait IN ('newest', 'without')
	UNION ALL
	SELECT *, row_number() OVER (PARTITION BY p, trait ORDER BY coalesce(array_position('{crm,A,nobody}', source), 9), at DESC, source COLLATE "C", who) FROM last_word WHERE trait = 'source_rank'
	UNION ALL
	SELECT p, who, trait, source, value, at, row_number() OVER (PARTITION BY p, trait ORDER BY CASE trait WHEN 'oldest' THEN extract(epoch FROM at) WHEN 'longest' THEN -length(txt) END, source COLLATE "C", who)
	FROM value WHERE trait IN ('oldest', 'longest')
	UNION ALL
	SELECT p, who, trait, source, value, at, row_number() OVER (PARTITION BY p, trait ORDER BY num, source COLLATE "C", who) FROM value WHERE trait = 'min' AND num IS NOT NULL
	UNION ALL
	SELECT v.p, v.who, v.trait, v.source, v.value, v.at, row_number() OVER (PARTITION BY v.p, v.trait ORDER BY v.txt COLLATE "C", v.bool, v.source COLLATE "C", v.who) FROM value v
	WHERE v.trait = 'min' AND NOT EXISTS (SELECT FROM value n WHERE (n.p, n.trait) = (v.p, v.trait) AND n.num IS NOT NULL)
	UNION ALL
	SELECT v.p, v.who, v.trait, v.source, v.value, v.at, row_number() OVER (PARTITION BY v.p, v.trait ORDER BY (v.num IS NOT NULL), CASE WHEN v.num IS NULL THEN v.txt END COLLATE "C" DESC, v.bool DESC, v.num DESC, v.source COLLATE "C", v.who) FROM value v
	WHERE v.trait = 'max'
	UNION ALL
	SELECT v.p, v.who, v.trait, v.source, v.value, v.at, row_number() OVER (PARTITION BY v.p, v.trait ORDER BY
		(SELECT count(*) FROM value n WHERE (n.p, n.trait, n.value) = (v.p, v.trait, v.value)) DESC, v.source COLLATE "C", v.who) FROM value v WHERE v.trait = 'most_frequent'
	) x WHERE place = 1
UNION ALL
SELECT p, trait, jsonb_agg(value ORDER BY num NULLS LAST, txt COLLATE "C", bool)
FROM (SELECT DISTINCT ON (p, trait, value) * FROM value WHERE trait = 'union' ORDER BY p, trait, value, source COLLATE "C", who) u GROUP BY p, trait;
DELETE FROM reference WHERE value = 'null';
SELECT set_eq($$SELECT n.world, n.p, t.key, t.value::text FROM person n JOIN cdp.customer c ON c.customer_id = cdp.customer_id(n.m), jsonb_each(c.traits) t$$,
	'SELECT w, p, trait, value::text FROM reference, generate_series(1, 4) w', 'view customer has what the reference says, in every order');
SELECT set_eq($$SELECT DISTINCT n.world, n.p, e.trait, e.value FROM person n, (SELECT DISTINCT trait FROM word) t, LATERAL (
		SELECT t.trait, coalesce(jsonb_agg(x.value ORDER BY x.source COLLATE "C", x.profile_id) FILTER (WHERE x.survives), '[]') -> 0 AS value FROM cdp.explain_trait(n.a, t.trait) x) e
	WHERE e.trait <> 'union' AND e.value IS NOT NULL$$,
	$$SELECT w, p, trait, value FROM reference, generate_series(1, 4) w WHERE trait <> 'union'$$, 'explain_trait lets the same survive');
SELECT is_empty($$SELECT e.* FROM person n, (SELECT DISTINCT trait FROM word) t, LATERAL cdp.explain_trait(n.a, t.trait) e WHERE e.reason IS NULL OR e.survives AND e.value = 'null'$$,
	'every candidate has its reason, no removal survives');
-- through the front door: identify one by one and identify_many at once, without removals
CREATE TEMP TABLE door AS SELECT * FROM word WHERE value <> 'null' ORDER BY random() LIMIT 300;
SELECT count(cdp.identify(jsonb_build_object('member_id', 'one-' || p), jsonb_build_object(trait, value), nullif(source, ''), at)) FROM (SELECT * FROM door ORDER BY i) d \g /dev/null
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'many-' || p), 'traits', jsonb_build_object(trait, value),
	'source', nullif(source, ''), 'occurred_at', at) ORDER BY i DESC) FROM door)) \g /dev/null
SELECT set_eq($$SELECT p, t.trait, t.source, t.value::text, t.observed_at FROM generate_series(1, 12) p JOIN cdp.profile_trait t ON t.profile_id = (SELECT i.profile_id FROM cdp.identifier i WHERE i.value = 'one-' || p)$$,
	$$SELECT p, t.trait, t.source, t.value::text, t.observed_at FROM generate_series(1, 12) p JOIN cdp.profile_trait t ON t.profile_id = (SELECT i.profile_id FROM cdp.identifier i WHERE i.value = 'many-' || p)$$,
	'identify one by one and identify_many backwards keep the same');
SELECT * FROM finish();
ROLLBACK;
