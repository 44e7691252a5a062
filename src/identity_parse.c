/*
 * identity_parse.c
 *	  {"phone": "…", "email": ["…", "…"]} -> distinct normalised identifiers.
 *
 * Every (kind, value) of the batch becomes one node, however many items name
 * it.  An item that cannot be read is marked and takes no further part.
 *
 * Page: doc/identity.md.  Tests: test/sql/identity.sql.
 */
#include "identity_batch.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

typedef struct NodeKey
{
	const char *kind;
	const char *value;
} NodeKey;

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

/* Mark an item as bad; what is marked writes nothing. */
void
cdp_refuse_sighting(CdpSighting *item, int sqlstate, const char *message, const char *hint)
{
	item->sqlstate = sqlstate;
	item->message = message;
	item->hint = hint;
}

/* Number of a limited kind in the list of the batch, -1 for a kind without limit. */
static int
find_limit(Batch *b, const CdpKind *kind)
{
	for (int i = 0; i < b->nlimits; i++)
	{
		if (strcmp(b->limits[i].kind, kind->kind) == 0)
			return i;
	}
	return -1;
}

static void
add_use(Batch *b, nodetab_hash *table, const CdpSighting *item, const CdpKind *kind, const char *value)
{
	NodeKey		key;
	NodeEntry  *entry;
	bool		found;

	key.kind = kind->kind;
	key.value = value;
	entry = nodetab_insert(table, key, &found);
	if (!found)
	{
		IdNode	   *node;

		GROW(b->nodes, b->nnodes, b->maxnodes);
		node = &b->nodes[b->nnodes];
		memset(node, 0, sizeof(*node));
		/* the cache may be rebuilt while the batch runs */
		node->kind = entry->key.kind = pstrdup(kind->kind);
		node->value = value;
		node->priority = kind->priority;
		node->own_profile = kind->own_profile;
		node->ttl = kind->ttl;
		node->limit_no = find_limit(b, kind);
		entry->node = b->nnodes++;
	}
	else
	{
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

/* One string under a kind: blank is not given, what means nothing is dropped. */
static bool
take_value(Batch *b, nodetab_hash *table, CdpSighting *item, const CdpKind *kind, const JsonbValue *v, int *given)
{
	const char *raw = v->val.string.val;
	int			len = v->val.string.len;
	const char *reason = NULL;
	char	   *value;
	bool		blank = true;

	if (v->type == jbvNull)
		return true;
	if (v->type != jbvString)
	{
		cdp_refuse_sighting(item, ERRCODE_INVALID_PARAMETER_VALUE,
							psprintf("the value of identifier \"%s\" must be a string", kind->kind),
							psprintf("Quote it: {\"%s\": \"…\"}; several values are an array of strings.", kind->kind));
		return false;
	}
	if (++*given > CDP_MAX_IDENTIFIERS)
	{
		cdp_refuse_sighting(item, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							psprintf("more than %d identifiers in one sighting", CDP_MAX_IDENTIFIERS),
							"Send the identifiers of one customer only.");
		return false;
	}
	for (int i = 0; i < len && blank; i++)
		blank = isspace((unsigned char) raw[i]) != 0;
	if (blank)
		return true;
	value = cdp_normalize_value(kind, raw, len);
	if (cdp_is_blocked(kind, raw, len, value))
		reason = "blocked_value";
	else if (value == NULL)
		reason = "invalid_value";
	else if (strlen(value) > CDP_MAX_VALUE_BYTES)
	{
		cdp_refuse_sighting(item, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							psprintf("the value of identifier \"%s\" is longer than %d bytes", kind->kind, CDP_MAX_VALUE_BYTES),
							"An identifier is short; send a hash of long tokens.");
		return false;
	}
	else if (cdp_is_tombstone(kind->kind, value))
		reason = "tombstone";
	if (reason != NULL)
		cdp_note_refusal(b, reason, kind->kind, -1, 0, 0, item);
	else
		add_use(b, table, item, kind, value);
	return true;
}

static bool
parse_identifiers(Batch *b, nodetab_hash *table, CdpSighting *item)
{
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;
	const CdpKind *kind = NULL;
	int			given = 0;
	int			depth = 0;

	if (item->identifiers == NULL)
	{
		cdp_refuse_sighting(item, ERRCODE_NULL_VALUE_NOT_ALLOWED, "identifiers must not be NULL",
			   "For example '{\"phone\": \"+86 138 0000 0000\"}'.");
		return false;
	}
	if (!JB_ROOT_IS_OBJECT(item->identifiers))
	{
		cdp_refuse_sighting(item, ERRCODE_INVALID_PARAMETER_VALUE, "identifiers must be an object of kind and value",
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
					cdp_refuse_sighting(item, ERRCODE_INVALID_PARAMETER_VALUE,
						   cdp_unknown_kind(v.val.string.val, v.val.string.len),
						   psprintf("The kinds are %s; a new one is a row of cdp.identifier_kind.", cdp_list_kinds()));
					return false;
				}
				break;
			case WJB_VALUE:
			case WJB_ELEM:
				if (!take_value(b, table, item, kind, &v, &given))
					return false;
				break;
			case WJB_BEGIN_OBJECT:
			case WJB_BEGIN_ARRAY:
				/* the object itself, and one level of arrays in it */
				if (++depth > (token == WJB_BEGIN_OBJECT ? 1 : 2))
				{
					v.type = jbvBinary;
					return take_value(b, table, item, kind, &v, &given);
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
		cdp_refuse_sighting(item, ERRCODE_CDP_NO_IDENTIFIER, CDP_NO_IDENTIFIER_MESSAGE, CDP_NO_IDENTIFIER_HINT);
		return false;
	}
	return true;
}

/* the name of a trait is part of a key */
static bool
has_long_name(Jsonb *traits)
{
	JsonbIterator *it;
	JsonbValue	v;
	bool		skip = false;

	if (VARSIZE(traits) <= CDP_MAX_TRAIT_NAME_BYTES)
		return false;
	it = JsonbIteratorInit(&traits->root);
	for (JsonbIteratorToken token; (token = JsonbIteratorNext(&it, &v, skip)) != WJB_DONE; skip = true)
	{
		if (token == WJB_KEY && v.val.string.len > CDP_MAX_TRAIT_NAME_BYTES)
			return true;
	}
	return false;
}

/* The strongest identifier first, whatever order the sighting had them in. */
static void
sort_uses(Batch *b, int from, int to)
{
	for (int i = from + 1; i < to; i++)
	{
		int			use = b->uses[i];
		int			k = i;

		for (; k > from && cdp_is_stronger(&b->nodes[use], &b->nodes[b->uses[k - 1]]); k--)
			b->uses[k] = b->uses[k - 1];
		b->uses[k] = use;
	}
}

static void
list_limits(Batch *b)
{
	int			n;
	const CdpKind *kinds = cdp_all_kinds(&n);

	b->limits = palloc(sizeof(LimitedKind) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		if (kinds[i].max_per_customer == 0)
			continue;
		b->limits[b->nlimits].kind = pstrdup(kinds[i].kind);
		b->limits[b->nlimits].max = kinds[i].max_per_customer;
		b->limits[b->nlimits++].window = kinds[i].max_window;
	}
}

void
cdp_parse_sightings(Batch *b)
{
	nodetab_hash *table = nodetab_create(CurrentMemoryContext, Max(b->nitems, 8), NULL);
	TimestampTz latest = cdp_now_value() + (int64) cdp_max_future * USECS_PER_SEC;

	list_limits(b);
	b->first = palloc(sizeof(int) * (b->nitems + 1));
	b->readable = palloc0(sizeof(bool) * b->nitems);
	for (int i = 0; i < b->nitems; i++)
	{
		CdpSighting *item = &b->items[i];
		int			noted = b->nrefusals;

		CHECK_FOR_INTERRUPTS();
		item->profile_id = item->customer_id = 0;
		b->first[i] = b->nuses;
		/* one that could not even be read comes with its error */
		if (item->sqlstate == 0)
		{
			if (TIMESTAMP_NOT_FINITE(item->occurred_at) || item->occurred_at > latest)
				cdp_refuse_sighting(item, ERRCODE_INVALID_PARAMETER_VALUE,
									"occurred_at is infinite or too far in the future",
									"Times may be ahead of cdp.now() by cdp.max_future at most.");
			else if (item->traits != NULL && !JB_ROOT_IS_OBJECT(item->traits))
				cdp_refuse_sighting(item, ERRCODE_INVALID_PARAMETER_VALUE, "traits must be an object",
									"For example '{\"name\": \"…\", \"city\": \"…\"}'.");
			else if (item->traits != NULL && has_long_name(item->traits))
				cdp_refuse_sighting(item, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
									psprintf("the name of a trait is longer than %d bytes", CDP_MAX_TRAIT_NAME_BYTES),
									"Send a shorter one.");
			else
				parse_identifiers(b, table, item);
		}
		if (item->sqlstate != 0)
		{
			b->nuses = b->first[i]; /* nodes that only bad items use are left out of the probe */
			if (b->nrefusals == noted)
				cdp_note_refusal(b, "invalid_value", NULL, -1, 0, 0, item);
		}
		else
		{
			b->readable[i] = true;
			sort_uses(b, b->first[i], b->nuses);
		}
	}
	b->first[b->nitems] = b->nuses;
	b->nparsed = b->nnodes;
	b->nparse_refusals = b->nrefusals;
	nodetab_destroy(table);
	/* it has grown by doubling: give back what is too much */
	if (b->nnodes > 0)
		b->nodes = repalloc_huge(b->nodes, sizeof(IdNode) * (Size) b->nnodes);
	b->maxnodes = b->nnodes;
}
