/*
 * tag_query_text.c
 *	  cdp.tagquery as text: one spelling for every tree.
 *
 *		!(a = 1)&((b)|c.*)		prints as	!(a = 1) & (b | c.*)
 *
 * Parentheses stand where the tree needs them, and round what has an
 * operator or a list behind a !, where nobody should have to know what
 * binds closer.
 *
 * The words in, segment and now are words of the language only where no name
 * can stand (behind a name, before a parenthesis, as a value), so as names
 * they need no quotes.  A text "now" has them, see cdp_tag_put_value.
 *
 * SQL: sql/tag_query.sql.  Tests: test/sql/tag_query.sql, test/pgtap/tag_query.sql.  Page: doc/tag_query.md.
 */
#include "tag_query.h"

#include "lib/stringinfo.h"

static const char *const operators[] = {
	[TAGQ_EQ] = "=",
	[TAGQ_NE] = "!=",
	[TAGQ_LT] = "<",
	[TAGQ_LE] = "<=",
	[TAGQ_GT] = ">",
	[TAGQ_GE] = ">="
};

static const char *const units[] = {
	[TAGQ_FIXED] = "",
	[TAGQ_HOURS] = "h",
	[TAGQ_DAYS] = "d",
	[TAGQ_WEEKS] = "w",
	[TAGQ_MONTHS] = "mo",
	[TAGQ_YEARS] = "y"
};

static void
put_value(StringInfo out, const TagQuery *query, const TagNode *node)
{
	TagValue	value;

	if (node->now == TAGQ_DAYS && node->value.date == 0)
		appendStringInfoString(out, "now");
	else if (node->now != TAGQ_FIXED)
		appendStringInfo(out, "now%c%d%s", node->value.date > 0 ? '+' : '-', abs((int) node->value.date), units[node->now]);
	else
	{
		cdp_tagquery_value(query, node, &value);
		cdp_tag_put_value(out, &value);
	}
}

static void
put_term(StringInfo out, const TagQuery *query, const TagNode *node)
{
	const char *name = TagQueryStrings(query) + node->name;

	switch ((TagNodeKind) node->kind)
	{
		case TAGQ_EVERYONE:
			appendStringInfoChar(out, '*');
			break;
		case TAGQ_HAS:
			cdp_tag_put_name(out, name, node->name_len);
			break;
		case TAGQ_BELOW:
			cdp_tag_put_name(out, name, node->name_len);
			appendStringInfoString(out, ".*");
			break;
		case TAGQ_COMPARE:
			cdp_tag_put_name(out, name, node->name_len);
			appendStringInfo(out, " %s ", operators[node->op]);
			put_value(out, query, node);
			break;
		case TAGQ_IN:
			cdp_tag_put_name(out, name, node->name_len);
			appendStringInfoString(out, " in (");
			for (const TagNode *v = node + 1; v < &query->nodes[node->end]; v++)
			{
				if (v > node + 1)
					appendStringInfoString(out, ", ");
				put_value(out, query, v);
			}
			appendStringInfoChar(out, ')');
			break;
		case TAGQ_SEGMENT:
			appendStringInfoString(out, "segment(");
			cdp_tag_put_name(out, name, node->name_len);
			appendStringInfoChar(out, ')');
			break;
		default:
			Assert(false);
	}
}

/* A node with all below it. */
static void
put_node(StringInfo out, const TagQuery *query, uint32 i)
{
	const TagNode *node = &query->nodes[i];

	if (TagNodeIsTerm(node))
	{
		put_term(out, query, node);
		return;
	}
	if (node->kind == TAGQ_NOT)
		appendStringInfoChar(out, '!');
	for (uint32 c = i + 1; c < node->end; c = query->nodes[c].end)
	{
		const TagNode *child = &query->nodes[c];
		bool		parens = node->kind == TAGQ_NOT ?
			child->kind == TAGQ_AND || child->kind == TAGQ_OR || child->kind == TAGQ_COMPARE || child->kind == TAGQ_IN :
			node->kind == TAGQ_AND && child->kind == TAGQ_OR;

		if (c > i + 1)
			appendStringInfoString(out, node->kind == TAGQ_AND ? " & " : " | ");
		if (parens)
			appendStringInfoChar(out, '(');
		put_node(out, query, c);
		if (parens)
			appendStringInfoChar(out, ')');
	}
}

char *
cdp_tagquery_text(const TagQuery *query)
{
	StringInfoData out;

	initStringInfo(&out);
	put_node(&out, query, 0);
	return out.data;
}

char *
cdp_tagquery_term_text(const TagQuery *query, const TagNode *node)
{
	StringInfoData out;

	initStringInfo(&out);
	put_term(&out, query, node);
	return out.data;
}
