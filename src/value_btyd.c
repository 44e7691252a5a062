/*
 * value_btyd.c
 *	  Aggregate cdp.btyd: a customer's purchases as the models want them.
 *
 *		SELECT customer_id, (cdp.btyd(paid_at, amount, '2026-01-01', '7 days')).*
 *		FROM orders GROUP BY customer_id;
 *
 * The state (value_btyd.h) is a list of days, one entry per row at first.
 * When it is full it is sorted and equal days become one; only a list that
 * stays more than half full gets more room.  So it takes 24 bytes per day of
 * purchase, at most four times, in whatever order the rows come.
 *
 * The state is changed in place, like that of cdp.rfm.
 *
 * SQL: sql/value_btyd.sql.  Tests: test/sql/value_btyd.sql,
 * test/pgtap/value_btyd.sql.  Page: doc/value_btyd.md.
 */
#include "value_btyd.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_btyd_accum_days);
PG_FUNCTION_INFO_V1(cdp_btyd_accum);
PG_FUNCTION_INFO_V1(cdp_btyd_accum_refunds);
PG_FUNCTION_INFO_V1(cdp_btyd_combine);
PG_FUNCTION_INFO_V1(cdp_btyd_final);

#define FIRST_ROOM	4
#define MAX_ROOM	((MaxAllocSize - offsetof(BtydState, days)) / sizeof(BtydDay))

/* The state of a running aggregate, which may be changed in place. */
static BtydState *
state_to_change(FunctionCallInfo fcinfo)
{
	cdp_aggregate_context(fcinfo, "Use the aggregate cdp.btyd(occurred_at, amount, as_of, unit).");
	return (BtydState *) PG_DETOAST_DATUM(PG_GETARG_DATUM(0));
}

/* The calendar of the running query. */
static BtydCalendar *
calendar_of(FunctionCallInfo fcinfo)
{
	if (fcinfo->flinfo->fn_extra == NULL)
		fcinfo->flinfo->fn_extra = cdp_btyd_calendar(fcinfo->flinfo->fn_mcxt);
	return fcinfo->flinfo->fn_extra;
}

/*
 * Room for more days: in place, or a larger copy in the current context,
 * which an aggregate's caller takes over.
 */
static BtydState *
with_room(BtydState *state, uint32 more)
{
	BtydState  *result;
	uint64		room;

	if (state->n + (uint64) more <= state->room)
		return state;
	state->n = cdp_btyd_sort(state->days, state->n);
	if (state->n + (uint64) more <= state->room / 2)
		return state;
	room = Max(FIRST_ROOM, ((uint64) state->n + more) * 2);
	if (room > MAX_ROOM)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many days of purchase in one group"),
				 errhint("GROUP BY the customer.")));
	result = palloc(BTYD_STATE_SIZE(room));
	memcpy(result, state, BTYD_STATE_SIZE(state->n));
	/* what is not in use travels too, between workers */
	memset(result->days + state->n, 0, (room - state->n) * sizeof(BtydDay));
	SET_VARSIZE(result, BTYD_STATE_SIZE(room));
	result->room = room;
	return result;
}

static BtydState *
add_day(BtydState *state, int32 day, int128 net, bool purchase)
{
	BtydDay    *last = state->n > 0 ? &state->days[state->n - 1] : NULL;

	if (last == NULL || last->day != day)
	{
		state = with_room(state, 1);
		last = &state->days[state->n++];
		last->day = day;
		last->net = 0;
		last->purchase = 0;
	}
	last->net = cdp_btyd_add(last->net, net);
	last->purchase |= purchase;
	return state;
}

/* Is this row one that exists?  Also settles as_of, unit and rule by the first row. */
static bool
row_counts(FunctionCallInfo fcinfo, BtydState *state, TimestampTz occurred_at, TimestampTz as_of, const Interval *unit, BtydRule rule)
{
	int32		days = cdp_btyd_unit(unit);

	if (unlikely(as_of != state->as_of || TIMESTAMP_IS_NOBEGIN(as_of)))
	{
		if (!TIMESTAMP_IS_NOBEGIN(state->as_of) || TIMESTAMP_NOT_FINITE(as_of))
			cdp_purchase_refuse_as_of();
		state->as_of = as_of;
		state->as_of_day = cdp_btyd_day(calendar_of(fcinfo), as_of);
		state->unit = days;
		state->rule = rule;
	}
	if (unlikely(days != state->unit || rule != state->rule))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be the same for all rows of a group", days != state->unit ? "unit" : "refunds"),
				 errhint("Give a constant.")));
	if (unlikely(TIMESTAMP_NOT_FINITE(occurred_at)))
		cdp_purchase_refuse_time();
	return occurred_at <= as_of;
}

/* A row with an amount. */
static BtydState *
add_amount(FunctionCallInfo fcinfo, BtydState *state, BtydRule rule)
{
	TimestampTz occurred_at = PG_GETARG_TIMESTAMPTZ(1);
	bool		negative;
	int128		units;

	if (!row_counts(fcinfo, state, occurred_at, PG_GETARG_TIMESTAMPTZ(3), PG_GETARG_INTERVAL_P(4), rule))
		return state;
	units = cdp_btyd_units(PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(2)), &negative);
	if (negative && rule == BTYD_IGNORE)
		return state;
	return add_day(state, cdp_btyd_day(calendar_of(fcinfo), occurred_at), negative ? -units : units, !negative);
}

/* cdp._btyd_accum(state, occurred_at, as_of, unit) */
Datum
cdp_btyd_accum_days(PG_FUNCTION_ARGS)
{
	BtydState  *state = state_to_change(fcinfo);
	TimestampTz occurred_at = PG_GETARG_TIMESTAMPTZ(1);

	if (row_counts(fcinfo, state, occurred_at, PG_GETARG_TIMESTAMPTZ(2), PG_GETARG_INTERVAL_P(3), BTYD_DAYS))
		state = add_day(state, cdp_btyd_day(calendar_of(fcinfo), occurred_at), 0, true);
	PG_RETURN_POINTER(state);
}

/* cdp._btyd_accum(state, occurred_at, amount, as_of, unit) */
Datum
cdp_btyd_accum(PG_FUNCTION_ARGS)
{
	BtydState  *state = state_to_change(fcinfo);

	PG_RETURN_POINTER(add_amount(fcinfo, state, BTYD_IGNORE));
}

/* cdp._btyd_accum(state, occurred_at, amount, as_of, unit, refunds) */
Datum
cdp_btyd_accum_refunds(PG_FUNCTION_ARGS)
{
	BtydState  *state = state_to_change(fcinfo);

	PG_RETURN_POINTER(add_amount(fcinfo, state, cdp_btyd_rule(PG_GETARG_TEXT_PP(5))));
}

/* cdp._btyd_combine(a, b): b into a */
Datum
cdp_btyd_combine(PG_FUNCTION_ARGS)
{
	BtydState  *a = state_to_change(fcinfo);
	BtydState  *b = (BtydState *) PG_DETOAST_DATUM(PG_GETARG_DATUM(1));

	if (TIMESTAMP_IS_NOBEGIN(b->as_of))
		PG_RETURN_POINTER(a);
	if (TIMESTAMP_IS_NOBEGIN(a->as_of))
	{
		a->as_of = b->as_of;
		a->as_of_day = b->as_of_day;
		a->unit = b->unit;
		a->rule = b->rule;
	}
	else if (a->as_of != b->as_of)
		cdp_purchase_refuse_as_of();
	else if (a->unit != b->unit || a->rule != b->rule || a->as_of_day != b->as_of_day)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("states of different unit, rule for refunds or time zone do not combine"),
				 errhint("Make them with the same arguments and the same cdp.timezone.")));
	if (b->n > 0)
	{
		a = with_room(a, b->n);
		memcpy(a->days + a->n, b->days, b->n * sizeof(BtydDay));
		a->n += b->n;
	}
	PG_RETURN_POINTER(a);
}

/* cdp._btyd_final(state) -> cdp.btyd */
Datum
cdp_btyd_final(PG_FUNCTION_ARGS)
{
	BtydState  *state = (BtydState *) PG_DETOAST_DATUM(PG_GETARG_DATUM(0));
	BtydDay    *days;
	BtydSummary s;
	Datum		values[5];
	bool		nulls[5] = {false};
	uint32		n;

	if (state->n == 0)
		PG_RETURN_NULL();
	/* as a window more rows may follow: the state stays as it is */
	days = palloc(state->n * sizeof(BtydDay));
	memcpy(days, state->days, state->n * sizeof(BtydDay));
	n = cdp_btyd_sort(days, state->n);
	if (!cdp_btyd_summarise(days, n, state->rule, state->as_of_day, state->unit, &s))
		PG_RETURN_NULL();
	values[0] = Int64GetDatum(s.x);
	values[1] = Float8GetDatum(s.t_x);
	values[2] = Float8GetDatum(s.t_cal);
	values[3] = Float8GetDatum(s.mean_amount);
	nulls[3] = !s.has_mean;
	values[4] = Float8GetDatum(s.log_gaps);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(cdp_result_desc(fcinfo), values, nulls)));
}
