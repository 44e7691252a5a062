/*
 * value_logistic_state.c
 *	  Type cdp.logistic_state: text and binary form.
 *
 * Text, exact; the number of features and the ridge, then a bracket per row
 * with its weight, negative when y is false, and its features:
 *
 *		(2,0)(1,0.5,3)(-1,0.25,0)		two rows of two features, no ridge
 *		()								no row yet
 *
 * Binary: a version byte (0: no row yet, 1), int4 features, float8 ridge,
 * int8 rows, then the rows.  What comes in is checked number by number; the
 * aggregate trusts it afterwards.
 *
 * SQL: sql/value_logistic.sql.  Tests: test/sql/value_logistic.sql.
 */
#include "value_logistic.h"

#include "common/shortest_dec.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"

#include <math.h>

PG_FUNCTION_INFO_V1(cdp_logistic_state_in);
PG_FUNCTION_INFO_V1(cdp_logistic_state_out);
PG_FUNCTION_INFO_V1(cdp_logistic_state_recv);
PG_FUNCTION_INFO_V1(cdp_logistic_state_send);

static void
unsound(int sqlerrcode, const char *why)
{
	ereport(ERROR,
			(errcode(sqlerrcode),
			 errmsg("invalid value of type cdp.logistic_state"),
			 errdetail_internal("%s", why),
			 errhint("Use values that this type printed: they are states of the aggregate cdp.fit_logistic.")));
}

static void
check_shape(int64 nfeatures, double ridge, int sqlerrcode)
{
	if (nfeatures < 0 || nfeatures > LOGISTIC_MAX_FEATURES)
		unsound(sqlerrcode, "The number of features is out of range.");
	if (!(ridge >= 0 && ridge <= LOGISTIC_MAX_RIDGE))
		unsound(sqlerrcode, "The ridge is out of range.");
}

/* Number i of a row, as the aggregate would have stored it. */
static double
checked(double value, int i, int sqlerrcode)
{
	if (i == 0 && !(fabs(value) >= LOGISTIC_MIN_WEIGHT && fabs(value) <= LOGISTIC_MAX_WEIGHT))
		unsound(sqlerrcode, "A weight is out of range.");
	if (!isfinite(value))
		unsound(sqlerrcode, "A feature is not a finite number.");
	return value + 0.0;
}

/* A number of the text; *p moves behind the sign that must follow it. */
static double
read_number(char **p, char follows)
{
	char	   *end;
	double		value;

	/* strtod takes more than we print: blanks, hexadecimal, "inf" */
	if (strspn(*p, "+-.0123456789eE") == 0)
		unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "A number is missing.");
	value = strtod(*p, &end);
	if (end == *p || end - *p > strspn(*p, "+-.0123456789eE") || *end != follows)
		unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "The form is (features,ridge)(weight,feature,...)...");
	*p = end + 1;
	return value;
}

/* cdp.logistic_state from text */
Datum
cdp_logistic_state_in(PG_FUNCTION_ARGS)
{
	char	   *p = PG_GETARG_CSTRING(0);
	LogisticState *state = cdp_logistic_state_new(CurrentMemoryContext);
	double		nfeatures;
	double		ridge;
	double		row[1 + LOGISTIC_MAX_FEATURES];

	if (strcmp(p, "()") == 0)
		PG_RETURN_DATUM(EOHPGetRWDatum(&state->hdr));
	if (*p++ != '(')
		unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "The form is (features,ridge)(weight,feature,...)...");
	nfeatures = read_number(&p, ',');
	ridge = read_number(&p, ')');
	if (!(nfeatures >= 0 && nfeatures <= LOGISTIC_MAX_FEATURES) || nfeatures != floor(nfeatures))
		unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "The number of features is out of range.");
	check_shape((int64) nfeatures, ridge, ERRCODE_INVALID_TEXT_REPRESENTATION);
	if (*p == '\0')
		unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "There is no row.");
	while (*p)
	{
		int			n = (int) nfeatures;

		CHECK_FOR_INTERRUPTS();
		if (*p++ != '(')
			unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "The form is (features,ridge)(weight,feature,...)...");
		for (int i = 0; i <= n; i++)
			row[i] = checked(read_number(&p, i < n ? ',' : ')'), i, ERRCODE_INVALID_TEXT_REPRESENTATION);
		memcpy(cdp_logistic_new_row(state, n, ridge), row, (1 + n) * sizeof(double));
	}
	PG_RETURN_DATUM(EOHPGetRWDatum(&state->hdr));
}

static void
append_number(StringInfo buf, double value)
{
	char		digits[DOUBLE_SHORTEST_DECIMAL_LEN];

	appendBinaryStringInfo(buf, digits, double_to_shortest_decimal_bufn(value, digits));
}

/* cdp.logistic_state to text */
Datum
cdp_logistic_state_out(PG_FUNCTION_ARGS)
{
	LogisticState *state = cdp_logistic_state_get(PG_GETARG_DATUM(0), CurrentMemoryContext);
	const double *row = state->rows;
	StringInfoData buf;

	initStringInfo(&buf);
	if (state->nfeatures < 0)
	{
		appendStringInfoString(&buf, "()");
		PG_RETURN_CSTRING(buf.data);
	}
	appendStringInfo(&buf, "(%d,", state->nfeatures);
	append_number(&buf, state->ridge);
	appendStringInfoChar(&buf, ')');
	for (int64 i = 0; i < state->nrows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int j = 0; j <= state->nfeatures; j++)
		{
			appendStringInfoChar(&buf, j == 0 ? '(' : ',');
			append_number(&buf, *row++);
		}
		appendStringInfoChar(&buf, ')');
	}
	PG_RETURN_CSTRING(buf.data);
}

/* cdp.logistic_state from its binary form */
Datum
cdp_logistic_state_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	int			version = pq_getmsgbyte(buf);
	LogisticState *state = cdp_logistic_state_new(CurrentMemoryContext);
	int			nfeatures;
	double		ridge;
	int64		nrows;

	if (version == 0)
		PG_RETURN_DATUM(EOHPGetRWDatum(&state->hdr));
	if (version != 1)
		unsound(ERRCODE_INVALID_BINARY_REPRESENTATION, "Its version is not known.");
	nfeatures = (int32) pq_getmsgint(buf, 4);
	ridge = pq_getmsgfloat8(buf);
	nrows = pq_getmsgint64(buf);
	check_shape(nfeatures, ridge, ERRCODE_INVALID_BINARY_REPRESENTATION);
	/* a number that promises more than has come would ask for memory */
	if (nrows < 1 || nrows > (buf->len - buf->cursor) / ((1 + nfeatures) * (int64) sizeof(double)))
		unsound(ERRCODE_INVALID_BINARY_REPRESENTATION, "The number of rows is not that of the numbers.");
	for (int64 i = 0; i < nrows; i++)
	{
		double	   *row = cdp_logistic_new_row(state, nfeatures, ridge);

		CHECK_FOR_INTERRUPTS();
		for (int j = 0; j <= nfeatures; j++)
			row[j] = checked(pq_getmsgfloat8(buf), j, ERRCODE_INVALID_BINARY_REPRESENTATION);
	}
	PG_RETURN_DATUM(EOHPGetRWDatum(&state->hdr));
}

/* cdp.logistic_state to its binary form */
Datum
cdp_logistic_state_send(PG_FUNCTION_ARGS)
{
	LogisticState *state = cdp_logistic_state_get(PG_GETARG_DATUM(0), CurrentMemoryContext);
	StringInfoData buf;

	pq_begintypsend(&buf);
	if (state->nfeatures < 0)
		pq_sendbyte(&buf, 0);
	else
	{
		pq_sendbyte(&buf, 1);
		pq_sendint32(&buf, state->nfeatures);
		pq_sendfloat8(&buf, state->ridge);
		pq_sendint64(&buf, state->nrows);
		for (int64 i = 0; i < state->nrows * (1 + state->nfeatures); i++)
			pq_sendfloat8(&buf, state->rows[i]);
	}
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}
