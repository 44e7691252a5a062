/*
 * value_fit_other.c
 *	  ln L and its gradient over all rows: NBD, Gamma-Gamma, BG/BB, sBG.
 *
 * NBD and Gamma-Gamma meet millions of rows and take all that depends on x
 * alone out of the loop over the rows of one x.  BG/BB and sBG count whole
 * periods: they have a few hundred distinct rows and ask value_likelihood.c
 * about each.
 *
 * Tests: test/sql/value_fit.sql, test/pgtap/value_published.sql.
 */
#include "value_fit.h"

#include <math.h>

#include "miscadmin.h"

#include "value_likelihood.h"
#include "value_math.h"

/* NBD: r, alpha; rows (x, t_cal). */
static double
evaluate_nbd(FitProblem *problem, const double *par, double *gradient)
{
	const FitRows *rows = problem->rows;
	const FitColumn *t_cal = &rows->column[1];
	double	   *log_time = problem->tables;	/* NULL: too many */
	double		r = par[0];
	double		alpha = par[1];
	double		digamma_r = cdp_digamma(r);
	double		value = 0;

	for (uint32 i = 0; log_time && i < t_cal->ndistinct; i++)
		log_time[i] = log1p(t_cal->value[i] / alpha);
	gradient[0] = gradient[1] = 0;
	for (int64 i = 0; i < rows->nrows;)
	{
		uint32		this_x = rows->column[0].rank[i];
		double		x = rows->column[0].value[this_x];
		double		weight = 0;
		double		logs = 0;
		double		slopes = 0;

		for (; i < rows->nrows && rows->column[0].rank[i] == this_x; i++)
		{
			uint32		t = t_cal->rank[i];

			if ((i & 0xffff) == 0)
				CHECK_FOR_INTERRUPTS();
			weight += rows->weight[i];
			logs += rows->weight[i] * (log_time ? log_time[t] : log1p(t_cal->value[t] / alpha));
			slopes += rows->weight[i] * t_cal->value[t] / (alpha + t_cal->value[t]);
		}
		value += weight * (cdp_log_rising(r, x) - x * log(alpha)) - (r + x) * logs;
		gradient[0] += weight * (cdp_digamma(r + x) - digamma_r) - logs;
		gradient[1] += ((r + x) * slopes - weight * x) / alpha;
	}
	return value;
}

void
cdp_prepare_nbd(FitProblem *problem)
{
	if (problem->rows->column[1].ndistinct <= FIT_TABLE_MAX)
		problem->tables = palloc(problem->rows->column[1].ndistinct * sizeof(double));
	problem->evaluate = evaluate_nbd;
}

/*
 * Gamma-Gamma: p, q, v; rows (x, mean_amount).  With S = xz, ln L is
 * - ln B(px, q) - ln z - px ln(1 + v/S) - q ln(1 + S/v): no term is large
 * against the sum, whichever parameter runs off.
 */
static double
evaluate_gammagamma(FitProblem *problem, const double *par, double *gradient)
{
	const FitRows *rows = problem->rows;
	const double *log_amount = problem->tables;
	double		p = par[0];
	double		q = par[1];
	double		v = par[2];
	double		digamma_q = cdp_digamma(q);
	double		value = 0;

	memset(gradient, 0, 3 * sizeof(double));
	for (int64 i = 0; i < rows->nrows;)
	{
		uint32		this_x = rows->column[0].rank[i];
		double		x = rows->column[0].value[this_x];
		double		weight = 0;
		double		above = 0;	/* ln(1 + v/S) */
		double		below = 0;	/* ln(1 + S/v) */
		double		shares = 0; /* S / (v + S) */
		double		rests = 0;	/* v / (v + S) */
		double		amounts = 0;	/* ln z */
		double		log_x_v = log(x / v);
		double		digamma_sum;

		for (; i < rows->nrows && rows->column[0].rank[i] == this_x; i++)
		{
			uint32		z = rows->column[1].rank[i];
			double		w = rows->weight[i];
			double		ratio = log_x_v + log_amount[z];	/* ln S/v */
			double		smaller = exp(-fabs(ratio));	/* S/v or v/S */
			double		both = log1p(smaller);

			if ((i & 0xffff) == 0)
				CHECK_FOR_INTERRUPTS();
			weight += w;
			above += w * (both - Min(ratio, 0));
			below += w * (both + Max(ratio, 0));
			shares += w * (ratio > 0 ? 1 : smaller) / (1 + smaller);
			rests += w * (ratio > 0 ? smaller : 1) / (1 + smaller);
			amounts += w * log_amount[z];
		}
		digamma_sum = cdp_digamma(p * x + q);
		value -= weight * cdp_log_beta(p * x, q) + amounts + p * x * above + q * below;
		gradient[0] += x * (weight * (digamma_sum - cdp_digamma(p * x)) - above);
		gradient[1] += weight * (digamma_sum - digamma_q) - below;
		gradient[2] += (q * shares - p * x * rests) / v;
	}
	return value;
}

void
cdp_prepare_gammagamma(FitProblem *problem)
{
	const FitColumn *amount = &problem->rows->column[1];
	double	   *log_amount = palloc_extended(amount->ndistinct * sizeof(double), MCXT_ALLOC_HUGE);

	/* an amount that the scale has made 0 is a small one still */
	for (uint32 i = 0; i < amount->ndistinct; i++)
		log_amount[i] = log(Max(amount->value[i], 1e-307));
	problem->tables = log_amount;
	problem->evaluate = evaluate_gammagamma;
}

/* BG/BB: alpha, beta, gamma, delta; rows (x, t_x, n). */
static double
evaluate_bgbb(FitProblem *problem, const double *par, double *gradient)
{
	const FitRows *rows = problem->rows;
	double		value = 0;

	memset(gradient, 0, 4 * sizeof(double));
	for (int64 i = 0; i < rows->nrows; i++)
	{
		double		own[4];

		if ((i & 0xff) == 0)
			CHECK_FOR_INTERRUPTS();
		value += rows->weight[i] * cdp_bgbb_log_likelihood(par, fit_value(rows, 0, i), fit_value(rows, 1, i), fit_value(rows, 2, i), own);
		for (int p = 0; p < 4; p++)
			gradient[p] += rows->weight[i] * own[p];
	}
	return value;
}

void
cdp_prepare_bgbb(FitProblem *problem)
{
	problem->evaluate = evaluate_bgbb;
}

/* sBG: alpha, beta; rows (period, churned). */
static double
evaluate_sbg(FitProblem *problem, const double *par, double *gradient)
{
	const FitRows *rows = problem->rows;
	double		value = 0;

	memset(gradient, 0, 2 * sizeof(double));
	for (int64 i = 0; i < rows->nrows; i++)
	{
		double		own[2];

		if ((i & 0xfff) == 0)
			CHECK_FOR_INTERRUPTS();
		value += rows->weight[i] * cdp_sbg_log_likelihood(par, fit_value(rows, 0, i), fit_value(rows, 1, i) != 0, own);
		for (int p = 0; p < 2; p++)
			gradient[p] += rows->weight[i] * own[p];
	}
	return value;
}

void
cdp_prepare_sbg(FitProblem *problem)
{
	problem->evaluate = evaluate_sbg;
}
