/*
 * value_source.c
 *	  Where purchases come from, and with whose rights they are read.
 *
 * cdp.rfm_table and cdp.btyd_table read the same rows: the orders of the CDP
 * by One ID, or what the query of a caller returns (value_query.c), and both
 * convert money when a currency is named.  What an order is to them, and what
 * a rate, stands here alone.
 *
 * A rate is looked up by a join, where cdp.convert_amount() would ask once
 * per row.  A row that does not count, because it has a NULL or lies after
 * as_of, needs no rate.
 *
 * The orders are read as the owner of the tables, like any verb does; a
 * caller's query with his own rights, in a transaction that is read-only
 * meanwhile.  Rows are caught as they leave the plan, in a receiver of whoever
 * asked: nothing is kept on the way.
 *
 * SQL: sql/value.sql.  Tests: test/sql/value_table.sql,
 * test/sql/value_rfm.sql, test/sql/value_btyd.sql.  Page: doc/value.md.
 */
#include "value_source.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/guc.h"

PG_FUNCTION_INFO_V1(cdp_as_of);
PG_FUNCTION_INFO_V1(cdp_orders_query);

#define ORDERS \
	"SELECT coalesce(a.customer_id, o.profile_id) AS customer_id, o.ordered_at AS occurred_at, o.amount, o.refunded, o.currency" \
	" FROM cdp.sales_order o LEFT JOIN cdp.profile_alias a ON a.profile_id = o.profile_id" \
	" WHERE cdp._is_purchase(o.status)"

/* cdp.convert_amount() as a join; of two rows for one moment, one in each direction, the direct one counts */
#define RATES \
	" LEFT JOIN (SELECT currency, rate, valid_from, lead(valid_from) OVER (PARTITION BY currency ORDER BY valid_from) AS valid_to" \
	" FROM (SELECT DISTINCT ON (currency, valid_from) currency, rate, valid_from FROM (" \
	"SELECT from_currency AS currency, rate, valid_from, 1 AS way FROM cdp.currency_rate WHERE to_currency = $2" \
	" UNION ALL SELECT to_currency, 1 / rate, valid_from, 2 FROM cdp.currency_rate WHERE from_currency = $2) b" \
	" ORDER BY currency, valid_from, way) d" \
	") e ON e.currency = s.currency AND s.currency <> $2" \
	" AND s.occurred_at >= e.valid_from AND (e.valid_to IS NULL OR s.occurred_at < e.valid_to)"

/* money in currency $2 */
#define CONVERTED(column) \
	"CASE WHEN s.customer_id IS NULL OR s.occurred_at IS NULL OR s.amount IS NULL OR s.currency IS NULL THEN NULL" \
	" WHEN s.currency = $2 OR s.occurred_at > $1 THEN s." column \
	" ELSE s." column " * cdp._rfm_rate(e.rate, s.currency, $2) END"

/* The argument as_of of a function: NULL is now. */
TimestampTz
cdp_as_of_arg(FunctionCallInfo fcinfo, int n)
{
	TimestampTz as_of = PG_ARGISNULL(n) ? cdp_now_value() : PG_GETARG_TIMESTAMPTZ(n);

	if (TIMESTAMP_NOT_FINITE(as_of))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("as_of must be a finite time"),
				 errhint("Leave it out for the present moment.")));
	return as_of;
}

/* cdp._as_of(as_of) -> the same for functions in SQL */
Datum
cdp_as_of(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(cdp_as_of_arg(fcinfo, 0));
}

/*
 * The source that the arguments with these numbers name.  A query is analysed
 * here, while names in it are still the caller's.
 */
void
cdp_purchase_source(PurchaseSource *source, FunctionCallInfo fcinfo, int purchases, int currency, TimestampTz as_of)
{
	const char *rows = ORDERS;

	source->orders = source->has_refunded = source->has_currency = PG_ARGISNULL(purchases);
	if (!source->orders)
		rows = cdp_purchases_source(text_to_cstring(PG_GETARG_TEXT_PP(purchases)), &source->has_currency);
	source->converted = !PG_ARGISNULL(currency);
	source->currency = source->converted ? PG_GETARG_DATUM(currency) : (Datum) 0;
	source->as_of = as_of;
	if (source->converted && !source->has_currency)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query returns no currency"),
				 errhint("Add it as fourth column, or leave out the argument currency.")));
	source->from = psprintf("(%s) s%s", rows, source->converted ? RATES : "");
	source->amount = source->converted ? CONVERTED("amount") : "s.amount";
	source->refunded = !source->has_refunded ? "NULL::numeric" : source->converted ? CONVERTED("refunded") : "s.refunded";
}

/* cdp._orders_query() -> text: the source where no query is given */
Datum
cdp_orders_query(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(ORDERS));
}

static void
receiver_startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
receiver_nothing(DestReceiver *self)
{
}

/* The first field of a struct that catches rows: receive gets each of them. */
DestReceiver
cdp_purchase_receiver(PurchaseReceiver receive)
{
	DestReceiver receiver = {.receiveSlot = receive,.rStartup = receiver_startup,.rShutdown = receiver_nothing,
	.rDestroy = receiver_nothing,.mydest = DestTransientRel};

	return receiver;
}

static void
run_statement(const PurchaseSource *source, const char *sql, DestReceiver *receiver)
{
	ParamListInfo params = makeParamList(2);
	SPIExecuteOptions options = {.params = params,.read_only = true,.dest = receiver};
	int			rc;

	params->params[0] = (ParamExternData) {.value = TimestampTzGetDatum(source->as_of),.pflags = PARAM_FLAG_CONST,.ptype = TIMESTAMPTZOID};
	params->params[1] = (ParamExternData) {.value = source->currency,.isnull = !source->converted,.pflags = PARAM_FLAG_CONST,.ptype = TEXTOID};
	rc = SPI_execute_extended(sql, &options);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "statement for purchases failed: %s", SPI_result_code_string(rc));
}

/* Runs a statement over the source; its rows go to receiver. */
void
cdp_purchase_source_run(const PurchaseSource *source, const char *sql, DestReceiver *receiver)
{
	CdpVerb		verb;
	int			guc_level;

	if (source->orders)
	{
		cdp_begin_read(&verb);
		run_statement(source, sql, receiver);
		cdp_end(&verb);
		return;
	}
	cdp_check_version();
	cdp_read_only_begin();
	guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	run_statement(source, sql, receiver);
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	AtEOXact_GUC(false, guc_level);
	cdp_read_only_end();
}
