/*
 * read_only.c
 *	  A stretch of a transaction in which nothing can write: for queries that
 *	  a caller hands in as text.
 *
 *		PERFORM cdp._begin_read_only();
 *		RETURN QUERY EXECUTE query;
 *		PERFORM cdp._end_read_only();
 *
 * A function's SET transaction_read_only did this until PostgreSQL 16 forbade
 * it.  Between the two calls the transaction is read-only for everybody, also
 * for functions in the query and for what they SET.  Ending takes back only
 * what beginning has done, in the same transaction: a transaction that is
 * read-only by itself stays so whoever calls.  Stretches may lie in one
 * another: the outermost ends it.  What C has begun only C ends, so that a
 * query cannot call itself free.
 *
 * SQL: sql/core.sql.  Tests: test/sql/value_table.sql.
 */
#include "cdp.h"

#include "access/xact.h"

PG_FUNCTION_INFO_V1(cdp_begin_read_only);
PG_FUNCTION_INFO_V1(cdp_end_read_only);

/* nest level of the transaction that is read-only by our doing, 0: none is */
static int	begun_at = 0;

/* how often it has been begun there, and who was the first */
static int	depth = 0;
static bool begun_in_c = false;
static bool callbacks_registered = false;

static void
transaction_ends(XactEvent event, void *arg)
{
	begun_at = 0;
}

/* who rolls back gets the former mode from PostgreSQL itself */
static void
subtransaction_ends(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && GetCurrentTransactionNestLevel() <= begun_at)
		begun_at = 0;
}

static void
begin(bool in_c)
{
	int			level = GetCurrentTransactionNestLevel();

	if (!callbacks_registered)
	{
		RegisterXactCallback(transaction_ends, NULL);
		RegisterSubXactCallback(subtransaction_ends, NULL);
		callbacks_registered = true;
	}
	if (!XactReadOnly)
	{
		XactReadOnly = true;
		begun_at = level;
		depth = 1;
		begun_in_c = in_c;
	}
	else if (begun_at == level && (in_c || !begun_in_c))
		depth++;
}

static void
end(bool in_c)
{
	if (begun_at != 0 && begun_at == GetCurrentTransactionNestLevel() && (in_c || !begun_in_c) && --depth == 0)
	{
		XactReadOnly = false;
		begun_at = 0;
	}
}

void
cdp_read_only_begin(void)
{
	begin(true);
}

void
cdp_read_only_end(void)
{
	end(true);
}

/* cdp._begin_read_only() -> void */
Datum
cdp_begin_read_only(PG_FUNCTION_ARGS)
{
	begin(false);
	PG_RETURN_VOID();
}

/* cdp._end_read_only() -> void */
Datum
cdp_end_read_only(PG_FUNCTION_ARGS)
{
	end(false);
	PG_RETURN_VOID();
}
