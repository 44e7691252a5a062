/*
 * value_logistic_rows.c
 *	  What is done to the rows before a logistic regression is fitted.
 *
 *		1. sort them, add up equal ones: the answer depends on the set of the
 *		   rows, to the last bit, and on nothing else
 *		2. standardise: z = (x - mean) / sd
 *		3. leave out features that are constant, or a combination of features
 *		   before them: a Cholesky step of the correlations with pivot 0
 *
 * SQL: none.  Tests: test/sql/value_logistic.sql,
 * test/pgtap/value_logistic.sql.
 */
#include "value_logistic.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include <math.h>

/* 1 - R^2 of a feature on those before it, from which on it is a new one */
#define LEAST_PIVOT			1e-10

/*
 * Sorting
 */

static int
compare_rows(const double *a, const double *b, int p)
{
	for (int j = 1; j <= p; j++)
	{
		if (a[j] != b[j])
			return a[j] < b[j] ? -1 : 1;
	}
	return a[0] < b[0] ? -1 : a[0] > b[0];
}

typedef const double *RowPointer;

#define ST_SORT logistic_sort_rows
#define ST_ELEMENT_TYPE RowPointer
#define ST_COMPARE_ARG_TYPE int
#define ST_COMPARE(a, b, p) compare_rows(*(a), *(b), *(p))
#define ST_CHECK_FOR_INTERRUPTS
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

/*
 * Puts the rows themselves into the order of sorted[], by following its
 * cycles: all passes then read memory forwards.
 */
static void
permute_rows(double *rows, Size width, RowPointer *sorted, int64 n)
{
	double		saved[1 + LOGISTIC_MAX_FEATURES];

	for (int64 start = 0; start < n; start++)
	{
		int64		to = start;

		if (sorted[start] == NULL || sorted[start] == rows + start * width)
			continue;
		memcpy(saved, rows + start * width, width * sizeof(double));
		for (;;)
		{
			int64		from = (sorted[to] - rows) / width;

			if ((from & 1023) == 0)
				CHECK_FOR_INTERRUPTS();
			sorted[to] = NULL;
			if (from == start)
				break;
			memcpy(rows + to * width, rows + from * width, width * sizeof(double));
			to = from;
		}
		memcpy(rows + to * width, saved, width * sizeof(double));
	}
}

/*
 * Sorts the rows of the state, which says the same in any order, and adds up
 * equal ones in groups.
 */
void
cdp_logistic_group(const LogisticState *state, LogisticWork *w)
{
	int			p = state->nfeatures;
	Size		width = 1 + p;
	RowPointer *sorted = MemoryContextAllocHuge(CurrentMemoryContext, state->nrows * sizeof(RowPointer));
	const double *row = state->rows;
	LogisticGroup *g = NULL;

	for (int64 i = 0; i < state->nrows; i++)
		sorted[i] = state->rows + i * width;
	logistic_sort_rows(sorted, state->nrows, &p);
	permute_rows(state->rows, width, sorted, state->nrows);
	pfree(sorted);

	w->groups = MemoryContextAllocHuge(CurrentMemoryContext, state->nrows * sizeof(LogisticGroup));
	for (int64 i = 0; i < state->nrows; i++, row += width)
	{
		if (g == NULL || (p > 0 && memcmp(g->x, row + 1, p * sizeof(double)) != 0))
		{
			g = &w->groups[w->n++];
			g->x = row + 1;
			g->pos = g->neg = 0;
		}
		if (row[0] > 0)
			g->pos += row[0];
		else
			g->neg -= row[0];
	}
}

/*
 * Features
 */

/* Mean and standard deviation of every feature; sd 0: it is constant. */
void
cdp_logistic_standardise(LogisticWork *w)
{
	double	   *low = palloc(w->p * sizeof(double) + 1);
	double	   *high = palloc(w->p * sizeof(double) + 1);

	for (int j = 0; j < w->p; j++)
	{
		low[j] = high[j] = w->groups[0].x[j];
		w->mean[j] = w->sd[j] = 0;
	}
	for (int64 i = 0; i < w->n; i++)
	{
		if ((i & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
		for (int j = 0; j < w->p; j++)
		{
			low[j] = Min(low[j], w->groups[i].x[j]);
			high[j] = Max(high[j], w->groups[i].x[j]);
		}
	}
	for (int j = 0; j < w->p; j++)
	{
		double		most = Max(fabs(low[j]), fabs(high[j]));
		int			exponent;

		/* sums of squares must neither overflow nor vanish */
		frexp(most, &exponent);
		w->scale[j] = ldexp(1.0, -exponent);
		if (most < 1e-290)
			high[j] = low[j];
	}
	for (int64 i = 0; i < w->n; i++)
	{
		double		share = (w->groups[i].pos + w->groups[i].neg) / w->total;

		if ((i & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
		for (int j = 0; j < w->p; j++)
			w->mean[j] += share * (w->groups[i].x[j] * w->scale[j]);
	}
	for (int64 i = 0; i < w->n; i++)
	{
		double		share = (w->groups[i].pos + w->groups[i].neg) / w->total;

		if ((i & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
		for (int j = 0; j < w->p; j++)
		{
			double		d = w->groups[i].x[j] * w->scale[j] - w->mean[j];

			w->sd[j] += share * d * d;
		}
	}
	for (int j = 0; j < w->p; j++)
	{
		w->sd[j] = sqrt(w->sd[j]);
		if (low[j] == high[j] || w->sd[j] < 1e-11 * fabs(w->mean[j]))
			w->sd[j] = 0;
	}
}

/*
 * Which features are in the model.  Without a ridge, those that add
 * something to the ones before them; with one, all that are not constant.
 */
void
cdp_logistic_choose(LogisticWork *w)
{
	double	   *corr;
	double	   *z;
	int		   *in;
	int			q = 0;

	w->q = 0;
	for (int j = 0; j < w->p; j++)
	{
		if (w->sd[j] > 0)
			w->kept[w->q++] = j;
	}
	if (w->ridge > 0 || w->q < 2)
		return;
	corr = palloc0(TRIANGLE(w->q) * sizeof(double));
	z = palloc((1 + w->q) * sizeof(double));
	in = palloc(w->q * sizeof(int));
	for (int64 i = 0; i < w->n; i++)
	{
		double		share = (w->groups[i].pos + w->groups[i].neg) / w->total;

		if ((i & 63) == 0)
			CHECK_FOR_INTERRUPTS();
		logistic_z(w, w->groups[i].x, z);
		for (int a = 0; a < w->q; a++)
		{
			double		za = share * z[1 + a];

			for (int b = 0; b <= a; b++)
				LOWER(corr, a, b) += za * z[1 + b];
		}
	}
	/* Cholesky by rows, of those rows alone that have a pivot: in[] */
	for (int a = 0; a < w->q; a++)
	{
		double		pivot = LOWER(corr, a, a);

		for (int b = 0; b < q; b++)
		{
			double		s = LOWER(corr, a, in[b]);

			for (int c = 0; c < b; c++)
				s -= LOWER(corr, a, in[c]) * LOWER(corr, in[b], in[c]);
			s /= LOWER(corr, in[b], in[b]);
			LOWER(corr, a, in[b]) = s;
			pivot -= s * s;
		}
		if (pivot > LEAST_PIVOT)
		{
			LOWER(corr, a, a) = sqrt(pivot);
			in[q] = a;
			w->kept[q++] = w->kept[a];
		}
	}
	w->q = q;
	pfree(corr);
	pfree(z);
	pfree(in);
}
