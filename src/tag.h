/*
 * tag.h
 *	  What is known of a customer, as one value: cdp.tagset.
 *
 *		vip, region.华东.上海, aov=1280.5, churn_risk=0.83@2026-12-31
 *
 * A tagset holds its names as text, so it needs no dictionary, lives in any
 * table and survives dump and restore.  Entries are sorted by the bytes of
 * their names and each name is there once: equal sets are equal bytes.
 *
 * The bytes after the varlena header; nothing is aligned, every number is
 * read with memcpy:
 *
 *		uint32	count
 *		uint32	entry[count]	where the name ends, type of the value, expiring or not
 *		char	names[]			one after the other
 *		slots					for each entry in order: 8 bytes of value when it has
 *								one, 8 bytes of valid-until when it expires
 *		char	texts[]			the text values; a text's slot tells offset and length
 *
 * so that looking for a name touches the front of the value only.
 *
 * SQL: sql/tag.sql.  Tests: test/sql/tag.sql, test/pgtap/tag.sql.  Page: doc/tag.md.
 */
#ifndef CDP_TAG_H
#define CDP_TAG_H

#include "cdp.h"

#include "utils/date.h"

#define TAGSET_MAX_ENTRIES		4096
#define TAG_MAX_NAME			255		/* bytes of a name, and of a text value */
#define TAG_MAX_LEVELS			16

typedef enum TagValueType
{
	TAG_NONE,
	TAG_NUMBER,
	TAG_DATE,
	TAG_TEXT
} TagValueType;

typedef struct TagValue
{
	TagValueType type;
	double		number;			/* finite, never -0, at most 15 significant digits */
	DateADT		date;			/* finite, years 0001 to 9999 */
	const char *text;			/* not terminated */
	int			text_len;
} TagValue;

/* one entry, taken apart; its pointers lead into the tagset or the input */
typedef struct TagEntry
{
	const char *name;			/* not terminated */
	int			name_len;
	TagValue	value;
	TimestampTz valid_until;	/* is there while at < valid_until; DT_NOEND: for ever */
} TagEntry;

/* a tagset, open for reading */
typedef struct TagSet
{
	const char *entries;		/* count uint32 */
	const char *names;
	const char *slots;
	const char *base;			/* first byte after the varlena header: texts are found from here */
	int			count;
} TagSet;

/* value may have a short header; it is not toasted */
extern void cdp_tagset_open(TagSet *set, const struct varlena *value);

#define PG_GETARG_TAGSET(n, set)	cdp_tagset_open(set, PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(n)))

/* index of the entry of that name, -1: none */
extern int	cdp_tagset_find(const TagSet *set, const char *name, int len);
/* the entries below name, [from, to): name.x, name.x.y, not name itself, which need not be their neighbour */
extern void cdp_tagset_below(const TagSet *set, const char *name, int len, int *from, int *to);

extern void cdp_tagset_entry(const TagSet *set, int i, TagEntry *entry);

/* name and whether it expires, without reading anything else */
extern const char *cdp_tagset_name(const TagSet *set, int i, int *len);
extern TimestampTz cdp_tagset_valid_until(const TagSet *set, int i);

/* all of them in order: for (TagCursor c = {0}; cdp_tagset_next(set, &c, &entry);) */
typedef struct TagCursor
{
	int			i;
	int			slot;
} TagCursor;
extern bool cdp_tagset_next(const TagSet *set, TagCursor *cursor, TagEntry *entry);

/* sorts by name, keeps the later one of a repeated name, answers how many remain; 54000 above the limit */
extern int	cdp_tagset_settle(TagEntry *entries, int count);
/* entries in any order, settled here.  They must be right: cdp_tag_check_name, cdp_tag_is_number and its like. */
extern struct varlena *cdp_tagset_build(TagEntry *entries, int count);

/*
 * Keys: what indexes and statistics know of a tagset.  For each entry its
 * name; name.* of itself and of each ancestor; name=value for a text.
 * Numbers and dates are what a key cannot decide.
 *
 *		TAG_KEY_NAME	'n' name
 *		TAG_KEY_BELOW	'p' name			the name itself or anything below
 *		TAG_KEY_VALUE	'v' name '\0' text
 *
 * No name holds '\0', so no two of them meet.
 */
#define TAG_KEY_NAME	'n'
#define TAG_KEY_BELOW	'p'
#define TAG_KEY_VALUE	'v'
#define TAG_MAX_KEY		(1 + TAG_MAX_NAME + 1 + TAG_MAX_NAME)

typedef struct TagKey
{
	const char *bytes;
	int			len;
	TimestampTz valid_until;	/* of the entry that holds longest: until then the key is true */
} TagKey;

/* sorted by bytes, each once; palloc'd */
extern TagKey *cdp_tagset_keys(const TagSet *set, int *count);
/* order of bytes */
extern int	cdp_tag_compare_keys(const char *a, int alen, const char *b, int blen);
/* one key into a buffer of TAG_MAX_KEY bytes; text for TAG_KEY_VALUE only.  Answers its length. */
extern int	cdp_tag_key(char *key, char kind, const char *name, int name_len, const char *text, int text_len);

/*
 * Text, the part that cdp.tagset and cdp.tagquery share (tag_scan.c): names,
 * values, instants, and errors that say where.
 */
typedef struct TagScan
{
	const char *what;			/* "tagset" or "tagquery", for messages */
	const char *start;
	const char *at;
	const char *end;
} TagScan;

extern void cdp_tag_skip_space(TagScan *scan);
/* a name, quoted or not, into buf of TAG_MAX_NAME bytes; answers its length; *quoted may be NULL.  Stops before .* */
extern int	cdp_tag_scan_name(TagScan *scan, char *buf, bool *quoted);
/* a number, a date, a bare word or "text"; a text lies in buf of TAG_MAX_NAME bytes; refuses a bare now, now-30d */
extern void cdp_tag_scan_value(TagScan *scan, TagValue *value, char *buf);
/* the end of the bare word that begins there */
extern const char *cdp_tag_word_end(const char *p, const char *end);
/* after the @ */
extern TimestampTz cdp_tag_scan_instant(TagScan *scan);
/* 22P02 at where, with its position in characters in the detail; names the ASCII twin of a full-width character */
pg_noreturn extern void cdp_tag_scan_error(TagScan *scan, const char *where, const char *problem, const char *hint);

/* as the canonical text shows them */
extern void cdp_tag_put_name(StringInfo out, const char *name, int len);
extern void cdp_tag_put_value(StringInfo out, const TagValue *value);
extern void cdp_tag_put_instant(StringInfo out, TimestampTz at);

/* a name that a caller hands over raw: 22023 for empty levels and *, 54000 for length and levels; what names the argument */
extern void cdp_tag_check_name(const char *name, int len, const char *what);
/* the same without an error: what is wrong with it, NULL when it is right */
extern const char *cdp_tag_name_problem(const char *name, int len);
/* 54000 for a text value above the limit */
extern void cdp_tag_check_text(int len, const char *what);
/* JSON's grammar, 22003 above 15 significant digits (zeros at either end do not count) */
extern bool cdp_tag_parse_number(const char *text, int len, double *number);
extern bool cdp_tag_parse_date(const char *text, int len, DateADT *date);
extern bool cdp_tag_parse_instant(const char *text, int len, TimestampTz *at);

/* what a TagEntry may hold of numbers, dates and instants that were computed */
extern bool cdp_tag_is_number(double number);
extern double cdp_tag_round(double number);
extern bool cdp_tag_is_date(DateADT date);
extern bool cdp_tag_is_instant(TimestampTz at);

#endif							/* CDP_TAG_H */
