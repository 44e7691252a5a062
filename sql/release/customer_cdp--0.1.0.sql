\echo Load this file with CREATE/ALTER EXTENSION customer_cdp. \quit
SET LOCAL search_path TO pg_catalog, pg_temp;
-- Nobody but the installer, a superuser or the owner of the database may own schema cdp or create in it:
-- whoever can plant an object there could run code as the superuser who installs.
-- A restore puts the schema back under the role that owned it before, who need not own the new database.  That is
-- fine while the schema is empty: what a dump says of its owner is the word of the superuser who restores it, and
-- row_security = off, which pg_dump writes at the head of every dump, is a setting of his own session.
DO $guard$
BEGIN
	PERFORM FROM pg_namespace n, pg_database d, LATERAL (
		SELECT n.nspowner AS who, true AS is_owner
		UNION ALL
		SELECT a.grantee, false FROM aclexplode(n.nspacl) a WHERE a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner
	) w
	WHERE n.nspname = 'cdp' AND d.datname = current_database()
	  AND w.who NOT IN (current_user::regrole, d.datdba, 'pg_database_owner'::regrole)
	  AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = w.who AND r.rolsuper)
	  AND NOT (w.is_owner AND NOT current_setting('row_security')::bool
		AND NOT EXISTS (SELECT FROM pg_depend o WHERE o.refclassid = 'pg_namespace'::regclass
			AND o.refobjid = n.oid AND o.classid <> 'pg_extension'::regclass));
	IF FOUND THEN
		RAISE EXCEPTION 'schema "cdp" is owned by, or open for CREATE to, a role that is neither a superuser nor the owner of this database'
			USING ERRCODE = 'insufficient_privilege',
			      HINT = 'ALTER SCHEMA cdp OWNER TO the owner of the database and revoke CREATE from others, then run CREATE EXTENSION again.';
	END IF;
END $guard$;
CREATE TYPE cdp.rfm AS (recency interval, frequency bigint, monetary numeric);
COMMENT ON TYPE cdp.rfm IS 'One customer in three numbers: recency = as_of minus last purchase, frequency = number of purchases, monetary = money spent less refunds.';
COMMENT ON COLUMN cdp.rfm.recency IS 'as_of minus the time of the last purchase';
COMMENT ON COLUMN cdp.rfm.frequency IS 'number of purchases; refunds are no purchases';
COMMENT ON COLUMN cdp.rfm.monetary IS 'sum of purchases less refunds, exact';

CREATE TYPE cdp._rfm_detail AS (first_at timestamptz, last_at timestamptz, frequency bigint, gross numeric, refunded numeric, net numeric);
COMMENT ON TYPE cdp._rfm_detail IS 'internal: what cdp.rfm_table needs of one customer';

CREATE TYPE cdp._rfm_options AS (as_of timestamptz, method text, bins int, r_cuts interval[], f_cuts numeric[], m_cuts numeric[],
	high text, r_high interval, f_high numeric, m_high numeric, monetary text, refunds text, currency text, lang text);
COMMENT ON TYPE cdp._rfm_options IS 'internal: the arguments of cdp.rfm_table but the source';

CREATE TYPE cdp.rfm_state;
CREATE FUNCTION cdp._rfm_state_in(cstring) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_state_in';
CREATE FUNCTION cdp._rfm_state_out(cdp.rfm_state) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_state_out';
CREATE FUNCTION cdp._rfm_state_recv(internal) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_state_recv';
CREATE FUNCTION cdp._rfm_state_send(cdp.rfm_state) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_state_send';
CREATE TYPE cdp.rfm_state (INPUT = cdp._rfm_state_in, OUTPUT = cdp._rfm_state_out,
	RECEIVE = cdp._rfm_state_recv, SEND = cdp._rfm_state_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = extended);
COMMENT ON TYPE cdp.rfm_state IS 'State of the aggregate cdp.rfm, written (as_of,first_at,last_at,purchases,gross,refunded) with times in microseconds since 2000-01-01 UTC; () is the state before the first row. Partial results of it combine exactly.';
COMMENT ON FUNCTION cdp._rfm_state_in(cstring) IS 'internal: text form of cdp.rfm_state; 22P02 when it is not a sound state';
COMMENT ON FUNCTION cdp._rfm_state_out(cdp.rfm_state) IS 'internal: text form of cdp.rfm_state';
COMMENT ON FUNCTION cdp._rfm_state_recv(internal) IS 'internal: binary form of cdp.rfm_state; 22P03 when it is not a sound state';
COMMENT ON FUNCTION cdp._rfm_state_send(cdp.rfm_state) IS 'internal: binary form of cdp.rfm_state';

CREATE FUNCTION cdp.now() RETURNS timestamptz
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_now';
COMMENT ON FUNCTION cdp.now() IS 'The one clock of the extension: the setting cdp.now when it is set (simulation, tests, replays), else the start of the transaction. Never NULL.';

CREATE FUNCTION cdp.version() RETURNS text
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_version';
COMMENT ON FUNCTION cdp.version() IS 'Version of the library that this session has loaded, for example 0.1.0. The version of the tables stands in cdp.meta, both in cdp.health().';

CREATE FUNCTION cdp._require_version() RETURNS void
	LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_require_version';
COMMENT ON FUNCTION cdp._require_version() IS 'internal: 55000 with the hint CALL cdp.migrate() unless tables, extension and loaded library are of one version';

CREATE FUNCTION cdp._rules_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_rules_changed';
COMMENT ON FUNCTION cdp._rules_changed() IS 'internal: trigger on a table of rules, makes every session read the rules again';

CREATE FUNCTION cdp._local_to_utc(local timestamp) RETURNS timestamptz
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_local_to_utc';
COMMENT ON FUNCTION cdp._local_to_utc(timestamp) IS 'internal: the moment of a clock reading without zone, read in cdp.timezone whatever the session''s TimeZone is';

CREATE FUNCTION cdp._begin_read_only() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_begin_read_only';
COMMENT ON FUNCTION cdp._begin_read_only() IS 'internal: from here to _end_read_only() nothing can write, whatever a query of the caller calls';

CREATE FUNCTION cdp._end_read_only() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_end_read_only';
COMMENT ON FUNCTION cdp._end_read_only() IS 'internal: takes back what _begin_read_only() did in this transaction, nothing else';

CREATE FUNCTION cdp._as_owner(routine text, VARIADIC args text[] DEFAULT '{}') RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_as_owner';
COMMENT ON FUNCTION cdp._as_owner(text, text[]) IS 'internal: runs _migrate, _grant_access, _revoke_access or _set_meta as the owner of the tables, so that nothing of his runs as a superuser who started it; 42501 unless the caller has his rights';

CREATE FUNCTION cdp._scratch_table(name text, definition text) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_scratch_table';
COMMENT ON FUNCTION cdp._scratch_table(text, text) IS 'internal: makes a temporary table, for _ensure_table()';

CREATE FUNCTION cdp._ensure_table(name text, definition text) RETURNS void
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

CREATE FUNCTION cdp._lock_relation(relation regclass) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_lock_relation';
COMMENT ON FUNCTION cdp._lock_relation(regclass) IS 'internal: ACCESS EXCLUSIVE on a relation of the caller''s; LOCK TABLE would lock what a view reads too, catalogs included, and want rights for it';

CREATE FUNCTION cdp._lock_tables() RETURNS void
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

CREATE FUNCTION cdp._migrate_begin() RETURNS text
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

CREATE FUNCTION cdp._migrate_end(version text) RETURNS void
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

CREATE PROCEDURE cdp.drop_data(confirm text)
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

CREATE FUNCTION cdp._member_rights() RETURNS void
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

CREATE FUNCTION cdp._apply_access(kind text, role_name name, give boolean) RETURNS void
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

CREATE FUNCTION cdp.grant_access(kind text, role_name name) RETURNS void
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

CREATE FUNCTION cdp.revoke_access(kind text, role_name name) RETURNS void
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

CREATE FUNCTION cdp._grant_access(kind text, role_name text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._apply_access(kind, role_name::name, true);
	INSERT INTO cdp.access_grant (kind, role_name) VALUES (kind, role_name) ON CONFLICT DO NOTHING;
END $$;
COMMENT ON FUNCTION cdp._grant_access(text, text) IS 'internal: grant_access() as the owner of the tables';

CREATE FUNCTION cdp._revoke_access(kind text, role_name text) RETURNS void
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

CREATE FUNCTION cdp._set_meta(key text, value text) RETURNS void
	LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO cdp.meta AS m (key, value) VALUES (_set_meta.key, _set_meta.value)
		ON CONFLICT ON CONSTRAINT meta_pkey DO UPDATE SET value = excluded.value WHERE m.value <> excluded.value;
END $$;
COMMENT ON FUNCTION cdp._set_meta(text, text) IS 'internal: notes a fact about the installation, as the owner of the tables';

CREATE FUNCTION cdp._check_access(kind text, role_name name) RETURNS void
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

CREATE FUNCTION cdp._grant_clock(role_name name, give boolean) RETURNS void
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

CREATE FUNCTION cdp.health() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_health_rows';
COMMENT ON FUNCTION cdp.health() IS 'One row per check: check_name, ok (false: look at it), detail in words. It reads stored results only and runs no verification itself, so it is cheap enough for a monitor. Works before the first migrate().';

CREATE FUNCTION cdp._health_core() RETURNS TABLE (check_name text, ok boolean, detail text)
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

CREATE FUNCTION cdp._job_session(OUT pid int, OUT backend_start timestamptz, OUT statement_start timestamptz)
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_job_session';
COMMENT ON FUNCTION cdp._job_session() IS 'internal: what identifies the statement that this session executes';

CREATE FUNCTION cdp._session_alive(pid int, backend_start timestamptz, statement_start timestamptz) RETURNS boolean
	LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_session_alive';
COMMENT ON FUNCTION cdp._session_alive(int, timestamptz, timestamptz) IS 'internal: is that statement of that session still being executed';

CREATE FUNCTION cdp._job_key(job text) RETURNS bigint
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT hashtextextended('cdp.job:' || job, 0);
END;
COMMENT ON FUNCTION cdp._job_key(text) IS 'internal: key of the advisory lock that a batch of this job holds';

CREATE FUNCTION cdp._job_home() RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT c.system_identifier || '/' || d.oid FROM pg_control_system() c, pg_database d WHERE d.datname = current_database();
END;
COMMENT ON FUNCTION cdp._job_home() IS 'internal: this database of this cluster; another one after a dump was restored elsewhere';

CREATE FUNCTION cdp._job_owner() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	NEW.owner := current_user;
	RETURN NEW;
END $$;
COMMENT ON FUNCTION cdp._job_owner() IS 'internal: trigger on cdp.job, notes who wrote the command';

CREATE PROCEDURE cdp.run_job(job text, scheduled boolean DEFAULT false)
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_run_job';
COMMENT ON PROCEDURE cdp.run_job(text, boolean) IS 'Runs a job of cdp.job now and waits for it; any scheduler may call it. The run and its failure stay in cdp.job_run; an error of the job is raised again. scheduled => true is for schedulers: it returns quietly when the job is disabled, still running, or was scheduled in another cluster or database than this one (a restored copy). Errors: 42704 no such job, 22004 NULL, 55006 it is running, 42501 its command was written by another role, 25001 inside a transaction block or another procedure.';

CREATE FUNCTION cdp._health_jobs() RETURNS TABLE (check_name text, ok boolean, detail text)
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

CREATE FUNCTION cdp._cron_schema() RETURNS name
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

CREATE FUNCTION cdp._cron_database() RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN current_setting('cron.database_name', true);
EXCEPTION WHEN insufficient_privilege THEN
	RETURN '?';
END $$;
COMMENT ON FUNCTION cdp._cron_database() IS 'internal: the database that pg_cron works from, ? when only a superuser may know, NULL when it is not loaded';

CREATE FUNCTION cdp._cron_name(job text) RETURNS text
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

CREATE FUNCTION cdp._cron_statements(cron name, in_database boolean, take boolean) RETURNS SETOF text
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

CREATE FUNCTION cdp.cron_statements() RETURNS SETOF text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._require_version();
	RETURN QUERY SELECT s || ';' FROM cdp._cron_statements('cron', true, true) s;
END $$;
COMMENT ON FUNCTION cdp.cron_statements() IS 'The SQL statements that schedule the enabled jobs of this database when pg_cron lives in another one; a superuser runs them there: psql -XAtc ''SELECT cdp.cron_statements()'' shop | psql postgres. They can be run again and follow edited schedules. Never NULL.';

CREATE FUNCTION cdp.crontab_lines() RETURNS SETOF text
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

CREATE FUNCTION cdp._job_as_owner() RETURNS void
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

CREATE PROCEDURE cdp._cron_apply(take boolean)
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

CREATE PROCEDURE cdp.schedule_jobs()
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

CREATE PROCEDURE cdp.unschedule_jobs()
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

CREATE FUNCTION cdp.normalize_phone(phone text, country_code text DEFAULT '86') RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_normalize_phone';
COMMENT ON FUNCTION cdp.normalize_phone(text, text) IS 'A telephone number as E.164, for example +8613800138000. phone: as people type it (full-width, blanks, - . ( ), + or 00, 86 without plus, trunk 0). country_code: whose number it is when it has no international prefix, 1 to 3 digits. NULL gives NULL. 22023, without the number in the message: letters, extensions, 400/800 and other service numbers, a mainland number that is neither mobile nor landline with area code, fewer than 7 or more than 15 digits, a country code that does not exist.';

CREATE FUNCTION cdp.normalize_email(email text, policy text DEFAULT 'keep') RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_normalize_email';
COMMENT ON FUNCTION cdp.normalize_email(text, text) IS 'An e-mail address trimmed, half-width and in lower case. policy: keep, strip_tag (cut +... from the local part), gmail (strip_tag everywhere; at gmail.com and googlemail.com also drop dots and write gmail.com). NULL gives NULL. 22023, without the address in the message: no dot in the domain, no @ or two, inner space, empty part, a label that begins or ends with a hyphen, signs that a bare address does not have, over 254 bytes, unknown policy.';

CREATE FUNCTION cdp.normalize_name(name text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_normalize_name';
COMMENT ON FUNCTION cdp.normalize_name(text) IS 'A personal name for comparison: NFKC, lower case, one kind of middle dot, no space between Han and single spaces elsewhere, without 先生 女士 小姐 太太 老师 behind it when something remains. Simplified and traditional characters stay as they are. A blank name gives an empty string, NULL gives NULL. 22023: over 10000 bytes; 0A000: the database is not UTF8.';

CREATE FUNCTION cdp.split_name(name text, OUT surname text, OUT given_name text)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_split_name';
COMMENT ON FUNCTION cdp.split_name(text) IS 'Surname and given name of a name, both normalised as by normalize_name. Han: a compound surname (欧阳, 司马, ...) where a character remains for the given name, else the first character. Elsewhere what stands before a comma, behind the last middle dot, or the last word. A part that is not there is NULL; NULL gives NULL. Errors as normalize_name.';

CREATE FUNCTION cdp.identify(identifiers jsonb, traits jsonb DEFAULT '{}', source text DEFAULT NULL,
	occurred_at timestamptz DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_identify_sql';
COMMENT ON FUNCTION cdp.identify(jsonb, jsonb, text, timestamptz) IS 'One stable customer id for whatever identifiers an application has. identifiers: {"kind": "value" or ["value", …]}, kinds are rows of cdp.identifier_kind; JSON null and blank count as not given, values the kind''s normaliser refuses are dropped. traits: object of attributes, the newest occurred_at wins, JSON null is not given. source: who says so. occurred_at: when, default cdp.now(). Known identifiers cost index probes and write nothing; identifiers of two customers make them one, the older id stays. Errors: LC101 no usable identifier, 22004 NULL identifiers, 22023 malformed or unknown kind, 54000 more than 32 values or one over 512 bytes, 25006 read-only.';

CREATE FUNCTION cdp.identify_many(items jsonb, on_error text DEFAULT 'raise')
	RETURNS TABLE (ord int, profile_id bigint, customer_id bigint)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_identify_many';
COMMENT ON FUNCTION cdp.identify_many(jsonb, text) IS 'identify() for a batch of up to 100,000 items [{"identifiers": {…}, "traits": {…}, "source": …, "occurred_at": …}, …] in one transaction and one lock order; the result equals identify() item by item. ord counts from 1; profile_id is the origin profile of the strongest identifier, under which facts are stored. on_error: raise (first bad item, its number in the detail) or skip (NULL ids for it). Errors as identify().';

CREATE FUNCTION cdp._identify_rows(identifiers jsonb[], traits jsonb[], source text, occurred_ats timestamptz[])
	RETURNS TABLE (ord int, profile_id bigint, customer_id bigint, sqlstate text, message text, hint text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_identify_rows';
COMMENT ON FUNCTION cdp._identify_rows(jsonb[], jsonb[], text, timestamptz[]) IS 'internal: identify for sets; bad elements come back with their reason instead of raising';

CREATE FUNCTION cdp.resolve(kind text, value text) RETURNS bigint
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_resolve';
COMMENT ON FUNCTION cdp.resolve(text, text) IS 'The customer id who has this identifier now, after normalising the value; NULL when nobody has, or when an argument is NULL. Errors: 22023 unknown kind.';

CREATE FUNCTION cdp.customer_id(profile_id bigint) RETURNS bigint
	LANGUAGE c STABLE STRICT PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'cdp_customer_id';
COMMENT ON FUNCTION cdp.customer_id(bigint) IS 'The One ID of a profile: the customer it was merged into, or itself. Any id that ever was a customer answers. NULL for NULL.';

CREATE FUNCTION cdp._customers_changed(winner bigint, loser bigint, action text) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_customers_changed_sql';
COMMENT ON FUNCTION cdp._customers_changed(bigint, bigint, text) IS 'internal: tells the modules, in their order, that two customers became one (merge) or two again (unmerge); called when the alias rows already show it';

CREATE FUNCTION cdp._guard_alias() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_guard_alias';
COMMENT ON FUNCTION cdp._guard_alias() IS 'internal: refuses writes to cdp.profile_alias that do not come from identity';

CREATE FUNCTION cdp._log_xid() RETURNS xid8
	LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_log_xid';
COMMENT ON FUNCTION cdp._log_xid() IS 'internal: logical id of the running top-level transaction, larger than every id stored before it began, also after dump and restore into another cluster. The default of the column xid of a log.';

CREATE FUNCTION cdp._log_snapshot() RETURNS pg_snapshot
	LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_log_snapshot';
COMMENT ON FUNCTION cdp._log_snapshot() IS 'internal: the snapshot of the statement in logical ids; the own transaction counts as in progress';

CREATE FUNCTION cdp._repair_log_epoch() RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_repair_log_epoch';
COMMENT ON FUNCTION cdp._repair_log_epoch() IS 'internal: adopts the logs for this cluster when a dump was restored, or when its transaction ids fell behind what is stored; true when it had to';

CREATE FUNCTION cdp._next_log(consumer text, n int, wait boolean DEFAULT true) RETURNS TABLE (xid xid8, id bigint)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_next_log';
COMMENT ON FUNCTION cdp._next_log(text, int, boolean) IS 'internal: positions of the next up to n committed rows of a consumer''s log, in the order (xid, id); empty: there was nothing. Moves the consumer in the caller''s transaction. Read the rows in a later statement: the one that calls this has an older snapshot. wait false: answers nothing while another session holds the consumer. Errors: 42704 no such consumer, 22023 n below 1, 22004, 40001.';

CREATE FUNCTION cdp._next_rows(consumer text, n int, row_type anyelement, wait boolean DEFAULT true) RETURNS SETOF anyelement
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_next_rows';
COMMENT ON FUNCTION cdp._next_rows(text, int, anyelement, boolean) IS 'internal: as cdp._next_log, but answers the rows themselves; row_type is a NULL of the log''s row type, as in NULL::cdp.event. Errors also: 42804 the consumer reads another log.';

CREATE FUNCTION cdp._create_consumer(name text, log text, from_start boolean DEFAULT true) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- Nothing was done: the empty snapshot.  Everything up to here was done: the one of this statement.
DECLARE
	has text;
BEGIN
	IF name IS NULL OR log IS NULL OR from_start IS NULL THEN
		RAISE EXCEPTION 'name, log and start of a consumer must not be null'
			USING ERRCODE = 'null_value_not_allowed', HINT = 'For example cdp._create_consumer(''journeys'', ''event'', false).';
	END IF;
	IF NOT EXISTS (SELECT FROM cdp.log_table l WHERE l.log = _create_consumer.log) THEN
		RAISE EXCEPTION 'there is no log "%"', log
			USING ERRCODE = 'undefined_object', HINT = 'cdp.log_table lists them.';
	END IF;
	INSERT INTO cdp.event_consumer AS c (name, log, done)
		VALUES (_create_consumer.name, _create_consumer.log,
			CASE WHEN from_start THEN '1:1:'::pg_snapshot ELSE cdp._log_snapshot() END)
		ON CONFLICT DO NOTHING;
	IF FOUND THEN
		RETURN true;
	END IF;
	SELECT c.log INTO has FROM cdp.event_consumer c WHERE c.name = _create_consumer.name;
	IF has IS DISTINCT FROM log THEN
		RAISE EXCEPTION 'consumer "%" reads another log', name
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Choose another name, or drop it with cdp._drop_consumer(name).';
	END IF;
	RETURN false;
END $$;
COMMENT ON FUNCTION cdp._create_consumer(text, text, boolean) IS 'internal: makes a consumer of a log, from its first row or from now on (rows of transactions that run now included); false when it is there already, where it is. Errors: 42704 no such log, 22023 the name reads another log, 22004.';

CREATE FUNCTION cdp._drop_consumer(name text) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM cdp.event_consumer c WHERE c.name = _drop_consumer.name;
	RETURN FOUND;
END $$;
COMMENT ON FUNCTION cdp._drop_consumer(text) IS 'internal: forgets a consumer; false when there was none';

CREATE FUNCTION cdp._month(at timestamptz, months int DEFAULT 0) RETURNS timestamptz
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (date_trunc('month', at AT TIME ZONE 'UTC') + make_interval(months => months)) AT TIME ZONE 'UTC';
COMMENT ON FUNCTION cdp._month(timestamptz, int) IS 'internal: midnight UTC at the start of the month, so many months later';

CREATE FUNCTION cdp._partition_name(log text, month timestamptz) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
RETURN log || to_char(month AT TIME ZONE 'UTC', '_YYYY_MM');
COMMENT ON FUNCTION cdp._partition_name(text, timestamptz) IS 'internal: name of the partition of a month';

CREATE FUNCTION cdp._default_partition(log regclass) RETURNS regclass
	LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT nullif(p.partdefid, 0)::regclass FROM pg_partitioned_table p WHERE p.partrelid = log;
END;
COMMENT ON FUNCTION cdp._default_partition(regclass) IS 'internal: the partition for what no other takes; NULL: none';

CREATE FUNCTION cdp._make_partitions(log regclass, from_time timestamptz, to_time timestamptz) RETURNS int
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- Locks, in this order: the log, its default partition, the new table.
-- * SHARE UPDATE EXCLUSIVE on the log keeps other makers of partitions away; events are written beside it.  That is
--   enough for a month that nobody can write to yet; the default partition is locked only to attach the new one.
-- * Any other month takes ACCESS EXCLUSIVE on the log before it locks the default partition.  A statement that has chosen the default
--   partition for its row before the new one was there would fail when it gets to it, and a transaction that has read
--   the log and then writes to it would meet us half way: both are impossible once nobody has the log.
-- A caller must not have read or written the log in the same transaction; attach_source and the like call this first.
DECLARE
	rel     name := (SELECT c.relname FROM pg_class c WHERE c.oid = log);
	time_column name;
	strays  regclass := cdp._default_partition(log);
	part    text;
	month   timestamptz;
	upto    timestamptz;
	columns text;
	stray   boolean := false;
	made    int := 0;
BEGIN
	IF log IS NULL OR from_time IS NULL OR to_time IS NULL THEN
		RAISE EXCEPTION 'log and range must not be null'
			USING ERRCODE = 'null_value_not_allowed', HINT = 'Give the table and the range [from_time, to_time).';
	END IF;
	IF NOT isfinite(from_time) OR NOT isfinite(to_time) OR from_time < '0001-01-01 00:00:00+00'
		OR to_time > '9999-12-01 00:00:00+00' OR to_time > from_time + interval '100 years' THEN
		RAISE EXCEPTION 'no partitions can be made for this range of time'
			USING ERRCODE = 'invalid_parameter_value', HINT = 'A range has finite ends, at most 100 years apart, in the years 1 to 9999.';
	END IF;
	SELECT l.time_column INTO time_column FROM cdp.log_table l WHERE to_regclass(format('cdp.%I', l.log)) = _make_partitions.log;
	IF time_column IS NULL THEN
		RAISE EXCEPTION '% is not a log with partitions', log
			USING ERRCODE = 'wrong_object_type', HINT = 'cdp.log_table lists the logs; time_column names what they are partitioned by.';
	END IF;
	month := cdp._month(from_time);
	WHILE month < to_time LOOP
		upto := cdp._month(month, 1);
		part := cdp._partition_name(rel, month);
		-- one that stands aside was detached by hand, to be archived: left alone
		IF to_regclass(format('cdp.%I', part)) IS NULL THEN
			EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', log);
			IF strays IS NOT NULL THEN
				EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %2$I >= $1 AND %2$I < $2)', strays, time_column)
					INTO stray USING month, upto;
			END IF;
			IF stray OR month <= cdp.now() + current_setting('cdp.max_future')::interval THEN
				EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', log);
			END IF;
		END IF;
		-- another session may have made it while we waited
		IF to_regclass(format('cdp.%I', part)) IS NULL THEN
			EXECUTE format('CREATE TABLE cdp.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED'
				' INCLUDING STORAGE INCLUDING COMPRESSION)', part, log);
			IF strays IS NOT NULL THEN
				EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', strays);
				SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns FROM pg_attribute a
					WHERE a.attrelid = strays AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
				EXECUTE format('WITH moved AS (DELETE FROM %s WHERE %2$I >= $1 AND %2$I < $2 RETURNING %3$s)'
					' INSERT INTO cdp.%4$I (%3$s) SELECT %3$s FROM moved', strays, time_column, columns, part)
					USING month, upto;
			END IF;
			EXECUTE format('ALTER TABLE %s ATTACH PARTITION cdp.%I FOR VALUES FROM (%L) TO (%L)', log, part,
				to_char(month AT TIME ZONE 'UTC', 'YYYY-MM-DD 00:00:00+00'), to_char(upto AT TIME ZONE 'UTC', 'YYYY-MM-DD 00:00:00+00'));
			made := made + 1;
		END IF;
		month := upto;
	END LOOP;
	RETURN made;
END $$;
COMMENT ON FUNCTION cdp._make_partitions(regclass, timestamptz, timestamptz) IS 'internal: makes the monthly partitions (midnight UTC) that a log lacks in [from_time, to_time) and moves their rows out of the default partition, ids and xids as they were; answers how many. Call it before the transaction touches the log. Errors: 22004, 22023 range, 42809 not such a log.';

CREATE PROCEDURE cdp.maintain_partitions() LANGUAGE plpgsql
AS $$
-- One month per transaction; a log that is busy is tried again, then left for the next run.
DECLARE
	logs   text[];
	months timestamptz[];
	made   boolean;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	SELECT array_agg(t.log ORDER BY t.log, t.month), array_agg(t.month ORDER BY t.log, t.month) INTO logs, months
		FROM cdp._missing_partitions() t;
	FOR i IN 1 .. coalesce(cardinality(logs), 0) LOOP
		FOR attempt IN 1 .. 5 LOOP
			made := cdp._maintain_partition(logs[i], months[i]);
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
			EXIT WHEN made;
			PERFORM pg_sleep(0.2 * attempt);
		END LOOP;
		IF NOT made THEN
			RAISE WARNING 'partition % was not made: the log is busy', cdp._partition_name(logs[i], months[i])
				USING HINT = 'CALL cdp.maintain_partitions() again when long transactions have ended.';
		END IF;
	END LOOP;
END $$;
COMMENT ON PROCEDURE cdp.maintain_partitions() IS 'Makes the partitions of this month and the next three of every log, and moves what lies in the default partitions to partitions of its month. Commits per month, so it cannot run inside a transaction; may be stopped and started at any time. Rows dated before 1970 or beyond those months stay in the default partition. Waits at most a second at a time for others. Errors: 55000, 42501.';


CREATE FUNCTION cdp.track(identifiers jsonb, name text, properties jsonb DEFAULT '{}',
	occurred_at timestamptz DEFAULT NULL, message_id text DEFAULT NULL, source text DEFAULT NULL,
	channel text DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_track_sql';
COMMENT ON FUNCTION cdp.track(jsonb, text, jsonb, timestamptz, text, text, text) IS 'Records one thing that a customer did and answers its event id. identifiers: as for cdp.identify(), unknown ones make a new customer. name: up to 200 bytes, see the public e-commerce names in cdp.event_schema. properties: object up to 64 kB. occurred_at: when it happened, default cdp.now(). message_id: the same (source, message_id) within cdp.dedupe_window is one event, whose id is answered again. An event that the tracking plan quarantines, or that lies ahead of cdp.max_future, is kept in cdp.event_reject: NULL and a warning. Errors: 22004 no name or identifiers, LC101 no usable identifier, 22023 malformed, 23514 the plan rejects it, 54000 too large, 25006 read-only.';

CREATE FUNCTION cdp.track_many(items jsonb, on_error text DEFAULT 'raise') RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_track_many';
COMMENT ON FUNCTION cdp.track_many(jsonb, text) IS 'track() for up to 100,000 items [{"identifiers": {…}, "name": …, "properties": {…}, "occurred_at": …, "message_id": …, "source": …, "channel": …, "traits": {…}}, …] in one transaction; answers the number of new events. Times without an offset are read in cdp.timezone. on_error: raise (the first bad item, its number in the detail; nothing is written) or reject (bad items go to cdp.event_reject with number and reason, the others are taken). Errors as track().';

CREATE FUNCTION cdp._retry_reject(item jsonb, event_id bigint, received_at timestamptz, permanent boolean) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_retry_reject';
COMMENT ON FUNCTION cdp._retry_reject(jsonb, bigint, timestamptz, boolean) IS 'internal: tries a kept item again under its old id and time; NULL when it was taken, else why not';

CREATE FUNCTION cdp._insert_events(profile_ids bigint[], names text[], occurred_ats timestamptz[],
	properties jsonb[], message_ids text[], sources text[], channels text[], permanent boolean) RETURNS bigint
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_insert_events';
COMMENT ON FUNCTION cdp._insert_events(bigint[], text[], timestamptz[], jsonb[], text[], text[], text[], boolean) IS 'internal: writes events whose profiles are known, each (source, message_id) once, received now; permanent: the keys are never pruned. Answers the number of new events. Runs with the rights of its caller.';

CREATE PROCEDURE cdp.prune_event_keys(batch int DEFAULT 50000) LANGUAGE plpgsql
AS $$
-- Walks the keys in order of the primary key, a batch per transaction.
DECLARE
	run  bigint;
	step record;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	IF batch IS NULL OR batch < 1 THEN
		RAISE EXCEPTION 'batch must be at least 1' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for 50000.';
	END IF;
	run := cdp._job_begin('prune_event_keys');
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	SELECT '' AS last_source, '' AS last_message INTO step;
	LOOP
		PERFORM cdp._job_step(run);
		SELECT p.scanned, p.removed, p.last_source, p.last_message INTO step
			FROM cdp._prune_event_keys(step.last_source, step.last_message, batch) p;
		EXIT WHEN step.scanned = 0;
		PERFORM cdp._job_progress(run, step.removed);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	END LOOP;
	PERFORM cdp._job_end(run);
END $$;
COMMENT ON PROCEDURE cdp.prune_event_keys(int) IS 'Removes the keys (source, message_id) that are older than cdp.dedupe_window and not known for ever; track() ignores them already. batch: keys looked at per transaction. Commits per batch, so it cannot run inside a transaction; may be stopped and started again. Errors: 22023 batch, 55006 running already, 55000, 42501.';

CREATE FUNCTION cdp._moment(given text) RETURNS timestamptz
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_moment';
COMMENT ON FUNCTION cdp._moment(text) IS 'internal: the moment that a text names, without an offset read in cdp.timezone; NULL when it names none or infinity';

CREATE FUNCTION cdp.convert_amount(amount numeric, from_currency text, to_currency text, at timestamptz DEFAULT NULL)
	RETURNS numeric
	LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r record;
BEGIN
	IF amount IS NULL OR from_currency = to_currency THEN
		RETURN amount;
	ELSIF from_currency IS NULL OR to_currency IS NULL THEN
		RAISE EXCEPTION 'a currency is missing' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'Name both currencies, for example cdp.convert_amount(12.50, ''USD'', ''CNY'').';
	END IF;
	SELECT c.rate, c.forth INTO r FROM (
		(SELECT c.valid_from, c.rate, true AS forth FROM cdp.currency_rate c
		 WHERE c.from_currency = convert_amount.from_currency AND c.to_currency = convert_amount.to_currency
		   AND c.valid_from <= coalesce(convert_amount.at, cdp.now()) ORDER BY c.valid_from DESC LIMIT 1)
		UNION ALL
		(SELECT c.valid_from, c.rate, false FROM cdp.currency_rate c
		 WHERE c.from_currency = convert_amount.to_currency AND c.to_currency = convert_amount.from_currency
		   AND c.valid_from <= coalesce(convert_amount.at, cdp.now()) ORDER BY c.valid_from DESC LIMIT 1)
	) c ORDER BY c.valid_from DESC, c.forth DESC LIMIT 1;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no rate from % to % at that time', left(from_currency, 10), left(to_currency, 10)
			USING ERRCODE = 'invalid_parameter_value',
			      HINT = 'INSERT INTO cdp.currency_rate (from_currency, to_currency, valid_from, rate) a row that was valid then.';
	END IF;
	-- divided, not multiplied by a rounded reciprocal: 71 yuan at 7.1 are 10 dollars
	RETURN CASE WHEN r.forth THEN amount * r.rate ELSE amount / r.rate END;
END $$;
COMMENT ON FUNCTION cdp.convert_amount(numeric, text, text, timestamptz) IS 'An amount in another currency, by the rate of cdp.currency_rate (either direction) that was valid at the moment at (default cdp.now()); not rounded. The same currency needs no rate. NULL amount: NULL. Errors: 22023 no rate, 22004 a currency is NULL.';

CREATE FUNCTION cdp._sum_amount_accum(state bytea, amount numeric, currency text) RETURNS bytea
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_sum_amount_accum';
COMMENT ON FUNCTION cdp._sum_amount_accum(bytea, numeric, text) IS 'internal: step of cdp.sum_amount';
CREATE FUNCTION cdp._sum_amount_combine(a bytea, b bytea) RETURNS bytea
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_sum_amount_combine';
COMMENT ON FUNCTION cdp._sum_amount_combine(bytea, bytea) IS 'internal: joins two states of cdp.sum_amount';
CREATE FUNCTION cdp._sum_amount_final(state bytea) RETURNS numeric
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_sum_amount_final';
COMMENT ON FUNCTION cdp._sum_amount_final(bytea) IS 'internal: result of cdp.sum_amount';
CREATE AGGREGATE cdp.sum_amount(amount numeric, currency text) (
	SFUNC = cdp._sum_amount_accum, STYPE = bytea, COMBINEFUNC = cdp._sum_amount_combine,
	FINALFUNC = cdp._sum_amount_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.sum_amount(numeric, text) IS 'Sum of amounts that are all in one currency. NULL amounts do not count; NULL when there is none. Errors: 22023 a second currency (sum_amount with four arguments converts), 22004 an amount without currency.';

CREATE FUNCTION cdp._sum_amount_convert(state numeric, amount numeric, currency text, to_currency text, at timestamptz)
	RETURNS numeric
	LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF amount IS NULL THEN
		RETURN state;
	END IF;
	RETURN coalesce(state, 0) + CASE WHEN currency = to_currency THEN amount ELSE cdp.convert_amount(amount, currency, to_currency, at) END;
END $$;
COMMENT ON FUNCTION cdp._sum_amount_convert(numeric, numeric, text, text, timestamptz) IS 'internal: step of cdp.sum_amount with conversion';
CREATE AGGREGATE cdp.sum_amount(amount numeric, currency text, to_currency text, at timestamptz) (
	SFUNC = cdp._sum_amount_convert, STYPE = numeric, COMBINEFUNC = pg_catalog.numeric_add, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.sum_amount(numeric, text, text, timestamptz) IS 'Sum of amounts in to_currency, each converted by cdp.convert_amount() at its own moment. NULL amounts do not count; NULL when there is none. Errors: 22023 no rate, 22004 an amount without currency.';

CREATE FUNCTION cdp._check_object(object jsonb, what text, texts text[], numbers text[], moments text[], others text[])
	RETURNS void
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_check_object';
COMMENT ON FUNCTION cdp._check_object(jsonb, text, text[], text[], text[], text[]) IS 'internal: refuses an object with unknown keys or values of the wrong shape. what: how messages call it; texts, numbers, moments, others (arrays): its keys. JSON null is not given; a number may stand for a text, never a text for a number. Errors: 22004 NULL, 22023';

CREATE FUNCTION cdp._read_lines(order_id text, given jsonb)
	RETURNS TABLE (line_no bigint, product_id text, quantity numeric, unit_price numeric, category text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	e    record;
	seen bigint[] := '{}';
	defect text;
	c    record;
BEGIN
	FOR e IN SELECT j.value, j.ordinality AS n FROM jsonb_array_elements(given) WITH ORDINALITY j LOOP
		PERFORM cdp._check_object(e.value, format('line %s', e.n), '{order_id,product_id,category}', '{line_no,quantity,unit_price}', '{}', '{}');
		quantity := coalesce((e.value ->> 'quantity')::numeric, 1);
		unit_price := (e.value ->> 'unit_price')::numeric;
		product_id := e.value ->> 'product_id';
		category := e.value ->> 'category';
		IF (e.value ->> 'order_id') <> _read_lines.order_id THEN
			RAISE EXCEPTION 'line % belongs to another order', e.n USING ERRCODE = 'invalid_parameter_value',
				HINT = 'The lines of an order may leave out order_id.';
		ELSIF abs((e.value ->> 'line_no')::numeric) > 9e18 OR scale(trim_scale((e.value ->> 'line_no')::numeric)) > 0 THEN
			RAISE EXCEPTION '"line_no" of line % must be a whole number', e.n USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Without line_no the lines are counted from 1.';
		END IF;
		line_no := coalesce((e.value ->> 'line_no')::numeric::bigint, e.n);
		IF line_no = ANY (seen) THEN
			RAISE EXCEPTION 'there are two lines with line_no %', line_no USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Every line of an order needs a line_no of its own; without line_no they are counted from 1.';
		END IF;
		seen := seen || line_no;
		defect := cdp._line_defect(_read_lines.order_id, line_no, product_id, quantity, unit_price, category);
		IF defect IS NOT NULL THEN
			SELECT t.* INTO c FROM cdp._commerce_complaint(defect) t;
			RAISE EXCEPTION 'line %: %', e.n, c.reason USING ERRCODE = c.sqlstate, HINT = c.hint;
		END IF;
		RETURN NEXT;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._read_lines(text, jsonb) IS 'internal: the lines of an order out of jsonb, checked';

CREATE FUNCTION cdp._read_order(o jsonb)
	RETURNS TABLE (order_id text, ordered_at timestamptz, status text, amount numeric, refunded numeric, currency text,
		channel text, store_id text, payment_method text, paid_at timestamptz, shipped_at timestamptz, completed_at timestamptz,
		cancelled_at timestamptz, tracking_no text, lines jsonb, products jsonb)
	LANGUAGE plpgsql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	defect text;
	c      record;
BEGIN
	PERFORM cdp._check_object(o, 'sales_order', '{order_id,status,currency,channel,store_id,payment_method,tracking_no}',
		'{amount,refunded}', '{ordered_at,paid_at,shipped_at,completed_at,cancelled_at}', '{lines}');
	order_id := o ->> 'order_id';
	ordered_at := cdp._moment(o ->> 'ordered_at');
	status := o ->> 'status';
	amount := (o ->> 'amount')::numeric;
	refunded := (o ->> 'refunded')::numeric;
	currency := o ->> 'currency';
	channel := o ->> 'channel';
	store_id := o ->> 'store_id';
	payment_method := o ->> 'payment_method';
	paid_at := cdp._moment(o ->> 'paid_at');
	shipped_at := cdp._moment(o ->> 'shipped_at');
	completed_at := cdp._moment(o ->> 'completed_at');
	cancelled_at := cdp._moment(o ->> 'cancelled_at');
	tracking_no := o ->> 'tracking_no';
	defect := cdp._order_defect(order_id, ordered_at, status, amount, refunded, currency,
		channel, store_id, payment_method, paid_at, shipped_at, completed_at, cancelled_at, tracking_no);
	IF defect IS NOT NULL THEN
		SELECT t.* INTO c FROM cdp._commerce_complaint(defect) t;
		RAISE EXCEPTION '%', c.reason USING ERRCODE = c.sqlstate, HINT = c.hint;
	END IF;
	IF jsonb_typeof(o -> 'lines') = 'array' THEN
		SELECT coalesce(jsonb_agg(to_jsonb(l) ORDER BY l.line_no), '[]') INTO lines FROM cdp._read_lines(order_id, o -> 'lines') l;
		products := (SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('product_id', l.value -> 'product_id',
				'category', l.value -> 'category', 'quantity', l.value -> 'quantity', 'price', l.value -> 'unit_price'))
				ORDER BY l.ordinality) FILTER (WHERE l.ordinality <= 100), '[]')
			FROM jsonb_array_elements(lines) WITH ORDINALITY l);
	END IF;
	RETURN NEXT;
END $$;
COMMENT ON FUNCTION cdp._read_order(jsonb) IS 'internal: an order out of jsonb, checked as far as that can be done without looking at what is known; lines as they will stand in the table, products as its events tell them. Raises 22023 or 22004.';

CREATE FUNCTION cdp._order_event(status text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE status WHEN 'completed' THEN 'Order Completed' WHEN 'placed' THEN 'Order Placed'
		WHEN 'paid' THEN 'Order Paid' WHEN 'shipped' THEN 'Order Shipped'
		WHEN 'cancelled' THEN 'Order Cancelled' WHEN 'refunded' THEN 'Order Refunded' END;
COMMENT ON FUNCTION cdp._order_event(text) IS 'internal: name of the event that an order''s arrival in this status is';

CREATE FUNCTION cdp._order_status(given text, amount numeric, refunded numeric) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE WHEN refunded > 0 AND refunded >= amount AND given <> 'cancelled' THEN 'refunded' ELSE given END;
COMMENT ON FUNCTION cdp._order_status(text, numeric, numeric) IS 'internal: an order whose whole amount is refunded is refunded, unless it was cancelled';

-- Refund ids and event keys are made of amounts: a thousand digits would not go into an index.
CREATE FUNCTION cdp._is_unwieldy(n numeric) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN n >= 1e30 OR n <= -1e30 OR (scale(n) > 40 AND scale(trim_scale(n)) > 40);
COMMENT ON FUNCTION cdp._is_unwieldy(numeric) IS 'internal: whether a number has more than 30 digits before or 40 after the decimal point';

-- One expression, inlined into the statements below.  NULL means not given and is no defect here.
CREATE FUNCTION cdp._order_defect(order_id text, ordered_at timestamptz, status text, amount numeric,
	refunded numeric, currency text, channel text, store_id text, payment_method text, paid_at timestamptz,
	shipped_at timestamptz, completed_at timestamptz, cancelled_at timestamptz, tracking_no text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE
		WHEN order_id IS NULL OR order_id = '' THEN 'order_id'
		WHEN octet_length(order_id) > 200 OR octet_length(channel) > 200 OR octet_length(store_id) > 200
			OR octet_length(payment_method) > 200 OR octet_length(tracking_no) > 200 THEN 'length'
		-- NaN is above Infinity in PostgreSQL's order of numeric
		WHEN amount < 0 OR amount >= 'Infinity' THEN 'amount'
		WHEN refunded < 0 OR refunded >= 'Infinity' THEN 'refunded'
		WHEN cdp._is_unwieldy(amount) OR cdp._is_unwieldy(refunded) THEN 'digits'
		WHEN status NOT IN ('placed', 'paid', 'shipped', 'completed', 'cancelled', 'refunded') THEN 'status'
		WHEN currency !~ '^[A-Z]{3}$' THEN 'currency'
		WHEN NOT isfinite(ordered_at) OR NOT isfinite(paid_at) OR NOT isfinite(shipped_at)
			OR NOT isfinite(completed_at) OR NOT isfinite(cancelled_at) THEN 'time'
	END;
COMMENT ON FUNCTION cdp._order_defect(text, timestamptz, text, numeric, numeric, text, text, text, text, timestamptz, timestamptz, timestamptz, timestamptz, text) IS 'internal: what is wrong with the values of an order, a word of cdp._commerce_complaint(); NULL: nothing';

CREATE FUNCTION cdp._line_defect(order_id text, line_no bigint, product_id text, quantity numeric,
	unit_price numeric, category text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE
		WHEN order_id IS NULL OR order_id = '' OR line_no IS NULL OR product_id IS NULL OR product_id = '' THEN 'line key'
		WHEN octet_length(order_id) > 200 OR octet_length(product_id) > 200 OR octet_length(category) > 200 THEN 'length'
		WHEN quantity < 0 OR quantity >= 'Infinity' THEN 'quantity'
		WHEN unit_price <= '-Infinity' OR unit_price >= 'Infinity' THEN 'unit_price'
		WHEN cdp._is_unwieldy(quantity) OR cdp._is_unwieldy(unit_price) THEN 'digits'
	END;
COMMENT ON FUNCTION cdp._line_defect(text, bigint, text, numeric, numeric, text) IS 'internal: what is wrong with an order line, as _order_defect()';

CREATE FUNCTION cdp._product_defect(product_id text, name text, category text, price numeric, currency text,
	status text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE
		WHEN product_id IS NULL OR product_id = '' THEN 'product_id'
		WHEN octet_length(product_id) > 200 OR octet_length(category) > 200 THEN 'length'
		WHEN octet_length(name) > 2000 THEN 'name'
		WHEN price < 0 OR price >= 'Infinity' THEN 'price'
		WHEN cdp._is_unwieldy(price) THEN 'digits'
		WHEN currency !~ '^[A-Z]{3}$' THEN 'currency'
		WHEN status NOT IN ('draft', 'listed', 'delisted') THEN 'product status'
	END;
COMMENT ON FUNCTION cdp._product_defect(text, text, text, numeric, text, text) IS 'internal: what is wrong with a product, as _order_defect()';

-- The arrays of a batch as one relation, see src/commerce_order.c.  ROWS as unnest() estimates arrays it does not know.
CREATE FUNCTION cdp._order_rows(profile_ids bigint[], order_ids text[], ordered_ats timestamptz[],
	statuses text[], amounts numeric[], refundeds numeric[], currencies text[], channels text[], store_ids text[],
	payment_methods text[], paid_ats timestamptz[], shipped_ats timestamptz[], completed_ats timestamptz[],
	cancelled_ats timestamptz[], tracking_nos text[], rounds int[] DEFAULT NULL)
	RETURNS TABLE (ord bigint, profile_id bigint, order_id text, ordered_at timestamptz, status text, amount numeric,
		refunded numeric, currency text, channel text, store_id text, payment_method text, paid_at timestamptz,
		shipped_at timestamptz, completed_at timestamptz, cancelled_at timestamptz, tracking_no text, nth int)
	LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME', 'cdp_order_rows';
COMMENT ON FUNCTION cdp._order_rows(bigint[], text[], timestamptz[], text[], numeric[], numeric[], text[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[], timestamptz[], text[], int[]) IS 'internal: the arrays of a batch of orders as rows, numbered from 1 in ord; where an array is NULL or ends early, the column is NULL. nth: rounds of _update_orders';

CREATE FUNCTION cdp._order_forward(status text) RETURNS text[]
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE status WHEN 'placed' THEN '{paid,shipped,completed,cancelled,refunded}'::pg_catalog.text[]
		WHEN 'paid' THEN '{shipped,completed,cancelled,refunded}' WHEN 'shipped' THEN '{completed,cancelled,refunded}'
		WHEN 'completed' THEN '{refunded}' WHEN 'cancelled' THEN '{refunded}' ELSE '{}' END;
COMMENT ON FUNCTION cdp._order_forward(text) IS 'internal: the statuses that an order of this status may go to';

CREATE FUNCTION cdp._commerce_complaint(defect text, key text DEFAULT NULL, was text DEFAULT NULL, wanted text DEFAULT NULL)
	RETURNS TABLE (sqlstate text, reason text, hint text)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT v.s, v.r, v.h FROM (VALUES
		('order_id', '22004', 'the order has no order_id', 'Every order needs a key of its own, for example "pos-1001".'),
		('length', '22023', 'a text value is longer than 200 bytes', 'Keys, channels, stores, payment methods, categories and tracking numbers have up to 200 bytes each.'),
		('amount', '22023', 'amount must be a finite number that is not negative', 'Record the order with its original amount; money that goes back is a refund: cdp.refund_order().'),
		('refunded', '22023', 'refunded must be a finite number that is not negative', 'refunded is the running total of all refunds of the order.'),
		('digits', '22023', 'a number has more than 30 digits before or 40 after the decimal point', 'Round it: no currency needs more.'),
		('status', '22023', 'there is no such status of an order', 'The statuses are placed, paid, shipped, completed, cancelled and refunded; a mapping may translate with CASE.'),
		('currency', '22023', 'currency is not the code of a currency', 'Give three capital letters of ISO 4217, for example CNY.'),
		('time', '22023', 'a time of the order is infinite', 'Give the moment itself, or NULL when it is not known.'),
		('incomplete', '22004', 'a new order needs its customer, ordered_at and amount', 'Give the missing values; afterwards an update may leave out what does not change.'),
		('too much', '22023', 'refunded is more than the amount of the order', 'Correct the amount first, or record the smaller refund.'),
		('refunds', '22023', 'the currency of an order that has refunds cannot change', 'Its refunds are in the currency it has; record what is new under an order_id of its own.'),
		('gone', '40001', 'the order was deleted at the same time', 'Try again.'),
		('line key', '22004', 'an order line needs order_id, line_no and product_id', 'line_no counts the lines of an order; any number that is unique in the order will do.'),
		('quantity', '22023', 'quantity must be a finite number that is not negative', 'Goods that come back are a refund: cdp.refund_order().'),
		('unit_price', '22023', 'unit_price must be a finite number', 'A discount line may have a negative price, an unknown price is NULL.'),
		('product_id', '22004', 'the product has no product_id', 'Every product needs a key of its own.'),
		('name', '22023', 'the name of the product is longer than 2000 bytes', 'Keep long descriptions in the shop.'),
		('price', '22023', 'price must be a finite number that is not negative', 'An unknown price is NULL.'),
		('product status', '22023', 'there is no such status of a product', 'The statuses are draft, listed and delisted.'),
		('backward', '22023', format('order "%s" cannot go from %s to %s', key, was, wanted),
			CASE WHEN was = 'refunded' THEN 'A refunded order stays refunded.'
			     ELSE format('From %s it may go to %s.', was, array_to_string(cdp._order_forward(was), ', ')) END),
		('owner', '23505', format('%s "%s" %s', wanted, key, coalesce(format('belongs to source "%s"', was), 'was not written by a source')),
			CASE wanted WHEN 'product' THEN 'Prefix the key in the mapping, for example "product_id": "''pos-'' || id".'
			            ELSE 'Prefix the key in the mapping, for example "order_id": "''pos-'' || id".' END)
	) AS v(d, s, r, h) WHERE v.d = defect;
END;
COMMENT ON FUNCTION cdp._commerce_complaint(text, text, text, text) IS 'internal: SQLSTATE, message and hint of a defect of an order, a line or a product. key: whose; was, wanted: the statuses, or for owner the other source and the kind of row';

CREATE FUNCTION cdp._check_items(items jsonb, on_error text, example text) RETURNS int
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF items IS NULL OR on_error IS NULL THEN
		RAISE EXCEPTION 'items and on_error must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = format('For example %s.', example);
	ELSIF on_error NOT IN ('raise', 'skip') THEN
		RAISE EXCEPTION 'on_error must be ''raise'' or ''skip''' USING ERRCODE = 'invalid_parameter_value',
			HINT = '''skip'' leaves bad items out and takes the others.';
	ELSIF jsonb_typeof(items) <> 'array' THEN
		RAISE EXCEPTION 'items must be an array of objects' USING ERRCODE = 'invalid_parameter_value',
			HINT = format('For example %s.', example);
	ELSIF jsonb_array_length(items) > 100000 THEN
		RAISE EXCEPTION 'more than 100000 items in one call' USING ERRCODE = 'program_limit_exceeded',
			HINT = 'Send them in parts.';
	END IF;
	RETURN jsonb_array_length(items);
END $$;
COMMENT ON FUNCTION cdp._check_items(jsonb, text, text) IS 'internal: refuses the arguments of a verb for many when they are no batch; answers the number of items';

CREATE FUNCTION cdp._raise_item(ord int, n int, sqlstate text, reason text, hint text) RETURNS void
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION '%', reason USING ERRCODE = sqlstate, HINT = coalesce(hint, ''), DETAIL = format('Item %s of %s.', ord, n);
END $$;
COMMENT ON FUNCTION cdp._raise_item(int, int, text, text, text) IS 'internal: the error of a bad item, with its number in the detail';

CREATE FUNCTION cdp._read_orders(items jsonb)
	RETURNS TABLE (ord int, identifiers jsonb, order_id text, ordered_at timestamptz, status text, amount numeric,
		refunded numeric, currency text, channel text, store_id text, payment_method text, paid_at timestamptz,
		shipped_at timestamptz, completed_at timestamptz, cancelled_at timestamptz, tracking_no text, lines jsonb,
		products jsonb, state text, why text, advice text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item jsonb;
BEGIN
	FOR item, ord IN SELECT j.value, j.ordinality FROM jsonb_array_elements(items) WITH ORDINALITY j LOOP
		state := NULL; why := NULL; advice := NULL;
		BEGIN
			IF jsonb_typeof(item) <> 'object' OR item - '{identifiers,order}'::text[] <> '{}' THEN
				RAISE EXCEPTION 'an item must be an object with the keys identifiers and order' USING ERRCODE = 'invalid_parameter_value',
					HINT = 'For example {"identifiers": {"phone": "…"}, "order": {"order_id": "1001", "amount": 12.50}}.';
			END IF;
			identifiers := nullif(item -> 'identifiers', 'null');
			SELECT r.* INTO order_id, ordered_at, status, amount, refunded, currency, channel, store_id, payment_method, paid_at,
				shipped_at, completed_at, cancelled_at, tracking_no, lines, products
			FROM cdp._read_order(nullif(item -> 'order', 'null')) r;
		EXCEPTION WHEN data_exception THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, why = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT;
			order_id := NULL; identifiers := NULL; lines := NULL; products := NULL;
		END;
		RETURN NEXT;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._read_orders(jsonb) IS 'internal: the items of record_order_many as rows; a bad one has its SQLSTATE in state, why and advice, and no order_id';

CREATE FUNCTION cdp._source_apply() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_source_apply';
COMMENT ON FUNCTION cdp._source_apply() IS 'internal: trigger function of attached sources; arguments source_id, on_error, digest of the mapping, on_delete';

CREATE FUNCTION cdp.attach_source(source regclass, role text, mapping jsonb, on_error text DEFAULT 'queue',
	on_delete text DEFAULT 'keep', backfill boolean DEFAULT true) RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_attach_source';
COMMENT ON FUNCTION cdp.attach_source(regclass, text, jsonb, text, text, boolean) IS 'Takes what is in a table of yours into the CDP and follows its changes. role: customer, order, order_line, product or event. mapping: an object whose values are SQL expressions over one row (doc/event_source.md lists the keys of each role); date and timestamp values are read in cdp.timezone. on_error: queue (a row that cannot be taken goes to cdp.source_queue, your statement goes on) or raise. on_delete: keep, or cancel (role order: orders of deleted rows are cancelled). backfill: copy what is there; up to cdp.backfill_inline_rows rows before it returns, above that with CALL cdp.backfill_source(). Nothing about the table changes but its triggers. Run it as the owner of the table. Answers what was done, in words. Errors: 22023 or the SQLSTATE of the expression, with the offending key in the message; 22004 NULL; 42710 attached already; 42501 not the owner; 0A000 views, foreign and temporary tables (use cdp.ingest).';

CREATE FUNCTION cdp.detach_source(source regclass) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_detach_source';
COMMENT ON FUNCTION cdp.detach_source(regclass) IS 'Stops following a table: its triggers and its queue go, what was taken stays. Run it as the owner of the table. Errors: 42704 not attached, 42501 not the owner, 22004 NULL.';

CREATE FUNCTION cdp.detach_source(source text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_detach_source_name';
COMMENT ON FUNCTION cdp.detach_source(text) IS 'The same by name, ''schema.table'': also forgets a source whose table was dropped. Errors: 42704 not attached, 42501 not the owner, 22004 NULL.';

CREATE FUNCTION cdp._backfill_batch(source_id bigint, source regclass, batch int) RETURNS bigint
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_backfill_batch';
COMMENT ON FUNCTION cdp._backfill_batch(bigint, regclass, int) IS 'internal: copies the next rows of a source, notes the position in the same transaction; answers how many rows there were, 0: done';

CREATE FUNCTION cdp._retry_batch(source_id bigint, source regclass, after_id bigint, last_id bigint, batch int,
	OUT queue_id bigint, OUT seen bigint, OUT taken bigint)
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_retry_batch';
COMMENT ON FUNCTION cdp._retry_batch(bigint, regclass, bigint, bigint, int) IS 'internal: tries the next rows of source_queue of a source, those with after_id < queue_id <= last_id; answers the last queue_id looked at (NULL: there is none left), how many rows were looked at and how many were taken';

CREATE FUNCTION cdp._make_source_triggers(source_id bigint, source regclass) RETURNS boolean
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_make_source_triggers';
COMMENT ON FUNCTION cdp._make_source_triggers(bigint, regclass) IS 'internal: makes the triggers of a source that are missing on its table or on a partition; true: some were made. 42501 when the caller has not the rights of the source''s role and of the table''s owner';

CREATE PROCEDURE cdp.backfill_source(source regclass, batch int DEFAULT 10000)
	LANGUAGE plpgsql
AS $$
DECLARE
	src    record;
	run_id bigint;
	n      bigint;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	src := cdp._backfill_begin(source, batch);
	run_id := cdp._job_begin(src.job, src.total);
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	LOOP
		PERFORM cdp._job_step(run_id);
		n := cdp._backfill_batch(src.source_id, source, batch);
		PERFORM cdp._job_progress(run_id, n);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		EXIT WHEN n = 0;
	END LOOP;
	PERFORM cdp._job_end(run_id);
END $$;
COMMENT ON PROCEDURE cdp.backfill_source(regclass, int) IS 'Copies what is in an attached table, batch rows per transaction, in the order of its key; progress is in cdp.job_status as "backfill schema.table". It holds no lock on the table beyond a batch, and rows that change meanwhile end with their newest content. When it was stopped or killed, call it again: it goes on after the last batch that was committed; after it was done, it starts from the beginning and changes only what differs. Errors: 42704 not attached, 22023 batch below 1, 55006 running already, 2D000 inside a transaction block.';

CREATE PROCEDURE cdp.backfill_sources()
	LANGUAGE plpgsql
AS $$
DECLARE
	name regclass;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	LOOP
		name := cdp._backfill_pending();
		EXIT WHEN name IS NULL;
		CALL cdp.backfill_source(name);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	END LOOP;
END $$;
COMMENT ON PROCEDURE cdp.backfill_sources() IS 'CALL cdp.backfill_source() for every attached table whose back-fill is pending or was interrupted: a job for a scheduler.';

CREATE PROCEDURE cdp.retry_sources(batch int DEFAULT 1000)
	LANGUAGE plpgsql
AS $$
DECLARE
	src    record;
	got    record;
	at_id  bigint;
	run_id bigint;
	id     bigint := 0;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	run_id := cdp._job_begin('retry_sources', cdp._queued_rows(batch));
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	LOOP
		src := cdp._retry_begin(id);
		EXIT WHEN src.source_id IS NULL;
		id := src.source_id;
		at_id := 0;
		WHILE at_id IS NOT NULL AND src.relid IS NOT NULL LOOP
			PERFORM cdp._job_step(run_id);
			got := cdp._retry_batch(src.source_id, src.relid, at_id, src.last_id, batch);
			at_id := got.queue_id;
			PERFORM cdp._job_progress(run_id, got.seen);
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		END LOOP;
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	END LOOP;
	PERFORM cdp._job_end(run_id);
END $$;
COMMENT ON PROCEDURE cdp.retry_sources(int) IS 'Brings in the rows of cdp.source_queue with the content they have in their table now (rows that are gone: with the content they had), folds the counters of cdp.source_status and makes triggers on partitions that have none yet; batch rows per transaction. What cannot be taken stays in the queue with its newest reason. A job for a scheduler. Errors: 22023 batch below 1, 55006 running already, 2D000 inside a transaction block.';

CREATE FUNCTION cdp._health_event_source() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('cdp.source_status') IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY SELECT 'source ' || s.source, s.state = 'following' AND s.queued = 0,
		concat_ws('; ', s.state, CASE WHEN s.queued > 0 THEN format('%s rows queued; CALL cdp.retry_sources()', s.queued) END,
			CASE WHEN s.backfill IN ('pending', 'running') THEN format('back-fill %s; CALL cdp.backfill_source(%L)', s.backfill, s.source) END)
		FROM cdp.source_status s ORDER BY s.source;
END $$;
COMMENT ON FUNCTION cdp._health_event_source() IS 'internal: rows of event_source in cdp.health()';

CREATE FUNCTION cdp.make_staging(role text, name text DEFAULT NULL, columns text[] DEFAULT NULL) RETURNS regclass
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_make_staging';
COMMENT ON FUNCTION cdp.make_staging(text, text, text[]) IS 'Makes a table of yours to COPY a file into: file_line (the number of the line), then a text column per kind of identifier and per key of the role (customer, order, order_line, product, event), for customers and events also traits or properties (a JSON object) and your own columns, each a trait or property. name: of the table, NULL is staging_ROLE in your current schema. Answers the table. Errors: 22023 no such role, 42P07 the table is there already, 42501 you may not create there, 22004 NULL.';

CREATE FUNCTION cdp._ingest_batch(source regclass, role text, mapping jsonb, source_name text, after_key text[],
	line bigint, batch int, OUT last_key text[], OUT seen bigint, OUT taken bigint, OUT rejected bigint)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_ingest_batch';
COMMENT ON FUNCTION cdp._ingest_batch(regclass, text, jsonb, text, text[], bigint, int) IS 'internal: takes the rows of a relation after a key (NULL: from the first on), without a key all of them; line: rows seen before. Answers the last key (NULL: there is none, it is done) and counts';

CREATE PROCEDURE cdp.ingest(source regclass, role text, mapping jsonb DEFAULT NULL, source_name text DEFAULT NULL,
	batch int DEFAULT 10000, INOUT taken bigint DEFAULT 0, INOUT rejected bigint DEFAULT 0)
	LANGUAGE plpgsql
AS $$
DECLARE
	run_id bigint;
	b      record;
	lines  bigint;
	pos    text[];
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	taken := 0;
	rejected := 0;
	lines := 0;
	-- whose rows one may not read, whose rejects one may not clear
	IF NOT pg_catalog.has_table_privilege(source, 'SELECT') THEN
		RAISE EXCEPTION 'permission denied for table %', source USING ERRCODE = 'insufficient_privilege',
			HINT = 'Its owner grants you SELECT on it.';
	END IF;
	run_id := cdp._job_begin(cdp._ingest_begin(source, role, source_name, batch));
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	LOOP
		PERFORM cdp._job_step(run_id);
		b := cdp._ingest_batch(source, role, mapping, source_name, pos, lines, batch);
		pos := b.last_key;
		lines := lines + b.seen;
		taken := taken + b.taken;
		rejected := rejected + b.rejected;
		PERFORM cdp._job_progress(run_id, b.seen);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		EXIT WHEN pos IS NULL;
	END LOOP;
	PERFORM cdp._job_end(run_id);
END $$;
COMMENT ON PROCEDURE cdp.ingest(regclass, text, jsonb, text, int, bigint, bigint) IS 'Takes the rows of a staging table, a view, a foreign or any other table in as they are now. role and mapping as for cdp.attach_source(); mapping NULL: columns by name, as in a table of make_staging(). source_name: what the rows are remembered to come from, NULL is schema.table. batch: rows per transaction (a relation without a primary key or "key" is taken in one). The mapping runs as you; functions in it are written with their schema. Good rows go in; bad rows are kept in cdp.ingest_reject with line number and reason, those of the last run of that name only. The same file again adds nothing. Answers the numbers of rows taken and rejected. Errors: 22023 and others as attach_source, 42501 no right to read, 54000 source_name is longer than 200 bytes, 55006 it is running, 2D000 inside a transaction block.';

CREATE FUNCTION cdp._rfm_accum(state cdp.rfm_state, occurred_at timestamptz, amount numeric, as_of timestamptz) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_accum_numeric';
COMMENT ON FUNCTION cdp._rfm_accum(cdp.rfm_state, timestamptz, numeric, timestamptz) IS 'internal: one row into the state, in place; 55000 outside an aggregate';
CREATE FUNCTION cdp._rfm_accum(state cdp.rfm_state, occurred_at timestamptz, amount bigint, as_of timestamptz) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_accum_bigint';
COMMENT ON FUNCTION cdp._rfm_accum(cdp.rfm_state, timestamptz, bigint, timestamptz) IS 'internal: one row into the state, in place; 55000 outside an aggregate';
CREATE FUNCTION cdp._rfm_accum(state cdp.rfm_state, occurred_at timestamptz, amount float8, as_of timestamptz) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_accum_float8';
COMMENT ON FUNCTION cdp._rfm_accum(cdp.rfm_state, timestamptz, float8, timestamptz) IS 'internal: one row into the state, in place; 55000 outside an aggregate';
CREATE FUNCTION cdp._rfm_accum(state cdp.rfm_state, occurred_at timestamptz, amount numeric, as_of timestamptz, refunded numeric) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_accum_order';
COMMENT ON FUNCTION cdp._rfm_accum(cdp.rfm_state, timestamptz, numeric, timestamptz, numeric) IS 'internal: one order with its refunded part into the state, in place; 55000 outside an aggregate';
CREATE FUNCTION cdp._rfm_combine(a cdp.rfm_state, b cdp.rfm_state) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_combine';
COMMENT ON FUNCTION cdp._rfm_combine(cdp.rfm_state, cdp.rfm_state) IS 'internal: b into a, in place; 22023 when their as_of differ, 55000 outside an aggregate';
CREATE FUNCTION cdp._rfm_final(state cdp.rfm_state) RETURNS cdp.rfm
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_final';
COMMENT ON FUNCTION cdp._rfm_final(cdp.rfm_state) IS 'internal: result of cdp.rfm; NULL without a purchase';
CREATE FUNCTION cdp._rfm_detail_final(state cdp.rfm_state) RETURNS cdp._rfm_detail
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_detail_final';
COMMENT ON FUNCTION cdp._rfm_detail_final(cdp.rfm_state) IS 'internal: all facts of the state; NULL without a purchase';

CREATE AGGREGATE cdp.rfm(occurred_at timestamptz, amount numeric, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm(timestamptz, numeric, timestamptz) IS 'Recency, frequency and money of one customer: amount >= 0 is a purchase, amount < 0 a refund, which lowers the money and is no purchase; rows after as_of do not exist. Exact. A row with a NULL is skipped; NULL without a purchase. Errors: 22023 for NaN or infinite amounts, infinite times, as_of that differ within a group.';
CREATE AGGREGATE cdp.rfm(occurred_at timestamptz, amount bigint, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm(timestamptz, bigint, timestamptz) IS 'Recency, frequency and money of one customer, of whole amounts (say cents: the money comes back in the same unit). All else as cdp.rfm with numeric amounts.';
CREATE AGGREGATE cdp.rfm(occurred_at timestamptz, amount float8, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm(timestamptz, float8, timestamptz) IS 'Recency, frequency and money of one customer; each amount counts as its cast to numeric, so 0.1 is 0.1 and the sum does not depend on the order of the rows. All else as cdp.rfm with numeric amounts.';

CREATE AGGREGATE cdp.rfm_partial(occurred_at timestamptz, amount numeric, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm_partial(timestamptz, numeric, timestamptz) IS 'As cdp.rfm, but answers the state, to be kept (per month, per shard) and put together by cdp.rfm_combine. Never NULL.';
CREATE AGGREGATE cdp.rfm_combine(state cdp.rfm_state) (
	SFUNC = cdp._rfm_combine, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm_combine(cdp.rfm_state) IS 'The cdp.rfm of all rows behind several states: what cdp.rfm says of the rows themselves. NULL states are skipped; NULL without a purchase. Errors: 22023 when the states have different as_of.';

CREATE AGGREGATE cdp._rfm_detail(occurred_at timestamptz, amount numeric, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_detail_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp._rfm_detail(timestamptz, numeric, timestamptz) IS 'internal: as cdp.rfm, with all facts of the state';
CREATE AGGREGATE cdp._rfm_detail(occurred_at timestamptz, amount numeric, as_of timestamptz, refunded numeric) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_detail_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp._rfm_detail(timestamptz, numeric, timestamptz, numeric) IS 'internal: as cdp.rfm over orders that know their refunds, with all facts of the state';

CREATE FUNCTION cdp._purchases_query(query text) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_purchases_query';
COMMENT ON FUNCTION cdp._purchases_query(text) IS 'internal: a query for purchases, looked up in the caller''s search_path, checked, and printed so that it needs none; columns customer_id, occurred_at, amount and, when it has four, currency. Errors: 42601, 42804 and 0A000 with a hint, and those of the query itself.';

CREATE FUNCTION cdp._rfm_refuse(message text, hint text) RETURNS boolean
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = message, HINT = hint;
END $$;
COMMENT ON FUNCTION cdp._rfm_refuse(text, text) IS 'internal: raises 22023';

CREATE FUNCTION cdp._rfm_one_currency(lowest text, highest text) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN lowest <> highest THEN cdp._rfm_refuse(format('purchases are in more than one currency, %s and %s among them', lowest, highest),
	'Name the currency of the result, currency => ''CNY'', and give the rates in cdp.currency_rate; or select one currency in the query.') ELSE true END;
COMMENT ON FUNCTION cdp._rfm_one_currency(text, text) IS 'internal: true, or 22023 when there are two currencies';

CREATE FUNCTION cdp._rfm_rate(rate numeric, from_currency text, to_currency text) RETURNS numeric
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF rate IS NULL THEN
		PERFORM cdp._rfm_refuse(format('there is no rate from %s to %s for the time of some purchase', from_currency, to_currency),
			'Insert it into cdp.currency_rate, with valid_from before the first purchase.');
	END IF;
	RETURN rate;
END $$;
COMMENT ON FUNCTION cdp._rfm_rate(numeric, text, text) IS 'internal: the rate, or 22023 when there is none';

CREATE FUNCTION cdp._rfm_check(o cdp._rfm_options) RETURNS cdp._rfm_options
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- Fills in defaults (an argument that is NULL means its default) and refuses what makes no sense.
BEGIN
	o.as_of := coalesce(o.as_of, cdp.now());
	o.method := coalesce(o.method, 'quintile');
	o.bins := coalesce(o.bins, 5);
	o.high := coalesce(o.high, 'mean');
	o.monetary := coalesce(o.monetary, 'sum');
	o.refunds := coalesce(o.refunds, 'net');
	o.lang := coalesce(o.lang, 'zh');
	IF NOT isfinite(o.as_of) THEN
		PERFORM cdp._rfm_refuse('as_of must be a finite time', 'Leave it out for now.');
	ELSIF o.method NOT IN ('quintile', 'nested', 'threshold') THEN
		PERFORM cdp._rfm_refuse(format('there is no method "%s"', o.method), 'The methods are quintile, nested and threshold.');
	ELSIF o.bins NOT BETWEEN 2 AND 100 THEN
		PERFORM cdp._rfm_refuse(format('bins is %s', o.bins), 'It must lie between 2 and 100; the usual number is 5.');
	ELSIF o.high NOT IN ('mean', 'median') THEN
		PERFORM cdp._rfm_refuse(format('there is no high "%s"', o.high), 'The values are mean and median; limits of your own are r_high, f_high and m_high.');
	ELSIF o.monetary NOT IN ('sum', 'mean') THEN
		PERFORM cdp._rfm_refuse(format('there is no monetary "%s"', o.monetary), 'The values are sum and mean (per purchase).');
	ELSIF o.refunds NOT IN ('ignore', 'net') THEN
		PERFORM cdp._rfm_refuse(format('there is no rule for refunds "%s"', o.refunds), 'The rules are ignore and net.');
	ELSIF o.lang NOT IN ('zh', 'en') THEN
		PERFORM cdp._rfm_refuse(format('there is no language "%s"', o.lang), 'The languages are zh and en.');
	ELSIF 'NaN' IN (o.f_high, o.m_high) THEN
		PERFORM cdp._rfm_refuse('a limit is not a number', 'Give f_high and m_high as numbers, or leave them out.');
	END IF;
	IF o.method = 'threshold' THEN
		PERFORM cdp._rfm_check_cuts('r_cuts', o.r_cuts, o.bins), cdp._rfm_check_cuts('f_cuts', o.f_cuts, o.bins),
			cdp._rfm_check_cuts('m_cuts', o.m_cuts, o.bins);
	ELSIF o.r_cuts IS NOT NULL OR o.f_cuts IS NOT NULL OR o.m_cuts IS NOT NULL THEN
		PERFORM cdp._rfm_refuse(format('method %s takes no cuts', o.method), 'Say method => ''threshold''.');
	END IF;
	RETURN o;
END $$;
COMMENT ON FUNCTION cdp._rfm_check(cdp._rfm_options) IS 'internal: the arguments of cdp.rfm_table with their defaults; 22023 for what makes no sense';

CREATE FUNCTION cdp._rfm_check_cuts(name text, cuts anyarray, bins int) RETURNS void
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF cuts IS NULL OR array_ndims(cuts) IS DISTINCT FROM 1 OR cardinality(cuts) <> bins - 1 THEN
		PERFORM cdp._rfm_refuse(format('method threshold needs %s with %s values, one less than bins', name, bins - 1),
			'For five scores for example f_cuts => ''{2,3,5,10}'' and r_cuts => ''{7 days,30 days,90 days,180 days}''.');
	ELSIF EXISTS (SELECT FROM (SELECT c, lag(c) OVER (ORDER BY ord) AS before FROM unnest(cuts) WITH ORDINALITY u(c, ord)) x
	              WHERE c IS NULL OR c <= before OR c::text = 'NaN') THEN
		PERFORM cdp._rfm_refuse(format('%s must be ascending, each value once, without NULL', name), 'Sort it.');
	END IF;
END $$;
COMMENT ON FUNCTION cdp._rfm_check_cuts(text, anyarray, int) IS 'internal: 22023 unless cuts has bins - 1 ascending values';

CREATE FUNCTION cdp._rfm_sql(source text, has_refunded boolean, has_currency boolean, o cdp._rfm_options) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- The statement behind rfm_table.  Parameters: $1 as_of, $2 bins, $3 $4 $5 cuts of r, f, m, $6 $7 $8 limits of
-- r, f, m, $9 lang, $10 currency.  Only the fixed words of o shape the text; every value of the caller is a parameter.
DECLARE
	amount text := 's.amount';
	taken  text := 's.refunded';
	rates  text := '';
	scores text;
	x      text;
	limits text := '';
	highs  text := '';
	m      text;
	given  boolean;
BEGIN
	IF o.currency IS NOT NULL THEN
		IF NOT has_currency THEN
			PERFORM cdp._rfm_refuse('the query returns no currency', 'Add it as fourth column, or leave out the argument currency.');
		END IF;
		amount := 'CASE WHEN s.currency = $10 THEN s.amount ELSE s.amount * cdp._rfm_rate(e.rate, s.currency, $10) END';
		taken := 'CASE WHEN s.currency = $10 THEN s.refunded ELSE s.refunded * cdp._rfm_rate(e.rate, s.currency, $10) END';
		-- cdp.convert_amount() as a join; of two rows for one moment, one in each direction, the direct one counts
		rates := $q$ LEFT JOIN (
			SELECT currency, rate, valid_from, lead(valid_from) OVER (PARTITION BY currency ORDER BY valid_from) AS valid_to
			FROM (SELECT DISTINCT ON (currency, valid_from) currency, rate, valid_from FROM (
				SELECT from_currency AS currency, rate, valid_from, 1 AS way FROM cdp.currency_rate WHERE to_currency = $10
				UNION ALL SELECT to_currency, 1 / rate, valid_from, 2 FROM cdp.currency_rate WHERE from_currency = $10) b
				ORDER BY currency, valid_from, way) d
			) e ON e.currency = s.currency AND s.currency <> $10
			   AND s.occurred_at >= e.valid_from AND (e.valid_to IS NULL OR s.occurred_at < e.valid_to)$q$;
	END IF;
	CASE o.method
	WHEN 'quintile' THEN
		scores := $q$SELECT w.*,
			1 + ($2 * (rank() OVER (ORDER BY last_at) - 1) / count(*) OVER ())::int AS r,
			1 + ($2 * (rank() OVER (ORDER BY frequency) - 1) / count(*) OVER ())::int AS f,
			1 + ($2 * (rank() OVER (ORDER BY monetary) - 1) / count(*) OVER ())::int AS m FROM who w$q$;
	WHEN 'nested' THEN
		scores := $q$SELECT b.*, 1 + ($2 * (rank() OVER (PARTITION BY r, f ORDER BY monetary) - 1) / count(*) OVER (PARTITION BY r, f))::int AS m FROM (
			SELECT a.*, 1 + ($2 * (rank() OVER (PARTITION BY r ORDER BY frequency) - 1) / count(*) OVER (PARTITION BY r))::int AS f FROM (
			SELECT w.*, 1 + ($2 * (rank() OVER (ORDER BY last_at) - 1) / count(*) OVER ())::int AS r FROM who w) a) b$q$;
	WHEN 'threshold' THEN
		-- a score falls when recency is beyond a cut, and rises when frequency or money reaches one
		scores := $q$SELECT w.*, $2 - (SELECT count(*) FROM unnest($3) c WHERE c < w.recency)::int AS r,
			1 + width_bucket(frequency::numeric, $4) AS f, 1 + width_bucket(monetary, $5) AS m FROM who w$q$;
	END CASE;
	-- High is compared without division: measure * a against b, with a = n and b = sum for the mean, a = 2 and b the
	-- two middle values together for the median.
	FOREACH m IN ARRAY ARRAY['r', 'f', 'm'] LOOP
		x := CASE m WHEN 'r' THEN 'seconds' WHEN 'f' THEN 'frequency' ELSE 'monetary' END;
		given := CASE m WHEN 'r' THEN o.r_high IS NOT NULL WHEN 'f' THEN o.f_high IS NOT NULL ELSE o.m_high IS NOT NULL END;
		IF given THEN
			highs := highs || CASE m WHEN 'r' THEN ' || (s.recency <= $6)::int' WHEN 'f' THEN ' || (s.frequency >= $7)::int'
				ELSE ' || (s.monetary >= $8)::int' END;
		ELSE
			limits := limits || format(CASE o.high WHEN 'mean' THEN ', count(*)::numeric AS %1$s_a, sum(%2$s)::numeric AS %1$s_b'
				ELSE ', 2::numeric AS %1$s_a, percentile_disc(0.5) WITHIN GROUP (ORDER BY %2$s)::numeric + percentile_disc(0.5) WITHIN GROUP (ORDER BY %2$s DESC) AS %1$s_b'
				END, m, x);
			highs := highs || format(' || (s.%2$s * l.%1$s_a %3$s l.%1$s_b)::int', m, x, CASE m WHEN 'r' THEN '<=' ELSE '>=' END);
		END IF;
	END LOOP;
	RETURN format($q$
		WITH grp AS (
			SELECT s.customer_id, cdp._rfm_detail(s.occurred_at, %s, $1%s) AS d%s
			FROM (%s) s%s WHERE s.customer_id IS NOT NULL%s GROUP BY s.customer_id
		), who AS MATERIALIZED (
			SELECT customer_id, $1 - (d).last_at AS recency, extract(epoch FROM $1) - extract(epoch FROM (d).last_at) AS seconds,
				(d).frequency, %s AS monetary, (d).first_at, (d).last_at, (d).gross, %s AS refunded%s
			FROM (SELECT * FROM grp OFFSET 0) g WHERE (d).frequency IS NOT NULL
		), lim AS (SELECT count(*) AS n%s FROM who%s)
		SELECT s.customer_id, s.recency, s.frequency, s.monetary, s.first_at, s.last_at, s.gross, s.refunded, s.r, s.f, s.m,
			concat_ws(CASE WHEN $2 > 9 THEN '-' ELSE '' END, s.r, s.f, s.m), coalesce(CASE $9 WHEN 'en' THEN g.label_en ELSE g.label_zh END, g8)
		FROM lim l CROSS JOIN (%s) s CROSS JOIN LATERAL (SELECT ''%s AS g8 OFFSET 0) k
		LEFT JOIN cdp.rfm_group g ON g.rfm_group = k.g8 AND g.scheme = 8$q$,
		amount,
		CASE WHEN has_refunded THEN ', ' || taken ELSE '' END,
		CASE WHEN has_currency THEN ', min(s.currency COLLATE "C") AS lowest, max(s.currency COLLATE "C") AS highest' ELSE '' END,
		source, rates,
		CASE WHEN has_currency THEN ' AND s.currency IS NOT NULL AND (s.occurred_at <= $1 OR s.occurred_at = ''infinity'') AND s.amount IS NOT NULL' ELSE '' END,
		format(CASE o.monetary WHEN 'mean' THEN '%s / (d).frequency' ELSE '%s' END, CASE o.refunds WHEN 'net' THEN '(d).net' ELSE '(d).gross' END),
		CASE o.refunds WHEN 'net' THEN '(d).refunded' ELSE '0::numeric' END,
		CASE WHEN has_currency THEN ', lowest, highest' ELSE '' END,
		limits,
		CASE WHEN has_currency AND o.currency IS NULL THEN ' HAVING cdp._rfm_one_currency(min(lowest), max(highest))' ELSE '' END,
		scores, highs);
END $$;
COMMENT ON FUNCTION cdp._rfm_sql(text, boolean, boolean, cdp._rfm_options) IS 'internal: the statement behind cdp.rfm_table over a source with columns customer_id, occurred_at, amount [, refunded] [, currency]';

CREATE FUNCTION cdp._rfm_query(source text, o cdp._rfm_options)
	RETURNS TABLE (customer_id bigint, recency interval, frequency bigint, monetary numeric, first_at timestamptz, last_at timestamptz,
		gross numeric, refunded numeric, r int, f int, m int, score text, group8 text)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
-- The source comes from cdp._purchases_query and runs as the caller; functions in it cannot write either.
BEGIN
	o := cdp._rfm_check(o);
	PERFORM cdp._begin_read_only();
	RETURN QUERY EXECUTE cdp._rfm_sql(source, false, source LIKE '%q(c1, c2, c3, c4)', o)
		USING o.as_of, o.bins, o.r_cuts, o.f_cuts, o.m_cuts, o.r_high, o.f_high, o.m_high, o.lang, o.currency;
	PERFORM cdp._end_read_only();
END $$;
COMMENT ON FUNCTION cdp._rfm_query(text, cdp._rfm_options) IS 'internal: cdp.rfm_table over a query';

CREATE FUNCTION cdp._normalize(kind text, value text) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_normalize_sql';
COMMENT ON FUNCTION cdp._normalize(text, text) IS 'internal: the comparable form of a value under the rules of its kind; NULL when the kind is unknown or refuses it';

CREATE FUNCTION cdp._has_trait_type(value jsonb, value_type text) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT CASE value_type
		WHEN 'integer' THEN jsonb_typeof(value) = 'number' AND value::numeric = trunc(value::numeric)
		WHEN 'date' THEN jsonb_typeof(value) = 'string' AND (value #>> '{}') ~ '^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$'
			AND substr(value #>> '{}', 9, 2)::int <= CASE
				WHEN substr(value #>> '{}', 6, 2) IN ('04', '06', '09', '11') THEN 30
				WHEN substr(value #>> '{}', 6, 2) <> '02' THEN 31
				WHEN substr(value #>> '{}', 1, 4)::int % 4 = 0 AND (substr(value #>> '{}', 1, 4)::int % 100 <> 0
					OR substr(value #>> '{}', 1, 4)::int % 400 = 0) THEN 29
				ELSE 28 END
		ELSE jsonb_typeof(value) = value_type END;
END;
COMMENT ON FUNCTION cdp._has_trait_type(jsonb, text) IS 'internal: whether a JSON value is of a type of cdp.trait_definition';

CREATE FUNCTION cdp._demo_u(n bigint, salt int, seed int) RETURNS float8
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN ((hashint8extended(n, seed::bigint * 1000003 + salt) >> 11) & 9007199254740991) / 9007199254740992.0::float8;
COMMENT ON FUNCTION cdp._demo_u(bigint, int, int) IS 'internal: the number in [0, 1) that belongs to row n, purpose salt and seed';

CREATE FUNCTION cdp._demo_pick(list text[], n bigint, salt int, seed int) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN list[1 + floor(cdp._demo_u(n, salt, seed) * cardinality(list))::int];
COMMENT ON FUNCTION cdp._demo_pick(text[], bigint, int, int) IS 'internal: the element of list that belongs to row n, purpose salt and seed';

CREATE FUNCTION cdp._demo_spelling(phone text, way int) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE way WHEN 0 THEN phone WHEN 1 THEN '+86 ' || phone WHEN 2 THEN '0086' || phone
		WHEN 3 THEN regexp_replace(phone, '(...)(....)(....)', '\1-\2-\3')
		WHEN 4 THEN regexp_replace(phone, '(...)(....)(....)', '+86 (\1) \2 \3')
		ELSE translate(phone, '0123456789', '０１２３４５６７８９') END;
COMMENT ON FUNCTION cdp._demo_spelling(text, int) IS 'internal: one of six ways to write a Chinese mobile number';

CREATE FUNCTION cdp._demo_campaign(at timestamptz) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
	RETURN (SELECT CASE WHEN d BETWEEN '0105' AND '0205' THEN '年货节' WHEN d BETWEEN '0301' AND '0308' THEN '女神节'
		WHEN d BETWEEN '0525' AND '0620' THEN '618' WHEN d BETWEEN '0801' AND '0812' THEN '七夕'
		WHEN d BETWEEN '1020' AND '1112' THEN '双11' ELSE 'always-on' END
		FROM (SELECT to_char(at AT TIME ZONE 'Asia/Shanghai', 'MMDD') AS d) x);
COMMENT ON FUNCTION cdp._demo_campaign(timestamptz) IS 'internal: which campaign of the synthetic retailer ran then';

CREATE FUNCTION cdp._demo_begin(customers int, seed int) RETURNS timestamptz
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- Checks, and the end of the 18 months.  Ids begin at 1 again: an earlier try that was rolled back has used some.
DECLARE
	t      text;
	c      text;
	filled boolean;
BEGIN
	PERFORM cdp._require_version();
	IF customers IS NULL OR seed IS NULL THEN
		RAISE EXCEPTION 'customers and seed must not be NULL'
			USING ERRCODE = 'null_value_not_allowed', HINT = 'CALL cdp.load_demo(); makes 10,000 customers with seed 42.';
	ELSIF customers NOT BETWEEN 10 AND 1000000 THEN
		RAISE EXCEPTION 'customers is %', customers
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 10 to 1000000.';
	END IF;
	FOREACH t IN ARRAY '{profile,event,sales_order,sales_order_line,product}'::text[] LOOP
		EXECUTE format('SELECT EXISTS (SELECT FROM cdp.%I)', t) INTO filled;
		IF filled THEN
			RAISE EXCEPTION 'this database already holds customers, events, orders or products'
				USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Load the demo into a database of its own: CREATE DATABASE demo, there CREATE EXTENSION customer_cdp and CALL cdp.migrate().';
		END IF;
	END LOOP;
	FOR t, c IN VALUES ('profile', 'profile_id'), ('identifier', 'identifier_id'), ('identity_link', 'link_id'),
		('merge_log', 'merge_id'), ('merge_refusal', 'refusal_id'), ('sales_order_line', 'line_id'), ('event', 'event_id')
	LOOP
		EXECUTE format('SELECT EXISTS (SELECT FROM cdp.%I)', t) INTO filled;
		IF t = 'event' THEN
			filled := EXISTS (SELECT FROM cdp.event_key) OR EXISTS (SELECT FROM cdp.event_reject);
		END IF;
		IF NOT filled THEN
			PERFORM setval(pg_get_serial_sequence('cdp.' || t, c), 1, false);
		END IF;
	END LOOP;
	RETURN CASE current_setting('cdp.now') WHEN '' THEN '2025-07-01 00:00:00+08'::timestamptz
		ELSE date_trunc('day', cdp.now(), 'Asia/Shanghai') END;
END $$;
COMMENT ON FUNCTION cdp._demo_begin(int, int) IS 'internal: first step of load_demo, answers the moment up to which it plays';

CREATE FUNCTION cdp._demo_people(customers int, seed int, start_at timestamptz, end_at timestamptz) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	span float8 := extract(epoch FROM end_at - start_at);
BEGIN
	-- cycle: days after which such a thing is usually bought again
	CREATE TEMP TABLE _cdp_demo_category ON COMMIT DROP AS
	SELECT * FROM (VALUES (1, 'CF', '咖啡', 59, 24), (2, 'SN', '零食', 29, 17), (3, 'BB', '母婴', 218, 28), (4, 'PT', '宠物', 119, 35),
		(5, 'HC', '家清', 45, 48), (6, 'SK', '护肤', 189, 62), (7, 'SP', '运动', 269, 120), (8, 'DG', '数码', 399, 240)) c(no, code, category, price, cycle);
	CREATE TEMP TABLE _cdp_demo_product ON COMMIT DROP AS
	SELECT (c.no - 1) * 12 + n AS no, c.no AS category_no, format('%s-%s', c.code, lpad(n::text, 3, '0')) AS product_id,
		cdp._demo_pick('{经典,轻享,家庭装,限定,加量,迷你}', n, 100 + c.no, seed) || c.category || n || '号' AS name, c.category,
		round((c.price * (0.5 + 1.5 * cdp._demo_u(n, 200 + c.no, seed)))::numeric, 0) - 0.10 AS price
	FROM _cdp_demo_category c, generate_series(1, 12) n;
	CREATE TEMP TABLE _cdp_demo_shop ON COMMIT DROP AS
	SELECT * FROM (VALUES (1, 'SH01', '上海南京东路店', '上海', 31.2354, 121.4809), (2, 'BJ01', '北京三里屯店', '北京', 39.9339, 116.4546),
		(3, 'GZ01', '广州天河城店', '广州', 23.1325, 113.3215), (4, 'SZ01', '深圳万象城店', '深圳', 22.5387, 114.1101),
		(5, 'CD01', '成都太古里店', '成都', 30.6538, 104.0834), (6, 'HZ01', '杭州湖滨店', '杭州', 30.2549, 120.1642)) s(no, store_id, name, city, lat, lon);

	-- origin: visitor (never says who he is), web, wechat, store.  first_at: first visit; join_at: says who he is.
	-- buys: most nothing or once, few very often.
	CREATE TEMP TABLE _cdp_demo_person ON COMMIT DROP AS
	SELECT p.n, p.origin, p.english, p.shop_no, s.city, p.category_no, c.cycle, p.gender,
		CASE WHEN p.english THEN cdp._demo_pick('{James,Emma,Oliver,Sophia,Daniel,Grace,Thomas,Alice,Henry,Laura}', n, 5, seed) || ' '
			|| cdp._demo_pick('{Miller,Brown,Wilson,Clarke,Evans,Fischer,Martin,Lee,Young,Baker}', n, 6, seed)
		ELSE cdp._demo_pick('{王,李,张,刘,陈,杨,赵,黄,周,吴,徐,孙,欧阳,上官}', n, 5, seed) || cdp._demo_pick('{伟,芳,娜,敏,静,强,磊,洋,艳,勇,杰,婷}', n, 6, seed)
			|| cdp._demo_pick('{"",明,华,丽,"",平,霞,鹏,"",宇,欣}', n, 7, seed) END AS name,
		cdp._demo_pick('{138,139,150,158,177,186,188,199}', n, 8, seed) || lpad((12345678 + n::bigint * 7919 % 87654321)::text, 8, '0') AS phone,
		date '1958-01-01' + floor(17500 * cdp._demo_u(n, 9, seed))::int AS birthday,
		p.first_at, CASE WHEN p.origin <> 'visitor' THEN p.first_at + interval '1 second' * round(
			CASE WHEN p.origin = 'store' THEN 0 ELSE least(30 * 86400, extract(epoch FROM end_at - p.first_at) * 0.5) * power(cdp._demo_u(n, 10, seed), 2) END) END AS join_at,
		CASE WHEN p.origin = 'visitor' OR cdp._demo_u(n, 11, seed) < 0.25 THEN 0
			ELSE least(80, floor(0.9 * power(1 - cdp._demo_u(n, 12, seed), -0.85)))::int END AS buys
	FROM (
		SELECT n, cdp._demo_u(n, 1, seed) < 0.12 AS english, 1 + floor(6 * power(cdp._demo_u(n, 2, seed), 1.3))::int AS shop_no,
			CASE WHEN u < 0.10 THEN 'visitor' WHEN u < 0.45 THEN 'web' WHEN u < 0.75 THEN 'wechat' ELSE 'store' END AS origin,
			1 + floor(8 * power(cdp._demo_u(n, 4, seed), 1.2))::int AS category_no, cdp._demo_pick('{f,f,m}', n, 13, seed) AS gender,
			-- in the hours from 8 to 22
			date_trunc('day', start_at + interval '1 second' * floor((span - 3 * 86400) * power(cdp._demo_u(n, 14, seed), 0.8)), 'Asia/Shanghai')
				+ interval '1 second' * floor(28800 + 50400 * cdp._demo_u(n, 15, seed)) AS first_at
		FROM (SELECT n, cdp._demo_u(n, 3, seed) AS u FROM generate_series(1, customers) n) g
	) p JOIN _cdp_demo_shop s ON s.no = p.shop_no JOIN _cdp_demo_category c ON c.no = p.category_no;
	ANALYZE _cdp_demo_person;

	PERFORM cdp._apply_products(array_agg(product_id ORDER BY no), array_agg(name ORDER BY no), array_agg(category ORDER BY no),
		array_agg(price ORDER BY no), array_agg('CNY'::text), array_agg('listed'::text), NULL) FROM _cdp_demo_product;
	UPDATE cdp.product SET updated_at = start_at;
END $$;
COMMENT ON FUNCTION cdp._demo_people(int, int, timestamptz, timestamptz) IS 'internal: second step of load_demo, the retailer and its people, as temporary tables';

CREATE FUNCTION cdp._demo_identify(seed int, end_at timestamptz) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- What was seen of whom and when; part says which profile of a person later facts belong to.
	CREATE TEMP TABLE _cdp_demo_sighting ON COMMIT DROP AS
	SELECT row_number() OVER (ORDER BY s.at, s.n, s.part) AS ord, s.*, NULL::bigint AS profile_id
	FROM (
		SELECT n, 'cookie' AS part, first_at AS at, 'web' AS source, jsonb_build_object('anonymous_id', 'a-' || md5(seed || '/' || n)) AS identifiers, '{}'::jsonb AS traits
		FROM _cdp_demo_person WHERE origin <> 'store'
		UNION ALL
		-- logs in for the first time, with the cookie; at the till a customer number is given out
		SELECT n, 'join', join_at, origin,
			CASE origin WHEN 'store' THEN jsonb_build_object('customer_no', 'C' || lpad(n::text, 7, '0'), 'phone', cdp._demo_spelling(phone, floor(6 * cdp._demo_u(n, 20, seed))::int))
			ELSE jsonb_strip_nulls(jsonb_build_object('member_id', 'M' || lpad(n::text, 7, '0'), 'phone', cdp._demo_spelling(phone, floor(6 * cdp._demo_u(n, 20, seed))::int),
				'anonymous_id', 'a-' || md5(seed || '/' || n), 'wechat_openid', CASE origin WHEN 'wechat' THEN 'oX' || left(md5(seed || '/open/' || n), 20) END,
				'wechat_unionid', CASE origin WHEN 'wechat' THEN 'uX' || left(md5(seed || '/union/' || n), 20) END)) END,
			jsonb_build_object('name', name, 'gender', gender, 'birthday', birthday, 'city', city, 'language', CASE WHEN english THEN 'en' ELSE 'zh' END)
		FROM _cdp_demo_person WHERE origin <> 'visitor'
		UNION ALL
		-- an online customer comes into a shop and gives his phone, in yet another spelling
		SELECT n, 'till', least(join_at + interval '1 second' * floor(86400 * 60 * cdp._demo_u(n, 22, seed)), end_at - interval '1 hour'), 'store',
			jsonb_build_object('phone', cdp._demo_spelling(phone, floor(6 * cdp._demo_u(n, 23, seed))::int)), '{}'
		FROM _cdp_demo_person WHERE origin IN ('web', 'wechat') AND cdp._demo_u(n, 21, seed) < 0.35
		UNION ALL
		-- and a customer of a shop registers online: two profiles become one by their phone
		SELECT n, 'online', least(join_at + interval '1 second' * floor(86400 * 90 * cdp._demo_u(n, 25, seed)), end_at - interval '30 minutes'), 'web',
			jsonb_build_object('member_id', 'M' || lpad(n::text, 7, '0'), 'phone', cdp._demo_spelling(phone, floor(6 * cdp._demo_u(n, 26, seed))::int)),
			jsonb_build_object('name', name, 'city', city)
		FROM _cdp_demo_person WHERE origin = 'store' AND cdp._demo_u(n, 24, seed) < 0.3
		UNION ALL
		SELECT n, 'email', least(join_at + interval '1 second' * floor(86400 * 30 * cdp._demo_u(n, 28, seed)), end_at - interval '20 minutes'), 'web',
			jsonb_build_object('member_id', 'M' || lpad(n::text, 7, '0'), 'email', CASE WHEN english THEN replace(name, ' ', '.') ELSE 'User' END || n
				|| cdp._demo_pick('{@example.com,@Example.COM,@example.cn}', n, 29, seed)), '{}'
		FROM _cdp_demo_person WHERE origin IN ('web', 'wechat') AND cdp._demo_u(n, 27, seed) < 0.4
		UNION ALL
		-- a phone or a tablet; one in 25 is the household's, which the neighbour in the list logs in on as well
		SELECT n, 'device', least(join_at + interval '1 second' * floor(86400 * 20 * cdp._demo_u(n, 31, seed)), end_at - interval '10 minutes'), 'app',
			jsonb_build_object('member_id', 'M' || lpad(n::text, 7, '0'), 'device_id', 'd-' || left(md5(seed || '/device/'
				|| CASE WHEN cdp._demo_u((n + 1) / 2, 32, seed) < 0.04 THEN (n + 1) / 2 * 2 ELSE n END), 16)), '{}'
		FROM _cdp_demo_person WHERE origin IN ('web', 'wechat') AND (cdp._demo_u(n, 30, seed) < 0.5 OR cdp._demo_u((n + 1) / 2, 32, seed) < 0.04)
	) s;
	FOR batch IN 0 .. (SELECT max(ord) / 5000 FROM _cdp_demo_sighting) LOOP
		UPDATE _cdp_demo_sighting s SET profile_id = i.profile_id
		FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', q.identifiers, 'traits', q.traits, 'source', q.source,
				'occurred_at', q.at) ORDER BY q.ord) FROM _cdp_demo_sighting q WHERE q.ord > batch * 5000 AND q.ord <= (batch + 1) * 5000)) i
		WHERE s.ord = batch * 5000 + i.ord;
	END LOOP;
	CREATE INDEX ON _cdp_demo_sighting (n, part);
	ANALYZE _cdp_demo_sighting;
	UPDATE cdp.identity_link SET linked_at = occurred_at;
	UPDATE cdp.merge_log m SET at = greatest(a.created_at, b.created_at)
	FROM cdp.profile a, cdp.profile b WHERE a.profile_id = m.customer_id AND b.profile_id = m.other_id;
	UPDATE cdp.merge_refusal SET at = occurred_at WHERE occurred_at IS NOT NULL;
END $$;
COMMENT ON FUNCTION cdp._demo_identify(int, timestamptz) IS 'internal: third step of load_demo, what the people said of themselves, in the order of time';

CREATE FUNCTION cdp._demo_orders(seed int, end_at timestamptz) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- the great sale: orders of some weeks around it wait for it, or come forward
	sale timestamptz := make_timestamptz(extract(year FROM (end_at - interval '330 days') AT TIME ZONE 'Asia/Shanghai')::int, 11, 11, 0, 0, 0, 'Asia/Shanghai');
BEGIN
	CREATE TEMP TABLE _cdp_demo_order ON COMMIT DROP AS
	SELECT 'SO' || lpad((row_number() OVER (ORDER BY o.at, o.n, o.k))::text, 8, '0') AS order_id, row_number() OVER (ORDER BY o.at, o.n, o.k) AS ord,
		o.*, s.profile_id, d.dead, NULL::numeric AS amount,
		CASE WHEN o.in_store THEN o.at WHEN NOT d.dead AND NOT (cdp._demo_u(o.h, 44, seed) < 0.5 AND o.at > end_at - interval '1 day') THEN o.at + interval '4 minutes' END AS paid_at,
		CASE WHEN NOT o.in_store AND NOT d.dead THEN o.at + interval '1 second' * floor(43200 + 86400 * cdp._demo_u(o.h, 45, seed)) END AS shipped_at,
		CASE WHEN o.in_store THEN o.at WHEN NOT d.dead THEN o.at + interval '1 second' * floor(86400 * (3.5 + 3 * cdp._demo_u(o.h, 46, seed))) END AS completed_at
	FROM (
		SELECT x.n, x.k, x.h, x.in_store, x.shop_no, x.origin,
			CASE WHEN cdp._demo_u(x.h, 47, seed) < 0.75 THEN x.category_no ELSE 1 + floor(8 * cdp._demo_u(x.h, 48, seed))::int END AS category_no,
			CASE WHEN NOT x.in_store AND x.at BETWEEN sale - interval '25 days' AND sale + interval '20 days' AND x.since < sale
			          AND cdp._demo_u(x.h, 49, seed) < 0.5
			     THEN sale + interval '1 second' * floor(86000 * power(cdp._demo_u(x.h, 50, seed), 2)) ELSE x.at END AS at
		FROM (
			-- who is known in both worlds buys in both, from then on
			SELECT w.*, greatest(w.join_at, t.at) AS since,
				CASE WHEN t.at IS NULL OR w.at < t.at + interval '10 minutes' THEN w.origin = 'store'
				     ELSE cdp._demo_u(w.h, 41, seed) < CASE w.origin WHEN 'store' THEN 0.7 ELSE 0.4 END END AS in_store
			FROM (
				SELECT p.*, k, p.n::bigint * 100 + k AS h,
					p.join_at + interval '1 second' * floor(sum(CASE WHEN k = 1 THEN 600 + 86400 * 12 * power(cdp._demo_u(p.n, 42, seed), 3)
						ELSE 86400 * p.cycle / (1 + ln(p.buys)) * (0.5 + cdp._demo_u(p.n::bigint * 100 + k, 43, seed)) END)
						OVER (PARTITION BY p.n ORDER BY k)) AS at
				FROM _cdp_demo_person p CROSS JOIN LATERAL generate_series(1, p.buys) k
			) w LEFT JOIN _cdp_demo_sighting t ON t.n = w.n AND t.part = CASE w.origin WHEN 'store' THEN 'online' ELSE 'till' END
		) x
	) o
	CROSS JOIN LATERAL (SELECT NOT o.in_store AND cdp._demo_u(o.h, 40, seed) < 0.03 AS dead) d
	JOIN _cdp_demo_sighting s ON s.n = o.n AND s.part = CASE WHEN o.in_store = (o.origin = 'store') THEN 'join' WHEN o.in_store THEN 'till' ELSE 'online' END
	WHERE o.at < end_at;
	CREATE TEMP TABLE _cdp_demo_line ON COMMIT DROP AS
	SELECT o.order_id, i AS line_no, p.product_id, p.name, p.category, p.price, 1 + floor(3 * power(cdp._demo_u(o.h * 10 + i, 60, seed), 4))::int AS quantity
	FROM _cdp_demo_order o CROSS JOIN LATERAL generate_series(1, 1 + floor(4 * power(cdp._demo_u(o.h, 61, seed), 2))::int) i
	JOIN _cdp_demo_product p ON p.no = floor(12 * cdp._demo_u(o.h * 10 + i, 62, seed))::int + 1
		+ 12 * (CASE WHEN i = 1 THEN o.category_no - 1 ELSE floor(8 * cdp._demo_u(o.h * 10 + i, 63, seed))::int END);
	CREATE INDEX ON _cdp_demo_line (order_id);
	UPDATE _cdp_demo_order o SET amount = l.amount FROM (SELECT order_id, sum(quantity * price) AS amount FROM _cdp_demo_line GROUP BY order_id) l WHERE l.order_id = o.order_id;
	CREATE INDEX ON _cdp_demo_order (ord);
	ANALYZE _cdp_demo_order, _cdp_demo_line;

	FOR batch IN 0 .. (SELECT coalesce(max(ord), 0) / 5000 FROM _cdp_demo_order) LOOP
		PERFORM cdp._apply_orders(array_agg(o.profile_id ORDER BY ord), array_agg(o.order_id ORDER BY ord), array_agg(o.at ORDER BY ord),
			array_agg(CASE WHEN o.dead THEN 'cancelled' WHEN o.completed_at < end_at THEN 'completed' WHEN o.shipped_at < end_at THEN 'shipped'
				WHEN o.paid_at < end_at THEN 'paid' ELSE 'placed' END ORDER BY ord),
			array_agg(o.amount ORDER BY ord), array_agg(0::numeric), array_agg('CNY'::text),
			array_agg(CASE WHEN o.in_store THEN 'store' WHEN o.origin = 'wechat' THEN 'wechat' ELSE cdp._demo_pick('{app,web}', o.h, 51, seed) END ORDER BY ord),
			array_agg(CASE WHEN o.in_store THEN s.store_id END ORDER BY ord), array_agg(cdp._demo_pick('{wechat,wechat,alipay,card}', o.h, 52, seed) ORDER BY ord),
			array_agg(CASE WHEN o.paid_at < end_at THEN o.paid_at END ORDER BY ord), array_agg(CASE WHEN o.shipped_at < end_at THEN o.shipped_at END ORDER BY ord),
			array_agg(CASE WHEN o.completed_at < end_at THEN o.completed_at END ORDER BY ord),
			array_agg(CASE WHEN o.shipped_at < end_at THEN 'SF' || (1000000000 + o.ord) END ORDER BY ord), NULL, false,
			array_agg(CASE WHEN o.dead THEN least(o.at + interval '2 hours', end_at - interval '1 second') END ORDER BY ord),
			jsonb_object_agg(o.order_id, l.products))
		FROM _cdp_demo_order o JOIN _cdp_demo_shop s ON s.no = o.shop_no
		JOIN (SELECT order_id, jsonb_agg(jsonb_build_object('product_id', product_id, 'category', category, 'quantity', quantity, 'price', price) ORDER BY line_no) AS products
		      FROM _cdp_demo_line GROUP BY order_id) l ON l.order_id = o.order_id
		WHERE o.ord > batch * 5000 AND o.ord <= (batch + 1) * 5000 HAVING count(*) > 0;
	END LOOP;
	PERFORM cdp._apply_order_lines(array_agg(order_id ORDER BY order_id, line_no), array_agg(line_no::bigint ORDER BY order_id, line_no),
		array_agg(product_id ORDER BY order_id, line_no), array_agg(quantity::numeric ORDER BY order_id, line_no), array_agg(price ORDER BY order_id, line_no),
		array_agg(category ORDER BY order_id, line_no), NULL) FROM _cdp_demo_line HAVING count(*) > 0;

	-- some of what was completed goes back, all of it or a half
	CREATE TEMP TABLE _cdp_demo_refund ON COMMIT DROP AS
	SELECT 'RF-' || o.order_id AS refund_id, o.order_id, o.profile_id, o.amount AS total, r.at,
		CASE WHEN cdp._demo_u(o.h, 71, seed) < 0.4 THEN o.amount ELSE round(o.amount / 2, 2) END AS amount,
		cdp._demo_pick('{尺寸不合适,质量问题,不喜欢,"damaged on arrival","changed mind"}', o.h, 72, seed) AS reason
	FROM _cdp_demo_order o CROSS JOIN LATERAL (SELECT o.completed_at + interval '1 second' * floor(86400 * (1 + 9 * cdp._demo_u(o.h, 73, seed))) AS at) r
	WHERE NOT o.dead AND cdp._demo_u(o.h, 70, seed) < 0.05 AND r.at < end_at;
	INSERT INTO cdp.sales_refund (refund_id, order_id, amount, reason, refunded_at)
		SELECT refund_id, order_id, amount, reason, at FROM _cdp_demo_refund ORDER BY refund_id;
	PERFORM cdp._insert_events(array_agg(profile_id ORDER BY refund_id), array_agg('Order Refunded'::text), array_agg(at ORDER BY refund_id),
		array_agg(jsonb_build_object('order_id', order_id, 'refund_id', refund_id, 'total', amount, 'currency', 'CNY', 'full', amount = total) ORDER BY refund_id),
		array_agg('refund/' || refund_id ORDER BY refund_id), array_agg('cdp'::text), array_agg(NULL::text), true) FROM _cdp_demo_refund HAVING count(*) > 0;
	-- the last touches: what the refunds changed, and times of the retailer's days instead of ours
	UPDATE cdp.sales_order o SET refunded = coalesce(r.amount, 0), status = cdp._order_status(o.status, o.amount, coalesce(r.amount, 0)),
		updated_at = greatest(o.ordered_at, o.paid_at, o.shipped_at, o.completed_at, o.cancelled_at, r.at)
	FROM _cdp_demo_order d LEFT JOIN _cdp_demo_refund r ON r.order_id = d.order_id WHERE o.order_id = d.order_id;
	UPDATE cdp.sales_order_line l SET updated_at = o.at FROM _cdp_demo_order o WHERE o.order_id = l.order_id;
	UPDATE cdp.event SET received_at = occurred_at WHERE source = 'cdp';
	UPDATE cdp.event_key k SET received_at = e.received_at FROM cdp.event e WHERE e.event_id = k.event_id;
END $$;
COMMENT ON FUNCTION cdp._demo_orders(int, timestamptz) IS 'internal: fourth step of load_demo, orders, lines and refunds';

CREATE FUNCTION cdp._demo_events(seed int, end_at timestamptz) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- a visit is a page, a search now and then, and products; before somebody has logged in it is the cookie's
	CREATE TEMP TABLE _cdp_demo_visit ON COMMIT DROP AS
	SELECT v.n, v.h, v.at, v.pages, s.profile_id, CASE WHEN v.origin = 'wechat' AND s.part <> 'cookie' THEN 'wechat' ELSE 'web' END AS channel,
		CASE WHEN cdp._demo_u(v.h, 80, seed) < 0.45 THEN cdp._demo_pick('{wechat,douyin,baidu,xiaohongshu,email,sms}', v.h, 81, seed) END AS utm_source
	FROM (
		SELECT p.n, p.origin, p.join_at, p.n::bigint * 1000 + k AS h, 1 + floor(3 * cdp._demo_u(p.n::bigint * 1000 + k, 82, seed))::int AS pages,
			p.first_at + interval '1 second' * floor(CASE WHEN k = 1 THEN 0 ELSE extract(epoch FROM end_at - p.first_at) * 0.95 * power(cdp._demo_u(p.n::bigint * 1000 + k, 83, seed), 1.5) END) AS at
		FROM _cdp_demo_person p CROSS JOIN LATERAL generate_series(1, 1 + floor(8 * power(cdp._demo_u(p.n, 84, seed), 2))::int) k
		WHERE p.origin <> 'store'
	) v JOIN _cdp_demo_sighting s ON s.n = v.n AND s.part = CASE WHEN v.at < v.join_at OR v.join_at IS NULL THEN 'cookie' ELSE 'join' END;

	INSERT INTO cdp.event (profile_id, name, occurred_at, received_at, properties, source, channel)
	SELECT e.profile_id, e.name, e.at, e.at, e.properties, e.source, e.channel
	FROM (
		SELECT v.profile_id, 'Page Viewed' AS name, v.at, 'web' AS source, v.channel, v.h, 0 AS k,
			jsonb_strip_nulls(jsonb_build_object('url', '/', 'duration', floor(5 + 120 * cdp._demo_u(v.h, 85, seed))::int, 'utm_source', v.utm_source,
				'utm_medium', CASE WHEN v.utm_source IN ('email', 'sms') THEN v.utm_source WHEN v.utm_source = 'baidu' THEN 'cpc' WHEN v.utm_source IS NOT NULL THEN 'social' END,
				'utm_campaign', CASE WHEN v.utm_source IS NOT NULL THEN cdp._demo_campaign(v.at) END)) AS properties
		FROM _cdp_demo_visit v
		UNION ALL
		SELECT v.profile_id, 'Products Searched', v.at + interval '20 seconds', 'web', v.channel, v.h, 1,
			jsonb_build_object('query', (SELECT c.category FROM _cdp_demo_category c WHERE c.no = 1 + floor(8 * cdp._demo_u(v.h, 87, seed))::int))
		FROM _cdp_demo_visit v WHERE cdp._demo_u(v.h, 86, seed) < 0.25
		UNION ALL
		SELECT v.profile_id, 'Product Viewed', v.at + k * interval '45 seconds', 'web', v.channel, v.h, 1 + k,
			jsonb_build_object('product_id', p.product_id, 'name', p.name, 'category', p.category, 'price', p.price)
		FROM _cdp_demo_visit v JOIN _cdp_demo_person w ON w.n = v.n CROSS JOIN LATERAL generate_series(1, v.pages) k
		JOIN _cdp_demo_product p ON p.no = 1 + floor(12 * cdp._demo_u(v.h * 10 + k, 88, seed))::int
			+ 12 * (CASE WHEN cdp._demo_u(v.h * 10 + k, 89, seed) < 0.6 THEN w.category_no - 1 ELSE floor(8 * cdp._demo_u(v.h * 10 + k, 90, seed))::int END)
		UNION ALL
		-- what leads to an order online
		SELECT o.profile_id, x.name, o.at - x.before, 'web', CASE o.origin WHEN 'wechat' THEN 'wechat' ELSE 'web' END, o.h, 10 + x.step * 10 + l.line_no,
			jsonb_build_object('product_id', l.product_id, 'name', l.name, 'category', l.category, 'price', l.price)
				|| CASE x.step WHEN 2 THEN jsonb_build_object('quantity', l.quantity) ELSE '{}' END
		FROM _cdp_demo_order o JOIN _cdp_demo_line l ON l.order_id = o.order_id
		CROSS JOIN (VALUES (1, 'Product Viewed', interval '9 minutes'), (2, 'Product Added', interval '7 minutes')) x(step, name, before) WHERE NOT o.in_store
		UNION ALL
		SELECT o.profile_id, 'Checkout Started', o.at - interval '2 minutes', 'web', CASE o.origin WHEN 'wechat' THEN 'wechat' ELSE 'web' END, o.h, 50,
			jsonb_build_object('order_id', o.order_id, 'value', o.amount) FROM _cdp_demo_order o WHERE NOT o.in_store
		UNION ALL
		SELECT o.profile_id, 'Store Visited', o.at - interval '1 second' * floor(120 + 440 * cdp._demo_u(o.h, 91, seed)), 'store', 'store', o.h, 60,
			jsonb_build_object('store_id', s.store_id, 'store', s.name, 'city', s.city, 'lat', s.lat, 'lon', s.lon)
		FROM _cdp_demo_order o JOIN _cdp_demo_shop s ON s.no = o.shop_no WHERE o.in_store
		UNION ALL
		SELECT o.profile_id, 'Survey Answered', o.completed_at + interval '1 day', 'web', 'web', o.h, 70,
			jsonb_build_object('survey', 'nps', 'order_id', o.order_id, 'score', floor(11 * power(cdp._demo_u(o.h, 93, seed), 0.4))::int)
		FROM _cdp_demo_order o WHERE NOT o.dead AND o.completed_at + interval '1 day' < end_at AND cdp._demo_u(o.h, 92, seed) < 0.06
	) e WHERE e.at < end_at ORDER BY e.at, e.h, e.k, e.name;
END $$;
COMMENT ON FUNCTION cdp._demo_events(int, timestamptz) IS 'internal: fifth step of load_demo, what the people did';

CREATE PROCEDURE cdp.load_demo(customers int DEFAULT 10000, seed int DEFAULT 42)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
	-- days have 24 hours whatever the session's zone is
	SET timezone = 'UTC' SET work_mem = '64MB'
AS $$
DECLARE
	end_at   timestamptz := cdp._demo_begin(customers, seed);
	start_at timestamptz := (end_at AT TIME ZONE 'Asia/Shanghai' - interval '18 months') AT TIME ZONE 'Asia/Shanghai';
	t        text;
BEGIN
	PERFORM cdp._make_partitions('cdp.event', start_at - interval '1 day', end_at);
	PERFORM cdp._demo_people(customers, seed, start_at, end_at);
	PERFORM cdp._demo_identify(seed, end_at);
	PERFORM cdp._demo_orders(seed, end_at);
	PERFORM cdp._demo_events(seed, end_at);
	FOREACH t IN ARRAY '{visit,refund,line,order,sighting,person,shop,product,category}'::text[] LOOP
		EXECUTE format('DROP TABLE pg_temp.%I', '_cdp_demo_' || t);
	END LOOP;
	ANALYZE cdp.profile, cdp.identifier, cdp.profile_alias, cdp.profile_trait, cdp.event, cdp.event_key, cdp.sales_order, cdp.sales_order_line;
END $$;
COMMENT ON PROCEDURE cdp.load_demo(int, int) IS 'Fills an empty database with a synthetic retailer: 18 months, an online shop and six shops in Chinese cities, as many people as customers says (10 to 1000000; a tenth of them never says who they are), their cookies, logins, visits, orders and refunds. The same customers and seed give the same rows in every database, ids and times included. The 18 months end on 2025-07-01 (UTC+8), or on the day of the setting cdp.now when it is set. One transaction; run it as the owner of the tables. Errors: 55000 when there are customers, events, orders or products already, 22023 customers out of range, 22004 NULL, 42501.';
CREATE FUNCTION cdp._access_rules() RETURNS TABLE (object_type text, object text, privileges text, kinds text[])
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT v.t, v.o, v.p, v.k::pg_catalog.text[] FROM (VALUES
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
	('function', 'normalize_phone', 'EXECUTE', '{public}'),
	('function', 'normalize_email', 'EXECUTE', '{public}'),
	('function', 'normalize_name', 'EXECUTE', '{public}'),
	('function', 'split_name', 'EXECUTE', '{public}'),
	('function', 'identify', 'EXECUTE', '{application,operator}'),
	('function', 'identify_many', 'EXECUTE', '{application,operator}'),
	('function', 'resolve', 'EXECUTE', '{application,operator}'),
	('function', 'customer_id', 'EXECUTE', '{reader,application}'),
	('table', 'customer', 'SELECT', '{reader,application}'),
	('table', 'identifier_kind', 'SELECT, INSERT, UPDATE, DELETE', '{operator}'),
	('table', 'profile', 'SELECT', '{operator}'),
	('table', 'profile_alias', 'SELECT', '{reader}'),
	('function', '_partition_name', 'EXECUTE', '{admin}'),
	('function', 'maintain_partitions', 'EXECUTE', '{admin}'),
	('function', '_missing_partitions', 'EXECUTE', '{admin}'),
	('function', '_maintain_partition', 'EXECUTE', '{admin}'),
	('function', '_health_event_log', 'EXECUTE', '{reader,application}'),
	('table', 'event_consumer', 'SELECT', '{reader}'),
	('table', 'log_table', 'SELECT', '{reader}'),
	('table', 'log_epoch', 'SELECT', '{reader}'),
	('function', 'prune_event_keys', 'EXECUTE', '{admin}'),
	('function', '_prune_event_keys', 'EXECUTE', '{admin}'),
	('function', '_health_event', 'EXECUTE', '{reader,application}'),
	('function', 'track', 'EXECUTE', '{application}'),
	('function', 'track_many', 'EXECUTE', '{application}'),
	('function', 'retry_rejects', 'EXECUTE', '{operator}'),
	('table', 'event_schema', 'SELECT, INSERT, UPDATE, DELETE', '{operator}'),
	('table', 'event_reject', 'SELECT, DELETE', '{operator}'),
	('table', 'event', 'SELECT', '{reader}'),
	('function', 'record_order', 'EXECUTE', '{application,operator}'),
	('function', 'refund_order', 'EXECUTE', '{application,operator}'),
	('function', 'convert_amount', 'EXECUTE', '{reader,application}'),
	('function', 'sum_amount', 'EXECUTE', '{reader,application}'),
	('table', 'product', 'SELECT', '{reader}'),
	('table', 'product', 'INSERT, UPDATE, DELETE', '{operator}'),
	('table', 'sales_order', 'SELECT', '{reader}'),
	('table', 'sales_order_line', 'SELECT', '{reader}'),
	('table', 'sales_refund', 'SELECT', '{reader}'),
	('table', 'currency_rate', 'SELECT', '{reader,application}'),
	('table', 'currency_rate', 'INSERT, UPDATE, DELETE', '{operator}'),
	('table', 'order_track', 'SELECT', '{reader}'),
	('function', 'record_order_many', 'EXECUTE', '{application,operator}'),
	('function', 'record_products', 'EXECUTE', '{application,operator}'),
	('function', 'refund_order_many', 'EXECUTE', '{application,operator}'),
	('function', '_source_apply', 'EXECUTE', '{operator,admin}'),
	('function', 'attach_source', 'EXECUTE', '{operator,admin}'),
	('function', 'detach_source', 'EXECUTE', '{operator,admin}'),
	('function', 'backfill_source', 'EXECUTE', '{operator,admin}'),
	('function', 'backfill_sources', 'EXECUTE', '{operator,admin}'),
	('function', 'retry_sources', 'EXECUTE', '{operator,admin}'),
	('function', '_backfill_batch', 'EXECUTE', '{operator,admin}'),
	('function', '_backfill_begin', 'EXECUTE', '{operator,admin}'),
	('function', '_backfill_pending', 'EXECUTE', '{operator,admin}'),
	('function', '_retry_batch', 'EXECUTE', '{operator,admin}'),
	('function', '_retry_begin', 'EXECUTE', '{operator,admin}'),
	('function', '_queued_rows', 'EXECUTE', '{operator,admin}'),
	('function', '_health_event_source', 'EXECUTE', '{reader,application}'),
	('table', 'source_status', 'SELECT', '{reader,application}'),
	('table', 'source_queue', 'SELECT, DELETE', '{operator,admin}'),
	('function', 'make_staging', 'EXECUTE', '{application,operator,admin}'),
	('function', 'ingest', 'EXECUTE', '{application,operator,admin}'),
	('function', '_ingest_batch', 'EXECUTE', '{application,operator,admin}'),
	('function', '_ingest_begin', 'EXECUTE', '{application,operator,admin}'),
	('table', 'ingest_reject', 'SELECT, DELETE', '{operator,admin}'),
	('function', 'rfm', 'EXECUTE', '{public}'),
	('function', 'rfm_partial', 'EXECUTE', '{public}'),
	('function', 'rfm_combine', 'EXECUTE', '{public}'),
	('function', '_rfm_detail', 'EXECUTE', '{reader}'),
	('function', '_local_to_utc', 'EXECUTE', '{reader}'),
	('function', '_purchases_query', 'EXECUTE', '{reader}'),
	('function', '_rfm_query', 'EXECUTE', '{reader}'),
	('function', '_rfm_check', 'EXECUTE', '{reader}'),
	('function', '_rfm_check_cuts', 'EXECUTE', '{reader}'),
	('function', '_rfm_refuse', 'EXECUTE', '{reader}'),
	('function', '_rfm_one_currency', 'EXECUTE', '{reader}'),
	('function', '_rfm_rate', 'EXECUTE', '{reader}'),
	('function', '_rfm_sql', 'EXECUTE', '{reader}'),
	('function', '_rfm_sales', 'EXECUTE', '{reader}'),
	('function', 'rfm_table', 'EXECUTE', '{reader}'),
	('table', 'rfm_group', 'SELECT', '{reader}'),
	('table', 'rfm_group', 'UPDATE', '{operator}'),
	('table', 'rfm_group_summary', 'SELECT', '{reader}'),
	('function', 'search_customers', 'EXECUTE', '{operator}'),
	('function', 'set_traits', 'EXECUTE', '{operator,application}'),
	('function', 'customer_360', 'EXECUTE', '{reader}'),
	('function', 'timeline', 'EXECUTE', '{reader}'),
	('function', '_customer_360_identity', 'EXECUTE', '{reader}'),
	('function', '_customer_360_orders', 'EXECUTE', '{reader}'),
	('function', '_customer_360_events', 'EXECUTE', '{reader}'),
	('function', '_timeline_event', 'EXECUTE', '{reader}'),
	('function', '_timeline_merge', 'EXECUTE', '{reader}'),
	('function', '_normalize', 'EXECUTE', '{operator}'),
	('function', '_profiles_of', 'EXECUTE', '{reader}'),
	('table', 'identifier', 'SELECT', '{operator}'),
	('table', 'merge_log', 'SELECT', '{reader}'),
	('table', 'trait_definition', 'SELECT', '{reader}'),
	('table', 'trait_definition', 'INSERT, UPDATE, DELETE', '{operator}'),
	('table', 'trait_reject', 'SELECT, DELETE', '{operator}')
	) AS v(t, o, p, k);
END;
COMMENT ON FUNCTION cdp._access_rules() IS 'internal: what each kind of user may do; assembled from the @access sections';
CREATE FUNCTION cdp._migrate() RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
AS $migrate$
DECLARE
m_at text;		-- version of the tables; NULL: there are none
BEGIN
m_at := cdp._migrate_begin();
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

PERFORM cdp._ensure_table('identifier_kind', $t$ (
	kind             text PRIMARY KEY CHECK (kind ~ '^[a-z][a-z0-9_]{0,62}$'),
	priority         int NOT NULL,
	max_per_customer int CHECK (max_per_customer > 0),
	max_window       interval,
	blocked_pattern  text,
	blocked_values   text[] NOT NULL DEFAULT '{}',
	normalizer       text,
	ttl              interval,
	own_profile      boolean NOT NULL DEFAULT false
) $t$);
COMMENT ON TABLE cdp.identifier_kind IS 'Rules of identity, one row per kind of identifier. priority 1 is the strongest.';
CREATE OR REPLACE TRIGGER identifier_kind_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cdp.identifier_kind
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._rules_changed();

PERFORM cdp._ensure_table('profile', $t$ (
	profile_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	created_at timestamptz NOT NULL DEFAULT cdp.now(),
	traits     jsonb NOT NULL DEFAULT '{}'
) $t$);
COMMENT ON TABLE cdp.profile IS 'Origin profiles: what facts are recorded under, for ever. A merge never touches or deletes one.';
COMMENT ON COLUMN cdp.profile.traits IS 'surviving traits of this profile alone; view cdp.customer has those of the One ID';

PERFORM cdp._ensure_table('identifier', $t$ (
	identifier_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	kind          text COLLATE "C" NOT NULL,
	value         text COLLATE "C" NOT NULL,
	profile_id    bigint NOT NULL,
	first_seen    timestamptz NOT NULL,
	last_seen     timestamptz NOT NULL,
	source        text,
	valid_to      timestamptz
) $t$);
CREATE UNIQUE INDEX IF NOT EXISTS identifier_live ON cdp.identifier (kind, value) WHERE valid_to IS NULL;
CREATE INDEX IF NOT EXISTS identifier_profile_id ON cdp.identifier (profile_id);
COMMENT ON TABLE cdp.identifier IS 'Normalised identifiers, one live row per (kind, value); rows with valid_to are history.';

PERFORM cdp._ensure_table('profile_alias', $t$ (
	profile_id  bigint PRIMARY KEY,
	customer_id bigint NOT NULL,
	CHECK (profile_id <> customer_id)
) $t$);
CREATE INDEX IF NOT EXISTS profile_alias_customer_id ON cdp.profile_alias (customer_id);
CREATE OR REPLACE TRIGGER profile_alias_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON cdp.profile_alias
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._guard_alias();
COMMENT ON TABLE cdp.profile_alias IS 'Merged profile to One ID; sparse (a profile of its own has no row), depth 1 always. Only identity writes it.';

PERFORM cdp._ensure_table('identity_link', $t$ (
	link_id      bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	identifier_a bigint NOT NULL,
	identifier_b bigint NOT NULL,
	relation     text NOT NULL DEFAULT 'same' CHECK (relation IN ('same', 'apart', 'household')),
	rule         text NOT NULL,
	weight       float8,
	source       text,
	occurred_at  timestamptz NOT NULL,
	linked_at    timestamptz NOT NULL DEFAULT cdp.now(),
	merge_id     bigint,
	revoked_at   timestamptz,
	CHECK (identifier_a < identifier_b)
) $t$);
CREATE UNIQUE INDEX IF NOT EXISTS identity_link_live ON cdp.identity_link (identifier_a, identifier_b, relation) WHERE revoked_at IS NULL;
CREATE INDEX IF NOT EXISTS identity_link_b ON cdp.identity_link (identifier_b);
COMMENT ON TABLE cdp.identity_link IS 'Evidence, append-only: two identifiers of different profiles were seen together. Holds ids, never values.';

PERFORM cdp._ensure_table('merge_log', $t$ (
	merge_id    bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	action      text NOT NULL CHECK (action IN ('merge', 'unmerge', 'recheck')),
	customer_id bigint NOT NULL,
	other_id    bigint NOT NULL,
	rule        text,
	reason      text,
	actor       name NOT NULL DEFAULT session_user,
	at          timestamptz NOT NULL DEFAULT cdp.now(),
	before      jsonb,
	after       jsonb
) $t$);
CREATE INDEX IF NOT EXISTS merge_log_customer_id ON cdp.merge_log (customer_id, at);
CREATE INDEX IF NOT EXISTS merge_log_other_id ON cdp.merge_log (other_id, at);
COMMENT ON TABLE cdp.merge_log IS 'Every change of who is one customer: who did it, why, before and after.';

PERFORM cdp._ensure_table('merge_refusal', $t$ (
	refusal_id  bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	at          timestamptz NOT NULL DEFAULT cdp.now(),
	reason      text NOT NULL,
	kind        text,
	customer_id bigint,
	other_id    bigint,
	source      text,
	occurred_at timestamptz,
	times       bigint NOT NULL DEFAULT 1
) $t$);
COMMENT ON TABLE cdp.merge_refusal IS 'Every merge not made and every value dropped, with the reason; never the value.';

PERFORM cdp._ensure_table('profile_trait', $t$ (
	profile_id  bigint NOT NULL,
	trait       text NOT NULL,
	source      text NOT NULL DEFAULT '',
	value       jsonb NOT NULL,
	observed_at timestamptz NOT NULL,
	PRIMARY KEY (profile_id, trait, source)
) $t$);
COMMENT ON TABLE cdp.profile_trait IS 'Last value of a trait per profile and source, with its time; JSON null: removed.';

INSERT INTO cdp.identifier_kind (kind, priority, normalizer, own_profile, blocked_pattern) VALUES
	('customer_no',    1, NULL, true,  NULL),
	('member_id',      2, NULL, true,  NULL),
	('wechat_unionid', 3, NULL, true,  NULL),
	('alipay_id',      4, NULL, true,  NULL),
	('phone',          5, 'cdp.normalize_phone', false, NULL),
	('email',          6, 'cdp.normalize_email', false, NULL),
	('wechat_openid',  7, NULL, false, NULL),
	('device_id',      8, NULL, false, NULL),
	('anonymous_id',   9, NULL, false, NULL)
	ON CONFLICT (kind) DO NOTHING;

PERFORM cdp._ensure_table('log_epoch', $t$ (
	one               boolean PRIMARY KEY DEFAULT true CHECK (one),
	system_identifier text NOT NULL,
	xid_offset        bigint NOT NULL DEFAULT 0
) $t$);
COMMENT ON TABLE cdp.log_epoch IS 'Which cluster the logical transaction ids of the logs belong to, and what is added to its own. One row.';
COMMENT ON COLUMN cdp.log_epoch.system_identifier IS 'of the cluster that wrote last';
COMMENT ON COLUMN cdp.log_epoch.xid_offset IS 'logical id = transaction id + this';
INSERT INTO cdp.log_epoch (system_identifier)
	SELECT system_identifier::text FROM pg_control_system() ON CONFLICT DO NOTHING;
CREATE OR REPLACE TRIGGER log_epoch_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cdp.log_epoch
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._rules_changed();

PERFORM cdp._ensure_table('log_table', $t$ (
	log         text PRIMARY KEY,
	id_column   text NOT NULL,
	time_column text,
	seen_column text
) $t$);
COMMENT ON TABLE cdp.log_table IS 'The logs: tables of schema cdp with a column xid, an id and an index (xid, id). Modules enter theirs.';
COMMENT ON COLUMN cdp.log_table.id_column IS 'bigint, unique; orders the rows of one transaction';
COMMENT ON COLUMN cdp.log_table.time_column IS 'what the monthly partitions go by; NULL: it has none';
COMMENT ON COLUMN cdp.log_table.seen_column IS 'when a row came in, for cdp.health(); NULL: it does not say';
INSERT INTO cdp.log_table (log, id_column, time_column, seen_column)
	VALUES ('event', 'event_id', 'occurred_at', 'received_at') ON CONFLICT (log) DO NOTHING;

PERFORM cdp._ensure_table('event_consumer', $t$ (
	name     text PRIMARY KEY,
	log      text NOT NULL,
	done     pg_snapshot NOT NULL,
	target   pg_snapshot,
	last_xid xid8,
	last_id  bigint
) WITH (fillfactor = 50) $t$);
COMMENT ON TABLE cdp.event_consumer IS 'Who reads a log and how far he is. Logical transaction ids throughout.';
COMMENT ON COLUMN cdp.event_consumer.done IS 'everything that this snapshot sees has been delivered';
COMMENT ON COLUMN cdp.event_consumer.target IS 'what the pass under way will have delivered; NULL: none is under way';
COMMENT ON COLUMN cdp.event_consumer.last_xid IS 'with last_id: how far the pass has come';

IF to_regclass('cdp.job') IS NOT NULL THEN
	INSERT INTO cdp.job (job, command, schedule, description)
		VALUES ('maintain_partitions', 'CALL cdp.maintain_partitions()', '17 * * * *', 'partitions ahead; stray dates into theirs')
		ON CONFLICT DO NOTHING;
END IF;

PERFORM cdp._ensure_table('event', $t$ (
	event_id    bigint GENERATED BY DEFAULT AS IDENTITY,
	profile_id  bigint NOT NULL,
	name        text NOT NULL,
	occurred_at timestamptz NOT NULL,
	received_at timestamptz NOT NULL DEFAULT cdp.now(),
	properties  jsonb NOT NULL DEFAULT '{}',
	message_id  text,
	source      text,
	channel     text,
	xid         xid8 NOT NULL DEFAULT cdp._log_xid(),
	PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at) $t$);
CREATE INDEX IF NOT EXISTS event_profile ON cdp.event (profile_id, occurred_at);
CREATE INDEX IF NOT EXISTS event_log ON cdp.event (xid, event_id);
COMMENT ON TABLE cdp.event IS 'The log: one row per thing that happened to a customer, by month of occurred_at (UTC). Append-only.';
CREATE TABLE IF NOT EXISTS cdp.event_default PARTITION OF cdp.event DEFAULT;

PERFORM cdp._ensure_table('event_key', $t$ (
	source      text COLLATE "C" NOT NULL DEFAULT '',
	message_id  text COLLATE "C" NOT NULL,
	event_id    bigint NOT NULL,
	received_at timestamptz NOT NULL DEFAULT cdp.now(),
	permanent   boolean NOT NULL DEFAULT false,
	PRIMARY KEY (source, message_id)
) $t$);
COMMENT ON TABLE cdp.event_key IS 'Which (source, message_id) are known, an absent source being ''''. Rows that are not permanent leave after cdp.dedupe_window.';


PERFORM cdp._ensure_table('event_schema', $t$ (
	name        text PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 200),
	required    text[] NOT NULL DEFAULT '{}',
	properties  jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(properties) = 'object'),
	traits      text[] NOT NULL DEFAULT '{}',
	mode        text NOT NULL DEFAULT 'warn' CHECK (mode IN ('warn', 'quarantine', 'reject')),
	description text,
	CHECK (NOT jsonb_path_exists(properties, '$.* ? (!(@ == "string" || @ == "number" || @ == "integer" || @ == "boolean"
		|| @ == "date" || @ == "array" || @ == "object"))'))
) $t$);
COMMENT ON TABLE cdp.event_schema IS 'The tracking plan, one row per event name. required: properties that must be there; properties: {"price": "number", …} with string, number, integer, boolean, date, array or object; traits: properties that become traits of the customer; mode: what becomes of an event that is not so (warn, quarantine, reject).';
CREATE OR REPLACE TRIGGER event_schema_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cdp.event_schema
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._rules_changed();

PERFORM cdp._ensure_table('event_reject', $t$ (
	reject_id   bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	status      text NOT NULL CHECK (status IN ('quarantined', 'rejected')),
	ord         int,
	name        text,
	sqlstate    text NOT NULL,
	reason      text NOT NULL,
	event_id    bigint NOT NULL,
	received_at timestamptz NOT NULL,
	permanent   boolean NOT NULL DEFAULT false,
	item        jsonb NOT NULL
) $t$);
CREATE INDEX IF NOT EXISTS event_reject_name ON cdp.event_reject (name);
COMMENT ON TABLE cdp.event_reject IS 'Events that were not taken: the item as it came, its number in the call, why, and the id and time it will have once cdp.retry_rejects() takes it.';

INSERT INTO cdp.event_schema (name, required, properties, traits, description) VALUES
	('Products Searched', '{query}', '{"query": "string"}', '{}', 'searched the shop'),
	('Product List Viewed', '{}', '{"products": "array"}', '{}', 'looked at a list or category'),
	('Product List Filtered', '{}', '{"products": "array"}', '{}', 'narrowed or sorted a list'),
	('Promotion Viewed', '{}', '{}', '{}', 'saw a promotion'),
	('Promotion Clicked', '{}', '{}', '{}', 'followed a promotion'),
	('Product Clicked', '{product_id}', '{"product_id": "string", "price": "number"}', '{}', 'chose a product in a list'),
	('Product Viewed', '{product_id}', '{"product_id": "string", "price": "number"}', '{}', 'looked at a product'),
	('Product Added', '{product_id}', '{"product_id": "string", "price": "number", "quantity": "number"}', '{}', 'put a product into the cart'),
	('Product Removed', '{product_id}', '{"product_id": "string", "quantity": "number"}', '{}', 'took a product out of the cart'),
	('Cart Viewed', '{}', '{"products": "array"}', '{}', 'looked at the cart'),
	('Cart Emptied', '{}', '{}', '{}', 'emptied the cart'),
	('Cart Shared', '{}', '{}', '{}', 'shared the cart'),
	('Checkout Started', '{}', '{"order_id": "string", "value": "number"}', '{}', 'began to check out'),
	('Checkout Step Viewed', '{}', '{"step": "number"}', '{}', 'saw a step of the check-out'),
	('Checkout Step Completed', '{}', '{"step": "number"}', '{}', 'finished a step of the check-out'),
	('Payment Info Entered', '{}', '{}', '{}', 'entered how to pay'),
	('Order Placed', '{order_id}', '{"order_id": "string", "total": "number"}', '{}', 'placed an order'),
	('Order Paid', '{order_id}', '{"order_id": "string", "total": "number"}', '{}', 'paid an order'),
	('Order Shipped', '{order_id}', '{"order_id": "string"}', '{}', 'an order left the store'),
	('Order Updated', '{order_id}', '{"order_id": "string", "total": "number"}', '{}', 'changed an order'),
	('Order Completed', '{order_id}', '{"order_id": "string", "total": "number"}', '{}', 'an order was fulfilled'),
	('Order Refunded', '{order_id}', '{"order_id": "string", "total": "number"}', '{}', 'money went back, all or a part'),
	('Order Cancelled', '{order_id}', '{"order_id": "string", "total": "number"}', '{}', 'an order was called off'),
	('Coupon Entered', '{}', '{"coupon_id": "string"}', '{}', 'entered a coupon'),
	('Coupon Applied', '{}', '{"coupon_id": "string"}', '{}', 'a coupon was accepted'),
	('Coupon Denied', '{}', '{"coupon_id": "string"}', '{}', 'a coupon was refused'),
	('Coupon Removed', '{}', '{"coupon_id": "string"}', '{}', 'took a coupon back'),
	('Product Added to Wishlist', '{product_id}', '{"product_id": "string", "price": "number"}', '{}', 'put a product on the wish list'),
	('Product Removed from Wishlist', '{product_id}', '{"product_id": "string"}', '{}', 'took a product off the wish list'),
	('Wishlist Product Added to Cart', '{product_id}', '{"product_id": "string"}', '{}', 'moved a product from the wish list to the cart'),
	('Product Shared', '{}', '{"product_id": "string"}', '{}', 'shared a product'),
	('Product Reviewed', '{product_id}', '{"product_id": "string", "rating": "number"}', '{}', 'reviewed a product'),
	('Store Visited', '{}', '{"store_id": "string"}', '{}', 'came into a shop'),
	('Visit Logged', '{}', '{"note": "string"}', '{}', 'a salesperson visited or called'),
	('Page Viewed', '{}', '{"url": "string", "duration": "number"}', '{}', 'read a page; duration in seconds'),
	('Survey Answered', '{}', '{"survey": "string", "score": "number"}', '{}', 'answered a survey')
	ON CONFLICT (name) DO NOTHING;

INSERT INTO cdp.job (job, command, schedule, description) VALUES
	('prune_event_keys', 'CALL cdp.prune_event_keys()', '17 3 * * *', 'removes keys of events older than cdp.dedupe_window')
	ON CONFLICT (job) DO NOTHING;

PERFORM cdp._ensure_table('product', $t$ (
	product_id text PRIMARY KEY,
	name       text,
	category   text,
	price      numeric CHECK (price >= 0 AND price < 'Infinity'),
	currency   text NOT NULL DEFAULT 'CNY' CHECK (length(currency) = 3),
	status     text NOT NULL DEFAULT 'listed' CHECK (status IN ('draft', 'listed', 'delisted')),
	source     text,
	updated_at timestamptz NOT NULL DEFAULT cdp.now()
) $t$);
COMMENT ON TABLE cdp.product IS 'Articles that are sold. Lines may name products that are not here.';
COMMENT ON COLUMN cdp.product.price IS 'list price of one unit in currency; NULL: unknown';
COMMENT ON COLUMN cdp.product.status IS 'draft (not sold yet), listed, delisted';
COMMENT ON COLUMN cdp.product.source IS 'attached source or file the row came from; NULL: written by hand';

PERFORM cdp._ensure_table('sales_order', $t$ (
	order_id       text PRIMARY KEY,
	profile_id     bigint NOT NULL,
	ordered_at     timestamptz NOT NULL,
	status         text NOT NULL DEFAULT 'placed'
	               CHECK (status IN ('placed', 'paid', 'shipped', 'completed', 'cancelled', 'refunded')),
	amount         numeric NOT NULL CHECK (amount >= 0 AND amount < 'Infinity'),
	refunded       numeric NOT NULL DEFAULT 0 CHECK (refunded >= 0 AND refunded < 'Infinity'),
	currency       text NOT NULL DEFAULT 'CNY' CHECK (length(currency) = 3),
	channel        text,
	store_id       text,
	payment_method text,
	paid_at        timestamptz,
	shipped_at     timestamptz,
	completed_at   timestamptz,
	cancelled_at   timestamptz,
	tracking_no    text,
	source         text,
	updated_at     timestamptz NOT NULL DEFAULT cdp.now()
) $t$);
CREATE INDEX IF NOT EXISTS sales_order_profile ON cdp.sales_order (profile_id, ordered_at);
COMMENT ON TABLE cdp.sales_order IS 'Orders, one row each with its newest content; how it came there is in the event log. Written by record_order(), refund_order() and attached sources.';
COMMENT ON COLUMN cdp.sales_order.profile_id IS 'origin profile, never changed; cdp.customer_id(profile_id) is the One ID';
COMMENT ON COLUMN cdp.sales_order.status IS 'placed, paid, shipped, completed, cancelled, refunded (in full; a partial refund only raises refunded)';
COMMENT ON COLUMN cdp.sales_order.amount IS 'what the order was worth when it was placed, in currency; refunds are not taken off';
COMMENT ON COLUMN cdp.sales_order.refunded IS 'running total of the refunds, in currency';
COMMENT ON COLUMN cdp.sales_order.paid_at IS 'moment of the step; NULL: not reached or not known';
COMMENT ON COLUMN cdp.sales_order.source IS 'attached source or file the row came from; NULL: record_order()';

PERFORM cdp._ensure_table('sales_order_line', $t$ (
	line_id    bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	order_id   text NOT NULL,
	line_no    bigint NOT NULL,
	product_id text NOT NULL,
	quantity   numeric NOT NULL DEFAULT 1 CHECK (quantity >= 0 AND quantity < 'Infinity'),
	unit_price numeric CHECK (unit_price > '-Infinity' AND unit_price < 'Infinity'),
	category   text,
	source     text,
	updated_at timestamptz NOT NULL DEFAULT cdp.now(),
	UNIQUE (order_id, line_no)
) $t$);
COMMENT ON TABLE cdp.sales_order_line IS 'Lines of the orders. A line may arrive before its order.';
COMMENT ON COLUMN cdp.sales_order_line.unit_price IS 'price of one unit in the currency of the order; negative: a discount line; NULL: unknown';
COMMENT ON COLUMN cdp.sales_order_line.category IS 'category at the time of the order; NULL: that of the product';

PERFORM cdp._ensure_table('sales_refund', $t$ (
	refund_id   text PRIMARY KEY,
	order_id    text NOT NULL,
	amount      numeric NOT NULL CHECK (amount > 0 AND amount < 'Infinity'),
	reason      text,
	refunded_at timestamptz NOT NULL DEFAULT cdp.now()
) $t$);
CREATE INDEX IF NOT EXISTS sales_refund_order_id ON cdp.sales_refund (order_id);
COMMENT ON TABLE cdp.sales_refund IS 'Refunds, append-only; amount in the currency of the order. Their sum per order is sales_order.refunded.';

PERFORM cdp._ensure_table('currency_rate', $t$ (
	rate_id       bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	from_currency text NOT NULL CHECK (from_currency ~ '^[A-Z]{3}$'),
	to_currency   text NOT NULL CHECK (to_currency ~ '^[A-Z]{3}$'),
	valid_from    timestamptz NOT NULL DEFAULT '-infinity',
	rate          numeric NOT NULL CHECK (rate > 0 AND rate < 'Infinity'),
	UNIQUE (from_currency, to_currency, valid_from),
	CHECK (from_currency <> to_currency)
) $t$);
COMMENT ON TABLE cdp.currency_rate IS 'Exchange rates: one unit of from_currency is worth rate units of to_currency from valid_from until the next row. Used in both directions.';



PERFORM cdp._ensure_table('source', $t$ (
	source_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	schema_name      text NOT NULL,
	table_name       text NOT NULL,
	role             text NOT NULL CHECK (role IN ('customer', 'order', 'order_line', 'product', 'event')),
	mapping          jsonb NOT NULL,
	select_list      text NOT NULL,
	key_columns      text[] NOT NULL,
	identifier_kinds text[] NOT NULL,
	on_error         text NOT NULL CHECK (on_error IN ('queue', 'raise')),
	on_delete        text NOT NULL CHECK (on_delete IN ('keep', 'cancel')),
	owner            name NOT NULL,
	attached_at      timestamptz NOT NULL DEFAULT cdp.now(),
	UNIQUE (schema_name, table_name)
) $t$);
COMMENT ON TABLE cdp.source IS 'Attached tables. Written by attach_source() and detach_source() only: the triggers carry a digest of the row.';
COMMENT ON COLUMN cdp.source.schema_name IS 'with table_name: the table, as text, so that a dump restores';
COMMENT ON COLUMN cdp.source.mapping IS 'as it was given';
COMMENT ON COLUMN cdp.source.select_list IS 'the checked mapping: one expression per column of the engine, every name qualified';
COMMENT ON COLUMN cdp.source.key_columns IS 'columns that tell the rows apart';
COMMENT ON COLUMN cdp.source.owner IS 'role as which the mapping runs';
CREATE OR REPLACE TRIGGER source_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cdp.source
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._rules_changed();

PERFORM cdp._ensure_table('source_state', $t$ (
	source_id         bigint PRIMARY KEY,
	backfill          text NOT NULL CHECK (backfill IN ('none', 'pending', 'running', 'done')),
	key_position      text[],
	backfill_rows     bigint NOT NULL DEFAULT 0,
	taken             bigint NOT NULL DEFAULT 0,
	deletes_ignored   bigint NOT NULL DEFAULT 0,
	truncates_ignored bigint NOT NULL DEFAULT 0,
	last_error        text,
	last_error_at     timestamptz,
	finished_at       timestamptz
) $t$);
COMMENT ON TABLE cdp.source_state IS 'Where the back-fill of a source is, and its counters as they were folded last; view cdp.source_status adds what came since.';
COMMENT ON COLUMN cdp.source_state.key_position IS 'key of the last row that was copied; NULL: at the beginning';
COMMENT ON COLUMN cdp.source_state.backfill_rows IS 'rows that back-fills have copied';

PERFORM cdp._ensure_table('source_delta', $t$ (
	delta_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	source_id         bigint NOT NULL,
	taken             bigint NOT NULL DEFAULT 0,
	deletes_ignored   bigint NOT NULL DEFAULT 0,
	truncates_ignored bigint NOT NULL DEFAULT 0
) $t$);
COMMENT ON TABLE cdp.source_delta IS 'One row per statement on a source: what it adds to the counters. Folded into source_state by retry_sources().';

PERFORM cdp._ensure_table('source_queue', $t$ (
	queue_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	source_id bigint NOT NULL,
	op        text NOT NULL CHECK (op IN ('insert', 'update', 'delete')),
	row_image jsonb NOT NULL,
	sqlstate  text NOT NULL,
	error     text NOT NULL,
	hint      text,
	queued_at timestamptz NOT NULL DEFAULT cdp.now(),
	tries     int NOT NULL DEFAULT 0,
	tried_at  timestamptz
) $t$);
CREATE INDEX IF NOT EXISTS source_queue_source ON cdp.source_queue (source_id, queue_id);
COMMENT ON TABLE cdp.source_queue IS 'Rows of sources that could not be taken, with the reason; CALL cdp.retry_sources() tries them again. No job locks this table above ROW EXCLUSIVE.';
COMMENT ON COLUMN cdp.source_queue.row_image IS 'the row as it was; a retry takes the present row of the table when it is still there';

IF to_regclass('cdp.job') IS NOT NULL THEN
	INSERT INTO cdp.job (job, command, schedule, description) VALUES
		('retry_sources', 'CALL cdp.retry_sources()', '*/5 * * * *', 'queued rows of sources; their counters, their new partitions'),
		('backfill_sources', 'CALL cdp.backfill_sources()', '*/10 * * * *', 'copies of attached tables that are not complete')
		ON CONFLICT DO NOTHING;
END IF;

PERFORM cdp._ensure_table('ingest_reject', $t$ (
	reject_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	source    text NOT NULL,
	role      text NOT NULL,
	line_no   bigint NOT NULL,
	row_image jsonb NOT NULL,
	sqlstate  text NOT NULL,
	reason    text NOT NULL,
	hint      text,
	at        timestamptz NOT NULL DEFAULT cdp.now()
) $t$);
CREATE INDEX IF NOT EXISTS ingest_reject_source ON cdp.ingest_reject (source, line_no);
COMMENT ON TABLE cdp.ingest_reject IS 'Rows of files that were not taken by the last cdp.ingest() of their source.';
COMMENT ON COLUMN cdp.ingest_reject.line_no IS 'column file_line of a staging table, else the number of the row as it was read';
COMMENT ON COLUMN cdp.ingest_reject.row_image IS 'the row as it was';

PERFORM cdp._ensure_table('rfm_group', $t$ (
	rfm_group    text PRIMARY KEY,
	scheme       int NOT NULL DEFAULT 8,
	label_zh     text NOT NULL,
	label_en     text NOT NULL,
	treatment_zh text,
	treatment_en text,
	sort         int NOT NULL,
	UNIQUE (scheme, label_zh),
	UNIQUE (scheme, label_en)
) $t$);
COMMENT ON TABLE cdp.rfm_group IS 'Names of the RFM groups and what to do with them, to be changed as you like; a group keeps its key.';
COMMENT ON COLUMN cdp.rfm_group.rfm_group IS 'key; of the eight groups: recency, frequency, money, 1 high and 0 low, so 111 is the best';
COMMENT ON COLUMN cdp.rfm_group.scheme IS 'which set of groups: 8';
COMMENT ON COLUMN cdp.rfm_group.label_zh IS 'name in Chinese, shown with lang => ''zh''';
COMMENT ON COLUMN cdp.rfm_group.label_en IS 'name in English, shown with lang => ''en''';
COMMENT ON COLUMN cdp.rfm_group.treatment_zh IS 'what to do with these customers, in Chinese';
COMMENT ON COLUMN cdp.rfm_group.treatment_en IS 'the same in English';
COMMENT ON COLUMN cdp.rfm_group.sort IS 'place in lists, best first';
INSERT INTO cdp.rfm_group (rfm_group, scheme, label_zh, label_en, treatment_zh, treatment_en, sort) VALUES
	('111', 8, '重要价值客户', 'Important: value',    '重点维护，优先服务，专属权益', 'look after them first, exclusive benefits', 1),
	('101', 8, '重要发展客户', 'Important: develop',  '提高购买频次，交叉推荐', 'raise how often they buy, cross-sell', 2),
	('011', 8, '重要保持客户', 'Important: keep',     '主动联系，了解近期未购原因', 'get in touch, find out why they stay away', 3),
	('001', 8, '重要挽留客户', 'Important: win back', '高额专属优惠，人工挽回', 'a strong personal offer, a call', 4),
	('110', 8, '一般价值客户', 'General: value',      '提高客单价，套餐与升级推荐', 'raise the basket: bundles, upgrades', 5),
	('100', 8, '一般发展客户', 'General: develop',    '新客培育，引导二次购买', 'welcome them, lead to the second purchase', 6),
	('010', 8, '一般保持客户', 'General: keep',       '定期触达，积分与内容唤醒', 'reach out now and then: points, content', 7),
	('000', 8, '一般挽留客户', 'General: win back',   '低成本自动触达，或放弃', 'cheap automatic messages, or let go', 8)
	ON CONFLICT DO NOTHING;

PERFORM cdp._ensure_table('trait_definition', $t$ (
	trait      text PRIMARY KEY,
	value_type text NOT NULL CHECK (value_type IN ('string', 'number', 'integer', 'boolean', 'date', 'array', 'object')),
	required   boolean NOT NULL DEFAULT false,
	label      text
) $t$);
COMMENT ON TABLE cdp.trait_definition IS 'What a trait must look like. A trait without a row is not checked; a value of another type is kept out and counted in cdp.trait_reject; required ones are listed as missing in customer_360.';

PERFORM cdp._ensure_table('trait_reject', $t$ (
	reject_id   bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	rejected_at timestamptz NOT NULL DEFAULT cdp.now(),
	trait       text NOT NULL,
	profile_id  bigint NOT NULL,
	source      text NOT NULL,
	found_type  text NOT NULL
) $t$);
CREATE INDEX IF NOT EXISTS trait_reject_trait ON cdp.trait_reject (trait);
COMMENT ON TABLE cdp.trait_reject IS 'Values that were kept out because cdp.trait_definition wants another type: trait, profile, source and the type found, never the value.';

-- what search_customers looks in
CREATE INDEX IF NOT EXISTS identifier_value ON cdp.identifier (value) WHERE valid_to IS NULL;
CREATE INDEX IF NOT EXISTS identifier_phone_end ON cdp.identifier (reverse(value) text_pattern_ops) WHERE valid_to IS NULL AND kind = 'phone';
CREATE INDEX IF NOT EXISTS profile_name ON cdp.profile (lower(traits ->> 'name') text_pattern_ops) WHERE traits ? 'name';

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
CREATE OR REPLACE FUNCTION cdp._put_traits(profile_ids bigint[], traits jsonb[], sources text[], observed_ats timestamptz[],
	removing boolean DEFAULT false) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan
AS $$
-- Keep the last value per profile, trait and source, and the newest of these in profile.traits.  A value that is
-- already the surviving one is not written again.  JSON null is not given, or with removing a removal.  Values of
-- the wrong type are kept out; answers how many.
DECLARE
	changed bigint[];
	refused bigint;
BEGIN
	IF EXISTS (SELECT FROM unnest(traits) t(o), jsonb_object_keys(t.o) k WHERE octet_length(k) > 200) THEN
		RAISE EXCEPTION 'the name of a trait is longer than 200 bytes' USING ERRCODE = 'program_limit_exceeded', HINT = 'Send a shorter one.';
	END IF;
	WITH given AS (
		SELECT DISTINCT ON (u.profile_id, t.key, coalesce(u.source, ''))
			u.profile_id, t.key AS trait, coalesce(u.source, '') AS source, t.value, u.at
		FROM unnest(profile_ids, traits, sources, observed_ats) WITH ORDINALITY u(profile_id, traits, source, at, ord)
		CROSS JOIN LATERAL jsonb_each(u.traits) t
		WHERE removing OR t.value <> 'null'
		ORDER BY u.profile_id, t.key, coalesce(u.source, ''), u.at DESC, u.ord DESC
	), kept_out AS (
		INSERT INTO cdp.trait_reject (trait, profile_id, source, found_type)
		SELECT g.trait, g.profile_id, g.source, jsonb_typeof(g.value)
		FROM given g JOIN cdp.trait_definition d USING (trait)
		WHERE g.value <> 'null' AND NOT cdp._has_trait_type(g.value, d.value_type)
		RETURNING 1
	), written AS (
		INSERT INTO cdp.profile_trait AS pt (profile_id, trait, source, value, observed_at)
		SELECT g.profile_id, g.trait, g.source, g.value, g.at FROM given g
		JOIN cdp.profile p USING (profile_id)
		LEFT JOIN cdp.trait_definition d USING (trait)
		LEFT JOIN cdp.profile_trait o ON (o.profile_id, o.trait, o.source) = (g.profile_id, g.trait, g.source)
		WHERE (o.observed_at IS NULL
		       OR (o.observed_at <= g.at AND (o.value <> g.value OR p.traits -> g.trait IS DISTINCT FROM g.value)))
		  AND (d.value_type IS NULL OR g.value = 'null' OR cdp._has_trait_type(g.value, d.value_type))
		ORDER BY g.profile_id, g.trait, g.source
		ON CONFLICT (profile_id, trait, source) DO UPDATE SET value = excluded.value, observed_at = excluded.observed_at
			WHERE pt.observed_at <= excluded.observed_at
		RETURNING pt.profile_id
	)
	SELECT array_agg(DISTINCT w.profile_id), (SELECT count(*) FROM kept_out) INTO changed, refused FROM written w;
	IF changed IS NOT NULL THEN
		PERFORM FROM cdp.profile p WHERE p.profile_id = ANY (changed) ORDER BY p.profile_id FOR NO KEY UPDATE;
		UPDATE cdp.profile p SET traits = s.traits
		FROM (SELECT n.profile_id, coalesce(jsonb_object_agg(n.trait, n.value) FILTER (WHERE n.value <> 'null'), '{}') AS traits
		      FROM (SELECT DISTINCT ON (t.profile_id, t.trait) t.profile_id, t.trait, t.value FROM cdp.profile_trait t
		            WHERE t.profile_id = ANY (changed)
		            ORDER BY t.profile_id, t.trait, t.observed_at DESC, t.source) n
		      GROUP BY n.profile_id) s
		WHERE p.profile_id = s.profile_id AND p.traits <> s.traits;
	END IF;
	RETURN refused;
END $$;
COMMENT ON FUNCTION cdp._put_traits(bigint[], jsonb[], text[], timestamptz[], boolean) IS 'internal: records traits of profiles with their source and time; the newest value survives; answers how many were of the wrong type';

CREATE OR REPLACE VIEW cdp.customer AS
SELECT p.profile_id AS customer_id,
	CASE WHEN m.profile_ids IS NULL THEN p.created_at ELSE least(p.created_at, m.created_at) END AS created_at,
	CASE WHEN m.profile_ids IS NULL THEN p.traits ELSE coalesce(s.traits, '{}') END AS traits,
	p.profile_id || coalesce(m.profile_ids, '{}') AS profile_ids,
	greatest((SELECT max(t.observed_at) FROM cdp.profile_trait t WHERE t.profile_id = ANY (p.profile_id || m.profile_ids)),
		p.created_at) AS updated_at
FROM cdp.profile p
LEFT JOIN LATERAL (
	SELECT array_agg(a.profile_id ORDER BY a.profile_id) AS profile_ids, min(o.created_at) AS created_at
	FROM cdp.profile_alias a JOIN cdp.profile o ON o.profile_id = a.profile_id WHERE a.customer_id = p.profile_id
) m ON true
LEFT JOIN LATERAL (
	SELECT jsonb_object_agg(n.trait, n.value) FILTER (WHERE n.value <> 'null') AS traits
	FROM (SELECT DISTINCT ON (t.trait) t.trait, t.value FROM cdp.profile_trait t
	      WHERE t.profile_id = ANY (p.profile_id || m.profile_ids)
	      ORDER BY t.trait, t.observed_at DESC, t.source, t.profile_id) n
) s ON m.profile_ids IS NOT NULL
WHERE NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = p.profile_id);
COMMENT ON VIEW cdp.customer IS 'One row per One ID: customer_id, created_at (first sighting), traits (newest value of each over all profiles), profile_ids (the One ID first), updated_at.';
CREATE OR REPLACE FUNCTION cdp._next_events(consumer text, n int, wait boolean DEFAULT true) RETURNS SETOF cdp.event
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT * FROM cdp._next_rows(consumer, n, NULL::cdp.event, wait);
END $$;
COMMENT ON FUNCTION cdp._next_events(text, int, boolean) IS 'internal: the next up to n committed events of a consumer in the order (xid, event_id), each exactly once; empty: there was nothing. Moves the consumer in the caller''s transaction, whose own events come in the next pass. wait false: answers nothing while another session holds the consumer. Errors: 42704 no such consumer, 22023 n below 1, 22004, 40001.';

CREATE OR REPLACE FUNCTION cdp._missing_partitions(ahead int DEFAULT 3) RETURNS TABLE (log text, month timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- This month and those ahead; for every month that has rows in the default partition its own, within reason: a broken
-- clock must not make partitions for the year 1 or 9000.
DECLARE
	l record;
BEGIN
	IF ahead NOT BETWEEN 0 AND 120 THEN
		RAISE EXCEPTION 'ahead must be between 0 and 120 months' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for 3.';
	END IF;
	FOR l IN SELECT t.log, t.time_column, cdp._default_partition(to_regclass(format('cdp.%I', t.log))) AS strays
		FROM cdp.log_table t WHERE t.time_column IS NOT NULL AND to_regclass(format('cdp.%I', t.log)) IS NOT NULL ORDER BY t.log
	LOOP
		log := l.log;
		FOR month IN SELECT cdp._month(cdp.now(), i) FROM generate_series(0, ahead) i LOOP
			IF to_regclass(format('cdp.%I', cdp._partition_name(log, month))) IS NULL THEN
				RETURN NEXT;
			END IF;
		END LOOP;
		IF l.strays IS NOT NULL THEN
			FOR month IN EXECUTE format('SELECT DISTINCT cdp._month(%2$I) FROM %1$s WHERE %2$I >= %3$L AND %2$I < $1',
				l.strays, l.time_column, '1970-01-01 00:00:00+00') USING cdp._month(cdp.now(), ahead + 1)
			LOOP
				IF month < cdp._month(cdp.now()) AND to_regclass(format('cdp.%I', cdp._partition_name(log, month))) IS NULL THEN
					RETURN NEXT;
				END IF;
			END LOOP;
		END IF;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._missing_partitions(int) IS 'internal: the months for which cdp.maintain_partitions() makes a partition';

CREATE OR REPLACE FUNCTION cdp._maintain_partition(log text, month timestamptz) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
AS $$
BEGIN
	PERFORM cdp._require_version();
	PERFORM cdp._make_partitions(to_regclass(format('cdp.%I', log)), month, cdp._month(month, 1));
	RETURN true;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
	RETURN false;
END $$;
COMMENT ON FUNCTION cdp._maintain_partition(text, timestamptz) IS 'internal: the partition of one month; false: the log is busy';

CREATE OR REPLACE FUNCTION cdp._health_event_log() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
AS $$
-- A few index probes.  It also runs while the versions disagree, to say so: hence no guard.
DECLARE
	l      record;
	ahead  int;
	stray  timestamptz;
	oldest timestamptz;
	waits  boolean;
BEGIN
	FOR l IN SELECT t.log, t.time_column, cdp._default_partition(to_regclass(format('cdp.%I', t.log))) AS strays
		FROM cdp.log_table t WHERE t.time_column IS NOT NULL AND to_regclass(format('cdp.%I', t.log)) IS NOT NULL ORDER BY t.log
	LOOP
		ahead := -1;
		WHILE ahead < 120 AND to_regclass(format('cdp.%I', cdp._partition_name(l.log, cdp._month(cdp.now(), ahead + 1)))) IS NOT NULL LOOP
			ahead := ahead + 1;
		END LOOP;
		stray := NULL;
		IF l.strays IS NOT NULL THEN
			EXECUTE format('SELECT %1$I FROM %2$s WHERE %1$I >= %3$L AND %1$I < $1 LIMIT 1', l.time_column, l.strays,
				'1970-01-01 00:00:00+00') INTO stray USING cdp._month(cdp.now(), greatest(ahead, 3) + 1);
		END IF;
		check_name := 'partitions_ahead ' || l.log;
		ok := ahead >= 1;
		detail := CASE WHEN ahead < 0 THEN 'none for this month' ELSE format('this month and %s more', ahead) END
			|| CASE WHEN stray IS NULL THEN ''
			        ELSE format('; the default partition holds rows of %s and maybe others', to_char(stray AT TIME ZONE 'UTC', 'YYYY-MM')) END
			|| CASE WHEN ok AND stray IS NULL THEN '' ELSE '; CALL cdp.maintain_partitions()' END;
		RETURN NEXT;
	END LOOP;
	FOR l IN SELECT c.*, t.id_column, coalesce(quote_ident(t.seen_column), 'NULL::timestamptz') AS seen
		FROM cdp.event_consumer c JOIN cdp.log_table t USING (log)
		WHERE to_regclass(format('cdp.%I', c.log)) IS NOT NULL ORDER BY c.name
	LOOP
		-- what done saw running and has ended since, then the first one after it that the pass has not reached; the
		-- conditions are such that only the index (xid, id) can give the order
		EXECUTE format(
			'SELECT s.seen, true FROM ('
			' (SELECT e.* FROM unnest($3) x, LATERAL (SELECT %2$s AS seen FROM cdp.%1$I l'
			'   WHERE (l.xid, l.%3$I) > (x, CASE WHEN x = $1 THEN $2 ELSE -9223372036854775808 END) AND l.xid <= x'
			'   ORDER BY l.xid, l.%3$I LIMIT 1) e WHERE x >= $1)'
			' UNION ALL'
			' (SELECT %2$s FROM cdp.%1$I l WHERE (l.xid, l.%3$I) > ($4, $5) ORDER BY l.xid, l.%3$I LIMIT 1)) s ORDER BY s.seen LIMIT 1',
			l.log, l.seen, l.id_column)
			INTO oldest, waits
			USING coalesce(l.last_xid, '0'), coalesce(l.last_id, 0), ARRAY(SELECT pg_snapshot_xip(l.done)),
				greatest(pg_snapshot_xmax(l.done), l.last_xid),
				CASE WHEN l.last_xid >= pg_snapshot_xmax(l.done) THEN l.last_id ELSE -9223372036854775808 END;
		check_name := 'oldest_unprocessed_event ' || l.name;
		ok := waits IS NULL OR oldest IS NULL OR oldest > cdp.now() - interval '1 hour';
		detail := CASE WHEN waits IS NULL THEN format('nothing waits in %s', l.log)
		               WHEN oldest IS NULL THEN format('rows wait in %s', l.log)
		               ELSE format('came into %s at %s UTC', l.log, to_char(oldest AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')) END;
		RETURN NEXT;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._health_event_log() IS 'internal: rows of event_log in cdp.health(): partitions ahead, what waits for each consumer';

-- a dump that was restored here is adopted before anybody writes
PERFORM cdp._repair_log_epoch();
PERFORM cdp._make_partitions(to_regclass(format('cdp.%I', l.log)), cdp._month(cdp.now(), -1), cdp._month(cdp.now(), 4))
	FROM cdp.log_table l WHERE l.time_column IS NOT NULL AND to_regclass(format('cdp.%I', l.log)) IS NOT NULL;
CREATE OR REPLACE FUNCTION cdp._prune_event_keys(after_source text, after_message text, batch int,
	OUT scanned bigint, OUT removed bigint, OUT last_source text, OUT last_message text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	WITH page AS (
		SELECT k.source, k.message_id, k.received_at, k.permanent FROM cdp.event_key k
		WHERE (k.source, k.message_id) > (after_source, after_message)
		ORDER BY k.source, k.message_id LIMIT batch
	), gone AS (
		DELETE FROM cdp.event_key k USING page p
		WHERE (k.source, k.message_id) = (p.source, p.message_id)
		  AND NOT p.permanent AND p.received_at < cdp.now() - current_setting('cdp.dedupe_window')::interval
		  -- as it is now: track() may have taken an old key over since
		  AND NOT k.permanent AND k.received_at = p.received_at
		RETURNING 1
	), last AS (
		SELECT p.source, p.message_id FROM page p ORDER BY p.source DESC, p.message_id DESC LIMIT 1
	)
	SELECT (SELECT count(*) FROM page), (SELECT count(*) FROM gone), l.source, l.message_id
	INTO scanned, removed, last_source, last_message
	FROM (SELECT 1) one LEFT JOIN last l ON true;
END $$;
COMMENT ON FUNCTION cdp._prune_event_keys(text, text, int) IS 'internal: one batch of prune_event_keys; scanned = 0 at the end';

CREATE OR REPLACE FUNCTION cdp._health_event() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
BEGIN
	-- a monitor wants to know of ten and of ten thousand, not how many millions
	SELECT count(*) INTO n FROM (SELECT FROM cdp.event_reject LIMIT 10001) r;
	RETURN QUERY VALUES ('rejected_events', n = 0,
		CASE WHEN n = 0 THEN 'none' WHEN n > 10000 THEN 'more than 10,000 in cdp.event_reject'
		     ELSE format('%s in cdp.event_reject; mend the plan, then SELECT cdp.retry_rejects()', n) END);
END $$;
COMMENT ON FUNCTION cdp._health_event() IS 'internal: rows of event in cdp.health()';

CREATE OR REPLACE FUNCTION cdp.retry_rejects(name text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r   record;
	why text;
	n   bigint := 0;
BEGIN
	PERFORM cdp._require_version();
	FOR r IN SELECT e.reject_id, e.item, e.event_id, e.received_at, e.permanent, e.reason FROM cdp.event_reject e
		WHERE retry_rejects.name IS NULL OR e.name = retry_rejects.name
		ORDER BY e.reject_id FOR UPDATE SKIP LOCKED
	LOOP
		why := cdp._retry_reject(r.item, r.event_id, r.received_at, r.permanent);
		IF why IS NULL THEN
			DELETE FROM cdp.event_reject e WHERE e.reject_id = r.reject_id;
			n := n + 1;
		ELSIF why <> r.reason THEN
			UPDATE cdp.event_reject e SET reason = why WHERE e.reject_id = r.reject_id;
		END IF;
	END LOOP;
	RETURN n;
END $$;
COMMENT ON FUNCTION cdp.retry_rejects(text) IS 'Tries the events kept in cdp.event_reject again, all or those of one name, after the tracking plan, the clock or the kinds were mended. Their ids and times are the ones of the first try. Answers how many left the table; the others keep their place with the present reason.';
CREATE OR REPLACE VIEW cdp.order_track AS
SELECT o.order_id, coalesce(a.customer_id, o.profile_id) AS customer_id, o.status, o.channel, o.store_id, o.tracking_no,
	o.ordered_at, o.paid_at, o.shipped_at, o.completed_at, o.cancelled_at, r.refunded_at,
	o.amount, o.refunded, o.currency,
	round(extract(epoch FROM o.paid_at - o.ordered_at) / 3600, 2) AS hours_to_pay,
	round(extract(epoch FROM o.shipped_at - coalesce(o.paid_at, o.ordered_at)) / 3600, 2) AS hours_to_ship,
	round(extract(epoch FROM o.completed_at - coalesce(o.shipped_at, o.paid_at, o.ordered_at)) / 3600, 2) AS hours_to_complete,
	CASE WHEN o.status IN ('placed', 'paid', 'shipped') THEN
		round(extract(epoch FROM cdp.now() - CASE o.status WHEN 'shipped' THEN coalesce(o.shipped_at, o.paid_at, o.ordered_at)
			WHEN 'paid' THEN coalesce(o.paid_at, o.ordered_at) ELSE o.ordered_at END) / 3600, 2)
	END AS hours_waiting
FROM cdp.sales_order o
LEFT JOIN cdp.profile_alias a ON a.profile_id = o.profile_id
LEFT JOIN LATERAL (SELECT max(f.refunded_at) AS refunded_at FROM cdp.sales_refund f WHERE f.order_id = o.order_id) r ON true;
COMMENT ON VIEW cdp.order_track IS 'Where every order is now: status, the moment of each step (NULL: not reached or not known), hours between the steps, hours_waiting in the present step while the order is open.';

CREATE OR REPLACE FUNCTION cdp.record_order(identifiers jsonb, sales_order jsonb) RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	o     record;
	buyer bigint;
	r     record;
BEGIN
	PERFORM cdp._require_version();
	-- all that can be said before anything is written
	SELECT * INTO o FROM cdp._read_order(sales_order);
	SELECT i.* INTO r FROM cdp._identify_rows(ARRAY[identifiers], NULL, NULL, ARRAY[o.ordered_at]) i;
	IF r.sqlstate IS NOT NULL THEN
		RAISE EXCEPTION '%', r.message USING ERRCODE = r.sqlstate, HINT = r.hint;
	END IF;
	buyer := r.profile_id;

	IF o.ordered_at IS NULL AND NOT EXISTS (SELECT FROM cdp.sales_order s WHERE s.order_id = o.order_id) THEN
		o.ordered_at := cdp.now();
	END IF;
	SELECT a.* INTO r FROM cdp._apply_orders(ARRAY[buyer], ARRAY[o.order_id], ARRAY[o.ordered_at], ARRAY[o.status],
		ARRAY[o.amount], ARRAY[o.refunded], ARRAY[o.currency], ARRAY[o.channel], ARRAY[o.store_id], ARRAY[o.payment_method],
		ARRAY[o.paid_at], ARRAY[o.shipped_at], ARRAY[o.completed_at], ARRAY[o.tracking_no], NULL, true, ARRAY[o.cancelled_at],
		CASE WHEN o.products IS NOT NULL THEN jsonb_build_object(o.order_id, o.products) END) a;
	IF FOUND THEN
		RAISE EXCEPTION '%', r.reason USING ERRCODE = r.sqlstate,
			HINT = CASE r.sqlstate WHEN '23505' THEN 'An attached source writes that order. Record this one under a key of its own, for example "api-1001".' ELSE r.hint END;
	END IF;
	IF o.lines IS NOT NULL THEN
		PERFORM cdp._replace_lines(ARRAY[o.order_id], jsonb_build_array(o.lines));
	END IF;
	RETURN o.order_id;
END $$;
COMMENT ON FUNCTION cdp.record_order(jsonb, jsonb) IS 'Writes an order, or what is new about it; answers its order_id. identifiers: of the customer, as for cdp.identify(). sales_order: {"order_id": …, "ordered_at": … (default cdp.now()), "status": placed|paid|shipped|completed|cancelled|refunded (default placed), "amount": …, "refunded": running total, "currency": ISO 4217 (default CNY), "channel", "store_id", "payment_method", "paid_at", "shipped_at", "completed_at", "cancelled_at", "tracking_no", "lines": [{"line_no", "product_id", "quantity", "unit_price", "category"}]}. Keys left out stay as they are; lines given replace lines. An order first seen may have any status, then it goes forward only. Each new status is an event (Order Placed, Order Paid, …), written once. The same call again changes nothing. Errors: 22023 unknown key, malformed value, duplicate line, backward status; 22004 order_id, customer or amount missing; 23505 an attached source owns the order; LC101 no usable identifier.';

CREATE OR REPLACE FUNCTION cdp._replace_lines(order_ids text[], lines jsonb) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off	-- as in _update_orders
AS $$
-- most calls say again what is known; those need no lock
#variable_conflict use_column
DECLARE
	ids  text[];
	news jsonb;
	r    record;
BEGIN
	SELECT array_agg(u.id ORDER BY u.id COLLATE "C"), jsonb_agg(j.value ORDER BY u.id COLLATE "C") INTO ids, news
	FROM unnest(order_ids) WITH ORDINALITY u(id, n) JOIN jsonb_array_elements(lines) WITH ORDINALITY j ON j.ordinality = u.n
	WHERE (SELECT count(l.source) > 0 OR j.value <> coalesce(jsonb_agg(jsonb_build_object('line_no', l.line_no, 'product_id', l.product_id,
			'quantity', l.quantity, 'unit_price', l.unit_price, 'category', l.category) ORDER BY l.line_no), '[]')
		FROM cdp.sales_order_line l WHERE l.order_id = u.id);
	IF ids IS NULL THEN
		RETURN;
	END IF;
	PERFORM FROM cdp.sales_order o WHERE o.order_id = ANY (ids) ORDER BY o.order_id COLLATE "C" FOR NO KEY UPDATE;
	SELECT c.* INTO r FROM cdp.sales_order_line l,
		LATERAL cdp._commerce_complaint('owner', l.order_id || '/' || l.line_no, l.source, 'order line') c
	WHERE l.order_id = ANY (ids) AND l.source IS NOT NULL ORDER BY l.order_id, l.line_no LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION '%', r.reason USING ERRCODE = r.sqlstate,
			HINT = 'An attached source writes the lines of this order: leave "lines" out.';
	END IF;
	WITH n AS MATERIALIZED (
		SELECT u.id, ARRAY(SELECT (l.value ->> 'line_no')::bigint FROM jsonb_array_elements(j.value) l) AS nos
		FROM unnest(ids) WITH ORDINALITY u(id, n) JOIN jsonb_array_elements(news) WITH ORDINALITY j ON j.ordinality = u.n
	)
	DELETE FROM cdp.sales_order_line l USING n WHERE l.order_id = n.id AND l.line_no <> ALL (n.nos);
	PERFORM a.ord FROM (
		SELECT array_agg(u.id) AS ids, array_agg(n.line_no) AS nos, array_agg(n.product_id) AS products,
			array_agg(n.quantity) AS quantities, array_agg(n.unit_price) AS prices, array_agg(n.category) AS categories
		FROM unnest(ids) WITH ORDINALITY u(id, n) JOIN jsonb_array_elements(news) WITH ORDINALITY j ON j.ordinality = u.n,
			LATERAL jsonb_to_recordset(j.value) AS n(line_no bigint, product_id text, quantity numeric, unit_price numeric, category text)
		) n, LATERAL cdp._apply_order_lines(n.ids, n.nos, n.products, n.quantities, n.prices, n.categories, NULL) a;
END $$;
COMMENT ON FUNCTION cdp._replace_lines(text[], jsonb) IS 'internal: makes the n-th array of lines the lines of the n-th order';

CREATE OR REPLACE FUNCTION cdp.refund_order(order_id text, amount numeric, reason text DEFAULT NULL, refund_id text DEFAULT NULL)
	RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id    text := refund_id;
	o     record;
	known record;
	made  bigint;
	n     bigint;
BEGIN
	PERFORM cdp._require_version();
	IF order_id IS NULL OR amount IS NULL THEN
		RAISE EXCEPTION 'order_id and amount must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'For example SELECT cdp.refund_order(''1001'', 12.50, ''damaged'', ''refund-77'').';
	ELSIF amount <= 0 OR amount >= 'Infinity' THEN
		RAISE EXCEPTION 'the amount of a refund must be a finite number above 0' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'It is in the currency of the order.';
	ELSIF cdp._is_unwieldy(amount) THEN
		RAISE EXCEPTION 'a number has more than 30 digits before or 40 after the decimal point' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Round it: no currency needs more.';
	ELSIF id = '' OR octet_length(id) > 200 OR octet_length(reason) > 2000 THEN
		RAISE EXCEPTION 'refund_id or reason has an unusable length' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'refund_id has 1 to 200 bytes, reason up to 2000.';
	END IF;
	-- refunds of one order come one after the other
	SELECT * INTO o FROM cdp.sales_order s WHERE s.order_id = refund_order.order_id FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no such order' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Write it first: SELECT cdp.record_order(…).';
	END IF;
	SELECT * INTO known FROM cdp.sales_refund f WHERE f.refund_id = id;
	IF FOUND THEN
		IF known.order_id <> refund_order.order_id OR known.amount <> refund_order.amount THEN
			RAISE EXCEPTION 'this refund_id stands for another refund' USING ERRCODE = 'invalid_parameter_value',
				HINT = 'The same refund_id means the same refund of the same order; give another refund a refund_id of its own.';
		END IF;
		RETURN id;
	END IF;
	IF id LIKE '%/refunded/%' THEN
		RAISE EXCEPTION 'refund_id has the form of those that running totals get' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Leave "/refunded/" out of it.';
	END IF;
	IF amount > o.amount - o.refunded THEN
		RAISE EXCEPTION 'the refund is more than what is left of the order' USING ERRCODE = 'invalid_parameter_value',
			HINT = format('Of %s %s there are %s left to refund.', o.amount, o.currency, greatest(o.amount - o.refunded, 0));
	END IF;
	n := (SELECT count(*) FROM cdp.sales_refund f WHERE f.order_id = refund_order.order_id);
	LOOP
		n := n + 1;
		id := coalesce(refund_id, format('%s/%s', order_id, n));
		INSERT INTO cdp.sales_refund (refund_id, order_id, amount, reason, refunded_at)
			VALUES (id, refund_order.order_id, refund_order.amount, refund_order.reason, cdp.now()) ON CONFLICT DO NOTHING;
		GET DIAGNOSTICS made = ROW_COUNT;
		EXIT WHEN made = 1;
		IF refund_id IS NOT NULL THEN
			-- somebody was faster, for another order
			RAISE EXCEPTION 'this refund_id stands for another refund' USING ERRCODE = 'invalid_parameter_value',
				HINT = 'The same refund_id means the same refund of the same order; give another refund a refund_id of its own.';
		END IF;
	END LOOP;
	UPDATE cdp.sales_order s SET refunded = s.refunded + refund_order.amount,
		status = cdp._order_status(s.status, s.amount, s.refunded + refund_order.amount), updated_at = cdp.now()
	WHERE s.order_id = refund_order.order_id;
	PERFORM cdp._insert_events(ARRAY[o.profile_id], ARRAY['Order Refunded'], ARRAY[cdp.now()],
		ARRAY[jsonb_strip_nulls(jsonb_build_object('order_id', order_id, 'refund_id', id, 'total', amount,
			'currency', o.currency, 'reason', reason, 'full', o.refunded + amount >= o.amount))],
		ARRAY['refund/' || id], ARRAY['cdp'], ARRAY[o.channel], true);
	RETURN id;
END $$;
COMMENT ON FUNCTION cdp.refund_order(text, numeric, text, text) IS 'Gives back a part or all of an order; answers the refund_id. amount: in the currency of the order, above 0, at most what is left. reason: free text without personal data. refund_id: the application''s key, with which the call can be repeated; without it each call is a new refund. The order''s refunded rises; when nothing is left its status becomes refunded (a cancelled order stays cancelled). Writes the event Order Refunded. Errors: 22004 NULL order or amount, 22023 no such order, bad amount, more than is left, or the refund_id of another refund.';
CREATE OR REPLACE FUNCTION cdp._insert_orders(profile_ids bigint[], order_ids text[], ordered_ats timestamptz[],
	statuses text[], amounts numeric[], refundeds numeric[], currencies text[], channels text[], store_ids text[],
	payment_methods text[], paid_ats timestamptz[], shipped_ats timestamptz[], completed_ats timestamptz[],
	tracking_nos text[], source text, strict boolean, cancelled_ats timestamptz[],
	products jsonb)
	RETURNS text[]
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
AS $$
-- A generic plan is right for one row and for ten thousand: the statement reads arrays and its own results only,
-- and the one lookup, which event keys were new, is a hashed subplan (IN .. IS TRUE is not turned into a join).
-- What stands between the marks is left out of _insert_new_orders, see below.
#variable_conflict use_column
DECLARE
	fresh text[];
BEGIN
	WITH item AS (
		SELECT u.* FROM cdp._order_rows(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies, channels,
			store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, cancelled_ats, tracking_nos) u
		WHERE profile_id IS NOT NULL AND ordered_at IS NOT NULL AND amount IS NOT NULL
		  AND cdp._order_defect(order_id, ordered_at, status, amount, refunded, currency, channel, store_id,
				payment_method, paid_at, shipped_at, completed_at, cancelled_at, tracking_no) IS NULL
		  AND (NOT _insert_orders.strict OR refunded <= amount) IS NOT FALSE
	), made AS (
		INSERT INTO cdp.sales_order AS o (order_id, profile_id, ordered_at, status, amount, refunded, currency, channel,
			store_id, payment_method, paid_at, shipped_at, completed_at, cancelled_at, tracking_no, source)
		SELECT i.order_id, i.profile_id, i.ordered_at, cdp._order_status(coalesce(i.status, 'placed'), i.amount, i.refunded),
			i.amount, CASE WHEN i.status = 'refunded' THEN greatest(i.refunded, i.amount) ELSE coalesce(i.refunded, 0) END,
			coalesce(i.currency, 'CNY'), i.channel, i.store_id, i.payment_method, i.paid_at, i.shipped_at, i.completed_at,
			i.cancelled_at, i.tracking_no, _insert_orders.source
		FROM item i ORDER BY i.order_id COLLATE "C", i.ord
		/*?*/ ON CONFLICT DO NOTHING /*!*/
		RETURNING o.order_id, o.profile_id, o.ordered_at, o.status, o.amount, o.refunded, o.currency, o.channel,
			CASE o.status WHEN 'completed' THEN o.completed_at WHEN 'paid' THEN o.paid_at
				WHEN 'shipped' THEN o.shipped_at WHEN 'cancelled' THEN o.cancelled_at END AS step_at
	), refund AS (
		INSERT INTO cdp.sales_refund (refund_id, order_id, amount, refunded_at)
		SELECT m.order_id || '/refunded/' || trim_scale(m.refunded), m.order_id, m.refunded, m.ordered_at
		FROM made m WHERE m.refunded > 0 /*?*/ ON CONFLICT DO NOTHING /*!*/
	), happened AS MATERIALIZED (
		SELECT nextval('cdp.event_event_id_seq') AS event_id, h.* FROM (
			SELECT m.profile_id, cdp._order_event(m.status) AS name, coalesce(m.step_at, m.ordered_at) AS occurred_at,
				'order/' || m.order_id || '/' || m.status AS message_id, m.channel,
				CASE WHEN _insert_orders.products ? m.order_id
				     THEN jsonb_build_object('order_id', m.order_id, 'total', m.amount, 'currency', m.currency,
				                             'products', _insert_orders.products -> m.order_id)
				     ELSE jsonb_build_object('order_id', m.order_id, 'total', m.amount, 'currency', m.currency) END AS properties
			FROM made m WHERE m.status <> 'refunded' OR m.refunded = 0
			UNION ALL
			SELECT m.profile_id, 'Order Refunded', m.ordered_at,
				'refund/' || m.order_id || '/refunded/' || trim_scale(m.refunded), m.channel,
				jsonb_build_object('order_id', m.order_id, 'refund_id', m.order_id || '/refunded/' || trim_scale(m.refunded),
					'total', m.refunded, 'currency', m.currency, 'full', m.refunded >= m.amount)
			FROM made m WHERE m.refunded > 0) h
	), known AS (
		INSERT INTO cdp.event_key AS k (source, message_id, event_id, permanent)
		SELECT 'cdp', h.message_id, h.event_id, true FROM happened h
		/*?*/ ON CONFLICT DO NOTHING RETURNING k.event_id /*!*/
	), logged AS (
		INSERT INTO cdp.event (event_id, profile_id, name, occurred_at, properties, message_id, source, channel)
		SELECT h.event_id, h.profile_id, h.name, h.occurred_at, h.properties, h.message_id, 'cdp', h.channel
		FROM happened h /*?*/ WHERE (h.event_id IN (SELECT k.event_id FROM known k)) IS TRUE /*!*/
	)
	SELECT array_agg(m.order_id) INTO fresh FROM made m;
	RETURN fresh;
END $$;
COMMENT ON FUNCTION cdp._insert_orders(bigint[], text[], timestamptz[], text[], numeric[], numeric[], text[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[], text[], text, boolean, timestamptz[], jsonb) IS 'internal: _apply_orders for the orders that are not known yet; answers their order_ids';

-- Looking for conflicts costs a fifth of the whole.  A batch that looks entirely new tries without, and is done
-- over with _insert_orders when it was wrong.
EXECUTE regexp_replace(replace(pg_get_functiondef('cdp._insert_orders'::regproc), '_insert_orders', '_insert_new_orders'),
	'/\*\?\*/.*?/\*!\*/', '', 'g');
COMMENT ON FUNCTION cdp._insert_new_orders(bigint[], text[], timestamptz[], text[], numeric[], numeric[], text[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[], text[], text, boolean, timestamptz[], jsonb) IS 'internal: _insert_orders without ON CONFLICT, 23505 when some order or event is known';

CREATE OR REPLACE FUNCTION cdp._apply_orders(profile_ids bigint[], order_ids text[], ordered_ats timestamptz[],
	statuses text[], amounts numeric[], refundeds numeric[], currencies text[], channels text[], store_ids text[],
	payment_methods text[], paid_ats timestamptz[], shipped_ats timestamptz[], completed_ats timestamptz[],
	tracking_nos text[], source text, strict boolean, cancelled_ats timestamptz[] DEFAULT NULL,
	products jsonb DEFAULT NULL)
	RETURNS TABLE (ord int, sqlstate text, reason text, hint text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_seqscan = off	-- as in _update_orders
AS $$
#variable_conflict use_column
DECLARE
	n     int := cardinality(order_ids);
	fresh text[];
	nth   int[];
BEGIN
	-- a subtransaction is only worth it for many rows
	IF n >= 100 AND NOT EXISTS (SELECT FROM cdp.sales_order o
		WHERE o.order_id = ANY (ARRAY[order_ids[1], order_ids[n / 2], order_ids[n]]))
	THEN
		BEGIN
			fresh := cdp._insert_new_orders(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies,
				channels, store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, tracking_nos,
				_apply_orders.source, _apply_orders.strict, cancelled_ats, products);
		EXCEPTION WHEN unique_violation THEN
			NULL;	-- some order is known after all
		END;
	END IF;
	IF fresh IS NULL THEN
		fresh := cdp._insert_orders(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies,
			channels, store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, tracking_nos,
			_apply_orders.source, _apply_orders.strict, cancelled_ats, products);
	END IF;
	IF cardinality(fresh) = n THEN
		RETURN;
	END IF;

	-- What is left: rows of orders that were known, further rows of one order, bad rows.  nth: the round in which a
	-- row is applied, 0 when its order has just been made of it, -1 when it is bad.
	SELECT array_agg(CASE WHEN d.defect IS NOT NULL OR d.ord < d.made_of THEN -1
	                      WHEN d.ord = d.made_of THEN 0 ELSE d.nth END ORDER BY d.ord)
	INTO nth
	FROM (
		SELECT c.ord, c.defect, row_number() OVER (PARTITION BY c.order_id, c.defect IS NULL ORDER BY c.ord) AS nth,
			CASE WHEN (c.order_id IN (SELECT unnest(fresh))) IS TRUE
			     THEN min(c.ord) FILTER (WHERE c.complete) OVER (PARTITION BY c.order_id) END AS made_of
		FROM (
			SELECT u.order_id, u.ord, e.defect,
				e.defect IS NULL AND profile_id IS NOT NULL AND ordered_at IS NOT NULL AND amount IS NOT NULL AS complete
			FROM cdp._order_rows(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies, channels,
				store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, cancelled_ats, tracking_nos) u,
			LATERAL (SELECT coalesce(cdp._order_defect(order_id, ordered_at, status, amount, refunded, currency, channel,
				store_id, payment_method, paid_at, shipped_at, completed_at, cancelled_at, tracking_no),
				CASE WHEN _apply_orders.strict AND refunded > amount THEN 'too much' END) AS defect) e
			) c) d;
	RETURN QUERY
		SELECT u.ord::int, t.sqlstate, t.reason, t.hint
		FROM cdp._order_rows(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies, channels,
			store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, cancelled_ats, tracking_nos, nth) u,
		LATERAL cdp._commerce_complaint(coalesce(cdp._order_defect(order_id, ordered_at, status, amount, refunded, currency,
			channel, store_id, payment_method, paid_at, shipped_at, completed_at, cancelled_at, tracking_no),
			CASE WHEN _apply_orders.strict AND refunded > amount THEN 'too much' ELSE 'incomplete' END)) t
		WHERE u.nth = -1;
	-- round by round; mostly there is one
	FOR k IN 1 .. (SELECT coalesce(max(n), 0) FROM unnest(nth) n) LOOP
		RETURN QUERY SELECT u.* FROM cdp._update_orders(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds,
			currencies, channels, store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, tracking_nos,
			_apply_orders.source, _apply_orders.strict, cancelled_ats, products, nth, k) u;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._apply_orders(bigint[], text[], timestamptz[], text[], numeric[], numeric[], text[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[], text[], text, boolean, timestamptz[], jsonb) IS 'internal: brings a batch of orders in, events included, as the rows one after the other would; a NULL element keeps what is known. source: who writes, NULL for record_order(); strict: backward changes of status are refused (false: the source is the truth); products: lines for the events, {order_id: [...]}. Answers the rows that were not taken.';

CREATE OR REPLACE FUNCTION cdp._update_orders(profile_ids bigint[], order_ids text[], ordered_ats timestamptz[],
	statuses text[], amounts numeric[], refundeds numeric[], currencies text[], channels text[], store_ids text[],
	payment_methods text[], paid_ats timestamptz[], shipped_ats timestamptz[], completed_ats timestamptz[],
	tracking_nos text[], source text, strict boolean, cancelled_ats timestamptz[], products jsonb, nth int[], round int)
	RETURNS TABLE (ord int, sqlstate text, reason text, hint text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	-- every lookup is one by the primary key of sales_order; a plan made while the table was small must say so too
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
BEGIN
	-- two statements, so that under READ COMMITTED the second one sees what the locks have waited for
	PERFORM FROM cdp._order_rows(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies, channels,
			store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, cancelled_ats, tracking_nos, nth) i
		JOIN cdp.sales_order o ON o.order_id = i.order_id
		WHERE i.nth = _update_orders.round
		  AND (cdp._order_status(i.status, coalesce(i.amount, o.amount), greatest(i.refunded, o.refunded)) <> o.status
			OR i.amount <> o.amount OR i.refunded > o.refunded OR i.currency <> o.currency
			OR i.ordered_at <> o.ordered_at OR coalesce(i.channel <> o.channel, i.channel IS NOT NULL)
			OR coalesce(i.store_id <> o.store_id, i.store_id IS NOT NULL)
			OR coalesce(i.payment_method <> o.payment_method, i.payment_method IS NOT NULL)
			OR coalesce(i.paid_at <> o.paid_at, i.paid_at IS NOT NULL)
			OR coalesce(i.shipped_at <> o.shipped_at, i.shipped_at IS NOT NULL)
			OR coalesce(i.completed_at <> o.completed_at, i.completed_at IS NOT NULL)
			OR coalesce(i.cancelled_at <> o.cancelled_at, i.cancelled_at IS NOT NULL)
			OR coalesce(i.tracking_no <> o.tracking_no, i.tracking_no IS NOT NULL))
		ORDER BY o.order_id COLLATE "C" FOR NO KEY UPDATE OF o;

	RETURN QUERY
	WITH item AS (
		SELECT i.ord, i.order_id, o.profile_id, i.profile_id AS buyer, o.status AS was, o.refunded AS was_refunded,
			o.currency AS was_currency, o.source AS owner,
			coalesce(i.ordered_at, o.ordered_at) AS ordered_at, coalesce(i.status, o.status) AS status,
			coalesce(i.amount, o.amount) AS amount,
			greatest(o.refunded, i.refunded, CASE WHEN i.status = 'refunded' THEN coalesce(i.amount, o.amount) END) AS refunded,
			coalesce(i.currency, o.currency) AS currency, coalesce(i.channel, o.channel) AS channel,
			coalesce(i.store_id, o.store_id) AS store_id, coalesce(i.payment_method, o.payment_method) AS payment_method,
			coalesce(i.paid_at, o.paid_at) AS paid_at, coalesce(i.shipped_at, o.shipped_at) AS shipped_at,
			coalesce(i.completed_at, o.completed_at) AS completed_at, coalesce(i.cancelled_at, o.cancelled_at) AS cancelled_at,
			coalesce(i.tracking_no, o.tracking_no) AS tracking_no
		FROM cdp._order_rows(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies, channels,
			store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, cancelled_ats, tracking_nos, nth) i
		LEFT JOIN cdp.sales_order o ON o.order_id = i.order_id
		WHERE i.nth = _update_orders.round
	), wish AS MATERIALIZED (
		SELECT i.ord, i.order_id, i.profile_id, i.was, i.owner, i.status AS given, i.ordered_at, s.status, i.amount, i.refunded,
			i.refunded - i.was_refunded AS increase, i.currency, i.channel, i.store_id, i.payment_method, i.tracking_no,
			CASE WHEN i.paid_at IS NULL AND s.entered = 'paid' THEN cdp.now() ELSE i.paid_at END AS paid_at,
			CASE WHEN i.shipped_at IS NULL AND s.entered = 'shipped' THEN cdp.now() ELSE i.shipped_at END AS shipped_at,
			CASE WHEN i.completed_at IS NULL AND s.entered = 'completed' THEN cdp.now() ELSE i.completed_at END AS completed_at,
			CASE WHEN i.cancelled_at IS NULL AND s.entered = 'cancelled' THEN cdp.now() ELSE i.cancelled_at END AS cancelled_at,
			CASE WHEN i.was IS NULL AND (i.buyer IS NULL OR i.ordered_at IS NULL OR i.amount IS NULL) THEN 'incomplete'
			     WHEN i.was IS NULL THEN 'gone'
			     WHEN i.owner IS DISTINCT FROM _update_orders.source THEN 'owner'
			     WHEN _update_orders.strict AND i.refunded > i.amount THEN 'too much'
			     WHEN _update_orders.strict AND i.was_refunded > 0 AND i.currency <> i.was_currency THEN 'refunds'
			     WHEN _update_orders.strict AND i.status <> i.was AND i.status <> ALL (cdp._order_forward(i.was)) THEN 'backward'
			END AS defect
		FROM item i, LATERAL (SELECT f.status, CASE WHEN f.status <> i.was THEN f.status END AS entered
			FROM (SELECT cdp._order_status(i.status, i.amount, i.refunded) AS status) f) s
	), changed AS (
		UPDATE cdp.sales_order o SET (ordered_at, status, amount, refunded, currency, channel, store_id, payment_method,
				paid_at, shipped_at, completed_at, cancelled_at, tracking_no, updated_at)
			= (w.ordered_at, w.status, w.amount, w.refunded, w.currency, w.channel, w.store_id, w.payment_method,
				w.paid_at, w.shipped_at, w.completed_at, w.cancelled_at, w.tracking_no, cdp.now())
		FROM wish w WHERE o.order_id = w.order_id AND w.defect IS NULL
		  AND (o.ordered_at, o.status, o.amount, o.refunded, o.currency, o.channel, o.store_id, o.payment_method,
				o.paid_at, o.shipped_at, o.completed_at, o.cancelled_at, o.tracking_no)
			IS DISTINCT FROM (w.ordered_at, w.status, w.amount, w.refunded, w.currency, w.channel, w.store_id, w.payment_method,
				w.paid_at, w.shipped_at, w.completed_at, w.cancelled_at, w.tracking_no)
		RETURNING w.*
	), refund AS (
		INSERT INTO cdp.sales_refund (refund_id, order_id, amount, refunded_at)
		SELECT c.order_id || '/refunded/' || trim_scale(c.refunded), c.order_id, c.increase, cdp.now()
		FROM changed c WHERE c.increase > 0 ON CONFLICT DO NOTHING
	), happened AS MATERIALIZED (
		SELECT nextval('cdp.event_event_id_seq') AS event_id, h.* FROM (
			SELECT c.profile_id, cdp._order_event(c.status) AS name,
				CASE c.status WHEN 'completed' THEN c.completed_at WHEN 'paid' THEN c.paid_at WHEN 'shipped' THEN c.shipped_at
					WHEN 'cancelled' THEN c.cancelled_at ELSE cdp.now() END AS occurred_at,
				'order/' || c.order_id || '/' || c.status AS message_id, c.channel,
				jsonb_strip_nulls(jsonb_build_object('order_id', c.order_id,
					'total', CASE WHEN c.status = 'refunded' THEN 0 ELSE c.amount END, 'currency', c.currency,
					'products', coalesce(_update_orders.products -> c.order_id, (
						SELECT jsonb_agg(jsonb_build_object('product_id', l.product_id, 'category', l.category,
							'quantity', l.quantity, 'price', l.unit_price) ORDER BY l.line_no)
						FROM (SELECT * FROM cdp.sales_order_line n WHERE n.order_id = c.order_id ORDER BY n.line_no LIMIT 100) l)))) AS properties
			FROM changed c WHERE c.status <> c.was AND (c.status <> 'refunded' OR c.increase = 0)
			UNION ALL
			SELECT c.profile_id, 'Order Refunded', cdp.now(),
				'refund/' || c.order_id || '/refunded/' || trim_scale(c.refunded), c.channel,
				jsonb_build_object('order_id', c.order_id, 'refund_id', c.order_id || '/refunded/' || trim_scale(c.refunded),
					'total', c.increase, 'currency', c.currency, 'full', c.refunded >= c.amount)
			FROM changed c WHERE c.increase > 0) h
	), known AS (
		INSERT INTO cdp.event_key AS k (source, message_id, event_id, permanent)
		SELECT 'cdp', h.message_id, h.event_id, true FROM happened h
		ON CONFLICT DO NOTHING RETURNING k.event_id
	), logged AS (
		INSERT INTO cdp.event (event_id, profile_id, name, occurred_at, properties, message_id, source, channel)
		SELECT h.event_id, h.profile_id, h.name, h.occurred_at, h.properties, h.message_id, 'cdp', h.channel
		FROM happened h WHERE (h.event_id IN (SELECT k.event_id FROM known k)) IS TRUE
	)
	SELECT w.ord::int, t.sqlstate, t.reason, t.hint
	FROM wish w, LATERAL cdp._commerce_complaint(w.defect, w.order_id, CASE w.defect WHEN 'owner' THEN w.owner ELSE w.was END,
		CASE w.defect WHEN 'owner' THEN 'order' ELSE w.given END) t
	WHERE w.defect IS NOT NULL;
END $$;
COMMENT ON FUNCTION cdp._update_orders(bigint[], text[], timestamptz[], text[], numeric[], numeric[], text[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[], text[], text, boolean, timestamptz[], jsonb, int[], int) IS 'internal: one round of _apply_orders over orders that exist: the rows with nth = round, no two of one order';

CREATE OR REPLACE FUNCTION cdp._cancel_orders(order_ids text[], source text) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ids text[] := ARRAY(SELECT o.order_id FROM cdp.sales_order o
		WHERE o.order_id = ANY (_cancel_orders.order_ids) AND o.source IS NOT DISTINCT FROM _cancel_orders.source
		  AND o.status NOT IN ('cancelled', 'refunded'));
BEGIN
	PERFORM cdp._apply_orders(NULL, ids, NULL, array_fill('cancelled'::text, ARRAY[cardinality(ids)]), NULL, NULL, NULL,
		NULL, NULL, NULL, NULL, NULL, NULL, NULL, _cancel_orders.source, false);
	RETURN cardinality(ids);
END $$;
COMMENT ON FUNCTION cdp._cancel_orders(text[], text) IS 'internal: cancels those of the orders that belong to the source and are neither cancelled nor refunded; answers how many';

CREATE OR REPLACE FUNCTION cdp._apply_order_lines(order_ids text[], line_nos bigint[], product_ids text[],
	quantities numeric[], unit_prices numeric[], categories text[], source text)
	RETURNS TABLE (ord int, sqlstate text, reason text, hint text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
-- New lines first; what was in the way is compared and, where it differs, replaced.  Of several rows of one line
-- in a batch the last one counts.
#variable_conflict use_column
DECLARE
	made bigint;
BEGIN
	WITH item AS (
		SELECT DISTINCT ON (u.order_id COLLATE "C", u.line_no) u.*
		FROM unnest(order_ids, line_nos, product_ids, quantities, unit_prices, categories) WITH ORDINALITY
			AS u(order_id, line_no, product_id, quantity, unit_price, category, ord)
		WHERE cdp._line_defect(u.order_id, u.line_no, u.product_id, u.quantity, u.unit_price, u.category) IS NULL
		ORDER BY u.order_id COLLATE "C", u.line_no, u.ord DESC
	)
	INSERT INTO cdp.sales_order_line (order_id, line_no, product_id, quantity, unit_price, category, source)
	SELECT i.order_id, i.line_no, i.product_id, coalesce(i.quantity, 1), i.unit_price, i.category, _apply_order_lines.source
	FROM item i ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS made = ROW_COUNT;
	IF made = cardinality(order_ids) THEN
		RETURN;
	END IF;
	RETURN QUERY
	WITH item AS MATERIALIZED (
		SELECT u.*, cdp._line_defect(u.order_id, u.line_no, u.product_id, u.quantity, u.unit_price, u.category) AS defect
		FROM unnest(order_ids, line_nos, product_ids, quantities, unit_prices, categories) WITH ORDINALITY
			AS u(order_id, line_no, product_id, quantity, unit_price, category, ord)
	), wish AS MATERIALIZED (
		SELECT DISTINCT ON (i.order_id COLLATE "C", i.line_no) i.*, l.line_id
		FROM item i JOIN cdp.sales_order_line l ON l.order_id = i.order_id AND l.line_no = i.line_no
		WHERE i.defect IS NULL AND l.source IS NOT DISTINCT FROM _apply_order_lines.source
		ORDER BY i.order_id COLLATE "C", i.line_no, i.ord DESC
	), changed AS (
		UPDATE cdp.sales_order_line l SET (product_id, quantity, unit_price, category, updated_at)
			= (w.product_id, coalesce(w.quantity, 1), w.unit_price, w.category, cdp.now())
		FROM wish w WHERE l.line_id = w.line_id
		  AND (l.product_id, l.quantity, l.unit_price, l.category)
			IS DISTINCT FROM (w.product_id, coalesce(w.quantity, 1), w.unit_price, w.category)
	)
	SELECT i.ord::int, t.sqlstate, t.reason, t.hint
	FROM item i, LATERAL cdp._commerce_complaint(i.defect) t WHERE i.defect IS NOT NULL
	UNION ALL
	SELECT i.ord::int, t.sqlstate, t.reason, t.hint
	FROM item i JOIN cdp.sales_order_line l ON l.order_id = i.order_id AND l.line_no = i.line_no,
		LATERAL cdp._commerce_complaint('owner', l.order_id || '/' || l.line_no, l.source, 'order line') t
	WHERE i.defect IS NULL AND l.source IS DISTINCT FROM _apply_order_lines.source
	ORDER BY 1;
END $$;
COMMENT ON FUNCTION cdp._apply_order_lines(text[], bigint[], text[], numeric[], numeric[], text[], text) IS 'internal: brings a batch of order lines in, each with its whole content (NULL quantity: 1); the orders need not be there. Answers the rows that were not taken.';

CREATE OR REPLACE FUNCTION cdp._apply_products(product_ids text[], names text[], categories text[], prices numeric[],
	currencies text[], statuses text[], source text)
	RETURNS TABLE (ord int, sqlstate text, reason text, hint text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
	made bigint;
BEGIN
	WITH item AS (
		SELECT DISTINCT ON (u.product_id COLLATE "C") u.*
		FROM unnest(product_ids, names, categories, prices, currencies, statuses) WITH ORDINALITY
			AS u(product_id, name, category, price, currency, status, ord)
		WHERE cdp._product_defect(u.product_id, u.name, u.category, u.price, u.currency, u.status) IS NULL
		ORDER BY u.product_id COLLATE "C", u.ord DESC
	)
	INSERT INTO cdp.product (product_id, name, category, price, currency, status, source)
	SELECT i.product_id, i.name, i.category, i.price, coalesce(i.currency, 'CNY'), coalesce(i.status, 'listed'), _apply_products.source
	FROM item i ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS made = ROW_COUNT;
	IF made = cardinality(product_ids) THEN
		RETURN;
	END IF;
	RETURN QUERY
	WITH item AS MATERIALIZED (
		SELECT u.*, cdp._product_defect(u.product_id, u.name, u.category, u.price, u.currency, u.status) AS defect
		FROM unnest(product_ids, names, categories, prices, currencies, statuses) WITH ORDINALITY
			AS u(product_id, name, category, price, currency, status, ord)
	), wish AS MATERIALIZED (
		SELECT DISTINCT ON (i.product_id COLLATE "C") i.product_id, coalesce(i.name, p.name) AS name,
			coalesce(i.category, p.category) AS category, coalesce(i.price, p.price) AS price,
			coalesce(i.currency, p.currency) AS currency, coalesce(i.status, p.status) AS status
		FROM item i JOIN cdp.product p ON p.product_id = i.product_id
		WHERE i.defect IS NULL AND p.source IS NOT DISTINCT FROM _apply_products.source
		ORDER BY i.product_id COLLATE "C", i.ord DESC
	), changed AS (
		UPDATE cdp.product p SET (name, category, price, currency, status, updated_at)
			= (w.name, w.category, w.price, w.currency, w.status, cdp.now())
		FROM wish w WHERE p.product_id = w.product_id
		  AND (p.name, p.category, p.price, p.currency, p.status) IS DISTINCT FROM (w.name, w.category, w.price, w.currency, w.status)
	)
	SELECT i.ord::int, t.sqlstate, t.reason, t.hint
	FROM item i, LATERAL cdp._commerce_complaint(i.defect) t WHERE i.defect IS NOT NULL
	UNION ALL
	SELECT i.ord::int, t.sqlstate, t.reason, t.hint
	FROM item i JOIN cdp.product p ON p.product_id = i.product_id,
		LATERAL cdp._commerce_complaint('owner', p.product_id, p.source, 'product') t
	WHERE i.defect IS NULL AND p.source IS DISTINCT FROM _apply_products.source
	ORDER BY 1;
END $$;
COMMENT ON FUNCTION cdp._apply_products(text[], text[], text[], numeric[], text[], text[], text) IS 'internal: brings a batch of products in; a NULL element keeps what is known. Answers the rows that were not taken.';
CREATE OR REPLACE FUNCTION cdp.record_order_many(items jsonb, on_error text DEFAULT 'raise')
	RETURNS TABLE (ord int, order_id text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_hashagg = off
AS $$
#variable_conflict use_column
DECLARE
	n   int;
	bad int[] := '{}';
	-- One row is one batch: the items that were refused (round 0), then the rounds.  It is a cursor, and groups what is
	-- sorted, so that no more than one batch is in memory.
	batches CURSOR FOR
		WITH given AS MATERIALIZED (
			SELECT * FROM cdp._read_orders(items)
		), known AS MATERIALIZED (
			SELECT g.ords[i.ord] AS ord, i.profile_id, i.sqlstate, i.message, i.hint
			FROM (SELECT array_agg(v.ord ORDER BY v.ord) AS ords, array_agg(v.identifiers ORDER BY v.ord) AS identifiers,
				array_agg(v.ordered_at ORDER BY v.ord) AS ats FROM given v WHERE v.state IS NULL) g,
				LATERAL cdp._identify_rows(g.identifiers, NULL, NULL, g.ats) i
		), placed AS (
			SELECT v.*, k.profile_id, coalesce(v.state, k.sqlstate) AS sqlstate, coalesce(v.why, k.message) AS reason,
				coalesce(v.advice, k.hint) AS hint, CASE WHEN v.state IS NOT NULL OR k.sqlstate IS NOT NULL THEN 0
				ELSE row_number() OVER (PARTITION BY v.order_id, v.state IS NULL AND k.sqlstate IS NULL ORDER BY v.ord) END AS round
			FROM given v LEFT JOIN known k ON k.ord = v.ord
		), numbered AS (
			SELECT p.*, sum(1 + coalesce(jsonb_array_length(p.lines), 0))
				OVER (PARTITION BY p.round ORDER BY p.order_id COLLATE "C", p.ord ROWS UNBOUNDED PRECEDING) / 10000 AS place
			FROM placed p
		)
		SELECT round, array_agg(ord) AS ords, array_agg(sqlstate) AS sqlstates, array_agg(reason) AS reasons, array_agg(hint) AS hints,
			array_agg(profile_id) AS profile_ids, array_agg(order_id) AS order_ids, array_agg(ordered_at) AS ordered_ats,
			array_agg(status) AS statuses, array_agg(amount) AS amounts, array_agg(refunded) AS refundeds,
			array_agg(currency) AS currencies, array_agg(channel) AS channels, array_agg(store_id) AS store_ids,
			array_agg(payment_method) AS payment_methods, array_agg(paid_at) AS paid_ats, array_agg(shipped_at) AS shipped_ats,
			array_agg(completed_at) AS completed_ats, array_agg(cancelled_at) AS cancelled_ats, array_agg(tracking_no) AS tracking_nos,
			array_agg(lines) AS lines, jsonb_object_agg(order_id, products) FILTER (WHERE products IS NOT NULL) AS products
		FROM (SELECT * FROM numbered ORDER BY round, place, order_id COLLATE "C", ord) s	-- the arrays keep this order
		GROUP BY round, place ORDER BY round, place;
BEGIN
	PERFORM cdp._require_version();
	n := cdp._check_items(items, on_error,
		'SELECT * FROM cdp.record_order_many(''[{"identifiers": {"member_id": "1"}, "order": {"order_id": "1001", "amount": 12.50}}]'')');
	FOR b IN batches LOOP
		IF b.round = 0 THEN
			IF on_error = 'raise' THEN
				PERFORM cdp._raise_item(u.ord, n, u.s, u.r, u.h) FROM unnest(b.ords, b.sqlstates, b.reasons, b.hints) u(ord, s, r, h) ORDER BY u.ord LIMIT 1;
			END IF;
			bad := bad || b.ords;
			CONTINUE;
		END IF;
		bad := bad || cdp._record_batch(b.ords, b.profile_ids, b.order_ids, b.ordered_ats, b.statuses, b.amounts, b.refundeds,
			b.currencies, b.channels, b.store_ids, b.payment_methods, b.paid_ats, b.shipped_ats, b.completed_ats,
			b.cancelled_ats, b.tracking_nos, b.lines, b.products, CASE on_error WHEN 'raise' THEN n END);
	END LOOP;
	RETURN QUERY SELECT j.ordinality::int, CASE WHEN j.ordinality IN (SELECT unnest(bad)) THEN NULL ELSE j.value #>> '{order,order_id}' END
		FROM jsonb_array_elements(items) WITH ORDINALITY j ORDER BY 1;
END $$;
COMMENT ON FUNCTION cdp.record_order_many(jsonb, text) IS 'record_order() for up to 100,000 items [{"identifiers": {…}, "order": {…}}, …] in one transaction; the result is that of record_order() item by item, also when an order comes several times. Answers ord, counted from 1, and the order_id. on_error: raise (the first bad item found, its number in the detail; nothing is written) or skip (NULL order_id for it, the others are taken; its customer may be known from now on). Errors as record_order(), 54000 more items.';

CREATE OR REPLACE FUNCTION cdp._record_batch(ords int[], profile_ids bigint[], order_ids text[], ordered_ats timestamptz[],
	statuses text[], amounts numeric[], refundeds numeric[], currencies text[], channels text[], store_ids text[],
	payment_methods text[], paid_ats timestamptz[], shipped_ats timestamptz[], completed_ats timestamptz[],
	cancelled_ats timestamptz[], tracking_nos text[], lines jsonb[], products jsonb, raise_of int) RETURNS int[]
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	bad    int[] := '{}';
	r      record;
	with_lines text[];
	news   jsonb;
BEGIN
	-- an item with lines that a source writes is refused before anything of it is written: without its key it goes no further
	FOR r IN
		SELECT u.n, u.ord, c.* FROM unnest(ords, order_ids, lines) WITH ORDINALITY u(ord, id, lines, n), LATERAL (
			SELECT l.line_no, l.source FROM cdp.sales_order_line l WHERE l.order_id = u.id AND l.source IS NOT NULL ORDER BY l.line_no LIMIT 1) l,
			LATERAL cdp._commerce_complaint('owner', u.id || '/' || l.line_no, l.source, 'order line') c
		WHERE u.lines IS NOT NULL ORDER BY u.ord
	LOOP
		IF raise_of IS NOT NULL THEN
			PERFORM cdp._raise_item(r.ord, raise_of, r.sqlstate, r.reason, 'An attached source writes the lines of this order: leave "lines" out.');
		END IF;
		order_ids[r.n] := NULL;
	END LOOP;
	-- a new order without a time was placed now
	IF array_position(ordered_ats, NULL) IS NOT NULL THEN
		ordered_ats := ARRAY(SELECT CASE WHEN u.at IS NULL AND NOT EXISTS (SELECT FROM cdp.sales_order s WHERE s.order_id = u.id)
			THEN cdp.now() ELSE u.at END FROM unnest(order_ids, ordered_ats) WITH ORDINALITY u(id, at, n) ORDER BY u.n);
	END IF;
	FOR r IN SELECT a.* FROM cdp._apply_orders(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies, channels,
		store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, tracking_nos, NULL, true, cancelled_ats, products) a ORDER BY ords[a.ord]
	LOOP
		IF raise_of IS NOT NULL THEN
			PERFORM cdp._raise_item(ords[r.ord], raise_of, r.sqlstate, r.reason, CASE r.sqlstate WHEN '23505'
				THEN 'An attached source writes that order. Record this one under a key of its own, for example "api-1001".' ELSE r.hint END);
		END IF;
		bad := bad || ords[r.ord];
	END LOOP;
	SELECT array_agg(u.id), jsonb_agg(u.lines) INTO with_lines, news
	FROM unnest(ords, order_ids, lines) u(ord, id, lines) WHERE u.lines IS NOT NULL AND u.ord NOT IN (SELECT unnest(bad));
	IF with_lines IS NOT NULL THEN
		PERFORM cdp._replace_lines(with_lines, news);
	END IF;
	RETURN bad;
END $$;
COMMENT ON FUNCTION cdp._record_batch(int[], bigint[], text[], timestamptz[], text[], numeric[], numeric[], text[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[], timestamptz[], text[], jsonb[], jsonb, int) IS 'internal: one batch of record_order_many, no two items of one order; answers the numbers of those that were not taken. raise_of: the number of items of the call, when the first of them is to be raised';

CREATE OR REPLACE FUNCTION cdp.refund_order_many(items jsonb, on_error text DEFAULT 'raise')
	RETURNS TABLE (ord int, refund_id text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- One after the other, because what is left of an order depends on the refund before; but all orders are locked first,
-- in the order in which everybody locks them.
#variable_conflict use_column
DECLARE
	n    int;
	item jsonb;
	state text;
	why   text;
	advice text;
BEGIN
	PERFORM cdp._require_version();
	n := cdp._check_items(items, on_error, 'SELECT * FROM cdp.refund_order_many(''[{"order_id": "1001", "amount": 12.50, "refund_id": "r-1"}]'')');
	PERFORM FROM cdp.sales_order o WHERE o.order_id = ANY (ARRAY(SELECT j.value ->> 'order_id' FROM jsonb_array_elements(items) j))
		ORDER BY o.order_id COLLATE "C" FOR NO KEY UPDATE;
	FOR item, ord IN SELECT j.value, j.ordinality FROM jsonb_array_elements(items) WITH ORDINALITY j LOOP
		refund_id := NULL;
		state := NULL;
		BEGIN
			PERFORM cdp._check_object(item, 'the refund', '{order_id,reason,refund_id}', '{amount}', '{}', '{}');
			refund_id := cdp.refund_order(item ->> 'order_id', (item ->> 'amount')::numeric, item ->> 'reason', item ->> 'refund_id');
		EXCEPTION WHEN data_exception THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, why = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT;
		END;
		IF state IS NOT NULL AND on_error = 'raise' THEN
			PERFORM cdp._raise_item(ord, n, state, why, advice);
		END IF;
		RETURN NEXT;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp.refund_order_many(jsonb, text) IS 'refund_order() for up to 100,000 items [{"order_id": …, "amount": …, "reason": …, "refund_id": …}, …] in one transaction and one lock order, in the order of the items. Answers ord, counted from 1, and the refund_id. on_error: raise (the first bad item, its number in the detail; nothing is written) or skip (NULL refund_id for it, the others are taken). Errors as refund_order(), 54000 more items.';

CREATE OR REPLACE FUNCTION cdp.record_products(items jsonb, on_error text DEFAULT 'raise') RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
DECLARE
	n     int;
	e     record;
	c     record;
	bad   int[] := '{}';
	ords  int[];
	ids   text[];
	names text[];
	categories text[];
	prices numeric[];
	currencies text[];
	statuses text[];
	made  bigint;
	total bigint;
	state text;
	why   text;
	advice text;
BEGIN
	PERFORM cdp._require_version();
	n := cdp._check_items(items, on_error, 'SELECT cdp.record_products(''[{"product_id": "tea", "name": "绿茶", "price": 30}]'')');
	FOR e IN SELECT j.value, j.ordinality::int AS ord FROM jsonb_array_elements(items) WITH ORDINALITY j LOOP
		state := NULL;
		BEGIN
			PERFORM cdp._check_object(e.value, 'the product', '{product_id,name,category,currency,status}', '{price}', '{}', '{}');
			SELECT t.* INTO c FROM cdp._commerce_complaint(cdp._product_defect(e.value ->> 'product_id', e.value ->> 'name',
				e.value ->> 'category', (e.value ->> 'price')::numeric, e.value ->> 'currency', e.value ->> 'status')) t;
			IF FOUND THEN
				state := c.sqlstate; why := c.reason; advice := c.hint;
			END IF;
		EXCEPTION WHEN data_exception THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, why = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT;
		END;
		IF state IS NOT NULL THEN
			IF on_error = 'raise' THEN
				PERFORM cdp._raise_item(e.ord, n, state, why, advice);
			END IF;
			bad := bad || e.ord;
		END IF;
	END LOOP;
	-- of a product that comes several times the last value of every key counts; ascending, so that two calls never wait
	-- for each other in a circle
	SELECT array_agg(s.ord), array_agg(s.id), array_agg(s.name), array_agg(s.category), array_agg(s.price), array_agg(s.currency), array_agg(s.status)
	INTO ords, ids, names, categories, prices, currencies, statuses
	FROM (SELECT v.id, max(v.ord) AS ord, (array_agg(v.name ORDER BY v.ord DESC) FILTER (WHERE v.name IS NOT NULL))[1] AS name,
			(array_agg(v.category ORDER BY v.ord DESC) FILTER (WHERE v.category IS NOT NULL))[1] AS category,
			(array_agg(v.price ORDER BY v.ord DESC) FILTER (WHERE v.price IS NOT NULL))[1] AS price,
			(array_agg(v.currency ORDER BY v.ord DESC) FILTER (WHERE v.currency IS NOT NULL))[1] AS currency,
			(array_agg(v.status ORDER BY v.ord DESC) FILTER (WHERE v.status IS NOT NULL))[1] AS status
		FROM (SELECT j.ordinality::int AS ord, j.value ->> 'product_id' AS id, j.value ->> 'name' AS name, j.value ->> 'category' AS category,
				(j.value ->> 'price')::numeric AS price, j.value ->> 'currency' AS currency, j.value ->> 'status' AS status
			FROM jsonb_array_elements(items) WITH ORDINALITY j WHERE j.ordinality NOT IN (SELECT unnest(bad))) v
		GROUP BY v.id ORDER BY v.id COLLATE "C") s;
	INSERT INTO cdp.product (product_id, name, category, price, currency, status)
		SELECT u.id, u.name, u.category, u.price, coalesce(u.currency, 'CNY'), coalesce(u.status, 'listed')
		FROM unnest(ids, names, categories, prices, currencies, statuses) u(id, name, category, price, currency, status)
		ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS made = ROW_COUNT;
	IF made = cardinality(ids) THEN
		RETURN made;
	END IF;
	SELECT u.ord, t.* INTO c FROM unnest(ords, ids) u(ord, id) JOIN cdp.product p ON p.product_id = u.id,
		LATERAL cdp._commerce_complaint('owner', p.product_id, p.source, 'product') t
	WHERE p.source IS NOT NULL ORDER BY u.ord LIMIT 1;
	IF FOUND AND on_error = 'raise' THEN
		PERFORM cdp._raise_item(c.ord, n, c.sqlstate, c.reason, 'An attached source writes that product: give this one a key of its own.');
	END IF;
	-- two statements, so that the second one sees what the locks have waited for
	PERFORM FROM unnest(ids, names, categories, prices, currencies, statuses) u(id, name, category, price, currency, status)
		JOIN cdp.product p ON p.product_id = u.id
	WHERE p.source IS NULL AND (p.name, p.category, p.price, p.currency, p.status) IS DISTINCT FROM (coalesce(u.name, p.name),
		coalesce(u.category, p.category), coalesce(u.price, p.price), coalesce(u.currency, p.currency), coalesce(u.status, p.status))
	ORDER BY p.product_id COLLATE "C" FOR NO KEY UPDATE OF p;
	UPDATE cdp.product p SET (name, category, price, currency, status, updated_at) = (coalesce(u.name, p.name),
		coalesce(u.category, p.category), coalesce(u.price, p.price), coalesce(u.currency, p.currency), coalesce(u.status, p.status), cdp.now())
	FROM unnest(ids, names, categories, prices, currencies, statuses) u(id, name, category, price, currency, status)
	WHERE p.product_id = u.id AND p.source IS NULL
	  AND (p.name, p.category, p.price, p.currency, p.status) IS DISTINCT FROM (coalesce(u.name, p.name),
		coalesce(u.category, p.category), coalesce(u.price, p.price), coalesce(u.currency, p.currency), coalesce(u.status, p.status));
	GET DIAGNOSTICS total = ROW_COUNT;
	RETURN made + total;
END $$;
COMMENT ON FUNCTION cdp.record_products(jsonb, text) IS 'Writes up to 100,000 products [{"product_id": …, "name": …, "category": …, "price": …, "currency": ISO 4217 (default CNY), "status": draft|listed|delisted (default listed)}, …] in one transaction, or what is new about them; keys left out, or null, stay as they are. Answers how many rows were made or changed: the same call again answers 0. Of a product that comes several times the last value of each key counts. on_error: raise (the first bad item found, its number in the detail; nothing is written) or skip (the others are taken). Errors: 22004 NULL items or no product_id, 22023 unknown key or malformed value, 23505 an attached source owns the product, 54000 more items.';
CREATE OR REPLACE FUNCTION cdp._source_by_relation(relid regclass) RETURNS cdp.source
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s cdp.source;
BEGIN
	IF relid IS NULL THEN
		RAISE EXCEPTION 'source must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'SELECT * FROM cdp.source_status lists the sources.';
	END IF;
	SELECT q.* INTO s FROM cdp.source q JOIN pg_class c ON c.relname = q.table_name
	JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = q.schema_name WHERE c.oid = relid;
	IF NOT FOUND THEN
		RAISE EXCEPTION '"%" is not an attached source', relid USING ERRCODE = 'undefined_object',
			HINT = 'SELECT * FROM cdp.source_status lists the sources; SELECT cdp.attach_source(...) adds one.';
	END IF;
	RETURN s;
END $$;
COMMENT ON FUNCTION cdp._source_by_relation(regclass) IS 'internal: the source that a table is; 42704 when it is none';

CREATE OR REPLACE FUNCTION cdp._backfill_begin(source regclass, batch int, OUT source_id bigint, OUT job text, OUT total bigint)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s cdp.source;
BEGIN
	IF batch IS NULL OR batch < 1 OR batch > 1000000 THEN
		RAISE EXCEPTION 'batch must be between 1 and 1000000' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'The default of 10000 rows is right for most tables.';
	END IF;
	s := cdp._source_by_relation(source);
	source_id := s.source_id;
	job := format('backfill %s.%s', s.schema_name, s.table_name);
	-- an estimate: counting would read the whole table
	SELECT sum(greatest(c.reltuples, 0)) - t.backfill_rows * (t.key_position IS NOT NULL)::int INTO total
	FROM cdp.source_state t, pg_class c
	WHERE t.source_id = s.source_id AND (c.oid = source OR c.oid IN (SELECT relid FROM pg_partition_tree(source) WHERE isleaf))
	  AND c.relkind = 'r' GROUP BY t.backfill_rows, t.key_position;
	total := nullif(greatest(total, 0), 0);
END $$;
COMMENT ON FUNCTION cdp._backfill_begin(regclass, int) IS 'internal: checks the arguments of backfill_source(), names its job and guesses its size';

CREATE OR REPLACE FUNCTION cdp._backfill_pending() RETURNS regclass
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT c.oid::regclass FROM cdp.source s JOIN cdp.source_state t USING (source_id)
	JOIN pg_class c ON c.relname = s.table_name JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = s.schema_name
	WHERE t.backfill IN ('pending', 'running') ORDER BY s.source_id LIMIT 1;
END;
COMMENT ON FUNCTION cdp._backfill_pending() IS 'internal: a source that is not copied yet, NULL when there is none';

CREATE OR REPLACE FUNCTION cdp._queued_rows(batch int) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF batch IS NULL OR batch < 1 OR batch > 100000 THEN
		RAISE EXCEPTION 'batch must be between 1 and 100000' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'The default of 1000 rows is right for most queues.';
	END IF;
	RETURN (SELECT count(*) FROM cdp.source_queue);
END $$;
COMMENT ON FUNCTION cdp._queued_rows(int) IS 'internal: size of the queue; checks the argument of retry_sources()';

CREATE OR REPLACE FUNCTION cdp._repair_sources(only_source bigint DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- Triggers that DROP EXTENSION .. CASCADE took, or that a new partition lacks.
DECLARE
	s record;
BEGIN
	FOR s IN SELECT q.source_id, to_regclass(format('%I.%I', q.schema_name, q.table_name)) AS relid FROM cdp.source q
		WHERE only_source IS NULL OR q.source_id = only_source ORDER BY q.source_id
	LOOP
		BEGIN
			PERFORM cdp._make_source_triggers(s.source_id, s.relid);
		EXCEPTION WHEN insufficient_privilege THEN
			RAISE WARNING 'the triggers of source % are missing and role % may not make them', s.relid, current_user
				USING HINT = 'The owner of the table runs SELECT cdp.attach_source(...) again.';
		END;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._repair_sources(bigint) IS 'internal: makes triggers of sources that are missing, as far as the caller may';

CREATE OR REPLACE FUNCTION cdp._retry_begin(after_source bigint, OUT source_id bigint, OUT relid regclass, OUT last_id bigint)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- The next source; folds its counters, follows its new partitions.
DECLARE
	s cdp.source;
	d record;
BEGIN
	SELECT q.* INTO s FROM cdp.source q WHERE q.source_id > after_source ORDER BY q.source_id LIMIT 1;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	source_id := s.source_id;
	PERFORM cdp._repair_sources(s.source_id);
	relid := to_regclass(format('%I.%I', s.schema_name, s.table_name));
	SELECT max(q.queue_id) INTO last_id FROM cdp.source_queue q WHERE q.source_id = s.source_id;
	last_id := coalesce(last_id, 0);
	WITH gone AS (DELETE FROM cdp.source_delta w WHERE w.source_id = s.source_id RETURNING w.*)
	SELECT sum(g.taken) AS taken, sum(g.deletes_ignored) AS deletes, sum(g.truncates_ignored) AS truncates INTO d FROM gone g;
	UPDATE cdp.source_state t SET taken = t.taken + coalesce(d.taken, 0),
		deletes_ignored = t.deletes_ignored + coalesce(d.deletes, 0),
		truncates_ignored = t.truncates_ignored + coalesce(d.truncates, 0)
	WHERE t.source_id = s.source_id AND d.taken IS NOT NULL;
	UPDATE cdp.source_state t SET last_error = q.error, last_error_at = q.queued_at
	FROM (SELECT w.error, w.queued_at FROM cdp.source_queue w WHERE w.source_id = s.source_id ORDER BY w.queue_id DESC LIMIT 1) q
	WHERE t.source_id = s.source_id AND t.last_error_at IS DISTINCT FROM q.queued_at;
END $$;
COMMENT ON FUNCTION cdp._retry_begin(bigint) IS 'internal: the source after this one (NULL: none), its table (NULL: dropped) and the last row of its queue; folds its counters';

CREATE OR REPLACE VIEW cdp.source_status AS
SELECT s.schema_name || '.' || s.table_name AS source, s.role, s.on_error, s.on_delete, s.attached_at,
	CASE WHEN c.oid IS NULL THEN 'table is gone'
	     WHEN NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgname IN ('cdp_source_insert', 'cdp_source_row'))
	     THEN 'triggers are missing' ELSE 'following' END AS state,
	t.backfill,
	t.taken + coalesce(d.taken, 0) AS taken,
	coalesce(q.queued, 0) AS queued,
	t.deletes_ignored + coalesce(d.deletes_ignored, 0) AS deletes_ignored,
	t.truncates_ignored + coalesce(d.truncates_ignored, 0) AS truncates_ignored,
	coalesce(round(extract(epoch FROM greatest(cdp.now() - q.oldest, '0'))), 0)::bigint AS lag_seconds,
	CASE WHEN q.newest > coalesce(t.last_error_at, '-infinity') THEN q.error ELSE t.last_error END AS last_error,
	greatest(q.newest, t.last_error_at) AS last_error_at
FROM cdp.source s
JOIN cdp.source_state t USING (source_id)
LEFT JOIN (pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace) ON c.relname = s.table_name AND n.nspname = s.schema_name
LEFT JOIN (SELECT source_id, sum(taken)::bigint AS taken, sum(deletes_ignored)::bigint AS deletes_ignored,
		sum(truncates_ignored)::bigint AS truncates_ignored FROM cdp.source_delta GROUP BY source_id) d USING (source_id)
LEFT JOIN LATERAL (SELECT count(*) AS queued, min(w.queued_at) AS oldest, max(w.queued_at) AS newest,
		(array_agg(w.error ORDER BY w.queue_id DESC))[1] AS error FROM cdp.source_queue w WHERE w.source_id = s.source_id) q ON true;
COMMENT ON VIEW cdp.source_status IS 'One row per attached table (unique: source, as schema.table): state (following, triggers are missing, table is gone), backfill (none, pending, running, done), rows taken, rows queued now, deleted rows and TRUNCATEs ignored, lag_seconds (age of the oldest queued row, 0 when all is in), the last error and when it was.';

PERFORM cdp._repair_sources();
CREATE OR REPLACE FUNCTION cdp._ingest_begin(source regclass, role text, source_name text, batch int) RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s text;
BEGIN
	IF source IS NULL OR role IS NULL THEN
		RAISE EXCEPTION '% must not be NULL', CASE WHEN source IS NULL THEN 'source' ELSE 'role' END
			USING ERRCODE = 'null_value_not_allowed', HINT = 'For example CALL cdp.ingest(''staging_order'', ''order'').';
	ELSIF batch IS NULL OR batch < 1 OR batch > 100000 THEN
		RAISE EXCEPTION 'batch must be between 1 and 100000' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'The default of 10000 rows is right for most files.';
	ELSIF octet_length(source_name) > 200 THEN
		RAISE EXCEPTION 'source_name is longer than 200 bytes' USING ERRCODE = 'program_limit_exceeded', HINT = 'Send a shorter one.';
	END IF;
	SELECT coalesce(source_name, n.nspname || '.' || c.relname) INTO s
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'relation with OID % does not exist', source::oid USING ERRCODE = 'undefined_table',
			HINT = 'Name an existing table or view: ''schema.table''.';
	END IF;
	DELETE FROM cdp.ingest_reject r WHERE r.source = s;
	RETURN 'ingest ' || s;
END $$;
COMMENT ON FUNCTION cdp._ingest_begin(regclass, text, text, int) IS 'internal: checks the arguments of ingest(), clears the rejects of the last run, names the job';

CREATE OR REPLACE FUNCTION cdp._rfm_sales(o cdp._rfm_options)
	RETURNS TABLE (customer_id bigint, recency interval, frequency bigint, monetary numeric, first_at timestamptz, last_at timestamptz,
		gross numeric, refunded numeric, r int, f int, m int, score text, group8 text)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._require_version();
	o := cdp._rfm_check(o);
	RETURN QUERY EXECUTE cdp._rfm_sql(
		'SELECT coalesce(a.customer_id, o.profile_id) AS customer_id, o.ordered_at AS occurred_at, o.amount, o.refunded, o.currency
		 FROM cdp.sales_order o LEFT JOIN cdp.profile_alias a ON a.profile_id = o.profile_id
		 WHERE o.status IN (''paid'', ''shipped'', ''completed'', ''refunded'')', true, true, o)
		USING o.as_of, o.bins, o.r_cuts, o.f_cuts, o.m_cuts, o.r_high, o.f_high, o.m_high, o.lang, o.currency;
END $$;
COMMENT ON FUNCTION cdp._rfm_sales(cdp._rfm_options) IS 'internal: cdp.rfm_table over the orders of the CDP, by One ID';

CREATE OR REPLACE FUNCTION cdp.rfm_table(as_of timestamptz DEFAULT NULL, purchases text DEFAULT NULL, method text DEFAULT 'quintile',
	bins int DEFAULT 5, r_cuts interval[] DEFAULT NULL, f_cuts numeric[] DEFAULT NULL, m_cuts numeric[] DEFAULT NULL,
	high text DEFAULT 'mean', r_high interval DEFAULT NULL, f_high numeric DEFAULT NULL, m_high numeric DEFAULT NULL,
	monetary text DEFAULT 'sum', refunds text DEFAULT 'net', currency text DEFAULT NULL, lang text DEFAULT 'zh')
	RETURNS TABLE (customer_id bigint, recency interval, frequency bigint, monetary numeric, first_at timestamptz, last_at timestamptz,
		gross numeric, refunded numeric, r int, f int, m int, score text, group8 text)
	LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT t.* FROM cdp._rfm_sales(ROW(rfm_table.as_of, rfm_table.method, rfm_table.bins, rfm_table.r_cuts, rfm_table.f_cuts, rfm_table.m_cuts,
		rfm_table.high, rfm_table.r_high, rfm_table.f_high, rfm_table.m_high, rfm_table.monetary, rfm_table.refunds, rfm_table.currency,
		rfm_table.lang)::cdp._rfm_options) t WHERE purchases IS NULL
	UNION ALL
	SELECT t.* FROM cdp._rfm_query(cdp._purchases_query(purchases), ROW(rfm_table.as_of, rfm_table.method, rfm_table.bins, rfm_table.r_cuts,
		rfm_table.f_cuts, rfm_table.m_cuts, rfm_table.high, rfm_table.r_high, rfm_table.f_high, rfm_table.m_high, rfm_table.monetary,
		rfm_table.refunds, rfm_table.currency, rfm_table.lang)::cdp._rfm_options) t WHERE purchases IS NOT NULL;
END;
COMMENT ON FUNCTION cdp.rfm_table(timestamptz, text, text, int, interval[], numeric[], numeric[], text, interval, numeric, numeric, text, text, text, text) IS
'RFM of every customer with a purchase up to as_of: recency (as_of minus last purchase), frequency (purchases), monetary (money), first_at, last_at, gross (money before refunds), refunded (what was taken off, >= 0), scores r, f, m from 1 to bins (best), score (543), group8 (one of eight groups).
as_of: NULL is cdp.now(). purchases: NULL is cdp.sales_order (paid, shipped, completed and refunded orders, by One ID), else the text of a query for (customer_id bigint, occurred_at timestamptz, amount numeric [, currency text]) that runs read-only with your rights; a negative amount is a refund; date and timestamp are read in cdp.timezone. method: quintile (1 + floor(bins * (rank - 1) / customers), rank counts those strictly worse, so equal values share a score), nested (f within each r, m within each r and f), threshold (f_cuts, m_cuts: 1 + number of cuts <= value; r_cuts: bins minus number of cuts < recency). high: what parts high from low in group8, mean or median; r_high, f_high, m_high are limits of your own (high is recency <= r_high, frequency >= f_high, monetary >= m_high). monetary: sum or mean per purchase. refunds: net or ignore. currency: NULL when there is only one; else all money is converted at the time of the purchase as cdp.convert_amount() does, not rounded. lang: names of groups in zh or en.
An argument that is NULL means its default; rows with a NULL are skipped. Errors: 22023 for arguments out of range, two currencies, a missing rate, NaN or infinite values; 42601, 42804, 0A000, 25006 and any other for a query that is not fit; 42501.';

CREATE OR REPLACE VIEW cdp.rfm_group_summary AS
SELECT g.label_zh AS group8, coalesce(t.customers, 0) AS customers,
	round(coalesce(t.customers, 0) / nullif(sum(t.customers) OVER (), 0), 4) AS share,
	coalesce(t.monetary, 0) AS monetary,
	round(coalesce(t.monetary, 0) / nullif(sum(t.monetary) OVER (), 0), 4) AS monetary_share,
	t.recency_days
FROM cdp.rfm_group g
LEFT JOIN (SELECT r.group8, count(*) AS customers, sum(r.monetary) AS monetary,
		round(avg(extract(epoch FROM r.recency)) / 86400, 1) AS recency_days
	FROM cdp.rfm_table() r GROUP BY r.group8) t ON t.group8 = g.label_zh
WHERE g.scheme = 8
ORDER BY g.sort;
COMMENT ON VIEW cdp.rfm_group_summary IS 'The eight RFM groups of all customers now, best first: customers, their share, money, its share (NULL when there is none), mean recency in days (NULL for an empty group).';
CREATE OR REPLACE FUNCTION cdp._profiles_of(customer_id bigint) RETURNS bigint[]
	LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT c.id || ARRAY(SELECT a.profile_id FROM cdp.profile_alias a WHERE a.customer_id = c.id ORDER BY a.profile_id)
	FROM (SELECT cdp.customer_id(_profiles_of.customer_id) AS id) c;
END;
COMMENT ON FUNCTION cdp._profiles_of(bigint) IS 'internal: all profiles of the customer to whom an id belongs, the One ID first';

CREATE OR REPLACE FUNCTION cdp.set_traits(customer_id bigint, traits jsonb, source text DEFAULT 'operator') RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id bigint := cdp.customer_id(customer_id);
	n  bigint;
BEGIN
	PERFORM cdp._require_version();
	IF customer_id IS NULL THEN
		RAISE EXCEPTION 'customer_id must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'cdp.resolve() answers NULL when nobody has the identifier.';
	ELSIF traits IS NULL OR jsonb_typeof(traits) <> 'object' THEN
		RAISE EXCEPTION 'traits must be an object' USING ERRCODE = CASE WHEN traits IS NULL THEN 'null_value_not_allowed' ELSE 'invalid_parameter_value' END,
			HINT = 'For example {"city": "上海", "nickname": null}; null removes a trait.';
	ELSIF octet_length(source) > 200 THEN
		RAISE EXCEPTION 'source is longer than 200 bytes' USING ERRCODE = 'program_limit_exceeded', HINT = 'Send a shorter one.';
	ELSIF NOT EXISTS (SELECT FROM cdp.profile p WHERE p.profile_id = id) THEN
		RAISE EXCEPTION 'there is no customer %', customer_id USING ERRCODE = 'invalid_parameter_value',
			HINT = 'cdp.search_customers() finds the id.';
	END IF;
	n := cdp._put_traits(ARRAY[id], ARRAY[traits], ARRAY[coalesce(source, 'operator')], ARRAY[cdp.now()], true);
	IF n > 0 THEN
		RAISE WARNING '% of the traits were kept out because of their type', n USING HINT = 'cdp.trait_definition says which type a trait has.';
	END IF;
	RETURN id;
END $$;
COMMENT ON FUNCTION cdp.set_traits(bigint, jsonb, text) IS 'Sets traits of a customer by hand: object of trait and value, JSON null removes a trait. source: who says so, for survivorship. Any id that ever was this customer is accepted; answers the One ID. A value of another type than cdp.trait_definition wants is kept out, counted, and gives a warning. Errors: 22004 NULL customer or traits, 22023 not an object or unknown customer, 54000 a source or the name of a trait is longer than 200 bytes.';

CREATE OR REPLACE FUNCTION cdp.search_customers(term text, n int DEFAULT 20) RETURNS TABLE (customer_id bigint, name text, matched text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan
AS $$
-- Best first: a whole identifier, then the end of a phone number, then the beginning of a name.  Every branch is a
-- probe of an index and stops at n.
DECLARE
	wanted text := btrim(term);
	digits text := regexp_replace(term, '[^0-9]', '', 'g');
	prefix text;
BEGIN
	PERFORM cdp._require_version();
	IF n IS NULL OR n < 1 OR n > 1000 THEN
		RAISE EXCEPTION 'n must be between 1 and 1000' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for 20.';
	END IF;
	IF wanted IS NULL OR wanted = '' THEN
		RETURN;
	END IF;
	prefix := replace(replace(replace(lower(wanted), '\', '\\'), '%', '\%'), '_', '\_') || '%';
	RETURN QUERY
	WITH hit AS (
		(SELECT i.profile_id, i.kind || ' ' || i.value AS matched, 1 AS rank
		 FROM cdp.identifier i
		 WHERE i.valid_to IS NULL AND i.value = ANY (ARRAY(
			SELECT wanted UNION SELECT cdp._normalize(k.kind, wanted) FROM cdp.identifier_kind k))
		 LIMIT n)
		UNION ALL
		(SELECT i.profile_id, i.kind || ' ' || i.value, 2
		 FROM cdp.identifier i
		 WHERE length(digits) >= 4 AND i.valid_to IS NULL AND i.kind = 'phone'
		   AND reverse(i.value) LIKE reverse(digits) || '%'
		 LIMIT n)
		UNION ALL
		(SELECT p.profile_id, 'name ' || (p.traits ->> 'name'), 3
		 FROM cdp.profile p
		 WHERE p.traits ? 'name' AND lower(p.traits ->> 'name') LIKE prefix
		 LIMIT n)
	), best AS (
		SELECT DISTINCT ON (c.id) c.id, h.matched, h.rank
		FROM hit h CROSS JOIN LATERAL (SELECT cdp.customer_id(h.profile_id) AS id) c
		ORDER BY c.id, h.rank, h.matched
	)
	SELECT b.id, (SELECT v.traits ->> 'name' FROM cdp.customer v WHERE v.customer_id = b.id), b.matched
	FROM best b ORDER BY b.rank, b.id LIMIT n;
END $$;
COMMENT ON FUNCTION cdp.search_customers(text, int) IS 'Customers for a term an operator types: any whole identifier (normalised by its kind), the last 4 or more digits of a phone number, or the beginning of a name; best first, at most n (1 to 1000). matched says what fitted. No rows for NULL or a blank term. Needs SELECT on cdp.identifier, since it shows values (kind operator). Errors: 22023 n out of range.';

CREATE OR REPLACE FUNCTION cdp._customer_360_identity(customer_id bigint, profile_ids bigint[]) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result jsonb;
BEGIN
	SELECT jsonb_build_object('created_at', c.created_at, 'traits', c.traits,
			'missing_traits', coalesce((SELECT jsonb_agg(d.trait ORDER BY d.trait) FROM cdp.trait_definition d
				WHERE d.required AND NOT c.traits ? d.trait), '[]'))
	INTO result FROM cdp.customer c WHERE c.customer_id = _customer_360_identity.customer_id;
	IF has_table_privilege('cdp.identifier', 'SELECT') THEN
		result := result || jsonb_build_object('identifiers', coalesce((
			SELECT jsonb_agg(jsonb_build_object('kind', i.kind, 'value', i.value, 'profile_id', i.profile_id,
				'first_seen', i.first_seen, 'last_seen', i.last_seen, 'source', i.source) ORDER BY k.priority, i.kind, i.first_seen, i.value)
			FROM cdp.identifier i LEFT JOIN cdp.identifier_kind k USING (kind)
			WHERE i.profile_id = ANY (profile_ids) AND i.valid_to IS NULL), '[]'));
	END IF;
	RETURN result;
END $$;
COMMENT ON FUNCTION cdp._customer_360_identity(bigint, bigint[]) IS 'internal: keys created_at, traits, missing_traits and, for those who may see values, identifiers of customer_360';

CREATE OR REPLACE FUNCTION cdp._customer_360_orders(customer_id bigint, profile_ids bigint[]) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET intervalstyle = iso_8601
AS $$
BEGIN
	RETURN jsonb_build_object(
		'orders', (SELECT jsonb_build_object('count', count(*), 'first_at', min(o.ordered_at), 'last_at', max(o.ordered_at),
				'open', count(*) FILTER (WHERE o.status IN ('placed', 'paid', 'shipped')),
				'by_currency', coalesce((SELECT jsonb_object_agg(c.currency, jsonb_build_object('count', c.n, 'amount', c.amount, 'refunded', c.refunded))
					FROM (SELECT s.currency, count(*) AS n, sum(s.amount) AS amount, sum(s.refunded) AS refunded FROM cdp.sales_order s
					      WHERE s.profile_id = ANY (profile_ids) AND s.status NOT IN ('placed', 'cancelled') GROUP BY s.currency) c), '{}'))
			FROM cdp.sales_order o WHERE o.profile_id = ANY (profile_ids)),
		'rfm', (SELECT jsonb_object_agg(r.currency, jsonb_build_object('recency', (r.v).recency, 'frequency', (r.v).frequency, 'monetary', (r.v).monetary))
			FROM (SELECT s.currency, cdp.rfm(s.ordered_at, s.amount - s.refunded, cdp.now()) AS v FROM cdp.sales_order s
			      WHERE s.profile_id = ANY (profile_ids) AND s.status IN ('paid', 'shipped', 'completed', 'refunded') AND s.ordered_at <= cdp.now()
			      GROUP BY s.currency) r));
END $$;
COMMENT ON FUNCTION cdp._customer_360_orders(bigint, bigint[]) IS 'internal: keys orders and rfm of customer_360, per currency';

CREATE OR REPLACE FUNCTION cdp._customer_360_events(customer_id bigint, profile_ids bigint[]) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('events', coalesce((SELECT jsonb_agg(jsonb_build_object('at', t.at, 'name', t.title, 'detail', t.detail) ORDER BY t.at DESC, t.title)
		FROM cdp._timeline_event(profile_ids, '-infinity', 'infinity', 20) t), '[]'));
END $$;
COMMENT ON FUNCTION cdp._customer_360_events(bigint, bigint[]) IS 'internal: key events of customer_360, the last twenty';

CREATE OR REPLACE FUNCTION cdp.customer_360(customer_id bigint) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- Every module adds its keys by a function cdp._customer_360_NAME(customer_id, profile_ids) -> jsonb object.
DECLARE
	ids    bigint[] := cdp._profiles_of(customer_id);
	result jsonb;
	part   jsonb;
	f      regproc;
BEGIN
	PERFORM cdp._require_version();
	IF NOT EXISTS (SELECT FROM cdp.customer c WHERE c.customer_id = ids[1]) THEN
		RETURN NULL;
	END IF;
	result := jsonb_build_object('customer_id', ids[1], 'profile_ids', to_jsonb(ids));
	FOR f IN SELECT p.oid::regproc FROM pg_proc p
		WHERE p.pronamespace = 'cdp'::regnamespace AND p.proname LIKE '\_customer\_360\_%'
		  AND has_function_privilege(p.oid, 'EXECUTE') ORDER BY p.proname
	LOOP
		EXECUTE format('SELECT %s($1, $2)', f) INTO part USING ids[1], ids;
		result := result || coalesce(part, '{}');
	END LOOP;
	RETURN result;
END $$;
COMMENT ON FUNCTION cdp.customer_360(bigint) IS 'Everything known about a customer as one object: customer_id, profile_ids, created_at, traits, missing_traits, identifiers (only for a caller who may SELECT cdp.identifier), orders (count, first_at, last_at, open, by_currency), rfm by currency, events (the last twenty); later modules add keys. Any id that ever was this customer is accepted; NULL for an id that never existed and for NULL.';

CREATE OR REPLACE FUNCTION cdp._timeline_event(profile_ids bigint[], from_time timestamptz, to_time timestamptz, max_rows int)
	RETURNS TABLE (at timestamptz, kind text, title text, detail jsonb)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	-- the partitions are merged as their indexes give them, newest first; the one sort that is left makes the plan look
	-- costly enough for the compiler
	SET enable_sort = off SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
-- Each profile walks its own indexes backwards and stops.  For a customer of many profiles that would be too many
-- probes (profiles times partitions): he is looked at window by window, each four times as long as the one after it.
DECLARE
	lower timestamptz;
	upper timestamptz := to_time;
	width interval := '7 days';
	rest  int := max_rows;
	got   int;
BEGIN
	IF cardinality(profile_ids) <= 16 THEN
		RETURN QUERY SELECT e.occurred_at, 'event', e.name, e.properties ||
			jsonb_strip_nulls(jsonb_build_object('event_id', e.event_id, 'source', e.source, 'channel', e.channel))
		FROM unnest(profile_ids) p(id) CROSS JOIN LATERAL (
			SELECT v.* FROM cdp.event v
			WHERE v.profile_id = p.id AND v.occurred_at >= from_time AND v.occurred_at < to_time
			ORDER BY v.occurred_at DESC LIMIT max_rows) e
		ORDER BY e.occurred_at DESC, e.event_id DESC LIMIT max_rows;
		RETURN;
	END IF;
	LOOP
		lower := CASE WHEN width > interval '10 years' THEN from_time
		              ELSE greatest(from_time, least(upper, cdp.now()) - width) END;
		RETURN QUERY SELECT e.occurred_at, 'event', e.name, e.properties ||
			jsonb_strip_nulls(jsonb_build_object('event_id', e.event_id, 'source', e.source, 'channel', e.channel))
		FROM (SELECT v.* FROM cdp.event v
			WHERE v.profile_id = ANY (profile_ids) AND v.occurred_at >= lower AND v.occurred_at < upper
			ORDER BY v.occurred_at DESC, v.event_id DESC LIMIT rest) e;
		GET DIAGNOSTICS got = ROW_COUNT;
		rest := rest - got;
		EXIT WHEN rest = 0 OR lower <= from_time;
		upper := lower;
		width := width * 4;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._timeline_event(bigint[], timestamptz, timestamptz, int) IS 'internal: events in the timeline';

CREATE OR REPLACE FUNCTION cdp._timeline_merge(profile_ids bigint[], from_time timestamptz, to_time timestamptz, max_rows int)
	RETURNS TABLE (at timestamptz, kind text, title text, detail jsonb)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT m.at, 'identity', m.action, jsonb_strip_nulls(jsonb_build_object('customer_id', m.customer_id, 'other_id', m.other_id, 'rule', m.rule, 'reason', m.reason))
	FROM unnest(profile_ids) p(id) CROSS JOIN LATERAL (
		SELECT l.* FROM cdp.merge_log l WHERE l.other_id = p.id AND l.at >= from_time AND l.at < to_time
		ORDER BY l.at DESC LIMIT max_rows) m
	ORDER BY m.at DESC, m.merge_id DESC LIMIT max_rows;
END $$;
COMMENT ON FUNCTION cdp._timeline_merge(bigint[], timestamptz, timestamptz, int) IS 'internal: merges and their undoing in the timeline';

CREATE OR REPLACE FUNCTION cdp.timeline(customer_id bigint, from_time timestamptz DEFAULT NULL, to_time timestamptz DEFAULT NULL,
	max_rows int DEFAULT 100) RETURNS TABLE (at timestamptz, kind text, title text, detail jsonb)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- Every module adds its rows by a function cdp._timeline_NAME(profile_ids, from_time, to_time, max_rows), each of
-- which stops at max_rows by its own index.
DECLARE
	ids  bigint[] := cdp._profiles_of(customer_id);
	arms text;
BEGIN
	PERFORM cdp._require_version();
	IF max_rows IS NULL OR max_rows < 1 OR max_rows > 100000 THEN
		RAISE EXCEPTION 'max_rows must be between 1 and 100000' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for 100.';
	ELSIF from_time > to_time THEN
		RAISE EXCEPTION 'from_time lies after to_time' USING ERRCODE = 'invalid_parameter_value', HINT = 'The range is from_time inclusive, to_time exclusive.';
	END IF;
	SELECT string_agg(format('SELECT * FROM %s($1, $2, $3, $4)', p.oid::regproc), ' UNION ALL ' ORDER BY p.proname) INTO arms
	FROM pg_proc p WHERE p.pronamespace = 'cdp'::regnamespace AND p.proname LIKE '\_timeline\_%' AND has_function_privilege(p.oid, 'EXECUTE');
	RETURN QUERY EXECUTE format('SELECT * FROM (%s) t ORDER BY 1 DESC, 2, 3, 4 LIMIT $4', arms)
		USING ids, coalesce(from_time, '-infinity'), coalesce(to_time, 'infinity'), max_rows;
END $$;
COMMENT ON FUNCTION cdp.timeline(bigint, timestamptz, timestamptz, int) IS 'What happened to a customer, newest first, at most max_rows (1 to 100,000): at, kind (event, identity; later modules add theirs), title, detail. Range from_time inclusive to to_time exclusive, NULL: open. Any id that ever was this customer is accepted; no rows for an unknown id. Errors: 22023 range or max_rows.';
PERFORM cdp._migrate_end('0.1.0');
END $migrate$;
COMMENT ON FUNCTION cdp._migrate() IS 'internal: body of cdp.migrate(), run as the owner of the tables';
CREATE PROCEDURE cdp.migrate() LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $migrate$ BEGIN PERFORM cdp._as_owner('_migrate'); END $migrate$;
COMMENT ON PROCEDURE cdp.migrate() IS 'Creates the tables of schema cdp, or brings them to the version of the code and repairs what is missing (columns, constraints, indexes, triggers, views, rights). Never commits, so it fits into one transaction with ALTER EXTENSION. Run it as the role that shall own the tables, usually the database owner. Errors: 42501 when the tables belong to a role you may not act as.';
SELECT cdp._member_rights();
