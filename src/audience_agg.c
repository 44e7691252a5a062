/*
 * audience_agg.c
 *	  Aggregates cdp.audience_agg, audience_union: a set that changes.
 *
 * The state has the type of the result, cdp.audience, as a read-write
 * expanded object: changed in place, and packed only where it leaves the
 * aggregate, to a parallel leader for example.  (audience_intersection needs
 * no such state: it only ever gets smaller, and is the operator & itself.)
 *
 * A set in work is a list of parts, one per container:
 *
 *		1 .. 4 values		inside the entry
 *		.. 1024 values		a sorted array: at the end at once, elsewhere by
 *							moving what follows, at most 2 kB
 *		more				words, 8 kB
 *
 * While ids ascend, the part that an id belongs to is the last one, or a new
 * one after it.  The first id that goes back makes a hash table of keys.  So
 * ids that ascend cost a comparison or two, others a look into a table of as
 * many entries as there are 65,536s of ids: hashed order is no special case.
 *
 * Memory: 24 bytes per part (about 50 with the table), and per id at most 16
 * bytes (a part of 5 values), below an eighth of a byte when ids are dense.
 *
 * SQL: sql/audience.sql.  Tests: test/sql/audience.sql,
 * test/pgtap/audience.sql.  Page: doc/audience.md.
 */
#include "audience.h"

#include "miscadmin.h"
#include "utils/expandeddatum.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_audience_add);
PG_FUNCTION_INFO_V1(cdp_audience_add_all);

#define BITS			CDP_AUDIENCE_BITS
#define FEW				4		/* values inside the entry */
#define MOST			1024	/* values of an array; more become words */
#define GROW			4		/* an array that is full gets so many times the room */
#define IS_WORDS		(-1)

typedef struct Part
{
	int64		key;
	int32		n;				/* values, or IS_WORDS */
	int32		room;			/* for values; FEW: they are in here */
	union
	{
		uint16		few[FEW];
		uint16	   *values;
		uint64	   *words;
	}			u;
} Part;

typedef struct PartPlace
{
	int64		key;
	uint32		place;			/* of the part */
	char		status;
} PartPlace;

/* keys are small and neighbours, as a rule; large ones differ in any bits */
static inline uint32
hash_key(int64 key)
{
	uint64		h = (uint64) key;

	return (uint32) (((h ^ (h >> 32)) * UINT64CONST(0x9E3779B97F4A7C15)) >> 32);
}

#define SH_PREFIX			parts
#define SH_ELEMENT_TYPE		PartPlace
#define SH_KEY_TYPE			int64
#define SH_KEY				key
#define SH_HASH_KEY(tb, k)	hash_key(k)
#define SH_EQUAL(tb, a, b)	((a) == (b))
#define SH_SCOPE			static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

#define STATE_MAGIC		0x41554449

struct CdpAudienceState
{
	ExpandedObjectHeader hdr;
	int			magic;
	Part	   *parts;
	uint32		nparts;
	uint32		room;
	uint32		last;			/* place of the part used last */
	int64		highest;		/* key of the part at the end, while keys ascend */
	parts_hash *places;			/* NULL while keys ascend */
	CdpAudience *value;			/* packed; NULL after a change */
};

static Size
state_flat_size(ExpandedObjectHeader *eohptr)
{
	return VARSIZE(cdp_audience_state_value((CdpAudienceState *) eohptr));
}

static void
state_flatten(ExpandedObjectHeader *eohptr, void *result, Size allocated_size)
{
	CdpAudienceState *state = (CdpAudienceState *) eohptr;

	Assert(state->value != NULL && VARSIZE(state->value) == allocated_size);
	memcpy(result, state->value, allocated_size);
	/* who asks again, asks after a change, as a rule */
	pfree(state->value);
	state->value = NULL;
}

static const ExpandedObjectMethods state_methods = {state_flat_size, state_flatten};

CdpAudienceState *
cdp_audience_state_new(MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "cdp.audience", ALLOCSET_START_SMALL_SIZES);
	CdpAudienceState *state = MemoryContextAllocZero(context, sizeof(CdpAudienceState));

	EOH_init_header(&state->hdr, &state_methods, context);
	state->magic = STATE_MAGIC;
	state->room = 4;
	state->parts = MemoryContextAlloc(context, state->room * sizeof(Part));
	state->highest = -1;
	return state;
}

CdpAudienceState *
cdp_audience_state_of(Datum value)
{
	CdpAudienceState *state = (CdpAudienceState *) DatumGetEOHP(value);

	if (state->magic != STATE_MAGIC)
		elog(ERROR, "not an audience");
	return state;
}

/*
 * Parts
 */

static uint32
new_part(CdpAudienceState *state, int64 key)
{
	Part	   *p;

	if (state->nparts == state->room)
	{
		cdp_audience_check_size((uint64) state->nparts + 1, 0);
		state->room *= 2;
		state->parts = repalloc_huge(state->parts, state->room * sizeof(Part));
	}
	p = &state->parts[state->nparts];
	p->key = key;
	p->n = 0;
	p->room = FEW;
	return state->nparts++;
}

/* Where a part that is not the last one used is, or will be. */
static pg_noinline uint32
find_part(CdpAudienceState *state, int64 key)
{
	PartPlace  *entry;
	bool		found;

	if (state->places == NULL)
	{
		if (key > state->highest)
		{
			state->highest = key;
			return new_part(state, key);
		}
		state->places = parts_create(state->hdr.eoh_context, Max(state->nparts, 8), NULL);
		for (uint32 i = 0; i < state->nparts; i++)
			parts_insert(state->places, state->parts[i].key, &found)->place = i;
	}
	entry = parts_insert(state->places, key, &found);
	if (!found)
		entry->place = new_part(state, key);
	return entry->place;
}

static inline Part *
get_part(CdpAudienceState *state, int64 key)
{
	if (state->nparts == 0 || state->parts[state->last].key != key)
		state->last = find_part(state, key);
	return &state->parts[state->last];
}

static inline uint16 *
values_of(Part *p)
{
	return p->room == FEW ? p->u.few : p->u.values;
}

static pg_noinline void
part_to_words(CdpAudienceState *state, Part *p)
{
	uint64	   *words = MemoryContextAllocZero(state->hdr.eoh_context, CDP_WORDS(BITS) * sizeof(uint64));
	uint16	   *values = values_of(p);

	for (int i = 0; i < p->n; i++)
		words[values[i] >> 6] |= UINT64CONST(1) << (values[i] & 63);
	if (p->room > FEW)
		pfree(values);
	p->u.words = words;
	p->n = IS_WORDS;
}

/* Room for more values than there is; the part may become words. */
static pg_noinline void
grow_part(CdpAudienceState *state, Part *p)
{
	uint16	   *values;

	if (p->room == MOST)
	{
		part_to_words(state, p);
		return;
	}
	values = MemoryContextAlloc(state->hdr.eoh_context, p->room * GROW * sizeof(uint16));
	memcpy(values, values_of(p), p->n * sizeof(uint16));
	if (p->room > FEW)
		pfree(p->u.values);
	p->u.values = values;
	p->room *= GROW;
}

static inline void
part_add(CdpAudienceState *state, Part *p, uint16 value)
{
	uint16	   *values;
	int			low = 0;

	if (p->n == IS_WORDS)
	{
		p->u.words[value >> 6] |= UINT64CONST(1) << (value & 63);
		return;
	}
	values = values_of(p);
	if (p->n > 0 && value <= values[p->n - 1])
	{
		int			high = p->n - 1;

		/* the first that is not below the value */
		while (low < high)
		{
			int			mid = (low + high) / 2;

			if (values[mid] < value)
				low = mid + 1;
			else
				high = mid;
		}
		if (values[low] == value)
			return;
	}
	else
		low = p->n;
	if (p->n == p->room)
	{
		grow_part(state, p);
		if (p->n == IS_WORDS)
		{
			p->u.words[value >> 6] |= UINT64CONST(1) << (value & 63);
			return;
		}
		values = values_of(p);
	}
	memmove(values + low + 1, values + low, (p->n - low) * sizeof(uint16));
	values[low] = value;
	p->n++;
}

static inline void
forget_value(CdpAudienceState *state)
{
	if (unlikely(state->value != NULL))
	{
		pfree(state->value);
		state->value = NULL;
	}
}

void
cdp_audience_state_add(CdpAudienceState *state, int64 id)
{
	if (unlikely(id < 0))
		cdp_audience_refuse_negative();
	forget_value(state);
	part_add(state, get_part(state, CDP_AUDIENCE_KEY(id)), CDP_AUDIENCE_LOW(id));
}

void
cdp_audience_state_add_all(CdpAudienceState *state, const CdpAudience *a)
{
	uint16		values[MOST];

	forget_value(state);
	for (uint32 i = 0; i < a->ncontainers; i++)
	{
		Part	   *p = get_part(state, a->keys[i]);
		int			size;
		const uint8 *bytes = cdp_audience_container(a, i, &size);
		int			n = cdp_container_count(bytes);

		CHECK_FOR_INTERRUPTS();
		if (p->n != IS_WORDS && p->n + n > MOST)
			part_to_words(state, p);
		if (p->n == IS_WORDS)
			cdp_container_or(p->u.words, bytes, size, BITS);
		else
		{
			cdp_container_values(bytes, size, BITS, values);
			for (int k = 0; k < n; k++)
				part_add(state, p, values[k]);
		}
	}
}

/* Parts in the order of their keys, without a look at the parts while sorting. */
typedef struct PartOrder
{
	int64		key;
	uint32		place;
} PartOrder;

static int
compare_order(const void *a, const void *b)
{
	int64		x = ((const PartOrder *) a)->key;
	int64		y = ((const PartOrder *) b)->key;

	return x < y ? -1 : x > y;
}

static PartOrder *
order_parts(const CdpAudienceState *state)
{
	PartOrder  *order = MemoryContextAllocHuge(CurrentMemoryContext, state->nparts * sizeof(PartOrder));

	for (uint32 i = 0; i < state->nparts; i++)
	{
		order[i].key = state->parts[i].key;
		order[i].place = i;
	}
	qsort(order, state->nparts, sizeof(PartOrder), compare_order);
	return order;
}

CdpAudience *
cdp_audience_state_value(CdpAudienceState *state)
{
	MemoryContext old;
	CdpAudienceBuilder b;
	PartOrder  *order;

	if (state->value)
		return state->value;
	old = MemoryContextSwitchTo(state->hdr.eoh_context);
	order = state->places ? order_parts(state) : NULL;
	cdp_audience_build_begin(&b);
	for (uint32 i = 0; i < state->nparts; i++)
	{
		Part	   *p = &state->parts[order ? order[i].place : i];
		uint8	   *out = cdp_audience_build_room(&b);

		CHECK_FOR_INTERRUPTS();
		cdp_audience_build_add(&b, p->key, p->n == IS_WORDS ?
							   cdp_container_from_words(out, p->u.words, BITS) :
							   cdp_container_from_values(out, values_of(p), p->n, BITS));
	}
	state->value = cdp_audience_build_finish(&b);
	if (order)
		pfree(order);
	MemoryContextSwitchTo(old);
	return state->value;
}

/*
 * The state of a running aggregate, to be changed.  Before the first row it
 * is a packed value; the object it becomes lives where states live.
 */
static CdpAudienceState *
state_to_change(FunctionCallInfo fcinfo)
{
	Datum		value = PG_GETARG_DATUM(0);
	MemoryContext context;
	CdpAudienceState *state;

	if (VARATT_IS_EXTERNAL_EXPANDED_RW(DatumGetPointer(value)))
		return cdp_audience_state_of(value);
	if (!AggCheckCallContext(fcinfo, &context))
		context = CurrentMemoryContext;
	state = cdp_audience_state_new(context);
	cdp_audience_state_add_all(state, cdp_audience_get(value));
	return state;
}

/* cdp._audience_add(state, id) */
Datum
cdp_audience_add(PG_FUNCTION_ARGS)
{
	CdpAudienceState *state = state_to_change(fcinfo);

	cdp_audience_state_add(state, PG_GETARG_INT64(1));
	PG_RETURN_DATUM(EOHPGetRWDatum(&state->hdr));
}

/* cdp._audience_add_all(state, audience) */
Datum
cdp_audience_add_all(PG_FUNCTION_ARGS)
{
	CdpAudienceState *state = state_to_change(fcinfo);

	cdp_audience_state_add_all(state, cdp_audience_get(PG_GETARG_DATUM(1)));
	PG_RETURN_DATUM(EOHPGetRWDatum(&state->hdr));
}
