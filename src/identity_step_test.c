/*
 * identity_step_test.c
 *	  A module that only the tests have: it hears what every module hears
 *	  that keeps something per customer, and passes it on to SQL.
 *
 *		cdp_test.customers_changed(winner bigint, loser bigint, action text)
 *
 * Where there is no such function it is deaf.  Nothing of this file is in a
 * library that users build: test/run.sh defines CDP_TEST_HANDLER.
 *
 * Tests: test/pgtap/identity_step.sql.
 */
#include "identity_step.h"

#ifdef CDP_TEST_HANDLER

#include "catalog/pg_type.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"

void
cdp_test_handler(int64 winner, int64 loser, const char *action)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			types[] = {INT8OID, INT8OID, TEXTOID};
	Datum		args[] = {Int64GetDatum(winner), Int64GetDatum(loser), CStringGetTextDatum(action)};

	if (!OidIsValid(LookupFuncName(list_make2(makeString("cdp_test"), makeString("customers_changed")), 3, types, true)))
		return;
	if (SPI_execute_with_args("SELECT cdp_test.customers_changed($1, $2, $3)", 3, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not call cdp_test.customers_changed()");
	SPI_freetuptable(SPI_tuptable);
	MemoryContextSwitchTo(caller);
}

#endif
