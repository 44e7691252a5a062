-- drop_data: everything that migrate() made goes, nothing else
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
SELECT current_database() AS db \gset
-- nothing there: nothing to do
CALL cdp.drop_data(:'db');
CALL cdp.migrate();
INSERT INTO cdp.profile DEFAULT VALUES;
CREATE ROLE regress_cdp_drop;
SELECT cdp.grant_access('operator', 'regress_cdp_drop');
-- refused
CALL cdp.drop_data('yes');
\echo :LAST_ERROR_SQLSTATE
CALL cdp.drop_data(NULL);
\echo :LAST_ERROR_SQLSTATE
SET ROLE regress_cdp_drop;
CALL cdp.drop_data(:'db');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
-- what others have made of it is not torn down with it
CREATE VIEW public.mine AS SELECT profile_id FROM cdp.profile;
CREATE FUNCTION public.mine(p cdp.profile) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE public.mine_too (p cdp.profile);
CALL cdp.drop_data(:'db');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM public.mine;
DROP VIEW public.mine;
DROP FUNCTION public.mine(cdp.profile);
DROP TABLE public.mine_too;
-- an attached table is left as it was before
CREATE TABLE public."My members" (id int PRIMARY KEY, mobile text);
INSERT INTO public."My members" VALUES (1, '13800138000');
SELECT cdp.attach_source('public."My members"', 'customer', '{"identifiers": {"member_id": "id", "phone": "mobile"}}') IS NOT NULL AS attached;
CREATE TABLE public.dropped (id int PRIMARY KEY);
SELECT cdp.attach_source('public.dropped', 'customer', '{"identifiers": {"member_id": "id"}}') IS NOT NULL AS attached;
DROP TABLE public.dropped;
-- until COMMIT it can be taken back
BEGIN;
CALL cdp.drop_data(:'db');
SELECT to_regclass('cdp.profile') AS gone;
ROLLBACK;
SELECT count(*) FROM cdp.profile;
CALL cdp.drop_data(:'db');
SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind <> 'c';
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'cdp'::regnamespace
	AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'public."My members"'::regclass;
INSERT INTO public."My members" VALUES (2, '13800138001');
DROP TABLE public."My members";
-- no right is left, so the role can go
DROP ROLE regress_cdp_drop;
SELECT check_name, ok, detail FROM cdp.health() WHERE check_name = 'table_version';
-- and again from nothing
CALL cdp.migrate();
SELECT count(*) FROM cdp.profile;
SELECT check_name, ok FROM cdp.health() WHERE check_name = 'table_version';
CALL cdp.drop_data(:'db');
DROP EXTENSION customer_cdp;
SELECT count(*) FROM pg_proc WHERE pronamespace = to_regnamespace('cdp');
