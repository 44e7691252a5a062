/*
 * value_predict.c
 *	  Predictions of the transaction models, as SQL sees them.
 *
 *		SELECT customer_id, cdp.p_alive(m, x, t_x, t_cal), cdp.expected_purchases(m, x, t_x, t_cal, 52)
 *		FROM customers, (SELECT cdp.fit_mbgnbd(x, t_x, t_cal) FROM customers) f(m)
 *
 * Every function here is check, outlook, answer; the overloads of a name for
 * the five models share it.  The mathematics is in value_predict_outlook.c.
 *
 * SQL: sql/value_predict.sql.  Tests: test/sql/value_predict.sql,
 * test/pgtap/value_predict.sql.  Page: doc/value_predict.md.
 */
#include "value_predict.h"

PG_FUNCTION_INFO_V1(cdp_p_alive);
PG_FUNCTION_INFO_V1(cdp_p_alive_ahead);
PG_FUNCTION_INFO_V1(cdp_log_p_alive);
PG_FUNCTION_INFO_V1(cdp_expected_purchases);
PG_FUNCTION_INFO_V1(cdp_expected_purchases_new);
PG_FUNCTION_INFO_V1(cdp_purchase_pmf);
PG_FUNCTION_INFO_V1(cdp_p_purchase);
PG_FUNCTION_INFO_V1(cdp_next_purchase);
PG_FUNCTION_INFO_V1(cdp_dert);

/* The customer of arguments 1 to 3 in the eyes of the model of argument 0. */
static void
outlook_args(FunctionCallInfo fcinfo, Outlook *o)
{
	double		x = PG_GETARG_FLOAT8(1);
	double		t_x = PG_GETARG_FLOAT8(2);
	double		t_cal = PG_GETARG_FLOAT8(3);

	cdp_check_transactions(x, t_x, t_cal);
	cdp_outlook(cdp_value_model_arg(fcinfo, 0), x, t_x, t_cal, o);
}

/* p_alive(model, x, t_x, t_cal) */
Datum
cdp_p_alive(PG_FUNCTION_ARGS)
{
	Outlook		o;

	outlook_args(fcinfo, &o);
	PG_RETURN_DATUM(cdp_prediction(o.alive));
}

/* p_alive(model, x, t_x, t_cal, ahead) */
Datum
cdp_p_alive_ahead(PG_FUNCTION_ARGS)
{
	double		ahead = cdp_time_arg(fcinfo, 4, "ahead");
	Outlook		o;

	outlook_args(fcinfo, &o);
	PG_RETURN_DATUM(cdp_prediction(cdp_outlook_alive(&o, ahead)));
}

/* _log_p_alive(model, x, t_x, t_cal): where p_alive itself is 0 */
Datum
cdp_log_p_alive(PG_FUNCTION_ARGS)
{
	Outlook		o;

	outlook_args(fcinfo, &o);
	PG_RETURN_DATUM(cdp_prediction(o.log_alive));
}

/* expected_purchases(model, x, t_x, t_cal, horizon) */
Datum
cdp_expected_purchases(PG_FUNCTION_ARGS)
{
	double		horizon = cdp_time_arg(fcinfo, 4, "horizon");
	Outlook		o;

	outlook_args(fcinfo, &o);
	PG_RETURN_DATUM(cdp_prediction(cdp_outlook_purchases(&o, horizon)));
}

/* expected_purchases(model, horizon): of a customer who has just made his first */
Datum
cdp_expected_purchases_new(PG_FUNCTION_ARGS)
{
	double		horizon = cdp_time_arg(fcinfo, 1, "horizon");
	Outlook		o;

	cdp_outlook(cdp_value_model_arg(fcinfo, 0), 0, 0, 0, &o);
	PG_RETURN_DATUM(cdp_prediction(cdp_outlook_purchases(&o, horizon)));
}

/* purchase_pmf(model, n, horizon) */
Datum
cdp_purchase_pmf(PG_FUNCTION_ARGS)
{
	int			n = PG_GETARG_INT32(1);
	double		horizon = cdp_time_arg(fcinfo, 2, "horizon");

	if (n < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("n must be 0 or more"),
				 errhint("n is a number of repeat purchases.")));
	PG_RETURN_DATUM(cdp_prediction(cdp_purchase_pmf_value(cdp_value_model_arg(fcinfo, 0), n, horizon)));
}

/* p_purchase(model, x, t_x, t_cal, horizon) */
Datum
cdp_p_purchase(PG_FUNCTION_ARGS)
{
	double		horizon = cdp_time_arg(fcinfo, 4, "horizon");
	Outlook		o;

	outlook_args(fcinfo, &o);
	PG_RETURN_DATUM(cdp_prediction(cdp_outlook_p_purchase(&o, horizon)));
}

/* next_purchase(model, x, t_x, t_cal, probability) */
Datum
cdp_next_purchase(PG_FUNCTION_ARGS)
{
	double		probability = cdp_probability_arg(fcinfo, 4, "probability");
	double		t;
	Outlook		o;

	outlook_args(fcinfo, &o);
	t = cdp_outlook_next(&o, probability);
	if (isnan(t))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(cdp_prediction(t));
}

/* dert(model, x, t_x, t_cal, discount) */
Datum
cdp_dert(PG_FUNCTION_ARGS)
{
	double		discount = PG_GETARG_FLOAT8(4);
	Outlook		o;

	if (!(discount >= 1e-12 && discount <= MAX_TIME))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("discount must be above 0, from 1e-12 to 1e15"),
				 errhint("It is continuous, per unit of time: ln(1.15)/52 is 15 %% a year in weeks. Without a discount only a finite horizon has a value, see cdp.expected_purchases.")));
	outlook_args(fcinfo, &o);
	PG_RETURN_DATUM(cdp_prediction(cdp_outlook_discounted(&o, 0, INFINITY, discount)));
}
