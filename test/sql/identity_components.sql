-- who is connected with whom, over the rows of a query
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
DROP SCHEMA IF EXISTS components_shop CASCADE;
CREATE EXTENSION customer_cdp;

-- the smallest node names the component; one side NULL is a node of its own; loops, repeats, negative and extreme ids
SELECT * FROM cdp.connected_components('VALUES (7::bigint, 4::bigint), (4, -3), (9, NULL), (NULL, 11), (NULL, NULL), (5, 5), (4, 7), (4, 7), (0, 0),
	(9223372036854775807, -9223372036854775808), (1, 9223372036854775807), (NULL, 4)') ORDER BY 2, 1;
-- nothing gives nothing; one chain, one star, in both directions
SELECT count(*) FROM cdp.connected_components('SELECT 1::bigint, 2::bigint WHERE false');
SELECT count(*), count(DISTINCT component), max(component) FROM cdp.connected_components('SELECT i, i + 1 FROM generate_series(1, 100000::bigint) i');
SELECT count(*), count(DISTINCT component), max(component) FROM cdp.connected_components('SELECT i, i - 1 FROM generate_series(100000::bigint, 1, -1) i');
SELECT count(*), count(DISTINCT component), max(component) FROM cdp.connected_components('SELECT 0::bigint, i FROM generate_series(1, 100000::bigint) i');
SELECT count(*), count(DISTINCT component), max(component) FROM cdp.connected_components('SELECT i, NULL::bigint FROM generate_series(1, 100000::bigint) i');
-- ids that are all alike in their low bits, or in their high ones
SELECT count(*), count(DISTINCT component) FROM cdp.connected_components('SELECT i << 40, (i / 2) << 40 FROM generate_series(1, 100000::bigint) i');
SELECT count(*), count(DISTINCT component) FROM cdp.connected_components('SELECT -i << 20, -(i + 10) << 20 FROM generate_series(1, 100000::bigint) i');

-- names are the caller's; parameters of a domain of bigint are fine; WITH, UNION, VALUES, TABLE, a semicolon
CREATE SCHEMA components_shop;
CREATE DOMAIN components_shop.id AS bigint CHECK (value > 0);
CREATE TABLE components_shop.edge (a components_shop.id, b bigint);
INSERT INTO components_shop.edge VALUES (1, 2), (3, 2), (5, 6);
SET search_path = components_shop;
SELECT * FROM cdp.connected_components('TABLE edge;') ORDER BY 1;
SELECT * FROM cdp.connected_components('WITH e AS (SELECT a, b FROM edge) SELECT a, b FROM e UNION ALL SELECT 2, 5 ORDER BY 1') ORDER BY 1;
RESET search_path;
-- in a join, in a table, in itself, in a function with its own handler
CREATE TABLE components_shop.result AS SELECT * FROM cdp.connected_components('SELECT a::bigint, b FROM components_shop.edge');
SELECT r.component, count(*) FROM components_shop.result r GROUP BY 1 ORDER BY 1;
SELECT count(*), count(DISTINCT component) FROM cdp.connected_components($$ SELECT node, component + 1 FROM cdp.connected_components('SELECT i, i FROM generate_series(1, 10::bigint) i') $$);
SELECT t.i, c.* FROM generate_series(1, 2) t(i), cdp.connected_components(format('SELECT %s::bigint, 10::bigint', t.i)) c ORDER BY 1, 2;

-- refused
CREATE FUNCTION pg_temp.try(edges text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint; h text;
BEGIN
	SELECT count(*) INTO n FROM cdp.connected_components(edges);
	RETURN n || ' nodes';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', sqlstate, sqlerrm, nullif(h, ''));
END $$;
CREATE TABLE components_shop.log (t text);
CREATE SEQUENCE components_shop.s;
CREATE FUNCTION components_shop.noisy(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN INSERT INTO components_shop.log VALUES ('x'); RETURN $1; END $$;
CREATE FUNCTION components_shop.sly(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN SET transaction_read_only = off; INSERT INTO components_shop.log VALUES ('x'); RETURN $1; END $$;
CREATE FUNCTION components_shop.free(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM cdp._end_read_only(), cdp._end_read_only(); INSERT INTO components_shop.log VALUES ('x'); RETURN $1; END $$;
CREATE FUNCTION components_shop.nested(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
	PERFORM FROM cdp.connected_components('SELECT 1::bigint, 2::bigint'); PERFORM cdp._begin_read_only(); PERFORM cdp._end_read_only(); INSERT INTO components_shop.log VALUES ('x'); RETURN $1; END $$;
CREATE FUNCTION components_shop.caught(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
	BEGIN PERFORM FROM cdp.connected_components('SELECT 1 / 0::bigint, 2::bigint'); EXCEPTION WHEN division_by_zero THEN NULL; END;
	INSERT INTO components_shop.log VALUES ('x'); RETURN $1; END $$;
SELECT q, pg_temp.try(q) FROM unnest(ARRAY[NULL, '', ';', 'SELEKT 1', 'SELECT 1::bigint', 'SELECT 1::bigint, 2::bigint, 3::bigint', 'SELECT 1, 2', 'SELECT 1::bigint, 2', 'SELECT 1::bigint, ''2''', 'SELECT 1::bigint, NULL',
	'SELECT 1.5, 2.5', 'SELECT', 'SELECT 1::bigint, 2::bigint; SELECT 1::bigint, 2::bigint', 'SELECT 1::bigint AS a, 2::bigint AS b INTO components_shop.x', 'SELECT $1::bigint, 2::bigint',
	'INSERT INTO components_shop.edge VALUES (8, 9) RETURNING a::bigint, b', 'DELETE FROM components_shop.edge', 'WITH d AS (DELETE FROM components_shop.edge RETURNING a, b) SELECT a::bigint, b FROM d',
	'SELECT a::bigint, b FROM components_shop.edge FOR UPDATE', 'EXPLAIN SELECT 1', 'CREATE TABLE components_shop.x (a bigint)', 'CALL cdp.migrate()', 'BEGIN', 'SELECT a, b FROM nowhere',
	'SELECT 1 / (i - 500), i FROM generate_series(1, 1000::bigint) i', 'SELECT 1::bigint, components_shop.noisy(2)', 'SELECT 1::bigint, components_shop.sly(2)', 'SELECT 1::bigint, components_shop.free(2)',
	'SELECT 1::bigint, components_shop.nested(2)', 'SELECT 1::bigint, components_shop.caught(2)', 'SELECT 1::bigint, nextval(''components_shop.s'')']) q;
SELECT count(*) AS written FROM components_shop.log;
SELECT count(*) AS edges FROM components_shop.edge;
-- and the transaction can write afterwards, after a refusal too; one that is read-only stays so
BEGIN;
SELECT count(*) FROM cdp.connected_components('SELECT 1::bigint, 2::bigint');
SELECT pg_temp.try('SELECT 1 / 0::bigint, 1::bigint');
INSERT INTO components_shop.log VALUES ('mine');
SAVEPOINT s;
SELECT count(*) FROM cdp.connected_components('SELECT 1 / 0::bigint, 1::bigint');
ROLLBACK TO s;
INSERT INTO components_shop.log VALUES ('mine');
COMMIT;
BEGIN READ ONLY;
SELECT count(*) FROM cdp.connected_components('SELECT 1::bigint, 2::bigint');
INSERT INTO components_shop.log VALUES ('mine');
ROLLBACK;
-- the rights are the caller's
CREATE ROLE components_nobody;
GRANT USAGE ON SCHEMA components_shop TO components_nobody;
SET ROLE components_nobody;
SELECT count(*) FROM cdp.connected_components('SELECT a::bigint, b FROM components_shop.edge');
SELECT count(*) FROM cdp.connected_components('SELECT i, i FROM generate_series(1, 10::bigint) i');
RESET ROLE;
DROP OWNED BY components_nobody;
DROP ROLE components_nobody;
-- memory: the setting is kept before the process grows; cancelled when somebody wants that
SHOW cdp.components_memory;
SET cdp.components_memory = '1MB';
SELECT count(*) FROM cdp.connected_components('SELECT i, i FROM generate_series(1, 20000::bigint) i');
SELECT count(*) FROM cdp.connected_components('SELECT i, i FROM generate_series(1, 60000::bigint) i');
\echo :LAST_ERROR_SQLSTATE
SET cdp.components_memory = '16MB';
SELECT count(*) FROM cdp.connected_components('SELECT i, i FROM generate_series(1, 60000::bigint) i');
\set VERBOSITY sqlstate
SET cdp.components_memory = '1kB';
\set VERBOSITY default
RESET cdp.components_memory;
SET statement_timeout = '200ms';
SELECT count(*) FROM cdp.connected_components('SELECT i, i FROM generate_series(1, 1000000000::bigint) i');
RESET statement_timeout;
SELECT count(*) AS contexts FROM pg_backend_memory_contexts WHERE name LIKE 'customer_cdp nodes%';
DROP SCHEMA components_shop CASCADE;
DROP EXTENSION customer_cdp;
