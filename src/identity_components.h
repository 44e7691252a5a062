/*
 * identity_components.h
 *	  Numbers that belong together: the nodes of a graph that comes out of a
 *	  user's query, and the forest of sets they are in.
 *
 *		nodes = cdp_nodes_create();
 *		a = cdp_nodes_add(nodes, 4711);			-- an index, in order of appearance
 *		b = cdp_nodes_add(nodes, -3);
 *		cdp_nodes_join(nodes, a, b);
 *		... nodes->node[cdp_nodes_root(nodes, a)].id is now -3
 */
#ifndef CDP_IDENTITY_COMPONENTS_H
#define CDP_IDENTITY_COMPONENTS_H

#include "cdp.h"

#include "tcop/dest.h"

/* setting cdp.components_memory, in kB */
extern int	cdp_components_memory;

typedef struct CdpNode
{
	int64		id;
	uint32		parent;			/* index of itself, or of one of the same set with a smaller id */
} CdpNode;

typedef struct CdpNodes
{
	MemoryContext context;		/* holds all of it; delete it to be rid of the nodes */
	Size		charged;		/* bytes taken beside the nodes, see cdp_nodes_charge() */
	uint32		count;
	uint32		mask;			/* number of slots, a power of two, less 1 */
	CdpNode    *node;			/* by index: room for three quarters of the slots */
	uint32	   *slots;			/* of a hash table: 0 for empty, or index + 1 and a tag */
} CdpNodes;

extern CdpNodes *cdp_nodes_create(void);

/* index of an id, which is added when it is new */
extern uint32 cdp_nodes_add(CdpNodes *nodes, int64 id);

/* the node with the smallest id of a set */
extern uint32 cdp_nodes_root(CdpNodes *nodes, uint32 i);
extern void cdp_nodes_join(CdpNodes *nodes, uint32 a, uint32 b);

/* before taking so many bytes more in nodes->context: 53200 when the setting does not allow them */
extern void cdp_nodes_charge(CdpNodes *nodes, Size bytes);
extern void cdp_nodes_discharge(CdpNodes *nodes, Size bytes);

/* hand all nodes with the smallest id of their set to the caller of a set-returning function */
extern void cdp_nodes_return(CdpNodes *nodes, FunctionCallInfo fcinfo);

/* run one checked SELECT with the caller's rights in a read-only transaction, rows to dest */
extern void cdp_nodes_query(const char *sql, DestReceiver *dest);

#endif							/* CDP_IDENTITY_COMPONENTS_H */
