/*
 * rows.c
 *	  Rows made in C as a relation that a statement can read; see rows.h.
 *
 * Tests: whatever writes sets, test/sql/event.sql first.
 */
#include "rows.h"

#include "utils/memutils.h"
#include "utils/queryenvironment.h"
#include "utils/tuplestore.h"

struct CdpRows
{
	EphemeralNamedRelation enr; /* SPI keeps it, see cdp_rows_publish() */
	TupleDesc	desc;
	Tuplestorestate *store;
	MemoryContext row_context;	/* what one row is built from */
	MemoryContext caller;
	bool		published;
};

CdpRows *
cdp_rows_open(const char *name, int ncolumns, const char *const *names, const Oid *types)
{
	CdpRows    *rows = palloc0(sizeof(CdpRows));

	rows->desc = CreateTemplateTupleDesc(ncolumns);
	for (int i = 0; i < ncolumns; i++)
		TupleDescInitEntry(rows->desc, i + 1, names[i], types[i], -1, 0);
	rows->store = tuplestore_begin_heap(false, false, work_mem);
	rows->row_context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp row", ALLOCSET_DEFAULT_SIZES);
	rows->enr = MemoryContextAllocZero(TopTransactionContext, sizeof(EphemeralNamedRelationData));
	rows->enr->md.name = MemoryContextStrdup(TopTransactionContext, name);
	rows->enr->md.reliddesc = InvalidOid;
	rows->enr->md.tupdesc = rows->desc;
	rows->enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	/* plans are kept: an estimate that fits a batch, whatever the first one held */
	rows->enr->md.enrtuples = 1000;
	rows->enr->reldata = rows->store;
	return rows;
}

void
cdp_rows_start(CdpRows *rows)
{
	rows->caller = MemoryContextSwitchTo(rows->row_context);
}

void
cdp_rows_put(CdpRows *rows, const Datum *values, const bool *nulls)
{
	MemoryContextSwitchTo(rows->caller);
	tuplestore_putvalues(rows->store, rows->desc, unconstify(Datum *, values), unconstify(bool *, nulls));
	MemoryContextReset(rows->row_context);
}

void
cdp_rows_are_few(CdpRows *rows)
{
	rows->enr->md.enrtuples = 1;
}

/*
 * What SPI keeps of a published relation must live as long as its connection,
 * which is longer than the context of the caller, who may work off a file in
 * parts; and an error that somebody catches outside of us leaves the entry
 * behind, to be replaced by the next one of that name.
 */
void
cdp_rows_publish(CdpRows *rows)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	int			rc = SPI_register_relation(rows->enr);

	if (rc == SPI_ERROR_REL_DUPLICATE)
	{
		(void) SPI_unregister_relation(rows->enr->md.name);
		rc = SPI_register_relation(rows->enr);
	}
	MemoryContextSwitchTo(caller);
	if (rc != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register rows: %s", SPI_result_code_string(rc));
	rows->published = true;
}

void
cdp_rows_close(CdpRows *rows)
{
	if (rows->published)
		(void) SPI_unregister_relation(rows->enr->md.name);
	pfree(rows->enr->md.name);
	pfree(rows->enr);
	tuplestore_end(rows->store);
	MemoryContextDelete(rows->row_context);
	pfree(rows);
}
