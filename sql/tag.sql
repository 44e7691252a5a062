-- tag: what is known of a customer, as one value.
-- C: src/tag.c, src/tag_io.c, src/tag_scan.c, src/tag_set.c, src/tag_json.c, src/tag_union.c  Page: doc/tag.md  Tests: test/sql/tag.sql, test/pgtap/tag.sql

-- @type
CREATE TYPE cdp.tagset;
CREATE FUNCTION cdp._tagset_in(cstring) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_in';
CREATE FUNCTION cdp._tagset_out(cdp.tagset) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_out';
CREATE FUNCTION cdp._tagset_recv(internal) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_recv';
CREATE FUNCTION cdp._tagset_send(cdp.tagset) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_send';
CREATE FUNCTION cdp._tagset_typanalyze(internal) RETURNS boolean
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_typanalyze';
CREATE TYPE cdp.tagset (INPUT = cdp._tagset_in, OUTPUT = cdp._tagset_out,
	RECEIVE = cdp._tagset_recv, SEND = cdp._tagset_send, ANALYZE = cdp._tagset_typanalyze,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = extended);
COMMENT ON TYPE cdp.tagset IS 'What is known of a customer: entries name, name=value or name=value@valid_until with commas between them, such as vip, region.华东.上海, aov=1280.5, churn_risk=0.83@2026-12-31. A value is a number, a date or a text; levels of a name are parted by dots. Sorted by name, each name once: equal sets are equal bytes.';
COMMENT ON FUNCTION cdp._tagset_in(cstring) IS 'internal: text form of cdp.tagset. Errors: 22P02 with the position, 22003 for a number of more than 15 significant digits or out of range, 54000 above 4096 entries, 255 bytes or 16 levels';
COMMENT ON FUNCTION cdp._tagset_out(cdp.tagset) IS 'internal: canonical text form of cdp.tagset';
COMMENT ON FUNCTION cdp._tagset_recv(internal) IS 'internal: binary form of cdp.tagset; 22P03 when it is damaged';
COMMENT ON FUNCTION cdp._tagset_send(cdp.tagset) IS 'internal: binary form of cdp.tagset, see doc/tag.md';
COMMENT ON FUNCTION cdp._tagset_typanalyze(internal) IS 'internal: what ANALYZE keeps of a tagset column';

-- @code
CREATE OR REPLACE FUNCTION cdp._tagset_eq(a cdp.tagset, b cdp.tagset) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_eq';
COMMENT ON FUNCTION cdp._tagset_eq(cdp.tagset, cdp.tagset) IS 'internal: a = b';
CREATE OR REPLACE FUNCTION cdp._tagset_ne(a cdp.tagset, b cdp.tagset) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_ne';
COMMENT ON FUNCTION cdp._tagset_ne(cdp.tagset, cdp.tagset) IS 'internal: a <> b';
CREATE OR REPLACE FUNCTION cdp._tagset_lt(a cdp.tagset, b cdp.tagset) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_lt';
COMMENT ON FUNCTION cdp._tagset_lt(cdp.tagset, cdp.tagset) IS 'internal: a < b';
CREATE OR REPLACE FUNCTION cdp._tagset_le(a cdp.tagset, b cdp.tagset) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_le';
COMMENT ON FUNCTION cdp._tagset_le(cdp.tagset, cdp.tagset) IS 'internal: a <= b';
CREATE OR REPLACE FUNCTION cdp._tagset_gt(a cdp.tagset, b cdp.tagset) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_gt';
COMMENT ON FUNCTION cdp._tagset_gt(cdp.tagset, cdp.tagset) IS 'internal: a > b';
CREATE OR REPLACE FUNCTION cdp._tagset_ge(a cdp.tagset, b cdp.tagset) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_ge';
COMMENT ON FUNCTION cdp._tagset_ge(cdp.tagset, cdp.tagset) IS 'internal: a >= b';
CREATE OR REPLACE FUNCTION cdp._tagset_cmp(a cdp.tagset, b cdp.tagset) RETURNS int
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_cmp';
COMMENT ON FUNCTION cdp._tagset_cmp(cdp.tagset, cdp.tagset) IS 'internal: order of the btree class: the first entry that differs decides, by its name, value, valid-until';
CREATE OR REPLACE FUNCTION cdp._tagset_hash(tags cdp.tagset) RETURNS int
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_hash';
COMMENT ON FUNCTION cdp._tagset_hash(cdp.tagset) IS 'internal: hash class';
CREATE OR REPLACE FUNCTION cdp._tagset_hash_extended(tags cdp.tagset, seed bigint) RETURNS bigint
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_hash_extended';
COMMENT ON FUNCTION cdp._tagset_hash_extended(cdp.tagset, bigint) IS 'internal: hash class, with a seed';
CREATE OR REPLACE FUNCTION cdp._tagset_add(a cdp.tagset, b cdp.tagset) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_add';
COMMENT ON FUNCTION cdp._tagset_add(cdp.tagset, cdp.tagset) IS 'internal: a + b, entries of both; of a name that is in both, the entry of b. 54000 above 4096 entries';
CREATE OR REPLACE FUNCTION cdp._tagset_remove(tags cdp.tagset, names text[]) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_remove';
COMMENT ON FUNCTION cdp._tagset_remove(cdp.tagset, text[]) IS 'internal: tags - names, without these entries; region.* stands for region and everything below. Names are raw. Errors: 22004 for a NULL among the names, 22023 and 54000 for what is no name';

CREATE OR REPLACE FUNCTION cdp.tagset(names text[]) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_from_names';
COMMENT ON FUNCTION cdp.tagset(text[]) IS 'The set of these tags, without values and for ever. names: raw, that is without the quotes of the text form; repeated ones count once. NULL gives NULL. Errors: 22004 for a NULL among the names, 22023 for an empty level or a level *, 54000 above 255 bytes, 16 levels or 4096 names.';
CREATE OR REPLACE FUNCTION cdp.tag_value(tags cdp.tagset, tag text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tag_value';
COMMENT ON FUNCTION cdp.tag_value(cdp.tagset, text) IS 'The value of a tag as text: a number in its shortest form, a date as 2026-12-31, a text without quotes. tag: its raw name. NULL when the tag is not there or has no value. What stands there is told whether it has expired or not; cdp.tagset_prune() first leaves expired entries out. Errors: 22023 and 54000 for what is no name.';
CREATE OR REPLACE FUNCTION cdp.tag_number(tags cdp.tagset, tag text) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tag_number';
COMMENT ON FUNCTION cdp.tag_number(cdp.tagset, text) IS 'The value of a tag that has a number; NULL when it is not there or has another value. All else as cdp.tag_value().';
CREATE OR REPLACE FUNCTION cdp.tag_date(tags cdp.tagset, tag text) RETURNS date
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tag_date';
COMMENT ON FUNCTION cdp.tag_date(cdp.tagset, text) IS 'The value of a tag that has a date; NULL when it is not there or has another value. All else as cdp.tag_value().';
CREATE OR REPLACE FUNCTION cdp.tag_valid_until(tags cdp.tagset, tag text) RETURNS timestamptz
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tag_valid_until';
COMMENT ON FUNCTION cdp.tag_valid_until(cdp.tagset, text) IS 'The instant from which on a tag counts as not there; NULL when it never expires or is not there. All else as cdp.tag_value().';
CREATE OR REPLACE FUNCTION cdp.tagset_entries(tags cdp.tagset)
	RETURNS TABLE (tag text, value text, value_type text, valid_until timestamptz)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 20 AS 'MODULE_PATHNAME', 'cdp_tagset_entries';
COMMENT ON FUNCTION cdp.tagset_entries(cdp.tagset) IS 'The entries of a set in the order of the bytes of their names, expired ones too: tag (raw name), value (as cdp.tag_value() tells it; NULL without one), value_type (none, number, date or text), valid_until (NULL: for ever). No rows for NULL.';
CREATE OR REPLACE FUNCTION cdp.tagset_prune(tags cdp.tagset, at timestamptz) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_prune';
COMMENT ON FUNCTION cdp.tagset_prune(cdp.tagset, timestamptz) IS 'The set without the entries that have expired: those with valid_until <= at. NULL gives NULL.';
CREATE OR REPLACE FUNCTION cdp.tagset_diff(old cdp.tagset, new cdp.tagset) RETURNS TABLE (tag text, change text)
	LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 5 AS 'MODULE_PATHNAME', 'cdp_tagset_diff';
COMMENT ON FUNCTION cdp.tagset_diff(cdp.tagset, cdp.tagset) IS 'What became of a set: a row per tag (raw name) that is added, removed or changed (another value or another valid-until), in the order of the bytes of the names; NULL is the empty set. No rows when they are equal.';

CREATE OR REPLACE FUNCTION cdp._tagset_union(state cdp.tagset, tags cdp.tagset) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_union_accum';
COMMENT ON FUNCTION cdp._tagset_union(cdp.tagset, cdp.tagset) IS 'internal: a set into the state of cdp.tagset_union, in place; 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._tagset_union_final(state cdp.tagset) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_union_final';
COMMENT ON FUNCTION cdp._tagset_union_final(cdp.tagset) IS 'internal: result of cdp.tagset_union';
CREATE OR REPLACE AGGREGATE cdp.tagset_union(tags cdp.tagset) (
	SFUNC = cdp._tagset_union, STYPE = cdp.tagset, SSPACE = 4096,
	COMBINEFUNC = cdp._tagset_union, FINALFUNC = cdp._tagset_union_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.tagset_union(cdp.tagset) IS 'All entries of all rows: what tags + tags + … is. Of a name that is in several rows the entry of the later row wins, so where they may differ write cdp.tagset_union(tags ORDER BY …). NULLs are skipped; NULL without a row. Errors: 54000 above 4096 entries.';

CREATE OR REPLACE FUNCTION cdp.tagset_to_jsonb(tags cdp.tagset) RETURNS jsonb
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_to_jsonb';
COMMENT ON FUNCTION cdp.tagset_to_jsonb(cdp.tagset) IS 'The set as jsonb, what the cast does: {"vip": null, "aov": {"value": 1280.5, "valid_until": "2026-12-31T00:00:00Z"}, "grade": {"value": "gold"}, "birthday": {"value": "2019-05-01", "type": "date"}}. A tag without value and valid-until is null, a date says its type. NULL gives NULL.';
CREATE OR REPLACE FUNCTION cdp.tagset_from_jsonb(tags jsonb) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_from_jsonb';
COMMENT ON FUNCTION cdp.tagset_from_jsonb(jsonb) IS 'The set that such jsonb tells of, what the cast does: of each key null, a number, a string, or an object with value, type (none, number, date, text) and valid_until, each of which may be missing. Reads what cdp.tagset_to_jsonb() writes exactly. NULL gives NULL. Errors: 22023 for another shape or what is no name, 22003 for a number of more than 15 significant digits or out of range, 54000 above 4096 entries, 255 bytes or 16 levels.';

CREATE OR REPLACE FUNCTION cdp._tagset_keys(tags cdp.tagset) RETURNS TABLE (key bytea, valid_until timestamptz)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 50 AS 'MODULE_PATHNAME', 'cdp_tagset_keys_rows';
COMMENT ON FUNCTION cdp._tagset_keys(cdp.tagset) IS 'internal: the keys of indexes and bitmaps, sorted by bytes: n name; p name for itself and each ancestor; v name, zero byte, text. valid_until: of the entry that holds longest, NULL for ever';

-- @bind
CREATE OPERATOR cdp.= (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_eq,
	COMMUTATOR = OPERATOR(cdp.=), NEGATOR = OPERATOR(cdp.<>), RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES);
CREATE OPERATOR cdp.<> (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_ne,
	COMMUTATOR = OPERATOR(cdp.<>), NEGATOR = OPERATOR(cdp.=), RESTRICT = neqsel, JOIN = neqjoinsel);
CREATE OPERATOR cdp.< (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_lt,
	COMMUTATOR = OPERATOR(cdp.>), NEGATOR = OPERATOR(cdp.>=), RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
CREATE OPERATOR cdp.<= (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_le,
	COMMUTATOR = OPERATOR(cdp.>=), NEGATOR = OPERATOR(cdp.>), RESTRICT = scalarlesel, JOIN = scalarlejoinsel);
CREATE OPERATOR cdp.> (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_gt,
	COMMUTATOR = OPERATOR(cdp.<), NEGATOR = OPERATOR(cdp.<=), RESTRICT = scalargtsel, JOIN = scalargtjoinsel);
CREATE OPERATOR cdp.>= (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_ge,
	COMMUTATOR = OPERATOR(cdp.<=), NEGATOR = OPERATOR(cdp.<), RESTRICT = scalargesel, JOIN = scalargejoinsel);
CREATE OPERATOR cdp.+ (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_add);
CREATE OPERATOR cdp.- (LEFTARG = cdp.tagset, RIGHTARG = text[], FUNCTION = cdp._tagset_remove);
COMMENT ON OPERATOR cdp.= (cdp.tagset, cdp.tagset) IS 'the same entries';
COMMENT ON OPERATOR cdp.<> (cdp.tagset, cdp.tagset) IS 'not the same entries';
COMMENT ON OPERATOR cdp.< (cdp.tagset, cdp.tagset) IS 'comes before, in the order of the btree class';
COMMENT ON OPERATOR cdp.<= (cdp.tagset, cdp.tagset) IS 'equal or before, in the order of the btree class';
COMMENT ON OPERATOR cdp.> (cdp.tagset, cdp.tagset) IS 'comes behind, in the order of the btree class';
COMMENT ON OPERATOR cdp.>= (cdp.tagset, cdp.tagset) IS 'equal or behind, in the order of the btree class';
COMMENT ON OPERATOR cdp.+ (cdp.tagset, cdp.tagset) IS 'entries of both; of a name that is in both, the entry of the right one';
COMMENT ON OPERATOR cdp.- (cdp.tagset, text[]) IS 'without these names (raw); region.* stands for region and everything below';
CREATE OPERATOR CLASS cdp.tagset_btree_ops DEFAULT FOR TYPE cdp.tagset USING btree AS
	OPERATOR 1 cdp.<, OPERATOR 2 cdp.<=, OPERATOR 3 cdp.=, OPERATOR 4 cdp.>=, OPERATOR 5 cdp.>,
	FUNCTION 1 cdp._tagset_cmp(cdp.tagset, cdp.tagset);
CREATE OPERATOR CLASS cdp.tagset_hash_ops DEFAULT FOR TYPE cdp.tagset USING hash AS
	OPERATOR 1 cdp.=, FUNCTION 1 cdp._tagset_hash(cdp.tagset), FUNCTION 2 cdp._tagset_hash_extended(cdp.tagset, bigint);
CREATE CAST (cdp.tagset AS jsonb) WITH FUNCTION cdp.tagset_to_jsonb(cdp.tagset);
CREATE CAST (jsonb AS cdp.tagset) WITH FUNCTION cdp.tagset_from_jsonb(jsonb);

-- @access
('function', 'tagset', 'EXECUTE', '{public}'),
('function', 'tag_value', 'EXECUTE', '{public}'),
('function', 'tag_number', 'EXECUTE', '{public}'),
('function', 'tag_date', 'EXECUTE', '{public}'),
('function', 'tag_valid_until', 'EXECUTE', '{public}'),
('function', 'tagset_entries', 'EXECUTE', '{public}'),
('function', 'tagset_prune', 'EXECUTE', '{public}'),
('function', 'tagset_diff', 'EXECUTE', '{public}'),
('function', 'tagset_union', 'EXECUTE', '{public}'),
('function', 'tagset_to_jsonb', 'EXECUTE', '{public}'),
('function', 'tagset_from_jsonb', 'EXECUTE', '{public}'),
('function', '_tagset_eq', 'EXECUTE', '{public}'),
('function', '_tagset_ne', 'EXECUTE', '{public}'),
('function', '_tagset_lt', 'EXECUTE', '{public}'),
('function', '_tagset_le', 'EXECUTE', '{public}'),
('function', '_tagset_gt', 'EXECUTE', '{public}'),
('function', '_tagset_ge', 'EXECUTE', '{public}'),
('function', '_tagset_add', 'EXECUTE', '{public}'),
('function', '_tagset_remove', 'EXECUTE', '{public}'),
