-- runs, progress, failure, rights
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
-- without those that come with other modules
DELETE FROM cdp.job;
CREATE VIEW runs AS SELECT job, status, done, total, sqlstate, error, finished_at >= started_at AS ended FROM cdp.job_run ORDER BY run_id;
-- a batch procedure as every module writes it; FAIL_AT breaks off in the middle of a batch, inside a loop over a query
CREATE PROCEDURE work(name text, batches int, fail_at int DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
	run bigint;
	r   record;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	run := cdp._job_begin(name, batches * 10);
	COMMIT; PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	FOR r IN SELECT i FROM generate_series(1, batches) i LOOP
		PERFORM cdp._job_step(run);
		INSERT INTO public.worked VALUES (r.i);
		IF r.i = fail_at THEN
			FOR r IN SELECT 1 / (i - 2) FROM generate_series(1, 3) i LOOP END LOOP;
		END IF;
		PERFORM cdp._job_progress(run, 10);
		COMMIT; PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	END LOOP;
	PERFORM cdp._job_end(run);
END $$;
CREATE TABLE worked (i int);
CALL work('by hand', 3);
SELECT job, status, done, total, rate > 0 AS has_rate, eta, finished_at >= progress_at AS ended, last_success_at IS NOT NULL AS success FROM cdp.job_status;
-- registered jobs: run by name; a procedure under the same name joins the run of run_job()
INSERT INTO cdp.job (job, command, description) VALUES
	('plain', 'SELECT 1', 'no progress'),
	('nested', 'CALL public.work(''part'', 2)', 'a run of its own below'),
	('joined', 'CALL public.work(''joined'', 2)', 'one run'),
	('broken', 'CALL public.work(''broken'', 4, 3)', 'fails in its third batch'),
	('nonsense', 'SELEKT', 'does not parse'),
	('twofold', 'CALL public.work(''part'', 4, 2)', 'both runs fail');
SELECT job, status FROM cdp.job_status ORDER BY job COLLATE "C";
CALL cdp.run_job('plain');
CALL cdp.run_job('nested');
CALL cdp.run_job('joined');
TRUNCATE worked;
CALL cdp.run_job('broken');
-- what was committed stays, nothing is left behind in the session
SELECT i FROM worked ORDER BY i;
SELECT count(*) FROM pg_cursors WHERE name <> '';
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SHOW search_path;
CALL cdp.run_job('nonsense');
CALL cdp.run_job('twofold');
-- nobody cancelled it: a time limit is a failure
INSERT INTO cdp.job (job, command) VALUES ('slow', 'SELECT pg_sleep(60)');
SET statement_timeout = '50ms';
CALL cdp.run_job('slow');
RESET statement_timeout;
-- an error in a subtransaction, and one after a caught one
INSERT INTO cdp.job (job, command) VALUES ('caught', 'DO $$ BEGIN COMMIT; BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN END; COMMIT; BEGIN PERFORM 1 / 0; EXCEPTION WHEN unique_violation THEN END; END $$');
CALL cdp.run_job('caught');
SELECT * FROM runs;
SELECT check_name, ok, regexp_replace(detail, 'at \S+ \S+ UTC', 'at ...') AS detail FROM cdp.health() WHERE check_name LIKE 'job%';
-- a good run after a bad one
UPDATE cdp.job SET command = 'CALL public.work(''broken'', 4)' WHERE job = 'broken';
CALL cdp.run_job('broken');
SELECT status, last_failure, last_error, last_success_at > last_failure_at AS mended FROM cdp.job_status WHERE job = 'broken';
SELECT check_name FROM cdp.health() WHERE check_name = 'job broken';
-- an error outside of run_job() leaves a run that nobody carries: interrupted, and it can be run again
CALL work('by hand', 3, 2);
SELECT status, done, last_failure FROM cdp.job_status WHERE job = 'by hand';
SELECT cdp.cancel_job('by hand');
CALL work('by hand', 3);
SELECT status, done, last_failure FROM cdp.job_status WHERE job = 'by hand';
-- what a statement of the past has begun cannot be carried on by a later one
SELECT cdp._job_begin('old') AS run \gset
SELECT cdp._job_step(:run);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._job_progress(:run, 1);
SELECT cdp._job_end(:run);
SELECT job, status FROM cdp.job_status WHERE job = 'old';
-- refusals
CALL cdp.run_job('no_such_job');
\echo :LAST_ERROR_SQLSTATE
CALL cdp.run_job(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.cancel_job(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.cancel_job('no such job'), cdp.cancel_job('plain');
BEGIN;
CALL cdp.run_job('plain');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
DO $$ BEGIN CALL cdp.run_job('plain'); END $$;
\echo :LAST_ERROR_SQLSTATE
BEGIN READ ONLY;
SELECT cdp._job_begin('plain');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
INSERT INTO cdp.job (job, command) VALUES ('Bad name', 'SELECT 1');
INSERT INTO cdp.job (job, command) VALUES ('empty', ' ');
-- the command of another role runs for that role only, a procedure of the extension for everybody who may call it
CREATE ROLE regress_cdp_op;
SELECT cdp.grant_access('operator', 'regress_cdp_op');
CREATE PROCEDURE cdp._test_member() LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN RAISE WARNING 'it works as %', current_user; END $$;
GRANT EXECUTE ON PROCEDURE cdp._test_member() TO regress_cdp_op;
INSERT INTO cdp.job (job, command) VALUES ('member', 'CALL cdp._test_member()');
SET ROLE regress_cdp_op;
CALL cdp.run_job('plain');
\echo :LAST_ERROR_SQLSTATE
CALL cdp.run_job('member');
RESET ROLE;
ALTER EXTENSION customer_cdp ADD PROCEDURE cdp._test_member();
SET ROLE regress_cdp_op;
CALL cdp.run_job('member');
-- an operator says when, not what
UPDATE cdp.job SET schedule = '7 3 * * *', enabled = false WHERE job = 'plain' RETURNING job, schedule, enabled, owner = current_user AS mine;
UPDATE cdp.job SET command = 'SELECT 2' WHERE job = 'plain';
UPDATE cdp.job SET owner = 'regress_cdp_op' WHERE job = 'plain';
INSERT INTO cdp.job (job, command) VALUES ('mine', 'SELECT 1');
INSERT INTO cdp.job_run (job, pid, backend_start, statement_start) VALUES ('plain', 1, now(), now());
SELECT cdp.cancel_job('plain');
CALL cdp.schedule_jobs();
RESET ROLE;
ALTER EXTENSION customer_cdp DROP PROCEDURE cdp._test_member();
DROP PROCEDURE cdp._test_member();
-- a disabled job rests for schedulers and still runs by hand
SELECT count(*) AS before FROM cdp.job_run WHERE job = 'plain' \gset
CALL cdp.run_job('plain', scheduled => true);
SELECT count(*) - :before FROM cdp.job_run WHERE job = 'plain';
CALL cdp.run_job('plain');
SELECT count(*) - :before FROM cdp.job_run WHERE job = 'plain';
-- the owner of a command is whoever wrote it
UPDATE cdp.job SET owner = 'regress_cdp_op' WHERE job = 'plain' RETURNING owner = current_user AS mine;
-- only the newest 1,000 runs of a job are kept
INSERT INTO cdp.job_run (job, status, pid, backend_start, statement_start) SELECT 'plain', 'done', 1, now(), now() FROM generate_series(1, 1200);
CALL cdp.run_job('plain');
SELECT count(*) FROM cdp.job_run WHERE job = 'plain';
SELECT cdp.revoke_access('operator', 'regress_cdp_op');
DROP ROLE regress_cdp_op;
DROP VIEW runs;
DROP PROCEDURE work;
DROP TABLE worked;
