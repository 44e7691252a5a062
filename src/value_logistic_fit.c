/*
 * value_logistic_fit.c
 *	  The fit of a logistic regression.
 *
 * Maximises  sum of w * ln p(y) - ridge / 2 * sum of b_j^2  by Newton's
 * method, which for this model is the same as iteratively reweighted least
 * squares (McCullagh and Nelder, Generalized Linear Models, 1989, ch. 4):
 *
 *		1.-3. value_logistic_rows.c: sort, standardise, choose features; the
 *		   b_j above are those of standardised features
 *		4. Newton steps, damped where the objective would fall
 *		5. standard errors from the inverse of the information matrix; AUC
 *
 * Separation.  When a combination of features parts true from false there is
 * no maximum: each step moves the predictor of some rows by about 1, while
 * what it gains goes to 0.  That is the mark: a Newton decrement of nothing
 * with a predictor that goes on at the same pace.  At a maximum both go to 0
 * together, also with rows far out, whose predictor may be large without any
 * separation.
 *
 * A fit never raises for data: what is the matter stands in reason.
 */
#include "value_logistic.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/float.h"
#include "utils/memutils.h"

#include <math.h>

#define MAX_ITERATIONS		200
/* squared step, in standard errors, after which one more step is exact */
#define SMALL_DECREMENT		1e-12
/* and below which a predictor that moves tells of separation */
#define NO_DECREMENT		1e-8
#define MOVES				0.1
#define RESTS				1e-4
/* |eta| from which on a row says next to nothing */
#define SATURATED			15
/* shares of the information without features */
#define FIRST_DAMPING		1e-4
#define LEAST_DAMPING		1e-10

/*
 * Newton
 */

/* Log likelihood, gradient and information at b; largest |eta|. */
static void
evaluate(LogisticWork *w, const double *b)
{
	int			m = 1 + w->q;
	double		z[1 + LOGISTIC_MAX_FEATURES];

	memset(w->gradient, 0, m * sizeof(double));
	memset(w->hessian, 0, TRIANGLE(m) * sizeof(double));
	w->log_likelihood = 0;
	w->largest = 0;
	for (int64 i = 0; i < w->n; i++)
	{
		const LogisticGroup *g = &w->groups[i];
		double		eta = 0;
		double		e,
					p,
					not_p,
					residual,
					weight;
		double	   *h = w->hessian;

		if ((i & 63) == 0)
			CHECK_FOR_INTERRUPTS();
		logistic_z(w, g->x, z);
		for (int j = 0; j < m; j++)
			eta += b[j] * z[j];
		/* p and 1 - p, each to full precision, from e^-|eta| */
		e = exp(-fabs(eta));
		p = (eta >= 0 ? 1 : e) / (1 + e);
		not_p = (eta >= 0 ? e : 1) / (1 + e);
		w->log_likelihood -= (g->pos + g->neg) * log1p(e) + (eta >= 0 ? g->neg : g->pos) * fabs(eta);
		w->largest = Max(w->largest, fabs(eta));
		residual = g->pos * not_p - g->neg * p;
		weight = (g->pos + g->neg) * p * not_p;
		for (int j = 0; j < m; j++)
		{
			double		wz = weight * z[j];

			w->gradient[j] += residual * z[j];
			for (int k = 0; k <= j; k++)
				*h++ += wz * z[k];
		}
	}
	for (int j = 1; j < m; j++)
	{
		w->gradient[j] -= w->ridge * b[j];
		LOWER(w->hessian, j, j) += w->ridge;
	}
}

/* Sum of squares of what the ridge draws to 0. */
static double
penalty(const LogisticWork *w, const double *b)
{
	double		sum = 0;

	for (int j = 1; j <= w->q; j++)
		sum += b[j] * b[j];
	return sum;
}

/* What is maximised. */
static double
objective(const LogisticWork *w, const double *b)
{
	return w->log_likelihood - w->ridge / 2 * penalty(w, b);
}

/* h becomes its Cholesky factor; false when it has none. */
static bool
factor(double *h, int m)
{
	for (int i = 0; i < m; i++)
	{
		double		least = LOWER(h, i, i) * 1e-15;

		for (int j = 0; j <= i; j++)
		{
			double		s = LOWER(h, i, j);

			for (int k = 0; k < j; k++)
				s -= LOWER(h, i, k) * LOWER(h, j, k);
			if (j < i)
				LOWER(h, i, j) = s / LOWER(h, j, j);
			else if (s > least)
				LOWER(h, i, i) = sqrt(s);
			else
				return false;
		}
	}
	return true;
}

/* x := (L L')^-1 x */
static void
solve(const double *l, int m, double *x)
{
	for (int i = 0; i < m; i++)
	{
		for (int k = 0; k < i; k++)
			x[i] -= LOWER(l, i, k) * x[k];
		x[i] /= LOWER(l, i, i);
	}
	for (int i = m - 1; i >= 0; i--)
	{
		for (int k = i + 1; k < m; k++)
			x[i] -= LOWER(l, k, i) * x[k];
		x[i] /= LOWER(l, i, i);
	}
}

/* How far a step moves the predictor of any row. */
static double
largest_move(const LogisticWork *w, const double *step)
{
	double		z[1 + LOGISTIC_MAX_FEATURES];
	double		largest = 0;

	for (int64 i = 0; i < w->n; i++)
	{
		double		move = 0;

		if ((i & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
		logistic_z(w, w->groups[i].x, z);
		for (int j = 0; j <= w->q; j++)
			move += step[j] * z[j];
		largest = Max(largest, fabs(move));
	}
	return largest;
}

/* The matrix of the step: information, damped by a share of what it is without any feature. */
static bool
factor_damped(const LogisticWork *w, double *l, double damping)
{
	int			m = 1 + w->q;

	memcpy(l, w->hessian, TRIANGLE(m) * sizeof(double));
	for (int j = 0; j < m; j++)
		LOWER(l, j, j) += damping * w->plain;
	return factor(l, m);
}

/*
 * Newton's method from the intercept alone.  Where a step would lower the
 * objective, or the information has vanished because a step went too far,
 * the step is damped (Levenberg 1944, Marquardt 1963) until it does not: the
 * objective is concave, so that comes to the maximum from anywhere.  At the
 * end w is evaluated at b, and l is the factor of the information, if it has
 * one: answers whether it has.
 */
static bool
maximise(LogisticWork *w, double *b, double *l, LogisticFit *fit)
{
	int			m = 1 + w->q;
	double	   *step = palloc(m * sizeof(double));
	double	   *next = palloc(m * sizeof(double));
	double	   *gradient = palloc(m * sizeof(double));
	double	   *hessian = palloc(TRIANGLE(m) * sizeof(double));
	double		damping = 0;
	double		last_moves = get_float8_infinity();
	int			steady = 0;

	fit->reason = "iteration limit";
	memset(b, 0, m * sizeof(double));
	b[0] = log(w->pos / w->neg);
	evaluate(w, b);
	for (fit->iterations = 1; fit->iterations <= MAX_ITERATIONS; fit->iterations++)
	{
		double		before = objective(w, b);
		double		largest = w->largest;
		double		decrement = 0;
		double		gain;
		bool		singular = false;

		while (!factor_damped(w, l, damping))
		{
			singular = true;
			damping = Max(damping * 10, LEAST_DAMPING);
		}
		memcpy(step, w->gradient, m * sizeof(double));
		solve(l, m, step);
		for (int j = 0; j < m; j++)
			decrement += step[j] * w->gradient[j];
		/* a look at all rows only where it decides something */
		if (decrement < NO_DECREMENT * w->least && (damping == 0 || singular))
		{
			double		moves = largest_move(w, step);

			if ((moves > MOVES && moves > last_moves / 2 && ++steady > 1) || (singular && largest > SATURATED))
			{
				fit->separated = true;
				fit->reason = "separated";
				return factor_damped(w, l, 0);
			}
			last_moves = moves;
			if (decrement < SMALL_DECREMENT * w->least && moves < RESTS && !singular)
			{
				fit->converged = true;
				fit->reason = "ok";
			}
		}
		/* a step that is not taken leaves everything as it was */
		memcpy(gradient, w->gradient, m * sizeof(double));
		memcpy(hessian, w->hessian, TRIANGLE(m) * sizeof(double));
		for (int j = 0; j < m; j++)
			next[j] = b[j] + step[j];
		evaluate(w, next);
		gain = objective(w, next) - before;
		/* near the maximum rounding makes a good step look like none */
		if (decrement < NO_DECREMENT * w->least || gain >= -1e-13 * fabs(before))
		{
			memcpy(b, next, m * sizeof(double));
			if (fit->converged)
				break;
			/* the damping goes as fast as the objective is what it was foreseen to be */
			damping = gain > 0.4 * decrement ? damping / 100 : damping / 3;
			if (damping < LEAST_DAMPING)
				damping = 0;
		}
		else
		{
			memcpy(w->gradient, gradient, m * sizeof(double));
			memcpy(w->hessian, hessian, TRIANGLE(m) * sizeof(double));
			w->largest = largest;
			w->log_likelihood = before + w->ridge / 2 * penalty(w, b);
			damping = Max(damping * 10, FIRST_DAMPING);
		}
	}
	fit->iterations = Min(fit->iterations, MAX_ITERATIONS);
	return factor_damped(w, l, 0);
}

/*
 * The result
 */

/* Coefficients and standard errors in units of the features as they came. */
static void
unscale(const LogisticWork *w, const double *b, const double *l, bool factored, LogisticFit *fit)
{
	int			m = 1 + w->q;
	double	   *column = palloc(m * sizeof(double));
	double	   *unit = palloc0(m * sizeof(double));	/* d intercept / d b */

	for (int j = 0; j < fit->ncoefficients; j++)
	{
		fit->coefficients[j] = 0;
		fit->se_null[j] = true;
	}
	fit->coefficients[0] = b[0];
	unit[0] = 1;
	for (int k = 0; k < w->q; k++)
	{
		int			j = w->kept[k];

		fit->coefficients[1 + j] = b[1 + k] / w->sd[j] * w->scale[j];
		unit[1 + k] = -w->mean[j] / w->sd[j];
		fit->coefficients[0] += b[1 + k] * unit[1 + k];
	}
	if (!factored)
		return;
	for (int k = 0; k < m; k++)
	{
		double		variance = 0;

		/* e' V e with e the unit vector, or for the intercept all of unit */
		for (int i = 0; i < m; i++)
			column[i] = k == 0 ? unit[i] : i == k;
		solve(l, m, column);
		for (int i = 0; i < m; i++)
			variance += column[i] * (k == 0 ? unit[i] : i == k);
		if (k == 0)
			fit->se[0] = sqrt(variance);
		else
			fit->se[1 + w->kept[k - 1]] = sqrt(variance) / w->sd[w->kept[k - 1]] * w->scale[w->kept[k - 1]];
		fit->se_null[k == 0 ? 0 : 1 + w->kept[k - 1]] = false;
	}
	pfree(column);
	pfree(unit);
}

typedef struct Scored
{
	double		eta;
	double		pos;
	double		neg;
} Scored;

#define ST_SORT logistic_sort_scores
#define ST_ELEMENT_TYPE Scored
#define ST_COMPARE(a, b) ((a)->eta < (b)->eta ? -1 : (a)->eta > (b)->eta)
#define ST_CHECK_FOR_INTERRUPTS
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

/*
 * Area under the ROC curve as the Mann-Whitney statistic: the share of pairs
 * of a true and a false row where the true one has the higher prediction, a
 * pair of equals as half (Hanley and McNeil 1982).  Counts stay whole, so
 * the share is exact.
 */
static double
area(const LogisticWork *w, const LogisticFit *fit)
{
	Scored	   *s = MemoryContextAllocHuge(CurrentMemoryContext, w->n * sizeof(Scored));
	double		below = 0;
	double		pairs = 0;
	double		result;

	for (int64 i = 0; i < w->n; i++)
	{
		if ((i & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
		s[i].eta = logistic_eta(fit->coefficients, w->groups[i].x, w->p);
		s[i].pos = w->groups[i].pos;
		s[i].neg = w->groups[i].neg;
	}
	logistic_sort_scores(s, w->n);
	for (int64 i = 0; i < w->n;)
	{
		double		pos = 0;
		double		neg = 0;
		double		eta = s[i].eta;

		for (; i < w->n && s[i].eta == eta; i++)
		{
			pos += s[i].pos;
			neg += s[i].neg;
		}
		pairs += pos * (below + neg / 2);
		below += neg;
	}
	result = pairs / (fit->positives * below);
	pfree(s);
	return result;
}

/* What a group without both outcomes gets: half an observation of the other one. */
static void
fit_one_outcome(const LogisticWork *w, LogisticFit *fit)
{
	double		eta = log((w->total + 0.5) / 0.5);

	for (int j = 0; j < fit->ncoefficients; j++)
	{
		fit->coefficients[j] = 0;
		fit->se_null[j] = true;
	}
	fit->coefficients[0] = fit->positives > 0 ? eta : -eta;
	fit->log_likelihood = -w->total * log1p(exp(-eta));
	fit->null_log_likelihood = 0;
	fit->separated = true;
	fit->reason = "all outcomes equal";
	fit->auc = get_float8_nan();
}

/* The names of features that are not in the model, added to the reason. */
static void
tell_left_out(const LogisticWork *w, LogisticFit *fit)
{
	StringInfoData buf;
	int			k = 0;

	if (w->q == w->p)
		return;
	initStringInfo(&buf);
	if (strcmp(fit->reason, "ok") != 0)
		appendStringInfo(&buf, "%s; ", fit->reason);
	appendStringInfoString(&buf, "constant or collinear, left out: feature");
	for (int j = 0, told = 0; j < w->p; j++)
	{
		if (k < w->q && w->kept[k] == j)
			k++;
		else
			appendStringInfo(&buf, "%s %d", told++ ? "," : "", j + 1);
	}
	fit->reason = buf.data;
}

void
cdp_logistic_fit(const LogisticState *state, LogisticFit *fit)
{
	LogisticWork w = {.p = state->nfeatures, .ridge = state->ridge};
	double		b[1 + LOGISTIC_MAX_FEATURES];
	int			m = 1 + w.p;
	double	   *l;
	bool		factored;

	Assert(state->nrows > 0);
	memset(fit, 0, sizeof(*fit));
	fit->ncoefficients = m;
	fit->coefficients = palloc0(m * sizeof(double));
	fit->se = palloc0(m * sizeof(double));
	fit->se_null = palloc0(m * sizeof(bool));
	cdp_logistic_group(state, &w);
	w.least = 1;
	for (int64 i = 0; i < w.n; i++)
	{
		w.pos += w.groups[i].pos;
		w.neg += w.groups[i].neg;
		if (w.groups[i].pos > 0)
			w.least = Min(w.least, w.groups[i].pos);
		if (w.groups[i].neg > 0)
			w.least = Min(w.least, w.groups[i].neg);
	}
	w.total = w.pos + w.neg;
	fit->customers = w.total;
	fit->positives = w.pos;
	if (w.pos == 0 || w.neg == 0)
	{
		fit_one_outcome(&w, fit);
		return;
	}
	w.plain = w.pos * (w.neg / w.total);
	fit->null_log_likelihood = -w.pos * log1p(w.neg / w.pos) - w.neg * log1p(w.pos / w.neg);
	w.scale = palloc(m * sizeof(double));
	w.mean = palloc(m * sizeof(double));
	w.sd = palloc(m * sizeof(double));
	w.kept = palloc(m * sizeof(int));
	cdp_logistic_standardise(&w);
	cdp_logistic_choose(&w);
	w.gradient = palloc((1 + w.q) * sizeof(double));
	w.hessian = palloc(TRIANGLE(1 + w.q) * sizeof(double));
	l = palloc(TRIANGLE(1 + w.q) * sizeof(double));
	factored = maximise(&w, b, l, fit);
	unscale(&w, b, l, factored, fit);
	fit->log_likelihood = w.log_likelihood;
	tell_left_out(&w, fit);
	fit->auc = area(&w, fit);
	pfree(w.groups);
}
