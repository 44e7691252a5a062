/*
 * rows.h
 *	  Rows made in C as a relation that a statement can read.
 *
 * An array per column costs a tuplestore per column in unnest(); here all
 * columns share one, and the executor reads it like a transition table:
 *
 *		rows = cdp_rows_open("item", 2, names, types);
 *		cdp_rows_start(rows);					-- as often as needed:
 *		values[0] = CStringGetTextDatum(...);	-- what is allocated here
 *		cdp_rows_put(rows, values, nulls);		-- is freed here
 *		cdp_rows_publish(rows);
 *		SPI_execute_plan(... "INSERT INTO cdp.x SELECT a, b FROM item" ...);
 *		cdp_rows_close(rows);
 */
#ifndef CDP_ROWS_H
#define CDP_ROWS_H

#include "cdp.h"

typedef struct CdpRows CdpRows;

extern CdpRows *cdp_rows_open(const char *name, int ncolumns,
							  const char *const *names, const Oid *types);
extern void cdp_rows_start(CdpRows *rows);
extern void cdp_rows_put(CdpRows *rows, const Datum *values, const bool *nulls);
/*
 * For a statement that finds a row of a large table for each of ours: by its
 * index, also when the plan was made before the table was ever analyzed.
 * After a VACUUM of the empty table such a plan reads all of it instead.
 */
extern void cdp_rows_are_few(CdpRows *rows);

extern void cdp_rows_publish(CdpRows *rows);
extern void cdp_rows_close(CdpRows *rows);

#endif							/* CDP_ROWS_H */
