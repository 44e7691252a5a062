/*
 * points_hold.c
 *	  Holds: points that are reserved until they are captured or released.
 *
 *		hold 80			lot 1: held 50		lot 2: held 30
 *		capture 60		lot 1: -50			lot 2: -10, 20 are free again
 *
 * A hold resolves once.  From release_at on it reserves nothing: whoever
 * locks the account next writes that down before he looks (a job does it,
 * too, so that rows do not lie).
 *
 * Page: doc/points.md.  Tests: test/sql/points.sql, test/specs/points_hold_*.spec,
 * test/specs/points_capture_release.spec.
 */
#include "points_engine.h"

#include "access/stratnum.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

int			cdp_hold_timeout;

typedef struct Hold
{
	ItemPointerData tid;
	Datum		values[PH_COLUMNS];
	bool		nulls[PH_COLUMNS];
} Hold;

static int64
number(const Hold *hold, int column)
{
	return DatumGetInt64(hold->values[column]);
}

static char
state(const Hold *hold)
{
	return *(char *) VARDATA_ANY(DatumGetTextPP(hold->values[PH_STATE]));
}

static bool
read_hold(PointsPost *p, int64 hold_id, Hold *hold)
{
	PointsScan	scan;
	ScanKeyData key;
	bool		found;

	points_key_int8(&key, 1, hold_id);
	points_scan(&scan, &p->tables, PI_HOLD, &key, 1);
	found = points_next(&scan);
	if (found)
	{
		hold->tid = points_tid(&p->tables, PT_HOLD);
		points_copy(&p->tables, PT_HOLD, hold->values, hold->nulls);
	}
	points_scan_end(&scan);
	return found;
}

/* whose account a hold is on; 42704 */
void
points_find_hold(PointsPost *p, PointsItem *item)
{
	Hold		hold;
	text	   *program;

	if (!read_hold(p, item->hold_id, &hold))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%sthere is no hold " INT64_FORMAT, points_of_item(item), item->hold_id),
				 errhint("cdp.hold_points() answers the id of a hold.")));
	/* an open hold moves with its customer; one that was resolved before a merge stays where it was */
	item->customer_id = points_canonical(p, number(&hold, PH_CUSTOMER));
	item->profile_id = number(&hold, PH_PROFILE);
	program = DatumGetTextPP(hold.values[PH_PROGRAM]);
	item->program_name = VARDATA_ANY(program);
	item->program_len = VARSIZE_ANY_EXHDR(program);
}

typedef struct Holding
{
	int64		hold_id;
	int			ord;
} Holding;

static void
reserve(PointsPost *p, PointsLot *lot, int64 amount, void *arg)
{
	Holding    *holding = arg;
	Datum		values[PHL_COLUMNS];
	static const bool nulls[PHL_COLUMNS] = {false};

	lot->held += amount;
	values[PHL_HOLD] = Int64GetDatum(holding->hold_id);
	values[PHL_ORD] = Int32GetDatum(++holding->ord);
	values[PHL_LOT] = Int64GetDatum(lot->lot_id);
	values[PHL_AMOUNT] = Int64GetDatum(amount);
	points_put(&p->tables, PT_HOLD_LOT, values, nulls);
}

void
points_run_hold(PointsPost *p, PointsItem *item)
{
	PointsAccount *a = item->account;
	MemoryContext caller;
	Holding		holding = {0};
	Datum		values[PH_COLUMNS];
	bool		nulls[PH_COLUMNS] = {false};
	TimestampTz until = item->release_at;

	if (TIMESTAMP_IS_NOBEGIN(until))
		until = p->now + (int64) cdp_hold_timeout * USECS_PER_SEC;
	else if (until <= p->now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%srelease_at lies in the past", points_of_item(item)),
				 errhint("Leave it out for the setting cdp.hold_timeout, or give infinity.")));
	points_require(p, a, item, item->amount, 0);
	item->entry_id = holding.hold_id = points_next_id("points_hold_hold_id_seq");
	if (points_take(p, a, item->amount, false, reserve, &holding) != item->amount)
		elog(ERROR, "points that were counted are not there");
	a->held += item->amount;
	a->dirty = true;
	caller = MemoryContextSwitchTo(points_row_context(&p->tables, PT_HOLD));
	values[PH_HOLD] = Int64GetDatum(holding.hold_id);
	values[PH_CUSTOMER] = Int64GetDatum(a->key.customer_id);
	values[PH_PROGRAM] = a->program->name_datum;
	values[PH_PROFILE] = Int64GetDatum(item->profile_id);
	values[PH_AMOUNT] = Int64GetDatum(item->amount);
	values[PH_CAPTURED] = values[PH_RELEASED] = Int64GetDatum(0);
	values[PH_STATE] = CStringGetTextDatum("open");
	values[PH_RELEASE_AT] = TimestampTzGetDatum(until);
	values[PH_REFERENCE] = PointerGetDatum(item->reference);
	nulls[PH_REFERENCE] = item->reference == NULL;
	values[PH_KEY] = PointerGetDatum(item->key);
	nulls[PH_ENTRY] = nulls[PH_RESOLVED_AT] = true;
	values[PH_ENTRY] = values[PH_RESOLVED_AT] = (Datum) 0;
	values[PH_HELD_AT] = TimestampTzGetDatum(p->now);
	points_put(&p->tables, PT_HOLD, values, nulls);
	MemoryContextSwitchTo(caller);
	points_key_write(p, item, 0);
}

/*
 * The end of a hold: its lots are free of it, amount of them is taken under
 * that entry, in their order.
 */
static void
resolve_hold(PointsPost *p, PointsAccount *a, Hold *hold, int64 amount, int64 entry_id)
{
	PointsScan	scan;
	ScanKeyData key;
	int64		left = amount;
	int			ord = 0;

	points_key_int8(&key, 1, number(hold, PH_HOLD));
	points_scan(&scan, &p->tables, PI_HOLD_LOT, &key, 1);
	while (points_next(&scan))
	{
		int64		lot_id = points_int8(&p->tables, PT_HOLD_LOT, PHL_LOT);
		int64		held = points_int8(&p->tables, PT_HOLD_LOT, PHL_AMOUNT);
		int64		part = Min(left, held);
		PointsLot  *lot = points_lot_get(p, lot_id);

		lot->held -= held;
		lot->remaining -= part;
		lot->account = a;
		lot->dirty = true;
		if (part > 0)
			points_write_use(p, entry_id, &ord, lot_id, part);
		left -= part;
	}
	points_scan_end(&scan);
	if (left > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lots of hold " INT64_FORMAT " are missing", number(hold, PH_HOLD)),
				 errhint("SELECT * FROM cdp.verify_points(); shows what else is.")));
	a->held -= number(hold, PH_AMOUNT);
	a->dirty = true;
	hold->values[PH_STATE] = CStringGetTextDatum(entry_id != 0 ? "captured" : "released");
	hold->values[PH_CAPTURED] = Int64GetDatum(amount);
	hold->values[PH_RELEASED] = Int64GetDatum(number(hold, PH_AMOUNT) - amount);
	hold->values[PH_ENTRY] = Int64GetDatum(entry_id);
	hold->nulls[PH_ENTRY] = entry_id == 0;
	hold->values[PH_RESOLVED_AT] = TimestampTzGetDatum(p->now);
	hold->nulls[PH_RESOLVED_AT] = false;
	points_change(&p->tables, PT_HOLD, &hold->tid, hold->values, hold->nulls);
}

pg_noreturn static void
refuse_resolved(const PointsItem *item, const char *how)
{
	ereport(ERROR,
			(errcode(ERRCODE_CDP_HOLD_RESOLVED),
			 errmsg("%shold " INT64_FORMAT " %s", points_of_item(item), item->hold_id, how),
			 errhint("A hold resolves once; cdp.points_hold shows how.")));
}

/* the key of the hold says how much was spent, so that it can be refunded */
static void
note_posted(PointsPost *p, const Hold *hold, int64 amount)
{
	PointsScan	scan;
	ScanKeyData key;
	ItemPointerData tid;
	Datum		values[PK_COLUMNS];
	bool		nulls[PK_COLUMNS];
	bool		found;

	points_key_text(&key, 1, hold->values[PH_KEY]);
	points_scan(&scan, &p->tables, PI_KEY, &key, 1);
	found = points_next(&scan);
	if (found)
	{
		tid = points_tid(&p->tables, PT_KEY);
		points_copy(&p->tables, PT_KEY, values, nulls);
	}
	points_scan_end(&scan);
	if (!found)
		return;
	values[PK_POSTED] = Int64GetDatum(amount);
	values[PK_CUSTOMER] = hold->values[PH_CUSTOMER];
	points_change(&p->tables, PT_KEY, &tid, values, nulls);
}

void
points_run_capture(PointsPost *p, PointsItem *item)
{
	PointsAccount *a = item->account;
	PointsEntry e = {0};
	Hold		hold;
	int64		amount;

	if (!read_hold(p, item->hold_id, &hold))
		elog(ERROR, "hold " INT64_FORMAT " has gone", item->hold_id);
	amount = item->has_amount ? item->amount : number(&hold, PH_AMOUNT);
	if (state(&hold) == 'c')
	{
		if (number(&hold, PH_CAPTURED) != amount)
			refuse_resolved(item, "was captured with another amount");
		item->entry_id = number(&hold, PH_ENTRY);
		item->replayed = true;
		return;
	}
	if (state(&hold) == 'r')
		refuse_resolved(item, "was released");
	if (amount > number(&hold, PH_AMOUNT))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%smore than hold " INT64_FORMAT " reserves", points_of_item(item), item->hold_id),
				 errhint("It reserves " INT64_FORMAT " points.", number(&hold, PH_AMOUNT))));
	item->entry_id = e.entry_id = points_next_id("points_entry_entry_id_seq");
	item->posted = amount;
	resolve_hold(p, a, &hold, amount, e.entry_id);
	note_posted(p, &hold, amount);
	e.kind = "spend";
	e.amount = -amount;
	e.reference = hold.nulls[PH_REFERENCE] ? NULL : DatumGetTextPP(hold.values[PH_REFERENCE]);
	e.occurred_at = p->now;
	e.expires_at = e.available_at = DT_NOBEGIN;
	e.profile_id = number(&hold, PH_PROFILE);
	points_write_entry(p, a, &e);
	points_touch(p, a);
}

void
points_run_release(PointsPost *p, PointsItem *item)
{
	Hold		hold;

	if (!read_hold(p, item->hold_id, &hold))
		elog(ERROR, "hold " INT64_FORMAT " has gone", item->hold_id);
	if (state(&hold) == 'c')
		refuse_resolved(item, "was captured");
	if (state(&hold) == 'r')
		return;
	resolve_hold(p, item->account, &hold, 0, 0);
	item->changed = true;
}

/* holds of the account that are over by now; answers how many */
int64
points_release_due(PointsPost *p, PointsAccount *a)
{
	PointsScan	scan;
	ScanKeyData keys[2];
	Hold	   *due = NULL;
	int			n = 0;

	points_key_int8(&keys[0], 1, a->key.customer_id);
	points_key_text(&keys[1], 2, a->program->name_datum);
	points_scan(&scan, &p->tables, PI_HOLD_OPEN, keys, 2);
	while (points_next(&scan))
	{
		if (points_int8(&p->tables, PT_HOLD, PH_RELEASE_AT) > p->now)
			continue;
		if ((n & (n - 1)) == 0)
			due = n == 0 ? palloc(sizeof(Hold)) : repalloc_huge(due, sizeof(Hold) * 2 * n);
		due[n].tid = points_tid(&p->tables, PT_HOLD);
		points_copy(&p->tables, PT_HOLD, due[n].values, due[n].nulls);
		n++;
	}
	points_scan_end(&scan);
	for (int i = 0; i < n; i++)
		resolve_hold(p, a, &due[i], 0, 0);
	if (n > 0)
	{
		/* whoever looks at these holds next must see that */
		points_flush(&p->tables);
		points_refresh(&p->tables);
	}
	return n;
}

/* lots of a hold: where they went; with move, that is written down */
static bool
move_hold_lots(PointsPost *p, int64 hold_id, bool move)
{
	PointsScan	scan;
	ScanKeyData key;
	bool		all = true;

	points_key_int8(&key, 1, hold_id);
	points_scan(&scan, &p->tables, PI_HOLD_LOT, &key, 1);
	while (points_next(&scan))
	{
		PointsLot  *lot = points_lot_get(p, points_int8(&p->tables, PT_HOLD_LOT, PHL_LOT));
		int64		held = points_int8(&p->tables, PT_HOLD_LOT, PHL_AMOUNT);
		ItemPointerData tid = points_tid(&p->tables, PT_HOLD_LOT);
		Datum		values[PHL_COLUMNS];
		bool		nulls[PHL_COLUMNS];

		if (lot->heir == NULL)
			all = false;
		if (!move || lot->heir == NULL)
			continue;
		points_copy(&p->tables, PT_HOLD_LOT, values, nulls);
		values[PHL_LOT] = Int64GetDatum(lot->heir->lot_id);
		points_change(&p->tables, PT_HOLD_LOT, &tid, values, nulls);
		lot->held -= held;
		lot->heir->held += held;
		lot->dirty = lot->heir->dirty = true;
	}
	points_scan_end(&scan);
	return all;
}

/*
 * Open holds of an account move to another when all their lots have an heir
 * there, and goes says so; answers how many points they reserve.
 */
int64
points_move_holds(PointsPost *p, PointsAccount *from, PointsAccount *to, bool (*goes) (int64 profile_id, void *arg), void *arg)
{
	PointsScan	scan;
	ScanKeyData keys[2];
	int64		moved = 0;

	if (from->held == 0)
		return 0;
	points_key_int8(&keys[0], 1, from->key.customer_id);
	points_key_text(&keys[1], 2, from->program->name_datum);
	points_scan(&scan, &p->tables, PI_HOLD_OPEN, keys, 2);
	while (points_next(&scan))
	{
		Hold		hold;

		hold.tid = points_tid(&p->tables, PT_HOLD);
		points_copy(&p->tables, PT_HOLD, hold.values, hold.nulls);
		if (!goes(number(&hold, PH_PROFILE), arg) || !move_hold_lots(p, number(&hold, PH_HOLD), false))
			continue;
		(void) move_hold_lots(p, number(&hold, PH_HOLD), true);
		hold.values[PH_CUSTOMER] = Int64GetDatum(to->key.customer_id);
		points_change(&p->tables, PT_HOLD, &hold.tid, hold.values, hold.nulls);
		moved += number(&hold, PH_AMOUNT);
	}
	points_scan_end(&scan);
	from->held -= moved;
	to->held += moved;
	from->dirty = to->dirty = true;
	return moved;
}
