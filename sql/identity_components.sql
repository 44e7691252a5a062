-- identity_components: whole tables of edges and pairs resolved in one call.
-- C: src/identity_components.c, identity_cluster.c  Page: doc/identity_components.md
-- Tests: test/sql/identity_components.sql, test/pgtap/identity_components.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.connected_components(edges text, OUT node bigint, OUT component bigint) RETURNS SETOF record
	LANGUAGE c STABLE PARALLEL UNSAFE COST 1000 ROWS 10000 AS 'MODULE_PATHNAME', 'cdp_connected_components';
COMMENT ON FUNCTION cdp.connected_components(text) IS 'The connected components of a graph. edges: one SELECT with two columns of type bigint, each row an edge; NULL on one side makes the other a node of its own, NULL on both is nothing; it runs with the rights and search_path of the caller and cannot write. Result: every node once with the smallest node of its component, in the order in which the query first gave them: add ORDER BY where order matters. Errors: 22004 for NULL; 22023 when edges is not one SELECT that only reads; 42804 when it has not two bigint columns; 53200 before more than cdp.components_memory is taken (20 to 40 bytes per node). Method: union-find, Tarjan 1975.';

-- @access
('function', 'connected_components', 'EXECUTE', '{public}'),
