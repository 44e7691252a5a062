/*
 * segment.c
 *	  The row of a segment: defined, changed, dropped.
 *
 * cdp.define_segment() and a plain INSERT or UPDATE are the same thing: the
 * work is done by the trigger, as the role that writes.
 *
 *		BEFORE	what is wrong with the definition is said; kind, owner,
 *				search_path, depends_on and version follow from it
 *		AFTER	the version is kept in cdp.segment_definition
 *
 * What a refresh writes (members, counts, times) nobody else writes: the
 * trigger lets pass what comes through cdp_segment_write().
 *
 * SQL: sql/segment.sql.  Tests: test/sql/segment.sql,
 * test/specs/segment_redefine_race.spec.  Page: doc/segment.md.
 */
#include "segment.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "identity_step.h"
#include "miscadmin.h"
#include "probe.h"
#include "tag_query.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(cdp_segment_changed);
PG_FUNCTION_INFO_V1(cdp_define_segment);
PG_FUNCTION_INFO_V1(cdp_define_static_segment);
PG_FUNCTION_INFO_V1(cdp_drop_segment);

/* key of the advisory lock of who changes definitions: "cdpsegmt" */
#define DEFINITIONS_LOCK	INT64CONST(0x6364707365676D74)

/* true only while this module writes cdp.segment */
static bool writing = false;

uint64
cdp_segment_write(const char *sql, int nargs, const Oid *types, const Datum *args, const char *nulls)
{
	bool		before = writing;
	uint64		n;

	writing = true;
	PG_TRY();
	{
		int			rc = SPI_execute_with_args(sql, nargs, unconstify(Oid *, types), unconstify(Datum *, args), nulls, false, 0);

		if (rc < 0)
			elog(ERROR, "could not write cdp.segment: %s", SPI_result_code_string(rc));
		n = SPI_processed;
	}
	PG_FINALLY();
	{
		writing = before;
	}
	PG_END_TRY();
	return n;
}

void
cdp_segment_unknown(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("there is no segment \"%s\"", name),
			 errhint("SELECT name FROM cdp.segment lists the segments.")));
}

/* to the end of the transaction */
void
cdp_segment_lock_definitions(void)
{
	(void) DirectFunctionCall1(pg_advisory_xact_lock_int8, Int64GetDatum(DEFINITIONS_LOCK));
}

/* ----------------------------------------------------------------- trigger */

typedef struct Row
{
	HeapTuple	tuple;
	TupleDesc	desc;
} Row;

static Datum
field(const Row *row, const char *name, bool *isnull)
{
	int			n = SPI_fnumber(row->desc, name);

	if (n <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("column %s of table cdp.segment is missing", name),
				 errhint("CALL cdp.migrate(); repairs what is missing.")));
	return SPI_getbinval(row->tuple, row->desc, n, isnull);
}

static char *
text_field(const Row *row, const char *name)
{
	bool		isnull;
	Datum		d = field(row, name, &isnull);

	return isnull ? NULL : TextDatumGetCString(d);
}

static bool
differs(const Row *a, const Row *b, const char *name)
{
	bool		anull;
	bool		bnull;
	Datum		x = field(a, name, &anull);
	Datum		y = field(b, name, &bnull);
	Form_pg_attribute att = TupleDescAttr(a->desc, SPI_fnumber(a->desc, name) - 1);

	return anull != bnull || (!anull && !datum_image_eq(x, y, att->attbyval, att->attlen));
}

/* columns that follow from the definition, or from a refresh */
#define NCOMPUTED	12
static const char *const computed[NCOMPUTED] = {"kind", "version", "owner", "search_path", "depends_on",
"asks_tags", "members", "member_count", "refreshed_at", "refreshed_version", "last_error", "last_duration"};
#define NDEFINED	6			/* the first ones */

static void
refuse_value(const char *problem, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", problem),
			 errhint("%s", hint)));
}

static void
check_settings(const Row *row)
{
	bool		isnull;
	Datum		d = field(row, "holdout_percent", &isnull);
	Interval	zero = {0};

	if (!isnull && (DatumGetInt32(d) < 0 || DatumGetInt32(d) > 100))
		refuse_value("holdout_percent must be from 0 to 100", "0: everybody in the segment is a target.");
	d = field(row, "snapshots_kept", &isnull);
	if (!isnull && DatumGetInt32(d) < 0)
		refuse_value("snapshots_kept must not be negative", "0: none are kept.");
	d = field(row, "refresh_every", &isnull);
	if (!isnull && DatumGetBool(DirectFunctionCall2(interval_le, d, IntervalPGetDatum(&zero))))
		refuse_value("refresh_every must be positive", "NULL: only when it is refreshed by name.");
}

static int
next_version(const char *name)
{
	Oid			types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(name)};
	bool		isnull;

	if (SPI_execute_with_args("SELECT coalesce(max(version), 0) + 1 FROM cdp.segment_definition WHERE segment = $1",
							  1, types, args, NULL, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not read cdp.segment_definition");
	return DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

/* look at a definition as the role that writes it, and fill in what follows from it */
static void
define(const char *name, const char *text, Datum *values)
{
	CdpDefinition d = {text, GetUserNameFromId(GetUserId(), false), cdp_definition_path(), psprintf("segment \"%s\"", name), 1};
	Name		owner = palloc(sizeof(NameData));
	MemoryContext caller = CurrentMemoryContext;
	CdpAsked	asked = {0};
	CdpVerb		verb;

	cdp_segment_lock_definitions();
	if (text != NULL)
		cdp_definition_check(&d, &asked);
	cdp_begin_write(&verb, "define_segment");
	cdp_segment_check_dependencies(name, asked.segments);
	values[1] = Int32GetDatum(next_version(name));
	cdp_end(&verb);
	MemoryContextSwitchTo(caller);
	namestrcpy(owner, d.owner);
	values[0] = CStringGetTextDatum(text == NULL ? "static" : cdp_definition_is_query(text) ? "query" : "tagquery");
	values[2] = NameGetDatum(owner);
	values[3] = CStringGetTextDatum(d.search_path);
	values[4] = cdp_names_array(asked.segments);
	values[5] = cdp_names_array(asked.tags);
}

static HeapTuple
before_row(TriggerData *t)
{
	bool		update = TRIGGER_FIRED_BY_UPDATE(t->tg_event);
	Row			row = {update ? t->tg_newtuple : t->tg_trigtuple, RelationGetDescr(t->tg_relation)};
	Row			old = {t->tg_trigtuple, row.desc};
	char	   *name = text_field(&row, "name");
	char	   *text = text_field(&row, "definition");
	bool		changed = !update || differs(&row, &old, "definition");
	Datum		values[NCOMPUTED] = {0};
	bool		nulls[NCOMPUTED];
	int			columns[NCOMPUTED];

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name must not be NULL"),
				 errhint("A segment is known by its name.")));
	check_settings(&row);
	for (int i = 0; i < NCOMPUTED; i++)
	{
		columns[i] = SPI_fnumber(row.desc, computed[i]);
		nulls[i] = i >= NDEFINED;
		if (update && differs(&row, &old, computed[i]))
		{
			if (i >= NDEFINED)
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("column %s of cdp.segment is written by a refresh only", computed[i]),
						 errhint("CALL cdp.refresh_segments(name); cdp.define_static_segment() for members of your own.")));
			changed = true;
		}
	}
	if (update && differs(&row, &old, "name"))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a segment cannot be renamed"),
				 errhint("Its members and events carry the name: define the new one, then drop the old one.")));
	if (!update)
		cdp_tag_check_name(name, strlen(name), "name");
	if (!changed)
		return row.tuple;
	define(name, text, values);
	return heap_modify_tuple_by_cols(row.tuple, row.desc, update ? NDEFINED : NCOMPUTED, columns, values, nulls);
}

/* a version that is new is kept */
static void
after_row(TriggerData *t)
{
	bool		update = TRIGGER_FIRED_BY_UPDATE(t->tg_event);
	Row			row = {update ? t->tg_newtuple : t->tg_trigtuple, RelationGetDescr(t->tg_relation)};
	Row			old = {t->tg_trigtuple, row.desc};
	static const char *const columns[] = {"name", "version", "definition", "kind", "owner", "search_path"};
	Oid			types[6] = {TEXTOID, INT4OID, TEXTOID, TEXTOID, NAMEOID, TEXTOID};
	Datum		args[6];
	char		nulls[6];
	CdpVerb		verb;

	if (update && !differs(&row, &old, "version"))
		return;
	for (int i = 0; i < lengthof(columns); i++)
	{
		bool		isnull;

		args[i] = field(&row, columns[i], &isnull);
		nulls[i] = isnull ? 'n' : ' ';
	}
	cdp_begin_write(&verb, "define_segment");
	if (SPI_execute_with_args("INSERT INTO cdp.segment_definition (segment, version, definition, kind, owner, search_path)"
							  " VALUES ($1, $2, $3, $4, $5, $6)", 6, types, args, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write cdp.segment_definition");
	cdp_end(&verb);
}

/* trigger on cdp.segment */
Datum
cdp_segment_changed(PG_FUNCTION_ARGS)
{
	TriggerData *t = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cdp._segment_changed() must be called as a trigger")));
	if (TRIGGER_FIRED_FOR_ROW(t->tg_event) && writing)
		PG_RETURN_POINTER(TRIGGER_FIRED_BY_UPDATE(t->tg_event) ? t->tg_newtuple : t->tg_trigtuple);
	if (!TRIGGER_FIRED_FOR_ROW(t->tg_event) || TRIGGER_FIRED_BY_DELETE(t->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a segment is dropped by cdp.drop_segment()"),
				 errhint("SELECT cdp.drop_segment(name); its members leave then, by event.")));
	if (TRIGGER_FIRED_BEFORE(t->tg_event))
		PG_RETURN_POINTER(before_row(t));
	after_row(t);
	PG_RETURN_POINTER(NULL);
}

/* ------------------------------------------------------------------- verbs */

static char *
name_arg(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name must not be NULL"),
				 errhint("A segment is known by its name.")));
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

/* run a statement of a verb as the caller, under his search_path: no name in it is looked up there */
static uint64
as_caller(const char *sql, int nargs, Oid *types, Datum *args, const char *nulls)
{
	int			rc = SPI_execute_with_args(sql, nargs, types, args, nulls, false, 0);

	if (rc < 0)
		elog(ERROR, "could not write cdp.segment: %s", SPI_result_code_string(rc));
	return SPI_processed;
}

static int
version_of(const char *name)
{
	CdpVerb		verb;
	Oid			types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(name)};
	bool		isnull;
	int			version;

	cdp_begin_unchecked(&verb);
	if (SPI_execute_with_args("SELECT version FROM cdp.segment WHERE name = $1", 1, types, args, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "the segment is gone");
	version = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	cdp_end(&verb);
	return version;
}

/* insert or update the row of a segment as the caller */
static void
put_segment(FunctionCallInfo fcinfo, bool is_static)
{
	Oid			types[7] = {TEXTOID, TEXTOID, TEXTOID, INTERVALOID, INT4OID, TEXTOID, INT4OID};
	Datum		args[7] = {0};
	char		nulls[7];

	for (int i = 0; i < 7; i++)
	{
		bool		given = i == 0 || (!is_static && !PG_ARGISNULL(i));

		args[i] = given ? PG_GETARG_DATUM(i) : (Datum) 0;
		nulls[i] = given ? ' ' : 'n';
	}
	cdp_check_version();
	PreventCommandDuringRecovery("define_segment");
	PreventCommandIfReadOnly("define_segment");
	PreventCommandIfParallelMode("define_segment");
	cdp_segment_lock_definitions();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (is_static)
	{
		if (as_caller("UPDATE cdp.segment SET definition = NULL WHERE name OPERATOR(pg_catalog.=) $1", 1, types, args, nulls) == 0)
			(void) as_caller("INSERT INTO cdp.segment (name, refresh_every) VALUES ($1, NULL)", 1, types, args, nulls);
	}
	else if (as_caller("UPDATE cdp.segment SET definition = $2, description = $3, refresh_every = $4,"
					   " holdout_percent = COALESCE($5, 0), holdout_salt = COALESCE($6, holdout_salt), snapshots_kept = COALESCE($7, 30)"
					   " WHERE name OPERATOR(pg_catalog.=) $1", 7, types, args, nulls) == 0)
		(void) as_caller("INSERT INTO cdp.segment (name, definition, description, refresh_every, holdout_percent, holdout_salt, snapshots_kept)"
						 " VALUES ($1, $2, $3, $4, COALESCE($5, 0), $6, COALESCE($7, 30))", 7, types, args, nulls);
	SPI_finish();
}

/* cdp.define_segment(name, definition, description, refresh_every, holdout_percent, holdout_salt, snapshots_kept) -> version */
Datum
cdp_define_segment(PG_FUNCTION_ARGS)
{
	char	   *name = name_arg(fcinfo);

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("definition must not be NULL"),
				 errhint("cdp.define_static_segment() is for members that no condition tells.")));
	put_segment(fcinfo, false);
	PG_RETURN_INT32(version_of(name));
}

/* cdp.define_static_segment(name, members) -> number of members */
Datum
cdp_define_static_segment(PG_FUNCTION_ARGS)
{
	char	   *name = name_arg(fcinfo);
	MemoryContext caller = CurrentMemoryContext;
	SegmentChange change;
	CdpAudience *gone;
	CdpAudience *members;
	Segment		segment;
	CdpVerb		verb;
	int64		count;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("members must not be NULL"),
				 errhint("'{}' is a segment without members.")));
	members = cdp_audience_get(PG_GETARG_DATUM(1));
	put_segment(fcinfo, true);
	cdp_begin_write(&verb, "define_static_segment");
	if (!cdp_segment_lock(name, &segment))
		cdp_segment_unknown(name);
	cdp_push_fresh_snapshot();
	members = cdp_customers_among(members, &gone);
	if (gone->count > 0)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg(INT64_FORMAT " of the members are no customers", gone->count),
				 errhint("members & cdp.audience_of('*') are those who are.")));
	cdp_segment_compare(&segment, members, &change);
	PopActiveSnapshot();
	(void) cdp_segment_apply(&segment, &change, "static", GetCurrentTimestamp());
	count = members->count;
	cdp_end(&verb);
	MemoryContextSwitchTo(caller);
	PG_RETURN_INT64(count);
}

/* who asks for it: other segments, rules of tags */
static void
refuse_dependents(const char *name)
{
	Oid			types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(name)};
	char	   *who;

	if (SPI_execute_with_args("SELECT string_agg(format('%s %s', w.what, w.name), ', ' ORDER BY w.what, w.name) FROM ("
							  " SELECT 'segment' AS what, s.name FROM cdp.segment s WHERE $1 = ANY (s.depends_on) AND s.name <> $1"
							  " UNION ALL SELECT 'tag', t.name FROM cdp.tag t WHERE $1 = ANY (t.rule_segments)) w",
							  1, types, args, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for dependents");
	who = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (who != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("segment \"%s\" is asked for by others", name),
				 errdetail("These ask for it: %s.", who),
				 errhint("Define them without it first.")));
}

/* cdp.drop_segment(name) -> members who left */
Datum
cdp_drop_segment(PG_FUNCTION_ARGS)
{
	char	   *name = name_arg(fcinfo);
	Oid			types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(name)};
	SegmentChange change;
	Segment		segment;
	CdpVerb		verb;
	int64		count;

	cdp_begin_write(&verb, "drop_segment");
	cdp_segment_lock_definitions();
	if (!cdp_segment_lock(name, &segment))
		cdp_segment_unknown(name);
	refuse_dependents(name);
	cdp_push_fresh_snapshot();
	cdp_segment_compare(&segment, cdp_audience_empty(), &change);
	PopActiveSnapshot();
	count = change.left->count;
	if (segment.members != NULL)
		(void) cdp_segment_apply(&segment, &change, "dropped", GetCurrentTimestamp());
	(void) cdp_segment_write("DELETE FROM cdp.segment_snapshot WHERE segment = $1", 1, types, args, NULL);
	(void) cdp_segment_write("DELETE FROM cdp.segment WHERE name = $1", 1, types, args, NULL);
	cdp_end(&verb);
	PG_RETURN_INT64(count);
}
