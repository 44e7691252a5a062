/*
 * identity_match_fit.c
 *	  The probabilities of a model, learnt without labels.
 *
 * Two records are either of one person or of two.  In each case every column
 * shows its levels with some probability, m of one person and u of two
 * (Fellegi and Sunter 1969), and columns are taken as independent, so that
 *
 *		weight = sum of log2(m / u) over the columns, nothing for null
 *		odds of one person = lambda / (1 - lambda) * 2 ^ weight
 *
 * where lambda is the share of such pairs among all pairs there are, not
 * among the candidates: blocking chooses pairs that agree, so it must choose
 * neither u nor lambda.  u comes from random pairs.  A few of them are of
 * one person by chance, which would hide how telling a rare number is, so
 * what m and lambda expect of them is taken off.  m and lambda come from the
 * candidates by expectation and maximisation (Dempster, Laird and Rubin
 * 1977), over their distinct patterns, some thousands for millions of pairs.
 *
 * Everything is summed in the order of the patterns and drawn by a generator
 * of our own, so the same rows give the same model, bit for bit.
 *
 * SQL: sql/identity_match.sql.  Page: doc/identity_match.md.
 * Tests: test/sql/identity_match.sql, test/t/020_identity_match_febrl.pl.
 */
#include "identity_match.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/memutils.h"

/* the model stands when no probability moves by more than this in a round */
#define TOLERANCE		1e-7

/* a belief of this many pairs in the first guess: no level becomes impossible for want of data */
#define PRIOR_PAIRS		1.0

/* odds that no evidence exceeds: a probability of 1 could not be argued with */
#define MAX_WEIGHT		200.0

uint64
match_pattern(const MatchModel *model, const MatchRecords *records, int left, int right)
{
	uint64		pattern = 0;

	for (int c = 0; c < model->ncolumns; c++)
		pattern |= (uint64) (match_compare(records, model, c, left, right) + 1) << (4 * c);
	return pattern;
}

double
match_level_weight(const MatchColumn *column, int level)
{
	return level < 0 ? 0 : log2(column->m[level] / column->u[level]);
}

/*
 * What an equal value says beyond the column: u of the column is the chance
 * that two agree in anything, this value's own share is the chance that the
 * other agrees in it.
 */
double
match_frequency_weight(const MatchModel *model, const MatchRecords *records, int column, int level, int left)
{
	const MatchColumn *c = &model->columns[column];
	double		share;

	if (!c->term_frequency || level != c->nlevels - 1 || records->known[column] == 0)
		return 0;
	/* two records hold it at least */
	share = Max(records->frequency[column][records->values[column][left]], 2) / (double) Max(records->known[column], 2);
	return log2(c->u[level] / share);
}

double
match_probability(const MatchModel *model, double weight)
{
	double		log_odds = weight + log2(model->lambda / (1 - model->lambda));

	log_odds = Min(Max(log_odds, -MAX_WEIGHT), MAX_WEIGHT);
	return 1 / (1 + exp2(-log_odds));
}

ArrayType *
match_levels(const MatchModel *model, uint64 pattern)
{
	Datum		levels[MATCH_MAX_COLUMNS];

	for (int c = 0; c < model->ncolumns; c++)
		levels[c] = Int16GetDatum(MATCH_LEVEL(pattern, c));
	return construct_array(levels, model->ncolumns, INT2OID, sizeof(int16), true, TYPALIGN_SHORT);
}

/* --- patterns, counted --- */

/* hash of a pattern: its bits stand in groups of four (finalizer of MurmurHash3) */
static inline uint64
mix(uint64 x)
{
	x ^= x >> 33;
	x *= UINT64CONST(0xFF51AFD7ED558CCD);
	x ^= x >> 33;
	x *= UINT64CONST(0xC4CEB9FE1A85EC53);
	return x ^ (x >> 33);
}

typedef struct PatternEntry
{
	uint64		pattern;
	int64		n;
	char		status;
} PatternEntry;

#define SH_PREFIX		pattern
#define SH_ELEMENT_TYPE PatternEntry
#define SH_KEY_TYPE		uint64
#define SH_KEY			pattern
#define SH_HASH_KEY(tb, k)	((uint32) mix(k))
#define SH_EQUAL(tb, a, b)	((a) == (b))
#define SH_SCOPE		static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static int
pattern_cmp(const void *x, const void *y)
{
	const PatternEntry *a = x;
	const PatternEntry *b = y;

	return a->pattern < b->pattern ? -1 : a->pattern > b->pattern;
}

/* the distinct patterns of the pairs, sorted */
static PatternEntry *
count_patterns(const uint64 *patterns, int64 n, int *ndistinct)
{
	pattern_hash *hash = pattern_create(CurrentMemoryContext, 1024, NULL);
	pattern_iterator scan;
	PatternEntry *entry;
	PatternEntry *result;
	int			k = 0;

	for (int64 i = 0; i < n; i++)
	{
		bool		found;

		if ((i & 0xFFFF) == 0)
			CHECK_FOR_INTERRUPTS();
		entry = pattern_insert(hash, patterns[i], &found);
		entry->n = found ? entry->n + 1 : 1;
	}
	result = MemoryContextAllocHuge(CurrentMemoryContext, Max(hash->members, 1) * sizeof(PatternEntry));
	pattern_start_iterate(hash, &scan);
	while ((entry = pattern_iterate(hash, &scan)) != NULL)
		result[k++] = *entry;
	pattern_destroy(hash);
	qsort(result, k, sizeof(PatternEntry), pattern_cmp);
	*ndistinct = k;
	return result;
}

/* --- random pairs --- */

/* splitmix64 (Steele, Lea and Flood 2014): the same numbers on every server */
static uint64
next_random(uint64 *state)
{
	uint64		z = (*state += UINT64CONST(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* a number below n, each as likely: what would make some likelier is thrown away */
static uint64
random_below(uint64 *state, uint64 n)
{
	uint64		limit = PG_UINT64_MAX - PG_UINT64_MAX % n;
	uint64		r;

	do
		r = next_random(state);
	while (r >= limit);
	return r % n;
}

/* how many pairs there are, of different sources with link_only */
static int64
all_pairs(const MatchModel *model, const MatchRecords *records)
{
	int64		n = records->n;
	int64		total = 0;
	int			start = 0;

	if (!model->link_only)
		return n * (n - 1) / 2;
	for (int s = 0; s < records->nsources; s++)
	{
		total += (int64) (records->source_end[s] - start) * (n - records->source_end[s]);
		start = records->source_end[s];
	}
	return total;
}

/* the k-th of them, in the order of left, right */
static void
nth_pair(const MatchModel *model, const MatchRecords *records, int64 k, int *left, int *right)
{
	int64		n = records->n;

	if (model->link_only)
	{
		int			start = 0;

		for (int s = 0;; s++)
		{
			int64		rights = n - records->source_end[s];
			int64		pairs = (records->source_end[s] - start) * rights;

			if (k < pairs)
			{
				*left = start + k / rights;
				*right = records->source_end[s] + k % rights;
				return;
			}
			k -= pairs;
			start = records->source_end[s];
		}
	}
	else
	{
		/* record i has i pairs with those before it, i * (i - 1) / 2 come before them */
		int64		i = (int64) ((1 + sqrt(1 + 8 * (double) k)) / 2);

		while (i * (i - 1) / 2 > k)
			i--;
		while ((i + 1) * i / 2 <= k)
			i++;
		*left = k - i * (i - 1) / 2;
		*right = i;
	}
}

typedef struct LevelCounts
{
	double		n[MATCH_MAX_COLUMNS][MATCH_MAX_LEVELS];
	double		known[MATCH_MAX_COLUMNS];	/* sum over the levels */
} LevelCounts;

/* how often each level occurs among random pairs; all of them when they are no more than the sample */
static void
count_random(const MatchModel *model, const MatchRecords *records, int64 total, LevelCounts *counts)
{
	int64		n = Min(total, model->sample);
	uint64		state = (uint64) model->seed;

	memset(counts, 0, sizeof(*counts));
	for (int64 i = 0; i < n; i++)
	{
		int			left,
					right;

		if ((i & 0xFFF) == 0)
			CHECK_FOR_INTERRUPTS();
		nth_pair(model, records, n == total ? i : (int64) random_below(&state, total), &left, &right);
		for (int c = 0; c < model->ncolumns; c++)
		{
			int			level = match_compare(records, model, c, left, right);

			if (level >= 0)
			{
				counts->n[c][level]++;
				counts->known[c]++;
			}
		}
	}
}

/* --- expectation and maximisation --- */

/* m before anything is known: equal in nine of ten, the rest evenly */
static double
first_m(const MatchColumn *column, int level)
{
	return level == column->nlevels - 1 ? 0.9 : 0.1 / (column->nlevels - 1);
}

/*
 * u of the levels: their share among random pairs, less the pairs of one
 * person that must be among them.
 */
static void
set_u(MatchModel *model, const LevelCounts *random)
{
	for (int c = 0; c < model->ncolumns; c++)
	{
		MatchColumn *column = &model->columns[c];
		double		sum = 0;

		for (int l = 0; l < column->nlevels; l++)
		{
			double		same = model->lambda * random->known[c] * column->m[l];

			/* what was never seen is less than one in them */
			column->u[l] = Max(random->n[c][l] - same, 0.5);
			sum += column->u[l];
		}
		for (int l = 0; l < column->nlevels; l++)
			column->u[l] /= sum;
	}
}

/* One round; answers how far a probability moved. */
static double
improve(MatchModel *model, const PatternEntry *patterns, int npatterns, int64 total)
{
	LevelCounts same;
	double		matches = 0;
	double		moved = 0;
	double		lambda;

	memset(&same, 0, sizeof(same));
	for (int i = 0; i < npatterns; i++)
	{
		double		weight = 0;
		double		expected;

		for (int c = 0; c < model->ncolumns; c++)
			weight += match_level_weight(&model->columns[c], MATCH_LEVEL(patterns[i].pattern, c));
		expected = patterns[i].n * match_probability(model, weight);
		matches += expected;
		for (int c = 0; c < model->ncolumns; c++)
		{
			int			level = MATCH_LEVEL(patterns[i].pattern, c);

			if (level >= 0)
			{
				same.n[c][level] += expected;
				same.known[c] += expected;
			}
		}
	}
	for (int c = 0; c < model->ncolumns; c++)
	{
		MatchColumn *column = &model->columns[c];

		for (int l = 0; l < column->nlevels; l++)
		{
			double		m = (same.n[c][l] + PRIOR_PAIRS * first_m(column, l)) / (same.known[c] + PRIOR_PAIRS);

			moved = Max(moved, fabs(m - column->m[l]));
			column->m[l] = m;
		}
	}
	/* neither none nor all of them are of one person */
	lambda = (matches + 0.5) / (total + 1.0);
	moved = Max(moved, fabs(lambda / model->lambda - 1));
	model->lambda = lambda;
	return moved;
}

static void
fit_patterns(MatchModel *model, const MatchRecords *records, const PatternEntry *patterns, int npatterns)
{
	int64		total = all_pairs(model, records);
	LevelCounts random;

	model->records = records->n;
	model->iterations = 0;
	model->converged = false;
	model->note = NULL;
	for (int c = 0; c < model->ncolumns; c++)
	{
		for (int l = 0; l < model->columns[c].nlevels; l++)
			model->columns[c].m[l] = first_m(&model->columns[c], l);
	}
	/* half of the records have a second one */
	model->lambda = (0.5 * records->n + 0.5) / (total + records->n + 1.0);
	count_random(model, records, total, &random);
	set_u(model, &random);
	while (npatterns > 0 && model->iterations < model->max_iterations && !model->converged)
	{
		CHECK_FOR_INTERRUPTS();
		model->iterations++;
		model->converged = improve(model, patterns, npatterns, total) < TOLERANCE;
		set_u(model, &random);
	}
	if (npatterns == 0)
		model->note = "the blocking rules give no pairs, nothing was learnt";
	else if (npatterns == 1)
	{
		model->converged = false;
		model->note = "all pairs compare alike, nothing could be learnt from them";
	}
	else if (!model->converged)
		model->note = "max_iterations came before the probabilities stood still";
}

void
match_fit(MatchModel *model, const MatchRecords *records, const uint64 *patterns, int64 n)
{
	int			ndistinct;
	PatternEntry *distinct = count_patterns(patterns, n, &ndistinct);

	fit_patterns(model, records, distinct, ndistinct);
	pfree(distinct);
}

/* --- all stages --- */

typedef struct WeightEntry
{
	uint64		pattern;
	char		status;
	double		weight;
	double		probability;
	ArrayType  *levels;
} WeightEntry;

#define SH_PREFIX		weight
#define SH_ELEMENT_TYPE WeightEntry
#define SH_KEY_TYPE		uint64
#define SH_KEY			pattern
#define SH_HASH_KEY(tb, k)	((uint32) mix(k))
#define SH_EQUAL(tb, a, b)	((a) == (b))
#define SH_SCOPE		static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct MatchScorer
{
	const MatchModel *model;
	const MatchRecords *records;
	weight_hash *weights;
	bool		frequencies;	/* some column has term_frequency */
};

MatchScorer *
match_new_scorer(const MatchModel *model, const MatchRecords *records)
{
	MatchScorer *scorer = palloc0(sizeof(MatchScorer));

	scorer->model = model;
	scorer->records = records;
	scorer->weights = weight_create(CurrentMemoryContext, 1024, NULL);
	for (int c = 0; c < model->ncolumns; c++)
		scorer->frequencies |= model->columns[c].term_frequency;
	return scorer;
}

/* weight and probability of a pair with this pattern; the levels are shared by all such pairs */
void
match_score_pair(MatchScorer *scorer, uint64 pattern, int left,
				 double *weight, double *probability, ArrayType **levels)
{
	const MatchModel *model = scorer->model;
	bool		found;
	WeightEntry *entry = weight_insert(scorer->weights, pattern, &found);

	if (!found)
	{
		entry->weight = 0;
		for (int c = 0; c < model->ncolumns; c++)
			entry->weight += match_level_weight(&model->columns[c], MATCH_LEVEL(pattern, c));
		entry->probability = match_probability(model, entry->weight);
		entry->levels = match_levels(model, pattern);
	}
	*weight = entry->weight;
	*probability = entry->probability;
	*levels = entry->levels;
	if (scorer->frequencies)
	{
		for (int c = 0; c < model->ncolumns; c++)
			*weight += match_frequency_weight(model, scorer->records, c, MATCH_LEVEL(pattern, c), left);
		*probability = match_probability(model, *weight);
	}
}

/*
 * Load, block and compare, as the current user; fit when asked to.  The
 * result is in the current memory context.
 */
MatchWork *
match_run(const char *sql, MatchModel *model, bool fit)
{
	MatchWork  *work = palloc0(sizeof(MatchWork));
	MemoryContext context = CurrentMemoryContext;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	MemoryContextSwitchTo(context);
	cdp_read_only_begin();
	work->records = match_load(sql, model, true);
	work->pairs = match_block(work->records, model);
	cdp_read_only_end();
	tuplestore_end(work->records->rows);
	work->records->rows = NULL;
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	MemoryContextSwitchTo(context);

	work->patterns = MemoryContextAllocHuge(context, Max(work->pairs->n, 1) * sizeof(uint64));
	for (int64 i = 0; i < work->pairs->n; i++)
	{
		if ((i & 0xFFF) == 0)
			CHECK_FOR_INTERRUPTS();
		work->patterns[i] = match_pattern(model, work->records,
										  MATCH_LEFT(work->pairs->pairs[i]), MATCH_RIGHT(work->pairs->pairs[i]));
	}
	if (fit)
		match_fit(model, work->records, work->patterns, work->pairs->n);
	return work;
}
