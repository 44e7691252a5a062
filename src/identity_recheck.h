/*
 * identity_recheck.h
 *	  Shared by identity_recheck.c and identity_verify.c.
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
extern int	cdp_read_page(CdpPage *page, int64 after, int limit, const TimestampTz *since, bool every, bool read_only);

extern int	cdp_id_compare(const void *x, const void *y);
extern Datum cdp_id_array(const int64 *ids, int n);

/* identity_verify.c: make the aliases what the links say; answers how many were not */
extern int64 cdp_rebuild_page(const CdpPage *page);
extern int64 cdp_rebuild_orphans(void);

/* identity_step.c */
extern int64 cdp_recheck_merge(int64 winner, int64 loser);
extern void cdp_write_aliases(SPIPlanPtr plan, Datum *args, int64 *written);

#endif							/* CDP_IDENTITY_RECHECK_H */
