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
#include "utils/memutils.h"
#include "utils/syscache.h"

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

/* by ModelKind: the types */
static const char *const model_types[] = {
	"bgnbd_model", "mbgnbd_model", "paretonbd_model", "nbd_model",
	"mbgcnbd_model", "gammagamma_model", "bgbb_model", "sbg_model"
};

/* Which model a composite type is. */
static ModelKind
model_kind(Oid type)
{
	HeapTuple	tup = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	int			kind = 0;

	if (!HeapTupleIsValid(tup))
		elog(ERROR, "cache lookup failed for type %u", type);
	while (kind < lengthof(model_types) && strcmp(NameStr(((Form_pg_type) GETSTRUCT(tup))->typname), model_types[kind]) != 0)
		kind++;
	ReleaseSysCache(tup);
	if (kind == lengthof(model_types))
		elog(ERROR, "type %u is no model", type);
	return (ModelKind) kind;
}

/* A model out of its composite value, made in context; 22023 for parameters that no model has. */
ValueModel *
cdp_value_model_read(HeapTupleHeader row, MemoryContext context)
{
	ValueModel *model = MemoryContextAllocZero(context, sizeof(ValueModel));

	model->kind = model_kind(HeapTupleHeaderGetTypeId(row));
	cdp_model_read(row, model->kind, &model->parameters);
	model->has_covariance = cdp_model_covariance(row, model->kind, model->covariance);
	if (model->kind == MODEL_BGNBD || model->kind == MODEL_MBGNBD || model->kind == MODEL_MBGCNBD)
		model->nodes = cdp_beta_cache(model->parameters.par[2], context);
	return model;
}

/* The model that is argument argno, from memory when it is that of the call before. */
ValueModel *
cdp_value_model_arg(FunctionCallInfo fcinfo, int argno)
{
	ModelMemory *memory = fcinfo->flinfo->fn_extra;
	HeapTupleHeader row = PG_GETARG_HEAPTUPLEHEADER(argno);
	uint32		length = HeapTupleHeaderGetDatumLength(row);
	ModelSlot  *slot;

	Assert(argno < MODEL_SLOTS);
	if (memory == NULL)
		fcinfo->flinfo->fn_extra = memory = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(ModelMemory));
	slot = &memory->slot[argno];
	if (slot->model != NULL && slot->length == length && memcmp(slot->bytes, row, length) == 0)
		return slot->model;

	slot->model = NULL;
	if (slot->context == NULL)
		slot->context = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt, "value model", ALLOCSET_SMALL_SIZES);
	else
		MemoryContextReset(slot->context);
	slot->bytes = MemoryContextAlloc(slot->context, length);
	memcpy(slot->bytes, row, length);
	slot->length = length;
	slot->model = cdp_value_model_read(row, slot->context);
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

/* A result; parameters or times beyond all that is sensible may leave none. */
Datum
cdp_prediction(double value)
{
	if (isnan(value))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("the prediction is out of range"),
				 errhint("Parameters and times of a model are of the size of its data; look at what the fit says of itself.")));
	return Float8GetDatum(value);
}
