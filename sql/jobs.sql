-- jobs: long work that commits as it goes; its runs, its progress, its schedule.
-- C: src/jobs.c  Page: doc/jobs.md  Tests: test/sql/jobs.sql, test/specs/jobs_*.spec, test/pgtap/jobs.sql, test/t/*_jobs_*.pl
--
-- How a batch procedure of any module uses it; the work of a batch is a function, the procedure loops and commits:
--
--	PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
--	run := cdp._job_begin('backfill public.orders', total);		-- 55006 when one is running already
--	COMMIT; PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
--	LOOP
--		PERFORM cdp._job_step(run);			-- still ours, not cancelled; holds the job's lock until COMMIT
--		n := cdp._backfill_batch(...);
--		EXIT WHEN n = 0;
--		PERFORM cdp._job_progress(run, n);	-- seen by other sessions after COMMIT; makes the same checks
--		COMMIT; PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
--	END LOOP;
--	PERFORM cdp._job_end(run);
--
-- Times of runs are real times, not cdp.now(): a simulated clock stands still while a job works.

-- @code
CREATE OR REPLACE FUNCTION cdp._job_session(OUT pid int, OUT backend_start timestamptz, OUT statement_start timestamptz)
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_job_session';
COMMENT ON FUNCTION cdp._job_session() IS 'internal: what identifies the statement that this session executes';

CREATE OR REPLACE FUNCTION cdp._session_alive(pid int, backend_start timestamptz, statement_start timestamptz) RETURNS boolean
	LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_session_alive';
COMMENT ON FUNCTION cdp._session_alive(int, timestamptz, timestamptz) IS 'internal: is that statement of that session still being executed';

CREATE OR REPLACE FUNCTION cdp._job_key(job text) RETURNS bigint
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT hashtextextended('cdp.job:' || job, 0);
END;
COMMENT ON FUNCTION cdp._job_key(text) IS 'internal: key of the advisory lock that a batch of this job holds';

CREATE OR REPLACE FUNCTION cdp._job_home() RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT c.system_identifier || '/' || d.oid FROM pg_control_system() c, pg_database d WHERE d.datname = current_database();
END;
COMMENT ON FUNCTION cdp._job_home() IS 'internal: this database of this cluster; another one after a dump was restored elsewhere';

CREATE OR REPLACE FUNCTION cdp._job_owner() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	NEW.owner := current_user;
	RETURN NEW;
END $$;
COMMENT ON FUNCTION cdp._job_owner() IS 'internal: trigger on cdp.job, notes who wrote the command';

CREATE OR REPLACE PROCEDURE cdp.run_job(job text, scheduled boolean DEFAULT false)
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_run_job';
COMMENT ON PROCEDURE cdp.run_job(text, boolean) IS 'Runs a job of cdp.job now and waits for it; any scheduler may call it. The run and its failure stay in cdp.job_run; an error of the job is raised again. scheduled => true is for schedulers: it returns quietly when the job is disabled, still running, or was scheduled in another cluster or database than this one (a restored copy). Errors: 42704 no such job, 22004 NULL, 55006 it is running, 42501 its command was written by another role, 25001 inside a transaction block or another procedure.';

CREATE OR REPLACE FUNCTION cdp._health_jobs() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- One row per job whose last run that ended did not end well, one for all others, one for the schedule.
DECLARE
	home text;
	good bigint;
	bad  bigint := 0;
	s    record;
BEGIN
	IF to_regclass('cdp.job_status') IS NULL THEN
		RETURN;
	END IF;
	FOR s IN SELECT j.job, j.last_failure_at, j.last_failure, j.last_error FROM cdp.job_status j
		WHERE j.last_failure_at IS NOT NULL AND j.last_failure_at > coalesce(j.last_success_at, '-infinity') ORDER BY j.job
	LOOP
		bad := bad + 1;
		check_name := 'job ' || s.job;
		ok := false;
		detail := format('%s at %s%s', s.last_failure, to_char(s.last_failure_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'),
			coalesce(': ' || s.last_error, ''));
		RETURN NEXT;
	END LOOP;
	SELECT count(*) - bad INTO good FROM cdp.job_status;
	RETURN QUERY VALUES ('jobs', bad = 0, format('%s jobs in order, %s with a failed or interrupted last run', good, bad));
	SELECT m.value INTO home FROM cdp.meta m WHERE m.key = 'jobs_home';
	RETURN QUERY VALUES ('jobs_scheduled', coalesce(home IN ('none', cdp._job_home()), true), CASE
		WHEN coalesce(home, 'none') = 'none' THEN 'not scheduled; CALL cdp.schedule_jobs()'
		WHEN home = cdp._job_home() THEN 'scheduled in this database'
		ELSE 'scheduled in another cluster or database, so none runs by itself here; CALL cdp.schedule_jobs()' END);
END $$;
COMMENT ON FUNCTION cdp._health_jobs() IS 'internal: rows of jobs in cdp.health()';

-- @access
('function', 'run_job', 'EXECUTE', '{operator,admin}'),
('function', 'cancel_job', 'EXECUTE', '{operator,admin}'),
('function', '_health_jobs', 'EXECUTE', '{reader,application}'),
('function', '_job_home', 'EXECUTE', '{reader,application}'),
('function', '_session_alive', 'EXECUTE', '{reader,application}'),
('function', '_job_start', 'EXECUTE', '{operator,admin}'),
('function', '_job_failed', 'EXECUTE', '{application,operator,admin}'),
('function', '_job_begin', 'EXECUTE', '{application,operator,admin}'),
('function', '_job_step', 'EXECUTE', '{application,operator,admin}'),
('function', '_job_progress', 'EXECUTE', '{application,operator,admin}'),
('function', '_job_end', 'EXECUTE', '{application,operator,admin}'),
('table', 'job', 'SELECT, UPDATE (schedule, enabled)', '{operator,admin}'),
('table', 'job_run', 'SELECT', '{operator,admin}'),
('table', 'job_status', 'SELECT', '{reader,application}'),

-- @data
PERFORM cdp._ensure_table('job', $t$ (
	job         text PRIMARY KEY CHECK (job ~ '^[a-z][a-z0-9_]{0,39}$'),
	command     text NOT NULL CHECK (command ~ '\S'),
	schedule    text CHECK (schedule ~ '\S'),
	enabled     boolean NOT NULL DEFAULT true,
	description text,
	owner       name NOT NULL DEFAULT current_user
) $t$);
COMMENT ON TABLE cdp.job IS 'What is to be done again and again. Schedule and enabled are yours to change; CALL cdp.schedule_jobs() makes pg_cron follow.';
COMMENT ON COLUMN cdp.job.job IS 'name, for CALL cdp.run_job(name)';
COMMENT ON COLUMN cdp.job.command IS 'one SQL statement, usually a CALL; names outside pg_catalog are written with their schema';
COMMENT ON COLUMN cdp.job.schedule IS 'when, as in a crontab: minute hour day month weekday, in pg_cron''s time zone (UTC); NULL: only when somebody runs it';
COMMENT ON COLUMN cdp.job.enabled IS 'false: schedulers do not run it, from now on; CALL cdp.run_job() still does';
COMMENT ON COLUMN cdp.job.owner IS 'who wrote the command; it runs for this role only, unless it is the plain CALL of a procedure of the extension';
CREATE OR REPLACE TRIGGER job_owner BEFORE INSERT OR UPDATE OF command, owner ON cdp.job
	FOR EACH ROW EXECUTE FUNCTION cdp._job_owner();

PERFORM cdp._ensure_table('job_run', $t$ (
	run_id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	job                 text NOT NULL,
	status              text NOT NULL DEFAULT 'running'
		CHECK (status IN ('running', 'done', 'failed', 'interrupted', 'cancelled')),
	done                bigint NOT NULL DEFAULT 0,
	total               bigint,
	started_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
	progress_at         timestamptz,
	finished_at         timestamptz,
	cancel_requested_at timestamptz,
	sqlstate            text,
	error               text,
	run_by              name NOT NULL DEFAULT session_user,
	pid                 int NOT NULL,
	backend_start       timestamptz NOT NULL,
	statement_start     timestamptz NOT NULL
) $t$);
-- at most one row per job says running, whatever the isolation level of those who try
CREATE UNIQUE INDEX IF NOT EXISTS job_run_running ON cdp.job_run (job) WHERE status = 'running';
CREATE INDEX IF NOT EXISTS job_run_job ON cdp.job_run (job, run_id);
COMMENT ON TABLE cdp.job_run IS 'Runs, the newest 1,000 of each job. A row that says running is believed only while its statement is executed: view cdp.job_status.';
COMMENT ON COLUMN cdp.job_run.job IS 'a name of cdp.job, or what a batch procedure calls its own work, for example backfill public.orders';
COMMENT ON COLUMN cdp.job_run.done IS 'units (usually rows) finished by this run';
COMMENT ON COLUMN cdp.job_run.total IS 'units there were to do when it began; NULL: unknown';
COMMENT ON COLUMN cdp.job_run.statement_start IS 'with pid and backend_start: the statement that carries the run';

-- @view
CREATE OR REPLACE FUNCTION cdp._job_try_begin(job text, total bigint) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- The run of this job that belongs to this statement: the one it has begun before (a procedure under run_job()
-- with the same name), else a new one.  NULL: another statement is at it.
DECLARE
	me  record;
	old cdp.job_run;
	run bigint;
BEGIN
	IF NOT pg_try_advisory_xact_lock(cdp._job_key(_job_try_begin.job)) THEN
		RETURN NULL;
	END IF;
	SELECT * INTO me FROM cdp._job_session();
	SELECT * INTO old FROM cdp.job_run r WHERE r.job = _job_try_begin.job AND r.status = 'running';
	IF FOUND THEN
		IF (old.pid, old.backend_start, old.statement_start) = (me.pid, me.backend_start, me.statement_start) THEN
			UPDATE cdp.job_run r SET total = coalesce(_job_try_begin.total, r.total) WHERE r.run_id = old.run_id;
			RETURN old.run_id;
		ELSIF cdp._session_alive(old.pid, old.backend_start, old.statement_start) THEN
			RETURN NULL;
		END IF;
		UPDATE cdp.job_run r SET status = CASE WHEN r.cancel_requested_at IS NULL THEN 'interrupted' ELSE 'cancelled' END,
			finished_at = coalesce(r.progress_at, r.started_at) WHERE r.run_id = old.run_id;
	END IF;
	INSERT INTO cdp.job_run (job, total, pid, backend_start, statement_start)
		VALUES (_job_try_begin.job, _job_try_begin.total, me.pid, me.backend_start, me.statement_start)
		ON CONFLICT DO NOTHING RETURNING run_id INTO run;
	DELETE FROM cdp.job_run r WHERE r.job = _job_try_begin.job AND r.run_id <=
		(SELECT o.run_id FROM cdp.job_run o WHERE o.job = _job_try_begin.job ORDER BY o.run_id DESC OFFSET 1000 LIMIT 1);
	RETURN run;
END $$;
COMMENT ON FUNCTION cdp._job_try_begin(text, bigint) IS 'internal: begins a run, NULL when the job is running';

CREATE OR REPLACE FUNCTION cdp._job_begin(job text, total bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	run bigint;
BEGIN
	PERFORM cdp._require_version();
	IF job IS NULL THEN
		RAISE EXCEPTION 'job must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'SELECT job FROM cdp.job lists the jobs.';
	END IF;
	run := cdp._job_try_begin(job, total);
	IF run IS NULL THEN
		RAISE EXCEPTION 'job "%" is running already', job USING ERRCODE = 'object_in_use',
			HINT = format('SELECT * FROM cdp.job_status shows it; SELECT cdp.cancel_job(%L) stops it at its next batch.', job);
	END IF;
	RETURN run;
END $$;
COMMENT ON FUNCTION cdp._job_begin(text, bigint) IS 'internal: begins a run of a batch procedure; job: its name, total: units to do or NULL. Answers the run_id. The caller commits next. 55006 when one is running; what an ended session left is marked interrupted.';

CREATE OR REPLACE FUNCTION cdp._job_check(run cdp.job_run, run_id bigint) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cancelled text;
BEGIN
	IF run.run_id IS NULL OR NOT pg_try_advisory_xact_lock(cdp._job_key(run.job)) THEN
		RAISE EXCEPTION 'run % is not carried by this statement any more', run_id USING ERRCODE = 'object_in_use',
			HINT = 'Another session has taken the job over, or the run has ended; SELECT * FROM cdp.job_status shows it.';
	END IF;
	-- who cancels a job means all of the statement that carries it, also what a procedure below calls its own run
	SELECT r.job INTO cancelled FROM cdp.job_run r
	WHERE r.status = 'running' AND r.cancel_requested_at IS NOT NULL
	  AND (r.pid, r.backend_start, r.statement_start) = (run.pid, run.backend_start, run.statement_start)
	ORDER BY r.run_id LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'job "%" was cancelled', cancelled USING ERRCODE = 'query_canceled',
			HINT = 'What was committed stays; start the job again and it goes on from there.';
	END IF;
END $$;
COMMENT ON FUNCTION cdp._job_check(cdp.job_run, bigint) IS 'internal: takes the lock of the job for this transaction; 55006 not ours, 57014 cancelled';

CREATE OR REPLACE FUNCTION cdp._job_step(run_id bigint) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- Reads only: a lock on the row for the length of a batch would make cancel_job() wait for it.
DECLARE
	run cdp.job_run;
BEGIN
	SELECT r.* INTO run FROM cdp.job_run r, cdp._job_session() me
	WHERE r.run_id = _job_step.run_id AND r.status = 'running'
	  AND (r.pid, r.backend_start, r.statement_start) = (me.pid, me.backend_start, me.statement_start);
	PERFORM cdp._job_check(run, run_id);
END $$;
COMMENT ON FUNCTION cdp._job_step(bigint) IS 'internal: first step of a batch: takes the job''s lock until COMMIT, 55006 when the run is not this statement''s any more, 57014 when it was cancelled';

CREATE OR REPLACE FUNCTION cdp._job_progress(run_id bigint, n bigint, total bigint DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	run cdp.job_run;
BEGIN
	UPDATE cdp.job_run r SET done = r.done + coalesce(_job_progress.n, 0), total = coalesce(_job_progress.total, r.total),
		progress_at = clock_timestamp()
	FROM cdp._job_session() me
	WHERE r.run_id = _job_progress.run_id AND r.status = 'running'
	  AND (r.pid, r.backend_start, r.statement_start) = (me.pid, me.backend_start, me.statement_start)
	RETURNING r.* INTO run;
	PERFORM cdp._job_check(run, run_id);
END $$;
COMMENT ON FUNCTION cdp._job_progress(bigint, bigint, bigint) IS 'internal: last step of a batch before COMMIT: n more units are done, total (when not NULL) is a better guess of all; makes the checks of _job_step()';

CREATE OR REPLACE FUNCTION cdp._job_end(run_id bigint) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- A run that has ended stays as it is: run_job() ends what its procedure may have ended before.
BEGIN
	UPDATE cdp.job_run r SET status = 'done', finished_at = clock_timestamp()
	FROM cdp._job_session() me
	WHERE r.run_id = _job_end.run_id AND r.status = 'running'
	  AND (r.pid, r.backend_start, r.statement_start) = (me.pid, me.backend_start, me.statement_start);
END $$;
COMMENT ON FUNCTION cdp._job_end(bigint) IS 'internal: the run is done';

CREATE OR REPLACE FUNCTION cdp._job_failed(state text, message text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- Every run of this statement: run_job() and the procedures under it may have begun some each.  Without a word of
-- cancel_job() a 57014 is a failure like any other: a job that never gets below statement_timeout must be seen.
BEGIN
	-- cancel_job(hard) may have interrupted us before it committed its request: wait for it
	PERFORM FROM cdp.job_run r, cdp._job_session() me
	WHERE r.status = 'running' AND (r.pid, r.backend_start, r.statement_start) = (me.pid, me.backend_start, me.statement_start)
	FOR UPDATE OF r;
	UPDATE cdp.job_run r SET finished_at = clock_timestamp(), sqlstate = state, error = message,
		status = CASE WHEN state = '57014' AND EXISTS (SELECT FROM cdp.job_run c
			WHERE c.status = 'running' AND c.cancel_requested_at IS NOT NULL
			  AND (c.pid, c.backend_start, c.statement_start) = (r.pid, r.backend_start, r.statement_start))
			THEN 'cancelled' ELSE 'failed' END
	FROM cdp._job_session() me
	WHERE r.status = 'running' AND (r.pid, r.backend_start, r.statement_start) = (me.pid, me.backend_start, me.statement_start);
END $$;
COMMENT ON FUNCTION cdp._job_failed(text, text) IS 'internal: the runs of this statement have ended with an error';

CREATE OR REPLACE FUNCTION cdp._job_start(job text, scheduled boolean)
	RETURNS TABLE (run_id bigint, command text, owner name, member_call boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- For run_job(): no row when a scheduled call has nothing to do.
DECLARE
	j    cdp.job;
	home text;
	call text;
BEGIN
	PERFORM cdp._require_version();
	SELECT * INTO j FROM cdp.job w WHERE w.job = _job_start.job;
	IF NOT FOUND AND job IS NOT NULL THEN
		RAISE EXCEPTION 'there is no job "%"', job USING ERRCODE = 'undefined_object',
			HINT = 'SELECT job FROM cdp.job lists the jobs.';
	END IF;
	IF scheduled THEN
		SELECT m.value INTO home FROM cdp.meta m WHERE m.key = 'jobs_home';
		IF home <> cdp._job_home() THEN
			IF home <> 'none' THEN
				RAISE WARNING 'job "%" does not run: the jobs of this database were scheduled in another cluster or database', job
					USING HINT = 'If they shall run here, CALL cdp.schedule_jobs().';
			END IF;
			RETURN;
		ELSIF NOT j.enabled THEN
			RETURN;
		END IF;
		run_id := cdp._job_try_begin(job, NULL);
		IF run_id IS NULL THEN
			RETURN;
		END IF;
	ELSE
		run_id := cdp._job_begin(job);
	END IF;
	command := j.command;
	owner := j.owner;
	call := substring(j.command FROM '^CALL cdp\.([a-z0-9_]+)\(\)$');
	-- every procedure of that name, lest an overload be chosen that somebody added
	member_call := call IS NOT NULL AND coalesce((SELECT bool_and(EXISTS (SELECT FROM pg_depend d
			JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'customer_cdp'
			WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'))
		FROM pg_proc p WHERE p.pronamespace = 'cdp'::regnamespace AND p.proname = call), false);
	RETURN NEXT;
END $$;
COMMENT ON FUNCTION cdp._job_start(text, boolean) IS 'internal: begins a run for run_job()';

CREATE OR REPLACE FUNCTION cdp.cancel_job(job text, hard boolean DEFAULT false) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	run cdp.job_run;
BEGIN
	PERFORM cdp._require_version();
	IF job IS NULL THEN
		RAISE EXCEPTION 'job must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'SELECT job FROM cdp.job_status WHERE status = ''running'' lists what can be cancelled.';
	END IF;
	SELECT * INTO run FROM cdp.job_run r WHERE r.job = cancel_job.job AND r.status = 'running' FOR NO KEY UPDATE;
	IF NOT FOUND OR NOT cdp._session_alive(run.pid, run.backend_start, run.statement_start) THEN
		RETURN false;
	END IF;
	UPDATE cdp.job_run r SET cancel_requested_at = coalesce(r.cancel_requested_at, clock_timestamp()) WHERE r.run_id = run.run_id;
	IF hard THEN
		-- with the rights of the tables' owner: his own sessions and those of roles he is a member of
		BEGIN
			PERFORM pg_cancel_backend(run.pid);
		EXCEPTION WHEN insufficient_privilege THEN
			RAISE WARNING 'the statement of process % cannot be interrupted by role %; it stops at its next batch', run.pid, current_user
				USING HINT = format('A superuser may SELECT pg_cancel_backend(%s).', run.pid);
		END;
	END IF;
	RETURN true;
END $$;
COMMENT ON FUNCTION cdp.cancel_job(text, boolean) IS 'Asks the running run of a job (a name of cdp.job_status) to stop at its next batch, once this transaction commits; hard => true also interrupts the statement at once (pg_cancel_backend), for a batch that hangs. What was committed stays. true: asked, false: it is not running. Errors: 22004 NULL.';

CREATE OR REPLACE VIEW cdp.job_status AS
SELECT n.job,
	CASE WHEN r.run_id IS NULL THEN 'never run'
	     WHEN l.lost AND r.cancel_requested_at IS NOT NULL THEN 'cancelled'
	     WHEN l.lost THEN 'interrupted'
	     ELSE r.status END AS status,
	r.done, r.total,
	round(r.done / nullif(extract(epoch FROM coalesce(r.progress_at, r.finished_at) - r.started_at), 0), 1) AS rate,
	CASE WHEN r.status = 'running' AND NOT l.lost AND r.done > 0 AND r.total >= r.done
	     THEN r.progress_at + (r.progress_at - r.started_at) * ((r.total - r.done) / r.done::float8) END AS eta,
	r.started_at, r.progress_at,
	CASE WHEN l.lost THEN coalesce(r.progress_at, r.started_at) ELSE r.finished_at END AS finished_at,
	r.error,
	s.finished_at AS last_success_at,
	CASE WHEN l.lost AND r.cancel_requested_at IS NULL THEN coalesce(r.progress_at, r.started_at) ELSE f.finished_at END AS last_failure_at,
	CASE WHEN l.lost AND r.cancel_requested_at IS NULL THEN 'interrupted' ELSE f.status END AS last_failure,
	CASE WHEN l.lost AND r.cancel_requested_at IS NULL THEN NULL ELSE f.error END AS last_error,
	j.schedule, j.enabled, j.description, r.run_id, r.pid, r.run_by
FROM (SELECT job FROM cdp.job UNION SELECT job FROM cdp.job_run) n
LEFT JOIN cdp.job j ON j.job = n.job
LEFT JOIN LATERAL (SELECT * FROM cdp.job_run x WHERE x.job = n.job ORDER BY x.run_id DESC LIMIT 1) r ON true
LEFT JOIN LATERAL (SELECT * FROM cdp.job_run x WHERE x.job = n.job AND x.status = 'done' ORDER BY x.run_id DESC LIMIT 1) s ON true
LEFT JOIN LATERAL (SELECT * FROM cdp.job_run x WHERE x.job = n.job AND x.status IN ('failed', 'interrupted')
	ORDER BY x.run_id DESC LIMIT 1) f ON true
CROSS JOIN LATERAL (SELECT CASE WHEN r.status = 'running'
	THEN NOT cdp._session_alive(r.pid, r.backend_start, r.statement_start) ELSE false END AS lost) l;
COMMENT ON VIEW cdp.job_status IS 'One row per job (unique: job), with its newest run, also while it runs in another session. status: never run, running, done, failed, interrupted (its session or statement ended without a word), cancelled; done and total in units of the job; rate: units per second; eta: when a running run should be finished; last_success_at, last_failure_at, last_failure, last_error: how earlier runs ended.';
