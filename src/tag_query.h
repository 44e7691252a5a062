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
 * SQL: sql/tag_query.sql.  Tests: test/sql/tag_query.sql, test/pgtap/tag_query.sql.  Page: doc/tag.md.
 */
#ifndef CDP_TAG_QUERY_H
#define CDP_TAG_QUERY_H

#include "tag.h"

#define TAGQUERY_MAX_BYTES	(64 * 1024)		/* of its text */
#define TAGQUERY_MAX_TERMS	4096

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

/* a date may be told from the time of evaluation: now-30d */
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
	uint8		op;				/* TagOperator, of TAGQ_COMPARE */
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

#define TagQueryStrings(q)		((const char *) &(q)->nodes[(q)->nnodes])
#define DatumGetTagQuery(d)		((TagQuery *) PG_DETOAST_DATUM(d))
#define PG_GETARG_TAGQUERY(n)	DatumGetTagQuery(PG_GETARG_DATUM(n))

/* does it hold for this set at that moment?  0A000 for segment(..) */
extern bool cdp_tagquery_matches(const TagQuery *query, const TagSet *set, TimestampTz at);

/* one term alone, for those who walk the tree themselves */
extern bool cdp_tagquery_term(const TagQuery *query, const TagNode *node, const TagSet *set, TimestampTz at);

/* the value of a TAGQ_COMPARE or TAGQ_VALUE, dates relative to now made fixed */
extern void cdp_tagquery_value(const TagQuery *query, const TagNode *node, TimestampTz at, TagValue *value);

/* is value `op` literal true?  false when they are of different types */
extern bool cdp_tag_compare(const TagValue *value, TagOperator op, const TagValue *literal);

/* 22P02 where it is none; the result is canonical */
extern TagQuery *cdp_tagquery_parse(const char *text);
extern char *cdp_tagquery_text(const TagQuery *query);
/* one term as its text */
extern char *cdp_tagquery_term_text(const TagQuery *query, const TagNode *node);

/* does it, or one of its parts, ask for a segment? */
extern bool cdp_tagquery_has_segment(const TagQuery *query);

#endif							/* CDP_TAG_QUERY_H */
