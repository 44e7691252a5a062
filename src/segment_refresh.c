/*
 * segment_refresh.c
 *	  Members of a segment made what its definition says.
 *
 *		lock the row ──> run the definition, one snapshot for it and for who is
 *		who ──> difference ──> history, events, snapshot, members
 *
 * All in one transaction, so each change of membership is one event whatever
 * is killed when, and in one subtransaction of it, so that a definition that
 * fails leaves the segment as it was and its error is kept.  Two refreshes of
 * one segment wait for each other at its row; the second finds nothing to do.
 *
 * SQL: sql/segment.sql.  Tests: test/sql/segment.sql,
 * test/specs/segment_*.spec, test/t/031_segment_kill_refresh.pl.
 * Page: doc/segment.md.
 */
#include "segment.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "event.h"
#include "funcapi.h"
#include "identity_step.h"
#include "miscadmin.h"
#include "probe.h"
#include "rows.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(cdp_refresh_segment);
PG_FUNCTION_INFO_V1(cdp_restore_segment);

#define EVENTS_AT_ONCE	10000

Oid
cdp_audience_type(void)
{
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("audience"),
						   ObjectIdGetDatum(get_namespace_oid("cdp", false)));
}

static char *
text_column(int n)
{
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, n);
}

static Datum
column(int n, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, n, isnull);
}

bool
cdp_segment_lock(const char *name, Segment *s)
{
	Oid			types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(name)};
	bool		isnull;
	Datum		d;

	if (SPI_execute_with_args("SELECT definition, version, owner, search_path, holdout_percent, coalesce(holdout_salt, name), snapshots_kept,"
							  " members, refreshed_at, refreshed_version, kind <> 'static' AND refresh_every IS NOT NULL AND (refreshed_at IS NULL"
							  "  OR refreshed_version IS DISTINCT FROM version OR cdp.now() < refreshed_at OR cdp.now() >= refreshed_at + refresh_every)"
							  " FROM cdp.segment WHERE name = $1 FOR NO KEY UPDATE", 1, types, args, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.segment");
	if (SPI_processed == 0)
		return false;
	memset(s, 0, sizeof(*s));
	s->name = pstrdup(name);
	s->definition.text = text_column(1);
	s->definition.owner = text_column(3);
	s->definition.search_path = text_column(4);
	s->definition.what = psprintf("segment \"%s\"", name);
	s->definition.columns = 1;
	s->version = DatumGetInt32(column(2, &isnull));
	s->holdout_percent = DatumGetInt32(column(5, &isnull));
	s->holdout_salt = text_column(6);
	s->snapshots_kept = DatumGetInt32(column(7, &isnull));
	d = column(8, &isnull);
	s->members = isnull ? NULL : (CdpAudience *) PG_DETOAST_DATUM_COPY(d);
	d = column(9, &isnull);
	s->refreshed_at = isnull ? 0 : DatumGetTimestampTz(d);
	d = column(10, &isnull);
	s->refreshed_version = isnull ? 0 : DatumGetInt32(d);
	s->due = DatumGetBool(column(11, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return true;
}

/* ------------------------------------------------------------------ events */

static Jsonb *
properties_of(const Segment *s, int64 refresh_id, bool holdout, const char *reason)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"segment\": ");
	escape_json(&json, s->name);
	appendStringInfo(&json, ", \"version\": %d, \"refresh_id\": " INT64_FORMAT ", \"initial\": %s, \"holdout\": %s, \"reason\": \"%s\"}",
					 s->version, refresh_id, s->refreshed_version == 0 ? "true" : "false", holdout ? "true" : "false", reason);
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

static void
write_events(const Segment *s, const CdpAudience *ids, bool entered, int64 refresh_id, const char *reason)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext batch = AllocSetContextCreate(caller, "customer_cdp events of a segment", ALLOCSET_DEFAULT_SIZES);
	Oid			sequence = cdp_relation("event_event_id_seq");
	TimestampTz now = cdp_now_value();
	Jsonb	   *properties[2] = {properties_of(s, refresh_id, false, reason), properties_of(s, refresh_id, true, reason)};
	CdpAudienceWalk w;
	int64		id;
	bool		more;

	cdp_audience_walk_begin(&w, ids);
	more = cdp_audience_walk_next(&w, &id);
	while (more)
	{
		CdpEventItem *items;
		CdpEventItem **list;
		int			n = 0;

		MemoryContextSwitchTo(batch);
		items = palloc0(sizeof(CdpEventItem) * EVENTS_AT_ONCE);
		list = palloc(sizeof(CdpEventItem *) * EVENTS_AT_ONCE);
		for (; more && n < EVENTS_AT_ONCE; more = cdp_audience_walk_next(&w, &id))
		{
			CdpEventItem *item = list[n] = &items[n];

			n++;
			item->event_id = nextval_internal(sequence, false);
			item->who.profile_id = id;
			item->who.occurred_at = item->received_at = now;
			item->who.source = "cdp";
			item->name = entered ? "Segment Entered" : "Segment Left";
			item->message_id = psprintf("segment:" INT64_FORMAT ":" INT64_FORMAT ":%s", refresh_id, id, entered ? "entered" : "left");
			item->properties = properties[s->holdout_percent > 0 && cdp_holdout_bucket_of(id, s->holdout_salt, 100) < s->holdout_percent];
		}
		if (cdp_write_events(list, n, true) != n)
			elog(ERROR, "an event of a segment was there already");
		MemoryContextSwitchTo(caller);
		MemoryContextReset(batch);
	}
	MemoryContextDelete(batch);
}

/* ----------------------------------------------------------------- history */

/* a statement of ours over the ids of an audience, seen as relation member(customer_id) */
static void
write_of_each(const CdpAudience *ids, SPIPlanPtr *slot, const char *sql, const char *name, int version)
{
	static const char *const names[1] = {"customer_id"};
	static const Oid types[1] = {INT8OID};
	static const Oid plan_types[3] = {TEXTOID, TIMESTAMPTZOID, INT4OID};
	const bool	nulls[1] = {false};
	Datum		args[3] = {CStringGetTextDatum(name), TimestampTzGetDatum(cdp_now_value()), Int32GetDatum(version)};
	CdpRows    *rows;
	CdpAudienceWalk w;
	int64		id;

	if (ids->count == 0)
		return;
	rows = cdp_rows_open("member", 1, names, types);
	cdp_audience_walk_begin(&w, ids);
	while (cdp_audience_walk_next(&w, &id))
	{
		Datum		value = Int64GetDatum(id);

		cdp_rows_start(rows);
		cdp_rows_put(rows, &value, nulls);
	}
	cdp_rows_publish(rows);
	if (SPI_execute_plan(cdp_plan_generic(slot, sql, 3, plan_types), args, NULL, false, 0) < 0)
		elog(ERROR, "could not write cdp.segment_history");
	cdp_rows_close(rows);
}

static void
write_history(const Segment *s, const SegmentChange *c)
{
	static SPIPlanPtr entered = NULL;
	static SPIPlanPtr left = NULL;
	/* also what was noted under profiles that are part of the customer by now */
	static const char *const leave =
		"UPDATE cdp.segment_history h SET left_at = $2 FROM (SELECT m.customer_id FROM member m"
		"  UNION SELECT a.profile_id FROM member m JOIN cdp.profile_alias a ON a.customer_id = m.customer_id) x"
		" WHERE h.segment = $1 AND h.customer_id = x.customer_id AND h.left_at IS NULL AND $3 IS NOT NULL";

	write_of_each(c->left, &left, leave, s->name, s->version);
	write_of_each(c->gone, &left, leave, s->name, s->version);
	write_of_each(c->entered, &entered,
				  "INSERT INTO cdp.segment_history (segment, customer_id, entered_at, version) SELECT $1, customer_id, $2, $3 FROM member"
				  " ON CONFLICT (segment, customer_id) WHERE left_at IS NULL DO NOTHING", s->name, s->version);
}

static void
write_snapshot(const Segment *s, const CdpAudience *now, int64 refresh_id)
{
	Oid			types[5] = {INT8OID, TEXTOID, TIMESTAMPTZOID, INT8OID, BYTEAOID};
	Datum		args[5] = {Int64GetDatum(refresh_id), CStringGetTextDatum(s->name), TimestampTzGetDatum(cdp_now_value()),
	Int64GetDatum(now->count), PointerGetDatum(cdp_audience_write64(now))};
	Datum		kept[2] = {CStringGetTextDatum(s->name), Int32GetDatum(s->snapshots_kept)};
	Oid			kept_types[2] = {TEXTOID, INT4OID};

	if (s->snapshots_kept > 0 &&
		SPI_execute_with_args("INSERT INTO cdp.segment_snapshot (snapshot_id, segment, refreshed_at, member_count, members)"
							  " VALUES ($1, $2, $3, $4, $5)", 5, types, args, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write a snapshot");
	if (SPI_execute_with_args("DELETE FROM cdp.segment_snapshot WHERE segment = $1 AND snapshot_id <= (SELECT s.snapshot_id"
							  " FROM cdp.segment_snapshot s WHERE s.segment = $1 ORDER BY s.snapshot_id DESC OFFSET $2 LIMIT 1)",
							  2, kept_types, kept, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not prune snapshots");
}

/* ------------------------------------------------------------------- apply */

void
cdp_segment_compare(const Segment *s, CdpAudience *now, SegmentChange *c)
{
	CdpAudience *before = cdp_customers_among(s->members ? s->members : cdp_audience_empty(), &c->gone);

	c->now = now;
	c->entered = cdp_audience_without(now, before);
	c->left = cdp_audience_without(before, now);
}

bool
cdp_segment_apply(const Segment *s, const SegmentChange *c, const char *reason, TimestampTz began)
{
	bool		nobody = c->entered->count + c->left->count + c->gone->count == 0;
	bool		same = nobody && s->members != NULL && VARSIZE(s->members) == VARSIZE(c->now) &&
		memcmp(s->members, c->now, VARSIZE(c->now)) == 0;
	Oid			types[6] = {TEXTOID, TIMESTAMPTZOID, INT4OID, cdp_audience_type(), INT8OID, INTERVALOID};
	Datum		args[6] = {CStringGetTextDatum(s->name), TimestampTzGetDatum(cdp_now_value()), Int32GetDatum(s->version),
	PointerGetDatum(c->now), Int64GetDatum(c->now->count), (Datum) 0};

	if (same)
	{
		(void) cdp_segment_write("UPDATE cdp.segment SET refreshed_at = $2, refreshed_version = $3, last_error = NULL WHERE name = $1",
								 3, types, args, NULL);
		return false;
	}
	if (!nobody || s->members == NULL)
	{
		int64		refresh_id = nextval_internal(cdp_relation("segment_snapshot_snapshot_id_seq"), false);

		write_history(s, c);
		write_events(s, c->gone, false, refresh_id, "deleted");
		write_events(s, c->left, false, refresh_id, reason);
		write_events(s, c->entered, true, refresh_id, reason);
		write_snapshot(s, c->now, refresh_id);
	}
	args[5] = DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(GetCurrentTimestamp()), TimestampTzGetDatum(began));
	(void) cdp_segment_write("UPDATE cdp.segment SET refreshed_at = $2, refreshed_version = $3, last_error = NULL, members = $4,"
							 " member_count = $5, last_duration = $6 WHERE name = $1", 6, types, args, NULL);
	return true;
}

/* ----------------------------------------------------------------- refresh */

typedef struct Refresh
{
	Segment    *segment;
	Oid			caller;
	TimestampTz began;
} Refresh;

static bool
refresh_body(void *arg)
{
	Refresh    *r = arg;
	Segment    *s = r->segment;
	const char *reason = s->refreshed_version != 0 && s->refreshed_version != s->version ? "redefined" : "refresh";
	SegmentChange change;

	cdp_push_fresh_snapshot();
	if (s->definition.text == NULL)
		cdp_segment_compare(s, cdp_customers_among(s->members ? s->members : cdp_audience_empty(), NULL), &change);
	else
		cdp_segment_compare(s, cdp_definition_audience(&s->definition, cdp_definition_owner(&s->definition, r->caller)), &change);
	PopActiveSnapshot();
	(void) cdp_segment_apply(s, &change, reason, r->began);
	return true;
}

static bool
may_run(const Segment *s, Oid caller)
{
	Oid			owner = get_role_oid(s->definition.owner, true);

	return s->definition.text == NULL || !cdp_definition_is_query(s->definition.text) ||
		!OidIsValid(owner) || has_privs_of_role(caller, owner);
}

static void
keep_error(const Refresh *r, const char *message)
{
	Oid			types[3] = {TEXTOID, TEXTOID, INTERVALOID};
	Datum		args[3] = {CStringGetTextDatum(r->segment->name), CStringGetTextDatum(message),
	DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(GetCurrentTimestamp()), TimestampTzGetDatum(r->began))};

	(void) cdp_segment_write("UPDATE cdp.segment SET last_error = $2, last_duration = $3 WHERE name = $1", 3, types, args, NULL);
}

/*
 * cdp._refresh_segment(name text, only_due boolean, OUT refreshed boolean,
 * OUT state text, OUT message text, OUT hint text): state is that of the
 * definition's error, which is kept with the segment.
 */
Datum
cdp_refresh_segment(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		only_due = PG_GETARG_BOOL(1);
	MemoryContext caller = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;
	bool		refreshed = false;
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false, true, true, true};
	CdpVerb		verb;
	Segment		segment;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	cdp_begin_write(&verb, "refresh_segments");
	if (cdp_segment_lock(name, &segment) && (!only_due || (segment.due && may_run(&segment, verb.userid))))
	{
		Refresh		r = {&segment, verb.userid, GetCurrentTimestamp()};
		MemoryContext spi = CurrentMemoryContext;

		if (!may_run(&segment, verb.userid))
			(void) cdp_definition_owner(&segment.definition, verb.userid);
		PG_TRY();
		{
			(void) cdp_attempt(refresh_body, &r);
		}
		PG_CATCH();
		{
			MemoryContextSwitchTo(caller);
			error = CopyErrorData();
			FlushErrorState();
		}
		PG_END_TRY();
		MemoryContextSwitchTo(spi);
		if (error != NULL)
			keep_error(&r, cdp_message_without_values(error));
		refreshed = error == NULL;
	}
	cdp_end(&verb);
	MemoryContextSwitchTo(caller);
	values[0] = BoolGetDatum(refreshed);
	if (error != NULL)
	{
		nulls[1] = nulls[2] = false;
		values[1] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
		values[2] = CStringGetTextDatum(cdp_message_without_values(error));
		nulls[3] = error->hint == NULL;
		values[3] = error->hint ? CStringGetTextDatum(error->hint) : (Datum) 0;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* cdp._restore_segment(name, members) -> 1 when it had others */
Datum
cdp_restore_segment(PG_FUNCTION_ARGS)
{
	CdpAudience *members = cdp_audience_get(PG_GETARG_DATUM(1));
	Oid			types[3] = {TEXTOID, INT8OID, cdp_audience_type()};
	Datum		args[3] = {PG_GETARG_DATUM(0), Int64GetDatum(members->count), PointerGetDatum(members)};
	CdpVerb		verb;
	uint64		n;

	cdp_begin_unchecked(&verb);
	n = cdp_segment_write("UPDATE cdp.segment SET members = $3, member_count = $2 WHERE name = $1"
						  " AND (members OPERATOR(cdp.=) $3) IS NOT TRUE", 3, types, args, NULL);
	cdp_end(&verb);
	PG_RETURN_INT32((int32) n);
}
