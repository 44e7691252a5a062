/*
 * value_predict_phase.c
 *	  The BG family from now on: purchases and survival of a customer who is
 *	  alive, for BG/NBD, MBG/NBD and MBG/CNBD-k.
 *
 * Arrivals come at rate lambda ~ Gamma(R, A); every k-th of them is a
 * purchase; after each purchase he leaves with p ~ Beta(a, b).  In t there
 * are n arrivals with the probability of the negative binomial, and of M
 * purchases that they would make he makes G(M), the m-th being made when he
 * has outlived m-1:
 *
 *		E = sum over n of NB(n; R, t/(A+t)) * G(floor((n + j)/k))
 *		G(M) = sum over m <= M of B(a, b+m-1)/B(a, b)
 *
 * with j arrivals behind him since the last purchase.  Regrouped by n, this
 * is the series in incomplete beta functions of the model's exact
 * expectation.  All terms are positive, a step to the next costs two
 * divisions, and a horizon of a year takes some fifty.  Where it would take
 * too many, the sum over n is done in closed form for a given p and the
 * expectation over p by quadrature:
 *
 *		k = 1	(1 - (1 + p t/A)^-R) / p				(Fader, Hardie, Lee 2005)
 *		k > 1	the same for the k complex roots c of c^k = 1-p, which pick
 *				every k-th term out of the exponential series
 *
 * SQL: none.  Tests: test/sql/value_predict.sql, test/pgtap/value_predict.sql.
 */
#include "value_predict.h"

#include "miscadmin.h"

#define SUM_TERMS		300.0	/* more, and 96 nodes are cheaper */
#define SUM_TERMS_K		5000.0	/* k > 1: the other way is dearer */
#define LOG_NOTHING		(-600.0)	/* ln of a probability that may be left out and is still a number */
#define JACOBI_STEEP	500.0	/* R t/A that 96 nodes can follow */
#define JACOBI_NEAR		150.0	/* t/A: the pole at p = -A/t must not come too near */
#define FEW_STAY		0.2		/* 1-p below which purchases are few, */
#define FEW_PURCHASES	26		/* as 0.2^26 < 10^-18 */

/* A complex root of 1. */
typedef struct Root
{
	double		re;
	double		im;
} Root;

/* ln of the probability of n arrivals over that of none; it grows with n up to the mean. */
static double
log_arrivals(double shape, double n, double z)
{
	return n == 0 ? 0 : cdp_log_rising(shape, n) - cdp_log_gamma(n + 1.0) + n * log(z);
}

/*
 * Both sums over n at once, for j arrivals behind: purchases, and the chance
 * to be alive after the last of them.
 */
static void
sum_arrivals(const Outlook *o, int j, double t, double *purchases, double *alive)
{
	double		shape = o->shape + j;
	double		z = t / (o->rate + t);
	double		mean = shape * t / o->rate;
	double		log_first = -shape * log1p(t / o->rate);
	double		n = 0;
	double		start = 0;		/* terms before it are nothing */
	double		pmf;
	double		made = 0;		/* G(M) */
	double		outlived = 1;	/* E (1-p)^M, the next term of G */
	double		before = o->leave_b;
	double		total = o->leave_a + o->leave_b;
	int			arrivals = j;	/* since the last purchase */

	/* when the first probabilities are nothing, begin where they are something */
	if (log_first < LOG_NOTHING)
	{
		double		high = ceil(mean);

		while (high - start > 1.0)
		{
			double		middle = floor(0.5 * (start + high));

			if (log_arrivals(shape, middle, z) + log_first < LOG_NOTHING)
				start = middle;
			else
				high = middle;
		}
	}
	pmf = exp(log_arrivals(shape, start, z) + log_first);
	*purchases = 0;
	*alive = 0;
	while (n < start + 1e6)
	{
		if (n >= start)
		{
			*purchases += pmf * made;
			*alive += pmf * outlived;
			/* behind the mode the terms fall by at least this ratio */
			if (n > mean)
			{
				double		ratio = z * (shape + n) / (n + 1.0);

				if (made > 0 && pmf * made <= 1e-18 * (1.0 - ratio) * *purchases && pmf * outlived <= 1e-18 * (1.0 - ratio) * *alive)
					break;
			}
			pmf *= z * (shape + n) / (n + 1.0);
		}
		if (++arrivals == o->k)
		{
			arrivals = 0;
			made += outlived;
			outlived *= before / total;
			before += 1.0;
			total += 1.0;
		}
		n += 1;
	}
}

/* How many n the sum takes, about. */
static double
terms_needed(const Outlook *o, double t)
{
	double		shape = o->shape + o->k - 1;
	double		mean = shape * t / o->rate;

	return mean + 12.0 * sqrt(mean * (1.0 + t / o->rate)) + 40.0 / log1p(o->rate / t);
}

/*
 * k > 1: expected purchases of one who leaves with p (q = 1 - p), over the
 * arrivals j that may be behind him.  first[m] is the chance of more than m
 * purchases of one who stays; turn[] are the k-th roots of 1.  What a root c
 * turn[l] adds for j arrivals has z^(shape + j) in it, z = 1/(1 + (1 - c
 * turn[l]) t/A), so that the sum over j is two polynomials; conjugate roots
 * add conjugate numbers, and one of each pair is computed.
 */
static double
purchases_given_p(const Outlook *o, double t, double p, double q, const double *first, const Root *turn)
{
	double		tau = t / o->rate;
	double		log_c;
	double		c;
	double		fall;
	double		sum = 0;

	/* he who nearly always leaves: his first purchases one by one; roots would cancel */
	if (q < FEW_STAY)
	{
		double		outlived = 1;

		for (int m = 0; m < FEW_PURCHASES; m++)
		{
			sum += outlived * first[m];
			outlived *= q;
		}
		return sum;
	}
	log_c = (p < 0.5 ? log1p(-p) : log(q)) / o->k;
	c = exp(log_c);
	fall = log1p(-expm1(log_c) * tau);
	for (int j = o->k - 1; j >= 0; j--)
	{
		double		shape = o->shape + j;

		sum = sum * c + o->phase[j] * (-expm1(log_c) * tau * shape < 1e-12 ? shape * tau : expm1(-shape * fall) / expm1(log_c));
	}
	for (int l = 1; l <= o->k / 2; l++)
	{
		Root		root = {c * turn[l].re, c * turn[l].im};
		Root		slow = {1.0 + (1.0 - root.re) * tau, -root.im * tau};
		double		size = exp(-o->shape * log(hypot(slow.re, slow.im)));
		double		angle = -o->shape * atan2(slow.im, slow.re);
		double		norm = slow.re * slow.re + slow.im * slow.im;
		Root		rootz = {(root.re * slow.re + root.im * slow.im) / norm, (root.im * slow.re - root.re * slow.im) / norm};
		Root		behind = {0, 0};
		Root		ahead = {0, 0};
		Root		num;

		for (int j = o->k - 1; j >= 0; j--)
		{
			double		re = behind.re * root.re - behind.im * root.im + o->phase[j];

			behind.im = behind.re * root.im + behind.im * root.re;
			behind.re = re;
			re = ahead.re * rootz.re - ahead.im * rootz.im + o->phase[j];
			ahead.im = ahead.re * rootz.im + ahead.im * rootz.re;
			ahead.re = re;
		}
		num.re = behind.re - size * (cos(angle) * ahead.re - sin(angle) * ahead.im);
		num.im = behind.im - size * (cos(angle) * ahead.im + sin(angle) * ahead.re);
		/* the real part of turn[l] * num / (1 - root) */
		norm = (1.0 - root.re) * (1.0 - root.re) + root.im * root.im;
		sum += (2 * l == o->k ? 1.0 : 2.0) / norm *
			((num.re * (1.0 - root.re) - num.im * root.im) * turn[l].re - (num.im * (1.0 - root.re) + num.re * root.im) * turn[l].im);
	}
	return sum * exp(log_c * (1 - o->k)) / o->k;
}

/* k > 1: both answers by quadrature over p. */
static void
integrate_arrivals(const Outlook *o, double t, double *purchases, double *alive)
{
	const BetaNodes *nodes = cdp_beta_nodes(o->nodes, o->leave_b, true);
	double		first[FEW_PURCHASES] = {0};
	double		total = 0;
	Root		turn[MODEL_MAX_K] = {{0}};

	for (int j = 0; j < o->k; j++)
	{
		turn[j].re = cos(2.0 * M_PI * j / o->k);
		turn[j].im = sin(2.0 * M_PI * j / o->k);
		if (o->phase[j] <= 0)
			continue;
		total += o->phase[j];
		for (int m = 0; m < FEW_PURCHASES; m++)
			first[m] += o->phase[j] * exp(cdp_log_beta_inc((m + 1.0) * o->k - j, o->shape + j, t / (o->rate + t), o->rate / (o->rate + t)));
	}
	for (int i = 0; i < nodes->n; i++)
	{
		double		made = purchases_given_p(o, t, nodes->p[i], nodes->q[i], first, turn);

		*purchases += nodes->weight[i] * made;
		/* every purchase costs p of him */
		*alive += nodes->weight[i] * Max(0.0, total - nodes->p[i] * made);
	}
}

/* k = 1: the same, with 96 nodes where they follow. */
static void
integrate_purchases(const Outlook *o, double t, double *purchases, double *alive)
{
	double		tau = t / o->rate;
	const BetaNodes *nodes = cdp_beta_nodes(o->nodes, o->leave_b, o->shape * tau > JACOBI_STEEP || tau > JACOBI_NEAR);

	for (int i = 0; i < nodes->n; i++)
	{
		double		p = nodes->p[i];
		double		fall = -o->shape * log1p(p * tau);

		*purchases += nodes->weight[i] * (p * tau * Max(o->shape, 1.0) < 1e-17 ? o->shape * tau : -expm1(fall) / p);
		*alive += nodes->weight[i] * exp(fall);
	}
}

/* Of a customer who is alive: expected purchases in t, and the chance that he is alive then. */
static void
look_ahead(const Outlook *o, double t, double *purchases, double *alive)
{
	*purchases = *alive = 0;
	CHECK_FOR_INTERRUPTS();
	if (terms_needed(o, t) <= (o->k == 1 ? SUM_TERMS : SUM_TERMS_K))
	{
		for (int j = 0; j < o->k; j++)
		{
			double		made;
			double		stays;

			if (o->phase[j] <= 0)
				continue;
			sum_arrivals(o, j, t, &made, &stays);
			*purchases += o->phase[j] * made;
			*alive += o->phase[j] * stays;
		}
	}
	else if (o->k == 1)
		integrate_purchases(o, t, purchases, alive);
	else
		integrate_arrivals(o, t, purchases, alive);
}

/* Expected purchases in t of a customer who is alive. */
double
cdp_bg_purchases(const Outlook *o, double t)
{
	double		purchases;
	double		alive;

	if (t <= 0)
		return 0;
	look_ahead(o, t, &purchases, &alive);
	return purchases;
}

/* Probability that a customer who is alive is so t later. */
double
cdp_bg_alive(const Outlook *o, double t)
{
	double		purchases;
	double		alive;

	if (t <= 0)
		return 1;
	look_ahead(o, t, &purchases, &alive);
	return Min(alive, 1.0);
}
