/*
 * probe.h
 *	  Look rows up by an index, many times, without the executor.
 *
 *		p = cdp_probe_open("profile_alias", "profile_alias_pkey");
 *		slot = cdp_probe_int8(p, id);	-- NULL: no such row
 *		cdp_probe_close(p);
 *
 * The snapshot is the active one; reading only.
 */
#ifndef CDP_PROBE_H
#define CDP_PROBE_H

#include "cdp.h"
#include "executor/tuptable.h"

typedef struct CdpProbe CdpProbe;

extern CdpProbe *cdp_probe_open(const char *table, const char *index);
/* number of a column: a repaired table may have them in another order */
extern int	cdp_probe_column(CdpProbe *probe, const char *name);
extern TupleTableSlot *cdp_probe_int8(CdpProbe *probe, int64 key);
/* after cdp_probe_int8 by an index that is not unique: the next row of that key */
extern TupleTableSlot *cdp_probe_next(CdpProbe *probe);
extern TupleTableSlot *cdp_probe_text2(CdpProbe *probe, Datum key1, Datum key2);
/* two numbers and, for an index of three columns, a text */
extern TupleTableSlot *cdp_probe_pair(CdpProbe *probe, int64 key1, int64 key2, const char *key3);
extern void cdp_probe_close(CdpProbe *probe);

/* a snapshot that sees what this transaction has written up to now; pop it */
extern void cdp_push_fresh_snapshot(void);

#endif							/* CDP_PROBE_H */
