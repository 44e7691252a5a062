/*
 * identity_recheck.h
 *	  Shared by identity_recheck.c, identity_verdict.c and identity_verify.c.
 */
#ifndef CDP_IDENTITY_RECHECK_H
#define CDP_IDENTITY_RECHECK_H

#include "identity_graph.h"
#include "identity_step.h"

/* some profiles in ascending order, and customers to look at because of them */
typedef struct CdpPage
{
	int			scanned;
	int64		last;
	int64	   *customers;
	int			ncustomers;
} CdpPage;

/* every: the customers of all profiles on the page, else only those whose own profile is on it */
extern int	cdp_read_page(CdpPage *page, int64 after, int limit, bool every, bool read_only);

/* one line of the answer */
typedef struct RecheckRow
{
	int64		profile_id;
	int64		before;
	int64		after;			/* 0: a customer yet to be made */
	char	   *reason;
} RecheckRow;

typedef struct RecheckRows
{
	RecheckRow *rows;
	int			n;
	int			max;
} RecheckRows;

/* an identifier that sits in the profile of another set */
typedef struct RecheckMove
{
	int			identifier;
	int			target;			/* profile of its set, -1: one has to be made */
	int64		profile_id;		/* where it came to be */
} RecheckMove;

/* what a replay says about a graph, compared with what is */
typedef struct RecheckVerdict
{
	CdpGraph   *g;
	bool	   *concerned;		/* per customer: something in its component changes */
	RecheckMove *moves;
	int			nmoves;
	int64	   *set_after;		/* per representative: its customer, 0: none yet */
	int		   *set_best;		/* ... its strongest home, -1: none */
	const char **set_reason;	/* ... why it is no longer with others */
} RecheckVerdict;

/* identity_verdict.c: after cdp_replay() */
extern void cdp_compare(RecheckVerdict *v, CdpGraph *g);

/* the lines of the answer; skip: per customer, whose are left out */
extern void cdp_list_rows(const RecheckVerdict *v, RecheckRows *rows, const bool *skip);

/* the locks are held and the replay is the truth: make it so */
extern void cdp_apply_verdict(RecheckVerdict *v);

/* identity_verify.c: make the aliases what the links say; answers how many were not */
extern int64 cdp_rebuild_page(const CdpPage *page);
extern int64 cdp_rebuild_orphans(void);

/* identity_step.c */
extern int64 cdp_recheck_merge(int64 winner, int64 loser);
extern void cdp_write_aliases(SPIPlanPtr plan, Datum *args, int64 *written);

#endif							/* CDP_IDENTITY_RECHECK_H */
