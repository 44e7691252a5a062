/*
 * The container engine against a plain array of flags: random sets of every
 * shape, for each size.  Usage: audience_container SEED ROUNDS; ends with
 * "ok ROUNDS" or aborts at the first difference.
 */
#include "audience_container.h"

#include <stdio.h>
#include <stdlib.h>

/* the one of the C library: this program is linked without libpgport */
#undef printf

static uint64 state;

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64
draw(uint64 below)
{
	uint64		z = (state += UINT64CONST(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return (z ^ (z >> 31)) % below;
}

#define MUST(cond) \
	do { if (!(cond)) { printf("not ok: %s, line %d, bits %d\n", #cond, __LINE__, bits); exit(1); } } while (0)

typedef struct Set
{
	bool		has[65536];
	uint16		values[65536];
	int			n;
	/* at an odd address: bytes have no alignment */
	uint8		room[CDP_CONTAINER_MAX(16) + 1];
	uint8	   *bytes;
	int			size;
} Set;

/* what the shortest form takes, from the definition */
static int
shortest(const Set *s, int bits)
{
	int			runs = 0;
	int			best = 2 * s->n;

	for (int i = 0; i < 1 << bits; i++)
		runs += s->has[i] && (i == 0 || !s->has[i - 1]);
	if ((1 << bits) / 8 < best)
		best = (1 << bits) / 8;
	if (4 * runs < best)
		best = 4 * runs;
	return 2 + best;
}

static void
fill(Set *s, int bits)
{
	int			size = 1 << bits;

	memset(s->has, 0, sizeof(s->has));
	switch (draw(8))
	{
		case 0:					/* a few */
			for (int i = (int) draw(20); i > 0; i--)
				s->has[draw(size)] = true;
			break;
		case 1:					/* around the most that an array takes */
			for (int i = size / 16 - 2 + (int) draw(5); i > 0; i--)
			{
				int			v;

				do
					v = (int) draw(size);
				while (s->has[v]);
				s->has[v] = true;
			}
			break;
		case 2:					/* any density */
			{
				uint64		density = draw(1000);

				for (int i = 0; i < size; i++)
					s->has[i] = draw(1000) < density;
				break;
			}
		case 3:					/* runs */
			for (int i = (int) draw(50); i >= 0; i--)
			{
				int			first = (int) draw(size);
				int			last = first + (int) draw(size / 20);

				for (int k = first; k <= last && k < size; k++)
					s->has[k] = true;
			}
			break;
		case 4:					/* everything but a few */
			memset(s->has, true, size);
			for (int i = (int) draw(5); i > 0; i--)
				s->has[draw(size)] = false;
			break;
		case 5:					/* pairs: array and run take the same */
			for (int i = (int) draw(size / 3); i >= 0; i--)
				s->has[3 * i] = s->has[3 * i + 1] = true;
			break;
		case 6:					/* the ends, and the ends of words */
			for (int i = 0; i < size; i += 64)
				s->has[i] = draw(2), s->has[i + 63] = draw(2);
			s->has[0] = draw(2);
			s->has[size - 1] = draw(2);
			break;
		case 7:					/* around the most runs that are shorter than a bitset */
			for (int i = size / 32 - 3 + (int) draw(6); i > 0; i--)
				for (int k = 0; k < 5; k++)
					s->has[8 * i + k] = true;
			break;
	}
	s->n = 0;
	for (int i = 0; i < size; i++)
		if (s->has[i])
			s->values[s->n++] = (uint16) i;
	s->bytes = s->room + 1;
	s->size = cdp_container_from_values(s->bytes, s->values, s->n, bits);
}

static void
must_be(const uint64 *words, const bool *has, int bits)
{
	int			n = 0;

	for (int i = 0; i < 1 << bits; i++)
	{
		MUST((words[i >> 6] >> (i & 63) & 1) == has[i]);
		n += has[i];
	}
	MUST(cdp_words_count(words, bits) == n);
}

/* one changed byte or another length: sound bytes of another set, or refused */
static void
damage(const Set *s, int bits)
{
	uint8		bytes[CDP_CONTAINER_MAX(16) + 8];
	static uint16 values[65536];
	int			size = s->size;

	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, s->bytes, s->size);
	if (draw(4) == 0)
		size = (int) draw(CDP_CONTAINER_MAX(bits) + 8);
	else
		bytes[draw(s->size)] = (uint8) draw(256);
	if (cdp_container_check(bytes, size, bits) == NULL)
	{
		uint8		again[CDP_CONTAINER_MAX(16)];
		int			n = cdp_container_values(bytes, size, bits, values);

		MUST(n == cdp_container_count(bytes));
		for (int i = 1; i < n; i++)
			MUST(values[i] > values[i - 1]);
		MUST(values[n - 1] < 1 << bits);
		MUST(cdp_container_from_values(again, values, n, bits) == size && memcmp(again, bytes, size) == 0);
	}
}

static void
round_of(int bits)
{
	static Set	a,
				b;
	static uint64 words[CDP_WORDS(16)],
				from[CDP_WORDS(16)];
	static uint16 values[65536];
	static bool want[65536];
	uint8		out[CDP_CONTAINER_MAX(16)];
	int			size;
	int			first,
				last;

	fill(&a, bits);
	fill(&b, bits);
	if (a.n == 0 || b.n == 0)
	{
		MUST(a.n > 0 || a.size == 0);
		return;
	}
	MUST(a.size == shortest(&a, bits));
	MUST(cdp_container_check(a.bytes, a.size, bits) == NULL);
	MUST(cdp_container_count(a.bytes) == a.n);
	MUST(cdp_container_values(a.bytes, a.size, bits, values) == a.n);
	MUST(memcmp(values, a.values, a.n * 2) == 0);
	{
		static uint8 runs[65536 * 2];
		int			n = cdp_container_runs(a.bytes, a.size, bits, runs);
		int			k = 0;

		for (int i = 0; i < n; i++)
		{
			int			v = cdp_get16(runs + 4 * i);

			MUST(v == 0 || !a.has[v - 1]);
			for (int more = cdp_get16(runs + 4 * i + 2); more >= 0; more--, v++)
				MUST(k < a.n && a.values[k++] == v);
			MUST(v == 1 << bits || !a.has[v]);
		}
		MUST(k == a.n);
	}
	for (int i = 0; i < 200; i++)
	{
		int			v = (int) draw(1 << bits);

		MUST(cdp_container_has(a.bytes, a.size, bits, (uint16) v) == a.has[v]);
	}

	memset(from, 0xA5, sizeof(from));
	cdp_container_set(from, a.bytes, a.size, bits);
	must_be(from, a.has, bits);
	MUST(cdp_words_values(from, bits, values) == a.n && memcmp(values, a.values, a.n * 2) == 0);
	MUST(cdp_container_from_words(out, from, bits) == a.size && memcmp(out, a.bytes, a.size) == 0);

#define ALGEBRA(fn, expr) \
	memcpy(words, from, sizeof(words)); \
	fn(words, b.bytes, b.size, bits); \
	for (int i = 0; i < 1 << bits; i++) \
		want[i] = (expr); \
	must_be(words, want, bits)

	ALGEBRA(cdp_container_or, a.has[i] || b.has[i]);
	ALGEBRA(cdp_container_and, a.has[i] && b.has[i]);
	ALGEBRA(cdp_container_andnot, a.has[i] && !b.has[i]);
	ALGEBRA(cdp_container_xor, a.has[i] != b.has[i]);
	size = cdp_container_from_words(out, words, bits);
	MUST(size == 0 || cdp_container_check(out, size, bits) == NULL);

	first = (int) draw(1 << bits);
	last = first + (int) draw(draw(3) ? (1 << bits) - first : Min((1 << bits) - first, 3));
#define RANGE(fn, inside) \
	memcpy(words, from, sizeof(words)); \
	fn(words, first, last); \
	for (int i = 0; i < 1 << bits; i++) \
		want[i] = i >= first && i <= last ? (inside) : a.has[i]; \
	must_be(words, want, bits)

	RANGE(cdp_words_fill, true);
	RANGE(cdp_words_clear, false);
	RANGE(cdp_words_flip, !a.has[i]);
	size = cdp_container_from_range(out, first, last);
	MUST(cdp_container_check(out, size, bits) == NULL);
	MUST(cdp_container_values(out, size, bits, values) == last - first + 1 && values[0] == first);

	/* a without some of its own and of b's, and with others */
	memcpy(want, a.has, sizeof(want));
	for (int i = 0; i < 30; i++)
	{
		values[i] = draw(2) ? a.values[draw(a.n)] : b.values[draw(b.n)];
		want[values[i]] = false;
	}
	for (int i = 30; i < 60; i++)
	{
		values[i] = draw(2) ? values[i - 30] : (uint16) draw(1 << bits);
		want[values[i]] = true;
	}
	size = cdp_container_change(out, a.bytes, a.size, bits, values, 30, values + 30, 30);
	MUST(size > 0 && cdp_container_check(out, size, bits) == NULL);
	cdp_container_set(words, out, size, bits);
	must_be(words, want, bits);
	MUST(cdp_container_change(out, a.bytes, a.size, bits, a.values, a.n, NULL, 0) == 0);
	MUST(cdp_container_change(out, NULL, 0, bits, NULL, 0, a.values, a.n) == a.size && memcmp(out, a.bytes, a.size) == 0);

	for (int i = 0; i < 20; i++)
		damage(&a, bits);
}

int
main(int argc, char **argv)
{
	int			rounds = argc > 2 ? atoi(argv[2]) : 0;

	state = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
	for (int i = 0; i < rounds; i++)
		round_of(14 + i % 3);
	printf("ok %d\n", rounds);
	return 0;
}
