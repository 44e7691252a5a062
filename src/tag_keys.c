/*
 * tag_keys.c
 *	  The keys of a tagset, for GIN, bitmaps and statistics alike.
 *
 *		region.华东.上海=on		n region.华东.上海
 *								p region, p region.华东, p region.华东.上海
 *								v region.华东.上海 \0 on
 *
 * So a prefix and a text value are one key each, wherever keys are looked up.
 *
 * Tests: test/sql/tag.sql, test/pgtap/tag.sql.  Page: doc/tag.md.
 */
#include "tag.h"

int
cdp_tag_key(char *key, char kind, const char *name, int name_len, const char *text, int text_len)
{
	key[0] = kind;
	memcpy(key + 1, name, name_len);
	if (kind != TAG_KEY_VALUE)
		return 1 + name_len;
	key[1 + name_len] = '\0';
	memcpy(key + 1 + name_len + 1, text, text_len);
	return 1 + name_len + 1 + text_len;
}

int
cdp_tag_compare_keys(const char *a, int alen, const char *b, int blen)
{
	int			cmp = memcmp(a, b, Min(alen, blen));

	return cmp != 0 ? cmp : alen - blen;
}

static int
compare_keys(const void *a, const void *b)
{
	const TagKey *ka = a;
	const TagKey *kb = b;

	return cdp_tag_compare_keys(ka->bytes, ka->len, kb->bytes, kb->len);
}

/* Sort the keys and make one of equal ones; answers how many remain. */
static int
merge_keys(TagKey *keys, int count)
{
	int			kept = 0;

	qsort(keys, count, sizeof(TagKey), compare_keys);
	for (int i = 0; i < count; i++)
	{
		if (kept > 0 && compare_keys(&keys[kept - 1], &keys[i]) == 0)
			keys[kept - 1].valid_until = Max(keys[kept - 1].valid_until, keys[i].valid_until);
		else
			keys[kept++] = keys[i];
	}
	return kept;
}

TagKey *
cdp_tagset_keys(const TagSet *set, int *count)
{
	TagKey	   *keys;
	TagKey	   *name_key;
	TagKey	   *below_key;
	TagKey	   *value_key;
	char	   *bytes;
	Size		size = 0;
	TagEntry	entry;
	int			below = 0;
	int			values = 0;

	for (TagCursor c = {0}; cdp_tagset_next(set, &c, &entry);)
	{
		size += 2 * (1 + entry.name_len);
		below++;
		for (int i = 0; i < entry.name_len; i++)
			below += entry.name[i] == '.';
		if (entry.value.type == TAG_TEXT)
		{
			size += 1 + entry.name_len + 1 + entry.value.text_len;
			values++;
		}
	}
	keys = palloc((set->count + below + values) * sizeof(TagKey));
	bytes = palloc(size);

	/* three runs; the first and the last are in order because the names are, and n < p < v */
	name_key = keys;
	below_key = keys + set->count;
	value_key = below_key + below;
	for (TagCursor c = {0}; cdp_tagset_next(set, &c, &entry);)
	{
		*name_key++ = (TagKey) {bytes, 1 + entry.name_len, entry.valid_until};
		bytes += cdp_tag_key(bytes, TAG_KEY_NAME, entry.name, entry.name_len, NULL, 0);
		/* an ancestor's key is the beginning of this one */
		for (int i = 1; i <= entry.name_len; i++)
			if (i == entry.name_len || entry.name[i] == '.')
				*below_key++ = (TagKey) {bytes, 1 + i, entry.valid_until};
		bytes += cdp_tag_key(bytes, TAG_KEY_BELOW, entry.name, entry.name_len, NULL, 0);
		if (entry.value.type == TAG_TEXT)
		{
			int			len = cdp_tag_key(bytes, TAG_KEY_VALUE, entry.name, entry.name_len, entry.value.text, entry.value.text_len);

			*value_key++ = (TagKey) {bytes, len, entry.valid_until};
			bytes += len;
		}
	}
	below_key = keys + set->count;
	*count = merge_keys(below_key, below);
	memmove(below_key + *count, below_key + below, values * sizeof(TagKey));
	*count += set->count + values;
	return keys;
}
