/*
 * value_model.c
 *	  Models as values: made of their parameters, read, asked about a row.
 *
 *		SELECT cdp.log_likelihood(cdp.bgnbd_model(0.243, 4.414, 0.793, 2.426), 2, 30.43, 38.86);
 *
 * A model comes from a fit aggregate (value_fit.c) or from its constructor,
 * and may come from anywhere a row can: a table, text, ROW(...).  So whoever
 * uses one reads it here, and gets positive finite parameters or an error.
 * A prediction reads the same model a million times: the parameters are the
 * first columns and have a fixed width, and are read where they lie, without
 * the catalog.
 *
 * The rules of the data stand here too, once for fits and predictions.
 *
 * SQL: sql/value_model.sql.  Tests: test/sql/value_model.sql.
 * Page: doc/value_model.md.
 */
#include "value_model.h"

#include <math.h>

#include "access/tupmacs.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "value_likelihood.h"

PG_FUNCTION_INFO_V1(cdp_model_make);
PG_FUNCTION_INFO_V1(cdp_log_likelihood_bgnbd);
PG_FUNCTION_INFO_V1(cdp_log_likelihood_mbgnbd);
PG_FUNCTION_INFO_V1(cdp_log_likelihood_paretonbd);
PG_FUNCTION_INFO_V1(cdp_log_likelihood_nbd);
PG_FUNCTION_INFO_V1(cdp_log_likelihood_mbgcnbd);
PG_FUNCTION_INFO_V1(cdp_log_likelihood_gammagamma);
PG_FUNCTION_INFO_V1(cdp_log_likelihood_bgbb);
PG_FUNCTION_INFO_V1(cdp_log_likelihood_sbg);

/* by ModelKind */
static const int nparameters[] = {4, 4, 4, 2, 4, 3, 4, 2};

/* How many parameters of type float8 a kind has. */
int
cdp_model_nparameters(ModelKind kind)
{
	return nparameters[kind];
}

pg_noreturn static void
refuse_parameter(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("a parameter of the model is not a positive finite number"),
			 errhint("Take a model that a fit aggregate such as cdp.fit_mbgnbd() gave, or make one of its parameters, all above 0.")));
}

pg_noreturn static void
refuse_k(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("k of a model must be a whole number from 1 to %d", MODEL_MAX_K),
			 errhint("k is the number of phases between two purchases: 1 for random buyers, more for regular ones.")));
}

/* Parameters of a row, which has them first. */
void
cdp_model_read(HeapTupleHeader row, ModelKind kind, ModelParameters *model)
{
	char	   *at = (char *) row + row->t_hoff;
	int			n = nparameters[kind];
	int			natts = n + (kind == MODEL_MBGCNBD ? 1 : 0);

	if (HeapTupleHeaderGetNatts(row) < natts)
		refuse_parameter();
	if (row->t_infomask & HEAP_HASNULL)
	{
		for (int i = 0; i < natts; i++)
			if (att_isnull(i, row->t_bits))
				refuse_parameter();
	}
	model->k = 1;
	if (kind == MODEL_MBGCNBD)
	{
		memcpy(&model->k, at, sizeof(int32));
		if (model->k < 1 || model->k > MODEL_MAX_K)
			refuse_k();
		at += DOUBLEALIGN(sizeof(int32));
	}
	memcpy(model->par, at, n * sizeof(double));
	for (int i = 0; i < n; i++)
		if (!(model->par[i] > 0) || isinf(model->par[i]))
			refuse_parameter();
}

/* Covariance of a row: its last column. */
bool
cdp_model_covariance(HeapTupleHeader row, ModelKind kind, double *covariance)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row), HeapTupleHeaderGetTypMod(row));
	HeapTupleData tuple;
	int			n = nparameters[kind] * nparameters[kind];
	ArrayType  *array;
	bool		isnull;
	Datum		value;

	tuple.t_len = HeapTupleHeaderGetDatumLength(row);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = row;
	value = heap_getattr(&tuple, desc->natts, desc, &isnull);
	ReleaseTupleDesc(desc);
	if (isnull)
		return false;
	array = DatumGetArrayTypeP(value);
	if (ARR_NDIM(array) != 1 || ARR_DIMS(array)[0] != n || ARR_HASNULL(array) || ARR_ELEMTYPE(array) != FLOAT8OID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("covariance of the model must have %d numbers", n),
				 errhint("Take the model as a fit aggregate gave it, or leave its covariance NULL.")));
	memcpy(covariance, ARR_DATA_PTR(array), n * sizeof(double));
	for (int i = 0; i < n; i++)
		if (!isfinite(covariance[i]))
			return false;
	return true;
}

/* A row of the function's type with its arguments first, all else NULL. */
Datum
cdp_model_make(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[MaxTupleAttributeNumber];
	bool		nulls[MaxTupleAttributeNumber];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts < PG_NARGS())
		elog(ERROR, "a model is a row");
	memset(nulls, true, desc->natts * sizeof(bool));
	memset(values, 0, desc->natts * sizeof(Datum));
	for (int i = 0; i < PG_NARGS(); i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = false;
		if (TupleDescAttr(desc, i)->atttypid == INT4OID)
		{
			int			k = DatumGetInt32(values[i]);

			if (k < 1 || k > MODEL_MAX_K)
				refuse_k();
		}
		else
		{
			double		par = DatumGetFloat8(values[i]);

			if (!(par > 0) || isinf(par))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("parameter %s must be a positive finite number", NameStr(TupleDescAttr(desc, i)->attname)),
						 errhint("All parameters of a model are above 0.")));
		}
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * Data
 */

pg_noreturn static void
refuse_row(const char *rule, const char *where)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg_internal("%s", rule),
			 errhint("Leave such rows out: WHERE %s.", where)));
}

/* x of any model. */
static void
check_x(double x)
{
	if (!(x >= 0) || x != floor(x))
		refuse_row("x must be a whole number of repeat purchases, 0 or more", "x >= 0 AND x = floor(x)");
	/* what is more is no count of purchases, and its Gamma function not exact */
	if (x > 1e9)
		refuse_row("x must not exceed 10^9 purchases", "x <= 1e9");
}

/* Repeat purchases, time of the last, time observed. */
void
cdp_check_transactions(double x, double t_x, double t_cal)
{
	if (!isfinite(x) || !isfinite(t_x) || !isfinite(t_cal))
		refuse_row("x, t_x and t_cal must be finite numbers",
				   "x < 'infinity' AND abs(t_x) < 'infinity' AND abs(t_cal) < 'infinity'");
	check_x(x);
	if (t_x < 0)
		refuse_row("t_x, the time of the last purchase, must not be negative", "t_x >= 0");
	if (t_x > t_cal)
		refuse_row("t_x, the time of the last purchase, must not exceed t_cal, the time observed", "t_x <= t_cal");
	if (x == 0 && t_x > 0)
		refuse_row("t_x must be 0 where x = 0: without a repeat purchase there is no time of it", "x > 0 OR t_x = 0");
}

/* Repeat purchases, time observed. */
void
cdp_check_counts(double x, double t_cal)
{
	if (!isfinite(x) || !isfinite(t_cal))
		refuse_row("x and t_cal must be finite numbers", "x < 'infinity' AND abs(t_cal) < 'infinity'");
	check_x(x);
	if (t_cal < 0)
		refuse_row("t_cal, the time observed, must not be negative", "t_cal >= 0");
}

/* The sum of the logarithms of the x gaps. */
void
cdp_check_gaps(double x, double log_gaps)
{
	if (!isfinite(log_gaps))
		refuse_row("log_gaps must be a finite number: no two purchases at one moment", "abs(log_gaps) < 'infinity'");
	if (x == 0 && log_gaps != 0)
		refuse_row("log_gaps must be 0 where x = 0: without a repeat purchase there is no gap", "x > 0 OR log_gaps = 0");
}

/* Repeat purchases and their mean amount. */
void
cdp_check_amount(double x, double mean_amount)
{
	if (!isfinite(x) || !isfinite(mean_amount))
		refuse_row("x and mean_amount must be finite numbers", "x < 'infinity' AND abs(mean_amount) < 'infinity'");
	check_x(x);
	if (mean_amount < 0)
		refuse_row("mean_amount must not be negative", "mean_amount >= 0");
}

/* Purchases in n occasions, the last at occasion t_x. */
void
cdp_check_occasions(double x, double t_x, double n)
{
	if (!isfinite(x) || !isfinite(t_x) || !isfinite(n))
		refuse_row("x, t_x and n must be finite numbers",
				   "x < 'infinity' AND abs(t_x) < 'infinity' AND abs(n) < 'infinity'");
	check_x(x);
	if (t_x < 0 || t_x != floor(t_x))
		refuse_row("t_x, the occasion of the last purchase, must be a whole number, 0 or more", "t_x >= 0 AND t_x = floor(t_x)");
	if (n < 0 || n != floor(n))
		refuse_row("n, the number of occasions, must be a whole number, 0 or more", "n >= 0 AND n = floor(n)");
	if (n > 1e6)
		refuse_row("n, the number of occasions, must not exceed 10^6", "n <= 1e6");
	if (t_x > n)
		refuse_row("t_x, the occasion of the last purchase, must not exceed n, the number of occasions", "t_x <= n");
	if (x > t_x)
		refuse_row("x must not exceed t_x: at each occasion there is one purchase at most", "x <= t_x");
	if (x == 0 && t_x > 0)
		refuse_row("t_x must be 0 where x = 0: without a purchase there is no occasion of it", "x > 0 OR t_x = 0");
}

/* The number of a period, from 1. */
void
cdp_check_period(double period)
{
	if (!(period >= 1))
		refuse_row("a period must be 1 or more: 1 is the first after which a customer may leave", "period >= 1");
}

/*
 * Likelihood of one customer
 */

#define X	PG_GETARG_FLOAT8(1)

Datum
cdp_log_likelihood_bgnbd(PG_FUNCTION_ARGS)
{
	ModelParameters m;

	cdp_model_read(PG_GETARG_HEAPTUPLEHEADER(0), MODEL_BGNBD, &m);
	cdp_check_transactions(X, PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3));
	PG_RETURN_FLOAT8(cdp_bgnbd_log_likelihood(m.par, X, PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3)));
}

Datum
cdp_log_likelihood_mbgnbd(PG_FUNCTION_ARGS)
{
	ModelParameters m;

	cdp_model_read(PG_GETARG_HEAPTUPLEHEADER(0), MODEL_MBGNBD, &m);
	cdp_check_transactions(X, PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3));
	PG_RETURN_FLOAT8(cdp_mbgcnbd_log_likelihood(1, m.par, X, PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3), 0));
}

Datum
cdp_log_likelihood_mbgcnbd(PG_FUNCTION_ARGS)
{
	ModelParameters m;

	cdp_model_read(PG_GETARG_HEAPTUPLEHEADER(0), MODEL_MBGCNBD, &m);
	cdp_check_transactions(X, PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3));
	cdp_check_gaps(X, PG_GETARG_FLOAT8(4));
	PG_RETURN_FLOAT8(cdp_mbgcnbd_log_likelihood(m.k, m.par, X, PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3), PG_GETARG_FLOAT8(4)));
}

Datum
cdp_log_likelihood_paretonbd(PG_FUNCTION_ARGS)
{
	ModelParameters m;

	cdp_model_read(PG_GETARG_HEAPTUPLEHEADER(0), MODEL_PARETONBD, &m);
	cdp_check_transactions(X, PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3));
	PG_RETURN_FLOAT8(cdp_paretonbd_log_likelihood(m.par, X, PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3)));
}

Datum
cdp_log_likelihood_nbd(PG_FUNCTION_ARGS)
{
	ModelParameters m;

	cdp_model_read(PG_GETARG_HEAPTUPLEHEADER(0), MODEL_NBD, &m);
	cdp_check_counts(X, PG_GETARG_FLOAT8(2));
	PG_RETURN_FLOAT8(cdp_nbd_log_likelihood(m.par, X, PG_GETARG_FLOAT8(2)));
}

/* NULL for a customer that the model says nothing about: without repeat purchase, or without money. */
Datum
cdp_log_likelihood_gammagamma(PG_FUNCTION_ARGS)
{
	ModelParameters m;

	cdp_model_read(PG_GETARG_HEAPTUPLEHEADER(0), MODEL_GAMMAGAMMA, &m);
	cdp_check_amount(X, PG_GETARG_FLOAT8(2));
	if (X == 0 || PG_GETARG_FLOAT8(2) == 0)
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(cdp_gammagamma_log_likelihood(m.par, X, PG_GETARG_FLOAT8(2)));
}

Datum
cdp_log_likelihood_bgbb(PG_FUNCTION_ARGS)
{
	ModelParameters m;

	cdp_model_read(PG_GETARG_HEAPTUPLEHEADER(0), MODEL_BGBB, &m);
	cdp_check_occasions(X, PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3));
	PG_RETURN_FLOAT8(cdp_bgbb_log_likelihood(m.par, X, PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3), NULL));
}

Datum
cdp_log_likelihood_sbg(PG_FUNCTION_ARGS)
{
	ModelParameters m;

	cdp_model_read(PG_GETARG_HEAPTUPLEHEADER(0), MODEL_SBG, &m);
	cdp_check_period(PG_GETARG_INT32(1));
	PG_RETURN_FLOAT8(cdp_sbg_log_likelihood(m.par, PG_GETARG_INT32(1), PG_GETARG_BOOL(2), NULL));
}
