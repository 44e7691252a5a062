-- facts are read through the One ID, whatever the query looks like
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-01 09:00:00+08';
-- 500 cookies; every fifth logs in: 600 profiles, of which 100 are merged
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('anonymous_id', 'c-' || i)) ORDER BY i) FROM generate_series(1, 500) i));
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('anonymous_id', 'c-' || i, 'member_id', 'm-' || i)) ORDER BY i) FROM generate_series(5, 500, 5) i));
CREATE TABLE public.fact AS SELECT 1 + g % 700 AS profile_id, g AS amount FROM generate_series(0, 20999) g;
ALTER TABLE public.fact ALTER profile_id TYPE bigint;
ANALYZE public.fact;
-- what a join gives, the function gives: hashed, by probes alone, in parallel
CREATE VIEW public.wanted AS SELECT coalesce(a.customer_id, f.profile_id) AS id, count(*) AS n, sum(amount) AS amount
	FROM public.fact f LEFT JOIN cdp.profile_alias a USING (profile_id) GROUP BY 1;
CREATE VIEW public.got AS SELECT cdp.customer_id(profile_id) AS id, count(*) AS n, sum(amount) AS amount FROM public.fact GROUP BY 1;
SELECT count(*), sum(n), sum(id) FROM public.got;
SELECT count(*) AS different FROM (TABLE public.wanted EXCEPT ALL TABLE public.got) d;
SET cdp.alias_cache_limit = 0;
SELECT count(*) AS different FROM (TABLE public.wanted EXCEPT ALL TABLE public.got) d;
-- the memory is there while the query runs, if it may be, and gone after it
CREATE VIEW public.remembered AS SELECT count(*) AS caches, coalesce(bool_and(total_bytes < 100000), true) AS small
	FROM pg_backend_memory_contexts WHERE name = 'cdp.customer_id' AND used_bytes > 500;
SELECT count(DISTINCT cdp.customer_id(profile_id)) AS customers, (SELECT caches FROM public.remembered) AS caches FROM public.fact;
SET cdp.alias_cache_limit = '10kB';
SELECT count(DISTINCT cdp.customer_id(profile_id)) AS customers, (SELECT caches FROM public.remembered) AS caches FROM public.fact;
RESET cdp.alias_cache_limit;
SELECT count(DISTINCT cdp.customer_id(profile_id)) AS customers, (SELECT r FROM public.remembered r) AS caches FROM public.fact;
SELECT * FROM public.remembered;
\set VERBOSITY sqlstate
SET cdp.alias_cache_limit = -1;
\set VERBOSITY default
SHOW cdp.alias_cache_limit;
-- parallel plans; workers see what this transaction has merged
SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET parallel_leader_participation = off;
ALTER TABLE public.fact SET (parallel_workers = 2);
EXPLAIN (COSTS OFF) SELECT cdp.customer_id(profile_id), count(*), sum(amount) FROM public.fact GROUP BY 1;
BEGIN;
SELECT cdp.identify('{"anonymous_id": ["c-1", "c-2"]}');
SELECT cdp.customer_id(2);
SELECT count(*), sum(n), sum(id) FROM public.got;
SELECT count(*) AS different FROM (TABLE public.wanted EXCEPT ALL TABLE public.got) d;
ROLLBACK;
SELECT count(*), sum(n), sum(id) FROM public.got;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) AS different FROM (TABLE public.wanted EXCEPT ALL TABLE public.got) d;
COMMIT;
RESET max_parallel_workers_per_gather;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
RESET parallel_leader_participation;
-- ROLLBACK TO SAVEPOINT takes a merge back
BEGIN;
SAVEPOINT s;
SELECT cdp.identify('{"anonymous_id": ["c-1", "c-2"]}');
SELECT count(DISTINCT cdp.customer_id(profile_id)) AS customers, count(DISTINCT cdp.customer_id(profile_id)) FILTER (WHERE profile_id < 3) AS of_two FROM public.fact;
ROLLBACK TO SAVEPOINT s;
SELECT count(DISTINCT cdp.customer_id(profile_id)) AS customers, count(DISTINCT cdp.customer_id(profile_id)) FILTER (WHERE profile_id < 3) AS of_two FROM public.fact;
COMMIT;
-- one call site that lives through merges and their undoing: simple expressions of PL/pgSQL keep their state for the transaction
CREATE FUNCTION public.merged(n int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	found int := 0;
BEGIN
	FOR i IN 1 .. n LOOP
		IF cdp.customer_id(i) <> i THEN
			found := found + 1;
		END IF;
	END LOOP;
	RETURN found;
END $$;
CREATE FUNCTION public.through(n int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	found int[] := ARRAY[public.merged(n)];
BEGIN
	BEGIN
		PERFORM cdp.identify('{"anonymous_id": ["c-3", "c-4"]}');
		found := found || public.merged(n);
		PERFORM cdp.identify('{"anonymous_id": ["c-3", "c-6"]}');
		found := found || public.merged(n);
		RAISE EXCEPTION 'back';
	EXCEPTION WHEN raise_exception THEN
		NULL;
	END;
	found := found || public.merged(n);
	PERFORM cdp.identify('{"anonymous_id": ["c-1", "c-2"]}');
	found := found || public.merged(n);
	RETURN found;
END $$;
-- by probes, then hashed
BEGIN; SELECT public.through(20); ROLLBACK;
BEGIN; SELECT public.through(700); ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT public.through(20); ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT public.through(700); ROLLBACK;
ALTER FUNCTION public.merged(int) STABLE;
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT public.through(700); ROLLBACK;
-- a query does not see what its own statement merges, neither by a probe nor in the hash
SELECT count(*) FROM (SELECT cdp.customer_id(p), CASE p WHEN 650 THEN cdp.identify('{"anonymous_id": ["c-11", "c-12"]}') END FROM generate_series(1, 700) p) x;
BEGIN;
SELECT sum(c) FROM (SELECT cdp.customer_id(p) AS c, CASE p WHEN 100 THEN cdp.identify('{"anonymous_id": ["c-11", "c-13"]}') END FROM generate_series(1, 700) p OFFSET 0) x;
SELECT sum(cdp.customer_id(p)) FROM generate_series(1, 700) p;
ROLLBACK;
-- in joins without an index, in CTEs, inlined SQL functions, several call sites in one query
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT count(*) FROM (SELECT DISTINCT profile_id FROM public.fact) a JOIN (SELECT DISTINCT profile_id FROM public.fact WHERE profile_id <= 50) b ON cdp.customer_id(a.profile_id) = cdp.customer_id(b.profile_id);
RESET enable_hashjoin;
RESET enable_mergejoin;
WITH c AS MATERIALIZED (SELECT DISTINCT cdp.customer_id(profile_id) AS id FROM public.fact), r AS (SELECT cdp.customer_id(id) AS id FROM c)
	SELECT count(*), count(DISTINCT id) FROM r;
CREATE FUNCTION public.one_id(p bigint) RETURNS bigint LANGUAGE sql STABLE RETURN cdp.customer_id(p);
SELECT count(DISTINCT public.one_id(profile_id)) FROM public.fact;
SELECT cdp.customer_id(NULL), cdp.customer_id(-5), cdp.customer_id(0), cdp.customer_id(9223372036854775807);
SELECT bool_and(cdp.customer_id(p) = p) FROM (SELECT -g AS p FROM generate_series(0, 99) g UNION ALL SELECT 9223372036854775807 - g FROM generate_series(0, 99) g) x;
-- ids close together, with gaps, across zero, at both ends, far apart: neighbours are not taken for merged ones
CREATE FUNCTION public.differing(first bigint, step bigint, n int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM cdp.profile_alias;
	INSERT INTO cdp.profile_alias SELECT first + g * step, 1000000 + g FROM generate_series(0, n - 1) g;
	RETURN (SELECT count(*) FROM (SELECT p::bigint AS id FROM (SELECT DISTINCT a.profile_id::numeric + d AS p FROM cdp.profile_alias a, unnest('{-64,-63,-1,0,1,63,64}'::int[]) d) x
		WHERE p BETWEEN -9223372036854775808 AND 9223372036854775807 OFFSET 0) p LEFT JOIN cdp.profile_alias a ON a.profile_id = p.id
		WHERE cdp.customer_id(p.id) <> coalesce(a.customer_id, p.id));
END $$;
BEGIN;
ALTER TABLE cdp.profile_alias DISABLE TRIGGER profile_alias_guard;
SELECT first, step, n, public.differing(first, step, n) FROM (VALUES (1, 1, 300), (-311, 2, 300), (64, 15, 300), (63, 17, 300), (5, 1000003, 300), (127, 1, 1),
	(9223372036854775508, 1, 300), (-9223372036854775808, 1, 300), (-9223372036854775808, 9223372036854775807, 2)) v(first, step, n);
ROLLBACK;
DROP FUNCTION public.differing(bigint, bigint, int);
-- all profiles of a customer, by any of his ids
SELECT cdp.identify('{"anonymous_id": ["c-500", "c-499"]}');
SELECT cdp.profiles_of(499);
SELECT cdp.profiles_of(600);
SELECT cdp.profiles_of(1), cdp.profiles_of(701) IS NULL, cdp.profiles_of(NULL) IS NULL;
SELECT count(*), sum(amount) FROM public.fact WHERE profile_id IN (SELECT cdp.profiles_of(600));
CREATE INDEX ON public.fact (profile_id);
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT sum(amount) FROM public.fact WHERE profile_id IN (SELECT cdp.profiles_of(600));
RESET enable_seqscan;
-- every identifier he ever had
SELECT cdp.identify('{"member_id": "m-500", "phone": "138 0000 1234"}', source => 'crm', occurred_at => '2026-02-01 00:00+08') = 499 AS same;
UPDATE cdp.identifier SET valid_to = '2026-02-20 00:00+08' WHERE value = 'c-499';
SET TimeZone = 'Asia/Shanghai';
SELECT * FROM cdp.identifiers_of(600);
SELECT count(*) FROM cdp.identifiers_of(701);
SELECT count(*) FROM cdp.identifiers_of(NULL);
-- rights: an application reads no table, a reader no value
CREATE ROLE regress_cdp_app;
CREATE ROLE regress_cdp_reader;
SELECT cdp.grant_access('application', 'regress_cdp_app'), cdp.grant_access('reader', 'regress_cdp_reader');
SET ROLE regress_cdp_app;
SELECT count(DISTINCT cdp.customer_id(g)) FROM generate_series(1, 700) g;
SELECT count(*) FROM cdp.profiles_of(600);
SELECT count(*) FROM cdp.identifiers_of(600);
SELECT count(*) FROM cdp.profile_alias;
SET ROLE regress_cdp_reader;
SELECT count(DISTINCT cdp.customer_id(g)) FROM generate_series(1, 700) g;
SELECT count(*) FROM cdp.profiles_of(600);
SELECT count(*) FROM cdp.identifiers_of(600);
RESET ROLE;
CREATE ROLE regress_cdp_nobody;
SET ROLE regress_cdp_nobody;
SELECT cdp.customer_id(1);
RESET ROLE;
SELECT cdp.revoke_access('application', 'regress_cdp_app'), cdp.revoke_access('reader', 'regress_cdp_reader');
DROP ROLE regress_cdp_app, regress_cdp_reader, regress_cdp_nobody;
-- the tables go and come while a session runs, in one transaction and between two
DROP VIEW public.wanted, public.got;
DROP FUNCTION public.one_id(bigint);
BEGIN;
SELECT public.merged(700);
SELECT current_database() AS db \gset
CALL cdp.drop_data(:'db');
SELECT cdp.customer_id(600);
ROLLBACK;
SELECT public.merged(700);
CALL cdp.drop_data(:'db');
CALL cdp.migrate();
SELECT public.merged(700);
SELECT cdp.identify('{"anonymous_id": "n-1"}'), cdp.identify('{"anonymous_id": "n-1", "member_id": "n-1"}');
SELECT public.merged(700);
DROP EXTENSION customer_cdp CASCADE;
SELECT public.merged(700);
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SELECT public.merged(700);
-- a table that is something else
ALTER TABLE cdp.profile_alias RENAME TO kept;
CREATE VIEW cdp.profile_alias AS SELECT * FROM cdp.kept;
SELECT public.merged(700);
SELECT cdp.profiles_of(1);
DROP VIEW cdp.profile_alias;
ALTER TABLE cdp.kept RENAME TO profile_alias;
SELECT public.merged(700);
DROP TABLE public.fact;
DROP VIEW public.remembered;
DROP FUNCTION public.merged(int), public.through(int);
