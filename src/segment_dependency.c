/*
 * segment_dependency.c
 *	  Segments that ask for segments: no circle, and in which order they are
 *	  refreshed.
 *
 *		A: segment(B) & vip		B: segment(C) | fan		C: aov > 1000
 *
 *		order of A: C, B, A		C := segment(A): refused, A → B → C → A
 *
 * What a segment asks for stands in its row (depends_on).  Definitions are
 * changed one after the other, so two that would close a circle together see
 * each other.
 *
 * SQL: sql/segment.sql.  Tests: test/sql/segment.sql.  Page: doc/segment.md.
 */
#include "segment.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_segment_order);

typedef struct SegmentNode
{
	char	   *name;
	Datum	   *asks;			/* text */
	int			nasks;
	bool		wanted;
	bool		visited;
} SegmentNode;

typedef struct Graph
{
	SegmentNode	   *nodes;			/* by name, as strcmp orders */
	int			n;
	SegmentNode	  **path;
	int			depth;
} Graph;

/* all of cdp.segment; wanted: is due and may be run by that role */
static void
load(Graph *g, Oid caller)
{
	Oid			types[1] = {OIDOID};
	Datum		args[1] = {ObjectIdGetDatum(caller)};

	if (SPI_execute_with_args("SELECT s.name, s.depends_on, s.kind <> 'static' AND s.refresh_every IS NOT NULL AND (s.refreshed_at IS NULL"
							  "  OR s.refreshed_version IS DISTINCT FROM s.version OR cdp.now() < s.refreshed_at"
							  "  OR cdp.now() >= s.refreshed_at + s.refresh_every)"
							  " AND (s.kind <> 'query' OR coalesce(pg_has_role($1, r.oid, 'USAGE'), true))"
							  " FROM cdp.segment s LEFT JOIN pg_roles r ON r.rolname = s.owner ORDER BY s.name COLLATE \"C\"",
							  1, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.segment");
	g->n = (int) SPI_processed;
	g->nodes = palloc0(sizeof(SegmentNode) * Max(g->n, 1));
	g->path = palloc(sizeof(SegmentNode *) * (g->n + 1));
	g->depth = 0;
	for (int i = 0; i < g->n; i++)
	{
		SegmentNode	   *node = &g->nodes[i];
		bool		isnull;

		node->name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		deconstruct_array(DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull)),
						  TEXTOID, -1, false, TYPALIGN_INT, &node->asks, NULL, &node->nasks);
		node->wanted = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
}

static SegmentNode *
find(Graph *g, const char *name)
{
	int			low = 0;
	int			high = g->n;

	while (low < high)
	{
		int			mid = (low + high) / 2;
		int			cmp = strcmp(g->nodes[mid].name, name);

		if (cmp == 0)
			return &g->nodes[mid];
		if (cmp < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* is there a way from node to that name?  The path is it, then. */
static bool
reaches(Graph *g, SegmentNode *node, const char *name)
{
	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	g->path[g->depth++] = node;
	if (strcmp(node->name, name) == 0)
		return true;
	node->visited = true;
	for (int i = 0; i < node->nasks; i++)
	{
		SegmentNode	   *next = find(g, TextDatumGetCString(node->asks[i]));

		if (next != NULL && !next->visited && reaches(g, next, name))
			return true;
	}
	g->depth--;
	return false;
}

void
cdp_segment_check_dependencies(const char *name, List *asked)
{
	Graph		g;
	ListCell   *lc;

	if (asked == NIL)
		return;
	load(&g, InvalidOid);
	foreach(lc, asked)
	{
		SegmentNode	   *node = find(&g, lfirst(lc));
		StringInfoData path;

		if (strcmp(lfirst(lc), name) != 0 && node == NULL)
			cdp_segment_unknown(lfirst(lc));
		initStringInfo(&path);
		if (strcmp(lfirst(lc), name) == 0)
			appendStringInfo(&path, "%s → ", name);
		else
		{
			if (!reaches(&g, node, name))
				continue;
			for (int i = 0; i < g.depth; i++)
				appendStringInfo(&path, "%s → ", g.path[i]->name);
		}
		appendStringInfoString(&path, lfirst(lc));
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_RECURSION),
				 errmsg("segment \"%s\" would ask for itself: %s", name, path.data),
				 errhint("Leave one of these out of the definition of the one before it.")));
	}
}

/* children first; only those that are wanted, or all below a name */
static void
visit(Graph *g, SegmentNode *node, bool all, ArrayBuildState **order)
{
	check_stack_depth();
	if (node->visited)
		return;
	node->visited = true;
	for (int i = 0; i < node->nasks; i++)
	{
		SegmentNode	   *next = find(g, TextDatumGetCString(node->asks[i]));

		if (next != NULL)
			visit(g, next, all, order);
	}
	if (all || node->wanted)
		*order = accumArrayResult(*order, CStringGetTextDatum(node->name), false, TEXTOID, CurrentMemoryContext);
}

/* cdp._segment_order(names text[]) -> text[]: those and what they ask for, or with NULL all that are due, in their order */
Datum
cdp_segment_order(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	ArrayBuildState *order = NULL;
	Datum		result = (Datum) 0;
	CdpVerb		verb;
	Graph		g;

	cdp_begin_read(&verb);
	load(&g, verb.userid);
	if (PG_ARGISNULL(0))
	{
		for (int i = 0; i < g.n; i++)
			visit(&g, &g.nodes[i], false, &order);
	}
	else
	{
		Datum	   *names;
		int			n;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &n);
		for (int i = 0; i < n; i++)
		{
			char	   *name = TextDatumGetCString(names[i]);
			SegmentNode	   *node = find(&g, name);

			if (node == NULL)
				cdp_segment_unknown(name);
			visit(&g, node, true, &order);
		}
	}
	if (order != NULL)
		result = makeArrayResult(order, caller);
	cdp_end(&verb);
	PG_RETURN_DATUM(order != NULL ? result : PointerGetDatum(construct_empty_array(TEXTOID)));
}
