/*
 * cdp.h
 *	  What every module of customer_cdp may use.
 *
 * A verb in C looks like this:
 *
 *		CdpVerb		verb;
 *
 *		cdp_begin_write(&verb, "identify");		-- version, read-only, standby
 *		... SPI as the owner of the tables, search_path pinned ...
 *		cdp_end(&verb);
 *
 * An error leaves through the transaction's own clean-up: nothing has to be
 * caught to give the caller's identity and settings back.
 */
#ifndef CDP_H
#define CDP_H

#include "postgres.h"
#include "fmgr.h"

#include "cdp_compat.h"
#include "cdp_errors.h"
#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "utils/jsonb.h"

/* one per module that has settings or caches, called from _PG_init */
extern void cdp_core_init(void);
extern void cdp_core_relation_init(void);
extern void cdp_identity_customer_init(void);
extern void cdp_event_log_init(void);
extern void cdp_identity_match_init(void);
extern void cdp_identity_components_init(void);
extern void cdp_segment_init(void);
extern void cdp_value_score_init(void);
extern void cdp_points_init(void);

/* settings (doc/settings.md); times are in seconds unless the name says more */
extern int	cdp_dedupe_window;
extern int	cdp_max_future;
extern int	cdp_last_seen_resolution;
extern int	cdp_max_profiles_per_customer;
extern int	cdp_generic_after;
extern int	cdp_source_lock_timeout_ms;
extern int	cdp_backfill_inline_rows;
extern int	cdp_max_block_pairs;

/* the clock: setting cdp.now, or the transaction's start */
extern TimestampTz cdp_now_value(void);

/* a moment in text; false when there is none in it */
extern bool cdp_parse_moment(const char *text, TimestampTz *result);

/* calendar rules: the zone of setting cdp.timezone */
extern struct pg_tz *cdp_zone(void);

/*
 * What a verb borrows while it runs: the identity of the owner of the
 * tables, a pinned search_path, an SPI connection.
 */
typedef struct CdpVerb
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
} CdpVerb;

extern void cdp_begin_read(CdpVerb *verb);
extern void cdp_begin_write(CdpVerb *verb, const char *name);
extern void cdp_end(CdpVerb *verb);

/* the two halves of cdp_begin_write: what may not be left out, and the frame */
extern void cdp_check_write(const char *name);
extern void cdp_begin_unchecked(CdpVerb *verb);

/* between the two nothing can write: for queries of the caller (read_only.c) */
extern void cdp_read_only_begin(void);
extern void cdp_read_only_end(void);

/*
 * Inside a verb, code of somebody else's: it runs as that role, and settings
 * it changes are as they were afterwards.  Otherwise its search_path would
 * choose the operators of the statements that follow as the owner.
 */
typedef struct CdpActor
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
} CdpActor;

extern void cdp_become(CdpActor *before, Oid role);
extern void cdp_return(CdpActor *before);

/* 55000 unless tables, extension and library fit together; waits for a migration (core_version.c) */
extern void cdp_check_version(void);
extern void cdp_forget_version(void);

/* owner of cdp.meta, who owns all tables */
extern Oid	cdp_owner(void);

/* Oid of a relation of schema cdp, InvalidOid when it is not there (core_relation.c) */
extern Oid	cdp_relation(const char *name);
extern void cdp_forget_relation(Oid relid);

/* is this key of a jsonb object the one with that name */
static inline bool
cdp_key_is(const JsonbValue *key, const char *name)
{
	return key->val.string.len == (int) strlen(name) &&
		memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

/* a copy of a value inside a larger jsonb that takes no more room than it needs */
extern Jsonb *cdp_jsonb_copy(JsonbValue *value);

/* what may be kept or told of somebody else's error: its message without the value that it quotes */
extern char *cdp_message_without_values(const ErrorData *error);

/*
 * Prepare once per backend and keep; *slot is a static of the caller.  The
 * statement runs with search_path = pg_catalog, pg_temp.
 */
extern SPIPlanPtr cdp_plan(SPIPlanPtr *slot, const char *sql, int nargs, const Oid *types);
/* planned once for all values: index probes by key */
extern SPIPlanPtr cdp_plan_generic(SPIPlanPtr *slot, const char *sql, int nargs, const Oid *types);
/* planned anew each time: arrays whose size decides the plan */
extern SPIPlanPtr cdp_plan_custom(SPIPlanPtr *slot, const char *sql, int nargs, const Oid *types);

/* memory of the running aggregate; outside of one 55000 with this hint: its state is changed in place */
extern MemoryContext cdp_aggregate_context(FunctionCallInfo fcinfo, const char *hint);

/* the row type of the function, looked up once per query and kept in fn_extra */
extern TupleDesc cdp_result_desc(FunctionCallInfo fcinfo);

/*
 * Caches of rule tables.  The trigger function cdp._rules_changed() tells
 * every backend about a change in a table of rules; a cache names its table
 * with cdp_watch_rules, remembers cdp_rules_epoch when it is filled, and is
 * refilled when that has moved on.
 */
extern uint64 cdp_rules_epoch;
extern void cdp_watch_rules(Oid relid);
/* run a query over rules; the rows are in SPI_tuptable */
extern void cdp_read_rules(SPIPlanPtr *slot, const char *sql);

#endif							/* CDP_H */
