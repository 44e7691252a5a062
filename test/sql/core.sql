-- the clock, the version guard, rights
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
-- nothing is there before migrate, and the guard says what to do
SELECT cdp.grant_access('reader', current_user);
\echo :LAST_ERROR_SQLSTATE
SELECT check_name, ok, replace(detail, cdp.version(), 'X') AS detail FROM cdp.health() WHERE check_name IN ('library_version', 'table_version');
CALL cdp.migrate();
SELECT check_name, ok FROM cdp.health() WHERE check_name IN ('library_version', 'table_version', 'server_version');
-- the clock
SELECT cdp.now() = now() AS real;
SET cdp.now = '2026-03-01 09:00:00+08';
SELECT cdp.now() AT TIME ZONE 'UTC';
SET cdp.now = 'yesterday';
SET cdp.now = '2026-03-01 09:00:00';
SET cdp.now = '2026-02-30 09:00:00+08';
SET cdp.now = '2026-03-01T09:00:00.5Z';
SELECT cdp.now() AT TIME ZONE 'UTC';
SELECT cdp.now() AT TIME ZONE 'UTC' = timestamp '2026-03-01 09:00:00.5' AS fixed;
RESET cdp.now;
SET cdp.timezone = 'Atlantis/Capital';
SHOW cdp.timezone;
SET cdp.timezome = 'UTC';
-- local clock readings do not depend on the session's zone
SET TimeZone = 'America/New_York';
SELECT cdp._local_to_utc('2026-03-01 09:00') AT TIME ZONE 'UTC';
RESET TimeZone;
-- kinds of access
SELECT cdp.grant_access('god', current_user);
SELECT cdp.grant_access('reader', 'nobody_at_all');
SELECT cdp.grant_access(NULL, current_user);
-- what went missing comes back
ALTER TABLE cdp.event DROP COLUMN channel CASCADE;
DROP INDEX cdp.event_log;
DROP TRIGGER identifier_kind_changed ON cdp.identifier_kind;
ALTER TABLE cdp.event ALTER COLUMN xid DROP DEFAULT;
CALL cdp.migrate();
SELECT count(*) FROM pg_attribute WHERE attrelid = 'cdp.event'::regclass AND attname = 'channel';
SELECT to_regclass('cdp.event_log') IS NOT NULL AS has_index;
SELECT count(*) FROM pg_trigger WHERE tgname = 'identifier_kind_changed';
SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef d JOIN pg_attribute a ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum)
WHERE a.attrelid = 'cdp.event'::regclass AND a.attname = 'xid';
-- a temporary table of the caller's is in the way of the comparison
CREATE TEMP TABLE profile (a int);
CALL cdp.migrate();
DROP TABLE pg_temp.profile;
