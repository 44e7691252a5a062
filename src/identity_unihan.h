/*
 * identity_unihan.h
 *	  What the Unihan database says about Han characters, in tables that
 *	  src/gen/unihan.pl writes: identity_unihan_pinyin.c,
 *	  identity_unihan_rare.c, identity_unihan_simplified.c.
 *
 * Who wants to know asks identity_pinyin.c.
 */
#ifndef CDP_IDENTITY_UNIHAN_H
#define CDP_IDENTITY_UNIHAN_H

#include "postgres.h"

/*
 * The different sets of readings: toneless syllables with v for u umlaut,
 * the commonest first, a space between.  Number 0 is empty.
 */
extern const char *const cdp_unihan_lists[];
extern const int cdp_unihan_nlists;

/*
 * The set of a character from U+3400 to U+9FFF, as two printable digits of
 * base 63, '@' for 0: one row of 64 characters after the other.
 */
#define CDP_UNIHAN_FIRST	0x3400
#define CDP_UNIHAN_LAST		0x9FFF
#define CDP_UNIHAN_ROW		64

#define CDP_UNIHAN_DIGITS(p)	(((p)[0] - '@') * 63 + ((p)[1] - '@'))

extern const char cdp_unihan_bmp[][CDP_UNIHAN_ROW * 2 + 1];

/* beyond U+FFFF, in ascending order: four bytes of UTF-8, two digits */
#define CDP_UNIHAN_RARE		6

extern const char cdp_unihan_rare[];
extern const int cdp_unihan_nrare;

/*
 * Traditional and simplified form, in ascending order: each four bytes, three
 * of UTF-8 and a space where three are enough.
 */
#define CDP_UNIHAN_PAIR		8

extern const char cdp_unihan_simplified[];
extern const int cdp_unihan_nsimplified;

#endif							/* CDP_IDENTITY_UNIHAN_H */
