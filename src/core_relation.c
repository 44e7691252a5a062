/*
 * core_relation.c
 *	  "profile_alias" -> its Oid, without a walk through the catalog caches.
 *
 * A verb asks for some ten relations of ours in every call, by name, because
 * their Oids are nobody's to know: migrate() may make a table again.  So an
 * answer is kept until PostgreSQL says that the relation, or any schema, has
 * changed.  That there is none is not kept.
 *
 * Tests: test/specs/core_relation_again.spec.
 */
#include "cdp.h"

#include "catalog/namespace.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#define CDP_SCHEMA	"cdp"

typedef struct KeptName
{
	Oid			relid;			/* InvalidOid: an empty place */
	char		name[NAMEDATALEN];
} KeptName;

/* each name has one place, and the last one of those that share it has it; a power of two */
#define PLACES	64
static KeptName kept[PLACES];
/* how often something was forgotten */
static uint64 forgotten = 0;

/* The relation has changed; InvalidOid: any of them may have. */
void
cdp_forget_relation(Oid relid)
{
	forgotten++;
	for (int i = 0; i < PLACES; i++)
	{
		if (!OidIsValid(relid) || kept[i].relid == relid)
			kept[i].relid = InvalidOid;
	}
}

static void
schemas_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	cdp_forget_relation(InvalidOid);
}

void
cdp_core_relation_init(void)
{
	CacheRegisterSyscacheCallback(NAMESPACEOID, schemas_changed, (Datum) 0);
}

/* Oid of a relation of schema cdp, InvalidOid when it is not there. */
Oid
cdp_relation(const char *name)
{
	uint32		hash = 0;
	int			len = 0;
	KeptName   *place;
	uint64		before;
	Oid			nsp,
				relid;

	for (; name[len] != '\0'; len++)
		hash = hash * 31 + (unsigned char) name[len];
	place = &kept[(hash ^ (hash >> 6)) % PLACES];
	if (OidIsValid(place->relid) && strcmp(place->name, name) == 0)
		return place->relid;

	before = forgotten;
	nsp = get_namespace_oid(CDP_SCHEMA, true);
	relid = OidIsValid(nsp) ? get_relname_relid(name, nsp) : InvalidOid;
	/* unless the look-up itself took in news */
	if (OidIsValid(relid) && before == forgotten && len < NAMEDATALEN)
	{
		place->relid = relid;
		strcpy(place->name, name);
	}
	return relid;
}
