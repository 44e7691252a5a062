/*
 * event.h
 *	  event for the other modules: things that happened in, log rows out.
 */
#ifndef CDP_EVENT_H
#define CDP_EVENT_H

#include "identity.h"

#define CDP_MAX_NAME_BYTES			200
#define CDP_MAX_MESSAGE_ID_BYTES	512
#define CDP_MAX_PROPERTIES_BYTES	(64 * 1024)

typedef enum CdpVerdict
{
	CDP_ACCEPT,
	CDP_QUARANTINE,				/* kept in event_reject: the plan or the clock says so */
	CDP_REJECT					/* an error; who.sqlstate, message, hint say which */
} CdpVerdict;

typedef struct CdpEventItem
{
	/* in; identifiers, traits, source and occurred_at of who */
	CdpSighting who;
	const char *name;
	Jsonb	   *properties;		/* or NULL */
	const char *message_id;		/* or NULL: always a new event */
	const char *channel;		/* or NULL */
	Jsonb	   *raw;			/* the item as it came, to be kept when it is bad; or NULL */
	int			ord;			/* its number for the user, from 1 */
	int64		event_id;		/* in: 0, or the id a quarantined event was given */
	TimestampTz received_at;	/* in: 0, or when it was first received */
	/* out */
	CdpVerdict	verdict;
	const char *warning;		/* accepted, but not as the plan wants it; or NULL */
	bool		is_new;			/* written by this call; else event_id is the event known before */
} CdpEventItem;

/*
 * Validate, identify and write n events.  Items that come with a verdict
 * other than CDP_ACCEPT are left as they are.  With raise the first rejected
 * item raises; otherwise rejected and quarantined items go to event_reject,
 * when keep is true.  permanent: keys of (source, message_id) are never
 * pruned.  Answers the number of new events.  Called between cdp_begin_write
 * and cdp_end.
 */
extern int64 cdp_track(CdpEventItem *items, int n, bool raise, bool keep, bool permanent);

/*
 * Write events whose profiles are known and whose event_id, received_at and
 * occurred_at are set: each (source, message_id) once.  is_new says which
 * were written.  Answers their number.
 */
extern int64 cdp_write_events(CdpEventItem **items, int n, bool permanent);

/* read {"identifiers", "name", "properties", "occurred_at", "message_id", "source", "channel", "traits"} */
extern void cdp_read_event(JsonbContainer *object, CdpEventItem *item);

/* event_schema.c: the tracking plan's opinion of a valid item; may set verdict, warning and traits */
extern void cdp_check_plan(CdpEventItem *item);

#endif							/* CDP_EVENT_H */
