/*
 * value_predict_beta.c
 *	  Expectations over Beta(a, b): two sets of nodes, kept per model.
 *
 * What a model of the BG family expects is an integral over the chance p to
 * leave.  The closed forms with 2F1 are 0/0 at a = 1 and lose all digits
 * near it; a sum of positive terms never does.
 *
 *	Gauss-Jacobi	96 nodes, exact for polynomials up to degree 191: right
 *					for integrands like (1 + p t/(alpha+T))^-(r+x) while
 *					(r+x) t/(alpha+T) is below some hundreds
 *	fine			the trapezoidal rule in u = ln(p/(1-p)), where Beta is a
 *					bell with exponential tails and even a step at
 *					p = 10^-9 is as wide as any other.  Its error falls like
 *					exp(-pi^2/step), 10^-17 at a quarter (Trefethen,
 *					Weideman 2014); tails beyond the ends are summed as the
 *					geometric series that they are
 *
 * a is a parameter of the model and b grows with x, so nodes are kept by b.
 *
 * SQL: none.  Tests: test/sql/value_predict.sql.
 */
#include "value_predict.h"

#include "common/hashfn.h"

#define FINE_STEP	0.25
#define FINE_LOW	(-90.0)		/* p = e^-90: no integrand changes below */
#define FINE_HIGH	90.0
#define FINE_DROP	42.0		/* e^-42 = 6e-19: the bell has ended */

/* The nodes of one model; a is the first parameter of its Beta. */
BetaCache *
cdp_beta_cache(double a, MemoryContext context)
{
	BetaCache  *cache = MemoryContextAllocZero(context, sizeof(BetaCache));

	cache->context = context;
	cache->a = a;
	return cache;
}

/* ln of the density of u = ln(p/(1-p)), without its constant. */
static double
logit_log_density(double a, double b, double u)
{
	return -a * log1p(exp(-u)) - b * log1p(exp(u));
}

/* Where the density has fallen by FINE_DROP on one side of the peak, or limit. */
static double
bell_end(double a, double b, double peak, double limit)
{
	double		goal = logit_log_density(a, b, peak) - FINE_DROP;
	double		near = peak;
	double		far = limit;

	if (logit_log_density(a, b, limit) > goal)
		return limit;
	for (int i = 0; i < 60 && fabs(far - near) > 0.01 * fabs(far - peak); i++)
	{
		double		middle = 0.5 * (near + far);

		if (logit_log_density(a, b, middle) > goal)
			near = middle;
		else
			far = middle;
	}
	return far;
}

/* Fill nodes by the trapezoidal rule in u. */
static BetaNodes *
make_fine(double a, double b, MemoryContext context)
{
	BetaNodes  *nodes = MemoryContextAlloc(context, sizeof(BetaNodes));
	double		peak = log(a / b);
	double		deviation = sqrt(1.0 / a + 1.0 / b);	/* of u, about */
	double		step = Min(FINE_STEP, deviation / 3.0);
	double		low;
	double		high;
	double		log_beta = cdp_log_beta(a, b);
	double		sum = 0.0;

	/* so narrow that it is a point */
	if (!(deviation > 1e-7))
	{
		nodes->n = 1;
		nodes->p = MemoryContextAlloc(context, 3 * sizeof(double));
		nodes->q = nodes->p + 1;
		nodes->weight = nodes->q + 1;
		nodes->p[0] = 1.0 / (1.0 + b / a);
		nodes->q[0] = 1.0 / (1.0 + a / b);
		nodes->weight[0] = 1.0;
		return nodes;
	}
	peak = Max(FINE_LOW + 1.0, Min(FINE_HIGH - 1.0, peak));
	low = bell_end(a, b, peak, FINE_LOW);
	high = bell_end(a, b, peak, FINE_HIGH);
	nodes->n = (int) ceil((high - low) / step) + 1;
	nodes->p = MemoryContextAlloc(context, 3 * nodes->n * sizeof(double));
	nodes->q = nodes->p + nodes->n;
	nodes->weight = nodes->q + nodes->n;
	for (int i = 0; i < nodes->n; i++)
	{
		double		u = low + i * step;
		double		weight = step * exp(logit_log_density(a, b, u) - log_beta);

		nodes->p[i] = 1.0 / (1.0 + exp(-u));
		nodes->q[i] = 1.0 / (1.0 + exp(u));
		/* beyond the ends the density is e^(au), e^(-bu) */
		if (i == 0 && low == FINE_LOW)
			weight *= 1.0 + 1.0 / expm1(a * step);
		if (i == nodes->n - 1 && high == FINE_HIGH)
			weight *= 1.0 + 1.0 / expm1(b * step);
		nodes->weight[i] = weight;
		sum += weight;
	}
	/* of a and b in the billions the density has lost digits, in all nodes alike: what is lost, is missing in the sum */
	for (int i = 0; i < nodes->n; i++)
		nodes->weight[i] /= sum;
	return nodes;
}

/* Fill nodes by Gauss and Jacobi; NULL: they were not found. */
static BetaNodes *
make_jacobi(double a, double b, MemoryContext context)
{
	BetaNodes  *nodes = MemoryContextAlloc(context, sizeof(BetaNodes));

	nodes->n = CDP_JACOBI_MAX;
	nodes->p = MemoryContextAlloc(context, 3 * nodes->n * sizeof(double));
	nodes->q = nodes->p + nodes->n;
	nodes->weight = nodes->q + nodes->n;
	if (!cdp_jacobi_nodes(a, b, nodes->n, nodes->p, nodes->weight))
		return NULL;
	for (int i = 0; i < nodes->n; i++)
	{
		nodes->q[i] = 1.0 - nodes->p[i];
		nodes->weight[i] = exp(nodes->weight[i]);
	}
	return nodes;
}

/* The nodes for Beta(a of the cache, b), made when they are first asked for. */
const BetaNodes *
cdp_beta_nodes(BetaCache *cache, double b, bool fine)
{
	uint64		bits;
	BetaNodes **slot;
	BetaNodes  *nodes = NULL;

	memcpy(&bits, &b, sizeof(bits));
	slot = (fine ? cache->fine : cache->jacobi) + (murmurhash32((uint32) (bits ^ (bits >> 32))) % BETA_SLOTS);
	if (*slot != NULL && (*slot)->b == b)
		return *slot;
	if (*slot != NULL)
	{
		pfree((*slot)->p);
		pfree(*slot);
		*slot = NULL;
	}
	if (!fine)
		nodes = make_jacobi(cache->a, b, cache->context);
	if (nodes == NULL)
		nodes = make_fine(cache->a, b, cache->context);
	nodes->b = b;
	*slot = nodes;
	return nodes;
}
