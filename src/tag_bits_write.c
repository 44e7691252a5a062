/*
 * tag_bits_write.c
 *	  Writing the bitmaps.
 *
 *		customer 7 gained vip, lost aov=5, has aov=9
 *
 *		n vip		chunk 0		+7
 *		x aov		chunk 0		+7 = 9		a value replaces the one before
 *
 * What changes is gathered for many customers, sorted by key and chunk, and
 * each row is written once.  Rows are made again from what they say and what
 * changes, so a change that is there already does no harm.
 *
 * Page: doc/tag_bits.md.  Tests: test/sql/tag_bits.sql, test/pgtap/tag_bits.sql.
 */
#include "tag_bits_write.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "rows.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

/* rows of bitmaps that are written by one statement */
#define WRITE_AT_ONCE	1000

/* a key that changes, by its bytes */
typedef struct WriterKey
{
	uint32		hash;
	char		status;
	int			len;
	const char *bytes;
	int32		id;				/* 0: there is none yet */
	int			number;
	int64		delta;			/* members that came, less those that went */
} WriterKey;

#define SH_PREFIX		keymap
#define SH_ELEMENT_TYPE	WriterKey
#define SH_KEY_TYPE		const char *
#define SH_KEY			bytes
#define SH_HASH_KEY(tb, key)	writer_hash(tb, key)
#define SH_EQUAL(tb, a, b)		writer_equal(tb, a, b)
#define SH_SCOPE		static inline
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a)	(a)->hash
#define SH_DECLARE
#include "lib/simplehash.h"

/* the length stands before the bytes */
static int
stored_len(const char *bytes)
{
	int			len;

	memcpy(&len, bytes - sizeof(int), sizeof(int));
	return len;
}

static uint32
writer_hash(struct keymap_hash *tb, const char *bytes)
{
	return hash_bytes((const unsigned char *) bytes, stored_len(bytes));
}

static bool
writer_equal(struct keymap_hash *tb, const char *a, const char *b)
{
	return stored_len(a) == stored_len(b) && memcmp(a, b, stored_len(a)) == 0;
}

#define SH_PREFIX		keymap
#define SH_ELEMENT_TYPE	WriterKey
#define SH_KEY_TYPE		const char *
#define SH_KEY			bytes
#define SH_HASH_KEY(tb, key)	writer_hash(tb, key)
#define SH_EQUAL(tb, a, b)		writer_equal(tb, a, b)
#define SH_SCOPE		static inline
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a)	(a)->hash
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct TagOp
{
	int64		chunk;
	double		value;
	int32		key;			/* number of the key, then its id */
	uint16		low;
	bool		added;
} TagOp;

struct TagWriter
{
	MemoryContext context;
	MemoryContext customer;		/* of one diff */
	struct keymap_hash *map;
	char	  **keys;			/* by number; the map moves its entries about */
	int			nkeys;
	int			keys_room;
	TagOp	   *ops;
	Size		nops;
	Size		ops_room;
};

/* --------------------------------------------------------------- gathering */

TagWriter *
cdp_tag_writer_open(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp tag writer", ALLOCSET_DEFAULT_SIZES);
	TagWriter  *w = MemoryContextAllocZero(context, sizeof(TagWriter));

	w->context = context;
	w->customer = AllocSetContextCreate(context, "customer_cdp tags of one", ALLOCSET_DEFAULT_SIZES);
	w->map = keymap_create(context, 1024, NULL);
	return w;
}

Size
cdp_tag_writer_size(const TagWriter *w)
{
	return w->nops * sizeof(TagOp) + w->nkeys * (Size) 128;
}

static WriterKey *
find_key(TagWriter *w, const char *bytes, int len)
{
	char		buf[sizeof(int) + TAG_MAX_KEY];

	memcpy(buf, &len, sizeof(int));
	memcpy(buf + sizeof(int), bytes, len);
	return keymap_lookup(w->map, buf + sizeof(int));
}

static int
key_number(TagWriter *w, const TagFact *fact)
{
	char	   *copy;
	bool		found;
	WriterKey  *key = find_key(w, fact->bytes, fact->len);

	if (key != NULL)
		return key->number;
	copy = MemoryContextAlloc(w->context, sizeof(int) + fact->len);
	memcpy(copy, &fact->len, sizeof(int));
	memcpy(copy + sizeof(int), fact->bytes, fact->len);
	key = keymap_insert(w->map, copy + sizeof(int), &found);
	key->len = fact->len;
	key->id = 0;
	key->delta = 0;
	key->number = w->nkeys;
	if (w->nkeys == w->keys_room)
	{
		w->keys_room = Max(w->keys_room * 2, 1024);
		w->keys = w->keys == NULL ? MemoryContextAlloc(w->context, sizeof(char *) * w->keys_room) :
			repalloc(w->keys, sizeof(char *) * w->keys_room);
	}
	w->keys[w->nkeys++] = copy + sizeof(int);
	return key->number;
}

static void
add_op(TagWriter *w, int64 customer_id, const TagFact *fact, bool added)
{
	TagOp	   *op;

	if (w->nops == w->ops_room)
	{
		w->ops_room = Max(w->ops_room * 2, 4096);
		w->ops = w->ops == NULL ? MemoryContextAllocHuge(w->context, sizeof(TagOp) * w->ops_room) :
			repalloc_huge(w->ops, sizeof(TagOp) * w->ops_room);
	}
	op = &w->ops[w->nops++];
	op->chunk = TagChunkOf(customer_id);
	op->low = (uint16) TagLowOf(customer_id);
	op->key = key_number(w, fact);
	op->value = fact->value;
	op->added = added;
}

typedef struct Gathering
{
	TagWriter  *writer;
	int64		customer_id;
} Gathering;

static void
gather(void *arg, const TagFact *fact, bool added)
{
	Gathering  *g = arg;

	add_op(g->writer, g->customer_id, fact, added);
}

void
cdp_tag_writer_diff(TagWriter *w, int64 customer_id, const TagSet *old, TimestampTz old_at,
					const TagSet *new, TimestampTz new_at)
{
	MemoryContext caller = MemoryContextSwitchTo(w->customer);
	Gathering	g = {w, customer_id};

	cdp_tag_facts_diff(old, old_at, new, new_at, gather, &g);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(w->customer);
}

/* ----------------------------------------------------------------- reading */

void
cdp_tag_chunk_open(TagChunkReader *reader)
{
	memset(reader, 0, sizeof(TagChunkReader));
	reader->probe = cdp_probe_open("tag_bits", "tag_bits_pkey");
	reader->bits_column = cdp_probe_column(reader->probe, "bits");
}

void
cdp_tag_chunk_close(TagChunkReader *reader)
{
	cdp_probe_close(reader->probe);
	if (reader->copy != NULL)
		pfree(reader->copy);
}

const uint8 *
cdp_tag_chunk_part(void *arg, int part, int *size)
{
	TagChunkReader *reader = arg;
	ScanKeyData keys[3];
	TupleTableSlot *slot;
	struct varlena *bits;
	bool		isnull;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(reader->key_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(reader->chunk));
	ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(part));
	cdp_probe_range(reader->probe, keys);
	slot = cdp_probe_next(reader->probe);
	if (slot == NULL)
		return NULL;
	bits = (struct varlena *) DatumGetPointer(slot_getattr(slot, reader->bits_column, &isnull));
	if (isnull)
		return NULL;
	if (reader->copy != NULL)
	{
		pfree(reader->copy);
		reader->copy = NULL;
	}
	if (VARATT_IS_EXTENDED(bits))
		bits = reader->copy = pg_detoast_datum_copy(bits);
	*size = (int) VARSIZE_ANY_EXHDR(bits);
	return (const uint8 *) VARDATA_ANY(bits);
}

bool
cdp_tag_chunk_words(TagChunkReader *reader, int32 key_id, int64 chunk, uint64 *words)
{
	const uint8 *bytes;
	int			size;

	reader->key_id = key_id;
	reader->chunk = chunk;
	bytes = cdp_tag_chunk_part(reader, 0, &size);
	if (bytes == NULL)
	{
		memset(words, 0, TAG_CHUNK_BYTES);
		return false;
	}
	if (!cdp_tag_container_is_safe(bytes, size))
		cdp_tag_bits_broken("a bitmap");
	cdp_container_set(words, bytes, size, TAG_CHUNK_BITS);
	return true;
}

/* ----------------------------------------------------------------- writing */

static CdpRows *fresh = NULL;
static CdpRows *gone = NULL;
static int	nfresh;
static int	ngone;

void
cdp_tag_write_begin(void)
{
	static const char *const fresh_names[5] = {"key_id", "chunk", "part", "n", "bits"};
	static const Oid fresh_types[5] = {INT4OID, INT8OID, INT2OID, INT4OID, BYTEAOID};
	static const char *const gone_names[3] = {"key_id", "chunk", "part"};
	static const Oid gone_types[3] = {INT4OID, INT8OID, INT2OID};

	fresh = cdp_rows_open("fresh_bits", 5, fresh_names, fresh_types);
	gone = cdp_rows_open("gone_bits", 3, gone_names, gone_types);
	nfresh = ngone = 0;
}

void
cdp_tag_write_end(void)
{
	static SPIPlanPtr put = NULL;
	static SPIPlanPtr drop = NULL;

	if (nfresh > 0)
	{
		cdp_rows_publish(fresh);
		cdp_plan_generic(&put,
						 "INSERT INTO cdp.tag_bits (key_id, chunk, part, n, bits)"
						 " SELECT key_id, chunk, part, n, bits FROM fresh_bits"
						 " ON CONFLICT (key_id, chunk, part) DO UPDATE SET n = excluded.n, bits = excluded.bits",
						 0, NULL);
		if (SPI_execute_plan(put, NULL, NULL, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "could not write bitmaps");
	}
	if (ngone > 0)
	{
		cdp_rows_are_few(gone);
		cdp_rows_publish(gone);
		cdp_plan_generic(&drop,
						 "DELETE FROM cdp.tag_bits b USING gone_bits g"
						 " WHERE b.key_id = g.key_id AND b.chunk = g.chunk AND b.part = g.part",
						 0, NULL);
		if (SPI_execute_plan(drop, NULL, NULL, false, 0) != SPI_OK_DELETE)
			elog(ERROR, "could not remove bitmaps");
	}
	cdp_rows_close(fresh);
	cdp_rows_close(gone);
	fresh = gone = NULL;
}

static void
write_row(int32 key_id, int64 chunk, int part, int n, const uint8 *bytes, int size)
{
	Datum		values[5];
	static const bool nulls[5] = {false};
	bytea	   *bits;

	cdp_rows_start(fresh);
	bits = palloc(VARHDRSZ + size);
	SET_VARSIZE(bits, VARHDRSZ + size);
	memcpy(VARDATA(bits), bytes, size);
	values[0] = Int32GetDatum(key_id);
	values[1] = Int64GetDatum(chunk);
	values[2] = Int16GetDatum(part);
	values[3] = Int32GetDatum(n);
	values[4] = PointerGetDatum(bits);
	cdp_rows_put(fresh, values, nulls);
	if (++nfresh >= WRITE_AT_ONCE)
	{
		cdp_tag_write_end();
		cdp_tag_write_begin();
	}
}

static void
drop_row(int32 key_id, int64 chunk, int part)
{
	Datum		values[3];
	static const bool nulls[3] = {false};

	cdp_rows_start(gone);
	values[0] = Int32GetDatum(key_id);
	values[1] = Int64GetDatum(chunk);
	values[2] = Int16GetDatum(part);
	cdp_rows_put(gone, values, nulls);
	ngone++;
}

void
cdp_tag_write_words(int32 key_id, int64 chunk, const uint64 *words)
{
	uint8		bytes[CDP_CONTAINER_MAX(TAG_CHUNK_BITS)];
	int			size = cdp_container_from_words(bytes, words, TAG_CHUNK_BITS);

	if (size == 0)
		drop_row(key_id, chunk, 0);
	else
		write_row(key_id, chunk, 0, cdp_container_count(bytes), bytes, size);
}

int32
cdp_tag_key_id(const char *key, int len, bool make)
{
	static SPIPlanPtr find = NULL;
	static SPIPlanPtr insert = NULL;
	static const Oid types[4] = {BYTEAOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		args[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};
	const char *end = memchr(key, '\0', len);
	int			name_len = (end ? end - key : len) - 1;
	bytea	   *bytes = palloc(VARHDRSZ + len);
	int32		id = 0;
	bool		isnull;

	SET_VARSIZE(bytes, VARHDRSZ + len);
	memcpy(VARDATA(bytes), key, len);
	args[0] = PointerGetDatum(bytes);
	if (SPI_execute_plan(cdp_plan_generic(&find, "SELECT key_id FROM cdp.tag_key WHERE key = $1", 1, types),
						 args, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look up a key");
	if (SPI_processed == 0 && make)
	{
		args[1] = CStringGetTextDatum(key[0] == TAG_KEY_NAME ? "tag" : key[0] == TAG_KEY_BELOW ? "below" :
									  key[0] == TAG_KEY_VALUE ? "value" : key[0] == TAG_KEY_TEXT ? "text" :
									  key[0] == TAG_KEY_NUMBER ? "number" : key[0] == TAG_KEY_DATE ? "date" : "everyone");
		args[2] = PointerGetDatum(cstring_to_text_with_len(key + 1, name_len));
		nulls[2] = name_len == 0 ? 'n' : ' ';
		args[3] = end ? PointerGetDatum(cstring_to_text_with_len(end + 1, key + len - end - 1)) : (Datum) 0;
		nulls[3] = end ? ' ' : 'n';
		if (SPI_execute_plan(cdp_plan_generic(&insert,
											  "INSERT INTO cdp.tag_key (key, kind, tag, value) VALUES ($1, $2, $3, $4) RETURNING key_id",
											  4, types),
							 args, nulls, false, 0) != SPI_OK_INSERT_RETURNING)
			elog(ERROR, "could not write a key");
	}
	if (SPI_processed > 0)
		id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	pfree(bytes);
	return id;
}

static int
compare_ops(const void *x, const void *y)
{
	const TagOp *a = x;
	const TagOp *b = y;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	if (a->chunk != b->chunk)
		return a->chunk < b->chunk ? -1 : 1;
	return a->low < b->low ? -1 : a->low > b->low;
}

/* one key in one chunk; ops of one customer say the same */
static int64
apply_words(TagChunkReader *reader, const TagOp *ops, Size n)
{
	uint64		words[TAG_CHUNK_WORDS];
	int64		delta = 0;
	bool		changed = false;

	(void) cdp_tag_chunk_words(reader, ops->key, ops->chunk, words);
	for (Size i = 0; i < n; i++)
	{
		uint64		bit = UINT64CONST(1) << (ops[i].low & 63);
		bool		was = words[ops[i].low >> 6] & bit;

		if (was == ops[i].added)
			continue;
		words[ops[i].low >> 6] ^= bit;
		delta += ops[i].added ? 1 : -1;
		changed = true;
	}
	if (changed)
		cdp_tag_write_words(ops->key, ops->chunk, words);
	return delta;
}

static int64
apply_values(TagChunkReader *reader, const TagOp *ops, Size n, TagValues *values)
{
	int			before = 0;
	int			old_n;
	int			nparts;
	int			size;
	TagValuePart *parts;

	reader->key_id = ops->key;
	reader->chunk = ops->chunk;
	cdp_tag_values_read(values, cdp_tag_chunk_part, reader);
	old_n = values->n;
	while (cdp_tag_chunk_part(reader, before, &size) != NULL)
		before++;
	for (Size i = 0; i < n; i++)
	{
		uint64		bit = UINT64CONST(1) << (ops[i].low & 63);
		bool		was = values->present[ops[i].low >> 6] & bit;

		if (was != ops[i].added)
		{
			values->present[ops[i].low >> 6] ^= bit;
			values->n += ops[i].added ? 1 : -1;
		}
		values->values[ops[i].low] = ops[i].value;
	}
	parts = cdp_tag_values_write(values, &nparts);
	for (int i = 0; i < nparts; i++)
	{
		write_row(ops->key, ops->chunk, i, parts[i].n, parts[i].bytes, parts[i].size);
		pfree(parts[i].bytes);
	}
	if (parts != NULL)
		pfree(parts);
	for (int i = nparts; i < before; i++)
		drop_row(ops->key, ops->chunk, i);
	return values->n - old_n;
}

static void
write_members(TagWriter *w)
{
	static SPIPlanPtr plan = NULL;
	static const char *const names[2] = {"key_id", "delta"};
	static const Oid types[2] = {INT4OID, INT8OID};
	static const bool nulls[2] = {false, false};
	CdpRows    *rows = cdp_rows_open("member_delta", 2, names, types);
	bool		any = false;

	for (int i = 0; i < w->nkeys; i++)
	{
		WriterKey  *key = keymap_lookup(w->map, w->keys[i]);
		Datum		values[2];

		if (key->delta == 0)
			continue;
		any = true;
		cdp_rows_start(rows);
		values[0] = Int32GetDatum(key->id);
		values[1] = Int64GetDatum(key->delta);
		cdp_rows_put(rows, values, nulls);
	}
	if (any)
	{
		cdp_rows_publish(rows);
		cdp_plan_generic(&plan,
						 "UPDATE cdp.tag_key k SET members = k.members + d.delta FROM member_delta d WHERE k.key_id = d.key_id",
						 0, NULL);
		if (SPI_execute_plan(plan, NULL, NULL, false, 0) != SPI_OK_UPDATE)
			elog(ERROR, "could not count the members of keys");
	}
	cdp_rows_close(rows);
}

void
cdp_tag_writer_flush(TagWriter *w)
{
	MemoryContext caller = MemoryContextSwitchTo(w->context);
	WriterKey **by_number = palloc(sizeof(WriterKey *) * Max(w->nkeys, 1));
	bool	   *gains = palloc0(sizeof(bool) * Max(w->nkeys, 1));
	TagValues  *values = palloc(sizeof(TagValues));
	TagChunkReader reader;

	for (Size i = 0; i < w->nops; i++)
		gains[w->ops[i].key] |= w->ops[i].added;
	for (int i = 0; i < w->nkeys; i++)
	{
		WriterKey  *key = keymap_lookup(w->map, w->keys[i]);

		key->id = cdp_tag_key_id(key->bytes, key->len, gains[i]);
		by_number[i] = key;
		CHECK_FOR_INTERRUPTS();
	}
	/* sorted by number, which stands for the id; a key that nobody ever had loses nothing */
	qsort(w->ops, w->nops, sizeof(TagOp), compare_ops);
	cdp_tag_chunk_open(&reader);
	cdp_tag_write_begin();
	for (Size i = 0; i < w->nops;)
	{
		Size		end = i + 1;
		WriterKey  *key = by_number[w->ops[i].key];

		CHECK_FOR_INTERRUPTS();
		while (end < w->nops && w->ops[end].key == w->ops[i].key && w->ops[end].chunk == w->ops[i].chunk)
			end++;
		if (key->id != 0)
		{
			w->ops[i].key = key->id;
			if (key->bytes[0] == TAG_KEY_NUMBER || key->bytes[0] == TAG_KEY_DATE)
				key->delta += apply_values(&reader, &w->ops[i], end - i, values);
			else
				key->delta += apply_words(&reader, &w->ops[i], end - i);
		}
		i = end;
	}
	cdp_tag_write_end();
	cdp_tag_chunk_close(&reader);
	write_members(w);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(w->context);
}

/* --------------------------------------------------------------- verifying */

static void
compare_words(const TagPlanKey *key, int64 chunk, const uint64 *want, const uint64 *have, TagReport report, void *arg)
{
	for (int w = 0; w < TAG_CHUNK_WORDS; w++)
	{
		for (uint64 x = want[w] ^ have[w]; x != 0; x &= x - 1)
		{
			int			bit = pg_rightmost_one_pos64(x);

			report(arg, (want[w] >> bit) & 1 ? "bitmap: a customer is missing" : "bitmap: this customer does not have it",
				   key->bytes, key->len, TagChunkId(chunk, w * 64 + bit));
		}
	}
}

void
cdp_tag_writer_compare(TagWriter *w, int64 chunk, const List *keys, const uint64 *but_for, TagReport report, void *arg)
{
	MemoryContext caller = MemoryContextSwitchTo(w->context);
	Size	   *first = palloc(sizeof(Size) * (w->nkeys + 1));
	bool	   *known = palloc0(sizeof(bool) * Max(w->nkeys, 1));
	TagValues  *want = palloc(sizeof(TagValues));
	TagValues  *have = palloc(sizeof(TagValues));
	TagChunkReader reader;
	Size		i = 0;
	ListCell   *lc;

	qsort(w->ops, w->nops, sizeof(TagOp), compare_ops);
	for (int k = 0; k <= w->nkeys; k++)
	{
		while (i < w->nops && w->ops[i].key < k)
			i++;
		first[k] = i;
	}
	cdp_tag_chunk_open(&reader);
	foreach(lc, keys)
	{
		const TagPlanKey *plan = lfirst(lc);
		const WriterKey *key = plan->len <= TAG_MAX_KEY ? find_key(w, plan->bytes, plan->len) : NULL;
		bool		is_values = plan->bytes[0] == TAG_KEY_NUMBER || plan->bytes[0] == TAG_KEY_DATE;

		CHECK_FOR_INTERRUPTS();
		memset(want->present, 0, TAG_CHUNK_BYTES);
		if (key != NULL)
		{
			known[key->number] = true;
			for (i = first[key->number]; i < first[key->number + 1]; i++)
			{
				want->present[w->ops[i].low >> 6] |= UINT64CONST(1) << (w->ops[i].low & 63);
				want->values[w->ops[i].low] = w->ops[i].value;
			}
		}
		if (is_values)
		{
			reader.key_id = plan->id;
			reader.chunk = chunk;
			cdp_tag_values_read(have, cdp_tag_chunk_part, &reader);
		}
		else
			(void) cdp_tag_chunk_words(&reader, plan->id, chunk, have->present);
		for (int k = 0; k < TAG_CHUNK_WORDS; k++)
			have->present[k] &= ~but_for[k];
		compare_words(plan, chunk, want->present, have->present, report, arg);
		for (int low = 0; is_values && low < TAG_CHUNK_IDS; low++)
		{
			uint64		both = want->present[low >> 6] & have->present[low >> 6];

			if ((both >> (low & 63)) & 1 && want->values[low] != have->values[low])
				report(arg, "bitmap: another value", plan->bytes, plan->len, TagChunkId(chunk, low));
		}
	}
	cdp_tag_chunk_close(&reader);
	for (i = 0; i < w->nops; i++)
	{
		const char *bytes = w->keys[w->ops[i].key];

		if (!known[w->ops[i].key])
			report(arg, "bitmap: a customer is missing", bytes, stored_len(bytes), TagChunkId(chunk, w->ops[i].low));
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(w->context);
}
