-- identity_normalize: one spelling per phone number, e-mail address and name.
-- C: src/identity_normalize.c, identity_phone.c, identity_email.c, identity_name.c, identity_surname.c
-- Page: doc/identity_normalize.md  Tests: test/sql/identity_normalize.sql, test/pgtap/identity_normalize.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.normalize_phone(phone text, country_code text DEFAULT '86') RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_normalize_phone';
COMMENT ON FUNCTION cdp.normalize_phone(text, text) IS 'A telephone number as E.164, for example +8613800138000. phone: as people type it (full-width, blanks, - . ( ), + or 00, 86 without plus, trunk 0). country_code: whose number it is when it has no international prefix, 1 to 3 digits. NULL gives NULL. 22023, without the number in the message: letters, extensions, 400/800 and other service numbers, a mainland number that is neither mobile nor landline with area code, fewer than 7 or more than 15 digits, no country code behind the prefix, or that of a service of no country (800, 808, 979).';

CREATE OR REPLACE FUNCTION cdp.normalize_email(email text, policy text DEFAULT 'keep') RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_normalize_email';
COMMENT ON FUNCTION cdp.normalize_email(text, text) IS 'An e-mail address trimmed, half-width and in lower case. policy: keep, strip_tag (cut +... from the local part), gmail (strip_tag everywhere; at gmail.com and googlemail.com also drop dots and write gmail.com). NULL gives NULL. 22023, without the address in the message: no dot in the domain, no @ or two, inner space, empty part, a label that begins or ends with a hyphen, signs that a bare address does not have, over 254 bytes, unknown policy.';

CREATE OR REPLACE FUNCTION cdp.normalize_name(name text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_normalize_name';
COMMENT ON FUNCTION cdp.normalize_name(text) IS 'A personal name for comparison: NFKC, lower case, one kind of middle dot, no space between Han and single spaces elsewhere, without 先生 女士 小姐 太太 老师 behind it when something remains. Simplified and traditional characters stay as they are. A blank name gives an empty string, NULL gives NULL. 22023: over 10000 bytes; 0A000: the database is not UTF8.';

CREATE OR REPLACE FUNCTION cdp.split_name(name text, OUT surname text, OUT given_name text)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_split_name';
COMMENT ON FUNCTION cdp.split_name(text) IS 'Surname and given name of a name, both normalised as by normalize_name. Han: a compound surname (欧阳, 司马, ...) where a character remains for the given name, else the first character. Elsewhere what stands before a comma, behind the last middle dot, or the last word. A part that is not there is NULL; NULL gives NULL. Errors as normalize_name.';

-- @access
('function', 'normalize_phone', 'EXECUTE', '{public}'),
('function', 'normalize_email', 'EXECUTE', '{public}'),
('function', 'normalize_name', 'EXECUTE', '{public}'),
('function', 'split_name', 'EXECUTE', '{public}'),
