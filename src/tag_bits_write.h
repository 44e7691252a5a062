/*
 * tag_bits_write.h
 *	  Changes of the bitmaps: gathered, sorted, written chunk by chunk.
 *
 *		TagWriter  *w = cdp_tag_writer_open();
 *
 *		cdp_tag_writer_diff(w, customer_id, &old, old_at, &new, new_at);	-- for each customer
 *		cdp_tag_writer_flush(w);
 *
 * Only who holds the row of cdp.tag_horizon writes bitmaps, and the active
 * snapshot must not be older than that lock.
 */
#ifndef CDP_TAG_BITS_WRITE_H
#define CDP_TAG_BITS_WRITE_H

#include "tag_bits_chunk.h"

typedef struct TagWriter TagWriter;

extern TagWriter *cdp_tag_writer_open(void);
/* the customer's keys at one moment leave, those at the other come; NULL: none */
extern void cdp_tag_writer_diff(TagWriter *writer, int64 customer_id, const TagSet *old, TimestampTz old_at,
								const TagSet *new, TimestampTz new_at);
/* bytes that wait */
extern Size cdp_tag_writer_size(const TagWriter *writer);
/* write all that waits; each chunk of a key at most once under one snapshot */
extern void cdp_tag_writer_flush(TagWriter *writer);

/* keys of a customer that come or go (tag_bits_facts.c); what it allocates is left to the current context */
typedef struct TagFact
{
	const char *bytes;
	int			len;
	double		value;			/* of numbers and dates */
} TagFact;

typedef void (*TagFactChange) (void *arg, const TagFact *fact, bool added);
extern void cdp_tag_facts_diff(const TagSet *old, TimestampTz old_at, const TagSet *new, TimestampTz new_at,
							   TagFactChange change, void *arg);

/* a key's id, given out when it has none and make is true; 0: none */
extern int32 cdp_tag_key_id(const char *key, int len, bool make);

/* bitmaps that are complete; nothing is sure to be written before the end */
extern void cdp_tag_write_begin(void);
extern void cdp_tag_write_words(int32 key_id, int64 chunk, const uint64 *words);
extern void cdp_tag_write_end(void);

/* what a key has in a chunk; false: nothing */
typedef struct TagChunkReader
{
	CdpProbe   *probe;
	AttrNumber	bits_column;
	int32		key_id;
	int64		chunk;
	struct varlena *copy;		/* of a row that was not plain */
} TagChunkReader;

extern void cdp_tag_chunk_open(TagChunkReader *reader);
extern bool cdp_tag_chunk_words(TagChunkReader *reader, int32 key_id, int64 chunk, uint64 *words);
/* as TagPartReader, of the chunk that was set */
extern const uint8 *cdp_tag_chunk_part(void *reader, int part, int *size);
extern void cdp_tag_chunk_close(TagChunkReader *reader);

/* lock the one row of cdp.tag_horizon: whoever holds it writes bitmaps, nobody else does (tag_bits_merge.c) */
extern void cdp_tag_lock_horizon(void);

/* one thing that is wrong; key is that of a tag, or NULL (tag_bits_verify.c) */
typedef void (*TagReport) (void *arg, const char *problem, const char *key, int len, int64 customer_id);
extern void cdp_tag_verify_everyone(TagReport report, void *arg);
/* what waits in a writer, all of it gains, all of one chunk, against what is written, but for some of its customers */
extern void cdp_tag_writer_compare(TagWriter *writer, int64 chunk, const List *keys, const uint64 *but_for,
								   TagReport report, void *arg);

/* changes of who is a customer (tag_bits_everyone.c); answers how many rows of cdp.tag_everyone were used up */
extern int64 cdp_tag_merge_everyone(int batch);

#endif							/* CDP_TAG_BITS_WRITE_H */
