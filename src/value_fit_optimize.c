/*
 * value_fit_optimize.c
 *	  The search for the parameters: BFGS, then Newton.
 *
 * A model has two to four parameters, all positive, and is searched in their
 * logarithms.  The function is smooth, its gradient exact, and the whole cost
 * is evaluations over the rows; so:
 *
 *	cdp_fit_search	BFGS (Nocedal, Wright 2006, chapter 6) with a step that is
 *					halved by a parabola until f has fallen enough, and with
 *					bounds: a parameter that runs off stays at its bound.  Ends
 *					when f no longer falls by a relative 1e-12, twice: f of a
 *					million customers is known to about that, and a smaller
 *					gradient than that allows would be waited for in vain.
 *	cdp_fit_polish	the second derivatives, as differences of the gradient,
 *					which the standard errors need anyway; and with them up to
 *					five Newton steps.  Near the optimum f is flat to its last
 *					digit but its gradient is not: this is what makes the
 *					parameters agree to 1e-9 whatever the unit of time, the
 *					start, or the order of the rows.
 *
 * Nothing raises an error here: a search that does not end says so.
 *
 * Tests: test/sql/value_fit.sql.  Page: doc/value_fit.md.
 */
#include "value_fit.h"

#include <math.h>

#include "miscadmin.h"

#define N				MODEL_MAX_PARAMETERS
#define F_TOLERANCE		1e-12	/* of a step, relative; twice */
#define G_TOLERANCE		1e-8	/* of the gradient, relative to f */
#define STEP_MAX		2.0		/* in one parameter's logarithm */
#define DIFFERENCE		1e-3	/* in theta, for second derivatives */
#define NEWTON_MAX		5
#define RIDGE			1e-9	/* pivot of the scaled Hessian that is none any more */

/* Parameters of theta. */
void
cdp_fit_parameters(const FitProblem *problem, const double *theta, double *par)
{
	for (int i = 0; i < problem->npar; i++)
		par[i] = problem->lower[i] + exp(theta[i]);
}

/* f = -ln L at theta, with its gradient; infinite where it has no value. */
double
cdp_fit_evaluate(FitProblem *problem, const double *theta, double *gradient)
{
	double		par[N];
	double		f;

	CHECK_FOR_INTERRUPTS();
	cdp_fit_parameters(problem, theta, par);
	problem->evaluations++;
	f = -problem->evaluate(problem, par, gradient);
	for (int i = 0; i < problem->npar; i++)
	{
		gradient[i] *= -(par[i] - problem->lower[i]);
		if (!isfinite(gradient[i]))
			f = INFINITY;
	}
	return isfinite(f) ? f : INFINITY;
}

/* The largest derivative, beside f; what points out of the bounds does not count. */
static double
gradient_size(const FitProblem *problem, const FitResult *at)
{
	double		largest = 0;

	for (int i = 0; i < problem->npar; i++)
	{
		bool		bound = fabs(at->theta[i]) >= FIT_THETA_MAX && at->gradient[i] * at->theta[i] < 0;

		if (!bound && fabs(at->gradient[i]) > largest)
			largest = fabs(at->gradient[i]);
	}
	return largest / Max(fabs(at->f), 1.0);
}

static double
dot(const double *a, const double *b, int n)
{
	double		sum = 0;

	for (int i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

/* inverse = diagonal, so that the first step is one of length one at most */
static void
start_inverse(double *inverse, int n, double scale)
{
	memset(inverse, 0, N * N * sizeof(double));
	for (int i = 0; i < n; i++)
		inverse[i * N + i] = scale;
}

/* The BFGS update of the inverse Hessian by a step s and a change y of the gradient. */
static void
update_inverse(double *inverse, const double *s, const double *y, int n)
{
	double		sy = dot(s, y, n);
	double		hy[N] = {0};
	double		yhy;

	for (int i = 0; i < n; i++)
		hy[i] = dot(inverse + i * N, y, n);
	yhy = dot(y, hy, n);
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++)
			inverse[i * N + j] += (1.0 + yhy / sy) * s[i] * s[j] / sy - (hy[i] * s[j] + s[i] * hy[j]) / sy;
}

/*
 * One step down from *at along -inverse * gradient.  False: f does not fall
 * any more that way.
 */
static bool
step_down(FitProblem *problem, FitResult *at, const double *inverse, double *s, double *y)
{
	int			n = problem->npar;
	double		direction[N] = {0};
	double		slope;
	double		longest = 0;
	double		length = 1.0;

	for (int i = 0; i < n; i++)
	{
		direction[i] = -dot(inverse + i * N, at->gradient, n);
		if (fabs(at->theta[i]) >= FIT_THETA_MAX && direction[i] * at->theta[i] > 0)
			direction[i] = 0;
		if (fabs(direction[i]) > longest)
			longest = fabs(direction[i]);
	}
	slope = dot(direction, at->gradient, n);
	if (!(slope < 0))
		return false;
	if (longest > STEP_MAX)
		length = STEP_MAX / longest;
	for (int turn = 0; turn < 40; turn++)
	{
		FitResult	next = *at;

		for (int i = 0; i < n; i++)
			next.theta[i] = Min(Max(at->theta[i] + length * direction[i], -FIT_THETA_MAX), FIT_THETA_MAX);
		next.f = cdp_fit_evaluate(problem, next.theta, next.gradient);
		if (next.f <= at->f + 1e-4 * length * slope)
		{
			for (int i = 0; i < n; i++)
			{
				s[i] = next.theta[i] - at->theta[i];
				y[i] = next.gradient[i] - at->gradient[i];
			}
			*at = next;
			return true;
		}
		/* where the parabola through f, slope and the new f has its lowest point */
		if (isfinite(next.f))
		{
			double		by = -slope * length / (2 * (next.f - at->f - slope * length));

			length *= Min(Max(by, 0.1), 0.5);
		}
		else
			length *= 0.2;
	}
	return false;
}

/*
 * From at->theta to where f is least.  covariance, when not NULL, is that of
 * the same problem over a sample: the first steps are then Newton's already.
 */
void
cdp_fit_search(FitProblem *problem, FitResult *at, const double *covariance, int max_iterations)
{
	int			n = problem->npar;
	double		inverse[N * N] = {0};
	int			small = 0;
	bool		fresh = covariance == NULL;

	for (int i = 0; i < n && covariance != NULL; i++)
		for (int j = 0; j < n; j++)
			inverse[i * N + j] = covariance[i * n + j];
	at->converged = false;
	at->f = cdp_fit_evaluate(problem, at->theta, at->gradient);
	if (isinf(at->f))
		return;
	for (int turn = 0; turn < max_iterations; turn++)
	{
		double		s[N] = {0};
		double		y[N] = {0};
		double		before = at->f;
		double		sy;

		if (gradient_size(problem, at) < G_TOLERANCE)
		{
			at->converged = true;
			return;
		}
		if (fresh)
			start_inverse(inverse, n, 1.0 / Max(sqrt(dot(at->gradient, at->gradient, n)), 1e-300));
		if (!step_down(problem, at, inverse, s, y))
		{
			/* not even straight down: f has no digit left to fall by */
			if (fresh)
			{
				at->converged = true;
				return;
			}
			fresh = true;
			continue;
		}
		small = before - at->f <= F_TOLERANCE * Max(fabs(at->f), 1.0) ? small + 1 : 0;
		if (small == 2)
		{
			at->converged = true;
			return;
		}
		sy = dot(s, y, n);
		if (sy > 1e-14 * sqrt(dot(s, s, n) * dot(y, y, n)))
		{
			if (fresh)
				start_inverse(inverse, n, sy / dot(y, y, n));
			update_inverse(inverse, s, y, n);
			fresh = false;
		}
	}
}

/* L of a = L L', in place of the lower half; false unless a is positive definite beyond rounding. */
static bool
cholesky(double *a, int n)
{
	for (int j = 0; j < n; j++)
		for (int i = j; i < n; i++)
		{
			double		sum = a[i * n + j];

			for (int k = 0; k < j; k++)
				sum -= a[i * n + k] * a[j * n + k];
			if (i > j)
				a[i * n + j] = sum / a[j * n + j];
			else if (sum > RIDGE)
				a[j * n + j] = sqrt(sum);
			else
				return false;
		}
	return true;
}

/* x of L L' x = b, in place of b. */
static void
solve(const double *l, double *b, int n)
{
	for (int i = 0; i < n; i++)
	{
		for (int k = 0; k < i; k++)
			b[i] -= l[i * n + k] * b[k];
		b[i] /= l[i * n + i];
	}
	for (int i = n - 1; i >= 0; i--)
	{
		for (int k = i + 1; k < n; k++)
			b[i] -= l[k * n + i] * b[k];
		b[i] /= l[i * n + i];
	}
}

/*
 * The Hessian as central differences of the gradient, and its inverse.  It is
 * factored with a unit diagonal, so that "no curvature" is a number without a
 * unit.  False: there is a direction without curvature.
 */
static bool
take_hessian(FitProblem *problem, FitResult *at, double *factor, double *scale)
{
	int			n = problem->npar;

	for (int j = 0; j < n; j++)
	{
		double		theta[N];
		double		up[N];
		double		down[N];

		memcpy(theta, at->theta, sizeof(theta));
		theta[j] = at->theta[j] + DIFFERENCE;
		if (isinf(cdp_fit_evaluate(problem, theta, up)))
			return false;
		theta[j] = at->theta[j] - DIFFERENCE;
		if (isinf(cdp_fit_evaluate(problem, theta, down)))
			return false;
		for (int i = 0; i < n; i++)
			at->hessian[i * n + j] = (up[i] - down[i]) / (2 * DIFFERENCE);
	}
	for (int i = 0; i < n; i++)
		for (int j = 0; j < i; j++)
			at->hessian[i * n + j] = at->hessian[j * n + i] = (at->hessian[i * n + j] + at->hessian[j * n + i]) / 2;
	for (int i = 0; i < n; i++)
	{
		double		curvature = at->hessian[i * n + i];

		/* less than f has digits for */
		if (!(curvature > RIDGE * 1e-3 * Max(fabs(at->f), 1.0)))
			return false;
		scale[i] = 1.0 / sqrt(curvature);
	}
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++)
			factor[i * n + j] = at->hessian[i * n + j] * scale[i] * scale[j];
	if (!cholesky(factor, n))
		return false;
	for (int j = 0; j < n; j++)
	{
		double		column[N] = {0};

		column[j] = scale[j];
		solve(factor, column, n);
		for (int i = 0; i < n; i++)
			at->covariance[i * n + j] = column[i] * scale[i];
		/* the same, but for rounding, as was computed from the other side */
		for (int i = 0; i < j; i++)
			at->covariance[i * n + j] = at->covariance[j * n + i];
	}
	return true;
}

/* Newton steps from a point where the search ended, with the one Hessian. */
void
cdp_fit_polish(FitProblem *problem, FitResult *at)
{
	int			n = problem->npar;
	double		factor[N * N] = {0};
	double		scale[N] = {0};

	at->curved = take_hessian(problem, at, factor, scale);
	if (!at->curved)
		return;
	for (int turn = 0; turn < NEWTON_MAX; turn++)
	{
		FitResult	next = *at;
		double		step[N];
		double		longest = 0;

		for (int i = 0; i < n; i++)
			step[i] = -at->gradient[i] * scale[i];
		solve(factor, step, n);
		for (int i = 0; i < n; i++)
		{
			step[i] *= scale[i];
			next.theta[i] = at->theta[i] + step[i];
			if (fabs(step[i]) > longest)
				longest = fabs(step[i]);
			if (fabs(next.theta[i]) > FIT_THETA_MAX)
				return;
		}
		if (!(longest > 1e-11) || longest > STEP_MAX)
			return;
		next.f = cdp_fit_evaluate(problem, next.theta, next.gradient);
		/* f may rise in its last digits, its gradient must fall */
		if (!(next.f <= at->f + 1e-12 * Max(fabs(at->f), 1.0)) || gradient_size(problem, &next) > gradient_size(problem, at))
			return;
		*at = next;
	}
}
