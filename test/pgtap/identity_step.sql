-- What a module that keeps something per customer is told: two-party steps, who leaves before who joins, each told when the
-- aliases already show the state after it and nothing beyond, in the transaction of the change.  A handler that only test
-- builds have (src/identity_step_test.c) writes down every step with the aliases as it finds them; then each verb is asked,
-- alone and in a random history.
\set seed `echo ${CDP_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d " ")}`
BEGIN;
SELECT plan(29);
SELECT diag('identity_step: seed ' || :'seed');
SELECT setseed(:seed::float8 / 65536) \g /dev/null
SET LOCAL client_min_messages = warning;

CREATE SCHEMA cdp_test;
CREATE TABLE cdp_test.heard (seq bigint GENERATED ALWAYS AS IDENTITY, winner bigint, loser bigint, action text, aliases jsonb, merge_id bigint, event_id bigint, xid xid8);
CREATE FUNCTION cdp_test.aliases() RETURNS jsonb LANGUAGE sql AS $$ SELECT coalesce(jsonb_object_agg(profile_id, customer_id), '{}') FROM cdp.profile_alias $$;
CREATE FUNCTION cdp_test.customers_changed(winner bigint, loser bigint, action text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('cdp_test.fail', true) = loser::text THEN
		RAISE EXCEPTION 'this module does not like it';
	END IF;
	INSERT INTO cdp_test.heard (winner, loser, action, aliases, merge_id, event_id, xid)
	SELECT winner, loser, action, cdp_test.aliases(), (SELECT max(l.merge_id) FROM cdp.merge_log l),
		(SELECT max(e.event_id) FROM cdp.event e WHERE e.name IN ('Customer Merged', 'Customer Unmerged')), pg_current_xact_id();
END $$;

-- what is wrong with what was heard since, one row each
CREATE TEMP TABLE since (aliases jsonb, merge_id bigint, event_id bigint);
CREATE FUNCTION pg_temp.listen() RETURNS void LANGUAGE sql AS $$
	TRUNCATE since, cdp_test.heard;
	INSERT INTO since SELECT cdp_test.aliases(), coalesce((SELECT max(merge_id) FROM cdp.merge_log), 0), coalesce((SELECT max(event_id) FROM cdp.event), 0);
$$;
CREATE FUNCTION pg_temp.wrong() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	h       cdp_test.heard;
	state   jsonb := (SELECT aliases FROM since);
	want    jsonb;
	joined  bigint[] := '{}';
BEGIN
	FOR h IN SELECT * FROM cdp_test.heard ORDER BY seq LOOP
		IF h.winner = h.loser OR h.xid <> pg_current_xact_id() THEN
			RETURN NEXT format('%s: twice the same, or another transaction', h);
		END IF;
		IF h.action = 'merge' THEN
			-- both were customers; all of the loser's go to the winner, nobody else
			IF state ?| ARRAY[h.winner::text, h.loser::text] THEN
				RETURN NEXT format('%s: one was no customer', h);
			END IF;
			want := (SELECT coalesce(jsonb_object_agg(key, CASE WHEN value = to_jsonb(h.loser) THEN to_jsonb(h.winner) ELSE value END), '{}') FROM jsonb_each(state))
				|| jsonb_build_object(h.loser, h.winner);
			joined := joined || h.winner || h.loser;
		ELSE
			-- the loser was the winner's; he takes some of his profiles along, nobody else moves
			IF state ? h.winner::text OR state -> h.loser::text <> to_jsonb(h.winner) OR h.action <> 'unmerge' THEN
				RETURN NEXT format('%s: it was no part of him', h);
			END IF;
			want := (SELECT coalesce(jsonb_object_agg(key, CASE WHEN value = to_jsonb(h.winner) AND h.aliases -> key = to_jsonb(h.loser)
				THEN to_jsonb(h.loser) ELSE value END), '{}') FROM jsonb_each(state) WHERE key <> h.loser::text);
			IF joined && ARRAY[h.winner, h.loser] THEN
				RETURN NEXT format('%s: somebody joined before he left', h);
			END IF;
		END IF;
		IF h.aliases <> want THEN
			RETURN NEXT format('%s: the aliases are not those after this step', h);
		END IF;
		state := h.aliases;
	END LOOP;
	IF state <> cdp_test.aliases() THEN
		RETURN NEXT 'the aliases changed and nobody was told';
	END IF;
	-- each step has its row in the log and its event, and both are there when it is told
	RETURN QUERY SELECT format('log and steps differ: %s, %s', l, t) FROM
		(SELECT m.merge_id, m.customer_id, m.other_id, m.before ? 'loser' AS merged FROM cdp.merge_log m, since s WHERE m.merge_id > s.merge_id AND m.rule <> 'detach') l
		FULL JOIN cdp_test.heard t ON t.merge_id = l.merge_id AND (t.winner, t.loser, t.action = 'merge') = (l.customer_id, l.other_id, l.merged)
		WHERE t.seq IS NULL OR l.merge_id IS NULL;
	RETURN QUERY SELECT format('events and steps differ: %s, %s', e, t) FROM
		(SELECT v.event_id, (v.properties ->> 'customer_id')::bigint AS customer_id, (v.properties ->> 'other_id')::bigint AS other_id, v.name FROM cdp.event v, since s
		 WHERE v.event_id > s.event_id AND v.name IN ('Customer Merged', 'Customer Unmerged')) e
		FULL JOIN cdp_test.heard t ON t.event_id = e.event_id AND (t.winner, t.loser, t.action) = (e.customer_id, e.other_id, CASE e.name WHEN 'Customer Merged' THEN 'merge' ELSE 'unmerge' END)
		WHERE t.seq IS NULL OR e.event_id IS NULL;
END $$;
CREATE FUNCTION pg_temp.steps() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(left(action, 1), '' ORDER BY seq) FROM cdp_test.heard $$;
CREATE FUNCTION pg_temp.new(v text) RETURNS bigint LANGUAGE sql AS $$ SELECT cdp.identify(jsonb_build_object('customer_no', v)) $$;

-- one verb after the other
INSERT INTO cdp.identifier_kind (kind, priority) VALUES ('t_mail', 6), ('t_card', 7);
SELECT pg_temp.new('s-1') AS a, pg_temp.new('s-2') AS b, pg_temp.new('s-3') AS c, pg_temp.new('s-4') AS d, pg_temp.new('s-5') AS e \gset
SELECT pg_temp.listen() \g /dev/null
SELECT cdp.identify('{"customer_no": ["s-1", "s-2", "s-3", "s-4"]}') \g /dev/null
SELECT is(pg_temp.steps(), 'mmm', 'identify of four customers: three steps');
SELECT is_empty('SELECT pg_temp.wrong()', 'identify: each as it should be');
SELECT pg_temp.listen() \g /dev/null
SELECT cdp.identify('{"customer_no": ["s-1", "s-4"]}') \g /dev/null
SELECT is(pg_temp.steps(), NULL, 'nothing new: nobody is told');
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('customer_no', jsonb_build_array('b-' || g, 'b-' || g + 1)))) FROM generate_series(1, 9) g)) \g /dev/null
SELECT cmp_ok(length(pg_temp.steps()), '>=', 9, 'a batch that makes a chain');
SELECT is_empty('SELECT pg_temp.wrong()', 'identify_many: each as it should be');
SELECT pg_temp.listen() \g /dev/null
SELECT cdp.merge_customers(:e, :b, 'test') \g /dev/null
SELECT is(pg_temp.steps(), 'm', 'merge_customers: one step, of customers of four profiles and one');
SELECT is((SELECT (winner, loser) FROM cdp_test.heard), (:e::bigint, :a::bigint), 'with the ids of the two customers');
SELECT is_empty('SELECT pg_temp.wrong()', 'merge_customers: as it should be');
SELECT pg_temp.listen() \g /dev/null
SELECT cdp.merge_customers(:c, :d, 'again') \g /dev/null
SELECT is(pg_temp.steps(), NULL, 'one customer already: nobody is told');
SELECT cdp.unmerge_customer(:a, 'test') \g /dev/null
SELECT is(pg_temp.steps(), 'u', 'unmerge_customer: one step');
SELECT is((SELECT (winner, loser) FROM cdp_test.heard), (:e::bigint, :a::bigint), 'the side that leaves is the loser');
SELECT is_empty('SELECT pg_temp.wrong()', 'unmerge_customer: as it should be');
-- a merge in the middle of a chain is taken back: who came later goes where his evidence leads
SELECT pg_temp.listen() \g /dev/null
SELECT cdp.unmerge_customer(:a, 'test', (SELECT min(merge_id) FROM cdp.merge_log WHERE other_id = :b)) \g /dev/null
SELECT cmp_ok(pg_temp.steps(), '~', '^u+m*$', 'unmerge of an early merge: who leaves, then who joins');
SELECT is_empty('SELECT pg_temp.wrong()', 'unmerge of an early merge: each as it should be');
SELECT pg_temp.listen() \g /dev/null
SELECT cdp.detach_identifier('customer_no', 's-5', 'test') \g /dev/null
SELECT is_empty('SELECT pg_temp.wrong()', 'detach_identifier tells nobody');
-- a re-check that takes apart and puts together: the stronger evidence came last and was refused
UPDATE cdp.identifier_kind SET max_per_customer = 1 WHERE kind = 't_mail';
SELECT cdp.identify('{"member_id": "r-1", "t_mail": "r1"}'), cdp.identify('{"member_id": "r-2", "t_mail": "r2"}'), cdp.identify('{"alipay_id": "r-3"}'),
	cdp.identify('{"t_card": "r-c", "alipay_id": "r-3"}'), cdp.identify('{"member_id": "r-1", "t_card": "r-c"}'), cdp.identify('{"member_id": "r-2", "alipay_id": "r-3"}') \g /dev/null
SELECT pg_temp.listen() \g /dev/null
CREATE TEMP TABLE foreseen AS SELECT * FROM cdp.recheck_identity();
SELECT is(pg_temp.steps(), NULL, 'a dry run tells nobody');
SELECT count(*) FROM cdp.recheck_identity(dry_run => false) \g /dev/null
SELECT cmp_ok(pg_temp.steps(), '~', '^u+m+$', 'recheck: who leaves, then who joins');
SELECT is_empty('SELECT pg_temp.wrong()', 'recheck: each as it should be');
SELECT pg_temp.listen() \g /dev/null
SELECT cdp.allow_merge(:e, :a, 'test') \g /dev/null
SELECT is_empty('SELECT pg_temp.wrong()', 'allow_merge tells nobody');
-- matching goes the same way
SELECT pg_temp.listen() \g /dev/null
SELECT cdp._merge_match(pg_temp.new('q-1'), pg_temp.new('q-2'), 'match:test', 9, 'test', 'test') \g /dev/null
SELECT is(pg_temp.steps(), 'm', 'a match: one step');
SELECT is_empty('SELECT pg_temp.wrong()', 'a match: as it should be');
-- who cannot follow undoes the change, of three steps all
SELECT pg_temp.listen() \g /dev/null
SELECT pg_temp.new('f-1') AS f1, pg_temp.new('f-2') AS f2, pg_temp.new('f-3') AS f3 \gset
SELECT set_config('cdp_test.fail', :'f3', true) \g /dev/null
SELECT throws_ok($$SELECT cdp.identify('{"customer_no": ["f-1", "f-2", "f-3"]}')$$, 'P0001', 'this module does not like it', 'a module that fails fails the call');
SELECT is_empty('SELECT pg_temp.wrong()', 'and nothing has changed');
SELECT set_config('cdp_test.fail', '', true) \g /dev/null
SELECT is(cdp.customer_id(:f2), :f2::bigint, 'nor joined');

-- a random history of all verbs and rules
CREATE FUNCTION pg_temp.play(n int) RETURNS TABLE (verb text, steps text, trouble text) LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[];
	x   bigint;
	y   bigint;
BEGIN
	FOR i IN 1..n LOOP
		PERFORM pg_temp.listen();
		verb := (ARRAY['identify', 'identify', 'identify', 'identify_many', 'merge', 'merge', 'unmerge', 'unmerge', 'recheck', 'allow'])[1 + floor(random() * 10)];
		ids := ARRAY(SELECT profile_id FROM cdp.identifier WHERE value LIKE 'h-%' ORDER BY random() LIMIT 2);
		x := ids[1];
		y := ids[2];
		BEGIN
			CASE verb
			WHEN 'identify' THEN
				PERFORM cdp.identify((SELECT jsonb_object_agg(k, 'h-' || floor(random() * 30 + n * 0)::int) FROM unnest('{member_id,t_mail,t_card,alipay_id}'::text[]) k WHERE random() < 0.6 OR k = 'member_id'));
			WHEN 'identify_many' THEN
				PERFORM count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'h-' || floor(random() * 30 + g * 0)::int, 'alipay_id', 'h-' || floor(random() * 30 + g * 0)::int))) FROM generate_series(1, 5) g));
			WHEN 'merge' THEN
				PERFORM cdp.merge_customers(x, y, 'random', random() < 0.3);
			WHEN 'unmerge' THEN
				PERFORM cdp.unmerge_customer(x, 'random', CASE WHEN random() < 0.3 THEN (SELECT l.merge_id FROM cdp.merge_log l WHERE l.customer_id = cdp.customer_id(x) ORDER BY random() LIMIT 1) END);
			WHEN 'recheck' THEN
				UPDATE cdp.identifier_kind SET max_per_customer = (ARRAY[NULL, 1, 2, 3])[1 + floor(random() * 4)] WHERE kind = 't_mail';
				PERFORM count(*) FROM cdp.recheck_identity(dry_run => false);
			ELSE
				PERFORM cdp.allow_merge(x, y, 'random');
			END CASE;
		EXCEPTION WHEN SQLSTATE 'LC102' OR invalid_parameter_value OR null_value_not_allowed THEN
			verb := verb || ' refused';
		END;
		trouble := (SELECT string_agg(w, E'\n') FROM pg_temp.wrong() w);
		steps := pg_temp.steps();
		RETURN NEXT;
	END LOOP;
END $$;
CREATE TEMP TABLE history AS SELECT * FROM pg_temp.play(250);
SELECT is_empty('SELECT * FROM history WHERE trouble IS NOT NULL', 'a random history: each step as it should be');
SELECT cmp_ok(sum(length(steps)), '>', 60::bigint, 'there were some') FROM history;
SELECT is_empty($$SELECT unnest('{identify,identify_many,merge,unmerge,recheck}'::text[]) EXCEPT SELECT verb FROM history WHERE steps IS NOT NULL$$, 'of every verb');
SELECT cmp_ok(count(*), '>', 0::bigint, 'also such as take apart and put together') FROM history WHERE steps ~ 'um';
SELECT is_empty($$SELECT * FROM cdp.verify_identity() WHERE check_name <> 'limit'$$, 'and all is sound');
SELECT * FROM finish();
ROLLBACK;
