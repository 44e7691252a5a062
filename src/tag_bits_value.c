/*
 * tag_bits_value.c
 *	  Numbers and dates of the customers of one chunk, as rows of
 *	  cdp.tag_bits that answer comparisons.
 *
 * Dense values become bit slices.  The values are u = value * 10^s - min with
 * the smallest s that makes all of them whole numbers, exactly; slice b holds
 * bit b of everyone's u:
 *
 *		aov		1280.5  99  640.25			s = 2, min = 9900
 *		u		118150  0   54125			17 slices
 *
 *		part 0		1, s, slices, 0, min (8 bytes), container of who has a value
 *		part 1 ..	2, 0, 0, 0, slices, the highest bit first
 *
 * so u < t takes one pass over the slices, from the highest, which ends when
 * nobody is left whose upper bits equal those of t.  Few values, or values
 * that no s makes whole, stay as they are:
 *
 *		part 0 ..	0, 0, count (2 bytes), doubles, then their places, ascending
 *
 * whichever takes fewer bytes.  Dates are days since 2000-01-01.
 *
 * Page: doc/tag_bits.md.  Tests: test/sql/tag_bits.sql, test/pgtap/tag_bits.sql.
 */
#include "tag_bits_chunk.h"

#include <math.h>

#define PART_LIST		0
#define PART_HEAD		1
#define PART_SLICES		2

#define LIST_HEADER		4
#define LIST_ENTRY		10
#define LIST_MAX		780		/* of one part: a row fits on a page */
#define HEAD_BYTES		12
#define SLICES_HEADER	4
#define SLICES_PER_PART	Max(1, 6144 / TAG_CHUNK_BYTES)

#define MAX_SCALE		15
#define MAX_WHOLE		9007199254740992.0	/* 2^53: up to here doubles hold every whole number */

static const double powers[MAX_SCALE + 1] = {
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15
};

#define EACH_PLACE(words, i) \
	for (int w_ = 0, i; w_ < TAG_CHUNK_WORDS; w_++) \
		for (uint64 x_ = (words)[w_]; x_ != 0 && ((i) = w_ * 64 + pg_rightmost_one_pos64(x_), true); x_ &= x_ - 1)

static void
put64(uint8 *p, uint64 v)
{
	uint64		bytes = cdp_le64(v);

	memcpy(p, &bytes, sizeof(bytes));
}

static double
get_double(const uint8 *p)
{
	uint64		bits = cdp_get64(p);
	double		v;

	memcpy(&v, &bits, sizeof(v));
	return v;
}

static bool
any_word(const uint64 *words)
{
	uint64		any = 0;

	for (int i = 0; i < TAG_CHUNK_WORDS; i++)
		any |= words[i];
	return any != 0;
}

/* ---------------------------------------------------------------- writing */

/* The smallest scale at which all values are whole numbers; -1: there is none. */
static int
find_scale(const TagValues *v)
{
	int			scale = 0;

	EACH_PLACE(v->present, i)
	{
		for (;;)
		{
			double		u = rint(v->values[i] * powers[scale]);

			if (fabs(u) > MAX_WHOLE)
				return -1;
			if (u / powers[scale] == v->values[i])
				break;
			if (++scale > MAX_SCALE)
				return -1;
		}
	}
	/* a larger scale that a later value wanted may be too much for an earlier one */
	EACH_PLACE(v->present, i)
	{
		if (fabs(rint(v->values[i] * powers[scale])) > MAX_WHOLE)
			return -1;
	}
	return scale;
}

static int64
whole(double value, int scale)
{
	return (int64) rint(value * powers[scale]);
}

static TagValuePart *
write_list(const TagValues *v, int *nparts)
{
	TagValuePart *parts = palloc0(sizeof(TagValuePart) * (v->n / LIST_MAX + 1));
	TagValuePart *part = NULL;
	int			left = v->n;

	*nparts = 0;
	EACH_PLACE(v->present, i)
	{
		uint64		bits;
		int			k;

		if (part == NULL || part->n == (part->size - LIST_HEADER) / LIST_ENTRY)
		{
			int			count = Min(left, LIST_MAX);

			part = &parts[(*nparts)++];
			part->size = LIST_HEADER + LIST_ENTRY * count;
			part->bytes = palloc0(part->size);
			part->bytes[0] = PART_LIST;
			cdp_put16(part->bytes + 2, (uint16) count);
			left -= count;
		}
		memcpy(&bits, &v->values[i], sizeof(bits));
		k = part->n++;
		put64(part->bytes + LIST_HEADER + 8 * k, bits);
		cdp_put16(part->bytes + part->size - 2 * cdp_get16(part->bytes + 2) + 2 * k, (uint16) i);
	}
	return parts;
}

static TagValuePart *
write_slices(const TagValues *v, int scale, int64 min, int nbits, int *nparts)
{
	TagValuePart *parts = palloc0(sizeof(TagValuePart) * (1 + nbits / SLICES_PER_PART + 1));
	uint8	  **slices = palloc(sizeof(uint8 *) * Max(nbits, 1));
	uint8	   *head = palloc(HEAD_BYTES + CDP_CONTAINER_MAX(TAG_CHUNK_BITS));

	head[0] = PART_HEAD;
	head[1] = (uint8) scale;
	head[2] = (uint8) nbits;
	head[3] = 0;
	put64(head + 4, (uint64) min);
	parts[0].n = v->n;
	parts[0].bytes = head;
	parts[0].size = HEAD_BYTES + cdp_container_from_words(head + HEAD_BYTES, v->present, TAG_CHUNK_BITS);
	*nparts = 1;
	for (int b = nbits - 1; b >= 0;)
	{
		int			count = Min(b + 1, SLICES_PER_PART);
		TagValuePart *part = &parts[(*nparts)++];

		part->size = SLICES_HEADER + count * TAG_CHUNK_BYTES;
		part->bytes = palloc0(part->size);
		part->bytes[0] = PART_SLICES;
		for (int k = 0; k < count; k++, b--)
			slices[b] = part->bytes + SLICES_HEADER + k * TAG_CHUNK_BYTES;
	}
	EACH_PLACE(v->present, i)
	{
		/* lowest byte first, as in a container */
		for (uint64 u = (uint64) (whole(v->values[i], scale) - min); u != 0; u &= u - 1)
			slices[pg_rightmost_one_pos64(u)][i >> 3] |= 1 << (i & 7);
	}
	pfree(slices);
	return parts;
}

TagValuePart *
cdp_tag_values_write(const TagValues *v, int *nparts)
{
	int			scale;

	*nparts = 0;
	if (v->n == 0)
		return NULL;
	scale = find_scale(v);
	if (scale >= 0)
	{
		int64		min = PG_INT64_MAX;
		int64		max = PG_INT64_MIN;
		int			nbits;

		EACH_PLACE(v->present, i)
		{
			int64		u = whole(v->values[i], scale);

			min = Min(min, u);
			max = Max(max, u);
		}
		nbits = max == min ? 0 : pg_leftmost_one_pos64((uint64) (max - min)) + 1;
		if (nbits == 0 || (nbits <= 53 && (nbits + 1) * TAG_CHUNK_BYTES < LIST_ENTRY * v->n))
			return write_slices(v, scale, min, nbits, nparts);
	}
	return write_list(v, nparts);
}

/* ---------------------------------------------------------------- reading */

/* places of a list, checked */
static const uint8 *
list_places(const uint8 *bytes, int size, int *count)
{
	const uint8 *places;
	int			before = -1;

	if (size < LIST_HEADER || bytes[0] != PART_LIST)
		cdp_tag_bits_broken("values");
	*count = cdp_get16(bytes + 2);
	if (size != LIST_HEADER + LIST_ENTRY * *count)
		cdp_tag_bits_broken("values");
	places = bytes + LIST_HEADER + 8 * *count;
	for (int i = 0; i < *count; i++)
	{
		int			place = cdp_get16(places + 2 * i);

		if (place <= before || place >= TAG_CHUNK_IDS)
			cdp_tag_bits_broken("values");
		before = place;
	}
	return places;
}

typedef struct Slices
{
	TagPartReader reader;
	void	   *arg;
	int			scale;
	int			nbits;
	int64		min;
	int			next;			/* part to be read next */
	const uint8 *bytes;			/* of the part that was read last, NULL: none yet */
	int			size;
	int			used;			/* slices of it that were given */
} Slices;

/* part 0; who has a value goes to present */
static void
open_slices(Slices *s, TagPartReader reader, void *arg, const uint8 *bytes, int size, uint64 *present)
{
	if (size <= HEAD_BYTES || bytes[1] > MAX_SCALE || bytes[2] > 53)
		cdp_tag_bits_broken("values");
	memset(s, 0, sizeof(Slices));
	s->reader = reader;
	s->arg = arg;
	s->scale = bytes[1];
	s->nbits = bytes[2];
	s->min = (int64) cdp_get64(bytes + 4);
	s->next = 1;
	if (fabs((double) s->min) > MAX_WHOLE)
		cdp_tag_bits_broken("values");
	if (!cdp_tag_container_is_safe(bytes + HEAD_BYTES, size - HEAD_BYTES))
		cdp_tag_bits_broken("values");
	cdp_container_set(present, bytes + HEAD_BYTES, size - HEAD_BYTES, TAG_CHUNK_BITS);
}

/* the slices one after the other, the highest first */
static const uint8 *
next_slice(Slices *s)
{
	if (s->bytes == NULL || s->used == (s->size - SLICES_HEADER) / TAG_CHUNK_BYTES)
	{
		s->bytes = s->reader(s->arg, s->next++, &s->size);
		s->used = 0;
		if (s->bytes == NULL || s->size < SLICES_HEADER + TAG_CHUNK_BYTES || s->bytes[0] != PART_SLICES ||
			(s->size - SLICES_HEADER) % TAG_CHUNK_BYTES != 0)
			cdp_tag_bits_broken("values");
	}
	return s->bytes + SLICES_HEADER + s->used++ * TAG_CHUNK_BYTES;
}

void
cdp_tag_values_read(TagValues *v, TagPartReader reader, void *arg)
{
	int			size;
	const uint8 *bytes = reader(arg, 0, &size);

	v->n = 0;
	memset(v->present, 0, sizeof(v->present));
	if (bytes == NULL)
		return;
	if (size > 0 && bytes[0] == PART_HEAD)
	{
		Slices		s;

		open_slices(&s, reader, arg, bytes, size, v->present);
		v->n = cdp_words_count(v->present, TAG_CHUNK_BITS);
		EACH_PLACE(v->present, i)
			v->values[i] = 0;
		for (int b = s.nbits - 1; b >= 0; b--)
		{
			const uint8 *slice = next_slice(&s);
			double		bit = (double) (UINT64CONST(1) << b);

			EACH_PLACE(v->present, i)
			{
				if (slice[i >> 3] & (1 << (i & 7)))
					v->values[i] += bit;
			}
		}
		EACH_PLACE(v->present, i)
			v->values[i] = (v->values[i] + (double) s.min) / powers[s.scale];
		return;
	}
	for (int part = 0; bytes != NULL; bytes = reader(arg, ++part, &size))
	{
		int			count;
		const uint8 *places = list_places(bytes, size, &count);

		for (int k = 0; k < count; k++)
		{
			int			i = cdp_get16(places + 2 * k);

			v->present[i >> 6] |= UINT64CONST(1) << (i & 63);
			v->values[i] = get_double(bytes + LIST_HEADER + 8 * k);
		}
		v->n += count;
	}
}

/* -------------------------------------------------------------- comparing */

static double
value_of(const Slices *s, uint64 u)
{
	return (double) (s->min + (int64) u) / powers[s->scale];
}

/*
 * How many u are below the literal, as values; equal: whether the next one
 * is the literal.  Decided with the very doubles that the customers have.
 */
static uint64
steps_below(const Slices *s, double literal, bool *equal)
{
	uint64		low = 0;
	uint64		end = UINT64CONST(1) << s->nbits;
	uint64		high = end;

	while (low < high)
	{
		uint64		middle = low + (high - low) / 2;

		if (value_of(s, middle) < literal)
			low = middle + 1;
		else
			high = middle;
	}
	*equal = low < end && value_of(s, low) == literal;
	return low;
}

/*
 * left: of who may count, those whose upper bits equal those of t so far;
 * less gathers those below.  Both end when nobody is left.
 */
static void
compare_slices(Slices *s, uint64 t, bool want_less, uint64 *left, uint64 *less)
{
	for (int b = s->nbits - 1; b >= 0; b--)
	{
		const uint8 *slice;
		uint64		any = 0;

		/* nothing is below a number that goes on with zeros only */
		if (want_less && (t & ((UINT64CONST(2) << b) - 1)) == 0)
			return;
		slice = next_slice(s);
		if ((t >> b) & 1)
		{
			if (want_less)
			{
				for (int w = 0; w < TAG_CHUNK_WORDS; w++)
				{
					uint64		x = cdp_get64(slice + 8 * w);

					less[w] |= left[w] & ~x;
					left[w] &= x;
					any |= left[w];
				}
			}
			else
			{
				for (int w = 0; w < TAG_CHUNK_WORDS; w++)
				{
					left[w] &= cdp_get64(slice + 8 * w);
					any |= left[w];
				}
			}
		}
		else
		{
			for (int w = 0; w < TAG_CHUNK_WORDS; w++)
			{
				left[w] &= ~cdp_get64(slice + 8 * w);
				any |= left[w];
			}
		}
		if (any == 0)
			return;
	}
}

static bool
compare_by_slices(Slices *s, TagOperator op, double literal, uint64 *left, uint64 *out)
{
	uint64		end = UINT64CONST(1) << s->nbits;
	bool		equal;
	uint64		t = steps_below(s, literal, &equal);
	bool		complement = op == TAGQ_NE || op == TAGQ_GT || op == TAGQ_GE;
	uint64		all[TAG_CHUNK_WORDS];

	if (complement)
		memcpy(all, left, sizeof(all));
	memset(out, 0, TAG_CHUNK_BYTES);
	if (op == TAGQ_EQ || op == TAGQ_NE)
	{
		if (equal)
		{
			compare_slices(s, t, false, left, NULL);
			memcpy(out, left, TAG_CHUNK_BYTES);
		}
	}
	else
	{
		if (equal && (op == TAGQ_LE || op == TAGQ_GT))
			t++;
		if (t >= end)
			memcpy(out, left, TAG_CHUNK_BYTES);
		else if (t > 0)
			compare_slices(s, t, true, left, out);
	}
	if (complement)
	{
		for (int w = 0; w < TAG_CHUNK_WORDS; w++)
			out[w] = all[w] & ~out[w];
	}
	return any_word(out);
}

static bool
holds(double value, TagOperator op, double literal)
{
	switch (op)
	{
		case TAGQ_EQ:
			return value == literal;
		case TAGQ_NE:
			return value != literal;
		case TAGQ_LT:
			return value < literal;
		case TAGQ_LE:
			return value <= literal;
		case TAGQ_GT:
			return value > literal;
		case TAGQ_GE:
			return value >= literal;
	}
	return false;
}

bool
cdp_tag_values_compare(TagPartReader reader, void *arg, TagOperator op, double literal, const uint64 *mask, uint64 *out)
{
	int			size;
	const uint8 *bytes = reader(arg, 0, &size);

	if (bytes == NULL)
		return false;
	if (size > 0 && bytes[0] == PART_HEAD)
	{
		uint64		left[TAG_CHUNK_WORDS];
		Slices		s;

		open_slices(&s, reader, arg, bytes, size, left);
		if (mask != NULL)
		{
			for (int w = 0; w < TAG_CHUNK_WORDS; w++)
				left[w] &= mask[w];
		}
		return any_word(left) && compare_by_slices(&s, op, literal, left, out);
	}
	memset(out, 0, TAG_CHUNK_BYTES);
	for (int part = 0; bytes != NULL; bytes = reader(arg, ++part, &size))
	{
		int			count;
		const uint8 *places = list_places(bytes, size, &count);

		for (int k = 0; k < count; k++)
		{
			int			i = cdp_get16(places + 2 * k);

			if (holds(get_double(bytes + LIST_HEADER + 8 * k), op, literal))
				out[i >> 6] |= UINT64CONST(1) << (i & 63);
		}
	}
	if (mask != NULL)
	{
		for (int w = 0; w < TAG_CHUNK_WORDS; w++)
			out[w] &= mask[w];
	}
	return any_word(out);
}
