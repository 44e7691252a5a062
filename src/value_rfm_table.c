/*
 * value_rfm_table.c
 *	  cdp.rfm_table and cdp.rfm_cuts: from a source of purchases to rows.
 *
 * The source, the orders of the CDP or the query of a caller, becomes one
 * statement around one aggregate, which the planner may run in parallel:
 *
 *		SELECT cdp._rfm_all(s.customer_id, s.occurred_at, s.amount, $1)
 *		FROM (the source) s
 *
 * Its one row, the state of all customers, is caught as it leaves the plan,
 * and turned into rows in one pass over it: nothing is kept twice, and the
 * tuplestore that is filled is the one that the caller's plan reads.  (A row
 * per call would go into the same tuplestore, as a composite value before.)
 * Names of groups and scores are made once and shared by all rows.
 *
 * The orders are read with the rights of the owner of the tables, like any
 * verb does; a caller's query with his own, in a transaction that is
 * read-only meanwhile.
 *
 * SQL: sql/value_rfm.sql.  Tests: test/sql/value_table.sql,
 * test/sql/value_rfm.sql, test/pgtap/value_rfm.sql.  Page: doc/value_rfm.md.
 */
#include "value_rfm.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cdp_rfm_table);
PG_FUNCTION_INFO_V1(cdp_rfm_cuts);
PG_FUNCTION_INFO_V1(cdp_rfm_rows);

#define ROW_COLUMNS		14
#define CUT_COLUMNS		5
#define MAX_SHARED_BINS	9		/* scores of more are told apart by dashes, and rare */
#define CELLS			5		/* scores that the eleven groups are made of */
#define ROWS_PER_RESET	256

/* what is shared by all rows */
typedef struct Labels
{
	Datum		group8[8];		/* by the bits r, f, m: 4, 2, 1 */
	Datum		group11[CELLS * CELLS * CELLS];
	bool		has11[CELLS * CELLS * CELLS];
	Datum		score[(MAX_SHARED_BINS + 1) * (MAX_SHARED_BINS + 1) * (MAX_SHARED_BINS + 1)];
} Labels;

/* catches the one row of the statement */
typedef struct Catcher
{
	DestReceiver pub;
	const RfmOptions *o;
	const Labels *labels;		/* NULL: cuts are wanted */
	ReturnSetInfo *result;
} Catcher;

/*
 * Rows out
 */

/* Names of the groups; the caller is inside a verb. */
static void
read_labels(Labels *labels, const RfmOptions *o, MemoryContext context)
{
	const char *label = o->english ? "label_en" : "label_zh";
	SPITupleTable *rows;
	MemoryContext old;

	if (SPI_execute(psprintf("SELECT rfm_group, %s FROM cdp.rfm_group WHERE scheme = 8 AND rfm_group ~ '^[01]{3}$'", label), true, 0) != SPI_OK_SELECT)
		elog(ERROR, "groups cannot be read");
	rows = SPI_tuptable;
	old = MemoryContextSwitchTo(context);
	for (int i = 0; i < 8; i++)
		labels->group8[i] = CStringGetTextDatum(psprintf("%d%d%d", i >> 2 & 1, i >> 1 & 1, i & 1));
	for (uint64 i = 0; i < rows->numvals; i++)
	{
		const char *key = SPI_getvalue(rows->vals[i], rows->tupdesc, 1);

		labels->group8[(key[0] - '0') * 4 + (key[1] - '0') * 2 + key[2] - '0'] =
			CStringGetTextDatum(SPI_getvalue(rows->vals[i], rows->tupdesc, 2));
	}
	MemoryContextSwitchTo(old);
	if (o->bins == CELLS)
	{
		if (SPI_execute(psprintf("SELECT c.rfm_cell, g.%s FROM cdp.rfm_cell c JOIN cdp.rfm_group g ON g.rfm_group = c.rfm_group"
								 " WHERE c.rfm_cell ~ '^[1-5]{3}$'", label), true, 0) != SPI_OK_SELECT)
			elog(ERROR, "cells cannot be read");
		rows = SPI_tuptable;
		old = MemoryContextSwitchTo(context);
		for (uint64 i = 0; i < rows->numvals; i++)
		{
			const char *key = SPI_getvalue(rows->vals[i], rows->tupdesc, 1);
			int			cell = ((key[0] - '1') * CELLS + key[1] - '1') * CELLS + key[2] - '1';

			labels->group11[cell] = CStringGetTextDatum(SPI_getvalue(rows->vals[i], rows->tupdesc, 2));
			labels->has11[cell] = true;
		}
		MemoryContextSwitchTo(old);
	}
}

static Labels *
make_labels(const RfmOptions *o)
{
	Labels	   *labels = palloc0(sizeof(Labels));
	MemoryContext context = CurrentMemoryContext;
	int			base = MAX_SHARED_BINS + 1;
	CdpVerb		verb;

	cdp_begin_read(&verb);
	read_labels(labels, o, context);
	cdp_end(&verb);
	if (o->bins <= MAX_SHARED_BINS)
		for (int r = 1; r <= o->bins; r++)
			for (int f = 1; f <= o->bins; f++)
				for (int m = 1; m <= o->bins; m++)
					labels->score[(r * base + f) * base + m] = CStringGetTextDatum(psprintf("%d%d%d", r, f, m));
	return labels;
}

/* as_of less a time before it, as the server's own subtraction says it */
static void
recency_of(TimestampTz as_of, TimestampTz at, Interval *result)
{
	int64		span = cdp_purchase_recency(as_of, at);

	result->month = 0;
	result->day = (int32) (span / USECS_PER_DAY);
	result->time = span % USECS_PER_DAY;
}

static void
put_rows(ReturnSetInfo *result, const RfmSummary *s, const RfmOptions *o, const Labels *labels)
{
	MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "cdp.rfm_table", ALLOCSET_DEFAULT_SIZES);
	MemoryContext row_context = AllocSetContextCreate(work, "cdp.rfm_table rows", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(work);
	int			base = MAX_SHARED_BINS + 1;
	Datum		nothing = NumericGetDatum(cdp_money_numeric(0, 0));
	Datum		values[ROW_COLUMNS];
	bool		nulls[ROW_COLUMNS] = {false};
	RfmScores	sc;
	Interval	recency;

	cdp_rfm_score_all(&sc, s, o);
	MemoryContextSwitchTo(row_context);
	for (uint32 i = 0; i < s->n; i++)
	{
		const RfmEntry *e = cdp_rfm_entry(s, i);
		int64		keys[RFM_MEASURES];
		int			scores[RFM_MEASURES];
		int			high = 0;

		CHECK_FOR_INTERRUPTS();
		if (i % ROWS_PER_RESET == 0)
			MemoryContextReset(row_context);
		if (e->purchases == 0)
			continue;
		for (RfmMeasure m = RFM_R; m < RFM_MEASURES; m++)
		{
			keys[m] = cdp_rfm_key(&sc, e, i, m);
			high = high * 2 + (keys[m] >= sc.high_from[m] && !sc.never_high[m]);
		}
		cdp_rfm_score(&sc, keys, scores);
		recency_of(s->as_of, e->last_at, &recency);
		values[0] = Int64GetDatum(e->customer_id);
		values[1] = IntervalPGetDatum(&recency);
		values[2] = Int64GetDatum(e->purchases);
		values[3] = NumericGetDatum(sc.rank ? cdp_rfm_monetary(&sc, i) : cdp_money_numeric(keys[RFM_M], e->dscale));
		values[4] = TimestampTzGetDatum(e->first_at);
		values[5] = TimestampTzGetDatum(e->last_at);
		values[6] = NumericGetDatum(cdp_rfm_money(s, i, RFM_GROSS_REST));
		values[7] = o->ignore_refunds ? nothing : NumericGetDatum(cdp_rfm_money(s, i, RFM_REFUNDED_REST));
		for (RfmMeasure m = RFM_R; m < RFM_MEASURES; m++)
			values[8 + m] = Int32GetDatum(scores[m]);
		if (o->bins <= MAX_SHARED_BINS)
			values[11] = labels->score[(scores[RFM_R] * base + scores[RFM_F]) * base + scores[RFM_M]];
		else
			values[11] = CStringGetTextDatum(psprintf("%d-%d-%d", scores[RFM_R], scores[RFM_F], scores[RFM_M]));
		values[12] = labels->group8[high];
		nulls[13] = true;
		if (o->bins == CELLS)
		{
			int			cell = ((scores[RFM_R] - 1) * CELLS + scores[RFM_F] - 1) * CELLS + scores[RFM_M] - 1;

			values[13] = labels->group11[cell];
			nulls[13] = !labels->has11[cell];
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
}

/* What a key stands for, as cdp.rfm_cuts shows it. */
static Numeric
value_of_key(const RfmScores *sc, RfmMeasure m, int64 key, int dscale)
{
	switch (m)
	{
		case RFM_R:
			return int64_div_fast_to_numeric(cdp_purchase_recency(sc->s->as_of, key), 6);
		case RFM_F:
			return int64_to_numeric(key);
		default:
			return sc->rank ? sc->money[key] : cdp_money_numeric(key, dscale);
	}
}

static void
put_count(ReturnSetInfo *result, const char *measure, int64 count)
{
	Datum		values[CUT_COLUMNS] = {CStringGetTextDatum(measure), 0, 0, 0, Int64GetDatum(count)};
	bool		nulls[CUT_COLUMNS] = {false, true, true, true, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_cuts(ReturnSetInfo *result, const RfmSummary *s, const RfmOptions *o)
{
	static const char *const names[RFM_MEASURES] = {"recency", "frequency", "monetary"};
	MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "cdp.rfm_cuts", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(work);
	int64	   *customers = palloc0(RFM_MEASURES * (o->bins + 1) * sizeof(int64));
	int64	   *lowest = palloc(RFM_MEASURES * (o->bins + 1) * sizeof(int64));
	int64	   *highest = palloc(RFM_MEASURES * (o->bins + 1) * sizeof(int64));
	int			dscale = 0;
	RfmScores	sc;

	cdp_rfm_score_all(&sc, s, o);
	for (uint32 i = 0; i < s->n; i++)
	{
		const RfmEntry *e = cdp_rfm_entry(s, i);
		int64		keys[RFM_MEASURES];
		int			scores[RFM_MEASURES];

		CHECK_FOR_INTERRUPTS();
		if (e->purchases == 0)
			continue;
		dscale = Max(dscale, e->dscale);
		for (RfmMeasure m = RFM_R; m < RFM_MEASURES; m++)
			keys[m] = cdp_rfm_key(&sc, e, i, m);
		cdp_rfm_score(&sc, keys, scores);
		for (RfmMeasure m = RFM_R; m < RFM_MEASURES; m++)
		{
			int			at = m * (o->bins + 1) + scores[m];

			if (customers[at]++ == 0)
				lowest[at] = highest[at] = keys[m];
			lowest[at] = Min(lowest[at], keys[m]);
			highest[at] = Max(highest[at], keys[m]);
		}
	}
	for (RfmMeasure m = RFM_R; m < RFM_MEASURES; m++)
		for (int score = 1; score <= o->bins; score++)
		{
			int			at = m * (o->bins + 1) + score;
			bool		empty = customers[at] == 0;
			Datum		values[CUT_COLUMNS] = {CStringGetTextDatum(names[m]), Int32GetDatum(score), 0, 0, Int64GetDatum(customers[at])};
			bool		nulls[CUT_COLUMNS] = {false, false, empty, empty, false};

			if (!empty)
			{
				/* the latest purchase is the least recency */
				values[2] = NumericGetDatum(value_of_key(&sc, m, m == RFM_R ? highest[at] : lowest[at], dscale));
				values[3] = NumericGetDatum(value_of_key(&sc, m, m == RFM_R ? lowest[at] : highest[at], dscale));
			}
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		}
	put_count(result, "refund_only", s->n - sc.n);
	put_count(result, "skipped_null", s->skipped_null);
	put_count(result, "after_as_of", s->after_as_of);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
}

/*
 * The statement
 */

#define ORDERS \
	"SELECT coalesce(a.customer_id, o.profile_id) AS customer_id, o.ordered_at AS occurred_at, o.amount, o.refunded, o.currency" \
	" FROM cdp.sales_order o LEFT JOIN cdp.profile_alias a ON a.profile_id = o.profile_id" \
	" WHERE o.status IN ('paid', 'shipped', 'completed', 'refunded')"

/* cdp.convert_amount() as a join; of two rows for one moment, one in each direction, the direct one counts */
#define RATES \
	" LEFT JOIN (SELECT currency, rate, valid_from, lead(valid_from) OVER (PARTITION BY currency ORDER BY valid_from) AS valid_to" \
	" FROM (SELECT DISTINCT ON (currency, valid_from) currency, rate, valid_from FROM (" \
	"SELECT from_currency AS currency, rate, valid_from, 1 AS way FROM cdp.currency_rate WHERE to_currency = $2" \
	" UNION ALL SELECT to_currency, 1 / rate, valid_from, 2 FROM cdp.currency_rate WHERE from_currency = $2) b" \
	" ORDER BY currency, valid_from, way) d" \
	") e ON e.currency = s.currency AND s.currency <> $2" \
	" AND s.occurred_at >= e.valid_from AND (e.valid_to IS NULL OR s.occurred_at < e.valid_to)"

/* money in currency $2; a row that does not count needs no rate */
#define CONVERTED(column) \
	"CASE WHEN s.customer_id IS NULL OR s.occurred_at IS NULL OR s.amount IS NULL OR s.currency IS NULL THEN NULL" \
	" WHEN s.currency = $2 OR s.occurred_at > $1 THEN s." column \
	" ELSE s." column " * cdp._rfm_rate(e.rate, s.currency, $2) END"

/* Parameters: $1 as_of, $2 currency. */
static char *
statement_for(const char *source, bool has_refunded, bool has_currency, bool convert, RfmRule rule)
{
	const char *amount = convert ? CONVERTED("amount") : "s.amount";
	const char *refunded = !has_refunded ? "NULL::numeric" : convert ? CONVERTED("refunded") : "s.refunded";
	const char *currency = convert ? "CASE WHEN s.currency IS NOT NULL THEN $2 END" : has_currency ? "s.currency" : "''::text";
	const char *rates = convert ? RATES : "";

	if (convert && !has_currency)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query returns no currency"),
				 errhint("Add it as fourth column, or leave out the argument currency.")));
	if (rule != RFM_RULE_PLAIN)
		return psprintf("SELECT cdp._rfm_sorted(c.customer_id, c.occurred_at, c.amount, $1, c.refunded, c.currency, %s)"
						" FROM (SELECT s.customer_id, s.occurred_at, %s AS amount, %s AS refunded, %s AS currency"
						" FROM (%s) s%s ORDER BY s.customer_id) c",
						rule == RFM_RULE_NET_DAY ? "true" : "false", amount, refunded, currency, source, rates);
	if (!has_currency)
		return psprintf("SELECT cdp._rfm_all(s.customer_id, s.occurred_at, %s, $1) FROM (%s) s", amount, source);
	return psprintf("SELECT cdp._rfm_all(s.customer_id, s.occurred_at, %s, $1, %s, %s) FROM (%s) s%s",
					amount, refunded, currency, source, rates);
}

static bool
catch_summary(TupleTableSlot *slot, DestReceiver *self)
{
	Catcher    *c = (Catcher *) self;
	bool		isnull;
	Datum		value = slot_getattr(slot, 1, &isnull);

	if (isnull)
		return true;
	if (c->labels)
		put_rows(c->result, cdp_rfm_summary_get(value), c->o, c->labels);
	else
		put_cuts(c->result, cdp_rfm_summary_get(value), c->o);
	return true;
}

static void
catch_startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
catch_nothing(DestReceiver *self)
{
}

static void
run_statement(Catcher *c, const char *sql, TimestampTz as_of, Datum currency, bool has_currency)
{
	ParamListInfo params = makeParamList(2);
	SPIExecuteOptions options = {.params = params,.read_only = true,.dest = &c->pub};
	int			rc;

	params->params[0] = (ParamExternData) {.value = TimestampTzGetDatum(as_of),.pflags = PARAM_FLAG_CONST,.ptype = TIMESTAMPTZOID};
	params->params[1] = (ParamExternData) {.value = currency,.isnull = !has_currency,.pflags = PARAM_FLAG_CONST,.ptype = TEXTOID};
	rc = SPI_execute_extended(sql, &options);
	if (rc < 0)
		elog(ERROR, "RFM statement failed: %s", SPI_result_code_string(rc));
}

/* What both functions do, labels or cuts apart. */
static Datum
run(FunctionCallInfo fcinfo, bool rows)
{
	RfmOptions	o;
	Catcher		c = {.pub = {.receiveSlot = catch_summary,.rStartup = catch_startup,.rShutdown = catch_nothing,
			.rDestroy = catch_nothing,.mydest = DestTransientRel},.o = &o};
	TimestampTz as_of = PG_ARGISNULL(0) ? cdp_now_value() : PG_GETARG_TIMESTAMPTZ(0);
	bool		convert = !PG_ARGISNULL(13);
	Datum		currency = convert ? PG_GETARG_DATUM(13) : (Datum) 0;
	CdpVerb		verb;
	char	   *source;
	char	   *sql;
	bool		has_currency;
	int			guc_level;

	InitMaterializedSRF(fcinfo, 0);
	c.result = (ReturnSetInfo *) fcinfo->resultinfo;
	cdp_rfm_read_options(fcinfo, 2, 14, &o);
	if (TIMESTAMP_NOT_FINITE(as_of))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("as_of must be a finite time"),
				 errhint("Leave it out for now.")));
	if (PG_ARGISNULL(1))
	{
		if (rows)
			c.labels = make_labels(&o);
		sql = statement_for(ORDERS, true, true, convert, o.rule);
		cdp_begin_read(&verb);
		run_statement(&c, sql, as_of, currency, convert);
		cdp_end(&verb);
		return (Datum) 0;
	}
	/* names in the query are the caller's: it is read before anything is pinned */
	source = cdp_purchases_source(text_to_cstring(PG_GETARG_TEXT_PP(1)), &has_currency);
	sql = statement_for(source, false, has_currency, convert, o.rule);
	if (rows)
		c.labels = make_labels(&o);
	else
		cdp_check_version();
	cdp_read_only_begin();
	guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	run_statement(&c, sql, as_of, currency, convert);
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	AtEOXact_GUC(false, guc_level);
	cdp_read_only_end();
	return (Datum) 0;
}

/* cdp.rfm_table(as_of, purchases, method, ..., currency, lang) */
Datum
cdp_rfm_table(PG_FUNCTION_ARGS)
{
	return run(fcinfo, true);
}

/* cdp.rfm_cuts(the same) */
Datum
cdp_rfm_cuts(PG_FUNCTION_ARGS)
{
	return run(fcinfo, false);
}

/* cdp._rfm_rows(summary, method, ..., refunds, lang): the rows of a state that is at hand */
Datum
cdp_rfm_rows(PG_FUNCTION_ARGS)
{
	RfmOptions	o;
	RfmSummary *s;

	InitMaterializedSRF(fcinfo, 0);
	cdp_rfm_read_options(fcinfo, 1, 12, &o);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	s = cdp_rfm_summary_get(PG_GETARG_DATUM(0));
	if (s->rule != o.rule)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the summary was made under another rule for refunds"),
				 errhint("A summary of cdp._rfm_all is for net and ignore, one of cdp._rfm_sorted for the rule it was made with.")));
	put_rows((ReturnSetInfo *) fcinfo->resultinfo, s, &o, make_labels(&o));
	return (Datum) 0;
}
