/*
 * value_fit.c
 *	  The fit aggregates: from counted rows to a model.
 *
 *		SELECT * FROM cdp.fit_mbgnbd(x, t_x, t_cal) ...	as (fit).r, (fit).alpha, ...
 *
 * A final function sorts the rows of the state, so that the answer depends on
 * which rows there are and on nothing else: serial and parallel plans, any
 * order, rows or (distinct row, weight) give the same bits.  Then
 *
 *	1. times (or money) are divided by a power of two near the largest, so
 *	   that the search always works near 1
 *	2. the search starts from several points, on at most 20,000 rows; the best
 *	   goes on over all rows, and is polished (value_fit_optimize.c)
 *	3. the point is judged: inside, or running off to a boundary, or lying on
 *	   a ridge where other points are as good
 *	4. everything is brought back to the caller's unit
 *
 * Data never make it fail.  What cannot be fitted gives the best point there
 * is with `reason`: the caller asks a model, not an exception handler.
 *
 * SQL: sql/value_fit.sql.  Tests: test/sql/value_fit.sql,
 * test/sql/value_published.sql, test/pgtap/value_fit.sql.
 * Page: doc/value_fit.md.
 */
#include "value_fit.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_fit_bgnbd);
PG_FUNCTION_INFO_V1(cdp_fit_mbgnbd);
PG_FUNCTION_INFO_V1(cdp_fit_paretonbd);
PG_FUNCTION_INFO_V1(cdp_fit_nbd);
PG_FUNCTION_INFO_V1(cdp_fit_mbgcnbd);
PG_FUNCTION_INFO_V1(cdp_fit_gammagamma);
PG_FUNCTION_INFO_V1(cdp_fit_bgbb);
PG_FUNCTION_INFO_V1(cdp_fit_sbg);

#define N				MODEL_MAX_PARAMETERS
#define SAMPLE_ROWS		20000
#define SAMPLE_TURNS	100		/* iterations of a search on a sample */
#define TURNS			200
#define STARTS			4
#define FIT_MAX_K		8		/* phases that mbgcnbd tries */
#define FEW_CUSTOMERS	10		/* fewer say too little for any of the models */
#define FAR				3.0		/* theta: to see whether a direction leads uphill, go so far */
#define FLAT			1e-9	/* ... and f, relative, that is not uphill */

/* a direction in theta in which a model has a limit, and what that limit is called */
typedef struct FitLimit
{
	int8		direction[N];
	const char *reason;
} FitLimit;

/* what a model's data are, and how to begin */
typedef struct ModelFacts
{
	int			state_columns;
	int			columns;		/* of them the likelihood needs */
	int			x;				/* column of purchases, -1: none */
	int			time;			/* column that gives the scale, -1: data have no unit */
	uint32		scaled;			/* columns in its unit */
	uint32		scaled_par;		/* parameters in its unit */
	double		lower[N];
	void		(*prepare) (FitProblem *problem);
	double		starts[STARTS][N];	/* factors, see begin_at() */
	const FitLimit *limits;		/* ended by one without a reason */
} ModelFacts;

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
	{{0, 1, 1}, "boundary: q, v -> infinity"},
	{{1, 0, -1}, "boundary: p -> infinity, v -> 0"},
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
	{{1, 1}, "boundary: alpha, beta -> infinity"},
	{{-1, 0}, "boundary: alpha -> 0"},
	{{0, -1}, "boundary: beta -> 0"},
	{{-1, -1}, "boundary: alpha, beta -> 0"},
	{{0, 1}, "boundary: beta -> infinity"},
	{{1, 0}, "boundary: alpha -> infinity"},
	{{0}, NULL}
};

#define GEOMETRIC_STARTS {{1, 1, 1, 2.5}, {0, 0, 0.5, 1}, {0.5, 0.5, 0.2, 2}, {2, 2, 2, 8}}

/* by ModelKind */
static const ModelFacts facts[] = {
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

/* weighted sums over the rows, in their order */
typedef struct Moments
{
	double		x;
	double		xx;
	double		time;
	double		gaps;			/* of state column 3 */
} Moments;

/* A fit from state to answer. */
typedef struct Fit
{
	ModelKind	kind;
	const ModelFacts *facts;
	FitState   *state;
	FitRows    *rows;
	FitRows    *sample;			/* the rows themselves when they are few */
	int			exponent;		/* times are divided by 2^exponent */
	Moments		sum;
	int			k;
	int			evaluations;
	FitResult	at;
	double		log_likelihood; /* in the caller's unit */
	bool		boundary;
	const char *reason;
} Fit;

/* Each row must be data of the model: a state may come from anywhere. */
static void
check_rows(const Fit *fit)
{
	const FitState *state = fit->state;

	if (state->ncolumns != fit->facts->state_columns)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the state is one of another fit"),
				 errhint("Finish a state with the aggregate that began it.")));
	for (int64 i = 0; i < state->nrows; i++)
	{
		const double *row = state->data + i * state->width;

		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
		switch (fit->kind)
		{
			case MODEL_NBD:
				cdp_check_counts(row[0], row[1]);
				break;
			case MODEL_GAMMAGAMMA:
				cdp_check_amount(row[0], row[1]);
				break;
			case MODEL_BGBB:
				cdp_check_occasions(row[0], row[1], row[2]);
				break;
			case MODEL_SBG:
				cdp_check_period(row[0]);
				break;
			case MODEL_MBGCNBD:
				cdp_check_gaps(row[0], row[3]);
				/* FALLTHROUGH */
			default:
				cdp_check_transactions(row[0], row[1], row[2]);
		}
	}
}

/* The power of two that data are divided by: above the longest time, or near the mean amount. */
static int
find_exponent(const Fit *fit)
{
	const FitState *state = fit->state;
	int			column = fit->facts->time;
	double		weight = 0;
	double		sum = 0;
	double		size = 0;
	int			exponent = 0;

	if (column < 0)
		return 0;
	for (int64 i = 0; i < state->nrows; i++)
	{
		const double *row = state->data + i * state->width;

		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
		if (fit->kind != MODEL_GAMMAGAMMA)
			size = Max(size, row[column]);
		else if (row[0] > 0)
		{
			weight += row[state->ncolumns];
			sum += row[state->ncolumns] * row[column];
		}
	}
	if (fit->kind == MODEL_GAMMAGAMMA && weight > 0)
		size = sum / weight;
	if (size > 0 && isfinite(size))
		frexp(size, &exponent);
	return exponent;
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
	for (int start = hint ? -1 : 0; start < (hint ? 1 : STARTS); start++)
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
			int			evaluations = fit->evaluations;

			fit->k = k;
			fit->at = of_k[k];
			finish_search(fit, &other);
			best.evaluations += fit->evaluations - evaluations;
			if (!(fit->log_likelihood > best.log_likelihood))
				break;
			fit->at.converged = fit->at.converged && best.at.converged;
			{
				int			all = best.evaluations;

				best = *fit;
				best.evaluations = all;
				*problem = other;
			}
		}
	*fit = best;
}

/*
 * Does the model become no worse when one goes far towards one of its
 * limits?  Answers what the limit is called.
 */
static const char *
find_limit(FitProblem *problem, const Fit *fit)
{
	for (const FitLimit *limit = fit->facts->limits; limit->reason != NULL; limit++)
	{
		double		theta[N];
		double		gradient[N];

		for (int i = 0; i < N; i++)
			theta[i] = fit->at.theta[i] + FAR * limit->direction[i];
		if (cdp_fit_evaluate(problem, theta, gradient) <= fit->at.f + FLAT * Max(fabs(fit->at.f), 1.0))
			return limit->reason;
	}
	return NULL;
}

/* What kind of point it is. */
static void
judge(Fit *fit, FitProblem *problem)
{
	bool		suspect = !fit->at.curved;

	for (int i = 0; i < problem->npar; i++)
	{
		double		theta = fabs(fit->at.theta[i]);

		suspect = suspect || theta > 6 || fit->at.covariance[i * problem->npar + i] > 1;
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
		else if (!fit->at.curved || fit->boundary)
			fit->reason = "flat ridge";
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

static Datum
float8_array(const double *value, int n)
{
	Datum	   *datum = palloc(n * sizeof(Datum));

	for (int i = 0; i < n; i++)
		datum[i] = Float8GetDatum(value[i]);
	return PointerGetDatum(construct_array(datum, n, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* The row of the model's type. */
static Datum
fit_row(FunctionCallInfo fcinfo, const Fit *fit)
{
	int			n = cdp_model_nparameters(fit->kind);
	double		slope[N];		/* of a parameter, in the caller's unit, by theta */
	double		se[N];
	double		covariance[N * N];
	double		largest = 0;
	bool		sure = !fit->boundary && fit->at.curved;
	bool		gammagamma = fit->kind == MODEL_GAMMAGAMMA;
	TupleDesc	desc;
	Datum		values[N + 11];
	bool		nulls[N + 11] = {0};
	int			c = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "a model is a row");
	if (fit->kind == MODEL_MBGCNBD)
		values[c++] = Int32GetDatum(fit->k);
	for (int i = 0; i < n; i++)
	{
		int			exponent = fit->facts->scaled_par & (1 << i) ? fit->exponent : 0;
		double		par = fit->facts->lower[i] + exp(fit->at.theta[i]);

		slope[i] = ldexp(par - fit->facts->lower[i], exponent);
		/* a unit of 10^300 seconds is nobody's, and must not become infinity either */
		values[c++] = Float8GetDatum(Min(Max(ldexp(par, exponent), 1e-300), 1e300));
		if (fabs(fit->at.gradient[i]) > largest)
			largest = fabs(fit->at.gradient[i]);
	}
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++)
		{
			covariance[i * n + j] = fit->at.covariance[i * n + j] * slope[i] * slope[j];
			sure = sure && isfinite(covariance[i * n + j]);
			if (i == j)
				se[i] = sqrt(covariance[i * n + i]);
		}
	values[c++] = Float8GetDatum(fit->log_likelihood);
	values[c++] = Float8GetDatum(fit->rows->total);
	values[c++] = Int64GetDatum(gammagamma ? fit->rows->nrows : fit->state->nrows);
	values[c++] = Int32GetDatum(fit->evaluations);
	values[c++] = BoolGetDatum(fit->at.converged);
	values[c++] = BoolGetDatum(fit->boundary);
	values[c++] = CStringGetTextDatum(fit->reason);
	values[c++] = Float8GetDatum(largest / Max(fabs(fit->at.f), 1.0));
	nulls[c] = nulls[c + 1] = !sure;
	values[c++] = sure ? float8_array(se, n) : (Datum) 0;
	values[c++] = sure ? float8_array(covariance, n * n) : (Datum) 0;
	if (desc->natts != c)
		elog(ERROR, "the type of the model has %d columns, not %d", desc->natts, c);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* Final function of all fits. */
static Datum
finish(FunctionCallInfo fcinfo, ModelKind kind)
{
	MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "cdp.fit", ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(work);
	Fit			fit = {.kind = kind, .facts = &facts[kind], .k = 1};
	FitProblem	problem;
	Datum		result;

	fit.state = cdp_fit_state_get(PG_GETARG_DATUM(0), work);
	if (fit.state->nrows == 0)
	{
		MemoryContextSwitchTo(before);
		MemoryContextDelete(work);
		PG_RETURN_NULL();
	}
	check_rows(&fit);
	cdp_fit_state_sort(fit.state);
	fit.exponent = find_exponent(&fit);
	fit.rows = cdp_fit_rows(fit.state, fit.facts->columns, kind == MODEL_GAMMAGAMMA, fit.facts->scaled, fit.exponent);
	take_moments(&fit);
	if (fit.facts->x >= 0 && fit.sum.x == 0)
		without_purchases(&fit);
	else
	{
		fit.sample = fit.rows->nrows > SAMPLE_ROWS ? cdp_fit_rows_sample(fit.rows, SAMPLE_ROWS) : fit.rows;
		if (kind == MODEL_MBGCNBD)
			search_phases(&fit, &problem);
		else
		{
			search_from_starts(&fit, fit.sample, NULL);
			finish_search(&fit, &problem);
		}
		judge(&fit, &problem);
	}
	MemoryContextSwitchTo(before);
	result = fit_row(fcinfo, &fit);
	MemoryContextDelete(work);
	return result;
}

Datum
cdp_fit_bgnbd(PG_FUNCTION_ARGS)
{
	return finish(fcinfo, MODEL_BGNBD);
}

Datum
cdp_fit_mbgnbd(PG_FUNCTION_ARGS)
{
	return finish(fcinfo, MODEL_MBGNBD);
}

Datum
cdp_fit_paretonbd(PG_FUNCTION_ARGS)
{
	return finish(fcinfo, MODEL_PARETONBD);
}

Datum
cdp_fit_nbd(PG_FUNCTION_ARGS)
{
	return finish(fcinfo, MODEL_NBD);
}

Datum
cdp_fit_mbgcnbd(PG_FUNCTION_ARGS)
{
	return finish(fcinfo, MODEL_MBGCNBD);
}

Datum
cdp_fit_gammagamma(PG_FUNCTION_ARGS)
{
	return finish(fcinfo, MODEL_GAMMAGAMMA);
}

Datum
cdp_fit_bgbb(PG_FUNCTION_ARGS)
{
	return finish(fcinfo, MODEL_BGBB);
}

Datum
cdp_fit_sbg(PG_FUNCTION_ARGS)
{
	return finish(fcinfo, MODEL_SBG);
}
