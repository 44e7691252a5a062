/*
 * identity_review_foresee.c
 *	  Merges that a matching would make, one after the other: which of them
 *	  will a rule refuse?
 *
 *		max_per_customer of member_id is 2, each customer has one
 *		1 + 2	allowed, has two now
 *		3 + 4	allowed
 *		2 + 3	refused: it would have four
 *
 * The same questions as cdp_check_join() asks before each merge, but of
 * hundreds of thousands of customers in one look: what the limits count is
 * kept per customer and added up as they join.  Nothing asks for apart here:
 * guarded clusters hold no two customers that a judgement separates.
 *
 * SQL: sql/identity_review.sql.  Tests: test/sql/identity_review.sql.
 */
#include "identity_match.h"

#include "identity_graph.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* by the places of customers in the graph */
typedef struct Sides
{
	CdpGraph   *g;
	int		   *parent;
	int64	   *profiles;
	bool	   *known;			/* has an identifier to which evidence could be tied */
	int		   *counts;			/* per kind */
} Sides;

static int
root_of(Sides *s, int customer)
{
	while (s->parent[customer] != customer)
	{
		s->parent[customer] = s->parent[s->parent[customer]];
		customer = s->parent[customer];
	}
	return customer;
}

static void *
zeros(Size n, Size size)
{
	return MemoryContextAllocExtended(CurrentMemoryContext, Max(n, 1) * size, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static void
count_sides(Sides *s, CdpGraph *g)
{
	TimestampTz now = cdp_now_value();

	s->g = g;
	s->parent = zeros(g->ncustomers, sizeof(int));
	s->profiles = zeros(g->ncustomers, sizeof(int64));
	s->known = zeros(g->ncustomers, sizeof(bool));
	s->counts = zeros((Size) g->ncustomers * g->nkinds, sizeof(int));
	for (int c = 0; c < g->ncustomers; c++)
		s->parent[c] = c;
	for (int p = 0; p < g->nprofiles; p++)
		s->profiles[g->profiles[p].customer]++;
	for (int i = 0; i < g->nidentifiers; i++)
	{
		GraphIdentifier *x = &g->identifiers[i];
		int			c = g->profiles[x->profile].customer;

		s->known[c] = true;
		s->counts[(Size) c * g->nkinds + x->kind] += cdp_counts(g, x, now);
	}
}

/* a side that brings none of a kind does not make it worse */
static bool
is_refused(const Sides *s, int a, int b)
{
	const int  *x = &s->counts[(Size) a * s->g->nkinds];
	const int  *y = &s->counts[(Size) b * s->g->nkinds];

	if (s->profiles[a] + s->profiles[b] > cdp_max_profiles_per_customer)
		return true;
	for (int k = 0; k < s->g->nkinds; k++)
	{
		if (s->g->kinds[k].max > 0 && x[k] > 0 && y[k] > 0 && x[k] + y[k] > s->g->kinds[k].max)
			return true;
	}
	return false;
}

static void
join(Sides *s, int a, int b)
{
	s->parent[b] = a;
	s->profiles[a] += s->profiles[b];
	for (int k = 0; k < s->g->nkinds; k++)
		s->counts[(Size) a * s->g->nkinds + k] += s->counts[(Size) b * s->g->nkinds + k];
}

/* merges in the order in which they would be made; sets refused.  Called inside SPI, reads only. */
void
match_foresee_refusals(MatchMerge *merges, int64 n)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller, "customer_cdp foreseen merges", ALLOCSET_DEFAULT_SIZES);
	int64	   *ids;
	Sides		s;

	if (n > PG_INT32_MAX / 2)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than %d pairs to merge", PG_INT32_MAX / 2),
				 errhint("Raise auto_threshold.")));
	MemoryContextSwitchTo(context);
	ids = MemoryContextAllocHuge(context, Max(n, 1) * 2 * sizeof(int64));
	for (int64 i = 0; i < n; i++)
	{
		ids[i * 2] = merges[i].a;
		ids[i * 2 + 1] = merges[i].b;
	}
	count_sides(&s, cdp_graph_load(ids, (int) (n * 2), CDP_REACH_NONE, true));
	for (int64 i = 0; i < n; i++)
	{
		int			x = cdp_graph_customer(s.g, merges[i].a);
		int			y = cdp_graph_customer(s.g, merges[i].b);
		int			a = root_of(&s, x);
		int			b = root_of(&s, y);

		if ((i & 0xFFF) == 0)
			CHECK_FOR_INTERRUPTS();
		merges[i].refused = !s.known[x] || !s.known[y] || (a != b && is_refused(&s, a, b));
		if (a != b && !merges[i].refused)
			join(&s, a, b);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}
