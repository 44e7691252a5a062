/*
 * value_state.c
 *	  Type cdp.rfm_state: text and binary form, and its slow numeric part.
 *
 * Text, exact and free of DateStyle and TimeZone, so that it may travel
 * between servers; times are microseconds since 2000-01-01 00:00 UTC:
 *
 *		(as_of,first_at,last_at,purchases,gross,refunded)
 *		(820454400000000,815184000000000,820368000000000,3,290.00,20.00)
 *		(820454400000000,,,0,0,20)			refunds only
 *		()									no row yet
 *
 * Binary: a version byte (0: no row yet, 1), three int8 times, int8
 * purchases, then gross and refunded as numeric sends them.  Whatever comes
 * in passes cdp_rfm_state_make, the one place that knows what a sound state
 * is; the aggregate trusts it afterwards.
 *
 * SQL: sql/value.sql.  Tests: test/sql/value_state.sql.  Page: doc/value.md.
 */
#include "value.h"

#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"

#define STATE_FIELDS	6

PG_FUNCTION_INFO_V1(cdp_rfm_state_in);
PG_FUNCTION_INFO_V1(cdp_rfm_state_out);
PG_FUNCTION_INFO_V1(cdp_rfm_state_recv);
PG_FUNCTION_INFO_V1(cdp_rfm_state_send);

/* The slow part of gross or refunded money, NULL when there is none. */
Numeric
cdp_rfm_rest(const RfmState *state, uint16 part)
{
	char	   *p = (char *) state + MAXALIGN(sizeof(RfmState));

	if (!(state->parts & part))
		return NULL;
	if (part == RFM_REFUNDED_REST && (state->parts & RFM_GROSS_REST))
		p += MAXALIGN(VARSIZE(p));
	return (Numeric) p;
}

static Numeric
add_numeric(Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall2(numeric_add, NumericGetDatum(a), NumericGetDatum(b)));
}

/* Gross or refunded money, both parts together. */
Numeric
cdp_rfm_total(const RfmState *state, uint16 part)
{
	Numeric		fast = cdp_money_numeric(part == RFM_GROSS_REST ? state->gross : state->refunded, state->dscale);
	Numeric		rest = cdp_rfm_rest(state, part);

	return rest ? add_numeric(fast, rest) : fast;
}

Numeric
cdp_rfm_net(const RfmState *state)
{
	int128		net;

	if (state->parts == 0 && !__builtin_sub_overflow(state->gross, state->refunded, &net))
		return cdp_money_numeric(net, state->dscale);
	return DatumGetNumeric(DirectFunctionCall2(numeric_sub,
											   NumericGetDatum(cdp_rfm_total(state, RFM_GROSS_REST)),
											   NumericGetDatum(cdp_rfm_total(state, RFM_REFUNDED_REST))));
}

/* The state with other rests; in place when they take the room of the old ones. */
static RfmState *
with_rests(RfmState *state, Numeric gross, Numeric refunded)
{
	Size		size = MAXALIGN(sizeof(RfmState)) +
		(gross ? MAXALIGN(VARSIZE(gross)) : 0) + (refunded ? MAXALIGN(VARSIZE(refunded)) : 0);
	RfmState   *result = palloc0(size);
	char	   *p = (char *) result + MAXALIGN(sizeof(RfmState));

	memcpy(result, state, sizeof(RfmState));
	SET_VARSIZE(result, size);
	result->parts = (gross ? RFM_GROSS_REST : 0) | (refunded ? RFM_REFUNDED_REST : 0);
	if (gross)
	{
		memcpy(p, gross, VARSIZE(gross));
		p += MAXALIGN(VARSIZE(gross));
	}
	if (refunded)
		memcpy(p, refunded, VARSIZE(refunded));
	if (size == VARSIZE(state))
	{
		memcpy(state, result, size);
		pfree(result);
		return state;
	}
	return result;
}

/*
 * Add an amount that the integers cannot take.  The answer may be a new,
 * larger value in the current context; an aggregate's caller copies it to
 * where states live and frees the old one.
 */
RfmState *
cdp_rfm_add_rest(RfmState *state, Numeric amount, uint16 part)
{
	Numeric		gross = cdp_rfm_rest(state, RFM_GROSS_REST);
	Numeric		refunded = cdp_rfm_rest(state, RFM_REFUNDED_REST);

	if (part == RFM_GROSS_REST)
		gross = gross ? add_numeric(gross, amount) : amount;
	else
		refunded = refunded ? add_numeric(refunded, amount) : amount;
	return with_rests(state, gross, refunded);
}

static void
unsound(int sqlerrcode, const char *why)
{
	ereport(ERROR,
			(errcode(sqlerrcode),
			 errmsg("invalid value of type cdp.rfm_state"),
			 errdetail_internal("%s", why),
			 errhint("Use values that this type printed: they are states of the aggregate cdp.rfm.")));
}

/* A sound state of its facts, or an error; NULL money is none. */
RfmState *
cdp_rfm_state_make(TimestampTz as_of, TimestampTz first_at, TimestampTz last_at,
				   int64 purchases, Numeric gross, Numeric refunded, int sqlerrcode)
{
	RfmState   *state = palloc0(MAXALIGN(sizeof(RfmState)));
	Numeric		money[2] = {gross, refunded};
	Numeric		rest[2] = {NULL, NULL};

	SET_VARSIZE(state, MAXALIGN(sizeof(RfmState)));
	state->as_of = as_of;
	state->first_at = first_at;
	state->last_at = last_at;
	state->purchases = purchases;
	if (TIMESTAMP_IS_NOBEGIN(as_of) || TIMESTAMP_IS_NOEND(as_of))
	{
		if (!TIMESTAMP_IS_NOBEGIN(as_of) || purchases != 0 || gross != NULL || refunded != NULL)
			unsound(sqlerrcode, "There is no as_of.");
	}
	else if (!IS_VALID_TIMESTAMP(as_of))
		unsound(sqlerrcode, "as_of is out of range.");
	if (purchases < 0)
		unsound(sqlerrcode, "The number of purchases is negative.");
	if (purchases == 0)
	{
		if (!TIMESTAMP_IS_NOEND(first_at) || !TIMESTAMP_IS_NOBEGIN(last_at))
			unsound(sqlerrcode, "There are times of purchases but no purchase.");
	}
	else if (!IS_VALID_TIMESTAMP(first_at) || !IS_VALID_TIMESTAMP(last_at) ||
			 first_at > last_at || last_at > as_of || (purchases == 1 && first_at != last_at))
		unsound(sqlerrcode, "The times of first purchase, last purchase and as_of do not follow each other.");

	for (int i = 0; i < 2; i++)
	{
		int128		units = 0;
		bool		negative = false;
		int			dscale = 0;

		if (money[i] == NULL)
			continue;
		switch (cdp_money_read((struct varlena *) money[i], &units, &negative, &dscale))
		{
			case MONEY_SPECIAL:
				unsound(sqlerrcode, "Money is not a finite number.");
				break;
			case MONEY_LARGE:
				rest[i] = money[i];
				break;
			case MONEY_FITS:
				if (i == 0)
					state->gross = units;
				else
					state->refunded = units;
				break;
		}
		if (negative)
			unsound(sqlerrcode, "Money is negative.");
		if (i == 0 && purchases == 0 && (units != 0 || rest[0] != NULL))
			unsound(sqlerrcode, "There is money of purchases but no purchase.");
		state->dscale = Max(state->dscale, dscale);
	}
	return rest[0] || rest[1] ? with_rests(state, rest[0], rest[1]) : state;
}

/* cdp.rfm_state from text */
Datum
cdp_rfm_state_in(PG_FUNCTION_ARGS)
{
	char	   *str = PG_GETARG_CSTRING(0);
	char	   *field[STATE_FIELDS];
	Numeric		money[2];
	int			len = strlen(str);
	int			n = 0;

	if (strcmp(str, "()") == 0)
		PG_RETURN_POINTER(cdp_rfm_state_make(DT_NOBEGIN, DT_NOEND, DT_NOBEGIN, 0, NULL, NULL,
											 ERRCODE_INVALID_TEXT_REPRESENTATION));
	if (len < 2 || str[0] != '(' || str[len - 1] != ')' || strspn(str + 1, "0123456789-.,") != len - 2)
		unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "The form is (as_of,first_at,last_at,purchases,gross,refunded).");
	str = pnstrdup(str + 1, len - 2);
	for (char *p = str; p != NULL && n <= STATE_FIELDS; n++)
	{
		if (n < STATE_FIELDS)
			field[n] = p;
		p = strchr(p, ',');
		if (p)
			*p++ = '\0';
	}
	if (n != STATE_FIELDS)
		unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "The form is (as_of,first_at,last_at,purchases,gross,refunded).");
	for (int i = 0; i < 2; i++)
		money[i] = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(field[4 + i]),
													   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	PG_RETURN_POINTER(cdp_rfm_state_make(pg_strtoint64(field[0]),
										 field[1][0] ? pg_strtoint64(field[1]) : DT_NOEND,
										 field[2][0] ? pg_strtoint64(field[2]) : DT_NOBEGIN,
										 pg_strtoint64(field[3]), money[0], money[1],
										 ERRCODE_INVALID_TEXT_REPRESENTATION));
}

/* cdp.rfm_state to text */
Datum
cdp_rfm_state_out(PG_FUNCTION_ARGS)
{
	RfmState   *state = (RfmState *) PG_DETOAST_DATUM(PG_GETARG_DATUM(0));
	StringInfoData buf;

	initStringInfo(&buf);
	if (TIMESTAMP_IS_NOBEGIN(state->as_of))
		appendStringInfoString(&buf, "()");
	else
	{
		appendStringInfo(&buf, "(" INT64_FORMAT ",", state->as_of);
		if (state->purchases > 0)
			appendStringInfo(&buf, INT64_FORMAT "," INT64_FORMAT, state->first_at, state->last_at);
		else
			appendStringInfoChar(&buf, ',');
		appendStringInfo(&buf, "," INT64_FORMAT ",%s,%s)", state->purchases,
						 DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(cdp_rfm_total(state, RFM_GROSS_REST)))),
						 DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(cdp_rfm_total(state, RFM_REFUNDED_REST)))));
	}
	PG_RETURN_CSTRING(buf.data);
}

/* cdp.rfm_state from its binary form */
Datum
cdp_rfm_state_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	int			version = pq_getmsgbyte(buf);
	int64		as_of,
				first_at,
				last_at,
				purchases;
	Numeric		money[2];

	if (version == 0)
		PG_RETURN_POINTER(cdp_rfm_state_make(DT_NOBEGIN, DT_NOEND, DT_NOBEGIN, 0, NULL, NULL,
											 ERRCODE_INVALID_BINARY_REPRESENTATION));
	if (version != 1)
		unsound(ERRCODE_INVALID_BINARY_REPRESENTATION, "Its version is not known.");
	as_of = pq_getmsgint64(buf);
	first_at = pq_getmsgint64(buf);
	last_at = pq_getmsgint64(buf);
	purchases = pq_getmsgint64(buf);
	for (int i = 0; i < 2; i++)
		money[i] = DatumGetNumeric(DirectFunctionCall3(numeric_recv, PointerGetDatum(buf),
													   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	PG_RETURN_POINTER(cdp_rfm_state_make(as_of, first_at, last_at, purchases, money[0], money[1],
										 ERRCODE_INVALID_BINARY_REPRESENTATION));
}

/* cdp.rfm_state to its binary form */
Datum
cdp_rfm_state_send(PG_FUNCTION_ARGS)
{
	RfmState   *state = (RfmState *) PG_DETOAST_DATUM(PG_GETARG_DATUM(0));
	StringInfoData buf;

	pq_begintypsend(&buf);
	if (TIMESTAMP_IS_NOBEGIN(state->as_of))
		pq_sendbyte(&buf, 0);
	else
	{
		pq_sendbyte(&buf, 1);
		pq_sendint64(&buf, state->as_of);
		pq_sendint64(&buf, state->first_at);
		pq_sendint64(&buf, state->last_at);
		pq_sendint64(&buf, state->purchases);
		for (uint16 part = RFM_GROSS_REST; part <= RFM_REFUNDED_REST; part++)
		{
			bytea	   *digits = DatumGetByteaPP(DirectFunctionCall1(numeric_send,
																	 NumericGetDatum(cdp_rfm_total(state, part))));

			pq_sendbytes(&buf, VARDATA_ANY(digits), VARSIZE_ANY_EXHDR(digits));
		}
	}
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}
