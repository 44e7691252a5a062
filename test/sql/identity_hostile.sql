-- Normalisers of the user's that misbehave: the value is refused or the call fails, the session and the rules stay whole.
\set VERBOSITY default
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
CREATE SCHEMA n;
CREATE FUNCTION n.ok(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper(t)';
CREATE FUNCTION n.refuses(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '22023'; END $$;
CREATE FUNCTION n.fails(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE EXCEPTION 'it fails'; END $$;
CREATE FUNCTION n.nothing(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT NULL::text';
CREATE FUNCTION n.empty(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '' $$;
CREATE FUNCTION n.huge(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT repeat('x', 1000000) $$;
CREATE FUNCTION n.loops(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN LOOP PERFORM 1; END LOOP; END $$;
CREATE FUNCTION n.change(t text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	UPDATE cdp.identifier_kind SET priority = priority WHERE kind = 'k_ok';
	PERFORM cdp.resolve('k_ok', t);
	RETURN t;
END $$;
CREATE FUNCTION n.rules(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN n.change(t); END $$;
CREATE FUNCTION n.path(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM set_config('search_path', 'n', false); RETURN t; END $$;
INSERT INTO cdp.identifier_kind (kind, priority, normalizer)
	SELECT 'k_' || f, 50, 'n.' || f FROM unnest('{ok,refuses,fails,nothing,empty,huge,loops,rules,path}'::text[]) f;
\t on
SELECT cdp.identify('{"k_ok": "a"}') IS NOT NULL;
SELECT cdp.identify('{"k_refuses": "x", "k_nothing": "x", "k_empty": "x", "k_ok": "a"}') IS NOT NULL;
SELECT cdp.identify('{"k_refuses": "x"}');
SELECT cdp.identify('{"k_huge": "x"}');
-- an error that is not about the value is the caller's: no subtransaction of ours is left open
SELECT cdp.identify('{"k_fails": "x", "k_ok": "a"}');
SELECT 'the session goes on';
BEGIN;
SAVEPOINT s;
SELECT cdp.identify('{"k_fails": "x"}');
ROLLBACK TO s;
SELECT cdp.identify('{"k_ok": "a"}') IS NOT NULL;
COMMIT;
DO $$ BEGIN PERFORM cdp.identify('{"k_fails": "x"}'); EXCEPTION WHEN raise_exception THEN RAISE WARNING 'caught'; END $$;
SET statement_timeout = '200ms';
SELECT cdp.identify('{"k_loops": "x", "k_ok": "a"}');
SELECT 'the session goes on';
RESET statement_timeout;
-- rules that change while they are applied
SELECT cdp.identify('{"k_rules": "x", "k_ok": "a"}') IS NOT NULL;
SELECT cdp.identify('{"k_path": "x"}') IS NOT NULL, current_setting('search_path');
-- dropped, and come again as something else; the other kinds are not touched by that
DROP FUNCTION n.ok(text);
SELECT cdp.identify('{"k_ok": "a"}');
SELECT cdp.identify('{"phone": "13800138000"}') IS NOT NULL;
CREATE FUNCTION n.ok(t text) RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT cdp.identify('{"k_ok": "a"}');
DROP FUNCTION n.ok(text);
CREATE AGGREGATE n.ok(text) (SFUNC = textcat, STYPE = text);
SELECT cdp.identify('{"k_ok": "a"}');
DROP AGGREGATE n.ok(text);
CREATE FUNCTION n.ok(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper(t)';
SELECT cdp.identify('{"k_ok": "a"}') IS NOT NULL;
\t off
DROP SCHEMA n CASCADE;
