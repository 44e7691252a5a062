/*
 * points_reverse.c
 *	  Refunds and claw-backs: undo, by reference, what was spent or earned.
 *
 * A reference may stand for several operations, the last one is undone
 * first.  cdp.points_key knows the operations of a reference and how much of
 * each was undone; cdp.points_lot_use knows the lots of a spending and how
 * much was given back of each.
 *
 *		spend 250 of lots	1: 100	2: 100	3: 50
 *		refund 120			               3: 50	2: 70
 *
 * Points come back into the very lot they were taken from, with its dates.
 * Where that lot is not this customer's any more (he was merged since), and
 * where the program wants them to live longer, they come back in a new lot
 * that is linked to the old one in cdp.points_lot_move.
 *
 * Page: doc/points.md.  Tests: test/sql/points.sql, test/pgtap/points_model.sql.
 */
#include "points_engine.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

/* an operation of the reference, as its row of points_key has it */
typedef struct Operation
{
	ItemPointerData tid;
	Datum		values[PK_COLUMNS];
	bool		nulls[PK_COLUMNS];
	int64		entry_id;
	int64		left;
} Operation;

static bool
is_text(Datum value, const char *what)
{
	text	   *t = DatumGetTextPP(value);

	return VARSIZE_ANY_EXHDR(t) == strlen(what) && memcmp(VARDATA_ANY(t), what, strlen(what)) == 0;
}

/* is the row of points_key that was read of a kind that the item undoes? */
static bool
undoes(PointsPost *p, const PointsItem *item)
{
	bool		isnull;
	Datum		verb = points_value(&p->tables, PT_KEY, PK_VERB, &isnull);

	if (item->verb == POINTS_CLAWBACK)
		return is_text(verb, "earn");
	return is_text(verb, "spend") || is_text(verb, "hold");
}

static void
begin_scan(PointsPost *p, PointsScan *scan, const PointsItem *item)
{
	ScanKeyData keys[2];

	points_key_text(&keys[0], 1, PointerGetDatum(item->reference));
	points_key_text(&keys[1], 2, item->program->name_datum);
	points_scan(scan, &p->tables, PI_KEY_REFERENCE, keys, 2);
}

pg_noreturn static void
refuse_reference(const PointsItem *item)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%snothing was %s with this reference", points_of_item(item), item->verb == POINTS_REFUND ? "spent" : "earned"),
			 errhint("The reference is the one that the points were %s with, in the same program.", item->verb == POINTS_REFUND ? "spent" : "earned")));
}

/* what a reference means in this batch, as far as it was read */
typedef struct BatchReference
{
	uint64		hash;			/* hash key */
	struct BatchReference *next;	/* another one with this hash */
	const text *reference;
	const PointsProgram *program;
	PointsVerb	verb;
	int64		customer_id;	/* -1: several */
} BatchReference;

static uint64
hash_reference(const text *reference)
{
	return DatumGetUInt64(hash_any_extended((const unsigned char *) VARDATA_ANY(reference), VARSIZE_ANY_EXHDR(reference), 0));
}

static BatchReference *
find_in_batch(PointsPost *p, const text *reference, const PointsProgram *program, PointsVerb verb)
{
	uint64		hash = hash_reference(reference);
	BatchReference *r = p->references ? hash_search(p->references, &hash, HASH_FIND, NULL) : NULL;

	while (r != NULL && (r->program != program || r->verb != verb || VARSIZE_ANY_EXHDR(r->reference) != VARSIZE_ANY_EXHDR(reference) ||
						 memcmp(VARDATA_ANY(r->reference), VARDATA_ANY(reference), VARSIZE_ANY_EXHDR(reference)) != 0))
		r = r->next;
	return r;
}

/* an item that later ones of the batch may undo */
void
points_note_reference(PointsPost *p, const PointsItem *item)
{
	BatchReference *r = find_in_batch(p, item->reference, item->program, item->verb);
	uint64		hash;
	bool		found;

	if (r != NULL)
	{
		if (r->customer_id != item->customer_id)
			r->customer_id = -1;
		return;
	}
	if (p->references == NULL)
		p->references = points_make_hash(p, "customer_cdp references", sizeof(uint64), sizeof(BatchReference), 1024);
	hash = hash_reference(item->reference);
	r = hash_search(p->references, &hash, HASH_ENTER, &found);
	if (found)
	{
		BatchReference *first = palloc(sizeof(BatchReference));

		*first = *r;
		r->next = first;
	}
	else
		r->next = NULL;
	r->reference = item->reference;
	r->program = item->program;
	r->verb = item->verb;
	r->customer_id = item->customer_id;
}

/*
 * Whose points they are: the customer that was passed, else the one who has
 * this reference.  A key that is known has its answer whatever the reference
 * means by now.
 */
void
points_find_reference(PointsPost *p, PointsItem *item)
{
	BatchReference *earlier;
	PointsScan	scan;
	ScanKeyData key;
	int64		found = 0;

	if (item->has_profile)
	{
		item->customer_id = points_canonical(p, item->profile_id);
		return;
	}
	points_key_text(&key, 1, PointerGetDatum(item->key));
	points_scan(&scan, &p->tables, PI_KEY, &key, 1);
	if (points_next(&scan))
		found = points_canonical(p, points_int8(&p->tables, PT_KEY, PK_CUSTOMER));
	points_scan_end(&scan);
	if (found == 0)
	{
		begin_scan(p, &scan, item);
		while (points_next(&scan))
		{
			int64		customer_id;

			/* a hold that took nothing is nothing to undo */
			if (!undoes(p, item) || points_int8(&p->tables, PT_KEY, PK_POSTED) == 0)
				continue;
			customer_id = points_canonical(p, points_int8(&p->tables, PT_KEY, PK_CUSTOMER));
			if (found != 0 && found != customer_id)
				found = -1;
			else
				found = customer_id;
			if (found == -1)
				break;
		}
		points_scan_end(&scan);
		/* what stands before it in the batch */
		earlier = found == -1 ? NULL : find_in_batch(p, item->reference, item->program, item->verb == POINTS_REFUND ? POINTS_SPEND : POINTS_EARN);
		if (earlier != NULL)
			found = found != 0 && found != earlier->customer_id ? -1 : earlier->customer_id;
	}
	if (found == -1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%sseveral customers have this reference", points_of_item(item)),
				 errhint("Pass customer_id, too.")));
	if (found == 0)
		refuse_reference(item);
	item->customer_id = found;
}

static int
compare_operations(const void *x, const void *y)
{
	const Operation *a = x;
	const Operation *b = y;

	return a->entry_id > b->entry_id ? -1 : a->entry_id < b->entry_id;
}

/* the entry of a hold that was captured */
static int64
entry_of_hold(PointsPost *p, int64 hold_id)
{
	PointsScan	scan;
	ScanKeyData key;
	int64		entry_id = 0;

	points_key_int8(&key, 1, hold_id);
	points_scan(&scan, &p->tables, PI_HOLD, &key, 1);
	if (points_next(&scan))
		entry_id = points_int8(&p->tables, PT_HOLD, PH_ENTRY);
	points_scan_end(&scan);
	return entry_id;
}

/*
 * The operations that may be undone, the last one first; sets item->posted
 * to what is to be undone.  22023 when that is not there.
 */
static Operation *
find_operations(PointsPost *p, PointsItem *item, int *n)
{
	PointsScan	scan;
	Operation  *list = NULL;
	int64		left = 0;

	/* what this batch has done up to here counts */
	points_flush(&p->tables);
	points_refresh(&p->tables);
	*n = 0;
	begin_scan(p, &scan, item);
	while (points_next(&scan))
	{
		Operation  *o;

		if (!undoes(p, item) || points_int8(&p->tables, PT_KEY, PK_POSTED) == 0 ||
			points_canonical(p, points_int8(&p->tables, PT_KEY, PK_CUSTOMER)) != item->account->key.customer_id)
			continue;
		if ((*n & (*n - 1)) == 0)
			list = *n == 0 ? palloc(sizeof(Operation)) : repalloc_huge(list, sizeof(Operation) * 2 * *n);
		o = &list[(*n)++];
		o->tid = points_tid(&p->tables, PT_KEY);
		points_copy(&p->tables, PT_KEY, o->values, o->nulls);
		o->left = DatumGetInt64(o->values[PK_POSTED]) - DatumGetInt64(o->values[PK_REVERSED]);
		left += o->left;
	}
	points_scan_end(&scan);
	if (*n == 0)
		refuse_reference(item);
	for (int i = 0; i < *n; i++)
	{
		list[i].entry_id = DatumGetInt64(list[i].values[PK_RESULT]);
		if (is_text(list[i].values[PK_VERB], "hold"))
			list[i].entry_id = entry_of_hold(p, list[i].entry_id);
	}
	qsort(list, *n, sizeof(Operation), compare_operations);
	if (left == 0 || (item->has_amount && item->amount > left))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%smore than is left of this reference", points_of_item(item)),
				 errhint(INT64_FORMAT " points can still be %s.", left, item->verb == POINTS_REFUND ? "refunded" : "clawed back")));
	item->posted = item->has_amount ? item->amount : left;
	return list;
}

static void
note_reversed(PointsPost *p, Operation *o, int64 amount)
{
	o->values[PK_REVERSED] = Int64GetDatum(DatumGetInt64(o->values[PK_REVERSED]) + amount);
	points_change(&p->tables, PT_KEY, &o->tid, o->values, o->nulls);
}

/* ------------------------------------------------------------------- refund */

typedef struct Use
{
	ItemPointerData tid;
	Datum		values[PU_COLUMNS];
	bool		nulls[PU_COLUMNS];
} Use;

static void
give_back(PointsPost *p, PointsItem *item, int64 lot_id, int64 amount, int *ord)
{
	PointsAccount *a = item->account;
	PointsLot  *lot = points_lot_get(p, lot_id);
	bool		mine = lot->customer_id == a->key.customer_id;
	TimestampTz at_least = DT_NOBEGIN;
	PointsLot	like;
	PointsLot  *made;

	if (a->program->has_refund_min)
		at_least = points_plus(p->now, &a->program->refund_min_validity);
	if (mine && lot->expires_at >= at_least)
	{
		lot->remaining += amount;
		lot->dirty = true;
		points_lot_list(p, a, lot);
		/* it may stand before the first that was not empty */
		a->head = 0;
		points_write_use(p, item->entry_id, ord, lot_id, -amount);
		return;
	}
	like = *lot;
	like.amount = amount;
	like.entry_id = item->entry_id;
	like.origin_lot = lot_id;
	like.expires_at = Max(lot->expires_at, at_least);
	made = points_lot_make(p, a, &like);
	points_write_move(p, lot_id, made->lot_id, amount, 0);
}

/* amount of what one entry has used, the last use first */
static void
restore_uses(PointsPost *p, PointsItem *item, int64 entry_id, int64 amount, int *ord)
{
	PointsScan	scan;
	ScanKeyData key;
	Use		   *uses = NULL;
	int			n = 0;

	points_key_int8(&key, 1, entry_id);
	points_scan(&scan, &p->tables, PI_USE, &key, 1);
	while (points_next(&scan))
	{
		if ((n & (n - 1)) == 0)
			uses = n == 0 ? palloc(sizeof(Use)) : repalloc_huge(uses, sizeof(Use) * 2 * n);
		uses[n].tid = points_tid(&p->tables, PT_USE);
		points_copy(&p->tables, PT_USE, uses[n].values, uses[n].nulls);
		n++;
	}
	points_scan_end(&scan);
	while (amount > 0 && n-- > 0)
	{
		Use		   *use = &uses[n];
		int64		restored = DatumGetInt64(use->values[PU_RESTORED]);
		int64		part = Min(amount, DatumGetInt64(use->values[PU_AMOUNT]) - restored);

		if (part <= 0)
			continue;
		give_back(p, item, DatumGetInt64(use->values[PU_LOT]), part, ord);
		use->values[PU_RESTORED] = Int64GetDatum(restored + part);
		points_change(&p->tables, PT_USE, &use->tid, use->values, use->nulls);
		amount -= part;
	}
	if (amount > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("uses of entry " INT64_FORMAT " are missing", entry_id),
				 errhint("SELECT * FROM cdp.verify_points(); shows what else is.")));
}

void
points_run_refund(PointsPost *p, PointsItem *item)
{
	int			n;
	Operation  *list = find_operations(p, item, &n);
	int64		left = item->posted;
	PointsEntry e;
	int			ord = 0;

	item->entry_id = points_next_id("points_entry_entry_id_seq");
	e = points_entry_of(p, item, "refund");
	e.amount = item->posted;
	for (int i = 0; i < n && left > 0; i++)
	{
		int64		part = Min(left, list[i].left);

		if (part <= 0)
			continue;
		if (e.reverses == 0)
			e.reverses = list[i].entry_id;
		restore_uses(p, item, list[i].entry_id, part, &ord);
		note_reversed(p, &list[i], part);
		left -= part;
	}
	points_write_entry(p, item->account, &e);
	points_key_write(p, item, 0);
	/* the account had expired: what comes back goes with the next run */
	if (item->program->expiry == EXPIRY_INACTIVITY && TIMESTAMP_IS_NOEND(item->account->active_until))
		item->account->active_until = p->now;
}

/* ---------------------------------------------------------------- claw-back */

typedef struct Clawing
{
	int64		entry_id;
	int			ord;
} Clawing;

static void
claw(PointsPost *p, PointsLot *lot, int64 amount, void *arg)
{
	Clawing    *clawing = arg;

	lot->remaining -= amount;
	points_write_use(p, clawing->entry_id, &clawing->ord, lot->lot_id, amount);
}

/*
 * What is left of a lot and of those that its points were moved to, of this
 * customer and not expired, whether or not the job has been there; answers
 * what was taken.
 */
static int64
claw_lot(PointsPost *p, PointsItem *item, int64 lot_id, int64 amount, Clawing *clawing)
{
	PointsLot  *lot = points_lot_get(p, lot_id);
	PointsScan	scan;
	ScanKeyData key;
	int64	   *heirs = NULL;
	int			n = 0;
	int64		taken = 0;

	check_stack_depth();
	if (lot->customer_id == item->account->key.customer_id && lot->remaining > lot->held && lot->expires_at > p->now)
	{
		taken = Min(amount, lot->remaining - lot->held);
		lot->account = item->account;
		lot->dirty = true;
		claw(p, lot, taken, clawing);
	}
	if (taken == amount)
		return taken;
	points_key_int8(&key, 1, lot_id);
	points_scan(&scan, &p->tables, PI_MOVE, &key, 1);
	while (points_next(&scan))
	{
		if ((n & (n - 1)) == 0)
			heirs = n == 0 ? palloc(sizeof(int64)) : repalloc_huge(heirs, sizeof(int64) * 2 * n);
		heirs[n++] = points_int8(&p->tables, PT_MOVE, PM_TO);
	}
	points_scan_end(&scan);
	for (int i = 0; i < n && taken < amount; i++)
		taken += claw_lot(p, item, heirs[i], amount - taken, clawing);
	return taken;
}

void
points_run_clawback(PointsPost *p, PointsItem *item)
{
	PointsAccount *a = item->account;
	int			n;
	Operation  *list = find_operations(p, item, &n);
	int64		left = item->posted;
	int64		missing = 0;
	Clawing		clawing = {0};
	PointsEntry e;

	item->entry_id = clawing.entry_id = points_next_id("points_entry_entry_id_seq");
	e = points_entry_of(p, item, "clawback");
	e.amount = -item->posted;
	for (int i = 0; i < n && left > 0; i++)
	{
		int64		part = Min(left, list[i].left);

		if (part <= 0)
			continue;
		if (e.reverses == 0)
			e.reverses = list[i].entry_id;
		if (!list[i].nulls[PK_LOT])
			missing += part - claw_lot(p, item, DatumGetInt64(list[i].values[PK_LOT]), part, &clawing);
		else
			missing += part;
		note_reversed(p, &list[i], part);
		left -= part;
	}
	if (missing > 0 && a->program->negative != 'r')
		missing -= points_take(p, a, missing, true, claw, &clawing);
	if (missing > 0)
	{
		int64		limit = a->program->debt_limit;
		int64		credit = a->program->negative != 'd' ? 0 : limit < 0 ? POINTS_MAX : Max(limit - a->debt, 0);

		if (missing > credit)
			ereport(ERROR,
					(errcode(ERRCODE_CDP_NOT_ENOUGH_POINTS),
					 errmsg("%sthe points that were earned are not there any more", points_of_item(item)),
					 errdetail("Needed are " INT64_FORMAT ", available " INT64_FORMAT ".", item->posted, item->posted - missing + credit),
					 errhint("cdp.points_program.negative and debt_limit say what may be taken instead.")));
		e.debt = missing;
	}
	points_write_entry(p, a, &e);
	points_key_write(p, item, 0);
}
