-- Jobs: who may do what, and properties of runs.
BEGIN;
SELECT plan(9);
SELECT col_is_pk('cdp', 'job', 'job', 'job has a key of one column');
SELECT col_is_pk('cdp', 'job_run', 'run_id', 'job_run has a key of one column');
SELECT bag_eq($$
	SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'cdp'::regnamespace AND p.prosecdef
	AND (p.proname LIKE '\_job\_%' OR p.proname IN ('cancel_job', 'run_job', 'schedule_jobs', 'unschedule_jobs'))
$$, ARRAY['_job_begin', '_job_step', '_job_progress', '_job_end', '_job_failed', '_job_start', 'cancel_job'],
	'these and no others work as the owner of the tables');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p, aclexplode(p.proacl) a WHERE p.pronamespace = 'cdp'::regnamespace
	AND p.proname ~ '(^|_)(jobs?|cron(tab)?)(_|$)' AND a.grantee = 0
$$, 'PUBLIC may use none of them');
SELECT is_empty($$
	SELECT j.job FROM cdp.job j WHERE j.command !~ '^CALL cdp\.[a-z0-9_]+\(\)$'
	OR NOT EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = 'cdp'::regnamespace AND p.prokind = 'p'
		AND p.proname = substring(j.command FROM '^CALL cdp\.([a-z0-9_]+)\(\)$'))
$$, 'every job that comes with the extension is the plain CALL of a procedure that exists');
SELECT is_empty($$ SELECT job FROM cdp.job WHERE description IS NULL OR schedule !~ '^\S+( \S+){4}$' $$,
	'every job that comes with the extension is described, and its schedule is one that a crontab takes');
SELECT throws_ok($$ INSERT INTO cdp.job_run (job, pid, backend_start, statement_start)
	SELECT 'twice', s.* FROM cdp._job_session() s, generate_series(1, 2) $$, '23505', NULL, 'one run of a job says running');
-- a run is alive exactly while its own statement is
SELECT ok(cdp._session_alive(s.pid, s.backend_start, s.statement_start)
	AND NOT cdp._session_alive(s.pid, s.backend_start + interval '1 microsecond', s.statement_start)
	AND NOT cdp._session_alive(s.pid, s.backend_start, s.statement_start - interval '1 microsecond')
	AND NOT cdp._session_alive(0, s.backend_start, s.statement_start)
	AND cdp._session_alive(NULL, s.backend_start, s.statement_start) IS NULL, 'alive is this process, this session, this statement')
	FROM cdp._job_session() s;
SELECT ok((SELECT (s.pid, s.backend_start) = (a.pid, a.backend_start) FROM cdp._job_session() s, pg_stat_activity a WHERE a.pid = pg_backend_pid()),
	'it is the session that pg_stat_activity shows');
SELECT * FROM finish();
ROLLBACK;
