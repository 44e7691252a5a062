/*
 * identity_verdict.c
 *	  What a replay of the evidence means for what is: whose customer is
 *	  another, which identifier has to move; and the writing of it.
 *
 * Profiles go with the identifier they are known by.  An identifier of
 * another set leaves for a profile of that set, the strongest one's, or for
 * a new one when there is none or its kind has profiles of its own; a closed
 * row of it stays where it was.
 *
 * Tests: test/sql/identity_recheck.sql, test/pgtap/identity_recheck.sql.
 */
#include "identity_recheck.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "utils/array.h"
#include "utils/builtins.h"

/* a profile made for identifiers of a set */
typedef struct Made
{
	int64		profile_id;
	int			set;
} Made;

/* ---------------------------------------------------------------- compare */

static void
concern(RecheckVerdict *v, int profile)
{
	v->concerned[v->g->customers[v->g->profiles[profile].customer].component] = true;
}

void
cdp_compare(RecheckVerdict *v, CdpGraph *g)
{
	int			n = Max(g->nidentifiers, 1);

	v->g = g;
	v->concerned = palloc0(sizeof(bool) * Max(g->ncustomers, 1));
	v->moves = palloc(sizeof(RecheckMove) * n);
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
		RecheckMove	   *m = &v->moves[v->nmoves];

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
reason_of(const RecheckVerdict *v, int set)
{
	return set >= 0 && v->set_reason[set] != NULL ? v->set_reason[set] : "no evidence";
}

/* a profile that leaves its customer, or comes along with it */
static const char *
reason_of_profile(const RecheckVerdict *v, int p)
{
	const CdpGraph *g = v->g;
	int			own = cdp_graph_profile(g, g->customers[g->profiles[p].customer].id);

	if (own >= 0 && g->profiles[own].set == g->profiles[p].set && g->profiles[p].set >= 0)
		return "evidence";
	return reason_of(v, g->profiles[p].set);
}

static void
add_row(RecheckRows *rows, int64 profile_id, int64 before, int64 after, const char *reason)
{
	RecheckRow		   *r;

	if (rows->n == rows->max)
	{
		rows->max = Max(rows->max * 2, 64);
		rows->rows = rows->rows == NULL ? palloc(sizeof(RecheckRow) * (Size) rows->max) :
			repalloc_huge(rows->rows, sizeof(RecheckRow) * (Size) rows->max);
	}
	r = &rows->rows[rows->n++];
	r->profile_id = profile_id;
	r->before = before;
	r->after = after;
	r->reason = pstrdup(reason);
}

void
cdp_list_rows(const RecheckVerdict *v, RecheckRows *rows, const bool *skip)
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

	return cdp_graph_is_stronger(g, ((const RecheckMove *) p)->identifier, ((const RecheckMove *) q)->identifier) ? -1 : 1;
}

/* Identifiers go to profiles of their set; a closed row stays where they were. */
static void
write_moves(RecheckVerdict *v, Made *made, int *nmade)
{
	static SPIPlanPtr profile_plan = NULL;
	static SPIPlanPtr move_plan = NULL;
	static const Oid types[3] = {INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID};
	CdpGraph   *g = v->g;
	int64	   *founded = palloc0(sizeof(int64) * Max(g->nidentifiers, 1));	/* per set without a profile */
	int64	   *ids = palloc(sizeof(int64) * Max(v->nmoves, 1));
	int64	   *targets = palloc(sizeof(int64) * Max(v->nmoves, 1));
	Datum		args[3];
	int			n = 0;

	/* the strongest of a set founds its profile */
	if (v->nmoves > 1)
		qsort_arg(v->moves, v->nmoves, sizeof(RecheckMove), compare_moves, g);
	for (int i = 0; i < v->nmoves; i++)
	{
		RecheckMove	   *m = &v->moves[i];
		GraphIdentifier *x = &g->identifiers[m->identifier];
		int			set = cdp_graph_set(g, m->identifier);

		if (m->target >= 0)
			m->profile_id = g->profiles[m->target].id;
		else if (founded[set] != 0 && !g->kinds[x->kind].own_profile)
			m->profile_id = founded[set];
		else
		{
			m->profile_id = nextval_internal(cdp_relation("profile_profile_id_seq"), false);
			made[n].profile_id = m->profile_id;
			made[n++].set = set;
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
set_afterwards(RecheckVerdict *v, int i)
{
	GraphIdentifier *x = &v->g->identifiers[i];

	if (x->live && !x->generic)
		return cdp_graph_set(v->g, i);
	return v->g->profiles[x->profile].set >= 0 ? v->g->profiles[x->profile].set : -1 - x->profile;
}

static int
compare_parts(const void *x, const void *y)
{
	const CdpPart *a = x;
	const CdpPart *b = y;

	if (a->before != b->before)
		return a->before < b->before ? -1 : 1;
	return a->after < b->after ? -1 : a->after > b->after;
}

/* step by which the part of a profile joined, 0: it did not move */
static int64
step_of(const RecheckVerdict *v, const CdpPart *parts, int nparts, int profile)
{
	const GraphProfile *p = &v->g->profiles[profile];
	CdpPart		key = {v->g->customers[p->customer].id, 0, p->after, 0, NULL};
	const CdpPart *part = bsearch(&key, parts, nparts, sizeof(CdpPart), compare_parts);

	return part == NULL || part->part == part->after ? 0 : part->merge_id;
}

/* Links say whether they are followed, and which step they caused. */
static void
write_links(RecheckVerdict *v, const CdpPart *parts, int nparts)
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

static int
compare_made(const void *x, const void *y)
{
	int64		a = ((const Made *) x)->profile_id;
	int64		b = ((const Made *) y)->profile_id;

	return a < b ? -1 : a > b;
}

void
cdp_apply_verdict(RecheckVerdict *v)
{
	static const CdpCause cause = {"recheck", "recheck", "recheck", 0};
	CdpGraph   *g = v->g;
	CdpChange  *changes = palloc(sizeof(CdpChange) * Max(g->nprofiles, 1));
	CdpPart    *parts;
	Made	   *made = palloc(sizeof(Made) * Max(v->nmoves, 1));
	int64	   *named = palloc0(sizeof(int64) * Max(g->nidentifiers, 1));
	int			nmade;
	int			nparts;
	int			n = 0;

	write_moves(v, made, &nmade);
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
	qsort(made, nmade, sizeof(Made), compare_made);
	for (int k = 0; k < nmade; k++)
	{
		int			set = made[k].set;

		if (v->set_after[set] != 0)
			cdp_recheck_merge(v->set_after[set], made[k].profile_id);
		else if (named[set] != 0)
			cdp_recheck_merge(named[set], made[k].profile_id);
		else
			named[set] = made[k].profile_id;
	}
	qsort(parts, nparts, sizeof(CdpPart), compare_parts);
	write_links(v, parts, nparts);
}
