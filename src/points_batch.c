/*
 * points_batch.c
 *	  [{"kind": "earn", "customer_id": 7, "amount": 10, ...}, ...] -> items.
 *
 * Names are those of the verbs' arguments.  A name that the verb does not
 * have is refused: a misspelt "expires_at" would be points that never expire.
 *
 * Page: doc/points.md.  Tests: test/sql/points.sql,
 * test/pgtap/points_rejection.sql.
 */
#include "points.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

enum
{
	A_CUSTOMER = 1, A_AMOUNT = 2, A_KEY = 4, A_REFERENCE = 8, A_EXPIRES = 16, A_PROGRAM = 32, A_AVAILABLE = 64,
	A_OCCURRED = 128, A_DETAILS = 256, A_FROM = 512, A_TO = 1024, A_REASON = 2048
};

static const struct
{
	const char *kind;
	PointsVerb	verb;
	int			arguments;
}			kinds[] = {
	{"earn", POINTS_EARN, A_CUSTOMER | A_AMOUNT | A_KEY | A_REFERENCE | A_EXPIRES | A_PROGRAM | A_AVAILABLE | A_OCCURRED | A_DETAILS},
	{"spend", POINTS_SPEND, A_CUSTOMER | A_AMOUNT | A_KEY | A_REFERENCE | A_PROGRAM | A_DETAILS},
	{"refund", POINTS_REFUND, A_CUSTOMER | A_AMOUNT | A_KEY | A_REFERENCE | A_PROGRAM},
	{"clawback", POINTS_CLAWBACK, A_CUSTOMER | A_AMOUNT | A_KEY | A_REFERENCE | A_PROGRAM},
	{"adjust", POINTS_ADJUST, A_CUSTOMER | A_AMOUNT | A_KEY | A_REASON | A_PROGRAM},
	{"transfer", POINTS_TRANSFER, A_FROM | A_TO | A_AMOUNT | A_KEY | A_REFERENCE | A_PROGRAM},
};

static const struct
{
	const char *name;
	int			argument;
}			arguments[] = {
	{"customer_id", A_CUSTOMER}, {"amount", A_AMOUNT}, {"idempotency_key", A_KEY}, {"reference", A_REFERENCE},
	{"expires_at", A_EXPIRES}, {"program", A_PROGRAM}, {"available_at", A_AVAILABLE}, {"occurred_at", A_OCCURRED},
	{"details", A_DETAILS}, {"from_customer", A_FROM}, {"to_customer", A_TO}, {"reason", A_REASON},
};

pg_noreturn static void
refuse(int ord, int code, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(code), errmsg("item %d: %s", ord, what), errhint("%s", hint)));
}

static text *
text_of(const JsonbValue *v, int ord, const char *name)
{
	if (v->type != jbvString)
		refuse(ord, ERRCODE_INVALID_PARAMETER_VALUE, psprintf("%s must be text", name), "Put it into quotation marks.");
	return cstring_to_text_with_len(v->val.string.val, v->val.string.len);
}

/* a whole number, as such or as text */
static int64
number_of(const JsonbValue *v, int ord, const char *name)
{
	Numeric		number;
	Numeric		whole;
	int64		result;
	bool		too_large = false;

	if (v->type == jbvNumeric)
		number = v->val.numeric;
	else if (v->type == jbvString)
	{
		char	   *s = pnstrdup(v->val.string.val, v->val.string.len);

		if (strspn(s, "0123456789+-.eE ") != strlen(s) || strpbrk(s, "0123456789") == NULL || strlen(s) > 100)
			refuse(ord, ERRCODE_INVALID_TEXT_REPRESENTATION, psprintf("%s is no number", name), "Give a whole number.");
		PG_TRY();
		{
			number = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(s), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
		}
		PG_CATCH();
		{
			ErrorData  *error;

			MemoryContextSwitchTo(GetMemoryChunkContext(s));
			error = CopyErrorData();
			FlushErrorState();
			refuse(ord, error->sqlerrcode, psprintf("%s is no number", name), "Give a whole number.");
		}
		PG_END_TRY();
	}
	else
		refuse(ord, ERRCODE_INVALID_PARAMETER_VALUE, psprintf("%s must be a number", name), "Give a whole number.");
	whole = DatumGetNumeric(DirectFunctionCall2(numeric_trunc, NumericGetDatum(number), Int32GetDatum(0)));
	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(number), NumericGetDatum(whole))))
		refuse(ord, ERRCODE_INVALID_PARAMETER_VALUE, psprintf("%s must be a whole number", name), "There are no parts of a point.");
	too_large = DatumGetBool(DirectFunctionCall2(numeric_gt,
												 DirectFunctionCall1(numeric_abs, NumericGetDatum(whole)),
												 DirectFunctionCall1(int8_numeric, Int64GetDatum(PG_INT64_MAX))));
	if (too_large)
		refuse(ord, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, psprintf("%s is too large", name), "It lies between 1 and 9000000000000000.");
	result = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(whole)));
	return result;
}

static TimestampTz
moment_of(const JsonbValue *v, int ord, const char *name)
{
	TimestampTz at;

	if (v->type != jbvString || !cdp_parse_moment(pnstrdup(v->val.string.val, v->val.string.len), &at) || TIMESTAMP_IS_NOBEGIN(at))
		refuse(ord, ERRCODE_INVALID_PARAMETER_VALUE, psprintf("%s is no moment", name), "Write it as 2026-03-01T09:00:00+08:00.");
	return at;
}

static void
take_argument(PointsItem *item, int argument, const char *name, JsonbValue *v)
{
	text	   *t;

	if (v->type == jbvNull)
		return;
	switch (argument)
	{
		case A_CUSTOMER:
		case A_FROM:
			item->profile_id = number_of(v, item->ord, name);
			item->has_profile = true;
			break;
		case A_TO:
			item->other_id = number_of(v, item->ord, name);
			break;
		case A_AMOUNT:
			item->amount = number_of(v, item->ord, name);
			item->has_amount = true;
			break;
		case A_KEY:
			item->key = text_of(v, item->ord, name);
			break;
		case A_REFERENCE:
			item->reference = text_of(v, item->ord, name);
			break;
		case A_PROGRAM:
			t = text_of(v, item->ord, name);
			item->program_name = VARDATA_ANY(t);
			item->program_len = VARSIZE_ANY_EXHDR(t);
			break;
		case A_EXPIRES:
			item->expires_at = moment_of(v, item->ord, name);
			break;
		case A_AVAILABLE:
			item->available_at = moment_of(v, item->ord, name);
			break;
		case A_OCCURRED:
			item->occurred_at = moment_of(v, item->ord, name);
			break;
		case A_DETAILS:
			item->details = cdp_jsonb_copy(v);
			break;
		case A_REASON:
			item->details = points_details_of_reason(text_of(v, item->ord, name));
			break;
	}
}

static void
parse_item(PointsItem *item, JsonbContainer *object)
{
	JsonbValue	key = {.type = jbvString};
	JsonbValue	kind;
	JsonbValue	v;
	JsonbIterator *it;
	JsonbIteratorToken token;
	int			known = 0;

	key.val.string.val = "kind";
	key.val.string.len = strlen("kind");
	if (getKeyJsonValueFromContainer(object, key.val.string.val, key.val.string.len, &kind) == NULL || kind.type != jbvString)
		refuse(item->ord, ERRCODE_INVALID_PARAMETER_VALUE, "kind is missing", "Each item has a kind: earn, spend, refund, clawback, adjust or transfer.");
	for (int i = 0; i < lengthof(kinds) && known == 0; i++)
	{
		if (cdp_key_is(&kind, kinds[i].kind))
		{
			item->verb = kinds[i].verb;
			known = kinds[i].arguments;
		}
	}
	if (known == 0)
		refuse(item->ord, ERRCODE_INVALID_PARAMETER_VALUE, "unknown kind", "Each item has a kind: earn, spend, refund, clawback, adjust or transfer.");
	item->program_name = "points";
	item->program_len = strlen("points");
	it = JsonbIteratorInit(object);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		int			argument = 0;
		const char *name = NULL;

		if (token != WJB_KEY || cdp_key_is(&v, "kind"))
		{
			if (token == WJB_KEY)
				(void) JsonbIteratorNext(&it, &v, true);
			continue;
		}
		for (int i = 0; i < lengthof(arguments) && argument == 0; i++)
		{
			if (cdp_key_is(&v, arguments[i].name))
			{
				argument = arguments[i].argument;
				name = arguments[i].name;
			}
		}
		if ((argument & known) == 0)
			refuse(item->ord, ERRCODE_INVALID_PARAMETER_VALUE,
				   name ? psprintf("this kind has no argument %s", name) : "an argument nobody knows",
				   "The names are those of the arguments of the verb.");
		(void) JsonbIteratorNext(&it, &v, true);
		take_argument(item, argument, name, &v);
	}
	if (item->verb == POINTS_TRANSFER && item->other_id == 0)
		refuse(item->ord, ERRCODE_NULL_VALUE_NOT_ALLOWED, "to_customer must not be NULL", "cdp.resolve() answers NULL when nobody has the identifier.");
	if (item->verb == POINTS_ADJUST && item->details == NULL)
		refuse(item->ord, ERRCODE_NULL_VALUE_NOT_ALLOWED, "reason must not be NULL", "Say why the account is corrected.");
}

/* who may not call cdp.adjust_points() may not adjust in a batch either */
static void
check_adjust(int ord)
{
	static const Oid types[5] = {INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID};
	Oid			fn = LookupFuncName(list_make2(makeString("cdp"), makeString("adjust_points")), 5, types, true);

	if (!OidIsValid(fn) || !cdp_may_execute(fn, GetUserId()))
		refuse(ord, ERRCODE_INSUFFICIENT_PRIVILEGE, "permission denied for kind adjust", "It needs the right to call cdp.adjust_points().");
}

PointsItem *
points_parse_batch(Jsonb *batch, int *n)
{
	JsonbContainer *root = &batch->root;
	PointsItem *items;
	bool		may_adjust = false;

	if (!JB_ROOT_IS_ARRAY(batch) || JB_ROOT_IS_SCALAR(batch))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch must be an array"),
				 errhint("Pass an array of objects, one per operation.")));
	*n = JB_ROOT_COUNT(batch);
	if (*n > POINTS_MAX_BATCH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch has more than %d items", POINTS_MAX_BATCH),
				 errhint("Post it in parts.")));
	items = palloc_extended(sizeof(PointsItem) * Max(*n, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < *n; i++)
	{
		JsonbValue *v = getIthJsonbValueFromContainer(root, i);
		PointsItem *item = &items[i];

		CHECK_FOR_INTERRUPTS();
		item->ord = i + 1;
		item->expires_at = item->available_at = item->occurred_at = item->release_at = DT_NOBEGIN;
		if (v->type != jbvBinary || !JsonContainerIsObject(v->val.binary.data))
			refuse(item->ord, ERRCODE_INVALID_PARAMETER_VALUE, "not an object", "Each item is an object with a kind.");
		parse_item(item, v->val.binary.data);
		if (item->verb == POINTS_ADJUST && !may_adjust)
		{
			check_adjust(item->ord);
			may_adjust = true;
		}
	}
	return items;
}
