/*
 * value_likelihood.c
 *	  Likelihoods in closed form: the beta-geometric family, NBD,
 *	  Gamma-Gamma, BG/BB and sBG.
 *
 * In all the models of purchases a customer buys at a rate of his own,
 * lambda ~ Gamma(r, alpha), and what is left after lambda is integrated out
 * is (alpha + t)^-(r + x), t the time for which he was at risk.  They differ
 * in how he leaves:
 *
 *		NBD			he does not
 *		BG/NBD		after a repeat purchase, with probability p ~ Beta(a, b)
 *		MBG/NBD		after any purchase, the first one too
 *		MBG/CNBD-k	as MBG/NBD, and a purchase takes k phases of rate lambda,
 *					so that gaps are the more regular the larger k is
 *
 * So the likelihood is a factor of x alone, times a sum of two parts: alive
 * all the time, or gone with the last purchase.  NBD is on the scale of the
 * others, a density of the times of purchases and no probability of their
 * number, so that their likelihoods may be compared.
 *
 * Sums are taken in logarithms and ratios of Gamma functions as such
 * (cdp_log_rising), so that neither x = 10^6 nor b = 10^6 costs digits.
 *
 * Sources: Ehrenberg 1959; Fader, Hardie, Lee 2005 (BG/NBD); Batislam,
 * Denizel, Filiztekin 2007 (MBG/NBD); Platzer, Reutterer 2016 (MBG/CNBD-k);
 * Fader, Hardie 2013 (Gamma-Gamma); Fader, Hardie, Shang 2010 (BG/BB);
 * Fader, Hardie 2007 (sBG).  Pareto/NBD has a file of its own.
 *
 * Tests: test/sql/value_model.sql, test/pgtap/value_published.sql.
 */
#include "value_likelihood.h"

#include "miscadmin.h"

#include "value_math.h"

/* ln B(a, b+x) - ln B(a, b) */
static double
log_beta_step(double a, double b, double x)
{
	return cdp_log_rising(b, x) - cdp_log_rising(a + b, x);
}

/* NBD: r, alpha. */
double
cdp_nbd_log_likelihood(const double *par, double x, double t_cal)
{
	return cdp_log_rising(par[0], x) - par[0] * log1p(t_cal / par[1]) - x * log(par[1] + t_cal);
}

/* BG/NBD: r, alpha, a, b. */
void
cdp_bgnbd_terms(const double *par, double x, double t_x, double t_cal, AliveTerms *terms)
{
	double		m = par[0] + x;

	terms->alive = -m * log(par[1] + t_cal);
	terms->gone = x > 0 ? log(par[2] / (par[3] + x - 1)) - m * log(par[1] + t_x) : -INFINITY;
}

double
cdp_bgnbd_log_likelihood(const double *par, double x, double t_x, double t_cal)
{
	AliveTerms	terms;

	cdp_bgnbd_terms(par, x, t_x, t_cal, &terms);
	return cdp_log_rising(par[0], x) + par[0] * log(par[1]) + log_beta_step(par[2], par[3], x) +
		cdp_log_add(terms.alive, terms.gone);
}

/*
 * MBG/CNBD-k: r, alpha, a, b.  Of the time since the last purchase, T - t_x,
 * j < k phases may have passed: a Poisson number, mixed over lambda.
 */
void
cdp_mbgcnbd_terms(int k, const double *par, double x, double t_x, double t_cal, AliveTerms *terms, double *phase)
{
	double		m = par[0] + k * x;
	double		ab = par[2] + par[3] + x;
	double		log_u = log((t_cal - t_x) / (par[1] + t_cal));
	double		base = log((par[3] + x) / ab) - m * log(par[1] + t_cal);
	double		own[MODEL_MAX_K];

	Assert(k >= 1 && k <= MODEL_MAX_K);
	if (phase == NULL)
		phase = own;
	terms->gone = log(par[2] / ab) - m * log(par[1] + t_x);
	phase[0] = base;
	for (int j = 1; j < k; j++)
		phase[j] = base + cdp_log_rising(m, j) - cdp_log_gamma(j + 1.0) + j * log_u;
	terms->alive = k == 1 ? base : cdp_log_sum(phase, k);
}

double
cdp_mbgcnbd_log_likelihood(int k, const double *par, double x, double t_x, double t_cal, double log_gaps)
{
	AliveTerms	terms;

	cdp_mbgcnbd_terms(k, par, x, t_x, t_cal, &terms, NULL);
	return cdp_log_rising(par[0], k * x) + par[0] * log(par[1]) + log_beta_step(par[2], par[3], x) +
		(k == 1 ? 0.0 : (k - 1) * log_gaps - x * cdp_log_gamma(k)) + cdp_log_add(terms.alive, terms.gone);
}

/*
 * Gamma-Gamma: p, q, v.  The density of the mean of x amounts, each
 * Gamma(p, nu) with nu ~ Gamma(q, v); x > 0, mean_amount > 0.
 */
double
cdp_gammagamma_log_likelihood(const double *par, double x, double mean_amount)
{
	double		px = par[0] * x;
	double		sum = x * mean_amount;

	return -cdp_log_beta(px, par[1]) + par[1] * log(par[2] / (par[2] + sum)) + px * log(sum / (par[2] + sum)) - log(mean_amount);
}

/*
 * BG/BB: alpha, beta, gamma, delta.  He buys at an occasion with probability
 * p ~ Beta(alpha, beta) and leaves before one with probability theta ~
 * Beta(gamma, delta): term i of the sum is that he was there i occasions
 * after his last purchase and not for the next.  Each term follows from the
 * one before by a ratio, and so do the derivatives of its logarithm.
 *
 * The sum is kept beside its largest term so far, which never is the last by
 * much: terms fall, or rise slowly.
 */
double
cdp_bgbb_log_likelihood(const double *par, double x, double t_x, double n, double *gradient)
{
	double		alpha = par[0];
	double		beta = par[1];
	double		gamma = par[2];
	double		delta = par[3];
	double		buys = log_beta_step(beta, alpha, x);	/* ln B(alpha+x, beta)/B(alpha, beta) */
	double		log_term;
	double		top = -INFINITY;
	double		sum = 0.0;		/* of terms, relative to top */
	double		d[4] = {0};		/* sums of term * its log derivative, relative to top */
	double		step[4] = {0};	/* log derivatives of the term */
	double		both = 0;

	/*
	 * Alive at the end is written as one more term: i = n - t_x with
	 * B(gamma, delta+n) in place of B(gamma+1, delta+t_x+i).
	 */
	log_term = buys + cdp_log_rising(beta, t_x - x) - cdp_log_rising(alpha + x + beta, t_x - x) +
		log(gamma) + cdp_log_rising(delta, t_x) - cdp_log_rising(gamma + delta, t_x + 1);
	if (gradient)
	{
		both = cdp_digamma(alpha + beta) - cdp_digamma(alpha + beta + t_x);
		step[0] = cdp_digamma(alpha + x) - cdp_digamma(alpha) + both;
		step[1] = cdp_digamma(beta + t_x - x) - cdp_digamma(beta) + both;
		both = cdp_digamma(gamma + delta) - cdp_digamma(gamma + delta + t_x + 1);
		step[2] = 1.0 / gamma + both;
		step[3] = cdp_digamma(delta + t_x) - cdp_digamma(delta) + both;
	}
	for (int i = 0;; i++)
	{
		bool		last = t_x + i >= n;
		double		own_d2 = 0;
		double		at = log_term;

		if ((i & 4095) == 4095)
			CHECK_FOR_INTERRUPTS();
		if (last)
		{
			/* B(gamma, delta+n) = B(gamma+1, delta+n) * (gamma+delta+n) / gamma */
			at += log((gamma + delta + n) / gamma);
			own_d2 = 1.0 / (gamma + delta + n);
		}
		if (at > top)
		{
			double		shrink = exp(top - at);

			sum *= shrink;
			for (int p = 0; p < 4; p++)
				d[p] *= shrink;
			top = at;
		}
		if (at > top - 745)
		{
			double		term = exp(at - top);

			sum += term;
			if (gradient)
			{
				d[0] += term * step[0];
				d[1] += term * step[1];
				d[2] += term * (step[2] + own_d2 - (last ? 1.0 / gamma : 0.0));
				d[3] += term * (step[3] + own_d2);
			}
		}
		if (last)
			break;
		/* to i + 1: he is there once more and does not buy */
		log_term += log((beta + t_x - x + i) / (alpha + beta + t_x + i) * ((delta + t_x + i) / (gamma + 1 + delta + t_x + i)));
		if (gradient)
		{
			step[0] -= 1.0 / (alpha + beta + t_x + i);
			step[1] += 1.0 / (beta + t_x - x + i) - 1.0 / (alpha + beta + t_x + i);
			step[2] -= 1.0 / (gamma + 1 + delta + t_x + i);
			step[3] += 1.0 / (delta + t_x + i) - 1.0 / (gamma + 1 + delta + t_x + i);
		}
	}
	if (gradient)
		for (int p = 0; p < 4; p++)
			gradient[p] = d[p] / sum;
	return top + log(sum);
}

/*
 * sBG: alpha, beta.  He leaves at the end of a period with probability theta
 * ~ Beta(alpha, beta): in this one, or he is still there after it.
 */
double
cdp_sbg_log_likelihood(const double *par, double period, bool churned, double *gradient)
{
	double		alpha = par[0];
	double		beta = par[1];
	double		survived = churned ? period - 1 : period;

	if (gradient)
	{
		double		both = cdp_digamma(alpha + beta) - cdp_digamma(alpha + beta + period);

		gradient[0] = both + (churned ? 1.0 / alpha : 0.0);
		gradient[1] = both + cdp_digamma(beta + survived) - cdp_digamma(beta);
	}
	return cdp_log_rising(beta, survived) - cdp_log_rising(alpha + beta, period) + (churned ? log(alpha) : 0.0);
}
