-- The house rules that the catalog can prove.
BEGIN;
SELECT plan(3);
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.pronamespace = 'cdp'::regnamespace AND l.lanname NOT IN ('c', 'internal')
	  AND p.prosqlbody IS NULL
	  AND NOT EXISTS (SELECT 1 FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%')
$$, 'every string-bodied function pins search_path');
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'customer_cdp' WHERE c.relkind IN ('r', 'p', 'S', 'm', 'v')
$$, 'no table, sequence or view belongs to the extension, so pg_dump sees them all');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'customer_cdp' WHERE p.prosecdef
$$, 'no member is SECURITY DEFINER');
SELECT * FROM finish();
ROLLBACK;
