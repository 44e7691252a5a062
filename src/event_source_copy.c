/*
 * event_source_copy.c
 *	  Rows of a source in batches: the back-fill.
 *
 * No lock is held on the source while it is copied, so a row may change
 * between the moment it is read and the moment it is applied.  The newest
 * content wins nevertheless:
 *
 *		read the batch			key and xmin of every row
 *		apply					from now on we hold the locks on what we wrote
 *		read keys and xmins		rows whose xmin is another one have changed:
 *		again					read and apply these again, until none has
 *
 * Whoever changed a row and committed before our second look is seen by it.
 * Whoever did not, has his trigger wait for what we have written, and apply
 * his newer content when we have committed.  (An event is written once and
 * never changed: there the first content stays.)
 *
 * The position of the last batch is kept in the same transaction as its
 * rows, so that a back-fill that was killed goes on where it stopped.
 *
 * SQL: sql/event_source.sql.  Tests: test/sql/event_source_backfill.sql,
 * test/specs/source_insert_vs_backfill.spec, test/t/003_event_source_crash.pl.
 */
#include "event_source.h"
#include "event_source_copy.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(cdp_backfill_batch);

/* "schema.table", read without its inheritance children, with those of a partitioned table */
char *
source_from_clause(Relation rel)
{
	return psprintf("%s%s", rel->rd_rel->relkind == RELKIND_RELATION ? "ONLY " : "",
					quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)), RelationGetRelationName(rel)));
}

/* text of the key of row t: the key itself, or the literal of an array */
char *
source_key_expr(SourceSpec *spec)
{
	StringInfoData s;

	initStringInfo(&s);
	appendStringInfoString(&s, "ARRAY[");
	for (int i = 0; i < spec->nkeys; i++)
		appendStringInfo(&s, "%st.%s::text", i ? ", " : "", quote_identifier(spec->keys[i]));
	appendStringInfoString(&s, "]");
	return s.data;
}

/* "a, b" of the key columns of t */
char *
source_key_columns(SourceSpec *spec)
{
	StringInfoData s;

	initStringInfo(&s);
	for (int i = 0; i < spec->nkeys; i++)
		appendStringInfo(&s, "%st.%s", i ? ", " : "", quote_identifier(spec->keys[i]));
	return s.data;
}

/* "(t.a, t.b) > (($1)[1]::int, ($1)[2]::text)", for an element of a text array */
char *
source_compare_key(SourceSpec *spec, Relation rel, const char *op, const char *array)
{
	StringInfoData s;

	initStringInfo(&s);
	appendStringInfo(&s, "ROW(%s) %s ROW(", source_key_columns(spec), op);
	for (int i = 0; i < spec->nkeys; i++)
	{
		AttrNumber	attnum = get_attnum(RelationGetRelid(rel), spec->keys[i]);
		Oid			type;
		int32		typmod;
		Oid			collation;

		get_atttypetypmodcoll(RelationGetRelid(rel), attnum, &type, &typmod, &collation);
		appendStringInfo(&s, "%s(%s)[%d]::%s", i ? ", " : "", array, i + 1,
						 format_type_extended(type, -1, FORMAT_TYPE_FORCE_QUALIFY));
	}
	appendStringInfoString(&s, ")");
	return s.data;
}

/* run a query as the role of the source */
void
source_query(SourceSpec *spec, const char *sql, int nargs, const Oid *types, const Datum *args, const char *nulls)
{
	CdpActor	actor;
	int			rc;

	cdp_become(&actor, spec->owner);
	rc = SPI_execute_with_args(sql, nargs, unconstify(Oid *, types), unconstify(Datum *, args), nulls, false, 0);
	cdp_return(&actor);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "%s: %s", SPI_result_code_string(rc), sql);
}

/* column col of the result holds whole rows: as tuples of the relation */
HeapTuple *
source_result_tuples(int col)
{
	HeapTuple  *result = palloc(sizeof(HeapTuple) * Max(SPI_processed, 1));

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		HeapTupleHeader th = DatumGetHeapTupleHeader(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, col, &isnull));
		HeapTupleData tuple;

		tuple.t_len = HeapTupleHeaderGetDatumLength(th);
		ItemPointerSetInvalid(&tuple.t_self);
		tuple.t_tableOid = InvalidOid;
		tuple.t_data = th;
		result[i] = heap_copytuple(&tuple);
	}
	return result;
}

/* version of a row: what it was read as */
typedef struct Version
{
	const char *key;
	TransactionId xmin;
} Version;

static int
compare_versions(const void *a, const void *b)
{
	return strcmp(((const Version *) a)->key, ((const Version *) b)->key);
}

/* columns col and col + 1 of the result: key (text[]) and xmin */
static Version *
result_versions(int col)
{
	Version    *result = palloc(sizeof(Version) * Max(SPI_processed, 1));

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		result[i].key = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, col);
		result[i].xmin = DatumGetTransactionId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, col + 1, &isnull));
	}
	return result;
}

/*
 * Take rows that were read with their versions, and again those that have
 * changed in the meantime.  where: how the rows can be looked at again, with
 * the arguments of the first query.
 */
List *
source_take_newest(SourceSpec *spec, Relation rel, HeapTuple *tuples, void *versions, int n, bool changed,
				   const char *where, int nargs, const Oid *types, const Datum *args, const char *nulls)
{
	Version    *known = versions;
	List	   *rejects = source_take_tuples(spec, RelationGetDescr(rel), tuples, n, changed ? source_clock() : 0, changed);
	char	   *look;
	Oid			again_types[8];
	Datum		again_args[8];
	char		again_nulls[8];

	if (spec->role == SOURCE_EVENT || n == 0)
		return rejects;
	look = psprintf("SELECT %s, t.xmin FROM %s AS t WHERE %s", source_key_expr(spec), source_from_clause(rel), where);
	for (int round = 0; round < 10; round++)
	{
		Version    *now;
		Datum	   *keys;
		int			nchanged = 0;
		uint64		nnow;

		source_query(spec, look, nargs, types, args, nulls);
		now = result_versions(1);
		nnow = SPI_processed;
		SPI_freetuptable(SPI_tuptable);
		qsort(known, n, sizeof(Version), compare_versions);
		keys = palloc(sizeof(Datum) * Max(nnow, 1));
		for (uint64 i = 0; i < nnow; i++)
		{
			Version    *was = bsearch(&now[i], known, n, sizeof(Version), compare_versions);

			if (was == NULL || was->xmin == now[i].xmin)
				continue;
			was->xmin = now[i].xmin;
			keys[nchanged++] = CStringGetTextDatum(now[i].key);
		}
		if (nchanged == 0)
			return rejects;
		/* few: by their text, within what the batch covers */
		memcpy(again_types, types, sizeof(Oid) * nargs);
		memcpy(again_args, args, sizeof(Datum) * nargs);
		memcpy(again_nulls, nulls, nargs);
		again_types[nargs] = TEXTARRAYOID;
		again_args[nargs] = PointerGetDatum(construct_array(keys, nchanged, TEXTOID, -1, false, TYPALIGN_INT));
		again_nulls[nargs] = ' ';
		source_query(spec, psprintf("SELECT t, %s, t.xmin FROM %s AS t WHERE %s AND %s::text = ANY ($%d)",
									source_key_expr(spec), source_from_clause(rel), where, source_key_expr(spec), nargs + 1),
					 nargs + 1, again_types, again_args, again_nulls);
		{
			int			m = SPI_processed;
			HeapTuple  *newer = source_result_tuples(1);

			SPI_freetuptable(SPI_tuptable);
			/* what could not be taken is queued, and read anew when it is retried */
			(void) source_take_tuples(spec, RelationGetDescr(rel), newer, m, source_clock(), true);
		}
	}
	return rejects;
}

void *
source_result_versions(int col)
{
	return result_versions(col);
}

static void
set_state(int64 source_id, const char *state, Datum position, bool noposition, int64 taken)
{
	Oid			types[] = {INT8OID, TEXTOID, TEXTARRAYOID, INT8OID};
	Datum		args[] = {Int64GetDatum(source_id), CStringGetTextDatum(state), position, Int64GetDatum(taken)};
	char		nulls[] = {' ', ' ', noposition ? 'n' : ' ', ' '};

	if (SPI_execute_with_args("UPDATE cdp.source_state SET backfill = $2, key_position = $3, taken = taken + $4,"
							  " backfill_rows = backfill_rows + $4,"
							  " finished_at = CASE WHEN $2 = 'done' THEN clock_timestamp() END WHERE source_id = $1",
							  4, types, args, nulls, false, 0) != SPI_OK_UPDATE || SPI_processed != 1)
		elog(ERROR, "could not note the position of a back-fill");
}

/* the end: what an earlier run had queued already is queued once */
static void
finish(int64 source_id)
{
	Oid			types[] = {INT8OID};
	Datum		args[] = {Int64GetDatum(source_id)};

	set_state(source_id, "done", (Datum) 0, true, 0);
	if (SPI_execute_with_args("DELETE FROM cdp.source_queue q USING cdp.source_queue w WHERE q.source_id = $1 AND w.source_id = $1"
							  " AND q.op = 'insert' AND w.op = 'insert' AND q.row_image = w.row_image AND q.queue_id < w.queue_id",
							  1, types, args, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not tidy the queue");
}

/*
 * Copy the next rows of a source.  Answers how many there were, 0 at the
 * end.  Called as the owner of the tables, between cdp_begin_write and
 * cdp_end.
 */
static int
copy_batch(int64 source_id, Relation rel, int limit, bool inlined, int64 *queued)
{
	Oid			types[] = {TEXTARRAYOID, INT4OID, TEXTARRAYOID};
	Datum		args[3];
	char		nulls[4] = "   ";
	SourceSpec *spec;
	bool		isnull;
	bool		raise;
	HeapTuple  *tuples;
	void	   *versions;
	Datum		last = (Datum) 0;
	char	   *from = source_from_clause(rel);
	char	   *where;
	List	   *rejects;
	int			n;

	/* one back-fill of a source at a time */
	args[0] = Int64GetDatum(source_id);
	if (SPI_execute_with_args("SELECT t.key_position, s.on_error FROM cdp.source_state t JOIN cdp.source s USING (source_id)"
							  " WHERE t.source_id = $1 FOR UPDATE OF t", 1, (Oid[]) {INT8OID}, args, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no source " INT64_FORMAT, source_id),
				 errhint("SELECT * FROM cdp.source_status lists the sources.")));
	args[0] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (isnull)
		nulls[0] = 'n';
	raise = strcmp(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2), "raise") == 0;
	args[1] = Int32GetDatum(limit);

	spec = source_load(source_id, rel, source_trigger_digest(rel, source_id));
	spec->uses++;
	where = isnull ? "" : psprintf("WHERE %s", source_compare_key(spec, rel, ">", "$1"));
	source_query(spec, psprintf("SELECT t, %s, t.xmin FROM %s AS t %s ORDER BY %s LIMIT $2",
								source_key_expr(spec), from, where, source_key_columns(spec)), 2, types, args, nulls);
	n = SPI_processed;
	tuples = source_result_tuples(1);
	versions = result_versions(2);
	if (n > 0)
		last = datumCopy(SPI_getbinval(SPI_tuptable->vals[n - 1], SPI_tuptable->tupdesc, 2, &isnull), false, -1);
	SPI_freetuptable(SPI_tuptable);
	if (n > 0)
	{
		args[2] = last;
		where = psprintf("%s%s", source_compare_key(spec, rel, "<=", "$3"),
						 nulls[0] == 'n' ? "" : psprintf(" AND %s", source_compare_key(spec, rel, ">", "$1")));
		if (inlined)
			rejects = source_take_tuples(spec, RelationGetDescr(rel), tuples, n, 0, false);
		else
			rejects = source_take_newest(spec, rel, tuples, versions, n, false, where, 3, types, args, nulls);
		if (rejects != NIL && raise)
			source_raise(linitial(rejects));
		if (rejects != NIL)
			source_enqueue(source_id, "insert", rel, tuples, rejects);
		*queued += list_length(rejects);
		set_state(source_id, "running", last, false, n - list_length(rejects));
	}
	spec->uses--;
	return n;
}

/*
 * Back-fill a source within the call, when it is small enough; the lock of
 * CREATE TRIGGER keeps writers out until the transaction ends.
 */
bool
source_copy_inline(int64 source_id, Oid relid, int64 *taken, int64 *queued)
{
	Relation	rel = table_open(relid, NoLock);
	CdpVerb		verb;
	Oid			types[] = {INT4OID};
	Datum		args[] = {Int32GetDatum(cdp_backfill_inline_rows)};
	bool		isnull;
	bool		small;
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext work = AllocSetContextCreate(cxt, "cdp back-fill", ALLOCSET_DEFAULT_SIZES);
	int			n;

	*taken = *queued = 0;
	/* as the caller, who can read his table */
	SPI_connect();
	SPI_execute_with_args(psprintf("SELECT pg_catalog.count(*) OPERATOR(pg_catalog.<=) $1 FROM"
								   " (SELECT FROM %s LIMIT $1 OPERATOR(pg_catalog.+) 1) t", source_from_clause(rel)),
						  1, types, args, NULL, true, 1);
	small = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	if (small)
	{
		cdp_begin_write(&verb, "attach_source");
		source_pin_settings();
		do
		{
			MemoryContextSwitchTo(work);
			n = copy_batch(source_id, rel, 10000, true, queued);
			*taken += n;
			MemoryContextReset(work);
		} while (n > 0);
		finish(source_id);
		cdp_end(&verb);
		MemoryContextSwitchTo(cxt);
		*taken -= *queued;
	}
	table_close(rel, NoLock);
	MemoryContextDelete(work);
	return small;
}

/*
 * cdp._backfill_batch(source text, batch int) -> bigint: one batch of a
 * source by its kept name "schema.table"; 0: it is done.
 */
Datum
cdp_backfill_batch(PG_FUNCTION_ARGS)
{
	CdpVerb		verb;
	MemoryContext cxt = CurrentMemoryContext;
	int64		source_id = PG_GETARG_INT64(0);
	Oid			relid = PG_GETARG_OID(1);
	int			limit = PG_GETARG_INT32(2);
	Relation	rel;
	int64		queued = 0;
	int			n;

	cdp_begin_write(&verb, "backfill_source");
	source_pin_settings();
	rel = source_open(relid);
	MemoryContextSwitchTo(cxt);
	n = copy_batch(source_id, rel, limit, false, &queued);
	if (n == 0)
		finish(source_id);
	cdp_end(&verb);
	table_close(rel, AccessShareLock);
	PG_RETURN_INT64(n);
}
