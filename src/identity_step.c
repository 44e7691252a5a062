/*
 * identity_step.c
 *	  The partition changes one step at a time: two customers become one, or
 *	  one becomes two.
 *
 * Facts keep the profile they were recorded under.  A merge is one row per
 * profile of the losing side in cdp.profile_alias, always of depth 1:
 *
 *		before	 7			9 -> 8		(8 is a customer of two profiles)
 *		merge 7, 8
 *		after	 8 -> 7		9 -> 7
 *
 * Each step writes the alias rows, a row of cdp.merge_log and one event, and
 * then tells the modules that keep something per customer, who find the
 * aliases as they are after this step.
 *
 * Whoever calls has locked the customers; see cdp_attempt.
 *
 * Page: doc/identity_merge.md.  Tests: test/sql/identity_merge.sql,
 * test/sql/identity_unmerge.sql.
 */
#include "identity_recheck.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "event.h"
#include "points_merge.h"
#include "probe.h"
#include "segment.h"
#include "tag_bits.h"
#include "tag_customer.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "value_score.h"

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
	cdp_tags_customers_changed,
	cdp_tag_bits_customers_changed,
	cdp_segments_customers_changed,
	cdp_value_customers_changed,
	cdp_points_customers_changed,
#ifdef CDP_TEST_HANDLER
	cdp_test_handler,
#endif
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
	char	   *action = text_to_cstring(PG_GETARG_TEXT_PP(2));
	CdpVerb		verb;

	cdp_begin_write(&verb, "_customers_changed");
	cdp_customers_changed(PG_GETARG_INT64(0), PG_GETARG_INT64(1), action);
	cdp_end(&verb);
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
				 errhint("cdp.identify() with identifiers of both customers makes them one, and so does cdp.merge_customers().")));
	PG_RETURN_POINTER(NULL);
}

/* run a statement that writes aliases and RETURNING merge_id */
static int64
write_step(SPIPlanPtr plan, Datum *args, const char *nulls)
{
	bool		was_open = alias_open;
	bool		isnull;
	int64		merge_id;

	alias_open = true;
	PG_TRY();
	{
		if (SPI_execute_plan(plan, args, nulls, false, 0) != SPI_OK_INSERT_RETURNING || SPI_processed != 1)
			elog(ERROR, "could not change the partition");
	}
	PG_FINALLY();
	{
		alias_open = was_open;
	}
	PG_END_TRY();
	merge_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return merge_id;
}

/* Customer Merged, Customer Unmerged: under the profile of the customer whose id stays. */
static void
write_event(bool merged, int64 winner, int64 loser, const char *rule, int64 merge_id, int64 undoes)
{
	CdpEventItem item;
	CdpEventItem *list = &item;
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"merge_id\": " INT64_FORMAT ", \"customer_id\": " INT64_FORMAT ", \"other_id\": " INT64_FORMAT ", \"rule\": ",
					 merge_id, winner, loser);
	escape_json(&json, rule);
	if (undoes != 0)
		appendStringInfo(&json, ", \"undoes\": " INT64_FORMAT, undoes);
	appendStringInfoChar(&json, '}');
	memset(&item, 0, sizeof(item));
	item.event_id = nextval_internal(cdp_relation("event_event_id_seq"), false);
	item.who.profile_id = winner;
	item.who.occurred_at = item.received_at = cdp_now_value();
	item.who.source = "cdp";
	item.name = merged ? "Customer Merged" : "Customer Unmerged";
	item.message_id = psprintf("merge:" INT64_FORMAT, merge_id);
	item.properties = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
	if (cdp_write_events(&list, 1, true) != 1)
		elog(ERROR, "could not write the event of a merge");
}

static int64
merge_step(const char *action, int64 winner, int64 loser, const char *rule, const char *reason)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[5] = {INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID};
	Datum		args[5];
	char		nulls[5] = {' ', ' ', ' ', ' ', ' '};
	int64		merge_id;

	args[0] = Int64GetDatum(winner);
	args[1] = Int64GetDatum(loser);
	args[2] = CStringGetTextDatum(rule);
	args[3] = reason ? CStringGetTextDatum(reason) : (Datum) 0;
	nulls[3] = reason ? ' ' : 'n';
	args[4] = CStringGetTextDatum(action);
	/* one statement: the log row sees the sides as they were before it */
	cdp_plan(&plan,
			 "WITH moved AS ("
			 "  UPDATE cdp.profile_alias SET customer_id = $1 WHERE customer_id = $2 RETURNING profile_id"
			 "), added AS ("
			 "  INSERT INTO cdp.profile_alias (profile_id, customer_id) VALUES ($2, $1)"
			 ")"
			 " INSERT INTO cdp.merge_log (action, customer_id, other_id, rule, reason, before, after)"
			 " SELECT $5, $1, $2, $3, $4,"
			 "  jsonb_build_object('winner', w.side, 'loser', l.side),"
			 "  jsonb_build_object('winner', w.side || l.side)"
			 " FROM (SELECT to_jsonb(array_agg(p ORDER BY p)) AS side FROM"
			 "   (SELECT $1 AS p UNION ALL SELECT profile_id FROM cdp.profile_alias WHERE customer_id = $1) x) w,"
			 "  (SELECT to_jsonb(array_agg(p ORDER BY p)) AS side FROM"
			 "   (SELECT $2 AS p UNION ALL SELECT profile_id FROM moved) y) l"
			 " RETURNING merge_id",
			 5, types);
	merge_id = write_step(plan, args, nulls);
	write_event(true, winner, loser, rule, merge_id, 0);
	cdp_customers_changed(winner, loser, "merge");
	return merge_id;
}

int64
cdp_merge_step(int64 winner, int64 loser, const char *rule, const char *reason)
{
	return merge_step("merge", winner, loser, rule, reason);
}

/* part, one of profiles, which all are winner's, becomes a customer of theirs */
static int64
unmerge_step(int64 winner, int64 part, Datum *profiles, int n, const CdpCause *cause, const char *reason)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[7] = {INT8OID, INT8OID, INT8ARRAYOID, TEXTOID, TEXTOID, TEXTOID, INT8OID};
	Datum		args[7];
	char		nulls[7] = {' ', ' ', ' ', ' ', ' ', ' ', ' '};
	int64		merge_id;

	args[0] = Int64GetDatum(winner);
	args[1] = Int64GetDatum(part);
	args[2] = PointerGetDatum(construct_array(profiles, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	args[3] = CStringGetTextDatum(cause->unmerge);
	args[4] = CStringGetTextDatum(cause->rule);
	args[5] = reason ? CStringGetTextDatum(reason) : (Datum) 0;
	nulls[5] = reason ? ' ' : 'n';
	args[6] = Int64GetDatum(cause->undoes);
	nulls[6] = cause->undoes ? ' ' : 'n';
	cdp_plan(&plan,
			 "WITH freed AS ("
			 "  DELETE FROM cdp.profile_alias WHERE profile_id = $2"
			 "), moved AS ("
			 "  UPDATE cdp.profile_alias SET customer_id = $2 WHERE profile_id = ANY ($3) AND profile_id <> $2"
			 ")"
			 " INSERT INTO cdp.merge_log (action, customer_id, other_id, rule, reason, before, after, undoes)"
			 " SELECT $4, $1, $2, $5, $6, jsonb_build_object('winner', to_jsonb(array_agg(p ORDER BY p))),"
			 "  jsonb_build_object('winner', to_jsonb(array_agg(p ORDER BY p) FILTER (WHERE p <> ALL ($3))),"
			 "   'loser', to_jsonb(array_agg(p ORDER BY p) FILTER (WHERE p = ANY ($3)))), $7"
			 " FROM (SELECT $1 AS p UNION ALL SELECT profile_id FROM cdp.profile_alias WHERE customer_id = $1) x"
			 " RETURNING merge_id",
			 7, types);
	merge_id = write_step(plan, args, nulls);
	write_event(false, winner, part, cause->rule, merge_id, cause->undoes);
	cdp_customers_changed(winner, part, "unmerge");
	return merge_id;
}

/* by former customer, then the future one, then profile */
static int
compare_changes(const void *x, const void *y)
{
	const CdpChange *a = x;
	const CdpChange *b = y;

	if (a->before != b->before)
		return a->before < b->before ? -1 : 1;
	if (a->after != b->after)
		return a->after < b->after ? -1 : 1;
	return a->profile_id < b->profile_id ? -1 : a->profile_id > b->profile_id;
}

static int
compare_parts(const void *x, const void *y)
{
	const CdpPart *a = x;
	const CdpPart *b = y;

	if (a->after != b->after)
		return a->after < b->after ? -1 : 1;
	return a->part < b->part ? -1 : a->part > b->part;
}

/*
 * changes: every profile whose customer is another afterwards.  Those of one
 * former customer that go to one future customer are a part.  The part that
 * holds the former customer's own profile keeps its id in between, any other
 * leaves first under the id it will have when that is one of its profiles,
 * else under its smallest profile.
 */
CdpPart *
cdp_apply_partition(CdpChange *changes, int n, const CdpCause *cause, int *nparts)
{
	CdpPart    *parts = palloc0(sizeof(CdpPart) * Max(n, 1));
	Datum	   *profiles = palloc(sizeof(Datum) * Max(n, 1));
	int			m = 0;

	qsort(changes, n, sizeof(CdpChange), compare_changes);
	for (int i = 0; i < n;)
	{
		CdpPart    *p = &parts[m++];
		bool		stays = false;
		int			k = 0;

		p->before = changes[i].before;
		p->after = changes[i].after;
		p->part = changes[i].profile_id;
		p->reason = changes[i].reason;
		for (; i < n && changes[i].before == p->before && changes[i].after == p->after; i++)
		{
			profiles[k++] = Int64GetDatum(changes[i].profile_id);
			stays = stays || changes[i].profile_id == p->before;
			if (changes[i].profile_id == p->after)
				p->part = p->after;
		}
		if (stays)
			p->part = p->before;
		else
			p->merge_id = unmerge_step(p->before, p->part, profiles, k, cause, p->reason);
	}
	qsort(parts, m, sizeof(CdpPart), compare_parts);
	for (int i = 0; i < m; i++)
	{
		if (parts[i].part != parts[i].after)
			parts[i].merge_id = merge_step(cause->merge, parts[i].after, parts[i].part, cause->rule, parts[i].reason);
	}
	*nparts = m;
	return parts;
}

/* ------------------------------------------------------------------ locks */

bool
cdp_lock_customers(const int64 *ids, int n)
{
	(void) cdp_lock_profiles(ids, n);
	return cdp_are_customers(ids, n);
}

/*
 * An error must not leave through an open subtransaction: the client would
 * find himself in a transaction block that he never began.
 */
bool
cdp_attempt(CdpAttempt body, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool keep = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		keep = body(arg);
		if (keep)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		ReThrowError(error);
	}
	PG_END_TRY();
	return keep;
}

void
cdp_count_round(int *round)
{
	CHECK_FOR_INTERRUPTS();
	if (++*round > CDP_MAX_ROUNDS)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not change the customers due to concurrent changes"),
				 errhint("Retry the transaction.")));
}

int64
cdp_customer_of(int64 id, bool read_only)
{
	int64		customer = 0;
	CdpProbe   *probe;
	TupleTableSlot *row;
	bool		isnull;

	if (!read_only)
		cdp_push_fresh_snapshot();
	probe = cdp_probe_open("profile", "profile_pkey");
	if (cdp_probe_int8(probe, id) != NULL)
		customer = id;
	cdp_probe_close(probe);
	if (customer != 0)
	{
		probe = cdp_probe_open("profile_alias", "profile_alias_pkey");
		row = cdp_probe_int8(probe, id);
		if (row != NULL)
			customer = DatumGetInt64(slot_getattr(row, cdp_probe_column(probe, "customer_id"), &isnull));
		cdp_probe_close(probe);
	}
	if (!read_only)
		PopActiveSnapshot();
	return customer;
}

int64
cdp_existing_customer(int64 id, bool read_only)
{
	int64		customer = cdp_customer_of(id, read_only);

	if (customer == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no customer " INT64_FORMAT, id),
				 errhint("Any id that ever was a customer or a profile will do; cdp.resolve(kind, value) finds one.")));
	return customer;
}

void
cdp_refuse_null(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s must not be NULL", what),
			 errhint("cdp.resolve() answers NULL when nobody has the identifier.")));
}

int64
cdp_id_arg(FunctionCallInfo fcinfo, int arg, const char *what)
{
	if (PG_ARGISNULL(arg))
		cdp_refuse_null(what);
	return PG_GETARG_INT64(arg);
}

/* a profile that a re-check made joins its customer */
int64
cdp_recheck_merge(int64 winner, int64 loser)
{
	return merge_step("recheck", winner, loser, "recheck", "identifier moved");
}

/* the other thing that may write aliases: rebuilding them, which changes nothing that is sound */
void
cdp_write_aliases(SPIPlanPtr plan, Datum *args, int64 *written)
{
	bool		was_open = alias_open;

	alias_open = true;
	PG_TRY();
	{
		int			rc = SPI_execute_plan(plan, args, NULL, false, 0);

		if (rc < 0)
			elog(ERROR, "could not write aliases: %s", SPI_result_code_string(rc));
		*written = (int64) SPI_processed;
	}
	PG_FINALLY();
	{
		alias_open = was_open;
	}
	PG_END_TRY();
}

int
cdp_id_compare(const void *x, const void *y)
{
	int64		a = *(const int64 *) x;
	int64		b = *(const int64 *) y;

	return a < b ? -1 : a > b;
}

Datum
cdp_id_array(const int64 *ids, int n)
{
	Datum	   *datums = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		datums[i] = Int64GetDatum(ids[i]);
	return PointerGetDatum(construct_array(datums, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
}
