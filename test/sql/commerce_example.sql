-- what doc/commerce.md shows
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-01 13:30:00+08';
SET TimeZone = 'Asia/Shanghai';
\i doc/examples/commerce.sql
