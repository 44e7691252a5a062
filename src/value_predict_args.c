/*
 * value_predict_args.c
 *	  Arguments of predictions: models read once, numbers checked.
 *
 * A query predicts for a million customers with one model, which arrives as
 * a composite value with every row.  Taking it apart and checking it costs
 * more than many predictions do, so the call site keeps the last model in
 * fn_extra, with the quadrature nodes that belong to it, and compares bytes:
 *
 *		SELECT cdp.p_alive(m, x, t_x, t_cal) FROM customers, model m
 *
 * Which model it is, the type of the value says; one C function serves all
 * overloads of a name.
 *
 * SQL: sql/value_predict.sql.  Tests: test/sql/value_predict.sql.
 */
#include "value_predict.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* What a call site remembers of one model argument. */
typedef struct ModelSlot
{
	uint32		length;
	HeapTupleHeader bytes;		/* the composite value as it came */
	ValueModel *model;
	MemoryContext context;		/* of the model and its nodes */
} ModelSlot;

#define MODEL_SLOTS	2			/* clv takes a model of purchases and one of money */
typedef struct ModelMemory
{
	ModelSlot	slot[MODEL_SLOTS];
} ModelMemory;

static const struct
{
	const char *type;
	ModelKind	kind;
	int			nparameters;
	bool		has_k;
	const char *parameter[MODEL_MAX_PARAMETERS];
}			model_types[] = {
	{"bgnbd_model", MODEL_BGNBD, 4, false, {"r", "alpha", "a", "b"}},
	{"mbgnbd_model", MODEL_MBGNBD, 4, false, {"r", "alpha", "a", "b"}},
	{"mbgcnbd_model", MODEL_MBGCNBD, 4, true, {"r", "alpha", "a", "b"}},
	{"paretonbd_model", MODEL_PARETONBD, 4, false, {"r", "alpha", "s", "beta"}},
	{"nbd_model", MODEL_NBD, 2, false, {"r", "alpha", NULL, NULL}},
	{"gammagamma_model", MODEL_GAMMAGAMMA, 3, false, {"p", "q", "v", NULL}},
	{"bgbb_model", MODEL_BGBB, 4, false, {"alpha", "beta", "gamma", "delta"}},
	{"sbg_model", MODEL_SBG, 2, false, {"alpha", "beta", NULL, NULL}},
};

/* Index into model_types of a composite type; -1: none of ours. */
static int
model_type_index(Oid type)
{
	char	   *name = NULL;
	HeapTuple	tup = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	int			found = -1;

	if (HeapTupleIsValid(tup))
	{
		name = NameStr(((Form_pg_type) GETSTRUCT(tup))->typname);
		for (int i = 0; i < lengthof(model_types); i++)
			if (strcmp(name, model_types[i].type) == 0)
				found = i;
		ReleaseSysCache(tup);
	}
	return found;
}

/* The covariance field of a model, when it has one: n x n finite numbers, row by row. */
static void
read_covariance(ValueModel *model, Datum value, const char *type)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	int			n = model->nparameters * model->nparameters;
	const double *v = (const double *) ARR_DATA_PTR(array);

	if (ARR_NDIM(array) != 1 || ARR_DIMS(array)[0] != n || ARR_HASNULL(array) || ARR_ELEMTYPE(array) != FLOAT8OID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("covariance of a %s must be an array of %d numbers", type, n),
				 errhint("It is the matrix of the parameters, row by row, as the fit gives it; NULL when there is none.")));
	for (int i = 0; i < n; i++)
		if (!isfinite(v[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("covariance of a %s must be finite", type),
					 errhint("It is NULL when the fit could not find one.")));
	memcpy(model->covariance, v, n * sizeof(double));
	model->has_covariance = true;
}

/* A model out of its composite value, made in context.  Errors: 22023 for parameters that no model has. */
ValueModel *
cdp_model_read(Datum datum, MemoryContext context)
{
	HeapTupleHeader tuple = DatumGetHeapTupleHeader(datum);
	int			which = model_type_index(HeapTupleHeaderGetTypeId(tuple));
	ValueModel *model = MemoryContextAllocZero(context, sizeof(ValueModel));
	bool		isnull;
	Datum		value;
	const char *type;

	if (which < 0)
		elog(ERROR, "not a model type: %u", HeapTupleHeaderGetTypeId(tuple));
	type = model_types[which].type;
	model->kind = model_types[which].kind;
	model->nparameters = model_types[which].nparameters;
	model->k = 1;
	if (model_types[which].has_k)
	{
		value = GetAttributeByName(tuple, "k", &isnull);
		model->k = isnull ? 0 : DatumGetInt32(value);
		if (model->k < 1 || model->k > MODEL_MAX_K)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("k of a %s must be from 1 to %d", type, MODEL_MAX_K),
					 errhint("k = 1 is purchases at random, more is more regular.")));
	}
	for (int i = 0; i < model->nparameters; i++)
	{
		value = GetAttributeByName(tuple, model_types[which].parameter[i], &isnull);
		model->parameter[i] = isnull ? NAN : DatumGetFloat8(value);
		if (!(model->parameter[i] >= 1e-100 && model->parameter[i] <= 1e100))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("parameter %s of a %s must be a positive number", model_types[which].parameter[i], type),
					 errhint("A fit gives such a model; by hand, write cdp.%s(...) with parameters above 0.", type)));
	}
	value = GetAttributeByName(tuple, "covariance", &isnull);
	if (!isnull)
		read_covariance(model, value, type);
	if (model->kind == MODEL_BGNBD || model->kind == MODEL_MBGNBD || model->kind == MODEL_MBGCNBD)
		model->nodes = cdp_beta_cache(model->parameter[2], context);
	return model;
}

/* The model that is argument argno, from memory when it is that of the call before. */
ValueModel *
cdp_model_arg(FunctionCallInfo fcinfo, int argno)
{
	ModelMemory *memory = fcinfo->flinfo->fn_extra;
	HeapTupleHeader tuple = PG_GETARG_HEAPTUPLEHEADER(argno);
	uint32		length = HeapTupleHeaderGetDatumLength(tuple);
	ModelSlot  *slot;

	Assert(argno < MODEL_SLOTS);
	if (memory == NULL)
		fcinfo->flinfo->fn_extra = memory = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(ModelMemory));
	slot = &memory->slot[argno];
	if (slot->model != NULL && slot->length == length && memcmp(slot->bytes, tuple, length) == 0)
		return slot->model;

	slot->model = NULL;
	if (slot->context == NULL)
		slot->context = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt, "value model", ALLOCSET_SMALL_SIZES);
	else
		MemoryContextReset(slot->context);
	slot->bytes = MemoryContextAlloc(slot->context, length);
	memcpy(slot->bytes, tuple, length);
	slot->length = length;
	slot->model = cdp_model_read(HeapTupleHeaderGetDatum(tuple), slot->context);
	return slot->model;
}

/* A length of time: 0 or more. */
double
cdp_time_arg(FunctionCallInfo fcinfo, int argno, const char *name)
{
	double		t = PG_GETARG_FLOAT8(argno);

	if (!(t >= 0 && t <= MAX_TIME))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be from 0 to 1e15", name),
				 errhint("It is a length of time in the units that the model was fitted in.")));
	return t;
}

/* A probability that is neither 0 nor 1. */
double
cdp_probability_arg(FunctionCallInfo fcinfo, int argno, const char *name)
{
	double		p = PG_GETARG_FLOAT8(argno);

	if (!(p > 0 && p < 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must lie between 0 and 1", name),
				 errhint("0.5 is an even chance; 0 and 1 themselves are never reached.")));
	return p;
}

/* x alone: a whole number of repeat purchases. */
void
cdp_check_count(double x)
{
	if (!(x >= 0 && x <= MAX_TIME) || x != floor(x))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("x must be a whole number from 0"),
				 errhint("x counts purchases after the first one; leave other rows out with WHERE x >= 0 AND x = floor(x).")));
}

/* What no customer can have: purchases outside his time. */
void
cdp_check_customer(double x, double t_x, double t_cal)
{
	cdp_check_count(x);
	if (!(t_x >= 0 && t_x <= t_cal && t_cal <= MAX_TIME))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("t_x must be from 0 to t_cal, and t_cal at most 1e15"),
				 errhint("t_x is the time from the first purchase to the last, t_cal that from the first to the end of observation; leave other rows out with WHERE t_x BETWEEN 0 AND t_cal.")));
	if (x == 0 && t_x > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("t_x must be 0 where x is 0"),
				 errhint("Without a repeat purchase the last purchase is the first; leave other rows out with WHERE x > 0 OR t_x = 0.")));
}
