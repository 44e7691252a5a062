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
#include "tag_change.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "identity_step.h"
#include "miscadmin.h"
#include "probe.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(cdp_profile_tag_changed);

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

/* tags of a merged customer were written by a plain statement */
typedef struct Lagging
{
	int64		customer_id;
	struct varlena *gone;		/* entries that were taken away, NULL: none */
} Lagging;

typedef struct Change
{
	CdpTagNotes notes;
	MemoryContext row_context;	/* of one of several rows, NULL: there is one only */
	/* what a plain statement left to be put right */
	int64	   *owned;			/* profiles whose own_tags were written: tags follow */
	int			nowned;
	int64	   *given;			/* parts that were given tags: they become own_tags */
	int			ngiven;
	List	   *lagging;		/* of Lagging: own_tags follow */
	MemoryContext context;
	MemoryContext lagging_context;	/* NULL: there was none yet */
} Change;

static void
open_or_empty(TagSet *set, const struct varlena *value)
{
	if (value != NULL)
		cdp_tagset_open(set, value);
	else
		memset(set, 0, sizeof(TagSet));
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
	if (c->lagging_context == NULL)
		c->lagging_context = AllocSetContextCreate(c->context, "customer_cdp merged customers", ALLOCSET_DEFAULT_SIZES);
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
note_row(Change *c, int64 profile_id, const CdpTagSide *old, const CdpTagSide *new, bool is_part)
{
	bool		plain = !writer->quiet && !writer->spreading;
	bool		given = plain && is_part && new->tags != NULL && (new->own == NULL || cdp_tagset_same(old->own, new->own));
	const struct varlena *own_before = old->own ? old->own : old->tags;
	const struct varlena *own_after = new->own && !given ? new->own : new->tags;
	bool		tags_differ = !cdp_tagset_same(old->tags, new->tags);
	bool		own_differs = !cdp_tagset_same(own_before, own_after);

	if (own_differs)
		cdp_tag_note_said(&c->notes, profile_id, own_before, own_after);
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
		cdp_tag_note_counted(&c->notes, profile_id, old->tags, new->tags);
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
	memset(c, 0, sizeof(Change));
	cdp_tag_notes_begin(&c->notes, writer, nrows == 1);
	if (nrows > 1)
		c->row_context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp row of tags", ALLOCSET_DEFAULT_SIZES);
	c->context = CurrentMemoryContext;
	c->owned = palloc_extended(sizeof(int64) * nrows, MCXT_ALLOC_HUGE);
	c->given = palloc_extended(sizeof(int64) * nrows, MCXT_ALLOC_HUGE);
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
	if (c->lagging_context != NULL)
		MemoryContextDelete(c->lagging_context);
}

/* write what was noted, then put right what a plain statement could not know */
static void
change_end(Change *c)
{
	cdp_tag_notes_end(&c->notes);
	if (c->row_context != NULL)
		MemoryContextDelete(c->row_context);
	put_right(c);
}

/* one pair of rows of an INSERT, UPDATE or DELETE */
static void
change_rows(Change *c, CdpTagPairs *rows, const bool *parts)
{
	int			i = 0;

	cdp_tag_pairs_rewind(rows);
	while (cdp_tag_pairs_next(rows))
	{
		MemoryContext caller = c->row_context ? MemoryContextSwitchTo(c->row_context) : CurrentMemoryContext;
		static const CdpTagSide none = {NULL, NULL};
		CdpTagSide		old = none,
					new = none;
		int64		old_id = 0,
					new_id = 0;

		CHECK_FOR_INTERRUPTS();
		if (rows->old != NULL)
		{
			old_id = cdp_tag_pairs_id(rows, rows->old_slot);
			cdp_tag_pairs_side(rows, rows->old_slot, &old);
		}
		if (rows->new != NULL)
		{
			new_id = cdp_tag_pairs_id(rows, rows->new_slot);
			cdp_tag_pairs_side(rows, rows->new_slot, &new);
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
		/* to look for another one would take this one away */
		if (c->row_context == NULL)
			break;
		MemoryContextSwitchTo(caller);
		MemoryContextReset(c->row_context);
	}
}

/* rows as they are now, which most statements need not ask for */
typedef struct Order
{
	CdpProbe   *probe;			/* NULL: not asked yet */
	int			tags;
	int			own;
	MemoryContext context;
} Order;

static TupleTableSlot *
find_row(Order *order, int64 id)
{
	if (order->probe == NULL)
	{
		cdp_push_fresh_snapshot();
		order->probe = cdp_probe_open("profile_tag", "profile_tag_pkey");
		order->tags = cdp_probe_column(order->probe, "tags");
		order->own = cdp_probe_column(order->probe, "own_tags");
		order->context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp rows as they are", ALLOCSET_DEFAULT_SIZES);
	}
	return cdp_probe_int8(order->probe, id);
}

/* is the row still as the statement left it? */
static bool
row_is(Order *order, CdpTagPairs *rows, int64 id)
{
	TupleTableSlot *slot = find_row(order, id);
	MemoryContext caller;
	CdpTagSide	new;
	bool		same;

	if (slot == NULL)
		return false;
	caller = MemoryContextSwitchTo(order->context);
	cdp_tag_pairs_side(rows, rows->new_slot, &new);
	same = cdp_tagset_same(cdp_tag_attribute(slot, order->tags), new.tags) && cdp_tagset_same(cdp_tag_attribute(slot, order->own), new.own);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(order->context);
	return same;
}

/*
 * A statement may have several triggers, and one of them may have been called
 * before: then what this one has to tell comes too late, after a row that
 * came in the place of one that went, or after a row of a merged customer was
 * put right.  History would end with what was.
 */
static void
check_order(CdpTagPairs *rows, const bool *parts)
{
	bool		late = appeared_command == GetActiveSnapshot()->curcid && FullTransactionIdEquals(appeared_xid, GetTopFullTransactionId());
	Order		order = {NULL};
	int			i = 0;

	cdp_tag_pairs_rewind(rows);
	while (cdp_tag_pairs_next(rows))
	{
		int64		old_id = rows->old ? cdp_tag_pairs_id(rows, rows->old_slot) : 0;
		int64		new_id = rows->new ? cdp_tag_pairs_id(rows, rows->new_slot) : 0;
		bool		merged = (rows->old && !slot_attisnull(rows->old_slot, rows->attr[2])) ||
			(rows->new && !slot_attisnull(rows->new_slot, rows->attr[2]));
		bool		wrong = false;

		CHECK_FOR_INTERRUPTS();
		if (rows->old != NULL && (rows->new == NULL || old_id != new_id))
			wrong = (merged || parts[i] || late) && find_row(&order, old_id) != NULL;
		i += rows->old && rows->new && old_id != new_id;
		if (rows->new != NULL && (merged || parts[i]))
			wrong = wrong || !row_is(&order, rows, new_id);
		i++;
		if (wrong)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a statement does several things to one row of cdp.profile_tag"),
					 errhint("Update the row, or delete it in one statement and insert the other in the next.")));
	}
	if (order.probe != NULL)
	{
		cdp_probe_close(order.probe);
		MemoryContextDelete(order.context);
		PopActiveSnapshot();
	}
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
	CdpTagPairs	rows;
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
	cdp_tag_pairs_begin(&rows, td);
	ids = cdp_tag_pairs_ids(&rows, &n, &new_ids, &nnew);
	if (n > 0)
	{
		if (nnew > 0 && !writer->locked)
			lock_new(new_ids, nnew);
		change_begin(&change, n);
		parts = writer->customers ? palloc0(sizeof(bool) * n) : find_parts(ids, n);
		if (!writer->quiet && !writer->spreading)
			check_order(&rows, parts);
		if (nnew > 0 && !writer->quiet)
		{
			appeared_xid = GetTopFullTransactionId();
			appeared_command = GetActiveSnapshot()->curcid;
		}
		change_rows(&change, &rows, parts);
		change_end(&change);
	}
	cdp_tag_pairs_end(&rows);
	cdp_end(&verb);
	PG_RETURN_POINTER(NULL);
}
