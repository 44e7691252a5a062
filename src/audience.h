/*
 * audience.h
 *	  Type cdp.audience: a set of ids, packed.
 *
 * An id is a whole number from 0 to 2^63 - 1.  Its upper 48 bits choose a
 * container (audience_container.h), which holds the lower 16:
 *
 *		{1-5,9,70000}	count 7		keys	0		1
 *									ends	12		16		of the bytes of each
 *									bytes	{1-5,9}	{4464}
 *
 * Containers are in ascending order and in their shortest form, so equal sets
 * are equal bytes.  An audience is made through a builder, which takes
 * containers in that order:
 *
 *		CdpAudienceBuilder b;
 *
 *		cdp_audience_build_begin(&b);
 *		n = cdp_container_from_words(cdp_audience_build_room(&b), words, 16);
 *		cdp_audience_build_add(&b, key, n);			-- again and again
 *		audience = cdp_audience_build_finish(&b);
 *
 * What is where: audience.c text and bytes, audience_set.c algebra,
 * audience_ids.c ids in and out, audience_agg.c aggregates,
 * audience_roaring.c the public Roaring formats.
 *
 * SQL: sql/audience.sql.  Tests: test/sql/audience.sql,
 * test/pgtap/audience.sql, test/t/021_audience_*.pl.  Page: doc/audience.md.
 */
#ifndef CDP_AUDIENCE_H
#define CDP_AUDIENCE_H

#include "cdp.h"

#include "audience_container.h"

#define CDP_AUDIENCE_BITS	16

/* the id of a value in the container with that key, and back */
#define CDP_AUDIENCE_ID(key, value)	(((key) << CDP_AUDIENCE_BITS) | (value))
#define CDP_AUDIENCE_KEY(id)		((id) >> CDP_AUDIENCE_BITS)
#define CDP_AUDIENCE_LOW(id)		((uint16) (id))

typedef struct CdpAudience
{
	int32		vl_len_;
	uint32		ncontainers;
	int64		count;			/* ids */
	int64		keys[FLEXIBLE_ARRAY_MEMBER];	/* ascending */
	/* uint32 ends[ncontainers]: where the bytes of a container end */
	/* the bytes of all containers */
} CdpAudience;

static inline const uint32 *
cdp_audience_ends(const CdpAudience *a)
{
	return (const uint32 *) (a->keys + a->ncontainers);
}

/* the bytes of container i */
static inline const uint8 *
cdp_audience_container(const CdpAudience *a, uint32 i, int *size)
{
	const uint32 *ends = cdp_audience_ends(a);
	uint32		start = i == 0 ? 0 : ends[i - 1];

	*size = (int) (ends[i] - start);
	return (const uint8 *) (ends + a->ncontainers) + start;
}

/* what an argument holds, aligned and not to be changed */
extern CdpAudience *cdp_audience_get(Datum value);

/* place of the container with that key, -1 when there is none */
extern int64 cdp_audience_find(const CdpAudience *a, int64 key);

/* NULL when sound, otherwise what is wrong */
extern const char *cdp_audience_check(const CdpAudience *a);

typedef struct CdpAudienceBuilder
{
	uint32		n;
	uint32		room;			/* containers that there is room for */
	int64		count;
	int64	   *keys;
	uint32	   *ends;
	uint8	   *bytes;
	Size		bytes_room;
} CdpAudienceBuilder;

extern void cdp_audience_build_begin(CdpAudienceBuilder *b);
/* where the bytes of the next container go: room for the largest */
extern uint8 *cdp_audience_build_room(CdpAudienceBuilder *b);
/* the container that was written there; size 0: there is none */
extern void cdp_audience_build_add(CdpAudienceBuilder *b, int64 key, int size);
/* a container that stands elsewhere */
extern void cdp_audience_build_put(CdpAudienceBuilder *b, int64 key, const uint8 *bytes, int size);
/* all ids of a range */
extern void cdp_audience_build_put_range(CdpAudienceBuilder *b, int64 first, int64 last);
extern CdpAudience *cdp_audience_build_finish(CdpAudienceBuilder *b);
/* 54000 unless that many containers of that many bytes together can be one audience */
extern void cdp_audience_check_size(uint64 ncontainers, uint64 nbytes);

/* 22003: an id below 0 */
pg_noreturn extern void cdp_audience_refuse_negative(void);

/* a set that changes (audience_agg.c): a read-write expanded object */
typedef struct CdpAudienceState CdpAudienceState;

extern CdpAudienceState *cdp_audience_state_new(MemoryContext parent);
/* of a datum that is an expanded object */
extern CdpAudienceState *cdp_audience_state_of(Datum value);
extern void cdp_audience_state_add(CdpAudienceState *state, int64 id);
extern void cdp_audience_state_add_all(CdpAudienceState *state, const CdpAudience *a);
/* the set as it is now; belongs to the state, good until its next change */
extern CdpAudience *cdp_audience_state_value(CdpAudienceState *state);

/* the portable 64-bit Roaring format (audience_roaring.c) */
extern bytea *cdp_audience_write64(const CdpAudience *a);
extern CdpAudience *cdp_audience_read64(const uint8 *bytes, Size size);

#endif							/* CDP_AUDIENCE_H */
