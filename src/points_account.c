/*
 * points_account.c
 *	  An account while a batch runs, and the rows that tell what happened to
 *	  it.
 *
 * The row of cdp.points_account is what every change of the account locks
 * first and writes last.  So whoever has the lock and a snapshot that is not
 * older knows lots, holds and keys of the account for certain.
 *
 * Page: doc/points.md.
 */
#include "points_engine.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PointsAccount *
points_account(PointsPost *p, int64 customer_id, const PointsProgram *program)
{
	PointsAccountKey key;
	PointsAccount *a;
	bool		found;

	memset(&key, 0, sizeof(key));
	key.customer_id = customer_id;
	strlcpy(key.program, program->name, NAMEDATALEN);
	a = hash_search(p->accounts, &key, HASH_ENTER, &found);
	if (!found)
	{
		memset((char *) a + sizeof(PointsAccountKey), 0, sizeof(PointsAccount) - sizeof(PointsAccountKey));
		a->program = program;
		a->active_until = DT_NOEND;
		a->earned_day = PG_INT32_MIN;
	}
	return a;
}

static void
take_in(PointsTables *t, PointsAccount *a)
{
	bool		isnull;

	a->exists = true;
	a->read_by = t->refreshed;
	a->tid = points_tid(t, PT_ACCOUNT);
	a->balance = points_int8(t, PT_ACCOUNT, PA_BALANCE);
	a->held = points_int8(t, PT_ACCOUNT, PA_HELD);
	a->debt = points_int8(t, PT_ACCOUNT, PA_DEBT);
	a->entries = points_int8(t, PT_ACCOUNT, PA_ENTRIES);
	a->moved_to = points_int8(t, PT_ACCOUNT, PA_MOVED_TO);
	a->active_until = points_int8_or(t, PT_ACCOUNT, PA_ACTIVE_UNTIL, DT_NOEND);
	a->earned_day = DatumGetDateADT(points_value(t, PT_ACCOUNT, PA_EARNED_DAY, &isnull));
	if (isnull)
		a->earned_day = PG_INT32_MIN;
	a->earned_today = points_int8(t, PT_ACCOUNT, PA_EARNED_TODAY);
	a->moved_debt = points_int8(t, PT_ACCOUNT, PA_MOVED_DEBT);
}

static bool
find(PointsPost *p, PointsAccount *a, bool lock)
{
	PointsScan	scan;
	ScanKeyData keys[2];
	bool		found;

	points_key_int8(&keys[0], 1, a->key.customer_id);
	points_key_text(&keys[1], 2, a->program->name_datum);
	points_scan(&scan, &p->tables, PI_ACCOUNT, keys, 2);
	found = points_next(&scan);
	if (found && lock)
		found = points_lock(&p->tables, PT_ACCOUNT);
	if (found)
		take_in(&p->tables, a);
	points_scan_end(&scan);
	return found;
}

/*
 * Read the row, with lock its newest version.  A transaction that keeps one
 * snapshot must not work on what others have written since: 40001.
 */
bool
points_account_read(PointsPost *p, PointsAccount *a, bool lock)
{
	Snapshot	latest;
	bool		found;

	if (!lock || !IsolationUsesXactSnapshot())
	{
		/* where this snapshot, which keeps it from being cleared away, has seen it, or what has become of that row */
		found = lock && a->exists && a->read_by == p->tables.refreshed && points_lock_at(&p->tables, PT_ACCOUNT, a->tid);
		if (found)
			take_in(&p->tables, a);
		else
			found = find(p, a, lock);
		a->locked = found && lock;
		return found;
	}
	latest = p->tables.snapshot;
	p->tables.snapshot = RegisterSnapshot(GetTransactionSnapshot());
	found = find(p, a, true);
	UnregisterSnapshot(p->tables.snapshot);
	p->tables.snapshot = latest;
	if (!found && find(p, a, false))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errhint("Run the transaction again.")));
	a->locked = found;
	return found;
}

/* what time alone has done: holds that are over, inactivity; answers how many lots lost something */
int64
points_account_settle(PointsPost *p, PointsAccount *a)
{
	int64		n = 0;

	if (a->settled)
		return 0;
	a->settled = true;
	if (a->held > 0)
		a->released += points_release_due(p, a);
	if (a->program->expiry == EXPIRY_INACTIVITY && a->active_until <= p->now)
	{
		n = points_expire_lots(p, a, true);
		/* held points wait for the end of the hold */
		if (a->held == 0)
			a->active_until = DT_NOEND;
		a->dirty = true;
	}
	else if (a->program->expiry != EXPIRY_INACTIVITY && !TIMESTAMP_IS_NOEND(a->active_until))
	{
		/* the rule was another one */
		a->active_until = DT_NOEND;
		a->dirty = true;
	}
	return n;
}

/* somebody has earned or spent */
void
points_touch(PointsPost *p, PointsAccount *a)
{
	if (a->program->expiry == EXPIRY_INACTIVITY)
		a->active_until = points_plus(p->now, &a->program->validity);
	else
		a->active_until = DT_NOEND;
	a->dirty = true;
}

void
points_account_write(PointsPost *p, PointsAccount *a)
{
	Datum		values[PA_COLUMNS];
	bool		nulls[PA_COLUMNS] = {false};

	Assert(a->debt >= 0 && a->held >= 0);
	values[PA_CUSTOMER] = Int64GetDatum(a->key.customer_id);
	values[PA_PROGRAM] = a->program->name_datum;
	values[PA_BALANCE] = Int64GetDatum(a->balance);
	values[PA_HELD] = Int64GetDatum(a->held);
	values[PA_DEBT] = Int64GetDatum(a->debt);
	values[PA_ENTRIES] = Int64GetDatum(a->entries);
	values[PA_MOVED_TO] = Int64GetDatum(a->moved_to);
	nulls[PA_MOVED_TO] = a->moved_to == 0;
	values[PA_ACTIVE_UNTIL] = TimestampTzGetDatum(a->active_until);
	nulls[PA_ACTIVE_UNTIL] = TIMESTAMP_IS_NOEND(a->active_until);
	values[PA_EARNED_DAY] = DateADTGetDatum(a->earned_day);
	nulls[PA_EARNED_DAY] = a->earned_day == PG_INT32_MIN;
	values[PA_EARNED_TODAY] = Int64GetDatum(a->earned_today);
	values[PA_MOVED_DEBT] = Int64GetDatum(a->moved_debt);
	if (a->exists)
		points_change(&p->tables, PT_ACCOUNT, &a->tid, values, nulls);
	else
		points_put(&p->tables, PT_ACCOUNT, values, nulls);
	a->dirty = false;
}

/* ------------------------------------------------------------------ journal */

static Datum
text_or_null(text *value, bool *isnull)
{
	*isnull = value == NULL;
	return PointerGetDatum(value);
}

static Datum
moment_or_null(TimestampTz at, bool *isnull)
{
	*isnull = TIMESTAMP_IS_NOBEGIN(at);
	return TimestampTzGetDatum(at);
}

/* an entry with what the item says of it */
PointsEntry
points_entry_of(const PointsPost *p, const PointsItem *item, const char *kind)
{
	PointsEntry e = {0};

	e.entry_id = item->entry_id;
	e.kind = kind;
	e.reference = item->reference;
	e.key = item->key;
	e.occurred_at = TIMESTAMP_IS_NOBEGIN(item->occurred_at) ? p->now : item->occurred_at;
	e.expires_at = e.available_at = DT_NOBEGIN;
	/* a refund need not name whom */
	e.profile_id = item->has_profile ? item->profile_id : item->account->key.customer_id;
	e.details = item->details;
	e.written = item->written;
	return e;
}

/* what only the engine can know of a row that a statement has inserted */
static void
set_debt(PointsPost *p, const PointsEntry *e)
{
	PointsScan	scan;
	ScanKeyData key;
	ItemPointerData tid;
	Datum		values[PE_COLUMNS];
	bool		nulls[PE_COLUMNS];

	points_key_int8(&key, 1, e->entry_id);
	points_scan(&scan, &p->tables, PI_ENTRY, &key, 1);
	if (!points_next(&scan))
		elog(ERROR, "entry " INT64_FORMAT " is not there", e->entry_id);
	tid = points_tid(&p->tables, PT_ENTRY);
	points_copy(&p->tables, PT_ENTRY, values, nulls);
	points_scan_end(&scan);
	values[PE_DEBT] = Int64GetDatum(e->debt);
	points_change(&p->tables, PT_ENTRY, &tid, values, nulls);
}

/* the entry, and what it does to the balance */
void
points_write_entry(PointsPost *p, PointsAccount *a, const PointsEntry *e)
{
	MemoryContext caller;
	Datum		values[PE_COLUMNS];
	bool		nulls[PE_COLUMNS] = {false};

	Assert(e->amount != 0);
	a->balance += e->amount;
	a->debt += e->debt;
	a->entries++;
	a->dirty = true;
	if (a->balance > POINTS_MAX || a->balance < -POINTS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("the account would hold too many points"),
				 errhint("A balance lies between -" INT64_FORMAT " and " INT64_FORMAT ".", POINTS_MAX, POINTS_MAX)));
	if (e->written)
	{
		if (e->debt != 0)
			set_debt(p, e);
		return;
	}
	caller = MemoryContextSwitchTo(points_row_context(&p->tables, PT_ENTRY));
	values[PE_ENTRY] = Int64GetDatum(e->entry_id);
	values[PE_POSTED_AT] = TimestampTzGetDatum(p->now);
	values[PE_OCCURRED_AT] = TimestampTzGetDatum(e->occurred_at);
	values[PE_PROFILE] = Int64GetDatum(e->profile_id);
	values[PE_CUSTOMER] = Int64GetDatum(a->key.customer_id);
	values[PE_PROGRAM] = a->program->name_datum;
	values[PE_KIND] = CStringGetTextDatum(e->kind);
	values[PE_AMOUNT] = Int64GetDatum(e->amount);
	values[PE_DEBT] = Int64GetDatum(e->debt);
	values[PE_REFERENCE] = text_or_null(e->reference, &nulls[PE_REFERENCE]);
	values[PE_KEY] = text_or_null(e->key, &nulls[PE_KEY]);
	values[PE_EXPIRES_AT] = moment_or_null(e->expires_at, &nulls[PE_EXPIRES_AT]);
	values[PE_AVAILABLE_AT] = moment_or_null(e->available_at, &nulls[PE_AVAILABLE_AT]);
	values[PE_REVERSES] = Int64GetDatum(e->reverses);
	nulls[PE_REVERSES] = e->reverses == 0;
	values[PE_DETAILS] = PointerGetDatum(e->details);
	nulls[PE_DETAILS] = e->details == NULL;
	values[PE_XID] = UInt64GetDatum(p->xid);
	points_put(&p->tables, PT_ENTRY, values, nulls);
	MemoryContextSwitchTo(caller);
}

void
points_write_use(PointsPost *p, int64 entry_id, int *ord, int64 lot_id, int64 amount)
{
	Datum		values[PU_COLUMNS];
	static const bool nulls[PU_COLUMNS] = {false};

	values[PU_ENTRY] = Int64GetDatum(entry_id);
	values[PU_ORD] = Int32GetDatum(++*ord);
	values[PU_LOT] = Int64GetDatum(lot_id);
	values[PU_AMOUNT] = Int64GetDatum(amount);
	values[PU_RESTORED] = Int64GetDatum(0);
	points_put(&p->tables, PT_USE, values, nulls);
}

void
points_write_move(PointsPost *p, int64 from_lot, int64 to_lot, int64 amount, int64 entry_id)
{
	Datum		values[PM_COLUMNS];
	static const bool nulls[PM_COLUMNS] = {false};

	values[PM_FROM] = Int64GetDatum(from_lot);
	values[PM_TO] = Int64GetDatum(to_lot);
	values[PM_AMOUNT] = Int64GetDatum(amount);
	values[PM_ENTRY] = Int64GetDatum(entry_id);
	points_put(&p->tables, PT_MOVE, values, nulls);
}
