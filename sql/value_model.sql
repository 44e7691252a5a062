-- value_model: the types of fitted models of purchases, money and renewals.
-- C: src/value_model.c  Page: doc/value_model.md  Tests: test/sql/value_model.sql

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
