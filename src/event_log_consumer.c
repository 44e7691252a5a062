/*
 * event_log_consumer.c
 *	  Batches of a log in the order of commits, each row exactly once.
 *
 * A serial number tells nothing about commits: the row with the smaller
 * number may become visible an hour after the one with the larger.  A
 * consumer that remembers numbers loses it; one that waits for the oldest
 * running transaction stands still for that hour.  So a consumer remembers
 * snapshots (table cdp.event_consumer):
 *
 *		done	everything that this snapshot sees has been delivered
 *		target	what the pass under way will have delivered; NULL: none is
 *		(last_xid, last_id)		how far the pass has come
 *
 *		 xid  ----|======x1=====x2====|----------y1---------|--->
 *				  seen by done        xmax(done)            xmax(target)
 *
 * The rows of a pass are those that target sees and done does not: of the
 * transactions x1, x2 that done saw running, those that have ended by now,
 * and of all later ones those that are not running still (y1).  These are
 * ranges of xid, in ascending order; within them the index (xid, id) gives
 * the rows in order, and a batch goes on where the last one stopped.  Rows
 * of a running transaction are not even stepped over, they lie between the
 * ranges.  When the ranges are exhausted, done := target.
 *
 * The caller's own transaction counts as running in a target it takes, so a
 * batch never holds what the caller wrote; the next pass does.
 *
 * The position moves in the caller's transaction, under the row lock.  A
 * target is never newer than the snapshot that reads the rows: each
 * statement below takes a snapshot of its own, and a REPEATABLE READ caller
 * that meets a position newer than his snapshot gets 40001 from the lock.
 *
 * SQL: sql/event_log.sql.  Tests: test/specs/event_log_TOPIC.spec,
 * test/t/NNN_event_log_TOPIC.pl.  Page: doc/event_log.md.
 */
#include "event_log.h"

#include "access/transam.h"
#include "catalog/pg_type_d.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

/* plans of the logs that this session has read */
#define MAX_PLANS	8

typedef struct LogPlan
{
	Oid			relid;			/* InvalidOid: free */
	bool		with_rows;
	SPIPlanPtr	plan;
} LogPlan;

static LogPlan log_plans[MAX_PLANS];
static int	next_plan = 0;

/* one row of event_consumer while a batch is made */
typedef struct LogConsumer
{
	const char *name;
	char	   *log;			/* table in schema cdp */
	char	   *id_column;
	LogSnapshot *done;
	LogSnapshot *target;		/* or NULL */
	uint64		last_xid;
	int64		last_id;
} LogConsumer;

/* half-open ranges of xid, each begins after (lo, lo_id) */
typedef struct LogRanges
{
	int			n;
	Datum	   *lo;
	Datum	   *lo_id;
	Datum	   *hi;
} LogRanges;

PG_FUNCTION_INFO_V1(cdp_next_log);
PG_FUNCTION_INFO_V1(cdp_next_rows);

/* append [from, to), joined with the range before when nothing lies between */
static void
add_range(LogRanges *r, uint64 from, uint64 to, const LogConsumer *c)
{
	uint64		lo = from - 1;
	int64		lo_id = PG_INT64_MAX;

	if (from >= to || to <= c->last_xid)
		return;
	if (from <= c->last_xid)
	{
		lo = c->last_xid;
		lo_id = c->last_id;
	}
	else if (r->n > 0 && DatumGetUInt64(r->hi[r->n - 1]) == from)
	{
		r->hi[r->n - 1] = UInt64GetDatum(to);
		return;
	}
	r->lo[r->n] = UInt64GetDatum(lo);
	r->lo_id[r->n] = Int64GetDatum(lo_id);
	r->hi[r->n] = UInt64GetDatum(to);
	r->n++;
}

/* what is left of the pass, ascending */
static void
build_ranges(LogRanges *r, const LogConsumer *c)
{
	const LogSnapshot *done = c->done;
	const LogSnapshot *target = c->target;
	int			room = done->nxip + target->nxip + 1;
	uint64		from = done->xmax;

	r->n = 0;
	r->lo = palloc(sizeof(Datum) * room);
	r->lo_id = palloc(sizeof(Datum) * room);
	r->hi = palloc(sizeof(Datum) * room);
	for (int i = 0; i < done->nxip; i++)
	{
		if (cdp_log_snapshot_sees(target, done->xip[i]))
			add_range(r, done->xip[i], done->xip[i] + 1, c);
	}
	for (int i = 0; i < target->nxip; i++)
	{
		if (target->xip[i] < from)
			continue;
		add_range(r, from, target->xip[i], c);
		from = target->xip[i] + 1;
	}
	add_range(r, from, target->xmax, c);
}

/*
 * One statement reads all ranges in their order; per range it walks the
 * indexes (xid, id) of all partitions side by side.  The plan must not
 * depend on statistics or on the values, so it is generic and planned where
 * nothing but index scans is on offer.
 */
static SPIPlanPtr
log_plan(const LogConsumer *c, Oid relid, bool with_rows)
{
	Oid			types[4] = {XID8ARRAYOID, INT8ARRAYOID, XID8ARRAYOID, INT8OID};
	const char *log = quote_identifier(c->log);
	const char *id = quote_identifier(c->id_column);
	StringInfoData sql;
	LogPlan    *slot;
	SPIPlanPtr	plan;

	for (int i = 0; i < MAX_PLANS; i++)
	{
		if (log_plans[i].relid == relid && log_plans[i].with_rows == with_rows)
			return log_plans[i].plan;
	}
	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "SELECT p.xid, p.id%s"
					 " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS r(lo, lo_id, hi),"
					 " LATERAL (SELECT l.xid, l.%s AS id%s FROM cdp.%s AS l"
					 " WHERE (l.xid, l.%s) > (r.lo, r.lo_id) AND l.xid < r.hi"
					 " ORDER BY l.xid, l.%s LIMIT $4) AS p LIMIT $4",
					 with_rows ? ", p.entry" : "",
					 id, with_rows ? ", l AS entry" : "", log, id, id);
	plan = SPI_prepare_cursor(sql.data, 4, types, CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_keepplan failed");

	slot = &log_plans[next_plan];
	next_plan = (next_plan + 1) % MAX_PLANS;
	if (OidIsValid(slot->relid))
	{
		slot->relid = InvalidOid;
		SPI_freeplan(slot->plan);
	}
	slot->with_rows = with_rows;
	slot->plan = plan;
	slot->relid = relid;
	return plan;
}

/* Read up to n rows of the pass and move (last_xid, last_id) behind them. */
static uint64
read_batch(LogConsumer *c, Oid relid, int64 n, bool with_rows)
{
	static const char *const off[] = {"enable_seqscan", "enable_bitmapscan", "enable_sort", "enable_material"};
	LogRanges	ranges;
	Datum		values[4];
	int			guc_level;
	uint64		found;

	build_ranges(&ranges, c);
	if (ranges.n == 0)
		return 0;
	values[0] = PointerGetDatum(construct_array(ranges.lo, ranges.n, XID8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[1] = PointerGetDatum(construct_array(ranges.lo_id, ranges.n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[2] = PointerGetDatum(construct_array(ranges.hi, ranges.n, XID8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[3] = Int64GetDatum(n);

	guc_level = NewGUCNestLevel();
	for (int i = 0; i < lengthof(off); i++)
		(void) set_config_option(off[i], "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("max_parallel_workers_per_gather", "0",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_execute_plan(log_plan(c, relid, with_rows), values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read log \"%s\"", c->log);
	AtEOXact_GUC(true, guc_level);

	found = SPI_processed;
	for (uint64 i = 0; i < found; i++)
	{
		bool		isnull;
		uint64		xid = DatumGetUInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		int64		id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));

		/* the order is what makes (last_xid, last_id) mean anything */
		if (xid < c->last_xid || (xid == c->last_xid && id <= c->last_id))
			elog(ERROR, "log \"%s\" was not read in order", c->log);
		c->last_xid = xid;
		c->last_id = id;
	}
	return found;
}

/*
 * Lock the consumer's row and read it.  False: another session holds it, and
 * the caller does not want to wait.
 */
static bool
lock_consumer(LogConsumer *c, bool wait)
{
	static SPIPlanPtr wait_plan = NULL;
	static SPIPlanPtr skip_plan = NULL;
	static SPIPlanPtr exists_plan = NULL;
	Oid			types[1] = {TEXTOID};
	Datum		values[1];
	HeapTuple	row;
	TupleDesc	desc;
	char	   *target;
	bool		isnull;
	Datum		d;

#define CONSUMER_SQL \
	"SELECT c.log, l.id_column, c.done, c.target, c.last_xid, c.last_id" \
	" FROM cdp.event_consumer c LEFT JOIN cdp.log_table l USING (log) WHERE c.name = $1 FOR UPDATE OF c"

	values[0] = CStringGetTextDatum(c->name);
	if (SPI_execute_plan(wait ? cdp_plan(&wait_plan, CONSUMER_SQL, 1, types)
						 : cdp_plan(&skip_plan, CONSUMER_SQL " SKIP LOCKED", 1, types),
						 values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.event_consumer");
	if (SPI_processed == 0)
	{
		if (!wait &&
			SPI_execute_plan(cdp_plan(&exists_plan, "SELECT FROM cdp.event_consumer WHERE name = $1", 1, types),
							 values, NULL, false, 0) == SPI_OK_SELECT && SPI_processed > 0)
			return false;
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no consumer \"%s\"", c->name),
				 errhint("cdp._create_consumer(name, log, from_start) makes one.")));
	}
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	c->log = SPI_getvalue(row, desc, 1);
	c->id_column = SPI_getvalue(row, desc, 2);
	if (c->id_column == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("log \"%s\" of consumer \"%s\" is not in cdp.log_table", c->log, c->name),
				 errhint("CALL cdp.migrate(); enters the logs of the installed modules.")));
	c->done = cdp_log_snapshot_parse(SPI_getvalue(row, desc, 3));
	target = SPI_getvalue(row, desc, 4);
	c->target = target ? cdp_log_snapshot_parse(target) : NULL;
	d = SPI_getbinval(row, desc, 5, &isnull);
	c->last_xid = isnull ? 0 : DatumGetUInt64(d);
	d = SPI_getbinval(row, desc, 6, &isnull);
	c->last_id = isnull ? 0 : DatumGetInt64(d);
	return true;
}

static void
store_consumer(const LogConsumer *c)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[5] = {TEXTOID, TEXTOID, TEXTOID, XID8OID, INT8OID};
	Datum		values[5];
	char		nulls[5] = {' ', ' ', ' ', ' ', ' '};

	values[0] = CStringGetTextDatum(c->name);
	values[1] = CStringGetTextDatum(cdp_log_snapshot_text(c->done));
	if (c->target)
	{
		values[2] = CStringGetTextDatum(cdp_log_snapshot_text(c->target));
		values[3] = UInt64GetDatum(c->last_xid);
		values[4] = Int64GetDatum(c->last_id);
	}
	else
	{
		values[2] = values[3] = values[4] = (Datum) 0;
		nulls[2] = nulls[3] = nulls[4] = 'n';
	}
	if (SPI_execute_plan(cdp_plan(&plan,
								  "UPDATE cdp.event_consumer SET done = $2::pg_catalog.pg_snapshot,"
								  " target = $3::pg_catalog.pg_snapshot, last_xid = $4, last_id = $5 WHERE name = $1",
								  5, types),
						 values, nulls, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not write cdp.event_consumer");
}

static void
begin_pass(LogConsumer *c)
{
	/* newer than the lock on the row, so not older than done */
	PushActiveSnapshot(GetTransactionSnapshot());
	c->target = cdp_log_snapshot_take();
	PopActiveSnapshot();
	c->last_xid = 0;
	c->last_id = 0;
	if (c->target->xmax < c->done->xmax)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("consumer \"%s\" is ahead of the transaction ids of this cluster", c->name),
				 errhint("They went backwards, or the log was restored after it had been written to. CALL cdp.migrate(); mends it.")));
}

/*
 * The next batch; a batch belongs to one pass.  An empty one means that
 * there was nothing to read when the call began.
 */
static void
next_batch(FunctionCallInfo fcinfo, bool wait, bool with_rows)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	LogConsumer c;
	CdpVerb		verb;
	Oid			relid;
	int32		n;
	uint64		found = 0;
	SPITupleTable *rows = NULL;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("consumer and number of rows must not be null"),
				 errhint("cdp.event_consumer lists the consumers.")));
	n = PG_GETARG_INT32(1);
	if (n < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a batch must hold at least one row"),
				 errhint("Usual sizes are 100 to 10000.")));
	InitMaterializedSRF(fcinfo, 0);
	c.name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	cdp_begin_write(&verb, "a consumer of a log");
	if (lock_consumer(&c, wait))
	{
		relid = cdp_relation(c.log);
		if (with_rows && get_fn_expr_argtype(fcinfo->flinfo, 2) != get_rel_type_id(relid))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("consumer \"%s\" reads log \"%s\"", c.name, c.log),
					 errhint("Ask for rows of that table: NULL::cdp.%s.", c.log)));
		for (;;)
		{
			bool		fresh = (c.target == NULL);

			if (fresh)
				begin_pass(&c);
			found = read_batch(&c, relid, n, with_rows);
			rows = SPI_tuptable;
			if (found == n)
				break;			/* the pass may have more */
			c.done = c.target;
			c.target = NULL;
			if (found > 0 || fresh)
				break;
		}
		for (uint64 i = 0; i < found; i++)
		{
			bool		isnull;

			if (with_rows)
			{
				HeapTupleHeader row = DatumGetHeapTupleHeader(SPI_getbinval(rows->vals[i], rows->tupdesc, 3, &isnull));
				HeapTupleData tuple;

				tuple.t_len = HeapTupleHeaderGetDatumLength(row);
				ItemPointerSetInvalid(&tuple.t_self);
				tuple.t_tableOid = InvalidOid;
				tuple.t_data = row;
				tuplestore_puttuple(rsinfo->setResult, &tuple);
			}
			else
				tuplestore_puttuple(rsinfo->setResult, rows->vals[i]);
		}
		store_consumer(&c);
	}
	cdp_end(&verb);
}

/* cdp._next_log(consumer text, n int, wait boolean) -> setof (xid xid8, id bigint) */
Datum
cdp_next_log(PG_FUNCTION_ARGS)
{
	next_batch(fcinfo, PG_ARGISNULL(2) || PG_GETARG_BOOL(2), false);
	return (Datum) 0;
}

/* cdp._next_rows(consumer text, n int, row_type anyelement, wait boolean) -> setof anyelement */
Datum
cdp_next_rows(PG_FUNCTION_ARGS)
{
	next_batch(fcinfo, PG_ARGISNULL(3) || PG_GETARG_BOOL(3), true);
	return (Datum) 0;
}
