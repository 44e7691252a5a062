-- event_condition: who did something, how often, since when.
-- C: src/event_condition.c  Page: doc/event_condition.md  Tests: test/sql/event_condition.sql, test/pgtap/event_condition.sql
--
-- find_customers_who() and find_buyers() are one SELECT each and are inlined into the query that calls them: it runs
-- with the caller's rights, in one plan with the rest.

-- @code
CREATE OR REPLACE FUNCTION cdp._condition_key(what text, key text, within interval, at_least int) RETURNS text
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_condition_key';
COMMENT ON FUNCTION cdp._condition_key(text, text, interval, int) IS 'internal: the key as it is, once the arguments of an event condition are sound. what: how messages call the key. Errors: 22004, 22023';

CREATE OR REPLACE FUNCTION cdp._condition_start(what text, key text, within interval, at_least int, at timestamptz) RETURNS timestamptz
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_condition_start';
COMMENT ON FUNCTION cdp._condition_start(text, text, interval, int, timestamptz) IS 'internal: the moment after which the window of an event condition begins: within before at (NULL: cdp.now()), months and days in cdp.timezone; -infinity for within NULL. Errors: as _condition_key(), 55000';

CREATE OR REPLACE FUNCTION cdp._order_stands(status text, amount numeric, refunded numeric) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN status NOT IN ('cancelled', 'refunded') AND NOT (refunded > 0 AND refunded >= amount);
COMMENT ON FUNCTION cdp._order_stands(text, numeric, numeric) IS 'internal: whether anything is left of an order: it is neither cancelled nor refunded in full';

-- @access
('function', 'did', 'EXECUTE', '{reader}'),
('function', 'find_customers_who', 'EXECUTE', '{reader}'),
('function', 'find_buyers', 'EXECUTE', '{reader}'),
('function', '_condition_key', 'EXECUTE', '{reader}'),
('function', '_condition_start', 'EXECUTE', '{reader}'),
('function', '_order_stands', 'EXECUTE', '{reader}'),

-- @data
CREATE INDEX IF NOT EXISTS sales_order_line_product_id ON cdp.sales_order_line (product_id);

-- @view
CREATE OR REPLACE FUNCTION cdp.find_customers_who(event text, within interval DEFAULT NULL, at_least int DEFAULT 1,
	matching jsonb DEFAULT NULL, at timestamptz DEFAULT NULL) RETURNS SETOF bigint
	LANGUAGE sql STABLE PARALLEL SAFE COST 100000 ROWS 10000
BEGIN ATOMIC
	SELECT cdp.customer_id(e.profile_id) FROM cdp.event e
	WHERE e.name = cdp._condition_key('event', find_customers_who.event, within, at_least)
	  AND e.occurred_at > cdp._condition_start('event', find_customers_who.event, within, at_least, at)
	  AND e.occurred_at <= coalesce(at, cdp.now())
	  AND (matching IS NULL OR e.properties @> matching)
	GROUP BY 1 HAVING count(*) >= at_least;
END;
COMMENT ON FUNCTION cdp.find_customers_who(text, interval, int, jsonb, timestamptz) IS 'The customers (One IDs, each once, in no order) who did something at least so many times in the window (at - within, at]; events of all their profiles count together. event: its name, exactly; one that nobody ever did finds nobody. within: how far back, NULL is ever; months and days are those of the calendar in cdp.timezone. at_least: 1 or more. matching: properties that the event must contain (@>), NULL is any. at: NULL is cdp.now(). Inlined into a FROM clause: it reads the partitions of the window only. Needs SELECT on cdp.event (kind reader). Errors: 22004 event or at_least NULL, 22023 at_least below 1, within negative, at infinite, 55000.';

CREATE OR REPLACE FUNCTION cdp.find_buyers(product_id text, within interval DEFAULT NULL, at_least int DEFAULT 1,
	at timestamptz DEFAULT NULL) RETURNS SETOF bigint
	LANGUAGE sql STABLE PARALLEL SAFE COST 100000 ROWS 10000
BEGIN ATOMIC
	-- a product may stand on several lines of an order, and orders are counted
	SELECT cdp.customer_id(o.profile_id) FROM cdp.sales_order o
	WHERE o.order_id IN (SELECT l.order_id FROM cdp.sales_order_line l
			WHERE l.product_id = cdp._condition_key('product_id', find_buyers.product_id, within, at_least) AND l.quantity > 0)
	  AND o.ordered_at > cdp._condition_start('product_id', find_buyers.product_id, within, at_least, at)
	  AND o.ordered_at <= coalesce(at, cdp.now())
	  AND cdp._order_stands(o.status, o.amount, o.refunded)
	GROUP BY 1 HAVING count(*) >= at_least;
END;
COMMENT ON FUNCTION cdp.find_buyers(text, interval, int, timestamptz) IS 'The customers (One IDs, each once, in no order) with at least so many orders in the window (at - within, at] that have a line of the product with a quantity above 0; orders of all their profiles count together. An order counts by ordered_at and as it stands now: cancelled and fully refunded ones do not count, others do, whether paid or not. product_id: one that nobody ever bought finds nobody. within, at_least, at: as in cdp.find_customers_who(). Needs SELECT on the orders (kind reader). Errors: 22004 product_id or at_least NULL, 22023 at_least below 1, within negative, at infinite, 55000.';

CREATE OR REPLACE FUNCTION cdp.did(customer_id bigint, event text, within interval DEFAULT NULL, at_least int DEFAULT 1,
	matching jsonb DEFAULT NULL, at timestamptz DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL SAFE COST 10000 SET search_path = pg_catalog, pg_temp
	-- one plan for all customers and windows: each profile walks its own index, and what it costs does not matter
	SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
	lower timestamptz := cdp._condition_start('event', event, within, at_least, at);
	upper timestamptz := coalesce(at, cdp.now());
	one   bigint := cdp.customer_id(customer_id);
	found boolean;
BEGIN
	IF one IS NULL THEN
		RAISE EXCEPTION 'customer_id must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'cdp.resolve() answers NULL when it finds nobody.';
	END IF;
	SELECT count(*) >= at_least INTO found FROM (
		SELECT FROM cdp.event e
		WHERE e.profile_id = ANY (one || ARRAY(SELECT a.profile_id FROM cdp.profile_alias a WHERE a.customer_id = one))
		  AND e.occurred_at > lower AND e.occurred_at <= upper AND e.name = did.event
		  AND (matching IS NULL OR e.properties @> matching)
		LIMIT at_least) x;
	RETURN found;
END $$;
COMMENT ON FUNCTION cdp.did(bigint, text, interval, int, jsonb, timestamptz) IS 'Whether a customer did something at least so many times in the window (at - within, at]: whether he is among those of cdp.find_customers_who() with the same arguments. Any id that ever was this customer is accepted; false for one that never existed. Reads the events of his profiles by index and stops when there are enough. Needs SELECT on cdp.event and cdp.profile_alias (kind reader). Errors: 22004 customer_id, event or at_least NULL, 22023 at_least below 1, within negative, at infinite, 55000.';
