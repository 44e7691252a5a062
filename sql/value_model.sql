-- value_model: the types of fitted models of purchases, money and renewals.
-- C: src/value_model.c, src/value_likelihood.c, src/value_likelihood_pareto.c  Page: doc/value_model.md  Tests: test/sql/value_model.sql, test/sql/value_published.sql

-- @type
CREATE TYPE cdp.bgnbd_model AS (r float8, alpha float8, a float8, b float8,
	log_likelihood float8, customers float8, distinct_rows bigint, evaluations int, converged boolean, boundary boolean, reason text,
	gradient_norm float8, se float8[], covariance float8[]);
COMMENT ON TYPE cdp.bgnbd_model IS 'BG/NBD (Fader, Hardie, Lee 2005) as cdp.fit_bgnbd found it: parameters, then how the fit went; from cdp.bgnbd_model(...) the parameters alone.';
CREATE TYPE cdp.mbgnbd_model AS (r float8, alpha float8, a float8, b float8,
	log_likelihood float8, customers float8, distinct_rows bigint, evaluations int, converged boolean, boundary boolean, reason text,
	gradient_norm float8, se float8[], covariance float8[]);
COMMENT ON TYPE cdp.mbgnbd_model IS 'MBG/NBD (Batislam, Denizel, Filiztekin 2007) as cdp.fit_mbgnbd found it: parameters, then how the fit went; from cdp.mbgnbd_model(...) the parameters alone.';
CREATE TYPE cdp.paretonbd_model AS (r float8, alpha float8, s float8, beta float8,
	log_likelihood float8, customers float8, distinct_rows bigint, evaluations int, converged boolean, boundary boolean, reason text,
	gradient_norm float8, se float8[], covariance float8[]);
COMMENT ON TYPE cdp.paretonbd_model IS 'Pareto/NBD (Schmittlein, Morrison, Colombo 1987) as cdp.fit_paretonbd found it: parameters, then how the fit went; from cdp.paretonbd_model(...) the parameters alone.';
CREATE TYPE cdp.nbd_model AS (r float8, alpha float8,
	log_likelihood float8, customers float8, distinct_rows bigint, evaluations int, converged boolean, boundary boolean, reason text,
	gradient_norm float8, se float8[], covariance float8[]);
COMMENT ON TYPE cdp.nbd_model IS 'NBD (Ehrenberg 1959) as cdp.fit_nbd found it: parameters, then how the fit went; from cdp.nbd_model(...) the parameters alone.';
CREATE TYPE cdp.mbgcnbd_model AS (k int, r float8, alpha float8, a float8, b float8,
	log_likelihood float8, customers float8, distinct_rows bigint, evaluations int, converged boolean, boundary boolean, reason text,
	gradient_norm float8, se float8[], covariance float8[]);
COMMENT ON TYPE cdp.mbgcnbd_model IS 'MBG/CNBD-k (Platzer, Reutterer 2016) as cdp.fit_mbgcnbd found it: parameters, then how the fit went; from cdp.mbgcnbd_model(...) the parameters alone.';
CREATE TYPE cdp.gammagamma_model AS (p float8, q float8, v float8,
	log_likelihood float8, customers float8, distinct_rows bigint, evaluations int, converged boolean, boundary boolean, reason text,
	gradient_norm float8, se float8[], covariance float8[]);
COMMENT ON TYPE cdp.gammagamma_model IS 'Gamma-Gamma model of money per purchase (Fader, Hardie 2013) as cdp.fit_gammagamma found it: parameters, then how the fit went; from cdp.gammagamma_model(...) the parameters alone.';
CREATE TYPE cdp.bgbb_model AS (alpha float8, beta float8, gamma float8, delta float8,
	log_likelihood float8, customers float8, distinct_rows bigint, evaluations int, converged boolean, boundary boolean, reason text,
	gradient_norm float8, se float8[], covariance float8[]);
COMMENT ON TYPE cdp.bgbb_model IS 'BG/BB, purchases in discrete time (Fader, Hardie, Shang 2010) as cdp.fit_bgbb found it: parameters, then how the fit went; from cdp.bgbb_model(...) the parameters alone.';
CREATE TYPE cdp.sbg_model AS (alpha float8, beta float8,
	log_likelihood float8, customers float8, distinct_rows bigint, evaluations int, converged boolean, boundary boolean, reason text,
	gradient_norm float8, se float8[], covariance float8[]);
COMMENT ON TYPE cdp.sbg_model IS 'shifted-beta-geometric model of renewals (Fader, Hardie 2007) as cdp.fit_sbg found it: parameters, then how the fit went; from cdp.sbg_model(...) the parameters alone.';

-- @code
CREATE OR REPLACE FUNCTION cdp.bgnbd_model(r float8, alpha float8, a float8, b float8) RETURNS cdp.bgnbd_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_model_make';
COMMENT ON FUNCTION cdp.bgnbd_model(float8, float8, float8, float8) IS 'A BG/NBD model (Fader, Hardie, Lee 2005) of its parameters alone, all other columns NULL. r, alpha: shape and rate of the purchase rates (alpha in time units); a, b: beta distribution of the probability to leave after a repeat purchase. NULL when one is NULL. Errors: 22023 for one that is NaN, infinite or not above 0.';
CREATE OR REPLACE FUNCTION cdp.mbgnbd_model(r float8, alpha float8, a float8, b float8) RETURNS cdp.mbgnbd_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_model_make';
COMMENT ON FUNCTION cdp.mbgnbd_model(float8, float8, float8, float8) IS 'A MBG/NBD model (Batislam, Denizel, Filiztekin 2007) of its parameters alone, all other columns NULL. r, alpha: shape and rate of the purchase rates (alpha in time units); a, b: beta distribution of the probability to leave after a purchase, the first one too. NULL when one is NULL. Errors: 22023 for one that is NaN, infinite or not above 0.';
CREATE OR REPLACE FUNCTION cdp.paretonbd_model(r float8, alpha float8, s float8, beta float8) RETURNS cdp.paretonbd_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_model_make';
COMMENT ON FUNCTION cdp.paretonbd_model(float8, float8, float8, float8) IS 'A Pareto/NBD model (Schmittlein, Morrison, Colombo 1987) of its parameters alone, all other columns NULL. r, alpha: shape and rate of the purchase rates; s, beta: shape and rate of the rates of leaving (alpha and beta in time units). NULL when one is NULL. Errors: 22023 for one that is NaN, infinite or not above 0.';
CREATE OR REPLACE FUNCTION cdp.nbd_model(r float8, alpha float8) RETURNS cdp.nbd_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_model_make';
COMMENT ON FUNCTION cdp.nbd_model(float8, float8) IS 'A NBD model (Ehrenberg 1959) of its parameters alone, all other columns NULL. r, alpha: shape and rate of the purchase rates (alpha in time units); nobody leaves. NULL when one is NULL. Errors: 22023 for one that is NaN, infinite or not above 0.';
CREATE OR REPLACE FUNCTION cdp.mbgcnbd_model(k int, r float8, alpha float8, a float8, b float8) RETURNS cdp.mbgcnbd_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_model_make';
COMMENT ON FUNCTION cdp.mbgcnbd_model(int, float8, float8, float8, float8) IS 'A MBG/CNBD-k model (Platzer, Reutterer 2016) of its parameters alone, all other columns NULL. k: phases between two purchases, 1 to 100; r, alpha: shape and rate of the rates of phases (alpha in time units); a, b: as of MBG/NBD. NULL when one is NULL. Errors: 22023 for one that is NaN, infinite or not above 0.';
CREATE OR REPLACE FUNCTION cdp.gammagamma_model(p float8, q float8, v float8) RETURNS cdp.gammagamma_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_model_make';
COMMENT ON FUNCTION cdp.gammagamma_model(float8, float8, float8) IS 'A Gamma-Gamma model (Fader, Hardie 2013) of its parameters alone, all other columns NULL. p: shape of the amounts of one customer; q, v: shape and rate of his rates (v in money). NULL when one is NULL. Errors: 22023 for one that is NaN, infinite or not above 0.';
CREATE OR REPLACE FUNCTION cdp.bgbb_model(alpha float8, beta float8, gamma float8, delta float8) RETURNS cdp.bgbb_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_model_make';
COMMENT ON FUNCTION cdp.bgbb_model(float8, float8, float8, float8) IS 'A BG/BB model (Fader, Hardie, Shang 2010) of its parameters alone, all other columns NULL. alpha, beta: beta distribution of the probability to buy at an occasion; gamma, delta: of the probability to leave before one. NULL when one is NULL. Errors: 22023 for one that is NaN, infinite or not above 0.';
CREATE OR REPLACE FUNCTION cdp.sbg_model(alpha float8, beta float8) RETURNS cdp.sbg_model
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_model_make';
COMMENT ON FUNCTION cdp.sbg_model(float8, float8) IS 'A sBG model (Fader, Hardie 2007) of its parameters alone, all other columns NULL. alpha, beta: beta distribution of the probability to leave at the end of a period. NULL when one is NULL. Errors: 22023 for one that is NaN, infinite or not above 0.';
CREATE OR REPLACE FUNCTION cdp.log_likelihood(model cdp.bgnbd_model, x float8, t_x float8, t_cal float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 3 AS 'MODULE_PATHNAME', 'cdp_log_likelihood_bgnbd';
COMMENT ON FUNCTION cdp.log_likelihood(cdp.bgnbd_model, float8, float8, float8) IS 'ln of the likelihood of one customer under a BG/NBD model (Fader, Hardie, Lee 2005): x repeat purchases, the last at t_x, observed until t_cal, in the time unit of the model. The sum over all customers is log_likelihood of the fit. NULL when an argument is NULL. Errors: 22023 for data the fit would refuse, or a model with a parameter that is not above 0.';
CREATE OR REPLACE FUNCTION cdp.log_likelihood(model cdp.mbgnbd_model, x float8, t_x float8, t_cal float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 3 AS 'MODULE_PATHNAME', 'cdp_log_likelihood_mbgnbd';
COMMENT ON FUNCTION cdp.log_likelihood(cdp.mbgnbd_model, float8, float8, float8) IS 'ln of the likelihood of one customer under a MBG/NBD model (Batislam, Denizel, Filiztekin 2007): x repeat purchases, the last at t_x, observed until t_cal, in the time unit of the model. The sum over all customers is log_likelihood of the fit. NULL when an argument is NULL. Errors: 22023 for data the fit would refuse, or a model with a parameter that is not above 0.';
CREATE OR REPLACE FUNCTION cdp.log_likelihood(model cdp.paretonbd_model, x float8, t_x float8, t_cal float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 200 AS 'MODULE_PATHNAME', 'cdp_log_likelihood_paretonbd';
COMMENT ON FUNCTION cdp.log_likelihood(cdp.paretonbd_model, float8, float8, float8) IS 'ln of the likelihood of one customer under a Pareto/NBD model (Schmittlein, Morrison, Colombo 1987): x repeat purchases, the last at t_x, observed until t_cal, in the time unit of the model. The sum over all customers is log_likelihood of the fit. NULL when an argument is NULL. Errors: 22023 for data the fit would refuse, or a model with a parameter that is not above 0.';
CREATE OR REPLACE FUNCTION cdp.log_likelihood(model cdp.nbd_model, x float8, t_cal float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 3 AS 'MODULE_PATHNAME', 'cdp_log_likelihood_nbd';
COMMENT ON FUNCTION cdp.log_likelihood(cdp.nbd_model, float8, float8) IS 'ln of the likelihood of one customer under a NBD model (Ehrenberg 1959): x repeat purchases, observed until t_cal, in the time unit of the model; a density of their times, comparable with the other models. The sum over all customers is log_likelihood of the fit. NULL when an argument is NULL. Errors: 22023 for data the fit would refuse, or a model with a parameter that is not above 0.';
CREATE OR REPLACE FUNCTION cdp.log_likelihood(model cdp.mbgcnbd_model, x float8, t_x float8, t_cal float8, log_gaps float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 3 AS 'MODULE_PATHNAME', 'cdp_log_likelihood_mbgcnbd';
COMMENT ON FUNCTION cdp.log_likelihood(cdp.mbgcnbd_model, float8, float8, float8, float8) IS 'ln of the likelihood of one customer under a MBG/CNBD-k model (Platzer, Reutterer 2016): x repeat purchases, the last at t_x, observed until t_cal, in the time unit of the model; log_gaps: sum of ln of the x gaps (cdp.btyd has it). The sum over all customers is log_likelihood of the fit. NULL when an argument is NULL. Errors: 22023 for data the fit would refuse, or a model with a parameter that is not above 0.';
CREATE OR REPLACE FUNCTION cdp.log_likelihood(model cdp.gammagamma_model, x float8, mean_amount float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 3 AS 'MODULE_PATHNAME', 'cdp_log_likelihood_gammagamma';
COMMENT ON FUNCTION cdp.log_likelihood(cdp.gammagamma_model, float8, float8) IS 'ln of the likelihood of one customer under a Gamma-Gamma model (Fader, Hardie 2013): mean_amount: mean of x amounts; NULL for x = 0 or a mean of 0, of which the model says nothing. The sum over all customers is log_likelihood of the fit. NULL when an argument is NULL. Errors: 22023 for data the fit would refuse, or a model with a parameter that is not above 0.';
CREATE OR REPLACE FUNCTION cdp.log_likelihood(model cdp.bgbb_model, x float8, t_x float8, n float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_log_likelihood_bgbb';
COMMENT ON FUNCTION cdp.log_likelihood(cdp.bgbb_model, float8, float8, float8) IS 'ln of the likelihood of one customer under a BG/BB model (Fader, Hardie, Shang 2010): x purchases in n occasions, the last at occasion t_x. The sum over all customers is log_likelihood of the fit. NULL when an argument is NULL. Errors: 22023 for data the fit would refuse, or a model with a parameter that is not above 0.';
CREATE OR REPLACE FUNCTION cdp.log_likelihood(model cdp.sbg_model, period int, churned boolean) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 3 AS 'MODULE_PATHNAME', 'cdp_log_likelihood_sbg';
COMMENT ON FUNCTION cdp.log_likelihood(cdp.sbg_model, int, boolean) IS 'ln of the likelihood of one customer under a sBG model (Fader, Hardie 2007): churned: left at the end of that period (1, 2, ...); false: still there after it. The sum over all customers is log_likelihood of the fit. NULL when an argument is NULL. Errors: 22023 for data the fit would refuse, or a model with a parameter that is not above 0.';

-- @access
('function', 'bgnbd_model', 'EXECUTE', '{public}'),
('function', 'mbgnbd_model', 'EXECUTE', '{public}'),
('function', 'paretonbd_model', 'EXECUTE', '{public}'),
('function', 'nbd_model', 'EXECUTE', '{public}'),
('function', 'mbgcnbd_model', 'EXECUTE', '{public}'),
('function', 'gammagamma_model', 'EXECUTE', '{public}'),
('function', 'bgbb_model', 'EXECUTE', '{public}'),
('function', 'sbg_model', 'EXECUTE', '{public}'),
('function', 'log_likelihood', 'EXECUTE', '{public}'),
