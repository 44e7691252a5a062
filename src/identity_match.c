/*
 * identity_match.c
 *	  Matching without labels: which records are of one person.
 *
 *		model := cdp.fit_match('SELECT id, surname, dob FROM person',
 *							   '[{"column": "surname", "kind": "name"}, {"column": "dob", "kind": "date"}]',
 *							   ARRAY['l.dob = r.dob', 'l.surname = r.surname']);
 *		SELECT * FROM cdp.score_pairs('SELECT id, surname, dob FROM person', model);
 *
 * This file is what SQL calls; identity_match.h tells the stages.  Texts run
 * with the rights of the caller and cannot write.
 *
 * SQL: sql/identity_match.sql.  Page: doc/identity_match.md.
 * Tests: test/sql/identity_match.sql, test/t/020_identity_match_febrl.pl.
 */
#include "identity_match.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_fit_match);
PG_FUNCTION_INFO_V1(cdp_score_pairs);
PG_FUNCTION_INFO_V1(cdp_count_block_pairs);
PG_FUNCTION_INFO_V1(cdp_explain_pair);

static void
refuse_null(FunctionCallInfo fcinfo, int n, const char *const *names)
{
	for (int i = 0; i < n; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not be NULL", names[i]),
					 errhint("SELECT pg_catalog.obj_description('cdp.fit_match'::regproc) tells what it is.")));
	}
}

/* cdp.fit_match(records text, comparisons jsonb, blocking text[], options jsonb) -> jsonb */
Datum
cdp_fit_match(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"records", "comparisons", "blocking", "options"};
	MatchModel *model;

	refuse_null(fcinfo, lengthof(names), names);
	model = match_new_model(PG_GETARG_JSONB_P(1), PG_GETARG_JSONB_P(3));
	match_set_rules(model, PG_GETARG_ARRAYTYPE_P(2));
	(void) match_run(text_to_cstring(PG_GETARG_TEXT_PP(0)), model, true);
	PG_RETURN_JSONB_P(match_write_model(model));
}

/* cdp.score_pairs(records text, model jsonb) -> setof (left_id, right_id, weight, probability, levels) */
Datum
cdp_score_pairs(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"records", "model"};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MatchModel *model;
	MatchWork  *work;
	MatchScorer *scorer;

	refuse_null(fcinfo, lengthof(names), names);
	InitMaterializedSRF(fcinfo, 0);
	model = match_read_model(PG_GETARG_JSONB_P(1));
	work = match_run(text_to_cstring(PG_GETARG_TEXT_PP(0)), model, false);
	scorer = match_new_scorer(model, work->records);
	for (int64 i = 0; i < work->pairs->n; i++)
	{
		int			left = MATCH_LEFT(work->pairs->pairs[i]);
		int			right = MATCH_RIGHT(work->pairs->pairs[i]);
		Datum		values[5];
		bool		nulls[5] = {false};
		double		weight;
		double		probability;
		ArrayType  *levels;

		if ((i & 0xFFF) == 0)
			CHECK_FOR_INTERRUPTS();
		match_score_pair(scorer, work->patterns[i], left, &weight, &probability, &levels);
		values[0] = Int64GetDatum(work->records->ids[left]);
		values[1] = Int64GetDatum(work->records->ids[right]);
		values[2] = Float8GetDatum(weight);
		values[3] = Float8GetDatum(probability);
		values[4] = PointerGetDatum(levels);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* cdp.count_block_pairs(records text, blocking text[], options jsonb) -> setof (rule, pairs, new_pairs) */
Datum
cdp_count_block_pairs(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"records", "blocking", "options"};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MatchModel *model;

	refuse_null(fcinfo, lengthof(names), names);
	InitMaterializedSRF(fcinfo, 0);
	model = match_new_model(NULL, PG_GETARG_JSONB_P(2));
	match_set_rules(model, PG_GETARG_ARRAYTYPE_P(1));
	(void) match_run(text_to_cstring(PG_GETARG_TEXT_PP(0)), model, false);
	for (int i = 0; i < model->nrules; i++)
	{
		Datum		values[3];
		bool		nulls[3] = {false};

		values[0] = CStringGetTextDatum(model->rules[i].text);
		values[1] = Int64GetDatum(model->rules[i].pairs);
		values[2] = Int64GetDatum(model->rules[i].new_pairs);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* the records with this id: of the first and of the last source, when two have it */
static void
find_record(const MatchRecords *records, int64 id, int *first, int *last)
{
	*first = *last = -1;
	for (int i = 0; i < records->n; i++)
	{
		if (records->ids[i] == id)
		{
			if (*first < 0)
				*first = i;
			*last = i;
		}
	}
	if (*first < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("records has no id " INT64_FORMAT, id),
				 errhint("left_id and right_id are ids that records returns.")));
}

/* cdp.explain_pair(records text, model jsonb, left_id, right_id) -> setof (column_name, level, m, u, weight) */
Datum
cdp_explain_pair(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"records", "model", "left_id", "right_id"};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext context = CurrentMemoryContext;
	MatchModel *model;
	MatchRecords *records;
	int			left,
				right,
				other;

	refuse_null(fcinfo, lengthof(names), names);
	InitMaterializedSRF(fcinfo, 0);
	model = match_read_model(PG_GETARG_JSONB_P(1));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	MemoryContextSwitchTo(context);
	cdp_read_only_begin();
	records = match_load(text_to_cstring(PG_GETARG_TEXT_PP(0)), model, false);
	cdp_read_only_end();
	SPI_finish();
	MemoryContextSwitchTo(context);
	find_record(records, PG_GETARG_INT64(2), &left, &other);
	find_record(records, PG_GETARG_INT64(3), &other, &right);
	for (int c = 0; c < model->ncolumns; c++)
	{
		const MatchColumn *column = &model->columns[c];
		int			level = match_compare(records, model, c, left, right);
		Datum		values[5] = {0};
		bool		nulls[5] = {false};

		values[0] = CStringGetTextDatum(column->name);
		values[1] = CStringGetTextDatum(match_level_name(column, level));
		if (level < 0)
			nulls[2] = nulls[3] = true;
		else
		{
			values[2] = Float8GetDatum(column->m[level]);
			values[3] = Float8GetDatum(column->u[level]);
		}
		values[4] = Float8GetDatum(level < 0 ? 0 : match_level_weight(column, level) +
								   match_frequency_weight(model, records, c, level, left));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
