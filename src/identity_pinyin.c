/*
 * identity_pinyin.c
 *	  How a Chinese name sounds, and its simplified form.
 *
 *		歐陽修		simplify_han	欧阳修		pinyin_key		ou yang xiu
 *		曾国藩		zeng guo fan: as a surname 曾 is zeng, elsewhere ceng
 *		李曾		li ceng; pinyin_keys gives li zeng as well
 *
 * A name is simplified first and then read, so that both forms have one key.
 * The stages of a key are
 *
 *		normalise		cdp_name_normalize(): width, case, dots, titles
 *		simplify		one character for one
 *		split			each Han character is a syllable, each run of other
 *						letters a word; signs, dots and blanks only separate
 *		read			the surname by its table, the rest by the commonest reading
 *
 * The readings and forms come from the Unihan database (identity_unihan.h);
 * what Unihan does not know, which reading is the surname's, stands here.
 *
 * SQL: sql/identity_compare.sql.  Page: doc/identity_compare.md.
 * Tests: test/sql/identity_compare_pinyin.sql, test/pgtap/identity_compare.sql,
 * test/t/020_identity_compare_unihan.pl.
 */
#include "identity_compare.h"
#include "identity_normalize.h"
#include "identity_unihan.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_simplify_han);
PG_FUNCTION_INFO_V1(cdp_pinyin_key);
PG_FUNCTION_INFO_V1(cdp_pinyin_keys);

/*
 * Surnames that are read otherwise than the same characters elsewhere,
 * simplified.  Where families differ (覃 qin and tan, 隗 wei and kui, 郇 xun
 * and huan) the reading of the greater number.
 */
typedef struct SurnameReading
{
	const char *surname;
	const char *syllables;
} SurnameReading;

static const SurnameReading surname_readings[] = {
	{"万俟", "mo qi"}, {"乐正", "yue zheng"}, {"信都", "xin du"}, {"单于", "chan yu"}, {"吐谷浑", "tu yu hun"},
	{"子车", "zi ju"}, {"库狄", "she di"}, {"尉迟", "yu chi"}, {"拓拔", "tuo ba"}, {"拓跋", "tuo ba"},
	{"澹台", "tan tai"}, {"纥奚", "he xi"}, {"纥干", "he gan"},
	{"乐", "yue"}, {"么", "yao"}, {"乜", "nie"}, {"仇", "qiu"}, {"佴", "nai"}, {"区", "ou"}, {"单", "shan"},
	{"句", "gou"}, {"召", "shao"}, {"员", "yun"}, {"折", "she"}, {"曾", "zeng"},
	{"朴", "piao"}, {"查", "zha"}, {"洗", "xian"}, {"盖", "ge"}, {"种", "chong"}, {"秘", "bi"}, {"祭", "zhai"},
	{"粘", "nian"}, {"繁", "po"}, {"缪", "miao"}, {"翟", "zhai"}, {"能", "nai"}, {"薄", "bo"}, {"覃", "qin"},
	{"解", "xie"}, {"都", "du"}, {"郇", "xun"}, {"长", "chang"}, {"阚", "kan"}, {"隗", "wei"},
};

/* one syllable or word of a key */
typedef struct Part
{
	const char *readings;		/* the set of a Han character; NULL for a word */
	const char *first;			/* the reading that comes before those, or NULL */
	int			first_len;
	int			from;			/* of a word: where it stands in the name */
	int			to;
} Part;

/* c as four bytes: UTF-8, a space behind it when that has three; in byte order as numbers */
static uint32
four_bytes(pg_wchar c)
{
	unsigned char b[MAX_MULTIBYTE_CHAR_LEN] = {' ', ' ', ' ', ' '};

	unicode_to_utf8(c, b);
	return (uint32) b[0] << 24 | (uint32) b[1] << 16 | (uint32) b[2] << 8 | b[3];
}

/* the record of c in a sorted table whose records begin with four bytes, or NULL */
static const char *
find_record(const char *table, int n, int size, pg_wchar c)
{
	uint32		key = four_bytes(c);
	int			lo = 0;
	int			hi = n - 1;

	while (lo <= hi)
	{
		int			mid = (lo + hi) / 2;
		const unsigned char *r = (const unsigned char *) table + (Size) mid * size;
		uint32		at = (uint32) r[0] << 24 | (uint32) r[1] << 16 | (uint32) r[2] << 8 | r[3];

		if (at == key)
			return (const char *) r;
		if (at < key)
			lo = mid + 1;
		else
			hi = mid - 1;
	}
	return NULL;
}

static pg_wchar
simplified(pg_wchar c)
{
	const char *pair;

	if (c < CDP_UNIHAN_FIRST || (c > CDP_UNIHAN_LAST && c <= 0xFFFF))
		return c;
	pair = find_record(cdp_unihan_simplified, cdp_unihan_nsimplified, CDP_UNIHAN_PAIR, c);
	return pair == NULL ? c : utf8_to_unicode((const unsigned char *) pair + 4);
}

/* the set of readings, "" when there is none */
static const char *
readings_of(pg_wchar c)
{
	const char *digits = NULL;

	if (c >= CDP_UNIHAN_FIRST && c <= CDP_UNIHAN_LAST)
		digits = cdp_unihan_bmp[(c - CDP_UNIHAN_FIRST) / CDP_UNIHAN_ROW] + (c % CDP_UNIHAN_ROW) * 2;
	else if (c == 0x3007)
		return "ling";
	else if (c > 0xFFFF)
	{
		digits = find_record(cdp_unihan_rare, cdp_unihan_nrare, CDP_UNIHAN_RARE, c);
		if (digits != NULL)
			digits += 4;
	}
	return digits == NULL ? "" : cdp_unihan_lists[CDP_UNIHAN_DIGITS(digits)];
}

void
cdp_simplify_wchar(pg_wchar *w, int n)
{
	for (int i = 0; i < n; i++)
		w[i] = simplified(w[i]);
}

/*
 * How many characters of a simplified name are a surname that the table
 * reads, 0 for none.  A whole name of several characters that is in the table
 * (尉迟 in a column of surnames) is the surname and nothing else.  A name
 * with a dot is a foreign one (查尔斯·狄更斯 begins with cha), unless a
 * compound surname stands before the dot.
 */
static int
surname_in_table(const pg_wchar *w, int n, const char **syllables)
{
	int			chars = cdp_surname_chars(w, n);

	for (int i = 0; i < n; i++)
	{
		if (w[i] == CDP_MIDDLE_DOT)
		{
			chars = cdp_surname_chars(w, i + 1);
			if (chars != i)
				return 0;
			break;
		}
	}
	for (int i = 0; i < lengthof(surname_readings); i++)
	{
		const unsigned char *s = (const unsigned char *) surname_readings[i].surname;
		int			k = 0;

		while (k < n && *s != '\0' && utf8_to_unicode(s) == w[k])
		{
			s += pg_utf_mblen(s);
			k++;
		}
		if (*s == '\0' && (k == chars || (k == n && k > 1)))
		{
			*syllables = surname_readings[i].syllables;
			return k;
		}
	}
	return 0;
}

/* does c only stand between the words of a name? */
static bool
separates(pg_wchar c)
{
	return cdp_is_blank(c) || c == CDP_MIDDLE_DOT ||
		(c < 0x80 && !(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z'));
}

/* Xi'an, D'Arcy: no part of the sound */
static bool
is_apostrophe(pg_wchar c)
{
	return c == '\'' || c == 0x2019;
}

/* the parts of a name, palloc'd; w gets its simplified characters */
static Part *
split(const pg_wchar *name, int n, pg_wchar **w, int *nparts)
{
	Part	   *parts = palloc0((n + 1) * sizeof(Part));
	const char *surname = NULL;
	int			nsurname;
	int			k = 0;
	bool		in_word = false;

	*w = palloc((n + 1) * sizeof(pg_wchar));
	memcpy(*w, name, n * sizeof(pg_wchar));
	cdp_simplify_wchar(*w, n);
	nsurname = surname_in_table(*w, n, &surname);

	for (int i = 0; i < n; i++)
	{
		pg_wchar	c = (*w)[i];

		if (is_apostrophe(c))
			continue;
		if (separates(c))
		{
			in_word = false;
			continue;
		}
		if (cdp_is_han(c))
		{
			const char *readings = readings_of(c);

			in_word = false;
			if (readings[0] != '\0' || i < nsurname)
			{
				parts[k].readings = readings;
				if (i < nsurname)
				{
					parts[k].first = surname;
					parts[k].first_len = strcspn(surname, " ");
					surname += parts[k].first_len;
					surname += *surname == ' ';
				}
				k++;
				continue;
			}
			/* nobody knows how it is read: it stands for itself */
			parts[k].from = i;
			parts[k++].to = i + 1;
			continue;
		}
		if (!in_word)
			parts[k++].from = i;
		parts[k - 1].to = i + 1;
		in_word = true;
	}
	*nparts = k;
	return parts;
}

/* reading number rank of a part, its length in *len; NULL when there are not so many */
static const char *
reading(const Part *part, int rank, int *len)
{
	const char *s = part->readings;

	if (part->first != NULL && rank-- == 0)
	{
		*len = part->first_len;
		return part->first;
	}
	while (*s != '\0')
	{
		*len = strcspn(s, " ");
		if (!(part->first != NULL && *len == part->first_len && strncmp(s, part->first, *len) == 0) && rank-- == 0)
			return s;
		s += *len;
		s += *s == ' ';
	}
	return NULL;
}

static void
append_part(StringInfo out, const Part *part, int rank, const pg_wchar *w)
{
	const char *s;
	int			len = 0;

	if (out->len > 0)
		appendStringInfoChar(out, ' ');
	if (part->readings != NULL)
	{
		s = reading(part, rank, &len);
		appendBinaryStringInfo(out, s, len);
		return;
	}
	for (int i = part->from; i < part->to; i++)
	{
		unsigned char b[MAX_MULTIBYTE_CHAR_LEN];

		if (is_apostrophe(w[i]))
			continue;
		unicode_to_utf8(w[i], b);
		appendBinaryStringInfo(out, (char *) b, pg_utf_mblen(b));
	}
}

void
cdp_pinyin_key_wchar(const pg_wchar *name, int n, StringInfo out)
{
	StringInfoData key;
	pg_wchar   *w;
	int			nparts;
	Part	   *parts = split(name, n, &w, &nparts);

	initStringInfo(&key);
	for (int i = 0; i < nparts; i++)
		append_part(&key, &parts[i], 0, w);
	appendBinaryStringInfo(out, key.data, key.len);
	pfree(key.data);
	pfree(parts);
	pfree(w);
}

static int
string_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* one of the likeliest ways to read the parts so far */
typedef struct Way
{
	int			rank;			/* of the reading of the last part */
	int			total;			/* the ranks of all parts: how unlikely it is */
	int			from;			/* which way of the parts before it continues */
} Way;

/*
 * The likeliest ways first: fewest steps away from the commonest readings,
 * and of equals those that step later.  Part after part the 16 best of what
 * is left are continued with every reading; what was not among them could
 * not become one of the 16 best later.
 */
int
cdp_pinyin_keys_wchar(const pg_wchar *name, int n, char *keys[CDP_PINYIN_KEYS])
{
	pg_wchar   *w;
	int			nparts;
	Part	   *parts = split(name, n, &w, &nparts);
	Way			(*ways)[CDP_PINYIN_KEYS] = palloc((nparts + 1) * sizeof(*ways));
	int		   *ranks = palloc((nparts + 1) * sizeof(int));
	int			nways = 1;

	ways[0][0] = (Way) {0, 0, 0};
	for (int i = 0; i < nparts; i++)
	{
		Way		   *next = ways[i + 1];
		int			nnext = 0;
		int			len;

		for (int j = 0; j < nways; j++)
		{
			for (int rank = 0; rank == 0 || (parts[i].readings != NULL && reading(&parts[i], rank, &len) != NULL); rank++)
			{
				int			total = ways[i][j].total + rank;
				int			at = nnext;

				/* insert behind what is as likely */
				while (at > 0 && next[at - 1].total > total)
					at--;
				if (at == CDP_PINYIN_KEYS)
					break;
				if (nnext < CDP_PINYIN_KEYS)
					nnext++;
				memmove(&next[at + 1], &next[at], (nnext - at - 1) * sizeof(Way));
				next[at] = (Way) {rank, total, j};
			}
		}
		nways = nnext;
	}
	if (nparts == 0)
		nways = 0;
	for (int j = 0; j < nways; j++)
	{
		StringInfoData key;
		int			at = j;

		for (int i = nparts; i > 0; i--)
		{
			ranks[i - 1] = ways[i][at].rank;
			at = ways[i][at].from;
		}
		initStringInfo(&key);
		for (int i = 0; i < nparts; i++)
			append_part(&key, &parts[i], ranks[i], w);
		keys[j] = key.data;
	}
	qsort(keys, nways, sizeof(char *), string_cmp);
	pfree(ways);
	pfree(ranks);
	pfree(parts);
	pfree(w);
	return nways;
}

/* cdp.simplify_han(name text) -> text */
Datum
cdp_simplify_han(PG_FUNCTION_ARGS)
{
	text	   *in = PG_GETARG_TEXT_PP(0);
	const unsigned char *p = (const unsigned char *) VARDATA_ANY(in);
	const unsigned char *end = p + VARSIZE_ANY_EXHDR(in);
	const unsigned char *copied = p;
	StringInfoData out;

	if (GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("Han characters are simplified in databases with encoding UTF8 only"),
				 errhint("Create the database with ENCODING 'UTF8'.")));
	out.data = NULL;
	while (p < end)
	{
		int			width = pg_utf_mblen(p);
		unsigned char b[MAX_MULTIBYTE_CHAR_LEN];
		pg_wchar	c,
					s;

		if (width < 3 || width > end - p)
		{
			p += Min(width, end - p);
			continue;
		}
		c = utf8_to_unicode(p);
		s = simplified(c);
		if (s != c)
		{
			if (out.data == NULL)
				initStringInfo(&out);
			appendBinaryStringInfo(&out, (const char *) copied, p - copied);
			unicode_to_utf8(s, b);
			appendBinaryStringInfo(&out, (const char *) b, pg_utf_mblen(b));
			copied = p + width;
		}
		p += width;
	}
	if (out.data == NULL)
		PG_RETURN_TEXT_P(in);
	appendBinaryStringInfo(&out, (const char *) copied, end - copied);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

/* the argument as characters */
static pg_wchar *
normalized(text *in, int *n)
{
	const char *why;
	pg_wchar   *w = cdp_name_normalize(VARDATA_ANY(in), VARSIZE_ANY_EXHDR(in), n, &why);

	if (w == NULL)
		CDP_NAME_REFUSE(why);
	return w;
}

/* cdp.pinyin_key(name text) -> text */
Datum
cdp_pinyin_key(PG_FUNCTION_ARGS)
{
	StringInfoData out;
	int			n;
	pg_wchar   *w = normalized(PG_GETARG_TEXT_PP(0), &n);

	initStringInfo(&out);
	cdp_pinyin_key_wchar(w, n, &out);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

/* cdp.pinyin_keys(name text) -> text[] */
Datum
cdp_pinyin_keys(PG_FUNCTION_ARGS)
{
	char	   *keys[CDP_PINYIN_KEYS];
	Datum		values[CDP_PINYIN_KEYS];
	int			n;
	pg_wchar   *w = normalized(PG_GETARG_TEXT_PP(0), &n);
	int			nkeys = cdp_pinyin_keys_wchar(w, n, keys);

	for (int i = 0; i < nkeys; i++)
		values[i] = CStringGetTextDatum(keys[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(values, nkeys, TEXTOID, -1, false, TYPALIGN_INT));
}
