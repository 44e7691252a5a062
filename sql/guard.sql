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
