-- value_predict: what a fitted model says of a customer: alive, purchases to come, the next one, money; and customers drawn from it.
-- C: src/value_predict*.c, src/value_simulate.c  Page: doc/value_predict.md  Tests: test/sql/value_predict.sql, test/pgtap/value_predict.sql

-- @type
CREATE TYPE cdp.clv_period AS (period int, purchases float8, amount float8, discounted float8);
COMMENT ON TYPE cdp.clv_period IS 'One period of cdp.clv_schedule.';
COMMENT ON COLUMN cdp.clv_period.period IS 'number of the period, from 1';
COMMENT ON COLUMN cdp.clv_period.purchases IS 'expected purchases in the period';
COMMENT ON COLUMN cdp.clv_period.amount IS 'their money times margin';
COMMENT ON COLUMN cdp.clv_period.discounted IS 'that money, each purchase discounted at its own time';
CREATE TYPE cdp.simulated_customer AS (customer int, x int, t_x float8, t_cal float8, log_gaps float8, alive boolean);
COMMENT ON TYPE cdp.simulated_customer IS 'One customer of cdp.simulate_purchases.';
COMMENT ON COLUMN cdp.simulated_customer.customer IS 'his number, from 1';
COMMENT ON COLUMN cdp.simulated_customer.x IS 'repeat purchases until t_cal';
COMMENT ON COLUMN cdp.simulated_customer.t_x IS 'time of the last one; 0 without';
COMMENT ON COLUMN cdp.simulated_customer.t_cal IS 'time observed, as asked for';
COMMENT ON COLUMN cdp.simulated_customer.log_gaps IS 'sum of the logarithms of the x gaps between purchases';
COMMENT ON COLUMN cdp.simulated_customer.alive IS 'still a customer at t_cal';

-- @code
-- BG/NBD (Fader, Hardie, Lee 2005)
CREATE OR REPLACE FUNCTION cdp.p_alive(model cdp.bgnbd_model, x float8, t_x float8, t_cal float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_p_alive';
COMMENT ON FUNCTION cdp.p_alive(cdp.bgnbd_model, float8, float8, float8) IS 'P(still a customer at t_cal) under BG/NBD (Fader, Hardie, Lee 2005). x = repeat purchases, t_x = time from first to last purchase, t_cal = time observed, all in the units of the fit. A customer without a repeat purchase is alive for sure: a property of this model. NULL in, NULL out; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.p_alive(model cdp.bgnbd_model, x float8, t_x float8, t_cal float8, ahead float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'cdp_p_alive_ahead';
COMMENT ON FUNCTION cdp.p_alive(cdp.bgnbd_model, float8, float8, float8, float8) IS 'P(still a customer at t_cal + ahead) under BG/NBD (Fader, Hardie, Lee 2005), ahead in units of the fit. NULL in, NULL out; 22023 for what no customer can have, 22023 for ahead below 0.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases(model cdp.bgnbd_model, x float8, t_x float8, t_cal float8, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'cdp_expected_purchases';
COMMENT ON FUNCTION cdp.expected_purchases(cdp.bgnbd_model, float8, float8, float8, float8) IS 'Expected purchases in (t_cal, t_cal + horizon] given the customer''s past (conditional expectation, CET) under BG/NBD (Fader, Hardie, Lee 2005); times in units of the fit. NULL in, NULL out; 22023 for what no customer can have, 22023 for a horizon below 0.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases(model cdp.bgnbd_model, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'cdp_expected_purchases_new';
COMMENT ON FUNCTION cdp.expected_purchases(cdp.bgnbd_model, float8) IS 'Expected repeat purchases within horizon of a customer who has just made his first purchase, under BG/NBD (Fader, Hardie, Lee 2005); horizon in units of the fit. NULL in, NULL out; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.purchase_pmf(model cdp.bgnbd_model, n int, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_purchase_pmf';
COMMENT ON FUNCTION cdp.purchase_pmf(cdp.bgnbd_model, int, float8) IS 'P(a new customer makes n repeat purchases within horizon) under BG/NBD (Fader, Hardie, Lee 2005); horizon in units of the fit. NULL in, NULL out; 22023 for n or horizon below 0.';
CREATE OR REPLACE FUNCTION cdp.p_purchase(model cdp.bgnbd_model, x float8, t_x float8, t_cal float8, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_p_purchase';
COMMENT ON FUNCTION cdp.p_purchase(cdp.bgnbd_model, float8, float8, float8, float8) IS 'P(at least one purchase in (t_cal, t_cal + horizon]) given the customer''s past, under BG/NBD (Fader, Hardie, Lee 2005); times in units of the fit. NULL in, NULL out; 22023 for what no customer can have, 22023 for a horizon below 0.';
CREATE OR REPLACE FUNCTION cdp.next_purchase(model cdp.bgnbd_model, x float8, t_x float8, t_cal float8, probability float8 DEFAULT 0.5) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_next_purchase';
COMMENT ON FUNCTION cdp.next_purchase(cdp.bgnbd_model, float8, float8, float8, float8) IS 'Time after t_cal within which the next purchase happens with the given probability, under BG/NBD (Fader, Hardie, Lee 2005), closed form; in units of the fit. NULL when that probability is not reached, because the customer may have left or it takes more than 1e15 units. NULL in, NULL out; 22023 for what no customer can have, 22023 for a probability outside (0, 1).';
CREATE OR REPLACE FUNCTION cdp.dert(model cdp.bgnbd_model, x float8, t_x float8, t_cal float8, discount float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 500 AS 'MODULE_PATHNAME', 'cdp_dert';
COMMENT ON FUNCTION cdp.dert(cdp.bgnbd_model, float8, float8, float8, float8) IS 'Discounted expected residual transactions under BG/NBD (Fader, Hardie, Lee 2005): all purchases after t_cal, one at time t after it counting exp(-discount * t). discount is continuous, per unit of the fit: ln(1 + yearly rate) / units per year. NULL in, NULL out; 22023 for what no customer can have, 22023 for a discount that is not above 0.';
CREATE OR REPLACE FUNCTION cdp.clv(model cdp.bgnbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8 DEFAULT 1) RETURNS float8
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 200 AS 'MODULE_PATHNAME', 'cdp_clv';
COMMENT ON FUNCTION cdp.clv(cdp.bgnbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8) IS 'Customer lifetime value after t_cal: expected amount (Gamma-Gamma) * margin * purchases of BG/NBD until t_cal + horizon (''Infinity'' when discount > 0), each discounted by exp(-discount * time). mean_amount = mean of the x repeat purchases, may be NULL where x = 0; discount >= 0, continuous, per unit. NULL for other NULLs and where the expected amount is NULL; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.clv_schedule(model cdp.bgnbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8, periods int) RETURNS SETOF cdp.clv_period
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 200 ROWS 12 AS 'MODULE_PATHNAME', 'cdp_clv_schedule';
COMMENT ON FUNCTION cdp.clv_schedule(cdp.bgnbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8, int) IS 'cdp.clv under BG/NBD by equal periods of the horizon, a row each; the sum of discounted is cdp.clv of the same horizon. Arguments as there, horizon finite, periods from 1 to 1000000. No row where cdp.clv is NULL; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases_ci(model cdp.bgnbd_model, x float8, t_x float8, t_cal float8, horizon float8, level float8 DEFAULT 0.95, OUT lo float8, OUT estimate float8, OUT hi float8) RETURNS record
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 200 AS 'MODULE_PATHNAME', 'cdp_expected_purchases_ci';
COMMENT ON FUNCTION cdp.expected_purchases_ci(cdp.bgnbd_model, float8, float8, float8, float8, float8) IS 'cdp.expected_purchases under BG/NBD with the interval that the uncertainty of the parameters gives it: delta method on the log scale from the model''s covariance (Oehlert 1992). It is the interval of the expectation, not of the purchases themselves. lo and hi are NULL when covariance is; NULL in, NULL out; 22023 for what no customer can have, 22023 for a level outside (0, 1).';
CREATE OR REPLACE FUNCTION cdp.clv_ci(model cdp.bgnbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8 DEFAULT 1, level float8 DEFAULT 0.95, OUT lo float8, OUT estimate float8, OUT hi float8) RETURNS record
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 2000 AS 'MODULE_PATHNAME', 'cdp_clv_ci';
COMMENT ON FUNCTION cdp.clv_ci(cdp.bgnbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8, float8) IS 'cdp.clv under BG/NBD with the interval that the uncertainty of the parameters of both models gives it: delta method on the log scale from their covariances, which add. lo and hi are NULL when one of them is. Arguments, NULL and errors as cdp.clv; 22023 for a level outside (0, 1).';
CREATE OR REPLACE FUNCTION cdp.simulate_purchases(model cdp.bgnbd_model, customers int, t_cal float8, seed int) RETURNS SETOF cdp.simulated_customer
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 ROWS 1000 AS 'MODULE_PATHNAME', 'cdp_simulate_purchases';
COMMENT ON FUNCTION cdp.simulate_purchases(cdp.bgnbd_model, int, float8, int) IS 'Customers drawn from BG/NBD (Fader, Hardie, Lee 2005), numbered from 1, each watched for t_cal units from his first purchase: what cdp.btyd would give of him, and whether he is still a customer. The same seed gives the same customers on every machine, whatever their number. NULL in: no rows; 22023 for negative arguments, 54000 when one makes more than a million purchases.';

-- MBG/NBD (Batislam, Denizel, Filiztekin 2007)
CREATE OR REPLACE FUNCTION cdp.p_alive(model cdp.mbgnbd_model, x float8, t_x float8, t_cal float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_p_alive';
COMMENT ON FUNCTION cdp.p_alive(cdp.mbgnbd_model, float8, float8, float8) IS 'P(still a customer at t_cal) under MBG/NBD (Batislam, Denizel, Filiztekin 2007). x = repeat purchases, t_x = time from first to last purchase, t_cal = time observed, all in the units of the fit. NULL in, NULL out; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.p_alive(model cdp.mbgnbd_model, x float8, t_x float8, t_cal float8, ahead float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'cdp_p_alive_ahead';
COMMENT ON FUNCTION cdp.p_alive(cdp.mbgnbd_model, float8, float8, float8, float8) IS 'P(still a customer at t_cal + ahead) under MBG/NBD (Batislam, Denizel, Filiztekin 2007), ahead in units of the fit. NULL in, NULL out; 22023 for what no customer can have, 22023 for ahead below 0.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases(model cdp.mbgnbd_model, x float8, t_x float8, t_cal float8, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'cdp_expected_purchases';
COMMENT ON FUNCTION cdp.expected_purchases(cdp.mbgnbd_model, float8, float8, float8, float8) IS 'Expected purchases in (t_cal, t_cal + horizon] given the customer''s past (conditional expectation, CET) under MBG/NBD (Batislam, Denizel, Filiztekin 2007); times in units of the fit. NULL in, NULL out; 22023 for what no customer can have, 22023 for a horizon below 0.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases(model cdp.mbgnbd_model, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'cdp_expected_purchases_new';
COMMENT ON FUNCTION cdp.expected_purchases(cdp.mbgnbd_model, float8) IS 'Expected repeat purchases within horizon of a customer who has just made his first purchase, under MBG/NBD (Batislam, Denizel, Filiztekin 2007); horizon in units of the fit. NULL in, NULL out; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.purchase_pmf(model cdp.mbgnbd_model, n int, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_purchase_pmf';
COMMENT ON FUNCTION cdp.purchase_pmf(cdp.mbgnbd_model, int, float8) IS 'P(a new customer makes n repeat purchases within horizon) under MBG/NBD (Batislam, Denizel, Filiztekin 2007); horizon in units of the fit. NULL in, NULL out; 22023 for n or horizon below 0.';
CREATE OR REPLACE FUNCTION cdp.p_purchase(model cdp.mbgnbd_model, x float8, t_x float8, t_cal float8, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_p_purchase';
COMMENT ON FUNCTION cdp.p_purchase(cdp.mbgnbd_model, float8, float8, float8, float8) IS 'P(at least one purchase in (t_cal, t_cal + horizon]) given the customer''s past, under MBG/NBD (Batislam, Denizel, Filiztekin 2007); times in units of the fit. NULL in, NULL out; 22023 for what no customer can have, 22023 for a horizon below 0.';
CREATE OR REPLACE FUNCTION cdp.next_purchase(model cdp.mbgnbd_model, x float8, t_x float8, t_cal float8, probability float8 DEFAULT 0.5) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_next_purchase';
COMMENT ON FUNCTION cdp.next_purchase(cdp.mbgnbd_model, float8, float8, float8, float8) IS 'Time after t_cal within which the next purchase happens with the given probability, under MBG/NBD (Batislam, Denizel, Filiztekin 2007), closed form; in units of the fit. NULL when that probability is not reached, because the customer may have left or it takes more than 1e15 units. NULL in, NULL out; 22023 for what no customer can have, 22023 for a probability outside (0, 1).';
CREATE OR REPLACE FUNCTION cdp.dert(model cdp.mbgnbd_model, x float8, t_x float8, t_cal float8, discount float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 500 AS 'MODULE_PATHNAME', 'cdp_dert';
COMMENT ON FUNCTION cdp.dert(cdp.mbgnbd_model, float8, float8, float8, float8) IS 'Discounted expected residual transactions under MBG/NBD (Batislam, Denizel, Filiztekin 2007): all purchases after t_cal, one at time t after it counting exp(-discount * t). discount is continuous, per unit of the fit: ln(1 + yearly rate) / units per year. NULL in, NULL out; 22023 for what no customer can have, 22023 for a discount that is not above 0.';
CREATE OR REPLACE FUNCTION cdp.clv(model cdp.mbgnbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8 DEFAULT 1) RETURNS float8
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 200 AS 'MODULE_PATHNAME', 'cdp_clv';
COMMENT ON FUNCTION cdp.clv(cdp.mbgnbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8) IS 'Customer lifetime value after t_cal: expected amount (Gamma-Gamma) * margin * purchases of MBG/NBD until t_cal + horizon (''Infinity'' when discount > 0), each discounted by exp(-discount * time). mean_amount = mean of the x repeat purchases, may be NULL where x = 0; discount >= 0, continuous, per unit. NULL for other NULLs and where the expected amount is NULL; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.clv_schedule(model cdp.mbgnbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8, periods int) RETURNS SETOF cdp.clv_period
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 200 ROWS 12 AS 'MODULE_PATHNAME', 'cdp_clv_schedule';
COMMENT ON FUNCTION cdp.clv_schedule(cdp.mbgnbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8, int) IS 'cdp.clv under MBG/NBD by equal periods of the horizon, a row each; the sum of discounted is cdp.clv of the same horizon. Arguments as there, horizon finite, periods from 1 to 1000000. No row where cdp.clv is NULL; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases_ci(model cdp.mbgnbd_model, x float8, t_x float8, t_cal float8, horizon float8, level float8 DEFAULT 0.95, OUT lo float8, OUT estimate float8, OUT hi float8) RETURNS record
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 200 AS 'MODULE_PATHNAME', 'cdp_expected_purchases_ci';
COMMENT ON FUNCTION cdp.expected_purchases_ci(cdp.mbgnbd_model, float8, float8, float8, float8, float8) IS 'cdp.expected_purchases under MBG/NBD with the interval that the uncertainty of the parameters gives it: delta method on the log scale from the model''s covariance (Oehlert 1992). It is the interval of the expectation, not of the purchases themselves. lo and hi are NULL when covariance is; NULL in, NULL out; 22023 for what no customer can have, 22023 for a level outside (0, 1).';
CREATE OR REPLACE FUNCTION cdp.clv_ci(model cdp.mbgnbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8 DEFAULT 1, level float8 DEFAULT 0.95, OUT lo float8, OUT estimate float8, OUT hi float8) RETURNS record
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 2000 AS 'MODULE_PATHNAME', 'cdp_clv_ci';
COMMENT ON FUNCTION cdp.clv_ci(cdp.mbgnbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8, float8) IS 'cdp.clv under MBG/NBD with the interval that the uncertainty of the parameters of both models gives it: delta method on the log scale from their covariances, which add. lo and hi are NULL when one of them is. Arguments, NULL and errors as cdp.clv; 22023 for a level outside (0, 1).';
CREATE OR REPLACE FUNCTION cdp.simulate_purchases(model cdp.mbgnbd_model, customers int, t_cal float8, seed int) RETURNS SETOF cdp.simulated_customer
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 ROWS 1000 AS 'MODULE_PATHNAME', 'cdp_simulate_purchases';
COMMENT ON FUNCTION cdp.simulate_purchases(cdp.mbgnbd_model, int, float8, int) IS 'Customers drawn from MBG/NBD (Batislam, Denizel, Filiztekin 2007), numbered from 1, each watched for t_cal units from his first purchase: what cdp.btyd would give of him, and whether he is still a customer. The same seed gives the same customers on every machine, whatever their number. NULL in: no rows; 22023 for negative arguments, 54000 when one makes more than a million purchases.';

-- MBG/CNBD-k (Platzer, Reutterer 2016)
CREATE OR REPLACE FUNCTION cdp.p_alive(model cdp.mbgcnbd_model, x float8, t_x float8, t_cal float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'cdp_p_alive';
COMMENT ON FUNCTION cdp.p_alive(cdp.mbgcnbd_model, float8, float8, float8) IS 'P(still a customer at t_cal) under MBG/CNBD-k (Platzer, Reutterer 2016). x = repeat purchases, t_x = time from first to last purchase, t_cal = time observed, all in the units of the fit. NULL in, NULL out; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.p_alive(model cdp.mbgcnbd_model, x float8, t_x float8, t_cal float8, ahead float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 40 AS 'MODULE_PATHNAME', 'cdp_p_alive_ahead';
COMMENT ON FUNCTION cdp.p_alive(cdp.mbgcnbd_model, float8, float8, float8, float8) IS 'P(still a customer at t_cal + ahead) under MBG/CNBD-k (Platzer, Reutterer 2016), ahead in units of the fit. NULL in, NULL out; 22023 for what no customer can have, 22023 for ahead below 0.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases(model cdp.mbgcnbd_model, x float8, t_x float8, t_cal float8, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 40 AS 'MODULE_PATHNAME', 'cdp_expected_purchases';
COMMENT ON FUNCTION cdp.expected_purchases(cdp.mbgcnbd_model, float8, float8, float8, float8) IS 'Expected purchases in (t_cal, t_cal + horizon] given the customer''s past (conditional expectation, CET) under MBG/CNBD-k (Platzer, Reutterer 2016); times in units of the fit. NULL in, NULL out; 22023 for what no customer can have, 22023 for a horizon below 0.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases(model cdp.mbgcnbd_model, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 40 AS 'MODULE_PATHNAME', 'cdp_expected_purchases_new';
COMMENT ON FUNCTION cdp.expected_purchases(cdp.mbgcnbd_model, float8) IS 'Expected repeat purchases within horizon of a customer who has just made his first purchase, under MBG/CNBD-k (Platzer, Reutterer 2016); horizon in units of the fit. NULL in, NULL out; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.p_purchase(model cdp.mbgcnbd_model, x float8, t_x float8, t_cal float8, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'cdp_p_purchase';
COMMENT ON FUNCTION cdp.p_purchase(cdp.mbgcnbd_model, float8, float8, float8, float8) IS 'P(at least one purchase in (t_cal, t_cal + horizon]) given the customer''s past, under MBG/CNBD-k (Platzer, Reutterer 2016); times in units of the fit. NULL in, NULL out; 22023 for what no customer can have, 22023 for a horizon below 0.';
CREATE OR REPLACE FUNCTION cdp.next_purchase(model cdp.mbgcnbd_model, x float8, t_x float8, t_cal float8, probability float8 DEFAULT 0.5) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 160 AS 'MODULE_PATHNAME', 'cdp_next_purchase';
COMMENT ON FUNCTION cdp.next_purchase(cdp.mbgcnbd_model, float8, float8, float8, float8) IS 'Time after t_cal within which the next purchase happens with the given probability, under MBG/CNBD-k (Platzer, Reutterer 2016), by search; in units of the fit. NULL when that probability is not reached, because the customer may have left or it takes more than 1e15 units. NULL in, NULL out; 22023 for what no customer can have, 22023 for a probability outside (0, 1).';
CREATE OR REPLACE FUNCTION cdp.dert(model cdp.mbgcnbd_model, x float8, t_x float8, t_cal float8, discount float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'cdp_dert';
COMMENT ON FUNCTION cdp.dert(cdp.mbgcnbd_model, float8, float8, float8, float8) IS 'Discounted expected residual transactions under MBG/CNBD-k (Platzer, Reutterer 2016): all purchases after t_cal, one at time t after it counting exp(-discount * t). discount is continuous, per unit of the fit: ln(1 + yearly rate) / units per year. NULL in, NULL out; 22023 for what no customer can have, 22023 for a discount that is not above 0.';
CREATE OR REPLACE FUNCTION cdp.clv(model cdp.mbgcnbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8 DEFAULT 1) RETURNS float8
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 400 AS 'MODULE_PATHNAME', 'cdp_clv';
COMMENT ON FUNCTION cdp.clv(cdp.mbgcnbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8) IS 'Customer lifetime value after t_cal: expected amount (Gamma-Gamma) * margin * purchases of MBG/CNBD-k until t_cal + horizon (''Infinity'' when discount > 0), each discounted by exp(-discount * time). mean_amount = mean of the x repeat purchases, may be NULL where x = 0; discount >= 0, continuous, per unit. NULL for other NULLs and where the expected amount is NULL; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.clv_schedule(model cdp.mbgcnbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8, periods int) RETURNS SETOF cdp.clv_period
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 400 ROWS 12 AS 'MODULE_PATHNAME', 'cdp_clv_schedule';
COMMENT ON FUNCTION cdp.clv_schedule(cdp.mbgcnbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8, int) IS 'cdp.clv under MBG/CNBD-k by equal periods of the horizon, a row each; the sum of discounted is cdp.clv of the same horizon. Arguments as there, horizon finite, periods from 1 to 1000000. No row where cdp.clv is NULL; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases_ci(model cdp.mbgcnbd_model, x float8, t_x float8, t_cal float8, horizon float8, level float8 DEFAULT 0.95, OUT lo float8, OUT estimate float8, OUT hi float8) RETURNS record
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 400 AS 'MODULE_PATHNAME', 'cdp_expected_purchases_ci';
COMMENT ON FUNCTION cdp.expected_purchases_ci(cdp.mbgcnbd_model, float8, float8, float8, float8, float8) IS 'cdp.expected_purchases under MBG/CNBD-k with the interval that the uncertainty of the parameters gives it: delta method on the log scale from the model''s covariance (Oehlert 1992). It is the interval of the expectation, not of the purchases themselves. lo and hi are NULL when covariance is; NULL in, NULL out; 22023 for what no customer can have, 22023 for a level outside (0, 1).';
CREATE OR REPLACE FUNCTION cdp.clv_ci(model cdp.mbgcnbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8 DEFAULT 1, level float8 DEFAULT 0.95, OUT lo float8, OUT estimate float8, OUT hi float8) RETURNS record
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 4000 AS 'MODULE_PATHNAME', 'cdp_clv_ci';
COMMENT ON FUNCTION cdp.clv_ci(cdp.mbgcnbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8, float8) IS 'cdp.clv under MBG/CNBD-k with the interval that the uncertainty of the parameters of both models gives it: delta method on the log scale from their covariances, which add. lo and hi are NULL when one of them is. Arguments, NULL and errors as cdp.clv; 22023 for a level outside (0, 1).';
CREATE OR REPLACE FUNCTION cdp.simulate_purchases(model cdp.mbgcnbd_model, customers int, t_cal float8, seed int) RETURNS SETOF cdp.simulated_customer
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 ROWS 1000 AS 'MODULE_PATHNAME', 'cdp_simulate_purchases';
COMMENT ON FUNCTION cdp.simulate_purchases(cdp.mbgcnbd_model, int, float8, int) IS 'Customers drawn from MBG/CNBD-k (Platzer, Reutterer 2016), numbered from 1, each watched for t_cal units from his first purchase: what cdp.btyd would give of him, and whether he is still a customer. The same seed gives the same customers on every machine, whatever their number. NULL in: no rows; 22023 for negative arguments, 54000 when one makes more than a million purchases.';

-- Pareto/NBD (Schmittlein, Morrison, Colombo 1987)
CREATE OR REPLACE FUNCTION cdp.p_alive(model cdp.paretonbd_model, x float8, t_x float8, t_cal float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_p_alive';
COMMENT ON FUNCTION cdp.p_alive(cdp.paretonbd_model, float8, float8, float8) IS 'P(still a customer at t_cal) under Pareto/NBD (Schmittlein, Morrison, Colombo 1987). x = repeat purchases, t_x = time from first to last purchase, t_cal = time observed, all in the units of the fit. NULL in, NULL out; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.p_alive(model cdp.paretonbd_model, x float8, t_x float8, t_cal float8, ahead float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 200 AS 'MODULE_PATHNAME', 'cdp_p_alive_ahead';
COMMENT ON FUNCTION cdp.p_alive(cdp.paretonbd_model, float8, float8, float8, float8) IS 'P(still a customer at t_cal + ahead) under Pareto/NBD (Schmittlein, Morrison, Colombo 1987), ahead in units of the fit. NULL in, NULL out; 22023 for what no customer can have, 22023 for ahead below 0.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases(model cdp.paretonbd_model, x float8, t_x float8, t_cal float8, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 200 AS 'MODULE_PATHNAME', 'cdp_expected_purchases';
COMMENT ON FUNCTION cdp.expected_purchases(cdp.paretonbd_model, float8, float8, float8, float8) IS 'Expected purchases in (t_cal, t_cal + horizon] given the customer''s past (conditional expectation, CET) under Pareto/NBD (Schmittlein, Morrison, Colombo 1987); times in units of the fit. NULL in, NULL out; 22023 for what no customer can have, 22023 for a horizon below 0.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases(model cdp.paretonbd_model, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 200 AS 'MODULE_PATHNAME', 'cdp_expected_purchases_new';
COMMENT ON FUNCTION cdp.expected_purchases(cdp.paretonbd_model, float8) IS 'Expected repeat purchases within horizon of a customer who has just made his first purchase, under Pareto/NBD (Schmittlein, Morrison, Colombo 1987); horizon in units of the fit. NULL in, NULL out; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.purchase_pmf(model cdp.paretonbd_model, n int, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_purchase_pmf';
COMMENT ON FUNCTION cdp.purchase_pmf(cdp.paretonbd_model, int, float8) IS 'P(a new customer makes n repeat purchases within horizon) under Pareto/NBD (Schmittlein, Morrison, Colombo 1987); horizon in units of the fit. NULL in, NULL out; 22023 for n or horizon below 0.';
CREATE OR REPLACE FUNCTION cdp.p_purchase(model cdp.paretonbd_model, x float8, t_x float8, t_cal float8, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_p_purchase';
COMMENT ON FUNCTION cdp.p_purchase(cdp.paretonbd_model, float8, float8, float8, float8) IS 'P(at least one purchase in (t_cal, t_cal + horizon]) given the customer''s past, under Pareto/NBD (Schmittlein, Morrison, Colombo 1987); times in units of the fit. NULL in, NULL out; 22023 for what no customer can have, 22023 for a horizon below 0.';
CREATE OR REPLACE FUNCTION cdp.next_purchase(model cdp.paretonbd_model, x float8, t_x float8, t_cal float8, probability float8 DEFAULT 0.5) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 800 AS 'MODULE_PATHNAME', 'cdp_next_purchase';
COMMENT ON FUNCTION cdp.next_purchase(cdp.paretonbd_model, float8, float8, float8, float8) IS 'Time after t_cal within which the next purchase happens with the given probability, under Pareto/NBD (Schmittlein, Morrison, Colombo 1987), by search; in units of the fit. NULL when that probability is not reached, because the customer may have left or it takes more than 1e15 units. NULL in, NULL out; 22023 for what no customer can have, 22023 for a probability outside (0, 1).';
CREATE OR REPLACE FUNCTION cdp.dert(model cdp.paretonbd_model, x float8, t_x float8, t_cal float8, discount float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5000 AS 'MODULE_PATHNAME', 'cdp_dert';
COMMENT ON FUNCTION cdp.dert(cdp.paretonbd_model, float8, float8, float8, float8) IS 'Discounted expected residual transactions under Pareto/NBD (Schmittlein, Morrison, Colombo 1987): all purchases after t_cal, one at time t after it counting exp(-discount * t). discount is continuous, per unit of the fit: ln(1 + yearly rate) / units per year. NULL in, NULL out; 22023 for what no customer can have, 22023 for a discount that is not above 0.';
CREATE OR REPLACE FUNCTION cdp.clv(model cdp.paretonbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8 DEFAULT 1) RETURNS float8
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 2000 AS 'MODULE_PATHNAME', 'cdp_clv';
COMMENT ON FUNCTION cdp.clv(cdp.paretonbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8) IS 'Customer lifetime value after t_cal: expected amount (Gamma-Gamma) * margin * purchases of Pareto/NBD until t_cal + horizon (''Infinity'' when discount > 0), each discounted by exp(-discount * time). mean_amount = mean of the x repeat purchases, may be NULL where x = 0; discount >= 0, continuous, per unit. NULL for other NULLs and where the expected amount is NULL; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.clv_schedule(model cdp.paretonbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8, periods int) RETURNS SETOF cdp.clv_period
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 2000 ROWS 12 AS 'MODULE_PATHNAME', 'cdp_clv_schedule';
COMMENT ON FUNCTION cdp.clv_schedule(cdp.paretonbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8, int) IS 'cdp.clv under Pareto/NBD by equal periods of the horizon, a row each; the sum of discounted is cdp.clv of the same horizon. Arguments as there, horizon finite, periods from 1 to 1000000. No row where cdp.clv is NULL; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases_ci(model cdp.paretonbd_model, x float8, t_x float8, t_cal float8, horizon float8, level float8 DEFAULT 0.95, OUT lo float8, OUT estimate float8, OUT hi float8) RETURNS record
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 2000 AS 'MODULE_PATHNAME', 'cdp_expected_purchases_ci';
COMMENT ON FUNCTION cdp.expected_purchases_ci(cdp.paretonbd_model, float8, float8, float8, float8, float8) IS 'cdp.expected_purchases under Pareto/NBD with the interval that the uncertainty of the parameters gives it: delta method on the log scale from the model''s covariance (Oehlert 1992). It is the interval of the expectation, not of the purchases themselves. lo and hi are NULL when covariance is; NULL in, NULL out; 22023 for what no customer can have, 22023 for a level outside (0, 1).';
CREATE OR REPLACE FUNCTION cdp.clv_ci(model cdp.paretonbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8 DEFAULT 1, level float8 DEFAULT 0.95, OUT lo float8, OUT estimate float8, OUT hi float8) RETURNS record
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 20000 AS 'MODULE_PATHNAME', 'cdp_clv_ci';
COMMENT ON FUNCTION cdp.clv_ci(cdp.paretonbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8, float8) IS 'cdp.clv under Pareto/NBD with the interval that the uncertainty of the parameters of both models gives it: delta method on the log scale from their covariances, which add. lo and hi are NULL when one of them is. Arguments, NULL and errors as cdp.clv; 22023 for a level outside (0, 1).';
CREATE OR REPLACE FUNCTION cdp.simulate_purchases(model cdp.paretonbd_model, customers int, t_cal float8, seed int) RETURNS SETOF cdp.simulated_customer
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 ROWS 1000 AS 'MODULE_PATHNAME', 'cdp_simulate_purchases';
COMMENT ON FUNCTION cdp.simulate_purchases(cdp.paretonbd_model, int, float8, int) IS 'Customers drawn from Pareto/NBD (Schmittlein, Morrison, Colombo 1987), numbered from 1, each watched for t_cal units from his first purchase: what cdp.btyd would give of him, and whether he is still a customer. The same seed gives the same customers on every machine, whatever their number. NULL in: no rows; 22023 for negative arguments, 54000 when one makes more than a million purchases.';

-- NBD (Ehrenberg 1959)
CREATE OR REPLACE FUNCTION cdp.p_alive(model cdp.nbd_model, x float8, t_x float8, t_cal float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_p_alive';
COMMENT ON FUNCTION cdp.p_alive(cdp.nbd_model, float8, float8, float8) IS 'P(still a customer at t_cal) under NBD (Ehrenberg 1959). x = repeat purchases, t_x = time from first to last purchase, t_cal = time observed, all in the units of the fit. Under NBD nobody ever leaves: 1. NULL in, NULL out; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.p_alive(model cdp.nbd_model, x float8, t_x float8, t_cal float8, ahead float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_p_alive_ahead';
COMMENT ON FUNCTION cdp.p_alive(cdp.nbd_model, float8, float8, float8, float8) IS 'P(still a customer at t_cal + ahead) under NBD (Ehrenberg 1959), ahead in units of the fit. Under NBD: 1. NULL in, NULL out; 22023 for what no customer can have, 22023 for ahead below 0.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases(model cdp.nbd_model, x float8, t_x float8, t_cal float8, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_expected_purchases';
COMMENT ON FUNCTION cdp.expected_purchases(cdp.nbd_model, float8, float8, float8, float8) IS 'Expected purchases in (t_cal, t_cal + horizon] given the customer''s past (conditional expectation, CET) under NBD (Ehrenberg 1959); times in units of the fit. NULL in, NULL out; 22023 for what no customer can have, 22023 for a horizon below 0.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases(model cdp.nbd_model, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_expected_purchases_new';
COMMENT ON FUNCTION cdp.expected_purchases(cdp.nbd_model, float8) IS 'Expected repeat purchases within horizon of a customer who has just made his first purchase, under NBD (Ehrenberg 1959); horizon in units of the fit. NULL in, NULL out; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.purchase_pmf(model cdp.nbd_model, n int, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_purchase_pmf';
COMMENT ON FUNCTION cdp.purchase_pmf(cdp.nbd_model, int, float8) IS 'P(a new customer makes n repeat purchases within horizon) under NBD (Ehrenberg 1959); horizon in units of the fit. NULL in, NULL out; 22023 for n or horizon below 0.';
CREATE OR REPLACE FUNCTION cdp.p_purchase(model cdp.nbd_model, x float8, t_x float8, t_cal float8, horizon float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_p_purchase';
COMMENT ON FUNCTION cdp.p_purchase(cdp.nbd_model, float8, float8, float8, float8) IS 'P(at least one purchase in (t_cal, t_cal + horizon]) given the customer''s past, under NBD (Ehrenberg 1959); times in units of the fit. NULL in, NULL out; 22023 for what no customer can have, 22023 for a horizon below 0.';
CREATE OR REPLACE FUNCTION cdp.next_purchase(model cdp.nbd_model, x float8, t_x float8, t_cal float8, probability float8 DEFAULT 0.5) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_next_purchase';
COMMENT ON FUNCTION cdp.next_purchase(cdp.nbd_model, float8, float8, float8, float8) IS 'Time after t_cal within which the next purchase happens with the given probability, under NBD (Ehrenberg 1959), closed form; in units of the fit. NULL when that probability is not reached, because the customer may have left or it takes more than 1e15 units. NULL in, NULL out; 22023 for what no customer can have, 22023 for a probability outside (0, 1).';
CREATE OR REPLACE FUNCTION cdp.dert(model cdp.nbd_model, x float8, t_x float8, t_cal float8, discount float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 250 AS 'MODULE_PATHNAME', 'cdp_dert';
COMMENT ON FUNCTION cdp.dert(cdp.nbd_model, float8, float8, float8, float8) IS 'Discounted expected residual transactions under NBD (Ehrenberg 1959): all purchases after t_cal, one at time t after it counting exp(-discount * t). discount is continuous, per unit of the fit: ln(1 + yearly rate) / units per year. NULL in, NULL out; 22023 for what no customer can have, 22023 for a discount that is not above 0.';
CREATE OR REPLACE FUNCTION cdp.clv(model cdp.nbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8 DEFAULT 1) RETURNS float8
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_clv';
COMMENT ON FUNCTION cdp.clv(cdp.nbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8) IS 'Customer lifetime value after t_cal: expected amount (Gamma-Gamma) * margin * purchases of NBD until t_cal + horizon (''Infinity'' when discount > 0), each discounted by exp(-discount * time). mean_amount = mean of the x repeat purchases, may be NULL where x = 0; discount >= 0, continuous, per unit. NULL for other NULLs and where the expected amount is NULL; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.clv_schedule(model cdp.nbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8, periods int) RETURNS SETOF cdp.clv_period
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 100 ROWS 12 AS 'MODULE_PATHNAME', 'cdp_clv_schedule';
COMMENT ON FUNCTION cdp.clv_schedule(cdp.nbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8, int) IS 'cdp.clv under NBD by equal periods of the horizon, a row each; the sum of discounted is cdp.clv of the same horizon. Arguments as there, horizon finite, periods from 1 to 1000000. No row where cdp.clv is NULL; 22023 for what no customer can have.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases_ci(model cdp.nbd_model, x float8, t_x float8, t_cal float8, horizon float8, level float8 DEFAULT 0.95, OUT lo float8, OUT estimate float8, OUT hi float8) RETURNS record
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_expected_purchases_ci';
COMMENT ON FUNCTION cdp.expected_purchases_ci(cdp.nbd_model, float8, float8, float8, float8, float8) IS 'cdp.expected_purchases under NBD with the interval that the uncertainty of the parameters gives it: delta method on the log scale from the model''s covariance (Oehlert 1992). It is the interval of the expectation, not of the purchases themselves. lo and hi are NULL when covariance is; NULL in, NULL out; 22023 for what no customer can have, 22023 for a level outside (0, 1).';
CREATE OR REPLACE FUNCTION cdp.clv_ci(model cdp.nbd_model, amount cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8, horizon float8, discount float8, margin float8 DEFAULT 1, level float8 DEFAULT 0.95, OUT lo float8, OUT estimate float8, OUT hi float8) RETURNS record
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'cdp_clv_ci';
COMMENT ON FUNCTION cdp.clv_ci(cdp.nbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8, float8) IS 'cdp.clv under NBD with the interval that the uncertainty of the parameters of both models gives it: delta method on the log scale from their covariances, which add. lo and hi are NULL when one of them is. Arguments, NULL and errors as cdp.clv; 22023 for a level outside (0, 1).';

-- money
CREATE OR REPLACE FUNCTION cdp.expected_amount(model cdp.gammagamma_model, x float8, mean_amount float8) RETURNS float8
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_expected_amount';
COMMENT ON FUNCTION cdp.expected_amount(cdp.gammagamma_model, float8, float8) IS 'Expected mean amount of a customer''s purchases under Gamma-Gamma (Fader, Hardie 2013): p (v + x mean_amount) / (p x + q - 1), between his own mean and that of all; x = repeat purchases, mean_amount their mean (NULL allowed where x = 0). NULL where the distribution has no mean (p x + q <= 1) and for other NULLs; 22023 for a negative amount or an x that is not a whole number from 0.';
CREATE OR REPLACE FUNCTION cdp.simple_clv(aov numeric, frequency numeric, years numeric, margin numeric) RETURNS numeric
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	RETURN aov * frequency * years * margin;
COMMENT ON FUNCTION cdp.simple_clv(numeric, numeric, numeric, numeric) IS 'Customer lifetime value by rule of thumb: average order value * orders per year * years as a customer * margin (0.3 is 30 %), nothing discounted. NULL in, NULL out.';

-- discrete time: BG/BB (Fader, Hardie, Shang 2010)
CREATE OR REPLACE FUNCTION cdp.p_alive(model cdp.bgbb_model, x float8, t_x float8, n float8, ahead int) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 50 AS 'MODULE_PATHNAME', 'cdp_bgbb_p_alive';
COMMENT ON FUNCTION cdp.p_alive(cdp.bgbb_model, float8, float8, float8, int) IS 'P(still a customer in period n + ahead) under BG/BB (Fader, Hardie, Shang 2010); x = periods with a purchase, t_x = number of the last of them, n = periods observed (at most 1000000). NULL in, NULL out; 22023 for what no customer can have and ahead outside 0 ... 1000000.';
CREATE OR REPLACE FUNCTION cdp.expected_purchases(model cdp.bgbb_model, x float8, t_x float8, n float8, horizon int) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 50 AS 'MODULE_PATHNAME', 'cdp_bgbb_expected_purchases';
COMMENT ON FUNCTION cdp.expected_purchases(cdp.bgbb_model, float8, float8, float8, int) IS 'Expected purchases in periods n + 1 ... n + horizon under BG/BB (Fader, Hardie, Shang 2010); x = periods with a purchase, t_x = number of the last of them, n = periods observed (at most 1000000). NULL in, NULL out; 22023 for what no customer can have and a horizon outside 0 ... 1000000.';
CREATE OR REPLACE FUNCTION cdp.dert(model cdp.bgbb_model, x float8, t_x float8, n float8, rate float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 500 AS 'MODULE_PATHNAME', 'cdp_bgbb_dert';
COMMENT ON FUNCTION cdp.dert(cdp.bgbb_model, float8, float8, float8, float8) IS 'Discounted expected residual transactions under BG/BB (Fader, Hardie, Shang 2010): a purchase in period n + i counts (1 + rate)^-i; x = periods with a purchase, t_x = number of the last of them, n = periods observed (at most 1000000). NULL in, NULL out; 22023 for what no customer can have and a rate that is not above 0.';

-- contracts: shifted-beta-geometric (Fader, Hardie 2007)
CREATE OR REPLACE FUNCTION cdp.survival(model cdp.sbg_model, t int) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_sbg_survival';
COMMENT ON FUNCTION cdp.survival(cdp.sbg_model, int) IS 'P(still a customer after t renewals) under sBG (Fader, Hardie 2007). NULL in, NULL out; 22023 for t outside 0 ... 1000000.';
CREATE OR REPLACE FUNCTION cdp.retention_rate(model cdp.sbg_model, t int) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_sbg_retention_rate';
COMMENT ON FUNCTION cdp.retention_rate(cdp.sbg_model, int) IS 'Share of the customers who are there after t - 1 renewals that renews the t-th time, under sBG (Fader, Hardie 2007): (beta + t - 1) / (alpha + beta + t - 1). NULL in, NULL out; 22023 for t outside 1 ... 1000000.';
CREATE OR REPLACE FUNCTION cdp.del(model cdp.sbg_model, rate float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 500 AS 'MODULE_PATHNAME', 'cdp_sbg_del';
COMMENT ON FUNCTION cdp.del(cdp.sbg_model, float8) IS 'Discounted expected lifetime of a new customer under sBG (Fader, Hardie 2010), in periods: the first counts 1, the one after i renewals (1 + rate)^-i. Times the net value of a period it is his lifetime value. NULL in, NULL out; 22023 for a rate that is not above 0.';
CREATE OR REPLACE FUNCTION cdp.derl(model cdp.sbg_model, rate float8, n int) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 500 AS 'MODULE_PATHNAME', 'cdp_sbg_derl';
COMMENT ON FUNCTION cdp.derl(cdp.sbg_model, float8, int) IS 'Discounted expected residual lifetime just before the n-th renewal under sBG (Fader, Hardie 2010), in periods: the period that this renewal would begin counts 1. NULL in, NULL out; 22023 for a rate that is not above 0, n outside 1 ... 1000000.';

-- where p_alive itself is 0
CREATE OR REPLACE FUNCTION cdp._log_p_alive(model cdp.bgnbd_model, x float8, t_x float8, t_cal float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_log_p_alive';
COMMENT ON FUNCTION cdp._log_p_alive(cdp.bgnbd_model, float8, float8, float8) IS 'internal: ln of cdp.p_alive, also where that is 0, for tests';
CREATE OR REPLACE FUNCTION cdp._log_p_alive(model cdp.paretonbd_model, x float8, t_x float8, t_cal float8) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_log_p_alive';
COMMENT ON FUNCTION cdp._log_p_alive(cdp.paretonbd_model, float8, float8, float8) IS 'internal: ln of cdp.p_alive, also where that is 0, for tests';

-- @access
('function', 'p_alive', 'EXECUTE', '{public}'),
('function', 'expected_purchases', 'EXECUTE', '{public}'),
('function', 'purchase_pmf', 'EXECUTE', '{public}'),
('function', 'p_purchase', 'EXECUTE', '{public}'),
('function', 'next_purchase', 'EXECUTE', '{public}'),
('function', 'dert', 'EXECUTE', '{public}'),
('function', 'clv', 'EXECUTE', '{public}'),
('function', 'clv_schedule', 'EXECUTE', '{public}'),
('function', 'expected_purchases_ci', 'EXECUTE', '{public}'),
('function', 'clv_ci', 'EXECUTE', '{public}'),
('function', 'simulate_purchases', 'EXECUTE', '{public}'),
('function', 'expected_amount', 'EXECUTE', '{public}'),
('function', 'simple_clv', 'EXECUTE', '{public}'),
('function', 'survival', 'EXECUTE', '{public}'),
('function', 'retention_rate', 'EXECUTE', '{public}'),
('function', 'del', 'EXECUTE', '{public}'),
('function', 'derl', 'EXECUTE', '{public}'),
