/*
 * identity_sql.c
 *	  The SQL face of identify and resolve.
 *
 * Page: doc/identity.md.  Tests: test/sql/identity.sql.
 */
#include "identity_batch.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(cdp_identify_sql);
PG_FUNCTION_INFO_V1(cdp_identify_many);
PG_FUNCTION_INFO_V1(cdp_identify_rows);
PG_FUNCTION_INFO_V1(cdp_resolve);
PG_FUNCTION_INFO_V1(cdp_normalize_sql);

/* a source is a key beside others: as long as an index can hold, like that of an event */
#define MAX_SOURCE_BYTES	200
#define SOURCE_TOO_LONG		"source is longer than 200 bytes"

/* cdp.identify(identifiers, traits, source, occurred_at) -> customer_id */
Datum
cdp_identify_sql(PG_FUNCTION_ARGS)
{
	CdpSighting item;
	CdpVerb		verb;

	memset(&item, 0, sizeof(item));
	item.identifiers = PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0);
	item.traits = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	item.source = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	item.occurred_at = PG_ARGISNULL(3) ? cdp_now_value() : PG_GETARG_TIMESTAMPTZ(3);
	if (item.source != NULL && strlen(item.source) > MAX_SOURCE_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg(SOURCE_TOO_LONG), errhint("Send a shorter one.")));

	cdp_check_write("identify");
	if (!cdp_identify_known(&item))
	{
		cdp_begin_unchecked(&verb);
		cdp_identify_batch(&item, 1, true);
		cdp_end(&verb);
	}
	PG_RETURN_INT64(item.customer_id);
}

static void
bad_item(CdpSighting *item, const char *message, const char *hint)
{
	item->sqlstate = ERRCODE_INVALID_PARAMETER_VALUE;
	item->message = message;
	item->hint = hint;
}

/* {"identifiers": {…}, "traits": {…}, "source": "…", "occurred_at": "…"} */
static void
read_item(JsonbContainer *object, CdpSighting *item)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbValue	key,
				v;

	item->occurred_at = cdp_now_value();
	if (JsonbIteratorNext(&it, &key, true) != WJB_BEGIN_OBJECT)
	{
		bad_item(item, "an item must be an object", "For example {\"identifiers\": {\"phone\": \"…\"}}.");
		return;
	}
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{

		(void) JsonbIteratorNext(&it, &v, true);
		if (v.type == jbvNull)
			continue;
		if (cdp_key_is(&key, "identifiers"))
			item->identifiers = cdp_jsonb_copy(&v);
		else if (cdp_key_is(&key, "traits"))
			item->traits = cdp_jsonb_copy(&v);
		else if (cdp_key_is(&key, "source") && v.type == jbvString)
		{
			if (v.val.string.len > MAX_SOURCE_BYTES)
			{
				bad_item(item, SOURCE_TOO_LONG, "Send a shorter one.");
				item->sqlstate = ERRCODE_PROGRAM_LIMIT_EXCEEDED;
				return;
			}
			item->source = pnstrdup(v.val.string.val, v.val.string.len);
		}
		else if (cdp_key_is(&key, "occurred_at"))
		{
			if (v.type != jbvString ||
				!cdp_parse_moment(pnstrdup(v.val.string.val, v.val.string.len), &item->occurred_at))
			{
				bad_item(item, "occurred_at is not a moment", "Write it as \"2026-03-01T09:00:00+08:00\".");
				return;
			}
		}
		else
		{
			bad_item(item, "an item has a key that is unknown or not a string",
					 "The keys are identifiers, traits, source and occurred_at.");
			return;
		}
	}
}

/*
 * cdp.identify_many(items jsonb, on_error text) -> setof (ord, profile_id,
 * customer_id); with 'skip' a bad item has NULL ids.
 */
Datum
cdp_identify_many(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	Jsonb	   *items;
	char	   *on_error;
	CdpSighting *sightings;
	CdpVerb		verb;
	bool		raise;
	int			n;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("items must not be NULL"),
				 errhint("Pass an array: [{\"identifiers\": {\"phone\": \"…\"}}].")));
	items = PG_GETARG_JSONB_P(0);
	on_error = PG_ARGISNULL(1) ? "raise" : text_to_cstring(PG_GETARG_TEXT_PP(1));
	raise = strcmp(on_error, "raise") == 0;
	if (!raise && strcmp(on_error, "skip") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("on_error must be 'raise' or 'skip'"),
				 errhint("'skip' answers NULL ids for bad items and takes the others.")));
	if (!JB_ROOT_IS_ARRAY(items) || JB_ROOT_IS_SCALAR(items))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("items must be an array of objects"),
				 errhint("For example [{\"identifiers\": {\"phone\": \"…\"}, \"traits\": {\"name\": \"…\"}}].")));
	n = JB_ROOT_COUNT(items);
	if (n > 100000)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than 100000 items in one call"),
				 errhint("Send them in parts.")));
	InitMaterializedSRF(fcinfo, 0);

	cdp_begin_write(&verb, "identify_many");
	sightings = palloc0(sizeof(CdpSighting) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		JsonbValue *v = getIthJsonbValueFromContainer(&items->root, i);

		sightings[i].numbered = true;
		if (v->type != jbvBinary)
			bad_item(&sightings[i], "an item must be an object", "For example {\"identifiers\": {\"phone\": \"…\"}}.");
		else
			read_item(v->val.binary.data, &sightings[i]);
	}
	cdp_identify(sightings, n, raise);
	for (int i = 0; i < n; i++)
	{
		Datum		values[3];
		bool		nulls[3] = {false, false, false};
		MemoryContext old = MemoryContextSwitchTo(caller);

		values[0] = Int32GetDatum(i + 1);
		values[1] = Int64GetDatum(sightings[i].profile_id);
		values[2] = Int64GetDatum(sightings[i].customer_id);
		nulls[1] = nulls[2] = sightings[i].sqlstate != 0;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		MemoryContextSwitchTo(old);
	}
	cdp_end(&verb);
	return (Datum) 0;
}

/*
 * cdp._identify_rows(identifiers jsonb[], traits jsonb[], source text,
 * occurred_ats timestamptz[]) -> one row per element, bad ones with their
 * reason; for SQL that works on sets.
 */
Datum
cdp_identify_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	Datum	   *identifiers,
			   *traits = NULL,
			   *times = NULL;
	bool	   *inulls,
			   *tnulls = NULL,
			   *anulls = NULL;
	int			n,
				ntraits = 0,
				ntimes = 0;
	char	   *source;
	CdpSighting *sightings;
	CdpVerb		verb;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	source = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), JSONBOID, -1, false, TYPALIGN_INT, &identifiers, &inulls, &n);
	if (!PG_ARGISNULL(1))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), JSONBOID, -1, false, TYPALIGN_INT, &traits, &tnulls, &ntraits);
	if (!PG_ARGISNULL(3))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(3), TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE, &times, &anulls, &ntimes);

	cdp_begin_write(&verb, "identify");
	sightings = palloc0(sizeof(CdpSighting) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		CdpSighting *item = &sightings[i];

		item->identifiers = inulls[i] ? NULL : DatumGetJsonbP(identifiers[i]);
		item->traits = i < ntraits && !tnulls[i] ? DatumGetJsonbP(traits[i]) : NULL;
		item->source = source;
		item->occurred_at = i < ntimes && !anulls[i] ? DatumGetTimestampTz(times[i]) : cdp_now_value();
	}
	cdp_identify(sightings, n, false);
	for (int i = 0; i < n; i++)
	{
		CdpSighting *item = &sightings[i];
		Datum		values[6];
		bool		nulls[6] = {false, false, false, true, true, true};
		MemoryContext old = MemoryContextSwitchTo(caller);

		memset(values, 0, sizeof(values));
		values[0] = Int32GetDatum(i + 1);
		if (item->sqlstate == 0)
		{
			values[1] = Int64GetDatum(item->profile_id);
			values[2] = Int64GetDatum(item->customer_id);
		}
		else
		{
			nulls[1] = nulls[2] = true;
			nulls[3] = nulls[4] = nulls[5] = false;
			values[3] = CStringGetTextDatum(unpack_sql_state(item->sqlstate));
			values[4] = CStringGetTextDatum(item->message);
			values[5] = CStringGetTextDatum(item->hint);
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		MemoryContextSwitchTo(old);
	}
	cdp_end(&verb);
	return (Datum) 0;
}

/* cdp.resolve(kind, value) -> customer_id, NULL when nobody has it */
Datum
cdp_resolve(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {TEXTOID, TEXTOID};
	text	   *kindname = PG_GETARG_TEXT_PP(0);
	text	   *raw = PG_GETARG_TEXT_PP(1);
	const CdpKind *kind;
	char	   *value;
	CdpVerb		verb;
	Datum		args[2];
	bool		isnull = true;
	int64		result = 0;

	cdp_begin_read(&verb);
	kind = cdp_find_kind(VARDATA_ANY(kindname), VARSIZE_ANY_EXHDR(kindname));
	if (kind == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s", cdp_unknown_kind(VARDATA_ANY(kindname), VARSIZE_ANY_EXHDR(kindname))),
				 errhint("The kinds are %s.", cdp_list_kinds())));
	value = cdp_normalize_value(kind, VARDATA_ANY(raw), VARSIZE_ANY_EXHDR(raw));
	if (value != NULL)
	{
		args[0] = PointerGetDatum(kindname);
		args[1] = CStringGetTextDatum(value);
		cdp_plan_generic(&plan,
						 "SELECT coalesce(a.customer_id, i.profile_id)"
						 " FROM cdp.identifier i LEFT JOIN cdp.profile_alias a ON a.profile_id = i.profile_id"
						 " WHERE i.kind = $1 AND i.value = $2 AND i.valid_to IS NULL",
						 2, types);
		if (SPI_execute_plan(plan, args, NULL, true, 1) != SPI_OK_SELECT)
			elog(ERROR, "could not look up an identifier");
		if (SPI_processed > 0)
			result = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	cdp_end(&verb);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_INT64(result);
}

/* cdp._normalize(kind, value) -> text, NULL when there is no comparable form */
Datum
cdp_normalize_sql(PG_FUNCTION_ARGS)
{
	text	   *kindname = PG_GETARG_TEXT_PP(0);
	text	   *raw = PG_GETARG_TEXT_PP(1);
	MemoryContext caller = CurrentMemoryContext;
	const CdpKind *kind;
	char	   *value = NULL;
	CdpVerb		verb;

	cdp_begin_read(&verb);
	kind = cdp_find_kind(VARDATA_ANY(kindname), VARSIZE_ANY_EXHDR(kindname));
	if (kind != NULL)
		value = cdp_normalize_value(kind, VARDATA_ANY(raw), VARSIZE_ANY_EXHDR(raw));
	if (value != NULL)
		value = MemoryContextStrdup(caller, value);
	cdp_end(&verb);
	if (value == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(value));
}
