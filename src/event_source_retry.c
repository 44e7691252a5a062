/*
 * event_source_retry.c
 *	  Rows of the queue, tried again.
 *
 * What is applied is the row as it stands in its table now, found by its
 * key; only when it is gone, the row as it was when it was queued.  So a
 * retry never brings old content over new, however long it comes late.
 *
 * SQL: sql/event_source.sql.  Tests: test/sql/event_source_queue.sql.
 */
#include "event_source.h"
#include "event_source_copy.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(cdp_retry_batch);

typedef struct Retry
{
	int64		source_id;
	Relation	rel;
	const char *op;
	int			n;
	Datum	   *images;
	List	   *rejects;		/* of images, by number */
	MemoryContext cxt;
} Retry;

static char *
same_key(SourceSpec *spec)
{
	StringInfoData s;

	initStringInfo(&s);
	for (int i = 0; i < spec->nkeys; i++)
		appendStringInfo(&s, "%st.%s = r.%s", i ? " AND " : "", quote_identifier(spec->keys[i]), quote_identifier(spec->keys[i]));
	return s.data;
}

/* the rows as they are now, in the order of the images, and which version that is */
static HeapTuple *
read_now(Retry *r, SourceSpec *spec, TransactionId *xmins)
{
	Oid			types[] = {JSONBARRAYOID};
	Datum		args[] = {PointerGetDatum(construct_array(r->images, r->n, JSONBOID, -1, false, TYPALIGN_INT))};
	MemoryContext old = CurrentMemoryContext;
	HeapTuple  *tuples;

	source_query(spec, psprintf("SELECT CASE WHEN t.tableoid IS NULL THEN r ELSE t END, coalesce(t.xmin, '0')"
								" FROM unnest($1) WITH ORDINALITY AS u(i, ord)"
								" CROSS JOIN LATERAL jsonb_populate_record(NULL::%s, u.i) AS r"
								" LEFT JOIN %s AS t ON %s ORDER BY u.ord",
								format_type_extended(r->rel->rd_rel->reltype, -1, FORMAT_TYPE_FORCE_QUALIFY),
								source_from_clause(r->rel), same_key(spec)), 1, types, args, NULL);
	if (SPI_processed != r->n)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("the key of %s is not unique", RelationGetRelationName(r->rel)),
				 errhint("Attach it again with a \"key\" that tells its rows apart.")));
	MemoryContextSwitchTo(r->cxt);
	tuples = source_result_tuples(1);
	MemoryContextSwitchTo(old);
	for (int i = 0; i < r->n; i++)
	{
		bool		isnull;

		xmins[i] = DatumGetTransactionId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return tuples;
}

/* orders of rows that are gone, unless they have come back */
static void
retry_deletes(Retry *r, SourceSpec *spec)
{
	Oid			types[] = {JSONBARRAYOID};
	Datum		args[] = {PointerGetDatum(construct_array(r->images, r->n, JSONBOID, -1, false, TYPALIGN_INT))};
	SourceBatch *batch;
	HeapTuple  *tuples;
	int			n;

	source_query(spec, psprintf("SELECT r FROM unnest($1) AS u(i), jsonb_populate_record(NULL::%s, u.i) AS r"
								" WHERE NOT EXISTS (SELECT FROM %s AS t WHERE %s)",
								format_type_extended(r->rel->rd_rel->reltype, -1, FORMAT_TYPE_FORCE_QUALIFY),
								source_from_clause(r->rel), same_key(spec)), 1, types, args, NULL);
	n = SPI_processed;
	tuples = source_result_tuples(1);
	SPI_freetuptable(SPI_tuptable);
	if (n == 0)
		return;
	batch = source_new_batch(spec, n);
	source_map_tuples(spec, batch, RelationGetDescr(r->rel), tuples, n, 0);
	/* an order that is still not known was never taken: nothing to cancel */
	(void) source_cancel(spec, batch);
	source_free_batch(batch);
}

/* rows of the queue with the same op; may raise */
static void
retry_rows(void *arg)
{
	Retry	   *r = arg;
	SourceSpec *spec = source_load(r->source_id, r->rel, source_trigger_digest(r->rel, r->source_id));
	bool		changed = strcmp(r->op, "update") == 0;
	TransactionId *was = palloc(sizeof(TransactionId) * r->n);
	TransactionId *now = palloc(sizeof(TransactionId) * r->n);
	HeapTuple  *tuples;

	spec->uses++;
	if (strcmp(r->op, "delete") == 0)
		retry_deletes(r, spec);
	else
	{
		tuples = read_now(r, spec, was);
		MemoryContextSwitchTo(r->cxt);
		r->rejects = source_take_tuples(spec, RelationGetDescr(r->rel), tuples, r->n, source_clock(), changed);
		/* newest wins: see event_source_copy.c */
		for (int round = 0; round < 10; round++)
		{
			int			m = 0;

			tuples = read_now(r, spec, now);
			for (int i = 0; i < r->n; i++)
			{
				if (now[i] != was[i] && TransactionIdIsValid(now[i]))
					tuples[m++] = tuples[i];
				was[i] = now[i];
			}
			if (m == 0)
				break;
			(void) source_take_tuples(spec, RelationGetDescr(r->rel), tuples, m, source_clock(), true);
		}
	}
	spec->uses--;
}

/* what became of the rows of the group */
static void
note_results(Retry *r, const Datum *ids)
{
	Oid			types[] = {INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID};
	Datum		args[5];
	bool	   *bad = palloc0(sizeof(bool) * r->n);
	Datum	   *good_ids = palloc(sizeof(Datum) * r->n);
	Datum	   *bad_ids = palloc(sizeof(Datum) * r->n);
	Datum	   *states = palloc(sizeof(Datum) * r->n);
	Datum	   *errors = palloc(sizeof(Datum) * r->n);
	Datum	   *hints = palloc(sizeof(Datum) * r->n);
	int			ngood = 0;
	int			nbad = 0;
	ListCell   *lc;

	foreach(lc, r->rejects)
	{
		SourceReject *j = lfirst(lc);

		bad[j->row] = true;
		bad_ids[nbad] = ids[j->row];
		states[nbad] = CStringGetTextDatum(unpack_sql_state(j->sqlstate));
		errors[nbad] = CStringGetTextDatum(j->message);
		hints[nbad++] = CStringGetTextDatum(j->hint ? j->hint : "");
	}
	for (int i = 0; i < r->n; i++)
	{
		if (!bad[i])
			good_ids[ngood++] = ids[i];
	}
	args[0] = PointerGetDatum(construct_array(good_ids, ngood, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	if (SPI_execute_with_args("DELETE FROM cdp.source_queue WHERE queue_id = ANY ($1)", 1, types, args, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not empty the queue");
	if (nbad == 0)
		return;
	args[0] = PointerGetDatum(construct_array(bad_ids, nbad, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	args[1] = PointerGetDatum(construct_array(states, nbad, TEXTOID, -1, false, TYPALIGN_INT));
	args[2] = PointerGetDatum(construct_array(errors, nbad, TEXTOID, -1, false, TYPALIGN_INT));
	args[3] = PointerGetDatum(construct_array(hints, nbad, TEXTOID, -1, false, TYPALIGN_INT));
	args[4] = TimestampTzGetDatum(source_clock());
	if (SPI_execute_with_args("UPDATE cdp.source_queue q SET sqlstate = u.s, error = u.e, hint = nullif(u.h, ''),"
							  " tries = q.tries + 1, tried_at = $5 FROM unnest($1, $2, $3, $4) AS u(id, s, e, h) WHERE q.queue_id = u.id",
							  5, types, args, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not note the retry");
}

/*
 * cdp._retry_batch(source_id, source, after_id, last_id, batch): the next
 * rows of the queue, up to the first that has another op.
 */
Datum
cdp_retry_batch(PG_FUNCTION_ARGS)
{
	CdpVerb		verb;
	MemoryContext cxt = CurrentMemoryContext;
	Retry		r = {.source_id = PG_GETARG_INT64(0), .cxt = cxt};
	Oid			types[] = {INT8OID, INT8OID, INT8OID, INT4OID};
	Datum		args[] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(2), PG_GETARG_DATUM(3), PG_GETARG_DATUM(4)};
	Datum		values[3] = {0};
	bool		nulls[3] = {true, false, false};
	Datum	   *ids;
	TupleDesc	desc;
	ErrorData  *error;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	cdp_begin_write(&verb, "retry_sources");
	source_pin_settings();
	r.rel = source_open(PG_GETARG_OID(1));
	if (SPI_execute_with_args("SELECT queue_id, op, row_image FROM cdp.source_queue"
							  " WHERE source_id = $1 AND queue_id > $2 AND queue_id <= $3 ORDER BY queue_id LIMIT $4 FOR UPDATE SKIP LOCKED",
							  4, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the queue");
	MemoryContextSwitchTo(cxt);
	r.images = palloc(sizeof(Datum) * Max(SPI_processed, 1));
	ids = palloc(sizeof(Datum) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		char	   *op = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);

		if (r.op != NULL && strcmp(op, r.op) != 0)
			break;
		r.op = op;
		ids[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
		r.images[i] = PointerGetDatum(PG_DETOAST_DATUM_COPY(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull)));
		r.n++;
	}
	if (r.n > 0)
	{
		values[0] = ids[r.n - 1];
		nulls[0] = false;
		if (!source_attempt(retry_rows, &r, &error))
			r.rejects = source_reject_all(r.n, error);
		note_results(&r, ids);
		if (r.n > list_length(r.rejects) && strcmp(r.op, "delete") != 0)
			source_count(r.source_id, r.n - list_length(r.rejects), 0, 0);
	}
	values[1] = Int64GetDatum(r.n);
	values[2] = Int64GetDatum(r.n - list_length(r.rejects));
	cdp_end(&verb);
	table_close(r.rel, AccessShareLock);
	MemoryContextSwitchTo(cxt);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
