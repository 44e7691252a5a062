/*
 * cdp_compat.h
 *	  The one place that knows PostgreSQL 15 from 16, 17 and 18.
 */
#ifndef CDP_COMPAT_H
#define CDP_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "executor/executor.h"
#include "utils/backend_status.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/regproc.h"

#if PG_VERSION_NUM < 150000
#error "customer_cdp needs PostgreSQL 15 or newer"
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#else
/* settings own malloc'ed memory; 16 gave the allocator a name */
#define guc_malloc(elevel, size)	malloc(size)
#endif

/* input functions of 16 can answer that a value is wrong instead of raising it */
#if PG_VERSION_NUM < 160000
#define errsave(context, ...)	ereport(ERROR, __VA_ARGS__)
#else
#include "nodes/miscnodes.h"
#endif

/* 18 writes it before the declaration, earlier ones had a macro that stands behind it */
#if PG_VERSION_NUM < 180000
#define pg_noreturn		__attribute__((noreturn))
#endif

/* 16 tells more about what is wrong with a date; we only ask whether it is right */
static inline int
cdp_decode_datetime(char **field, int *ftype, int nf, int *dtype,
					struct pg_tm *tm, fsec_t *fsec, int *tz)
{
#if PG_VERSION_NUM >= 160000
	DateTimeErrorExtra extra;

	return DecodeDateTime(field, ftype, nf, dtype, tm, fsec, tz, &extra);
#else
	return DecodeDateTime(field, ftype, nf, dtype, tm, fsec, tz);
#endif
}

/* 18 counts index searches for EXPLAIN */
static inline IndexScanDesc
cdp_index_beginscan(Relation rel, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(rel, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(rel, index, snapshot, nkeys, 0);
#endif
}

/* 16 can report a bad name without raising */
static inline List *
cdp_qualified_name(const char *name)
{
#if PG_VERSION_NUM >= 160000
	return stringToQualifiedNameList(name, NULL);
#else
	return stringToQualifiedNameList(name);
#endif
}

/* entry i (from 1) of the activity array; 16 renamed it when backend ids went */
#if PG_VERSION_NUM >= 160000
#define cdp_backend_status(i)	pgstat_get_local_beentry_by_index(i)
#else
#define cdp_backend_status(i)	pgstat_fetch_stat_local_beentry(i)
#endif

/* 16 has one function for the owner of anything */
#if PG_VERSION_NUM >= 160000
#define cdp_is_relation_owner(relid, role)	object_ownercheck(RelationRelationId, relid, role)
#else
#define cdp_is_relation_owner(relid, role)	pg_class_ownercheck(relid, role)
#endif

/* ... and one for the right to anything */
#if PG_VERSION_NUM >= 160000
#define cdp_may_execute(fn, role)	(object_aclcheck(ProcedureRelationId, fn, role, ACL_EXECUTE) == ACLCHECK_OK)
#else
#define cdp_may_execute(fn, role)	(pg_proc_aclcheck(fn, role, ACL_EXECUTE) == ACLCHECK_OK)
#endif

/* 17 keeps the statistics target of a column beside pg_attribute; 18 tells vacuum and analyze apart */
#if PG_VERSION_NUM >= 170000
#define CdpStatisticsTarget(stats)	((stats)->attstattarget)
#else
#define CdpStatisticsTarget(stats)	((stats)->attr->attstattarget)
#endif
#if PG_VERSION_NUM >= 180000
#define CdpVacuumDelayPoint()	vacuum_delay_point(true)
#else
#define CdpVacuumDelayPoint()	vacuum_delay_point()
#endif

/* 18 asks whether a deferrable primary key will do, too */
#if PG_VERSION_NUM >= 180000
#define CdpPrimaryKeyIndex(rel)		RelationGetPrimaryKeyIndex(rel, false)
#else
#define CdpPrimaryKeyIndex(rel)		RelationGetPrimaryKeyIndex(rel)
#endif

/* 16 knows indexes that summarize and may be all that an update has to tell */
static inline void
cdp_insert_index_tuples(ResultRelInfo *rri, TupleTableSlot *slot, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	(void) ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL, false);
#else
	(void) ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL);
#endif
}

/* a new version of a row that this transaction has locked, with its index entries */
static inline TM_Result
cdp_update_tuple(ResultRelInfo *rri, ItemPointer tid, TupleTableSlot *slot, CommandId cid, EState *estate)
{
	Relation	rel = rri->ri_RelationDesc;
	TM_FailureData failure;
	LockTupleMode mode;
	TM_Result	result;
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes indexes;

	result = table_tuple_update(rel, tid, slot, cid, InvalidSnapshot, InvalidSnapshot, true, &failure, &mode, &indexes);
	if (result == TM_Ok && indexes != TU_None)
		(void) ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL, indexes == TU_Summarizing);
#else
	bool		indexes;

	result = table_tuple_update(rel, tid, slot, cid, InvalidSnapshot, InvalidSnapshot, true, &failure, &mode, &indexes);
	if (result == TM_Ok && indexes)
		(void) ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL);
#endif
	return result;
}

#endif							/* CDP_COMPAT_H */
