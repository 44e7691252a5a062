/*
 * identity_refusal.c
 *	  What was not done and why: refusals, counted; identifiers that turn out
 *	  to tell nobody apart; identifiers that were erased for ever.
 *
 * A shop tablet that is refused by a thousand customers must not become the
 * row everybody waits for.  So the same refusal is counted in one row when
 * that row is free, and otherwise, or when our snapshot is old, in another:
 * as many rows as sessions that met, at most.
 *
 * Page: doc/identity.md.  Tests: test/sql/identity_limits.sql.
 */
#include "identity_batch.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "rows.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(cdp_tombstone_hash);

void
cdp_note_refusal(Batch *b, const char *reason, const char *kind, int node,
				 int64 customer_id, int64 other_id, const CdpSighting *item)
{
	Refusal    *r;

	GROW(b->refusals, b->nrefusals, b->maxrefusals);
	r = &b->refusals[b->nrefusals++];
	r->reason = reason;
	r->kind = kind ? pstrdup(kind) : NULL;
	r->node = node;
	r->customer_id = customer_id;
	r->other_id = other_id;
	r->source = item->source;
	r->occurred_at = item->occurred_at;
	r->times = 1;
}

static int
compare_text(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return (a != NULL) - (b != NULL);
	return strcmp(a, b);
}

static int
compare_refusals(const Refusal *a, const Refusal *b)
{
	int			cmp = strcmp(a->reason, b->reason);

	if (cmp == 0)
		cmp = compare_text(a->kind, b->kind);
	if (cmp == 0)
		cmp = a->node < b->node ? -1 : a->node > b->node;
	return cmp != 0 ? cmp : compare_text(a->source, b->source);
}

/* equal ones in the order they came */
static int
compare_refusal_pointers(const void *x, const void *y)
{
	const Refusal *a = *(Refusal *const *) x;
	const Refusal *b = *(Refusal *const *) y;
	int			cmp = compare_refusals(a, b);

	return cmp != 0 ? cmp : a < b ? -1 : 1;
}

static Datum
id_or_null(int64 id, char *null)
{
	*null = id == 0 ? 'n' : ' ';
	return Int64GetDatum(id);
}

static Datum
text_or_null(const char *s, char *null)
{
	*null = s == NULL ? 'n' : ' ';
	return s ? CStringGetTextDatum(s) : (Datum) 0;
}

static void
count_one(Batch *b, const Refusal *r)
{
	static SPIPlanPtr update_plan = NULL;
	static SPIPlanPtr insert_plan = NULL;
	static const Oid types[9] = {TEXTOID, TEXTOID, INT8OID, TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID};
	Datum		args[9];
	char		nulls[9];

	memset(nulls, ' ', sizeof(nulls));
	args[0] = CStringGetTextDatum(r->reason);
	args[1] = text_or_null(r->kind, &nulls[1]);
	args[2] = id_or_null(r->node >= 0 ? b->nodes[r->node].identifier_id : 0, &nulls[2]);
	args[3] = text_or_null(r->source, &nulls[3]);
	args[4] = id_or_null(r->customer_id, &nulls[4]);
	args[5] = id_or_null(r->other_id, &nulls[5]);
	args[6] = TimestampTzGetDatum(r->occurred_at);
	args[7] = Int64GetDatum(r->times);
	args[8] = TimestampTzGetDatum(cdp_now_value());
	/* with an old snapshot a row that somebody counted in since would end the transaction */
	if (!IsolationUsesXactSnapshot())
	{
		cdp_plan_generic(&update_plan,
						 "UPDATE cdp.merge_refusal m SET times = m.times + $8, last_at = $9, occurred_at = $7,"
						 " customer_id = coalesce($5, m.customer_id), other_id = coalesce($6, m.other_id)"
						 " WHERE m.refusal_id = (SELECT s.refusal_id FROM cdp.merge_refusal s"
						 "  WHERE s.reason = $1 AND coalesce(s.identifier_id, 0) = coalesce($3, 0)"
						 "   AND s.kind IS NOT DISTINCT FROM $2 AND s.source IS NOT DISTINCT FROM $4 LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)",
						 9, types);
		if (SPI_execute_plan(update_plan, args, nulls, false, 0) != SPI_OK_UPDATE)
			elog(ERROR, "could not count a refusal");
		if (SPI_processed > 0)
			return;
	}
	cdp_plan_generic(&insert_plan,
					 "INSERT INTO cdp.merge_refusal (reason, kind, identifier_id, source, customer_id, other_id, occurred_at, times, at, last_at)"
					 " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)", 9, types);
	if (SPI_execute_plan(insert_plan, args, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not note a refusal");
}

/* Equal refusals of the batch are one, then counted. */
void
cdp_write_refusals(Batch *b)
{
	Refusal   **sorted;
	int			n = 0;

	if (b->nrefusals == 0)
		return;
	sorted = palloc(sizeof(Refusal *) * b->nrefusals);
	for (int i = 0; i < b->nrefusals; i++)
		sorted[n++] = &b->refusals[i];
	qsort(sorted, n, sizeof(Refusal *), compare_refusal_pointers);
	for (int i = 0; i < n; i++)
	{
		Refusal		sum = *sorted[i];

		for (; i + 1 < n && compare_refusals(sorted[i + 1], &sum) == 0; i++)
		{
			int64		times = sum.times + sorted[i + 1]->times;
			int64		customer_id = sum.customer_id;
			int64		other_id = sum.other_id;

			/* the last one stands for all */
			sum = *sorted[i + 1];
			sum.times = times;
			sum.customer_id = sum.customer_id ? sum.customer_id : customer_id;
			sum.other_id = sum.other_id ? sum.other_id : other_id;
		}
		count_one(b, &sum);
	}
	pfree(sorted);
}

/*
 * Who refused an identifier: the profiles of the stronger identifiers in its
 * refused pairs.  More than cdp.generic_after + 1 are not needed.
 */
void
cdp_load_refused_by(IdNode *node)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[5] = {INT8OID, TEXTOID, TEXTOID, INT4OID, INT4OID};
	Datum		args[5];

	node->refused_by = palloc(sizeof(Refuser) * (cdp_generic_after + 1));
	node->nrefused = 0;
	args[0] = Int64GetDatum(node->identifier_id);
	args[1] = CStringGetTextDatum(node->kind);
	args[2] = CStringGetTextDatum(node->value);
	args[3] = Int32GetDatum(node->priority);
	args[4] = Int32GetDatum(cdp_generic_after + 1);
	cdp_plan_generic(&plan,
					 "SELECT o.profile_id, count(*) FROM"
					 " (SELECT l.identifier_b AS other, l.refusal, l.relation FROM cdp.identity_link l"
					 "  WHERE l.identifier_a = $1 AND l.revoked_at IS NULL AND l.refusal IS NOT NULL"
					 "  UNION ALL SELECT l.identifier_a, l.refusal, l.relation FROM cdp.identity_link l"
					 "  WHERE l.identifier_b = $1 AND l.revoked_at IS NULL AND l.refusal IS NOT NULL) r"
					 " JOIN cdp.identifier o ON o.identifier_id = r.other"
					 " LEFT JOIN cdp.identifier_kind k ON k.kind = o.kind"
					 " WHERE r.relation = 'same' AND r.refusal <> 'kept_apart'"
					 "  AND (k.priority, o.kind COLLATE \"C\", o.value COLLATE \"C\") < ($4, $2 COLLATE \"C\", $3 COLLATE \"C\")"
					 " GROUP BY o.profile_id LIMIT $5", 5, types);
	if (SPI_execute_plan(plan, args, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read refused evidence");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		node->refused_by[i].profile_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		node->refused_by[i].npairs = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
	node->nrefused = (int) SPI_processed;
	SPI_freetuptable(SPI_tuptable);
}

/* Who holds the row is flagging it, too, or will see it flagged next time. */
void
cdp_write_generic(Batch *b)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {INT8OID, TIMESTAMPTZOID};
	Datum		args[2];

	for (int i = 0; i < b->nnodes; i++)
	{
		if (!b->nodes[i].turned_generic)
			continue;
		args[0] = Int64GetDatum(b->nodes[i].identifier_id);
		args[1] = TimestampTzGetDatum(cdp_now_value());
		cdp_plan_generic(&plan,
						 "WITH free AS (SELECT i.identifier_id FROM cdp.identifier i WHERE i.identifier_id = $1"
						 "  AND i.generic_since IS NULL FOR NO KEY UPDATE SKIP LOCKED)"
						 " UPDATE cdp.identifier i SET generic_since = $2 FROM free f WHERE i.identifier_id = f.identifier_id",
						 2, types);
		if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_UPDATE)
			elog(ERROR, "could not flag a generic identifier");
	}
}

/* --- erased identifiers --- */

static bool tombstones_any = false;
static char *tombstones_salt = NULL;
static uint64 tombstones_epoch = 0;

static void
load_tombstone_rules(void)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext caller = CurrentMemoryContext;
	char	   *salt;
	uint64		epoch;
	bool		isnull;

	if (tombstones_epoch == cdp_rules_epoch)
		return;
	cdp_watch_rules(cdp_relation("identifier_tombstone"));
	epoch = cdp_rules_epoch;
	cdp_read_rules(&plan, "SELECT EXISTS (SELECT FROM cdp.identifier_tombstone),"
				   " (SELECT m.value FROM cdp.meta m WHERE m.key = 'tombstone_salt')");
	tombstones_any = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	salt = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	if (tombstones_salt != NULL)
		pfree(tombstones_salt);
	tombstones_salt = MemoryContextStrdup(CacheMemoryContext, salt ? salt : "");
	/* not earlier: whoever was interrupted here knows nothing */
	tombstones_epoch = epoch;
	SPI_freetuptable(SPI_tuptable);
	MemoryContextSwitchTo(caller);
}

/* SHA-256 over salt, kind, value, each but the last with its zero byte */
static bytea *
tombstone_hash(const char *kind, const char *value)
{
	bytea	   *hash = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);

	SET_VARSIZE(hash, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	if (ctx == NULL || pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) tombstones_salt, strlen(tombstones_salt) + 1) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) kind, strlen(kind) + 1) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) value, strlen(value)) < 0 ||
		pg_cryptohash_final(ctx, (uint8 *) VARDATA(hash), PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not compute a SHA-256 hash");
	pg_cryptohash_free(ctx);
	return hash;
}

bool
cdp_is_tombstone(const char *kind, const char *value)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {BYTEAOID};
	Datum		arg;
	bool		found;

	load_tombstone_rules();
	if (!tombstones_any)
		return false;
	arg = PointerGetDatum(tombstone_hash(kind, value));
	cdp_plan_generic(&plan, "SELECT 1 FROM cdp.identifier_tombstone t WHERE t.hash = $1", 1, types);
	if (SPI_execute_plan(plan, &arg, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.identifier_tombstone");
	found = SPI_processed > 0;
	SPI_freetuptable(SPI_tuptable);
	return found;
}

bool
cdp_no_tombstones(void)
{
	return tombstones_epoch == cdp_rules_epoch && !tombstones_any;
}

/* cdp._tombstone_hash(kind text, value text) -> bytea, of a normalised value */
Datum
cdp_tombstone_hash(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	CdpVerb		verb;
	bytea	   *hash;

	cdp_begin_read(&verb);
	load_tombstone_rules();
	MemoryContextSwitchTo(caller);
	hash = tombstone_hash(text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1)));
	cdp_end(&verb);
	PG_RETURN_BYTEA_P(hash);
}
