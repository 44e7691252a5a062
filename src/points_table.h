/*
 * points_table.h
 *	  The tables of the ledger as the engine reads and writes them.
 *
 * The engine writes below the executor: no plan, no trigger, no rights; that
 * is what makes it fast, and why nobody else may write these tables.
 *
 *		points_tables_open(&t);						-- nothing is opened yet
 *		points_put(&t, PT_LOT, values, nulls);		-- a new row, when it is flushed
 *		points_change(&t, PT_LOT, &tid, values, nulls);
 *		points_flush(&t);							-- now others of this transaction see it
 *		points_tables_close(&t);
 *
 * values and nulls have a place for each column of the enumeration below.
 */
#ifndef POINTS_TABLE_H
#define POINTS_TABLE_H

#include "cdp.h"
#include "access/skey.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"

typedef enum PointsTableId
{
	PT_ACCOUNT, PT_ENTRY, PT_LOT, PT_USE, PT_MOVE, PT_HOLD, PT_HOLD_LOT, PT_KEY,
	PT_PROFILE, PT_ALIAS,		/* only read */
	PT_TABLES
} PointsTableId;

typedef enum PointsIndexId
{
	PI_ACCOUNT, PI_ACCOUNT_INACTIVE, PI_LOT, PI_LOT_OPEN, PI_LOT_EXPIRY, PI_USE, PI_MOVE, PI_HOLD, PI_HOLD_OPEN, PI_HOLD_DUE, PI_HOLD_LOT,
	PI_KEY, PI_KEY_REFERENCE, PI_PROFILE, PI_ALIAS,
	PI_ENTRY,					/* of the partition of now */
	PI_INDEXES
} PointsIndexId;

enum
{
	PA_CUSTOMER, PA_PROGRAM, PA_BALANCE, PA_HELD, PA_DEBT, PA_ENTRIES, PA_MOVED_TO, PA_ACTIVE_UNTIL, PA_EARNED_DAY,
	PA_EARNED_TODAY, PA_MOVED_DEBT, PA_COLUMNS
};
enum
{
	PE_ENTRY, PE_POSTED_AT, PE_OCCURRED_AT, PE_PROFILE, PE_CUSTOMER, PE_PROGRAM, PE_KIND, PE_AMOUNT, PE_DEBT, PE_REFERENCE,
	PE_KEY, PE_EXPIRES_AT, PE_AVAILABLE_AT, PE_REVERSES, PE_DETAILS, PE_XID, PE_COLUMNS
};
enum
{
	PL_LOT, PL_CUSTOMER, PL_PROGRAM, PL_PROFILE, PL_ENTRY, PL_EARNED_ENTRY, PL_ORIGIN, PL_AMOUNT, PL_REMAINING, PL_HELD,
	PL_EARNED_AT, PL_AVAILABLE_AT, PL_EXPIRES_AT, PL_OPEN, PL_COLUMNS
};
enum
{
	PU_ENTRY, PU_ORD, PU_LOT, PU_AMOUNT, PU_RESTORED, PU_COLUMNS
};
enum
{
	PM_FROM, PM_TO, PM_AMOUNT, PM_ENTRY, PM_COLUMNS
};
enum
{
	PH_HOLD, PH_CUSTOMER, PH_PROGRAM, PH_PROFILE, PH_AMOUNT, PH_CAPTURED, PH_RELEASED, PH_STATE, PH_RELEASE_AT,
	PH_REFERENCE, PH_KEY, PH_ENTRY, PH_HELD_AT, PH_RESOLVED_AT, PH_COLUMNS
};
enum
{
	PHL_HOLD, PHL_ORD, PHL_LOT, PHL_AMOUNT, PHL_COLUMNS
};
enum
{
	PK_KEY, PK_VERB, PK_PROFILE, PK_OTHER, PK_CUSTOMER, PK_PROGRAM, PK_AMOUNT, PK_REFERENCE, PK_RESULT, PK_LOT, PK_POSTED,
	PK_REVERSED, PK_POSTED_AT, PK_COLUMNS
};
enum
{
	PP_PROFILE, PP_COLUMNS
};
enum
{
	PX_PROFILE, PX_CUSTOMER, PX_COLUMNS
};
#define POINTS_MAX_COLUMNS	16

typedef struct PointsTable
{
	Relation	rel;			/* NULL: not opened */
	ResultRelInfo *result;		/* the table, of points_entry the partition of now */
	AttrNumber	column[POINTS_MAX_COLUMNS];
	TupleTableSlot *read;
	TupleDesc	desc;
	TupleTableSlot **rows;		/* that wait to be written */
	int			nrows;
	int			nslots;
	MemoryContext row_context;	/* what they are made of */
} PointsTable;

typedef struct PointsTables
{
	MemoryContext context;
	EState	   *estate;
	TimestampTz now;
	Snapshot	snapshot;		/* registered; what is read */
	int			refreshed;		/* how often it was taken */
	PointsTable table[PT_TABLES];
} PointsTables;

/* numbers of our columns in a table, those of the definition unless it was repaired; 55000 */
extern void points_find_columns(PointsTableId id, TupleDesc desc, AttrNumber *column);

extern void points_tables_open(PointsTables *t);
extern void points_tables_close(PointsTables *t);

/* from now on reads see what was committed, or flushed here, up to now */
extern void points_refresh(PointsTables *t);

/* reading: keys are of the index's first columns */
typedef struct PointsScan
{
	PointsTables *tables;
	PointsTableId id;
	IndexScanDesc scan;
} PointsScan;

extern void points_scan(PointsScan *scan, PointsTables *t, PointsIndexId index, ScanKey keys, int nkeys);
extern bool points_next(PointsScan *scan);
extern void points_scan_end(PointsScan *scan);
extern void points_key_int8(ScanKey key, int column, int64 value);
extern void points_key_text(ScanKey key, int column, Datum value);
/* of the row that points_next() answered last, or points_lock() */
extern Datum points_value(PointsTables *t, PointsTableId id, int column, bool *isnull);
extern int64 points_int8(PointsTables *t, PointsTableId id, int column);
extern int64 points_int8_or(PointsTables *t, PointsTableId id, int column, int64 if_null);
extern ItemPointerData points_tid(PointsTables *t, PointsTableId id);

/* all columns of it, in the current memory context, to be changed and given to points_change() */
extern void points_copy(PointsTables *t, PointsTableId id, Datum *values, bool *nulls);

/* lock that row and read its newest version; false: it is gone.  40001 */
extern bool points_lock(PointsTables *t, PointsTableId id);
/* the same of a row that was read before */
extern bool points_lock_at(PointsTables *t, PointsTableId id, ItemPointerData tid);

/* writing */
extern void points_put(PointsTables *t, PointsTableId id, const Datum *values, const bool *nulls);
extern void points_change(PointsTables *t, PointsTableId id, ItemPointer tid, const Datum *values, const bool *nulls);
extern void points_flush(PointsTables *t);
/* memory for what points_put() is given, freed when the row is written */
extern MemoryContext points_row_context(PointsTables *t, PointsTableId id);

extern int64 points_next_id(const char *sequence);

#endif							/* POINTS_TABLE_H */
