/*
 * audience.c
 *	  Type cdp.audience: how it is made, its text and binary form, equality.
 *
 * Text is a list of ids and ranges, `{1-5,9}`.  Read, it may be in any order
 * and overlap; written, it is ascending, each id once, neighbours joined.
 *
 * Binary, for clients and COPY: a version byte (1) and the portable 64-bit
 * Roaring format, so there is one reader for bytes from outside
 * (audience_roaring.c).
 *
 * The bytes of a value are described in audience.h.
 *
 * SQL: sql/audience.sql.  Tests: test/sql/audience.sql.  Page:
 * doc/audience.md.
 */
#include "audience.h"

#include "access/detoast.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/expandeddatum.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_audience_in);
PG_FUNCTION_INFO_V1(cdp_audience_out);
PG_FUNCTION_INFO_V1(cdp_audience_recv);
PG_FUNCTION_INFO_V1(cdp_audience_send);
PG_FUNCTION_INFO_V1(cdp_audience_check_sql);
PG_FUNCTION_INFO_V1(cdp_audience_eq);
PG_FUNCTION_INFO_V1(cdp_audience_ne);
PG_FUNCTION_INFO_V1(cdp_audience_hash);
PG_FUNCTION_INFO_V1(cdp_audience_hash_extended);

#define BINARY_VERSION	1

/* bytes of a value beside those of its containers */
#define HEAD_SIZE		offsetof(CdpAudience, keys)
#define ENTRY_SIZE		(sizeof(int64) + sizeof(uint32))
/* the smallest container */
#define LEAST_BYTES		(CDP_CONTAINER_HEADER + 2)

#define TEXT_HINT	"Write ids and ranges of ids inside braces: {1-5,9}."

void
cdp_audience_refuse_negative(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
			 errmsg("an audience holds no negative ids"),
			 errhint("Ids are whole numbers from 0 to 9223372036854775807.")));
}

void
cdp_audience_check_size(uint64 ncontainers, uint64 nbytes)
{
	if (ncontainers > MaxAllocSize / ENTRY_SIZE || nbytes > MaxAllocSize ||
		HEAD_SIZE + ncontainers * ENTRY_SIZE + nbytes > MaxAllocSize)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the audience is too large"),
				 errdetail("Its packed form would exceed 1 GB."),
				 errhint("Split it by ranges of ids.")));
}

/*
 * Reading a value
 */

CdpAudience *
cdp_audience_get(Datum value)
{
	struct varlena *v = (struct varlena *) DatumGetPointer(value);
	CdpAudience *a;

	if (VARATT_IS_EXTERNAL_EXPANDED(v))
		return cdp_audience_state_value(cdp_audience_state_of(value));
	a = (CdpAudience *) PG_DETOAST_DATUM(value);
	Assert(cdp_audience_check(a) == NULL);
	return a;
}

int64
cdp_audience_find(const CdpAudience *a, int64 key)
{
	int64		low = 0;
	int64		high = (int64) a->ncontainers - 1;

	while (low <= high)
	{
		int64		mid = (low + high) / 2;

		if (a->keys[mid] == key)
			return mid;
		if (a->keys[mid] < key)
			low = mid + 1;
		else
			high = mid - 1;
	}
	return -1;
}

const char *
cdp_audience_check(const CdpAudience *a)
{
	Size		size = VARSIZE(a);
	int64		count = 0;
	uint32		end = 0;

	if (size < HEAD_SIZE || a->ncontainers > (size - HEAD_SIZE) / ENTRY_SIZE)
		return "The directory is longer than the value.";
	for (uint32 i = 0; i < a->ncontainers; i++)
	{
		Size		start = end;
		const uint8 *bytes;
		int			len;
		const char *why;

		end = cdp_audience_ends(a)[i];
		if (end < start || end > size - HEAD_SIZE - a->ncontainers * ENTRY_SIZE)
			return "A container ends outside of the value.";
		if (a->keys[i] < 0 || a->keys[i] > CDP_AUDIENCE_KEY(PG_INT64_MAX) || (i > 0 && a->keys[i] <= a->keys[i - 1]))
			return "Containers are not ascending.";
		bytes = cdp_audience_container(a, i, &len);
		why = cdp_container_check(bytes, len, CDP_AUDIENCE_BITS);
		if (why)
			return why;
		count += cdp_container_count(bytes);
	}
	if (end != size - HEAD_SIZE - a->ncontainers * ENTRY_SIZE)
		return "There are bytes after the last container.";
	if (count != a->count)
		return "The number of ids is another than it says.";
	return NULL;
}

/* cdp._audience_check(a) */
Datum
cdp_audience_check_sql(PG_FUNCTION_ARGS)
{
	const char *why = cdp_audience_check(cdp_audience_get(PG_GETARG_DATUM(0)));

	if (why == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(why));
}

/*
 * Making a value
 */

void
cdp_audience_build_begin(CdpAudienceBuilder *b)
{
	b->n = 0;
	b->count = 0;
	b->room = 16;
	b->keys = palloc(b->room * sizeof(int64));
	b->ends = palloc(b->room * sizeof(uint32));
	b->bytes_room = CDP_CONTAINER_MAX(CDP_AUDIENCE_BITS);
	b->bytes = palloc(b->bytes_room);
}

static inline Size
bytes_used(const CdpAudienceBuilder *b)
{
	return b->n == 0 ? 0 : b->ends[b->n - 1];
}

uint8 *
cdp_audience_build_room(CdpAudienceBuilder *b)
{
	Size		used = bytes_used(b);

	if (b->bytes_room - used < CDP_CONTAINER_MAX(CDP_AUDIENCE_BITS))
	{
		/* the check left room below 1 GB for what is there, not for one more */
		b->bytes_room = Min(2 * b->bytes_room + CDP_CONTAINER_MAX(CDP_AUDIENCE_BITS),
							MaxAllocSize + CDP_CONTAINER_MAX(CDP_AUDIENCE_BITS));
		b->bytes = repalloc_huge(b->bytes, b->bytes_room);
	}
	return b->bytes + used;
}

void
cdp_audience_build_add(CdpAudienceBuilder *b, int64 key, int size)
{
	Size		used = bytes_used(b);

	if (size == 0)
		return;
	Assert(key >= 0 && key <= CDP_AUDIENCE_KEY(PG_INT64_MAX));
	Assert(b->n == 0 || key > b->keys[b->n - 1]);
	Assert(cdp_container_check(b->bytes + used, size, CDP_AUDIENCE_BITS) == NULL);
	if (b->n == b->room)
	{
		cdp_audience_check_size(b->n + 1, used + size);
		b->room *= 2;
		b->keys = repalloc_huge(b->keys, b->room * sizeof(int64));
		b->ends = repalloc_huge(b->ends, b->room * sizeof(uint32));
	}
	if (unlikely(used + size > MaxAllocSize))
		cdp_audience_check_size(b->n + 1, used + size);
	b->count += cdp_container_count(b->bytes + used);
	b->keys[b->n] = key;
	b->ends[b->n] = (uint32) (used + size);
	b->n++;
}

void
cdp_audience_build_put(CdpAudienceBuilder *b, int64 key, const uint8 *bytes, int size)
{
	memcpy(cdp_audience_build_room(b), bytes, size);
	cdp_audience_build_add(b, key, size);
}

void
cdp_audience_build_put_range(CdpAudienceBuilder *b, int64 first, int64 last)
{
	int64		end = CDP_AUDIENCE_KEY(last);

	for (int64 key = CDP_AUDIENCE_KEY(first); key <= end; key++)
	{
		int			size;

		CHECK_FOR_INTERRUPTS();
		size = cdp_container_from_range(cdp_audience_build_room(b),
										key == CDP_AUDIENCE_KEY(first) ? CDP_AUDIENCE_LOW(first) : 0,
										key == end ? CDP_AUDIENCE_LOW(last) : PG_UINT16_MAX);
		cdp_audience_build_add(b, key, size);
	}
}

CdpAudience *
cdp_audience_build_finish(CdpAudienceBuilder *b)
{
	Size		used = bytes_used(b);
	Size		size;
	CdpAudience *a;

	cdp_audience_check_size(b->n, used);
	size = HEAD_SIZE + b->n * ENTRY_SIZE + used;
	a = palloc(size);
	SET_VARSIZE(a, size);
	a->ncontainers = b->n;
	a->count = b->count;
	memcpy(a->keys, b->keys, b->n * sizeof(int64));
	memcpy(a->keys + b->n, b->ends, b->n * sizeof(uint32));
	memcpy((uint8 *) a + size - used, b->bytes, used);
	pfree(b->keys);
	pfree(b->ends);
	pfree(b->bytes);
	Assert(cdp_audience_check(a) == NULL);
	return a;
}

/*
 * Text
 */

typedef struct Range
{
	int64		first;
	int64		last;
} Range;

typedef struct Reader
{
	const char *text;
	const char *at;
	Node	   *escontext;
	bool		failed;
} Reader;

static void
malformed(Reader *r, const char *wanted)
{
	r->failed = true;
	errsave(r->escontext,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("malformed audience"),
			 errdetail("Character %d: expected %s.", (int) (r->at - r->text) + 1, wanted),
			 errhint(TEXT_HINT)));
}

/* the character that comes next, after white space */
static inline char
next_char(Reader *r)
{
	while (*r->at == ' ' || (*r->at >= '\t' && *r->at <= '\r'))
		r->at++;
	return *r->at;
}

static int64
read_id(Reader *r, const char *wanted)
{
	uint64		id = 0;
	bool		negative = next_char(r) == '-';
	const char *start;

	if (negative)
		r->at++;
	start = r->at;
	while (*r->at >= '0' && *r->at <= '9')
	{
		if (id <= (uint64) PG_INT64_MAX)
			id = id * 10 + (*r->at - '0');
		r->at++;
	}
	if (r->at == start)
		malformed(r, wanted);
	else if (negative || id > (uint64) PG_INT64_MAX)
	{
		r->failed = true;
		errsave(r->escontext,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 negative ? errmsg("an audience holds no negative ids") : errmsg("id out of range"),
				 errdetail("It begins at character %d.", (int) (start - r->text) + 1 - negative),
				 errhint("Ids are whole numbers from 0 to 9223372036854775807.")));
	}
	return (int64) id;
}

static int
compare_ranges(const void *a, const void *b)
{
	int64		x = ((const Range *) a)->first;
	int64		y = ((const Range *) b)->first;

	return x < y ? -1 : x > y;
}

/* The ranges of a text, NULL after a soft error. */
static Range *
read_ranges(Reader *r, Size *n)
{
	Size		room = 32;
	Range	   *ranges = palloc(room * sizeof(Range));
	bool		sorted = true;

	*n = 0;
	if (next_char(r) != '{')
	{
		malformed(r, "\"{\"");
		return NULL;
	}
	r->at++;
	if (next_char(r) == '}')
		r->at++;
	else
		for (;;)
		{
			Range		range;

			range.first = read_id(r, "an id");
			if (r->failed)
				return NULL;
			range.last = range.first;
			if (next_char(r) == '-')
			{
				const char *dash = r->at++;

				range.last = read_id(r, "the last id of the range");
				if (r->failed)
					return NULL;
				if (range.last < range.first)
				{
					r->at = dash + 1;
					malformed(r, "the last id of the range, which is not below the first");
					return NULL;
				}
			}
			if (*n == room)
			{
				room *= 2;
				ranges = repalloc_huge(ranges, room * sizeof(Range));
			}
			sorted = sorted && (*n == 0 || range.first > ranges[*n - 1].first);
			ranges[(*n)++] = range;
			if (next_char(r) == '}')
			{
				r->at++;
				break;
			}
			if (*r->at != ',')
			{
				malformed(r, "\",\" or \"}\"");
				return NULL;
			}
			r->at++;
			CHECK_FOR_INTERRUPTS();
		}
	if (next_char(r) != '\0')
	{
		malformed(r, "nothing after \"}\"");
		return NULL;
	}
	if (!sorted)
		qsort(ranges, *n, sizeof(Range), compare_ranges);
	return ranges;
}

/* Ascending ranges become disjoint ones with gaps between them; also asks whether the result has room. */
static Size
join_ranges(Range *ranges, Size n)
{
	Size		m = 0;
	uint64		containers = 0;

	for (Size i = 0; i < n; i++)
	{
		if (m > 0 && ranges[i].first - 1 <= ranges[m - 1].last)
			ranges[m - 1].last = Max(ranges[m - 1].last, ranges[i].last);
		else
			ranges[m++] = ranges[i];
	}
	for (Size i = 0; i < m; i++)
		containers += CDP_AUDIENCE_KEY(ranges[i].last) - CDP_AUDIENCE_KEY(ranges[i].first) +
			(i == 0 || CDP_AUDIENCE_KEY(ranges[i].first) > CDP_AUDIENCE_KEY(ranges[i - 1].last));
	cdp_audience_check_size(containers, containers * LEAST_BYTES);
	return m;
}

/* The ranges of one container. */
static int
container_from_ranges(uint8 *out, const Range *ranges, Size n, int64 key)
{
	uint64		words[CDP_WORDS(CDP_AUDIENCE_BITS)];

	memset(words, 0, sizeof(words));
	for (Size i = 0; i < n; i++)
		cdp_words_fill(words,
					   CDP_AUDIENCE_KEY(ranges[i].first) == key ? CDP_AUDIENCE_LOW(ranges[i].first) : 0,
					   CDP_AUDIENCE_KEY(ranges[i].last) == key ? CDP_AUDIENCE_LOW(ranges[i].last) : PG_UINT16_MAX);
	return cdp_container_from_words(out, words, CDP_AUDIENCE_BITS);
}

/* cdp.audience from text */
Datum
cdp_audience_in(PG_FUNCTION_ARGS)
{
	Reader		r = {PG_GETARG_CSTRING(0), PG_GETARG_CSTRING(0), fcinfo->context, false};
	CdpAudienceBuilder b;
	Size		n;
	Range	   *ranges = read_ranges(&r, &n);

	if (ranges == NULL)
		PG_RETURN_NULL();
	n = join_ranges(ranges, n);
	cdp_audience_build_begin(&b);
	for (Size i = 0; i < n;)
	{
		int64		key = CDP_AUDIENCE_KEY(ranges[i].first);
		Size		from = i++;

		CHECK_FOR_INTERRUPTS();
		while (i < n && CDP_AUDIENCE_KEY(ranges[i].first) == key)
			i++;
		/* what the last range has beyond this container is the next one's */
		if (i - from == 1)
		{
			int64		end = Min(ranges[from].last, CDP_AUDIENCE_ID(key, PG_UINT16_MAX));

			cdp_audience_build_put_range(&b, ranges[from].first, end);
		}
		else
			cdp_audience_build_add(&b, key, container_from_ranges(cdp_audience_build_room(&b), ranges + from, i - from, key));
		if (CDP_AUDIENCE_KEY(ranges[i - 1].last) > key)
		{
			int64		next = CDP_AUDIENCE_KEY(ranges[i - 1].last);

			/* containers that are full need no look at other ranges */
			if (next > key + 1)
				cdp_audience_build_put_range(&b, CDP_AUDIENCE_ID(key + 1, 0), CDP_AUDIENCE_ID(next - 1, PG_UINT16_MAX));
			ranges[--i].first = CDP_AUDIENCE_ID(next, 0);
		}
	}
	PG_RETURN_POINTER(cdp_audience_build_finish(&b));
}

static void
put_range(StringInfo buf, int64 first, int64 last)
{
	enlargeStringInfo(buf, 2 * (MAXINT8LEN + 1));
	buf->len += pg_lltoa(first, buf->data + buf->len);
	if (last > first)
	{
		buf->data[buf->len++] = last > first + 1 ? '-' : ',';
		buf->len += pg_lltoa(last, buf->data + buf->len);
	}
	buf->data[buf->len++] = ',';
}

/* cdp.audience to text */
Datum
cdp_audience_out(PG_FUNCTION_ARGS)
{
	CdpAudience *a = cdp_audience_get(PG_GETARG_DATUM(0));
	uint8	   *runs = palloc(2 * CDP_CONTAINER_VALUES(CDP_AUDIENCE_BITS));
	Range		open = {0, -1};
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	for (uint32 i = 0; i < a->ncontainers; i++)
	{
		int			size;
		const uint8 *bytes = cdp_audience_container(a, i, &size);
		int			n = cdp_container_runs(bytes, size, CDP_AUDIENCE_BITS, runs);

		CHECK_FOR_INTERRUPTS();
		for (int k = 0; k < n; k++)
		{
			int64		first = CDP_AUDIENCE_ID(a->keys[i], (int64) cdp_get16(runs + 4 * k));

			/* a run may go on in the next container */
			if (open.last < open.first || first != open.last + 1)
			{
				if (open.last >= open.first)
					put_range(&buf, open.first, open.last);
				open.first = first;
			}
			open.last = first + cdp_get16(runs + 4 * k + 2);
		}
	}
	if (open.last >= open.first)
	{
		put_range(&buf, open.first, open.last);
		buf.len--;				/* the comma */
	}
	appendStringInfoChar(&buf, '}');
	PG_RETURN_CSTRING(buf.data);
}

/*
 * Binary form
 */

/* cdp.audience from its binary form */
Datum
cdp_audience_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	int			size = buf->len - buf->cursor - 1;

	if (size < 0 || pq_getmsgbyte(buf) != BINARY_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("binary form of an audience without a version that is known"),
				 errhint("It is a byte 1, then the portable 64-bit Roaring format.")));
	PG_RETURN_POINTER(cdp_audience_read64((const uint8 *) pq_getmsgbytes(buf, size), size));
}

/* cdp.audience to its binary form */
Datum
cdp_audience_send(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = cdp_audience_write64(cdp_audience_get(PG_GETARG_DATUM(0)));
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbyte(&buf, BINARY_VERSION);
	pq_sendbytes(&buf, VARDATA(bytes), VARSIZE(bytes) - VARHDRSZ);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

/*
 * Equality: sets are equal when their bytes are.
 */

static bool
audience_eq(Datum x, Datum y)
{
	struct varlena *v = (struct varlena *) DatumGetPointer(x);
	struct varlena *w = (struct varlena *) DatumGetPointer(y);
	CdpAudience *a;
	CdpAudience *b;

	/* lengths are known without reading what is stored apart */
	if (!VARATT_IS_EXTERNAL_EXPANDED(v) && !VARATT_IS_EXTERNAL_EXPANDED(w) &&
		toast_raw_datum_size(x) != toast_raw_datum_size(y))
		return false;
	a = cdp_audience_get(x);
	b = cdp_audience_get(y);
	return VARSIZE(a) == VARSIZE(b) && memcmp(VARDATA(a), VARDATA(b), VARSIZE(a) - VARHDRSZ) == 0;
}

/* audience = audience */
Datum
cdp_audience_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(audience_eq(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)));
}

/* audience <> audience */
Datum
cdp_audience_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!audience_eq(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)));
}

/* hash operator class, function 1 */
Datum
cdp_audience_hash(PG_FUNCTION_ARGS)
{
	CdpAudience *a = cdp_audience_get(PG_GETARG_DATUM(0));

	return hash_any((unsigned char *) VARDATA(a), (int) (VARSIZE(a) - VARHDRSZ));
}

/* hash operator class, function 2 */
Datum
cdp_audience_hash_extended(PG_FUNCTION_ARGS)
{
	CdpAudience *a = cdp_audience_get(PG_GETARG_DATUM(0));

	return hash_any_extended((unsigned char *) VARDATA(a), (int) (VARSIZE(a) - VARHDRSZ), PG_GETARG_INT64(1));
}
