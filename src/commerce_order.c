/*
 * commerce_order.c
 *	  A batch of orders, given as an array per column, as one relation.
 *
 *		FROM cdp._order_rows(profile_ids, order_ids, …) u
 *
 * reads as unnest(profile_ids, order_ids, …) WITH ORDINALITY does.  But
 * unnest() keeps a tuplestore per column and joins sixteen of them row by
 * row, which was an eighth of what a back-fill of orders costs; here all
 * columns share one.
 *
 * SQL: sql/commerce_order.sql.  Tests: test/sql/commerce_order.sql.
 */
#include "cdp.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

/* columns of the result: those of the arguments, after ord */
#define MAX_COLUMNS	16

PG_FUNCTION_INFO_V1(cdp_order_rows);

/* (one array per column) -> setof (ord bigint, columns...); a column whose array ends early, or is NULL, is NULL */
Datum
cdp_order_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum	   *elems[MAX_COLUMNS];
	bool	   *isnull[MAX_COLUMNS];
	int			len[MAX_COLUMNS] = {0};
	int			ncolumns = PG_NARGS();
	int			n = 0;

	Assert(ncolumns <= MAX_COLUMNS);
	InitMaterializedSRF(fcinfo, 0);
	for (int c = 0; c < ncolumns; c++)
	{
		ArrayType  *array;
		int16		typlen;
		bool		byval;
		char		align;

		if (PG_ARGISNULL(c))
			continue;
		array = PG_GETARG_ARRAYTYPE_P(c);
		get_typlenbyvalalign(ARR_ELEMTYPE(array), &typlen, &byval, &align);
		deconstruct_array(array, ARR_ELEMTYPE(array), typlen, byval, align, &elems[c], &isnull[c], &len[c]);
		n = Max(n, len[c]);
	}
	for (int i = 0; i < n; i++)
	{
		Datum		values[MAX_COLUMNS + 1];
		bool		nulls[MAX_COLUMNS + 1];

		CHECK_FOR_INTERRUPTS();
		values[0] = Int64GetDatum(i + 1);
		nulls[0] = false;
		for (int c = 0; c < ncolumns; c++)
		{
			nulls[c + 1] = i >= len[c] || isnull[c][i];
			values[c + 1] = nulls[c + 1] ? (Datum) 0 : elems[c][i];
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
