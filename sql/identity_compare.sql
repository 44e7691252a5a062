-- identity_compare: how alike two values are, character by character.
-- C: src/identity_compare.c, identity_pinyin.c; identity_unihan_*.c by src/gen/unihan.pl  Page: doc/identity_compare.md
-- Tests: test/sql/identity_compare.sql, test/pgtap/identity_compare.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.jaro_winkler(a text, b text) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_jaro_winkler';
COMMENT ON FUNCTION cdp.jaro_winkler(text, text) IS 'Likeness of two names from 0 (no character in common) to 1 (equal), by character. Jaro: m matches within half of the longer length - 1, t = half of the matches that are in another order, rounded down; (m/|a| + m/|b| + (m - t)/m) / 3. Above 0.7 a common beginning of up to 4 characters adds 0.1 of the rest for each of them. Two empty strings are equal. As it is written: fold case and width first with normalize_name. NULL gives NULL. 54000: over 100000 bytes. Source: Winkler 1990.';

CREATE OR REPLACE FUNCTION cdp.damerau_levenshtein(a text, b text, max_distance int DEFAULT NULL) RETURNS int
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_damerau_levenshtein';
COMMENT ON FUNCTION cdp.damerau_levenshtein(text, text, int) IS 'Least number of insertions, deletions, replacements and swaps of neighbouring characters that turn a into b: the true distance, a metric (ca, abc: 2), not optimal string alignment. max_distance: stop early and give max_distance + 1 for everything above; NULL: no limit. NULL for a or b gives NULL. 22023: max_distance below 0; 54000: over 100000 bytes. Source: Lowrance and Wagner 1975.';

CREATE OR REPLACE FUNCTION cdp.simplify_han(name text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 2 AS 'MODULE_PATHNAME', 'cdp_simplify_han';
COMMENT ON FUNCTION cdp.simplify_han(text) IS 'The text with its traditional Han characters in simplified form, one for one; everything else stays. A character that belongs to the standard of the mainland itself (乾, 著, 於) stays, because only words tell whether it became 干, 着, 于: so it is a level of comparison, not a conversion of prose. NULL gives NULL. 0A000: the database is not UTF8. Source: Unihan 15.0, kSimplifiedVariant and kTGH.';

CREATE OR REPLACE FUNCTION cdp.pinyin_key(name text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_pinyin_key';
COMMENT ON FUNCTION cdp.pinyin_key(text) IS 'How a name sounds: syllables without tones, one space between, v for ü (吕布: lv bu). The name is normalised as by normalize_name and simplified; a surname that begins it is read as surname (曾国藩: zeng guo fan), the rest by the commonest reading. Latin words and digits stay in lower case, apostrophes go, dots and other signs separate, a character without known reading stands for itself. A blank name gives an empty string, NULL gives NULL. Errors as normalize_name. Source: Unihan 15.0, kMandarin.';

CREATE OR REPLACE FUNCTION cdp.pinyin_keys(name text) RETURNS text[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'cdp_pinyin_keys';
COMMENT ON FUNCTION cdp.pinyin_keys(text) IS 'All keys of a name whose characters have several readings, in byte order, pinyin_key among them; above 16 those with the commonest readings. For indexes and joins: pinyin_keys(a) && pinyin_keys(b). A blank name gives an empty array, NULL gives NULL. Errors as normalize_name. Source: Unihan 15.0, kMandarin, kHanyuPinlu, kXHC1983, kTGHZ2013, and kHanyuPinyin for what these do not have.';

-- @access
('function', 'jaro_winkler', 'EXECUTE', '{public}'),
('function', 'damerau_levenshtein', 'EXECUTE', '{public}'),
('function', 'simplify_han', 'EXECUTE', '{public}'),
('function', 'pinyin_key', 'EXECUTE', '{public}'),
('function', 'pinyin_keys', 'EXECUTE', '{public}'),
