/*
 * identity_write.c
 *	  What a batch of sightings leaves behind: identifiers and profiles,
 *	  evidence, last sightings, traits; and the locks on who changes.
 *
 * Page: doc/identity.md.  Tests: test/sql/identity.sql.
 */
#include "identity_batch.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "probe.h"
#include "rows.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
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

	if (cmp == 0)
		cmp = strcmp(a->value, b->value);
	/* incarnations of one value, the older first */
	return cmp != 0 ? cmp : a < b ? -1 : 1;
}

/* A profile is born with its first identifier. */
static void
write_profiles(IdNode **fresh, int n)
{
	static SPIPlanPtr plan = NULL;
	static const char *const names[2] = {"profile_id", "born_at"};
	static const Oid types[2] = {INT8OID, TIMESTAMPTZOID};
	static const bool nulls[2] = {false, false};
	CdpRows    *rows = NULL;

	for (int i = 0; i < n; i++)
	{
		Datum		values[2];

		if (!fresh[i]->founds_profile)
			continue;
		if (rows == NULL)
			rows = cdp_rows_open("new_profile", 2, names, types);
		cdp_rows_start(rows);
		values[0] = Int64GetDatum(fresh[i]->profile_id);
		values[1] = TimestampTzGetDatum(fresh[i]->born_at);
		cdp_rows_put(rows, values, nulls);
	}
	if (rows == NULL)
		return;
	cdp_rows_publish(rows);
	cdp_plan_generic(&plan,
					 "INSERT INTO cdp.profile (profile_id, created_at)"
					 " SELECT profile_id, born_at FROM new_profile ORDER BY profile_id",
					 0, NULL);
	if (SPI_execute_plan(plan, NULL, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write profiles");
	cdp_rows_close(rows);
}

/* Rows of recycled identifiers become history; their customers are locked. */
static void
close_identifiers(Batch *b)
{
	static SPIPlanPtr plan = NULL;
	static const char *const names[2] = {"id", "at"};
	static const Oid types[2] = {INT8OID, TIMESTAMPTZOID};
	static const bool nulls[2] = {false, false};
	CdpRows    *rows = NULL;

	for (int i = 0; i < b->nnodes; i++)
	{
		Datum		values[2];

		if (b->nodes[i].closed_at == 0 || b->nodes[i].is_new)
			continue;
		if (rows == NULL)
			rows = cdp_rows_open("recycled", 2, names, types);
		cdp_rows_start(rows);
		values[0] = Int64GetDatum(b->nodes[i].identifier_id);
		values[1] = TimestampTzGetDatum(b->nodes[i].closed_at);
		cdp_rows_put(rows, values, nulls);
	}
	if (rows == NULL)
		return;
	cdp_rows_are_few(rows);
	cdp_rows_publish(rows);
	cdp_plan_generic(&plan,
					 "UPDATE cdp.identifier i SET valid_to = r.at FROM recycled r WHERE i.identifier_id = r.id",
					 0, NULL);
	if (SPI_execute_plan(plan, NULL, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not close recycled identifiers");
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
	static const char *const names[7] = {"kind", "value", "profile_id", "first_at", "seen_at", "source", "closed_at"};
	static const Oid types[7] = {TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID};
	IdNode	  **fresh = palloc(sizeof(IdNode *) * b->nnew);
	CdpRows    *rows;
	int			n = 0;
	int			next = 0;

	close_identifiers(b);
	for (int i = 0; i < b->nnodes; i++)
	{
		if (b->nodes[i].is_new)
			fresh[n++] = &b->nodes[i];
	}
	Assert(n == b->nnew);
	qsort(fresh, n, sizeof(IdNode *), compare_new);
	rows = cdp_rows_open("new_identifier", 7, names, types);
	for (int i = 0; i < n; i++)
	{
		Datum		values[7];
		bool		nulls[7] = {false, false, false, false, false, false, false};

		cdp_rows_start(rows);
		values[0] = CStringGetTextDatum(fresh[i]->kind);
		values[1] = CStringGetTextDatum(fresh[i]->value);
		values[2] = Int64GetDatum(fresh[i]->profile_id);
		values[3] = TimestampTzGetDatum(fresh[i]->first_now);
		values[4] = TimestampTzGetDatum(fresh[i]->last_now);
		values[5] = text_or_null(fresh[i]->source, &nulls[5]);
		values[6] = TimestampTzGetDatum(fresh[i]->closed_at);
		nulls[6] = fresh[i]->closed_at == 0;
		cdp_rows_put(rows, values, nulls);
	}
	cdp_rows_publish(rows);
	cdp_plan_generic(&plan,
					 "INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen, source, valid_to)"
					 " SELECT kind, value, profile_id, first_at, seen_at, source, closed_at FROM new_identifier"
					 " ON CONFLICT (kind, value) WHERE valid_to IS NULL DO NOTHING"
					 " RETURNING identifier_id",
					 0, NULL);
	if (SPI_execute_plan(plan, NULL, NULL, false, 0) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "could not write identifiers");
	cdp_rows_close(rows);
	if (SPI_processed != (uint64) n)
		return false;
	/* all came back, in the order of the rows */
	for (next = 0; next < n; next++)
	{
		bool		isnull;

		fresh[next]->identifier_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[next], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	write_profiles(fresh, n);
	return true;
}

static Datum
id_array(const int64 *ids, int n)
{
	Datum	   *datums = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		datums[i] = Int64GetDatum(ids[i]);
	return PointerGetDatum(construct_array(datums, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
}

/* one row, without a plan that is made for an array */
static bool
lock_profile(int64 id)
{
	CdpProbe   *probe;
	bool		found;

	cdp_push_fresh_snapshot();
	probe = cdp_probe_open_to_lock("profile", "profile_pkey");
	found = cdp_probe_int8(probe, id) != NULL && cdp_probe_lock(probe) != NULL;
	cdp_probe_close(probe);
	PopActiveSnapshot();
	return found;
}

/*
 * FOR NO KEY UPDATE, so that nobody who only refers to a profile has to
 * wait; ascending, so that nobody deadlocks.
 */
int
cdp_lock_profiles(const int64 *ids, int n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	Datum		arg;

	if (n == 1)
		return lock_profile(ids[0]) ? 1 : 0;
	arg = id_array(ids, n);
	cdp_plan_custom(&plan,
					"SELECT 1 FROM cdp.profile WHERE profile_id = ANY ($1) ORDER BY profile_id FOR NO KEY UPDATE",
					1, types);
	if (SPI_execute_plan(plan, &arg, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not lock customers");
	SPI_freetuptable(SPI_tuptable);
	return (int) SPI_processed;
}

/* as many probes of an index cost less than to plan for an array */
#define FEW		10

/* is one of them an alias, by the latest snapshot? */
static bool
are_merged(const int64 *ids, int n)
{
	bool		merged = false;
	CdpProbe   *probe;

	PushActiveSnapshot(GetLatestSnapshot());
	probe = cdp_probe_open("profile_alias", "profile_alias_pkey");
	for (int i = 0; !merged && i < n; i++)
		merged = cdp_probe_int8(probe, ids[i]) != NULL;
	cdp_probe_close(probe);
	PopActiveSnapshot();
	return merged;
}

static bool
are_many_merged(const int64 *ids, int n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	Datum		arg = id_array(ids, n);
	Snapshot	latest;
	bool		merged;

	cdp_plan_custom(&plan, "SELECT 1 FROM cdp.profile_alias WHERE profile_id = ANY ($1) LIMIT 1", 1, types);
	latest = RegisterSnapshot(GetLatestSnapshot());
	if (SPI_execute_snapshot(plan, &arg, NULL, latest, InvalidSnapshot, true, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read aliases");
	UnregisterSnapshot(latest);
	merged = SPI_processed > 0;
	SPI_freetuptable(SPI_tuptable);
	return merged;
}

/*
 * The latest snapshot, also where the transaction has an older one: who held
 * the locks before us is done, and his merge must not be undone by ours.
 */
bool
cdp_are_customers(const int64 *ids, int n)
{
	bool		changed = n <= FEW ? are_merged(ids, n) : are_many_merged(ids, n);

	if (changed && IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: these customers were merged concurrently"),
				 errhint("Retry the transaction.")));
	return !changed;
}

/* new evidence */
static void
insert_links(Batch *b, bool refused)
{
	static SPIPlanPtr plan = NULL;
	static const char *const names[7] = {"a", "b", "rule", "source", "at", "merge_id", "refusal"};
	static const Oid types[7] = {INT8OID, INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INT8OID, TEXTOID};
	CdpRows    *rows = NULL;

	for (int i = 0; i < b->npairs; i++)
	{
		Pair	   *p = &b->pairs[i];
		IdNode	   *x = &b->nodes[p->a];
		IdNode	   *y = &b->nodes[p->b];
		Datum		values[7];
		bool		nulls[7] = {false, false, false, false, false, false, false};

		if (p->link_id != 0 || (p->refusal != NULL) != refused)
			continue;
		if (rows == NULL)
			rows = cdp_rows_open("pair", 7, names, types);
		cdp_rows_start(rows);
		values[0] = Int64GetDatum(Min(x->identifier_id, y->identifier_id));
		values[1] = Int64GetDatum(Max(x->identifier_id, y->identifier_id));
		values[2] = CStringGetTextDatum(cdp_pair_rule(x, y));
		values[3] = text_or_null(p->source, &nulls[3]);
		values[4] = TimestampTzGetDatum(p->occurred_at);
		nulls[5] = p->merge < 0;
		values[5] = nulls[5] ? (Datum) 0 : Int64GetDatum(b->merges[p->merge].merge_id);
		values[6] = text_or_null(p->refusal, &nulls[6]);
		cdp_rows_put(rows, values, nulls);
	}
	if (rows == NULL)
		return;
	cdp_rows_publish(rows);
	cdp_plan_generic(&plan,
					 "INSERT INTO cdp.identity_link (identifier_a, identifier_b, rule, source, occurred_at, merge_id, refusal)"
					 " SELECT p.a, p.b, p.rule, p.source, p.at, p.merge_id, p.refusal FROM pair p ORDER BY p.a, p.b"
					 " ON CONFLICT DO NOTHING",
					 0, NULL);
	if (SPI_execute_plan(plan, NULL, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write evidence");
	cdp_rows_close(rows);
}

/* known evidence that is followed at last, caused a merge, or was seen earlier than known */
static void
update_links(Batch *b, bool refused)
{
	static SPIPlanPtr plan = NULL;
	static const char *const names[4] = {"id", "at", "merge_id", "refusal"};
	static const Oid types[4] = {INT8OID, TIMESTAMPTZOID, INT8OID, TEXTOID};
	CdpRows    *rows = NULL;

	for (int i = 0; i < b->npairs; i++)
	{
		Pair	   *p = &b->pairs[i];
		Datum		values[4];
		bool		nulls[4] = {false, false, false, false};

		if (p->link_id == 0 || (p->refusal != NULL) != refused ||
			(p->occurred_at == p->was_at && p->merge < 0 && (p->refusal != NULL) == (p->was_refused != NULL)))
			continue;
		if (rows == NULL)
			rows = cdp_rows_open("pair", 4, names, types);
		cdp_rows_start(rows);
		values[0] = Int64GetDatum(p->link_id);
		values[1] = TimestampTzGetDatum(p->occurred_at);
		nulls[2] = p->merge < 0;
		values[2] = nulls[2] ? (Datum) 0 : Int64GetDatum(b->merges[p->merge].merge_id);
		values[3] = text_or_null(p->refusal, &nulls[3]);
		cdp_rows_put(rows, values, nulls);
	}
	if (rows == NULL)
		return;
	cdp_rows_are_few(rows);
	cdp_rows_publish(rows);
	/* a refused one is nobody's to wait for: whoever holds it judges it anew; and who has judged it since, stays right */
	cdp_plan_generic(&plan,
					 "WITH free AS (SELECT l.link_id, p.at, p.merge_id, p.refusal FROM pair p"
					 "  JOIN cdp.identity_link l ON l.link_id = p.id"
					 "  WHERE p.refusal IS NULL OR l.refusal IS NOT NULL ORDER BY l.link_id FOR NO KEY UPDATE OF l SKIP LOCKED)"
					 " UPDATE cdp.identity_link l SET occurred_at = least(l.occurred_at, f.at),"
					 "  merge_id = coalesce(f.merge_id, l.merge_id), refusal = f.refusal"
					 " FROM free f WHERE l.link_id = f.link_id",
					 0, NULL);
	if (SPI_execute_plan(plan, NULL, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update evidence");
	cdp_rows_close(rows);
}

/*
 * The evidence.  What is followed is written under the locks of the
 * customers it holds together, what is refused afterwards, without any.
 */
void
cdp_write_links(Batch *b, bool refused)
{
	insert_links(b, refused);
	update_links(b, refused);
}

/* Sightings that the simulation found worth writing: newer by the resolution, or older than the first. */
void
cdp_write_last_seen(Batch *b)
{
	static SPIPlanPtr plan = NULL;
	static const char *const names[3] = {"id", "first_at", "last_at"};
	static const Oid types[3] = {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	static const bool nulls[3] = {false, false, false};
	CdpRows    *rows = NULL;

	for (int i = 0; i < b->nnodes; i++)
	{
		IdNode	   *node = &b->nodes[i];
		Datum		values[3];

		if (node->is_new || node->identifier_id == 0 ||
			(node->last_now == node->last_seen && node->first_now == node->first_seen))
			continue;
		if (rows == NULL)
			rows = cdp_rows_open("seen", 3, names, types);
		cdp_rows_start(rows);
		values[0] = Int64GetDatum(node->identifier_id);
		values[1] = TimestampTzGetDatum(node->first_now);
		values[2] = TimestampTzGetDatum(node->last_now);
		cdp_rows_put(rows, values, nulls);
	}
	if (rows == NULL)
		return;
	cdp_rows_are_few(rows);
	cdp_rows_publish(rows);
	/* whoever holds the row is writing the same thing: never wait for it */
	cdp_plan_generic(&plan,
					 "WITH free AS (SELECT i.identifier_id, s.first_at, s.last_at FROM seen s"
					 "  JOIN cdp.identifier i ON i.identifier_id = s.id"
					 "  FOR NO KEY UPDATE OF i SKIP LOCKED)"
					 " UPDATE cdp.identifier i SET first_seen = least(i.first_seen, f.first_at),"
					 "  last_seen = greatest(i.last_seen, f.last_at)"
					 " FROM free f WHERE i.identifier_id = f.identifier_id",
					 0, NULL);
	if (SPI_execute_plan(plan, NULL, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not write the last sighting");
	cdp_rows_close(rows);
}

static int
compare_items(const void *x, const void *y)
{
	const CdpSighting *a = *(CdpSighting *const *) x;
	const CdpSighting *b = *(CdpSighting *const *) y;

	if (a->profile_id != b->profile_id)
		return a->profile_id < b->profile_id ? -1 : 1;
	return a < b ? -1 : 1;
}

/* what a statement over the traits of so many sightings takes stays below some ten megabytes */
#define TRAITS_AT_ONCE	8192

static void
put_traits(CdpSighting **items, int n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[4] = {INT8ARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID};
	Datum	   *cols[4];
	bool	   *nulls = palloc0(sizeof(bool) * n);
	Datum		args[4];
	int			lbs[1] = {1};

	for (int c = 0; c < 4; c++)
		cols[c] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		cols[0][i] = Int64GetDatum(items[i]->profile_id);
		cols[1][i] = JsonbPGetDatum(items[i]->traits);
		nulls[i] = items[i]->source == NULL;
		cols[2][i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(items[i]->source);
		cols[3][i] = TimestampTzGetDatum(items[i]->occurred_at);
	}
	args[0] = PointerGetDatum(construct_array(cols[0], n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	args[1] = PointerGetDatum(construct_array(cols[1], n, JSONBOID, -1, false, TYPALIGN_INT));
	args[2] = PointerGetDatum(construct_md_array(cols[2], nulls, 1, &n, lbs, TEXTOID, -1, false, TYPALIGN_INT));
	args[3] = PointerGetDatum(construct_array(cols[3], n, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
	cdp_plan(&plan, "SELECT cdp._put_traits($1, $2, $3, $4)", 4, types);
	if (SPI_execute_plan(plan, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not write traits");
	SPI_freetuptable(SPI_tuptable);
}

/*
 * What became of the traits does not depend on the order; the locks do: in
 * the order of the profiles, however many statements they take.
 */
void
cdp_write_traits(Batch *b)
{
	CdpSighting **items;
	MemoryContext part;
	int			n = 0;

	for (int i = 0; i < b->nitems; i++)
	{
		if (b->items[i].sqlstate == 0 && b->items[i].traits != NULL && JB_ROOT_COUNT(b->items[i].traits) > 0)
			n++;
	}
	if (n == 0)
		return;
	items = palloc(sizeof(CdpSighting *) * n);
	n = 0;
	for (int i = 0; i < b->nitems; i++)
	{
		if (b->items[i].sqlstate == 0 && b->items[i].traits != NULL && JB_ROOT_COUNT(b->items[i].traits) > 0)
			items[n++] = &b->items[i];
	}
	if (n > 1)
		qsort(items, n, sizeof(CdpSighting *), compare_items);
	part = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp traits", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < n; i += TRAITS_AT_ONCE)
	{
		MemoryContext old = MemoryContextSwitchTo(part);

		put_traits(items + i, Min(TRAITS_AT_ONCE, n - i));
		MemoryContextSwitchTo(old);
		MemoryContextReset(part);
	}
	MemoryContextDelete(part);
	pfree(items);
}
