/*
 * identity_match_model.c
 *	  Comparisons, options and models, from jsonb and to it.
 *
 * A model is a document that people read, keep in a table and carry to
 * another database, so it is checked like any other input when it comes
 * back: what is scored with it was valid here, whoever wrote it.
 *
 *		{"version": 1, "lambda": 0.0005, …,
 *		 "columns": [{"column": "surname", "kind": "name", "levels": [
 *			{"level": -1, "name": "null", "weight": 0},
 *			{"level": 0, "name": "different", "m": 0.03, "u": 0.98, "weight": -5.1}, …]}],
 *		 "rules": [{"rule": "l.dob = r.dob", "pairs": 812, "new_pairs": 644}]}
 *
 * weight is there for the reader; m and u are what counts.
 *
 * SQL: sql/identity_match.sql.  Page: doc/identity_match.md.
 * Tests: test/sql/identity_match.sql.
 */
#include "identity_match.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/numeric.h"

#define MODEL_VERSION	1

#define COMPARISONS_HINT \
	"For example '[{\"column\": \"surname\", \"kind\": \"name\", \"swap\": \"given_name\"}, {\"column\": \"birthday\", \"kind\": \"date\"}]'."
#define OPTIONS_HINT	"Options are link_only (boolean), seed, sample and max_iterations (whole numbers)."
#define MODEL_HINT		"Give what cdp.fit_match() returned."
#define BLOCKING_HINT	"For example ARRAY['l.postcode = r.postcode', 'l.birthday = r.birthday AND l.surname = r.surname']."

#define DEFAULT_SEED			42
#define DEFAULT_SAMPLE			1000000
#define DEFAULT_ITERATIONS		500

pg_noreturn static void refuse(const char *hint, const char *fmt,...) pg_attribute_printf(2, 3);

static void
refuse(const char *hint, const char *fmt,...)
{
	StringInfoData buf;
	va_list		args;
	int			needed;

	initStringInfo(&buf);
	for (;;)
	{
		va_start(args, fmt);
		needed = appendStringInfoVA(&buf, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&buf, needed);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", buf.data),
			 errhint("%s", hint)));
}

/* --- reading jsonb --- */

static JsonbValue *
find_key(JsonbContainer *object, const char *key)
{
	return getKeyJsonValueFromContainer(object, key, strlen(key), NULL);
}

static const char *
to_cstring(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* a container of the wanted kind, or refused */
static JsonbContainer *
get_container(const JsonbValue *value, bool array, const char *hint, const char *what)
{
	if (value == NULL || value->type != jbvBinary ||
		(array ? !JsonContainerIsArray(value->val.binary.data) : !JsonContainerIsObject(value->val.binary.data)))
		refuse(hint, "%s must be %s", what, array ? "an array" : "an object");
	return value->val.binary.data;
}

static bool
get_bool(JsonbContainer *object, const char *key, bool missing, const char *hint)
{
	JsonbValue *value = find_key(object, key);

	if (value == NULL || value->type == jbvNull)
		return missing;
	if (value->type != jbvBool)
		refuse(hint, "\"%s\" must be true or false", key);
	return value->val.boolean;
}

static int64
get_int(JsonbContainer *object, const char *key, int64 missing, int64 least, int64 most, const char *hint)
{
	JsonbValue *value = find_key(object, key);
	double		number;

	if (value == NULL || value->type == jbvNull)
		return missing;
	number = value->type == jbvNumeric ?
		DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value->val.numeric))) : NAN;
	/* doubles hold whole numbers up to 2^53 exactly, which is room enough */
	if (!(number >= least && number <= most) || number != floor(number))
		refuse(hint, "\"%s\" must be a whole number from %lld to %lld", key, (long long) least, (long long) most);
	return (int64) number;
}

/* a probability that is neither 0 nor 1 */
static double
get_share(JsonbContainer *object, const char *key, const char *where)
{
	JsonbValue *value = find_key(object, key);
	double		number = value != NULL && value->type == jbvNumeric ?
		DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value->val.numeric))) : NAN;

	if (!(number > 0 && number < 1))
		refuse(MODEL_HINT, "%s: \"%s\" must be a number between 0 and 1, both excluded", where, key);
	return number;
}

/* column, kind, swap, term_frequency */
static void
read_column(MatchColumn *column, JsonbContainer *object, int place, const char *hint)
{
	static const char *const keys[] = {"column", "kind", "swap", "term_frequency", "levels"};
	JsonbValue *value;
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbValue	v;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		bool		known = token != WJB_KEY;

		for (int i = 0; i < lengthof(keys) && !known; i++)
			known = cdp_key_is(&v, keys[i]);
		if (!known)
			refuse(hint, "comparison %d has a key other than column, kind, swap and term_frequency", place);
	}
	value = find_key(object, "column");
	if (value == NULL || value->type != jbvString || value->val.string.len == 0 || value->val.string.len >= NAMEDATALEN)
		refuse(hint, "comparison %d names no column", place);
	column->name = to_cstring(value);
	value = find_key(object, "kind");
	if (value == NULL || value->type != jbvString ||
		!match_find_kind(value->val.string.val, value->val.string.len, &column->kind))
		refuse(psprintf("The kinds are %s.", match_kind_list()), "comparison of column \"%s\" has no known kind", column->name);
	value = find_key(object, "swap");
	column->swap = NULL;
	if (value != NULL && value->type != jbvNull)
	{
		if (value->type != jbvString || value->val.string.len == 0 || value->val.string.len >= NAMEDATALEN)
			refuse(hint, "\"swap\" of column \"%s\" must be the name of another column", column->name);
		column->swap = to_cstring(value);
		if (!match_kind_swaps(column->kind))
			refuse(hint, "column \"%s\" of kind %s cannot be exchanged with another", column->name, match_kind_name(column->kind));
		if (strcmp(column->swap, column->name) == 0)
			refuse(hint, "column \"%s\" cannot be exchanged with itself", column->name);
	}
	column->term_frequency = get_bool(object, "term_frequency", false, hint);
	column->nlevels = match_level_count(column);
}

/* the objects of a list of columns; what stands around them in messages */
static void
read_columns(MatchModel *model, JsonbContainer *array, const char *what, const char *hint)
{
	int			n = JsonContainerSize(array);

	if (n < 1 || n > MATCH_MAX_COLUMNS)
		refuse(hint, "%s must be an array of 1 to %d objects", what, MATCH_MAX_COLUMNS);
	for (int i = 0; i < n; i++)
	{
		MatchColumn *column = &model->columns[i];

		read_column(column, get_container(getIthJsonbValueFromContainer(array, i), false, hint,
										  psprintf("comparison %d", i + 1)), i + 1, hint);
		for (int j = 0; j < i; j++)
		{
			if (strcmp(model->columns[j].name, column->name) == 0 && model->columns[j].kind == column->kind)
				refuse(hint, "column \"%s\" is compared twice by kind %s", column->name, match_kind_name(column->kind));
		}
	}
	model->ncolumns = n;
}

static void
read_options(MatchModel *model, JsonbContainer *object, const char *hint)
{
	model->link_only = get_bool(object, "link_only", false, hint);
	model->seed = get_int(object, "seed", DEFAULT_SEED, 0, (INT64CONST(1) << 53), hint);
	model->sample = get_int(object, "sample", DEFAULT_SAMPLE, 1000, 100000000, hint);
	model->max_iterations = get_int(object, "max_iterations", DEFAULT_ITERATIONS, 1, 100000, hint);
}

/* comparisons NULL: none, for those who only block */
MatchModel *
match_new_model(Jsonb *comparisons, Jsonb *options)
{
	static const char *const keys[] = {"link_only", "seed", "sample", "max_iterations"};
	MatchModel *model = palloc0(sizeof(MatchModel));
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;

	if (comparisons != NULL)
	{
		if (!JB_ROOT_IS_ARRAY(comparisons) || JB_ROOT_IS_SCALAR(comparisons))
			refuse(COMPARISONS_HINT, "comparisons must be an array of 1 to %d objects", MATCH_MAX_COLUMNS);
		read_columns(model, &comparisons->root, "comparisons", COMPARISONS_HINT);
	}
	if (!JB_ROOT_IS_OBJECT(options))
		refuse(OPTIONS_HINT, "options must be an object");
	it = JsonbIteratorInit(&options->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		bool		known = token != WJB_KEY;

		for (int i = 0; i < lengthof(keys) && !known; i++)
			known = cdp_key_is(&v, keys[i]);
		if (!known)
			refuse(OPTIONS_HINT, "options has a key that is none");
	}
	read_options(model, &options->root, OPTIONS_HINT);
	return model;
}

void
match_set_rules(MatchModel *model, ArrayType *blocking)
{
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	deconstruct_array(blocking, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	if (ARR_NDIM(blocking) > 1 || n < 1 || n > MATCH_MAX_RULES)
		refuse(BLOCKING_HINT, "blocking must be a list of 1 to %d rules", MATCH_MAX_RULES);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			refuse(BLOCKING_HINT, "blocking rule %d is NULL", i + 1);
		model->rules[i].text = TextDatumGetCString(elems[i]);
	}
	model->nrules = n;
}

static void
read_levels(MatchColumn *column, JsonbContainer *object)
{
	const char *where = psprintf("levels of column \"%s\"", column->name);
	JsonbContainer *array = get_container(find_key(object, "levels"), true, MODEL_HINT, where);
	double		m = 0;
	double		u = 0;

	if (JsonContainerSize(array) != column->nlevels + 1)
		refuse(MODEL_HINT, "%s must be %d, null included", where, column->nlevels + 1);
	for (int l = -1; l < column->nlevels; l++)
	{
		JsonbContainer *level = get_container(getIthJsonbValueFromContainer(array, l + 1), false, MODEL_HINT,
											  psprintf("each of the %s", where));

		if (get_int(level, "level", -2, -1, MATCH_MAX_LEVELS, MODEL_HINT) != l)
			refuse(MODEL_HINT, "%s must stand in order from -1", where);
		if (l < 0)
			continue;
		m += column->m[l] = get_share(level, "m", where);
		u += column->u[l] = get_share(level, "u", where);
	}
	if (fabs(m - 1) > 1e-6 || fabs(u - 1) > 1e-6)
		refuse(MODEL_HINT, "%s: \"m\" and \"u\" must each sum to 1", where);
}

MatchModel *
match_read_model(Jsonb *jsonb)
{
	MatchModel *model = palloc0(sizeof(MatchModel));
	JsonbContainer *root = &jsonb->root;
	JsonbContainer *array;

	if (!JB_ROOT_IS_OBJECT(jsonb))
		refuse(MODEL_HINT, "model must be an object");
	if (get_int(root, "version", 0, 0, INT_MAX, MODEL_HINT) != MODEL_VERSION)
		refuse(MODEL_HINT, "model is not of version %d", MODEL_VERSION);
	read_options(model, root, MODEL_HINT);
	model->lambda = get_share(root, "lambda", "model");
	array = get_container(find_key(root, "columns"), true, MODEL_HINT, "\"columns\" of the model");
	read_columns(model, array, "\"columns\" of the model", MODEL_HINT);
	for (int i = 0; i < model->ncolumns; i++)
		read_levels(&model->columns[i], getIthJsonbValueFromContainer(array, i)->val.binary.data);

	array = get_container(find_key(root, "rules"), true, MODEL_HINT, "\"rules\" of the model");
	model->nrules = JsonContainerSize(array);
	if (model->nrules < 1 || model->nrules > MATCH_MAX_RULES)
		refuse(MODEL_HINT, "\"rules\" of the model must be 1 to %d", MATCH_MAX_RULES);
	for (int i = 0; i < model->nrules; i++)
	{
		JsonbContainer *rule = get_container(getIthJsonbValueFromContainer(array, i), false, MODEL_HINT,
											 psprintf("rule %d of the model", i + 1));
		JsonbValue *text = find_key(rule, "rule");

		if (text == NULL || text->type != jbvString)
			refuse(MODEL_HINT, "rule %d of the model has no text", i + 1);
		model->rules[i].text = to_cstring(text);
	}
	return model;
}

/* --- writing it --- */

static void
put_key(StringInfo buf, const char *key)
{
	char		last = buf->data[buf->len - 1];

	if (last != '{' && last != '[')
		appendStringInfoString(buf, ", ");
	escape_json(buf, key);
	appendStringInfoString(buf, ": ");
}

static void
put_text(StringInfo buf, const char *key, const char *value)
{
	put_key(buf, key);
	escape_json(buf, value);
}

/* shortest text that reads back as the same number */
static void
put_double(StringInfo buf, const char *key, double value)
{
	char		digits[DOUBLE_SHORTEST_DECIMAL_LEN];

	put_key(buf, key);
	double_to_shortest_decimal_buf(value, digits);
	appendStringInfoString(buf, digits);
}

static void
put_int(StringInfo buf, const char *key, int64 value)
{
	put_key(buf, key);
	appendStringInfo(buf, INT64_FORMAT, value);
}

static void
put_bool(StringInfo buf, const char *key, bool value)
{
	put_key(buf, key);
	appendStringInfoString(buf, value ? "true" : "false");
}

static void
write_column(StringInfo buf, const MatchColumn *column)
{
	appendStringInfoChar(buf, '{');
	put_text(buf, "column", column->name);
	put_text(buf, "kind", match_kind_name(column->kind));
	if (column->swap != NULL)
		put_text(buf, "swap", column->swap);
	if (column->term_frequency)
		put_bool(buf, "term_frequency", true);
	put_key(buf, "levels");
	appendStringInfoChar(buf, '[');
	for (int l = -1; l < column->nlevels; l++)
	{
		appendStringInfoString(buf, l < 0 ? "{" : ", {");
		put_int(buf, "level", l);
		put_text(buf, "name", match_level_name(column, l));
		if (l >= 0)
		{
			put_double(buf, "m", column->m[l]);
			put_double(buf, "u", column->u[l]);
		}
		put_double(buf, "weight", match_level_weight(column, l));
		appendStringInfoChar(buf, '}');
	}
	appendStringInfoString(buf, "]}");
}

Jsonb *
match_write_model(const MatchModel *model)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	put_int(&buf, "version", MODEL_VERSION);
	put_bool(&buf, "link_only", model->link_only);
	put_int(&buf, "seed", model->seed);
	put_int(&buf, "sample", model->sample);
	put_int(&buf, "max_iterations", model->max_iterations);
	put_int(&buf, "records", model->records);
	put_int(&buf, "pairs", model->pairs);
	put_double(&buf, "lambda", model->lambda);
	put_int(&buf, "iterations", model->iterations);
	put_bool(&buf, "converged", model->converged);
	if (model->note != NULL)
		put_text(&buf, "note", model->note);
	put_key(&buf, "columns");
	appendStringInfoChar(&buf, '[');
	for (int c = 0; c < model->ncolumns; c++)
	{
		appendStringInfoString(&buf, c > 0 ? ", " : "");
		write_column(&buf, &model->columns[c]);
	}
	appendStringInfoChar(&buf, ']');
	put_key(&buf, "rules");
	appendStringInfoChar(&buf, '[');
	for (int i = 0; i < model->nrules; i++)
	{
		appendStringInfoString(&buf, i > 0 ? ", {" : "{");
		put_text(&buf, "rule", model->rules[i].text);
		put_int(&buf, "pairs", model->rules[i].pairs);
		put_int(&buf, "new_pairs", model->rules[i].new_pairs);
		appendStringInfoChar(&buf, '}');
	}
	appendStringInfoString(&buf, "]}");
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(buf.data)));
}
