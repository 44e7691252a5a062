/*
 * event_condition.c
 *	  The window in which an event condition looks, and what is refused.
 *
 *		SELECT * FROM cdp.find_customers_who('Product Viewed', '1 month', 3);
 *
 * is inlined into the query that calls it, so that the planner sees the
 * event log itself and leaves out the partitions outside of the window:
 *
 *		... WHERE e.name = cdp._condition_key(...)			folded, a constant
 *			  AND e.occurred_at > cdp._condition_start(...)	once per call site
 *			  AND e.occurred_at <= coalesce(at, cdp.now())
 *
 * There is no place for a statement that looks at the arguments first.
 * Instead both functions look at all they are given: constants are refused
 * while the query is planned, even if it would find nothing to read;
 * parameters when the executor chooses the partitions, before it reads one.
 * Only the start gets at, so that the key is a constant whatever at is.
 *
 * A month or a day is one of the calendar of cdp.timezone.  The operator of
 * PostgreSQL would take the session's TimeZone, and two sessions would count
 * different events.
 *
 * SQL: sql/event_condition.sql.  Tests: test/sql/event_condition.sql,
 * test/pgtap/event_condition.sql.  Page: doc/event_condition.md.
 */
#include "cdp.h"

#include "access/parallel.h"
#include "common/int.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(cdp_condition_key);
PG_FUNCTION_INFO_V1(cdp_condition_start);

/* arguments of both functions; at of the second only */
#define ARG_WHAT		0
#define ARG_KEY			1
#define ARG_WITHIN		2
#define ARG_AT_LEAST	3
#define ARG_AT			4

/* the answer of a call site, for as long as what it follows from stays */
typedef struct WindowCache
{
	bool		valid;
	bool		ever;			/* within is NULL */
	Interval	within;
	int32		at_least;
	TimestampTz end;
	struct pg_tz *zone;
	TimestampTz start;
} WindowCache;

/* Refuse arguments that cannot be meant. */
static void
check_arguments(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(ARG_KEY))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be NULL", PG_ARGISNULL(ARG_WHAT) ? "key" : text_to_cstring(PG_GETARG_TEXT_PP(ARG_WHAT))),
				 errhint("Name the one that is looked for.")));
	if (PG_ARGISNULL(ARG_AT_LEAST))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("at_least must not be NULL"),
				 errhint("Leave it out for 1.")));
	if (PG_GETARG_INT32(ARG_AT_LEAST) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("at_least must be at least 1"),
				 errhint("Those who did not: SELECT customer_id FROM cdp.customer EXCEPT SELECT … with at_least => 1.")));
	if (!PG_ARGISNULL(ARG_WITHIN))
	{
		Interval   *within = PG_GETARG_INTERVAL_P(ARG_WITHIN);

		if (within->month < 0 || within->day < 0 || within->time < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("within must not be negative, nor any part of it"),
					 errhint("It says how far the window reaches back from at, for example '30 days'; a window in the past has an earlier at.")));
	}
}

/*
 * Go back by months, to the last day of a month that is too short, and by
 * days, on the calendar of cdp.timezone.  False where that calendar ends.
 */
static bool
calendar_back(TimestampTz *at, int32 months, int32 days)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			tz;
	int64		month,
				julian;

	if (timestamp2tm(*at, &tz, &tm, &fsec, NULL, cdp_zone()) != 0)
		return false;
	/* counted from the first year that there is, so it has no sign */
	month = (int64) (tm.tm_year - JULIAN_MINYEAR) * MONTHS_PER_YEAR + tm.tm_mon - 1 - months;
	if (month < 0)
		return false;
	tm.tm_year = month / MONTHS_PER_YEAR + JULIAN_MINYEAR;
	tm.tm_mon = month % MONTHS_PER_YEAR + 1;
	tm.tm_mday = Min(tm.tm_mday, day_tab[isleap(tm.tm_year)][tm.tm_mon - 1]);
	if (!IS_VALID_JULIAN(tm.tm_year, tm.tm_mon, tm.tm_mday))
		return false;
	julian = (int64) date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - days;
	if (julian < 0)
		return false;
	j2date((int) julian, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	tz = DetermineTimeZoneOffset(&tm, cdp_zone());
	return tm2timestamp(&tm, fsec, &tz, at) == 0;
}

/*
 * What at - span is for a session whose TimeZone is cdp.timezone: months,
 * then days, then hours that are hours.  No part of span is negative.
 * -infinity where the calendar ends.
 */
static TimestampTz
moment_before(TimestampTz at, const Interval *span)
{
	if ((span->month != 0 && !calendar_back(&at, span->month, 0)) ||
		(span->day != 0 && !calendar_back(&at, 0, span->day)) ||
		pg_sub_s64_overflow(at, span->time, &at) || at < MIN_TIMESTAMP)
		return DT_NOBEGIN;
	return at;
}

/* cdp._condition_key(what, key, within, at_least) -> the key, once the arguments are sound */
Datum
cdp_condition_key(PG_FUNCTION_ARGS)
{
	check_arguments(fcinfo);
	PG_RETURN_DATUM(PG_GETARG_DATUM(ARG_KEY));
}

/*
 * cdp._condition_start(what, key, within, at_least, at) -> timestamptz: what
 * is later belongs to the window; -infinity when within is NULL.
 *
 * A query asks once per row that the partitions did not settle, so a call
 * site remembers the answer.
 */
Datum
cdp_condition_start(PG_FUNCTION_ARGS)
{
	WindowCache *cache = fcinfo->flinfo->fn_extra;
	bool		ever = PG_ARGISNULL(ARG_WITHIN);
	Interval   *within = ever ? NULL : PG_GETARG_INTERVAL_P(ARG_WITHIN);
	int32		at_least = PG_ARGISNULL(ARG_AT_LEAST) ? 0 : PG_GETARG_INT32(ARG_AT_LEAST);
	TimestampTz end = PG_ARGISNULL(ARG_AT) ? cdp_now_value() : PG_GETARG_TIMESTAMPTZ(ARG_AT);

	if (cache == NULL)
		cache = fcinfo->flinfo->fn_extra = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(WindowCache));
	if (cache->valid && !PG_ARGISNULL(ARG_KEY) && cache->at_least == at_least && cache->end == end &&
		cache->zone == cdp_zone() && cache->ever == ever &&
		(ever || (cache->within.month == within->month && cache->within.day == within->day &&
				  cache->within.time == within->time)))
		PG_RETURN_TIMESTAMPTZ(cache->start);

	/* the leader has looked */
	if (!IsParallelWorker())
		cdp_check_version();
	check_arguments(fcinfo);
	if (TIMESTAMP_NOT_FINITE(end))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("at must be a finite time"),
				 errhint("Leave it out for the present moment.")));
	cache->ever = ever;
	if (!ever)
		cache->within = *within;
	cache->at_least = at_least;
	cache->end = end;
	cache->zone = cdp_zone();
	cache->start = ever ? DT_NOBEGIN : moment_before(end, within);
	cache->valid = true;
	PG_RETURN_TIMESTAMPTZ(cache->start);
}
