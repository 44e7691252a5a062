-- identity_compare: how alike two values are, character by character.
-- C: src/identity_compare.c  Page: doc/identity_compare.md
-- Tests: test/sql/identity_compare.sql, test/pgtap/identity_compare.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.jaro_winkler(a text, b text) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_jaro_winkler';
COMMENT ON FUNCTION cdp.jaro_winkler(text, text) IS 'Likeness of two names from 0 (no character in common) to 1 (equal), by character. Jaro: m matches within half of the longer length - 1, t = half of the matches that are in another order, rounded down; (m/|a| + m/|b| + (m - t)/m) / 3. Above 0.7 a common beginning of up to 4 characters adds 0.1 of the rest for each of them. Two empty strings are equal. As it is written: fold case and width first with normalize_name. NULL gives NULL. 54000: over 100000 bytes. Source: Winkler 1990.';

CREATE OR REPLACE FUNCTION cdp.damerau_levenshtein(a text, b text, max_distance int DEFAULT NULL) RETURNS int
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_damerau_levenshtein';
COMMENT ON FUNCTION cdp.damerau_levenshtein(text, text, int) IS 'Least number of insertions, deletions, replacements and swaps of neighbouring characters that turn a into b: the true distance, a metric (ca, abc: 2), not optimal string alignment. max_distance: stop early and give max_distance + 1 for everything above; NULL: no limit. NULL for a or b gives NULL. 22023: max_distance below 0; 54000: over 100000 bytes. Source: Lowrance and Wagner 1975.';

-- @access
('function', 'jaro_winkler', 'EXECUTE', '{public}'),
('function', 'damerau_levenshtein', 'EXECUTE', '{public}'),
