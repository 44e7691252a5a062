/*
 * value_btyd_days.c
 *	  Days of purchase: which day a moment belongs to, and what all days of a
 *	  customer say of him.
 *
 * Turning a moment into a date of a time zone costs more than everything
 * else that is done to a row.  But an offset from UTC holds for months: a
 * table remembers, per day of UTC, the offset that holds for all of it, and
 * the date is a division.  Only a day in which the clocks change is asked
 * moment by moment.
 *
 * SQL: sql/value_btyd.sql.  Tests: test/sql/value_btyd.sql,
 * test/pgtap/value_btyd.sql.  Page: doc/value_btyd.md.
 */
#include "value_btyd.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"

#include <math.h>

/* days of UTC that are remembered: eleven years in a row */
#define CALENDAR_DAYS	4096
#define CHANGES			PG_INT32_MAX	/* instead of an offset */

typedef struct CalendarDay
{
	int32		utc_day;
	int32		offset;			/* seconds east of UTC, or CHANGES */
} CalendarDay;

struct BtydCalendar
{
	pg_tz	   *zone;
	CalendarDay days[CALENDAR_DAYS];
};

/*
 * Calendar
 */

BtydCalendar *
cdp_btyd_calendar(MemoryContext context)
{
	BtydCalendar *calendar = MemoryContextAlloc(context, sizeof(BtydCalendar));

	calendar->zone = cdp_zone();
	/* no day has this place in the table and this number */
	for (int i = 0; i < CALENDAR_DAYS; i++)
		calendar->days[i].utc_day = i + 1;
	return calendar;
}

static inline int32
floor_day(int64 at)
{
	return (int32) (at >= 0 ? at / USECS_PER_DAY : -((-at + USECS_PER_DAY - 1) / USECS_PER_DAY));
}

/* The date of one moment, by the book. */
int32
cdp_btyd_day_slow(BtydCalendar *calendar, TimestampTz at)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			tz;

	if (timestamp2tm(at, &tz, &tm, &fsec, NULL, calendar->zone) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
}

static pg_noinline void
remember_day(BtydCalendar *calendar, CalendarDay *entry, int32 utc_day)
{
	pg_time_t	begin = ((pg_time_t) utc_day + POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	pg_time_t	boundary;
	long		before;
	long		after;
	int			before_isdst;
	int			after_isdst;
	int			rc = pg_next_dst_boundary(&begin, &before, &before_isdst, &boundary, &after, &after_isdst, calendar->zone);

	entry->utc_day = utc_day;
	entry->offset = rc == 0 || (rc == 1 && boundary >= begin + SECS_PER_DAY) ? (int32) before : CHANGES;
}

/* The date of a moment in cdp.timezone, in days since 2000-01-01. */
int32
cdp_btyd_day(BtydCalendar *calendar, TimestampTz at)
{
	int32		utc_day = floor_day(at);
	CalendarDay *entry = &calendar->days[(uint32) utc_day % CALENDAR_DAYS];

	if (unlikely(entry->utc_day != utc_day))
		remember_day(calendar, entry, utc_day);
	if (unlikely(entry->offset == CHANGES))
		return cdp_btyd_day_slow(calendar, at);
	return floor_day(at + entry->offset * USECS_PER_SEC);
}

/*
 * Arguments
 */

/* A unit of time in days. */
int32
cdp_btyd_unit(const Interval *unit)
{
	int64		days = unit->day + unit->time / USECS_PER_DAY;

	if (unit->month != 0 || unit->time % USECS_PER_DAY != 0 || days < 1 || days > BTYD_MAX_UNIT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unit must be a whole number of days, from 1 to %d", BTYD_MAX_UNIT),
				 errhint("Months differ in length: say 7 days for weeks, 30 days for months.")));
	return (int32) days;
}

BtydRule
cdp_btyd_rule(const text *refunds)
{
	const char *word = VARDATA_ANY(refunds);
	int			len = VARSIZE_ANY_EXHDR(refunds);

	if (len == 6 && memcmp(word, "ignore", 6) == 0)
		return BTYD_IGNORE;
	if (len == 7 && memcmp(word, "net_day", 7) == 0)
		return BTYD_NET_DAY;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no rule for refunds \"%.*s\"", pg_mbcliplen(word, len, 64), word),
			 errhint("The rules are ignore and net_day.")));
}

/* An amount that is no multiple of 10^-8 below 10^16. */
static pg_noinline int128
units_slowly(Numeric amount)
{
	Datum		shifted = DirectFunctionCall2(numeric_mul, NumericGetDatum(amount),
											  DirectFunctionCall1(int8_numeric, Int64GetDatum(INT64CONST(100000000))));
	const char *digits = DatumGetCString(DirectFunctionCall1(numeric_out,
															 DirectFunctionCall2(numeric_round, shifted, Int32GetDatum(0))));
	int128		units = 0;

	if (*digits == '-')
		digits++;
	for (; *digits; digits++)
	{
		units = units * 10 + (*digits - '0');
		if (units >= BTYD_MAX_UNITS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the amount of a purchase must be below 10^20"),
					 errhint("Leave such rows out: WHERE abs(amount) < 1e20.")));
	}
	return units;
}

/* An amount without its sign, in 10^-8, rounded when it has more decimals. */
int128
cdp_btyd_units(struct varlena *amount, bool *negative)
{
	int128		units = 0;
	int			dscale;

	switch (cdp_money_read(amount, &units, negative, &dscale))
	{
		case MONEY_FITS:
			break;
		case MONEY_LARGE:
			units = units_slowly(DatumGetNumeric(PointerGetDatum(amount)));
			break;
		case MONEY_SPECIAL:
			cdp_purchase_refuse_amount();
	}
	return units;
}

int128
cdp_btyd_add(int128 a, int128 b)
{
	int128		sum;

	if (__builtin_add_overflow(a, b, &sum))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("the sum of amounts is out of range")));
	return sum;
}

/*
 * Days to numbers
 */

#define ST_SORT btyd_sort_days
#define ST_ELEMENT_TYPE BtydDay
#define ST_COMPARE(a, b) ((a)->day < (b)->day ? -1 : (a)->day > (b)->day)
#define ST_CHECK_FOR_INTERRUPTS
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

/* Sorts days and adds up equal ones; answers how many are left. */
uint32
cdp_btyd_sort(BtydDay *days, uint32 n)
{
	uint32		kept = 0;

	if (n == 0)
		return 0;
	btyd_sort_days(days, n);
	for (uint32 i = 1; i < n; i++)
	{
		if (days[i].day == days[kept].day)
		{
			days[kept].net = cdp_btyd_add(days[kept].net, days[i].net);
			days[kept].purchase |= days[i].purchase;
		}
		else
			days[++kept] = days[i];
	}
	return kept + 1;
}

/*
 * units / (10^8 * x) as a float8.  As long as both sides are whole numbers
 * that a float8 holds, the division rounds once, so the answer does not
 * depend on how the sum came about.
 */
static double
mean_of(int128 units, int64 x)
{
	int64		per = INT64CONST(100000000);

	/* money has zeros at its end, as a rule */
	while (per > 1 && (units > INT64CONST(1) << 53 || units < -(INT64CONST(1) << 53)) && units % 10 == 0)
	{
		units /= 10;
		per /= 10;
	}
	return (double) units / ((double) per * (double) x);
}

/*
 * What the days of a customer, sorted and each once, say of him; false when
 * none of them counts.
 */
bool
cdp_btyd_summarise(const BtydDay *days, uint32 n, BtydRule rule, int32 as_of_day, int32 unit, BtydSummary *result)
{
	int128		later = 0;
	bool		any = false;

	result->x = 0;
	result->log_gaps = 0;
	for (uint32 i = 0; i < n; i++)
	{
		if (!btyd_counts(&days[i], rule))
			continue;
		if (!any)
			result->first_day = days[i].day;
		else
		{
			result->x++;
			result->log_gaps += log((double) (days[i].day - result->last_day) / unit);
			later = cdp_btyd_add(later, days[i].net);
		}
		result->last_day = days[i].day;
		any = true;
	}
	if (!any)
		return false;
	/* where clocks go back over midnight, a moment before as_of may have a later date */
	as_of_day = Max(as_of_day, result->last_day);
	result->t_x = (double) (result->last_day - result->first_day) / unit;
	result->t_cal = (double) (as_of_day - result->first_day) / unit;
	result->has_mean = rule != BTYD_DAYS && result->x > 0;
	result->mean_amount = result->has_mean ? mean_of(later, result->x) : 0;
	return true;
}
