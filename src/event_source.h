/*
 * event_source.h
 *	  Existing tables as sources: one engine for four ways in.
 *
 *		trigger of an attached table  ──┐
 *		back-fill, batch by batch     ──┤	rows of a relation
 *		retry of queued rows          ──┼─>	 mapped (as the role of the source)
 *		files and views (ingest)      ──┘	  identified and applied (as the owner of
 *											   the cdp tables), bad rows handed back
 *
 * A source is a row of cdp.source.  Its mapping was checked when it was
 * attached and is kept as the text of a select list, every name in it
 * qualified.  It runs as the role of the source, which must be one whose
 * privileges the owner of the table has; the triggers carry a digest of it,
 * so that a mapping edited behind attach_source's back is not run.
 *
 * event_source.c			the trigger
 * event_source_map.c		from a mapping to a checked select list
 * event_source_rows.c		from rows of a relation to columns of values
 * event_source_apply.c		from values to profiles, orders, events
 * event_source_take.c		good rows in, bad rows apart; the queue
 * event_source_attach.c	attach, detach, the triggers on the user's table
 * event_source_copy.c		the back-fill, batch by batch
 * event_source_retry.c		rows of the queue, tried again
 * event_ingest.c			files, views, foreign tables
 *
 * SQL: sql/event_source.sql, sql/event_ingest.sql.  Pages: doc/event_source.md,
 * doc/event_ingest.md.
 */
#ifndef CDP_EVENT_SOURCE_H
#define CDP_EVENT_SOURCE_H

#include "cdp.h"
#include "executor/tuptable.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/plancache.h"
#include "utils/relcache.h"

typedef enum SourceRole
{
	SOURCE_CUSTOMER,
	SOURCE_EVENT,
	SOURCE_ORDER,
	SOURCE_ORDER_LINE,
	SOURCE_PRODUCT
} SourceRole;

/* one key of a mapping whose value is a single expression */
typedef struct SourceField
{
	const char *key;
	Oid			type;
	bool		required;
} SourceField;

/* what a role may map */
typedef struct SourceShape
{
	const char *name;
	const char *body;			/* nested object that becomes jsonb, or NULL */
	bool		identified;		/* has "identifiers" */
	int			nfields;
	const SourceField *fields;
} SourceShape;

extern const SourceShape source_shapes[];

/*
 * A source ready to map rows of one relation.  The columns of its select
 * list: nkeys texts, nkinds identifiers (text or text[]), the body (jsonb,
 * only when the shape has one), the fields of the shape in order.
 */
typedef struct SourceSpec
{
	int64		source_id;		/* 0: a file */
	SourceRole	role;
	const SourceShape *shape;
	char	   *name;			/* what cdp rows remember as their source */
	Oid			owner;			/* the mapping runs as this role */
	bool		keyless;		/* file without key columns */
	int			nkeys;
	int			nkinds;
	char	  **kinds;
	char	  **keys;
	int			ncols;
	Oid		   *types;			/* of the columns */
	CachedExpression *exprs;	/* list of target entries */
	Bitmapset  *attrs;			/* attributes that are read, see pull_varattnos */
	MemoryContext cxt;
	int			uses;			/* by calls that have not returned */
} SourceSpec;

#define SOURCE_BODY(spec)	((spec)->nkeys + (spec)->nkinds)
#define SOURCE_FIELD(spec, i) \
	((spec)->nkeys + (spec)->nkinds + ((spec)->shape->body ? 1 : 0) + (i))

/* the values of n rows, column by column */
typedef struct SourceBatch
{
	MemoryContext cxt;
	int			n;
	int			room;
	Datum	  **values;
	bool	  **nulls;
	int		   *origin;			/* number of the row where it came from */
	TimestampTz seen_at;		/* not 0: when the rows were seen; 0: cdp.now() */
	bool		changed;		/* they became what they are at seen_at */
} SourceBatch;

/* where rows come from: next puts one into the slot and sets raw to its number */
typedef struct SourceReader
{
	bool		(*next) (struct SourceReader *reader, TupleTableSlot *slot);
	int			raw;
} SourceReader;

/* a row that was not taken */
typedef struct SourceReject
{
	int			row;			/* its origin */
	int			sqlstate;
	char	   *message;
	char	   *hint;
} SourceReject;

/* --- event_source_map.c --- */
extern SourceRole source_role(const char *name);
extern char *source_check_mapping(Relation rel, SourceRole role, Jsonb *mapping, bool need_key,
								  List **key_columns, List **kinds);
extern int	source_pin_settings(void);

/* --- event_source_rows.c --- */
extern void source_compile(SourceSpec *spec, Relation rel, const char *alias, const char *select_list);
extern SourceSpec *source_load(int64 source_id, Relation rel, const char *digest);
extern SourceBatch *source_new_batch(SourceSpec *spec, int room);
extern void source_free_batch(SourceBatch *batch);
extern void source_map_rows(SourceSpec *spec, SourceBatch *batch, TupleDesc desc, const TupleTableSlotOps *ops,
							SourceReader *reader);
extern void source_map_tuples(SourceSpec *spec, SourceBatch *batch, TupleDesc desc, HeapTuple *tuples, int n, int first);

/* --- event_source_apply.c --- */
extern List *source_apply(SourceSpec *spec, SourceBatch *batch, int from, int to);
extern List *source_cancel(SourceSpec *spec, SourceBatch *batch);
extern char *source_key_text(SourceSpec *spec, SourceBatch *batch, int row);
extern TimestampTz source_clock(void);

/* --- event_source_take.c --- */
/* what a subtransaction does; false: it was rolled back, *error says why */
typedef void (*SourceStep) (void *arg);
extern bool source_attempt(SourceStep step, void *arg, ErrorData **error);
extern bool source_is_data_error(ErrorData *error);
extern List *source_take_tuples(SourceSpec *spec, TupleDesc desc, HeapTuple *tuples, int n, TimestampTz seen_at, bool changed);
extern List *source_reject_all(int n, ErrorData *error);
pg_noreturn extern void source_raise(SourceReject *reject);
extern void source_enqueue(int64 source_id, const char *op, Relation rel, HeapTuple *rows, List *rejects);
extern void source_count(int64 source_id, int64 taken, int64 deletes, int64 truncates);
extern Datum source_row_image(TupleDesc desc, Oid owner, HeapTuple row);
extern void source_begin_owner(CdpVerb *verb);

/* --- event_source_attach.c --- */
extern const char *source_trigger_digest(Relation rel, int64 source_id);
extern void source_check_kinds(List *kinds);
extern char *source_plain_name(Oid relid);
extern Relation source_open(Oid relid);

/* how cdp.source is told from what the triggers carry */
#define SOURCE_DIGEST \
	"encode(sha256(convert_to(concat_ws(E'\\x1f', s.source_id, s.role, s.on_delete, s.owner, s.key_columns::text," \
	" s.identifier_kinds::text, s.select_list), 'UTF8')), 'hex')"

/* --- event_source_copy.c --- */
extern bool source_copy_inline(int64 source_id, Oid relid, int64 *taken, int64 *queued);

#endif							/* CDP_EVENT_SOURCE_H */
