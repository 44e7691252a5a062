/*
 * tag_rule.c
 *	  Tags that a rule gives and takes.
 *
 *		CALL cdp.refresh_tags('aov');
 *
 *		run the rule as its owner			wanted: customer, value, valid_until
 *		who has the tag, by the bitmaps		has
 *		wanted and not had, or had with another value	put
 *		had and not wanted								taken
 *
 * Only these are written, set by set, as any other writer of tags does:
 * profiles first, then cdp.profile_tag, whose trigger does the rest.
 *
 * A rule is checked by a trigger as the role that writes it, exactly as the
 * definition of a segment (segment_definition.c).
 *
 * SQL: sql/tag_rule.sql.  Tests: test/sql/tag_rule.sql.  Page: doc/tag_rule.md.
 */
#include "segment.h"
#include "tag_customer.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/shortest_dec.h"
#include "funcapi.h"
#include "identity_step.h"
#include "miscadmin.h"
#include "probe.h"
#include "rows.h"
#include "tag_query.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(cdp_tag_rule_changed);
PG_FUNCTION_INFO_V1(cdp_define_tag);
PG_FUNCTION_INFO_V1(cdp_refresh_tag);

extern Datum cdp_audience_of(PG_FUNCTION_ARGS);

#define COLUMNS		3

static char *
what_of(const char *tag)
{
	return psprintf("the rule of tag \"%s\"", tag);
}

/* ------------------------------------------------------------------ define */

static char *
text_of(HeapTuple tuple, TupleDesc desc, const char *column)
{
	return SPI_getvalue(tuple, desc, SPI_fnumber(desc, column));
}

static bool
differs(TriggerData *t, const char *column)
{
	TupleDesc	desc = RelationGetDescr(t->tg_relation);
	int			n = SPI_fnumber(desc, column);
	Form_pg_attribute att = TupleDescAttr(desc, n - 1);
	bool		anull;
	bool		bnull;
	Datum		a = SPI_getbinval(t->tg_trigtuple, desc, n, &anull);
	Datum		b = SPI_getbinval(t->tg_newtuple, desc, n, &bnull);

	return anull != bnull || (!anull && !datum_image_eq(a, b, att->attbyval, att->attlen));
}

/* does the declared type of the tag go with what the rule returns? */
static void
check_value_type(const char *tag, const char *declared, const CdpAsked *asked)
{
	bool		wants = declared != NULL && strcmp(declared, "none") != 0;

	if (declared != NULL && wants != asked->has_value)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg(wants ? "tag \"%s\" takes a value of type %s, and its rule gives none" :
						"the rule of tag \"%s\" gives a value, and the tag is declared as %s", tag, declared),
				 errhint(wants ? "Return a column value, or define the tag with value_type => 'none'." :
						 "Define the tag with value_type => 'number', 'date' or 'text', or leave column value out.")));
}

/* 42P19 when rules of tags that are tagqueries ask for each other */
static void
check_circle(const char *tag, List *tags)
{
	Oid			types[2] = {TEXTOID, TEXTARRAYOID};
	Datum		args[2] = {CStringGetTextDatum(tag), cdp_names_array(tags)};

	if (tags == NIL)
		return;
	if (SPI_execute_with_args("WITH RECURSIVE asks(name, asked) AS ("
							  "  SELECT $1, unnest($2) UNION ALL SELECT t.name, a FROM cdp.tag t, unnest(t.rule_tags) a WHERE t.name <> $1"
							  "), edge(name, asked) AS ("
							  "  SELECT a.name, t.name FROM asks a JOIN (SELECT name FROM cdp.tag WHERE rule IS NOT NULL AND name <> $1 UNION SELECT $1) t"
							  "   ON t.name = a.asked OR (a.asked LIKE '%.*' AND (t.name = left(a.asked, -2) OR starts_with(t.name, left(a.asked, -1))))"
							  "), reached(name) AS ("
							  "  SELECT asked FROM edge WHERE name = $1 UNION SELECT e.asked FROM reached r JOIN edge e USING (name)"
							  ") SELECT (SELECT string_agg(DISTINCT name, ', ') FROM reached) WHERE EXISTS (SELECT FROM reached WHERE name = $1)",
							  2, types, args, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.tag");
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_RECURSION),
				 errmsg("the rule of tag \"%s\" would ask for that tag itself", tag),
				 errdetail("Rules of these tags are on the way: %s.", SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)),
				 errhint("Leave one of them out of the rule of the one before it.")));
}

/*
 * Trigger on cdp.tag, behind the one that notes who writes a rule: looks at
 * the rule as that role.
 */
Datum
cdp_tag_rule_changed(PG_FUNCTION_ARGS)
{
	TriggerData *t = (TriggerData *) fcinfo->context;
	static const char *const columns[COLUMNS] = {"rule_path", "rule_tags", "rule_segments"};
	bool		update;
	HeapTuple	tuple;
	TupleDesc	desc;
	char	   *rule;
	char	   *tag;
	Datum		values[COLUMNS] = {0};
	bool		nulls[COLUMNS] = {true, true, true};
	int			numbers[COLUMNS];
	CdpAsked	asked;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cdp._tag_rule_changed() must be called as a trigger")));
	update = TRIGGER_FIRED_BY_UPDATE(t->tg_event);
	tuple = update ? t->tg_newtuple : t->tg_trigtuple;
	desc = RelationGetDescr(t->tg_relation);
	if (update && !differs(t, "rule") && !differs(t, "owner") && !differs(t, "value_type") &&
		!differs(t, columns[0]) && !differs(t, columns[1]) && !differs(t, columns[2]))
		PG_RETURN_POINTER(tuple);
	tag = text_of(tuple, desc, "name");
	rule = text_of(tuple, desc, "rule");
	if (rule != NULL)
	{
		CdpDefinition d = {rule, GetUserNameFromId(GetUserId(), false), cdp_definition_path(), what_of(tag), COLUMNS};
		CdpVerb		verb;

		cdp_segment_lock_definitions();
		cdp_definition_check(&d, &asked);
		check_value_type(tag, text_of(tuple, desc, "value_type"), &asked);
		cdp_begin_write(&verb, "define_tag");
		cdp_segment_check_dependencies("", asked.segments);
		check_circle(tag, asked.tags);
		cdp_end(&verb);
		values[0] = CStringGetTextDatum(d.search_path);
		values[1] = cdp_names_array(asked.tags);
		values[2] = cdp_names_array(asked.segments);
		memset(nulls, false, sizeof(nulls));
	}
	for (int i = 0; i < COLUMNS; i++)
		numbers[i] = SPI_fnumber(desc, columns[i]);
	PG_RETURN_POINTER(heap_modify_tuple_by_cols(tuple, desc, COLUMNS, numbers, values, nulls));
}

/*
 * cdp.define_tag(name, kind, value_type, default_ttl, rule, owner, description, emits_events)
 *
 * As the caller and under his search_path, which a rule keeps; no name and no
 * operator of the statement is looked up there.
 */
Datum
cdp_define_tag(PG_FUNCTION_ARGS)
{
	Oid			types[7] = {TEXTOID, TEXTOID, TEXTOID, INTERVALOID, TEXTOID, TEXTOID, BOOLOID};
	static const int places[7] = {0, 1, 2, 3, 4, 6, 7};
	Datum		args[7];
	char		nulls[7];

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name must not be NULL"),
				 errhint("A tag is known by its name, for example region.华东.")));
	if (!PG_ARGISNULL(5) && strcmp(text_to_cstring(PG_GETARG_TEXT_PP(5)), GetUserNameFromId(GetUserId(), false)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a rule belongs to the role that writes it"),
				 errhint("Leave owner out, or SET ROLE to that role first.")));
	cdp_check_version();
	PreventCommandDuringRecovery("define_tag");
	PreventCommandIfReadOnly("define_tag");
	PreventCommandIfParallelMode("define_tag");
	for (int i = 0; i < 7; i++)
	{
		args[i] = PG_GETARG_DATUM(places[i]);
		nulls[i] = PG_ARGISNULL(places[i]) ? 'n' : ' ';
	}
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("INSERT INTO cdp.tag (name, kind, value_type, default_ttl, rule, description, emits_events)"
							  " VALUES ($1, $2, $3, $4, $5, $6, COALESCE($7, false))"
							  " ON CONFLICT ON CONSTRAINT tag_pkey DO UPDATE SET kind = excluded.kind, value_type = excluded.value_type,"
							  " default_ttl = excluded.default_ttl, rule = excluded.rule, description = excluded.description,"
							  " emits_events = excluded.emits_events", 7, types, args, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write cdp.tag");
	SPI_finish();
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------ wanted */

/* one customer who shall have the tag */
typedef struct Wanted
{
	int64		customer_id;
	TagValue	value;
	TimestampTz valid_until;
} Wanted;

typedef struct Collector
{
	const char *tag;
	bool		typed;			/* the tag has a declared type: this one */
	TagValueType type;
	Wanted	   *wanted;
	int64		n;
	int64		room;
	TimestampTz now;
	MemoryContext context;
} Collector;

pg_noreturn static void
refuse_value(const Collector *c, const char *type)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the rule gives a value that is no %s", type),
			 errhint("Cast column value in the rule, or define the tag with another value_type.")));
}

static void
read_number(const Collector *c, double number, TagValue *value)
{
	if (!isnan(number) && !isinf(number))
		number = cdp_tag_round(number);
	if (!cdp_tag_is_number(number))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("the rule gives a number that a tag cannot hold"),
				 errhint("A number is finite.")));
	value->type = TAG_NUMBER;
	value->number = number;
}

/* the double that is written as this real: 0.1, not 0.100000001490116 */
static double
widen(float4 number)
{
	char		digits[FLOAT_SHORTEST_DECIMAL_LEN];

	float_to_shortest_decimal_buf(number, digits);
	return strtod(digits, NULL);
}

/* a text, or what has to become one without losing a digit */
static char *
text_of_value(const Collector *c, Datum d, Oid base)
{
	TagValue	number;

	switch (base)
	{
		case INT2OID:
			return psprintf("%d", DatumGetInt16(d));
		case INT4OID:
			return psprintf("%d", DatumGetInt32(d));
		case INT8OID:
			return psprintf(INT64_FORMAT, DatumGetInt64(d));
		case NUMERICOID:
			read_number(c, DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, d)), &number);
			return numeric_normalize(DatumGetNumeric(d));
	}
	return TextDatumGetCString(d);
}

/* column value of a row as what the tag holds */
static void
read_value(Collector *c, Datum d, Oid type, TagValue *value)
{
	Oid			base = getBaseType(type);
	char	   *string;
	int			len;

	/* a number in a text is a name, such as that of a card */
	switch (c->typed && c->type == TAG_TEXT && base != FLOAT4OID && base != FLOAT8OID && base != DATEOID ? TEXTOID : base)
	{
		case INT2OID:
			read_number(c, DatumGetInt16(d), value);
			break;
		case INT4OID:
			read_number(c, DatumGetInt32(d), value);
			break;
		case INT8OID:
			read_number(c, (double) DatumGetInt64(d), value);
			break;
		case FLOAT4OID:
			read_number(c, widen(DatumGetFloat4(d)), value);
			break;
		case FLOAT8OID:
			read_number(c, DatumGetFloat8(d), value);
			break;
		case NUMERICOID:
			read_number(c, DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, d)), value);
			break;
		case DATEOID:
			value->type = TAG_DATE;
			value->date = DatumGetDateADT(d);
			if (!cdp_tag_is_date(value->date))
				refuse_value(c, "date of the years 1 to 9999");
			break;
		default:
			string = text_of_value(c, d, base);
			len = strlen(string);
			if (c->typed && c->type == TAG_NUMBER)
			{
				if (!cdp_tag_parse_number(string, len, &value->number))
					refuse_value(c, "number");
				value->type = TAG_NUMBER;
			}
			else if (c->typed && c->type == TAG_DATE)
			{
				if (!cdp_tag_parse_date(string, len, &value->date))
					refuse_value(c, "date");
				value->type = TAG_DATE;
			}
			else
			{
				cdp_tag_check_text(len, "value");
				value->type = TAG_TEXT;
				value->text = string;
				value->text_len = len;
			}
			return;
	}
	if (c->typed && c->type == TAG_TEXT)
	{
		value->text = cdp_tag_value_text(value);
		value->text_len = strlen(value->text);
		value->type = TAG_TEXT;
	}
	else if (c->typed && c->type != value->type)
		refuse_value(c, cdp_tag_type_name(c->type));
}

static Wanted *
next_wanted(Collector *c)
{
	if (c->n == c->room)
	{
		c->room = Max(c->room * 2, 1024);
		c->wanted = c->wanted == NULL ? MemoryContextAllocHuge(c->context, sizeof(Wanted) * c->room) :
			repalloc_huge(c->wanted, sizeof(Wanted) * c->room);
	}
	memset(&c->wanted[c->n], 0, sizeof(Wanted));
	c->wanted[c->n].valid_until = DT_NOEND;
	return &c->wanted[c->n++];
}

/* one row of a rule that is a query */
static void
collect_row(TupleTableSlot *slot, void *arg)
{
	Collector  *c = arg;
	MemoryContext before = MemoryContextSwitchTo(c->context);
	TupleDesc	desc = slot->tts_tupleDescriptor;
	bool		isnull;
	int64		id = DatumGetInt64(slot_getattr(slot, 1, &isnull));
	bool		counts = true;
	Wanted	   *w;

	if (!isnull && id > 0)
	{
		w = next_wanted(c);
		w->customer_id = id;
		if (desc->natts > 1)
		{
			Datum		d = slot_getattr(slot, 2, &isnull);

			if (!isnull)
				read_value(c, d, TupleDescAttr(desc, 1)->atttypid, &w->value);
			else if (c->typed && c->type != TAG_NONE)
				counts = false; /* without a value there is no tag */
		}
		if (desc->natts > 2)
		{
			Datum		d = slot_getattr(slot, 3, &isnull);

			if (!isnull)
				w->valid_until = DatumGetTimestampTz(d);
			if (w->valid_until != DT_NOEND && w->valid_until <= c->now)
				counts = false; /* has ended already */
			else if (w->valid_until != DT_NOEND && !cdp_tag_is_instant(w->valid_until))
				refuse_value(c, "valid_until of the years 1 to 9999");
		}
		if (!counts)
			c->n--;
	}
	MemoryContextSwitchTo(before);
}

static int
compare_values(const TagValue *a, const TagValue *b)
{
	int			cmp;

	if (a->type != b->type)
		return a->type < b->type ? -1 : 1;
	switch (a->type)
	{
		case TAG_NUMBER:
			return a->number < b->number ? -1 : a->number > b->number;
		case TAG_DATE:
			return a->date < b->date ? -1 : a->date > b->date;
		case TAG_TEXT:
			cmp = memcmp(a->text, b->text, Min(a->text_len, b->text_len));
			return cmp != 0 ? cmp : a->text_len - b->text_len;
		case TAG_NONE:
			break;
	}
	return 0;
}

/* of several rows of one customer the one with the largest value, then the one that holds longest, comes last */
static int
compare_wanted(const void *x, const void *y)
{
	const Wanted *a = x;
	const Wanted *b = y;
	int			cmp;

	if (a->customer_id != b->customer_id)
		return a->customer_id < b->customer_id ? -1 : 1;
	cmp = compare_values(&a->value, &b->value);
	return cmp != 0 ? cmp : a->valid_until < b->valid_until ? -1 : a->valid_until > b->valid_until;
}

/* under One IDs, each once, ascending; who is nobody is left out */
static void
settle(Collector *c)
{
	CdpAudience *everyone = cdp_everyone();
	CdpProbe   *probe = cdp_probe_open("profile_alias", "profile_alias_pkey");
	AttrNumber	column = cdp_probe_column(probe, "customer_id");
	int64		n = 0;

	for (int64 i = 0; i < c->n; i++)
	{
		Wanted	   *w = &c->wanted[i];
		bool		isnull;

		if (!cdp_audience_has(everyone, w->customer_id))
		{
			TupleTableSlot *slot = cdp_probe_int8(probe, w->customer_id);

			w->customer_id = slot == NULL ? 0 : DatumGetInt64(slot_getattr(slot, column, &isnull));
			if (w->customer_id == 0 || !cdp_audience_has(everyone, w->customer_id))
				continue;
		}
		c->wanted[n++] = *w;
	}
	cdp_probe_close(probe);
	if (n > 1)
		qsort(c->wanted, n, sizeof(Wanted), compare_wanted);
	c->n = 0;
	for (int64 i = 0; i < n; i++)
	{
		if (i + 1 == n || c->wanted[i + 1].customer_id != c->wanted[i].customer_id)
			c->wanted[c->n++] = c->wanted[i];
	}
}

static void
collect(Collector *c, const CdpDefinition *d, Oid owner)
{
	if (cdp_definition_is_query(d->text))
		cdp_definition_rows(d, owner, collect_row, c);
	else
	{
		CdpAudienceWalk w;
		int64		id;

		cdp_audience_walk_begin(&w, cdp_definition_audience(d, owner));
		while (cdp_audience_walk_next(&w, &id))
			next_wanted(c)->customer_id = id;
	}
	settle(c);
}

/* ----------------------------------------------------------------- changes */

/* what is written: customer_id, and an entry of the tag or NULL */
typedef struct Changes
{
	CdpRows    *rows;
	int64		n;
} Changes;

static void
add_change(Changes *changes, const char *tag, int64 customer_id, const Wanted *w)
{
	Datum		values[2] = {Int64GetDatum(customer_id), (Datum) 0};
	bool		nulls[2] = {false, w == NULL};

	cdp_rows_start(changes->rows);
	if (w != NULL)
	{
		TagEntry	entry = {tag, strlen(tag), w->value, w->valid_until};

		values[1] = PointerGetDatum(cdp_tagset_build(&entry, 1));
	}
	cdp_rows_put(changes->rows, values, nulls);
	changes->n++;
}

/* has he it exactly so? asked in the order of ids */
static bool
has_exactly(CdpProbe *p, AttrNumber column, const char *tag, const Wanted *w)
{
	TupleTableSlot *slot = cdp_probe_ascend(p, w->customer_id);
	bool		isnull;
	Datum		d = slot == NULL ? (Datum) 0 : slot_getattr(slot, column, &isnull);
	struct varlena *tags;
	TagSet		set;
	TagEntry	entry;
	int			i;
	bool		same = false;

	if (slot == NULL || isnull)
		return false;
	tags = PG_DETOAST_DATUM_PACKED(d);
	cdp_tagset_open(&set, tags);
	i = cdp_tagset_find(&set, tag, strlen(tag));
	if (i >= 0)
	{
		cdp_tagset_entry(&set, i, &entry);
		same = entry.valid_until == w->valid_until && compare_values(&entry.value, &w->value) == 0;
	}
	if ((Pointer) tags != DatumGetPointer(d))
		pfree(tags);
	return same;
}

static void
compare(const Collector *c, Changes *changes)
{
	StringInfoData name;
	CdpAudience *has;
	CdpAudienceState *wanted = cdp_audience_state_new(CurrentMemoryContext);
	CdpProbe   *p = cdp_probe_open_ascending("profile_tag", "profile_tag_pkey");
	AttrNumber	column = cdp_probe_column(p, "tags");
	CdpAudienceWalk walk;
	int64		id;

	initStringInfo(&name);
	cdp_tag_put_name(&name, c->tag, strlen(c->tag));
	/* words of the language are names where nothing follows; a query is read as one */
	has = (CdpAudience *) DatumGetPointer(DirectFunctionCall2(cdp_audience_of, PointerGetDatum(cdp_tagquery_parse(name.data)),
															  TimestampTzGetDatum(c->now)));
	for (int64 i = 0; i < c->n; i++)
	{
		const Wanted *w = &c->wanted[i];

		CHECK_FOR_INTERRUPTS();
		cdp_audience_state_add(wanted, w->customer_id);
		if (!cdp_audience_has(has, w->customer_id) || !has_exactly(p, column, c->tag, w))
			add_change(changes, c->tag, w->customer_id, w);
	}
	cdp_probe_close(p);
	cdp_audience_walk_begin(&walk, cdp_audience_without(has, cdp_audience_state_value(wanted)));
	while (cdp_audience_walk_next(&walk, &id))
		add_change(changes, c->tag, id, NULL);
}

/* under the locks of the profiles; who became part of another customer meanwhile is left for the next time */
static void
write_changes(const char *tag, Changes *changes)
{
	static const CdpTagWriter writer = {.source = "rule", .by_rule = true, .locked = true};
	static SPIPlanPtr lock = NULL;
	static CdpTagPlan plans[3];
	static const Oid types[1] = {TEXTOID};
	static const char *const statements[3] = {
		"UPDATE cdp.profile_tag p SET tags = p.tags OPERATOR(cdp.+) c.entry FROM changed c"
		" WHERE p.profile_id = c.customer_id AND c.entry IS NOT NULL AND p.tags IS NOT NULL AND $1 IS NOT NULL"
		" AND NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = c.customer_id)",
		"INSERT INTO cdp.profile_tag (profile_id, tags) SELECT c.customer_id, c.entry FROM changed c WHERE c.entry IS NOT NULL AND $1 IS NOT NULL"
		" AND EXISTS (SELECT FROM cdp.profile f WHERE f.profile_id = c.customer_id)"
		" AND NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = c.customer_id)"
		" AND NOT EXISTS (SELECT FROM cdp.profile_tag p WHERE p.profile_id = c.customer_id)",
		"UPDATE cdp.profile_tag p SET tags = p.tags OPERATOR(cdp.-) ARRAY[$1] FROM changed c"
		" WHERE p.profile_id = c.customer_id AND c.entry IS NULL AND p.tags IS NOT NULL"
		" AND NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = c.customer_id)",
	};
	Datum		args[1] = {CStringGetTextDatum(tag)};

	if (changes->n == 0)
		return;
	cdp_rows_publish(changes->rows);
	if (SPI_execute_plan(cdp_plan_generic(&lock, "SELECT FROM cdp.profile p WHERE p.profile_id IN (SELECT customer_id FROM changed)"
										  " ORDER BY p.profile_id FOR NO KEY UPDATE", 0, NULL), NULL, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not lock profiles");
	for (int i = 0; i < lengthof(statements); i++)
		(void) cdp_write_tags(cdp_tag_plan(&plans[i], statements[i], 1, types), args, NULL, &writer);
}

/* ----------------------------------------------------------------- refresh */

typedef struct Refresh
{
	CdpDefinition d;
	char	   *tag;
	char	   *value_type;
	Oid			caller;
	int64		changed;
} Refresh;

static bool
lock_tag(Refresh *r)
{
	Oid			types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(r->tag)};
	HeapTuple	tuple;
	TupleDesc	desc;

	if (SPI_execute_with_args("SELECT rule, owner, coalesce(rule_path, ''), value_type FROM cdp.tag WHERE name = $1 FOR NO KEY UPDATE",
							  1, types, args, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.tag");
	if (SPI_processed == 0)
		return false;
	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	r->d.text = SPI_getvalue(tuple, desc, 1);
	r->d.owner = SPI_getvalue(tuple, desc, 2);
	r->d.search_path = SPI_getvalue(tuple, desc, 3);
	r->value_type = SPI_getvalue(tuple, desc, 4);
	r->d.what = what_of(r->tag);
	r->d.columns = COLUMNS;
	return r->d.text != NULL;
}

static bool
refresh_body(void *arg)
{
	static const char *const names[2] = {"customer_id", "entry"};
	Refresh    *r = arg;
	Oid			types[2] = {INT8OID, cdp_tagset_type()};
	Collector	c = {.tag = r->tag, .typed = r->value_type != NULL, .now = cdp_now_value(), .context = CurrentMemoryContext};
	Changes		changes = {cdp_rows_open("changed", 2, names, types), 0};
	Oid			sql_types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(r->tag)};

	for (int i = TAG_NONE; c.typed && i <= TAG_TEXT; i++)
	{
		if (strcmp(r->value_type, cdp_tag_type_name(i)) == 0)
			c.type = i;
	}
	cdp_push_fresh_snapshot();
	collect(&c, &r->d, cdp_definition_owner(&r->d, r->caller));
	compare(&c, &changes);
	PopActiveSnapshot();
	write_changes(r->tag, &changes);
	cdp_rows_close(changes.rows);
	if (SPI_execute_with_args("UPDATE cdp.tag SET refreshed_at = cdp.now(), last_error = NULL WHERE name = $1",
							  1, sql_types, args, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not write cdp.tag");
	r->changed = changes.n;
	return true;
}

/*
 * cdp._refresh_tag(tag text, quietly boolean, OUT changed bigint, OUT
 * state text, OUT message text, OUT hint text): state is that of the error
 * of the rule, which is kept with the tag.
 */
Datum
cdp_refresh_tag(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;
	Refresh		r = {.tag = text_to_cstring(PG_GETARG_TEXT_PP(0))};
	bool		quietly = PG_GETARG_BOOL(1);
	TupleDesc	desc;
	Datum		values[4] = {0};
	bool		nulls[4] = {false, true, true, true};
	CdpVerb		verb;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	cdp_begin_write(&verb, "refresh_tags");
	r.caller = verb.userid;
	if (lock_tag(&r))
	{
		MemoryContext spi = CurrentMemoryContext;
		Oid			owner = get_role_oid(r.d.owner, true);
		volatile bool may = !OidIsValid(owner) || !cdp_definition_is_query(r.d.text) || has_privs_of_role(r.caller, owner);

		if (!may && !quietly)
			(void) cdp_definition_owner(&r.d, r.caller);
		PG_TRY();
		{
			if (may)
				(void) cdp_attempt(refresh_body, &r);
		}
		PG_CATCH();
		{
			MemoryContextSwitchTo(caller);
			error = CopyErrorData();
			FlushErrorState();
		}
		PG_END_TRY();
		MemoryContextSwitchTo(spi);
		if (error != NULL)
		{
			Oid			types[2] = {TEXTOID, TEXTOID};
			Datum		args[2] = {CStringGetTextDatum(r.tag), CStringGetTextDatum(cdp_message_without_values(error))};

			if (SPI_execute_with_args("UPDATE cdp.tag SET last_error = $2 WHERE name = $1", 2, types, args, NULL, false, 0) != SPI_OK_UPDATE)
				elog(ERROR, "could not write cdp.tag");
		}
	}
	cdp_end(&verb);
	MemoryContextSwitchTo(caller);
	values[0] = Int64GetDatum(error == NULL ? r.changed : 0);
	if (error != NULL)
	{
		nulls[1] = nulls[2] = false;
		values[1] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
		values[2] = CStringGetTextDatum(cdp_message_without_values(error));
		nulls[3] = error->hint == NULL;
		values[3] = error->hint ? CStringGetTextDatum(error->hint) : (Datum) 0;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
