/*
 * identity_trait.c
 *	  The traits of a customer from what was said about his profiles.
 *
 * View cdp.customer hands all rows of profile_trait of one customer over as
 * an array of records, and the rules as one object that is read once per
 * query:
 *
 *		cdp._survivors(ARRAY[ROW('city', '"上海"', 'crm', '2026-01-01', 7), …]::record[],
 *					   '{"city": ["source_rank", ["crm", "web"]], "*": ["newest", null]}')
 *			-> {"city": "上海"}
 *
 * So the view is always computed from profile_trait and from the rules as
 * the query's snapshot has them; nothing has to be kept up to date when a
 * rule changes.  cdp._judge_traits() goes the same way and tells of every
 * candidate what became of it and why.
 *
 * The strategies are in identity_trait_rule.c.
 *
 * SQL: sql/identity_trait.sql.  Page: doc/identity_trait.md.  Tests:
 * test/sql/identity_trait.sql, test/pgtap/identity_trait.sql,
 * test/bench/identity_trait.sh.
 */
#include "identity_trait.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(cdp_survivors);
PG_FUNCTION_INFO_V1(cdp_judge_traits);

#define CANDIDATE_COLUMNS	5	/* trait, value, source, observed_at, profile_id */

static const char *const strategies[] = {
	"newest", "oldest", "source_rank", "most_frequent", "longest", "min", "max", "union"
};

/* What a call site keeps from customer to customer. */
typedef struct TraitSite
{
	/* the rules, read out of a jsonb of these bytes */
	Jsonb	   *source;
	TraitRule  *rules;			/* sorted by cdp_trait_compare_names */
	int			nrules;
	TraitRule	otherwise;		/* for traits without a rule: that of '*', or newest */
	/* the shape of the records */
	Oid			type;
	int32		typmod;
	TupleDesc	desc;
	MemoryContext context;		/* of source and rules */
} TraitSite;

static void
bad_rules(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the rules of survivorship are not an object of trait and [strategy, sources]"),
			 errhint("Read traits through the view cdp.customer.")));
}

static TraitName
name_of(const JsonbValue *v)
{
	TraitName	name;

	if (v->type != jbvString)
		bad_rules();
	name.bytes = v->val.string.val;
	name.len = v->val.string.len;
	return name;
}

/* ["source_rank", ["crm", "web"]] */
static void
read_rule(JsonbValue *v, TraitRule *rule)
{
	JsonbValue *part;
	TraitName	name;
	bool		known = false;

	if (v->type != jbvBinary || !JsonContainerIsArray(v->val.binary.data) || JsonContainerSize(v->val.binary.data) != 2)
		bad_rules();
	name = name_of(getIthJsonbValueFromContainer(v->val.binary.data, 0));
	for (int i = 0; i < lengthof(strategies); i++)
	{
		if (name.len == (int) strlen(strategies[i]) && memcmp(name.bytes, strategies[i], name.len) == 0)
		{
			rule->strategy = i;
			known = true;
		}
	}
	if (!known)
		bad_rules();
	rule->nsources = 0;
	rule->sources = NULL;
	part = getIthJsonbValueFromContainer(v->val.binary.data, 1);
	if (part->type == jbvNull)
		return;
	if (part->type != jbvBinary || !JsonContainerIsArray(part->val.binary.data))
		bad_rules();
	rule->nsources = JsonContainerSize(part->val.binary.data);
	rule->sources = palloc(sizeof(TraitName) * Max(rule->nsources, 1));
	for (int i = 0; i < rule->nsources; i++)
		rule->sources[i] = name_of(getIthJsonbValueFromContainer(part->val.binary.data, i));
}

/* The rules of a call site, read again when they are not those of the last call. */
static void
read_rules(TraitSite *site, Jsonb *rules)
{
	JsonbIterator *it;
	JsonbValue	key,
				value;
	MemoryContext old;

	if (rules == NULL ? site->source == NULL :
		(site->source != NULL && VARSIZE(site->source) == VARSIZE(rules) &&
		 memcmp(site->source, rules, VARSIZE(rules)) == 0))
		return;
	site->source = NULL;
	site->nrules = 0;
	memset(&site->otherwise, 0, sizeof(TraitRule));
	site->otherwise.strategy = TRAIT_NEWEST;
	MemoryContextReset(site->context);
	if (rules == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(rules))
		bad_rules();

	old = MemoryContextSwitchTo(site->context);
	rules = memcpy(palloc(VARSIZE(rules)), rules, VARSIZE(rules));
	site->rules = palloc(sizeof(TraitRule) * Max(JB_ROOT_COUNT(rules), 1));
	it = JsonbIteratorInit(&rules->root);
	(void) JsonbIteratorNext(&it, &key, false);
	/* keys come sorted */
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		if (cdp_key_is(&key, "*"))
			read_rule(&value, &site->otherwise);
		else
		{
			site->rules[site->nrules].trait = name_of(&key);
			read_rule(&value, &site->rules[site->nrules++]);
		}
	}
	MemoryContextSwitchTo(old);
	site->source = rules;
}

static int
rule_order(const void *a, const void *b)
{
	return cdp_trait_compare_names(&((const TraitRule *) a)->trait, &((const TraitRule *) b)->trait);
}

static const TraitRule *
find_rule(const TraitSite *site, const TraitName *trait)
{
	TraitRule	wanted = {.trait = *trait};
	TraitRule  *found;

	if (site->nrules == 0)
		return &site->otherwise;
	found = bsearch(&wanted, site->rules, site->nrules, sizeof(TraitRule), rule_order);
	return found ? found : &site->otherwise;
}

static TraitSite *
get_site(FunctionCallInfo fcinfo)
{
	TraitSite  *site = fcinfo->flinfo->fn_extra;

	if (site == NULL)
	{
		site = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(TraitSite));
		site->context = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt, "rules of survivorship", ALLOCSET_SMALL_SIZES);
		fcinfo->flinfo->fn_extra = site;
	}
	read_rules(site, PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1));
	return site;
}

/* The shape of a record, checked when it is not that of the last one. */
static TupleDesc
candidate_desc(TraitSite *site, FunctionCallInfo fcinfo, HeapTupleHeader row)
{
	static const Oid types[CANDIDATE_COLUMNS] = {TEXTOID, JSONBOID, TEXTOID, TIMESTAMPTZOID, INT8OID};
	Oid			type = HeapTupleHeaderGetTypeId(row);
	int32		typmod = HeapTupleHeaderGetTypMod(row);
	TupleDesc	desc;
	bool		fits;
	MemoryContext old;

	if (site->desc != NULL && site->type == type && site->typmod == typmod)
		return site->desc;
	desc = lookup_rowtype_tupdesc(type, typmod);
	fits = desc->natts == CANDIDATE_COLUMNS;
	for (int i = 0; fits && i < CANDIDATE_COLUMNS; i++)
		fits = TupleDescAttr(desc, i)->atttypid == types[i] && !TupleDescAttr(desc, i)->attisdropped;
	if (!fits)
	{
		ReleaseTupleDesc(desc);
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("a candidate must be (trait text, value jsonb, source text, observed_at timestamptz, profile_id bigint)"),
				 errhint("Read traits through the view cdp.customer.")));
	}
	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	site->desc = CreateTupleDescCopy(desc);
	MemoryContextSwitchTo(old);
	ReleaseTupleDesc(desc);
	site->type = type;
	site->typmod = typmod;
	return site->desc;
}

static TraitName
name_of_text(Datum value)
{
	text	   *t = DatumGetTextPP(value);
	TraitName	name;

	name.bytes = VARDATA_ANY(t);
	name.len = VARSIZE_ANY_EXHDR(t);
	return name;
}

/* by trait, then source, then profile: the order in which ties are decided */
static int
candidate_order(const void *a, const void *b)
{
	const TraitCandidate *x = a,
			   *y = b;
	int			cmp = cdp_trait_compare_names(&x->trait, &y->trait);

	if (cmp == 0)
		cmp = memcmp(x->source.bytes, y->source.bytes, Min(x->source.len, y->source.len));
	if (cmp == 0)
		cmp = (x->source.len > y->source.len) - (x->source.len < y->source.len);
	return cmp != 0 ? cmp : (x->profile_id > y->profile_id) - (x->profile_id < y->profile_id);
}

static TraitCandidate *
read_candidates(TraitSite *site, FunctionCallInfo fcinfo, int *count)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	Datum	   *rows;
	bool	   *nulls;
	TraitCandidate *c;
	int			nrows,
				n = 0;

	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_DOUBLE, &rows, &nulls, &nrows);
	c = palloc0(sizeof(TraitCandidate) * Max(nrows, 1));
	for (int i = 0; i < nrows; i++)
	{
		HeapTupleHeader row;
		HeapTupleData tuple;
		Datum		values[CANDIDATE_COLUMNS];
		bool		missing[CANDIDATE_COLUMNS];
		TupleDesc	desc;

		if (nulls[i])
			continue;
		row = DatumGetHeapTupleHeader(rows[i]);
		desc = candidate_desc(site, fcinfo, row);
		tuple.t_len = HeapTupleHeaderGetDatumLength(row);
		ItemPointerSetInvalid(&tuple.t_self);
		tuple.t_tableOid = InvalidOid;
		tuple.t_data = row;
		heap_deform_tuple(&tuple, desc, values, missing);
		if (missing[0] || missing[1] || missing[2] || missing[3] || missing[4])
			continue;
		c[n].trait = name_of_text(values[0]);
		c[n].raw = values[1];
		c[n].source = name_of_text(values[2]);
		c[n].observed_at = DatumGetTimestampTz(values[3]);
		c[n].profile_id = DatumGetInt64(values[4]);
		n++;
	}
	qsort(c, n, sizeof(TraitCandidate), candidate_order);
	*count = n;
	return c;
}

/* end of the run of candidates of one trait that begins at i */
static int
trait_end(const TraitCandidate *c, int n, int i)
{
	int			end = i + 1;

	while (end < n && cdp_trait_compare_names(&c[i].trait, &c[end].trait) == 0)
		end++;
	return end;
}

/* cdp._survivors(candidates record[], rules jsonb) -> jsonb, {} for NULL */
Datum
cdp_survivors(PG_FUNCTION_ARGS)
{
	JsonbParseState *state = NULL;
	int			n = 0;
	TraitCandidate *c = NULL;
	TraitSite  *site = NULL;

	if (!PG_ARGISNULL(0))
	{
		site = get_site(fcinfo);
		c = read_candidates(site, fcinfo, &n);
	}
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0, end; i < n; i = end)
	{
		JsonbValue	key,
					value;

		end = trait_end(c, n, i);
		if (!cdp_trait_judge(&c[i], end - i, find_rule(site, &c[i].trait), false, &value))
			continue;
		key.type = jbvString;
		key.val.string.val = unconstify(char *, c[i].trait.bytes);
		key.val.string.len = c[i].trait.len;
		pushJsonbValue(&state, WJB_KEY, &key);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	PG_RETURN_JSONB_P(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/*
 * cdp._judge_traits(candidates record[], rules jsonb) -> setof (trait, value,
 * source, profile_id, observed_at, survives, reason)
 */
Datum
cdp_judge_traits(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TraitSite  *site;
	TraitCandidate *c;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	site = get_site(fcinfo);
	c = read_candidates(site, fcinfo, &n);
	for (int i = 0, end; i < n; i = end)
	{
		JsonbValue	value;

		end = trait_end(c, n, i);
		(void) cdp_trait_judge(&c[i], end - i, find_rule(site, &c[i].trait), true, &value);
	}
	for (int i = 0; i < n; i++)
	{
		Datum		values[7];
		bool		nulls[7] = {0};

		values[0] = PointerGetDatum(cstring_to_text_with_len(c[i].trait.bytes, c[i].trait.len));
		values[1] = c[i].raw;
		values[2] = PointerGetDatum(cstring_to_text_with_len(c[i].source.bytes, c[i].source.len));
		values[3] = Int64GetDatum(c[i].profile_id);
		values[4] = TimestampTzGetDatum(c[i].observed_at);
		values[5] = BoolGetDatum(c[i].survives);
		values[6] = CStringGetTextDatum(c[i].reason);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
