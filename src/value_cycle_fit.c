/*
 * value_cycle_fit.c
 *	  The fit of gaps between purchases: gap ~ Gamma(k, rate of the customer),
 *	  rate ~ Gamma(r, alpha); see value_cycle.c for what they are good for.
 *
 * The fit needs three numbers per customer: n, S and the sum of ln(gap).
 *
 *		ln L = r ln alpha - lnG(r) + lnG(r + k n) - n lnG(k)
 *			   + (k - 1) * sum ln(gap) - (r + k n) ln(alpha + S)
 *
 * Terms of n alone are a histogram, so one evaluation of value, gradient and
 * Hessian costs one logarithm per customer, and Newton's method needs about
 * ten.  A category that has few gaps says little about k and r; a weak prior
 * on their logarithms, worth about two gaps, keeps them where gaps of shops
 * usually are, and is outweighed by any real amount of data.
 *
 * SQL: sql/value_cycle.sql.  Page: doc/value_cycle.md.  Tests:
 * test/sql/value_cycle.sql, test/pgtap/value_cycle.sql.
 */
#include "cdp.h"
#include "value_math.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_fit_cycle);

typedef struct CycleCustomer
{
	double		n;				/* gaps */
	double		sum;			/* of the gaps */
	double		logs;			/* sum of ln(gap) */
} CycleCustomer;

/* customers with the same n; the part of the likelihood that no sum changes */
typedef struct CycleClass
{
	double		n;
	double		customers;
} CycleClass;

typedef struct CycleData
{
	CycleCustomer *customer;	/* by n, sum, logs: results do not depend on the order of the rows */
	int			ncustomers;
	CycleClass *class;
	int			nclasses;
	double		gaps;			/* sum of n */
	double		logs;			/* sum of logs */
} CycleData;

/* parameters on the log scale: ln k, ln r, ln alpha */
#define NPARAMS		3

typedef struct CyclePoint
{
	double		theta[NPARAMS];
	double		value;			/* ln L plus the prior */
	double		noise;			/* what rounding may have done to it: it is a small difference of large terms */
	double		gradient[NPARAMS];
	double		hessian[NPARAMS][NPARAMS];
} CyclePoint;

/* the prior of ln k and ln r: center and standard deviation; ln alpha has none */
static const double prior_center[NPARAMS] = {0.6931471805599453, 1.0986122886681098, 0};	/* k = 2, r = 3 */
static const double prior_sd[NPARAMS] = {1.0, 1.5, HUGE_VAL};

/* whole days cannot tell more regular gaps apart than k = 1000; in units of the mean gap, alpha goes with r / k */
static const double theta_min[NPARAMS] = {-4, -4, -30};
static const double theta_max[NPARAMS] = {6.907755278982137, 9.210340371976184, 30};

#define MAX_ITERATIONS	200

/* value, gradient and Hessian by k, r, alpha, then by their logarithms */
static void
evaluate(const CycleData *data, CyclePoint *p)
{
	double		k = exp(p->theta[0]),
				r = exp(p->theta[1]),
				alpha = exp(p->theta[2]);
	double		par[NPARAMS] = {k, r, alpha};
	double		d[NPARAMS];
	double		log_sum = 0,	/* sums over customers of ln(alpha+S), n ln(alpha+S), 1/(alpha+S) ... */
				n_log_sum = 0,
				inv = 0,
				n_inv = 0,
				inv2 = 0,
				n_inv2 = 0;
	double		value,
				size,
				dk,
				dr,
				da,
				kk,
				kr,
				rr;

	for (int i = 0; i < data->ncustomers; i++)
	{
		double		n = data->customer[i].n;
		double		a = alpha + data->customer[i].sum;
		double		l = log(a);
		double		v = 1 / a;

		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
		log_sum += l;
		n_log_sum += n * l;
		inv += v;
		n_inv += n * v;
		inv2 += v * v;
		n_inv2 += n * v * v;
	}

	value = -data->gaps * cdp_log_gamma(k) + (k - 1) * data->logs
		+ data->ncustomers * r * p->theta[2] - r * log_sum - k * n_log_sum;
	size = data->gaps * fabs(cdp_log_gamma(k)) + fabs((k - 1) * data->logs)
		+ data->ncustomers * fabs(r * p->theta[2]) + fabs(r * log_sum) + fabs(k * n_log_sum);
	dk = -data->gaps * cdp_digamma(k) + data->logs - n_log_sum;
	dr = data->ncustomers * p->theta[2] - log_sum;
	da = data->ncustomers * r / alpha - r * inv - k * n_inv;
	kk = -data->gaps * cdp_trigamma(k);
	kr = 0;
	rr = 0;
	for (int i = 0; i < data->nclasses; i++)
	{
		double		n = data->class[i].n;
		double		c = data->class[i].customers;
		double		digamma = cdp_digamma(r + k * n);
		double		trigamma = cdp_trigamma(r + k * n);
		double		rising = c * cdp_log_rising(r, k * n);

		value += rising;
		size += fabs(rising);
		dk += c * n * digamma;
		dr += c * (digamma - cdp_digamma(r));
		kk += c * n * n * trigamma;
		kr += c * n * trigamma;
		rr += c * (trigamma - cdp_trigamma(r));
	}
	d[0] = dk;
	d[1] = dr;
	d[2] = da;
	p->hessian[0][0] = kk;
	p->hessian[0][1] = p->hessian[1][0] = kr;
	p->hessian[0][2] = p->hessian[2][0] = -n_inv;
	p->hessian[1][1] = rr;
	p->hessian[1][2] = p->hessian[2][1] = data->ncustomers / alpha - inv;
	p->hessian[2][2] = -data->ncustomers * r / (alpha * alpha) + r * inv2 + k * n_inv2;

	for (int i = 0; i < NPARAMS; i++)
	{
		double		away = (p->theta[i] - prior_center[i]) / prior_sd[i];

		for (int j = 0; j < NPARAMS; j++)
			p->hessian[i][j] *= par[i] * par[j];
		p->gradient[i] = par[i] * d[i];
		p->hessian[i][i] += p->gradient[i];
		value -= away * away / 2;
		p->gradient[i] -= away / prior_sd[i];
		p->hessian[i][i] -= 1 / (prior_sd[i] * prior_sd[i]);
	}
	p->value = value;
	p->noise = 2e-15 * size;
}

/* solve a * x = b for a symmetric positive definite a (Cholesky); false when it is not */
static bool
solve(double a[NPARAMS][NPARAMS], const double *b, double *x)
{
	double		l[NPARAMS][NPARAMS] = {{0}};
	double		y[NPARAMS];

	for (int i = 0; i < NPARAMS; i++)
	{
		for (int j = 0; j <= i; j++)
		{
			double		s = a[i][j];

			for (int m = 0; m < j; m++)
				s -= l[i][m] * l[j][m];
			if (i != j)
				l[i][j] = s / l[j][j];
			else if (s > 0 && isfinite(s))
				l[i][i] = sqrt(s);
			else
				return false;
		}
	}
	for (int i = 0; i < NPARAMS; i++)
	{
		y[i] = b[i];
		for (int j = 0; j < i; j++)
			y[i] -= l[i][j] * y[j];
		y[i] /= l[i][i];
	}
	for (int i = NPARAMS - 1; i >= 0; i--)
	{
		x[i] = y[i];
		for (int j = i + 1; j < NPARAMS; j++)
			x[i] -= l[j][i] * x[j];
		x[i] /= l[i][i];
	}
	return true;
}

/* is this parameter at a bound that the gradient would leave */
static bool
is_held(const CyclePoint *p, int i)
{
	return (p->theta[i] <= theta_min[i] && p->gradient[i] < 0) || (p->theta[i] >= theta_max[i] && p->gradient[i] > 0);
}

/*
 * Newton's method, damped (Levenberg, Marquardt) where the surface is not a
 * hill, within the bounds.  True when nothing is left to gain.
 */
static bool
maximize(const CycleData *data, CyclePoint *best)
{
	double		damping = 0;

	evaluate(data, best);
	for (int iteration = 0; iteration < MAX_ITERATIONS; iteration++)
	{
		CyclePoint	next = *best;
		double		a[NPARAMS][NPARAMS],
					step[NPARAMS],
					g[NPARAMS],
					gain = 0;

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < NPARAMS; i++)
		{
			bool		held = is_held(best, i);

			g[i] = held ? 0 : best->gradient[i];
			for (int j = 0; j < NPARAMS; j++)
				a[i][j] = held || is_held(best, j) ? 0 : -best->hessian[i][j];
			a[i][i] = held ? 1 : a[i][i] + damping * (fabs(a[i][i]) + 1e-6 * data->ncustomers);
		}
		if (!solve(a, g, step))
		{
			damping = Max(damping * 4, 1e-3);
			continue;
		}
		for (int i = 0; i < NPARAMS; i++)
		{
			next.theta[i] = Min(Max(best->theta[i] + Min(Max(step[i], -2), 2), theta_min[i]), theta_max[i]);
			gain += g[i] * step[i] / 2;
		}
		evaluate(data, &next);
		/* what is left to gain cannot be told from rounding; the last step brings all digits there are */
		if (damping == 0 && gain <= best->noise)
		{
			if (next.value >= best->value - best->noise)
				*best = next;
			return true;
		}
		if (next.value >= best->value - best->noise && isfinite(next.value))
		{
			*best = next;
			damping = damping > 1e-3 ? damping / 8 : 0;
		}
		else if (damping > 1e12)
			return false;
		else
			damping = Max(damping * 4, 1e-3);
	}
	return false;
}

static int
compare_customers(const void *a, const void *b)
{
	const CycleCustomer *x = a,
			   *y = b;

	CHECK_FOR_INTERRUPTS();
	if (x->n != y->n)
		return x->n < y->n ? -1 : 1;
	if (x->sum != y->sum)
		return x->sum < y->sum ? -1 : 1;
	return (x->logs > y->logs) - (x->logs < y->logs);
}

/* the values of a float8[] of one dimension without NULL; 22023 for any other */
static double *
read_numbers(ArrayType *array, int *n)
{
	if (ARR_NDIM(array) > 1 || array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an array must have one dimension and no NULL"),
				 errhint("Make it with array_agg() over rows without NULL.")));
	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	return (double *) ARR_DATA_PTR(array);
}

/* the arrays, checked, with gaps in units of their mean, which is answered */
static double
read_customers(FunctionCallInfo fcinfo, CycleData *data)
{
	int			n,
				n1,
				n2;
	double	   *gaps = read_numbers(PG_GETARG_ARRAYTYPE_P(0), &n);
	double	   *sums = read_numbers(PG_GETARG_ARRAYTYPE_P(1), &n1);
	double	   *logs = read_numbers(PG_GETARG_ARRAYTYPE_P(2), &n2);
	double		total = 0,
				scale;

	if (n1 != n || n2 != n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the arrays have different lengths"),
				 errhint("Each customer is one element of all three.")));
	memset(data, 0, sizeof(*data));
	if (n == 0)
		return 0;
	data->customer = MemoryContextAllocHuge(CurrentMemoryContext, (Size) n * sizeof(CycleCustomer));
	data->class = palloc(sizeof(CycleClass) * Min(n, 1024));
	for (int i = 0; i < n; i++)
	{
		/* the mean of the logarithms is at most the logarithm of the mean */
		if (!(gaps[i] >= 1 && gaps[i] <= 1e9 && floor(gaps[i]) == gaps[i]) || !(sums[i] >= 1e-100 && sums[i] <= 1e100) ||
			!(logs[i] >= gaps[i] * -1000 && logs[i] <= gaps[i] * log(sums[i] / gaps[i]) + 1e-9 * gaps[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a customer has impossible gaps"),
					 errhint("Give the number of gaps, 1 or more, their sum, and the sum of their logarithms.")));
		data->customer[i].n = gaps[i];
		data->customer[i].sum = sums[i];
		data->customer[i].logs = logs[i];
	}
	qsort(data->customer, n, sizeof(CycleCustomer), compare_customers);
	data->ncustomers = n;
	for (int i = 0; i < n; i++)
	{
		data->gaps += data->customer[i].n;
		total += data->customer[i].sum;
	}
	scale = total / data->gaps;
	for (int i = 0; i < n; i++)
	{
		CycleCustomer *c = &data->customer[i];

		c->sum /= scale;
		data->logs += c->logs - c->n * log(scale);
		if (data->nclasses == 0 || data->class[data->nclasses - 1].n != c->n)
		{
			if (data->nclasses >= 1024 && (data->nclasses & (data->nclasses - 1)) == 0)
				data->class = repalloc_huge(data->class, sizeof(CycleClass) * 2 * data->nclasses);
			data->class[data->nclasses].n = c->n;
			data->class[data->nclasses++].customers = 0;
		}
		data->class[data->nclasses - 1].customers++;
	}
	return scale;
}

/* _fit_cycle(gaps, sums, logs) -> k, r, alpha, customers, gaps, log_likelihood, converged, boundary */
Datum
cdp_fit_cycle(PG_FUNCTION_ARGS)
{
	CycleData	data;
	CyclePoint	p;
	double		scale = read_customers(fcinfo, &data);
	TupleDesc	desc;
	Datum		values[8];
	bool		nulls[8] = {false};
	double		log_likelihood;
	bool		converged,
				boundary = false;

	if (data.ncustomers == 0)
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	p.theta[0] = prior_center[0];
	p.theta[1] = prior_center[1];
	/* such that the mean gap, k alpha / (r - 1) ... 1 in our unit, is what was seen */
	p.theta[2] = log((exp(p.theta[1]) - 1) / exp(p.theta[0]));
	converged = maximize(&data, &p);
	log_likelihood = p.value - data.gaps * log(scale);
	for (int i = 0; i < 2; i++)
	{
		double		away = (p.theta[i] - prior_center[i]) / prior_sd[i];

		log_likelihood += away * away / 2;
		boundary = boundary || p.theta[i] <= theta_min[i] || p.theta[i] >= theta_max[i];
	}
	values[0] = Float8GetDatum(exp(p.theta[0]));
	values[1] = Float8GetDatum(exp(p.theta[1]));
	values[2] = Float8GetDatum(exp(p.theta[2]) * scale);
	values[3] = Int64GetDatum(data.ncustomers);
	values[4] = Int64GetDatum((int64) data.gaps);
	values[5] = Float8GetDatum(log_likelihood);
	values[6] = BoolGetDatum(converged);
	values[7] = BoolGetDatum(boundary);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
