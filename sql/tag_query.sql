-- tag_query: a question about tags, as one value.
-- C: src/tag_query.c, src/tag_query_make.c, src/tag_query_text.c, src/tag_query_eval.c, src/tag_query_explain.c
-- Page: doc/tag_query.md  Tests: test/sql/tag_query.sql, test/pgtap/tag_query.sql

-- @type
CREATE TYPE cdp.tagquery;
CREATE FUNCTION cdp._tagquery_in(cstring) RETURNS cdp.tagquery
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_in';
CREATE FUNCTION cdp._tagquery_out(cdp.tagquery) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_out';
CREATE FUNCTION cdp._tagquery_recv(internal) RETURNS cdp.tagquery
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_recv';
CREATE FUNCTION cdp._tagquery_send(cdp.tagquery) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_send';
CREATE TYPE cdp.tagquery (INPUT = cdp._tagquery_in, OUTPUT = cdp._tagquery_out,
	RECEIVE = cdp._tagquery_recv, SEND = cdp._tagquery_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = extended);
COMMENT ON TYPE cdp.tagquery IS 'A question about tags, such as region.华东.* & (aov > 1000 | 高价值) & !churned. Terms: name (has the tag), name.* (it or any below), name = value with = != < <= > >=, name in (value, value), segment(name), * (everyone); signs in the order they bind: ! (not), & (and), | (or), parentheses. Values: number, date, text, and dates told from the time of evaluation in UTC: now, now-30d, now+2w, now-3mo, now-1y, now-12h. A term is true or false: false where the tag is missing, has expired or has a value of another kind; ! is the complement. At most 64 KiB of text, 4096 terms, 256 levels. Errors: 22P02 with position and hint, 22003, 54000, 54001. Binary form: a byte 1 and the text.';
COMMENT ON FUNCTION cdp._tagquery_in(cstring) IS 'internal: text form of cdp.tagquery; 22P02 with position and hint, 22003 for numbers, 54000 and 54001 above the limits';
COMMENT ON FUNCTION cdp._tagquery_out(cdp.tagquery) IS 'internal: canonical text form of cdp.tagquery';
COMMENT ON FUNCTION cdp._tagquery_recv(internal) IS 'internal: binary form of cdp.tagquery; 22P03 when it is not one';
COMMENT ON FUNCTION cdp._tagquery_send(cdp.tagquery) IS 'internal: binary form of cdp.tagquery';

-- @code
CREATE OR REPLACE FUNCTION cdp.tagset_matches(tags cdp.tagset, query cdp.tagquery, at timestamptz) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_matches';
COMMENT ON FUNCTION cdp.tagset_matches(cdp.tagset, cdp.tagquery, timestamptz) IS 'Does the query hold for these tags at that time? What tags @@ query answers for cdp.now(), but IMMUTABLE, for generated columns, checks and simulations. An entry is there while at < its valid_until; now in the query is at. NULL when an argument is NULL. Errors: 0A000 when the query asks for a segment.';

CREATE OR REPLACE FUNCTION cdp.tagset_explain(tags cdp.tagset, query cdp.tagquery, at timestamptz)
	RETURNS TABLE (term text, holds boolean, value text, valid_until timestamptz)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 5 AS 'MODULE_PATHNAME', 'cdp_tagset_explain';
COMMENT ON FUNCTION cdp.tagset_explain(cdp.tagset, cdp.tagquery, timestamptz) IS 'Each term of a query in the order of its text: does it hold for these tags at that time, the value that the tag has (of name.* the name of the entry that holds longest), and until when the entry is valid (NULL: for ever, or no such entry). An expired entry is shown with holds = false. holds is NULL for segment(name), which tags cannot answer. No rows when an argument is NULL.';

CREATE OR REPLACE FUNCTION cdp._tagset_query(tags cdp.tagset, query cdp.tagquery) RETURNS boolean
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_query';
COMMENT ON FUNCTION cdp._tagset_query(cdp.tagset, cdp.tagquery) IS 'internal: the operator tagset @@ tagquery';
CREATE OR REPLACE FUNCTION cdp._query_tagset(query cdp.tagquery, tags cdp.tagset) RETURNS boolean
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_query_tagset';
COMMENT ON FUNCTION cdp._query_tagset(cdp.tagquery, cdp.tagset) IS 'internal: the operator tagquery @@ tagset';
CREATE OR REPLACE FUNCTION cdp._tagquery_and(a cdp.tagquery, b cdp.tagquery) RETURNS cdp.tagquery
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_and';
COMMENT ON FUNCTION cdp._tagquery_and(cdp.tagquery, cdp.tagquery) IS 'internal: the operator tagquery & tagquery';
CREATE OR REPLACE FUNCTION cdp._tagquery_or(a cdp.tagquery, b cdp.tagquery) RETURNS cdp.tagquery
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_or';
COMMENT ON FUNCTION cdp._tagquery_or(cdp.tagquery, cdp.tagquery) IS 'internal: the operator tagquery | tagquery';
CREATE OR REPLACE FUNCTION cdp._tagquery_not(query cdp.tagquery) RETURNS cdp.tagquery
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_not';
COMMENT ON FUNCTION cdp._tagquery_not(cdp.tagquery) IS 'internal: the operator ! tagquery';
CREATE OR REPLACE FUNCTION cdp._tagquery_eq(a cdp.tagquery, b cdp.tagquery) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_eq';
COMMENT ON FUNCTION cdp._tagquery_eq(cdp.tagquery, cdp.tagquery) IS 'internal: the operator tagquery = tagquery';
CREATE OR REPLACE FUNCTION cdp._tagquery_ne(a cdp.tagquery, b cdp.tagquery) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_ne';
COMMENT ON FUNCTION cdp._tagquery_ne(cdp.tagquery, cdp.tagquery) IS 'internal: the operator tagquery <> tagquery';
CREATE OR REPLACE FUNCTION cdp._tagquery_hash(query cdp.tagquery) RETURNS int
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_hash';
COMMENT ON FUNCTION cdp._tagquery_hash(cdp.tagquery) IS 'internal: of operator class tagquery_hash_ops';
CREATE OR REPLACE FUNCTION cdp._tagquery_hash_extended(query cdp.tagquery, seed bigint) RETURNS bigint
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_hash_extended';
COMMENT ON FUNCTION cdp._tagquery_hash_extended(cdp.tagquery, bigint) IS 'internal: of operator class tagquery_hash_ops';
CREATE OR REPLACE FUNCTION cdp._tagquery_segments(query cdp.tagquery) RETURNS text[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_segments';
COMMENT ON FUNCTION cdp._tagquery_segments(cdp.tagquery) IS 'internal: the names of the segments that a query asks for, in the order of its text and as often as it does; {} when there are none';

-- @access
('function', 'tagset_matches', 'EXECUTE', '{public}'),
('function', 'tagset_explain', 'EXECUTE', '{public}'),
('function', '_tagset_query', 'EXECUTE', '{public}'),
('function', '_query_tagset', 'EXECUTE', '{public}'),
('function', '_tagquery_and', 'EXECUTE', '{public}'),
('function', '_tagquery_or', 'EXECUTE', '{public}'),
('function', '_tagquery_not', 'EXECUTE', '{public}'),
('function', '_tagquery_eq', 'EXECUTE', '{public}'),
('function', '_tagquery_ne', 'EXECUTE', '{public}'),

-- @bind
CREATE OPERATOR cdp.@@ (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagset_query, COMMUTATOR = OPERATOR(cdp.@@),
	RESTRICT = cdp._tagset_sel, JOIN = cdp._tagset_joinsel);
COMMENT ON OPERATOR cdp.@@(cdp.tagset, cdp.tagquery) IS 'does the query hold for these tags now (cdp.now())? 0A000 when it asks for a segment';
CREATE OPERATOR cdp.@@ (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagset, FUNCTION = cdp._query_tagset, COMMUTATOR = OPERATOR(cdp.@@),
	RESTRICT = cdp._tagset_sel, JOIN = cdp._tagset_joinsel);
COMMENT ON OPERATOR cdp.@@(cdp.tagquery, cdp.tagset) IS 'does the query hold for these tags now (cdp.now())? 0A000 when it asks for a segment';
CREATE OPERATOR cdp.& (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_and);
COMMENT ON OPERATOR cdp.&(cdp.tagquery, cdp.tagquery) IS 'both hold; 54000, 54001 above the limits of a query';
CREATE OPERATOR cdp.| (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_or);
COMMENT ON OPERATOR cdp.|(cdp.tagquery, cdp.tagquery) IS 'one of them holds, or both; 54000, 54001 above the limits of a query';
CREATE OPERATOR cdp.! (RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_not);
COMMENT ON OPERATOR cdp.!(NONE, cdp.tagquery) IS 'it does not hold; 54000, 54001 above the limits of a query';
CREATE OPERATOR cdp.= (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_eq, COMMUTATOR = OPERATOR(cdp.=),
	NEGATOR = OPERATOR(cdp.<>), RESTRICT = pg_catalog.eqsel, JOIN = pg_catalog.eqjoinsel, HASHES);
COMMENT ON OPERATOR cdp.=(cdp.tagquery, cdp.tagquery) IS 'equal: the same text, not the same meaning (a & b is not b & a)';
CREATE OPERATOR cdp.<> (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_ne, COMMUTATOR = OPERATOR(cdp.<>),
	NEGATOR = OPERATOR(cdp.=), RESTRICT = pg_catalog.neqsel, JOIN = pg_catalog.neqjoinsel);
COMMENT ON OPERATOR cdp.<>(cdp.tagquery, cdp.tagquery) IS 'not equal';
CREATE OPERATOR CLASS cdp.tagquery_hash_ops DEFAULT FOR TYPE cdp.tagquery USING hash AS
	OPERATOR 1 cdp.=, FUNCTION 1 cdp._tagquery_hash(cdp.tagquery), FUNCTION 2 cdp._tagquery_hash_extended(cdp.tagquery, bigint);
