/*
 * identity_step.h
 *	  Changing who is one customer, for the verbs that do.
 *
 *	  static bool
 *	  lock_them(void *arg)		-- answers true: what it has locked stays locked
 *	  {
 *		  if (!cdp_lock_customers(ids, n))
 *			  return false;		-- somebody was faster
 *		  ... read again; others cannot change it now ...
 *	  }
 *
 *	  do
 *	  {
 *		  cdp_count_round(&round);
 *		  ... who is concerned, read without a lock ...
 *	  } while (!cdp_attempt(lock_them, &state));
 *	  parts = cdp_apply_partition(changes, n, &cause, &nparts);
 */
#ifndef CDP_IDENTITY_STEP_H
#define CDP_IDENTITY_STEP_H

#include "identity.h"

/* a profile that belongs to another customer afterwards */
typedef struct CdpChange
{
	int64		profile_id;
	int64		before;
	int64		after;
	const char *reason;
} CdpChange;

typedef struct CdpCause
{
	const char *unmerge;		/* action in cdp.merge_log of the steps of both directions */
	const char *merge;
	const char *rule;
	int64		undoes;			/* merge_id that an unmerge takes back, or 0 */
} CdpCause;

/* profiles of one former customer that go to one future customer */
typedef struct CdpPart
{
	int64		before;
	int64		part;			/* id between the two */
	int64		after;
	int64		merge_id;		/* of its last step, 0: the part is all that a merge found */
	const char *reason;
} CdpPart;

/*
 * Make it so, in two-party steps: who leaves first, then who joins.  The
 * customers concerned are locked.  Sorts changes; answers the parts.
 */
extern CdpPart *cdp_apply_partition(CdpChange *changes, int n, const CdpCause *cause, int *nparts);

/*
 * Run body in a subtransaction, whose end alone gives row locks back; it is
 * rolled back when body answers false.  Answers the same.
 */
typedef bool (*CdpAttempt) (void *arg);
extern bool cdp_attempt(CdpAttempt body, void *arg);

/* lock customers in the one order; false: some are none any more */
extern bool cdp_lock_customers(const int64 *ids, int n);

#define CDP_MAX_ROUNDS	20

/* 40001 when others overtake us for ever */
extern void cdp_count_round(int *round);

/* the customer a profile belongs to; 0: there is no such profile */
extern int64 cdp_customer_of(int64 id, bool read_only);

/* the same, 22023 when there is none */
extern int64 cdp_existing_customer(int64 id, bool read_only);

/* ids as an array of SQL, and in order */
extern Datum cdp_id_array(const int64 *ids, int n);
extern int	cdp_id_compare(const void *x, const void *y);

/* 22004 for the argument of that name */
pg_noreturn extern void cdp_refuse_null(const char *what);
extern int64 cdp_id_arg(FunctionCallInfo fcinfo, int arg, const char *what);

#ifdef CDP_TEST_HANDLER
/* identity_step_test.c: one of those who hear that customers changed */
extern void cdp_test_handler(int64 winner, int64 loser, const char *action);
#endif

#endif							/* CDP_IDENTITY_STEP_H */
