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
