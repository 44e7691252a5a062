-- value_math: special functions of the customer-value models; nothing of them is public.
-- C: src/value_math.c  Page: doc/value_math.md  Tests: test/sql/value_math.sql

-- @code
CREATE OR REPLACE FUNCTION cdp._value_math(name text, VARIADIC arguments float8[]) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_value_math';
COMMENT ON FUNCTION cdp._value_math(text, float8[]) IS 'internal: a special function of the value models by its name, for tests: log_gamma, digamma, trigamma (x), log_rising (a, n), log_beta (a, b), log_beta_inc (a, b, x), log_add (a, b), log_sum (...), log1mexp (a), legendre (power), jacobi (a, b, nodes, power); outside a domain NaN, an unknown name 22023';
