/*
 * value_rfm_score.c
 *	  Scores: ranks with ties, cuts, and what is high.
 *
 * Every measure of a customer is a whole number that is better the higher it
 * is: the time of the last purchase, the number of purchases, money in units
 * of 10^-8.  (Money that is no such number, a mean for example, is sorted as
 * numeric once and its rank is the key.)  Then every question becomes "is
 * the key at or above a number", exactly and without division:
 *
 *		score >= k		at least (k - 1) / bins of the customers are worse:
 *						the key at that place of the sorted keys, or the next
 *						higher one when the place is inside a run of equals
 *		recency <= c	last_at >= as_of - c
 *		n * x >= sum	x >= the sum divided by n, rounded up
 *		2 * x >= a + b	likewise, of the two in the middle
 *
 * so a row needs a few comparisons and no rank of its own.  With method
 * nested there are such cuts for every group of customers that are equal in
 * the scores before.
 *
 * SQL: none.  Tests: test/pgtap/value_rfm.sql.  Page: doc/value_rfm.md.
 */
#include "value_rfm.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

static int
compare_numeric(const void *a, const void *b)
{
	CHECK_FOR_INTERRUPTS();
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(*(const Numeric *) a),
											 NumericGetDatum(*(const Numeric *) b)));
}

static Numeric
multiply(Numeric a, int64 b)
{
	return DatumGetNumeric(DirectFunctionCall2(numeric_mul, NumericGetDatum(a), NumericGetDatum(int64_to_numeric(b))));
}

/* Length of a span with days of 24 hours and months of 30 days, as intervals compare. */
int128
cdp_interval_us(const Interval *span)
{
	return (int128) span->time + ((int128) span->month * DAYS_PER_MONTH + span->day) * USECS_PER_DAY;
}

/* As int64; false when it is above all of them. */
static bool
clamp(int128 value, int64 *result)
{
	*result = value < PG_INT64_MIN ? PG_INT64_MIN : (int64) Min(value, PG_INT64_MAX);
	return value <= PG_INT64_MAX;
}

static int128
divide_up(int128 a, int128 b)
{
	return a / b + (a % b > 0 ? 1 : 0);
}

/* The least whole number of units at or above; false when it is above all of them. */
static bool
units_from(Numeric num, int64 units, int64 *result)
{
	Numeric		up = DatumGetNumeric(DirectFunctionCall1(numeric_ceil, NumericGetDatum(multiply(num, units))));
	Numeric		most = int64_to_numeric(PG_INT64_MAX);
	Numeric		least = int64_to_numeric(PG_INT64_MIN);

	*result = PG_INT64_MIN;
	if (compare_numeric(&up, &most) > 0)
		return false;
	if (compare_numeric(&up, &least) > 0)
		*result = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(up)));
	return true;
}

int64
cdp_rfm_key(const RfmScores *sc, const RfmEntry *entry, uint32 place, RfmMeasure m)
{
	switch (m)
	{
		case RFM_R:
			return entry->last_at;
		case RFM_F:
			return entry->purchases;
		default:
			if (sc->rank)
				return sc->rank[place];
			return sc->o->ignore_refunds ? entry->gross : entry->gross - entry->refunded;
	}
}

/* The money of a customer as it is shown. */
Numeric
cdp_rfm_monetary(const RfmScores *sc, uint32 place)
{
	Numeric		money = cdp_rfm_money(sc->s, place, RFM_GROSS_REST);

	if (!sc->o->ignore_refunds)
		money = DatumGetNumeric(DirectFunctionCall2(numeric_sub, NumericGetDatum(money),
													NumericGetDatum(cdp_rfm_money(sc->s, place, RFM_REFUNDED_REST))));
	if (sc->o->mean_money)
		money = DatumGetNumeric(DirectFunctionCall2(numeric_div, NumericGetDatum(money),
													NumericGetDatum(int64_to_numeric(cdp_rfm_entry(sc->s, place)->purchases))));
	return money;
}

/* money of a place, and the place: sorted together */
typedef struct Valued
{
	Numeric		money;			/* first, see compare_numeric */
	uint32		place;
} Valued;

/* Money as numeric, sorted, and the rank of everybody. */
static void
rank_money(RfmScores *sc)
{
	const RfmSummary *s = sc->s;
	Valued	   *all = MemoryContextAllocHuge(CurrentMemoryContext, (Size) Max(sc->n, 1) * sizeof(Valued));
	MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "cdp.rfm money", ALLOCSET_DEFAULT_SIZES);
	uint32		n = 0;

	sc->rank = MemoryContextAllocHuge(CurrentMemoryContext, (Size) Max(s->n, 1) * sizeof(uint32));
	sc->money = MemoryContextAllocHuge(CurrentMemoryContext, (Size) Max(sc->n, 1) * sizeof(Numeric));
	for (uint32 i = 0; i < s->n; i++)
	{
		MemoryContext old;
		Numeric		money;

		CHECK_FOR_INTERRUPTS();
		if (cdp_rfm_entry(s, i)->purchases == 0)
			continue;
		old = MemoryContextSwitchTo(work);
		money = cdp_rfm_monetary(sc, i);
		MemoryContextSwitchTo(old);
		all[n].money = memcpy(palloc(VARSIZE(money)), money, VARSIZE(money));
		all[n++].place = i;
		MemoryContextReset(work);
	}
	MemoryContextDelete(work);
	qsort(all, n, sizeof(Valued), compare_numeric);
	/* equal ones share a rank; ranks have no gaps */
	sc->nmoney = 0;
	for (uint32 i = 0; i < n; i++)
	{
		if (i == 0 || compare_numeric(&all[i - 1], &all[i]) != 0)
			sc->money[sc->nmoney++] = all[i].money;
		sc->rank[all[i].place] = sc->nmoney - 1;
	}
	pfree(all);
}

/* The lowest rank whose money, times factor, is at or above; false when there is none. */
static bool
rank_from(const RfmScores *sc, int64 factor, Numeric limit, int64 *result)
{
	uint32		low = 0;
	uint32		high = sc->nmoney;

	while (low < high)
	{
		uint32		mid = low + (high - low) / 2;
		Numeric		value = factor == 1 ? sc->money[mid] : multiply(sc->money[mid], factor);

		if (compare_numeric(&value, &limit) >= 0)
			high = mid;
		else
			low = mid + 1;
	}
	*result = low;
	return low < sc->nmoney;
}

/* The lowest key that a limit of the caller lets in; false when there is none. */
static bool
key_from(const RfmScores *sc, RfmMeasure m, const Interval *span, Numeric limit, int64 *result)
{
	if (m == RFM_R)
		return clamp((int128) sc->s->as_of - cdp_interval_us(span), result);
	if (m == RFM_F)
		return units_from(limit, 1, result);
	if (sc->rank)
		return rank_from(sc, 1, limit, result);
	return units_from(limit, INT64CONST(100000000), result);
}

static void
threshold_cuts(RfmScores *sc, RfmMeasure m)
{
	const RfmOptions *o = sc->o;

	sc->cuts[m] = palloc((o->bins - 1) * sizeof(int64));
	sc->ncuts[m] = palloc0(sizeof(uint8));
	for (int i = 0; i < o->bins - 1; i++)
	{
		/* the longest recency has the lowest key */
		const Interval *span = m == RFM_R ? &o->r_cuts[o->bins - 2 - i] : NULL;
		Numeric		limit = m == RFM_F ? o->f_cuts[i] : m == RFM_M ? o->m_cuts[i] : NULL;
		int64		key;

		/* no key reaches this one, nor those behind it */
		if (!key_from(sc, m, span, limit, &key))
			break;
		sc->cuts[m][sc->ncuts[m][0]++] = key;
	}
}

/* The lowest keys of the scores 2 .. bins in one group of n sorted keys. */
static int
quantile_cuts(const int64 *keys, Size n, int bins, int64 *cuts)
{
	int			ncuts = 0;

	for (int k = 1; k < bins; k++)
	{
		/* so many at least have to be worse */
		Size		worse = (n * k + bins - 1) / bins;
		Size		high = n;

		if (worse >= n)
			break;
		if (worse > 0 && keys[worse - 1] == keys[worse])
		{
			/* inside a run of equals: the first behind it */
			int64		run = keys[worse];

			while (worse < high)
			{
				Size		mid = worse + (high - worse) / 2;

				if (keys[mid] > run)
					high = mid;
				else
					worse = mid + 1;
			}
			if (worse == n)
				break;
		}
		cuts[ncuts++] = keys[worse];
	}
	return ncuts;
}

static inline int
score_in(const RfmScores *sc, RfmMeasure m, Size group, int64 key)
{
	const int64 *cuts = sc->cuts[m] + group * (sc->o->bins - 1);
	int			n = sc->ncuts[m][group];
	int			score = 0;

	while (score < n && key >= cuts[score])
		score++;
	return score + 1;
}

/* The scores before m make the group. */
static inline Size
group_of(const RfmScores *sc, RfmMeasure m, const int *scores)
{
	if (sc->o->method != RFM_NESTED || m == RFM_R)
		return 0;
	if (m == RFM_F)
		return scores[RFM_R] - 1;
	return (Size) (scores[RFM_R] - 1) * sc->o->bins + scores[RFM_F] - 1;
}

void
cdp_rfm_score(const RfmScores *sc, const int64 *keys, int *scores)
{
	for (RfmMeasure m = RFM_R; m < RFM_MEASURES; m++)
		scores[m] = score_in(sc, m, group_of(sc, m, scores), keys[m]);
}

static Size
group_of_entry(const RfmScores *sc, const RfmEntry *e, uint32 place, RfmMeasure m)
{
	int			scores[RFM_MEASURES] = {1, 1, 1};

	if (sc->o->method == RFM_NESTED)
		for (RfmMeasure before = RFM_R; before < m; before++)
			scores[before] = score_in(sc, before, group_of(sc, before, scores), cdp_rfm_key(sc, e, place, before));
	return group_of(sc, m, scores);
}

/* Cuts of a measure in all its groups; keys become sorted within each. */
static void
sorted_cuts(RfmScores *sc, RfmMeasure m, int64 *keys, int64 *scratch)
{
	const RfmSummary *s = sc->s;
	int			bins = sc->o->bins;
	Size		ngroups = sc->o->method != RFM_NESTED || m == RFM_R ? 1 : m == RFM_F ? bins : (Size) bins * bins;
	Size	   *at = palloc0((ngroups + 1) * sizeof(Size));

	sc->cuts[m] = palloc(ngroups * (bins - 1) * sizeof(int64));
	sc->ncuts[m] = palloc0(ngroups);
	if (ngroups > 1)
	{
		for (uint32 i = 0; i < s->n; i++)
		{
			const RfmEntry *e = cdp_rfm_entry(s, i);

			if (i % RFM_CHUNK == 0)
				CHECK_FOR_INTERRUPTS();
			if (e->purchases > 0)
				at[group_of_entry(sc, e, i, m) + 1]++;
		}
		for (Size g = 0; g < ngroups; g++)
			at[g + 1] += at[g];
	}
	for (uint32 i = 0; i < s->n; i++)
	{
		const RfmEntry *e = cdp_rfm_entry(s, i);

		if (i % RFM_CHUNK == 0)
			CHECK_FOR_INTERRUPTS();
		if (e->purchases > 0)
			keys[at[group_of_entry(sc, e, i, m)]++] = cdp_rfm_key(sc, e, i, m);
	}
	/* now at[g] is the end of group g */
	for (Size g = 0; g < ngroups; g++)
	{
		Size		start = g == 0 ? 0 : at[g - 1];

		cdp_sort_keys(keys + start, scratch, at[g] - start);
		sc->ncuts[m][g] = quantile_cuts(keys + start, at[g] - start, bins, sc->cuts[m] + g * (bins - 1));
	}
	pfree(at);
}

static void
all_sorted_keys(const RfmScores *sc, RfmMeasure m, int64 *keys, int64 *scratch)
{
	Size		n = 0;

	for (uint32 i = 0; i < sc->s->n; i++)
	{
		const RfmEntry *e = cdp_rfm_entry(sc->s, i);

		if (i % RFM_CHUNK == 0)
			CHECK_FOR_INTERRUPTS();
		if (e->purchases > 0)
			keys[n++] = cdp_rfm_key(sc, e, i, m);
	}
	cdp_sort_keys(keys, scratch, n);
}

static bool
mean_from(const RfmScores *sc, RfmMeasure m, int64 *result)
{
	const RfmSummary *s = sc->s;
	int128		sum = 0;

	if (m == RFM_M && sc->rank)
	{
		Numeric		total = cdp_money_numeric(0, 0);

		for (uint32 i = 0; i < s->n; i++)
		{
			CHECK_FOR_INTERRUPTS();
			if (cdp_rfm_entry(s, i)->purchases > 0)
			{
				Numeric		before = total;

				total = cdp_numeric_add(before, sc->money[sc->rank[i]]);
				pfree(before);
			}
		}
		return rank_from(sc, sc->n, total, result);
	}
	for (uint32 i = 0; i < s->n; i++)
	{
		const RfmEntry *e = cdp_rfm_entry(s, i);

		if (i % RFM_CHUNK == 0)
			CHECK_FOR_INTERRUPTS();
		if (e->purchases > 0)
			sum += cdp_rfm_key(sc, e, i, m);
	}
	return clamp(divide_up(sum, sc->n), result);
}

/* keys are all of them, sorted */
static bool
median_from(const RfmScores *sc, RfmMeasure m, const int64 *keys, int64 *result)
{
	int64		low = keys[(sc->n - 1) / 2];
	int64		high = keys[sc->n / 2];

	if (m == RFM_M && sc->rank)
		return rank_from(sc, 2, cdp_numeric_add(sc->money[low], sc->money[high]), result);
	return clamp(divide_up((int128) low + high, 2), result);
}

/* Everything that scoring a row needs, in the current context. */
void
cdp_rfm_score_all(RfmScores *sc, const RfmSummary *s, const RfmOptions *o)
{
	bool		ranked = o->method != RFM_THRESHOLD;
	bool		median = o->median;
	int64	   *keys = NULL;
	int64	   *scratch = NULL;

	memset(sc, 0, sizeof(RfmScores));
	sc->s = s;
	sc->o = o;
	for (uint32 i = 0; i < s->n; i++)
		sc->n += cdp_rfm_entry(s, i)->purchases > 0;
	if (sc->n == 0)
		return;
	if (o->mean_money || s->rests)
		rank_money(sc);
	if (ranked || median)
	{
		keys = MemoryContextAllocHuge(CurrentMemoryContext, sc->n * sizeof(int64));
		scratch = MemoryContextAllocHuge(CurrentMemoryContext, sc->n * sizeof(int64));
	}
	for (RfmMeasure m = RFM_R; m < RFM_MEASURES; m++)
	{
		const Interval *span = m == RFM_R ? o->r_high : NULL;
		Numeric		limit = m == RFM_F ? o->f_high : m == RFM_M ? o->m_high : NULL;
		bool		some;

		if (ranked)
			sorted_cuts(sc, m, keys, scratch);
		else
			threshold_cuts(sc, m);
		if (span || limit)
			some = key_from(sc, m, span, limit, &sc->high_from[m]);
		else if (median)
		{
			if (!ranked || (o->method == RFM_NESTED && m != RFM_R))
				all_sorted_keys(sc, m, keys, scratch);
			some = median_from(sc, m, keys, &sc->high_from[m]);
		}
		else
			some = mean_from(sc, m, &sc->high_from[m]);
		sc->never_high[m] = !some;
	}
	if (keys)
	{
		pfree(keys);
		pfree(scratch);
	}
}
