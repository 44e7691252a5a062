/*
 * value_fit_state.c
 *	  Type cdp.fit_state: distinct rows and how many customers have each.
 *
 * A million customers by week have 135,000 different (x, t_x, t_cal), and a
 * likelihood needs each of them once.  So the aggregates do not keep rows,
 * they count them: a hash table in memory, and a sorted list without it where
 * the state leaves the aggregate.  Text, exact and the same for equal states:
 *
 *		(0,0,38.857142857142854:12;1,1.7142857142857142,38.857142857142854:3)
 *		()									no row yet
 *
 * After the colon stands the weight; a weight that float8 cannot hold exactly
 * is written as a sum, 0.30000000000000004+-2.7755575615628914e-17.  Binary:
 * a version byte (1), int2 columns, int8 rows, then the float8 of each row:
 * columns, weight, rest of the weight.
 *
 * What comes in is checked for being a state (finite numbers, rows ascending,
 * weights above 0), not for being data of a model, which a state does not
 * know: the final functions check that (value_fit.c).
 *
 * Memory: 8 bytes per column and 16 per weight, a quarter more while it
 * grows, and 11 to 21 bytes of slots per row.
 *
 * SQL: sql/value_fit.sql.  Tests: test/sql/value_fit.sql,
 * test/pgtap/value_fit.sql.  Page: doc/value_fit.md.
 */
#include "value_fit.h"

#include <math.h>

#include "common/shortest_dec.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_fit_state_in);
PG_FUNCTION_INFO_V1(cdp_fit_state_out);
PG_FUNCTION_INFO_V1(cdp_fit_state_recv);
PG_FUNCTION_INFO_V1(cdp_fit_state_send);
PG_FUNCTION_INFO_V1(cdp_fit_combine);
PG_FUNCTION_INFO_V1(cdp_fit_add_transactions);
PG_FUNCTION_INFO_V1(cdp_fit_add_gaps);
PG_FUNCTION_INFO_V1(cdp_fit_add_counts);
PG_FUNCTION_INFO_V1(cdp_fit_add_amount);
PG_FUNCTION_INFO_V1(cdp_fit_add_occasions);
PG_FUNCTION_INFO_V1(cdp_fit_add_period);

#define STATE_MAGIC		0x46495453
#define FIRST_ROOM		64		/* rows */
#define WEIGHT_MAX		1e15	/* of one row; sums never reach infinity */
#define STATE_HINT		"Use values that this type printed: they are states of the fit aggregates."

typedef struct FitSlot
{
	uint32		hash;
	uint32		row;			/* from 1; 0: free */
} FitSlot;

static Size state_flat_size(ExpandedObjectHeader *eohptr);
static void state_flatten(ExpandedObjectHeader *eohptr, void *result, Size allocated_size);

static const ExpandedObjectMethods state_methods = {state_flat_size, state_flatten};

/*
 * The hash of rows
 */

static inline uint32
hash_row(const double *row, int ncolumns)
{
	uint64		h = 0;

	for (int i = 0; i < ncolumns; i++)
	{
		uint64		bits;

		memcpy(&bits, &row[i], sizeof(bits));
		h = (h ^ bits) * UINT64CONST(0x9E3779B97F4A7C15);
		h ^= h >> 32;
	}
	return (uint32) (h * UINT64CONST(0xD6E8FEB86659FD93) >> 32);
}

/* a weight and another, in two parts (Knuth 1969, 4.2.2 theorem B) */
static inline void
add_weight(double *weight, double high, double low)
{
	double		sum = weight[0] + high;
	double		part = sum - weight[0];
	double		lost = (weight[0] - (sum - part)) + (high - part);

	weight[0] = sum;
	if (unlikely(lost != 0 || weight[1] != 0 || low != 0))
	{
		lost += weight[1] + low;
		/* high is the sum as float8 has it, low what is left */
		weight[0] = sum + lost;
		weight[1] = lost - (weight[0] - sum);
	}
}

static void
make_slots(FitState *state, uint32 nslots)
{
	if (state->slots)
		pfree(state->slots);
	state->slots = NULL;
	state->slots = MemoryContextAllocExtended(state->hdr.eoh_context, nslots * sizeof(FitSlot), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	state->mask = nslots - 1;
	for (int64 i = 0; i < state->nrows; i++)
	{
		uint32		hash = hash_row(state->data + i * state->width, state->ncolumns);
		uint32		at = hash & state->mask;

		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
		while (state->slots[at].row != 0)
			at = (at + 1) & state->mask;
		state->slots[at].hash = hash;
		state->slots[at].row = i + 1;
	}
}

/* The first row says how many columns there are. */
static void
set_columns(FitState *state, int ncolumns)
{
	state->ncolumns = ncolumns;
	state->width = ncolumns + 2;
	state->room = FIRST_ROOM;
	state->data = MemoryContextAlloc(state->hdr.eoh_context, state->room * state->width * sizeof(double));
}

/* Room for one more row; at most so many that the state is a value. */
static pg_noinline void
grow_data(FitState *state)
{
	int64		most = (MaxAllocSize - sizeof(FitValue)) / (state->width * sizeof(double));

	if (state->nrows >= most)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than " INT64_FORMAT " distinct rows in a fit", most),
				 errhint("Measure time in whole days or weeks, so that rows repeat, or fit a sample of the customers.")));
	state->room = Min(state->room + Max(state->room / 4, FIRST_ROOM), most);
	state->data = repalloc_huge(state->data, state->room * state->width * sizeof(double));
}

/* One row, its columns and its weight. */
static inline void
add_row(FitState *state, const double *columns, double high, double low)
{
	int			n = state->ncolumns;
	uint32		hash = hash_row(columns, n);
	uint32		at;
	double	   *row;

	state->sorted = false;
	/* at most three quarters of the slots are in use */
	if (unlikely(state->slots == NULL || state->nrows >= (int64) state->mask - state->mask / 4))
	{
		uint32		nslots = 2 * FIRST_ROOM;

		while (nslots - nslots / 4 <= state->nrows + 1)
			nslots *= 2;
		make_slots(state, nslots);
	}
	for (at = hash & state->mask; state->slots[at].row != 0; at = (at + 1) & state->mask)
	{
		if (state->slots[at].hash != hash)
			continue;
		row = state->data + (int64) (state->slots[at].row - 1) * state->width;
		if (memcmp(row, columns, n * sizeof(double)) == 0)
		{
			add_weight(row + n, high, low);
			return;
		}
	}
	if (state->nrows == state->room)
		grow_data(state);
	row = state->data + state->nrows++ * state->width;
	memcpy(row, columns, n * sizeof(double));
	row[n] = high;
	row[n + 1] = low;
	state->slots[at].hash = hash;
	state->slots[at].row = state->nrows;
}

/*
 * Order.  Values are finite and there is no negative zero, so equal columns
 * are equal bits.
 */
static inline int
compare_rows(const double *a, const double *b, int ncolumns)
{
	for (int i = 0; i < ncolumns; i++)
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	return 0;
}

#define ST_SORT sort_rows
#define ST_ELEMENT_TYPE_VOID
#define ST_COMPARE_ARG_TYPE FitState
#define ST_COMPARE(a, b, state) compare_rows((const double *) (a), (const double *) (b), (state)->ncolumns)
#define ST_CHECK_FOR_INTERRUPTS
#define ST_SCOPE static
#define ST_DECLARE
#define ST_DEFINE
#include "lib/sort_template.h"

/* Rows ascending; the hash goes, and comes again with the next row. */
void
cdp_fit_state_sort(FitState *state)
{
	if (state->sorted)
		return;
	if (state->slots)
		pfree(state->slots);
	state->slots = NULL;
	if (state->nrows > 1)
		sort_rows(state->data, state->nrows, state->width * sizeof(double), state);
	/* what follows needs room of its own */
	if (state->room > state->nrows && state->nrows > 0)
	{
		state->data = repalloc_huge(state->data, state->nrows * state->width * sizeof(double));
		state->room = state->nrows;
	}
	state->sorted = true;
}

/*
 * Expanded object
 */

static Size
state_flat_size(ExpandedObjectHeader *eohptr)
{
	FitState   *state = (FitState *) eohptr;

	return offsetof(FitValue, data) + state->nrows * state->width * sizeof(double);
}

static void
state_flatten(ExpandedObjectHeader *eohptr, void *result, Size allocated_size)
{
	FitState   *state = (FitState *) eohptr;
	FitValue   *value = result;

	cdp_fit_state_sort(state);
	SET_VARSIZE(value, allocated_size);
	value->ncolumns = state->ncolumns;
	value->nrows = state->nrows;
	if (state->nrows > 0)
		memcpy(value->data, state->data, state->nrows * state->width * sizeof(double));
}

static FitState *
state_make(MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "cdp.fit_state", ALLOCSET_START_SMALL_SIZES);
	FitState   *state = MemoryContextAllocZero(context, sizeof(FitState));

	EOH_init_header(&state->hdr, &state_methods, context);
	state->magic = STATE_MAGIC;
	return state;
}

/* A packed value, as it lies in a tuple. */
static FitValue *
value_of(Datum value)
{
	return (FitValue *) PG_DETOAST_DATUM(value);
}

/* The state that a datum is, or one in that context with its rows. */
FitState *
cdp_fit_state_get(Datum datum, MemoryContext context)
{
	FitState   *state;
	FitValue   *value;

	if (VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(datum)))
	{
		state = (FitState *) DatumGetEOHP(datum);
		if (state->magic != STATE_MAGIC)
			elog(ERROR, "not a state of a fit");
		return state;
	}
	state = state_make(context);
	value = value_of(datum);
	if (value->nrows > 0)
	{
		set_columns(state, value->ncolumns);
		if (value->nrows > state->room)
		{
			state->room = value->nrows;
			state->data = repalloc_huge(state->data, state->room * state->width * sizeof(double));
		}
		memcpy(state->data, value->data, value->nrows * state->width * sizeof(double));
		state->nrows = value->nrows;
		state->sorted = true;
	}
	return state;
}

/*
 * Transition
 */

/* The state of the running aggregate, which is changed in place. */
static inline FitState *
state_to_change(FunctionCallInfo fcinfo, int ncolumns)
{
	MemoryContext context = cdp_aggregate_context(fcinfo, "Use a fit aggregate, for example cdp.fit_mbgnbd(x, t_x, t_cal).");
	FitState   *state;

	state = cdp_fit_state_get(PG_GETARG_DATUM(0), context);
	if (unlikely(state->ncolumns != ncolumns && ncolumns != 0))
	{
		if (state->ncolumns != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("states of different fits do not combine"),
					 errhint("Combine states of one model only.")));
		set_columns(state, ncolumns);
	}
	return state;
}

pg_noreturn static void
refuse_weight(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("weight, the number of customers, must be a number from 0 to 10^15"),
			 errhint("Leave such rows out: WHERE weight BETWEEN 0 AND 1e15.")));
}

/* One row with the weight that stands after its columns, or of one customer. */
static inline Datum
add(FunctionCallInfo fcinfo, double *columns, int ncolumns)
{
	FitState   *state = state_to_change(fcinfo, ncolumns);
	double		weight = 1;

	if (PG_NARGS() > ncolumns + 1)
	{
		weight = PG_GETARG_FLOAT8(ncolumns + 1);
		if (!(weight >= 0) || weight > WEIGHT_MAX)
			refuse_weight();
	}
	/* minus zero is zero */
	for (int i = 0; i < ncolumns; i++)
		columns[i] += 0.0;
	/* nobody has this row: it is right, and does not count */
	if (weight > 0)
		add_row(state, columns, weight, 0);
	return EOHPGetRWDatum(&state->hdr);
}

/* _fit_add(state, x, t_x, t_cal [, weight]) */
Datum
cdp_fit_add_transactions(PG_FUNCTION_ARGS)
{
	double		row[] = {PG_GETARG_FLOAT8(1), PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3)};

	cdp_check_transactions(row[0], row[1], row[2]);
	return add(fcinfo, row, 3);
}

/* _fit_add_gaps(state, x, t_x, t_cal, log_gaps [, weight]) */
Datum
cdp_fit_add_gaps(PG_FUNCTION_ARGS)
{
	double		row[] = {PG_GETARG_FLOAT8(1), PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3), PG_GETARG_FLOAT8(4)};

	cdp_check_transactions(row[0], row[1], row[2]);
	cdp_check_gaps(row[0], row[3]);
	return add(fcinfo, row, 4);
}

/* _fit_add_counts(state, x, t_cal [, weight]) */
Datum
cdp_fit_add_counts(PG_FUNCTION_ARGS)
{
	double		row[] = {PG_GETARG_FLOAT8(1), PG_GETARG_FLOAT8(2)};

	cdp_check_counts(row[0], row[1]);
	return add(fcinfo, row, 2);
}

/* _fit_add_amount(state, x, mean_amount [, weight]) */
Datum
cdp_fit_add_amount(PG_FUNCTION_ARGS)
{
	double		row[] = {PG_GETARG_FLOAT8(1), PG_GETARG_FLOAT8(2)};

	cdp_check_amount(row[0], row[1]);
	return add(fcinfo, row, 2);
}

/* _fit_add_occasions(state, x, t_x, n [, weight]) */
Datum
cdp_fit_add_occasions(PG_FUNCTION_ARGS)
{
	double		row[] = {PG_GETARG_FLOAT8(1), PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3)};

	cdp_check_occasions(row[0], row[1], row[2]);
	return add(fcinfo, row, 3);
}

/* _fit_add_period(state, period, churned [, weight]) */
Datum
cdp_fit_add_period(PG_FUNCTION_ARGS)
{
	double		row[] = {PG_GETARG_INT32(1), PG_GETARG_BOOL(2)};

	cdp_check_period(row[0]);
	return add(fcinfo, row, 2);
}

/* _fit_combine(state, state): all rows of the second into the first. */
Datum
cdp_fit_combine(PG_FUNCTION_ARGS)
{
	FitState   *state;
	FitState   *other;
	int64		nrows;
	const double *row;

	if (VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(PG_GETARG_DATUM(1))))
	{
		other = cdp_fit_state_get(PG_GETARG_DATUM(1), CurrentMemoryContext);
		state = state_to_change(fcinfo, other->ncolumns);
		nrows = other->nrows;
		row = other->data;
	}
	else
	{
		FitValue   *value = value_of(PG_GETARG_DATUM(1));

		state = state_to_change(fcinfo, value->ncolumns);
		nrows = value->nrows;
		row = value->data;
	}
	for (int64 i = 0; i < nrows; i++, row += state->width)
	{
		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
		add_row(state, row, row[state->ncolumns], row[state->ncolumns + 1]);
	}
	return EOHPGetRWDatum(&state->hdr);
}

/*
 * In and out
 */

pg_noreturn static void
unsound(int sqlerrcode, const char *why)
{
	ereport(ERROR,
			(errcode(sqlerrcode),
			 errmsg("invalid value of type cdp.fit_state"),
			 errdetail_internal("%s", why),
			 errhint(STATE_HINT)));
}

/* A value that grows by rows, which are checked. */
typedef struct ValueMaker
{
	StringInfoData data;		/* a FitValue */
	int			ncolumns;
	int64		nrows;
	int			sqlerrcode;
} ValueMaker;

static void
maker_begin(ValueMaker *maker, int ncolumns, int sqlerrcode)
{
	FitValue	empty = {0};

	initStringInfo(&maker->data);
	appendBinaryStringInfo(&maker->data, (char *) &empty, offsetof(FitValue, data));
	maker->ncolumns = ncolumns;
	maker->nrows = 0;
	maker->sqlerrcode = sqlerrcode;
}

static void
maker_add(ValueMaker *maker, const double *row)
{
	int			n = maker->ncolumns;

	for (int i = 0; i < n + 2; i++)
		if (!isfinite(row[i]) || (row[i] == 0 && signbit(row[i])))
			unsound(maker->sqlerrcode, "A number is not finite, or minus zero.");
	if (!(row[n] > 0) || row[n] > WEIGHT_MAX * WEIGHT_MAX || row[n] + row[n + 1] != row[n])
		unsound(maker->sqlerrcode, "A weight is not above 0, or too large.");
	if (maker->nrows > 0 && compare_rows((double *) (maker->data.data + maker->data.len) - (n + 2), row, n) >= 0)
		unsound(maker->sqlerrcode, "Its rows do not ascend.");
	appendBinaryStringInfo(&maker->data, (const char *) row, (n + 2) * sizeof(double));
	maker->nrows++;
}

static FitValue *
maker_end(ValueMaker *maker)
{
	FitValue   *value = (FitValue *) maker->data.data;

	SET_VARSIZE(value, maker->data.len);
	value->ncolumns = maker->nrows > 0 ? maker->ncolumns : 0;
	value->nrows = maker->nrows;
	return value;
}

/* A number; what follows it the caller judges. */
static double
scan_number(char **at)
{
	char	   *end = *at + strspn(*at, "0123456789.eE+-");
	char	   *read;
	char		after;
	double		result;

	/* a plus that is no sign of an exponent parts the two halves of a weight */
	for (char *p = *at + 1; p < end; p++)
		if (*p == '+' && p[-1] != 'e' && p[-1] != 'E')
			end = p;
	after = *end;
	*end = '\0';
	result = strtod(*at, &read);
	*end = after;
	if (read == *at || read != end)
		unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "The form is (column,...:weight;...).");
	*at = end;
	return result;
}

/* cdp.fit_state from text */
Datum
cdp_fit_state_in(PG_FUNCTION_ARGS)
{
	char	   *at = pstrdup(PG_GETARG_CSTRING(0));
	ValueMaker	maker;

	maker_begin(&maker, 0, ERRCODE_INVALID_TEXT_REPRESENTATION);
	if (*at++ != '(')
		unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "The form is (column,...:weight;...).");
	if (strcmp(at, ")") == 0)
		PG_RETURN_POINTER(maker_end(&maker));
	for (;;)
	{
		double		row[FIT_MAX_COLUMNS + 2];
		int			n = 0;
		char		c;

		CHECK_FOR_INTERRUPTS();
		do
		{
			if (n == FIT_MAX_COLUMNS)
				unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "A row has too many columns.");
			row[n++] = scan_number(&at);
		} while ((c = *at++) == ',');
		if (c != ':')
			unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "The form is (column,...:weight;...).");
		if (maker.nrows == 0)
			maker.ncolumns = n;
		else if (n != maker.ncolumns)
			unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "Its rows have different numbers of columns.");
		row[n] = scan_number(&at);
		row[n + 1] = 0;
		if (*at == '+')
		{
			at++;
			row[n + 1] = scan_number(&at);
		}
		maker_add(&maker, row);
		c = *at++;
		if (c == ')' && *at == '\0')
			break;
		if (c != ';')
			unsound(ERRCODE_INVALID_TEXT_REPRESENTATION, "The form is (column,...:weight;...).");
	}
	PG_RETURN_POINTER(maker_end(&maker));
}

static void
put_number(StringInfo buf, double value)
{
	enlargeStringInfo(buf, 32);
	buf->len += double_to_shortest_decimal_bufn(value, buf->data + buf->len);
	buf->data[buf->len] = '\0';
}

/* cdp.fit_state to text */
Datum
cdp_fit_state_out(PG_FUNCTION_ARGS)
{
	FitValue   *value = value_of(PG_GETARG_DATUM(0));
	const double *row = value->data;
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '(');
	for (int64 i = 0; i < value->nrows; i++, row += value->ncolumns + 2)
	{
		CHECK_FOR_INTERRUPTS();
		if (i > 0)
			appendStringInfoChar(&buf, ';');
		for (int c = 0; c < value->ncolumns; c++)
		{
			if (c > 0)
				appendStringInfoChar(&buf, ',');
			put_number(&buf, row[c]);
		}
		appendStringInfoChar(&buf, ':');
		put_number(&buf, row[value->ncolumns]);
		if (row[value->ncolumns + 1] != 0)
		{
			appendStringInfoChar(&buf, '+');
			put_number(&buf, row[value->ncolumns + 1]);
		}
	}
	appendStringInfoChar(&buf, ')');
	PG_RETURN_CSTRING(buf.data);
}

/* cdp.fit_state from its binary form */
Datum
cdp_fit_state_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	ValueMaker	maker;
	int			ncolumns;
	int64		nrows;

	if (pq_getmsgbyte(buf) != 1)
		unsound(ERRCODE_INVALID_BINARY_REPRESENTATION, "Its version is not known.");
	ncolumns = pq_getmsgint(buf, 2);
	nrows = pq_getmsgint64(buf);
	if (nrows < 0 || ncolumns > FIT_MAX_COLUMNS || (ncolumns == 0) != (nrows == 0) ||
		nrows > (buf->len - buf->cursor) / (int64) ((ncolumns + 2) * sizeof(double)))
		unsound(ERRCODE_INVALID_BINARY_REPRESENTATION, "The number of its rows or columns is wrong.");
	maker_begin(&maker, ncolumns, ERRCODE_INVALID_BINARY_REPRESENTATION);
	for (int64 i = 0; i < nrows; i++)
	{
		double		row[FIT_MAX_COLUMNS + 2];

		CHECK_FOR_INTERRUPTS();
		for (int c = 0; c < ncolumns + 2; c++)
			row[c] = pq_getmsgfloat8(buf);
		maker_add(&maker, row);
	}
	PG_RETURN_POINTER(maker_end(&maker));
}

/* cdp.fit_state to its binary form */
Datum
cdp_fit_state_send(PG_FUNCTION_ARGS)
{
	FitValue   *value = value_of(PG_GETARG_DATUM(0));
	int64		n = value->nrows * (value->ncolumns + 2);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbyte(&buf, 1);
	pq_sendint16(&buf, value->ncolumns);
	pq_sendint64(&buf, value->nrows);
	for (int64 i = 0; i < n; i++)
	{
		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
		pq_sendfloat8(&buf, value->data[i]);
	}
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}
