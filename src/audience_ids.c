/*
 * audience_ids.c
 *	  Ids out of and into an audience: rows, samples, arrays.
 *
 * Rows are handed out the way the executor takes them best.  In FROM it
 * would store them anyway, and spends more on a call and a tuple per row: so
 * as a whole (materialize mode), in memory up to work_mem, on disk beyond.
 * In a select list it stores nothing and may stop early: so one by one, from
 * one decoded container at a time.
 *
 * A sample is the n ids with the smallest mix(id, seed), a mixing of bits
 * that maps no two ids to the same number.  So it needs no memory per id, the
 * order of nothing matters, and with the same seed a larger sample holds the
 * smaller one.  The n-th smallest is found by counting first: how many ids
 * have which upper bits of the mix, then sorting the few in the one class
 * where the n-th lies.
 *
 * SQL: sql/audience.sql.  Tests: test/sql/audience.sql,
 * test/pgtap/audience.sql.  Page: doc/audience.md.
 */
#include "audience.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cdp_audience_ids);
PG_FUNCTION_INFO_V1(cdp_audience_sample);
PG_FUNCTION_INFO_V1(cdp_audience_from_array);
PG_FUNCTION_INFO_V1(cdp_audience_to_array);

#define BITS			CDP_AUDIENCE_BITS
#define MOST_VALUES		CDP_CONTAINER_VALUES(BITS)

/* classes of mixes, by their upper bits */
#define CLASS_BITS		12
#define CLASSES			(1 << CLASS_BITS)
#define CLASS_OF(mix)	((mix) >> (64 - CLASS_BITS))

/*
 * Rows
 */

typedef struct Sink
{
	Tuplestorestate *store;
	TupleTableSlot *slot;
	MinimalTuple tuple;
} Sink;

/*
 * All rows have the same shape, so one tuple is formed and its number
 * overwritten, instead of forming as many tuples as there are ids.
 */
static void
sink_open(Sink *sink, FunctionCallInfo fcinfo)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TupleTableSlot *model;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	sink->store = rsinfo->setResult;
	model = MakeSingleTupleTableSlot(rsinfo->setDesc, &TTSOpsVirtual);
	model->tts_values[0] = Int64GetDatum(0);
	model->tts_isnull[0] = false;
	ExecStoreVirtualTuple(model);
	sink->tuple = ExecCopySlotMinimalTuple(model);
	ExecDropSingleTupleTableSlot(model);
	sink->slot = MakeSingleTupleTableSlot(rsinfo->setDesc, &TTSOpsMinimalTuple);
	ExecStoreMinimalTuple(sink->tuple, sink->slot, false);
}

static inline void
sink_put(Sink *sink, int64 id)
{
	memcpy((char *) sink->tuple + sink->tuple->t_len - sizeof(int64), &id, sizeof(int64));
	tuplestore_puttupleslot(sink->store, sink->slot);
}

static void
sink_close(Sink *sink)
{
	ExecDropSingleTupleTableSlot(sink->slot);
	pfree(sink->tuple);
}

/* All ids into the store that the executor reads from. */
static void
put_all(const CdpAudience *a, FunctionCallInfo fcinfo)
{
	uint16	   *values = palloc(MOST_VALUES * sizeof(uint16));
	Sink		sink;

	sink_open(&sink, fcinfo);
	for (uint32 i = 0; i < a->ncontainers; i++)
	{
		int			size;
		const uint8 *bytes = cdp_audience_container(a, i, &size);
		int			n = cdp_container_values(bytes, size, BITS, values);

		CHECK_FOR_INTERRUPTS();
		for (int k = 0; k < n; k++)
			sink_put(&sink, CDP_AUDIENCE_ID(a->keys[i], values[k]));
	}
	sink_close(&sink);
}

/* Where we are between two calls. */
typedef struct Cursor
{
	CdpAudience *audience;
	uint32		container;		/* the next one */
	int			n;				/* ids of the current one, */
	int			next;			/* and the next of these */
	int64		key;
	uint16		values[MOST_VALUES];
} Cursor;

static bool
cursor_next(Cursor *c, int64 *id)
{
	while (c->next == c->n)
	{
		int			size;
		const uint8 *bytes;

		CHECK_FOR_INTERRUPTS();
		if (c->container == c->audience->ncontainers)
			return false;
		c->key = c->audience->keys[c->container];
		bytes = cdp_audience_container(c->audience, c->container++, &size);
		c->n = cdp_container_values(bytes, size, BITS, c->values);
		c->next = 0;
	}
	*id = CDP_AUDIENCE_ID(c->key, c->values[c->next++]);
	return true;
}

/* cdp.audience_ids(a) */
Datum
cdp_audience_ids(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	FuncCallContext *call;
	int64		id;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext caller;
		Cursor	   *cursor;

		if (rsinfo != NULL && IsA(rsinfo, ReturnSetInfo) && (rsinfo->allowedModes & SFRM_Materialize_Preferred) != 0)
		{
			put_all(cdp_audience_get(PG_GETARG_DATUM(0)), fcinfo);
			PG_RETURN_NULL();
		}
		call = SRF_FIRSTCALL_INIT();
		caller = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		cursor = palloc(sizeof(Cursor));
		cursor->audience = cdp_audience_get(PG_GETARG_DATUM(0));
		cursor->container = 0;
		cursor->n = cursor->next = 0;
		call->user_fctx = cursor;
		MemoryContextSwitchTo(caller);
	}
	call = SRF_PERCALL_SETUP();
	if (cursor_next(call->user_fctx, &id))
		SRF_RETURN_NEXT(call, Int64GetDatum(id));
	SRF_RETURN_DONE(call);
}

/*
 * Samples
 */

/* A permutation of all 64-bit numbers: the finalizer of splitmix64 (Steele, Lea, Flood 2014). */
static inline uint64
mix(uint64 x)
{
	x += UINT64CONST(0x9E3779B97F4A7C15);
	x = (x ^ (x >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	x = (x ^ (x >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return x ^ (x >> 31);
}

typedef void (*EachId) (int64 id, uint64 mixed, void *arg);

/* Call something for every id, ascending. */
static pg_attribute_always_inline void
each_id(const CdpAudience *a, uint64 seed, EachId call, void *arg)
{
	uint16	   *values = palloc(MOST_VALUES * sizeof(uint16));

	for (uint32 i = 0; i < a->ncontainers; i++)
	{
		int			size;
		const uint8 *bytes = cdp_audience_container(a, i, &size);
		int			n = cdp_container_values(bytes, size, BITS, values);

		CHECK_FOR_INTERRUPTS();
		for (int k = 0; k < n; k++)
		{
			int64		id = CDP_AUDIENCE_ID(a->keys[i], values[k]);

			call(id, mix((uint64) id ^ seed), arg);
		}
	}
	pfree(values);
}

static inline void
count_class(int64 id, uint64 mixed, void *arg)
{
	((int64 *) arg)[CLASS_OF(mixed)]++;
}

typedef struct Class
{
	uint64		which;
	uint64	   *mixes;
	int64		n;
} Class;

static inline void
collect_class(int64 id, uint64 mixed, void *arg)
{
	Class	   *class = (Class *) arg;

	if (CLASS_OF(mixed) == class->which)
		class->mixes[class->n++] = mixed;
}

typedef struct Chosen
{
	uint64		up_to;
	Sink		sink;
} Chosen;

static inline void
put_chosen(int64 id, uint64 mixed, void *arg)
{
	Chosen	   *chosen = (Chosen *) arg;

	if (mixed <= chosen->up_to)
		sink_put(&chosen->sink, id);
}

static int
compare_mixes(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

/* The n-th smallest mix; there are at least n. */
static uint64
nth_mix(const CdpAudience *a, uint64 seed, int64 n)
{
	int64	   *counts = palloc0(CLASSES * sizeof(int64));
	Class		class = {0, NULL, 0};
	uint64		result;

	each_id(a, seed, count_class, counts);
	while (n > counts[class.which])
		n -= counts[class.which++];
	class.mixes = MemoryContextAllocHuge(CurrentMemoryContext, counts[class.which] * sizeof(uint64));
	each_id(a, seed, collect_class, &class);
	qsort(class.mixes, class.n, sizeof(uint64), compare_mixes);
	result = class.mixes[n - 1];
	pfree(class.mixes);
	pfree(counts);
	return result;
}

/* cdp.audience_sample(a, n, seed) */
Datum
cdp_audience_sample(PG_FUNCTION_ARGS)
{
	CdpAudience *a;
	Chosen		chosen;
	uint64		seed;
	int64		n;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s of a sample must not be NULL", PG_ARGISNULL(1) ? "n" : "seed"),
				 errhint("Give a number; the same one gives the same sample again.")));
	n = PG_GETARG_INT32(1);
	if (n <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a sample must have at least one id"),
				 errhint("n is how many ids you want; where there are fewer, all of them come.")));
	sink_open(&chosen.sink, fcinfo);
	if (!PG_ARGISNULL(0))
	{
		a = cdp_audience_get(PG_GETARG_DATUM(0));
		seed = mix((uint64) (int64) PG_GETARG_INT32(2));
		chosen.up_to = n < a->count ? nth_mix(a, seed, n) : PG_UINT64_MAX;
		each_id(a, seed, put_chosen, &chosen);
	}
	sink_close(&chosen.sink);
	PG_RETURN_NULL();
}

/*
 * Arrays
 */

/* bigint[]::audience */
Datum
cdp_audience_from_array(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	int64	   *ids = (int64 *) ARR_DATA_PTR(array);
	int			n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	CdpAudienceState *state;

	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("an audience holds no NULL"),
				 errhint("Take it out of the array: array_remove(ids, NULL).")));
	state = cdp_audience_state_new(CurrentMemoryContext);
	for (int i = 0; i < n; i++)
		cdp_audience_state_add(state, ids[i]);
	PG_RETURN_POINTER(cdp_audience_state_value(state));
}

/* audience::bigint[] */
Datum
cdp_audience_to_array(PG_FUNCTION_ARGS)
{
	CdpAudience *a = cdp_audience_get(PG_GETARG_DATUM(0));
	Size		size = ARR_OVERHEAD_NONULLS(1);
	uint16	   *values = palloc(MOST_VALUES * sizeof(uint16));
	ArrayType  *array;
	int64	   *ids;

	if (a->count == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(INT8OID));
	if (a->count > (int64) ((MaxAllocSize - size) / sizeof(int64)))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the audience has too many ids for an array"),
				 errhint("Read them as rows: SELECT * FROM cdp.audience_ids(…).")));
	size += a->count * sizeof(int64);
	array = palloc(size);
	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->dataoffset = 0;
	array->elemtype = INT8OID;
	ARR_DIMS(array)[0] = (int) a->count;
	ARR_LBOUND(array)[0] = 1;
	ids = (int64 *) ARR_DATA_PTR(array);
	for (uint32 i = 0; i < a->ncontainers; i++)
	{
		int			len;
		const uint8 *bytes = cdp_audience_container(a, i, &len);
		int			n = cdp_container_values(bytes, len, BITS, values);

		CHECK_FOR_INTERRUPTS();
		for (int k = 0; k < n; k++)
			*ids++ = CDP_AUDIENCE_ID(a->keys[i], values[k]);
	}
	PG_RETURN_ARRAYTYPE_P(array);
}
