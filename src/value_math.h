/*
 * value_math.h
 *	  Special functions of the customer-value models.
 *
 * Everything is said in logarithms where a value can leave the range of
 * float8, and nothing here raises for an argument: a function outside its
 * domain answers NaN, and whoever calls has checked his data.
 */
#ifndef CDP_VALUE_MATH_H
#define CDP_VALUE_MATH_H

#include <math.h>

#define CDP_LN_2PI	1.83787706640934548356

/* ln Gamma(x) for x > 0, and its first and second derivative */
extern double cdp_log_gamma(double x);
extern double cdp_digamma(double x);
extern double cdp_trigamma(double x);

/* ln Gamma(a+n) - ln Gamma(a) for a > 0, n >= 0, without the cancellation of the two */
extern double cdp_log_rising(double a, double n);

/* ln B(a, b) for a, b > 0 */
extern double cdp_log_beta(double a, double b);

/* ln I_x(a, b), the regularised incomplete beta; y is 1 - x as exactly as the caller has it */
extern double cdp_log_beta_inc(double a, double b, double x, double y);

/* ln(e^a + e^b) */
static inline double
cdp_log_add(double a, double b)
{
	double		larger = a > b ? a : b;

	if (isinf(larger))
		return larger;
	return larger + log1p(exp((a > b ? b : a) - larger));
}

/* ln(1 - e^a) for a <= 0 */
static inline double
cdp_log1mexp(double a)
{
	return a > -M_LN2 ? log(-expm1(a)) : log1p(-exp(a));
}

/* ln of the sum of e^v over n values */
extern double cdp_log_sum(const double *v, int n);

/*
 * Gauss-Legendre, 16 nodes of [-1, 1]: node i < 8 is legendre_x[i] and has a
 * mirror image with the same weight.
 */
#define CDP_LEGENDRE_HALF	8
extern const double cdp_legendre_x[CDP_LEGENDRE_HALF];
extern const double cdp_legendre_w[CDP_LEGENDRE_HALF];

/*
 * Gauss-Jacobi: nodes p of (0, 1) and the logarithms of weights such that the
 * expectation of f over Beta(a, b) is the sum of exp(log_w[i]) * f(p[i]); n
 * up to CDP_JACOBI_MAX.  False: the iteration did not end.
 */
#define CDP_JACOBI_MAX	96
extern bool cdp_jacobi_nodes(double a, double b, int n, double *p, double *log_w);

#endif							/* CDP_VALUE_MATH_H */
