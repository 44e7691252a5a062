/*
 * tag_customer.c
 *	  The verbs that give and take tags: add_tag, remove_tag, add_tag_many.
 *
 *		resolve ids ──> lock the customers' profiles, ascending ──> read their
 *		rows ──> compute the new sets ──> write those that differ
 *
 * Whoever merges customers locks the same rows first, so a tag is never given
 * to somebody who is not there any more.  No row is shared by writers of the
 * same tag: an undeclared one is declared by the next merge of changes, and
 * nothing is counted here.
 *
 * SQL: sql/tag_customer.sql.  Page: doc/tag_customer.md.  Tests:
 * test/sql/tag_customer.sql, test/pgtap/tag_customer.sql,
 * test/specs/tag_same_tag.spec, tag_alias_race.spec, tag_customer_rr.spec.
 */
#include "tag_customer_item.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "identity_step.h"
#include "miscadmin.h"
#include "probe.h"
#include "rows.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(cdp_add_tag);
PG_FUNCTION_INFO_V1(cdp_remove_tag);
PG_FUNCTION_INFO_V1(cdp_add_tag_many);
PG_FUNCTION_INFO_V1(cdp_check_tag_name);
PG_FUNCTION_INFO_V1(cdp_tagset_of);

#define MAX_ITEMS	100000

char *
cdp_tag_value_text(const TagValue *value)
{
	StringInfoData out;

	if (value->type == TAG_TEXT)
		return pnstrdup(value->text, value->text_len);
	initStringInfo(&out);
	if (value->type != TAG_NONE)
		cdp_tag_put_value(&out, value);
	return out.data;
}

Oid
cdp_tagset_type(void)
{
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("tagset"),
						   ObjectIdGetDatum(get_namespace_oid("cdp", false)));
}

SPIPlanPtr
cdp_tag_plan(CdpTagPlan *slot, const char *sql, int nargs, const Oid *types)
{
	Oid			tagset = cdp_tagset_type();
	Oid			filled[16];

	Assert(nargs <= lengthof(filled));
	if (slot->plan != NULL && slot->tagset != tagset)
	{
		SPI_freeplan(slot->plan);
		slot->plan = NULL;
	}
	for (int i = 0; i < nargs; i++)
		filled[i] = OidIsValid(types[i]) ? types[i] : tagset;
	slot->tagset = tagset;
	return cdp_plan(&slot->plan, sql, nargs, filled);
}

/* ---------------------------------------------------------------- who is meant */

static int
compare_items(const void *x, const void *y)
{
	const TagItem *a = x;
	const TagItem *b = y;

	if (a->customer_id != b->customer_id)
		return a->customer_id < b->customer_id ? -1 : 1;
	return a->ord - b->ord;
}

typedef struct Batch
{
	TagItem    *items;			/* by customer */
	int			n;
	int64	   *customers;		/* ascending */
	int			ncustomers;
} Batch;

/* whose the id is now; 0: nobody's, or of one whose profile was deleted */
static int64
find_owner(int64 given)
{
	int64		customer = cdp_customer_of(given, false);

	return customer == given || cdp_customer_of(customer, false) == customer ? customer : 0;
}

/* whom the ids belong to now */
static void
resolve_items(Batch *b)
{
	for (int i = 0; i < b->n; i++)
	{
		TagItem    *item = &b->items[i];

		item->customer_id = find_owner(item->given);
		if (item->customer_id == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
					 errmsg("there is no customer " INT64_FORMAT, item->given),
					 item->ord > 0 ? errcontext("item %d", item->ord) : 0,
					 errhint("cdp.identify() answers the id of a customer, new or known.")));
	}
	qsort(b->items, b->n, sizeof(TagItem), compare_items);
	b->ncustomers = 0;
	for (int i = 0; i < b->n; i++)
	{
		if (i == 0 || b->items[i].customer_id != b->items[i - 1].customer_id)
			b->customers[b->ncustomers++] = b->items[i].customer_id;
	}
}

/*
 * Locked, are they still there, customers, and those that were meant?  A
 * profile may have been deleted while we waited, or parted from its customer.
 */
static bool
lock_batch(void *arg)
{
	Batch	   *b = arg;

	if (cdp_lock_profiles(b->customers, b->ncustomers) < b->ncustomers || !cdp_are_customers(b->customers, b->ncustomers))
		return false;
	for (int i = 0; i < b->n; i++)
	{
		if (b->items[i].given != b->items[i].customer_id && find_owner(b->items[i].given) != b->items[i].customer_id)
			return false;
	}
	return true;
}

/* ------------------------------------------------------------------- what is done */

/* is the entry what a removal takes? */
static bool
is_taken(const TagItem *item, const TagEntry *entry)
{
	if (entry->name_len < item->name_len || memcmp(entry->name, item->name, item->name_len) != 0)
		return false;
	return entry->name_len == item->name_len || (item->below && entry->name[item->name_len] == '.');
}

/* the set after all items of one customer */
static struct varlena *
apply_items(const struct varlena *tags, const TagItem *items, int n)
{
	TagSet		set;
	TagEntry   *entries;
	struct varlena *after;
	int			count = 0;

	memset(&set, 0, sizeof(TagSet));
	if (tags != NULL)
		cdp_tagset_open(&set, tags);
	entries = palloc(sizeof(TagEntry) * (set.count + n + 1));
	for (TagCursor c = {0}; tags != NULL && cdp_tagset_next(&set, &c, &entries[count]);)
		count++;
	for (int i = 0; i < n; i++)
	{
		const TagItem *item = &items[i];

		if (item->remove)
		{
			int			kept = 0;

			for (int k = 0; k < count; k++)
			{
				if (!is_taken(item, &entries[k]))
					entries[kept++] = entries[k];
			}
			count = kept;
			continue;
		}
		entries[count].name = item->name;
		entries[count].name_len = item->name_len;
		entries[count].value = item->value;
		entries[count++].valid_until = item->valid_until;
	}
	after = cdp_tagset_build(entries, count);
	pfree(entries);
	return after;
}

bool
cdp_tag_same_entry(const TagEntry *a, const TagEntry *b)
{
	return a->valid_until == b->valid_until && a->value.type == b->value.type &&
		(a->value.type != TAG_NUMBER || a->value.number == b->value.number) &&
		(a->value.type != TAG_DATE || a->value.date == b->value.date) &&
		(a->value.type != TAG_TEXT || (a->value.text_len == b->value.text_len &&
									   memcmp(a->value.text, b->value.text, a->value.text_len) == 0));
}

bool
cdp_tagset_same(const struct varlena *a, const struct varlena *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) && memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* in how many entries two sets differ */
static int64
count_differences(const struct varlena *before, const struct varlena *after)
{
	TagSet		old,
				new;
	TagEntry	a,
				b;
	int64		same = 0,
				both = 0;

	memset(&old, 0, sizeof(TagSet));
	if (before != NULL)
		cdp_tagset_open(&old, before);
	cdp_tagset_open(&new, after);
	for (TagCursor c = {0}; cdp_tagset_next(&new, &c, &b);)
	{
		int			i = before ? cdp_tagset_find(&old, b.name, b.name_len) : -1;

		if (i < 0)
			continue;
		both++;
		cdp_tagset_entry(&old, i, &a);
		same += cdp_tag_same_entry(&a, &b);
	}
	/* gone, come, and those of both that are not the same */
	return old.count + new.count - both - same;
}

typedef struct Row
{
	struct varlena *tags;		/* NULL: no row */
	struct varlena *after;
	bool		exists;
} Row;

static int
find_customer(const Batch *b, int64 id)
{
	int64	   *found = bsearch(&id, b->customers, b->ncustomers, sizeof(int64), cdp_id_compare);

	return found - b->customers;
}

/* the row of one customer, locked: by its index, without a statement */
static void
read_row(int64 customer_id, Row *row)
{
	CdpProbe   *probe;

	cdp_push_fresh_snapshot();
	probe = cdp_probe_open_to_lock("profile_tag", "profile_tag_pkey");
	if (cdp_probe_int8(probe, customer_id) != NULL)
	{
		TupleTableSlot *slot = cdp_probe_lock(probe);
		bool		isnull;

		/* somebody may have deleted it, or made it another profile's */
		if (slot != NULL && DatumGetInt64(slot_getattr(slot, cdp_probe_column(probe, "profile_id"), &isnull)) == customer_id)
		{
			Datum		tags = slot_getattr(slot, cdp_probe_column(probe, "tags"), &isnull);

			row->exists = true;
			row->tags = isnull ? NULL : PG_DETOAST_DATUM_COPY(tags);
		}
	}
	cdp_probe_close(probe);
	PopActiveSnapshot();
}

/* the rows of the batch's customers, locked */
static Row *
read_rows(Batch *b)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	Datum		arg;
	Row		   *rows = palloc0(sizeof(Row) * b->ncustomers);

	if (b->ncustomers == 1)
	{
		read_row(b->customers[0], rows);
		return rows;
	}
	arg = cdp_id_array(b->customers, b->ncustomers);
	if (SPI_execute_plan(cdp_plan(&plan, "SELECT profile_id, tags FROM cdp.profile_tag WHERE profile_id = ANY ($1)"
								  " ORDER BY profile_id FOR NO KEY UPDATE", 1, types),
						 &arg, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.profile_tag");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Row		   *row = &rows[find_customer(b, DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)))];
		Datum		tags = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull);

		row->exists = true;
		row->tags = isnull ? NULL : PG_DETOAST_DATUM_COPY(tags);
	}
	SPI_freetuptable(SPI_tuptable);
	return rows;
}

void
cdp_insert_tags(SPIPlanPtr plan, Datum *args, const char *nulls, const CdpTagWriter *as, uint64 n)
{
	if (cdp_write_tags(plan, args, nulls, as) != n)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: these customers were given tags concurrently"),
				 errhint("Retry the transaction.")));
}

/* one row, as most calls write */
static void
write_row(int64 customer_id, const Row *row, const CdpTagWriter *writer)
{
	static CdpTagPlan update = {0};
	static CdpTagPlan insert = {0};
	static const Oid types[2] = {INT8OID, InvalidOid};
	Datum		args[2] = {Int64GetDatum(customer_id), PointerGetDatum(row->after)};

	if (row->exists)
		(void) cdp_write_tags(cdp_tag_plan(&update, "UPDATE cdp.profile_tag SET tags = $2 WHERE profile_id = $1", 2, types),
							  args, NULL, writer);
	else
		cdp_insert_tags(cdp_tag_plan(&insert, "INSERT INTO cdp.profile_tag (profile_id, tags) VALUES ($1, $2) ON CONFLICT (profile_id) DO NOTHING",
									 2, types), args, NULL, writer, 1);
}

/* many rows: those that exist, or those that do not */
static void
write_rows(const Batch *b, const Row *rows, bool existing, const CdpTagWriter *writer)
{
	static SPIPlanPtr update = NULL;
	static SPIPlanPtr insert = NULL;
	static const char *const names[2] = {"customer_id", "tags"};
	Oid			types[2] = {INT8OID, cdp_tagset_type()};
	CdpRows    *tagged = cdp_rows_open("tagged", 2, names, types);
	uint64		n = 0;

	for (int i = 0; i < b->ncustomers; i++)
	{
		Datum		values[2] = {Int64GetDatum(b->customers[i]), PointerGetDatum(rows[i].after)};
		bool		nulls[2] = {false, false};

		if (rows[i].after == NULL || rows[i].exists != existing)
			continue;
		cdp_rows_start(tagged);
		cdp_rows_put(tagged, values, nulls);
		n++;
	}
	if (n > 0)
	{
		cdp_rows_publish(tagged);
		if (existing)
			(void) cdp_write_tags(cdp_plan(&update, "UPDATE cdp.profile_tag p SET tags = t.tags FROM tagged t WHERE p.profile_id = t.customer_id",
										   0, NULL), NULL, NULL, writer);
		else
			cdp_insert_tags(cdp_plan(&insert, "INSERT INTO cdp.profile_tag (profile_id, tags) SELECT customer_id, tags FROM tagged"
									 " ON CONFLICT (profile_id) DO NOTHING", 0, NULL), NULL, NULL, writer, n);
	}
	cdp_rows_close(tagged);
}

/* do it all; answers how many entries changed */
static int64
apply_batch(TagItem *items, int n, const char *source)
{
	CdpTagWriter writer = {.source = source, .locked = true, .customers = true};
	Batch		b = {items, n, palloc(sizeof(int64) * Max(n, 1)), 0};
	Row		   *rows;
	int64		changed = 0;
	int			round = 0;

	for (int i = 0; i < n; i++)
	{
		ErrorContextCallback context = {error_context_stack, cdp_tag_about_value, &items[i]};

		error_context_stack = &context;
		cdp_tag_check_item(&items[i]);
		error_context_stack = context.previous;
	}
	do
	{
		cdp_count_round(&round);
		resolve_items(&b);
	} while (!cdp_attempt(lock_batch, &b));
	rows = read_rows(&b);
	for (int i = 0, c = 0; i < n; c++)
	{
		Row		   *row = &rows[c];
		int			from = i;

		CHECK_FOR_INTERRUPTS();
		while (i < n && items[i].customer_id == b.customers[c])
			i++;
		row->after = apply_items(row->tags, items + from, i - from);
		from = count_differences(row->tags, row->after);
		if (from == 0)
			row->after = NULL;
		changed += from;
	}
	if (b.ncustomers == 1 && rows[0].after != NULL)
		write_row(b.customers[0], &rows[0], &writer);
	else if (changed > 0)
	{
		write_rows(&b, rows, true, &writer);
		write_rows(&b, rows, false, &writer);
	}
	return changed;
}

/* ------------------------------------------------------------------------ SQL */

static const char *
source_arg(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

static void
customer_and_tag(FunctionCallInfo fcinfo, TagItem *item)
{
	text	   *name;

	memset(item, 0, sizeof(TagItem));
	item->given = cdp_id_arg(fcinfo, 0, "customer_id");
	if (PG_ARGISNULL(1))
		cdp_tag_refuse_null("tag", "The name of the tag, for example region.华东.");
	name = PG_GETARG_TEXT_PP(1);
	item->name = VARDATA_ANY(name);
	item->name_len = VARSIZE_ANY_EXHDR(name);
	item->valid_until = DT_NOEND;
}

/* cdp.add_tag(customer_id, tag, value, valid_until, source) -> did anything change? */
Datum
cdp_add_tag(PG_FUNCTION_ARGS)
{
	TagItem		item;
	CdpVerb		verb;
	bool		changed;

	customer_and_tag(fcinfo, &item);
	if (!PG_ARGISNULL(2))
	{
		text	   *value = PG_GETARG_TEXT_PP(2);

		item.text = VARDATA_ANY(value);
		item.text_len = VARSIZE_ANY_EXHDR(value);
	}
	if (!PG_ARGISNULL(3))
		item.valid_until = PG_GETARG_TIMESTAMPTZ(3);
	cdp_begin_write(&verb, "add_tag");
	changed = apply_batch(&item, 1, source_arg(fcinfo, 4)) > 0;
	cdp_end(&verb);
	PG_RETURN_BOOL(changed);
}

/* cdp.remove_tag(customer_id, tag, source) -> was anything there? */
Datum
cdp_remove_tag(PG_FUNCTION_ARGS)
{
	TagItem		item;
	CdpVerb		verb;
	bool		changed;

	customer_and_tag(fcinfo, &item);
	item.remove = true;
	cdp_begin_write(&verb, "remove_tag");
	changed = apply_batch(&item, 1, source_arg(fcinfo, 2)) > 0;
	cdp_end(&verb);
	PG_RETURN_BOOL(changed);
}

/* cdp.add_tag_many(items, source) -> number of entries that changed */
Datum
cdp_add_tag_many(PG_FUNCTION_ARGS)
{
	Jsonb	   *list;
	TagItem    *items;
	CdpVerb		verb;
	JsonbIterator *it;
	JsonbValue	v;
	int64		changed;
	int			n;

	if (PG_ARGISNULL(0))
		cdp_tag_refuse_null("items", "For example [{\"customer_id\": 7, \"tag\": \"vip\"}].");
	list = PG_GETARG_JSONB_P(0);
	if (!JB_ROOT_IS_ARRAY(list) || JB_ROOT_IS_SCALAR(list))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("items must be an array of objects"),
				 errhint("For example [{\"customer_id\": 7, \"tag\": \"vip\"}].")));
	n = JB_ROOT_COUNT(list);
	if (n > MAX_ITEMS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than %d items in one call", MAX_ITEMS),
				 errhint("Send them in parts.")));
	items = palloc(sizeof(TagItem) * Max(n, 1));
	it = JsonbIteratorInit(&list->root);
	(void) JsonbIteratorNext(&it, &v, true);	/* the array itself */
	for (int i = 0; i < n; i++)
	{
		(void) JsonbIteratorNext(&it, &v, true);
		cdp_tag_read_item(&items[i], &v, i + 1);
	}
	if (n == 0)
		PG_RETURN_INT64(0);
	cdp_begin_write(&verb, "add_tag_many");
	changed = apply_batch(items, n, source_arg(fcinfo, 1));
	cdp_end(&verb);
	PG_RETURN_INT64(changed);
}

/* cdp._check_tag_name(name) */
Datum
cdp_check_tag_name(PG_FUNCTION_ARGS)
{
	text	   *name = PG_GETARG_TEXT_PP(0);

	cdp_tag_check_name(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name), "name");
	PG_RETURN_VOID();
}

/*
 * cdp._tagset_of(tags, values, value_types, valid_untils) -> tagset: columns
 * of cdp.tag_history; of a value that does not fit its type only the name is
 * kept.
 */
Datum
cdp_tagset_of(PG_FUNCTION_ARGS)
{
	static const Oid types[4] = {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum	   *cols[4];
	bool	   *nulls[4];
	int			counts[4];
	TagEntry   *entries;

	for (int c = 0; c < 4; c++)
	{
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(c), types[c], c == 3 ? 8 : -1, c == 3, c == 3 ? TYPALIGN_DOUBLE : TYPALIGN_INT,
						  &cols[c], &nulls[c], &counts[c]);
		if (counts[c] != counts[0])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the arrays of entries are of different length"),
					 errhint("Element n of every array belongs to entry n.")));
	}
	entries = palloc0(sizeof(TagEntry) * Max(counts[0], 1));
	for (int i = 0; i < counts[0]; i++)
	{
		TagEntry   *e = &entries[i];
		text	   *name = nulls[0][i] ? cstring_to_text("") : DatumGetTextPP(cols[0][i]);
		char	   *type = nulls[2][i] ? "none" : TextDatumGetCString(cols[2][i]);
		text	   *value = nulls[1][i] ? NULL : DatumGetTextPP(cols[1][i]);

		e->name = VARDATA_ANY(name);
		e->name_len = VARSIZE_ANY_EXHDR(name);
		cdp_tag_check_name(e->name, e->name_len, "tag");
		e->valid_until = nulls[3][i] ? DT_NOEND : DatumGetTimestampTz(cols[3][i]);
		if (value == NULL)
			continue;
		if (strcmp(type, "number") == 0 && cdp_tag_parse_number(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), &e->value.number))
			e->value.type = TAG_NUMBER;
		else if (strcmp(type, "date") == 0 && cdp_tag_parse_date(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), &e->value.date))
			e->value.type = TAG_DATE;
		else if (strcmp(type, "text") == 0 && VARSIZE_ANY_EXHDR(value) <= TAG_MAX_NAME)
		{
			e->value.type = TAG_TEXT;
			e->value.text = VARDATA_ANY(value);
			e->value.text_len = VARSIZE_ANY_EXHDR(value);
		}
	}
	PG_RETURN_POINTER(cdp_tagset_build(entries, counts[0]));
}
