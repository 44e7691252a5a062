/*
 * value_btyd_table.c
 *	  cdp.btyd_table: every customer as the models of repeat buying want him.
 *
 *		SELECT * FROM cdp.btyd_table('2026-01-01');
 *
 * The source (value_source.c) is run as a statement whose rows are caught as
 * they leave the plan, packed (value_btyd_pack.c), and at the end turned into
 * one row per customer.
 *
 * SQL: sql/value_btyd.sql.  Tests: test/sql/value_btyd.sql,
 * test/pgtap/value_btyd.sql.  Page: doc/value_btyd.md.
 */
#include "value_btyd.h"
#include "value_source.h"

#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cdp_btyd_table);

#define OUT_COLUMNS		8

/* columns of the statement */
#define CUSTOMER	1
#define AT			2
#define AMOUNT		3
#define REFUNDED	4
#define CURRENCY	5

/* catches the rows of the statement */
typedef struct Catcher
{
	DestReceiver pub;
	BtydPack   *pack;
	BtydRule	rule;
	TimestampTz as_of;
	bool		has_refunded;
	bool		has_currency;	/* of its own: all rows must agree */
	MemoryContext context;
	char	   *currency;		/* of the rows before; NULL: none yet */
	int			currency_len;
} Catcher;

typedef struct Output
{
	ReturnSetInfo *result;
	BtydRule	rule;
	int32		as_of_day;
	int32		unit;
} Output;

static char *
statement_for(const PurchaseSource *source)
{
	return psprintf("SELECT s.customer_id, s.occurred_at, %s, %s, %s FROM %s", source->amount, source->refunded,
					source->has_currency && !source->converted ? "s.currency" : "NULL::text", source->from);
}

/*
 * Rows in
 */

static pg_noinline void
check_currency(Catcher *c, const text *currency)
{
	if (c->currency != NULL)
		cdp_purchase_refuse_currency(c->currency, c->currency_len, VARDATA_ANY(currency), VARSIZE_ANY_EXHDR(currency));
	c->currency_len = VARSIZE_ANY_EXHDR(currency);
	c->currency = memcpy(MemoryContextAlloc(c->context, c->currency_len + 1), VARDATA_ANY(currency), c->currency_len);
}

static bool
catch_row(TupleTableSlot *slot, DestReceiver *self)
{
	Catcher    *c = (Catcher *) self;
	TimestampTz at;
	bool		negative;
	int128		units;

	slot_getallattrs(slot);
	if (slot->tts_isnull[CUSTOMER - 1] || slot->tts_isnull[AT - 1] || slot->tts_isnull[AMOUNT - 1])
		return true;
	if (c->has_currency)
	{
		if (slot->tts_isnull[CURRENCY - 1])
			return true;
	}
	at = DatumGetTimestampTz(slot->tts_values[AT - 1]);
	if (unlikely(TIMESTAMP_NOT_FINITE(at)))
		cdp_purchase_refuse_time();
	if (at > c->as_of)
		return true;
	units = cdp_btyd_units(PG_DETOAST_DATUM_PACKED(slot->tts_values[AMOUNT - 1]), &negative);
	if (c->has_currency)
	{
		text	   *currency = DatumGetTextPP(slot->tts_values[CURRENCY - 1]);

		if (unlikely(VARSIZE_ANY_EXHDR(currency) != c->currency_len ||
					 memcmp(VARDATA_ANY(currency), c->currency, c->currency_len) != 0))
			check_currency(c, currency);
	}
	if (c->rule == BTYD_IGNORE)
	{
		if (negative)
			return true;
	}
	else
	{
		if (negative)
			units = -units;
		if (c->has_refunded && !slot->tts_isnull[REFUNDED - 1])
		{
			bool		gives;
			int128		refunded = cdp_btyd_units(PG_DETOAST_DATUM_PACKED(slot->tts_values[REFUNDED - 1]), &gives);

			units -= gives ? -refunded : refunded;
		}
	}
	cdp_btyd_pack_add(c->pack, DatumGetInt64(slot->tts_values[CUSTOMER - 1]), at, units, !negative);
	return true;
}

/*
 * Rows out
 */

static void
put_customer(int64 customer_id, const BtydDay *days, uint32 n, TimestampTz first_at, TimestampTz last_at, void *arg)
{
	Output	   *out = arg;
	BtydSummary s;
	Datum		values[OUT_COLUMNS];
	bool		nulls[OUT_COLUMNS] = {false};

	if (!cdp_btyd_summarise(days, n, out->rule, out->as_of_day, out->unit, &s))
		return;
	values[0] = Int64GetDatum(customer_id);
	values[1] = Int64GetDatum(s.x);
	values[2] = Float8GetDatum(s.t_x);
	values[3] = Float8GetDatum(s.t_cal);
	values[4] = Float8GetDatum(s.mean_amount);
	nulls[4] = !s.has_mean;
	values[5] = Float8GetDatum(s.log_gaps);
	values[6] = TimestampTzGetDatum(first_at);
	values[7] = TimestampTzGetDatum(last_at);
	tuplestore_putvalues(out->result->setResult, out->result->setDesc, values, nulls);
}

/* cdp.btyd_table(as_of, purchases, unit, refunds, currency) */
Datum
cdp_btyd_table(PG_FUNCTION_ARGS)
{
	Interval	week = {.day = 7};
	Catcher		c = {.pub = cdp_purchase_receiver(catch_row),.context = CurrentMemoryContext,.currency_len = -1};
	PurchaseSource source;
	Output		out;
	BtydCalendar *calendar;

	InitMaterializedSRF(fcinfo, 0);
	out.result = (ReturnSetInfo *) fcinfo->resultinfo;
	c.as_of = cdp_as_of_arg(fcinfo, 0);
	out.unit = cdp_btyd_unit(PG_ARGISNULL(2) ? &week : PG_GETARG_INTERVAL_P(2));
	out.rule = c.rule = PG_ARGISNULL(3) ? BTYD_IGNORE : cdp_btyd_rule(PG_GETARG_TEXT_PP(3));
	calendar = cdp_btyd_calendar(CurrentMemoryContext);
	out.as_of_day = cdp_btyd_day(calendar, c.as_of);
	c.pack = cdp_btyd_pack_begin(CurrentMemoryContext, c.rule);
	cdp_purchase_source(&source, fcinfo, 1, 4, c.as_of);
	c.has_refunded = source.has_refunded;
	c.has_currency = source.has_currency && !source.converted;
	cdp_purchase_source_run(&source, statement_for(&source), &c.pub);
	cdp_btyd_pack_finish(c.pack, calendar, put_customer, &out);
	return (Datum) 0;
}
