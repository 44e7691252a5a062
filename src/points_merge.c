/*
 * points_merge.c
 *	  Points follow the customer: when two become one, and when one becomes
 *	  two again.
 *
 * Per program, under the locks of both accounts:
 *
 *		merge 7 <- 9		lot 3 of 9: 40 left   -->   lot 8 of 7: 40, same dates
 *							holds and debt go with them; account of 9: moved_to 7
 *		7 spends 15
 *		unmerge				lot 8: 25 left        -->   lot 3 of 9: 25
 *
 * Each lot knows the profile under which it was earned, also after it was
 * moved; so what belongs to whom can be told after any chain of merges.  A
 * lot goes back into the lot it came from where the one who leaves owns one;
 * a merge that is undone at once leaves all lots as they were.  What was
 * spent stays with the account that paid.  The sum over both never changes.
 *
 * A loser without an account in a program gets none: whoever makes one locks
 * his profile first, waits for the merge, and finds the alias.
 *
 * SQL: sql/points.sql.  Page: doc/points.md.  Tests: test/sql/points_merge.sql,
 * test/specs/points_merge_spend.spec, test/specs/points_merge_first_earn.spec.
 */
#include "points_engine.h"
#include "points_merge.h"

#include "catalog/pg_type.h"
#include "identity_step.h"
#include "utils/builtins.h"
#include "utils/datum.h"

PG_FUNCTION_INFO_V1(cdp_merge_points);
PG_FUNCTION_INFO_V1(cdp_unmerge_points);

/* rules of a program; of one that was dropped, those that every program has */
static const PointsProgram *
program_of(PointsPost *p, Datum name)
{
	static const PointsProgram dropped = {.consumption = 'e', .negative = 'w', .debt_limit = -1, .max_balance = -1, .max_earn_per_day = -1};
	char	   *bytes = TextDatumGetCString(name);
	const PointsProgram *kept = points_kept_program(p, bytes, strlen(bytes));
	const PointsProgram *known;

	if (kept != NULL)
		return kept;
	known = points_program(bytes, strlen(bytes));
	return points_keep_program(p, known ? known : &dropped, bytes);
}

/* accounts of a customer, of all programs; answers how many */
static int
find_accounts(PointsPost *p, int64 customer_id, PointsAccount **list, int most)
{
	PointsScan	scan;
	ScanKeyData key;
	Datum		names[64];
	int			n = 0;

	points_key_int8(&key, 1, customer_id);
	points_scan(&scan, &p->tables, PI_ACCOUNT, &key, 1);
	while (points_next(&scan))
	{
		bool		isnull;

		if (n == most)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("a customer has accounts in more than %d programs", most),
					 errhint("Such customers cannot be merged.")));
		names[n++] = datumCopy(points_value(&p->tables, PT_ACCOUNT, PA_PROGRAM, &isnull), false, -1);
	}
	points_scan_end(&scan);
	for (int i = 0; i < n; i++)
		list[i] = points_account(p, customer_id, program_of(p, names[i]));
	return n;
}

/* lock what there is; an account that is missing is made: the profile is locked by who calls */
static void
lock_all(PointsPost *p)
{
	points_list_accounts(p);
	for (int i = 0; i < p->naccounts; i++)
	{
		PointsAccount *a = p->sorted[i];

		if (!a->locked && !points_account_read(p, a, true))
		{
			a->exists = false;
			a->locked = true;
		}
	}
	points_refresh(&p->tables);
}

/* an entry of each side */
static void
write_entries(PointsPost *p, PointsAccount *from, PointsAccount *to, int64 out, int64 in, int64 amount, int64 debt)
{
	PointsEntry e = {0};

	e.entry_id = out;
	e.kind = "merge_out";
	e.amount = -amount;
	e.debt = -debt;
	e.occurred_at = p->now;
	e.expires_at = e.available_at = DT_NOBEGIN;
	e.profile_id = from->key.customer_id;
	points_write_entry(p, from, &e);
	e.entry_id = in;
	e.kind = "merge_in";
	e.amount = amount;
	e.debt = debt;
	e.profile_id = to->key.customer_id;
	e.reverses = out;
	points_write_entry(p, to, &e);
}

/* debt has entries of its own: with what is in lots the sum could be 0 */
static void
move_debt(PointsPost *p, PointsAccount *from, PointsAccount *to, int64 debt)
{
	if (debt > 0)
		write_entries(p, from, to, points_next_id("points_entry_entry_id_seq"), points_next_id("points_entry_entry_id_seq"), -debt, debt);
}

static bool
everybody(int64 profile_id, void *arg)
{
	return true;
}

static int64
merge_account(PointsPost *p, PointsAccount *to, PointsAccount *from)
{
	PointsLot **lots;
	int64		debt = from->debt;
	int64		out;
	int64		in;
	int64		sum = 0;
	int			n;
	int			ord = 0;

	(void) points_account_settle(p, from);
	(void) points_account_settle(p, to);
	lots = points_open_lots(p, from, &n);
	out = n > 0 ? points_next_id("points_entry_entry_id_seq") : 0;
	in = n > 0 ? points_next_id("points_entry_entry_id_seq") : 0;
	for (int i = 0; i < n; i++)
	{
		PointsLot  *lot = lots[i];
		PointsLot	like = *lot;
		int64		left = lot->remaining;

		like.amount = left;
		like.entry_id = in;
		like.origin_lot = lot->lot_id;
		lot->heir = points_lot_make(p, to, &like);
		points_write_use(p, out, &ord, lot->lot_id, left);
		points_write_move(p, lot->lot_id, lot->heir->lot_id, left, out);
		lot->remaining = 0;
		lot->dirty = true;
		sum += left;
	}
	(void) points_move_holds(p, from, to, everybody, NULL);
	if (sum > 0)
		write_entries(p, from, to, out, in, sum, 0);
	move_debt(p, from, to, debt);
	from->moved_debt = debt;
	from->moved_to = to->key.customer_id;
	from->dirty = true;
	if (to->program->expiry == EXPIRY_INACTIVITY && !TIMESTAMP_IS_NOEND(from->active_until))
	{
		to->active_until = TIMESTAMP_IS_NOEND(to->active_until) ? from->active_until : Max(to->active_until, from->active_until);
		to->dirty = true;
	}
	if (from->earned_day != PG_INT32_MIN && from->earned_day >= to->earned_day)
	{
		to->earned_today = from->earned_today + (from->earned_day == to->earned_day ? to->earned_today : 0);
		to->earned_day = from->earned_day;
		to->dirty = true;
	}
	return sum;
}

static int64
merge(int64 winner, int64 loser)
{
	PointsPost	p;
	PointsAccount *from[64];
	PointsAccount *to[64];
	int64		moved = 0;
	int			n;

	points_begin(&p, false);
	n = find_accounts(&p, loser, from, lengthof(from));
	for (int i = 0; i < n; i++)
		to[i] = points_account(&p, winner, from[i]->program);
	lock_all(&p);
	for (int i = 0; i < n; i++)
	{
		if (from[i]->exists && from[i]->moved_to == 0)
			moved += merge_account(&p, to[i], from[i]);
	}
	points_end(&p);
	return moved;
}

/* ------------------------------------------------------------------ unmerge */

/* profiles of the one who leaves, ascending */
typedef struct Leaving
{
	int64	   *profiles;
	int			n;
} Leaving;

static bool
leaves(int64 profile_id, void *arg)
{
	Leaving    *leaving = arg;

	return bsearch(&profile_id, leaving->profiles, leaving->n, sizeof(int64), cdp_id_compare) != NULL;
}

static void
find_profiles(Leaving *leaving, int64 customer_id)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8OID};
	Datum		args[1] = {Int64GetDatum(customer_id)};
	MemoryContext caller = CurrentMemoryContext;

	if (SPI_execute_plan(cdp_plan_generic(&plan, "SELECT profile_id FROM cdp.profile_alias WHERE customer_id = $1", 1, types),
						 args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read aliases");
	leaving->profiles = MemoryContextAlloc(caller, sizeof(int64) * (SPI_processed + 1));
	leaving->n = 0;
	leaving->profiles[leaving->n++] = customer_id;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		leaving->profiles[leaving->n++] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	qsort(leaving->profiles, leaving->n, sizeof(int64), cdp_id_compare);
}

/*
 * Those who were merged into the one who leaves, or into the other since, and
 * leave with him: their accounts say where the points are.
 */
static void
redirect(PointsPost *p, const Leaving *leaving, int64 customer_id)
{
	for (int i = 0; i < leaving->n; i++)
	{
		PointsAccount *list[64];
		int			n;

		CHECK_FOR_INTERRUPTS();
		if (leaving->profiles[i] == customer_id)
			continue;
		n = find_accounts(p, leaving->profiles[i], list, lengthof(list));
		for (int k = 0; k < n; k++)
			list[k]->redirected = true;
	}
}

/* the lot of that customer from which these points once came, with room for so many; NULL: none */
static PointsLot *
find_origin(PointsPost *p, const PointsLot *lot, int64 customer_id, int64 amount)
{
	while (lot->origin_lot != 0)
	{
		PointsLot  *origin = points_lot_get(p, lot->origin_lot);

		if (origin->customer_id == customer_id)
			return origin->expires_at == lot->expires_at && amount <= origin->amount - origin->remaining ? origin : NULL;
		lot = origin;
	}
	return NULL;
}

static int64
unmerge_account(PointsPost *p, PointsAccount *from, PointsAccount *to, Leaving *leaving)
{
	PointsLot **lots;
	int64		debt;
	int64		out = 0;
	int64		in = 0;
	int64		sum = 0;
	int			n;
	int			out_ord = 0;
	int			in_ord = 0;

	(void) points_account_settle(p, from);
	lots = points_open_lots(p, from, &n);

	/* where each would go, so that holds can say whether they go, too */
	for (int i = 0; i < n; i++)
	{
		PointsLot	like = *lots[i];
		PointsLot  *origin;

		if (!leaves(lots[i]->profile_id, leaving))
			continue;
		if (out == 0)
		{
			out = points_next_id("points_entry_entry_id_seq");
			in = points_next_id("points_entry_entry_id_seq");
		}
		origin = find_origin(p, lots[i], to->key.customer_id, lots[i]->remaining);
		if (origin == NULL)
		{
			like.amount = lots[i]->remaining;
			like.entry_id = in;
			like.origin_lot = lots[i]->lot_id;
			origin = points_lot_make(p, to, &like);
			/* filled below, as far as it goes */
			origin->amount = origin->remaining = 0;
		}
		lots[i]->heir = origin;
		origin->account = to;
	}
	(void) points_move_holds(p, from, to, leaves, leaving);
	for (int i = 0; i < n; i++)
	{
		PointsLot  *lot = lots[i];
		PointsLot  *heir = lot->heir;
		/* what a hold that stays reserves stays */
		int64		part = lot->remaining - lot->held;

		if (heir == NULL)
			continue;
		if (part <= 0)
		{
			/* made for nothing */
			if (heir->is_new)
				heir->dirty = false;
			continue;
		}
		lot->remaining -= part;
		lot->dirty = true;
		points_write_use(p, out, &out_ord, lot->lot_id, part);
		heir->remaining += part;
		heir->dirty = true;
		if (heir->is_new)
		{
			heir->amount += part;
			points_write_move(p, lot->lot_id, heir->lot_id, part, out);
		}
		else
		{
			points_write_use(p, in, &in_ord, heir->lot_id, -part);
			points_lot_list(p, to, heir);
		}
		sum += part;
	}
	if (sum > 0)
		write_entries(p, from, to, out, in, sum, 0);
	debt = Min(to->moved_debt, from->debt);
	move_debt(p, from, to, debt);
	to->moved_debt = 0;
	to->moved_to = 0;
	to->dirty = to->exists || sum > 0 || debt > 0 || to->held > 0;
	if (to->program->expiry == EXPIRY_INACTIVITY && sum > 0)
		to->active_until = from->active_until;
	return sum;
}

static int64
unmerge(int64 winner, int64 part)
{
	PointsPost	p;
	PointsAccount *from[64];
	PointsAccount *to[64];
	PointsAccount *own[64];
	Leaving		leaving;
	int64		moved = 0;
	int			n;
	int			nown;

	find_profiles(&leaving, part);
	points_begin(&p, false);
	n = find_accounts(&p, winner, from, lengthof(from));
	for (int i = 0; i < n; i++)
		to[i] = points_account(&p, part, from[i]->program);
	nown = find_accounts(&p, part, own, lengthof(own));
	redirect(&p, &leaving, part);
	lock_all(&p);
	for (int i = 0; i < n; i++)
	{
		if (from[i]->exists)
			moved += unmerge_account(&p, from[i], to[i], &leaving);
	}
	for (int i = 0; i < nown; i++)
	{
		if (own[i]->moved_to != 0)
		{
			own[i]->moved_to = 0;
			own[i]->dirty = true;
		}
	}
	for (int i = 0; i < p.naccounts; i++)
	{
		PointsAccount *a = p.sorted[i];

		if (a->redirected && a->moved_to != 0 && a->moved_to != part)
		{
			a->moved_to = part;
			a->dirty = true;
		}
	}
	points_end(&p);
	return moved;
}

/* handler of cdp._customers_changed */
void
cdp_points_customers_changed(int64 winner, int64 loser, const char *action)
{
	if (strcmp(action, "merge") == 0)
		(void) merge(winner, loser);
	else if (strcmp(action, "unmerge") == 0)
		(void) unmerge(winner, loser);
}

static Datum
call(FunctionCallInfo fcinfo, bool is_merge)
{
	int64		winner = cdp_id_arg(fcinfo, 0, "winner");
	int64		loser = cdp_id_arg(fcinfo, 1, "loser");
	CdpVerb		verb;
	int64		moved;

	cdp_begin_write(&verb, is_merge ? "merge_points" : "unmerge_points");
	if (winner == loser || (cdp_existing_customer(loser, false) == winner) != is_merge || cdp_existing_customer(winner, false) != winner)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("these are %s customer", is_merge ? "not one" : "one"),
				 errhint("cdp.merge_customers() and cdp.unmerge_customer() take their points along.")));
	moved = is_merge ? merge(winner, loser) : unmerge(winner, loser);
	cdp_end(&verb);
	PG_RETURN_INT64(moved);
}

Datum
cdp_merge_points(PG_FUNCTION_ARGS)
{
	return call(fcinfo, true);
}

Datum
cdp_unmerge_points(PG_FUNCTION_ARGS)
{
	return call(fcinfo, false);
}
