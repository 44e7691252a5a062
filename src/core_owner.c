/*
 * core_owner.c
 *	  What a superuser may safely do to the tables of somebody else.
 *
 * ALTER EXTENSION is a superuser's work, the tables often belong to a plain
 * role, and an update is both in one transaction.  Whatever a superuser
 * starts on these tables runs code of their owner: triggers, defaults, the
 * health checks that migrate() makes.  SET ROLE does not hold such code, a
 * trigger can RESET ROLE.  So the routines here run in the frame of the
 * verbs: identity of the owner, no way back before the end, nothing left
 * that would fire at commit under the superuser's name.
 *
 *		superuser -> CALL cdp.migrate() -> cdp._as_owner() -> cdp._migrate()
 *
 * SQL: sql/core.sql.  Tests: test/t/006_core_plain_owner.pl.
 * Page: doc/core.md.
 */
#include "cdp.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(cdp_as_owner);
PG_FUNCTION_INFO_V1(cdp_scratch_table);
PG_FUNCTION_INFO_V1(cdp_lock_relation);
PG_FUNCTION_INFO_V1(cdp_health_rows);

/*
 * cdp._as_owner(routine text, VARIADIC args text[]) -> void
 *
 * Run one of our routines as the owner of the tables; as the caller when
 * there are none yet or when he is the owner.
 */
Datum
cdp_as_owner(PG_FUNCTION_ARGS)
{
	static const char *const routines[] = {"_migrate", "_grant_access", "_revoke_access", "_set_meta"};
	char	   *routine = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(1);
	Datum	   *args;
	Oid			types[2] = {TEXTOID, TEXTOID};
	int			nargs;
	bool		known = false;
	bool		tables = OidIsValid(cdp_relation("meta"));
	Oid			owner = tables ? cdp_owner() : GetUserId();
	bool		change = owner != GetUserId();
	CdpVerb		verb;
	char	   *sql;

	for (int i = 0; i < lengthof(routines); i++)
		known = known || strcmp(routine, routines[i]) == 0;
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &args, NULL, &nargs);
	if (!known || nargs > lengthof(types))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cdp._as_owner() cannot run this"),
				 errhint("It is internal to cdp.migrate(), cdp.grant_access() and their like.")));
	if (!has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the tables of schema cdp belong to role %s", GetUserNameFromId(owner, false)),
				 errhint("Do this as that role, as a member of it or as a superuser.")));

	sql = psprintf("SELECT cdp.%s(%s)", routine, nargs == 0 ? "" : nargs == 1 ? "$1" : "$1, $2");
	if (change)
		cdp_begin_unchecked(&verb);
	else if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(sql, nargs, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "cdp.%s() did not run", routine);
	if (change)
		cdp_end(&verb);
	else
		SPI_finish();
	PG_RETURN_VOID();
}

/*
 * cdp._scratch_table(name text, definition text) -> void: CREATE TEMP TABLE
 *
 * A security-restricted operation may not make temporary tables, and
 * migrate() compares with one.  The restriction is lifted for this statement
 * alone, after a look at it: it evaluates nothing.
 */
Datum
cdp_scratch_table(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *definition = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *sql = psprintf("CREATE TEMP TABLE %s %s", quote_identifier(name), definition);
	List	   *statements = pg_parse_query(sql);
	Node	   *statement = list_length(statements) == 1 ? linitial_node(RawStmt, statements)->stmt : NULL;
	Oid			userid;
	int			sec_context;

	if (statement == NULL || !IsA(statement, CreateStmt) ||
		((CreateStmt *) statement)->partbound != NULL ||
		((CreateStmt *) statement)->ofTypename != NULL ||
		((CreateStmt *) statement)->inhRelations != NIL)
		elog(ERROR, "not the definition of a table");
	GetUserIdAndSecContext(&userid, &sec_context);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	SetUserIdAndSecContext(userid, sec_context & ~SECURITY_RESTRICTED_OPERATION);
	if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "CREATE TEMP TABLE did not run");
	SetUserIdAndSecContext(userid, sec_context);
	SPI_finish();
	PG_RETURN_VOID();
}

/* cdp._lock_relation(regclass) -> void: this relation alone, whose owner calls */
Datum
cdp_lock_relation(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	HeapTuple	tup = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tup))
		PG_RETURN_VOID();		/* dropped meanwhile */
	owner = ((Form_pg_class) GETSTRUCT(tup))->relowner;
	ReleaseSysCache(tup);
	if (!has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of the relation to lock it")));
	LockRelationOid(relid, AccessExclusiveLock);
	PG_RETURN_VOID();
}

/*
 * cdp.health() -> setof (check_name, ok, detail)
 *
 * The functions cdp._health_MODULE() that belong to the extension or to the
 * owner of the tables, as that owner.  Before migrate() there is no owner:
 * those of the extension, as the caller.
 */
Datum
cdp_health_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		tables = OidIsValid(cdp_relation("meta"));
	CdpVerb		verb;
	char	  **names;
	uint64		n;

	InitMaterializedSRF(fcinfo, 0);
	if (tables)
		cdp_begin_unchecked(&verb);
	else if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("SELECT pg_catalog.quote_ident(p.proname) FROM pg_catalog.pg_proc p"
							  " WHERE p.pronamespace = 'cdp'::pg_catalog.regnamespace AND p.proname LIKE '\\_health\\_%' AND p.pronargs = 0"
							  " AND p.proretset"
							  " AND (EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid"
							  "   WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'"
							  "   AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.extname = 'customer_cdp')"
							  "  OR ($1 AND p.proowner = current_user::pg_catalog.regrole))"
							  " ORDER BY p.proname <> '_health_core', p.proname",
							  1, (Oid[]) {BOOLOID}, (Datum[]) {BoolGetDatum(tables)}, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "cannot read the list of health checks");
	n = SPI_processed;
	names = palloc(n * sizeof(char *));
	for (uint64 i = 0; i < n; i++)
		names[i] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
	for (uint64 i = 0; i < n; i++)
	{
		if (SPI_execute(psprintf("SELECT h.check_name, h.ok, h.detail FROM cdp.%s() h", names[i]), true, 0) != SPI_OK_SELECT)
			elog(ERROR, "cannot run cdp.%s()", names[i]);
		for (uint64 j = 0; j < SPI_processed; j++)
		{
			Datum		values[3];
			bool		nulls[3];

			for (int c = 0; c < 3; c++)
				values[c] = SPI_getbinval(SPI_tuptable->vals[j], SPI_tuptable->tupdesc, c + 1, &nulls[c]);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
	if (tables)
		cdp_end(&verb);
	else
		SPI_finish();
	return (Datum) 0;
}
