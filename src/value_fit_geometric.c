/*
 * value_fit_geometric.c
 *	  ln L and its gradient over all rows: BG/NBD, MBG/NBD, MBG/CNBD-k.
 *
 * The three are one formula (value_likelihood.c has it for one customer).
 * With m = r + kx, in a row
 *
 *		ln L = common(x) + ln( gone(x) (alpha+t_x)^-m  +  alive(x) phases(u) (alpha+T)^-m )
 *
 *					gone(x)			alive(x)		common: ln B ratio
 *		BG/NBD		a/(b+x-1), x>0	1				B(a, b+x) / B(a, b)
 *		MBG			a/(a+b+x)		(b+x)/(a+b+x)	the same
 *
 * and phases(u), u = (T-t_x)/(alpha+T), a polynomial of degree k-1 with
 * coefficients (m)_j/j!; 1 for k = 1.  Rows of one x are neighbours: all that
 * depends on x alone is taken out of the loop over rows, also out of the sums
 * for the gradient, and the logarithms of alpha + time are tables over the
 * distinct times.  What is left per row is one exp and one log1p.
 *
 * Tests: test/sql/value_fit.sql, test/sql/value_published.sql.
 */
#include "value_fit.h"

#include <math.h>

#include "miscadmin.h"

#include "value_likelihood.h"
#include "value_math.h"

#define COL_X		0
#define COL_T_X		1
#define COL_T_CAL	2

/* ln(alpha + t) and 1/(alpha + t) for each distinct time */
typedef struct TimeTable
{
	double	   *log;
	double	   *inverse;
} TimeTable;

typedef struct Tables
{
	TimeTable	t_x;
	TimeTable	t_cal;
} Tables;

/* What one x contributes, before its rows are seen. */
typedef struct XTerms
{
	double		m;
	double		log_gone;
	double		log_alive;
	double		gone_a,
				gone_b,			/* derivatives of log_gone */
				alive_a,
				alive_b;		/* ... of log_alive */
	double		coefficient[MODEL_MAX_K];	/* of the polynomial */
	double		by_r[MODEL_MAX_K];	/* derivatives of its logarithms */
} XTerms;

/* Sums over the rows of one x: weights, and weights times shares of alive and gone. */
typedef struct Sums
{
	double		weight;
	double		gone;
	double		value;			/* ln L but for what x alone gives */
	double		log_time;		/* of alpha + the time that counts */
	double		inverse;
	double		by_r;			/* ln phases by r, by alpha */
	double		by_alpha;
} Sums;

static void
fill_table(TimeTable *table, const FitColumn *column, double alpha)
{
	for (uint32 i = 0; i < column->ndistinct; i++)
	{
		double		t = alpha + column->value[i];

		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
		table->log[i] = log(t);
		table->inverse[i] = 1.0 / t;
	}
}

static void
make_table(TimeTable *table, const FitColumn *column)
{
	table->log = palloc_extended(column->ndistinct * sizeof(double), MCXT_ALLOC_HUGE);
	table->inverse = palloc_extended(column->ndistinct * sizeof(double), MCXT_ALLOC_HUGE);
}

static void
x_terms(const FitProblem *problem, const double *par, double x, XTerms *t)
{
	double		a = par[2];
	double		b = par[3];
	double		step = 0;

	t->m = par[0] + problem->k * x;
	if (problem->kind == MODEL_BGNBD)
	{
		t->log_gone = x > 0 ? log(a / (b + x - 1)) : -INFINITY;
		t->gone_a = 1.0 / a;
		t->gone_b = x > 0 ? -1.0 / (b + x - 1) : 0.0;
		t->log_alive = t->alive_a = t->alive_b = 0;
	}
	else
	{
		double		all = 1.0 / (a + b + x);

		t->log_gone = log(a * all);
		t->log_alive = log((b + x) * all);
		t->gone_a = 1.0 / a - all;
		t->gone_b = -all;
		t->alive_a = -all;
		t->alive_b = 1.0 / (b + x) - all;
	}
	t->coefficient[0] = 1;
	t->by_r[0] = 0;
	for (int j = 1; j < problem->k; j++)
	{
		step += 1.0 / (t->m + j - 1);
		t->coefficient[j] = t->coefficient[j - 1] * (t->m + j - 1) / j;
		t->by_r[j] = step;
	}
}

/* ln phases(u), its derivative by r, and du/dln... by u. */
static inline double
phases(const XTerms *t, int k, double u, double *by_r, double *by_u)
{
	double		power = 1;		/* u^(j-1) */
	double		sum = 1;
	double		sum_r = 0;
	double		sum_u = 0;

	for (int j = 1; j < k; j++)
	{
		double		term = t->coefficient[j] * power;

		sum_u += j * term;
		sum += term * u;
		sum_r += term * u * t->by_r[j];
		power *= u;
	}
	*by_r = sum_r / sum;
	*by_u = sum_u / sum;
	return log(sum);
}

/* The rows from i on that have the x of row i; answers where they end. */
static int64
x_rows(const FitProblem *problem, const XTerms *t, int64 i, Sums *sums)
{
	const FitRows *rows = problem->rows;
	const Tables *tables = problem->tables;
	const uint32 *x = rows->column[COL_X].rank;
	const uint32 *t_x = rows->column[COL_T_X].rank;
	const uint32 *t_cal = rows->column[COL_T_CAL].rank;
	uint32		this_x = x[i];
	bool		nobody_left = isinf(t->log_gone);
	double		ratio = t->log_gone - t->log_alive;
	int			k = problem->k;

	memset(sums, 0, sizeof(Sums));
	for (; i < rows->nrows && x[i] == this_x; i++)
	{
		double		weight = rows->weight[i];
		double		log_cal = tables->t_cal.log[t_cal[i]];
		double		log_x = tables->t_x.log[t_x[i]];
		double		inverse_cal = tables->t_cal.inverse[t_cal[i]];
		double		log_phases = 0;
		double		odds;		/* ln of gone to alive */
		double		gone;

		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
		sums->weight += weight;
		if (nobody_left)
		{
			sums->value -= weight * t->m * log_cal;
			sums->log_time += weight * log_cal;
			sums->inverse += weight * inverse_cal;
			continue;
		}
		odds = ratio + t->m * (log_cal - log_x);
		if (k > 1)
		{
			double		u = (rows->column[COL_T_CAL].value[t_cal[i]] - rows->column[COL_T_X].value[t_x[i]]) * inverse_cal;
			double		by_r;
			double		by_u;

			log_phases = phases(t, k, u, &by_r, &by_u);
			odds -= log_phases;
			gone = 1.0 / (1.0 + exp(-odds));
			sums->by_r += weight * (1 - gone) * by_r;
			sums->by_alpha -= weight * (1 - gone) * by_u * u * inverse_cal;
			/* the larger of the two parts is taken out of the logarithm */
			sums->value += weight * (odds > 0 ? t->log_gone - t->m * log_x - log(gone)
									 : t->log_alive + log_phases - t->m * log_cal - log1p(-gone));
		}
		else if (odds > 0)
		{
			double		e = exp(-odds);

			gone = 1.0 / (1.0 + e);
			sums->value += weight * (t->log_gone - t->m * log_x + log1p(e));
		}
		else
		{
			double		e = exp(odds);

			gone = e / (1.0 + e);
			sums->value += weight * (t->log_alive - t->m * log_cal + log1p(e));
		}
		sums->gone += weight * gone;
		sums->log_time += weight * (log_cal + gone * (log_x - log_cal));
		sums->inverse += weight * (inverse_cal + gone * (tables->t_x.inverse[t_x[i]] - inverse_cal));
	}
	return i;
}

/* ln L of all rows; parameters r, alpha, a, b. */
static double
evaluate(FitProblem *problem, const double *par, double *gradient)
{
	const FitRows *rows = problem->rows;
	Tables	   *tables = problem->tables;
	double		r = par[0];
	double		alpha = par[1];
	double		a = par[2];
	double		b = par[3];
	double		value = 0;
	double		log_phases = cdp_log_gamma(problem->k);
	double		digamma_r = cdp_digamma(r);
	double		digamma_b = cdp_digamma(b);
	double		digamma_ab = cdp_digamma(a + b);

	fill_table(&tables->t_x, &rows->column[COL_T_X], alpha);
	fill_table(&tables->t_cal, &rows->column[COL_T_CAL], alpha);
	memset(gradient, 0, 4 * sizeof(double));
	for (int64 i = 0; i < rows->nrows;)
	{
		double		x = fit_value(rows, COL_X, i);
		XTerms		t;
		Sums		sums;
		double		beta_step;	/* psi(a+b) - psi(a+b+x) */

		x_terms(problem, par, x, &t);
		i = x_rows(problem, &t, i, &sums);
		beta_step = digamma_ab - cdp_digamma(a + b + x);
		value += sums.value + sums.weight *
			(cdp_log_rising(r, problem->k * x) + cdp_log_rising(b, x) - cdp_log_rising(a + b, x) - x * log_phases);
		gradient[0] += sums.weight * (cdp_digamma(t.m) - digamma_r) - sums.log_time + sums.by_r;
		gradient[1] += sums.by_alpha - t.m * sums.inverse;
		gradient[2] += sums.weight * beta_step + sums.gone * t.gone_a + (sums.weight - sums.gone) * t.alive_a;
		gradient[3] += sums.weight * (cdp_digamma(b + x) - digamma_b + beta_step) +
			sums.gone * t.gone_b + (sums.weight - sums.gone) * t.alive_b;
	}
	value += rows->total * r * log(alpha);
	gradient[0] += rows->total * log(alpha);
	gradient[1] += rows->total * r / alpha;
	return value;
}

/* A problem of the family over problem->rows. */
void
cdp_prepare_geometric(FitProblem *problem)
{
	Tables	   *tables = palloc(sizeof(Tables));

	make_table(&tables->t_x, &problem->rows->column[COL_T_X]);
	make_table(&tables->t_cal, &problem->rows->column[COL_T_CAL]);
	problem->tables = tables;
	problem->evaluate = evaluate;
}
