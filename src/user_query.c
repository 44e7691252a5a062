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

/* what the server's own complaint about a text needs: whose text it is, and what it should be */
typedef struct TextContext
{
	ErrorContextCallback callback;
	const char *text;
	const char *hint;
} TextContext;

static void
complain(void *arg)
{
	TextContext *context = arg;

	/* a position counts in this text, not in the statement of the caller */
	if (geterrposition() > 0)
	{
		internalerrposition(geterrposition());
		internalerrquery(context->text);
		errposition(0);
	}
	/* names that are not found come with hints of their own */
	switch (geterrcode())
	{
		case ERRCODE_SYNTAX_ERROR:
		case ERRCODE_DATATYPE_MISMATCH:
		case ERRCODE_GROUPING_ERROR:
		case ERRCODE_WINDOWING_ERROR:
		case ERRCODE_FEATURE_NOT_SUPPORTED:
		case ERRCODE_UNDEFINED_PARAMETER:
			errhint("%s", context->hint);
	}
}

static void
begin_text(TextContext *context, const char *text, const char *hint)
{
	context->text = text;
	context->hint = hint;
	context->callback.callback = complain;
	context->callback.arg = context;
	context->callback.previous = error_context_stack;
	error_context_stack = &context->callback;
}

static void
end_text(TextContext *context)
{
	error_context_stack = context->callback.previous;
}

List *
cdp_user_parse(const char *text, const char *hint)
{
	TextContext context;
	List	   *raw;

	begin_text(&context, text, hint);
	raw = raw_parser(text, RAW_PARSE_DEFAULT);
	end_text(&context);
	return raw;
}

Query *
cdp_user_query(const char *text, const char *what, int sqlstate, const char *hint)
{
	TextContext context;
	List	   *raw;
	RawStmt    *stmt;
	Query	   *query;

	begin_text(&context, text, hint);
	raw = raw_parser(text, RAW_PARSE_DEFAULT);
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
	end_text(&context);
	if (query->commandType != CMD_SELECT || query->hasModifyingCTE || query->rowMarks != NIL)
		ereport(ERROR,
				(errcode(sqlstate ? sqlstate : ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the text of %s must not write or lock rows", what),
				 errhint("%s", hint)));
	return query;
}

Query *
cdp_user_condition(const char *sql, QueryEnvironment *env, const char *hint)
{
	TextContext context;
	List	   *raw;
	Query	   *query;

	begin_text(&context, sql, hint);
	raw = raw_parser(sql, RAW_PARSE_DEFAULT);
	Assert(list_length(raw) == 1);
	query = parse_analyze_fixedparams(linitial_node(RawStmt, raw), sql, NULL, 0, env);
	end_text(&context);
	return query;
}

Node *
cdp_user_expression(const char *text, const char *hint)
{
	TextContext context;
	List	   *raw;
	SelectStmt *stmt;
	ResTarget  *target;

	begin_text(&context, text, hint);
	raw = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	end_text(&context);
	stmt = castNode(SelectStmt, linitial_node(RawStmt, raw)->stmt);

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
