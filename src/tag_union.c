/*
 * tag_union.c
 *	  Aggregate cdp.tagset_union(tagset): what + over all rows is.
 *
 *		SELECT cdp.tagset_union(tags ORDER BY recorded_at) FROM ...		-- the later row wins per name
 *
 * Folding with + copies the whole set for each row.  Here the state is an
 * expanded object of type cdp.tagset: entries are appended and settled when
 * twice as many wait as were there, so a row costs what it has itself.  For
 * everyone else (a parallel worker that hands its part over, a stored
 * state) it is a tagset: flattened, it is built as any other.
 *
 * What is appended is copied into blocks of bytes; settling moves what is
 * left into new blocks and drops the old ones, so memory follows the result
 * and not the rows.
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
	int			count;
	int			size;			/* room for entries */
	int			settle_at;		/* how many there may be before they are settled */
	MemoryContext bytes;		/* names and texts of the entries */
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
	return copy;
}

/* The entry's own copy of its name and text. */
static void
keep_entry(TagUnion *u, TagEntry *entry)
{
	entry->name = keep_bytes(u, entry->name, entry->name_len);
	if (entry->value.type == TAG_TEXT)
		entry->value.text = keep_bytes(u, entry->value.text, entry->value.text_len);
}

/* One entry per name, and the bytes of the others given back. */
static void
union_settle(TagUnion *u)
{
	int			before = u->count;

	u->count = cdp_tagset_settle(u->entries, u->count);
	if (u->count < before)
	{
		MemoryContext old = u->bytes;

		u->bytes = AllocSetContextCreate(u->hdr.eoh_context, "tagset_union bytes", ALLOCSET_SMALL_SIZES);
		for (int i = 0; i < u->count; i++)
			keep_entry(u, &u->entries[i]);
		MemoryContextDelete(old);
	}
	u->settle_at = Max(64, 2 * u->count);
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
	if (u->count + set.count > u->settle_at)
		union_settle(u);
	if (u->count + set.count > u->size)
	{
		u->size = Max(2 * u->size, u->count + set.count);
		u->entries = repalloc(u->entries, u->size * sizeof(TagEntry));
	}
	for (TagCursor c = {0}; cdp_tagset_next(&set, &c, &entry);)
	{
		keep_entry(u, &entry);
		u->entries[u->count++] = entry;
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
	u->settle_at = 64;
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
	MemoryContext context;
	TagUnion   *u = as_union(PG_GETARG_DATUM(0));

	if (!AggCheckCallContext(fcinfo, &context))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this function works only inside an aggregate"),
				 errhint("Use the aggregate cdp.tagset_union(tags), or tags + tags.")));
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
