/*
 * value_simulate.c
 *	  Customers drawn from a model: the same seed, the same customers.
 *
 *		SELECT cdp.fit_bgnbd(x, t_x, t_cal)
 *		FROM cdp.simulate_purchases(cdp.bgnbd_model(0.24, 4.4, 0.8, 2.4), 100000, 39, seed => 1)
 *
 * Customer i of a seed has a generator of his own (PostgreSQL's xoroshiro,
 * seeded by the pair), so he is the same whether he is one of ten or of a
 * million.  He is the same on every machine, too: the sampler takes its
 * logarithms from the four operations of IEEE 754 and a square root, which
 * have one right answer, and the Makefile forbids the compiler to fuse a
 * product and a sum.
 *
 * Gamma variates: Marsaglia, Tsang 2000; below shape 1 by the power of one
 * more uniform, on the log scale, as shapes near 0 give rates near 0.
 * Normal variates: Marsaglia, Bray 1964.  Beta: the ratio of two gammas.
 *
 * SQL: sql/value_predict.sql.  Tests: test/sql/value_simulate.sql.
 */
#include "value_predict.h"

#include <float.h>

#include "common/pg_prng.h"
#include "funcapi.h"
#include "miscadmin.h"

PG_FUNCTION_INFO_V1(cdp_simulate_purchases);

#define MAX_PURCHASES	1000000 /* of one customer */
#define MAX_CUSTOMERS	100000000

/* What the rows have in common. */
typedef struct Simulation
{
	ValueModel *model;
	double		t_cal;
	uint32		seed;
} Simulation;

/* ln x, x a positive normal number: 2 artanh((m-1)/(m+1)) with m in [0.7, 1.4], error below 2 ulp. */
static double
portable_log(double x)
{
	int			exponent;
	double		m = frexp(x, &exponent);
	double		s;
	double		ss;
	double		sum = 0;

	if (m < M_SQRT1_2)
	{
		m *= 2.0;
		exponent--;
	}
	s = (m - 1.0) / (m + 1.0);
	ss = s * s;
	for (int i = 23; i >= 3; i -= 2)
		sum = (sum + 1.0 / i) * ss;
	return exponent * M_LN2 + 2.0 * s * (1.0 + sum);
}

/* e^x by Taylor's series of the rest modulo ln 2; 0 or infinity beyond the range. */
static double
portable_exp(double x)
{
	double		n = floor(x / M_LN2 + 0.5);
	double		rest = x - n * M_LN2;
	double		sum = 1.0;

	if (x > 709)
		return INFINITY;
	if (x < -708)
		return 0;
	for (int i = 17; i >= 1; i--)
		sum = 1.0 + sum * rest / i;
	return ldexp(sum, (int) n);
}

/* A number in (0, 1), never an end of it. */
static double
uniform(pg_prng_state *prng)
{
	return ((double) (pg_prng_uint64(prng) >> 12) + 0.5) * 0x1p-52;
}

static double
normal(pg_prng_state *prng)
{
	double		u;
	double		v;
	double		s;

	do
	{
		u = 2.0 * uniform(prng) - 1.0;
		v = 2.0 * uniform(prng) - 1.0;
		s = u * u + v * v;
	} while (s >= 1.0 || s == 0.0);
	return u * sqrt(-2.0 * portable_log(s) / s);
}

/* ln of a variate of Gamma(shape, 1). */
static double
log_gamma_variate(pg_prng_state *prng, double shape)
{
	double		d = (shape < 1.0 ? shape + 1.0 : shape) - 1.0 / 3.0;
	double		c = 1.0 / sqrt(9.0 * d);
	double		boost = shape < 1.0 ? portable_log(uniform(prng)) / shape : 0;

	for (;;)
	{
		double		z = normal(prng);
		double		v = 1.0 + c * z;

		if (v <= 0)
			continue;
		v = v * v * v;
		if (portable_log(uniform(prng)) < 0.5 * z * z + d - d * v + d * portable_log(v))
			return portable_log(d * v) + boost;
	}
}

/* Time between two purchases: k exponentials of rate 1. */
static double
gap_variate(pg_prng_state *prng, int k)
{
	double		product = 1.0;

	if (k > 8)
		return portable_exp(log_gamma_variate(prng, k));
	for (int i = 0; i < k; i++)
		product *= uniform(prng);
	return -portable_log(product);
}

/* One customer: his rate, his way to leave, his purchases until t_cal. */
static HeapTuple
simulate_customer(const Simulation *sim, uint32 number, TupleDesc desc)
{
	const ValueModel *m = sim->model;
	const double *v = m->parameters.par;
	pg_prng_state prng;
	double		rate;
	double		leaves = 0;		/* with this probability after a purchase, */
	double		until = INFINITY;	/* or at this time */
	double		t = 0;
	double		t_x = 0;
	double		log_gaps = 0;
	int			x = 0;
	bool		alive = true;
	Datum		values[6];
	bool		nulls[6] = {false, false, false, false, false, false};

	pg_prng_seed(&prng, ((uint64) sim->seed << 32) | number);
	rate = portable_exp(log_gamma_variate(&prng, v[0]) - portable_log(v[1]));
	if (m->kind == MODEL_PARETONBD)
	{
		double		log_mu = log_gamma_variate(&prng, v[2]) - portable_log(v[3]);

		until = gap_variate(&prng, 1) * portable_exp(-log_mu);
	}
	else
	{
		double		odds = log_gamma_variate(&prng, v[2]) - log_gamma_variate(&prng, v[3]);

		leaves = 1.0 / (1.0 + portable_exp(-odds));
		if (m->kind != MODEL_BGNBD)
			alive = uniform(&prng) >= leaves;
	}
	while (alive && rate > 0)
	{
		double		gap = gap_variate(&prng, m->parameters.k) / rate;

		t += gap;
		if (!(t <= sim->t_cal && t <= until))
			break;
		if (x == MAX_PURCHASES)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("a simulated customer makes more than %d purchases", MAX_PURCHASES),
					 errhint("Give a shorter t_cal, in the units of the model, or a model with a larger alpha.")));
		if (x % 4096 == 0)
			CHECK_FOR_INTERRUPTS();
		x++;
		t_x = t;
		/* two purchases at one instant are one that the clock cannot tell apart */
		log_gaps += portable_log(Max(gap, DBL_MIN));
		if (leaves > 0)
			alive = uniform(&prng) >= leaves;
	}
	if (until < sim->t_cal)
		alive = false;
	values[0] = Int32GetDatum((int32) number);
	values[1] = Int32GetDatum(x);
	values[2] = Float8GetDatum(t_x);
	values[3] = Float8GetDatum(sim->t_cal);
	values[4] = Float8GetDatum(log_gaps);
	values[5] = BoolGetDatum(alive);
	return heap_form_tuple(desc, values, nulls);
}

/* simulate_purchases(model, customers, t_cal, seed), a row at a time */
Datum
cdp_simulate_purchases(PG_FUNCTION_ARGS)
{
	FuncCallContext *funcctx;

	if (SRF_IS_FIRSTCALL())
	{
		int32		customers = PG_GETARG_INT32(1);
		double		t_cal = cdp_time_arg(fcinfo, 2, "t_cal");
		MemoryContext old;
		Simulation *sim;
		TupleDesc	desc;

		if (customers < 0 || customers > MAX_CUSTOMERS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("customers must be from 0 to %d", MAX_CUSTOMERS),
					 errhint("Use another seed for more.")));
		funcctx = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(funcctx->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		funcctx->tuple_desc = BlessTupleDesc(desc);
		sim = palloc(sizeof(Simulation));
		sim->model = cdp_value_model_read(PG_GETARG_HEAPTUPLEHEADER(0), funcctx->multi_call_memory_ctx);
		sim->t_cal = t_cal;
		sim->seed = (uint32) PG_GETARG_INT32(3);
		funcctx->user_fctx = sim;
		funcctx->max_calls = customers;
		MemoryContextSwitchTo(old);
	}
	funcctx = SRF_PERCALL_SETUP();
	if (funcctx->call_cntr < funcctx->max_calls)
		SRF_RETURN_NEXT(funcctx, HeapTupleGetDatum(simulate_customer(funcctx->user_fctx,
																	 (uint32) funcctx->call_cntr + 1, funcctx->tuple_desc)));
	SRF_RETURN_DONE(funcctx);
}
