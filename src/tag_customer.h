/*
 * tag_customer.h
 *	  Tags of customers: cdp.profile_tag and who writes it.
 *
 *		verbs, plain statements ──> profile_tag ──trigger──> tag_history, tag_change, events
 *		merge, unmerge ──handler──> profile_tag                (own_tags stay: nothing was said)
 *
 * Every writer only writes profile_tag; what follows from it is the work of
 * the trigger (tag_change.c), so that a COPY is as exact as cdp.add_tag().
 */
#ifndef CDP_TAG_CUSTOMER_H
#define CDP_TAG_CUSTOMER_H

#include "tag.h"

/* a row of cdp.tag, as far as writers ask (tag_dictionary.c) */
typedef struct CdpTagRule
{
	char		name[TAG_MAX_NAME + 1];
	bool		typed;			/* new entries must be of value_type */
	TagValueType value_type;
	bool		expires;		/* default_ttl counts */
	Interval	default_ttl;
	bool		has_rule;
	bool		emits_events;
} CdpTagRule;

/* NULL: not declared.  SPI is connected. */
extern const CdpTagRule *cdp_tag_rule(const char *name, int len);

/* none, number, date, text */
extern const char *cdp_tag_type_name(TagValueType type);

/* value as text, as cdp.tag_history and cdp.tag_value() show it */
extern char *cdp_tag_value_text(const TagValue *value);

/* the same value and validity? the same set, or both none? */
extern bool cdp_tag_same_entry(const TagEntry *a, const TagEntry *b);
extern bool cdp_tagset_same(const struct varlena *a, const struct varlena *b);

/* on whose behalf profile_tag is written */
typedef struct CdpTagWriter
{
	const char *source;			/* for cdp.tag_history, or NULL */
	bool		by_rule;		/* may write tags that a rule owns */
	bool		quiet;			/* what is written was said before: no history, no events */
	bool		locked;			/* the profiles concerned are locked and there */
	bool		customers;		/* and none of them is part of another customer */
	bool		spreading;		/* rows of merged customers are being put right */
} CdpTagWriter;

/* run a statement of ours that writes profile_tag; answers the number of rows */
extern uint64 cdp_write_tags(SPIPlanPtr plan, Datum *args, const char *nulls, const CdpTagWriter *writer);

/*
 * The same for an INSERT of n rows, ON CONFLICT DO NOTHING: a row that the
 * snapshot of the transaction does not see is 40001, not 23505.
 */
extern void cdp_insert_tags(SPIPlanPtr plan, Datum *args, const char *nulls, const CdpTagWriter *writer, uint64 n);

/*
 * tag_reunite.c: make tags of a customer's rows what own_tags and the aliases
 * say; or own_tags of a merged customer what its tags say, from which the
 * entries of gone (NULL: none) were taken.  Memory is given back at the end.
 */
extern void cdp_reunite_tags(int64 customer_id);
extern void cdp_spread_tags(int64 customer_id, const struct varlena *gone, const CdpTagWriter *writer);

/* type cdp.tagset, and a plan whose parameters of type InvalidOid are of it: it may be dropped and made again */
typedef struct CdpTagPlan
{
	SPIPlanPtr	plan;
	Oid			tagset;
} CdpTagPlan;
extern Oid	cdp_tagset_type(void);
extern SPIPlanPtr cdp_tag_plan(CdpTagPlan *slot, const char *sql, int nargs, const Oid *types);

/* handler of cdp._customers_changed */
extern void cdp_tags_customers_changed(int64 winner, int64 loser, const char *action);

#endif							/* CDP_TAG_CUSTOMER_H */
