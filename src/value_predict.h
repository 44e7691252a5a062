/*
 * value_predict.h
 *	  What a fitted model says of one customer.
 *
 * Every question to a transaction model goes through one step.  Given what
 * is known of a customer (x, t_x, T), the model answers with an Outlook: the
 * probability that he is still a customer at T and, if he is, how he buys
 * and leaves from T on.  All of the models keep their form under this step,
 * so the outlook of a customer with a history and of one who has just made
 * his first purchase (0, 0, 0) are the same thing with other numbers:
 *
 *		(model, x, t_x, T)  ->  Outlook  ->  purchases until T+t,
 *											 alive at T+t, money, next purchase
 *
 *	purchases	at rate lambda ~ Gamma(shape, rate); with k > 1 only every
 *				k-th arrival is a purchase, and phase[j] is the chance that
 *				j arrivals have passed since the last one
 *	leaving		BG family: after a purchase, with p ~ Beta(leave_a, leave_b);
 *				Pareto/NBD: at rate mu ~ Gamma(leave_a, leave_b); NBD: never
 */
#ifndef CDP_VALUE_PREDICT_H
#define CDP_VALUE_PREDICT_H

#include "cdp.h"

#include "value_math.h"
#include "value_model.h"

#define MAX_TIME				1e15	/* of any time, in units */

/* Nodes for an expectation over Beta(a, b); see value_predict_beta.c. */
typedef struct BetaNodes
{
	double		b;
	int			n;
	double	   *p;
	double	   *q;				/* 1 - p, exact where p is close to 1 */
	double	   *weight;
} BetaNodes;

#define BETA_SLOTS	256
typedef struct BetaCache
{
	MemoryContext context;
	double		a;
	BetaNodes  *jacobi[BETA_SLOTS];
	BetaNodes  *fine[BETA_SLOTS];
} BetaCache;

typedef struct ValueModel
{
	ModelKind	kind;
	ModelParameters parameters;
	bool		has_covariance;
	double		covariance[MODEL_MAX_PARAMETERS * MODEL_MAX_PARAMETERS];
	BetaCache  *nodes;
} ValueModel;

typedef struct Outlook
{
	ModelKind	kind;
	double		log_alive;		/* ln P(alive at T) */
	double		alive;
	double		shape;			/* of lambda: r + kx */
	double		rate;			/* of lambda: alpha + T */
	double		leave_a;
	double		leave_b;
	int			k;
	double		phase[MODEL_MAX_K];
	BetaCache  *nodes;
} Outlook;

/* value_predict_args.c: arguments of SQL functions, checked */
extern ValueModel *cdp_value_model_arg(FunctionCallInfo fcinfo, int argno);
extern ValueModel *cdp_value_model_read(HeapTupleHeader row, MemoryContext context);
extern double cdp_time_arg(FunctionCallInfo fcinfo, int argno, const char *name);
extern double cdp_probability_arg(FunctionCallInfo fcinfo, int argno, const char *name);
extern Datum cdp_prediction(double value);

/* value_predict_beta.c: expectations over Beta(a, b) */
extern BetaCache *cdp_beta_cache(double a, MemoryContext context);
extern const BetaNodes *cdp_beta_nodes(BetaCache *cache, double b, bool fine);

/* value_predict_outlook.c: the transaction models */
extern void cdp_outlook(ValueModel *model, double x, double t_x, double t_cal, Outlook *o);
extern double cdp_outlook_alive(const Outlook *o, double t);
extern double cdp_outlook_purchases(const Outlook *o, double t);
extern double cdp_outlook_p_purchase(const Outlook *o, double t);
extern double cdp_outlook_next(const Outlook *o, double probability);
extern double cdp_outlook_discounted(const Outlook *o, double from, double until, double discount);
extern double cdp_purchase_pmf_value(ValueModel *model, int n, double t);

/* value_predict_phase.c, value_predict_pareto.c: where they differ */
extern double cdp_bg_purchases(const Outlook *o, double t);
extern double cdp_bg_alive(const Outlook *o, double t);
extern double cdp_pareto_integral(double until, double m, double a, double n, double c);
extern double cdp_pareto_pmf(const ValueModel *model, int n, double t);

/* value_predict_money.c */
extern double cdp_amount_value(const ValueModel *model, double x, double mean_amount);

#endif							/* CDP_VALUE_PREDICT_H */
