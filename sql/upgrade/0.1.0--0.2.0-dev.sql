-- 0.1.0 to 0.2.0: what one step needs beside the modules' own sections, see sql/assemble.sh.

-- @drop
-- cdp.rfm_table has one more column; it was made by cdp.migrate() and is now a member
DO $drop$
DECLARE
	users text;
BEGIN
	DROP VIEW IF EXISTS cdp.rfm_group_summary;
	DROP FUNCTION IF EXISTS cdp.rfm_table(timestamptz, text, text, int, interval[], numeric[], numeric[], text, interval, numeric, numeric, text, text, text, text);
	DROP FUNCTION IF EXISTS cdp._rfm_sales(cdp._rfm_options);
EXCEPTION WHEN dependent_objects_still_exist THEN
	GET STACKED DIAGNOSTICS users = PG_EXCEPTION_DETAIL;
	RAISE EXCEPTION 'objects of yours use cdp.rfm_table or cdp.rfm_group_summary, which have to be made anew'
		USING ERRCODE = 'dependent_objects_still_exist', DETAIL = users,
		      HINT = 'Note their definitions (pg_get_viewdef, pg_get_functiondef), drop them, update, and create them again.';
END $drop$;
DROP FUNCTION cdp._rfm_query(text, cdp._rfm_options);
DROP FUNCTION cdp._rfm_sql(text, boolean, boolean, cdp._rfm_options);
DROP FUNCTION cdp._rfm_check(cdp._rfm_options);
DROP FUNCTION cdp._rfm_check_cuts(text, anyarray, int);
DROP FUNCTION cdp._rfm_one_currency(text, text);
DROP TYPE cdp._rfm_options;

-- @type
COMMENT ON TYPE cdp._rfm_detail IS 'internal: all facts of one customer';
CREATE TYPE cdp.rfm_summary;
CREATE FUNCTION cdp._rfm_summary_in(cstring) RETURNS cdp.rfm_summary
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_summary_in';
CREATE FUNCTION cdp._rfm_summary_out(cdp.rfm_summary) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_summary_out';
CREATE FUNCTION cdp._rfm_summary_recv(internal) RETURNS cdp.rfm_summary
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_summary_recv';
CREATE FUNCTION cdp._rfm_summary_send(cdp.rfm_summary) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_summary_send';
CREATE TYPE cdp.rfm_summary (INPUT = cdp._rfm_summary_in, OUTPUT = cdp._rfm_summary_out,
	RECEIVE = cdp._rfm_summary_recv, SEND = cdp._rfm_summary_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = external);
COMMENT ON TYPE cdp.rfm_summary IS 'State behind cdp.rfm_table: what is known of every customer, packed, about 25 bytes each; at most 25 million customers and 1 GB. Text: () before the first row, otherwise \x and hexadecimal digits. Equal rows give equal bytes, whatever their order.';
COMMENT ON FUNCTION cdp._rfm_summary_in(cstring) IS 'internal: text form of cdp.rfm_summary; 22P02 when it is not sound';
COMMENT ON FUNCTION cdp._rfm_summary_out(cdp.rfm_summary) IS 'internal: text form of cdp.rfm_summary; 54000 above 1 GB of text';
COMMENT ON FUNCTION cdp._rfm_summary_recv(internal) IS 'internal: binary form of cdp.rfm_summary; 22P03 when it is not sound';
COMMENT ON FUNCTION cdp._rfm_summary_send(cdp.rfm_summary) IS 'internal: binary form of cdp.rfm_summary, see src/value_rfm_flat.c';

CREATE TYPE cdp.btyd AS (x bigint, t_x float8, t_cal float8, mean_amount float8, log_gaps float8);
COMMENT ON TYPE cdp.btyd IS 'One customer as the models of repeat buying see him. Purchases of one calendar day of cdp.timezone are one; times are in units and counted from the first purchase.';
COMMENT ON COLUMN cdp.btyd.x IS 'repeat purchases: days with a purchase less 1';
COMMENT ON COLUMN cdp.btyd.t_x IS 'recency: time from the first to the last purchase; 0 when x = 0';
COMMENT ON COLUMN cdp.btyd.t_cal IS 'time from the first purchase to as_of';
COMMENT ON COLUMN cdp.btyd.mean_amount IS 'money per repeat purchase, the first day''s left out; NULL when x = 0 or without amounts';
COMMENT ON COLUMN cdp.btyd.log_gaps IS 'sum of the logarithms of the x gaps between purchases; 0 when x = 0';

CREATE TYPE cdp.btyd_state;
CREATE FUNCTION cdp._btyd_state_in(cstring) RETURNS cdp.btyd_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_btyd_state_in';
CREATE FUNCTION cdp._btyd_state_out(cdp.btyd_state) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_btyd_state_out';
CREATE FUNCTION cdp._btyd_state_recv(internal) RETURNS cdp.btyd_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_btyd_state_recv';
CREATE FUNCTION cdp._btyd_state_send(cdp.btyd_state) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_btyd_state_send';
CREATE TYPE cdp.btyd_state (INPUT = cdp._btyd_state_in, OUTPUT = cdp._btyd_state_out,
	RECEIVE = cdp._btyd_state_recv, SEND = cdp._btyd_state_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = extended);
COMMENT ON TYPE cdp.btyd_state IS 'State of the aggregate cdp.btyd: the days of purchase, written (as_of,date,unit,rule)(date,money,purchase)...; as_of in microseconds since 2000-01-01 UTC, dates in days since then, money in 10^-8; () is the state before the first row. Partial results of it combine exactly. 22P02 for malformed text.';
COMMENT ON FUNCTION cdp._btyd_state_in(cstring) IS 'internal: text form of cdp.btyd_state; 22P02 when it is not a sound state';
COMMENT ON FUNCTION cdp._btyd_state_out(cdp.btyd_state) IS 'internal: text form of cdp.btyd_state';
COMMENT ON FUNCTION cdp._btyd_state_recv(internal) IS 'internal: binary form of cdp.btyd_state; 22P03 when it is not a sound state';
COMMENT ON FUNCTION cdp._btyd_state_send(cdp.btyd_state) IS 'internal: binary form of cdp.btyd_state';

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

CREATE TYPE cdp.product_affinity AS (product_id text, customers bigint, lift float8);
COMMENT ON TYPE cdp.product_affinity IS 'A product that goes with another one: what cdp.also_bought answers.';
COMMENT ON COLUMN cdp.product_affinity.product_id IS 'the product';
COMMENT ON COLUMN cdp.product_affinity.customers IS 'who bought both, each once';
COMMENT ON COLUMN cdp.product_affinity.lift IS 'how much more often than by chance; 1 is chance';

CREATE TYPE cdp.audience;
CREATE FUNCTION cdp._audience_in(cstring) RETURNS cdp.audience
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_audience_in';
CREATE FUNCTION cdp._audience_out(cdp.audience) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_audience_out';
CREATE FUNCTION cdp._audience_recv(internal) RETURNS cdp.audience
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_audience_recv';
CREATE FUNCTION cdp._audience_send(cdp.audience) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_audience_send';
-- external: containers are in their shortest form already, pglz takes time and hardly any byte off; and what is not
-- compressed can be read in parts
CREATE TYPE cdp.audience (INPUT = cdp._audience_in, OUTPUT = cdp._audience_out,
	RECEIVE = cdp._audience_recv, SEND = cdp._audience_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = external);
COMMENT ON TYPE cdp.audience IS 'A set of ids from 0 to 2^63 - 1, packed (about a bit per id and less where ids are dense), written {1-5,9}: ids and ranges in any order, overlaps are fine; printed ascending, each id once. Equal sets are equal values. Errors: 22P02 for malformed text, 22003 for ids out of range, 54000 beyond 1 GB.';
COMMENT ON FUNCTION cdp._audience_in(cstring) IS 'internal: text form of cdp.audience; 22P02, 22003, 54000';
COMMENT ON FUNCTION cdp._audience_out(cdp.audience) IS 'internal: text form of cdp.audience';
COMMENT ON FUNCTION cdp._audience_recv(internal) IS 'internal: binary form of cdp.audience, a byte 1 and the portable 64-bit Roaring format; 22P03 when it is not sound';
COMMENT ON FUNCTION cdp._audience_send(cdp.audience) IS 'internal: binary form of cdp.audience';

CREATE TYPE cdp.tagset;
CREATE FUNCTION cdp._tagset_in(cstring) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_in';
CREATE FUNCTION cdp._tagset_out(cdp.tagset) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_out';
CREATE FUNCTION cdp._tagset_recv(internal) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_recv';
CREATE FUNCTION cdp._tagset_send(cdp.tagset) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_send';
CREATE FUNCTION cdp._tagset_typanalyze(internal) RETURNS boolean
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_typanalyze';
CREATE TYPE cdp.tagset (INPUT = cdp._tagset_in, OUTPUT = cdp._tagset_out,
	RECEIVE = cdp._tagset_recv, SEND = cdp._tagset_send, ANALYZE = cdp._tagset_typanalyze,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = extended);
COMMENT ON TYPE cdp.tagset IS 'What is known of a customer: entries name, name=value or name=value@valid_until with commas between them, such as vip, region.华东.上海, aov=1280.5, churn_risk=0.83@2026-12-31. A value is a number, a date or a text; levels of a name are parted by dots. Sorted by name, each name once: equal sets are equal bytes.';
COMMENT ON FUNCTION cdp._tagset_in(cstring) IS 'internal: text form of cdp.tagset. Errors: 22P02 with the position, 22003 for a number of more than 15 significant digits or out of range, 54000 above 4096 entries, 255 bytes or 16 levels';
COMMENT ON FUNCTION cdp._tagset_out(cdp.tagset) IS 'internal: canonical text form of cdp.tagset';
COMMENT ON FUNCTION cdp._tagset_recv(internal) IS 'internal: binary form of cdp.tagset; 22P03 when it is damaged';
COMMENT ON FUNCTION cdp._tagset_send(cdp.tagset) IS 'internal: binary form of cdp.tagset, see doc/tag.md';
COMMENT ON FUNCTION cdp._tagset_typanalyze(internal) IS 'internal: what ANALYZE keeps of a tagset column';

CREATE TYPE cdp.tagquery;
CREATE FUNCTION cdp._tagquery_in(cstring) RETURNS cdp.tagquery
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_in';
CREATE FUNCTION cdp._tagquery_out(cdp.tagquery) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_out';
CREATE FUNCTION cdp._tagquery_recv(internal) RETURNS cdp.tagquery
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_recv';
CREATE FUNCTION cdp._tagquery_send(cdp.tagquery) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_send';
CREATE TYPE cdp.tagquery (INPUT = cdp._tagquery_in, OUTPUT = cdp._tagquery_out,
	RECEIVE = cdp._tagquery_recv, SEND = cdp._tagquery_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = extended);
COMMENT ON TYPE cdp.tagquery IS 'A question about tags, such as region.华东.* & (aov > 1000 | 高价值) & !churned. Terms: name (has the tag), name.* (it or any below), name = value with = != < <= > >=, name in (value, value), segment(name), * (everyone); signs in the order they bind: ! (not), & (and), | (or), parentheses. Values: number, date, text, and dates told from the time of evaluation in UTC: now, now-30d, now+2w, now-3mo, now-1y, now-12h. A term is true or false: false where the tag is missing, has expired or has a value of another kind; ! is the complement. At most 64 KiB of text, 4096 terms, 256 levels. Errors: 22P02 with position and hint, 22003, 54000, 54001. Binary form: a byte 1 and the text.';
COMMENT ON FUNCTION cdp._tagquery_in(cstring) IS 'internal: text form of cdp.tagquery; 22P02 with position and hint, 22003 for numbers, 54000 and 54001 above the limits';
COMMENT ON FUNCTION cdp._tagquery_out(cdp.tagquery) IS 'internal: canonical text form of cdp.tagquery';
COMMENT ON FUNCTION cdp._tagquery_recv(internal) IS 'internal: binary form of cdp.tagquery; 22P03 when it is not one';
COMMENT ON FUNCTION cdp._tagquery_send(cdp.tagquery) IS 'internal: binary form of cdp.tagquery';

-- @bind
CREATE OPERATOR cdp.& (FUNCTION = cdp._audience_and, LEFTARG = cdp.audience, RIGHTARG = cdp.audience, COMMUTATOR = OPERATOR(cdp.&));
COMMENT ON OPERATOR cdp.& (cdp.audience, cdp.audience) IS 'ids that are in both';
CREATE OPERATOR cdp.| (FUNCTION = cdp._audience_or, LEFTARG = cdp.audience, RIGHTARG = cdp.audience, COMMUTATOR = OPERATOR(cdp.|));
COMMENT ON OPERATOR cdp.| (cdp.audience, cdp.audience) IS 'ids that are in one of them or in both';
CREATE OPERATOR cdp.- (FUNCTION = cdp._audience_minus, LEFTARG = cdp.audience, RIGHTARG = cdp.audience);
COMMENT ON OPERATOR cdp.- (cdp.audience, cdp.audience) IS 'ids of the left one that are not in the right one';
CREATE OPERATOR cdp.# (FUNCTION = cdp._audience_xor, LEFTARG = cdp.audience, RIGHTARG = cdp.audience, COMMUTATOR = OPERATOR(cdp.#));
COMMENT ON OPERATOR cdp.# (cdp.audience, cdp.audience) IS 'ids that are in one of them only';
CREATE OPERATOR cdp.&& (FUNCTION = cdp._audience_overlaps, LEFTARG = cdp.audience, RIGHTARG = cdp.audience, COMMUTATOR = OPERATOR(cdp.&&),
	RESTRICT = contsel, JOIN = contjoinsel);
COMMENT ON OPERATOR cdp.&& (cdp.audience, cdp.audience) IS 'have they an id in common?';
CREATE OPERATOR cdp.@> (FUNCTION = cdp._audience_contains, LEFTARG = cdp.audience, RIGHTARG = bigint, COMMUTATOR = OPERATOR(cdp.<@),
	RESTRICT = contsel, JOIN = contjoinsel);
COMMENT ON OPERATOR cdp.@> (cdp.audience, bigint) IS 'is the id in the audience?';
CREATE OPERATOR cdp.<@ (FUNCTION = cdp._audience_contained, LEFTARG = bigint, RIGHTARG = cdp.audience, COMMUTATOR = OPERATOR(cdp.@>),
	RESTRICT = contsel, JOIN = contjoinsel);
COMMENT ON OPERATOR cdp.<@ (bigint, cdp.audience) IS 'is the id in the audience?';
CREATE OPERATOR cdp.= (FUNCTION = cdp._audience_eq, LEFTARG = cdp.audience, RIGHTARG = cdp.audience, COMMUTATOR = OPERATOR(cdp.=), NEGATOR = OPERATOR(cdp.<>),
	RESTRICT = eqsel, JOIN = eqjoinsel, HASHES);
COMMENT ON OPERATOR cdp.= (cdp.audience, cdp.audience) IS 'the same ids?';
CREATE OPERATOR cdp.<> (FUNCTION = cdp._audience_ne, LEFTARG = cdp.audience, RIGHTARG = cdp.audience, COMMUTATOR = OPERATOR(cdp.<>), NEGATOR = OPERATOR(cdp.=),
	RESTRICT = neqsel, JOIN = neqjoinsel);
COMMENT ON OPERATOR cdp.<> (cdp.audience, cdp.audience) IS 'other ids?';
CREATE OPERATOR CLASS cdp.audience_hash_ops DEFAULT FOR TYPE cdp.audience USING hash AS
	OPERATOR 1 cdp.=, FUNCTION 1 cdp._audience_hash(cdp.audience), FUNCTION 2 cdp._audience_hash_extended(cdp.audience, bigint);
COMMENT ON OPERATOR CLASS cdp.audience_hash_ops USING hash IS 'equality of audiences: GROUP BY, DISTINCT, hash joins';
COMMENT ON OPERATOR FAMILY cdp.audience_hash_ops USING hash IS 'equality of audiences';

CREATE CAST (bigint[] AS cdp.audience) WITH FUNCTION cdp._audience_from_array(bigint[]) AS ASSIGNMENT;
COMMENT ON CAST (bigint[] AS cdp.audience) IS 'the set of the ids of an array';
CREATE CAST (cdp.audience AS bigint[]) WITH FUNCTION cdp._audience_to_array(cdp.audience);
COMMENT ON CAST (cdp.audience AS bigint[]) IS 'ids ascending';
CREATE CAST (bytea AS cdp.audience) WITH FUNCTION cdp._audience_from_roaring(bytea);
COMMENT ON CAST (bytea AS cdp.audience) IS 'portable 32-bit Roaring format';
CREATE CAST (cdp.audience AS bytea) WITH FUNCTION cdp._audience_to_roaring(cdp.audience);
COMMENT ON CAST (cdp.audience AS bytea) IS 'portable 32-bit Roaring format; ids below 2^32 only';

CREATE OPERATOR cdp.= (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_eq,
	COMMUTATOR = OPERATOR(cdp.=), NEGATOR = OPERATOR(cdp.<>), RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES);
CREATE OPERATOR cdp.<> (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_ne,
	COMMUTATOR = OPERATOR(cdp.<>), NEGATOR = OPERATOR(cdp.=), RESTRICT = neqsel, JOIN = neqjoinsel);
CREATE OPERATOR cdp.< (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_lt,
	COMMUTATOR = OPERATOR(cdp.>), NEGATOR = OPERATOR(cdp.>=), RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
CREATE OPERATOR cdp.<= (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_le,
	COMMUTATOR = OPERATOR(cdp.>=), NEGATOR = OPERATOR(cdp.>), RESTRICT = scalarlesel, JOIN = scalarlejoinsel);
CREATE OPERATOR cdp.> (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_gt,
	COMMUTATOR = OPERATOR(cdp.<), NEGATOR = OPERATOR(cdp.<=), RESTRICT = scalargtsel, JOIN = scalargtjoinsel);
CREATE OPERATOR cdp.>= (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_ge,
	COMMUTATOR = OPERATOR(cdp.<=), NEGATOR = OPERATOR(cdp.<), RESTRICT = scalargesel, JOIN = scalargejoinsel);
CREATE OPERATOR cdp.+ (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_add);
CREATE OPERATOR cdp.- (LEFTARG = cdp.tagset, RIGHTARG = text[], FUNCTION = cdp._tagset_remove);
COMMENT ON OPERATOR cdp.= (cdp.tagset, cdp.tagset) IS 'the same entries';
COMMENT ON OPERATOR cdp.<> (cdp.tagset, cdp.tagset) IS 'not the same entries';
COMMENT ON OPERATOR cdp.< (cdp.tagset, cdp.tagset) IS 'comes before, in the order of the btree class';
COMMENT ON OPERATOR cdp.<= (cdp.tagset, cdp.tagset) IS 'equal or before, in the order of the btree class';
COMMENT ON OPERATOR cdp.> (cdp.tagset, cdp.tagset) IS 'comes behind, in the order of the btree class';
COMMENT ON OPERATOR cdp.>= (cdp.tagset, cdp.tagset) IS 'equal or behind, in the order of the btree class';
COMMENT ON OPERATOR cdp.+ (cdp.tagset, cdp.tagset) IS 'entries of both; of a name that is in both, the entry of the right one';
COMMENT ON OPERATOR cdp.- (cdp.tagset, text[]) IS 'without these names (raw); region.* stands for region and everything below';
CREATE OPERATOR CLASS cdp.tagset_btree_ops DEFAULT FOR TYPE cdp.tagset USING btree AS
	OPERATOR 1 cdp.<, OPERATOR 2 cdp.<=, OPERATOR 3 cdp.=, OPERATOR 4 cdp.>=, OPERATOR 5 cdp.>,
	FUNCTION 1 cdp._tagset_cmp(cdp.tagset, cdp.tagset);
CREATE OPERATOR CLASS cdp.tagset_hash_ops DEFAULT FOR TYPE cdp.tagset USING hash AS
	OPERATOR 1 cdp.=, FUNCTION 1 cdp._tagset_hash(cdp.tagset), FUNCTION 2 cdp._tagset_hash_extended(cdp.tagset, bigint);
CREATE CAST (cdp.tagset AS jsonb) WITH FUNCTION cdp.tagset_to_jsonb(cdp.tagset);
CREATE CAST (jsonb AS cdp.tagset) WITH FUNCTION cdp.tagset_from_jsonb(jsonb);

CREATE OPERATOR cdp.@@ (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagset_query, COMMUTATOR = OPERATOR(cdp.@@),
	RESTRICT = cdp._tagset_sel, JOIN = cdp._tagset_joinsel);
COMMENT ON OPERATOR cdp.@@(cdp.tagset, cdp.tagquery) IS 'does the query hold for these tags now (cdp.now())? 0A000 when it asks for a segment';
CREATE OPERATOR cdp.@@ (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagset, FUNCTION = cdp._query_tagset, COMMUTATOR = OPERATOR(cdp.@@),
	RESTRICT = cdp._tagset_sel, JOIN = cdp._tagset_joinsel);
COMMENT ON OPERATOR cdp.@@(cdp.tagquery, cdp.tagset) IS 'does the query hold for these tags now (cdp.now())? 0A000 when it asks for a segment';
CREATE OPERATOR cdp.& (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_and);
COMMENT ON OPERATOR cdp.&(cdp.tagquery, cdp.tagquery) IS 'both hold; 54000, 54001 above the limits of a query';
CREATE OPERATOR cdp.| (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_or);
COMMENT ON OPERATOR cdp.|(cdp.tagquery, cdp.tagquery) IS 'one of them holds, or both; 54000, 54001 above the limits of a query';
CREATE OPERATOR cdp.! (RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_not);
COMMENT ON OPERATOR cdp.!(NONE, cdp.tagquery) IS 'it does not hold; 54000, 54001 above the limits of a query';
CREATE OPERATOR cdp.= (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_eq, COMMUTATOR = OPERATOR(cdp.=),
	NEGATOR = OPERATOR(cdp.<>), RESTRICT = pg_catalog.eqsel, JOIN = pg_catalog.eqjoinsel, HASHES);
COMMENT ON OPERATOR cdp.=(cdp.tagquery, cdp.tagquery) IS 'equal: the same text, not the same meaning (a & b is not b & a)';
CREATE OPERATOR cdp.<> (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_ne, COMMUTATOR = OPERATOR(cdp.<>),
	NEGATOR = OPERATOR(cdp.=), RESTRICT = pg_catalog.neqsel, JOIN = pg_catalog.neqjoinsel);
COMMENT ON OPERATOR cdp.<>(cdp.tagquery, cdp.tagquery) IS 'not equal';
CREATE OPERATOR CLASS cdp.tagquery_hash_ops DEFAULT FOR TYPE cdp.tagquery USING hash AS
	OPERATOR 1 cdp.=, FUNCTION 1 cdp._tagquery_hash(cdp.tagquery), FUNCTION 2 cdp._tagquery_hash_extended(cdp.tagquery, bigint);

CREATE OPERATOR CLASS cdp.tagset_ops DEFAULT FOR TYPE cdp.tagset USING gin AS
	OPERATOR 1 cdp.@@ (cdp.tagset, cdp.tagquery),
	FUNCTION 2 cdp._tagset_gin_extract(cdp.tagset, internal),
	FUNCTION 3 cdp._tagset_gin_extract_query(cdp.tagset, internal, int2, internal, internal, internal, internal),
	FUNCTION 6 cdp._tagset_gin_consistent(internal, int2, cdp.tagset, int4, internal, internal, internal),
	STORAGE bytea;
COMMENT ON OPERATOR CLASS cdp.tagset_ops USING gin IS 'tags @@ query: names, prefixes and text values come from the index alone; comparisons, negations and entries that expire are looked up in the row';

-- @data
-- 0.1.0 had evidence for identifiers of different profiles only; what is in one profile was seen together, too
INSERT INTO cdp.identity_link (identifier_a, identifier_b, rule, source, occurred_at)
	SELECT a.identifier_id, b.identifier_id, CASE WHEN (ka.priority, a.kind, a.value) < (kb.priority, b.kind, b.value)
			THEN a.kind || '+' || b.kind ELSE b.kind || '+' || a.kind END, b.source, greatest(a.first_seen, b.first_seen)
	FROM cdp.identifier a JOIN cdp.identifier b ON b.profile_id = a.profile_id AND b.identifier_id > a.identifier_id
	JOIN cdp.identifier_kind ka ON ka.kind = a.kind JOIN cdp.identifier_kind kb ON kb.kind = b.kind
	WHERE a.valid_to IS NULL AND b.valid_to IS NULL
	ON CONFLICT DO NOTHING;
-- made again without the refused pairs
DROP INDEX IF EXISTS cdp.identity_link_live;
ALTER TABLE cdp.merge_refusal SET (fillfactor = 70);
-- values that mean nothing: for the kinds that have no such rule of their own
ALTER TABLE cdp.identifier_kind ALTER COLUMN blocked_pattern SET DEFAULT '^[-:. ]*0[-:. ]*0[-:. 0]*$',
	ALTER COLUMN blocked_values SET DEFAULT '{-1,"null",undefined,none,unknown,anonymous,test,n/a,无,未知}';
UPDATE cdp.identifier_kind SET blocked_pattern = DEFAULT, blocked_values = DEFAULT WHERE blocked_pattern IS NULL AND blocked_values = '{}';
