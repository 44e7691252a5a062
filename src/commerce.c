/*
 * commerce.c
 *	  Sums of money that never mix two currencies, and moments out of jsonb.
 *
 *		SELECT cdp.sum_amount(amount, currency) FROM cdp.sales_order
 *
 * adds as sum(amount) does, and raises as soon as a second currency comes.
 * The state is a bytea: three capital letters, padded to eight bytes, then
 * the sum as a numeric.  Being a plain named type it passes between parallel
 * workers and nodes as it is.
 *
 * SQL: sql/commerce.sql, sql/commerce_order.sql.  Page: doc/commerce.md.
 * Tests: test/sql/commerce_money.sql.
 */
#include "cdp.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#define CURRENCY_BYTES	8

typedef struct MoneySum
{
	char		currency[CURRENCY_BYTES];
	Numeric		sum;
} MoneySum;

PG_FUNCTION_INFO_V1(cdp_sum_amount_accum);
PG_FUNCTION_INFO_V1(cdp_sum_amount_combine);
PG_FUNCTION_INFO_V1(cdp_sum_amount_final);
PG_FUNCTION_INFO_V1(cdp_moment);

pg_noreturn static void
bad_state(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
			 errmsg("invalid state of cdp.sum_amount"),
			 errhint("States are made by the aggregate cdp.sum_amount itself.")));
}

/*
 * Would the functions of numeric take these bytes for theirs?  They trust
 * them: the header (two bytes, or four in the long form, none of it when it
 * is NaN or infinite) and then digits to the base of ten thousand.
 */
static bool
is_numeric(const struct varlena *num)
{
	const char *p = VARDATA(num);
	Size		len = VARSIZE(num) - VARHDRSZ;
	uint16		header;

	memcpy(&header, p, sizeof(header));
	if ((header & 0xC000) == 0xC000)
		return len == sizeof(header);
	for (Size i = (header & 0x8000) ? 2 : 4; i != len; i += 2)
	{
		int16		digit;

		if (i + 2 > len)
			return false;
		memcpy(&digit, p + i, sizeof(digit));
		if (digit < 0 || digit > 9999)
			return false;
	}
	return true;
}

/* The state's bytes come from us, but whoever owns an aggregate may feed others. */
static MoneySum
read_state(bytea *state)
{
	MoneySum	m;
	Size		rest = VARSIZE_ANY_EXHDR(state);

	if (rest < CURRENCY_BYTES + VARHDRSZ + sizeof(uint16))
		bad_state();
	memcpy(m.currency, VARDATA_ANY(state), CURRENCY_BYTES);
	rest -= CURRENCY_BYTES;
	m.sum = palloc(rest);
	memcpy(m.sum, VARDATA_ANY(state) + CURRENCY_BYTES, rest);
	if (m.currency[CURRENCY_BYTES - 1] != '\0' || !VARATT_IS_4B_U(m.sum) || VARSIZE(m.sum) != rest ||
		!is_numeric((struct varlena *) m.sum) ||
		!pg_verifymbstr(m.currency, strlen(m.currency), true))
		bad_state();
	return m;
}

static bytea *
write_state(const MoneySum *m)
{
	Size		size = VARSIZE(m->sum);
	bytea	   *state = palloc(VARHDRSZ + CURRENCY_BYTES + size);

	SET_VARSIZE(state, VARHDRSZ + CURRENCY_BYTES + size);
	memcpy(VARDATA(state), m->currency, CURRENCY_BYTES);
	memcpy(VARDATA(state) + CURRENCY_BYTES, m->sum, size);
	return state;
}

/* *into += other, in one currency */
static void
add(MoneySum *into, const MoneySum *other)
{
	if (memcmp(into->currency, other->currency, CURRENCY_BYTES) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("amounts in %s and %s cannot be added", into->currency, other->currency),
				 errhint("Sum each currency on its own, or name one with a rate in cdp.currency_rate:"
						 " cdp.sum_amount(amount, currency, 'CNY', ordered_at).")));
	into->sum = DatumGetNumeric(DirectFunctionCall2(numeric_add, NumericGetDatum(into->sum),
													NumericGetDatum(other->sum)));
}

/* (state bytea, amount numeric, currency text) -> bytea; NULL amounts do not count */
Datum
cdp_sum_amount_accum(PG_FUNCTION_ARGS)
{
	MoneySum	item;
	text	   *currency;

	if (!AggCheckCallContext(fcinfo, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this function works only inside an aggregate"),
				 errhint("Use the aggregate cdp.sum_amount(amount, currency).")));
	if (PG_ARGISNULL(1))
	{
		if (PG_ARGISNULL(0))
			PG_RETURN_NULL();
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	}
	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("an amount without currency cannot be added"),
				 errhint("Leave such rows out, or say what they are in: coalesce(currency, 'CNY').")));
	currency = PG_GETARG_TEXT_PP(2);
	if (VARSIZE_ANY_EXHDR(currency) >= CURRENCY_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("currency is not the code of a currency"),
				 errhint("Give three capital letters of ISO 4217, for example CNY.")));
	memset(item.currency, 0, CURRENCY_BYTES);
	memcpy(item.currency, VARDATA_ANY(currency), VARSIZE_ANY_EXHDR(currency));
	item.sum = PG_GETARG_NUMERIC(1);
	if (!PG_ARGISNULL(0))
	{
		MoneySum	state = read_state(PG_GETARG_BYTEA_PP(0));

		add(&state, &item);
		PG_RETURN_BYTEA_P(write_state(&state));
	}
	PG_RETURN_BYTEA_P(write_state(&item));
}

Datum
cdp_sum_amount_combine(PG_FUNCTION_ARGS)
{
	MoneySum	a,
				b;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
	{
		if (PG_ARGISNULL(0) && PG_ARGISNULL(1))
			PG_RETURN_NULL();
		PG_RETURN_DATUM(PG_GETARG_DATUM(PG_ARGISNULL(0) ? 1 : 0));
	}
	a = read_state(PG_GETARG_BYTEA_PP(0));
	b = read_state(PG_GETARG_BYTEA_PP(1));
	add(&a, &b);
	PG_RETURN_BYTEA_P(write_state(&a));
}

Datum
cdp_sum_amount_final(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_NUMERIC(read_state(PG_GETARG_BYTEA_PP(0)).sum);
}

/* cdp._moment(text) -> timestamptz, NULL when there is no finite moment in it */
Datum
cdp_moment(PG_FUNCTION_ARGS)
{
	text	   *given = PG_GETARG_TEXT_PP(0);
	TimestampTz at;

	/* longer than any moment that is written with good intentions */
	if (VARSIZE_ANY_EXHDR(given) > 64 || !cdp_parse_moment(text_to_cstring(given), &at) ||
		TIMESTAMP_NOT_FINITE(at))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(at);
}
