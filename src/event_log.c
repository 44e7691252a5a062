/*
 * event_log.c
 *	  Logical transaction ids: how a log is read in commit order, also after
 *	  a dump was restored into another cluster.
 */
#include "cdp.h"

#include "access/xact.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(cdp_log_xid);

void
cdp_event_init(void)
{
}

/* cdp._log_xid() -> xid8 */
Datum
cdp_log_xid(PG_FUNCTION_ARGS)
{
	PG_RETURN_FULLTRANSACTIONID(GetTopFullTransactionId());
}
