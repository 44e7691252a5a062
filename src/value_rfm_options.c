/*
 * value_rfm_options.c
 *	  The arguments of cdp.rfm_table and its relatives.
 *
 * An argument that is NULL means its default.  What makes no sense is
 * refused with 22023 and a hint before a row is read.
 *
 * SQL: sql/value_rfm.sql.  Tests: test/sql/value_table.sql,
 * test/sql/value_rfm.sql.  Page: doc/value_rfm.md.
 */
#include "value_rfm.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

/* arguments in their order, from method on */
enum
{
	ARG_METHOD,
	ARG_BINS,
	ARG_R_CUTS,
	ARG_F_CUTS,
	ARG_M_CUTS,
	ARG_HIGH,
	ARG_R_HIGH,
	ARG_F_HIGH,
	ARG_M_HIGH,
	ARG_MONETARY,
	ARG_REFUNDS
};

static void
refuse(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", message),
			 errhint("%s", hint)));
}

/* Place of a text argument in a list of words that ends with NULL; NULL is the first. */
static int
read_word(FunctionCallInfo fcinfo, int arg, const char *const *words, const char *format, const char *hint)
{
	char	   *word;

	if (PG_ARGISNULL(arg))
		return 0;
	word = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	for (int i = 0; words[i]; i++)
		if (strcmp(word, words[i]) == 0)
			return i;
	if (strlen(word) > 40)
		word = "...";
	refuse(psprintf(format, word), hint);
	return 0;
}

static Datum *
read_cuts(FunctionCallInfo fcinfo, int arg, const char *name, int bins, Oid type)
{
	ArrayType  *array = PG_ARGISNULL(arg) ? NULL : PG_GETARG_ARRAYTYPE_P(arg);
	Datum	   *values;
	bool	   *nulls;
	int			n;

	if (array == NULL || ARR_NDIM(array) != 1 || ARR_DIMS(array)[0] != bins - 1)
		refuse(psprintf("method threshold needs %s with %d values, one less than bins", name, bins - 1),
			   "For five scores for example f_cuts => '{2,3,5,10}' and r_cuts => '{7 days,30 days,90 days,180 days}'.");
	if (type == INTERVALOID)
		deconstruct_array(array, type, sizeof(Interval), false, TYPALIGN_DOUBLE, &values, &nulls, &n);
	else
		deconstruct_array(array, type, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		bool		wrong = nulls[i];

		if (!wrong && type == INTERVALOID)
			wrong = i > 0 && cdp_interval_us(DatumGetIntervalP(values[i])) <= cdp_interval_us(DatumGetIntervalP(values[i - 1]));
		else if (!wrong)
			wrong = numeric_is_nan(DatumGetNumeric(values[i])) ||
				(i > 0 && DatumGetBool(DirectFunctionCall2(numeric_le, values[i], values[i - 1])));
		if (wrong)
			refuse(psprintf("%s must be ascending, each value once, without NULL", name), "Sort it.");
	}
	return values;
}

static Numeric
read_limit(FunctionCallInfo fcinfo, int arg)
{
	Numeric		limit = PG_ARGISNULL(arg) ? NULL : PG_GETARG_NUMERIC(arg);

	if (limit && numeric_is_nan(limit))
		refuse("a limit is not a number", "Give f_high and m_high as numbers, or leave them out.");
	return limit;
}

void
cdp_rfm_read_options(FunctionCallInfo fcinfo, int method, int lang, RfmOptions *o)
{
	static const char *const methods[] = {"quintile", "nested", "threshold", NULL};
	static const char *const highs[] = {"mean", "median", NULL};
	static const char *const monetaries[] = {"sum", "mean", NULL};
	static const char *const refunds[] = {"net", "ignore", "net_day", "cancel", NULL};
	static const char *const langs[] = {"zh", "en", NULL};
	int			rule;

	memset(o, 0, sizeof(RfmOptions));
	o->method = read_word(fcinfo, method + ARG_METHOD, methods, "there is no method \"%s\"",
						  "The methods are quintile, nested and threshold.");
	o->bins = PG_ARGISNULL(method + ARG_BINS) ? 5 : PG_GETARG_INT32(method + ARG_BINS);
	if (o->bins < 2 || o->bins > 100)
		refuse(psprintf("bins is %d", o->bins), "It must lie between 2 and 100; the usual number is 5.");
	o->median = read_word(fcinfo, method + ARG_HIGH, highs, "there is no high \"%s\"",
						  "The values are mean and median; limits of your own are r_high, f_high and m_high.") == 1;
	o->mean_money = read_word(fcinfo, method + ARG_MONETARY, monetaries, "there is no monetary \"%s\"",
							  "The values are sum and mean (per purchase).") == 1;
	rule = read_word(fcinfo, method + ARG_REFUNDS, refunds, "there is no rule for refunds \"%s\"",
					 "The rules are ignore, net, net_day and cancel.");
	o->ignore_refunds = rule == 1;
	o->rule = rule == 2 ? RFM_RULE_NET_DAY : rule == 3 ? RFM_RULE_CANCEL : RFM_RULE_PLAIN;
	o->english = read_word(fcinfo, lang, langs, "there is no language \"%s\"", "The languages are zh and en.") == 1;
	o->r_high = PG_ARGISNULL(method + ARG_R_HIGH) ? NULL : PG_GETARG_INTERVAL_P(method + ARG_R_HIGH);
	o->f_high = read_limit(fcinfo, method + ARG_F_HIGH);
	o->m_high = read_limit(fcinfo, method + ARG_M_HIGH);
	if (o->method == RFM_THRESHOLD)
	{
		Datum	   *r_cuts = read_cuts(fcinfo, method + ARG_R_CUTS, "r_cuts", o->bins, INTERVALOID);
		Datum	   *f_cuts = read_cuts(fcinfo, method + ARG_F_CUTS, "f_cuts", o->bins, NUMERICOID);
		Datum	   *m_cuts = read_cuts(fcinfo, method + ARG_M_CUTS, "m_cuts", o->bins, NUMERICOID);

		o->r_cuts = palloc(o->bins * sizeof(Interval));
		o->f_cuts = palloc(o->bins * sizeof(Numeric));
		o->m_cuts = palloc(o->bins * sizeof(Numeric));
		for (int i = 0; i < o->bins - 1; i++)
		{
			o->r_cuts[i] = *DatumGetIntervalP(r_cuts[i]);
			o->f_cuts[i] = DatumGetNumeric(f_cuts[i]);
			o->m_cuts[i] = DatumGetNumeric(m_cuts[i]);
		}
	}
	else if (!PG_ARGISNULL(method + ARG_R_CUTS) || !PG_ARGISNULL(method + ARG_F_CUTS) || !PG_ARGISNULL(method + ARG_M_CUTS))
		refuse(psprintf("method %s takes no cuts", methods[o->method]), "Say method => 'threshold'.");
}
