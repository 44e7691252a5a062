/*
 * value_lifecycle.c
 *	  In which stage of his life with the shop a customer is, his tier by
 *	  value, and how probable it is that he has left.
 *
 *		purchases 7, gap_ratio 2.1		->	衰退期
 *		the 800th of 20,000 by clv		->	high		(top 5 %)
 *
 * Stages and tiers are rows, cdp.lifecycle_rule and cdp.value_tier; a scoring
 * run asks for millions of customers, so the rows are read once and kept until
 * somebody changes them (cdp_rules_epoch).  A stage never moves by itself to a
 * better one: models are fitted anew every week, and a customer who is told
 * "welcome back" without having been there would be told so by every refit.
 *
 * SQL: sql/value_lifecycle.sql.  Page: doc/value_lifecycle.md.  Tests:
 * test/sql/value_lifecycle.sql, test/pgtap/value_lifecycle.sql.
 */
#include "cdp.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(cdp_lifecycle_stage);
PG_FUNCTION_INFO_V1(cdp_value_tier);
PG_FUNCTION_INFO_V1(cdp_churn_features);
PG_FUNCTION_INFO_V1(cdp_churn_score);

/* a stage, in the order in which the rules are asked; the names are fixed by a CHECK of the table */
typedef struct StageRule
{
	text	   *stage;
	int			decline;		/* 0 active, 1 declining, 2 lost: without a purchase it only grows */
	int64		min_purchases;	/* 0: no such condition */
	int64		max_purchases;	/* PG_INT64_MAX: no such condition */
	double		min_gap_ratio;	/* NaN: no such condition */
	double		max_p_alive;	/* NaN: no such condition */
} StageRule;

typedef struct TierRule
{
	text	   *tier;
	double		top_percent;
} TierRule;

typedef struct RuleCache
{
	const char *table;
	const char *query;
	size_t		size;			/* of one rule */
	void		(*load) (void *rule, HeapTuple tup, TupleDesc desc);
	MemoryContext context;
	SPIPlanPtr	plan;
	uint64		epoch;			/* cdp_rules_epoch when it was read; 0: never */
	TimestampTz transaction;	/* the only one it is good for; 0: for all */
	int			n;
	void	   *rules;
} RuleCache;

#define MAX_CHURN_FEATURES	4

/* a text of a row that outlives SPI */
static text *
keep_text(HeapTuple tup, TupleDesc desc, int column)
{
	return cstring_to_text(SPI_getvalue(tup, desc, column));
}

static double
number_or_nan(HeapTuple tup, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tup, desc, column, &isnull);

	return isnull ? NAN : DatumGetFloat8(value);
}

/* 0 for the three active stages, 1 and 2 for the two that lead away */
static int
decline_of(const text *stage)
{
	const char *s = VARDATA_ANY(stage);
	size_t		len = VARSIZE_ANY_EXHDR(stage);

	if (len == strlen("流失期") && memcmp(s, "流失期", len) == 0)
		return 2;
	if (len == strlen("衰退期") && memcmp(s, "衰退期", len) == 0)
		return 1;
	return 0;
}

static void
load_stage(void *rule, HeapTuple tup, TupleDesc desc)
{
	StageRule  *r = rule;
	bool		isnull;
	Datum		value;

	r->stage = keep_text(tup, desc, 1);
	r->decline = decline_of(r->stage);
	value = SPI_getbinval(tup, desc, 2, &isnull);
	r->min_purchases = isnull ? 0 : DatumGetInt64(value);
	value = SPI_getbinval(tup, desc, 3, &isnull);
	r->max_purchases = isnull ? PG_INT64_MAX : DatumGetInt64(value);
	r->min_gap_ratio = number_or_nan(tup, desc, 4);
	r->max_p_alive = number_or_nan(tup, desc, 5);
}

static void
load_tier(void *rule, HeapTuple tup, TupleDesc desc)
{
	TierRule   *r = rule;

	r->tier = keep_text(tup, desc, 1);
	r->top_percent = number_or_nan(tup, desc, 2);
}

static RuleCache stages = {
	.table = "lifecycle_rule",
	.query = "SELECT lifecycle_rule, min_purchases, max_purchases, min_gap_ratio, max_p_alive"
	" FROM cdp.lifecycle_rule ORDER BY sort, lifecycle_rule COLLATE \"C\"",
	.size = sizeof(StageRule),
	.load = load_stage,
};
static RuleCache tiers = {
	.table = "value_tier",
	.query = "SELECT value_tier, top_percent::float8 FROM cdp.value_tier"
	" ORDER BY top_percent, value_tier COLLATE \"C\"",
	.size = sizeof(TierRule),
	.load = load_tier,
};

/*
 * Rows of a rule table, read again after a change.  They are read as they are
 * committed now: a snapshot may be older than the news of a change.  While
 * others work in parallel there is only the old snapshot, and what it shows is
 * kept for this transaction alone.
 */
static void *
get_rules(RuleCache *cache)
{
	CdpVerb		verb;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context;
	bool		parallel = IsInParallelMode();
	TimestampTz transaction = parallel ? GetCurrentTransactionStartTimestamp() : 0;
	uint64		epoch;
	char	   *rules;

	if (likely(cache->epoch == cdp_rules_epoch &&
			   (cache->transaction == 0 || (parallel && cache->transaction == transaction))))
		return cache->rules;
	cdp_begin_read(&verb);
	cdp_watch_rules(cdp_relation(cache->table));
	epoch = cdp_rules_epoch;
	if (SPI_execute_snapshot(cdp_plan(&cache->plan, cache->query, 0, NULL), NULL, NULL,
							 parallel ? GetActiveSnapshot() : GetLatestSnapshot(),
							 InvalidSnapshot, true, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.%s", cache->table);

	/* build aside, so that an error leaves the old ones in place */
	context = AllocSetContextCreate(caller, "customer_cdp value rules", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(context);
	rules = palloc0(cache->size * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
		cache->load(rules + i * cache->size, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	MemoryContextSetParent(context, CacheMemoryContext);
	if (cache->context != NULL)
		MemoryContextDelete(cache->context);
	cache->context = context;
	cache->rules = rules;
	cache->n = SPI_processed;
	cache->epoch = epoch;
	cache->transaction = transaction;
	cdp_end(&verb);
	MemoryContextSwitchTo(caller);
	return rules;
}

/* 22023 for a number that is none, or outside lo .. hi */
static void
check_range(const char *name, double value, double lo, double hi, const char *hint)
{
	if (isnan(value) || value < lo || value > hi)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is %g", name, value),
				 errhint("%s", hint)));
}

#define P_ALIVE_HINT	"It is a probability, from 0 to 1; NULL when there is none."
#define GAP_RATIO_HINT	"It is the time since the last purchase divided by the customer's typical gap, 0 or more; NULL when there is none."

/* lifecycle_stage(purchases, gap_ratio, p_alive, previous, bought_since): the first rule that holds */
Datum
cdp_lifecycle_stage(PG_FUNCTION_ARGS)
{
	int64		purchases;
	double		gap_ratio = PG_ARGISNULL(1) ? NAN : PG_GETARG_FLOAT8(1);
	double		p_alive = PG_ARGISNULL(2) ? NAN : PG_GETARG_FLOAT8(2);
	text	   *previous = PG_ARGISNULL(3) ? NULL : PG_GETARG_TEXT_PP(3);
	bool		bought_since = PG_ARGISNULL(4) || PG_GETARG_BOOL(4);
	StageRule  *rules;
	StageRule  *now = NULL;
	StageRule  *before = NULL;

	if (!PG_ARGISNULL(1))
		check_range("gap_ratio", gap_ratio, 0, HUGE_VAL, GAP_RATIO_HINT);
	if (!PG_ARGISNULL(2))
		check_range("p_alive", p_alive, 0, 1, P_ALIVE_HINT);
	if (!PG_ARGISNULL(0) && PG_GETARG_INT64(0) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("purchases is below 0"),
				 errhint("It is the number of purchases of the customer.")));
	rules = get_rules(&stages);
	for (int i = 0; i < stages.n && previous != NULL; i++)
	{
		text	   *s = rules[i].stage;

		if (VARSIZE_ANY_EXHDR(s) == VARSIZE_ANY_EXHDR(previous) &&
			memcmp(VARDATA_ANY(s), VARDATA_ANY(previous), VARSIZE_ANY_EXHDR(s)) == 0)
			before = &rules[i];
	}
	if (previous != NULL && before == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("previous is not a stage of the lifecycle"),
				 errhint("SELECT lifecycle_rule FROM cdp.lifecycle_rule; lists them. NULL: none is known.")));
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	purchases = PG_GETARG_INT64(0);

	for (int i = 0; i < stages.n && now == NULL; i++)
	{
		StageRule  *r = &rules[i];
		bool		leaving = !isnan(r->min_gap_ratio) || !isnan(r->max_p_alive);

		/* a comparison with NaN, on either side, is false: what is not known is no reason */
		if (purchases >= r->min_purchases && purchases <= r->max_purchases &&
			(!leaving || gap_ratio > r->min_gap_ratio || p_alive < r->max_p_alive))
			now = r;
	}
	if (before != NULL && !bought_since && (now == NULL || now->decline <= before->decline))
		now = before;
	if (now == NULL)
		PG_RETURN_NULL();
	/* the cache may be read anew before the caller looks */
	PG_RETURN_TEXT_P(cstring_to_text_with_len(VARDATA_ANY(now->stage), VARSIZE_ANY_EXHDR(now->stage)));
}

/* _value_tier(position, customers): the best tier whose share of the customers reaches this position */
Datum
cdp_value_tier(PG_FUNCTION_ARGS)
{
	int64		position = PG_GETARG_INT64(0);
	int64		customers = PG_GETARG_INT64(1);
	TierRule   *rules;

	if (position < 1 || position > customers)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("position must lie between 1 and the number of customers"),
				 errhint("It is rank() OVER (ORDER BY clv DESC) among count(*) customers.")));
	rules = get_rules(&tiers);
	for (int i = 0; i < tiers.n; i++)
	{
		/* as many as are strictly better may be fewer than the share: so equal values are in the better tier together */
		if ((double) (position - 1) * 100 < rules[i].top_percent * (double) customers)
			PG_RETURN_TEXT_P(cstring_to_text_with_len(VARDATA_ANY(rules[i].tier), VARSIZE_ANY_EXHDR(rules[i].tier)));
	}
	PG_RETURN_NULL();
}

/*
 * What the churn model looks at: logit p_alive, ln gap_ratio, ln(1 + x), ln T.
 * The edges, where logarithms end, are moved inside: a probability of 1 comes
 * from rounding or from a model of too little data.
 */
static void
churn_features(double p_alive, double gap_ratio, double x, double t_cal, double *features)
{
	double		p = Min(Max(p_alive, 1e-6), 1 - 1e-6);

	features[0] = log(p / (1 - p));
	features[1] = log(Min(Max(gap_ratio, 1e-6), 1e6));
	features[2] = log1p(x);
	features[3] = log(Min(Max(t_cal, 1e-6), 1e6));
}

static void
check_churn(double p_alive, double gap_ratio)
{
	check_range("p_alive", p_alive, 0, 1, P_ALIVE_HINT);
	check_range("gap_ratio", gap_ratio, 0, HUGE_VAL, GAP_RATIO_HINT);
}

static void
check_history(double x, double t_cal)
{
	check_range("x", x, 0, 1e15, "It is the number of repeat purchases, 0 or more.");
	check_range("t_cal", t_cal, 0, 1e15, "It is the time since the first purchase in units of the model, 0 or more.");
}

/* _churn_features(p_alive, gap_ratio, x, t_cal): what is handed to fit_logistic() */
Datum
cdp_churn_features(PG_FUNCTION_ARGS)
{
	double		f[MAX_CHURN_FEATURES];
	Datum		d[MAX_CHURN_FEATURES];

	check_churn(PG_GETARG_FLOAT8(0), PG_GETARG_FLOAT8(1));
	check_history(PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3));
	churn_features(PG_GETARG_FLOAT8(0), PG_GETARG_FLOAT8(1), PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3), f);
	for (int i = 0; i < MAX_CHURN_FEATURES; i++)
		d[i] = Float8GetDatum(f[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(d, MAX_CHURN_FEATURES, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* the coefficients of a model for churn_score, intercept first; NULL: a model without any */
static double *
churn_coefficients(HeapTupleHeader model)
{
	bool		isnull;
	Datum		value = GetAttributeByName(model, "coefficients", &isnull);
	ArrayType  *array;
	double	   *b;
	bool		sound;

	if (isnull)
		return NULL;
	array = DatumGetArrayTypeP(value);
	sound = ARR_NDIM(array) == 1 && ARR_DIMS(array)[0] == 1 + MAX_CHURN_FEATURES && !array_contains_nulls(array);
	b = (double *) ARR_DATA_PTR(array);
	for (int i = 0; sound && i <= MAX_CHURN_FEATURES; i++)
		sound = fabs(b[i]) <= 1e100;	/* so that their sum is a number, too */
	if (!sound)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the model is none of churn"),
				 errhint("It needs %d finite coefficients: intercept, logit of p_alive, ln of gap_ratio, ln of 1 + x, ln of t_cal.",
						 1 + MAX_CHURN_FEATURES)));
	return b;
}

/* churn_score(p_alive, gap_ratio, x, t_cal, model): the probability of no purchase in the horizon */
Datum
cdp_churn_score(PG_FUNCTION_ARGS)
{
	double		p_alive,
				gap_ratio,
				f[MAX_CHURN_FEATURES],
				eta;
	double	   *b = NULL;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	p_alive = PG_GETARG_FLOAT8(0);
	gap_ratio = PG_GETARG_FLOAT8(1);
	check_churn(p_alive, gap_ratio);
	if (!PG_ARGISNULL(4))
		b = churn_coefficients(PG_GETARG_HEAPTUPLEHEADER(4));
	if (b == NULL)
		PG_RETURN_FLOAT8(1 - p_alive * Min(1, 1 / gap_ratio));
	if (PG_ARGISNULL(2) || PG_ARGISNULL(3))
		PG_RETURN_NULL();
	check_history(PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3));
	churn_features(p_alive, gap_ratio, PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3), f);

	/*
	 * The score falls with p_alive and rises with gap_ratio, whatever a fit
	 * says: the two tell much the same, and on little data a fit may give one
	 * of them the sign of a correction to the other.
	 */
	eta = b[0] + Min(b[1], 0) * f[0] + Max(b[2], 0) * f[1] + b[3] * f[2] + b[4] * f[3];
	PG_RETURN_FLOAT8(eta >= 0 ? 1 / (1 + exp(-eta)) : exp(eta) / (1 + exp(eta)));
}
