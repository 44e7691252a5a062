/*
 * value.c
 *	  Aggregate cdp.rfm: recency, frequency and money of one customer.
 *
 *		SELECT customer_id, (cdp.rfm(paid_at, amount, '2026-01-01')).*
 *		FROM orders GROUP BY customer_id;
 *
 * A row costs about as much as one of the max, count and sum(numeric) that
 * it replaces: the digits of a numeric are read where they lie (see
 * value_money.c), and the state is changed in place.  The state type has a
 * combine function and no INTERNAL in it, so parallel plans, stored partial
 * results and distributed engines all work (value.h).
 *
 * In place means: what these functions get as first argument is scribbled
 * on.  They refuse to run outside an aggregate, where it could be a row of
 * a table or a constant of a plan.
 *
 * SQL: sql/value.sql.  Tests: test/sql/value.sql, test/pgtap/value.sql.
 * Page: doc/value.md.
 */
#include "value.h"

#include "common/int.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_rfm_accum_numeric);
PG_FUNCTION_INFO_V1(cdp_rfm_accum_bigint);
PG_FUNCTION_INFO_V1(cdp_rfm_accum_float8);
PG_FUNCTION_INFO_V1(cdp_rfm_accum_order);
PG_FUNCTION_INFO_V1(cdp_rfm_combine);
PG_FUNCTION_INFO_V1(cdp_rfm_final);
PG_FUNCTION_INFO_V1(cdp_rfm_detail_final);

pg_noinline void
cdp_purchase_refuse_as_of(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("as_of must be one finite time for all rows of a group"),
			 errhint("Give a constant, for example cdp.now().")));
}

pg_noinline void
cdp_purchase_refuse_time(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the time of a purchase must be finite"),
			 errhint("Leave such rows out: WHERE isfinite(occurred_at).")));
}

pg_noinline void
cdp_purchase_refuse_amount(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the amount of a purchase must be a finite number"),
			 errhint("Leave such rows out: WHERE amount NOT IN ('NaN', 'Infinity', '-Infinity').")));
}

/* Two currencies, told in the same order whichever row came first. */
pg_noinline void
cdp_purchase_refuse_currency(const char *a, int a_len, const char *b, int b_len)
{
	char	   *low = pnstrdup(a, a_len);
	char	   *high = pnstrdup(b, b_len);

	if (strcmp(low, high) > 0)
	{
		char	   *swap = low;

		low = high;
		high = swap;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("purchases are in more than one currency, %.*s and %.*s among them",
					pg_mbcliplen(low, strlen(low), 10), low, pg_mbcliplen(high, strlen(high), 10), high),
			 errhint("Name the currency of the result, currency => 'CNY', and give the rates in cdp.currency_rate; or select one currency in the query.")));
}

/* timestamp_mi() notices such an overflow from PostgreSQL 17 on only */
int64
cdp_purchase_recency(TimestampTz as_of, TimestampTz at)
{
	int64		span;

	if (unlikely(pg_sub_s64_overflow(as_of, at, &span)))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("interval out of range"),
				 errhint("Leave out what lies more than 290,000 years before as_of.")));
	return span;
}

/* The state of a running aggregate, which may be changed in place. */
static inline RfmState *
state_to_change(FunctionCallInfo fcinfo)
{
	cdp_aggregate_context(fcinfo, "Use the aggregate cdp.rfm(occurred_at, amount, as_of).");
	/* a state that comes from a tuple may be packed: then this is a copy, which the caller takes over */
	return (RfmState *) PG_DETOAST_DATUM(PG_GETARG_DATUM(0));
}

/* Is this row one that exists?  Also settles as_of. */
static inline bool
row_counts(RfmState *state, TimestampTz occurred_at, TimestampTz as_of)
{
	if (unlikely(as_of != state->as_of))
	{
		if (!TIMESTAMP_IS_NOBEGIN(state->as_of) || TIMESTAMP_NOT_FINITE(as_of))
			cdp_purchase_refuse_as_of();
		state->as_of = as_of;
	}
	if (unlikely(TIMESTAMP_NOT_FINITE(occurred_at)))
		cdp_purchase_refuse_time();
	if (likely(occurred_at <= as_of))
		return true;
	/* this one looks like the as_of of a state without rows; nothing is before it */
	if (unlikely(TIMESTAMP_IS_NOBEGIN(as_of)))
		cdp_purchase_refuse_as_of();
	return false;
}

/* An integer that is full hands its content to the slow part. */
static pg_noinline RfmState *
add_overflowing(RfmState *state, int128 units, uint16 part)
{
	int128	   *sum = part == RFM_GROSS_REST ? &state->gross : &state->refunded;
	Numeric		full = cdp_money_numeric(*sum, state->dscale);

	*sum = units;
	return cdp_rfm_add_rest(state, full, part);
}

static inline RfmState *
add_units(RfmState *state, int128 units, uint16 part)
{
	int128	   *sum = part == RFM_GROSS_REST ? &state->gross : &state->refunded;
	int128		total;

	if (unlikely(__builtin_add_overflow(*sum, units, &total)))
		return add_overflowing(state, units, part);
	*sum = total;
	return state;
}

static inline void
note_purchase(RfmState *state, TimestampTz occurred_at)
{
	state->purchases++;
	if (occurred_at < state->first_at)
		state->first_at = occurred_at;
	if (occurred_at > state->last_at)
		state->last_at = occurred_at;
}

/* A purchase or, below zero, a refund. */
static inline RfmState *
add_row(RfmState *state, TimestampTz occurred_at, int128 units, bool negative, int dscale)
{
	if (dscale > state->dscale)
		state->dscale = dscale;
	if (unlikely(negative))
		return add_units(state, units, RFM_REFUNDED_REST);
	note_purchase(state, occurred_at);
	return add_units(state, units, RFM_GROSS_REST);
}

static inline RfmState *
add_numeric_row(RfmState *state, TimestampTz occurred_at, struct varlena *amount)
{
	int128		units;
	bool		negative;
	int			dscale;

	switch (cdp_money_read(amount, &units, &negative, &dscale))
	{
		case MONEY_FITS:
			return add_row(state, occurred_at, units, negative, dscale);
		case MONEY_SPECIAL:
			cdp_purchase_refuse_amount();
			break;
		case MONEY_LARGE:
			break;
	}
	if (dscale > state->dscale)
		state->dscale = dscale;
	if (!negative)
		note_purchase(state, occurred_at);
	return cdp_rfm_add_rest(state,
							DatumGetNumeric(DirectFunctionCall1(numeric_abs, PointerGetDatum(amount))),
							negative ? RFM_REFUNDED_REST : RFM_GROSS_REST);
}

/* cdp._rfm_accum(state, occurred_at, amount numeric, as_of) */
Datum
cdp_rfm_accum_numeric(PG_FUNCTION_ARGS)
{
	RfmState   *state = state_to_change(fcinfo);

	if (row_counts(state, PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_TIMESTAMPTZ(3)))
		state = add_numeric_row(state, PG_GETARG_TIMESTAMPTZ(1), PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(2)));
	PG_RETURN_POINTER(state);
}

/* cdp._rfm_accum(state, occurred_at, amount bigint, as_of) */
Datum
cdp_rfm_accum_bigint(PG_FUNCTION_ARGS)
{
	RfmState   *state = state_to_change(fcinfo);
	int64		amount = PG_GETARG_INT64(2);

	if (row_counts(state, PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_TIMESTAMPTZ(3)))
	{
		int128		units = (int128) amount * INT64CONST(100000000);

		state = add_row(state, PG_GETARG_TIMESTAMPTZ(1), amount < 0 ? -units : units, amount < 0, 0);
	}
	PG_RETURN_POINTER(state);
}

/* cdp._rfm_accum(state, occurred_at, amount float8, as_of): as its cast to numeric */
Datum
cdp_rfm_accum_float8(PG_FUNCTION_ARGS)
{
	RfmState   *state = state_to_change(fcinfo);
	TimestampTz occurred_at = PG_GETARG_TIMESTAMPTZ(1);
	int128		units;
	bool		negative;
	int			dscale;

	if (row_counts(state, occurred_at, PG_GETARG_TIMESTAMPTZ(3)))
	{
		if (cdp_money_from_float8(PG_GETARG_FLOAT8(2), &units, &negative, &dscale))
			state = add_row(state, occurred_at, units, negative, dscale);
		else
			state = add_numeric_row(state, occurred_at,
									(struct varlena *) DatumGetPointer(DirectFunctionCall1(float8_numeric, PG_GETARG_DATUM(2))));
	}
	PG_RETURN_POINTER(state);
}

/*
 * cdp._rfm_accum(state, occurred_at, amount, as_of, refunded): an order that
 * knows how much of it was paid back.
 */
Datum
cdp_rfm_accum_order(PG_FUNCTION_ARGS)
{
	RfmState   *state = state_to_change(fcinfo);
	struct varlena *refunded = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(4));
	int128		units;
	bool		negative;
	int			dscale;

	if (!row_counts(state, PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_TIMESTAMPTZ(3)))
		PG_RETURN_POINTER(state);
	state = add_numeric_row(state, PG_GETARG_TIMESTAMPTZ(1), PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(2)));
	switch (cdp_money_read(refunded, &units, &negative, &dscale))
	{
		case MONEY_FITS:
			if (negative)
				cdp_purchase_refuse_amount();
			state->dscale = Max(state->dscale, dscale);
			state = add_units(state, units, RFM_REFUNDED_REST);
			break;
		case MONEY_LARGE:
			if (negative)
				cdp_purchase_refuse_amount();
			state->dscale = Max(state->dscale, dscale);
			state = cdp_rfm_add_rest(state, DatumGetNumeric(PointerGetDatum(refunded)), RFM_REFUNDED_REST);
			break;
		case MONEY_SPECIAL:
			cdp_purchase_refuse_amount();
			break;
	}
	PG_RETURN_POINTER(state);
}

/* cdp._rfm_combine(a, b): b into a */
Datum
cdp_rfm_combine(PG_FUNCTION_ARGS)
{
	RfmState   *a = state_to_change(fcinfo);
	RfmState   *b = (RfmState *) PG_DETOAST_DATUM(PG_GETARG_DATUM(1));

	if (TIMESTAMP_IS_NOBEGIN(b->as_of))
		PG_RETURN_POINTER(a);
	if (TIMESTAMP_IS_NOBEGIN(a->as_of))
		a->as_of = b->as_of;
	else if (a->as_of != b->as_of)
		cdp_purchase_refuse_as_of();
	if (pg_add_s64_overflow(a->purchases, b->purchases, &a->purchases))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("number of purchases out of range")));
	a->first_at = Min(a->first_at, b->first_at);
	a->last_at = Max(a->last_at, b->last_at);
	a->dscale = Max(a->dscale, b->dscale);
	a = add_units(a, b->gross, RFM_GROSS_REST);
	a = add_units(a, b->refunded, RFM_REFUNDED_REST);
	if (b->parts & RFM_GROSS_REST)
		a = cdp_rfm_add_rest(a, cdp_rfm_rest(b, RFM_GROSS_REST), RFM_GROSS_REST);
	if (b->parts & RFM_REFUNDED_REST)
		a = cdp_rfm_add_rest(a, cdp_rfm_rest(b, RFM_REFUNDED_REST), RFM_REFUNDED_REST);
	PG_RETURN_POINTER(a);
}

/* cdp._rfm_final(state) -> cdp.rfm */
Datum
cdp_rfm_final(PG_FUNCTION_ARGS)
{
	RfmState   *state = (RfmState *) PG_DETOAST_DATUM(PG_GETARG_DATUM(0));
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (state->purchases == 0)
		PG_RETURN_NULL();
	(void) cdp_purchase_recency(state->as_of, state->last_at);
	values[0] = DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(state->as_of), TimestampTzGetDatum(state->last_at));
	values[1] = Int64GetDatum(state->purchases);
	values[2] = NumericGetDatum(cdp_rfm_net(state));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(cdp_result_desc(fcinfo), values, nulls)));
}

/* cdp._rfm_detail_final(state) -> cdp._rfm_detail: what cdp.rfm_table shows of a customer */
Datum
cdp_rfm_detail_final(PG_FUNCTION_ARGS)
{
	RfmState   *state = (RfmState *) PG_DETOAST_DATUM(PG_GETARG_DATUM(0));
	Datum		values[6];
	bool		nulls[6] = {false};

	if (state->purchases == 0)
		PG_RETURN_NULL();
	values[0] = TimestampTzGetDatum(state->first_at);
	values[1] = TimestampTzGetDatum(state->last_at);
	values[2] = Int64GetDatum(state->purchases);
	values[3] = NumericGetDatum(cdp_rfm_total(state, RFM_GROSS_REST));
	values[4] = NumericGetDatum(cdp_rfm_total(state, RFM_REFUNDED_REST));
	values[5] = NumericGetDatum(cdp_rfm_net(state));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(cdp_result_desc(fcinfo), values, nulls)));
}
