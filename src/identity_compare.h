/*
 * identity_compare.h
 *	  How alike two values are, character by character.
 *
 * The comparators take decoded characters, so that who compares one value
 * with many decodes it once:
 *
 *		pg_wchar	buf[CDP_DECODE_ROOM];
 *		int			n;
 *		pg_wchar   *w = cdp_decode(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t), buf, lengthof(buf), &n);
 *		...
 *		if (w != buf)
 *			pfree(w);
 */
#ifndef CDP_IDENTITY_COMPARE_H
#define CDP_IDENTITY_COMPARE_H

#include "cdp.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

/* characters that are compared without asking for memory; names are shorter */
#define CDP_DECODE_ROOM		128

/* longest value that is compared, in bytes: the time of a distance grows with the square */
#define CDP_COMPARE_MAX		100000

/*
 * The *n characters of in[0..len), in buf when room suffices, else palloc'd;
 * 54000 when len is above CDP_COMPARE_MAX.  In UTF8 they are code points; in
 * another encoding of the server they are numbers that are equal when the
 * characters are.
 */
extern pg_wchar *cdp_decode(const char *in, int len, pg_wchar *buf, int room, int *n);

/* 1 for equal, 0 for nothing in common; two empty strings are equal */
extern double cdp_jaro_winkler_wchar(const pg_wchar *a, int na, const pg_wchar *b, int nb);

/* max_distance < 0: no limit; otherwise max_distance + 1 stands for everything above it */
extern int	cdp_damerau_levenshtein_wchar(const pg_wchar *a, int na, const pg_wchar *b, int nb,
										  int max_distance);

/*
 * identity_pinyin.c: for code points, that is in UTF8 only.  The name of the
 * pinyin functions is one of cdp_name_normalize().
 */

/* traditional characters become simplified ones, each one character */
extern void cdp_simplify_wchar(pg_wchar *w, int n);

/* append "zeng guo fan"; nothing for a blank name */
extern void cdp_pinyin_key_wchar(const pg_wchar *name, int n, StringInfo out);

/* all ways to read it, palloc'd, in byte order; answers how many, 0 for a blank name */
#define CDP_PINYIN_KEYS		16

extern int	cdp_pinyin_keys_wchar(const pg_wchar *name, int n, char *keys[CDP_PINYIN_KEYS]);

#endif							/* CDP_IDENTITY_COMPARE_H */
