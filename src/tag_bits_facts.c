/*
 * tag_bits_facts.c
 *	  What changes in the bitmaps when a customer's tags do.
 *
 *		region.华东=on, vip				gone	p region, n region.华东, t region.华东, v region.华东 on
 *		vip, aov=5						come	n aov, x aov = 5
 *
 * Page: doc/tag_bits.md.  Tests: test/sql/tag_bits.sql, test/pgtap/tag_bits.sql.
 */
#include "tag_bits_write.h"

typedef struct TagFacts
{
	TagFact    *list;
	int			n;
} TagFacts;

static int
compare_facts(const void *x, const void *y)
{
	const TagFact *a = x;
	const TagFact *b = y;
	int			cmp = memcmp(a->bytes, b->bytes, Min(a->len, b->len));

	return cmp != 0 ? cmp : a->len - b->len;
}

static void
put_fact(TagFacts *facts, char kind, const TagEntry *entry, int name_len)
{
	TagFact    *fact = &facts->list[facts->n++];
	char	   *key = palloc(1 + name_len + (kind == TAG_KEY_VALUE ? 1 + entry->value.text_len : 0));

	fact->len = cdp_tag_key(key, kind, entry->name, name_len, entry->value.text, entry->value.text_len);
	fact->bytes = key;
	fact->value = kind == TAG_KEY_NUMBER ? entry->value.number : kind == TAG_KEY_DATE ? (double) entry->value.date : 0;
}

/*
 * Keys of these entries, sorted, each once.  They are those of tag.h, but for
 * one thing: name.* is true of the name itself too, and most names have
 * nothing below them, so their bitmaps would all be kept twice.  A bitmap of
 * kind p is of what lies strictly below, and the plan of name.* asks for both.
 */
static void
list_facts(TagFacts *facts, const TagEntry *entries, int n)
{
	int			room = 0;
	int			kept = 0;

	memset(facts, 0, sizeof(TagFacts));
	if (n == 0)
		return;
	for (int k = 0; k < n; k++)
	{
		room += 3;
		for (int i = 0; i < entries[k].name_len; i++)
			room += entries[k].name[i] == '.';
	}
	facts->list = palloc(sizeof(TagFact) * room);
	for (int k = 0; k < n; k++)
	{
		const TagEntry *entry = &entries[k];

		put_fact(facts, TAG_KEY_NAME, entry, entry->name_len);
		for (int i = 0; i < entry->name_len; i++)
		{
			if (entry->name[i] == '.')
				put_fact(facts, TAG_KEY_BELOW, entry, i);
		}
		if (entry->value.type == TAG_TEXT)
		{
			put_fact(facts, TAG_KEY_VALUE, entry, entry->name_len);
			put_fact(facts, TAG_KEY_TEXT, entry, entry->name_len);
		}
		else if (entry->value.type != TAG_NONE)
			put_fact(facts, entry->value.type == TAG_NUMBER ? TAG_KEY_NUMBER : TAG_KEY_DATE, entry, entry->name_len);
	}
	if (facts->n > 1)
		qsort(facts->list, facts->n, sizeof(TagFact), compare_facts);
	for (int i = 0; i < facts->n; i++)
	{
		if (kept == 0 || compare_facts(&facts->list[kept - 1], &facts->list[i]) != 0)
			facts->list[kept++] = facts->list[i];
	}
	facts->n = kept;
}

/* entries that have not ended at that moment, in order */
static TagEntry *
list_entries(const TagSet *set, TimestampTz at, int *n)
{
	TagEntry   *entries;
	TagEntry	entry;

	*n = 0;
	if (set == NULL)
		return NULL;
	entries = palloc(sizeof(TagEntry) * Max(set->count, 1));
	for (TagCursor c = {0}; cdp_tagset_next(set, &c, &entry);)
	{
		if (entry.valid_until > at)
			entries[(*n)++] = entry;
	}
	return entries;
}

static int
compare_names(const TagEntry *a, const TagEntry *b)
{
	int			cmp = memcmp(a->name, b->name, Min(a->name_len, b->name_len));

	return cmp != 0 ? cmp : a->name_len - b->name_len;
}

static bool
same_value(const TagValue *a, const TagValue *b)
{
	return a->type == b->type &&
		(a->type != TAG_NUMBER || a->number == b->number) &&
		(a->type != TAG_DATE || a->date == b->date) &&
		(a->type != TAG_TEXT || (a->text_len == b->text_len && memcmp(a->text, b->text, a->text_len) == 0));
}

/*
 * Entries that both have and whose keys nobody else can have: most of them,
 * as a rule, and they bring no change.
 */
static void
drop_common(TagEntry *old, int *nold, TagEntry *new, int *nnew)
{
	int			i = 0;
	int			j = 0;
	int			oldkept = 0;
	int			newkept = 0;

	while (i < *nold || j < *nnew)
	{
		int			cmp = i == *nold ? 1 : j == *nnew ? -1 : compare_names(&old[i], &new[j]);

		if (cmp == 0 && same_value(&old[i].value, &new[j].value) && memchr(old[i].name, '.', old[i].name_len) == NULL)
		{
			i++;
			j++;
			continue;
		}
		if (cmp <= 0)
			old[oldkept++] = old[i++];
		if (cmp >= 0)
			new[newkept++] = new[j++];
	}
	*nold = oldkept;
	*nnew = newkept;
}

static void
diff_lists(const TagFacts *old, const TagFacts *new, TagFactChange change, void *arg)
{
	int			i = 0;
	int			j = 0;

	while (i < old->n || j < new->n)
	{
		int			cmp = i == old->n ? 1 : j == new->n ? -1 : compare_facts(&old->list[i], &new->list[j]);

		if (cmp < 0)
			change(arg, &old->list[i], false);
		else if (cmp > 0 || old->list[i].value != new->list[j].value)
			change(arg, &new->list[j], true);
		if (cmp <= 0)
			i++;
		if (cmp >= 0)
			j++;
	}
}

void
cdp_tag_facts_diff(const TagSet *old, TimestampTz old_at, const TagSet *new, TimestampTz new_at,
				   TagFactChange change, void *arg)
{
	TagFacts	before;
	TagFacts	after;
	int			nold;
	int			nnew;
	TagEntry   *old_entries = list_entries(old, old_at, &nold);
	TagEntry   *new_entries = list_entries(new, new_at, &nnew);

	drop_common(old_entries, &nold, new_entries, &nnew);
	list_facts(&before, old_entries, nold);
	list_facts(&after, new_entries, nnew);
	diff_lists(&before, &after, change, arg);
}
