-- segment_lookalike: what sets some customers apart, and who else is like them
-- C: src/segment_lookalike.c, src/tag_bits_count.c (counts of all keys)
-- Page: doc/segment_lookalike.md  Tests: test/sql/segment_lookalike.sql, test/pgtap/segment_lookalike.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.lift_table(seed cdp.audience, baseline cdp.audience DEFAULT NULL, min_count int DEFAULT 30)
	RETURNS TABLE (tag text, seed_count bigint, base_count bigint, seed_rate float8, base_rate float8, lift float8, tgi float8, z float8)
	LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 1000 AS 'MODULE_PATHNAME', 'cdp_lift_table';
COMMENT ON FUNCTION cdp.lift_table(cdp.audience, cdp.audience, int) IS 'Which tags the customers of seed have more or less often than those of baseline (NULL: everyone), as of cdp.now(); highest z first. tag: a term of cdp.tagquery: a name, name.* where somebody has something below it without having the name itself, or name = text; numbers and dates have no row of their values. seed_count, base_count: how many have it; seed_rate, base_rate: of all customers of the set, 0 to 1; lift = seed_rate / base_rate, Infinity where base_count is 0; tgi (Target Group Index) = 100 * lift; z of the two-proportion test with pooled variance (Fleiss, Levin, Paik, 2003), 0 where the rates are equal. min_count: only tags that at least so many of baseline have; with 0 also those that only the seed has. Ids that are no customers are ignored. Never NULL; no row where seed or baseline has no customer. Changes that are not merged yet count. Errors: 22004 NULL seed or min_count, 22023 min_count below 0.';

CREATE OR REPLACE FUNCTION cdp.find_lookalikes(seed cdp.audience, n int, min_z float8 DEFAULT 3)
	RETURNS TABLE (customer_id bigint, score float8)
	LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 1000 AS 'MODULE_PATHNAME', 'cdp_find_lookalikes';
COMMENT ON FUNCTION cdp.find_lookalikes(cdp.audience, int, float8) IS 'The n customers most like those of seed, who are not in it; highest score first, of equal scores the lower id first. score: the sum of ln(lift) over the tags the customer has, of those that lift_table(seed) shows with seed_count above 0 and z >= min_z. Customers with none of these tags are not found, so there may be fewer than n, and no row where the seed has no customer or nothing sets it apart. n: 1 to 10,000,000. min_z: in standard errors; 3 or more keeps out what is chance. As of cdp.now(); changes that are not merged yet count. Never NULL. Errors: 22004 NULL argument, 22023 n out of range, min_z NaN.';

-- @access
('function', 'lift_table', 'EXECUTE', '{reader}'),
('function', 'find_lookalikes', 'EXECUTE', '{reader}'),
