/*
 * identity_graph.c
 *	  Read customers with their profiles, identifiers and evidence into
 *	  memory, level by level.
 *
 *		customers -> profiles -> identifiers -> links -> identifiers at the
 *		other ends -> their customers -> ...
 *
 * Each level is a handful of index scans over arrays, for one customer as
 * well as for the thousand of a batch.  Evidence through a generic
 * identifier leads nowhere: else a shop's tablet would load the shop.
 *
 * Tests: test/sql/identity_recheck.sql, test/pgtap/identity_recheck.sql.
 */
#include "identity_graph.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "identity_kind.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

typedef struct IdMapEntry
{
	int64		id;
	int			place;
	char		status;
} IdMapEntry;

#define SH_PREFIX idmap
#define SH_ELEMENT_TYPE IdMapEntry
#define SH_KEY_TYPE int64
#define SH_KEY id
#define SH_HASH_KEY(tb, k) murmurhash32((uint32) ((uint64) (k) ^ ((uint64) (k) >> 32)))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct CdpIdMap
{
	idmap_hash *table;
};

/* ids still to be looked up */
typedef struct IdList
{
	Datum	   *ids;
	int			n;
	int			max;
} IdList;

#define GROW(array, n, max) \
	do { \
		if ((n) == (max)) \
		{ \
			(max) = (max) > 0 ? (max) * 2 : 16; \
			(array) = (array) == NULL ? palloc(sizeof(*(array)) * (Size) (max)) : \
				repalloc_huge((array), sizeof(*(array)) * (Size) (max)); \
		} \
	} while (0)

static CdpIdMap *
new_map(void)
{
	CdpIdMap   *m = palloc(sizeof(CdpIdMap));

	m->table = idmap_create(CurrentMemoryContext, 64, NULL);
	return m;
}

static int
place_of(const CdpIdMap *m, int64 id)
{
	IdMapEntry *e = idmap_lookup(m->table, id);

	return e == NULL ? -1 : e->place;
}

/* false when it is there already */
static bool
put(CdpIdMap *m, int64 id, int place)
{
	bool		found;
	IdMapEntry *e = idmap_insert(m->table, id, &found);

	if (!found)
		e->place = place;
	return !found;
}

int
cdp_graph_profile(const CdpGraph *g, int64 profile_id)
{
	return place_of(g->profile_map, profile_id);
}

int
cdp_graph_customer(const CdpGraph *g, int64 customer_id)
{
	return place_of(g->customer_map, customer_id);
}

static void
list_add(IdList *list, int64 id)
{
	GROW(list->ids, list->n, list->max);
	list->ids[list->n++] = Int64GetDatum(id);
}

/* the answer of the last query, also when the rules of kinds have to be read meanwhile */
static SPITupleTable *rows;
static uint64 nrows;

/* run a query over the ids of a list, which is empty afterwards; false: there were none */
static bool
run(IdList *list, SPIPlanPtr *slot, const char *sql, bool read_only)
{
	static const Oid types[1] = {INT8ARRAYOID};
	Datum		args[1];

	if (list->n == 0)
		return false;
	CHECK_FOR_INTERRUPTS();
	args[0] = PointerGetDatum(construct_array(list->ids, list->n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	cdp_plan_generic(slot, sql, 1, types);
	if (SPI_execute_plan(*slot, args, NULL, read_only, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read identities");
	rows = SPI_tuptable;
	nrows = SPI_processed;
	pfree(DatumGetPointer(args[0]));
	list->n = 0;
	return true;
}

static int64
int8_column(uint64 row, int column)
{
	bool		isnull;

	return DatumGetInt64(SPI_getbinval(rows->vals[row], rows->tupdesc, column, &isnull));
}

static bool
bool_column(uint64 row, int column)
{
	bool		isnull;

	return DatumGetBool(SPI_getbinval(rows->vals[row], rows->tupdesc, column, &isnull));
}

static char *
text_column(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(rows->vals[row], rows->tupdesc, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static int
kind_of(CdpGraph *g, const char *name)
{
	const CdpKind *rule;
	GraphKind  *k;

	for (int i = 0; i < g->nkinds; i++)
	{
		if (strcmp(g->kinds[i].name, name) == 0)
			return i;
	}
	rule = cdp_find_kind(name, strlen(name));
	GROW(g->kinds, g->nkinds, g->maxkinds);
	k = &g->kinds[g->nkinds];
	k->name = pstrdup(name);
	/* a kind whose rule was deleted: the weakest, without limit */
	k->priority = rule ? rule->priority : PG_INT32_MAX;
	k->max = rule ? rule->max_per_customer : 0;
	k->window = rule ? rule->max_window : 0;
	k->own_profile = rule != NULL && rule->own_profile;
	return g->nkinds++;
}

static void
add_customer(CdpGraph *g, int64 id, IdList *fresh)
{
	GraphCustomer *c;

	if (!put(g->customer_map, id, g->ncustomers))
		return;
	GROW(g->customers, g->ncustomers, g->maxcustomers);
	c = &g->customers[g->ncustomers];
	c->id = id;
	c->component = g->ncustomers++;
	list_add(fresh, id);
}

static void
add_profile(CdpGraph *g, int64 id, int customer, IdList *fresh)
{
	GraphProfile *p;

	if (!put(g->profile_map, id, g->nprofiles))
		return;
	GROW(g->profiles, g->nprofiles, g->maxprofiles);
	p = &g->profiles[g->nprofiles++];
	p->id = id;
	p->customer = customer;
	p->home = p->set = -1;
	p->after = g->customers[customer].id;
	list_add(fresh, id);
}

static void
load_profiles(CdpGraph *g, IdList *customers, IdList *profiles, bool read_only)
{
	static SPIPlanPtr plan = NULL;

	for (int i = 0; i < customers->n; i++)
	{
		int64		id = DatumGetInt64(customers->ids[i]);

		add_profile(g, id, place_of(g->customer_map, id), profiles);
	}
	if (!run(customers, &plan, "SELECT profile_id, customer_id FROM cdp.profile_alias WHERE customer_id = ANY ($1)", read_only))
		return;
	for (uint64 i = 0; i < nrows; i++)
		add_profile(g, int8_column(i, 1), place_of(g->customer_map, int8_column(i, 2)), profiles);
	SPI_freetuptable(rows);
}

static void
load_identifiers(CdpGraph *g, IdList *profiles, IdList *identifiers, bool read_only)
{
	static SPIPlanPtr plan = NULL;

	if (!run(profiles, &plan,
			 "SELECT identifier_id, kind, value, profile_id, first_seen, last_seen, valid_to IS NULL, generic_since IS NOT NULL"
			 " FROM cdp.identifier WHERE profile_id = ANY ($1)", read_only))
		return;
	for (uint64 i = 0; i < nrows; i++)
	{
		GraphIdentifier *x;
		char	   *kind = text_column(i, 2);

		if (!put(g->identifier_map, int8_column(i, 1), g->nidentifiers))
			continue;
		GROW(g->identifiers, g->nidentifiers, g->maxidentifiers);
		x = &g->identifiers[g->nidentifiers];
		x->id = int8_column(i, 1);
		x->kind = kind_of(g, kind);
		x->value = text_column(i, 3);
		x->profile = place_of(g->profile_map, int8_column(i, 4));
		x->first_seen = int8_column(i, 5);
		x->last_seen = int8_column(i, 6);
		x->live = bool_column(i, 7);
		x->generic = bool_column(i, 8);
		x->linked = false;
		x->parent = x->next = g->nidentifiers++;
		x->size = 1;
		pfree(kind);
		list_add(identifiers, x->id);
	}
	SPI_freetuptable(rows);
}

/* Ends are places only when everything is loaded: until then ids. */
typedef struct LinkEnds
{
	int64		a;
	int64		b;
} LinkEnds;

static void
load_links(CdpGraph *g, CdpIdMap *known, LinkEnds **ends, int *maxends, IdList *identifiers, bool read_only)
{
	static SPIPlanPtr plan = NULL;

	if (!run(identifiers, &plan,
#define LINK_COLUMNS "link_id, identifier_a, identifier_b, relation, weight, overrides_limits, occurred_at, linked_at," \
			 " merge_id, rule, source, refusal"
			 "SELECT " LINK_COLUMNS " FROM cdp.identity_link"
			 " WHERE identifier_a = ANY ($1) AND revoked_at IS NULL AND refusal IS NULL"
			 " UNION ALL SELECT " LINK_COLUMNS " FROM cdp.identity_link"
			 " WHERE identifier_a = ANY ($1) AND revoked_at IS NULL AND refusal IS NOT NULL"
			 " UNION ALL SELECT " LINK_COLUMNS " FROM cdp.identity_link"
			 " WHERE identifier_b = ANY ($1) AND revoked_at IS NULL", read_only))
		return;
	for (uint64 i = 0; i < nrows; i++)
	{
		HeapTuple	tup = rows->vals[i];
		TupleDesc	desc = rows->tupdesc;
		GraphLink  *l;
		Datum		weight;
		bool		isnull;

		if (!put(known, int8_column(i, 1), g->nlinks))
			continue;
		GROW(g->links, g->nlinks, g->maxlinks);
		if (g->nlinks >= *maxends)
		{
			*maxends = Max(g->maxlinks, *maxends);
			*ends = *ends == NULL ? palloc(sizeof(LinkEnds) * (Size) *maxends) :
				repalloc_huge(*ends, sizeof(LinkEnds) * (Size) *maxends);
		}
		l = &g->links[g->nlinks];
		memset(l, 0, sizeof(GraphLink));
		l->id = int8_column(i, 1);
		(*ends)[g->nlinks].a = int8_column(i, 2);
		(*ends)[g->nlinks].b = int8_column(i, 3);
		l->relation = text_column(i, 4)[0];
		weight = SPI_getbinval(tup, desc, 5, &isnull);
		l->weighted = !isnull;
		l->weight = isnull ? 0 : DatumGetFloat8(weight);
		l->overrides = bool_column(i, 6);
		l->occurred_at = int8_column(i, 7);
		l->linked_at = int8_column(i, 8);
		weight = SPI_getbinval(tup, desc, 9, &isnull);
		l->merge_id = isnull ? 0 : DatumGetInt64(weight);
		l->rule = text_column(i, 10);
		l->source = text_column(i, 11);
		l->refusal = text_column(i, 12);
		l->verdict_kind = -1;
		g->nlinks++;
	}
	SPI_freetuptable(rows);
}

static bool
leads_on(const GraphLink *l, CdpReach reach)
{
	return l->relation == 's' && (reach == CDP_REACH_EVIDENCE || l->refusal == NULL);
}

/* customers at the far ends of the links from there on */
static void
load_neighbours(CdpGraph *g, CdpIdMap *asked, LinkEnds *ends, int from, CdpReach reach, IdList *customers, bool read_only)
{
	static SPIPlanPtr plan = NULL;
	IdList		far = {NULL, 0, 0};

	for (int i = from; i < g->nlinks; i++)
	{
		if (!leads_on(&g->links[i], reach))
			continue;
		for (int side = 0; side < 2; side++)
		{
			int64		near = side == 0 ? ends[i].a : ends[i].b;
			int64		other = side == 0 ? ends[i].b : ends[i].a;
			int			place = place_of(g->identifier_map, near);

			if (place < 0 || place_of(g->identifier_map, other) >= 0 ||
				(reach == CDP_REACH_EVIDENCE && g->identifiers[place].generic))
				continue;
			if (put(asked, other, 0))
				list_add(&far, other);
		}
	}
	if (!run(&far, &plan,
			 "SELECT i.generic_since IS NOT NULL, coalesce(a.customer_id, i.profile_id)"
			 " FROM cdp.identifier i LEFT JOIN cdp.profile_alias a ON a.profile_id = i.profile_id"
			 " WHERE i.identifier_id = ANY ($1)", read_only))
		return;
	for (uint64 i = 0; i < nrows; i++)
	{
		if (reach != CDP_REACH_EVIDENCE || !bool_column(i, 1))
			add_customer(g, int8_column(i, 2), customers);
	}
	SPI_freetuptable(rows);
}

static int
component_of(CdpGraph *g, int customer)
{
	while (g->customers[customer].component != customer)
	{
		int			up = g->customers[customer].component;

		g->customers[customer].component = g->customers[up].component;
		customer = up;
	}
	return customer;
}

/* The links that have both ends here, the stronger first; components of the customers. */
static void
settle_links(CdpGraph *g, LinkEnds *ends, CdpReach reach)
{
	int			n = 0;

	for (int i = 0; i < g->nlinks; i++)
	{
		GraphLink  *l = &g->links[i];
		int			a = place_of(g->identifier_map, ends[i].a);
		int			b = place_of(g->identifier_map, ends[i].b);
		GraphIdentifier *x,
				   *y;

		if (a < 0 || b < 0)
			continue;
		if (cdp_graph_is_stronger(g, b, a))
		{
			int			swap = a;

			a = b;
			b = swap;
		}
		l->a = a;
		l->b = b;
		x = &g->identifiers[a];
		y = &g->identifiers[b];
		if (l->relation == 's')
			x->linked = y->linked = true;
		if (leads_on(l, reach) && (reach != CDP_REACH_EVIDENCE || (!x->generic && !y->generic)))
		{
			int			c = component_of(g, g->profiles[x->profile].customer);
			int			d = component_of(g, g->profiles[y->profile].customer);

			if (g->customers[c].id < g->customers[d].id)
				g->customers[d].component = c;
			else
				g->customers[c].component = d;
		}
		g->links[n++] = *l;
	}
	g->nlinks = n;
	for (int i = 0; i < g->ncustomers; i++)
		g->customers[i].component = component_of(g, i);
}

/*
 * The identifier by which a profile is known: the strongest that is live and
 * tells something; else any that is live; else one that has evidence.
 */
static void
find_homes(CdpGraph *g)
{
	for (int i = 0; i < g->nidentifiers; i++)
	{
		GraphIdentifier *x = &g->identifiers[i];
		GraphProfile *p = &g->profiles[x->profile];
		GraphIdentifier *h = p->home < 0 ? NULL : &g->identifiers[p->home];
		int			rank = x->live ? (x->generic ? 1 : 2) * 2 : x->linked;
		int			best = h == NULL ? -1 : h->live ? (h->generic ? 1 : 2) * 2 : h->linked;

		if (rank > best || (rank == best && cdp_graph_is_stronger(g, i, p->home)))
			p->home = i;
	}
}

static int
compare_kinds(const void *x, const void *y, void *arg)
{
	const GraphKind *a = &((const GraphKind *) arg)[*(const int *) x];
	const GraphKind *b = &((const GraphKind *) arg)[*(const int *) y];

	if (a->priority != b->priority)
		return a->priority < b->priority ? -1 : 1;
	return strcmp(a->name, b->name);
}

/*
 * The strongest kind first: of several limits that are broken the same one is
 * named, in whatever order the rows were read.
 */
static void
sort_kinds(CdpGraph *g)
{
	int		   *order = palloc(sizeof(int) * Max(g->nkinds, 1));
	int		   *place = palloc(sizeof(int) * Max(g->nkinds, 1));
	GraphKind  *sorted = palloc(sizeof(GraphKind) * Max(g->nkinds, 1));

	for (int k = 0; k < g->nkinds; k++)
		order[k] = k;
	qsort_arg(order, g->nkinds, sizeof(int), compare_kinds, g->kinds);
	for (int k = 0; k < g->nkinds; k++)
	{
		sorted[k] = g->kinds[order[k]];
		place[order[k]] = k;
	}
	g->kinds = sorted;
	g->maxkinds = Max(g->nkinds, 1);
	for (int i = 0; i < g->nidentifiers; i++)
		g->identifiers[i].kind = place[g->identifiers[i].kind];
}

CdpGraph *
cdp_graph_load(const int64 *customers, int n, CdpReach reach, bool read_only)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp graph", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	CdpGraph   *g = palloc0(sizeof(CdpGraph));
	CdpIdMap   *known = new_map();
	CdpIdMap   *asked = new_map();
	LinkEnds   *ends = NULL;
	int			maxends = 0;
	IdList		fresh_customers = {NULL, 0, 0};
	IdList		fresh_profiles = {NULL, 0, 0};
	IdList		fresh_identifiers = {NULL, 0, 0};

	g->context = context;
	g->customer_map = new_map();
	g->profile_map = new_map();
	g->identifier_map = new_map();
	for (int i = 0; i < n; i++)
		add_customer(g, customers[i], &fresh_customers);
	while (fresh_customers.n > 0)
	{
		int			from = g->nlinks;

		load_profiles(g, &fresh_customers, &fresh_profiles, read_only);
		load_identifiers(g, &fresh_profiles, &fresh_identifiers, read_only);
		load_links(g, known, &ends, &maxends, &fresh_identifiers, read_only);
		if (reach != CDP_REACH_NONE)
			load_neighbours(g, asked, ends, from, reach, &fresh_customers, read_only);
	}
	sort_kinds(g);
	settle_links(g, ends, reach);
	find_homes(g);
	MemoryContextSwitchTo(caller);
	return g;
}

void
cdp_graph_free(CdpGraph *g)
{
	MemoryContextDelete(g->context);
}

static uint64
mix(uint64 a, uint64 b)
{
	a = (a + b * UINT64CONST(0x9E3779B97F4A7C15)) * UINT64CONST(0xBF58476D1CE4E5B9);
	return a ^ (a >> 31);
}

/* a sum over what a change of the partition depends on, whatever the order it was read in */
static uint64
checksum(const CdpGraph *g)
{
	uint64		sum = 0;

	for (int i = 0; i < g->nprofiles; i++)
		sum += mix(g->profiles[i].id, g->customers[g->profiles[i].customer].id);
	for (int i = 0; i < g->nidentifiers; i++)
		sum += mix(g->identifiers[i].id,
				   g->profiles[g->identifiers[i].profile].id * 4 + g->identifiers[i].live * 2 + g->identifiers[i].generic);
	for (int i = 0; i < g->nlinks; i++)
		sum += mix(g->links[i].id, g->links[i].refusal == NULL);
	return sum;
}

void
cdp_graph_require_current(const int64 *customers, int n, CdpReach reach)
{
	CdpGraph   *ours,
			   *latest;
	bool		same;

	if (!IsolationUsesXactSnapshot())
		return;
	ours = cdp_graph_load(customers, n, reach, false);
	PushActiveSnapshot(GetLatestSnapshot());
	latest = cdp_graph_load(customers, n, reach, true);
	PopActiveSnapshot();
	same = checksum(ours) == checksum(latest);
	cdp_graph_free(latest);
	cdp_graph_free(ours);
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: these customers were changed concurrently"),
				 errhint("Retry the transaction.")));
}
