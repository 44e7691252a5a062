/*
 * event_source_rows.c
 *	  Rows of a relation through the projection of a source into a batch.
 *
 * The projection runs as the role that attached, in a security restricted
 * operation; what comes out is copied column by column, because the engine
 * hands columns to set-based SQL as arrays.
 *
 * SQL: sql/event_source.sql.  Tests: test/sql/event_source.sql.
 */
#include "event_source.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_relation.h"
#include "parser/parse_target.h"
#include "parser/parser.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* the type that the engine takes column i of the select list for */
static Oid
column_type(SourceSpec *spec, int i, Oid type)
{
	if (i < spec->nkeys)
		return TEXTOID;
	if (i < SOURCE_BODY(spec))
		return type_is_array(getBaseType(type)) ? TEXTARRAYOID : TEXTOID;
	if (spec->shape->body && i == SOURCE_BODY(spec))
		return JSONBOID;
	return spec->shape->fields[i - SOURCE_FIELD(spec, 0)].type;
}

/*
 * A column of the table may have changed its type since the mapping was
 * checked.  The value is converted as attach_source would have converted it;
 * when that is impossible, the source has to be attached again.
 */
static void
convert_column(SourceSpec *spec, ParseState *pstate, Relation rel, int i, TargetEntry *entry)
{
	Oid			type = exprType((Node *) entry->expr);
	Oid			wanted = column_type(spec, i, type);
	Node	   *converted;

	if (type == wanted)
		return;
	converted = coerce_to_target_type(pstate, (Node *) entry->expr, type, wanted, -1,
									  COERCION_EXPLICIT, COERCE_EXPLICIT_CAST, -1);
	if (converted == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the mapping of %s has a value of type %s where %s is needed", RelationGetRelationName(rel),
						format_type_be(type), format_type_be(wanted)),
				 errhint("A column has changed its type: detach the source and attach it again.")));
	entry->expr = (Expr *) converted;
}

/* what the server says of a mapping that fitted once */
static void
complain_of_mapping(void *arg)
{
	if (geterrcode() != ERRCODE_UNDEFINED_COLUMN && geterrcode() != ERRCODE_UNDEFINED_FUNCTION)
		return;
	/* the place counts in the mapping, not in the statement of whoever writes */
	errposition(0);
	errhint("The mapping of the source does not fit its table any more: detach the source and attach it again.");
}

/*
 * Parse the select list of a source for one of its relations and fold its
 * constants.  Runs with pinned search_path and settings.
 */
void
source_compile(SourceSpec *spec, Relation rel, const char *alias, const char *select_list)
{
	MemoryContext old;
	ParseState *pstate = make_parsestate(NULL);
	ParseNamespaceItem *item;
	List	   *stmts;
	List	   *targets;
	ListCell   *lc;
	int			i = 0;
	CdpActor	actor;
	ErrorContextCallback context = {.callback = complain_of_mapping,.previous = error_context_stack};

	error_context_stack = &context;
	cdp_become(&actor, spec->owner);
	item = addRangeTableEntryForRelation(pstate, rel, AccessShareLock, makeAlias(alias, NIL), false, true);
	addNSItemToQuery(pstate, item, true, true, true);
	stmts = raw_parser(psprintf("SELECT %s", select_list), RAW_PARSE_DEFAULT);
	targets = transformTargetList(pstate, ((SelectStmt *) linitial_node(RawStmt, stmts)->stmt)->targetList,
								  EXPR_KIND_SELECT_TARGET);
	foreach(lc, targets)
		convert_column(spec, pstate, rel, foreach_current_index(lc), lfirst_node(TargetEntry, lc));
	assign_list_collations(pstate, targets);
	pull_varattnos((Node *) targets, 1, &spec->attrs);
	old = MemoryContextSwitchTo(spec->cxt);
	spec->attrs = bms_copy(spec->attrs);
	spec->ncols = list_length(targets);
	spec->types = palloc(sizeof(Oid) * spec->ncols);
	foreach(lc, targets)
		spec->types[i++] = exprType((Node *) lfirst_node(TargetEntry, lc)->expr);
	MemoryContextSwitchTo(old);
	spec->exprs = GetCachedExpression((Node *) targets);
	free_parsestate(pstate);
	cdp_return(&actor);
	error_context_stack = context.previous;
}

SourceBatch *
source_new_batch(SourceSpec *spec, int room)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "cdp source batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	SourceBatch *batch = palloc0(sizeof(SourceBatch));

	batch->cxt = cxt;
	batch->room = room;
	batch->origin = palloc(sizeof(int) * room);
	batch->values = palloc(sizeof(Datum *) * spec->ncols);
	batch->nulls = palloc(sizeof(bool *) * spec->ncols);
	for (int i = 0; i < spec->ncols; i++)
	{
		batch->values[i] = palloc(sizeof(Datum) * room);
		batch->nulls[i] = palloc(sizeof(bool) * room);
	}
	MemoryContextSwitchTo(old);
	return batch;
}

void
source_free_batch(SourceBatch *batch)
{
	MemoryContextDelete(batch->cxt);
}

/* Append rows of the reader to the batch until there is no more, or no room. */
void
source_map_rows(SourceSpec *spec, SourceBatch *batch, TupleDesc desc, const TupleTableSlotOps *ops, SourceReader *reader)
{
	List	   *targets = (List *) spec->exprs->expr;
	EState	   *estate = CreateExecutorState();
	ExprContext *econtext = CreateExprContext(estate);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, ops);
	TupleTableSlot *result;
	ProjectionInfo *projection;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	int16	   *lens = palloc(sizeof(int16) * spec->ncols);
	bool	   *byvals = palloc(sizeof(bool) * spec->ncols);
	bool		push = !ActiveSnapshotSet();
	CdpActor	actor;

	cdp_become(&actor, spec->owner);
	/* functions of the mapping may read */
	if (push)
		PushActiveSnapshot(GetTransactionSnapshot());
	result = MakeSingleTupleTableSlot(ExecTypeFromTL(targets), &TTSOpsVirtual);
	projection = ExecBuildProjectionInfo(targets, econtext, result, NULL, desc);
	for (int i = 0; i < spec->ncols; i++)
		get_typlenbyval(spec->types[i], &lens[i], &byvals[i]);
	econtext->ecxt_scantuple = slot;

	while (batch->n < batch->room && reader->next(reader, slot))
	{
		CHECK_FOR_INTERRUPTS();
		ResetExprContext(econtext);
		ExecProject(projection);
		MemoryContextSwitchTo(batch->cxt);
		for (int i = 0; i < spec->ncols; i++)
		{
			batch->nulls[i][batch->n] = result->tts_isnull[i];
			batch->values[i][batch->n] = result->tts_isnull[i] ? (Datum) 0 :
				datumCopy(result->tts_values[i], byvals[i], lens[i]);
		}
		MemoryContextSwitchTo(estate->es_query_cxt);
		batch->origin[batch->n++] = reader->raw;
	}

	ExecDropSingleTupleTableSlot(result);
	ExecDropSingleTupleTableSlot(slot);
	if (push)
		PopActiveSnapshot();
	cdp_return(&actor);
	MemoryContextSwitchTo(old);
	FreeExecutorState(estate);
}

typedef struct TupleReader
{
	SourceReader base;
	HeapTuple  *tuples;
	int			n;
	int			first;			/* number of tuples[0] for the caller */
	int			next;
} TupleReader;

static bool
next_tuple(SourceReader *reader, TupleTableSlot *slot)
{
	TupleReader *r = (TupleReader *) reader;

	if (r->next == r->n)
		return false;
	r->base.raw = r->first + r->next;
	ExecForceStoreHeapTuple(r->tuples[r->next++], slot, false);
	return true;
}

void
source_map_tuples(SourceSpec *spec, SourceBatch *batch, TupleDesc desc, HeapTuple *tuples, int n, int first)
{
	TupleReader reader = {{next_tuple, 0}, tuples, n, first, 0};

	source_map_rows(spec, batch, desc, &TTSOpsHeapTuple, &reader.base);
}

/* --- sources by number, kept per session --- */

typedef struct SpecKey
{
	int64		source_id;
	Oid			relid;
	Oid			pad;
} SpecKey;

typedef struct SpecEntry
{
	SpecKey		key;
	SourceSpec *spec;			/* NULL: not loaded */
	uint64		epoch;
	Oid			relowner;
	char		digest[65];
	bool		valid;			/* the relation has not changed since */
} SpecEntry;

static HTAB *specs = NULL;

/* some relation has changed: what was compiled for it is stale */
static void
relation_changed(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	SpecEntry  *entry;

	hash_seq_init(&scan, specs);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (!OidIsValid(relid) || entry->key.relid == relid)
			entry->valid = false;
	}
}

static char **
text_list(Datum array, int *n)
{
	Datum	   *elems;
	char	  **result;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, n);
	result = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		result[i] = TextDatumGetCString(elems[i]);
	return result;
}

/* read cdp.source and compile for this relation */
static SourceSpec *
read_spec(int64 source_id, Relation rel, char *digest)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8OID};
	MemoryContext cxt = AllocSetContextCreate(CacheMemoryContext, "cdp source", ALLOCSET_SMALL_SIZES);
	MemoryContext old;
	SourceSpec *spec;
	Datum		arg = Int64GetDatum(source_id);
	HeapTuple	tup;
	TupleDesc	desc;
	bool		isnull;

	cdp_watch_rules(cdp_relation("source"));
	cdp_plan_generic(&plan,
					 "SELECT s.role, s.schema_name || '.' || s.table_name, s.owner::text, s.key_columns, s.identifier_kinds,"
					 " s.select_list, s.table_name, " SOURCE_DIGEST " FROM cdp.source s WHERE s.source_id = $1", 1, types);
	if (SPI_execute_plan(plan, &arg, NULL, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%s is not an attached source", RelationGetRelationName(rel)),
				 errhint("SELECT cdp.attach_source(…) attaches it; SELECT cdp.detach_source(…) takes left-over triggers away.")));
	tup = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	old = MemoryContextSwitchTo(cxt);
	spec = palloc0(sizeof(SourceSpec));
	spec->cxt = cxt;
	spec->source_id = source_id;
	spec->role = source_role(TextDatumGetCString(SPI_getbinval(tup, desc, 1, &isnull)));
	spec->shape = &source_shapes[spec->role];
	spec->name = TextDatumGetCString(SPI_getbinval(tup, desc, 2, &isnull));
	spec->owner = get_role_oid(TextDatumGetCString(SPI_getbinval(tup, desc, 3, &isnull)), false);
	spec->keys = text_list(SPI_getbinval(tup, desc, 4, &isnull), &spec->nkeys);
	spec->kinds = text_list(SPI_getbinval(tup, desc, 5, &isnull), &spec->nkinds);
	strlcpy(digest, TextDatumGetCString(SPI_getbinval(tup, desc, 8, &isnull)), 65);
	MemoryContextSwitchTo(old);
	if (!has_privs_of_role(rel->rd_rel->relowner, spec->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the mapping of %s runs as role %s, whose privileges the owner of the table does not have",
						RelationGetRelationName(rel), GetUserNameFromId(spec->owner, false)),
				 errhint("Detach the source and attach it again as the owner of the table.")));
	source_compile(spec, rel, TextDatumGetCString(SPI_getbinval(tup, desc, 7, &isnull)),
				   TextDatumGetCString(SPI_getbinval(tup, desc, 6, &isnull)));
	SPI_freetuptable(SPI_tuptable);
	return spec;
}

/*
 * The source for rows of rel; digest is what the trigger carries, NULL when
 * there is none, which is an error.  Called
 * between cdp_begin_write and cdp_end, with pinned settings.
 */
SourceSpec *
source_load(int64 source_id, Relation rel, const char *digest)
{
	SpecKey		key = {source_id, RelationGetRelid(rel), InvalidOid};
	SpecEntry  *entry;
	bool		found;

	if (digest == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s does not have the triggers of its source", RelationGetRelationName(rel)),
				 errhint("It was made anew, or they were dropped: SELECT cdp.attach_source(…) attaches it again;"
						 " CALL cdp.migrate() gives a table that is the same as before its triggers back.")));
	if (specs == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(SpecKey), .entrysize = sizeof(SpecEntry), .hcxt = CacheMemoryContext};

		specs = hash_create("cdp sources", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	}
	entry = hash_search(specs, &key, HASH_ENTER, &found);
	if (!found)
		entry->spec = NULL;
	if (entry->spec == NULL || !entry->valid || entry->epoch != cdp_rules_epoch || !entry->spec->exprs->is_valid ||
		entry->relowner != rel->rd_rel->relowner)
	{
		SourceSpec *stale = entry->spec;
		MemoryContext caller = CurrentMemoryContext;

		entry->spec = NULL;
		if (stale != NULL && stale->uses == 0)
		{
			FreeCachedExpression(stale->exprs);
			MemoryContextDelete(stale->cxt);
		}
		/* what arrives while we read makes the entry stale at once */
		entry->valid = true;
		entry->epoch = cdp_rules_epoch;
		entry->relowner = rel->rd_rel->relowner;
		entry->spec = read_spec(source_id, rel, entry->digest);
		/* SPI leaves its own context behind, which ends with the verb; the caller keeps what he allocates */
		MemoryContextSwitchTo(caller);
	}
	if (strcmp(entry->digest, digest) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the mapping of %s is not the one it was attached with", RelationGetRelationName(rel)),
				 errhint("Detach the source and attach it again; cdp.source is not edited by hand.")));
	return entry->spec;
}
