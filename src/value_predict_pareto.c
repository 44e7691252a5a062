/*
 * value_predict_pareto.c
 *	  The integrals of Pareto/NBD.
 *
 * Schmittlein, Morrison and Colombo (1987) write the model with differences
 * of two 2F1, which lose all digits on real data.  Everything that it needs
 * is one integral of positive terms,
 *
 *		J(t; m, a, n, c) = integral from 0 to t of (a/(a+y))^m (c/(c+y))^n dy
 *
 * which falls from 1 on the scale h = 1/(m/a + n/c).  In w = ln(1 + y/h) it
 * is smooth at every parameter and falls from w = 0 on, so that panels of
 * one unit of w with 16 Gauss-Legendre nodes each are exact, and the panels
 * end when nothing is added any more.
 *
 * SQL: none.  Tests: test/sql/value_predict.sql, test/pgtap/value_predict.sql.
 */
#include "value_predict.h"

#include "miscadmin.h"

/* J(until; m, a, n, c). */
double
cdp_pareto_integral(double until, double m, double a, double n, double c)
{
	double		h = 1.0 / (m / a + n / c);
	double		end = Min(log1p(until / h), 700.0);	/* e^700 is within float8 */
	int			panels = Max(1, (int) ceil(end));
	double		half = 0.5 * end / panels;
	double		sum = 0;

	for (int i = 0; i < panels; i++)
	{
		double		centre = (2.0 * i + 1.0) * half;
		double		panel = 0;

		for (int g = 0; g < 2 * CDP_LEGENDRE_HALF; g++)
		{
			int			node = g / 2;
			double		w = centre + (g % 2 ? -half : half) * cdp_legendre_x[node];
			double		y = h * expm1(w);

			panel += cdp_legendre_w[node] * exp(w - m * log1p(y / a) - n * log1p(y / c));
		}
		sum += panel;
		if (!(panel > 1e-17 * sum))
			break;
	}
	return sum * half * h;
}

/* What integrate_peak() integrates over v = ln y: y^grow / ((alpha+y)^m (beta+y)^n). */
typedef struct PeakShape
{
	double		grow;
	double		m;
	double		alpha;
	double		n;
	double		beta;
} PeakShape;

/* Its logarithm, */
static double
peak_log(const PeakShape *s, double v)
{
	double		y = exp(v);

	return s->grow * v - s->m * log(s->alpha + y) - s->n * log(s->beta + y);
}

/* the slope of that, */
static double
peak_slope(const PeakShape *s, double v)
{
	double		y = exp(v);

	return s->grow - s->m * (y / (s->alpha + y)) - s->n * (y / (s->beta + y));
}

/* and how fast the slope falls. */
static double
peak_bend(const PeakShape *s, double v)
{
	double		y = exp(v);

	return s->m * (y / (s->alpha + y)) * (s->alpha / (s->alpha + y)) + s->n * (y / (s->beta + y)) * (s->beta / (s->beta + y));
}

/*
 * ln of the integral over v up to end.  The integrand has one peak, so panels
 * go down both sides of it, each as wide as the curvature there allows, until
 * nothing is added.
 */
static double
integrate_peak(const PeakShape *s, double end)
{
	double		peak = end;
	double		top;
	double		sum = 0;

	if (peak_slope(s, end) < 0)
	{
		double		low = end - 1.0;
		double		high = end;

		while (peak_slope(s, low) < 0)
			low -= 2.0 * (end - low);
		for (int i = 0; i < 60; i++)
		{
			peak = 0.5 * (low + high);
			if (peak_slope(s, peak) < 0)
				high = peak;
			else
				low = peak;
		}
	}
	top = peak_log(s, peak);
	for (int side = -1; side <= 1; side += 2)
	{
		double		from = peak;

		while (side < 0 || from < end)
		{
			double		width = 1.0;
			double		panel = 0;

			while (width > 1e-9 && width * sqrt(Max(peak_bend(s, from), peak_bend(s, from + side * width))) > 2.0)
				width *= 0.5;
			if (side > 0)
				width = Min(width, end - from);
			for (int g = 0; g < 2 * CDP_LEGENDRE_HALF; g++)
			{
				int			node = g / 2;
				double		v = from + 0.5 * width * (side + (g % 2 ? -1 : 1) * cdp_legendre_x[node]);

				panel += 0.5 * width * cdp_legendre_w[node] * exp(peak_log(s, v) - top);
			}
			sum += panel;
			from += side * width;
			if (!(panel > 1e-17 * sum))
				break;
		}
	}
	return sum > 0 ? top + log(sum) : top;
}

/*
 * P(n purchases in t) of a new customer (Fader, Hardie 2006, a derivation of
 * the P(X(t)=n) of Pareto/NBD): those who stay until t, and those who leave
 * at y before it, at the density of their leaving.
 */
double
cdp_pareto_pmf(const ValueModel *model, int n, double t)
{
	double		r = model->parameters.par[0];
	double		alpha = model->parameters.par[1];
	double		s = model->parameters.par[2];
	double		beta = model->parameters.par[3];
	double		front = cdp_log_rising(r, n) - cdp_log_gamma(n + 1.0);
	PeakShape	left = {n + 1.0, r + n, alpha, s + 1.0, beta};

	if (t == 0)
		return n == 0 ? 1 : 0;
	/* the panels of a left side may be many when its slope is small; n = 0 has the slope 1 */
	return exp(front - r * log1p(t / alpha) - n * log1p(alpha / t) - s * log1p(t / beta)) +
		exp(front + r * log(alpha) + log(s) + s * log(beta) + integrate_peak(&left, log(t)));
}
