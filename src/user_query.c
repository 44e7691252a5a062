/*
 * user_query.c
 *	  SQL that a user hands in as text: what it is, before it runs.
 *
 * A text that becomes part of a larger statement must be what it claims to
 * be, whatever brackets, comments and semicolons are in it.  So it is parsed
 * alone, by the server's grammar, and judged by its tree.
 *
 *		"SELECT 1; DROP TABLE x"				two statements
 *		"l.a = r.a) UNION SELECT (1, 2"			no expression
 *		"l.a = r.a --"							one
 *
 * Tests: test/sql/value_table.sql, test/sql/identity_match.sql.
 */
#include "user_query.h"

#include "parser/analyze.h"
#include "parser/parser.h"

/* the server's own syntax errors come without a hint */
static void
add_hint(void *arg)
{
	if (geterrcode() == ERRCODE_SYNTAX_ERROR)
		errhint("%s", (const char *) arg);
}

static List *
parse(const char *text, RawParseMode mode, const char *hint)
{
	ErrorContextCallback callback = {error_context_stack, add_hint, unconstify(char *, hint)};
	List	   *raw;

	error_context_stack = &callback;
	raw = raw_parser(text, mode);
	error_context_stack = callback.previous;
	return raw;
}

Query *
cdp_user_query(const char *text, const char *what, int sqlstate, const char *hint)
{
	List	   *raw = parse(text, RAW_PARSE_DEFAULT, hint);
	RawStmt    *stmt;
	Query	   *query;

	if (list_length(raw) != 1)
		ereport(ERROR,
				(errcode(sqlstate ? sqlstate : ERRCODE_SYNTAX_ERROR),
				 errmsg("the text of %s must be one query, not %d", what, list_length(raw)),
				 errhint("%s", hint)));
	stmt = linitial_node(RawStmt, raw);
	if (!IsA(stmt->stmt, SelectStmt) || castNode(SelectStmt, stmt->stmt)->intoClause != NULL)
		ereport(ERROR,
				(errcode(sqlstate ? sqlstate : ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the text of %s must be a SELECT", what),
				 errhint("%s", hint)));
	query = parse_analyze_fixedparams(stmt, text, NULL, 0, NULL);
	if (query->commandType != CMD_SELECT || query->hasModifyingCTE || query->rowMarks != NIL)
		ereport(ERROR,
				(errcode(sqlstate ? sqlstate : ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the text of %s must not write or lock rows", what),
				 errhint("%s", hint)));
	return query;
}

Node *
cdp_user_expression(const char *text, const char *hint)
{
	List	   *raw = parse(text, RAW_PARSE_PLPGSQL_EXPR, hint);
	SelectStmt *stmt = castNode(SelectStmt, linitial_node(RawStmt, raw)->stmt);
	ResTarget  *target;

	/* the grammar of PL/pgSQL allows what may follow a SELECT list */
	if (list_length(stmt->targetList) != 1 || stmt->op != SETOP_NONE || stmt->distinctClause ||
		stmt->intoClause || stmt->fromClause || stmt->whereClause || stmt->groupClause ||
		stmt->havingClause || stmt->windowClause || stmt->valuesLists || stmt->sortClause ||
		stmt->limitOffset || stmt->limitCount || stmt->lockingClause || stmt->withClause)
		return NULL;
	target = linitial_node(ResTarget, stmt->targetList);
	if (target->name != NULL || target->indirection != NIL ||
		(IsA(target->val, ColumnRef) && IsA(llast(castNode(ColumnRef, target->val)->fields), A_Star)))
		return NULL;
	return target->val;
}
