/*
 * points.h
 *	  The points ledger: one engine, many ways in.
 *
 * Whoever changes points fills items and posts them:
 *
 *		verb(s)   post_points(jsonb)   INSERT INTO points_entry   jobs   merges
 *		     \________|_______________________|____________________|______/
 *		                    cdp_points_post(items, n)
 *
 * A batch is one operation: all items or an error.  points_post.c resolves
 * who is meant, locks the accounts in one order, and runs the items in memory
 * (points_account.c has the lots, points_reverse.c refunds and claw-backs,
 * points_hold.c holds); points_table.c writes what came of it.
 *
 * Page: doc/points.md.
 */
#ifndef POINTS_H
#define POINTS_H

#include "points_table.h"
#include "utils/timestamp.h"

/* more than this is no number of points */
#define POINTS_MAX	INT64CONST(9000000000000000)
#define POINTS_MAX_KEY	200
#define POINTS_MAX_BATCH	100000

typedef enum PointsVerb
{
	POINTS_EARN, POINTS_SPEND, POINTS_ADJUST, POINTS_TRANSFER, POINTS_REFUND, POINTS_CLAWBACK,
	POINTS_HOLD, POINTS_CAPTURE, POINTS_RELEASE, POINTS_EXPIRE, POINTS_RELEASE_DUE,
	POINTS_LOCK					/* nothing but the lock */
} PointsVerb;

typedef enum PointsExpiry
{
	EXPIRY_NEVER, EXPIRY_ROLLING, EXPIRY_MONTH, EXPIRY_YEAR, EXPIRY_FIXED, EXPIRY_INACTIVITY
} PointsExpiry;

/* a row of cdp.points_program; -1 where there is no limit (points_program.c) */
typedef struct PointsProgram
{
	char	   *name;
	Datum		name_datum;		/* text */
	PointsExpiry expiry;
	Interval	validity;
	int			fixed_month;
	int			fixed_day;
	Interval	pending;
	char		consumption;	/* fEfo, fIfo, lifo: 'e', 'i', 'l' */
	char		negative;		/* 'r'efuse, 'w'ithin_balance, 'd'ebt */
	int64		debt_limit;
	int64		max_balance;
	int64		max_earn_per_day;
	Interval	refund_min_validity;
	bool		has_refund_min;
	bool		transferable;
} PointsProgram;

/* NULL: there is none; good until rules change, that is for one call */
extern const PointsProgram *points_program(const char *name, int len);
/* the same, 42704 when there is none; of_item begins the message */
extern const PointsProgram *points_require_program(const char *name, int len, const char *of_item);
extern TimestampTz points_available_at(const PointsProgram *program, TimestampTz earned_at);
extern TimestampTz points_expires_at(const PointsProgram *program, TimestampTz earned_at);
extern TimestampTz points_plus(TimestampTz at, const Interval *span);
/* the day of cdp.timezone */
extern int32 points_day(TimestampTz at);

/* one operation; absent numbers are 0, absent moments DT_NOBEGIN, absent texts NULL */
typedef struct PointsItem
{
	PointsVerb	verb;
	int			ord;			/* in a batch, from 1; 0: the only one */
	int64		profile_id;		/* as passed */
	bool		has_profile;
	int64		other_id;		/* transfer: the receiver */
	const char *program_name;
	int			program_len;
	int64		amount;
	bool		has_amount;		/* false: all that is left */
	text	   *key;
	text	   *reference;
	TimestampTz expires_at;
	TimestampTz available_at;
	TimestampTz occurred_at;
	TimestampTz release_at;
	Jsonb	   *details;
	int64		hold_id;
	bool		written;		/* the entry was inserted as a row already: entry_id is given */

	/* filled in by the engine */
	const PointsProgram *program;
	int64		customer_id;	/* whose account */
	int64		receiver_id;
	int64		entry_id;		/* the answer; of a hold its hold_id */
	int64		posted;			/* points that moved */
	int64		balance;
	bool		replayed;
	bool		changed;		/* release, expire: was there anything to do */
	struct PointsAccount *account;
	struct PointsAccount *receiver;
} PointsItem;

extern void cdp_points_post(PointsItem *items, int n);

/* "item 3: " in a batch */
extern const char *points_of_item(const PointsItem *item);

extern int	cdp_hold_timeout;
extern Jsonb *points_details_of_reason(text *reason);

/* items out of {"kind": "earn", ...} (points_batch.c) */
extern PointsItem *points_parse_batch(Jsonb *batch, int *n);

#endif							/* POINTS_H */
