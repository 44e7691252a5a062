-- the examples of doc/value.md
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
DROP SCHEMA IF EXISTS example_shop CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'Asia/Shanghai';
SET intervalstyle = 'postgres';
\i doc/examples/value.sql
