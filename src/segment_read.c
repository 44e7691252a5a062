/*
 * segment_read.c
 *	  Questions about segments: who is in it, who is to be sent to, why.
 *
 * The stored members are read with the caller's snapshot and without asking
 * for rights on the table: who may execute a function here may know.  Ids
 * that were merged or deleted since the last refresh are put right on the
 * way out.
 *
 * A holdout is told from the customer alone, so a segment that is refreshed
 * keeps it:
 *
 *		bucket = first 8 bytes of sha256(salt ':' customer_id) as an unsigned
 *				 number, most significant byte first, modulo buckets
 *
 * SQL: sql/segment.sql.  Tests: test/sql/segment.sql.  Page: doc/segment.md.
 */
#include "segment.h"

#include "access/xact.h"
#include "catalog/pg_collation_d.h"
#include "catalog/pg_type.h"
#include "identity_step.h"
#include "mb/pg_wchar.h"
#include "probe.h"
#include "tag_bits.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(cdp_segment_audience);
PG_FUNCTION_INFO_V1(cdp_segment_target_audience);
PG_FUNCTION_INFO_V1(cdp_in_segment);
PG_FUNCTION_INFO_V1(cdp_holdout_bucket);
PG_FUNCTION_INFO_V1(cdp_segment_holds);
PG_FUNCTION_INFO_V1(cdp_audience_of_now);

/* what readers need of a row */
typedef struct StoredSegment
{
	CdpAudience *members;
	int			holdout_percent;
	char	   *holdout_salt;
} StoredSegment;

/* the row of a segment; NULL: there is none */
static TupleTableSlot *
find_row(CdpProbe *p, const char *name)
{
	ScanKeyData keys[1];

	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(name));
	cdp_probe_range(p, keys);
	return cdp_probe_next(p);
}

static bool
read_segment(const char *name, StoredSegment *s)
{
	CdpProbe   *p = cdp_probe_open_range("segment", "segment_pkey", 1);
	TupleTableSlot *slot = find_row(p, name);
	bool		found = slot != NULL;

	if (found)
	{
		bool		isnull;
		Datum		d = slot_getattr(slot, cdp_probe_column(p, "members"), &isnull);

		s->members = isnull ? cdp_audience_empty() : (CdpAudience *) PG_DETOAST_DATUM_COPY(d);
		d = slot_getattr(slot, cdp_probe_column(p, "holdout_percent"), &isnull);
		s->holdout_percent = isnull ? 0 : DatumGetInt32(d);
		d = slot_getattr(slot, cdp_probe_column(p, "holdout_salt"), &isnull);
		s->holdout_salt = isnull ? pstrdup(name) : TextDatumGetCString(d);
	}
	cdp_probe_close(p);
	return found;
}

const CdpAudience *
cdp_segment_members_of(const char *name)
{
	StoredSegment s;

	return read_segment(name, &s) ? cdp_customers_among(s.members, NULL) : NULL;
}

void
cdp_segment_init(void)
{
	cdp_segment_members_hook = cdp_segment_members_of;
}

static char *
name_arg(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name must not be NULL"),
				 errhint("SELECT name FROM cdp.segment lists the segments.")));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static void
segment_arg(FunctionCallInfo fcinfo, int n, StoredSegment *s)
{
	char	   *name = name_arg(fcinfo, n);

	cdp_check_version();
	if (!read_segment(name, s))
		cdp_segment_unknown(name);
}

/* cdp.segment_audience(name) -> audience */
Datum
cdp_segment_audience(PG_FUNCTION_ARGS)
{
	StoredSegment s;

	segment_arg(fcinfo, 0, &s);
	PG_RETURN_POINTER(cdp_customers_among(s.members, NULL));
}

/* cdp._segment_targets(name) -> audience: without the holdout */
Datum
cdp_segment_target_audience(PG_FUNCTION_ARGS)
{
	StoredSegment s;
	CdpAudience *members;
	CdpAudienceState *targets;
	CdpAudienceWalk w;
	int64		id;

	segment_arg(fcinfo, 0, &s);
	members = cdp_customers_among(s.members, NULL);
	if (s.holdout_percent == 0)
		PG_RETURN_POINTER(members);
	targets = cdp_audience_state_new(CurrentMemoryContext);
	cdp_audience_walk_begin(&w, members);
	while (cdp_audience_walk_next(&w, &id))
	{
		if (cdp_holdout_bucket_of(id, s.holdout_salt, 100) >= s.holdout_percent)
			cdp_audience_state_add(targets, id);
	}
	PG_RETURN_POINTER(cdp_audience_state_value(targets));
}

/* the customer to whom an id belongs; 23503 for an id that nobody has */
static int64
customer_of(int64 id)
{
	CdpProbe   *p = cdp_probe_open("profile_alias", "profile_alias_pkey");
	TupleTableSlot *slot = cdp_probe_int8(p, id);
	bool		known = slot != NULL;
	int64		customer = id;
	bool		isnull;

	if (known)
		customer = DatumGetInt64(slot_getattr(slot, cdp_probe_column(p, "customer_id"), &isnull));
	cdp_probe_close(p);
	if (!known)
	{
		p = cdp_probe_open("profile", "profile_pkey");
		known = cdp_probe_int8(p, id) != NULL;
		cdp_probe_close(p);
	}
	if (!known)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("there is no customer " INT64_FORMAT, id),
				 errhint("Any id that ever was a customer or a profile will do; cdp.resolve(kind, value) finds one.")));
	return customer;
}

/* cdp.in_segment(customer_id, name) -> boolean */
Datum
cdp_in_segment(PG_FUNCTION_ARGS)
{
	int64		id = cdp_id_arg(fcinfo, 0, "customer_id");
	StoredSegment s;
	int64		customer;
	bool		is_in;
	CdpProbe   *p;

	segment_arg(fcinfo, 1, &s);
	customer = customer_of(id);
	is_in = cdp_audience_has(s.members, customer);
	/* or under the id of one who became part of this customer since */
	if (!is_in)
	{
		AttrNumber	column;
		TupleTableSlot *slot;
		bool		isnull;

		p = cdp_probe_open("profile_alias", "profile_alias_customer_id");
		column = cdp_probe_column(p, "profile_id");
		for (slot = cdp_probe_int8(p, customer); slot != NULL && !is_in; slot = cdp_probe_next(p))
			is_in = cdp_audience_has(s.members, DatumGetInt64(slot_getattr(slot, column, &isnull)));
		cdp_probe_close(p);
	}
	PG_RETURN_BOOL(is_in);
}

/*
 * cdp._segment_holds(name, customer_id) -> boolean: does the definition hold
 * for him now, whatever is stored; NULL when the caller may not have it run.
 */
Datum
cdp_segment_holds(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64		id = PG_GETARG_INT64(1);
	CdpVerb		verb;
	CdpProbe   *p;
	CdpDefinition d = {NULL, NULL, NULL, psprintf("segment \"%s\"", name), 1};
	TupleTableSlot *slot;
	bool		isnull;
	Datum		value;
	Oid			owner;
	bool		holds;

	cdp_begin_read(&verb);
	p = cdp_probe_open_range("segment", "segment_pkey", 1);
	slot = find_row(p, name);
	if (slot == NULL)
		cdp_segment_unknown(name);
	value = slot_getattr(slot, cdp_probe_column(p, "definition"), &isnull);
	d.text = isnull ? NULL : TextDatumGetCString(value);
	d.owner = pstrdup(NameStr(*DatumGetName(slot_getattr(slot, cdp_probe_column(p, "owner"), &isnull))));
	d.search_path = TextDatumGetCString(slot_getattr(slot, cdp_probe_column(p, "search_path"), &isnull));
	cdp_probe_close(p);
	owner = get_role_oid(d.owner, true);
	if (d.text == NULL || !OidIsValid(owner) || !has_privs_of_role(verb.userid, owner))
	{
		cdp_end(&verb);
		PG_RETURN_NULL();
	}
	holds = cdp_audience_has(cdp_definition_audience(&d, owner), customer_of(id));
	cdp_end(&verb);
	PG_RETURN_BOOL(holds);
}

/* cdp._audience_of_now(audience) -> audience: the One IDs of now */
Datum
cdp_audience_of_now(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(cdp_customers_among(cdp_audience_get(PG_GETARG_DATUM(0)), NULL));
}

/* ----------------------------------------------------------------- holdout */

int
cdp_holdout_bucket_of(int64 customer_id, const char *salt, int buckets)
{
	/* the same bytes whatever the encoding of the database */
	char	   *utf8 = pg_server_to_any(salt, strlen(salt), PG_UTF8);
	char	   *text = psprintf("%s:" INT64_FORMAT, utf8, customer_id);
	bytea	   *hash = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea, PointerGetDatum(cstring_to_text(text))));
	uint64		number = 0;

	for (int i = 0; i < 8; i++)
		number = number << 8 | (uint8) VARDATA_ANY(hash)[i];
	pfree(hash);
	pfree(text);
	if (utf8 != salt)
		pfree(utf8);
	return (int) (number % (uint64) buckets);
}

/* cdp.holdout_bucket(customer_id, salt, buckets) -> int */
Datum
cdp_holdout_bucket(PG_FUNCTION_ARGS)
{
	int			buckets = PG_GETARG_INT32(2);

	if (buckets < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("buckets must be at least 1"),
				 errhint("Leave it out for 100: a bucket is then a percent.")));
	PG_RETURN_INT32(cdp_holdout_bucket_of(PG_GETARG_INT64(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), buckets));
}
