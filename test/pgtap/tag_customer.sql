-- Properties of customers' tags over random histories of verbs, plain statements, merges and unmerges: what the rows say,
-- what the history says, what was counted and what the aliases say is one thing.
\set seed `echo ${CDP_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d " ")}`
BEGIN;
SELECT plan(11);
SELECT diag('tag_customer: seed ' || :'seed');
SELECT setseed(:seed::float8 / 65536) \g /dev/null
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = public, cdp, pg_catalog;
CREATE TEMP TABLE mine AS SELECT i, cdp.identify(jsonb_build_object('member_id', 't' || i, 'device_id', 't' || i)) AS id FROM generate_series(1, 30) i;
SELECT coalesce(max(seq), 0) AS start FROM cdp.tag_change \gset
CREATE TEMP TABLE at_start AS SELECT profile_id, tags FROM cdp.profile_tag WHERE tags IS NOT NULL;
CREATE FUNCTION pg_temp.some() RETURNS bigint LANGUAGE sql AS $$ SELECT id FROM mine ORDER BY random() LIMIT 1 $$;
CREATE FUNCTION pg_temp.name() RETURNS text LANGUAGE sql AS $$
	SELECT (ARRAY['vip', 'gold', 'region.华东', 'region.华东.上海', 'region.华南', 'aov', 'city', 'born', 'a "b"'])[1 + floor(random() * 9)::int] $$;
CREATE FUNCTION pg_temp.value() RETURNS text LANGUAGE sql AS $$
	SELECT (ARRAY[NULL, NULL, '1', '2.5', '2026-01-01', 'x', '上海'])[1 + floor(random() * 7)::int] $$;

-- each step is told to a judge who knows nothing but lists: said(profile, tag) = value
CREATE TEMP TABLE said (profile_id bigint, tag text, value text, valid_until timestamptz, PRIMARY KEY (profile_id, tag));
CREATE FUNCTION pg_temp.union_of(customer bigint) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(format('%s=%s@%s', u.tag, u.value, u.valid_until), ', ' ORDER BY u.tag COLLATE "C"), '') FROM (
		SELECT DISTINCT ON (s.tag) s.* FROM said s WHERE cdp.customer_id(s.profile_id) = customer
		ORDER BY s.tag, s.profile_id <> customer, s.profile_id) u $$;
CREATE FUNCTION pg_temp.rows_of(t tagset) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(format('%s=%s@%s', e.tag, e.value, e.valid_until), ', ' ORDER BY e.tag COLLATE "C"), '') FROM cdp.tagset_entries(t) e $$;
CREATE FUNCTION pg_temp.history(n int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	dice float8;
	x bigint;
	c bigint;
	t text;
	v text;
	until timestamptz;
	was text;
	changed boolean;
	wrong int := 0;
BEGIN
	FOR k IN 1 .. n LOOP
		dice := random();
		x := pg_temp.some();
		c := cdp.customer_id(x);
		t := pg_temp.name();
		v := pg_temp.value();
		until := CASE WHEN random() < 0.3 THEN '2026-05-01Z'::timestamptz + floor(random() * 3)::int * interval '1 day' END;
		BEGIN
			IF dice < 0.35 THEN
				was := pg_temp.union_of(c);
				changed := cdp.add_tag(x, t, v, until);
				-- said of the One ID where the customer does not have it just so
				INSERT INTO said SELECT c, t, v, until WHERE NOT EXISTS (SELECT FROM (SELECT DISTINCT ON (s.tag) s.* FROM said s
					WHERE cdp.customer_id(s.profile_id) = c AND s.tag = t ORDER BY s.tag, s.profile_id <> c, s.profile_id) u
					WHERE u.value IS NOT DISTINCT FROM v AND u.valid_until IS NOT DISTINCT FROM until)
				ON CONFLICT (profile_id, tag) DO UPDATE SET value = excluded.value, valid_until = excluded.valid_until;
				wrong := wrong + (changed <> (pg_temp.union_of(c) <> was))::int;
			ELSIF dice < 0.5 THEN
				IF random() < 0.3 THEN
					t := 'region.*';
				END IF;
				was := pg_temp.union_of(c);
				changed := cdp.remove_tag(x, t);
				DELETE FROM said s WHERE cdp.customer_id(s.profile_id) = c AND (s.tag = t OR t = 'region.*' AND s.tag LIKE 'region.%');
				wrong := wrong + (changed <> (pg_temp.union_of(c) <> was))::int;
			ELSIF dice < 0.6 THEN
				PERFORM cdp.add_tag_many(jsonb_build_array(jsonb_build_object('customer_id', x, 'tag', t, 'remove', true),
					jsonb_build_object('customer_id', c, 'tag', 'many')));
				DELETE FROM said s WHERE cdp.customer_id(s.profile_id) = c AND s.tag = t;
				INSERT INTO said SELECT c, 'many', NULL, NULL WHERE NOT EXISTS (SELECT FROM said s WHERE cdp.customer_id(s.profile_id) = c AND s.tag = 'many');
			ELSIF dice < 0.72 THEN
				-- a plain statement over several customers, merged ones among them
				UPDATE cdp.profile_tag p SET tags = p.tags + 'plain=1, city=plain' - ARRAY['vip']
				WHERE p.tags IS NOT NULL AND p.profile_id IN (SELECT id FROM mine) AND p.profile_id % 7 = k % 7;
				FOR c IN SELECT p.profile_id FROM cdp.profile_tag p WHERE p.tags IS NOT NULL AND p.profile_id IN (SELECT id FROM mine) AND p.profile_id % 7 = k % 7 LOOP
					DELETE FROM said s WHERE cdp.customer_id(s.profile_id) = c AND s.tag = 'vip';
					INSERT INTO said SELECT c, w.tag, w.value FROM (VALUES ('plain', '1'), ('city', 'plain')) w(tag, value)
					WHERE NOT EXISTS (SELECT FROM (SELECT DISTINCT ON (s.tag) s.* FROM said s
						WHERE cdp.customer_id(s.profile_id) = c AND s.tag = w.tag ORDER BY s.tag, s.profile_id <> c, s.profile_id) u
						WHERE u.value IS NOT DISTINCT FROM w.value AND u.valid_until IS NULL)
					ON CONFLICT (profile_id, tag) DO UPDATE SET value = excluded.value, valid_until = NULL;
				END LOOP;
			ELSIF dice < 0.77 THEN
				DELETE FROM cdp.profile_tag p WHERE p.profile_id = x;
				IF x = c THEN
					DELETE FROM said s WHERE cdp.customer_id(s.profile_id) = c;
				ELSE
					DELETE FROM said s WHERE s.profile_id = x;
				END IF;
			ELSIF dice < 0.9 THEN
				PERFORM cdp.merge_customers(x, pg_temp.some(), 'test');
			ELSE
				PERFORM cdp.unmerge_customer(x, 'test');
			END IF;
		EXCEPTION WHEN invalid_parameter_value OR SQLSTATE 'LC102' THEN
			NULL;	-- with itself, kept apart
		END;
		IF k % 20 = 0 THEN
			wrong := wrong + (SELECT count(*) FROM cdp.customer_tag v WHERE v.customer_id IN (SELECT id FROM mine)
				AND pg_temp.rows_of(v.tags) <> pg_temp.union_of(v.customer_id));
		END IF;
	END LOOP;
	RETURN wrong;
END $$;
SELECT is(pg_temp.history(400), 0, 'every step did what the judge says, the answer tells whether anything changed');
SELECT ok((SELECT count(*) > 5 FROM cdp.profile_alias WHERE profile_id IN (SELECT id FROM mine)), 'customers are merged');
SELECT is_empty('SELECT t.profile_id, t.tags, t.own_tags FROM cdp.profile_tag t JOIN cdp.profile_alias a USING (profile_id) WHERE t.tags IS NOT NULL OR t.own_tags IS NULL',
	'parts of a customer have no tags that count');
SELECT is_empty($$SELECT v.customer_id FROM cdp.customer_tag v WHERE v.customer_id IN (SELECT id FROM mine)
	AND pg_temp.rows_of(v.tags) <> pg_temp.union_of(v.customer_id)$$, 'customers have what was said of their profiles, the One ID''s word first');
SELECT is_empty($$WITH newest AS (SELECT DISTINCT ON (profile_id, tag) * FROM cdp.tag_history ORDER BY profile_id, tag, change_id DESC)
	SELECT * FROM (
		(SELECT n.profile_id, n.tag, n.value, n.valid_until FROM newest n WHERE n.change <> 'removed'
		 EXCEPT SELECT t.profile_id, e.tag, e.value, e.valid_until FROM cdp.profile_tag t, cdp.tagset_entries(coalesce(t.own_tags, t.tags)) e)
		UNION ALL
		(SELECT t.profile_id, e.tag, e.value, e.valid_until FROM cdp.profile_tag t, cdp.tagset_entries(coalesce(t.own_tags, t.tags)) e
		 EXCEPT SELECT n.profile_id, n.tag, n.value, n.valid_until FROM newest n WHERE n.change <> 'removed')) x$$,
	'the newest rows of the history are the rows');
SELECT is_empty($$SELECT h.* FROM (SELECT *, lag(change) OVER w AS before FROM cdp.tag_history WINDOW w AS (PARTITION BY profile_id, tag ORDER BY change_id)) h
	WHERE (change = 'added') <> (before IS NULL OR before = 'removed')$$, 'added and removed take turns');
-- changes chain: old of each is new of the one before, from the first state to the last
SELECT is_empty(format($$SELECT c.* FROM (SELECT *, lag(new) OVER w AS before, row_number() OVER w AS i FROM cdp.tag_change WHERE seq > %s
	WINDOW w AS (PARTITION BY customer_id ORDER BY seq)) c WHERE c.i > 1 AND coalesce(c.old::text, '-') <> coalesce(c.before::text, '-')$$, :start),
	'each change begins where the one before ended');
SELECT is_empty(format($$SELECT * FROM (
	SELECT customer_id, coalesce(n.tags, '') AS tags FROM (SELECT DISTINCT ON (customer_id) customer_id, new AS tags FROM cdp.tag_change WHERE seq > %s
		ORDER BY customer_id, seq DESC) n) x
	LEFT JOIN cdp.profile_tag t ON t.profile_id = x.customer_id WHERE coalesce(t.tags, '') <> x.tags$$, :start), '… and ends with the rows');
CREATE TEMP TABLE before AS SELECT profile_id, tags, coalesce(own_tags, tags) AS own_tags FROM cdp.profile_tag;
SELECT is(cdp._restore_tags(), 0::bigint, 'the history agrees with the rows');
SET LOCAL session_replication_role = replica;
UPDATE cdp.profile_tag SET tags = 'forged', own_tags = CASE WHEN profile_id % 2 = 0 THEN 'forged'::tagset END WHERE profile_id % 3 <> 0;
DELETE FROM cdp.profile_tag WHERE profile_id % 5 = 0;
SET LOCAL session_replication_role = origin;
SELECT cdp._restore_tags() > 0 AS restored \gset
SELECT ok(:'restored', 'forged rows are found');
SELECT is_empty($$(SELECT profile_id, tags::text, own_tags::text FROM before WHERE own_tags <> ''
		EXCEPT SELECT profile_id, tags::text, coalesce(own_tags, tags)::text FROM cdp.profile_tag)
	UNION ALL (SELECT profile_id, tags::text, coalesce(own_tags, tags)::text FROM cdp.profile_tag WHERE coalesce(own_tags, tags) <> '' EXCEPT SELECT profile_id, tags::text, own_tags::text FROM before)$$,
	'and the history brings all rows back');
SELECT * FROM finish();
ROLLBACK;
