/*
 * tag_bits.c
 *	  Questions about all customers: how many, who, how much do they overlap.
 *
 *		SELECT cdp.count_customers('region.华东.* & (aov > 1000 | vip) & !churned');
 *
 * The reader (tag_bits_read.c) brings the answer of one chunk after the
 * other; what is done with it stands here.
 *
 * SQL: sql/tag_bits.sql.  Tests: test/sql/tag_bits.sql,
 * test/pgtap/tag_bits.sql, test/bench/tag.sh.  Page: doc/tag_bits.md.
 */
#include "tag_bits_chunk.h"

#include "access/htup_details.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cdp_count_customers);
PG_FUNCTION_INFO_V1(cdp_find_customers);
PG_FUNCTION_INFO_V1(cdp_audience_of);
PG_FUNCTION_INFO_V1(cdp_overlap_customers);
PG_FUNCTION_INFO_V1(cdp_matches_customer);
PG_FUNCTION_INFO_V1(cdp_tags_of);


static void
refuse_null_query(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("query must not be NULL"),
			 errhint("'*' asks for everyone.")));
}

static CdpTagReader *
open_reader(FunctionCallInfo fcinfo)
{
	const TagQuery *query;

	if (PG_ARGISNULL(0))
		refuse_null_query();
	cdp_check_version();
	query = PG_GETARG_TAGQUERY(0);
	return cdp_tag_read_open(&query, 1, PG_ARGISNULL(1) ? cdp_now_value() : PG_GETARG_TIMESTAMPTZ(1));
}

/* cdp.count_customers(query, at) -> bigint */
Datum
cdp_count_customers(PG_FUNCTION_ARGS)
{
	CdpTagReader *r = open_reader(fcinfo);
	int64		chunk;
	int64		n = 0;

	while (cdp_tag_read_next(r, &chunk))
		n += cdp_words_count(cdp_tag_read_words(r, 0), TAG_CHUNK_BITS);
	cdp_tag_read_close(r);
	PG_RETURN_INT64(n);
}

/*
 * cdp.find_customers(query, at) -> setof bigint, ascending.  All rows are
 * copies of one whose id is written over: forming each costs more than
 * finding it.
 */
Datum
cdp_find_customers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CdpTagReader *r = open_reader(fcinfo);
	TupleTableSlot *values;
	TupleTableSlot *slot;
	MinimalTuple row;
	char	   *place;
	int64		chunk;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	values = MakeSingleTupleTableSlot(rsinfo->setDesc, &TTSOpsVirtual);
	slot = MakeSingleTupleTableSlot(rsinfo->setDesc, &TTSOpsMinimalTuple);
	ExecClearTuple(values);
	values->tts_values[0] = Int64GetDatum(0);
	values->tts_isnull[0] = false;
	ExecStoreVirtualTuple(values);
	row = ExecCopySlotMinimalTuple(values);
	place = (char *) row + row->t_hoff - MINIMAL_TUPLE_OFFSET;
	ExecStoreMinimalTuple(row, slot, false);
	while (cdp_tag_read_next(r, &chunk))
	{
		const uint64 *words = cdp_tag_read_words(r, 0);

		for (int w = 0; w < TAG_CHUNK_WORDS; w++)
		{
			for (uint64 x = words[w]; x != 0; x &= x - 1)
			{
				int64		id = TagChunkId(chunk, w * 64 + pg_rightmost_one_pos64(x));

				memcpy(place, &id, sizeof(id));
				tuplestore_puttupleslot(rsinfo->setResult, slot);
			}
		}
	}
	cdp_tag_read_close(r);
	ExecDropSingleTupleTableSlot(slot);
	ExecDropSingleTupleTableSlot(values);
	return (Datum) 0;
}

/* cdp.audience_of(query, at) -> audience */
Datum
cdp_audience_of(PG_FUNCTION_ARGS)
{
	CdpTagReader *r = open_reader(fcinfo);
	const int	shift = CDP_AUDIENCE_BITS - TAG_CHUNK_BITS;
	CdpAudienceBuilder b;
	uint64		words[CDP_WORDS(CDP_AUDIENCE_BITS)];
	int64		key = -1;
	int64		chunk;

	cdp_audience_build_begin(&b);
	while (cdp_tag_read_next(r, &chunk))
	{
		const uint64 *found = cdp_tag_read_words(r, 0);

		if (chunk < 0)
		{
			if (cdp_words_count(found, TAG_CHUNK_BITS) > 0)
				cdp_audience_refuse_negative();
			continue;
		}
		if (chunk >> shift != key)
		{
			if (key >= 0)
				cdp_audience_build_add(&b, key, cdp_container_from_words(cdp_audience_build_room(&b), words, CDP_AUDIENCE_BITS));
			key = chunk >> shift;
			memset(words, 0, sizeof(words));
		}
		memcpy(words + (chunk & ((1 << shift) - 1)) * TAG_CHUNK_WORDS, found, TAG_CHUNK_BYTES);
	}
	if (key >= 0)
		cdp_audience_build_add(&b, key, cdp_container_from_words(cdp_audience_build_room(&b), words, CDP_AUDIENCE_BITS));
	cdp_tag_read_close(r);
	PG_RETURN_POINTER(cdp_audience_build_finish(&b));
}

/* cdp.overlap_customers(queries) -> setof (i, j, n) */
Datum
cdp_overlap_customers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ArrayType  *array;
	Datum	   *elements;
	bool	   *isnull;
	int			n;
	int16		typlen;
	bool		typbyval;
	char		typalign;
	const TagQuery **queries;
	CdpTagReader *r;
	uint64	   *words;
	int		   *found;
	int64	   *counts;
	int64		chunk;

	if (PG_ARGISNULL(0))
		refuse_null_query();
	cdp_check_version();
	array = PG_GETARG_ARRAYTYPE_P(0);
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &typlen, &typbyval, &typalign);
	deconstruct_array(array, ARR_ELEMTYPE(array), typlen, typbyval, typalign, &elements, &isnull, &n);
	if (n > TAG_MAX_QUERIES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%d queries are more than %d", n, TAG_MAX_QUERIES),
				 errhint("Ask for fewer at a time.")));
	InitMaterializedSRF(fcinfo, 0);
	if (n == 0)
		return (Datum) 0;
	queries = palloc(sizeof(TagQuery *) * n);
	for (int i = 0; i < n; i++)
	{
		if (isnull[i])
			refuse_null_query();
		queries[i] = DatumGetTagQuery(elements[i]);
	}
	words = palloc((Size) TAG_CHUNK_BYTES * n);
	found = palloc(sizeof(int) * n);
	counts = palloc0(sizeof(int64) * n * n);
	r = cdp_tag_read_open(queries, n, cdp_now_value());
	while (cdp_tag_read_next(r, &chunk))
	{
		for (int i = 0; i < n; i++)
		{
			uint64	   *mine = words + i * TAG_CHUNK_WORDS;

			memcpy(mine, cdp_tag_read_words(r, i), TAG_CHUNK_BYTES);
			found[i] = cdp_words_count(mine, TAG_CHUNK_BITS);
			counts[i * n + i] += found[i];
			for (int j = 0; found[i] > 0 && j < i; j++)
			{
				uint64		both[TAG_CHUNK_WORDS];
				const uint64 *other = words + j * TAG_CHUNK_WORDS;

				if (found[j] == 0)
					continue;
				for (int w = 0; w < TAG_CHUNK_WORDS; w++)
					both[w] = mine[w] & other[w];
				counts[j * n + i] += cdp_words_count(both, TAG_CHUNK_BITS);
			}
		}
	}
	cdp_tag_read_close(r);
	for (int i = 0; i < n; i++)
	{
		for (int j = i; j < n; j++)
		{
			Datum		values[3] = {Int32GetDatum(i + 1), Int32GetDatum(j + 1), Int64GetDatum(counts[i * n + j])};
			bool		nulls[3] = {false, false, false};

			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
	return (Datum) 0;
}

/* ------------------------------------------------------------ one customer */

/* the customer to whom an id belongs; 23503 for an id that nobody has */
static int64
customer_of(int64 id)
{
	CdpProbe   *p = cdp_probe_open("profile_alias", "profile_alias_pkey");
	TupleTableSlot *slot = cdp_probe_int8(p, id);
	int64		customer = id;
	bool		isnull;
	bool		known = slot != NULL;

	if (known)
		customer = DatumGetInt64(slot_getattr(slot, cdp_probe_column(p, "customer_id"), &isnull));
	cdp_probe_close(p);
	if (!known)
	{
		p = cdp_probe_open("profile", "profile_pkey");
		known = cdp_probe_int8(p, id) != NULL;
		cdp_probe_close(p);
	}
	if (!known)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("there is no customer " INT64_FORMAT, id),
				 errhint("Any id that ever was a customer or a profile will do; cdp.resolve(kind, value) finds one.")));
	return customer;
}

static int64
customer_arg(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("customer_id must not be NULL"),
				 errhint("cdp.resolve() answers NULL when nobody has the identifier.")));
	cdp_check_version();
	return customer_of(PG_GETARG_INT64(0));
}

/* a copy of what the customer has, NULL: nothing */
static struct varlena *
tags_of(int64 customer_id)
{
	CdpProbe   *p = cdp_probe_open("profile_tag", "profile_tag_pkey");
	TupleTableSlot *slot = cdp_probe_int8(p, customer_id);
	struct varlena *tags = NULL;

	if (slot != NULL)
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, cdp_probe_column(p, "tags"), &isnull);

		if (!isnull)
			tags = PG_DETOAST_DATUM_COPY(value);
	}
	cdp_probe_close(p);
	return tags;
}

/* cdp.matches_customer(customer_id, query, at) -> boolean */
Datum
cdp_matches_customer(PG_FUNCTION_ARGS)
{
	int64		customer_id = customer_arg(fcinfo);
	const TagQuery *query;
	struct varlena *tags;
	TagJudge	judge;
	TagSet		set;

	if (PG_ARGISNULL(1))
		refuse_null_query();
	query = PG_GETARG_TAGQUERY(1);
	cdp_tag_judge_open(&judge, &query, 1, PG_ARGISNULL(2) ? cdp_now_value() : PG_GETARG_TIMESTAMPTZ(2));
	tags = tags_of(customer_id);
	cdp_tag_open_stored(&set, PointerGetDatum(tags), tags == NULL);
	PG_RETURN_BOOL(cdp_tag_judge(&judge, 0, customer_id, &set));
}

/* cdp._tags_of(customer_id) -> tagset */
Datum
cdp_tags_of(PG_FUNCTION_ARGS)
{
	struct varlena *tags = tags_of(customer_arg(fcinfo));

	PG_RETURN_POINTER(tags ? tags : cdp_tagset_build(NULL, 0));
}
