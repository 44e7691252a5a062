/*
 * value_score.c
 *	  Settings of scores, and what a merge does to them.
 *
 * The row of a customer who was merged into another goes at once, in the
 * transaction of the merge: nobody may meet him in cdp.customer_value.  The
 * row of the winner is that of the last run until the next one; who cannot
 * wait asks cdp.value_of().
 *
 * Page: doc/value_score.md.  Tests: test/sql/value_score.sql.
 */
#include "value_score.h"

#include "catalog/pg_type.h"
#include "utils/guc.h"

/* read in SQL, with current_setting() */
static double clv_discount;
static double clv_margin;
static double churn_threshold;

void
cdp_value_score_init(void)
{
	DefineCustomRealVariable("cdp.clv_discount",
							 "Interest by which money of the next 12 months is discounted in customer_value.clv, per year.",
							 NULL, &clv_discount, 0.1, 0, 10, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomRealVariable("cdp.clv_margin",
							 "Share of a purchase that counts in customer_value.clv.",
							 NULL, &clv_margin, 1, 0, 1000, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomRealVariable("cdp.churn_threshold",
							 "Churn score from which on a customer is at risk: crossing it is the event Churn Risk Raised.",
							 NULL, &churn_threshold, 0.7, 0, 1, PGC_USERSET, 0, NULL, NULL, NULL);
}

void
cdp_value_customers_changed(int64 winner, int64 loser, const char *action)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8OID};
	Datum		args[1] = {Int64GetDatum(loser)};

	if (strcmp(action, "merge") != 0)
		return;
	if (SPI_execute_plan(cdp_plan_generic(&plan, "DELETE FROM cdp.customer_value WHERE customer_id = $1", 1, types),
						 args, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not write cdp.customer_value");
}
