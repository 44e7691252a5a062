/*
 * value_math.c
 *	  Special functions of the customer-value models.
 *
 * The C library's lgamma() keeps a sign in a global variable and has no
 * digamma beside it, so the family is written here from one idea: shift the
 * argument up to 10 by the recurrence, where eight terms of Stirling's
 * series are exact to the last bit.  The differences that the models are
 * made of, ln Gamma(a+n) - ln Gamma(a) and ln B(a, b), are taken between
 * the series and not between their sums: at a = 10^9 the naive way has lost
 * nine digits.
 *
 *		cdp_log_rising(1e9, 3)  =  ln(1e9) + ln(1e9 + 1) + ln(1e9 + 2)
 *
 * Sources: Abramowitz, Stegun 1964, chapters 6 and 25-26; Didonato, Morris
 * 1992 (ln B for large arguments); Lentz 1976 (continued fractions); Golub,
 * Welsch 1969 (quadrature from a three-term recurrence).
 *
 * SQL: cdp._value_math (for tests).  Tests: test/sql/value_math.sql.
 */
#include "cdp.h"

#include "utils/array.h"
#include "utils/builtins.h"

#include "value_math.h"

PG_FUNCTION_INFO_V1(cdp_value_math);

#define STIRLING_FROM	10.0	/* from here on eight terms of the series are enough */

const double cdp_legendre_x[CDP_LEGENDRE_HALF] = {
	0.98940093499164993851, 0.94457502307323260027, 0.86563120238783175520, 0.75540440835500299865,
	0.61787624440264377057, 0.45801677765722736968, 0.28160355077925891543, 0.09501250983763744051
};
const double cdp_legendre_w[CDP_LEGENDRE_HALF] = {
	0.02715245941175409641, 0.06225352393864789363, 0.09515851168249278569, 0.12462897125553387689,
	0.14959598881657673597, 0.16915651939500253587, 0.18260341504492358378, 0.18945061045506850217
};

/* What Stirling's formula lacks: ln Gamma(x) - (x - 1/2) ln x + x - ln(2 pi)/2, for x >= 10. */
static double
stirling_rest(double x)
{
	double		z = 1.0 / x;
	double		zz = z * z;

	return z * (1.0 / 12 + zz * (-1.0 / 360 + zz * (1.0 / 1260 + zz * (-1.0 / 1680 +
				zz * (1.0 / 1188 + zz * (-691.0 / 360360 + zz * (1.0 / 156 - zz * (3617.0 / 122400))))))));
}

/* ln Gamma(x), x > 0. */
double
cdp_log_gamma(double x)
{
	double		product = 1.0;

	if (!(x > 0))
		return NAN;
	if (isinf(x))
		return x;
	while (x < STIRLING_FROM)
	{
		product *= x;
		x += 1.0;
	}
	return (x - 0.5) * log(x) - x + 0.5 * CDP_LN_2PI + stirling_rest(x) - (product == 1.0 ? 0.0 : log(product));
}

/* Derivative of ln Gamma. */
double
cdp_digamma(double x)
{
	double		shifted = 0.0;
	double		z;
	double		zz;

	if (!(x > 0))
		return NAN;
	while (x < STIRLING_FROM)
	{
		shifted += 1.0 / x;
		x += 1.0;
	}
	z = 1.0 / x;
	zz = z * z;
	return log(x) - 0.5 * z - shifted -
		zz * (1.0 / 12 - zz * (1.0 / 120 - zz * (1.0 / 252 - zz * (1.0 / 240 -
			  zz * (1.0 / 132 - zz * (691.0 / 32760 - zz * (1.0 / 12 - zz * (3617.0 / 8160))))))));
}

/* Second derivative of ln Gamma. */
double
cdp_trigamma(double x)
{
	double		shifted = 0.0;
	double		z;
	double		zz;

	if (!(x > 0))
		return NAN;
	while (x < STIRLING_FROM)
	{
		shifted += 1.0 / (x * x);
		x += 1.0;
	}
	z = 1.0 / x;
	zz = z * z;
	return shifted + z * (1.0 + z * 0.5 +
						  zz * (1.0 / 6 - zz * (1.0 / 30 - zz * (1.0 / 42 - zz * (1.0 / 30 -
								zz * (5.0 / 66 - zz * (691.0 / 2730 - zz * (7.0 / 6))))))));
}

/* ln Gamma(a+n) - ln Gamma(a). */
double
cdp_log_rising(double a, double n)
{
	if (!(a > 0) || !(n >= 0))
		return NAN;
	/* few whole steps: the product itself */
	if (n <= 12 && a < 1e20 && n == floor(n))
	{
		double		product = 1.0;

		for (int i = 0; i < (int) n; i++)
			product *= a + i;
		return product == 1.0 ? 0.0 : log(product);
	}
	if (a < STIRLING_FROM)
		return cdp_log_gamma(a + n) - cdp_log_gamma(a);
	return (a - 0.5) * log1p(n / a) + n * (log(a + n) - 1.0) + stirling_rest(a + n) - stirling_rest(a);
}

/* ln B(a, b). */
double
cdp_log_beta(double a, double b)
{
	double		small = a < b ? a : b;
	double		large = a < b ? b : a;
	double		ratio;

	if (!(small > 0))
		return NAN;
	if (large < STIRLING_FROM)
		return cdp_log_gamma(a) + cdp_log_gamma(b) - cdp_log_gamma(a + b);
	if (small < STIRLING_FROM)
		return cdp_log_gamma(small) - cdp_log_rising(large, small);
	ratio = small / large;
	return 0.5 * (CDP_LN_2PI - log(large)) + (small - 0.5) * log(ratio / (1.0 + ratio)) - large * log1p(ratio) +
		stirling_rest(small) + stirling_rest(large) - stirling_rest(small + large);
}

/* ln of the sum of e^v. */
double
cdp_log_sum(const double *v, int n)
{
	double		largest = -INFINITY;
	double		sum = 0.0;

	for (int i = 0; i < n; i++)
		if (v[i] > largest)
			largest = v[i];
	if (isinf(largest))
		return largest;
	for (int i = 0; i < n; i++)
		sum += exp(v[i] - largest);
	return largest + log(sum);
}

/*
 * The continued fraction of I_x(a, b) (Abramowitz, Stegun 26.5.8) by Lentz's
 * method; it needs about the square root of max(a, b) steps where it is used,
 * at x below the mean.
 */
static double
beta_fraction(double a, double b, double x)
{
	const double tiny = 1e-300;
	double		c = 1.0;
	double		d = 1.0 - (a + b) * x / (a + 1.0);
	double		h;

	d = 1.0 / (fabs(d) < tiny ? tiny : d);
	h = d;
	for (int m = 1; m <= 20000; m++)
	{
		double		even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
		double		odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
		double		step;

		d = 1.0 + even * d;
		c = 1.0 + even / c;
		d = 1.0 / (fabs(d) < tiny ? tiny : d);
		if (fabs(c) < tiny)
			c = tiny;
		h *= d * c;
		d = 1.0 + odd * d;
		c = 1.0 + odd / c;
		d = 1.0 / (fabs(d) < tiny ? tiny : d);
		if (fabs(c) < tiny)
			c = tiny;
		step = d * c;
		h *= step;
		/* to the last bit but one; or NaN */
		if (!(fabs(step - 1.0) > 3e-16))
			break;
	}
	return h;
}

/* ln I_x(a, b); the tail that is small is computed, the other is one minus it. */
double
cdp_log_beta_inc(double a, double b, double x, double y)
{
	double		front;

	if (!(a > 0) || !(b > 0) || !(x >= 0) || !(y >= 0))
		return NAN;
	if (x == 0)
		return -INFINITY;
	if (y == 0)
		return 0.0;
	front = a * log(x < 0.5 ? x : 1.0) + b * log(y < 0.5 ? y : 1.0) +
		(x < 0.5 ? 0.0 : a * log1p(-y)) + (y < 0.5 ? 0.0 : b * log1p(-x)) - cdp_log_beta(a, b);
	if (x < (a + 1.0) / (a + b + 2.0))
		return front - log(a) + log(beta_fraction(a, b, x));
	front += log(beta_fraction(b, a, y)) - log(b);
	return front >= 0 ? -INFINITY : cdp_log1mexp(front);
}

/*
 * The eigenvalues of a symmetric tridiagonal matrix by the implicit QL
 * method: d diagonal, e[i] beside it between i and i+1; both are consumed.
 */
static bool
tridiagonal_eigenvalues(double *d, double *e, int n)
{
	e[n - 1] = 0.0;
	for (int l = 0; l < n; l++)
	{
		for (int turn = 0;; turn++)
		{
			int			m;
			int			i;
			double		g;
			double		r;
			double		s = 1.0;
			double		c = 1.0;
			double		p = 0.0;

			for (m = l; m < n - 1; m++)
				if (fabs(e[m]) <= 1e-17 * (fabs(d[m]) + fabs(d[m + 1])))
					break;
			if (m == l)
				break;
			if (turn == 60)
				return false;
			g = (d[l + 1] - d[l]) / (2.0 * e[l]);
			r = hypot(g, 1.0);
			g = d[m] - d[l] + e[l] / (g + copysign(r, g));
			for (i = m - 1; i >= l; i--)
			{
				double		f = s * e[i];
				double		b = c * e[i];

				e[i + 1] = r = hypot(f, g);
				if (r == 0.0)
				{
					d[i + 1] -= p;
					e[m] = 0.0;
					break;
				}
				s = f / r;
				c = g / r;
				g = d[i + 1] - p;
				r = (d[i] - g) * s + 2.0 * c * b;
				p = s * r;
				d[i + 1] = g + p;
				g = c * r - b;
			}
			if (r == 0.0 && i >= l)
				continue;
			d[l] -= p;
			e[l] = g;
			e[m] = 0.0;
		}
	}
	return true;
}

/*
 * Nodes and weights for an expectation over Beta(a, b).  The nodes are the
 * eigenvalues of the recurrence of the Jacobi polynomials on (0, 1).  A
 * weight is one over the sum of squares of the orthonormal polynomials at
 * its node: only positive terms, so that a weight of 10^-200 is as exact as
 * one of 10^-2; the sum is kept in range by a power of two that is carried
 * beside it.
 */
bool
cdp_jacobi_nodes(double a, double b, int n, double *p, double *log_w)
{
	double		diagonal[CDP_JACOBI_MAX];
	double		beside[CDP_JACOBI_MAX + 1];
	double		work[CDP_JACOBI_MAX + 1];
	double		c = a + b;

	Assert(n >= 1 && n <= CDP_JACOBI_MAX);
	diagonal[0] = a / c;
	for (int k = 1; k < n; k++)
		diagonal[k] = (2.0 * k * (k + c - 1.0) + a * (c - 2.0)) / ((2.0 * k + c - 2.0) * (2.0 * k + c));
	/* beside[k] lies between k-1 and k; in that of 1 a factor (c-1)/(c-1) is left out, which may be 0/0 */
	beside[1] = sqrt(a * b / (c * c * (c + 1.0)));
	for (int k = 2; k <= n; k++)
		beside[k] = sqrt(k * (k + b - 1.0) * (k + a - 1.0) * (k + c - 2.0) / ((2.0 * k + c - 1.0) * (2.0 * k + c - 3.0))) /
			(2.0 * k + c - 2.0);

	memcpy(p, diagonal, n * sizeof(double));
	memcpy(work, beside + 1, n * sizeof(double));
	if (!tridiagonal_eigenvalues(p, work, n))
		return false;
	for (int i = 0; i < n; i++)
	{
		double		before = 0.0;
		double		at = 1.0;
		double		sum = 1.0;
		double		log_scale = 0.0;

		/* rounding must not carry a node out of the interval */
		if (p[i] < 0.0)
			p[i] = 0.0;
		if (p[i] > 1.0)
			p[i] = 1.0;
		for (int k = 1; k < n; k++)
		{
			double		next = ((p[i] - diagonal[k - 1]) * at - (k > 1 ? beside[k - 1] * before : 0.0)) / beside[k];

			before = at;
			at = next;
			sum += at * at;
			if (sum > 0x1p+400)
			{
				before *= 0x1p-200;
				at *= 0x1p-200;
				sum *= 0x1p-400;
				log_scale += 400 * M_LN2;
			}
		}
		log_w[i] = -(log(sum) + log_scale);
	}
	return true;
}

/*
 * _value_math(function, VARIADIC arguments): the functions above by name, for
 * tests.  "jacobi" a, b, n, k is the k-th moment of Beta(a, b) by n nodes,
 * "legendre" k the integral of y^k from -1 to 1.
 */
Datum
cdp_value_math(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(1);
	const double *v = (const double *) ARR_DATA_PTR(array);
	int			n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	double		result = 0.0;

	if (ARR_HASNULL(array))
		PG_RETURN_NULL();
	if (strcmp(name, "log_gamma") == 0 && n == 1)
		result = cdp_log_gamma(v[0]);
	else if (strcmp(name, "digamma") == 0 && n == 1)
		result = cdp_digamma(v[0]);
	else if (strcmp(name, "trigamma") == 0 && n == 1)
		result = cdp_trigamma(v[0]);
	else if (strcmp(name, "log_rising") == 0 && n == 2)
		result = cdp_log_rising(v[0], v[1]);
	else if (strcmp(name, "log_beta") == 0 && n == 2)
		result = cdp_log_beta(v[0], v[1]);
	else if (strcmp(name, "log_beta_inc") == 0 && n == 3)
		result = cdp_log_beta_inc(v[0], v[1], v[2], 1.0 - v[2]);
	else if (strcmp(name, "log_add") == 0 && n == 2)
		result = cdp_log_add(v[0], v[1]);
	else if (strcmp(name, "log_sum") == 0)
		result = cdp_log_sum(v, n);
	else if (strcmp(name, "log1mexp") == 0 && n == 1)
		result = cdp_log1mexp(v[0]);
	else if (strcmp(name, "legendre") == 0 && n == 1)
	{
		for (int i = 0; i < CDP_LEGENDRE_HALF; i++)
			result += cdp_legendre_w[i] * (pow(cdp_legendre_x[i], v[0]) + pow(-cdp_legendre_x[i], v[0]));
	}
	else if (strcmp(name, "jacobi") == 0 && n == 4 && v[0] > 0 && v[1] > 0 && v[0] < 1e12 && v[1] < 1e12 &&
			 v[2] >= 1 && v[2] <= CDP_JACOBI_MAX)
	{
		double		p[CDP_JACOBI_MAX] = {0};
		double		log_w[CDP_JACOBI_MAX] = {0};

		if (!cdp_jacobi_nodes(v[0], v[1], (int) v[2], p, log_w))
			PG_RETURN_FLOAT8(NAN);
		for (int i = 0; i < (int) v[2]; i++)
			result += exp(log_w[i]) * pow(p[i], v[3]);
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no function \"%s\" of %d arguments", name, n),
				 errhint("The names and the number of their arguments stand in src/value_math.c.")));
	PG_RETURN_FLOAT8(result);
}
