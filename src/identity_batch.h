/*
 * identity_batch.h
 *	  A batch of sightings while it is worked off: shared by identity.c,
 *	  identity_known.c, identity_sql.c, identity_parse.c, identity_simulate.c, identity_limit.c,
 *	  identity_evidence.c, identity_refusal.c and identity_write.c, by nobody else.
 */
#ifndef CDP_IDENTITY_BATCH_H
#define CDP_IDENTITY_BATCH_H

#include "identity.h"
#include "identity_kind.h"

/* one distinct (kind, value) of the batch; a recycled value gets a second node */
typedef struct IdNode
{
	const char *kind;
	const char *value;
	int			priority;
	int			limit_no;		/* number of its limited kind, -1: no limit */
	int64		ttl;			/* 0: never recycled */
	/* what the database says; 0: unknown */
	int64		identifier_id;
	int64		profile_id;
	int64		alias_id;		/* customer of profile_id */
	TimestampTz first_seen;
	TimestampTz last_seen;
	/* what the simulation says */
	TimestampTz born_at;
	TimestampTz first_now;		/* first_seen and last_seen after the batch */
	TimestampTz last_now;
	TimestampTz closed_at;		/* 0: still means profile_id */
	const char *source;
	struct Refuser *refused_by; /* at most cdp.generic_after + 1 */
	int			nrefused;		/* -1: not looked up */
	int			successor;		/* node after recycling, -1: none */
	bool		own_profile;
	bool		generic;		/* also when the simulation finds it so */
	bool		is_new;			/* to be inserted under profile_id */
	bool		founds_profile; /* ... which is born with it */
	bool		turned_generic;
} IdNode;

/* a profile whose stronger identifiers were not to be joined, and in how many refused pairs */
typedef struct Refuser
{
	int64		profile_id;
	int64		npairs;
} Refuser;

/* two identifiers that were seen together */
typedef struct Pair
{
	int			a;				/* nodes, a < b */
	int			b;
	int64		link_id;		/* 0: there is no row yet */
	const char *was_refused;	/* refusal of that row */
	TimestampTz was_at;
	const char *refusal;		/* what it is now; NULL: it is followed */
	TimestampTz occurred_at;
	const char *source;
	int			merge;			/* which merge it caused, -1: none */
} Pair;

typedef struct Merge
{
	int64		winner;
	int64		loser;
	const char *rule;
	int64		merge_id;
} Merge;

/* a merge not made or a value dropped; equal ones are one with a count */
typedef struct Refusal
{
	const char *reason;
	const char *kind;			/* or NULL */
	int			node;			/* or -1 */
	int64		customer_id;	/* 0: none */
	int64		other_id;
	const char *source;
	TimestampTz occurred_at;
	int64		times;
} Refusal;

/* a kind with max_per_customer */
typedef struct LimitedKind
{
	const char *kind;
	int			max;
	int64		window;			/* 0: ever */
} LimitedKind;

typedef struct Batch
{
	CdpSighting *items;
	int			nitems;
	bool	   *readable;		/* items that could be read */
	/* identifiers of item i, the strongest first: uses[first[i] .. first[i + 1]) */
	int		   *first;
	int		   *uses;
	int			nuses;
	int			maxuses;
	IdNode	   *nodes;
	int			nnodes;
	int			maxnodes;
	int			nparsed;		/* nodes before the simulation made successors */
	LimitedKind *limits;
	int			nlimits;
	/* values dropped before anything was looked up; then those of the simulation */
	Refusal    *refusals;
	int			nrefusals;
	int			maxrefusals;
	int			nparse_refusals;
	/* results of the simulation */
	Pair	   *pairs;
	int			npairs;
	int			maxpairs;
	Merge	   *merges;
	int			nmerges;
	int			maxmerges;
	int64	   *locks;			/* customers that will change */
	int			nlocks;
	int			maxlocks;
	int			nnew;			/* identifiers to be inserted */
	int64	   *ids;			/* of new profiles */
	int			nids;
	int			maxids;
	int			nids_given;
} Batch;

#define GROW(array, n, max) \
	do { \
		if ((n) == (max)) \
		{ \
			(max) = (max) > 0 ? (max) * 2 : 16; \
			(array) = (array) == NULL ? palloc(sizeof(*(array)) * (Size) (max)) : \
				repalloc_huge((array), sizeof(*(array)) * (Size) (max)); \
		} \
	} while (0)

/* identity.c: cdp_identify() without asking identity_known.c first */
extern void cdp_identify_batch(CdpSighting *items, int n, bool raise);

/*
 * identity_known.c: is this a sighting of nothing but what is known, and
 * need nothing be written?  Then its answer, without a batch; it needs
 * neither the frame of a verb nor SPI, only cdp_check_write().
 */
extern bool cdp_identify_known(CdpSighting *item);

/* identity_parse.c: the identifiers of every item; marks bad items */
extern void cdp_parse_sightings(Batch *b);

#define CDP_NO_IDENTIFIER_MESSAGE	"no usable identifier was given"
#define CDP_NO_IDENTIFIER_HINT \
	"Blank, blocked and generic values and values that are no valid phone number, e-mail address and so on do not count."

/* a sighting that writes nothing: why */
extern void cdp_refuse_sighting(CdpSighting *item, int sqlstate, const char *message, const char *hint);

/* identity_simulate.c: what would become of the batch; under an active snapshot, after the probe */
extern void cdp_simulate(Batch *b);

/* identity_simulate.c: a stronger than b, so that the order of a call never matters */
extern bool cdp_is_stronger(const IdNode *a, const IdNode *b);

/* "member_id+phone", the stronger kind first */
extern const char *cdp_pair_rule(const IdNode *a, const IdNode *b);

/* identity_evidence.c */
typedef struct CdpEvidence CdpEvidence;

extern CdpEvidence *cdp_evidence_open(Batch *b);
extern void cdp_evidence_close(CdpEvidence *e);
/* is the pair known, followed, and no younger than this sighting of it? */
extern bool cdp_is_known_pair(CdpEvidence *e, int x, int y, TimestampTz at);
/* two identifiers of one sighting; NULL when the pair was known as it is now */
extern Pair *cdp_note_pair(CdpEvidence *e, int x, int y, const char *refusal, const CdpSighting *item);
extern Pair *cdp_noted_pair(CdpEvidence *e, int x, int y);
/* change 1: a refused pair is new, -1: it is followed at last, 0: it is known; answers its weaker node */
extern int	cdp_count_refusal(CdpEvidence *e, int x, int y, int change);

/* identity_refusal.c */
extern void cdp_note_refusal(Batch *b, const char *reason, const char *kind, int node,
							 int64 customer_id, int64 other_id, const CdpSighting *item);
extern void cdp_write_refusals(Batch *b);
extern void cdp_write_generic(Batch *b);
extern void cdp_load_refused_by(IdNode *node);

/* identity_write.c; answers false when somebody else was faster */
extern bool cdp_write_identifiers(Batch *b);
extern void cdp_write_links(Batch *b, bool refused);
extern void cdp_write_last_seen(Batch *b);
extern void cdp_write_traits(Batch *b);

#endif							/* CDP_IDENTITY_BATCH_H */
