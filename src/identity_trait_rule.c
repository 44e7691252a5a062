/*
 * identity_trait_rule.c
 *	  The strategies of survivorship.
 *
 * A candidate is the last word of one source on one trait of one profile;
 * JSON null is the word "it has none" (a removal).
 *
 *		newest			the last word; a removal counts as one
 *		source_rank		the last word of the source that stands first in the rule's list, sources that are not
 *						listed together after it; a removal counts as a word
 *		oldest			the first value
 *		most_frequent	the value that most candidates have
 *		longest			the value of most characters
 *		min, max		the smallest, the largest value
 *		union			all values, as a sorted array without repetitions; arrays give their elements
 *
 * Where a removal is no word, its source just has no value.  What is equal
 * is decided by source, then profile_id: candidates come in this order, and
 * no two are equal in both.  So the answer depends on the set of candidates
 * alone, never on the order in which they arrived.
 *
 * Values are compared numbers first, as numbers; all others by their text,
 * byte by byte.  The text of a string is the string itself, of anything else
 * its JSON.
 *
 * SQL: sql/identity_trait.sql.  Page: doc/identity_trait.md.  Tests:
 * test/sql/identity_trait.sql, test/pgtap/identity_trait.sql.
 */
#include "identity_trait.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

int
cdp_trait_compare_names(const TraitName *a, const TraitName *b)
{
	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	return memcmp(a->bytes, b->bytes, a->len);
}

static bool
same_name(const TraitName *a, const TraitName *b)
{
	return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

/* Take the value of a jsonb out, scalar or container. */
static void
read_value(Jsonb *jsonb, JsonbValue *value)
{
	if (!JB_ROOT_IS_SCALAR(jsonb) || !JsonbExtractScalar(&jsonb->root, value))
	{
		value->type = jbvBinary;
		value->val.binary.data = &jsonb->root;
		value->val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}
}

/* The value of a candidate; NULL when it is a removal. */
static JsonbValue *
trait_value(TraitCandidate *c)
{
	if (c->jsonb == NULL)
	{
		c->jsonb = DatumGetJsonbP(c->raw);
		read_value(c->jsonb, &c->value);
	}
	return c->value.type == jbvNull ? NULL : &c->value;
}

/* Text of a value; of a number too. */
static TraitName
text_of(const JsonbValue *value)
{
	TraitName	text;

	switch (value->type)
	{
		case jbvString:
			text.bytes = value->val.string.val;
			text.len = value->val.string.len;
			return text;
		case jbvBool:
			text.bytes = value->val.boolean ? "true" : "false";
			break;
		case jbvNumeric:
			text.bytes = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
			break;
		default:
			Assert(value->type == jbvBinary);
			text.bytes = JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
			break;
	}
	text.len = strlen(text.bytes);
	return text;
}

/* 0 only for values that are the same to everybody */
static int
compare_values(const JsonbValue *a, const TraitName *a_text, const JsonbValue *b, const TraitName *b_text)
{
	int			cmp;

	if (a->type == jbvNumeric && b->type == jbvNumeric)
		return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a->val.numeric),
												 NumericGetDatum(b->val.numeric)));
	if (a->type == jbvNumeric || b->type == jbvNumeric)
		return a->type == jbvNumeric ? -1 : 1;
	cmp = memcmp(a_text->bytes, b_text->bytes, Min(a_text->len, b_text->len));
	if (cmp == 0 && a_text->len != b_text->len)
		cmp = a_text->len < b_text->len ? -1 : 1;
	/* "true" and true */
	if (cmp == 0 && a->type != b->type)
		cmp = a->type < b->type ? -1 : 1;
	return cmp;
}

static int
compare_candidates(const TraitCandidate *a, const TraitCandidate *b)
{
	return compare_values(&a->value, &a->text, &b->value, &b->text);
}

/* by value, then in the order they came, which is that of their addresses */
static int
by_value(const void *a, const void *b)
{
	const TraitCandidate *x = *(TraitCandidate *const *) a,
			   *y = *(TraitCandidate *const *) b;
	int			cmp = compare_candidates(x, y);

	return cmp != 0 ? cmp : (x > y) - (x < y);
}

/*
 * Those that have a value, with its text when texts; a removal gets its
 * reason.
 */
static int
with_values(TraitCandidate *c, int n, bool texts, TraitCandidate **having)
{
	int			found = 0;

	for (int i = 0; i < n; i++)
	{
		JsonbValue *value = trait_value(&c[i]);

		if (value == NULL)
		{
			c[i].reason = "removed: its source has no value";
			continue;
		}
		if (texts)
			c[i].text = text_of(value);
		having[found++] = &c[i];
	}
	return found;
}

/* position of a source in the rule's list; after the last for others */
static int
rank_of(const TraitName *source, const TraitRule *rule)
{
	for (int i = 0; i < rule->nsources; i++)
	{
		if (same_name(source, &rule->sources[i]))
			return i;
	}
	return rule->nsources;
}

/* newest and source_rank, where a removal is a word */
static TraitCandidate *
last_word(TraitCandidate *c, int n, const TraitRule *rule, bool explain)
{
	bool		ranked = rule->strategy == TRAIT_SOURCE_RANK;
	TraitCandidate *best = &c[0];
	int			best_rank = ranked ? rank_of(&c[0].source, rule) : 0;

	for (int i = 1; i < n; i++)
	{
		int			rank = ranked ? rank_of(&c[i].source, rule) : 0;

		if (rank < best_rank || (rank == best_rank && c[i].observed_at > best->observed_at))
		{
			best = &c[i];
			best_rank = rank;
		}
	}
	best->survives = trait_value(best) != NULL;
	for (int i = 0; explain && i < n; i++)
	{
		if (&c[i] == best)
			c[i].reason = ranked ?
				(best->survives ? "the newest of the source of highest rank" : "removed by the source of highest rank: the trait has no value") :
				(best->survives ? "the newest" : "removed, and nothing is newer: the trait has no value");
		else if (ranked && rank_of(&c[i].source, rule) > best_rank)
			c[i].reason = "its source has a lower rank";
		else if (c[i].observed_at < best->observed_at)
			c[i].reason = best->survives ? "older than the survivor" : "older than the removal";
		else
			c[i].reason = "as new, but source or profile come later";
	}
	return best->survives ? best : NULL;
}

/* oldest, longest, min, max: one value that beats the others */
static TraitCandidate *
best_value(TraitCandidate **c, int n, TraitStrategy strategy, bool explain)
{
	TraitCandidate *best = c[0];
	int		   *lengths = NULL;
	int			best_length = 0;

	if (strategy == TRAIT_LONGEST)
	{
		lengths = palloc(sizeof(int) * n);
		for (int i = 0; i < n; i++)
			lengths[i] = pg_mbstrlen_with_len(c[i]->text.bytes, c[i]->text.len);
		best_length = lengths[0];
	}
	for (int i = 1; i < n; i++)
	{
		bool		better;

		switch (strategy)
		{
			case TRAIT_OLDEST:
				better = c[i]->observed_at < best->observed_at;
				break;
			case TRAIT_LONGEST:
				better = lengths[i] > best_length;
				break;
			case TRAIT_MIN:
				better = compare_candidates(c[i], best) < 0;
				break;
			default:
				Assert(strategy == TRAIT_MAX);
				better = compare_candidates(c[i], best) > 0;
				break;
		}
		if (better)
		{
			best = c[i];
			best_length = lengths ? lengths[i] : 0;
		}
	}
	best->survives = true;
	for (int i = 0; explain && i < n; i++)
	{
		bool		is_best = c[i] == best;

		switch (strategy)
		{
			case TRAIT_OLDEST:
				c[i]->reason = is_best ? "the oldest" :
					c[i]->observed_at > best->observed_at ? "newer than the survivor" :
					"as old, but source or profile come later";
				break;
			case TRAIT_LONGEST:
				c[i]->reason = is_best ? psprintf("the longest, %d characters", best_length) :
					lengths[i] < best_length ? psprintf("shorter than the survivor, %d characters", lengths[i]) :
					"as long, but source or profile come later";
				break;
			default:
				c[i]->reason = is_best ? (strategy == TRAIT_MIN ? "the smallest" : "the largest") :
					compare_candidates(c[i], best) == 0 ? "equal, but source or profile come later" :
					strategy == TRAIT_MIN ? "larger than the survivor" : "smaller than the survivor";
				break;
		}
	}
	return best;
}

/* Everybody who says what most say survives. */
static TraitCandidate *
most_frequent(TraitCandidate **c, int n, bool explain)
{
	TraitCandidate *best = NULL;
	int			most = 0;
	int			start,
				end;

	qsort(c, n, sizeof(TraitCandidate *), by_value);
	for (start = 0; start < n; start = end)
	{
		for (end = start + 1; end < n && compare_candidates(c[start], c[end]) == 0; end++)
			;
		/* the first of a run is its first by source and profile */
		if (end - start > most || (end - start == most && c[start] < best))
		{
			best = c[start];
			most = end - start;
		}
	}
	for (start = 0; start < n; start = end)
	{
		bool		winner = compare_candidates(c[start], best) == 0;

		for (end = start + 1; end < n && compare_candidates(c[start], c[end]) == 0; end++)
			;
		for (int i = start; i < end; i++)
		{
			c[i]->survives = winner;
			if (explain)
				c[i]->reason = winner ? psprintf("said %d times of %d, most often", most, n) :
					end - start < most ? psprintf("said %d times of %d, less often than the survivor", end - start, n) :
					psprintf("said %d times of %d like the survivor, but source or profile come later", most, n);
		}
	}
	return best;
}

typedef struct UnionPart
{
	JsonbValue	value;
	TraitName	text;
	int			ord;
} UnionPart;

static int
by_part(const void *a, const void *b)
{
	const UnionPart *x = a,
			   *y = b;
	int			cmp = compare_values(&x->value, &x->text, &y->value, &y->text);

	return cmp != 0 ? cmp : (x->ord > y->ord) - (x->ord < y->ord);
}

static void
make_union(TraitCandidate **c, int n, JsonbValue *result)
{
	int			size = 16,
				nparts = 0;
	UnionPart  *parts = palloc(sizeof(UnionPart) * size);
	JsonbParseState *state = NULL;

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *array = c[i]->value.type == jbvBinary && JsonContainerIsArray(c[i]->value.val.binary.data) ?
			c[i]->value.val.binary.data : NULL;
		int			elements = array ? JsonContainerSize(array) : 1;

		c[i]->survives = true;
		c[i]->reason = "part of the union";
		CHECK_FOR_INTERRUPTS();
		while (nparts + elements > size)
			parts = repalloc_huge(parts, sizeof(UnionPart) * (Size) (size *= 2));
		for (int e = 0; e < elements; e++)
		{
			JsonbValue *value = array ? getIthJsonbValueFromContainer(array, e) : &c[i]->value;

			if (value->type == jbvNull)
				continue;
			parts[nparts].value = *value;
			parts[nparts].text = text_of(value);
			parts[nparts].ord = nparts;
			nparts++;
		}
	}
	qsort(parts, nparts, sizeof(UnionPart), by_part);
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < nparts; i++)
	{
		if (i == 0 || compare_values(&parts[i].value, &parts[i].text, &parts[i - 1].value, &parts[i - 1].text) != 0)
			pushJsonbValue(&state, WJB_ELEM, &parts[i].value);
	}
	*result = *pushJsonbValue(&state, WJB_END_ARRAY, NULL);
}

bool
cdp_trait_judge(TraitCandidate *candidates, int n, const TraitRule *rule, bool explain, JsonbValue *result)
{
	TraitCandidate **having;
	TraitCandidate *best;

	if (rule->strategy == TRAIT_NEWEST || rule->strategy == TRAIT_SOURCE_RANK)
		best = last_word(candidates, n, rule, explain);
	else
	{
		having = palloc(sizeof(TraitCandidate *) * n);
		n = with_values(candidates, n, rule->strategy != TRAIT_OLDEST, having);
		if (n == 0)
			return false;
		if (rule->strategy == TRAIT_UNION)
		{
			make_union(having, n, result);
			return true;
		}
		best = rule->strategy == TRAIT_MOST_FREQUENT ? most_frequent(having, n, explain) :
			best_value(having, n, rule->strategy, explain);
	}
	if (best != NULL)
		*result = best->value;
	return best != NULL;
}
