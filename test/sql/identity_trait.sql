-- which of several values of a trait is the customer's
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'Asia/Shanghai';
SET DateStyle = 'ISO';
SET cdp.now = '2026-03-01 09:00:00+08';
-- two profiles, one customer; nine words on one trait, so that every strategy has an answer of its own
SELECT cdp.identify('{"anonymous_id": "a-1"}');
SELECT cdp.identify('{"anonymous_id": "a-1", "member_id": "m-1"}');
CREATE FUNCTION public.say(member text, trait text, source text, value jsonb, day int) RETURNS void LANGUAGE sql AS $$
	SELECT cdp.identify(CASE WHEN member LIKE 'm-%' THEN jsonb_build_object('member_id', member) ELSE jsonb_build_object('anonymous_id', member) END,
		jsonb_build_object(trait, value), source, '2026-01-01 00:00+08'::timestamptz + day * interval '1 day') $$;
SELECT count(public.say(m, 'x', s, to_jsonb(v), d)) FROM (VALUES
	('m-1', 'e', 'lima', 1), ('m-1', 'g', 'alfa', 2), ('m-1', 'b', 'nova', 3), ('a-1', 'a', 'nova', 4), ('m-1', 'c', 'mike', 5),
	('a-1', 'd', 'lengthy', 6), ('m-1', 'h', 'zulu', 7), ('m-1', 'f', 'kilo', 9)) v(m, s, v, d);
SELECT source, value, profile_id, observed_at::date FROM cdp.profile_trait ORDER BY source;
SELECT traits FROM cdp.customer;
CREATE FUNCTION public.under(strategy text, customer_id bigint DEFAULT 1, trait text DEFAULT 'x', sources text[] DEFAULT '{c,d}') RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	answer jsonb;
	told   jsonb;
BEGIN
	INSERT INTO cdp.survivorship AS s VALUES (trait, under.strategy, under.sources)
		ON CONFLICT ON CONSTRAINT survivorship_pkey DO UPDATE SET strategy = excluded.strategy, sources = excluded.sources;
	answer := (SELECT c.traits -> under.trait FROM cdp.customer c WHERE c.customer_id = under.customer_id);
	-- the other ways to ask agree, and only survivors have the value
	IF answer IS DISTINCT FROM cdp.customer_360(under.customer_id) -> 'traits' -> under.trait THEN
		RAISE EXCEPTION 'customer_360 differs';
	END IF;
	told := (SELECT jsonb_agg(DISTINCT e.value) FROM cdp.explain_trait(under.customer_id, under.trait) e WHERE e.survives);
	IF (CASE WHEN answer IS NULL THEN told IS NOT NULL WHEN under.strategy = 'union' THEN told IS NULL ELSE told IS DISTINCT FROM jsonb_build_array(answer) END) THEN
		RAISE EXCEPTION 'explain_trait differs: % %', answer, told;
	END IF;
	DELETE FROM cdp.survivorship s WHERE s.trait = under.trait;
	RETURN answer;
END $$;
SELECT s, public.under(s) FROM unnest('{newest,oldest,source_rank,most_frequent,longest,min,max,union}'::text[]) s;
-- ... and why
CREATE FUNCTION public.why(strategy text, customer_id bigint DEFAULT 1, trait text DEFAULT 'x', sources text[] DEFAULT '{c,d}')
	RETURNS TABLE (value jsonb, source text, profile_id bigint, day date, survives boolean, reason text) LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO cdp.survivorship VALUES (trait, strategy, sources);
	RETURN QUERY SELECT e.value, e.source, e.profile_id, e.observed_at::date, e.survives, e.reason FROM cdp.explain_trait(why.customer_id, why.trait) e;
	DELETE FROM cdp.survivorship s WHERE s.trait = why.trait;
END $$;
SELECT s, w.value, w.source, w.survives, w.reason FROM unnest('{newest,oldest,source_rank,most_frequent,longest,min,max,union}'::text[]) s, public.why(s) w;
-- ties: by source, then by profile
SELECT cdp.identify('{"anonymous_id": "a-2"}') AS a_2, cdp.identify('{"anonymous_id": "a-2", "member_id": "m-2"}') AS m_2;
SELECT count(public.say(m, 't', s, to_jsonb(v), 1)) FROM (VALUES ('m-2', 'q', 'cc'), ('a-2', 'r', 'bb'), ('a-2', 'q', 'dd'), ('m-2', 'r', 'aa')) v(m, s, v);
SELECT source, profile_id, value FROM cdp.profile_trait WHERE trait = 't' ORDER BY 1, 2;
SELECT s, public.under(s, 3, 't', '{z}') FROM unnest('{newest,oldest,source_rank,most_frequent,longest}'::text[]) s;
SELECT value, source, profile_id, survives, reason FROM public.why('newest', 3, 't');
SELECT value, source, profile_id, survives, reason FROM public.why('longest', 3, 't');
SELECT value, source, profile_id, survives, reason FROM public.why('most_frequent', 3, 't');
-- numbers are numbers, and come before all else; characters, not bytes; true is not "true"
SELECT cdp.identify('{"member_id": "m-3"}') AS m_3;
SELECT count(public.say('m-3', t, s, v, 1)) FROM (VALUES
	('n', 'a', '10'::jsonb), ('n', 'b', '9'), ('n', 'c', '9.0'), ('n', 'd', '"100"'), ('n', 'e', '1e2'), ('n', 'f', '"-5"'),
	('l', 'a', '"abcd"'), ('l', 'b', '"上海市"'), ('l', 'c', '12345'), ('l', 'd', 'true'),
	('b', 'a', '"true"'), ('b', 'b', 'true'), ('b', 'c', 'false'), ('b', 'd', '{"k": 1}'), ('b', 'e', '[2, 1]'), ('b', 'f', '"true"'),
	('u', 'a', '["x", "y", null, 2]'), ('u', 'b', '["y", "z", 10]'), ('u', 'c', '"w"'), ('u', 'd', '[[1, 2], {"a": 1}, "y", 2.0]'), ('u', 'e', '[]')) v(t, s, v);
SELECT t, s, public.under(s, 5, t) FROM unnest('{n,l,b,u}'::text[]) t, unnest('{most_frequent,longest,min,max,union}'::text[]) s;
-- a removal: the last word where words are counted, no value where values are
SELECT cdp.identify('{"member_id": "m-4"}') AS m_4;
SELECT count(public.say('m-4', t, s, v, d)) FROM (VALUES ('r', 'a', '"old"'::jsonb, 1), ('r', 'b', '"new"', 3)) v(t, s, v, d);
INSERT INTO cdp.profile_trait VALUES (6, 'r', 'c', 'null', '2026-01-05 00:00+08'), (6, 'gone', 'c', 'null', '2026-01-05 00:00+08');
SELECT s, public.under(s, 6, 'r', '{b}'), public.under(s, 6, 'r', '{c}') AS with_c_first, public.under(s, 6, 'gone') AS gone
FROM unnest('{newest,oldest,source_rank,most_frequent,longest,min,max,union}'::text[]) s;
SELECT value, source, survives, reason FROM public.why('newest', 6, 'r');
SELECT value, source, survives, reason FROM public.why('source_rank', 6, 'r', '{c}');
SELECT value, source, survives, reason FROM public.why('oldest', 6, 'r');
SELECT public.under('newest', 6, 'never');
-- an older removal does not matter
UPDATE cdp.profile_trait SET observed_at = '2026-01-02 00:00+08' WHERE profile_id = 6 AND trait = 'r' AND source = 'c';
SELECT public.under('newest', 6, 'r');
-- rules: '*' for all that have none, at once, in this transaction and for a snapshot
INSERT INTO cdp.survivorship VALUES ('*', 'oldest'), ('l', 'max');
SELECT customer_id, traits FROM cdp.customer WHERE customer_id IN (1, 5) ORDER BY 1;
BEGIN;
UPDATE cdp.survivorship SET strategy = 'newest' WHERE trait = '*';
SELECT traits FROM cdp.customer WHERE customer_id = 1;
ROLLBACK;
SELECT traits FROM cdp.customer WHERE customer_id = 1;
DELETE FROM cdp.survivorship;
SELECT traits FROM cdp.customer WHERE customer_id = 1;
INSERT INTO cdp.survivorship (trait) VALUES ('y') RETURNING *;
INSERT INTO cdp.survivorship VALUES ('z', 'loudest');
INSERT INTO cdp.survivorship VALUES ('z', 'source_rank');
INSERT INTO cdp.survivorship VALUES ('z', 'source_rank', '{}');
INSERT INTO cdp.survivorship VALUES ('z', 'source_rank', '{a,NULL}');
INSERT INTO cdp.survivorship VALUES ('z', NULL);
DELETE FROM cdp.survivorship;
-- order of arrival does not matter: an older word comes late, a word is repeated, two words of one moment
SELECT cdp.identify('{"member_id": "m-5"}') AS m_5, cdp.identify('{"member_id": "m-6"}') AS m_6;
SELECT count(public.say('m-5', 'city', s, to_jsonb(v), d)) FROM (VALUES ('a', 'X', 1), ('b', 'Y', 3), ('a', 'X', 5), ('c', 'M', 4), ('c', 'K', 4), ('c', 'L', 2)) v(s, v, d);
SELECT count(public.say('m-6', 'city', s, to_jsonb(v), d)) FROM (VALUES ('c', 'L', 2), ('c', 'K', 4), ('c', 'M', 4), ('a', 'X', 5), ('b', 'Y', 3), ('a', 'X', 1)) v(s, v, d);
SELECT profile_id, source, value, observed_at::date FROM cdp.profile_trait WHERE profile_id IN (7, 8) ORDER BY source, profile_id;
SELECT traits FROM cdp.customer WHERE customer_id IN (7, 8);
SELECT traits FROM cdp.profile WHERE profile_id IN (7, 8);
-- 1 and 1.0 are equal, but not the same word
SELECT count(public.say('m-5', 'n', 'a', v, 1)) FROM unnest('{1,1.0}'::jsonb[]) v;
SELECT count(public.say('m-6', 'n', 'a', v, 1)) FROM unnest('{1.0,1}'::jsonb[]) v;
SELECT DISTINCT value::text FROM cdp.profile_trait WHERE trait = 'n' AND profile_id IN (7, 8);
-- said again of now: written once per cdp.last_seen_resolution
SELECT cdp.identify('{"member_id": "m-5"}', '{"city": "Z"}', 'live');
SET cdp.now = '2026-03-01 12:00:00+08';
BEGIN;
SELECT cdp.identify('{"member_id": "m-5"}', '{"city": "Z"}', 'live');
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;
SELECT observed_at FROM cdp.profile_trait WHERE profile_id = 7 AND source = 'live';
SET cdp.last_seen_resolution = 0;
SELECT cdp.identify('{"member_id": "m-5"}', '{"city": "Z"}', 'live');
SELECT observed_at FROM cdp.profile_trait WHERE profile_id = 7 AND source = 'live';
RESET cdp.last_seen_resolution;
SET cdp.now = '2026-03-02 12:00:00+08';
SELECT cdp.identify('{"member_id": "m-5"}', '{"city": "Z"}', 'live');
SELECT observed_at FROM cdp.profile_trait WHERE profile_id = 7 AND source = 'live';
-- by hand is always the last word, also twice in one moment and after a clock that goes ahead
SELECT cdp.identify('{"member_id": "m-5"}', '{"city": "ahead"}', 'a', '2026-03-03 06:00+08');
SELECT cdp.set_traits(7, '{"city": "by hand"}'), cdp.set_traits(7, '{"city": "again"}');
SELECT traits ->> 'city' AS city, updated_at FROM cdp.customer WHERE customer_id = 7;
SELECT cdp.set_traits(7, '{"city": null}');
SELECT traits ? 'city' AS has_city FROM cdp.customer WHERE customer_id = 7;
SELECT cdp.set_traits(7, '{"city": "back"}');
SELECT traits ->> 'city' AS city FROM cdp.customer WHERE customer_id = 7;
-- a value of the wrong type hides no good one, in a batch as one by one
INSERT INTO cdp.trait_definition VALUES ('age', 'integer');
SELECT count(*) FROM cdp.identify_many('[{"identifiers": {"member_id": "m-6"}, "traits": {"age": 40}, "occurred_at": "2026-01-01"}, {"identifiers": {"member_id": "m-6"}, "traits": {"age": "forty"}, "occurred_at": "2026-01-02"}]');
SELECT traits FROM cdp.customer WHERE customer_id = 8;
SELECT trait, found_type FROM cdp.trait_reject;
-- one row per One ID; one customer touches one customer
SELECT customer_id, profile_ids, created_at, updated_at FROM cdp.customer WHERE customer_id = 1;
SELECT count(*), count(DISTINCT customer_id), (SELECT count(*) FROM cdp.profile) AS profiles, sum(cardinality(profile_ids)) AS in_customers FROM cdp.customer;
SELECT customer_id, traits FROM cdp.customer WHERE traits = '{}';
SELECT count(*) FROM cdp.customer WHERE customer_id = 2;
INSERT INTO cdp.profile (profile_id) SELECT g FROM generate_series(1001, 21000) g;
SELECT setval('cdp.profile_profile_id_seq', 30000) \g /dev/null
INSERT INTO cdp.profile_trait SELECT g, 'name', 'crm', to_jsonb('n' || g), cdp.now() FROM generate_series(1001, 21000) g;
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('anonymous_id', 'p-' || g)) ORDER BY g) FROM generate_series(1, 2000) g));
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('anonymous_id', 'p-' || g, 'member_id', 'p-' || g)) ORDER BY g) FROM generate_series(1, 2000) g));
VACUUM ANALYZE cdp.profile, cdp.profile_trait, cdp.profile_alias;
-- how each table is read; what is around that differs between versions
CREATE FUNCTION scans(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		IF line ~ ' Scan | Cond: ' AND line !~ 'survivorship|Join' THEN
			RETURN NEXT btrim(line, ' ->');
		END IF;
	END LOOP;
END $$;
SELECT * FROM scans('SELECT * FROM cdp.customer WHERE customer_id = 1234');
SELECT * FROM scans('SELECT c.traits FROM generate_series(1, 3) g JOIN cdp.customer c ON c.customer_id = g');
-- who only counts pays for no trait
SELECT * FROM scans('SELECT count(*) FROM cdp.customer');
SELECT count(*), count(DISTINCT traits ->> 'name') FROM cdp.customer WHERE customer_id > 1000;
-- explain_trait by any id, for nobody and nothing
SELECT count(*) FROM cdp.explain_trait(2, 'x');
SELECT count(*) FROM cdp.explain_trait(99, 'x');
SELECT count(*) FROM cdp.explain_trait(NULL, 'x');
SELECT count(*) FROM cdp.explain_trait(1, NULL);
-- rights
CREATE ROLE regress_cdp_app; CREATE ROLE regress_cdp_reader; CREATE ROLE regress_cdp_operator;
SELECT cdp.grant_access('application', 'regress_cdp_app'), cdp.grant_access('reader', 'regress_cdp_reader'), cdp.grant_access('operator', 'regress_cdp_operator');
SET ROLE regress_cdp_app;
SELECT traits FROM cdp.customer WHERE customer_id = 1;
SELECT count(*) FROM cdp.explain_trait(1, 'x');
SELECT * FROM cdp.survivorship;
SELECT * FROM cdp.profile_trait;
SET ROLE regress_cdp_reader;
SELECT traits FROM cdp.customer WHERE customer_id = 1;
SELECT count(*) FROM cdp.explain_trait(1, 'x');
SELECT * FROM cdp.survivorship;
INSERT INTO cdp.survivorship VALUES ('x', 'min');
SELECT * FROM cdp._judge_traits(NULL, NULL);
-- whatever is handed to the function behind the view
SELECT cdp._survivors(NULL, NULL);
SELECT cdp._survivors(ARRAY[ROW('a', 1)], NULL);
SELECT cdp._survivors(ARRAY[ROW('a'::text, '1'::jsonb, 's'::text, '2026-01-01'::timestamptz, 5)], NULL);
SELECT cdp._survivors(ARRAY[ROW('a'::text, '1'::jsonb, 's'::text, '2026-01-01'::timestamptz, 5::bigint), NULL, ROW(NULL::text, '1'::jsonb, 's'::text, '2026-01-01'::timestamptz, 5::bigint)], '{}');
DO $$
DECLARE r jsonb;
BEGIN
	FOREACH r IN ARRAY ARRAY['[]', '7', '{"a": 1}', '{"a": [1, 2]}', '{"a": ["newest"]}', '{"a": ["loudest", null]}', '{"a": ["newest", [1]]}', '{"*": ["union", {}]}']::jsonb[] LOOP
		BEGIN
			PERFORM cdp._survivors(ARRAY[ROW('a'::text, '1'::jsonb, 's'::text, '2026-01-01'::timestamptz, 5::bigint)], r);
			RAISE WARNING 'taken: %', r;
		EXCEPTION WHEN invalid_parameter_value THEN
			NULL;
		END;
	END LOOP;
END $$;
SET ROLE regress_cdp_operator;
INSERT INTO cdp.survivorship VALUES ('x', 'min');
SELECT traits FROM cdp.customer WHERE customer_id = 1;
RESET ROLE;
SELECT cdp.revoke_access('application', 'regress_cdp_app'), cdp.revoke_access('reader', 'regress_cdp_reader'), cdp.revoke_access('operator', 'regress_cdp_operator');
DROP ROLE regress_cdp_app, regress_cdp_reader, regress_cdp_operator;
DROP FUNCTION public.say(text, text, text, jsonb, int), public.under(text, bigint, text, text[]), public.why(text, bigint, text, text[]);
