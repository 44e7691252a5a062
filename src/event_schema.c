/*
 * event_schema.c
 *	  The tracking plan: which properties an event must have, and what
 *	  becomes of one that does not.
 *
 *		mode		track						track_many, ingest
 *		warn		kept, WARNING				kept, one WARNING
 *		quarantine	event_reject, NULL, WARNING	event_reject
 *		reject		error, nothing kept			event_reject
 *
 * An event whose name has no row is fine.  The rows are cached per backend
 * and read again after a change, see cdp_rules_epoch.
 *
 * Page: doc/event.md.  Tests: test/sql/event.sql.
 */
#include "event.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

typedef struct Property
{
	char	   *name;
	char	   *type;			/* NULL: any */
	bool		required;
	bool		is_trait;
} Property;

typedef struct Schema
{
	char		name[CDP_MAX_NAME_BYTES + 1];
	CdpVerdict	mode;			/* CDP_ACCEPT: warn */
	int			n;
	Property   *properties;
} Schema;

static MemoryContext plan_context = NULL;
static HTAB *plan_table = NULL;
static uint64 plan_epoch = 0;

static Property *
find_property(Property *list, int *n, const char *name, MemoryContext context)
{
	for (int i = 0; i < *n; i++)
	{
		if (strcmp(list[i].name, name) == 0)
			return &list[i];
	}
	memset(&list[*n], 0, sizeof(Property));
	list[*n].name = MemoryContextStrdup(context, name);
	return &list[(*n)++];
}

static int
text_array(Datum array, bool isnull, Datum **elems)
{
	int			n = 0;

	if (!isnull)
		deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, elems, NULL, &n);
	return n;
}

static void
load_schema(HeapTuple tup, TupleDesc desc, HTAB *table, MemoryContext context)
{
	char		key[CDP_MAX_NAME_BYTES + 1];
	char	   *mode = SPI_getvalue(tup, desc, 2);
	bool		null3,
				null4,
				null5;
	Datum		required = SPI_getbinval(tup, desc, 3, &null3);
	Datum		traits = SPI_getbinval(tup, desc, 4, &null4);
	Datum		types = SPI_getbinval(tup, desc, 5, &null5);
	Datum	   *elems = NULL;
	Schema	   *schema;
	int			max;
	bool		found;
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;
	Property   *p = NULL;
	int			n;

	memset(key, 0, sizeof(key));
	strlcpy(key, SPI_getvalue(tup, desc, 1), sizeof(key));
	schema = hash_search(table, key, HASH_ENTER, &found);
	schema->mode = strcmp(mode, "warn") == 0 ? CDP_ACCEPT :
		strcmp(mode, "quarantine") == 0 ? CDP_QUARANTINE : CDP_REJECT;
	schema->n = 0;
	max = (null3 ? 0 : ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(required)), ARR_DIMS(DatumGetArrayTypeP(required)))) +
		(null4 ? 0 : ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(traits)), ARR_DIMS(DatumGetArrayTypeP(traits)))) +
		(null5 ? 0 : (int) JB_ROOT_COUNT(DatumGetJsonbP(types)));
	schema->properties = MemoryContextAlloc(context, sizeof(Property) * Max(max, 1));

	n = text_array(required, null3, &elems);
	for (int i = 0; i < n; i++)
		find_property(schema->properties, &schema->n, TextDatumGetCString(elems[i]), context)->required = true;
	n = text_array(traits, null4, &elems);
	for (int i = 0; i < n; i++)
		find_property(schema->properties, &schema->n, TextDatumGetCString(elems[i]), context)->is_trait = true;
	if (null5)
		return;
	it = JsonbIteratorInit(&DatumGetJsonbP(types)->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			p = find_property(schema->properties, &schema->n,
							  pnstrdup(v.val.string.val, v.val.string.len), context);
		else if (token == WJB_VALUE && p != NULL && v.type == jbvString)
			p->type = MemoryContextStrdup(context, pnstrdup(v.val.string.val, v.val.string.len));
	}
}

static void
load_plan(void)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context;
	HASHCTL		ctl;
	HTAB	   *table;
	uint64		epoch;

	if (plan_table != NULL && plan_epoch == cdp_rules_epoch)
		return;

	cdp_watch_rules(cdp_relation("event_schema"));
	epoch = cdp_rules_epoch;
	cdp_read_rules(&plan, "SELECT name, mode, required, traits, properties FROM cdp.event_schema");

	/* build aside, so that an error leaves the old plan in place */
	context = AllocSetContextCreate(CacheMemoryContext, "customer_cdp tracking plan", ALLOCSET_SMALL_SIZES);
	ctl.keysize = CDP_MAX_NAME_BYTES + 1;
	ctl.entrysize = sizeof(Schema);
	ctl.hcxt = context;
	table = hash_create("customer_cdp tracking plan", 64, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	for (uint64 i = 0; i < SPI_processed; i++)
		load_schema(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, table, context);
	SPI_freetuptable(SPI_tuptable);
	if (plan_context != NULL)
		MemoryContextDelete(plan_context);
	plan_context = context;
	plan_table = table;
	plan_epoch = epoch;
	/* SPI leaves its own context behind, which ends with the verb; the caller allocates on */
	MemoryContextSwitchTo(caller);
}

static bool
has_type(const JsonbValue *v, const char *type)
{
	TimestampTz at;

	if (strcmp(type, "string") == 0)
		return v->type == jbvString;
	if (strcmp(type, "number") == 0)
		return v->type == jbvNumeric;
	if (strcmp(type, "integer") == 0)
		return v->type == jbvNumeric &&
			DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(v->val.numeric),
											 DirectFunctionCall2(numeric_trunc, NumericGetDatum(v->val.numeric),
																 Int32GetDatum(0))));
	if (strcmp(type, "boolean") == 0)
		return v->type == jbvBool;
	if (strcmp(type, "date") == 0)
		return v->type == jbvString &&
			cdp_parse_moment(pnstrdup(v->val.string.val, v->val.string.len), &at);
	if (v->type != jbvBinary)
		return false;
	return strcmp(type, "array") == 0 ? JsonContainerIsArray(v->val.binary.data) :
		JsonContainerIsObject(v->val.binary.data);
}

/* Properties that the plan calls traits, added to the traits the caller gave. */
static Jsonb *
with_trait(Jsonb *traits, const char *name, JsonbValue *value)
{
	JsonbParseState *state = NULL;
	JsonbValue	key;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (traits != NULL)
	{
		JsonbIterator *it = JsonbIteratorInit(&traits->root);
		JsonbValue	v;
		JsonbIteratorToken token;

		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		{
			if (token == WJB_KEY || token == WJB_VALUE)
				pushJsonbValue(&state, token, &v);
		}
	}
	key.type = jbvString;
	key.val.string.val = unconstify(char *, name);
	key.val.string.len = strlen(name);
	pushJsonbValue(&state, WJB_KEY, &key);
	pushJsonbValue(&state, WJB_VALUE, value);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

void
cdp_check_plan(CdpEventItem *item)
{
	Schema	   *schema;
	const char *wrong = NULL;

	load_plan();
	schema = hash_search(plan_table, item->name, HASH_FIND, NULL);
	if (schema == NULL)
		return;
	for (int i = 0; i < schema->n; i++)
	{
		Property   *p = &schema->properties[i];
		JsonbValue	buf;
		JsonbValue *v = item->properties == NULL ? NULL :
			getKeyJsonValueFromContainer(&item->properties->root, p->name, strlen(p->name), &buf);

		if (v == NULL || v->type == jbvNull)
		{
			if (p->required && wrong == NULL)
				wrong = psprintf("event \"%s\" lacks property \"%s\"", item->name, p->name);
			continue;
		}
		if (p->type != NULL && !has_type(v, p->type))
		{
			if (wrong == NULL)
				wrong = psprintf("property \"%s\" of event \"%s\" is not of type %s", p->name, item->name, p->type);
			continue;
		}
		if (p->is_trait)
			item->who.traits = with_trait(item->who.traits, p->name, v);
	}
	if (wrong == NULL)
		return;
	item->verdict = schema->mode;
	if (schema->mode == CDP_ACCEPT)
		item->warning = wrong;
	else
	{
		item->who.sqlstate = ERRCODE_CHECK_VIOLATION;
		item->who.message = wrong;
		item->who.hint = "The tracking plan is table cdp.event_schema; once the plan or the sender is mended, cdp.retry_rejects() takes what was kept.";
	}
}
