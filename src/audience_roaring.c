/*
 * audience_roaring.c
 *	  The public Roaring formats: audience to bytes and back.
 *
 * The format is public ("RoaringFormatSpec", roaringbitmap.org); CRoaring,
 * Java's RoaringBitmap, Spark, ClickHouse and pg_roaringbitmap read and write
 * it.  All numbers are little-endian.  Ids below 2^32:
 *
 *		cookie 12346, number of containers (4 bytes)		without runs
 *		cookie 12347 + (number - 1) << 16, a bit per container: is it of runs
 *		per container: key, cardinality - 1 (2 bytes each)
 *		per container: where it begins (4 bytes)			unless there are
 *						runs and fewer than 4 containers
 *		containers: 2 bytes per value of up to 4096, or 8192 bytes, or the
 *						number of runs and per run first, length - 1
 *
 * Ids of 64 bits: the number of parts (8 bytes), then for each, ascending,
 * the upper half of its ids (4 bytes) and the lower halves as above.
 *
 * Our containers are the same but for the number of runs, so writing is
 * copying.  What comes in may be anything.  It is walked through once before
 * anything is made of it: each number is believed only when the bytes that it
 * speaks of are there, so memory is never more than the bytes call for.
 *
 * SQL: sql/audience.sql.  Tests: test/t/021_audience_fuzz.pl,
 * test/t/021_audience_libroaring.pl.  Page: doc/audience.md.
 */
#include "audience.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_audience_to_roaring);
PG_FUNCTION_INFO_V1(cdp_audience_from_roaring);
PG_FUNCTION_INFO_V1(cdp_audience_to_roaring64);
PG_FUNCTION_INFO_V1(cdp_audience_from_roaring64);

#define BITS				CDP_AUDIENCE_BITS

#define COOKIE_PLAIN		12346
#define COOKIE_RUNS			12347
#define OFFSETS_FROM		4		/* containers, when some are of runs */
#define ARRAY_MOST			4096
#define BITSET_SIZE			8192
#define DESCRIPTION_SIZE	4

/* an id of 64 bits: 32, 16, 16 */
#define KEYS_OF_PART		(INT64CONST(1) << 16)
#define PARTS_MOST			(INT64CONST(1) << 31)

static inline uint32
get32(const uint8 *p)
{
	uint32		v;

	memcpy(&v, p, sizeof(v));
	return cdp_le32(v);
}

static inline uint8 *
put16(uint8 *p, uint16 v)
{
	cdp_put16(p, v);
	return p + sizeof(v);
}

static inline uint8 *
put32(uint8 *p, uint32 v)
{
	uint32		le = cdp_le32(v);

	memcpy(p, &le, sizeof(le));
	return p + sizeof(le);
}

static inline uint8 *
put64(uint8 *p, uint64 v)
{
	uint64		le = cdp_le64(v);

	memcpy(p, &le, sizeof(le));
	return p + sizeof(le);
}

/*
 * Writing
 */

static inline bool
is_run(const uint8 *bytes, int size)
{
	return cdp_container_kind(bytes, size, BITS) == CDP_CONTAINER_RUN;
}

/* What of the head depends on which containers there are. */
static Size
head_size(uint32 n, bool runs)
{
	return (runs ? sizeof(uint32) + (n + 7) / 8 : 2 * sizeof(uint32)) +
		n * DESCRIPTION_SIZE + (!runs || n >= OFFSETS_FROM ? n * sizeof(uint32) : 0);
}

/* Size of the containers from .. to - 1 as one 32-bit bitmap. */
static Size
size_of_32(const CdpAudience *a, uint32 from, uint32 to)
{
	Size		size = 0;
	bool		runs = false;

	for (uint32 i = from; i < to; i++)
	{
		int			len;
		const uint8 *bytes = cdp_audience_container(a, i, &len);

		size += len - CDP_CONTAINER_HEADER;
		if (is_run(bytes, len))
		{
			size += sizeof(uint16);
			runs = true;
		}
	}
	return size + head_size(to - from, runs);
}

/* The containers from .. to - 1 as one 32-bit bitmap; answers its end. */
static uint8 *
write_32(uint8 *out, const CdpAudience *a, uint32 from, uint32 to)
{
	uint32		n = to - from;
	uint8	   *p = out;
	uint8	   *offsets = NULL;
	bool		runs = false;
	int			len;

	for (uint32 i = from; i < to && !runs; i++)
	{
		const uint8 *bytes = cdp_audience_container(a, i, &len);

		runs = is_run(bytes, len);
	}
	if (runs)
	{
		p = put32(p, COOKIE_RUNS | (n - 1) << 16);
		memset(p, 0, (n + 7) / 8);
		for (uint32 i = 0; i < n; i++)
		{
			const uint8 *bytes = cdp_audience_container(a, from + i, &len);

			if (is_run(bytes, len))
				p[i / 8] |= (uint8) (1 << (i & 7));
		}
		p += (n + 7) / 8;
	}
	else
		p = put32(put32(p, COOKIE_PLAIN), n);
	for (uint32 i = from; i < to; i++)
		p = put16(put16(p, (uint16) a->keys[i]), (uint16) (cdp_container_count(cdp_audience_container(a, i, &len)) - 1));
	if (!runs || n >= OFFSETS_FROM)
	{
		offsets = p;
		p += n * sizeof(uint32);
	}
	for (uint32 i = from; i < to; i++)
	{
		const uint8 *bytes = cdp_audience_container(a, i, &len);

		if (offsets)
			offsets = put32(offsets, (uint32) (p - out));
		if (is_run(bytes, len))
			p = put16(p, (uint16) ((len - CDP_CONTAINER_HEADER) / 4));
		memcpy(p, bytes + CDP_CONTAINER_HEADER, len - CDP_CONTAINER_HEADER);
		p += len - CDP_CONTAINER_HEADER;
	}
	return p;
}

static bytea *
new_bytes(uint64 size)
{
	bytea	   *result;

	/* never more than a few bytes per container beyond the audience itself */
	if (size > MaxAllocSize - VARHDRSZ)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the audience is too large"),
				 errdetail("Its Roaring form would exceed 1 GB."),
				 errhint("Split it by ranges of ids.")));
	result = palloc(VARHDRSZ + size);
	SET_VARSIZE(result, VARHDRSZ + size);
	return result;
}

/* Containers from i on that belong to one part: where they end. */
static uint32
end_of_part(const CdpAudience *a, uint32 i)
{
	int64		part = a->keys[i] / KEYS_OF_PART;

	while (i < a->ncontainers && a->keys[i] / KEYS_OF_PART == part)
		i++;
	return i;
}

bytea *
cdp_audience_write64(const CdpAudience *a)
{
	uint64		size = sizeof(uint64);
	uint64		parts = 0;
	bytea	   *result;
	uint8	   *p;

	for (uint32 i = 0, end; i < a->ncontainers; i = end, parts++)
	{
		end = end_of_part(a, i);
		size += sizeof(uint32) + size_of_32(a, i, end);
	}
	result = new_bytes(size);
	p = put64((uint8 *) VARDATA(result), parts);
	for (uint32 i = 0, end; i < a->ncontainers; i = end)
	{
		CHECK_FOR_INTERRUPTS();
		end = end_of_part(a, i);
		p = put32(p, (uint32) (a->keys[i] / KEYS_OF_PART));
		p = write_32(p, a, i, end);
	}
	Assert(p == (uint8 *) result + VARSIZE(result));
	return result;
}

/* cdp.audience_to_roaring64(a) */
Datum
cdp_audience_to_roaring64(PG_FUNCTION_ARGS)
{
	PG_RETURN_BYTEA_P(cdp_audience_write64(cdp_audience_get(PG_GETARG_DATUM(0))));
}

/* audience::bytea */
Datum
cdp_audience_to_roaring(PG_FUNCTION_ARGS)
{
	CdpAudience *a = cdp_audience_get(PG_GETARG_DATUM(0));
	bytea	   *result;

	if (a->ncontainers > 0 && a->keys[a->ncontainers - 1] >= KEYS_OF_PART)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("an id is too large for the 32-bit Roaring format"),
				 errdetail("That format holds ids below 4294967296."),
				 errhint("Use cdp.audience_to_roaring64() and cdp.audience_from_roaring64().")));
	result = new_bytes(size_of_32(a, 0, a->ncontainers));
	write_32((uint8 *) VARDATA(result), a, 0, a->ncontainers);
	PG_RETURN_BYTEA_P(result);
}

/*
 * Reading
 */

/* Bytes from outside; nothing is read before it is known to be there. */
typedef struct Input
{
	const uint8 *bytes;
	Size		size;
	Size		at;
} Input;

pg_noreturn static void
refuse(const Input *in, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
			 errmsg("not a Roaring bitmap"),
			 errdetail("%s (At byte %zu of %zu.)", why, in->at, in->size),
			 errhint("Ids below 2^32 in the portable 32-bit format are cast from bytea; the portable 64-bit format is read by cdp.audience_from_roaring64().")));
}

static inline const uint8 *
take(Input *in, Size size)
{
	const uint8 *p = in->bytes + in->at;

	if (unlikely(in->size - in->at < size))
		refuse(in, "The bytes end early.");
	in->at += size;
	return p;
}

/* The head of a 32-bit bitmap, and where its parts are. */
typedef struct Head
{
	uint32		n;
	const uint8 *runs;			/* NULL: none of runs */
	const uint8 *descriptions;
	const uint8 *offsets;		/* NULL: none are given */
	Size		start;
} Head;

static void
read_head(Input *in, Head *head)
{
	uint32		cookie;

	head->start = in->at;
	head->runs = NULL;
	head->offsets = NULL;
	cookie = get32(take(in, sizeof(uint32)));
	if ((cookie & 0xFFFF) == COOKIE_RUNS)
	{
		head->n = (cookie >> 16) + 1;
		head->runs = take(in, (head->n + 7) / 8);
	}
	else if (cookie == COOKIE_PLAIN)
	{
		head->n = get32(take(in, sizeof(uint32)));
		if (head->n > KEYS_OF_PART)
			refuse(in, "There are more containers than there can be.");
	}
	else
		refuse(in, "The cookie is neither 12346 nor 12347.");
	head->descriptions = take(in, (Size) head->n * DESCRIPTION_SIZE);
	if (head->runs == NULL || head->n >= OFFSETS_FROM)
		head->offsets = take(in, (Size) head->n * sizeof(uint32));
}

static inline uint32
key_at(const Head *head, uint32 i)
{
	return cdp_get16(head->descriptions + i * DESCRIPTION_SIZE);
}

static inline int
count_at(const Head *head, uint32 i)
{
	return cdp_get16(head->descriptions + i * DESCRIPTION_SIZE + 2) + 1;
}

static inline bool
runs_at(const Head *head, uint32 i)
{
	return head->runs && (head->runs[i / 8] & (1 << (i & 7))) != 0;
}

static void
check_array(Input *in, int count)
{
	int			before = -1;

	for (int k = 0; k < count; k++)
	{
		int			v = cdp_get16(take(in, sizeof(uint16)));

		if (v <= before)
			refuse(in, "The values of a container are not ascending.");
		before = v;
	}
}

static void
check_bitset(Input *in, int count)
{
	uint64		words[CDP_WORDS(BITS)];

	memcpy(words, take(in, BITSET_SIZE), BITSET_SIZE);
	/* the order of the bytes of a word does not matter for counting */
	if (cdp_words_count(words, BITS) != count)
		refuse(in, "A bitset has another number of values than it says.");
}

static void
check_runs(Input *in, int count)
{
	int			n = cdp_get16(take(in, sizeof(uint16)));
	int			before = -1;
	int			seen = 0;

	for (int k = 0; k < n; k++)
	{
		const uint8 *run = take(in, 2 * sizeof(uint16));
		int			first = cdp_get16(run);
		int			last = first + cdp_get16(run + sizeof(uint16));

		if (first <= before || last > PG_UINT16_MAX)
			refuse(in, "The runs of a container overlap, are not ascending or leave it.");
		seen += last - first + 1;
		before = last;
	}
	if (seen != count)
		refuse(in, "The runs of a container have another number of values than it says.");
}

/* Walk through a 32-bit bitmap; the input stands behind it afterwards. */
static void
check_32(Input *in)
{
	Head		head;

	read_head(in, &head);
	for (uint32 i = 0; i < head.n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i > 0 && key_at(&head, i) <= key_at(&head, i - 1))
			refuse(in, "The keys of the containers are not ascending.");
		if (head.offsets && get32(head.offsets + i * sizeof(uint32)) != in->at - head.start)
			refuse(in, "The offset of a container is not where it is.");
		if (runs_at(&head, i))
			check_runs(in, count_at(&head, i));
		else if (count_at(&head, i) <= ARRAY_MOST)
			check_array(in, count_at(&head, i));
		else
			check_bitset(in, count_at(&head, i));
	}
}

/* The containers of a 32-bit bitmap that was checked, in their shortest form. */
static void
read_32(Input *in, int64 part, CdpAudienceBuilder *b)
{
	uint64		words[CDP_WORDS(BITS)];
	uint16		values[ARRAY_MOST];
	Head		head;

	read_head(in, &head);
	for (uint32 i = 0; i < head.n; i++)
	{
		uint8	   *out = cdp_audience_build_room(b);
		int			count = count_at(&head, i);
		int			size;

		CHECK_FOR_INTERRUPTS();
		if (runs_at(&head, i))
		{
			int			n = cdp_get16(take(in, sizeof(uint16)));

			memset(words, 0, sizeof(words));
			for (int k = 0; k < n; k++)
			{
				const uint8 *run = take(in, 2 * sizeof(uint16));

				cdp_words_fill(words, cdp_get16(run), cdp_get16(run) + cdp_get16(run + sizeof(uint16)));
			}
			size = cdp_container_from_words(out, words, BITS);
		}
		else if (count <= ARRAY_MOST)
		{
			for (int k = 0; k < count; k++)
				values[k] = cdp_get16(take(in, sizeof(uint16)));
			size = cdp_container_from_values(out, values, count, BITS);
		}
		else
		{
			for (int k = 0; k < CDP_WORDS(BITS); k++)
				words[k] = cdp_get64(take(in, sizeof(uint64)));
			size = cdp_container_from_words(out, words, BITS);
		}
		cdp_audience_build_add(b, part * KEYS_OF_PART + key_at(&head, i), size);
	}
}

CdpAudience *
cdp_audience_read64(const uint8 *bytes, Size size)
{
	Input		in = {bytes, size, 0};
	CdpAudienceBuilder b;
	uint64		parts = cdp_get64(take(&in, sizeof(uint64)));
	int64		before = -1;

	for (uint64 i = 0; i < parts; i++)
	{
		int64		part = get32(take(&in, sizeof(uint32)));

		if (part <= before)
			refuse(&in, "The upper halves of the ids are not ascending.");
		check_32(&in);
		before = part;
	}
	if (in.at != in.size)
		refuse(&in, "There are bytes behind the last container.");
	if (before >= PARTS_MOST)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("id out of range"),
				 errdetail("The bytes hold ids of 9223372036854775808 and more."),
				 errhint("Ids are whole numbers from 0 to 9223372036854775807.")));

	in.at = sizeof(uint64);
	cdp_audience_build_begin(&b);
	for (uint64 i = 0; i < parts; i++)
	{
		int64		part = get32(take(&in, sizeof(uint32)));

		read_32(&in, part, &b);
	}
	return cdp_audience_build_finish(&b);
}

/* cdp.audience_from_roaring64(b) */
Datum
cdp_audience_from_roaring64(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_POINTER(cdp_audience_read64((const uint8 *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)));
}

/* bytea::audience */
Datum
cdp_audience_from_roaring(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	Input		in = {(const uint8 *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), 0};
	CdpAudienceBuilder b;

	check_32(&in);
	if (in.at != in.size)
		refuse(&in, "There are bytes behind the last container.");
	in.at = 0;
	cdp_audience_build_begin(&b);
	read_32(&in, 0, &b);
	PG_RETURN_POINTER(cdp_audience_build_finish(&b));
}
