/*
 * value_score_outlook.c
 *	  All that a row of cdp.customer_value asks of the models, in one call.
 *
 * The functions of doc/value_predict.md answer one question each, and each
 * begins with what the model says of the customer (the Outlook), which costs
 * as much as an answer.  A run over a million customers asks seven questions
 * of each, so they share it here.  What will be rounded away is not computed:
 * purchases of those who are alive are never more than shape/rate * t, and
 * with that bound most of the customers who left long ago are done.
 *
 * SQL: sql/value_score.sql.  Tests: test/sql/value_score.sql.
 */
#include "value_predict.h"

#include <math.h>

#include "funcapi.h"

PG_FUNCTION_INFO_V1(cdp_score_outlook);

enum
{
	P_ALIVE, EXPECTED_30, EXPECTED_90, EXPECTED_365, EXPECTED_AMOUNT, CLV, NEXT_PURCHASE, N_ANSWERS
};

static double
two_decimals(double value)
{
	return rint(value * 100) / 100;
}

/* three significant digits, not finer than two decimals */
static double
money_digits(double value)
{
	double		unit;

	if (value < 1)
		return two_decimals(value);
	unit = pow(10, floor(log10(value)) - 2);
	/* dividing by what is below 1 would not give the nearest decimal */
	return unit >= 1 ? rint(value / unit) * unit : rint(value * rint(1 / unit)) / rint(1 / unit);
}

/* expected purchases in t days, or 0 where they would be rounded to it */
static double
purchases(const Outlook *o, double t)
{
	return o->alive * o->shape / o->rate * t < 0.004 ? 0 : two_decimals(cdp_outlook_purchases(o, t));
}

/*
 * cdp._score_outlook(model, money, x, t_x, t_cal, mean_amount, days of a unit,
 * discount, margin) -> p_alive, expected_30, expected_90, expected_365,
 * expected_amount, clv, next_purchase (in units, from t_cal on), rounded as
 * they are stored.  A NULL model answers NULL.
 */
Datum
cdp_score_outlook(PG_FUNCTION_ARGS)
{
	double		x = PG_GETARG_FLOAT8(2);
	double		t_x = PG_GETARG_FLOAT8(3);
	double		t_cal = PG_GETARG_FLOAT8(4);
	double		mean_amount = PG_ARGISNULL(5) ? 0 : PG_GETARG_FLOAT8(5);
	double		days = PG_GETARG_FLOAT8(6);
	double		discount = PG_GETARG_FLOAT8(7);
	double		margin = PG_GETARG_FLOAT8(8);
	double		amount = NAN;
	double		answers[N_ANSWERS];
	Datum		values[N_ANSWERS];
	bool		nulls[N_ANSWERS];
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	for (int i = 0; i < N_ANSWERS; i++)
		answers[i] = NAN;
	for (int i = 2; i <= 8; i++)
	{
		if (i != 5 && PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument %d of _score_outlook must not be NULL", i + 1),
					 errhint("cdp.value_of() tells of one customer.")));
	}
	cdp_check_transactions(x, t_x, t_cal);
	cdp_check_amount(x, mean_amount);
	if (!(days > 0 && isfinite(days) && discount >= 0 && isfinite(discount) && margin >= 0 && isfinite(margin)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("days must be above 0, discount and margin 0 or more"),
				 errhint("cdp.value_of() tells of one customer.")));
	if (!PG_ARGISNULL(1) && (x == 0 || !PG_ARGISNULL(5)))
		amount = cdp_amount_value(cdp_value_model_arg(fcinfo, 1), x, mean_amount);
	answers[EXPECTED_AMOUNT] = two_decimals(amount);
	if (!PG_ARGISNULL(0))
	{
		Outlook		o;
		double		year = 365 / days;

		cdp_outlook(cdp_value_model_arg(fcinfo, 0), x, t_x, t_cal, &o);
		answers[P_ALIVE] = two_decimals(o.alive);
		answers[EXPECTED_30] = purchases(&o, 30 / days);
		answers[EXPECTED_90] = purchases(&o, 90 / days);
		answers[EXPECTED_365] = purchases(&o, year);
		if (!isnan(amount))
			answers[CLV] = o.alive * o.shape / o.rate * year * amount * margin < 0.004 ? 0 :
				money_digits(amount * margin * cdp_outlook_discounted(&o, 0, year, discount));
		answers[NEXT_PURCHASE] = cdp_outlook_next(&o, 0.5);
	}
	for (int i = 0; i < N_ANSWERS; i++)
	{
		nulls[i] = !isfinite(answers[i]);
		values[i] = Float8GetDatum(answers[i]);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
