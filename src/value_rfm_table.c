/*
 * value_rfm_table.c
 *	  cdp.rfm_table and cdp.rfm_cuts: from a source of purchases to rows.
 *
 * The source (value_source.c) becomes one statement around one aggregate,
 * which the planner may run in parallel:
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
 * SQL: sql/value_rfm.sql.  Tests: test/sql/value_table.sql,
 * test/sql/value_rfm.sql, test/pgtap/value_rfm.sql.  Page: doc/value_rfm.md.
 */
#include "value_rfm.h"
#include "value_source.h"

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

static char *
statement_for(const PurchaseSource *source, RfmRule rule)
{
	const char *currency = source->converted ? "CASE WHEN s.currency IS NOT NULL THEN $2 END" :
		source->has_currency ? "s.currency" : "''::text";

	if (rule != RFM_RULE_PLAIN)
		return psprintf("SELECT cdp._rfm_sorted(c.customer_id, c.occurred_at, c.amount, $1, c.refunded, c.currency, %s)"
						" FROM (SELECT s.customer_id, s.occurred_at, %s AS amount, %s AS refunded, %s AS currency"
						" FROM %s ORDER BY s.customer_id) c",
						rule == RFM_RULE_NET_DAY ? "true" : "false", source->amount, source->refunded, currency, source->from);
	if (!source->has_currency)
		return psprintf("SELECT cdp._rfm_all(s.customer_id, s.occurred_at, %s, $1) FROM %s", source->amount, source->from);
	return psprintf("SELECT cdp._rfm_all(s.customer_id, s.occurred_at, %s, $1, %s, %s) FROM %s",
					source->amount, source->refunded, currency, source->from);
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

/* What both functions do, labels or cuts apart. */
static Datum
run(FunctionCallInfo fcinfo, bool rows)
{
	RfmOptions	o;
	Catcher		c = {.pub = cdp_purchase_receiver(catch_summary),.o = &o};
	PurchaseSource source;

	InitMaterializedSRF(fcinfo, 0);
	c.result = (ReturnSetInfo *) fcinfo->resultinfo;
	cdp_rfm_read_options(fcinfo, 2, 14, &o);
	cdp_purchase_source(&source, fcinfo, 1, 13, cdp_as_of_arg(fcinfo, 0));
	if (rows)
		c.labels = make_labels(&o);
	cdp_purchase_source_run(&source, statement_for(&source, o.rule), &c.pub);
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
