-- Merges of merges, with identifiers that come in between and later, taken back one by one in any order: each time exactly
-- the two sides part, each stays whole, and at the end everybody is who he was, with what came to him.
-- CDP_SEED chooses another run.  About one in ten meets what doc/identity_unmerge.md calls "Known limit" and fails, such as 58166
-- or 1, not each time.
\set seed `echo ${CDP_SEED:-7}`
BEGIN;
SELECT plan(13);
SELECT diag('identity_unmerge_nested: seed ' || :'seed');
SELECT setseed(:seed::float8 / 65536) \g /dev/null
SET LOCAL client_min_messages = warning;
-- 40 people; what is theirs says so: everything is called after its owner
CREATE TEMP TABLE person AS SELECT i, cdp.identify(jsonb_build_object(k, 'n' || i, 'device_id', 'n' || i)) AS id
FROM (SELECT i, (ARRAY['member_id', 'email', 'customer_no', 'anonymous_id'])[1 + floor(random() * 4)] AS k FROM generate_series(1, 40) i) x;
CREATE TEMP TABLE done (merge_id bigint, winner bigint[], loser bigint[]);
SELECT coalesce(max(merge_id), 0) AS start FROM cdp.merge_log \gset

-- a new identifier beside one of his: of a kind with a profile of its own, or in the profile of the other
CREATE FUNCTION pg_temp.late(k int) RETURNS void LANGUAGE sql AS $$
	SELECT cdp.identify(jsonb_build_object(i.kind, i.value, new, split_part(i.value, '/', 1) || '/' || k))
	FROM (SELECT * FROM cdp.identifier WHERE value LIKE 'n%' ORDER BY random() LIMIT 1) i,
		(SELECT new FROM unnest('{wechat_unionid,wechat_openid,anonymous_id,alipay_id}'::text[]) new ORDER BY random() + k * 0 LIMIT 1) n
	WHERE new <> i.kind $$;
CREATE FUNCTION pg_temp.build(n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	p bigint[];
BEGIN
	FOR k IN 1 .. n LOOP
		PERFORM set_config('cdp.now', ('2026-03-01Z'::timestamptz + (SELECT count(*) FROM cdp.merge_log) * interval '1 hour' + k * interval '1 minute')::text, true);
		p := ARRAY(SELECT id FROM person ORDER BY random() LIMIT 2);
		BEGIN
			IF random() < 0.6 THEN
				PERFORM cdp.merge_customers(p[1], p[2], 'test');
			ELSE
				PERFORM pg_temp.late((SELECT count(*) FROM cdp.identifier)::int);
			END IF;
		EXCEPTION WHEN SQLSTATE 'LC102' THEN NULL;	-- kept apart
		END;
	END LOOP;
END $$;

-- take a merge back that is still one; NULL: there is none.  Answers what is wrong.
CREATE FUNCTION pg_temp.undo(last boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	m record;
	wrong text;
BEGIN
	SELECT l.merge_id, l.customer_id, l.other_id, w.p AS w, x.p AS x,
		ARRAY(SELECT e::bigint FROM jsonb_array_elements_text(l.before -> 'winner') e) AS winner,
		ARRAY(SELECT e::bigint FROM jsonb_array_elements_text(l.before -> 'loser') e) AS loser
	INTO m FROM cdp.merge_log l
	CROSS JOIN LATERAL (SELECT e::bigint AS p FROM jsonb_array_elements_text(l.before -> 'winner') e) w
	CROSS JOIN LATERAL (SELECT e::bigint AS p FROM jsonb_array_elements_text(l.before -> 'loser') e) x
	WHERE l.before ? 'loser' AND l.rule = 'manual' AND NOT EXISTS (SELECT FROM cdp.merge_log u WHERE u.undoes = l.merge_id)
		AND cdp.customer_id(w.p) = cdp.customer_id(x.p)
	ORDER BY CASE WHEN last THEN -l.merge_id END, random() LIMIT 1;
	IF m.merge_id IS NULL THEN
		RETURN NULL;
	END IF;
	DROP TABLE IF EXISTS was;
	CREATE TEMP TABLE was AS SELECT p.profile_id, cdp.customer_id(p.profile_id) AS c,
		(SELECT jsonb_agg(to_jsonb(i) ORDER BY i.identifier_id) FROM cdp.identifier i WHERE i.profile_id = p.profile_id) AS identifiers FROM cdp.profile p;
	PERFORM cdp.unmerge_customer(CASE WHEN random() < 0.5 THEN m.w ELSE m.x END, 'test', m.merge_id);
	SELECT concat_ws(', ',
		CASE WHEN EXISTS (SELECT FROM was a JOIN was b ON a.c = b.c WHERE a.profile_id = ANY (m.winner) AND b.profile_id = ANY (m.loser)
			AND cdp.customer_id(a.profile_id) = cdp.customer_id(b.profile_id)) THEN 'the sides are one' END,
		CASE WHEN EXISTS (SELECT FROM was a JOIN was b ON a.c = b.c AND a.profile_id < b.profile_id
			WHERE ((a.profile_id = ANY (m.winner) AND b.profile_id = ANY (m.winner)) OR (a.profile_id = ANY (m.loser) AND b.profile_id = ANY (m.loser)))
			AND cdp.customer_id(a.profile_id) <> cdp.customer_id(b.profile_id)) THEN 'a side is two' END,
		CASE WHEN EXISTS (SELECT FROM was a WHERE a.c <> cdp.customer_id(m.w) AND a.c <> cdp.customer_id(m.x)
			AND a.c <> (SELECT c FROM was WHERE profile_id = m.w) AND a.c <> cdp.customer_id(a.profile_id)) THEN 'somebody else moved' END,
		CASE WHEN (SELECT count(DISTINCT cdp.customer_id(a.profile_id)) FROM was a WHERE a.c = (SELECT c FROM was WHERE profile_id = m.w)) <> 2 THEN 'not two parts' END,
		CASE WHEN EXISTS (SELECT FROM was a WHERE a.identifiers IS DISTINCT FROM
			(SELECT jsonb_agg(to_jsonb(i) ORDER BY i.identifier_id) FROM cdp.identifier i WHERE i.profile_id = a.profile_id)) THEN 'identifiers differ' END)
	INTO wrong;
	RETURN CASE WHEN wrong = '' THEN 'exact' ELSE format('merge %s: %s', m.merge_id, wrong) END;
END $$;
CREATE FUNCTION pg_temp.undo_all(last boolean) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	LOOP
		answer := pg_temp.undo(last);
		EXIT WHEN answer IS NULL;
		RETURN NEXT answer;
	END LOOP;
END $$;
-- whoever shares a customer is one person, and a person is one customer
CREATE FUNCTION pg_temp.owners() RETURNS TABLE (customer bigint, owners bigint) LANGUAGE sql AS $$
	SELECT cdp.customer_id(i.profile_id), count(DISTINCT split_part(i.value, '/', 1)) FROM cdp.identifier i WHERE i.value LIKE 'n%' GROUP BY 1 HAVING count(DISTINCT split_part(i.value, '/', 1)) <> 1
	UNION ALL SELECT min(cdp.customer_id(i.profile_id)), - count(DISTINCT cdp.customer_id(i.profile_id)) FROM cdp.identifier i WHERE i.value LIKE 'n%'
	GROUP BY split_part(i.value, '/', 1) HAVING count(DISTINCT cdp.customer_id(i.profile_id)) <> 1 $$;

SELECT pg_temp.build(90) \g /dev/null
CREATE TEMP TABLE ten AS SELECT pg_temp.undo(false) AS answer FROM generate_series(1, 10);
SELECT is_empty('SELECT answer FROM ten WHERE answer <> ''exact''', 'some taken back: exact');
SELECT is_empty('SELECT * FROM cdp.verify_identity() UNION ALL SELECT ''recheck'', r::text FROM cdp.recheck_identity() r', '… sound, and a re-check agrees');
-- what came later comes again, and merges nobody
CREATE TEMP TABLE again AS SELECT i.identifier_id, cdp.customer_id(i.profile_id) AS c FROM cdp.identifier i WHERE i.value LIKE 'n%';
SELECT count(cdp.identify(jsonb_build_object(i.kind, i.value, j.kind, j.value))) FROM cdp.identity_link l
	JOIN cdp.identifier i ON i.identifier_id = l.identifier_a JOIN cdp.identifier j ON j.identifier_id = l.identifier_b
	WHERE l.relation = 'same' AND l.rule LIKE '%+%' AND i.value LIKE 'n%' \g /dev/null
SELECT set_eq('SELECT i.identifier_id, cdp.customer_id(i.profile_id) FROM cdp.identifier i WHERE i.value LIKE ''n%''', 'SELECT * FROM again', 'seen again: nothing changes');
SELECT pg_temp.build(60) \g /dev/null
CREATE TEMP TABLE rest AS SELECT a.* FROM pg_temp.undo_all(false) a(answer);
SELECT cmp_ok((SELECT count(*) FROM rest), '>', 10::bigint, 'merges of merges');
SELECT is_empty('SELECT answer FROM rest WHERE answer <> ''exact''', 'all taken back, in any order: exact');
SELECT is_empty('SELECT * FROM pg_temp.owners()', '… everybody is who he was, with what came to him');
SELECT set_eq('SELECT cdp.customer_id(id) FROM person', 'SELECT id FROM person', '… under his own id');
SELECT is_empty('SELECT * FROM cdp.verify_identity() UNION ALL SELECT ''recheck'', r::text FROM cdp.recheck_identity() r', '… sound, and a re-check agrees');

-- the same backwards, after it was allowed again
SELECT count(cdp.allow_merge(a.id, b.id, 'test')) FROM person a JOIN person b ON a.id < b.id \g /dev/null
SELECT pg_temp.build(90) \g /dev/null
CREATE TEMP TABLE backwards AS SELECT a.* FROM pg_temp.undo_all(true) a(answer);
SELECT cmp_ok((SELECT count(*) FROM backwards), '>', 10::bigint, 'merges of merges');
SELECT is_empty('SELECT answer FROM backwards WHERE answer <> ''exact''', 'all taken back, the last first: exact');
SELECT is_empty('SELECT * FROM pg_temp.owners()', '… everybody is who he was, with what came to him');
SELECT set_eq('SELECT cdp.customer_id(id) FROM person', 'SELECT id FROM person', '… under his own id');
SELECT is_empty('SELECT * FROM cdp.verify_identity() UNION ALL SELECT ''recheck'', r::text FROM cdp.recheck_identity() r', '… sound, and a re-check agrees');
SELECT * FROM finish();
ROLLBACK;
