/*
 * tag_query_eval.c
 *	  cdp.tagquery over a cdp.tagset: does it hold?
 *
 *		SELECT 'vip, aov=1280.5'::cdp.tagset @@ 'vip & aov > 1000';
 *
 * This is the loop of every sequential scan, so a call takes no memory: the
 * query is detoasted and bound to its moment by the first one and kept, and
 * the tagset is read where it lies.
 *
 * SQL: sql/tag_query.sql.  Tests: test/sql/tag_query.sql, test/pgtap/tag_query.sql.  Page: doc/tag_query.md.
 */
#include "tag_query.h"

#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_tagset_query);
PG_FUNCTION_INFO_V1(cdp_query_tagset);
PG_FUNCTION_INFO_V1(cdp_tagset_matches);

/* kept between the calls of one expression */
typedef struct QueryCache
{
	struct varlena *raw;		/* as the argument was, a copy; NULL: nothing kept yet */
	Size		raw_size;
	TimestampTz at;
	const TagQuery *bound;
	MemoryContext context;		/* of all of it */
} QueryCache;

/* Midnight UTC before or at a moment, and what is left of the day. */
static DateADT
day_of(TimestampTz at, int64 *rest)
{
	int64		days = at / USECS_PER_DAY;

	*rest = at % USECS_PER_DAY;
	if (*rest < 0)
	{
		days--;
		*rest += USECS_PER_DAY;
	}
	return (DateADT) days;
}

/* Months further, at most the last day of the month there; out of range is before or behind all. */
static DateADT
add_months(DateADT date, int64 months)
{
	int			year;
	int			month;
	int			day;

	j2date(date + POSTGRES_EPOCH_JDATE, &year, &month, &day);
	months += (int64) year * MONTHS_PER_YEAR + month - 1;
	if (months < 0 || months / MONTHS_PER_YEAR > 99999)
		return months < 0 ? DATEVAL_NOBEGIN : DATEVAL_NOEND;
	year = months / MONTHS_PER_YEAR;
	month = months % MONTHS_PER_YEAR + 1;
	return date2j(year, month, Min(day, day_tab[isleap(year)][month - 1])) - POSTGRES_EPOCH_JDATE;
}

/* now-30d becomes a date. */
static void
bind_node(TagNode *node, TimestampTz at)
{
	int64		count = node->value.date;
	int64		rest = 0;
	DateADT		date;

	if (TIMESTAMP_IS_NOBEGIN(at))
		date = DATEVAL_NOBEGIN;
	else if (TIMESTAMP_IS_NOEND(at))
		date = DATEVAL_NOEND;
	else if (node->now == TAGQ_HOURS)
	{
		/* the last moment there is has no room for an hour more */
		date = day_of(at, &rest);
		rest += count * USECS_PER_HOUR;
		date += day_of(rest, &rest);
	}
	else
	{
		date = day_of(at, &rest);
		rest = 0;
		switch ((TagNow) node->now)
		{
			case TAGQ_DAYS:
				date += count;
				break;
			case TAGQ_WEEKS:
				date += count * 7;
				break;
			case TAGQ_MONTHS:
				date = add_months(date, count);
				break;
			case TAGQ_YEARS:
				date = add_months(date, count * MONTHS_PER_YEAR);
				break;
			default:
				Assert(false);
		}
	}
	node->now = TAGQ_FIXED;
	node->value.date = date;
	if (rest == 0)
		return;
	/* the instant lies inside that day: a date is never equal to it */
	switch ((TagOperator) node->op)
	{
		case TAGQ_EQ:
			node->op = TAGQ_LT;
			node->value.date = DATEVAL_NOBEGIN;
			break;
		case TAGQ_NE:
			node->op = TAGQ_GE;
			node->value.date = DATEVAL_NOBEGIN;
			break;
		case TAGQ_LT:
			node->op = TAGQ_LE;
			break;
		case TAGQ_GE:
			node->op = TAGQ_GT;
			break;
		case TAGQ_LE:
		case TAGQ_GT:
			break;
	}
}

const TagQuery *
cdp_tagquery_bind(const TagQuery *query, TimestampTz at)
{
	TagQuery   *bound = NULL;

	for (uint32 i = 0; i < query->nnodes; i++)
	{
		if (query->nodes[i].now == TAGQ_FIXED)
			continue;
		if (bound == NULL)
		{
			bound = palloc(VARSIZE(query));
			memcpy(bound, query, VARSIZE(query));
		}
		bind_node(&bound->nodes[i], at);
	}
	return bound != NULL ? bound : query;
}

void
cdp_tagquery_value(const TagQuery *query, const TagNode *node, TagValue *value)
{
	Assert(node->now == TAGQ_FIXED);
	value->type = node->value_type;
	switch (value->type)
	{
		case TAG_NONE:
			break;
		case TAG_NUMBER:
			value->number = node->value.number;
			break;
		case TAG_DATE:
			value->date = (DateADT) node->value.date;
			break;
		case TAG_TEXT:
			value->text = TagQueryStrings(query) + node->value.text.offset;
			value->text_len = node->value.text.len;
			break;
	}
}

bool
cdp_tag_compare(const TagValue *value, TagOperator op, const TagValue *literal)
{
	int			cmp;

	if (value->type != literal->type)
		return false;
	switch (value->type)
	{
		case TAG_NUMBER:
			cmp = (value->number > literal->number) - (value->number < literal->number);
			break;
		case TAG_DATE:
			cmp = (value->date > literal->date) - (value->date < literal->date);
			break;
		case TAG_TEXT:
			cmp = value->text_len != literal->text_len || memcmp(value->text, literal->text, literal->text_len) != 0;
			break;
		default:
			return false;
	}
	switch (op)
	{
		case TAGQ_EQ:
			return cmp == 0;
		case TAGQ_NE:
			return cmp != 0;
		case TAGQ_LT:
			return cmp < 0;
		case TAGQ_LE:
			return cmp <= 0;
		case TAGQ_GT:
			return cmp > 0;
		case TAGQ_GE:
			return cmp >= 0;
	}
	return false;
}

static inline bool
is_valid(TimestampTz valid_until, TimestampTz at)
{
	return valid_until == DT_NOEND || at < valid_until;
}

/* Is one of the entries [from, to) there? */
static bool
any_valid(const TagSet *set, int from, int to, TimestampTz at)
{
	for (int i = from; i < to; i++)
		if (is_valid(cdp_tagset_valid_until(set, i), at))
			return true;
	return false;
}

pg_noreturn static void
refuse_segment(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("segment(...) cannot be answered from a tagset"),
			 errhint("Ask cdp.matches_customer(customer_id, query), which knows the segments.")));
}

bool
cdp_tagquery_term(const TagQuery *query, const TagNode *node, const TagSet *set, TimestampTz at)
{
	const char *name = TagQueryStrings(query) + node->name;
	TagEntry	entry;
	TagValue	literal;
	int			from;
	int			to;
	int			i;

	switch ((TagNodeKind) node->kind)
	{
		case TAGQ_EVERYONE:
			return true;
		case TAGQ_SEGMENT:
			refuse_segment();
		case TAGQ_BELOW:
			i = cdp_tagset_find(set, name, node->name_len);
			if (i >= 0 && any_valid(set, i, i + 1, at))
				return true;
			cdp_tagset_below(set, name, node->name_len, &from, &to);
			return any_valid(set, from, to, at);
		default:
			break;
	}
	i = cdp_tagset_find(set, name, node->name_len);
	if (i < 0)
		return false;
	if (node->kind == TAGQ_HAS)
		return any_valid(set, i, i + 1, at);
	cdp_tagset_entry(set, i, &entry);
	if (!is_valid(entry.valid_until, at))
		return false;
	if (node->kind == TAGQ_COMPARE)
	{
		cdp_tagquery_value(query, node, &literal);
		return cdp_tag_compare(&entry.value, node->op, &literal);
	}
	for (const TagNode *v = node + 1; v < &query->nodes[node->end]; v++)
	{
		cdp_tagquery_value(query, v, &literal);
		if (cdp_tag_compare(&entry.value, v->op, &literal))
			return true;
	}
	return false;
}

/* A node with all below it; as little of it as decides. */
static bool
holds(const TagQuery *query, uint32 i, const TagSet *set, TimestampTz at)
{
	const TagNode *node = &query->nodes[i];

	switch ((TagNodeKind) node->kind)
	{
		case TAGQ_NOT:
			return !holds(query, i + 1, set, at);
		case TAGQ_AND:
			for (uint32 c = i + 1; c < node->end; c = query->nodes[c].end)
				if (!holds(query, c, set, at))
					return false;
			return true;
		case TAGQ_OR:
			for (uint32 c = i + 1; c < node->end; c = query->nodes[c].end)
				if (holds(query, c, set, at))
					return true;
			return false;
		default:
			return cdp_tagquery_term(query, node, set, at);
	}
}

bool
cdp_tagquery_matches(const TagQuery *query, const TagSet *set, TimestampTz at)
{
	return holds(query, 0, set, at);
}

/* Fills the cache of a call. */
static const TagQuery *
keep_query(FunctionCallInfo fcinfo, struct varlena *raw, TimestampTz at)
{
	QueryCache *cache = fcinfo->flinfo->fn_extra;
	MemoryContext before;
	TagQuery   *query;

	if (cache == NULL)
	{
		cache = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(QueryCache));
		cache->context = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt, "cdp tagquery", ALLOCSET_SMALL_SIZES);
		fcinfo->flinfo->fn_extra = cache;
	}
	cache->raw = NULL;
	MemoryContextReset(cache->context);
	before = MemoryContextSwitchTo(cache->context);
	query = DatumGetTagQuery(PointerGetDatum(raw));
	cache->raw_size = VARSIZE_ANY(raw);
	if (query == (TagQuery *) raw)
	{
		query = palloc(cache->raw_size);
		memcpy(query, raw, cache->raw_size);
	}
	/* a segment is refused for every row, also where another part decides */
	if (cdp_tagquery_has_segment(query))
		refuse_segment();
	cache->bound = cdp_tagquery_bind(query, at);
	cache->at = at;
	cache->raw = memcpy(palloc(cache->raw_size), raw, cache->raw_size);
	MemoryContextSwitchTo(before);
	return cache->bound;
}

/* Query argument n, bound; the bytes of a column are compared, those of a constant are known. */
static inline const TagQuery *
bound_query(FunctionCallInfo fcinfo, int n, TimestampTz at)
{
	QueryCache *cache = fcinfo->flinfo->fn_extra;
	struct varlena *raw = (struct varlena *) DatumGetPointer(PG_GETARG_DATUM(n));

	if (cache != NULL && cache->raw != NULL && cache->at == at &&
		VARSIZE_ANY(raw) == cache->raw_size && memcmp(raw, cache->raw, cache->raw_size) == 0)
		return cache->bound;
	return keep_query(fcinfo, raw, at);
}

/* Does query argument n hold for tagset argument m? */
static inline bool
call_matches(FunctionCallInfo fcinfo, int m, int n, TimestampTz at)
{
	struct varlena *tags = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(m));
	bool		result;
	TagSet		set;

	cdp_tagset_open(&set, tags);
	result = holds(bound_query(fcinfo, n, at), 0, &set, at);
	PG_FREE_IF_COPY(tags, m);
	return result;
}

/* tagset @@ tagquery */
Datum
cdp_tagset_query(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(call_matches(fcinfo, 0, 1, cdp_now_value()));
}

/* tagquery @@ tagset */
Datum
cdp_query_tagset(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(call_matches(fcinfo, 1, 0, cdp_now_value()));
}

/* cdp.tagset_matches(tags, query, at) */
Datum
cdp_tagset_matches(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(call_matches(fcinfo, 0, 1, PG_GETARG_TIMESTAMPTZ(2)));
}
