/*
 * identity_explain.c
 *	  Why are these two one customer?  A shortest path over the evidence.
 *
 * Nodes are profiles, edges the links that are followed.  The breadth-first
 * search begins at the end, so that the walk from the start can choose, of
 * all links that come nearer, the one with the smallest id: the same answer
 * every time.
 *
 * SQL: sql/identity_explain.sql.  Page: doc/identity_explain.md.
 * Tests: test/sql/identity_explain.sql.
 */
#include "identity_graph.h"

#include "funcapi.h"
#include "identity_step.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(cdp_explain_identity);

static bool
holds(const GraphLink *l)
{
	return l->relation == 's' && l->refusal == NULL;
}

/* profile at one end of a link */
static int
end_of(const CdpGraph *g, int link, int side)
{
	return g->identifiers[side == 0 ? g->links[link].a : g->links[link].b].profile;
}

static int
compare_ids(const void *p, const void *q, void *arg)
{
	const CdpGraph *g = arg;
	int64		a = g->links[*(const int *) p].id;
	int64		b = g->links[*(const int *) q].id;

	return a < b ? -1 : a > b;
}

/* incident links of every profile, ascending by id: list[start[p] .. start[p + 1]) */
static int *
adjacency(CdpGraph *g, int *start)
{
	int		   *list = palloc(sizeof(int) * (2 * (Size) g->nlinks + 1));
	int		   *order = palloc(sizeof(int) * (g->nlinks + 1));
	int			n = 0;

	for (int i = 0; i < g->nlinks; i++)
	{
		if (holds(&g->links[i]) && end_of(g, i, 0) != end_of(g, i, 1))
			order[n++] = i;
	}
	qsort_arg(order, n, sizeof(int), compare_ids, g);
	memset(start, 0, sizeof(int) * (g->nprofiles + 2));
	for (int i = 0; i < n; i++)
	{
		start[end_of(g, order[i], 0) + 2]++;
		start[end_of(g, order[i], 1) + 2]++;
	}
	for (int p = 2; p <= g->nprofiles + 1; p++)
		start[p] += start[p - 1];
	for (int i = 0; i < n; i++)
	{
		list[start[end_of(g, order[i], 0) + 1]++] = order[i];
		list[start[end_of(g, order[i], 1) + 1]++] = order[i];
	}
	return list;
}

static void
append_moment(StringInfo json, TimestampTz at)
{
	char		buf[MAXDATELEN + 1];

	JsonEncodeDateTime(buf, TimestampTzGetDatum(at), TIMESTAMPTZOID, NULL);
	appendStringInfo(json, "\"%s\"", buf);
}

static void
append_pair(StringInfo json, const char *key, const char *a, const char *b)
{
	appendStringInfo(json, "\"%s\": [", key);
	escape_json(json, a);
	appendStringInfoString(json, ", ");
	escape_json(json, b);
	appendStringInfoChar(json, ']');
}

/* kinds of the two identifiers, the one of the step's start first; values for those who may see them */
static char *
evidence_of(const CdpGraph *g, const GraphLink *l, int from, bool values)
{
	const GraphIdentifier *a = &g->identifiers[l->a];
	const GraphIdentifier *b = &g->identifiers[l->b];
	StringInfoData json;

	if (a->profile != from)
	{
		const GraphIdentifier *swap = a;

		a = b;
		b = swap;
	}
	initStringInfo(&json);
	appendStringInfo(&json, "{\"link_id\": " INT64_FORMAT ", ", l->id);
	append_pair(&json, "kinds", g->kinds[a->kind].name, g->kinds[b->kind].name);
	if (values)
	{
		appendStringInfoString(&json, ", ");
		append_pair(&json, "values", a->value, b->value);
	}
	if (l->source != NULL)
	{
		appendStringInfoString(&json, ", \"source\": ");
		escape_json(&json, l->source);
	}
	appendStringInfoString(&json, ", \"occurred_at\": ");
	append_moment(&json, l->occurred_at);
	if (l->weighted)
		appendStringInfo(&json, ", \"weight\": %g", l->weight);
	appendStringInfoChar(&json, '}');
	return json.data;
}

/* of a profile alone: what it is known by */
static char *
kinds_of(const CdpGraph *g, int profile)
{
	StringInfoData json;
	const char *comma = "";

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"kinds\": [");
	for (int k = 0; k < g->nkinds; k++)
	{
		bool		has = false;

		for (int i = 0; i < g->nidentifiers && !has; i++)
			has = g->identifiers[i].kind == k && g->identifiers[i].profile == profile;
		if (!has)
			continue;
		appendStringInfoString(&json, comma);
		escape_json(&json, g->kinds[k].name);
		comma = ", ";
	}
	appendStringInfoString(&json, "]}");
	return json.data;
}

/* cdp.explain_identity(a, b) -> setof (step, from_profile, to_profile, rule, evidence, linked_at) */
Datum
cdp_explain_identity(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	int64		ids[2] = {PG_GETARG_INT64(0), PG_GETARG_INT64(1)};
	/* the caller's right, before his identity is put aside */
	bool		values = pg_class_aclcheck(cdp_relation("identifier"), GetUserId(), ACL_SELECT) == ACLCHECK_OK;
	Datum		row[6];
	bool		nulls[6] = {false, false, false, false, false, false};
	CdpVerb		verb;
	CdpGraph   *g;
	int64		customer;
	int		   *start,
			   *list,
			   *distance,
			   *queue;
	int			at,
				goal;
	int			head = 0;
	int			tail = 0;

	InitMaterializedSRF(fcinfo, 0);
	cdp_begin_read(&verb);
	customer = cdp_customer_of(ids[0], true);
	if (customer == 0 || customer != cdp_customer_of(ids[1], true))
	{
		cdp_end(&verb);
		return (Datum) 0;
	}
	g = cdp_graph_load(&customer, 1, CDP_REACH_NONE, true);
	at = cdp_graph_profile(g, ids[0]);
	goal = cdp_graph_profile(g, ids[1]);
	if (at == goal)
	{
		char	   *evidence = kinds_of(g, at);

		row[0] = Int32GetDatum(0);
		row[1] = row[2] = Int64GetDatum(ids[0]);
		MemoryContextSwitchTo(caller);
		row[3] = CStringGetTextDatum("same profile");
		row[4] = DirectFunctionCall1(jsonb_in, CStringGetDatum(evidence));
		nulls[5] = true;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row, nulls);
		cdp_end(&verb);
		return (Datum) 0;
	}
	start = palloc(sizeof(int) * (g->nprofiles + 2));
	list = adjacency(g, start);
	distance = palloc(sizeof(int) * g->nprofiles);
	queue = palloc(sizeof(int) * g->nprofiles);
	for (int i = 0; i < g->nprofiles; i++)
		distance[i] = -1;
	distance[goal] = 0;
	queue[tail++] = goal;
	while (head < tail)
	{
		int			p = queue[head++];

		CHECK_FOR_INTERRUPTS();
		for (int e = start[p]; e < start[p + 1]; e++)
		{
			int			q = end_of(g, list[e], 0) == p ? end_of(g, list[e], 1) : end_of(g, list[e], 0);

			if (distance[q] >= 0)
				continue;
			distance[q] = distance[p] + 1;
			queue[tail++] = q;
		}
	}
	for (int step = 1; at != goal && distance[at] > 0; step++)
	{
		for (int e = start[at]; e < start[at + 1]; e++)
		{
			const GraphLink *l = &g->links[list[e]];
			int			q = end_of(g, list[e], 0) == at ? end_of(g, list[e], 1) : end_of(g, list[e], 0);
			char	   *evidence;
			MemoryContext old;

			if (distance[q] != distance[at] - 1)
				continue;
			evidence = evidence_of(g, l, at, values);
			old = MemoryContextSwitchTo(caller);
			row[0] = Int32GetDatum(step);
			row[1] = Int64GetDatum(g->profiles[at].id);
			row[2] = Int64GetDatum(g->profiles[q].id);
			row[3] = CStringGetTextDatum(l->rule);
			row[4] = DirectFunctionCall1(jsonb_in, CStringGetDatum(evidence));
			row[5] = TimestampTzGetDatum(l->linked_at);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row, nulls);
			MemoryContextSwitchTo(old);
			at = q;
			break;
		}
	}
	cdp_end(&verb);
	return (Datum) 0;
}
