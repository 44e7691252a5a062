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
 * number of rows is limited by the disk alone.
 *
 * Whoever has no customer number is, in some shops, one customer with half
 * of the orders.  So a part is not unpacked as a whole when it is large:
 * after FOLD_AT rows those of one customer and day become two at most.
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
/* in tests little, so that every one comes by */
#ifdef CDP_TEST_HANDLER
#define SPILL_AT		(64 * 1024)
#define FOLD_AT			16
#else
#define SPILL_AT		((Size) 1024 * 1024 * 1024)
#define FOLD_AT			(1024 * 1024)
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
	BufFile    *file;			/* chunks, each behind the number of its bytes */
	uint32		in_file;		/* how many chunks */
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
	/* one part, unpacked */
	BtydCalendar *calendar;
	SortRow    *sort;
	Row		   *rows;
	uint32		n;
	uint32		room;
	/* one customer */
	BtydDay    *days;
	uint32		days_room;
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
			BufFileWrite(part->file, &c->used, sizeof(c->used));
			BufFileWrite(part->file, c->bytes, c->used);
			part->in_file++;
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

/* All rows of one customer and day. */
typedef struct DayOfRows
{
	int128		net;
	bool		purchase;
	TimestampTz first;			/* of purchases */
	TimestampTz last;
} DayOfRows;

/* Adds up the day that begins at place i of the sorted rows; answers where the next one begins. */
static uint32
next_day(const BtydPack *pack, uint32 i, DayOfRows *day)
{
	const SortRow *sort = pack->sort;
	uint32		begin = i;

	*day = (DayOfRows) {.first = DT_NOEND,.last = DT_NOBEGIN};
	for (; i < pack->n && sort[i].day == sort[begin].day && sort[i].customer_id == sort[begin].customer_id; i++)
	{
		const Row  *row = &pack->rows[sort[i].place >> 1];

		day->net = cdp_btyd_add(day->net, row->units);
		if (!(sort[i].place & 1))
			continue;
		day->purchase = true;
		day->first = Min(day->first, row->at);
		day->last = Max(day->last, row->at);
	}
	return i;
}

/*
 * Makes room: rows of one customer and day become one that has the money
 * and, when purchases have more than one time, a second one for the last.
 */
static void
fold_rows(BtydPack *pack)
{
	Row		   *rows = MemoryContextAllocHuge(pack->context, pack->n * sizeof(Row));
	uint32		kept = 0;

	btyd_sort_rows(pack->sort, pack->n);
	for (uint32 i = 0, next; i < pack->n; i = next)
	{
		SortRow		key = pack->sort[i];
		TimestampTz at = pack->rows[key.place >> 1].at;
		DayOfRows	day;

		/* what is written never passes what is still to be read */
		next = next_day(pack, i, &day);
		rows[kept] = (Row) {.at = day.purchase ? day.first : at,.units = day.net};
		key.place = kept << 1 | day.purchase;
		pack->sort[kept++] = key;
		if (day.first < day.last)
		{
			rows[kept] = (Row) {.at = day.last};
			key.place = kept << 1 | 1;
			pack->sort[kept++] = key;
		}
	}
	memcpy(pack->rows, rows, kept * sizeof(Row));
	pfree(rows);
	pack->n = kept;
	if (kept > pack->room / 2)
	{
		if (pack->room > PG_INT32_MAX / 2)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("too many purchases for one call"),
					 errhint("Give a query for a range of customers at a time.")));
		pack->room *= 2;
		pack->sort = repalloc_huge(pack->sort, pack->room * sizeof(SortRow));
		pack->rows = repalloc_huge(pack->rows, pack->room * sizeof(Row));
	}
}

/* Rows of bytes, appended to what is unpacked already. */
static void
unpack_bytes(BtydPack *pack, const uint8 *p, const uint8 *end)
{
	while (p < end)
	{
		uint32		n = pack->n;
		bool		purchase;

		if (unlikely(n == pack->room))
		{
			fold_rows(pack);
			n = pack->n;
		}
		p = unpack_row(p, &pack->sort[n].customer_id, &purchase, &pack->rows[n]);
		pack->sort[n].day = cdp_btyd_day(pack->calendar, pack->rows[n].at);
		pack->sort[n].place = n << 1 | purchase;
		pack->n++;
	}
}

static void
unpack_file(BtydPack *pack, Part *part)
{
	uint8		bytes[LAST_CHUNK];

	if (BufFileSeek(part->file, 0, 0, SEEK_SET) != 0)
		elog(ERROR, "temporary file cannot be rewound");
	for (uint32 i = 0; i < part->in_file; i++)
	{
		uint32		used;

		CHECK_FOR_INTERRUPTS();
		if (BufFileRead(part->file, &used, sizeof(used)) != sizeof(used) ||
			used > sizeof(bytes) || BufFileRead(part->file, bytes, used) != used)
			elog(ERROR, "temporary file ends early");
		unpack_bytes(pack, bytes, bytes + used);
	}
	BufFileClose(part->file);
}

/* The customer whose rows begin at place i: his days, then whoever wants him; answers where the next one's begin. */
static uint32
hand_out(BtydPack *pack, uint32 i, BtydCustomer customer, void *arg)
{
	int64		customer_id = pack->sort[i].customer_id;
	TimestampTz first_at = DT_NOEND;
	TimestampTz last_at = DT_NOBEGIN;
	uint32		ndays = 0;

	while (i < pack->n && pack->sort[i].customer_id == customer_id)
	{
		DayOfRows	day;
		BtydDay    *d;

		if (ndays == pack->days_room)
		{
			pack->days_room *= 2;
			pack->days = repalloc_huge(pack->days, pack->days_room * sizeof(BtydDay));
		}
		d = &pack->days[ndays++];
		d->day = pack->sort[i].day;
		i = next_day(pack, i, &day);
		d->net = day.net;
		d->purchase = day.purchase;
		if (btyd_counts(d, pack->rule))
		{
			first_at = Min(first_at, day.first);
			last_at = Max(last_at, day.last);
		}
	}
	if (last_at != DT_NOBEGIN)
		customer(customer_id, pack->days, ndays, first_at, last_at, arg);
	return i;
}

/* Calls back for every customer with a day of purchase, and frees everything. */
void
cdp_btyd_pack_finish(BtydPack *pack, BtydCalendar *calendar, BtydCustomer customer, void *arg)
{
	pack->calendar = calendar;
	pack->room = 16;
	for (int i = 0; i < PARTS; i++)
		pack->room = Max(pack->room, Min(pack->parts[i].nrows, FOLD_AT));
	pack->sort = MemoryContextAllocHuge(pack->context, pack->room * sizeof(SortRow));
	pack->rows = MemoryContextAllocHuge(pack->context, pack->room * sizeof(Row));
	pack->days_room = 64;
	pack->days = MemoryContextAlloc(pack->context, pack->days_room * sizeof(BtydDay));
	for (int i = 0; i < PARTS; i++)
	{
		Part	   *part = &pack->parts[i];

		CHECK_FOR_INTERRUPTS();
		pack->n = 0;
		if (part->file)
			unpack_file(pack, part);
		if (part->last)
			part->last->used = part->at - part->last->bytes;
		for (Chunk *c = part->first, *next; c; c = next)
		{
			CHECK_FOR_INTERRUPTS();
			next = c->next;
			unpack_bytes(pack, c->bytes, c->bytes + c->used);
			pfree(c);
		}
		btyd_sort_rows(pack->sort, pack->n);
		for (uint32 k = 0; k < pack->n;)
			k = hand_out(pack, k, customer, arg);
	}
	MemoryContextDelete(pack->context);
}
