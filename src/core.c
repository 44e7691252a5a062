/*
 * core.c
 *	  Clock, settings, and the frame in which verbs run.
 *
 * Who is who: the extension's functions belong to the superuser who ran
 * CREATE EXTENSION, the tables to the role that ran CALL cdp.migrate().  A
 * caller of a verb needs EXECUTE on it and nothing on the tables; the verb
 * borrows the identity of the tables' owner for as long as it runs:
 *
 *		app role --EXECUTE--> cdp.track() --as owner--> cdp.event
 *
 * A trigger that the owner put on a table therefore runs with the owner's
 * rights and never with a superuser's.  That is why no member of the
 * extension is SECURITY DEFINER.
 *
 * SQL: sql/core.sql.  Tests: test/sql/core.sql.  Page: doc/core.md.
 */
#include "cdp.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* settings */
int			cdp_dedupe_window;
int			cdp_max_future;
int			cdp_last_seen_resolution;
int			cdp_max_profiles_per_customer;
int			cdp_generic_after;
int			cdp_source_lock_timeout_ms;
int			cdp_backfill_inline_rows;
static char *cdp_now_setting;
static char *cdp_timezone_setting;

/* cdp.now parsed: DT_NOBEGIN when it is not set */
static TimestampTz now_fixed = DT_NOBEGIN;
static pg_tz *zone = NULL;

uint64		cdp_rules_epoch = 1;

/* tables of rules that some cache of this backend was filled from */
#define MAX_WATCHED	32
static Oid	watched[MAX_WATCHED];
static int	nwatched = 0;

PG_FUNCTION_INFO_V1(cdp_now);
PG_FUNCTION_INFO_V1(cdp_rules_changed);
PG_FUNCTION_INFO_V1(cdp_local_to_utc);

/*
 * An ISO 8601 moment that says its offset: date, 'T' or blank, time, zone.
 * Anything that depends on DateStyle, on the session's zone or on the wall
 * clock ('now', 'yesterday', '01/02/03') would make a simulation drift.
 */
static bool
is_iso_moment(const char *s)
{
	static const char shape[] = "dddd-dd-dd dd:dd";
	const char *zonepart;

	for (int i = 0; shape[i] != '\0'; i++)
	{
		if (shape[i] == 'd' ? (s[i] < '0' || s[i] > '9') :
			shape[i] == ' ' ? (s[i] != ' ' && s[i] != 'T') :
			s[i] != shape[i])
			return false;
	}
	zonepart = s + sizeof(shape) - 1;
	while ((*zonepart >= '0' && *zonepart <= '9') || *zonepart == ':' || *zonepart == '.')
		zonepart++;
	if (strcmp(zonepart, "Z") == 0)
		return true;
	if (*zonepart != '+' && *zonepart != '-')
		return false;
	zonepart++;
	if (strspn(zonepart, "0123456789:") != strlen(zonepart))
		return false;
	return strlen(zonepart) >= 2;
}

/*
 * A moment as people and machines write it, without raising.  Without an
 * offset it is read in cdp.timezone, never in the session's TimeZone.  Words
 * that depend on the wall clock ('now', 'tomorrow') are refused.
 */
bool
cdp_parse_moment(const char *text, TimestampTz *result)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			tz,
				dtype,
				nf;
	char	   *field[MAXDATEFIELDS];
	int			ftype[MAXDATEFIELDS];
	char		workbuf[MAXDATELEN + MAXDATEFIELDS];

	if (pg_strcasecmp(text, "infinity") == 0 || pg_strcasecmp(text, "-infinity") == 0)
	{
		if (text[0] == '-')
			TIMESTAMP_NOBEGIN(*result);
		else
			TIMESTAMP_NOEND(*result);
		return true;
	}
	if (text[0] < '0' || text[0] > '9')
		return false;
	if (ParseDateTime(text, workbuf, sizeof(workbuf), field, ftype, MAXDATEFIELDS, &nf) != 0)
		return false;
	/* without a place for the zone the decoder refuses whoever names one */
	if (cdp_decode_datetime(field, ftype, nf, &dtype, &tm, &fsec, NULL) == 0)
	{
		if (dtype != DTK_DATE)
			return false;
		tz = DetermineTimeZoneOffset(&tm, zone);
	}
	else
	{
		if (ParseDateTime(text, workbuf, sizeof(workbuf), field, ftype, MAXDATEFIELDS, &nf) != 0 ||
			cdp_decode_datetime(field, ftype, nf, &dtype, &tm, &fsec, &tz) != 0 ||
			dtype != DTK_DATE)
			return false;
	}
	return tm2timestamp(&tm, fsec, &tz, result) == 0;
}

static bool
check_now(char **newval, void **extra, GucSource source)
{
	TimestampTz at;
	char		plain[MAXDATELEN];

	if (*newval == NULL || (*newval)[0] == '\0')
		return true;
	if (!is_iso_moment(*newval))
	{
		GUC_check_errdetail("The moment must be written in ISO 8601 with its offset.");
		GUC_check_errhint("For example '2026-03-01 09:00:00+08'.");
		return false;
	}

	/*
	 * A parallel worker gets its settings before it knows the abbreviations
	 * of time zones, and looking one up then, 'T' and 'Z' too, ends it.
	 */
	if (strlcpy(plain, *newval, sizeof(plain) - 2) >= sizeof(plain) - 2)
	{
		GUC_check_errdetail("There is no such moment in the calendar.");
		return false;
	}
	if (plain[10] == 'T')
		plain[10] = ' ';
	if (plain[strlen(plain) - 1] == 'Z')
		strlcpy(plain + strlen(plain) - 1, "+00", sizeof("+00"));
	if (!cdp_parse_moment(plain, &at))
	{
		GUC_check_errdetail("There is no such moment in the calendar.");
		return false;
	}
	*extra = guc_malloc(LOG, sizeof(TimestampTz));
	if (*extra == NULL)
		return false;
	*(TimestampTz *) *extra = at;
	return true;
}

static void
assign_now(const char *newval, void *extra)
{
	now_fixed = extra ? *(TimestampTz *) extra : DT_NOBEGIN;
}

static bool
check_timezone(char **newval, void **extra, GucSource source)
{
	pg_tz	   *tz = pg_tzset(*newval);

	if (tz == NULL || !pg_tz_acceptable(tz))
	{
		GUC_check_errdetail("\"%s\" is not the name of a time zone.", *newval);
		GUC_check_errhint("SELECT name FROM pg_timezone_names lists them; the usual value is Asia/Shanghai.");
		return false;
	}
	return true;
}

static void
assign_timezone(const char *newval, void *extra)
{
	zone = pg_tzset(newval);
}

struct pg_tz *
cdp_zone(void)
{
	return zone;
}

/*
 * A change of any function: the extension may have been updated, or migrated,
 * or a rule may name a function that is not there any more.
 */
static void
functions_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	cdp_forget_version();
	cdp_rules_epoch++;
}

/*
 * A change of some relation: rules are announced this way, see
 * cdp_rules_changed.  InvalidOid stands for "anything".
 */
static void
relation_changed(Datum arg, Oid relid)
{
	cdp_forget_relation(relid);
	if (!OidIsValid(relid))
	{
		cdp_forget_version();
		cdp_rules_epoch++;
		return;
	}
	for (int i = 0; i < nwatched; i++)
	{
		if (watched[i] == relid)
		{
			cdp_rules_epoch++;
			return;
		}
	}
}

/*
 * Name a table of rules before filling a cache from it.  A full list only
 * costs precision: the oldest entry is forgotten and everything refilled.
 */
void
cdp_watch_rules(Oid relid)
{
	for (int i = 0; i < nwatched; i++)
	{
		if (watched[i] == relid)
			return;
	}
	if (nwatched == MAX_WATCHED)
	{
		nwatched = 0;
		cdp_rules_epoch++;
	}
	watched[nwatched++] = relid;
}

void
cdp_core_init(void)
{
	DefineCustomStringVariable("cdp.timezone",
							   "Time zone of calendar rules: days, birthdays, quiet hours, month ends.",
							   NULL, &cdp_timezone_setting, "Asia/Shanghai", PGC_USERSET, 0,
							   check_timezone, assign_timezone, NULL);
	DefineCustomStringVariable("cdp.now",
							   "Moment that cdp.now() answers, for simulation, tests and replays.",
							   "Empty: the start of the transaction. ISO 8601 with offset.",
							   &cdp_now_setting, "", PGC_SUSET, 0,
							   check_now, assign_now, NULL);
	DefineCustomIntVariable("cdp.dedupe_window",
							"How long the message_id of a tracked event is remembered.",
							NULL, &cdp_dedupe_window, 30 * SECS_PER_DAY, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("cdp.max_future",
							"How far ahead of cdp.now() an event may lie before it is quarantined.",
							NULL, &cdp_max_future, SECS_PER_DAY, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("cdp.last_seen_resolution",
							"How often the last sighting of a known identifier is written.",
							NULL, &cdp_last_seen_resolution, SECS_PER_DAY, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("cdp.max_profiles_per_customer",
							"More profiles than this never become one customer.",
							NULL, &cdp_max_profiles_per_customer, 1000, 1, 100000,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("cdp.generic_after",
							"An identifier that was refused to join more customers than this tells nobody apart.",
							NULL, &cdp_generic_after, 20, 1, 10000,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("cdp.source_lock_timeout",
							"How long a trigger of an attached source waits for a lock before the row is queued.",
							NULL, &cdp_source_lock_timeout_ms, 200, 1, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("cdp.backfill_inline_rows",
							"attach_source copies sources up to this many rows before it returns.",
							NULL, &cdp_backfill_inline_rows, 100000, 0, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);

	CacheRegisterSyscacheCallback(PROCOID, functions_changed, (Datum) 0);
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	cdp_core_relation_init();
}

TimestampTz
cdp_now_value(void)
{
	return TIMESTAMP_IS_NOBEGIN(now_fixed) ? GetCurrentTransactionStartTimestamp() : now_fixed;
}

/* cdp.now() -> timestamptz */
Datum
cdp_now(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(cdp_now_value());
}

/*
 * cdp._local_to_utc(timestamp) -> timestamptz: a clock reading without zone,
 * read in cdp.timezone whatever the session's TimeZone is.
 */
Datum
cdp_local_to_utc(PG_FUNCTION_ARGS)
{
	Timestamp	local = PG_GETARG_TIMESTAMP(0);
	struct pg_tm tm;
	fsec_t		fsec;
	TimestampTz result;
	int			tz;

	if (TIMESTAMP_NOT_FINITE(local))
		PG_RETURN_TIMESTAMPTZ(local);
	if (timestamp2tm(local, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	tz = DetermineTimeZoneOffset(&tm, zone);
	if (tm2timestamp(&tm, fsec, &tz, &result) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	PG_RETURN_TIMESTAMPTZ(result);
}

/*
 * Trigger on a table of rules, AFTER EACH STATEMENT: let every backend drop
 * what it has cached.  The message goes out at commit, so other sessions
 * follow at their next statement and a rolled back change is never seen.
 */
Datum
cdp_rules_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cdp._rules_changed() must be called as a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	/* the command's own later statements must see it too */
	cdp_rules_epoch++;
	PG_RETURN_POINTER(NULL);
}

Oid
cdp_owner(void)
{
	Oid			meta = cdp_relation("meta");
	HeapTuple	tup;
	Oid			owner;

	tup = SearchSysCache1(RELOID, ObjectIdGetDatum(meta));
	if (!HeapTupleIsValid(tup))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the tables of customer_cdp have not been created"),
				 errhint("CALL cdp.migrate();")));
	owner = ((Form_pg_class) GETSTRUCT(tup))->relowner;
	ReleaseSysCache(tup);
	return owner;
}

/* the frame without the guard: for the guard itself */
void
cdp_begin_unchecked(CdpVerb *verb)
{
	Oid			owner = cdp_owner();

	GetUserIdAndSecContext(&verb->userid, &verb->sec_context);
	SetUserIdAndSecContext(owner, verb->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	verb->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
cdp_begin_read(CdpVerb *verb)
{
	cdp_check_version();
	cdp_begin_unchecked(verb);
}

/* what a verb that writes asks before anything else */
void
cdp_check_write(const char *name)
{
	PreventCommandDuringRecovery(name);
	PreventCommandIfReadOnly(name);
	PreventCommandIfParallelMode(name);
	cdp_check_version();
}

void
cdp_begin_write(CdpVerb *verb, const char *name)
{
	cdp_check_write(name);
	cdp_begin_unchecked(verb);
}

void
cdp_end(CdpVerb *verb)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	/*
	 * Rolled back, not kept: what a trigger or a function of somebody else's
	 * has set meanwhile (set_config, search_path above all) must not be left
	 * in the session of a caller who may be a superuser.
	 */
	AtEOXact_GUC(false, verb->guc_level);
	SetUserIdAndSecContext(verb->userid, verb->sec_context);
}

void
cdp_become(CdpActor *before, Oid role)
{
	GetUserIdAndSecContext(&before->userid, &before->sec_context);
	before->guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(role, before->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

void
cdp_return(CdpActor *before)
{
	AtEOXact_GUC(false, before->guc_level);
	SetUserIdAndSecContext(before->userid, before->sec_context);
}

Jsonb *
cdp_jsonb_copy(JsonbValue *value)
{
	Jsonb	   *copy;

	/* JsonbValueToJsonb() answers a buffer of at least a kilobyte */
	if (value->type != jbvBinary)
		return JsonbValueToJsonb(value);
	copy = palloc(VARHDRSZ + value->val.binary.len);
	SET_VARSIZE(copy, VARHDRSZ + value->val.binary.len);
	memcpy(VARDATA(copy), value->val.binary.data, value->val.binary.len);
	return copy;
}

static SPIPlanPtr
keep_plan(SPIPlanPtr *slot, const char *sql, int nargs, const Oid *types, int options)
{
	if (*slot == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare_cursor(sql, nargs, unconstify(Oid *, types), options);

		if (plan == NULL)
			elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "SPI_keepplan failed");
		*slot = plan;
	}
	return *slot;
}

SPIPlanPtr
cdp_plan(SPIPlanPtr *slot, const char *sql, int nargs, const Oid *types)
{
	return keep_plan(slot, sql, nargs, types, 0);
}

SPIPlanPtr
cdp_plan_generic(SPIPlanPtr *slot, const char *sql, int nargs, const Oid *types)
{
	return keep_plan(slot, sql, nargs, types, CURSOR_OPT_GENERIC_PLAN);
}

SPIPlanPtr
cdp_plan_custom(SPIPlanPtr *slot, const char *sql, int nargs, const Oid *types)
{
	return keep_plan(slot, sql, nargs, types, CURSOR_OPT_CUSTOM_PLAN);
}

MemoryContext
cdp_aggregate_context(FunctionCallInfo fcinfo, const char *hint)
{
	MemoryContext context;

	if (unlikely(AggCheckCallContext(fcinfo, &context) == 0))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this function works only inside an aggregate"),
				 errhint("%s", hint)));
	return context;
}

TupleDesc
cdp_result_desc(FunctionCallInfo fcinfo)
{
	if (fcinfo->flinfo->fn_extra == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
		TupleDesc	desc;

		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		fcinfo->flinfo->fn_extra = BlessTupleDesc(desc);
		MemoryContextSwitchTo(old);
	}
	return (TupleDesc) fcinfo->flinfo->fn_extra;
}

/*
 * An error about data quotes the value that it could not take, which may be
 * personal and may hold quotes itself: what stands from the first to the
 * last of them stays out.
 */
char *
cdp_message_without_values(const ErrorData *error)
{
	const char *message = error->message ? error->message : "unknown error";
	const char *first = strchr(message, '"');

	if (first == NULL || ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION)
		return pstrdup(message);
	return psprintf("%.*s…%s", (int) (first - message), message, strrchr(first, '"') + 1);
}

/*
 * Rules as they are committed now.  The news that fills a cache may be
 * younger than the snapshot of a REPEATABLE READ transaction, and what that
 * one would read stays in the cache when the transaction has ended.
 */
void
cdp_read_rules(SPIPlanPtr *slot, const char *sql)
{
	Snapshot	latest;

	CommandCounterIncrement();
	latest = RegisterSnapshot(GetLatestSnapshot());
	if (SPI_execute_snapshot(cdp_plan(slot, sql, 0, NULL), NULL, NULL, latest, InvalidSnapshot, true, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read rules: %s", sql);
	UnregisterSnapshot(latest);
}
