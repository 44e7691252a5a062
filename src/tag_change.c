/*
 * tag_change.c
 *	  What follows from a write to cdp.profile_tag, after each statement.
 *
 *		profile_tag				tag_history			tag_change		event
 *		own_tags, or tags		one row per entry					Tag Added, Tag Removed
 *		where it is NULL		that differs						where the tag emits events
 *		tags										one row
 *
 * What was said is told from own_tags, what counts from tags: a merge changes
 * tags only, and nothing was said by it.
 *
 * Verbs lock the customer's profile before they look, so a merge never
 * passes them.  Plain statements do not.  A row that is updated or deleted is
 * locked by that itself; a row that is inserted is what nobody else can
 * lock, so its profile is locked here.  Then two things are put right that a
 * plain statement cannot know: a row of a profile that is part of another
 * customer, and tags of a merged customer that were changed without own_tags.
 *
 * A statement of several kinds (MERGE, data-modifying WITH) has a trigger per
 * kind, each with its own rows; PostgreSQL calls them in the order in which
 * the parts were finished.
 *
 * SQL: sql/tag_customer.sql.  Page: doc/tag_customer.md.  Tests:
 * test/sql/tag_customer.sql, test/pgtap/tag_customer.sql.
 */
#include "tag_customer.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "event.h"
#include "executor/executor.h"
#include "identity_step.h"
#include "miscadmin.h"
#include "probe.h"
#include "rows.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cdp_profile_tag_changed);

#define EVENTS_AT_ONCE	1000

static const CdpTagWriter plain_writer = {0};
static const CdpTagWriter *writer = &plain_writer;

/* the last statement whose trigger was told of rows with a new profile_id */
static FullTransactionId appeared_xid;
static CommandId appeared_command;

uint64
cdp_write_tags(SPIPlanPtr plan, Datum *args, const char *nulls, const CdpTagWriter *as)
{
	const CdpTagWriter *before = writer;
	uint64		n;

	writer = as;
	PG_TRY();
	{
		if (SPI_execute_plan(plan, args, nulls, false, 0) < 0)
			elog(ERROR, "could not write cdp.profile_tag");
		n = SPI_processed;
	}
	PG_FINALLY();
	{
		writer = before;
	}
	PG_END_TRY();
	return n;
}

/* one row of profile_tag before and after; NULL where there is none */
typedef struct Side
{
	struct varlena *tags;
	struct varlena *own;
} Side;

/* tags of a merged customer were written by a plain statement */
typedef struct Lagging
{
	int64		customer_id;
	struct varlena *gone;		/* entries that were taken away, NULL: none */
} Lagging;

typedef struct Change
{
	TimestampTz now;
	Oid			history_ids;	/* sequence */
	CdpRows    *history;
	CdpRows    *counted;
	MemoryContext row_context;
	bool		has_history;
	bool		has_counted;
	List	   *events;
	MemoryContext event_context;
	/* what a plain statement left to be put right */
	int64	   *owned;			/* profiles whose own_tags were written: tags follow */
	int			nowned;
	int64	   *given;			/* parts that were given tags: they become own_tags */
	int			ngiven;
	List	   *lagging;		/* of Lagging: own_tags follow */
	MemoryContext lagging_context;
} Change;

static void
open_or_empty(TagSet *set, const struct varlena *value)
{
	if (value != NULL)
		cdp_tagset_open(set, value);
	else
		memset(set, 0, sizeof(TagSet));
}

/* what cdp.tag says of an entry that is written; 55000, 22023 where it must not be */
static const CdpTagRule *
check_entry(const char *name, int len, const TagEntry *new)
{
	const CdpTagRule *rule = cdp_tag_rule(name, len);

	if (rule == NULL || writer->quiet)
		return rule;
	if (rule->has_rule && !writer->by_rule)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tag \"%s\" belongs to its rule", rule->name),
				 errhint("CALL cdp.refresh_tags('%s') writes it; cdp.define_tag() without rule gives it back to you.", rule->name)));
	if (new != NULL && rule->typed && new->value.type != rule->value_type)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a value of tag \"%s\" must be of type %s, not %s", rule->name, cdp_tag_type_name(rule->value_type),
						cdp_tag_type_name(new->value.type)),
				 errhint("cdp.define_tag() says what type a tag has.")));
	return rule;
}

/* an event, to be written with others */
static void
note_event(Change *c, const char *event, int64 profile_id, const char *name, int len, const TagEntry *entry, int64 change_id)
{
	MemoryContext caller = MemoryContextSwitchTo(c->event_context);
	CdpEventItem *item = palloc0(sizeof(CdpEventItem));
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"tag\": ");
	escape_json(&json, pnstrdup(name, len));
	if (entry != NULL && entry->value.type == TAG_NUMBER)
		appendStringInfo(&json, ", \"value\": %s", cdp_tag_value_text(&entry->value));
	else if (entry != NULL && entry->value.type != TAG_NONE)
	{
		appendStringInfoString(&json, ", \"value\": ");
		escape_json(&json, cdp_tag_value_text(&entry->value));
	}
	if (entry != NULL && entry->valid_until != DT_NOEND)
	{
		int			start;

		appendStringInfoString(&json, ", \"valid_until\": \"");
		start = json.len;
		cdp_tag_put_instant(&json, entry->valid_until);
		/* where a tagset has the day alone, readers of JSON want a moment */
		appendStringInfoString(&json, json.len - start == 10 ? "T00:00:00Z\"" : "\"");
	}
	if (writer->source != NULL)
	{
		appendStringInfoString(&json, ", \"source\": ");
		escape_json(&json, writer->source);
	}
	appendStringInfoChar(&json, '}');
	item->event_id = nextval_internal(cdp_relation("event_event_id_seq"), false);
	item->who.profile_id = profile_id;
	item->who.occurred_at = item->received_at = c->now;
	item->who.source = "cdp";
	item->name = event;
	item->message_id = psprintf("tag:" INT64_FORMAT, change_id);
	item->properties = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
	c->events = lappend(c->events, item);
	MemoryContextSwitchTo(caller);
}

static void
write_events(Change *c)
{
	int			n = list_length(c->events);
	CdpEventItem **items;

	if (n == 0)
		return;
	items = palloc(sizeof(CdpEventItem *) * n);
	for (int i = 0; i < n; i++)
		items[i] = list_nth(c->events, i);
	(void) cdp_write_events(items, n, true);
	c->events = NIL;
	MemoryContextReset(c->event_context);
}

/* one entry that differs; old or new is NULL where there is none */
static void
note_entry(Change *c, int64 profile_id, const TagEntry *old, const TagEntry *new)
{
	const TagEntry *entry = new != NULL ? new : old;
	const CdpTagRule *rule;
	int64		change_id;
	Datum		values[9];
	bool		nulls[9] = {false};

	Assert(entry != NULL);
	rule = check_entry(entry->name, entry->name_len, new);
	if (writer->quiet)
		return;
	change_id = nextval_internal(c->history_ids, false);
	cdp_rows_start(c->history);
	values[0] = Int64GetDatum(change_id);
	values[1] = Int64GetDatum(profile_id);
	values[2] = PointerGetDatum(cstring_to_text_with_len(entry->name, entry->name_len));
	values[3] = CStringGetTextDatum(new == NULL ? "removed" : old == NULL ? "added" : "changed");
	nulls[4] = new == NULL || new->value.type == TAG_NONE;
	if (!nulls[4])
		values[4] = CStringGetTextDatum(cdp_tag_value_text(&new->value));
	nulls[5] = new == NULL;
	if (!nulls[5])
		values[5] = CStringGetTextDatum(cdp_tag_type_name(new->value.type));
	nulls[6] = new == NULL || new->valid_until == DT_NOEND;
	if (!nulls[6])
		values[6] = TimestampTzGetDatum(new->valid_until);
	nulls[7] = writer->source == NULL;
	if (!nulls[7])
		values[7] = CStringGetTextDatum(writer->source);
	values[8] = TimestampTzGetDatum(c->now);
	cdp_rows_put(c->history, values, nulls);
	c->has_history = true;

	if (rule != NULL && rule->emits_events)
	{
		/* an entry that has expired is not there any more, whatever the row says */
		bool		was = old != NULL && c->now < old->valid_until;
		bool		is = new != NULL && c->now < new->valid_until;

		if (is && !was)
			note_event(c, "Tag Added", profile_id, entry->name, entry->name_len, new, change_id);
		else if (was && !is)
			note_event(c, "Tag Removed", profile_id, entry->name, entry->name_len, NULL, change_id);
		if (list_length(c->events) >= EVENTS_AT_ONCE)
			write_events(c);
	}
}

static int
compare_names(const TagEntry *a, const TagEntry *b)
{
	int			cmp = memcmp(a->name, b->name, Min(a->name_len, b->name_len));

	return cmp != 0 ? cmp : a->name_len - b->name_len;
}

/* walk two sets side by side */
static void
note_difference(Change *c, int64 profile_id, const struct varlena *before, const struct varlena *after)
{
	TagSet		old_set,
				new_set;
	TagCursor	old_cursor = {0},
				new_cursor = {0};
	TagEntry	old,
				new;
	bool		has_old,
				has_new;

	open_or_empty(&old_set, before);
	open_or_empty(&new_set, after);
	has_old = cdp_tagset_next(&old_set, &old_cursor, &old);
	has_new = cdp_tagset_next(&new_set, &new_cursor, &new);
	while (has_old || has_new)
	{
		int			cmp = !has_old ? 1 : !has_new ? -1 : compare_names(&old, &new);

		if (cmp < 0)
			note_entry(c, profile_id, &old, NULL);
		else if (cmp > 0)
			note_entry(c, profile_id, NULL, &new);
		else if (!cdp_tag_same_entry(&old, &new))
			note_entry(c, profile_id, &old, &new);
		if (cmp <= 0)
			has_old = cdp_tagset_next(&old_set, &old_cursor, &old);
		if (cmp >= 0)
			has_new = cdp_tagset_next(&new_set, &new_cursor, &new);
	}
}

/* remember a merged customer whose tags were written */
static void
note_lagging(Change *c, int64 customer_id, const struct varlena *before, const struct varlena *after)
{
	MemoryContext caller;
	TagSet		old,
				new;
	TagEntry   *entries;
	Lagging    *l;
	int			n = 0;

	open_or_empty(&old, before);
	open_or_empty(&new, after);
	entries = palloc(sizeof(TagEntry) * Max(old.count, 1));
	for (TagCursor cursor = {0}; cdp_tagset_next(&old, &cursor, &entries[n]);)
	{
		if (cdp_tagset_find(&new, entries[n].name, entries[n].name_len) < 0)
			n++;
	}
	caller = MemoryContextSwitchTo(c->lagging_context);
	l = palloc(sizeof(Lagging));
	l->customer_id = customer_id;
	l->gone = n > 0 ? cdp_tagset_build(entries, n) : NULL;
	c->lagging = lappend(c->lagging, l);
	MemoryContextSwitchTo(caller);
}

/*
 * One row of the statement; is_part: this profile belongs to another
 * customer.  What a plain statement did to rows of merged customers is put
 * right afterwards: own_tags were written, so tags follow, or tags alone
 * were, so own_tags follow.  Tags that are given to a part become its own.
 */
static void
note_row(Change *c, int64 profile_id, const Side *old, const Side *new, bool is_part)
{
	bool		plain = !writer->quiet && !writer->spreading;
	bool		given = plain && is_part && new->tags != NULL && (new->own == NULL || cdp_tagset_same(old->own, new->own));
	const struct varlena *own_before = old->own ? old->own : old->tags;
	const struct varlena *own_after = new->own && !given ? new->own : new->tags;
	bool		tags_differ = !cdp_tagset_same(old->tags, new->tags);
	bool		own_differs = !cdp_tagset_same(own_before, own_after);

	if (own_differs)
		note_difference(c, profile_id, own_before, own_after);
	if (given)
		c->given[c->ngiven++] = profile_id;
	if (plain && is_part && (own_differs || new->tags != NULL))
		c->owned[c->nowned++] = profile_id;
	else if (plain && !is_part && (old->own != NULL || new->own != NULL))
	{
		/* own_tags were written, or given up where the row stays */
		if (!cdp_tagset_same(old->own, new->own) && (new->own != NULL || new->tags != NULL))
			c->owned[c->nowned++] = profile_id;
		else if (tags_differ)
			note_lagging(c, profile_id, old->tags, new->tags);
	}
	/* as it is in the row, also for the moment until the row of a part is put right: changes of a row are a chain */
	if (tags_differ)
	{
		Datum		values[3];
		bool		nulls[3] = {false, old->tags == NULL, new->tags == NULL};

		cdp_rows_start(c->counted);
		values[0] = Int64GetDatum(profile_id);
		values[1] = PointerGetDatum(old->tags);
		values[2] = PointerGetDatum(new->tags);
		cdp_rows_put(c->counted, values, nulls);
		c->has_counted = true;
	}
}

/* the rows of a statement, side by side */
typedef struct Rows
{
	Tuplestorestate *old;		/* NULL: none */
	Tuplestorestate *new;
	int			old_ptr;
	int			new_ptr;
	TupleTableSlot *old_slot;
	TupleTableSlot *new_slot;
	int			attr[3];		/* profile_id, tags, own_tags: a repaired table may have them in another order */
} Rows;

static void
rows_begin(Rows *rows, TriggerData *td)
{
	static const char *const names[3] = {"profile_id", "tags", "own_tags"};
	TupleDesc	desc = RelationGetDescr(td->tg_relation);

	memset(rows, 0, sizeof(Rows));
	rows->old = TRIGGER_FIRED_BY_INSERT(td->tg_event) ? NULL : td->tg_oldtable;
	rows->new = TRIGGER_FIRED_BY_DELETE(td->tg_event) ? NULL : td->tg_newtable;
	if (rows->old != NULL)
		rows->old_ptr = tuplestore_alloc_read_pointer(rows->old, EXEC_FLAG_REWIND);
	if (rows->new != NULL)
		rows->new_ptr = tuplestore_alloc_read_pointer(rows->new, EXEC_FLAG_REWIND);
	rows->old_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	rows->new_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	for (int i = 0; i < lengthof(names); i++)
	{
		rows->attr[i] = SPI_fnumber(desc, names[i]);
		if (rows->attr[i] <= 0)
			elog(ERROR, "column %s of cdp.profile_tag is missing", names[i]);
	}
}

static void
rows_rewind(Rows *rows)
{
	if (rows->old != NULL)
	{
		tuplestore_select_read_pointer(rows->old, rows->old_ptr);
		tuplestore_rescan(rows->old);
	}
	if (rows->new != NULL)
	{
		tuplestore_select_read_pointer(rows->new, rows->new_ptr);
		tuplestore_rescan(rows->new);
	}
}

/* an UPDATE puts both versions of each row into their stores at once, so they are pairs */
static bool
rows_next(Rows *rows)
{
	bool		found = false;

	if (rows->old != NULL)
	{
		tuplestore_select_read_pointer(rows->old, rows->old_ptr);
		found = tuplestore_gettupleslot(rows->old, true, false, rows->old_slot);
	}
	if (rows->new != NULL)
	{
		tuplestore_select_read_pointer(rows->new, rows->new_ptr);
		found = tuplestore_gettupleslot(rows->new, true, false, rows->new_slot);
	}
	return found;
}

static void
rows_end(Rows *rows)
{
	ExecDropSingleTupleTableSlot(rows->old_slot);
	ExecDropSingleTupleTableSlot(rows->new_slot);
}

static int64
slot_id(Rows *rows, TupleTableSlot *slot)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(slot, rows->attr[0], &isnull));
}

static struct varlena *
attribute(TupleTableSlot *slot, int attr)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attr, &isnull);

	return isnull ? NULL : PG_DETOAST_DATUM_PACKED(value);
}

static void
slot_side(Rows *rows, TupleTableSlot *slot, Side *side)
{
	side->tags = attribute(slot, rows->attr[1]);
	side->own = attribute(slot, rows->attr[2]);
}

/*
 * Profiles of new rows, which nothing else keeps a merge away from.  A
 * profile that is not there has no customer.
 */
static void
lock_new(const int64 *ids, int n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	Datum		arg = cdp_id_array(ids, n);

	cdp_plan_custom(&plan, "SELECT FROM cdp.profile WHERE profile_id = ANY ($1) ORDER BY profile_id FOR NO KEY UPDATE", 1, types);
	if (SPI_execute_plan(plan, &arg, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not lock profiles");
	if (SPI_processed < n)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("a row of cdp.profile_tag is of a profile that does not exist"),
				 errhint("cdp.identify() makes profiles; tags are given to the ids it answers.")));
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Which of these profiles are part of another customer now, whatever the
 * snapshot of the transaction says: bits in the order of ids.
 */
static bool *
find_parts(const int64 *ids, int n)
{
	bool	   *parts = palloc0(sizeof(bool) * Max(n, 1));
	CdpProbe   *probe;

	PushActiveSnapshot(GetLatestSnapshot());
	probe = cdp_probe_open("profile_alias", "profile_alias_pkey");
	for (int i = 0; i < n; i++)
	{
		if (i % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
		parts[i] = cdp_probe_int8(probe, ids[i]) != NULL;
	}
	cdp_probe_close(probe);
	PopActiveSnapshot();
	if (!IsolationUsesXactSnapshot())
		return parts;
	probe = cdp_probe_open("profile_alias", "profile_alias_pkey");
	for (int i = 0; i < n; i++)
	{
		if (parts[i] && cdp_probe_int8(probe, ids[i]) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access: these customers were merged concurrently"),
					 errhint("Retry the transaction.")));
	}
	cdp_probe_close(probe);
	return parts;
}

static void
change_begin(Change *c, int nrows)
{
	static const char *const history[9] = {"change_id", "profile_id", "tag", "change", "value", "value_type", "valid_until", "source", "changed_at"};
	static const Oid history_types[9] = {INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID};
	static const char *const counted[3] = {"customer_id", "old", "new"};
	Oid			tagset = cdp_tagset_type();
	Oid			counted_types[3] = {INT8OID, tagset, tagset};

	memset(c, 0, sizeof(Change));
	c->now = cdp_now_value();
	c->history_ids = cdp_relation("tag_history_change_id_seq");
	c->history = cdp_rows_open("said", 9, history, history_types);
	c->counted = cdp_rows_open("counted", 3, counted, counted_types);
	c->row_context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp row of tags", ALLOCSET_DEFAULT_SIZES);
	c->event_context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp events of tags", ALLOCSET_DEFAULT_SIZES);
	c->owned = palloc_extended(sizeof(int64) * Max(nrows, 1), MCXT_ALLOC_HUGE);
	c->given = palloc_extended(sizeof(int64) * Max(nrows, 1), MCXT_ALLOC_HUGE);
	c->lagging_context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp merged customers", ALLOCSET_DEFAULT_SIZES);
}

/*
 * What a plain statement did to rows of merged customers: first what each
 * profile has of its own, then the union, so that whatever the statement
 * said of several rows of a customer counts.
 */
static void
put_right(Change *c)
{
	static SPIPlanPtr own = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	static const CdpTagWriter quiet = {.quiet = true, .locked = true};
	ListCell   *lc;

	if (c->ngiven > 0)
	{
		Datum		arg = cdp_id_array(c->given, c->ngiven);

		(void) cdp_write_tags(cdp_plan_custom(&own, "UPDATE cdp.profile_tag SET own_tags = tags, tags = NULL WHERE profile_id = ANY ($1) AND tags IS NOT NULL", 1, types),
							  &arg, NULL, &quiet);
	}
	foreach(lc, c->lagging)
	{
		Lagging    *l = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		cdp_spread_tags(l->customer_id, l->gone, writer);
	}
	for (int i = 0; i < c->nowned; i++)
		c->owned[i] = cdp_customer_of(c->owned[i], false);
	qsort(c->owned, c->nowned, sizeof(int64), cdp_id_compare);
	for (int i = 0; i < c->nowned; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i == 0 || c->owned[i] != c->owned[i - 1])
			cdp_reunite_tags(c->owned[i]);
	}
	MemoryContextDelete(c->lagging_context);
}

/* write what was noted, then put right what a plain statement could not know */
static void
change_end(Change *c)
{
	static SPIPlanPtr history = NULL;
	static SPIPlanPtr counted = NULL;

	write_events(c);
	if (c->has_history)
	{
		cdp_rows_publish(c->history);
		if (SPI_execute_plan(cdp_plan(&history, "INSERT INTO cdp.tag_history (change_id, profile_id, tag, change, value, value_type, valid_until, source, changed_at)"
									  " SELECT change_id, profile_id, tag, change, value, value_type, valid_until, source, changed_at FROM said",
									  0, NULL), NULL, NULL, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "could not write cdp.tag_history");
	}
	cdp_rows_close(c->history);
	if (c->has_counted)
	{
		cdp_rows_publish(c->counted);
		if (SPI_execute_plan(cdp_plan(&counted, "INSERT INTO cdp.tag_change (customer_id, old, new) SELECT customer_id, old, new FROM counted",
									  0, NULL), NULL, NULL, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "could not write cdp.tag_change");
	}
	cdp_rows_close(c->counted);
	MemoryContextDelete(c->row_context);
	MemoryContextDelete(c->event_context);
	put_right(c);
}

/* one pair of rows of an INSERT, UPDATE or DELETE */
static void
change_rows(Change *c, Rows *rows, const bool *parts)
{
	int			i = 0;

	rows_rewind(rows);
	while (rows_next(rows))
	{
		MemoryContext caller = MemoryContextSwitchTo(c->row_context);
		static const Side none = {NULL, NULL};
		Side		old = none,
					new = none;
		int64		old_id = 0,
					new_id = 0;

		CHECK_FOR_INTERRUPTS();
		if (rows->old != NULL)
		{
			old_id = slot_id(rows, rows->old_slot);
			slot_side(rows, rows->old_slot, &old);
		}
		if (rows->new != NULL)
		{
			new_id = slot_id(rows, rows->new_slot);
			slot_side(rows, rows->new_slot, &new);
		}
		if (rows->old != NULL && rows->new != NULL && old_id == new_id)
			note_row(c, old_id, &old, &new, parts[i++]);
		else
		{
			if (rows->old != NULL)
				note_row(c, old_id, &old, &none, parts[i++]);
			if (rows->new != NULL)
				note_row(c, new_id, &none, &new, parts[i++]);
		}
		MemoryContextSwitchTo(caller);
		MemoryContextReset(c->row_context);
	}
}

/*
 * A statement may have several triggers, and one of them may have been called
 * before: then what this one has to tell comes too late, after a row that
 * came in the place of one that went, or after a row of a merged customer was
 * put right.  History would end with what was.
 */
static void
check_order(Rows *rows, const bool *parts, MemoryContext row_context)
{
	bool		late = appeared_command == GetActiveSnapshot()->curcid && FullTransactionIdEquals(appeared_xid, GetTopFullTransactionId());
	CdpProbe   *probe;
	int			tags,
				own,
				i = 0;

	cdp_push_fresh_snapshot();
	probe = cdp_probe_open("profile_tag", "profile_tag_pkey");
	tags = cdp_probe_column(probe, "tags");
	own = cdp_probe_column(probe, "own_tags");
	rows_rewind(rows);
	while (rows_next(rows))
	{
		int64		old_id = rows->old ? slot_id(rows, rows->old_slot) : 0;
		int64		new_id = rows->new ? slot_id(rows, rows->new_slot) : 0;
		bool		merged = (rows->old && !slot_attisnull(rows->old_slot, rows->attr[2])) ||
			(rows->new && !slot_attisnull(rows->new_slot, rows->attr[2]));
		bool		wrong = false;

		CHECK_FOR_INTERRUPTS();
		if (rows->old != NULL && (rows->new == NULL || old_id != new_id))
			wrong = (merged || parts[i] || late) && cdp_probe_int8(probe, old_id) != NULL;
		i += rows->old && rows->new && old_id != new_id;
		if (rows->new != NULL && (merged || parts[i]))
		{
			MemoryContext caller = MemoryContextSwitchTo(row_context);
			TupleTableSlot *slot = cdp_probe_int8(probe, new_id);
			Side		new;

			slot_side(rows, rows->new_slot, &new);
			wrong = wrong || slot == NULL || !cdp_tagset_same(attribute(slot, tags), new.tags) || !cdp_tagset_same(attribute(slot, own), new.own);
			MemoryContextSwitchTo(caller);
			MemoryContextReset(row_context);
		}
		i++;
		if (wrong)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a statement does several things to one row of cdp.profile_tag"),
					 errhint("Update the row, or delete it in one statement and insert the other in the next.")));
	}
	cdp_probe_close(probe);
	PopActiveSnapshot();
}

/* ids of the rows in their order, and of those that are new, sorted */
static int64 *
collect_ids(Rows *rows, int *n, int64 **new_ids, int *nnew)
{
	int64		room = (rows->old ? tuplestore_tuple_count(rows->old) : 0) + (rows->new ? tuplestore_tuple_count(rows->new) : 0);
	int64	   *ids = palloc_extended(sizeof(int64) * Max(room, 1), MCXT_ALLOC_HUGE);
	int			total = 0,
				fresh = 0;

	*new_ids = palloc_extended(sizeof(int64) * Max(room, 1), MCXT_ALLOC_HUGE);
	rows_rewind(rows);
	while (rows_next(rows))
	{
		int64		old_id = rows->old ? slot_id(rows, rows->old_slot) : 0;
		int64		new_id = rows->new ? slot_id(rows, rows->new_slot) : 0;

		if (rows->old != NULL)
			ids[total++] = old_id;
		if (rows->new != NULL && (rows->old == NULL || new_id != old_id))
		{
			ids[total++] = new_id;
			(*new_ids)[fresh++] = new_id;
		}
	}
	qsort(*new_ids, fresh, sizeof(int64), cdp_id_compare);
	*n = total;
	*nnew = fresh;
	return ids;
}

/* BEFORE TRUNCATE: every row goes as a DELETE would have taken it, but for the work of taking it */
static void
empty_rows(void)
{
	static SPIPlanPtr plan = NULL;

	if (SPI_execute_plan(cdp_plan(&plan, "DELETE FROM cdp.profile_tag", 0, NULL), NULL, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not empty cdp.profile_tag");
}

/* trigger on cdp.profile_tag: INSERT, UPDATE, DELETE after, TRUNCATE before the statement */
Datum
cdp_profile_tag_changed(PG_FUNCTION_ARGS)
{
	TriggerData *td = (TriggerData *) fcinfo->context;
	CdpVerb		verb;
	Rows		rows;
	Change		change;
	int64	   *ids;
	int64	   *new_ids;
	bool	   *parts;
	int			n,
				nnew;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_STATEMENT(td->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cdp._profile_tag_changed() must be called as a statement trigger")));
	cdp_begin_write(&verb, "profile_tag");
	if (TRIGGER_FIRED_BY_TRUNCATE(td->tg_event))
	{
		empty_rows();
		cdp_end(&verb);
		PG_RETURN_POINTER(NULL);
	}
	rows_begin(&rows, td);
	ids = collect_ids(&rows, &n, &new_ids, &nnew);
	if (n > 0)
	{
		if (nnew > 0 && !writer->locked)
			lock_new(new_ids, nnew);
		change_begin(&change, n);
		parts = find_parts(ids, n);
		if (!writer->quiet && !writer->spreading)
			check_order(&rows, parts, change.row_context);
		if (nnew > 0 && !writer->quiet)
		{
			appeared_xid = GetTopFullTransactionId();
			appeared_command = GetActiveSnapshot()->curcid;
		}
		change_rows(&change, &rows, parts);
		change_end(&change);
	}
	rows_end(&rows);
	cdp_end(&verb);
	PG_RETURN_POINTER(NULL);
}
