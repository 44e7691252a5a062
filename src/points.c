/*
 * points.c
 *	  The verbs of the points ledger as SQL calls them.
 *
 *		cdp.spend_points(7, 100, 'order-17', 'order 17')	-- one item
 *
 * Each fills one PointsItem and posts it.  None is STRICT: what must not be
 * NULL is refused with a hint (points_post.c).
 *
 * SQL: sql/points.sql.  Page: doc/points.md.  Tests: test/sql/points.sql.
 */
#include "points.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cdp_earn_points);
PG_FUNCTION_INFO_V1(cdp_spend_points);
PG_FUNCTION_INFO_V1(cdp_hold_points);
PG_FUNCTION_INFO_V1(cdp_capture_hold);
PG_FUNCTION_INFO_V1(cdp_release_hold);
PG_FUNCTION_INFO_V1(cdp_refund_points);
PG_FUNCTION_INFO_V1(cdp_clawback_points);
PG_FUNCTION_INFO_V1(cdp_transfer_points);
PG_FUNCTION_INFO_V1(cdp_adjust_points);
PG_FUNCTION_INFO_V1(cdp_post_points);

void
cdp_points_init(void)
{
	DefineCustomIntVariable("cdp.hold_timeout",
							"How long cdp.hold_points() reserves points when release_at is not given.",
							NULL, &cdp_hold_timeout, 7 * SECS_PER_DAY, 1, INT_MAX,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
}

static void
begin_item(PointsItem *item, PointsVerb verb, const char *name)
{
	cdp_check_write(name);
	memset(item, 0, sizeof(PointsItem));
	item->verb = verb;
	item->expires_at = item->available_at = item->occurred_at = item->release_at = DT_NOBEGIN;
}

static void
take_customer(PointsItem *item, FunctionCallInfo fcinfo, int arg)
{
	item->has_profile = !PG_ARGISNULL(arg);
	item->profile_id = item->has_profile ? PG_GETARG_INT64(arg) : 0;
}

static void
take_amount(PointsItem *item, FunctionCallInfo fcinfo, int arg)
{
	item->has_amount = !PG_ARGISNULL(arg);
	item->amount = item->has_amount ? PG_GETARG_INT64(arg) : 0;
}

static text *
take_text(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : PG_GETARG_TEXT_PP(arg);
}

static void
take_program(PointsItem *item, FunctionCallInfo fcinfo, int arg)
{
	text	   *name = take_text(fcinfo, arg);

	if (name == NULL)
		return;
	item->program_name = VARDATA_ANY(name);
	item->program_len = VARSIZE_ANY_EXHDR(name);
}

static TimestampTz
take_moment(FunctionCallInfo fcinfo, int arg, const char *what)
{
	TimestampTz at;

	if (PG_ARGISNULL(arg))
		return DT_NOBEGIN;
	at = PG_GETARG_TIMESTAMPTZ(arg);
	if (TIMESTAMP_IS_NOBEGIN(at))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be -infinity", what),
				 errhint("Leave it out for the rule of the program.")));
	return at;
}

Datum
cdp_earn_points(PG_FUNCTION_ARGS)
{
	PointsItem	item;

	begin_item(&item, POINTS_EARN, "earn_points");
	take_customer(&item, fcinfo, 0);
	take_amount(&item, fcinfo, 1);
	item.key = take_text(fcinfo, 2);
	item.reference = take_text(fcinfo, 3);
	item.expires_at = take_moment(fcinfo, 4, "expires_at");
	take_program(&item, fcinfo, 5);
	item.available_at = take_moment(fcinfo, 6, "available_at");
	item.occurred_at = take_moment(fcinfo, 7, "occurred_at");
	item.details = PG_ARGISNULL(8) ? NULL : PG_GETARG_JSONB_P(8);
	cdp_points_post(&item, 1);
	PG_RETURN_INT64(item.entry_id);
}

Datum
cdp_spend_points(PG_FUNCTION_ARGS)
{
	PointsItem	item;

	begin_item(&item, POINTS_SPEND, "spend_points");
	take_customer(&item, fcinfo, 0);
	take_amount(&item, fcinfo, 1);
	item.key = take_text(fcinfo, 2);
	item.reference = take_text(fcinfo, 3);
	take_program(&item, fcinfo, 4);
	item.details = PG_ARGISNULL(5) ? NULL : PG_GETARG_JSONB_P(5);
	cdp_points_post(&item, 1);
	PG_RETURN_INT64(item.entry_id);
}

Datum
cdp_hold_points(PG_FUNCTION_ARGS)
{
	PointsItem	item;

	begin_item(&item, POINTS_HOLD, "hold_points");
	take_customer(&item, fcinfo, 0);
	take_amount(&item, fcinfo, 1);
	item.key = take_text(fcinfo, 2);
	item.reference = take_text(fcinfo, 3);
	take_program(&item, fcinfo, 4);
	item.release_at = take_moment(fcinfo, 5, "release_at");
	cdp_points_post(&item, 1);
	PG_RETURN_INT64(item.entry_id);
}

static void
take_hold(PointsItem *item, FunctionCallInfo fcinfo, int arg)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("hold_id must not be NULL"),
				 errhint("cdp.hold_points() answers the id of a hold.")));
	item->hold_id = PG_GETARG_INT64(arg);
}

Datum
cdp_capture_hold(PG_FUNCTION_ARGS)
{
	PointsItem	item;

	begin_item(&item, POINTS_CAPTURE, "capture_hold");
	take_hold(&item, fcinfo, 0);
	take_amount(&item, fcinfo, 1);
	cdp_points_post(&item, 1);
	PG_RETURN_INT64(item.entry_id);
}

Datum
cdp_release_hold(PG_FUNCTION_ARGS)
{
	PointsItem	item;

	begin_item(&item, POINTS_RELEASE, "release_hold");
	take_hold(&item, fcinfo, 0);
	cdp_points_post(&item, 1);
	PG_RETURN_BOOL(item.changed);
}

static Datum
reverse(FunctionCallInfo fcinfo, PointsVerb verb, const char *name)
{
	PointsItem	item;

	begin_item(&item, verb, name);
	item.reference = take_text(fcinfo, 0);
	take_amount(&item, fcinfo, 1);
	item.key = take_text(fcinfo, 2);
	take_program(&item, fcinfo, 3);
	take_customer(&item, fcinfo, 4);
	cdp_points_post(&item, 1);
	PG_RETURN_INT64(item.entry_id);
}

Datum
cdp_refund_points(PG_FUNCTION_ARGS)
{
	return reverse(fcinfo, POINTS_REFUND, "refund_points");
}

Datum
cdp_clawback_points(PG_FUNCTION_ARGS)
{
	return reverse(fcinfo, POINTS_CLAWBACK, "clawback_points");
}

Datum
cdp_transfer_points(PG_FUNCTION_ARGS)
{
	PointsItem	item;

	begin_item(&item, POINTS_TRANSFER, "transfer_points");
	take_customer(&item, fcinfo, 0);
	if (PG_ARGISNULL(1))
		item.has_profile = false;
	else
		item.other_id = PG_GETARG_INT64(1);
	take_amount(&item, fcinfo, 2);
	item.key = take_text(fcinfo, 3);
	item.reference = take_text(fcinfo, 4);
	take_program(&item, fcinfo, 5);
	cdp_points_post(&item, 1);
	PG_RETURN_INT64(item.entry_id);
}

/* {"reason": "..."} */
Jsonb *
points_details_of_reason(text *reason)
{
	JsonbParseState *state = NULL;
	JsonbValue	key = {.type = jbvString};
	JsonbValue	value = {.type = jbvString};

	key.val.string.val = "reason";
	key.val.string.len = strlen("reason");
	value.val.string.val = VARDATA_ANY(reason);
	value.val.string.len = VARSIZE_ANY_EXHDR(reason);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	(void) pushJsonbValue(&state, WJB_KEY, &key);
	(void) pushJsonbValue(&state, WJB_VALUE, &value);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

Datum
cdp_adjust_points(PG_FUNCTION_ARGS)
{
	PointsItem	item;
	text	   *reason = take_text(fcinfo, 3);

	begin_item(&item, POINTS_ADJUST, "adjust_points");
	take_customer(&item, fcinfo, 0);
	take_amount(&item, fcinfo, 1);
	item.key = take_text(fcinfo, 2);
	take_program(&item, fcinfo, 4);
	if (reason == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("reason must not be NULL"),
				 errhint("Say why the account is corrected; it stands in the details of the entry.")));
	item.details = points_details_of_reason(reason);
	cdp_points_post(&item, 1);
	PG_RETURN_INT64(item.entry_id);
}

/* cdp.post_points(jsonb) -> setof (ord, entry_id, balance, replayed) */
Datum
cdp_post_points(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PointsItem *items;
	int			n;

	cdp_check_write("post_points");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("batch must not be NULL"),
				 errhint("Pass an array of objects, such as [{\"kind\": \"earn\", \"customer_id\": 1, \"amount\": 10, \"idempotency_key\": \"a\"}].")));
	items = points_parse_batch(PG_GETARG_JSONB_P(0), &n);
	InitMaterializedSRF(fcinfo, 0);
	cdp_points_post(items, n);
	for (int i = 0; i < n; i++)
	{
		Datum		values[4];
		static const bool nulls[4] = {false};

		values[0] = Int32GetDatum(i + 1);
		values[1] = Int64GetDatum(items[i].entry_id);
		values[2] = Int64GetDatum(items[i].balance);
		values[3] = BoolGetDatum(items[i].replayed);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, unconstify(bool *, &nulls[0]));
	}
	return (Datum) 0;
}
