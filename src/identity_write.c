/*
 * identity_write.c
 *	  What a batch of sightings leaves behind: identifiers and profiles,
 *	  evidence, last sightings, traits; and the locks on who merges.
 *
 * Page: doc/identity.md.  Tests: test/sql/identity.sql.
 */
#include "identity_batch.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "rows.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

static Datum
text_or_null(const char *s, bool *isnull)
{
	*isnull = s == NULL;
	return s ? CStringGetTextDatum(s) : (Datum) 0;
}

static int
compare_new(const void *x, const void *y)
{
	const IdNode *a = *(IdNode *const *) x;
	const IdNode *b = *(IdNode *const *) y;
	int			cmp = strcmp(a->kind, b->kind);

	return cmp != 0 ? cmp : strcmp(a->value, b->value);
}

/* A profile is born with its first identifier. */
static void
write_profiles(IdNode **fresh, int n)
{
	static SPIPlanPtr plan = NULL;
	static const char *const names[2] = {"profile_id", "first_at"};
	static const Oid types[2] = {INT8OID, TIMESTAMPTZOID};
	static const bool nulls[2] = {false, false};
	CdpRows    *rows = cdp_rows_open("new_profile", 2, names, types);

	for (int i = 0; i < n; i++)
	{
		Datum		values[2];

		if (fresh[i]->identifier_id == 0)
			continue;
		cdp_rows_start(rows);
		values[0] = Int64GetDatum(fresh[i]->profile_id);
		values[1] = TimestampTzGetDatum(fresh[i]->first_at);
		cdp_rows_put(rows, values, nulls);
	}
	cdp_rows_publish(rows);
	/* an identifier may also have joined a profile that exists */
	cdp_plan_generic(&plan,
					 "INSERT INTO cdp.profile (profile_id, created_at)"
					 " SELECT profile_id, min(first_at) FROM new_profile"
					 " GROUP BY profile_id ORDER BY profile_id"
					 " ON CONFLICT DO NOTHING",
					 0, NULL);
	if (SPI_execute_plan(plan, NULL, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write profiles");
	cdp_rows_close(rows);
}

/*
 * Insert the new identifiers, sorted, so that two batches never wait for
 * each other in a circle, and the profiles that came with them.  False when
 * somebody else was faster with one of them.
 */
bool
cdp_write_identifiers(Batch *b)
{
	static SPIPlanPtr plan = NULL;
	static const char *const names[6] = {"kind", "value", "profile_id", "first_at", "seen_at", "source"};
	static const Oid types[6] = {TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID};
	IdNode	  **fresh = palloc(sizeof(IdNode *) * b->nnew);
	CdpRows    *rows = cdp_rows_open("new_identifier", 6, names, types);
	int			n = 0;
	int			next = 0;
	bool		complete;

	for (int i = 0; i < b->nnodes; i++)
	{
		if (b->nodes[i].is_new)
			fresh[n++] = &b->nodes[i];
	}
	qsort(fresh, n, sizeof(IdNode *), compare_new);
	for (int i = 0; i < n; i++)
	{
		Datum		values[6];
		bool		nulls[6] = {false, false, false, false, false, false};

		cdp_rows_start(rows);
		values[0] = CStringGetTextDatum(fresh[i]->kind);
		values[1] = CStringGetTextDatum(fresh[i]->value);
		values[2] = Int64GetDatum(fresh[i]->profile_id);
		values[3] = TimestampTzGetDatum(fresh[i]->first_at);
		values[4] = TimestampTzGetDatum(fresh[i]->seen_at);
		values[5] = text_or_null(fresh[i]->source, &nulls[5]);
		cdp_rows_put(rows, values, nulls);
	}
	cdp_rows_publish(rows);
	cdp_plan_generic(&plan,
					 "INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen, source)"
					 " SELECT kind, value, profile_id, first_at, seen_at, source FROM new_identifier"
					 " ON CONFLICT (kind, value) WHERE valid_to IS NULL DO NOTHING"
					 " RETURNING identifier_id, kind, value",
					 0, NULL);
	if (SPI_execute_plan(plan, NULL, NULL, false, 0) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "could not write identifiers");
	cdp_rows_close(rows);
	complete = SPI_processed == (uint64) n;
	/* the answer comes in the order of the rows */
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tup = SPI_tuptable->vals[i];
		char	   *kind = SPI_getvalue(tup, SPI_tuptable->tupdesc, 2);
		char	   *value = SPI_getvalue(tup, SPI_tuptable->tupdesc, 3);
		bool		isnull;

		while (next < n && (strcmp(fresh[next]->value, value) != 0 || strcmp(fresh[next]->kind, kind) != 0))
			next++;
		if (next == n)
			elog(ERROR, "an identifier came back that was not written");
		fresh[next++]->identifier_id = DatumGetInt64(SPI_getbinval(tup, SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	write_profiles(fresh, n);
	return complete;
}

static int
compare_int64(const void *x, const void *y)
{
	int64		a = *(const int64 *) x;
	int64		b = *(const int64 *) y;

	return a < b ? -1 : a > b;
}

/*
 * Lock the profile rows of the customers that merge, ascending, and see
 * whether they are still customers.  FOR NO KEY UPDATE, so that nobody who
 * only refers to a profile has to wait.
 *
 * When they are not, the locks are given back before we look again: whom
 * they belong to now may have a smaller id, and whoever locks downwards
 * deadlocks.  Only a subtransaction can give row locks back.
 */
bool
cdp_lock_customers(Batch *b)
{
	static SPIPlanPtr lock_plan = NULL;
	static SPIPlanPtr alias_plan = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	int64	   *ids = palloc(sizeof(int64) * b->nmerges * 2);
	Datum	   *datums = palloc(sizeof(Datum) * b->nmerges * 2);
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Datum		args[1];
	Snapshot	latest;
	bool		changed;
	int			n = 0;

	for (int i = 0; i < b->nmerges; i++)
	{
		ids[n++] = b->merges[i].winner;
		ids[n++] = b->merges[i].loser;
	}
	qsort(ids, n, sizeof(int64), compare_int64);
	for (int i = 0; i < n; i++)
		datums[i] = Int64GetDatum(ids[i]);
	args[0] = PointerGetDatum(construct_array(datums, n, INT8OID, 8, true, TYPALIGN_DOUBLE));

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	cdp_plan(&lock_plan,
			 "SELECT 1 FROM cdp.profile WHERE profile_id = ANY ($1) ORDER BY profile_id FOR NO KEY UPDATE",
			 1, types);
	if (SPI_execute_plan(lock_plan, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not lock customers");
	SPI_freetuptable(SPI_tuptable);

	/*
	 * The latest snapshot, also where the transaction has an older one: who
	 * held the locks before us is done, and his merge must not be undone by
	 * ours.
	 */
	cdp_plan(&alias_plan, "SELECT 1 FROM cdp.profile_alias WHERE profile_id = ANY ($1) LIMIT 1", 1, types);
	latest = RegisterSnapshot(GetLatestSnapshot());
	if (SPI_execute_snapshot(alias_plan, args, NULL, latest, InvalidSnapshot, true, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read aliases");
	UnregisterSnapshot(latest);
	changed = SPI_processed > 0;
	SPI_freetuptable(SPI_tuptable);
	if (changed && IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: these customers were merged concurrently"),
				 errhint("Retry the transaction.")));
	if (changed)
		RollbackAndReleaseCurrentSubTransaction();
	else
		ReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return !changed;
}

/*
 * The evidence: pairs of identifiers of different profiles that were seen
 * together.  A pair that is known costs a probe and no write.
 */
void
cdp_write_links(Batch *b)
{
	static SPIPlanPtr plan = NULL;
	static const char *const names[5] = {"a", "b", "rule", "source", "at"};
	static const Oid types[5] = {INT8OID, INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	CdpRows    *rows = cdp_rows_open("pair", 5, names, types);

	for (int i = 0; i < b->npairs; i++)
	{
		Pair	   *p = &b->pairs[i];
		IdNode	   *x = &b->nodes[p->a];
		IdNode	   *y = &b->nodes[p->b];
		Datum		values[5];
		bool		nulls[5] = {false, false, false, false, false};

		cdp_rows_start(rows);
		values[0] = Int64GetDatum(Min(x->identifier_id, y->identifier_id));
		values[1] = Int64GetDatum(Max(x->identifier_id, y->identifier_id));
		values[2] = CStringGetTextDatum(psprintf("%s+%s", cdp_is_stronger(x, y) ? x->kind : y->kind,
												 cdp_is_stronger(x, y) ? y->kind : x->kind));
		values[3] = text_or_null(p->source, &nulls[3]);
		values[4] = TimestampTzGetDatum(p->occurred_at);
		cdp_rows_put(rows, values, nulls);
	}
	cdp_rows_publish(rows);
	cdp_plan_generic(&plan,
					 "INSERT INTO cdp.identity_link (identifier_a, identifier_b, rule, source, occurred_at)"
					 " SELECT DISTINCT ON (p.a, p.b) p.a, p.b, p.rule, p.source, p.at FROM pair p"
					 " WHERE NOT EXISTS (SELECT FROM cdp.identity_link l WHERE l.identifier_a = p.a"
					 "  AND l.identifier_b = p.b AND l.relation = 'same' AND l.revoked_at IS NULL)"
					 " ORDER BY p.a, p.b, p.at, p.source"
					 " ON CONFLICT DO NOTHING",
					 0, NULL);
	if (SPI_execute_plan(plan, NULL, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write evidence");
	cdp_rows_close(rows);
}

/* Sightings newer than the last one written, at most once per resolution. */
void
cdp_write_last_seen(Batch *b)
{
	static SPIPlanPtr plan = NULL;
	static const char *const names[2] = {"id", "at"};
	static const Oid types[2] = {INT8OID, TIMESTAMPTZOID};
	static const bool nulls[2] = {false, false};
	int64		resolution = (int64) cdp_last_seen_resolution * USECS_PER_SEC;
	CdpRows    *rows = NULL;

	for (int i = 0; i < b->nnodes; i++)
	{
		IdNode	   *node = &b->nodes[i];
		Datum		values[2];

		if (node->is_new || node->identifier_id == 0 || node->seen_at <= node->last_seen + resolution)
			continue;
		if (rows == NULL)
			rows = cdp_rows_open("seen", 2, names, types);
		cdp_rows_start(rows);
		values[0] = Int64GetDatum(node->identifier_id);
		values[1] = TimestampTzGetDatum(node->seen_at);
		cdp_rows_put(rows, values, nulls);
	}
	if (rows == NULL)
		return;
	cdp_rows_publish(rows);
	/* whoever holds the row is writing the same thing: never wait for it */
	cdp_plan_generic(&plan,
					 "WITH free AS (SELECT i.identifier_id, s.at FROM seen s"
					 "  JOIN cdp.identifier i ON i.identifier_id = s.id WHERE i.last_seen < s.at"
					 "  FOR NO KEY UPDATE OF i SKIP LOCKED)"
					 " UPDATE cdp.identifier i SET last_seen = f.at FROM free f WHERE i.identifier_id = f.identifier_id",
					 0, NULL);
	if (SPI_execute_plan(plan, NULL, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not write the last sighting");
	cdp_rows_close(rows);
}

void
cdp_write_traits(Batch *b)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[4] = {INT8ARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID};
	Datum	   *cols[4];
	bool	   *nulls;
	Datum		args[4];
	int			n = 0;
	int			dims[1];
	int			lbs[1] = {1};

	for (int i = 0; i < b->nitems; i++)
	{
		if (b->items[i].sqlstate == 0 && b->items[i].traits != NULL && JB_ROOT_COUNT(b->items[i].traits) > 0)
			n++;
	}
	if (n == 0)
		return;
	nulls = palloc0(sizeof(bool) * n);
	for (int c = 0; c < 4; c++)
		cols[c] = palloc(sizeof(Datum) * n);
	n = 0;
	for (int i = 0; i < b->nitems; i++)
	{
		CdpSighting *item = &b->items[i];

		if (item->sqlstate != 0 || item->traits == NULL || JB_ROOT_COUNT(item->traits) == 0)
			continue;
		cols[0][n] = Int64GetDatum(item->profile_id);
		cols[1][n] = JsonbPGetDatum(item->traits);
		nulls[n] = item->source == NULL;
		cols[2][n] = nulls[n] ? (Datum) 0 : CStringGetTextDatum(item->source);
		cols[3][n] = TimestampTzGetDatum(item->occurred_at);
		n++;
	}
	dims[0] = n;
	args[0] = PointerGetDatum(construct_array(cols[0], n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	args[1] = PointerGetDatum(construct_array(cols[1], n, JSONBOID, -1, false, TYPALIGN_INT));
	args[2] = PointerGetDatum(construct_md_array(cols[2], nulls, 1, dims, lbs, TEXTOID, -1, false, TYPALIGN_INT));
	args[3] = PointerGetDatum(construct_array(cols[3], n, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
	cdp_plan(&plan, "SELECT cdp._put_traits($1, $2, $3, $4)", 4, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not write traits");
}
