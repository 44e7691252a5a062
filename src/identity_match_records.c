/*
 * identity_match_records.c
 *	  The user's records, read once: numbered, and their columns decoded.
 *
 * The query runs as whoever calls, in a transaction that is read-only for as
 * long (read_only.c).  Its rows go straight from the executor into
 *
 *		ids, sources	arrays by record
 *		values			a number per record and column (identity_match_value.c)
 *		rows			a tuplestore, for the blocking rules to join
 *
 * and are then numbered by source and id.
 *
 * SQL: sql/identity_match.sql.  Tests: test/sql/identity_match.sql.
 */
#include "identity_match.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "tcop/dest.h"
#include "user_query.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#define RECORDS_HINT	"records is one SELECT with a column id of type bigint and the columns to compare; with link_only also source."

/* how a column is brought into its dictionary */
typedef struct Feed
{
	int			attnum;			/* 0: not wanted */
	Oid			type;			/* base type */
	Oid			output;			/* output function, where the type is none we know */
	MatchDict  *dict;
	int		   *values;
} Feed;

typedef struct Loader
{
	DestReceiver pub;
	MatchRecords *records;
	const MatchModel *model;
	MemoryContext context;		/* where the result lives */
	MemoryContext per_row;
	bool		keep_rows;
	int			room;
	int			id;				/* attribute numbers */
	int			source;
	Oid			id_type;
	Oid			source_output;
	HTAB	   *source_names;
	Feed		feeds[2 * MATCH_MAX_COLUMNS];	/* column c and its swap column */
} Loader;

typedef struct SourceName
{
	char		name[NAMEDATALEN];
	int			number;
} SourceName;

/* attribute number of a column of the records; 42703 when there is none */
static int
find_column(TupleDesc desc, const char *name, const char *what)
{
	int			found = 0;

	for (int i = 0; i < desc->natts; i++)
	{
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) != 0)
			continue;
		if (found)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_COLUMN),
					 errmsg("records has two columns \"%s\"", name),
					 errhint("Give each column a name of its own: SELECT … AS name.")));
		found = i + 1;
	}
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("records has no column \"%s\"%s", name, what),
				 errhint("%s", RECORDS_HINT)));
	return found;
}

static Oid
column_type(TupleDesc desc, int attnum)
{
	return getBaseType(TupleDescAttr(desc, attnum - 1)->atttypid);
}

static void
start_feed(Loader *loader, Feed *feed, TupleDesc desc, const MatchColumn *column, const char *name)
{
	bool		varlena;
	MatchDict **dict = &loader->records->dicts[column->kind];

	feed->attnum = find_column(desc, name, ", which comparisons names");
	feed->type = column_type(desc, feed->attnum);
	getTypeOutputInfo(feed->type, &feed->output, &varlena);
	if (*dict == NULL)
		*dict = match_new_dict(column->kind);
	feed->dict = *dict;
	feed->values = MemoryContextAllocHuge(loader->context, loader->room * sizeof(int));
}

static void
loader_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	Loader	   *loader = (Loader *) self;
	MatchRecords *records = loader->records;
	MemoryContext old = MemoryContextSwitchTo(loader->context);

	loader->id = find_column(desc, "id", "");
	loader->id_type = column_type(desc, loader->id);
	if (loader->id_type != INT2OID && loader->id_type != INT4OID && loader->id_type != INT8OID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column id of records must be an integer, not %s", format_type_be(loader->id_type)),
				 errhint("%s", RECORDS_HINT)));
	records->ids = palloc(loader->room * sizeof(int64));
	if (loader->model->link_only)
	{
		bool		varlena;
		HASHCTL		ctl = {.keysize = NAMEDATALEN, .entrysize = sizeof(SourceName), .hcxt = loader->context};

		loader->source = find_column(desc, "source", ", which link_only needs");
		getTypeOutputInfo(column_type(desc, loader->source), &loader->source_output, &varlena);
		records->sources = palloc(loader->room * sizeof(int));
		loader->source_names = hash_create("customer_cdp sources", 16, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	for (int c = 0; c < loader->model->ncolumns; c++)
	{
		const MatchColumn *column = &loader->model->columns[c];

		start_feed(loader, &loader->feeds[2 * c], desc, column, column->name);
		if (column->swap != NULL)
			start_feed(loader, &loader->feeds[2 * c + 1], desc, column, column->swap);
	}
	records->desc = CreateTupleDescCopy(desc);
	if (loader->keep_rows)
		records->rows = tuplestore_begin_heap(false, false, work_mem);
	MemoryContextSwitchTo(old);
}

static int
read_value(Loader *loader, Feed *feed, Datum value)
{
	MatchKind	kind = loader->model->columns[(feed - loader->feeds) / 2].kind;
	char	   *text;

	if (feed->type == TEXTOID || feed->type == VARCHAROID || feed->type == BPCHAROID)
	{
		struct varlena *t = PG_DETOAST_DATUM_PACKED(value);

		return match_put_text(feed->dict, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
	}
	if (kind == MATCH_DATE)
	{
		struct pg_tm tm;
		fsec_t		fsec;
		int			tz;

		if (feed->type == DATEOID)
		{
			DateADT		date = DatumGetDateADT(value);

			if (DATE_NOT_FINITE(date))
				return -1;
			j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
			return match_put_date(feed->dict, tm.tm_year, tm.tm_mon, tm.tm_mday);
		}
		if (feed->type == TIMESTAMPOID || feed->type == TIMESTAMPTZOID)
		{
			Timestamp	at = DatumGetTimestamp(value);
			bool		zoned = feed->type == TIMESTAMPTZOID;

			if (TIMESTAMP_NOT_FINITE(at) ||
				timestamp2tm(at, zoned ? &tz : NULL, &tm, &fsec, NULL, zoned ? cdp_zone() : NULL) != 0)
				return -1;
			return match_put_date(feed->dict, tm.tm_year, tm.tm_mon, tm.tm_mday);
		}
	}
	if (kind == MATCH_NUMBER)
	{
		switch (feed->type)
		{
			case INT2OID:
				return match_put_number(feed->dict, DatumGetInt16(value));
			case INT4OID:
				return match_put_number(feed->dict, DatumGetInt32(value));
			case INT8OID:
				return match_put_number(feed->dict, (double) DatumGetInt64(value));
			case FLOAT4OID:
				return match_put_number(feed->dict, DatumGetFloat4(value));
			case FLOAT8OID:
				return match_put_number(feed->dict, DatumGetFloat8(value));
			case NUMERICOID:
				return match_put_number(feed->dict, DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, value)));
		}
	}
	text = OidOutputFunctionCall(feed->output, value);
	return match_put_text(feed->dict, text, strlen(text));
}

/* number of a source, by name; arrival order here, sorted later */
static int
read_source(Loader *loader, Datum value)
{
	char	   *name = OidOutputFunctionCall(loader->source_output, value);
	char		key[NAMEDATALEN];
	bool		found;
	SourceName *entry;

	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source of a record is longer than %d bytes", NAMEDATALEN - 1),
				 errhint("source names where records come from: 'crm', 'shop'.")));
	strlcpy(key, name, sizeof(key));
	entry = hash_search(loader->source_names, key, HASH_ENTER, &found);
	if (!found)
		entry->number = loader->records->nsources++;
	return entry->number;
}

static void
grow(Loader *loader)
{
	MatchRecords *records = loader->records;

	if (loader->room > INT_MAX / 2)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("records returns more than %d rows", loader->room),
				 errhint("Match a part of them at a time, with WHERE in records.")));
	loader->room *= 2;
	records->ids = repalloc_huge(records->ids, loader->room * sizeof(int64));
	if (records->sources != NULL)
		records->sources = repalloc_huge(records->sources, loader->room * sizeof(int));
	for (int i = 0; i < lengthof(loader->feeds); i++)
	{
		if (loader->feeds[i].attnum > 0)
			loader->feeds[i].values = repalloc_huge(loader->feeds[i].values, loader->room * sizeof(int));
	}
}

static bool
loader_receive(TupleTableSlot *slot, DestReceiver *self)
{
	Loader	   *loader = (Loader *) self;
	MatchRecords *records = loader->records;
	MemoryContext old;
	int			n = records->n;

	CHECK_FOR_INTERRUPTS();
	slot_getallattrs(slot);
	if (n == loader->room)
		grow(loader);
	if (slot->tts_isnull[loader->id - 1])
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("id of a record is NULL"),
				 errhint("Leave such rows out of records, or number them with row_number().")));
	old = MemoryContextSwitchTo(loader->per_row);
	records->ids[n] = loader->id_type == INT8OID ? DatumGetInt64(slot->tts_values[loader->id - 1]) :
		loader->id_type == INT4OID ? DatumGetInt32(slot->tts_values[loader->id - 1]) :
		DatumGetInt16(slot->tts_values[loader->id - 1]);
	if (loader->source > 0)
	{
		if (slot->tts_isnull[loader->source - 1])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("source of a record is NULL"),
					 errhint("With link_only every record says where it comes from.")));
		records->sources[n] = read_source(loader, slot->tts_values[loader->source - 1]);
	}
	for (int i = 0; i < 2 * loader->model->ncolumns; i++)
	{
		Feed	   *feed = &loader->feeds[i];

		if (feed->attnum > 0)
			feed->values[n] = slot->tts_isnull[feed->attnum - 1] ? -1 :
				read_value(loader, feed, slot->tts_values[feed->attnum - 1]);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(loader->per_row);
	if (records->rows != NULL)
		tuplestore_puttupleslot(records->rows, slot);
	records->n++;
	return true;
}

static void
loader_nothing(DestReceiver *self)
{
}

/* --- numbering --- */

typedef struct Order
{
	int64		id;
	int			source;
	int			arrived;
} Order;

static int
order_cmp(const void *x, const void *y)
{
	const Order *a = x;
	const Order *b = y;

	if (a->source != b->source)
		return a->source < b->source ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static int
name_cmp(const void *x, const void *y)
{
	return strcmp((*(SourceName *const *) x)->name, (*(SourceName *const *) y)->name);
}

/* sources get the numbers of their sorted names: answers new number by old */
static int *
sort_sources(Loader *loader)
{
	int			n = loader->records->nsources;
	SourceName **sorted = palloc(Max(n, 1) * sizeof(SourceName *));
	int		   *numbers = palloc(Max(n, 1) * sizeof(int));
	HASH_SEQ_STATUS scan;
	SourceName *entry;
	int			i = 0;

	hash_seq_init(&scan, loader->source_names);
	while ((entry = hash_seq_search(&scan)) != NULL)
		sorted[i++] = entry;
	qsort(sorted, n, sizeof(SourceName *), name_cmp);
	for (i = 0; i < n; i++)
		numbers[sorted[i]->number] = i;
	return numbers;
}

static int *
permute(int *values, const Order *order, int n)
{
	int		   *result = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(int));

	for (int i = 0; i < n; i++)
		result[i] = values[order[i].arrived];
	pfree(values);
	return result;
}

/* the rows again, each with its number and its source behind its columns */
static void
number_rows(MatchRecords *records, const Order *order)
{
	int			natts = records->desc->natts;
	TupleDesc	desc = CreateTemplateTupleDesc(natts + 2);
	Tuplestorestate *rows = tuplestore_begin_heap(true, false, work_mem);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(records->desc, &TTSOpsMinimalTuple);
	int		   *numbers = MemoryContextAllocHuge(CurrentMemoryContext, Max(records->n, 1) * sizeof(int));
	Datum	   *values = palloc((natts + 2) * sizeof(Datum));
	bool	   *nulls = palloc((natts + 2) * sizeof(bool));

	for (int i = 0; i < natts; i++)
		TupleDescCopyEntry(desc, i + 1, records->desc, i + 1);
	TupleDescInitEntry(desc, natts + 1, MATCH_NUMBER_COLUMN, INT4OID, -1, 0);
	TupleDescInitEntry(desc, natts + 2, MATCH_SOURCE_COLUMN, INT4OID, -1, 0);
	for (int i = 0; i < records->n; i++)
		numbers[order[i].arrived] = i;
	nulls[natts] = nulls[natts + 1] = false;
	for (int i = 0; tuplestore_gettupleslot(records->rows, true, false, slot); i++)
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		memcpy(values, slot->tts_values, natts * sizeof(Datum));
		memcpy(nulls, slot->tts_isnull, natts * sizeof(bool));
		values[natts] = Int32GetDatum(numbers[i]);
		values[natts + 1] = Int32GetDatum(records->sources ? records->sources[numbers[i]] : 0);
		tuplestore_putvalues(rows, desc, values, nulls);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(records->rows);
	pfree(numbers);
	records->rows = rows;
	records->desc = desc;
}

static void
number_records(Loader *loader)
{
	MatchRecords *records = loader->records;
	const MatchModel *model = loader->model;
	int			n = records->n;
	Order	   *order = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(Order));
	int		   *source_numbers = records->sources ? sort_sources(loader) : NULL;

	for (int i = 0; i < n; i++)
	{
		order[i].id = records->ids[i];
		order[i].source = source_numbers ? source_numbers[records->sources[i]] : 0;
		order[i].arrived = i;
	}
	qsort(order, n, sizeof(Order), order_cmp);
	for (int i = 1; i < n; i++)
	{
		if (order_cmp(&order[i - 1], &order[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNIQUE_VIOLATION),
					 errmsg("records returns an id more than once"),
					 errhint("One row per id%s; row_number() OVER () gives numbers to rows that have none.",
							 records->sources ? " and source" : "")));
	}
	for (int i = 0; i < n; i++)
	{
		records->ids[i] = order[i].id;
		if (records->sources)
			records->sources[i] = order[i].source;
	}
	if (records->sources)
	{
		records->source_end = palloc0(Max(records->nsources, 1) * sizeof(int));
		for (int i = 0; i < n; i++)
			records->source_end[records->sources[i]] = i + 1;
	}
	for (int c = 0; c < model->ncolumns; c++)
	{
		Feed	   *feed = &loader->feeds[2 * c];

		records->values[c] = permute(feed->values, order, n);
		if (feed[1].attnum > 0)
			records->swaps[c] = permute(feed[1].values, order, n);
	}
	if (records->rows != NULL)
		number_rows(records, order);
	pfree(order);
}

static void
count_values(MatchRecords *records, const MatchModel *model)
{
	for (int c = 0; c < model->ncolumns; c++)
	{
		int			size = match_dict_size(records->dicts[model->columns[c].kind]);
		int		   *frequency = MemoryContextAllocExtended(CurrentMemoryContext, (Size) Max(size, 1) * sizeof(int),
														  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

		for (int i = 0; i < records->n; i++)
		{
			if (records->values[c][i] >= 0)
			{
				frequency[records->values[c][i]]++;
				records->known[c]++;
			}
		}
		if (model->columns[c].term_frequency)
			records->frequency[c] = frequency;
		else
			pfree(frequency);
	}
}

/* Run the query and take its rows; called between SPI_connect and SPI_finish. */
MatchRecords *
match_load(const char *sql, const MatchModel *model, bool keep_rows)
{
	MatchRecords *records = palloc0(sizeof(MatchRecords));
	Loader	   *loader = palloc0(sizeof(Loader));
	SPIExecuteOptions options = {.read_only = true};
	SPIPlanPtr	plan;
	int			rc;

	(void) cdp_user_query(sql, "records", ERRCODE_INVALID_PARAMETER_VALUE, RECORDS_HINT);
	loader->pub.receiveSlot = loader_receive;
	loader->pub.rStartup = loader_startup;
	loader->pub.rShutdown = loader_nothing;
	loader->pub.rDestroy = loader_nothing;
	loader->pub.mydest = DestTuplestore;
	loader->records = records;
	loader->model = model;
	loader->context = CurrentMemoryContext;
	loader->per_row = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp record", ALLOCSET_DEFAULT_SIZES);
	loader->keep_rows = keep_rows;
	loader->room = 1024;
	records->ncolumns = model->ncolumns;

	plan = SPI_prepare_cursor(sql, 0, NULL, CURSOR_OPT_PARALLEL_OK);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	options.dest = &loader->pub;
	rc = SPI_execute_plan_extended(plan, &options);
	if (rc < 0 || records->desc == NULL)
		elog(ERROR, "records did not run: %s", SPI_result_code_string(rc));
	SPI_freeplan(plan);
	MemoryContextSwitchTo(loader->context); /* SPI leaves its own behind */
	number_records(loader);
	count_values(records, model);
	MemoryContextDelete(loader->per_row);
	pfree(loader);
	return records;
}
