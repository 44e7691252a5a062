/*
 * value_predict_money.c
 *	  Money: the mean purchase of a customer, and what he is worth.
 *
 * Gamma-Gamma (Fader, Hardie 2013) says what a customer's purchases cost on
 * average, given those he has made; how often he buys says a transaction
 * model, and the two are independent.  Customer lifetime value is their
 * product with time discounted:
 *
 *		clv = margin * mean amount * purchases until the horizon, each worth
 *			  exp(-discount * its time)
 *
 * The first purchase is not part of it: it has been made.
 *
 * SQL: sql/value_predict.sql.  Tests: test/sql/value_predict.sql.
 */
#include "value_predict.h"

#include "funcapi.h"
#include "miscadmin.h"

PG_FUNCTION_INFO_V1(cdp_expected_amount);
PG_FUNCTION_INFO_V1(cdp_clv);
PG_FUNCTION_INFO_V1(cdp_clv_schedule);
PG_FUNCTION_INFO_V1(cdp_expected_purchases_ci);
PG_FUNCTION_INFO_V1(cdp_clv_ci);

/* Mean amount of a purchase; NaN where the distribution has no mean. */
double
cdp_amount_value(const ValueModel *model, double x, double mean_amount)
{
	double		p = model->parameters.par[0];
	double		q = model->parameters.par[1];
	double		v = model->parameters.par[2];

	if (p * x + q <= 1.0)
		return NAN;
	return p * (v + (x > 0 ? x * mean_amount : 0)) / (p * x + q - 1.0);
}

/* mean_amount, argument argno; false: it is NULL where it is needed. */
static bool
amount_arg(FunctionCallInfo fcinfo, int argno, double x, double *mean_amount)
{
	*mean_amount = 0;
	if (PG_ARGISNULL(argno))
		return x == 0;
	*mean_amount = PG_GETARG_FLOAT8(argno);
	cdp_check_amount(x, *mean_amount);
	return true;
}

/* expected_amount(model, x, mean_amount); mean_amount may be NULL where x = 0 */
Datum
cdp_expected_amount(PG_FUNCTION_ARGS)
{
	double		x;
	double		mean_amount;
	double		result;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	x = PG_GETARG_FLOAT8(1);
	cdp_check_amount(x, 0);
	if (!amount_arg(fcinfo, 2, x, &mean_amount))
		PG_RETURN_NULL();
	result = cdp_amount_value(cdp_value_model_arg(fcinfo, 0), x, mean_amount);
	if (isnan(result))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(cdp_prediction(result));
}

/* What the arguments of clv(model, amount, x, t_x, t_cal, mean_amount, horizon, discount, margin) amount to. */
typedef struct ClvArgs
{
	ValueModel *model;
	ValueModel *money;
	double		x;
	double		t_x;
	double		t_cal;
	double		mean_amount;
	double		horizon;
	double		discount;
	double		margin;
} ClvArgs;

/*
 * Check and take them; false: the answer is NULL.  Models are made in
 * context, or remembered by the call site when that is NULL.
 */
static bool
clv_args(FunctionCallInfo fcinfo, ClvArgs *args, MemoryContext context)
{
	for (int i = 0; i < 9; i++)
		if (i != 5 && PG_ARGISNULL(i))
			return false;
	args->x = PG_GETARG_FLOAT8(2);
	args->t_x = PG_GETARG_FLOAT8(3);
	args->t_cal = PG_GETARG_FLOAT8(4);
	cdp_check_transactions(args->x, args->t_x, args->t_cal);
	if (!amount_arg(fcinfo, 5, args->x, &args->mean_amount))
		return false;
	args->discount = PG_GETARG_FLOAT8(7);
	if (!(args->discount == 0 || (args->discount >= 1e-12 && args->discount <= MAX_TIME)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("discount must be 0, or from 1e-12 to 1e15"),
				 errhint("It is continuous, per unit of time: ln(1.10)/52 is 10 %% a year in weeks.")));
	args->horizon = PG_GETARG_FLOAT8(6);
	if (isinf(args->horizon) && args->horizon > 0)
	{
		if (args->discount == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("an infinite horizon needs a discount above 0"),
					 errhint("Without a discount, give a finite horizon.")));
	}
	else
		args->horizon = cdp_time_arg(fcinfo, 6, "horizon");
	args->margin = PG_GETARG_FLOAT8(8);
	if (!(args->margin >= 0 && isfinite(args->margin)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("margin must be 0 or more"),
				 errhint("It is the share of the money that is earned: 0.3 is 30 %%.")));
	args->model = context ? cdp_value_model_read(PG_GETARG_HEAPTUPLEHEADER(0), context) : cdp_value_model_arg(fcinfo, 0);
	args->money = context ? cdp_value_model_read(PG_GETARG_HEAPTUPLEHEADER(1), context) : cdp_value_model_arg(fcinfo, 1);
	return true;
}

/* Lifetime value; NaN where there is no mean amount. */
static double
clv_value(const ClvArgs *args)
{
	Outlook		o;
	double		amount = cdp_amount_value(args->money, args->x, args->mean_amount);

	if (isnan(amount))
		return NAN;
	cdp_outlook(args->model, args->x, args->t_x, args->t_cal, &o);
	return amount * args->margin * cdp_outlook_discounted(&o, 0, args->horizon, args->discount);
}

/* clv(...) */
Datum
cdp_clv(PG_FUNCTION_ARGS)
{
	ClvArgs		args;
	double		result;

	if (!clv_args(fcinfo, &args, NULL))
		PG_RETURN_NULL();
	result = clv_value(&args);
	if (isnan(result))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(cdp_prediction(result));
}

/* What clv_schedule() keeps between rows. */
typedef struct ScheduleState
{
	Outlook		o;
	double		money;			/* of one purchase, times margin */
	double		horizon;
	double		discount;
	double		before;			/* purchases of the periods given out */
} ScheduleState;

/* clv_schedule(..., periods): the value by equal periods, one row each */
Datum
cdp_clv_schedule(PG_FUNCTION_ARGS)
{
	FuncCallContext *funcctx;
	ScheduleState *state;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;
		TupleDesc	desc;
		ClvArgs		args = {0};
		double		amount = NAN;

		funcctx = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(funcctx->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		funcctx->tuple_desc = BlessTupleDesc(desc);
		state = palloc0(sizeof(ScheduleState));
		funcctx->user_fctx = state;
		funcctx->max_calls = 0;
		if (!PG_ARGISNULL(9) && (PG_GETARG_INT32(9) < 1 || PG_GETARG_INT32(9) > 1000000))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("periods must be from 1 to 1000000"),
					 errhint("The horizon is cut into so many equal periods.")));
		/* fn_extra is taken by the SRF; a schedule reads its models anew */
		if (!PG_ARGISNULL(9) && clv_args(fcinfo, &args, CurrentMemoryContext))
		{
			if (isinf(args.horizon))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("a schedule needs a finite horizon"),
						 errhint("The horizon is cut into equal periods; cdp.clv takes an infinite one.")));
			amount = cdp_amount_value(args.money, args.x, args.mean_amount);
		}
		if (!isnan(amount))
		{
			cdp_outlook(args.model, args.x, args.t_x, args.t_cal, &state->o);
			state->money = amount * args.margin;
			state->horizon = args.horizon;
			state->discount = args.discount;
			funcctx->max_calls = PG_GETARG_INT32(9);
		}
		MemoryContextSwitchTo(old);
	}
	funcctx = SRF_PERCALL_SETUP();
	state = funcctx->user_fctx;
	if (funcctx->call_cntr < funcctx->max_calls)
	{
		double		from = state->horizon * funcctx->call_cntr / funcctx->max_calls;
		double		until = state->horizon * (funcctx->call_cntr + 1) / funcctx->max_calls;
		double		purchases = cdp_outlook_purchases(&state->o, until);
		Datum		values[4];
		bool		nulls[4] = {false, false, false, false};

		values[0] = Int32GetDatum((int32) funcctx->call_cntr + 1);
		values[1] = cdp_prediction(purchases - state->before);
		values[2] = cdp_prediction((purchases - state->before) * state->money);
		values[3] = cdp_prediction(state->money * cdp_outlook_discounted(&state->o, from, until, state->discount));
		state->before = purchases;
		SRF_RETURN_NEXT(funcctx, HeapTupleGetDatum(heap_form_tuple(funcctx->tuple_desc, values, nulls)));
	}
	SRF_RETURN_DONE(funcctx);
}

/* The z with P(|normal| < z) = level: Newton's method on erf. */
static double
normal_width(double level)
{
	double		z = 1.0;

	/* erfc is convex here: from the left of the root every step ends left of it, from the right one step leads there */
	for (int i = 0; i < 100; i++)
	{
		double		step = (erfc(z * M_SQRT1_2) - (1.0 - level)) * sqrt(M_PI_2) * exp(0.5 * z * z);

		z += Max(-0.5 * z, Min(1.0, step));
		if (fabs(step) < 1e-14 * z)
			break;
	}
	return z;
}

/* A value that depends on a model; args is the rest. */
typedef double (*ModelValue) (ValueModel *model, const void *args);

#define SIDE_STEP	1e-4		/* of the logarithm of a parameter */

/*
 * The models beside this one, two for each parameter: they are the same for
 * all customers, and so are their nodes.
 */
static ValueModel *
model_sides(ValueModel *model)
{
	int			n = cdp_model_nparameters(model->kind);

	if (model->sides != NULL)
		return model->sides;
	model->sides = MemoryContextAlloc(model->context, 2 * n * sizeof(ValueModel));
	for (int i = 0; i < 2 * n; i++)
	{
		ValueModel *side = &model->sides[i];

		*side = *model;
		side->parameters.par[i / 2] *= exp(i % 2 ? SIDE_STEP : -SIDE_STEP);
		if (side->nodes != NULL)
			side->nodes = cdp_beta_cache(side->parameters.par[2], model->context);
	}
	return model->sides;
}

/*
 * Variance of ln value by the delta method: g' C g with g the derivatives of
 * ln value to the parameters, taken by central differences on the log scale,
 * where all parameters have the same size.  NaN: the model has no covariance.
 */
static double
log_variance(ValueModel *model, ModelValue value, const void *args)
{
	int			n = cdp_model_nparameters(model->kind);
	double		gradient[MODEL_MAX_PARAMETERS];
	double		variance = 0;
	ValueModel *sides;

	if (!model->has_covariance)
		return NAN;
	sides = model_sides(model);
	for (int i = 0; i < n; i++)
		gradient[i] = log(value(&sides[2 * i + 1], args) / value(&sides[2 * i], args)) / (2.0 * SIDE_STEP) / model->parameters.par[i];
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++)
			variance += gradient[i] * model->covariance[i * n + j] * gradient[j];
	return variance;
}

/* The row (lo, estimate, hi). */
static Datum
interval(FunctionCallInfo fcinfo, double estimate, double variance, double level)
{
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};
	double		width;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	/* no covariance, or one that is none */
	nulls[0] = nulls[2] = isnan(variance) || variance < 0;
	nulls[1] = isnan(estimate);
	width = nulls[0] ? 0 : normal_width(level) * sqrt(variance);
	values[0] = Float8GetDatum(estimate * exp(-width));
	values[1] = Float8GetDatum(estimate);
	values[2] = Float8GetDatum(estimate * exp(width));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

typedef struct PurchasesArgs
{
	double		x;
	double		t_x;
	double		t_cal;
	double		horizon;
} PurchasesArgs;

static double
purchases_of_model(ValueModel *model, const void *args)
{
	const PurchasesArgs *a = args;
	Outlook		o;

	cdp_outlook(model, a->x, a->t_x, a->t_cal, &o);
	return cdp_outlook_purchases(&o, a->horizon);
}

/* expected_purchases_ci(model, x, t_x, t_cal, horizon, level) */
Datum
cdp_expected_purchases_ci(PG_FUNCTION_ARGS)
{
	PurchasesArgs args = {PG_GETARG_FLOAT8(1), PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3), 0};
	double		level = cdp_probability_arg(fcinfo, 5, "level");
	ValueModel *model;
	double		estimate;

	args.horizon = cdp_time_arg(fcinfo, 4, "horizon");
	cdp_check_transactions(args.x, args.t_x, args.t_cal);
	model = cdp_value_model_arg(fcinfo, 0);
	estimate = purchases_of_model(model, &args);
	/* nothing to come is nothing under every model near this one */
	PG_RETURN_DATUM(interval(fcinfo, estimate,
							 estimate == 0 && model->has_covariance ? 0 : log_variance(model, purchases_of_model, &args), level));
}

static double
clv_of_model(ValueModel *model, const void *args)
{
	ClvArgs		other = *(const ClvArgs *) args;

	other.model = model;
	return clv_value(&other);
}

static double
clv_of_money(ValueModel *model, const void *args)
{
	const ClvArgs *a = args;

	return cdp_amount_value(model, a->x, a->mean_amount);
}

/* clv_ci(..., margin, level): the two models were fitted to different data, so their variances add */
Datum
cdp_clv_ci(PG_FUNCTION_ARGS)
{
	ClvArgs		args;
	double		level;
	double		estimate;

	if (PG_ARGISNULL(9) || !clv_args(fcinfo, &args, NULL))
		PG_RETURN_NULL();
	level = cdp_probability_arg(fcinfo, 9, "level");
	estimate = clv_value(&args);
	if (isnan(estimate))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(interval(fcinfo, estimate,
							 estimate == 0 && args.model->has_covariance && args.money->has_covariance ? 0 :
							 log_variance(args.model, clv_of_model, &args) + log_variance(args.money, clv_of_money, &args), level));
}
