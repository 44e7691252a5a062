/*
 * points_post.c
 *	  post(batch): where every way to change points ends.
 *
 *	  check		every item, before anything is locked
 *	  resolve	whose accounts they are, by the aliases of this moment
 *	  lock		the accounts, ascending, each once; those that are missing
 *				are made, under the lock of the customer's profile
 *	  check		that the customers are still the same; if not, again
 *	  run		the items in their order, in memory
 *	  write		lots, journal, keys, one update per account
 *
 * A merge locks the profiles of both customers, then their accounts, and
 * leaves moved_to in the account that is empty now; so whoever waited for it
 * finds out.  Locks that an earlier round took stay.
 *
 * Under READ COMMITTED a call works on the newest rows.  A transaction with
 * one snapshot gets 40001 where that snapshot is too old, never "not enough
 * points".
 *
 * Page: doc/points.md.  Tests: test/sql/points.sql, test/specs/points_*.spec,
 * test/pgtap/points_model.sql.
 */
#include "points_engine.h"

#include "access/transam.h"
#include "access/xact.h"
#include "event_log.h"
#include "identity.h"
#include "identity_step.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define MAX_REFERENCE	1000

const char *
points_of_item(const PointsItem *item)
{
	return item->ord == 0 ? "" : psprintf("item %d: ", item->ord);
}

/* -------------------------------------------------------------------- check */

static bool
has_key(const PointsItem *item)
{
	return item->verb <= POINTS_HOLD;
}

pg_noreturn static void
refuse(const PointsItem *item, int code, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(code), errmsg("%s%s", points_of_item(item), what), errhint("%s", hint)));
}

static void
check_moment(const PointsItem *item, TimestampTz at, bool may_be_infinity, const char *what)
{
	/* DT_NOBEGIN stands for none; the ways in refuse -infinity */
	if (TIMESTAMP_IS_NOEND(at) && !may_be_infinity)
		refuse(item, ERRCODE_INVALID_PARAMETER_VALUE, psprintf("%s must be a moment, not infinity", what), "Leave it out for the rule of the program.");
}

/* all that can be said without looking at the ledger, the clock or an older call with this key */
static void
check_item(const PointsItem *item)
{
	if (item->verb == POINTS_RELEASE || item->verb >= POINTS_EXPIRE)
		return;
	if (!item->has_profile && (item->verb <= POINTS_TRANSFER || item->verb == POINTS_HOLD))
		refuse(item, ERRCODE_NULL_VALUE_NOT_ALLOWED, "customer_id must not be NULL", "cdp.resolve() answers NULL when nobody has the identifier.");
	if (item->program_name == NULL && item->verb != POINTS_CAPTURE)
		refuse(item, ERRCODE_NULL_VALUE_NOT_ALLOWED, "program must not be NULL", "Leave it out for 'points'; cdp.points_program lists them.");
	if (has_key(item) && item->key == NULL)
		refuse(item, ERRCODE_NULL_VALUE_NOT_ALLOWED, "idempotency_key must not be NULL", "Use something that is the same when you ask again, such as the id of the order.");
	if (has_key(item) && (VARSIZE_ANY_EXHDR(item->key) < 1 || VARSIZE_ANY_EXHDR(item->key) > POINTS_MAX_KEY))
		refuse(item, ERRCODE_INVALID_PARAMETER_VALUE, "idempotency_key must have 1 to 200 bytes", "Use something short that is the same when you ask again, such as the id of the order.");
	if (item->reference == NULL && (item->verb == POINTS_REFUND || item->verb == POINTS_CLAWBACK))
		refuse(item, ERRCODE_NULL_VALUE_NOT_ALLOWED, "reference must not be NULL", "Name what the points were spent or earned with.");
	if (item->reference != NULL && VARSIZE_ANY_EXHDR(item->reference) > MAX_REFERENCE)
		refuse(item, ERRCODE_INVALID_PARAMETER_VALUE, "reference must not be longer than 1000 bytes", "Keep long texts in details.");
	if (!item->has_amount && item->verb != POINTS_REFUND && item->verb != POINTS_CLAWBACK && item->verb != POINTS_CAPTURE)
		refuse(item, ERRCODE_NULL_VALUE_NOT_ALLOWED, "amount must not be NULL", "Give a number of points.");
	if (item->has_amount && (item->amount > POINTS_MAX || item->amount < -POINTS_MAX))
		refuse(item, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "amount is no number of points", "It lies between 1 and 9000000000000000.");
	if (item->has_amount && (item->amount == 0 || (item->amount < 0 && item->verb != POINTS_ADJUST)))
		refuse(item, ERRCODE_INVALID_PARAMETER_VALUE, "amount must be above 0", "Points are taken by other verbs: spend, refund, clawback, adjust.");
	check_moment(item, item->available_at, false, "available_at");
	check_moment(item, item->occurred_at, false, "occurred_at");
	if (!TIMESTAMP_IS_NOBEGIN(item->occurred_at) && item->occurred_at > cdp_now_value() + (int64) cdp_max_future * USECS_PER_SEC)
		refuse(item, ERRCODE_INVALID_PARAMETER_VALUE, "occurred_at lies in the future", "The setting cdp.max_future says how far ahead a clock may be.");
}

/* the rules do not change under a batch: they are copied when they are first asked for; NULL: not yet */
const PointsProgram *
points_kept_program(const PointsPost *p, const char *name, int len)
{
	for (int k = 0; k < p->nprograms; k++)
	{
		if (strncmp(p->programs[k]->name, name, len) == 0 && p->programs[k]->name[len] == '\0')
			return p->programs[k];
	}
	return NULL;
}

const PointsProgram *
points_keep_program(PointsPost *p, const PointsProgram *program, const char *name)
{
	PointsProgram *copy = palloc(sizeof(PointsProgram));

	*copy = *program;
	copy->name = pstrdup(name);
	copy->name_datum = CStringGetTextDatum(copy->name);
	if ((p->nprograms & (p->nprograms - 1)) == 0)
		p->programs = p->nprograms == 0 ? palloc(sizeof(PointsProgram *)) : repalloc(p->programs, sizeof(PointsProgram *) * 2 * p->nprograms);
	p->programs[p->nprograms++] = copy;
	return copy;
}

static const PointsProgram *
program_of(PointsPost *p, const PointsItem *item)
{
	const PointsProgram *kept = points_kept_program(p, item->program_name, item->program_len);
	const PointsProgram *known;

	if (kept != NULL)
		return kept;
	known = points_require_program(item->program_name, item->program_len, points_of_item(item));
	return points_keep_program(p, known, known->name);
}

/* ------------------------------------------------------------------ resolve */

/* whose profile this is, by the newest rows */
int64
points_canonical(PointsPost *p, int64 profile_id)
{
	PointsScan	scan;
	ScanKeyData key;
	int64		customer = profile_id;

	points_key_int8(&key, 1, profile_id);
	points_scan(&scan, &p->tables, PI_ALIAS, &key, 1);
	if (points_next(&scan))
		customer = points_int8(&p->tables, PT_ALIAS, PX_CUSTOMER);
	points_scan_end(&scan);
	return customer;
}

/* the same, 40001 where the transaction's own snapshot says otherwise */
static int64
canonical(PointsPost *p, int64 profile_id)
{
	int64		customer = points_canonical(p, profile_id);
	Snapshot	latest = p->tables.snapshot;

	if (IsolationUsesXactSnapshot())
	{
		bool		same;

		p->tables.snapshot = GetTransactionSnapshot();
		same = points_canonical(p, profile_id) == customer;
		p->tables.snapshot = latest;
		if (!same)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to a concurrent change of who is one customer"),
					 errhint("Run the transaction again.")));
	}
	return customer;
}

static bool
profile_exists(PointsPost *p, int64 profile_id)
{
	PointsScan	scan;
	ScanKeyData key;
	bool		found;

	points_key_int8(&key, 1, profile_id);
	points_scan(&scan, &p->tables, PI_PROFILE, &key, 1);
	found = points_next(&scan);
	points_scan_end(&scan);
	return found;
}

static void
resolve(PointsPost *p, PointsItem *items, int n)
{
	p->references = NULL;
	for (int i = 0; i < n; i++)
	{
		PointsItem *item = &items[i];

		CHECK_FOR_INTERRUPTS();
		switch (item->verb)
		{
			case POINTS_CAPTURE:
			case POINTS_RELEASE:
				points_find_hold(p, item);
				break;
			case POINTS_REFUND:
			case POINTS_CLAWBACK:
				points_find_reference(p, item);
				break;
			case POINTS_EXPIRE:
			case POINTS_RELEASE_DUE:
				item->customer_id = item->profile_id;
				break;
			default:
				item->customer_id = canonical(p, item->profile_id);
				break;
		}
		if (item->verb == POINTS_TRANSFER)
			item->receiver_id = canonical(p, item->other_id);
		if (n > 1 && item->reference != NULL && (item->verb == POINTS_SPEND || item->verb == POINTS_EARN))
			points_note_reference(p, item);
	}
}

/* --------------------------------------------------------------------- lock */

static int
compare_accounts(const void *x, const void *y)
{
	const PointsAccount *a = *(PointsAccount *const *) x;
	const PointsAccount *b = *(PointsAccount *const *) y;

	if (a->key.customer_id != b->key.customer_id)
		return a->key.customer_id < b->key.customer_id ? -1 : 1;
	return strcmp(a->key.program, b->key.program);
}

static void
name_accounts(PointsPost *p, PointsItem *items, int n)
{
	for (int i = 0; i < n; i++)
	{
		items[i].account = points_account(p, items[i].customer_id, items[i].program);
		items[i].receiver = items[i].verb == POINTS_TRANSFER ? points_account(p, items[i].receiver_id, items[i].program) : NULL;
	}
}

/* all that came up, in the order in which they are locked */
void
points_list_accounts(PointsPost *p)
{
	HASH_SEQ_STATUS all;
	PointsAccount *a;

	if (p->naccounts == hash_get_num_entries(p->accounts))
		return;
	p->sorted = palloc_extended(sizeof(PointsAccount *) * hash_get_num_entries(p->accounts), MCXT_ALLOC_HUGE);
	p->naccounts = 0;
	hash_seq_init(&all, p->accounts);
	while ((a = hash_seq_search(&all)) != NULL)
		p->sorted[p->naccounts++] = a;
	qsort(p->sorted, p->naccounts, sizeof(PointsAccount *), compare_accounts);
}

pg_noreturn static void
refuse_unknown(const PointsItem *items, int n, int64 customer_id)
{
	int			i = 0;

	while (i < n - 1 && items[i].customer_id != customer_id && items[i].receiver_id != customer_id)
		i++;
	ereport(ERROR,
			(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
			 errmsg("%sthere is no customer " INT64_FORMAT, points_of_item(&items[i]), customer_id),
			 errhint("Any id that ever was a customer or a profile will do; cdp.identify() makes new ones.")));
}

/*
 * Accounts that nobody has yet: the lock of the profile keeps others from
 * making the same one, and merges away.  False: the customers have changed.
 */
static bool
make_missing(PointsPost *p, const PointsItem *items, int n)
{
	int64	   *ids = NULL;
	int			nids = 0;
	CdpVerb		verb;

	for (int i = 0; i < p->naccounts; i++)
	{
		PointsAccount *a = p->sorted[i];

		if (a->locked || points_account_read(p, a, false))
			continue;
		if (!profile_exists(p, a->key.customer_id))
			refuse_unknown(items, n, a->key.customer_id);
		if (ids == NULL)
			ids = palloc_extended(sizeof(int64) * p->naccounts, MCXT_ALLOC_HUGE);
		if (nids == 0 || ids[nids - 1] != a->key.customer_id)
			ids[nids++] = a->key.customer_id;
	}
	if (nids == 0)
		return true;
	cdp_begin_unchecked(&verb);
	cdp_lock_profiles(ids, nids);
	cdp_end(&verb);
	points_refresh(&p->tables);
	for (int i = 0; i < nids; i++)
	{
		if (canonical(p, ids[i]) != ids[i])
			return false;
	}
	for (int i = 0; i < p->naccounts; i++)
	{
		PointsAccount *a = p->sorted[i];

		if (a->locked || a->exists || points_account_read(p, a, false))
			continue;
		if (!profile_exists(p, a->key.customer_id))
			refuse_unknown(items, n, a->key.customer_id);
		/* ours until we commit */
		a->locked = true;
	}
	return true;
}

/* ascending; false: one is not there (any more) */
bool
points_lock_accounts(PointsPost *p)
{
	for (int i = 0; i < p->naccounts; i++)
	{
		PointsAccount *a = p->sorted[i];

		if (a->locked)
			continue;
		if (!points_account_read(p, a, true))
		{
			a->exists = false;
			return false;
		}
	}
	return true;
}

/* are the items still about these accounts, seen by a snapshot that is younger than the locks? */
static bool
is_settled(PointsPost *p, PointsItem *items, int n)
{
	for (int i = 0; i < n; i++)
	{
		PointsItem *item = &items[i];
		int64		customer_id = item->customer_id;

		/* a merge has taken everything away: a job has nothing to do there */
		if (item->verb == POINTS_EXPIRE || item->verb == POINTS_RELEASE_DUE)
			continue;
		if (item->account->moved_to != 0)
			return false;
		if (item->verb == POINTS_CAPTURE || item->verb == POINTS_RELEASE)
			points_find_hold(p, item);
		else if (item->verb == POINTS_REFUND || item->verb == POINTS_CLAWBACK)
			item->customer_id = canonical(p, item->customer_id);
		else
			item->customer_id = canonical(p, item->profile_id);
		if (item->customer_id != customer_id)
			return false;
		if (item->verb == POINTS_TRANSFER && (item->receiver->moved_to != 0 || canonical(p, item->other_id) != item->receiver_id))
			return false;
	}
	return true;
}

/* ---------------------------------------------------------------------- run */

typedef struct Taking
{
	int64		entry_id;
	int			ord;
	/* transfer */
	PointsAccount *receiver;
	int64		receiver_profile;
	int64		in_entry;
} Taking;

static void
take_for_good(PointsPost *p, PointsLot *lot, int64 amount, void *arg)
{
	Taking	   *taking = arg;

	lot->remaining -= amount;
	points_write_use(p, taking->entry_id, &taking->ord, lot->lot_id, amount);
}

static void
hand_over(PointsPost *p, PointsLot *lot, int64 amount, void *arg)
{
	Taking	   *taking = arg;
	PointsLot	like = *lot;
	PointsLot  *made;

	take_for_good(p, lot, amount, arg);
	like.amount = amount;
	like.entry_id = taking->in_entry;
	like.profile_id = taking->receiver_profile;
	like.origin_lot = lot->lot_id;
	made = points_lot_make(p, taking->receiver, &like);
	points_write_move(p, lot->lot_id, made->lot_id, amount, taking->entry_id);
}

/* the id of the entry, unless a row has it already */
static void
name_entry(PointsItem *item)
{
	if (!item->written)
		item->entry_id = points_next_id("points_entry_entry_id_seq");
}

static void
check_balance(const PointsAccount *a, const PointsItem *item, int64 amount)
{
	int64		limit = a->program->max_balance;

	if (limit >= 0 && a->balance + amount > limit)
		ereport(ERROR,
				(errcode(ERRCODE_CDP_LIMIT_REACHED),
				 errmsg("%sthe balance would be above the limit of the program", points_of_item(item)),
				 errdetail("max_balance is " INT64_FORMAT ", " INT64_FORMAT " are left.", limit, Max(limit - a->balance, 0)),
				 errhint("cdp.points_program.max_balance is the limit.")));
}

/* counted also where there is no limit: there may be one tomorrow, or in an hour */
static void
count_day(PointsPost *p, PointsAccount *a, const PointsItem *item)
{
	int64		limit = a->program->max_earn_per_day;
	int32		today = points_day(p->now);

	if (a->earned_day != today)
	{
		a->earned_day = today;
		a->earned_today = 0;
	}
	if (limit >= 0 && a->earned_today + item->amount > limit)
		ereport(ERROR,
				(errcode(ERRCODE_CDP_LIMIT_REACHED),
				 errmsg("%sno more points can be earned today", points_of_item(item)),
				 errdetail("max_earn_per_day is " INT64_FORMAT ", " INT64_FORMAT " are left.", limit, Max(limit - a->earned_today, 0)),
				 errhint("cdp.points_program.max_earn_per_day is the limit of a day of cdp.timezone.")));
	a->earned_today = Min(a->earned_today + item->amount, POINTS_MAX);
}

/* earn, and adjust above 0 */
static void
run_earn(PointsPost *p, PointsItem *item, const char *kind)
{
	PointsAccount *a = item->account;
	PointsEntry e;
	PointsLot	like = {0};
	PointsLot  *lot;
	int64		paid = Min(a->debt, item->amount);
	int			ord = 0;

	item->posted = item->amount;
	like.earned_at = TIMESTAMP_IS_NOBEGIN(item->occurred_at) ? p->now : item->occurred_at;
	like.available_at = TIMESTAMP_IS_NOBEGIN(item->available_at) ? points_available_at(a->program, like.earned_at) : item->available_at;
	like.expires_at = TIMESTAMP_IS_NOBEGIN(item->expires_at) ? points_expires_at(a->program, like.earned_at) : item->expires_at;
	if (!TIMESTAMP_IS_NOBEGIN(item->expires_at) && item->expires_at <= p->now)
		refuse(item, ERRCODE_INVALID_PARAMETER_VALUE, "expires_at lies in the past", "Leave it out for the rule of the program, or give infinity.");
	if ((!TIMESTAMP_IS_NOBEGIN(item->expires_at) || !TIMESTAMP_IS_NOBEGIN(item->available_at)) && like.expires_at <= like.available_at)
		refuse(item, ERRCODE_INVALID_PARAMETER_VALUE, "expires_at lies before available_at", "The points could never be spent.");
	if (item->verb == POINTS_EARN)
	{
		check_balance(a, item, item->amount);
		count_day(p, a, item);
	}
	name_entry(item);
	like.profile_id = item->profile_id;
	like.entry_id = like.earned_entry = item->entry_id;
	like.amount = item->amount;
	lot = points_lot_make(p, a, &like);
	if (paid > 0)
	{
		lot->remaining -= paid;
		points_write_use(p, item->entry_id, &ord, lot->lot_id, paid);
	}
	e = points_entry_of(p, item, kind);
	e.amount = item->amount;
	e.debt = -paid;
	e.expires_at = item->expires_at;
	e.available_at = item->available_at;
	points_write_entry(p, a, &e);
	points_key_write(p, item, lot->lot_id);
	points_touch(p, a);
}

/* spend, and adjust below 0 */
static void
run_spend(PointsPost *p, PointsItem *item, const char *kind, int64 amount)
{
	PointsAccount *a = item->account;
	PointsEntry e;
	Taking		taking = {0};

	points_require(p, a, item, amount, 0);
	item->posted = amount;
	name_entry(item);
	taking.entry_id = item->entry_id;
	if (points_take(p, a, amount, false, take_for_good, &taking) != amount)
		elog(ERROR, "points that were counted are not there");
	e = points_entry_of(p, item, kind);
	e.amount = -amount;
	points_write_entry(p, a, &e);
	points_key_write(p, item, 0);
	points_touch(p, a);
}

static void
run_transfer(PointsPost *p, PointsItem *item)
{
	PointsEntry e;
	Taking		taking = {0};

	if (!item->program->transferable)
		refuse(item, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, psprintf("points of program \"%s\" cannot be transferred", item->program->name),
			   "cdp.points_program.transferable allows it.");
	if (item->customer_id == item->receiver_id)
		refuse(item, ERRCODE_INVALID_PARAMETER_VALUE, "giver and receiver are one customer", "Name somebody else.");
	(void) points_account_settle(p, item->receiver);
	points_require(p, item->account, item, item->amount, 0);
	check_balance(item->receiver, item, item->amount);
	item->posted = item->amount;
	item->entry_id = taking.entry_id = points_next_id("points_entry_entry_id_seq");
	taking.in_entry = points_next_id("points_entry_entry_id_seq");
	taking.receiver = item->receiver;
	taking.receiver_profile = item->other_id;
	if (points_take(p, item->account, item->amount, false, hand_over, &taking) != item->amount)
		elog(ERROR, "points that were counted are not there");
	e = points_entry_of(p, item, "transfer_out");
	e.amount = -item->amount;
	points_write_entry(p, item->account, &e);
	e = points_entry_of(p, item, "transfer_in");
	e.entry_id = taking.in_entry;
	e.amount = item->amount;
	e.profile_id = item->other_id;
	e.key = NULL;
	e.reverses = taking.entry_id;
	points_write_entry(p, item->receiver, &e);
	points_key_write(p, item, 0);
	points_touch(p, item->account);
	/* who never was active must not keep them for ever */
	if (TIMESTAMP_IS_NOEND(item->receiver->active_until))
		points_touch(p, item->receiver);
}

static void
run_item(PointsPost *p, PointsItem *item)
{
	PointsAccount *a = item->account;
	int64		expired;

	if (has_key(item) && points_key_known(p, item))
	{
		item->balance = a->balance;
		return;
	}
	if (a->moved_to != 0)
		return;
	expired = points_account_settle(p, a);
	switch (item->verb)
	{
		case POINTS_EARN:
			run_earn(p, item, "earn");
			break;
		case POINTS_SPEND:
			run_spend(p, item, "spend", item->amount);
			break;
		case POINTS_ADJUST:
			if (item->amount > 0)
				run_earn(p, item, "adjust");
			else
				run_spend(p, item, "adjust", -item->amount);
			break;
		case POINTS_TRANSFER:
			run_transfer(p, item);
			break;
		case POINTS_REFUND:
			points_run_refund(p, item);
			break;
		case POINTS_CLAWBACK:
			points_run_clawback(p, item);
			break;
		case POINTS_HOLD:
			points_run_hold(p, item);
			break;
		case POINTS_CAPTURE:
			points_run_capture(p, item);
			break;
		case POINTS_RELEASE:
			points_run_release(p, item);
			break;
		case POINTS_EXPIRE:
			item->posted = expired + points_expire_lots(p, a, false);
			break;
		case POINTS_RELEASE_DUE:
			item->posted = a->released;
			break;
		case POINTS_LOCK:
			break;
	}
	item->balance = a->balance;
}

/* ---------------------------------------------------------------- the whole */

HTAB *
points_make_hash(PointsPost *p, const char *name, Size key, Size entry, long n)
{
	HASHCTL		ctl;

	ctl.keysize = key;
	ctl.entrysize = entry;
	ctl.hcxt = p->context;
	return hash_create(name, n, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void
points_begin(PointsPost *p, bool batch)
{
	memset(p, 0, sizeof(PointsPost));
	p->caller = CurrentMemoryContext;
	points_tables_open(&p->tables);
	p->context = p->tables.context;
	p->now = p->tables.now;
	MemoryContextSwitchTo(p->context);
	p->lots = points_make_hash(p, "customer_cdp lots", sizeof(int64), sizeof(PointsLot), batch ? 1024 : 16);
	p->accounts = points_make_hash(p, "customer_cdp accounts", sizeof(PointsAccountKey), sizeof(PointsAccount), batch ? 1024 : 4);
	p->keys = points_make_hash(p, "customer_cdp keys", POINTS_MAX_KEY + 4, POINTS_MAX_KEY + 4 + sizeof(void *), batch ? 1024 : 4);
	points_refresh(&p->tables);
	/* may have to read a table, so before any lock */
	p->xid = (uint64) cdp_log_offset();
	p->xid += U64FromFullTransactionId(GetTopFullTransactionId());
}

void
points_end(PointsPost *p)
{
	points_list_accounts(p);
	for (int i = 0; i < p->naccounts; i++)
	{
		if (p->sorted[i]->dirty)
			points_account_write(p, p->sorted[i]);
	}
	points_lots_write(p);
	points_flush(&p->tables);
	MemoryContextSwitchTo(p->caller);
	points_tables_close(&p->tables);
}

void
cdp_points_post(PointsItem *items, int n)
{
	PointsPost	p;

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
		check_item(&items[i]);
	points_begin(&p, n > 1);
	for (int i = 0; i < n; i++)
	{
		if (items[i].verb == POINTS_CAPTURE || items[i].verb == POINTS_RELEASE)
			points_find_hold(&p, &items[i]);
		items[i].program = program_of(&p, &items[i]);
	}
	for (int round = 0;; points_refresh(&p.tables))
	{
		cdp_count_round(&round);
		resolve(&p, items, n);
		name_accounts(&p, items, n);
		points_list_accounts(&p);
		/* profiles are locked before accounts, but nobody waits for who has no lock yet */
		if (!(p.naccounts == 1 && points_lock_accounts(&p)) && (!make_missing(&p, items, n) || !points_lock_accounts(&p)))
			continue;
		points_refresh(&p.tables);
		if (is_settled(&p, items, n))
			break;
	}
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		run_item(&p, &items[i]);
	}
	points_end(&p);
}
