/*
 * tag_query.h
 *	  A question about tags, as one value: cdp.tagquery.
 *
 *		region.华东.* & (aov > 1000 | 高价值) & !churned
 *
 * The tree in the order of its text, each node before its children:
 *
 *		AND(end 7)  BELOW region.华东  OR(end 5)  COMPARE aov > 1000  HAS 高价值  NOT(end 7)  HAS churned
 *
 * The children of node i begin at i + 1; the next one begins where the one
 * before ends, until nodes[i].end.  AND and OR have two or more children,
 * none of their own kind: a & (b & c) is a & b & c.
 *
 * A term is true or false, never NULL: false where its tag is missing or has
 * expired, or has a value of another kind.  NOT is plain complement.
 *
 * Equal queries are equal bytes: there is one tree for a text, its strings
 * stand in the order of their nodes, and what a node does not use is 0.
 *
 * Whoever walks the tree may recurse: a path has at most TAGQUERY_MAX_DEPTH
 * nodes, which is seen to wherever a tree is made.
 *
 * SQL: sql/tag_query.sql.  Tests: test/sql/tag_query.sql, test/pgtap/tag_query.sql.  Page: doc/tag_query.md.
 */
#ifndef CDP_TAG_QUERY_H
#define CDP_TAG_QUERY_H

#include "tag.h"

#define TAGQUERY_MAX_BYTES	(64 * 1024)		/* of its text, as given and as printed */
#define TAGQUERY_MAX_TERMS	4096			/* leaves; each value of a list is one */
#define TAGQUERY_MAX_DEPTH	256				/* nodes from the root to a term, both counted */
#define TAGQUERY_MAX_UNITS	999999			/* of now-30d */

typedef enum TagNodeKind
{
	TAGQ_EVERYONE,				/* * */
	TAGQ_HAS,					/* name */
	TAGQ_BELOW,					/* name.* */
	TAGQ_COMPARE,				/* name op value */
	TAGQ_IN,					/* name in (..): its children are TAGQ_VALUE */
	TAGQ_VALUE,
	TAGQ_SEGMENT,				/* segment(name) */
	TAGQ_NOT,
	TAGQ_AND,
	TAGQ_OR
} TagNodeKind;

typedef enum TagOperator
{
	TAGQ_EQ,
	TAGQ_NE,
	TAGQ_LT,
	TAGQ_LE,
	TAGQ_GT,
	TAGQ_GE
} TagOperator;

/* a date may be told from the time of evaluation: now-30d; cdp_tagquery_bind makes all of them TAGQ_FIXED */
typedef enum TagNow
{
	TAGQ_FIXED,
	TAGQ_HOURS,
	TAGQ_DAYS,
	TAGQ_WEEKS,
	TAGQ_MONTHS,
	TAGQ_YEARS
} TagNow;

typedef struct TagNode
{
	uint8		kind;			/* TagNodeKind */
	uint8		op;				/* TagOperator, of TAGQ_COMPARE, and of TAGQ_VALUE, where it is TAGQ_EQ until it is bound */
	uint8		value_type;		/* TagValueType, of TAGQ_COMPARE and TAGQ_VALUE */
	uint8		now;			/* TagNow, of a date */
	uint32		end;			/* the node after this one and all below it */
	uint32		name;			/* offset in the strings, of terms */
	uint32		name_len;
	union
	{
		double		number;
		int64		date;		/* days since 2000-01-01; with now: how many units, signed */
		struct
		{
			uint32		offset;
			uint32		len;
		}			text;
	}			value;
} TagNode;

typedef struct TagQuery
{
	int32		vl_len_;
	uint32		nnodes;
	TagNode		nodes[FLEXIBLE_ARRAY_MEMBER];	/* strings follow */
} TagQuery;

#define TagNodeIsTerm(n)		((n)->kind < TAGQ_NOT && (n)->kind != TAGQ_VALUE)
#define TagQueryStrings(q)		((const char *) &(q)->nodes[(q)->nnodes])
#define DatumGetTagQuery(d)		((TagQuery *) PG_DETOAST_DATUM(d))
#define PG_GETARG_TAGQUERY(n)	DatumGetTagQuery(PG_GETARG_DATUM(n))

/*
 * The query of a moment: dates relative to now made fixed, so that nobody
 * else has to know what now is.  The same query when it has none, else a copy
 * in the current context, which is for evaluation only, not for keeping.
 *
 * now-12h is no date but an instant, and a date lies before or behind it:
 * >= becomes >, < becomes <=, = becomes < and != becomes >= of a date before
 * all others.  So op and date of the bound node are all there is to compare.
 * A date out of range is before or behind all others as well.
 */
extern const TagQuery *cdp_tagquery_bind(const TagQuery *query, TimestampTz at);

/* does the bound query hold for this set at that moment?  0A000 for segment(..) */
extern bool cdp_tagquery_matches(const TagQuery *query, const TagSet *set, TimestampTz at);

/* one term of a bound query, for those who walk the tree themselves */
extern bool cdp_tagquery_term(const TagQuery *query, const TagNode *node, const TagSet *set, TimestampTz at);

/* the literal of a TAGQ_COMPARE or TAGQ_VALUE of a bound query */
extern void cdp_tagquery_value(const TagQuery *query, const TagNode *node, TagValue *value);

/* is value `op` literal true?  false when they are of different types */
extern bool cdp_tag_compare(const TagValue *value, TagOperator op, const TagValue *literal);

/* 22P02 where it is none; the result is canonical */
extern TagQuery *cdp_tagquery_parse(const char *text);
extern char *cdp_tagquery_text(const TagQuery *query);
/* one term as its text */
extern char *cdp_tagquery_term_text(const TagQuery *query, const TagNode *node);

/* does it, or one of its parts, ask for a segment? */
extern bool cdp_tagquery_has_segment(const TagQuery *query);

/*
 * For those who make trees: end of a node is how many nodes it is with all
 * below it, its strings follow each other in the order of the nodes, the
 * offsets are filled in.  54000, 54001 where a limit is passed.
 */
extern TagQuery *cdp_tagquery_make(const TagNode *nodes, uint32 nnodes, const char *strings, uint32 len);
pg_noreturn extern void cdp_tagquery_refuse_depth(void);
pg_noreturn extern void cdp_tagquery_refuse_bytes(void);
pg_noreturn extern void cdp_tagquery_refuse_terms(void);

#endif							/* CDP_TAG_QUERY_H */
