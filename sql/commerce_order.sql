-- commerce_order: the one engine that writes orders, a batch of arrays at a time.
-- Page: doc/commerce_order.md  Tests: test/sql/commerce_order.sql
--
-- record_order() comes here with one order, an attached source or a file with ten thousand.  The work is split by
-- what it costs:
--
--     new orders      one statement: order, refund, event key, event            _insert_orders
--     known orders    lock those that differ, then one statement per round      _update_orders
--     bad rows        are answered with SQLSTATE, reason and hint; they never stop the good ones
--
-- Several rows of one order in a batch have the effect of one call each: the first that is complete makes the
-- order, the others follow in rounds, the n-th row of every order in round n.  Locks are taken in ascending order
-- of order_id COLLATE "C".  A row that changes nothing writes nothing.

-- @code
CREATE OR REPLACE FUNCTION cdp._order_event(status text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE status WHEN 'completed' THEN 'Order Completed' WHEN 'placed' THEN 'Order Placed'
		WHEN 'paid' THEN 'Order Paid' WHEN 'shipped' THEN 'Order Shipped'
		WHEN 'cancelled' THEN 'Order Cancelled' WHEN 'refunded' THEN 'Order Refunded' END;
COMMENT ON FUNCTION cdp._order_event(text) IS 'internal: name of the event that an order''s arrival in this status is';

CREATE OR REPLACE FUNCTION cdp._order_status(given text, amount numeric, refunded numeric) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE WHEN refunded > 0 AND refunded >= amount AND given <> 'cancelled' THEN 'refunded' ELSE given END;
COMMENT ON FUNCTION cdp._order_status(text, numeric, numeric) IS 'internal: an order whose whole amount is refunded is refunded, unless it was cancelled';

-- Refund ids and event keys are made of amounts: a thousand digits would not go into an index.
CREATE OR REPLACE FUNCTION cdp._is_unwieldy(n numeric) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN n >= 1e30 OR n <= -1e30 OR (scale(n) > 40 AND scale(trim_scale(n)) > 40);
COMMENT ON FUNCTION cdp._is_unwieldy(numeric) IS 'internal: whether a number has more than 30 digits before or 40 after the decimal point';

-- One expression, inlined into the statements below.  NULL means not given and is no defect here.
CREATE OR REPLACE FUNCTION cdp._order_defect(order_id text, ordered_at timestamptz, status text, amount numeric,
	refunded numeric, currency text, channel text, store_id text, payment_method text, paid_at timestamptz,
	shipped_at timestamptz, completed_at timestamptz, cancelled_at timestamptz, tracking_no text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE
		WHEN order_id IS NULL OR order_id = '' THEN 'order_id'
		WHEN octet_length(order_id) > 200 OR octet_length(channel) > 200 OR octet_length(store_id) > 200
			OR octet_length(payment_method) > 200 OR octet_length(tracking_no) > 200 THEN 'length'
		-- NaN is above Infinity in PostgreSQL's order of numeric
		WHEN amount < 0 OR amount >= 'Infinity' THEN 'amount'
		WHEN refunded < 0 OR refunded >= 'Infinity' THEN 'refunded'
		WHEN cdp._is_unwieldy(amount) OR cdp._is_unwieldy(refunded) THEN 'digits'
		WHEN status NOT IN ('placed', 'paid', 'shipped', 'completed', 'cancelled', 'refunded') THEN 'status'
		WHEN currency !~ '^[A-Z]{3}$' THEN 'currency'
		WHEN NOT isfinite(ordered_at) OR NOT isfinite(paid_at) OR NOT isfinite(shipped_at)
			OR NOT isfinite(completed_at) OR NOT isfinite(cancelled_at) THEN 'time'
	END;
COMMENT ON FUNCTION cdp._order_defect(text, timestamptz, text, numeric, numeric, text, text, text, text, timestamptz, timestamptz, timestamptz, timestamptz, text) IS 'internal: what is wrong with the values of an order, a word of cdp._commerce_complaint(); NULL: nothing';

CREATE OR REPLACE FUNCTION cdp._line_defect(order_id text, line_no bigint, product_id text, quantity numeric,
	unit_price numeric, category text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE
		WHEN order_id IS NULL OR order_id = '' OR line_no IS NULL OR product_id IS NULL OR product_id = '' THEN 'line key'
		WHEN octet_length(order_id) > 200 OR octet_length(product_id) > 200 OR octet_length(category) > 200 THEN 'length'
		WHEN quantity < 0 OR quantity >= 'Infinity' THEN 'quantity'
		WHEN unit_price <= '-Infinity' OR unit_price >= 'Infinity' THEN 'unit_price'
		WHEN cdp._is_unwieldy(quantity) OR cdp._is_unwieldy(unit_price) THEN 'digits'
	END;
COMMENT ON FUNCTION cdp._line_defect(text, bigint, text, numeric, numeric, text) IS 'internal: what is wrong with an order line, as _order_defect()';

CREATE OR REPLACE FUNCTION cdp._product_defect(product_id text, name text, category text, price numeric, currency text,
	status text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE
		WHEN product_id IS NULL OR product_id = '' THEN 'product_id'
		WHEN octet_length(product_id) > 200 OR octet_length(category) > 200 THEN 'length'
		WHEN octet_length(name) > 2000 THEN 'name'
		WHEN price < 0 OR price >= 'Infinity' THEN 'price'
		WHEN cdp._is_unwieldy(price) THEN 'digits'
		WHEN currency !~ '^[A-Z]{3}$' THEN 'currency'
		WHEN status NOT IN ('draft', 'listed', 'delisted') THEN 'product status'
	END;
COMMENT ON FUNCTION cdp._product_defect(text, text, text, numeric, text, text) IS 'internal: what is wrong with a product, as _order_defect()';

-- The arrays of a batch as one relation, see src/commerce_order.c.  ROWS as unnest() estimates arrays it does not know.
CREATE OR REPLACE FUNCTION cdp._order_rows(profile_ids bigint[], order_ids text[], ordered_ats timestamptz[],
	statuses text[], amounts numeric[], refundeds numeric[], currencies text[], channels text[], store_ids text[],
	payment_methods text[], paid_ats timestamptz[], shipped_ats timestamptz[], completed_ats timestamptz[],
	cancelled_ats timestamptz[], tracking_nos text[], rounds int[] DEFAULT NULL)
	RETURNS TABLE (ord bigint, profile_id bigint, order_id text, ordered_at timestamptz, status text, amount numeric,
		refunded numeric, currency text, channel text, store_id text, payment_method text, paid_at timestamptz,
		shipped_at timestamptz, completed_at timestamptz, cancelled_at timestamptz, tracking_no text, nth int)
	LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME', 'cdp_order_rows';
COMMENT ON FUNCTION cdp._order_rows(bigint[], text[], timestamptz[], text[], numeric[], numeric[], text[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[], timestamptz[], text[], int[]) IS 'internal: the arrays of a batch of orders as rows, numbered from 1 in ord; where an array is NULL or ends early, the column is NULL. nth: rounds of _update_orders';

CREATE OR REPLACE FUNCTION cdp._order_forward(status text) RETURNS text[]
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE status WHEN 'placed' THEN '{paid,shipped,completed,cancelled,refunded}'::pg_catalog.text[]
		WHEN 'paid' THEN '{shipped,completed,cancelled,refunded}' WHEN 'shipped' THEN '{completed,cancelled,refunded}'
		WHEN 'completed' THEN '{refunded}' WHEN 'cancelled' THEN '{refunded}' ELSE '{}' END;
COMMENT ON FUNCTION cdp._order_forward(text) IS 'internal: the statuses that an order of this status may go to';

CREATE OR REPLACE FUNCTION cdp._commerce_complaint(defect text, key text DEFAULT NULL, was text DEFAULT NULL, wanted text DEFAULT NULL)
	RETURNS TABLE (sqlstate text, reason text, hint text)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT v.s, v.r, v.h FROM (VALUES
		('order_id', '22004', 'the order has no order_id', 'Every order needs a key of its own, for example "pos-1001".'),
		('length', '22023', 'a text value is longer than 200 bytes', 'Keys, channels, stores, payment methods, categories and tracking numbers have up to 200 bytes each.'),
		('amount', '22023', 'amount must be a finite number that is not negative', 'Record the order with its original amount; money that goes back is a refund: cdp.refund_order().'),
		('refunded', '22023', 'refunded must be a finite number that is not negative', 'refunded is the running total of all refunds of the order.'),
		('digits', '22023', 'a number has more than 30 digits before or 40 after the decimal point', 'Round it: no currency needs more.'),
		('status', '22023', 'there is no such status of an order', 'The statuses are placed, paid, shipped, completed, cancelled and refunded; a mapping may translate with CASE.'),
		('currency', '22023', 'currency is not the code of a currency', 'Give three capital letters of ISO 4217, for example CNY.'),
		('time', '22023', 'a time of the order is infinite', 'Give the moment itself, or NULL when it is not known.'),
		('incomplete', '22004', 'a new order needs its customer, ordered_at and amount', 'Give the missing values; afterwards an update may leave out what does not change.'),
		('too much', '22023', 'refunded is more than the amount of the order', 'Correct the amount first, or record the smaller refund.'),
		('refunds', '22023', 'the currency of an order that has refunds cannot change', 'Its refunds are in the currency it has; record what is new under an order_id of its own.'),
		('gone', '40001', 'the order was deleted at the same time', 'Try again.'),
		('line key', '22004', 'an order line needs order_id, line_no and product_id', 'line_no counts the lines of an order; any number that is unique in the order will do.'),
		('quantity', '22023', 'quantity must be a finite number that is not negative', 'Goods that come back are a refund: cdp.refund_order().'),
		('unit_price', '22023', 'unit_price must be a finite number', 'A discount line may have a negative price, an unknown price is NULL.'),
		('product_id', '22004', 'the product has no product_id', 'Every product needs a key of its own.'),
		('name', '22023', 'the name of the product is longer than 2000 bytes', 'Keep long descriptions in the shop.'),
		('price', '22023', 'price must be a finite number that is not negative', 'An unknown price is NULL.'),
		('product status', '22023', 'there is no such status of a product', 'The statuses are draft, listed and delisted.'),
		('backward', '22023', format('order "%s" cannot go from %s to %s', key, was, wanted),
			CASE WHEN was = 'refunded' THEN 'A refunded order stays refunded.'
			     ELSE format('From %s it may go to %s.', was, array_to_string(cdp._order_forward(was), ', ')) END),
		('owner', '23505', format('%s "%s" %s', wanted, key, coalesce(format('belongs to source "%s"', was), 'was not written by a source')),
			CASE wanted WHEN 'product' THEN 'Prefix the key in the mapping, for example "product_id": "''pos-'' || id".'
			            ELSE 'Prefix the key in the mapping, for example "order_id": "''pos-'' || id".' END)
	) AS v(d, s, r, h) WHERE v.d = defect;
END;
COMMENT ON FUNCTION cdp._commerce_complaint(text, text, text, text) IS 'internal: SQLSTATE, message and hint of a defect of an order, a line or a product. key: whose; was, wanted: the statuses, or for owner the other source and the kind of row';

-- @access

-- @data

-- @view
CREATE OR REPLACE FUNCTION cdp._insert_orders(profile_ids bigint[], order_ids text[], ordered_ats timestamptz[],
	statuses text[], amounts numeric[], refundeds numeric[], currencies text[], channels text[], store_ids text[],
	payment_methods text[], paid_ats timestamptz[], shipped_ats timestamptz[], completed_ats timestamptz[],
	tracking_nos text[], source text, strict boolean, cancelled_ats timestamptz[],
	products jsonb)
	RETURNS text[]
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
AS $$
-- A generic plan is right for one row and for ten thousand: the statement reads arrays and its own results only,
-- and the one lookup, which event keys were new, is a hashed subplan (IN .. IS TRUE is not turned into a join).
-- What stands between the marks is left out of _insert_new_orders, see below.
#variable_conflict use_column
DECLARE
	fresh text[];
BEGIN
	WITH item AS (
		SELECT u.* FROM cdp._order_rows(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies, channels,
			store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, cancelled_ats, tracking_nos) u
		WHERE profile_id IS NOT NULL AND ordered_at IS NOT NULL AND amount IS NOT NULL
		  AND cdp._order_defect(order_id, ordered_at, status, amount, refunded, currency, channel, store_id,
				payment_method, paid_at, shipped_at, completed_at, cancelled_at, tracking_no) IS NULL
		  AND (NOT _insert_orders.strict OR refunded <= amount) IS NOT FALSE
	), made AS (
		INSERT INTO cdp.sales_order AS o (order_id, profile_id, ordered_at, status, amount, refunded, currency, channel,
			store_id, payment_method, paid_at, shipped_at, completed_at, cancelled_at, tracking_no, source)
		SELECT i.order_id, i.profile_id, i.ordered_at, cdp._order_status(coalesce(i.status, 'placed'), i.amount, i.refunded),
			i.amount, CASE WHEN i.status = 'refunded' THEN greatest(i.refunded, i.amount) ELSE coalesce(i.refunded, 0) END,
			coalesce(i.currency, 'CNY'), i.channel, i.store_id, i.payment_method, i.paid_at, i.shipped_at, i.completed_at,
			i.cancelled_at, i.tracking_no, _insert_orders.source
		FROM item i ORDER BY i.order_id COLLATE "C", i.ord
		/*?*/ ON CONFLICT DO NOTHING /*!*/
		RETURNING o.order_id, o.profile_id, o.ordered_at, o.status, o.amount, o.refunded, o.currency, o.channel,
			CASE o.status WHEN 'completed' THEN o.completed_at WHEN 'paid' THEN o.paid_at
				WHEN 'shipped' THEN o.shipped_at WHEN 'cancelled' THEN o.cancelled_at END AS step_at
	), refund AS (
		INSERT INTO cdp.sales_refund (refund_id, order_id, amount, refunded_at)
		SELECT m.order_id || '/refunded/' || trim_scale(m.refunded), m.order_id, m.refunded, m.ordered_at
		FROM made m WHERE m.refunded > 0 /*?*/ ON CONFLICT DO NOTHING /*!*/
	), happened AS MATERIALIZED (
		SELECT nextval('cdp.event_event_id_seq') AS event_id, h.* FROM (
			SELECT m.profile_id, cdp._order_event(m.status) AS name, coalesce(m.step_at, m.ordered_at) AS occurred_at,
				'order/' || m.order_id || '/' || m.status AS message_id, m.channel,
				CASE WHEN _insert_orders.products ? m.order_id
				     THEN jsonb_build_object('order_id', m.order_id, 'total', m.amount, 'currency', m.currency,
				                             'products', _insert_orders.products -> m.order_id)
				     ELSE jsonb_build_object('order_id', m.order_id, 'total', m.amount, 'currency', m.currency) END AS properties
			FROM made m WHERE m.status <> 'refunded' OR m.refunded = 0
			UNION ALL
			SELECT m.profile_id, 'Order Refunded', m.ordered_at,
				'refund/' || m.order_id || '/refunded/' || trim_scale(m.refunded), m.channel,
				jsonb_build_object('order_id', m.order_id, 'refund_id', m.order_id || '/refunded/' || trim_scale(m.refunded),
					'total', m.refunded, 'currency', m.currency, 'full', m.refunded >= m.amount)
			FROM made m WHERE m.refunded > 0) h
	), known AS (
		INSERT INTO cdp.event_key AS k (source, message_id, event_id, permanent)
		SELECT 'cdp', h.message_id, h.event_id, true FROM happened h
		/*?*/ ON CONFLICT DO NOTHING RETURNING k.event_id /*!*/
	), logged AS (
		INSERT INTO cdp.event (event_id, profile_id, name, occurred_at, properties, message_id, source, channel)
		SELECT h.event_id, h.profile_id, h.name, h.occurred_at, h.properties, h.message_id, 'cdp', h.channel
		FROM happened h /*?*/ WHERE (h.event_id IN (SELECT k.event_id FROM known k)) IS TRUE /*!*/
	)
	SELECT array_agg(m.order_id) INTO fresh FROM made m;
	RETURN fresh;
END $$;
COMMENT ON FUNCTION cdp._insert_orders(bigint[], text[], timestamptz[], text[], numeric[], numeric[], text[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[], text[], text, boolean, timestamptz[], jsonb) IS 'internal: _apply_orders for the orders that are not known yet; answers their order_ids';

-- Looking for conflicts costs a fifth of the whole.  A batch that looks entirely new tries without, and is done
-- over with _insert_orders when it was wrong.
EXECUTE regexp_replace(replace(pg_get_functiondef('cdp._insert_orders'::regproc), '_insert_orders', '_insert_new_orders'),
	'/\*\?\*/.*?/\*!\*/', '', 'g');
COMMENT ON FUNCTION cdp._insert_new_orders(bigint[], text[], timestamptz[], text[], numeric[], numeric[], text[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[], text[], text, boolean, timestamptz[], jsonb) IS 'internal: _insert_orders without ON CONFLICT, 23505 when some order or event is known';

CREATE OR REPLACE FUNCTION cdp._apply_orders(profile_ids bigint[], order_ids text[], ordered_ats timestamptz[],
	statuses text[], amounts numeric[], refundeds numeric[], currencies text[], channels text[], store_ids text[],
	payment_methods text[], paid_ats timestamptz[], shipped_ats timestamptz[], completed_ats timestamptz[],
	tracking_nos text[], source text, strict boolean, cancelled_ats timestamptz[] DEFAULT NULL,
	products jsonb DEFAULT NULL)
	RETURNS TABLE (ord int, sqlstate text, reason text, hint text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_seqscan = off	-- as in _update_orders
AS $$
#variable_conflict use_column
DECLARE
	n     int := cardinality(order_ids);
	fresh text[];
	nth   int[];
BEGIN
	-- a subtransaction is only worth it for many rows
	IF n >= 100 AND NOT EXISTS (SELECT FROM cdp.sales_order o
		WHERE o.order_id = ANY (ARRAY[order_ids[1], order_ids[n / 2], order_ids[n]]))
	THEN
		BEGIN
			fresh := cdp._insert_new_orders(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies,
				channels, store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, tracking_nos,
				_apply_orders.source, _apply_orders.strict, cancelled_ats, products);
		EXCEPTION WHEN unique_violation THEN
			NULL;	-- some order is known after all
		END;
	END IF;
	IF fresh IS NULL THEN
		fresh := cdp._insert_orders(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies,
			channels, store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, tracking_nos,
			_apply_orders.source, _apply_orders.strict, cancelled_ats, products);
	END IF;
	IF cardinality(fresh) = n THEN
		RETURN;
	END IF;

	-- What is left: rows of orders that were known, further rows of one order, bad rows.  nth: the round in which a
	-- row is applied, 0 when its order has just been made of it, -1 when it is bad.
	SELECT array_agg(CASE WHEN d.defect IS NOT NULL OR d.ord < d.made_of THEN -1
	                      WHEN d.ord = d.made_of THEN 0 ELSE d.nth END ORDER BY d.ord)
	INTO nth
	FROM (
		SELECT c.ord, c.defect, row_number() OVER (PARTITION BY c.order_id, c.defect IS NULL ORDER BY c.ord) AS nth,
			CASE WHEN (c.order_id IN (SELECT unnest(fresh))) IS TRUE
			     THEN min(c.ord) FILTER (WHERE c.complete) OVER (PARTITION BY c.order_id) END AS made_of
		FROM (
			SELECT u.order_id, u.ord, e.defect,
				e.defect IS NULL AND profile_id IS NOT NULL AND ordered_at IS NOT NULL AND amount IS NOT NULL AS complete
			FROM cdp._order_rows(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies, channels,
				store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, cancelled_ats, tracking_nos) u,
			LATERAL (SELECT coalesce(cdp._order_defect(order_id, ordered_at, status, amount, refunded, currency, channel,
				store_id, payment_method, paid_at, shipped_at, completed_at, cancelled_at, tracking_no),
				CASE WHEN _apply_orders.strict AND refunded > amount THEN 'too much' END) AS defect) e
			) c) d;
	RETURN QUERY
		SELECT u.ord::int, t.sqlstate, t.reason, t.hint
		FROM cdp._order_rows(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies, channels,
			store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, cancelled_ats, tracking_nos, nth) u,
		LATERAL cdp._commerce_complaint(coalesce(cdp._order_defect(order_id, ordered_at, status, amount, refunded, currency,
			channel, store_id, payment_method, paid_at, shipped_at, completed_at, cancelled_at, tracking_no),
			CASE WHEN _apply_orders.strict AND refunded > amount THEN 'too much' ELSE 'incomplete' END)) t
		WHERE u.nth = -1;
	-- round by round; mostly there is one
	FOR k IN 1 .. (SELECT coalesce(max(n), 0) FROM unnest(nth) n) LOOP
		RETURN QUERY SELECT u.* FROM cdp._update_orders(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds,
			currencies, channels, store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, tracking_nos,
			_apply_orders.source, _apply_orders.strict, cancelled_ats, products, nth, k) u;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._apply_orders(bigint[], text[], timestamptz[], text[], numeric[], numeric[], text[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[], text[], text, boolean, timestamptz[], jsonb) IS 'internal: brings a batch of orders in, events included, as the rows one after the other would; a NULL element keeps what is known. source: who writes, NULL for record_order(); strict: backward changes of status are refused (false: the source is the truth); products: lines for the events, {order_id: [...]}. Answers the rows that were not taken.';

CREATE OR REPLACE FUNCTION cdp._update_orders(profile_ids bigint[], order_ids text[], ordered_ats timestamptz[],
	statuses text[], amounts numeric[], refundeds numeric[], currencies text[], channels text[], store_ids text[],
	payment_methods text[], paid_ats timestamptz[], shipped_ats timestamptz[], completed_ats timestamptz[],
	tracking_nos text[], source text, strict boolean, cancelled_ats timestamptz[], products jsonb, nth int[], round int)
	RETURNS TABLE (ord int, sqlstate text, reason text, hint text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	-- every lookup is one by the primary key of sales_order; a plan made while the table was small must say so too
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
BEGIN
	-- two statements, so that under READ COMMITTED the second one sees what the locks have waited for
	PERFORM FROM cdp._order_rows(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies, channels,
			store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, cancelled_ats, tracking_nos, nth) i
		JOIN cdp.sales_order o ON o.order_id = i.order_id
		WHERE i.nth = _update_orders.round
		  AND (cdp._order_status(i.status, coalesce(i.amount, o.amount), greatest(i.refunded, o.refunded)) <> o.status
			OR i.amount <> o.amount OR i.refunded > o.refunded OR i.currency <> o.currency
			OR i.ordered_at <> o.ordered_at OR coalesce(i.channel <> o.channel, i.channel IS NOT NULL)
			OR coalesce(i.store_id <> o.store_id, i.store_id IS NOT NULL)
			OR coalesce(i.payment_method <> o.payment_method, i.payment_method IS NOT NULL)
			OR coalesce(i.paid_at <> o.paid_at, i.paid_at IS NOT NULL)
			OR coalesce(i.shipped_at <> o.shipped_at, i.shipped_at IS NOT NULL)
			OR coalesce(i.completed_at <> o.completed_at, i.completed_at IS NOT NULL)
			OR coalesce(i.cancelled_at <> o.cancelled_at, i.cancelled_at IS NOT NULL)
			OR coalesce(i.tracking_no <> o.tracking_no, i.tracking_no IS NOT NULL))
		ORDER BY o.order_id COLLATE "C" FOR NO KEY UPDATE OF o;

	RETURN QUERY
	WITH item AS (
		SELECT i.ord, i.order_id, o.profile_id, i.profile_id AS buyer, o.status AS was, o.refunded AS was_refunded,
			o.currency AS was_currency, o.source AS owner,
			coalesce(i.ordered_at, o.ordered_at) AS ordered_at, coalesce(i.status, o.status) AS status,
			coalesce(i.amount, o.amount) AS amount,
			greatest(o.refunded, i.refunded, CASE WHEN i.status = 'refunded' THEN coalesce(i.amount, o.amount) END) AS refunded,
			coalesce(i.currency, o.currency) AS currency, coalesce(i.channel, o.channel) AS channel,
			coalesce(i.store_id, o.store_id) AS store_id, coalesce(i.payment_method, o.payment_method) AS payment_method,
			coalesce(i.paid_at, o.paid_at) AS paid_at, coalesce(i.shipped_at, o.shipped_at) AS shipped_at,
			coalesce(i.completed_at, o.completed_at) AS completed_at, coalesce(i.cancelled_at, o.cancelled_at) AS cancelled_at,
			coalesce(i.tracking_no, o.tracking_no) AS tracking_no
		FROM cdp._order_rows(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies, channels,
			store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, cancelled_ats, tracking_nos, nth) i
		LEFT JOIN cdp.sales_order o ON o.order_id = i.order_id
		WHERE i.nth = _update_orders.round
	), wish AS MATERIALIZED (
		SELECT i.ord, i.order_id, i.profile_id, i.was, i.owner, i.status AS given, i.ordered_at, s.status, i.amount, i.refunded,
			i.refunded - i.was_refunded AS increase, i.currency, i.channel, i.store_id, i.payment_method, i.tracking_no,
			CASE WHEN i.paid_at IS NULL AND s.entered = 'paid' THEN cdp.now() ELSE i.paid_at END AS paid_at,
			CASE WHEN i.shipped_at IS NULL AND s.entered = 'shipped' THEN cdp.now() ELSE i.shipped_at END AS shipped_at,
			CASE WHEN i.completed_at IS NULL AND s.entered = 'completed' THEN cdp.now() ELSE i.completed_at END AS completed_at,
			CASE WHEN i.cancelled_at IS NULL AND s.entered = 'cancelled' THEN cdp.now() ELSE i.cancelled_at END AS cancelled_at,
			CASE WHEN i.was IS NULL AND (i.buyer IS NULL OR i.ordered_at IS NULL OR i.amount IS NULL) THEN 'incomplete'
			     WHEN i.was IS NULL THEN 'gone'
			     WHEN i.owner IS DISTINCT FROM _update_orders.source THEN 'owner'
			     WHEN _update_orders.strict AND i.refunded > i.amount THEN 'too much'
			     WHEN _update_orders.strict AND i.was_refunded > 0 AND i.currency <> i.was_currency THEN 'refunds'
			     WHEN _update_orders.strict AND i.status <> i.was AND i.status <> ALL (cdp._order_forward(i.was)) THEN 'backward'
			END AS defect
		FROM item i, LATERAL (SELECT f.status, CASE WHEN f.status <> i.was THEN f.status END AS entered
			FROM (SELECT cdp._order_status(i.status, i.amount, i.refunded) AS status) f) s
	), changed AS (
		UPDATE cdp.sales_order o SET (ordered_at, status, amount, refunded, currency, channel, store_id, payment_method,
				paid_at, shipped_at, completed_at, cancelled_at, tracking_no, updated_at)
			= (w.ordered_at, w.status, w.amount, w.refunded, w.currency, w.channel, w.store_id, w.payment_method,
				w.paid_at, w.shipped_at, w.completed_at, w.cancelled_at, w.tracking_no, cdp.now())
		FROM wish w WHERE o.order_id = w.order_id AND w.defect IS NULL
		  AND (o.ordered_at, o.status, o.amount, o.refunded, o.currency, o.channel, o.store_id, o.payment_method,
				o.paid_at, o.shipped_at, o.completed_at, o.cancelled_at, o.tracking_no)
			IS DISTINCT FROM (w.ordered_at, w.status, w.amount, w.refunded, w.currency, w.channel, w.store_id, w.payment_method,
				w.paid_at, w.shipped_at, w.completed_at, w.cancelled_at, w.tracking_no)
		RETURNING w.*
	), refund AS (
		INSERT INTO cdp.sales_refund (refund_id, order_id, amount, refunded_at)
		SELECT c.order_id || '/refunded/' || trim_scale(c.refunded), c.order_id, c.increase, cdp.now()
		FROM changed c WHERE c.increase > 0 ON CONFLICT DO NOTHING
	), happened AS MATERIALIZED (
		SELECT nextval('cdp.event_event_id_seq') AS event_id, h.* FROM (
			SELECT c.profile_id, cdp._order_event(c.status) AS name,
				CASE c.status WHEN 'completed' THEN c.completed_at WHEN 'paid' THEN c.paid_at WHEN 'shipped' THEN c.shipped_at
					WHEN 'cancelled' THEN c.cancelled_at ELSE cdp.now() END AS occurred_at,
				'order/' || c.order_id || '/' || c.status AS message_id, c.channel,
				jsonb_strip_nulls(jsonb_build_object('order_id', c.order_id,
					'total', CASE WHEN c.status = 'refunded' THEN 0 ELSE c.amount END, 'currency', c.currency,
					'products', coalesce(_update_orders.products -> c.order_id, (
						SELECT jsonb_agg(jsonb_build_object('product_id', l.product_id, 'category', l.category,
							'quantity', l.quantity, 'price', l.unit_price) ORDER BY l.line_no)
						FROM (SELECT * FROM cdp.sales_order_line n WHERE n.order_id = c.order_id ORDER BY n.line_no LIMIT 100) l)))) AS properties
			FROM changed c WHERE c.status <> c.was AND (c.status <> 'refunded' OR c.increase = 0)
			UNION ALL
			SELECT c.profile_id, 'Order Refunded', cdp.now(),
				'refund/' || c.order_id || '/refunded/' || trim_scale(c.refunded), c.channel,
				jsonb_build_object('order_id', c.order_id, 'refund_id', c.order_id || '/refunded/' || trim_scale(c.refunded),
					'total', c.increase, 'currency', c.currency, 'full', c.refunded >= c.amount)
			FROM changed c WHERE c.increase > 0) h
	), known AS (
		INSERT INTO cdp.event_key AS k (source, message_id, event_id, permanent)
		SELECT 'cdp', h.message_id, h.event_id, true FROM happened h
		ON CONFLICT DO NOTHING RETURNING k.event_id
	), logged AS (
		INSERT INTO cdp.event (event_id, profile_id, name, occurred_at, properties, message_id, source, channel)
		SELECT h.event_id, h.profile_id, h.name, h.occurred_at, h.properties, h.message_id, 'cdp', h.channel
		FROM happened h WHERE (h.event_id IN (SELECT k.event_id FROM known k)) IS TRUE
	)
	SELECT w.ord::int, t.sqlstate, t.reason, t.hint
	FROM wish w, LATERAL cdp._commerce_complaint(w.defect, w.order_id, CASE w.defect WHEN 'owner' THEN w.owner ELSE w.was END,
		CASE w.defect WHEN 'owner' THEN 'order' ELSE w.given END) t
	WHERE w.defect IS NOT NULL;
END $$;
COMMENT ON FUNCTION cdp._update_orders(bigint[], text[], timestamptz[], text[], numeric[], numeric[], text[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[], text[], text, boolean, timestamptz[], jsonb, int[], int) IS 'internal: one round of _apply_orders over orders that exist: the rows with nth = round, no two of one order';

CREATE OR REPLACE FUNCTION cdp._cancel_orders(order_ids text[], source text) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ids text[] := ARRAY(SELECT o.order_id FROM cdp.sales_order o
		WHERE o.order_id = ANY (_cancel_orders.order_ids) AND o.source IS NOT DISTINCT FROM _cancel_orders.source
		  AND o.status NOT IN ('cancelled', 'refunded'));
BEGIN
	PERFORM cdp._apply_orders(NULL, ids, NULL, array_fill('cancelled'::text, ARRAY[cardinality(ids)]), NULL, NULL, NULL,
		NULL, NULL, NULL, NULL, NULL, NULL, NULL, _cancel_orders.source, false);
	RETURN cardinality(ids);
END $$;
COMMENT ON FUNCTION cdp._cancel_orders(text[], text) IS 'internal: cancels those of the orders that belong to the source and are neither cancelled nor refunded; answers how many';

CREATE OR REPLACE FUNCTION cdp._apply_order_lines(order_ids text[], line_nos bigint[], product_ids text[],
	quantities numeric[], unit_prices numeric[], categories text[], source text)
	RETURNS TABLE (ord int, sqlstate text, reason text, hint text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
-- New lines first; what was in the way is compared and, where it differs, replaced.  Of several rows of one line
-- in a batch the last one counts.
#variable_conflict use_column
DECLARE
	made bigint;
BEGIN
	WITH item AS (
		SELECT DISTINCT ON (u.order_id COLLATE "C", u.line_no) u.*
		FROM unnest(order_ids, line_nos, product_ids, quantities, unit_prices, categories) WITH ORDINALITY
			AS u(order_id, line_no, product_id, quantity, unit_price, category, ord)
		WHERE cdp._line_defect(u.order_id, u.line_no, u.product_id, u.quantity, u.unit_price, u.category) IS NULL
		ORDER BY u.order_id COLLATE "C", u.line_no, u.ord DESC
	)
	INSERT INTO cdp.sales_order_line (order_id, line_no, product_id, quantity, unit_price, category, source)
	SELECT i.order_id, i.line_no, i.product_id, coalesce(i.quantity, 1), i.unit_price, i.category, _apply_order_lines.source
	FROM item i ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS made = ROW_COUNT;
	IF made = cardinality(order_ids) THEN
		RETURN;
	END IF;
	RETURN QUERY
	WITH item AS MATERIALIZED (
		SELECT u.*, cdp._line_defect(u.order_id, u.line_no, u.product_id, u.quantity, u.unit_price, u.category) AS defect
		FROM unnest(order_ids, line_nos, product_ids, quantities, unit_prices, categories) WITH ORDINALITY
			AS u(order_id, line_no, product_id, quantity, unit_price, category, ord)
	), wish AS MATERIALIZED (
		SELECT DISTINCT ON (i.order_id COLLATE "C", i.line_no) i.*, l.line_id
		FROM item i JOIN cdp.sales_order_line l ON l.order_id = i.order_id AND l.line_no = i.line_no
		WHERE i.defect IS NULL AND l.source IS NOT DISTINCT FROM _apply_order_lines.source
		ORDER BY i.order_id COLLATE "C", i.line_no, i.ord DESC
	), changed AS (
		UPDATE cdp.sales_order_line l SET (product_id, quantity, unit_price, category, updated_at)
			= (w.product_id, coalesce(w.quantity, 1), w.unit_price, w.category, cdp.now())
		FROM wish w WHERE l.line_id = w.line_id
		  AND (l.product_id, l.quantity, l.unit_price, l.category)
			IS DISTINCT FROM (w.product_id, coalesce(w.quantity, 1), w.unit_price, w.category)
	)
	SELECT i.ord::int, t.sqlstate, t.reason, t.hint
	FROM item i, LATERAL cdp._commerce_complaint(i.defect) t WHERE i.defect IS NOT NULL
	UNION ALL
	SELECT i.ord::int, t.sqlstate, t.reason, t.hint
	FROM item i JOIN cdp.sales_order_line l ON l.order_id = i.order_id AND l.line_no = i.line_no,
		LATERAL cdp._commerce_complaint('owner', l.order_id || '/' || l.line_no, l.source, 'order line') t
	WHERE i.defect IS NULL AND l.source IS DISTINCT FROM _apply_order_lines.source
	ORDER BY 1;
END $$;
COMMENT ON FUNCTION cdp._apply_order_lines(text[], bigint[], text[], numeric[], numeric[], text[], text) IS 'internal: brings a batch of order lines in, each with its whole content (NULL quantity: 1); the orders need not be there. Answers the rows that were not taken.';

CREATE OR REPLACE FUNCTION cdp._apply_products(product_ids text[], names text[], categories text[], prices numeric[],
	currencies text[], statuses text[], source text)
	RETURNS TABLE (ord int, sqlstate text, reason text, hint text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
	made bigint;
BEGIN
	WITH item AS (
		SELECT DISTINCT ON (u.product_id COLLATE "C") u.*
		FROM unnest(product_ids, names, categories, prices, currencies, statuses) WITH ORDINALITY
			AS u(product_id, name, category, price, currency, status, ord)
		WHERE cdp._product_defect(u.product_id, u.name, u.category, u.price, u.currency, u.status) IS NULL
		ORDER BY u.product_id COLLATE "C", u.ord DESC
	)
	INSERT INTO cdp.product (product_id, name, category, price, currency, status, source)
	SELECT i.product_id, i.name, i.category, i.price, coalesce(i.currency, 'CNY'), coalesce(i.status, 'listed'), _apply_products.source
	FROM item i ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS made = ROW_COUNT;
	IF made = cardinality(product_ids) THEN
		RETURN;
	END IF;
	RETURN QUERY
	WITH item AS MATERIALIZED (
		SELECT u.*, cdp._product_defect(u.product_id, u.name, u.category, u.price, u.currency, u.status) AS defect
		FROM unnest(product_ids, names, categories, prices, currencies, statuses) WITH ORDINALITY
			AS u(product_id, name, category, price, currency, status, ord)
	), wish AS MATERIALIZED (
		SELECT DISTINCT ON (i.product_id COLLATE "C") i.product_id, coalesce(i.name, p.name) AS name,
			coalesce(i.category, p.category) AS category, coalesce(i.price, p.price) AS price,
			coalesce(i.currency, p.currency) AS currency, coalesce(i.status, p.status) AS status
		FROM item i JOIN cdp.product p ON p.product_id = i.product_id
		WHERE i.defect IS NULL AND p.source IS NOT DISTINCT FROM _apply_products.source
		ORDER BY i.product_id COLLATE "C", i.ord DESC
	), changed AS (
		UPDATE cdp.product p SET (name, category, price, currency, status, updated_at)
			= (w.name, w.category, w.price, w.currency, w.status, cdp.now())
		FROM wish w WHERE p.product_id = w.product_id
		  AND (p.name, p.category, p.price, p.currency, p.status) IS DISTINCT FROM (w.name, w.category, w.price, w.currency, w.status)
	)
	SELECT i.ord::int, t.sqlstate, t.reason, t.hint
	FROM item i, LATERAL cdp._commerce_complaint(i.defect) t WHERE i.defect IS NOT NULL
	UNION ALL
	SELECT i.ord::int, t.sqlstate, t.reason, t.hint
	FROM item i JOIN cdp.product p ON p.product_id = i.product_id,
		LATERAL cdp._commerce_complaint('owner', p.product_id, p.source, 'product') t
	WHERE i.defect IS NULL AND p.source IS DISTINCT FROM _apply_products.source
	ORDER BY 1;
END $$;
COMMENT ON FUNCTION cdp._apply_products(text[], text[], text[], numeric[], text[], text[], text) IS 'internal: brings a batch of products in; a NULL element keeps what is known. Answers the rows that were not taken.';
