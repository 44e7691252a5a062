/*
 * points_insert.c
 *	  INSERT INTO cdp.points_entry: rows in plain SQL reach the same engine.
 *
 *		BEFORE each row		checks it, fills in what the caller does not say
 *		AFTER the statement	posts all rows as one batch
 *
 * The rows lie in the journal already when they are posted; an error takes
 * them away with the statement.  So they hold nothing that depends on the
 * lock of the account (but for debt that an earning pays, which is put in
 * afterwards), and a customer who was merged in between is 40001.
 *
 * However many rows there are, the accounts are locked in one order first;
 * then they are posted so many at a time.
 *
 * SQL: sql/points_insert.sql.  Page: doc/points_insert.md.  Tests:
 * test/sql/points_insert.sql, test/specs/points_insert_batch_order.spec.
 */
#include "points_engine.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "identity_step.h"
#include "probe.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cdp_fill_points_entry);
PG_FUNCTION_INFO_V1(cdp_post_points_entries);

pg_noreturn static void
refuse(int code, const char *what, const char *hint)
{
	ereport(ERROR, (errcode(code), errmsg("%s", what), errhint("%s", hint)));
}

static bool
is_kind(Datum kind, const char *name)
{
	text	   *t = DatumGetTextPP(kind);

	return VARSIZE_ANY_EXHDR(t) == strlen(name) && memcmp(VARDATA_ANY(t), name, strlen(name)) == 0;
}

static int64
canonical(int64 profile_id)
{
	CdpProbe   *p = cdp_probe_open("profile_alias", "profile_alias_pkey");
	TupleTableSlot *slot = cdp_probe_int8(p, profile_id);
	bool		isnull;
	int64		customer = slot ? DatumGetInt64(slot_getattr(slot, cdp_probe_column(p, "customer_id"), &isnull)) : profile_id;

	cdp_probe_close(p);
	return customer;
}

static const TriggerData *
trigger_of(FunctionCallInfo fcinfo, bool row)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || (TRIGGER_FIRED_FOR_ROW(trigger->tg_event) != 0) != row || !TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		(TRIGGER_FIRED_BEFORE(trigger->tg_event) != 0) != row || (!row && trigger->tg_newtable == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("a trigger of cdp.points_entry was made by hand"),
				 errhint("CALL cdp.migrate(); makes them as they have to be.")));
	return trigger;
}

/* BEFORE INSERT, each row */
Datum
cdp_fill_points_entry(PG_FUNCTION_ARGS)
{
	const TriggerData *trigger = trigger_of(fcinfo, true);
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	int			natts = desc->natts;
	Datum	   *values = palloc(sizeof(Datum) * natts);
	bool	   *nulls = palloc(sizeof(bool) * natts);
	AttrNumber	at[PE_COLUMNS];
	int64		amount;

	points_find_columns(PT_ENTRY, desc, at);
	/* as places in the arrays */
	for (int i = 0; i < PE_COLUMNS; i++)
		at[i]--;
	heap_deform_tuple(trigger->tg_trigtuple, desc, values, nulls);
	if (nulls[at[PE_PROFILE]])
		refuse(ERRCODE_NULL_VALUE_NOT_ALLOWED, "profile_id must not be NULL", "cdp.resolve() answers NULL when nobody has the identifier.");
	if (nulls[at[PE_KIND]])
		refuse(ERRCODE_NULL_VALUE_NOT_ALLOWED, "kind must not be NULL", "Rows of kind earn, spend and adjust can be inserted.");
	if (nulls[at[PE_AMOUNT]])
		refuse(ERRCODE_NULL_VALUE_NOT_ALLOWED, "amount must not be NULL", "Give a number of points; spend takes them, so it is below 0.");
	if (nulls[at[PE_PROGRAM]])
		refuse(ERRCODE_NULL_VALUE_NOT_ALLOWED, "program must not be NULL", "Leave it out for 'points'.");
	if (nulls[at[PE_KEY]])
		refuse(ERRCODE_NULL_VALUE_NOT_ALLOWED, "idempotency_key must not be NULL", "Use something that is the same when the rows come again, such as the id of the order.");
	if (!is_kind(values[at[PE_KIND]], "earn") && !is_kind(values[at[PE_KIND]], "spend") && !is_kind(values[at[PE_KIND]], "adjust"))
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED, psprintf("rows of kind \"%s\" are not inserted", TextDatumGetCString(values[at[PE_KIND]])),
			   "Rows of kind earn, spend and adjust can be; cdp.refund_points(), cdp.clawback_points(), cdp.transfer_points() and CALL cdp.expire_points() make the others.");
	amount = DatumGetInt64(values[at[PE_AMOUNT]]);
	if (amount == 0 || (is_kind(values[at[PE_KIND]], "earn") && amount < 0) || (is_kind(values[at[PE_KIND]], "spend") && amount > 0))
		refuse(ERRCODE_INVALID_PARAMETER_VALUE, "amount has the wrong sign", "It is what the balance changes by: earn above 0, spend below 0.");
	if (!nulls[at[PE_POSTED_AT]] && DatumGetTimestampTz(values[at[PE_POSTED_AT]]) != cdp_now_value())
		refuse(ERRCODE_INVALID_PARAMETER_VALUE, "posted_at is the present", "Leave it out; occurred_at is when it happened.");
	for (int i = PE_EXPIRES_AT; i <= PE_AVAILABLE_AT; i++)
	{
		if (!nulls[at[i]] && TIMESTAMP_IS_NOBEGIN(DatumGetTimestampTz(values[at[i]])))
			refuse(ERRCODE_INVALID_PARAMETER_VALUE, "expires_at and available_at must not be -infinity", "Leave them out for the rule of the program.");
	}
	if (!nulls[at[PE_OCCURRED_AT]] && TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(values[at[PE_OCCURRED_AT]])))
		refuse(ERRCODE_INVALID_PARAMETER_VALUE, "occurred_at must be a moment, not infinity", "Leave it out for the present.");
	if (nulls[at[PE_OCCURRED_AT]])
		values[at[PE_OCCURRED_AT]] = TimestampTzGetDatum(cdp_now_value());
	values[at[PE_ENTRY]] = Int64GetDatum(points_next_id("points_entry_entry_id_seq"));
	values[at[PE_CUSTOMER]] = Int64GetDatum(canonical(DatumGetInt64(values[at[PE_PROFILE]])));
	values[at[PE_DEBT]] = Int64GetDatum(0);
	nulls[at[PE_OCCURRED_AT]] = nulls[at[PE_ENTRY]] = nulls[at[PE_CUSTOMER]] = nulls[at[PE_DEBT]] = false;
	nulls[at[PE_REVERSES]] = true;
	return PointerGetDatum(heap_form_tuple(desc, values, nulls));
}

/* ------------------------------------------------------------ the statement */

static TimestampTz
moment_or_none(TupleTableSlot *slot, AttrNumber at)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, at, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

static text *
text_or_null(TupleTableSlot *slot, AttrNumber at)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, at, &isnull);

	return isnull ? NULL : DatumGetTextPCopy(value);
}

static void
take_row(PointsItem *item, TupleTableSlot *slot, const AttrNumber *at)
{
	bool		isnull;
	text	   *kind = text_or_null(slot, at[PE_KIND]);
	text	   *program = text_or_null(slot, at[PE_PROGRAM]);
	Datum		details = slot_getattr(slot, at[PE_DETAILS], &isnull);

	memset(item, 0, sizeof(PointsItem));
	item->details = isnull ? NULL : DatumGetJsonbPCopy(details);
	item->written = true;
	item->verb = is_kind(PointerGetDatum(kind), "earn") ? POINTS_EARN : is_kind(PointerGetDatum(kind), "spend") ? POINTS_SPEND : POINTS_ADJUST;
	item->entry_id = DatumGetInt64(slot_getattr(slot, at[PE_ENTRY], &isnull));
	item->profile_id = DatumGetInt64(slot_getattr(slot, at[PE_PROFILE], &isnull));
	item->has_profile = true;
	item->customer_id = DatumGetInt64(slot_getattr(slot, at[PE_CUSTOMER], &isnull));
	item->amount = DatumGetInt64(slot_getattr(slot, at[PE_AMOUNT], &isnull));
	if (item->verb == POINTS_SPEND)
		item->amount = -item->amount;
	item->has_amount = true;
	item->program_name = VARDATA_ANY(program);
	item->program_len = VARSIZE_ANY_EXHDR(program);
	item->key = text_or_null(slot, at[PE_KEY]);
	item->reference = text_or_null(slot, at[PE_REFERENCE]);
	item->occurred_at = moment_or_none(slot, at[PE_OCCURRED_AT]);
	item->expires_at = moment_or_none(slot, at[PE_EXPIRES_AT]);
	item->available_at = moment_or_none(slot, at[PE_AVAILABLE_AT]);
	item->release_at = DT_NOBEGIN;
}

/* up to most rows, the next ones of the store */
static int
take_rows(Tuplestorestate *store, TupleTableSlot *slot, const AttrNumber *at, PointsItem *items, int most)
{
	int			n = 0;

	while (n < most && tuplestore_gettupleslot(store, true, false, slot))
	{
		CHECK_FOR_INTERRUPTS();
		take_row(&items[n++], slot, at);
	}
	/* its tuple may be in a context that is reset */
	ExecClearTuple(slot);
	return n;
}

/* an account of the statement; programs are few, so they have numbers */
typedef struct Whom
{
	int64		customer_id;
	int			program;
} Whom;

static int
compare_whom(const void *x, const void *y)
{
	const Whom *a = x;
	const Whom *b = y;

	if (a->customer_id != b->customer_id)
		return a->customer_id < b->customer_id ? -1 : 1;
	return a->program < b->program ? -1 : a->program > b->program;
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/* more rows than are posted at a time: all accounts in their order first */
static void
lock_whom(Tuplestorestate *store, TupleTableSlot *slot, const AttrNumber *at, int64 nrows)
{
	Whom	   *list = palloc_extended(sizeof(Whom) * nrows, MCXT_ALLOC_HUGE);
	List	   *programs = NIL;
	int		   *rank;
	int64		n = 0;
	int64		m = 0;

	tuplestore_rescan(store);
	while (n < nrows && tuplestore_gettupleslot(store, true, false, slot))
	{
		bool		isnull;
		text	   *program = DatumGetTextPP(slot_getattr(slot, at[PE_PROGRAM], &isnull));
		int			k = 0;

		CHECK_FOR_INTERRUPTS();
		while (k < list_length(programs) && !is_kind(PointerGetDatum(program), list_nth(programs, k)))
			k++;
		if (k == list_length(programs))
		{
			char	   *name = text_to_cstring(program);

			/* before there are as many names as rows */
			(void) points_require_program(name, strlen(name), "");
			programs = lappend(programs, name);
		}
		list[n].customer_id = DatumGetInt64(slot_getattr(slot, at[PE_CUSTOMER], &isnull));
		list[n++].program = k;
	}
	/* numbers in the order of names, in which a batch locks */
	rank = palloc0(sizeof(int) * list_length(programs));
	for (int k = 0; k < list_length(programs); k++)
	{
		for (int other = 0; other < list_length(programs); other++)
			rank[k] += strcmp(list_nth(programs, other), list_nth(programs, k)) < 0;
	}
	for (int64 i = 0; i < n; i++)
		list[i].program = rank[list[i].program];
	list_sort(programs, compare_names);
	qsort(list, n, sizeof(Whom), compare_whom);
	for (int64 i = 0; i < n; i++)
	{
		if (m == 0 || compare_whom(&list[m - 1], &list[i]) != 0)
			list[m++] = list[i];
	}
	for (int64 i = 0; i < m;)
	{
		MemoryContext part = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp accounts", ALLOCSET_DEFAULT_SIZES);
		MemoryContext caller = MemoryContextSwitchTo(part);
		int			k = Min(m - i, POINTS_MAX_BATCH);
		PointsItem *items = palloc0(sizeof(PointsItem) * k);

		for (int j = 0; j < k; j++, i++)
		{
			items[j].verb = POINTS_LOCK;
			items[j].profile_id = list[i].customer_id;
			items[j].has_profile = true;
			items[j].program_name = list_nth(programs, list[i].program);
			items[j].program_len = strlen(items[j].program_name);
			items[j].expires_at = items[j].available_at = items[j].occurred_at = items[j].release_at = DT_NOBEGIN;
		}
		cdp_points_post(items, k);
		MemoryContextSwitchTo(caller);
		MemoryContextDelete(part);
	}
	pfree(list);
}

/* AFTER INSERT, each statement, REFERENCING NEW TABLE */
Datum
cdp_post_points_entries(PG_FUNCTION_ARGS)
{
	const TriggerData *trigger = trigger_of(fcinfo, false);
	Tuplestorestate *store = trigger->tg_newtable;
	TupleTableSlot *slot;
	MemoryContext part;
	AttrNumber	at[PE_COLUMNS];
	int64		nrows = tuplestore_tuple_count(store);

	if (nrows == 0)
		PG_RETURN_POINTER(NULL);
	cdp_check_write("INSERT INTO cdp.points_entry");
	/* the rows are of this command */
	CommandCounterIncrement();
	points_find_columns(PT_ENTRY, RelationGetDescr(trigger->tg_relation), at);
	slot = MakeSingleTupleTableSlot(RelationGetDescr(trigger->tg_relation), &TTSOpsMinimalTuple);
	if (nrows > POINTS_MAX_BATCH)
		lock_whom(store, slot, at, nrows);
	tuplestore_rescan(store);
	part = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp rows of points", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		MemoryContext caller = MemoryContextSwitchTo(part);
		int			most = Min(nrows, POINTS_MAX_BATCH);
		PointsItem *items = palloc_extended(sizeof(PointsItem) * most, MCXT_ALLOC_HUGE);
		int64	   *whom = palloc(sizeof(int64) * most);
		int			n = take_rows(store, slot, at, items, most);

		for (int i = 0; i < n; i++)
			whom[i] = items[i].customer_id;
		cdp_points_post(items, n);
		for (int i = 0; i < n; i++)
		{
			if (items[i].customer_id != whom[i])
				ereport(ERROR,
						(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						 errmsg("a customer was merged while his rows were inserted"),
						 errhint("Run the statement again.")));
		}
		MemoryContextSwitchTo(caller);
		MemoryContextReset(part);
		if (n < most)
			break;
	}
	MemoryContextDelete(part);
	ExecDropSingleTupleTableSlot(slot);
	PG_RETURN_POINTER(NULL);
}
