/*
 * tag_estimate.c
 *	  How many rows tags @@ query returns: what ANALYZE keeps of a tagset
 *	  column, and the planner's question.
 *
 * Three slots of pg_statistic:
 *
 *		most common elements	keys of cdp_tagset_keys() with their
 *								frequencies, of a sample; the p key of a name
 *								is left out where nothing is below it
 *		KIND_NUMBERS			tags with numbers ('x' name) or dates ('d'
 *								name); of each how often, how many different
 *		KIND_BOUNDS				for each of those, in the same order, BOUNDS
 *								values that cut its values into equal parts
 *
 * The estimate walks the query: keys and fractions for terms, then products
 * as if terms were independent.  Expiry is not looked at.  For the tags of
 * customers, cdp.profile_tag, the counts of the last merge are taken instead
 * of the sample's, so that rare tags are exact, too.
 *
 * SQL: sql/tag_estimate.sql.  Page: doc/tag_gin.md.  Tests:
 * test/sql/tag_estimate.sql.
 */
#include "tag_bits.h"
#include "tag_customer.h"
#include "tag_query.h"

#include "access/htup_details.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "commands/vacuum.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/selfuncs.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(cdp_tagset_typanalyze);
PG_FUNCTION_INFO_V1(cdp_tagset_sel);
PG_FUNCTION_INFO_V1(cdp_tagset_joinsel);

/* of the range that PostgreSQL leaves to extensions */
#define KIND_NUMBERS	20410
#define KIND_BOUNDS		20411

#define BOUNDS			101		/* values per tag, the least and the greatest included */
#define MAX_NUMBERS		100		/* tags with numbers or dates that have bounds */
#define KEYS_PER_TARGET	25		/* keys kept for each point of the statistics target */

/* rows of a term that nothing is known of, and of a query that is no constant */
#define DEFAULT_TAG_SEL		0.005

/* ----------------------------------------------------------------- ANALYZE */

typedef struct KeyRef
{
	const char *bytes;
	int			len;
} KeyRef;

typedef struct KeyCount
{
	KeyRef		key;			/* first: the hash key */
	int			count;
} KeyCount;

/* values of one tag, of one type */
typedef struct Numbers
{
	KeyRef		key;			/* 'x' or 'd' and the name */
	float8	   *values;
	int			n;
	int			room;
} Numbers;

static uint32
hash_key(const void *key, Size size)
{
	const KeyRef *k = key;

	return hash_bytes((const unsigned char *) k->bytes, k->len);
}

static int
compare_keys(const void *x, const void *y)
{
	const KeyRef *a = x;
	const KeyRef *b = y;
	int			cmp = memcmp(a->bytes, b->bytes, Min(a->len, b->len));

	return cmp != 0 ? cmp : a->len - b->len;
}

static int
match_key(const void *x, const void *y, Size size)
{
	return compare_keys(x, y);
}

static int
compare_counts(const void *x, const void *y)
{
	const KeyCount *a = *(const KeyCount *const *) x;
	const KeyCount *b = *(const KeyCount *const *) y;

	if (a->count != b->count)
		return a->count > b->count ? -1 : 1;
	return compare_keys(&a->key, &b->key);
}

static int
compare_by_key(const void *x, const void *y)
{
	return compare_keys(&(*(const KeyCount *const *) x)->key, &(*(const KeyCount *const *) y)->key);
}

static int
compare_numbers(const void *x, const void *y)
{
	const Numbers *a = *(const Numbers *const *) x;
	const Numbers *b = *(const Numbers *const *) y;

	if (a->n != b->n)
		return a->n > b->n ? -1 : 1;
	return compare_keys(&a->key, &b->key);
}

static int
compare_float8(const void *x, const void *y)
{
	return float8_cmp_internal(*(const float8 *) x, *(const float8 *) y);
}

static HTAB *
key_table(const char *name, Size entrysize)
{
	HASHCTL		ctl;

	ctl.keysize = sizeof(KeyRef);
	ctl.entrysize = entrysize;
	ctl.hash = hash_key;
	ctl.match = match_key;
	ctl.hcxt = CurrentMemoryContext;
	return hash_create(name, 1024, &ctl, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

/* the entry of a key, made with bytes that last */
static void *
enter_key(HTAB *table, const char *bytes, int len, bool *found)
{
	KeyRef		key = {bytes, len};
	KeyRef	   *entry = hash_search(table, &key, HASH_ENTER, found);

	if (!*found)
	{
		char	   *copy = palloc(len);

		memcpy(copy, bytes, len);
		entry->bytes = copy;
	}
	return entry;
}

static Datum
key_datum(const KeyRef *key)
{
	bytea	   *result = palloc(VARHDRSZ + key->len);

	SET_VARSIZE(result, VARHDRSZ + key->len);
	memcpy(VARDATA(result), key->bytes, key->len);
	return PointerGetDatum(result);
}

/* one row of the sample */
static void
count_row(HTAB *keys, HTAB *numbers, const struct varlena *value, MemoryContext row_context)
{
	MemoryContext caller = MemoryContextSwitchTo(row_context);
	TagSet		set;
	TagEntry	entry;
	TagKey	   *list;
	int			n;
	bool		found;

	cdp_tagset_open(&set, value);
	list = cdp_tagset_keys(&set, &n);
	MemoryContextSwitchTo(caller);
	for (int i = 0; i < n; i++)
	{
		KeyCount   *k = enter_key(keys, list[i].bytes, list[i].len, &found);

		k->count = found ? k->count + 1 : 1;
	}
	for (TagCursor c = {0}; cdp_tagset_next(&set, &c, &entry);)
	{
		char		name[TAG_MAX_KEY];
		Numbers    *v;

		if (entry.value.type != TAG_NUMBER && entry.value.type != TAG_DATE)
			continue;
		v = enter_key(numbers, name, cdp_tag_key(name, entry.value.type == TAG_NUMBER ? 'x' : 'd', entry.name, entry.name_len, NULL, 0), &found);
		if (!found)
		{
			v->n = 0;
			v->room = 16;
			v->values = palloc(sizeof(float8) * v->room);
		}
		else if (v->n == v->room)
		{
			v->room *= 2;
			v->values = repalloc_huge(v->values, sizeof(float8) * v->room);
		}
		v->values[v->n++] = entry.value.type == TAG_NUMBER ? entry.value.number : entry.value.date;
	}
	MemoryContextReset(row_context);
}

/*
 * Texts may all be different (card numbers): what was met once is forgotten
 * from time to time.  What is met often enough to matter comes back.
 */
static void
forget_rare(HTAB *keys)
{
	HASH_SEQ_STATUS scan;
	KeyCount   *k;

	hash_seq_init(&scan, keys);
	while ((k = hash_seq_search(&scan)) != NULL)
	{
		char	   *bytes = unconstify(char *, k->key.bytes);

		if (k->count > 1)
			continue;
		(void) hash_search(keys, &k->key, HASH_REMOVE, NULL);
		pfree(bytes);
	}
}

/* is this the p key of a name that has nothing below it?  Then the name's own key says the same. */
static bool
is_redundant(HTAB *keys, const KeyCount *k)
{
	char		name[TAG_MAX_KEY];
	KeyRef		key = {name, k->key.len};
	KeyCount   *own;

	if (k->key.bytes[0] != TAG_KEY_BELOW)
		return false;
	memcpy(name, k->key.bytes, k->key.len);
	name[0] = TAG_KEY_NAME;
	own = hash_search(keys, &key, HASH_FIND, NULL);
	return own != NULL && own->count == k->count;
}

/* slot of the most common keys: in the order of the bytes, as who looks them up wants them */
static void
store_keys(VacAttrStats *stats, int slot, HTAB *keys, int target, int rows)
{
	KeyCount  **list = palloc_extended(sizeof(KeyCount *) * Max(hash_get_num_entries(keys), 1), MCXT_ALLOC_HUGE);
	HASH_SEQ_STATUS scan;
	KeyCount   *k;
	int			n = 0;
	int			kept;
	MemoryContext caller;
	Datum	   *values;
	float4	   *freqs;
	float4		least;

	hash_seq_init(&scan, keys);
	while ((k = hash_seq_search(&scan)) != NULL)
	{
		if (!is_redundant(keys, k))
			list[n++] = k;
	}
	qsort(list, n, sizeof(KeyCount *), compare_counts);
	kept = Min(n, target * KEYS_PER_TARGET);
	if (kept == 0)
		return;
	/* how often what is not in the list may be there: less than its last one, or once */
	least = (float4) (kept < n ? list[kept - 1]->count : 1) / rows;
	qsort(list, kept, sizeof(KeyCount *), compare_by_key);
	caller = MemoryContextSwitchTo(stats->anl_context);
	values = palloc(sizeof(Datum) * kept);
	freqs = palloc(sizeof(float4) * (kept + 2));
	for (int i = 0; i < kept; i++)
	{
		values[i] = key_datum(&list[i]->key);
		freqs[i] = (float4) list[i]->count / rows;
	}
	/* as in every slot of this kind: the least and the greatest frequency */
	freqs[kept] = least;
	freqs[kept + 1] = 1;
	MemoryContextSwitchTo(caller);
	stats->stakind[slot] = STATISTIC_KIND_MCELEM;
	stats->staop[slot] = InvalidOid;
	stats->stacoll[slot] = InvalidOid;
	stats->stanumbers[slot] = freqs;
	stats->numnumbers[slot] = kept + 2;
	stats->stavalues[slot] = values;
	stats->numvalues[slot] = kept;
	stats->statypid[slot] = BYTEAOID;
	stats->statyplen[slot] = -1;
	stats->statypbyval[slot] = false;
	stats->statypalign[slot] = TYPALIGN_INT;
}

/* two slots for numbers and dates */
static void
store_numbers(VacAttrStats *stats, int slot, HTAB *numbers, int rows)
{
	int			n = hash_get_num_entries(numbers);
	Numbers   **list = palloc(sizeof(Numbers *) * Max(n, 1));
	HASH_SEQ_STATUS scan;
	Numbers    *v;
	MemoryContext caller;
	Datum	   *names;
	Datum	   *bounds;
	float4	   *facts;

	n = 0;
	hash_seq_init(&scan, numbers);
	while ((v = hash_seq_search(&scan)) != NULL)
		list[n++] = v;
	if (n == 0)
		return;
	qsort(list, n, sizeof(Numbers *), compare_numbers);
	n = Min(n, MAX_NUMBERS);
	caller = MemoryContextSwitchTo(stats->anl_context);
	names = palloc(sizeof(Datum) * n);
	bounds = palloc(sizeof(Datum) * n * BOUNDS);
	facts = palloc(sizeof(float4) * n * 2);
	for (int i = 0; i < n; i++)
	{
		int			different = 1;

		v = list[i];
		qsort(v->values, v->n, sizeof(float8), compare_float8);
		for (int k = 1; k < v->n; k++)
			different += v->values[k] != v->values[k - 1];
		names[i] = key_datum(&v->key);
		facts[2 * i] = (float4) v->n / rows;
		facts[2 * i + 1] = different;
		for (int k = 0; k < BOUNDS; k++)
			bounds[i * BOUNDS + k] = Float8GetDatum(v->values[(int64) k * (v->n - 1) / (BOUNDS - 1)]);
	}
	MemoryContextSwitchTo(caller);
	stats->stakind[slot] = KIND_NUMBERS;
	stats->stanumbers[slot] = facts;
	stats->numnumbers[slot] = 2 * n;
	stats->stavalues[slot] = names;
	stats->numvalues[slot] = n;
	stats->statypid[slot] = BYTEAOID;
	stats->statyplen[slot] = -1;
	stats->statypbyval[slot] = false;
	stats->statypalign[slot] = TYPALIGN_INT;
	slot++;
	stats->stakind[slot] = KIND_BOUNDS;
	stats->stavalues[slot] = bounds;
	stats->numvalues[slot] = n * BOUNDS;
	stats->statypid[slot] = FLOAT8OID;
	stats->statyplen[slot] = sizeof(float8);
	stats->statypbyval[slot] = FLOAT8PASSBYVAL;
	stats->statypalign[slot] = TYPALIGN_DOUBLE;
}

static void
compute_tagset_stats(VacAttrStats *stats, AnalyzeAttrFetchFunc fetch, int samplerows, double totalrows)
{
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp row of a sample", ALLOCSET_DEFAULT_SIZES);
	HTAB	   *keys = key_table("customer_cdp keys of a sample", sizeof(KeyCount));
	HTAB	   *numbers = key_table("customer_cdp numbers of a sample", sizeof(Numbers));
	int			target = CdpStatisticsTarget(stats);
	int			nulls = 0,
				rows = 0;
	double		width = 0;

	for (int i = 0; i < samplerows; i++)
	{
		bool		isnull;
		Datum		value;

		CdpVacuumDelayPoint();
		value = fetch(stats, i, &isnull);
		if (isnull)
		{
			nulls++;
			continue;
		}
		rows++;
		width += VARSIZE_ANY(DatumGetPointer(value));
		count_row(keys, numbers, PG_DETOAST_DATUM_PACKED(value), row_context);
		if (hash_get_num_entries(keys) > 500000)
			forget_rare(keys);
	}
	if (nulls + rows == 0)
		return;
	stats->stats_valid = true;
	stats->stanullfrac = (double) nulls / (nulls + rows);
	stats->stawidth = rows > 0 ? width / rows : 0;
	/* two customers with the same tags are rare, and nobody groups by them */
	stats->stadistinct = rows > 0 ? -1.0 * (1.0 - stats->stanullfrac) : 0;
	if (rows == 0)
		return;
	store_keys(stats, 0, keys, target, rows);
	store_numbers(stats, 1, numbers, rows);
}

/* typanalyze of cdp.tagset */
Datum
cdp_tagset_typanalyze(PG_FUNCTION_ARGS)
{
	VacAttrStats *stats = (VacAttrStats *) PG_GETARG_POINTER(0);

	if (CdpStatisticsTarget(stats) < 0)
		CdpStatisticsTarget(stats) = default_statistics_target;
	stats->minrows = 300 * CdpStatisticsTarget(stats);
	stats->compute_stats = compute_tagset_stats;
	PG_RETURN_BOOL(true);
}

/* ------------------------------------------------------------------ planner */

typedef struct Estimate
{
	const TagQuery *query;
	double		customers;		/* rows of cdp.profile_tag that have tags; 0: it is another table */
	bool		has_keys;
	AttStatsSlot keys;
	bool		has_numbers;
	AttStatsSlot numbers;
	AttStatsSlot bounds;
} Estimate;

static int
compare_datum(Datum datum, const KeyRef *key)
{
	bytea	   *value = DatumGetByteaPP(datum);
	KeyRef		other = {VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};

	return compare_keys(&other, key);
}

/* the frequency of a key among the rows of the sample; -1: it is not in the list */
static double
find_frequency(const Estimate *e, const char *bytes, int len)
{
	KeyRef		key = {bytes, len};
	int			low = 0,
				high = e->keys.nvalues;

	while (low < high)
	{
		int			mid = (low + high) / 2;
		int			cmp = compare_datum(e->keys.values[mid], &key);

		if (cmp == 0)
			return e->keys.numbers[mid];
		if (cmp < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return -1;
}

/* part of the rows where a key is true */
static double
key_frequency(const Estimate *e, char kind, const TagNode *term, const char *text, int text_len)
{
	const char *name = TagQueryStrings(e->query) + term->name;
	char		key[TAG_MAX_KEY];
	int			len = cdp_tag_key(key, kind, name, term->name_len, text, text_len);
	double		f;

	f = e->has_keys ? find_frequency(e, key, len) : -1;
	/* the merge counts a name and what is below it apart; who has both the sample knows better */
	if (e->customers > 0 && (kind != TAG_KEY_BELOW || f < 0))
	{
		double		members;

		/* a key that the last merge did not meet is in the sample, or it is rare */
		if (cdp_tag_key_members(key, len, &members))
			return Min(1, members / e->customers);
	}
	if (!e->has_keys)
		return DEFAULT_TAG_SEL;
	/* nothing is below the name, then its own key says the same */
	if (f < 0 && kind == TAG_KEY_BELOW)
	{
		key[0] = TAG_KEY_NAME;
		f = find_frequency(e, key, len);
	}
	return f >= 0 ? f : e->keys.numbers[e->keys.nvalues] / 2;
}

/* which of the tags with numbers or dates is it?  -1: none */
static int
find_numbers(const Estimate *e, const TagNode *term, TagValueType type)
{
	const char *name = TagQueryStrings(e->query) + term->name;
	char		bytes[TAG_MAX_KEY];
	KeyRef		key = {bytes, cdp_tag_key(bytes, type == TAG_NUMBER ? 'x' : 'd', name, term->name_len, NULL, 0)};

	for (int i = 0; e->has_numbers && i < e->numbers.nvalues; i++)
	{
		if (compare_datum(e->numbers.values[i], &key) == 0)
			return i;
	}
	return -1;
}

/* part of a tag's values below v */
static double
part_below(const Datum *bounds, double v)
{
	for (int i = 0; i < BOUNDS; i++)
	{
		double		above = DatumGetFloat8(bounds[i]);

		if (v <= above)
		{
			double		below = i > 0 ? DatumGetFloat8(bounds[i - 1]) : above;

			return i == 0 ? 0 : (i - 1 + (v - below) / (above - below)) / (BOUNDS - 1);
		}
	}
	return 1;
}

/* part of a tag's values that are v */
static double
part_equal(const Datum *bounds, double different, double v)
{
	int			same = 0;

	if (v < DatumGetFloat8(bounds[0]) || v > DatumGetFloat8(bounds[BOUNDS - 1]))
		return 0;
	for (int i = 0; i < BOUNDS; i++)
		same += DatumGetFloat8(bounds[i]) == v;
	return same > 1 ? (double) same / BOUNDS : 1 / different;
}

/* name op value */
static double
compare_selectivity(const Estimate *e, const TagNode *term, const TagValue *value, TagOperator op)
{
	double		has = key_frequency(e, TAG_KEY_NAME, term, NULL, 0);
	double		equal,
				below;
	const Datum *bounds;
	double		v;
	int			i;

	if (value->type == TAG_TEXT)
	{
		equal = Min(has, key_frequency(e, TAG_KEY_VALUE, term, value->text, value->text_len));
		return op == TAGQ_NE ? has - equal : equal;
	}
	i = find_numbers(e, term, value->type);
	if (i < 0 || e->numbers.numbers == NULL)
		return has * (op == TAGQ_EQ ? DEFAULT_EQ_SEL : op == TAGQ_NE ? 1 - DEFAULT_EQ_SEL : DEFAULT_INEQ_SEL);
	has = e->numbers.numbers[2 * i];
	bounds = &e->bounds.values[i * BOUNDS];
	v = value->type == TAG_NUMBER ? value->number : value->date;
	if (value->type == TAG_DATE && DATE_NOT_FINITE(value->date))
		v = DATE_IS_NOEND(value->date) ? get_float8_infinity() : -get_float8_infinity();
	equal = part_equal(bounds, e->numbers.numbers[2 * i + 1], v);
	below = part_below(bounds, v);
	switch (op)
	{
		case TAGQ_EQ:
			return has * equal;
		case TAGQ_NE:
			return has * (1 - equal);
		case TAGQ_LT:
			return has * below;
		case TAGQ_LE:
			return has * Min(1, below + equal);
		case TAGQ_GT:
			return has * Max(0, 1 - below - equal);
		default:
			return has * (1 - below);
	}
}

/* a bound of a number or date? */
static bool
is_bound(const TagNode *node)
{
	return node->kind == TAGQ_COMPARE && node->value_type != TAG_TEXT && node->op != TAGQ_EQ && node->op != TAGQ_NE;
}

/* of the same tag and type */
static bool
same_tag(const Estimate *e, const TagNode *a, const TagNode *b)
{
	const char *strings = TagQueryStrings(e->query);

	return a->value_type == b->value_type && a->name_len == b->name_len &&
		memcmp(strings + a->name, strings + b->name, a->name_len) == 0;
}

/*
 * Bounds of one tag in an AND are no independent terms but an interval: what
 * is below its upper end less what is below its lower one.  Answers -1 for a
 * bound that was counted with one before it.
 */
static double
interval_selectivity(const Estimate *e, uint32 and, uint32 first)
{
	const TagNode *nodes = e->query->nodes;
	double		has;
	double		low = 0,
				high = 1;
	int			i = find_numbers(e, &nodes[first], nodes[first].value_type);

	for (uint32 c = and + 1; c < first; c = nodes[c].end)
	{
		if (is_bound(&nodes[c]) && same_tag(e, &nodes[c], &nodes[first]))
			return -1;
	}
	has = i >= 0 && e->numbers.numbers != NULL ? e->numbers.numbers[2 * i] : key_frequency(e, TAG_KEY_NAME, &nodes[first], NULL, 0);
	for (uint32 c = first; c < nodes[and].end; c = nodes[c].end)
	{
		TagValue	value;
		double		part;

		if (!is_bound(&nodes[c]) || !same_tag(e, &nodes[c], &nodes[first]))
			continue;
		cdp_tagquery_value(e->query, &nodes[c], &value);
		part = has > 0 ? compare_selectivity(e, &nodes[c], &value, nodes[c].op) / has : 0;
		if (nodes[c].op == TAGQ_LT || nodes[c].op == TAGQ_LE)
			high = Min(high, part);
		else
			low = Max(low, 1 - part);
	}
	return has * Max(high - low, 0);
}

static double
node_selectivity(const Estimate *e, uint32 i)
{
	const TagNode *node = &e->query->nodes[i];
	TagValue	value;
	double		result;

	switch (node->kind)
	{
		case TAGQ_EVERYONE:
			return 1;
		case TAGQ_HAS:
			return key_frequency(e, TAG_KEY_NAME, node, NULL, 0);
		case TAGQ_BELOW:
			return key_frequency(e, TAG_KEY_BELOW, node, NULL, 0);
		case TAGQ_COMPARE:
			cdp_tagquery_value(e->query, node, &value);
			return compare_selectivity(e, node, &value, node->op);
		case TAGQ_IN:
			/* a customer has one value of a tag: the parts exclude each other */
			result = 0;
			for (uint32 c = i + 1; c < node->end; c++)
			{
				cdp_tagquery_value(e->query, &e->query->nodes[c], &value);
				result += compare_selectivity(e, node, &value, e->query->nodes[c].op);
			}
			return Min(result, key_frequency(e, TAG_KEY_NAME, node, NULL, 0));
		case TAGQ_NOT:
			return 1 - node_selectivity(e, i + 1);
		case TAGQ_AND:
			result = 1;
			for (uint32 c = i + 1; c < node->end; c = e->query->nodes[c].end)
			{
				double		part = is_bound(&e->query->nodes[c]) ? interval_selectivity(e, i, c) : node_selectivity(e, c);

				if (part >= 0)
					result *= part;
			}
			return result;
		case TAGQ_OR:
			result = 1;
			for (uint32 c = i + 1; c < node->end; c = e->query->nodes[c].end)
				result *= 1 - node_selectivity(e, c);
			return 1 - result;
		default:
			return 0.5;			/* a segment, which is refused when it is reached */
	}
}

/* part of the rows of a column that answer a query */
static double
query_selectivity(PlannerInfo *root, VariableStatData *vardata, Oid operator, const TagQuery *query)
{
	Estimate	e;
	double		nulls = 0;
	double		result;

	memset(&e, 0, sizeof(e));
	e.query = cdp_tagquery_bind(query, cdp_now_value());
	if (HeapTupleIsValid(vardata->statsTuple) && statistic_proc_security_check(vardata, get_opcode(operator)))
	{
		nulls = ((Form_pg_statistic) GETSTRUCT(vardata->statsTuple))->stanullfrac;
		e.has_keys = get_attstatsslot(&e.keys, vardata->statsTuple, STATISTIC_KIND_MCELEM, InvalidOid,
									  ATTSTATSSLOT_VALUES | ATTSTATSSLOT_NUMBERS) &&
			e.keys.valuetype == BYTEAOID && e.keys.nnumbers == e.keys.nvalues + 2;
		e.has_numbers = e.has_keys &&
			get_attstatsslot(&e.numbers, vardata->statsTuple, KIND_NUMBERS, InvalidOid, ATTSTATSSLOT_VALUES | ATTSTATSSLOT_NUMBERS) &&
			get_attstatsslot(&e.bounds, vardata->statsTuple, KIND_BOUNDS, InvalidOid, ATTSTATSSLOT_VALUES) &&
			e.numbers.valuetype == BYTEAOID && e.bounds.valuetype == FLOAT8OID &&
			e.numbers.nnumbers == 2 * e.numbers.nvalues && e.bounds.nvalues == BOUNDS * e.numbers.nvalues;
	}
	if (vardata->rel != NULL && vardata->rel->rtekind == RTE_RELATION && vardata->acl_ok && ActiveSnapshotSet() &&
		planner_rt_fetch(vardata->rel->relid, root)->relid == cdp_relation("profile_tag"))
		e.customers = vardata->rel->tuples * (1 - nulls);
	result = node_selectivity(&e, 0) * (1 - nulls);
	free_attstatsslot(&e.keys);
	free_attstatsslot(&e.numbers);
	free_attstatsslot(&e.bounds);
	CLAMP_PROBABILITY(result);
	return result;
}

/* the side of the operator that is the column: a column of queries may be asked about a constant set as well */
static bool
is_tagset(Oid operator, bool varonleft)
{
	Oid			left,
				right;

	op_input_types(operator, &left, &right);
	return (varonleft ? left : right) == cdp_tagset_type();
}

/* restriction estimator of tags @@ query and query @@ tags */
Datum
cdp_tagset_sel(PG_FUNCTION_ARGS)
{
	PlannerInfo *root = (PlannerInfo *) PG_GETARG_POINTER(0);
	Oid			operator = PG_GETARG_OID(1);
	List	   *args = (List *) PG_GETARG_POINTER(2);
	int			varRelid = PG_GETARG_INT32(3);
	VariableStatData vardata;
	Node	   *other;
	bool		varonleft;
	double		result = DEFAULT_TAG_SEL;

	if (!get_restriction_variable(root, args, varRelid, &vardata, &other, &varonleft))
		PG_RETURN_FLOAT8(DEFAULT_TAG_SEL);
	if (IsA(other, Const) && ((Const *) other)->constisnull)
		result = 0;
	else if (IsA(other, Const) && is_tagset(operator, varonleft))
		result = query_selectivity(root, &vardata, operator, DatumGetTagQuery(((Const *) other)->constvalue));
	ReleaseVariableStats(vardata);
	PG_RETURN_FLOAT8(result);
}

/* join estimator: a query that is not known when planning */
Datum
cdp_tagset_joinsel(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(DEFAULT_TAG_SEL);
}
