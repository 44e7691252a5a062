/*
 * segment_customer.c
 *	  Members of segments when a customer is taken apart.
 *
 * A merge needs nothing: stored ids are mapped when they are read.  But a
 * refresh between merge and unmerge has mapped them for good; then history,
 * which keeps the id a customer had when he entered, tells the two apart:
 *
 *		7 entered, 7 and 8 were merged as 8, refresh	members {8}, history 7
 *		unmerge											members {7}
 *
 * So nobody enters or leaves by an unmerge, and no event is written.
 *
 * Page: doc/segment.md.  Tests: test/sql/segment.sql.
 */
#include "segment.h"

#include "catalog/pg_type.h"
#include "identity_step.h"
#include "utils/builtins.h"

/* a customer and the ids that are his: the first is the One ID */
typedef struct Side
{
	int64	   *ids;
	int			n;
} Side;

static void
load_side(Side *side, int64 customer_id)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8OID};
	Datum		args[1] = {Int64GetDatum(customer_id)};
	bool		isnull;

	if (SPI_execute_plan(cdp_plan_generic(&plan, "SELECT profile_id FROM cdp.profile_alias WHERE customer_id = $1", 1, types),
						 args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read aliases");
	side->n = (int) SPI_processed + 1;
	side->ids = palloc(sizeof(int64) * side->n);
	side->ids[0] = customer_id;
	for (int i = 1; i < side->n; i++)
		side->ids[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i - 1], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
}

/* segments that one of them has entered and not left */
static List *
entered_by(const Side *a, const Side *b)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	int64	   *ids = palloc(sizeof(int64) * (a->n + b->n));
	Datum		args[1];
	List	   *names = NIL;

	memcpy(ids, a->ids, sizeof(int64) * a->n);
	memcpy(ids + a->n, b->ids, sizeof(int64) * b->n);
	args[0] = cdp_id_array(ids, a->n + b->n);
	if (SPI_execute_plan(cdp_plan_generic(&plan, "SELECT DISTINCT segment FROM cdp.segment_history"
										  " WHERE customer_id = ANY ($1) AND left_at IS NULL ORDER BY segment", 1, types),
						 args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.segment_history");
	for (uint64 i = 0; i < SPI_processed; i++)
		names = lappend(names, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
	SPI_freetuptable(SPI_tuptable);
	return names;
}

static bool
has_entered(const char *name, const Side *side)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {TEXTOID, INT8ARRAYOID};
	Datum		args[2] = {CStringGetTextDatum(name), cdp_id_array(side->ids, side->n)};

	if (SPI_execute_plan(cdp_plan_generic(&plan, "SELECT FROM cdp.segment_history WHERE segment = $1 AND customer_id = ANY ($2)"
										  " AND left_at IS NULL", 2, types), args, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.segment_history");
	return SPI_processed > 0;
}

/* put one side right; answers whether anything had to be */
static bool
mend(CdpAudience **members, const char *name, const Side *side)
{
	bool		wanted = has_entered(name, side);
	CdpAudienceState *ids = cdp_audience_state_new(CurrentMemoryContext);
	CdpAudienceState *all;
	bool		is_in = false;

	for (int i = 0; i < side->n; i++)
	{
		is_in = is_in || cdp_audience_has(*members, side->ids[i]);
		cdp_audience_state_add(ids, side->ids[i]);
	}
	if (is_in == wanted)
		return false;
	*members = cdp_audience_without(*members, cdp_audience_state_value(ids));
	if (wanted)
	{
		all = cdp_audience_state_new(CurrentMemoryContext);
		cdp_audience_state_add_all(all, *members);
		cdp_audience_state_add(all, side->ids[0]);
		*members = cdp_audience_state_value(all);
	}
	return true;
}

void
cdp_segments_customers_changed(int64 winner, int64 loser, const char *action)
{
	Side		sides[2];
	List	   *names;
	ListCell   *lc;

	if (strcmp(action, "unmerge") != 0)
		return;
	load_side(&sides[0], winner);
	load_side(&sides[1], loser);
	names = entered_by(&sides[0], &sides[1]);
	foreach(lc, names)
	{
		Segment		s;
		bool		mended;

		/* what they entered is read again under the lock: a refresh may have been faster */
		if (!cdp_segment_lock(lfirst(lc), &s) || s.members == NULL)
			continue;
		mended = mend(&s.members, s.name, &sides[0]);
		mended = mend(&s.members, s.name, &sides[1]) || mended;
		if (mended)
		{
			Oid			types[3] = {TEXTOID, cdp_audience_type(), INT8OID};
			Datum		args[3] = {CStringGetTextDatum(s.name), PointerGetDatum(s.members), Int64GetDatum(s.members->count)};

			(void) cdp_segment_write("UPDATE cdp.segment SET members = $2, member_count = $3 WHERE name = $1", 3, types, args, NULL);
		}
	}
}
