/*
 * value_fit_rows.c
 *	  What a fit reads: sorted rows as ranks of distinct values.
 *
 * A likelihood is evaluated 50 times over the same rows, and most of its cost
 * is logarithms that depend on one column: ln(alpha + t_cal) has a hundred
 * values in a million rows.  So each column becomes a list of its distinct
 * values and, per row, a place in the list:
 *
 *		x		0 0 0 1 1 2			value {0, 1, 2}			rank {0 0 0 1 1 2}
 *		t_cal	5 6 9 6 9 9			value {5, 6, 9}			rank {0 1 2 1 2 2}
 *
 * Times and money are divided by a power of two on the way, which loses no
 * bit: the search works near 1 whatever the unit.
 *
 * Tests: test/sql/value_fit.sql.  Page: doc/value_fit.md.
 */
#include "value_fit.h"

#include <math.h>

#include "miscadmin.h"

/* a column with no more values is looked up in a table that stays in the cache */
#define FEW				4096
#define FEW_SLOTS		(4 * FEW)

#define ST_SORT sort_doubles
#define ST_ELEMENT_TYPE double
#define ST_COMPARE(a, b) (*(a) < *(b) ? -1 : *(a) > *(b) ? 1 : 0)
#define ST_CHECK_FOR_INTERRUPTS
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

/* Sort and leave each value once; answers how many there are. */
static uint32
distinct(double *value, int64 n)
{
	uint32		kept = 0;

	sort_doubles(value, n);
	for (int64 i = 0; i < n; i++)
		if (kept == 0 || value[i] != value[kept - 1])
			value[kept++] = value[i];
	return kept;
}

/* Place of a value that is in the list. */
static uint32
find(const FitColumn *column, double value)
{
	uint32		low = 0;
	uint32		high = column->ndistinct - 1;

	while (low < high)
	{
		uint32		mid = low + (high - low) / 2;

		if (column->value[mid] < value)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Ranks of a column with few values; false when there are more. */
static bool
rank_few(FitColumn *column, const double *row, int width, int64 n)
{
	double	   *slot = palloc(FEW_SLOTS * sizeof(double));
	uint32	   *number = palloc0(FEW_SLOTS * sizeof(uint32));	/* from 1; 0: free */
	double	   *arrived = palloc(FEW * sizeof(double));
	uint32	   *place = palloc(FEW * sizeof(uint32));
	uint32		narrived = 0;

	for (int64 i = 0; i < n; i++, row += width)
	{
		uint64		bits;
		uint32		at;

		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
		memcpy(&bits, row, sizeof(bits));
		at = (bits ^ (bits >> 32)) * UINT64CONST(0x9E3779B97F4A7C15) >> 50;
		while (number[at] != 0 && slot[at] != *row)
			at = (at + 1) & (FEW_SLOTS - 1);
		if (number[at] == 0)
		{
			if (narrived == FEW)
				break;
			slot[at] = arrived[narrived++] = *row;
			number[at] = narrived;
		}
		column->rank[i] = number[at] - 1;
		if (i == n - 1)
		{
			column->value = palloc(narrived * sizeof(double));
			memcpy(column->value, arrived, narrived * sizeof(double));
			column->ndistinct = distinct(column->value, narrived);
			for (uint32 v = 0; v < narrived; v++)
				place[v] = find(column, arrived[v]);
			for (int64 j = 0; j < n; j++)
				column->rank[j] = place[column->rank[j]];
			narrived = 0;
		}
	}
	pfree(slot);
	pfree(number);
	pfree(arrived);
	pfree(place);
	return narrived == 0;
}

/* ... with many. */
static void
rank_many(FitColumn *column, const double *row, int width, int64 n)
{
	column->value = palloc_extended(n * sizeof(double), MCXT_ALLOC_HUGE);
	for (int64 i = 0; i < n; i++)
		column->value[i] = row[i * width];
	column->ndistinct = distinct(column->value, n);
	for (int64 i = 0; i < n; i++)
	{
		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
		column->rank[i] = find(column, row[i * width]);
	}
}

/*
 * Rows of a sorted state.  Of its columns the first ncolumns are taken, and
 * rows that are equal then become one; positive leaves out rows with a zero.
 * The columns whose bit is set in scaled are divided by 2^exponent.
 */
FitRows *
cdp_fit_rows(const FitState *state, int ncolumns, bool positive, uint32 scaled, int exponent)
{
	FitRows    *rows = palloc0(sizeof(FitRows));
	double	   *packed = NULL;
	const double *data = state->data;
	int			width = state->width;

	Assert(state->sorted && ncolumns <= state->ncolumns);
	rows->ncolumns = ncolumns;
	rows->weight = palloc_extended(state->nrows * sizeof(double), MCXT_ALLOC_HUGE);
	if (ncolumns < state->ncolumns || positive)
		packed = palloc_extended(state->nrows * ncolumns * sizeof(double), MCXT_ALLOC_HUGE);
	for (int64 i = 0; i < state->nrows; i++)
	{
		const double *row = state->data + i * state->width;
		double		weight = row[state->ncolumns];
		bool		zero = false;

		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
		for (int c = 0; c < ncolumns && positive; c++)
			zero = zero || row[c] == 0;
		if (zero)
			continue;
		rows->total += weight;
		if (packed)
		{
			double	   *last = packed + rows->nrows * ncolumns;

			if (rows->nrows > 0 && memcmp(last - ncolumns, row, ncolumns * sizeof(double)) == 0)
			{
				rows->weight[rows->nrows - 1] += weight;
				continue;
			}
			memcpy(last, row, ncolumns * sizeof(double));
		}
		rows->weight[rows->nrows++] = weight;
	}
	if (packed)
	{
		data = packed;
		width = ncolumns;
	}
	for (int c = 0; c < ncolumns; c++)
	{
		FitColumn  *column = &rows->column[c];

		column->rank = palloc_extended(rows->nrows * sizeof(uint32), MCXT_ALLOC_HUGE);
		if (!rank_few(column, data + c, width, rows->nrows))
			rank_many(column, data + c, width, rows->nrows);
		if (scaled & (1 << c))
			for (uint32 v = 0; v < column->ndistinct; v++)
				column->value[v] = ldexp(column->value[v], -exponent);
	}
	if (packed)
		pfree(packed);
	return rows;
}

/*
 * About n of the rows, chosen at even steps of the customers in their order:
 * a row is as often in the sample as its weight says, and weighs as often.
 */
FitRows *
cdp_fit_rows_sample(const FitRows *all, int64 n)
{
	FitRows    *rows = palloc0(sizeof(FitRows));
	int64	   *chosen = palloc(n * sizeof(int64));
	double		step = all->total / n;
	double		passed = 0;
	double		next = 0.5 * step;

	rows->ncolumns = all->ncolumns;
	rows->weight = palloc(n * sizeof(double));
	for (int64 i = 0; i < all->nrows && rows->nrows < n; i++)
	{
		double		times;

		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
		passed += all->weight[i];
		if (passed < next)
			continue;
		times = floor((passed - next) / step) + 1;
		next += times * step;
		chosen[rows->nrows] = i;
		rows->weight[rows->nrows++] = times * step;
		rows->total += times * step;
	}
	for (int c = 0; c < all->ncolumns; c++)
	{
		const FitColumn *from = &all->column[c];
		FitColumn  *to = &rows->column[c];

		to->value = palloc(rows->nrows * sizeof(double));
		to->rank = palloc(rows->nrows * sizeof(uint32));
		for (int64 i = 0; i < rows->nrows; i++)
			to->value[i] = from->value[from->rank[chosen[i]]];
		to->ndistinct = distinct(to->value, rows->nrows);
		for (int64 i = 0; i < rows->nrows; i++)
			to->rank[i] = find(to, from->value[from->rank[chosen[i]]]);
	}
	pfree(chosen);
	return rows;
}
