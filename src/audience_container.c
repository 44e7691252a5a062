/*
 * audience_container.c
 *	  Sets of small whole numbers as bytes; the story is in the header.
 *
 * What a container is made from is measured first, in one pass: how many
 * values, how many runs of neighbours.  These two numbers are all it takes to
 * tell which form is the shortest, so nothing is built twice.
 *
 *		words		0110 0111		5 values, 2 runs
 *		array		10 bytes
 *		run			 8 bytes		the shortest
 *
 * Loops over bitsets go in blocks of eight words, which compilers turn into
 * vector instructions without being told more.  Counting bits has an
 * instruction that not every x86 has; it is looked for at run time, as the
 * server itself does.
 *
 * Tests: test/t/021_audience_container.pl.
 */
#include "audience_container.h"

#include "port/pg_bitutils.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define CHOOSE_POPCNT
#include <cpuid.h>
#define POPCNT_BIT		(1 << 23)	/* of ecx in leaf 1 */
#endif

#define BLOCK			8		/* words; the smallest word array has 32 of these */

/* most values that are still best as an array, when they have no neighbours */
#define ARRAY_MAX(bits)		(1 << ((bits) - 4))
#define BITSET_BYTES(bits)	(1 << ((bits) - 3))

static inline int
run_count(int size)
{
	return (size - CDP_CONTAINER_HEADER) / 4;
}

static inline const uint8 *
run_at(const uint8 *bytes, int i, int *first, int *last)
{
	const uint8 *p = bytes + CDP_CONTAINER_HEADER + 4 * i;

	*first = cdp_get16(p);
	*last = *first + cdp_get16(p + 2);
	return p;
}

/* The shortest form of that many values in that many runs. */
static inline CdpContainerKind
best_kind(int values, int runs, int bits)
{
	if (values <= ARRAY_MAX(bits) && values <= 2 * runs)
		return CDP_CONTAINER_ARRAY;
	if (4 * runs < BITSET_BYTES(bits))
		return CDP_CONTAINER_RUN;
	return CDP_CONTAINER_BITSET;
}

/*
 * Counting
 */

static pg_attribute_always_inline int
count_words(const uint64 *words, int n)
{
	int			count = 0;

	for (int i = 0; i < n; i += BLOCK)
		for (int k = 0; k < BLOCK; k++)
			count += __builtin_popcountll(words[i + k]);
	return count;
}

/* A run begins at a bit whose lower neighbour is not set. */
static pg_attribute_always_inline int
measure_words(const uint64 *words, int n, int *runs)
{
	int			count = 0;
	int			begins = 0;
	uint64		carry = 0;

	for (int i = 0; i < n; i++)
	{
		uint64		w = words[i];

		count += __builtin_popcountll(w);
		begins += __builtin_popcountll(w & ~((w << 1) | carry));
		carry = w >> 63;
	}
	*runs = begins;
	return count;
}

static int
count_plain(const uint64 *words, int n)
{
	return count_words(words, n);
}

static int
measure_plain(const uint64 *words, int n, int *runs)
{
	return measure_words(words, n, runs);
}

#ifdef CHOOSE_POPCNT
static int	count_choose(const uint64 *words, int n);
static int	measure_choose(const uint64 *words, int n, int *runs);

static int	(*count_bits) (const uint64 *words, int n) = count_choose;
static int	(*measure_bits) (const uint64 *words, int n, int *runs) = measure_choose;

__attribute__((target("popcnt"))) static int
count_popcnt(const uint64 *words, int n)
{
	return count_words(words, n);
}

__attribute__((target("popcnt"))) static int
measure_popcnt(const uint64 *words, int n, int *runs)
{
	return measure_words(words, n, runs);
}

static void
choose(void)
{
	unsigned int a,
				b,
				c = 0,
				d;
	bool		fast = __get_cpuid(1, &a, &b, &c, &d) && (c & POPCNT_BIT);

	count_bits = fast ? count_popcnt : count_plain;
	measure_bits = fast ? measure_popcnt : measure_plain;
}

static int
count_choose(const uint64 *words, int n)
{
	choose();
	return count_bits(words, n);
}

static int
measure_choose(const uint64 *words, int n, int *runs)
{
	choose();
	return measure_bits(words, n, runs);
}
#else
#define count_bits		count_plain
#define measure_bits	measure_plain
#endif

int
cdp_words_count(const uint64 *words, int bits)
{
	return count_bits(words, CDP_WORDS(bits));
}

int
cdp_words_values(const uint64 *words, int bits, uint16 *values)
{
	int			n = 0;

	for (int i = 0; i < CDP_WORDS(bits); i++)
		for (uint64 w = words[i]; w != 0; w &= w - 1)
			values[n++] = (uint16) (i * 64 + pg_rightmost_one_pos64(w));
	return n;
}

/*
 * Ranges of a word array
 */

#define LOW_MASK(bit)	(PG_UINT64_MAX << ((bit) & 63))			/* this bit and higher */
#define HIGH_MASK(bit)	(PG_UINT64_MAX >> (63 - ((bit) & 63)))	/* this bit and lower */

void
cdp_words_fill(uint64 *words, int first, int last)
{
	int			i = first >> 6;
	int			end = last >> 6;

	if (i == end)
	{
		words[i] |= LOW_MASK(first) & HIGH_MASK(last);
		return;
	}
	words[i] |= LOW_MASK(first);
	while (++i < end)
		words[i] = PG_UINT64_MAX;
	words[end] |= HIGH_MASK(last);
}

void
cdp_words_clear(uint64 *words, int first, int last)
{
	int			i = first >> 6;
	int			end = last >> 6;

	if (i == end)
	{
		words[i] &= ~(LOW_MASK(first) & HIGH_MASK(last));
		return;
	}
	words[i] &= ~LOW_MASK(first);
	while (++i < end)
		words[i] = 0;
	words[end] &= ~HIGH_MASK(last);
}

void
cdp_words_flip(uint64 *words, int first, int last)
{
	int			i = first >> 6;
	int			end = last >> 6;

	if (i == end)
	{
		words[i] ^= LOW_MASK(first) & HIGH_MASK(last);
		return;
	}
	words[i] ^= LOW_MASK(first);
	while (++i < end)
		words[i] = ~words[i];
	words[end] ^= HIGH_MASK(last);
}

/*
 * Container into word array
 */

static inline uint64
bit_of(uint16 value)
{
	return UINT64CONST(1) << (value & 63);
}

#define EACH_VALUE(bytes) \
	for (const uint8 *p_ = (bytes) + CDP_CONTAINER_HEADER, *end_ = p_ + 2 * cdp_container_count(bytes); p_ < end_; p_ += 2)

#define EACH_RUN(bytes, size, first, last) \
	for (int i_ = 0, first, last; i_ < run_count(size) && run_at(bytes, i_, &(first), &(last)); i_++)

/* OP is =, |=, &=, ^= or &= ~ */
#define EACH_WORD(words, OP, bytes, bits) \
	for (int i_ = 0; i_ < CDP_WORDS(bits); i_ += BLOCK) \
		for (int k_ = 0; k_ < BLOCK; k_++) \
			(words)[i_ + k_] OP cdp_get64((bytes) + CDP_CONTAINER_HEADER + 8 * (i_ + k_))

void
cdp_container_set(uint64 *words, const uint8 *bytes, int size, int bits)
{
	if (cdp_container_kind(bytes, size, bits) == CDP_CONTAINER_BITSET)
	{
		EACH_WORD(words, =, bytes, bits);
		return;
	}
	memset(words, 0, CDP_WORDS(bits) * sizeof(uint64));
	cdp_container_or(words, bytes, size, bits);
}

void
cdp_container_or(uint64 *words, const uint8 *bytes, int size, int bits)
{
	Assert(cdp_container_check(bytes, size, bits) == NULL);
	switch (cdp_container_kind(bytes, size, bits))
	{
		case CDP_CONTAINER_ARRAY:
			EACH_VALUE(bytes)
			{
				uint16		v = cdp_get16(p_);

				words[v >> 6] |= bit_of(v);
			}
			break;
		case CDP_CONTAINER_RUN:
			EACH_RUN(bytes, size, first, last)
				cdp_words_fill(words, first, last);
			break;
		case CDP_CONTAINER_BITSET:
			EACH_WORD(words, |=, bytes, bits);
			break;
	}
}

void
cdp_container_and(uint64 *words, const uint8 *bytes, int size, int bits)
{
	int			next = 0;

	Assert(cdp_container_check(bytes, size, bits) == NULL);
	switch (cdp_container_kind(bytes, size, bits))
	{
		case CDP_CONTAINER_ARRAY:
			{
				/* words between those of the values become 0 */
				uint64		keep = 0;

				EACH_VALUE(bytes)
				{
					uint16		v = cdp_get16(p_);

					if (v >> 6 != next)
					{
						words[next++] &= keep;
						while (next < v >> 6)
							words[next++] = 0;
						keep = 0;
					}
					keep |= bit_of(v);
				}
				words[next++] &= keep;
				memset(words + next, 0, (CDP_WORDS(bits) - next) * sizeof(uint64));
				break;
			}
		case CDP_CONTAINER_RUN:
			EACH_RUN(bytes, size, first, last)
			{
				if (first > next)
					cdp_words_clear(words, next, first - 1);
				next = last + 1;
			}
			if (next < CDP_CONTAINER_VALUES(bits))
				cdp_words_clear(words, next, CDP_CONTAINER_VALUES(bits) - 1);
			break;
		case CDP_CONTAINER_BITSET:
			EACH_WORD(words, &=, bytes, bits);
			break;
	}
}

void
cdp_container_andnot(uint64 *words, const uint8 *bytes, int size, int bits)
{
	Assert(cdp_container_check(bytes, size, bits) == NULL);
	switch (cdp_container_kind(bytes, size, bits))
	{
		case CDP_CONTAINER_ARRAY:
			EACH_VALUE(bytes)
			{
				uint16		v = cdp_get16(p_);

				words[v >> 6] &= ~bit_of(v);
			}
			break;
		case CDP_CONTAINER_RUN:
			EACH_RUN(bytes, size, first, last)
				cdp_words_clear(words, first, last);
			break;
		case CDP_CONTAINER_BITSET:
			EACH_WORD(words, &= ~, bytes, bits);
			break;
	}
}

void
cdp_container_xor(uint64 *words, const uint8 *bytes, int size, int bits)
{
	Assert(cdp_container_check(bytes, size, bits) == NULL);
	switch (cdp_container_kind(bytes, size, bits))
	{
		case CDP_CONTAINER_ARRAY:
			EACH_VALUE(bytes)
			{
				uint16		v = cdp_get16(p_);

				words[v >> 6] ^= bit_of(v);
			}
			break;
		case CDP_CONTAINER_RUN:
			EACH_RUN(bytes, size, first, last)
				cdp_words_flip(words, first, last);
			break;
		case CDP_CONTAINER_BITSET:
			EACH_WORD(words, ^=, bytes, bits);
			break;
	}
}

/*
 * Reading a container
 */

bool
cdp_container_has(const uint8 *bytes, int size, int bits, uint16 value)
{
	int			low = 0;
	int			high;

	switch (cdp_container_kind(bytes, size, bits))
	{
		case CDP_CONTAINER_ARRAY:
			for (high = cdp_container_count(bytes) - 1; low <= high;)
			{
				int			mid = (low + high) / 2;
				uint16		v = cdp_get16(bytes + CDP_CONTAINER_HEADER + 2 * mid);

				if (v == value)
					return true;
				if (v < value)
					low = mid + 1;
				else
					high = mid - 1;
			}
			return false;
		case CDP_CONTAINER_RUN:
			for (high = run_count(size) - 1; low <= high;)
			{
				int			mid = (low + high) / 2;
				int			first,
							last;

				run_at(bytes, mid, &first, &last);
				if (value < first)
					high = mid - 1;
				else if (value > last)
					low = mid + 1;
				else
					return true;
			}
			return false;
		case CDP_CONTAINER_BITSET:
			return (value >> bits) == 0 &&
				(bytes[CDP_CONTAINER_HEADER + (value >> 3)] & (1 << (value & 7))) != 0;
	}
	return false;
}

int
cdp_container_values(const uint8 *bytes, int size, int bits, uint16 *values)
{
	int			n = 0;

	Assert(cdp_container_check(bytes, size, bits) == NULL);
	switch (cdp_container_kind(bytes, size, bits))
	{
		case CDP_CONTAINER_ARRAY:
			EACH_VALUE(bytes)
				values[n++] = cdp_get16(p_);
			break;
		case CDP_CONTAINER_RUN:
			EACH_RUN(bytes, size, first, last)
				for (int v = first; v <= last; v++)
				values[n++] = (uint16) v;
			break;
		case CDP_CONTAINER_BITSET:
			for (int i = 0; i < CDP_WORDS(bits); i++)
				for (uint64 w = cdp_get64(bytes + CDP_CONTAINER_HEADER + 8 * i); w != 0; w &= w - 1)
					values[n++] = (uint16) (i * 64 + pg_rightmost_one_pos64(w));
			break;
	}
	return n;
}

/*
 * Making a container
 */

/* The runs of a word array, of which there are some. */
static uint8 *
put_runs(uint8 *p, const uint64 *words, int bits)
{
	int			n = CDP_WORDS(bits);
	int			i = 0;
	uint64		w = words[0];

	for (;;)
	{
		int			first,
					last;

		while (w == 0 && ++i < n)
			w = words[i];
		if (i >= n)
			return p;
		first = i * 64 + pg_rightmost_one_pos64(w);
		/* what follows the run: the first bit that is not set when all lower ones are */
		w |= w - 1;
		while (w == PG_UINT64_MAX && ++i < n)
			w = words[i];
		if (i >= n)
			last = n * 64 - 1;
		else
		{
			last = i * 64 + pg_rightmost_one_pos64(~w) - 1;
			w &= w + 1;
		}
		cdp_put16(p, (uint16) first);
		cdp_put16(p + 2, (uint16) (last - first));
		p += 4;
	}
}

int
cdp_container_runs(const uint8 *bytes, int size, int bits, uint8 *runs)
{
	uint64		words[CDP_WORDS(16)];

	if (cdp_container_kind(bytes, size, bits) == CDP_CONTAINER_RUN)
	{
		memcpy(runs, bytes + CDP_CONTAINER_HEADER, size - CDP_CONTAINER_HEADER);
		return run_count(size);
	}
	if (cdp_container_kind(bytes, size, bits) == CDP_CONTAINER_ARRAY)
	{
		uint8	   *p = runs;
		int			before = -2;

		EACH_VALUE(bytes)
		{
			uint16		v = cdp_get16(p_);

			if (v != before + 1)
			{
				cdp_put16(p, v);
				cdp_put16(p + 2, 0);
				p += 4;
			}
			else
				cdp_put16(p - 2, (uint16) (cdp_get16(p - 2) + 1));
			before = v;
		}
		return (int) (p - runs) / 4;
	}
	cdp_container_set(words, bytes, size, bits);
	return (int) (put_runs(runs, words, bits) - runs) / 4;
}

int
cdp_container_from_words(uint8 *out, const uint64 *words, int bits)
{
	int			runs;
	int			count = measure_bits(words, CDP_WORDS(bits), &runs);
	uint8	   *p = out + CDP_CONTAINER_HEADER;

	if (count == 0)
		return 0;
	cdp_put16(out, (uint16) (count - 1));
	switch (best_kind(count, runs, bits))
	{
		case CDP_CONTAINER_ARRAY:
			for (int i = 0; i < CDP_WORDS(bits); i++)
				for (uint64 w = words[i]; w != 0; w &= w - 1, p += 2)
					cdp_put16(p, (uint16) (i * 64 + pg_rightmost_one_pos64(w)));
			break;
		case CDP_CONTAINER_RUN:
			p = put_runs(p, words, bits);
			break;
		case CDP_CONTAINER_BITSET:
			for (int i = 0; i < CDP_WORDS(bits); i++, p += 8)
			{
				uint64		w = cdp_le64(words[i]);

				memcpy(p, &w, sizeof(w));
			}
			break;
	}
	Assert(cdp_container_check(out, p - out, bits) == NULL);
	return (int) (p - out);
}

int
cdp_container_from_values(uint8 *out, const uint16 *values, int n, int bits)
{
	int			runs = 1;
	uint8	   *p = out + CDP_CONTAINER_HEADER;

	if (n == 0)
		return 0;
	for (int i = 1; i < n; i++)
	{
		Assert(values[i] > values[i - 1]);
		runs += values[i] != values[i - 1] + 1;
	}
	cdp_put16(out, (uint16) (n - 1));
	switch (best_kind(n, runs, bits))
	{
		case CDP_CONTAINER_ARRAY:
			for (int i = 0; i < n; i++, p += 2)
				cdp_put16(p, values[i]);
			break;
		case CDP_CONTAINER_RUN:
			for (int i = 0; i < n;)
			{
				int			from = i++;

				while (i < n && values[i] == values[i - 1] + 1)
					i++;
				cdp_put16(p, values[from]);
				cdp_put16(p + 2, (uint16) (i - from - 1));
				p += 4;
			}
			break;
		case CDP_CONTAINER_BITSET:
			memset(p, 0, BITSET_BYTES(bits));
			for (int i = 0; i < n; i++)
				p[values[i] >> 3] |= (uint8) (1 << (values[i] & 7));
			p += BITSET_BYTES(bits);
			break;
	}
	Assert(cdp_container_check(out, p - out, bits) == NULL);
	return (int) (p - out);
}

int
cdp_container_from_range(uint8 *out, int first, int last)
{
	Assert(first >= 0 && first <= last && last <= PG_UINT16_MAX);
	cdp_put16(out, (uint16) (last - first));
	cdp_put16(out + CDP_CONTAINER_HEADER, (uint16) first);
	/* one or two values are no longer as an array */
	if (last == first)
		return CDP_CONTAINER_HEADER + 2;
	cdp_put16(out + CDP_CONTAINER_HEADER + 2, (uint16) (last == first + 1 ? last : last - first));
	return CDP_CONTAINER_HEADER + 4;
}

int
cdp_container_change(uint8 *out, const uint8 *bytes, int size, int bits,
					 const uint16 *remove, int nremove, const uint16 *add, int nadd)
{
	uint64		words[CDP_WORDS(16)];

	if (bytes)
		cdp_container_set(words, bytes, size, bits);
	else
		memset(words, 0, CDP_WORDS(bits) * sizeof(uint64));
	for (int i = 0; i < nremove; i++)
		words[remove[i] >> 6] &= ~bit_of(remove[i]);
	for (int i = 0; i < nadd; i++)
		words[add[i] >> 6] |= bit_of(add[i]);
	return cdp_container_from_words(out, words, bits);
}

/*
 * Bytes from elsewhere
 */

const char *
cdp_container_check(const uint8 *bytes, Size size, int bits)
{
	int			count;
	int			runs = 0;
	int			seen = 0;
	int			before = -2;	/* last value or end of the last run */
	CdpContainerKind kind;

	if (size < CDP_CONTAINER_HEADER + 2 || size > CDP_CONTAINER_MAX(bits))
		return "A container has a length that none can have.";
	count = cdp_container_count(bytes);
	if (count > CDP_CONTAINER_VALUES(bits))
		return "A container has more values than there can be.";
	kind = cdp_container_kind(bytes, (int) size, bits);
	switch (kind)
	{
		case CDP_CONTAINER_ARRAY:
			EACH_VALUE(bytes)
			{
				int			v = cdp_get16(p_);

				if (v <= before || v >= CDP_CONTAINER_VALUES(bits))
					return "The values of a container are not ascending.";
				runs += v != before + 1;
				before = v;
			}
			seen = count;
			break;
		case CDP_CONTAINER_RUN:
			if ((size - CDP_CONTAINER_HEADER) % 4 != 0)
				return "A container has a length that none can have.";
			EACH_RUN(bytes, (int) size, first, last)
			{
				if (first <= before + 1 || last >= CDP_CONTAINER_VALUES(bits))
					return "The runs of a container are not ascending.";
				runs++;
				seen += last - first + 1;
				before = last;
			}
			break;
		case CDP_CONTAINER_BITSET:
			{
				uint64		words[CDP_WORDS(16)];

				EACH_WORD(words, =, bytes, bits);
				seen = measure_bits(words, CDP_WORDS(bits), &runs);
				break;
			}
	}
	if (seen != count)
		return "A container has another number of values than it says.";
	if (best_kind(count, runs, bits) != kind)
		return "A container is not in its shortest form.";
	return NULL;
}
