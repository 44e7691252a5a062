/*
 * event_log.c
 *	  Logical transaction ids: how a log is read in commit order, also after
 *	  a dump was restored into another cluster.
 *
 * Consumers find new rows by the transaction that wrote them.  The ids of
 * transactions belong to a cluster: after dump and restore the old rows may
 * carry larger ids than everything that is written from now on, and every
 * consumer would wait for ever, without an error.  So the column xid holds
 *
 *		logical xid = top-level full xid + log_epoch.xid_offset
 *
 * and the one row of cdp.log_epoch remembers the cluster it was right for:
 *
 *		cluster A            dump, restore          cluster B
 *		xid 900..1000  -------------------------->  xid 500..
 *		offset 0, stored 900..1000                  offset 1000, writes 1500..
 *
 * The first transaction that writes in a cluster with another system
 * identifier raises the offset to the largest id that is stored anywhere, in
 * the logs and in the positions of consumers.  Since a transaction id is at
 * least 3, whatever is written afterwards is larger, also by transactions
 * that are older than the raising one.  The row lock makes the others wait
 * for its commit; when it rolls back, the next one raises.
 *
 * cdp._log_xid() is the default of a column, so it runs once per row: the
 * offset is cached.  The cache is right until the relation cache says that
 * log_epoch changed (its trigger does that, so does DROP TABLE), or until
 * a transaction of this very session, which may have raised it, rolls back.
 *
 * SQL: sql/event_log.sql.  Tests: test/sql/event_log.sql,
 * test/t/NNN_event_log_TOPIC.pl.  Page: doc/event_log.md.
 */
#include "event_log.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

static bool offset_valid = false;
static uint64 offset_epoch;		/* cdp_rules_epoch when it was read */
static int64 offset_cached;

/* this transaction changed log_epoch: its end decides about the cache */
static bool raised_here = false;

PG_FUNCTION_INFO_V1(cdp_log_xid);
PG_FUNCTION_INFO_V1(cdp_log_snapshot);
PG_FUNCTION_INFO_V1(cdp_repair_log_epoch);

static void
log_xact_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_ABORT:
			/* it may have made the tables; reading one row again is cheap */
			offset_valid = false;
			raised_here = false;
			break;
		case XACT_EVENT_PREPARE:
			/* it may still roll back */
			if (raised_here)
				offset_valid = false;
			raised_here = false;
			break;
		case XACT_EVENT_COMMIT:
			raised_here = false;
			break;
		default:
			break;
	}
}

static void
log_subxact_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (raised_here && event == SUBXACT_EVENT_ABORT_SUB)
		offset_valid = false;
}

void
cdp_event_log_init(void)
{
	RegisterXactCallback(log_xact_end, NULL);
	RegisterSubXactCallback(log_subxact_end, NULL);
}

/*
 * Read the one row of log_epoch without SPI, rights or a caller's snapshot:
 * what counts is what is committed now, or written by this transaction.
 * False when there is no row.
 */
static bool
read_epoch(Oid relid, char **system_identifier, int64 *offset)
{
	Relation	rel = table_open(relid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	if (found)
	{
		bool		isnull;
		Datum		d;

		d = slot_getattr(slot, get_attnum(relid, "system_identifier"), &isnull);
		*system_identifier = TextDatumGetCString(d);
		d = slot_getattr(slot, get_attnum(relid, "xid_offset"), &isnull);
		*offset = DatumGetInt64(d);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return found;
}

/* one number of a query, -1 for no row or NULL */
static int64
query_bigint(const char *sql)
{
	bool		isnull = true;
	Datum		d = (Datum) 0;

	if (SPI_execute(sql, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "query failed: %s", sql);
	if (SPI_processed == 1)
		d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? -1 : DatumGetInt64(d);
}

/*
 * The largest logical id stored anywhere.  The names of the logs come from
 * log_table, each has an index that begins with xid.
 */
static int64
largest_stored(bool lock_logs)
{
	StringInfoData sql;
	SPITupleTable *logs;
	uint64		nlogs;
	int64		largest;

	largest = query_bigint("SELECT max(greatest(pg_snapshot_xmax(done), pg_snapshot_xmax(target), last_xid)::text::bigint)"
						   " FROM cdp.event_consumer");
	if (SPI_execute("SELECT pg_catalog.quote_ident(log) FROM cdp.log_table"
					" WHERE pg_catalog.to_regclass('cdp.' || pg_catalog.quote_ident(log)) IS NOT NULL ORDER BY log",
					false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.log_table");
	logs = SPI_tuptable;
	nlogs = SPI_processed;
	initStringInfo(&sql);
	for (uint64 i = 0; i < nlogs; i++)
	{
		char	   *log = SPI_getvalue(logs->vals[i], logs->tupdesc, 1);

		if (lock_logs)
		{
			resetStringInfo(&sql);
			appendStringInfo(&sql, "LOCK TABLE ONLY cdp.%s IN SHARE ROW EXCLUSIVE MODE", log);
			if (SPI_execute(sql.data, false, 0) != SPI_OK_UTILITY)
				elog(ERROR, "could not lock a log");
		}
		resetStringInfo(&sql);
		appendStringInfo(&sql, "SELECT xid::text::bigint FROM cdp.%s ORDER BY xid DESC LIMIT 1", log);
		largest = Max(largest, query_bigint(sql.data));
	}
	return largest;
}

/*
 * Make the offset right for this cluster, once, under the lock of the row.
 * With check, raise it also when the cluster is the same but its transaction
 * ids are below what is stored: rows that came in after the first write, or
 * pg_resetwal.  Answers whether it was raised.
 *
 * Runs as the owner of the tables whatever role writes; not through
 * cdp_begin_write, since migrate() needs it before the versions agree.
 */
static bool
raise_offset(bool check)
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
	char		mine[32];
	bool		isnull;
	bool		same;
	bool		raised = false;
	int64		offset;
	int64		largest;

	PreventCommandDuringRecovery("a write to a log");
	PreventCommandIfReadOnly("a write to a log");
	PreventCommandIfParallelMode("a write to a log");
	snprintf(mine, sizeof(mine), UINT64_FORMAT, GetSystemIdentifier());

	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(cdp_owner(), sec_context |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	/* the largest id is the end of an index, whatever the planner knows */
	(void) set_config_option("enable_seqscan", "off",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");

	if (SPI_execute("SELECT system_identifier, xid_offset FROM cdp.log_epoch FOR UPDATE",
					false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.log_epoch");
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the row of cdp.log_epoch is newer than this transaction"),
				 errhint("Run the transaction again.")));
	same = strcmp(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1), mine) == 0;
	offset = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));

	if (!same || check)
	{
		largest = largest_stored(false);
		/* read after the above: everything stored is older, no snapshot ends later */
		if (same && largest > (int64) U64FromFullTransactionId(ReadNextFullTransactionId()) + offset)
		{
			/* sessions that know the old offset must not write beside us */
			largest = largest_stored(true);
			raised = true;
		}
		if (!same || raised)
		{
			Oid			types[2] = {TEXTOID, INT8OID};
			Datum		values[2];

			offset = Max(offset, largest);
			values[0] = CStringGetTextDatum(mine);
			values[1] = Int64GetDatum(offset);
			if (SPI_execute_with_args("UPDATE cdp.log_epoch SET system_identifier = $1, xid_offset = $2",
									  2, types, values, NULL, false, 0) != SPI_OK_UPDATE)
				elog(ERROR, "could not write cdp.log_epoch");
			raised = true;
			raised_here = true;
		}
	}

	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	AtEOXact_GUC(true, guc_level);
	SetUserIdAndSecContext(userid, sec_context);
	return raised;
}

int64
cdp_log_offset(void)
{
	Oid			relid;
	char	   *of_cluster;
	char		mine[32];
	int64		offset;
	uint64		epoch;

	if (likely(offset_valid && offset_epoch == cdp_rules_epoch))
		return offset_cached;

	relid = cdp_relation("log_epoch");
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the tables of customer_cdp have not been created"),
				 errhint("CALL cdp.migrate();")));
	cdp_watch_rules(relid);
	snprintf(mine, sizeof(mine), UINT64_FORMAT, GetSystemIdentifier());
	for (int tries = 0;; tries++)
	{
		/* a change that arrives while we read makes us read again next time */
		epoch = cdp_rules_epoch;
		if (!read_epoch(relid, &of_cluster, &offset))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table cdp.log_epoch has lost its row"),
					 errhint("CALL cdp.migrate();")));
		if (strcmp(of_cluster, mine) == 0)
			break;
		if (tries > 0)
			elog(ERROR, "could not adopt the log for this cluster");
		raise_offset(false);
	}
	offset_cached = offset;
	offset_epoch = epoch;
	offset_valid = true;
	return offset;
}

/*
 * cdp._log_xid() -> xid8: the id of the running top-level transaction, never
 * of a subtransaction: a snapshot lists only the former.
 */
Datum
cdp_log_xid(PG_FUNCTION_ARGS)
{
	int64		offset;

	if (!FullTransactionIdIsValid(GetTopFullTransactionIdIfAny()))
	{
		PreventCommandDuringRecovery("a write to a log");
		PreventCommandIfParallelMode("a write to a log");
	}
	offset = cdp_log_offset();
	PG_RETURN_FULLTRANSACTIONID(FullTransactionIdFromU64(
								U64FromFullTransactionId(GetTopFullTransactionId()) + offset));
}

/* cdp._repair_log_epoch() -> boolean: a step of migrate() */
Datum
cdp_repair_log_epoch(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(raise_offset(true));
}

/*
 * "xmin:xmax:xip,xip,...", the external form of pg_snapshot: its layout in
 * memory is private to the server.
 */
LogSnapshot *
cdp_log_snapshot_parse(const char *text)
{
	LogSnapshot *s = palloc0(sizeof(LogSnapshot));
	char	   *p;
	int			room = 1;

	s->xmin = strtou64(text, &p, 10);
	Assert(*p == ':');
	s->xmax = strtou64(p + 1, &p, 10);
	Assert(*p == ':');
	for (const char *c = p; *c; c++)
		room += (*c == ',');
	/* room for the caller's own */
	s->xip = palloc(sizeof(uint64) * (room + 1));
	while (*p != '\0' && p[1] != '\0')
		s->xip[s->nxip++] = strtou64(p + 1, &p, 10);
	return s;
}

char *
cdp_log_snapshot_text(const LogSnapshot *s)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfo(&out, UINT64_FORMAT ":" UINT64_FORMAT ":", s->xmin, s->xmax);
	for (int i = 0; i < s->nxip; i++)
		appendStringInfo(&out, i == 0 ? UINT64_FORMAT : "," UINT64_FORMAT, s->xip[i]);
	return out.data;
}

bool
cdp_log_snapshot_sees(const LogSnapshot *s, uint64 xid)
{
	int			lo = 0,
				hi = s->nxip;

	if (xid < s->xmin)
		return true;
	if (xid >= s->xmax)
		return false;
	while (lo < hi)
	{
		int			mid = (lo + hi) / 2;

		if (s->xip[mid] == xid)
			return false;
		if (s->xip[mid] < xid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return true;
}

LogSnapshot *
cdp_log_snapshot_take(void)
{
	int64		offset = cdp_log_offset();
	FullTransactionId own = GetTopFullTransactionIdIfAny();
	LogSnapshot *s;

	s = cdp_log_snapshot_parse(OidOutputFunctionCall(F_PG_SNAPSHOT_OUT,
													 OidFunctionCall0(F_PG_CURRENT_SNAPSHOT)));
	if (FullTransactionIdIsValid(own) && cdp_log_snapshot_sees(s, U64FromFullTransactionId(own)))
	{
		uint64		mine = U64FromFullTransactionId(own);
		int			i = s->nxip++;

		for (; i > 0 && s->xip[i - 1] > mine; i--)
			s->xip[i] = s->xip[i - 1];
		s->xip[i] = mine;
		s->xmin = Min(s->xmin, mine);
	}
	s->xmin += offset;
	s->xmax += offset;
	for (int i = 0; i < s->nxip; i++)
		s->xip[i] += offset;
	return s;
}

/* cdp._log_snapshot() -> pg_snapshot */
Datum
cdp_log_snapshot(PG_FUNCTION_ARGS)
{
	return OidInputFunctionCall(F_PG_SNAPSHOT_IN,
								cdp_log_snapshot_text(cdp_log_snapshot_take()), PG_SNAPSHOTOID, -1);
}
