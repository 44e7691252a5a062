-- jobs_cron: who calls the jobs: pg_cron in this database, pg_cron in another one, or any other scheduler.
-- Page: doc/jobs_cron.md  Tests: test/sql/jobs_cron.sql, test/t/004_jobs_pg_cron.pl

-- @code
CREATE OR REPLACE FUNCTION cdp._cron_schema() RETURNS name
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- The extension itself is registered in pg_catalog; where its functions are, they say themselves.
BEGIN
	RETURN (SELECT n.nspname FROM pg_extension e
		JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
			AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
		JOIN pg_proc p ON p.oid = d.objid AND p.proname = 'schedule_in_database'
		JOIN pg_namespace n ON n.oid = p.pronamespace
		WHERE e.extname = 'pg_cron' LIMIT 1);
END $$;
COMMENT ON FUNCTION cdp._cron_schema() IS 'internal: schema of pg_cron''s functions, NULL when pg_cron (1.4 or newer) is not in this database';

CREATE OR REPLACE FUNCTION cdp._cron_database() RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN current_setting('cron.database_name', true);
EXCEPTION WHEN insufficient_privilege THEN
	RETURN '?';
END $$;
COMMENT ON FUNCTION cdp._cron_database() IS 'internal: the database that pg_cron works from, ? when only a superuser may know, NULL when it is not loaded';

CREATE OR REPLACE FUNCTION cdp._cron_name(job text) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- pg_cron 1.4 keeps 63 bytes of a name
DECLARE
	full_name text := format('cdp:%s:%s', current_database(), job);
BEGIN
	RETURN CASE WHEN octet_length(full_name) <= 63 THEN full_name
	            ELSE format('cdp:%s:%s', left(md5(current_database()), 16), job) END;
END $$;
COMMENT ON FUNCTION cdp._cron_name(text) IS 'internal: name of a job in pg_cron, cdp:DATABASE:job';

CREATE OR REPLACE FUNCTION cdp._cron_statements(cron name, in_database boolean, take boolean) RETURNS SETOF text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- First what removes our rows that should not be there: of jobs that are gone or disabled, of another user, of
-- databases that no longer exist (renamed, or a restored copy of cron.job).  Then one statement per job; pg_cron
-- replaces the row of the same name and user.
DECLARE
	owner name := (SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = to_regclass('cdp.job'));
	keep  text[] := '{}';
	j     record;
BEGIN
	IF take THEN
		SELECT coalesce(array_agg(cdp._cron_name(w.job) ORDER BY w.job), '{}') INTO keep
		FROM cdp.job w WHERE w.enabled AND w.schedule IS NOT NULL;
	END IF;
	RETURN NEXT format('SELECT %1$I.unschedule(j.jobid) FROM %1$I.job j WHERE j.jobname LIKE ''cdp:%%'''
		' AND (j.database = %2$L AND (j.username <> %3$L OR j.jobname::text <> ALL (%4$L::text[]))'
		' OR NOT EXISTS (SELECT FROM pg_catalog.pg_database d WHERE d.datname = j.database))',
		cron, current_database(), owner, keep);
	FOR j IN SELECT w.job, w.schedule FROM cdp.job w WHERE take AND w.enabled AND w.schedule IS NOT NULL ORDER BY w.job LOOP
		RETURN NEXT format('SELECT %I.%s(%L, %L, %L%s)', cron,
			CASE WHEN in_database THEN 'schedule_in_database' ELSE 'schedule' END,
			cdp._cron_name(j.job), j.schedule, format('CALL cdp.run_job(%L, scheduled => true)', j.job),
			CASE WHEN in_database THEN format(', %L, %L', current_database(), owner) ELSE '' END);
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._cron_statements(name, boolean, boolean) IS 'internal: what to run in pg_cron''s database; in_database: as a superuser on behalf of the tables'' owner; take: false removes everything';

CREATE OR REPLACE FUNCTION cdp.cron_statements() RETURNS SETOF text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._require_version();
	RETURN QUERY SELECT s || ';' FROM cdp._cron_statements('cron', true, true) s;
END $$;
COMMENT ON FUNCTION cdp.cron_statements() IS 'The SQL statements that schedule the enabled jobs of this database when pg_cron lives in another one; a superuser runs them there: psql -XAtc ''SELECT cdp.cron_statements()'' shop | psql postgres. They can be run again and follow edited schedules. Never NULL.';

CREATE OR REPLACE FUNCTION cdp.crontab_lines() RETURNS SETOF text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._require_version();
	-- % ends the command of a crontab line; the shell quotes the name of the database
	RETURN QUERY SELECT format('%s psql -Xq -d %s -c "CALL cdp.run_job(''%s'', scheduled => true)"', w.schedule,
			'''' || replace(replace(current_database(), '''', '''\'''''), '%', '\%') || '''', w.job)
		FROM cdp.job w WHERE w.enabled AND w.schedule ~ '^\S+( +\S+){4}$' ORDER BY w.job;
END $$;
COMMENT ON FUNCTION cdp.crontab_lines() IS 'The enabled jobs as lines of a crontab, for machines without pg_cron: the system''s cron, or any other scheduler, connects and calls cdp.run_job(). Schedules in seconds, which only pg_cron knows, are left out. Never NULL.';

CREATE OR REPLACE FUNCTION cdp._job_as_owner() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- One role schedules all jobs, the owner of the tables: otherwise pg_cron would keep a row per user and run each job
-- as often.  A superuser stays what he is and schedules on behalf of the owner.
DECLARE
	owner name := (SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = to_regclass('cdp.job'));
BEGIN
	PERFORM cdp._require_version();
	IF NOT pg_has_role(owner, 'MEMBER') THEN
		RAISE EXCEPTION 'jobs run as role %, the owner of the tables, and only that role schedules them', owner
			USING ERRCODE = 'insufficient_privilege',
			      HINT = 'Run this as that role, as a member of it or as a superuser.';
	ELSIF current_user <> owner AND NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) THEN
		PERFORM set_config('role', owner, true);
	END IF;
END $$;
COMMENT ON FUNCTION cdp._job_as_owner() IS 'internal: acts as the owner of the tables until the caller resets the role, unless as a superuser; 42501';

CREATE OR REPLACE PROCEDURE cdp._cron_apply(take boolean)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cron  name := cdp._cron_schema();
	super boolean := (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user);
	stmt  text;
BEGIN
	IF NOT has_schema_privilege(cron, 'USAGE') THEN
		RAISE EXCEPTION 'role % may not use pg_cron', current_user
			USING ERRCODE = 'insufficient_privilege',
			      HINT = format('A superuser runs GRANT USAGE ON SCHEMA %I TO %I; or makes this call himself.', cron, current_user);
	END IF;
	FOR stmt IN SELECT s FROM cdp._cron_statements(cron, super, take) s LOOP
		EXECUTE stmt;
	END LOOP;
END $$;
COMMENT ON PROCEDURE cdp._cron_apply(boolean) IS 'internal: brings pg_cron of this database up to date; take: false removes our jobs';

CREATE OR REPLACE PROCEDURE cdp.schedule_jobs()
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	role_before text := current_setting('role');
	owner       name := (SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = to_regclass('cdp.job'));
	cron_db     text := cdp._cron_database();
	n           bigint;
BEGIN
	PERFORM cdp._job_as_owner();
	SELECT count(*) INTO n FROM cdp.job j WHERE j.enabled AND j.schedule IS NOT NULL;
	IF cdp._cron_schema() IS NOT NULL THEN
		CALL cdp._cron_apply(true);
		RAISE NOTICE '% jobs are scheduled with pg_cron as role %', n, owner
			USING HINT = 'View cdp.job_status shows what they do. After a change of cdp.job.schedule CALL cdp.schedule_jobs() again.';
		IF NOT (SELECT r.rolcanlogin FROM pg_roles r WHERE r.rolname = owner) THEN
			RAISE WARNING 'role % may not log in, so pg_cron cannot run its jobs', owner
				USING HINT = format('ALTER ROLE %I LOGIN;', owner);
		END IF;
	ELSIF cron_db = '?' THEN
		RAISE NOTICE 'pg_cron is loaded, but is not created in this database'
			USING DETAIL = (SELECT string_agg(s, E'\n') FROM cdp.cron_statements() s),
			      HINT = format('A superuser looks at SHOW cron.database_name. If it is %s, he runs CREATE EXTENSION pg_cron; and GRANT USAGE ON SCHEMA cron TO %I; then CALL cdp.schedule_jobs() again. Else he runs these statements there: psql -XAtc ''SELECT cdp.cron_statements()'' %1$s | psql THAT_DATABASE', current_database(), owner);
	ELSIF cron_db <> current_database() THEN
		RAISE NOTICE 'pg_cron works from database "%", which a session in this one cannot reach; run there as a superuser:', cron_db
			USING DETAIL = (SELECT string_agg(s, E'\n') FROM cdp.cron_statements() s),
			      HINT = format('For example: psql -XAtc ''SELECT cdp.cron_statements()'' %s | psql %s', current_database(), cron_db);
	ELSIF cron_db IS NOT NULL THEN
		RAISE NOTICE 'pg_cron is loaded and works from this database, but is not created in it'
			USING HINT = 'A superuser runs CREATE EXTENSION pg_cron; then CALL cdp.schedule_jobs() again.';
	ELSE
		RAISE NOTICE 'pg_cron is not loaded; any other scheduler can run the % jobs, for example cron with these lines:', n
			USING DETAIL = (SELECT coalesce(string_agg(l, E'\n'), 'no enabled job has a schedule') FROM cdp.crontab_lines() l),
			      HINT = 'SELECT cdp.crontab_lines() lists them again. Their user must be able to connect as ' || owner
			             || ', the owner of the tables, or have kind of access admin.';
	END IF;
	-- where scheduled runs are welcome, and whether pg_cron of this database has been told
	PERFORM cdp._as_owner('_set_meta', k, cdp._job_home()) FROM unnest(ARRAY['jobs_home', 'jobs_pg_cron']) k
		WHERE k = 'jobs_home' OR cdp._cron_schema() IS NOT NULL;
	PERFORM set_config('role', role_before, true);
END $$;
COMMENT ON PROCEDURE cdp.schedule_jobs() IS 'Registers the enabled jobs of cdp.job with pg_cron, named cdp:DATABASE:job, to run as the owner of the tables. Can be called again, and follows edited schedules. When pg_cron lives in another database, or nowhere, it prints what to do instead. From then on runs with scheduled => true work in this database of this cluster and in no restored copy. Run it as the owner of the tables or a superuser. Errors: 42501, and pg_cron''s own for a schedule that it does not understand.';

CREATE OR REPLACE PROCEDURE cdp.unschedule_jobs()
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	role_before text := current_setting('role');
	cron_db     text := cdp._cron_database();
BEGIN
	PERFORM cdp._job_as_owner();
	IF cdp._cron_schema() IS NOT NULL THEN
		-- an owner who was never given pg_cron and never scheduled has nothing in it
		IF has_schema_privilege(cdp._cron_schema(), 'USAGE')
			OR EXISTS (SELECT FROM cdp.meta m WHERE m.key = 'jobs_pg_cron' AND m.value = cdp._job_home()) THEN
			CALL cdp._cron_apply(false);
		END IF;
	ELSIF cron_db <> current_database() THEN
		RAISE NOTICE 'pg_cron works from another database; when jobs of this one are scheduled there, a superuser runs in it:'
			USING DETAIL = (SELECT string_agg(s || ';', E'\n') FROM cdp._cron_statements('cron', true, false) s);
	END IF;
	-- what another scheduler still calls with scheduled => true returns at once
	PERFORM cdp._as_owner('_set_meta', 'jobs_home', 'none');
	PERFORM set_config('role', role_before, true);
END $$;
COMMENT ON PROCEDURE cdp.unschedule_jobs() IS 'Takes the jobs of this database out of pg_cron (when pg_cron lives in another database it prints the statement to run there) and makes every call with scheduled => true return at once, whatever scheduler sends it. CALL cdp.schedule_jobs() takes it back. Errors: 42501.';

-- @access
('function', 'schedule_jobs', 'EXECUTE', '{admin}'),
('function', 'unschedule_jobs', 'EXECUTE', '{admin}'),
('function', 'cron_statements', 'EXECUTE', '{admin}'),
('function', 'crontab_lines', 'EXECUTE', '{admin}'),
('function', '_cron_schema', 'EXECUTE', '{admin}'),
('function', '_cron_database', 'EXECUTE', '{reader,application,admin}'),
('function', '_cron_name', 'EXECUTE', '{admin}'),
('function', '_cron_statements', 'EXECUTE', '{admin}'),
('function', '_cron_apply', 'EXECUTE', '{admin}'),
('function', '_job_as_owner', 'EXECUTE', '{admin}'),
