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
 * Who enters and who leaves is handed over as one relation; one statement
 * makes an event of each, one notes in history who enters.  Everything else
 * of a row is the same for all and is a parameter.  The rows of history that
 * end are looked up here and updated by their place: these plans are kept,
 * and with a join one that was made while history was empty would read all
 * of it ever after.
 *
 * The events are not in cdp.event_key.  Their message_id holds refresh_id, a
 * number of a sequence that no other refresh has, and whatever ends a refresh
 * ends its events: there is no repetition that a key could stop.  With a key,
 * who may write events could write these ids in advance, and the refresh
 * would fail.
 *
 * SQL: sql/segment.sql.  Tests: test/sql/segment.sql,
 * test/specs/segment_*.spec, test/t/031_segment_kill_refresh.pl.
 * Page: doc/segment.md.
 */
#include "segment.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation_d.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "funcapi.h"
#include "identity_step.h"
#include "miscadmin.h"
#include "probe.h"
#include "rows.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(cdp_refresh_segment);
PG_FUNCTION_INFO_V1(cdp_restore_segment);

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
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(name)};
	bool		isnull;
	Datum		d;

	cdp_plan_generic(&plan, "SELECT definition, version, owner, search_path, holdout_percent, coalesce(holdout_salt, name), snapshots_kept,"
					 " members, refreshed_at, refreshed_version, kind <> 'static' AND refresh_every IS NOT NULL AND (refreshed_at IS NULL"
					 "  OR refreshed_version IS DISTINCT FROM version OR cdp.now() < refreshed_at OR cdp.now() >= refreshed_at + refresh_every)"
					 " FROM cdp.segment WHERE name = $1 FOR NO KEY UPDATE", 1, types);
	if (SPI_execute_plan(plan, args, NULL, false, 1) != SPI_OK_SELECT)
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

/* ----------------------------------------------------------------- changes */

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

/* rows of history without left_at: whoever is looked up, and those that will end */
typedef struct OpenRows
{
	CdpProbe   *probe;
	CdpProbe   *aliases;
	AttrNumber	profile_id;
	ScanKeyData keys[2];
	ItemPointerData *ends;
	int			nends;
	int			room;
} OpenRows;

static void
open_rows_begin(OpenRows *o, const Segment *s)
{
	o->probe = cdp_probe_open_range("segment_history", "segment_history_open", 2);
	o->aliases = cdp_probe_open("profile_alias", "profile_alias_customer_id");
	o->profile_id = cdp_probe_column(o->aliases, "profile_id");
	ScanKeyEntryInitialize(&o->keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(s->name));
	o->nends = 0;
	o->room = 64;
	o->ends = palloc(sizeof(ItemPointerData) * o->room);
}

static TupleTableSlot *
open_row(OpenRows *o, int64 id)
{
	ScanKeyInit(&o->keys[1], 2, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	cdp_probe_range(o->probe, o->keys);
	return cdp_probe_next(o->probe);
}

static void
end_row(OpenRows *o, int64 id)
{
	TupleTableSlot *slot = open_row(o, id);

	if (slot == NULL)
		return;
	if (o->nends == o->room)
		o->ends = repalloc_huge(o->ends, sizeof(ItemPointerData) * (o->room *= 2));
	o->ends[o->nends++] = slot->tts_tid;
}

/* also what was noted under profiles that are part of the customer by now */
static void
end_rows(OpenRows *o, int64 customer)
{
	bool		isnull;

	end_row(o, customer);
	for (TupleTableSlot *slot = cdp_probe_int8(o->aliases, customer); slot != NULL; slot = cdp_probe_next(o->aliases))
		end_row(o, DatumGetInt64(slot_getattr(slot, o->profile_id, &isnull)));
}

/* who is noted already stays so */
static void
put_changes(CdpRows *rows, OpenRows *o, const Segment *s, const CdpAudience *ids, bool entered, bool gone)
{
	static const bool nulls[5] = {false, false, false, false, false};
	Datum		values[5] = {0, BoolGetDatum(entered), BoolGetDatum(false), BoolGetDatum(false), BoolGetDatum(gone)};
	CdpAudienceWalk w;
	int64		id;

	cdp_audience_walk_begin(&w, ids);
	while (cdp_audience_walk_next(&w, &id))
	{
		if (entered)
			values[2] = BoolGetDatum(open_row(o, id) == NULL);
		else
			end_rows(o, id);
		cdp_rows_start(rows);
		values[0] = Int64GetDatum(id);
		if (s->holdout_percent > 0)
			values[3] = BoolGetDatum(cdp_holdout_bucket_of(id, s->holdout_salt, 100) < s->holdout_percent);
		cdp_rows_put(rows, values, nulls);
	}
}

/* by their places, whatever the planner holds of a table that it has seen empty */
static void
write_ends(const OpenRows *o)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {TIMESTAMPTZOID, TIDARRAYOID};
	Datum	   *places = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * o->nends);
	Datum		args[2];
	int			level = NewGUCNestLevel();

	for (int i = 0; i < o->nends; i++)
		places[i] = PointerGetDatum(&o->ends[i]);
	args[0] = TimestampTzGetDatum(cdp_now_value());
	args[1] = PointerGetDatum(construct_array(places, o->nends, TIDOID, sizeof(ItemPointerData), false, TYPALIGN_SHORT));
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_execute_plan(cdp_plan_generic(&plan, "UPDATE cdp.segment_history SET left_at = $1 WHERE ctid = ANY ($2)", 2, types),
						 args, NULL, false, 0) != SPI_OK_UPDATE || SPI_processed != o->nends)
		elog(ERROR, "could not write cdp.segment_history");
	AtEOXact_GUC(false, level);
}

/* $1 segment, $2 now, $3 version */
static void
write_entries(const Segment *s)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[3] = {TEXTOID, TIMESTAMPTZOID, INT4OID};
	Datum		args[3] = {CStringGetTextDatum(s->name), TimestampTzGetDatum(cdp_now_value()), Int32GetDatum(s->version)};

	if (SPI_execute_plan(cdp_plan_generic(&plan, "INSERT INTO cdp.segment_history (segment, customer_id, entered_at, version)"
										  " SELECT $1, c.customer_id, $2, $3 FROM change c WHERE c.is_new", 3, types),
						 args, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write cdp.segment_history");
}

/* $1 now, $2 begin of message_id, $3 to $6 properties: by reason, then by holdout */
static void
write_events(const Segment *s, const SegmentChange *c, int64 refresh_id, const char *reason)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[6] = {TIMESTAMPTZOID, TEXTOID, JSONBOID, JSONBOID, JSONBOID, JSONBOID};
	Datum		args[6] = {TimestampTzGetDatum(cdp_now_value()), CStringGetTextDatum(psprintf("segment:" INT64_FORMAT ":", refresh_id)),
		JsonbPGetDatum(properties_of(s, refresh_id, false, reason)), JsonbPGetDatum(properties_of(s, refresh_id, true, reason)),
	JsonbPGetDatum(properties_of(s, refresh_id, false, "deleted")), JsonbPGetDatum(properties_of(s, refresh_id, true, "deleted"))};

	cdp_plan_generic(&plan, "INSERT INTO cdp.event (profile_id, name, occurred_at, received_at, properties, message_id, source)"
					 " SELECT c.customer_id, CASE WHEN c.entered THEN 'Segment Entered' ELSE 'Segment Left' END, $1, $1,"
					 "  CASE WHEN c.gone THEN CASE WHEN c.holdout THEN $6 ELSE $5 END WHEN c.holdout THEN $4 ELSE $3 END,"
					 "  $2 || c.customer_id::text || CASE WHEN c.entered THEN ':entered' ELSE ':left' END, 'cdp' FROM change c", 6, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_INSERT ||
		SPI_processed != c->entered->count + c->left->count + c->gone->count)
		elog(ERROR, "not every change of segment \"%s\" became an event", s->name);
}

static void
write_changes(const Segment *s, const SegmentChange *c, int64 refresh_id, const char *reason)
{
	static const char *const names[5] = {"customer_id", "entered", "is_new", "holdout", "gone"};
	static const Oid types[5] = {INT8OID, BOOLOID, BOOLOID, BOOLOID, BOOLOID};
	CdpRows    *rows = cdp_rows_open("change", 5, names, types);
	OpenRows	open;

	/* the row of the segment is locked: what was committed before that is seen, and nobody else writes any */
	cdp_push_fresh_snapshot();
	open_rows_begin(&open, s);
	put_changes(rows, &open, s, c->gone, false, true);
	put_changes(rows, &open, s, c->left, false, false);
	put_changes(rows, &open, s, c->entered, true, false);
	cdp_probe_close(open.probe);
	cdp_probe_close(open.aliases);
	PopActiveSnapshot();
	cdp_rows_publish(rows);
	if (open.nends > 0)
		write_ends(&open);
	if (c->entered->count > 0)
		write_entries(s);
	write_events(s, c, refresh_id, reason);
	cdp_rows_close(rows);
}

static void
write_snapshot(const Segment *s, const CdpAudience *now, int64 refresh_id)
{
	static SPIPlanPtr write = NULL;
	static SPIPlanPtr prune = NULL;
	static const Oid types[5] = {INT8OID, TEXTOID, TIMESTAMPTZOID, INT8OID, BYTEAOID};
	Datum		args[5] = {Int64GetDatum(refresh_id), CStringGetTextDatum(s->name), TimestampTzGetDatum(cdp_now_value()),
	Int64GetDatum(now->count), PointerGetDatum(cdp_audience_write64(now))};
	Datum		kept[2] = {CStringGetTextDatum(s->name), Int32GetDatum(s->snapshots_kept)};
	static const Oid kept_types[2] = {TEXTOID, INT4OID};

	cdp_plan_generic(&write, "INSERT INTO cdp.segment_snapshot (snapshot_id, segment, refreshed_at, member_count, members)"
					 " VALUES ($1, $2, $3, $4, $5)", 5, types);
	if (s->snapshots_kept > 0 && SPI_execute_plan(write, args, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write a snapshot");
	cdp_plan_generic(&prune, "DELETE FROM cdp.segment_snapshot WHERE segment = $1 AND snapshot_id <= (SELECT s.snapshot_id"
					 " FROM cdp.segment_snapshot s WHERE s.segment = $1 ORDER BY s.snapshot_id DESC OFFSET $2 LIMIT 1)", 2, kept_types);
	if (SPI_execute_plan(prune, kept, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not prune snapshots");
}

/* ------------------------------------------------------------------- apply */

static bool
is_same(const CdpAudience *a, const CdpAudience *b)
{
	return a != NULL && VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(b)) == 0;
}

void
cdp_segment_compare(const Segment *s, CdpAudience *now, SegmentChange *c)
{
	CdpAudience *before;

	c->now = now;
	/* most often; all of them are customers, so nobody is gone */
	if (is_same(s->members, now))
	{
		c->entered = c->left = c->gone = cdp_audience_empty();
		return;
	}
	before = cdp_customers_among(s->members ? s->members : cdp_audience_empty(), &c->gone);
	c->entered = cdp_audience_without(now, before);
	c->left = cdp_audience_without(before, now);
}

bool
cdp_segment_apply(const Segment *s, const SegmentChange *c, const char *reason, TimestampTz began)
{
	bool		nobody = c->entered->count + c->left->count + c->gone->count == 0;
	bool		same = nobody && is_same(s->members, c->now);
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

		if (!nobody)
			write_changes(s, c, refresh_id, reason);
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
