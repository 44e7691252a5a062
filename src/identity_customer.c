/*
 * identity_customer.c
 *	  cdp.customer_id(): facts are read through the One ID.
 *
 *		SELECT cdp.customer_id(profile_id), count(*), sum(amount) FROM orders GROUP BY 1;
 *
 * Facts keep their profile for ever and a merge is a row of
 * cdp.profile_alias, so every analysis asks this function once per fact.  A
 * call site (fn_extra) goes through up to three stages, none of which can
 * give another answer than the one before:
 *
 *	1. the first calls probe the index: a query about one customer must not
 *	   read three million aliases;
 *	2. when so much was spent on probes as a scan costs, the table is scanned
 *	   once into a hash, with a bitmap before it, because most profiles were
 *	   never merged and a bit says so without a cache miss; where ids lie
 *	   close together, as they do when nobody brought his own, the hash
 *	   becomes an array that a quarter of the memory holds;
 *	3. a hash that would outgrow cdp.alias_cache_limit is given up and the
 *	   probes go on.
 *
 * All of them read with the active snapshot.  So a cursor keeps the answer
 * it was opened with, REPEATABLE READ sees no later merge, a parallel worker
 * builds a hash of its own with the leader's snapshot.  But a call site may
 * live longer than a snapshot (simple expressions of PL/pgSQL live as long
 * as the transaction), so what was remembered is forgotten at the first call
 * with another view of the table: see SeenWith.
 *
 * The table is read without asking for rights on it, as the probes of
 * identify do: who may EXECUTE this function may know who is one customer.
 *
 * SQL: sql/identity_customer.sql.  Page: doc/identity.md.  Tests:
 * test/sql/identity_customer.sql, test/specs/identity_cursor_keeps_alias.spec,
 * identity_merge_repeatable_read.spec, test/bench/identity.sh.
 */
#include "identity.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "probe.h"
#include "storage/bufmgr.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(cdp_customer_id);
PG_FUNCTION_INFO_V1(cdp_profiles_of);

/* probes before anybody looks how large the table is */
#define FIRST_PROBES	32
/* a probe costs about as much as scanning this part of a page into the hash */
#define PROBES_PER_PAGE	16

/* of probes that are remembered: a query about one customer asks again and again for the same few; a power of two */
#define ANSWERS			64

static int	alias_cache_limit_kb;

/*
 * Which rows of a table are visible: the snapshot, and the subtransaction,
 * because a ROLLBACK TO SAVEPOINT takes rows of our own back and neither
 * snapshot nor command id need move with it.  Of the snapshot's list of
 * running transactions the length is enough: below one xmax nobody starts
 * any more, so of two such lists one is part of the other.
 */
typedef struct SeenWith
{
	TransactionId xmin,
				xmax;
	uint32		xcnt;
	int32		subxcnt;		/* on a standby all of them are here */
	CommandId	curcid;
	SubTransactionId subxact;	/* InvalidSubTransactionId: nothing seen yet */
} SeenWith;

/* empty when both are equal: no profile is an alias of itself */
typedef struct AliasSlot
{
	int64		profile_id;
	int64		customer_id;
} AliasSlot;

/* 64 ids beside each other */
typedef struct AliasWord
{
	uint64		merged;			/* a bit each */
	uint64		before;			/* how many of all smaller ids were merged */
} AliasWord;

typedef struct AliasCache
{
	SeenWith	seen;
	/* stage 1 */
	AliasSlot	answers[ANSWERS];	/* of the last probes, each at its id mod ANSWERS */
	uint64		probes;
	uint64		worth;			/* as many probes cost what a scan costs */
	bool		too_large;		/* stage 3 */
	/* stage 2 */
	bool		scanned;
	MemoryContext context;		/* of what follows, child of the call site's; NULL: never needed */
	AliasWord  *words;			/* NULL: the ids lie far apart, slots and bits are there */
	uint64		nwords;
	uint64		first_id;		/* of the first word */
	int64	   *customers;		/* of merged ids, in their order */
	AliasSlot  *slots;
	int			slots_log2;
	uint64	   *bits;			/* bit id mod size: whether a profile of such an id was merged */
	uint64		bits_mask;
} AliasCache;

void
cdp_identity_customer_init(void)
{
	DefineCustomIntVariable("cdp.alias_cache_limit",
							"How much memory one cdp.customer_id() of a query may take to remember merged profiles.",
							"Above it every call probes the index.",
							&alias_cache_limit_kb, 256 * 1024, 0, MAX_KILOBYTES,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
}

static bool
same_view(const SeenWith *seen, Snapshot now)
{
	return seen->xmin == now->xmin && seen->xmax == now->xmax && seen->xcnt == now->xcnt && seen->subxcnt == now->subxcnt &&
		seen->curcid == now->curcid && seen->subxact == GetCurrentSubTransactionId();
}

/* Forget everything and begin with this snapshot. */
static void
start_over(AliasCache *cache, Snapshot now)
{
	cache->scanned = false;
	cache->words = NULL;
	cache->customers = NULL;
	cache->slots = NULL;
	cache->bits = NULL;
	if (cache->context != NULL)
		MemoryContextReset(cache->context);
	/* at each place an id that does not belong there */
	memset(cache->answers, 0, sizeof(cache->answers));
	cache->answers[0].profile_id = 1;
	cache->probes = 0;
	cache->worth = FIRST_PROBES;
	cache->too_large = false;
	cache->seen.xmin = now->xmin;
	cache->seen.xmax = now->xmax;
	cache->seen.xcnt = now->xcnt;
	cache->seen.subxcnt = now->subxcnt;
	cache->seen.curcid = now->curcid;
	cache->seen.subxact = GetCurrentSubTransactionId();
}

/* Where an id is, or the empty slot where it would be; multiplied, so that sequential ids spread over the table. */
static inline AliasSlot *
find_slot(AliasSlot *slots, int log2, int64 profile_id)
{
	uint64		i = ((uint64) profile_id * UINT64CONST(0x9E3779B97F4A7C15)) >> (64 - log2);

	while (slots[i].profile_id != profile_id && slots[i].profile_id != slots[i].customer_id)
		i = (i + 1) & ((UINT64CONST(1) << log2) - 1);
	return &slots[i];
}

/* Where the customer of an id stands that this word says was merged. */
static inline uint64
rank_of(const AliasWord *word, uint64 bit)
{
	return word->before + pg_popcount64(word->merged & (bit - 1));
}

static inline int64
look_up_word(const AliasCache *cache, int64 profile_id)
{
	uint64		i = (uint64) profile_id - cache->first_id;
	uint64		bit = UINT64CONST(1) << (i % 64);

	if (i / 64 >= cache->nwords || (cache->words[i / 64].merged & bit) == 0)
		return profile_id;
	return cache->customers[rank_of(&cache->words[i / 64], bit)];
}

static inline int64
look_up_slot(const AliasCache *cache, int64 profile_id)
{
	uint64		bit = (uint64) profile_id & cache->bits_mask;
	AliasSlot  *slot;

	if ((cache->bits[bit / 64] & (UINT64CONST(1) << (bit % 64))) == 0)
		return profile_id;
	slot = find_slot(cache->slots, cache->slots_log2, profile_id);
	return slot->profile_id == profile_id ? slot->customer_id : profile_id;
}

static Relation
open_aliases(void)
{
	Oid			relid = cdp_relation("profile_alias");
	Relation	rel = OidIsValid(relid) ? table_open(relid, AccessShareLock) : NULL;

	if (rel == NULL || rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table cdp.profile_alias is missing"),
				 errhint("CALL cdp.migrate(); repairs what is missing.")));
	return rel;
}

static AttrNumber
bigint_column(Relation rel, const char *name)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && att->atttypid == INT8OID && strcmp(NameStr(att->attname), name) == 0)
			return att->attnum;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("column %s of table cdp.profile_alias is missing", name),
			 errhint("CALL cdp.migrate(); repairs what is missing.")));
	return InvalidAttrNumber;
}

static Size
slots_size(int log2)
{
	return sizeof(AliasSlot) << log2;
}

static uint64
three_quarters(int log2)
{
	return (UINT64CONST(3) << log2) / 4;
}

static AliasSlot *
make_slots(const AliasCache *cache, int log2)
{
	return MemoryContextAllocExtended(cache->context, slots_size(log2), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

/*
 * The hash as an array, when at least every sixteenth of the ids between min
 * and max was merged; false: it stays a hash.
 */
static bool
make_words(AliasCache *cache, const AliasSlot *slots, int log2, uint64 n, int64 min, int64 max, Size limit)
{
	uint64		first_id = (uint64) min & ~UINT64CONST(63);
	uint64		nwords = n > 0 ? ((uint64) max - first_id) / 64 + 1 : 0;
	Size		size;
	AliasWord  *words;
	int64	   *customers;

	if (n == 0 || nwords > n / 4)
		return false;
	size = nwords * sizeof(AliasWord) + n * sizeof(int64);
	if (slots_size(log2) + size > limit)
		return false;
	words = MemoryContextAllocExtended(cache->context, nwords * sizeof(AliasWord), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	customers = MemoryContextAllocExtended(cache->context, n * sizeof(int64), MCXT_ALLOC_HUGE);
	for (uint64 i = 0; i < UINT64CONST(1) << log2; i++)
	{
		uint64		id = (uint64) slots[i].profile_id - first_id;

		if (slots[i].profile_id != slots[i].customer_id)
			words[id / 64].merged |= UINT64CONST(1) << (id % 64);
	}
	for (uint64 i = 1; i < nwords; i++)
		words[i].before = words[i - 1].before + pg_popcount64(words[i - 1].merged);
	for (uint64 i = 0; i < UINT64CONST(1) << log2; i++)
	{
		uint64		id = (uint64) slots[i].profile_id - first_id;

		if (slots[i].profile_id != slots[i].customer_id)
			customers[rank_of(&words[id / 64], UINT64CONST(1) << (id % 64))] = slots[i].customer_id;
	}
	cache->nwords = nwords;
	cache->first_id = first_id;
	cache->customers = customers;
	cache->words = words;
	return true;
}

/*
 * Stage 2.  False: it would take more memory than it may.  What an error
 * leaves behind is in no pointer of the cache.
 */
static bool
scan_aliases(AliasCache *cache, Snapshot snapshot)
{
	Size		limit = (Size) alias_cache_limit_kb * 1024;
	Relation	rel = open_aliases();
	AttrNumber	profile_att = bigint_column(rel, "profile_id"),
				customer_att = bigint_column(rel, "customer_id");
	TupleTableSlot *row;
	TableScanDesc scan;
	AliasSlot  *slots;
	int64		expected = (int64) rel->rd_rel->reltuples,
				min = PG_INT64_MAX,
				max = PG_INT64_MIN;
	uint64		n = 0,
				nbits;
	uint64	   *bits;
	int			log2 = 10;
	bool		fits;

	/* room for what ANALYZE has counted at three quarters full, so that it need not grow */
	while (log2 < 40 && (int64) three_quarters(log2) < expected && slots_size(log2 + 1) <= limit / 2)
		log2++;
	fits = slots_size(log2) <= limit;
	slots = fits ? make_slots(cache, log2) : NULL;

	row = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, snapshot, 0, NULL);
	while (fits && table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		bool		isnull;
		int64		profile_id = DatumGetInt64(slot_getattr(row, profile_att, &isnull)),
					customer_id = DatumGetInt64(slot_getattr(row, customer_att, &isnull));
		AliasSlot  *slot;

		if (profile_id == customer_id)
			continue;			/* says nothing, and would mean an empty slot */
		if (n % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
		if (n >= three_quarters(log2))
		{
			AliasSlot  *larger;

			/* both at once for a moment */
			if (slots_size(log2) + slots_size(log2 + 1) > limit)
			{
				fits = false;
				break;
			}
			larger = make_slots(cache, log2 + 1);
			for (uint64 i = 0; i < UINT64CONST(1) << log2; i++)
			{
				if (slots[i].profile_id != slots[i].customer_id)
					*find_slot(larger, log2 + 1, slots[i].profile_id) = slots[i];
			}
			pfree(slots);
			slots = larger;
			log2++;
		}
		slot = find_slot(slots, log2, profile_id);
		slot->profile_id = profile_id;
		slot->customer_id = customer_id;
		min = Min(min, profile_id);
		max = Max(max, profile_id);
		n++;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	/* the lock stays to the end of the transaction, as with any query */
	table_close(rel, NoLock);

	if (fits && make_words(cache, slots, log2, n, min, max, limit))
	{
		pfree(slots);
		cache->scanned = true;
		return true;
	}

	/* sixteen bits an alias: a sieve of one sixteenth */
	nbits = pg_nextpower2_64(Max(n, 4) * 16);
	if (!fits || slots_size(log2) + nbits / 8 > limit)
	{
		if (slots != NULL)
			pfree(slots);
		return false;
	}
	bits = MemoryContextAllocExtended(cache->context, nbits / 8, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (uint64 i = 0; i < UINT64CONST(1) << log2; i++)
	{
		uint64		bit = (uint64) slots[i].profile_id & (nbits - 1);

		if (slots[i].profile_id != slots[i].customer_id)
			bits[bit / 64] |= UINT64CONST(1) << (bit % 64);
	}
	cache->bits = bits;
	cache->bits_mask = nbits - 1;
	cache->slots_log2 = log2;
	cache->slots = slots;
	cache->scanned = true;
	return true;
}

/* Has stage 1 cost what stage 2 would? */
static bool
scan_is_worth(AliasCache *cache)
{
	if (cache->probes < cache->worth)
		return false;
	if (cache->worth == FIRST_PROBES)
	{
		Relation	rel = open_aliases();

		cache->worth = (uint64) RelationGetNumberOfBlocks(rel) * PROBES_PER_PAGE;
		table_close(rel, NoLock);
		cache->worth = Max(cache->worth, FIRST_PROBES + 1);
	}
	return cache->probes >= cache->worth;
}

static int64
probe(int64 profile_id)
{
	CdpProbe   *aliases = cdp_probe_open("profile_alias", "profile_alias_pkey");
	TupleTableSlot *slot = cdp_probe_int8(aliases, profile_id);
	bool		isnull;

	if (slot != NULL)
		profile_id = DatumGetInt64(slot_getattr(slot, cdp_probe_column(aliases, "customer_id"), &isnull));
	cdp_probe_close(aliases);
	return profile_id;
}

/* cdp.customer_id(profile_id) -> customer_id; an id without alias is its own */
Datum
cdp_customer_id(PG_FUNCTION_ARGS)
{
	int64		profile_id = PG_GETARG_INT64(0);
	AliasCache *cache = fcinfo->flinfo->fn_extra;
	Snapshot	snapshot = GetActiveSnapshot();
	AliasSlot  *answer;

	if (cache == NULL)
	{
		cache = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(AliasCache));
		fcinfo->flinfo->fn_extra = cache;
	}
	if (!same_view(&cache->seen, snapshot))
		start_over(cache, snapshot);

	if (!cache->scanned)
	{
		answer = &cache->answers[(uint64) profile_id % ANSWERS];
		if (answer->profile_id == profile_id)
			PG_RETURN_INT64(answer->customer_id);
		if (cache->too_large || !scan_is_worth(cache))
		{
			int64		customer_id = probe(profile_id);

			answer->profile_id = profile_id;
			answer->customer_id = customer_id;
			cache->probes++;
			PG_RETURN_INT64(customer_id);
		}
		if (cache->context == NULL)
			cache->context = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt, "cdp.customer_id", ALLOCSET_DEFAULT_SIZES);
		cache->too_large = !scan_aliases(cache, snapshot);
		if (cache->too_large)
			PG_RETURN_INT64(probe(profile_id));
	}
	PG_RETURN_INT64(cache->words != NULL ? look_up_word(cache, profile_id) : look_up_slot(cache, profile_id));
}

static int
compare_ids(const void *a, const void *b)
{
	int64		x = *(const int64 *) a,
				y = *(const int64 *) b;

	return (x > y) - (x < y);
}

/*
 * cdp.profiles_of(customer_id) -> setof profile_id
 *
 * The One ID first, the others ascending.  Nothing for an id that never was
 * a profile.
 */
Datum
cdp_profiles_of(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int64		customer_id = probe(PG_GETARG_INT64(0));
	CdpProbe   *rows;
	TupleTableSlot *row;
	bool		exists;
	int64	   *ids;
	int			n = 0,
				size = 8;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	rows = cdp_probe_open("profile", "profile_pkey");
	exists = cdp_probe_int8(rows, customer_id) != NULL;
	cdp_probe_close(rows);
	if (!exists)
		return (Datum) 0;

	ids = palloc(sizeof(int64) * size);
	ids[n++] = customer_id;
	rows = cdp_probe_open("profile_alias", "profile_alias_customer_id");
	for (row = cdp_probe_int8(rows, customer_id); row != NULL; row = cdp_probe_next(rows))
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (n == size)
			ids = repalloc_huge(ids, sizeof(int64) * (size *= 2));
		ids[n++] = DatumGetInt64(slot_getattr(row, cdp_probe_column(rows, "profile_id"), &isnull));
	}
	cdp_probe_close(rows);
	qsort(ids + 1, n - 1, sizeof(int64), compare_ids);
	for (int i = 0; i < n; i++)
	{
		Datum		value = Int64GetDatum(ids[i]);
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	return (Datum) 0;
}
