/*
 * identity_verify.c
 *	  Is the partition what the evidence makes of it?  verify_identity() says
 *	  where it is not, rebuild_aliases() mends the aliases.
 *
 * cdp.profile_alias is a cache: customers are the connected components of
 * the profiles over the links that are followed.  Which of its ids a
 * customer has is not in the links; the aliases tell, and when they
 * contradict each other or are gone, the last step in cdp.merge_log does.
 *
 * Rebuilding restores, so it writes no log, no event, and tells nobody:
 * what the other modules keep per customer was right all the time.
 *
 * SQL: sql/identity_recheck.sql.  Page: doc/identity_recheck.md.
 * Tests: test/sql/identity_recheck.sql, test/t/016_identity_crash.pl
 */
#include "identity_recheck.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_verify_identity);

#define PAGE	1000

/* the last step that touched a set, out of the log */
static int64
logged_name(const CdpGraph *g, const int *members, int n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	int64	   *ids = palloc(sizeof(int64) * n);
	Datum		args[1];
	int64		result = 0;
	bool		isnull;

	for (int i = 0; i < n; i++)
		ids[i] = g->profiles[members[i]].id;
	args[0] = cdp_id_array(ids, n);
	cdp_plan(&plan,
			 "SELECT CASE WHEN customer_id = ANY ($1) THEN customer_id ELSE other_id END FROM cdp.merge_log"
			 " WHERE (customer_id = ANY ($1) OR (other_id = ANY ($1) AND NOT before ? 'loser')) AND customer_id <> other_id"
			 " ORDER BY merge_id DESC LIMIT 1",
			 1, types);
	if (SPI_execute_plan(plan, args, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the log of merges");
	if (SPI_processed == 1)
		result = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return result;
}

static int
find_set(CdpGraph *g, int p)
{
	while (g->profiles[p].set != p)
	{
		g->profiles[p].set = g->profiles[g->profiles[p].set].set;
		p = g->profiles[p].set;
	}
	return p;
}

static int
compare_members(const void *x, const void *y, void *arg)
{
	CdpGraph   *g = arg;
	int			a = *(const int *) x;
	int			b = *(const int *) y;
	int			s = g->profiles[a].set;
	int			t = g->profiles[b].set;

	if (s != t)
		return s < t ? -1 : 1;
	return g->profiles[a].id < g->profiles[b].id ? -1 : 1;
}

/* Set after of every profile by the links that are followed. */
static void
closure(CdpGraph *g)
{
	int		   *order = palloc(sizeof(int) * Max(g->nprofiles, 1));

	for (int p = 0; p < g->nprofiles; p++)
		g->profiles[p].set = order[p] = p;
	for (int i = 0; i < g->nlinks; i++)
	{
		if (g->links[i].relation == 's' && g->links[i].refusal == NULL)
			g->profiles[find_set(g, g->identifiers[g->links[i].a].profile)].set =
				find_set(g, g->identifiers[g->links[i].b].profile);
	}
	for (int p = 0; p < g->nprofiles; p++)
		g->profiles[p].set = find_set(g, p);
	qsort_arg(order, g->nprofiles, sizeof(int), compare_members, g);
	for (int i = 0; i < g->nprofiles;)
	{
		int			from = i;
		int			set = g->profiles[order[i]].set;
		int64		customer = g->customers[g->profiles[order[i]].customer].id;
		bool		agreed = true;
		bool		has_customer = false;
		bool		has_logged = false;
		int64		logged;

		for (; i < g->nprofiles && g->profiles[order[i]].set == set; i++)
		{
			agreed = agreed && g->customers[g->profiles[order[i]].customer].id == customer;
			has_customer = has_customer || g->profiles[order[i]].id == customer;
		}
		if (!agreed || !has_customer)
		{
			customer = g->profiles[order[from]].id;
			logged = i - from > 1 ? logged_name(g, order + from, i - from) : 0;
			for (int k = from; k < i; k++)
				has_logged = has_logged || g->profiles[order[k]].id == logged;
			if (has_logged)
				customer = logged;
		}
		for (int k = from; k < i; k++)
			g->profiles[order[k]].after = customer;
	}
	pfree(order);
}

/* ---------------------------------------------------------------- rebuild */

/* profiles of sets that are not as the aliases say, with all their sets */
static int
wrong_profiles(CdpGraph *g, int64 *ids, int64 *customers)
{
	bool	   *wrong = palloc0(sizeof(bool) * Max(g->nprofiles, 1));
	int			n = 0;

	for (int p = 0; p < g->nprofiles; p++)
		wrong[g->profiles[p].set] = wrong[g->profiles[p].set] ||
			g->profiles[p].after != g->customers[g->profiles[p].customer].id;
	for (int p = 0; p < g->nprofiles; p++)
	{
		if (!wrong[g->profiles[p].set])
			continue;
		ids[n] = g->profiles[p].id;
		customers[n++] = g->profiles[p].after;
	}
	return n;
}

typedef struct Rebuilding
{
	const CdpPage *page;
	int64	   *locked;			/* ascending */
	int			nlocked;
	int64	   *ids;			/* profiles that are wrong */
	int64	   *customers;		/* ... and what they should be */
	int			n;
} Rebuilding;

/* what is wrong; are all of these locked? */
static bool
look(Rebuilding *r)
{
	CdpGraph   *g = cdp_graph_load(r->page->customers, r->page->ncustomers, CDP_REACH_FOLLOWED, false);
	bool		all = true;

	r->ids = palloc(sizeof(int64) * Max(g->nprofiles, 1));
	r->customers = palloc(sizeof(int64) * Max(g->nprofiles, 1));
	closure(g);
	r->n = wrong_profiles(g, r->ids, r->customers);
	cdp_graph_free(g);
	for (int i = 0; i < r->n && all; i++)
		all = r->locked != NULL && bsearch(&r->ids[i], r->locked, r->nlocked, sizeof(int64), cdp_id_compare) != NULL;
	return all;
}

/* whatever the aliases say, these profiles are whom it is about */
static bool
lock_body(void *arg)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	Rebuilding *r = arg;
	Datum		args[1];

	args[0] = cdp_id_array(r->locked, r->nlocked);
	cdp_plan(&plan, "SELECT 1 FROM cdp.profile WHERE profile_id = ANY ($1) ORDER BY profile_id FOR NO KEY UPDATE", 1, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not lock customers");
	return look(r);
}

int64
cdp_rebuild_page(const CdpPage *page)
{
	static SPIPlanPtr alias_plan = NULL;
	static SPIPlanPtr delete_plan = NULL;
	static const Oid types[2] = {INT8ARRAYOID, INT8ARRAYOID};
	Rebuilding	r = {page, NULL, 0, NULL, NULL, 0};
	Datum		args[2];
	int64		written;
	int64		deleted;
	int			round = 0;

	if (look(&r))
		return 0;
	do
	{
		cdp_count_round(&round);
		r.locked = r.ids;
		r.nlocked = r.n;
		qsort(r.locked, r.nlocked, sizeof(int64), cdp_id_compare);
	} while (!cdp_attempt(lock_body, &r));
	args[0] = cdp_id_array(r.ids, r.n);
	args[1] = cdp_id_array(r.customers, r.n);
	cdp_plan(&delete_plan,
			 "DELETE FROM cdp.profile_alias a USING unnest($1, $2) u(profile_id, customer_id)"
			 " WHERE a.profile_id = u.profile_id AND u.profile_id = u.customer_id",
			 2, types);
	cdp_write_aliases(delete_plan, args, &deleted);
	cdp_plan(&alias_plan,
			 "INSERT INTO cdp.profile_alias AS a (profile_id, customer_id)"
			 " SELECT u.profile_id, u.customer_id FROM unnest($1, $2) u(profile_id, customer_id)"
			 " WHERE u.profile_id <> u.customer_id ORDER BY u.profile_id"
			 " ON CONFLICT (profile_id) DO UPDATE SET customer_id = excluded.customer_id"
			 " WHERE a.customer_id <> excluded.customer_id",
			 2, types);
	cdp_write_aliases(alias_plan, args, &written);
	return deleted + written;
}

/* aliases of profiles that do not exist */
int64
cdp_rebuild_orphans(void)
{
	static SPIPlanPtr plan = NULL;
	int64		deleted;

	cdp_plan(&plan, "DELETE FROM cdp.profile_alias a WHERE NOT EXISTS (SELECT FROM cdp.profile p WHERE p.profile_id = a.profile_id)",
			 0, NULL);
	cdp_write_aliases(plan, NULL, &deleted);
	return deleted;
}

/* ----------------------------------------------------------------- verify */

/* check_name and detail, one row per thing that is wrong */
static const char *const checks[] = {
	/* one level of aliases */
	"SELECT 'alias_depth', format('profile %s is with %s, which is with %s', a.profile_id, a.customer_id, b.customer_id)"
	" FROM cdp.profile_alias a JOIN cdp.profile_alias b ON b.profile_id = a.customer_id",
	/* nothing hangs in the air */
	"SELECT 'orphan', format('alias of profile %s', a.profile_id) FROM cdp.profile_alias a"
	" WHERE NOT EXISTS (SELECT FROM cdp.profile p WHERE p.profile_id = a.profile_id)"
	"  OR NOT EXISTS (SELECT FROM cdp.profile p WHERE p.profile_id = a.customer_id)"
	" UNION ALL SELECT 'orphan', format('identifier %s of profile %s', i.identifier_id, i.profile_id) FROM cdp.identifier i"
	" WHERE NOT EXISTS (SELECT FROM cdp.profile p WHERE p.profile_id = i.profile_id)"
	" UNION ALL SELECT 'orphan', format('link %s', l.link_id) FROM cdp.identity_link l"
	" WHERE NOT EXISTS (SELECT FROM cdp.identifier i WHERE i.identifier_id = l.identifier_a)"
	"  OR NOT EXISTS (SELECT FROM cdp.identifier i WHERE i.identifier_id = l.identifier_b)",
	/* an index says so, too; it may have been dropped */
	"SELECT 'live_value', format('identifiers %s have one value of kind %s', string_agg(i.identifier_id::text, ', ' ORDER BY i.identifier_id), i.kind)"
	" FROM cdp.identifier i WHERE i.valid_to IS NULL GROUP BY i.kind, i.value HAVING count(*) > 1",
	/* limits without window; for those with one see below */
	"SELECT 'limit', format('customer %s has %s identifiers of kind %s, at most %s', x.customer_id, x.n, x.kind, x.max) FROM ("
	" SELECT coalesce(a.customer_id, i.profile_id) AS customer_id, i.kind, k.max_per_customer AS max, count(*) AS n"
	" FROM cdp.identifier_kind k JOIN cdp.identifier i ON i.kind = k.kind AND i.valid_to IS NULL AND i.generic_since IS NULL"
	" LEFT JOIN cdp.profile_alias a ON a.profile_id = i.profile_id"
	" WHERE k.max_per_customer IS NOT NULL AND k.max_window IS NULL"
	" GROUP BY 1, 2, 3 HAVING count(*) > k.max_per_customer) x"
	/* an operator who overrides limits is right, whichever of the links of a pair is the one that is followed */
	" WHERE x.customer_id NOT IN (SELECT coalesce(a.customer_id, i.profile_id) FROM cdp.identity_link l"
	"  JOIN cdp.identifier i ON i.identifier_id = l.identifier_a LEFT JOIN cdp.profile_alias a ON a.profile_id = i.profile_id"
	"  JOIN cdp.identifier j ON j.identifier_id = l.identifier_b LEFT JOIN cdp.profile_alias b ON b.profile_id = j.profile_id"
	"  WHERE l.overrides_limits AND l.relation = 'same' AND l.revoked_at IS NULL"
	"   AND coalesce(a.customer_id, i.profile_id) = coalesce(b.customer_id, j.profile_id))",
	/* apart is apart */
	"SELECT 'apart', format('identifiers %s and %s are both of customer %s', l.identifier_a, l.identifier_b, coalesce(a.customer_id, i.profile_id))"
	" FROM cdp.identity_link l JOIN cdp.identifier i ON i.identifier_id = l.identifier_a"
	" JOIN cdp.identifier j ON j.identifier_id = l.identifier_b"
	" LEFT JOIN cdp.profile_alias a ON a.profile_id = i.profile_id LEFT JOIN cdp.profile_alias b ON b.profile_id = j.profile_id"
	" WHERE l.relation = 'apart' AND l.revoked_at IS NULL"
	"  AND coalesce(a.customer_id, i.profile_id) = coalesce(b.customer_id, j.profile_id)",
};

/*
 * Limits with max_window.  One is asked when evidence joins two sides, and
 * counts who was seen within the window before; later sightings may bring
 * more together, and nobody did wrong.  What is kept is when each was seen
 * first and last, so the question is whether the evidence can have made the
 * customer: heard in order of time, counting only those who came within the
 * window, for they were certainly seen; or in canonical order, as a re-check
 * counts.  Where some evidence is left that neither way allows, the limit is
 * broken.
 */
static int
compare_times(const void *x, const void *y)
{
	const GraphLink *a = x;
	const GraphLink *b = y;

	if (a->occurred_at != b->occurred_at)
		return a->occurred_at < b->occurred_at ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

/* of a kind in a set, seen within the window before; certain: whatever came later */
static int
count_seen(const CdpGraph *g, int set, int kind, TimestampTz at, bool certain)
{
	int			n = 0;
	int			i = set;

	do
	{
		const GraphIdentifier *x = &g->identifiers[i];

		n += x->kind == kind && cdp_counts(g, x, at) && (!certain || x->first_seen >= at - g->kinds[kind].window);
		i = x->next;
	} while (i != set);
	return n;
}

/* kind of the limit with a window that joining two sets would break, -1: none */
static int
broken_window(const CdpGraph *g, int a, int b, TimestampTz at, bool certain)
{
	for (int k = 0; k < g->nkinds; k++)
	{
		int			x,
					y;

		if (g->kinds[k].max == 0 || g->kinds[k].window == 0)
			continue;
		x = count_seen(g, a, k, at, certain);
		y = x == 0 ? 0 : count_seen(g, b, k, at, certain);
		if (y > 0 && x + y > g->kinds[k].max)
			return k;
	}
	return -1;
}

/* evidence that holds a suspect together; answers its customer, -1: it does not */
static int
holds_together(const CdpGraph *g, const GraphLink *l, const int *suspect)
{
	int			c = g->profiles[g->identifiers[l->a].profile].customer;

	return l->relation == 's' && l->refusal == NULL && !g->identifiers[l->a].generic && !g->identifiers[l->b].generic &&
		c == g->profiles[g->identifiers[l->b].profile].customer && suspect[c] >= 0 ? c : -1;
}

/* Hear the links as they are sorted; suspect: per customer a kind, afterwards the kind whose limit is broken, -1: none. */
static void
hear(CdpGraph *g, int *suspect, bool certain)
{
	int		   *left = palloc(sizeof(int) * g->ncustomers);
	int		   *broken = palloc(sizeof(int) * Max(g->nlinks, 1));

	for (int c = 0; c < g->ncustomers; c++)
		left[c] = -1;
	cdp_graph_part(g);
	/* as in a replay: history and what is generic stays with its profile */
	for (int i = 0; i < g->nidentifiers; i++)
	{
		GraphIdentifier *x = &g->identifiers[i];
		int			home = g->profiles[x->profile].home;

		if (home != i && (!x->live || x->generic))
			(void) cdp_graph_unite(g, cdp_graph_set(g, home), i);
	}
	for (int i = 0; i < g->nlinks; i++)
	{
		const GraphLink *l = &g->links[i];
		int			a = cdp_graph_set(g, l->a);
		int			b = cdp_graph_set(g, l->b);

		broken[i] = -1;
		if (a == b || holds_together(g, l, suspect) < 0)
			continue;
		broken[i] = broken_window(g, a, b, l->occurred_at, certain);
		if (broken[i] < 0)
			(void) cdp_graph_unite(g, a, b);
	}
	for (int i = 0; i < g->nlinks; i++)
	{
		if (broken[i] >= 0 && cdp_graph_set(g, g->links[i].a) != cdp_graph_set(g, g->links[i].b))
			left[g->profiles[g->identifiers[g->links[i].a].profile].customer] = broken[i];
	}
	memcpy(suspect, left, sizeof(int) * g->ncustomers);
	pfree(left);
	pfree(broken);
}

/* Per customer the kind whose limit within a window is broken, -1: none; NULL: nobody's is. */
static int *
broken_windows(CdpGraph *g)
{
	int		   *suspect = palloc(sizeof(int) * Max(g->ncustomers, 1));
	int		   *n = palloc(sizeof(int) * Max(g->ncustomers, 1));
	bool		any = false;

	for (int c = 0; c < g->ncustomers; c++)
		suspect[c] = -1;
	for (int k = 0; k < g->nkinds; k++)
	{
		if (g->kinds[k].max == 0 || g->kinds[k].window == 0)
			continue;
		memset(n, 0, sizeof(int) * g->ncustomers);
		for (int i = 0; i < g->nidentifiers; i++)
		{
			const GraphIdentifier *x = &g->identifiers[i];
			int			c = g->profiles[x->profile].customer;

			if (x->kind == k && x->live && !x->generic && ++n[c] > g->kinds[k].max)
			{
				suspect[c] = k;
				any = true;
			}
		}
	}
	if (!any)
		return NULL;
	/* an operator who overrides limits is right, whichever of the links of a pair is the one that is followed */
	for (int i = 0; i < g->nlinks; i++)
	{
		int			c = g->profiles[g->identifiers[g->links[i].a].profile].customer;

		if (g->links[i].overrides && g->links[i].relation == 's' && c == g->profiles[g->identifiers[g->links[i].b].profile].customer)
			suspect[c] = -1;
	}
	if (g->nlinks > 1)
		qsort(g->links, g->nlinks, sizeof(GraphLink), compare_times);
	hear(g, suspect, true);
	cdp_sort_links(g);
	hear(g, suspect, false);
	return suspect;
}

static void
put_row(ReturnSetInfo *rsinfo, MemoryContext caller, const char *check, const char *detail)
{
	MemoryContext old = MemoryContextSwitchTo(caller);
	Datum		values[2];
	bool		nulls[2] = {false, false};

	values[0] = CStringGetTextDatum(check);
	values[1] = CStringGetTextDatum(detail);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	MemoryContextSwitchTo(old);
}

/* cdp.verify_identity() -> setof (check_name, detail) */
Datum
cdp_verify_identity(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plans[lengthof(checks)];
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	CdpPage		page = {0};
	int64		after = 0;
	CdpVerb		verb;

	InitMaterializedSRF(fcinfo, 0);
	cdp_begin_read(&verb);
	for (int c = 0; c < lengthof(checks); c++)
	{
		if (SPI_execute_plan(cdp_plan(&plans[c], checks[c], 0, NULL), NULL, NULL, true, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not verify identities");
		for (uint64 i = 0; i < SPI_processed; i++)
			put_row(rsinfo, caller, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1),
					SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2));
		SPI_freetuptable(SPI_tuptable);
	}
	while (cdp_read_page(&page, after, PAGE, true, true) > 0)
	{
		CdpGraph   *g = cdp_graph_load(page.customers, page.ncustomers, CDP_REACH_FOLLOWED, true);
		int		   *broken = broken_windows(g);

		for (int c = 0; broken != NULL && c < g->ncustomers; c++)
		{
			if (broken[c] >= 0 && g->customers[c].id > after && g->customers[c].id <= page.last)
				put_row(rsinfo, caller, "limit", psprintf("customer " INT64_FORMAT " has identifiers of kind %s that were too many within its window, at most %d",
														  g->customers[c].id, g->kinds[broken[c]].name, g->kinds[broken[c]].max));
		}
		closure(g);
		for (int p = 0; p < g->nprofiles; p++)
		{
			int64		customer = g->customers[g->profiles[p].customer].id;

			/* each profile on its own page, whatever the others load of it */
			if (g->profiles[p].id > after && g->profiles[p].id <= page.last && g->profiles[p].after != customer)
				put_row(rsinfo, caller, "alias", psprintf("profile " INT64_FORMAT " is with " INT64_FORMAT ", its evidence is with " INT64_FORMAT,
														  g->profiles[p].id, customer, g->profiles[p].after));
		}
		cdp_graph_free(g);
		pfree(page.customers);
		after = page.last;
	}
	cdp_end(&verb);
	return (Datum) 0;
}
