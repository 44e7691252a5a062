/*
 * identity.c
 *	  From the identifiers an application has to one stable customer id.
 *
 * A batch of sightings is worked off in memory first, on what the database
 * knew a moment ago, and then written in one sorted lock order:
 *
 *	  parse		every (kind, value) of the batch becomes one node
 *	  probe		by index: node -> origin profile -> customer
 *	  simulate	item by item: who is this, what is new, who becomes one
 *	  write		new identifiers (sorted, ON CONFLICT DO NOTHING), their
 *				profiles, locks on the customers that merge (ascending),
 *				evidence, aliases, sightings, traits
 *
 * Somebody else may have written in between.  The unique index on live
 * identifiers and the row locks tell us; then we probe and simulate again
 * on the new truth.  Whoever knows everybody already, the usual case, goes
 * through probe and simulate and writes nothing and locks nothing.
 *
 * Which profile a new identifier gets: kinds with own_profile get one of
 * their own; the others join the profile of the strongest identifier of the
 * sighting that has one.  So what a cookie did before the login stays under
 * the cookie's profile, and the link between the two can be taken back.
 *
 * SQL: sql/identity.sql.  Tests: test/sql/identity.sql.  Page: doc/identity.md.
 */
#include "identity_batch.h"

#include "access/xact.h"
#include "commands/sequence.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "probe.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* customers that become one: every customer met points to its root */
typedef struct Root
{
	int64		customer_id;
	char		status;
	int64		parent;
} Root;

#define SH_PREFIX roottab
#define SH_ELEMENT_TYPE Root
#define SH_KEY_TYPE int64
#define SH_KEY customer_id
#define SH_HASH_KEY(tb, k) murmurhash32((uint32) ((uint64) (k) ^ ((uint64) (k) >> 32)))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static int
compare_places(const void *x, const void *y)
{
	const IdNode *a = *(IdNode *const *) x;
	const IdNode *b = *(IdNode *const *) y;
	int			cmp = strcmp(a->kind, b->kind);

	return cmp != 0 ? cmp : strcmp(a->value, b->value);
}

/*
 * What the database knows now, also from our own writes of a moment ago.  In
 * the order of the index, so that neighbours are found in a page that is at
 * hand.
 */
static void
probe(Batch *b)
{
	IdNode	  **order = palloc(sizeof(IdNode *) * Max(b->nnodes, 1));
	CdpProbe   *identifiers;
	CdpProbe   *aliases;
	int			id_column,
				profile_column,
				seen_column,
				customer_column;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext keys;
	bool		isnull;

	cdp_push_fresh_snapshot();
	identifiers = cdp_probe_open("identifier", "identifier_live");
	aliases = cdp_probe_open("profile_alias", "profile_alias_pkey");
	id_column = cdp_probe_column(identifiers, "identifier_id");
	profile_column = cdp_probe_column(identifiers, "profile_id");
	seen_column = cdp_probe_column(identifiers, "last_seen");
	customer_column = cdp_probe_column(aliases, "customer_id");
	keys = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp keys", ALLOCSET_SMALL_SIZES);
	for (int i = 0; i < b->nnodes; i++)
		order[i] = &b->nodes[i];
	qsort(order, b->nnodes, sizeof(IdNode *), compare_places);
	for (int i = 0; i < b->nnodes; i++)
	{
		IdNode	   *node = order[i];
		TupleTableSlot *slot;
		Datum		kind,
					value;

		node->identifier_id = node->profile_id = node->alias_id = 0;
		node->is_new = false;
		/* only the keys: what a scan allocates must live as long as the scan */
		MemoryContextReset(keys);
		MemoryContextSwitchTo(keys);
		kind = CStringGetTextDatum(node->kind);
		value = CStringGetTextDatum(node->value);
		MemoryContextSwitchTo(caller);
		slot = cdp_probe_text2(identifiers, kind, value);
		if (slot == NULL)
			continue;
		node->identifier_id = DatumGetInt64(slot_getattr(slot, id_column, &isnull));
		node->profile_id = DatumGetInt64(slot_getattr(slot, profile_column, &isnull));
		node->last_seen = DatumGetTimestampTz(slot_getattr(slot, seen_column, &isnull));
		slot = cdp_probe_int8(aliases, node->profile_id);
		node->alias_id = slot ? DatumGetInt64(slot_getattr(slot, customer_column, &isnull)) : node->profile_id;
	}
	MemoryContextDelete(keys);
	pfree(order);
	cdp_probe_close(aliases);
	cdp_probe_close(identifiers);
	PopActiveSnapshot();
}

static int64
find_root(roottab_hash *roots, int64 customer_id)
{
	Root	   *r = roottab_lookup(roots, customer_id);

	while (r != NULL && r->parent != r->customer_id)
	{
		Root	   *up = roottab_lookup(roots, r->parent);

		r->parent = up->parent;
		customer_id = r->parent;
		r = roottab_lookup(roots, customer_id);
	}
	return customer_id;
}

static void
ensure_root(roottab_hash *roots, int64 customer_id)
{
	bool		found;
	Root	   *r = roottab_insert(roots, customer_id, &found);

	if (!found)
		r->parent = customer_id;
}

/* Two customers become one: the older id survives. */
static void
join_customers(Batch *b, roottab_hash *roots, int64 x, int64 y, const char *rule)
{
	Merge	   *m;

	x = find_root(roots, x);
	y = find_root(roots, y);
	if (x == y)
		return;
	ensure_root(roots, x);
	ensure_root(roots, y);
	GROW(b->merges, b->nmerges, b->maxmerges);
	m = &b->merges[b->nmerges++];
	m->winner = Min(x, y);
	m->loser = Max(x, y);
	m->rule = rule;
	roottab_lookup(roots, m->loser)->parent = m->winner;
}

static int64
new_profile_id(void)
{
	return nextval_internal(cdp_relation("profile_profile_id_seq"), false);
}

/* a stronger than b: priority, then kind, then value, so that order never matters */
bool
cdp_is_stronger(const IdNode *a, const IdNode *b)
{
	int			cmp;

	if (a->priority != b->priority)
		return a->priority < b->priority;
	cmp = strcmp(a->kind, b->kind);
	return cmp != 0 ? cmp < 0 : strcmp(a->value, b->value) < 0;
}

static void
give_profile(Batch *b, IdNode *node, int64 profile_id, int64 customer_id)
{
	node->profile_id = profile_id;
	node->alias_id = customer_id;
	node->is_new = true;
	b->nnew++;
}

static void
simulate_item(Batch *b, roottab_hash *roots, int i)
{
	CdpSighting *item = &b->items[i];
	int		   *uses = b->uses + b->first[i];
	int			n = b->first[i + 1] - b->first[i];
	IdNode	   *strongest = &b->nodes[uses[0]];	/* an item without any was refused */
	IdNode	   *holder = NULL;	/* strongest that has a profile */

	for (int u = 0; u < n; u++)
	{
		IdNode	   *node = &b->nodes[uses[u]];

		if (node->profile_id == 0 && node->own_profile)
		{
			int64		id = new_profile_id();

			give_profile(b, node, id, id);
		}
		if (cdp_is_stronger(node, strongest))
			strongest = node;
		if (node->profile_id != 0 && (holder == NULL || cdp_is_stronger(node, holder)))
			holder = node;
	}
	if (holder == NULL)
	{
		int64		id = new_profile_id();

		holder = strongest;
		give_profile(b, holder, id, id);
	}
	for (int u = 0; u < n; u++)
	{
		IdNode	   *node = &b->nodes[uses[u]];

		if (node->profile_id == 0)
			give_profile(b, node, holder->profile_id, holder->alias_id);
	}
	for (int u = 0; u < n; u++)
	{
		for (int w = u + 1; w < n; w++)
		{
			IdNode	   *x = &b->nodes[uses[u]];
			IdNode	   *y = &b->nodes[uses[w]];
			Pair	   *p;

			if (x->profile_id == y->profile_id)
				continue;
			GROW(b->pairs, b->npairs, b->maxpairs);
			p = &b->pairs[b->npairs++];
			p->a = uses[u];
			p->b = uses[w];
			p->occurred_at = item->occurred_at;
			p->source = item->source;
			join_customers(b, roots, x->alias_id, y->alias_id,
						   psprintf("%s+%s", cdp_is_stronger(x, y) ? x->kind : y->kind,
									cdp_is_stronger(x, y) ? y->kind : x->kind));
		}
	}
	item->profile_id = strongest->profile_id;
	item->customer_id = find_root(roots, strongest->alias_id);
}

static void
simulate(Batch *b)
{
	roottab_hash *roots = roottab_create(CurrentMemoryContext, 64, NULL);

	b->npairs = b->nmerges = b->nnew = 0;
	for (int i = 0; i < b->nitems; i++)
	{
		if (b->items[i].sqlstate == 0)
			simulate_item(b, roots, i);
	}
	roottab_destroy(roots);
}

/* how often others may overtake us before we give up: each time somebody made progress */
#define MAX_ROUNDS	20

void
cdp_identify(CdpSighting *items, int n, bool raise)
{
	Batch		b;
	int			round = 0;

	memset(&b, 0, sizeof(b));
	b.items = items;
	b.nitems = n;
	cdp_parse_sightings(&b);
	if (raise)
	{
		for (int i = 0; i < n; i++)
		{
			if (items[i].sqlstate != 0)
				ereport(ERROR,
						(errcode(items[i].sqlstate),
						 errmsg("%s", items[i].message),
						 n > 1 ? errdetail("Item %d of %d.", i + 1, n) : 0,
						 errhint("%s", items[i].hint)));
		}
	}
	if (b.nuses == 0)
		return;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (++round > MAX_ROUNDS)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not identify the customer due to concurrent changes"),
					 errhint("Retry the transaction.")));
		probe(&b);
		simulate(&b);
		if (b.nnew > 0 && !cdp_write_identifiers(&b))
			continue;
		if (b.nmerges > 0 && !cdp_lock_customers(&b))
			continue;
		break;
	}
	if (b.npairs > 0)
		cdp_write_links(&b);
	for (int i = 0; i < b.nmerges; i++)
		cdp_merge_step(b.merges[i].winner, b.merges[i].loser, b.merges[i].rule, NULL);
	cdp_write_last_seen(&b);
	/* a large batch has to live with what is left */
	pfree(b.nodes);
	pfree(b.uses);
	cdp_write_traits(&b);
}
