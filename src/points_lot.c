/*
 * points_lot.c
 *	  The lots of an account while a batch runs: read as far as they are
 *	  needed, walked in the order in which they are spent, changed in memory,
 *	  written once.
 *
 * The index points_lot_open has the open lots of an account by expires_at.
 * A spend that takes three of 300,000 reads sixteen: the walk goes over what
 * is in memory and fetches more when it gets to the end.  Lots that came up
 * otherwise (made in this batch, or closed and given something back) stand in
 * a second list, and the walk merges the two:
 *
 *		stored	3 June | 9 June | 30 June | … not read yet
 *		fresh	           20 June | infinity
 *
 * Programs that spend by age (fifo, lifo) have to read all of them first.
 *
 * Page: doc/points.md.
 */
#include "points_engine.h"

#include "access/skey.h"
#include "access/stratnum.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

#define FIRST_CHUNK	2
#define LAST_CHUNK	4096

/* ------------------------------------------------------------------ reading */

static PointsLot *
enter(PointsPost *p, int64 lot_id, bool *found)
{
	PointsLot  *lot = hash_search(p->lots, &lot_id, HASH_ENTER, found);

	if (!*found)
		memset((char *) lot + sizeof(int64), 0, sizeof(PointsLot) - sizeof(int64));
	return lot;
}

/* the row that was read into memory, unless it is there already and may have changed */
static PointsLot *
take_in(PointsPost *p)
{
	PointsTables *t = &p->tables;
	bool		found;
	bool		isnull;
	PointsLot  *lot = enter(p, points_int8(t, PT_LOT, PL_LOT), &found);

	if (found)
		return lot;
	lot->customer_id = points_int8(t, PT_LOT, PL_CUSTOMER);
	lot->profile_id = points_int8(t, PT_LOT, PL_PROFILE);
	lot->entry_id = points_int8(t, PT_LOT, PL_ENTRY);
	lot->earned_entry = points_int8(t, PT_LOT, PL_EARNED_ENTRY);
	lot->origin_lot = points_int8(t, PT_LOT, PL_ORIGIN);
	lot->amount = points_int8(t, PT_LOT, PL_AMOUNT);
	lot->remaining = points_int8(t, PT_LOT, PL_REMAINING);
	lot->held = points_int8(t, PT_LOT, PL_HELD);
	lot->earned_at = points_int8(t, PT_LOT, PL_EARNED_AT);
	lot->available_at = points_int8(t, PT_LOT, PL_AVAILABLE_AT);
	lot->expires_at = points_int8(t, PT_LOT, PL_EXPIRES_AT);
	lot->stored_open = DatumGetBool(points_value(t, PT_LOT, PL_OPEN, &isnull)) && !isnull;
	lot->tid = points_tid(t, PT_LOT);
	return lot;
}

PointsLot *
points_lot_get(PointsPost *p, int64 lot_id)
{
	PointsLot  *lot = hash_search(p->lots, &lot_id, HASH_FIND, NULL);
	PointsScan	scan;
	ScanKeyData key;

	if (lot != NULL)
		return lot;
	points_key_int8(&key, 1, lot_id);
	points_scan(&scan, &p->tables, PI_LOT, &key, 1);
	if (!points_next(&scan))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lot " INT64_FORMAT " of the ledger is missing", lot_id),
				 errhint("SELECT * FROM cdp.verify_points(); shows what else is.")));
	lot = take_in(p);
	points_scan_end(&scan);
	return lot;
}

/* does a come before b? */
static bool
is_before(const PointsAccount *account, const PointsLot *a, const PointsLot *b)
{
	if (account->program->consumption == 'i' && a->earned_at != b->earned_at)
		return a->earned_at < b->earned_at;
	if (account->program->consumption == 'l' && a->earned_at != b->earned_at)
		return a->earned_at > b->earned_at;
	if (account->program->consumption == 'l')
		return a->lot_id > b->lot_id;
	if (account->program->consumption == 'e' && a->expires_at != b->expires_at)
		return a->expires_at < b->expires_at;
	return a->lot_id < b->lot_id;
}

static int
compare_lots(const void *x, const void *y, void *account)
{
	const PointsLot *a = *(PointsLot *const *) x;
	const PointsLot *b = *(PointsLot *const *) y;

	return is_before(account, a, b) ? -1 : is_before(account, b, a) ? 1 : 0;
}

static void
append(PointsPost *p, PointsLot ***list, int *n, int *room, PointsLot *lot)
{
	if (*n == *room)
	{
		*room = Max(*room * 2, FIRST_CHUNK);
		*list = *list == NULL ? MemoryContextAlloc(p->context, sizeof(PointsLot *) * *room) :
			repalloc_huge(*list, sizeof(PointsLot *) * *room);
	}
	(*list)[(*n)++] = lot;
}

/* the next open lots that have not expired */
static void
read_more(PointsPost *p, PointsAccount *a)
{
	PointsScan	scan;
	ScanKeyData keys[3];
	bool		by_age = a->program->consumption != 'e';
	int			n = 0;

	if (a->chunk == 0)
	{
		a->chunk = FIRST_CHUNK;
		/* what expires now is gone */
		a->last_expires = p->now;
		a->last_lot = PG_INT64_MAX;
	}
	points_key_int8(&keys[0], 1, a->key.customer_id);
	points_key_text(&keys[1], 2, a->program->name_datum);
	ScanKeyInit(&keys[2], 3, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE, TimestampTzGetDatum(a->last_expires));
	points_scan(&scan, &p->tables, PI_LOT_OPEN, keys, 3);
	while (by_age || n < a->chunk)
	{
		PointsLot  *lot;

		if (!points_next(&scan))
		{
			a->all_read = true;
			break;
		}
		if (points_int8(&p->tables, PT_LOT, PL_EXPIRES_AT) == a->last_expires &&
			points_int8(&p->tables, PT_LOT, PL_LOT) <= a->last_lot)
			continue;
		lot = take_in(p);
		a->last_expires = lot->expires_at;
		a->last_lot = lot->lot_id;
		n++;
		if (lot->listed)
			continue;
		lot->listed = true;
		lot->account = a;
		append(p, &a->stored, &a->nstored, &a->stored_room, lot);
	}
	points_scan_end(&scan);
	a->chunk = Min(a->chunk * 4, LAST_CHUNK);
	if (by_age)
		qsort_arg(a->stored, a->nstored, sizeof(PointsLot *), compare_lots, a);
}

/* a lot that the index does not show takes its place in the walk */
void
points_lot_list(PointsPost *p, PointsAccount *a, PointsLot *lot)
{
	int			lo = 0;
	int			hi = a->nfresh;

	lot->account = a;
	if (lot->listed || lot->stored_open || lot->expires_at <= p->now)
		return;
	lot->listed = true;
	append(p, &a->fresh, &a->nfresh, &a->fresh_room, lot);
	while (lo < hi)
	{
		int			mid = (lo + hi) / 2;

		if (is_before(a, a->fresh[mid], lot))
			lo = mid + 1;
		else
			hi = mid;
	}
	memmove(&a->fresh[lo + 1], &a->fresh[lo], sizeof(PointsLot *) * (a->nfresh - 1 - lo));
	a->fresh[lo] = lot;
}

/* every open lot of the account, expired and pending ones too */
PointsLot **
points_open_lots(PointsPost *p, PointsAccount *a, int *n)
{
	PointsLot **lots = NULL;
	PointsScan	scan;
	ScanKeyData keys[2];
	int			room = 0;

	*n = 0;
	points_key_int8(&keys[0], 1, a->key.customer_id);
	points_key_text(&keys[1], 2, a->program->name_datum);
	points_scan(&scan, &p->tables, PI_LOT_OPEN, keys, 2);
	while (points_next(&scan))
	{
		PointsLot  *lot = take_in(p);

		lot->account = a;
		if (lot->remaining > 0)
			append(p, &lots, n, &room, lot);
	}
	points_scan_end(&scan);
	return lots;
}

/* ------------------------------------------------------------------ walking */

/* the next lot in the order of spending, empty ones too; NULL: the end.  Begin with {0, 0}. */
PointsLot *
points_walk(PointsPost *p, PointsAccount *a, PointsWalk *walk)
{
	PointsLot  *x;
	PointsLot  *y;

	while (a->head < a->nstored && a->stored[a->head]->remaining == 0)
		a->head++;
	if (walk->stored < a->head)
		walk->stored = a->head;
	if (walk->stored >= a->nstored && !a->all_read)
		read_more(p, a);
	x = walk->stored < a->nstored ? a->stored[walk->stored] : NULL;
	y = walk->fresh < a->nfresh ? a->fresh[walk->fresh] : NULL;
	if (x == NULL && y == NULL)
		return NULL;
	if (y == NULL || (x != NULL && is_before(a, x, y)))
	{
		walk->stored++;
		return x;
	}
	walk->fresh++;
	return y;
}

bool
points_lot_is_available(const PointsPost *p, const PointsLot *lot)
{
	return lot->available_at <= p->now && p->now < lot->expires_at;
}

/* all that can be spent now, less debt */
int64
points_available(PointsPost *p, PointsAccount *a)
{
	PointsWalk	walk = {0, 0};
	PointsLot  *lot;
	int64		sum = 0;

	while ((lot = points_walk(p, a, &walk)) != NULL)
	{
		if (points_lot_is_available(p, lot))
			sum += lot->remaining - lot->held;
	}
	return sum - a->debt;
}

/* LC301 unless so many can be spent, or owed: credit */
void
points_require(PointsPost *p, PointsAccount *a, const PointsItem *item, int64 amount, int64 credit)
{
	PointsWalk	walk = {0, 0};
	PointsLot  *lot;
	int64		wanted = amount + a->debt - credit;
	int64		sum = 0;

	/* what is left in all lots is balance + debt; if that is too little nothing has to be read */
	if (a->balance + a->debt - a->held >= wanted)
	{
		while (sum < wanted && (lot = points_walk(p, a, &walk)) != NULL)
		{
			if (points_lot_is_available(p, lot))
				sum += lot->remaining - lot->held;
		}
		if (sum >= wanted)
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_CDP_NOT_ENOUGH_POINTS),
			 errmsg("%snot enough points", points_of_item(item)),
			 errdetail("Needed are " INT64_FORMAT ", available " INT64_FORMAT ".", amount, points_available(p, a) + credit),
			 errhint("cdp.points_balance() tells what can be spent; pending, held and expired points cannot.")));
}

/*
 * Take points out of lots in the order of spending, pending ones after the
 * others when they count; answers how many were there.  take does it.
 */
int64
points_take(PointsPost *p, PointsAccount *a, int64 amount, bool pending, PointsTake take, void *arg)
{
	int64		left = amount;

	for (int round = 0; left > 0 && round <= (pending ? 1 : 0); round++)
	{
		PointsWalk	walk = {0, 0};
		PointsLot  *lot;

		while (left > 0 && (lot = points_walk(p, a, &walk)) != NULL)
		{
			int64		part = Min(left, lot->remaining - lot->held);

			if (part <= 0 || points_lot_is_available(p, lot) != (round == 0))
				continue;
			lot->dirty = true;
			take(p, lot, part, arg);
			left -= part;
		}
	}
	return amount - left;
}

/* ------------------------------------------------------------------ writing */

/* a new lot with the dates and origins of another; its amount is set by the caller */
PointsLot *
points_lot_make(PointsPost *p, PointsAccount *a, const PointsLot *like)
{
	bool		found;
	PointsLot	made = *like;
	PointsLot  *lot = enter(p, points_next_id("points_lot_lot_id_seq"), &found);

	Assert(!found);
	made.lot_id = lot->lot_id;
	made.customer_id = a->key.customer_id;
	made.remaining = made.amount;
	made.held = 0;
	made.is_new = made.dirty = true;
	made.listed = made.stored_open = false;
	made.heir = NULL;
	ItemPointerSetInvalid(&made.tid);
	*lot = made;
	points_lot_list(p, a, lot);
	return lot;
}

static void
write_lot(PointsPost *p, PointsLot *lot, Datum program)
{
	Datum		values[PL_COLUMNS];
	bool		nulls[PL_COLUMNS] = {false};

	Assert(lot->held >= 0 && lot->held <= lot->remaining && lot->remaining <= lot->amount);
	values[PL_LOT] = Int64GetDatum(lot->lot_id);
	values[PL_CUSTOMER] = Int64GetDatum(lot->customer_id);
	values[PL_PROGRAM] = program;
	values[PL_PROFILE] = Int64GetDatum(lot->profile_id);
	values[PL_ENTRY] = Int64GetDatum(lot->entry_id);
	values[PL_EARNED_ENTRY] = Int64GetDatum(lot->earned_entry);
	values[PL_ORIGIN] = Int64GetDatum(lot->origin_lot);
	nulls[PL_ORIGIN] = lot->origin_lot == 0;
	values[PL_AMOUNT] = Int64GetDatum(lot->amount);
	values[PL_REMAINING] = Int64GetDatum(lot->remaining);
	values[PL_HELD] = Int64GetDatum(lot->held);
	values[PL_EARNED_AT] = TimestampTzGetDatum(lot->earned_at);
	values[PL_AVAILABLE_AT] = TimestampTzGetDatum(lot->available_at);
	values[PL_EXPIRES_AT] = TimestampTzGetDatum(lot->expires_at);
	values[PL_OPEN] = BoolGetDatum(lot->remaining > 0);
	if (lot->is_new)
		points_put(&p->tables, PT_LOT, values, nulls);
	else
		points_change(&p->tables, PT_LOT, &lot->tid, values, nulls);
	lot->is_new = lot->dirty = false;
}

/* every lot of the batch that is new or changed */
void
points_lots_write(PointsPost *p)
{
	HASH_SEQ_STATUS all;
	PointsLot  *lot;

	hash_seq_init(&all, p->lots);
	while ((lot = hash_seq_search(&all)) != NULL)
	{
		if (lot->dirty)
			write_lot(p, lot, lot->account->program->name_datum);
	}
}

/* ------------------------------------------------------------------- expiry */

/*
 * What has expired and is not held leaves its lots under one entry of kind
 * expire; all: whatever there is, the account has been inactive for too long.
 * Answers how many lots lost something.
 */
int64
points_expire_lots(PointsPost *p, PointsAccount *a, bool all)
{
	PointsEntry entry = {0};
	PointsScan	scan;
	ScanKeyData keys[3];
	int64		sum = 0;
	int64		n = 0;
	int			ord = 0;

	points_key_int8(&keys[0], 1, a->key.customer_id);
	points_key_text(&keys[1], 2, a->program->name_datum);
	ScanKeyInit(&keys[2], 3, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, TimestampTzGetDatum(all ? DT_NOEND : p->now));
	points_scan(&scan, &p->tables, PI_LOT_OPEN, keys, 3);
	while (points_next(&scan))
	{
		PointsLot  *lot = take_in(p);
		int64		part = lot->remaining - lot->held;

		if (part <= 0)
			continue;
		if (sum == 0)
			entry.entry_id = points_next_id("points_entry_entry_id_seq");
		lot->account = a;
		lot->remaining -= part;
		lot->dirty = true;
		points_write_use(p, entry.entry_id, &ord, lot->lot_id, part);
		sum += part;
		n++;
	}
	points_scan_end(&scan);
	if (sum == 0)
		return 0;
	entry.kind = "expire";
	entry.amount = -sum;
	entry.profile_id = a->key.customer_id;
	entry.occurred_at = p->now;
	entry.expires_at = entry.available_at = DT_NOBEGIN;
	points_write_entry(p, a, &entry);
	return n;
}
