/*
 * segment_definition.c
 *	  Definitions of segments and rules of tags: checked, and run.
 *
 * When it is written, a query is parsed, analysed, rewritten and planned as
 * the role that writes it, so whatever is wrong with it is said before
 * anything is stored:
 *
 *		parse		one statement, a SELECT, nothing that writes
 *		analyse		tables, functions and columns exist, no parameters
 *		walk		no row locks, no temporary tables; which segments it reads
 *		EXPLAIN		the role may read and execute all of it
 *
 * When it is run, it is as with a materialized view: as the role that wrote
 * it, in a security-restricted operation, under its search_path with the
 * temporary schema last, so that a table of the session that refreshes hides
 * nothing.  What is stored could have been forged by the owner of the tables,
 * so only roles that may act as the one named there get it run.
 *
 * A tagquery needs none of this: it is answered from tags by our own code.
 *
 * SQL: sql/segment.sql, sql/tag_rule.sql.  Tests: test/sql/segment.sql.
 * Page: doc/segment.md.
 */
#include "segment_definition.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_func.h"
#include "probe.h"
#include "rewrite/rewriteHandler.h"
#include "tag_query.h"
#include "tcop/dest.h"
#include "user_query.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define QUERY_HINT	"A definition is a tagquery, or one SELECT with the column customer_id of type bigint."
#define RULE_HINT	"A rule is a tagquery, or one SELECT with the columns customer_id bigint and, if you like, value and valid_until timestamptz."

extern Datum cdp_audience_of(PG_FUNCTION_ARGS);
extern Datum cdp_audience_and(PG_FUNCTION_ARGS);
extern Datum cdp_audience_or(PG_FUNCTION_ARGS);
extern Datum cdp_audience_minus(PG_FUNCTION_ARGS);

static const char *const column_names[] = {"customer_id", "value", "valid_until"};

static const char *
hint_of(const CdpDefinition *d)
{
	return d->columns == 1 ? QUERY_HINT : RULE_HINT;
}

/* past blanks, comments and opening brackets */
static const char *
first_word(const char *p)
{
	for (;;)
	{
		if (*p == ' ' || (*p >= '\t' && *p <= '\r') || *p == '(')
			p++;
		else if (p[0] == '-' && p[1] == '-')
			p += strcspn(p, "\n");
		else if (p[0] == '/' && p[1] == '*')
		{
			int			depth = 0;

			do
			{
				int			step = p[0] == '/' && p[1] == '*' ? 1 : p[0] == '*' && p[1] == '/' ? -1 : 0;

				depth += step;
				p += step != 0 ? 2 : 1;
			} while (depth > 0 && *p != '\0');
		}
		else
			return p;
	}
}

static bool
begins_with(const char *text, const char *const *words)
{
	const char *p = first_word(text);
	int			len = cdp_tag_word_end(p, p + strlen(p)) - p;

	for (; *words != NULL; words++)
	{
		if (len == strlen(*words) && pg_strncasecmp(p, *words, len) == 0)
			return true;
	}
	return false;
}

bool
cdp_definition_is_query(const char *text)
{
	static const char *const words[] = {"select", "with", "values", "table", NULL};

	return begins_with(text, words);
}

static const char *const writes[] = {"insert", "update", "delete", "merge", "truncate", "create", "alter", "drop", "copy", "call", NULL};
static const char *const locks[] = {"lock", NULL};

/* a statement that writes or locks would be a malformed tagquery; but two words in a row are none by intention */
static bool
is_command(const char *text, const char *const *words)
{
	const char *p = first_word(text);

	p = cdp_tag_word_end(p, p + strlen(p));
	return begins_with(text, words) && (*p == ' ' || (*p >= '\t' && *p <= '\r')) && isalpha((unsigned char) *first_word(p));
}

const char *
cdp_definition_path(void)
{
	return GetConfigOption("search_path", false, false);
}

pg_noreturn static void
refuse_lock(const CdpDefinition *d)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s must not lock rows", d->what),
			 errhint("Leave FOR UPDATE, FOR SHARE and LOCK out.")));
}

/* ------------------------------------------------------------ what it reads */

typedef struct Walk
{
	const CdpDefinition *definition;
	Oid			schema;
	Oid			tagquery;
	CdpAsked   *asked;
} Walk;

static void
add_name(List **names, char *name)
{
	ListCell   *lc;

	foreach(lc, *names)
	{
		if (strcmp(lfirst(lc), name) == 0)
			return;
	}
	*names = lappend(*names, name);
}

static void
add_tagquery(Walk *w, const TagQuery *query)
{
	for (uint32 i = 0; i < query->nnodes; i++)
	{
		const TagNode *node = &query->nodes[i];

		char	   *name = pnstrdup(TagQueryStrings(query) + node->name, node->name_len);

		if (node->kind == TAGQ_SEGMENT)
			add_name(&w->asked->segments, name);
		else if (node->kind == TAGQ_HAS || node->kind == TAGQ_COMPARE || node->kind == TAGQ_IN)
			add_name(&w->asked->tags, name);
		else if (node->kind == TAGQ_BELOW)
			add_name(&w->asked->tags, psprintf("%s.*", name));
	}
}

/* a call of ours that reads a segment: which argument names it, -1: it is no such call */
static int
segment_argument(Walk *w, Oid function)
{
	static const struct
	{
		const char *name;
		int			argument;
	}			readers[] = {
		{"segment_members", 0}, {"segment_targets", 0}, {"segment_audience", 0}, {"in_segment", 1}
	};
	char	   *name;

	if (get_func_namespace(function) != w->schema)
		return -1;
	name = get_func_name(function);
	for (int i = 0; i < lengthof(readers); i++)
	{
		if (strcmp(name, readers[i].name) == 0)
			return readers[i].argument;
	}
	return -1;
}

static void
look_at_call(Walk *w, FuncExpr *call)
{
	int			wanted = segment_argument(w, call->funcid);
	int			place = 0;
	ListCell   *lc;

	if (wanted < 0)
		return;
	foreach(lc, call->args)
	{
		Node	   *arg = lfirst(lc);
		bool		is_it = place++ == wanted;

		if (IsA(arg, NamedArgExpr))
		{
			is_it = ((NamedArgExpr *) arg)->argnumber == wanted;
			arg = (Node *) ((NamedArgExpr *) arg)->arg;
		}
		if (!is_it)
			continue;
		if (!contain_volatile_functions(arg) && !contain_var_clause(arg))
			arg = eval_const_expressions(NULL, arg);
		if (!IsA(arg, Const) || ((Const *) arg)->constisnull)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s asks for members of a segment that is not named by a constant", w->definition->what),
					 errhint("Write the name of the segment as a literal, so that it can be refreshed before.")));
		add_name(&w->asked->segments, TextDatumGetCString(((Const *) arg)->constvalue));
	}
}

static bool
walk(Node *node, void *arg)
{
	Walk	   *w = arg;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		if (((Query *) node)->rowMarks != NIL)
			refuse_lock(w->definition);
		return query_tree_walker((Query *) node, walk, arg, QTW_EXAMINE_RTES_BEFORE);
	}
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION && get_rel_persistence(rte->relid) == RELPERSISTENCE_TEMP)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s reads a temporary table", w->definition->what),
					 errhint("It is refreshed in other sessions: use a table that they see.")));
		return false;
	}
	if (IsA(node, FuncExpr))
		look_at_call(w, (FuncExpr *) node);
	else if (IsA(node, Const) && ((Const *) node)->consttype == w->tagquery && !((Const *) node)->constisnull)
		add_tagquery(w, DatumGetTagQuery(((Const *) node)->constvalue));
	return expression_tree_walker(node, walk, arg);
}

/* ------------------------------------------------------------------- check */

pg_noreturn static void
refuse_write(const CdpDefinition *d)
{
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("%s must not write", d->what),
			 errhint("%s", hint_of(d))));
}

static bool
is_write(Node *node, void *nothing)
{
	if (node == NULL)
		return false;
	if (IsA(node, InsertStmt) || IsA(node, UpdateStmt) || IsA(node, DeleteStmt) || IsA(node, MergeStmt) ||
		(IsA(node, SelectStmt) && ((SelectStmt *) node)->intoClause != NULL))
		return true;
	return raw_expression_tree_walker(node, is_write, nothing);
}

/* what says so by its form alone; everything else is found by the analysis */
static void
refuse_writes(const CdpDefinition *d, Node *stmt)
{
	if (IsA(stmt, SelectStmt) || IsA(stmt, InsertStmt) || IsA(stmt, UpdateStmt) || IsA(stmt, DeleteStmt) || IsA(stmt, MergeStmt))
	{
		if (is_write(stmt, NULL))
			refuse_write(d);
	}
}

static bool
is_value_type(Oid type)
{
	switch (getBaseType(type))
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case DATEOID:
			return true;
	}
	return false;
}

/* name and type of column n, from 0 on */
static void
check_column(const CdpDefinition *d, int n, const char *name, Oid type)
{
	if (n >= d->columns || n >= lengthof(column_names))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("%s has more than %d column%s", d->what, d->columns, d->columns == 1 ? "" : "s"),
				 errhint("%s", hint_of(d))));
	if (name == NULL || strcmp(name, column_names[n]) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column %d of %s must be called %s", n + 1, d->what, column_names[n]),
				 errhint("%s", hint_of(d))));
	if (n == 1 ? !is_value_type(type) : getBaseType(type) != (n == 0 ? INT8OID : TIMESTAMPTZOID))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column %s of %s must be %s, not %s", column_names[n], d->what,
						n == 0 ? "bigint" : n == 1 ? "a number, a date or text" : "timestamptz", format_type_be(type)),
				 errhint("Cast it in the query.")));
}

/* would it be allowed to run?  Rights are looked at where execution begins, EXPLAIN goes as far. */
static void
explain(const char *text)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(psprintf("EXPLAIN %s", text), false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not plan a definition");
	SPI_finish();
}

static void
check_query(const CdpDefinition *d, Walk *w)
{
	List	   *raw = cdp_user_parse(d->text, hint_of(d));
	int			n = 0;
	Query	   *query;
	ListCell   *lc;

	if (list_length(raw) == 1)
		refuse_writes(d, linitial_node(RawStmt, raw)->stmt);
	query = cdp_user_query(d->text, d->what, 0, hint_of(d));
	foreach(lc, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (entry->resjunk)
			continue;
		check_column(d, n++, entry->resname, exprType((Node *) entry->expr));
		if (n == 2)
		{
			w->asked->has_value = true;
			w->asked->value_type = exprType((Node *) entry->expr);
		}
	}
	if (n == 0)
		check_column(d, 0, NULL, InvalidOid);
	foreach(lc, QueryRewrite(copyObject(query)))
		(void) walk((Node *) lfirst_node(Query, lc), w);
	explain(d->text);
}

/* who may count customers may have a tagquery counted */
static void
check_tagquery_right(const CdpDefinition *d, Oid role)
{
	Oid			args[2];
	List	   *name = list_make2(makeString("cdp"), makeString("audience_of"));

	args[0] = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("tagquery"),
							  ObjectIdGetDatum(get_namespace_oid("cdp", false)));
	args[1] = TIMESTAMPTZOID;
	if (!cdp_may_execute(LookupFuncName(name, 2, args, false), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role %s may not ask for customers by their tags, so %s cannot be a tagquery", GetUserNameFromId(role, false), d->what),
				 errhint("SELECT cdp.grant_access('reader', …) gives that right.")));
}

void
cdp_definition_check(const CdpDefinition *d, CdpAsked *asked)
{
	Walk		w = {.definition = d, .asked = asked};
	CdpActor	actor;

	memset(asked, 0, sizeof(*asked));
	if (is_command(d->text, writes))
		refuse_write(d);
	if (is_command(d->text, locks))
		refuse_lock(d);
	if (!cdp_definition_is_query(d->text))
	{
		add_tagquery(&w, cdp_tagquery_parse(d->text));
		check_tagquery_right(d, GetUserId());
		return;
	}
	w.schema = get_namespace_oid("cdp", false);
	w.tagquery = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("tagquery"), ObjectIdGetDatum(w.schema));
	/* planning runs what is immutable; who takes over a definition need not have written it */
	cdp_become(&actor, GetUserId());
	cdp_read_only_begin();
	check_query(d, &w);
	cdp_read_only_end();
	cdp_return(&actor);
}

Datum
cdp_names_array(List *names)
{
	Datum	   *items = palloc(sizeof(Datum) * Max(list_length(names), 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, names)
		items[n++] = CStringGetTextDatum(lfirst(lc));
	return PointerGetDatum(construct_array(items, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* --------------------------------------------------------------------- run */

Oid
cdp_definition_owner(const CdpDefinition *d, Oid caller)
{
	Oid			owner = get_role_oid(d->owner, true);

	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\", which wrote %s, does not exist", d->owner, d->what),
				 errhint("Somebody else writes it again: it then runs with his rights.")));
	if (cdp_definition_is_query(d->text) && !has_privs_of_role(caller, owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s runs as role %s, and role %s may not act as that one", d->what, d->owner, GetUserNameFromId(caller, false)),
				 errhint("GRANT %s TO %s; or let that role, or a superuser, refresh it.", quote_identifier(d->owner),
						 quote_identifier(GetUserNameFromId(caller, false)))));
	return owner;
}

typedef struct RowReceiver
{
	DestReceiver pub;
	const CdpDefinition *definition;
	CdpDefinitionRow row;
	void	   *arg;
} RowReceiver;

/* what it returns may have changed since it was looked at */
static void
receiver_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	RowReceiver *r = (RowReceiver *) self;

	for (int i = 0; i < Max(desc->natts, 1); i++)
		check_column(r->definition, i, i < desc->natts ? NameStr(TupleDescAttr(desc, i)->attname) : NULL,
					 i < desc->natts ? TupleDescAttr(desc, i)->atttypid : InvalidOid);
}

static bool
receiver_row(TupleTableSlot *slot, DestReceiver *self)
{
	RowReceiver *r = (RowReceiver *) self;

	r->row(slot, r->arg);
	return true;
}

static void
receiver_nothing(DestReceiver *self)
{
}

void
cdp_definition_rows(const CdpDefinition *d, Oid owner, CdpDefinitionRow row, void *arg)
{
	RowReceiver receiver = {{receiver_row, receiver_startup, receiver_nothing, receiver_nothing, DestTransientRel}, d, row, arg};
	SPIExecuteOptions options;
	CdpActor	actor;
	int			rc;

	memset(&options, 0, sizeof(options));
	options.read_only = true;
	options.dest = &receiver.pub;
	cdp_become(&actor, owner);
	(void) set_config_option("search_path", d->search_path[0] == '\0' ? "pg_temp" : psprintf("%s, pg_temp", d->search_path),
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("row_security", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	cdp_read_only_begin();
	rc = SPI_execute_extended(d->text, &options);
	cdp_read_only_end();
	cdp_return(&actor);
	if (rc != SPI_OK_SELECT)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s is no query any more", d->what),
				 errhint("Define it again.")));
}

static void
collect_id(TupleTableSlot *slot, void *arg)
{
	bool		isnull;
	int64		id = DatumGetInt64(slot_getattr(slot, 1, &isnull));

	/* nobody has an id below 1, so that is no customer */
	if (!isnull && id > 0)
		cdp_audience_state_add(arg, id);
}

static CdpAudience *
customers_of(const char *tagquery)
{
	return (CdpAudience *) DatumGetPointer(DirectFunctionCall2(cdp_audience_of, PointerGetDatum(cdp_tagquery_parse(tagquery)),
															   TimestampTzGetDatum(cdp_now_value())));
}

CdpAudience *
cdp_everyone(void)
{
	return customers_of("*");
}

CdpAudience *
cdp_definition_audience(const CdpDefinition *d, Oid owner)
{
	CdpAudienceState *state;

	if (!cdp_definition_is_query(d->text))
	{
		check_tagquery_right(d, owner);
		return customers_of(d->text);
	}
	state = cdp_audience_state_new(CurrentMemoryContext);
	cdp_definition_rows(d, owner, collect_id, state);
	return cdp_customers_among(cdp_audience_state_value(state), NULL);
}

/* ------------------------------------------------------- ids of customers */

static CdpAudience *
combine(PGFunction operation, const CdpAudience *a, const CdpAudience *b)
{
	return (CdpAudience *) DatumGetPointer(DirectFunctionCall2(operation, PointerGetDatum(a), PointerGetDatum(b)));
}

CdpAudience *
cdp_audience_both(const CdpAudience *a, const CdpAudience *b)
{
	return combine(cdp_audience_and, a, b);
}

CdpAudience *
cdp_audience_without(const CdpAudience *a, const CdpAudience *b)
{
	return combine(cdp_audience_minus, a, b);
}

bool
cdp_audience_has(const CdpAudience *a, int64 id)
{
	int64		place = id < 0 ? -1 : cdp_audience_find(a, CDP_AUDIENCE_KEY(id));
	const uint8 *bytes;
	int			size;

	if (place < 0)
		return false;
	bytes = cdp_audience_container(a, place, &size);
	return cdp_container_has(bytes, size, CDP_AUDIENCE_BITS, CDP_AUDIENCE_LOW(id));
}

CdpAudience *
cdp_audience_empty(void)
{
	return cdp_audience_state_value(cdp_audience_state_new(CurrentMemoryContext));
}

void
cdp_audience_walk_begin(CdpAudienceWalk *w, const CdpAudience *a)
{
	memset(w, 0, sizeof(*w));
	w->audience = a;
	w->values = palloc(sizeof(uint16) * CDP_CONTAINER_VALUES(CDP_AUDIENCE_BITS));
}

bool
cdp_audience_walk_next(CdpAudienceWalk *w, int64 *id)
{
	if (w->next == w->n)
	{
		int			size;
		const uint8 *bytes;

		CHECK_FOR_INTERRUPTS();
		if (w->container == w->audience->ncontainers)
			return false;
		w->key = w->audience->keys[w->container];
		bytes = cdp_audience_container(w->audience, w->container++, &size);
		w->n = cdp_container_values(bytes, size, CDP_AUDIENCE_BITS, w->values);
		w->next = 0;
	}
	*id = CDP_AUDIENCE_ID(w->key, w->values[w->next++]);
	return true;
}

/*
 * Everyone is a bitmap, so what is no customer is found at once; only these
 * few are looked up.
 */
CdpAudience *
cdp_customers_among(const CdpAudience *ids, CdpAudience **gone)
{
	CdpAudience *everyone = cdp_everyone();
	CdpAudience *strays = cdp_audience_without(ids, everyone);
	CdpAudienceState *mapped = cdp_audience_state_new(CurrentMemoryContext);
	CdpAudienceState *nobody = cdp_audience_state_new(CurrentMemoryContext);
	CdpProbe   *probe;
	AttrNumber	column;
	CdpAudienceWalk w;
	int64		id;

	if (strays->count == 0)
	{
		if (gone != NULL)
			*gone = cdp_audience_state_value(nobody);
		return unconstify(CdpAudience *, ids);
	}
	probe = cdp_probe_open("profile_alias", "profile_alias_pkey");
	column = cdp_probe_column(probe, "customer_id");
	cdp_audience_walk_begin(&w, strays);
	while (cdp_audience_walk_next(&w, &id))
	{
		TupleTableSlot *slot = cdp_probe_int8(probe, id);
		bool		isnull;
		int64		customer = slot == NULL ? 0 : DatumGetInt64(slot_getattr(slot, column, &isnull));

		if (customer != 0 && cdp_audience_has(everyone, customer))
			cdp_audience_state_add(mapped, customer);
		else
			cdp_audience_state_add(nobody, id);
	}
	cdp_probe_close(probe);
	if (gone != NULL)
		*gone = cdp_audience_state_value(nobody);
	return combine(cdp_audience_or, cdp_audience_both(ids, everyone), cdp_audience_state_value(mapped));
}
