/*
 * tag.c
 *	  Type cdp.tagset: comparison, operators, answers.
 *
 *		SELECT 'vip, aov=1280.5' + 'aov=990@2026-12-31'::cdp.tagset;	-- aov=990@2026-12-31, vip
 *		SELECT cdp.tag_number(tags, 'aov') FROM ...
 *
 * The getters tell what stands there and ask no clock: cdp.tagset_prune()
 * and @@ know about time.
 *
 * SQL: sql/tag.sql.  Tests: test/sql/tag.sql, test/pgtap/tag.sql.  Page: doc/tag.md.
 */
#include "tag.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_tagset_eq);
PG_FUNCTION_INFO_V1(cdp_tagset_ne);
PG_FUNCTION_INFO_V1(cdp_tagset_lt);
PG_FUNCTION_INFO_V1(cdp_tagset_le);
PG_FUNCTION_INFO_V1(cdp_tagset_gt);
PG_FUNCTION_INFO_V1(cdp_tagset_ge);
PG_FUNCTION_INFO_V1(cdp_tagset_cmp);
PG_FUNCTION_INFO_V1(cdp_tagset_hash);
PG_FUNCTION_INFO_V1(cdp_tagset_hash_extended);
PG_FUNCTION_INFO_V1(cdp_tagset_add);
PG_FUNCTION_INFO_V1(cdp_tagset_remove);
PG_FUNCTION_INFO_V1(cdp_tagset_from_names);
PG_FUNCTION_INFO_V1(cdp_tag_value);
PG_FUNCTION_INFO_V1(cdp_tag_number);
PG_FUNCTION_INFO_V1(cdp_tag_date);
PG_FUNCTION_INFO_V1(cdp_tag_valid_until);
PG_FUNCTION_INFO_V1(cdp_tagset_entries);
PG_FUNCTION_INFO_V1(cdp_tagset_prune);
PG_FUNCTION_INFO_V1(cdp_tagset_diff);
PG_FUNCTION_INFO_V1(cdp_tagset_keys_rows);

/* Equal sets are equal bytes. */
static bool
sets_equal(Datum a, Datum b)
{
	struct varlena *va = PG_DETOAST_DATUM_PACKED(a);
	struct varlena *vb = PG_DETOAST_DATUM_PACKED(b);

	return VARSIZE_ANY_EXHDR(va) == VARSIZE_ANY_EXHDR(vb) &&
		memcmp(VARDATA_ANY(va), VARDATA_ANY(vb), VARSIZE_ANY_EXHDR(va)) == 0;
}

#define COMPARE(a, b)	(((a) > (b)) - ((a) < (b)))

/* As memcmp; what is a beginning of the other comes first. */
static int
compare_bytes(const char *a, int a_len, const char *b, int b_len)
{
	int			cmp = memcmp(a, b, Min(a_len, b_len));

	return cmp != 0 ? cmp : COMPARE(a_len, b_len);
}

/* No value, numbers, dates, texts. */
static int
compare_values(const TagValue *a, const TagValue *b)
{
	if (a->type != b->type)
		return COMPARE(a->type, b->type);
	switch (a->type)
	{
		case TAG_NUMBER:
			return COMPARE(a->number, b->number);
		case TAG_DATE:
			return COMPARE(a->date, b->date);
		case TAG_TEXT:
			return compare_bytes(a->text, a->text_len, b->text, b->text_len);
		case TAG_NONE:
			break;
	}
	return 0;
}

/* By the first entry that differs: its name, its value, its valid-until; what is a beginning of the other comes first. */
static int
compare_sets(FunctionCallInfo fcinfo)
{
	TagSet		a;
	TagSet		b;
	TagEntry	ea;
	TagEntry	eb;
	TagCursor	ca = {0};
	TagCursor	cb = {0};
	int			cmp = 0;

	PG_GETARG_TAGSET(0, &a);
	PG_GETARG_TAGSET(1, &b);
	while (cmp == 0 && cdp_tagset_next(&a, &ca, &ea))
	{
		if (!cdp_tagset_next(&b, &cb, &eb))
			return 1;
		cmp = compare_bytes(ea.name, ea.name_len, eb.name, eb.name_len);
		if (cmp == 0)
			cmp = compare_values(&ea.value, &eb.value);
		if (cmp == 0)
			cmp = COMPARE(ea.valid_until, eb.valid_until);
	}
	return cmp != 0 ? cmp : ca.i < b.count ? -1 : 0;
}

/* tagset = tagset */
Datum
cdp_tagset_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(sets_equal(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)));
}

/* tagset <> tagset */
Datum
cdp_tagset_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!sets_equal(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)));
}

/* tagset < tagset */
Datum
cdp_tagset_lt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare_sets(fcinfo) < 0);
}

/* tagset <= tagset */
Datum
cdp_tagset_le(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare_sets(fcinfo) <= 0);
}

/* tagset > tagset */
Datum
cdp_tagset_gt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare_sets(fcinfo) > 0);
}

/* tagset >= tagset */
Datum
cdp_tagset_ge(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare_sets(fcinfo) >= 0);
}

/* order of the btree class */
Datum
cdp_tagset_cmp(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(compare_sets(fcinfo));
}

/* hash class */
Datum
cdp_tagset_hash(PG_FUNCTION_ARGS)
{
	struct varlena *v = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));

	return hash_any((unsigned char *) VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v));
}

/* hash class, with a seed */
Datum
cdp_tagset_hash_extended(PG_FUNCTION_ARGS)
{
	struct varlena *v = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));

	return hash_any_extended((unsigned char *) VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v), PG_GETARG_INT64(1));
}

/* tagset + tagset: the right one's entry where both have the name */
Datum
cdp_tagset_add(PG_FUNCTION_ARGS)
{
	TagSet		a;
	TagSet		b;
	TagCursor	ca = {0};
	TagCursor	cb = {0};
	TagEntry	ea;
	TagEntry	eb;
	bool		has_a;
	bool		has_b;
	TagEntry   *entries;
	int			count = 0;

	PG_GETARG_TAGSET(0, &a);
	PG_GETARG_TAGSET(1, &b);
	if (b.count == 0)
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	if (a.count == 0)
		PG_RETURN_DATUM(PG_GETARG_DATUM(1));
	entries = palloc((a.count + b.count) * sizeof(TagEntry));
	has_a = cdp_tagset_next(&a, &ca, &ea);
	has_b = cdp_tagset_next(&b, &cb, &eb);
	while (has_a || has_b)
	{
		int			cmp = !has_a ? 1 : !has_b ? -1 : compare_bytes(ea.name, ea.name_len, eb.name, eb.name_len);

		entries[count++] = cmp < 0 ? ea : eb;
		if (cmp <= 0)
			has_a = cdp_tagset_next(&a, &ca, &ea);
		if (cmp >= 0)
			has_b = cdp_tagset_next(&b, &cb, &eb);
	}
	PG_RETURN_POINTER(cdp_tagset_build(entries, count));
}

/* The texts of an array; 22004 when one is NULL. */
static int
array_names(ArrayType *array, Datum **names)
{
	bool	   *nulls;
	int			count;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, names, &nulls, &count);
	for (int i = 0; i < count; i++)
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a name of a tag is NULL"),
					 errhint("Leave NULLs out: array_remove(names, NULL).")));
	return count;
}

/* tagset - text[]: without these names, and without what name.* stands for */
Datum
cdp_tagset_remove(PG_FUNCTION_ARGS)
{
	TagSet		set;
	Datum	   *names;
	int			nnames = array_names(PG_GETARG_ARRAYTYPE_P(1), &names);
	bool	   *gone;
	TagEntry   *entries;
	int			count = 0;
	int			left;

	PG_GETARG_TAGSET(0, &set);
	gone = palloc0(set.count * sizeof(bool));
	left = set.count;
	for (int i = 0; i < nnames; i++)
	{
		const char *name = VARDATA_ANY(DatumGetPointer(names[i]));
		int			len = VARSIZE_ANY_EXHDR(DatumGetPointer(names[i]));
		bool		below = len > 2 && name[len - 2] == '.' && name[len - 1] == '*';
		int			from;
		int			to;

		if (below)
			len -= 2;
		cdp_tag_check_name(name, len, "tag");
		from = cdp_tagset_find(&set, name, len);
		if (from >= 0 && !gone[from])
		{
			gone[from] = true;
			left--;
		}
		if (!below)
			continue;
		cdp_tagset_below(&set, name, len, &from, &to);
		for (; from < to; from++)
			if (!gone[from])
			{
				gone[from] = true;
				left--;
			}
	}
	if (left == set.count)
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	entries = palloc(left * sizeof(TagEntry));
	for (TagCursor c = {0}; count < left && cdp_tagset_next(&set, &c, &entries[count]);)
		if (!gone[c.i - 1])
			count++;
	PG_RETURN_POINTER(cdp_tagset_build(entries, count));
}

/* cdp.tagset(names text[]) */
Datum
cdp_tagset_from_names(PG_FUNCTION_ARGS)
{
	Datum	   *names;
	int			count = array_names(PG_GETARG_ARRAYTYPE_P(0), &names);
	TagEntry   *entries = palloc(count * sizeof(TagEntry));

	for (int i = 0; i < count; i++)
	{
		entries[i].name = VARDATA_ANY(DatumGetPointer(names[i]));
		entries[i].name_len = VARSIZE_ANY_EXHDR(DatumGetPointer(names[i]));
		entries[i].value.type = TAG_NONE;
		entries[i].valid_until = DT_NOEND;
		cdp_tag_check_name(entries[i].name, entries[i].name_len, "tag");
	}
	PG_RETURN_POINTER(cdp_tagset_build(entries, count));
}

/* The entry that (tags, tag) ask for. */
static bool
asked_entry(FunctionCallInfo fcinfo, TagEntry *entry)
{
	text	   *tag = PG_GETARG_TEXT_PP(1);
	TagSet		set;
	int			i;

	PG_GETARG_TAGSET(0, &set);
	cdp_tag_check_name(VARDATA_ANY(tag), VARSIZE_ANY_EXHDR(tag), "tag");
	i = cdp_tagset_find(&set, VARDATA_ANY(tag), VARSIZE_ANY_EXHDR(tag));
	if (i >= 0)
		cdp_tagset_entry(&set, i, entry);
	return i >= 0;
}

/* A value as text, without quotes. */
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

/* cdp.tag_value(tags, tag) */
Datum
cdp_tag_value(PG_FUNCTION_ARGS)
{
	TagEntry	entry;

	if (!asked_entry(fcinfo, &entry) || entry.value.type == TAG_NONE)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(raw_value(&entry.value));
}

/* cdp.tag_number(tags, tag) */
Datum
cdp_tag_number(PG_FUNCTION_ARGS)
{
	TagEntry	entry;

	if (!asked_entry(fcinfo, &entry) || entry.value.type != TAG_NUMBER)
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(entry.value.number);
}

/* cdp.tag_date(tags, tag) */
Datum
cdp_tag_date(PG_FUNCTION_ARGS)
{
	TagEntry	entry;

	if (!asked_entry(fcinfo, &entry) || entry.value.type != TAG_DATE)
		PG_RETURN_NULL();
	PG_RETURN_DATEADT(entry.value.date);
}

/* cdp.tag_valid_until(tags, tag) */
Datum
cdp_tag_valid_until(PG_FUNCTION_ARGS)
{
	TagEntry	entry;

	if (!asked_entry(fcinfo, &entry) || entry.valid_until == DT_NOEND)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(entry.valid_until);
}

static const char *const type_names[] = {"none", "number", "date", "text"};

/* cdp.tagset_entries(tags) */
Datum
cdp_tagset_entries(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TagSet		set;
	TagEntry	entry;

	PG_GETARG_TAGSET(0, &set);
	InitMaterializedSRF(fcinfo, 0);
	for (TagCursor c = {0}; cdp_tagset_next(&set, &c, &entry);)
	{
		Datum		values[4] = {0};
		bool		nulls[4] = {false};

		values[0] = PointerGetDatum(cstring_to_text_with_len(entry.name, entry.name_len));
		nulls[1] = entry.value.type == TAG_NONE;
		if (!nulls[1])
			values[1] = raw_value(&entry.value);
		values[2] = CStringGetTextDatum(type_names[entry.value.type]);
		nulls[3] = entry.valid_until == DT_NOEND;
		values[3] = TimestampTzGetDatum(entry.valid_until);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* cdp.tagset_prune(tags, at) */
Datum
cdp_tagset_prune(PG_FUNCTION_ARGS)
{
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(1);
	TagSet		set;
	TagEntry   *entries;
	int			count = 0;

	PG_GETARG_TAGSET(0, &set);
	entries = palloc((set.count + 1) * sizeof(TagEntry));
	for (TagCursor c = {0}; cdp_tagset_next(&set, &c, &entries[count]);)
		if (entries[count].valid_until == DT_NOEND || at < entries[count].valid_until)
			count++;
	if (count == set.count)
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	PG_RETURN_POINTER(cdp_tagset_build(entries, count));
}

/* cdp.tagset_diff(old, new); NULL is the empty set */
Datum
cdp_tagset_diff(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TagSet		set[2] = {{0}};
	TagCursor	cursor[2] = {{0}};
	TagEntry	entry[2];
	bool		has[2];

	for (int i = 0; i < 2; i++)
	{
		if (!PG_ARGISNULL(i))
			PG_GETARG_TAGSET(i, &set[i]);
		has[i] = cdp_tagset_next(&set[i], &cursor[i], &entry[i]);
	}
	InitMaterializedSRF(fcinfo, 0);
	while (has[0] || has[1])
	{
		int			cmp = !has[0] ? 1 : !has[1] ? -1 :
			compare_bytes(entry[0].name, entry[0].name_len, entry[1].name, entry[1].name_len);
		const TagEntry *e = &entry[cmp > 0];

		if (cmp != 0 || compare_values(&entry[0].value, &entry[1].value) != 0 || entry[0].valid_until != entry[1].valid_until)
		{
			Datum		values[2] = {PointerGetDatum(cstring_to_text_with_len(e->name, e->name_len)),
			CStringGetTextDatum(cmp < 0 ? "removed" : cmp > 0 ? "added" : "changed")};
			bool		nulls[2] = {false, false};

			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
		if (cmp <= 0)
			has[0] = cdp_tagset_next(&set[0], &cursor[0], &entry[0]);
		if (cmp >= 0)
			has[1] = cdp_tagset_next(&set[1], &cursor[1], &entry[1]);
	}
	return (Datum) 0;
}

/* cdp._tagset_keys(tags) */
Datum
cdp_tagset_keys_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TagSet		set;
	TagKey	   *keys;
	int			count;

	PG_GETARG_TAGSET(0, &set);
	keys = cdp_tagset_keys(&set, &count);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < count; i++)
	{
		Datum		values[2] = {PointerGetDatum(cstring_to_text_with_len(keys[i].bytes, keys[i].len)),
		TimestampTzGetDatum(keys[i].valid_until)};
		bool		nulls[2] = {false, keys[i].valid_until == DT_NOEND};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
