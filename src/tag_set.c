/*
 * tag_set.c
 *	  The bytes of cdp.tagset: reading, building and the invariant checker.
 *
 * An entry's word of 32 bits:
 *
 *		31			it expires: valid-until is in its slots
 *		30 .. 29	TagValueType
 *		28 .. 0		where its name ends, counted from the first name
 *
 * The hot loop of every scan is cdp_tagset_find.  A name is compared by its
 * first eight bytes as one big-endian number, which decides nearly always;
 * a shorter name is read as the eight bytes that end with it, shifted, which
 * lie in the value because at least the count and one entry stand before.
 *
 * SQL: sql/tag.sql.  Tests: test/sql/tag.sql, test/pgtap/tag.sql.  Page: doc/tag.md.
 */
#include "tag.h"

#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"

#define ENTRY_EXPIRES		0x80000000U
#define ENTRY_TYPE(word)	((TagValueType) (((word) >> 29) & 3))
#define ENTRY_END(word)		((word) & 0x1FFFFFFFU)
#define ENTRY_SLOTS(word)	(((word) >> 31) + (((word) & 0x60000000U) != 0))
#define SLOT				8

static inline uint32
read_u32(const char *p)
{
	uint32		v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64
read_u64(const char *p)
{
	uint64		v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32
entry_word(const TagSet *set, int i)
{
	return read_u32(set->entries + i * sizeof(uint32));
}

static inline int
name_start(const TagSet *set, int i)
{
	return i == 0 ? 0 : ENTRY_END(entry_word(set, i - 1));
}

#ifdef USE_ASSERT_CHECKING
/* Everything that readers rely on. */
static void
cdp_tagset_check(const TagSet *set, const struct varlena *value)
{
	const char *end = (const char *) VARDATA_ANY(value) + VARSIZE_ANY_EXHDR(value);
	const char *texts;
	const char *before = NULL;
	int			before_len = 0;
	TagEntry	entry;
	int			slots = 0;

	Assert(set->count >= 0 && set->count <= TAGSET_MAX_ENTRIES);
	for (int i = 0; i < set->count; i++)
		slots += ENTRY_SLOTS(entry_word(set, i));
	texts = set->slots + slots * SLOT;
	Assert(texts <= end);
	for (TagCursor c = {0}; cdp_tagset_next(set, &c, &entry);)
	{
		Assert(entry.name_len > 0 && entry.name_len <= TAG_MAX_NAME && entry.name + entry.name_len <= set->slots);
		Assert(memchr(entry.name, '\0', entry.name_len) == NULL);
		cdp_tag_check_name(entry.name, entry.name_len, "tagset");
		if (before != NULL)
		{
			int			cmp = memcmp(before, entry.name, Min(before_len, entry.name_len));

			Assert(cmp < 0 || (cmp == 0 && before_len < entry.name_len));
		}
		before = entry.name;
		before_len = entry.name_len;
		Assert(entry.value.type != TAG_NUMBER || cdp_tag_is_number(entry.value.number));
		Assert(entry.value.type != TAG_DATE || cdp_tag_is_date(entry.value.date));
		Assert(entry.valid_until == DT_NOEND || cdp_tag_is_instant(entry.valid_until));
		if (entry.value.type == TAG_TEXT)
		{
			Assert(entry.value.text == texts && entry.value.text_len >= 0 && entry.value.text_len <= TAG_MAX_NAME);
			Assert(memchr(texts, '\0', entry.value.text_len) == NULL);
			texts += entry.value.text_len;
		}
	}
	Assert(texts == end);
}
#endif

void
cdp_tagset_open(TagSet *set, const struct varlena *value)
{
	set->base = VARDATA_ANY(value);
	set->count = read_u32(set->base);
	set->entries = set->base + sizeof(uint32);
	set->names = set->entries + set->count * sizeof(uint32);
	set->slots = set->names + name_start(set, set->count);
#ifdef USE_ASSERT_CHECKING
	cdp_tagset_check(set, value);
#endif
}

/* The first eight bytes of entry i's name as a number that sorts as they do; zero behind a shorter one. */
static inline uint64
name_prefix(const char *name, int len)
{
	return len >= SLOT ? pg_ntoh64(read_u64(name)) : pg_ntoh64(read_u64(name + len - SLOT)) << (BITS_PER_BYTE * (SLOT - len));
}

/* The same of a name that lies anywhere. */
static inline uint64
key_prefix(const char *name, int len)
{
	uint64		v = 0;

	memcpy(&v, name, Min(len, SLOT));
	return pg_ntoh64(v);
}

/* The first entry whose name is not less; *found: it is equal. */
static inline int
lower_bound(const TagSet *set, const char *name, int len, bool *found)
{
	uint64		prefix = key_prefix(name, len);
	int			low = 0;
	int			high = set->count;

	*found = false;
	while (low < high)
	{
		int			mid = (low + high) / 2;
		int			start = name_start(set, mid);
		const char *mid_name = set->names + start;
		int			mid_len = ENTRY_END(entry_word(set, mid)) - start;
		uint64		mid_prefix = name_prefix(mid_name, mid_len);

		if (mid_prefix == prefix)
		{
			/* no name holds a zero byte, so of two with one prefix both are longer than it or neither */
			int			cmp = len <= SLOT || mid_len <= SLOT ? 0 :
				memcmp(mid_name + SLOT, name + SLOT, Min(len, mid_len) - SLOT);

			if (cmp == 0)
				cmp = mid_len - len;
			if (cmp == 0)
			{
				*found = true;
				return mid;
			}
			if (cmp < 0)
				low = mid + 1;
			else
				high = mid;
		}
		else if (mid_prefix < prefix)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int
cdp_tagset_find(const TagSet *set, const char *name, int len)
{
	bool		found;
	int			i = lower_bound(set, name, len, &found);

	return found ? i : -1;
}

/* The first entry whose name is not less than name and one character behind it. */
static int
bound_behind(const TagSet *set, const char *name, int len, char behind)
{
	char		key[TAG_MAX_NAME + 1];
	bool		found;

	memcpy(key, name, len);
	key[len] = behind;
	return lower_bound(set, key, len + 1, &found);
}

/* What is below a name begins with it and a dot; '/' is the character behind the dot. */
void
cdp_tagset_below(const TagSet *set, const char *name, int len, int *from, int *to)
{
	const char *first;
	int			first_len;

	Assert(len <= TAG_MAX_NAME);
	*from = *to = bound_behind(set, name, len, '.');
	if (*from == set->count)
		return;
	first = cdp_tagset_name(set, *from, &first_len);
	if (first_len > len && first[len] == '.' && memcmp(first, name, len) == 0)
		*to = bound_behind(set, name, len, '/');
}

const char *
cdp_tagset_name(const TagSet *set, int i, int *len)
{
	int			start = name_start(set, i);

	*len = ENTRY_END(entry_word(set, i)) - start;
	return set->names + start;
}

/* How many slots there are before those of entry i. */
static inline int
slots_before(const TagSet *set, int i)
{
	int			slots = 0;

	for (int k = 0; k < i; k++)
		slots += ENTRY_SLOTS(entry_word(set, k));
	return slots;
}

TimestampTz
cdp_tagset_valid_until(const TagSet *set, int i)
{
	uint32		word = entry_word(set, i);

	if (!(word & ENTRY_EXPIRES))
		return DT_NOEND;
	return (TimestampTz) read_u64(set->slots + (slots_before(set, i) + ENTRY_SLOTS(word) - 1) * SLOT);
}

/* Entry i, whose slots begin at slot. */
static inline void
read_entry(const TagSet *set, int i, const char *slot, TagEntry *entry)
{
	uint32		word = entry_word(set, i);
	uint64		bits;

	entry->name = cdp_tagset_name(set, i, &entry->name_len);
	entry->value.type = ENTRY_TYPE(word);
	switch (entry->value.type)
	{
		case TAG_NONE:
			break;
		case TAG_NUMBER:
			memcpy(&entry->value.number, slot, sizeof(double));
			slot += SLOT;
			break;
		case TAG_DATE:
			entry->value.date = (DateADT) read_u64(slot);
			slot += SLOT;
			break;
		case TAG_TEXT:
			bits = read_u64(slot);
			entry->value.text = set->base + (uint32) (bits >> 32);
			entry->value.text_len = (uint32) bits;
			slot += SLOT;
			break;
	}
	entry->valid_until = word & ENTRY_EXPIRES ? (TimestampTz) read_u64(slot) : DT_NOEND;
}

void
cdp_tagset_entry(const TagSet *set, int i, TagEntry *entry)
{
	read_entry(set, i, set->slots + slots_before(set, i) * SLOT, entry);
}

bool
cdp_tagset_next(const TagSet *set, TagCursor *cursor, TagEntry *entry)
{
	if (cursor->i >= set->count)
		return false;
	read_entry(set, cursor->i, set->slots + cursor->slot * SLOT, entry);
	cursor->slot += ENTRY_SLOTS(entry_word(set, cursor->i));
	cursor->i++;
	return true;
}

static int
compare_names(const TagEntry *a, const TagEntry *b)
{
	int			cmp = memcmp(a->name, b->name, Min(a->name_len, b->name_len));

	return cmp != 0 ? cmp : a->name_len - b->name_len;
}

/* By name; of one name the earlier first. */
static int
compare_entries(const void *a, const void *b)
{
	const TagEntry *ea = *(TagEntry *const *) a;
	const TagEntry *eb = *(TagEntry *const *) b;
	int			cmp = compare_names(ea, eb);

	return cmp != 0 ? cmp : (ea > eb) - (ea < eb);
}

/* Sort entries by name and keep the last of each; answers how many remain. */
int
cdp_tagset_settle(TagEntry *entries, int count)
{
	TagEntry  **order;
	TagEntry   *result;
	int			kept = 0;
	bool		settled = true;

	for (int i = 1; i < count && settled; i++)
		settled = compare_names(&entries[i - 1], &entries[i]) < 0;
	if (settled)
		kept = count;
	else
	{
		order = palloc(count * sizeof(TagEntry *));
		result = palloc(count * sizeof(TagEntry));
		for (int i = 0; i < count; i++)
			order[i] = &entries[i];
		qsort(order, count, sizeof(TagEntry *), compare_entries);
		for (int i = 0; i < count; i++)
			if (i == count - 1 || compare_names(order[i], order[i + 1]) != 0)
				result[kept++] = *order[i];
		memcpy(entries, result, kept * sizeof(TagEntry));
		pfree(order);
		pfree(result);
	}
	if (kept > TAGSET_MAX_ENTRIES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a tagset has more than %d entries", TAGSET_MAX_ENTRIES),
				 errhint("A tag says what a customer is; what he did, such as every product he looked at, is an event.")));
	return kept;
}

struct varlena *
cdp_tagset_build(TagEntry *entries, int count)
{
	struct varlena *result;
	TagSet		set;
	char	   *words;
	char	   *name;
	char	   *slot;
	char	   *text;
	int			names_len = 0;
	int			texts_len = 0;
	int			slots = 0;

	count = cdp_tagset_settle(entries, count);
	for (int i = 0; i < count; i++)
	{
		names_len += entries[i].name_len;
		slots += (entries[i].value.type != TAG_NONE) + (entries[i].valid_until != DT_NOEND);
		if (entries[i].value.type == TAG_TEXT)
			texts_len += entries[i].value.text_len;
	}
	result = palloc(VARHDRSZ + (1 + count) * sizeof(uint32) + names_len + slots * SLOT + texts_len);
	SET_VARSIZE(result, VARHDRSZ + (1 + count) * sizeof(uint32) + names_len + slots * SLOT + texts_len);
	set.base = VARDATA(result);
	memcpy(VARDATA(result), &count, sizeof(uint32));
	words = VARDATA(result) + sizeof(uint32);
	name = words + count * sizeof(uint32);
	slot = name + names_len;
	text = slot + slots * SLOT;
	names_len = 0;
	for (int i = 0; i < count; i++)
	{
		const TagEntry *e = &entries[i];
		uint32		word;
		uint64		bits;

		names_len += e->name_len;
		word = names_len | ((uint32) e->value.type << 29) | (e->valid_until != DT_NOEND ? ENTRY_EXPIRES : 0);
		memcpy(words + i * sizeof(uint32), &word, sizeof(word));
		memcpy(name, e->name, e->name_len);
		name += e->name_len;
		switch (e->value.type)
		{
			case TAG_NONE:
				break;
			case TAG_NUMBER:
				memcpy(slot, &e->value.number, SLOT);
				slot += SLOT;
				break;
			case TAG_DATE:
				bits = (uint64) (int64) e->value.date;
				memcpy(slot, &bits, SLOT);
				slot += SLOT;
				break;
			case TAG_TEXT:
				bits = (uint64) (text - set.base) << 32 | (uint32) e->value.text_len;
				memcpy(slot, &bits, SLOT);
				slot += SLOT;
				memcpy(text, e->value.text, e->value.text_len);
				text += e->value.text_len;
				break;
		}
		if (e->valid_until != DT_NOEND)
		{
			memcpy(slot, &e->valid_until, SLOT);
			slot += SLOT;
		}
	}
#ifdef USE_ASSERT_CHECKING
	cdp_tagset_open(&set, result);
#endif
	return result;
}
