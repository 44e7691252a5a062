/*
 * value_fit.c
 *	  The fit aggregates: from counted rows to a model.
 *
 *		SELECT * FROM cdp.fit_mbgnbd(x, t_x, t_cal) ...	as (fit).r, (fit).alpha, ...
 *
 * A final function sorts the rows of the state, so that the answer depends on
 * which rows there are and on nothing else: serial and parallel plans, any
 * order, rows or (distinct row, weight) give the same bits.  Times (or money)
 * are divided by a power of two near the largest, so that the search
 * (value_fit_search.c) always works near 1, and what it finds is brought back
 * to the caller's unit.
 *
 * Data never make it fail.  What cannot be fitted gives the best point there
 * is with `reason`: the caller asks a model, not an exception handler.
 *
 * SQL: sql/value_fit.sql.  Tests: test/sql/value_fit.sql,
 * test/pgtap/value_published.sql, test/pgtap/value_fit.sql.
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
	double		se[N] = {0};
	double		covariance[N * N] = {0};
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
			covariance[i * n + j] = fit->at.covariance[i * n + j] * (slope[i] * slope[j]);
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
	Fit			fit = {.kind = kind, .facts = cdp_fit_facts(kind), .k = 1};
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
	cdp_fit_find(&fit);
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
