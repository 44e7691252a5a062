/*
 * value_rfm_sort.c
 *	  Sorting whole numbers by their bytes.
 *
 * A pass per byte, from the last to the first, and none for a byte that is
 * equal in all: times of two years have six bytes that differ, frequencies
 * one or two.  A million keys take 30 ms where comparing takes 90.
 *
 * SQL: none.  Tests: test/pgtap/value_rfm.sql.
 */
#include "value_rfm.h"

#include "miscadmin.h"

#define DIGITS		8
#define FEW			256			/* not worth the counting */

/* keys between two looks for a cancel */
#define STRETCH		65536

static int
compare_first(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

/* Elements of width bytes that begin with an unsigned key; a compiler makes one of it per width. */
static pg_attribute_always_inline void
sort_by_bytes(char *data, char *scratch, Size n, const Size width)
{
	uint64		count[DIGITS][256];
	char	   *from = data;
	char	   *to = scratch;
	uint64		first;

	if (n < FEW)
	{
		qsort(data, n, width, compare_first);
		return;
	}
	memset(count, 0, sizeof(count));
	for (Size i = 0; i < n; i++)
	{
		uint64		key = *(uint64 *) (data + i * width);

		if (i % STRETCH == 0)
			CHECK_FOR_INTERRUPTS();
		for (int d = 0; d < DIGITS; d++)
			count[d][(key >> (8 * d)) & 255]++;
	}
	first = *(uint64 *) data;
	for (int d = 0; d < DIGITS; d++)
	{
		uint64	   *at = count[d];
		uint64		sum = 0;
		char	   *swap;

		if (at[(first >> (8 * d)) & 255] == n)
			continue;
		for (int i = 0; i < 256; i++)
		{
			uint64		here = at[i];

			at[i] = sum;
			sum += here;
		}
		for (Size i = 0; i < n; i++)
		{
			uint64		key = *(uint64 *) (from + i * width);

			if (i % STRETCH == 0)
				CHECK_FOR_INTERRUPTS();
			memcpy(to + at[(key >> (8 * d)) & 255]++ * width, from + i * width, width);
		}
		swap = from;
		from = to;
		to = swap;
	}
	if (from != data)
		memcpy(data, from, n * width);
}

void
cdp_sort_keys(int64 *keys, int64 *scratch, Size n)
{
	for (Size i = 0; i < n; i++)
		keys[i] = (int64) RFM_SORT_KEY(keys[i]);
	sort_by_bytes((char *) keys, (char *) scratch, n, sizeof(int64));
	for (Size i = 0; i < n; i++)
		keys[i] = (int64) RFM_SORT_KEY(keys[i]);
}

void
cdp_sort_pairs(RfmSortPair *pairs, RfmSortPair *scratch, Size n)
{
	sort_by_bytes((char *) pairs, (char *) scratch, n, sizeof(RfmSortPair));
}
