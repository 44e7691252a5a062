/*
 * value_predict_outlook.c
 *	  From what is known of a customer to what he will do.
 *
 * The step of Bayes that value_predict.h describes, and the questions to
 * its answer that all models share.  P(alive) is computed as the logarithm
 * of the odds of two positive numbers, so that a customer who is gone for
 * sure has ln P = -1840 and not a negative probability.
 *
 * Sources: Fader, Hardie, Lee 2005 (BG/NBD); Batislam, Denizel, Filiztekin
 * 2007 (MBG/NBD); Platzer, Reutterer 2016 (MBG/CNBD-k); Schmittlein,
 * Morrison, Colombo 1987 and Fader, Hardie, Lee 2005 (Pareto/NBD, DERT);
 * Ehrenberg 1959 (NBD).
 *
 * SQL: none.  Tests: test/sql/value_predict.sql, test/pgtap/value_predict.sql.
 */
#include "value_predict.h"

#include "miscadmin.h"

#include "value_likelihood.h"

#define LOG_MAX	700.0			/* e^700 is within float8 */

/* BG/NBD: leaves after a repeat purchase, so never before the first. */
static void
outlook_bg(const ModelParameters *m, double x, double t_x, double t_cal, Outlook *o)
{
	AliveTerms	terms;

	cdp_bgnbd_terms(m->par, x, t_x, t_cal, &terms);
	o->log_alive = -cdp_log_add(0, terms.gone - terms.alive);
	o->leave_a = m->par[2];
	o->leave_b = m->par[3] + x;
	o->phase[0] = 1;
}

/*
 * MBG/CNBD-k, and MBG/NBD as k = 1: leaves after any purchase, the first
 * one too; since the last one there have been j < k arrivals.
 */
static void
outlook_mbg(const ModelParameters *m, double x, double t_x, double t_cal, Outlook *o)
{
	AliveTerms	terms;

	cdp_mbgcnbd_terms(m->k, m->par, x, t_x, t_cal, &terms, o->phase);
	o->log_alive = -cdp_log_add(0, terms.gone - terms.alive);
	o->leave_a = m->par[2];
	o->leave_b = m->par[3] + x + 1.0;
	for (int j = 0; j < m->k; j++)
		o->phase[j] = m->k == 1 ? 1.0 : exp(o->phase[j] - terms.alive);
}

/*
 * Pareto/NBD: leaves at any time.  The odds are those of
 * cdp_paretonbd_terms(), with as many nodes as this customer needs.
 */
static void
outlook_pareto(const ModelParameters *m, double x, double t_x, double t_cal, Outlook *o)
{
	double		alpha = m->par[1];
	double		s = m->par[2];
	double		beta = m->par[3];
	double		since = t_cal - t_x;

	o->leave_a = s;
	o->leave_b = beta + t_cal;
	o->log_alive = 0;
	if (since > 0)
		o->log_alive = -cdp_log_add(0, log(s) - log(beta + t_x) +
									o->shape * log1p(since / (alpha + t_x)) + s * log1p(since / (beta + t_x)) +
									log(cdp_pareto_integral(since, o->shape, alpha + t_x, s + 1.0, beta + t_x)));
}

/* What the model says of a customer; his numbers have been checked. */
void
cdp_outlook(ValueModel *model, double x, double t_x, double t_cal, Outlook *o)
{
	o->kind = model->kind;
	o->k = model->parameters.k;
	o->nodes = model->nodes;
	o->shape = model->parameters.par[0] + model->parameters.k * x;
	o->rate = model->parameters.par[1] + t_cal;
	switch (model->kind)
	{
		case MODEL_BGNBD:
			outlook_bg(&model->parameters, x, t_x, t_cal, o);
			break;
		case MODEL_MBGNBD:
		case MODEL_MBGCNBD:
			outlook_mbg(&model->parameters, x, t_x, t_cal, o);
			break;
		case MODEL_PARETONBD:
			outlook_pareto(&model->parameters, x, t_x, t_cal, o);
			break;
		case MODEL_NBD:
			o->log_alive = 0;
			break;
		default:
			elog(ERROR, "model %d has no outlook", (int) model->kind);
	}
	o->alive = exp(o->log_alive);
}

/* P(alive t from now). */
double
cdp_outlook_alive(const Outlook *o, double t)
{
	switch (o->kind)
	{
		case MODEL_NBD:
			return 1;
		case MODEL_PARETONBD:
			return exp(o->log_alive - o->leave_a * log1p(t / o->leave_b));
		default:
			return o->alive * cdp_bg_alive(o, t);
	}
}

/* Expected purchases until t from now. */
double
cdp_outlook_purchases(const Outlook *o, double t)
{
	double		lasting;

	switch (o->kind)
	{
		case MODEL_NBD:
			return o->shape * t / o->rate;
		case MODEL_PARETONBD:
			/* expected time as a customer within t: E(1 - e^(-mu t))/mu, harmless at s = 1 */
			lasting = log1p(t / o->leave_b);
			if (o->leave_a != 1.0)
				lasting = -expm1((1.0 - o->leave_a) * lasting) / (o->leave_a - 1.0);
			return o->alive * (o->shape / o->rate) * o->leave_b * lasting;
		default:
			return o->alive * cdp_bg_purchases(o, t);
	}
}

/* P(at least one purchase until t from now). */
double
cdp_outlook_p_purchase(const Outlook *o, double t)
{
	double		p = 0;

	if (t <= 0)
		return 0;
	if (o->kind == MODEL_PARETONBD)
		return o->alive * o->shape / o->rate *
			cdp_pareto_integral(t, o->shape + 1.0, o->rate, o->leave_a, o->leave_b);
	if (o->k == 1)
		return -o->alive * expm1(-o->shape * log1p(t / o->rate));
	for (int j = 0; j < o->k; j++)
		if (o->phase[j] > 0)
			p += o->phase[j] * exp(cdp_log_beta_inc(o->k - j, o->shape + j, t / (o->rate + t), o->rate / (o->rate + t)));
	return o->alive * Min(p, 1.0);
}

/*
 * When a purchase will have happened with a given probability; NaN: not in
 * MAX_TIME.  With k = 1 and a customer who leaves only by purchases in closed
 * form, else by bracketing in ln t and the method of Chandrupatla (1997).
 */
double
cdp_outlook_next(const Outlook *o, double probability)
{
	double		x1;
	double		x2;
	double		x3;
	double		f1;
	double		f2;
	double		f3;
	double		at = 0.5;
	double		step;

	if (o->alive <= probability)
		return NAN;
	x1 = log(o->rate) + log(expm1(-log1p(-probability / o->alive) / o->shape));
	if (x1 > log(MAX_TIME))
		return NAN;
	if (o->kind != MODEL_PARETONBD && o->k == 1)
		return exp(x1);

	/* a bracket: f1 above the wanted probability, f2 below it */
	x2 = x1;
	f2 = cdp_outlook_p_purchase(o, exp(x2)) - probability;
	x1 = x2;
	f1 = f2;
	step = 0.5;
	for (; f1 < 0; step *= 2)
	{
		if (x1 >= log(MAX_TIME))
			return NAN;
		x2 = x1;
		f2 = f1;
		x1 = Min(x1 + step, log(MAX_TIME));
		f1 = cdp_outlook_p_purchase(o, exp(x1)) - probability;
	}
	step = 0.5;
	for (; f2 >= 0; step *= 2)
	{
		x1 = x2;
		f1 = f2;
		x2 -= step;
		if (x2 < -700)
			return 0;
		f2 = cdp_outlook_p_purchase(o, exp(x2)) - probability;
	}
	for (int i = 0; i < 100; i++)
	{
		double		x = x1 + at * (x2 - x1);
		double		f = cdp_outlook_p_purchase(o, exp(x)) - probability;
		double		best;
		double		slack;

		if ((f > 0) == (f1 > 0))
		{
			x3 = x1;
			f3 = f1;
		}
		else
		{
			x3 = x2;
			f3 = f2;
			x2 = x1;
			f2 = f1;
		}
		x1 = x;
		f1 = f;
		best = fabs(f2) < fabs(f1) ? x2 : x1;
		slack = (2e-16 * fabs(best) + 1e-13) / fabs(x2 - x1);
		if (slack > 0.5 || f1 == 0)
			return exp(f1 == 0 ? x1 : best);
		/* inverse quadratic interpolation where it is safe, else halves */
		{
			double		xi = (x1 - x2) / (x3 - x2);
			double		phi = (f1 - f2) / (f3 - f2);

			at = 0.5;
			if (phi * phi < xi && (1.0 - phi) * (1.0 - phi) < 1.0 - xi)
				at = f1 / (f2 - f1) * f3 / (f2 - f3) + (x3 - x1) / (x2 - x1) * f1 / (f3 - f1) * f2 / (f3 - f2);
		}
		at = Min(1.0 - slack, Max(slack, at));
	}
	return exp(x1);
}

/*
 * Purchases from .. until (both from now), each worth exp(-discount * its
 * time).  By parts, so that the one function of expected purchases serves all
 * models and nothing is subtracted when from = 0:
 *
 *		[e^(-dt) E(t)] + d * integral of e^(-dt) E(t) dt
 *
 * in panels of w = ln(1 + t/h) like those of value_predict_pareto.c.  until
 * may be infinite: what lies beyond 50 e-foldings is nothing.
 */
double
cdp_outlook_discounted(const Outlook *o, double from, double until, double discount)
{
	double		horizon = isinf(until) && discount > 0 ? Min(from + 50.0 / discount, MAX_TIME * 100) : until;
	double		h;
	double		start;
	double		end;
	int			panels;
	double		half;
	double		sum = 0;
	double		ends;

	ends = exp(-discount * horizon) * cdp_outlook_purchases(o, horizon);
	if (from > 0)
		ends -= exp(-discount * from) * cdp_outlook_purchases(o, from);
	if (discount == 0 || horizon <= from || o->alive == 0)
		return ends;
	h = 1.0 / ((1.0 + o->shape) / o->rate + discount + (o->kind == MODEL_PARETONBD ? o->leave_a / o->leave_b : 0));
	start = Min(log1p(from / h), LOG_MAX);
	end = Min(log1p(horizon / h), LOG_MAX);
	panels = Max(1, (int) ceil((end - start) / 1.5));
	half = 0.5 * (end - start) / panels;
	for (int i = 0; i < panels; i++)
	{
		double		centre = start + (2.0 * i + 1.0) * half;

		CHECK_FOR_INTERRUPTS();
		for (int g = 0; g < 2 * CDP_LEGENDRE_HALF; g++)
		{
			int			node = g / 2;
			double		w = centre + (g % 2 ? -half : half) * cdp_legendre_x[node];
			double		t = h * expm1(w);

			sum += cdp_legendre_w[node] * exp(w - discount * t) * cdp_outlook_purchases(o, t);
		}
	}
	return ends + discount * sum * half * h;
}

/*
 * P(n purchases until t) of a new customer: those who are still there, and
 * those who left after the n-th (Fader, Hardie, Lee 2005, equation 8; for
 * MBG/NBD with one more chance to leave).  The probability of at least n
 * arrivals is an incomplete beta, where the paper has one minus a sum.
 */
double
cdp_purchase_pmf_value(ValueModel *model, int n, double t)
{
	double		r = model->parameters.par[0];
	double		alpha = model->parameters.par[1];
	double		a = model->parameters.par[2];
	double		b = model->parameters.par[3];
	int			chances = model->kind == MODEL_MBGNBD ? n + 1 : n;
	double		log_arrivals;
	double		log_at_least;
	double		stays;
	double		leaves;

	if (model->kind == MODEL_PARETONBD)
		return cdp_pareto_pmf(model, n, t);
	if (t == 0)
	{
		log_arrivals = log_at_least = n == 0 ? 0 : -INFINITY;
	}
	else
	{
		log_arrivals = cdp_log_rising(r, n) - cdp_log_gamma(n + 1.0) - r * log1p(t / alpha) - n * log1p(alpha / t);
		log_at_least = n == 0 ? 0 : cdp_log_beta_inc(n, r, t / (alpha + t), alpha / (alpha + t));
	}
	if (model->kind == MODEL_NBD)
		return exp(log_arrivals);
	stays = cdp_log_rising(b, chances) - cdp_log_rising(a + b, chances);
	leaves = chances == 0 ? -INFINITY :
		cdp_log_rising(b, chances - 1) - cdp_log_rising(a + b, chances) + log(a);
	return Min(1.0, exp(stays + log_arrivals) + exp(leaves + log_at_least));
}
