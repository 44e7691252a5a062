/*
 * value_money.c
 *	  Money as whole numbers: the digits of a numeric, read and written.
 *
 * numeric has no public way to a 128-bit integer; by text it costs more than
 * all the rest of an aggregate.  Its stored form has not changed since 9.1
 * and cannot without breaking pg_upgrade: a header with sign, display scale
 * and weight, then digits of base 10000.  Two of those after the point give
 * a unit of 10^-8, so reading is shifting whole digits:
 *
 *		19.99  =  weight 0, digits 0019 9900  ->  19 9900 0000
 *
 * SQL: none.  Tests: test/sql/value.sql, test/pgtap/value.sql.
 */
#include "value.h"

#include <math.h>

#include "utils/builtins.h"

/* numeric.c's own names without the prefix */
#define SIGN_MASK		0xC000
#define SIGN_NEG		0x4000
#define FORM_SHORT		0x8000
#define FORM_SPECIAL	0xC000
#define LONG_DSCALE_MASK	0x3FFF
#define SHORT_SIGN		0x2000
#define SHORT_DSCALE_MASK	0x1F80
#define SHORT_DSCALE_SHIFT	7
#define SHORT_DSCALE_MAX	(SHORT_DSCALE_MASK >> SHORT_DSCALE_SHIFT)
#define SHORT_WEIGHT_SIGN	0x0040
#define SHORT_WEIGHT_MASK	0x003F

#define NBASE			10000
#define FRACTION_DIGITS	2		/* of base 10000: the unit is 10^-8 */
#define MAX_WEIGHT		3		/* below 10^16 */
#define MAX_DIGITS		10		/* 2^127 < 10^40 */

/*
 * Exact reading.  num may have a short header and so be unaligned: it is
 * what a table hands out, and copying it first is what sum() pays for.
 */
MoneyKind
cdp_money_read(const struct varlena *num, int128 *units, bool *negative, int *dscale)
{
	const char *p = VARDATA_ANY(num);
	int			len = VARSIZE_ANY_EXHDR(num);
	uint16		header;
	int16		digit;
	int			weight;
	int			ndigits;
	int			last;
	uint64		small = 0;

	memcpy(&header, p, sizeof(uint16));
	if ((header & SIGN_MASK) == FORM_SPECIAL)
		return MONEY_SPECIAL;
	if (header & FORM_SHORT)
	{
		*negative = (header & SHORT_SIGN) != 0;
		*dscale = (header & SHORT_DSCALE_MASK) >> SHORT_DSCALE_SHIFT;
		weight = (header & SHORT_WEIGHT_SIGN) ? (int) (header | ~SHORT_WEIGHT_MASK) : (header & SHORT_WEIGHT_MASK);
		p += sizeof(uint16);
		ndigits = (len - (int) sizeof(uint16)) / (int) sizeof(int16);
	}
	else
	{
		int16		long_weight;

		*negative = (header & SIGN_MASK) == SIGN_NEG;
		*dscale = header & LONG_DSCALE_MASK;
		memcpy(&long_weight, p + sizeof(uint16), sizeof(int16));
		weight = long_weight;
		p += 2 * sizeof(uint16);
		ndigits = (len - 2 * (int) sizeof(uint16)) / (int) sizeof(int16);
	}
	if (ndigits == 0)
	{
		*units = 0;
		return MONEY_FITS;
	}
	last = weight - ndigits + 1;
	if (weight > MAX_WEIGHT || last < -FRACTION_DIGITS)
		return MONEY_LARGE;

	/* four digits of base 10000 are below 2^63: all everyday money */
	if (weight <= MAX_WEIGHT - FRACTION_DIGITS)
	{
		for (int i = 0; i < ndigits; i++)
		{
			memcpy(&digit, p + i * sizeof(int16), sizeof(int16));
			small = small * NBASE + digit;
		}
		for (; last > -FRACTION_DIGITS; last--)
			small *= NBASE;
		*units = small;
	}
	else
	{
		int128		large = 0;

		for (int i = 0; i < ndigits; i++)
		{
			memcpy(&digit, p + i * sizeof(int16), sizeof(int16));
			large = large * NBASE + digit;
		}
		for (; last > -FRACTION_DIGITS; last--)
			large *= NBASE;
		*units = large;
	}
	return MONEY_FITS;
}

/* The numeric of a number of units, written the way numeric.c stores it. */
Numeric
cdp_money_numeric(int128 units, int dscale)
{
	int16		digits[MAX_DIGITS];
	int			first = MAX_DIGITS;
	int			end = MAX_DIGITS;
	int			weight;
	bool		negative = units < 0;
	unsigned __int128 rest = negative ? -(unsigned __int128) units : (unsigned __int128) units;
	char	   *result;
	char	   *p;
	Size		size;
	uint16		header;

	/* 128-bit division is slow and rarely needed */
	while (rest > PG_UINT64_MAX)
	{
		digits[--first] = (int16) (rest % NBASE);
		rest /= NBASE;
	}
	for (uint64 low = (uint64) rest; low != 0; low /= NBASE)
		digits[--first] = (int16) (low % NBASE);
	weight = MAX_DIGITS - first - 1 - FRACTION_DIGITS;
	while (end > first && digits[end - 1] == 0)
		end--;
	if (end == first)
	{
		weight = 0;
		negative = false;
	}

	if (dscale <= SHORT_DSCALE_MAX)
	{
		size = VARHDRSZ + sizeof(uint16) + (end - first) * sizeof(int16);
		result = palloc(size);
		header = FORM_SHORT | (negative ? SHORT_SIGN : 0) | (dscale << SHORT_DSCALE_SHIFT) |
			(weight < 0 ? SHORT_WEIGHT_SIGN : 0) | (weight & SHORT_WEIGHT_MASK);
		p = result + VARHDRSZ;
		memcpy(p, &header, sizeof(uint16));
		p += sizeof(uint16);
	}
	else
	{
		int16		long_weight = weight;

		size = VARHDRSZ + 2 * sizeof(uint16) + (end - first) * sizeof(int16);
		result = palloc(size);
		header = (negative ? SIGN_NEG : 0) | (dscale & LONG_DSCALE_MASK);
		p = result + VARHDRSZ;
		memcpy(p, &header, sizeof(uint16));
		memcpy(p + sizeof(uint16), &long_weight, sizeof(int16));
		p += 2 * sizeof(uint16);
	}
	SET_VARSIZE(result, size);
	memcpy(p, digits + first, (end - first) * sizeof(int16));
	return (Numeric) result;
}

/*
 * A float8 stands for the decimal number that its cast to numeric gives: the
 * shortest of up to 15 digits.  When value is the double next to k / 10000
 * and k has at most 15 digits, that number is k / 10000; answers false when
 * it is not that simple.
 */
bool
cdp_money_from_float8(float8 value, int128 *units, bool *negative, int *dscale)
{
	float8		k = rint(value * 10000.0);
	int64		whole;
	int			scale = 4;

	if (!(fabs(k) < 1e15) || k / 10000.0 != value)
		return false;
	whole = (int64) fabs(k);
	*negative = value < 0;
	*units = (int128) whole * NBASE;
	while (scale > 0 && whole % 10 == 0)
	{
		whole /= 10;
		scale--;
	}
	*dscale = scale;
	return true;
}
