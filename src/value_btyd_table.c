/*
 * value_btyd_table.c
 *	  cdp.btyd_table: every customer as the models of repeat buying want him.
 *
 *		SELECT * FROM cdp.btyd_table('2026-01-01');
 *
 * The source, the orders of the CDP or the query of a caller, is run as a
 * statement whose rows are caught as they leave the plan, packed
 * (value_btyd_pack.c), and at the end turned into one row per customer.  The
 * orders are read with the rights of the owner of the tables, like any verb
 * does; a caller's query with his own, in a transaction that is read-only
 * meanwhile.
 *
 * SQL: sql/value_btyd.sql.  Tests: test/sql/value_btyd.sql,
 * test/pgtap/value_btyd.sql.  Page: doc/value_btyd.md.
 */
#include "value_btyd.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cdp_btyd_table);

extern Datum cdp_purchases_query(PG_FUNCTION_ARGS);

#define OUT_COLUMNS		8
#define MAX_CURRENCY	64

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
	int			currency_len;	/* -1: none yet */
	char		currency[MAX_CURRENCY];
} Catcher;

typedef struct Output
{
	ReturnSetInfo *result;
	BtydRule	rule;
	int32		as_of_day;
	int32		unit;
} Output;

/*
 * Statement
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
statement_for(const char *source, bool has_refunded, bool has_currency, bool convert)
{
	if (convert && !has_currency)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query returns no currency"),
				 errhint("Add it as fourth column, or leave out the argument currency.")));
	return psprintf("SELECT s.customer_id, s.occurred_at, %s, %s, %s FROM (%s) s%s",
					convert ? CONVERTED("amount") : "s.amount",
					!has_refunded ? "NULL::numeric" : convert ? CONVERTED("refunded") : "s.refunded",
					convert || !has_currency ? "NULL::text" : "s.currency",
					source, convert ? RATES : "");
}

/*
 * Rows in
 */

static pg_noinline void
check_currency(Catcher *c, const text *currency)
{
	int			len = VARSIZE_ANY_EXHDR(currency);

	if (c->currency_len < 0 && len <= MAX_CURRENCY)
	{
		c->currency_len = len;
		memcpy(c->currency, VARDATA_ANY(currency), len);
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("purchases are in more than one currency, %.*s and %.*s among them", Max(c->currency_len, 0), c->currency,
					pg_mbcliplen(VARDATA_ANY(currency), len, MAX_CURRENCY), VARDATA_ANY(currency)),
			 errhint("Name the currency of the result, currency => 'CNY', and give the rates in cdp.currency_rate; or select one currency in the query.")));
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
		cdp_btyd_refuse_time();
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

static void
catch_startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
catch_nothing(DestReceiver *self)
{
}

static void
run_statement(Catcher *c, const char *sql, Datum currency, bool convert)
{
	ParamListInfo params = makeParamList(2);
	SPIExecuteOptions options = {.params = params,.read_only = true,.dest = &c->pub};
	int			rc;

	params->params[0] = (ParamExternData) {.value = TimestampTzGetDatum(c->as_of),.pflags = PARAM_FLAG_CONST,.ptype = TIMESTAMPTZOID};
	params->params[1] = (ParamExternData) {.value = currency,.isnull = !convert,.pflags = PARAM_FLAG_CONST,.ptype = TEXTOID};
	rc = SPI_execute_extended(sql, &options);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "statement for purchases failed: %s", SPI_result_code_string(rc));
}

/* The caller's query, with his rights and without any right to write. */
static void
run_query(Catcher *c, const char *sql, Datum currency, bool convert)
{
	int			guc_level;

	cdp_check_version();
	cdp_read_only_begin();
	guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	run_statement(c, sql, currency, convert);
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	AtEOXact_GUC(false, guc_level);
	cdp_read_only_end();
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
	Catcher		c = {.pub = {.receiveSlot = catch_row,.rStartup = catch_startup,.rShutdown = catch_nothing,
			.rDestroy = catch_nothing,.mydest = DestTransientRel},.currency_len = -1};
	Output		out;
	BtydCalendar *calendar;
	bool		convert = !PG_ARGISNULL(4);
	Datum		currency = convert ? PG_GETARG_DATUM(4) : (Datum) 0;
	CdpVerb		verb;

	InitMaterializedSRF(fcinfo, 0);
	out.result = (ReturnSetInfo *) fcinfo->resultinfo;
	c.as_of = PG_ARGISNULL(0) ? cdp_now_value() : PG_GETARG_TIMESTAMPTZ(0);
	if (TIMESTAMP_NOT_FINITE(c.as_of))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("as_of must be a finite time"),
				 errhint("Leave it out for now.")));
	out.unit = cdp_btyd_unit(PG_ARGISNULL(2) ? &week : PG_GETARG_INTERVAL_P(2));
	out.rule = c.rule = PG_ARGISNULL(3) ? BTYD_IGNORE : cdp_btyd_rule(PG_GETARG_TEXT_PP(3));
	calendar = cdp_btyd_calendar(CurrentMemoryContext);
	out.as_of_day = cdp_btyd_day(calendar, c.as_of);
	c.pack = cdp_btyd_pack_begin(CurrentMemoryContext, c.rule);

	if (PG_ARGISNULL(1))
	{
		char	   *sql = statement_for(ORDERS, true, true, convert);

		c.has_refunded = true;
		c.has_currency = !convert;
		cdp_begin_read(&verb);
		run_statement(&c, sql, currency, convert);
		cdp_end(&verb);
	}
	else
	{
		/* names in the query are the caller's: it is read before anything is pinned */
		static const char four[] = " q(c1, c2, c3, c4)";
		char	   *source = text_to_cstring(DatumGetTextPP(DirectFunctionCall1(cdp_purchases_query, PG_GETARG_DATUM(1))));
		Size		len = strlen(source);
		bool		has_currency = len > strlen(four) && strcmp(source + len - strlen(four), four) == 0;
		char	   *sql = statement_for(source, false, has_currency, convert);

		c.has_currency = has_currency && !convert;
		run_query(&c, sql, currency, convert);
	}
	cdp_btyd_pack_finish(c.pack, calendar, put_customer, &out);
	return (Datum) 0;
}
