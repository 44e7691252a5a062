/*
 * identity_evidence.c
 *	  The pairs of a batch: what is known of them, what they become, whom
 *	  they speak against.
 *
 * Every two identifiers of one sighting are a row of cdp.identity_link, once:
 * followed, or refused with the reason.  A batch reads the rows by index when
 * it meets the pairs and keeps what it makes of them; identity_write.c writes
 * the difference.
 *
 * Page: doc/identity.md.  Tests: test/sql/identity_limits.sql,
 * test/pgtap/identity_limits.sql.
 */
#include "identity_batch.h"

#include "common/hashfn.h"
#include "probe.h"
#include "utils/builtins.h"

typedef struct PairKey
{
	int			a;
	int			b;
} PairKey;

typedef struct PairEntry
{
	PairKey		key;
	char		status;
	int			pair;
} PairEntry;

#define SH_PREFIX pairtab
#define SH_ELEMENT_TYPE PairEntry
#define SH_KEY_TYPE PairKey
#define SH_KEY key
#define SH_HASH_KEY(tb, k) murmurhash32((uint32) (k).a * 31 + (uint32) (k).b)
#define SH_EQUAL(tb, x, y) ((x).a == (y).a && (x).b == (y).b)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct CdpEvidence
{
	Batch	   *b;
	pairtab_hash *pairs;
	CdpProbe   *links;			/* followed links */
	int			at_column;
	CdpProbe   *refused;		/* refused ones, opened when needed */
};

CdpEvidence *
cdp_evidence_open(Batch *b)
{
	CdpEvidence *e = palloc0(sizeof(CdpEvidence));

	e->b = b;
	e->links = cdp_probe_open("identity_link", "identity_link_live");
	e->at_column = cdp_probe_column(e->links, "occurred_at");
	e->pairs = pairtab_create(CurrentMemoryContext, 16, NULL);
	return e;
}

void
cdp_evidence_close(CdpEvidence *e)
{
	if (e->refused != NULL)
		cdp_probe_close(e->refused);
	cdp_probe_close(e->links);
	pairtab_destroy(e->pairs);
	pfree(e);
}

/*
 * A refused pair speaks against its weaker identifier: what is refused by
 * more than cdp.generic_after customers tells nobody apart.  change: 1 a new
 * refused pair, -1 one that is followed at last, 0 one that is known.
 */
int
cdp_count_refusal(CdpEvidence *e, int x, int y, int change)
{
	IdNode	   *nodes = e->b->nodes;
	int			w = cdp_is_stronger(&nodes[x], &nodes[y]) ? y : x;
	IdNode	   *weaker = &nodes[w];
	int64		profile_id = nodes[w == x ? y : x].profile_id;

	if (weaker->generic)
		return w;
	if (weaker->nrefused < 0)
		cdp_load_refused_by(weaker);
	if (change == 0)
		return w;
	for (int i = 0; i < weaker->nrefused; i++)
	{
		if (weaker->refused_by[i].profile_id != profile_id)
			continue;
		weaker->refused_by[i].npairs += change;
		if (weaker->refused_by[i].npairs == 0)
			weaker->refused_by[i] = weaker->refused_by[--weaker->nrefused];
		return w;
	}
	if (change > 0 && weaker->nrefused <= cdp_generic_after)
	{
		if (weaker->refused_by == NULL)
			weaker->refused_by = palloc(sizeof(Refuser) * (cdp_generic_after + 1));
		weaker->refused_by[weaker->nrefused].profile_id = profile_id;
		weaker->refused_by[weaker->nrefused++].npairs = 1;
	}
	return w;
}

static void
read_link(CdpEvidence *e, Pair *p)
{
	Batch	   *b = e->b;
	int64		x = b->nodes[p->a].identifier_id;
	int64		y = b->nodes[p->b].identifier_id;
	CdpProbe   *probe = e->links;
	TupleTableSlot *slot;
	bool		isnull;

	if (x == 0 || y == 0)
		return;
	slot = cdp_probe_pair(probe, Min(x, y), Max(x, y), "same");
	if (slot == NULL)
	{
		if (e->refused == NULL)
			e->refused = cdp_probe_open("identity_link", "identity_link_refused");
		probe = e->refused;
		slot = cdp_probe_pair(probe, Min(x, y), Max(x, y), NULL);
	}
	if (slot == NULL)
		return;
	p->link_id = DatumGetInt64(slot_getattr(slot, cdp_probe_column(probe, "link_id"), &isnull));
	p->was_at = DatumGetTimestampTz(slot_getattr(slot, cdp_probe_column(probe, "occurred_at"), &isnull));
	if (probe == e->refused)
		p->was_refused = TextDatumGetCString(slot_getattr(slot, cdp_probe_column(probe, "refusal"), &isnull));
}

/* is the pair known, followed, and no younger than this sighting of it? */
bool
cdp_is_known_pair(CdpEvidence *e, int x, int y, TimestampTz at)
{
	Batch	   *b = e->b;
	PairEntry  *entry = NULL;
	PairKey		key = {Min(x, y), Max(x, y)};
	TupleTableSlot *slot;
	int64		a = b->nodes[x].identifier_id;
	int64		c = b->nodes[y].identifier_id;
	bool		isnull;

	if (b->npairs > 0)
		entry = pairtab_lookup(e->pairs, key);
	if (entry != NULL)
		return b->pairs[entry->pair].refusal == NULL && b->pairs[entry->pair].occurred_at <= at;
	if (a == 0 || c == 0)
		return false;
	slot = cdp_probe_pair(e->links, Min(a, c), Max(a, c), "same");
	return slot != NULL &&
		DatumGetTimestampTz(slot_getattr(slot, e->at_column, &isnull)) <= at;
}

/* Two identifiers of one sighting; answers the pair when it was not known as it is now, else NULL. */
Pair *
cdp_note_pair(CdpEvidence *e, int x, int y, const char *refusal, const CdpSighting *item)
{
	Batch	   *b = e->b;
	PairKey		key = {Min(x, y), Max(x, y)};
	PairEntry  *entry;
	Pair	   *p;
	bool		found;
	bool		changed;

	entry = pairtab_insert(e->pairs, key, &found);
	if (!found)
	{
		GROW(b->pairs, b->npairs, b->maxpairs);
		p = &b->pairs[b->npairs];
		entry->pair = b->npairs++;
		memset(p, 0, sizeof(Pair));
		p->a = key.a;
		p->b = key.b;
		p->merge = -1;
		read_link(e, p);
		p->occurred_at = p->link_id != 0 ? p->was_at : item->occurred_at;
		p->refusal = p->was_refused;
		p->source = item->source;
		changed = p->link_id == 0;
		if (changed)
			p->refusal = refusal;
	}
	else
	{
		p = &b->pairs[entry->pair];
		changed = false;
	}
	/* followed evidence that turns out to be older counts earlier in a re-check: worth a lock and a write */
	if (p->link_id != 0 && p->refusal == NULL && refusal == NULL && item->occurred_at < p->occurred_at)
		changed = true;
	p->occurred_at = Min(p->occurred_at, item->occurred_at);
	/* what is followed once is followed; a refusal may end when a rule was loosened */
	if (p->refusal != NULL && refusal == NULL)
	{
		if (strcmp(p->refusal, "kept_apart") != 0)
			(void) cdp_count_refusal(e, x, y, -1);
		p->refusal = NULL;
		changed = true;
	}
	return changed ? p : NULL;
}

/* A pair that was noted in this batch. */
Pair *
cdp_noted_pair(CdpEvidence *e, int x, int y)
{
	PairKey		key = {Min(x, y), Max(x, y)};

	return &e->b->pairs[pairtab_lookup(e->pairs, key)->pair];
}
