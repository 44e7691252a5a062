-- identity_components: whole tables of edges and pairs resolved in one call.
-- C: src/identity_components.c, identity_cluster.c  Page: doc/identity_components.md
-- Tests: test/sql/identity_components.sql, test/pgtap/identity_components.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.connected_components(edges text, OUT node bigint, OUT component bigint) RETURNS SETOF record
	LANGUAGE c STABLE PARALLEL UNSAFE COST 1000 ROWS 10000 AS 'MODULE_PATHNAME', 'cdp_connected_components';
COMMENT ON FUNCTION cdp.connected_components(text) IS 'The connected components of a graph. edges: one SELECT with two columns of type bigint, each row an edge; NULL on one side makes the other a node of its own, NULL on both is nothing; it runs with the rights and search_path of the caller and cannot write. Result: every node once with the smallest node of its component, in the order in which the query first gave them: add ORDER BY where order matters. Errors: 22004 for NULL; 22023 when edges is not one SELECT that only reads; 42804 when it has not two bigint columns; 53200 before more than cdp.components_memory is taken (20 to 40 bytes per node). Method: union-find, Tarjan 1975.';

CREATE OR REPLACE FUNCTION cdp.cluster_pairs(pairs text, threshold float8 DEFAULT 0.9, reject float8 DEFAULT 0.05, min_density float8 DEFAULT 0.5,
	OUT node bigint, OUT component bigint) RETURNS SETOF record
	LANGUAGE c STABLE PARALLEL UNSAFE COST 1000 ROWS 10000 AS 'MODULE_PATHNAME', 'cdp_cluster_pairs';
COMMENT ON FUNCTION cdp.cluster_pairs(text, float8, float8, float8) IS 'Clusters out of scored pairs, without the chains of plain closure. pairs: one SELECT that returns left_id, right_id (integers) and probability (0 to 1), as score_pairs does; it runs with the rights and search_path of the caller and cannot write. Pairs at or above threshold are taken in falling probability, ties by the ids; two clusters become one unless a pair between them was scored below reject, or fewer than min_density of all pairs of the result reach threshold. A pair given twice, in either direction, counts with its lowest probability; one not given neither supports nor forbids. Result: every node that occurs with the smallest node of its cluster, the same whatever the order of the rows; add ORDER BY where order matters. Errors: 22004 for a NULL in an argument or a row; 22023 for numbers outside 0 to 1, NaN, reject above threshold, and when pairs is not one SELECT that only reads; 42804 for other columns; 53200 before more than cdp.components_memory is taken.';

-- @access
('function', 'connected_components', 'EXECUTE', '{public}'),
('function', 'cluster_pairs', 'EXECUTE', '{public}'),
