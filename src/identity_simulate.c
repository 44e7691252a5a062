/*
 * identity_simulate.c
 *	  What would become of a batch of sightings: who is this, what is new,
 *	  who becomes one, what the rules forbid.
 *
 * Item by item, in memory, with the outcome of doing them one by one.  Of
 * one sighting:
 *
 *	  1	identifiers that tell nobody apart (generic) are left out
 *	  2	one that was unseen for longer than its ttl and turns up beside
 *		somebody else's is recycled: its row closes, another opens
 *	  3	may all that belong to these identifiers be one customer?  If a
 *		limit or a judgement forbids it, the weakest identifier is left out
 *		and the question is asked again; what is new among those left out
 *		gets a profile of its own
 *	  4	new identifiers get profiles, customers become one
 *	  5	every pair of the sighting is evidence, followed or refused
 *
 * Most sightings are settled: everything is known, of one customer, and so
 * are the pairs.  They cost their probes and leave no trace here.
 *
 * Page: doc/identity.md.  Tests: test/sql/identity.sql, identity_limits.sql,
 * test/pgtap/identity.sql.
 */
#include "identity_batch.h"

#include "access/xact.h"
#include "commands/sequence.h"
#include "common/hashfn.h"
#include "identity_limit.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

typedef struct IdEntry
{
	int64		identifier_id;
	char		status;
	int			node;
} IdEntry;

#define SH_PREFIX idtab
#define SH_ELEMENT_TYPE IdEntry
#define SH_KEY_TYPE int64
#define SH_KEY identifier_id
#define SH_HASH_KEY(tb, k) murmurhash32((uint32) ((uint64) (k) ^ ((uint64) (k) >> 32)))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct Sim
{
	Batch	   *b;
	CdpLimits  *limits;
	CdpEvidence *evidence;
	idtab_hash *ids;			/* nodes of limited kinds, NULL: not made */
	bool		disturbed;		/* a node turned generic or was recycled: nothing is settled beforehand */
} Sim;

/* one sighting under work */
typedef struct Party
{
	int			kept[CDP_MAX_IDENTIFIERS];	/* nodes, the strongest first */
	int			nkept;
	int			dropped[CDP_MAX_IDENTIFIERS];	/* by a rule about customers */
	const char *reason[CDP_MAX_IDENTIFIERS];	/* why */
	int			ndropped;
} Party;

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

const char *
cdp_pair_rule(const IdNode *a, const IdNode *b)
{
	return cdp_is_stronger(a, b) ? psprintf("%s+%s", a->kind, b->kind) : psprintf("%s+%s", b->kind, a->kind);
}

/* a simulation that is done again gives the same ids, so that none is wasted */
static int64
new_profile_id(Batch *b)
{
	if (b->nids_given == b->nids)
	{
		GROW(b->ids, b->nids, b->maxids);
		b->ids[b->nids++] = nextval_internal(cdp_relation("profile_profile_id_seq"), false);
	}
	return b->ids[b->nids_given++];
}

/* the node that stands for this value now */
static int
current(Batch *b, int node)
{
	while (b->nodes[node].successor >= 0)
		node = b->nodes[node].successor;
	return node;
}

static int64
root_of(Sim *s, const IdNode *node)
{
	return cdp_limits_root(s->limits, node->alias_id);
}

static bool
is_stale(const IdNode *node, TimestampTz at)
{
	return node->ttl > 0 && at > node->last_now && at - node->last_now > node->ttl;
}

static void
see(IdNode *node, TimestampTz at)
{
	int64		resolution = (int64) cdp_last_seen_resolution * USECS_PER_SEC;

	if (at > node->last_now + resolution)
		node->last_now = at;
	if (at < node->first_now)
		node->first_now = at;
}

/* --- who is concerned --- */

static int
node_of(void *arg, int64 identifier_id)
{
	Sim		   *s = arg;
	IdEntry    *entry;

	if (s->ids == NULL)
	{
		s->ids = idtab_create(CurrentMemoryContext, 64, NULL);
		for (int i = 0; i < s->b->nnodes; i++)
		{
			bool		found;

			if (s->b->nodes[i].limit_no >= 0 && s->b->nodes[i].identifier_id != 0)
				idtab_insert(s->ids, s->b->nodes[i].identifier_id, &found)->node = i;
		}
	}
	entry = idtab_lookup(s->ids, identifier_id);
	return entry ? entry->node : -1;
}

/* Everything known, one customer, known pairs: as the batch stands now. */
static bool
is_settled(Sim *s, int i)
{
	Batch	   *b = s->b;
	const int  *uses = b->uses + b->first[i];
	int			n = b->first[i + 1] - b->first[i];
	TimestampTz at = b->items[i].occurred_at;
	int64		root = 0;

	for (int u = 0; u < n; u++)
	{
		IdNode	   *node = &b->nodes[current(b, uses[u])];
		int64		r;

		if (node->profile_id == 0 || node->generic)
			return false;
		r = root_of(s, node);
		if (u > 0 && r != root)
			return false;
		root = r;
	}
	for (int u = 0; u < n; u++)
	{
		for (int w = u + 1; w < n; w++)
		{
			if (!cdp_is_known_pair(s->evidence, current(b, uses[u]), current(b, uses[w]), at))
				return false;
		}
	}
	return true;
}

/* Load the customers that the unsettled sightings may change. */
static void
load_concerned(Sim *s, const bool *settled)
{
	Batch	   *b = s->b;
	int64	   *ids = NULL;
	int			n = 0,
				max = 0;

	for (int i = 0; i < b->nitems; i++)
	{
		int64		first = 0;
		int			from = n;
		bool		many = b->nlimits > 0;

		if (!b->readable[i] || settled[i])
			continue;
		for (int u = b->first[i]; u < b->first[i + 1]; u++)
		{
			IdNode	   *node = &b->nodes[b->uses[u]];

			/* a new profile joins whoever is there */
			many = many || (node->profile_id == 0 && node->own_profile) || (first != 0 && node->alias_id != first);
			if (node->alias_id == 0)
				continue;
			first = node->alias_id;
			GROW(ids, n, max);
			ids[n++] = node->alias_id;
		}
		if (!many)
			n = from;
	}
	if (n > 0)
		cdp_limits_load(s->limits, ids, n, node_of, s);
	if (ids != NULL)
		pfree(ids);
}

static void
lock_customer(Batch *b, int64 customer)
{
	GROW(b->locks, b->nlocks, b->maxlocks);
	b->locks[b->nlocks++] = customer;
}

/* The row of a recycled identifier closes; another node stands for the value. */
static int
recycle(Sim *s, int old, TimestampTz at)
{
	Batch	   *b = s->b;
	IdNode	   *node;
	int			fresh;

	GROW(b->nodes, b->nnodes, b->maxnodes);
	fresh = b->nnodes++;
	node = &b->nodes[old];
	cdp_limits_remove(s->limits, node->alias_id, node->identifier_id, old);
	if (!node->is_new)
		lock_customer(b, node->alias_id);
	node->closed_at = at;
	node->successor = fresh;
	b->nodes[fresh] = *node;
	node = &b->nodes[fresh];
	node->identifier_id = node->profile_id = node->alias_id = 0;
	node->is_new = node->founds_profile = node->generic = node->turned_generic = false;
	node->closed_at = 0;
	node->successor = -1;
	node->refused_by = NULL;
	node->nrefused = 0;
	s->disturbed = true;
	return fresh;
}

/*
 * Is a stale identifier confirmed by another of the same customer?  Beside
 * others that say nothing of the customer it has changed hands.
 */
static bool
is_confirmed(Sim *s, const Party *p, int k, TimestampTz at)
{
	Batch	   *b = s->b;
	int64		root = root_of(s, &b->nodes[p->kept[k]]);
	bool		other_known = false;
	bool		stale_friend = false;

	for (int i = 0; i < p->nkept; i++)
	{
		IdNode	   *node = &b->nodes[p->kept[i]];

		if (i == k || node->profile_id == 0)
			continue;
		if (!is_stale(node, at))
		{
			other_known = true;
			if (root_of(s, node) == root)
				return true;
		}
		else if (root_of(s, node) == root)
			stale_friend = true;
	}
	return stale_friend && !other_known;
}

/* --- the steps --- */

static void
leave_out_generic(Sim *s, int i, Party *p)
{
	Batch	   *b = s->b;

	p->nkept = p->ndropped = 0;
	for (int u = b->first[i]; u < b->first[i + 1]; u++)
	{
		int			n = current(b, b->uses[u]);

		if (b->nodes[n].generic)
			cdp_note_refusal(b, "generic_value", b->nodes[n].kind, n, root_of(s, &b->nodes[n]), 0, &b->items[i]);
		else
			p->kept[p->nkept++] = n;
	}
}

static void
recycle_stale(Sim *s, Party *p, TimestampTz at)
{
	Batch	   *b = s->b;
	bool		stale[CDP_MAX_IDENTIFIERS];
	bool		any = false;

	if (p->nkept < 2)
		return;
	for (int k = 0; k < p->nkept; k++)
	{
		IdNode	   *node = &b->nodes[p->kept[k]];

		stale[k] = node->profile_id != 0 && is_stale(node, at) && !is_confirmed(s, p, k, at);
		any = any || stale[k];
	}
	for (int k = 0; any && k < p->nkept; k++)
	{
		if (stale[k])
			p->kept[k] = recycle(s, p->kept[k], at);
	}
}

/*
 * Take the weakest out.  Who belongs to the customer of the strongest is not
 * asked to leave: that would change nothing.
 */
static int
leave_out_weakest(Sim *s, Party *p)
{
	IdNode	   *nodes = s->b->nodes;
	IdNode	   *strongest = &nodes[p->kept[0]];
	int64		home = strongest->profile_id != 0 ? root_of(s, strongest) : 0;
	int			k = p->nkept - 1;
	int			weakest;

	while (k > 1 && home != 0 && nodes[p->kept[k]].profile_id != 0 && root_of(s, &nodes[p->kept[k]]) == home)
		k--;
	weakest = p->kept[k];
	memmove(&p->kept[k], &p->kept[k + 1], sizeof(int) * (p->nkept - k - 1));
	p->nkept--;
	return weakest;
}

/* Leave out the weakest until the rules allow the rest. */
static void
apply_rules(Sim *s, Party *p, const CdpSighting *item)
{
	Batch	   *b = s->b;
	int64		roots[CDP_MAX_IDENTIFIERS];

	for (;;)
	{
		int			fresh[CDP_MAX_IDENTIFIERS];
		int			nfresh = 0;
		int			nroots = 0;
		int			new_profiles = 0;
		int			weakest;
		int			broken = -1;
		const char *why;

		for (int k = 0; k < p->nkept; k++)
		{
			IdNode	   *node = &b->nodes[p->kept[k]];
			int64		root;
			int			r = 0;

			if (node->profile_id == 0)
			{
				if (node->own_profile)
					new_profiles++;
				if (node->limit_no >= 0)
					fresh[nfresh++] = node->limit_no;
				continue;
			}
			root = root_of(s, node);
			while (r < nroots && roots[r] != root)
				r++;
			if (r == nroots)
				roots[nroots++] = root;
		}
		/* nobody joins, nothing comes that is counted */
		if (p->nkept == 1 || (nroots <= 1 && nfresh == 0 && new_profiles == 0))
			return;
		cdp_limits_load(s->limits, roots, nroots, node_of, s);
		why = cdp_limits_check(s->limits, roots, nroots, new_profiles, fresh, nfresh, item->occurred_at, b->nodes, &broken);
		if (why == NULL)
			return;
		weakest = leave_out_weakest(s, p);
		p->dropped[p->ndropped] = weakest;
		p->reason[p->ndropped++] = why;
		cdp_note_refusal(b, why, broken >= 0 ? b->limits[broken].kind : b->nodes[weakest].kind, weakest,
						 b->nodes[weakest].profile_id != 0 ? root_of(s, &b->nodes[weakest]) : 0, 0, item);
	}
}

static void
give_profile(Sim *s, int n, int64 profile_id, int64 customer_id, const CdpSighting *item)
{
	IdNode	   *node = &s->b->nodes[n];

	node->founds_profile = profile_id == 0;
	if (profile_id == 0)
	{
		profile_id = customer_id = new_profile_id(s->b);
		cdp_limits_found(s->limits, profile_id);
	}
	node->profile_id = profile_id;
	node->alias_id = customer_id;
	node->is_new = true;
	node->born_at = node->first_now = node->last_now = item->occurred_at;
	node->source = item->source;
	node->nrefused = 0;
	cdp_limits_add(s->limits, customer_id, node->limit_no, 0, n, item->occurred_at);
	s->b->nnew++;
}

/* Every identifier gets a profile; *changed when one is new. */
static void
give_profiles(Sim *s, Party *p, const CdpSighting *item, bool *changed)
{
	Batch	   *b = s->b;
	int			holder = -1;	/* strongest that has a profile */

	for (int k = 0; k < p->nkept; k++)
	{
		IdNode	   *node = &b->nodes[p->kept[k]];

		if (node->profile_id == 0 && node->own_profile)
		{
			give_profile(s, p->kept[k], 0, 0, item);
			*changed = true;
		}
		if (node->profile_id != 0 && holder < 0)
			holder = p->kept[k];
	}
	if (holder < 0)
	{
		holder = p->kept[0];
		give_profile(s, holder, 0, 0, item);
		*changed = true;
	}
	for (int k = 0; k < p->nkept; k++)
	{
		if (b->nodes[p->kept[k]].profile_id != 0)
			continue;
		give_profile(s, p->kept[k], b->nodes[holder].profile_id, root_of(s, &b->nodes[holder]), item);
		*changed = true;
	}
	/* left out and new: somebody of his own, until the rules change */
	for (int k = 0; k < p->ndropped; k++)
	{
		if (b->nodes[p->dropped[k]].profile_id == 0)
			give_profile(s, p->dropped[k], 0, 0, item);
	}
}

/* Two customers become one: the older id survives. */
static void
join(Sim *s, Pair *pair, int64 x, int64 y)
{
	Batch	   *b = s->b;
	Merge	   *m;

	GROW(b->merges, b->nmerges, b->maxmerges);
	pair->merge = b->nmerges;
	m = &b->merges[b->nmerges++];
	m->winner = Min(x, y);
	m->loser = Max(x, y);
	m->rule = cdp_pair_rule(&b->nodes[pair->a], &b->nodes[pair->b]);
	m->merge_id = 0;
	cdp_limits_join(s->limits, m->winner, m->loser);
}

/* The pairs of what was left out: refused evidence, unless they are one customer all the same. */
static void
note_refused_pairs(Sim *s, const Party *p, const CdpSighting *item)
{
	Batch	   *b = s->b;
	int			suspects[CDP_MAX_IDENTIFIERS * CDP_MAX_IDENTIFIERS];
	int			nsuspects = 0;

	for (int d = 0; d < p->ndropped; d++)
	{
		/* against those who stayed and those who went after it */
		for (int w = 0; w < p->nkept + p->ndropped; w++)
		{
			int			other = w < p->nkept ? p->kept[w] : p->dropped[w - p->nkept];
			bool		one;
			Pair	   *pair;

			if (w >= p->nkept && w - p->nkept <= d)
				continue;
			one = root_of(s, &b->nodes[p->dropped[d]]) == root_of(s, &b->nodes[other]);
			pair = cdp_note_pair(s->evidence, p->dropped[d], other, one ? NULL : p->reason[d], item);
			if (one)
			{
				if (pair != NULL && !b->nodes[other].is_new)
					lock_customer(b, b->nodes[other].alias_id);
			}
			else if (strcmp(p->reason[d], "kept_apart") != 0)
				suspects[nsuspects++] = cdp_count_refusal(s->evidence, p->dropped[d], other, pair != NULL ? 1 : 0);
		}
	}
	for (int i = 0; i < nsuspects; i++)
	{
		IdNode	   *node = &b->nodes[suspects[i]];

		if (!node->generic && node->nrefused > cdp_generic_after)
		{
			node->generic = node->turned_generic = true;
			s->disturbed = true;
		}
	}
}

static void
simulate_item(Sim *s, int i)
{
	Batch	   *b = s->b;
	CdpSighting *item = &b->items[i];
	Party		p;
	int			noted;
	bool		changed = false;
	IdNode	   *strongest;

	leave_out_generic(s, i, &p);
	if (p.nkept == 0)
	{
		cdp_refuse_sighting(item, ERRCODE_CDP_NO_IDENTIFIER, CDP_NO_IDENTIFIER_MESSAGE, CDP_NO_IDENTIFIER_HINT);
		return;
	}
	recycle_stale(s, &p, item->occurred_at);
	noted = b->nrefusals;
	apply_rules(s, &p, item);
	give_profiles(s, &p, item, &changed);

	/* evidence: first what is followed, for it decides who is one */
	for (int k = 0; k < p.nkept; k++)
	{
		for (int w = k + 1; w < p.nkept; w++)
		{
			int64		x = root_of(s, &b->nodes[p.kept[k]]);
			int64		y = root_of(s, &b->nodes[p.kept[w]]);
			Pair	   *pair = cdp_note_pair(s->evidence, p.kept[k], p.kept[w], NULL, item);

			changed = changed || pair != NULL || x != y;
			if (x == y)
				continue;
			if (pair == NULL)
			{
				/* known evidence that holds nobody together: as if it came now */
				pair = cdp_noted_pair(s->evidence, p.kept[k], p.kept[w]);
			}
			join(s, pair, x, y);
		}
	}
	note_refused_pairs(s, &p, item);

	strongest = &b->nodes[p.kept[0]];
	item->profile_id = strongest->profile_id;
	item->customer_id = root_of(s, strongest);
	for (int r = noted; r < b->nrefusals; r++)
		b->refusals[r].other_id = item->customer_id;
	for (int k = 0; k < p.nkept; k++)
	{
		IdNode	   *node = &b->nodes[p.kept[k]];

		see(node, item->occurred_at);
		/* roots are as they were before; a customer born in this batch is nobody else's */
		if (changed && !node->is_new)
			lock_customer(b, node->alias_id);
	}
	/* what was refused was seen all the same */
	for (int d = 0; d < p.ndropped; d++)
	{
		/* one that may change hands: that another has it does not prolong its owner's claim */
		if (b->nodes[p.dropped[d]].ttl == 0)
			see(&b->nodes[p.dropped[d]], item->occurred_at);
	}
}

static void
settle_item(Sim *s, int i)
{
	Batch	   *b = s->b;
	CdpSighting *item = &b->items[i];
	IdNode	   *strongest = &b->nodes[current(b, b->uses[b->first[i]])];

	item->profile_id = strongest->profile_id;
	item->customer_id = root_of(s, strongest);
	for (int u = b->first[i]; u < b->first[i + 1]; u++)
		see(&b->nodes[current(b, b->uses[u])], item->occurred_at);
}

/* items in the order of the index on links: the first look at them depends on no order */
typedef struct ItemOrder
{
	int64		identifier_id;
	int			item;
} ItemOrder;

static int
compare_items(const void *x, const void *y)
{
	int64		a = ((const ItemOrder *) x)->identifier_id;
	int64		b = ((const ItemOrder *) y)->identifier_id;

	return a < b ? -1 : a > b;
}

static ItemOrder *
order_items(Batch *b)
{
	ItemOrder  *order = palloc(sizeof(ItemOrder) * b->nitems);

	for (int i = 0; i < b->nitems; i++)
	{
		order[i].item = i;
		order[i].identifier_id = b->readable[i] ? b->nodes[b->uses[b->first[i]]].identifier_id : 0;
	}
	if (b->nitems > 1)
		qsort(order, b->nitems, sizeof(ItemOrder), compare_items);
	return order;
}

void
cdp_simulate(Batch *b)
{
	Sim			s;
	bool	   *settled = palloc0(sizeof(bool) * b->nitems);
	ItemOrder  *order;
	bool		all = true;

	memset(&s, 0, sizeof(s));
	s.b = b;
	b->nnodes = b->nparsed;
	b->nrefusals = b->nparse_refusals;
	b->npairs = b->nmerges = b->nlocks = b->nnew = b->nids_given = 0;
	s.limits = cdp_limits_open(b->limits, b->nlimits);
	s.evidence = cdp_evidence_open(b);
	order = order_items(b);
	for (int k = 0; k < b->nitems; k++)
	{
		int			i = order[k].item;

		if (!b->readable[i])
			continue;
		CHECK_FOR_INTERRUPTS();
		/* an earlier simulation may have found nothing left of it */
		b->items[i].sqlstate = 0;
		settled[i] = is_settled(&s, i);
		all = all && settled[i];
	}
	if (!all)
		load_concerned(&s, settled);
	for (int i = 0; i < b->nitems; i++)
	{
		if (!b->readable[i])
			continue;
		CHECK_FOR_INTERRUPTS();
		if (s.disturbed ? is_settled(&s, i) : settled[i] || (b->npairs > 0 && is_settled(&s, i)))
			settle_item(&s, i);
		else
			simulate_item(&s, i);
	}
	cdp_evidence_close(s.evidence);
	if (s.ids != NULL)
		idtab_destroy(s.ids);
	cdp_limits_close(s.limits);
	pfree(order);
	pfree(settled);
}
