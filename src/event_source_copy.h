/*
 * event_source_copy.h
 *	  What back-fill, retry and ingest share.
 */
#ifndef CDP_EVENT_SOURCE_COPY_H
#define CDP_EVENT_SOURCE_COPY_H

#include "event_source.h"

extern char *source_from_clause(Relation rel);
extern char *source_key_expr(SourceSpec *spec);
extern char *source_key_columns(SourceSpec *spec);
extern char *source_compare_key(SourceSpec *spec, Relation rel, const char *op, const char *array);
extern void source_query(SourceSpec *spec, const char *sql, int nargs, const Oid *types, const Datum *args, const char *nulls);
extern HeapTuple *source_result_tuples(int col);
extern void *source_result_versions(int col);
extern List *source_take_newest(SourceSpec *spec, Relation rel, HeapTuple *tuples, void *versions, int n, bool changed,
								const char *where, int nargs, const Oid *types, const Datum *args, const char *nulls);

#endif							/* CDP_EVENT_SOURCE_COPY_H */
