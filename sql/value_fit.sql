-- value_fit: aggregates that fit the models of purchases, money and renewals.
-- C: src/value_fit.c, src/value_fit_state.c, src/value_fit_rows.c, src/value_fit_optimize.c, src/value_fit_geometric.c,
--    src/value_fit_pareto.c, src/value_fit_other.c
-- Page: doc/value_fit.md  Tests: test/sql/value_fit.sql, test/sql/value_published.sql, test/pgtap/value_fit.sql

-- @type
CREATE TYPE cdp.fit_state;
CREATE FUNCTION cdp._fit_state_in(cstring) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_state_in';
CREATE FUNCTION cdp._fit_state_out(cdp.fit_state) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_state_out';
CREATE FUNCTION cdp._fit_state_recv(internal) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_state_recv';
CREATE FUNCTION cdp._fit_state_send(cdp.fit_state) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_state_send';
CREATE TYPE cdp.fit_state (INPUT = cdp._fit_state_in, OUTPUT = cdp._fit_state_out,
	RECEIVE = cdp._fit_state_recv, SEND = cdp._fit_state_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = extended);
COMMENT ON TYPE cdp.fit_state IS 'State of all fit aggregates: distinct rows and how many customers have each, written (x,t_x,t_cal:customers;...) in ascending order; () is the state before the first row. States of one model combine exactly.';
COMMENT ON FUNCTION cdp._fit_state_in(cstring) IS 'internal: text form of cdp.fit_state; 22P02 when it is not a sound state';
COMMENT ON FUNCTION cdp._fit_state_out(cdp.fit_state) IS 'internal: text form of cdp.fit_state';
COMMENT ON FUNCTION cdp._fit_state_recv(internal) IS 'internal: binary form of cdp.fit_state; 22P03 when it is not a sound state';
COMMENT ON FUNCTION cdp._fit_state_send(cdp.fit_state) IS 'internal: binary form of cdp.fit_state';

-- @code
CREATE OR REPLACE FUNCTION cdp._fit_combine(a cdp.fit_state, b cdp.fit_state) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_combine';
COMMENT ON FUNCTION cdp._fit_combine(cdp.fit_state, cdp.fit_state) IS 'internal: the rows of b into a, in place; 22023 for states of different fits, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._fit_add_transactions(state cdp.fit_state, x float8, t_x float8, t_cal float8) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_add_transactions';
COMMENT ON FUNCTION cdp._fit_add_transactions(cdp.fit_state, float8, float8, float8) IS 'internal: one row into the state, in place; 22023 for data that break a rule, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._fit_add_transactions(state cdp.fit_state, x float8, t_x float8, t_cal float8, weight float8) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_add_transactions';
COMMENT ON FUNCTION cdp._fit_add_transactions(cdp.fit_state, float8, float8, float8, float8) IS 'internal: one row into the state, in place; 22023 for data that break a rule, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._fit_add_counts(state cdp.fit_state, x float8, t_cal float8) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_add_counts';
COMMENT ON FUNCTION cdp._fit_add_counts(cdp.fit_state, float8, float8) IS 'internal: one row into the state, in place; 22023 for data that break a rule, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._fit_add_counts(state cdp.fit_state, x float8, t_cal float8, weight float8) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_add_counts';
COMMENT ON FUNCTION cdp._fit_add_counts(cdp.fit_state, float8, float8, float8) IS 'internal: one row into the state, in place; 22023 for data that break a rule, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._fit_add_gaps(state cdp.fit_state, x float8, t_x float8, t_cal float8, log_gaps float8) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_add_gaps';
COMMENT ON FUNCTION cdp._fit_add_gaps(cdp.fit_state, float8, float8, float8, float8) IS 'internal: one row into the state, in place; 22023 for data that break a rule, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._fit_add_gaps(state cdp.fit_state, x float8, t_x float8, t_cal float8, log_gaps float8, weight float8) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_add_gaps';
COMMENT ON FUNCTION cdp._fit_add_gaps(cdp.fit_state, float8, float8, float8, float8, float8) IS 'internal: one row into the state, in place; 22023 for data that break a rule, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._fit_add_amount(state cdp.fit_state, x float8, mean_amount float8) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_add_amount';
COMMENT ON FUNCTION cdp._fit_add_amount(cdp.fit_state, float8, float8) IS 'internal: one row into the state, in place; 22023 for data that break a rule, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._fit_add_amount(state cdp.fit_state, x float8, mean_amount float8, weight float8) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_add_amount';
COMMENT ON FUNCTION cdp._fit_add_amount(cdp.fit_state, float8, float8, float8) IS 'internal: one row into the state, in place; 22023 for data that break a rule, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._fit_add_occasions(state cdp.fit_state, x float8, t_x float8, n float8) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_add_occasions';
COMMENT ON FUNCTION cdp._fit_add_occasions(cdp.fit_state, float8, float8, float8) IS 'internal: one row into the state, in place; 22023 for data that break a rule, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._fit_add_occasions(state cdp.fit_state, x float8, t_x float8, n float8, weight float8) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_add_occasions';
COMMENT ON FUNCTION cdp._fit_add_occasions(cdp.fit_state, float8, float8, float8, float8) IS 'internal: one row into the state, in place; 22023 for data that break a rule, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._fit_add_period(state cdp.fit_state, period int, churned boolean) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_add_period';
COMMENT ON FUNCTION cdp._fit_add_period(cdp.fit_state, int, boolean) IS 'internal: one row into the state, in place; 22023 for data that break a rule, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._fit_add_period(state cdp.fit_state, period int, churned boolean, weight float8) RETURNS cdp.fit_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fit_add_period';
COMMENT ON FUNCTION cdp._fit_add_period(cdp.fit_state, int, boolean, float8) IS 'internal: one row into the state, in place; 22023 for data that break a rule, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._fit_bgnbd(state cdp.fit_state) RETURNS cdp.bgnbd_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000 AS 'MODULE_PATHNAME', 'cdp_fit_bgnbd';
COMMENT ON FUNCTION cdp._fit_bgnbd(cdp.fit_state) IS 'internal: result of cdp.fit_bgnbd; NULL for a state without rows, 22023 for a state of another fit';
CREATE OR REPLACE FUNCTION cdp._fit_mbgnbd(state cdp.fit_state) RETURNS cdp.mbgnbd_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000 AS 'MODULE_PATHNAME', 'cdp_fit_mbgnbd';
COMMENT ON FUNCTION cdp._fit_mbgnbd(cdp.fit_state) IS 'internal: result of cdp.fit_mbgnbd; NULL for a state without rows, 22023 for a state of another fit';
CREATE OR REPLACE FUNCTION cdp._fit_paretonbd(state cdp.fit_state) RETURNS cdp.paretonbd_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000 AS 'MODULE_PATHNAME', 'cdp_fit_paretonbd';
COMMENT ON FUNCTION cdp._fit_paretonbd(cdp.fit_state) IS 'internal: result of cdp.fit_paretonbd; NULL for a state without rows, 22023 for a state of another fit';
CREATE OR REPLACE FUNCTION cdp._fit_nbd(state cdp.fit_state) RETURNS cdp.nbd_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000 AS 'MODULE_PATHNAME', 'cdp_fit_nbd';
COMMENT ON FUNCTION cdp._fit_nbd(cdp.fit_state) IS 'internal: result of cdp.fit_nbd; NULL for a state without rows, 22023 for a state of another fit';
CREATE OR REPLACE FUNCTION cdp._fit_mbgcnbd(state cdp.fit_state) RETURNS cdp.mbgcnbd_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000 AS 'MODULE_PATHNAME', 'cdp_fit_mbgcnbd';
COMMENT ON FUNCTION cdp._fit_mbgcnbd(cdp.fit_state) IS 'internal: result of cdp.fit_mbgcnbd; NULL for a state without rows, 22023 for a state of another fit';
CREATE OR REPLACE FUNCTION cdp._fit_gammagamma(state cdp.fit_state) RETURNS cdp.gammagamma_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000 AS 'MODULE_PATHNAME', 'cdp_fit_gammagamma';
COMMENT ON FUNCTION cdp._fit_gammagamma(cdp.fit_state) IS 'internal: result of cdp.fit_gammagamma; NULL for a state without rows, 22023 for a state of another fit';
CREATE OR REPLACE FUNCTION cdp._fit_bgbb(state cdp.fit_state) RETURNS cdp.bgbb_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000 AS 'MODULE_PATHNAME', 'cdp_fit_bgbb';
COMMENT ON FUNCTION cdp._fit_bgbb(cdp.fit_state) IS 'internal: result of cdp.fit_bgbb; NULL for a state without rows, 22023 for a state of another fit';
CREATE OR REPLACE FUNCTION cdp._fit_sbg(state cdp.fit_state) RETURNS cdp.sbg_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000 AS 'MODULE_PATHNAME', 'cdp_fit_sbg';
COMMENT ON FUNCTION cdp._fit_sbg(cdp.fit_state) IS 'internal: result of cdp.fit_sbg; NULL for a state without rows, 22023 for a state of another fit';

CREATE OR REPLACE AGGREGATE cdp.fit_bgnbd(x float8, t_x float8, t_cal float8) (
	SFUNC = cdp._fit_add_transactions, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_bgnbd, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_bgnbd(float8, float8, float8) IS 'Fits BG/NBD (Fader, Hardie, Lee 2005: a customer may leave after a repeat purchase), by maximum likelihood. x: repeat purchases, t_x: time of the last one, t_cal: time observed, both from the first purchase and in any unit (cdp.btyd gives them). The answer is the same for any order of the rows and any plan. Data that cannot be fitted are no error: converged, boundary and reason tell, parameters are never NaN, se and covariance are NULL at a boundary. A row with a NULL is skipped; NULL without rows. Errors: 22023 for NaN or infinite values, x negative or fractional, t_x < 0, t_x > t_cal, x = 0 with t_x > 0.';
CREATE OR REPLACE AGGREGATE cdp.fit_bgnbd(x float8, t_x float8, t_cal float8, weight float8) (
	SFUNC = cdp._fit_add_transactions, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_bgnbd, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_bgnbd(float8, float8, float8, float8) IS 'As cdp.fit_bgnbd of rows that stand for weight customers each: the same, to the last bit, as each row given weight times. A weight of 0 is as no row. Errors: also 22023 for a weight that is NaN, below 0 or above 10^15.';
CREATE OR REPLACE AGGREGATE cdp.fit_mbgnbd(x float8, t_x float8, t_cal float8) (
	SFUNC = cdp._fit_add_transactions, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_mbgnbd, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_mbgnbd(float8, float8, float8) IS 'Fits MBG/NBD (Batislam, Denizel, Filiztekin 2007: a customer may leave after any purchase, the first one too), by maximum likelihood. x: repeat purchases, t_x: time of the last one, t_cal: time observed, both from the first purchase and in any unit (cdp.btyd gives them). The answer is the same for any order of the rows and any plan. Data that cannot be fitted are no error: converged, boundary and reason tell, parameters are never NaN, se and covariance are NULL at a boundary. A row with a NULL is skipped; NULL without rows. Errors: 22023 for NaN or infinite values, x negative or fractional, t_x < 0, t_x > t_cal, x = 0 with t_x > 0.';
CREATE OR REPLACE AGGREGATE cdp.fit_mbgnbd(x float8, t_x float8, t_cal float8, weight float8) (
	SFUNC = cdp._fit_add_transactions, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_mbgnbd, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_mbgnbd(float8, float8, float8, float8) IS 'As cdp.fit_mbgnbd of rows that stand for weight customers each: the same, to the last bit, as each row given weight times. A weight of 0 is as no row. Errors: also 22023 for a weight that is NaN, below 0 or above 10^15.';
CREATE OR REPLACE AGGREGATE cdp.fit_paretonbd(x float8, t_x float8, t_cal float8) (
	SFUNC = cdp._fit_add_transactions, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_paretonbd, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_paretonbd(float8, float8, float8) IS 'Fits Pareto/NBD (Schmittlein, Morrison, Colombo 1987: a customer may leave at any time), by maximum likelihood. x: repeat purchases, t_x: time of the last one, t_cal: time observed, both from the first purchase and in any unit (cdp.btyd gives them). The answer is the same for any order of the rows and any plan. Data that cannot be fitted are no error: converged, boundary and reason tell, parameters are never NaN, se and covariance are NULL at a boundary. A row with a NULL is skipped; NULL without rows. Errors: 22023 for NaN or infinite values, x negative or fractional, t_x < 0, t_x > t_cal, x = 0 with t_x > 0.';
CREATE OR REPLACE AGGREGATE cdp.fit_paretonbd(x float8, t_x float8, t_cal float8, weight float8) (
	SFUNC = cdp._fit_add_transactions, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_paretonbd, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_paretonbd(float8, float8, float8, float8) IS 'As cdp.fit_paretonbd of rows that stand for weight customers each: the same, to the last bit, as each row given weight times. A weight of 0 is as no row. Errors: also 22023 for a weight that is NaN, below 0 or above 10^15.';
CREATE OR REPLACE AGGREGATE cdp.fit_nbd(x float8, t_cal float8) (
	SFUNC = cdp._fit_add_counts, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_nbd, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_nbd(float8, float8) IS 'Fits NBD (Ehrenberg 1959: nobody leaves; log_likelihood is a density of times, comparable with the other models), by maximum likelihood. x: repeat purchases, t_cal: time observed since the first purchase, in any unit. The answer is the same for any order of the rows and any plan. Data that cannot be fitted are no error: converged, boundary and reason tell, parameters are never NaN, se and covariance are NULL at a boundary. A row with a NULL is skipped; NULL without rows. Errors: 22023 for NaN or infinite values, x negative or fractional, t_cal < 0.';
CREATE OR REPLACE AGGREGATE cdp.fit_nbd(x float8, t_cal float8, weight float8) (
	SFUNC = cdp._fit_add_counts, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_nbd, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_nbd(float8, float8, float8) IS 'As cdp.fit_nbd of rows that stand for weight customers each: the same, to the last bit, as each row given weight times. A weight of 0 is as no row. Errors: also 22023 for a weight that is NaN, below 0 or above 10^15.';
CREATE OR REPLACE AGGREGATE cdp.fit_mbgcnbd(x float8, t_x float8, t_cal float8, log_gaps float8) (
	SFUNC = cdp._fit_add_gaps, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_mbgcnbd, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_mbgcnbd(float8, float8, float8, float8) IS 'Fits MBG/CNBD-k (Platzer, Reutterer 2016: as MBG/NBD, with gaps that are the more regular the larger k is) for each k from 1 to 8 and answers the best; log_gaps is the sum of ln of the x gaps, 0 where x = 0, by maximum likelihood. x, t_x, t_cal as for cdp.fit_mbgnbd. The answer is the same for any order of the rows and any plan. Data that cannot be fitted are no error: converged, boundary and reason tell, parameters are never NaN, se and covariance are NULL at a boundary. A row with a NULL is skipped; NULL without rows. Errors: 22023 for what cdp.fit_mbgnbd refuses, log_gaps NaN or infinite, not 0 where x = 0.';
CREATE OR REPLACE AGGREGATE cdp.fit_mbgcnbd(x float8, t_x float8, t_cal float8, log_gaps float8, weight float8) (
	SFUNC = cdp._fit_add_gaps, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_mbgcnbd, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_mbgcnbd(float8, float8, float8, float8, float8) IS 'As cdp.fit_mbgcnbd of rows that stand for weight customers each: the same, to the last bit, as each row given weight times. A weight of 0 is as no row. Errors: also 22023 for a weight that is NaN, below 0 or above 10^15.';
CREATE OR REPLACE AGGREGATE cdp.fit_gammagamma(x float8, mean_amount float8) (
	SFUNC = cdp._fit_add_amount, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_gammagamma, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_gammagamma(float8, float8) IS 'Fits the Gamma-Gamma model of money per purchase (Fader, Hardie 2013), with q > 1, to the customers with x > 0 and mean_amount > 0; customers counts those, by maximum likelihood. X: repeat purchases, mean_amount: the mean of their amounts, in any currency. The answer is the same for any order of the rows and any plan. Data that cannot be fitted are no error: converged, boundary and reason tell, parameters are never NaN, se and covariance are NULL at a boundary. A row with a NULL is skipped; NULL without rows. Errors: 22023 for NaN or infinite values, x negative or fractional, mean_amount < 0.';
CREATE OR REPLACE AGGREGATE cdp.fit_gammagamma(x float8, mean_amount float8, weight float8) (
	SFUNC = cdp._fit_add_amount, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_gammagamma, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_gammagamma(float8, float8, float8) IS 'As cdp.fit_gammagamma of rows that stand for weight customers each: the same, to the last bit, as each row given weight times. A weight of 0 is as no row. Errors: also 22023 for a weight that is NaN, below 0 or above 10^15.';
CREATE OR REPLACE AGGREGATE cdp.fit_bgbb(x float8, t_x float8, n float8) (
	SFUNC = cdp._fit_add_occasions, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_bgbb, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_bgbb(float8, float8, float8) IS 'Fits BG/BB (Fader, Hardie, Shang 2010): x purchases in n occasions, the last at occasion t_x; a customer may leave before an occasion, by maximum likelihood. All whole numbers. The answer is the same for any order of the rows and any plan. Data that cannot be fitted are no error: converged, boundary and reason tell, parameters are never NaN, se and covariance are NULL at a boundary. A row with a NULL is skipped; NULL without rows. Errors: 22023 for values that are no whole numbers from 0, x > t_x, t_x > n, x = 0 with t_x > 0, n above 10^6.';
CREATE OR REPLACE AGGREGATE cdp.fit_bgbb(x float8, t_x float8, n float8, weight float8) (
	SFUNC = cdp._fit_add_occasions, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_bgbb, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_bgbb(float8, float8, float8, float8) IS 'As cdp.fit_bgbb of rows that stand for weight customers each: the same, to the last bit, as each row given weight times. A weight of 0 is as no row. Errors: also 22023 for a weight that is NaN, below 0 or above 10^15.';
CREATE OR REPLACE AGGREGATE cdp.fit_sbg(period int, churned boolean) (
	SFUNC = cdp._fit_add_period, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_sbg, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_sbg(int, boolean) IS 'Fits sBG (Fader, Hardie 2007) to contracts: a row is a customer who left at the end of that period (1, 2, ...), or with churned = false one who is still there after it, by maximum likelihood. The answer is the same for any order of the rows and any plan. Data that cannot be fitted are no error: converged, boundary and reason tell, parameters are never NaN, se and covariance are NULL at a boundary. A row with a NULL is skipped; NULL without rows. Errors: 22023 for period < 1.';
CREATE OR REPLACE AGGREGATE cdp.fit_sbg(period int, churned boolean, weight float8) (
	SFUNC = cdp._fit_add_period, STYPE = cdp.fit_state, SSPACE = 8192, INITCOND = '()',
	COMBINEFUNC = cdp._fit_combine, FINALFUNC = cdp._fit_sbg, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.fit_sbg(int, boolean, float8) IS 'As cdp.fit_sbg of rows that stand for weight customers each: the same, to the last bit, as each row given weight times. A weight of 0 is as no row. Errors: also 22023 for a weight that is NaN, below 0 or above 10^15.';

-- @access
('function', 'fit_bgnbd', 'EXECUTE', '{public}'),
('function', 'fit_mbgnbd', 'EXECUTE', '{public}'),
('function', 'fit_paretonbd', 'EXECUTE', '{public}'),
('function', 'fit_nbd', 'EXECUTE', '{public}'),
('function', 'fit_mbgcnbd', 'EXECUTE', '{public}'),
('function', 'fit_gammagamma', 'EXECUTE', '{public}'),
('function', 'fit_bgbb', 'EXECUTE', '{public}'),
('function', 'fit_sbg', 'EXECUTE', '{public}'),
