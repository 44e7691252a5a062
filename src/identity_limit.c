/*
 * identity_limit.c
 *	  May these customers become one?  See identity_limit.h.
 *
 * Three things forbid it: a judgement that two of them are apart, more
 * profiles than cdp.max_profiles_per_customer, more identifiers of a kind
 * than its max_per_customer allows (with max_window: among those seen within
 * that time; generic ones do not count).
 *
 * A batch works on customers as the database has them and on what it has
 * made of them so far, so the counts live here in memory and join when
 * customers join.
 *
 * Page: doc/identity.md.  Tests: test/sql/identity_limits.sql.
 */
#include "identity_limit.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* a live identifier of limited kind */
typedef struct Held
{
	int			limit_no;
	int			node;			/* -1: not in this batch; else its last sighting stands there */
	int64		identifier_id;	/* 0: new in this batch */
	TimestampTz last_seen;
} Held;

typedef struct Customer
{
	int64		customer_id;
	char		status;
	int64		parent;			/* itself: a customer of its own */
	int			nprofiles;
	Held	   *held;
	int			nheld;
	int			maxheld;
} Customer;

#define SH_PREFIX customertab
#define SH_ELEMENT_TYPE Customer
#define SH_KEY_TYPE int64
#define SH_KEY customer_id
#define SH_HASH_KEY(tb, k) murmurhash32((uint32) ((uint64) (k) ^ ((uint64) (k) >> 32)))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct Apart
{
	int64		a;
	int64		b;
} Apart;

struct CdpLimits
{
	const LimitedKind *kinds;
	int			nkinds;
	customertab_hash *customers;
	Apart	   *aparts;
	int			naparts;
	int			maxaparts;
	MemoryContext cxt;
};

CdpLimits *
cdp_limits_open(const LimitedKind *kinds, int nkinds)
{
	CdpLimits  *t = palloc0(sizeof(CdpLimits));

	t->cxt = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp limits", ALLOCSET_DEFAULT_SIZES);
	t->kinds = kinds;
	t->nkinds = nkinds;
	t->customers = customertab_create(t->cxt, 16, NULL);
	return t;
}

void
cdp_limits_close(CdpLimits *t)
{
	MemoryContextDelete(t->cxt);
	pfree(t);
}

static Customer *
find_root(CdpLimits *t, int64 customer_id)
{
	Customer   *c = customertab_lookup(t->customers, customer_id);

	while (c != NULL && c->parent != c->customer_id)
	{
		Customer   *up = customertab_lookup(t->customers, c->parent);

		c->parent = up->parent;
		c = customertab_lookup(t->customers, c->parent);
	}
	return c;
}

int64
cdp_limits_root(CdpLimits *t, int64 customer)
{
	Customer   *c = find_root(t, customer);

	return c ? c->customer_id : customer;
}

void
cdp_limits_found(CdpLimits *t, int64 customer)
{
	bool		found;
	Customer   *c = customertab_insert(t->customers, customer, &found);

	Assert(!found);
	c->parent = customer;
	c->nprofiles = 1;
	c->held = NULL;
	c->nheld = c->maxheld = 0;
}

static void
hold(CdpLimits *t, Customer *c, const Held *h)
{
	MemoryContext old = MemoryContextSwitchTo(t->cxt);

	GROW(c->held, c->nheld, c->maxheld);
	c->held[c->nheld++] = *h;
	MemoryContextSwitchTo(old);
}

void
cdp_limits_add(CdpLimits *t, int64 customer, int limit_no, int64 identifier_id, int node, TimestampTz seen)
{
	Customer   *c = find_root(t, customer);
	Held		h = {limit_no, node, identifier_id, seen};

	if (c != NULL && limit_no >= 0)
		hold(t, c, &h);
}

void
cdp_limits_remove(CdpLimits *t, int64 customer, int64 identifier_id, int node)
{
	Customer   *c = find_root(t, customer);

	for (int i = 0; c != NULL && i < c->nheld; i++)
	{
		if (identifier_id != 0 ? c->held[i].identifier_id == identifier_id : c->held[i].node == node)
		{
			c->held[i] = c->held[--c->nheld];
			return;
		}
	}
}

void
cdp_limits_join(CdpLimits *t, int64 winner, int64 loser)
{
	Customer   *w = find_root(t, winner);
	Customer   *l = find_root(t, loser);

	Assert(w != NULL && l != NULL && w != l);
	for (int i = 0; i < l->nheld; i++)
		hold(t, w, &l->held[i]);
	l->nheld = 0;
	w->nprofiles += l->nprofiles;
	l->parent = w->customer_id;
}

/* the kinds with a limit, as a text[] */
static Datum
kinds_array(CdpLimits *t)
{
	Datum	   *d = palloc(sizeof(Datum) * Max(t->nkinds, 1));

	for (int i = 0; i < t->nkinds; i++)
		d[i] = CStringGetTextDatum(t->kinds[i].kind);
	return PointerGetDatum(construct_array(d, t->nkinds, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * Who was judged apart from whom, among all that are loaded.  Judgements are
 * rare: one probe tells that there are none at all.
 */
static void
load_aparts(CdpLimits *t, Snapshot snapshot)
{
	static SPIPlanPtr any_plan = NULL;
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	customertab_iterator iter;
	Customer   *c;
	Datum	   *ids;
	Datum		arg;
	int			n = 0;

	cdp_plan_generic(&any_plan,
					 "SELECT 1 FROM cdp.identity_link l WHERE l.relation = 'apart' AND l.revoked_at IS NULL LIMIT 1", 0, NULL);
	if (SPI_execute_snapshot(any_plan, NULL, NULL, snapshot, InvalidSnapshot, true, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read judgements");
	SPI_freetuptable(SPI_tuptable);
	t->naparts = 0;
	if (SPI_processed == 0)
		return;
	ids = palloc(sizeof(Datum) * t->customers->members);
	customertab_start_iterate(t->customers, &iter);
	while ((c = customertab_iterate(t->customers, &iter)) != NULL)
		ids[n++] = Int64GetDatum(c->customer_id);
	arg = PointerGetDatum(construct_array(ids, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	cdp_plan_custom(&plan,
					"WITH mine AS MATERIALIZED ("
					" SELECT i.identifier_id, c.id FROM unnest($1) c(id),"
					"  LATERAL (SELECT c.id AS profile_id UNION ALL"
					"   SELECT a.profile_id FROM cdp.profile_alias a WHERE a.customer_id = c.id) p"
					"  JOIN cdp.identifier i ON i.profile_id = p.profile_id)"
					" SELECT x.id, y.id FROM mine x"
					" JOIN cdp.identity_link l ON l.identifier_a = x.identifier_id AND l.relation = 'apart' AND l.revoked_at IS NULL"
					" JOIN mine y ON y.identifier_id = l.identifier_b"
					" WHERE x.id <> y.id", 1, types);
	if (SPI_execute_snapshot(plan, &arg, NULL, snapshot, InvalidSnapshot, true, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read judgements");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		MemoryContext old = MemoryContextSwitchTo(t->cxt);

		GROW(t->aparts, t->naparts, t->maxaparts);
		MemoryContextSwitchTo(old);
		t->aparts[t->naparts].a = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		t->aparts[t->naparts++].b = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
}

/*
 * By the latest snapshot, also where the transaction has an older one: what
 * others have committed counts, or two old snapshots would break a limit
 * together.
 */
void
cdp_limits_load(CdpLimits *t, const int64 *customers, int n, CdpNodeOf node_of, void *arg)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {INT8ARRAYOID, TEXTARRAYOID};
	Datum	   *ids = palloc(sizeof(Datum) * Max(n, 1));
	Datum		args[2];
	Snapshot	latest;
	int			nids = 0;

	for (int i = 0; i < n; i++)
	{
		bool		found;
		Customer   *c = customertab_insert(t->customers, customers[i], &found);

		if (found)
			continue;
		c->parent = customers[i];
		c->nprofiles = 0;
		c->held = NULL;
		c->nheld = c->maxheld = 0;
		ids[nids++] = Int64GetDatum(customers[i]);
	}
	if (nids == 0)
		return;
	args[0] = PointerGetDatum(construct_array(ids, nids, INT8OID, 8, true, TYPALIGN_DOUBLE));
	args[1] = kinds_array(t);
	/* OFFSET 0: by profile, never by kind, which looks cheap while the table has not been analyzed */
	cdp_plan_custom(&plan,
					"SELECT c.id, i.identifier_id, array_position($2, i.kind) - 1, i.last_seen, p.profile_id"
					" FROM unnest($1) c(id),"
					"  LATERAL (SELECT c.id AS profile_id UNION ALL"
					"   SELECT a.profile_id FROM cdp.profile_alias a WHERE a.customer_id = c.id) p"
					"  LEFT JOIN LATERAL (SELECT x.identifier_id, x.kind, x.last_seen, x.valid_to, x.generic_since FROM cdp.identifier x"
					"   WHERE x.profile_id = p.profile_id OFFSET 0) i"
					"   ON i.valid_to IS NULL AND i.generic_since IS NULL AND i.kind = ANY ($2)"
					" ORDER BY c.id, p.profile_id, i.identifier_id", 2, types);
	latest = RegisterSnapshot(GetLatestSnapshot());
	if (SPI_execute_snapshot(plan, args, NULL, latest, InvalidSnapshot, true, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read customers");
	for (uint64 i = 0, before = 0; i < SPI_processed; i++)
	{
		HeapTuple	tup = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Customer   *c = customertab_lookup(t->customers, DatumGetInt64(SPI_getbinval(tup, desc, 1, &isnull)));
		int64		profile_id = DatumGetInt64(SPI_getbinval(tup, desc, 5, &isnull));
		Held		h;

		if (i == 0 || (uint64) profile_id != before)
			c->nprofiles++;
		before = (uint64) profile_id;
		h.identifier_id = DatumGetInt64(SPI_getbinval(tup, desc, 2, &isnull));
		if (isnull)
			continue;
		h.limit_no = DatumGetInt32(SPI_getbinval(tup, desc, 3, &isnull));
		h.last_seen = DatumGetTimestampTz(SPI_getbinval(tup, desc, 4, &isnull));
		h.node = node_of(arg, h.identifier_id);
		hold(t, c, &h);
	}
	SPI_freetuptable(SPI_tuptable);
	load_aparts(t, latest);
	UnregisterSnapshot(latest);
}

static bool
is_among(int64 id, const int64 *ids, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (ids[i] == id)
			return true;
	}
	return false;
}

const char *
cdp_limits_check(CdpLimits *t, const int64 *roots, int nroots, int new_profiles,
				 const int *fresh, int nfresh, TimestampTz at, const IdNode *nodes, int *broken)
{
	int			nprofiles = new_profiles;
	int		   *counts;
	int		   *sides;			/* how many customers bring some of the kind */
	int		   *last;			/* ... and the last of them, from 1 */
	const char *why = NULL;

	if (nroots > 1)
	{
		for (int i = 0; i < t->naparts; i++)
		{
			int64		a = cdp_limits_root(t, t->aparts[i].a);
			int64		b = cdp_limits_root(t, t->aparts[i].b);

			if (a != b && is_among(a, roots, nroots) && is_among(b, roots, nroots))
				return "kept_apart";
		}
	}
	for (int r = 0; r < nroots; r++)
		nprofiles += find_root(t, roots[r])->nprofiles;
	if ((nroots > 1 || new_profiles > 0) && nprofiles > cdp_max_profiles_per_customer)
		return "customer_too_large";
	if (t->nkinds == 0 || (nroots < 2 && nfresh == 0))
		return NULL;

	counts = palloc0(sizeof(int) * t->nkinds);
	sides = palloc0(sizeof(int) * t->nkinds);
	last = palloc0(sizeof(int) * t->nkinds);
	for (int r = 0; r < nroots; r++)
	{
		Customer   *c = find_root(t, roots[r]);

		for (int i = 0; i < c->nheld; i++)
		{
			Held	   *h = &c->held[i];
			int64		window = t->kinds[h->limit_no].window;
			TimestampTz seen = h->node >= 0 ? nodes[h->node].last_now : h->last_seen;

			/* what has turned generic in this batch tells nobody apart any more, so it counts for nobody */
			if ((window != 0 && seen < at - window) || (h->node >= 0 && nodes[h->node].generic))
				continue;
			counts[h->limit_no]++;
			sides[h->limit_no] += last[h->limit_no] != r + 1;
			last[h->limit_no] = r + 1;
		}
	}
	/*
	 * One customer who has too many already may stay so, but gets no more of
	 * the kind; who joins him without any does not make it worse.
	 */
	for (int k = 0; k < t->nkinds && why == NULL; k++)
	{
		int			nnew = 0;

		for (int f = 0; f < nfresh; f++)
			nnew += fresh[f] == k;
		if ((sides[k] > 1 || nnew > 0) && counts[k] + nnew > t->kinds[k].max)
		{
			*broken = k;
			why = "limit";
		}
	}
	pfree(counts);
	pfree(sides);
	pfree(last);
	return why;
}
