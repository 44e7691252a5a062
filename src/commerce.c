/*
 * commerce.c
 *	  Sums of money that never mix two currencies; moments and shapes of
 *	  objects in jsonb.
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

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
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
PG_FUNCTION_INFO_V1(cdp_check_object);

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

	cdp_aggregate_context(fcinfo, "Use the aggregate cdp.sum_amount(amount, currency).");
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

/* the finite moment that is written there; longer than 64 bytes is none that is written with good intentions */
static bool
read_moment(const char *given, int len, TimestampTz *at)
{
	return len <= 64 && cdp_parse_moment(pnstrdup(given, len), at) && !TIMESTAMP_NOT_FINITE(*at);
}

/* cdp._moment(text) -> timestamptz, NULL when there is no finite moment in it */
Datum
cdp_moment(PG_FUNCTION_ARGS)
{
	text	   *given = PG_GETARG_TEXT_PP(0);
	TimestampTz at;

	if (!read_moment(VARDATA_ANY(given), VARSIZE_ANY_EXHDR(given), &at))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(at);
}

/* what the value of a key may be, in the order of the arguments of _check_object */
typedef enum KeyKind
{
	KEY_TEXT,
	KEY_NUMBER,
	KEY_MOMENT,
	KEY_ARRAY,
	KEY_UNKNOWN
} KeyKind;

typedef struct KeyList
{
	Datum	   *names;
	int			n;
} KeyList;

static KeyKind
kind_of_key(const KeyList *lists, const JsonbValue *key)
{
	for (int kind = KEY_TEXT; kind < KEY_UNKNOWN; kind++)
	{
		for (int i = 0; i < lists[kind].n; i++)
		{
			text	   *name = DatumGetTextPP(lists[kind].names[i]);

			if (VARSIZE_ANY_EXHDR(name) == key->val.string.len &&
				memcmp(VARDATA_ANY(name), key->val.string.val, key->val.string.len) == 0)
				return kind;
		}
	}
	return KEY_UNKNOWN;
}

static bool
fits_key(KeyKind kind, const JsonbValue *v)
{
	TimestampTz at;

	switch (kind)
	{
		case KEY_TEXT:			/* keys often are numbers */
			return v->type == jbvNull || v->type == jbvString || v->type == jbvNumeric;
		case KEY_NUMBER:
			return v->type == jbvNull || v->type == jbvNumeric;
		case KEY_MOMENT:
			return v->type == jbvNull ||
				(v->type == jbvString && read_moment(v->val.string.val, v->val.string.len, &at));
		case KEY_ARRAY:
			return v->type == jbvNull ||
				(v->type == jbvBinary && JsonContainerIsArray(v->val.binary.data) && !JsonContainerIsScalar(v->val.binary.data));
		case KEY_UNKNOWN:
			break;
	}
	return false;
}

static char *
list_keys(const KeyList *lists)
{
	StringInfoData s;

	initStringInfo(&s);
	for (int kind = KEY_TEXT; kind < KEY_UNKNOWN; kind++)
	{
		for (int i = 0; i < lists[kind].n; i++)
			appendStringInfo(&s, "%s%s", s.len > 0 ? ", " : "", TextDatumGetCString(lists[kind].names[i]));
	}
	return s.data;
}

/*
 * cdp._check_object(object jsonb, what text, texts text[], numbers text[],
 * moments text[], others text[]): refuses the first key that is not right.
 * In C because a batch asks it for every item and every line.
 */
Datum
cdp_check_object(PG_FUNCTION_ARGS)
{
	Jsonb	   *object;
	char	   *what;
	KeyList		lists[KEY_UNKNOWN];
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	JsonbValue	key = {0};

	for (int i = 1; i < PG_NARGS(); i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("cdp._check_object: only the object may be NULL"),
				 errhint("The lists of keys and what the object is called are given by the verb that checks.")));
	}
	what = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be NULL", what),
				 errhint("Pass an object; doc/commerce.md lists its keys.")));
	object = PG_GETARG_JSONB_P(0);
	for (int kind = KEY_TEXT; kind < KEY_UNKNOWN; kind++)
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(2 + kind), TEXTOID, -1, false, TYPALIGN_INT, &lists[kind].names, NULL, &lists[kind].n);
	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be an object", what),
				 errhint("Its keys are %s.", list_keys(lists))));
	it = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		static const char *const problems[] = {"a text", "a number", "a moment", "an array"};
		KeyKind		kind;
		char	   *name;

		if (token == WJB_KEY)
			key = v;
		if (token != WJB_VALUE)
			continue;
		kind = kind_of_key(lists, &key);
		if (fits_key(kind, &v))
			continue;
		name = pnstrdup(key.val.string.val, pg_mbcharcliplen(key.val.string.val, key.val.string.len, 60));
		if (kind == KEY_UNKNOWN)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s has no key \"%s\"", what, name),
					 errhint("The keys are %s.", list_keys(lists))));
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" of %s must be %s", name, what, problems[kind]),
				 kind == KEY_TEXT ? errhint("For example \"%s\": \"1001\".", name) :
				 kind == KEY_NUMBER ? errhint("Write 12.50, without quotes.") :
				 kind == KEY_MOMENT ? errhint("Write it as \"2026-03-01T09:00:00+08:00\"; without an offset it is read in cdp.timezone.") :
				 errhint("\"%s\": [{…}, {…}]", name)));
	}
	PG_RETURN_VOID();
}
