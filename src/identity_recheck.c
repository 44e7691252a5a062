/*
 * identity_recheck.c
 *	  Apply today's rules to all the evidence there is.
 *
 *	  page		a thousand customers, of all or of those touched since, with
 *				everything their evidence reaches
 *	  replay	who would be one customer (identity_replay.c)
 *	  compare	profiles whose customer is another, identifiers that sit in
 *				the profile of somebody else
 *	  lock		the customers of every component that changes, ascending
 *	  again		the same under the locks; others may have been faster, and
 *				whom they brought in is locked as well
 *	  write		identifiers move, customers part, customers join, links say
 *				whether they are followed
 *
 * A dry run is the first three steps, so it predicts the others.
 *
 * SQL: sql/identity_recheck.sql.  Page: doc/identity_recheck.md.
 * Tests: test/sql/identity_recheck.sql, test/pgtap/identity_recheck.sql,
 * test/specs/identity_recheck_vs_identify.spec.
 */
#include "identity_recheck.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_recheck_identity);
PG_FUNCTION_INFO_V1(cdp_recheck_step);
PG_FUNCTION_INFO_V1(cdp_recheck_touched);

#define PAGE	1000

typedef struct Locking
{
	int64	   *ids;			/* profiles to be locked, ascending; customers or not */
	int			n;
	RecheckVerdict v;
} Locking;

/* the customers that these profiles belong to now, ascending */
static int64 *
customers_of(const int64 *ids, int n, int *ncustomers, bool read_only)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	Datum		args[1];
	int64	   *customers;

	args[0] = cdp_id_array(ids, n);
	cdp_plan_custom(&plan,
					"SELECT DISTINCT coalesce(a.customer_id, u.id) FROM unnest($1) u(id)"
					" LEFT JOIN cdp.profile_alias a ON a.profile_id = u.id ORDER BY 1",
					1, types);
	if (SPI_execute_plan(plan, args, NULL, read_only, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look up customers");
	*ncustomers = (int) SPI_processed;
	customers = palloc(sizeof(int64) * Max(*ncustomers, 1));
	for (int i = 0; i < *ncustomers; i++)
	{
		bool		isnull;

		customers[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return customers;
}

/* sort ids, each once */
static int
sort_unique(int64 *ids, int n)
{
	int			m = 0;

	if (n > 1)
		qsort(ids, n, sizeof(int64), cdp_id_compare);
	for (int i = 0; i < n; i++)
	{
		if (m == 0 || ids[m - 1] != ids[i])
			ids[m++] = ids[i];
	}
	return m;
}

static void
lock_also(Locking *l, const int64 *ids, int n)
{
	int64	   *all = palloc(sizeof(int64) * (Size) (l->n + n));

	if (l->n > 0)
		memcpy(all, l->ids, sizeof(int64) * l->n);
	memcpy(all + l->n, ids, sizeof(int64) * n);
	l->ids = all;
	l->n = sort_unique(all, l->n + n);
}

/*
 * Lock more while others are held.  In the one order that means to wait only
 * for what comes after all of them; anything before must be had at once.
 * False: somebody else has it.
 */
static bool
extend_locks(Locking *l, const int64 *ids, int n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	int			nlower = 0;

	while (nlower < n && ids[nlower] < l->ids[l->n - 1])
		nlower++;
	if (nlower > 0)
	{
		Datum		args[1];
		bool		all;

		args[0] = cdp_id_array(ids, nlower);
		cdp_plan_custom(&plan,
						"SELECT 1 FROM cdp.profile WHERE profile_id = ANY ($1) ORDER BY profile_id FOR NO KEY UPDATE SKIP LOCKED",
						1, types);
		if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not lock customers");
		all = SPI_processed == (uint64) nlower;
		SPI_freetuptable(SPI_tuptable);
		if (!all)
			return false;
	}
	if (nlower < n)
		(void) cdp_lock_profiles(ids + nlower, n - nlower);
	lock_also(l, ids, n);
	return true;
}

/*
 * Whoever is concerned under the locks has to be locked.  What others have
 * done before we had them, merges and partings among those profiles, leaves
 * it so; a part that nobody knew of or a customer that joined does not.
 */
static bool
lock_body(void *arg)
{
	Locking    *l = arg;

	(void) cdp_lock_profiles(l->ids, l->n);
	for (;;)
	{
		int			ncustomers;
		int64	   *customers = customers_of(l->ids, l->n, &ncustomers, false);
		int64	   *missing;
		int			nmissing = 0;
		CdpGraph   *g;

		CHECK_FOR_INTERRUPTS();
		/* raises 40001 when an older snapshot does not show that they were merged */
		if (IsolationUsesXactSnapshot())
			(void) cdp_are_customers(customers, ncustomers);
		cdp_graph_require_current(customers, ncustomers, CDP_REACH_EVIDENCE);
		g = cdp_graph_load(customers, ncustomers, CDP_REACH_EVIDENCE, false);
		cdp_replay(g);
		cdp_compare(&l->v, g);
		missing = palloc(sizeof(int64) * Max(g->ncustomers, 1));
		for (int c = 0; c < g->ncustomers; c++)
		{
			if (l->v.concerned[c] && bsearch(&g->customers[c].id, l->ids, l->n, sizeof(int64), cdp_id_compare) == NULL)
				missing[nmissing++] = g->customers[c].id;
		}
		if (nmissing == 0)
			return true;
		nmissing = sort_unique(missing, nmissing);
		if (!extend_locks(l, missing, nmissing))
		{
			/* in the next round all their profiles: any of them may be a customer by then */
			int64	   *profiles = palloc(sizeof(int64) * g->nprofiles);
			int			n = 0;

			for (int p = 0; p < g->nprofiles; p++)
			{
				if (l->v.concerned[g->profiles[p].customer])
					profiles[n++] = g->profiles[p].id;
			}
			lock_also(l, profiles, n);
			cdp_graph_free(g);
			return false;
		}
		cdp_graph_free(g);
	}
}

/* Customers of components that change: lock them all, look again, write. */
static void
apply_locked(const int64 *ids, int n, RecheckRows *rows)
{
	Locking		l = {NULL, 0, {0}};
	int			round = 0;
	bool	   *skip;

	if (n == 0)
		return;
	lock_also(&l, ids, n);
	do
		cdp_count_round(&round);
	while (!cdp_attempt(lock_body, &l));
	skip = palloc0(sizeof(bool) * Max(l.v.g->ncustomers, 1));
	cdp_list_rows(&l.v, rows, skip);
	cdp_apply_verdict(&l.v);
	cdp_graph_free(l.v.g);
}

/* ------------------------------------------------------------------ pages */

/*
 * Profiles after an id, ascending: how many (0: the end), the last of them,
 * and the customers whose own profile is on the page, or with every those
 * who have any profile on it.
 */
int
cdp_read_page(CdpPage *page, int64 after, int limit, bool every, bool read_only)
{
	static SPIPlanPtr page_plan = NULL;
	static SPIPlanPtr customer_plan = NULL;
	static SPIPlanPtr every_plan = NULL;
	static const Oid page_types[2] = {INT8OID, INT4OID};
	static const Oid types[2] = {INT8OID, INT8OID};
	Datum		args[2];
	SPIPlanPtr	plan;
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	args[0] = Int64GetDatum(after);
	args[1] = Int32GetDatum(limit);
	cdp_plan_generic(&page_plan,
					 "SELECT count(*), max(profile_id) FROM (SELECT profile_id FROM cdp.profile WHERE profile_id > $1"
					 " ORDER BY profile_id LIMIT $2) p", 2, page_types);
	if (SPI_execute_plan(page_plan, args, NULL, read_only, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read profiles");
	page->scanned = (int) DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	page->last = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	page->ncustomers = 0;
	SPI_freetuptable(SPI_tuptable);
	if (page->scanned == 0)
		return 0;
	args[1] = Int64GetDatum(page->last);
	if (every)
		plan = cdp_plan_generic(&every_plan,
								"SELECT DISTINCT coalesce(a.customer_id, p.profile_id) FROM cdp.profile p"
								" LEFT JOIN cdp.profile_alias a ON a.profile_id = p.profile_id"
								" WHERE p.profile_id > $1 AND p.profile_id <= $2", 2, types);
	else
		plan = cdp_plan_generic(&customer_plan,
								"SELECT p.profile_id FROM cdp.profile p WHERE p.profile_id > $1 AND p.profile_id <= $2"
								" AND NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = p.profile_id)", 2, types);
	if (SPI_execute_plan(plan, args, NULL, read_only, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read customers");
	page->ncustomers = (int) SPI_processed;
	page->customers = palloc(sizeof(int64) * Max(page->ncustomers, 1));
	for (int i = 0; i < page->ncustomers; i++)
		page->customers[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return page->scanned;
}

static int
compare_rows(const void *x, const void *y)
{
	const RecheckRow  *a = x;
	const RecheckRow  *b = y;

	if (a->profile_id != b->profile_id)
		return a->profile_id < b->profile_id ? -1 : 1;
	if (a->after != b->after)
		return a->after < b->after ? -1 : 1;
	return strcmp(a->reason, b->reason);
}

/* customers of changed components, gathered over pages */
typedef struct Gathered
{
	int64	   *ids;
	int			n;
	int			max;
	HTAB	   *components;		/* that were met: by their smallest customer */
} Gathered;

static void
gather(Gathered *all, CdpGraph *g, const RecheckVerdict *v, bool *skip)
{
	for (int c = 0; c < g->ncustomers; c++)
	{
		skip[c] = true;
		if (v->concerned[c] && g->customers[c].component == c)
		{
			bool		found;

			(void) hash_search(all->components, &g->customers[c].id, HASH_ENTER, &found);
			skip[c] = found;
		}
	}
	for (int c = 0; c < g->ncustomers; c++)
	{
		skip[c] = skip[g->customers[c].component];
		if (skip[c])
			continue;
		if (all->n == all->max)
		{
			all->max = Max(all->max * 2, 64);
			all->ids = all->ids == NULL ? palloc(sizeof(int64) * (Size) all->max) :
				repalloc_huge(all->ids, sizeof(int64) * (Size) all->max);
		}
		all->ids[all->n++] = g->customers[c].id;
	}
}

static void
start_gathering(Gathered *all)
{
	HASHCTL		ctl;

	memset(all, 0, sizeof(Gathered));
	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(int64);
	ctl.hcxt = CurrentMemoryContext;
	all->components = hash_create("customer_cdp components", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * Customers of whom something was seen, linked, revoked, judged or closed
 * since then, ascending.  Their components are all that were touched, so
 * nothing else of the evidence is read.
 *
 * Links and steps are found by index.  Last sightings are not: an index on
 * them would cost more with each sighting than one pass over one table does
 * here.
 */
static int64 *
read_touched(TimestampTz since, int *n, bool read_only)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {TIMESTAMPTZOID};
	MemoryContext caller = CurrentMemoryContext;
	Datum		args[1];
	int64	   *ids;

	args[0] = TimestampTzGetDatum(since);
	cdp_plan_custom(&plan,
					"WITH link AS ("
					" SELECT l.identifier_a, l.identifier_b FROM cdp.identity_link l WHERE l.linked_at >= $1"
					" UNION ALL SELECT l.identifier_a, l.identifier_b FROM cdp.identity_link l WHERE l.revoked_at >= $1)"
					" SELECT DISTINCT coalesce(a.customer_id, t.profile_id) FROM ("
					"  SELECT i.profile_id FROM cdp.identifier i"
					"   WHERE i.last_seen >= $1 OR i.valid_to >= $1 OR i.generic_since >= $1"
					"  UNION ALL SELECT i.profile_id FROM link l JOIN cdp.identifier i ON i.identifier_id = l.identifier_a"
					"  UNION ALL SELECT i.profile_id FROM link l JOIN cdp.identifier i ON i.identifier_id = l.identifier_b"
					"  UNION ALL SELECT m.customer_id FROM cdp.merge_log m WHERE m.at >= $1"
					"  UNION ALL SELECT m.other_id FROM cdp.merge_log m WHERE m.at >= $1) t"
					" LEFT JOIN cdp.profile_alias a ON a.profile_id = t.profile_id ORDER BY 1",
					1, types);
	if (SPI_execute_plan(plan, args, NULL, read_only, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read who was touched");
	ids = MemoryContextAllocHuge(caller, sizeof(int64) * Max(SPI_processed, 1));
	*n = (int) SPI_processed;
	for (int i = 0; i < *n; i++)
	{
		bool		isnull;

		ids[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return ids;
}

/* some customers: what would change; its rows (when wanted) and who is concerned */
static void
look_at(const int64 *customers, int n, Gathered *all, RecheckRows *rows, bool read_only)
{
	MemoryContext caller = CurrentMemoryContext;
	CdpGraph   *g = cdp_graph_load(customers, n, CDP_REACH_EVIDENCE, read_only);
	RecheckVerdict		v;
	bool	   *skip;

	MemoryContextSwitchTo(g->context);
	cdp_replay(g);
	cdp_compare(&v, g);
	skip = palloc(sizeof(bool) * Max(g->ncustomers, 1));
	MemoryContextSwitchTo(caller);
	gather(all, g, &v, skip);
	if (rows != NULL)
		cdp_list_rows(&v, rows, skip);
	cdp_graph_free(g);
}

/* the same for customers as they were a moment ago */
static void
look_at_profiles(const int64 *profiles, int n, Gathered *all, RecheckRows *rows, bool read_only)
{
	int			ncustomers;
	int64	   *customers = customers_of(profiles, n, &ncustomers, read_only);

	look_at(customers, ncustomers, all, rows, read_only);
	pfree(customers);
}

/* cdp.recheck_identity(since, dry_run) -> setof (profile_id, customer_before, customer_after, reason) */
Datum
cdp_recheck_identity(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	bool		dry_run = PG_ARGISNULL(1) || PG_GETARG_BOOL(1);
	RecheckRows		rows = {NULL, 0, 0};
	Gathered	all;
	CdpPage		page = {0};
	CdpVerb		verb;

	InitMaterializedSRF(fcinfo, 0);
	if (dry_run)
		cdp_begin_read(&verb);
	else
		cdp_begin_write(&verb, "recheck_identity");
	start_gathering(&all);
	if (PG_ARGISNULL(0))
	{
		while (cdp_read_page(&page, page.last, PAGE, false, dry_run) > 0)
		{
			look_at(page.customers, page.ncustomers, &all, dry_run ? &rows : NULL, dry_run);
			pfree(page.customers);
		}
	}
	else
	{
		int			n;
		int64	   *touched = read_touched(PG_GETARG_TIMESTAMPTZ(0), &n, dry_run);

		for (int from = 0; from < n; from += PAGE)
			look_at_profiles(touched + from, Min(PAGE, n - from), &all, dry_run ? &rows : NULL, dry_run);
	}
	if (!dry_run)
		apply_locked(all.ids, all.n, &rows);
	if (rows.n > 1)
		qsort(rows.rows, rows.n, sizeof(RecheckRow), compare_rows);
	MemoryContextSwitchTo(caller);
	for (int i = 0; i < rows.n; i++)
	{
		Datum		values[4];
		bool		nulls[4] = {false, false, rows.rows[i].after == 0, false};

		values[0] = Int64GetDatum(rows.rows[i].profile_id);
		values[1] = Int64GetDatum(rows.rows[i].before);
		values[2] = Int64GetDatum(rows.rows[i].after);
		values[3] = CStringGetTextDatum(rows.rows[i].reason);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	cdp_end(&verb);
	return (Datum) 0;
}

/* what was found without locks, done under them; answers the rows that changed */
static int64
apply_found(const Gathered *all)
{
	RecheckRows rows = {NULL, 0, 0};

	apply_locked(all->ids, all->n, &rows);
	return rows.n;
}

/*
 * cdp._recheck_step(after, batch, touched, rebuild) -> (last, scanned, changed)
 * One batch of recheck_identities() or rebuild_aliases(): these customers,
 * else the profiles after an id; scanned 0: the end.
 */
Datum
cdp_recheck_step(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		rebuild = PG_GETARG_BOOL(3);
	int64		changed = 0;
	TupleDesc	desc;
	CdpPage		page = {0};
	Gathered	all;
	CdpVerb		verb;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	cdp_begin_write(&verb, rebuild ? "rebuild_aliases" : "recheck_identities");
	start_gathering(&all);
	if (!PG_ARGISNULL(2))
	{
		ArrayType  *touched = PG_GETARG_ARRAYTYPE_P(2);

		/* an array of ours: no nulls, one dimension */
		page.scanned = ArrayGetNItems(ARR_NDIM(touched), ARR_DIMS(touched));
		page.customers = (int64 *) ARR_DATA_PTR(touched);
		if (page.scanned > 0)
		{
			page.last = page.customers[page.scanned - 1];
			look_at_profiles(page.customers, page.scanned, &all, NULL, false);
			changed = apply_found(&all);
		}
	}
	else if (cdp_read_page(&page, PG_GETARG_INT64(0), PG_GETARG_INT32(1), rebuild, false) > 0)
	{
		if (rebuild)
			changed = cdp_rebuild_page(&page);
		else
		{
			look_at(page.customers, page.ncustomers, &all, NULL, false);
			changed = apply_found(&all);
		}
	}
	else if (rebuild)
		changed = cdp_rebuild_orphans();
	cdp_end(&verb);
	MemoryContextSwitchTo(caller);
	values[0] = Int64GetDatum(page.last);
	values[1] = Int64GetDatum(page.scanned);
	values[2] = Int64GetDatum(changed);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* cdp._recheck_touched(since) -> customers, ascending */
Datum
cdp_recheck_touched(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	CdpVerb		verb;
	int64	   *ids;
	int			n;
	Datum		result;

	cdp_begin_read(&verb);
	ids = read_touched(PG_GETARG_TIMESTAMPTZ(0), &n, true);
	MemoryContextSwitchTo(caller);
	result = cdp_id_array(ids, n);
	cdp_end(&verb);
	PG_RETURN_DATUM(result);
}
