/*
 * tag_bits_chunk.h
 *	  Inside of tag_bits: the plan of a query, one chunk of bitmaps, the
 *	  bytes of numbers and dates.
 *
 * A row of cdp.tag_bits is one key in one chunk, (key_id, chunk, part), and
 * holds a container (audience_container.h).  Keys of numbers and dates hold
 * values instead, in one row or in several parts (tag_bits_value.c).
 *
 * Rows are written by tag_bits_write.c only, but their owner may write
 * anything, so what is read is checked as far as it takes not to be led out
 * of a buffer.
 */
#ifndef CDP_TAG_BITS_CHUNK_H
#define CDP_TAG_BITS_CHUNK_H

#include "probe.h"
#include "tag_bits.h"

/*
 * The plan of a query: who is found, without complements.  A query is P or
 * not P (inverted), so that NOT costs nothing and everyone is asked for once
 * at the end, if at all:
 *
 *		a & !b			P = a but not b
 *		!a & !b			not P, P = a or b
 *		a | !b			not P, P = b but not a
 *		*				not P, P = nobody
 */
typedef enum TagPlanKind
{
	TAG_PLAN_KEY,				/* the container of a key */
	TAG_PLAN_COMPARE,			/* values of a key that compare so */
	TAG_PLAN_SEGMENT,			/* stored members */
	TAG_PLAN_UNION,				/* in any of the children */
	TAG_PLAN_MEET				/* in all of the first npos children and in none of the others */
} TagPlanKind;

typedef struct TagPlan
{
	TagPlanKind kind;
	int			key;			/* of reader's keys */
	TagOperator op;
	double		literal;
	const CdpAudience *members;
	int			nchildren;
	int			npos;
	struct TagPlan **children;
} TagPlan;

/* a key that some plan asks for */
typedef struct TagPlanKey
{
	char	   *bytes;
	int			len;
	int32		id;				/* 0: no customer ever had it */
	/* its entries in the window that is being read */
	uint32		first;
	uint32		n;
	uint32		pos;			/* first one not before the current chunk */
	bool		drives;			/* a chunk without it, and without the other drivers, is empty */
} TagPlanKey;

typedef struct TagPlanKeys
{
	TagPlanKey *keys;
	int			n;
	int			room;
} TagPlanKeys;

/* a query of a moment; members: by node, of those that ask for a segment */
typedef struct TagQuestion
{
	const TagQuery *query;		/* bound */
	const CdpAudience **members;	/* NULL: it asks for none */
} TagQuestion;

/* tag_bits_plan.c */
extern TagPlan *cdp_tag_plan_make(const TagQuestion *question, TagPlanKeys *keys, bool *inverted);
extern int	cdp_tag_plan_key(TagPlanKeys *keys, const char *bytes, int len);
/* cheapest first, by the numbers of entries; which keys and segments drive */
extern void cdp_tag_plan_order(TagPlan *plan, const TagPlanKeys *keys);
extern void cdp_tag_plan_drivers(TagPlan *plan, TagPlanKeys *keys, List **segments);
extern int	cdp_tag_plan_depth(const TagPlan *plan);

/* can these bytes be read as a container without leaving a buffer? */
extern bool cdp_tag_container_is_safe(const uint8 *bytes, int size);

/*
 * Numbers and dates of one chunk (tag_bits_value.c).
 */
typedef struct TagValues
{
	int			n;
	uint64		present[TAG_CHUNK_WORDS];
	double		values[TAG_CHUNK_IDS];	/* of those present */
} TagValues;

/* one row */
typedef struct TagValuePart
{
	int			n;				/* customers that it brings */
	int			size;
	uint8	   *bytes;
} TagValuePart;

/* as rows, part 0 first, palloc'd; none when nobody has a value */
extern TagValuePart *cdp_tag_values_write(const TagValues *values, int *nparts);

/* gives the bytes of a part of the current chunk, NULL when there is none; good until the next call */
typedef const uint8 *(*TagPartReader) (void *arg, int part, int *size);

/* 55000 when the bytes are no such thing */
extern void cdp_tag_values_read(TagValues *values, TagPartReader reader, void *arg);

/* out = who has such a value; mask (may be NULL): others do not matter.  False when there is nobody. */
extern bool cdp_tag_values_compare(TagPartReader reader, void *arg, TagOperator op, double literal,
								   const uint64 *mask, uint64 *out);

/* 55000: a row of cdp.tag_bits is not what merge_tags writes */
pg_noreturn extern void cdp_tag_bits_broken(const char *what);

/*
 * What the bitmaps do not know yet (tag_bits_dirty.c).
 */
typedef struct TagHorizon
{
	TimestampTz at;				/* entries that ended by then are taken out .. */
	int64		customer_id;	/* .. those that end at that very moment up to this customer */
} TagHorizon;

/* false: there is none, the bitmaps say nothing */
extern bool cdp_tag_horizon(TagHorizon *horizon);
/* the bitmaps show what a customer had at this moment */
extern TimestampTz cdp_tag_shown_at(const TagHorizon *horizon, int64 customer_id);

/* questions about one customer at a time */
typedef struct TagJudge
{
	TimestampTz at;
	int			n;
	TagQuestion *questions;
} TagJudge;

extern void cdp_tag_judge_open(TagJudge *judge, const TagQuery *const *queries, int n, TimestampTz at);
/* tags as stored, NULL: none */
extern bool cdp_tag_judge(const TagJudge *judge, int question, int64 customer_id, const TagSet *set);
/* for tags that stand in a table; a copy is made in the current context where they are not plain */
extern void cdp_tag_open_stored(TagSet *set, Datum tags, bool isnull);

typedef struct TagDirty
{
	int64		id;
	uint32		age;			/* order of reading: the last one counts */
	uint32		verdicts;		/* its row of them */
} TagDirty;

typedef struct TagDirtySet
{
	int			n;
	TagDirty   *ids;			/* ascending, each once */
	int			stride;			/* bytes of one row of verdicts, a bit for each question */
	uint8	   *verdicts;
} TagDirtySet;

/* false: there are too many, go by rows */
extern bool cdp_tag_dirty_read(TagDirtySet *dirty, const TagJudge *judge, const TagHorizon *horizon);

/* who of everyone changed, in one chunk: nobody of clear, then all of set */
typedef struct TagPatch
{
	int64		chunk;
	uint64	   *set;			/* TAG_CHUNK_WORDS */
	uint64	   *clear;			/* NULL: none */
} TagPatch;

typedef struct TagEveryone
{
	int			npatches;
	TagPatch   *patches;		/* ascending */
	int			ncleared;
	int64	   *cleared;		/* pairs first, last: emptied before the patches */
} TagEveryone;

/* unmerged changes of who is a customer; at most limit rows, whose seqs go to an array with room for them, or NULL */
extern void cdp_tag_everyone_read(TagEveryone *everyone, int limit, int64 **seqs, int *nseqs);
/* words of a chunk as merged become those of now */
extern void cdp_tag_everyone_apply(const TagEveryone *everyone, int64 chunk, uint64 *words);

/* rows of cdp.profile_tag that are customers', ascending */
typedef struct TagRows
{
	CdpProbe   *probe;
	AttrNumber	id_column;
	AttrNumber	tags_column;
	bool		found;
	int64		id;
	Datum		tags;			/* good until the next row */
} TagRows;

extern void cdp_tag_rows_open(TagRows *rows, int64 from);
extern void cdp_tag_rows_next(TagRows *rows);
extern void cdp_tag_rows_close(TagRows *rows);

#endif							/* CDP_TAG_BITS_CHUNK_H */
