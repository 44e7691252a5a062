-- core: clock, version, migrate, rights, health.
-- C: src/core.c  Page: doc/core.md, doc/settings.md, doc/roles.md  Tests: test/sql/core.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.now() RETURNS timestamptz
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_now';
COMMENT ON FUNCTION cdp.now() IS 'The one clock of the extension: the setting cdp.now when it is set (simulation, tests, replays), else the start of the transaction. Never NULL.';

CREATE OR REPLACE FUNCTION cdp.version() RETURNS text
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_version';
COMMENT ON FUNCTION cdp.version() IS 'Version of the library that this session has loaded, for example 0.1.0. The version of the tables stands in cdp.meta, both in cdp.health().';

CREATE OR REPLACE FUNCTION cdp._require_version() RETURNS void
	LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_require_version';
COMMENT ON FUNCTION cdp._require_version() IS 'internal: 55000 with the hint CALL cdp.migrate() unless tables, extension and loaded library are of one version';

CREATE OR REPLACE FUNCTION cdp._rules_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_rules_changed';
COMMENT ON FUNCTION cdp._rules_changed() IS 'internal: trigger on a table of rules, makes every session read the rules again';

CREATE OR REPLACE FUNCTION cdp._local_to_utc(local timestamp) RETURNS timestamptz
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_local_to_utc';
COMMENT ON FUNCTION cdp._local_to_utc(timestamp) IS 'internal: the moment of a clock reading without zone, read in cdp.timezone whatever the session''s TimeZone is';

CREATE OR REPLACE FUNCTION cdp._begin_read_only() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_begin_read_only';
COMMENT ON FUNCTION cdp._begin_read_only() IS 'internal: from here to _end_read_only() nothing can write, whatever a query of the caller calls';

CREATE OR REPLACE FUNCTION cdp._end_read_only() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_end_read_only';
COMMENT ON FUNCTION cdp._end_read_only() IS 'internal: takes back what _begin_read_only() did in this transaction, nothing else';

CREATE OR REPLACE FUNCTION cdp._as_owner(routine text, VARIADIC args text[] DEFAULT '{}') RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_as_owner';
COMMENT ON FUNCTION cdp._as_owner(text, text[]) IS 'internal: runs _migrate, _grant_access, _revoke_access or _set_meta as the owner of the tables, so that nothing of his runs as a superuser who started it; 42501 unless the caller has his rights';

CREATE OR REPLACE FUNCTION cdp._scratch_table(name text, definition text) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_scratch_table';
COMMENT ON FUNCTION cdp._scratch_table(text, text) IS 'internal: makes a temporary table, for _ensure_table()';

CREATE OR REPLACE FUNCTION cdp._ensure_table(name text, definition text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- Create cdp.NAME, or add what it lacks of its definition: columns, defaults, constraints.  The wanted state is
-- read from a temporary table of the same name and definition, so constraint names agree.  Columns of types and
-- defaults with functions of the extension go away with DROP EXTENSION .. CASCADE: this brings them back.
DECLARE
	rel  regclass := to_regclass(format('cdp.%I', name));
	want regclass;
	d    record;
BEGIN
	IF rel IS NULL THEN
		EXECUTE format('CREATE TABLE cdp.%I %s', name, definition);
		RETURN;
	ELSIF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = rel AND c.relowner = current_user::regrole) THEN
		-- a planted table could have a trigger that waits for a superuser
		RAISE EXCEPTION 'relation % does not belong to role %', rel, current_user
			USING ERRCODE = 'insufficient_privilege', HINT = format('Drop it, or ALTER TABLE %s OWNER TO %I.', rel, current_user);
	END IF;
	IF to_regclass(format('pg_temp.%I', name)) IS NOT NULL THEN
		RAISE EXCEPTION 'this session has a temporary table "%"', name USING ERRCODE = 'duplicate_table',
			HINT = 'Drop it, or connect anew: cdp.migrate() compares with temporary tables of these names.';
	END IF;
	PERFORM cdp._scratch_table(name, definition);
	want := format('pg_temp.%I', name)::regclass;
	FOR d IN
		SELECT w.attname, format_type(w.atttypid, w.atttypmod) || coalesce((SELECT format(' COLLATE %I.%I', cn.nspname, co.collname)
				FROM pg_collation co JOIN pg_namespace cn ON cn.oid = co.collnamespace, pg_type ty
				WHERE co.oid = w.attcollation AND ty.oid = w.atttypid AND ty.typcollation <> w.attcollation), '') AS type,
		       w.attnotnull, w.attgenerated,
		       pg_get_expr(wd.adbin, wd.adrelid) AS expr, h.attname IS NULL AS is_new
		FROM pg_attribute w
		LEFT JOIN pg_attrdef wd ON (wd.adrelid, wd.adnum) = (w.attrelid, w.attnum)
		LEFT JOIN pg_attribute h ON h.attrelid = rel AND h.attname = w.attname AND NOT h.attisdropped
		WHERE w.attrelid = want AND w.attnum > 0 AND w.attidentity = ''
		  AND (h.attname IS NULL OR (wd.adbin IS NOT NULL AND NOT h.atthasdef))
		ORDER BY w.attnum
	LOOP
		IF d.is_new THEN
			EXECUTE format('ALTER TABLE cdp.%I ADD COLUMN %I %s%s%s', name, d.attname, d.type,
				CASE WHEN d.expr IS NULL THEN ''
				     WHEN d.attgenerated = 's' THEN format(' GENERATED ALWAYS AS (%s) STORED', d.expr)
				     ELSE format(' DEFAULT %s', d.expr) END,
				CASE WHEN d.attnotnull THEN ' NOT NULL' ELSE '' END);
		ELSE
			EXECUTE format('ALTER TABLE cdp.%I ALTER COLUMN %I SET DEFAULT %s', name, d.attname, d.expr);
		END IF;
	END LOOP;
	FOR d IN
		SELECT c.conname, pg_get_constraintdef(c.oid) AS def FROM pg_constraint c
		WHERE c.conrelid = want AND c.contype IN ('c', 'p', 'u', 'x')
		  AND NOT EXISTS (SELECT FROM pg_constraint h WHERE h.conrelid = rel AND h.conname = c.conname)
		ORDER BY c.contype DESC, c.conname
	LOOP
		EXECUTE format('ALTER TABLE cdp.%I ADD CONSTRAINT %I %s', name, d.conname, d.def);
	END LOOP;
	EXECUTE format('DROP TABLE %s', want);
END $$;
COMMENT ON FUNCTION cdp._ensure_table(text, text) IS 'internal: creates a table of schema cdp, or adds the columns, defaults and constraints it lacks';

CREATE OR REPLACE FUNCTION cdp._lock_relation(relation regclass) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_lock_relation';
COMMENT ON FUNCTION cdp._lock_relation(regclass) IS 'internal: ACCESS EXCLUSIVE on a relation of the caller''s; LOCK TABLE would lock what a view reads too, catalogs included, and want rights for it';

CREATE OR REPLACE FUNCTION cdp._lock_tables() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- Nobody shall see more of a migration than waiting, above all no deadlock.  First the gate: every verb holds cdp.meta
-- to the end of its transaction, so with ACCESS EXCLUSIVE on it no verb is under way.  Then all tables and views or
-- none: readers without a verb may hold one and want another, so what is not had in less than deadlock_timeout is
-- given back, gate included, and tried again.
DECLARE
	rel   regclass;
	mine  text := current_setting('lock_timeout');
	most  interval := current_setting('deadlock_timeout')::interval / 2;
	until timestamptz;
	pause float8 := 0.05;
BEGIN
	LOOP
		until := NULL;
		BEGIN
			LOCK TABLE cdp.meta IN ACCESS EXCLUSIVE MODE;
			until := clock_timestamp() + most;
			FOR rel IN SELECT c.oid FROM pg_class c
				WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
				  AND c.relowner = current_user::regrole
				ORDER BY c.relkind = 'v', c.oid
			LOOP
				PERFORM set_config('lock_timeout', greatest(1, ceil(extract(epoch FROM until - clock_timestamp()) * 1000))::text, true);
				PERFORM cdp._lock_relation(rel);
			END LOOP;
			PERFORM set_config('lock_timeout', mine, true);
			RETURN;
		EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
			-- at the gate it is the caller's own lock_timeout
			IF until IS NULL THEN
				RAISE;
			END IF;
		END;
		PERFORM pg_sleep(pause);
		pause := least(pause * 1.5, 1);
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._lock_tables() IS 'internal: locks all tables and views for a migration, without a deadlock for those who use them';

CREATE OR REPLACE FUNCTION cdp._migrate_begin() RETURNS text
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- One migration at a time; answers the version of the tables, NULL for none.  The caller is their owner, see
-- cdp._as_owner().
DECLARE
	meta regclass;
	at   text;
BEGIN
	PERFORM pg_advisory_xact_lock(hashtextextended('cdp.migrate', 0));
	meta := to_regclass('cdp.meta');
	IF meta IS NULL THEN
		IF NOT has_schema_privilege('cdp', 'CREATE') THEN
			RAISE EXCEPTION 'role % may not create tables in schema cdp', current_user
				USING ERRCODE = 'insufficient_privilege',
				      HINT = 'Run CALL cdp.migrate() as the owner of the database.';
		ELSIF EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = 'cdp'::regnamespace AND p.proowner <> current_user::regrole
				AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'))
			OR EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = 'cdp'::regnamespace AND c.relowner <> current_user::regrole
				AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')) THEN
			RAISE EXCEPTION 'schema cdp holds tables or functions of other roles than %', current_user
				USING ERRCODE = 'insufficient_privilege',
				      HINT = 'Run CALL cdp.migrate() as their owner, or drop them.';
		END IF;
		RETURN NULL;
	END IF;
	PERFORM cdp._lock_tables();
	EXECUTE 'SELECT value FROM cdp.meta WHERE key = $1' INTO at USING 'version';
	RETURN at;
END $$;
COMMENT ON FUNCTION cdp._migrate_begin() IS 'internal: first step of cdp.migrate()';

CREATE OR REPLACE FUNCTION cdp._migrate_end(version text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- Close what migrate() made to PUBLIC, give the known roles their rights again, note the version.
DECLARE
	f regprocedure;
	g record;
BEGIN
	FOR f IN SELECT p.oid::regprocedure FROM pg_proc p
		WHERE p.pronamespace = 'cdp'::regnamespace AND p.proowner = current_user::regrole
		  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
		  AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0))
	LOOP
		EXECUTE format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', f);
	END LOOP;
	FOR g IN SELECT a.kind, a.role_name FROM cdp.access_grant a
		WHERE EXISTS (SELECT FROM pg_roles r WHERE r.rolname = a.role_name)
	LOOP
		PERFORM cdp._apply_access(g.kind, g.role_name, true);
	END LOOP;
	INSERT INTO cdp.meta (key, value) VALUES ('version', version)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE meta.value <> excluded.value;
END $$;
COMMENT ON FUNCTION cdp._migrate_end(text) IS 'internal: last step of cdp.migrate()';

CREATE OR REPLACE PROCEDURE cdp.drop_data(confirm text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- Everything in schema cdp that is not a member of the extension.  CASCADE is needed inside (views, defaults, bodies of
-- functions refer to each other), so whatever outside would go with it is looked for first.
DECLARE
	role_before text := current_setting('role');
	messages    text := current_setting('client_min_messages');
	owner       name := (SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = to_regclass('cdp.meta'));
	outside     text;
	o           record;
BEGIN
	IF confirm IS DISTINCT FROM current_database() THEN
		RAISE EXCEPTION 'drop_data() was not confirmed' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Its argument is the name of the database whose customer data shall be gone for ever.';
	ELSIF owner IS NULL THEN
		RETURN;
	ELSIF NOT pg_has_role(owner, 'MEMBER') THEN
		RAISE EXCEPTION 'the tables of schema cdp belong to role %', owner USING ERRCODE = 'insufficient_privilege',
			HINT = 'Run this as that role, as a member of it or as a superuser.';
	END IF;
	PERFORM pg_advisory_xact_lock(hashtextextended('cdp.migrate', 0));
	CALL cdp.unschedule_jobs();
	-- as the caller: the triggers are on tables that may belong to others, who would otherwise be left with triggers
	-- that lead nowhere
	IF to_regclass('cdp.source') IS NOT NULL THEN
		FOR o IN EXECUTE 'SELECT format(''%I.%I'', s.schema_name, s.table_name) AS name FROM cdp.source s ORDER BY 1' LOOP
			EXECUTE 'SELECT cdp.detach_source($1::text)' USING o.name;
		END LOOP;
	END IF;
	-- from here on, no notice per object that CASCADE takes
	PERFORM set_config('client_min_messages', 'warning', true);
	IF current_user <> owner THEN
		PERFORM set_config('role', owner, true);
	END IF;
	CREATE TEMP TABLE cdp_drop_data ON COMMIT DROP AS
		SELECT d.classid, d.objid, d.kind, d.identity FROM (
			SELECT 'pg_class'::regclass AS classid, c.oid AS objid, CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
				WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, c.oid::regclass::text AS identity
			FROM pg_class c WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
			UNION ALL
			SELECT 'pg_proc'::regclass, p.oid, 'ROUTINE', p.oid::regprocedure::text
			FROM pg_proc p WHERE p.pronamespace = 'cdp'::regnamespace) d
		WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE (e.classid, e.objid) = (d.classid, d.objid) AND e.deptype = 'e');
	SELECT string_agg(DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid), E'\n' ORDER BY pg_describe_object(d.classid, d.objid, d.objsubid))
	INTO outside
	FROM pg_depend d, LATERAL pg_identify_object_as_address(d.classid, d.objid, d.objsubid) a
	WHERE d.deptype IN ('n', 'a') AND a.object_names[1] <> 'cdp' AND a.object_names[1] NOT LIKE 'cdp.%'
	  AND (EXISTS (SELECT FROM cdp_drop_data x WHERE (x.classid, x.objid) = (d.refclassid, d.refobjid))
	       OR d.refclassid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type t JOIN cdp_drop_data x
	              ON x.classid = 'pg_class'::regclass AND x.objid = t.typrelid WHERE t.oid = d.refobjid));
	IF outside IS NOT NULL THEN
		RAISE EXCEPTION 'objects outside of schema cdp are made from what is in it' USING ERRCODE = 'dependent_objects_still_exist',
			DETAIL = outside, HINT = 'Drop them first; nothing has been changed.';
	END IF;
	-- what grant_access() gave on members of the extension
	FOR o IN SELECT g.kind, g.role_name FROM cdp.access_grant g WHERE EXISTS (SELECT FROM pg_roles r WHERE r.rolname = g.role_name) LOOP
		PERFORM cdp._apply_access(o.kind, o.role_name, false);
	END LOOP;
	FOR o IN SELECT x.kind, x.identity, x.classid, x.objid FROM cdp_drop_data x ORDER BY x.kind = 'SEQUENCE', x.kind, x.identity LOOP
		-- a partition, or what an earlier CASCADE took, is gone already
		CONTINUE WHEN o.classid = 'pg_class'::regclass AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = o.objid)
			OR o.classid = 'pg_proc'::regclass AND NOT EXISTS (SELECT FROM pg_proc p WHERE p.oid = o.objid);
		EXECUTE format('DROP %s %s CASCADE', o.kind, o.identity);
	END LOOP;
	DROP TABLE cdp_drop_data;
	PERFORM set_config('role', role_before, true);
	PERFORM set_config('client_min_messages', messages, true);
END $$;
COMMENT ON PROCEDURE cdp.drop_data(text) IS 'Drops all customer data for ever: unschedules the jobs, detaches the sources, takes back what grant_access() gave, drops every table, view and function that migrate() made; the code stays, CALL cdp.migrate() starts empty. confirm: the name of the database. One transaction, so ROLLBACK brings everything back until COMMIT. Only for the owner of the tables, members of that role and superusers. Errors: 22023 not confirmed, 42501 (also when a source belongs to a role you may not act as), 2BP01 when objects outside of schema cdp (views, functions, columns) depend on it.';

CREATE OR REPLACE FUNCTION cdp._member_rights() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- Last statement of every install and update script: PUBLIC may use pure functions only, the owner of the
-- database may use everything and hand it on.
DECLARE
	f record;
BEGIN
	GRANT USAGE ON SCHEMA cdp TO PUBLIC;
	GRANT USAGE, CREATE ON SCHEMA cdp TO pg_database_owner WITH GRANT OPTION;
	FOR f IN SELECT p.oid::regprocedure AS sig,
			EXISTS (SELECT FROM cdp._access_rules() r
			        WHERE r.object_type = 'function' AND r.object = p.proname AND 'public' = ANY (r.kinds)) AS is_public
		FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid AND e.extname = 'customer_cdp'
	LOOP
		EXECUTE format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', f.sig);
		EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO pg_database_owner WITH GRANT OPTION', f.sig);
		IF f.is_public THEN
			EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO PUBLIC', f.sig);
		END IF;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._member_rights() IS 'internal: rights of the members at birth';

CREATE OR REPLACE FUNCTION cdp._apply_access(kind text, role_name name, give boolean) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- reader is part of operator; admin has everything that any kind has.  The caller is the owner of the tables, who has
-- every right himself: taken back from him, nothing would work any more.
DECLARE
	r   record;
	obj text;
BEGIN
	IF role_name = current_user THEN
		RETURN;
	END IF;
	FOR r IN SELECT object_type, object, privileges FROM cdp._access_rules()
		WHERE kinds && CASE kind WHEN 'operator' THEN '{reader,operator}'::text[]
		                         WHEN 'admin' THEN '{reader,application,operator,admin}'
		                         ELSE ARRAY[kind] END
	LOOP
		FOR obj IN
			SELECT 'ROUTINE ' || p.oid::regprocedure FROM pg_proc p
			WHERE r.object_type = 'function' AND p.pronamespace = 'cdp'::regnamespace AND p.proname = r.object
			UNION ALL
			SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || c.oid::regclass FROM pg_class c
			WHERE r.object_type IN ('table', 'sequence') AND c.relnamespace = 'cdp'::regnamespace AND c.relname = r.object
		LOOP
			EXECUTE format(CASE WHEN give THEN 'GRANT %s ON %s TO %I' ELSE 'REVOKE %s ON %s FROM %I' END,
				r.privileges, obj, role_name);
		END LOOP;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._apply_access(text, name, boolean) IS 'internal: grants or revokes everything of one kind';

CREATE OR REPLACE FUNCTION cdp.grant_access(kind text, role_name name) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._require_version();
	PERFORM cdp._check_access(kind, role_name);
	PERFORM cdp._as_owner('_grant_access', kind, role_name::text);
	IF kind = 'admin' THEN
		PERFORM cdp._grant_clock(role_name, true);
	END IF;
END $$;
COMMENT ON FUNCTION cdp.grant_access(text, name) IS 'Gives a role what one kind of user needs. kind: reader (reading verbs and views, no identifier values), application (identify, track, orders), operator (reader, rules, segments, merges), admin (all); doc/roles.md lists them verb by verb. The grant is remembered, so that CALL cdp.migrate() extends it to new verbs. Run it as the owner of the tables. Errors: 22023 unknown kind, 42704 unknown role, 22004 NULL, 42501.';

CREATE OR REPLACE FUNCTION cdp.revoke_access(kind text, role_name name) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._require_version();
	PERFORM cdp._check_access(kind, role_name);
	PERFORM cdp._as_owner('_revoke_access', kind, role_name::text);
	IF kind = 'admin' THEN
		PERFORM cdp._grant_clock(role_name, false);
	END IF;
END $$;
COMMENT ON FUNCTION cdp.revoke_access(text, name) IS 'Takes back what grant_access(kind, role) gave, except what another kind of the same role still gives. Errors: 22023 unknown kind, 42704 unknown role, 22004 NULL, 42501.';

CREATE OR REPLACE FUNCTION cdp._grant_access(kind text, role_name text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._apply_access(kind, role_name::name, true);
	INSERT INTO cdp.access_grant (kind, role_name) VALUES (kind, role_name) ON CONFLICT DO NOTHING;
END $$;
COMMENT ON FUNCTION cdp._grant_access(text, text) IS 'internal: grant_access() as the owner of the tables';

CREATE OR REPLACE FUNCTION cdp._revoke_access(kind text, role_name text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	other text;
BEGIN
	PERFORM cdp._apply_access(kind, role_name::name, false);
	DELETE FROM cdp.access_grant g WHERE g.kind = _revoke_access.kind AND g.role_name = _revoke_access.role_name::name;
	-- what another kind of the same role gives must stay
	FOR other IN SELECT g.kind FROM cdp.access_grant g WHERE g.role_name = _revoke_access.role_name::name LOOP
		PERFORM cdp._apply_access(other, role_name::name, true);
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._revoke_access(text, text) IS 'internal: revoke_access() as the owner of the tables';

CREATE OR REPLACE FUNCTION cdp._set_meta(key text, value text) RETURNS void
	LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO cdp.meta AS m (key, value) VALUES (_set_meta.key, _set_meta.value)
		ON CONFLICT ON CONSTRAINT meta_pkey DO UPDATE SET value = excluded.value WHERE m.value <> excluded.value;
END $$;
COMMENT ON FUNCTION cdp._set_meta(text, text) IS 'internal: notes a fact about the installation, as the owner of the tables';

CREATE OR REPLACE FUNCTION cdp._check_access(kind text, role_name name) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF kind IS NULL OR role_name IS NULL THEN
		RAISE EXCEPTION 'kind and role must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'For example SELECT cdp.grant_access(''reader'', ''analyst'').';
	ELSIF kind NOT IN ('reader', 'application', 'operator', 'admin') THEN
		RAISE EXCEPTION 'there is no kind of access "%"', kind USING ERRCODE = 'invalid_parameter_value',
			HINT = 'The kinds are reader, application, operator and admin.';
	ELSIF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role_name) THEN
		RAISE EXCEPTION 'role "%" does not exist', role_name USING ERRCODE = 'undefined_object',
			HINT = 'CREATE ROLE it first: roles belong to the whole cluster, so this extension makes none.';
	END IF;
END $$;
COMMENT ON FUNCTION cdp._check_access(text, name) IS 'internal: refuses unknown kinds and roles';

CREATE OR REPLACE FUNCTION cdp._grant_clock(role_name name, give boolean) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- cdp.now is a setting of superusers; the right to set it can be handed on by those who hold it
DECLARE
	stmt text := format(CASE WHEN give THEN 'GRANT SET ON PARAMETER "cdp.now" TO %I'
	                         ELSE 'REVOKE SET ON PARAMETER "cdp.now" FROM %I' END, role_name);
BEGIN
	IF has_parameter_privilege('cdp.now', 'SET WITH GRANT OPTION') THEN
		EXECUTE stmt;
	ELSE
		RAISE NOTICE 'the clock cdp.now is set by superusers; to let them share it, one of them runs: %;', stmt;
	END IF;
END $$;
COMMENT ON FUNCTION cdp._grant_clock(name, boolean) IS 'internal: the right to set cdp.now, or the statement a superuser has to run';

CREATE OR REPLACE FUNCTION cdp.health() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_health_rows';
COMMENT ON FUNCTION cdp.health() IS 'One row per check: check_name, ok (false: look at it), detail in words. It reads stored results only and runs no verification itself, so it is cheap enough for a monitor. Works before the first migrate().';

CREATE OR REPLACE FUNCTION cdp._health_core() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	tables text;
	code   text := (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'customer_cdp');
BEGIN
	IF to_regclass('cdp.meta') IS NOT NULL THEN
		EXECUTE 'SELECT value FROM cdp.meta WHERE key = $1' INTO tables USING 'version';
	END IF;
	RETURN QUERY VALUES
		('server_version', current_setting('server_version_num')::int BETWEEN 150000 AND 189999,
			format('PostgreSQL %s; 15 to 18 are supported', current_setting('server_version'))),
		('library_version', cdp.version() = code,
			format('library %s, extension %s%s', cdp.version(), code,
				CASE WHEN cdp.version() = code THEN '' ELSE '; connect anew' END)),
		('table_version', tables IS NOT NULL AND tables = code,
			CASE WHEN tables IS NULL THEN 'no tables; CALL cdp.migrate()'
			     WHEN tables = code THEN format('tables %s', tables)
			     ELSE format('tables %s, code %s; CALL cdp.migrate()', tables, code) END),
		('preload', true,
			-- only privileged roles may read the setting
			CASE WHEN NOT pg_has_role('pg_read_all_settings', 'USAGE') THEN 'only members of pg_read_all_settings can tell'
			     WHEN current_setting('shared_preload_libraries') ~ '\mcustomer_cdp\M'
			     THEN 'in shared_preload_libraries' ELSE 'not preloaded; everything of this version works without' END),
		('pg_cron', true, coalesce(
			(SELECT format('pg_cron %s in this database', e.extversion) FROM pg_extension e WHERE e.extname = 'pg_cron'),
			CASE cdp._cron_database() WHEN '?' THEN 'pg_cron in another database'
			     ELSE 'pg_cron in database ' || cdp._cron_database() END,
			'absent; any scheduler can CALL cdp.run_job()')),
		('postgis', true, coalesce(
			(SELECT format('PostGIS %s', e.extversion) FROM pg_extension e WHERE e.extname = 'postgis'),
			'absent; only customer_cdp_geo needs it'));
END $$;
COMMENT ON FUNCTION cdp._health_core() IS 'internal: rows of core in cdp.health()';

-- @access
('function', 'migrate', 'EXECUTE', '{owner}'),
('function', 'load_demo', 'EXECUTE', '{owner}'),
('function', 'grant_access', 'EXECUTE', '{owner}'),
('function', 'revoke_access', 'EXECUTE', '{owner}'),
('function', 'now', 'EXECUTE', '{public}'),
('function', 'version', 'EXECUTE', '{public}'),
('function', '_require_version', 'EXECUTE', '{public}'),
('function', '_begin_read_only', 'EXECUTE', '{reader}'),
('function', '_end_read_only', 'EXECUTE', '{reader}'),
('function', 'health', 'EXECUTE', '{reader,application}'),
('function', '_health_core', 'EXECUTE', '{reader,application}'),
('function', 'drop_data', 'EXECUTE', '{owner}'),
('table', 'meta', 'SELECT', '{reader,application}'),

-- @data
PERFORM cdp._ensure_table('meta', $t$ (
	key   text PRIMARY KEY,
	value text NOT NULL
) $t$);
COMMENT ON TABLE cdp.meta IS 'Facts about the installation; version = version of the tables.';
COMMENT ON COLUMN cdp.meta.key IS 'name of the fact';
COMMENT ON COLUMN cdp.meta.value IS 'its value';

PERFORM cdp._ensure_table('access_grant', $t$ (
	grant_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	kind      text NOT NULL,
	role_name name NOT NULL,
	UNIQUE (kind, role_name)
) $t$);
COMMENT ON TABLE cdp.access_grant IS 'What grant_access() gave to whom; migrate() gives it again for new verbs.';
