/*
 * points_key.c
 *	  One key is one operation, for ever.
 *
 * A key is looked up when the account is locked.  Whoever asks for the same
 * thing gets the answer of the first time; the same thing means verb,
 * customer (any of his ids), program, amount and reference.  Moments and
 * details are not compared: a client takes them from its clock, and its
 * retry would be refused.
 *
 * Page: doc/points.md.  Tests: test/sql/points.sql,
 * test/specs/points_key_replay.spec, test/specs/points_key_conflict.spec.
 */
#include "points_engine.h"

#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

static const char *const verb_names[] = {
	[POINTS_EARN] = "earn", [POINTS_SPEND] = "spend", [POINTS_ADJUST] = "adjust", [POINTS_TRANSFER] = "transfer",
	[POINTS_REFUND] = "refund", [POINTS_CLAWBACK] = "clawback", [POINTS_HOLD] = "hold",
};

/* keys of this batch */
typedef struct BatchKey
{
	char		key[POINTS_MAX_KEY + 4];
	PointsItem *item;			/* the first that had it */
} BatchKey;

static void
batch_key(const PointsItem *item, char *key)
{
	int			len = VARSIZE_ANY_EXHDR(item->key);

	memset(key, 0, POINTS_MAX_KEY + 4);
	memcpy(key, &len, sizeof(int));
	memcpy(key + sizeof(int), VARDATA_ANY(item->key), len);
}

pg_noreturn static void
refuse_reuse(const PointsItem *item)
{
	ereport(ERROR,
			(errcode(ERRCODE_CDP_KEY_REUSED),
			 errmsg("%sthe idempotency key was used for something else", points_of_item(item)),
			 errhint("A key stands for one verb, customer, program, amount and reference; take a new one for another operation.")));
}

/* a row that is inserted has nobody who could be told the answer of the first time */
pg_noreturn static void
refuse_duplicate(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("an idempotency_key of these rows is known already"),
			 errhint("Leave those rows out: WHERE NOT EXISTS (SELECT FROM cdp.points_key k WHERE k.idempotency_key = …). cdp.post_points() answers known keys instead.")));
}

static bool
same_text(const text *a, const text *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) && memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* does the row that was read ask for what the item asks for? */
static bool
is_same(PointsPost *p, const PointsItem *item)
{
	PointsTables *t = &p->tables;
	bool		isnull;
	Datum		d;
	text	   *verb = DatumGetTextPP(points_value(t, PT_KEY, PK_VERB, &isnull));
	text	   *program = DatumGetTextPP(points_value(t, PT_KEY, PK_PROGRAM, &isnull));
	int64		profile_id = points_int8(t, PT_KEY, PK_PROFILE);
	int64		other_id = points_int8(t, PT_KEY, PK_OTHER);

	if (strlen(verb_names[item->verb]) != VARSIZE_ANY_EXHDR(verb) ||
		memcmp(VARDATA_ANY(verb), verb_names[item->verb], VARSIZE_ANY_EXHDR(verb)) != 0 ||
		!same_text(program, DatumGetTextPP(item->program->name_datum)))
		return false;
	d = points_value(t, PT_KEY, PK_AMOUNT, &isnull);
	if (isnull == item->has_amount || (item->has_amount && DatumGetInt64(d) != item->amount))
		return false;
	d = points_value(t, PT_KEY, PK_REFERENCE, &isnull);
	if (!same_text(isnull ? NULL : DatumGetTextPP(d), item->reference))
		return false;
	/* who passed no customer need not have known whose the reference was */
	if (!item->has_profile || profile_id == 0)
		return item->has_profile == (profile_id != 0);
	return points_canonical(p, profile_id) == points_canonical(p, item->profile_id) &&
		(other_id == 0) == (item->other_id == 0) &&
		(other_id == 0 || points_canonical(p, other_id) == points_canonical(p, item->other_id));
}

static bool
is_same_item(const PointsItem *a, const PointsItem *b)
{
	return a->verb == b->verb && a->program == b->program && a->has_amount == b->has_amount && a->amount == b->amount &&
		same_text(a->reference, b->reference) && a->has_profile == b->has_profile && a->customer_id == b->customer_id &&
		a->receiver_id == b->receiver_id;
}

/* true: it is answered.  LC302 */
bool
points_key_known(PointsPost *p, PointsItem *item)
{
	PointsScan	scan;
	ScanKeyData key;
	BatchKey   *mine = NULL;
	bool		found;

	if (item->ord > 0 || item->written)
	{
		char		bytes[POINTS_MAX_KEY + 4];

		batch_key(item, bytes);
		mine = hash_search(p->keys, bytes, HASH_ENTER, &found);
		if (found)
		{
			if (item->written)
				refuse_duplicate();
			if (!is_same_item(mine->item, item))
				refuse_reuse(item);
			item->entry_id = mine->item->entry_id;
			item->replayed = true;
			return true;
		}
		mine->item = item;
	}
	points_key_text(&key, 1, PointerGetDatum(item->key));
	points_scan(&scan, &p->tables, PI_KEY, &key, 1);
	found = points_next(&scan);
	if (found)
	{
		if (item->written)
			refuse_duplicate();
		if (!is_same(p, item))
			refuse_reuse(item);
		item->entry_id = points_int8(&p->tables, PT_KEY, PK_RESULT);
		item->replayed = true;
	}
	points_scan_end(&scan);
	return found;
}

void
points_key_write(PointsPost *p, const PointsItem *item, int64 lot_id)
{
	MemoryContext caller = MemoryContextSwitchTo(points_row_context(&p->tables, PT_KEY));
	Datum		values[PK_COLUMNS];
	bool		nulls[PK_COLUMNS] = {false};

	values[PK_KEY] = PointerGetDatum(item->key);
	values[PK_VERB] = CStringGetTextDatum(verb_names[item->verb]);
	values[PK_PROFILE] = Int64GetDatum(item->profile_id);
	nulls[PK_PROFILE] = !item->has_profile;
	values[PK_OTHER] = Int64GetDatum(item->other_id);
	nulls[PK_OTHER] = item->other_id == 0;
	values[PK_CUSTOMER] = Int64GetDatum(item->account->key.customer_id);
	values[PK_PROGRAM] = item->program->name_datum;
	values[PK_AMOUNT] = Int64GetDatum(item->amount);
	nulls[PK_AMOUNT] = !item->has_amount;
	values[PK_REFERENCE] = PointerGetDatum(item->reference);
	nulls[PK_REFERENCE] = item->reference == NULL;
	values[PK_RESULT] = Int64GetDatum(item->entry_id);
	values[PK_LOT] = Int64GetDatum(lot_id);
	nulls[PK_LOT] = lot_id == 0;
	values[PK_POSTED] = Int64GetDatum(item->posted);
	values[PK_REVERSED] = Int64GetDatum(0);
	values[PK_POSTED_AT] = TimestampTzGetDatum(p->now);
	points_put(&p->tables, PT_KEY, values, nulls);
	MemoryContextSwitchTo(caller);
}
