/*
 * points_program.c
 *	  Rows of cdp.points_program in memory, and the dates that follow from
 *	  them.
 *
 * Calendar rules go by cdp.timezone: "12 months" from 31 March 10:00 is
 * 31 March 10:00 a year later on the clocks of that zone.
 *
 * Page: doc/points.md.  Tests: test/sql/points.sql.
 */
#include "points.h"

#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

typedef struct Known
{
	char		name[NAMEDATALEN];
	PointsProgram program;
} Known;

static HTAB *programs = NULL;
static MemoryContext context = NULL;
static uint64 loaded_epoch = 0;

static int64
int8_or_none(HeapTuple tup, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tup, desc, column, &isnull);

	return isnull ? -1 : DatumGetInt64(value);
}

static Interval
interval_or_zero(HeapTuple tup, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tup, desc, column, &isnull);
	Interval	zero = {0, 0, 0};

	return isnull ? zero : *DatumGetIntervalP(value);
}

static void
read_program(PointsProgram *g, HeapTuple tup, TupleDesc desc)
{
	static const char *const modes[] = {"never", "rolling", "end_of_month", "end_of_year", "fixed_date", "inactivity"};
	char	   *mode = SPI_getvalue(tup, desc, 2);
	char	   *day = SPI_getvalue(tup, desc, 4);
	bool		isnull;

	g->name = MemoryContextStrdup(context, SPI_getvalue(tup, desc, 1));
	MemoryContextSwitchTo(context);
	g->name_datum = CStringGetTextDatum(g->name);
	for (int i = 0; i < lengthof(modes); i++)
	{
		if (strcmp(mode, modes[i]) == 0)
			g->expiry = (PointsExpiry) i;
	}
	g->validity = interval_or_zero(tup, desc, 3);
	if (day != NULL)
		sscanf(day, "%d-%d", &g->fixed_month, &g->fixed_day);
	g->pending = interval_or_zero(tup, desc, 5);
	g->consumption = SPI_getvalue(tup, desc, 6)[1];
	if (g->consumption == 'i' && SPI_getvalue(tup, desc, 6)[0] == 'l')
		g->consumption = 'l';
	g->negative = SPI_getvalue(tup, desc, 7)[0];
	g->debt_limit = int8_or_none(tup, desc, 8);
	g->max_balance = int8_or_none(tup, desc, 9);
	g->max_earn_per_day = int8_or_none(tup, desc, 10);
	g->refund_min_validity = interval_or_zero(tup, desc, 11);
	g->has_refund_min = g->refund_min_validity.time != 0 || g->refund_min_validity.day != 0 || g->refund_min_validity.month != 0;
	g->transferable = DatumGetBool(SPI_getbinval(tup, desc, 12, &isnull));
}

/* all of them again */
static void
load(void)
{
	static SPIPlanPtr plan = NULL;
	uint64		epoch = cdp_rules_epoch;
	Oid			relid = cdp_relation("points_program");
	MemoryContext caller = CurrentMemoryContext;
	HASHCTL		ctl;
	CdpVerb		verb;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the tables of customer_cdp have not been created"),
				 errhint("CALL cdp.migrate();")));
	cdp_watch_rules(relid);
	epoch = cdp_rules_epoch;
	programs = NULL;
	if (context == NULL)
		context = AllocSetContextCreate(CacheMemoryContext, "customer_cdp points programs", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(context);
	cdp_begin_unchecked(&verb);
	cdp_read_rules(&plan, "SELECT program::text, expiry_mode, validity, fixed_month_day, pending, consumption, negative, debt_limit,"
				   " max_balance, max_earn_per_day, refund_min_validity, transferable FROM cdp.points_program");
	ctl.keysize = NAMEDATALEN;
	ctl.entrysize = sizeof(Known);
	ctl.hcxt = context;
	programs = hash_create("customer_cdp points programs", 16, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		Known	   *known = hash_search(programs, name, HASH_ENTER, NULL);

		memset(&known->program, 0, sizeof(PointsProgram));
		read_program(&known->program, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	}
	SPI_freetuptable(SPI_tuptable);
	cdp_end(&verb);
	MemoryContextSwitchTo(caller);
	loaded_epoch = epoch;
}

const PointsProgram *
points_program(const char *name, int len)
{
	char		key[NAMEDATALEN];
	Known	   *known;

	if (len >= NAMEDATALEN)
		return NULL;
	if (programs == NULL || loaded_epoch != cdp_rules_epoch)
		load();
	memcpy(key, name, len);
	key[len] = '\0';
	known = hash_search(programs, key, HASH_FIND, NULL);
	return known ? &known->program : NULL;
}

const PointsProgram *
points_require_program(const char *name, int len, const char *of_item)
{
	const PointsProgram *program = points_program(name, len);

	if (program == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%sthere is no program of points \"%s\"", of_item, pnstrdup(name, len)),
				 errhint("Each row of cdp.points_program is one; INSERT INTO cdp.points_program (program) VALUES (…) makes another.")));
	return program;
}

/* ------------------------------------------------------------------- dates */

pg_noreturn static void
out_of_range(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
			 errmsg("a date that follows from the rules of the program is out of range"),
			 errhint("Look at validity, pending and refund_min_validity of the program, and at the moment that was passed.")));
}

static void
split(TimestampTz at, struct pg_tm *tm, fsec_t *fsec)
{
	int			tz;

	if (timestamp2tm(at, &tz, tm, fsec, NULL, cdp_zone()) != 0)
		out_of_range();
}

static TimestampTz
join(struct pg_tm *tm, fsec_t fsec)
{
	int			tz = DetermineTimeZoneOffset(tm, cdp_zone());
	TimestampTz at;

	if (tm2timestamp(tm, fsec, &tz, &at) != 0)
		out_of_range();
	return at;
}

/* the day of tm, which may lie beyond its month */
static void
set_day(struct pg_tm *tm, int64 julian)
{
	if (julian < 0 || julian > INT_MAX)
		out_of_range();
	j2date((int) julian, &tm->tm_year, &tm->tm_mon, &tm->tm_mday);
}

/* months and days on the calendar of cdp.timezone, then the rest */
TimestampTz
points_plus(TimestampTz at, const Interval *span)
{
	if (TIMESTAMP_NOT_FINITE(at))
		return at;
	if (span->month != 0 || span->day != 0)
	{
		struct pg_tm tm;
		fsec_t		fsec;
		int64		months;

		split(at, &tm, &fsec);
		months = (int64) tm.tm_year * 12 + tm.tm_mon - 1 + span->month;
		if (months < -5000 * 12 || months > INT64CONST(300000) * 12)
			out_of_range();
		tm.tm_year = months / 12 - (months % 12 < 0);
		tm.tm_mon = (months % 12 + 12) % 12 + 1;
		if (tm.tm_mday > day_tab[isleap(tm.tm_year)][tm.tm_mon - 1])
			tm.tm_mday = day_tab[isleap(tm.tm_year)][tm.tm_mon - 1];
		if (span->day != 0)
			set_day(&tm, (int64) date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) + span->day);
		at = join(&tm, fsec);
	}
	if (pg_add_s64_overflow(at, span->time, &at) || !IS_VALID_TIMESTAMP(at))
		out_of_range();
	return at;
}

int32
points_day(TimestampTz at)
{
	struct pg_tm tm;
	fsec_t		fsec;

	split(at, &tm, &fsec);
	return date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
}

TimestampTz
points_available_at(const PointsProgram *g, TimestampTz earned_at)
{
	return points_plus(earned_at, &g->pending);
}

/* midnight after a day that may not exist in that year, such as 29 February */
static TimestampTz
end_of_day(int year, int month, int day)
{
	struct pg_tm tm = {0};

	set_day(&tm, (int64) date2j(year, month, Min(day, day_tab[isleap(year)][month - 1])) + 1);
	return join(&tm, 0);
}

TimestampTz
points_expires_at(const PointsProgram *g, TimestampTz earned_at)
{
	struct pg_tm tm;
	fsec_t		fsec;
	TimestampTz at;

	if (g->expiry == EXPIRY_NEVER || g->expiry == EXPIRY_INACTIVITY)
		return DT_NOEND;
	at = points_plus(earned_at, &g->validity);
	if (g->expiry == EXPIRY_ROLLING)
		return at;
	split(at, &tm, &fsec);
	switch (g->expiry)
	{
		case EXPIRY_MONTH:
			return end_of_day(tm.tm_year, tm.tm_mon, 31);
		case EXPIRY_YEAR:
			return end_of_day(tm.tm_year, 12, 31);
		default:
			{
				TimestampTz end = end_of_day(tm.tm_year, g->fixed_month, g->fixed_day);

				/* the next such day, today's too */
				return at < end ? end : end_of_day(tm.tm_year + 1, g->fixed_month, g->fixed_day);
			}
	}
}
