/*
 * identity_recheck.c
 *	  Apply today's rules to all the evidence there is.
 *
 *	  page		a thousand customers, with everything their evidence reaches
 *	  replay	who would be one customer (identity_replay.c)
 *	  compare	profiles whose customer is another, identifiers that sit in
 *				the profile of somebody else
 *	  lock		the customers of every component that changes, ascending
 *	  again		the same under the locks; others may have been faster
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

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_recheck_identity);
PG_FUNCTION_INFO_V1(cdp_recheck_step);

#define PAGE	1000

/* one line of the answer */
typedef struct Row
{
	int64		profile_id;
	int64		before;
	int64		after;			/* 0: a customer yet to be made */
	char	   *reason;
} Row;

typedef struct Rows
{
	Row		   *rows;
	int			n;
	int			max;
} Rows;

/* an identifier that sits in the profile of another set */
typedef struct Move
{
	int			identifier;
	int			target;			/* profile of its set, -1: one has to be made */
	int64		profile_id;		/* where it came to be */
} Move;

/* what a replay says about a graph, compared with what is */
typedef struct Verdict
{
	CdpGraph   *g;
	bool	   *concerned;		/* per customer: something in its component changes */
	Move	   *moves;
	int			nmoves;
	int64	   *set_after;		/* per representative: its customer, 0: none yet */
	int		   *set_best;		/* ... its strongest home, -1: none */
	const char **set_reason;	/* ... why it is no longer with others */
} Verdict;

int
cdp_id_compare(const void *x, const void *y)
{
	int64		a = *(const int64 *) x;
	int64		b = *(const int64 *) y;

	return a < b ? -1 : a > b;
}

Datum
cdp_id_array(const int64 *ids, int n)
{
	Datum	   *datums = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		datums[i] = Int64GetDatum(ids[i]);
	return PointerGetDatum(construct_array(datums, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
}

/* ---------------------------------------------------------------- compare */

static void
concern(Verdict *v, int profile)
{
	v->concerned[v->g->customers[v->g->profiles[profile].customer].component] = true;
}

static void
compare(Verdict *v, CdpGraph *g)
{
	int			n = Max(g->nidentifiers, 1);

	v->g = g;
	v->concerned = palloc0(sizeof(bool) * Max(g->ncustomers, 1));
	v->moves = palloc(sizeof(Move) * n);
	v->nmoves = 0;
	v->set_after = palloc0(sizeof(int64) * n);
	v->set_best = palloc(sizeof(int) * n);
	v->set_reason = palloc0(sizeof(char *) * n);
	for (int i = 0; i < g->nidentifiers; i++)
		v->set_best[i] = -1;
	for (int p = 0; p < g->nprofiles; p++)
	{
		GraphProfile *profile = &g->profiles[p];

		if (profile->after != g->customers[profile->customer].id)
			concern(v, p);
		if (profile->set < 0)
			continue;
		v->set_after[profile->set] = profile->after;
		if (v->set_best[profile->set] < 0 || cdp_graph_is_stronger(g, profile->home, v->set_best[profile->set]))
			v->set_best[profile->set] = profile->home;
	}
	for (int i = 0; i < g->nidentifiers; i++)
	{
		GraphIdentifier *x = &g->identifiers[i];
		int			set = cdp_graph_set(g, i);
		Move	   *m = &v->moves[v->nmoves];

		if (!x->live || x->generic || set == g->profiles[x->profile].set)
			continue;
		m->identifier = i;
		/* facts of a strong kind are stored apart, see identify() */
		m->target = v->set_best[set] < 0 || g->kinds[x->kind].own_profile ? -1 : g->identifiers[v->set_best[set]].profile;
		m->profile_id = 0;
		v->nmoves++;
		concern(v, x->profile);
	}
	/* the links are in canonical order: the strongest evidence that was refused is the reason */
	for (int i = 0; i < g->nlinks; i++)
	{
		GraphLink  *l = &g->links[i];
		const char *reason;

		if (l->verdict == NULL || l->relation != 's')
			continue;
		reason = l->verdict_kind >= 0 ? psprintf("limit of %s", g->kinds[l->verdict_kind].name) : l->verdict;
		for (int side = 0; side < 2; side++)
		{
			int			set = cdp_graph_set(g, side == 0 ? l->a : l->b);

			if (v->set_reason[set] == NULL)
				v->set_reason[set] = reason;
		}
	}
	for (int c = 0; c < g->ncustomers; c++)
		v->concerned[c] = v->concerned[g->customers[c].component];
}

static const char *
reason_of(const Verdict *v, int set)
{
	return set >= 0 && v->set_reason[set] != NULL ? v->set_reason[set] : "no evidence";
}

/* a profile that leaves its customer, or comes along with it */
static const char *
reason_of_profile(const Verdict *v, int p)
{
	const CdpGraph *g = v->g;
	int			own = cdp_graph_profile(g, g->customers[g->profiles[p].customer].id);

	if (own >= 0 && g->profiles[own].set == g->profiles[p].set && g->profiles[p].set >= 0)
		return "evidence";
	return reason_of(v, g->profiles[p].set);
}

static void
add_row(Rows *rows, int64 profile_id, int64 before, int64 after, const char *reason)
{
	Row		   *r;

	if (rows->n == rows->max)
	{
		rows->max = Max(rows->max * 2, 64);
		rows->rows = rows->rows == NULL ? palloc(sizeof(Row) * (Size) rows->max) :
			repalloc_huge(rows->rows, sizeof(Row) * (Size) rows->max);
	}
	r = &rows->rows[rows->n++];
	r->profile_id = profile_id;
	r->before = before;
	r->after = after;
	r->reason = pstrdup(reason);
}

/* The lines of the answer, of components that only() lets pass. */
static void
list_rows(const Verdict *v, Rows *rows, const bool *skip)
{
	CdpGraph   *g = v->g;

	for (int p = 0; p < g->nprofiles; p++)
	{
		GraphProfile *profile = &g->profiles[p];
		int64		before = g->customers[profile->customer].id;

		if (profile->after != before && !skip[profile->customer])
			add_row(rows, profile->id, before, profile->after, reason_of_profile(v, p));
	}
	for (int i = 0; i < v->nmoves; i++)
	{
		GraphIdentifier *x = &g->identifiers[v->moves[i].identifier];
		GraphProfile *profile = &g->profiles[x->profile];
		int			set = cdp_graph_set(g, v->moves[i].identifier);

		if (!skip[profile->customer])
			add_row(rows, profile->id, g->customers[profile->customer].id, v->set_after[set],
					psprintf("%s moves: %s", g->kinds[x->kind].name, reason_of(v, set)));
	}
}

/* ------------------------------------------------------------------ write */

static int
compare_moves(const void *p, const void *q, void *arg)
{
	const CdpGraph *g = arg;

	return cdp_graph_is_stronger(g, ((const Move *) p)->identifier, ((const Move *) q)->identifier) ? -1 : 1;
}

/* Identifiers go to profiles of their set; a closed row stays where they were. */
static void
write_moves(Verdict *v, int64 **made, int *nmade)
{
	static SPIPlanPtr profile_plan = NULL;
	static SPIPlanPtr move_plan = NULL;
	static const Oid types[3] = {INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID};
	CdpGraph   *g = v->g;
	int64	   *founded = palloc0(sizeof(int64) * Max(g->nidentifiers, 1));	/* per set without a profile */
	int64	   *profiles = palloc(sizeof(int64) * Max(v->nmoves, 1));
	int64	   *ids = palloc(sizeof(int64) * Max(v->nmoves, 1));
	int64	   *targets = palloc(sizeof(int64) * Max(v->nmoves, 1));
	Datum		args[3];
	int			n = 0;

	*made = profiles;
	/* the strongest of a set founds its profile */
	if (v->nmoves > 1)
		qsort_arg(v->moves, v->nmoves, sizeof(Move), compare_moves, g);
	for (int i = 0; i < v->nmoves; i++)
	{
		Move	   *m = &v->moves[i];
		GraphIdentifier *x = &g->identifiers[m->identifier];
		int			set = cdp_graph_set(g, m->identifier);

		if (m->target >= 0)
			m->profile_id = g->profiles[m->target].id;
		else if (founded[set] != 0 && !g->kinds[x->kind].own_profile)
			m->profile_id = founded[set];
		else
		{
			m->profile_id = nextval_internal(cdp_relation("profile_profile_id_seq"), false);
			profiles[n++] = m->profile_id;
			if (founded[set] == 0 && v->set_after[set] == 0)
				founded[set] = m->profile_id;
		}
		ids[i] = x->id;
		targets[i] = m->profile_id;
	}
	*nmade = n;
	if (v->nmoves == 0)
		return;
	args[0] = cdp_id_array(ids, v->nmoves);
	args[1] = cdp_id_array(targets, v->nmoves);
	args[2] = TimestampTzGetDatum(cdp_now_value());
	cdp_plan_generic(&profile_plan,
					 "INSERT INTO cdp.profile (profile_id, created_at)"
					 " SELECT u.profile_id, min(i.first_seen) FROM unnest($1, $2) u(identifier_id, profile_id)"
					 " JOIN cdp.identifier i ON i.identifier_id = u.identifier_id"
					 " WHERE NOT EXISTS (SELECT FROM cdp.profile p WHERE p.profile_id = u.profile_id)"
					 " GROUP BY u.profile_id ORDER BY u.profile_id",
					 2, types);
	if (SPI_execute_plan(profile_plan, args, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write profiles");
	/* one statement: the closed rows are what was there before it */
	cdp_plan_generic(&move_plan,
					 "WITH moved AS (UPDATE cdp.identifier i SET profile_id = u.profile_id"
					 "  FROM unnest($1, $2) u(identifier_id, profile_id) WHERE i.identifier_id = u.identifier_id)"
					 " INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen, source, valid_to)"
					 " SELECT i.kind, i.value, i.profile_id, i.first_seen, i.last_seen, i.source, $3"
					 " FROM cdp.identifier i WHERE i.identifier_id = ANY ($1) ORDER BY i.identifier_id",
					 3, types);
	if (SPI_execute_plan(move_plan, args, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not move identifiers");
}

/* The set whose customer has the identifier afterwards; negative: a profile that is known by nothing. */
static int
set_afterwards(Verdict *v, int i)
{
	GraphIdentifier *x = &v->g->identifiers[i];

	if (x->live && !x->generic)
		return cdp_graph_set(v->g, i);
	return v->g->profiles[x->profile].set >= 0 ? v->g->profiles[x->profile].set : -1 - x->profile;
}

/* step by which the part of a profile joined, 0: it did not move */
static int64
step_of(const Verdict *v, const CdpPart *parts, int nparts, int profile)
{
	const GraphProfile *p = &v->g->profiles[profile];
	int64		before = v->g->customers[p->customer].id;

	for (int i = 0; i < nparts; i++)
	{
		if (parts[i].before == before && parts[i].after == p->after)
			return parts[i].part == parts[i].after ? 0 : parts[i].merge_id;
	}
	return 0;
}

/* Links say whether they are followed, and which step they caused. */
static void
write_links(Verdict *v, const CdpPart *parts, int nparts)
{
	static SPIPlanPtr refuse_plan = NULL;
	static SPIPlanPtr follow_plan = NULL;
	static const Oid refuse_types[2] = {INT8ARRAYOID, TEXTARRAYOID};
	static const Oid follow_types[2] = {INT8ARRAYOID, INT8ARRAYOID};
	CdpGraph   *g = v->g;
	int64	   *refused = palloc(sizeof(int64) * Max(g->nlinks, 1));
	Datum	   *why = palloc(sizeof(Datum) * Max(g->nlinks, 1));
	int64	   *followed = palloc(sizeof(int64) * Max(g->nlinks, 1));
	int64	   *steps = palloc(sizeof(int64) * Max(g->nlinks, 1));
	int			nrefused = 0;
	int			nfollowed = 0;
	Datum		args[2];

	for (int i = 0; i < g->nlinks; i++)
	{
		GraphLink  *l = &g->links[i];
		int			x = g->identifiers[l->a].profile;
		int			y = g->identifiers[l->b].profile;

		if (l->relation != 's' || !v->concerned[g->profiles[x].customer])
			continue;
		if (set_afterwards(v, l->a) != set_afterwards(v, l->b))
		{
			/* what a generic or a closed identifier tells is a limit, too: nobody is told by it */
			const char *verdict = l->verdict ? l->verdict : l->refusal ? l->refusal : "limit";

			if (l->refusal != NULL && strcmp(l->refusal, verdict) == 0)
				continue;
			refused[nrefused] = l->id;
			why[nrefused++] = CStringGetTextDatum(verdict);
		}
		else if (l->refusal != NULL && !g->identifiers[l->a].generic && !g->identifiers[l->b].generic)
		{
			followed[nfollowed] = l->id;
			steps[nfollowed++] = g->profiles[x].customer == g->profiles[y].customer ? 0 :
				Max(step_of(v, parts, nparts, x), step_of(v, parts, nparts, y));
		}
	}
	if (nrefused > 0)
	{
		args[0] = cdp_id_array(refused, nrefused);
		args[1] = PointerGetDatum(construct_array(why, nrefused, TEXTOID, -1, false, TYPALIGN_INT));
		cdp_plan_generic(&refuse_plan,
						 "UPDATE cdp.identity_link l SET refusal = u.why FROM unnest($1, $2) u(id, why) WHERE l.link_id = u.id",
						 2, refuse_types);
		if (SPI_execute_plan(refuse_plan, args, NULL, false, 0) != SPI_OK_UPDATE)
			elog(ERROR, "could not refuse evidence");
	}
	if (nfollowed > 0)
	{
		args[0] = cdp_id_array(followed, nfollowed);
		args[1] = cdp_id_array(steps, nfollowed);
		/* the same refused pair may stand there twice: one is enough */
		cdp_plan_generic(&follow_plan,
						 "UPDATE cdp.identity_link l SET refusal = NULL, merge_id = coalesce(nullif(u.step, 0), l.merge_id)"
						 " FROM (SELECT DISTINCT ON (f.identifier_a, f.identifier_b) f.link_id, w.step"
						 "  FROM unnest($1, $2) w(id, step) JOIN cdp.identity_link f ON f.link_id = w.id"
						 "  ORDER BY f.identifier_a, f.identifier_b, f.link_id) u"
						 " WHERE l.link_id = u.link_id AND NOT EXISTS (SELECT FROM cdp.identity_link o"
						 "  WHERE o.identifier_a = l.identifier_a AND o.identifier_b = l.identifier_b AND o.relation = 'same'"
						 "   AND o.revoked_at IS NULL AND o.refusal IS NULL)",
						 2, follow_types);
		if (SPI_execute_plan(follow_plan, args, NULL, false, 0) != SPI_OK_UPDATE)
			elog(ERROR, "could not follow evidence");
	}
}

/* The locks are held and the replay is the truth: make it so. */
static void
apply(Verdict *v)
{
	static const CdpCause cause = {"recheck", "recheck", "recheck", 0};
	CdpGraph   *g = v->g;
	CdpChange  *changes = palloc(sizeof(CdpChange) * Max(g->nprofiles, 1));
	CdpPart    *parts;
	int64	   *made;
	int64	   *named = palloc0(sizeof(int64) * Max(g->nidentifiers, 1));
	int			nmade;
	int			nparts;
	int			n = 0;

	write_moves(v, &made, &nmade);
	for (int p = 0; p < g->nprofiles; p++)
	{
		GraphProfile *profile = &g->profiles[p];

		if (profile->after == g->customers[profile->customer].id)
			continue;
		changes[n].profile_id = profile->id;
		changes[n].before = g->customers[profile->customer].id;
		changes[n].after = profile->after;
		changes[n++].reason = reason_of_profile(v, p);
	}
	parts = cdp_apply_partition(changes, n, &cause, &nparts);
	/* profiles made for identifiers: all of a set are one customer, its smallest profile when it has none yet */
	qsort(made, nmade, sizeof(int64), cdp_id_compare);
	for (int k = 0; k < nmade; k++)
	{
		int			set = -1;

		for (int i = 0; i < v->nmoves && set < 0; i++)
		{
			if (v->moves[i].profile_id == made[k])
				set = cdp_graph_set(g, v->moves[i].identifier);
		}
		if (v->set_after[set] != 0)
			cdp_recheck_merge(v->set_after[set], made[k]);
		else if (named[set] != 0)
			cdp_recheck_merge(named[set], made[k]);
		else
			named[set] = made[k];
	}
	write_links(v, parts, nparts);
}

/* today's customers of ids that may have been merged meanwhile */
static void
refresh(int64 *ids, int *n)
{
	int			m = 0;

	for (int i = 0; i < *n; i++)
	{
		int64		customer = cdp_customer_of(ids[i], false);

		if (customer != 0)
			ids[m++] = customer;
	}
	qsort(ids, m, sizeof(int64), cdp_id_compare);
	*n = 0;
	for (int i = 0; i < m; i++)
	{
		if (*n == 0 || ids[*n - 1] != ids[i])
			ids[(*n)++] = ids[i];
	}
}

typedef struct Locking
{
	int64	   *ids;			/* ascending */
	int			n;
	int64	   *wider;			/* and who else has to be locked */
	int			nwider;
	Verdict		v;
} Locking;

static bool
lock_body(void *arg)
{
	Locking    *l = arg;
	CdpGraph   *g;

	l->nwider = 0;
	if (!cdp_lock_customers(l->ids, l->n))
		return false;
	cdp_graph_require_current(l->ids, l->n, CDP_REACH_EVIDENCE);
	g = cdp_graph_load(l->ids, l->n, CDP_REACH_EVIDENCE, false);
	cdp_replay(g);
	compare(&l->v, g);
	/* all whose component changes have to be locked, also those who joined it meanwhile */
	l->wider = palloc(sizeof(int64) * (l->n + g->ncustomers));
	for (int c = 0; c < g->ncustomers; c++)
	{
		if (l->v.concerned[c] && bsearch(&g->customers[c].id, l->ids, l->n, sizeof(int64), cdp_id_compare) == NULL)
			l->wider[l->nwider++] = g->customers[c].id;
	}
	if (l->nwider > 0)
		cdp_graph_free(g);
	return l->nwider == 0;
}

/* Customers of components that change: lock them all, look again, write. */
static void
apply_locked(int64 *ids, int n, Rows *rows)
{
	Locking		l = {ids, n, NULL, 0, {0}};
	int			round = 0;
	bool	   *skip;

	if (n == 0)
		return;
	do
	{
		cdp_count_round(&round);
		if (l.nwider > 0)
		{
			memcpy(l.wider + l.nwider, l.ids, sizeof(int64) * l.n);
			l.ids = l.wider;
			l.n += l.nwider;
		}
		refresh(l.ids, &l.n);
	} while (!cdp_attempt(lock_body, &l));
	skip = palloc0(sizeof(bool) * Max(l.v.g->ncustomers, 1));
	list_rows(&l.v, rows, skip);
	apply(&l.v);
	cdp_graph_free(l.v.g);
}

/* ------------------------------------------------------------------ pages */

/*
 * Profiles after an id, ascending: how many (0: the end), the last of them,
 * and which customers to look at: since NULL those whose own profile is on
 * the page, else those with a profile on it that something happened to.
 */
int
cdp_read_page(CdpPage *page, int64 after, int limit, const TimestampTz *since, bool every, bool read_only)
{
	static SPIPlanPtr page_plan = NULL;
	static SPIPlanPtr customer_plan = NULL;
	static SPIPlanPtr every_plan = NULL;
	static SPIPlanPtr touched_plan = NULL;
	static const Oid page_types[2] = {INT8OID, INT4OID};
	static const Oid types[3] = {INT8OID, INT8OID, TIMESTAMPTZOID};
	Datum		args[3];
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
	if (since != NULL)
	{
		args[2] = TimestampTzGetDatum(*since);
		plan = cdp_plan_generic(&touched_plan,
								"SELECT DISTINCT coalesce(a.customer_id, i.profile_id) FROM cdp.identifier i"
								" LEFT JOIN cdp.profile_alias a ON a.profile_id = i.profile_id"
								" WHERE i.profile_id > $1 AND i.profile_id <= $2"
								"  AND (i.first_seen >= $3 OR i.last_seen >= $3 OR i.valid_to >= $3 OR i.generic_since >= $3"
								"   OR EXISTS (SELECT FROM cdp.identity_link l WHERE l.identifier_a = i.identifier_id"
								"     AND l.revoked_at IS NULL AND l.refusal IS NULL AND l.linked_at >= $3)"
								"   OR EXISTS (SELECT FROM cdp.identity_link l WHERE l.identifier_a = i.identifier_id"
								"     AND l.revoked_at IS NULL AND l.refusal IS NOT NULL AND l.linked_at >= $3)"
								"   OR EXISTS (SELECT FROM cdp.identity_link l WHERE l.identifier_b = i.identifier_id"
								"     AND (l.linked_at >= $3 OR l.revoked_at >= $3)))",
								3, types);
	}
	else if (every)
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
	const Row  *a = x;
	const Row  *b = y;

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
gather(Gathered *all, CdpGraph *g, const Verdict *v, bool *skip)
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

/* one page: what would change; its rows (when wanted) and its customers */
static void
look_at(const CdpPage *page, Gathered *all, Rows *rows, bool read_only)
{
	MemoryContext caller = CurrentMemoryContext;
	CdpGraph   *g = cdp_graph_load(page->customers, page->ncustomers, CDP_REACH_EVIDENCE, read_only);
	Verdict		v;
	bool	   *skip;

	MemoryContextSwitchTo(g->context);
	cdp_replay(g);
	compare(&v, g);
	skip = palloc(sizeof(bool) * Max(g->ncustomers, 1));
	MemoryContextSwitchTo(caller);
	gather(all, g, &v, skip);
	if (rows != NULL)
		list_rows(&v, rows, skip);
	cdp_graph_free(g);
}

/* cdp.recheck_identity(since, dry_run) -> setof (profile_id, customer_before, customer_after, reason) */
Datum
cdp_recheck_identity(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz since = PG_ARGISNULL(0) ? 0 : PG_GETARG_TIMESTAMPTZ(0);
	const TimestampTz *from = PG_ARGISNULL(0) ? NULL : &since;
	bool		dry_run = PG_ARGISNULL(1) || PG_GETARG_BOOL(1);
	Rows		rows = {NULL, 0, 0};
	Gathered	all;
	CdpPage		page = {0};
	CdpVerb		verb;

	InitMaterializedSRF(fcinfo, 0);
	if (dry_run)
		cdp_begin_read(&verb);
	else
		cdp_begin_write(&verb, "recheck_identity");
	start_gathering(&all);
	while (cdp_read_page(&page, page.last, PAGE, from, false, dry_run) > 0)
		look_at(&page, &all, dry_run ? &rows : NULL, dry_run);
	if (!dry_run)
		apply_locked(all.ids, all.n, &rows);
	if (rows.n > 1)
		qsort(rows.rows, rows.n, sizeof(Row), compare_rows);
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

/*
 * cdp._recheck_step(after, batch, since, rebuild) -> (last, scanned, changed)
 * One batch of recheck_identities() or rebuild_aliases(); scanned 0: the end.
 */
Datum
cdp_recheck_step(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz since = PG_ARGISNULL(2) ? 0 : PG_GETARG_TIMESTAMPTZ(2);
	bool		rebuild = PG_GETARG_BOOL(3);
	int64		changed = 0;
	TupleDesc	desc;
	CdpPage		page = {0};
	CdpVerb		verb;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	cdp_begin_write(&verb, rebuild ? "rebuild_aliases" : "recheck_identities");
	if (cdp_read_page(&page, PG_GETARG_INT64(0), PG_GETARG_INT32(1), PG_ARGISNULL(2) ? NULL : &since, rebuild, false) > 0)
	{
		if (rebuild)
			changed = cdp_rebuild_page(&page);
		else
		{
			Rows		rows = {NULL, 0, 0};
			Gathered	all;

			start_gathering(&all);
			look_at(&page, &all, NULL, false);
			apply_locked(all.ids, all.n, &rows);
			changed = rows.n;
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
