/*
 * tag_query_make.c
 *	  Trees of cdp.tagquery: their limits, their operators, their parts.
 *
 *		a & b, joined with | to c		(a & b) | c		OR(end 5)  AND(end 4)  HAS a  HAS b  HAS c
 *
 * While a tree is made, end of a node is how many nodes it is with all below
 * it, so that trees can be moved; cdp_tagquery_make makes places of that.
 * Nothing else makes a TagQuery, so all of them keep the limits.
 *
 * SQL: sql/tag_query.sql.  Tests: test/sql/tag_query.sql, test/pgtap/tag_query.sql.  Page: doc/tag_query.md.
 */
#include "tag_query.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_tagquery_and);
PG_FUNCTION_INFO_V1(cdp_tagquery_or);
PG_FUNCTION_INFO_V1(cdp_tagquery_not);
PG_FUNCTION_INFO_V1(cdp_tagquery_eq);
PG_FUNCTION_INFO_V1(cdp_tagquery_ne);
PG_FUNCTION_INFO_V1(cdp_tagquery_hash);
PG_FUNCTION_INFO_V1(cdp_tagquery_hash_extended);
PG_FUNCTION_INFO_V1(cdp_tagquery_segments);

#define LIMIT_HINT	"Keep a part of it as a segment and ask for segment(name)."

void
cdp_tagquery_refuse_depth(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
			 errmsg("tagquery is nested too deep"),
			 errdetail("The limit is %d levels of !, & and |, and of parentheses.", TAGQUERY_MAX_DEPTH),
			 errhint("Leave out what is doubled, such as !!a and ((a)). " LIMIT_HINT)));
}

void
cdp_tagquery_refuse_bytes(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("tagquery is too long"),
			 errdetail("The limit is %d bytes.", TAGQUERY_MAX_BYTES),
			 errhint(LIMIT_HINT)));
}

void
cdp_tagquery_refuse_terms(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("tagquery has too many terms"),
			 errdetail("The limit is %d; each value of a list is one.", TAGQUERY_MAX_TERMS),
			 errhint(LIMIT_HINT)));
}

/* The limits, at places they are passed at last. */
static void
check_limits(const TagQuery *query)
{
	uint32		ends[TAGQUERY_MAX_DEPTH];
	int			depth = 0;
	int			terms = 0;

	for (uint32 i = 0; i < query->nnodes; i++)
	{
		const TagNode *node = &query->nodes[i];

		if (node->kind == TAGQ_VALUE)
		{
			terms++;
			continue;
		}
		while (depth > 0 && ends[depth - 1] <= i)
			depth--;
		if (depth == TAGQUERY_MAX_DEPTH)
			cdp_tagquery_refuse_depth();
		ends[depth++] = node->end;
		if (TagNodeIsTerm(node) && node->kind != TAGQ_IN)
			terms++;
	}
	if (terms > TAGQUERY_MAX_TERMS)
		cdp_tagquery_refuse_terms();
	/* a byte prints as less than four: a quote as two, a node of 24 bytes as a number, an operator and some signs */
	if (VARSIZE(query) * 4 > TAGQUERY_MAX_BYTES)
	{
		char	   *text = cdp_tagquery_text(query);

		if (strlen(text) > TAGQUERY_MAX_BYTES)
			cdp_tagquery_refuse_bytes();
		pfree(text);
	}
}

#ifdef USE_ASSERT_CHECKING
/* Everything that readers rely on. */
static void
cdp_tagquery_check(const TagQuery *query)
{
	uint32		strings = 0;

	Assert(query->nnodes > 0 && query->nodes[0].end == query->nnodes);
	for (uint32 i = 0; i < query->nnodes; i++)
	{
		const TagNode *node = &query->nodes[i];
		bool		has_name = node->kind != TAGQ_EVERYONE && node->kind < TAGQ_NOT && node->kind != TAGQ_VALUE;
		bool		has_value = node->kind == TAGQ_COMPARE || node->kind == TAGQ_VALUE;
		uint32		children = 0;

		Assert(node->kind <= TAGQ_OR && node->op <= TAGQ_GE && node->value_type <= TAG_TEXT && node->now <= TAGQ_YEARS);
		Assert(node->end > i && node->end <= query->nnodes);
		Assert((node->value_type != TAG_NONE) == has_value);
		Assert(node->now == TAGQ_FIXED || node->value_type == TAG_DATE);
		Assert(has_name ? node->name == strings && node->name_len > 0 : node->name == 0 && node->name_len == 0);
		strings += node->name_len;
		if (node->value_type == TAG_TEXT)
		{
			Assert(node->value.text.offset == strings);
			strings += node->value.text.len;
		}
		for (uint32 c = i + 1; c < node->end; c = query->nodes[c].end, children++)
		{
			Assert(query->nodes[c].end <= node->end);
			Assert((node->kind == TAGQ_IN) == (query->nodes[c].kind == TAGQ_VALUE));
			Assert(node->kind == TAGQ_NOT || query->nodes[c].kind != node->kind);
		}
		switch ((TagNodeKind) node->kind)
		{
			case TAGQ_NOT:
				Assert(children == 1);
				break;
			case TAGQ_AND:
			case TAGQ_OR:
				Assert(children >= 2);
				break;
			case TAGQ_IN:
				Assert(children >= 1);
				break;
			default:
				Assert(children == 0);
		}
	}
	Assert(VARSIZE(query) == offsetof(TagQuery, nodes) + query->nnodes * sizeof(TagNode) + strings);
}
#endif

/* A query of nodes whose end is how many they are, and strings in their order. */
TagQuery *
cdp_tagquery_make(const TagNode *nodes, uint32 nnodes, const char *strings, uint32 len)
{
	Size		size = offsetof(TagQuery, nodes) + nnodes * sizeof(TagNode) + len;
	TagQuery   *query = palloc0(size);
	uint32		offset = 0;

	SET_VARSIZE(query, size);
	query->nnodes = nnodes;
	memcpy(query->nodes, nodes, nnodes * sizeof(TagNode));
	for (uint32 i = 0; i < nnodes; i++)
	{
		TagNode    *node = &query->nodes[i];

		node->end += i;
		if (node->name_len > 0)
			node->name = offset;
		offset += node->name_len;
		if (node->value_type == TAG_TEXT)
		{
			node->value.text.offset = offset;
			offset += node->value.text.len;
		}
	}
	Assert(offset == len);
	memcpy(&query->nodes[nnodes], strings, len);
	check_limits(query);
#ifdef USE_ASSERT_CHECKING
	cdp_tagquery_check(query);
#endif
	return query;
}

/* Put a tree behind others; without its root when that is of the kind of the node above. */
static uint32
append_tree(TagNode *nodes, StringInfo strings, const TagQuery *query, TagNodeKind above)
{
	uint32		from = query->nodes[0].kind == above ? 1 : 0;

	for (uint32 i = from; i < query->nnodes; i++)
	{
		nodes[i - from] = query->nodes[i];
		nodes[i - from].end -= i;
	}
	appendBinaryStringInfo(strings, TagQueryStrings(query),
						   VARSIZE(query) - (TagQueryStrings(query) - (const char *) query));
	return query->nnodes - from;
}

/* A node of that kind over one or two trees. */
static TagQuery *
join_trees(TagNodeKind kind, const TagQuery *a, const TagQuery *b)
{
	TagNode    *nodes = palloc0((1 + a->nnodes + (b ? b->nnodes : 0)) * sizeof(TagNode));
	StringInfoData strings;
	uint32		n = 1;

	initStringInfo(&strings);
	n += append_tree(nodes + n, &strings, a, kind == TAGQ_NOT ? TAGQ_VALUE : kind);
	if (b != NULL)
		n += append_tree(nodes + n, &strings, b, kind);
	nodes[0].kind = kind;
	nodes[0].end = n;
	return cdp_tagquery_make(nodes, n, strings.data, strings.len);
}

/* tagquery & tagquery */
Datum
cdp_tagquery_and(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(join_trees(TAGQ_AND, PG_GETARG_TAGQUERY(0), PG_GETARG_TAGQUERY(1)));
}

/* tagquery | tagquery */
Datum
cdp_tagquery_or(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(join_trees(TAGQ_OR, PG_GETARG_TAGQUERY(0), PG_GETARG_TAGQUERY(1)));
}

/* ! tagquery */
Datum
cdp_tagquery_not(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(join_trees(TAGQ_NOT, PG_GETARG_TAGQUERY(0), NULL));
}

static bool
same_query(const TagQuery *a, const TagQuery *b)
{
	return VARSIZE(a) == VARSIZE(b) && memcmp(VARDATA(a), VARDATA(b), VARSIZE(a) - VARHDRSZ) == 0;
}

/* tagquery = tagquery */
Datum
cdp_tagquery_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(same_query(PG_GETARG_TAGQUERY(0), PG_GETARG_TAGQUERY(1)));
}

/* tagquery <> tagquery */
Datum
cdp_tagquery_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!same_query(PG_GETARG_TAGQUERY(0), PG_GETARG_TAGQUERY(1)));
}

/* for GROUP BY, DISTINCT and hash joins */
Datum
cdp_tagquery_hash(PG_FUNCTION_ARGS)
{
	TagQuery   *query = PG_GETARG_TAGQUERY(0);

	return hash_any((unsigned char *) VARDATA(query), VARSIZE(query) - VARHDRSZ);
}

Datum
cdp_tagquery_hash_extended(PG_FUNCTION_ARGS)
{
	TagQuery   *query = PG_GETARG_TAGQUERY(0);

	return hash_any_extended((unsigned char *) VARDATA(query), VARSIZE(query) - VARHDRSZ, PG_GETARG_INT64(1));
}

bool
cdp_tagquery_has_segment(const TagQuery *query)
{
	for (uint32 i = 0; i < query->nnodes; i++)
		if (query->nodes[i].kind == TAGQ_SEGMENT)
			return true;
	return false;
}

/* The names of the segments that a query asks for, in the order of its text, each as often as it does. */
Datum
cdp_tagquery_segments(PG_FUNCTION_ARGS)
{
	TagQuery   *query = PG_GETARG_TAGQUERY(0);
	Datum	   *names = palloc(query->nnodes * sizeof(Datum));
	int			n = 0;

	for (uint32 i = 0; i < query->nnodes; i++)
		if (query->nodes[i].kind == TAGQ_SEGMENT)
			names[n++] = PointerGetDatum(cstring_to_text_with_len(TagQueryStrings(query) + query->nodes[i].name,
																  query->nodes[i].name_len));
	PG_RETURN_ARRAYTYPE_P(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
}
