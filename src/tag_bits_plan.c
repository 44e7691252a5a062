/*
 * tag_bits_plan.c
 *	  From a query about tags to a plan over the bitmaps of keys.
 *
 *		region.华东.* & (aov > 1000 | vip) & !churned
 *
 *		MEET  UNION  KEY n region.华东   KEY p region.华东
 *			  UNION  COMPARE x aov > 1000   KEY n vip
 *		 not  KEY n churned
 *
 * The tree of a query has at most TAGQUERY_MAX_DEPTH levels, so it is walked
 * by recursion.
 *
 * Page: doc/tag_bits.md.  Tests: test/sql/tag_bits.sql, test/pgtap/tag_bits.sql.
 */
#include "tag_bits_chunk.h"

typedef struct Compiler
{
	const TagQuery *query;
	const CdpAudience **members;
	TagPlanKeys *keys;
} Compiler;

static TagPlan *compile(Compiler *c, const TagNode *node, bool *inverted);

static bool
same_key(const TagPlanKey *key, const char *bytes, int len)
{
	return key->len == len && memcmp(key->bytes, bytes, len) == 0;
}

/*
 * Keys that are asked for twice are read twice when the query is large:
 * looking for them among thousands would cost more.
 */
int
cdp_tag_plan_key(TagPlanKeys *keys, const char *bytes, int len)
{
	TagPlanKey *key;

	for (int i = keys->n - 1; i >= Max(keys->n - 64, 0); i--)
	{
		if (same_key(&keys->keys[i], bytes, len))
			return i;
	}
	if (keys->n == keys->room)
	{
		keys->room = Max(keys->room * 2, 16);
		keys->keys = keys->keys == NULL ? palloc(sizeof(TagPlanKey) * keys->room) :
			repalloc(keys->keys, sizeof(TagPlanKey) * keys->room);
	}
	key = &keys->keys[keys->n];
	memset(key, 0, sizeof(TagPlanKey));
	key->bytes = palloc(len);
	memcpy(key->bytes, bytes, len);
	key->len = len;
	return keys->n++;
}

static TagPlan *
make_plan(TagPlanKind kind, int nchildren)
{
	TagPlan    *plan = palloc0(sizeof(TagPlan));

	plan->kind = kind;
	plan->key = -1;
	if (nchildren > 0)
		plan->children = palloc(sizeof(TagPlan *) * nchildren);
	return plan;
}

static TagPlan *
key_plan(Compiler *c, char kind, const TagNode *term, const TagValue *text)
{
	char		key[TAG_MAX_KEY];
	TagPlan    *plan = make_plan(TAG_PLAN_KEY, 0);
	int			len = cdp_tag_key(key, kind, TagQueryStrings(c->query) + term->name, term->name_len,
								  text ? text->text : NULL, text ? text->text_len : 0);

	plan->key = cdp_tag_plan_key(c->keys, key, len);
	return plan;
}

/* name op value; value_node tells op and value, term the name */
static TagPlan *
compare_plan(Compiler *c, const TagNode *term, const TagNode *value_node)
{
	TagValue	value;
	TagPlan    *plan;

	cdp_tagquery_value(c->query, value_node, &value);
	if (value.type == TAG_TEXT)
	{
		plan = key_plan(c, TAG_KEY_VALUE, term, &value);
		if (value_node->op == TAGQ_NE)
		{
			TagPlan    *both = make_plan(TAG_PLAN_MEET, 2);

			both->nchildren = 2;
			both->npos = 1;
			both->children[0] = key_plan(c, TAG_KEY_TEXT, term, NULL);
			both->children[1] = plan;
			plan = both;
		}
		return plan;
	}
	plan = key_plan(c, value.type == TAG_NUMBER ? TAG_KEY_NUMBER : TAG_KEY_DATE, term, NULL);
	plan->kind = TAG_PLAN_COMPARE;
	plan->op = value_node->op;
	/* days before and behind all others stay so as numbers */
	plan->literal = value.type == TAG_NUMBER ? value.number : (double) value.date;
	return plan;
}

static TagPlan *
in_plan(Compiler *c, const TagNode *term)
{
	const TagNode *nodes = c->query->nodes;
	uint32		first = (uint32) (term - nodes) + 1;
	TagPlan    *plan = make_plan(TAG_PLAN_UNION, term->end - first);

	for (uint32 i = first; i < term->end; i = nodes[i].end)
		plan->children[plan->nchildren++] = compare_plan(c, term, &nodes[i]);
	return plan;
}

static TagPlan *
segment_plan(Compiler *c, const TagNode *term)
{
	TagPlan    *plan = make_plan(TAG_PLAN_SEGMENT, 0);

	plan->members = c->members[term - c->query->nodes];
	return plan;
}

/*
 * AND and OR.  With complements among the children:
 *
 *		a & !b			meet of a without b
 *		!a & !b			the complement of a or b
 *		a | !b			the complement of b without a
 */
static TagPlan *
combine(Compiler *c, const TagNode *node, bool *inverted)
{
	const TagNode *nodes = c->query->nodes;
	uint32		first = (uint32) (node - nodes) + 1;
	bool		is_or = node->kind == TAGQ_OR;
	TagPlan    *plan = make_plan(TAG_PLAN_UNION, 0);
	List	   *plain = NIL;
	List	   *complements = NIL;
	List	   *in;
	List	   *out;
	ListCell   *lc;

	for (uint32 i = first; i < node->end; i = nodes[i].end)
	{
		bool		child_inverted;
		TagPlan    *child = compile(c, &nodes[i], &child_inverted);

		if (child_inverted)
			complements = lappend(complements, child);
		else
			plain = lappend(plain, child);
	}
	in = is_or ? complements : plain;
	out = is_or ? plain : complements;
	*inverted = is_or ? complements != NIL : plain == NIL;
	if (in == NIL)
		in = out;
	else
	{
		plan->kind = TAG_PLAN_MEET;
		plan->npos = list_length(in);
		in = list_concat(in, out);
	}
	plan->children = palloc(sizeof(TagPlan *) * list_length(in));
	foreach(lc, in)
		plan->children[plan->nchildren++] = lfirst(lc);
	return plan;
}

static TagPlan *
compile(Compiler *c, const TagNode *node, bool *inverted)
{
	TagPlan    *plan;

	*inverted = false;
	switch ((TagNodeKind) node->kind)
	{
		case TAGQ_EVERYONE:
			*inverted = true;
			return make_plan(TAG_PLAN_UNION, 0);
		case TAGQ_HAS:
			return key_plan(c, TAG_KEY_NAME, node, NULL);
		case TAGQ_BELOW:
			/* bitmaps of kind p are of what lies strictly below */
			plan = make_plan(TAG_PLAN_UNION, 2);
			plan->children[plan->nchildren++] = key_plan(c, TAG_KEY_NAME, node, NULL);
			plan->children[plan->nchildren++] = key_plan(c, TAG_KEY_BELOW, node, NULL);
			return plan;
		case TAGQ_COMPARE:
			return compare_plan(c, node, node);
		case TAGQ_IN:
			return in_plan(c, node);
		case TAGQ_SEGMENT:
			return segment_plan(c, node);
		case TAGQ_NOT:
			plan = compile(c, node + 1, inverted);
			*inverted = !*inverted;
			return plan;
		case TAGQ_AND:
		case TAGQ_OR:
			return combine(c, node, inverted);
		case TAGQ_VALUE:
			break;
	}
	elog(ERROR, "a query about tags has a node of kind %d", node->kind);
}

TagPlan *
cdp_tag_plan_make(const TagQuestion *question, TagPlanKeys *keys, bool *inverted)
{
	Compiler	c = {question->query, question->members, keys};

	return compile(&c, question->query->nodes, inverted);
}

/* what reading a plan costs: rows, those of values and of unions behind those of plain keys */
static double
plan_cost(const TagPlan *plan, const TagPlanKeys *keys)
{
	double		cost = 0;

	switch (plan->kind)
	{
		case TAG_PLAN_KEY:
			return keys->keys[plan->key].n;
		case TAG_PLAN_COMPARE:
			return 1e12 + keys->keys[plan->key].n;
		case TAG_PLAN_SEGMENT:
			return 1 + plan->members->ncontainers * (double) (1 << (CDP_AUDIENCE_BITS - TAG_CHUNK_BITS));
		case TAG_PLAN_UNION:
		case TAG_PLAN_MEET:
			for (int i = 0; i < plan->nchildren; i++)
				cost += plan_cost(plan->children[i], keys);
			return 1e9 + cost;
	}
	return cost;
}

static void
sort_children(TagPlan **children, int n, const TagPlanKeys *keys)
{
	double	   *costs = palloc(sizeof(double) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		TagPlan    *child = children[i];
		double		cost = plan_cost(child, keys);
		int			k = i;

		/* few, and mostly in order */
		for (; k > 0 && costs[k - 1] > cost; k--)
		{
			costs[k] = costs[k - 1];
			children[k] = children[k - 1];
		}
		costs[k] = cost;
		children[k] = child;
	}
	pfree(costs);
}

void
cdp_tag_plan_order(TagPlan *plan, const TagPlanKeys *keys)
{
	for (int i = 0; i < plan->nchildren; i++)
		cdp_tag_plan_order(plan->children[i], keys);
	if (plan->kind == TAG_PLAN_MEET && plan->nchildren <= 64)
	{
		sort_children(plan->children, plan->npos, keys);
		sort_children(plan->children + plan->npos, plan->nchildren - plan->npos, keys);
	}
}

/* rows that a plan has to go through, whatever else is asked */
static double
driver_rows(const TagPlan *plan, const TagPlanKeys *keys)
{
	double		rows = 0;

	switch (plan->kind)
	{
		case TAG_PLAN_KEY:
		case TAG_PLAN_COMPARE:
			return keys->keys[plan->key].n;
		case TAG_PLAN_SEGMENT:
			return plan->members->ncontainers * (double) (1 << (CDP_AUDIENCE_BITS - TAG_CHUNK_BITS));
		case TAG_PLAN_UNION:
			for (int i = 0; i < plan->nchildren; i++)
				rows += driver_rows(plan->children[i], keys);
			return rows;
		case TAG_PLAN_MEET:
			rows = driver_rows(plan->children[0], keys);
			for (int i = 1; i < plan->npos; i++)
				rows = Min(rows, driver_rows(plan->children[i], keys));
			return rows;
	}
	return rows;
}

void
cdp_tag_plan_drivers(TagPlan *plan, TagPlanKeys *keys, List **segments)
{
	int			best = 0;

	switch (plan->kind)
	{
		case TAG_PLAN_KEY:
		case TAG_PLAN_COMPARE:
			keys->keys[plan->key].drives = true;
			break;
		case TAG_PLAN_SEGMENT:
			*segments = lappend(*segments, unconstify(CdpAudience *, plan->members));
			break;
		case TAG_PLAN_UNION:
			for (int i = 0; i < plan->nchildren; i++)
				cdp_tag_plan_drivers(plan->children[i], keys, segments);
			break;
		case TAG_PLAN_MEET:
			for (int i = 1; i < plan->npos; i++)
			{
				if (driver_rows(plan->children[i], keys) < driver_rows(plan->children[best], keys))
					best = i;
			}
			cdp_tag_plan_drivers(plan->children[best], keys, segments);
			break;
	}
}

int
cdp_tag_plan_depth(const TagPlan *plan)
{
	int			depth = 0;

	for (int i = 0; i < plan->nchildren; i++)
		depth = Max(depth, cdp_tag_plan_depth(plan->children[i]));
	return depth + 1;
}
