/*
 * value_predict_discrete.c
 *	  Predictions in discrete time: BG/BB and shifted-beta-geometric.
 *
 * BG/BB (Fader, Hardie, Shang 2010): in each of n periods a donor who is
 * still there gives with probability p ~ Beta(alpha, beta), and leaves
 * before a period with theta ~ Beta(gamma, delta).  sBG (Fader, Hardie 2007):
 * a contract is cancelled at each renewal with theta ~ Beta(alpha, beta).
 *
 * Sums over all periods to come are, for a given theta, geometric series, so
 * that the 2F1(1, .; .; 1/(1+d)) of the papers is an expectation over Beta:
 *
 *		sum over i of E (1-theta)^i / (1+d)^i  =  E (1+d)/(d+theta)
 *
 * which the nodes of value_predict_beta.c take at any discount, however near
 * to 0 where the series would not end.
 *
 * SQL: sql/value_predict.sql.  Tests: test/sql/value_predict.sql.
 */
#include "value_predict.h"

#include "value_likelihood.h"

PG_FUNCTION_INFO_V1(cdp_bgbb_p_alive);
PG_FUNCTION_INFO_V1(cdp_bgbb_expected_purchases);
PG_FUNCTION_INFO_V1(cdp_bgbb_dert);
PG_FUNCTION_INFO_V1(cdp_sbg_survival);
PG_FUNCTION_INFO_V1(cdp_sbg_retention_rate);
PG_FUNCTION_INFO_V1(cdp_sbg_del);
PG_FUNCTION_INFO_V1(cdp_sbg_derl);

#define MAX_PERIODS	1000000

/* A donor after n periods: ln of the chance of his past if he is there in period n, less that of his past as such. */
typedef struct Donor
{
	double		log_there;
	double		gives;			/* E p, given that past */
	double		c;				/* delta + n: theta ~ Beta(gamma, c), given that he is there */
	double		gamma;
} Donor;

static void
check_periods(int32 n, const char *name)
{
	if (n < 0 || n > MAX_PERIODS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be from 0 to %d", name, MAX_PERIODS),
				 errhint("It counts whole periods.")));
}

/* A rate per period, argument argno. */
static double
rate_arg(FunctionCallInfo fcinfo, int argno)
{
	double		rate = PG_GETARG_FLOAT8(argno);

	if (!(rate > 0 && rate <= MAX_TIME))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("rate must be above 0"),
				 errhint("It is the discount of one period: 0.1 is 10 %%.")));
	return rate;
}

/* ln E (1 - theta)^n over Beta(a, b) */
static double
log_survival(double a, double b, double n)
{
	return cdp_log_rising(b, n) - cdp_log_rising(a + b, n);
}

/* The donor of arguments 1 to 3. */
static void
donor_args(FunctionCallInfo fcinfo, Donor *donor)
{
	const double *v = cdp_value_model_arg(fcinfo, 0)->parameters.par;
	double		x = PG_GETARG_FLOAT8(1);
	double		t_x = PG_GETARG_FLOAT8(2);
	double		n = PG_GETARG_FLOAT8(3);

	cdp_check_occasions(x, t_x, n);
	donor->gamma = v[2];
	donor->c = v[3] + n;
	donor->gives = (v[0] + x) / (v[0] + v[1] + n);
	donor->log_there = cdp_log_rising(v[0], x) + cdp_log_rising(v[1], n - x) - cdp_log_rising(v[0] + v[1], n) +
		log_survival(v[2], v[3], n) - cdp_bgbb_log_likelihood(v, x, t_x, n, NULL);
}

/* E (1+d)/(d+theta) over Beta(a, b) */
static double
geometric_sum(double a, double b, double d)
{
	BetaCache  *cache = cdp_beta_cache(a, CurrentMemoryContext);
	const BetaNodes *nodes = cdp_beta_nodes(cache, b, true);
	double		sum = 0;

	for (int i = 0; i < nodes->n; i++)
		sum += nodes->weight[i] * (1.0 + d) / (d + nodes->p[i]);
	return sum;
}

/* p_alive(model, x, t_x, n, ahead): there in period n + ahead */
Datum
cdp_bgbb_p_alive(PG_FUNCTION_ARGS)
{
	int32		ahead = PG_GETARG_INT32(4);
	Donor		donor;

	check_periods(ahead, "ahead");
	donor_args(fcinfo, &donor);
	PG_RETURN_DATUM(cdp_prediction(exp(donor.log_there + log_survival(donor.gamma, donor.c, ahead))));
}

/* expected_purchases(model, x, t_x, n, horizon): in periods n+1 ... n+horizon */
Datum
cdp_bgbb_expected_purchases(PG_FUNCTION_ARGS)
{
	int32		horizon = PG_GETARG_INT32(4);
	double		there = 1;
	double		sum = 0;
	Donor		donor;

	check_periods(horizon, "horizon");
	donor_args(fcinfo, &donor);
	for (int32 i = 0; i < horizon; i++)
	{
		there *= (donor.c + i) / (donor.gamma + donor.c + i);
		sum += there;
	}
	PG_RETURN_DATUM(cdp_prediction(exp(donor.log_there) * donor.gives * sum));
}

/* dert(model, x, t_x, n, rate): period n+1 is discounted once */
Datum
cdp_bgbb_dert(PG_FUNCTION_ARGS)
{
	double		rate = rate_arg(fcinfo, 4);
	Donor		donor;

	donor_args(fcinfo, &donor);
	PG_RETURN_DATUM(cdp_prediction(exp(donor.log_there + log_survival(donor.gamma, donor.c, 1)) * donor.gives *
					 geometric_sum(donor.gamma, donor.c + 1.0, rate) / (1.0 + rate)));
}

/* survival(model, t): still there after t renewals */
Datum
cdp_sbg_survival(PG_FUNCTION_ARGS)
{
	const double *v = cdp_value_model_arg(fcinfo, 0)->parameters.par;
	int32		t = PG_GETARG_INT32(1);

	check_periods(t, "t");
	PG_RETURN_DATUM(cdp_prediction(exp(log_survival(v[0], v[1], t))));
}

/* retention_rate(model, t): of those there after t-1 renewals, how many renew the t-th time */
Datum
cdp_sbg_retention_rate(PG_FUNCTION_ARGS)
{
	const double *v = cdp_value_model_arg(fcinfo, 0)->parameters.par;
	int32		t = PG_GETARG_INT32(1);

	check_periods(t, "t");
	if (t == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("t must be from 1 to %d", MAX_PERIODS),
				 errhint("The first renewal is number 1.")));
	PG_RETURN_DATUM(cdp_prediction((v[1] + t - 1.0) / (v[0] + v[1] + t - 1.0)));
}

/* del(model, rate): of a new customer; his first period is not discounted */
Datum
cdp_sbg_del(PG_FUNCTION_ARGS)
{
	const double *v = cdp_value_model_arg(fcinfo, 0)->parameters.par;

	PG_RETURN_DATUM(cdp_prediction(geometric_sum(v[0], v[1], rate_arg(fcinfo, 1))));
}

/* derl(model, rate, n): of a customer just before his n-th renewal */
Datum
cdp_sbg_derl(PG_FUNCTION_ARGS)
{
	const double *v = cdp_value_model_arg(fcinfo, 0)->parameters.par;
	double		rate = rate_arg(fcinfo, 1);
	int32		n = PG_GETARG_INT32(2);

	check_periods(n, "n");
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("n must be from 1 to %d", MAX_PERIODS),
				 errhint("The first renewal is number 1; cdp.del is for a new customer.")));
	PG_RETURN_DATUM(cdp_prediction((v[1] + n - 1.0) / (v[0] + v[1] + n - 1.0) * geometric_sum(v[0], v[1] + n, rate)));
}
