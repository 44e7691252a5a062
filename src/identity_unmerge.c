/*
 * identity_unmerge.c
 *	  Take a merge back, exactly.
 *
 * The log knows the two sides as they were.  Each is joined again by the
 * evidence that was its own, the sides part, and profiles that came later go
 * where their evidence leads, in canonical order:
 *
 *		merge 1, 4		winner {1, 2}  loser {4, 5}
 *		later			9 seen with 5
 *		unmerge 4		{1, 2}   {4, 5, 9}
 *
 * The evidence that caused the merge is revoked, evidence that crosses is
 * not followed any more, and an apart link per crossing pair keeps the sides
 * from becoming one again at the next page view.
 *
 * SQL: sql/identity_unmerge.sql.  Page: doc/identity_unmerge.md.
 * Tests: test/sql/identity_unmerge.sql, test/pgtap/identity_unmerge.sql.
 */
#include "identity_graph.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "identity_step.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_unmerge_customer);
PG_FUNCTION_INFO_V1(cdp_preview_unmerge);

#define WINNER	1
#define LOSER	2

typedef struct Undo
{
	int64		merge_id;
	int64		winner;
	int64		loser;
	int64		customer;
	int64		profile_id;		/* what was asked for */
	int64		wanted;			/* ... and the merge, 0: the last */
	CdpGraph   *g;				/* of the customer; after of its profiles is set */
	int		   *set;			/* per profile */
	char	   *side;			/* per representative: WINNER, LOSER, who is in it */
	bool		overridden;		/* some link asks no limit */
	int			of_winner;		/* a profile of either side */
	int			of_loser;
} Undo;

static Datum
profile_array(const CdpGraph *g)
{
	int64	   *ids = palloc(sizeof(int64) * g->nprofiles);

	for (int i = 0; i < g->nprofiles; i++)
		ids[i] = g->profiles[i].id;
	return cdp_id_array(ids, g->nprofiles);
}

#define SIDES(condition) \
	"SELECT m.merge_id, m.customer_id, m.other_id, m.winner, m.loser FROM (" \
	" SELECT l.merge_id, l.customer_id, l.other_id," \
	"  ARRAY(SELECT jsonb_array_elements_text(l.before -> 'winner')::bigint) AS winner," \
	"  ARRAY(SELECT jsonb_array_elements_text(l.before -> 'loser')::bigint) AS loser" \
	" FROM cdp.merge_log l WHERE l.before ? 'loser' AND " condition \
	"  AND NOT EXISTS (SELECT FROM cdp.merge_log u WHERE u.undoes = l.merge_id)) m" \
	" WHERE m.winner && $1 AND m.loser && $1"

/*
 * The merge to be taken back: the named one; else the last that brought the
 * profile's side in; for the customer's own id the last of all.  Answers the
 * sides, false when there is none.
 */
static bool
find_merge(Undo *u, bool read_only, ArrayType **winner, ArrayType **loser)
{
	static SPIPlanPtr named = NULL;
	static SPIPlanPtr brought = NULL;
	static SPIPlanPtr any = NULL;
	static SPIPlanPtr anywhere = NULL;
	static const Oid types[2] = {INT8ARRAYOID, INT8OID};
	bool		is_customer = u->profile_id == u->customer;
	Datum		args[2];
	bool		isnull;

	/* nobody to take him from: the log need not be asked */
	if (u->g->nprofiles < 2 && u->wanted == 0)
		return false;
	args[0] = profile_array(u->g);
	args[1] = Int64GetDatum(u->wanted != 0 ? u->wanted : u->profile_id);
	for (int attempt = u->wanted != 0 ? 0 : is_customer ? 2 : 1; attempt <= 3; attempt++)
	{
		SPIPlanPtr	plan;

		if (attempt == 0)
			plan = cdp_plan(&named, SIDES("l.merge_id = $2"), 2, types);
		else if (attempt == 1)
			plan = cdp_plan(&brought, SIDES("(l.customer_id = ANY ($1) OR l.other_id = ANY ($1))")
							" AND $2 = ANY (m.loser) ORDER BY m.merge_id DESC LIMIT 1", 2, types);
		else if (attempt == 2)
			plan = cdp_plan(&any, SIDES("(l.customer_id = ANY ($1) OR l.other_id = ANY ($1))")
							" AND $2 IS NOT NULL ORDER BY m.merge_id DESC LIMIT 1", 2, types);
		else
			/* both sides may have lost the profile that gave them their id: read the whole log */
			plan = cdp_plan(&anywhere, SIDES("true") " AND $2 IS NOT NULL ORDER BY m.merge_id DESC LIMIT 1", 2, types);
		if (SPI_execute_plan(plan, args, NULL, read_only, 1) != SPI_OK_SELECT)
			elog(ERROR, "could not read the log of merges");
		if (SPI_processed > 0 || attempt == 0)
			break;
	}
	if (SPI_processed == 0)
		return false;
	u->merge_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	u->winner = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	u->loser = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull));
	*winner = DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4, &isnull));
	*loser = DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 5, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return true;
}

static int
root(int *set, int i)
{
	while (set[i] != i)
	{
		set[i] = set[set[i]];
		i = set[i];
	}
	return i;
}

/* mark the profiles of one side that are still here; answers one of them */
static int
mark_side(Undo *u, ArrayType *side, char mark)
{
	Datum	   *ids;
	int			n;
	int			first = -1;

	deconstruct_array(side, INT8OID, 8, true, TYPALIGN_DOUBLE, &ids, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		int			p = cdp_graph_profile(u->g, DatumGetInt64(ids[i]));

		if (p < 0)
			continue;
		u->side[p] = mark;
		if (first < 0)
			first = p;
	}
	return first;
}

/*
 * A whole that kept the limits has parts that do.  But an operator may have
 * overridden them, and then a part that goes without his link may not.
 */
static bool
breaks_limit(Undo *u, int a, int b, const GraphLink *l)
{
	CdpGraph   *g = u->g;

	if (!u->overridden || l->overrides)
		return false;
	for (int k = 0; k < g->nkinds; k++)
	{
		int			n[2] = {0, 0};

		if (g->kinds[k].max == 0)
			continue;
		for (int i = 0; i < g->nidentifiers; i++)
		{
			int			r = root(u->set, g->identifiers[i].profile);

			if (g->identifiers[i].kind == k && (r == a || r == b) && cdp_counts(g, &g->identifiers[i], l->occurred_at))
				n[r == b]++;
		}
		if (n[0] > 0 && n[1] > 0 && n[0] + n[1] > g->kinds[k].max)
			return true;
	}
	return false;
}

/* join the ends of a link, unless that brings the sides or some other apart together */
static void
follow(Undo *u, GraphLink *l, const int *apart, int napart)
{
	int			a = root(u->set, u->g->identifiers[l->a].profile);
	int			b = root(u->set, u->g->identifiers[l->b].profile);

	if (a == b)
		return;
	l->verdict = "kept_apart";
	if ((u->side[a] | u->side[b]) == (WINNER | LOSER))
		return;
	for (int k = 0; k < napart; k++)
	{
		int			c = root(u->set, apart[k * 2]);
		int			d = root(u->set, apart[k * 2 + 1]);

		if ((c == a && d == b) || (c == b && d == a))
			return;
	}
	if (breaks_limit(u, a, b, l))
	{
		l->verdict = "limit";
		return;
	}
	l->verdict = NULL;
	u->side[b] |= u->side[a];
	u->set[a] = b;
}

/* id of every part: what it was called, else its smallest profile */
static void
name_parts(Undo *u)
{
	CdpGraph   *g = u->g;
	int64		wanted[3] = {g->customers[0].id, u->winner, u->loser};
	int64	   *name = palloc0(sizeof(int64) * g->nprofiles);

	for (int w = 0; w < 3; w++)
	{
		int			p = cdp_graph_profile(g, wanted[w]);

		if (p >= 0 && name[root(u->set, p)] == 0)
			name[root(u->set, p)] = wanted[w];
	}
	for (int pass = 0; pass < 2; pass++)
	{
		for (int i = 0; i < g->nprofiles; i++)
		{
			int			r = root(u->set, i);

			/* negative: the smallest so far */
			if (pass == 0 && name[r] <= 0 && (name[r] == 0 || -name[r] > g->profiles[i].id))
				name[r] = -g->profiles[i].id;
			else if (pass == 1)
				g->profiles[i].after = name[r] < 0 ? -name[r] : name[r];
		}
	}
}

/* Set after of every profile; false: there is no merge to be taken back. */
static bool
plan_undo(Undo *u, bool read_only)
{
	CdpGraph   *g = u->g = cdp_graph_load(&u->customer, 1, CDP_REACH_NONE, read_only);
	ArrayType  *winner,
			   *loser;
	int		   *apart = palloc(sizeof(int) * 2 * (g->nlinks + 1));
	int			napart = 0;
	char	   *was;

	if (!find_merge(u, read_only, &winner, &loser))
	{
		if (u->wanted != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("merge " INT64_FORMAT " is none that customer " INT64_FORMAT " is made of", u->wanted, u->customer),
					 errhint("cdp.merge_log has the merges; one that was taken back cannot be taken back again.")));
		return false;
	}
	u->set = palloc(sizeof(int) * g->nprofiles);
	u->side = palloc0(g->nprofiles);
	for (int i = 0; i < g->nprofiles; i++)
		u->set[i] = i;
	u->of_winner = mark_side(u, winner, WINNER);
	u->of_loser = mark_side(u, loser, LOSER);
	was = palloc(g->nprofiles);
	memcpy(was, u->side, g->nprofiles);
	for (int i = 0; i < g->nlinks; i++)
	{
		u->overridden = u->overridden || (g->links[i].overrides && g->links[i].refusal == NULL);
		if (g->links[i].relation != 'a')
			continue;
		apart[napart * 2] = g->identifiers[g->links[i].a].profile;
		apart[napart * 2 + 1] = g->identifiers[g->links[i].b].profile;
		napart++;
	}
	cdp_sort_links(g);
	/* first what each side was made of, then who came later */
	for (int pass = 0; pass < 2; pass++)
	{
		for (int i = 0; i < g->nlinks; i++)
		{
			GraphLink  *l = &g->links[i];
			char		a = was[g->identifiers[l->a].profile];
			char		b = was[g->identifiers[l->b].profile];

			if (l->relation == 's' && l->refusal == NULL && l->merge_id != u->merge_id && (pass == 1 || (a != 0 && a == b)))
				follow(u, l, apart, napart);
		}
	}
	name_parts(u);
	return true;
}

/* strongest identifier of a part, to hang an apart on */
static int
strongest_of(const Undo *u, int64 part)
{
	CdpGraph   *g = u->g;
	int			best = -1;

	for (int i = 0; i < g->nidentifiers; i++)
	{
		const GraphIdentifier *x = &g->identifiers[i];

		if (g->profiles[x->profile].after != part)
			continue;
		if (best < 0 || x->live > g->identifiers[best].live ||
			(x->live == g->identifiers[best].live && cdp_graph_is_stronger(g, i, best)))
			best = i;
	}
	return best;
}

/* Evidence after the parts are customers: revoked, not followed, and apart. */
static void
write_evidence(Undo *u, const char *reason)
{
	static SPIPlanPtr revoke = NULL;
	static SPIPlanPtr refuse = NULL;
	static SPIPlanPtr keep = NULL;
	static const Oid revoke_types[3] = {INT8ARRAYOID, TIMESTAMPTZOID, TEXTOID};
	static const Oid refuse_types[2] = {INT8ARRAYOID, INT8ARRAYOID};
	static const Oid keep_types[3] = {INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID};
	CdpGraph   *g = u->g;
	int64	   *revoked = palloc(sizeof(int64) * (g->nlinks + 1));
	int64	   *refused = palloc(sizeof(int64) * (g->nlinks + 1));
	int64	   *limited = palloc(sizeof(int64) * (g->nlinks + 1));
	int64	   *low = palloc(sizeof(int64) * (g->nlinks + 1));
	int64	   *high = palloc(sizeof(int64) * (g->nlinks + 1));
	int			nrevoked = 0;
	int			nrefused = 0;
	int			nlimited = 0;
	int			npairs = 0;
	Datum		args[3];
	char		nulls[3] = {' ', ' ', ' '};

	for (int i = 0; i < g->nlinks; i++)
	{
		GraphLink  *l = &g->links[i];
		int64		a = g->identifiers[l->a].id;
		int64		b = g->identifiers[l->b].id;

		if (l->relation != 's' || l->refusal != NULL ||
			g->profiles[g->identifiers[l->a].profile].after == g->profiles[g->identifiers[l->b].profile].after)
			continue;
		if (l->merge_id == u->merge_id)
			revoked[nrevoked++] = l->id;
		else if (l->verdict != NULL && strcmp(l->verdict, "limit") == 0)
		{
			limited[nlimited++] = l->id;
			continue;
		}
		else
			refused[nrefused++] = l->id;
		low[npairs] = Min(a, b);
		high[npairs++] = Max(a, b);
	}
	if (npairs == 0)
	{
		int			a = strongest_of(u, g->profiles[u->of_winner].after);
		int			b = strongest_of(u, g->profiles[u->of_loser].after);

		if (a >= 0 && b >= 0)
		{
			low[0] = Min(g->identifiers[a].id, g->identifiers[b].id);
			high[0] = Max(g->identifiers[a].id, g->identifiers[b].id);
			npairs = 1;
		}
	}
	args[0] = cdp_id_array(revoked, nrevoked);
	args[1] = TimestampTzGetDatum(cdp_now_value());
	args[2] = reason ? CStringGetTextDatum(reason) : (Datum) 0;
	nulls[2] = reason ? ' ' : 'n';
	cdp_plan_generic(&revoke,
					 "UPDATE cdp.identity_link SET revoked_at = $2, revoked_by = session_user, revoked_reason = $3"
					 " WHERE link_id = ANY ($1) AND revoked_at IS NULL",
					 3, revoke_types);
	if (SPI_execute_plan(revoke, args, nulls, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not revoke evidence");
	args[0] = cdp_id_array(refused, nrefused);
	args[1] = cdp_id_array(limited, nlimited);
	cdp_plan_generic(&refuse,
					 "UPDATE cdp.identity_link SET refusal = CASE WHEN link_id = ANY ($1) THEN 'kept_apart' ELSE 'limit' END"
					 " WHERE link_id = ANY ($1 || $2)", 2, refuse_types);
	if (SPI_execute_plan(refuse, args, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not refuse evidence");
	args[0] = cdp_id_array(low, npairs);
	args[1] = cdp_id_array(high, npairs);
	args[2] = TimestampTzGetDatum(cdp_now_value());
	cdp_plan_generic(&keep,
					 "INSERT INTO cdp.identity_link (identifier_a, identifier_b, relation, rule, occurred_at)"
					 " SELECT a, b, 'apart', 'manual', $3 FROM unnest($1, $2) u(a, b) ORDER BY a, b"
					 " ON CONFLICT DO NOTHING",
					 3, keep_types);
	if (SPI_execute_plan(keep, args, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not keep customers apart");
}

static int
compare_changes(const void *x, const void *y)
{
	int64		a = ((const CdpChange *) x)->profile_id;
	int64		b = ((const CdpChange *) y)->profile_id;

	return a < b ? -1 : a > b;
}

/* the profiles that leave, ascending */
static CdpChange *
list_changes(const Undo *u, const char *reason, int *n)
{
	CdpChange  *changes = palloc(sizeof(CdpChange) * u->g->nprofiles);

	*n = 0;
	for (int i = 0; i < u->g->nprofiles; i++)
	{
		GraphProfile *p = &u->g->profiles[i];

		if (p->after == u->customer)
			continue;
		changes[*n].profile_id = p->id;
		changes[*n].before = u->customer;
		changes[*n].after = p->after;
		changes[(*n)++].reason = reason;
	}
	qsort(changes, *n, sizeof(CdpChange), compare_changes);
	return changes;
}

static bool
lock_body(void *arg)
{
	Undo	   *u = arg;

	if (!cdp_lock_customers(&u->customer, 1))
		return false;
	cdp_graph_require_current(&u->customer, 1, CDP_REACH_NONE);
	return cdp_customer_of(u->profile_id, false) == u->customer && plan_undo(u, false);
}

/* cdp.unmerge_customer(profile_id, reason, merge_id) -> customer_id of the profile's side */
Datum
cdp_unmerge_customer(PG_FUNCTION_ARGS)
{
	char	   *reason = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	int64		customer;
	CdpVerb		verb;
	CdpCause	cause = {"unmerge", "unmerge", "manual", 0};
	CdpChange  *changes;
	Undo		undo = {0};
	int			n;
	int			nparts;
	int			round = 0;

	undo.profile_id = cdp_id_arg(fcinfo, 0, "profile_id");
	undo.wanted = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2);
	cdp_begin_write(&verb, "unmerge_customer");
	do
	{
		cdp_count_round(&round);
		undo.customer = cdp_existing_customer(undo.profile_id, false);
		/* without a lock first: who is merged with nobody writes nothing */
		if (!plan_undo(&undo, false))
		{
			cdp_end(&verb);
			PG_RETURN_INT64(undo.customer);
		}
		cdp_graph_free(undo.g);
	} while (!cdp_attempt(lock_body, &undo));
	changes = list_changes(&undo, reason, &n);
	cause.undoes = undo.merge_id;
	(void) cdp_apply_partition(changes, n, &cause, &nparts);
	write_evidence(&undo, reason);
	customer = undo.g->profiles[cdp_graph_profile(undo.g, undo.profile_id)].after;
	cdp_end(&verb);
	PG_RETURN_INT64(customer);
}

/* cdp.preview_unmerge(profile_id, merge_id) -> setof (profile_id, customer_before, customer_after) */
Datum
cdp_preview_unmerge(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	CdpVerb		verb;
	Undo		undo = {0};
	int			n;

	undo.profile_id = cdp_id_arg(fcinfo, 0, "profile_id");
	undo.wanted = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1);
	InitMaterializedSRF(fcinfo, 0);
	cdp_begin_read(&verb);
	undo.customer = cdp_existing_customer(undo.profile_id, true);
	if (plan_undo(&undo, true))
	{
		CdpChange  *changes = list_changes(&undo, NULL, &n);

		MemoryContextSwitchTo(caller);
		for (int i = 0; i < n; i++)
		{
			Datum		values[3];
			bool		nulls[3] = {false, false, false};

			values[0] = Int64GetDatum(changes[i].profile_id);
			values[1] = Int64GetDatum(changes[i].before);
			values[2] = Int64GetDatum(changes[i].after);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
	cdp_end(&verb);
	return (Datum) 0;
}
