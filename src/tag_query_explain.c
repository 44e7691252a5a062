/*
 * tag_query_explain.c
 *	  Which terms of a query hold for a tagset, and what they were told by.
 *
 *		SELECT * FROM cdp.tagset_explain('aov=800, vip@2026-01-01', 'aov > 1000 & vip', '2026-06-01');
 *
 *			term		| holds | value | valid_until
 *			aov > 1000	| f		| 800	|
 *			vip			| f		|		| 2026-01-01 00:00:00+00
 *
 * SQL: sql/tag_query.sql.  Tests: test/sql/tag_query.sql.  Page: doc/tag_query.md.
 */
#include "tag_query.h"

#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cdp_tagset_explain);

/* Of a name and all below it, the entry that holds longest, -1 when there is none. */
static int
longest_entry(const TagSet *set, const char *name, int len)
{
	int			best = cdp_tagset_find(set, name, len);
	int			from;
	int			to;

	cdp_tagset_below(set, name, len, &from, &to);
	for (int i = from; i < to; i++)
		if (best < 0 || cdp_tagset_valid_until(set, i) > cdp_tagset_valid_until(set, best))
			best = i;
	return best;
}

/* A value as it is, without quotes. */
static Datum
raw_value(const TagValue *value)
{
	StringInfoData out;

	if (value->type == TAG_TEXT)
		return PointerGetDatum(cstring_to_text_with_len(value->text, value->text_len));
	initStringInfo(&out);
	cdp_tag_put_value(&out, value);
	return PointerGetDatum(cstring_to_text_with_len(out.data, out.len));
}

/* cdp.tagset_explain(tags, query, at) */
Datum
cdp_tagset_explain(PG_FUNCTION_ARGS)
{
	struct varlena *tags = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));
	TagQuery   *query = PG_GETARG_TAGQUERY(1);
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(2);
	const TagQuery *bound = cdp_tagquery_bind(query, at);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TagSet		set;

	InitMaterializedSRF(fcinfo, 0);
	cdp_tagset_open(&set, tags);
	for (uint32 i = 0; i < query->nnodes; i++)
	{
		const TagNode *node = &query->nodes[i];
		const char *name = TagQueryStrings(query) + node->name;
		Datum		values[4];
		bool		nulls[4] = {false, false, true, true};
		TagEntry	entry;
		int			e = -1;

		if (!TagNodeIsTerm(node))
			continue;
		values[0] = CStringGetTextDatum(cdp_tagquery_term_text(query, node));
		if (node->kind == TAGQ_SEGMENT)
			nulls[1] = true;
		else
			values[1] = BoolGetDatum(cdp_tagquery_term(bound, &bound->nodes[i], &set, at));
		if (node->kind == TAGQ_BELOW)
			e = longest_entry(&set, name, node->name_len);
		else if (node->name_len > 0 && node->kind != TAGQ_SEGMENT)
			e = cdp_tagset_find(&set, name, node->name_len);
		if (e >= 0)
		{
			cdp_tagset_entry(&set, e, &entry);
			nulls[2] = node->kind != TAGQ_BELOW && entry.value.type == TAG_NONE;
			if (node->kind == TAGQ_BELOW)
				values[2] = PointerGetDatum(cstring_to_text_with_len(entry.name, entry.name_len));
			else if (!nulls[2])
				values[2] = raw_value(&entry.value);
			nulls[3] = entry.valid_until == DT_NOEND;
			values[3] = TimestampTzGetDatum(entry.valid_until);
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
