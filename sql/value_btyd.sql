-- value_btyd: purchases as the models of repeat buying want them: x, t_x, t_cal, mean amount, log gaps.
-- C: src/value_btyd.c, src/value_btyd_*.c  Page: doc/value_btyd.md  Tests: test/sql/value_btyd.sql, test/pgtap/value_btyd.sql

-- @type
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

-- @code
CREATE OR REPLACE FUNCTION cdp._btyd_accum(state cdp.btyd_state, occurred_at timestamptz, as_of timestamptz, unit interval) RETURNS cdp.btyd_state
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_btyd_accum_days';
COMMENT ON FUNCTION cdp._btyd_accum(cdp.btyd_state, timestamptz, timestamptz, interval) IS 'internal: one row into the state, in place; 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._btyd_accum(state cdp.btyd_state, occurred_at timestamptz, amount numeric, as_of timestamptz, unit interval) RETURNS cdp.btyd_state
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_btyd_accum';
COMMENT ON FUNCTION cdp._btyd_accum(cdp.btyd_state, timestamptz, numeric, timestamptz, interval) IS 'internal: one row with its amount into the state, in place; 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._btyd_accum(state cdp.btyd_state, occurred_at timestamptz, amount numeric, as_of timestamptz, unit interval, refunds text) RETURNS cdp.btyd_state
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_btyd_accum_refunds';
COMMENT ON FUNCTION cdp._btyd_accum(cdp.btyd_state, timestamptz, numeric, timestamptz, interval, text) IS 'internal: one row under a rule for refunds into the state, in place; 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._btyd_combine(a cdp.btyd_state, b cdp.btyd_state) RETURNS cdp.btyd_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_btyd_combine';
COMMENT ON FUNCTION cdp._btyd_combine(cdp.btyd_state, cdp.btyd_state) IS 'internal: b into a, in place; 22023 when their as_of, unit, rule or time zone differ, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._btyd_final(state cdp.btyd_state) RETURNS cdp.btyd
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_btyd_final';
COMMENT ON FUNCTION cdp._btyd_final(cdp.btyd_state) IS 'internal: result of cdp.btyd; NULL without a day of purchase';

CREATE OR REPLACE AGGREGATE cdp.btyd(occurred_at timestamptz, as_of timestamptz, unit interval) (
	SFUNC = cdp._btyd_accum, STYPE = cdp.btyd_state, SSPACE = 256, INITCOND = '()',
	COMBINEFUNC = cdp._btyd_combine, FINALFUNC = cdp._btyd_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.btyd(timestamptz, timestamptz, interval) IS 'Purchases of one customer as the models of repeat buying want them, without money: every row is a purchase, mean_amount is NULL. All else as cdp.btyd with amounts.';
CREATE OR REPLACE AGGREGATE cdp.btyd(occurred_at timestamptz, amount numeric, as_of timestamptz, unit interval) (
	SFUNC = cdp._btyd_accum, STYPE = cdp.btyd_state, SSPACE = 256, INITCOND = '()',
	COMBINEFUNC = cdp._btyd_combine, FINALFUNC = cdp._btyd_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.btyd(timestamptz, numeric, timestamptz, interval) IS 'Purchases of one customer as the models of repeat buying want them. Purchases of one calendar day of cdp.timezone are one: x = days with a purchase - 1, t_x = last - first day, t_cal = day of as_of - first day, both in units, mean_amount = money per day of the x later days, log_gaps = sum of ln of the x gaps in units. amount >= 0 is a purchase, amount < 0 does nothing; rows after as_of do not exist. unit: a whole number of days, such as 7 days. Rows come in any order. A row with a NULL is skipped; NULL without a purchase up to as_of. Amounts count to 8 decimals. Errors: 22023 for NaN, infinite or amounts from 10^20 on, infinite times, a unit with months, below a day or not of whole days, as_of or unit that differ within a group.';
CREATE OR REPLACE AGGREGATE cdp.btyd(occurred_at timestamptz, amount numeric, as_of timestamptz, unit interval, refunds text) (
	SFUNC = cdp._btyd_accum, STYPE = cdp.btyd_state, SSPACE = 256, INITCOND = '()',
	COMBINEFUNC = cdp._btyd_combine, FINALFUNC = cdp._btyd_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.btyd(timestamptz, numeric, timestamptz, interval, text) IS 'As cdp.btyd(occurred_at, amount, as_of, unit), with a rule for refunds: ignore, the default elsewhere, where amounts below 0 do nothing, or net_day, where a day counts when the sum of its amounts, refunds among them, is positive, and its money is that sum. Errors: besides those, 22023 for another rule and for rules that differ within a group.';

CREATE OR REPLACE FUNCTION cdp.btyd_table(as_of timestamptz DEFAULT NULL, purchases text DEFAULT NULL, unit interval DEFAULT '7 days',
	refunds text DEFAULT 'ignore', currency text DEFAULT NULL)
	RETURNS TABLE (customer_id bigint, x bigint, t_x float8, t_cal float8, mean_amount float8, log_gaps float8, first_at timestamptz, last_at timestamptz)
	LANGUAGE c STABLE PARALLEL UNSAFE COST 100000 ROWS 100000 AS 'MODULE_PATHNAME', 'cdp_btyd_table';
COMMENT ON FUNCTION cdp.btyd_table(timestamptz, text, interval, text, text) IS
'cdp.btyd of every customer with a purchase up to as_of, in one pass, with the times of his first and last purchase (of days that count).
as_of: NULL is cdp.now(). purchases: NULL is cdp.sales_order (paid, shipped, completed and refunded orders, by One ID), else the text of a query for (customer_id bigint, occurred_at timestamptz, amount numeric [, currency text]) that runs read-only with your rights; date and timestamp are read in cdp.timezone. unit: of t_x, t_cal and the gaps, a whole number of days. refunds: ignore, where negative amounts and the refunded part of orders do nothing, or net_day, where they are taken off and a day counts when its sum is positive. currency: NULL when there is only one; else all money is converted at the time of the purchase as cdp.convert_amount() does, not rounded.
An argument that is NULL means its default; rows with a NULL are skipped. Memory: about 13 bytes a purchase, from 1 GB on in temporary files. Errors: 22023 for arguments out of range, two currencies, a missing rate, NaN or infinite values; 42601, 42804, 0A000, 25006 and any other for a query that is not fit; 42501.';

-- @access
('function', 'btyd', 'EXECUTE', '{public}'),
('function', 'btyd_table', 'EXECUTE', '{reader}'),
