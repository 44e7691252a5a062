/*
 * value_query.c
 *	  A user's query as a source of purchases, taken apart before it runs.
 *
 * cdp.rfm_table('SELECT buyer, at, total FROM shop.orders') has two wishes
 * that contradict each other: the names in the text are the caller's, to be
 * found in his search_path; the statement around it is ours and must find
 * nothing but pg_catalog and cdp.  So the text is analysed under the
 * caller's path, checked as a parse tree, and printed again under ours, by
 * the code that prints views, which writes every name with its schema:
 *
 *		SELECT q.c1::bigint AS customer_id, q.c2 AS occurred_at, ...
 *		FROM (SELECT orders.buyer, ... FROM shop.orders) q(c1, c2, c3)
 *
 * The planner then sees one statement and may run it in parallel, and what
 * is wrong with the query is said before a row is read.
 *
 * SQL: sql/value.sql.  Tests: test/sql/value_table.sql.  Page: doc/value.md.
 */
#include "user_query.h"
#include "value.h"

#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

#define MAX_COLUMNS	4

PG_FUNCTION_INFO_V1(cdp_purchases_query);

#define SHAPE_HINT	"The query returns customer_id bigint, occurred_at timestamptz, amount numeric and, if you like, currency text, in this order."

/* The expression that turns column number n of the query into what we want. */
static const char *
column_as(int n, Oid type)
{
	Oid			base = getBaseType(type);

	switch (n)
	{
		case 1:
			if (base == INT2OID || base == INT4OID || base == INT8OID)
				return "q.c1::pg_catalog.int8 AS customer_id";
			break;
		case 2:
			if (base == TIMESTAMPTZOID)
				return "q.c2::pg_catalog.timestamptz AS occurred_at";
			if (base == DATEOID || base == TIMESTAMPOID)
				return "cdp._local_to_utc(q.c2::pg_catalog.timestamp) AS occurred_at";
			break;
		case 3:
			if (base == INT2OID || base == INT4OID || base == INT8OID || base == NUMERICOID ||
				base == FLOAT4OID || base == FLOAT8OID)
				return "q.c3::pg_catalog.numeric AS amount";
			break;
		case 4:
			if (base == TEXTOID || base == VARCHAROID || base == BPCHAROID)
				return "q.c4::pg_catalog.text AS currency";
			break;
	}
	return NULL;
}

char *
cdp_purchases_source(const char *sql, bool *has_currency)
{
	static const char *const wanted[MAX_COLUMNS] = {"an integer", "a date or a timestamp", "a number", "text"};
	static const char *const names[MAX_COLUMNS] = {"customer_id", "occurred_at", "amount", "currency"};
	Query	   *query = cdp_user_query(sql, "purchases", 0, SHAPE_HINT);
	StringInfoData buf;
	int			ncolumns = 0;
	int			guc_level;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "SELECT ");
	foreach(lc, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		Oid			type = exprType((Node *) entry->expr);
		const char *column;

		if (entry->resjunk)
			continue;
		if (++ncolumns > MAX_COLUMNS)
			continue;
		column = column_as(ncolumns, type);
		if (column == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column %d of purchases (%s) must be %s, not %s", ncolumns, names[ncolumns - 1],
							wanted[ncolumns - 1], format_type_be(type)),
					 errhint(SHAPE_HINT)));
		appendStringInfo(&buf, "%s%s", ncolumns > 1 ? ", " : "", column);
	}
	if (ncolumns < MAX_COLUMNS - 1 || ncolumns > MAX_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("purchases has %d columns instead of 3 or 4", ncolumns),
				 errhint(SHAPE_HINT)));

	guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("extra_float_digits", "3",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	appendStringInfo(&buf, " FROM (%s) q(c1, c2, c3%s)", pg_get_querydef(query, false),
					 ncolumns == MAX_COLUMNS ? ", c4" : "");
	AtEOXact_GUC(true, guc_level);
	*has_currency = ncolumns == MAX_COLUMNS;
	return buf.data;
}

/* cdp._purchases_query(query text) -> text: checked, and independent of search_path */
Datum
cdp_purchases_query(PG_FUNCTION_ARGS)
{
	bool		has_currency;

	PG_RETURN_TEXT_P(cstring_to_text(cdp_purchases_source(text_to_cstring(PG_GETARG_TEXT_PP(0)), &has_currency)));
}
