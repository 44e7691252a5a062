/*
 * tag_bits.h
 *	  Customers by tag, as bitmaps: the module's face for the others.
 *
 *		CdpTagReader *r = cdp_tag_read_open(&query, 1, at);
 *		int64		chunk;
 *
 *		while (cdp_tag_read_next(r, &chunk))
 *			n += cdp_words_count(cdp_tag_read_words(r, 0), TAG_CHUNK_BITS);
 *		cdp_tag_read_close(r);
 *
 * Answers are those of the active snapshot, changes of the caller's own
 * transaction included; see tag_bits_read.c.
 *
 * SQL: sql/tag_bits.sql.  Tests: test/sql/tag_bits.sql,
 * test/pgtap/tag_bits.sql.  Page: doc/tag_bits.md.
 */
#ifndef CDP_TAG_BITS_H
#define CDP_TAG_BITS_H

#include "audience.h"
#include "tag_query.h"

/* customers of one chunk have the same id >> TAG_CHUNK_BITS; doc/tag_bits.md has what was measured */
#ifndef TAG_CHUNK_BITS
#define TAG_CHUNK_BITS	14
#endif
#define TAG_CHUNK_IDS	(1 << TAG_CHUNK_BITS)
#define TAG_CHUNK_WORDS	CDP_WORDS(TAG_CHUNK_BITS)
#define TAG_CHUNK_BYTES	(TAG_CHUNK_WORDS * 8)

#define TagChunkOf(id)	((id) >> TAG_CHUNK_BITS)
#define TagLowOf(id)	((int) ((id) & (TAG_CHUNK_IDS - 1)))
#define TagChunkId(chunk, low)	((int64) ((uint64) (chunk) << TAG_CHUNK_BITS) + (low))

/* kinds of keys beside those of tag.h: a text, a number, a date of that name; and who is a customer at all */
#define TAG_KEY_TEXT		't'
#define TAG_KEY_NUMBER		'x'
#define TAG_KEY_DATE		'd'
#define TAG_KEY_EVERYONE	'*'

#define TAG_MAX_QUERIES		1024	/* of one reader */

typedef struct CdpTagReader CdpTagReader;

extern CdpTagReader *cdp_tag_read_open(const TagQuery *const *queries, int nqueries, TimestampTz at);
/* the next chunk in which anything may be found, ascending */
extern bool cdp_tag_read_next(CdpTagReader *reader, int64 *chunk);
/* who of it a query holds for: TAG_CHUNK_WORDS words, good until the next call */
extern const uint64 *cdp_tag_read_words(CdpTagReader *reader, int query);
extern void cdp_tag_read_close(CdpTagReader *reader);
/* are the bitmaps of no use for this reader, so that every row is asked every query? */
extern bool cdp_tag_read_goes_by_rows(const CdpTagReader *reader);

/* TAG_CHUNK_WORDS words of an audience; false where it has nobody in that chunk, and then they may not be set */
extern bool cdp_tag_audience_words(const CdpAudience *audience, int64 chunk, uint64 *words);

/*
 * How many of two sets of customers have each key (tag_bits_count.c): names,
 * names with what lies below, text values.  Keys are those of tag.h, n, p
 * and v; name.* is left out where it is the same customers as the name.
 */
typedef struct CdpTagKeyCount
{
	const char *bytes;
	int			len;
	int64		seed;
	int64		base;
} CdpTagKeyCount;

typedef struct CdpTagCounts
{
	int64		seed;			/* customers of it */
	int64		base;
	int			n;
	CdpTagKeyCount *keys;		/* ascending by bytes */
} CdpTagCounts;

/* base NULL: everyone; keys that fewer than least of it have are left out.  No key where one of the two is empty. */
extern void cdp_tag_count_keys(CdpTagCounts *counts, const CdpAudience *seed, const CdpAudience *base,
							   TimestampTz at, int64 least);

/* all customers with tags, ascending: the keys of tags that have not ended by a moment, ascending by bytes */
typedef void (*CdpTagRowKeys) (void *arg, int64 customer_id, const TagKey *keys, int n);
extern void cdp_tag_each_row(TimestampTz at, CdpTagRowKeys take, void *arg);

/*
 * Who stands in segment(name): filled by the module segment when it is
 * loaded.  Answers the members with the active snapshot, NULL when there is
 * no such segment.
 */
typedef const CdpAudience *(*CdpSegmentMembers) (const char *name);
extern CdpSegmentMembers cdp_segment_members_hook;

/* the members of a segment; 42704 when it is unknown */
extern const CdpAudience *cdp_tag_segment(const char *name, int len);

/* how many customers had a key at the last merge; false when no merge ever met it (for estimates) */
extern bool cdp_tag_key_members(const char *key, int len, double *members);
/* and how many customers there were */
extern double cdp_tag_everyone_members(void);

/* handler of cdp._customers_changed */
extern void cdp_tag_bits_customers_changed(int64 winner, int64 loser, const char *action);

#endif							/* CDP_TAG_BITS_H */
