/*
 * event_source_apply.c
 *	  A batch of mapped rows becomes profiles, orders, lines, products, events.
 *
 *		batch ── identifiers, traits ──> cdp_identify()       origin profiles
 *			  └─ columns as arrays ────> cdp._apply_…(…)      set-based, one call
 *
 * Whoever calls stands between cdp_begin_write and cdp_end.  A row that one
 * of the two does not take comes back as a SourceReject; the others go in.
 * An error that is raised (a conversion in the mapping, a lock that was not
 * granted) is the business of event_source_take.c.
 *
 * SQL: sql/event_source.sql, sql/commerce.sql.  Tests: test/sql/event_source.sql.
 */
#include "event_source.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "event.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

static List *
reject(List *rejects, int row, int sqlstate, const char *message, const char *hint)
{
	SourceReject *r = palloc(sizeof(SourceReject));

	r->row = row;
	r->sqlstate = sqlstate;
	r->message = pstrdup(message);
	r->hint = hint ? pstrdup(hint) : NULL;
	return lappend(rejects, r);
}

/* an array over some rows of a column; pick NULL: all n in order */
static Datum
column_array(const Datum *values, const bool *nulls, const int *pick, int n, Oid type)
{
	Datum	   *v = palloc(sizeof(Datum) * Max(n, 1));
	bool	   *isnull = palloc(sizeof(bool) * Max(n, 1));
	int16		len;
	bool		byval;
	char		align;
	int			dim = n;
	int			lower = 1;
	ArrayType  *result;

	for (int i = 0; i < n; i++)
	{
		int			k = pick ? pick[i] : i;

		v[i] = values ? values[k] : (Datum) 0;
		isnull[i] = nulls ? nulls[k] : false;
	}
	get_typlenbyvalalign(type, &len, &byval, &align);
	result = construct_md_array(v, isnull, 1, &dim, &lower, type, len, byval, align);
	pfree(v);
	pfree(isnull);
	return PointerGetDatum(result);
}

static Datum
field_array(SourceSpec *spec, SourceBatch *batch, int field, const int *pick, int n)
{
	int			col = SOURCE_FIELD(spec, field);

	return column_array(batch->values[col], batch->nulls[col], pick, n, spec->shape->fields[field].type);
}

/* the key of a row: the text itself, or the literal of an array of texts */
char *
source_key_text(SourceSpec *spec, SourceBatch *batch, int row)
{
	if (spec->nkeys == 1)
		return batch->nulls[0][row] ? NULL : TextDatumGetCString(batch->values[0][row]);
	else
	{
		Datum	   *v = palloc(sizeof(Datum) * spec->nkeys);

		for (int i = 0; i < spec->nkeys; i++)
		{
			if (batch->nulls[i][row])
				return NULL;
			v[i] = batch->values[i][row];
		}
		return OidOutputFunctionCall(F_ARRAY_OUT, PointerGetDatum(construct_array(v, spec->nkeys, TEXTOID, -1, false, TYPALIGN_INT)));
	}
}

static void
push_text(JsonbParseState **state, JsonbIteratorToken where, Datum value)
{
	text	   *t = DatumGetTextPP(value);
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = VARDATA_ANY(t);
	v.val.string.len = VARSIZE_ANY_EXHDR(t);
	pushJsonbValue(state, where, &v);
}

/* {"kind": "value", …}; NULLs are left out */
static Jsonb *
identifiers_of(SourceSpec *spec, SourceBatch *batch, int row)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < spec->nkinds; i++)
	{
		int			col = spec->nkeys + i;
		JsonbValue	key;

		if (batch->nulls[col][row])
			continue;
		key.type = jbvString;
		key.val.string.val = spec->kinds[i];
		key.val.string.len = strlen(spec->kinds[i]);
		pushJsonbValue(&state, WJB_KEY, &key);
		if (spec->types[col] == TEXTOID)
			push_text(&state, WJB_VALUE, batch->values[col][row]);
		else
		{
			Datum	   *elems;
			bool	   *nulls;
			int			n;

			deconstruct_array(DatumGetArrayTypeP(batch->values[col][row]), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
			pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
			for (int k = 0; k < n; k++)
			{
				if (!nulls[k])
					push_text(&state, WJB_ELEM, elems[k]);
			}
			pushJsonbValue(&state, WJB_END_ARRAY, NULL);
		}
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* members that are JSON null are left out: a column without a value says nothing */
static Jsonb *
without_nulls(Jsonb *object)
{
	JsonbParseState *state = NULL;
	JsonbValue *result = NULL;
	JsonbIterator *it;
	JsonbValue	v,
				key;
	JsonbIteratorToken tok;
	bool		found = false;

	if (!JB_ROOT_IS_OBJECT(object))
		return object;
	it = JsonbIteratorInit(&object->root);
	while ((tok = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (tok == WJB_KEY)
			key = v;
		else if (tok == WJB_VALUE)
		{
			if (v.type == jbvNull)
			{
				found = true;
				continue;
			}
			pushJsonbValue(&state, WJB_KEY, &key);
			pushJsonbValue(&state, WJB_VALUE, &v);
		}
		else
			result = pushJsonbValue(&state, tok, NULL);
	}
	return found ? JsonbValueToJsonb(result) : object;
}

/* traits or properties of a row; NULL: none */
static Jsonb *
body_of(SourceSpec *spec, SourceBatch *batch, int row)
{
	int			col = SOURCE_BODY(spec);

	return batch->nulls[col][row] ? NULL : without_nulls(DatumGetJsonbP(batch->values[col][row]));
}

/*
 * Now, for what a trigger saw: not the start of the transaction, lest a
 * back-fill that started later and read an older version of the row look
 * newer.  A simulated clock stays as it is.
 */
TimestampTz
source_clock(void)
{
	TimestampTz now = cdp_now_value();

	return now == GetCurrentTransactionStartTimestamp() ? GetCurrentTimestamp() : now;
}

/* what the row itself says about when it happened */
static TimestampTz
row_moment(SourceSpec *spec, SourceBatch *batch, int row)
{
	int			field = spec->role == SOURCE_CUSTOMER ? 0 : 1;
	int			col = SOURCE_FIELD(spec, field);
	TimestampTz at = batch->seen_at != 0 ? batch->seen_at : cdp_now_value();

	/* a customer whose row has just changed is seen now, not when the row was made */
	if (batch->changed && spec->role == SOURCE_CUSTOMER)
		return at;
	if (!batch->nulls[col][row])
	{
		TimestampTz said = DatumGetTimestampTz(batch->values[col][row]);

		/* the order or the event is refused for it below */
		if (!TIMESTAMP_NOT_FINITE(said) || spec->role == SOURCE_CUSTOMER)
			at = said;
	}
	return at;
}

/* rows of the answer of cdp._apply_…: (ord, sqlstate, reason, hint) */
static List *
collect_rejects(List *rejects, SourceBatch *batch, const int *pick, MemoryContext cxt)
{
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tup = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		int			ord = DatumGetInt32(SPI_getbinval(tup, desc, 1, &isnull));
		char	   *state = SPI_getvalue(tup, desc, 2);
		char	   *reason = SPI_getvalue(tup, desc, 3);
		char	   *hint = SPI_getvalue(tup, desc, 4);
		MemoryContext old = MemoryContextSwitchTo(cxt);

		rejects = reject(rejects, batch->origin[pick[ord - 1]], MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]),
						 reason ? reason : "the row was refused", hint);
		MemoryContextSwitchTo(old);
	}
	SPI_freetuptable(SPI_tuptable);
	return rejects;
}

static List *
apply_orders(SourceSpec *spec, SourceBatch *batch, Datum profiles, const int *pick, int n, List *rejects, MemoryContext cxt)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, NUMERICARRAYOID,
		NUMERICARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID,
	TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTOID};
	Datum		args[15];

	args[0] = profiles;
	for (int f = 0; f < 13; f++)
		args[f + 1] = field_array(spec, batch, f, pick, n);
	args[14] = CStringGetTextDatum(spec->name);
	cdp_plan_generic(&plan, "SELECT ord, sqlstate, reason, hint FROM"
			 " cdp._apply_orders($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, false)", 15, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "cdp._apply_orders failed");
	return collect_rejects(rejects, batch, pick, cxt);
}

static List *
apply_lines(SourceSpec *spec, SourceBatch *batch, const int *pick, int n, List *rejects, MemoryContext cxt)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, TEXTARRAYOID, TEXTOID};
	Datum		args[7];

	for (int f = 0; f < 6; f++)
		args[f] = field_array(spec, batch, f, pick, n);
	args[6] = CStringGetTextDatum(spec->name);
	cdp_plan_generic(&plan, "SELECT ord, sqlstate, reason, hint FROM cdp._apply_order_lines($1, $2, $3, $4, $5, $6, $7)", 7, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "cdp._apply_order_lines failed");
	return collect_rejects(rejects, batch, pick, cxt);
}

static List *
apply_products(SourceSpec *spec, SourceBatch *batch, const int *pick, int n, List *rejects, MemoryContext cxt)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, NUMERICARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTOID};
	Datum		args[7];

	for (int f = 0; f < 6; f++)
		args[f] = field_array(spec, batch, f, pick, n);
	args[6] = CStringGetTextDatum(spec->name);
	cdp_plan_generic(&plan, "SELECT ord, sqlstate, reason, hint FROM cdp._apply_products($1, $2, $3, $4, $5, $6, $7)", 7, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "cdp._apply_products failed");
	return collect_rejects(rejects, batch, pick, cxt);
}

static char *
text_value(SourceSpec *spec, SourceBatch *batch, int field, int row)
{
	int			col = SOURCE_FIELD(spec, field);

	return batch->nulls[col][row] ? NULL : TextDatumGetCString(batch->values[col][row]);
}

/*
 * Events go the way of track(): the plan and the clock have their say.  What
 * they quarantine is kept in event_reject, what is wrong comes back.
 */
static List *
apply_events(SourceSpec *spec, SourceBatch *batch, const int *pick, int n, List *rejects, MemoryContext cxt)
{
	CdpEventItem *items = palloc0(sizeof(CdpEventItem) * n);
	CdpEventItem *odd = palloc0(sizeof(CdpEventItem) * n);
	int			nodd = 0;
	int			at = SOURCE_FIELD(spec, 1);

	for (int i = 0; i < n; i++)
	{
		CdpEventItem *item = &items[i];
		int			row = pick[i];

		item->who.identifiers = identifiers_of(spec, batch, row);
		item->who.source = spec->name;
		item->name = text_value(spec, batch, 0, row);
		item->message_id = text_value(spec, batch, 2, row);
		/* a row without message_id is known by its key */
		if (item->message_id == NULL || item->message_id[0] == '\0')
			item->message_id = source_key_text(spec, batch, row);
		item->channel = text_value(spec, batch, 3, row);
		item->properties = body_of(spec, batch, row);
		item->ord = row + 1;
		if (batch->nulls[at][row])
		{
			item->verdict = CDP_REJECT;
			item->who.sqlstate = ERRCODE_NULL_VALUE_NOT_ALLOWED;
			item->who.message = "the event has no time";
			item->who.hint = "Map \"occurred_at\" to a value that is never NULL.";
		}
		else
			item->who.occurred_at = DatumGetTimestampTz(batch->values[at][row]);
	}
	(void) cdp_track(items, n, false, false, true);
	for (int i = 0; i < n; i++)
	{
		if (items[i].verdict == CDP_QUARANTINE)
			odd[nodd++] = items[i];
		else if (items[i].verdict == CDP_REJECT)
		{
			MemoryContextSwitchTo(cxt);
			rejects = reject(rejects, batch->origin[pick[i]], items[i].who.sqlstate, items[i].who.message, items[i].who.hint);
		}
	}
	MemoryContextSwitchTo(cxt);
	if (nodd > 0)
		(void) cdp_track(odd, nodd, false, true, true);
	return rejects;
}

/*
 * Bring rows from..to-1 of the batch in; answers those that were refused, in
 * the caller's memory context.
 */
List *
source_apply(SourceSpec *spec, SourceBatch *batch, int from, int to)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext work = AllocSetContextCreate(cxt, "cdp source apply", ALLOCSET_DEFAULT_SIZES);
	List	   *rejects = NIL;
	int		   *pick = MemoryContextAlloc(work, sizeof(int) * Max(to - from, 1));
	int			n = 0;
	Datum		profiles = (Datum) 0;

	for (int row = from; row < to; row++)
	{
		bool		bad = false;

		for (int k = 0; k < spec->nkeys && !bad; k++)
			bad = batch->nulls[k][row] && !spec->keyless;
		if (bad)
			rejects = reject(rejects, batch->origin[row], ERRCODE_NULL_VALUE_NOT_ALLOWED, "the key of the row is NULL",
							 "Rows are followed by their key: name columns that are never NULL in the mapping's \"key\".");
		if (!bad)
			pick[n++] = row;
	}

	MemoryContextSwitchTo(work);
	if (spec->shape->identified && spec->role != SOURCE_EVENT && n > 0)
	{
		CdpSighting *sightings = palloc0(sizeof(CdpSighting) * n);
		int64	   *ids = palloc(sizeof(int64) * n);
		Datum	   *v = palloc(sizeof(Datum) * n);
		int			good = 0;

		for (int i = 0; i < n; i++)
		{
			sightings[i].identifiers = identifiers_of(spec, batch, pick[i]);
			if (spec->role == SOURCE_CUSTOMER)
				sightings[i].traits = body_of(spec, batch, pick[i]);
			sightings[i].source = spec->name;
			sightings[i].occurred_at = row_moment(spec, batch, pick[i]);
		}
		cdp_identify(sightings, n, false);
		MemoryContextSwitchTo(cxt);
		for (int i = 0; i < n; i++)
		{
			if (sightings[i].sqlstate != 0)
				rejects = reject(rejects, batch->origin[pick[i]], sightings[i].sqlstate, sightings[i].message, sightings[i].hint);
			else
			{
				ids[good] = sightings[i].profile_id;
				pick[good++] = pick[i];
			}
		}
		MemoryContextSwitchTo(work);
		n = good;
		for (int i = 0; i < n; i++)
			v[i] = Int64GetDatum(ids[i]);
		profiles = column_array(v, NULL, NULL, n, INT8OID);
	}
	if (n > 0)
	{
		switch (spec->role)
		{
			case SOURCE_CUSTOMER:
				break;
			case SOURCE_EVENT:
				rejects = apply_events(spec, batch, pick, n, rejects, cxt);
				break;
			case SOURCE_ORDER:
				rejects = apply_orders(spec, batch, profiles, pick, n, rejects, cxt);
				break;
			case SOURCE_ORDER_LINE:
				rejects = apply_lines(spec, batch, pick, n, rejects, cxt);
				break;
			case SOURCE_PRODUCT:
				rejects = apply_products(spec, batch, pick, n, rejects, cxt);
				break;
		}
	}
	MemoryContextSwitchTo(cxt);
	MemoryContextDelete(work);
	return rejects;
}

/*
 * The rows of the batch are gone from their source: cancel their orders.
 * Answers those whose order is not known (yet).
 */
List *
source_cancel(SourceSpec *spec, SourceBatch *batch)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTARRAYOID, TEXTARRAYOID, TEXTOID};
	Datum		args[3];
	Datum	   *v = palloc(sizeof(Datum) * batch->n);
	int		   *pick = palloc(sizeof(int) * batch->n);

	for (int i = 0; i < batch->n; i++)
	{
		v[i] = CStringGetTextDatum("cancelled");
		pick[i] = i;
	}
	args[0] = field_array(spec, batch, 0, NULL, batch->n);
	args[1] = column_array(v, NULL, NULL, batch->n, TEXTOID);
	args[2] = CStringGetTextDatum(spec->name);
	cdp_plan_generic(&plan, "SELECT ord, sqlstate, reason, hint FROM cdp._apply_orders(NULL, $1, NULL, $2, NULL, NULL,"
					 " NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, $3, false)", 3, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "cdp._apply_orders failed");
	return collect_rejects(NIL, batch, pick, CurrentMemoryContext);
}
