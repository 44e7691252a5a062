/*
 * event_source.c
 *	  The trigger of an attached source.
 *
 *		user's INSERT ── AFTER STATEMENT ── subtransaction, own lock_timeout ──> apply
 *											 │ error
 *											 └──> cdp.source_queue, INSERT goes on
 *
 * A failing CDP must not make the user's statement fail unless he asked for
 * it (on_error 'raise').  So nothing but the trigger's own arguments is
 * looked at before the subtransaction is open, and the way into the queue
 * reads no other table.  His cancel and his statement_timeout still end his
 * statement.
 *
 * Arguments: source_id, on_error, digest of the mapping, on_delete.
 *
 * A statement with many rows is taken in chunks, so that memory stays
 * bounded.  Of an UPDATE only those rows are taken in which an attribute
 * that the mapping reads has changed.
 *
 * The inserting role needs no right on schema cdp: the trigger borrows those
 * of the tables' owner, and the mapping runs as the role of the source.
 *
 * SQL: sql/event_source.sql.  Tests: test/sql/event_source.sql,
 * test/sql/event_source_queue.sql.  Page: doc/event_source.md.
 */
#include "event_source.h"

#include "access/sysattr.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#define CHUNK	10000

PG_FUNCTION_INFO_V1(cdp_source_apply);

/* one firing */
typedef struct Firing
{
	Relation	rel;
	int64		source_id;
	bool		queue;			/* on_error */
	const char *digest;
	const char *op;				/* insert, update, delete */
	/* statement level: the transition tables */
	Tuplestorestate *store;
	int			readptr;
	Tuplestorestate *old;		/* of an UPDATE, when its rows pair with store's */
	int			oldptr;
	/* row level */
	HeapTuple	row;
	/* the chunk under work */
	int64		start;
	int			nraw;			/* rows read from start on */
	bool		end;
	HeapTuple  *tuples;			/* set: the chunk is taken row by row */
	List	   *rejects;
	MemoryContext cxt;
} Firing;

/* rows of the transition table, those of an UPDATE only when they matter */
typedef struct StoreReader
{
	SourceReader base;
	Firing	   *f;
	SourceSpec *spec;
	TupleTableSlot *oldslot;
} StoreReader;

static bool
same_for_mapping(SourceSpec *spec, TupleDesc desc, TupleTableSlot *a, TupleTableSlot *b)
{
	int			i = -1;

	while ((i = bms_next_member(spec->attrs, i)) >= 0)
	{
		int			attnum = i + FirstLowInvalidHeapAttributeNumber;
		Form_pg_attribute att;
		Datum		x,
					y;
		bool		xnull,
					ynull;

		if (attnum <= 0)
			return false;		/* the whole row */
		att = TupleDescAttr(desc, attnum - 1);
		x = slot_getattr(a, attnum, &xnull);
		y = slot_getattr(b, attnum, &ynull);
		if (xnull != ynull || (!xnull && !datumIsEqual(x, y, att->attbyval, att->attlen)))
			return false;
	}
	return true;
}

static bool
next_stored(SourceReader *reader, TupleTableSlot *slot)
{
	StoreReader *r = (StoreReader *) reader;
	Firing	   *f = r->f;

	while (f->nraw < CHUNK)
	{
		tuplestore_select_read_pointer(f->store, f->readptr);
		if (!tuplestore_gettupleslot(f->store, true, false, slot))
		{
			f->end = true;
			return false;
		}
		r->base.raw = f->nraw++;
		if (f->old == NULL)
			return true;
		tuplestore_select_read_pointer(f->old, f->oldptr);
		if (!tuplestore_gettupleslot(f->old, true, false, r->oldslot) ||
			!same_for_mapping(r->spec, RelationGetDescr(f->rel), slot, r->oldslot))
			return true;
	}
	return false;
}

/* go (back) to the start of the chunk */
static void
seek_chunk(Firing *f)
{
	f->nraw = 0;
	f->end = false;
	tuplestore_select_read_pointer(f->store, f->readptr);
	tuplestore_rescan(f->store);
	if (f->start > 0)
		tuplestore_skiptuples(f->store, f->start, true);
	if (f->old == NULL)
		return;
	tuplestore_select_read_pointer(f->old, f->oldptr);
	tuplestore_rescan(f->old);
	if (f->start > 0)
		tuplestore_skiptuples(f->old, f->start, true);
}

/* the rows of the chunk as tuples: for those who go through them one by one */
static void
collect_chunk(Firing *f)
{
	TupleTableSlot *slot;
	StoreReader reader = {{next_stored, 0}, f, NULL, NULL};
	Tuplestorestate *old = f->old;

	if (f->tuples != NULL)
		return;
	f->tuples = palloc(sizeof(HeapTuple) * CHUNK);
	if (f->row != NULL)
	{
		f->tuples[0] = f->row;
		f->nraw = 1;
		f->end = true;
		return;
	}
	slot = MakeSingleTupleTableSlot(RelationGetDescr(f->rel), &TTSOpsMinimalTuple);
	f->old = NULL;
	seek_chunk(f);
	while (next_stored(&reader.base, slot))
		f->tuples[reader.base.raw] = ExecCopySlotHeapTuple(slot);
	f->old = old;
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * The work, as the owner of the tables.  With f->tuples set every row stands
 * for itself, else the chunk succeeds or fails as a whole.
 */
static void
take_chunk(void *arg)
{
	Firing	   *f = arg;
	CdpVerb		verb;
	SourceSpec *spec;
	SourceBatch *batch;
	int			level = NewGUCNestLevel();
	char		buf[16];
	bool		changed = strcmp(f->op, "update") == 0;
	int64		taken;

	if (f->queue && (LockTimeout == 0 || LockTimeout > cdp_source_lock_timeout_ms))
	{
		snprintf(buf, sizeof(buf), "%d", cdp_source_lock_timeout_ms);
		(void) set_config_option("lock_timeout", buf, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	}
	/* in the apply worker of a subscription: our own triggers must fire */
	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		(void) set_config_option("session_replication_role", "origin", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	cdp_begin_write(&verb, "attached source");
	(void) source_pin_settings();
	MemoryContextSwitchTo(f->cxt);
	spec = source_load(f->source_id, f->rel, f->digest);
	spec->uses++;

	if (strcmp(f->op, "delete") == 0)
	{
		collect_chunk(f);
		batch = source_new_batch(spec, f->nraw);
		source_map_tuples(spec, batch, RelationGetDescr(f->rel), f->tuples, f->nraw, 0);
		f->rejects = source_cancel(spec, batch);
		taken = 0;
	}
	else if (f->tuples != NULL)
	{
		f->rejects = source_take_tuples(spec, RelationGetDescr(f->rel), f->tuples, f->nraw, source_clock(), changed);
		taken = f->nraw - list_length(f->rejects);
	}
	else
	{
		StoreReader reader = {{next_stored, 0}, f, spec, NULL};

		if (f->old != NULL)
			reader.oldslot = MakeSingleTupleTableSlot(RelationGetDescr(f->rel), &TTSOpsMinimalTuple);
		batch = source_new_batch(spec, CHUNK);
		batch->seen_at = source_clock();
		batch->changed = changed;
		seek_chunk(f);
		source_map_rows(spec, batch, RelationGetDescr(f->rel), &TTSOpsMinimalTuple, &reader.base);
		f->rejects = source_apply(spec, batch, 0, batch->n);
		taken = batch->n - list_length(f->rejects);
		if (reader.oldslot)
			ExecDropSingleTupleTableSlot(reader.oldslot);
		source_free_batch(batch);
	}
	if (taken > 0)
		source_count(f->source_id, taken, 0, 0);
	spec->uses--;
	cdp_end(&verb);
	AtEOXact_GUC(true, level);
	MemoryContextSwitchTo(f->cxt);
}

static void
enqueue_chunk(void *arg)
{
	Firing	   *f = arg;
	int			level = NewGUCNestLevel();
	char		buf[16];

	snprintf(buf, sizeof(buf), "%d", cdp_source_lock_timeout_ms);
	(void) set_config_option("lock_timeout", buf, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	collect_chunk(f);
	source_enqueue(f->source_id, f->op, f->rel, f->tuples, f->rejects);
	AtEOXact_GUC(true, level);
}

/* into the queue; when even that fails the user's statement still goes on */
static void
queue_rejects(Firing *f)
{
	ErrorData  *error;

	if (f->rejects == NIL || source_attempt(enqueue_chunk, f, &error))
		return;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("customer_cdp took %d rows of %s neither in nor into its queue: %s",
					list_length(f->rejects), RelationGetRelationName(f->rel), error->message),
			 errhint("Mend the cause, then CALL cdp.backfill_source(…) takes everything again.")));
}

/* rows of an INSERT, an UPDATE or (on_delete cancel) a DELETE, chunk by chunk */
static void
take_rows(Firing *f)
{
	MemoryContext old = CurrentMemoryContext;
	ErrorData  *error = NULL;
	bool		broken = false;

	f->cxt = AllocSetContextCreate(old, "cdp source trigger", ALLOCSET_DEFAULT_SIZES);
	while (!f->end)
	{
		MemoryContextSwitchTo(f->cxt);
		f->rejects = NIL;
		f->tuples = NULL;
		f->nraw = 0;
		if (f->row != NULL)
			collect_chunk(f);
		if (!f->queue)
		{
			take_chunk(f);
			if (f->rejects != NIL && strcmp(f->op, "delete") != 0)
				source_raise(linitial(f->rejects));
		}
		else if (broken || !source_attempt(take_chunk, f, &error))
		{
			bool		careful = !broken && source_is_data_error(error) && f->tuples == NULL;

			f->rejects = NIL;
			collect_chunk(f);
			if (!careful || !source_attempt(take_chunk, f, &error))
			{
				/* what is wrong is wrong for the rows that follow, too */
				f->rejects = source_reject_all(f->nraw, error);
				broken = true;
			}
			queue_rejects(f);
		}
		else
			queue_rejects(f);
		f->start += f->nraw;
		if (broken)
		{
			ErrorData  *kept;

			MemoryContextSwitchTo(old);
			kept = palloc0(sizeof(ErrorData));
			kept->sqlerrcode = error->sqlerrcode;
			kept->message = error->message ? pstrdup(error->message) : NULL;
			kept->hint = error->hint ? pstrdup(error->hint) : NULL;
			error = kept;
		}
		MemoryContextReset(f->cxt);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(f->cxt);
}

/* rows that are ignored are counted, when that can be done */
typedef struct Ignored
{
	int64		source_id;
	int64		deletes;
	int64		truncates;
} Ignored;

static void
count_ignored(void *arg)
{
	Ignored    *i = arg;
	CdpVerb		verb;
	char		buf[16];

	source_begin_owner(&verb);
	snprintf(buf, sizeof(buf), "%d", cdp_source_lock_timeout_ms);
	(void) set_config_option("lock_timeout", buf, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	source_count(i->source_id, 0, i->deletes, i->truncates);
	cdp_end(&verb);
}

/* cdp._source_apply(): see the top of the file */
Datum
cdp_source_apply(PG_FUNCTION_ARGS)
{
	TriggerData *td = (TriggerData *) fcinfo->context;
	Firing		f = {0};
	Ignored		ignored = {0};
	ErrorData  *error;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(td->tg_event) || td->tg_trigger->tgnargs != 4)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cdp._source_apply() is the trigger function of attached sources"),
				 errhint("SELECT cdp.attach_source(…) makes the triggers.")));
	f.rel = td->tg_relation;
	f.source_id = strtoi64(td->tg_trigger->tgargs[0], NULL, 10);
	f.queue = strcmp(td->tg_trigger->tgargs[1], "raise") != 0;
	f.digest = td->tg_trigger->tgargs[2];
	ignored.source_id = f.source_id;

	if (TRIGGER_FIRED_FOR_STATEMENT(td->tg_event))
	{
		f.store = TRIGGER_FIRED_BY_DELETE(td->tg_event) ? td->tg_oldtable : td->tg_newtable;
		if (f.store != NULL && tuplestore_tuple_count(f.store) == 0)
			PG_RETURN_POINTER(NULL);
	}
	if (TRIGGER_FIRED_BY_TRUNCATE(td->tg_event))
		ignored.truncates = 1;
	else if (TRIGGER_FIRED_BY_DELETE(td->tg_event) && strcmp(td->tg_trigger->tgargs[3], "cancel") != 0)
		ignored.deletes = f.store ? tuplestore_tuple_count(f.store) : 1;
	if (ignored.truncates + ignored.deletes > 0)
	{
		/* to be counted is not worth an error */
		(void) source_attempt(count_ignored, &ignored, &error);
		PG_RETURN_POINTER(NULL);
	}

	f.op = TRIGGER_FIRED_BY_INSERT(td->tg_event) ? "insert" : TRIGGER_FIRED_BY_UPDATE(td->tg_event) ? "update" : "delete";
	if (f.store != NULL)
	{
		f.readptr = tuplestore_alloc_read_pointer(f.store, EXEC_FLAG_REWIND);
		if (TRIGGER_FIRED_BY_UPDATE(td->tg_event) &&
			tuplestore_tuple_count(td->tg_oldtable) == tuplestore_tuple_count(f.store))
		{
			f.old = td->tg_oldtable;
			f.oldptr = tuplestore_alloc_read_pointer(f.old, EXEC_FLAG_REWIND);
		}
	}
	else
		f.row = TRIGGER_FIRED_BY_UPDATE(td->tg_event) ? td->tg_newtuple : td->tg_trigtuple;
	take_rows(&f);
	PG_RETURN_POINTER(NULL);
}
