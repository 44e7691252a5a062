/*
 * tag_gin.c
 *	  GIN over cdp.tagset: which rows answer tags @@ query.
 *
 *		CREATE INDEX ON person USING gin (tags);
 *		SELECT … WHERE tags @@ 'region.华东.* & aov > 1000 & !churned'
 *
 * The index holds the keys of cdp_tagset_keys() as bytea, each with one more
 * byte that tells whether it is true for ever or only until some day.  A term
 * asks for both: found as permanent is true, found as expiring only is maybe.
 *
 *		term			looks for			permanent	expiring	none
 *		vip				n vip				true		maybe		false
 *		region.*		p region			true		maybe		false
 *		city = x		v city x			true		maybe		false
 *		aov > 1000		n aov				maybe		maybe		false
 *
 * Terms under a NOT are never looked for, they are maybe: the posting list of
 * a common tag costs more than the rows that the rest of the query leaves.
 * So the row is read again for comparisons, negations and entries that
 * expire, and for nothing else.  A query that can hold where none of its keys
 * is (!a, a | !b, *) has to look at every row.
 *
 * SQL: sql/tag_gin.sql.  Page: doc/tag_gin.md.  Tests: test/sql/tag_gin.sql,
 * test/pgtap/tag_gin.sql.
 */
#include "tag_query.h"

#include "access/gin.h"
#include "access/stratnum.h"

PG_FUNCTION_INFO_V1(cdp_tagset_gin_extract);
PG_FUNCTION_INFO_V1(cdp_tagset_gin_extract_query);
PG_FUNCTION_INFO_V1(cdp_tagset_gin_consistent);

#define MARK_PERMANENT	'\001'
#define MARK_EXPIRING	'\002'

/* what extract_query found, for consistent */
typedef struct GinPlan
{
	int		   *entry;			/* per node: where its pair of entries begins, -1: it is not looked for */
	bool	   *exact;			/* per node: permanent and there decides it */
} GinPlan;

static Datum
marked_key(const char *key, int len, char mark)
{
	bytea	   *result = palloc(VARHDRSZ + len + 1);

	SET_VARSIZE(result, VARHDRSZ + len + 1);
	memcpy(VARDATA(result), key, len);
	VARDATA(result)[len] = mark;
	return PointerGetDatum(result);
}

/* extractValue(tagset, nkeys) -> keys */
Datum
cdp_tagset_gin_extract(PG_FUNCTION_ARGS)
{
	int32	   *nkeys = (int32 *) PG_GETARG_POINTER(1);
	TagSet		set;
	TagKey	   *keys;
	Datum	   *entries;

	PG_GETARG_TAGSET(0, &set);
	keys = cdp_tagset_keys(&set, nkeys);
	entries = palloc(sizeof(Datum) * Max(*nkeys, 1));
	for (int i = 0; i < *nkeys; i++)
		entries[i] = marked_key(keys[i].bytes, keys[i].len, keys[i].valid_until == DT_NOEND ? MARK_PERMANENT : MARK_EXPIRING);
	PG_RETURN_POINTER(entries);
}

/* the key that a term, or a value of a list, looks for; answers its length and whether finding it decides */
static int
term_key(const TagQuery *query, const TagNode *node, char *key, bool *exact)
{
	const char *strings = TagQueryStrings(query);
	const char *name = strings + node->name;

	*exact = true;
	if (node->kind == TAGQ_BELOW)
		return cdp_tag_key(key, TAG_KEY_BELOW, name, node->name_len, NULL, 0);
	if (node->kind == TAGQ_COMPARE && node->value_type == TAG_TEXT && node->op == TAGQ_EQ)
		return cdp_tag_key(key, TAG_KEY_VALUE, name, node->name_len, strings + node->value.text.offset, node->value.text.len);
	*exact = node->kind == TAGQ_HAS;
	return cdp_tag_key(key, TAG_KEY_NAME, name, node->name_len, NULL, 0);
}

typedef struct Extract
{
	const TagQuery *query;
	GinPlan    *plan;
	Datum	   *entries;
	int			n;
} Extract;

/* two entries for a key; the same key twice is one */
static int
add_key(Extract *x, const char *key, int len)
{
	for (int i = 0; i < x->n; i += 2)
	{
		bytea	   *known = DatumGetByteaP(x->entries[i]);

		if (VARSIZE(known) - VARHDRSZ == len + 1 && memcmp(VARDATA(known), key, len) == 0)
			return i;
	}
	x->entries[x->n] = marked_key(key, len, MARK_PERMANENT);
	x->entries[x->n + 1] = marked_key(key, len, MARK_EXPIRING);
	x->n += 2;
	return x->n - 2;
}

static void
extract_node(Extract *x, uint32 i, bool positive)
{
	const TagNode *node = &x->query->nodes[i];
	char		key[TAG_MAX_KEY];
	int			len;

	x->plan->entry[i] = -1;
	switch (node->kind)
	{
		case TAGQ_NOT:
			extract_node(x, i + 1, !positive);
			return;
		case TAGQ_AND:
		case TAGQ_OR:
			for (uint32 c = i + 1; c < node->end; c = x->query->nodes[c].end)
				extract_node(x, c, positive);
			return;
		case TAGQ_IN:
			/* a value stands for name = value: its key is that, or the name */
			for (uint32 c = i + 1; c < node->end; c++)
			{
				TagNode		value = x->query->nodes[c];

				x->plan->entry[c] = -1;
				if (!positive)
					continue;
				value.kind = TAGQ_COMPARE;
				value.op = TAGQ_EQ;
				value.name = node->name;
				value.name_len = node->name_len;
				len = term_key(x->query, &value, key, &x->plan->exact[c]);
				x->plan->entry[c] = add_key(x, key, len);
			}
			return;
		case TAGQ_HAS:
		case TAGQ_BELOW:
		case TAGQ_COMPARE:
			if (!positive)
				return;
			len = term_key(x->query, node, key, &x->plan->exact[i]);
			x->plan->entry[i] = add_key(x, key, len);
			return;
		default:
			return;
	}
}

static GinTernaryValue
ternary_term(const GinPlan *plan, const GinTernaryValue *check, uint32 i)
{
	int			e = plan->entry[i];

	if (e < 0)
		return GIN_MAYBE;
	if (check[e] == GIN_TRUE && plan->exact[i])
		return GIN_TRUE;
	return check[e] == GIN_FALSE && check[e + 1] == GIN_FALSE ? GIN_FALSE : GIN_MAYBE;
}

static GinTernaryValue
ternary(const TagQuery *query, const GinPlan *plan, const GinTernaryValue *check, uint32 i)
{
	const TagNode *node = &query->nodes[i];
	GinTernaryValue result;

	switch (node->kind)
	{
		case TAGQ_EVERYONE:
			return GIN_TRUE;
		case TAGQ_NOT:
			result = ternary(query, plan, check, i + 1);
			return result == GIN_TRUE ? GIN_FALSE : result == GIN_FALSE ? GIN_TRUE : GIN_MAYBE;
		case TAGQ_AND:
			result = GIN_TRUE;
			for (uint32 c = i + 1; c < node->end && result != GIN_FALSE; c = query->nodes[c].end)
			{
				GinTernaryValue v = ternary(query, plan, check, c);

				if (v != GIN_TRUE)
					result = v;
			}
			return result;
		case TAGQ_OR:
		case TAGQ_IN:
			result = GIN_FALSE;
			for (uint32 c = i + 1; c < node->end && result != GIN_TRUE; c = query->nodes[c].end)
			{
				GinTernaryValue v = node->kind == TAGQ_IN ? ternary_term(plan, check, c) : ternary(query, plan, check, c);

				if (v != GIN_FALSE)
					result = v;
			}
			return result;
		default:
			return ternary_term(plan, check, i);
	}
}

/* extractQuery(tagquery, nkeys, strategy, pmatch, extra_data, nullFlags, searchMode) -> keys */
Datum
cdp_tagset_gin_extract_query(PG_FUNCTION_ARGS)
{
	TagQuery   *query = PG_GETARG_TAGQUERY(0);
	int32	   *nentries = (int32 *) PG_GETARG_POINTER(1);
	Pointer   **extra_data = (Pointer **) PG_GETARG_POINTER(4);
	int32	   *search_mode = (int32 *) PG_GETARG_POINTER(6);
	GinPlan    *plan = palloc(sizeof(GinPlan));
	Extract		x = {query, plan, palloc(sizeof(Datum) * 2 * query->nnodes), 0};
	GinTernaryValue *none;

	plan->entry = palloc(sizeof(int) * query->nnodes);
	plan->exact = palloc0(sizeof(bool) * query->nnodes);
	extract_node(&x, 0, true);
	*nentries = x.n;
	*extra_data = palloc(sizeof(Pointer) * Max(x.n, 1));
	for (int i = 0; i < x.n; i++)
		(*extra_data)[i] = (Pointer) plan;
	/* can it hold where none of the keys is? */
	none = palloc(sizeof(GinTernaryValue) * Max(x.n, 1));
	memset(none, GIN_FALSE, sizeof(GinTernaryValue) * Max(x.n, 1));
	if (ternary(query, plan, none, 0) != GIN_FALSE)
		*search_mode = GIN_SEARCH_MODE_ALL;
	PG_RETURN_POINTER(x.entries);
}

/* triConsistent(check, strategy, tagquery, nkeys, extra_data, queryKeys, nullFlags) */
Datum
cdp_tagset_gin_consistent(PG_FUNCTION_ARGS)
{
	GinTernaryValue *check = (GinTernaryValue *) PG_GETARG_POINTER(0);
	TagQuery   *query = PG_GETARG_TAGQUERY(2);
	int32		nkeys = PG_GETARG_INT32(3);
	Pointer    *extra_data = (Pointer *) PG_GETARG_POINTER(4);

	/* no key at all, but every row is looked at: !a, * */
	if (nkeys == 0)
		PG_RETURN_GIN_TERNARY_VALUE(query->nodes[0].kind == TAGQ_EVERYONE ? GIN_TRUE : GIN_MAYBE);
	PG_RETURN_GIN_TERNARY_VALUE(ternary(query, (GinPlan *) extra_data[0], check, 0));
}
