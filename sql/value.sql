-- value: what a customer is worth.
-- C: src/value.c, src/value_state.c, src/value_query.c  Page: doc/value.md  Tests: test/sql/value.sql, test/pgtap/value.sql
-- cdp.rfm_table, for all customers at once, stands in sql/value_rfm.sql.

-- @type
CREATE TYPE cdp.rfm AS (recency interval, frequency bigint, monetary numeric);
COMMENT ON TYPE cdp.rfm IS 'One customer in three numbers: recency = as_of minus last purchase, frequency = number of purchases, monetary = money spent less refunds.';
COMMENT ON COLUMN cdp.rfm.recency IS 'as_of minus the time of the last purchase';
COMMENT ON COLUMN cdp.rfm.frequency IS 'number of purchases; refunds are no purchases';
COMMENT ON COLUMN cdp.rfm.monetary IS 'sum of purchases less refunds, exact';

CREATE TYPE cdp._rfm_detail AS (first_at timestamptz, last_at timestamptz, frequency bigint, gross numeric, refunded numeric, net numeric);
COMMENT ON TYPE cdp._rfm_detail IS 'internal: all facts of one customer';

CREATE TYPE cdp.rfm_state;
CREATE FUNCTION cdp._rfm_state_in(cstring) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_state_in';
CREATE FUNCTION cdp._rfm_state_out(cdp.rfm_state) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_state_out';
CREATE FUNCTION cdp._rfm_state_recv(internal) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_state_recv';
CREATE FUNCTION cdp._rfm_state_send(cdp.rfm_state) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_state_send';
CREATE TYPE cdp.rfm_state (INPUT = cdp._rfm_state_in, OUTPUT = cdp._rfm_state_out,
	RECEIVE = cdp._rfm_state_recv, SEND = cdp._rfm_state_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = extended);
COMMENT ON TYPE cdp.rfm_state IS 'State of the aggregate cdp.rfm, written (as_of,first_at,last_at,purchases,gross,refunded) with times in microseconds since 2000-01-01 UTC; () is the state before the first row. Partial results of it combine exactly.';
COMMENT ON FUNCTION cdp._rfm_state_in(cstring) IS 'internal: text form of cdp.rfm_state; 22P02 when it is not a sound state';
COMMENT ON FUNCTION cdp._rfm_state_out(cdp.rfm_state) IS 'internal: text form of cdp.rfm_state';
COMMENT ON FUNCTION cdp._rfm_state_recv(internal) IS 'internal: binary form of cdp.rfm_state; 22P03 when it is not a sound state';
COMMENT ON FUNCTION cdp._rfm_state_send(cdp.rfm_state) IS 'internal: binary form of cdp.rfm_state';

-- @code
CREATE OR REPLACE FUNCTION cdp._rfm_accum(state cdp.rfm_state, occurred_at timestamptz, amount numeric, as_of timestamptz) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_accum_numeric';
COMMENT ON FUNCTION cdp._rfm_accum(cdp.rfm_state, timestamptz, numeric, timestamptz) IS 'internal: one row into the state, in place; 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._rfm_accum(state cdp.rfm_state, occurred_at timestamptz, amount bigint, as_of timestamptz) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_accum_bigint';
COMMENT ON FUNCTION cdp._rfm_accum(cdp.rfm_state, timestamptz, bigint, timestamptz) IS 'internal: one row into the state, in place; 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._rfm_accum(state cdp.rfm_state, occurred_at timestamptz, amount float8, as_of timestamptz) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_accum_float8';
COMMENT ON FUNCTION cdp._rfm_accum(cdp.rfm_state, timestamptz, float8, timestamptz) IS 'internal: one row into the state, in place; 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._rfm_accum(state cdp.rfm_state, occurred_at timestamptz, amount numeric, as_of timestamptz, refunded numeric) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_accum_order';
COMMENT ON FUNCTION cdp._rfm_accum(cdp.rfm_state, timestamptz, numeric, timestamptz, numeric) IS 'internal: one order with its refunded part into the state, in place; 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._rfm_combine(a cdp.rfm_state, b cdp.rfm_state) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_combine';
COMMENT ON FUNCTION cdp._rfm_combine(cdp.rfm_state, cdp.rfm_state) IS 'internal: b into a, in place; 22023 when their as_of differ, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._rfm_final(state cdp.rfm_state) RETURNS cdp.rfm
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_final';
COMMENT ON FUNCTION cdp._rfm_final(cdp.rfm_state) IS 'internal: result of cdp.rfm; NULL without a purchase';
CREATE OR REPLACE FUNCTION cdp._rfm_detail_final(state cdp.rfm_state) RETURNS cdp._rfm_detail
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_detail_final';
COMMENT ON FUNCTION cdp._rfm_detail_final(cdp.rfm_state) IS 'internal: all facts of the state; NULL without a purchase';

CREATE OR REPLACE AGGREGATE cdp.rfm(occurred_at timestamptz, amount numeric, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm(timestamptz, numeric, timestamptz) IS 'Recency, frequency and money of one customer: amount >= 0 is a purchase, amount < 0 a refund, which lowers the money and is no purchase; rows after as_of do not exist. Exact. A row with a NULL is skipped; NULL without a purchase. Errors: 22023 for NaN or infinite amounts, infinite times, as_of that is infinite or differs within a group; 22008 for a recency beyond 290,000 years.';
CREATE OR REPLACE AGGREGATE cdp.rfm(occurred_at timestamptz, amount bigint, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm(timestamptz, bigint, timestamptz) IS 'Recency, frequency and money of one customer, of whole amounts (say cents: the money comes back in the same unit). All else as cdp.rfm with numeric amounts.';
CREATE OR REPLACE AGGREGATE cdp.rfm(occurred_at timestamptz, amount float8, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm(timestamptz, float8, timestamptz) IS 'Recency, frequency and money of one customer; each amount counts as its cast to numeric, so 0.1 is 0.1 and the sum does not depend on the order of the rows. All else as cdp.rfm with numeric amounts.';

CREATE OR REPLACE AGGREGATE cdp.rfm_partial(occurred_at timestamptz, amount numeric, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm_partial(timestamptz, numeric, timestamptz) IS 'As cdp.rfm, but answers the state, to be kept (per month, per shard) and put together by cdp.rfm_combine. Never NULL.';
CREATE OR REPLACE AGGREGATE cdp.rfm_combine(state cdp.rfm_state) (
	SFUNC = cdp._rfm_combine, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm_combine(cdp.rfm_state) IS 'The cdp.rfm of all rows behind several states: what cdp.rfm says of the rows themselves. NULL states are skipped; NULL without a purchase. Errors: 22023 when the states have different as_of.';

CREATE OR REPLACE AGGREGATE cdp._rfm_detail(occurred_at timestamptz, amount numeric, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_detail_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp._rfm_detail(timestamptz, numeric, timestamptz) IS 'internal: as cdp.rfm, with all facts of the state';
CREATE OR REPLACE AGGREGATE cdp._rfm_detail(occurred_at timestamptz, amount numeric, as_of timestamptz, refunded numeric) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_detail_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp._rfm_detail(timestamptz, numeric, timestamptz, numeric) IS 'internal: as cdp.rfm over orders that know their refunds, with all facts of the state';

CREATE OR REPLACE FUNCTION cdp._as_of(as_of timestamptz) RETURNS timestamptz
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_as_of';
COMMENT ON FUNCTION cdp._as_of(timestamptz) IS 'internal: the moment that an argument as_of means, cdp.now() for NULL; 22023 when it is infinite';

CREATE OR REPLACE FUNCTION cdp._is_purchase(status text) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN status IN ('paid', 'shipped', 'completed', 'refunded');
COMMENT ON FUNCTION cdp._is_purchase(text) IS 'internal: whether an order of this status is a purchase, wherever purchases are counted; NULL for NULL';

CREATE OR REPLACE FUNCTION cdp._orders_query() RETURNS text
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_orders_query';
COMMENT ON FUNCTION cdp._orders_query() IS 'internal: the query for the orders of the CDP as purchases, by One ID: customer_id, occurred_at, amount, refunded, currency';
CREATE OR REPLACE FUNCTION cdp._purchases_query(query text) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_purchases_query';
COMMENT ON FUNCTION cdp._purchases_query(text) IS 'internal: a query for purchases, looked up in the caller''s search_path, checked, and printed so that it needs none; columns customer_id, occurred_at, amount and, when it has four, currency. Errors: 42601, 42804 and 0A000 with a hint, and those of the query itself.';

-- @access
('function', 'rfm', 'EXECUTE', '{public}'),
('function', 'rfm_partial', 'EXECUTE', '{public}'),
('function', 'rfm_combine', 'EXECUTE', '{public}'),
('function', '_rfm_detail', 'EXECUTE', '{reader}'),
('function', '_local_to_utc', 'EXECUTE', '{reader}'),
('function', '_purchases_query', 'EXECUTE', '{reader}'),
('function', '_orders_query', 'EXECUTE', '{reader}'),
('function', '_as_of', 'EXECUTE', '{reader}'),
('function', '_is_purchase', 'EXECUTE', '{reader}'),
