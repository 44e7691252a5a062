-- value_logistic: logistic regression as an aggregate.
-- C: src/value_logistic.c, src/value_logistic_*.c  Page: doc/value_logistic.md  Tests: test/sql/value_logistic.sql, test/pgtap/value_logistic.sql

-- @type
CREATE TYPE cdp.logistic_model AS (coefficients float8[], se float8[], log_likelihood float8, null_log_likelihood float8,
	customers float8, positives float8, iterations int, converged boolean, separated boolean, reason text, auc float8);
COMMENT ON TYPE cdp.logistic_model IS 'A logistic regression, ln(p / (1 - p)) = intercept + sum of coefficient * feature: what cdp.fit_logistic answers and cdp.predict_logistic reads.';
COMMENT ON COLUMN cdp.logistic_model.coefficients IS 'the intercept first, then one per feature, in units of the features as they were given; 0 for a feature that tells nothing the others do not tell';
COMMENT ON COLUMN cdp.logistic_model.se IS 'standard errors in the order of coefficients, from the information matrix at the optimum; NULL for a feature that was left out';
COMMENT ON COLUMN cdp.logistic_model.log_likelihood IS 'at the coefficients, without the ridge';
COMMENT ON COLUMN cdp.logistic_model.null_log_likelihood IS 'of the model that has nothing but an intercept';
COMMENT ON COLUMN cdp.logistic_model.customers IS 'rows that counted, or the sum of their weights';
COMMENT ON COLUMN cdp.logistic_model.positives IS 'those among them with y true';
COMMENT ON COLUMN cdp.logistic_model.iterations IS 'steps of the fit';
COMMENT ON COLUMN cdp.logistic_model.converged IS 'is this the optimum';
COMMENT ON COLUMN cdp.logistic_model.separated IS 'true when a combination of features parts true from false (or all outcomes are equal): then there is no optimum, coefficients grow without end and were stopped; a ridge helps';
COMMENT ON COLUMN cdp.logistic_model.reason IS 'ok, or what is the matter';
COMMENT ON COLUMN cdp.logistic_model.auc IS 'probability that a row with y true has a higher prediction than one with y false, ties counted half; on the rows of the fit; NULL when all outcomes are equal';

CREATE TYPE cdp.logistic_state;
CREATE FUNCTION cdp._logistic_state_in(cstring) RETURNS cdp.logistic_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_logistic_state_in';
CREATE FUNCTION cdp._logistic_state_out(cdp.logistic_state) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_logistic_state_out';
CREATE FUNCTION cdp._logistic_state_recv(internal) RETURNS cdp.logistic_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_logistic_state_recv';
CREATE FUNCTION cdp._logistic_state_send(cdp.logistic_state) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_logistic_state_send';
CREATE TYPE cdp.logistic_state (INPUT = cdp._logistic_state_in, OUTPUT = cdp._logistic_state_out,
	RECEIVE = cdp._logistic_state_recv, SEND = cdp._logistic_state_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = extended);
COMMENT ON TYPE cdp.logistic_state IS 'State of the aggregate cdp.fit_logistic: its rows, written (features,ridge)(weight,feature,...)... with a negative weight when y is false; () is the state before the first row. 22P02 for malformed text; below 1 GB.';
COMMENT ON FUNCTION cdp._logistic_state_in(cstring) IS 'internal: text form of cdp.logistic_state; 22P02 when it is not a sound state';
COMMENT ON FUNCTION cdp._logistic_state_out(cdp.logistic_state) IS 'internal: text form of cdp.logistic_state';
COMMENT ON FUNCTION cdp._logistic_state_recv(internal) IS 'internal: binary form of cdp.logistic_state; 22P03 when it is not a sound state';
COMMENT ON FUNCTION cdp._logistic_state_send(cdp.logistic_state) IS 'internal: binary form of cdp.logistic_state';

-- @code
CREATE OR REPLACE FUNCTION cdp._logistic_accum(state cdp.logistic_state, y boolean, features float8[]) RETURNS cdp.logistic_state
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_logistic_accum';
COMMENT ON FUNCTION cdp._logistic_accum(cdp.logistic_state, boolean, float8[]) IS 'internal: one row into the state, in place; 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._logistic_accum(state cdp.logistic_state, y boolean, features float8[], ridge float8, weight float8) RETURNS cdp.logistic_state
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_logistic_accum_weighted';
COMMENT ON FUNCTION cdp._logistic_accum(cdp.logistic_state, boolean, float8[], float8, float8) IS 'internal: one row with its weight into the state, in place; 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._logistic_combine(a cdp.logistic_state, b cdp.logistic_state) RETURNS cdp.logistic_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_logistic_combine';
COMMENT ON FUNCTION cdp._logistic_combine(cdp.logistic_state, cdp.logistic_state) IS 'internal: the rows of b into a, in place; 22023 when their features or ridge differ, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._logistic_final(state cdp.logistic_state) RETURNS cdp.logistic_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'cdp_logistic_final';
COMMENT ON FUNCTION cdp._logistic_final(cdp.logistic_state) IS 'internal: the fit over the rows of a state; NULL without a row';

CREATE OR REPLACE AGGREGATE cdp.fit_logistic(y boolean, features float8[]) (
	SFUNC = cdp._logistic_accum, STYPE = cdp.logistic_state, SSPACE = 65536, INITCOND = '()',
	COMBINEFUNC = cdp._logistic_combine, FINALFUNC = cdp._logistic_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_logistic(boolean, float8[]) IS 'Logistic regression by maximum likelihood: ln(p / (1 - p)) = intercept + sum of coefficient * feature, where p is the probability that y is true; Newton''s method on standardised features (McCullagh and Nelder 1989). y: outcome; features: up to 200 numbers, in any units, the same in every row. Answers a cdp.logistic_model whose text is the same whatever the order of the rows and the plan. A row with a NULL y, array or element is skipped; NULL without a row. Data that cannot be fitted are flagged: separated, converged and reason; a feature that is constant or a combination of others is left out. Errors: 22023 for NaN or infinite features, arrays of different length, of two dimensions, of more than 200; 54000 beyond 1 GB of rows.';
CREATE OR REPLACE AGGREGATE cdp.fit_logistic(y boolean, features float8[], ridge float8, weight float8) (
	SFUNC = cdp._logistic_accum, STYPE = cdp.logistic_state, SSPACE = 65536, INITCOND = '()',
	COMBINEFUNC = cdp._logistic_combine, FINALFUNC = cdp._logistic_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_logistic(boolean, float8[], float8, float8) IS 'As cdp.fit_logistic(y, features), with a penalty and weights. ridge: ridge / 2 times the sum of squares of the coefficients of the standardised features, the intercept not among them, is taken off the log likelihood (le Cessie and van Houwelingen 1992); the same in all rows, NULL and 0 are none; it makes separated data finite, and standard errors are then those of the penalised information. weight: how many customers are such a row; NULL and 0: the row is skipped. Errors: besides those, 22023 for a ridge below 0, above 1e15, NaN or not the same in all rows, and for a weight below 0, NaN, above 1e15, or above 0 and below 1e-9.';

CREATE OR REPLACE FUNCTION cdp.logistic_model(coefficients float8[]) RETURNS cdp.logistic_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_logistic_model_make';
COMMENT ON FUNCTION cdp.logistic_model(float8[]) IS 'A model of known coefficients, the intercept first; all other fields are NULL. NULL for NULL. Errors: 22023 for an array that is empty, of two dimensions, of more than 201 elements, or has a NULL, NaN or infinite element.';
CREATE OR REPLACE FUNCTION cdp.predict_logistic(model cdp.logistic_model, features float8[]) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'cdp_predict_logistic';
COMMENT ON FUNCTION cdp.predict_logistic(cdp.logistic_model, float8[]) IS 'Probability that y is true, from 0 to 1: 1 / (1 + exp(-(intercept + sum of coefficient * feature))). features: those of the fit, in the same units and order. NULL when the model, the array or an element is NULL. Errors: 22023 for another number of features than the model has, two dimensions, NaN or infinite elements, and for a model without sound coefficients; 22003 when the sum is out of range.';

-- @access
('function', 'fit_logistic', 'EXECUTE', '{public}'),
('function', 'logistic_model', 'EXECUTE', '{public}'),
('function', 'predict_logistic', 'EXECUTE', '{public}'),
