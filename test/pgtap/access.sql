-- Who may do what: the access rules, the rights that roles really have, doc/roles.md and doc/settings.md agree.
BEGIN;
\set roles `grep '^| .cdp' doc/roles.md`
\set settings `cat doc/settings.md`
SELECT plan(16);
CREATE TEMP VIEW part AS
	SELECT unnest(ARRAY[typinput, typoutput, typreceive, typsend, typmodin, typmodout, typanalyze, typsubscript]::oid[]) AS oid FROM pg_type
	UNION SELECT unnest(ARRAY[aggtransfn, aggfinalfn, aggcombinefn, aggmtransfn, aggminvtransfn, aggmfinalfn]::oid[]) FROM pg_aggregate
	UNION SELECT unnest(ARRAY[oprrest, oprjoin]::oid[]) FROM pg_operator
	UNION SELECT amproc FROM pg_amproc
	UNION SELECT oid FROM pg_proc WHERE prorettype IN ('trigger'::regtype, 'event_trigger'::regtype);

SELECT is_empty($$SELECT DISTINCT 'no @access row for ' || p.oid::regprocedure FROM pg_proc p
	WHERE pronamespace = 'cdp'::regnamespace AND proname NOT LIKE '\_%' AND p.oid NOT IN (SELECT oid FROM part)
	AND NOT EXISTS (SELECT FROM cdp._access_rules() r WHERE r.object_type = 'function' AND r.object = p.proname)$$,
	'every public function has a rule of access; {owner} is one');
SELECT is_empty($$SELECT r.* FROM cdp._access_rules() r
	WHERE NOT EXISTS (SELECT FROM pg_proc p WHERE r.object_type = 'function' AND p.pronamespace = 'cdp'::regnamespace AND p.proname = r.object)
	  AND NOT EXISTS (SELECT FROM pg_class c WHERE (r.object_type = 'table' AND c.relkind IN ('r', 'p', 'v', 'm', 'f') OR r.object_type = 'sequence' AND c.relkind = 'S')
		AND c.relnamespace = 'cdp'::regnamespace AND c.relname = r.object)$$, 'every rule of access names something that exists');
SELECT is_empty($$SELECT r.* FROM cdp._access_rules() r
	WHERE NOT kinds <@ '{public,reader,application,operator,admin,owner}' OR cardinality(kinds) = 0$$, 'rules name known kinds');

-- what each kind should have: the rules, written out per object and privilege
CREATE TEMP TABLE kind_has (kind text, has text[]);
INSERT INTO kind_has VALUES ('everybody', '{public}'), ('reader', '{public,reader}'), ('application', '{public,application}'),
	('operator', '{public,reader,operator}'), ('admin', '{public,reader,application,operator,admin}');
CREATE TEMP VIEW wanted AS
	SELECT DISTINCT k.kind, o.what, regexp_replace(upper(btrim(p)), ' \(.*\)$', ' of columns') AS privilege
	FROM kind_has k JOIN cdp._access_rules() r ON r.kinds && k.has
	CROSS JOIN regexp_split_to_table(r.privileges, ',(?![^(]*\))') p
	JOIN (SELECT 'function' AS object_type, proname AS name, oid::regprocedure::text AS what FROM pg_proc WHERE pronamespace = 'cdp'::regnamespace
		UNION ALL SELECT CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, relname, oid::regclass::text FROM pg_class
		WHERE relnamespace = 'cdp'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')) o
	ON o.object_type = r.object_type AND o.name = r.object;
-- what a role really has
CREATE FUNCTION pg_temp.actual(role_name name) RETURNS TABLE (what text, privilege text) LANGUAGE sql AS $$
	SELECT p.oid::regprocedure::text, 'EXECUTE' FROM pg_proc p
	WHERE p.pronamespace = 'cdp'::regnamespace AND has_function_privilege(role_name, p.oid, 'EXECUTE')
	UNION ALL
	SELECT c.oid::regclass::text, v FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) v
	WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND has_table_privilege(role_name, c.oid, v)
	UNION ALL
	-- a right on single columns counts as one on the table
	SELECT c.oid::regclass::text, v || ' of columns' FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) v
	WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
	  AND has_any_column_privilege(role_name, c.oid, v) AND NOT has_table_privilege(role_name, c.oid, v)
	UNION ALL
	SELECT c.oid::regclass::text, v FROM pg_class c, unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) v
	WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind = 'S' AND has_sequence_privilege(role_name, c.oid, v)
$$;
CREATE ROLE cdp_tap_everybody; CREATE ROLE cdp_tap_reader; CREATE ROLE cdp_tap_application; CREATE ROLE cdp_tap_operator; CREATE ROLE cdp_tap_admin;
SELECT count(cdp.grant_access(kind, ('cdp_tap_' || kind)::name)) AS granted FROM kind_has WHERE kind <> 'everybody' \gset
SELECT is(:granted, 4, 'four kinds of access are given');
SELECT set_eq(format('SELECT what, privilege FROM pg_temp.actual(%L)', 'cdp_tap_' || kind),
	format('SELECT what, privilege FROM wanted WHERE kind = %L', kind),
	format('a role of kind %s has what the rules say, no less and no more', kind))
FROM kind_has ORDER BY kind;
SELECT is_empty($$SELECT what FROM wanted WHERE kind = 'everybody' AND privilege <> 'EXECUTE'$$, 'everybody may call pure functions and read nothing');
SELECT is_empty($$SELECT p.oid::regprocedure, p.provolatile, p.prosecdef FROM pg_proc p JOIN cdp._access_rules() r ON r.object = p.proname AND r.object_type = 'function'
	WHERE p.pronamespace = 'cdp'::regnamespace AND 'public' = ANY (r.kinds) AND (p.provolatile = 'v' OR p.prosecdef)$$,
	'what everybody may call is neither VOLATILE nor SECURITY DEFINER');
SELECT ok(NOT has_schema_privilege('cdp_tap_admin', 'cdp', 'CREATE'), 'no kind may create in schema cdp');
SELECT is_empty($$SELECT what, privilege FROM wanted WHERE kind = 'reader' AND what IN ('cdp.identifier', 'cdp.profile_trait')$$,
	'a reader sees no value of an identifier');
SELECT count(cdp.revoke_access(kind, ('cdp_tap_' || kind)::name)) AS revoked FROM kind_has WHERE kind <> 'everybody' \gset
SELECT set_eq($$SELECT k.kind, a.* FROM kind_has k, pg_temp.actual(('cdp_tap_' || k.kind)::name) a WHERE k.kind <> 'everybody'$$,
	$$SELECT k.kind, w.what, w.privilege FROM kind_has k, wanted w WHERE k.kind <> 'everybody' AND w.kind = 'everybody'$$,
	'revoke_access() leaves nothing behind');

-- the generated page
\set rules `cat test/roles.sql`
SELECT set_eq(:'rules', format('SELECT line FROM regexp_split_to_table(%L, E''\n'') line', :'roles'),
	'doc/roles.md shows the rules of access (make docs writes it)');

-- the settings and their page: | `name` | default | context | …
SELECT cdp.version() IS NULL AS loaded \gset
SELECT is_empty(format($$
	SELECT 'doc/settings.md lacks: ' || line FROM (
		SELECT format('| `%%s` | %%s | %%s |', name, CASE boot_val WHEN '' THEN 'empty' ELSE '`' || current_setting(name) || '`' END,
			CASE context WHEN 'superuser' THEN 'superuser' WHEN 'user' THEN 'everybody' ELSE context END) AS line
		FROM pg_settings WHERE name LIKE 'cdp.%%') s
	WHERE strpos(%L, line) = 0
	UNION ALL
	SELECT 'doc/settings.md tells of ' || m[1] || ', which is no setting' FROM regexp_matches(%L, '\| `(cdp\.[a-z_]+)` \|', 'g') m
	WHERE m[1] NOT IN (SELECT name FROM pg_settings)
$$, :'settings', :'settings'), 'doc/settings.md has each setting with its default and who may set it');
SELECT * FROM finish();
ROLLBACK;
