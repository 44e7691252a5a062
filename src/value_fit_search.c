/*
 * value_fit_search.c
 *	  Where the search for a model begins, and what kind of point it found.
 *
 * A likelihood of this family has one optimum as a rule, but from a bad start
 * it is reached slowly or not at all.  So the search begins at several points
 * on at most 20,000 rows, which costs next to nothing, and the best of them
 * goes on over all rows (value_fit_optimize.c does the steps):
 *
 *		starts ---> sample: search, polish ---> all rows: search, polish ---> judge
 *
 * MBG/CNBD-k does this for each k, on the sample, and compares over all rows
 * the best k with its neighbours.
 *
 * The point is then judged: inside; running off to a limit of the model, with
 * a name for the limit; or on a ridge, where other points are as good.  A
 * model at its limit is no failure: "s -> 0" says that nobody leaves.
 *
 * Tests: test/sql/value_fit.sql.  Page: doc/value_fit.md.
 */
#include "value_fit.h"

#include <math.h>

#include "miscadmin.h"

#define N				MODEL_MAX_PARAMETERS
#define SAMPLE_ROWS		20000
#define SAMPLE_TURNS	100		/* iterations of a search on a sample */
#define TURNS			200
#define FIT_MAX_K		8		/* phases that mbgcnbd tries */
#define FEW_CUSTOMERS	10		/* fewer say too little for any of the models */
#define FAR				3.0		/* theta: a parameter 20 times larger or smaller */
#define FLAT			1e-9	/* ... and f, relative, that is not uphill */

/* a direction in theta in which a model has a limit, and what that limit is called */
struct FitLimit
{
	int8		direction[N];
	const char *reason;
};

static const FitLimit geometric_limits[] = {
	{{0, 0, -1, 0}, "boundary: a -> 0"},
	{{0, 0, 1, 1}, "boundary: a, b -> infinity"},
	{{0, 0, 0, 1}, "boundary: b -> infinity"},
	{{-1, 0, 0, 0}, "boundary: r -> 0"},
	{{1, 1, 0, 0}, "boundary: r, alpha -> infinity"},
	{{0, 0, 0, -1}, "boundary: b -> 0"},
	{{0, 0, -1, -1}, "boundary: a, b -> 0"},
	{{0, 0, 1, 0}, "boundary: a -> infinity"},
	{{-1, -1, 0, 0}, "boundary: r, alpha -> 0"},
	{{0, -1, 0, 0}, "boundary: alpha -> 0"},
	{{0, 1, 0, 0}, "boundary: alpha -> infinity"},
	{{0}, NULL}
};
static const FitLimit pareto_limits[] = {
	{{0, 0, -1, 0}, "boundary: s -> 0"},
	{{0, 0, 1, 1}, "boundary: s, beta -> infinity"},
	{{0, 0, 0, 1}, "boundary: beta -> infinity"},
	{{-1, 0, 0, 0}, "boundary: r -> 0"},
	{{1, 1, 0, 0}, "boundary: r, alpha -> infinity"},
	{{0, 0, 0, -1}, "boundary: beta -> 0"},
	{{0, 0, -1, -1}, "boundary: s, beta -> 0"},
	{{0, 0, 1, 0}, "boundary: s -> infinity"},
	{{-1, -1, 0, 0}, "boundary: r, alpha -> 0"},
	{{0, -1, 0, 0}, "boundary: alpha -> 0"},
	{{0, 1, 0, 0}, "boundary: alpha -> infinity"},
	{{0}, NULL}
};
static const FitLimit nbd_limits[] = {
	{{1, 1}, "boundary: r, alpha -> infinity"},
	{{-1, 0}, "boundary: r -> 0"},
	{{-1, -1}, "boundary: r, alpha -> 0"},
	{{0, -1}, "boundary: alpha -> 0"},
	{{0, 1}, "boundary: alpha -> infinity"},
	{{0}, NULL}
};
static const FitLimit gammagamma_limits[] = {
	{{1, 0, -1}, "boundary: p -> infinity, v -> 0"},
	{{0, 1, 1}, "boundary: q, v -> infinity"},
	{{0, -1, 0}, "boundary: q -> 1"},
	{{-1, 0, 1}, "boundary: p -> 0, v -> infinity"},
	{{-1, 0, 0}, "boundary: p -> 0"},
	{{1, 1, 0}, "boundary: p, q -> infinity"},
	{{0, 0, -1}, "boundary: v -> 0"},
	{{0}, NULL}
};
static const FitLimit bgbb_limits[] = {
	{{0, 0, -1, 0}, "boundary: gamma -> 0"},
	{{0, 0, 1, 1}, "boundary: gamma, delta -> infinity"},
	{{0, 0, 0, 1}, "boundary: delta -> infinity"},
	{{-1, 0, 0, 0}, "boundary: alpha -> 0"},
	{{0, -1, 0, 0}, "boundary: beta -> 0"},
	{{1, 1, 0, 0}, "boundary: alpha, beta -> infinity"},
	{{-1, -1, 0, 0}, "boundary: alpha, beta -> 0"},
	{{0, 0, 0, -1}, "boundary: delta -> 0"},
	{{0, 0, -1, -1}, "boundary: gamma, delta -> 0"},
	{{0, 1, 0, 0}, "boundary: beta -> infinity"},
	{{1, 0, 0, 0}, "boundary: alpha -> infinity"},
	{{0, 0, 1, 0}, "boundary: gamma -> infinity"},
	{{0}, NULL}
};
static const FitLimit sbg_limits[] = {
	{{-1, 0}, "boundary: alpha -> 0"},
	{{0, -1}, "boundary: beta -> 0"},
	{{1, 1}, "boundary: alpha, beta -> infinity"},
	{{-1, -1}, "boundary: alpha, beta -> 0"},
	{{0, 1}, "boundary: beta -> infinity"},
	{{1, 0}, "boundary: alpha -> infinity"},
	{{0}, NULL}
};

#define GEOMETRIC_STARTS {{1, 1, 1, 2.5}, {0, 0, 0.5, 1}, {0.5, 0.5, 0.2, 2}, {2, 2, 2, 8}}

/* by ModelKind */
static const FitFacts facts[] = {
	[MODEL_BGNBD] = {3, 3, 0, 2, 0x6, 0x2, {0}, cdp_prepare_geometric, GEOMETRIC_STARTS, geometric_limits},
	[MODEL_MBGNBD] = {3, 3, 0, 2, 0x6, 0x2, {0}, cdp_prepare_geometric, GEOMETRIC_STARTS, geometric_limits},
	[MODEL_PARETONBD] = {3, 3, 0, 2, 0x6, 0xa, {0}, cdp_prepare_pareto,
	{{1, 1, 0.6, 1}, {0, 0, 1, 1}, {0.5, 0.5, 0.2, 0.5}, {2, 2, 2, 4}}, pareto_limits},
	[MODEL_NBD] = {2, 2, 0, 1, 0x2, 0x2, {0}, cdp_prepare_nbd, {{1, 1}, {0, 0}, {0.5, 0.5}, {2, 2}}, nbd_limits},
	[MODEL_MBGCNBD] = {4, 3, 0, 2, 0x6, 0x2, {0}, cdp_prepare_geometric, GEOMETRIC_STARTS, geometric_limits},
	[MODEL_GAMMAGAMMA] = {2, 2, 0, 1, 0x2, 0x4, {0, 1, 0}, cdp_prepare_gammagamma,
	{{2, 2, 0}, {6, 3, 0}, {0.7, 1, 0}, {20, 8, 0}}, gammagamma_limits},
	[MODEL_BGBB] = {3, 3, 0, -1, 0, 0, {0}, cdp_prepare_bgbb,
	{{1, 0.75, 0.65, 2.8}, {1, 1, 1, 1}, {0.5, 2, 0.5, 10}, {2, 2, 0.2, 5}}, bgbb_limits},
	[MODEL_SBG] = {2, 2, -1, -1, 0, 0, {0}, cdp_prepare_sbg, {{0.7, 1.5}, {1, 1}, {0.5, 4}, {2, 10}}, sbg_limits},
};

/* What is known about a model. */
const FitFacts *
cdp_fit_facts(ModelKind kind)
{
	return &facts[kind];
}

static void
take_moments(Fit *fit)
{
	const FitRows *rows = fit->rows;

	for (int64 i = 0; i < rows->nrows; i++)
	{
		double		x = fit->facts->x < 0 ? 0 : fit_value(rows, fit->facts->x, i);

		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
		fit->sum.x += rows->weight[i] * x;
		fit->sum.xx += rows->weight[i] * x * x;
		if (fit->facts->time >= 0)
			fit->sum.time += rows->weight[i] * fit_value(rows, fit->facts->time, i);
	}
	if (fit->kind == MODEL_MBGCNBD)
		for (int64 i = 0; i < fit->state->nrows; i++)
		{
			const double *row = fit->state->data + i * fit->state->width;

			fit->sum.gaps += row[4] * row[3];
		}
}

/*
 * Where a search starts.  The numbers of facts are parameters; those that
 * have a unit are multiples of what the data suggest.  For models with
 * purchases at rate Gamma(r, alpha), r and alpha are factors to those that
 * NBD would have by its moments, and 0, 0 means r = 1 with the mean rate.
 */
static void
begin_at(const Fit *fit, int start, double *theta)
{
	const double *factor = fit->facts->starts[start];
	double		mean = fit->sum.x / fit->rows->total;
	double		time = fit->sum.time / fit->rows->total;
	double		par[N];

	memcpy(par, factor, sizeof(par));
	if (!(time > 0))
		time = 1;
	if (fit->kind == MODEL_GAMMAGAMMA)
		/* factor[1] is q - 1: the mean amount is p v / (q - 1) */
		par[2] = time * factor[1] / factor[0];
	else if (fit->facts->time >= 0)
	{
		double		extra = fit->sum.xx / fit->rows->total - mean * mean - mean;
		double		r = extra > 0 ? Min(Max(mean * mean / extra, 0.1), 5.0) : 5.0;

		par[0] = factor[0] > 0 ? factor[0] * r : 1.0;
		par[1] = (factor[1] > 0 ? factor[1] * r : 1.0) * time / (mean * fit->k);
		if (fit->kind == MODEL_PARETONBD)
			par[3] = factor[3] * time;
	}
	for (int i = 0; i < N; i++)
		theta[i] = Min(Max(log(par[i]), -FIT_THETA_MAX), FIT_THETA_MAX);
}

static void
make_problem(const Fit *fit, const FitRows *rows, FitProblem *problem)
{
	memset(problem, 0, sizeof(FitProblem));
	problem->kind = fit->kind;
	problem->npar = cdp_model_nparameters(fit->kind);
	problem->k = fit->k;
	memcpy(problem->lower, fit->facts->lower, sizeof(problem->lower));
	problem->rows = rows;
	fit->facts->prepare(problem);
}

/* The best of the searches over these rows from several starts; one more start is hint, when not NULL. */
static void
search_from_starts(Fit *fit, const FitRows *rows, const double *hint)
{
	FitProblem	problem;

	make_problem(fit, rows, &problem);
	fit->at.f = INFINITY;
	for (int start = hint ? -1 : 0; start < (hint ? 1 : FIT_STARTS); start++)
	{
		FitResult	at = {0};

		if (start < 0)
			memcpy(at.theta, hint, sizeof(at.theta));
		else
			begin_at(fit, start, at.theta);
		cdp_fit_search(&problem, &at, NULL, SAMPLE_TURNS);
		/* a hair better is not better: of equals the first one is taken */
		if (at.f < fit->at.f - 1e-9 * Max(fabs(at.f), 1.0) || isinf(fit->at.f))
			fit->at = at;
	}
	if (rows != fit->rows && isfinite(fit->at.f))
		cdp_fit_polish(&problem, &fit->at);
	fit->evaluations += problem.evaluations;
}

/* ln L in the caller's unit: the density of k phases per purchase has a unit of time each. */
static double
likelihood_in_unit(const Fit *fit)
{
	double		result = -fit->at.f;
	double		log_unit = fit->exponent * M_LN2;

	if (fit->kind == MODEL_GAMMAGAMMA)
		result -= fit->rows->total * log_unit;
	else if (fit->facts->time >= 0)
		result -= fit->k * fit->sum.x * log_unit;
	if (fit->k > 1)
		result += (fit->k - 1) * fit->sum.gaps;
	return result;
}

/* From the point found on the sample to the optimum over all rows. */
static void
finish_search(Fit *fit, FitProblem *problem)
{
	FitResult	at = fit->at;

	make_problem(fit, fit->rows, problem);
	cdp_fit_search(problem, &at, fit->sample != fit->rows && fit->at.curved ? fit->at.covariance : NULL, TURNS);
	if (isfinite(at.f))
		cdp_fit_polish(problem, &at);
	fit->at = at;
	fit->evaluations += problem->evaluations;
	problem->evaluations = 0;
	fit->log_likelihood = likelihood_in_unit(fit);
}

/*
 * mbgcnbd: on the sample every k, each from where the one before ended; then
 * over all rows the best of them, and on to its neighbours while that helps.
 */
static void
search_phases(Fit *fit, FitProblem *problem)
{
	FitResult	of_k[FIT_MAX_K + 1];
	Fit			best;
	int			best_k = 0;
	double		best_value = 0;

	for (int k = 1; k <= FIT_MAX_K; k++)
	{
		double		hint[N];
		double		value;

		fit->k = k;
		if (k > 1)
		{
			/* the same rate of purchases needs more phases */
			memcpy(hint, of_k[k - 1].theta, sizeof(hint));
			hint[1] -= log((double) k / (k - 1));
		}
		search_from_starts(fit, fit->sample, k > 1 ? hint : NULL);
		of_k[k] = fit->at;
		value = likelihood_in_unit(fit);
		if (best_k == 0 || value > best_value)
		{
			best_k = k;
			best_value = value;
		}
	}
	fit->k = best_k;
	fit->at = of_k[best_k];
	finish_search(fit, problem);
	best = *fit;
	for (int way = -1; way <= 1; way += 2)
		for (int k = best_k + way; k >= 1 && k <= FIT_MAX_K; k += way)
		{
			FitProblem	other;

			fit->k = k;
			fit->at = of_k[k];
			finish_search(fit, &other);
			if (!(fit->log_likelihood > best.log_likelihood))
				break;
			best = *fit;
			*problem = other;
		}
	best.evaluations = fit->evaluations;
	*fit = best;
}

/*
 * Has the search gone far towards one of the model's limits, and does it
 * become no worse by going farther?  Answers what the limit is called.
 */
static const char *
find_limit(FitProblem *problem, const Fit *fit)
{
	for (const FitLimit *limit = fit->facts->limits; limit->reason != NULL; limit++)
	{
		double		theta[N];
		double		gradient[N];
		double		way = 0;

		for (int i = 0; i < N; i++)
		{
			theta[i] = fit->at.theta[i] + FAR * limit->direction[i];
			way = Max(way, fit->at.theta[i] * limit->direction[i]);
		}
		if (way > FAR && cdp_fit_evaluate(problem, theta, gradient) <= fit->at.f + FLAT * Max(fabs(fit->at.f), 1.0))
			return limit->reason;
	}
	return NULL;
}

/* What kind of point it is. */
static void
judge(Fit *fit, FitProblem *problem)
{
	bool		suspect = !fit->at.curved;
	bool		ridge = !fit->at.curved;

	/* no start had a likelihood that float8 can hold */
	if (isinf(fit->at.f))
	{
		memset(fit->at.gradient, 0, sizeof(fit->at.gradient));
		fit->at.converged = fit->at.curved = false;
		fit->reason = "iteration limit";
		return;
	}
	for (int i = 0; i < problem->npar; i++)
	{
		double		theta = fabs(fit->at.theta[i]);

		suspect = suspect || theta > 2 * FAR || fit->at.covariance[i * problem->npar + i] > 1;
		/* known to within a factor of e^5 or less: that is not known */
		ridge = ridge || fit->at.covariance[i * problem->npar + i] > 25;
		fit->boundary = fit->boundary || theta >= FIT_THETA_MAX;
	}
	if (suspect)
	{
		const char *limit = find_limit(problem, fit);

		fit->evaluations += problem->evaluations;
		if (limit)
		{
			fit->boundary = true;
			fit->reason = limit;
		}
		else if (ridge || fit->boundary)
			fit->reason = "flat ridge";
		fit->at.curved = fit->at.curved && !ridge;
	}
	if (fit->reason == NULL && !fit->at.converged)
		fit->reason = "iteration limit";
	/* what the data are stands above what became of them */
	if (fit->rows->total < FEW_CUSTOMERS)
		fit->reason = "too few customers";
	if (fit->reason == NULL)
	{
		bool		equal = fit->kind != MODEL_GAMMAGAMMA && fit->facts->time >= 0 &&
			fit->rows->column[fit->facts->time].ndistinct == 1;

		fit->reason = equal ? "all t_cal equal" : "ok";
	}
}

/* Nobody came back: the best rate of purchases is none, and all else is open. */
static void
without_purchases(Fit *fit)
{
	FitProblem	problem;

	memset(&fit->at, 0, sizeof(fit->at));
	fit->at.theta[0] = -FIT_THETA_MAX;
	fit->k = 1;
	fit->boundary = true;
	fit->reason = "no repeat purchases";
	if (fit->rows->nrows == 0)
		return;
	make_problem(fit, fit->rows, &problem);
	fit->at.f = cdp_fit_evaluate(&problem, fit->at.theta, fit->at.gradient);
	fit->evaluations = 1;
	fit->log_likelihood = likelihood_in_unit(fit);
}

/* From rows and scale to the point, judged. */
void
cdp_fit_find(Fit *fit)
{
	FitProblem	problem;

	take_moments(fit);
	if (fit->facts->x >= 0 && fit->sum.x == 0)
	{
		without_purchases(fit);
		return;
	}
	fit->sample = fit->rows->nrows > SAMPLE_ROWS ? cdp_fit_rows_sample(fit->rows, SAMPLE_ROWS) : fit->rows;
	if (fit->kind == MODEL_MBGCNBD)
		search_phases(fit, &problem);
	else
	{
		search_from_starts(fit, fit->sample, NULL);
		finish_search(fit, &problem);
	}
	judge(fit, &problem);
}
