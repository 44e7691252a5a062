/*
 * segment_lookalike.c
 *	  What sets some customers apart from others, and who else is like them.
 *
 *		SELECT * FROM cdp.lift_table(cdp.audience_of('bought_a')) LIMIT 10;
 *		SELECT * FROM cdp.find_lookalikes(cdp.audience_of('bought_a'), 10000);
 *
 * The counts of all keys come from tag_bits_count.c.  Those that the seed
 * has clearly more often than everyone become weights, ln(lift), and every
 * other customer gets the sum of the weights of the keys he has: chunk by
 * chunk into an array of sums, from which the best n are kept in a heap.
 *
 * A sum is always taken in the order of the keys' bytes, so that equal
 * customers have equal scores wherever the keys were read from.
 *
 * SQL: sql/segment_lookalike.sql.  Tests: test/sql/segment_lookalike.sql,
 * test/pgtap/segment_lookalike.sql.  Page: doc/segment_lookalike.md.
 */
#include "tag_bits.h"

#include "funcapi.h"
#include "lib/binaryheap.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include <math.h>

PG_FUNCTION_INFO_V1(cdp_lift_table);
PG_FUNCTION_INFO_V1(cdp_find_lookalikes);

/* of the baseline, where the caller does not say */
#define LEAST_COUNT		30
/* customers that can be found at once: 24 bytes each */
#define MOST_LOOKALIKES	10000000

/* one key and how it sets the seed apart */
typedef struct Lift
{
	const CdpTagKeyCount *count;
	char	   *term;			/* as text of a query */
	double		seed_rate;
	double		base_rate;
	double		lift;
	double		z;
} Lift;

typedef struct Found
{
	double		score;
	int64		id;
} Found;

/* the best n so far */
typedef struct Best
{
	binaryheap *heap;			/* of pointers to Found, the worst one on top */
	Found	   *found;
	int			n;
	int			capacity;
} Best;

/* a key that counts for the score */
typedef struct Weight
{
	const CdpTagKeyCount *count;
	double		weight;
} Weight;

typedef struct Scorer
{
	const CdpAudience *seed;
	Weight	   *weights;		/* ascending by bytes of their keys */
	int			n;
	Best		best;
} Scorer;

/* ------------------------------------------------------------------- lift */

/* the key as a term of a tagquery */
static char *
term_text(const CdpTagKeyCount *count)
{
	const char *name = count->bytes + 1;
	const char *zero = memchr(name, '\0', count->len - 1);
	int			name_len = zero ? zero - name : count->len - 1;
	StringInfoData out;

	initStringInfo(&out);
	cdp_tag_put_name(&out, name, name_len);
	if (count->bytes[0] == TAG_KEY_BELOW)
		appendStringInfoString(&out, ".*");
	else if (count->bytes[0] == TAG_KEY_VALUE && zero != NULL)
	{
		TagValue	value = {0};

		value.type = TAG_TEXT;
		value.text = zero + 1;
		value.text_len = count->len - 1 - name_len - 1;
		appendStringInfoString(&out, " = ");
		cdp_tag_put_value(&out, &value);
	}
	return out.data;
}

/* Rates, their quotient, and the z of two proportions with a pooled variance (Fleiss, Levin, Paik, 2003). */
static void
measure(Lift *lift, const CdpTagCounts *counts, const CdpTagKeyCount *count)
{
	double		seed = (double) counts->seed;
	double		base = (double) counts->base;
	double		pooled = ((double) count->seed + (double) count->base) / (seed + base);

	lift->count = count;
	lift->seed_rate = (double) count->seed / seed;
	lift->base_rate = (double) count->base / base;
	lift->lift = count->base == 0 ? INFINITY : lift->seed_rate / lift->base_rate;
	/* all or none of both: no difference, and no variance to measure it by */
	lift->z = lift->seed_rate == lift->base_rate ? 0 :
		(lift->seed_rate - lift->base_rate) / sqrt(pooled * (1 - pooled) * (1 / seed + 1 / base));
}

/* most telling first */
static int
compare_lifts(const void *x, const void *y)
{
	const Lift *a = x;
	const Lift *b = y;

	if (a->z != b->z)
		return a->z > b->z ? -1 : 1;
	return strcmp(a->term, b->term);
}

static const CdpAudience *
seed_arg(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("seed must not be NULL"),
				 errhint("cdp.audience_of(query) and cdp.segment_audience(name) make one.")));
	cdp_check_version();
	return cdp_audience_get(PG_GETARG_DATUM(0));
}

static void
refuse_null(const char *name, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s must not be NULL", name),
			 errhint("%s", hint)));
}

/* cdp.lift_table(seed, baseline, min_count) -> setof (tag, counts, rates, lift, tgi, z) */
Datum
cdp_lift_table(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const CdpAudience *seed = seed_arg(fcinfo);
	const CdpAudience *base = PG_ARGISNULL(1) ? NULL : cdp_audience_get(PG_GETARG_DATUM(1));
	CdpTagCounts counts;
	Lift	   *lifts;

	if (PG_ARGISNULL(2))
		refuse_null("min_count", "Leave it out for 30.");
	if (PG_GETARG_INT32(2) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("min_count must not be negative"),
				 errhint("Leave it out for 30.")));
	InitMaterializedSRF(fcinfo, 0);
	cdp_tag_count_keys(&counts, seed, base, cdp_now_value(), PG_GETARG_INT32(2));
	lifts = palloc_extended(sizeof(Lift) * Max(counts.n, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < counts.n; i++)
	{
		measure(&lifts[i], &counts, &counts.keys[i]);
		lifts[i].term = term_text(&counts.keys[i]);
	}
	qsort(lifts, counts.n, sizeof(Lift), compare_lifts);
	for (int i = 0; i < counts.n; i++)
	{
		const Lift *lift = &lifts[i];
		Datum		values[8];
		bool		nulls[8] = {false};

		CHECK_FOR_INTERRUPTS();
		values[0] = CStringGetTextDatum(lift->term);
		values[1] = Int64GetDatum(lift->count->seed);
		values[2] = Int64GetDatum(lift->count->base);
		values[3] = Float8GetDatum(lift->seed_rate);
		values[4] = Float8GetDatum(lift->base_rate);
		values[5] = Float8GetDatum(lift->lift);
		values[6] = Float8GetDatum(lift->lift * 100);
		values[7] = Float8GetDatum(lift->z);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ------------------------------------------------------------- lookalikes */

/* is a in front of b? */
static bool
is_better(const Found *a, const Found *b)
{
	return a->score != b->score ? a->score > b->score : a->id < b->id;
}

static int
worst_on_top(Datum x, Datum y, void *arg)
{
	const Found *a = (const Found *) DatumGetPointer(x);
	const Found *b = (const Found *) DatumGetPointer(y);

	return is_better(a, b) ? -1 : is_better(b, a);
}

static int
compare_found(const void *x, const void *y)
{
	return is_better(x, y) ? -1 : is_better(y, x);
}

static void
offer(Best *best, double score, int64 id)
{
	Found		found = {score, id};
	Found	   *place;

	if (best->n < best->capacity)
	{
		place = &best->found[best->n++];
		*place = found;
		binaryheap_add(best->heap, PointerGetDatum(place));
		return;
	}
	place = (Found *) DatumGetPointer(binaryheap_first(best->heap));
	if (!is_better(&found, place))
		return;
	*place = found;
	binaryheap_replace_first(best->heap, PointerGetDatum(place));
}

/* keys that the seed has, told apart from everyone by so much */
static void
choose_weights(Scorer *s, const CdpTagCounts *counts, double min_z)
{
	s->weights = palloc_extended(sizeof(Weight) * Max(counts->n, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < counts->n; i++)
	{
		Lift		lift;

		measure(&lift, counts, &counts->keys[i]);
		/* the logarithm of nothing is no weight */
		if (counts->keys[i].seed == 0 || counts->keys[i].base == 0 || lift.z < min_z)
			continue;
		s->weights[s->n++] = (Weight) {&counts->keys[i], log(lift.lift)};
	}
}

/* one chunk: sums of weights of whoever has any of the keys */
static void
score_chunk(Scorer *s, CdpTagReader *r, int64 chunk, double *scores)
{
	uint64		seed[TAG_CHUNK_WORDS];
	uint64		any[TAG_CHUNK_WORDS] = {0};
	bool		has_seed = cdp_tag_audience_words(s->seed, chunk, seed);

	memset(scores, 0, sizeof(double) * TAG_CHUNK_IDS);
	for (int i = 0; i < s->n; i++)
	{
		const uint64 *words = cdp_tag_read_words(r, i);
		double		weight = s->weights[i].weight;

		for (int w = 0; w < TAG_CHUNK_WORDS; w++)
		{
			double	   *place = scores + w * 64;

			any[w] |= words[w];
			for (uint64 x = words[w]; x != 0; x &= x - 1)
				place[pg_rightmost_one_pos64(x)] += weight;
		}
	}
	for (int w = 0; w < TAG_CHUNK_WORDS; w++)
	{
		for (uint64 x = has_seed ? any[w] & ~seed[w] : any[w]; x != 0; x &= x - 1)
		{
			int			low = w * 64 + pg_rightmost_one_pos64(x);

			offer(&s->best, scores[low], TagChunkId(chunk, low));
		}
	}
}

static int
compare_weight(const void *key, const void *weight)
{
	const TagKey *k = key;
	const CdpTagKeyCount *c = ((const Weight *) weight)->count;

	return cdp_tag_compare_keys(k->bytes, k->len, c->bytes, c->len);
}

/* one customer, from the keys of his row, which come in the order of the weights */
static void
score_row(void *arg, int64 customer_id, const TagKey *keys, int n)
{
	Scorer	   *s = arg;
	double		score = 0;
	bool		any = false;
	int64		i = customer_id < 0 ? -1 : cdp_audience_find(s->seed, CDP_AUDIENCE_KEY(customer_id));
	const uint8 *container;
	int			size;

	if (i >= 0)
	{
		container = cdp_audience_container(s->seed, (uint32) i, &size);
		if (cdp_container_has(container, size, CDP_AUDIENCE_BITS, CDP_AUDIENCE_LOW(customer_id)))
			return;
	}
	for (int k = 0; k < n; k++)
	{
		const Weight *w = bsearch(&keys[k], s->weights, s->n, sizeof(Weight), compare_weight);

		if (w == NULL)
			continue;
		score += w->weight;
		any = true;
	}
	if (any)
		offer(&s->best, score, customer_id);
}

static void
score_everyone(Scorer *s, TimestampTz at)
{
	const TagQuery **queries = palloc_extended(sizeof(TagQuery *) * s->n, MCXT_ALLOC_HUGE);
	CdpTagReader *r;
	double	   *scores;
	int64		chunk;

	for (int i = 0; i < s->n; i++)
		queries[i] = cdp_tagquery_parse(term_text(s->weights[i].count));
	r = cdp_tag_read_open(queries, s->n, at);
	/* a customer has fewer keys than there are weights */
	if (cdp_tag_read_goes_by_rows(r))
	{
		cdp_tag_read_close(r);
		cdp_tag_each_row(at, score_row, s);
		return;
	}
	scores = palloc(sizeof(double) * TAG_CHUNK_IDS);
	while (cdp_tag_read_next(r, &chunk))
		score_chunk(s, r, chunk, scores);
	cdp_tag_read_close(r);
}

/* cdp.find_lookalikes(seed, n, min_z) -> setof (customer_id, score) */
Datum
cdp_find_lookalikes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz at = cdp_now_value();
	CdpTagCounts counts;
	Scorer		s = {0};

	s.seed = seed_arg(fcinfo);
	if (PG_ARGISNULL(1))
		refuse_null("n", "It is how many customers to find, for example 1000.");
	if (PG_GETARG_INT32(1) < 1 || PG_GETARG_INT32(1) > MOST_LOOKALIKES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("n must be from 1 to %d", MOST_LOOKALIKES),
				 errhint("It is how many customers to find, for example 1000.")));
	if (PG_ARGISNULL(2))
		refuse_null("min_z", "Leave it out for 3.");
	if (isnan(PG_GETARG_FLOAT8(2)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("min_z must be a number"),
				 errhint("Leave it out for 3.")));
	InitMaterializedSRF(fcinfo, 0);
	cdp_tag_count_keys(&counts, s.seed, NULL, at, LEAST_COUNT);
	choose_weights(&s, &counts, PG_GETARG_FLOAT8(2));
	s.best.capacity = (int) Min((int64) PG_GETARG_INT32(1), counts.base - counts.seed);
	if (s.n == 0 || s.best.capacity == 0)
		return (Datum) 0;
	s.best.heap = binaryheap_allocate(s.best.capacity, worst_on_top, NULL);
	s.best.found = palloc_extended(sizeof(Found) * s.best.capacity, MCXT_ALLOC_HUGE);
	score_everyone(&s, at);
	qsort(s.best.found, s.best.n, sizeof(Found), compare_found);
	for (int i = 0; i < s.best.n; i++)
	{
		Datum		values[2] = {Int64GetDatum(s.best.found[i].id), Float8GetDatum(s.best.found[i].score)};
		bool		nulls[2] = {false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
