/*
 * tag_union.c
 *	  Aggregate cdp.tagset_union(tagset): what + over all rows is.
 *
 *		SELECT cdp.tagset_union(tags ORDER BY recorded_at) FROM ...		-- the later row wins per name
 *
 * Folding with + copies the whole set for each row.  Here the state is an
 * expanded object of type cdp.tagset: sorted entries, in which a row finds
 * the names that are known, and behind them a tail of new ones, sorted in
 * when it is long.  For everyone else (a parallel worker that hands its part
 * over, a stored state) it is a tagset: flattened, it is built as any other.
 *
 * Bytes of names and texts are copied into a context of their own; when the
 * half of it is not needed any more, what is needed moves to a new one.  So
 * memory follows the result and not the rows.
 *
 * SQL: sql/tag.sql.  Tests: test/sql/tag.sql, test/pgtap/tag.sql.  Page: doc/tag.md.
 */
#include "tag.h"

#include "utils/expandeddatum.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_tagset_union_accum);
PG_FUNCTION_INFO_V1(cdp_tagset_union_final);

#define UNION_MAGIC		0x54414755

typedef struct TagUnion
{
	ExpandedObjectHeader hdr;
	int			magic;
	TagEntry   *entries;
	int			sorted;			/* so many are sorted by name, each name once */
	int			count;			/* the rest are names that are not among them */
	int			size;			/* room for entries */
	MemoryContext bytes;		/* names and texts of the entries */
	Size		used;			/* how much was allocated there */
	Size		move_at;		/* when it is more, what is needed moves */
	struct varlena *flat;		/* built when somebody asks for it, NULL: not yet or out of date */
} TagUnion;

static Size union_flat_size(ExpandedObjectHeader *eohptr);
static void union_flatten(ExpandedObjectHeader *eohptr, void *result, Size size);

static const ExpandedObjectMethods union_methods = {union_flat_size, union_flatten};

static char *
keep_bytes(TagUnion *u, const char *bytes, int len)
{
	char	   *copy = MemoryContextAlloc(u->bytes, Max(len, 1));

	memcpy(copy, bytes, len);
	u->used += len;
	return copy;
}

/* The value with a text of its own; a text that was there before is one already. */
static TagValue
keep_value(TagUnion *u, const TagValue *value, const TagValue *before)
{
	TagValue	result = *value;

	if (value->type != TAG_TEXT)
		return result;
	if (before != NULL && before->type == TAG_TEXT && before->text_len == value->text_len &&
		memcmp(before->text, value->text, value->text_len) == 0)
		return *before;
	result.text = keep_bytes(u, value->text, value->text_len);
	return result;
}

/* Only what is needed remains in memory. */
static void
union_move(TagUnion *u)
{
	MemoryContext old = u->bytes;

	u->bytes = AllocSetContextCreate(u->hdr.eoh_context, "tagset_union bytes", ALLOCSET_SMALL_SIZES);
	u->used = 0;
	for (int i = 0; i < u->count; i++)
	{
		u->entries[i].name = keep_bytes(u, u->entries[i].name, u->entries[i].name_len);
		u->entries[i].value = keep_value(u, &u->entries[i].value, NULL);
	}
	MemoryContextDelete(old);
	u->move_at = 2 * u->used + 64 * 1024;
}

static void
union_settle(TagUnion *u)
{
	if (u->count > u->sorted)
		u->sorted = u->count = cdp_tagset_settle(u->entries, u->count);
	if (u->used > u->move_at)
		union_move(u);
}

/* The sorted entry of that name, NULL: none. */
static TagEntry *
union_find(TagUnion *u, const TagEntry *entry)
{
	int			low = 0;
	int			high = u->sorted;

	while (low < high)
	{
		int			mid = (low + high) / 2;
		TagEntry   *e = &u->entries[mid];
		int			cmp = memcmp(e->name, entry->name, Min(e->name_len, entry->name_len));

		if (cmp == 0)
			cmp = e->name_len - entry->name_len;
		if (cmp == 0)
			return e;
		if (cmp < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static void
union_append(TagUnion *u, const struct varlena *value)
{
	TagSet		set;
	TagEntry	entry;

	cdp_tagset_open(&set, value);
	if (u->flat != NULL)
	{
		pfree(u->flat);
		u->flat = NULL;
	}
	if (u->count - u->sorted > Max(64, u->sorted / 2) || u->used > u->move_at)
		union_settle(u);
	if (u->count + set.count > u->size)
	{
		u->size = Max(2 * u->size, u->count + set.count);
		u->entries = repalloc(u->entries, u->size * sizeof(TagEntry));
	}
	for (TagCursor c = {0}; cdp_tagset_next(&set, &c, &entry);)
	{
		TagEntry   *known = union_find(u, &entry);
		TagEntry   *e = known != NULL ? known : &u->entries[u->count++];

		if (known == NULL)
		{
			e->name = keep_bytes(u, entry.name, entry.name_len);
			e->name_len = entry.name_len;
		}
		e->value = keep_value(u, &entry.value, known != NULL ? &known->value : NULL);
		e->valid_until = entry.valid_until;
	}
}

static TagUnion *
union_begin(MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "tagset_union", ALLOCSET_START_SMALL_SIZES);
	TagUnion   *u = MemoryContextAllocZero(context, sizeof(TagUnion));

	EOH_init_header(&u->hdr, &union_methods, context);
	u->magic = UNION_MAGIC;
	u->size = 32;
	u->entries = MemoryContextAlloc(context, u->size * sizeof(TagEntry));
	u->move_at = 64 * 1024;
	u->bytes = AllocSetContextCreate(context, "tagset_union bytes", ALLOCSET_SMALL_SIZES);
	return u;
}

static struct varlena *
union_flat(TagUnion *u)
{
	if (u->flat == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(u->hdr.eoh_context);

		union_settle(u);
		u->flat = cdp_tagset_build(u->entries, u->count);
		MemoryContextSwitchTo(old);
	}
	return u->flat;
}

static Size
union_flat_size(ExpandedObjectHeader *eohptr)
{
	return VARSIZE(union_flat((TagUnion *) eohptr));
}

static void
union_flatten(ExpandedObjectHeader *eohptr, void *result, Size size)
{
	memcpy(result, union_flat((TagUnion *) eohptr), size);
}

/* A state that is one of ours already, NULL when it is a plain tagset. */
static TagUnion *
as_union(Datum state)
{
	TagUnion   *u;

	if (!VARATT_IS_EXTERNAL_EXPANDED_RW(DatumGetPointer(state)))
		return NULL;
	u = (TagUnion *) DatumGetEOHP(state);
	return u->hdr.eoh_methods == &union_methods && u->magic == UNION_MAGIC ? u : NULL;
}

/* cdp._tagset_union(state, tags): a row, or the state of another worker, into the state; STRICT, so the first row is the state */
Datum
cdp_tagset_union_accum(PG_FUNCTION_ARGS)
{
	MemoryContext context = cdp_aggregate_context(fcinfo, "Use the aggregate cdp.tagset_union(tags), or tags + tags.");
	TagUnion   *u = as_union(PG_GETARG_DATUM(0));

	if (u == NULL)
	{
		u = union_begin(context);
		union_append(u, PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0)));
	}
	union_append(u, PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(1)));
	PG_RETURN_DATUM(EOHPGetRWDatum(&u->hdr));
}

/* cdp._tagset_union_final(state) */
Datum
cdp_tagset_union_final(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(PG_DETOAST_DATUM(PG_GETARG_DATUM(0)));
}
