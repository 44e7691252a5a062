/*
 * event_log.h
 *	  Logs with logical transaction ids, read in the order of commits.
 *
 * A log is an append-only table with a column xid (default cdp._log_xid())
 * and an id; table cdp.log_table names them.  What a consumer has seen is a
 * snapshot, not a number: see event_log_consumer.c.
 */
#ifndef CDP_EVENT_LOG_H
#define CDP_EVENT_LOG_H

#include "cdp.h"

/* a pg_snapshot in logical ids: finished below xmin, unstarted from xmax on */
typedef struct LogSnapshot
{
	uint64		xmin;
	uint64		xmax;
	int			nxip;
	uint64	   *xip;			/* in progress, ascending */
} LogSnapshot;

/* what is added to this cluster's transaction ids; raises it when it must */
extern int64 cdp_log_offset(void);

/*
 * The active snapshot in logical ids.  The caller's own transaction counts
 * as in progress: what it writes is for the next pass.
 */
extern LogSnapshot *cdp_log_snapshot_take(void);

extern LogSnapshot *cdp_log_snapshot_parse(const char *text);
extern char *cdp_log_snapshot_text(const LogSnapshot *snapshot);

/* had the transaction ended when the snapshot was taken? */
extern bool cdp_log_snapshot_sees(const LogSnapshot *snapshot, uint64 xid);

#endif							/* CDP_EVENT_LOG_H */
