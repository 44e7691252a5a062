-- schedules, on a server without pg_cron (with it: test/t/004_jobs_pg_cron.pl)
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
DELETE FROM cdp.job;
INSERT INTO cdp.job (job, command, schedule, enabled) VALUES
	('hourly', 'SELECT 1', '5 * * * *', true),
	('quick', 'SELECT 1', '10 seconds', true),
	('rest', 'SELECT 1', '5 * * * *', false),
	('by_hand', 'SELECT 1', NULL, true);
SELECT replace(l, current_database(), 'DB') FROM cdp.crontab_lines() l;
SELECT replace(replace(s, current_database(), 'DB'), current_user, 'OWNER') FROM cdp.cron_statements() s;
SELECT cdp._cron_name('hourly') = 'cdp:' || current_database() || ':hourly' AS name;
-- never scheduled: a scheduler of the user's own may call
CALL cdp.run_job('hourly', scheduled => true);
SELECT job, status FROM cdp.job_status WHERE status <> 'never run';
-- without pg_cron it says what to do
SET client_min_messages = notice;
\set VERBOSITY terse
CALL cdp.schedule_jobs();
CALL cdp.schedule_jobs();
-- pg_cron of another database: what to run there
SET cron.database_name = 'elsewhere';
CALL cdp.schedule_jobs();
CALL cdp.unschedule_jobs();
RESET cron.database_name;
SET client_min_messages = warning;
\set VERBOSITY default
SELECT check_name, ok, detail FROM cdp.health() WHERE check_name = 'jobs_scheduled';
-- after unschedule_jobs() no scheduler runs anything, a person does
CALL cdp.run_job('hourly', scheduled => true);
CALL cdp.run_job('hourly');
SELECT count(*) FROM cdp.job_run;
-- scheduled here
CALL cdp.schedule_jobs();
SELECT check_name, ok, detail FROM cdp.health() WHERE check_name = 'jobs_scheduled';
CALL cdp.run_job('hourly', scheduled => true);
SELECT count(*) FROM cdp.job_run;
-- a copy that was restored into another cluster does not run what the original runs
UPDATE cdp.meta SET value = '1/1' WHERE key = 'jobs_home';
CALL cdp.run_job('hourly', scheduled => true);
SELECT count(*) FROM cdp.job_run;
SELECT check_name, ok, detail FROM cdp.health() WHERE check_name = 'jobs_scheduled';
CALL cdp.schedule_jobs();
CALL cdp.run_job('hourly', scheduled => true);
SELECT count(*) FROM cdp.job_run;
