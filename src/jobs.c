/*
 * jobs.c
 *	  What SQL cannot do for jobs: see whether the statement that carries a
 *	  run is still being executed, and keep a failure that rolls back.
 *
 * A run is a row of cdp.job_run and belongs to one statement of one session:
 *
 *		(pid, backend_start, statement_start)
 *
 * The first two say which process; the third, which of its statements.  A
 * psql session that is back at its prompt after an error carries no run any
 * more, although the process lives.  The activity array of the server holds
 * all three.  View pg_stat_activity shows them to privileged roles only; here
 * they are compared and never shown.
 *
 * CALL cdp.run_job(job) in transactions, each | a COMMIT:
 *
 *		_job_start | the job's own transactions ... | _job_end
 *		_job_start | ... | error -> abort | _job_failed | error again
 *
 * SQL: sql/jobs.sql.  Tests: test/sql/jobs.sql, test/specs/jobs_*.spec,
 * test/t/004_jobs_pg_cron.pl.  Page: doc/jobs.md.
 */
#include "cdp.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(cdp_job_session);
PG_FUNCTION_INFO_V1(cdp_session_alive);
PG_FUNCTION_INFO_V1(cdp_run_job);

/* what _job_start answers about a job that may run now */
typedef struct JobStart
{
	int64		run_id;
	char	   *command;
	char	   *owner;
	bool		member_call;	/* the command is CALL of a procedure of ours, without arguments */
} JobStart;

/*
 * cdp._job_session(OUT pid, OUT backend_start, OUT statement_start): what
 * identifies the running statement of this session.
 */
Datum
cdp_job_session(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int32GetDatum(MyProcPid);
	values[1] = TimestampTzGetDatum(MyBEEntry->st_proc_start_timestamp);

	/*
	 * Not GetCurrentStatementStartTimestamp(): a background worker may move
	 * that after it has reported its activity, and others see the latter.
	 */
	values[2] = TimestampTzGetDatum(MyBEEntry->st_activity_start_timestamp);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * cdp._session_alive(pid, backend_start, statement_start): is that statement
 * still being executed?  With track_activities = off the server knows of no
 * statements, and the answer is about the session.
 */
Datum
cdp_session_alive(PG_FUNCTION_ARGS)
{
	int32		pid = PG_GETARG_INT32(0);
	TimestampTz backend_start = PG_GETARG_TIMESTAMPTZ(1);
	TimestampTz statement_start = PG_GETARG_TIMESTAMPTZ(2);
	int			n;

	/* the array is copied once per transaction; a waiting one wants news */
	pgstat_clear_backend_activity_snapshot();
	n = pgstat_fetch_stat_numbackends();
	for (int i = 1; i <= n; i++)
	{
		LocalPgBackendStatus *entry = cdp_backend_status(i);

		if (entry == NULL || entry->backendStatus.st_procpid != pid ||
			entry->backendStatus.st_proc_start_timestamp != backend_start)
			continue;
		if (entry->backendStatus.st_state == STATE_DISABLED)
			PG_RETURN_BOOL(true);
		PG_RETURN_BOOL(entry->backendStatus.st_state == STATE_RUNNING &&
					   entry->backendStatus.st_activity_start_timestamp == statement_start);
	}
	PG_RETURN_BOOL(false);
}

/* Ask cdp._job_start; false when there is nothing to do and no reason to complain. */
static bool
job_start(text *job, bool scheduled, MemoryContext keep, JobStart *start)
{
	Oid			types[2] = {TEXTOID, BOOLOID};
	Datum		args[2] = {PointerGetDatum(job), BoolGetDatum(scheduled)};
	char		nulls[2] = {job == NULL ? 'n' : ' ', ' '};
	HeapTuple	row;
	TupleDesc	desc;
	MemoryContext old;
	bool		isnull;

	if (SPI_execute_with_args("SELECT run_id, command, owner, member_call FROM cdp._job_start($1, $2)",
							  2, types, args, nulls, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "cdp._job_start failed");
	if (SPI_processed == 0)
		return false;
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	start->run_id = DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull));
	start->member_call = DatumGetBool(SPI_getbinval(row, desc, 4, &isnull));
	old = MemoryContextSwitchTo(keep);
	start->command = SPI_getvalue(row, desc, 2);
	start->owner = SPI_getvalue(row, desc, 3);
	MemoryContextSwitchTo(old);
	return true;
}

/*
 * The command is text that somebody wrote, and it runs with the rights of
 * whoever calls run_job.  So it runs for its writer only, unless it is the
 * bare CALL of a procedure that came with the extension.
 */
static void
job_check_owner(const JobStart *start)
{
	if (start->member_call ||
		strcmp(start->owner, GetUserNameFromId(GetUserId(), false)) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("the command of this job was written by role \"%s\"", start->owner),
			 errhint("It runs as that role only: SET ROLE %s; then CALL cdp.run_job() again.",
					 quote_identifier(start->owner))));
}

/*
 * Throw away the failed transaction, with every SPI connection and snapshot
 * that the error left behind, and note the failure in a new one.  The caller
 * then raises the error again, which ends the statement in the usual way.
 */
static void
job_record_failure(ErrorData *edata)
{
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		args[2];
	MemoryContext here = CurrentMemoryContext;

	AbortOutOfAnyTransaction();
	StartTransactionCommand();
	/* whatever the session's default: it has to see what it waits for */
	XactIsoLevel = XACT_READ_COMMITTED;
	MemoryContextSwitchTo(here);
	/* the portal's snapshot went with the transaction */
	ActivePortal->portalSnapshot = NULL;
	EnsurePortalSnapshotExists();

	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	args[0] = CStringGetTextDatum(unpack_sql_state(edata->sqlerrcode));
	args[1] = CStringGetTextDatum(edata->message ? edata->message : "");
	if (SPI_execute_with_args("SELECT cdp._job_failed($1, $2)",
							  2, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "cdp._job_failed failed");
	SPI_commit();
	SPI_finish();
}

/*
 * CALL cdp.run_job(job text, scheduled boolean)
 *
 * In C because plpgsql can neither EXECUTE a CALL whose procedure commits nor
 * catch an error around one.  It has to be a statement of its own: only then
 * is there nobody above who would find his transaction gone.
 */
Datum
cdp_run_job(PG_FUNCTION_ARGS)
{
	text	   *job = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	bool		scheduled = PG_ARGISNULL(1) ? false : PG_GETARG_BOOL(1);
	MemoryContext here = CurrentMemoryContext;
	CallContext *context = (CallContext *) fcinfo->context;
	JobStart	start;

	if (context == NULL || !IsA(context, CallContext) || context->atomic ||
		SPI_inside_nonatomic_context())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cdp.run_job() must be a statement of its own"),
				 errhint("CALL it outside of BEGIN, of functions and of other procedures;"
						 " there, CALL the procedure of the job itself.")));
	PreventCommandDuringRecovery("cdp.run_job()");
	cdp_check_version();

	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (!job_start(job, scheduled, here, &start))
	{
		SPI_finish();
		PG_RETURN_VOID();
	}
	/* refused: the run has not been committed yet and leaves no trace */
	job_check_owner(&start);
	SPI_commit();

	PG_TRY();
	{
		SPIExecuteOptions options = {0};
		Oid			types[1] = {INT8OID};
		Datum		args[1] = {Int64GetDatum(start.run_id)};

		EnsurePortalSnapshotExists();
		/* until the first COMMIT of the command, which pins it again itself */
		(void) set_config_option("search_path", "pg_catalog, pg_temp",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
		options.allow_nonatomic = true;
		if (SPI_execute_extended(start.command, &options) < 0)
			elog(ERROR, "cannot execute the command of a job: %s",
				 SPI_result_code_string(SPI_result));
		EnsurePortalSnapshotExists();
		if (SPI_execute_with_args("SELECT cdp._job_end($1)", 1, types, args,
								  NULL, false, 0) != SPI_OK_SELECT)
			elog(ERROR, "cdp._job_end failed");
		SPI_finish();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(here);
		edata = CopyErrorData();
		FlushErrorState();
		job_record_failure(edata);
		ReThrowError(edata);
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}
