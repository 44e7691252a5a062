/*
 * tag_customer_item.c
 *	  What is meant by an item of add_tag, remove_tag and add_tag_many: its
 *	  name, value and validity, from JSON or as given, and what cdp.tag says
 *	  of them.
 *
 * Page: doc/tag_customer.md.  Tests: test/sql/tag_customer.sql,
 * test/pgtap/tag_customer.sql.
 */
#include "tag_customer_item.h"

#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

void
cdp_tag_about_item(void *arg)
{
	const TagItem *item = arg;

	if (item->ord > 0)
		errcontext("item %d", item->ord);
}

void
cdp_tag_about_value(void *arg)
{
	cdp_tag_about_item(arg);
	if (geterrcode() == ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE)
		errhint("A long number is an identifier: declare the tag with cdp.define_tag(name, value_type => 'text').");
}

void
cdp_tag_refuse_null(const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s must not be NULL", what),
			 errhint("%s", hint)));
}

pg_noreturn static void
refuse_value(const TagItem *item, const char *type)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("tag \"%.*s\" takes a value of type %s", item->name_len, item->name, type),
			 errhint(strcmp(type, "none") == 0 ? "Leave the value out, or declare the tag with cdp.define_tag(name, value_type => 'text')." :
					 "cdp.define_tag() says what type a tag has; a date is YYYY-MM-DD.")));
}

/* the value as the tag's type, or as what it looks like */
static void
read_value(TagItem *item, const CdpTagRule *rule)
{
	bool		typed = rule != NULL && rule->typed;
	TagValueType type = typed ? rule->value_type : TAG_NONE;

	memset(&item->value, 0, sizeof(TagValue));
	if (item->text == NULL)
	{
		if (typed && type != TAG_NONE)
			refuse_value(item, cdp_tag_type_name(type));
		return;
	}
	if (typed && type == TAG_NONE)
		refuse_value(item, "none");
	if ((!typed || type == TAG_NUMBER) && cdp_tag_parse_number(item->text, item->text_len, &item->value.number))
	{
		item->value.type = TAG_NUMBER;
		return;
	}
	if ((!typed || type == TAG_DATE) && cdp_tag_parse_date(item->text, item->text_len, &item->value.date))
	{
		item->value.type = TAG_DATE;
		return;
	}
	if (typed && type != TAG_TEXT)
		refuse_value(item, cdp_tag_type_name(type));
	if (item->text_len > TAG_MAX_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the value of tag \"%.*s\" is longer than %d bytes", item->name_len, item->name, TAG_MAX_NAME),
				 errhint("Long texts are traits of a customer; a tag holds what is asked for.")));
	item->value.type = TAG_TEXT;
	item->value.text = item->text;
	item->value.text_len = item->text_len;
}

void
cdp_tag_check_item(TagItem *item)
{
	const CdpTagRule *rule;

	if (item->remove && item->name_len > 2 && memcmp(item->name + item->name_len - 2, ".*", 2) == 0)
	{
		item->below = true;
		item->name_len -= 2;
	}
	cdp_tag_check_name(item->name, item->name_len, "tag");
	rule = item->below ? NULL : cdp_tag_rule(item->name, item->name_len);
	if (rule != NULL && rule->has_rule)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tag \"%s\" belongs to its rule", rule->name),
				 errhint("CALL cdp.refresh_tags('%s') writes it; cdp.define_tag() without rule gives it back to you.", rule->name)));
	if (item->remove)
		return;
	read_value(item, rule);
	if (item->valid_until == DT_NOEND)
	{
		if (rule != NULL && rule->expires)
			item->valid_until = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(cdp_now_value()),
																		IntervalPGetDatum(unconstify(Interval *, &rule->default_ttl))));
	}
	if (item->valid_until != DT_NOEND && !cdp_tag_is_instant(item->valid_until))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("valid_until is not a moment between the years 1 and 9999"),
				 errhint("NULL or infinity: the tag stays until it is removed.")));
}

pg_noreturn static void
refuse_item(const char *problem, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", problem),
			 errhint("%s", hint)));
}

/* a whole number from 1 to 2^63 - 1 */
static bool
read_id(Numeric number, int64 *id)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	char	   *end;

	errno = 0;
	*id = strtoll(text, &end, 10);
	return errno == 0 && *end == '\0' && *id > 0;
}

/* one member of an item */
static void
read_member(TagItem *item, const JsonbValue *key, JsonbValue *v)
{
	bool		is_text = v->type == jbvString;

	if (cdp_key_is(key, "customer_id"))
	{
		if (v->type == jbvNull)
			return;
		if (v->type != jbvNumeric || !read_id(v->val.numeric, &item->given))
			refuse_item("customer_id must be the id of a customer", "It is a whole number, what cdp.identify() answers.");
	}
	else if (cdp_key_is(key, "tag"))
	{
		if (v->type == jbvNull)
			return;
		if (!is_text)
			refuse_item("tag must be a string", "The name of the tag as it is, without further quotes.");
		item->name = v->val.string.val;
		item->name_len = v->val.string.len;
	}
	else if (cdp_key_is(key, "value"))
	{
		if (v->type == jbvNumeric)
		{
			item->text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric)));
			item->text_len = strlen(item->text);
		}
		else if (is_text)
		{
			item->text = v->val.string.val;
			item->text_len = v->val.string.len;
		}
		else if (v->type != jbvNull)
			refuse_item("value must be a number or a string", "A date is a string, YYYY-MM-DD; leave value out where there is none.");
	}
	else if (cdp_key_is(key, "valid_until"))
	{
		if (v->type == jbvNull)
			return;
		if (!is_text || !cdp_parse_moment(pnstrdup(v->val.string.val, v->val.string.len), &item->valid_until))
			refuse_item("valid_until is not a moment", "Write it as \"2026-12-31T00:00:00+08:00\".");
	}
	else if (cdp_key_is(key, "remove"))
	{
		if (v->type != jbvBool)
			refuse_item("remove must be true or false", "\"remove\": true takes the tag away.");
		item->remove = v->val.boolean;
	}
	else
		refuse_item("an item has a key that is not known", "The keys are customer_id, tag, value, valid_until and remove.");
}

void
cdp_tag_read_item(TagItem *item, const JsonbValue *element, int ord)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key,
				v;

	ErrorContextCallback context = {error_context_stack, cdp_tag_about_item, item};

	memset(item, 0, sizeof(TagItem));
	item->ord = ord;
	item->valid_until = DT_NOEND;
	error_context_stack = &context;
	if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
		refuse_item("an item must be an object", "For example {\"customer_id\": 7, \"tag\": \"vip\"}.");
	it = JsonbIteratorInit(element->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &v, true);
		read_member(item, &key, &v);
	}
	if (item->given == 0 || item->name == NULL)
		cdp_tag_refuse_null(item->name == NULL ? "tag" : "customer_id", "For example {\"customer_id\": 7, \"tag\": \"vip\"}.");
	if (item->remove && item->text != NULL)
		refuse_item("a tag is removed whatever its value is", "Leave value out.");
	error_context_stack = context.previous;
}
