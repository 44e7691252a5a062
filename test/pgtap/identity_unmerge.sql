-- Properties of merge and unmerge over random histories: the log replays to the aliases, undoing backwards restores, and
-- the partition is sound all the time.
\set seed `echo ${CDP_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d " ")}`
BEGIN;
SELECT plan(12);
SELECT diag('identity_unmerge: seed ' || :'seed');
SELECT setseed(:seed::float8 / 65536) \g /dev/null
SET LOCAL client_min_messages = warning;
CREATE TEMP TABLE mine AS SELECT i, cdp.identify(jsonb_build_object('member_id', 'h' || i, 'device_id', 'h' || i)) AS id FROM generate_series(1, 40) i;
CREATE TEMP TABLE state AS SELECT p.profile_id, cdp.customer_id(p.profile_id) AS customer_id FROM cdp.profile p;
SELECT coalesce(max(merge_id), 0) AS start FROM cdp.merge_log \gset

-- merges and their undoing, also of merges in the middle; with sightings also identifiers that are seen on both sides
CREATE FUNCTION pg_temp.some() RETURNS bigint LANGUAGE sql AS $$ SELECT id FROM mine ORDER BY random() LIMIT 1 $$;
CREATE FUNCTION pg_temp.history(n int, sightings boolean) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	dice float8;
	x bigint;
	y bigint;
	m bigint;
	predicted text;
	wrong int := 0;
BEGIN
	FOR k IN 1 .. n LOOP
		PERFORM set_config('cdp.now', ('2026-03-01Z'::timestamptz + k * interval '1 hour')::text, true);
		dice := random();
		x := pg_temp.some();
		y := pg_temp.some();
		BEGIN
			IF dice < 0.5 THEN
				PERFORM cdp.merge_customers(x, y, 'test');
			ELSIF dice < 0.6 THEN
				PERFORM cdp.allow_merge(x, y, 'test');
			ELSIF dice < 0.7 AND sightings THEN
				PERFORM cdp.identify(jsonb_build_object('device_id', 'h' || (SELECT i FROM mine WHERE id = x), 'anonymous_id', 'h' || k % 30));
			ELSE
				m := CASE WHEN dice < 0.85 THEN (SELECT l.merge_id FROM cdp.merge_log l WHERE l.before ? 'loser' ORDER BY random() LIMIT 1) END;
				SELECT string_agg(format('%s/%s', p.profile_id, p.customer_after), ' ' ORDER BY p.profile_id) INTO predicted FROM cdp.preview_unmerge(x, m) p;
				CREATE TEMP TABLE before AS SELECT p.profile_id, cdp.customer_id(p.profile_id) AS c FROM cdp.profile p;
				y := cdp.unmerge_customer(x, 'test', m);
				wrong := wrong + (y <> cdp.customer_id(x))::int + (predicted IS DISTINCT FROM
					(SELECT string_agg(format('%s/%s', b.profile_id, cdp.customer_id(b.profile_id)), ' ' ORDER BY b.profile_id)
					 FROM before b WHERE b.c <> cdp.customer_id(b.profile_id)))::int;
				DROP TABLE before;
			END IF;
		EXCEPTION WHEN invalid_parameter_value OR SQLSTATE 'LC102' THEN
			NULL;	-- with itself, kept apart, not a merge of this customer
		END;
	END LOOP;
	RETURN wrong;
END $$;
SELECT is(pg_temp.history(150, false), 0, 'previews come true, the answer is the side of the profile');
SELECT is_empty('SELECT * FROM cdp.verify_identity()', 'the partition is sound');
SELECT is_empty('SELECT * FROM cdp.recheck_identity()', 'a re-check agrees with the operator');
SELECT is(pg_temp.history(200, true), 0, 'with sightings in between: previews come true');
SELECT is_empty('SELECT * FROM cdp.verify_identity()', '… the partition is sound');
SELECT ok((SELECT count(*) FILTER (WHERE action = 'merge') > 30 AND count(*) FILTER (WHERE action = 'unmerge') > 10 FROM cdp.merge_log WHERE merge_id > :start),
	'many merges were made and taken back');

-- the log alone, row by row, leads from the first state to the last
CREATE FUNCTION pg_temp.replay(start bigint) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	r record;
	wrong int := 0;
BEGIN
	FOR r IN SELECT * FROM cdp.merge_log WHERE merge_id > start ORDER BY merge_id LOOP
		-- profiles that came since, each its own customer
		INSERT INTO state SELECT p::bigint, p::bigint FROM jsonb_path_query(r.before, '$.*[*]') p WHERE NOT EXISTS (SELECT FROM state s WHERE s.profile_id = p::bigint);
		IF r.before ? 'loser' THEN
			wrong := wrong + ((SELECT jsonb_agg(s.profile_id ORDER BY s.profile_id) FROM state s WHERE s.customer_id = r.other_id) <> r.before -> 'loser')::int;
			UPDATE state SET customer_id = r.customer_id WHERE customer_id = r.other_id;
		ELSE
			UPDATE state SET customer_id = r.other_id WHERE r.after -> 'loser' @> to_jsonb(profile_id);
			wrong := wrong + ((SELECT jsonb_agg(s.profile_id ORDER BY s.profile_id) FROM state s WHERE s.customer_id = r.customer_id) <> r.after -> 'winner')::int;
		END IF;
	END LOOP;
	RETURN wrong;
END $$;
SELECT is(pg_temp.replay(:start), 0, 'every row of the log fits the state before it');
SELECT set_eq('SELECT s.profile_id, s.customer_id FROM state s WHERE s.profile_id IN (SELECT id FROM mine)',
	'SELECT id, cdp.customer_id(id) FROM mine', 'the log replays to the aliases');

-- more merges, then all of them taken back, the last first: identifiers and aliases are the same rows
SELECT max(merge_id) AS mark FROM cdp.merge_log \gset
CREATE TEMP TABLE alias AS SELECT * FROM cdp.profile_alias;
CREATE TEMP TABLE ident AS SELECT * FROM cdp.identifier;
DO $$
BEGIN
	FOR k IN 1 .. 40 LOOP
		BEGIN
			PERFORM cdp.merge_customers(pg_temp.some(), pg_temp.some(), 'test');
		EXCEPTION WHEN invalid_parameter_value OR SQLSTATE 'LC102' THEN NULL;
		END;
	END LOOP;
END $$;
-- with some seeds the limits leave nothing to merge
SELECT cmp_ok((SELECT count(*) FROM cdp.profile_alias), '>=', (SELECT count(*) FROM alias), 'more merges were made, or none was possible');
SELECT count(cdp.unmerge_customer(other_id, 'back', merge_id)) FROM (SELECT * FROM cdp.merge_log WHERE merge_id > :mark ORDER BY merge_id DESC) l \g /dev/null
SELECT set_eq('SELECT * FROM cdp.profile_alias', 'SELECT * FROM alias', 'taken back from the last to the first, the aliases are as before');
SELECT set_eq('SELECT * FROM cdp.identifier', 'SELECT * FROM ident', '… and so are the identifiers');
SELECT count(*) FROM cdp.recheck_identity(dry_run => false) \g /dev/null
SELECT is_empty('SELECT * FROM cdp.verify_identity() UNION ALL SELECT ''recheck'', r::text FROM cdp.recheck_identity() r',
	'a re-check of all that leaves it sound');
SELECT * FROM finish();
ROLLBACK;
