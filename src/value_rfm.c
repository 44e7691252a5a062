/*
 * value_rfm.c
 *	  Aggregates cdp._rfm_all and cdp._rfm_sorted: all customers in one state.
 *
 * What a row costs is what it costs to find its customer: with a million of
 * them nothing of theirs is in the processor's cache.  So rows wait in a
 * batch, and a batch goes through three rounds: where is the slot, where is
 * the entry, add.  Each round asks the memory for what the next one needs.
 *
 * A row and a customer have the same form, RfmEntry, and adding is the same
 * for both; so a partial result of another worker comes in like rows.
 *
 * SQL: sql/value_rfm.sql.  Tests: test/sql/value_rfm.sql,
 * test/pgtap/value_rfm.sql.  Page: doc/value_rfm.md.
 */
#include "value_rfm.h"

#include "common/int.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_rfm_all_accum);
PG_FUNCTION_INFO_V1(cdp_rfm_all_accum_order);
PG_FUNCTION_INFO_V1(cdp_rfm_sorted_accum);
PG_FUNCTION_INFO_V1(cdp_rfm_all_combine);
PG_FUNCTION_INFO_V1(cdp_rfm_all_final);

#define SUMMARY_MAGIC	0x52464D53
#define FIRST_BITS		10		/* of the number of slots */
#define MAX_FULL(bits)	((UINT64CONST(1) << (bits)) / 10 * 7)

#define SH_PREFIX			rests
#define SH_ELEMENT_TYPE		RfmRest
#define SH_KEY_TYPE			uint32
#define SH_KEY				place
#define SH_HASH_KEY(tb, k)	((k) * 0x9E3779B1U)
#define SH_EQUAL(tb, a, b)	((a) == (b))
#define SH_SCOPE			static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* ids that come from a counter, a clock or a hash: all end up all over */
static inline uint64
hash_id(int64 customer_id)
{
	uint64		h = (uint64) customer_id;

	h = (h ^ (h >> 32)) * UINT64CONST(0x9E3779B97F4A7C15);
	return (h ^ (h >> 32)) * UINT64CONST(0xD6E8FEB86659FD93);
}

static RfmSlot *
make_slots(RfmSummary *s, int bits)
{
	return MemoryContextAllocExtended(s->hdr.eoh_context, (UINT64CONST(1) << bits) * sizeof(RfmSlot),
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

RfmSummary *
cdp_rfm_summary_new(MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "cdp.rfm_summary", ALLOCSET_DEFAULT_SIZES);
	RfmSummary *s = MemoryContextAllocZero(context, sizeof(RfmSummary));

	EOH_init_header(&s->hdr, &cdp_rfm_summary_methods, context);
	s->magic = SUMMARY_MAGIC;
	s->as_of = DT_NOBEGIN;
	s->bits = FIRST_BITS;
	s->slots = make_slots(s, s->bits);
	return s;
}

/* The entry of a customer who has none yet, without facts. */
RfmEntry
cdp_rfm_entry_of(int64 customer_id)
{
	RfmEntry	entry = {.customer_id = customer_id,.first_at = DT_NOEND,.last_at = DT_NOBEGIN};

	return entry;
}

Numeric
cdp_numeric_add(Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall2(numeric_add, NumericGetDatum(a), NumericGetDatum(b)));
}

static inline void
put_slot(RfmSlot *slots, int bits, uint64 hash, uint32 place)
{
	uint64		mask = (UINT64CONST(1) << bits) - 1;
	uint64		i = hash >> (64 - bits);

	while (slots[i].place != 0)
		i = (i + 1) & mask;
	slots[i].tag = (uint32) hash;
	slots[i].place = place + 1;
}

/* Slots for that many customers. */
void
cdp_rfm_reserve(RfmSummary *s, uint64 n)
{
	int			bits = s->bits;
	RfmSlot    *slots;

	if (n <= MAX_FULL(bits))
		return;
	while (n > MAX_FULL(bits))
		bits++;
	pfree(s->slots);
	slots = s->slots = make_slots(s, bits);
	s->bits = bits;
	for (uint32 i = 0; i < s->n; i++)
	{
		if (i % RFM_CHUNK == 0)
			CHECK_FOR_INTERRUPTS();
		put_slot(slots, bits, hash_id(cdp_rfm_entry(s, i)->customer_id), i);
	}
}

static pg_noinline uint32
new_entry(RfmSummary *s, int64 customer_id)
{
	if (s->n >= RFM_MAX_CUSTOMERS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than %d customers in one RFM summary", RFM_MAX_CUSTOMERS),
				 errhint("Split by ranges of customer_id: WHERE customer_id BETWEEN ... AND ... in the query.")));
	if (s->n % RFM_CHUNK == 0)
	{
		uint32		chunk = s->n / RFM_CHUNK;

		if (chunk >= s->max_chunks)
		{
			uint32		wanted = Max(16, s->max_chunks * 2);

			if (s->chunks)
				s->chunks = repalloc(s->chunks, wanted * sizeof(RfmEntry *));
			else
				s->chunks = MemoryContextAlloc(s->hdr.eoh_context, wanted * sizeof(RfmEntry *));
			s->max_chunks = wanted;
		}
		s->chunks[chunk] = MemoryContextAlloc(s->hdr.eoh_context, RFM_CHUNK * sizeof(RfmEntry));
	}
	*cdp_rfm_entry(s, s->n) = cdp_rfm_entry_of(customer_id);
	return s->n++;
}

/* Place of a customer's entry, made when he has none; there is a free slot. */
static inline uint32
find_entry(RfmSummary *s, uint64 hash, int64 customer_id)
{
	uint64		mask = (UINT64CONST(1) << s->bits) - 1;
	uint64		i = hash >> (64 - s->bits);
	uint32		place;

	for (; s->slots[i].place != 0; i = (i + 1) & mask)
	{
		place = s->slots[i].place - 1;
		if (s->slots[i].tag == (uint32) hash && cdp_rfm_entry(s, place)->customer_id == customer_id)
			return place;
	}
	place = new_entry(s, customer_id);
	s->slots[i].tag = (uint32) hash;
	s->slots[i].place = place + 1;
	return place;
}

static void
add_rest(RfmSummary *s, uint32 place, uint16 part, Numeric money)
{
	RfmEntry   *entry = cdp_rfm_entry(s, place);
	int			i = part == RFM_GROSS_REST ? 0 : 1;
	MemoryContext old;
	RfmRest    *rest;
	Numeric		sum = money;
	bool		found;

	if (s->rests == NULL)
		s->rests = rests_create(s->hdr.eoh_context, 64, NULL);
	rest = rests_insert(s->rests, place, &found);
	if (!found)
		rest->money[0] = rest->money[1] = NULL;
	if (rest->money[i])
		sum = cdp_numeric_add(rest->money[i], money);
	old = MemoryContextSwitchTo(s->hdr.eoh_context);
	if (rest->money[i])
		pfree(rest->money[i]);
	rest->money[i] = (Numeric) memcpy(palloc(VARSIZE(sum)), sum, VARSIZE(sum));
	MemoryContextSwitchTo(old);
	if (sum != money)
		pfree(sum);
	entry->rests |= part;
}

/* An integer that is full hands its content to the rest. */
static pg_noinline void
add_overflowing(RfmSummary *s, uint32 place, uint16 part, int64 *sum, int64 more)
{
	Numeric		full = cdp_money_numeric(*sum, cdp_rfm_entry(s, place)->dscale);

	*sum = more;
	add_rest(s, place, part, full);
	pfree(full);
}

static inline void
merge_entry(RfmSummary *s, uint32 place, const RfmEntry *b)
{
	RfmEntry   *a = cdp_rfm_entry(s, place);
	int64		sum;

	if (b->first_at < a->first_at)
		a->first_at = b->first_at;
	if (b->last_at > a->last_at)
		a->last_at = b->last_at;
	if (b->dscale > a->dscale)
		a->dscale = b->dscale;
	if (unlikely(pg_add_u32_overflow(a->purchases, b->purchases, &a->purchases)))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("a customer has more than %u purchases", PG_UINT32_MAX),
				 errhint("Split by time with the aggregate cdp.rfm_partial.")));
	if (unlikely(pg_add_s64_overflow(a->gross, b->gross, &sum)))
		add_overflowing(s, place, RFM_GROSS_REST, &a->gross, b->gross);
	else
		a->gross = sum;
	if (unlikely(pg_add_s64_overflow(a->refunded, b->refunded, &sum)))
		add_overflowing(s, place, RFM_REFUNDED_REST, &a->refunded, b->refunded);
	else
		a->refunded = sum;
}

static void
flush_pending(RfmSummary *s)
{
	int			n = s->npending;
	uint64		hash[RFM_BATCH];

	cdp_rfm_reserve(s, (uint64) s->n + n);
	for (int i = 0; i < n; i++)
	{
		hash[i] = hash_id(s->pending[i].customer_id);
		__builtin_prefetch(&s->slots[hash[i] >> (64 - s->bits)]);
	}
	for (int i = 0; i < n; i++)
	{
		uint32		place = s->slots[hash[i] >> (64 - s->bits)].place;

		if (place != 0)
			__builtin_prefetch(cdp_rfm_entry(s, place - 1), 1);
	}
	for (int i = 0; i < n; i++)
		merge_entry(s, find_entry(s, hash[i], s->pending[i].customer_id), &s->pending[i]);
	s->npending = 0;
}

/* Rows of one customer, or one; rests: gross and refunded money that the entry does not hold, NULL for none. */
void
cdp_rfm_add(RfmSummary *s, const RfmEntry *entry, Numeric const *rests)
{
	uint32		place;

	if (likely(rests == NULL || (rests[0] == NULL && rests[1] == NULL)))
	{
		s->pending[s->npending] = *entry;
		s->pending[s->npending].rests = 0;
		if (++s->npending == RFM_BATCH)
			flush_pending(s);
		return;
	}
	flush_pending(s);
	cdp_rfm_reserve(s, (uint64) s->n + 1);
	place = find_entry(s, hash_id(entry->customer_id), entry->customer_id);
	merge_entry(s, place, entry);
	for (int i = 0; i < 2; i++)
		if (rests[i])
			add_rest(s, place, i == 0 ? RFM_GROSS_REST : RFM_REFUNDED_REST, rests[i]);
}

void
cdp_rfm_settle(RfmSummary *s)
{
	if (s->open)
		cdp_rfm_close(s);
	if (s->npending > 0)
		flush_pending(s);
}

/* Money into an entry that is being made, or beside it. */
void
cdp_rfm_money_set(RfmEntry *entry, Numeric *rests, uint16 part, int128 units)
{
	if (units > PG_INT64_MAX)
		rests[part == RFM_GROSS_REST ? 0 : 1] = cdp_money_numeric(units, entry->dscale);
	else if (part == RFM_GROSS_REST)
		entry->gross = (int64) units;
	else
		entry->refunded = (int64) units;
}

/* What an entry's integers do not hold; NULL: they hold all. */
const RfmRest *
cdp_rfm_rest_of(const RfmSummary *s, uint32 place)
{
	return cdp_rfm_entry(s, place)->rests ? rests_lookup(s->rests, place) : NULL;
}

/* Gross or refunded money of an entry, both parts together. */
Numeric
cdp_rfm_money(const RfmSummary *s, uint32 place, uint16 part)
{
	const RfmEntry *entry = cdp_rfm_entry(s, place);
	const RfmRest *rest = cdp_rfm_rest_of(s, place);
	Numeric		fast = cdp_money_numeric(part == RFM_GROSS_REST ? entry->gross : entry->refunded, entry->dscale);
	Numeric		more = rest ? rest->money[part == RFM_GROSS_REST ? 0 : 1] : NULL;

	return more ? cdp_numeric_add(fast, more) : fast;
}

/* One as_of for all rows. */
void
cdp_rfm_set_as_of(RfmSummary *s, TimestampTz as_of)
{
	if (likely(as_of == s->as_of))
		return;
	if (!TIMESTAMP_IS_NOBEGIN(s->as_of) || TIMESTAMP_NOT_FINITE(as_of))
		cdp_purchase_refuse_as_of();
	s->as_of = as_of;
}

/* One currency for all money. */
void
cdp_rfm_set_currency(RfmSummary *s, const char *currency, int len)
{
	if (s->currency == NULL)
		s->currency = memcpy(MemoryContextAllocZero(s->hdr.eoh_context, len + 1), currency, len);
	else if (unlikely(strncmp(s->currency, currency, len) != 0 || s->currency[len] != '\0'))
		cdp_purchase_refuse_currency(s->currency, strlen(s->currency), currency, len);
}

static inline RfmSummary *
summary_of_object(Datum value)
{
	RfmSummary *s = (RfmSummary *) DatumGetEOHP(value);

	if (s->magic != SUMMARY_MAGIC)
		elog(ERROR, "not an RFM summary");
	return s;
}

RfmSummary *
cdp_rfm_summary_get(Datum value)
{
	RfmSummary *s;
	struct varlena *flat;

	if (VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(value)))
		s = summary_of_object(value);
	else
	{
		flat = PG_DETOAST_DATUM_PACKED(value);
		s = cdp_rfm_summary_new(CurrentMemoryContext);
		cdp_rfm_load(s, VARDATA_ANY(flat), VARSIZE_ANY_EXHDR(flat), ERRCODE_INVALID_BINARY_REPRESENTATION);
	}
	cdp_rfm_settle(s);
	return s;
}

/* The state of a running aggregate, to be changed; before the first row it is flat. */
static inline RfmSummary *
state_to_change(FunctionCallInfo fcinfo)
{
	RfmSummary *s;

	if (likely(!PG_ARGISNULL(0) && VARATT_IS_EXTERNAL_EXPANDED_RW(DatumGetPointer(PG_GETARG_DATUM(0)))))
		s = summary_of_object(PG_GETARG_DATUM(0));
	else
	{
		s = cdp_rfm_summary_new(cdp_aggregate_context(fcinfo, "Use cdp.rfm_table()."));
		if (!PG_ARGISNULL(0))
		{
			struct varlena *flat = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));

			cdp_rfm_load(s, VARDATA_ANY(flat), VARSIZE_ANY_EXHDR(flat), ERRCODE_INVALID_BINARY_REPRESENTATION);
		}
	}
	if (unlikely(s->flat != NULL))
	{
		pfree(s->flat);
		s->flat = NULL;
	}
	return s;
}

/* Is this row (customer_id, occurred_at, amount, as_of from argument 1 on) one that exists?  Counts it when not. */
static inline bool
row_counts(RfmSummary *s, FunctionCallInfo fcinfo, bool more_null)
{
	TimestampTz occurred_at;

	if (unlikely(PG_ARGISNULL(4)))
		cdp_purchase_refuse_as_of();
	cdp_rfm_set_as_of(s, PG_GETARG_TIMESTAMPTZ(4));
	if (unlikely(PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3) || more_null))
	{
		s->skipped_null++;
		return false;
	}
	occurred_at = PG_GETARG_TIMESTAMPTZ(2);
	if (unlikely(TIMESTAMP_NOT_FINITE(occurred_at)))
		cdp_purchase_refuse_time();
	if (unlikely(occurred_at > s->as_of))
	{
		s->after_as_of++;
		return false;
	}
	return true;
}

/* One amount into a row's gross or refunded money; answers whether it is below zero. */
static inline bool
read_money(RfmEntry *row, Numeric *rests, const struct varlena *amount, uint16 part)
{
	int128		units = 0;
	bool		negative = false;
	int			dscale = 0;
	MoneyKind	kind = cdp_money_read(amount, &units, &negative, &dscale);

	if (unlikely(kind == MONEY_SPECIAL))
		cdp_purchase_refuse_amount();
	row->dscale = Max(row->dscale, dscale);
	if (negative)
		part = RFM_REFUNDED_REST;
	if (likely(kind == MONEY_FITS))
		cdp_rfm_money_set(row, rests, part, units);
	else
		rests[part == RFM_GROSS_REST ? 0 : 1] =
			DatumGetNumeric(DirectFunctionCall1(numeric_abs, PointerGetDatum(amount)));
	return negative;
}

static inline void
add_row(RfmSummary *s, FunctionCallInfo fcinfo, const struct varlena *refunded)
{
	RfmEntry	row = cdp_rfm_entry_of(PG_GETARG_INT64(1));
	Numeric		rests[2] = {NULL, NULL};

	if (!read_money(&row, rests, PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(3)), RFM_GROSS_REST))
	{
		row.purchases = 1;
		row.first_at = row.last_at = PG_GETARG_TIMESTAMPTZ(2);
	}
	else if (refunded)
	{
		/* what a refund has of refunds is a row of its own */
		cdp_rfm_add(s, &row, rests);
		row = cdp_rfm_entry_of(row.customer_id);
		rests[1] = NULL;
	}
	if (refunded && read_money(&row, rests, refunded, RFM_REFUNDED_REST))
		cdp_purchase_refuse_amount();
	cdp_rfm_add(s, &row, rests);
}

/* cdp._rfm_all_accum(state, customer_id, occurred_at, amount, as_of) */
Datum
cdp_rfm_all_accum(PG_FUNCTION_ARGS)
{
	RfmSummary *s = state_to_change(fcinfo);

	if (row_counts(s, fcinfo, false))
		add_row(s, fcinfo, NULL);
	PG_RETURN_DATUM(EOHPGetRWDatum(&s->hdr));
}

static inline void
take_currency(RfmSummary *s, FunctionCallInfo fcinfo)
{
	text	   *currency = PG_GETARG_TEXT_PP(6);

	cdp_rfm_set_currency(s, VARDATA_ANY(currency), VARSIZE_ANY_EXHDR(currency));
}

/*
 * cdp._rfm_all_accum(state, customer_id, occurred_at, amount, as_of,
 * refunded, currency): orders that know what was paid back, NULL for nothing.
 */
Datum
cdp_rfm_all_accum_order(PG_FUNCTION_ARGS)
{
	RfmSummary *s = state_to_change(fcinfo);

	if (row_counts(s, fcinfo, PG_ARGISNULL(6)))
	{
		take_currency(s, fcinfo);
		add_row(s, fcinfo, PG_ARGISNULL(5) ? NULL : PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(5)));
	}
	PG_RETURN_DATUM(EOHPGetRWDatum(&s->hdr));
}

/*
 * cdp._rfm_sorted_accum(state, customer_id, occurred_at, amount, as_of,
 * refunded, currency, net_day boolean): the rows of a customer come together.
 */
Datum
cdp_rfm_sorted_accum(PG_FUNCTION_ARGS)
{
	RfmSummary *s = state_to_change(fcinfo);
	RfmRule		rule = !PG_ARGISNULL(7) && PG_GETARG_BOOL(7) ? RFM_RULE_NET_DAY : RFM_RULE_CANCEL;

	if (s->rule != rule)
	{
		if (!TIMESTAMP_IS_NOBEGIN(s->as_of))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the rule for refunds must be one for all rows"),
					 errhint("Give a constant.")));
		s->rule = rule;
	}
	/* money without a currency stays without */
	if (row_counts(s, fcinfo, PG_ARGISNULL(6)))
	{
		take_currency(s, fcinfo);
		cdp_rfm_open_row(s, PG_GETARG_INT64(1), PG_GETARG_TIMESTAMPTZ(2), PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(3)),
						 PG_ARGISNULL(5) ? NULL : PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(5)));
	}
	PG_RETURN_DATUM(EOHPGetRWDatum(&s->hdr));
}

/* What is in another object. */
static void
add_summary(RfmSummary *a, const RfmSummary *b)
{
	uint64		expected;

	if (a->rule != b->rule && !TIMESTAMP_IS_NOBEGIN(a->as_of) && !TIMESTAMP_IS_NOBEGIN(b->as_of))
		cdp_rfm_refuse_rules();
	if (TIMESTAMP_IS_NOBEGIN(b->as_of))
		return;
	expected = (uint64) a->n + b->n;
	a->rule = b->rule;
	cdp_rfm_set_as_of(a, b->as_of);
	if (b->currency)
		cdp_rfm_set_currency(a, b->currency, strlen(b->currency));
	a->skipped_null += b->skipped_null;
	a->after_as_of += b->after_as_of;
	for (uint32 i = 0; i < b->n; i++)
	{
		const RfmRest *rest = cdp_rfm_rest_of(b, i);

		if (i % RFM_CHUNK == 0)
			CHECK_FOR_INTERRUPTS();
		cdp_rfm_add(a, cdp_rfm_entry(b, i), rest ? rest->money : NULL);
	}
	cdp_rfm_settle(a);
	/* what a rule says of a customer needs all of his rows */
	if (a->rule != RFM_RULE_PLAIN && a->n != expected)
		cdp_rfm_refuse_rules();
}

/* cdp._rfm_all_combine(a, b): b into a */
Datum
cdp_rfm_all_combine(PG_FUNCTION_ARGS)
{
	RfmSummary *a = state_to_change(fcinfo);
	Datum		b = PG_GETARG_DATUM(1);

	cdp_rfm_settle(a);
	if (VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(b)))
	{
		RfmSummary *other = summary_of_object(b);

		if (other == a)
			elog(ERROR, "an RFM summary cannot be combined with itself");
		cdp_rfm_settle(other);
		add_summary(a, other);
	}
	else
	{
		struct varlena *flat = PG_DETOAST_DATUM_PACKED(b);

		cdp_rfm_load(a, VARDATA_ANY(flat), VARSIZE_ANY_EXHDR(flat), ERRCODE_INVALID_BINARY_REPRESENTATION);
	}
	PG_RETURN_DATUM(EOHPGetRWDatum(&a->hdr));
}

/*
 * cdp._rfm_all_final(state): the state itself.
 *
 * An aggregate's result that does not lie in the current context is copied
 * by 15, and a copy of this object is flat.  The pointer to an object may be
 * copied anywhere, so we hand out one that lies where the executor wants it.
 */
Datum
cdp_rfm_all_final(PG_FUNCTION_ARGS)
{
	struct varlena *value;
	RfmSummary *s;

	if (!VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(PG_GETARG_DATUM(0))))
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	s = summary_of_object(PG_GETARG_DATUM(0));
	cdp_rfm_settle(s);
	value = palloc(EXPANDED_POINTER_SIZE);
	memcpy(value, DatumGetPointer(EOHPGetRODatum(&s->hdr)), EXPANDED_POINTER_SIZE);
	PG_RETURN_POINTER(value);
}
