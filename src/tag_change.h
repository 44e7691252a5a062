/*
 * tag_change.h
 *	  What the trigger on cdp.profile_tag is made of.
 *
 *		tag_change_rows.c	the rows of a statement, before and after
 *		tag_change_note.c	what follows from one: history, changes to be counted, events
 *		tag_change.c		the trigger, and what is put right for merged customers
 */
#ifndef CDP_TAG_CHANGE_H
#define CDP_TAG_CHANGE_H

#include "tag_customer.h"

#include "commands/trigger.h"
#include "event.h"
#include "rows.h"
#include "utils/tuplestore.h"

/* one row of profile_tag before and after; NULL where there is none */
typedef struct CdpTagSide
{
	struct varlena *tags;
	struct varlena *own;
} CdpTagSide;

/* ---------------------------------------------------- tag_change_rows.c */

/* the rows of a statement, side by side */
typedef struct CdpTagPairs
{
	Tuplestorestate *old;		/* NULL: none */
	Tuplestorestate *new;
	int			old_ptr;
	int			new_ptr;
	TupleTableSlot *old_slot;
	TupleTableSlot *new_slot;
	int			attr[3];		/* profile_id, tags, own_tags: a repaired table may have them in another order */
} CdpTagPairs;

extern void cdp_tag_pairs_begin(CdpTagPairs *rows, TriggerData *td);
extern void cdp_tag_pairs_rewind(CdpTagPairs *rows);
extern bool cdp_tag_pairs_next(CdpTagPairs *rows);
extern void cdp_tag_pairs_end(CdpTagPairs *rows);
extern int64 cdp_tag_pairs_id(const CdpTagPairs *rows, TupleTableSlot *slot);
/* what the row says, as long as it is the current one */
extern void cdp_tag_pairs_side(const CdpTagPairs *rows, TupleTableSlot *slot, CdpTagSide *side);
extern struct varlena *cdp_tag_attribute(TupleTableSlot *slot, int attr);
/* ids of the rows in their order, and of those that are new, sorted */
extern int64 *cdp_tag_pairs_ids(CdpTagPairs *rows, int *n, int64 **new_ids, int *nnew);

/* ---------------------------------------------------- tag_change_note.c */

#define CDP_NOTE_COLUMNS	9

/* rows for one table: the only one as parameters of a plan, many as a relation */
typedef struct CdpNotes
{
	const struct CdpNoteKind *kind;
	int			n;
	Datum		values[CDP_NOTE_COLUMNS];	/* the first row, where only is set */
	bool		nulls[CDP_NOTE_COLUMNS];
	CdpRows    *rows;			/* all of them otherwise, or from the second on */
} CdpNotes;

/* what follows from the rows of a statement */
typedef struct CdpTagNotes
{
	const CdpTagWriter *writer;
	TimestampTz now;
	bool		only;			/* the statement has one row, which stays as it is up to the end */
	CdpNotes	history;
	CdpNotes	counted;
	List	   *events;
	MemoryContext context;
	MemoryContext event_context;	/* NULL: there was none yet */
} CdpTagNotes;

extern void cdp_tag_notes_begin(CdpTagNotes *notes, const CdpTagWriter *writer, bool only);
/* what was said: before and after of own_tags, or of tags where there are none */
extern void cdp_tag_note_said(CdpTagNotes *notes, int64 profile_id, const struct varlena *before, const struct varlena *after);
/* what counts: before and after of tags */
extern void cdp_tag_note_counted(CdpTagNotes *notes, int64 customer_id, struct varlena *before, struct varlena *after);
/* write it */
extern void cdp_tag_notes_end(CdpTagNotes *notes);

#endif							/* CDP_TAG_CHANGE_H */
