/*
 * segment_lookalike.c
 *	  What members of a set have in common, and who else has it.
 *
 * Both go over the customers once, chunk by chunk, whatever the number of
 * keys: the bitmaps of all keys of one chunk, and what is asked of them.
 *
 *		count	for each key: how many of it are in the seed, how many in the
 *				baseline
 *		score	for each customer of the chunk: the sum of the weights of his
 *				keys; the n best of all chunks stay in a heap
 *
 * SQL: sql/segment_lookalike.sql.  Tests: test/sql/segment_lookalike.sql.
 * Page: doc/segment.md.
 */
#include "segment.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "tag_bits.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cdp_count_keys);
PG_FUNCTION_INFO_V1(cdp_score_keys);

/* the words of one chunk of tag_bits out of an audience, read in ascending order */
typedef struct AudienceChunks
{
	const CdpAudience *audience;
	int64		key;			/* container whose words are here */
	uint64	   *words;
} AudienceChunks;

static void
open_chunks(AudienceChunks *c, const CdpAudience *audience)
{
	c->audience = audience;
	c->key = -1;
	c->words = palloc0(sizeof(uint64) * CDP_WORDS(CDP_AUDIENCE_BITS));
}

static const uint64 *
chunk_words(AudienceChunks *c, int64 chunk)
{
	const int	shift = CDP_AUDIENCE_BITS - TAG_CHUNK_BITS;
	int64		key = chunk >> shift;

	if (key != c->key)
	{
		int64		place = key < 0 ? -1 : cdp_audience_find(c->audience, key);

		if (place < 0)
			memset(c->words, 0, sizeof(uint64) * CDP_WORDS(CDP_AUDIENCE_BITS));
		else
		{
			int			size;
			const uint8 *bytes = cdp_audience_container(c->audience, place, &size);

			cdp_container_set(c->words, bytes, size, CDP_AUDIENCE_BITS);
		}
		c->key = key;
	}
	return c->words + (chunk & ((1 << shift) - 1)) * TAG_CHUNK_WORDS;
}

static int
count_both(const uint64 *a, const uint64 *b)
{
	uint64		both[TAG_CHUNK_WORDS];

	for (int w = 0; w < TAG_CHUNK_WORDS; w++)
		both[w] = a[w] & b[w];
	return cdp_words_count(both, TAG_CHUNK_BITS);
}

/* an array of tagqueries, at most what a reader takes */
static const TagQuery **
queries_arg(FunctionCallInfo fcinfo, int *n)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	const TagQuery **queries;
	Datum	   *elements;
	int16		typlen;
	bool		typbyval;
	char		typalign;

	get_typlenbyvalalign(ARR_ELEMTYPE(array), &typlen, &typbyval, &typalign);
	deconstruct_array(array, ARR_ELEMTYPE(array), typlen, typbyval, typalign, &elements, NULL, n);
	if (*n > TAG_MAX_QUERIES)
		elog(ERROR, "more than %d keys at a time", TAG_MAX_QUERIES);
	queries = palloc(sizeof(TagQuery *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		queries[i] = DatumGetTagQuery(elements[i]);
	return queries;
}

/* cdp._count_keys(queries tagquery[], seed audience, baseline audience) -> setof (i, seed_count, base_count) */
Datum
cdp_count_keys(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			n;
	const TagQuery **queries = queries_arg(fcinfo, &n);
	AudienceChunks seed;
	AudienceChunks base;
	int64	   *counts = palloc0(sizeof(int64) * 2 * Max(n, 1));
	CdpTagReader *r;
	int64		chunk;

	cdp_check_version();
	InitMaterializedSRF(fcinfo, 0);
	if (n == 0)
		return (Datum) 0;
	open_chunks(&seed, cdp_audience_get(PG_GETARG_DATUM(1)));
	open_chunks(&base, cdp_audience_get(PG_GETARG_DATUM(2)));
	r = cdp_tag_read_open(queries, n, cdp_now_value());
	while (cdp_tag_read_next(r, &chunk))
	{
		const uint64 *in_seed = chunk_words(&seed, chunk);
		const uint64 *in_base = chunk_words(&base, chunk);

		for (int i = 0; i < n; i++)
		{
			const uint64 *words = cdp_tag_read_words(r, i);

			counts[2 * i] += count_both(words, in_seed);
			counts[2 * i + 1] += count_both(words, in_base);
		}
	}
	cdp_tag_read_close(r);
	for (int i = 0; i < n; i++)
	{
		Datum		values[3] = {Int32GetDatum(i + 1), Int64GetDatum(counts[2 * i]), Int64GetDatum(counts[2 * i + 1])};
		bool		nulls[3] = {false, false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

typedef struct Candidate
{
	int64		customer_id;
	double		score;
} Candidate;

/* is a the better one?  Of equal scores the smaller id. */
static bool
is_better(const Candidate *a, const Candidate *b)
{
	return a->score != b->score ? a->score > b->score : a->customer_id < b->customer_id;
}

/* the worst on top */
static int
compare_heap(Datum x, Datum y, void *arg)
{
	return is_better((const Candidate *) DatumGetPointer(x), (const Candidate *) DatumGetPointer(y)) ? -1 : 1;
}

static int
compare_candidates(const void *x, const void *y)
{
	return is_better(x, y) ? -1 : 1;
}

/* cdp._score_keys(queries tagquery[], weights float8[], without audience, n int) -> setof (customer_id, score), best first */
Datum
cdp_score_keys(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			nkeys;
	const TagQuery **queries = queries_arg(fcinfo, &nkeys);
	Datum	   *weights;
	int			nweights;
	int			most = PG_GETARG_INT32(3);
	int			found = 0;
	Candidate  *best;
	binaryheap *heap;
	AudienceChunks without;
	double	   *scores = palloc(sizeof(double) * TAG_CHUNK_IDS);
	CdpTagReader *r;
	int64		chunk;

	cdp_check_version();
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), FLOAT8OID, 8, true, TYPALIGN_DOUBLE, &weights, NULL, &nweights);
	InitMaterializedSRF(fcinfo, 0);
	if (nkeys == 0 || nweights != nkeys)
		return (Datum) 0;
	best = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Candidate) * (Size) most);
	heap = binaryheap_allocate(most, compare_heap, NULL);
	open_chunks(&without, cdp_audience_get(PG_GETARG_DATUM(2)));
	r = cdp_tag_read_open(queries, nkeys, cdp_now_value());
	while (cdp_tag_read_next(r, &chunk))
	{
		const uint64 *left_out = chunk_words(&without, chunk);

		CHECK_FOR_INTERRUPTS();
		memset(scores, 0, sizeof(double) * TAG_CHUNK_IDS);
		for (int i = 0; i < nkeys; i++)
		{
			const uint64 *words = cdp_tag_read_words(r, i);
			double		weight = DatumGetFloat8(weights[i]);

			for (int w = 0; w < TAG_CHUNK_WORDS; w++)
			{
				for (uint64 x = words[w] & ~left_out[w]; x != 0; x &= x - 1)
					scores[w * 64 + pg_rightmost_one_pos64(x)] += weight;
			}
		}
		for (int low = 0; low < TAG_CHUNK_IDS; low++)
		{
			Candidate	c = {TagChunkId(chunk, low), scores[low]};

			if (scores[low] <= 0)
				continue;
			if (found < most)
			{
				best[found] = c;
				binaryheap_add(heap, PointerGetDatum(&best[found]));
				found++;
			}
			else if (is_better(&c, (Candidate *) DatumGetPointer(binaryheap_first(heap))))
			{
				Candidate  *worst = (Candidate *) DatumGetPointer(binaryheap_first(heap));

				*worst = c;
				binaryheap_replace_first(heap, PointerGetDatum(worst));
			}
		}
	}
	cdp_tag_read_close(r);
	qsort(best, found, sizeof(Candidate), compare_candidates);
	for (int i = 0; i < found; i++)
	{
		Datum		values[2] = {Int64GetDatum(best[i].customer_id), Float8GetDatum(best[i].score)};
		bool		nulls[2] = {false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
