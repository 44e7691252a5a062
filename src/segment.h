/*
 * segment.h
 *	  Segments: a condition with a name, its members kept.
 *
 *		define ──> segment (definition, version)		segment_definition: every version
 *		refresh ─> run the definition ─> members new
 *				   members old, under the One IDs of now
 *				   entered = new - old, left = old - new
 *				   ──> segment.members, segment_history, segment_snapshot, events: one transaction
 *
 * segment.members holds One IDs as of the last refresh.  Who was merged or
 * deleted since is found when they are read (cdp_customers_among), so a merge
 * writes nothing here.  segment_history keeps the id a customer had when he
 * entered.
 *
 * Whoever writes members holds the row of cdp.segment, FOR NO KEY UPDATE.
 *
 * What is where: segment_definition.c what a definition is, segment.c its
 * row, segment_refresh.c members, segment_read.c questions,
 * segment_dependency.c order, segment_customer.c unmerged customers.
 */
#ifndef CDP_SEGMENT_H
#define CDP_SEGMENT_H

#include "segment_definition.h"

#include "utils/timestamp.h"

/* a row of cdp.segment, locked */
typedef struct Segment
{
	const char *name;
	CdpDefinition definition;	/* text NULL: static */
	int			version;
	int			refreshed_version;	/* 0: never */
	TimestampTz refreshed_at;
	int			holdout_percent;
	const char *holdout_salt;
	int			snapshots_kept;
	CdpAudience *members;		/* NULL: never refreshed */
	bool		due;
} Segment;

/* false: there is none.  SPI is connected as the owner of the tables. */
extern bool cdp_segment_lock(const char *name, Segment *segment);

/* 42704 */
pg_noreturn extern void cdp_segment_unknown(const char *name);

/* run a statement of ours that writes cdp.segment: its trigger lets it pass */
extern uint64 cdp_segment_write(const char *sql, int nargs, const Oid *types, const Datum *args, const char *nulls);

/* type cdp.audience */
extern Oid	cdp_audience_type(void);

/*
 * Make these the members of a locked segment: history, snapshot, events.
 * reason is that of the events.  Answers whether anything changed.
 */
typedef struct SegmentChange
{
	CdpAudience *now;
	CdpAudience *entered;
	CdpAudience *left;
	CdpAudience *gone;			/* left because they are nobody any more */
} SegmentChange;

/* as of the active snapshot */
extern void cdp_segment_compare(const Segment *segment, CdpAudience *now, SegmentChange *change);
extern bool cdp_segment_apply(const Segment *segment, const SegmentChange *change, const char *reason, TimestampTz began);

/* segments that others may have to do with (segment_dependency.c): 42704 for an unknown one, 42P19 for a circle */
extern void cdp_segment_check_dependencies(const char *name, List *asked);
/* definitions change one after the other */
extern void cdp_segment_lock_definitions(void);

/* members with the active snapshot, no rights asked; NULL: there is no such segment */
extern const CdpAudience *cdp_segment_members_of(const char *name);

/* 0 to buckets - 1: cdp.holdout_bucket() */
extern int	cdp_holdout_bucket_of(int64 customer_id, const char *salt, int buckets);

/* handler of cdp._customers_changed */
extern void cdp_segments_customers_changed(int64 winner, int64 loser, const char *action);

#endif							/* CDP_SEGMENT_H */
