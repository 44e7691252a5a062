-- identity_match: which records are of one person, learnt without labels.
-- C: src/identity_match.c and its topics  Page: doc/identity_match.md  Tests: test/sql/identity_match.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.fit_match(records text, comparisons jsonb, blocking text[], options jsonb DEFAULT '{}') RETURNS jsonb
	LANGUAGE c STABLE PARALLEL UNSAFE COST 100000 AS 'MODULE_PATHNAME', 'cdp_fit_match';
COMMENT ON FUNCTION cdp.fit_match(text, jsonb, text[], jsonb) IS 'Learns from unlabelled records how much the agreement of each column says (Fellegi and Sunter 1969, EM of Dempster, Laird and Rubin 1977). records: one SELECT with id bigint and the columns compared, and source when options has {"link_only": true}, which pairs records of different sources only; it runs with the rights of the caller and cannot write. comparisons: array of {"column", "kind", "swap", "term_frequency"}, kind one of exact, text, name, han_name, date, number, phone, email; swap names a column whose value is sometimes exchanged with this one; term_frequency lets equal rare values weigh more. blocking: boolean expressions over two records l and r, the candidates are what any of them finds. options: link_only, seed (42), sample (random pairs for u, 1000000), max_iterations (500). Result: the model as an object (version, lambda = probability that two random records are of one person, iterations, converged, note, columns with m, u and weight = log2(m/u) per level, rules with their counts), the same for the same rows, whatever the plan. Blank and unreadable values count as not given. Errors: 22004 NULL argument; 22023 malformed or empty comparisons, unknown kind, a rule that is no single boolean expression or volatile, records not one SELECT; 42703 no such column; 42804 id is no integer; 23505 an id twice; 54000 a rule, named, that exceeds cdp.max_block_pairs or does not compare l with r.';

CREATE OR REPLACE FUNCTION cdp.score_pairs(records text, model jsonb)
	RETURNS TABLE (left_id bigint, right_id bigint, weight float8, probability float8, levels smallint[])
	LANGUAGE c STABLE PARALLEL UNSAFE COST 100000 ROWS 100000 AS 'MODULE_PATHNAME', 'cdp_score_pairs';
COMMENT ON FUNCTION cdp.score_pairs(text, jsonb) IS 'All candidate pairs of the model''s blocking rules, each once, with weight = sum of log2(m/u) over the columns (and the term frequency, where asked for), probability = lambda * 2^weight / (lambda * 2^weight + 1 - lambda), and the level of each column in the model''s order: -1 null, 0 different, the largest equal. left_id < right_id; with link_only left_id is of the source whose name sorts first. records: as in fit_match. model: what fit_match returned; it is checked completely, since its rules run as the caller. Ordered by left and right. Errors as fit_match; 22023 for a model that is none.';

CREATE OR REPLACE FUNCTION cdp.count_block_pairs(records text, blocking text[], options jsonb DEFAULT '{}')
	RETURNS TABLE (rule text, pairs bigint, new_pairs bigint)
	LANGUAGE c STABLE PARALLEL UNSAFE COST 100000 ROWS 10 AS 'MODULE_PATHNAME', 'cdp_count_block_pairs';
COMMENT ON FUNCTION cdp.count_block_pairs(text, text[], jsonb) IS 'How many pairs each blocking rule gives, and how many of them no earlier rule gave: what a fit would have to compare, before it does. records, blocking, options: as in fit_match. Errors as fit_match; 54000 at the first rule that exceeds cdp.max_block_pairs.';

CREATE OR REPLACE FUNCTION cdp.explain_pair(records text, model jsonb, left_id bigint, right_id bigint)
	RETURNS TABLE (column_name text, level text, m float8, u float8, weight float8)
	LANGUAGE c STABLE PARALLEL UNSAFE COST 100000 ROWS 10 AS 'MODULE_PATHNAME', 'cdp_explain_pair';
COMMENT ON FUNCTION cdp.explain_pair(text, jsonb, bigint, bigint) IS 'Why two records score as they do, one row per column: the word for its level, m and u of the level (NULL for level null), and what it adds to the weight, term frequency included. The pair need not be a candidate of the blocking rules. With link_only an id that two sources have means the first as left_id and the last as right_id. Errors as score_pairs; 22023 when records has no such id.';

-- @access
('function', 'fit_match', 'EXECUTE', '{reader}'),
('function', 'score_pairs', 'EXECUTE', '{reader}'),
('function', 'count_block_pairs', 'EXECUTE', '{reader}'),
('function', 'explain_pair', 'EXECUTE', '{reader}'),
