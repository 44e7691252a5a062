/*
 * tag_bits_dirty.c
 *	  What the bitmaps do not know yet, and how the rows answer instead.
 *
 *		tag_change		customers whose tags changed since the last merge: the
 *						newest set is in the change itself
 *		tag_expiry		customers of whom an entry ended between the horizon and
 *						the moment that is asked for: their row is read
 *		tag_everyone	who became a customer and who is none any more
 *
 * All of it is read with the snapshot of the bitmaps, and a merge takes rows
 * out of these tables in the transaction that puts them into the bitmaps.  So
 * a reader finds a change in exactly one of the two places.
 *
 * Page: doc/tag_bits.md.  Tests: test/sql/tag_bits.sql,
 * test/specs/tag_merge_race.spec, test/pgtap/tag_bits.sql.
 */
#include "tag_bits_chunk.h"

#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* more dirty customers than this, and reading all rows costs less memory and not more time */
#define MAX_DIRTY	(256 * 1024)

CdpSegmentMembers cdp_segment_members_hook = NULL;

bool
cdp_tag_horizon(TagHorizon *horizon)
{
	CdpProbe   *p = cdp_probe_open_range("tag_horizon", "tag_horizon_pkey", 0);
	TupleTableSlot *slot;
	bool		found;
	bool		isnull;

	cdp_probe_range(p, NULL);
	slot = cdp_probe_next(p);
	found = slot != NULL;
	if (found)
	{
		horizon->at = DatumGetTimestampTz(slot_getattr(slot, cdp_probe_column(p, "at"), &isnull));
		found = !isnull;
		horizon->customer_id = DatumGetInt64(slot_getattr(slot, cdp_probe_column(p, "customer_id"), &isnull));
		found = found && !isnull;
	}
	cdp_probe_close(p);
	return found;
}

TimestampTz
cdp_tag_shown_at(const TagHorizon *horizon, int64 customer_id)
{
	return customer_id <= horizon->customer_id ? horizon->at : horizon->at - 1;
}

/* --------------------------------------------------------- one customer */

const CdpAudience *
cdp_tag_segment(const char *name, int len)
{
	char	   *copy = pnstrdup(name, len);
	const CdpAudience *members = cdp_segment_members_hook ? cdp_segment_members_hook(copy) : NULL;

	if (members == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no segment \"%s\"", copy),
				 errhint("SELECT name FROM cdp.segment lists the segments.")));
	pfree(copy);
	return members;
}

void
cdp_tag_judge_open(TagJudge *judge, const TagQuery *const *queries, int n, TimestampTz at)
{
	judge->at = at;
	judge->n = n;
	judge->questions = palloc0(sizeof(TagQuestion) * n);
	for (int i = 0; i < n; i++)
	{
		TagQuestion *q = &judge->questions[i];

		q->query = cdp_tagquery_bind(queries[i], at);
		if (!cdp_tagquery_has_segment(q->query))
			continue;
		q->members = palloc0(sizeof(CdpAudience *) * q->query->nnodes);
		for (uint32 k = 0; k < q->query->nnodes; k++)
		{
			const TagNode *node = &q->query->nodes[k];

			if (node->kind == TAGQ_SEGMENT)
				q->members[k] = cdp_tag_segment(TagQueryStrings(q->query) + node->name, node->name_len);
		}
	}
}

static bool
is_member(const CdpAudience *members, int64 id)
{
	int64		i = id < 0 ? -1 : cdp_audience_find(members, CDP_AUDIENCE_KEY(id));
	const uint8 *container;
	int			size;

	if (i < 0)
		return false;
	container = cdp_audience_container(members, (uint32) i, &size);
	return cdp_container_has(container, size, CDP_AUDIENCE_BITS, CDP_AUDIENCE_LOW(id));
}

/* as cdp_tagquery_matches, for queries that ask for segments */
static bool
node_holds(const TagQuestion *q, uint32 i, TimestampTz at, int64 customer_id, const TagSet *set)
{
	const TagNode *node = &q->query->nodes[i];

	switch ((TagNodeKind) node->kind)
	{
		case TAGQ_NOT:
			return !node_holds(q, i + 1, at, customer_id, set);
		case TAGQ_AND:
		case TAGQ_OR:
			for (uint32 k = i + 1; k < node->end; k = q->query->nodes[k].end)
			{
				if (node_holds(q, k, at, customer_id, set) == (node->kind == TAGQ_OR))
					return node->kind == TAGQ_OR;
			}
			return node->kind == TAGQ_AND;
		case TAGQ_SEGMENT:
			return is_member(q->members[i], customer_id);
		default:
			return cdp_tagquery_term(q->query, node, set, at);
	}
}

bool
cdp_tag_judge(const TagJudge *judge, int question, int64 customer_id, const TagSet *set)
{
	const TagQuestion *q = &judge->questions[question];

	if (q->members == NULL)
		return cdp_tagquery_matches(q->query, set, judge->at);
	return node_holds(q, 0, judge->at, customer_id, set);
}

/* the set without entries; never freed */
static const struct varlena *
empty_set(void)
{
	static struct varlena *empty = NULL;

	if (empty == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

		empty = cdp_tagset_build(NULL, 0);
		MemoryContextSwitchTo(caller);
	}
	return empty;
}

void
cdp_tag_open_stored(TagSet *set, Datum tags, bool isnull)
{
	cdp_tagset_open(set, isnull ? empty_set() : pg_detoast_datum_packed((struct varlena *) DatumGetPointer(tags)));
}

/* ------------------------------------------------------------------ dirty */

static int
compare_dirty(const void *x, const void *y)
{
	const TagDirty *a = x;
	const TagDirty *b = y;

	if (a->id != b->id)
		return a->id < b->id ? -1 : 1;
	return a->age < b->age ? -1 : a->age > b->age;
}

static int
compare_ids(const void *x, const void *y)
{
	const TagDirty *a = x;
	const TagDirty *b = y;

	return a->id < b->id ? -1 : a->id > b->id;
}

/* In order, and of each customer what was read last. */
static void
settle_dirty(TagDirtySet *d)
{
	int			kept = 0;
	bool		ordered = true;

	for (int i = 1; i < d->n && ordered; i++)
		ordered = d->ids[i - 1].id < d->ids[i].id;
	if (ordered)
		return;
	qsort(d->ids, d->n, sizeof(TagDirty), compare_dirty);
	for (int i = 0; i < d->n; i++)
	{
		if (kept > 0 && d->ids[kept - 1].id == d->ids[i].id)
			kept--;
		d->ids[kept++] = d->ids[i];
	}
	d->n = kept;
}

typedef struct DirtyRoom
{
	int			n;				/* entries and rows of verdicts there is room for */
	uint32		next;			/* row of verdicts */
} DirtyRoom;

/* the verdicts of one customer; false: there are too many */
static bool
note_dirty(TagDirtySet *d, DirtyRoom *room, const TagJudge *judge, int64 customer_id, Datum tags, bool isnull)
{
	TagSet		set;
	uint8	   *verdicts;

	if (room->next == room->n)
	{
		if (room->n >= MAX_DIRTY / d->stride)
			return false;
		room->n = Max(room->n * 2, 256);
		d->ids = d->ids == NULL ? palloc(sizeof(TagDirty) * room->n) : repalloc(d->ids, sizeof(TagDirty) * room->n);
		d->verdicts = d->verdicts == NULL ? palloc((Size) d->stride * room->n) :
			repalloc(d->verdicts, (Size) d->stride * room->n);
	}
	d->ids[d->n].id = customer_id;
	d->ids[d->n].age = d->ids[d->n].verdicts = room->next;
	d->n++;
	verdicts = d->verdicts + (Size) d->stride * room->next++;
	memset(verdicts, 0, d->stride);
	cdp_tag_open_stored(&set, tags, isnull);
	for (int i = 0; i < judge->n; i++)
	{
		if (cdp_tag_judge(judge, i, customer_id, &set))
			verdicts[i >> 3] |= 1 << (i & 7);
	}
	return true;
}

static bool
read_changes(TagDirtySet *d, DirtyRoom *room, const TagJudge *judge)
{
	CdpProbe   *p = cdp_probe_open_range("tag_change", "tag_change_pkey", 0);
	AttrNumber	id_column = cdp_probe_column(p, "customer_id");
	AttrNumber	new_column = cdp_probe_column(p, "new");
	TupleTableSlot *slot;
	bool		fits = true;

	cdp_probe_range(p, NULL);
	while (fits && (slot = cdp_probe_next(p)) != NULL)
	{
		bool		isnull;
		int64		id = DatumGetInt64(slot_getattr(slot, id_column, &isnull));
		Datum		tags = slot_getattr(slot, new_column, &isnull);

		fits = note_dirty(d, room, judge, id, tags, isnull);
		CHECK_FOR_INTERRUPTS();
	}
	cdp_probe_close(p);
	return fits;
}

/* entries that ended after the horizon, of customers who are not dirty anyway */
static bool
read_expired(TagDirtySet *d, DirtyRoom *room, const TagJudge *judge, const TagHorizon *horizon)
{
	CdpProbe   *p = cdp_probe_open_range("tag_expiry", "tag_expiry_pkey", 2);
	AttrNumber	at_column = cdp_probe_column(p, "valid_until");
	AttrNumber	id_column = cdp_probe_column(p, "customer_id");
	CdpProbe   *rows = NULL;
	AttrNumber	tags_column = InvalidAttrNumber;
	int			known = d->n;
	ScanKeyData keys[2];
	TupleTableSlot *slot;
	bool		fits = true;

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE, TimestampTzGetDatum(horizon->at));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, TimestampTzGetDatum(judge->at));
	cdp_probe_range(p, keys);
	while (fits && (slot = cdp_probe_next(p)) != NULL)
	{
		TagDirty	key = {0};
		bool		isnull;
		TimestampTz at = DatumGetTimestampTz(slot_getattr(slot, at_column, &isnull));
		Datum		tags = (Datum) 0;

		CHECK_FOR_INTERRUPTS();
		key.id = DatumGetInt64(slot_getattr(slot, id_column, &isnull));
		if (at == horizon->at && key.id <= horizon->customer_id)
			continue;
		if (known > 0 && bsearch(&key, d->ids, known, sizeof(TagDirty), compare_ids) != NULL)
			continue;
		if (rows == NULL)
		{
			rows = cdp_probe_open("profile_tag", "profile_tag_pkey");
			tags_column = cdp_probe_column(rows, "tags");
		}
		slot = cdp_probe_int8(rows, key.id);
		isnull = true;
		if (slot != NULL)
			tags = slot_getattr(slot, tags_column, &isnull);
		fits = note_dirty(d, room, judge, key.id, tags, isnull);
	}
	if (rows != NULL)
		cdp_probe_close(rows);
	cdp_probe_close(p);
	return fits;
}

bool
cdp_tag_dirty_read(TagDirtySet *d, const TagJudge *judge, const TagHorizon *horizon)
{
	DirtyRoom	room = {0};

	memset(d, 0, sizeof(TagDirtySet));
	d->stride = (judge->n + 7) / 8;
	if (!read_changes(d, &room, judge))
		return false;
	settle_dirty(d);
	if (judge->at >= horizon->at)
	{
		if (!read_expired(d, &room, judge, horizon))
			return false;
		settle_dirty(d);
	}
	return true;
}

/* --------------------------------------------------------------- everyone */

/* a patch while changes are read: found by its chunk, which comes first */
typedef struct PatchEntry
{
	int64		chunk;
	uint64	   *set;
	uint64	   *clear;
} PatchEntry;

static PatchEntry *
patch_of(HTAB **patches, int64 chunk)
{
	PatchEntry *entry;
	bool		found;

	if (*patches == NULL)
	{
		HASHCTL		ctl;

		ctl.keysize = sizeof(int64);
		ctl.entrysize = sizeof(PatchEntry);
		ctl.hcxt = CurrentMemoryContext;
		*patches = hash_create("customer_cdp everyone", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(*patches, &chunk, HASH_ENTER, &found);
	if (!found)
	{
		entry->set = palloc0(TAG_CHUNK_BYTES);
		entry->clear = NULL;
	}
	return entry;
}

static void
patch_chunk(PatchEntry *entry, int first, int last, bool added)
{
	if (added)
	{
		cdp_words_fill(entry->set, first, last);
		if (entry->clear != NULL)
			cdp_words_clear(entry->clear, first, last);
		return;
	}
	if (entry->clear == NULL)
		entry->clear = palloc0(TAG_CHUNK_BYTES);
	cdp_words_clear(entry->set, first, last);
	cdp_words_fill(entry->clear, first, last);
}

/* the part of first .. last that lies in a chunk */
static int
low_in(int64 chunk, int64 id, int otherwise)
{
	return TagChunkOf(id) == chunk ? TagLowOf(id) : otherwise;
}

static int
compare_patches(const void *x, const void *y)
{
	const TagPatch *a = x;
	const TagPatch *b = y;

	return a->chunk < b->chunk ? -1 : a->chunk > b->chunk;
}

/* a range that leaves is not of neighbours that were there: chunks that nobody has touched are not touched here */
static void
clear_range(TagEveryone *e, HTAB *patches, int64 first, int64 last)
{
	e->cleared = e->cleared == NULL ? palloc(sizeof(int64) * 2) : repalloc(e->cleared, sizeof(int64) * 2 * (e->ncleared + 1));
	e->cleared[2 * e->ncleared] = first;
	e->cleared[2 * e->ncleared + 1] = last;
	e->ncleared++;
	if (patches != NULL)
	{
		HASH_SEQ_STATUS all;
		PatchEntry *entry;

		hash_seq_init(&all, patches);
		while ((entry = hash_seq_search(&all)) != NULL)
		{
			if (entry->chunk >= TagChunkOf(first) && entry->chunk <= TagChunkOf(last))
				patch_chunk(entry, low_in(entry->chunk, first, 0), low_in(entry->chunk, last, TAG_CHUNK_IDS - 1), false);
		}
	}
}

void
cdp_tag_everyone_read(TagEveryone *e, int limit, int64 **seqs, int *nseqs)
{
	CdpProbe   *p = cdp_probe_open_range("tag_everyone", "tag_everyone_pkey", 0);
	AttrNumber	first_column = cdp_probe_column(p, "first_id");
	AttrNumber	last_column = cdp_probe_column(p, "last_id");
	AttrNumber	added_column = cdp_probe_column(p, "added");
	AttrNumber	seq_column = cdp_probe_column(p, "seq");
	HTAB	   *patches = NULL;
	TupleTableSlot *slot;
	int			n = 0;

	memset(e, 0, sizeof(TagEveryone));
	cdp_probe_range(p, NULL);
	while (n < limit && (slot = cdp_probe_next(p)) != NULL)
	{
		bool		isnull;
		int64		first = DatumGetInt64(slot_getattr(slot, first_column, &isnull));
		int64		last = DatumGetInt64(slot_getattr(slot, last_column, &isnull));
		bool		added = DatumGetBool(slot_getattr(slot, added_column, &isnull));

		CHECK_FOR_INTERRUPTS();
		if (seqs != NULL)
			(*seqs)[n] = DatumGetInt64(slot_getattr(slot, seq_column, &isnull));
		n++;
		if (last < first)
			continue;
		if (!added && TagChunkOf(first) != TagChunkOf(last))
		{
			clear_range(e, patches, first, last);
			continue;
		}
		for (int64 chunk = TagChunkOf(first);; chunk++)
		{
			patch_chunk(patch_of(&patches, chunk), low_in(chunk, first, 0), low_in(chunk, last, TAG_CHUNK_IDS - 1), added);
			if (chunk == TagChunkOf(last))
				break;
			CHECK_FOR_INTERRUPTS();
		}
	}
	cdp_probe_close(p);
	if (nseqs != NULL)
		*nseqs = n;
	if (patches != NULL)
	{
		HASH_SEQ_STATUS all;
		PatchEntry *entry;

		e->patches = palloc_extended(sizeof(TagPatch) * hash_get_num_entries(patches), MCXT_ALLOC_HUGE);
		hash_seq_init(&all, patches);
		while ((entry = hash_seq_search(&all)) != NULL)
		{
			e->patches[e->npatches].chunk = entry->chunk;
			e->patches[e->npatches].set = entry->set;
			e->patches[e->npatches++].clear = entry->clear;
		}
		hash_destroy(patches);
		qsort(e->patches, e->npatches, sizeof(TagPatch), compare_patches);
	}
}

void
cdp_tag_everyone_apply(const TagEveryone *e, int64 chunk, uint64 *words)
{
	TagPatch	key = {chunk, NULL, NULL};
	const TagPatch *patch;

	for (int i = 0; i < e->ncleared; i++)
	{
		int64		first = e->cleared[2 * i];
		int64		last = e->cleared[2 * i + 1];

		if (chunk >= TagChunkOf(first) && chunk <= TagChunkOf(last))
			cdp_words_clear(words, low_in(chunk, first, 0), low_in(chunk, last, TAG_CHUNK_IDS - 1));
	}
	if (e->npatches == 0)
		return;
	patch = bsearch(&key, e->patches, e->npatches, sizeof(TagPatch), compare_patches);
	if (patch == NULL)
		return;
	for (int w = 0; w < TAG_CHUNK_WORDS; w++)
		words[w] = (patch->clear ? words[w] & ~patch->clear[w] : words[w]) | patch->set[w];
}

/* ------------------------------------------------------------------- rows */

void
cdp_tag_rows_open(TagRows *rows, int64 from)
{
	ScanKeyData key;

	rows->probe = cdp_probe_open_range("profile_tag", "profile_tag_pkey", 1);
	rows->id_column = cdp_probe_column(rows->probe, "profile_id");
	rows->tags_column = cdp_probe_column(rows->probe, "tags");
	ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	cdp_probe_range(rows->probe, &key);
	cdp_tag_rows_next(rows);
}

void
cdp_tag_rows_next(TagRows *rows)
{
	TupleTableSlot *slot;

	while ((slot = cdp_probe_next(rows->probe)) != NULL)
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		rows->tags = slot_getattr(slot, rows->tags_column, &isnull);
		if (isnull)
			continue;
		rows->id = DatumGetInt64(slot_getattr(slot, rows->id_column, &isnull));
		rows->found = true;
		return;
	}
	rows->found = false;
}

void
cdp_tag_rows_close(TagRows *rows)
{
	cdp_probe_close(rows->probe);
}

/* -------------------------------------------------------------- estimates */

static bool
members_of(CdpProbe *p, char kind, const char *name, int len, double *members)
{
	bytea	   *key = palloc(VARHDRSZ + 1 + len);
	TupleTableSlot *slot;
	bool		isnull;

	SET_VARSIZE(key, VARHDRSZ + 1 + len);
	VARDATA(key)[0] = kind;
	memcpy(VARDATA(key) + 1, name, len);
	slot = cdp_probe_bytes(p, key);
	if (slot != NULL)
		*members = (double) DatumGetInt64(slot_getattr(slot, cdp_probe_column(p, "members"), &isnull));
	pfree(key);
	return slot != NULL;
}

bool
cdp_tag_key_members(const char *key, int len, double *members)
{
	CdpProbe   *p = cdp_probe_open("tag_key", "tag_key_key_key");
	bool		found = members_of(p, key[0], key + 1, len - 1, members);

	/* name.* is the name or what lies strictly below: no more than both together */
	if (key[0] == TAG_KEY_BELOW)
	{
		double		own;

		if (members_of(p, TAG_KEY_NAME, key + 1, len - 1, &own))
		{
			*members = found ? *members + own : own;
			found = true;
		}
	}
	cdp_probe_close(p);
	return found;
}

double
cdp_tag_everyone_members(void)
{
	CdpProbe   *p = cdp_probe_open("tag_key", "tag_key_key_key");
	double		members = 0;

	(void) members_of(p, TAG_KEY_EVERYONE, "", 0, &members);
	cdp_probe_close(p);
	return members;
}
