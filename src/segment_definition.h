/*
 * segment_definition.h
 *	  What a stored definition is: the text of a segment or of the rule of a
 *	  tag, looked at when it is written, run when it is needed.
 *
 *		region.华东.* & aov > 1000				cdp.tagquery
 *		SELECT customer_id FROM shop.fans		a query: its first word is
 *												SELECT, WITH, VALUES or TABLE
 *
 * A query runs as the role that wrote it and finds names as that role did.
 */
#ifndef CDP_SEGMENT_DEFINITION_H
#define CDP_SEGMENT_DEFINITION_H

#include "audience.h"

#include "executor/tuptable.h"
#include "nodes/pg_list.h"

/* a definition as its row has it */
typedef struct CdpDefinition
{
	const char *text;
	const char *owner;			/* role that wrote it */
	const char *search_path;	/* in force when it was written */
	const char *what;			/* for messages: "segment \"fans\"" */
	int			columns;		/* most that a query may have: 1 customer_id, 2 value, 3 valid_until */
} CdpDefinition;

extern bool cdp_definition_is_query(const char *text);

/* names that a definition asks for, char *, each once; of tags name.* is one more form */
typedef struct CdpAsked
{
	List	   *segments;
	List	   *tags;
	bool		has_value;		/* a query with the column value */
	Oid			value_type;
} CdpAsked;

/*
 * Refuse what cannot be one, as the role that calls and under its
 * search_path: nothing is written and no row is read.
 */
extern void cdp_definition_check(const CdpDefinition *definition, CdpAsked *asked);
extern Datum cdp_names_array(List *names);

/* 42501 unless that role may have the definition run, 42704 when its owner is gone */
extern Oid	cdp_definition_owner(const CdpDefinition *definition, Oid caller);

/*
 * Run it with the active snapshot, inside a subtransaction that the caller
 * has begun: nothing in it can write.  An SPI connection is open.
 */
extern CdpAudience *cdp_definition_audience(const CdpDefinition *definition, Oid owner);

/* the same of a query, row by row; the slot is that of its own columns */
typedef void (*CdpDefinitionRow) (TupleTableSlot *slot, void *arg);
extern void cdp_definition_rows(const CdpDefinition *definition, Oid owner, CdpDefinitionRow row, void *arg);

extern CdpAudience *cdp_everyone(void);

/*
 * Who of these is a customer, under his One ID: ids of merged profiles are
 * mapped; ids itself where all are.  Those that belong to nobody are answered
 * in gone, when it is not NULL.  As of the active snapshot.
 */
extern CdpAudience *cdp_customers_among(const CdpAudience *ids, CdpAudience **gone);

/* the search_path to write down beside a definition of the caller's */
extern const char *cdp_definition_path(void);

extern CdpAudience *cdp_audience_empty(void);
extern CdpAudience *cdp_audience_both(const CdpAudience *a, const CdpAudience *b);
extern CdpAudience *cdp_audience_without(const CdpAudience *a, const CdpAudience *b);
extern bool cdp_audience_has(const CdpAudience *a, int64 id);

/* its ids, ascending */
typedef struct CdpAudienceWalk
{
	const CdpAudience *audience;
	uint32		container;
	int64		key;
	int			n;
	int			next;
	uint16	   *values;
} CdpAudienceWalk;

extern void cdp_audience_walk_begin(CdpAudienceWalk *w, const CdpAudience *a);
extern bool cdp_audience_walk_next(CdpAudienceWalk *w, int64 *id);

#endif							/* CDP_SEGMENT_DEFINITION_H */
