/*
 * identity_phone.c
 *	  Phone numbers to E.164, with the numbering plan of mainland China.
 *
 * One pass turns the typed characters into at most 20 digits and the fact
 * whether they are international; the rest is arithmetic on those digits:
 *
 *		typed			digits			international	number
 *		(021) 5555-5555	02155555555		no				86 21 55555555
 *		0086-21-...		008621...		yes, by 00		86 21 55555555
 *		86 138 0013...	8613800138000	no				86 13800138000
 *		+44 (0)20 7946..44020...		yes				44 20 7946...
 *
 * A mainland number is taken by its form (mobile, or area code and 7 or 8
 * digits), any other by the length that E.164 allows.
 *
 * SQL: sql/identity_normalize.sql.  Page: doc/identity_normalize.md.
 */
#include "identity_normalize.h"

/* E.164: country code and number together */
#define PHONE_MIN_DIGITS	7
/* a typed number may add an international prefix and a trunk 0 */
#define PHONE_MAX_TYPED		(CDP_PHONE_DIGITS + 5)
/* no number is spelled longer than this, in bytes */
#define PHONE_MAX_BYTES		256

/* what one character of a typed number may be; a digit is itself */
#define SIGN_BAD		0
#define SIGN_BLANK		' '
#define SIGN_PLUS		'+'

/*
 * The character at *p as one of the above; *p moves behind it.  Full-width
 * forms and the dashes that word processors and input methods put in are
 * taken, and so are the invisible direction marks that telephones copy along.
 */
static int
phone_next_sign(const char **p, const char *end)
{
	unsigned char c = (unsigned char) **p;
	pg_wchar	u;
	int			width;

	if (c < 0x80)
	{
		(*p)++;
		if (c >= '0' && c <= '9')
			return c;
		if (c == '+')
			return SIGN_PLUS;
		if (c == ' ' || c == '-' || c == '.' || c == '(' || c == ')' || (c >= '\t' && c <= '\r'))
			return SIGN_BLANK;
		return SIGN_BAD;
	}
	if (GetDatabaseEncoding() != PG_UTF8)
		return SIGN_BAD;
	width = pg_utf_mblen((const unsigned char *) *p);
	if (width > end - *p)
		return SIGN_BAD;
	u = utf8_to_unicode((const unsigned char *) *p);
	*p += width;

	if (u >= 0xFF10 && u <= 0xFF19) /* ０..９ */
		return '0' + (u - 0xFF10);
	switch (u)
	{
		case 0xFF0B:			/* ＋ */
		case 0xFE62:			/* ﹢ */
			return SIGN_PLUS;
		case 0xFF0D:			/* － */
		case 0xFE63:			/* ﹣ */
		case 0xFE58:			/* ﹘ */
		case 0x2212:			/* − */
		case 0x30FC:			/* ー, what a Japanese input method makes of a hyphen */
		case 0xFF0E:			/* ． */
		case 0xFF08:			/* （ */
		case 0xFF09:			/* ） */
		case 0xFE59:			/* ﹙ */
		case 0xFE5A:			/* ﹚ */
			return SIGN_BLANK;
		default:
			if (u >= 0x2010 && u <= 0x2015) /* ‐ ‑ ‒ – — ― */
				return SIGN_BLANK;
			return cdp_is_blank(u) || cdp_is_invisible(u) ? SIGN_BLANK : SIGN_BAD;
	}
}

/*
 * How many of the leading digits are the country code (ITU-T E.164, list of
 * country codes): the codes are prefix-free, one and two digits are listed,
 * all others have three.
 */
static int
phone_country_length(const char *d)
{
	static const char *const second[10] = {
		"", "", "07", "0123469", "013456789", "12345678", "0123456", "", "1246", "0123458"
	};

	if (d[0] == '1' || d[0] == '7')
		return 1;
	return d[1] != '\0' && strchr(second[d[0] - '0'], d[1]) != NULL ? 2 : 3;
}

/* country code "86", "+86" or "0086" -> cc "86"; false: there is no such code */
bool
cdp_phone_country(const char *s, int len, char cc[4])
{
	if (len > 0 && s[0] == '+')
		s++, len--;
	else if (len > 2 && s[0] == '0' && s[1] == '0')
		s += 2, len -= 2;
	if (len < 1 || len > 3 || s[0] == '0')
		return false;
	for (int i = 0; i < len; i++)
	{
		if (s[i] < '0' || s[i] > '9')
			return false;
		cc[i] = s[i];
	}
	cc[len] = '\0';
	return phone_country_length(cc) == len;
}

/*
 * A mainland number without country code: an optional trunk 0, then a mobile
 * 1[3-9] + 9 digits, or area code 10, 2x or [3-9]xx + 7 or 8 digits.  There
 * is no area 86x, so a leading 86 is never part of a number; x00 (400, 800)
 * are services.  NULL: not a number of a person.
 */
static const char *
phone_mainland(const char *d, int n)
{
	int			area;

	if (n > 0 && d[0] == '0')
		d++, n--;
	if (n == 11 && d[0] == '1' && d[1] >= '3')
		return d;
	if (n < 9 || n > 11)
		return NULL;
	if (d[0] == '2' || (d[0] == '1' && d[1] == '0'))
		area = 2;
	else if (d[0] >= '3' && !(d[1] == '0' && d[2] == '0') && !(d[0] == '8' && d[1] == '6'))
		area = 3;
	else
		return NULL;
	if (d[area] == '0' || (n - area != 7 && n - area != 8))
		return NULL;
	return d;
}

/* why phone_mainland() said no, in words that help */
static const char *
phone_mainland_reason(const char *d, int n)
{
	if (n > 0 && d[0] == '0')
		d++, n--;
	if (n >= 3 && (d[0] == '4' || d[0] == '8') && d[1] == '0' && d[2] == '0')
		return "phone number is a 400 or 800 service number";
	if (n < 9)
		return "phone number is too short";
	return "phone number is neither a mobile nor a landline number of mainland China";
}

/*
 * The whole way: in[0..len) -> buf, "+" and at most 15 digits, zero
 * terminated.  Answers NULL, or why not.
 */
const char *
cdp_phone_normalize(const char *in, int len, const char *cc, char buf[CDP_PHONE_DIGITS + 2])
{
	char		typed[PHONE_MAX_TYPED + 1];
	const char *p = in;
	const char *end = in + len;
	const char *d = typed;
	const char *number;
	int			n = 0;
	int			cclen;
	bool		international = false;

	if (len > PHONE_MAX_BYTES)
		return "phone number is too long";
	while (p < end)
	{
		int			sign = phone_next_sign(&p, end);

		if (sign == SIGN_BLANK)
			continue;
		if (sign == SIGN_BAD)
			return "phone number contains a letter, an extension or a sign that does not belong there";
		if (sign == SIGN_PLUS)
		{
			if (n > 0 || international)
				return "phone number has a plus sign in the wrong place";
			international = true;
			continue;
		}
		if (n == PHONE_MAX_TYPED)
			return "phone number has more than 15 digits";
		typed[n++] = sign;
	}
	typed[n] = '\0';
	if (n == 0)
		return "phone number has no digits";

	if (n > 2 && d[0] == '0' && d[1] == '0')
	{
		d += 2, n -= 2;
		international = true;
	}

	cclen = strlen(cc);
	if (!international && strcmp(cc, "86") == 0)
	{
		/* 86 without plus, or with a 0 before it, is as common as a bare number */
		int			skip = d[0] == '0' ? 1 : 0;

		number = phone_mainland(d, n);
		if (number == NULL && n - skip > 10 && strncmp(d + skip, "86", 2) == 0)
		{
			d += skip + 2, n -= skip + 2;
			number = phone_mainland(d, n);
		}
	}
	else
	{
		/*
		 * A bare number that begins with its country code and has eleven
		 * digits or more contains the code already: 44 7911 123456.
		 */
		if (!international && n >= 11 && strncmp(d, cc, cclen) == 0)
			international = true;
		if (international)
		{
			if (d[0] == '0')
				return "phone number has no country code behind its international prefix";
			cclen = Min(phone_country_length(d), n);
			cc = d;
			d += cclen, n -= cclen;
		}
		if (cclen == 2 && strncmp(cc, "86", 2) == 0)
			number = phone_mainland(d, n);
		else
		{
			bool		italy = cclen == 2 && strncmp(cc, "39", 2) == 0;

			/* 800, 808, 979: free, shared cost and premium services of no country */
			if (cclen == 3 && (strncmp(cc, "800", 3) == 0 || strncmp(cc, "808", 3) == 0 || strncmp(cc, "979", 3) == 0))
				return "phone number is an international service number";
			if (d[0] == '0' && !italy)
				d++, n--;
			if (d[0] == '0' && (!italy || d[1] == '0'))
				return "phone number has more than one trunk 0";
			if (cclen + n > CDP_PHONE_DIGITS)
				return "phone number has more than 15 digits";
			if (cclen + n < PHONE_MIN_DIGITS || n < 4)
				return "phone number is too short";
			buf[0] = '+';
			memcpy(buf + 1, cc, cclen);
			memcpy(buf + 1 + cclen, d, n + 1);
			return NULL;
		}
	}

	if (number == NULL)
		return n > CDP_PHONE_DIGITS ? "phone number has more than 15 digits" : phone_mainland_reason(d, n);
	strlcpy(buf, "+86", CDP_PHONE_DIGITS + 2);
	strlcat(buf, number, CDP_PHONE_DIGITS + 2);
	return NULL;
}

bool
cdp_normalize_phone_cstr(const char *in, int len, const char *country,
						 StringInfo out, const char **why)
{
	char		buf[CDP_PHONE_DIGITS + 2];
	char		cc[4] = "86";

	if (country != NULL && !cdp_phone_country(country, strlen(country), cc))
		*why = CDP_PHONE_BAD_COUNTRY;
	else
		*why = cdp_phone_normalize(in, len, cc, buf);
	if (*why != NULL)
		return false;
	appendStringInfoString(out, buf);
	return true;
}
