/*
 * audience_container.h
 *	  A set of small whole numbers as bytes: what cdp.audience and the bitmaps
 *	  of tags are made of.
 *
 * A container holds values below 2^bits, bits from 14 to 16, at least one.
 * Its bytes are the same on every machine (little-endian) and need no
 * alignment:
 *
 *		cardinality - 1 (2 bytes), then the shortest of
 *		array	2 bytes per value, ascending
 *		run		2 + 2 bytes per run of neighbours: first, length - 1
 *		bitset	2^bits bits, value 0 the lowest of the first byte
 *
 *		{3,4,5,9} in 10 bytes:	03 00  03 00 04 00 05 00 09 00		array
 *		{0 .. 99} in 6 bytes:	63 00  00 00 63 00					run
 *
 * Equally short: array before bitset before run.  So size and cardinality say
 * which form it is, a set has one form only, and equal sets are equal bytes.
 *
 * The other form here is a word array: 2^bits bits in uint64, aligned, for
 * algebra.  Evaluate whole expressions on word arrays and build a container
 * from the result alone:
 *
 *		uint64 words[CDP_WORDS(14)];
 *		cdp_container_set(words, a, a_size, 14);
 *		cdp_container_andnot(words, b, b_size, 14);
 *		n = cdp_words_count(words, 14);
 *
 * Bytes that others may have written pass cdp_container_check() first; all
 * other functions trust them.  No function allocates or raises.
 *
 * Tests: test/t/021_audience_container.pl, for all three sizes.
 */
#ifndef AUDIENCE_CONTAINER_H
#define AUDIENCE_CONTAINER_H

/* a test program links this without a server */
#ifndef FRONTEND
#include "postgres.h"
#else
#include "postgres_fe.h"
#endif

#include "port/pg_bswap.h"

#define CDP_CONTAINER_HEADER	2

/* uint64 of a word array; most bytes and most values of a container */
#define CDP_WORDS(bits)				(1 << ((bits) - 6))
#define CDP_CONTAINER_MAX(bits)		(CDP_CONTAINER_HEADER + (1 << ((bits) - 3)))
#define CDP_CONTAINER_VALUES(bits)	(1 << (bits))

#ifdef WORDS_BIGENDIAN
#define cdp_le16(x)		pg_bswap16(x)
#define cdp_le32(x)		pg_bswap32(x)
#define cdp_le64(x)		pg_bswap64(x)
#else
#define cdp_le16(x)		(x)
#define cdp_le32(x)		(x)
#define cdp_le64(x)		(x)
#endif

static inline uint16
cdp_get16(const uint8 *p)
{
	uint16		v;

	memcpy(&v, p, sizeof(v));
	return cdp_le16(v);
}

static inline void
cdp_put16(uint8 *p, uint16 v)
{
	uint16		le = cdp_le16(v);

	memcpy(p, &le, sizeof(le));
}

static inline uint64
cdp_get64(const uint8 *p)
{
	uint64		v;

	memcpy(&v, p, sizeof(v));
	return cdp_le64(v);
}

/* number of values, 1 to 2^bits */
static inline int
cdp_container_count(const uint8 *bytes)
{
	return cdp_get16(bytes) + 1;
}

typedef enum CdpContainerKind
{
	CDP_CONTAINER_ARRAY,
	CDP_CONTAINER_BITSET,
	CDP_CONTAINER_RUN
} CdpContainerKind;

/* which form; of sound bytes */
static inline CdpContainerKind
cdp_container_kind(const uint8 *bytes, int size, int bits)
{
	if (size == CDP_CONTAINER_HEADER + 2 * cdp_container_count(bytes))
		return CDP_CONTAINER_ARRAY;
	return size == CDP_CONTAINER_MAX(bits) ? CDP_CONTAINER_BITSET : CDP_CONTAINER_RUN;
}

/* NULL when these are the bytes of a container in its one form, otherwise what is wrong with them */
extern const char *cdp_container_check(const uint8 *bytes, Size size, int bits);

extern bool cdp_container_has(const uint8 *bytes, int size, int bits, uint16 value);
/* all values ascending into room for CDP_CONTAINER_VALUES(bits); answers their number */
extern int	cdp_container_values(const uint8 *bytes, int size, int bits, uint16 *values);
/* all runs, each as a run container has it, into 2^bits * 2 bytes; answers their number */
extern int	cdp_container_runs(const uint8 *bytes, int size, int bits, uint8 *runs);

/* word array = container; |= container; &= container; &= ~container; ^= container */
extern void cdp_container_set(uint64 *words, const uint8 *bytes, int size, int bits);
extern void cdp_container_or(uint64 *words, const uint8 *bytes, int size, int bits);
extern void cdp_container_and(uint64 *words, const uint8 *bytes, int size, int bits);
extern void cdp_container_andnot(uint64 *words, const uint8 *bytes, int size, int bits);
extern void cdp_container_xor(uint64 *words, const uint8 *bytes, int size, int bits);

/*
 * Containers from something else, into room for CDP_CONTAINER_MAX(bits).
 * They answer the size, 0 when there is no value, which no container can be.
 */
extern int	cdp_container_from_words(uint8 *out, const uint64 *words, int bits);
/* values ascending, each once */
extern int	cdp_container_from_values(uint8 *out, const uint16 *values, int n, int bits);
/* first .. last */
extern int	cdp_container_from_range(uint8 *out, int first, int last);
/*
 * Another container without and then with some values, in any order; bytes
 * NULL: of nothing.  out must not be bytes.
 */
extern int	cdp_container_change(uint8 *out, const uint8 *bytes, int size, int bits,
								 const uint16 *remove, int nremove, const uint16 *add, int nadd);

/* number of bits set */
extern int	cdp_words_count(const uint64 *words, int bits);
/* their places ascending; answers their number */
extern int	cdp_words_values(const uint64 *words, int bits, uint16 *values);
/* the bits first .. last */
extern void cdp_words_fill(uint64 *words, int first, int last);
extern void cdp_words_clear(uint64 *words, int first, int last);
extern void cdp_words_flip(uint64 *words, int first, int last);

#endif							/* AUDIENCE_CONTAINER_H */
