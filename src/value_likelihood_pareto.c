/*
 * value_likelihood_pareto.c
 *	  Likelihood of the Pareto/NBD model.
 *
 * A customer buys at rate lambda ~ Gamma(r, alpha) and leaves at rate
 * mu ~ Gamma(s, beta) (Schmittlein, Morrison, Colombo 1987).  With m = r + x
 *
 *		L  ~  (alpha+T)^-m (beta+T)^-s  +  s * integral from t_x to T of (alpha+y)^-m (beta+y)^-(s+1) dy
 *
 * The integral is commonly written as a difference of two hypergeometric
 * functions, which loses all digits where it matters: the difference is small
 * against both, and each overflows.  Here it stays an integral of something
 * positive.  The integrand falls from t_x on, in the beginning over a length
 * h with 1/h = m/(alpha+t_x) + (s+1)/(beta+t_x) and like a power afterwards,
 * so in the variable w = ln(1 + (y-t_x)/h) it is smooth with width 1 whatever
 * the parameters are.  Panels of 16 Gauss-Legendre nodes, no wider than 1 in
 * w and at most 16, give the logarithm to 2e-12 at |ln L| = 4000.  Its
 * derivatives by the parameters are integrals of the same kind and take the
 * same nodes.
 *
 * Tests: test/pgtap/value_published.sql (points computed with 2,500 digits).
 */
#include "value_likelihood.h"

#include <math.h>

#include "value_math.h"

#define PANELS_MAX	16

/* The integral and the means of what the derivatives need; see the banner. */
void
cdp_paretonbd_terms(const double *par, double x, double t_x, double t_cal, AliveTerms *terms, double *gradient)
{
	double		m = par[0] + x;
	double		alpha_x = par[1] + t_x;
	double		beta_x = par[3] + t_x;
	double		s = par[2];
	double		h = 1.0 / (m / alpha_x + (s + 1) / beta_x);
	double		whole = log1p((t_cal - t_x) / h);
	int			panels = whole < PANELS_MAX ? Max((int) ceil(whole), 1) : PANELS_MAX;
	double		width = whole / panels;
	double		sum = 0.0;
	double		mean[4] = {0};

	terms->alive = -m * log(par[1] + t_cal) - s * log(par[3] + t_cal);
	for (int panel = 0; panel < panels && width > 0; panel++)
	{
		double		middle = (panel + 0.5) * width;

		for (int i = 0; i < 2 * CDP_LEGENDRE_HALF; i++)
		{
			double		node = i < CDP_LEGENDRE_HALF ? cdp_legendre_x[i] : -cdp_legendre_x[i - CDP_LEGENDRE_HALF];
			double		w = middle + 0.5 * width * node;
			double		y = h * expm1(w);
			double		la = log1p(y / alpha_x);
			double		lb = log1p(y / beta_x);
			double		value = cdp_legendre_w[i % CDP_LEGENDRE_HALF] * exp(w - m * la - (s + 1) * lb);

			sum += value;
			if (gradient)
			{
				mean[0] += value * la;
				mean[1] += value / (alpha_x + y);
				mean[2] += value * lb;
				mean[3] += value / (beta_x + y);
			}
		}
		/* the integrand falls: what follows does not count any more */
		if (middle * 2 > width && sum > 0 && middle - m * log1p(h * expm1(middle) / alpha_x) - (s + 1) * log1p(h * expm1(middle) / beta_x) < -60)
			break;
	}
	sum *= 0.5 * width;
	terms->gone = sum > 0 ? log(s * h * sum) - m * log(alpha_x) - (s + 1) * log(beta_x) : -INFINITY;
	if (gradient)
	{
		double		scale = sum > 0 ? 0.5 * width / sum : 0.0;

		gradient[0] = -log(alpha_x) - mean[0] * scale;
		gradient[1] = -m * mean[1] * scale;
		gradient[2] = 1.0 / s - log(beta_x) - mean[2] * scale;
		gradient[3] = -(s + 1) * mean[3] * scale;
	}
}

/* r, alpha, s, beta. */
double
cdp_paretonbd_log_likelihood(const double *par, double x, double t_x, double t_cal)
{
	AliveTerms	terms;

	cdp_paretonbd_terms(par, x, t_x, t_cal, &terms, NULL);
	return cdp_log_rising(par[0], x) + par[0] * log(par[1]) + par[2] * log(par[3]) +
		cdp_log_add(terms.alive, terms.gone);
}
