/*
 * probe.h
 *	  Look rows up by an index, many times, without the executor.
 *
 *		p = cdp_probe_open("profile_alias", "profile_alias_pkey");
 *		slot = cdp_probe_int8(p, id);	-- NULL: no such row
 *		cdp_probe_close(p);
 *
 * The snapshot is the active one; nothing is written, but rows can be locked.
 */
#ifndef CDP_PROBE_H
#define CDP_PROBE_H

#include "cdp.h"
#include "access/skey.h"
#include "executor/tuptable.h"

typedef struct CdpProbe CdpProbe;

extern CdpProbe *cdp_probe_open(const char *table, const char *index);
/* the same, for cdp_probe_lock() */
extern CdpProbe *cdp_probe_open_to_lock(const char *table, const char *index);
/* number of a column: a repaired table may have them in another order */
extern int	cdp_probe_column(CdpProbe *probe, const char *name);
extern TupleTableSlot *cdp_probe_int8(CdpProbe *probe, int64 key);
/* after cdp_probe_int8 by an index that is not unique: the next row of that key */
extern TupleTableSlot *cdp_probe_next(CdpProbe *probe);
/*
 * Lock the row that was answered last, FOR NO KEY UPDATE: its newest version, which may have another key, or NULL when
 * it is gone meanwhile.  40001 where the transaction's snapshot must not see that.
 */
extern TupleTableSlot *cdp_probe_lock(CdpProbe *probe);
/* the same of a row that was found otherwise, into the slot; false: it is gone */
extern bool cdp_lock_row(Relation table, ItemPointerData tid, Snapshot snapshot, TupleTableSlot *slot);
extern TupleTableSlot *cdp_probe_text2(CdpProbe *probe, Datum key1, Datum key2);
/* two numbers and, for an index of three columns, a text */
extern TupleTableSlot *cdp_probe_pair(CdpProbe *probe, int64 key1, int64 key2, const char *key3);
extern TupleTableSlot *cdp_probe_bytes(CdpProbe *probe, bytea *key);
extern void cdp_probe_close(CdpProbe *probe);

/*
 * Ranges: nkeys scan keys, none for the whole index in its order.
 *
 *		p = cdp_probe_open_range("tag_expiry", "tag_expiry_pkey", 2);
 *		cdp_probe_range(p, keys);
 *		while ((slot = cdp_probe_next(p)) != NULL)
 *
 * Or, with cdp_probe_open_entries(), entries first and rows later, where not all rows are wanted: an entry
 * may have no row that the snapshot sees.
 */
extern CdpProbe *cdp_probe_open_range(const char *table, const char *index, int nkeys);
extern CdpProbe *cdp_probe_open_entries(const char *table, const char *index, int nkeys);
extern void cdp_probe_range(CdpProbe *probe, ScanKey keys);
extern IndexTuple cdp_probe_entry(CdpProbe *probe, ItemPointer tid);
extern TupleDesc cdp_probe_entry_desc(CdpProbe *probe);
extern TupleTableSlot *cdp_probe_tuple(CdpProbe *probe, ItemPointer tid);

/*
 * Rows of numbers that ascend from call to call: from one to the next along the index where it is near.  The row is
 * there until the next call.
 */
extern CdpProbe *cdp_probe_open_ascending(const char *table, const char *index);
extern TupleTableSlot *cdp_probe_ascend(CdpProbe *probe, int64 key);

/* a snapshot that sees what this transaction has written up to now; pop it */
extern void cdp_push_fresh_snapshot(void);

#endif							/* CDP_PROBE_H */
