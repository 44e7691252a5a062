/*
 * identity_limit.h
 *	  May these customers become one?  What the rules have to know of them.
 *
 *		t = cdp_limits_open(kinds, nkinds);
 *		cdp_limits_load(t, customers, n);		-- as the database has them
 *		why = cdp_limits_check(t, ...);			-- NULL: they may
 *		cdp_limits_join(t, winner, loser);
 *		cdp_limits_root(t, loser)				-- winner
 */
#ifndef CDP_IDENTITY_LIMIT_H
#define CDP_IDENTITY_LIMIT_H

#include "identity_batch.h"

typedef struct CdpLimits CdpLimits;

extern CdpLimits *cdp_limits_open(const LimitedKind *kinds, int nkinds);
extern void cdp_limits_close(CdpLimits *t);

/*
 * Customers as the database has them now; those that are loaded already stay
 * as they are.  node_of tells which node of the batch an identifier is, -1
 * for none: its last sighting is the one of the batch then.
 */
typedef int (*CdpNodeOf) (void *arg, int64 identifier_id);
extern void cdp_limits_load(CdpLimits *t, const int64 *customers, int n, CdpNodeOf node_of, void *arg);

/* a customer that is born in this batch, with one profile */
extern void cdp_limits_found(CdpLimits *t, int64 customer);

/* the customer this one has become part of */
extern int64 cdp_limits_root(CdpLimits *t, int64 customer);

/* two customers become one */
extern void cdp_limits_join(CdpLimits *t, int64 winner, int64 loser);

/* a live identifier of limited kind comes, leaves, is seen */
extern void cdp_limits_add(CdpLimits *t, int64 customer, int limit_no, int64 identifier_id, int node, TimestampTz seen);
extern void cdp_limits_remove(CdpLimits *t, int64 customer, int64 identifier_id, int node);

/*
 * May customers (roots, distinct) become one that gets new identifiers of
 * the limited kinds fresh[0..nfresh) and new_profiles?  NULL, or the reason
 * why not and, for 'limit', which kind.
 */
extern const char *cdp_limits_check(CdpLimits *t, const int64 *roots, int nroots, int new_profiles,
									const int *fresh, int nfresh, TimestampTz at, const IdNode *nodes, int *broken);

#endif							/* CDP_IDENTITY_LIMIT_H */
