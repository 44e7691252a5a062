/*
 * tag_bits_merge.c
 *	  cdp.merge_tags(): what changed goes into the bitmaps, a batch per
 *	  transaction.
 *
 *	  lock		the row of cdp.tag_horizon, then a snapshot
 *	  changes	the oldest of cdp.tag_change; of each customer every earlier
 *				set against the last one
 *	  ends		when no change is left, the entries that ended since the
 *				horizon, in the order (valid_until, customer_id)
 *	  write		bitmaps, cdp.tag_expiry, history and events of what ended
 *	  forget	exactly the rows that were read
 *	  horizon	moves to the last end, or to now
 *
 * A customer is shown as of the horizon: with all entries that end later.
 * The horizon is a place in cdp.tag_expiry and not only a moment, so that
 * millions of entries that end at one midnight go in batches, too.
 *
 * Writers of tags are never waited for and never wait: a change that is not
 * committed yet is not seen, and the next merge finds that its old set is
 * what the bitmaps show.
 *
 * SQL: sql/tag_bits.sql.  Page: doc/tag_bits.md.  Tests: test/sql/tag_bits.sql,
 * test/specs/tag_merge_race.spec, test/t/023_tag_crash.pl.
 */
#include "tag_bits_write.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "event.h"
#include "funcapi.h"
#include "identity_step.h"
#include "miscadmin.h"
#include "rows.h"
#include "tag_customer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(cdp_merge_tags_step);
PG_FUNCTION_INFO_V1(cdp_rebuild_bits_step);

/* sets that a batch holds in memory, and changes of bitmaps that wait */
#define SETS_BYTES	(8 * 1024 * 1024)
#define OPS_BYTES	(96 * 1024 * 1024)

#define MAX_BATCH	1000000

/* what happened to one customer */
typedef struct Folded
{
	int64		customer_id;
	struct varlena *old;		/* as shown; NULL: none */
	List	   *between;		/* sets after old and before new, as they may be shown */
	struct varlena *new;
} Folded;

typedef struct Batch
{
	MemoryContext context;
	TagHorizon	before;
	TagHorizon	after;
	HTAB	   *customers;		/* Folded */
	Size		bytes;
	int64	   *seqs;			/* of changes, to be forgotten */
	int			nseqs;
	bool		all_changes;	/* none is left */
	int64		nexpired;
	CdpRows    *gone;			/* rows of tag_expiry that are not true any more */
	CdpRows    *coming;
	CdpRows    *ended;			/* entries that ended */
	bool		has_gone;
	bool		has_coming;
	bool		has_ended;
} Batch;

void
cdp_tag_lock_horizon(void)
{
	static SPIPlanPtr plan = NULL;

	if (SPI_execute_plan(cdp_plan(&plan, "SELECT FROM cdp.tag_horizon FOR UPDATE", 0, NULL), NULL, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not lock cdp.tag_horizon");
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cdp.tag_horizon has no row"),
				 errhint("CALL cdp.migrate(); repairs what is missing.")));
	SPI_freetuptable(SPI_tuptable);
}

static struct varlena *
keep_set(Batch *b, Datum value, bool isnull)
{
	struct varlena *set;
	MemoryContext caller;

	if (isnull)
		return NULL;
	caller = MemoryContextSwitchTo(b->context);
	set = PG_DETOAST_DATUM_COPY(value);
	MemoryContextSwitchTo(caller);
	b->bytes += VARSIZE_ANY(set);
	return set;
}

static Folded *
folded(Batch *b, int64 customer_id, bool *found)
{
	return hash_search(b->customers, &customer_id, HASH_ENTER, found);
}

static void
read_changes(Batch *b, int limit)
{
	CdpProbe   *p = cdp_probe_open_range("tag_change", "tag_change_pkey", 0);
	AttrNumber	seq_column = cdp_probe_column(p, "seq");
	AttrNumber	id_column = cdp_probe_column(p, "customer_id");
	AttrNumber	old_column = cdp_probe_column(p, "old");
	AttrNumber	new_column = cdp_probe_column(p, "new");
	TupleTableSlot *slot;

	b->seqs = palloc(sizeof(int64) * limit);
	cdp_probe_range(p, NULL);
	while (b->nseqs < limit && b->bytes < SETS_BYTES)
	{
		bool		isnull;
		bool		found;
		Datum		value;
		Folded	   *f;

		CHECK_FOR_INTERRUPTS();
		slot = cdp_probe_next(p);
		b->all_changes = slot == NULL;
		if (slot == NULL)
			break;
		b->seqs[b->nseqs++] = DatumGetInt64(slot_getattr(slot, seq_column, &isnull));
		f = folded(b, DatumGetInt64(slot_getattr(slot, id_column, &isnull)), &found);
		if (!found)
		{
			value = slot_getattr(slot, old_column, &isnull);
			f->old = keep_set(b, value, isnull);
			f->between = NIL;
		}
		else
		{
			MemoryContext caller = MemoryContextSwitchTo(b->context);

			f->between = lappend(f->between, f->new);
			MemoryContextSwitchTo(caller);
		}
		value = slot_getattr(slot, new_column, &isnull);
		f->new = keep_set(b, value, isnull);
	}
	cdp_probe_close(p);
}

/* entries that end by now: their customers are shown anew, as of a later horizon */
static void
read_expiry(Batch *b, int limit, TimestampTz now)
{
	CdpProbe   *p = cdp_probe_open_range("tag_expiry", "tag_expiry_pkey", 2);
	CdpProbe   *rows = cdp_probe_open("profile_tag", "profile_tag_pkey");
	AttrNumber	at_column = cdp_probe_column(p, "valid_until");
	AttrNumber	id_column = cdp_probe_column(p, "customer_id");
	AttrNumber	tags_column = cdp_probe_column(rows, "tags");
	ScanKeyData keys[2];
	TupleTableSlot *slot;
	bool		done = false;

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE, TimestampTzGetDatum(b->before.at));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, TimestampTzGetDatum(now));
	cdp_probe_range(p, keys);
	while (b->nexpired < limit && b->bytes < SETS_BYTES)
	{
		bool		isnull;
		bool		found;
		TagHorizon	place;
		Folded	   *f;

		CHECK_FOR_INTERRUPTS();
		slot = cdp_probe_next(p);
		done = slot == NULL;
		if (done)
			break;
		place.at = DatumGetTimestampTz(slot_getattr(slot, at_column, &isnull));
		place.customer_id = DatumGetInt64(slot_getattr(slot, id_column, &isnull));
		if (place.at == b->before.at && place.customer_id <= b->before.customer_id)
			continue;
		b->after = place;
		b->nexpired++;
		f = folded(b, place.customer_id, &found);
		if (found)
			continue;
		f->old = NULL;
		slot = cdp_probe_int8(rows, place.customer_id);
		if (slot != NULL)
		{
			Datum		tags = slot_getattr(slot, tags_column, &isnull);

			f->old = keep_set(b, tags, isnull);
		}
		f->between = NIL;
		f->new = f->old;
	}
	if (done)
	{
		b->after.at = now;
		b->after.customer_id = PG_INT64_MAX;
	}
	cdp_probe_close(rows);
	cdp_probe_close(p);
}

/* ----------------------------------------------------------- what has ended */

static int
compare_instants(const void *x, const void *y)
{
	TimestampTz a = *(const TimestampTz *) x;
	TimestampTz b = *(const TimestampTz *) y;

	return a < b ? -1 : a > b;
}

/* moments after at when an entry ends, ascending, each once */
static TimestampTz *
coming_ends(const TagSet *set, TimestampTz at, int *n)
{
	TimestampTz *ends;
	int			k = 0;

	*n = 0;
	if (set == NULL)
		return NULL;
	ends = palloc(sizeof(TimestampTz) * Max(set->count, 1));
	for (int i = 0; i < set->count; i++)
	{
		TimestampTz end = cdp_tagset_valid_until(set, i);

		if (end > at && end != DT_NOEND)
			ends[k++] = end;
	}
	if (k > 1)
		qsort(ends, k, sizeof(TimestampTz), compare_instants);
	for (int i = 0; i < k; i++)
	{
		if (*n == 0 || ends[*n - 1] != ends[i])
			ends[(*n)++] = ends[i];
	}
	return ends;
}

static void
put_end(CdpRows *rows, TimestampTz at, int64 customer_id)
{
	Datum		values[2];
	static const bool nulls[2] = {false, false};

	cdp_rows_start(rows);
	values[0] = TimestampTzGetDatum(at);
	values[1] = Int64GetDatum(customer_id);
	cdp_rows_put(rows, values, nulls);
}

static void
note_ends(Batch *b, int64 customer_id, const TagSet *old, TimestampTz old_at, const TagSet *new, TimestampTz new_at)
{
	int			nold;
	int			nnew;
	TimestampTz *before = coming_ends(old, old_at, &nold);
	TimestampTz *after = coming_ends(new, new_at, &nnew);
	int			i = 0;
	int			j = 0;

	while (i < nold || j < nnew)
	{
		if (j == nnew || (i < nold && before[i] < after[j]))
		{
			put_end(b->gone, before[i++], customer_id);
			b->has_gone = true;
		}
		else if (i == nold || after[j] < before[i])
		{
			put_end(b->coming, after[j++], customer_id);
			b->has_coming = true;
		}
		else
		{
			i++;
			j++;
		}
	}
}

/* entries that have ended and were not shown as ended before */
static void
note_ended(Batch *b, int64 customer_id, const TagSet *old, TimestampTz old_at, const TagSet *new, TimestampTz new_at)
{
	/* with a horizon that is ahead of the clock */
	TimestampTz last = Min(new_at, cdp_now_value());

	for (int i = 0; new != NULL && i < new->count; i++)
	{
		TimestampTz end = cdp_tagset_valid_until(new, i);
		Datum		values[3];
		static const bool nulls[3] = {false};
		const char *name;
		int			len;

		if (end > last)
			continue;
		name = cdp_tagset_name(new, i, &len);
		if (old != NULL && end <= old_at)
		{
			int			k = cdp_tagset_find(old, name, len);

			if (k >= 0 && cdp_tagset_valid_until(old, k) == end)
				continue;
		}
		cdp_rows_start(b->ended);
		values[0] = Int64GetDatum(customer_id);
		values[1] = PointerGetDatum(cstring_to_text_with_len(name, len));
		values[2] = TimestampTzGetDatum(end);
		cdp_rows_put(b->ended, values, nulls);
		b->has_ended = true;
	}
}

static void
write_expiry(Batch *b)
{
	static SPIPlanPtr drop = NULL;
	static SPIPlanPtr put = NULL;

	if (b->has_gone)
	{
		cdp_rows_are_few(b->gone);
		cdp_rows_publish(b->gone);
		cdp_plan_generic(&drop,
						 "DELETE FROM cdp.tag_expiry e USING gone_ends g"
						 " WHERE e.valid_until = g.at AND e.customer_id = g.customer_id", 0, NULL);
		if (SPI_execute_plan(drop, NULL, NULL, false, 0) != SPI_OK_DELETE)
			elog(ERROR, "could not forget ends of tags");
	}
	if (b->has_coming)
	{
		cdp_rows_publish(b->coming);
		cdp_plan_generic(&put,
						 "INSERT INTO cdp.tag_expiry (valid_until, customer_id) SELECT at, customer_id FROM coming_ends"
						 " ON CONFLICT DO NOTHING", 0, NULL);
		if (SPI_execute_plan(put, NULL, NULL, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "could not note ends of tags");
	}
}

static CdpEventItem *
ended_event(HeapTuple tup, TupleDesc desc, TimestampTz now)
{
	CdpEventItem *item = palloc0(sizeof(CdpEventItem));
	StringInfoData json;
	bool		isnull;
	int			start;
	TimestampTz end = DatumGetTimestampTz(SPI_getbinval(tup, desc, 4, &isnull));

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"tag\": ");
	escape_json(&json, SPI_getvalue(tup, desc, 3));
	appendStringInfoString(&json, ", \"valid_until\": \"");
	start = json.len;
	cdp_tag_put_instant(&json, end);
	/* where a tagset has the day alone, readers of JSON want a moment */
	appendStringInfoString(&json, json.len - start == 10 ? "T00:00:00Z\"}" : "\"}");
	item->event_id = nextval_internal(cdp_relation("event_event_id_seq"), false);
	item->who.profile_id = DatumGetInt64(SPI_getbinval(tup, desc, 2, &isnull));
	item->who.occurred_at = end;
	item->received_at = now;
	item->who.source = "cdp";
	item->name = "Tag Expired";
	item->message_id = psprintf("tag:" INT64_FORMAT, DatumGetInt64(SPI_getbinval(tup, desc, 1, &isnull)));
	item->properties = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
	return item;
}

/*
 * History under the profiles that the entries were recorded for, each end
 * once, and events of tags that emit them.
 */
static void
write_ended(Batch *b, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {TIMESTAMPTZOID};
	Datum		args[1] = {TimestampTzGetDatum(now)};
	MemoryContext caller;
	SPITupleTable *found;
	CdpEventItem **items;
	uint64		n;
	int			nitems = 0;

	if (!b->has_ended)
		return;
	cdp_rows_publish(b->ended);
	cdp_plan_generic(&plan,
					 "INSERT INTO cdp.tag_history (profile_id, tag, change, valid_until, changed_at)"
					 " SELECT DISTINCT p.profile_id, x.tag, 'expired', x.at, $1::timestamptz FROM ended x"
					 " CROSS JOIN LATERAL (SELECT x.customer_id AS profile_id"
					 "   UNION ALL SELECT a.profile_id FROM cdp.profile_alias a WHERE a.customer_id = x.customer_id) f"
					 " JOIN cdp.profile_tag p ON p.profile_id = f.profile_id"
					 " WHERE cdp.tag_valid_until(coalesce(p.own_tags, p.tags), x.tag) = x.at"
					 "  AND NOT EXISTS (SELECT FROM cdp.tag_history h WHERE h.profile_id = p.profile_id AND h.tag = x.tag"
					 "   AND h.change = 'expired' AND h.valid_until = x.at)"
					 " ORDER BY p.profile_id, x.tag"
					 " RETURNING change_id, profile_id, tag, valid_until",
					 1, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "could not write the history of tags that ended");
	found = SPI_tuptable;
	n = SPI_processed;
	caller = MemoryContextSwitchTo(b->context);
	items = palloc(sizeof(CdpEventItem *) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		char	   *tag = SPI_getvalue(found->vals[i], found->tupdesc, 3);
		const CdpTagRule *rule = cdp_tag_rule(tag, strlen(tag));

		MemoryContextSwitchTo(b->context);
		if (rule != NULL && rule->emits_events)
			items[nitems++] = ended_event(found->vals[i], found->tupdesc, now);
	}
	MemoryContextSwitchTo(caller);
	if (nitems > 0)
		(void) cdp_write_events(items, nitems, true);
	SPI_freetuptable(found);
}

/* -------------------------------------------------------------- one batch */

static void
open_batch(Batch *b)
{
	static const char *const end_names[2] = {"at", "customer_id"};
	static const Oid end_types[2] = {TIMESTAMPTZOID, INT8OID};
	static const char *const ended_names[3] = {"customer_id", "tag", "at"};
	static const Oid ended_types[3] = {INT8OID, TEXTOID, TIMESTAMPTZOID};
	HASHCTL		ctl;

	memset(b, 0, sizeof(Batch));
	b->context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp merge of tags", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(b->context);
	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(Folded);
	ctl.hcxt = b->context;
	b->customers = hash_create("customer_cdp changed customers", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	b->gone = cdp_rows_open("gone_ends", 2, end_names, end_types);
	b->coming = cdp_rows_open("coming_ends", 2, end_names, end_types);
	b->ended = cdp_rows_open("ended", 3, ended_names, ended_types);
}

static const TagSet *
open_set(TagSet *set, const struct varlena *value)
{
	if (value == NULL)
		return NULL;
	cdp_tagset_open(set, value);
	return set;
}

static void
fold(Batch *b, TagWriter *w)
{
	MemoryContext scratch = AllocSetContextCreate(b->context, "customer_cdp fold", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	HASH_SEQ_STATUS all;
	Folded	   *f;

	hash_seq_init(&all, b->customers);
	while ((f = hash_seq_search(&all)) != NULL)
	{
		TimestampTz old_at = cdp_tag_shown_at(&b->before, f->customer_id);
		TimestampTz new_at = cdp_tag_shown_at(&b->after, f->customer_id);
		TagSet		old_set;
		TagSet		new_set;
		const TagSet *old = open_set(&old_set, f->old);
		const TagSet *new = open_set(&new_set, f->new);
		ListCell   *lc;

		CHECK_FOR_INTERRUPTS();
		cdp_tag_writer_diff(w, f->customer_id, old, old_at, new, new_at);
		note_ends(b, f->customer_id, old, old_at, new, new_at);
		note_ended(b, f->customer_id, old, old_at, new, new_at);
		foreach(lc, f->between)
		{
			TagSet		between_set;
			const TagSet *between = open_set(&between_set, lfirst(lc));

			cdp_tag_writer_diff(w, f->customer_id, between, old_at, new, new_at);
			note_ends(b, f->customer_id, between, old_at, new, new_at);
		}
		/* bitmaps that were made from the rows show a change already, with what has ended since */
		if (new_at != old_at && f->new != f->old)
		{
			cdp_tag_writer_diff(w, f->customer_id, new, old_at, new, new_at);
			note_ends(b, f->customer_id, new, old_at, new, new_at);
		}
		MemoryContextReset(scratch);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
}

static void
forget_changes(const Batch *b)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	Datum		args[1];

	if (b->nseqs == 0)
		return;
	args[0] = cdp_id_array(b->seqs, b->nseqs);
	if (SPI_execute_plan(cdp_plan_custom(&plan, "DELETE FROM cdp.tag_change WHERE seq = ANY ($1)", 1, types),
						 args, NULL, false, 0) != SPI_OK_DELETE || SPI_processed != b->nseqs)
		elog(ERROR, "could not forget changes of tags");
}

static void
write_horizon(const TagHorizon *horizon)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {TIMESTAMPTZOID, INT8OID};
	Datum		args[2] = {TimestampTzGetDatum(horizon->at), Int64GetDatum(horizon->customer_id)};

	if (SPI_execute_plan(cdp_plan_generic(&plan,
										  "UPDATE cdp.tag_horizon SET at = $1, customer_id = $2, said_until = greatest(said_until, $1),"
										  " merged_at = clock_timestamp()",
										  2, types), args, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not move the horizon");
}

/*
 * cdp._merge_tags_step(batch) -> (changes, ended, everyone, more, rebuild)
 * rebuild: there is no horizon, the bitmaps have to be made first.
 */
Datum
cdp_merge_tags_step(PG_FUNCTION_ARGS)
{
	int			limit = PG_GETARG_INT32(0);
	TimestampTz now = cdp_now_value();
	CdpVerb		verb;
	Batch		b;
	TupleDesc	desc;
	Datum		values[5];
	bool		nulls[5] = {false};
	MemoryContext caller = CurrentMemoryContext;
	int64		neveryone;
	HeapTuple	result;

	if (limit < 1 || limit > MAX_BATCH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch must be from 1 to %d", MAX_BATCH),
				 errhint("Leave it out for 10000.")));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	cdp_begin_write(&verb, "merge_tags");
	cdp_tag_lock_horizon();
	cdp_push_fresh_snapshot();
	open_batch(&b);
	if (!cdp_tag_horizon(&b.before))
		elog(ERROR, "cdp.tag_horizon has no row");
	b.after = b.before;
	neveryone = cdp_tag_merge_everyone(limit);
	if (b.before.at != DT_NOEND)
	{
		TagWriter  *w = cdp_tag_writer_open();

		read_changes(&b, limit);
		if (b.all_changes && now >= b.before.at)
			read_expiry(&b, limit, now);
		fold(&b, w);
		cdp_tag_writer_flush(w);
		write_expiry(&b);
		write_ended(&b, now);
		forget_changes(&b);
		write_horizon(&b.after);
	}
	values[0] = Int64GetDatum((int64) b.nseqs);
	values[1] = Int64GetDatum(b.nexpired);
	values[2] = Int64GetDatum(neveryone);
	values[3] = BoolGetDatum(neveryone >= limit || (b.before.at != DT_NOEND &&
													(!b.all_changes || (now >= b.before.at && b.after.customer_id != PG_INT64_MAX))));
	values[4] = BoolGetDatum(b.before.at == DT_NOEND);
	cdp_rows_close(b.gone);
	cdp_rows_close(b.coming);
	cdp_rows_close(b.ended);
	PopActiveSnapshot();
	cdp_end(&verb);
	MemoryContextSwitchTo(caller);
	result = heap_form_tuple(BlessTupleDesc(desc), values, nulls);
	PG_RETURN_DATUM(HeapTupleGetDatum(result));
}

/*
 * cdp._rebuild_bits_step(from, at) -> id to go on from, NULL: the end.  The
 * rows of some customers go into bitmaps that have nothing of them yet, as
 * of that moment.  Changes that are not merged stay: folding one that is
 * there already does no harm, and until the horizon is set nobody looks.
 */
Datum
cdp_rebuild_bits_step(PG_FUNCTION_ARGS)
{
	TagHorizon	horizon = {PG_GETARG_TIMESTAMPTZ(1), PG_INT64_MAX};
	CdpVerb		verb;
	Batch		b;
	TagWriter  *w;
	TagRows		rows;
	MemoryContext scratch;
	MemoryContext caller = CurrentMemoryContext;
	bool		more;
	int64		next = 0;
	int64		chunk = 0;

	cdp_begin_write(&verb, "rebuild_tags");
	cdp_tag_lock_horizon();
	cdp_push_fresh_snapshot();
	open_batch(&b);
	w = cdp_tag_writer_open();
	scratch = AllocSetContextCreate(b.context, "customer_cdp rebuild", ALLOCSET_DEFAULT_SIZES);
	cdp_tag_rows_open(&rows, PG_GETARG_INT64(0));
	/* a chunk is written once, unless it alone is too much */
	for (bool first = true; rows.found; first = false)
	{
		TagSet		set;

		if (!first && TagChunkOf(rows.id) != chunk && cdp_tag_writer_size(w) > OPS_BYTES / 4)
			break;
		if (cdp_tag_writer_size(w) > OPS_BYTES)
			break;
		chunk = TagChunkOf(rows.id);
		MemoryContextSwitchTo(scratch);
		cdp_tag_open_stored(&set, rows.tags, false);
		cdp_tag_writer_diff(w, rows.id, NULL, 0, &set, horizon.at);
		note_ends(&b, rows.id, NULL, 0, &set, horizon.at);
		MemoryContextSwitchTo(b.context);
		MemoryContextReset(scratch);
		cdp_tag_rows_next(&rows);
	}
	more = rows.found;
	if (more)
		next = rows.id;
	cdp_tag_rows_close(&rows);
	cdp_tag_writer_flush(w);
	write_expiry(&b);
	cdp_rows_close(b.gone);
	cdp_rows_close(b.coming);
	cdp_rows_close(b.ended);
	PopActiveSnapshot();
	cdp_end(&verb);
	MemoryContextSwitchTo(caller);
	if (!more)
		PG_RETURN_NULL();
	PG_RETURN_INT64(next);
}
