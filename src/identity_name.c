/*
 * identity_name.c
 *	  Names: one form of each.
 *
 *		"張 三 先生"			-> 張三				the space and the title go
 *		"卡尔 • 马克思"		-> 卡尔·马克思		one kind of dot
 *		"ＬＩ　  Ｍｉｎｇ"		-> li ming			width, case, spaces
 *
 * The stages are: drop invisible characters, NFKC, lower case, dots and
 * spaces, titles.  Each stage leaves nothing for an earlier one to do, so a
 * normalised name normalises to itself.  Simplified and traditional forms
 * stay apart: the mapping is not one to one, so it is a level of comparison
 * and no rewriting.
 *
 * Where the surname ends is asked in identity_surname.c.
 *
 * SQL: sql/identity_normalize.sql.  Page: doc/identity_normalize.md.
 */
#include "identity_normalize.h"

#include "common/unicode_norm.h"

#define NEEDS_UTF8		"names are normalised in databases with encoding UTF8 only"

/*
 * Simple lower case of Latin, Greek and Cyrillic (Unicode 14): from first to
 * last in steps of step, add delta.  The server's own lower() follows a
 * locale, and an IMMUTABLE function must not.
 */
typedef struct CaseRange
{
	uint16		first;
	uint16		last;
	int16		step;
	int16		delta;
} CaseRange;

static const CaseRange case_ranges[] = {
	{0x00C0, 0x00D6, 1, 32}, {0x00D8, 0x00DE, 1, 32}, {0x0100, 0x012E, 2, 1},
	{0x0130, 0x0130, 1, -199}, {0x0134, 0x0136, 2, 1}, {0x0139, 0x013D, 2, 1},
	{0x0141, 0x0147, 2, 1}, {0x014A, 0x0176, 2, 1}, {0x0178, 0x0178, 1, -121},
	{0x0179, 0x017D, 2, 1}, {0x0181, 0x0181, 1, 210}, {0x0182, 0x0184, 2, 1},
	{0x0186, 0x0186, 1, 206}, {0x0187, 0x0187, 1, 1}, {0x0189, 0x018A, 1, 205},
	{0x018B, 0x018B, 1, 1}, {0x018E, 0x018E, 1, 79}, {0x018F, 0x018F, 1, 202},
	{0x0190, 0x0190, 1, 203}, {0x0191, 0x0191, 1, 1}, {0x0193, 0x0193, 1, 205},
	{0x0194, 0x0194, 1, 207}, {0x0196, 0x0196, 1, 211}, {0x0197, 0x0197, 1, 209},
	{0x0198, 0x0198, 1, 1}, {0x019C, 0x019C, 1, 211}, {0x019D, 0x019D, 1, 213},
	{0x019F, 0x019F, 1, 214}, {0x01A0, 0x01A4, 2, 1}, {0x01A6, 0x01A6, 1, 218},
	{0x01A7, 0x01A7, 1, 1}, {0x01A9, 0x01A9, 1, 218}, {0x01AC, 0x01AC, 1, 1},
	{0x01AE, 0x01AE, 1, 218}, {0x01AF, 0x01AF, 1, 1}, {0x01B1, 0x01B2, 1, 217},
	{0x01B3, 0x01B5, 2, 1}, {0x01B7, 0x01B7, 1, 219}, {0x01B8, 0x01B8, 1, 1},
	{0x01BC, 0x01BC, 1, 1}, {0x01CD, 0x01DB, 2, 1}, {0x01DE, 0x01EE, 2, 1},
	{0x01F4, 0x01F4, 1, 1}, {0x01F6, 0x01F6, 1, -97}, {0x01F7, 0x01F7, 1, -56},
	{0x01F8, 0x021E, 2, 1}, {0x0220, 0x0220, 1, -130}, {0x0222, 0x0232, 2, 1},
	{0x023B, 0x023B, 1, 1}, {0x023D, 0x023D, 1, -163}, {0x0241, 0x0241, 1, 1},
	{0x0243, 0x0243, 1, -195}, {0x0244, 0x0244, 1, 69}, {0x0245, 0x0245, 1, 71},
	{0x0246, 0x024E, 2, 1}, {0x0370, 0x0372, 2, 1}, {0x0376, 0x0376, 1, 1},
	{0x037F, 0x037F, 1, 116}, {0x0386, 0x0386, 1, 38}, {0x0388, 0x038A, 1, 37},
	{0x038C, 0x038C, 1, 64}, {0x038E, 0x038F, 1, 63}, {0x0391, 0x03A1, 1, 32},
	{0x03A3, 0x03AB, 1, 32}, {0x03CF, 0x03CF, 1, 8}, {0x03D8, 0x03EE, 2, 1},
	{0x03F7, 0x03F7, 1, 1}, {0x03FA, 0x03FA, 1, 1}, {0x03FD, 0x03FF, 1, -130},
	{0x0400, 0x040F, 1, 80}, {0x0410, 0x042F, 1, 32}, {0x0460, 0x0480, 2, 1},
	{0x048A, 0x04BE, 2, 1}, {0x04C0, 0x04C0, 1, 15}, {0x04C1, 0x04CD, 2, 1},
	{0x04D0, 0x052E, 2, 1}, {0x1E00, 0x1E94, 2, 1}, {0x1E9E, 0x1E9E, 1, -7615},
	{0x1EA0, 0x1EFE, 2, 1},
};

/* behind a name: Mr, Ms, Miss, Mrs, teacher */
static const pg_wchar titles[][2] = {
	{0x5148, 0x751F},			/* 先生 */
	{0x5973, 0x58EB},			/* 女士 */
	{0x5C0F, 0x59D0},			/* 小姐 */
	{0x592A, 0x592A},			/* 太太 */
	{0x8001, 0x5E08},			/* 老师 */
};

bool
cdp_is_han(pg_wchar c)
{
	return (c >= 0x4E00 && c <= 0x9FFF) ||
		(c >= 0x3400 && c <= 0x4DBF) ||
		(c >= 0x20000 && c <= 0x323AF) ||
		(c >= 0xF900 && c <= 0xFAFF) ||
		c == 0x3007 ||			/* 〇 */
		c == 0x3005;			/* 々 */
}

/* white space and controls */
bool
cdp_is_blank(pg_wchar c)
{
	return c <= 0x20 || (c >= 0x7F && c <= 0xA0) || c == 0x1680 ||
		(c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
		c == 0x202F || c == 0x205F || c == 0x3000;
}

/* soft hyphens, joiners, direction marks and variation selectors: nobody sees them */
bool
cdp_is_invisible(pg_wchar c)
{
	return c == 0xAD || c == 0x034F || c == 0x061C || c == 0x180E ||
		(c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) ||
		(c >= 0x2060 && c <= 0x206F) || (c >= 0xFE00 && c <= 0xFE0F) ||
		c == 0xFEFF || (c >= 0xE0000 && c <= 0xE0FFF);
}

static bool
is_dot(pg_wchar c)
{
	return c == CDP_MIDDLE_DOT ||
		c == 0x2022 ||			/* bullet */
		c == 0x2027 ||			/* hyphenation point */
		c == 0x2219 ||			/* bullet operator */
		c == 0x22C5 ||			/* dot operator */
		c == 0x30FB;			/* katakana middle dot, the half-width one by NFKC */
}

static pg_wchar
to_lower(pg_wchar c)
{
	int			lo = 0;
	int			hi = lengthof(case_ranges) - 1;

	if (c < 0x80)
		return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
	while (lo <= hi)
	{
		int			mid = (lo + hi) / 2;
		const CaseRange *r = &case_ranges[mid];

		if (c < r->first)
			hi = mid - 1;
		else if (c > r->last)
			lo = mid + 1;
		else
			return (c - r->first) % r->step == 0 ? c + r->delta : c;
	}
	return c;
}

/* w in NFKC; w itself when it is already, otherwise w is freed */
static pg_wchar *
compose(pg_wchar *w, int *n)
{
	pg_wchar   *done;

	if (unicode_is_normalized_quickcheck(UNICODE_NFKC, w) == UNICODE_NORM_QC_YES)
		return w;
	done = unicode_normalize(UNICODE_NFKC, w);
	pfree(w);
	for (*n = 0; done[*n] != 0; (*n)++)
		;
	return done;
}

pg_wchar *
cdp_fold(const char *in, int len, int *n)
{
	const unsigned char *p = (const unsigned char *) in;
	const unsigned char *end = p + len;
	pg_wchar   *w = palloc((len + 1) * sizeof(pg_wchar));
	bool		ascii = true;
	bool		lowered = false;
	int			k = 0;

	Assert(len <= CDP_FOLD_MAX);
	while (p < end)
	{
		pg_wchar	c = *p;
		int			width = 1;

		if (IS_HIGHBIT_SET(c))
		{
			ascii = false;
			width = pg_utf_mblen(p);
			if (width > end - p)
				break;
			c = utf8_to_unicode(p);
		}
		p += width;
		if (!cdp_is_invisible(c))
			w[k++] = c;
	}
	w[k] = 0;
	if (!ascii)
		w = compose(w, &k);
	for (int i = 0; i < k; i++)
	{
		pg_wchar	c = to_lower(w[i]);

		lowered |= c != w[i];
		w[i] = c;
	}

	/* a small letter may combine with an accent for which the capital has no form: H + macron below */
	if (!ascii && lowered)
		w = compose(w, &k);
	*n = k;
	return w;
}

/* dots, spaces and titles of a folded name, in place; answers the new length */
static int
tidy(pg_wchar *w, int n)
{
	bool		blank = false;
	bool		again = true;
	int			k = 0;

	for (int i = 0; i < n; i++)
	{
		pg_wchar	c = w[i];

		if (cdp_is_blank(c) || cdp_is_invisible(c))
		{
			blank |= k > 0 && !cdp_is_invisible(c);
			continue;
		}
		if (is_dot(c))
			c = CDP_MIDDLE_DOT;
		if (k > 0 && c == CDP_MIDDLE_DOT && w[k - 1] == CDP_MIDDLE_DOT)
		{
			blank = false;
			continue;
		}

		/* Chinese is written without spaces, and a dot separates by itself */
		if (blank && c != CDP_MIDDLE_DOT && w[k - 1] != CDP_MIDDLE_DOT &&
			!(cdp_is_han(c) && cdp_is_han(w[k - 1])))
			w[k++] = ' ';
		blank = false;
		w[k++] = c;
	}

	while (again)
	{
		again = false;
		for (int t = 0; t < lengthof(titles) && k > 2; t++)
		{
			if (w[k - 2] == titles[t][0] && w[k - 1] == titles[t][1])
			{
				k -= 2;
				if (w[k - 1] == ' ')
					k--;
				again = true;
			}
		}
	}
	return k;
}

/* the UTF-8 of w[0..n), palloc'd */
char *
cdp_encode(const pg_wchar *w, int n, int *len)
{
	char	   *out = palloc(n * MAX_MULTIBYTE_CHAR_LEN + 1);
	unsigned char *o = (unsigned char *) out;

	for (int i = 0; i < n; i++)
	{
		unicode_to_utf8(w[i], o);
		o += pg_utf_mblen(o);
	}
	*len = (char *) o - out;
	return out;
}

/* in[0..len) -> palloc'd characters, *n of them; NULL with *why */
pg_wchar *
cdp_name_normalize(const char *in, int len, int *n, const char **why)
{
	pg_wchar   *w;

	*why = NULL;
	if (GetDatabaseEncoding() != PG_UTF8)
		*why = NEEDS_UTF8;
	else if (len > CDP_FOLD_MAX)
		*why = "name is longer than 10000 bytes";
	if (*why != NULL)
		return NULL;
	w = cdp_fold(in, len, n);
	*n = tidy(w, *n);
	return w;
}

bool
cdp_normalize_name_cstr(const char *in, int len, const char *unused,
						StringInfo out, const char **why)
{
	pg_wchar   *w;
	char	   *s;
	int			n;
	int			bytes;

	if ((w = cdp_name_normalize(in, len, &n, why)) == NULL)
		return false;
	s = cdp_encode(w, n, &bytes);
	appendBinaryStringInfo(out, s, bytes);
	pfree(s);
	pfree(w);
	return true;
}
