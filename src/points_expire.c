/*
 * points_expire.c
 *	  The work of the jobs: points that have expired and holds that are over
 *	  leave the books.  Neither could be used any more before.
 *
 * A batch finds the accounts by an index on the date and posts one item per
 * account; the engine looks again under the lock, so two of them at the same
 * time do nothing twice.
 *
 * SQL: sql/points.sql.  Page: doc/points.md.
 */
#include "points.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_expire_points);
PG_FUNCTION_INFO_V1(cdp_release_holds);

typedef struct Accounts
{
	PointsItem *items;
	int			n;
	HTAB	   *known;
} Accounts;

typedef struct AccountKey
{
	int64		customer_id;
	char		program[NAMEDATALEN];
} AccountKey;

static void
begin_accounts(Accounts *list, int room)
{
	HASHCTL		ctl;

	ctl.keysize = ctl.entrysize = sizeof(AccountKey);
	ctl.hcxt = CurrentMemoryContext;
	list->known = hash_create("customer_cdp accounts of a job", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	list->items = palloc0(sizeof(PointsItem) * room);
	list->n = 0;
}

static void
add_account(Accounts *list, PointsVerb verb, int64 customer_id, Datum program)
{
	PointsItem *item = &list->items[list->n];
	text	   *name = DatumGetTextPP(program);
	AccountKey	key;
	bool		found;

	memset(&key, 0, sizeof(key));
	key.customer_id = customer_id;
	text_to_cstring_buffer(name, key.program, NAMEDATALEN);
	(void) hash_search(list->known, &key, HASH_ENTER, &found);
	if (found)
		return;
	item->verb = verb;
	item->profile_id = customer_id;
	item->has_profile = true;
	item->program_name = pstrdup(key.program);
	item->program_len = strlen(key.program);
	item->expires_at = item->available_at = item->occurred_at = item->release_at = DT_NOBEGIN;
	list->n++;
}

/* cdp._expire_points(batch) -> lots that lost something */
Datum
cdp_expire_points(PG_FUNCTION_ARGS)
{
	int			batch = PG_GETARG_INT32(0);
	int			room = 2 * batch;
	PointsTables t;
	PointsScan	scan;
	ScanKeyData key;
	Accounts	list;
	int			n = 0;
	int64		done = 0;

	cdp_check_write("expire_points");
	if (batch < 1 || batch > POINTS_MAX_BATCH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch must be from 1 to %d", POINTS_MAX_BATCH),
				 errhint("Leave it out for 1000.")));
	begin_accounts(&list, room);
	points_tables_open(&t);
	points_refresh(&t);
	ScanKeyInit(&key, 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, TimestampTzGetDatum(t.now));
	points_scan(&scan, &t, PI_LOT_EXPIRY, &key, 1);
	while (n < batch && points_next(&scan))
	{
		bool		isnull;

		/* all that is left is held */
		if (points_int8(&t, PT_LOT, PL_REMAINING) <= points_int8(&t, PT_LOT, PL_HELD))
			continue;
		n++;
		add_account(&list, POINTS_EXPIRE, points_int8(&t, PT_LOT, PL_CUSTOMER), points_value(&t, PT_LOT, PL_PROGRAM, &isnull));
	}
	points_scan_end(&scan);
	/* holds that are over: what they reserved may have expired */
	points_scan(&scan, &t, PI_HOLD_DUE, &key, 1);
	for (int holds = 0; holds < batch && list.n < room && points_next(&scan); holds++)
	{
		bool		isnull;

		add_account(&list, POINTS_EXPIRE, points_int8(&t, PT_HOLD, PH_CUSTOMER), points_value(&t, PT_HOLD, PH_PROGRAM, &isnull));
	}
	points_scan_end(&scan);
	/* programs that expire by inactivity */
	points_scan(&scan, &t, PI_ACCOUNT_INACTIVE, &key, 1);
	while (n < batch && points_next(&scan))
	{
		bool		isnull;

		if (points_int8(&t, PT_ACCOUNT, PA_BALANCE) + points_int8(&t, PT_ACCOUNT, PA_DEBT) <= points_int8(&t, PT_ACCOUNT, PA_HELD))
			continue;
		n++;
		add_account(&list, POINTS_EXPIRE, points_int8(&t, PT_ACCOUNT, PA_CUSTOMER), points_value(&t, PT_ACCOUNT, PA_PROGRAM, &isnull));
	}
	points_scan_end(&scan);
	points_tables_close(&t);
	cdp_points_post(list.items, list.n);
	for (int i = 0; i < list.n; i++)
		done += list.items[i].posted;
	PG_RETURN_INT64(done);
}

/* cdp._release_holds(batch) -> holds that were over */
Datum
cdp_release_holds(PG_FUNCTION_ARGS)
{
	int			batch = PG_GETARG_INT32(0);
	PointsTables t;
	PointsScan	scan;
	ScanKeyData key;
	Accounts	list;
	int			n = 0;
	int64		released = 0;

	cdp_check_write("release_holds");
	if (batch < 1 || batch > POINTS_MAX_BATCH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch must be from 1 to %d", POINTS_MAX_BATCH),
				 errhint("Leave it out for 1000.")));
	begin_accounts(&list, batch);
	points_tables_open(&t);
	points_refresh(&t);
	ScanKeyInit(&key, 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, TimestampTzGetDatum(t.now));
	points_scan(&scan, &t, PI_HOLD_DUE, &key, 1);
	while (n < batch && points_next(&scan))
	{
		bool		isnull;

		n++;
		add_account(&list, POINTS_RELEASE_DUE, points_int8(&t, PT_HOLD, PH_CUSTOMER), points_value(&t, PT_HOLD, PH_PROGRAM, &isnull));
	}
	points_scan_end(&scan);
	points_tables_close(&t);
	cdp_points_post(list.items, list.n);
	for (int i = 0; i < list.n; i++)
		released += list.items[i].posted;
	PG_RETURN_INT64(released);
}
