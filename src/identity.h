/*
 * identity.h
 *	  identity for the other modules: a batch of sightings in, profiles out.
 */
#ifndef CDP_IDENTITY_H
#define CDP_IDENTITY_H

#include "cdp.h"
#include "utils/jsonb.h"

/* one sighting: what the caller knows about one customer at one moment */
typedef struct CdpSighting
{
	/* in */
	Jsonb	   *identifiers;	/* {"phone": "…", "email": ["…", "…"]} */
	Jsonb	   *traits;			/* or NULL */
	const char *source;			/* or NULL */
	TimestampTz occurred_at;
	bool		numbered;		/* one of a list: an error tells its number, also when the list has no other */
	/* out */
	int64		profile_id;		/* origin profile of the strongest identifier: facts go under it */
	int64		customer_id;
	int			sqlstate;		/* not 0: the item is bad, nothing of it was written */
	const char *message;		/* why, without personal data */
	const char *hint;
} CdpSighting;

/*
 * Identify n sightings in one lock order; the result equals doing them one
 * by one.  Called between cdp_begin_write and cdp_end.  With raise, the
 * first bad item raises with its number in the detail (n > 1).
 */
extern void cdp_identify(CdpSighting *items, int n, bool raise);

/* Lock the rows of profiles, ascending, FOR NO KEY UPDATE; answers how many of them are there. */
extern int	cdp_lock_profiles(const int64 *ids, int n);

/* Are all of them customers now, whatever our snapshot says?  40001 when they were at the snapshot and are not. */
extern bool cdp_are_customers(const int64 *ids, int n);

/* Make loser a part of winner; both locked, both customers.  Answers the merge_id. */
extern int64 cdp_merge_step(int64 winner, int64 loser, const char *rule, const char *reason);

/* Tell the modules that keep something per customer. */
extern void cdp_customers_changed(int64 winner, int64 loser, const char *action);

#endif							/* CDP_IDENTITY_H */
