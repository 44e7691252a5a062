-- logical transaction ids, consumers in commit order, monthly partitions
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
SET cdp.now = '2026-03-15 00:00:00+00';
SET TimeZone = 'UTC';
CALL cdp.migrate();

-- one id per top-level transaction, the same in subtransactions
BEGIN;
SELECT cdp._log_xid() = pg_current_xact_id() AS no_offset_yet;
SAVEPOINT a;
SELECT cdp._log_xid() = pg_current_xact_id() AS same_below;
ROLLBACK TO a;
SELECT cdp._log_xid() = pg_current_xact_id() AS same_after;
COMMIT;
-- a snapshot does not see the own transaction
BEGIN;
SELECT pg_visible_in_snapshot(cdp._log_xid(), cdp._log_snapshot()) AS sees_own;
COMMIT;

-- arguments
SELECT cdp._create_consumer(NULL, 'event');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._create_consumer('c', 'nothing');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp._next_log('nobody', 1);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp._next_log('nobody', 1, false);
SELECT * FROM cdp._next_log(NULL, 1);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._create_consumer('c', 'event') AS made, cdp._create_consumer('c', 'event') AS again;
SELECT * FROM cdp._next_log('c', 0);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp._next_rows('c', 1, NULL::cdp.profile);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp._next_log('c', 1);
BEGIN READ ONLY;
SELECT * FROM cdp._next_log('c', 1);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

-- batches follow (xid, event_id) whatever the time of the events
INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'a', '2026-03-10 UTC'), (1, 'b', '2026-02-10 UTC');
INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'c', '2001-01-01 UTC'), (1, 'd', '2026-03-11 UTC'), (1, 'e', '2026-02-11 UTC');
SELECT name FROM cdp._next_events('c', 2);
SELECT name FROM cdp._next_events('c', 2);
SELECT name FROM cdp._next_events('c', 2);
SELECT name FROM cdp._next_events('c', 2);
-- what rolls back takes the position back; what was rolled back is not there
BEGIN;
INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'never', '2026-03-10 UTC');
ROLLBACK;
INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'f', '2026-03-10 UTC');
BEGIN;
SELECT name FROM cdp._next_events('c', 10);
ROLLBACK;
BEGIN;
SAVEPOINT a;
SELECT name FROM cdp._next_events('c', 10);
ROLLBACK TO a;
SELECT name FROM cdp._next_events('c', 10);
SELECT name FROM cdp._next_events('c', 10);
COMMIT;
SELECT name FROM cdp._next_events('c', 10);
-- own events come in the next pass, those of subtransactions too
BEGIN;
INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'g', '2026-03-10 UTC');
SAVEPOINT a;
INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'h', '2026-03-10 UTC');
RELEASE a;
SAVEPOINT a;
INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'never', '2026-03-10 UTC');
ROLLBACK TO a;
SELECT name FROM cdp._next_events('c', 10);
SELECT name FROM cdp._next_events('c', 10);
COMMIT;
SELECT name FROM cdp._next_events('c', 10);
SELECT name FROM cdp._next_events('c', 10);
-- from now on, but with the own transaction
BEGIN;
INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'i', '2026-03-10 UTC');
SELECT cdp._create_consumer('late', 'event', false);
COMMIT;
SELECT name FROM cdp._next_events('late', 10);
SELECT cdp._drop_consumer('late'), cdp._drop_consumer('late');
-- another log of the same kind
CREATE TABLE cdp.test_log (no bigint GENERATED ALWAYS AS IDENTITY, gone int, note text, xid xid8 NOT NULL DEFAULT cdp._log_xid());
CREATE INDEX ON cdp.test_log (xid, no);
INSERT INTO cdp.log_table (log, id_column) VALUES ('test_log', 'no');
SELECT cdp._create_consumer('t', 'test_log');
INSERT INTO cdp.test_log (note) VALUES ('one'), ('two');
ALTER TABLE cdp.test_log DROP COLUMN gone;
SELECT id FROM cdp._next_log('t', 1);
SELECT no, note FROM cdp._next_rows('t', 5, NULL::cdp.test_log);
SELECT cdp._create_consumer('t', 'event');
\echo :LAST_ERROR_SQLSTATE
SELECT check_name, ok, detail FROM cdp.health() WHERE check_name ~ '^oldest_unprocessed_event';

-- partitions: midnight UTC whatever the session's zone
SET TimeZone = 'America/New_York';
SET cdp.now = '2031-01-31 23:00:00-05';
CALL cdp.maintain_partitions();
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'cdp.event'::regclass AND c.relname ~ '_(2001|2031)_' ORDER BY 1;
SET TimeZone = 'UTC';
SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = 'cdp.event_2031_02'::regclass;
-- c was a stray; its id and xid are as they were, nothing is read again
SELECT tableoid::regclass, name, event_id, xid = (SELECT xid FROM cdp.event WHERE name = 'd') AS same_xid FROM cdp.event WHERE name = 'c';
SELECT name FROM cdp._next_events('c', 10);
SELECT name FROM cdp._next_events('c', 10);
-- strays that were not read yet are read once, before and after they move
INSERT INTO cdp.event (profile_id, name, occurred_at) SELECT 1, 's' || g, timestamptz '1990-06-01 UTC' + g * interval '20 days' FROM generate_series(1, 6) g;
INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'too old', '1812-01-01 UTC'), (1, 'too new', '2400-01-01 UTC');
SELECT name FROM cdp._next_events('c', 3);
CALL cdp.maintain_partitions();
SELECT name FROM cdp._next_events('c', 10);
SELECT tableoid::regclass, count(*) FROM cdp.event WHERE name ~ '^(s|too)' GROUP BY 1 ORDER BY (tableoid::regclass)::text;
SELECT count(*) FROM cdp._missing_partitions();
SELECT check_name, ok, detail FROM cdp.health() WHERE check_name ~ '^partitions_ahead';
-- a partition that was detached stays aside
ALTER TABLE cdp.event DETACH PARTITION cdp.event_1990_06;
INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'stay', '1990-06-02 UTC');
CALL cdp.maintain_partitions();
SELECT tableoid::regclass FROM cdp.event WHERE name = 'stay';
BEGIN;
CALL cdp.maintain_partitions();
ROLLBACK;
SELECT cdp._make_partitions('cdp.event', '2040-01-01 UTC', '2040-01-01 UTC'), cdp._make_partitions('cdp.event', '2040-01-31 23:59:59 UTC', '2040-02-01 00:00:01 UTC');
SELECT cdp._make_partitions('cdp.event', '-infinity', 'infinity');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._make_partitions('cdp.profile', '2040-01-01', '2040-02-01');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._make_partitions(NULL, '2040-01-01', '2040-02-01');
\echo :LAST_ERROR_SQLSTATE

-- a batch reads a bounded number of rows, however long the log is
SET cdp.now = '2026-03-15 00:00:00+00';
SELECT cdp._make_partitions('cdp.event', '2024-03-01 UTC', '2026-03-01 UTC');
DO $$ BEGIN
	FOR i IN 1 .. 40 LOOP
		INSERT INTO cdp.event (profile_id, name, occurred_at)
			SELECT g % 100, 'n', timestamptz '2024-03-01 UTC' + (g % 730) * interval '1 day' FROM generate_series(1, 1000) g;
		COMMIT;
	END LOOP;
END $$;
SELECT cdp._create_consumer('bounded', 'event');
CREATE FUNCTION rows_read() RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_tuples_returned(i.indexrelid))::bigint
		+ (SELECT sum(pg_stat_get_xact_tuples_returned(c.oid)) FROM pg_class c WHERE c.relname ~ '^event_(\d|default)' AND c.relkind = 'r')::bigint
	FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname ~ '^event_(\d|default)' $$;
CREATE PROCEDURE watch(batches int, n int) LANGUAGE plpgsql AS $$
DECLARE
	before bigint; most bigint := 0; got bigint; total bigint := 0;
	parts bigint := (SELECT count(*) FROM pg_inherits WHERE inhparent = 'cdp.event'::regclass);
BEGIN
	FOR i IN 1 .. batches LOOP
		before := rows_read();
		SELECT count(*) INTO got FROM cdp._next_events('bounded', n);
		most := greatest(most, rows_read() - before);
		total := total + got;
	END LOOP;
	-- one row more per partition is looked at, to merge them
	RAISE INFO '% rows in % batches, reads bounded: %', total, batches, most BETWEEN n AND n + parts;
END $$;
CALL watch(5, 100);
SELECT count(*) FROM cdp._next_events('bounded', 30000);
CALL watch(5, 100);
-- transactions that were running when the last pass ended: theirs and nothing between is read
UPDATE cdp.event_consumer c SET target = NULL, last_xid = NULL, last_id = NULL, done = (
	SELECT (min(xid)::text || ':' || (max(xid)::text::bigint + 1) || ':' || string_agg(xid::text, ',' ORDER BY xid) FILTER (WHERE n % 10 = 0))::pg_snapshot
	FROM (SELECT xid, row_number() OVER (ORDER BY xid) n FROM cdp.event WHERE name = 'n' GROUP BY xid) x)
WHERE name = 'bounded';
DO $$ DECLARE before bigint := rows_read(); BEGIN
	PERFORM count(*) FROM cdp._health_event_log();
	RAISE INFO 'health reads bounded: %', rows_read() - before < 1000;
END $$;
CALL watch(5, 100);
SELECT count(*), count(DISTINCT xid) FROM cdp._next_events('bounded', 10000);
SELECT count(*) FROM cdp._next_events('bounded', 10000);
-- an id that is ahead of the cluster is noticed, and mended
UPDATE cdp.event_consumer SET done = '1000000000:1000000000:', target = NULL WHERE name = 'bounded';
SELECT * FROM cdp._next_log('bounded', 1);
\echo :LAST_ERROR_SQLSTATE
CALL cdp.migrate();
SELECT xid_offset FROM cdp.log_epoch;
INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'after', '2026-03-10 UTC');
SELECT name FROM cdp._next_events('bounded', 10);
SELECT name FROM cdp._next_events('c', 100) WHERE name <> 'n';
-- another cluster: the first write adopts the log; when it rolls back, the next one does
UPDATE cdp.log_epoch SET system_identifier = 'another';
BEGIN;
SELECT cdp._log_xid() > (SELECT max(xid) FROM cdp.event) AS larger;
ROLLBACK;
SELECT xid_offset, system_identifier FROM cdp.log_epoch;
BEGIN;
SAVEPOINT a;
SELECT cdp._log_xid() > (SELECT max(xid) FROM cdp.event) AS larger;
ROLLBACK TO a;
SELECT system_identifier FROM cdp.log_epoch;
SELECT cdp._log_xid() > (SELECT max(xid) FROM cdp.event) AS larger;
COMMIT;
SELECT xid_offset > 1000000000 AS raised, system_identifier <> 'another' AS adopted FROM cdp.log_epoch;
INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'adopted', '2026-03-10 UTC');
SELECT name FROM cdp._next_events('bounded', 10);
-- a role without any right on the log's tables may be the first
UPDATE cdp.log_epoch SET system_identifier = 'another';
CREATE ROLE cdp_test_nobody;
GRANT EXECUTE ON FUNCTION cdp._log_xid() TO cdp_test_nobody;
SET ROLE cdp_test_nobody;
SELECT cdp._log_xid() IS NOT NULL AS works;
RESET ROLE;
SELECT system_identifier <> 'another' AS adopted FROM cdp.log_epoch;
REVOKE EXECUTE ON FUNCTION cdp._log_xid() FROM cdp_test_nobody;
DROP ROLE cdp_test_nobody;
-- the tables go and come back under a session that has cached all this
DROP SCHEMA cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SELECT cdp._log_xid() = pg_current_xact_id() AS no_offset_again;
SELECT cdp._create_consumer('c', 'event');
INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'new', '2026-03-10 UTC');
SELECT name FROM cdp._next_events('c', 10);
DROP PROCEDURE watch;
DROP FUNCTION rows_read;
