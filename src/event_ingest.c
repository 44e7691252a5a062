/*
 * event_ingest.c
 *	  Files, views and foreign tables: what cannot have triggers.
 *
 *		COPY staging_order (order_id, phone, …) FROM …	texts, numbered lines
 *		CALL cdp.ingest('staging_order', 'order')		good rows in, bad rows in ingest_reject
 *
 * The engine is that of attached sources; what is different: the mapping
 * comes with the call and runs as the caller, rows that are not taken are
 * kept with their line number, and an event without message_id is known by
 * the content of its line, because the same file may be loaded again.
 *
 * SQL: sql/event_ingest.sql.  Tests: test/sql/event_ingest.sql.  Page: doc/event_ingest.md.
 */
#include "event_source.h"
#include "event_source_copy.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "identity_kind.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(cdp_ingest_batch);
PG_FUNCTION_INFO_V1(cdp_make_staging);

static void
put_member(JsonbParseState **state, const char *key, const char *value)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, key);
	v.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &v);
	v.val.string.val = unconstify(char *, value);
	v.val.string.len = strlen(value);
	pushJsonbValue(state, WJB_VALUE, &v);
}

/*
 * The mapping of a staging table: columns by their names, those without a
 * meaning of their own are traits or properties.  As the owner of the
 * tables, who can see the kinds of identifiers.
 */
static Jsonb *
default_mapping(Relation rel, const SourceShape *shape)
{
	JsonbParseState *state = NULL;
	StringInfoData body;
	TupleDesc	desc = RelationGetDescr(rel);
	int			nbody = 0;
	bool		whole = false;
	bool		identified = false;

	initStringInfo(&body);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int pass = 0; pass < 2; pass++)
	{
		for (int i = 0; i < desc->natts; i++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, i);
			char	   *name = NameStr(att->attname);
			const char *quoted = quote_identifier(name);
			bool		known = strcmp(name, "file_line") == 0;

			if (att->attisdropped || known)
				continue;
			if (shape->identified && cdp_find_kind(name, strlen(name)) != NULL)
			{
				if (pass == 1)
				{
					if (!identified)
					{
						JsonbValue	k = {.type = jbvString, .val.string = {.val = "identifiers", .len = 11}};

						pushJsonbValue(&state, WJB_KEY, &k);
						pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
						identified = true;
					}
					put_member(&state, name, quoted);
				}
				continue;
			}
			for (int f = 0; f < shape->nfields && !known; f++)
				known = strcmp(name, shape->fields[f].key) == 0;
			if (pass == 1)
				continue;
			if (known)
				put_member(&state, name, quoted);
			else if (shape->body != NULL && strcmp(name, shape->body) == 0)
				whole = true;
			else if (shape->body != NULL)
			{
				/* a function takes 100 arguments: more columns are joined */
				if (nbody > 0 && nbody % 40 == 0)
					appendStringInfoString(&body, ") OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object(");
				appendStringInfo(&body, "%s%s, %s", nbody % 40 ? ", " : "", quote_literal_cstr(name), quoted);
				nbody++;
			}
		}
		if (pass == 0 && (nbody > 0 || whole))
			put_member(&state, shape->body,
					   psprintf("%s%s%s", nbody ? psprintf("pg_catalog.jsonb_build_object(%s)", body.data) : "",
								nbody && whole ? " OPERATOR(pg_catalog.||) " : "",
								whole ? psprintf("coalesce(%s, '{}')::pg_catalog.jsonb", shape->body) : ""));
	}
	if (identified)
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * An event of a file that has no message_id is known by its content: the
 * expression of the mapping, or none, becomes coalesce(…, hash of the line).
 */
static Jsonb *
with_message_id(Relation rel, Jsonb *mapping)
{
	StringInfoData line;
	JsonbParseState *state = NULL;
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken tok;
	TupleDesc	desc = RelationGetDescr(rel);
	int			n = 0;
	int			depth = 0;
	bool		mapped = false;
	JsonbValue *result = NULL;

	if (!JB_ROOT_IS_OBJECT(mapping))
		return mapping;
	initStringInfo(&line);
	appendStringInfoString(&line, "'row-' OPERATOR(pg_catalog.||) pg_catalog.md5(ROW(");
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), "file_line") != 0)
			appendStringInfo(&line, "%s%s", n++ ? ", " : "", quote_identifier(NameStr(att->attname)));
	}
	appendStringInfoString(&line, ")::pg_catalog.text)");
	it = JsonbIteratorInit(&mapping->root);
	while ((tok = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		if (tok == WJB_BEGIN_OBJECT || tok == WJB_BEGIN_ARRAY)
			depth++;
		if (tok == WJB_KEY && depth == 1 && v.val.string.len == 10 && strncmp(v.val.string.val, "message_id", 10) == 0)
		{
			tok = JsonbIteratorNext(&it, &v, false);
			if (tok != WJB_VALUE || v.type != jbvString)
				return mapping; /* refused later */
			put_member(&state, "message_id", psprintf("coalesce(nullif((%s)::pg_catalog.text, ''), %s)",
													  pnstrdup(v.val.string.val, v.val.string.len), line.data));
			mapped = true;
			continue;
		}
		if (tok == WJB_END_OBJECT || tok == WJB_END_ARRAY)
		{
			if (depth == 1 && !mapped)
				put_member(&state, "message_id", line.data);
			depth--;
		}
		result = pushJsonbValue(&state, tok, tok == WJB_KEY || tok == WJB_VALUE || tok == WJB_ELEM ? &v : NULL);
	}
	return JsonbValueToJsonb(result);
}

/* bad rows with their lines */
static void
keep_rejects(const char *name, SourceRole role, Relation rel, HeapTuple *tuples, int64 line, List *rejects)
{
	Oid			types[] = {TEXTOID, TEXTOID, INT8OID, JSONBOID, TEXTOID, TEXTOID, TEXTOID};
	AttrNumber	line_no = get_attnum(RelationGetRelid(rel), "file_line");
	SPIPlanPtr	plan = SPI_prepare("INSERT INTO cdp.ingest_reject (source, role, line_no, row_image, sqlstate, reason, hint)"
								   " VALUES ($1, $2, $3, $4, $5, $6, $7)", 7, types);
	ListCell   *lc;

	foreach(lc, rejects)
	{
		SourceReject *r = lfirst(lc);
		Datum		args[7];
		char		nulls[8] = "       ";
		bool		isnull = true;
		Datum		value = (Datum) 0;

		if (line_no > 0 && get_atttype(RelationGetRelid(rel), line_no) == INT8OID)
			value = heap_getattr(tuples[r->row], line_no, RelationGetDescr(rel), &isnull);
		args[0] = CStringGetTextDatum(name);
		args[1] = CStringGetTextDatum(source_shapes[role].name);
		args[2] = isnull ? Int64GetDatum(line + r->row + 1) : value;
		args[3] = source_row_image(RelationGetDescr(rel), rel->rd_rel->relowner, tuples[r->row]);
		args[4] = CStringGetTextDatum(unpack_sql_state(r->sqlstate));
		args[5] = CStringGetTextDatum(r->message);
		args[6] = r->hint ? CStringGetTextDatum(r->hint) : (Datum) 0;
		nulls[6] = r->hint ? ' ' : 'n';
		if (SPI_execute_plan(plan, args, nulls, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "could not keep a rejected row");
	}
	SPI_freeplan(plan);
}

/*
 * cdp._ingest_batch(source, role, mapping, source_name, after_key, line,
 * batch): the next rows of a relation, in the order of its key; without a
 * key all of them.
 */
Datum
cdp_ingest_batch(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext work;
	CdpVerb		verb;
	Relation	rel;
	SourceSpec *spec;
	SourceRole	role;
	Jsonb	   *mapping;
	List	   *keys;
	List	   *kinds;
	char	   *select_list;
	char	   *name;
	ListCell   *lc;
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {true, false, false, false};
	Oid			types[] = {TEXTARRAYOID, INT4OID};
	Datum		args[] = {PG_ARGISNULL(4) ? (Datum) 0 : PG_GETARG_DATUM(4), PG_GETARG_DATUM(6)};
	char		argnulls[] = {PG_ARGISNULL(4) ? 'n' : ' ', ' '};
	int64		line;
	int64		seen = 0;
	int64		rejected = 0;
	Oid			caller = GetUserId();
	AclResult	acl;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(5) || PG_ARGISNULL(6))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("source, role, line and batch must not be NULL"),
				 errhint("CALL cdp.ingest(…) passes them.")));
	line = PG_GETARG_INT64(5);
	role = source_role(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	rel = source_open(PG_GETARG_OID(0));
	name = PG_ARGISNULL(3) ? source_plain_name(RelationGetRelid(rel)) : text_to_cstring(PG_GETARG_TEXT_PP(3));
	acl = pg_class_aclcheck(RelationGetRelid(rel), caller, ACL_SELECT);
	if (acl != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", RelationGetRelationName(rel)),
				 errhint("Its owner grants you SELECT on it.")));

	cdp_begin_write(&verb, "ingest");
	MemoryContextSwitchTo(cxt);
	mapping = PG_ARGISNULL(2) ? default_mapping(rel, &source_shapes[role]) : PG_GETARG_JSONB_P(2);
	cdp_end(&verb);
	MemoryContextSwitchTo(cxt);
	if (role == SOURCE_EVENT)
		mapping = with_message_id(rel, mapping);
	/* with the caller's rights */
	select_list = source_check_mapping(rel, role, mapping, false, &keys, &kinds);

	cdp_begin_write(&verb, "ingest");
	source_pin_settings();
	source_check_kinds(kinds);
	MemoryContextSwitchTo(cxt);
	spec = palloc0(sizeof(SourceSpec));
	spec->cxt = cxt;
	spec->role = role;
	spec->shape = &source_shapes[role];
	spec->name = name;
	spec->owner = caller;
	spec->keyless = keys == NIL;
	spec->keys = palloc(sizeof(char *) * (list_length(keys) + 1));
	foreach(lc, keys)
		spec->keys[spec->nkeys++] = lfirst(lc);
	if (spec->keyless)
		spec->nkeys = 1;		/* a NULL stands for it */
	spec->kinds = palloc(sizeof(char *) * (list_length(kinds) + 1));
	foreach(lc, kinds)
		spec->kinds[spec->nkinds++] = lfirst(lc);
	source_compile(spec, rel, RelationGetRelationName(rel), select_list);
	work = AllocSetContextCreate(cxt, "cdp ingest", ALLOCSET_DEFAULT_SIZES);

	if (!spec->keyless)
	{
		int			n;
		HeapTuple  *tuples;
		bool		isnull;
		List	   *rejects;

		source_query(spec, psprintf("SELECT t, %s FROM %s AS t %s ORDER BY %s LIMIT $2", source_key_expr(spec), source_from_clause(rel),
									PG_ARGISNULL(4) ? "" : psprintf("WHERE %s", source_compare_key(spec, rel, ">", "$1")),
									source_key_columns(spec)), 2, types, args, argnulls);
		n = SPI_processed;
		if (n > 0)
		{
			values[0] = datumCopy(SPI_getbinval(SPI_tuptable->vals[n - 1], SPI_tuptable->tupdesc, 2, &isnull), false, -1);
			nulls[0] = false;
		}
		MemoryContextSwitchTo(work);
		tuples = source_result_tuples(1);
		SPI_freetuptable(SPI_tuptable);
		if (n > 0)
		{
			rejects = source_take_tuples(spec, RelationGetDescr(rel), tuples, n, 0, false);
			keep_rejects(name, role, rel, tuples, line, rejects);
			seen = n;
			rejected = list_length(rejects);
		}
	}
	else
	{
		CdpActor	actor;
		Portal		portal;
		SPIPlanPtr	plan;

		cdp_become(&actor, caller);
		plan = SPI_prepare(psprintf("SELECT t FROM %s AS t", source_from_clause(rel)), 0, NULL);
		portal = SPI_cursor_open(NULL, plan, NULL, NULL, false);
		cdp_return(&actor);
		for (;;)
		{
			HeapTuple  *tuples;
			List	   *rejects;
			int			n;

			cdp_become(&actor, caller);
			SPI_cursor_fetch(portal, true, PG_GETARG_INT32(6));
			cdp_return(&actor);
			n = SPI_processed;
			if (n == 0)
				break;
			MemoryContextSwitchTo(work);
			tuples = source_result_tuples(1);
			SPI_freetuptable(SPI_tuptable);
			rejects = source_take_tuples(spec, RelationGetDescr(rel), tuples, n, 0, false);
			keep_rejects(name, role, rel, tuples, line + seen, rejects);
			seen += n;
			rejected += list_length(rejects);
			MemoryContextReset(work);
		}
		SPI_cursor_close(portal);
	}
	FreeCachedExpression(spec->exprs);
	cdp_end(&verb);
	table_close(rel, AccessShareLock);
	MemoryContextSwitchTo(cxt);
	values[1] = Int64GetDatum(seen);
	values[2] = Int64GetDatum(seen - rejected);
	values[3] = Int64GetDatum(rejected);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * cdp.make_staging(role, name, columns) -> regclass: a table of the caller's
 * for COPY, every column a text.
 */
Datum
cdp_make_staging(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = CurrentMemoryContext;
	CdpVerb		verb;
	SourceRole	role;
	const SourceShape *shape;
	RangeVar   *rv;
	StringInfoData sql;
	Oid			nsp;
	char	   *qualified;
	List	   *columns = NIL;
	ListCell   *lc;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("role must not be NULL"),
				 errhint("The roles are customer, order, order_line, product and event.")));
	role = source_role(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	shape = &source_shapes[role];
	PreventCommandIfReadOnly("make_staging");
	rv = PG_ARGISNULL(1) ? makeRangeVar(NULL, psprintf("staging_%s", shape->name), -1) :
		makeRangeVarFromNameList(textToQualifiedNameList(PG_GETARG_TEXT_PP(1)));
	nsp = RangeVarGetCreationNamespace(rv);
	qualified = quote_qualified_identifier(get_namespace_name(nsp), rv->relname);

	cdp_begin_read(&verb);
	if (shape->identified)
	{
		if (SPI_execute("SELECT kind FROM cdp.identifier_kind ORDER BY priority, kind", true, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not read the kinds of identifiers");
		MemoryContextSwitchTo(cxt);
		for (uint64 i = 0; i < SPI_processed; i++)
			columns = lappend(columns, pstrdup(SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1)));
	}
	cdp_end(&verb);
	MemoryContextSwitchTo(cxt);
	for (int f = 0; f < shape->nfields; f++)
		columns = lappend(columns, unconstify(char *, shape->fields[f].key));
	if (shape->body)
		columns = lappend(columns, unconstify(char *, shape->body));
	if (!PG_ARGISNULL(2))
	{
		Datum	   *elems;
		bool	   *isnull;
		int			n;

		if (shape->body == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("role %s has no columns of your own", shape->name),
					 errhint("Columns beside those of the role are traits (customer) or properties (event).")));
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT, &elems, &isnull, &n);
		for (int i = 0; i < n; i++)
		{
			if (isnull[i])
				ereport(ERROR,
						(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						 errmsg("the name of a column must not be NULL"),
						 errhint("For example columns => '{name,birthday}'.")));
			columns = lappend(columns, TextDatumGetCString(elems[i]));
		}
	}
	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (file_line bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", qualified);
	foreach(lc, columns)
		appendStringInfo(&sql, ", %s text", quote_identifier(lfirst(lc)));
	appendStringInfoString(&sql, ")");
	/* with the caller's rights */
	SPI_connect();
	if (SPI_execute(sql.data, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not make the staging table");
	SPI_finish();
	PG_RETURN_OID(get_relname_relid(rv->relname, nsp));
}
