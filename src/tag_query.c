/*
 * tag_query.c
 *	  Type cdp.tagquery: its parser, its text and binary form.
 *
 *		or		= and { "|" and }
 *		and		= operand { "&" operand }
 *		operand	= "!" operand | "(" or ")" | "*" | term
 *		term	= name | name ".*" | name operator value | name "in" "(" value { "," value } ")" | "segment" "(" name ")"
 *		value	= as in a tagset | "now" [ ("+" | "-") digits ("h" | "d" | "w" | "mo" | "y") ]
 *
 * A node is written when its operand begins, and & or | is put before its
 * first operand when the sign is met.  An operand that is of the kind of the
 * node above it gives its children to it, so there is one tree for what means
 * the same by the law of associativity.
 *
 * The binary form is a version byte, 1, and the text: what comes in passes
 * the one parser there is.
 *
 * SQL: sql/tag_query.sql.  Tests: test/sql/tag_query.sql, test/pgtap/tag_query.sql.  Page: doc/tag_query.md.
 */
#include "tag_query.h"

#include "lib/stringinfo.h"
#include "libpq/pqformat.h"

PG_FUNCTION_INFO_V1(cdp_tagquery_in);
PG_FUNCTION_INFO_V1(cdp_tagquery_out);
PG_FUNCTION_INFO_V1(cdp_tagquery_recv);
PG_FUNCTION_INFO_V1(cdp_tagquery_send);

#define BINARY_VERSION	1

/* hints that are used more than once */
#define HINT_JOIN		"Terms are joined by & (and) and | (or); ! is not: region.华东.* & (aov > 1000 | 高价值) & !churned."
#define HINT_STAR		"* alone is everyone; behind a name and a dot it is the name with all below it: region.华东.*."
#define HINT_NOW		"Write now, or now with + or -, a number and h, d, w, mo or y: now-30d, now+2w, now-3mo."
#define HINT_IN			"Write grade in (gold, platinum)."
#define HINT_PREFIX		"A value belongs to one tag: region.华东 = 1. Ask for several with |."

typedef struct QueryParser
{
	TagScan		scan;
	int			depth;			/* of ! and ( */
	int			terms;
	uint32		nnodes;
	uint32		room;
	TagNode    *nodes;			/* their end is how many nodes they are */
	StringInfoData strings;
	char		buf[TAG_MAX_NAME];
} QueryParser;

static void parse_or(QueryParser *p);

/* One more node at place i. */
static TagNode *
add_node(QueryParser *p, uint32 i, TagNodeKind kind)
{
	if (p->nnodes == p->room)
	{
		p->room *= 2;
		p->nodes = repalloc(p->nodes, p->room * sizeof(TagNode));
	}
	memmove(&p->nodes[i + 1], &p->nodes[i], (p->nnodes - i) * sizeof(TagNode));
	p->nnodes++;
	memset(&p->nodes[i], 0, sizeof(TagNode));
	p->nodes[i].kind = kind;
	p->nodes[i].end = 1;
	return &p->nodes[i];
}

static TagNode *
add_leaf(QueryParser *p, TagNodeKind kind)
{
	if (kind != TAGQ_IN && ++p->terms > TAGQUERY_MAX_TERMS)
		cdp_tagquery_refuse_terms();
	return add_node(p, p->nnodes, kind);
}

/* What comes next is at p->scan.at, blanks are behind us; '\0' at the end. */
static char
peek(QueryParser *p)
{
	cdp_tag_skip_space(&p->scan);
	return p->scan.at < p->scan.end ? *p->scan.at : '\0';
}

/* The character behind the next one. */
static char
peek_second(QueryParser *p)
{
	return p->scan.end - p->scan.at > 1 ? p->scan.at[1] : '\0';
}

/* Is the next word this one? */
static bool
at_word(QueryParser *p, const char *word)
{
	int			len = strlen(word);

	return cdp_tag_word_end(p->scan.at, p->scan.end) - p->scan.at == len && pg_strncasecmp(p->scan.at, word, len) == 0;
}

/* The name of a node. */
static void
take_name(QueryParser *p, bool *quoted, TagNode *node)
{
	node->name_len = cdp_tag_scan_name(&p->scan, p->buf, quoted);
	appendBinaryStringInfo(&p->strings, p->buf, node->name_len);
}

/* now-30d.  Answers false, having read nothing, when the word is another one. */
static bool
take_now(QueryParser *p, TagNode *node)
{
	static const struct
	{
		const char *name;
		TagNow		now;
	}			units[] = {{"h", TAGQ_HOURS}, {"d", TAGQ_DAYS}, {"w", TAGQ_WEEKS}, {"mo", TAGQ_MONTHS}, {"y", TAGQ_YEARS}};
	const char *start = p->scan.at;
	const char *end = cdp_tag_word_end(start, p->scan.end);
	const char *at = start + 3;
	const char *digits;
	int			count = 0;
	bool		minus;

	if (end - start < 3 || memcmp(start, "now", 3) != 0 || (at < end && *at != '+' && *at != '-'))
		return false;
	p->scan.at = end;
	node->value_type = TAG_DATE;
	node->now = TAGQ_DAYS;
	node->value.date = 0;
	if (at == end)
		return true;
	minus = *at++ == '-';
	for (digits = at; at < end && *at >= '0' && *at <= '9'; at++)
		if (count <= TAGQUERY_MAX_UNITS)
			count = count * 10 + (*at - '0');
	for (int i = 0; at > digits && i < lengthof(units); i++)
	{
		if (end - at != strlen(units[i].name) || memcmp(at, units[i].name, end - at) != 0)
			continue;
		if (count > TAGQUERY_MAX_UNITS)
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("date of a tagquery is too far from now"),
					 errdetail("The limit is %d units.", TAGQUERY_MAX_UNITS),
					 errhint(HINT_NOW)));
		/* no days and no weeks are the same day, no hours is the very moment */
		if (count > 0 || units[i].now == TAGQ_HOURS)
			node->now = units[i].now;
		node->value.date = minus ? -count : count;
		return true;
	}
	cdp_tag_scan_error(&p->scan, start, "a date relative to now is not understood", HINT_NOW);
}

/* The value of a node. */
static void
take_value(QueryParser *p, TagNode *node)
{
	TagValue	value;

	cdp_tag_skip_space(&p->scan);
	if (take_now(p, node))
		return;
	cdp_tag_scan_value(&p->scan, &value, p->buf);
	node->value_type = value.type;
	switch (value.type)
	{
		case TAG_NUMBER:
			node->value.number = value.number;
			break;
		case TAG_DATE:
			node->value.date = value.date;
			break;
		case TAG_TEXT:
			node->value.text.len = value.text_len;
			appendBinaryStringInfo(&p->strings, value.text, value.text_len);
			break;
		case TAG_NONE:
			Assert(false);
	}
}

/* Is there an operator of comparison?  Reads it. */
static bool
take_operator(QueryParser *p, uint8 *op)
{
	char		c = peek(p);
	bool		equals = peek_second(p) == '=';

	if (c == '=')
	{
		*op = TAGQ_EQ;
		equals = false;
	}
	else if (c == '!' && equals)
		*op = TAGQ_NE;
	else if (c == '<')
		*op = equals ? TAGQ_LE : TAGQ_LT;
	else if (c == '>')
		*op = equals ? TAGQ_GE : TAGQ_GT;
	else
		return false;
	if (c == '<' && peek_second(p) == '>')
		cdp_tag_scan_error(&p->scan, p->scan.at, "there is no operator <>", "Write !=.");
	p->scan.at += equals ? 2 : 1;
	if (p->scan.at < p->scan.end && *p->scan.at == '=')
		cdp_tag_scan_error(&p->scan, p->scan.at, "an = too many", "The operators are =, !=, <, <=, > and >=.");
	return true;
}

/* (value, value) */
static void
take_list(QueryParser *p, uint32 i)
{
	if (peek(p) != '(')
		cdp_tag_scan_error(&p->scan, p->scan.at, "a ( is expected behind in", HINT_IN);
	do
	{
		p->scan.at++;
		take_value(p, add_leaf(p, TAGQ_VALUE));
		CHECK_FOR_INTERRUPTS();
	} while (peek(p) == ',');
	if (peek(p) != ')')
		cdp_tag_scan_error(&p->scan, p->scan.at, "a , or ) is expected in a list of values", HINT_IN);
	p->scan.at++;
	p->nodes[i].end = p->nnodes - i;
}

static void
refuse_star(QueryParser *p)
{
	if (p->scan.at < p->scan.end && (*p->scan.at == '*' || *p->scan.at == '"' ||
									 cdp_tag_word_end(p->scan.at, p->scan.end) > p->scan.at))
		cdp_tag_scan_error(&p->scan, p->scan.at, "something follows a *", HINT_STAR);
}

/* All that begins with a name. */
static void
parse_term(QueryParser *p)
{
	uint32		i = p->nnodes;
	TagNode    *node = add_leaf(p, TAGQ_HAS);
	const char *start;
	bool		quoted;

	take_name(p, &quoted, node);
	if (p->scan.at < p->scan.end && *p->scan.at == '.')
	{
		/* a name ends before a dot only when a * is behind that */
		p->scan.at += 2;
		node->kind = TAGQ_BELOW;
		refuse_star(p);
	}
	else if (p->scan.at < p->scan.end && *p->scan.at == '*')
		cdp_tag_scan_error(&p->scan, p->scan.at, "a * behind a name without a dot", HINT_STAR);
	if (peek(p) == '(')
	{
		if (quoted || node->kind != TAGQ_HAS || node->name_len != 7 || memcmp(p->buf, "segment", 7) != 0)
			cdp_tag_scan_error(&p->scan, p->scan.at, "a ( behind a name", HINT_JOIN);
		p->strings.len -= node->name_len;
		p->scan.at++;
		cdp_tag_skip_space(&p->scan);
		node->kind = TAGQ_SEGMENT;
		take_name(p, NULL, node);
		if (peek(p) != ')')
			cdp_tag_scan_error(&p->scan, p->scan.at, "a ) is expected behind the name of the segment",
							   "Write segment(\"big spenders\"): one name, in double quotes when there are blanks in it.");
		p->scan.at++;
		return;
	}
	start = p->scan.at;
	if (take_operator(p, &node->op))
	{
		if (node->kind == TAGQ_BELOW)
			cdp_tag_scan_error(&p->scan, start, "a comparison behind .*", HINT_PREFIX);
		node->kind = TAGQ_COMPARE;
		cdp_tag_skip_space(&p->scan);
		start = p->scan.at;
		take_value(p, node);
		if (node->value_type == TAG_TEXT && node->op != TAGQ_EQ && node->op != TAGQ_NE)
			cdp_tag_scan_error(&p->scan, start, "a text is neither smaller nor greater",
							   "Text is compared with =, != and in; a number is written 1000, a date 2026-01-31, both without quotes.");
	}
	else if (at_word(p, "in"))
	{
		if (node->kind == TAGQ_BELOW)
			cdp_tag_scan_error(&p->scan, start, "a comparison behind .*", HINT_PREFIX);
		node->kind = TAGQ_IN;
		p->terms--;
		p->scan.at += 2;
		take_list(p, i);
	}
}

/* One level deeper; a tree within the limit prints with no more of these than it has levels. */
static void
descend(QueryParser *p)
{
	if (++p->depth > TAGQUERY_MAX_DEPTH)
		cdp_tagquery_refuse_depth();
	p->scan.at++;
}

static void
parse_operand(QueryParser *p)
{
	uint32		i = p->nnodes;
	const char *open;

	switch (peek(p))
	{
		case '!':
			if (peek_second(p) == '=')
				cdp_tag_scan_error(&p->scan, p->scan.at, "a name is expected before !=", "Write gender != female.");
			descend(p);
			add_node(p, i, TAGQ_NOT);
			parse_operand(p);
			p->nodes[i].end = p->nnodes - i;
			p->depth--;
			break;
		case '(':
			open = p->scan.at;
			descend(p);
			parse_or(p);
			if (peek(p) == '\0')
				cdp_tag_scan_error(&p->scan, open, "a ( is not closed", "Close it with ).");
			if (*p->scan.at != ')')
				cdp_tag_scan_error(&p->scan, p->scan.at, "&, | or ) is expected", HINT_JOIN);
			p->scan.at++;
			p->depth--;
			break;
		case '*':
			add_leaf(p, TAGQ_EVERYONE);
			p->scan.at++;
			refuse_star(p);
			break;
		case '\0':
		case ')':
		case '&':
		case '|':
			cdp_tag_scan_error(&p->scan, p->scan.at, "a term is expected", HINT_JOIN);
			break;
		default:
			parse_term(p);
	}
}

/* Operands with a sign between them; a node over them when there are several. */
static void
parse_chain(QueryParser *p, char sign, TagNodeKind kind, void (*parse_part) (QueryParser *))
{
	uint32		first = p->nnodes;
	uint32		i;

	CHECK_FOR_INTERRUPTS();
	parse_part(p);
	if (peek(p) != sign)
		return;
	if (p->nodes[first].kind != kind)
		add_node(p, first, kind);
	while (peek(p) == sign)
	{
		p->scan.at++;
		if (p->scan.at < p->scan.end && *p->scan.at == sign)
			cdp_tag_scan_error(&p->scan, p->scan.at, "a sign is doubled", "Write & and | once.");
		i = p->nnodes;
		parse_part(p);
		if (p->nodes[i].kind == kind)
		{
			p->nnodes--;
			memmove(&p->nodes[i], &p->nodes[i + 1], (p->nnodes - i) * sizeof(TagNode));
		}
	}
	p->nodes[first].end = p->nnodes - first;
}

static void
parse_and(QueryParser *p)
{
	parse_chain(p, '&', TAGQ_AND, parse_operand);
}

static void
parse_or(QueryParser *p)
{
	parse_chain(p, '|', TAGQ_OR, parse_and);
}

TagQuery *
cdp_tagquery_parse(const char *text)
{
	QueryParser p = {0};
	TagQuery   *query;

	p.scan.what = "tagquery";
	p.scan.start = p.scan.at = text;
	p.scan.end = text + strlen(text);
	if (p.scan.end - text > TAGQUERY_MAX_BYTES)
		cdp_tagquery_refuse_bytes();
	if (peek(&p) == '\0')
		cdp_tag_scan_error(&p.scan, p.scan.at, "there is nothing in it", "Everyone is *, who has a tag its name. " HINT_JOIN);
	p.room = 16;
	p.nodes = palloc(p.room * sizeof(TagNode));
	initStringInfo(&p.strings);
	parse_or(&p);
	if (peek(&p) == ')')
		cdp_tag_scan_error(&p.scan, p.scan.at, "a ) too many", "Leave it out, or open it with (.");
	if (p.scan.at < p.scan.end)
		cdp_tag_scan_error(&p.scan, p.scan.at, "& or | is expected", HINT_JOIN);
	query = cdp_tagquery_make(p.nodes, p.nnodes, p.strings.data, p.strings.len);
	pfree(p.nodes);
	pfree(p.strings.data);
	return query;
}

/* cdp.tagquery from text */
Datum
cdp_tagquery_in(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(cdp_tagquery_parse(PG_GETARG_CSTRING(0)));
}

/* cdp.tagquery to text */
Datum
cdp_tagquery_out(PG_FUNCTION_ARGS)
{
	PG_RETURN_CSTRING(cdp_tagquery_text(PG_GETARG_TAGQUERY(0)));
}

pg_noreturn static void
refuse_bytes(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
			 errmsg("invalid binary form of type cdp.tagquery"),
			 errdetail_internal("%s", why),
			 errhint("It is a byte 1 and the text of the query.")));
}

/* cdp.tagquery from its binary form */
Datum
cdp_tagquery_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	MemoryContext caller = CurrentMemoryContext;
	TagQuery   *query = NULL;
	char	   *text;
	int			len;

	if (pq_getmsgbyte(buf) != BINARY_VERSION)
		refuse_bytes("Its version is not known.");
	text = pq_getmsgtext(buf, buf->len - buf->cursor, &len);
	if (strlen(text) != len)
		refuse_bytes("There is a zero byte in it.");
	PG_TRY();
	{
		query = cdp_tagquery_parse(text);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		/* the same message; the limits keep their codes */
		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		if (edata->sqlerrcode == ERRCODE_INVALID_TEXT_REPRESENTATION)
			edata->sqlerrcode = ERRCODE_INVALID_BINARY_REPRESENTATION;
		FlushErrorState();
		ReThrowError(edata);
	}
	PG_END_TRY();
	PG_RETURN_POINTER(query);
}

/* cdp.tagquery to its binary form */
Datum
cdp_tagquery_send(PG_FUNCTION_ARGS)
{
	char	   *text = cdp_tagquery_text(PG_GETARG_TAGQUERY(0));
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbyte(&buf, BINARY_VERSION);
	pq_sendtext(&buf, text, strlen(text));
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}
