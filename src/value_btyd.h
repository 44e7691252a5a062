/*
 * value_btyd.h
 *	  Days of purchase: what the models of repeat buying are fitted to.
 *
 * "Buy till you die" models know a customer by x repeat purchases, the time
 * t_x of the last one and the time t_cal since the first, both counted from
 * his first purchase.  Purchases of one calendar day, in cdp.timezone, are
 * one (doc/value_btyd.md):
 *
 *		days of purchase	0  ......  14 .. 21 ........... as_of 50
 *							x = 2, t_x = 3, t_cal = 50 / 7 in weeks
 *
 * Money is in whole 10^-8, as in value.h.
 *
 *		value_btyd.c		the aggregate cdp.btyd
 *		value_btyd_state.c	text and binary form of its state
 *		value_btyd_days.c	calendar, rules, the five numbers
 *		value_btyd_pack.c	rows of all customers, packed and sorted
 *		value_btyd_table.c	cdp.btyd_table
 */
#ifndef CDP_VALUE_BTYD_H
#define CDP_VALUE_BTYD_H

#include "value.h"

/* amounts are below this many units: 10^20, so that no sum of rows overflows */
#define BTYD_MAX_UNITS	((int128) INT64CONST(10000000000) * INT64CONST(1000000000000000000))
/* a unit of time is at most a million days */
#define BTYD_MAX_UNIT	1000000

/* how refunds count */
typedef enum BtydRule
{
	BTYD_DAYS,					/* there are no amounts */
	BTYD_IGNORE,				/* negative amounts do not exist */
	BTYD_NET_DAY				/* a day is one of purchase when its sum is positive */
} BtydRule;

typedef struct BtydDay
{
	int128		net;			/* of the rows that the rule counts */
	int32		day;			/* since 2000-01-01 */
	int32		purchase;		/* 1: there is a row with amount >= 0 */
} BtydDay;

typedef struct BtydState
{
	int32		vl_len_;		/* varlena header, do not touch directly */
	int32		rule;			/* BtydRule */
	TimestampTz as_of;			/* DT_NOBEGIN: no row yet */
	int32		as_of_day;
	int32		unit;			/* days */
	uint32		n;				/* days in use, neither sorted nor unique */
	uint32		room;
	BtydDay		days[FLEXIBLE_ARRAY_MEMBER];
} BtydState;

#define BTYD_STATE_SIZE(room)	(offsetof(BtydState, days) + (Size) (room) * sizeof(BtydDay))

typedef struct BtydSummary
{
	int64		x;
	double		t_x;
	double		t_cal;
	bool		has_mean;
	double		mean_amount;
	double		log_gaps;
	int32		first_day;
	int32		last_day;
} BtydSummary;

/* value_btyd_days.c */
typedef struct BtydCalendar BtydCalendar;

extern BtydCalendar *cdp_btyd_calendar(MemoryContext context);
extern int32 cdp_btyd_day_slow(BtydCalendar *calendar, TimestampTz at);
extern int32 cdp_btyd_day(BtydCalendar *calendar, TimestampTz at);
extern int32 cdp_btyd_unit(const Interval *unit);
extern BtydRule cdp_btyd_rule(const text *refunds);
extern int128 cdp_btyd_units(struct varlena *amount, bool *negative);
extern int128 cdp_btyd_add(int128 a, int128 b);
extern uint32 cdp_btyd_sort(BtydDay *days, uint32 n);
extern bool cdp_btyd_summarise(const BtydDay *days, uint32 n, BtydRule rule, int32 as_of_day, int32 unit, BtydSummary *result);

/* does this day count as one of purchase */
static inline bool
btyd_counts(const BtydDay *day, BtydRule rule)
{
	return rule == BTYD_NET_DAY ? day->net > 0 : day->purchase;
}

/* value_btyd_pack.c */
typedef struct BtydPack BtydPack;

/* what becomes of one customer: his rows by days, and the first and last purchase of days that count */
typedef void (*BtydCustomer) (int64 customer_id, const BtydDay *days, uint32 n,
							  TimestampTz first_at, TimestampTz last_at, void *arg);

extern BtydPack *cdp_btyd_pack_begin(MemoryContext parent, BtydRule rule);
extern void cdp_btyd_pack_add(BtydPack *pack, int64 customer_id, TimestampTz at, int128 units, bool purchase);
extern void cdp_btyd_pack_finish(BtydPack *pack, BtydCalendar *calendar, BtydCustomer customer, void *arg);

#endif							/* CDP_VALUE_BTYD_H */
