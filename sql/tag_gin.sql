-- tag_gin: an index on tagset columns.
-- C: src/tag_gin.c  Page: doc/tag_gin.md  Tests: test/sql/tag_gin.sql, test/pgtap/tag_gin.sql

-- @code
CREATE OR REPLACE FUNCTION cdp._tagset_gin_extract(tags cdp.tagset, internal) RETURNS internal
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_gin_extract';
COMMENT ON FUNCTION cdp._tagset_gin_extract(cdp.tagset, internal) IS 'internal: GIN support, keys of a tagset';

CREATE OR REPLACE FUNCTION cdp._tagset_gin_extract_query(tags cdp.tagset, internal, int2, internal, internal, internal, internal) RETURNS internal
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_gin_extract_query';
COMMENT ON FUNCTION cdp._tagset_gin_extract_query(cdp.tagset, internal, int2, internal, internal, internal, internal) IS 'internal: GIN support, keys that a query looks for';

CREATE OR REPLACE FUNCTION cdp._tagset_gin_consistent(internal, int2, cdp.tagset, int4, internal, internal, internal) RETURNS "char"
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_gin_consistent';
COMMENT ON FUNCTION cdp._tagset_gin_consistent(internal, int2, cdp.tagset, int4, internal, internal, internal) IS 'internal: GIN support, what the keys found say of a query: true, false or look at the row';

-- @bind
CREATE OPERATOR CLASS cdp.tagset_ops DEFAULT FOR TYPE cdp.tagset USING gin AS
	OPERATOR 1 cdp.@@ (cdp.tagset, cdp.tagquery),
	FUNCTION 2 cdp._tagset_gin_extract(cdp.tagset, internal),
	FUNCTION 3 cdp._tagset_gin_extract_query(cdp.tagset, internal, int2, internal, internal, internal, internal),
	FUNCTION 6 cdp._tagset_gin_consistent(internal, int2, cdp.tagset, int4, internal, internal, internal),
	STORAGE bytea;
COMMENT ON OPERATOR CLASS cdp.tagset_ops USING gin IS 'tags @@ query: names, prefixes and text values come from the index alone; comparisons, negations and entries that expire are looked up in the row';

-- @access

-- @data
