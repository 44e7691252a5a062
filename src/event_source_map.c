/*
 * event_source_map.c
 *	  From the mapping a user wrote to the values of a row.
 *
 *		{"order_id": "'pos-' || id", "amount": "total", ...}
 *			│ attach: every expression is parsed alone, against the table, coerced
 *			│ to the type its key wants, and written down again with every name
 *			│ qualified
 *			v
 *		('pos-'::text || (id)::text), (total)::numeric, ...
 *			│ once per session and relation: parsed, constants folded
 *			v
 *		one projection, run over the rows as the role that attached
 *
 * What is refused, and why: aggregates, window functions, sets and
 * subqueries, because an expression sees one row; volatile functions,
 * because a row that is read again (retry, restart) must give the same keys;
 * system columns, because a transition row has none.
 *
 * The settings that a conversion may depend on are pinned while expressions
 * are parsed and run: TimeZone is cdp.timezone, dates are ISO.  So a
 * timestamp, a date or a text is read in the zone of the business whatever
 * the session's settings are.
 */
#include "event_source.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parse_target.h"
#include "parser/parser.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/varlena.h"

static const SourceField customer_fields[] = {
	{"occurred_at", TIMESTAMPTZOID, false}
};
static const SourceField event_fields[] = {
	{"name", TEXTOID, true},
	{"occurred_at", TIMESTAMPTZOID, true},
	{"message_id", TEXTOID, false},
	{"channel", TEXTOID, false}
};
static const SourceField order_fields[] = {
	{"order_id", TEXTOID, true},
	{"ordered_at", TIMESTAMPTZOID, true},
	{"status", TEXTOID, false},
	{"amount", NUMERICOID, true},
	{"refunded", NUMERICOID, false},
	{"currency", TEXTOID, false},
	{"channel", TEXTOID, false},
	{"store_id", TEXTOID, false},
	{"payment_method", TEXTOID, false},
	{"paid_at", TIMESTAMPTZOID, false},
	{"shipped_at", TIMESTAMPTZOID, false},
	{"completed_at", TIMESTAMPTZOID, false},
	{"tracking_no", TEXTOID, false}
};
static const SourceField order_line_fields[] = {
	{"order_id", TEXTOID, true},
	{"line_no", INT8OID, true},
	{"product_id", TEXTOID, true},
	{"quantity", NUMERICOID, false},
	{"unit_price", NUMERICOID, false},
	{"category", TEXTOID, false}
};
static const SourceField product_fields[] = {
	{"product_id", TEXTOID, true},
	{"name", TEXTOID, false},
	{"category", TEXTOID, false},
	{"price", NUMERICOID, false},
	{"currency", TEXTOID, false},
	{"status", TEXTOID, false}
};

/* in the order of SourceRole */
const SourceShape source_shapes[] = {
	{"customer", "traits", true, lengthof(customer_fields), customer_fields},
	{"event", "properties", true, lengthof(event_fields), event_fields},
	{"order", NULL, true, lengthof(order_fields), order_fields},
	{"order_line", NULL, false, lengthof(order_line_fields), order_line_fields},
	{"product", NULL, false, lengthof(product_fields), product_fields}
};

SourceRole
source_role(const char *name)
{
	for (int i = 0; i < lengthof(source_shapes); i++)
	{
		if (strcmp(source_shapes[i].name, name) == 0)
			return (SourceRole) i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no role \"%s\" of a source", name),
			 errhint("The roles are customer, order, order_line, product and event.")));
}

/*
 * Pin what conversions depend on until the caller's AtEOXact_GUC; answers
 * the nest level to end.
 */
int
source_pin_settings(void)
{
	int			level = NewGUCNestLevel();

	(void) set_config_option("TimeZone", pg_get_timezone_name(cdp_zone()),
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("DateStyle", "ISO, YMD",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("IntervalStyle", "postgres",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("extra_float_digits", "1",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return level;
}

/* --- attach: from the user's expression to a checked one --- */

typedef struct CheckState
{
	Relation	rel;
	List	   *names;			/* deparse context */
	const char *path;			/* key under work, for messages */
} CheckState;

static void
refuse(CheckState *state, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("mapping key \"%s\": %s", state->path, what),
			 errhint("The value of a key is one SQL expression over one row of %s, usually the name of a column;"
					 " a literal stands in quotes: \"'CNY'\".",
					 RelationGetRelationName(state->rel))));
}

/* exactly one expression, nothing around it */
static Node *
parse_one_expression(CheckState *state, const char *text)
{
	List	   *stmts;
	SelectStmt *stmt;
	ResTarget  *target;

	if (text[strspn(text, " \t\r\n")] == '\0')
		refuse(state, "the expression is empty");
	stmts = raw_parser(psprintf("SELECT %s", text), RAW_PARSE_DEFAULT);
	if (list_length(stmts) != 1 || !IsA(linitial_node(RawStmt, stmts)->stmt, SelectStmt))
		refuse(state, "this is not one expression");
	stmt = (SelectStmt *) linitial_node(RawStmt, stmts)->stmt;
	if (list_length(stmt->targetList) != 1 || stmt->op != SETOP_NONE || stmt->distinctClause ||
		stmt->intoClause || stmt->fromClause || stmt->whereClause || stmt->groupClause ||
		stmt->havingClause || stmt->windowClause || stmt->valuesLists || stmt->sortClause ||
		stmt->limitOffset || stmt->limitCount || stmt->lockingClause || stmt->withClause)
		refuse(state, "this is not one expression");
	target = linitial_node(ResTarget, stmt->targetList);
	if (target->name != NULL || target->indirection != NIL ||
		(IsA(target->val, ColumnRef) && IsA(llast(castNode(ColumnRef, target->val)->fields), A_Star)))
		refuse(state, "this is not one expression");
	return target->val;
}

static bool
has_system_column(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varattno < 0;
	return expression_tree_walker(node, has_system_column, context);
}

/* what type a value of a nested object is taken as */
static Oid
nested_type(Oid type, bool identifier)
{
	if (identifier)
		return type_is_array(getBaseType(type)) ? TEXTARRAYOID : TEXTOID;
	switch (getBaseType(type))
	{
		case UNKNOWNOID:
			return TEXTOID;
		case TIMESTAMPOID:
			return TIMESTAMPTZOID;	/* a moment, whoever reads it */
		default:
			return type;
	}
}

/*
 * The checked text of one expression; wanted InvalidOid asks for the type of
 * a nested value.
 */
static char *
check_expression(CheckState *state, const char *text, Oid wanted, bool identifier)
{
	MemoryContext cxt = CurrentMemoryContext;
	ParseState *volatile pstate = NULL;
	char	   *volatile result = NULL;

	PG_TRY();
	{
		ParseState *ps = make_parsestate(NULL);
		ParseNamespaceItem *item;
		Node	   *node;
		Oid			target = wanted;
		int			level;

		pstate = ps;
		item = addRangeTableEntryForRelation(ps, state->rel, AccessShareLock, NULL, false, true);
		addNSItemToQuery(ps, item, true, true, true);
		node = transformExpr(ps, parse_one_expression(state, text), EXPR_KIND_SELECT_TARGET);
		if (ps->p_hasAggs || ps->p_hasWindowFuncs)
			refuse(state, "aggregates and window functions need more than one row");
		if (ps->p_hasTargetSRFs || expression_returns_set(node))
			refuse(state, "the expression returns a set");
		if (ps->p_hasSubLinks)
			refuse(state, "a subquery looks at more than this row");
		if (has_system_column(node, NULL))
			refuse(state, "system columns are not part of the row");
		if (!OidIsValid(target))
			target = nested_type(exprType(node), identifier);
		if (exprType(node) != target)
		{
			Node	   *coerced = coerce_to_target_type(ps, node, exprType(node), target, -1, COERCION_EXPLICIT,
														COERCE_EXPLICIT_CAST, -1);

			if (coerced == NULL)
				ereport(ERROR,
						(errcode(ERRCODE_DATATYPE_MISMATCH),
						 errmsg("the expression is of type %s, needed is %s",
								format_type_be(exprType(node)), format_type_be(target)),
						 errhint("Convert it in the mapping.")));
			node = coerced;
		}
		assign_expr_collations(ps, node);
		if (contain_volatile_functions(node))
			refuse(state, "the expression is volatile: the same row would be mapped differently each time");

		level = NewGUCNestLevel();
		(void) set_config_option("search_path", "pg_catalog, pg_temp",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
		result = deparse_expression(node, state->names, false, false);
		AtEOXact_GUC(true, level);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(cxt);
		edata = CopyErrorData();
		if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED || strncmp(edata->message, "mapping key", 11) == 0)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(edata->sqlerrcode),
				 errmsg("mapping key \"%s\": %s", state->path, edata->message),
				 edata->hint ? errhint("%s", edata->hint) :
				 errhint("The value of a key is one SQL expression over one row of %s, usually the name of a column;"
						 " a literal stands in quotes: \"'CNY'\".",
						 RelationGetRelationName(state->rel))));
	}
	PG_END_TRY();
	free_parsestate(pstate);
	return result;
}

/* members of a jsonb object as (name, text) pairs; anything but texts is refused */
static List *
object_members(Jsonb *object, const char *path, const char *example)
{
	List	   *result = NIL;
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken tok;
	char	   *key = NULL;

	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mapping%s%s%s must be an object", *path ? " key \"" : "", path, *path ? "\"" : ""),
				 errhint("For example %s.", example)));
	it = JsonbIteratorInit(&object->root);
	while ((tok = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (tok == WJB_KEY)
			key = pnstrdup(v.val.string.val, v.val.string.len);
		else if (tok == WJB_VALUE)
			result = lappend(result, list_make2(key, JsonbValueToJsonb(&v)));
	}
	return result;
}

static char *
member_text(Jsonb *value, const char *path)
{
	JsonbValue	v;

	if (!JB_ROOT_IS_SCALAR(value) || !JsonbExtractScalar(&value->root, &v) || v.type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mapping key \"%s\" must be a text that holds an SQL expression", path),
				 errhint("A column name is the usual case: \"%s\": \"some_column\"; a constant is \"'CNY'\".", path)));
	return pnstrdup(v.val.string.val, v.val.string.len);
}

/* the key columns: named by the mapping, else those of the primary key */
static List *
find_key(Relation rel, Jsonb *named, bool need)
{
	List	   *columns = NIL;
	ListCell   *lc;

	if (named != NULL)
	{
		JsonbIterator *it = JsonbIteratorInit(&named->root);
		JsonbValue	v;
		JsonbIteratorToken tok;

		while ((tok = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
		{
			List	   *names;

			if (tok != WJB_ELEM)
				continue;
			if (v.type != jbvString ||
				!SplitIdentifierString(pnstrdup(v.val.string.val, v.val.string.len), ',', &names))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("mapping key \"key\" must be the name of a column, or an array of names"),
						 errhint("For example \"key\": \"id\" or \"key\": [\"order_id\", \"line_no\"].")));
			columns = list_concat(columns, names);
		}
		foreach(lc, columns)
		{
			if (get_attnum(RelationGetRelid(rel), lfirst(lc)) <= 0)
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_COLUMN),
						 errmsg("mapping key \"key\": column \"%s\" does not exist", (char *) lfirst(lc)),
						 errhint("Name columns of %s whose values together are unique.", RelationGetRelationName(rel))));
		}
	}
	else
	{
		Oid			pkey = (list_free(RelationGetIndexList(rel)), rel->rd_pkindex);

		if (OidIsValid(pkey))
		{
			Relation	index = RelationIdGetRelation(pkey);

			for (int i = 0; i < index->rd_index->indnkeyatts; i++)
				columns = lappend(columns, get_attname(RelationGetRelid(rel), index->rd_index->indkey.values[i], false));
			RelationClose(index);
		}
	}
	if (columns == NIL && need)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has no primary key", RelationGetRelationName(rel)),
				 errhint("Name the columns that tell its rows apart in the mapping: \"key\": \"some_column\".")));
	return columns;
}

/* jsonb_build_object takes 100 arguments: more members are joined by || */
static void
append_object(StringInfo out, List *names, List *exprs)
{
	int			n = list_length(names);

	appendStringInfoString(out, n > 40 ? ", (" : ", ");
	for (int i = 0; i < n; i++)
	{
		appendStringInfo(out, "%s%s, %s",
						 i % 40 == 0 ? (i ? ") || pg_catalog.jsonb_build_object(" : "pg_catalog.jsonb_build_object(") : ", ",
						 quote_literal_cstr(list_nth(names, i)), (char *) list_nth(exprs, i));
	}
	appendStringInfoString(out, n == 0 ? "pg_catalog.jsonb_build_object()" : n > 40 ? "))" : ")");
}

/*
 * Check a mapping against the relation and answer the select list.
 * Runs with the caller's rights and search_path.
 */
char *
source_check_mapping(Relation rel, SourceRole role, Jsonb *mapping, bool need_key,
					 List **key_columns, List **kinds)
{
	const SourceShape *shape = &source_shapes[role];
	const char *example = shape->identified ? "{\"identifiers\": {\"member_id\": \"id\"}, …}" : "{\"product_id\": \"sku\", …}";
	CheckState	state = {.rel = rel};
	StringInfoData out;
	List	   *members = object_members(mapping, "", example);
	ListCell   *lc;
	Jsonb	   *identifiers = NULL;
	Jsonb	   *body = NULL;
	Jsonb	   *named_key = NULL;
	char	   *fields[16] = {NULL};
	int			level = source_pin_settings();

	state.names = deparse_context_for(RelationGetRelationName(rel), RelationGetRelid(rel));
	foreach(lc, members)
	{
		char	   *key = linitial(lfirst(lc));
		Jsonb	   *value = lsecond(lfirst(lc));
		int			i;

		if (strcmp(key, "key") == 0)
			named_key = value;
		else if (shape->identified && strcmp(key, "identifiers") == 0)
			identifiers = value;
		else if (shape->body && strcmp(key, shape->body) == 0)
			body = value;
		else
		{
			for (i = 0; i < shape->nfields; i++)
			{
				if (strcmp(key, shape->fields[i].key) == 0)
					break;
			}
			if (i == shape->nfields)
			{
				StringInfoData known;

				initStringInfo(&known);
				appendStringInfo(&known, "key%s", shape->identified ? ", identifiers" : "");
				if (shape->body)
					appendStringInfo(&known, ", %s", shape->body);
				for (i = 0; i < shape->nfields; i++)
					appendStringInfo(&known, ", %s", shape->fields[i].key);
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("mapping key \"%s\" is not known for role %s", key, shape->name),
						 errhint("The keys are %s.", known.data)));
			}
			state.path = key;
			fields[i] = check_expression(&state, member_text(value, key), shape->fields[i].type, false);
		}
	}
	for (int i = 0; i < shape->nfields; i++)
	{
		if (fields[i] == NULL && shape->fields[i].required)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("mapping key \"%s\" is missing", shape->fields[i].key),
					 errhint("Role %s needs it; its value is an SQL expression, usually the name of a column.", shape->name)));
	}
	if (shape->identified && identifiers == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mapping key \"identifiers\" is missing"),
				 errhint("It says who the row is about: %s.", example)));

	initStringInfo(&out);
	*key_columns = find_key(rel, named_key, need_key);
	foreach(lc, *key_columns)
		appendStringInfo(&out, "%s%s::pg_catalog.text", foreach_current_index(lc) ? ", " : "", quote_identifier(lfirst(lc)));
	if (*key_columns == NIL)
		appendStringInfoString(&out, "NULL::pg_catalog.text");

	*kinds = NIL;
	if (identifiers)
	{
		members = object_members(identifiers, "identifiers", example);
		if (members == NIL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("mapping key \"identifiers\" is empty"),
					 errhint("It says who the row is about: %s.", example)));
		foreach(lc, members)
		{
			char	   *kind = linitial(lfirst(lc));

			state.path = psprintf("identifiers.%s", kind);
			appendStringInfo(&out, ", %s", check_expression(&state, member_text(lsecond(lfirst(lc)), state.path), InvalidOid, true));
			*kinds = lappend(*kinds, kind);
		}
	}
	if (shape->body)
	{
		List	   *names = NIL;
		List	   *exprs = NIL;

		if (body && JB_ROOT_IS_SCALAR(body))
		{
			/* one expression that is the object */
			state.path = shape->body;
			appendStringInfo(&out, ", %s", check_expression(&state, member_text(body, shape->body), JSONBOID, false));
		}
		else
		{
			foreach(lc, body ? object_members(body, shape->body, "{\"name\": \"full_name\"}") : NIL)
			{
				char	   *name = linitial(lfirst(lc));

				state.path = psprintf("%s.%s", shape->body, name);
				names = lappend(names, name);
				exprs = lappend(exprs, check_expression(&state, member_text(lsecond(lfirst(lc)), state.path), InvalidOid, false));
			}
			append_object(&out, names, exprs);
		}
	}
	for (int i = 0; i < shape->nfields; i++)
	{
		if (fields[i])
			appendStringInfo(&out, ", %s", fields[i]);
		else
			appendStringInfo(&out, ", NULL::%s", format_type_be_qualified(shape->fields[i].type));
	}
	AtEOXact_GUC(true, level);
	return out.data;
}
