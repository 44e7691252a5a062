/*
 * event.c
 *	  What happened, to whom, when: validated, identified, written once.
 *
 * One engine for one event and for a hundred thousand:
 *
 *	  validate	shape and sizes, the clock, the tracking plan
 *	  identify	everybody in one batch (identity.c)
 *	  write		the key (source, message_id), then the row; an event whose
 *				key is known already is not written again
 *
 * The table of events is partitioned by occurred_at, so no unique index of
 * its own can say whether a message is known: cdp.event_key does, whatever
 * the two times are.
 *
 * SQL: sql/event.sql, event_sql.c.  Tests: test/sql/event.sql.  Page: doc/event.md.
 */
#include "event.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static void
reject(CdpEventItem *item, int sqlstate, const char *message, const char *hint)
{
	item->verdict = CDP_REJECT;
	item->who.sqlstate = sqlstate;
	item->who.message = message;
	item->who.hint = hint;
}

static void
reject_shape(CdpEventItem *item, const char *message, const char *hint)
{
	reject(item, ERRCODE_INVALID_PARAMETER_VALUE, message, hint);
}

static bool
too_long(CdpEventItem *item, const char *what, const char *value, int limit)
{
	if (value == NULL || strlen(value) <= (size_t) limit)
		return false;
	reject(item, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
		   psprintf("%s is longer than %d bytes", what, limit), "Send a shorter one.");
	return true;
}

void
cdp_read_event(JsonbContainer *object, CdpEventItem *item)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbValue	key,
				v;

	/* without a time of its own it happened when it was received */
	item->who.occurred_at = item->received_at != 0 ? item->received_at : cdp_now_value();
	if (JsonbIteratorNext(&it, &key, true) != WJB_BEGIN_OBJECT)
	{
		reject_shape(item, "an item must be an object",
					 "For example {\"identifiers\": {\"phone\": \"…\"}, \"name\": \"Product Viewed\"}.");
		return;
	}
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		char	   *name = pnstrdup(key.val.string.val, key.val.string.len);
		char	   *s = NULL;

		(void) JsonbIteratorNext(&it, &v, true);
		if (v.type == jbvNull)
			continue;
		if (v.type == jbvString)
			s = pnstrdup(v.val.string.val, v.val.string.len);
		if (strcmp(name, "identifiers") == 0)
			item->who.identifiers = JsonbValueToJsonb(&v);
		else if (strcmp(name, "traits") == 0)
			item->who.traits = JsonbValueToJsonb(&v);
		else if (strcmp(name, "properties") == 0)
			item->properties = JsonbValueToJsonb(&v);
		else if (strcmp(name, "occurred_at") == 0)
		{
			if (s == NULL || !cdp_parse_moment(s, &item->who.occurred_at))
			{
				reject_shape(item, "occurred_at is not a moment", "Write it as \"2026-03-01T09:00:00+08:00\".");
				return;
			}
		}
		else if (s != NULL && strcmp(name, "name") == 0)
			item->name = s;
		else if (s != NULL && strcmp(name, "message_id") == 0)
			item->message_id = s;
		else if (s != NULL && strcmp(name, "source") == 0)
			item->who.source = s;
		else if (s != NULL && strcmp(name, "channel") == 0)
			item->channel = s;
		else
		{
			reject_shape(item, "an item has a key that is unknown or not a string",
						 "The keys are identifiers, name, properties, occurred_at, message_id, source, channel and traits.");
			return;
		}
	}
}

static void
validate(CdpEventItem *item, TimestampTz latest)
{
	if (item->message_id != NULL && item->message_id[0] == '\0')
		item->message_id = NULL;
	if (item->who.source != NULL && item->who.source[0] == '\0')
		item->who.source = NULL;
	if (item->name == NULL)
		reject(item, ERRCODE_NULL_VALUE_NOT_ALLOWED, "the name of an event must not be NULL",
			   "For example 'Product Viewed'.");
	else if (strspn(item->name, " \t\r\n") == strlen(item->name))
		reject_shape(item, "the name of an event must not be blank", "For example 'Product Viewed'.");
	else if (too_long(item, "the name of the event", item->name, CDP_MAX_NAME_BYTES) ||
			 too_long(item, "message_id", item->message_id, CDP_MAX_MESSAGE_ID_BYTES) ||
			 too_long(item, "source", item->who.source, CDP_MAX_NAME_BYTES) ||
			 too_long(item, "channel", item->channel, CDP_MAX_NAME_BYTES))
		return;
	else if (item->properties != NULL && !JB_ROOT_IS_OBJECT(item->properties))
		reject_shape(item, "properties must be an object", "For example {\"product_id\": \"…\", \"price\": 9.9}.");
	else if (item->properties != NULL && VARSIZE(item->properties) > CDP_MAX_PROPERTIES_BYTES)
		reject(item, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "properties are larger than 64 kB",
			   "Keep documents in a table of your own and send their id.");
	else if (TIMESTAMP_NOT_FINITE(item->who.occurred_at))
		reject_shape(item, "occurred_at must be a finite time", "Leave it out for now.");
	else if (item->who.occurred_at > latest)
	{
		item->verdict = CDP_QUARANTINE;
		item->who.sqlstate = ERRCODE_DATETIME_VALUE_OUT_OF_RANGE;
		item->who.message = psprintf("event \"%s\" lies in the future by more than cdp.max_future", item->name);
		item->who.hint = "Mend the sender's clock; cdp.retry_rejects() takes the event once its time has come.";
	}
	else
		cdp_check_plan(item);
}

/* ------------------------------------------------------------------ write */

static Datum
text_or_null(const char *s, bool *isnull)
{
	*isnull = s == NULL;
	return s ? CStringGetTextDatum(s) : (Datum) 0;
}

/* The usual single event: no arrays, plans that never change. */
static int64
write_one(CdpEventItem *item, bool permanent)
{
	static SPIPlanPtr key_plan = NULL;
	static SPIPlanPtr known_plan = NULL;
	static SPIPlanPtr event_plan = NULL;
	static const Oid key_types[6] = {TEXTOID, TEXTOID, INT8OID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	static const Oid event_types[9] = {INT8OID, INT8OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		JSONBOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		args[9];
	bool		isnull[9];
	char		nulls[9];

	if (item->message_id != NULL)
	{
		args[0] = CStringGetTextDatum(item->who.source ? item->who.source : "");
		args[1] = CStringGetTextDatum(item->message_id);
		args[2] = Int64GetDatum(item->event_id);
		args[3] = BoolGetDatum(permanent);
		args[4] = TimestampTzGetDatum(item->received_at);
		args[5] = TimestampTzGetDatum(cdp_now_value() - (int64) cdp_dedupe_window * USECS_PER_SEC);
		cdp_plan_generic(&key_plan,
						 "INSERT INTO cdp.event_key AS k (source, message_id, event_id, permanent, received_at)"
						 " VALUES ($1, $2, $3, $4, $5)"
						 " ON CONFLICT (source, message_id) DO UPDATE SET event_id = excluded.event_id,"
						 "  received_at = excluded.received_at, permanent = excluded.permanent"
						 "  WHERE NOT k.permanent AND k.received_at < $6",
						 6, key_types);
		if (SPI_execute_plan(key_plan, args, NULL, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "could not write the key of an event");
		if (SPI_processed == 0)
		{
			bool		null;

			cdp_plan_generic(&known_plan,
							 "SELECT event_id FROM cdp.event_key WHERE source = $1 AND message_id = $2",
							 2, key_types);
			if (SPI_execute_plan(known_plan, args, NULL, false, 1) != SPI_OK_SELECT)
				elog(ERROR, "could not read the key of an event");
			if (SPI_processed == 1)
				item->event_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
			return 0;
		}
	}
	memset(isnull, 0, sizeof(isnull));
	args[0] = Int64GetDatum(item->event_id);
	args[1] = Int64GetDatum(item->who.profile_id);
	args[2] = CStringGetTextDatum(item->name);
	args[3] = TimestampTzGetDatum(item->who.occurred_at);
	args[4] = TimestampTzGetDatum(item->received_at);
	args[5] = item->properties ? JsonbPGetDatum(item->properties) : (Datum) 0;
	isnull[5] = item->properties == NULL;
	args[6] = text_or_null(item->message_id, &isnull[6]);
	args[7] = text_or_null(item->who.source, &isnull[7]);
	args[8] = text_or_null(item->channel, &isnull[8]);
	for (int i = 0; i < 9; i++)
		nulls[i] = isnull[i] ? 'n' : ' ';
	cdp_plan_generic(&event_plan,
					 "INSERT INTO cdp.event (event_id, profile_id, name, occurred_at, received_at,"
					 "  properties, message_id, source, channel)"
					 " VALUES ($1, $2, $3, $4, $5, coalesce($6, '{}'), $7, $8, $9)",
					 9, event_types);
	if (SPI_execute_plan(event_plan, args, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write an event");
	item->is_new = true;
	return 1;
}

static int64
write_many(CdpEventItem **items, int n, bool permanent)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[10] = {INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID,
		JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLOID};
	static const Oid elem[9] = {INT8OID, INT8OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		JSONBOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		args[10];
	Datum	   *cols[9];
	bool	   *nulls[9];
	int			dims[1];
	int			lbs[1] = {1};
	bool		null;

	for (int c = 0; c < 9; c++)
	{
		cols[c] = palloc(sizeof(Datum) * n);
		nulls[c] = palloc0(sizeof(bool) * n);
	}
	for (int i = 0; i < n; i++)
	{
		CdpEventItem *item = items[i];

		cols[0][i] = Int64GetDatum(item->event_id);
		cols[1][i] = Int64GetDatum(item->who.profile_id);
		cols[2][i] = CStringGetTextDatum(item->name);
		cols[3][i] = TimestampTzGetDatum(item->who.occurred_at);
		cols[4][i] = TimestampTzGetDatum(item->received_at);
		cols[5][i] = item->properties ? JsonbPGetDatum(item->properties) : (Datum) 0;
		nulls[5][i] = item->properties == NULL;
		cols[6][i] = text_or_null(item->message_id, &nulls[6][i]);
		cols[7][i] = text_or_null(item->who.source, &nulls[7][i]);
		cols[8][i] = text_or_null(item->channel, &nulls[8][i]);
	}
	dims[0] = n;
	for (int c = 0; c < 9; c++)
	{
		bool		byval = elem[c] == INT8OID || elem[c] == TIMESTAMPTZOID;

		args[c] = PointerGetDatum(construct_md_array(cols[c], nulls[c], 1, dims, lbs, elem[c],
													 byval ? 8 : -1, byval, byval ? TYPALIGN_DOUBLE : TYPALIGN_INT));
	}
	args[9] = BoolGetDatum(permanent);
	cdp_plan(&plan, "SELECT cdp._write_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", 10, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not write events");
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
}

/* What was not taken, with its number and the reason. */
static void
write_reject(CdpEventItem *item, bool permanent)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[16] = {INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID, JSONBOID,
		JSONBOID, JSONBOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, BOOLOID};
	Datum		args[16];
	bool		isnull[16];
	char		nulls[16];

	memset(isnull, 0, sizeof(isnull));
	args[0] = Int32GetDatum(item->ord);
	args[1] = text_or_null(item->name && strlen(item->name) <= CDP_MAX_NAME_BYTES ? item->name : NULL, &isnull[1]);
	args[2] = CStringGetTextDatum(item->verdict == CDP_QUARANTINE ? "quarantined" : "rejected");
	args[3] = CStringGetTextDatum(unpack_sql_state(item->who.sqlstate));
	args[4] = CStringGetTextDatum(item->who.message);
	args[5] = Int64GetDatum(item->event_id);
	args[6] = TimestampTzGetDatum(item->received_at);
	args[7] = item->raw ? JsonbPGetDatum(item->raw) : (Datum) 0;
	isnull[7] = item->raw == NULL;
	args[8] = item->who.identifiers ? JsonbPGetDatum(item->who.identifiers) : (Datum) 0;
	isnull[8] = item->who.identifiers == NULL;
	args[9] = item->properties ? JsonbPGetDatum(item->properties) : (Datum) 0;
	isnull[9] = item->properties == NULL;
	args[10] = TimestampTzGetDatum(item->who.occurred_at);
	args[11] = text_or_null(item->message_id, &isnull[11]);
	args[12] = text_or_null(item->who.source, &isnull[12]);
	args[13] = text_or_null(item->channel, &isnull[13]);
	args[14] = item->who.traits ? JsonbPGetDatum(item->who.traits) : (Datum) 0;
	isnull[14] = item->who.traits == NULL;
	args[15] = BoolGetDatum(permanent);
	for (int i = 0; i < 16; i++)
		nulls[i] = isnull[i] ? 'n' : ' ';
	cdp_plan_generic(&plan,
					 "INSERT INTO cdp.event_reject (ord, name, status, sqlstate, reason, event_id, received_at, permanent, item)"
					 " VALUES ($1, $2, $3, $4, $5, $6, $7, $16, coalesce($8,"
					 " (SELECT jsonb_object_agg(key, value) FROM jsonb_each(jsonb_build_object("
					 "   'identifiers', $9, 'name', $2, 'properties', $10, 'occurred_at', $11, 'message_id', $12,"
					 "   'source', $13, 'channel', $14, 'traits', $15)) WHERE value <> 'null')))",
					 16, types);
	if (SPI_execute_plan(plan, args, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not keep a rejected event");
}

static void
raise_item(CdpEventItem *item, int n)
{
	ereport(ERROR,
			(errcode(item->who.sqlstate),
			 errmsg("%s", item->who.message),
			 n > 1 ? errdetail("Item %d of %d.", item->ord, n) : 0,
			 errhint("%s", item->who.hint)));
}

int64
cdp_track(CdpEventItem *items, int n, bool raise, bool keep, bool permanent)
{
	TimestampTz now = cdp_now_value();
	TimestampTz latest = now + (int64) cdp_max_future * USECS_PER_SEC;
	CdpEventItem **good = palloc(sizeof(CdpEventItem *) * Max(n, 1));
	CdpSighting *sightings = palloc(sizeof(CdpSighting) * Max(n, 1));
	Oid			sequence = cdp_relation("event_event_id_seq");
	int64		written = 0;
	int			warnings = 0;
	int			ngood = 0;
	int			m = 0;

	for (int i = 0; i < n; i++)
	{
		CdpEventItem *item = &items[i];

		CHECK_FOR_INTERRUPTS();
		if (item->verdict == CDP_ACCEPT)
			validate(item, latest);
		if (item->verdict == CDP_REJECT && raise)
			raise_item(item, n);
		if (item->verdict == CDP_ACCEPT)
		{
			sightings[ngood] = item->who;
			good[ngood++] = item;
		}
	}
	if (ngood > 0)
		cdp_identify(sightings, ngood, false);
	for (int i = 0; i < ngood; i++)
	{
		CdpEventItem *item = good[i];

		item->who = sightings[i];
		if (item->who.sqlstate != 0)
		{
			item->verdict = CDP_REJECT;
			if (raise)
				raise_item(item, n);
			continue;
		}
		if (item->warning != NULL && warnings++ == 0)
			ereport(WARNING,
					(errcode(ERRCODE_CHECK_VIOLATION),
					 errmsg("%s", item->warning),
					 errhint("The tracking plan is table cdp.event_schema.")));
		good[m++] = item;
	}
	if (warnings > 1)
		ereport(WARNING,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("%d more events are not as the tracking plan wants them", warnings - 1)));
	for (int i = 0; i < n; i++)
	{
		CdpEventItem *item = &items[i];

		if (item->received_at == 0)
			item->received_at = now;
		if (item->event_id == 0)
			item->event_id = nextval_internal(sequence, false);
		if (item->verdict == CDP_ACCEPT)
			continue;
		if (keep)
			write_reject(item, permanent);
		if (item->verdict == CDP_QUARANTINE && raise)
			ereport(WARNING,
					(errcode(item->who.sqlstate),
					 errmsg("%s; it was kept in cdp.event_reject", item->who.message),
					 n > 1 ? errdetail("Item %d of %d.", item->ord, n) : 0,
					 errhint("%s", item->who.hint)));
	}
	if (m == 1)
		written = write_one(good[0], permanent);
	else if (m > 1)
		written = write_many(good, m, permanent);
	return written;
}
