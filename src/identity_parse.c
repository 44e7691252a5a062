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
#include "identity_kind.h"
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
static void
refuse(CdpSighting *item, int sqlstate, const char *message, const char *hint)
{
	item->sqlstate = sqlstate;
	item->message = message;
	item->hint = hint;
}

static void
add_use(Batch *b, nodetab_hash *table, const CdpSighting *item, const CdpKind *kind, const char *value)
{
	NodeKey		key;
	NodeEntry  *entry;
	IdNode	   *node;
	bool		found;

	key.kind = kind->kind;
	key.value = value;
	entry = nodetab_insert(table, key, &found);
	if (!found)
	{
		GROW(b->nodes, b->nnodes, b->maxnodes);
		node = &b->nodes[b->nnodes];
		memset(node, 0, sizeof(*node));
		/* the cache may be rebuilt while the batch runs */
		node->kind = entry->key.kind = pstrdup(kind->kind);
		node->value = value;
		node->priority = kind->priority;
		node->own_profile = kind->own_profile;
		node->first_at = node->seen_at = item->occurred_at;
		node->source = item->source;
		entry->node = b->nnodes++;
	}
	else
	{
		node = &b->nodes[entry->node];
		node->first_at = Min(node->first_at, item->occurred_at);
		node->seen_at = Max(node->seen_at, item->occurred_at);
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

/* One string under a kind: blank is not given, what the normaliser refuses is dropped. */
static bool
take_value(Batch *b, nodetab_hash *table, CdpSighting *item, const CdpKind *kind, const JsonbValue *v, int *given)
{
	char	   *value;

	if (v->type == jbvNull)
		return true;
	if (v->type != jbvString)
	{
		refuse(item, ERRCODE_INVALID_PARAMETER_VALUE,
			   psprintf("the value of identifier \"%s\" must be a string", kind->kind),
			   psprintf("Quote it: {\"%s\": \"…\"}; several values are an array of strings.", kind->kind));
		return false;
	}
	if (++*given > CDP_MAX_IDENTIFIERS)
	{
		refuse(item, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
			   psprintf("more than %d identifiers in one sighting", CDP_MAX_IDENTIFIERS),
			   "Send the identifiers of one customer only.");
		return false;
	}
	value = cdp_normalize_value(kind, v->val.string.val, v->val.string.len);
	if (value == NULL)
		return true;
	if (strlen(value) > CDP_MAX_VALUE_BYTES)
	{
		refuse(item, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
			   psprintf("the value of identifier \"%s\" is longer than %d bytes", kind->kind, CDP_MAX_VALUE_BYTES),
			   "An identifier is short; send a hash of long tokens.");
		return false;
	}
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
		refuse(item, ERRCODE_NULL_VALUE_NOT_ALLOWED, "identifiers must not be NULL",
			   "For example '{\"phone\": \"+86 138 0000 0000\"}'.");
		return false;
	}
	if (!JB_ROOT_IS_OBJECT(item->identifiers))
	{
		refuse(item, ERRCODE_INVALID_PARAMETER_VALUE, "identifiers must be an object of kind and value",
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
					refuse(item, ERRCODE_INVALID_PARAMETER_VALUE,
						   psprintf("there is no kind of identifier \"%s\"",
									pnstrdup(v.val.string.val, Min(v.val.string.len, NAMEDATALEN))),
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
		refuse(item, ERRCODE_CDP_NO_IDENTIFIER, "no usable identifier was given",
			   "Blank values and values that are no valid phone number, e-mail address and so on do not count.");
		return false;
	}
	return true;
}

void
cdp_parse_sightings(Batch *b)
{
	nodetab_hash *table = nodetab_create(CurrentMemoryContext, Max(b->nitems, 8), NULL);
	TimestampTz latest = cdp_now_value() + (int64) cdp_max_future * USECS_PER_SEC;

	b->first = palloc(sizeof(int) * (b->nitems + 1));
	for (int i = 0; i < b->nitems; i++)
	{
		CdpSighting *item = &b->items[i];

		CHECK_FOR_INTERRUPTS();
		b->first[i] = b->nuses;
		item->sqlstate = 0;
		item->profile_id = item->customer_id = 0;
		if (TIMESTAMP_NOT_FINITE(item->occurred_at) || item->occurred_at > latest)
			refuse(item, ERRCODE_INVALID_PARAMETER_VALUE,
				   "occurred_at is infinite or too far in the future",
				   "Times may be ahead of cdp.now() by cdp.max_future at most.");
		else if (item->traits != NULL && !JB_ROOT_IS_OBJECT(item->traits))
			refuse(item, ERRCODE_INVALID_PARAMETER_VALUE, "traits must be an object",
				   "For example '{\"name\": \"…\", \"city\": \"…\"}'.");
		else
			parse_identifiers(b, table, item);
		if (item->sqlstate != 0)
			b->nuses = b->first[i]; /* nodes that only bad items use are left out of the probe */
	}
	b->first[b->nitems] = b->nuses;
	nodetab_destroy(table);
	/* it has grown by doubling: give back what is too much */
	if (b->nnodes > 0)
		b->nodes = repalloc_huge(b->nodes, sizeof(IdNode) * (Size) b->nnodes);
	b->maxnodes = b->nnodes;
}
