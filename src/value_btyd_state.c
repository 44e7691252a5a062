/*
 * value_btyd_state.c
 *	  Type cdp.btyd_state: text and binary form.
 *
 * Text: as_of in microseconds since 2000-01-01 00:00 UTC, its date as days
 * since 2000-01-01, days of the unit and rule; then a bracket per day of
 * purchase with its date, its money in whole 10^-8 and 1 when there is an
 * amount >= 0 among its rows, by date:
 *
 *		(820454400000000,9496,7,ignore)(9300,1999000000,1)(9400,0,1)
 *		()												no row yet
 *
 * Binary: a version byte (0: no row yet, 1), int8 as_of, int4 date, int4
 * unit, byte rule, int4 number of days, then per day int4 date, the money as
 * int8 high and low half, byte purchase.
 *
 * SQL: sql/value_btyd.sql.  Tests: test/sql/value_btyd.sql,
 * test/pgtap/value_btyd.sql.
 */
#include "value_btyd.h"

#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/date.h"

PG_FUNCTION_INFO_V1(cdp_btyd_state_in);
PG_FUNCTION_INFO_V1(cdp_btyd_state_out);
PG_FUNCTION_INFO_V1(cdp_btyd_state_recv);
PG_FUNCTION_INFO_V1(cdp_btyd_state_send);

#define BYTES_PER_DAY	(4 + 16 + 1)
/* a stored sum, so that some more can be added to it: 10^37 */
#define MAX_SUM			(BTYD_MAX_UNITS * 1000000000)
#define FIRST_DAY		(DATETIME_MIN_JULIAN - POSTGRES_EPOCH_JDATE - 1)
#define LAST_DAY		(TIMESTAMP_END_JULIAN - POSTGRES_EPOCH_JDATE + 1)

static const char *const rule_names[] = {"days", "ignore", "net_day"};

pg_noreturn static void
unsound(int sqlerrcode, const char *why)
{
	ereport(ERROR,
			(errcode(sqlerrcode),
			 errmsg("invalid value of type cdp.btyd_state"),
			 errdetail_internal("%s", why),
			 errhint("Use values that this type printed: they are states of the aggregate cdp.btyd.")));
}

static BtydState *
make_state(uint32 room)
{
	BtydState  *state = palloc0(BTYD_STATE_SIZE(room));

	SET_VARSIZE(state, BTYD_STATE_SIZE(room));
	state->as_of = DT_NOBEGIN;
	state->room = room;
	return state;
}

/* What the aggregate may rely on. */
static void
check_state(const BtydState *state, int sqlerrcode)
{
	int64		off;

	if (!IS_VALID_TIMESTAMP(state->as_of) || TIMESTAMP_NOT_FINITE(state->as_of))
		unsound(sqlerrcode, "as_of is out of range.");
	if (state->rule < BTYD_DAYS || state->rule > BTYD_NET_DAY)
		unsound(sqlerrcode, "The rule is not known.");
	if (state->unit < 1 || state->unit > BTYD_MAX_UNIT)
		unsound(sqlerrcode, "The unit is out of range.");
	/* a zone is less than a day away from UTC */
	off = state->as_of_day - state->as_of / USECS_PER_DAY;
	if (off < -2 || off > 2)
		unsound(sqlerrcode, "as_of and its date differ.");
	for (uint32 i = 0; i < state->n; i++)
	{
		const BtydDay *d = &state->days[i];

		/* dates of a zone may go back by one where the clocks do */
		if (d->day < FIRST_DAY || d->day > state->as_of_day + 1)
			unsound(sqlerrcode, "A day is out of range.");
		if (i > 0 && d->day <= state->days[i - 1].day)
			unsound(sqlerrcode, "The days do not ascend.");
		if (d->net > MAX_SUM || d->net < -MAX_SUM)
			unsound(sqlerrcode, "An amount is out of range.");
		if ((state->rule == BTYD_DAYS && d->net != 0) || (state->rule == BTYD_IGNORE && d->net < 0) ||
			(state->rule != BTYD_NET_DAY && !d->purchase))
			unsound(sqlerrcode, "A day is none that its rule counts.");
		if (!d->purchase && d->net > 0)
			unsound(sqlerrcode, "There is money but no purchase.");
	}
}

/* A whole number of the text and the sign behind it. */
static int128
read_whole(char **p, char follows, int128 most)
{
	bool		negative = **p == '-';
	char	   *s = *p + negative;
	int128		value = 0;

	if (*s < '0' || *s > '9')
		unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "A number is missing.");
	for (; *s >= '0' && *s <= '9'; s++)
	{
		value = value * 10 + (*s - '0');
		if (value > most)
			unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "A number is out of range.");
	}
	if (*s != follows)
		unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "The form is (as_of,date,unit,rule)(date,money,purchase)...");
	*p = s + 1;
	return negative ? -value : value;
}

/* cdp.btyd_state from text */
Datum
cdp_btyd_state_in(PG_FUNCTION_ARGS)
{
	char	   *p = PG_GETARG_CSTRING(0);
	uint32		room = 0;
	BtydState  *state;
	char	   *end;

	if (strcmp(p, "()") == 0)
		PG_RETURN_POINTER(make_state(0));
	if (*p++ != '(')
		unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "The form is (as_of,date,unit,rule)(date,money,purchase)...");
	for (const char *s = p; *s; s++)
		room += *s == '(';
	state = make_state(room);
	state->as_of = (int64) read_whole(&p, ',', PG_INT64_MAX);
	state->as_of_day = (int32) read_whole(&p, ',', PG_INT32_MAX);
	state->unit = (int32) read_whole(&p, ',', PG_INT32_MAX);
	end = strchr(p, ')');
	state->rule = -1;
	for (int i = 0; end && i < lengthof(rule_names); i++)
	{
		if (strlen(rule_names[i]) == end - p && strncmp(rule_names[i], p, end - p) == 0)
			state->rule = i;
	}
	if (state->rule < 0)
		unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "The rule is not known.");
	for (p = end + 1; *p;)
	{
		BtydDay    *d = &state->days[state->n];

		CHECK_FOR_INTERRUPTS();
		if (*p++ != '(')
			unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "The form is (as_of,date,unit,rule)(date,money,purchase)...");
		d->day = (int32) read_whole(&p, ',', PG_INT32_MAX);
		d->net = read_whole(&p, ',', MAX_SUM);
		d->purchase = (int32) read_whole(&p, ')', 1);
		if (d->purchase < 0)
			unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "A number is out of range.");
		state->n++;
	}
	check_state(state, ERRCODE_INVALID_TEXT_REPRESENTATION);
	PG_RETURN_POINTER(state);
}

/* A copy with its days sorted, each once. */
static BtydState *
canonical(Datum value)
{
	BtydState  *state = (BtydState *) PG_DETOAST_DATUM_COPY(value);

	state->n = cdp_btyd_sort(state->days, state->n);
	return state;
}

static void
append_whole(StringInfo buf, int128 value)
{
	char		digits[48];
	char	   *p = digits + sizeof(digits);
	bool		negative = value < 0;
	unsigned __int128 rest = negative ? -(unsigned __int128) value : (unsigned __int128) value;

	*--p = '\0';
	do
		*--p = '0' + (char) (rest % 10);
	while ((rest /= 10) != 0);
	if (negative)
		*--p = '-';
	appendStringInfoString(buf, p);
}

/* cdp.btyd_state to text */
Datum
cdp_btyd_state_out(PG_FUNCTION_ARGS)
{
	BtydState  *state = canonical(PG_GETARG_DATUM(0));
	StringInfoData buf;

	initStringInfo(&buf);
	if (TIMESTAMP_IS_NOBEGIN(state->as_of))
	{
		appendStringInfoString(&buf, "()");
		PG_RETURN_CSTRING(buf.data);
	}
	appendStringInfo(&buf, "(" INT64_FORMAT ",%d,%d,%s)", state->as_of, state->as_of_day, state->unit, rule_names[state->rule]);
	for (uint32 i = 0; i < state->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		appendStringInfo(&buf, "(%d,", state->days[i].day);
		append_whole(&buf, state->days[i].net);
		appendStringInfo(&buf, ",%d)", state->days[i].purchase);
	}
	PG_RETURN_CSTRING(buf.data);
}

/* cdp.btyd_state from its binary form */
Datum
cdp_btyd_state_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	int			version = pq_getmsgbyte(buf);
	BtydState	head = {0};
	BtydState  *state;

	if (version == 0)
		PG_RETURN_POINTER(make_state(0));
	if (version != 1)
		unsound(ERRCODE_INVALID_BINARY_REPRESENTATION, "Its version is not known.");
	head.as_of = pq_getmsgint64(buf);
	head.as_of_day = (int32) pq_getmsgint(buf, 4);
	head.unit = (int32) pq_getmsgint(buf, 4);
	head.rule = pq_getmsgbyte(buf);
	head.n = pq_getmsgint(buf, 4);
	/* a number that promises more than has come would ask for memory */
	if (head.n > (buf->len - buf->cursor) / BYTES_PER_DAY)
		unsound(ERRCODE_INVALID_BINARY_REPRESENTATION, "The number of days is not that of the bytes.");
	state = make_state(head.n);
	state->as_of = head.as_of;
	state->as_of_day = head.as_of_day;
	state->unit = head.unit;
	state->rule = head.rule;
	for (; state->n < head.n; state->n++)
	{
		BtydDay    *d = &state->days[state->n];
		uint64		high;
		uint64		low;

		d->day = (int32) pq_getmsgint(buf, 4);
		high = (uint64) pq_getmsgint64(buf);
		low = (uint64) pq_getmsgint64(buf);
		d->net = (int128) ((unsigned __int128) high << 64 | low);
		d->purchase = pq_getmsgbyte(buf);
		if (d->purchase > 1)
			unsound(ERRCODE_INVALID_BINARY_REPRESENTATION, "A day is neither of purchase nor of none.");
	}
	check_state(state, ERRCODE_INVALID_BINARY_REPRESENTATION);
	PG_RETURN_POINTER(state);
}

/* cdp.btyd_state to its binary form */
Datum
cdp_btyd_state_send(PG_FUNCTION_ARGS)
{
	BtydState  *state = canonical(PG_GETARG_DATUM(0));
	StringInfoData buf;

	pq_begintypsend(&buf);
	if (TIMESTAMP_IS_NOBEGIN(state->as_of))
		pq_sendbyte(&buf, 0);
	else
	{
		pq_sendbyte(&buf, 1);
		pq_sendint64(&buf, state->as_of);
		pq_sendint32(&buf, state->as_of_day);
		pq_sendint32(&buf, state->unit);
		pq_sendbyte(&buf, state->rule);
		pq_sendint32(&buf, state->n);
		for (uint32 i = 0; i < state->n; i++)
		{
			pq_sendint32(&buf, state->days[i].day);
			pq_sendint64(&buf, (int64) ((unsigned __int128) state->days[i].net >> 64));
			pq_sendint64(&buf, (int64) (uint64) state->days[i].net);
			pq_sendbyte(&buf, state->days[i].purchase);
		}
	}
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}
