/*
 * identity_components.c
 *	  cdp.connected_components(): who is connected with whom, in one pass.
 *
 *		edges				node	component
 *		7, 4				7		-3
 *		4, -3		->		4		-3
 *		9, NULL				-3		-3
 *							9		9
 *
 * The rows of the query go straight from the executor into a forest of sets
 * (union-find): every node points to one of its set with a smaller id, the
 * smallest to itself.  An edge makes the greater of two roots point to the
 * smaller; every search halves the path it walks.  So the root is the
 * component and no second pass has to look for it (Tarjan, "Efficiency of a
 * Good But Not Linear Set Union Algorithm", 1975).
 *
 * Memory is 21 bytes per node that there is room for, 21 to 43 per node, and
 * is asked for in doublings: an array of nodes by index, and a hash table
 * from id to index, which is made anew from the array.  Nothing but the nodes
 * is kept; how many edges there are does not matter.
 *
 * Once that is more than the processor's cache holds, nearly every step is a
 * wait for memory.  So edges are taken in batches, in stages over the whole
 * batch, each of which asks for what the next one reads.
 *
 * identity_cluster.c uses the same forest.
 *
 * SQL: sql/identity_components.sql.  Page: doc/identity_components.md.
 * Tests: test/sql/identity_components.sql, test/pgtap/identity_components.sql.
 */
#include "identity_components.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "user_query.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cdp_connected_components);

#define FIRST_SLOTS		1024
#define MAX_SLOTS		(UINT32_C(1) << 31)

#define BATCH			64		/* edges, and nodes of the result */

#if defined(__GNUC__)
#define soon(p)			__builtin_prefetch(p)
#else
#define soon(p)			((void) (p))
#endif

#define EDGES_HINT	"edges is one SELECT that returns two columns of type bigint."

int			cdp_components_memory = 1024 * 1024;

void
cdp_identity_components_init(void)
{
	DefineCustomIntVariable("cdp.components_memory",
							"Most memory that connected_components and cluster_pairs take for nodes and pairs.",
							"About 40 MB per million nodes; cluster_pairs about 80 MB more per million pairs.",
							&cdp_components_memory, 1024 * 1024, 1024, MAX_KILOBYTES,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
}

static inline uint32
room_of(uint32 nslots)
{
	return nslots / 4 * 3;
}

static inline Size
bytes_of(uint32 nslots)
{
	return (Size) room_of(nslots) * sizeof(CdpNode) + (Size) nslots * sizeof(uint32);
}

static void
require_memory(Size bytes)
{
	if (bytes / 1024 > (Size) cdp_components_memory)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("nodes and pairs need more memory than cdp.components_memory allows"),
				 errdetail("The setting is %d MB; %zu MB are needed to go on.",
						   cdp_components_memory / 1024, bytes / (1024 * 1024) + 1),
				 errhint("Raise cdp.components_memory if the machine has it, or give fewer rows.")));
}

/* all bits of an id decide where it goes: ids are often multiples of something */
static inline uint64
scatter(int64 id)
{
	uint64		h = (uint64) id;

	h ^= h >> 32;
	h *= UINT64CONST(0xD6E8FEB86659FD93);
	h ^= h >> 32;
	h *= UINT64CONST(0xD6E8FEB86659FD93);
	return h ^ (h >> 32);
}

/*
 * An occupied slot holds index + 1 in as many bits as that can have, and bits
 * of the id's hash in the rest: a glance at the slot tells most other ids
 * apart without a look at their node.
 */
static inline uint32
tag_of(const CdpNodes *nodes, uint64 hash)
{
	return (uint32) (hash >> 32) & ~nodes->mask;
}

/* the first empty slot from where the hash points */
static inline void
place(CdpNodes *nodes, uint64 hash, uint32 i)
{
	uint32		at = (uint32) hash & nodes->mask;

	while (nodes->slots[at] != 0)
		at = (at + 1) & nodes->mask;
	nodes->slots[at] = (i + 1) | tag_of(nodes, hash);
}

CdpNodes *
cdp_nodes_create(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp nodes", ALLOCSET_DEFAULT_SIZES);
	CdpNodes   *nodes = MemoryContextAllocZero(context, sizeof(CdpNodes));

	nodes->context = context;
	nodes->mask = FIRST_SLOTS - 1;
	nodes->node = MemoryContextAlloc(context, room_of(FIRST_SLOTS) * sizeof(CdpNode));
	nodes->slots = MemoryContextAllocZero(context, FIRST_SLOTS * sizeof(uint32));
	return nodes;
}

/* room for twice as many nodes; at no time more than what stands there afterwards is taken */
static void
grow(CdpNodes *nodes)
{
	uint32		nslots = nodes->mask + 1;

	if (nslots >= MAX_SLOTS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("there are more than %u nodes", room_of(MAX_SLOTS)),
				 errhint("Give fewer rows.")));
	nslots *= 2;
	require_memory(bytes_of(nslots) + nodes->charged);
	pfree(nodes->slots);
	nodes->slots = NULL;
	nodes->mask = nslots - 1;
	nodes->node = repalloc_huge(nodes->node, (Size) room_of(nslots) * sizeof(CdpNode));
	nodes->slots = MemoryContextAllocExtended(nodes->context, (Size) nslots * sizeof(uint32),
											  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (uint32 i = 0; i < nodes->count; i += BATCH)
	{
		uint64		hash[BATCH];
		int			n = Min(BATCH, nodes->count - i);

		if (i % 65536 == 0)
			CHECK_FOR_INTERRUPTS();
		for (int k = 0; k < n; k++)
		{
			hash[k] = scatter(nodes->node[i + k].id);
			soon(&nodes->slots[hash[k] & nodes->mask]);
		}
		for (int k = 0; k < n; k++)
			place(nodes, hash[k], i + k);
	}
}

void
cdp_nodes_charge(CdpNodes *nodes, Size bytes)
{
	require_memory(bytes_of(nodes->mask + 1) + nodes->charged + bytes);
	nodes->charged += bytes;
}

void
cdp_nodes_discharge(CdpNodes *nodes, Size bytes)
{
	nodes->charged -= bytes;
}

static inline uint32
add(CdpNodes *nodes, int64 id, uint64 hash)
{
	uint32		at = (uint32) hash & nodes->mask;
	uint32		tag = tag_of(nodes, hash);
	uint32		slot;
	uint32		i;

	while ((slot = nodes->slots[at]) != 0)
	{
		i = (slot & nodes->mask) - 1;
		if ((slot & ~nodes->mask) == tag && nodes->node[i].id == id)
			return i;
		at = (at + 1) & nodes->mask;
	}
	i = nodes->count;
	if (i == room_of(nodes->mask + 1))
		grow(nodes);
	nodes->node[i].id = id;
	nodes->node[i].parent = i;
	nodes->count++;
	place(nodes, hash, i);
	return i;
}

uint32
cdp_nodes_add(CdpNodes *nodes, int64 id)
{
	return add(nodes, id, scatter(id));
}

/* one node up, and half of the path of i is gone */
static inline uint32
step_up(CdpNode *node, uint32 i)
{
	return node[i].parent = node[node[i].parent].parent;
}

uint32
cdp_nodes_root(CdpNodes *nodes, uint32 i)
{
	while (nodes->node[i].parent != i)
		i = step_up(nodes->node, i);
	return i;
}

void
cdp_nodes_join(CdpNodes *nodes, uint32 a, uint32 b)
{
	a = cdp_nodes_root(nodes, a);
	b = cdp_nodes_root(nodes, b);
	if (nodes->node[a].id < nodes->node[b].id)
		nodes->node[b].parent = a;
	else
		nodes->node[a].parent = b;
}

void
cdp_nodes_return(CdpNodes *nodes, FunctionCallInfo fcinfo)
{
	const CdpNode *node = nodes->node;
	ReturnSetInfo *rsinfo;

	InitMaterializedSRF(fcinfo, 0);
	rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	for (uint32 i = 0; i < nodes->count; i += BATCH)
	{
		int			n = Min(BATCH, nodes->count - i);

		CHECK_FOR_INTERRUPTS();
		for (int k = 0; k < n; k++)
			soon(&node[node[i + k].parent]);
		for (int k = 0; k < n; k++)
		{
			Datum		values[2];
			bool		nulls[2] = {false, false};

			values[0] = Int64GetDatum(node[i + k].id);
			values[1] = Int64GetDatum(node[cdp_nodes_root(nodes, i + k)].id);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
	MemoryContextDelete(nodes->context);
}

/*
 * The rows never lie in SPI's own table: dest sees each as it comes, and the
 * query may run in parallel.
 */
void
cdp_nodes_query(const char *sql, DestReceiver *dest)
{
	SPIExecuteOptions options = {.read_only = true,.dest = dest};
	int			rc;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	cdp_read_only_begin();
	rc = SPI_execute_extended(sql, &options);
	if (rc < 0)
		elog(ERROR, "query did not run: %s", SPI_result_code_string(rc));
	cdp_read_only_end();
	SPI_finish();
}

/* what takes the rows of edges */
typedef struct EdgeReceiver
{
	DestReceiver pub;
	CdpNodes   *nodes;
	int			n;				/* edges that wait */
	int64		a[BATCH];		/* equal when the other side is NULL */
	int64		b[BATCH];
} EdgeReceiver;

static void
join_batch(EdgeReceiver *receiver)
{
	CdpNodes   *nodes = receiver->nodes;
	const int64 *a = receiver->a;
	const int64 *b = receiver->b;
	uint64		ha[BATCH];
	uint64		hb[BATCH];
	uint32		ia[BATCH];
	uint32		ib[BATCH];
	uint32		mask = nodes->mask;
	int			n = receiver->n;

	receiver->n = 0;
	for (int k = 0; k < n; k++)
	{
		ha[k] = scatter(a[k]);
		hb[k] = scatter(b[k]);
		soon(&nodes->slots[ha[k] & mask]);
		soon(&nodes->slots[hb[k] & mask]);
	}
	for (int k = 0; k < n; k++)
	{
		/* one too far, but that is the same line of the cache or the next */
		soon(&nodes->node[nodes->slots[ha[k] & mask] & mask]);
		soon(&nodes->node[nodes->slots[hb[k] & mask] & mask]);
	}
	for (int k = 0; k < n; k++)
	{
		ia[k] = add(nodes, a[k], ha[k]);
		ib[k] = add(nodes, b[k], hb[k]);
		soon(&nodes->node[nodes->node[ia[k]].parent]);
		soon(&nodes->node[nodes->node[ib[k]].parent]);
	}
	for (int step = 0; step < 2; step++)
	{
		for (int k = 0; k < n; k++)
		{
			ia[k] = step_up(nodes->node, ia[k]);
			ib[k] = step_up(nodes->node, ib[k]);
			soon(&nodes->node[nodes->node[ia[k]].parent]);
			soon(&nodes->node[nodes->node[ib[k]].parent]);
		}
	}
	for (int k = 0; k < n; k++)
		cdp_nodes_join(nodes, ia[k], ib[k]);
}

static bool
receive_edge(TupleTableSlot *slot, DestReceiver *self)
{
	EdgeReceiver *receiver = (EdgeReceiver *) self;
	int			n = receiver->n;

	slot_getallattrs(slot);
	if (slot->tts_isnull[0] && slot->tts_isnull[1])
		return true;
	receiver->a[n] = DatumGetInt64(slot->tts_values[slot->tts_isnull[0] ? 1 : 0]);
	receiver->b[n] = DatumGetInt64(slot->tts_values[slot->tts_isnull[1] ? 0 : 1]);
	if (++receiver->n == BATCH)
		join_batch(receiver);
	return true;
}

static void
receive_startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
receive_nothing(DestReceiver *self)
{
}

/* 42804 unless the query has exactly two columns of type bigint */
static void
check_edges(const Query *query)
{
	int			ncolumns = 0;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		Oid			type = exprType((Node *) entry->expr);

		if (entry->resjunk)
			continue;
		ncolumns++;
		if (ncolumns <= 2 && getBaseType(type) != INT8OID)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column %d of edges must be bigint, not %s", ncolumns, format_type_be(type)),
					 errhint("%s Cast where it is another: SELECT a::bigint, b::bigint FROM …", EDGES_HINT)));
	}
	if (ncolumns != 2)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("edges has %d columns instead of 2", ncolumns),
				 errhint("%s", EDGES_HINT)));
}

/* cdp.connected_components(edges text) -> setof (node bigint, component bigint) */
Datum
cdp_connected_components(PG_FUNCTION_ARGS)
{
	EdgeReceiver receiver = {
		.pub = {receive_edge, receive_startup, receive_nothing, receive_nothing, DestTuplestore},
	};
	char	   *sql;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("edges must not be NULL"),
				 errhint("%s", EDGES_HINT)));
	sql = text_to_cstring(PG_GETARG_TEXT_PP(0));
	check_edges(cdp_user_query(sql, "edges", ERRCODE_INVALID_PARAMETER_VALUE, EDGES_HINT));
	receiver.nodes = cdp_nodes_create();
	cdp_nodes_query(sql, &receiver.pub);
	join_batch(&receiver);
	cdp_nodes_return(receiver.nodes, fcinfo);
	return (Datum) 0;
}
