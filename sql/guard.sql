-- Nobody but the installer, a superuser or the owner of the database may own schema cdp or create in it:
-- whoever can plant an object there could run code as the superuser who installs.
DO $guard$
BEGIN
	PERFORM FROM pg_namespace n, pg_database d, LATERAL (
		SELECT n.nspowner AS who
		UNION ALL
		SELECT a.grantee FROM aclexplode(n.nspacl) a WHERE a.privilege_type = 'CREATE'
	) w
	WHERE n.nspname = 'cdp' AND d.datname = current_database()
	  AND w.who NOT IN (current_user::regrole, d.datdba, 'pg_database_owner'::regrole)
	  AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = w.who AND r.rolsuper);
	IF FOUND THEN
		RAISE EXCEPTION 'schema "cdp" is owned by, or open for CREATE to, a role that is neither a superuser nor the owner of this database'
			USING ERRCODE = 'insufficient_privilege',
			      HINT = 'ALTER SCHEMA cdp OWNER TO the owner of the database and revoke CREATE from others, then run CREATE EXTENSION again.';
	END IF;
END $guard$;
