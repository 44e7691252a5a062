/*
 * audience_set.c
 *	  Algebra of audiences: a & b, a | b, a - b, a # b, and questions.
 *
 * Two audiences are walked side by side, like two sorted lists of containers.
 * A container that only one of them has is copied or left out as it is; two
 * of the same key meet in one of three ways:
 *
 *		equal bytes			the answer is known
 *		short arrays		merged, or looked up in the other
 *		everything else		as words, which have no cases (a bitset of 8 kB
 *							takes less time than a thousand comparisons)
 *
 * SQL: sql/audience.sql.  Tests: test/sql/audience.sql,
 * test/pgtap/audience.sql.  Page: doc/audience.md.
 */
#include "audience.h"

#include "access/detoast.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/expandeddatum.h"

PG_FUNCTION_INFO_V1(cdp_audience_and);
PG_FUNCTION_INFO_V1(cdp_audience_or);
PG_FUNCTION_INFO_V1(cdp_audience_minus);
PG_FUNCTION_INFO_V1(cdp_audience_xor);
PG_FUNCTION_INFO_V1(cdp_audience_overlaps);
PG_FUNCTION_INFO_V1(cdp_audience_contains);
PG_FUNCTION_INFO_V1(cdp_audience_contained);
PG_FUNCTION_INFO_V1(cdp_audience_count);

#define BITS	CDP_AUDIENCE_BITS

/* two arrays with fewer values together than this are merged */
#define MERGE_BELOW		512
/* an array with fewer values than this is looked up in the other container */
#define PROBE_BELOW		128

/* an operation, as which part of the diagram it keeps */
#define KEEP_A		1			/* what only a has */
#define KEEP_BOTH	2
#define KEEP_B		4

#define OP_AND		KEEP_BOTH
#define OP_OR		(KEEP_A | KEEP_BOTH | KEEP_B)
#define OP_MINUS	KEEP_A
#define OP_XOR		(KEEP_A | KEEP_B)

typedef struct Part
{
	const uint8 *bytes;
	int			size;
} Part;

static inline Part
part_of(const CdpAudience *a, uint32 i)
{
	Part		p;

	p.bytes = cdp_audience_container(a, i, &p.size);
	return p;
}

static inline bool
is_array(Part p)
{
	return cdp_container_kind(p.bytes, p.size, BITS) == CDP_CONTAINER_ARRAY;
}

static inline uint16
value_at(Part p, int i)
{
	return cdp_get16(p.bytes + CDP_CONTAINER_HEADER + 2 * i);
}

/* Two arrays. */
static int
merge_arrays(uint8 *out, Part a, Part b, int keep)
{
	uint16		values[MERGE_BELOW];
	int			na = cdp_container_count(a.bytes);
	int			nb = cdp_container_count(b.bytes);
	int			i = 0;
	int			k = 0;
	int			n = 0;

	while (i < na && k < nb)
	{
		uint16		x = value_at(a, i);
		uint16		y = value_at(b, k);

		values[n] = Min(x, y);
		n += (keep & (x < y ? KEEP_A : x == y ? KEEP_BOTH : KEEP_B)) != 0;
		i += x <= y;
		k += y <= x;
	}
	if (keep & KEEP_A)
		while (i < na)
			values[n++] = value_at(a, i++);
	if (keep & KEEP_B)
		while (k < nb)
			values[n++] = value_at(b, k++);
	return cdp_container_from_values(out, values, n, BITS);
}

/* The values of an array that are in another container, or are not. */
static int
filter_array(uint8 *out, Part a, Part b, bool in)
{
	uint16		values[PROBE_BELOW];
	int			n = 0;

	for (int i = 0; i < cdp_container_count(a.bytes); i++)
	{
		values[n] = value_at(a, i);
		n += cdp_container_has(b.bytes, b.size, BITS, values[n]) == in;
	}
	return cdp_container_from_values(out, values, n, BITS);
}

/* Two containers of the same key; answers the size of the new one. */
static int
combine_parts(uint8 *out, Part a, Part b, int keep)
{
	uint64		words[CDP_WORDS(BITS)];
	int			na = cdp_container_count(a.bytes);
	int			nb = cdp_container_count(b.bytes);

	if (a.size == b.size && memcmp(a.bytes, b.bytes, a.size) == 0)
	{
		if (!(keep & KEEP_BOTH))
			return 0;
		memcpy(out, a.bytes, a.size);
		return a.size;
	}
	if (na + nb <= MERGE_BELOW && is_array(a) && is_array(b))
		return merge_arrays(out, a, b, keep);
	if (!(keep & KEEP_B) && na <= PROBE_BELOW && is_array(a))
		return filter_array(out, a, b, keep == OP_AND);
	if (keep == OP_AND && nb <= PROBE_BELOW && is_array(b))
		return filter_array(out, b, a, true);
	cdp_container_set(words, a.bytes, a.size, BITS);
	switch (keep)
	{
		case OP_AND:
			cdp_container_and(words, b.bytes, b.size, BITS);
			break;
		case OP_OR:
			cdp_container_or(words, b.bytes, b.size, BITS);
			break;
		case OP_MINUS:
			cdp_container_andnot(words, b.bytes, b.size, BITS);
			break;
		case OP_XOR:
			cdp_container_xor(words, b.bytes, b.size, BITS);
			break;
	}
	return cdp_container_from_words(out, words, BITS);
}

static CdpAudience *
combine(const CdpAudience *a, const CdpAudience *b, int keep)
{
	CdpAudienceBuilder result;
	uint32		i = 0;
	uint32		k = 0;

	cdp_audience_build_begin(&result);
	while (i < a->ncontainers || k < b->ncontainers)
	{
		bool		from_a = i < a->ncontainers && (k == b->ncontainers || a->keys[i] <= b->keys[k]);
		bool		from_b = k < b->ncontainers && (i == a->ncontainers || b->keys[k] <= a->keys[i]);

		CHECK_FOR_INTERRUPTS();
		if (from_a && from_b)
			cdp_audience_build_add(&result, a->keys[i],
								   combine_parts(cdp_audience_build_room(&result), part_of(a, i), part_of(b, k), keep));
		else if (from_a ? (keep & KEEP_A) : (keep & KEEP_B))
		{
			Part		p = from_a ? part_of(a, i) : part_of(b, k);

			cdp_audience_build_put(&result, from_a ? a->keys[i] : b->keys[k], p.bytes, p.size);
		}
		i += from_a;
		k += from_b;
	}
	return cdp_audience_build_finish(&result);
}

/* audience & audience */
Datum
cdp_audience_and(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(combine(cdp_audience_get(PG_GETARG_DATUM(0)), cdp_audience_get(PG_GETARG_DATUM(1)), OP_AND));
}

/* audience | audience */
Datum
cdp_audience_or(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(combine(cdp_audience_get(PG_GETARG_DATUM(0)), cdp_audience_get(PG_GETARG_DATUM(1)), OP_OR));
}

/* audience - audience */
Datum
cdp_audience_minus(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(combine(cdp_audience_get(PG_GETARG_DATUM(0)), cdp_audience_get(PG_GETARG_DATUM(1)), OP_MINUS));
}

/* audience # audience: what is in one of them only */
Datum
cdp_audience_xor(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(combine(cdp_audience_get(PG_GETARG_DATUM(0)), cdp_audience_get(PG_GETARG_DATUM(1)), OP_XOR));
}

static bool
parts_overlap(Part a, Part b)
{
	uint64		words[CDP_WORDS(BITS)];

	if (is_array(b) && !(is_array(a) && cdp_container_count(a.bytes) < cdp_container_count(b.bytes)))
	{
		Part		swap = a;

		a = b;
		b = swap;
	}
	if (is_array(a))
	{
		for (int i = 0; i < cdp_container_count(a.bytes); i++)
			if (cdp_container_has(b.bytes, b.size, BITS, value_at(a, i)))
				return true;
		return false;
	}
	cdp_container_set(words, a.bytes, a.size, BITS);
	cdp_container_and(words, b.bytes, b.size, BITS);
	return cdp_words_count(words, BITS) > 0;
}

/* audience && audience: have they an id in common? */
Datum
cdp_audience_overlaps(PG_FUNCTION_ARGS)
{
	CdpAudience *a = cdp_audience_get(PG_GETARG_DATUM(0));
	CdpAudience *b = cdp_audience_get(PG_GETARG_DATUM(1));

	for (uint32 i = 0, k = 0; i < a->ncontainers && k < b->ncontainers;)
	{
		CHECK_FOR_INTERRUPTS();
		if (a->keys[i] < b->keys[k])
			i++;
		else if (a->keys[i] > b->keys[k])
			k++;
		else if (parts_overlap(part_of(a, i++), part_of(b, k++)))
			PG_RETURN_BOOL(true);
	}
	PG_RETURN_BOOL(false);
}

/*
 * A stored audience that is asked for every row of a table is read once: what
 * was read last is kept for the query, known by where it is stored.
 */
typedef struct Kept
{
	struct varatt_external where;
	CdpAudience *audience;
} Kept;

static CdpAudience *
get_kept(FunctionCallInfo fcinfo, int arg)
{
	struct varlena *v = (struct varlena *) PG_GETARG_POINTER(arg);
	Kept	   *kept = (Kept *) fcinfo->flinfo->fn_extra;
	struct varatt_external where;
	MemoryContext old;

	if (!VARATT_IS_EXTERNAL_ONDISK(v))
		return cdp_audience_get(PointerGetDatum(v));
	VARATT_EXTERNAL_GET_POINTER(where, v);
	if (kept && kept->audience && memcmp(&kept->where, &where, sizeof(where)) == 0)
		return kept->audience;
	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	if (kept == NULL)
		fcinfo->flinfo->fn_extra = kept = palloc0(sizeof(Kept));
	else if (kept->audience)
	{
		pfree(kept->audience);
		kept->audience = NULL;
	}
	kept->audience = cdp_audience_get(PointerGetDatum(v));
	kept->where = where;
	MemoryContextSwitchTo(old);
	return kept->audience;
}

static bool
has_id(const CdpAudience *a, int64 id)
{
	int64		i = id < 0 ? -1 : cdp_audience_find(a, CDP_AUDIENCE_KEY(id));
	Part		p;

	if (i < 0)
		return false;
	p = part_of(a, (uint32) i);
	return cdp_container_has(p.bytes, p.size, BITS, CDP_AUDIENCE_LOW(id));
}

/* audience @> bigint */
Datum
cdp_audience_contains(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(has_id(get_kept(fcinfo, 0), PG_GETARG_INT64(1)));
}

/* bigint <@ audience */
Datum
cdp_audience_contained(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(has_id(get_kept(fcinfo, 1), PG_GETARG_INT64(0)));
}

/* cdp.audience_count(a): it stands in front, so the rest of a stored one is not read */
Datum
cdp_audience_count(PG_FUNCTION_ARGS)
{
	struct varlena *v = (struct varlena *) PG_GETARG_POINTER(0);

	if (VARATT_IS_EXTERNAL_EXPANDED(v))
		PG_RETURN_INT64(cdp_audience_get(PointerGetDatum(v))->count);
	PG_RETURN_INT64(((CdpAudience *) PG_DETOAST_DATUM_SLICE(PointerGetDatum(v), 0, offsetof(CdpAudience, keys) - VARHDRSZ))->count);
}
