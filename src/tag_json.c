/*
 * tag_json.c
 *	  cdp.tagset as jsonb and back, exactly.
 *
 *		{"vip": null,
 *		 "aov": {"value": 1280.5, "valid_until": "2026-12-31T00:00:00Z"},
 *		 "grade": {"value": "gold"},
 *		 "birthday": {"value": "2019-05-01", "type": "date"}}
 *
 * A JSON string cannot tell a date from a text, so a date says its type; a
 * number is a JSON number.  Written by hand, a number or a string may stand
 * for {"value": ...}, and any value may say its type.
 *
 * SQL: sql/tag.sql.  Tests: test/sql/tag.sql, test/pgtap/tag.sql.  Page: doc/tag.md.
 */
#include "tag.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(cdp_tagset_to_jsonb);
PG_FUNCTION_INFO_V1(cdp_tagset_from_jsonb);

static void
push_string(JsonbParseState **state, JsonbIteratorToken token, const char *text, int len)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, text);
	v.val.string.len = len;
	pushJsonbValue(state, token, &v);
}

static void
push_member(JsonbParseState **state, const char *key, const char *text, int len)
{
	push_string(state, WJB_KEY, key, strlen(key));
	push_string(state, WJB_VALUE, text, len);
}

static void
push_value(JsonbParseState **state, const TagValue *value)
{
	StringInfoData buf;
	JsonbValue	v;

	initStringInfo(&buf);
	cdp_tag_put_value(&buf, value);
	switch (value->type)
	{
		case TAG_NONE:
			break;
		case TAG_NUMBER:
			push_string(state, WJB_KEY, "value", strlen("value"));
			v.type = jbvNumeric;
			v.val.numeric = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(buf.data),
																ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
			pushJsonbValue(state, WJB_VALUE, &v);
			break;
		case TAG_DATE:
			push_member(state, "value", buf.data, buf.len);
			push_member(state, "type", "date", strlen("date"));
			break;
		case TAG_TEXT:
			push_member(state, "value", value->text, value->text_len);
			break;
	}
}

/* tagset::jsonb */
Datum
cdp_tagset_to_jsonb(PG_FUNCTION_ARGS)
{
	JsonbParseState *state = NULL;
	TagSet		set;
	TagEntry	entry;

	PG_GETARG_TAGSET(0, &set);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (TagCursor c = {0}; cdp_tagset_next(&set, &c, &entry);)
	{
		push_string(&state, WJB_KEY, entry.name, entry.name_len);
		if (entry.value.type == TAG_NONE && entry.valid_until == DT_NOEND)
		{
			JsonbValue	null = {.type = jbvNull};

			pushJsonbValue(&state, WJB_VALUE, &null);
			continue;
		}
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		push_value(&state, &entry.value);
		if (entry.valid_until != DT_NOEND)
		{
			StringInfoData buf;

			initStringInfo(&buf);
			cdp_tag_put_instant(&buf, entry.valid_until);
			/* here always with its time of day, as JSON's readers know it */
			if (buf.data[buf.len - 1] != 'Z')
				appendStringInfoString(&buf, "T00:00:00Z");
			push_member(&state, "valid_until", buf.data, buf.len);
		}
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	PG_RETURN_POINTER(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* It is another kind of jsonb. */
pg_noreturn static void
refuse_shape(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("jsonb is no tagset: %s", why),
			 errhint("Its form is {\"vip\": null, \"aov\": {\"value\": 1280.5, \"valid_until\": \"2026-12-31T00:00:00Z\"}, \"birthday\": {\"value\": \"2019-05-01\", \"type\": \"date\"}}.")));
}

/* A number, a text or no value; whether a text is a date is said elsewhere. */
static void
read_value(const JsonbValue *v, TagValue *value)
{
	const char *digits;

	switch (v->type)
	{
		case jbvNull:
			value->type = TAG_NONE;
			break;
		case jbvNumeric:
			digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric)));
			value->type = TAG_NUMBER;
			if (!cdp_tag_parse_number(digits, strlen(digits), &value->number))
				refuse_shape("a value is no finite number");
			break;
		case jbvString:
			value->type = TAG_TEXT;
			value->text = v->val.string.val;
			value->text_len = v->val.string.len;
			break;
		default:
			refuse_shape("a value is neither a number nor a string nor null");
	}
}

/* What "type" says must be what the value is; a string may become a date. */
static void
apply_type(const JsonbValue *type, TagValue *value)
{
	if (type->type != jbvString)
		refuse_shape("a type is not a string");
	if (cdp_key_is(type, "date"))
	{
		if (value->type != TAG_TEXT || !cdp_tag_parse_date(value->text, value->text_len, &value->date))
			refuse_shape("a date is not written as \"2026-12-31\"");
		value->type = TAG_DATE;
	}
	else if (!cdp_key_is(type, value->type == TAG_NONE ? "none" : value->type == TAG_NUMBER ? "number" : "text"))
		refuse_shape("a type does not fit its value; it is none, number, date or text");
}

/* {"value": …, "type": …, "valid_until": …}, each of which may be missing */
static void
read_object(JsonbContainer *container, TagEntry *entry)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbIteratorToken token = JsonbIteratorNext(&it, &(JsonbValue) {0}, false);
	JsonbValue	key;
	JsonbValue	v;
	JsonbValue	said_type = {.type = jbvNull};

	if (token != WJB_BEGIN_OBJECT)
		refuse_shape("a tag is an array");
	while (JsonbIteratorNext(&it, &key, false) == WJB_KEY)
	{
		JsonbIteratorNext(&it, &v, true);
		if (cdp_key_is(&key, "value"))
			read_value(&v, &entry->value);
		else if (cdp_key_is(&key, "type"))
			said_type = v;
		else if (!cdp_key_is(&key, "valid_until"))
			refuse_shape("a tag has a key other than value, type and valid_until");
		else if (v.type != jbvNull &&
				 (v.type != jbvString || !cdp_tag_parse_instant(v.val.string.val, v.val.string.len, &entry->valid_until)))
			refuse_shape("a valid_until is not written as \"2026-12-31T08:30:00Z\"");
	}
	if (said_type.type != jbvNull)
		apply_type(&said_type, &entry->value);
}

/* jsonb::tagset */
Datum
cdp_tagset_from_jsonb(PG_FUNCTION_ARGS)
{
	Jsonb	   *jsonb = PG_GETARG_JSONB_P(0);
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	v;
	TagEntry   *entries;
	int			count = 0;

	if (!JB_ROOT_IS_OBJECT(jsonb))
		refuse_shape("it is not an object");
	entries = palloc(JB_ROOT_COUNT(jsonb) * sizeof(TagEntry));
	it = JsonbIteratorInit(&jsonb->root);
	JsonbIteratorNext(&it, &v, false);
	while (JsonbIteratorNext(&it, &key, false) == WJB_KEY)
	{
		TagEntry   *e = &entries[count++];

		CHECK_FOR_INTERRUPTS();
		JsonbIteratorNext(&it, &v, true);
		e->name = key.val.string.val;
		e->name_len = key.val.string.len;
		cdp_tag_check_name(e->name, e->name_len, "tag");
		e->value.type = TAG_NONE;
		e->valid_until = DT_NOEND;
		if (v.type == jbvBinary)
			read_object(v.val.binary.data, e);
		else
			read_value(&v, &e->value);
		if (e->value.type == TAG_TEXT)
			cdp_tag_check_text(e->value.text_len, "tag");
	}
	PG_RETURN_POINTER(cdp_tagset_build(entries, count));
}
