/*
 * identity_graph.h
 *	  Some customers with everything that makes them what they are:
 *	  profiles, identifiers, evidence.  For whoever explains or changes the
 *	  partition.
 *
 *	  CdpGraph *g = cdp_graph_load(&customer_id, 1, CDP_REACH_NONE, false);
 *	  cdp_replay(g);		-- what the evidence says, in canonical order
 *	  ...
 *	  cdp_graph_free(g);
 *
 * Everything refers to everything by its place in the arrays.
 */
#ifndef CDP_IDENTITY_GRAPH_H
#define CDP_IDENTITY_GRAPH_H

#include "identity.h"

/* how far loading goes beyond the customers that were asked for */
typedef enum CdpReach
{
	CDP_REACH_NONE,				/* nowhere */
	CDP_REACH_FOLLOWED,			/* along the links that hold customers together */
	CDP_REACH_EVIDENCE			/* along all live evidence, refused or not, that is not generic */
} CdpReach;

typedef struct GraphKind
{
	const char *name;
	int			priority;
	int			max;			/* 0: no limit */
	int64		window;			/* 0: ever */
	bool		own_profile;
} GraphKind;

typedef struct GraphCustomer
{
	int64		id;
	int			component;		/* what the evidence reaches: the customer whose component it is */
} GraphCustomer;

typedef struct GraphProfile
{
	int64		id;
	int			customer;
	int			home;			/* identifier by which the profile is known, -1: it has none */
	int			set;			/* what a replay says: an identifier that stands for the set, -1: alone */
	int64		after;			/* ... and the customer it will belong to */
} GraphProfile;

typedef struct GraphIdentifier
{
	int64		id;
	int			kind;
	int			profile;
	const char *value;
	TimestampTz first_seen;
	TimestampTz last_seen;
	bool		live;
	bool		generic;
	bool		linked;			/* some evidence has it */
	/* union-find, members as a ring */
	int			parent;
	int			size;
	int			next;
} GraphIdentifier;

typedef struct GraphLink
{
	int64		id;
	int			a;				/* the stronger of the two */
	int			b;
	char		relation;		/* s(ame), a(part), h(ousehold) */
	bool		weighted;
	float8		weight;
	bool		overrides;
	TimestampTz occurred_at;
	TimestampTz linked_at;
	int64		merge_id;
	const char *rule;
	const char *source;			/* or NULL */
	const char *refusal;		/* or NULL: it is followed */
	/* what a replay says */
	const char *verdict;		/* NULL: it is followed */
	int			verdict_kind;	/* of a limit, else -1 */
} GraphLink;

typedef struct CdpIdMap CdpIdMap;

typedef struct CdpGraph
{
	MemoryContext context;
	GraphKind  *kinds;
	int			nkinds;
	GraphCustomer *customers;
	int			ncustomers;
	GraphProfile *profiles;
	int			nprofiles;
	GraphIdentifier *identifiers;
	int			nidentifiers;
	GraphLink  *links;
	int			nlinks;
	int			maxkinds,
				maxcustomers,
				maxprofiles,
				maxidentifiers,
				maxlinks;
	CdpIdMap   *customer_map;
	CdpIdMap   *profile_map;
	CdpIdMap   *identifier_map;
} CdpGraph;

/*
 * read_only: with the active snapshot, else with a new one that sees our own
 * writes.  Called with SPI connected; the graph lives in the caller's context.
 */
extern CdpGraph *cdp_graph_load(const int64 *customers, int n, CdpReach reach, bool read_only);
extern void cdp_graph_free(CdpGraph *g);

/* place of a profile or customer, -1: not loaded */
extern int	cdp_graph_profile(const CdpGraph *g, int64 profile_id);
extern int	cdp_graph_customer(const CdpGraph *g, int64 customer_id);

/*
 * At REPEATABLE READ and above: 40001 when others have committed something
 * about these customers that our snapshot does not show.
 */
extern void cdp_graph_require_current(const int64 *customers, int n, CdpReach reach);

/* identity_replay.c */

/* a stronger than b: priority, kind, value, so that the order never depends on who came first */
extern bool cdp_graph_is_stronger(const CdpGraph *g, int a, int b);

/* strongest identifier of a customer: live ones that tell something first, then any; -1: none */
extern int	cdp_graph_strongest(const CdpGraph *g, int customer);

/* does it count for the limit of its kind, at that time */
extern bool cdp_counts(const CdpGraph *g, const GraphIdentifier *x, TimestampTz at);

/* the canonical order */
extern void cdp_sort_links(CdpGraph *g);

/* sets, limits, apart: sets set and after of the profiles, parent of the identifiers, verdict of the links */
extern void cdp_replay(CdpGraph *g);
extern int	cdp_graph_set(CdpGraph *g, int identifier);

/* the sets by hand: every identifier alone; two become one, of which the answer no longer stands for any */
extern void cdp_graph_part(CdpGraph *g);
extern int	cdp_graph_unite(CdpGraph *g, int a, int b);

/* what joining two customers would break; "limit" with *kind, "kept_apart", "customer_too_large" or NULL */
typedef void (*CdpViolation) (void *arg, const char *reason, const GraphKind *kind, int64 count);
extern int	cdp_check_join(const CdpGraph *g, int a, int b, CdpViolation report, void *arg);

#endif							/* CDP_IDENTITY_GRAPH_H */
