-- Every function of schema cdp that the catalog knows, those of modules to come too, called with what nobody should
-- hand it: NULL, empty, infinite, huge, nested, malformed.  One argument is hostile, the others are as good as their
-- names allow, so that a call comes as far as it can; some calls are hostile all over.  Asked is little, and always:
--
--	 no call ends the server, none ends in an internal error (XX...) or a constraint that was the only check
--	 who is refused is told what to do: an error of ours has a hint
--	 no message, detail or hint repeats the value of an identifier or a trait
--	 none takes long, and none leaves a setting of the session changed
--
-- The choice of the calls is random: `psql -v seed=0.5` repeats a run, its seed is printed.
BEGIN;
SET LOCAL client_min_messages = error;
-- one that hangs fails the test instead
-- everything is done in seconds; a machine that does other things, too, takes its time
SET LOCAL statement_timeout = '8min';
SET LOCAL lock_timeout = '1s';
SET LOCAL search_path = public;
SELECT plan(7);
\if :{?seed}
\else
SELECT round(random()::numeric, 6) AS seed \gset
\endif
SELECT diag('seed ' || :'seed');
SELECT setseed(:seed);

-- a small world to be hostile in; Secret is the mark of what must not be repeated
CREATE TABLE hostile_shop (id text PRIMARY KEY, total numeric, at timestamptz);
INSERT INTO hostile_shop VALUES ('SecretOrder', 'NaN', 'infinity'), ('', -1, '-infinity'), ('x', 1, '2024-01-01');
CREATE VIEW hostile_view AS SELECT * FROM hostile_shop;
CREATE TABLE hostile_parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TYPE hostile_type AS (id int);
CREATE ROLE cdp_tap_hostile;
GRANT USAGE ON SCHEMA public TO cdp_tap_hostile;
GRANT SELECT ON hostile_shop TO cdp_tap_hostile;
SELECT cdp.grant_access('admin', 'cdp_tap_hostile');
SELECT cdp.identify('{"member_id": "SecretMember", "phone": "13812345678"}', '{"name": "SecretName"}') AS customer \gset
SELECT set_config('hostile.customer', :'customer', true);
SELECT cdp.record_order('{"member_id": "SecretMember"}', '{"order_id": "o-1", "ordered_at": "2024-01-01T00:00:00Z", "amount": 10}');
SELECT cdp._create_consumer('hostile', 'event', true);

-- what an argument of that name should be, as an expression; NULL: unknown
CREATE FUNCTION hostile_good(name text, type regtype) RETURNS text LANGUAGE sql AS $$
	SELECT CASE
		WHEN type = 'regclass'::regtype THEN '''public.hostile_shop''::regclass'
		WHEN name IN ('customer_id', 'profile_id', 'winner') AND type = 'bigint'::regtype THEN current_setting('hostile.customer')
		WHEN name IN ('profile_ids') THEN format('ARRAY[%s]::bigint[]', current_setting('hostile.customer'))
		WHEN name = 'identifiers' AND type = 'jsonb'::regtype THEN '''{"member_id": "SecretMember"}''::jsonb'
		WHEN name = 'items' THEN '''[{"identifiers": {"member_id": "SecretMember"}, "name": "X"}]''::jsonb'
		WHEN name = 'sales_order' THEN '''{"order_id": "o-2", "ordered_at": "2024-01-01T00:00:00Z", "amount": 1}''::jsonb'
		WHEN name = 'mapping' THEN '''{"order_id": "id", "ordered_at": "at", "amount": "total", "identifiers": {"member_id": "id"}}''::jsonb'
		WHEN type = 'jsonb'::regtype THEN '''{"a": "SecretTrait"}''::jsonb'
		WHEN type IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype) THEN format('''2024-05-05''::%s', type)
		WHEN type IN ('numeric'::regtype, 'float8'::regtype, 'bigint'::regtype, 'int'::regtype) THEN format('1::%s', type)
		WHEN type = 'boolean'::regtype THEN 'true'
		ELSE (SELECT quote_literal(v) || '::' || type FROM (VALUES ('role', 'order'), ('kind', 'phone'), ('value', '13812345678'), ('order_id', 'o-1'),
			('role_name', 'cdp_tap_hostile'), ('consumer', 'hostile'), ('log', 'event'), ('job', 'retry_sources'), ('on_error', 'queue'), ('term', 'Secret'),
			('currency', 'CNY'), ('status', 'paid'), ('query', 'SELECT 1::bigint AS customer_id, now() AS occurred_at, 1::numeric AS amount')) g(n, v)
			WHERE g.n = name AND type IN ('text'::regtype, 'name'::regtype))
	END $$;

-- hostile expressions of a type
CREATE FUNCTION hostile_values(type regtype) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	class char := (SELECT typtype FROM pg_type WHERE oid = type);
	elem  regtype := (SELECT nullif(typelem, 0) FROM pg_type WHERE oid = type AND typcategory = 'A');
	attrs int := (SELECT relnatts FROM pg_class WHERE reltype = type);
BEGIN
	RETURN NEXT format('NULL::%s', type);
	IF elem IS NOT NULL THEN
		RETURN QUERY SELECT format('%s::%s', v, type) FROM unnest(ARRAY['''{}''', '''{NULL}''', '''{{NULL,NULL},{NULL,NULL}}''', '''[-5:-4]={NULL,NULL}''']) v;
		RETURN QUERY SELECT format('ARRAY[%s, NULL, %s]::%s', v, v, type) FROM hostile_values(elem) v OFFSET 1 LIMIT 8;
	ELSIF class = 'c' THEN
		RETURN QUERY SELECT format('ROW(%s)::%s', (SELECT string_agg(coalesce((SELECT v FROM hostile_values(atttypid) v OFFSET o LIMIT 1), 'NULL'), ', ' ORDER BY attnum)
			FROM pg_attribute JOIN pg_type ON typrelid = attrelid WHERE pg_type.oid = type AND attnum > 0), type) FROM generate_series(0, 4) o;
	ELSIF class IN ('r', 'm', 'd', 'e') OR type = 'anyelement'::regtype THEN
		RETURN;
	ELSE
		RETURN QUERY SELECT format('%s::%s', v, type) FROM unnest(CASE
			WHEN type IN ('text'::regtype, 'name'::regtype, 'cstring'::regtype) THEN ARRAY['''''', ''' ''', '''infinity''', '''a''', 'repeat(''x'', 1000000)', 'repeat(''é'', 700)',
				'(''a'' || chr(39) || chr(34) || chr(92) || repeat(chr(36), 2) || '';--%s%n'' || chr(10) || chr(1))', '''cdp.event''', '''SELECT 1; SELECT 2''', '''Secret"x''']
			WHEN type = 'jsonb'::regtype THEN ARRAY['''null''', '''1''', '''"x"''', '''{}''', '''[]''', '''[null]''', '''[[[]]]''', '''{"": ""}''', '''{"member_id": [["SecretX"]]}''', '''{"member_id": {"a": 1}}''', '''{"member_id": null}''',
				'(repeat(''['', 4000) || repeat('']'', 4000))', '(repeat(''{"a":'', 4000) || ''1'' || repeat(''}'', 4000))', 'jsonb_build_object(''member_id'', repeat(''Secret'', 200000))',
				'jsonb_build_object(repeat(''x'', 100000), 1)', '''{"member_id": "SecretMember", "nobody": "SecretX"}''', '''{"order_id": "o-3", "ordered_at": "infinity", "amount": 1}''',
				'''{"order_id": "o-3", "ordered_at": "2024-01-01", "amount": "NaN"}''', '''{"order_id": "o-3", "ordered_at": "2024-01-01", "amount": 1e999}''', '''{"order_id": "o-3", "ordered_at": "2024-01-01", "amount": -1, "lines": {}}''',
				'''{"order_id": "o-3", "ordered_at": "2024-01-01", "amount": 1, "lines": [{"line_no": 1, "product_id": "p", "quantity": -1}, {"line_no": 1e99, "product_id": "p"}]}''',
				'''[{"identifiers": {"member_id": "SecretMember"}, "name": "X", "occurred_at": "SecretTime"}]''', '''[{"identifiers": {"member_id": "SecretMember"}, "name": 5, "properties": []}]''', '''[{"identifiers": [], "traits": "SecretX"}, 1, null]''']
			WHEN type = 'bigint'::regtype THEN ARRAY['0', '(-1)', '9223372036854775807', '(-9223372036854775807)']
			WHEN type = 'int'::regtype THEN ARRAY['0', '(-1)', '2147483647', '(-2147483647)']
			WHEN type = 'numeric'::regtype THEN ARRAY['0', '(-1)', '''NaN''', '''Infinity''', '''-Infinity''', '1e131000', '1e-16000']
			WHEN type = 'float8'::regtype THEN ARRAY['0', '(-1)', '''NaN''', '''Infinity''', '''-Infinity''', '1e300', '1e-300']
			WHEN type IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype) THEN ARRAY['''infinity''', '''-infinity''', '''4713-03-01 BC''', '''294270-12-31''', '''0001-01-01''']
			WHEN type = 'interval'::regtype THEN ARRAY['''0''', '''-1 day''', '''178000000 years''', '''2147483647 days''']
			WHEN type = 'boolean'::regtype THEN ARRAY['false']
			WHEN type = 'bytea'::regtype THEN ARRAY['''''', '''\x00''', 'decode(repeat(''00'', 9), ''hex'')', 'decode(repeat(''ff'', 40), ''hex'')', 'decode(''434e590000000000'' || ''1c000000'' || repeat(''ff'', 3), ''hex'')', 'decode(repeat(''01'', 100000), ''hex'')']
			WHEN type = 'regclass'::regtype THEN ARRAY['0', '4294967295', '''pg_class''', '''pg_class_oid_index''', '''cdp.event''', '''cdp.customer''', '''cdp.event_event_id_seq''', '''public.hostile_view''', '''public.hostile_parts''', '''public.hostile_type''', '''information_schema.tables''']
			ELSE ARRAY['''''', '''()''', '''(1,1,1,1,1,1)''', '''(9223372036854775806,-9223372036854775806,9223372036854775806,9223372036854775807,NaN,1e99)''', '''((((((''']
		END) v;
	END IF;
END $$;

-- the calls: functions, procedures and aggregates; a trigger function has no arguments to be hostile with.  Not called:
-- what drops all data on purpose, and the demo, which takes as many rows as it is asked for.
CREATE TEMP TABLE hostile_call (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ms float8, f regprocedure, sql text, state text, said text, hint text);
DO $$
DECLARE
	f record;
	i int;
	v text;
	args text[];
BEGIN
	FOR f IN SELECT p.oid::regprocedure AS f, p.*, ARRAY(SELECT CASE t WHEN 'anyelement'::regtype THEN 'cdp.event'::regtype WHEN 'anyarray'::regtype THEN 'numeric[]'::regtype ELSE t::regtype END
			FROM unnest(p.proargtypes) WITH ORDINALITY u(t, o) ORDER BY o) AS types,
			ARRAY(SELECT n FROM unnest(coalesce(p.proargnames, '{}'), p.proargmodes) WITH ORDINALITY u(n, m, o) WHERE m IS NULL OR m IN ('i', 'b', 'v') ORDER BY o) AS names
		FROM pg_proc p WHERE p.pronamespace = 'cdp'::regnamespace AND NOT ('internal'::regtype = ANY (p.proargtypes)) AND p.prorettype <> 'trigger'::regtype
		  AND p.proname NOT IN ('drop_data', 'load_demo', '_migrate', '_lock_tables', '_lock_relation', '_migrate_end') AND p.proname NOT LIKE '\_demo%' ORDER BY p.oid::regprocedure::text
	LOOP
		FOR i IN 0..f.pronargs LOOP
			FOR v IN SELECT * FROM hostile_values(f.types[greatest(i, 1)]) v WHERE i > 0 OR random() < 0.5 LOOP
				args := ARRAY(SELECT CASE WHEN o = i THEN v
						WHEN i = 0 THEN coalesce((SELECT h FROM hostile_values(t) h WHERE o > 0 ORDER BY random() LIMIT 1), 'NULL')
						-- a default is the best of the good
						WHEN o > f.pronargs - f.pronargdefaults AND random() < 0.7 THEN (string_to_array(pg_get_expr(f.proargdefaults, 0), ', '))[o - f.pronargs + f.pronargdefaults]
						ELSE coalesce(hostile_good(f.names[o], t), (SELECT h FROM hostile_values(t) h WHERE h NOT LIKE 'NULL::%' AND o > 0 ORDER BY random() LIMIT 1), 'NULL') END
					FROM unnest(f.types) WITH ORDINALITY u(t, o) ORDER BY o);
				INSERT INTO hostile_call (f, sql) SELECT f.f, format(CASE f.prokind WHEN 'p' THEN 'CALL cdp.%I(%s)' WHEN 'a' THEN 'SELECT cdp.%I(%s)' ELSE 'SELECT count(x.*) FROM cdp.%I(%s) AS x' END,
					f.proname, (SELECT string_agg(CASE WHEN f.provariadic <> 0 AND o = f.pronargs THEN 'VARIADIC ' ELSE '' END || a, ', ' ORDER BY o) FROM unnest(args) WITH ORDINALITY u(a, o)));
			END LOOP;
		END LOOP;
		IF f.pronargs = 0 AND f.prokind <> 'p' THEN
			INSERT INTO hostile_call (f, sql) VALUES (f.f, format('SELECT count(x.*) FROM cdp.%I() AS x', f.proname));
		END IF;
	END LOOP;
END $$;
CREATE FUNCTION hostile_run(role_name text, part float8) RETURNS void LANGUAGE plpgsql AS $$
-- each call in a subtransaction that never commits
DECLARE
	c  record;
	at timestamptz;
	s text; m text; d text; h text;
BEGIN
	UPDATE hostile_call SET ms = NULL, state = NULL, said = NULL, hint = NULL;
	FOR c IN SELECT * FROM hostile_call WHERE has_function_privilege(role_name, f, 'EXECUTE') AND random() < part ORDER BY id LOOP
		at := clock_timestamp();
		BEGIN
			PERFORM set_config('role', role_name, true);
			EXECUTE c.sql;
			RAISE EXCEPTION USING ERRCODE = 'ZZ000';
		EXCEPTION WHEN OTHERS OR assert_failure THEN
			GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
		END;
		UPDATE hostile_call SET ms = extract(epoch FROM clock_timestamp() - at) * 1000, state = s, said = concat_ws(E'\n', m, d, h), hint = h WHERE id = c.id;
	END LOOP;
END $$;

-- all functions as the owner of everything, then what an admin may call as an admin, what everybody may as nobody
CREATE TEMP TABLE hostile_answer AS SELECT ''::text AS who, c.* FROM hostile_call c LIMIT 0;
CREATE ROLE cdp_tap_nobody;
CREATE TEMP TABLE hostile_settings AS SELECT name, setting FROM pg_settings;
SELECT hostile_run(current_user, 0.35);
INSERT INTO hostile_answer SELECT 'owner', * FROM hostile_call WHERE ms IS NOT NULL;
SELECT hostile_run('cdp_tap_hostile', 1);
INSERT INTO hostile_answer SELECT 'admin', * FROM hostile_call WHERE ms IS NOT NULL;
SELECT hostile_run('cdp_tap_nobody', 1);
INSERT INTO hostile_answer SELECT 'nobody', * FROM hostile_call WHERE ms IS NOT NULL;
SELECT diag(format('%s calls, %s taken, %s ms', count(*), count(*) FILTER (WHERE state = 'ZZ000'), round(sum(ms)))) FROM hostile_answer;
-- what is longer is cut
CREATE TEMP VIEW hostile_shown AS SELECT who, f, state, left(said, 160) AS said, left(sql, 300) AS sql, said AS all_said, hint, ms,
	f::text LIKE 'cdp.\_%' AS internal FROM hostile_answer WHERE state <> 'ZZ000';

SELECT cmp_ok((SELECT count(*) FROM hostile_answer), '>', 2000::bigint, 'there are calls to judge');
SELECT is_empty($$SELECT who, f, state, said, sql FROM hostile_shown WHERE state LIKE 'XX%' OR state LIKE 'P0004%' LIMIT 20$$,
	'none ends in an internal error');
SELECT is_empty($$SELECT who, f, state, said, sql FROM hostile_shown WHERE state LIKE '23%' AND NOT internal
	AND NOT (state = '23503' AND said LIKE '%there is no customer%') LIMIT 20$$,
	'no verb leaves it to a constraint to find bad input');
-- the server's own messages: the syntax of an SQL text, of a name, a COMMIT that cannot be here, a table that is there,
-- a product of numerics with 131,000 digits each
SELECT is_empty($$SELECT who, f, state, said, sql FROM hostile_shown WHERE coalesce(hint, '') = '' AND NOT internal
	AND state NOT IN ('42601', '42602', '2D000', '42P07', '42803', '42883', '42501', '55P03', '22008')
	AND said <> E'value overflows numeric format\n\n' LIMIT 20$$, 'who is refused by a verb is told what to do');
SELECT is_empty($$SELECT who, f, state, said, sql FROM hostile_shown WHERE all_said ~ 'Secret(Member|Name|Trait|Order|X|Time)|13812345678' AND NOT (internal AND state LIKE '23%') LIMIT 20$$,
	'no message repeats a value');
SELECT is_empty($$SELECT who, f, ms, sql FROM hostile_answer WHERE ms > 60000 LIMIT 20$$, 'none takes longer than a minute');
SELECT is_empty($$SELECT s.name, h.setting AS was, s.setting AS "is" FROM pg_settings s JOIN hostile_settings h USING (name)
	WHERE h.setting IS DISTINCT FROM s.setting AND s.name <> 'seed'$$, 'the settings of the session are as they were');
SELECT * FROM finish();
ROLLBACK;
