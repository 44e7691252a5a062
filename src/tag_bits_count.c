/*
 * tag_bits_count.c
 *	  For every key at once: how many of some customers have it, and how many
 *	  of others.
 *
 *		seed {1-3}, among everyone		n vip				3 of 3		20 of 100
 *										p region			2 of 3		90 of 100
 *										v city 上海			1 of 3		40 of 100
 *
 *	  sets		seed and baseline without those who are no customers, as
 *				containers of the size of our chunks
 *	  bitmaps	each row of a key is read once and meets the sets of its chunk;
 *				dirty customers are left out
 *	  dirty		their keys are taken from their rows, one by one
 *
 * A key that so few customers have that it cannot reach the least number is
 * not read at all: cdp.tag_key tells how many are in its bitmap, and no more
 * than all dirty customers can have come since.
 *
 * Where bitmaps cannot tell (tag_bits_read.c says when), all rows are read.
 *
 * Page: doc/segment_lookalike.md.  Tests: test/sql/segment_lookalike.sql,
 * test/pgtap/segment_lookalike.sql.
 */
#include "tag_bits_chunk.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define SEED	0
#define BASE	1

/* some customers */
typedef struct ChunkSet
{
	bool		everyone;		/* all there are, nothing is listed */
	int64		count;
	int			n;
	int			room;
	int64	   *chunks;			/* ascending */
	Size	   *ends;			/* of the bytes of each */
	uint8	   *bytes;			/* containers */
	Size		bytes_room;
} ChunkSet;

typedef struct KeyName
{
	const char *bytes;
	int			len;
} KeyName;

typedef struct KeyEntry
{
	KeyName		key;			/* of the hash table */
	int32		id;
	int64		members;		/* of its bitmap */
	int64		found[2];
	int64		clean[2];		/* what the bitmaps said */
} KeyEntry;

typedef struct Counter
{
	ChunkSet	sets[2];
	ChunkSet	dirty;
	TimestampTz at;
	int64		least;			/* of the baseline */
	HTAB	   *keys;
	MemoryContext context;
	MemoryContext scratch;		/* of one customer */
} Counter;

/* ------------------------------------------------------------------- sets */

/* words are not empty, chunks come in order */
static void
set_add(ChunkSet *s, int64 chunk, const uint64 *words)
{
	Size		used = s->n == 0 ? 0 : s->ends[s->n - 1];
	int			size;

	if (s->n == s->room)
	{
		s->room = Max(s->room * 2, 64);
		s->chunks = s->chunks == NULL ? palloc(sizeof(int64) * s->room) :
			repalloc_huge(s->chunks, sizeof(int64) * s->room);
		s->ends = s->ends == NULL ? palloc(sizeof(Size) * s->room) : repalloc_huge(s->ends, sizeof(Size) * s->room);
	}
	if (s->bytes_room - used < CDP_CONTAINER_MAX(TAG_CHUNK_BITS))
	{
		s->bytes_room = Max(s->bytes_room * 2, 16 * CDP_CONTAINER_MAX(TAG_CHUNK_BITS));
		s->bytes = s->bytes == NULL ? palloc(s->bytes_room) : repalloc_huge(s->bytes, s->bytes_room);
	}
	size = cdp_container_from_words(s->bytes + used, words, TAG_CHUNK_BITS);
	if (size == 0)
		return;
	s->count += cdp_container_count(s->bytes + used);
	s->chunks[s->n] = chunk;
	s->ends[s->n++] = used + size;
}

/* what a set has in a chunk, NULL: nobody.  *pos moves forward; start at 0 for each run through the chunks. */
static const uint8 *
set_chunk(const ChunkSet *s, int *pos, int64 chunk, int *size)
{
	Size		start;

	if (*pos < s->n && s->chunks[*pos] < chunk)
	{
		int			low = *pos + 1;
		int			high = s->n;

		while (low < high)
		{
			int			mid = low + (high - low) / 2;

			if (s->chunks[mid] < chunk)
				low = mid + 1;
			else
				high = mid;
		}
		*pos = low;
	}
	if (*pos == s->n || s->chunks[*pos] != chunk)
		return NULL;
	start = *pos == 0 ? 0 : s->ends[*pos - 1];
	*size = (int) (s->ends[*pos] - start);
	return s->bytes + start;
}

static bool
set_has(const ChunkSet *s, int *pos, int64 id)
{
	const uint8 *bytes;
	int			size;

	if (s->everyone)
		return true;
	bytes = set_chunk(s, pos, TagChunkOf(id), &size);
	return bytes != NULL && cdp_container_has(bytes, size, TAG_CHUNK_BITS, (uint16) TagLowOf(id));
}

/* seed and baseline, of those who are customers */
static void
read_sets(Counter *c, const CdpAudience *const *audiences)
{
	const TagQuery *query = cdp_tagquery_parse("*");
	CdpTagReader *r = cdp_tag_read_open(&query, 1, c->at);
	int64		chunk;

	c->sets[BASE].everyone = audiences[BASE] == NULL;
	while (cdp_tag_read_next(r, &chunk))
	{
		const uint64 *everyone = cdp_tag_read_words(r, 0);

		if (c->sets[BASE].everyone)
			c->sets[BASE].count += cdp_words_count(everyone, TAG_CHUNK_BITS);
		for (int i = 0; i < 2; i++)
		{
			uint64		words[TAG_CHUNK_WORDS];

			if (audiences[i] == NULL || !cdp_tag_audience_words(audiences[i], chunk, words))
				continue;
			for (int w = 0; w < TAG_CHUNK_WORDS; w++)
				words[w] &= everyone[w];
			set_add(&c->sets[i], chunk, words);
		}
	}
	cdp_tag_read_close(r);
}

/* ------------------------------------------------------------------- keys */

static uint32
hash_key(const void *key, Size keysize)
{
	const KeyName *k = key;

	return hash_bytes((const unsigned char *) k->bytes, k->len);
}

static int
match_keys(const void *key1, const void *key2, Size keysize)
{
	const KeyName *a = key1;
	const KeyName *b = key2;

	return a->len == b->len ? memcmp(a->bytes, b->bytes, a->len) : 1;
}

/* the entry of a key, made when it has none */
static KeyEntry *
key_entry(Counter *c, const char *bytes, int len, bool *is_new)
{
	KeyName		key = {bytes, len};
	bool		found;
	KeyEntry   *e = hash_search(c->keys, &key, HASH_ENTER, &found);

	*is_new = !found;
	if (!found)
	{
		char	   *copy = MemoryContextAlloc(c->context, len);

		memcpy(copy, bytes, len);
		e->key.bytes = copy;
		e->id = 0;
		e->members = 0;
		memset(e->found, 0, sizeof(e->found));
		memset(e->clean, 0, sizeof(e->clean));
	}
	return e;
}

/* of name.* : the key of the name itself, NULL: nobody has it */
static KeyEntry *
own_entry(Counter *c, const KeyEntry *below)
{
	char		bytes[TAG_MAX_KEY];
	KeyName		key = {bytes, below->key.len};

	memcpy(bytes, below->key.bytes, below->key.len);
	bytes[0] = TAG_KEY_NAME;
	return hash_search(c->keys, &key, HASH_FIND, NULL);
}

static bool
is_counted(char kind)
{
	return kind == TAG_KEY_NAME || kind == TAG_KEY_BELOW || kind == TAG_KEY_VALUE;
}

/* all keys that there are bitmaps of, but for values that too few have */
static void
load_keys(Counter *c)
{
	CdpProbe   *p = cdp_probe_open_range("tag_key", "tag_key_pkey", 0);
	AttrNumber	id_column = cdp_probe_column(p, "key_id");
	AttrNumber	key_column = cdp_probe_column(p, "key");
	AttrNumber	members_column = cdp_probe_column(p, "members");
	TupleTableSlot *slot;

	cdp_probe_range(p, NULL);
	while ((slot = cdp_probe_next(p)) != NULL)
	{
		bool		isnull;
		bytea	   *key = DatumGetByteaPP(slot_getattr(slot, key_column, &isnull));
		const char *bytes = VARDATA_ANY(key);
		int			len = (int) VARSIZE_ANY_EXHDR(key);
		int64		members = DatumGetInt64(slot_getattr(slot, members_column, &isnull));
		KeyEntry   *e;
		bool		is_new;

		CHECK_FOR_INTERRUPTS();
		if (len < 2 || len > TAG_MAX_KEY || !is_counted(bytes[0]))
			continue;
		if (bytes[0] == TAG_KEY_VALUE && members + c->dirty.count < c->least)
			continue;
		e = key_entry(c, bytes, len, &is_new);
		e->id = DatumGetInt32(slot_getattr(slot, id_column, &isnull));
		e->members = members;
	}
	cdp_probe_close(p);
}

/* ---------------------------------------------------------------- bitmaps */

/* the rows of one key */
typedef struct KeyRows
{
	CdpProbe   *probe;
	AttrNumber	chunk_column;
	AttrNumber	part_column;
	AttrNumber	bits_column;
	bool		found;
	int64		chunk;
	const uint8 *bytes;			/* a container, good until the next row */
	int			size;
} KeyRows;

static void
rows_open(KeyRows *rows)
{
	rows->probe = cdp_probe_open_range("tag_bits", "tag_bits_pkey", 1);
	rows->chunk_column = cdp_probe_column(rows->probe, "chunk");
	rows->part_column = cdp_probe_column(rows->probe, "part");
	rows->bits_column = cdp_probe_column(rows->probe, "bits");
}

static void
rows_next(KeyRows *rows)
{
	TupleTableSlot *slot;

	while ((slot = cdp_probe_next(rows->probe)) != NULL)
	{
		bool		isnull;
		bytea	   *bits;

		CHECK_FOR_INTERRUPTS();
		if (DatumGetInt16(slot_getattr(slot, rows->part_column, &isnull)) != 0)
			continue;
		rows->chunk = DatumGetInt64(slot_getattr(slot, rows->chunk_column, &isnull));
		bits = DatumGetByteaPP(slot_getattr(slot, rows->bits_column, &isnull));
		rows->bytes = (const uint8 *) VARDATA_ANY(bits);
		rows->size = (int) VARSIZE_ANY_EXHDR(bits);
		if (!cdp_tag_container_is_safe(rows->bytes, rows->size))
			cdp_tag_bits_broken("a bitmap");
		rows->found = true;
		return;
	}
	rows->found = false;
}

static void
rows_start(KeyRows *rows, int32 id)
{
	ScanKeyData key;

	rows->found = false;
	if (id == 0)
		return;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(id));
	cdp_probe_range(rows->probe, &key);
	rows_next(rows);
}

/* one chunk of a key: one container, or two that are one set */
static void
count_chunk(Counter *c, KeyEntry *e, int *pos, const KeyRows *a, const KeyRows *b)
{
	int64		chunk = a->chunk;
	int			dirty_size = 0;
	const uint8 *dirty = set_chunk(&c->dirty, &pos[2], chunk, &dirty_size);
	uint64		words[TAG_CHUNK_WORDS];
	bool		ready = false;

	for (int i = 0; i < 2; i++)
	{
		uint64		both[TAG_CHUNK_WORDS];
		int			size = 0;
		const uint8 *set = set_chunk(&c->sets[i], &pos[i], chunk, &size);

		if (set == NULL && !c->sets[i].everyone)
			continue;
		if (c->sets[i].everyone && dirty == NULL && b == NULL)
		{
			e->found[i] += cdp_container_count(a->bytes);
			continue;
		}
		if (!ready)
		{
			cdp_container_set(words, a->bytes, a->size, TAG_CHUNK_BITS);
			if (b != NULL)
				cdp_container_or(words, b->bytes, b->size, TAG_CHUNK_BITS);
			if (dirty != NULL)
				cdp_container_andnot(words, dirty, dirty_size, TAG_CHUNK_BITS);
			ready = true;
		}
		if (c->sets[i].everyone)
		{
			e->found[i] += cdp_words_count(words, TAG_CHUNK_BITS);
			continue;
		}
		memcpy(both, words, sizeof(both));
		cdp_container_and(both, set, size, TAG_CHUNK_BITS);
		e->found[i] += cdp_words_count(both, TAG_CHUNK_BITS);
	}
}

/* all chunks of a key; those of name.* are of the name itself and of what lies below it */
static void
count_key(Counter *c, KeyEntry *e, KeyRows *rows, KeyRows *own_rows)
{
	KeyEntry   *own = e->key.bytes[0] == TAG_KEY_BELOW ? own_entry(c, e) : NULL;
	int			pos[3] = {0, 0, 0};

	if (e->members + (own ? own->members : 0) + c->dirty.count < c->least)
		return;
	rows_start(rows, e->id);
	rows_start(own_rows, own ? own->id : 0);
	while (rows->found || own_rows->found)
	{
		bool		first = rows->found && (!own_rows->found || rows->chunk <= own_rows->chunk);
		bool		second = own_rows->found && (!rows->found || own_rows->chunk <= rows->chunk);

		count_chunk(c, e, pos, first ? rows : own_rows, first && second ? own_rows : NULL);
		if (first)
			rows_next(rows);
		if (second)
			rows_next(own_rows);
	}
	memcpy(e->clean, e->found, sizeof(e->clean));
}

static void
count_bitmaps(Counter *c)
{
	KeyRows		rows;
	KeyRows		own_rows;
	HASH_SEQ_STATUS all;
	KeyEntry   *e;

	rows_open(&rows);
	rows_open(&own_rows);
	hash_seq_init(&all, c->keys);
	while ((e = hash_seq_search(&all)) != NULL)
		count_key(c, e, &rows, &own_rows);
	cdp_probe_close(rows.probe);
	cdp_probe_close(own_rows.probe);
}

/* ------------------------------------------------------------------- rows */

/* keys of tags that have not ended by a moment, sorted by bytes, in the current context */
static TagKey *
keys_at(Datum tags, TimestampTz at, int *n)
{
	TagSet		set;
	TagKey	   *keys;
	int			kept = 0;

	cdp_tag_open_stored(&set, tags, false);
	keys = cdp_tagset_keys(&set, n);
	for (int i = 0; i < *n; i++)
	{
		if (keys[i].valid_until > at)
			keys[kept++] = keys[i];
	}
	*n = kept;
	return keys;
}

void
cdp_tag_each_row(TimestampTz at, CdpTagRowKeys take, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(caller, "customer_cdp tag row", ALLOCSET_DEFAULT_SIZES);
	TagRows		rows;

	cdp_tag_rows_open(&rows, PG_INT64_MIN);
	while (rows.found)
	{
		int			n;
		TagKey	   *keys;

		MemoryContextSwitchTo(scratch);
		keys = keys_at(rows.tags, at, &n);
		take(arg, rows.id, keys, n);
		/* a scan keeps what it allocates meanwhile */
		MemoryContextSwitchTo(caller);
		MemoryContextReset(scratch);
		cdp_tag_rows_next(&rows);
	}
	cdp_tag_rows_close(&rows);
	MemoryContextDelete(scratch);
}

typedef struct RowCounter
{
	Counter    *counter;
	int			pos[2];
} RowCounter;

static void
count_row(void *arg, int64 customer_id, const TagKey *keys, int n)
{
	RowCounter *r = arg;
	Counter    *c = r->counter;
	bool		in[2];

	for (int i = 0; i < 2; i++)
		in[i] = set_has(&c->sets[i], &r->pos[i], customer_id);
	if (!in[SEED] && !in[BASE])
		return;
	for (int k = 0; k < n; k++)
	{
		bool		is_new;
		KeyEntry   *e = key_entry(c, keys[k].bytes, keys[k].len, &is_new);
		KeyEntry   *own;

		/* the first one below a name: so far those with name.* were those with the name */
		if (is_new && keys[k].bytes[0] == TAG_KEY_BELOW && (own = own_entry(c, e)) != NULL)
			memcpy(e->found, own->clean, sizeof(e->found));
		e->found[SEED] += in[SEED];
		e->found[BASE] += in[BASE];
	}
}

/* dirty customers, whom the bitmaps left out */
static void
count_dirty(Counter *c, const TagDirtySet *dirty)
{
	CdpProbe   *p = cdp_probe_open("profile_tag", "profile_tag_pkey");
	AttrNumber	tags_column = cdp_probe_column(p, "tags");
	RowCounter	r = {c, {0, 0}};

	for (int i = 0; i < dirty->n; i++)
	{
		TupleTableSlot *slot = cdp_probe_int8(p, dirty->ids[i].id);
		MemoryContext caller;
		bool		isnull = true;
		Datum		tags = slot ? slot_getattr(slot, tags_column, &isnull) : (Datum) 0;
		TagKey	   *keys;
		int			n;

		CHECK_FOR_INTERRUPTS();
		if (isnull)
			continue;
		caller = MemoryContextSwitchTo(c->scratch);
		keys = keys_at(tags, c->at, &n);
		count_row(&r, dirty->ids[i].id, keys, n);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(c->scratch);
	}
	cdp_probe_close(p);
}

/* who is dirty; false: go by rows */
static bool
read_dirty(Counter *c, TagDirtySet *dirty)
{
	const TagQuery *query = cdp_tagquery_parse("*");
	TagHorizon	horizon;
	TagJudge	judge;

	if (!cdp_tag_horizon(&horizon) || c->at < horizon.at)
		return false;
	cdp_tag_judge_open(&judge, &query, 1, c->at);
	if (!cdp_tag_dirty_read(dirty, &judge, &horizon))
		return false;
	for (int i = 0; i < dirty->n;)
	{
		uint64		words[TAG_CHUNK_WORDS] = {0};
		int64		chunk = TagChunkOf(dirty->ids[i].id);

		for (; i < dirty->n && TagChunkOf(dirty->ids[i].id) == chunk; i++)
			words[TagLowOf(dirty->ids[i].id) >> 6] |= UINT64CONST(1) << (TagLowOf(dirty->ids[i].id) & 63);
		set_add(&c->dirty, chunk, words);
	}
	return true;
}

/* ----------------------------------------------------------------- result */

static int
compare_counts(const void *x, const void *y)
{
	const CdpTagKeyCount *a = x;
	const CdpTagKeyCount *b = y;

	return cdp_tag_compare_keys(a->bytes, a->len, b->bytes, b->len);
}

static void
list_counts(Counter *c, CdpTagCounts *counts)
{
	HASH_SEQ_STATUS all;
	KeyEntry   *e;

	counts->keys = palloc_extended(sizeof(CdpTagKeyCount) * Max(hash_get_num_entries(c->keys), 1), MCXT_ALLOC_HUGE);
	hash_seq_init(&all, c->keys);
	while ((e = hash_seq_search(&all)) != NULL)
	{
		KeyEntry   *own = e->key.bytes[0] == TAG_KEY_BELOW ? own_entry(c, e) : NULL;

		if (e->found[BASE] < c->least || e->found[SEED] + e->found[BASE] == 0)
			continue;
		/* nobody has anything below who has not the name itself */
		if (own != NULL && own->found[SEED] == e->found[SEED] && own->found[BASE] == e->found[BASE])
			continue;
		counts->keys[counts->n++] = (CdpTagKeyCount) {e->key.bytes, e->key.len, e->found[SEED], e->found[BASE]};
	}
	qsort(counts->keys, counts->n, sizeof(CdpTagKeyCount), compare_counts);
}

void
cdp_tag_count_keys(CdpTagCounts *counts, const CdpAudience *seed, const CdpAudience *base, TimestampTz at, int64 least)
{
	Counter		c = {0};
	const CdpAudience *audiences[2] = {seed, base};
	TagDirtySet dirty = {0};
	HASHCTL		ctl = {0};

	c.context = CurrentMemoryContext;
	c.at = at;
	c.least = least;
	memset(counts, 0, sizeof(CdpTagCounts));
	read_sets(&c, audiences);
	counts->seed = c.sets[SEED].count;
	counts->base = c.sets[BASE].count;
	if (counts->seed == 0 || counts->base == 0)
		return;
	c.scratch = AllocSetContextCreate(c.context, "customer_cdp tag row", ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = sizeof(KeyName);
	ctl.entrysize = sizeof(KeyEntry);
	ctl.hash = hash_key;
	ctl.match = match_keys;
	ctl.hcxt = c.context;
	c.keys = hash_create("customer_cdp counted keys", 1024, &ctl, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	if (read_dirty(&c, &dirty))
	{
		load_keys(&c);
		count_bitmaps(&c);
		count_dirty(&c, &dirty);
	}
	else
	{
		RowCounter	r = {&c, {0, 0}};

		cdp_tag_each_row(at, count_row, &r);
	}
	list_counts(&c, counts);
	hash_destroy(c.keys);
	MemoryContextDelete(c.scratch);
}
