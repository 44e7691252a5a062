/*
 * value_btyd_pack.c
 *	  The purchases of all customers, packed as they come and sorted in parts.
 *
 * Sorting ten million rows as tuples costs ten scans.  Here a row is packed
 * into about 13 bytes and put into one of PARTS parts, chosen by a hash of
 * the customer:
 *
 *		| flags | customer | time | money |		numbers of variable length
 *
 *		flags	bit 0 a purchase, bit 1 the time is whole seconds, bits 2-3
 *				how money is written: none, 10^-2, 10^-8, 16 bytes
 *
 * At the end the parts are taken one after the other.  A part of ten million
 * rows has 20,000, which the processor's cache holds: they are unpacked,
 * dated, sorted by customer and day, and handed out customer by customer.
 *
 * Beyond SPILL_AT the parts go to temporary files, part by part, so that the
 * number of rows is limited by the disk and one part's size alone.  What one
 * part needs while it is sorted is 40 bytes per row of it.
 *
 * SQL: none.  Tests: test/sql/value_btyd.sql, test/pgtap/value_btyd.sql.
 */
#include "value_btyd.h"

#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/memutils.h"

#define PART_BITS		9
#define PARTS			(1 << PART_BITS)
/* the first and the largest piece of memory of a part */
#define FIRST_CHUNK		128
#define LAST_CHUNK		8192
#define MAX_PACKED		(1 + 10 + 10 + 16)
/* with assertions little, so that every test comes by */
#ifdef USE_ASSERT_CHECKING
#define SPILL_AT		(64 * 1024)
#else
#define SPILL_AT		((Size) 1024 * 1024 * 1024)
#endif

#define FLAG_PURCHASE	0x01
#define FLAG_SECONDS	0x02
#define MONEY_SHIFT		2
#define MONEY_NONE		0
#define MONEY_CENTS		1
#define MONEY_SMALL		2
#define MONEY_WIDE		3

typedef struct Chunk
{
	struct Chunk *next;
	uint32		used;			/* of bytes, set when the next one comes */
	uint32		size;			/* of all */
	uint8		bytes[FLEXIBLE_ARRAY_MEMBER];
} Chunk;

typedef struct Part
{
	uint8	   *at;				/* where the next row goes */
	uint8	   *end;
	Chunk	   *first;
	Chunk	   *last;
	uint64		nrows;
	BufFile    *file;
	uint64		in_file;		/* bytes */
} Part;

/* a row as it is sorted; what belongs to it stands at place */
typedef struct SortRow
{
	int64		customer_id;
	int32		day;
	uint32		place;			/* times two, and 1 for a purchase */
} SortRow;

typedef struct Row
{
	TimestampTz at;
	int128		units;
} Row;

struct BtydPack
{
	MemoryContext context;
	MemoryContext chunks;
	BtydRule	rule;
	Size		in_memory;		/* bytes of chunks */
	Size		spill_at;
	BtydDay    *days;			/* of the customer at hand */
	Size		room;			/* for days */
	Part		parts[PARTS];
};

BtydPack *
cdp_btyd_pack_begin(MemoryContext parent, BtydRule rule)
{
	MemoryContext context = AllocSetContextCreate(parent, "cdp.btyd_table", ALLOCSET_DEFAULT_SIZES);
	BtydPack   *pack = MemoryContextAllocZero(context, sizeof(BtydPack));

	pack->context = context;
	pack->chunks = AllocSetContextCreate(context, "cdp.btyd_table rows", ALLOCSET_DEFAULT_SIZES);
	pack->rule = rule;
	pack->spill_at = SPILL_AT;
	return pack;
}

/*
 * Packing
 */

/* Seven bits a byte, the last one without the high bit. */
static inline uint8 *
put_number(uint8 *p, uint64 v)
{
	while (v >= 0x80)
	{
		*p++ = (uint8) v | 0x80;
		v >>= 7;
	}
	*p++ = (uint8) v;
	return p;
}

static inline const uint8 *
get_number(const uint8 *p, uint64 *v)
{
	uint64		result = *p & 0x7F;

	for (int shift = 7; *p++ & 0x80; shift += 7)
		result |= (uint64) (*p & 0x7F) << shift;
	*v = result;
	return p;
}

/* small numbers of either sign are small numbers */
static inline uint64
zigzag(int64 v)
{
	return ((uint64) v << 1) ^ (uint64) (v >> 63);
}

static inline int64
unzigzag(uint64 v)
{
	return (int64) (v >> 1) ^ -(int64) (v & 1);
}

static void
spill(BtydPack *pack)
{
	for (int i = 0; i < PARTS; i++)
	{
		Part	   *part = &pack->parts[i];

		CHECK_FOR_INTERRUPTS();
		if (part->first == NULL)
			continue;
		part->last->used = part->at - part->last->bytes;
		if (part->file == NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(pack->context);

			part->file = BufFileCreateTemp(false);
			MemoryContextSwitchTo(old);
		}
		for (Chunk *c = part->first; c; c = c->next)
		{
			BufFileWrite(part->file, c->bytes, c->used);
			part->in_file += c->used;
		}
		part->first = part->last = NULL;
		part->at = part->end = NULL;
	}
	MemoryContextReset(pack->chunks);
	pack->in_memory = 0;
}

static pg_noinline void
new_chunk(BtydPack *pack, Part *part)
{
	Size		size = part->last ? Min(part->last->size * 2, LAST_CHUNK) : FIRST_CHUNK;
	Chunk	   *chunk;

	if (pack->in_memory + size > pack->spill_at)
	{
		spill(pack);
		/* who fills his memory once does it again */
		size = LAST_CHUNK;
	}
	chunk = MemoryContextAlloc(pack->chunks, size);
	chunk->next = NULL;
	chunk->used = 0;
	chunk->size = size;
	pack->in_memory += size;
	if (part->last)
	{
		part->last->used = part->at - part->last->bytes;
		part->last->next = chunk;
	}
	else
		part->first = chunk;
	part->last = chunk;
	part->at = chunk->bytes;
	part->end = (uint8 *) chunk + size;
}

void
cdp_btyd_pack_add(BtydPack *pack, int64 customer_id, TimestampTz at, int128 units, bool purchase)
{
	/* ids are neighbours: the product spreads them over the high bits */
	Part	   *part = &pack->parts[((uint64) customer_id * UINT64CONST(0x9E3779B97F4A7C15)) >> (64 - PART_BITS)];
	uint8	   *p;
	uint8	   *flags;
	int64		seconds = at / USECS_PER_SEC;

	if (unlikely(part->end - part->at < MAX_PACKED))
		new_chunk(pack, part);
	flags = part->at;
	*flags = purchase ? FLAG_PURCHASE : 0;
	p = put_number(flags + 1, zigzag(customer_id));
	if (seconds * USECS_PER_SEC == at)
	{
		*flags |= FLAG_SECONDS;
		p = put_number(p, zigzag(seconds));
	}
	else
		p = put_number(p, zigzag(at));
	if (units == 0)
		*flags |= MONEY_NONE << MONEY_SHIFT;
	else if (likely(units == (int64) units))
	{
		int64		small = (int64) units;

		if (small % 1000000 == 0)
		{
			*flags |= MONEY_CENTS << MONEY_SHIFT;
			small /= 1000000;
		}
		else
			*flags |= MONEY_SMALL << MONEY_SHIFT;
		p = put_number(p, zigzag(small));
	}
	else
	{
		*flags |= MONEY_WIDE << MONEY_SHIFT;
		memcpy(p, &units, sizeof(int128));
		p += sizeof(int128);
	}
	part->at = p;
	part->nrows++;
}

static const uint8 *
unpack_row(const uint8 *p, int64 *customer_id, bool *purchase, Row *row)
{
	uint8		flags = *p++;
	uint64		v;

	*purchase = flags & FLAG_PURCHASE;
	p = get_number(p, &v);
	*customer_id = unzigzag(v);
	p = get_number(p, &v);
	row->at = unzigzag(v);
	if (flags & FLAG_SECONDS)
		row->at *= USECS_PER_SEC;
	switch (flags >> MONEY_SHIFT)
	{
		case MONEY_NONE:
			row->units = 0;
			break;
		case MONEY_WIDE:
			memcpy(&row->units, p, sizeof(int128));
			p += sizeof(int128);
			break;
		default:
			p = get_number(p, &v);
			row->units = unzigzag(v);
			if (flags >> MONEY_SHIFT == MONEY_CENTS)
				row->units *= 1000000;
	}
	return p;
}

/*
 * Sorting
 */

static inline int
compare_rows(const SortRow *a, const SortRow *b)
{
	if (a->customer_id != b->customer_id)
		return a->customer_id < b->customer_id ? -1 : 1;
	return a->day < b->day ? -1 : a->day > b->day;
}

#define ST_SORT btyd_sort_rows
#define ST_ELEMENT_TYPE SortRow
#define ST_COMPARE(a, b) compare_rows(a, b)
#define ST_CHECK_FOR_INTERRUPTS
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

/* Rows of bytes, appended to what is unpacked already. */
static uint32
unpack_bytes(const uint8 *p, const uint8 *end, BtydCalendar *calendar, SortRow *sort, Row *rows, uint32 n)
{
	while (p < end)
	{
		bool		purchase;

		p = unpack_row(p, &sort[n].customer_id, &purchase, &rows[n]);
		sort[n].day = cdp_btyd_day(calendar, rows[n].at);
		sort[n].place = n << 1 | purchase;
		n++;
	}
	return n;
}

/* One customer: his rows by days, then whoever wants him. */
static void
hand_out(BtydPack *pack, const SortRow *sort, uint32 n, const Row *rows, BtydCustomer customer, void *arg)
{
	TimestampTz first_at = DT_NOEND;
	TimestampTz last_at = DT_NOBEGIN;
	uint32		ndays = 0;

	for (uint32 i = 0; i < n;)
	{
		BtydDay    *d;
		TimestampTz first = DT_NOEND;
		TimestampTz last = DT_NOBEGIN;

		if (ndays == pack->room)
		{
			pack->room *= 2;
			pack->days = repalloc_huge(pack->days, pack->room * sizeof(BtydDay));
		}
		d = &pack->days[ndays++];
		d->day = sort[i].day;
		d->net = 0;
		d->purchase = 0;
		for (; i < n && sort[i].day == d->day; i++)
		{
			const Row  *row = &rows[sort[i].place >> 1];

			d->net = cdp_btyd_add(d->net, row->units);
			if (!(sort[i].place & 1))
				continue;
			d->purchase = 1;
			first = Min(first, row->at);
			last = Max(last, row->at);
		}
		if (btyd_counts(d, pack->rule))
		{
			first_at = Min(first_at, first);
			last_at = Max(last_at, last);
		}
	}
	if (last_at != DT_NOBEGIN)
		customer(sort[0].customer_id, pack->days, ndays, first_at, last_at, arg);
}

/* Calls back for every customer with a day of purchase, and frees everything. */
void
cdp_btyd_pack_finish(BtydPack *pack, BtydCalendar *calendar, BtydCustomer customer, void *arg)
{
	uint64		most = 0;
	SortRow    *sort;
	Row		   *rows;

	for (int i = 0; i < PARTS; i++)
		most = Max(most, pack->parts[i].nrows);
	if (most > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many purchases for one call"),
				 errhint("Give a query for a range of customers at a time.")));
	sort = MemoryContextAllocHuge(pack->context, most * sizeof(SortRow) + 1);
	rows = MemoryContextAllocHuge(pack->context, most * sizeof(Row) + 1);
	pack->room = 64;
	pack->days = MemoryContextAlloc(pack->context, pack->room * sizeof(BtydDay));
	for (int i = 0; i < PARTS; i++)
	{
		Part	   *part = &pack->parts[i];
		uint32		n = 0;

		CHECK_FOR_INTERRUPTS();
		if (part->nrows == 0)
			continue;
		if (part->file)
		{
			uint8	   *bytes = MemoryContextAllocHuge(pack->context, part->in_file);

			if (BufFileSeek(part->file, 0, 0, SEEK_SET) != 0)
				elog(ERROR, "temporary file cannot be rewound");
			if (BufFileRead(part->file, bytes, part->in_file) != part->in_file)
				elog(ERROR, "temporary file ends early");
			BufFileClose(part->file);
			n = unpack_bytes(bytes, bytes + part->in_file, calendar, sort, rows, n);
			pfree(bytes);
		}
		if (part->last)
			part->last->used = part->at - part->last->bytes;
		for (Chunk *c = part->first, *next; c; c = next)
		{
			next = c->next;
			n = unpack_bytes(c->bytes, c->bytes + c->used, calendar, sort, rows, n);
			pfree(c);
		}
		Assert(n == part->nrows);
		btyd_sort_rows(sort, n);
		for (uint32 from = 0, to; from < n; from = to)
		{
			for (to = from + 1; to < n && sort[to].customer_id == sort[from].customer_id; to++)
				;
			hand_out(pack, sort + from, to - from, rows, customer, arg);
		}
	}
	MemoryContextDelete(pack->context);
}
