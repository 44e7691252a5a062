/*
 * identity_batch.h
 *	  A batch of sightings while it is worked off: shared by identity.c,
 *	  identity_parse.c and identity_write.c, by nobody else.
 */
#ifndef CDP_IDENTITY_BATCH_H
#define CDP_IDENTITY_BATCH_H

#include "identity.h"

/* one distinct (kind, value) of the batch */
typedef struct IdNode
{
	const char *kind;
	const char *value;
	int			priority;
	bool		own_profile;
	/* what the database says; 0: unknown */
	int64		identifier_id;
	int64		profile_id;
	int64		alias_id;		/* customer of profile_id */
	TimestampTz last_seen;
	/* what the simulation says */
	bool		is_new;			/* to be inserted under profile_id */
	TimestampTz first_at;		/* oldest and newest sighting of the batch */
	TimestampTz seen_at;
	const char *source;
} IdNode;

typedef struct Pair
{
	int			a;				/* nodes */
	int			b;
	TimestampTz occurred_at;
	const char *source;
} Pair;

typedef struct Merge
{
	int64		winner;
	int64		loser;
	const char *rule;
} Merge;

typedef struct Batch
{
	CdpSighting *items;
	int			nitems;
	/* accepted identifiers of item i: uses[first[i] .. first[i + 1]) */
	int		   *first;
	int		   *uses;
	int			nuses;
	int			maxuses;
	IdNode	   *nodes;
	int			nnodes;
	int			maxnodes;
	/* results of the simulation */
	Pair	   *pairs;
	int			npairs;
	int			maxpairs;
	Merge	   *merges;
	int			nmerges;
	int			maxmerges;
	int			nnew;
} Batch;

#define GROW(array, n, max) \
	do { \
		if ((n) == (max)) \
		{ \
			(max) = (max) > 0 ? (max) * 2 : 64; \
			(array) = (array) == NULL ? palloc(sizeof(*(array)) * (Size) (max)) : \
				repalloc_huge((array), sizeof(*(array)) * (Size) (max)); \
		} \
	} while (0)

/* identity_parse.c: the identifiers of every item; marks bad items */
extern void cdp_parse_sightings(Batch *b);

/* identity.c: a stronger than b, so that the order of a call never matters */
extern bool cdp_is_stronger(const IdNode *a, const IdNode *b);

/* identity_write.c; the first two answer false when somebody else was faster */
extern bool cdp_write_identifiers(Batch *b);
extern bool cdp_lock_customers(Batch *b);
extern void cdp_write_links(Batch *b);
extern void cdp_write_last_seen(Batch *b);
extern void cdp_write_traits(Batch *b);

#endif							/* CDP_IDENTITY_BATCH_H */
