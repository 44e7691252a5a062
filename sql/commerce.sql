-- commerce: products, orders, lines, refunds, currencies.
-- C: src/commerce.c  Page: doc/commerce.md  Tests: test/sql/commerce.sql

-- @code
CREATE OR REPLACE FUNCTION cdp._moment(given text) RETURNS timestamptz
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_moment';
COMMENT ON FUNCTION cdp._moment(text) IS 'internal: the moment that a text names, without an offset read in cdp.timezone; NULL when it names none or infinity';

CREATE OR REPLACE FUNCTION cdp.convert_amount(amount numeric, from_currency text, to_currency text, at timestamptz DEFAULT NULL)
	RETURNS numeric
	LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r record;
BEGIN
	IF amount IS NULL OR from_currency = to_currency THEN
		RETURN amount;
	ELSIF from_currency IS NULL OR to_currency IS NULL THEN
		RAISE EXCEPTION 'a currency is missing' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'Name both currencies, for example cdp.convert_amount(12.50, ''USD'', ''CNY'').';
	END IF;
	SELECT c.rate, c.forth INTO r FROM (
		(SELECT c.valid_from, c.rate, true AS forth FROM cdp.currency_rate c
		 WHERE c.from_currency = convert_amount.from_currency AND c.to_currency = convert_amount.to_currency
		   AND c.valid_from <= coalesce(convert_amount.at, cdp.now()) ORDER BY c.valid_from DESC LIMIT 1)
		UNION ALL
		(SELECT c.valid_from, c.rate, false FROM cdp.currency_rate c
		 WHERE c.from_currency = convert_amount.to_currency AND c.to_currency = convert_amount.from_currency
		   AND c.valid_from <= coalesce(convert_amount.at, cdp.now()) ORDER BY c.valid_from DESC LIMIT 1)
	) c ORDER BY c.valid_from DESC, c.forth DESC LIMIT 1;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no rate from % to % at that time', left(from_currency, 10), left(to_currency, 10)
			USING ERRCODE = 'invalid_parameter_value',
			      HINT = 'INSERT INTO cdp.currency_rate (from_currency, to_currency, valid_from, rate) a row that was valid then.';
	END IF;
	-- divided, not multiplied by a rounded reciprocal: 71 yuan at 7.1 are 10 dollars
	RETURN CASE WHEN r.forth THEN amount * r.rate ELSE amount / r.rate END;
END $$;
COMMENT ON FUNCTION cdp.convert_amount(numeric, text, text, timestamptz) IS 'An amount in another currency, by the rate of cdp.currency_rate (either direction) that was valid at the moment at (default cdp.now()); not rounded. The same currency needs no rate. NULL amount: NULL. Errors: 22023 no rate, 22004 a currency is NULL.';

CREATE OR REPLACE FUNCTION cdp._sum_amount_accum(state bytea, amount numeric, currency text) RETURNS bytea
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_sum_amount_accum';
COMMENT ON FUNCTION cdp._sum_amount_accum(bytea, numeric, text) IS 'internal: step of cdp.sum_amount';
CREATE OR REPLACE FUNCTION cdp._sum_amount_combine(a bytea, b bytea) RETURNS bytea
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_sum_amount_combine';
COMMENT ON FUNCTION cdp._sum_amount_combine(bytea, bytea) IS 'internal: joins two states of cdp.sum_amount';
CREATE OR REPLACE FUNCTION cdp._sum_amount_final(state bytea) RETURNS numeric
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_sum_amount_final';
COMMENT ON FUNCTION cdp._sum_amount_final(bytea) IS 'internal: result of cdp.sum_amount';
CREATE OR REPLACE AGGREGATE cdp.sum_amount(amount numeric, currency text) (
	SFUNC = cdp._sum_amount_accum, STYPE = bytea, COMBINEFUNC = cdp._sum_amount_combine,
	FINALFUNC = cdp._sum_amount_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.sum_amount(numeric, text) IS 'Sum of amounts that are all in one currency. NULL amounts do not count; NULL when there is none. Errors: 22023 a second currency (sum_amount with four arguments converts), 22004 an amount without currency.';

CREATE OR REPLACE FUNCTION cdp._sum_amount_convert(state numeric, amount numeric, currency text, to_currency text, at timestamptz)
	RETURNS numeric
	LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF amount IS NULL THEN
		RETURN state;
	END IF;
	RETURN coalesce(state, 0) + CASE WHEN currency = to_currency THEN amount ELSE cdp.convert_amount(amount, currency, to_currency, at) END;
END $$;
COMMENT ON FUNCTION cdp._sum_amount_convert(numeric, numeric, text, text, timestamptz) IS 'internal: step of cdp.sum_amount with conversion';
CREATE OR REPLACE AGGREGATE cdp.sum_amount(amount numeric, currency text, to_currency text, at timestamptz) (
	SFUNC = cdp._sum_amount_convert, STYPE = numeric, COMBINEFUNC = pg_catalog.numeric_add, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.sum_amount(numeric, text, text, timestamptz) IS 'Sum of amounts in to_currency, each converted by cdp.convert_amount() at its own moment. NULL amounts do not count; NULL when there is none. Errors: 22023 no rate, 22004 an amount without currency.';

CREATE OR REPLACE FUNCTION cdp._check_object(object jsonb, what text, texts text[], numbers text[], moments text[], others text[])
	RETURNS void
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_check_object';
COMMENT ON FUNCTION cdp._check_object(jsonb, text, text[], text[], text[], text[]) IS 'internal: refuses an object with unknown keys or values of the wrong shape. what: how messages call it; texts, numbers, moments, others (arrays): its keys. JSON null is not given; a number may stand for a text, never a text for a number. Errors: 22004 NULL, 22023';

CREATE OR REPLACE FUNCTION cdp._read_lines(order_id text, given jsonb)
	RETURNS TABLE (line_no bigint, product_id text, quantity numeric, unit_price numeric, category text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	e    record;
	seen bigint[] := '{}';
	defect text;
	c    record;
BEGIN
	FOR e IN SELECT j.value, j.ordinality AS n FROM jsonb_array_elements(given) WITH ORDINALITY j LOOP
		PERFORM cdp._check_object(e.value, format('line %s', e.n), '{order_id,product_id,category}', '{line_no,quantity,unit_price}', '{}', '{}');
		quantity := coalesce((e.value ->> 'quantity')::numeric, 1);
		unit_price := (e.value ->> 'unit_price')::numeric;
		product_id := e.value ->> 'product_id';
		category := e.value ->> 'category';
		IF (e.value ->> 'order_id') <> _read_lines.order_id THEN
			RAISE EXCEPTION 'line % belongs to another order', e.n USING ERRCODE = 'invalid_parameter_value',
				HINT = 'The lines of an order may leave out order_id.';
		ELSIF abs((e.value ->> 'line_no')::numeric) > 9e18 OR scale(trim_scale((e.value ->> 'line_no')::numeric)) > 0 THEN
			RAISE EXCEPTION '"line_no" of line % must be a whole number', e.n USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Without line_no the lines are counted from 1.';
		END IF;
		line_no := coalesce((e.value ->> 'line_no')::numeric::bigint, e.n);
		IF line_no = ANY (seen) THEN
			RAISE EXCEPTION 'there are two lines with line_no %', line_no USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Every line of an order needs a line_no of its own; without line_no they are counted from 1.';
		END IF;
		seen := seen || line_no;
		defect := cdp._line_defect(_read_lines.order_id, line_no, product_id, quantity, unit_price, category);
		IF defect IS NOT NULL THEN
			SELECT t.* INTO c FROM cdp._commerce_complaint(defect) t;
			RAISE EXCEPTION 'line %: %', e.n, c.reason USING ERRCODE = c.sqlstate, HINT = c.hint;
		END IF;
		RETURN NEXT;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._read_lines(text, jsonb) IS 'internal: the lines of an order out of jsonb, checked';

CREATE OR REPLACE FUNCTION cdp._read_order(o jsonb)
	RETURNS TABLE (order_id text, ordered_at timestamptz, status text, amount numeric, refunded numeric, currency text,
		channel text, store_id text, payment_method text, paid_at timestamptz, shipped_at timestamptz, completed_at timestamptz,
		cancelled_at timestamptz, tracking_no text, lines jsonb, products jsonb)
	LANGUAGE plpgsql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	defect text;
	c      record;
BEGIN
	PERFORM cdp._check_object(o, 'sales_order', '{order_id,status,currency,channel,store_id,payment_method,tracking_no}',
		'{amount,refunded}', '{ordered_at,paid_at,shipped_at,completed_at,cancelled_at}', '{lines}');
	order_id := o ->> 'order_id';
	ordered_at := cdp._moment(o ->> 'ordered_at');
	status := o ->> 'status';
	amount := (o ->> 'amount')::numeric;
	refunded := (o ->> 'refunded')::numeric;
	currency := o ->> 'currency';
	channel := o ->> 'channel';
	store_id := o ->> 'store_id';
	payment_method := o ->> 'payment_method';
	paid_at := cdp._moment(o ->> 'paid_at');
	shipped_at := cdp._moment(o ->> 'shipped_at');
	completed_at := cdp._moment(o ->> 'completed_at');
	cancelled_at := cdp._moment(o ->> 'cancelled_at');
	tracking_no := o ->> 'tracking_no';
	defect := cdp._order_defect(order_id, ordered_at, status, amount, refunded, currency,
		channel, store_id, payment_method, paid_at, shipped_at, completed_at, cancelled_at, tracking_no);
	IF defect IS NOT NULL THEN
		SELECT t.* INTO c FROM cdp._commerce_complaint(defect) t;
		RAISE EXCEPTION '%', c.reason USING ERRCODE = c.sqlstate, HINT = c.hint;
	END IF;
	IF jsonb_typeof(o -> 'lines') = 'array' THEN
		SELECT coalesce(jsonb_agg(to_jsonb(l) ORDER BY l.line_no), '[]') INTO lines FROM cdp._read_lines(order_id, o -> 'lines') l;
		products := (SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('product_id', l.value -> 'product_id',
				'category', l.value -> 'category', 'quantity', l.value -> 'quantity', 'price', l.value -> 'unit_price'))
				ORDER BY l.ordinality) FILTER (WHERE l.ordinality <= 100), '[]')
			FROM jsonb_array_elements(lines) WITH ORDINALITY l);
	END IF;
	RETURN NEXT;
END $$;
COMMENT ON FUNCTION cdp._read_order(jsonb) IS 'internal: an order out of jsonb, checked as far as that can be done without looking at what is known; lines as they will stand in the table, products as its events tell them. Raises 22023 or 22004.';

-- @access
('function', 'record_order', 'EXECUTE', '{application,operator}'),
('function', 'refund_order', 'EXECUTE', '{application,operator}'),
('function', 'convert_amount', 'EXECUTE', '{reader,application}'),
('function', 'sum_amount', 'EXECUTE', '{reader,application}'),
('table', 'product', 'SELECT', '{reader}'),
('table', 'product', 'INSERT, UPDATE, DELETE', '{operator}'),
('table', 'sales_order', 'SELECT', '{reader}'),
('table', 'sales_order_line', 'SELECT', '{reader}'),
('table', 'sales_refund', 'SELECT', '{reader}'),
('table', 'currency_rate', 'SELECT', '{reader,application}'),
('table', 'currency_rate', 'INSERT, UPDATE, DELETE', '{operator}'),
('table', 'order_track', 'SELECT', '{reader}'),

-- @data
PERFORM cdp._ensure_table('product', $t$ (
	product_id text PRIMARY KEY,
	name       text,
	category   text,
	price      numeric CHECK (price >= 0 AND price < 'Infinity'),
	currency   text NOT NULL DEFAULT 'CNY' CHECK (length(currency) = 3),
	status     text NOT NULL DEFAULT 'listed' CHECK (status IN ('draft', 'listed', 'delisted')),
	source     text,
	updated_at timestamptz NOT NULL DEFAULT cdp.now()
) $t$);
COMMENT ON TABLE cdp.product IS 'Articles that are sold. Lines may name products that are not here.';
COMMENT ON COLUMN cdp.product.price IS 'list price of one unit in currency; NULL: unknown';
COMMENT ON COLUMN cdp.product.status IS 'draft (not sold yet), listed, delisted';
COMMENT ON COLUMN cdp.product.source IS 'attached source or file the row came from; NULL: written by hand';

PERFORM cdp._ensure_table('sales_order', $t$ (
	order_id       text PRIMARY KEY,
	profile_id     bigint NOT NULL,
	ordered_at     timestamptz NOT NULL,
	status         text NOT NULL DEFAULT 'placed'
	               CHECK (status IN ('placed', 'paid', 'shipped', 'completed', 'cancelled', 'refunded')),
	amount         numeric NOT NULL CHECK (amount >= 0 AND amount < 'Infinity'),
	refunded       numeric NOT NULL DEFAULT 0 CHECK (refunded >= 0 AND refunded < 'Infinity'),
	currency       text NOT NULL DEFAULT 'CNY' CHECK (length(currency) = 3),
	channel        text,
	store_id       text,
	payment_method text,
	paid_at        timestamptz,
	shipped_at     timestamptz,
	completed_at   timestamptz,
	cancelled_at   timestamptz,
	tracking_no    text,
	source         text,
	updated_at     timestamptz NOT NULL DEFAULT cdp.now()
) $t$);
CREATE INDEX IF NOT EXISTS sales_order_profile ON cdp.sales_order (profile_id, ordered_at);
COMMENT ON TABLE cdp.sales_order IS 'Orders, one row each with its newest content; how it came there is in the event log. Written by record_order(), refund_order() and attached sources.';
COMMENT ON COLUMN cdp.sales_order.profile_id IS 'origin profile, never changed; cdp.customer_id(profile_id) is the One ID';
COMMENT ON COLUMN cdp.sales_order.status IS 'placed, paid, shipped, completed, cancelled, refunded (in full; a partial refund only raises refunded)';
COMMENT ON COLUMN cdp.sales_order.amount IS 'what the order was worth when it was placed, in currency; refunds are not taken off';
COMMENT ON COLUMN cdp.sales_order.refunded IS 'running total of the refunds, in currency';
COMMENT ON COLUMN cdp.sales_order.paid_at IS 'moment of the step; NULL: not reached or not known';
COMMENT ON COLUMN cdp.sales_order.source IS 'attached source or file the row came from; NULL: record_order()';

PERFORM cdp._ensure_table('sales_order_line', $t$ (
	line_id    bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	order_id   text NOT NULL,
	line_no    bigint NOT NULL,
	product_id text NOT NULL,
	quantity   numeric NOT NULL DEFAULT 1 CHECK (quantity >= 0 AND quantity < 'Infinity'),
	unit_price numeric CHECK (unit_price > '-Infinity' AND unit_price < 'Infinity'),
	category   text,
	source     text,
	updated_at timestamptz NOT NULL DEFAULT cdp.now(),
	UNIQUE (order_id, line_no)
) $t$);
COMMENT ON TABLE cdp.sales_order_line IS 'Lines of the orders. A line may arrive before its order.';
COMMENT ON COLUMN cdp.sales_order_line.unit_price IS 'price of one unit in the currency of the order; negative: a discount line; NULL: unknown';
COMMENT ON COLUMN cdp.sales_order_line.category IS 'category at the time of the order; NULL: that of the product';

PERFORM cdp._ensure_table('sales_refund', $t$ (
	refund_id   text PRIMARY KEY,
	order_id    text NOT NULL,
	amount      numeric NOT NULL CHECK (amount > 0 AND amount < 'Infinity'),
	reason      text,
	refunded_at timestamptz NOT NULL DEFAULT cdp.now()
) $t$);
CREATE INDEX IF NOT EXISTS sales_refund_order_id ON cdp.sales_refund (order_id);
COMMENT ON TABLE cdp.sales_refund IS 'Refunds, append-only; amount in the currency of the order. Their sum per order is sales_order.refunded.';

PERFORM cdp._ensure_table('currency_rate', $t$ (
	rate_id       bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	from_currency text NOT NULL CHECK (from_currency ~ '^[A-Z]{3}$'),
	to_currency   text NOT NULL CHECK (to_currency ~ '^[A-Z]{3}$'),
	valid_from    timestamptz NOT NULL DEFAULT '-infinity',
	rate          numeric NOT NULL CHECK (rate > 0 AND rate < 'Infinity'),
	UNIQUE (from_currency, to_currency, valid_from),
	CHECK (from_currency <> to_currency)
) $t$);
COMMENT ON TABLE cdp.currency_rate IS 'Exchange rates: one unit of from_currency is worth rate units of to_currency from valid_from until the next row. Used in both directions.';

-- @view
CREATE OR REPLACE VIEW cdp.order_track AS
SELECT o.order_id, coalesce(a.customer_id, o.profile_id) AS customer_id, o.status, o.channel, o.store_id, o.tracking_no,
	o.ordered_at, o.paid_at, o.shipped_at, o.completed_at, o.cancelled_at, r.refunded_at,
	o.amount, o.refunded, o.currency,
	round(extract(epoch FROM o.paid_at - o.ordered_at) / 3600, 2) AS hours_to_pay,
	round(extract(epoch FROM o.shipped_at - coalesce(o.paid_at, o.ordered_at)) / 3600, 2) AS hours_to_ship,
	round(extract(epoch FROM o.completed_at - coalesce(o.shipped_at, o.paid_at, o.ordered_at)) / 3600, 2) AS hours_to_complete,
	CASE WHEN o.status IN ('placed', 'paid', 'shipped') THEN
		round(extract(epoch FROM cdp.now() - CASE o.status WHEN 'shipped' THEN coalesce(o.shipped_at, o.paid_at, o.ordered_at)
			WHEN 'paid' THEN coalesce(o.paid_at, o.ordered_at) ELSE o.ordered_at END) / 3600, 2)
	END AS hours_waiting
FROM cdp.sales_order o
LEFT JOIN cdp.profile_alias a ON a.profile_id = o.profile_id
LEFT JOIN LATERAL (SELECT max(f.refunded_at) AS refunded_at FROM cdp.sales_refund f WHERE f.order_id = o.order_id) r ON true;
COMMENT ON VIEW cdp.order_track IS 'Where every order is now: status, the moment of each step (NULL: not reached or not known), hours between the steps, hours_waiting in the present step while the order is open.';

CREATE OR REPLACE FUNCTION cdp.record_order(identifiers jsonb, sales_order jsonb) RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	o     record;
	buyer bigint;
	r     record;
BEGIN
	PERFORM cdp._require_version();
	-- all that can be said before anything is written
	SELECT * INTO o FROM cdp._read_order(sales_order);
	SELECT i.* INTO r FROM cdp._identify_rows(ARRAY[identifiers], NULL, NULL, ARRAY[o.ordered_at]) i;
	IF r.sqlstate IS NOT NULL THEN
		RAISE EXCEPTION '%', r.message USING ERRCODE = r.sqlstate, HINT = r.hint;
	END IF;
	buyer := r.profile_id;

	IF o.ordered_at IS NULL AND NOT EXISTS (SELECT FROM cdp.sales_order s WHERE s.order_id = o.order_id) THEN
		o.ordered_at := cdp.now();
	END IF;
	SELECT a.* INTO r FROM cdp._apply_orders(ARRAY[buyer], ARRAY[o.order_id], ARRAY[o.ordered_at], ARRAY[o.status],
		ARRAY[o.amount], ARRAY[o.refunded], ARRAY[o.currency], ARRAY[o.channel], ARRAY[o.store_id], ARRAY[o.payment_method],
		ARRAY[o.paid_at], ARRAY[o.shipped_at], ARRAY[o.completed_at], ARRAY[o.tracking_no], NULL, true, ARRAY[o.cancelled_at],
		CASE WHEN o.products IS NOT NULL THEN jsonb_build_object(o.order_id, o.products) END) a;
	IF FOUND THEN
		RAISE EXCEPTION '%', r.reason USING ERRCODE = r.sqlstate,
			HINT = CASE r.sqlstate WHEN '23505' THEN 'An attached source writes that order. Record this one under a key of its own, for example "api-1001".' ELSE r.hint END;
	END IF;
	IF o.lines IS NOT NULL THEN
		PERFORM cdp._replace_lines(ARRAY[o.order_id], jsonb_build_array(o.lines));
	END IF;
	RETURN o.order_id;
END $$;
COMMENT ON FUNCTION cdp.record_order(jsonb, jsonb) IS 'Writes an order, or what is new about it; answers its order_id. identifiers: of the customer, as for cdp.identify(). sales_order: {"order_id": …, "ordered_at": … (default cdp.now()), "status": placed|paid|shipped|completed|cancelled|refunded (default placed), "amount": …, "refunded": running total, "currency": ISO 4217 (default CNY), "channel", "store_id", "payment_method", "paid_at", "shipped_at", "completed_at", "cancelled_at", "tracking_no", "lines": [{"line_no", "product_id", "quantity", "unit_price", "category"}]}. Keys left out stay as they are; lines given replace lines. An order first seen may have any status, then it goes forward only. Each new status is an event (Order Placed, Order Paid, …), written once. The same call again changes nothing. Errors: 22023 unknown key, malformed value, duplicate line, backward status; 22004 order_id, customer or amount missing; 23505 an attached source owns the order; LC101 no usable identifier.';

CREATE OR REPLACE FUNCTION cdp._replace_lines(order_ids text[], lines jsonb) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off	-- as in _update_orders
AS $$
-- most calls say again what is known; those need no lock
#variable_conflict use_column
DECLARE
	ids  text[];
	news jsonb;
	r    record;
BEGIN
	SELECT array_agg(u.id ORDER BY u.id COLLATE "C"), jsonb_agg(j.value ORDER BY u.id COLLATE "C") INTO ids, news
	FROM unnest(order_ids) WITH ORDINALITY u(id, n) JOIN jsonb_array_elements(lines) WITH ORDINALITY j ON j.ordinality = u.n
	WHERE (SELECT count(l.source) > 0 OR j.value <> coalesce(jsonb_agg(jsonb_build_object('line_no', l.line_no, 'product_id', l.product_id,
			'quantity', l.quantity, 'unit_price', l.unit_price, 'category', l.category) ORDER BY l.line_no), '[]')
		FROM cdp.sales_order_line l WHERE l.order_id = u.id);
	IF ids IS NULL THEN
		RETURN;
	END IF;
	PERFORM FROM cdp.sales_order o WHERE o.order_id = ANY (ids) ORDER BY o.order_id COLLATE "C" FOR NO KEY UPDATE;
	SELECT c.* INTO r FROM cdp.sales_order_line l,
		LATERAL cdp._commerce_complaint('owner', l.order_id || '/' || l.line_no, l.source, 'order line') c
	WHERE l.order_id = ANY (ids) AND l.source IS NOT NULL ORDER BY l.order_id, l.line_no LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION '%', r.reason USING ERRCODE = r.sqlstate,
			HINT = 'An attached source writes the lines of this order: leave "lines" out.';
	END IF;
	WITH n AS MATERIALIZED (
		SELECT u.id, ARRAY(SELECT (l.value ->> 'line_no')::bigint FROM jsonb_array_elements(j.value) l) AS nos
		FROM unnest(ids) WITH ORDINALITY u(id, n) JOIN jsonb_array_elements(news) WITH ORDINALITY j ON j.ordinality = u.n
	)
	DELETE FROM cdp.sales_order_line l USING n WHERE l.order_id = n.id AND l.line_no <> ALL (n.nos);
	PERFORM a.ord FROM (
		SELECT array_agg(u.id) AS ids, array_agg(n.line_no) AS nos, array_agg(n.product_id) AS products,
			array_agg(n.quantity) AS quantities, array_agg(n.unit_price) AS prices, array_agg(n.category) AS categories
		FROM unnest(ids) WITH ORDINALITY u(id, n) JOIN jsonb_array_elements(news) WITH ORDINALITY j ON j.ordinality = u.n,
			LATERAL jsonb_to_recordset(j.value) AS n(line_no bigint, product_id text, quantity numeric, unit_price numeric, category text)
		) n, LATERAL cdp._apply_order_lines(n.ids, n.nos, n.products, n.quantities, n.prices, n.categories, NULL) a;
END $$;
COMMENT ON FUNCTION cdp._replace_lines(text[], jsonb) IS 'internal: makes the n-th array of lines the lines of the n-th order';

CREATE OR REPLACE FUNCTION cdp.refund_order(order_id text, amount numeric, reason text DEFAULT NULL, refund_id text DEFAULT NULL)
	RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id    text := refund_id;
	o     record;
	known record;
	made  bigint;
	n     bigint;
BEGIN
	PERFORM cdp._require_version();
	IF order_id IS NULL OR amount IS NULL THEN
		RAISE EXCEPTION 'order_id and amount must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'For example SELECT cdp.refund_order(''1001'', 12.50, ''damaged'', ''refund-77'').';
	ELSIF amount <= 0 OR amount >= 'Infinity' THEN
		RAISE EXCEPTION 'the amount of a refund must be a finite number above 0' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'It is in the currency of the order.';
	ELSIF cdp._is_unwieldy(amount) THEN
		RAISE EXCEPTION 'a number has more than 30 digits before or 40 after the decimal point' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Round it: no currency needs more.';
	ELSIF id = '' OR octet_length(id) > 200 OR octet_length(reason) > 2000 THEN
		RAISE EXCEPTION 'refund_id or reason has an unusable length' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'refund_id has 1 to 200 bytes, reason up to 2000.';
	END IF;
	-- refunds of one order come one after the other
	SELECT * INTO o FROM cdp.sales_order s WHERE s.order_id = refund_order.order_id FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no such order' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Write it first: SELECT cdp.record_order(…).';
	END IF;
	SELECT * INTO known FROM cdp.sales_refund f WHERE f.refund_id = id;
	IF FOUND THEN
		IF known.order_id <> refund_order.order_id OR known.amount <> refund_order.amount THEN
			RAISE EXCEPTION 'this refund_id stands for another refund' USING ERRCODE = 'invalid_parameter_value',
				HINT = 'The same refund_id means the same refund of the same order; give another refund a refund_id of its own.';
		END IF;
		RETURN id;
	END IF;
	IF id LIKE '%/refunded/%' THEN
		RAISE EXCEPTION 'refund_id has the form of those that running totals get' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Leave "/refunded/" out of it.';
	END IF;
	IF amount > o.amount - o.refunded THEN
		RAISE EXCEPTION 'the refund is more than what is left of the order' USING ERRCODE = 'invalid_parameter_value',
			HINT = format('Of %s %s there are %s left to refund.', o.amount, o.currency, greatest(o.amount - o.refunded, 0));
	END IF;
	n := (SELECT count(*) FROM cdp.sales_refund f WHERE f.order_id = refund_order.order_id);
	LOOP
		n := n + 1;
		id := coalesce(refund_id, format('%s/%s', order_id, n));
		INSERT INTO cdp.sales_refund (refund_id, order_id, amount, reason, refunded_at)
			VALUES (id, refund_order.order_id, refund_order.amount, refund_order.reason, cdp.now()) ON CONFLICT DO NOTHING;
		GET DIAGNOSTICS made = ROW_COUNT;
		EXIT WHEN made = 1;
		IF refund_id IS NOT NULL THEN
			-- somebody was faster, for another order
			RAISE EXCEPTION 'this refund_id stands for another refund' USING ERRCODE = 'invalid_parameter_value',
				HINT = 'The same refund_id means the same refund of the same order; give another refund a refund_id of its own.';
		END IF;
	END LOOP;
	UPDATE cdp.sales_order s SET refunded = s.refunded + refund_order.amount,
		status = cdp._order_status(s.status, s.amount, s.refunded + refund_order.amount), updated_at = cdp.now()
	WHERE s.order_id = refund_order.order_id;
	PERFORM cdp._insert_events(ARRAY[o.profile_id], ARRAY['Order Refunded'], ARRAY[cdp.now()],
		ARRAY[jsonb_strip_nulls(jsonb_build_object('order_id', order_id, 'refund_id', id, 'total', amount,
			'currency', o.currency, 'reason', reason, 'full', o.refunded + amount >= o.amount))],
		ARRAY['refund/' || id], ARRAY['cdp'], ARRAY[o.channel], true);
	RETURN id;
END $$;
COMMENT ON FUNCTION cdp.refund_order(text, numeric, text, text) IS 'Gives back a part or all of an order; answers the refund_id. amount: in the currency of the order, above 0, at most what is left. reason: free text without personal data. refund_id: the application''s key, with which the call can be repeated; without it each call is a new refund. The order''s refunded rises; when nothing is left its status becomes refunded (a cancelled order stays cancelled). Writes the event Order Refunded. Errors: 22004 NULL order or amount, 22023 no such order, bad amount, more than is left, or the refund_id of another refund.';
