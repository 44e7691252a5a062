/*
 * event_source_take.c
 *	  Good rows in, bad rows apart: subtransactions, and the queue.
 *
 * A batch is tried as a whole.  When an error is raised that is about data,
 * every row is mapped alone and the rows that can be mapped are applied in
 * halves until the culprit is alone.  An error that is not about data (a
 * lock, a right, a missing table) is not worth a second try: it goes for all
 * rows.
 *
 * The queue needs nothing but its own table, so that it works while every
 * other table of the extension is locked.
 *
 * SQL: sql/event_source.sql.  Tests: test/sql/event_source_queue.sql.
 */
#include "event_source.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"

/*
 * Run a step in a subtransaction.  What ends the user's statement (cancel,
 * statement_timeout) or his whole transaction is not held up.
 */
bool
source_attempt(SourceStep step, void *arg, ErrorData **error)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	PG_TRY();
	{
		step(arg);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
		ok = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		*error = CopyErrorData();
		FlushErrorState();
		/* also before the error goes on: the transaction must not end inside */
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
		if ((*error)->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			((*error)->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE && IsolationIsSerializable()))
			ReThrowError(*error);
	}
	PG_END_TRY();
	return ok;
}

/* about this row, so that another row may fare better */
bool
source_is_data_error(ErrorData *error)
{
	const char *state = unpack_sql_state(error->sqlerrcode);

	return strncmp(state, "22", 2) == 0 || strncmp(state, "23", 2) == 0 || strncmp(state, "54", 2) == 0 ||
		strncmp(state, "P0", 2) == 0 || strncmp(state, "LC", 2) == 0;
}

static SourceReject *
make_reject(int row, ErrorData *error)
{
	SourceReject *r = palloc(sizeof(SourceReject));

	r->row = row;
	r->sqlstate = error->sqlerrcode;
	r->message = cdp_message_without_values(error);
	r->hint = pstrdup(error->hint ? error->hint : "Mend the row or the mapping; CALL cdp.retry_sources() tries again.");
	return r;
}

List *
source_reject_all(int n, ErrorData *error)
{
	List	   *result = NIL;

	for (int i = 0; i < n; i++)
		result = lappend(result, make_reject(i, error));
	return result;
}

/* on_error 'raise': the first bad row ends the statement */
void
source_raise(SourceReject *reject)
{
	ereport(ERROR,
			(errcode(reject->sqlstate),
			 errmsg("customer_cdp: %s", reject->message),
			 reject->hint ? errhint("%s", reject->hint) : 0));
}

typedef struct Piece
{
	SourceSpec *spec;
	SourceBatch *batch;
	TupleDesc	desc;
	HeapTuple  *tuples;
	int			from;
	int			to;
	List	   *rejects;
} Piece;

static void
map_piece(void *arg)
{
	Piece	   *p = arg;

	source_map_tuples(p->spec, p->batch, p->desc, p->tuples + p->from, p->to - p->from, p->from);
}

static void
apply_piece(void *arg)
{
	Piece	   *p = arg;

	p->rejects = source_apply(p->spec, p->batch, p->from, p->to);
}

static void
take_piece(void *arg)
{
	Piece	   *p = arg;

	map_piece(p);
	p->rejects = source_apply(p->spec, p->batch, 0, p->batch->n);
}

/* apply batch rows from..to-1, in halves when it must be */
static List *
apply_in_halves(Piece *p, int from, int to)
{
	Piece		part = *p;
	ErrorData  *error;
	List	   *rejects = NIL;

	part.from = from;
	part.to = to;
	part.rejects = NIL;
	if (source_attempt(apply_piece, &part, &error))
		return part.rejects;
	if (to - from > 1 && source_is_data_error(error))
	{
		rejects = apply_in_halves(p, from, from + (to - from) / 2);
		return list_concat(rejects, apply_in_halves(p, from + (to - from) / 2, to));
	}
	for (int i = from; i < to; i++)
		rejects = lappend(rejects, make_reject(p->batch->origin[i], error));
	return rejects;
}

/*
 * Bring tuples of a relation in; answers those that were not taken.  Called
 * between cdp_begin_write and cdp_end, with pinned settings.
 */
List *
source_take_tuples(SourceSpec *spec, TupleDesc desc, HeapTuple *tuples, int n, TimestampTz seen_at, bool changed)
{
	Piece		p = {spec, source_new_batch(spec, n), desc, tuples, 0, n, NIL};
	ErrorData  *error;
	List	   *rejects = NIL;

	p.batch->seen_at = seen_at;
	p.batch->changed = changed;
	if (source_attempt(take_piece, &p, &error))
	{
		source_free_batch(p.batch);
		return p.rejects;
	}
	source_free_batch(p.batch);
	if (!source_is_data_error(error))
		return source_reject_all(n, error);

	p.batch = source_new_batch(spec, n);
	p.batch->seen_at = seen_at;
	p.batch->changed = changed;
	for (int i = 0; i < n; i++)
	{
		p.from = i;
		p.to = i + 1;
		if (!source_attempt(map_piece, &p, &error))
			rejects = lappend(rejects, make_reject(i, error));
	}
	if (p.batch->n > 0)
		rejects = list_concat(rejects, apply_in_halves(&p, 0, p.batch->n));
	source_free_batch(p.batch);
	return rejects;
}

/* --- the queue --- */

/* the owner's rights without the version guard, which reads a table */
void
source_begin_owner(CdpVerb *verb)
{
	GetUserIdAndSecContext(&verb->userid, &verb->sec_context);
	SetUserIdAndSecContext(cdp_owner(), verb->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	verb->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

/*
 * to_jsonb() of a row, as the owner of its table: a type of his may have a
 * cast of his to json.
 */
Datum
source_row_image(TupleDesc desc, Oid owner, HeapTuple row)
{
	FmgrInfo	flinfo;
	CdpActor	actor;
	Datum		result;

	fmgr_info(F_TO_JSONB, &flinfo);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID,
											 list_make1(makeNullConst(desc->tdtypeid, desc->tdtypmod, InvalidOid)),
											 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL), &flinfo);
	cdp_become(&actor, owner);
	result = FunctionCall1(&flinfo, heap_copy_tuple_as_datum(row, desc));
	cdp_return(&actor);
	return result;
}

static Datum
array_of(Datum *values, bool *nulls, int n, Oid type)
{
	int			lower = 1;

	return PointerGetDatum(construct_md_array(values, nulls, 1, &n, &lower, type, -1, false, TYPALIGN_INT));
}

/* Put rows into the queue; reject->row numbers rows. */
void
source_enqueue(int64 source_id, const char *op, Relation rel, HeapTuple *rows, List *rejects)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8OID, TEXTOID, JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID};
	CdpVerb		verb;
	ListCell   *lc = list_head(rejects);
	TupleDesc	desc = RelationGetDescr(rel);

	source_begin_owner(&verb);
	source_pin_settings();
	while (lc != NULL)
	{
		MemoryContext chunk = AllocSetContextCreate(CurrentMemoryContext, "cdp queue", ALLOCSET_DEFAULT_SIZES);
		MemoryContext old = MemoryContextSwitchTo(chunk);
		Datum		images[1000];
		Datum		states[1000];
		Datum		messages[1000];
		Datum		hints[1000];
		bool		nohint[1000];
		Datum		args[7];
		int			n = 0;

		for (; lc != NULL && n < 1000; lc = lnext(rejects, lc))
		{
			SourceReject *r = lfirst(lc);

			CHECK_FOR_INTERRUPTS();
			images[n] = source_row_image(desc, rel->rd_rel->relowner, rows[r->row]);
			states[n] = CStringGetTextDatum(unpack_sql_state(r->sqlstate));
			messages[n] = CStringGetTextDatum(r->message);
			nohint[n] = r->hint == NULL;
			hints[n] = r->hint ? CStringGetTextDatum(r->hint) : (Datum) 0;
			n++;
		}
		args[0] = Int64GetDatum(source_id);
		args[1] = CStringGetTextDatum(op);
		args[2] = array_of(images, NULL, n, JSONBOID);
		args[3] = array_of(states, NULL, n, TEXTOID);
		args[4] = array_of(messages, NULL, n, TEXTOID);
		args[5] = array_of(hints, nohint, n, TEXTOID);
		args[6] = TimestampTzGetDatum(source_clock());
		MemoryContextSwitchTo(old);
		cdp_plan_generic(&plan,
						 "INSERT INTO cdp.source_queue (source_id, op, row_image, sqlstate, error, hint, queued_at)"
						 " SELECT $1, $2, u.i, u.s, u.m, u.h, $7 FROM unnest($3, $4, $5, $6) AS u(i, s, m, h)",
						 7, types);
		if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "could not queue rows");
		MemoryContextDelete(chunk);
	}
	cdp_end(&verb);
}

/*
 * Note what happened.  A row is appended, never a counter raised, so that
 * the users of a source do not wait for each other; folding is the job of
 * cdp.retry_sources().
 */
void
source_count(int64 source_id, int64 taken, int64 deletes, int64 truncates)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8OID, INT8OID, INT8OID, INT8OID};
	Datum		args[4];

	args[0] = Int64GetDatum(source_id);
	args[1] = Int64GetDatum(taken);
	args[2] = Int64GetDatum(deletes);
	args[3] = Int64GetDatum(truncates);
	cdp_plan_generic(&plan,
					 "INSERT INTO cdp.source_delta (source_id, taken, deletes_ignored, truncates_ignored)"
					 " VALUES ($1, $2, $3, $4)", 4, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not count rows of a source");
}
