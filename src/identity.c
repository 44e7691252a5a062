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
#include "identity.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "common/hashfn.h"
#include "identity_kind.h"
#include "miscadmin.h"
#include "probe.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* one distinct (kind, value) of the batch */
typedef struct IdNode
{
	const char *kind;
	const char *value;
	int			priority;
	bool		own_profile;
	/* what the database says; 0: unknown */
	int64		identifier_id;
	int64		profile_id;
	int64		alias_id;		/* customer of profile_id */
	TimestampTz last_seen;
	/* what the simulation says */
	bool		is_new;			/* to be inserted under profile_id */
	TimestampTz first_at;		/* oldest and newest sighting of the batch */
	TimestampTz seen_at;
	const char *source;
} IdNode;

typedef struct NodeKey
{
	const char *kind;
	const char *value;
} NodeKey;

/* customers that become one: every customer met points to its root */
typedef struct Root
{
	int64		customer_id;
	char		status;
	int64		parent;
} Root;

static inline uint32
hash_value(const char *s)
{
	return hash_bytes((const unsigned char *) s, strlen(s));
}

/* nodes live in an array that must not move: the table holds their numbers */
typedef struct NodeEntry
{
	NodeKey		key;
	uint32		hash;
	char		status;
	int			node;
} NodeEntry;

#define SH_PREFIX nodetab
#define SH_ELEMENT_TYPE NodeEntry
#define SH_KEY_TYPE NodeKey
#define SH_KEY key
#define SH_HASH_KEY(tb, k) (hash_value((k).value) ^ hash_value((k).kind))
#define SH_EQUAL(tb, a, b) (strcmp((a).value, (b).value) == 0 && strcmp((a).kind, (b).kind) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

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

typedef struct Pair
{
	int			a;				/* nodes */
	int			b;
	TimestampTz occurred_at;
	const char *source;
} Pair;

typedef struct Merge
{
	int64		winner;
	int64		loser;
	const char *rule;
} Merge;

typedef struct Batch
{
	CdpSighting *items;
	int			nitems;
	/* accepted identifiers of item i: uses[first[i] .. first[i + 1]) */
	int		   *first;
	int		   *uses;
	int			nuses;
	int			maxuses;
	IdNode	   *nodes;
	int			nnodes;
	int			maxnodes;
	nodetab_hash *table;
	/* results of the simulation */
	roottab_hash *roots;
	Pair	   *pairs;
	int			npairs;
	int			maxpairs;
	Merge	   *merges;
	int			nmerges;
	int			maxmerges;
	int			nnew;
} Batch;

#define GROW(array, n, max) \
	do { \
		if ((n) == (max)) \
		{ \
			(max) = (max) > 0 ? (max) * 2 : 64; \
			(array) = (array) == NULL ? palloc(sizeof(*(array)) * (Size) (max)) : \
				repalloc_huge((array), sizeof(*(array)) * (Size) (max)); \
		} \
	} while (0)

/* Mark an item as bad; what is marked writes nothing. */
static void
refuse(CdpSighting *item, int sqlstate, const char *message, const char *hint)
{
	item->sqlstate = sqlstate;
	item->message = message;
	item->hint = hint;
}

/* ---------------------------------------------------------------- parse */

static void
add_use(Batch *b, const CdpSighting *item, const CdpKind *kind, const char *value)
{
	NodeKey		key;
	NodeEntry  *entry;
	IdNode	   *node;
	bool		found;

	key.kind = kind->kind;
	key.value = value;
	entry = nodetab_insert(b->table, key, &found);
	if (!found)
	{
		GROW(b->nodes, b->nnodes, b->maxnodes);
		node = &b->nodes[b->nnodes];
		memset(node, 0, sizeof(*node));
		/* the cache may be rebuilt while the batch runs */
		node->kind = entry->key.kind = pstrdup(kind->kind);
		node->value = value;
		node->priority = kind->priority;
		node->own_profile = kind->own_profile;
		node->first_at = node->seen_at = item->occurred_at;
		node->source = item->source;
		entry->node = b->nnodes++;
	}
	else
	{
		node = &b->nodes[entry->node];
		node->first_at = Min(node->first_at, item->occurred_at);
		node->seen_at = Max(node->seen_at, item->occurred_at);
		/* the same identifier twice in one sighting is once */
		for (int i = b->first[item - b->items]; i < b->nuses; i++)
		{
			if (b->uses[i] == entry->node)
				return;
		}
	}
	GROW(b->uses, b->nuses, b->maxuses);
	b->uses[b->nuses++] = entry->node;
}

/* One string under a kind: blank is not given, what the normaliser refuses is dropped. */
static bool
take_value(Batch *b, CdpSighting *item, const CdpKind *kind, const JsonbValue *v, int *given)
{
	char	   *value;

	if (v->type == jbvNull)
		return true;
	if (v->type != jbvString)
	{
		refuse(item, ERRCODE_INVALID_PARAMETER_VALUE,
			   psprintf("the value of identifier \"%s\" must be a string", kind->kind),
			   psprintf("Quote it: {\"%s\": \"…\"}; several values are an array of strings.", kind->kind));
		return false;
	}
	if (++*given > CDP_MAX_IDENTIFIERS)
	{
		refuse(item, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
			   psprintf("more than %d identifiers in one sighting", CDP_MAX_IDENTIFIERS),
			   "Send the identifiers of one customer only.");
		return false;
	}
	value = cdp_normalize_value(kind, v->val.string.val, v->val.string.len);
	if (value == NULL)
		return true;
	if (strlen(value) > CDP_MAX_VALUE_BYTES)
	{
		refuse(item, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
			   psprintf("the value of identifier \"%s\" is longer than %d bytes", kind->kind, CDP_MAX_VALUE_BYTES),
			   "An identifier is short; send a hash of long tokens.");
		return false;
	}
	add_use(b, item, kind, value);
	return true;
}

static bool
parse_identifiers(Batch *b, CdpSighting *item)
{
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;
	const CdpKind *kind = NULL;
	int			given = 0;
	int			depth = 0;

	if (item->identifiers == NULL)
	{
		refuse(item, ERRCODE_NULL_VALUE_NOT_ALLOWED, "identifiers must not be NULL",
			   "For example '{\"phone\": \"+86 138 0000 0000\"}'.");
		return false;
	}
	if (!JB_ROOT_IS_OBJECT(item->identifiers))
	{
		refuse(item, ERRCODE_INVALID_PARAMETER_VALUE, "identifiers must be an object of kind and value",
			   "For example '{\"phone\": \"+86 138 0000 0000\"}'.");
		return false;
	}
	it = JsonbIteratorInit(&item->identifiers->root);
	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		switch (token)
		{
			case WJB_KEY:
				kind = cdp_find_kind(v.val.string.val, v.val.string.len);
				if (kind == NULL)
				{
					refuse(item, ERRCODE_INVALID_PARAMETER_VALUE,
						   psprintf("there is no kind of identifier \"%s\"",
									pnstrdup(v.val.string.val, Min(v.val.string.len, NAMEDATALEN))),
						   psprintf("The kinds are %s; a new one is a row of cdp.identifier_kind.", cdp_list_kinds()));
					return false;
				}
				break;
			case WJB_VALUE:
			case WJB_ELEM:
				if (!take_value(b, item, kind, &v, &given))
					return false;
				break;
			case WJB_BEGIN_OBJECT:
			case WJB_BEGIN_ARRAY:
				/* the object itself, and one level of arrays in it */
				if (++depth > (token == WJB_BEGIN_OBJECT ? 1 : 2))
				{
					v.type = jbvBinary;
					return take_value(b, item, kind, &v, &given);
				}
				break;
			case WJB_END_OBJECT:
			case WJB_END_ARRAY:
				depth--;
				break;
			default:
				break;
		}
	}
	if (b->nuses == b->first[item - b->items])
	{
		refuse(item, ERRCODE_CDP_NO_IDENTIFIER, "no usable identifier was given",
			   "Blank values and values that are no valid phone number, e-mail address and so on do not count.");
		return false;
	}
	return true;
}

static void
parse(Batch *b)
{
	TimestampTz latest = cdp_now_value() + (int64) cdp_max_future * USECS_PER_SEC;

	b->first = palloc(sizeof(int) * (b->nitems + 1));
	for (int i = 0; i < b->nitems; i++)
	{
		CdpSighting *item = &b->items[i];

		CHECK_FOR_INTERRUPTS();
		b->first[i] = b->nuses;
		item->sqlstate = 0;
		item->profile_id = item->customer_id = 0;
		if (TIMESTAMP_NOT_FINITE(item->occurred_at) || item->occurred_at > latest)
			refuse(item, ERRCODE_INVALID_PARAMETER_VALUE,
				   "occurred_at is infinite or too far in the future",
				   "Times may be ahead of cdp.now() by cdp.max_future at most.");
		else if (item->traits != NULL && !JB_ROOT_IS_OBJECT(item->traits))
			refuse(item, ERRCODE_INVALID_PARAMETER_VALUE, "traits must be an object",
				   "For example '{\"name\": \"…\", \"city\": \"…\"}'.");
		else
			parse_identifiers(b, item);
		if (item->sqlstate != 0)
			b->nuses = b->first[i]; /* nodes that only bad items use are left out of the probe */
	}
	b->first[b->nitems] = b->nuses;
}

/* ---------------------------------------------------------------- probe */

/* What the database knows now, also from our own writes of a moment ago. */
static void
probe(Batch *b)
{
	CdpProbe   *identifiers;
	CdpProbe   *aliases;
	int			id_column,
				profile_column,
				seen_column,
				customer_column;
	bool		isnull;

	cdp_push_fresh_snapshot();
	identifiers = cdp_probe_open("identifier", "identifier_live");
	aliases = cdp_probe_open("profile_alias", "profile_alias_pkey");
	id_column = cdp_probe_column(identifiers, "identifier_id");
	profile_column = cdp_probe_column(identifiers, "profile_id");
	seen_column = cdp_probe_column(identifiers, "last_seen");
	customer_column = cdp_probe_column(aliases, "customer_id");
	for (int i = 0; i < b->nnodes; i++)
	{
		IdNode	   *node = &b->nodes[i];
		TupleTableSlot *slot;

		node->identifier_id = node->profile_id = node->alias_id = 0;
		node->is_new = false;
		slot = cdp_probe_text2(identifiers, CStringGetTextDatum(node->kind), CStringGetTextDatum(node->value));
		if (slot == NULL)
			continue;
		node->identifier_id = DatumGetInt64(slot_getattr(slot, id_column, &isnull));
		node->profile_id = DatumGetInt64(slot_getattr(slot, profile_column, &isnull));
		node->last_seen = DatumGetTimestampTz(slot_getattr(slot, seen_column, &isnull));
		slot = cdp_probe_int8(aliases, node->profile_id);
		node->alias_id = slot ? DatumGetInt64(slot_getattr(slot, customer_column, &isnull)) : node->profile_id;
	}
	cdp_probe_close(aliases);
	cdp_probe_close(identifiers);
	PopActiveSnapshot();
}

/* ------------------------------------------------------------- simulate */

static int64
find_root(Batch *b, int64 customer_id)
{
	Root	   *r = roottab_lookup(b->roots, customer_id);

	while (r != NULL && r->parent != r->customer_id)
	{
		Root	   *up = roottab_lookup(b->roots, r->parent);

		r->parent = up->parent;
		customer_id = r->parent;
		r = roottab_lookup(b->roots, customer_id);
	}
	return customer_id;
}

static void
ensure_root(Batch *b, int64 customer_id)
{
	bool		found;
	Root	   *r = roottab_insert(b->roots, customer_id, &found);

	if (!found)
		r->parent = customer_id;
}

/* Two customers become one: the older id survives. */
static void
join_customers(Batch *b, int64 x, int64 y, const char *rule)
{
	Merge	   *m;

	x = find_root(b, x);
	y = find_root(b, y);
	if (x == y)
		return;
	ensure_root(b, x);
	ensure_root(b, y);
	GROW(b->merges, b->nmerges, b->maxmerges);
	m = &b->merges[b->nmerges++];
	m->winner = Min(x, y);
	m->loser = Max(x, y);
	m->rule = rule;
	roottab_lookup(b->roots, m->loser)->parent = m->winner;
}

static int64
new_profile_id(void)
{
	return nextval_internal(cdp_relation("profile_profile_id_seq"), false);
}

/* a stronger than b: priority, then kind, then value, so that order never matters */
static bool
is_stronger(const IdNode *a, const IdNode *b)
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
simulate_item(Batch *b, int i)
{
	CdpSighting *item = &b->items[i];
	int		   *uses = b->uses + b->first[i];
	int			n = b->first[i + 1] - b->first[i];
	IdNode	   *strongest = NULL;
	IdNode	   *holder = NULL;	/* strongest that has a profile */

	for (int u = 0; u < n; u++)
	{
		IdNode	   *node = &b->nodes[uses[u]];

		if (node->profile_id == 0 && node->own_profile)
		{
			int64		id = new_profile_id();

			give_profile(b, node, id, id);
		}
		if (strongest == NULL || is_stronger(node, strongest))
			strongest = node;
		if (node->profile_id != 0 && (holder == NULL || is_stronger(node, holder)))
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
			join_customers(b, x->alias_id, y->alias_id,
						   psprintf("%s+%s", is_stronger(x, y) ? x->kind : y->kind,
									is_stronger(x, y) ? y->kind : x->kind));
		}
	}
	item->profile_id = strongest->profile_id;
	item->customer_id = find_root(b, strongest->alias_id);
}

static void
simulate(Batch *b)
{
	b->roots = roottab_create(CurrentMemoryContext, 64, NULL);
	b->npairs = b->nmerges = b->nnew = 0;
	for (int i = 0; i < b->nitems; i++)
	{
		if (b->items[i].sqlstate == 0)
			simulate_item(b, i);
	}
}

/* ---------------------------------------------------------------- write */

static int
compare_new(const void *x, const void *y)
{
	const IdNode *a = *(IdNode *const *) x;
	const IdNode *b = *(IdNode *const *) y;
	int			cmp = strcmp(a->kind, b->kind);

	return cmp != 0 ? cmp : strcmp(a->value, b->value);
}

/*
 * Insert the new identifiers in sorted order and the profiles that came with
 * them.  False when somebody else was faster with one of them.
 */
static bool
write_identifiers(Batch *b)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr profile_plan = NULL;
	static const Oid types[6] = {TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID,
		TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID};
	static const Oid profile_types[2] = {INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	IdNode	  **fresh = palloc(sizeof(IdNode *) * b->nnew);
	Datum	   *cols[6];
	bool	   *nulls = palloc0(sizeof(bool) * b->nnew);
	Datum		args[6];
	Datum	   *profiles;
	Datum	   *created;
	int			n = 0;
	int			dims[1];
	int			lbs[1] = {1};
	uint64		inserted;

	for (int i = 0; i < b->nnodes; i++)
	{
		if (b->nodes[i].is_new)
			fresh[n++] = &b->nodes[i];
	}
	qsort(fresh, n, sizeof(IdNode *), compare_new);
	for (int c = 0; c < 6; c++)
		cols[c] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		cols[0][i] = CStringGetTextDatum(fresh[i]->kind);
		cols[1][i] = CStringGetTextDatum(fresh[i]->value);
		cols[2][i] = Int64GetDatum(fresh[i]->profile_id);
		cols[3][i] = TimestampTzGetDatum(fresh[i]->first_at);
		cols[4][i] = TimestampTzGetDatum(fresh[i]->seen_at);
		nulls[i] = fresh[i]->source == NULL;
		cols[5][i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(fresh[i]->source);
	}
	dims[0] = n;
	args[0] = PointerGetDatum(construct_array(cols[0], n, TEXTOID, -1, false, TYPALIGN_INT));
	args[1] = PointerGetDatum(construct_array(cols[1], n, TEXTOID, -1, false, TYPALIGN_INT));
	args[2] = PointerGetDatum(construct_array(cols[2], n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	args[3] = PointerGetDatum(construct_array(cols[3], n, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
	args[4] = PointerGetDatum(construct_array(cols[4], n, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
	args[5] = PointerGetDatum(construct_md_array(cols[5], nulls, 1, dims, lbs, TEXTOID, -1, false, TYPALIGN_INT));
	cdp_plan(&plan,
			 "INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen, source)"
			 " SELECT u.kind, u.value, u.profile_id, u.first_at, u.seen_at, u.source"
			 " FROM unnest($1, $2, $3, $4, $5, $6) u(kind, value, profile_id, first_at, seen_at, source)"
			 " ON CONFLICT (kind, value) WHERE valid_to IS NULL DO NOTHING"
			 " RETURNING profile_id, first_seen, identifier_id, kind, value",
			 6, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "could not write identifiers");
	inserted = SPI_processed;

	/* a profile is born with its first identifier */
	profiles = palloc(sizeof(Datum) * Max(inserted, 1));
	created = palloc(sizeof(Datum) * Max(inserted, 1));
	for (uint64 i = 0; i < inserted; i++)
	{
		HeapTuple	tup = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		NodeKey		key;
		NodeEntry  *entry;

		profiles[i] = SPI_getbinval(tup, desc, 1, &isnull);
		created[i] = SPI_getbinval(tup, desc, 2, &isnull);
		key.kind = SPI_getvalue(tup, desc, 4);
		key.value = SPI_getvalue(tup, desc, 5);
		entry = nodetab_lookup(b->table, key);
		Assert(entry != NULL);
		b->nodes[entry->node].identifier_id = DatumGetInt64(SPI_getbinval(tup, desc, 3, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	if (inserted > 0)
	{
		args[0] = PointerGetDatum(construct_array(profiles, inserted, INT8OID, 8, true, TYPALIGN_DOUBLE));
		args[1] = PointerGetDatum(construct_array(created, inserted, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
		cdp_plan(&profile_plan,
				 "INSERT INTO cdp.profile (profile_id, created_at)"
				 " SELECT u.profile_id, min(u.at) FROM unnest($1, $2) u(profile_id, at)"
				 " GROUP BY u.profile_id ORDER BY u.profile_id"
				 " ON CONFLICT DO NOTHING",
				 2, profile_types);
		if (SPI_execute_plan(profile_plan, args, NULL, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "could not write profiles");
	}
	return inserted == (uint64) n;
}

static int
compare_int64(const void *x, const void *y)
{
	int64		a = *(const int64 *) x;
	int64		b = *(const int64 *) y;

	return a < b ? -1 : a > b;
}

/*
 * Lock the profile rows of the customers that merge, ascending, and see
 * whether they are still customers.  FOR NO KEY UPDATE, so that nobody who
 * only refers to a profile has to wait.
 */
static bool
lock_customers(Batch *b)
{
	static SPIPlanPtr lock_plan = NULL;
	static SPIPlanPtr alias_plan = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	int64	   *ids = palloc(sizeof(int64) * b->nmerges * 2);
	Datum	   *datums = palloc(sizeof(Datum) * b->nmerges * 2);
	Datum		args[1];
	Snapshot	latest;
	int			n = 0;

	for (int i = 0; i < b->nmerges; i++)
	{
		ids[n++] = b->merges[i].winner;
		ids[n++] = b->merges[i].loser;
	}
	qsort(ids, n, sizeof(int64), compare_int64);
	for (int i = 0; i < n; i++)
		datums[i] = Int64GetDatum(ids[i]);
	args[0] = PointerGetDatum(construct_array(datums, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	cdp_plan(&lock_plan,
			 "SELECT 1 FROM cdp.profile WHERE profile_id = ANY ($1) ORDER BY profile_id FOR NO KEY UPDATE",
			 1, types);
	if (SPI_execute_plan(lock_plan, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not lock customers");
	SPI_freetuptable(SPI_tuptable);

	/*
	 * The latest snapshot, also where the transaction has an older one: who
	 * held the locks before us is done, and his merge must not be undone by
	 * ours.
	 */
	cdp_plan(&alias_plan, "SELECT 1 FROM cdp.profile_alias WHERE profile_id = ANY ($1) LIMIT 1", 1, types);
	latest = RegisterSnapshot(GetLatestSnapshot());
	if (SPI_execute_snapshot(alias_plan, args, NULL, latest, InvalidSnapshot, true, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read aliases");
	UnregisterSnapshot(latest);
	if (SPI_processed == 0)
		return true;
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: these customers were merged concurrently"),
				 errhint("Retry the transaction.")));
	return false;
}

static void
write_links(Batch *b)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[5] = {INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID};
	Datum	   *cols[5];
	bool	   *nulls = palloc0(sizeof(bool) * b->npairs);
	Datum		args[5];
	int			dims[1];
	int			lbs[1] = {1};

	for (int c = 0; c < 5; c++)
		cols[c] = palloc(sizeof(Datum) * b->npairs);
	for (int i = 0; i < b->npairs; i++)
	{
		Pair	   *p = &b->pairs[i];
		IdNode	   *x = &b->nodes[p->a];
		IdNode	   *y = &b->nodes[p->b];

		cols[0][i] = Int64GetDatum(Min(x->identifier_id, y->identifier_id));
		cols[1][i] = Int64GetDatum(Max(x->identifier_id, y->identifier_id));
		cols[2][i] = CStringGetTextDatum(psprintf("%s+%s", is_stronger(x, y) ? x->kind : y->kind,
												  is_stronger(x, y) ? y->kind : x->kind));
		nulls[i] = p->source == NULL;
		cols[3][i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(p->source);
		cols[4][i] = TimestampTzGetDatum(p->occurred_at);
	}
	dims[0] = b->npairs;
	args[0] = PointerGetDatum(construct_array(cols[0], b->npairs, INT8OID, 8, true, TYPALIGN_DOUBLE));
	args[1] = PointerGetDatum(construct_array(cols[1], b->npairs, INT8OID, 8, true, TYPALIGN_DOUBLE));
	args[2] = PointerGetDatum(construct_array(cols[2], b->npairs, TEXTOID, -1, false, TYPALIGN_INT));
	args[3] = PointerGetDatum(construct_md_array(cols[3], nulls, 1, dims, lbs, TEXTOID, -1, false, TYPALIGN_INT));
	args[4] = PointerGetDatum(construct_array(cols[4], b->npairs, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
	/* asked before it is inserted: a pair that is known costs a probe and no write */
	cdp_plan(&plan,
			 "INSERT INTO cdp.identity_link (identifier_a, identifier_b, rule, source, occurred_at)"
			 " SELECT DISTINCT ON (u.a, u.b) u.a, u.b, u.rule, u.source, u.at"
			 " FROM unnest($1, $2, $3, $4, $5) u(a, b, rule, source, at)"
			 " WHERE NOT EXISTS (SELECT FROM cdp.identity_link l WHERE l.identifier_a = u.a"
			 "  AND l.identifier_b = u.b AND l.relation = 'same' AND l.revoked_at IS NULL)"
			 " ORDER BY u.a, u.b, u.at"
			 " ON CONFLICT DO NOTHING",
			 5, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write evidence");
}

/* Sightings newer than the last one written, at most once per resolution. */
static void
write_last_seen(Batch *b)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	int64		resolution = (int64) cdp_last_seen_resolution * USECS_PER_SEC;
	Datum	   *ids = NULL;
	Datum	   *times = NULL;
	Datum		args[2];
	int			n = 0;

	for (int i = 0; i < b->nnodes; i++)
	{
		IdNode	   *node = &b->nodes[i];

		if (node->is_new || node->identifier_id == 0 || node->seen_at <= node->last_seen + resolution)
			continue;
		if (ids == NULL)
		{
			ids = palloc(sizeof(Datum) * b->nnodes);
			times = palloc(sizeof(Datum) * b->nnodes);
		}
		ids[n] = Int64GetDatum(node->identifier_id);
		times[n++] = TimestampTzGetDatum(node->seen_at);
	}
	if (n == 0)
		return;
	args[0] = PointerGetDatum(construct_array(ids, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	args[1] = PointerGetDatum(construct_array(times, n, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
	/* whoever holds the row is writing the same thing: never wait for it */
	cdp_plan(&plan,
			 "WITH seen AS (SELECT i.identifier_id, u.at FROM unnest($1, $2) u(id, at)"
			 "  JOIN cdp.identifier i ON i.identifier_id = u.id WHERE i.last_seen < u.at"
			 "  FOR NO KEY UPDATE OF i SKIP LOCKED)"
			 " UPDATE cdp.identifier i SET last_seen = s.at FROM seen s WHERE i.identifier_id = s.identifier_id",
			 2, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not write the last sighting");
}

static void
write_traits(Batch *b)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[4] = {INT8ARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID};
	Datum	   *cols[4];
	bool	   *nulls;
	Datum		args[4];
	int			n = 0;
	int			dims[1];
	int			lbs[1] = {1};

	for (int i = 0; i < b->nitems; i++)
	{
		if (b->items[i].sqlstate == 0 && b->items[i].traits != NULL && JB_ROOT_COUNT(b->items[i].traits) > 0)
			n++;
	}
	if (n == 0)
		return;
	nulls = palloc0(sizeof(bool) * n);
	for (int c = 0; c < 4; c++)
		cols[c] = palloc(sizeof(Datum) * n);
	n = 0;
	for (int i = 0; i < b->nitems; i++)
	{
		CdpSighting *item = &b->items[i];

		if (item->sqlstate != 0 || item->traits == NULL || JB_ROOT_COUNT(item->traits) == 0)
			continue;
		cols[0][n] = Int64GetDatum(item->profile_id);
		cols[1][n] = JsonbPGetDatum(item->traits);
		nulls[n] = item->source == NULL;
		cols[2][n] = nulls[n] ? (Datum) 0 : CStringGetTextDatum(item->source);
		cols[3][n] = TimestampTzGetDatum(item->occurred_at);
		n++;
	}
	dims[0] = n;
	args[0] = PointerGetDatum(construct_array(cols[0], n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	args[1] = PointerGetDatum(construct_array(cols[1], n, JSONBOID, -1, false, TYPALIGN_INT));
	args[2] = PointerGetDatum(construct_md_array(cols[2], nulls, 1, dims, lbs, TEXTOID, -1, false, TYPALIGN_INT));
	args[3] = PointerGetDatum(construct_array(cols[3], n, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
	cdp_plan(&plan, "SELECT cdp._put_traits($1, $2, $3, $4)", 4, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not write traits");
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
	b.table = nodetab_create(CurrentMemoryContext, Max(n, 8), NULL);
	parse(&b);
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
		if (b.nnew > 0 && !write_identifiers(&b))
			continue;
		if (b.nmerges > 0 && !lock_customers(&b))
			continue;
		break;
	}
	if (b.npairs > 0)
		write_links(&b);
	for (int i = 0; i < b.nmerges; i++)
		cdp_merge_step(b.merges[i].winner, b.merges[i].loser, b.merges[i].rule, NULL);
	write_last_seen(&b);
	write_traits(&b);
}
