/*
 * tag_bits_verify.c
 *	  Are the bitmaps what the rows say?
 *
 * Chunk by chunk: the keys that the rows of its customers have at the
 * horizon, against what cdp.tag_bits holds for every key.  A customer whose
 * changes are not merged yet has to be shown as he was before the first of
 * them; unless the bitmaps were made while that change was under way, then
 * nobody can tell which of his sets they show, and he is left out.
 *
 * Page: doc/tag_bits.md.  Tests: test/sql/tag_bits.sql, test/t/023_tag_crash.pl.
 */
#include "tag_bits_write.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "identity_step.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cdp_verify_bits);

typedef struct Verify
{
	ReturnSetInfo *rsinfo;
	int			most;
	int			n;
} Verify;

/* what a customer was before changes that are not merged yet */
typedef struct Before
{
	int64		customer_id;
	struct varlena *old;		/* NULL: nothing */
	bool		has_row;
	bool		unknown;		/* whether this set or a later one is shown */
} Before;

static void
report(void *arg, const char *problem, const char *key, int len, int64 customer_id)
{
	Verify	   *v = arg;
	Datum		values[3];
	bool		nulls[3] = {false, key == NULL, false};

	if (v->n++ >= v->most)
		return;
	values[0] = CStringGetTextDatum(problem);
	if (key != NULL)
	{
		const char *end = memchr(key, '\0', len);

		values[1] = PointerGetDatum(cstring_to_text_with_len(key + 1, (end ? end - key : len) - 1));
	}
	values[2] = Int64GetDatum(customer_id);
	tuplestore_putvalues(v->rsinfo->setResult, v->rsinfo->setDesc, values, nulls);
}

/* tag_horizon.made_seq */
static int64
read_made_seq(void)
{
	bool		isnull;
	int64		seq;

	if (SPI_execute("SELECT made_seq FROM cdp.tag_horizon", true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not read cdp.tag_horizon");
	seq = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return seq;
}

static HTAB *
read_pending(void)
{
	int64		made_seq = read_made_seq();
	CdpProbe   *p = cdp_probe_open_range("tag_change", "tag_change_pkey", 0);
	AttrNumber	seq_column = cdp_probe_column(p, "seq");
	AttrNumber	id_column = cdp_probe_column(p, "customer_id");
	AttrNumber	old_column = cdp_probe_column(p, "old");
	TupleTableSlot *slot;
	HASHCTL		ctl;
	HTAB	   *pending;

	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(Before);
	ctl.hcxt = CurrentMemoryContext;
	pending = hash_create("customer_cdp pending customers", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	cdp_probe_range(p, NULL);
	while ((slot = cdp_probe_next(p)) != NULL)
	{
		bool		isnull;
		bool		found;
		int64		id = DatumGetInt64(slot_getattr(slot, id_column, &isnull));
		Before	   *b = hash_search(pending, &id, HASH_ENTER, &found);

		CHECK_FOR_INTERRUPTS();
		if (!found)
		{
			Datum		old = slot_getattr(slot, old_column, &isnull);

			b->old = isnull ? NULL : PG_DETOAST_DATUM_COPY(old);
			b->has_row = false;
			b->unknown = DatumGetInt64(slot_getattr(slot, seq_column, &isnull)) <= made_seq;
		}
	}
	cdp_probe_close(p);
	return pending;
}

/* chunks in which anything is or has to be, ascending */
static int64 *
read_chunks(HTAB *pending, int *n)
{
	HASH_SEQ_STATUS all;
	Before	   *b;
	int64	   *chunks;
	uint64		rows;
	int			k = 0;

	if (SPI_execute("SELECT DISTINCT chunk FROM cdp.tag_bits", true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.tag_bits");
	rows = SPI_processed;
	chunks = palloc_extended(sizeof(int64) * (rows + hash_get_num_entries(pending) + 1), MCXT_ALLOC_HUGE);
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;

		chunks[k++] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	hash_seq_init(&all, pending);
	while ((b = hash_seq_search(&all)) != NULL)
		chunks[k++] = TagChunkOf(b->customer_id);
	*n = k;
	if (k > 1)
		qsort(chunks, k, sizeof(int64), cdp_id_compare);
	return chunks;
}

/* all keys, as a List of TagPlanKey */
static List *
read_keys(void)
{
	List	   *keys = NIL;

	if (SPI_execute("SELECT key_id, key FROM cdp.tag_key WHERE kind <> 'everyone' ORDER BY key_id", true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.tag_key");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		TagPlanKey *key = palloc0(sizeof(TagPlanKey));
		bool		isnull;
		bytea	   *bytes;

		key->id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		bytes = DatumGetByteaPCopy(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
		key->bytes = VARDATA(bytes);
		key->len = VARSIZE(bytes) - VARHDRSZ;
		keys = lappend(keys, key);
	}
	SPI_freetuptable(SPI_tuptable);
	return keys;
}

static void
expect(TagWriter *w, const TagHorizon *horizon, int64 customer_id, Datum tags, bool isnull)
{
	TagSet		set;

	if (isnull)
		return;
	cdp_tag_open_stored(&set, tags, false);
	cdp_tag_writer_diff(w, customer_id, NULL, 0, &set, cdp_tag_shown_at(horizon, customer_id));
}

/* one chunk; rows stands on its first row, or behind it */
static void
verify_chunk(Verify *v, const TagHorizon *horizon, int64 chunk, TagRows *rows, HTAB *pending, List *keys)
{
	TagWriter  *w = cdp_tag_writer_open();
	uint64		unknown[TAG_CHUNK_WORDS] = {0};
	HASH_SEQ_STATUS all;
	Before	   *b;

	while (rows->found && TagChunkOf(rows->id) == chunk)
	{
		b = hash_search(pending, &rows->id, HASH_FIND, NULL);
		if (b != NULL)
		{
			b->has_row = true;
			if (!b->unknown)
				expect(w, horizon, rows->id, PointerGetDatum(b->old), b->old == NULL);
		}
		else
			expect(w, horizon, rows->id, rows->tags, false);
		cdp_tag_rows_next(rows);
	}
	/* those who are gone and are still to be shown */
	hash_seq_init(&all, pending);
	while ((b = hash_seq_search(&all)) != NULL)
	{
		if (TagChunkOf(b->customer_id) != chunk)
			continue;
		if (b->unknown)
			unknown[TagLowOf(b->customer_id) >> 6] |= UINT64CONST(1) << (TagLowOf(b->customer_id) & 63);
		else if (!b->has_row)
			expect(w, horizon, b->customer_id, PointerGetDatum(b->old), b->old == NULL);
	}
	cdp_tag_writer_compare(w, chunk, keys, unknown, report, v);
}

/* cdp._verify_bits(most) -> setof (problem, tag, customer_id) */
Datum
cdp_verify_bits(PG_FUNCTION_ARGS)
{
	Verify		v = {(ReturnSetInfo *) fcinfo->resultinfo, PG_GETARG_INT32(0), 0};
	CdpVerb		verb;
	TagHorizon	horizon;
	HTAB	   *pending;
	List	   *keys;
	TagRows		rows;
	int64	   *chunks;
	int			nchunks;

	InitMaterializedSRF(fcinfo, 0);
	cdp_begin_read(&verb);
	cdp_tag_verify_everyone(report, &v);
	/* bitmaps that are being made are not asked yet */
	if (cdp_tag_horizon(&horizon) && horizon.at != DT_NOEND)
	{
		pending = read_pending();
		keys = read_keys();
		chunks = read_chunks(pending, &nchunks);
		cdp_tag_rows_open(&rows, PG_INT64_MIN);
		for (int i = 0; v.n < v.most && (rows.found || i < nchunks);)
		{
			int64		chunk = rows.found ? TagChunkOf(rows.id) : chunks[i];

			if (i < nchunks)
				chunk = Min(chunk, chunks[i]);
			verify_chunk(&v, &horizon, chunk, &rows, pending, keys);
			while (i < nchunks && chunks[i] <= chunk)
				i++;
		}
		cdp_tag_rows_close(&rows);
	}
	cdp_end(&verb);
	return (Datum) 0;
}
