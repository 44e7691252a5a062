/*
 * tag_change_rows.c
 *	  The rows of a statement on cdp.profile_tag, before and after, side by
 *	  side: transition tables as the trigger reads them.
 *
 * Page: doc/tag_customer.md.  Tests: test/sql/tag_customer.sql,
 * test/pgtap/tag_customer.sql.
 */
#include "tag_change.h"

#include "executor/executor.h"
#include "identity_step.h"
#include "utils/rel.h"

void
cdp_tag_pairs_begin(CdpTagPairs *rows, TriggerData *td)
{
	static const char *const names[3] = {"profile_id", "tags", "own_tags"};
	TupleDesc	desc = RelationGetDescr(td->tg_relation);

	memset(rows, 0, sizeof(CdpTagPairs));
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

void
cdp_tag_pairs_rewind(CdpTagPairs *rows)
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
bool
cdp_tag_pairs_next(CdpTagPairs *rows)
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

void
cdp_tag_pairs_end(CdpTagPairs *rows)
{
	ExecDropSingleTupleTableSlot(rows->old_slot);
	ExecDropSingleTupleTableSlot(rows->new_slot);
}

int64
cdp_tag_pairs_id(const CdpTagPairs *rows, TupleTableSlot *slot)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(slot, rows->attr[0], &isnull));
}

struct varlena *
cdp_tag_attribute(TupleTableSlot *slot, int attr)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attr, &isnull);

	return isnull ? NULL : PG_DETOAST_DATUM_PACKED(value);
}

void
cdp_tag_pairs_side(const CdpTagPairs *rows, TupleTableSlot *slot, CdpTagSide *side)
{
	side->tags = cdp_tag_attribute(slot, rows->attr[1]);
	side->own = cdp_tag_attribute(slot, rows->attr[2]);
}

int64 *
cdp_tag_pairs_ids(CdpTagPairs *rows, int *n, int64 **new_ids, int *nnew)
{
	int64		room = (rows->old ? tuplestore_tuple_count(rows->old) : 0) + (rows->new ? tuplestore_tuple_count(rows->new) : 0);
	int64	   *ids = palloc_extended(sizeof(int64) * Max(room, 1), MCXT_ALLOC_HUGE);
	int			total = 0,
				fresh = 0;

	*new_ids = palloc_extended(sizeof(int64) * Max(room, 1), MCXT_ALLOC_HUGE);
	cdp_tag_pairs_rewind(rows);
	while (cdp_tag_pairs_next(rows))
	{
		int64		old_id = rows->old ? cdp_tag_pairs_id(rows, rows->old_slot) : 0;
		int64		new_id = rows->new ? cdp_tag_pairs_id(rows, rows->new_slot) : 0;

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
