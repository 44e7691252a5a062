/*
 * tag_scan.c
 *	  The text of names, values and instants, read and written; cdp.tagset
 *	  and cdp.tagquery share it.
 *
 *		region.华东.上海		"夏季 促销.2026"		1280.5		2026-12-31		gold		"+86 138"
 *
 * A word is read to its end before it is judged, so it has one meaning or
 * none: what looks like a number or a date but is not one (01, .5, 2026-1-5,
 * 1.2.3) is refused instead of becoming a text that compares with nothing.
 * So is a long number, which is an identifier; quotes make a text of it.
 *
 * Outside quotes an ASCII blank ends a word, another blank is refused: it
 * cannot be seen, and vip with one behind it would be another tag.
 *
 * Nothing here depends on TimeZone, DateStyle or locale: the input function
 * of a type is IMMUTABLE.
 *
 * Tests: test/sql/tag.sql, test/pgtap/tag.sql.  Page: doc/tag.md.
 */
#include "tag.h"

#include <math.h>

#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"
#include "utils/datetime.h"

/* what is typed with an input method for Chinese where ASCII is meant */
static const struct
{
	const char *wide;
	const char *ascii;
}			twins[] = {
	{"\xef\xbc\x88", "("}, {"\xef\xbc\x89", ")"}, {"\xef\xbc\x86", "&"}, {"\xef\xbd\x9c", "|"},
	{"\xef\xbc\x81", "!"}, {"\xef\xbc\x8c", ","}, {"\xe3\x80\x81", ","}, {"\xef\xbc\x9d", "="},
	{"\xef\xbc\x9e", ">"}, {"\xef\xbc\x9c", "<"}, {"\xef\xbc\xa0", "@"}, {"\xef\xbc\x8a", "*"},
	{"\xe3\x80\x82", "."}, {"\xef\xbc\x8e", "."}, {"\xe2\x80\x9c", "\""}, {"\xe2\x80\x9d", "\""},
	{"\xef\xbc\x82", "\""}
};

/* blanks that ASCII has not, and characters without any width */
static const struct
{
	pg_wchar	first;
	pg_wchar	last;
}			blanks[] = {
	{0x01, 0x08}, {0x0E, 0x1F}, {0x7F, 0xA0}, {0xAD, 0xAD}, {0x1680, 0x1680}, {0x2000, 0x200B}, {0x200E, 0x200F}, {0x2028, 0x202F},
	{0x205F, 0x2064}, {0x2066, 0x206F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}
};

static inline bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Has a name this character outside quotes?  The dot, which parts levels, is not asked about. */
static inline bool
is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || IS_HIGHBIT_SET(c) ||
		c == '_' || c == '-' || c == '/' || c == ':';
}

static inline bool
is_word_char(char c)
{
	return is_name_char(c) || c == '.' || c == '+';
}

/* The ASCII character that is meant, NULL when this one is not full-width. */
static const char *
ascii_twin(const char *p, const char *end)
{
	if (end - p >= 3 && GetDatabaseEncoding() == PG_UTF8)
		for (int i = 0; i < lengthof(twins); i++)
			if (memcmp(p, twins[i].wide, 3) == 0)
				return twins[i].ascii;
	return NULL;
}

/* The code point of a blank or invisible character, 0 when it is none. */
static pg_wchar
blank_code(const char *p, const char *end)
{
	pg_wchar	c;

	if (p >= end || GetDatabaseEncoding() != PG_UTF8 || pg_utf_mblen((const unsigned char *) p) > end - p)
		return 0;
	c = utf8_to_unicode((const unsigned char *) p);
	for (int i = 0; i < lengthof(blanks); i++)
		if (c >= blanks[i].first && c <= blanks[i].last)
			return c;
	return 0;
}

/* Does this non-ASCII character end a word, because it must be quoted? */
static inline bool
needs_quotes(const char *p, const char *end)
{
	switch ((unsigned char) *p)
	{
		case 0xC2:
		case 0xE1:
		case 0xE2:
		case 0xE3:
		case 0xEF:
			return ascii_twin(p, end) != NULL || blank_code(p, end) != 0;
		default:
			return false;
	}
}

/* The error at a place of the text. */
void
cdp_tag_scan_error(TagScan *scan, const char *where, const char *problem, const char *hint)
{
	int			position = pg_mbstrlen_with_len(scan->start, where - scan->start) + 1;
	const char *ascii = ascii_twin(where, scan->end);
	pg_wchar	blank = blank_code(where, scan->end);

	if (ascii != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("malformed %s: full-width character \"%.3s\"", scan->what, where),
				 errdetail("At character %d.", position),
				 errhint("Write the ASCII character %s instead, or put the whole name or text into double quotes.", ascii)));
	if (blank != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("malformed %s: blank or invisible character U+%04X", scan->what, (unsigned) blank),
				 errdetail("At character %d.", position),
				 errhint("Write an ASCII space instead, or put the whole name or text into double quotes.")));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("malformed %s: %s", scan->what, problem),
			 errdetail("At character %d.", position),
			 errhint("%s", hint)));
}

/* A name or text is too long, or a name too deep. */
pg_noreturn static void
refuse_limit(const char *what, const char *limit, int max)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("malformed %s: %s", what, limit),
			 errdetail("The limit is %d.", max),
			 errhint("A tag has a short name of a few levels and a short value, such as region.华东.上海 or grade=gold.")));
}

#define NAME_TOO_LONG	"a name is longer than 255 bytes"
#define NAME_TOO_DEEP	"a name has more than 16 levels"
#define TEXT_TOO_LONG	"a text is longer than 255 bytes"

void
cdp_tag_skip_space(TagScan *scan)
{
	while (scan->at < scan->end && is_space(*scan->at))
		scan->at++;
}

/* "…" into buf; *at is behind the second quote afterwards. */
static int
scan_quoted(TagScan *scan, char *buf, const char *too_long)
{
	const char *open = scan->at++;
	int			len = 0;

	for (;; scan->at++)
	{
		if (scan->at >= scan->end)
			cdp_tag_scan_error(scan, open, "a quote is not closed", "Close it with \", and write a quote inside quotes twice: \"27\"\" screen\".");
		if (*scan->at == '"')
		{
			if (scan->at + 1 >= scan->end || scan->at[1] != '"')
				break;
			scan->at++;
		}
		if (len == TAG_MAX_NAME)
			refuse_limit(scan->what, too_long, TAG_MAX_NAME);
		buf[len++] = *scan->at;
	}
	scan->at++;
	return len;
}

/* What is wrong with the levels of a name and where, NULL when nothing is. */
static const char *
levels_problem(const char *name, int len, int *place, int *levels)
{
	int			level = 0;		/* where the level begins */

	*levels = 1;
	for (int i = 0; i <= len; i++)
	{
		if (i < len && name[i] != '.')
			continue;
		*place = level;
		if (i == level)
			return "a level of a name is empty";
		if (i == level + 1 && name[level] == '*')
			return "a level of a name is *";
		if (i < len)
			(*levels)++;
		level = i + 1;
	}
	return NULL;
}

const char *
cdp_tag_name_problem(const char *name, int len)
{
	int			place;
	int			levels;
	const char *problem = levels_problem(name, len, &place, &levels);

	return problem != NULL ? problem : len > TAG_MAX_NAME ? NAME_TOO_LONG : levels > TAG_MAX_LEVELS ? NAME_TOO_DEEP : NULL;
}

/* How it is done right. */
static const char *
name_hint(const char *problem)
{
	return strchr(problem, '*') ? "A tag has a full name, such as region.华东.上海; only a query asks for everything below one: region.华东.*, \"夏季 促销\".*."
		: "Levels are parted by single dots: region.华东.上海.";
}

/* A name.  Stops before a .* behind it, which is the query's. */
int
cdp_tag_scan_name(TagScan *scan, char *buf, bool *quoted)
{
	const char *start = scan->at;
	const char *problem;
	bool		in_quotes = scan->at < scan->end && *scan->at == '"';
	int			len = 0;
	int			place;
	int			levels;

	if (in_quotes)
	{
		len = scan_quoted(scan, buf, NAME_TOO_LONG);
		start++;
	}
	else
	{
		for (; scan->at < scan->end; scan->at++)
		{
			char		c = *scan->at;

			if (c == '.')
			{
				if (scan->end - scan->at > 1 && scan->at[1] == '*' && len > 0)
					break;
			}
			else if (!is_name_char(c) || (IS_HIGHBIT_SET(c) && needs_quotes(scan->at, scan->end)))
				break;
			if (len == TAG_MAX_NAME)
				refuse_limit(scan->what, NAME_TOO_LONG, TAG_MAX_NAME);
			buf[len++] = c;
		}
		if (len == 0)
			cdp_tag_scan_error(scan, start, "a name is expected",
							   "A name has letters, digits, _ - / : and dots between its levels; put one with other characters into double quotes: \"夏季 促销\".");
	}
	/* quotes around a level or a part of it */
	if (scan->at < scan->end &&
		(*scan->at == '"' || (in_quotes && (is_name_char(*scan->at) && !needs_quotes(scan->at, scan->end))) ||
		 (in_quotes && *scan->at == '.' && !(scan->end - scan->at > 1 && scan->at[1] == '*'))))
		cdp_tag_scan_error(scan, scan->at, "a part of a name is in quotes", "Quote the whole name: \"region.华东 一区\".");
	problem = levels_problem(buf, len, &place, &levels);
	if (problem != NULL)
	{
		/* inside quotes a doubled one is one byte of the name: find the place again */
		for (int i = 0; i < place; i++, start++)
			if (in_quotes && *start == '"')
				start++;
		cdp_tag_scan_error(scan, start, problem, name_hint(problem));
	}
	if (levels > TAG_MAX_LEVELS)
		refuse_limit(scan->what, NAME_TOO_DEEP, TAG_MAX_LEVELS);
	if (quoted != NULL)
		*quoted = in_quotes;
	return len;
}

/* A name as it is handed over in an argument. */
void
cdp_tag_check_name(const char *name, int len, const char *what)
{
	int			place;
	int			levels;
	const char *problem;

	if (len > TAG_MAX_NAME)
		refuse_limit(what, NAME_TOO_LONG, TAG_MAX_NAME);
	problem = levels_problem(name, len, &place, &levels);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("malformed %s: %s", what, problem),
				 errdetail("At character %d.", pg_mbstrlen_with_len(name, place) + 1),
				 errhint("%s", name_hint(problem))));
	if (levels > TAG_MAX_LEVELS)
		refuse_limit(what, NAME_TOO_DEEP, TAG_MAX_LEVELS);
}

void
cdp_tag_check_text(int len, const char *what)
{
	if (len > TAG_MAX_NAME)
		refuse_limit(what, TEXT_TOO_LONG, TAG_MAX_NAME);
}

/* JSON's grammar of a number: is it one, and how many significant digits are in it? */
static bool
number_grammar(const char *p, const char *end, int *digits)
{
	int			zeros = 0;		/* not counted yet: they may be the last ones */

	*digits = 0;
	if (p < end && *p == '-')
		p++;
	if (p >= end || !is_digit(*p) || (*p == '0' && p + 1 < end && is_digit(p[1])))
		return false;
	for (bool point = false; p < end && *p != 'e' && *p != 'E'; p++)
	{
		if (*p == '.' && !point && p + 1 < end && is_digit(p[1]))
			point = true;
		else if (*p == '0')
			zeros++;
		else if (is_digit(*p))
		{
			*digits += 1 + (*digits > 0 ? zeros : 0);
			zeros = 0;
		}
		else
			return false;
	}
	if (p == end)
		return true;
	p++;
	if (p < end && (*p == '+' || *p == '-'))
		p++;
	if (p >= end)
		return false;
	while (p < end && is_digit(*p))
		p++;
	return p == end;
}

/* A number as JSON writes it; false when it is none. */
bool
cdp_tag_parse_number(const char *text, int len, double *number)
{
	char		local[64];
	char	   *copy = local;
	int			digits;
	double		result;

	if (!number_grammar(text, text + len, &digits))
		return false;
	if (digits > 15)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("number with more than 15 significant digits"),
				 errhint("An identifier such as a card number is a text: put it into double quotes. Round what is a number.")));
	if (len >= sizeof(local))
		copy = palloc(len + 1);
	memcpy(copy, text, len);
	copy[len] = '\0';
	result = strtod(copy, NULL);
	if (copy != local)
		pfree(copy);
	if (isinf(result) || (result == 0 && digits > 0))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("number out of range"),
				 errhint("The largest number is 1.79e+308, the smallest above zero 5e-324; an identifier is a text: put it into double quotes.")));
	*number = result == 0 ? 0 : result;
	return true;
}

/* room for a number as text */
#define NUMBER_LEN	64

/*
 * A number as the shortest text that is read as the same; false when that has
 * more than 15 digits.
 *
 * PostgreSQL's shortest form never lies exactly between two doubles, though
 * reading would decide for this one: 9.877089e19 becomes 9.877088999999999e+19.
 * Fifteen digits of %g bring back whatever was read from fifteen digits.
 */
static bool
number_text(double number, char *text, int *len)
{
	int			digits;

	if (!isfinite(number) || (number == 0 && signbit(number)))
		return false;
	*len = double_to_shortest_decimal_bufn(number, text);
	if (number_grammar(text, text + *len, &digits) && digits <= 15)
		return true;
	*len = snprintf(text, NUMBER_LEN, "%.15g", number);
	return strtod(text, NULL) == number;
}

bool
cdp_tag_is_number(double number)
{
	char		text[NUMBER_LEN];
	int			len;

	return number_text(number, text, &len);
}

/* A computed number, to the 15 significant digits that a tag has. */
double
cdp_tag_round(double number)
{
	char		text[NUMBER_LEN];

	snprintf(text, sizeof(text), "%.15g", number);
	return number == 0 ? 0 : strtod(text, NULL);
}

/* Year, month and day behind each other, with their signs between them. */
static bool
parse_ymd(const char *p, int *year, int *month, int *day)
{
	for (int i = 0; i < 10; i++)
		if (i == 4 || i == 7 ? p[i] != '-' : !is_digit(p[i]))
			return false;
	*year = (p[0] - '0') * 1000 + (p[1] - '0') * 100 + (p[2] - '0') * 10 + (p[3] - '0');
	*month = (p[5] - '0') * 10 + (p[6] - '0');
	*day = (p[8] - '0') * 10 + (p[9] - '0');
	return *year >= 1 && *month >= 1 && *month <= MONTHS_PER_YEAR &&
		*day >= 1 && *day <= day_tab[isleap(*year)][*month - 1];
}

/* YYYY-MM-DD; false when it is no day. */
bool
cdp_tag_parse_date(const char *text, int len, DateADT *date)
{
	int			year;
	int			month;
	int			day;

	if (len != 10 || !parse_ymd(text, &year, &month, &day))
		return false;
	*date = date2j(year, month, day) - POSTGRES_EPOCH_JDATE;
	return true;
}

/* Is it written with nothing but what numbers and dates are written with? */
static bool
looks_numeric(const char *p, int len)
{
	bool		digit = false;

	if (len == 0 || !(is_digit(*p) || *p == '-' || *p == '+' || *p == '.'))
		return false;
	for (int i = 0; i < len; i++)
	{
		if (is_digit(p[i]))
			digit = true;
		else if (p[i] == '\0' || strchr("+-.eE", p[i]) == NULL)
			return false;
	}
	return digit;
}

/* now, now-30d: a date in a query, a text nowhere unless it is quoted. */
static bool
looks_relative(const char *p, int len)
{
	return len >= 3 && memcmp(p, "now", 3) == 0 && (len == 3 || p[3] == '+' || p[3] == '-');
}

/* The end of the word that begins here. */
const char *
cdp_tag_word_end(const char *p, const char *end)
{
	while (p < end && is_word_char(*p) && !(IS_HIGHBIT_SET(*p) && needs_quotes(p, end)))
		p++;
	return p;
}

/* A value. */
void
cdp_tag_scan_value(TagScan *scan, TagValue *value, char *buf)
{
	const char *start = scan->at;
	int			len;

	if (start < scan->end && *start == '"')
	{
		value->type = TAG_TEXT;
		value->text = buf;
		value->text_len = scan_quoted(scan, buf, TEXT_TOO_LONG);
		return;
	}
	scan->at = cdp_tag_word_end(start, scan->end);
	len = scan->at - start;
	if (len == 0)
		cdp_tag_scan_error(scan, start, "a value is expected",
						   "A value is a number (1280.5), a date (2026-12-31), a word (gold) or a text in double quotes (\"+86 138\").");
	if (cdp_tag_parse_number(start, len, &value->number))
		value->type = TAG_NUMBER;
	else if (cdp_tag_parse_date(start, len, &value->date))
		value->type = TAG_DATE;
	else if (looks_numeric(start, len))
		cdp_tag_scan_error(scan, start, "neither a number nor a date",
						   "A number is written 0.5 or -3e6, a date 2026-01-31; put an identifier into double quotes: \"0815\".");
	else if (looks_relative(start, len))
		cdp_tag_scan_error(scan, start, "a date that moves cannot be kept",
						   "Write the date, such as 2026-01-31; only a query compares with now-30d. As a text it is written \"now\".");
	else
	{
		cdp_tag_check_text(len, scan->what);
		memcpy(buf, start, len);
		value->type = TAG_TEXT;
		value->text = buf;
		value->text_len = len;
	}
}

/* Two digits below a limit. */
static bool
two_digits(const char **p, const char *end, int limit, int *result)
{
	if (end - *p < 2 || !is_digit((*p)[0]) || !is_digit((*p)[1]))
		return false;
	*result = ((*p)[0] - '0') * 10 + ((*p)[1] - '0');
	*p += 2;
	return *result < limit;
}

/* HH:MM[:SS[.ffffff]] and Z or an offset, in microseconds of UTC, which may lie outside the day. */
static bool
parse_clock(const char *p, const char *end, int64 *usecs)
{
	int			hour;
	int			minute;
	int			second = 0;
	int			sign;

	if (!two_digits(&p, end, 24, &hour) || p >= end || *p++ != ':' || !two_digits(&p, end, 60, &minute))
		return false;
	*usecs = 0;
	if (p < end && *p == ':')
	{
		p++;
		if (!two_digits(&p, end, 60, &second))
			return false;
		if (p < end && *p == '.')
		{
			int			unit = USECS_PER_SEC;

			p++;
			if (p >= end || !is_digit(*p))
				return false;
			for (; p < end && is_digit(*p); p++)
			{
				unit /= 10;
				if (unit == 0)
					return false;
				*usecs += (int64) (*p - '0') * unit;
			}
		}
	}
	*usecs += hour * USECS_PER_HOUR + minute * USECS_PER_MINUTE + second * USECS_PER_SEC;
	if (p < end && *p == 'Z')
		return p + 1 == end;
	if (p >= end || (*p != '+' && *p != '-'))
		return false;
	sign = *p++ == '+' ? 1 : -1;
	minute = 0;
	if (!two_digits(&p, end, MAX_TZDISP_HOUR + 1, &hour))
		return false;
	if (p < end)
	{
		if (*p == ':')
			p++;
		if (!two_digits(&p, end, 60, &minute))
			return false;
	}
	*usecs -= sign * (hour * USECS_PER_HOUR + minute * USECS_PER_MINUTE);
	return p == end;
}

/* the days 0001-01-01 and 10000-01-01 */
#define FIRST_DATE	(1721426 - POSTGRES_EPOCH_JDATE)
#define END_DATE	(5373485 - POSTGRES_EPOCH_JDATE)

/* Is it a date of four digits, as the text form tells it? */
bool
cdp_tag_is_date(DateADT date)
{
	return date >= FIRST_DATE && date < END_DATE;
}

/* The same of an instant. */
bool
cdp_tag_is_instant(TimestampTz at)
{
	return at >= FIRST_DATE * USECS_PER_DAY && at < END_DATE * USECS_PER_DAY;
}

/* A day, which means its midnight UTC, or a day, T and a clock with Z or an offset; false when it is none. */
bool
cdp_tag_parse_instant(const char *text, int len, TimestampTz *at)
{
	int64		usecs = 0;
	int			year;
	int			month;
	int			day;

	if (len < 10 || !parse_ymd(text, &year, &month, &day) ||
		!(len == 10 || (text[10] == 'T' && parse_clock(text + 11, text + len, &usecs))))
		return false;
	*at = (TimestampTz) (date2j(year, month, day) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY + usecs;
	return cdp_tag_is_instant(*at);
}

/* What stands behind the @. */
TimestampTz
cdp_tag_scan_instant(TagScan *scan)
{
	const char *start = scan->at;
	TimestampTz result;

	scan->at = cdp_tag_word_end(start, scan->end);
	if (!cdp_tag_parse_instant(start, scan->at - start, &result))
		cdp_tag_scan_error(scan, start, "no instant behind @",
						   "Write @2026-12-31 (midnight UTC), @2026-12-31T08:30:00Z or @2026-12-31T16:30:00+08:00.");
	return result;
}

static void
put_quoted(StringInfo out, const char *text, int len)
{
	appendStringInfoChar(out, '"');
	for (int i = 0; i < len; i++)
	{
		if (text[i] == '"')
			appendStringInfoChar(out, '"');
		appendStringInfoChar(out, text[i]);
	}
	appendStringInfoChar(out, '"');
}

void
cdp_tag_put_name(StringInfo out, const char *name, int len)
{
	for (int i = 0; i < len; i++)
		if (!(name[i] == '.' || is_name_char(name[i])) ||
			(IS_HIGHBIT_SET(name[i]) && needs_quotes(name + i, name + len)))
		{
			put_quoted(out, name, len);
			return;
		}
	appendBinaryStringInfo(out, name, len);
}

static void
put_date(StringInfo out, DateADT date)
{
	int			year;
	int			month;
	int			day;

	j2date(date + POSTGRES_EPOCH_JDATE, &year, &month, &day);
	appendStringInfo(out, "%04d-%02d-%02d", year, month, day);
}

void
cdp_tag_put_value(StringInfo out, const TagValue *value)
{
	switch (value->type)
	{
		case TAG_NONE:
			break;
		case TAG_NUMBER:
			{
				char		text[NUMBER_LEN];
				int			len = 0;
				bool		right PG_USED_FOR_ASSERTS_ONLY = number_text(value->number, text, &len);

				Assert(right);
				appendBinaryStringInfo(out, text, len);
				break;
			}
		case TAG_DATE:
			put_date(out, value->date);
			break;
		case TAG_TEXT:
			if (value->text_len == 0 ||
				cdp_tag_word_end(value->text, value->text + value->text_len) != value->text + value->text_len ||
				looks_numeric(value->text, value->text_len) || looks_relative(value->text, value->text_len))
				put_quoted(out, value->text, value->text_len);
			else
				appendBinaryStringInfo(out, value->text, value->text_len);
			break;
	}
}

void
cdp_tag_put_instant(StringInfo out, TimestampTz at)
{
	int64		days = at / USECS_PER_DAY;
	int64		rest = at % USECS_PER_DAY;
	int			usecs;

	if (rest < 0)
	{
		days--;
		rest += USECS_PER_DAY;
	}
	put_date(out, days);
	if (rest == 0)
		return;
	usecs = rest % USECS_PER_SEC;
	rest /= USECS_PER_SEC;
	appendStringInfo(out, "T%02d:%02d:%02d", (int) (rest / SECS_PER_HOUR),
					 (int) (rest / SECS_PER_MINUTE % MINS_PER_HOUR), (int) (rest % SECS_PER_MINUTE));
	if (usecs != 0)
	{
		appendStringInfo(out, ".%06d", usecs);
		while (out->data[out->len - 1] == '0')
			out->data[--out->len] = '\0';
	}
	appendStringInfoChar(out, 'Z');
}
