/*
 * value_rfm_flat.c
 *	  Type cdp.rfm_summary: its bytes, and its text.
 *
 * The bytes are the same between workers, in tables and on the wire:
 *
 *		version 1 | rule | as_of (8) | skipped | after | currency | n | n entries
 *
 * Numbers are as short as they are small: seven bits a byte, the lowest
 * first, the eighth bit says that more follow.  as_of alone, which is the
 * same in every value, has eight bytes, the highest first.  A currency, and
 * a numeric, is its length and its bytes.  An entry of the customers, in the
 * order of their ids:
 *
 *		id less the id before	the first: how far above the least bigint
 *		dscale * 4 + rests
 *		purchases
 *		as_of - last_at			when there are purchases
 *		last_at - first_at		when there are purchases
 *		gross, refunded			in 10^-8; 0 where it is a rest
 *		rests					as numeric sends them
 *
 * The state before the first row has no bytes at all.  Text is () for that
 * one, otherwise \x and the bytes in hexadecimal.  Whatever comes in goes
 * through cdp_rfm_load, which believes nothing.
 *
 * SQL: sql/value_rfm.sql.  Tests: test/sql/value_rfm_state.sql,
 * test/pgtap/value_rfm.sql.
 */
#include "value_rfm.h"

#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_rfm_summary_in);
PG_FUNCTION_INFO_V1(cdp_rfm_summary_out);
PG_FUNCTION_INFO_V1(cdp_rfm_summary_recv);
PG_FUNCTION_INFO_V1(cdp_rfm_summary_send);

#define VERSION			1
#define MAX_VARINT		10
#define MAX_DSCALE		0x3FFF	/* of a numeric */
/* a tuple of it, or its text in a message, has to stay below 1 GB */
#define MAX_FLAT		(MaxAllocSize - 8192)
/* bytes of an entry without rests, at most */
#define MAX_ENTRY		(7 * MAX_VARINT)

/*
 * Writing
 */

typedef struct Writer
{
	char	   *data;			/* begins with room for a varlena header */
	Size		len;
	Size		room;
} Writer;

static void
need(Writer *w, Size more)
{
	if (w->room - w->len >= more)
		return;
	if (w->len + more > MAX_FLAT)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("an RFM summary has more than 1 GB"),
				 errhint("Split by ranges of customer_id: WHERE customer_id BETWEEN ... AND ... in the query.")));
	w->room = Min(Max(w->room * 2, w->len + more), MAX_FLAT);
	w->data = repalloc_huge(w->data, w->room);
}

static inline void
put(Writer *w, uint64 value)
{
	while (value >= 0x80)
	{
		w->data[w->len++] = (char) (value | 0x80);
		value >>= 7;
	}
	w->data[w->len++] = (char) value;
}

static void
put_bytes(Writer *w, const char *bytes, Size len)
{
	need(w, MAX_VARINT + len);
	put(w, len);
	memcpy(w->data + w->len, bytes, len);
	w->len += len;
}

static void
put_numeric(Writer *w, Numeric num)
{
	bytea	   *sent = DatumGetByteaPP(DirectFunctionCall1(numeric_send, NumericGetDatum(num)));

	put_bytes(w, VARDATA_ANY(sent), VARSIZE_ANY_EXHDR(sent));
	pfree(sent);
}

static void
write_entries(Writer *w, const RfmSummary *s)
{
	RfmSortPair *order = MemoryContextAllocHuge(CurrentMemoryContext, (Size) Max(s->n, 1) * sizeof(RfmSortPair));
	RfmSortPair *scratch = MemoryContextAllocHuge(CurrentMemoryContext, (Size) Max(s->n, 1) * sizeof(RfmSortPair));
	uint64		before = 0;

	for (uint32 i = 0; i < s->n; i++)
	{
		order[i].key = RFM_SORT_KEY(cdp_rfm_entry(s, i)->customer_id);
		order[i].place = i;
	}
	cdp_sort_pairs(order, scratch, s->n);
	pfree(scratch);
	for (uint32 i = 0; i < s->n; i++)
	{
		const RfmEntry *e = cdp_rfm_entry(s, (uint32) order[i].place);

		if (i + 8 < s->n)
			__builtin_prefetch(cdp_rfm_entry(s, (uint32) order[i + 8].place));
		if (i % RFM_CHUNK == 0)
			CHECK_FOR_INTERRUPTS();
		need(w, MAX_ENTRY);
		put(w, order[i].key - before);
		before = order[i].key;
		put(w, (uint64) e->dscale << 2 | e->rests);
		put(w, e->purchases);
		if (e->purchases > 0)
		{
			put(w, (uint64) s->as_of - (uint64) e->last_at);
			put(w, (uint64) e->last_at - (uint64) e->first_at);
		}
		put(w, e->rests & RFM_GROSS_REST ? 0 : e->gross);
		put(w, e->rests & RFM_REFUNDED_REST ? 0 : e->refunded);
		/* where there is a rest it holds all: what overflowed when depends on the order of the rows */
		for (uint16 part = RFM_GROSS_REST; part <= RFM_REFUNDED_REST; part++)
			if (e->rests & part)
			{
				Numeric		money = cdp_rfm_money(s, (uint32) order[i].place, part);

				put_numeric(w, money);
				pfree(money);
			}
	}
	pfree(order);
}

static struct varlena *
flatten(const RfmSummary *s)
{
	Writer		w;
	uint64		as_of = (uint64) s->as_of;

	w.room = 64 + (Size) s->n * 25;
	w.data = MemoryContextAllocHuge(CurrentMemoryContext, w.room);
	w.len = VARHDRSZ;
	if (!TIMESTAMP_IS_NOBEGIN(s->as_of))
	{
		w.data[w.len++] = VERSION;
		w.data[w.len++] = s->rule;
		for (int shift = 56; shift >= 0; shift -= 8)
			w.data[w.len++] = (char) (as_of >> shift);
		put(&w, s->skipped_null);
		put(&w, s->after_as_of);
		put_bytes(&w, s->currency ? s->currency : "", s->currency ? strlen(s->currency) : 0);
		need(&w, MAX_VARINT);
		put(&w, s->n);
		write_entries(&w, s);
	}
	SET_VARSIZE(w.data, w.len);
	return (struct varlena *) w.data;
}

static Size
summary_flat_size(ExpandedObjectHeader *eohptr)
{
	RfmSummary *s = (RfmSummary *) eohptr;

	if (s->flat == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(s->hdr.eoh_context);

		cdp_rfm_settle(s);
		s->flat = flatten(s);
		MemoryContextSwitchTo(old);
	}
	return VARSIZE(s->flat);
}

static void
summary_flatten(ExpandedObjectHeader *eohptr, void *result, Size allocated_size)
{
	RfmSummary *s = (RfmSummary *) eohptr;

	Assert(s->flat != NULL && VARSIZE(s->flat) == allocated_size);
	memcpy(result, s->flat, allocated_size);
	/* who asks again, asks after a change, as a rule */
	pfree(s->flat);
	s->flat = NULL;
}

const ExpandedObjectMethods cdp_rfm_summary_methods = {summary_flat_size, summary_flatten};

/*
 * Reading
 */

typedef struct Reader
{
	const uint8 *p;
	const uint8 *end;
	int			sqlerrcode;
} Reader;

static pg_noinline void
unsound(const Reader *r, const char *why)
{
	ereport(ERROR,
			(errcode(r->sqlerrcode),
			 errmsg("invalid value of type cdp.rfm_summary"),
			 errdetail_internal("%s", why),
			 errhint("Use values that this type wrote: they are states behind cdp.rfm_table().")));
}

static inline uint64
get(Reader *r, uint64 max)
{
	uint64		value = 0;

	for (int shift = 0; shift < 64; shift += 7)
	{
		uint8		byte;

		if (unlikely(r->p == r->end))
			unsound(r, "It ends too early.");
		byte = *r->p++;
		value |= (uint64) (byte & 0x7F) << shift;
		/* one way to write a number: no bits beyond 64, no zeros at the end */
		if (unlikely(shift == 63 && byte > 1))
			break;
		if (byte < 0x80)
		{
			if (unlikely((byte == 0 && shift > 0) || value > max))
				break;
			return value;
		}
	}
	unsound(r, "A number is out of range.");
	return 0;
}

static const char *
get_bytes(Reader *r, uint64 *len)
{
	const char *bytes;

	*len = get(r, MaxAllocSize);
	bytes = (const char *) r->p;
	if (*len > (uint64) (r->end - r->p))
		unsound(r, "It ends too early.");
	r->p += *len;
	return bytes;
}

/* A rest: a finite number above zero. */
static Numeric
get_numeric(Reader *r, int *dscale)
{
	uint64		len;
	const char *bytes = get_bytes(r, &len);
	StringInfoData buf;
	Numeric		num;
	int128		units;
	bool		negative = false;

	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, bytes, (int) len);
	num = DatumGetNumeric(DirectFunctionCall3(numeric_recv, PointerGetDatum(&buf),
											  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	if (buf.cursor != buf.len)
		unsound(r, "A number is followed by something.");
	pfree(buf.data);
	if (cdp_money_read((struct varlena *) num, &units, &negative, dscale) == MONEY_SPECIAL || negative)
		unsound(r, "Money is not a finite number from 0 on.");
	return num;
}

static void
get_entry(Reader *r, RfmSummary *s, RfmEntry *e, Numeric *rests)
{
	uint64		word = get(r, ((uint64) MAX_DSCALE << 2) | 3);
	uint64		ago;
	uint64		span;

	e->dscale = (uint16) (word >> 2);
	e->rests = word & 3;
	e->purchases = (uint32) get(r, PG_UINT32_MAX);
	e->first_at = DT_NOEND;
	e->last_at = DT_NOBEGIN;
	if (e->purchases > 0)
	{
		ago = get(r, PG_UINT64_MAX);
		span = get(r, PG_UINT64_MAX);
		if (ago > (uint64) s->as_of - (uint64) MIN_TIMESTAMP ||
			span > (uint64) s->as_of - (uint64) MIN_TIMESTAMP - ago)
			unsound(r, "The time of a purchase is out of range.");
		e->last_at = s->as_of - ago;
		e->first_at = e->last_at - span;
		if (e->purchases == 1 && span != 0 && s->rule == RFM_RULE_PLAIN)
			unsound(r, "One purchase has two times.");
	}
	e->gross = (int64) get(r, PG_INT64_MAX);
	e->refunded = (int64) get(r, PG_INT64_MAX);
	rests[0] = rests[1] = NULL;
	for (int part = 0; part < 2; part++)
		if (e->rests & (part == 0 ? RFM_GROSS_REST : RFM_REFUNDED_REST))
		{
			int			dscale = 0;

			rests[part] = get_numeric(r, &dscale);
			e->dscale = Max(e->dscale, dscale);
		}
	if (e->purchases == 0 && s->rule == RFM_RULE_PLAIN && (e->gross != 0 || rests[0] != NULL))
		unsound(r, "There is money of purchases but no purchase.");
}

void
cdp_rfm_load(RfmSummary *s, const char *bytes, Size len, int sqlerrcode)
{
	Reader		r = {(const uint8 *) bytes, (const uint8 *) bytes + len, sqlerrcode};
	uint64		as_of = 0;
	uint64		n;
	uint64		key = 0;
	uint64		currency_len;
	const char *currency;
	RfmRule		rule;
	uint64		expected;

	if (len == 0)
		return;
	if (len < 10 || *r.p++ != VERSION)
		unsound(&r, "Its version is not known.");
	if (*r.p > RFM_RULE_CANCEL)
		unsound(&r, "Its rule for refunds is not known.");
	rule = *r.p++;
	for (int i = 0; i < 8; i++)
		as_of = as_of << 8 | *r.p++;
	if (!IS_VALID_TIMESTAMP((TimestampTz) as_of))
		unsound(&r, "as_of is out of range.");
	if (!TIMESTAMP_IS_NOBEGIN(s->as_of) && s->rule != rule)
		cdp_rfm_refuse_rules();
	s->rule = rule;
	cdp_rfm_set_as_of(s, (TimestampTz) as_of);
	s->skipped_null += get(&r, PG_INT64_MAX / 2);
	s->after_as_of += get(&r, PG_INT64_MAX / 2);
	if (s->skipped_null < 0 || s->after_as_of < 0)
		unsound(&r, "A number is out of range.");
	currency = get_bytes(&r, &currency_len);
	if (currency_len > 0)
	{
		if (!pg_verify_mbstr(GetDatabaseEncoding(), currency, (int) currency_len, true))
			unsound(&r, "The currency is no text.");
		cdp_rfm_set_currency(s, currency, (int) currency_len);
	}
	/* an entry has five bytes or more */
	n = get(&r, (uint64) (r.end - r.p) / 5);
	expected = s->n + n;
	cdp_rfm_reserve(s, Max(s->n, n));
	for (uint64 i = 0; i < n; i++)
	{
		RfmEntry	e;
		Numeric		rests[2];
		uint64		step = get(&r, PG_UINT64_MAX - key);

		if (i > 0 && step == 0)
			unsound(&r, "A customer is there twice.");
		if (i % RFM_CHUNK == 0)
			CHECK_FOR_INTERRUPTS();
		key += step;
		e.customer_id = (int64) RFM_SORT_KEY(key);
		get_entry(&r, s, &e, rests);
		cdp_rfm_add(s, &e, rests);
	}
	if (r.p != r.end)
		unsound(&r, "It goes on behind its end.");
	cdp_rfm_settle(s);
	if (s->rule != RFM_RULE_PLAIN && s->n != expected)
		cdp_rfm_refuse_rules();
}

/*
 * In and out
 */

/* A value of bytes that somebody sent. */
static Datum
value_of_bytes(const char *bytes, Size len, int sqlerrcode)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "cdp.rfm_summary check", ALLOCSET_DEFAULT_SIZES);
	RfmSummary *s = cdp_rfm_summary_new(context);
	struct varlena *flat;

	cdp_rfm_load(s, bytes, len, sqlerrcode);
	MemoryContextDelete(context);
	flat = palloc(VARHDRSZ + len);
	SET_VARSIZE(flat, VARHDRSZ + len);
	memcpy(VARDATA(flat), bytes, len);
	return PointerGetDatum(flat);
}

/* An argument as flat bytes. */
static struct varlena *
flat_argument(Datum value)
{
	return PG_DETOAST_DATUM_PACKED(value);
}

/* cdp.rfm_summary from text */
Datum
cdp_rfm_summary_in(PG_FUNCTION_ARGS)
{
	char	   *str = PG_GETARG_CSTRING(0);
	Size		len = strlen(str);
	char	   *bytes;
	Reader		r = {NULL, NULL, ERRCODE_INVALID_TEXT_REPRESENTATION};

	if (strcmp(str, "()") == 0)
		return value_of_bytes("", 0, ERRCODE_INVALID_TEXT_REPRESENTATION);
	if (len < 4 || len % 2 != 0 || str[0] != '\\' || str[1] != 'x' ||
		strspn(str + 2, "0123456789abcdefABCDEF") != len - 2)
		unsound(&r, "The form is () or \\x and hexadecimal digits.");
	bytes = palloc(len / 2);
	len = hex_decode(str + 2, len - 2, bytes);
	return value_of_bytes(bytes, len, ERRCODE_INVALID_TEXT_REPRESENTATION);
}

/* cdp.rfm_summary to text */
Datum
cdp_rfm_summary_out(PG_FUNCTION_ARGS)
{
	struct varlena *flat = flat_argument(PG_GETARG_DATUM(0));
	Size		len = VARSIZE_ANY_EXHDR(flat);
	char	   *text;

	if (len == 0)
		PG_RETURN_CSTRING(pstrdup("()"));
	if (len > (MaxAllocSize - 8) / 2)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("an RFM summary has more than 1 GB of text"),
				 errhint("Split by ranges of customer_id, or use the binary format.")));
	text = palloc(len * 2 + 3);
	strcpy(text, "\\x");
	text[2 + hex_encode(VARDATA_ANY(flat), len, text + 2)] = '\0';
	PG_RETURN_CSTRING(text);
}

/* cdp.rfm_summary from its binary form */
Datum
cdp_rfm_summary_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	int			len = buf->len - buf->cursor;

	return value_of_bytes(pq_getmsgbytes(buf, len), len, ERRCODE_INVALID_BINARY_REPRESENTATION);
}

/* cdp.rfm_summary to its binary form */
Datum
cdp_rfm_summary_send(PG_FUNCTION_ARGS)
{
	struct varlena *flat = flat_argument(PG_GETARG_DATUM(0));
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbytes(&buf, VARDATA_ANY(flat), VARSIZE_ANY_EXHDR(flat));
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}
