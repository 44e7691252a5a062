/*
 * tag_bits_everyone.c
 *	  Who is a customer at all: one more key, for queries that say not.
 *
 *		cdp.profile --trigger--> tag_everyone   (1000, 1999, added)
 *		merge of customers ----> tag_everyone   (1007, 1007, gone)
 *		CALL cdp.merge_tags() -> key '*' of tag_bits
 *
 * A statement that makes a thousand profiles appends one row: their ids are
 * neighbours.  Nobody waits for anybody.  Of two changes of one id the later
 * one has the larger seq, because the row of cdp.profile was locked by both.
 *
 * SQL: sql/tag_bits.sql.  Page: doc/tag_bits.md.  Tests: test/sql/tag_bits.sql,
 * test/specs/tag_merge_race.spec.
 */
#include "tag_bits_write.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "identity_step.h"
#include "miscadmin.h"
#include "probe.h"
#include "rows.h"
#include "tag_customer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cdp_profile_changed);
PG_FUNCTION_INFO_V1(cdp_rebuild_everyone);
PG_FUNCTION_INFO_V1(cdp_everyone_is_sound);

static void
append_range(int64 first, int64 last, bool added)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[3] = {INT8OID, INT8OID, BOOLOID};
	Datum		args[3] = {Int64GetDatum(first), Int64GetDatum(last), BoolGetDatum(added)};

	if (SPI_execute_plan(cdp_plan_generic(&plan, "INSERT INTO cdp.tag_everyone (first_id, last_id, added) VALUES ($1, $2, $3)",
										  3, types), args, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not note who is a customer");
}

void
cdp_tag_bits_customers_changed(int64 winner, int64 loser, const char *action)
{
	append_range(loser, loser, strcmp(action, "unmerge") == 0);
}

/* ids of a transition table, ascending */
static int64 *
read_ids(Tuplestorestate *store, Relation rel, int *n)
{
	AttrNumber	column = get_attnum(RelationGetRelid(rel), "profile_id");
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsMinimalTuple);
	Size		room = 64;
	int64	   *ids = palloc(sizeof(int64) * room);
	bool		ordered = true;
	int			k = 0;

	tuplestore_rescan(store);
	while (tuplestore_gettupleslot(store, true, false, slot))
	{
		bool		isnull;

		if (k == room)
		{
			room *= 2;
			ids = repalloc_huge(ids, sizeof(int64) * room);
		}
		ids[k++] = DatumGetInt64(slot_getattr(slot, column, &isnull));
		ordered = ordered && (k < 2 || ids[k - 2] <= ids[k - 1]);
	}
	ExecDropSingleTupleTableSlot(slot);
	if (!ordered)
		qsort(ids, k, sizeof(int64), cdp_id_compare);
	*n = k;
	return ids;
}

/*
 * Tags that were given to these profiles after our snapshot: nothing of ours
 * would take them away.
 */
static void
refuse_unseen(const int64 *ids, int n)
{
	CdpProbe   *probe;
	bool		found = false;

	PushActiveSnapshot(GetLatestSnapshot());
	probe = cdp_probe_open("profile_tag", "profile_tag_pkey");
	for (int i = 0; i < n && !found; i++)
	{
		if (i % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
		found = cdp_probe_int8(probe, ids[i]) != NULL;
	}
	cdp_probe_close(probe);
	PopActiveSnapshot();
	if (found)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: these customers were given tags concurrently"),
				 errhint("Retry the transaction.")));
}

/*
 * Tags go with their profile.  Nothing was said about them, so the history
 * keeps what it has; of a merged customer the other profiles' tags remain.
 */
static void
drop_tags(const int64 *ids, int n)
{
	static SPIPlanPtr drop = NULL;
	static SPIPlanPtr merged = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	static const CdpTagWriter writer = {.by_rule = true, .quiet = true, .locked = true};
	Datum		args[1] = {cdp_id_array(ids, n)};
	int64	   *customers;
	uint64		k;

	k = cdp_write_tags(cdp_plan_custom(&drop, "DELETE FROM cdp.profile_tag WHERE profile_id = ANY ($1)", 1, types),
					   args, NULL, &writer);
	if (IsolationUsesXactSnapshot())
		refuse_unseen(ids, n);
	if (k == 0)
		return;
	if (SPI_execute_plan(cdp_plan_custom(&merged,
										 "SELECT DISTINCT a.customer_id FROM cdp.profile_alias a JOIN cdp.profile p ON p.profile_id = a.customer_id"
										 " WHERE a.profile_id = ANY ($1)", 1, types), args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read aliases");
	k = SPI_processed;
	customers = palloc(sizeof(int64) * Max(k, 1));
	for (uint64 i = 0; i < k; i++)
	{
		bool		isnull;

		customers[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	for (uint64 i = 0; i < k; i++)
		cdp_reunite_tags(customers[i]);
}

static void
drop_all_tags(void)
{
	static SPIPlanPtr plan = NULL;
	static const CdpTagWriter writer = {.by_rule = true, .quiet = true, .locked = true};

	(void) cdp_write_tags(cdp_plan(&plan, "DELETE FROM cdp.profile_tag", 0, NULL), NULL, NULL, &writer);
}

/* Trigger on cdp.profile, after each statement: profiles came or went. */
Datum
cdp_profile_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	CdpVerb		verb;
	bool		added;
	int64	   *ids;
	int			n;

	if (!CALLED_AS_TRIGGER(fcinfo) || RelationGetRelid(trigger->tg_relation) != cdp_relation("profile"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cdp._profile_changed() must be called as a trigger on cdp.profile")));
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
	{
		cdp_begin_unchecked(&verb);
		append_range(PG_INT64_MIN, PG_INT64_MAX, false);
		drop_all_tags();
		cdp_end(&verb);
		PG_RETURN_POINTER(NULL);
	}
	added = TRIGGER_FIRED_BY_INSERT(trigger->tg_event);
	ids = read_ids(added ? trigger->tg_newtable : trigger->tg_oldtable, trigger->tg_relation, &n);
	if (n > 0)
	{
		cdp_begin_unchecked(&verb);
		for (int i = 0; i < n;)
		{
			int			k = i + 1;

			CHECK_FOR_INTERRUPTS();
			while (k < n && ids[k] <= ids[k - 1] + 1)
				k++;
			append_range(ids[i], ids[k - 1], added);
			i = k;
		}
		if (!added)
			drop_tags(ids, n);
		cdp_end(&verb);
	}
	PG_RETURN_POINTER(NULL);
}

/* ---------------------------------------------------------------- merging */

static void
forget_rows(const int64 *seqs, int n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[1] = {INT8ARRAYOID};
	Datum		args[1];

	if (n == 0)
		return;
	args[0] = cdp_id_array(seqs, n);
	if (SPI_execute_plan(cdp_plan_custom(&plan, "DELETE FROM cdp.tag_everyone WHERE seq = ANY ($1)", 1, types),
						 args, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not forget who became a customer");
}

static void
add_members(int32 key_id, int64 delta)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[2] = {INT4OID, INT8OID};
	Datum		args[2] = {Int32GetDatum(key_id), Int64GetDatum(delta)};

	if (SPI_execute_plan(cdp_plan_generic(&plan, "UPDATE cdp.tag_key SET members = members + $2 WHERE key_id = $1", 2, types),
						 args, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not count everyone");
}

static int32
everyone_key(void)
{
	char		key = TAG_KEY_EVERYONE;

	return cdp_tag_key_id(&key, 1, true);
}

/* chunks of a key within a range, ascending, each once */
static int64 *
chunks_between(int32 key_id, int64 first, int64 last, int64 *chunks, int *n)
{
	CdpProbe   *p = cdp_probe_open_range("tag_bits", "tag_bits_pkey", 3);
	AttrNumber	column = cdp_probe_column(p, "chunk");
	ScanKeyData keys[3];
	TupleTableSlot *slot;
	bool		isnull;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(key_id));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(first));
	ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(last));
	cdp_probe_range(p, keys);
	while ((slot = cdp_probe_next(p)) != NULL)
	{
		if ((*n & (*n - 1)) == 0)
			chunks = chunks == NULL ? palloc(sizeof(int64)) : repalloc_huge(chunks, sizeof(int64) * 2 * *n);
		chunks[(*n)++] = DatumGetInt64(slot_getattr(slot, column, &isnull));
	}
	cdp_probe_close(p);
	return chunks;
}

int64
cdp_tag_merge_everyone(int batch)
{
	int64	   *seqs = palloc(sizeof(int64) * batch);
	int32		key_id = everyone_key();
	TagEveryone e;
	TagChunkReader reader;
	int64	   *chunks = NULL;
	int			nchunks = 0;
	int64		delta = 0;
	int			n;

	cdp_tag_everyone_read(&e, batch, &seqs, &n);
	if (n == 0)
		return 0;
	for (int i = 0; i < e.ncleared; i++)
		chunks = chunks_between(key_id, TagChunkOf(e.cleared[2 * i]), TagChunkOf(e.cleared[2 * i + 1]), chunks, &nchunks);
	for (int i = 0; i < e.npatches; i++)
	{
		if ((nchunks & (nchunks - 1)) == 0)
			chunks = chunks == NULL ? palloc(sizeof(int64)) : repalloc_huge(chunks, sizeof(int64) * 2 * nchunks);
		chunks[nchunks++] = e.patches[i].chunk;
	}
	if (nchunks > 1)
		qsort(chunks, nchunks, sizeof(int64), cdp_id_compare);
	cdp_tag_chunk_open(&reader);
	cdp_tag_write_begin();
	for (int i = 0; i < nchunks; i++)
	{
		uint64		words[TAG_CHUNK_WORDS];

		CHECK_FOR_INTERRUPTS();
		if (i > 0 && chunks[i] == chunks[i - 1])
			continue;
		(void) cdp_tag_chunk_words(&reader, key_id, chunks[i], words);
		delta -= cdp_words_count(words, TAG_CHUNK_BITS);
		cdp_tag_everyone_apply(&e, chunks[i], words);
		delta += cdp_words_count(words, TAG_CHUNK_BITS);
		cdp_tag_write_words(key_id, chunks[i], words);
	}
	cdp_tag_write_end();
	cdp_tag_chunk_close(&reader);
	if (delta != 0)
		add_members(key_id, delta);
	forget_rows(seqs, n);
	return n;
}

/* -------------------------------------------------------------- rebuilding */

/* profiles that are customers, ascending: profiles and aliases side by side */
typedef struct Customers
{
	CdpProbe   *profiles;
	CdpProbe   *aliases;
	AttrNumber	profile_column;
	AttrNumber	alias_column;
	bool		has_alias;
	int64		alias;
} Customers;

static void
next_alias(Customers *c)
{
	TupleTableSlot *slot = cdp_probe_next(c->aliases);
	bool		isnull;

	c->has_alias = slot != NULL;
	if (slot != NULL)
		c->alias = DatumGetInt64(slot_getattr(slot, c->alias_column, &isnull));
}

static bool
next_customer(Customers *c, int64 *id)
{
	TupleTableSlot *slot;

	while ((slot = cdp_probe_next(c->profiles)) != NULL)
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		*id = DatumGetInt64(slot_getattr(slot, c->profile_column, &isnull));
		while (c->has_alias && c->alias < *id)
			next_alias(c);
		if (!c->has_alias || c->alias != *id)
			return true;
	}
	return false;
}

static void
open_customers(Customers *c)
{
	c->profiles = cdp_probe_open_range("profile", "profile_pkey", 0);
	c->aliases = cdp_probe_open_range("profile_alias", "profile_alias_pkey", 0);
	c->profile_column = cdp_probe_column(c->profiles, "profile_id");
	c->alias_column = cdp_probe_column(c->aliases, "profile_id");
	cdp_probe_range(c->profiles, NULL);
	cdp_probe_range(c->aliases, NULL);
	next_alias(c);
}

static void
close_customers(Customers *c)
{
	cdp_probe_close(c->profiles);
	cdp_probe_close(c->aliases);
}

/* everyone anew, under the lock of cdp.tag_horizon and a snapshot that is not older */
static int64
rebuild(void)
{
	static SPIPlanPtr drop = NULL;
	static SPIPlanPtr zero = NULL;
	static const Oid types[1] = {INT4OID};
	int32		key_id = everyone_key();
	Datum		args[1] = {Int32GetDatum(key_id)};
	CdpProbe   *p = cdp_probe_open_range("tag_everyone", "tag_everyone_pkey", 0);
	AttrNumber	column = cdp_probe_column(p, "seq");
	TupleTableSlot *slot;
	int64	   *seqs = NULL;
	int			nseqs = 0;
	uint64		words[TAG_CHUNK_WORDS];
	int64		chunk = 0;
	int64		n = 0;
	int64		id;
	Customers	c;

	/* what this snapshot sees of the changes is in what it sees of the customers */
	cdp_probe_range(p, NULL);
	while ((slot = cdp_probe_next(p)) != NULL)
	{
		bool		isnull;

		if ((nseqs & (nseqs - 1)) == 0)
			seqs = seqs == NULL ? palloc(sizeof(int64)) : repalloc_huge(seqs, sizeof(int64) * 2 * nseqs);
		seqs[nseqs++] = DatumGetInt64(slot_getattr(slot, column, &isnull));
	}
	cdp_probe_close(p);
	if (SPI_execute_plan(cdp_plan_generic(&drop, "DELETE FROM cdp.tag_bits WHERE key_id = $1", 1, types),
						 args, NULL, false, 0) != SPI_OK_DELETE ||
		SPI_execute_plan(cdp_plan_generic(&zero, "UPDATE cdp.tag_key SET members = 0 WHERE key_id = $1", 1, types),
						 args, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not empty the bitmap of everyone");
	open_customers(&c);
	cdp_tag_write_begin();
	memset(words, 0, sizeof(words));
	while (next_customer(&c, &id))
	{
		if (TagChunkOf(id) != chunk)
		{
			if (n > 0)
				cdp_tag_write_words(key_id, chunk, words);
			memset(words, 0, sizeof(words));
			chunk = TagChunkOf(id);
		}
		words[TagLowOf(id) >> 6] |= UINT64CONST(1) << (TagLowOf(id) & 63);
		n++;
	}
	if (n > 0)
		cdp_tag_write_words(key_id, chunk, words);
	cdp_tag_write_end();
	close_customers(&c);
	add_members(key_id, n);
	for (int i = 0; i < nseqs; i += 10000)
		forget_rows(seqs + i, Min(10000, nseqs - i));
	return n;
}

/* cdp._rebuild_everyone() -> customers: also while the tables are being migrated */
Datum
cdp_rebuild_everyone(PG_FUNCTION_ARGS)
{
	CdpVerb		verb;
	int64		n;

	PreventCommandIfReadOnly("rebuild_everyone");
	cdp_begin_unchecked(&verb);
	cdp_tag_lock_horizon();
	cdp_push_fresh_snapshot();
	n = rebuild();
	PopActiveSnapshot();
	cdp_end(&verb);
	PG_RETURN_INT64(n);
}

/* --------------------------------------------------------------- verifying */

/* is everyone who the bitmap says? differences go to report */
void
cdp_tag_verify_everyone(TagReport report, void *arg)
{
	static const TagQuery *query = NULL;
	MemoryContext caller;
	CdpTagReader *r;
	Customers	c;
	int64		chunk;
	int64		id = 0;
	bool		has_id;

	if (query == NULL)
	{
		caller = MemoryContextSwitchTo(TopMemoryContext);
		query = cdp_tagquery_parse("*");
		MemoryContextSwitchTo(caller);
	}
	open_customers(&c);
	has_id = next_customer(&c, &id);
	r = cdp_tag_read_open(&query, 1, cdp_now_value());
	while (cdp_tag_read_next(r, &chunk))
	{
		const uint64 *words = cdp_tag_read_words(r, 0);

		for (int w = 0; w < TAG_CHUNK_WORDS; w++)
		{
			for (uint64 x = words[w]; x != 0; x &= x - 1)
			{
				int64		found = TagChunkId(chunk, w * 64 + pg_rightmost_one_pos64(x));

				for (; has_id && id < found; has_id = next_customer(&c, &id))
					report(arg, "everyone: a customer is missing", NULL, 0, id);
				if (has_id && id == found)
					has_id = next_customer(&c, &id);
				else
					report(arg, "everyone: this is no customer", NULL, 0, found);
			}
		}
	}
	for (; has_id; has_id = next_customer(&c, &id))
		report(arg, "everyone: a customer is missing", NULL, 0, id);
	cdp_tag_read_close(r);
	close_customers(&c);
}

static void
count_problem(void *arg, const char *problem, const char *key, int len, int64 customer_id)
{
	(*(int64 *) arg)++;
}

/* cdp._everyone_is_sound() -> boolean: also while the tables are being migrated */
Datum
cdp_everyone_is_sound(PG_FUNCTION_ARGS)
{
	int64		problems = 0;

	cdp_tag_verify_everyone(count_problem, &problems);
	PG_RETURN_BOOL(problems == 0);
}
