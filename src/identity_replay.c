/*
 * identity_replay.c
 *	  Who is one customer when all evidence is heard in canonical order.
 *
 * Without limits the order would not matter: customers are the connected
 * components of the evidence.  A limit refuses the join that breaks it, so
 * whoever comes first wins, and then "first" must not mean "arrived first":
 *
 *		certain before probable, the probable in falling weight
 *		stronger kinds first
 *		what happened earlier first
 *		then kind, value and link_id
 *		last what an operator wants in spite of the limits
 *
 * apart comes before all of it: it joins nothing and is asked at each join.
 *
 * The members of a set are identifiers.  Each begins alone, also when it
 * shares its profile with others: which profile an identifier joined did
 * depend on who came first.  What to do about the profiles is decided from
 * the sets afterwards: a profile goes with the identifier by which it is
 * known (its home), an identifier of another set has to move.
 *
 * The bound on profiles must not ask how many there are: that depends on who
 * arrived alone, and every split leaves one more.  It asks how many the
 * evidence makes when it is heard in order of time, which is what identify()
 * makes of it: an identifier brings a profile, but a weak one that was first
 * seen beside an older one of its set shares that one's.
 *
 * Tests: test/sql/identity_recheck.sql, test/pgtap/identity_recheck.sql,
 * test/pgtap/identity_recheck_size.sql.
 */
#include "identity_graph.h"

#include "miscadmin.h"
#include "utils/float.h"
#include "utils/memutils.h"

bool
cdp_graph_is_stronger(const CdpGraph *g, int a, int b)
{
	const GraphIdentifier *x = &g->identifiers[a];
	const GraphIdentifier *y = &g->identifiers[b];
	int			cmp;

	if (g->kinds[x->kind].priority != g->kinds[y->kind].priority)
		return g->kinds[x->kind].priority < g->kinds[y->kind].priority;
	cmp = x->kind == y->kind ? 0 : strcmp(g->kinds[x->kind].name, g->kinds[y->kind].name);
	if (cmp == 0)
		cmp = strcmp(x->value, y->value);
	/* closed rows of one value */
	return cmp != 0 ? cmp < 0 : x->id < y->id;
}

int
cdp_graph_strongest(const CdpGraph *g, int customer)
{
	int			best = -1;
	int			best_rank = -1;

	for (int i = 0; i < g->nidentifiers; i++)
	{
		const GraphIdentifier *x = &g->identifiers[i];
		int			rank = x->live + (x->live && !x->generic);

		if (g->profiles[x->profile].customer != customer)
			continue;
		if (rank > best_rank || (rank == best_rank && cdp_graph_is_stronger(g, i, best)))
		{
			best = i;
			best_rank = rank;
		}
	}
	return best;
}

static int
compare_identifiers(const CdpGraph *g, int a, int b)
{
	const GraphIdentifier *x = &g->identifiers[a];
	const GraphIdentifier *y = &g->identifiers[b];
	int			cmp = x->kind == y->kind ? 0 : strcmp(g->kinds[x->kind].name, g->kinds[y->kind].name);

	return cmp != 0 ? cmp : strcmp(x->value, y->value);
}

#define COMPARE(x, y)	if ((x) != (y)) return (x) < (y) ? -1 : 1

static int
compare_links(const void *p, const void *q, void *arg)
{
	const CdpGraph *g = arg;
	const GraphLink *l = p;
	const GraphLink *m = q;
	int			cmp;

	COMPARE(l->overrides, m->overrides);
	COMPARE(l->weighted, m->weighted);
	cmp = float8_cmp_internal(m->weight, l->weight);	/* knows where NaN stands */
	if (cmp != 0)
		return cmp;
	COMPARE(g->kinds[g->identifiers[l->a].kind].priority, g->kinds[g->identifiers[m->a].kind].priority);
	COMPARE(g->kinds[g->identifiers[l->b].kind].priority, g->kinds[g->identifiers[m->b].kind].priority);
	COMPARE(l->occurred_at, m->occurred_at);
	cmp = compare_identifiers(g, l->a, m->a);
	if (cmp == 0)
		cmp = compare_identifiers(g, l->b, m->b);
	if (cmp != 0)
		return cmp;
	COMPARE(l->id, m->id);
	return 0;
}

void
cdp_sort_links(CdpGraph *g)
{
	if (g->nlinks > 1)
		qsort_arg(g->links, g->nlinks, sizeof(GraphLink), compare_links, g);
}

int
cdp_graph_set(CdpGraph *g, int i)
{
	while (g->identifiers[i].parent != i)
	{
		g->identifiers[i].parent = g->identifiers[g->identifiers[i].parent].parent;
		i = g->identifiers[i].parent;
	}
	return i;
}

/* every identifier in a set of its own */
void
cdp_graph_part(CdpGraph *g)
{
	for (int i = 0; i < g->nidentifiers; i++)
	{
		g->identifiers[i].parent = g->identifiers[i].next = i;
		g->identifiers[i].size = 1;
	}
}

/* what a replay keeps per set, at the place of its representative */
typedef struct Replay
{
	CdpGraph   *g;
	int		   *profiles;		/* that its evidence makes */
	TimestampTz *born;			/* per identifier: first seen */
	bool	   *guest;			/* ... in the profile of an older one of its set */
	int		   *counts;			/* identifiers per limited kind without window */
	int		   *slot;			/* of a kind in counts, -1: none */
	int			nslots;
	int		   *first_apart;	/* chain of places in apart */
	int		   *last_apart;
	int		   *next_apart;
} Replay;

/* does it count for the limit of its kind, at that time */
bool
cdp_counts(const CdpGraph *g, const GraphIdentifier *x, TimestampTz at)
{
	int64		window = g->kinds[x->kind].window;

	return x->live && !x->generic && (window == 0 || x->last_seen >= at - window);
}

static int
count_in_window(const CdpGraph *g, int set, int kind, TimestampTz at)
{
	int			n = 0;
	int			i = set;

	do
	{
		n += g->identifiers[i].kind == kind && cdp_counts(g, &g->identifiers[i], at);
		i = g->identifiers[i].next;
	} while (i != set);
	return n;
}

/* a sighting of both; what somebody or a match says makes no profile and shares none */
static bool
is_sighting(const GraphLink *l)
{
	return l->relation == 's' && !l->weighted && strcmp(l->rule, "manual") != 0 && strncmp(l->rule, "match:", 6) != 0;
}

/*
 * The end of the link that came into the profile of the other, when both are
 * of one set; -1: neither, or that is known.
 */
static int
guest_of(const Replay *r, const GraphLink *l)
{
	const GraphIdentifier *identifiers = r->g->identifiers;
	int			young = r->born[l->a] > r->born[l->b] ? l->a : l->b;	/* of one age: the weaker */

	if (!is_sighting(l) || l->occurred_at > r->born[young] || r->guest[young] ||
		r->g->kinds[identifiers[young].kind].own_profile || !identifiers[l->a].live || !identifiers[l->b].live)
		return -1;
	return young;
}

static bool
is_stronger_kind(const GraphKind *a, const GraphKind *b)
{
	return a->priority != b->priority ? a->priority < b->priority : strcmp(a->name, b->name) < 0;
}

/* NULL: nothing is against it */
static const char *
forbids(Replay *r, int a, int b, const GraphLink *link, int *kind)
{
	CdpGraph   *g = r->g;
	int			profiles = r->profiles[a] + r->profiles[b] - (guest_of(r, link) >= 0);
	int			few = g->identifiers[a].size < g->identifiers[b].size ? a : b;

	*kind = -1;
	for (int e = r->first_apart[few]; e >= 0; e = r->next_apart[e])
	{
		int			c = cdp_graph_set(g, g->links[e / 2].a);
		int			d = cdp_graph_set(g, g->links[e / 2].b);

		if ((c == a && d == b) || (c == b && d == a))
			return "kept_apart";
	}
	if (link->overrides)
		return NULL;
	/* a side that brings no profile does not make it worse */
	if (profiles > cdp_max_profiles_per_customer && profiles > Max(r->profiles[a], r->profiles[b]))
		return "customer_too_large";
	for (int k = 0; k < g->nkinds; k++)
	{
		int			x,
					y;

		if (g->kinds[k].max == 0)
			continue;
		if (g->kinds[k].window == 0)
		{
			x = r->counts[a * r->nslots + r->slot[k]];
			y = r->counts[b * r->nslots + r->slot[k]];
		}
		else
		{
			x = count_in_window(g, a, k, link->occurred_at);
			y = x == 0 ? 0 : count_in_window(g, b, k, link->occurred_at);
		}
		/* a side that brings none of the kind does not make it worse; kinds stand here in the order they were met */
		if (x > 0 && y > 0 && x + y > g->kinds[k].max && (*kind < 0 || is_stronger_kind(&g->kinds[k], &g->kinds[*kind])))
			*kind = k;
	}
	return *kind >= 0 ? "limit" : NULL;
}

/* make two sets one; answers the one that is gone, the other stands for both */
int
cdp_graph_unite(CdpGraph *g, int a, int b)
{
	int			next;

	if (g->identifiers[a].size < g->identifiers[b].size)
	{
		int			swap = a;

		a = b;
		b = swap;
	}
	g->identifiers[b].parent = a;
	g->identifiers[a].size += g->identifiers[b].size;
	next = g->identifiers[a].next;
	g->identifiers[a].next = g->identifiers[b].next;
	g->identifiers[b].next = next;
	return b;
}

static void
join(Replay *r, int a, int b)
{
	if (cdp_graph_unite(r->g, a, b) == a)
	{
		int			swap = a;

		a = b;
		b = swap;
	}
	r->profiles[a] += r->profiles[b];
	for (int s = 0; s < r->nslots; s++)
		r->counts[a * r->nslots + s] += r->counts[b * r->nslots + s];
	if (r->first_apart[a] < 0)
	{
		r->first_apart[a] = r->first_apart[b];
		r->last_apart[a] = r->last_apart[b];
	}
	else if (r->first_apart[b] >= 0)
	{
		r->next_apart[r->last_apart[a]] = r->first_apart[b];
		r->last_apart[a] = r->last_apart[b];
	}
}

/* link i as an entry in the chains of both its ends */
static void
add_apart(Replay *r, int i)
{
	for (int side = 0; side < 2; side++)
	{
		int			x = side == 0 ? r->g->links[i].a : r->g->links[i].b;
		int			e = i * 2 + side;

		r->next_apart[e] = r->first_apart[x];
		if (r->first_apart[x] < 0)
			r->last_apart[x] = e;
		r->first_apart[x] = e;
	}
}

static void
start(Replay *r, CdpGraph *g)
{
	r->g = g;
	r->slot = palloc(sizeof(int) * Max(g->nkinds, 1));
	r->nslots = 0;
	for (int k = 0; k < g->nkinds; k++)
		r->slot[k] = g->kinds[k].max > 0 && g->kinds[k].window == 0 ? r->nslots++ : -1;
	r->profiles = palloc0(sizeof(int) * (Max(g->nidentifiers, 1)));
	r->born = palloc(sizeof(TimestampTz) * (Max(g->nidentifiers, 1)));
	r->guest = palloc0(sizeof(bool) * (Max(g->nidentifiers, 1)));
	r->counts = MemoryContextAllocExtended(CurrentMemoryContext, sizeof(int) * Max((Size) g->nidentifiers * r->nslots, 1),
										   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	r->first_apart = palloc(sizeof(int) * (Max(g->nidentifiers, 1)));
	r->last_apart = palloc(sizeof(int) * (Max(g->nidentifiers, 1)));
	r->next_apart = palloc(sizeof(int) * (Max(g->nlinks, 1) * 2));
	cdp_graph_part(g);
	for (int i = 0; i < g->nidentifiers; i++)
	{
		GraphIdentifier *x = &g->identifiers[i];

		r->first_apart[i] = -1;
		r->born[i] = x->first_seen;
		r->profiles[i] = x->live && !x->generic;
		if (r->slot[x->kind] >= 0 && cdp_counts(g, x, 0))
			r->counts[i * r->nslots + r->slot[x->kind]] = 1;
	}
	for (int i = 0; i < g->nlinks; i++)
	{
		const GraphLink *l = &g->links[i];

		if (l->relation == 'a')
			add_apart(r, i);
		/* a sighting that was refused did not move first_seen of what may change hands */
		if (is_sighting(l) && !g->identifiers[l->a].generic && !g->identifiers[l->b].generic)
		{
			r->born[l->a] = Min(r->born[l->a], l->occurred_at);
			r->born[l->b] = Min(r->born[l->b], l->occurred_at);
		}
	}
	/* history and what is generic stays with its profile, wherever that goes */
	for (int i = 0; i < g->nidentifiers; i++)
	{
		GraphIdentifier *x = &g->identifiers[i];
		int			home = g->profiles[x->profile].home;

		if (home != i && (!x->live || x->generic))
			join(r, cdp_graph_set(g, home), i);
	}
}

/*
 * The customer of every set: the smallest id that was a customer's and whose
 * profile is in it, else the smallest profile.
 */
static void
name_sets(CdpGraph *g)
{
	int64	   *former = palloc0(sizeof(int64) * (Max(g->nidentifiers, 1)));
	int64	   *smallest = palloc0(sizeof(int64) * (Max(g->nidentifiers, 1)));

	for (int i = 0; i < g->nprofiles; i++)
	{
		GraphProfile *p = &g->profiles[i];

		p->set = p->home < 0 ? -1 : cdp_graph_set(g, p->home);
		if (p->set < 0)
			continue;
		if (g->customers[p->customer].id == p->id && (former[p->set] == 0 || p->id < former[p->set]))
			former[p->set] = p->id;
		if (smallest[p->set] == 0 || p->id < smallest[p->set])
			smallest[p->set] = p->id;
	}
	for (int i = 0; i < g->nprofiles; i++)
	{
		GraphProfile *p = &g->profiles[i];

		p->after = p->set < 0 ? p->id : former[p->set] != 0 ? former[p->set] : smallest[p->set];
	}
}

void
cdp_replay(CdpGraph *g)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp replay", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Replay		r;

	cdp_sort_links(g);
	start(&r, g);
	for (int i = 0; i < g->nlinks; i++)
	{
		GraphLink  *l = &g->links[i];
		int			a,
					b,
					guest;

		if ((i & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
		if (l->relation != 's' || g->identifiers[l->a].generic || g->identifiers[l->b].generic)
			continue;
		a = cdp_graph_set(g, l->a);
		b = cdp_graph_set(g, l->b);
		l->verdict = a == b ? NULL : forbids(&r, a, b, l, &l->verdict_kind);
		if (l->verdict != NULL)
			continue;
		if (a != b)
			join(&r, a, b);
		guest = guest_of(&r, l);
		if (guest >= 0)
		{
			r.guest[guest] = true;
			r.profiles[cdp_graph_set(g, guest)]--;
		}
	}
	name_sets(g);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/*
 * Would one customer of the customers a and b (places) break a rule?  Each
 * that it would is reported; answers how many.
 */
int
cdp_check_join(const CdpGraph *g, int a, int b, CdpViolation report, void *arg)
{
	int			violations = 0;
	int			nprofiles = 0;
	TimestampTz now = cdp_now_value();

	for (int i = 0; i < g->nlinks; i++)
	{
		int			x = g->profiles[g->identifiers[g->links[i].a].profile].customer;
		int			y = g->profiles[g->identifiers[g->links[i].b].profile].customer;

		if (g->links[i].relation == 'a' && ((x == a && y == b) || (x == b && y == a)))
		{
			report(arg, "kept_apart", NULL, 0);
			violations++;
			break;
		}
	}
	for (int i = 0; i < g->nprofiles; i++)
		nprofiles += g->profiles[i].customer == a || g->profiles[i].customer == b;
	if (nprofiles > cdp_max_profiles_per_customer)
	{
		report(arg, "customer_too_large", NULL, nprofiles);
		violations++;
	}
	for (int k = 0; k < g->nkinds; k++)
	{
		int			n[2] = {0, 0};

		if (g->kinds[k].max == 0)
			continue;
		for (int i = 0; i < g->nidentifiers; i++)
		{
			const GraphIdentifier *x = &g->identifiers[i];
			int			customer = g->profiles[x->profile].customer;

			if (x->kind == k && (customer == a || customer == b) && cdp_counts(g, x, now))
				n[customer == b]++;
		}
		if (n[0] > 0 && n[1] > 0 && n[0] + n[1] > g->kinds[k].max)
		{
			report(arg, "limit", &g->kinds[k], n[0] + n[1]);
			violations++;
		}
	}
	return violations;
}
