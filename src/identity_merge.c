/*
 * identity_merge.c
 *	  What an operator says about who is one customer: merge_customers,
 *	  preview_merge, allow_merge, detach_identifier.
 *
 * An operator's merge is evidence like any other: a link of rule "manual"
 * between the strongest identifiers of both sides, which a re-check hears in
 * its place of the canonical order.  With override_limits it is heard last,
 * after all limits have been kept, and asks none.
 *
 * SQL: sql/identity_merge.sql.  Page: doc/identity_merge.md.
 * Tests: test/sql/identity_merge.sql, test/specs/identity_merge_*.spec.
 */
#include "identity_graph.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "identity_kind.h"
#include "identity_step.h"
#include "utils/builtins.h"
#include "utils/json.h"

PG_FUNCTION_INFO_V1(cdp_merge_customers);
PG_FUNCTION_INFO_V1(cdp_merge_match);
PG_FUNCTION_INFO_V1(cdp_preview_merge);
PG_FUNCTION_INFO_V1(cdp_allow_merge);
PG_FUNCTION_INFO_V1(cdp_detach_identifier);

static char *
text_arg(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/* of a merge: an id that is NULL is as unknown as any other that never was */
static int64
merge_id_arg(FunctionCallInfo fcinfo, int arg, const char *what)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be NULL", what),
				 errhint("cdp.resolve() answers NULL when nobody has the identifier.")));
	return PG_GETARG_INT64(arg);
}

/* two ids, any of theirs, to two customers */
static void
two_customers(int64 a, int64 b, int64 ids[2], bool read_only)
{
	if (a == b)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a customer cannot be merged with itself"),
				 errhint("Give the ids of two customers.")));
	ids[0] = cdp_existing_customer(a, read_only);
	ids[1] = cdp_existing_customer(b, read_only);
}

typedef struct Two
{
	int64		a;				/* any ids */
	int64		b;
	int64		ids[2];			/* their customers */
} Two;

static bool
lock_body(void *arg)
{
	Two		   *two = arg;
	int64		again[2];

	if (!cdp_lock_customers(two->ids, 2))
		return false;
	/* they are customers, but are they still those of a and b? */
	two_customers(two->a, two->b, again, false);
	if (again[0] != two->ids[0] || again[1] != two->ids[1])
		return false;
	cdp_graph_require_current(two->ids, 2, CDP_REACH_NONE);
	return true;
}

/* Lock the two customers that a and b belong to.  False: they are one, and nothing is locked. */
static bool
lock_two(Two *two)
{
	int			round = 0;

	do
	{
		cdp_count_round(&round);
		two_customers(two->a, two->b, two->ids, false);
		if (two->ids[0] == two->ids[1])
			return false;
	} while (!cdp_attempt(lock_body, two));
	return true;
}

typedef struct Violations
{
	StringInfoData json;
	StringInfoData detail;
	const char *reason;			/* of the first, and whose limit it was */
	const char *kind;
	bool		apart;			/* one that cannot be overridden */
} Violations;

static void
note_violation(void *arg, const char *reason, const GraphKind *kind, int64 count)
{
	Violations *v = arg;

	if (v->reason == NULL)
	{
		v->reason = pstrdup(reason);
		v->kind = kind ? pstrdup(kind->name) : NULL;
	}
	appendStringInfo(&v->json, "%s{\"reason\": \"%s\"", v->json.len > 1 ? ", " : "", reason);
	if (v->detail.len > 0)
		appendStringInfoChar(&v->detail, ' ');
	if (kind != NULL)
	{
		appendStringInfo(&v->json, ", \"kind\": ");
		escape_json(&v->json, kind->name);
		appendStringInfo(&v->json, ", \"identifiers\": " INT64_FORMAT ", \"max\": %d", count, kind->max);
		appendStringInfo(&v->detail, "Limit of kind %s: " INT64_FORMAT " identifiers, at most %d.", kind->name, count, kind->max);
	}
	else if (count > 0)
	{
		appendStringInfo(&v->json, ", \"profiles\": " INT64_FORMAT ", \"max\": %d", count, cdp_max_profiles_per_customer);
		appendStringInfo(&v->detail, "Customer too large: " INT64_FORMAT " profiles, at most %d.", count, cdp_max_profiles_per_customer);
	}
	else
	{
		v->apart = true;
		appendStringInfoString(&v->detail, "They are kept apart.");
	}
	appendStringInfoChar(&v->json, '}');
}

static void
start_violations(Violations *v)
{
	initStringInfo(&v->json);
	initStringInfo(&v->detail);
	appendStringInfoChar(&v->json, '[');
	v->reason = v->kind = NULL;
	v->apart = false;
}

/* what says that two customers are one, beside sightings */
typedef struct Judgement
{
	const char *rule;			/* manual, or match:MODEL */
	bool		weighed;
	float8		weight;
	const char *source;			/* or NULL */
	const char *reason;			/* or NULL */
	bool		override_limits;
	int64		identifiers[2];		/* between which the evidence is, 0: the strongest of both */
} Judgement;

static Datum
text_datum(const char *s, char *null)
{
	*null = s ? ' ' : 'n';
	return s ? CStringGetTextDatum(s) : (Datum) 0;
}

static void
write_link(const Judgement *j, int64 a, int64 b, int64 merge_id, bool overrides)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[8] = {INT8OID, INT8OID, TIMESTAMPTZOID, INT8OID, BOOLOID, TEXTOID, FLOAT8OID, TEXTOID};
	Datum		args[8];
	char		nulls[8];

	memset(nulls, ' ', sizeof(nulls));
	args[0] = Int64GetDatum(Min(a, b));
	args[1] = Int64GetDatum(Max(a, b));
	args[2] = TimestampTzGetDatum(cdp_now_value());
	args[3] = Int64GetDatum(merge_id);
	args[4] = BoolGetDatum(overrides);
	args[5] = text_datum(j->rule, &nulls[5]);
	args[6] = Float8GetDatum(j->weight);
	nulls[6] = j->weighed ? ' ' : 'n';
	args[7] = text_datum(j->source, &nulls[7]);
	cdp_plan_generic(&plan,
					 "INSERT INTO cdp.identity_link AS l (identifier_a, identifier_b, rule, weight, source, occurred_at, merge_id, overrides_limits)"
					 " VALUES ($1, $2, $6, $7, $8, $3, $4, $5)"
					 " ON CONFLICT (identifier_a, identifier_b, relation) WHERE revoked_at IS NULL AND refusal IS NULL"
					 " DO UPDATE SET merge_id = excluded.merge_id, overrides_limits = l.overrides_limits OR excluded.overrides_limits",
					 8, types);
	if (SPI_execute_plan(plan, args, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write evidence");
}

/* Evidence that a rule did not let be followed: kept for the day when the rule changes. */
static void
note_refused(const Judgement *j, const Violations *v, int64 a, int64 b, const int64 ids[2])
{
	static SPIPlanPtr link_plan = NULL;
	static SPIPlanPtr log_plan = NULL;
	static const Oid link_types[7] = {INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, FLOAT8OID, TEXTOID, TEXTOID};
	static const Oid log_types[6] = {TEXTOID, TEXTOID, INT8OID, INT8OID, TEXTOID, TIMESTAMPTZOID};
	Datum		args[7];
	char		nulls[7];

	memset(nulls, ' ', sizeof(nulls));
	args[0] = Int64GetDatum(Min(a, b));
	args[1] = Int64GetDatum(Max(a, b));
	args[2] = TimestampTzGetDatum(cdp_now_value());
	args[3] = text_datum(j->rule, &nulls[3]);
	args[4] = Float8GetDatum(j->weight);
	nulls[4] = j->weighed ? ' ' : 'n';
	args[5] = text_datum(j->source, &nulls[5]);
	args[6] = text_datum(v->reason, &nulls[6]);
	cdp_plan_generic(&link_plan,
					 "INSERT INTO cdp.identity_link (identifier_a, identifier_b, occurred_at, rule, weight, source, refusal)"
					 " SELECT $1, $2, $3, $4, $5, $6, $7 WHERE NOT EXISTS (SELECT FROM cdp.identity_link l"
					 "  WHERE l.identifier_a = $1 AND l.identifier_b = $2 AND l.relation = 'same' AND l.revoked_at IS NULL)",
					 7, link_types);
	if (SPI_execute_plan(link_plan, args, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write evidence");
	args[0] = text_datum(v->reason, &nulls[0]);
	args[1] = text_datum(v->kind, &nulls[1]);
	args[2] = Int64GetDatum(ids[0]);
	args[3] = Int64GetDatum(ids[1]);
	args[4] = text_datum(j->rule, &nulls[4]);
	args[5] = TimestampTzGetDatum(cdp_now_value());
	memset(nulls + 2, ' ', 4);
	cdp_plan_generic(&log_plan,
					 "INSERT INTO cdp.merge_refusal (reason, kind, customer_id, other_id, source, occurred_at)"
					 " VALUES ($1, $2, $3, $4, $5, $6)", 6, log_types);
	if (SPI_execute_plan(log_plan, args, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not note a refusal");
}

/* Make the two one; false: a rule forbids it, v says which, and with log it is noted. */
static bool
merge(Two *two, const Judgement *j, Violations *v, bool log)
{
	CdpGraph   *g;
	int			a,
				b,
				n;
	int64		between[2];

	start_violations(v);
	if (!lock_two(two))
		return true;
	g = cdp_graph_load(two->ids, 2, CDP_REACH_NONE, false);
	a = cdp_graph_strongest(g, 0);
	b = cdp_graph_strongest(g, 1);
	n = cdp_check_join(g, 0, 1, note_violation, v);
	if (a < 0 || b < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("customer " INT64_FORMAT " has no identifier", two->ids[a < 0 ? 0 : 1]),
				 errhint("A merge is evidence between two identifiers; cdp.identify() makes customers that have some.")));
	between[0] = j->identifiers[0] ? j->identifiers[0] : g->identifiers[a].id;
	between[1] = j->identifiers[0] ? j->identifiers[1] : g->identifiers[b].id;
	if (n > 0 && (v->apart || !j->override_limits))
	{
		if (log)
			note_refused(j, v, between[0], between[1], two->ids);
		cdp_graph_free(g);
		return false;
	}
	write_link(j, between[0], between[1],
			   cdp_merge_step(two->ids[0], two->ids[1], j->rule, j->reason), n > 0);
	cdp_graph_free(g);
	return true;
}

/* cdp.merge_customers(winner, loser, reason, override_limits) -> customer_id */
Datum
cdp_merge_customers(PG_FUNCTION_ARGS)
{
	Two			two = {merge_id_arg(fcinfo, 0, "winner"), merge_id_arg(fcinfo, 1, "loser"), {0, 0}};
	Judgement	j = {.rule = "manual", .reason = text_arg(fcinfo, 2), .override_limits = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3)};
	Violations	v;
	CdpVerb		verb;

	cdp_begin_write(&verb, "merge_customers");
	if (!merge(&two, &j, &v, false))
		ereport(ERROR,
				(errcode(ERRCODE_CDP_MERGE_REFUSED),
				 errmsg("customers " INT64_FORMAT " and " INT64_FORMAT " must not become one", two.ids[0], two.ids[1]),
				 errdetail("%s", v.detail.data),
				 v.apart ? errhint("Somebody took them apart; cdp.allow_merge(a, b, reason) takes that back.") :
				 errhint("Change the rule in cdp.identifier_kind, or pass override_limits => true when you know better.")));
	cdp_end(&verb);
	PG_RETURN_INT64(two.ids[0]);
}

/*
 * cdp._merge_match(left, right, rule, weight, source, reason, identifier_a,
 * identifier_b) -> boolean: the older id stays; false, and noted, when a limit
 * or a judgement forbids it
 */
Datum
cdp_merge_match(PG_FUNCTION_ARGS)
{
	int64		left = cdp_id_arg(fcinfo, 0, "left_id");
	int64		right = cdp_id_arg(fcinfo, 1, "right_id");
	Two			two = {Min(left, right), Max(left, right), {0, 0}};
	Judgement	j = {.rule = text_arg(fcinfo, 2), .weighed = !PG_ARGISNULL(3), .source = text_arg(fcinfo, 4), .reason = text_arg(fcinfo, 5)};
	Violations	v;
	CdpVerb		verb;
	bool		merged;

	if (j.rule == NULL)
		cdp_refuse_null("rule");
	if (j.weighed)
		j.weight = PG_GETARG_FLOAT8(3);
	if (!PG_ARGISNULL(6) && !PG_ARGISNULL(7))
	{
		j.identifiers[0] = PG_GETARG_INT64(6);
		j.identifiers[1] = PG_GETARG_INT64(7);
	}
	cdp_begin_write(&verb, "match_profiles");
	merged = merge(&two, &j, &v, true);
	cdp_end(&verb);
	PG_RETURN_BOOL(merged);
}

/* cdp.preview_merge(a, b) -> (allowed, violations, profiles, identifiers) */
Datum
cdp_preview_merge(PG_FUNCTION_ARGS)
{
	int64		a = merge_id_arg(fcinfo, 0, "a");
	int64		b = merge_id_arg(fcinfo, 1, "b");
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};
	MemoryContext caller = CurrentMemoryContext;
	CdpVerb		verb;
	CdpGraph   *g;
	Violations	v;
	int64		ids[2];
	int64		identifiers = 0;
	int			n = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	cdp_begin_read(&verb);
	two_customers(a, b, ids, true);
	g = cdp_graph_load(ids, 2, CDP_REACH_NONE, true);
	for (int i = 0; i < g->nidentifiers; i++)
		identifiers += g->identifiers[i].live;
	start_violations(&v);
	if (ids[0] != ids[1])
		n = cdp_check_join(g, 0, 1, note_violation, &v);
	appendStringInfoChar(&v.json, ']');
	values[0] = BoolGetDatum(n == 0);
	values[2] = Int64GetDatum(g->nprofiles);
	values[3] = Int64GetDatum(identifiers);
	MemoryContextSwitchTo(caller);
	values[1] = DirectFunctionCall1(jsonb_in, CStringGetDatum(v.json.data));
	cdp_end(&verb);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* cdp.allow_merge(a, b, reason) -> number of apart links revoked */
Datum
cdp_allow_merge(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[3] = {INT8OID, TEXTOID, TIMESTAMPTZOID};
	Two			two = {cdp_id_arg(fcinfo, 0, "a"), cdp_id_arg(fcinfo, 1, "b"), {0, 0}};
	char	   *reason = text_arg(fcinfo, 2);
	Datum		args[3];
	char		nulls[3] = {' ', ' ', ' '};
	CdpVerb		verb;
	int64		revoked = 0;

	cdp_begin_write(&verb, "allow_merge");
	if (lock_two(&two))
	{
		CdpGraph   *g = cdp_graph_load(two.ids, 2, CDP_REACH_NONE, false);

		args[1] = reason ? CStringGetTextDatum(reason) : (Datum) 0;
		nulls[1] = reason ? ' ' : 'n';
		args[2] = TimestampTzGetDatum(cdp_now_value());
		for (int i = 0; i < g->nlinks; i++)
		{
			GraphLink  *l = &g->links[i];

			if (l->relation != 'a' || g->profiles[g->identifiers[l->a].profile].customer ==
				g->profiles[g->identifiers[l->b].profile].customer)
				continue;
			args[0] = Int64GetDatum(l->id);
			cdp_plan_generic(&plan,
							 "UPDATE cdp.identity_link SET revoked_at = $3, revoked_by = session_user, revoked_reason = $2"
							 " WHERE link_id = $1 AND revoked_at IS NULL",
							 3, types);
			if (SPI_execute_plan(plan, args, nulls, false, 0) != SPI_OK_UPDATE)
				elog(ERROR, "could not revoke evidence");
			revoked += SPI_processed;
		}
		cdp_graph_free(g);
	}
	cdp_end(&verb);
	PG_RETURN_INT64(revoked);
}

typedef struct Holder
{
	const char *kind;
	const char *value;
	int64		identifier_id;
	int64		customer_id;
} Holder;

/* who has a live identifier; false: nobody */
static bool
find_live(Holder *h)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {TEXTOID, TEXTOID};
	Datum		args[2];
	bool		isnull;

	args[0] = CStringGetTextDatum(h->kind);
	args[1] = CStringGetTextDatum(h->value);
	cdp_plan_generic(&plan,
					 "SELECT i.identifier_id, coalesce(a.customer_id, i.profile_id)"
					 " FROM cdp.identifier i LEFT JOIN cdp.profile_alias a ON a.profile_id = i.profile_id"
					 " WHERE i.kind = $1 AND i.value = $2 AND i.valid_to IS NULL",
					 2, types);
	if (SPI_execute_plan(plan, args, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look up an identifier");
	if (SPI_processed == 0)
		return false;
	h->identifier_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	h->customer_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	return true;
}

static bool
hold_body(void *arg)
{
	Holder	   *h = arg;
	Holder		again = *h;

	return cdp_lock_customers(&h->customer_id, 1) && find_live(&again) &&
		again.identifier_id == h->identifier_id && again.customer_id == h->customer_id;
}

/* cdp.detach_identifier(kind, value, reason) -> customer_id that had it, NULL: nobody */
Datum
cdp_detach_identifier(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[4] = {INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID};
	char	   *kindname = text_arg(fcinfo, 0);
	char	   *raw = text_arg(fcinfo, 1);
	char	   *reason = text_arg(fcinfo, 2);
	const CdpKind *kind;
	Holder		holder;
	Datum		args[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};
	CdpVerb		verb;
	bool		found;
	int			round = 0;

	if (kindname == NULL || raw == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be NULL", kindname == NULL ? "kind" : "value"),
				 errhint("cdp.identifiers_of() lists the kinds and values that a customer has.")));
	cdp_begin_write(&verb, "detach_identifier");
	kind = cdp_find_kind(kindname, strlen(kindname));
	if (kind == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s", cdp_unknown_kind(kindname, strlen(kindname))),
				 errhint("The kinds are %s.", cdp_list_kinds())));
	holder.kind = kindname;
	holder.value = cdp_normalize_value(kind, raw, strlen(raw));
	do
	{
		cdp_count_round(&round);
		found = holder.value != NULL && find_live(&holder);
	} while (found && !cdp_attempt(hold_body, &holder));
	if (found)
	{
		args[0] = Int64GetDatum(holder.identifier_id);
		args[1] = Int64GetDatum(holder.customer_id);
		args[2] = TimestampTzGetDatum(cdp_now_value());
		args[3] = reason ? CStringGetTextDatum(reason) : (Datum) 0;
		nulls[3] = reason ? ' ' : 'n';
		/* the log row moves no profile: before and after are the same ones */
		cdp_plan(&plan,
				 "WITH closed AS (UPDATE cdp.identifier SET valid_to = $3 WHERE identifier_id = $1)"
				 " INSERT INTO cdp.merge_log (action, customer_id, other_id, rule, reason, before, after)"
				 " SELECT 'unmerge', $2, $2, 'detach', $4, jsonb_build_object('winner', side),"
				 "  jsonb_build_object('winner', side, 'identifier', $1)"
				 " FROM (SELECT to_jsonb(array_agg(p ORDER BY p)) AS side FROM"
				 "  (SELECT $2 AS p UNION ALL SELECT profile_id FROM cdp.profile_alias WHERE customer_id = $2) x) y",
				 4, types);
		if (SPI_execute_plan(plan, args, nulls, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "could not close an identifier");
	}
	cdp_end(&verb);
	if (!found)
		PG_RETURN_NULL();
	PG_RETURN_INT64(holder.customer_id);
}
