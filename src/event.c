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
#include "rows.h"
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
		char	   *s = NULL;

		(void) JsonbIteratorNext(&it, &v, true);
		if (v.type == jbvNull)
			continue;
		if (v.type == jbvString)
			s = pnstrdup(v.val.string.val, v.val.string.len);
		if (cdp_key_is(&key, "identifiers"))
			item->who.identifiers = cdp_jsonb_copy(&v);
		else if (cdp_key_is(&key, "traits"))
			item->who.traits = cdp_jsonb_copy(&v);
		else if (cdp_key_is(&key, "properties"))
			item->properties = cdp_jsonb_copy(&v);
		else if (cdp_key_is(&key, "occurred_at"))
		{
			if (s == NULL || !cdp_parse_moment(s, &item->who.occurred_at))
			{
				reject_shape(item, "occurred_at is not a moment", "Write it as \"2026-03-01T09:00:00+08:00\".");
				return;
			}
		}
		else if (s != NULL && cdp_key_is(&key, "name"))
			item->name = s;
		else if (s != NULL && cdp_key_is(&key, "message_id"))
			item->message_id = s;
		else if (s != NULL && cdp_key_is(&key, "source"))
			item->who.source = s;
		else if (s != NULL && cdp_key_is(&key, "channel"))
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
		reject_shape(item, "occurred_at must be a finite time", "Leave it out for the present moment.");
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

static int
compare_keys(const void *x, const void *y)
{
	const CdpEventItem *a = *(CdpEventItem *const *) x;
	const CdpEventItem *b = *(CdpEventItem *const *) y;
	int			cmp = strcmp(a->who.source ? a->who.source : "", b->who.source ? b->who.source : "");

	if (cmp == 0)
		cmp = strcmp(a->message_id, b->message_id);
	/* of equal messages the first wins */
	return cmp != 0 ? cmp : (a < b ? -1 : a > b);
}

static bool
same_key(const CdpEventItem *a, const CdpEventItem *b)
{
	return strcmp(a->message_id, b->message_id) == 0 &&
		strcmp(a->who.source ? a->who.source : "", b->who.source ? b->who.source : "") == 0;
}

/*
 * Write the keys of those that have one, sorted, so that two batches never
 * wait for each other in a circle; is_new is set for those whose key was not
 * known.  A key older than the window that pruning has not reached yet is
 * taken over.
 */
static void
write_keys(CdpEventItem **keyed, int n, bool permanent)
{
	static SPIPlanPtr plan = NULL;
	static const Oid plan_types[2] = {BOOLOID, TIMESTAMPTZOID};
	static const char *const names[4] = {"source", "message_id", "event_id", "received_at"};
	static const Oid types[4] = {TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID};
	static const bool nulls[4] = {false, false, false, false};
	CdpRows    *rows = cdp_rows_open("item_key", 4, names, types);
	Datum		args[2];
	int			next = 0;

	qsort(keyed, n, sizeof(CdpEventItem *), compare_keys);
	for (int i = 0; i < n; i++)
	{
		Datum		values[4];

		if (i > 0 && same_key(keyed[i - 1], keyed[i]))
			continue;
		cdp_rows_start(rows);
		values[0] = CStringGetTextDatum(keyed[i]->who.source ? keyed[i]->who.source : "");
		values[1] = CStringGetTextDatum(keyed[i]->message_id);
		values[2] = Int64GetDatum(keyed[i]->event_id);
		values[3] = TimestampTzGetDatum(keyed[i]->received_at);
		cdp_rows_put(rows, values, nulls);
	}
	cdp_rows_publish(rows);
	args[0] = BoolGetDatum(permanent);
	args[1] = TimestampTzGetDatum(cdp_now_value() - (int64) cdp_dedupe_window * USECS_PER_SEC);
	cdp_plan_generic(&plan,
					 "INSERT INTO cdp.event_key AS k (source, message_id, event_id, received_at, permanent)"
					 " SELECT source, message_id, event_id, received_at, $1 FROM item_key"
					 " ON CONFLICT (source, message_id) DO UPDATE SET event_id = excluded.event_id,"
					 "  received_at = excluded.received_at, permanent = excluded.permanent"
					 "  WHERE NOT k.permanent AND k.received_at < $2"
					 " RETURNING event_id",
					 2, plan_types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "could not write the keys of events");
	cdp_rows_close(rows);
	/* the answer comes in the order of the rows */
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		int64		id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		while (next < n && keyed[next]->event_id != id)
			next++;
		if (next == n)
			elog(ERROR, "an event key came back that was not written");
		keyed[next++]->is_new = true;
	}
	SPI_freetuptable(SPI_tuptable);
}

int64
cdp_write_events(CdpEventItem **items, int n, bool permanent)
{
	static SPIPlanPtr plan = NULL;
	static const char *const names[9] = {"event_id", "profile_id", "name", "occurred_at", "received_at",
		"properties", "message_id", "source", "channel"};
	static const Oid types[9] = {INT8OID, INT8OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		JSONBOID, TEXTOID, TEXTOID, TEXTOID};
	CdpEventItem **keyed;
	CdpRows    *rows;
	int			nkeyed = 0;
	int64		written;

	if (n == 1)
		return write_one(items[0], permanent);

	keyed = palloc(sizeof(CdpEventItem *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		items[i]->is_new = items[i]->message_id == NULL;
		if (!items[i]->is_new)
			keyed[nkeyed++] = items[i];
	}
	if (nkeyed > 0)
		write_keys(keyed, nkeyed, permanent);

	rows = cdp_rows_open("item", 9, names, types);
	for (int i = 0; i < n; i++)
	{
		CdpEventItem *item = items[i];
		Datum		values[9];
		bool		nulls[9];

		if (!item->is_new)
			continue;
		memset(nulls, 0, sizeof(nulls));
		cdp_rows_start(rows);
		values[0] = Int64GetDatum(item->event_id);
		values[1] = Int64GetDatum(item->who.profile_id);
		values[2] = CStringGetTextDatum(item->name);
		values[3] = TimestampTzGetDatum(item->who.occurred_at);
		values[4] = TimestampTzGetDatum(item->received_at);
		values[5] = item->properties ? JsonbPGetDatum(item->properties) : (Datum) 0;
		nulls[5] = item->properties == NULL;
		values[6] = text_or_null(item->message_id, &nulls[6]);
		values[7] = text_or_null(item->who.source, &nulls[7]);
		values[8] = text_or_null(item->channel, &nulls[8]);
		cdp_rows_put(rows, values, nulls);
	}
	cdp_rows_publish(rows);
	cdp_plan_generic(&plan,
					 "INSERT INTO cdp.event (event_id, profile_id, name, occurred_at, received_at,"
					 "  properties, message_id, source, channel)"
					 " SELECT event_id, profile_id, name, occurred_at, received_at,"
					 "  coalesce(properties, '{}'), message_id, source, channel FROM item",
					 0, NULL);
	if (SPI_execute_plan(plan, NULL, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write events");
	written = SPI_processed;
	cdp_rows_close(rows);
	return written;
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
	return m > 0 ? cdp_write_events(good, m, permanent) : 0;
}
