/*
 * value_cycle.c
 *	  When a customer buys again: gaps between purchases of a category, a
 *	  product, or anything.
 *
 * Somebody buys nappies every 30 days, somebody else every 20; a third one
 * has bought once.  A gap of customer i is Gamma(k, lambda_i), regular for a
 * large k, and the rates of the customers are Gamma(r, alpha).  So the next gap
 * of one who has made n gaps of together S days is, with k, r and alpha of
 * the category,
 *
 *		(alpha + S) * BetaPrime(k, r + k * n)
 *
 * and whoever is new gets the category's gap, whoever is regular his own.
 * (Gamma gaps with gamma rates: the interpurchase time model of Herniter
 * 1971 and Chatfield and Goodhardt 1973; the predictive distribution follows
 * by integrating the rate out.)
 *
 * What the model does not know: gaps that are still open when the data end
 * are left out of the fit, and everybody is taken to be a customer still.
 *
 * The parameters come from value_cycle_fit.c.  SQL: sql/value_cycle.sql.
 * Page: doc/value_cycle.md.  Tests: test/sql/value_cycle.sql,
 * test/pgtap/value_cycle.sql.
 */
#include "cdp.h"
#include "value_math.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_cycle_quantile);
PG_FUNCTION_INFO_V1(cdp_cycle_due);

/* the distribution of a next gap: scale * BetaPrime(k, r) */
typedef struct NextGap
{
	double		k;
	double		r;
	double		scale;
} NextGap;

static void
check_positive(const char *name, double value, double most)
{
	if (!(value > 0 && value <= most))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is %g", name, value),
				 errhint("It must be above 0 and at most %g.", most)));
}

/* from arguments k, r, alpha, gaps, sum_gap */
static NextGap
read_next_gap(FunctionCallInfo fcinfo)
{
	double		k = PG_GETARG_FLOAT8(0);
	double		r = PG_GETARG_FLOAT8(1);
	double		alpha = PG_GETARG_FLOAT8(2);
	double		gaps = PG_GETARG_FLOAT8(3);
	double		sum = PG_GETARG_FLOAT8(4);
	NextGap		gap;

	check_positive("k", k, 1e6);
	check_positive("r", r, 1e6);
	check_positive("alpha", alpha, 1e12);
	if (!(gaps >= 0 && gaps <= 1e9) || !(sum >= 0 && sum <= 1e12))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the number of gaps or their sum is out of range"),
				 errhint("A customer without gaps has 0 of both.")));
	gap.k = k;
	gap.r = r + k * gaps;
	gap.scale = alpha + sum;
	return gap;
}

/* probability that the gap is at most t */
static double
gap_cdf(const NextGap *g, double t)
{
	double		whole = g->scale + t;

	return t <= 0 ? 0 : exp(cdp_log_beta_inc(g->k, g->r, t / whole, g->scale / whole));
}

/*
 * The gap that is reached with probability p: Newton's method for u = ln(gap /
 * scale), where the distribution is nearly symmetric, kept inside a bracket.
 */
static double
gap_quantile(const NextGap *g, double p)
{
	double		log_beta = cdp_log_beta(g->k, g->r);
	double		sd = sqrt(cdp_trigamma(g->k) + cdp_trigamma(g->r));
	double		u = cdp_digamma(g->k) - cdp_digamma(g->r) + sd * (p < 0.3 ? -1.2 : p > 0.7 ? 1.2 : 0);
	double		low = u - 10 * sd - 1 / g->k - 20,
				high = u + 10 * sd + 1 / g->r + 20;

	/* shapes near 0 have tails beyond any fixed number of standard deviations */
	while (gap_cdf(g, g->scale * exp(low)) > p && low > -700)
		low -= 2 * (high - low);
	while (gap_cdf(g, g->scale * exp(high)) < p && high < 700)
		high += 2 * (high - low);
	for (int i = 0; i < 200; i++)
	{
		double		x = 1 / (1 + exp(-u)),
					y = 1 / (1 + exp(u));
		double		off = exp(cdp_log_beta_inc(g->k, g->r, x, y)) - p;
		double		slope = exp(g->k * log(x) + g->r * log(y) - log_beta);
		double		next = u - off / slope;

		if (fabs(next - u) < 1e-12)
			break;
		if (off > 0)
			high = u;
		else
			low = u;
		if (!(next > low && next < high))
			next = (low + high) / 2;
		u = next;
	}
	return g->scale * exp(u);
}

/* _cycle_quantile(k, r, alpha, gaps, sum_gap, probability): the gap that is reached with that probability */
Datum
cdp_cycle_quantile(PG_FUNCTION_ARGS)
{
	NextGap		gap = read_next_gap(fcinfo);
	double		p = PG_GETARG_FLOAT8(5);

	if (!(p > 0 && p < 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("probability is %g", p),
				 errhint("It must lie between 0 and 1; 0.5 gives the median.")));
	PG_RETURN_FLOAT8(gap_quantile(&gap, p));
}

/*
 * _cycle_due(k, r, alpha, gaps, sum_gap, elapsed, within, quantity): median,
 * 10 % and 90 % point of a gap that began so long ago, and the probability
 * that it ends within so long, since it has not ended yet; NULL unless the
 * median lies before the end of that time and the 90 % point not in the past.
 * Most gaps of a shop are over, so this is asked before anything is inverted.
 */
Datum
cdp_cycle_due(PG_FUNCTION_ARGS)
{
	NextGap		gap = read_next_gap(fcinfo);
	double		elapsed = PG_GETARG_FLOAT8(5);
	double		within = PG_GETARG_FLOAT8(6);
	double		quantity = PG_GETARG_FLOAT8(7);
	double		before,
				after;
	Datum		d[4];

	check_positive("within", within, 1e9);
	check_positive("quantity", quantity, 1e30);
	if (!(elapsed >= 0 && elapsed <= 1e9))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("elapsed is %g", elapsed),
				 errhint("It must be 0 or more.")));
	/* gaps are per unit: two bags last twice as long */
	before = gap_cdf(&gap, elapsed / quantity);
	if (before > 0.9)
		PG_RETURN_NULL();
	after = gap_cdf(&gap, (elapsed + within) / quantity);
	if (after <= 0.5)
		PG_RETURN_NULL();
	d[0] = Float8GetDatum(gap_quantile(&gap, 0.5) * quantity);
	d[1] = Float8GetDatum(gap_quantile(&gap, 0.1) * quantity);
	d[2] = Float8GetDatum(gap_quantile(&gap, 0.9) * quantity);
	d[3] = Float8GetDatum((after - before) / (1 - before));
	PG_RETURN_ARRAYTYPE_P(construct_array(d, 4, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}
