/*
 * value_logistic_model.c
 *	  Type cdp.logistic_model: made by the aggregate or by hand, and read to
 *	  predict.
 *
 *		SELECT cdp.predict_logistic(model, ARRAY[visits, ln(1 + carts)])
 *		FROM customers, model;
 *
 * A model may be stored, and written by hand: what is read is checked.
 *
 * SQL: sql/value_logistic.sql.  Tests: test/sql/value_logistic.sql.
 */
#include "value_logistic.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include <math.h>

PG_FUNCTION_INFO_V1(cdp_logistic_final);
PG_FUNCTION_INFO_V1(cdp_logistic_model_make);
PG_FUNCTION_INFO_V1(cdp_predict_logistic);

/* fields of the type */
#define MODEL_FIELDS	11

static Datum
numbers(const double *values, const bool *nulls, int n)
{
	Datum	   *datums = palloc(n * sizeof(Datum));
	int			lower = 1;

	for (int i = 0; i < n; i++)
		datums[i] = Float8GetDatum(values[i]);
	return PointerGetDatum(construct_md_array(datums, (bool *) nulls, 1, &n, &lower, FLOAT8OID,
											  sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* cdp._logistic_final(state) -> cdp.logistic_model */
Datum
cdp_logistic_final(PG_FUNCTION_ARGS)
{
	LogisticState *state = cdp_logistic_state_get(PG_GETARG_DATUM(0), CurrentMemoryContext);
	LogisticFit fit;
	Datum		values[MODEL_FIELDS];
	bool		nulls[MODEL_FIELDS] = {false};

	if (state->nfeatures < 0)
		PG_RETURN_NULL();
	cdp_logistic_fit(state, &fit);
	values[0] = numbers(fit.coefficients, NULL, fit.ncoefficients);
	values[1] = numbers(fit.se, fit.se_null, fit.ncoefficients);
	nulls[1] = fit.se_null[0];
	values[2] = Float8GetDatum(fit.log_likelihood);
	values[3] = Float8GetDatum(fit.null_log_likelihood);
	values[4] = Float8GetDatum(fit.customers);
	values[5] = Float8GetDatum(fit.positives);
	values[6] = Int32GetDatum(fit.iterations);
	values[7] = BoolGetDatum(fit.converged);
	values[8] = BoolGetDatum(fit.separated);
	values[9] = CStringGetTextDatum(fit.reason);
	values[10] = Float8GetDatum(fit.auc);
	nulls[10] = isnan(fit.auc);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(cdp_result_desc(fcinfo), values, nulls)));
}

/* The coefficients of a model, checked; answers how many there are. */
static int
read_coefficients(ArrayType *array, double *coefficients)
{
	int			n = ARR_NDIM(array) == 1 ? ARR_DIMS(array)[0] : 0;

	if (n < 1 || n > 1 + LOGISTIC_MAX_FEATURES || array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("coefficients must be an array of one dimension with 1 to %d elements, none of them NULL", 1 + LOGISTIC_MAX_FEATURES),
				 errhint("The intercept comes first, then one per feature.")));
	memcpy(coefficients, ARR_DATA_PTR(array), n * sizeof(double));
	for (int i = 0; i < n; i++)
	{
		if (!isfinite(coefficients[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("coefficient %d is not a finite number", i + 1),
					 errhint("The intercept comes first, then one per feature.")));
	}
	return n;
}

/* cdp.logistic_model(coefficients) -> a model of them alone */
Datum
cdp_logistic_model_make(PG_FUNCTION_ARGS)
{
	double		coefficients[1 + LOGISTIC_MAX_FEATURES];
	int			n = read_coefficients(PG_GETARG_ARRAYTYPE_P(0), coefficients);
	Datum		values[MODEL_FIELDS];
	bool		nulls[MODEL_FIELDS];

	memset(nulls, true, sizeof(nulls));
	values[0] = numbers(coefficients, NULL, n);
	nulls[0] = false;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(cdp_result_desc(fcinfo), values, nulls)));
}

/* cdp.predict_logistic(model, features) -> probability */
Datum
cdp_predict_logistic(PG_FUNCTION_ARGS)
{
	double		coefficients[1 + LOGISTIC_MAX_FEATURES];
	double		features[LOGISTIC_MAX_FEATURES];
	bool		isnull;
	Datum		array = GetAttributeByNum(PG_GETARG_HEAPTUPLEHEADER(0), 1, &isnull);
	int			n;
	int			nfeatures;
	double		eta;

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the model has no coefficients"),
				 errhint("Fit one with cdp.fit_logistic, or make one with cdp.logistic_model(coefficients).")));
	n = read_coefficients(DatumGetArrayTypeP(array), coefficients);
	nfeatures = cdp_logistic_read_features(PG_GETARG_ARRAYTYPE_P(1), features);
	if (nfeatures < 0)
		PG_RETURN_NULL();
	if (nfeatures != n - 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("features has %d elements, the model %d", nfeatures, n - 1),
				 errhint("Give the features of the fit in the same order.")));
	eta = logistic_eta(coefficients, features, nfeatures);
	if (isnan(eta))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("the sum of coefficients and features is out of range"),
				 errhint("Give the features in other units.")));
	PG_RETURN_FLOAT8(eta >= 0 ? 1 / (1 + exp(-eta)) : exp(eta) / (1 + exp(eta)));
}
