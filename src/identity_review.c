/*
 * identity_review.c
 *	  Matching over the customers themselves: what is sure is merged, what is
 *	  doubtful waits for a person, who is asked once.
 *
 *		match_model --as its owner--> scored pairs of customers
 *			less what was decided, by a person or by evidence
 *			p >= auto, and the guarded clusters agree	-> auto		one customer
 *			p >= review									-> review	match_candidate
 *
 * The texts of a model run as the role that wrote them, in a security
 * restricted operation, and only for callers who have that role's
 * privileges; everything after that is done as the owner of the tables.
 * Blocking rules are those of the row: what stands in fitted is numbers.
 *
 * Only telling says what doing would: which merges a limit forbids is worked
 * out in identity_review_foresee.c.
 *
 * Clusters come from cdp.cluster_pairs(), which takes a query; its pairs lie
 * here, in edges, while the verb runs.
 *
 * SQL: sql/identity_review.sql.  Tests: test/sql/identity_review.sql.
 * Page: doc/identity_review.md.
 */
#include "identity_match.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "user_query.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_match_profiles);
PG_FUNCTION_INFO_V1(cdp_match_edges);
PG_FUNCTION_INFO_V1(cdp_check_match_model);

/* a pair that scores lower is evidence against a cluster, as in cdp.cluster_pairs() */
#define REJECT			0.05
#define MIN_DENSITY		0.5

#define MODEL_HINT		"INSERT INTO cdp.match_model (name, comparisons, blocking) makes one; SELECT name FROM cdp.match_model lists them."

/* two customers, a < b */
typedef struct Edge
{
	int64		a;
	int64		b;
	double		weight;
	double		probability;
	ArrayType  *levels;			/* NULL: not scored, only decided */
	bool		decided;		/* never to be proposed again */
	const char *zone;
} Edge;

typedef struct Edges
{
	Edge	   *edge;
	int64		n;
	int64		room;
} Edges;

/* what cdp._match_edges() answers, while cdp.match_profiles() asks for clusters */
static Edges *feed = NULL;

static void
add_edge(Edges *edges, int64 x, int64 y, double weight, double probability, ArrayType *levels, bool decided)
{
	Edge	   *edge;

	if (x == y)
		return;
	if (edges->n == edges->room)
	{
		edges->room = Max(edges->room * 2, 1024);
		edges->edge = edges->edge == NULL ? palloc(edges->room * sizeof(Edge)) :
			repalloc_huge(edges->edge, edges->room * sizeof(Edge));
	}
	edge = &edges->edge[edges->n++];
	edge->a = Min(x, y);
	edge->b = Max(x, y);
	edge->weight = weight;
	edge->probability = probability;
	edge->levels = levels;
	edge->decided = decided;
	edge->zone = NULL;
}

/* by pair; of one pair what was decided first, then the likeliest */
static int
edge_cmp(const void *x, const void *y)
{
	const Edge *p = x;
	const Edge *q = y;

	if (p->a != q->a)
		return p->a < q->a ? -1 : 1;
	if (p->b != q->b)
		return p->b < q->b ? -1 : 1;
	if (p->decided != q->decided)
		return p->decided ? -1 : 1;
	if (p->probability != q->probability)
		return p->probability > q->probability ? -1 : 1;
	return 0;
}

/* likeliest first */
static int
output_cmp(const void *x, const void *y)
{
	const Edge *p = x;
	const Edge *q = y;

	if (p->weight != q->weight)
		return p->weight > q->weight ? -1 : 1;
	return edge_cmp(x, y);
}

static void
unique_edges(Edges *edges)
{
	int64		to = 0;

	qsort(edges->edge, edges->n, sizeof(Edge), edge_cmp);
	for (int64 i = 0; i < edges->n; i++)
	{
		if (to == 0 || edges->edge[to - 1].a != edges->edge[i].a || edges->edge[to - 1].b != edges->edge[i].b)
			edges->edge[to++] = edges->edge[i];
	}
	edges->n = to;
}

/* --- the model --- */

typedef struct StoredModel
{
	const char *name;
	Oid			owner;
	const char *records;
	MatchModel *model;
	bool		fit;			/* it has not been fitted yet */
} StoredModel;

static StoredModel *
read_stored_model(const char *name, Oid caller)
{
	MemoryContext context = CurrentMemoryContext;
	StoredModel *stored = palloc0(sizeof(StoredModel));
	Oid			types[] = {TEXTOID};
	Datum		args[] = {CStringGetTextDatum(name)};
	HeapTuple	tup;
	TupleDesc	desc;
	bool		isnull;
	Datum		fitted;
	Datum		comparisons,
				blocking,
				options;
	char	   *owner;

	if (SPI_execute_with_args("SELECT m.owner::text, m.records, m.comparisons, m.blocking, m.options, m.fitted FROM cdp.match_model m WHERE m.name = $1",
							  1, types, args, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "cannot read cdp.match_model");
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no match model of that name"),
				 errhint(MODEL_HINT)));
	tup = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	owner = SPI_getvalue(tup, desc, 1);
	stored->owner = get_role_oid(owner, false);
	if (!has_privs_of_role(caller, stored->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("match model \"%s\" runs as role %s, whose privileges you do not have", name, owner),
				 errhint("Let a member of that role call, or write its records and rules anew, so that they are yours.")));
	/* everything of the row outlives this query */
	comparisons = SPI_getbinval(tup, desc, 3, &isnull);
	blocking = SPI_getbinval(tup, desc, 4, &isnull);
	options = SPI_getbinval(tup, desc, 5, &isnull);
	fitted = SPI_getbinval(tup, desc, 6, &isnull);
	MemoryContextSwitchTo(context);
	stored->name = pstrdup(name);
	stored->records = SPI_getvalue(tup, desc, 2);
	stored->records = pstrdup(stored->records);
	stored->fit = isnull;
	stored->model = isnull ?
		match_new_model((Jsonb *) PG_DETOAST_DATUM_COPY(comparisons), (Jsonb *) PG_DETOAST_DATUM_COPY(options)) :
		match_read_model((Jsonb *) PG_DETOAST_DATUM_COPY(fitted));
	match_set_rules(stored->model, (ArrayType *) PG_DETOAST_DATUM_COPY(blocking));
	return stored;
}

/* score as the owner of the model */
static MatchWork *
run_stored_model(StoredModel *stored)
{
	MatchWork  *work;
	CdpActor	before;

	cdp_become(&before, stored->owner);
	work = match_run(stored->records, stored->model, stored->fit);
	cdp_return(&before);
	return work;
}

/* --- from records to customers --- */

/* the current customer of each wanted record; 22023 when one is no customer's */
static void
find_customers(const MatchWork *work, const bool *wanted, int64 *customers)
{
	MemoryContext context = CurrentMemoryContext;
	int			n = work->records->n;
	int			nwanted = 0;
	Datum	   *ids = MemoryContextAllocHuge(context, Max(n, 1) * sizeof(Datum));
	Oid			types[] = {INT8ARRAYOID};
	Datum		args[1];
	int			k = 0;

	for (int i = 0; i < n; i++)
	{
		if (wanted[i])
			ids[nwanted++] = Int64GetDatum(work->records->ids[i]);
	}
	args[0] = PointerGetDatum(construct_array(ids, nwanted, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	if (SPI_execute_with_args("SELECT cdp.customer_id(u.id), EXISTS (SELECT FROM cdp.profile p WHERE p.profile_id = u.id)"
							  " FROM pg_catalog.unnest($1) WITH ORDINALITY u(id, n) ORDER BY u.n",
							  1, types, args, NULL, true, 0) != SPI_OK_SELECT || SPI_processed != (uint64) nwanted)
		elog(ERROR, "cannot read customers");
	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		if (!wanted[i])
			continue;
		if (!DatumGetBool(SPI_getbinval(SPI_tuptable->vals[k], SPI_tuptable->tupdesc, 2, &isnull)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("records of the match model return an id that is no customer"),
					 errhint("The ids are customer_id of cdp.customer; cdp.score_pairs() compares what is not in the CDP yet.")));
		customers[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[k++], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	MemoryContextSwitchTo(context);
	pfree(ids);
}

/* pairs of customers about whom somebody, or some evidence, has said something already */
static void
add_decided(Edges *edges)
{
	MemoryContext context = CurrentMemoryContext;
	SPITupleTable *table;
	uint64		n;

	if (SPI_execute("SELECT d.left_id, d.right_id FROM cdp._match_decided d", true, 0) != SPI_OK_SELECT)
		elog(ERROR, "cannot read decisions");
	table = SPI_tuptable;
	n = SPI_processed;
	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		add_edge(edges, DatumGetInt64(SPI_getbinval(table->vals[i], table->tupdesc, 1, &isnull)),
				 DatumGetInt64(SPI_getbinval(table->vals[i], table->tupdesc, 2, &isnull)), 0, 0, NULL, true);
	}
	SPI_freetuptable(table);
}

/* Everything a zone or a cluster depends on. */
static Edges *
collect_edges(const MatchModel *model, const MatchWork *work, double auto_threshold, double review_threshold)
{
	Edges	   *edges = palloc0(sizeof(Edges));
	MatchScorer *scorer = match_new_scorer(model, work->records);
	int			n = work->records->n;
	bool	   *wanted = MemoryContextAllocExtended(CurrentMemoryContext, Max(n, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	int64	   *customers = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(int64));
	double		floor = Min(auto_threshold, review_threshold);

	for (int pass = 0; pass < 2; pass++)
	{
		for (int64 i = 0; i < work->pairs->n; i++)
		{
			int			left = MATCH_LEFT(work->pairs->pairs[i]);
			int			right = MATCH_RIGHT(work->pairs->pairs[i]);
			double		weight;
			double		probability;
			ArrayType  *levels;

			if ((i & 0xFFF) == 0)
				CHECK_FOR_INTERRUPTS();
			match_score_pair(scorer, work->patterns[i], left, &weight, &probability, &levels);
			if (pass == 0 && probability >= floor)
				wanted[left] = wanted[right] = true;
			/* a low score counts where it stands in the way of a cluster */
			if (pass == 1 && wanted[left] && wanted[right])
				add_edge(edges, customers[left], customers[right], weight, probability, levels, false);
		}
		if (pass == 0)
			find_customers(work, wanted, customers);
	}
	add_decided(edges);
	unique_edges(edges);
	pfree(wanted);
	pfree(customers);
	return edges;
}

/* --- zones --- */

typedef struct Member
{
	int64		node;
	int64		component;
} Member;

static int
member_cmp(const void *x, const void *y)
{
	const Member *p = x;
	const Member *q = y;

	return p->node < q->node ? -1 : p->node > q->node;
}

static int64
component_of(const Member *members, uint64 n, int64 node)
{
	Member		key = {node, 0};
	const Member *found = bsearch(&key, members, n, sizeof(Member), member_cmp);

	return found ? found->component : node;
}

static Member *
find_clusters(Edges *edges, double auto_threshold, uint64 *nmembers)
{
	MemoryContext context = CurrentMemoryContext;
	Oid			types[] = {FLOAT8OID, FLOAT8OID, FLOAT8OID};
	Datum		args[] = {Float8GetDatum(auto_threshold), Float8GetDatum(Min(REJECT, auto_threshold)), Float8GetDatum(MIN_DENSITY)};
	Member	   *members;
	bool		isnull;

	feed = edges;
	PG_TRY();
	{
		if (SPI_execute_with_args("SELECT c.node, c.component FROM cdp.cluster_pairs("
								  "'SELECT e.left_id, e.right_id, e.probability FROM cdp._match_edges() e', $1, $2, $3) c",
								  3, types, args, NULL, true, 0) != SPI_OK_SELECT)
			elog(ERROR, "cannot make clusters");
	}
	PG_FINALLY();
	{
		feed = NULL;
	}
	PG_END_TRY();
	*nmembers = SPI_processed;
	members = MemoryContextAllocHuge(context, Max(*nmembers, 1) * sizeof(Member));
	for (uint64 i = 0; i < *nmembers; i++)
	{
		members[i].node = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		members[i].component = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	MemoryContextSwitchTo(context);
	qsort(members, *nmembers, sizeof(Member), member_cmp);
	return members;
}

typedef struct Apart
{
	int64		a;
	int64		b;
} Apart;

static int
apart_cmp(const void *x, const void *y)
{
	const Apart *p = x;
	const Apart *q = y;

	if (p->a != q->a)
		return p->a < q->a ? -1 : 1;
	return p->b < q->b ? -1 : p->b > q->b;
}

/* the clusters of the two, as they will be called */
static Apart
clusters_of(const Member *members, uint64 n, const Edge *edge)
{
	int64		x = component_of(members, n, edge->a);
	int64		y = component_of(members, n, edge->b);

	return (Apart) {Min(x, y), Max(x, y)};
}

/* leaves only what has a zone, likeliest first */
static void
set_zones(Edges *edges, double auto_threshold, double review_threshold)
{
	uint64		nmembers;
	Member	   *members = find_clusters(edges, auto_threshold, &nmembers);
	Apart	   *aparts = MemoryContextAllocHuge(CurrentMemoryContext, Max(edges->n, 1) * sizeof(Apart));
	int64		naparts = 0;
	int64		to = 0;

	for (int64 i = 0; i < edges->n; i++)
	{
		if (edges->edge[i].decided)
			aparts[naparts++] = clusters_of(members, nmembers, &edges->edge[i]);
	}
	qsort(aparts, naparts, sizeof(Apart), apart_cmp);
	for (int64 i = 0; i < edges->n; i++)
	{
		Edge	   *edge = &edges->edge[i];
		Apart		clusters;

		if (edge->decided || edge->probability < review_threshold)
			continue;
		clusters = clusters_of(members, nmembers, edge);
		if (clusters.a == clusters.b)
		{
			/* what is less sure is answered by the surer pairs around it */
			if (edge->probability < auto_threshold)
				continue;
			edge->zone = "auto";
		}
		/* nor is anybody asked about clusters of which two were decided */
		else if (bsearch(&clusters, aparts, naparts, sizeof(Apart), apart_cmp) == NULL)
			edge->zone = "review";
		else
			continue;
		edges->edge[to++] = *edge;
	}
	edges->n = to;
	qsort(edges->edge, edges->n, sizeof(Edge), output_cmp);
	pfree(members);
	pfree(aparts);
}

/* cdp._match_edges() -> setof (left_id, right_id, probability) */
Datum
cdp_match_edges(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	if (feed == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cdp._match_edges() is for cdp.match_profiles()"),
				 errhint("cdp.score_pairs() gives the scored pairs of any records.")));
	for (int64 i = 0; i < feed->n; i++)
	{
		Datum		values[3];
		bool		nulls[3] = {false};

		values[0] = Int64GetDatum(feed->edge[i].a);
		values[1] = Int64GetDatum(feed->edge[i].b);
		/* whatever they score, decided ones do not belong together */
		values[2] = Float8GetDatum(feed->edge[i].decided ? 0 : feed->edge[i].probability);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* --- the verb --- */

static void
check_threshold(double value, const char *name)
{
	if (!(value >= 0 && value <= 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be between 0 and 1", name),
				 errhint("A threshold is a probability: 0.99 for what needs no look, 0.5 for what deserves one.")));
}

/* write through SQL; an auto pair that a limit forbids comes back as review */
static void
write_zones(StoredModel *stored, Edges *edges)
{
	MemoryContext context = CurrentMemoryContext;
	Oid			types[] = {TEXTOID, JSONBOID, INT8ARRAYOID, INT8ARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	Datum		args[8];
	Datum	   *columns[6];
	Oid			levels_out;
	bool		varlena;

	getTypeOutputInfo(INT2ARRAYOID, &levels_out, &varlena);
	for (int c = 0; c < 6; c++)
		columns[c] = MemoryContextAllocHuge(context, Max(edges->n, 1) * sizeof(Datum));
	for (int64 i = 0; i < edges->n; i++)
	{
		Edge	   *edge = &edges->edge[i];

		columns[0][i] = Int64GetDatum(edge->a);
		columns[1][i] = Int64GetDatum(edge->b);
		columns[2][i] = Float8GetDatum(edge->weight);
		columns[3][i] = Float8GetDatum(edge->probability);
		columns[4][i] = CStringGetTextDatum(OidOutputFunctionCall(levels_out, PointerGetDatum(edge->levels)));
		columns[5][i] = CStringGetTextDatum(edge->zone);
	}
	args[0] = CStringGetTextDatum(stored->name);
	args[1] = JsonbPGetDatum(match_write_model(stored->model));
	for (int c = 0; c < 2; c++)
		args[2 + c] = PointerGetDatum(construct_array(columns[c], edges->n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	for (int c = 2; c < 4; c++)
		args[2 + c] = PointerGetDatum(construct_array(columns[c], edges->n, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	for (int c = 4; c < 6; c++)
		args[2 + c] = PointerGetDatum(construct_array(columns[c], edges->n, TEXTOID, -1, false, TYPALIGN_INT));
	if (SPI_execute_with_args("SELECT w.ord FROM cdp._match_write($1, $2, $3, $4, $5, $6, $7::pg_catalog.text[], $8) w",
							  8, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "cannot write matches");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		int64		ord = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		edges->edge[ord - 1].zone = "review";
	}
	MemoryContextSwitchTo(context);
}

/* what write_zones would find refused */
static void
foresee_refusals(Edges *edges)
{
	MatchMerge *merges = MemoryContextAllocHuge(CurrentMemoryContext, Max(edges->n, 1) * sizeof(MatchMerge));
	int64		n = 0;

	for (int64 i = 0; i < edges->n; i++)
	{
		if (strcmp(edges->edge[i].zone, "auto") == 0)
			merges[n++] = (MatchMerge) {edges->edge[i].a, edges->edge[i].b, i, false};
	}
	match_foresee_refusals(merges, n);
	for (int64 i = 0; i < n; i++)
	{
		if (merges[i].refused)
			edges->edge[merges[i].ord].zone = "review";
	}
	pfree(merges);
}

/*
 * cdp.match_profiles(model text, auto_threshold float8, review_threshold float8, dry_run boolean)
 *	-> setof (left_id, right_id, probability, zone)
 */
Datum
cdp_match_profiles(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"model", "auto_threshold", "review_threshold", "dry_run"};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext context = CurrentMemoryContext;
	Oid			caller = GetUserId();
	double		auto_threshold,
				review_threshold;
	CdpVerb		verb;
	StoredModel *stored;
	MatchWork  *work;
	Edges	   *edges;

	for (int i = 0; i < lengthof(names); i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not be NULL", names[i]),
					 errhint("Leave it out for its default; a model is a row of cdp.match_model.")));
	}
	auto_threshold = PG_GETARG_FLOAT8(1);
	review_threshold = PG_GETARG_FLOAT8(2);
	check_threshold(auto_threshold, "auto_threshold");
	check_threshold(review_threshold, "review_threshold");
	if (review_threshold > auto_threshold)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("review_threshold must not be above auto_threshold"),
				 errhint("Pairs between the two are for a person to decide.")));
	InitMaterializedSRF(fcinfo, 0);
	if (PG_GETARG_BOOL(3))
		cdp_begin_read(&verb);
	else
		cdp_begin_write(&verb, "match_profiles");
	MemoryContextSwitchTo(context);
	stored = read_stored_model(text_to_cstring(PG_GETARG_TEXT_PP(0)), caller);
	work = run_stored_model(stored);
	edges = collect_edges(stored->model, work, auto_threshold, review_threshold);
	set_zones(edges, auto_threshold, review_threshold);
	if (PG_GETARG_BOOL(3))
		foresee_refusals(edges);
	else
		write_zones(stored, edges);
	cdp_end(&verb);
	MemoryContextSwitchTo(context);
	for (int64 i = 0; i < edges->n; i++)
	{
		Datum		values[4];
		bool		nulls[4] = {false};

		values[0] = Int64GetDatum(edges->edge[i].a);
		values[1] = Int64GetDatum(edges->edge[i].b);
		values[2] = Float8GetDatum(edges->edge[i].probability);
		values[3] = CStringGetTextDatum(edges->edge[i].zone);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* cdp._check_match_model(comparisons, blocking, options): what can be said of a model before it runs */
Datum
cdp_check_match_model(PG_FUNCTION_ARGS)
{
	MatchModel *model = match_new_model(PG_GETARG_JSONB_P(0), PG_GETARG_JSONB_P(2));

	match_set_rules(model, PG_GETARG_ARRAYTYPE_P(1));
	for (int i = 0; i < model->nrules; i++)
		match_check_rule_text(&model->rules[i]);
	PG_RETURN_VOID();
}
