/*
 * identity_match_value.c
 *	  The kinds of comparison: how a value is read, and how alike two are.
 *
 * A value is decoded once, however many pairs it stands in, and equal values
 * share a number, so that the commonest question costs one comparison of
 * integers.  What remains is a level, from different (0) upwards:
 *
 *		exact		different									equal
 *		text, name	different	similar		close				equal
 *		han_name	different	similar		same_sound	variant	equal
 *		date		different	partly		close				equal
 *		number		different	near		close				equal
 *		phone		different				close				equal
 *		email		different	same_name	close				equal
 *
 * and swapped, below equal, where the comparison names a column to exchange
 * with.  doc/identity_match.md says what each word means; the numbers of the
 * levels stand in stored models, so a released kind keeps its list.
 *
 * Tests: test/sql/identity_match.sql.
 */
#include "identity_match.h"

#include <math.h>

#include "common/hashfn.h"
#include "identity_compare.h"
#include "identity_normalize.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

/* jaro_winkler from here on */
#define CLOSE_FROM		0.92
#define SIMILAR_FROM	0.80

/* one edit in three characters is no likeness */
#define EDIT_MIN_CHARS	4

/* above that a mask would be full and cost more than it saves */
#define MASK_MAX_CHARS	48

typedef struct KindInfo
{
	const char *name;
	bool		swaps;
	int			nlevels;
	const char *levels[MATCH_MAX_LEVELS - 1];
} KindInfo;

static const KindInfo kinds[MATCH_KINDS] = {
	[MATCH_EXACT] = {"exact", true, 2, {"different", "equal"}},
	[MATCH_TEXT] = {"text", true, 4, {"different", "similar", "close", "equal"}},
	[MATCH_NAME] = {"name", true, 4, {"different", "similar", "close", "equal"}},
	[MATCH_HAN_NAME] = {"han_name", true, 5, {"different", "similar", "same_sound", "variant", "equal"}},
	[MATCH_DATE] = {"date", false, 4, {"different", "partly", "close", "equal"}},
	[MATCH_NUMBER] = {"number", false, 4, {"different", "near", "close", "equal"}},
	[MATCH_PHONE] = {"phone", false, 3, {"different", "close", "equal"}},
	[MATCH_EMAIL] = {"email", false, 4, {"different", "same_name", "close", "equal"}},
};

const char *
match_kind_name(MatchKind kind)
{
	return kinds[kind].name;
}

bool
match_find_kind(const char *name, int len, MatchKind *kind)
{
	for (int i = 0; i < MATCH_KINDS; i++)
	{
		if ((int) strlen(kinds[i].name) == len && memcmp(kinds[i].name, name, len) == 0)
		{
			*kind = (MatchKind) i;
			return true;
		}
	}
	return false;
}

const char *
match_kind_list(void)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < MATCH_KINDS; i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", kinds[i].name);
	return buf.data;
}

bool
match_kind_swaps(MatchKind kind)
{
	return kinds[kind].swaps;
}

int
match_level_count(const MatchColumn *column)
{
	return kinds[column->kind].nlevels + (column->swap != NULL);
}

const char *
match_level_name(const MatchColumn *column, int level)
{
	int			top = match_level_count(column) - 1;

	if (level < 0)
		return "null";
	if (level == top)
		return "equal";
	if (column->swap != NULL && level == top - 1)
		return "swapped";
	return kinds[column->kind].levels[level];
}

/* --- distinct values --- */

typedef struct ValueKey
{
	const char *bytes;
	int			len;
} ValueKey;

typedef struct ValueEntry
{
	ValueKey	key;
	int			number;
	uint32		hash;
	char		status;
} ValueEntry;

#define SH_PREFIX		value
#define SH_ELEMENT_TYPE ValueEntry
#define SH_KEY_TYPE		ValueKey
#define SH_KEY			key
#define SH_HASH_KEY(tb, k)	hash_bytes((const unsigned char *) (k).bytes, (k).len)
#define SH_EQUAL(tb, a, b)	((a).len == (b).len && memcmp((a).bytes, (b).bytes, (a).len) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a)	(a)->hash
#define SH_SCOPE		static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct MatchDict
{
	MatchKind	kind;
	MemoryContext context;
	int			n;
	int			room;
	MatchValue *values;
	value_hash *hash;
	/* han_name: simplified forms and sounds, numbered */
	value_hash *forms;
	int			nforms;
	MemoryContext scratch;		/* what decoding one value leaves behind */
};

MatchDict *
match_new_dict(MatchKind kind)
{
	MatchDict  *dict = palloc0(sizeof(MatchDict));

	dict->kind = kind;
	dict->context = CurrentMemoryContext;
	dict->room = 1024;
	dict->values = palloc(dict->room * sizeof(MatchValue));
	dict->hash = value_create(CurrentMemoryContext, 1024, NULL);
	dict->scratch = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp value", ALLOCSET_DEFAULT_SIZES);
	return dict;
}

int
match_dict_size(const MatchDict *dict)
{
	return dict->n;
}

/* the number of a value; *is_new when it was not known, and then it is to be filled */
static int
put(MatchDict *dict, const void *bytes, int len, bool *is_new)
{
	ValueKey	key = {bytes, len};
	bool		found;
	ValueEntry *entry = value_insert(dict->hash, key, &found);

	*is_new = !found;
	if (found)
		return entry->number;
	entry->key.bytes = memcpy(MemoryContextAlloc(dict->context, Max(len, 1)), bytes, len);
	entry->number = dict->n;
	if (dict->n == dict->room)
	{
		dict->room *= 2;
		dict->values = repalloc_huge(dict->values, dict->room * sizeof(MatchValue));
	}
	memset(&dict->values[dict->n], 0, sizeof(MatchValue));
	return dict->n++;
}

/*
 * A bit for each character and occurrence: the second e of a word has another
 * bit than the first.
 */
static uint64
character_mask(const pg_wchar *chars, int n)
{
	uint64		mask = 0;

	for (int i = 0; i < n; i++)
	{
		uint32		before = 0;

		for (int j = 0; j < i; j++)
			before += chars[j] == chars[i];
		mask |= UINT64CONST(1) << ((chars[i] * UINT64CONST(0x9E3779B1) + before * UINT64CONST(0x85EBCA77)) >> 16 & 63);
	}
	return mask;
}

/* put a canonical form that is its characters */
static int
put_chars(MatchDict *dict, const pg_wchar *chars, int n, bool *is_new)
{
	int			number = put(dict, chars, n * sizeof(pg_wchar), is_new);
	MatchValue *value = &dict->values[number];

	if (*is_new)
	{
		/* the key of the hash table holds them, aligned by palloc */
		ValueKey	key = {(const char *) chars, n * (int) sizeof(pg_wchar)};

		value->chars = (const pg_wchar *) value_lookup(dict->hash, key)->key.bytes;
		value->nchars = n;
		value->mask = n <= MASK_MAX_CHARS ? character_mask(chars, n) : 0;
	}
	return number;
}

/* without blanks at the ends and double ones inside; answers the new length */
static int
squeeze(pg_wchar *w, int n)
{
	int			to = 0;

	for (int i = 0; i < n; i++)
	{
		if (!cdp_is_blank(w[i]))
			w[to++] = w[i];
		else if (to > 0 && w[to - 1] != ' ')
			w[to++] = ' ';
	}
	return to > 0 && w[to - 1] == ' ' ? to - 1 : to;
}

/* ASCII as characters */
static int
put_ascii(MatchDict *dict, const char *in, int len, bool *is_new)
{
	pg_wchar	w[CDP_EMAIL_MAX];

	Assert(len <= CDP_EMAIL_MAX);
	for (int i = 0; i < len; i++)
		w[i] = (unsigned char) in[i];
	return put_chars(dict, w, len, is_new);
}

int
match_put_date(MatchDict *dict, int year, int month, int day)
{
	char		digits[32];
	bool		is_new;

	if (year < 0 || year > 9999)
		return -1;
	snprintf(digits, sizeof(digits), "%04d%02d%02d", year, month, day);
	return put_ascii(dict, digits, 8, &is_new);
}

/*
 * A date as it stands in files: 19840131, 1984-1-31, 1984/01/31, 1984年1月31日,
 * a time may follow.  Impossible dates are kept: a typing error in a date of
 * birth leaves most of it true.
 */
static int
put_date_text(MatchDict *dict, const char *in, int len)
{
	int			part[3] = {0, 0, 0};
	int			digits[3] = {0, 0, 0};
	int			n = 0;
	bool		inside = false;

	for (int i = 0; i < len && n < 3; i++)
	{
		if (in[i] < '0' || in[i] > '9')
		{
			n += inside;
			inside = false;
			continue;
		}
		inside = true;
		if (++digits[n] > 8)
			return -1;
		part[n] = part[n] * 10 + (in[i] - '0');
	}
	if (digits[0] == 8)
		return match_put_date(dict, part[0] / 10000, part[0] / 100 % 100, part[0] % 100);
	if (digits[0] != 4 || digits[1] < 1 || digits[1] > 2 || digits[2] < 1 || digits[2] > 2)
		return -1;
	return match_put_date(dict, part[0], part[1], part[2]);
}

int
match_put_number(MatchDict *dict, double number)
{
	bool		is_new;
	int			result;

	if (isnan(number) || isinf(number))
		return -1;
	if (number == 0)
		number = 0;				/* -0 is 0 */
	result = put(dict, &number, sizeof(number), &is_new);
	dict->values[result].number = number;
	return result;
}

static int
put_number_text(MatchDict *dict, const char *in, int len)
{
	char		buf[64];
	char	   *end;
	double		number;

	if (len >= (int) sizeof(buf))
		return -1;
	memcpy(buf, in, len);
	buf[len] = '\0';
	number = strtod(buf, &end);
	while (*end == ' ')
		end++;
	return end == buf || *end != '\0' ? -1 : match_put_number(dict, number);
}

/* number of a derived form: what it is, then its bytes */
static int
put_form(MatchDict *dict, char what, const void *bytes, int len)
{
	char	   *copy = palloc(len + 1);
	ValueKey	key = {copy, len + 1};
	bool		found;
	ValueEntry *entry;

	copy[0] = what;
	memcpy(copy + 1, bytes, len);
	if (dict->forms == NULL)
		dict->forms = value_create(dict->context, 1024, NULL);
	entry = value_insert(dict->forms, key, &found);
	if (!found)
	{
		entry->key.bytes = memcpy(MemoryContextAlloc(dict->context, len + 1), copy, len + 1);
		entry->number = dict->nforms++;
	}
	return entry->number;
}

/* a reading counts without its spaces: Guofan and Guo Fan are one given name */
static int
put_sound(MatchDict *dict, const char *key, int len)
{
	char	   *sound = palloc(len + 1);
	int			n = 0;

	for (int i = 0; i < len; i++)
	{
		if (key[i] != ' ')
			sound[n++] = key[i];
	}
	return put_form(dict, 'p', sound, n);
}

/*
 * What a Han name has beside its characters: its simplified form and all its
 * readings.  A name in Latin letters may have its surname in front or behind.
 */
static void
derive_han(MatchDict *dict, MatchValue *value)
{
	pg_wchar   *simplified = palloc((value->nchars + 1) * sizeof(pg_wchar));
	char	   *keys[CDP_PINYIN_KEYS];
	int			nkeys;
	bool		han = false;

	memcpy(simplified, value->chars, value->nchars * sizeof(pg_wchar));
	cdp_simplify_wchar(simplified, value->nchars);
	value->simplified = put_form(dict, 's', simplified, value->nchars * sizeof(pg_wchar));
	for (int i = 0; i < value->nchars; i++)
		han = han || cdp_is_han(value->chars[i]);

	nkeys = cdp_pinyin_keys_wchar(value->chars, value->nchars, keys);
	value->sounds = MemoryContextAlloc(dict->context, (nkeys + 1) * sizeof(int));
	for (int i = 0; i < nkeys; i++)
		value->sounds[value->nsounds++] = put_sound(dict, keys[i], strlen(keys[i]));
	if (!han && nkeys == 1)
	{
		char	   *last = strrchr(keys[0], ' ');

		if (last != NULL)
			value->sounds[value->nsounds++] =
				put_sound(dict, psprintf("%s%.*s", last, (int) (last - keys[0]), keys[0]), strlen(keys[0]));
	}
}

/* The number of a text under the kind of the dictionary; -1: blank, or not readable as this kind. */
int
match_put_text(MatchDict *dict, const char *in, int len)
{
	bool		is_new;
	int			result = -1;
	MemoryContext old;

	while (len > 0 && (in[len - 1] == ' ' || in[len - 1] == '\t' || in[len - 1] == '\r' || in[len - 1] == '\n'))
		len--;
	while (len > 0 && (in[0] == ' ' || in[0] == '\t' || in[0] == '\r' || in[0] == '\n'))
	{
		in++;
		len--;
	}
	/* nobody's name is longer, and comparing goes with the square */
	if (len == 0 || len > CDP_FOLD_MAX)
		return -1;

	old = MemoryContextSwitchTo(dict->scratch);
	switch (dict->kind)
	{
		case MATCH_EXACT:
			{
				int			n;
				pg_wchar   *w = cdp_decode(in, len, palloc((len + 1) * sizeof(pg_wchar)), len + 1, &n);

				result = put_chars(dict, w, n, &is_new);
				break;
			}
		case MATCH_TEXT:
			{
				int			n;
				pg_wchar   *w = GetDatabaseEncoding() == PG_UTF8 ? cdp_fold(in, len, &n) :
					cdp_decode(in, len, palloc((len + 1) * sizeof(pg_wchar)), len + 1, &n);

				n = squeeze(w, n);
				if (n > 0)
					result = put_chars(dict, w, n, &is_new);
				break;
			}
		case MATCH_NAME:
		case MATCH_HAN_NAME:
			{
				int			n;
				const char *why = NULL;
				pg_wchar   *w = cdp_name_normalize(in, len, &n, &why);

				if (w == NULL && GetDatabaseEncoding() != PG_UTF8)
					CDP_NAME_REFUSE(why);
				if (w == NULL || n == 0)
					break;
				result = put_chars(dict, w, n, &is_new);
				if (is_new && dict->kind == MATCH_HAN_NAME)
					derive_han(dict, &dict->values[result]);
				break;
			}
		case MATCH_DATE:
			result = put_date_text(dict, in, len);
			break;
		case MATCH_NUMBER:
			result = put_number_text(dict, in, len);
			break;
		case MATCH_PHONE:
			{
				char		phone[CDP_PHONE_DIGITS + 2];

				if (cdp_phone_normalize(in, len, "86", phone) == NULL)
					result = put_ascii(dict, phone, strlen(phone), &is_new);
				break;
			}
		case MATCH_EMAIL:
			{
				char		email[CDP_EMAIL_MAX];
				int			n;

				if (cdp_email_normalize(in, len, CDP_EMAIL_KEEP, email, &n) != NULL)
					break;
				result = put_ascii(dict, email, n, &is_new);
				if (is_new)
					dict->values[result].cut = (const char *) memchr(email, '@', n) - email;
				break;
			}
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(dict->scratch);
	return result;
}

/* --- how alike --- */

/* one insertion, deletion, replacement or swap of neighbours apart, or none */
static bool
one_edit(const pg_wchar *a, int na, const pg_wchar *b, int nb)
{
	if (na - nb > 1 || nb - na > 1)
		return false;
	while (na > 0 && nb > 0 && a[0] == b[0])
	{
		a++, b++;
		na--, nb--;
	}
	while (na > 0 && nb > 0 && a[na - 1] == b[nb - 1])
		na--, nb--;
	return (na <= 1 && nb <= 1) || (na == 2 && nb == 2 && a[0] == b[1] && a[1] == b[0]);
}

/*
 * An upper bound of jaro_winkler that costs two counts of bits, for the many
 * pairs that have little in common.  Each bit that only a has stands for an
 * occurrence of a character in a without one in b to match it.
 */
static bool
may_be_similar(const MatchValue *a, const MatchValue *b)
{
	int			na = a->nchars;
	int			nb = b->nchars;
	int			prefix = 0;
	int			matches;
	double		jaro;

	if (a->mask == 0 || b->mask == 0)
		return true;
	matches = Min(na - pg_popcount64(a->mask & ~b->mask), nb - pg_popcount64(b->mask & ~a->mask));
	jaro = ((double) matches / na + (double) matches / nb + 1) / 3;
	while (prefix < 4 && prefix < na && prefix < nb && a->chars[prefix] == b->chars[prefix])
		prefix++;
	return jaro + 0.1 * prefix * (1 - jaro) >= SIMILAR_FROM;
}

static int
text_level(const MatchValue *a, const MatchValue *b)
{
	double		alike;

	if (!may_be_similar(a, b))
		return 0;
	if (Min(a->nchars, b->nchars) >= EDIT_MIN_CHARS && one_edit(a->chars, a->nchars, b->chars, b->nchars))
		return 2;
	alike = cdp_jaro_winkler_wchar(a->chars, a->nchars, b->chars, b->nchars);
	return alike >= CLOSE_FROM ? 2 : alike >= SIMILAR_FROM ? 1 : 0;
}

static int
han_level(const MatchValue *a, const MatchValue *b)
{
	if (a->simplified == b->simplified)
		return 3;
	for (int i = 0; i < a->nsounds; i++)
	{
		for (int j = 0; j < b->nsounds; j++)
		{
			if (a->sounds[i] == b->sounds[j])
				return 2;
		}
	}
	/* a character of two is half of the name, of three a third; jaro_winkler weighs that */
	return may_be_similar(a, b) &&
		cdp_jaro_winkler_wchar(a->chars, a->nchars, b->chars, b->nchars) >= SIMILAR_FROM;
}

static int
date_level(const MatchValue *a, const MatchValue *b)
{
	bool		year = memcmp(a->chars, b->chars, 4 * sizeof(pg_wchar)) == 0;
	bool		month = memcmp(a->chars + 4, b->chars + 4, 2 * sizeof(pg_wchar)) == 0;
	bool		day = memcmp(a->chars + 6, b->chars + 6, 2 * sizeof(pg_wchar)) == 0;

	if (one_edit(a->chars, 8, b->chars, 8))
		return 2;
	/* day and month exchanged */
	if (year && memcmp(a->chars + 4, b->chars + 6, 2 * sizeof(pg_wchar)) == 0 &&
		memcmp(a->chars + 6, b->chars + 4, 2 * sizeof(pg_wchar)) == 0)
		return 2;
	return year + month + day == 2 ? 1 : 0;
}

static int
number_level(const MatchValue *a, const MatchValue *b)
{
	double		apart = fabs(a->number - b->number);
	double		size = Max(fabs(a->number), fabs(b->number));

	return apart <= 0.01 * size ? 2 : apart <= 0.1 * size ? 1 : 0;
}

static int
email_level(const MatchValue *a, const MatchValue *b)
{
	const pg_wchar *domain_a = a->chars + a->cut;
	const pg_wchar *domain_b = b->chars + b->cut;
	int			ndomain_a = a->nchars - a->cut;
	int			ndomain_b = b->nchars - b->cut;
	bool		same_name = a->cut == b->cut && memcmp(a->chars, b->chars, a->cut * sizeof(pg_wchar)) == 0;
	bool		same_domain = ndomain_a == ndomain_b && memcmp(domain_a, domain_b, ndomain_a * sizeof(pg_wchar)) == 0;

	if (same_name)
		return one_edit(domain_a, ndomain_a, domain_b, ndomain_b) ? 2 : 1;
	if (!same_domain)
		return 0;
	return one_edit(a->chars, a->cut, b->chars, b->cut) ||
		cdp_jaro_winkler_wchar(a->chars, a->cut, b->chars, b->cut) >= CLOSE_FROM ? 2 : 0;
}

/* level of two different values, without swapped */
static int
value_level(MatchKind kind, const MatchValue *a, const MatchValue *b)
{
	switch (kind)
	{
		case MATCH_EXACT:
			return 0;
		case MATCH_TEXT:
		case MATCH_NAME:
			return text_level(a, b);
		case MATCH_HAN_NAME:
			return han_level(a, b);
		case MATCH_DATE:
			return date_level(a, b);
		case MATCH_NUMBER:
			return number_level(a, b);
		case MATCH_PHONE:
			return one_edit(a->chars, a->nchars, b->chars, b->nchars) ? 1 : 0;
		case MATCH_EMAIL:
			return email_level(a, b);
	}
	return 0;
}

/* equal, or alike but for a typing error */
static bool
same_but_typo(const MatchDict *dict, int a, int b)
{
	return a == b || value_level(dict->kind, &dict->values[a], &dict->values[b]) >= 2;
}

/* the level of one column of two records, -1: null */
int
match_compare(const MatchRecords *records, const MatchModel *model, int column, int left, int right)
{
	const MatchColumn *c = &model->columns[column];
	const MatchDict *dict;
	int			a = records->values[column][left];
	int			b = records->values[column][right];

	if (a < 0 || b < 0)
		return -1;
	if (a == b)
		return c->nlevels - 1;
	dict = records->dicts[c->kind];
	if (c->swap != NULL)
	{
		int			swap_a = records->swaps[column][left];
		int			swap_b = records->swaps[column][right];

		/* both ways across, and one of them exactly */
		if (swap_a >= 0 && swap_b >= 0 && (a == swap_b || b == swap_a) &&
			same_but_typo(dict, a, swap_b) && same_but_typo(dict, b, swap_a))
			return c->nlevels - 2;
	}
	return value_level(c->kind, &dict->values[a], &dict->values[b]);
}
