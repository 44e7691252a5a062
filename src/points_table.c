/*
 * points_table.c
 *	  Rows of the ledger, below the executor; see points_table.h.
 *
 * A statement per row would cost more than the row.  So tables are opened
 * when they are first needed, rows are collected and written many at a time,
 * and rows are found by index scans.  What the executor would do else is
 * done here: generated columns (there is one, points_lot.open), the choice
 * of the partition, entries of all indexes, also those that a DBA has added.
 * Triggers do not fire and constraints are not looked at: the engine is what
 * they would ask.
 *
 * Locks on rows are taken as FOR NO KEY UPDATE takes them, from a scan with
 * the newest snapshot; RelationFindReplTupleByIndex(), which looks made for
 * this, loses rows that others are changing.
 */
#include "points_table.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "probe.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* so many rows are written at once */
#define ROWS_AT_ONCE	256

typedef struct Description
{
	const char *name;
	int			ncolumns;
	const char *columns[POINTS_MAX_COLUMNS];
} Description;

static const Description descriptions[PT_TABLES] = {
	[PT_ACCOUNT] = {"points_account", PA_COLUMNS, {"customer_id", "program", "balance", "held", "debt", "entries", "moved_to",
			"active_until", "earned_day", "earned_today", "moved_debt"}},
	[PT_ENTRY] = {"points_entry", PE_COLUMNS, {"entry_id", "posted_at", "occurred_at", "profile_id", "customer_id", "program",
			"kind", "amount", "debt", "reference", "idempotency_key", "expires_at", "available_at", "reverses", "details", "xid"}},
	[PT_LOT] = {"points_lot", PL_COLUMNS, {"lot_id", "customer_id", "program", "profile_id", "entry_id", "earned_entry",
			"origin_lot", "amount", "remaining", "held", "earned_at", "available_at", "expires_at", "open"}},
	[PT_USE] = {"points_lot_use", PU_COLUMNS, {"entry_id", "ord", "lot_id", "amount", "restored"}},
	[PT_MOVE] = {"points_lot_move", PM_COLUMNS, {"from_lot", "to_lot", "amount", "entry_id"}},
	[PT_HOLD] = {"points_hold", PH_COLUMNS, {"hold_id", "customer_id", "program", "profile_id", "amount", "captured", "released",
			"state", "release_at", "reference", "idempotency_key", "entry_id", "held_at", "resolved_at"}},
	[PT_HOLD_LOT] = {"points_hold_lot", PHL_COLUMNS, {"hold_id", "ord", "lot_id", "amount"}},
	[PT_KEY] = {"points_key", PK_COLUMNS, {"idempotency_key", "verb", "profile_id", "other_id", "customer_id", "program", "amount",
			"reference", "result", "lot_id", "posted", "reversed", "posted_at"}},
	[PT_PROFILE] = {"profile", PP_COLUMNS, {"profile_id"}},
	[PT_ALIAS] = {"profile_alias", PX_COLUMNS, {"profile_id", "customer_id"}},
};

static const struct
{
	const char *name;
	PointsTableId table;
}			indexes[PI_INDEXES] = {
	[PI_ACCOUNT] = {"points_account_pkey", PT_ACCOUNT},
	[PI_ACCOUNT_INACTIVE] = {"points_account_inactive", PT_ACCOUNT},
	[PI_LOT] = {"points_lot_pkey", PT_LOT},
	[PI_LOT_OPEN] = {"points_lot_open", PT_LOT},
	[PI_LOT_EXPIRY] = {"points_lot_expiry", PT_LOT},
	[PI_USE] = {"points_lot_use_pkey", PT_USE},
	[PI_MOVE] = {"points_lot_move_pkey", PT_MOVE},
	[PI_HOLD] = {"points_hold_pkey", PT_HOLD},
	[PI_HOLD_OPEN] = {"points_hold_open", PT_HOLD},
	[PI_HOLD_DUE] = {"points_hold_due", PT_HOLD},
	[PI_HOLD_LOT] = {"points_hold_lot_pkey", PT_HOLD_LOT},
	[PI_KEY] = {"points_key_pkey", PT_KEY},
	[PI_KEY_REFERENCE] = {"points_key_reference", PT_KEY},
	[PI_PROFILE] = {"profile_pkey", PT_PROFILE},
	[PI_ALIAS] = {"profile_alias_pkey", PT_ALIAS},
	[PI_ENTRY] = {"points_entry_pkey", PT_ENTRY},
};

pg_noreturn static void
refuse_damage(const char *what, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s of the ledger is missing: %s", what, name),
			 errhint("CALL cdp.migrate(); repairs what is missing.")));
}

/* ----------------------------------------------------------------- opening */

void
points_find_columns(PointsTableId id, TupleDesc desc, AttrNumber *column)
{
	const Description *d = &descriptions[id];

	for (int i = 0; i < d->ncolumns; i++)
	{
		column[i] = InvalidAttrNumber;
		if (i < desc->natts && strcmp(NameStr(TupleDescAttr(desc, i)->attname), d->columns[i]) == 0)
			column[i] = i + 1;
		for (int k = 0; column[i] == InvalidAttrNumber && k < desc->natts; k++)
		{
			if (!TupleDescAttr(desc, k)->attisdropped && strcmp(NameStr(TupleDescAttr(desc, k)->attname), d->columns[i]) == 0)
				column[i] = k + 1;
		}
		if (column[i] == InvalidAttrNumber)
			refuse_damage("a column", psprintf("%s.%s", d->name, d->columns[i]));
	}
}

/* the partition where rows of this moment go */
static Relation
open_partition(Relation parent, TimestampTz at)
{
	PartitionKey key = RelationGetPartitionKey(parent);
	PartitionDesc parts = RelationGetPartitionDesc(parent, true);
	Datum		value = TimestampTzGetDatum(at);
	bool		is_equal;
	int			index = -1;
	Relation	rel;

	if (parts->nparts > 0 && key->strategy == PARTITION_STRATEGY_RANGE && key->partnatts == 1)
	{
		int			bound = partition_range_datum_bsearch(key->partsupfunc, key->partcollation, parts->boundinfo, 1, &value, &is_equal);

		index = parts->boundinfo->indexes[bound + 1];
		if (index < 0)
			index = parts->boundinfo->default_index;
	}
	if (index < 0)
		refuse_damage("a partition", psprintf("points_entry for %s", timestamptz_to_str(at)));
	rel = table_open(parts->oids[index], RowExclusiveLock);
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		refuse_damage("a partition", psprintf("points_entry for %s, which is no plain table", timestamptz_to_str(at)));
	return rel;
}

static PointsTable *
open_table(PointsTables *t, PointsTableId id)
{
	PointsTable *table = &t->table[id];
	const Description *d = &descriptions[id];
	MemoryContext caller;
	Oid			relid;
	Relation	rel;

	if (likely(table->rel != NULL))
		return table;
	relid = cdp_relation(d->name);
	if (!OidIsValid(relid))
		refuse_damage("a table", d->name);
	caller = MemoryContextSwitchTo(t->context);
	table->rel = rel = table_open(relid, RowExclusiveLock);
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE && id == PT_ENTRY)
		rel = open_partition(rel, t->now);
	else if (rel->rd_rel->relkind != RELKIND_RELATION || id == PT_ENTRY)
		refuse_damage("a table", d->name);
	points_find_columns(id, RelationGetDescr(rel), table->column);
	table->result = makeNode(ResultRelInfo);
	InitResultRelInfo(table->result, rel, 0, NULL, 0);
	ExecOpenIndices(table->result, false);
	table->read = table_slot_create(rel, NULL);
	/* a copy is not counted by each slot that refers to it */
	table->desc = CreateTupleDescCopy(RelationGetDescr(rel));
	table->row_context = AllocSetContextCreate(t->context, "customer_cdp rows of points", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(caller);
	return table;
}

void
points_tables_open(PointsTables *t)
{
	memset(t, 0, sizeof(PointsTables));
	t->context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp points", ALLOCSET_DEFAULT_SIZES);
	t->estate = CreateExecutorState();
	t->now = cdp_now_value();
}

void
points_refresh(PointsTables *t)
{
	if (t->snapshot != NULL)
		UnregisterSnapshot(t->snapshot);
	t->snapshot = RegisterSnapshot(GetLatestSnapshot());
	t->refreshed++;
}

void
points_tables_close(PointsTables *t)
{
	for (int id = 0; id < PT_TABLES; id++)
	{
		PointsTable *table = &t->table[id];

		if (table->rel == NULL)
			continue;
		Assert(table->nrows == 0);
		for (int i = 0; i < table->nslots; i++)
			ExecDropSingleTupleTableSlot(table->rows[i]);
		ExecDropSingleTupleTableSlot(table->read);
		ExecCloseIndices(table->result);
		/* the locks stay to the end of the transaction */
		if (table->result->ri_RelationDesc != table->rel)
			table_close(table->result->ri_RelationDesc, NoLock);
		table_close(table->rel, NoLock);
	}
	if (t->snapshot != NULL)
		UnregisterSnapshot(t->snapshot);
	FreeExecutorState(t->estate);
	MemoryContextDelete(t->context);
}

/* ----------------------------------------------------------------- reading */

void
points_key_int8(ScanKey key, int column, int64 value)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(value));
}

void
points_key_text(ScanKey key, int column, Datum value)
{
	ScanKeyEntryInitialize(key, 0, column, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ, value);
}

void
points_scan(PointsScan *scan, PointsTables *t, PointsIndexId index, ScanKey keys, int nkeys)
{
	PointsTable *table = open_table(t, indexes[index].table);
	Oid			wanted = index == PI_ENTRY ? CdpPrimaryKeyIndex(table->result->ri_RelationDesc) : cdp_relation(indexes[index].name);
	Relation	rel = NULL;

	for (int i = 0; i < table->result->ri_NumIndices; i++)
	{
		if (RelationGetRelid(table->result->ri_IndexRelationDescs[i]) == wanted)
			rel = table->result->ri_IndexRelationDescs[i];
	}
	if (rel == NULL)
		refuse_damage("an index", indexes[index].name);
	Assert(t->snapshot != NULL);
	scan->tables = t;
	scan->id = indexes[index].table;
	scan->scan = cdp_index_beginscan(table->result->ri_RelationDesc, rel, t->snapshot, nkeys);
	index_rescan(scan->scan, keys, nkeys, NULL, 0);
}

bool
points_next(PointsScan *scan)
{
	CHECK_FOR_INTERRUPTS();
	return index_getnext_slot(scan->scan, ForwardScanDirection, scan->tables->table[scan->id].read);
}

void
points_scan_end(PointsScan *scan)
{
	index_endscan(scan->scan);
}

Datum
points_value(PointsTables *t, PointsTableId id, int column, bool *isnull)
{
	return slot_getattr(t->table[id].read, t->table[id].column[column], isnull);
}

int64
points_int8_or(PointsTables *t, PointsTableId id, int column, int64 if_null)
{
	bool		isnull;
	Datum		value = points_value(t, id, column, &isnull);

	return isnull ? if_null : DatumGetInt64(value);
}

int64
points_int8(PointsTables *t, PointsTableId id, int column)
{
	return points_int8_or(t, id, column, 0);
}

ItemPointerData
points_tid(PointsTables *t, PointsTableId id)
{
	return t->table[id].read->tts_tid;
}

void
points_copy(PointsTables *t, PointsTableId id, Datum *values, bool *nulls)
{
	PointsTable *table = &t->table[id];

	for (int i = 0; i < descriptions[id].ncolumns; i++)
	{
		Form_pg_attribute att = TupleDescAttr(table->read->tts_tupleDescriptor, table->column[i] - 1);

		values[i] = points_value(t, id, i, &nulls[i]);
		if (!nulls[i])
			values[i] = datumCopy(values[i], att->attbyval, att->attlen);
	}
}

bool
points_lock(PointsTables *t, PointsTableId id)
{
	return points_lock_at(t, id, t->table[id].read->tts_tid);
}

bool
points_lock_at(PointsTables *t, PointsTableId id, ItemPointerData tid)
{
	return cdp_lock_row(t->table[id].rel, tid, t->snapshot, t->table[id].read);
}

/* ----------------------------------------------------------------- writing */

MemoryContext
points_row_context(PointsTables *t, PointsTableId id)
{
	return open_table(t, id)->row_context;
}

static void
fill(PointsTable *table, PointsTableId id, TupleTableSlot *slot, const Datum *values, const bool *nulls)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	memset(slot->tts_values, 0, sizeof(Datum) * slot->tts_tupleDescriptor->natts);
	for (int i = 0; i < descriptions[id].ncolumns; i++)
	{
		int			place = table->column[i] - 1;

		slot->tts_values[place] = values[i];
		slot->tts_isnull[place] = nulls[i];
	}
	ExecStoreVirtualTuple(slot);
}

static void
write_rows(PointsTables *t, PointsTable *table)
{
	ResultRelInfo *result = table->result;
	CommandId	cid = GetCurrentCommandId(true);

	if (table->nrows == 1)
		table_tuple_insert(result->ri_RelationDesc, table->rows[0], cid, 0, NULL);
	else
		table_multi_insert(result->ri_RelationDesc, table->rows, table->nrows, cid, 0, NULL);
	for (int i = 0; i < table->nrows; i++)
	{
		if (result->ri_NumIndices > 0)
			cdp_insert_index_tuples(result, table->rows[i], t->estate);
		ResetPerTupleExprContext(t->estate);
		ExecClearTuple(table->rows[i]);
	}
	table->nrows = 0;
	MemoryContextReset(table->row_context);
}

/* two operations met in one key: the second is not the same one, or the lock would have shown the first */
static void
write_keys(PointsTables *t, PointsTable *table)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		write_rows(t, table);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_CDP_KEY_REUSED),
				 errmsg("an idempotency key was used for something else at this moment"),
				 errhint("One key is one operation. Ask again to be told whether this one is done.")));
	}
	PG_END_TRY();
}

static void
flush_table(PointsTables *t, PointsTableId id)
{
	PointsTable *table = &t->table[id];

	if (table->nrows == 0)
		return;
	if (id == PT_KEY)
		write_keys(t, table);
	else
		write_rows(t, table);
}

void
points_put(PointsTables *t, PointsTableId id, const Datum *values, const bool *nulls)
{
	PointsTable *table = open_table(t, id);

	if (table->nrows == table->nslots)
	{
		MemoryContext caller = MemoryContextSwitchTo(t->context);

		if (table->rows == NULL)
			table->rows = palloc(sizeof(TupleTableSlot *) * ROWS_AT_ONCE);
		table->rows[table->nslots++] = MakeSingleTupleTableSlot(table->desc, &TTSOpsVirtual);
		MemoryContextSwitchTo(caller);
	}
	fill(table, id, table->rows[table->nrows++], values, nulls);
	/* not before: the values may stand in the context that this resets */
	if (table->nrows == ROWS_AT_ONCE)
		flush_table(t, id);
}

void
points_change(PointsTables *t, PointsTableId id, ItemPointer tid, const Datum *values, const bool *nulls)
{
	PointsTable *table = open_table(t, id);
	MemoryContext caller = MemoryContextSwitchTo(t->context);
	TupleTableSlot *slot;
	TM_Result	result;

	/* a slot beyond those that wait */
	if (table->nrows == table->nslots)
	{
		if (table->rows == NULL)
			table->rows = palloc(sizeof(TupleTableSlot *) * ROWS_AT_ONCE);
		table->rows[table->nslots++] = MakeSingleTupleTableSlot(table->desc, &TTSOpsVirtual);
	}
	MemoryContextSwitchTo(caller);
	slot = table->rows[table->nrows];
	fill(table, id, slot, values, nulls);
	result = cdp_update_tuple(table->result, tid, slot, GetCurrentCommandId(true), t->estate);
	ResetPerTupleExprContext(t->estate);
	ExecClearTuple(slot);
	if (result != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a row of cdp.%s was changed by somebody who does not lock the account", descriptions[id].name),
				 errhint("Run the transaction again; SELECT * FROM cdp.verify_points(); shows whether harm was done.")));
}

void
points_flush(PointsTables *t)
{
	for (int id = 0; id < PT_TABLES; id++)
	{
		if (t->table[id].rel != NULL)
			flush_table(t, id);
	}
	CommandCounterIncrement();
}

int64
points_next_id(const char *sequence)
{
	Oid			relid = cdp_relation(sequence);

	if (!OidIsValid(relid))
		refuse_damage("a sequence", sequence);
	return nextval_internal(relid, false);
}
