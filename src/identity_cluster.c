/*
 * identity_cluster.c
 *	  cdp.cluster_pairs(): sets of records out of scored pairs, without the
 *	  chains that plain closure makes.
 *
 * If a is like b and b like c, closure says that a is c, and a few wrong
 * pairs join thousands.  Here pairs are taken in falling probability, and two
 * clusters become one only if the result is still sound:
 *
 *		rejected	no pair between them was scored below reject
 *		support		of all pairs of its members, at least min_density were
 *					scored at or above threshold
 *
 *		1-2-3-4-5, each 0.95, min_density 0.5
 *		{1,2} 1/1, {1,2,3} 2/3, {1,2,3,4} 3/6, with 5 it would be 4/10: refused
 *
 * A pair that was not given is no support; it is no objection either.
 *
 * To judge a merge in one look, every two clusters with a pair between them
 * have an entry in a hash table: how many supporting pairs, and whether one
 * is rejected.  When clusters merge, the entries of the one with fewer
 * neighbours move to the other, so an entry moves log n times at most.  A
 * cluster finds its neighbours by a list of nodes, each of which stands for
 * the cluster it is in now.
 *
 * SQL: sql/identity_components.sql.  Page: doc/identity_components.md.
 * Tests: test/sql/identity_components_cluster.sql, test/pgtap/identity_components.sql.
 */
#include "identity_components.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "port/pg_bitutils.h"
#include "user_query.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/fmgrprotos.h"

PG_FUNCTION_INFO_V1(cdp_cluster_pairs);

#define FIRST_ROOM	1024

#define PAIRS_HINT	"pairs is one SELECT that returns left_id, right_id (integers) and probability (0 to 1), as cdp.score_pairs() does."

/* a pair of nodes, by index; the id of lo is the smaller one */
typedef struct Pair
{
	uint32		lo;
	uint32		hi;
	double		p;
} Pair;

/* what lies between two clusters */
typedef struct Between
{
	uint64		key;			/* both names, the smaller one in the upper half */
	uint32		support;		/* pairs at or above the threshold */
	bool		rejected;		/* a pair below reject */
	char		status;			/* of the hash table */
} Between;

#define SH_PREFIX between
#define SH_ELEMENT_TYPE Between
#define SH_KEY_TYPE uint64
#define SH_KEY key
#define SH_HASH_KEY(tb, key) hash_combine(murmurhash32((uint32) ((key) >> 32)), murmurhash32((uint32) (key)))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* one neighbour of a cluster: the cluster in which node is now */
typedef struct Cell
{
	uint32		node;
	uint32		next;			/* index of a cell + 1, 0 at the end */
} Cell;

/* what is kept per node; a cluster is named by one of its nodes, whose entries hold for it */
typedef struct Cluster
{
	uint32		name;			/* at the root of the forest: which node names the cluster */
	uint32		size;			/* nodes */
	uint64		inside;			/* supporting pairs among them */
	uint32		cells;			/* index of its first cell + 1 */
	uint32		ncells;
} Cluster;

typedef struct Clusters
{
	DestReceiver pub;
	CdpNodes   *nodes;
	Oid			types[3];
	MemoryContext row_context;	/* what a numeric leaves behind */
	Pair	   *pairs;
	Size		npairs;
	Size		room;
	double		threshold;
	double		reject;
	double		min_density;
	Cluster    *cluster;
	Cell	   *cells;
	struct between_hash *between;
} Clusters;

static inline int
pair_cmp(const Pair *a, const Pair *b)
{
	if (a->lo != b->lo)
		return a->lo < b->lo ? -1 : 1;
	if (a->hi != b->hi)
		return a->hi < b->hi ? -1 : 1;
	return a->p < b->p ? -1 : a->p > b->p;
}

static inline int64
id_of(const CdpNodes *nodes, uint32 i)
{
	return nodes->node[i].id;
}

/* falling probability; ids decide between equals, so that the order of the rows does not */
static inline int
strength_cmp(const Pair *a, const Pair *b, CdpNodes *nodes)
{
	if (a->p != b->p)
		return a->p > b->p ? -1 : 1;
	if (a->lo != b->lo)
		return id_of(nodes, a->lo) < id_of(nodes, b->lo) ? -1 : 1;
	return id_of(nodes, a->hi) < id_of(nodes, b->hi) ? -1 : id_of(nodes, a->hi) > id_of(nodes, b->hi);
}

#define ST_SORT sort_pairs
#define ST_ELEMENT_TYPE Pair
#define ST_COMPARE(a, b) pair_cmp(a, b)
#define ST_SCOPE static
#define ST_CHECK_FOR_INTERRUPTS
#define ST_DEFINE
#include "lib/sort_template.h"

#define ST_SORT sort_by_strength
#define ST_ELEMENT_TYPE Pair
#define ST_COMPARE(a, b, nodes) strength_cmp(a, b, nodes)
#define ST_COMPARE_ARG_TYPE CdpNodes
#define ST_SCOPE static
#define ST_CHECK_FOR_INTERRUPTS
#define ST_DEFINE
#include "lib/sort_template.h"

static int64
id_value(Datum value, Oid type)
{
	switch (type)
	{
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return DatumGetInt32(value);
		default:
			return DatumGetInt64(value);
	}
}

static double
probability_value(Datum value, Oid type)
{
	switch (type)
	{
		case FLOAT4OID:
			return DatumGetFloat4(value);
		case FLOAT8OID:
			return DatumGetFloat8(value);
		case NUMERICOID:
			return DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, value));
		default:
			return id_value(value, type);
	}
}

static bool
receive_pair(TupleTableSlot *slot, DestReceiver *self)
{
	Clusters   *c = (Clusters *) self;
	CdpNodes   *nodes = c->nodes;
	MemoryContext old;
	uint32		a,
				b;
	double		p;

	slot_getallattrs(slot);
	if (slot->tts_isnull[0] || slot->tts_isnull[1] || slot->tts_isnull[2])
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s of a pair is NULL", slot->tts_isnull[2] ? "the probability" : "an id"),
				 errhint("%s Leave such rows out with WHERE.", PAIRS_HINT)));
	old = MemoryContextSwitchTo(c->row_context);
	p = probability_value(slot->tts_values[2], c->types[2]);
	MemoryContextSwitchTo(old);
	MemoryContextReset(c->row_context);
	if (!(p >= 0 && p <= 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the probability of a pair does not lie between 0 and 1"),
				 errhint("%s", PAIRS_HINT)));
	a = cdp_nodes_add(nodes, id_value(slot->tts_values[0], c->types[0]));
	b = cdp_nodes_add(nodes, id_value(slot->tts_values[1], c->types[1]));
	if (a == b)
		return true;

	if (c->npairs == c->room)
	{
		Size		bytes = c->room * sizeof(Pair);

		cdp_nodes_charge(nodes, bytes * 2);
		c->pairs = repalloc_huge(c->pairs, bytes * 2);
		cdp_nodes_discharge(nodes, bytes);
		c->room *= 2;
	}
	if (id_of(nodes, a) < id_of(nodes, b))
		c->pairs[c->npairs++] = (Pair) {a, b, p};
	else
		c->pairs[c->npairs++] = (Pair) {b, a, p};
	return true;
}

static void
receive_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	for (int i = 0; i < 3; i++)
		((Clusters *) self)->types[i] = getBaseType(TupleDescAttr(desc, i)->atttypid);
}

static void
receive_nothing(DestReceiver *self)
{
}

static inline uint64
key_of(uint32 x, uint32 y)
{
	return x < y ? (uint64) x << 32 | y : (uint64) y << 32 | x;
}

static void
push_cell(Clusters *c, uint32 name, uint32 cell)
{
	c->cells[cell].next = c->cluster[name].cells;
	c->cluster[name].cells = cell + 1;
	c->cluster[name].ncells++;
}

/*
 * Pairs given twice, in whatever direction, count once with their lowest
 * probability; what neither supports nor rejects is dropped.  What is left
 * becomes entries and cells, and of the pairs those that support remain, the
 * strongest first.
 */
static void
prepare(Clusters *c)
{
	CdpNodes   *nodes = c->nodes;
	Size		kept = 0;
	Size		support = 0;
	uint32		lo = 0;
	uint32		hi = 0;			/* never the same, so no pair */

	sort_pairs(c->pairs, c->npairs);
	for (Size i = 0; i < c->npairs; i++)
	{
		Pair		pair = c->pairs[i];

		if (pair.lo == lo && pair.hi == hi)
			continue;
		lo = pair.lo;
		hi = pair.hi;
		if (pair.p >= c->threshold || pair.p < c->reject)
			c->pairs[kept++] = pair;
	}

	cdp_nodes_charge(nodes, (Size) nodes->count * sizeof(Cluster) + kept * 2 * sizeof(Cell) +
					 pg_nextpower2_64(kept * 10 / 9 + 2) * sizeof(Between));
	c->cluster = MemoryContextAllocHuge(nodes->context, (Size) nodes->count * sizeof(Cluster) + 1);
	c->cells = MemoryContextAllocHuge(nodes->context, kept * 2 * sizeof(Cell) + 1);
	c->between = between_create(nodes->context, kept, NULL);
	for (uint32 i = 0; i < nodes->count; i++)
		c->cluster[i] = (Cluster) {.name = i,.size = 1};
	for (Size i = 0; i < kept; i++)
	{
		Pair		pair = c->pairs[i];
		bool		found;
		Between    *entry;

		if (i % 65536 == 0)
			CHECK_FOR_INTERRUPTS();
		entry = between_insert(c->between, key_of(pair.lo, pair.hi), &found);
		Assert(!found);
		entry->support = pair.p >= c->threshold;
		entry->rejected = pair.p < c->reject;
		c->cells[2 * i].node = pair.hi;
		push_cell(c, pair.lo, 2 * i);
		c->cells[2 * i + 1].node = pair.lo;
		push_cell(c, pair.hi, 2 * i + 1);
		if (entry->support)
			c->pairs[support++] = pair;
	}
	c->npairs = support;
	sort_by_strength(c->pairs, c->npairs, nodes);
}

static inline uint32
name_of(Clusters *c, uint32 node)
{
	return c->cluster[cdp_nodes_root(c->nodes, node)].name;
}

/* the entries of cluster x become entries of y, the cells that are still needed its cells */
static void
move_neighbours(Clusters *c, uint32 x, uint32 y)
{
	uint32		next;

	for (uint32 cell = c->cluster[x].cells; cell != 0; cell = next)
	{
		uint32		z = name_of(c, c->cells[cell - 1].node);
		Between    *entry;
		Between		moved;
		bool		found;

		next = c->cells[cell - 1].next;
		CHECK_FOR_INTERRUPTS();
		/* two cells may by now stand for one neighbour: the second finds nothing */
		if (z == x || z == y || (entry = between_lookup(c->between, key_of(x, z))) == NULL)
			continue;
		moved = *entry;
		between_delete_item(c->between, entry);
		entry = between_insert(c->between, key_of(y, z), &found);
		if (found)
		{
			entry->support += moved.support;
			entry->rejected |= moved.rejected;
			continue;
		}
		entry->support = moved.support;
		entry->rejected = moved.rejected;
		push_cell(c, y, cell - 1);
	}
	c->cluster[x].cells = 0;
}

/* make one cluster of those of a pair, if the result is sound */
static void
try_merge(Clusters *c, const Pair *pair)
{
	uint32		x = name_of(c, pair->lo);
	uint32		y = name_of(c, pair->hi);
	Between    *entry;
	uint64		inside;
	double		size;

	if (x == y)
		return;
	entry = between_lookup(c->between, key_of(x, y));
	if (entry == NULL)
		elog(ERROR, "two clusters with a pair have no entry");
	if (entry->rejected)
		return;
	size = (double) c->cluster[x].size + c->cluster[y].size;
	inside = c->cluster[x].inside + c->cluster[y].inside + entry->support;
	if (inside / (size * (size - 1) / 2) < c->min_density)
		return;

	if (c->cluster[x].ncells > c->cluster[y].ncells)
	{
		uint32		t = x;

		x = y;
		y = t;
	}
	between_delete_item(c->between, entry);
	move_neighbours(c, x, y);
	c->cluster[y].size += c->cluster[x].size;
	c->cluster[y].inside = inside;
	cdp_nodes_join(c->nodes, pair->lo, pair->hi);
	c->cluster[cdp_nodes_root(c->nodes, pair->lo)].name = y;
}

/* 42804 unless the query has two integers and a number */
static void
check_pairs(const Query *query)
{
	static const char *const names[] = {"left_id", "right_id", "probability"};
	int			ncolumns = 0;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		Oid			type = exprType((Node *) entry->expr);
		Oid			base = getBaseType(type);

		if (entry->resjunk || ++ncolumns > 3)
			continue;
		if (base == INT2OID || base == INT4OID || base == INT8OID ||
			(ncolumns == 3 && (base == FLOAT4OID || base == FLOAT8OID || base == NUMERICOID)))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column %d of pairs (%s) must be %s, not %s", ncolumns, names[ncolumns - 1],
						ncolumns == 3 ? "a number" : "an integer", format_type_be(type)),
				 errhint("%s", PAIRS_HINT)));
	}
	if (ncolumns != 3)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("pairs has %d columns instead of 3", ncolumns),
				 errhint("%s", PAIRS_HINT)));
}

static double
fraction(FunctionCallInfo fcinfo, int arg, const char *name)
{
	double		value;

	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be NULL", name),
				 errhint("Leave it out for the default, or give a number from 0 to 1.")));
	value = PG_GETARG_FLOAT8(arg);
	if (!(value >= 0 && value <= 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s does not lie between 0 and 1", name),
				 errhint("Leave it out for the default, or give a number from 0 to 1.")));
	return value;
}

/* cdp.cluster_pairs(pairs text, threshold, reject, min_density float8) -> setof (node bigint, component bigint) */
Datum
cdp_cluster_pairs(PG_FUNCTION_ARGS)
{
	Clusters	c = {
		.pub = {receive_pair, receive_startup, receive_nothing, receive_nothing, DestTuplestore},
	};
	char	   *sql;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("pairs must not be NULL"),
				 errhint("%s", PAIRS_HINT)));
	sql = text_to_cstring(PG_GETARG_TEXT_PP(0));
	c.threshold = fraction(fcinfo, 1, "threshold");
	c.reject = fraction(fcinfo, 2, "reject");
	c.min_density = fraction(fcinfo, 3, "min_density");
	if (c.reject > c.threshold)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reject lies above threshold"),
				 errhint("A pair cannot both join and forbid: give a smaller reject, or a larger threshold.")));
	check_pairs(cdp_user_query(sql, "pairs", ERRCODE_INVALID_PARAMETER_VALUE, PAIRS_HINT));

	c.nodes = cdp_nodes_create();
	c.row_context = AllocSetContextCreate(c.nodes->context, "customer_cdp pair", ALLOCSET_SMALL_SIZES);
	c.room = FIRST_ROOM;
	cdp_nodes_charge(c.nodes, c.room * sizeof(Pair));
	c.pairs = MemoryContextAlloc(c.nodes->context, c.room * sizeof(Pair));
	cdp_nodes_query(sql, &c.pub);
	prepare(&c);
	for (Size i = 0; i < c.npairs; i++)
	{
		if (i % 4096 == 0)
			CHECK_FOR_INTERRUPTS();
		try_merge(&c, &c.pairs[i]);
	}
	cdp_nodes_return(c.nodes, fcinfo);
	return (Datum) 0;
}
