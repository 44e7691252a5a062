/*
 * value_logistic.c
 *	  Aggregate cdp.fit_logistic: logistic regression over the rows of a group.
 *
 *		SELECT (cdp.fit_logistic(bought, ARRAY[visits, ln(1 + carts)])).*
 *		FROM training;
 *
 * Rows are collected first and fitted at the end (value_logistic.h).  They
 * come in any order and from any number of workers; the fit sorts them, so
 * that the answer is the same to the last bit.
 *
 * A row with a NULL in y, the array, an element or the weight is skipped,
 * before anything else about it is looked at.
 *
 * SQL: sql/value_logistic.sql.  Tests: test/sql/value_logistic.sql,
 * test/pgtap/value_logistic.sql.  Page: doc/value_logistic.md.
 */
#include "value_logistic.h"

#include "utils/memutils.h"

#include <math.h>

PG_FUNCTION_INFO_V1(cdp_logistic_accum);
PG_FUNCTION_INFO_V1(cdp_logistic_accum_weighted);
PG_FUNCTION_INFO_V1(cdp_logistic_combine);

#define STATE_MAGIC		0x4C4F4749

/*
 * The expanded object
 */

static Size
state_flat_size(ExpandedObjectHeader *eohptr)
{
	LogisticState *state = (LogisticState *) eohptr;

	return offsetof(LogisticFlat, rows) + state->nrows * (1 + Max(state->nfeatures, 0)) * sizeof(double);
}

static void
state_flatten(ExpandedObjectHeader *eohptr, void *result, Size allocated_size)
{
	LogisticState *state = (LogisticState *) eohptr;
	LogisticFlat *flat = result;

	Assert(allocated_size == state_flat_size(eohptr));
	SET_VARSIZE(flat, allocated_size);
	flat->nfeatures = state->nfeatures;
	flat->ridge = state->ridge;
	flat->nrows = state->nrows;
	if (state->nrows > 0)
		memcpy(flat->rows, state->rows, allocated_size - offsetof(LogisticFlat, rows));
}

static const ExpandedObjectMethods state_methods = {state_flat_size, state_flatten};

/* A state without rows, in a context of its own below parent. */
LogisticState *
cdp_logistic_state_new(MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "cdp.logistic_state", ALLOCSET_START_SMALL_SIZES);
	LogisticState *state = MemoryContextAllocZero(context, sizeof(LogisticState));

	EOH_init_header(&state->hdr, &state_methods, context);
	state->magic = STATE_MAGIC;
	state->nfeatures = -1;
	return state;
}

static LogisticState *
state_of(Datum value)
{
	LogisticState *state = (LogisticState *) DatumGetEOHP(value);

	if (state->magic != STATE_MAGIC)
		elog(ERROR, "not a cdp.logistic_state");
	return state;
}

static void add_all(LogisticState *state, int nfeatures, double ridge, const double *rows, int64 nrows);

/* The state behind a value, to be read: the object itself, or one made of the flat form. */
LogisticState *
cdp_logistic_state_get(Datum value, MemoryContext parent)
{
	LogisticState *state;
	LogisticFlat *flat;

	if (VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(value)))
		return state_of(value);
	flat = (LogisticFlat *) PG_DETOAST_DATUM(value);
	state = cdp_logistic_state_new(parent);
	if (flat->nfeatures >= 0)
		add_all(state, flat->nfeatures, flat->ridge, flat->rows, flat->nrows);
	return state;
}

/* Settles the shape of all rows by the first one; makes room for more rows. */
static void
prepare_rows(LogisticState *state, int nfeatures, double ridge, int64 more)
{
	Size		row_size = (1 + nfeatures) * sizeof(double);

	if (state->nfeatures < 0)
	{
		state->nfeatures = nfeatures;
		state->ridge = ridge;
	}
	else if (state->nfeatures != nfeatures)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("features has %d elements here and %d in another row of the group", nfeatures, state->nfeatures),
				 errhint("Every row gives the same features in the same order.")));
	else if (state->ridge != ridge)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ridge must be the same for all rows of a group"),
				 errhint("Give a constant.")));
	if (state->nrows + more <= state->room)
		return;
	/* the flat form is one value, and a value is below 1 GB */
	if (state->nrows + more > (MaxAllocSize - offsetof(LogisticFlat, rows)) / row_size)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many rows for a logistic regression"),
				 errhint("Up to 1 GB at 8 bytes for every feature and 8 for the row. Fit a sample, or equal rows as one with a weight.")));
	state->room = Min(Max((state->nrows + more) * 2, 16), (MaxAllocSize - offsetof(LogisticFlat, rows)) / row_size);
	state->rows = state->rows ? repalloc_huge(state->rows, state->room * row_size) :
		MemoryContextAllocHuge(state->hdr.eoh_context, state->room * row_size);
}

/* A new row, to be filled: weight, negative when y is false, then the features. */
double *
cdp_logistic_new_row(LogisticState *state, int nfeatures, double ridge)
{
	prepare_rows(state, nfeatures, ridge, 1);
	return state->rows + state->nrows++ * (1 + nfeatures);
}

static void
add_all(LogisticState *state, int nfeatures, double ridge, const double *rows, int64 nrows)
{
	prepare_rows(state, nfeatures, ridge, nrows);
	if (nrows > 0)
		memcpy(state->rows + state->nrows * (1 + nfeatures), rows, nrows * (1 + nfeatures) * sizeof(double));
	state->nrows += nrows;
}

/*
 * Arguments
 */

/*
 * The elements of an array, at most LOGISTIC_MAX_FEATURES; answers how many,
 * -1 when one of them is NULL.
 */
int
cdp_logistic_read_features(ArrayType *array, double *features)
{
	int			n = ARR_NDIM(array) == 0 ? 0 : ARR_DIMS(array)[0];

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("features must be an array of one dimension"),
				 errhint("For example ARRAY[age, ln(1 + visits)].")));
	if (n > LOGISTIC_MAX_FEATURES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there are %d features, more than %d", n, LOGISTIC_MAX_FEATURES),
				 errhint("Leave out features that tell little.")));
	if (ARR_HASNULL(array) && array_contains_nulls(array))
		return -1;
	if (n == 0)
		return 0;
	memcpy(features, ARR_DATA_PTR(array), n * sizeof(double));
	for (int j = 0; j < n; j++)
	{
		if (!isfinite(features[j]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("feature %d is not a finite number", j + 1),
					 errhint("Leave such rows out: WHERE feature NOT IN ('NaN', 'Infinity', '-Infinity').")));
		/* so that equal rows are equal bytes */
		features[j] += 0.0;
	}
	return n;
}

/* The state of a running aggregate, which may be changed in place. */
static LogisticState *
state_to_change(FunctionCallInfo fcinfo)
{
	MemoryContext context = cdp_aggregate_context(fcinfo, "Use the aggregate cdp.fit_logistic(y, features).");

	if (PG_ARGISNULL(0))
		return cdp_logistic_state_new(context);
	if (VARATT_IS_EXTERNAL_EXPANDED_RW(DatumGetPointer(PG_GETARG_DATUM(0))))
		return state_of(PG_GETARG_DATUM(0));
	return cdp_logistic_state_get(PG_GETARG_DATUM(0), context);
}

/* One row into the state, unless it has a NULL. */
static void
add_row(FunctionCallInfo fcinfo, LogisticState *state, double ridge, double weight)
{
	double		features[LOGISTIC_MAX_FEATURES];
	double	   *row;
	int			n;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		return;
	n = cdp_logistic_read_features(PG_GETARG_ARRAYTYPE_P(2), features);
	/* a row that counts 0 times is checked as any other, and does not exist */
	if (n < 0 || weight == 0)
		return;
	row = cdp_logistic_new_row(state, n, ridge);
	row[0] = PG_GETARG_BOOL(1) ? weight : -weight;
	if (n > 0)
		memcpy(row + 1, features, n * sizeof(double));
}

/* cdp._logistic_accum(state, y, features) */
Datum
cdp_logistic_accum(PG_FUNCTION_ARGS)
{
	LogisticState *state = state_to_change(fcinfo);

	add_row(fcinfo, state, 0, 1);
	PG_RETURN_DATUM(EOHPGetRWDatum(&state->hdr));
}

/* cdp._logistic_accum(state, y, features, ridge, weight) */
Datum
cdp_logistic_accum_weighted(PG_FUNCTION_ARGS)
{
	LogisticState *state = state_to_change(fcinfo);
	double		ridge = PG_ARGISNULL(3) ? 0 : PG_GETARG_FLOAT8(3);
	double		weight;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(4))
		PG_RETURN_DATUM(EOHPGetRWDatum(&state->hdr));
	weight = PG_GETARG_FLOAT8(4);
	/* written so that NaN is refused */
	if (!(ridge >= 0 && ridge <= LOGISTIC_MAX_RIDGE))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ridge must lie between 0 and %g", LOGISTIC_MAX_RIDGE),
				 errhint("0 is no ridge; a value of 1 is weak, 100 strong for some thousand rows.")));
	if (!(weight == 0 || (weight >= LOGISTIC_MIN_WEIGHT && weight <= LOGISTIC_MAX_WEIGHT)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("weight must be 0 or lie between %g and %g", LOGISTIC_MIN_WEIGHT, LOGISTIC_MAX_WEIGHT),
				 errhint("It is the number of customers that are such a row. Leave others out: WHERE weight >= 0.")));
	add_row(fcinfo, state, ridge, weight);
	PG_RETURN_DATUM(EOHPGetRWDatum(&state->hdr));
}

/* cdp._logistic_combine(a, b): b into a */
Datum
cdp_logistic_combine(PG_FUNCTION_ARGS)
{
	LogisticState *state = state_to_change(fcinfo);
	Datum		other = PG_GETARG_DATUM(1);

	if (VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(other)))
	{
		LogisticState *b = state_of(other);

		if (b->nfeatures >= 0)
			add_all(state, b->nfeatures, b->ridge, b->rows, b->nrows);
	}
	else
	{
		LogisticFlat *b = (LogisticFlat *) PG_DETOAST_DATUM(other);

		if (b->nfeatures >= 0)
			add_all(state, b->nfeatures, b->ridge, b->rows, b->nrows);
	}
	PG_RETURN_DATUM(EOHPGetRWDatum(&state->hdr));
}
