/*
 * identity_merge.c
 *	  Two customers become one: the alias rows, their guard, and the word to
 *	  the modules that keep something per customer.
 *
 * Facts keep the profile they were recorded under.  A merge is one row per
 * profile of the losing side in cdp.profile_alias, always of depth 1:
 *
 *		before	 7			9 -> 8		(8 is a customer of two profiles)
 *		merge 7, 8
 *		after	 8 -> 7		9 -> 7
 *
 * Page: doc/identity.md.  Tests: test/sql/identity.sql.
 */
#include "identity.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_guard_alias);
PG_FUNCTION_INFO_V1(cdp_customers_changed_sql);

/* true only while this file writes aliases */
static bool alias_open = false;

/*
 * Who has to hear that customers changed, in module order.  A handler is
 * called with the alias rows already in their new state.
 */
typedef void (*CdpCustomersChanged) (int64 winner, int64 loser, const char *action);

static const CdpCustomersChanged handlers[] = {
	NULL
};

void
cdp_customers_changed(int64 winner, int64 loser, const char *action)
{
	for (int i = 0; handlers[i] != NULL; i++)
		handlers[i] (winner, loser, action);
}

/* cdp._customers_changed(winner, loser, action) */
Datum
cdp_customers_changed_sql(PG_FUNCTION_ARGS)
{
	cdp_customers_changed(PG_GETARG_INT64(0), PG_GETARG_INT64(1), text_to_cstring(PG_GETARG_TEXT_PP(2)));
	PG_RETURN_VOID();
}

/*
 * Trigger: an alias written by hand would leave the other modules with the
 * wrong customer for ever, so nobody writes one, not even the owner.
 */
Datum
cdp_guard_alias(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cdp._guard_alias() must be called as a trigger")));
	if (!alias_open)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cdp.profile_alias is written by identity only"),
				 errhint("cdp.identify() with identifiers of both customers makes them one.")));
	PG_RETURN_POINTER(NULL);
}

int64
cdp_merge_step(int64 winner, int64 loser, const char *rule, const char *reason)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[4] = {INT8OID, INT8OID, TEXTOID, TEXTOID};
	Datum		args[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};
	bool		was_open = alias_open;
	bool		isnull;
	int64		merge_id;

	args[0] = Int64GetDatum(winner);
	args[1] = Int64GetDatum(loser);
	args[2] = CStringGetTextDatum(rule);
	args[3] = reason ? CStringGetTextDatum(reason) : (Datum) 0;
	nulls[3] = reason ? ' ' : 'n';
	/* one statement: the log row sees the sides as they were before it */
	cdp_plan(&plan,
			 "WITH moved AS ("
			 "  UPDATE cdp.profile_alias SET customer_id = $1 WHERE customer_id = $2 RETURNING profile_id"
			 "), added AS ("
			 "  INSERT INTO cdp.profile_alias (profile_id, customer_id) VALUES ($2, $1)"
			 ")"
			 " INSERT INTO cdp.merge_log (action, customer_id, other_id, rule, reason, before, after)"
			 " SELECT 'merge', $1, $2, $3, $4,"
			 "  jsonb_build_object('winner', w.side, 'loser', l.side),"
			 "  jsonb_build_object('winner', w.side || l.side)"
			 " FROM (SELECT to_jsonb(array_agg(p ORDER BY p)) AS side FROM"
			 "   (SELECT $1 AS p UNION ALL SELECT profile_id FROM cdp.profile_alias WHERE customer_id = $1) x) w,"
			 "  (SELECT to_jsonb(array_agg(p ORDER BY p)) AS side FROM"
			 "   (SELECT $2 AS p UNION ALL SELECT profile_id FROM moved) y) l"
			 " RETURNING merge_id",
			 4, types);
	alias_open = true;
	PG_TRY();
	{
		if (SPI_execute_plan(plan, args, nulls, false, 0) != SPI_OK_INSERT_RETURNING)
			elog(ERROR, "could not merge customers");
	}
	PG_FINALLY();
	{
		alias_open = was_open;
	}
	PG_END_TRY();
	merge_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	cdp_customers_changed(winner, loser, "merge");
	return merge_id;
}
