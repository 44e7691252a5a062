/*
 * value_source.h
 *	  Where purchases come from: the orders of the CDP, or a query of the
 *	  caller, in one currency when he names one.
 *
 * Who reads purchases writes one statement around the parts that he gets:
 *
 *		SELECT s.customer_id, s.occurred_at, <amount>, <refunded> FROM <from>
 *
 * with parameters $1 as_of and $2 currency, and has it run by
 * cdp_purchase_source_run, which knows whose rights it takes.
 */
#ifndef CDP_VALUE_SOURCE_H
#define CDP_VALUE_SOURCE_H

#include "value.h"

#include "tcop/dest.h"

typedef struct PurchaseSource
{
	const char *from;			/* FROM item s: customer_id, occurred_at and what the parts name */
	const char *amount;			/* money of a row, in the wanted currency */
	const char *refunded;		/* what was paid back of it, a NULL where the source does not know */
	bool		orders;			/* of the CDP, read with the rights of the owner of the tables */
	bool		has_refunded;
	bool		has_currency;	/* s has a column currency */
	bool		converted;		/* to one currency; else all rows must be in one */
	TimestampTz as_of;			/* $1 */
	Datum		currency;		/* $2, when converted */
} PurchaseSource;

typedef bool (*PurchaseReceiver) (TupleTableSlot *slot, DestReceiver *self);

extern TimestampTz cdp_as_of_arg(FunctionCallInfo fcinfo, int n);
extern void cdp_purchase_source(PurchaseSource *source, FunctionCallInfo fcinfo, int purchases, int currency, TimestampTz as_of);
extern DestReceiver cdp_purchase_receiver(PurchaseReceiver receive);
extern void cdp_purchase_source_run(const PurchaseSource *source, const char *sql, DestReceiver *receiver);

#endif							/* CDP_VALUE_SOURCE_H */
