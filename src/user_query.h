/*
 * user_query.h
 *	  SQL that a user hands in as text: what it is, before it runs.
 */
#ifndef CDP_USER_QUERY_H
#define CDP_USER_QUERY_H

#include "cdp.h"

#include "nodes/parsenodes.h"
#include "utils/queryenvironment.h"

/*
 * The one SELECT in the text, looked up in the catalog under the search_path
 * in force; it writes nothing and locks no rows.  what names the argument in
 * messages.  sqlstate is raised for anything that is not one such SELECT; 0
 * tells a syntax error (42601) from a kind of statement that is not taken
 * (0A000).
 */
extern Query *cdp_user_query(const char *text, const char *what, int sqlstate, const char *hint);

/* the statements in the text as the grammar gives them, for who has more to say about them than that they are no query */
extern List *cdp_user_parse(const char *text, const char *hint);

/* the one expression in the text, as the grammar gives it; NULL when it is not exactly one */
extern Node *cdp_user_expression(const char *text, const char *hint);

/* a statement of ours around an expression of the user's, looked up in the catalog */
extern Query *cdp_user_condition(const char *sql, QueryEnvironment *env, const char *hint);

#endif							/* CDP_USER_QUERY_H */
