-- The house rules that the catalog can prove.  test/pgtap/members.list names what must be looked at by a person before
-- it is let in: verbs that run with the owner's rights, procedures that commit.
BEGIN;
\set docs `cat $(ls doc/*.md README.md | grep -v doc/roles.md)`
\set list `grep -v '^#' test/pgtap/members.list`
SELECT plan(17);

-- members of the extension, and what migrate() makes beside them
CREATE TEMP VIEW member AS
	SELECT d.classid, d.objid FROM pg_depend d
	JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid AND e.extname = 'customer_cdp'
	WHERE d.deptype = 'e';
CREATE TEMP TABLE listed AS
	SELECT split_part(line, ' ', 1) AS what, regexp_replace(line, '^\S+\s+', '') AS sig
	FROM regexp_split_to_table(:'list', '\n') line WHERE line <> '';
-- functions nobody calls by name: parts of types, aggregates, operator classes, estimators, triggers
CREATE TEMP VIEW part AS
	SELECT unnest(ARRAY[typinput, typoutput, typreceive, typsend, typmodin, typmodout, typanalyze, typsubscript]::oid[]) AS oid FROM pg_type
	UNION SELECT unnest(ARRAY[aggtransfn, aggfinalfn, aggcombinefn, aggmtransfn, aggminvtransfn, aggmfinalfn]::oid[]) FROM pg_aggregate
	UNION SELECT unnest(ARRAY[oprrest, oprjoin]::oid[]) FROM pg_operator
	UNION SELECT amproc FROM pg_amproc
	UNION SELECT oid FROM pg_proc WHERE prorettype IN ('trigger'::regtype, 'event_trigger'::regtype);
CREATE TEMP TABLE verb AS
	SELECT p.oid::regprocedure AS sig, p.* FROM pg_proc p WHERE p.pronamespace = 'cdp'::regnamespace AND p.proname NOT LIKE '\_%'
	AND p.oid NOT IN (SELECT oid FROM part);
CREATE TEMP TABLE relation AS
	SELECT c.oid::regclass AS rel, c.* FROM pg_class c
	WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition;
-- the code of a function without comments, strings and functions that it makes itself; @PIN is the pinned path
CREATE FUNCTION pg_temp.code(src text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(src,
		'\$(\w*)\$.*?\$\1\$', '', 'g'), '--[^\n]*', '', 'g'), '\s+', ' ', 'g'),
		'PERFORM (pg_catalog\.)set_config\(''search_path'', ?''pg_catalog, ?pg_temp'', ?true\) ?;', '@PIN;', 'g'),
		'''[^'']*''', '', 'g')
$$;
CREATE TEMP TABLE committing AS
	SELECT p.oid::regprocedure AS sig, p.proconfig, p.prosecdef, btrim(pg_temp.code(p.prosrc)) AS code FROM pg_proc p
	WHERE p.pronamespace = 'cdp'::regnamespace AND p.prokind = 'p' AND pg_temp.code(p.prosrc) ~* '\m(COMMIT|ROLLBACK) *;';

SELECT is_empty($$
	SELECT pg_describe_object(m.classid, m.objid, 0) FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
	WHERE c.relkind <> 'c'
$$, 'no table, sequence or view belongs to the extension, so pg_dump sees them all');
SELECT is_empty($$
	SELECT objid::regprocedure FROM member JOIN pg_proc p ON classid = 'pg_proc'::regclass AND p.oid = objid WHERE prosecdef
$$, 'no member is SECURITY DEFINER');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.pronamespace = 'cdp'::regnamespace AND l.lanname NOT IN ('c', 'internal') AND p.prosqlbody IS NULL
	  AND p.oid NOT IN (SELECT sig FROM committing)
	  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE replace(c, '"', '') IN ('search_path=pg_catalog, pg_temp', 'search_path=pg_catalog,pg_temp'))
$$, 'every function with a string for a body sets search_path = pg_catalog, pg_temp');
SELECT is_empty($$
	SELECT p.oid::regprocedure, c FROM pg_proc p, unnest(p.proconfig) c
	WHERE p.pronamespace = 'cdp'::regnamespace AND c LIKE 'search_path=%' AND p.prolang IN (SELECT oid FROM pg_language WHERE lanname = 'c')
$$, 'no C function pins a path: it is done in C, once');
SELECT set_eq('SELECT sig::text FROM committing', $$SELECT sig FROM listed WHERE what = 'commits'$$,
	'the procedures that commit are those of test/pgtap/members.list ("commits cdp.name(types)")');
SELECT is_empty($$SELECT sig FROM committing WHERE proconfig IS NOT NULL OR prosecdef$$,
	'a procedure that commits has no SET clause and is not SECURITY DEFINER');
SELECT is_empty($$SELECT sig, left(code, 120) FROM committing WHERE code !~* '^(DECLARE .*?)?BEGIN @PIN;'$$,
	'a procedure that commits pins the path by its first statement');
SELECT is_empty($$SELECT sig, m[1] FROM committing, regexp_matches(code, '^DECLARE (.*?)BEGIN @PIN') m
	-- one function looks up names of the caller's, in his path; it is called by its full name, with an argument of its very type
	WHERE replace(m[1], 'cdp._purchases_query(purchases)', '') ~* '(:=|DEFAULT)[^;]*\('$$,
	'… and calls nothing before it, in a DECLARE');
SELECT is_empty($$SELECT sig, m[1] FROM committing, regexp_matches(code, '((?:COMMIT|ROLLBACK) *;(?! ?@PIN;)(?! END *;?$).{0,60})', 'gi') m$$,
	'… and again after each COMMIT');
SELECT set_eq($$SELECT p.oid::regprocedure::text FROM pg_proc p WHERE pronamespace = 'cdp'::regnamespace AND prosecdef$$,
	$$SELECT sig FROM listed WHERE what = 'definer'$$,
	'what runs with the owner''s rights is in test/pgtap/members.list ("definer cdp.name(types)")');
SELECT is_empty($$
	SELECT p.oid::regprocedure, pg_get_userbyid(p.proowner) FROM pg_proc p
	WHERE pronamespace = 'cdp'::regnamespace AND prosecdef AND proowner <> (SELECT relowner FROM pg_class WHERE oid = 'cdp.meta'::regclass)
$$, '… and belongs to the owner of the tables');

SELECT is_empty($$
	SELECT pg_describe_object('pg_proc'::regclass, p.oid, 0) FROM pg_proc p
	WHERE pronamespace = 'cdp'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
	UNION ALL SELECT pg_describe_object('pg_class'::regclass, rel, 0) FROM relation WHERE obj_description(rel, 'pg_class') IS NULL
	UNION ALL SELECT pg_describe_object('pg_type'::regclass, t.oid, 0) FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
	WHERE typnamespace = 'cdp'::regnamespace AND typelem = 0 AND (c.oid IS NULL OR c.relkind = 'c') AND obj_description(t.oid, 'pg_type') IS NULL
$$, 'every function, type, table and view has a comment');
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc p WHERE pronamespace = 'cdp'::regnamespace AND proname LIKE '\_%'
	AND obj_description(p.oid, 'pg_proc') NOT LIKE 'internal: %'$$, 'comments of functions that begin with an underscore begin with "internal: "');
SELECT is_empty(format($$
	WITH d AS (SELECT %L AS docs)
	SELECT DISTINCT 'no page of doc/ tells of cdp.' || proname || '()' FROM verb, d WHERE docs !~ format('(\mcdp\.%%1$s\M|\m%%1$s\()', proname)
	UNION SELECT 'no page of doc/ tells of cdp.' || relname FROM relation, d WHERE relname NOT LIKE '\_%%' AND docs !~ format('(\mcdp\.%%1$s\M|`%%1$s[`(])', relname)
	UNION SELECT 'no page of doc/ tells of type ' || t.oid::regtype FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid, d
	WHERE typnamespace = 'cdp'::regnamespace AND typelem = 0 AND typname NOT LIKE '\_%%' AND (c.oid IS NULL OR c.relkind = 'c') AND docs !~ format('(\mcdp\.%%1$s\M|`%%1$s[`(])', typname)
	ORDER BY 1
$$, :'docs'), 'every public function, type, table and view stands in a page of doc/, as cdp.name, name(…) or `name`');

-- logic asks cdp.now(), which tests and replays can set
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p WHERE pronamespace = 'cdp'::regnamespace AND proname <> 'migrate' AND prosrc <> ''
	AND pg_temp.code(prosrc) ~* '(?<!cdp\.)\m(now\(\)|current_timestamp|current_date|localtimestamp)'
$$, 'no function asks another clock than cdp.now() (clock_timestamp() measures durations)');
SELECT is_empty($$
	SELECT c.rel FROM relation c WHERE c.relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p')
$$, 'every table has a primary key');
SELECT is_empty($$SELECT conrelid::regclass, conname FROM pg_constraint WHERE connamespace = 'cdp'::regnamespace AND contype = 'f'$$,
	'there are no foreign keys: they would forbid distributing the tables');
SELECT * FROM finish();
ROLLBACK;
