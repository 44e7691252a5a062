-- What identity refuses: every kind of bad input with its SQLSTATE and hint, without personal data in message, detail,
-- hint or context, and with nothing written.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-01 12:00+08';
SELECT cdp.identify('{"member_id": "r-1"}', '{"name": "王芳"}'), cdp.identify('{"member_id": "r-2"}'), cdp.identify('{"member_id": "r-3"}');

-- 25006, 23514 and 22P02 are the server's own, without hint.  $1 is what must not be heard again; everything that identity may write is counted before and after
CREATE FUNCTION state() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(t || query_to_xml('SELECT count(*) AS n, md5(coalesce(string_agg(x::text, '';'' ORDER BY x::text), '''')) AS h FROM cdp.' || t || ' x', false, true, '')::text, '' ORDER BY t)
	FROM unnest('{identifier_kind,profile,identifier,profile_alias,identity_link,merge_log,merge_refusal,profile_trait,trait_reject,match_model,match_candidate,event,survivorship}'::text[]) t
$$;
CREATE FUNCTION refused(call text, secret text DEFAULT 'secret-4711') RETURNS TABLE (code text, message text, hint text, remark text) LANGUAGE plpgsql AS $$
DECLARE
	before  text := state();
	detail  text;
	context text;
BEGIN
	BEGIN
		EXECUTE 'SELECT count(x::text) FROM (SELECT ' || call || ') x' USING secret;
		message := 'accepted';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
	END;
	remark := concat_ws(', ', CASE WHEN length(secret) > 3 AND concat(message, detail, hint, context) LIKE '%' || left(secret, 20) || '%' THEN 'TELLS THE VALUE' END,
		CASE WHEN before <> state() THEN 'WRITES' END, CASE WHEN hint = '' AND code NOT IN ('25006', '23514', '22P02') THEN 'NO HINT' END, nullif(detail, ''));
	RETURN NEXT;
END $$;
\pset format unaligned
\t on
\echo -- what this test would see
SELECT call, r.* FROM unnest(ARRAY['$1::int', 'cdp.identify(''{"member_id": "r-4"}'')', 'cdp._match_edges()']) WITH ORDINALITY c(call, n), refused(call) r ORDER BY n;
\echo -- the shape of identifiers
SELECT call, r.* FROM unnest(ARRAY[
	'cdp.identify(NULL)', 'cdp.identify(to_jsonb($1))', 'cdp.identify(jsonb_build_array($1))', 'cdp.identify(''7'')', 'cdp.identify(''null'')', 'cdp.identify(''{}'')',
	'cdp.identify(jsonb_build_object(''phone'', jsonb_build_array(jsonb_build_array($1))))', 'cdp.identify(jsonb_build_object(''phone'', jsonb_build_object(''x'', $1)))',
	'cdp.identify(jsonb_build_object(''phone'', jsonb_build_array($1, 7)))', 'cdp.identify(''{"phone": 13800138000}'')', 'cdp.identify(''{"phone": true}'')',
	'cdp.identify(''{"phone": [null, "  "], "email": null}'')', 'cdp.identify(jsonb_build_object(''phone'', $1))',
	'cdp.identify(jsonb_build_object(''member_id'', (SELECT jsonb_agg($1 || g) FROM generate_series(1, 33) g)))',
	'cdp.identify(jsonb_build_object(''shoe_size'', $1))', 'cdp.identify(jsonb_build_object($1, ''phone''))', 'cdp.identify(jsonb_build_object('''', $1))', 'cdp.resolve(''shoe_size'', $1)', 'cdp.resolve($1, ''phone'')']) WITH ORDINALITY c(call, n), refused(call) r ORDER BY n;
SELECT call, r.* FROM unnest(ARRAY['cdp.identify(jsonb_build_object(''member_id'', repeat($1, 1000000)))', 'cdp.identify(jsonb_build_object(''phone'', repeat($1, 1000000)))',
	'cdp.identify(jsonb_build_object(repeat($1, 1000000), ''x''))', 'cdp.resolve(repeat($1, 1000000), ''x'')']) WITH ORDINALITY c(call, n), refused(call) r ORDER BY n;
\echo -- time, source, traits
SELECT call, r.* FROM unnest(ARRAY['cdp.identify(''{"member_id": "r-9"}'', occurred_at => ''infinity'')', 'cdp.identify(''{"member_id": "r-9"}'', occurred_at => ''-infinity'')',
	'cdp.identify(''{"member_id": "r-9"}'', occurred_at => ''2026-03-02 12:00:01+08'')',
	'cdp.identify(''{"member_id": "r-9"}'', source => repeat($1, 20))', 'cdp.identify(''{"member_id": "r-9"}'', to_jsonb($1))', 'cdp.identify(''{"member_id": "r-9"}'', jsonb_build_array($1))',
	'cdp.identify(''{"member_id": "r-9"}'', jsonb_build_object(repeat($1, 20), 1))']) WITH ORDINALITY c(call, n), refused(call) r ORDER BY n;
\echo -- a batch tells the number of the item, also when there is only one
SELECT call, r.* FROM unnest(ARRAY['cdp.identify_many(NULL)', 'cdp.identify_many(''{}'')', 'cdp.identify_many(to_jsonb($1))', 'cdp.identify_many(''[]'', $1)', 'cdp.identify_many(jsonb_build_array($1))',
	'cdp.identify_many(''[{}]'')', 'cdp.identify_many(jsonb_build_array(''{"identifiers": {"member_id": "r-9"}}''::jsonb, jsonb_build_object(''identifiers'', jsonb_build_object(''shoe_size'', $1))))',
	'cdp.identify_many(jsonb_build_array(jsonb_build_object(''identifiers'', jsonb_build_object(''phone'', $1))))',
	'cdp.identify_many(jsonb_build_array(jsonb_build_object(''identifiers'', ''{"member_id": "r-9"}''::jsonb, ''occurred_at'', $1)))',
	'cdp.identify_many(jsonb_build_array(jsonb_build_object(''identifiers'', ''{"member_id": "r-9"}''::jsonb, $1, 1)))',
	'cdp.identify_many((SELECT jsonb_agg(g) FROM generate_series(0, 100000) g))']) WITH ORDINALITY c(call, n), refused(call) r ORDER BY n;
-- the bad ones of a batch are left out, the others are taken
SELECT * FROM cdp.identify_many(jsonb_build_array('{"identifiers": {"member_id": "r-1"}}'::jsonb,
	jsonb_build_object('identifiers', '{"member_id": "r-2"}'::jsonb, 'traits', jsonb_build_object(repeat('t', 201), 1)), '{"identifiers": {"member_id": "r-3"}, "occurred_at": "infinity"}'::jsonb, 7), 'skip');
\echo -- verbs of an operator
SELECT call, r.* FROM unnest(ARRAY['cdp.merge_customers(NULL, 1, $1)', 'cdp.merge_customers(1, NULL, $1)', 'cdp.merge_customers(1, 999, $1)', 'cdp.merge_customers(-1, 1, $1)', 'cdp.merge_customers(1, 1, $1)',
	'cdp.preview_merge(1, NULL)', 'cdp.preview_merge(1, 1)', 'cdp.preview_merge(1, 999)', 'cdp.allow_merge(NULL, 1, $1)', 'cdp.allow_merge(1, 1, $1)', 'cdp.allow_merge(1, 999, $1)',
	'cdp.unmerge_customer(NULL, $1)', 'cdp.unmerge_customer(999, $1)', 'cdp.unmerge_customer(1, $1, 999)', 'cdp.preview_unmerge(NULL)', 'cdp.preview_unmerge(999)',
	'cdp.detach_identifier(NULL, $1, $1)', 'cdp.detach_identifier(''phone'', NULL, $1)', 'cdp.detach_identifier($1, ''phone'', $1)', 'cdp.set_traits(NULL, ''{}'')', 'cdp.set_traits(999, ''{}'')', 'cdp.set_traits(1, to_jsonb($1))']) WITH ORDINALITY c(call, n), refused(call) r ORDER BY n;
\echo -- matching
CREATE TABLE rec AS SELECT g::bigint AS id, 'secret-4711 ' || g % 50 AS name, g % 10 AS city FROM generate_series(1, 200) g;
SELECT call, r.* FROM unnest(ARRAY['NaN', '-0.1', '1.1', 'infinity']) v,
	LATERAL (VALUES (format('cdp.match_profiles(''x'', %L)', v)), (format('cdp.match_profiles(''x'', 1, %L)', v)), (format('cdp.cluster_pairs(''SELECT 1, 2, 0.5'', %L)', v)), (format('cdp.cluster_pairs(''SELECT 1, 2, 0.5'', 1, %L)', v)),
		(format('cdp.cluster_pairs(''SELECT 1, 2, 0.5'', 1, 0, %L)', v)), (format('cdp.cluster_pairs(''SELECT 1, 2, ''%L''::float8'')', v))) c(call), refused(call) r ORDER BY v COLLATE "C", call COLLATE "C";
SELECT call, r.* FROM unnest(ARRAY['cdp.match_profiles(''x'', 0.5, 0.6)', 'cdp.match_profiles(''x'')', 'cdp.match_profiles(''x'', dry_run => NULL)', 'cdp.cluster_pairs(''SELECT 1, 2, 0.5'', 0.5, 0.6)',
	'cdp.decide_match(NULL, ''same'')', 'cdp.decide_match(999, ''same'')', 'cdp.decide_match(1, $1)']) WITH ORDINALITY c(call, n), refused(call) r ORDER BY n;
SELECT comparisons, r.* FROM unnest(ARRAY['[]', '{}', 'null', '[{"kind": "name"}]', '[{"column": "name"}]', '[{"column": "name", "kind": "sound"}]', '[{"column": "nobody", "kind": "name"}]', '[{"column": "name", "kind": "name", "colour": 1}]']) WITH ORDINALITY c(comparisons, n),
	refused(format('cdp.fit_match(''SELECT * FROM rec'', %L, ''{l.city = r.city}'')', comparisons)) r ORDER BY n;
SELECT records, r.* FROM unnest(ARRAY['SELECT name FROM rec', 'SELECT name AS id, name FROM rec', 'SELECT 1 AS id, name FROM rec', 'SELECT NULL::bigint AS id, name FROM rec', 'SELECT 1 AS id; SELECT 2']) WITH ORDINALITY c(records, n),
	refused(format('cdp.fit_match(%L, ''[{"column": "name", "kind": "name"}]'', ''{l.name = r.name}'')', records)) r ORDER BY n;
SET cdp.max_block_pairs = 1000;
SELECT rule, r.* FROM unnest(ARRAY['true', 'l.id = 1', 'l.name = l.name AND r.name = r.name', 'l.name = r.name OR true', 'l.name IS NOT NULL AND r.name IS NOT NULL', 'l.id <> r.id', 'l.city = r.city', 'l.name = r.name; SELECT 1']) WITH ORDINALITY c(rule, n),
	refused(format('cdp.count_block_pairs(''SELECT * FROM rec'', ARRAY[%L])', rule)) r ORDER BY n;
RESET cdp.max_block_pairs;
\echo -- nothing that is handed in as text writes
CREATE TABLE sink (a bigint);
CREATE SEQUENCE tap;
CREATE FUNCTION leak(a bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.sink VALUES (a); RETURN a; END $$;
CREATE FUNCTION leak_by_sequence(a bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN nextval('public.tap'); END $$;
SELECT text, r.* FROM unnest(ARRAY['DELETE FROM sink RETURNING a AS id, a AS b, 0.5', 'WITH w AS (INSERT INTO sink VALUES (1) RETURNING a) SELECT a AS id, a, 0.5 FROM w', 'SELECT a AS id, a, 0.5 FROM sink FOR UPDATE',
	'SELECT leak(1) AS id, 1::bigint AS name, 0.5', 'SELECT leak_by_sequence(1) AS id, 1::bigint AS name, 0.5', 'SELECT 1::bigint AS id, 2::bigint AS name, 0.5 INTO kept', 'CREATE TABLE kept ()']) WITH ORDINALITY c(text, n),
	LATERAL (SELECT 'pairs' AS what, (refused(format('cdp.cluster_pairs(%L)', text))).* UNION ALL
		SELECT 'edges', (refused(format('cdp.connected_components(%L)', replace(text, ', 0.5', '')))).* UNION ALL
		SELECT 'records', (refused(format('cdp.count_block_pairs(%L, ''{l.name = r.name}'')', text))).*) r ORDER BY n, what;
SELECT count(*) AS written, (SELECT is_called FROM tap) AS taken FROM sink;
\echo -- rules of kinds
CREATE FUNCTION shaky(t text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT $1';
CREATE FUNCTION number(t text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION rule(settings text) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'UPDATE cdp.identifier_kind SET ' || settings || ' WHERE kind = ''device_id'''; RETURN 1; END $$;
SELECT settings, r.code, r.message, r.hint FROM unnest(ARRAY['blocked_pattern = ''(''', 'blocked_pattern = ''[''', 'normalizer = ''public.shaky''', 'normalizer = ''public.number''', 'normalizer = ''public.nobody''', 'normalizer = ''cdp.normalize_email(none)''', 'normalizer = ''''',
	'max_per_customer = 0', 'max_window = ''0''', 'ttl = ''-1 day''']) WITH ORDINALITY c(settings, n), refused(format('rule(%L)', settings)) r ORDER BY n;
\t off
SELECT * FROM cdp.verify_identity();
DROP TABLE rec, sink;
DROP SEQUENCE tap;
DROP FUNCTION state(), refused(text, text), leak(bigint), leak_by_sequence(bigint), shaky(text), number(text), rule(text);
