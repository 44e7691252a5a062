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

#endif							/* CDP_IDENTITY_COMPARE_H */
