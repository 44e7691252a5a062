/*
 * event_sql.c
 *	  The SQL face of track and its like.
 *
 * Page: doc/event.md.  Tests: test/sql/event.sql.
 */
#include "event.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_track_sql);
PG_FUNCTION_INFO_V1(cdp_track_many);
PG_FUNCTION_INFO_V1(cdp_retry_reject);
PG_FUNCTION_INFO_V1(cdp_insert_events);

#define MAX_ITEMS	100000

static char *
text_arg(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/* cdp.track(identifiers, name, properties, occurred_at, message_id, source, channel) -> event_id */
Datum
cdp_track_sql(PG_FUNCTION_ARGS)
{
	CdpEventItem item;
	CdpVerb		verb;

	memset(&item, 0, sizeof(item));
	item.ord = 1;
	item.who.identifiers = PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0);
	item.name = text_arg(fcinfo, 1);
	item.properties = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	item.who.occurred_at = PG_ARGISNULL(3) ? cdp_now_value() : PG_GETARG_TIMESTAMPTZ(3);
	item.message_id = text_arg(fcinfo, 4);
	item.who.source = text_arg(fcinfo, 5);
	item.channel = text_arg(fcinfo, 6);

	cdp_begin_write(&verb, "track");
	(void) cdp_track(&item, 1, true, true, false);
	cdp_end(&verb);
	if (item.verdict != CDP_ACCEPT)
		PG_RETURN_NULL();
	PG_RETURN_INT64(item.event_id);
}

/* cdp.track_many(items jsonb, on_error text) -> number of new events */
Datum
cdp_track_many(PG_FUNCTION_ARGS)
{
	Jsonb	   *items;
	char	   *on_error = text_arg(fcinfo, 1);
	CdpEventItem *events;
	CdpVerb		verb;
	bool		raise = on_error == NULL || strcmp(on_error, "raise") == 0;
	JsonbIterator *it;
	JsonbValue	v;
	int64		written;
	int			n;

	if (!raise && strcmp(on_error, "reject") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("on_error must be 'raise' or 'reject'"),
				 errhint("'reject' keeps bad items in cdp.event_reject and takes the others.")));
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("items must not be NULL"),
				 errhint("Pass an array: [{\"identifiers\": {\"phone\": \"…\"}, \"name\": \"Product Viewed\"}].")));
	items = PG_GETARG_JSONB_P(0);
	if (!JB_ROOT_IS_ARRAY(items) || JB_ROOT_IS_SCALAR(items))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("items must be an array of objects"),
				 errhint("For example [{\"identifiers\": {\"phone\": \"…\"}, \"name\": \"Product Viewed\"}].")));
	n = JB_ROOT_COUNT(items);
	if (n > MAX_ITEMS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than %d items in one call", MAX_ITEMS),
				 errhint("Send them in parts.")));
	if (n == 0)
		PG_RETURN_INT64(0);

	cdp_begin_write(&verb, "track_many");
	events = palloc0(sizeof(CdpEventItem) * n);
	it = JsonbIteratorInit(&items->root);
	(void) JsonbIteratorNext(&it, &v, true);	/* the array itself */
	for (int i = 0; i < n; i++)
	{
		CdpEventItem *item = &events[i];

		(void) JsonbIteratorNext(&it, &v, true);
		item->ord = i + 1;
		if (v.type == jbvBinary)
			cdp_read_event(v.val.binary.data, item);
		else
		{
			item->verdict = CDP_REJECT;
			item->who.sqlstate = ERRCODE_INVALID_PARAMETER_VALUE;
			item->who.message = "an item must be an object";
			item->who.hint = "For example {\"identifiers\": {\"phone\": \"…\"}, \"name\": \"Product Viewed\"}.";
		}
		/* what cannot be read is kept as it came */
		if (!raise && item->verdict == CDP_REJECT)
			item->raw = cdp_jsonb_copy(&v);
	}
	written = cdp_track(events, n, raise, true, false);
	cdp_end(&verb);
	PG_RETURN_INT64(written);
}

/*
 * cdp._retry_reject(item, event_id, received_at, permanent) -> NULL when the item was
 * taken (or is known), else the reason why it still cannot be.
 */
Datum
cdp_retry_reject(PG_FUNCTION_ARGS)
{
	Jsonb	   *raw = PG_GETARG_JSONB_P(0);
	MemoryContext caller = CurrentMemoryContext;
	CdpEventItem item;
	CdpVerb		verb;
	char	   *reason = NULL;

	cdp_begin_write(&verb, "retry_rejects");
	memset(&item, 0, sizeof(item));
	item.ord = 1;
	item.event_id = PG_GETARG_INT64(1);
	item.received_at = PG_GETARG_TIMESTAMPTZ(2);
	if (JB_ROOT_IS_OBJECT(raw))
		cdp_read_event(&raw->root, &item);
	else
	{
		item.verdict = CDP_REJECT;
		item.who.message = "an item must be an object";
	}
	(void) cdp_track(&item, 1, false, false, PG_GETARG_BOOL(3));
	if (item.verdict != CDP_ACCEPT)
		reason = MemoryContextStrdup(caller, item.who.message);
	cdp_end(&verb);
	if (reason == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(reason));
}

/*
 * cdp._insert_events(profile_ids, names, occurred_ats, properties,
 * message_ids, sources, channels, permanent) -> number of new events; runs
 * as whoever calls it, which is a function of the tables' owner.
 */
Datum
cdp_insert_events(PG_FUNCTION_ARGS)
{
	static const Oid types[7] = {INT8OID, TEXTOID, TIMESTAMPTZOID, JSONBOID, TEXTOID, TEXTOID, TEXTOID};
	Datum	   *cols[7];
	bool	   *nulls[7];
	int			counts[7];
	CdpEventItem *items;
	CdpEventItem **list;
	Oid			sequence = cdp_relation("event_event_id_seq");
	int64		written;
	int			n;

	for (int c = 0; c < 7; c++)
	{
		bool		byval = types[c] == INT8OID || types[c] == TIMESTAMPTZOID;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(c), types[c], byval ? 8 : -1, byval,
						  byval ? TYPALIGN_DOUBLE : TYPALIGN_INT, &cols[c], &nulls[c], &counts[c]);
		if (counts[c] != counts[0])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the arrays of events are of different length"),
					 errhint("Element n of every array belongs to event n.")));
	}
	for (int c = 0; c < 3; c++)
	{
		for (int i = 0; i < counts[0]; i++)
		{
			if (nulls[c][i])
				ereport(ERROR,
						(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						 errmsg("profile, name and time of an event must not be NULL"),
						 errhint("Leave such events out.")));
		}
	}
	n = counts[0];
	if (n == 0)
		PG_RETURN_INT64(0);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	items = palloc0(sizeof(CdpEventItem) * n);
	list = palloc(sizeof(CdpEventItem *) * n);
	for (int i = 0; i < n; i++)
	{
		CdpEventItem *item = list[i] = &items[i];

		item->event_id = nextval_internal(sequence, false);
		item->received_at = cdp_now_value();
		item->who.profile_id = DatumGetInt64(cols[0][i]);
		item->name = TextDatumGetCString(cols[1][i]);
		item->who.occurred_at = DatumGetTimestampTz(cols[2][i]);
		item->properties = nulls[3][i] ? NULL : DatumGetJsonbP(cols[3][i]);
		item->message_id = nulls[4][i] ? NULL : TextDatumGetCString(cols[4][i]);
		item->who.source = nulls[5][i] ? NULL : TextDatumGetCString(cols[5][i]);
		item->channel = nulls[6][i] ? NULL : TextDatumGetCString(cols[6][i]);
	}
	written = cdp_write_events(list, n, PG_GETARG_BOOL(7));
	SPI_finish();
	PG_RETURN_INT64(written);
}
