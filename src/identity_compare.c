/*
 * identity_compare.c
 *	  How alike two strings are: Jaro-Winkler and Damerau-Levenshtein.
 *
 * Both count characters, never bytes: 欧阳修 and 欧阳俢 differ in one of three.
 *
 * Jaro-Winkler is made for names.  Characters match when they are equal and
 * stand not further apart than half of the longer string; matches in another
 * order count half; a common beginning (4 characters at most) is believed
 * more than a common end:
 *
 *		MARTHA / MARHTA		m = 6, t = 1	jaro 0.9444		0.9611
 *		DIXON / DICKSONX	m = 4, t = 0	jaro 0.7667		0.8133
 *
 * Damerau-Levenshtein is the least number of insertions, deletions,
 * replacements and swaps of neighbours.  It is the true distance, in which a
 * swapped pair may have been torn apart (ca -> ac -> abc is 2), so that the
 * triangle inequality holds; what is often sold under the name, "optimal
 * string alignment", says 3 there and is no metric.
 *
 * Sources: Winkler, "String Comparator Metrics and Enhanced Decision Rules in
 * the Fellegi-Sunter Model of Record Linkage" (1990); Lowrance and Wagner,
 * "An Extension of the String-to-String Correction Problem" (1975); Zhao and
 * Sahni, "String correction using the Damerau-Levenshtein distance" (2019),
 * for doing it with a few rows instead of a matrix.
 *
 * SQL: sql/identity_compare.sql.  Page: doc/identity_compare.md.
 * Tests: test/sql/identity_compare.sql, test/pgtap/identity_compare.sql.
 */
#include "identity_compare.h"

#include "miscadmin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_jaro_winkler);
PG_FUNCTION_INFO_V1(cdp_damerau_levenshtein);

#define PREFIX_LENGTH	4
#define PREFIX_SCALE	0.1
#define BOOST_ABOVE		0.7

pg_wchar *
cdp_decode(const char *in, int len, pg_wchar *buf, int room, int *n)
{
	unsigned char any = 0;

	if (len > CDP_COMPARE_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("value to compare is longer than %d bytes", CDP_COMPARE_MAX),
				 errhint("Compare names, addresses and other short values, or left(value, 1000).")));
	/* the server's conversion ends with a zero */
	if (len >= room)
		buf = palloc((len + 1) * sizeof(pg_wchar));

	/* in every encoding of a server a byte below 0x80 is an ASCII character */
	for (int i = 0; i < len; i++)
	{
		any |= (unsigned char) in[i];
		buf[i] = (unsigned char) in[i];
	}
	*n = IS_HIGHBIT_SET(any) ? pg_mb2wchar_with_len(in, buf, len) : len;
	return buf;
}

/*
 * Jaro's matching.  A character of a takes the first equal one of b in its
 * window that nobody has taken.  Answers how many found each other; in order
 * of b, *moved of them are not what stands there in order of a, which matched
 * has room for.
 */
static int
match_short(const pg_wchar *a, int na, const pg_wchar *b, int nb, int window,
			pg_wchar *matched, int *moved)
{
	uint64		taken = 0;
	int			m = 0;
	int			k = 0;

	Assert(nb <= 64);
	for (int i = 0; i < na; i++)
	{
		int			to = Min(nb - 1, i + window);

		for (int j = Max(0, i - window); j <= to; j++)
		{
			if (b[j] == a[i] && (taken & (UINT64CONST(1) << j)) == 0)
			{
				taken |= UINT64CONST(1) << j;
				matched[m++] = a[i];
				break;
			}
		}
	}
	*moved = 0;
	for (int j = 0; k < m; j++)
	{
		if (taken & (UINT64CONST(1) << j))
			*moved += matched[k++] != b[j];
	}
	return m;
}

typedef struct Place
{
	pg_wchar	c;
	int			at;				/* in b */
	int			next;			/* first of this character's places that is left; in its first place only */
} Place;

static int
place_cmp(const void *x, const void *y)
{
	const Place *p = x;
	const Place *q = y;

	if (p->c != q->c)
		return p->c < q->c ? -1 : 1;
	return p->at < q->at ? -1 : 1;
}

/*
 * The same for long strings.  The window only moves forward, so of the places
 * where a character stands in b those before the one taken last never count
 * again: one step per place instead of one per pair.
 */
static int
match_long(const pg_wchar *a, int na, const pg_wchar *b, int nb, int window,
		   pg_wchar *matched, int *moved)
{
	Place	   *places = palloc(nb * sizeof(Place));
	bool	   *taken = palloc0(nb);
	int			m = 0;
	int			k = 0;

	for (int j = 0; j < nb; j++)
	{
		places[j].c = b[j];
		places[j].at = j;
	}
	qsort(places, nb, sizeof(Place), place_cmp);
	for (int j = 0; j < nb; j++)
		places[j].next = j;

	for (int i = 0; i < na; i++)
	{
		int			lo = 0;
		int			hi = nb;
		int			p;

		while (lo < hi)
		{
			int			mid = lo + (hi - lo) / 2;

			if (places[mid].c < a[i])
				lo = mid + 1;
			else
				hi = mid;
		}
		if (lo == nb)
			continue;
		p = places[lo].next;
		while (p < nb && places[p].c == a[i] && places[p].at < i - window)
			p++;
		if (p < nb && places[p].c == a[i] && places[p].at <= i + window)
		{
			taken[places[p].at] = true;
			matched[m++] = a[i];
			p++;
		}
		if (places[lo].c == a[i])
			places[lo].next = p;
	}
	*moved = 0;
	for (int j = 0; k < m; j++)
	{
		if (taken[j])
			*moved += matched[k++] != b[j];
	}
	pfree(places);
	pfree(taken);
	return m;
}

double
cdp_jaro_winkler_wchar(const pg_wchar *a, int na, const pg_wchar *b, int nb)
{
	pg_wchar	room[64];
	int			window = Max(Max(na, nb) / 2 - 1, 0);
	int			prefix = 0;
	int			moved;
	int			m;
	double		jaro;

	if (na == nb && memcmp(a, b, na * sizeof(pg_wchar)) == 0)
		return 1;
	if (na == 0 || nb == 0)
		return 0;

	if (na <= lengthof(room) && nb <= lengthof(room))
		m = match_short(a, na, b, nb, window, room, &moved);
	else
	{
		pg_wchar   *matched = palloc(Min(na, nb) * sizeof(pg_wchar));

		m = match_long(a, na, b, nb, window, matched, &moved);
		pfree(matched);
	}
	if (m == 0)
		return 0;

	/* two characters out of place are one transposition, an odd one is none */
	moved /= 2;
	jaro = ((double) m / na + (double) m / nb + (double) (m - moved) / m) / 3;
	if (jaro <= BOOST_ABOVE)
		return jaro;
	while (prefix < PREFIX_LENGTH && prefix < na && prefix < nb && a[prefix] == b[prefix])
		prefix++;
	return jaro + prefix * PREFIX_SCALE * (1 - jaro);
}

/* cdp.jaro_winkler(a text, b text) -> float8 */
Datum
cdp_jaro_winkler(PG_FUNCTION_ARGS)
{
	text	   *a = PG_GETARG_TEXT_PP(0);
	text	   *b = PG_GETARG_TEXT_PP(1);
	pg_wchar	room_a[CDP_DECODE_ROOM];
	pg_wchar	room_b[CDP_DECODE_ROOM];
	int			na,
				nb;
	pg_wchar   *wa = cdp_decode(VARDATA_ANY(a), VARSIZE_ANY_EXHDR(a), room_a, CDP_DECODE_ROOM, &na);
	pg_wchar   *wb = cdp_decode(VARDATA_ANY(b), VARSIZE_ANY_EXHDR(b), room_b, CDP_DECODE_ROOM, &nb);
	double		result = cdp_jaro_winkler_wchar(wa, na, wb, nb);

	if (wa != room_a)
		pfree(wa);
	if (wb != room_b)
		pfree(wb);
	PG_RETURN_FLOAT8(result);
}

/*
 * H(i, j), the distance of the first i characters of a and the first j of b,
 * is the least of
 *
 *		H(i-1, j-1) + (a[i] differs from b[j])		replace
 *		H(i, j-1) + 1, H(i-1, j) + 1				insert, delete
 *		H(k-1, l-1) + (i-k-1) + 1 + (j-l-1)			swap: k the last row before i with
 *													a[k] = b[j], l the last column before
 *													j with b[l] = a[i]
 *
 * A swap that pays has k = i-1 or l = j-1: with something between on both
 * sides it costs no less than replacing.  So it starts two rows up, or two
 * columns to the left, and instead of a matrix four rows are kept:
 *
 *		now[j]		H(i-2, j) until H(i, j) takes its place
 *		before[j]	H(i-1, j)
 *		met[j]		k, the last row whose character is b[j]
 *		start[j]	H(k-1, j-2)
 *
 * With a limit only cells that are not further than it from the diagonal can
 * be part of an answer; beside them stands a number above any limit.  No path
 * gets below the least value of a row it crosses, so the first row above the
 * limit ends it.
 *
 * room holds 4 * (nb + 3) numbers; limit is at most the longer length.
 */
static int
distance(const pg_wchar *a, int na, const pg_wchar *b, int nb, int limit, int *room)
{
	int			far = na + nb + 1;
	int		   *now = room + 1; /* from -1, left of the matrix, to nb + 1 */
	int		   *before = now + nb + 3;
	int		   *met = before + nb + 3;
	int		   *start = met + nb + 3;

	for (int j = -1; j <= nb + 1; j++)
	{
		now[j] = far;
		before[j] = j < 0 ? far : j;
		met[j] = -far;
		start[j] = far;
	}
	for (int i = 1; i <= na; i++)
	{
		pg_wchar	ai = a[i - 1];
		int			from = Max(1, i - limit);
		int			to = Min(nb, i + limit);
		int			l = -far;
		int			swap = far; /* H(i-2, l-1) */
		int			above = now[from - 1];	/* H(i-2, j-1) */
		int			left = from == 1 ? i : far; /* H(i, j-1) */
		int			least = left;
		int		   *rows;

		CHECK_FOR_INTERRUPTS();
		now[from - 1] = left;
		if (from > 1)
			now[from - 2] = far;
		for (int j = from; j <= to; j++)
		{
			int			value = before[j - 1];

			if (ai == b[j - 1])
			{
				l = j;
				swap = above;
				met[j] = i;
				start[j] = before[j - 2];
			}
			else
			{
				value = Min(value, Min(left, before[j])) + 1;
				if (l == j - 1)
					value = Min(value, start[j] + (i - met[j]));
				else if (met[j] == i - 1)
					value = Min(value, swap + (j - l));
			}
			above = now[j];
			now[j] = left = value;
			least = Min(least, value);
		}
		if (least > limit)
			return limit + 1;
		now[to + 1] = far;
		rows = now;
		now = before;
		before = rows;
	}
	return Min(before[nb], limit + 1);
}

int
cdp_damerau_levenshtein_wchar(const pg_wchar *a, int na, const pg_wchar *b, int nb, int max_distance)
{
	int			stack[4 * (CDP_DECODE_ROOM + 3)];
	int		   *room = stack;
	int			limit;
	int			result;

	/* equal ends are kept in some shortest way */
	while (na > 0 && nb > 0 && a[0] == b[0])
		a++, b++, na--, nb--;
	while (na > 0 && nb > 0 && a[na - 1] == b[nb - 1])
		na--, nb--;

	/* rows along the shorter one */
	if (na < nb)
	{
		const pg_wchar *w = a;
		int			n = na;

		a = b, na = nb;
		b = w, nb = n;
	}
	limit = max_distance < 0 ? na : Min(max_distance, na);
	if (na - nb > limit)
		return limit + 1;
	if (nb == 0)
		return na;
	if (nb > CDP_DECODE_ROOM)
		room = palloc(4 * (nb + 3) * sizeof(int));
	result = distance(a, na, b, nb, limit, room);
	if (room != stack)
		pfree(room);
	return result;
}

/* cdp.damerau_levenshtein(a text, b text, max_distance int) -> int */
Datum
cdp_damerau_levenshtein(PG_FUNCTION_ARGS)
{
	pg_wchar	room_a[CDP_DECODE_ROOM];
	pg_wchar	room_b[CDP_DECODE_ROOM];
	pg_wchar   *wa,
			   *wb;
	text	   *a,
			   *b;
	int			na,
				nb;
	int			limit = -1;
	int			result;

	/* not strict: no limit is a NULL */
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	if (!PG_ARGISNULL(2))
	{
		limit = PG_GETARG_INT32(2);
		if (limit < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("max_distance must not be negative"),
					 errhint("Give 0 or more; NULL, the default, is no limit.")));
	}
	a = PG_GETARG_TEXT_PP(0);
	b = PG_GETARG_TEXT_PP(1);
	wa = cdp_decode(VARDATA_ANY(a), VARSIZE_ANY_EXHDR(a), room_a, CDP_DECODE_ROOM, &na);
	wb = cdp_decode(VARDATA_ANY(b), VARSIZE_ANY_EXHDR(b), room_b, CDP_DECODE_ROOM, &nb);
	result = cdp_damerau_levenshtein_wchar(wa, na, wb, nb, limit);
	if (wa != room_a)
		pfree(wa);
	if (wb != room_b)
		pfree(wb);
	PG_RETURN_INT32(result);
}
