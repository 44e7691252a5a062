/*
 * probe.c
 *	  Look rows up by a unique index, many times, without the executor; see
 *	  probe.h.
 *
 * A probe through a kept SPI plan costs about six microseconds, this one
 * about one: identify makes one per identifier of every event.
 */
#include "probe.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

struct CdpProbe
{
	Relation	table;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	IndexFetchTableData *fetch; /* of cdp_probe_tuple(), made when it is first called */
	int			nkeys;
	/* cdp_probe_ascend() */
	bool		begun;
	bool		ended;
	int64		at;				/* key of the entry the scan stands on */
};

/* so many entries of an index are passed in the time of a descent from its root */
#define NEAR_ENTRIES	32

static CdpProbe *
open_probe(const char *table, const char *index, int nkeys, LOCKMODE mode)
{
	CdpProbe   *p = palloc(sizeof(CdpProbe));
	Oid			relid = cdp_relation(table);
	Oid			indexid = cdp_relation(index);
	bool		found = OidIsValid(relid) && OidIsValid(indexid);

	/* their owner may have put anything there */
	if (found)
	{
		p->table = relation_open(relid, mode);
		p->index = relation_open(indexid, AccessShareLock);
		found = p->table->rd_rel->relkind == RELKIND_RELATION &&
			p->index->rd_rel->relkind == RELKIND_INDEX && p->index->rd_index->indrelid == relid;
	}
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table cdp.%s or its index cdp.%s is missing", table, index),
				 errhint("CALL cdp.migrate(); repairs what is missing.")));
	p->fetch = NULL;
	p->begun = false;
	p->nkeys = nkeys < 0 ? IndexRelationGetNumberOfKeyAttributes(p->index) : nkeys;
	p->slot = table_slot_create(p->table, NULL);
	p->scan = cdp_index_beginscan(p->table, p->index, GetActiveSnapshot(), p->nkeys);
	return p;
}

CdpProbe *
cdp_probe_open(const char *table, const char *index)
{
	return open_probe(table, index, -1, AccessShareLock);
}

CdpProbe *
cdp_probe_open_range(const char *table, const char *index, int nkeys)
{
	return open_probe(table, index, nkeys, AccessShareLock);
}

CdpProbe *
cdp_probe_open_to_lock(const char *table, const char *index)
{
	return open_probe(table, index, -1, RowShareLock);
}

int
cdp_probe_column(CdpProbe *p, const char *name)
{
	TupleDesc	desc = RelationGetDescr(p->table);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), name) == 0)
			return att->attnum;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("column %s of table cdp.%s is missing", name, RelationGetRelationName(p->table)),
			 errhint("CALL cdp.migrate(); repairs what is missing.")));
	return InvalidAttrNumber;
}

static TupleTableSlot *
fetch(CdpProbe *p, ScanKey keys, int n)
{
	Assert(n == p->nkeys);
	index_rescan(p->scan, keys, n, NULL, 0);
	return cdp_probe_next(p);
}

TupleTableSlot *
cdp_probe_int8(CdpProbe *p, int64 key)
{
	ScanKeyData keys[1];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key));
	return fetch(p, keys, 1);
}

TupleTableSlot *
cdp_probe_next(CdpProbe *p)
{
	return index_getnext_slot(p->scan, ForwardScanDirection, p->slot) ? p->slot : NULL;
}

/*
 * As an executor with FOR NO KEY UPDATE does it: a row that others have
 * changed is waited for, and then it is the newest version that counts.
 */
bool
cdp_lock_row(Relation table, ItemPointerData tid, Snapshot snapshot, TupleTableSlot *slot)
{
	uint8		flags = TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;
	TM_FailureData failure;
	TM_Result	result;

	if (!IsolationUsesXactSnapshot())
		flags |= TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
	/* the lock puts its own version there, or leaves it half made */
	ExecClearTuple(slot);
	result = table_tuple_lock(table, &tid, snapshot, slot, GetCurrentCommandId(true),
							  LockTupleNoKeyExclusive, LockWaitBlock, flags, &failure);
	if (result == TM_Ok)
		return true;
	ExecClearTuple(slot);
	if (IsolationUsesXactSnapshot() && (result == TM_Updated || result == TM_Deleted))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errhint("Retry the transaction.")));
	/* SelfModified: by a command that our snapshot does not see */
	if (result != TM_Deleted && result != TM_SelfModified)
		elog(ERROR, "could not lock a row of cdp.%s: %d", RelationGetRelationName(table), (int) result);
	return false;
}

TupleTableSlot *
cdp_probe_lock(CdpProbe *p)
{
	return cdp_lock_row(p->table, p->slot->tts_tid, p->scan->xs_snapshot, p->slot) ? p->slot : NULL;
}

TupleTableSlot *
cdp_probe_text2(CdpProbe *p, Datum key1, Datum key2)
{
	ScanKeyData keys[2];

	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid,
						   p->index->rd_indcollation[0], F_TEXTEQ, key1);
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid,
						   p->index->rd_indcollation[1], F_TEXTEQ, key2);
	return fetch(p, keys, 2);
}

TupleTableSlot *
cdp_probe_pair(CdpProbe *p, int64 key1, int64 key2, const char *key3)
{
	ScanKeyData keys[3];
	TupleTableSlot *slot;
	text	   *t = NULL;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key1));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key2));
	if (key3 != NULL)
	{
		t = cstring_to_text(key3);
		ScanKeyEntryInitialize(&keys[2], 0, 3, BTEqualStrategyNumber, InvalidOid,
							   p->index->rd_indcollation[2], F_TEXTEQ, PointerGetDatum(t));
	}
	slot = fetch(p, keys, t ? 3 : 2);
	if (t != NULL)
		pfree(t);
	return slot;
}

void
cdp_probe_range(CdpProbe *p, ScanKey keys)
{
	index_rescan(p->scan, keys, p->nkeys, NULL, 0);
}

TupleTableSlot *
cdp_probe_bytes(CdpProbe *p, bytea *key)
{
	ScanKeyData keys[1];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_BYTEAEQ, PointerGetDatum(key));
	return fetch(p, keys, 1);
}

CdpProbe *
cdp_probe_open_entries(const char *table, const char *index, int nkeys)
{
	CdpProbe   *p = cdp_probe_open_range(table, index, nkeys);

	/* before the first rescan, which makes room for the tuples */
	p->scan->xs_want_itup = true;
	return p;
}

IndexTuple
cdp_probe_entry(CdpProbe *p, ItemPointer tid)
{
	ItemPointer found;

	found = index_getnext_tid(p->scan, ForwardScanDirection);
	if (found == NULL)
		return NULL;
	*tid = *found;
	return p->scan->xs_itup;
}

TupleDesc
cdp_probe_entry_desc(CdpProbe *p)
{
	return RelationGetDescr(p->index);
}

CdpProbe *
cdp_probe_open_ascending(const char *table, const char *index)
{
	return cdp_probe_open_entries(table, index, 1);
}

static void
step(CdpProbe *p)
{
	bool		isnull;

	p->ended = index_getnext_tid(p->scan, ForwardScanDirection) == NULL;
	if (!p->ended)
		p->at = DatumGetInt64(index_getattr(p->scan->xs_itup, 1, RelationGetDescr(p->index), &isnull));
}

TupleTableSlot *
cdp_probe_ascend(CdpProbe *p, int64 key)
{
	int			steps = 0;

	if (p->begun && p->ended)
		return NULL;
	for (;; steps++)
	{
		if (!p->begun || steps == NEAR_ENTRIES)
		{
			ScanKeyData keys[1];

			ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(key));
			index_rescan(p->scan, keys, 1, NULL, 0);
			p->begun = true;
			step(p);
		}
		if (p->ended || p->at > key)
			return NULL;
		/* a key has an entry for each version of its row */
		if (p->at == key && index_fetch_heap(p->scan, p->slot))
			return p->slot;
		step(p);
	}
}

/*
 * Not through the scan: that would mark the entry it stands on as dead when
 * the row of another one is.
 */
TupleTableSlot *
cdp_probe_tuple(CdpProbe *p, ItemPointer tid)
{
	bool		again = false;
	bool		all_dead = false;
	ItemPointerData at = *tid;

	if (p->fetch == NULL)
		p->fetch = table_index_fetch_begin(p->table);
	return table_index_fetch_tuple(p->fetch, &at, p->scan->xs_snapshot, p->slot, &again, &all_dead) ? p->slot : NULL;
}

void
cdp_probe_close(CdpProbe *p)
{
	if (p->fetch != NULL)
		table_index_fetch_end(p->fetch);
	index_endscan(p->scan);
	ExecDropSingleTupleTableSlot(p->slot);
	/* the locks stay to the end of the transaction, as with any query */
	relation_close(p->index, NoLock);
	relation_close(p->table, NoLock);
	pfree(p);
}

void
cdp_push_fresh_snapshot(void)
{
	CommandCounterIncrement();
	PushCopiedSnapshot(GetTransactionSnapshot());
	UpdateActiveSnapshotCommandId();
}
