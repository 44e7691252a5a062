/*
 * tag_dictionary.c
 *	  cdp.tag as writers of tags ask for it: cached, read again after a change.
 *
 * Counting and refreshing write cdp.tag all the time; only the columns that
 * stand here make sessions read it again, see trigger tag_changed.
 *
 * SQL: sql/tag_customer.sql.  Page: doc/tag_customer.md.  Tests:
 * test/sql/tag_customer.sql.
 */
#include "tag_customer.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

static const char *const type_names[] = {"none", "number", "date", "text"};

static MemoryContext dictionary_context = NULL;
static HTAB *dictionary = NULL;
static uint64 dictionary_epoch = 0;

const char *
cdp_tag_type_name(TagValueType type)
{
	return type_names[type];
}

/* one row: name, value_type, default_ttl, has a rule, emits_events */
static void
load_rule(HTAB *table, HeapTuple tup, TupleDesc desc)
{
	char		key[TAG_MAX_NAME + 1];
	char	   *value_type = SPI_getvalue(tup, desc, 2);
	CdpTagRule *rule;
	bool		isnull;
	Datum		ttl;

	strlcpy(key, SPI_getvalue(tup, desc, 1), sizeof(key));
	rule = hash_search(table, key, HASH_ENTER, NULL);
	rule->typed = value_type != NULL;
	rule->value_type = TAG_NONE;
	for (int i = 0; rule->typed && i < lengthof(type_names); i++)
	{
		if (strcmp(value_type, type_names[i]) == 0)
			rule->value_type = i;
	}
	ttl = SPI_getbinval(tup, desc, 3, &isnull);
	rule->expires = !isnull;
	if (!isnull)
		rule->default_ttl = *DatumGetIntervalP(ttl);
	rule->has_rule = DatumGetBool(SPI_getbinval(tup, desc, 4, &isnull));
	rule->emits_events = DatumGetBool(SPI_getbinval(tup, desc, 5, &isnull));
}

static void
load_dictionary(void)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context;
	HASHCTL		ctl;
	HTAB	   *table;
	uint64		epoch;

	cdp_watch_rules(cdp_relation("tag"));
	epoch = cdp_rules_epoch;
	cdp_read_rules(&plan, "SELECT name, value_type, default_ttl, rule IS NOT NULL, emits_events FROM cdp.tag");

	/* build aside, so that an error leaves the old one in place */
	context = AllocSetContextCreate(CacheMemoryContext, "customer_cdp tags", ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = TAG_MAX_NAME + 1;
	ctl.entrysize = sizeof(CdpTagRule);
	ctl.hcxt = context;
	table = hash_create("customer_cdp tags", 256, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	for (uint64 i = 0; i < SPI_processed; i++)
		load_rule(table, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	SPI_freetuptable(SPI_tuptable);
	if (dictionary_context != NULL)
		MemoryContextDelete(dictionary_context);
	dictionary_context = context;
	dictionary = table;
	dictionary_epoch = epoch;
	/* SPI left us in its own, which is not where the caller's memory lives */
	MemoryContextSwitchTo(caller);
}

const CdpTagRule *
cdp_tag_rule(const char *name, int len)
{
	char		key[TAG_MAX_NAME + 1];

	if (dictionary == NULL || dictionary_epoch != cdp_rules_epoch)
		load_dictionary();
	memcpy(key, name, len);
	key[len] = '\0';
	return hash_search(dictionary, key, HASH_FIND, NULL);
}
