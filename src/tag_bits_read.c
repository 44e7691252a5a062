/*
 * tag_bits_read.c
 *	  Reading the bitmaps: which customers does a query hold for, chunk by
 *	  chunk, as of the active snapshot.
 *
 *	  plan		P of each query (tag_bits_plan.c) and the keys it asks for
 *	  window	for each key the index entries of its rows, (chunk, part, tid),
 *				by one descent; usually the window is everything
 *	  chunk		those in which a driver has a row, ascending
 *	  evaluate	the whole plan over one array of words: rows are read when the
 *				plan comes to them, where they stand in the buffer, and not at
 *				all once nobody is left
 *	  mend		dirty customers get the verdict of their newest row
 *	  complement with everyone, where the query is not P
 *
 * So a count never makes a bitmap of an intermediate result, and what it
 * holds in memory does not grow with the number of customers.
 *
 * Bitmaps show one moment, the horizon of the last merge.  A moment before
 * it, or more dirty customers than are worth it, are answered from the rows
 * of cdp.profile_tag alone: the same chunks, another source.
 *
 * The tables are read without asking for rights on them: who may execute
 * what stands upon this may know the answer.
 *
 * Page: doc/tag_bits.md.  Tests: test/sql/tag_bits.sql, test/pgtap/tag_bits.sql.
 */
#include "tag_bits_chunk.h"

#include "access/itup.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

/* entries of all keys that a window holds: 2 MB; a chunk that was begun is always completed */
#define WINDOW		100000
/* of one key at least */
#define WINDOW_KEY	24

typedef struct BitsEntry
{
	int64		chunk;
	ItemPointerData tid;
	int16		part;
} BitsEntry;

/* a segment that drives, and where we are in it */
typedef struct SegmentWords
{
	const CdpAudience *members;
	uint32		pos;
} SegmentWords;

struct CdpTagReader
{
	MemoryContext context;
	MemoryContext scratch;		/* of one chunk */
	TagJudge	judge;
	TagPlan   **plans;
	bool	   *inverted;

	/* bitmaps */
	TagPlanKeys keys;
	CdpProbe   *bits;
	int			everyone_key;
	AttrNumber	bits_column;
	BitsEntry  *entries;
	uint32		nentries;
	uint32		entries_room;
	int64		window_from;
	int64		window_to;		/* last chunk of it */
	SegmentWords *segments;
	int			nsegments;

	/* what they do not know */
	TagDirtySet dirty;
	int			dirty_pos;
	int			dirty_end;		/* of the current chunk: dirty_pos .. dirty_end - 1 */
	TagEveryone everyone;
	int			patch_pos;

	/* or rows instead */
	TagRows		rows;
	uint64	   *row_words;		/* TAG_CHUNK_WORDS for each query */

	int64		chunk;
	uint64	   *everyone_words;
	uint64	   *result;
	uint64	  **buffers;		/* by depth */
	int			depth;
	bool		begun;
	bool		by_rows;
	bool		needs_everyone;
	bool		everyone_ready;
};

void
cdp_tag_bits_broken(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cdp.tag_bits holds %s that cannot be read", what),
			 errhint("CALL cdp.rebuild_tags(); makes the bitmaps again.")));
}

/*
 * Ascending values below the chunk's size is all that the algebra of
 * containers relies on.
 */
bool
cdp_tag_container_is_safe(const uint8 *bytes, int size)
{
	int			count;
	int			before = -1;
	bool		bad = false;

	if (size < CDP_CONTAINER_HEADER + 2)
		return false;
	switch (cdp_container_kind(bytes, size, TAG_CHUNK_BITS))
	{
		case CDP_CONTAINER_BITSET:
			return true;
		case CDP_CONTAINER_ARRAY:
			count = cdp_container_count(bytes);
			for (int i = 1; i < count; i++)
				bad |= cdp_get16(bytes + CDP_CONTAINER_HEADER + 2 * i - 2) >= cdp_get16(bytes + CDP_CONTAINER_HEADER + 2 * i);
			return !bad && cdp_get16(bytes + size - 2) < TAG_CHUNK_IDS;
		case CDP_CONTAINER_RUN:
			if ((size - CDP_CONTAINER_HEADER) % 4 != 0)
				return false;
			for (const uint8 *p = bytes + CDP_CONTAINER_HEADER; p < bytes + size; p += 4)
			{
				if (cdp_get16(p) <= before)
					return false;
				before = cdp_get16(p) + cdp_get16(p + 2);
			}
			return before < TAG_CHUNK_IDS;
	}
	return false;
}

static bool
any_word(const uint64 *words)
{
	uint64		any = 0;

	for (int i = 0; i < TAG_CHUNK_WORDS; i++)
		any |= words[i];
	return any != 0;
}

/* ---------------------------------------------------------------- opening */

static void
find_keys(TagPlanKeys *keys)
{
	CdpProbe   *p;
	AttrNumber	id_column;

	if (keys->n == 0)
		return;
	p = cdp_probe_open("tag_key", "tag_key_key_key");
	id_column = cdp_probe_column(p, "key_id");
	for (int i = 0; i < keys->n; i++)
	{
		TagPlanKey *key = &keys->keys[i];
		bytea	   *bytes = palloc(VARHDRSZ + key->len);
		TupleTableSlot *slot;
		bool		isnull;

		SET_VARSIZE(bytes, VARHDRSZ + key->len);
		memcpy(VARDATA(bytes), key->bytes, key->len);
		slot = cdp_probe_bytes(p, bytes);
		if (slot != NULL)
			key->id = DatumGetInt32(slot_getattr(slot, id_column, &isnull));
		pfree(bytes);
	}
	cdp_probe_close(p);
}

static void
open_bitmaps(CdpTagReader *r, const TagHorizon *horizon)
{
	int			depth = 0;

	r->by_rows = !cdp_tag_dirty_read(&r->dirty, &r->judge, horizon);
	if (r->by_rows)
		return;
	for (int i = 0; i < r->judge.n; i++)
	{
		r->plans[i] = cdp_tag_plan_make(&r->judge.questions[i], &r->keys, &r->inverted[i]);
		depth = Max(depth, cdp_tag_plan_depth(r->plans[i]));
	}
	r->depth = depth;
	r->buffers = palloc0(sizeof(uint64 *) * (depth + 1));
}

/* is it a complement?  What nobody without tags is found by is none. */
static bool
is_inverted(CdpTagReader *r, int i)
{
	TagSet		nothing;

	cdp_tag_open_stored(&nothing, (Datum) 0, true);
	/* -1 is in no segment */
	return cdp_tag_judge(&r->judge, i, -1, &nothing);
}

/* by rows, every segment that is asked for leads to customers */
static void
list_segments(CdpTagReader *r)
{
	int			room = 0;

	for (int i = 0; i < r->judge.n; i++)
		room += r->judge.questions[i].members ? r->judge.questions[i].query->nnodes : 0;
	r->segments = palloc0(sizeof(SegmentWords) * Max(room, 1));
	for (int i = 0; i < r->judge.n; i++)
	{
		const TagQuestion *q = &r->judge.questions[i];

		for (uint32 k = 0; q->members != NULL && k < q->query->nnodes; k++)
		{
			if (q->members[k] != NULL)
				r->segments[r->nsegments++].members = q->members[k];
		}
	}
}

CdpTagReader *
cdp_tag_read_open(const TagQuery *const *queries, int nqueries, TimestampTz at)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp tag reader", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	CdpTagReader *r = palloc0(sizeof(CdpTagReader));
	TagHorizon	horizon;

	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("at must be a finite moment"),
				 errhint("Leave it out for cdp.now().")));
	r->context = context;
	r->scratch = AllocSetContextCreate(context, "customer_cdp tag chunk", ALLOCSET_DEFAULT_SIZES);
	r->everyone_key = -1;
	r->window_to = PG_INT64_MIN;
	cdp_tag_judge_open(&r->judge, queries, nqueries, at);
	r->plans = palloc0(sizeof(TagPlan *) * nqueries);
	r->inverted = palloc0(sizeof(bool) * nqueries);
	r->by_rows = !cdp_tag_horizon(&horizon) || at < horizon.at;
	if (!r->by_rows)
		open_bitmaps(r, &horizon);
	for (int i = 0; i < nqueries; i++)
	{
		if (r->by_rows)
			r->inverted[i] = is_inverted(r, i);
		r->needs_everyone |= r->inverted[i];
	}
	if (r->by_rows)
	{
		r->keys.n = 0;
		r->dirty.n = 0;
		r->row_words = palloc(TAG_CHUNK_BYTES * nqueries);
		cdp_tag_rows_open(&r->rows, PG_INT64_MIN);
		list_segments(r);
	}
	if (r->needs_everyone)
	{
		char		key = TAG_KEY_EVERYONE;

		r->everyone_key = cdp_tag_plan_key(&r->keys, &key, 1);
		r->everyone_words = palloc(TAG_CHUNK_BYTES);
		cdp_tag_everyone_read(&r->everyone, PG_INT32_MAX, NULL, NULL);
	}
	find_keys(&r->keys);
	r->bits = cdp_probe_open_entries("tag_bits", "tag_bits_pkey", 2);
	r->bits_column = cdp_probe_column(r->bits, "bits");
	r->result = palloc(TAG_CHUNK_BYTES);
	MemoryContextSwitchTo(caller);
	return r;
}

void
cdp_tag_read_close(CdpTagReader *r)
{
	cdp_probe_close(r->bits);
	if (r->by_rows)
		cdp_tag_rows_close(&r->rows);
	MemoryContextDelete(r->context);
}

bool
cdp_tag_read_goes_by_rows(const CdpTagReader *r)
{
	return r->by_rows;
}

/* ---------------------------------------------------------------- windows */

static BitsEntry *
new_entry(CdpTagReader *r)
{
	if (r->nentries == r->entries_room)
	{
		r->entries_room = Max(r->entries_room * 2, 1024);
		r->entries = r->entries == NULL ? MemoryContextAlloc(r->context, sizeof(BitsEntry) * r->entries_room) :
			repalloc(r->entries, sizeof(BitsEntry) * r->entries_room);
	}
	return &r->entries[r->nentries++];
}

/* the entries of one key up to the end of the window, which moves forward when there are too many of them */
static void
load_key(CdpTagReader *r, TagPlanKey *key, uint32 most)
{
	TupleDesc	desc = cdp_probe_entry_desc(r->bits);
	ScanKeyData keys[2];
	IndexTuple	itup;
	ItemPointerData tid;

	key->first = key->pos = r->nentries;
	key->n = 0;
	if (key->id == 0)
		return;
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(key->id));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(r->window_from));
	cdp_probe_range(r->bits, keys);
	while ((itup = cdp_probe_entry(r->bits, &tid)) != NULL)
	{
		bool		isnull;
		int64		chunk = DatumGetInt64(index_getattr(itup, 2, desc, &isnull));
		int16		part = DatumGetInt16(index_getattr(itup, 3, desc, &isnull));
		BitsEntry  *entry;

		if (chunk > r->window_to)
			break;
		if (key->n >= most && chunk != r->entries[r->nentries - 1].chunk)
		{
			/* chunks that end before this one are complete */
			r->window_to = chunk - 1;
			break;
		}
		entry = new_entry(r);
		entry->chunk = chunk;
		entry->tid = tid;
		entry->part = part;
		key->n++;
		if ((key->n & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
	}
}

static void
load_window(CdpTagReader *r, int64 from)
{
	uint32		most = Max(WINDOW_KEY, WINDOW / Max(r->keys.n, 1));
	List	   *segments = NIL;
	ListCell   *lc;

	r->window_from = from;
	r->window_to = PG_INT64_MAX;
	r->nentries = 0;
	for (int i = 0; i < r->keys.n; i++)
	{
		r->keys.keys[i].drives = i == r->everyone_key;
		load_key(r, &r->keys.keys[i], most);
	}
	/* a key that was read before the window became smaller has more, which the next window reads again */
	if (!r->by_rows)
	{
		MemoryContext caller = MemoryContextSwitchTo(r->context);

		for (int i = 0; i < r->judge.n; i++)
		{
			cdp_tag_plan_order(r->plans[i], &r->keys);
			cdp_tag_plan_drivers(r->plans[i], &r->keys, &segments);
		}
		if (r->segments != NULL)
			pfree(r->segments);
		r->nsegments = 0;
		r->segments = palloc0(sizeof(SegmentWords) * Max(list_length(segments), 1));
		foreach(lc, segments)
			r->segments[r->nsegments++].members = lfirst(lc);
		list_free(segments);
		MemoryContextSwitchTo(caller);
	}
}

/* ----------------------------------------------------------------- chunks */

#define SEGMENT_CHUNKS	(1 << (CDP_AUDIENCE_BITS - TAG_CHUNK_BITS))	/* of one container of an audience */

/* the first chunk from this one on in which a segment may have members */
static int64
segment_chunk(SegmentWords *s, int64 chunk)
{
	int64		key = chunk >> (CDP_AUDIENCE_BITS - TAG_CHUNK_BITS);

	while (s->pos < s->members->ncontainers && s->members->keys[s->pos] < key)
		s->pos++;
	if (s->pos == s->members->ncontainers)
		return PG_INT64_MAX;
	return Max(chunk, s->members->keys[s->pos] << (CDP_AUDIENCE_BITS - TAG_CHUNK_BITS));
}

/* the first chunk from this one on in which something may be; false: there is none */
static bool
find_chunk(CdpTagReader *r, int64 from, int64 *chunk)
{
	bool		found = false;
	int64		best = 0;

#define CANDIDATE(c) \
	do { \
		int64		c_ = (c); \
		if (!found || c_ < best) \
			best = c_; \
		found = true; \
	} while (0)

	for (int i = 0; i < r->keys.n; i++)
	{
		TagPlanKey *key = &r->keys.keys[i];
		uint32		end = key->first + key->n;

		if (!key->drives)
			continue;
		while (key->pos < end && r->entries[key->pos].chunk < from)
			key->pos++;
		if (key->pos < end)
			CANDIDATE(r->entries[key->pos].chunk);
	}
	for (int i = 0; i < r->nsegments; i++)
	{
		int64		c = segment_chunk(&r->segments[i], from);

		if (c != PG_INT64_MAX)
			CANDIDATE(c);
	}
	while (r->dirty_pos < r->dirty.n && TagChunkOf(r->dirty.ids[r->dirty_pos].id) < from)
		r->dirty_pos++;
	if (r->dirty_pos < r->dirty.n)
		CANDIDATE(TagChunkOf(r->dirty.ids[r->dirty_pos].id));
	while (r->patch_pos < r->everyone.npatches && r->everyone.patches[r->patch_pos].chunk < from)
		r->patch_pos++;
	if (r->patch_pos < r->everyone.npatches)
		CANDIDATE(r->everyone.patches[r->patch_pos].chunk);
	if (r->by_rows && r->rows.found)
		CANDIDATE(TagChunkOf(r->rows.id));
	*chunk = best;
	return found;
}

bool
cdp_tag_audience_words(const CdpAudience *audience, int64 chunk, uint64 *words)
{
	int64		key = chunk >> (CDP_AUDIENCE_BITS - TAG_CHUNK_BITS);
	int64		i = chunk < 0 ? -1 : cdp_audience_find(audience, key);
	uint64		all[CDP_WORDS(CDP_AUDIENCE_BITS)];
	const uint8 *container;
	int			size;

	if (i < 0)
		return false;
	container = cdp_audience_container(audience, (uint32) i, &size);
	cdp_container_set(all, container, size, CDP_AUDIENCE_BITS);
	memcpy(words, all + (chunk & (SEGMENT_CHUNKS - 1)) * TAG_CHUNK_WORDS, TAG_CHUNK_BYTES);
	return any_word(words);
}

/* members of a segment in the current chunk */
static bool
segment_words(CdpTagReader *r, const CdpAudience *members, uint64 *out)
{
	return cdp_tag_audience_words(members, r->chunk, out);
}

/* one customer, through all queries */
static void
judge_row(CdpTagReader *r, int low, Datum tags, bool isnull)
{
	int64		id = TagChunkId(r->chunk, low);
	TagSet		set;

	cdp_tag_open_stored(&set, tags, isnull);
	for (int i = 0; i < r->judge.n; i++)
	{
		if (cdp_tag_judge(&r->judge, i, id, &set) != r->inverted[i])
			r->row_words[i * TAG_CHUNK_WORDS + (low >> 6)] |= UINT64CONST(1) << (low & 63);
	}
}

/* All rows of the chunk; and who has none, but stands in a segment that is asked for. */
static void
read_rows(CdpTagReader *r)
{
	MemoryContext caller = CurrentMemoryContext;
	uint64		seen[TAG_CHUNK_WORDS] = {0};

	memset(r->row_words, 0, TAG_CHUNK_BYTES * r->judge.n);
	while (r->rows.found && TagChunkOf(r->rows.id) == r->chunk)
	{
		int			low = TagLowOf(r->rows.id);

		seen[low >> 6] |= UINT64CONST(1) << (low & 63);
		MemoryContextSwitchTo(r->scratch);
		judge_row(r, low, r->rows.tags, false);
		/* a scan keeps what it allocates meanwhile */
		MemoryContextSwitchTo(r->context);
		cdp_tag_rows_next(&r->rows);
	}
	MemoryContextSwitchTo(caller);
	for (int i = 0; i < r->nsegments; i++)
	{
		uint64		members[TAG_CHUNK_WORDS];

		if (!segment_words(r, r->segments[i].members, members))
			continue;
		for (int w = 0; w < TAG_CHUNK_WORDS; w++)
		{
			for (uint64 x = members[w] & ~seen[w]; x != 0; x &= x - 1)
				judge_row(r, w * 64 + pg_rightmost_one_pos64(x), (Datum) 0, true);
			seen[w] |= members[w];
		}
	}
}

bool
cdp_tag_read_next(CdpTagReader *r, int64 *chunk)
{
	int64		from = PG_INT64_MIN;

	CHECK_FOR_INTERRUPTS();
	if (r->begun)
	{
		if (r->chunk == PG_INT64_MAX)
			return false;
		from = r->chunk + 1;
		MemoryContextReset(r->scratch);
	}
	else
		load_window(r, from);
	r->begun = true;
	while (!find_chunk(r, from, &r->chunk) || r->chunk > r->window_to)
	{
		if (r->window_to == PG_INT64_MAX)
			return false;
		from = r->window_to + 1;
		load_window(r, from);
	}
	for (r->dirty_end = r->dirty_pos;
		 r->dirty_end < r->dirty.n && TagChunkOf(r->dirty.ids[r->dirty_end].id) == r->chunk;)
		r->dirty_end++;
	r->everyone_ready = false;
	if (r->by_rows)
		read_rows(r);
	*chunk = r->chunk;
	return true;
}

/* ------------------------------------------------------------- evaluating */

/* what one key has in the current chunk */
typedef struct KeyChunk
{
	CdpTagReader *reader;
	TagPlanKey *key;
} KeyChunk;

/* bytes of a row, good until the next row is read */
static const uint8 *
read_part(void *arg, int part, int *size)
{
	KeyChunk   *k = arg;
	CdpTagReader *r = k->reader;
	TagPlanKey *key = k->key;
	uint32		end = key->first + key->n;

	while (key->pos < end && r->entries[key->pos].chunk < r->chunk)
		key->pos++;
	/* an update leaves entries of older versions beside that of the newest */
	for (uint32 i = key->pos; i < end && r->entries[i].chunk == r->chunk; i++)
	{
		BitsEntry  *entry = &r->entries[i];
		TupleTableSlot *slot;
		struct varlena *bits;
		bool		isnull;
		Datum		value;

		if (entry->part != part)
			continue;
		slot = cdp_probe_tuple(r->bits, &entry->tid);
		if (slot == NULL)
			continue;
		value = slot_getattr(slot, r->bits_column, &isnull);
		if (isnull)
			continue;
		bits = (struct varlena *) DatumGetPointer(value);
		if (VARATT_IS_EXTENDED(bits))
		{
			MemoryContext caller = MemoryContextSwitchTo(r->scratch);

			bits = pg_detoast_datum_packed(bits);
			MemoryContextSwitchTo(caller);
		}
		*size = (int) VARSIZE_ANY_EXHDR(bits);
		return (const uint8 *) VARDATA_ANY(bits);
	}
	return NULL;
}

static const uint8 *
read_container(CdpTagReader *r, int key, int *size)
{
	KeyChunk	k = {r, &r->keys.keys[key]};
	const uint8 *bytes = read_part(&k, 0, size);

	if (bytes != NULL && !cdp_tag_container_is_safe(bytes, *size))
		cdp_tag_bits_broken("a bitmap");
	return bytes;
}

static uint64 *
buffer(CdpTagReader *r, int depth)
{
	Assert(depth <= r->depth);
	if (r->buffers[depth] == NULL)
		r->buffers[depth] = MemoryContextAlloc(r->context, TAG_CHUNK_BYTES);
	return r->buffers[depth];
}

/*
 * out = whom the plan finds in the current chunk; mask (may be NULL): others
 * need not be looked at, but may be found.  False when there is nobody, and
 * then out is not set.
 */
static bool
evaluate(CdpTagReader *r, const TagPlan *plan, const uint64 *mask, uint64 *out, int depth)
{
	const uint8 *bytes;
	uint64	   *tmp;
	int			size;
	bool		any = false;
	KeyChunk	k;

	switch (plan->kind)
	{
		case TAG_PLAN_KEY:
			bytes = read_container(r, plan->key, &size);
			if (bytes != NULL)
				cdp_container_set(out, bytes, size, TAG_CHUNK_BITS);
			return bytes != NULL;
		case TAG_PLAN_COMPARE:
			k.reader = r;
			k.key = &r->keys.keys[plan->key];
			return cdp_tag_values_compare(read_part, &k, plan->op, plan->literal, mask, out);
		case TAG_PLAN_SEGMENT:
			return segment_words(r, plan->members, out);
		case TAG_PLAN_UNION:
			for (int i = 0; i < plan->nchildren; i++)
			{
				const TagPlan *child = plan->children[i];

				if (!any)
					any = evaluate(r, child, mask, out, depth);
				else if (child->kind == TAG_PLAN_KEY)
				{
					bytes = read_container(r, child->key, &size);
					if (bytes != NULL)
						cdp_container_or(out, bytes, size, TAG_CHUNK_BITS);
				}
				else
				{
					tmp = buffer(r, depth);
					if (evaluate(r, child, mask, tmp, depth + 1))
					{
						for (int w = 0; w < TAG_CHUNK_WORDS; w++)
							out[w] |= tmp[w];
					}
				}
			}
			return any;
		case TAG_PLAN_MEET:
			if (!evaluate(r, plan->children[0], mask, out, depth))
				return false;
			for (int i = 1; i < plan->nchildren; i++)
			{
				const TagPlan *child = plan->children[i];
				bool		wanted = i < plan->npos;

				if (child->kind == TAG_PLAN_KEY)
				{
					bytes = read_container(r, child->key, &size);
					if (bytes == NULL && wanted)
						return false;
					if (bytes == NULL)
						continue;
					if (wanted)
						cdp_container_and(out, bytes, size, TAG_CHUNK_BITS);
					else
						cdp_container_andnot(out, bytes, size, TAG_CHUNK_BITS);
				}
				else
				{
					tmp = buffer(r, depth);
					if (evaluate(r, child, out, tmp, depth + 1))
					{
						if (wanted)
						{
							for (int w = 0; w < TAG_CHUNK_WORDS; w++)
								out[w] &= tmp[w];
						}
						else
						{
							for (int w = 0; w < TAG_CHUNK_WORDS; w++)
								out[w] &= ~tmp[w];
						}
					}
					else if (wanted)
						return false;
				}
				if (!any_word(out))
					return false;
			}
			return true;
	}
	return false;
}

/* who of the current chunk is a customer */
static const uint64 *
read_everyone(CdpTagReader *r)
{
	if (!r->everyone_ready)
	{
		int			size;
		const uint8 *bytes = read_container(r, r->everyone_key, &size);

		if (bytes != NULL)
			cdp_container_set(r->everyone_words, bytes, size, TAG_CHUNK_BITS);
		else
			memset(r->everyone_words, 0, TAG_CHUNK_BYTES);
		cdp_tag_everyone_apply(&r->everyone, r->chunk, r->everyone_words);
		r->everyone_ready = true;
	}
	return r->everyone_words;
}

const uint64 *
cdp_tag_read_words(CdpTagReader *r, int query)
{
	uint64	   *out = r->result;

	if (r->by_rows)
		memcpy(out, r->row_words + query * TAG_CHUNK_WORDS, TAG_CHUNK_BYTES);
	else if (!evaluate(r, r->plans[query], NULL, out, 0))
		memset(out, 0, TAG_CHUNK_BYTES);
	for (int i = r->dirty_pos; i < r->dirty_end; i++)
	{
		const TagDirty *d = &r->dirty.ids[i];
		int			low = TagLowOf(d->id);
		uint64		bit = UINT64CONST(1) << (low & 63);
		bool		holds = r->dirty.verdicts[(Size) d->verdicts * r->dirty.stride + (query >> 3)] & (1 << (query & 7));

		if (holds != r->inverted[query])
			out[low >> 6] |= bit;
		else
			out[low >> 6] &= ~bit;
	}
	if (r->inverted[query])
	{
		const uint64 *everyone = read_everyone(r);

		for (int w = 0; w < TAG_CHUNK_WORDS; w++)
			out[w] = everyone[w] & ~out[w];
	}
	return out;
}
