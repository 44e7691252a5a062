-- @code
CREATE OR REPLACE FUNCTION cdp._fingerprint_add(state bigint, amount bigint, id bigint, seed bigint) RETURNS bigint
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fingerprint_add';
COMMENT ON FUNCTION cdp._fingerprint_add(bigint, bigint, bigint, bigint) IS 'internal: next state of cdp._fingerprint()';

CREATE OR REPLACE FUNCTION cdp._fingerprint_combine(a bigint, b bigint) RETURNS bigint
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fingerprint_combine';
COMMENT ON FUNCTION cdp._fingerprint_combine(bigint, bigint) IS 'internal: state of cdp._fingerprint() over both parts of the rows';

CREATE OR REPLACE AGGREGATE cdp._fingerprint(amount bigint, id bigint, seed bigint) (
	SFUNC = cdp._fingerprint_add, STYPE = bigint, INITCOND = '0', COMBINEFUNC = cdp._fingerprint_combine, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp._fingerprint(bigint, bigint, bigint) IS 'internal: a number that is equal for two sets of rows when the sums of amount are equal for each id, and otherwise, but for one chance in 2^61, not; seed: any number, drawn anew each time';
