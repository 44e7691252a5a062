/*
 * points_engine.h
 *	  What the parts of the engine share while a batch is posted.
 */
#ifndef POINTS_ENGINE_H
#define POINTS_ENGINE_H

#include "points.h"
#include "utils/hsearch.h"

typedef struct PointsLot
{
	int64		lot_id;			/* hash key */
	int64		customer_id;
	int64		profile_id;
	int64		entry_id;
	int64		earned_entry;
	int64		origin_lot;		/* 0: none */
	int64		amount;
	int64		remaining;
	int64		held;
	TimestampTz earned_at;
	TimestampTz available_at;
	TimestampTz expires_at;
	ItemPointerData tid;
	struct PointsAccount *account;
	bool		is_new;			/* not written yet */
	bool		dirty;
	bool		listed;			/* among those that are walked */
	bool		stored_open;	/* the index of open lots will show it */
	struct PointsLot *heir;		/* where a merge has moved its points */
} PointsLot;

typedef struct PointsAccountKey
{
	int64		customer_id;
	char		program[NAMEDATALEN];
} PointsAccountKey;

typedef struct PointsAccount
{
	PointsAccountKey key;
	const PointsProgram *program;
	bool		exists;			/* the row was found */
	int			read_by;		/* by which snapshot, see points_refresh() */
	bool		locked;
	bool		settled;		/* what time alone has done to it is booked */
	bool		dirty;
	int64		released;		/* holds that were over */
	bool		redirected;		/* an unmerge: it goes with the one who leaves */
	ItemPointerData tid;
	int64		balance;
	int64		held;
	int64		debt;
	int64		entries;
	int64		moved_to;		/* 0: it lives */
	TimestampTz active_until;	/* DT_NOEND: no end */
	int32		earned_day;
	int64		earned_today;
	int64		moved_debt;		/* what a merge took over with moved_to */

	/* lots in the order in which they are spent: those read so far, and others that came up */
	PointsLot **stored;
	int			nstored;
	int			stored_room;
	int			head;			/* of stored: all before are empty */
	PointsLot **fresh;
	int			nfresh;
	int			fresh_room;
	bool		all_read;
	int			chunk;			/* how many to read next */
	TimestampTz last_expires;	/* of the last one read */
	int64		last_lot;
} PointsAccount;

typedef struct PointsPost
{
	PointsTables tables;
	MemoryContext context;
	HTAB	   *lots;			/* PointsLot by lot_id */
	HTAB	   *accounts;		/* PointsAccount by PointsAccountKey */
	PointsAccount **sorted;
	int			naccounts;
	PointsProgram **programs;	/* copies */
	int			nprograms;
	HTAB	   *keys;			/* of this batch */
	HTAB	   *references;		/* of this batch, NULL: none was spent or earned with one */
	TimestampTz now;
	uint64		xid;
	MemoryContext caller;
} PointsPost;

/* an entry of the journal; numbers as in PointsItem */
typedef struct PointsEntry
{
	int64		entry_id;
	const char *kind;
	int64		amount;
	int64		debt;
	text	   *reference;
	text	   *key;
	TimestampTz occurred_at;
	TimestampTz expires_at;
	TimestampTz available_at;
	int64		reverses;
	int64		profile_id;
	Jsonb	   *details;
	bool		written;		/* the row is there, inserted by a statement */
} PointsEntry;

/* points_post.c */
extern void points_begin(PointsPost *p, bool batch);
extern void points_end(PointsPost *p);
extern void points_list_accounts(PointsPost *p);
extern bool points_lock_accounts(PointsPost *p);
extern const PointsProgram *points_kept_program(const PointsPost *p, const char *name, int len);
extern const PointsProgram *points_keep_program(PointsPost *p, const PointsProgram *program, const char *name);
extern HTAB *points_make_hash(PointsPost *p, const char *name, Size key, Size entry, long n);

/* points_account.c */
extern PointsAccount *points_account(PointsPost *p, int64 customer_id, const PointsProgram *program);
extern bool points_account_read(PointsPost *p, PointsAccount *a, bool lock);
extern int64 points_account_settle(PointsPost *p, PointsAccount *a);
extern void points_account_write(PointsPost *p, PointsAccount *a);
extern PointsEntry points_entry_of(const PointsPost *p, const PointsItem *item, const char *kind);
extern void points_write_entry(PointsPost *p, PointsAccount *a, const PointsEntry *entry);
extern void points_write_use(PointsPost *p, int64 entry_id, int *ord, int64 lot_id, int64 amount);
extern void points_write_move(PointsPost *p, int64 from_lot, int64 to_lot, int64 amount, int64 entry_id);
extern void points_touch(PointsPost *p, PointsAccount *a);

/* points_lot.c */
extern PointsLot *points_lot_make(PointsPost *p, PointsAccount *a, const PointsLot *like);
extern PointsLot *points_lot_get(PointsPost *p, int64 lot_id);
extern PointsLot **points_open_lots(PointsPost *p, PointsAccount *a, int *n);
extern void points_lot_list(PointsPost *p, PointsAccount *a, PointsLot *lot);
extern int64 points_available(PointsPost *p, PointsAccount *a);

/* how far a walk has come: {0, 0} is the beginning */
typedef struct PointsWalk
{
	int			stored;
	int			fresh;
} PointsWalk;

extern PointsLot *points_walk(PointsPost *p, PointsAccount *a, PointsWalk *walk);
extern bool points_lot_is_available(const PointsPost *p, const PointsLot *lot);
extern void points_require(PointsPost *p, PointsAccount *a, const PointsItem *item, int64 amount, int64 credit);
typedef void (*PointsTake) (PointsPost *p, PointsLot *lot, int64 amount, void *arg);
extern int64 points_take(PointsPost *p, PointsAccount *a, int64 amount, bool pending, PointsTake take, void *arg);
extern void points_lots_write(PointsPost *p);
extern int64 points_expire_lots(PointsPost *p, PointsAccount *a, bool all);

/* points_reverse.c */
extern void points_find_reference(PointsPost *p, PointsItem *item);
extern void points_note_reference(PointsPost *p, const PointsItem *item);
extern void points_run_refund(PointsPost *p, PointsItem *item);
extern void points_run_clawback(PointsPost *p, PointsItem *item);

/* points_hold.c */
extern void points_find_hold(PointsPost *p, PointsItem *item);
extern int64 points_move_holds(PointsPost *p, PointsAccount *from, PointsAccount *to, bool (*goes) (int64 profile_id, void *arg), void *arg);
extern void points_run_hold(PointsPost *p, PointsItem *item);
extern void points_run_capture(PointsPost *p, PointsItem *item);
extern void points_run_release(PointsPost *p, PointsItem *item);
extern int64 points_release_due(PointsPost *p, PointsAccount *a);

/* points_key.c */
extern bool points_key_known(PointsPost *p, PointsItem *item);
extern void points_key_write(PointsPost *p, const PointsItem *item, int64 lot_id);

extern int64 points_canonical(PointsPost *p, int64 profile_id);

#endif							/* POINTS_ENGINE_H */
