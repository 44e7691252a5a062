-- tag_estimate: how many rows tags @@ query returns.
-- C: src/tag_estimate.c (also the typanalyze function of sql/tag.sql)  Page: doc/tag_estimate.md  Tests: test/sql/tag_estimate.sql

-- @code
CREATE OR REPLACE FUNCTION cdp._tagset_sel(internal, oid, internal, int4) RETURNS float8
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_sel';
COMMENT ON FUNCTION cdp._tagset_sel(internal, oid, internal, int4) IS 'internal: restriction estimator of tags @@ query; 0.005 where the query is not known when planning';

CREATE OR REPLACE FUNCTION cdp._tagset_joinsel(internal, oid, internal, int2, internal) RETURNS float8
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_joinsel';
COMMENT ON FUNCTION cdp._tagset_joinsel(internal, oid, internal, int2, internal) IS 'internal: join estimator of tags @@ query: 0.005';

-- @access

-- @data
