/*
 * identity.c
 *	  From the identifiers an application has to one stable customer id.
 *
 * A batch of sightings is worked off in memory first, on what the database
 * knew a moment ago, and then written in one sorted lock order:
 *
 *	  parse		every (kind, value) of the batch becomes one node
 *	  probe		by index: node -> origin profile -> customer
 *	  simulate	item by item: who is this, what is new, who becomes one,
 *				what the rules forbid
 *	  attempt	lock the customers that change (ascending), look again,
 *				write identifiers (sorted, ON CONFLICT DO NOTHING), profiles,
 *				aliases, evidence
 *	  remember	refused evidence, traits, sightings, refusals
 *
 * Whoever knows everybody already, the usual case, goes through probe and
 * simulate and writes nothing and locks nothing (one such sighting alone is
 * not even a batch, see identity_known.c); and who is only refused something
 * locks nobody either, or a shared tablet would queue a shop.
 *
 * Somebody else may have written in between.  The locks and the unique index
 * on live identifiers tell us; then the attempt gives everything back, and
 * we probe and simulate again on the new truth.
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
#include "miscadmin.h"
#include "probe.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

/* in the order of the index, so that one probe finds the pages of the next */
static int
compare_values(const void *x, const void *y)
{
	const IdNode *a = *(IdNode *const *) x;
	const IdNode *b = *(IdNode *const *) y;
	int			cmp = strcmp(a->kind, b->kind);

	return cmp != 0 ? cmp : strcmp(a->value, b->value);
}

static int
compare_profiles(const void *x, const void *y)
{
	int64		a = (*(IdNode *const *) x)->profile_id;
	int64		b = (*(IdNode *const *) y)->profile_id;

	return a < b ? -1 : a > b;
}

static IdNode **
order_nodes(Batch *b, int (*compare) (const void *, const void *))
{
	IdNode	  **order = palloc(sizeof(IdNode *) * Max(b->nparsed, 1));

	for (int i = 0; i < b->nparsed; i++)
		order[i] = &b->nodes[i];
	if (b->nparsed > 1)
		qsort(order, b->nparsed, sizeof(IdNode *), compare);
	return order;
}

/* What the database knows now, also from our own writes of a moment ago. */
static void
probe(Batch *b)
{
	CdpProbe   *identifiers;
	CdpProbe   *aliases;
	int			id_column,
				profile_column,
				first_column,
				seen_column,
				generic_column,
				customer_column;
	IdNode	  **order;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext keys;
	bool		isnull;

	identifiers = cdp_probe_open("identifier", "identifier_live");
	id_column = cdp_probe_column(identifiers, "identifier_id");
	profile_column = cdp_probe_column(identifiers, "profile_id");
	first_column = cdp_probe_column(identifiers, "first_seen");
	seen_column = cdp_probe_column(identifiers, "last_seen");
	generic_column = cdp_probe_column(identifiers, "generic_since");
	keys = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp keys", ALLOCSET_SMALL_SIZES);
	order = order_nodes(b, compare_values);
	for (int i = 0; i < b->nparsed; i++)
	{
		IdNode	   *node = order[i];
		TupleTableSlot *slot;
		Datum		kind,
					value;

		node->identifier_id = node->profile_id = node->alias_id = 0;
		node->is_new = node->founds_profile = node->generic = node->turned_generic = false;
		node->closed_at = 0;
		node->successor = node->nrefused = -1;
		node->refused_by = NULL;
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
		node->first_seen = node->first_now = DatumGetTimestampTz(slot_getattr(slot, first_column, &isnull));
		node->last_seen = node->last_now = DatumGetTimestampTz(slot_getattr(slot, seen_column, &isnull));
		(void) slot_getattr(slot, generic_column, &isnull);
		node->generic = !isnull;
	}
	MemoryContextDelete(keys);
	cdp_probe_close(identifiers);

	aliases = cdp_probe_open("profile_alias", "profile_alias_pkey");
	customer_column = cdp_probe_column(aliases, "customer_id");
	if (b->nparsed > 1)
		qsort(order, b->nparsed, sizeof(IdNode *), compare_profiles);
	for (int i = 0; i < b->nparsed; i++)
	{
		TupleTableSlot *slot;

		if (order[i]->profile_id == 0)
			continue;
		if (i > 0 && order[i]->profile_id == order[i - 1]->profile_id)
		{
			order[i]->alias_id = order[i - 1]->alias_id;
			continue;
		}
		slot = cdp_probe_int8(aliases, order[i]->profile_id);
		order[i]->alias_id = slot ? DatumGetInt64(slot_getattr(slot, customer_column, &isnull)) : order[i]->profile_id;
	}
	pfree(order);
	cdp_probe_close(aliases);
}

/* --- driving --- */

static int
compare_ids(const void *x, const void *y)
{
	int64		a = *(const int64 *) x;
	int64		b = *(const int64 *) y;

	return a < b ? -1 : a > b;
}

static int
sort_unique(int64 *ids, int n)
{
	int			k = 0;

	if (n > 1)
		qsort(ids, n, sizeof(int64), compare_ids);
	for (int i = 0; i < n; i++)
	{
		if (k == 0 || ids[k - 1] != ids[i])
			ids[k++] = ids[i];
	}
	return k;
}

static void
look(Batch *b)
{
	cdp_push_fresh_snapshot();
	probe(b);
	cdp_simulate(b);
	PopActiveSnapshot();
	b->nlocks = sort_unique(b->locks, b->nlocks);
}

static bool
is_subset(const int64 *a, int na, const int64 *b, int nb)
{
	int			k = 0;

	for (int i = 0; i < na; i++)
	{
		while (k < nb && b[k] < a[i])
			k++;
		if (k == nb || b[k] != a[i])
			return false;
	}
	return true;
}

/* Was this profile born in the batch? */
static bool
is_born_here(const Batch *b, int64 profile_id)
{
	return b->nids_given > 0 &&
		bsearch(&profile_id, b->ids, b->nids_given, sizeof(int64), compare_ids) != NULL;
}

/*
 * The rows to lock: customers that change and, as traits are written last,
 * the profiles that may get some.  One ascending pass over all of them and
 * before anything is inserted: whoever locks in two passes, or while others
 * wait for his rows, can meet himself in another session.
 */
static int64 *
list_locks(Batch *b, int *n)
{
	int64	   *ids = palloc(sizeof(int64) * (b->nlocks + b->nitems));

	*n = b->nlocks;
	for (int i = 0; i < b->nlocks; i++)
		ids[i] = b->locks[i];
	for (int i = 0; i < b->nitems; i++)
	{
		CdpSighting *item = &b->items[i];

		if (item->sqlstate == 0 && item->traits != NULL && JB_ROOT_COUNT(item->traits) > 0 &&
			!is_born_here(b, item->profile_id))
			ids[(*n)++] = item->profile_id;
	}
	*n = sort_unique(ids, *n);
	return ids;
}

/* One attempt to write what was simulated; false: somebody else was faster. */
static bool
write_batch(Batch *b)
{
	int			nrows,
				nwanted;
	int64	   *rows = list_locks(b, &nrows);
	int64	   *wanted;

	if (nrows > 0)
		(void) cdp_lock_profiles(rows, nrows);
	if (b->nlocks > 0)
	{
		int64	   *locked = palloc(sizeof(int64) * b->nlocks);
		int			nlocked = b->nlocks;

		memcpy(locked, b->locks, sizeof(int64) * nlocked);
		if (!cdp_are_customers(locked, nlocked))
			return false;
		/* now that they stand still: is it as we thought? */
		look(b);
		if (!is_subset(b->locks, b->nlocks, locked, nlocked))
			return false;
		wanted = list_locks(b, &nwanted);
		if (!is_subset(wanted, nwanted, rows, nrows))
			return false;
	}
	if (b->nnew > 0 && !cdp_write_identifiers(b))
		return false;
	for (int i = 0; i < b->nmerges; i++)
		b->merges[i].merge_id = cdp_merge_step(b->merges[i].winner, b->merges[i].loser, b->merges[i].rule, NULL);
	cdp_write_links(b, false);
	return true;
}

/*
 * An attempt that does not come through gives everything back, locks and
 * rows: nobody waits for us while we wait for somebody.  One new identifier
 * alone leaves nothing to give back.
 */
static bool
attempt(Batch *b)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	if (b->nlocks == 0 && b->nnew == 1 && b->npairs == 0 && b->nitems == 1)
		return write_batch(b);

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		done = write_batch(b);
		if (done)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		/* whoever catches the error expects his own subtransaction */
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		ReThrowError(error);
	}
	PG_END_TRY();
	return done;
}

static void
raise_bad_items(const CdpSighting *items, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (items[i].sqlstate != 0)
			ereport(ERROR,
					(errcode(items[i].sqlstate),
					 errmsg("%s", items[i].message),
					 n > 1 || items[i].numbered ? errdetail("Item %d of %d.", i + 1, n) : 0,
					 errhint("%s", items[i].hint)));
	}
}

/* how often others may overtake us before we give up: each time somebody made progress */
#define MAX_ROUNDS	20

void
cdp_identify(CdpSighting *items, int n, bool raise)
{
	if (n != 1 || !cdp_identify_known(items))
		cdp_identify_batch(items, n, raise);
}

void
cdp_identify_batch(CdpSighting *items, int n, bool raise)
{
	Batch		b;
	int			round = 0;

	if (n == 0)
		return;
	memset(&b, 0, sizeof(b));
	b.items = items;
	b.nitems = n;
	cdp_parse_sightings(&b);
	if (raise)
		raise_bad_items(items, n);

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (++round > MAX_ROUNDS)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not identify the customer due to concurrent changes"),
					 errhint("Retry the transaction.")));
		look(&b);
		if (raise)
			raise_bad_items(items, n);
		if ((b.nlocks == 0 && b.nnew == 0) || attempt(&b))
			break;
	}
	/* the look under locks may have found that nothing is left of it: an identifier turned generic meanwhile */
	if (raise)
		raise_bad_items(items, n);
	/* locks profiles, so before the rows of evidence and identifiers, which a recheck locks after those of profiles */
	cdp_write_traits(&b);
	cdp_write_links(&b, true);
	cdp_write_last_seen(&b);
	cdp_write_generic(&b);
	cdp_write_refusals(&b);
}
