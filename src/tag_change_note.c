/*
 * tag_change_note.c
 *	  What follows from a row of cdp.profile_tag: what was said, what is to
 *	  be counted anew, what happened.
 *
 *		own_tags before, after	─>	tag_history, one row per entry that differs
 *										└>	event, where the tag emits events
 *		tags before, after		─>	tag_change, one row
 *
 * Most statements are of one row, and to read a relation of one row costs
 * more than to write it: so the only one goes as parameters of a plan.
 *
 * Page: doc/tag_customer.md.  Tests: test/sql/tag_customer.sql,
 * test/pgtap/tag_customer.sql.
 */
#include "tag_change.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_is_tag_change);

#define EVENTS_AT_ONCE	1000

/* one table that is written */
typedef struct CdpNoteKind
{
	const char *relation;		/* name of many rows in statement many */
	int			ncolumns;
	const char *names[CDP_NOTE_COLUMNS];
	Oid			types[CDP_NOTE_COLUMNS];	/* InvalidOid: tagset */
	const char *one;
	const char *many;
	CdpTagPlan *one_plan;
	SPIPlanPtr *many_plan;
} CdpNoteKind;

static CdpTagPlan history_one;
static CdpTagPlan counted_one;
static SPIPlanPtr history_many = NULL;
static SPIPlanPtr counted_many = NULL;

static const CdpNoteKind history_kind = {
	"said", 9,
	{"change_id", "profile_id", "tag", "change", "value", "value_type", "valid_until", "source", "changed_at"},
	{INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID},
	"INSERT INTO cdp.tag_history (change_id, profile_id, tag, change, value, value_type, valid_until, source, changed_at)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
	"INSERT INTO cdp.tag_history (change_id, profile_id, tag, change, value, value_type, valid_until, source, changed_at)"
	" SELECT change_id, profile_id, tag, change, value, value_type, valid_until, source, changed_at FROM said",
	&history_one, &history_many
};

static const CdpNoteKind counted_kind = {
	"counted", 3,
	{"customer_id", "old", "new"},
	{INT8OID, InvalidOid, InvalidOid},
	"INSERT INTO cdp.tag_change (customer_id, old, new) VALUES ($1, $2, $3)",
	"INSERT INTO cdp.tag_change (customer_id, old, new) SELECT customer_id, old, new FROM counted",
	&counted_one, &counted_many
};

/* one row; of the only row of a statement what it points to stays, otherwise it is copied */
static void
put_note(CdpTagNotes *c, CdpNotes *notes, const Datum *values, const bool *nulls)
{
	const CdpNoteKind *kind = notes->kind;

	notes->n++;
	if (c->only && notes->n == 1)
	{
		memcpy(notes->values, values, sizeof(Datum) * kind->ncolumns);
		memcpy(notes->nulls, nulls, sizeof(bool) * kind->ncolumns);
		return;
	}
	if (notes->rows == NULL)
	{
		Oid			types[CDP_NOTE_COLUMNS];
		MemoryContext caller = MemoryContextSwitchTo(c->context);

		for (int i = 0; i < kind->ncolumns; i++)
			types[i] = OidIsValid(kind->types[i]) ? kind->types[i] : cdp_tagset_type();
		notes->rows = cdp_rows_open(kind->relation, kind->ncolumns, kind->names, types);
		MemoryContextSwitchTo(caller);
		if (c->only)
		{
			cdp_rows_start(notes->rows);
			cdp_rows_put(notes->rows, notes->values, notes->nulls);
		}
	}
	cdp_rows_start(notes->rows);
	cdp_rows_put(notes->rows, values, nulls);
}

static void
write_notes(CdpNotes *notes)
{
	const CdpNoteKind *kind = notes->kind;
	int			rc;

	if (notes->n == 0)
		return;
	if (notes->rows == NULL)
	{
		char		nulls[CDP_NOTE_COLUMNS];

		for (int i = 0; i < kind->ncolumns; i++)
			nulls[i] = notes->nulls[i] ? 'n' : ' ';
		rc = SPI_execute_plan(cdp_tag_plan(kind->one_plan, kind->one, kind->ncolumns, kind->types), notes->values, nulls, false, 0);
	}
	else
	{
		cdp_rows_publish(notes->rows);
		rc = SPI_execute_plan(cdp_plan(kind->many_plan, kind->many, 0, NULL), NULL, NULL, false, 0);
		cdp_rows_close(notes->rows);
	}
	if (rc != SPI_OK_INSERT)
		elog(ERROR, "could not write what follows from a write of tags");
}

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
check_entry(const CdpTagWriter *writer, const char *name, int len, const TagEntry *new)
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
note_event(CdpTagNotes *c, const char *event, int64 profile_id, const char *name, int len, const TagEntry *entry, int64 change_id)
{
	MemoryContext caller;
	CdpEventItem *item;
	StringInfoData json;

	if (c->event_context == NULL)
		c->event_context = AllocSetContextCreate(c->context, "customer_cdp events of tags", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(c->event_context);
	item = palloc0(sizeof(CdpEventItem));
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
	if (c->writer->source != NULL)
	{
		appendStringInfoString(&json, ", \"source\": ");
		escape_json(&json, c->writer->source);
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
write_events(CdpTagNotes *c)
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
note_entry(CdpTagNotes *c, int64 profile_id, const TagEntry *old, const TagEntry *new)
{
	const TagEntry *entry = new != NULL ? new : old;
	const CdpTagRule *rule;
	int64		change_id;
	Datum		values[9];
	bool		nulls[9] = {false};

	Assert(entry != NULL);
	rule = check_entry(c->writer, entry->name, entry->name_len, new);
	if (c->writer->quiet)
		return;
	change_id = nextval_internal(cdp_relation("tag_history_change_id_seq"), false);
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
	nulls[7] = c->writer->source == NULL;
	if (!nulls[7])
		values[7] = CStringGetTextDatum(c->writer->source);
	values[8] = TimestampTzGetDatum(c->now);
	put_note(c, &c->history, values, nulls);

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
void
cdp_tag_note_said(CdpTagNotes *c, int64 profile_id, const struct varlena *before, const struct varlena *after)
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

void
cdp_tag_note_counted(CdpTagNotes *c, int64 customer_id, struct varlena *before, struct varlena *after)
{
	Datum		values[3] = {Int64GetDatum(customer_id), PointerGetDatum(before), PointerGetDatum(after)};
	bool		nulls[3] = {false, before == NULL, after == NULL};

	put_note(c, &c->counted, values, nulls);
}

void
cdp_tag_notes_begin(CdpTagNotes *c, const CdpTagWriter *writer, bool only)
{
	memset(c, 0, sizeof(CdpTagNotes));
	c->writer = writer;
	c->now = cdp_now_value();
	c->only = only;
	c->context = CurrentMemoryContext;
	c->history.kind = &history_kind;
	c->counted.kind = &counted_kind;
}

void
cdp_tag_notes_end(CdpTagNotes *c)
{
	write_events(c);
	write_notes(&c->history);
	write_notes(&c->counted);
	if (c->event_context != NULL)
		MemoryContextDelete(c->event_context);
}

static bool
is_one_of(const text *t, const char *const *words, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (strlen(words[i]) == VARSIZE_ANY_EXHDR(t) && memcmp(words[i], VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t)) == 0)
			return true;
	}
	return false;
}

/* cdp._is_tag_change(change, value_type) */
Datum
cdp_is_tag_change(PG_FUNCTION_ARGS)
{
	static const char *const changes[] = {"added", "changed", "removed", "expired"};
	static const char *const types[] = {"none", "number", "date", "text"};

	if (PG_ARGISNULL(0) || !is_one_of(PG_GETARG_TEXT_PP(0), changes, lengthof(changes)))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(PG_ARGISNULL(1) || is_one_of(PG_GETARG_TEXT_PP(1), types, lengthof(types)));
}
