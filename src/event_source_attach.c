/*
 * event_source_attach.c
 *	  attach_source, detach_source, and the triggers on the user's table.
 *
 * Two identities work here.  The caller's: reading the table, making the
 * triggers, which is all that ever changes about it.  And the owner's of the
 * cdp tables: what is noted about the source.
 *
 * Triggers are of statement level, one per event, because only those have
 * transition tables for set-based work; on every partition, too, because a
 * statement on a partition fires the partition's triggers only.  A table
 * that a subscription fills gets row triggers with ENABLE ALWAYS: apply
 * workers fire nothing else.
 *
 * The mapping runs as the role that attached when the owner of the table has
 * that role's privileges, else (a superuser attaches somebody's table) as
 * the owner of the table: who owns the table decides what its columns do.
 *
 * SQL: sql/event_source.sql.  Tests: test/sql/event_source.sql.  Page: doc/event_source.md.
 */
#include "event_source.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "identity_kind.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "storage/lmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(cdp_attach_source);
PG_FUNCTION_INFO_V1(cdp_detach_source);
PG_FUNCTION_INFO_V1(cdp_detach_source_name);
PG_FUNCTION_INFO_V1(cdp_make_source_triggers);

static Oid
trigger_function(void)
{
	return LookupFuncName(list_make2(makeString("cdp"), makeString("_source_apply")), 0, NULL, false);
}

static char *
relation_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

/* name as it is kept: schema.table without quotes, for people and as source of cdp rows */
char *
source_plain_name(Oid relid)
{
	return psprintf("%s.%s", get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

/* a relation to read rows from; it may have been dropped since its number was looked up */
Relation
source_open(Oid relid)
{
	Relation	rel = try_table_open(relid, AccessShareLock);

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid),
				 errhint("Name an existing table: 'schema.table'.")));
	return rel;
}

/* the digest that a trigger of this source on this relation carries, NULL when there is none */
const char *
source_trigger_digest(Relation rel, int64 source_id)
{
	char	   *id = psprintf(INT64_FORMAT, source_id);
	Oid			function = trigger_function();

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *t = &rel->trigdesc->triggers[i];

		if (t->tgfoid == function && t->tgnargs == 4 && strcmp(t->tgargs[0], id) == 0)
			return pstrdup(t->tgargs[2]);
	}
	return NULL;
}

/* the relation and its partitions that can have triggers */
static List *
relation_tree(Oid relid)
{
	List	   *result = NIL;
	ListCell   *lc;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return list_make1_oid(relid);
	foreach(lc, find_all_inheritors(relid, ShareRowExclusiveLock, NULL))
	{
		char		kind = get_rel_relkind(lfirst_oid(lc));

		if (kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE)
			result = lappend_oid(result, lfirst_oid(lc));
	}
	return result;
}

static Datum
oid_array(List *oids)
{
	Datum	   *v = palloc(sizeof(Datum) * Max(list_length(oids), 1));
	ListCell   *lc;

	foreach(lc, oids)
		v[foreach_current_index(lc)] = ObjectIdGetDatum(lfirst_oid(lc));
	return PointerGetDatum(construct_array(v, list_length(oids), OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

static Datum
text_array(List *texts)
{
	Datum	   *v = palloc(sizeof(Datum) * Max(list_length(texts), 1));
	ListCell   *lc;

	foreach(lc, texts)
		v[foreach_current_index(lc)] = CStringGetTextDatum(lfirst(lc));
	return PointerGetDatum(construct_array(v, list_length(texts), TEXTOID, -1, false, TYPALIGN_INT));
}

static void
run(const char *sql)
{
	int			rc = SPI_execute(sql, false, 0);

	if (rc < 0)
		elog(ERROR, "%s: %s", SPI_result_code_string(rc), sql);
}

/* does a subscription fill one of them? */
static bool
is_subscribed(List *tree)
{
	Oid			types[] = {OIDARRAYOID};
	Datum		args[] = {oid_array(tree)};

	if (SPI_execute_with_args("SELECT FROM pg_catalog.pg_subscription_rel WHERE srrelid = ANY ($1)", 1, types, args, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read pg_subscription_rel");
	return SPI_processed > 0;
}

/* with the caller's rights, and nobody else's */
static void
make_triggers(Oid relid, int64 source_id, const char *on_error, const char *digest, const char *on_delete)
{
	static const char *const events[][2] = {
		{"insert", "AFTER INSERT ON %s REFERENCING NEW TABLE AS cdp_new FOR EACH STATEMENT"},
		{"update", "AFTER UPDATE ON %s REFERENCING OLD TABLE AS cdp_old NEW TABLE AS cdp_new FOR EACH STATEMENT"},
		{"delete", "AFTER DELETE ON %s REFERENCING OLD TABLE AS cdp_old FOR EACH STATEMENT"},
		{"truncate", "AFTER TRUNCATE ON %s FOR EACH STATEMENT"}
	};
	char	   *call = psprintf("EXECUTE FUNCTION cdp._source_apply('" INT64_FORMAT "', '%s', '%s', '%s')",
								source_id, on_error, digest, on_delete);
	List	   *tree = relation_tree(relid);
	bool		rows = is_subscribed(tree);
	ListCell   *lc;

	foreach(lc, tree)
	{
		char	   *name = relation_name(lfirst_oid(lc));

		for (int i = rows ? 3 : 0; i < lengthof(events); i++)
			run(psprintf("CREATE OR REPLACE TRIGGER cdp_source_%s %s %s", events[i][0], psprintf(events[i][1], name), call));
		if (!rows)
			continue;
		run(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER cdp_source_truncate", name));
		/* partitions get a clone */
		if (lfirst_oid(lc) != relid)
			continue;
		run(psprintf("CREATE OR REPLACE TRIGGER cdp_source_row AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW %s", name, call));
		run(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER cdp_source_row", name));
	}
}

static void
drop_triggers(Oid relid)
{
	Oid			types[] = {OIDARRAYOID, OIDOID};
	Datum		args[] = {oid_array(relation_tree(relid)), ObjectIdGetDatum(trigger_function())};
	SPITupleTable *found;

	if (SPI_execute_with_args("SELECT tgname, tgrelid FROM pg_catalog.pg_trigger"
							  " WHERE tgrelid = ANY ($1) AND tgfoid = $2 AND tgparentid = 0", 2, types, args, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read pg_trigger");
	found = SPI_tuptable;
	for (uint64 i = 0; i < found->numvals; i++)
	{
		bool		isnull;

		run(psprintf("DROP TRIGGER %s ON %s", quote_identifier(SPI_getvalue(found->vals[i], found->tupdesc, 1)),
					 relation_name(DatumGetObjectId(SPI_getbinval(found->vals[i], found->tupdesc, 2, &isnull)))));
	}
}

/* forget a source: as the owner of the tables */
static void
forget(int64 source_id)
{
	static const char *const tables[] = {"source", "source_state", "source_delta", "source_queue"};
	Oid			types[] = {INT8OID};
	Datum		args[] = {Int64GetDatum(source_id)};

	for (int i = 0; i < lengthof(tables); i++)
	{
		if (SPI_execute_with_args(psprintf("DELETE FROM cdp.%s WHERE source_id = $1", tables[i]), 1, types, args, NULL, false, 0) != SPI_OK_DELETE)
			elog(ERROR, "could not forget a source");
	}
}

static char *
required_text(FunctionCallInfo fcinfo, int arg, const char *name, const char *hint)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be NULL", name), errhint("%s", hint)));
	return text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

static void
check_choice(const char *name, const char *value, const char *a, const char *b)
{
	if (strcmp(value, a) != 0 && strcmp(value, b) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be '%s' or '%s'", name, a, b),
				 errhint("'%s' is the default.", a)));
}

static const char attach_hint[] = "Attaching makes triggers on the table; its owner or a superuser does it.";

/*
 * Asked before the lock is taken, as LOCK TABLE does: nobody may stop the
 * users of a table that is not his, not even for the moment of a refusal.
 */
static void
check_owner(Oid relid, const char *hint)
{
	if (get_rel_name(relid) != NULL && !cdp_is_relation_owner(relid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table %s", get_rel_name(relid)),
				 errhint("%s", hint)));
}

/* may this be a source at all? */
static void
check_relation(Relation rel)
{
	char		kind = rel->rd_rel->relkind;

	if (kind == RELKIND_VIEW || kind == RELKIND_MATVIEW || kind == RELKIND_FOREIGN_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"%s\" is a %s, which cannot be followed by triggers", RelationGetRelationName(rel),
						kind == RELKIND_VIEW ? "view" : kind == RELKIND_MATVIEW ? "materialized view" : "foreign table"),
				 errhint("CALL cdp.ingest('%s', …) copies what is in it now; schedule it to follow.",
						 source_plain_name(RelationGetRelid(rel)))));
	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", RelationGetRelationName(rel)),
				 errhint("Attach a table of yours.")));
	if (RelationGetNamespace(rel) == get_namespace_oid("cdp", false))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is a table of customer_cdp itself", RelationGetRelationName(rel)),
				 errhint("Attach a table of yours.")));
	if (IsCatalogRelation(rel))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("\"%s\" is a system catalog", RelationGetRelationName(rel)),
				 errhint("Attach a table of yours.")));
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"%s\" is a temporary table", RelationGetRelationName(rel)),
				 errhint("CALL cdp.ingest('%s', …) copies what is in it.", RelationGetRelationName(rel))));
	check_owner(RelationGetRelid(rel), attach_hint);
}

/*
 * Another source that this relation, a partition of it or a table above it
 * belongs to; as the owner of the tables.  One of the same name whose
 * triggers are gone is the trace of a table that was dropped.
 */
static void
check_not_attached(Relation rel, List *tree)
{
	Oid			types[] = {OIDARRAYOID};
	List	   *all = list_concat(list_copy(tree), rel->rd_rel->relispartition ?
								  get_partition_ancestors(RelationGetRelid(rel)) : NIL);
	Datum		args[] = {oid_array(all)};
	SPITupleTable *found;

	if (SPI_execute_with_args("SELECT s.source_id, s.schema_name || '.' || s.table_name, s.schema_name, s.table_name, c.oid"
							  " FROM cdp.source s JOIN pg_class c ON c.relname = s.table_name"
							  " JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = s.schema_name"
							  " WHERE c.oid = ANY ($1)", 1, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the sources");
	found = SPI_tuptable;
	for (uint64 i = 0; i < found->numvals; i++)
	{
		bool		isnull;
		int64		id = DatumGetInt64(SPI_getbinval(found->vals[i], found->tupdesc, 1, &isnull));
		Oid			relid = DatumGetObjectId(SPI_getbinval(found->vals[i], found->tupdesc, 5, &isnull));
		char	   *name = SPI_getvalue(found->vals[i], found->tupdesc, 2);

		if (relid == RelationGetRelid(rel) && source_trigger_digest(rel, id) == NULL)
			forget(id);
		else
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("\"%s\" is attached already", name),
					 errhint("SELECT cdp.detach_source('%s') first, to attach it with another mapping.", name)));
	}
}

/* every kind of identifier must be known, as the owner of the tables */
void
source_check_kinds(List *kinds)
{
	ListCell   *lc;

	foreach(lc, kinds)
	{
		char	   *kind = lfirst(lc);

		if (cdp_find_kind(kind, strlen(kind)) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("mapping key \"identifiers.%s\": there is no such kind of identifier", kind),
					 errhint("The kinds are %s; a new one is a row of cdp.identifier_kind.", cdp_list_kinds())));
	}
}

/* cdp.attach_source(source, role, mapping, on_error, on_delete, backfill) -> text */
Datum
cdp_attach_source(PG_FUNCTION_ARGS)
{
	char	   *rolename = required_text(fcinfo, 1, "role", "The roles are customer, order, order_line, product and event.");
	char	   *on_error = required_text(fcinfo, 3, "on_error", "'queue' is the default.");
	char	   *on_delete = required_text(fcinfo, 4, "on_delete", "'keep' is the default.");
	bool		backfill = PG_ARGISNULL(5) || PG_GETARG_BOOL(5);
	MemoryContext cxt = CurrentMemoryContext;
	SourceRole	role;
	Oid			relid;
	Relation	rel;
	List	   *keys;
	List	   *kinds;
	List	   *tree;
	char	   *select_list;
	char	   *digest;
	int64		source_id;
	Oid			as;
	CdpVerb		verb;
	char	   *answer;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be NULL", PG_ARGISNULL(0) ? "source" : "mapping"),
				 errhint("For example SELECT cdp.attach_source('shop.member', 'customer', '{\"identifiers\": {\"member_id\": \"id\"}}').")));
	PreventCommandDuringRecovery("attach_source");
	PreventCommandIfReadOnly("attach_source");
	PreventCommandIfParallelMode("attach_source");
	cdp_check_version();
	relid = PG_GETARG_OID(0);
	role = source_role(rolename);
	check_choice("on_error", on_error, "queue", "raise");
	check_choice("on_delete", on_delete, "keep", "cancel");
	if (strcmp(on_delete, "cancel") == 0 && role != SOURCE_ORDER)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("on_delete 'cancel' is for role order"),
				 errhint("It cancels the orders of deleted rows; deleted rows of other roles change nothing ('keep').")));

	check_owner(relid, attach_hint);
	rel = try_relation_open(relid, ShareRowExclusiveLock);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid),
				 errhint("Name an existing table: 'schema.table'.")));
	check_relation(rel);
	select_list = source_check_mapping(rel, role, PG_GETARG_JSONB_P(2), true, &keys, &kinds);
	tree = relation_tree(relid);
	as = has_privs_of_role(rel->rd_rel->relowner, GetUserId()) ? GetUserId() : rel->rd_rel->relowner;

	cdp_begin_write(&verb, "attach_source");
	source_check_kinds(kinds);
	check_not_attached(rel, tree);
	{
		Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
		Datum		args[11];
		bool		isnull;

		args[0] = CStringGetTextDatum(get_namespace_name(RelationGetNamespace(rel)));
		args[1] = CStringGetTextDatum(RelationGetRelationName(rel));
		args[2] = CStringGetTextDatum(rolename);
		args[3] = PG_GETARG_DATUM(2);
		args[4] = CStringGetTextDatum(select_list);
		args[5] = text_array(keys);
		args[6] = text_array(kinds);
		args[7] = CStringGetTextDatum(on_error);
		args[8] = CStringGetTextDatum(on_delete);
		args[9] = CStringGetTextDatum(GetUserNameFromId(as, false));
		args[10] = CStringGetTextDatum(backfill ? "pending" : "none");
		if (SPI_execute_with_args("WITH s AS (INSERT INTO cdp.source AS s (schema_name, table_name, role, mapping, select_list,"
								  "   key_columns, identifier_kinds, on_error, on_delete, owner)"
								  "  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::name) RETURNING s.*),"
								  " t AS (INSERT INTO cdp.source_state (source_id, backfill) SELECT s.source_id, $11 FROM s)"
								  " SELECT s.source_id, " SOURCE_DIGEST " FROM s", 11, types, args, NULL, false, 1) != SPI_OK_SELECT)
			elog(ERROR, "could not note the source");
		source_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		digest = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2));
	}
	cdp_end(&verb);
	/* ALTER TABLE refuses a relation that is open */
	relation_close(rel, NoLock);

	SPI_connect();
	make_triggers(relid, source_id, on_error, digest, on_delete);
	SPI_finish();

	answer = psprintf("%s: attached as %s", source_plain_name(relid), rolename);
	if (backfill)
	{
		int64		taken;
		int64		queued;

		if (source_copy_inline(source_id, relid, &taken, &queued))
			answer = psprintf("%s, " INT64_FORMAT " rows taken, " INT64_FORMAT " queued", answer, taken, queued);
		else
		{
			ereport(NOTICE,
					(errmsg("%s has more than %d rows and was not copied yet", source_plain_name(relid), cdp_backfill_inline_rows),
					 errhint("CALL cdp.backfill_source('%s'); it commits per batch and can be stopped and started again.",
							 relation_name(relid))));
			answer = psprintf("%s, back-fill pending", answer);
		}
	}
	PG_RETURN_TEXT_P(cstring_to_text(answer));
}

/* number of the source of that name, 0 when there is none; as the owner of the tables */
static int64
find_source(const char *schema, const char *name)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		args[] = {CStringGetTextDatum(schema), CStringGetTextDatum(name)};
	bool		isnull;

	if (SPI_execute_with_args("SELECT source_id FROM cdp.source WHERE schema_name = $1 AND table_name = $2",
							  2, types, args, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the sources");
	return SPI_processed == 0 ? 0 : DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

static void
not_attached(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("\"%s\" is not an attached source", name),
			 errhint("SELECT * FROM cdp.source_status lists the sources.")));
}

static void
detach(const char *schema, const char *name, Oid relid)
{
	CdpVerb		verb;
	int64		id;

	PreventCommandDuringRecovery("detach_source");
	PreventCommandIfReadOnly("detach_source");
	PreventCommandIfParallelMode("detach_source");
	if (OidIsValid(relid))
	{
		check_owner(relid, "Its owner or a superuser detaches it.");
		LockRelationOid(relid, ShareRowExclusiveLock);
		SPI_connect();
		drop_triggers(relid);
		SPI_finish();
	}
	cdp_begin_write(&verb, "detach_source");
	id = find_source(schema, name);
	if (id == 0)
		not_attached(psprintf("%s.%s", schema, name));
	forget(id);
	cdp_end(&verb);
}

/* cdp.detach_source(source regclass) -> void */
Datum
cdp_detach_source(PG_FUNCTION_ARGS)
{
	Oid			relid;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("source must not be NULL"),
				 errhint("SELECT * FROM cdp.source_status lists the sources.")));
	relid = PG_GETARG_OID(0);
	if (get_rel_name(relid) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid),
				 errhint("Detach a table that was dropped by its name: SELECT cdp.detach_source('schema.table').")));
	detach(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid), relid);
	PG_RETURN_VOID();
}

/* cdp.detach_source(source text) -> void: also one whose table was dropped */
Datum
cdp_detach_source_name(PG_FUNCTION_ARGS)
{
	RangeVar   *rv;
	Oid			relid;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("source must not be NULL"),
				 errhint("SELECT * FROM cdp.source_status lists the sources.")));
	rv = makeRangeVarFromNameList(textToQualifiedNameList(PG_GETARG_TEXT_PP(0)));
	relid = RangeVarGetRelid(rv, NoLock, true);
	if (OidIsValid(relid))
		detach(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid), relid);
	else if (rv->schemaname == NULL)
		not_attached(rv->relname);
	else
		detach(rv->schemaname, rv->relname, InvalidOid);
	PG_RETURN_VOID();
}

/* does the relation carry what attaching gave it? */
static bool
has_triggers(Oid relid, int64 source_id)
{
	Relation	rel = table_open(relid, AccessShareLock);
	bool		result = source_trigger_digest(rel, source_id) != NULL;

	table_close(rel, AccessShareLock);
	return result;
}

/*
 * cdp._make_source_triggers(source_id, source) -> boolean: what DROP
 * EXTENSION .. CASCADE took, what a new partition lacks.  The digest is
 * renewed from the table, so the caller must be allowed to be the role of
 * the source.
 */
Datum
cdp_make_source_triggers(PG_FUNCTION_ARGS)
{
	int64		source_id = PG_GETARG_INT64(0);
	Oid			relid = PG_GETARG_OID(1);
	MemoryContext cxt = CurrentMemoryContext;
	Oid			types[] = {INT8OID};
	Datum		args[] = {PG_GETARG_DATUM(0)};
	CdpVerb		verb;
	char	   *on_error;
	char	   *on_delete;
	char	   *digest;
	Oid			owner;
	bool		missing = false;
	List	   *tree = get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE ?
		find_all_inheritors(relid, NoLock, NULL) : list_make1_oid(relid);
	ListCell   *lc;

	foreach(lc, tree)
	{
		char		kind = get_rel_relkind(lfirst_oid(lc));

		if ((kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE) && !has_triggers(lfirst_oid(lc), source_id))
			missing = true;
	}
	if (!missing)
		PG_RETURN_BOOL(false);

	/* migrate() calls this before the version is noted */
	source_begin_owner(&verb);
	if (SPI_execute_with_args("SELECT s.on_error, s.on_delete, s.owner::text, " SOURCE_DIGEST " FROM cdp.source s WHERE s.source_id = $1",
							  1, types, args, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read a source");
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no source " INT64_FORMAT, source_id),
				 errhint("SELECT * FROM cdp.source_status lists the sources.")));
	MemoryContextSwitchTo(cxt);
	on_error = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	on_error = MemoryContextStrdup(cxt, on_error);
	on_delete = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2));
	owner = get_role_oid(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3), false);
	digest = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4));
	cdp_end(&verb);
	if (!has_privs_of_role(GetUserId(), owner) || !cdp_is_relation_owner(relid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role %s may not make the triggers of source %s", GetUserNameFromId(GetUserId(), false), source_plain_name(relid)),
				 errhint("Its owner runs SELECT cdp.attach_source(…) again.")));
	SPI_connect();
	make_triggers(relid, source_id, on_error, digest, on_delete);
	SPI_finish();
	PG_RETURN_BOOL(true);
}
