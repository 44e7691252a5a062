-- commerce_many: record_order, refund_order and products, many in one call.
-- Page: doc/commerce_many.md  Tests: test/sql/commerce_many.sql, test/specs/commerce_many_race.spec
--
-- record_order_many() does what record_order() would do item by item, in four steps:
--
--     read        every item is checked by the functions that record_order() uses
--     identify    all customers at once, in one lock order
--     apply       the first rows of all orders, then the second ones, …; 10,000 rows and lines at a time, ascending
--     lines       of the orders that were taken
--
-- Rows of one round are all of different orders, so that each one's event has its own lines and finds what the row
-- before it has left.

-- @code
CREATE OR REPLACE FUNCTION cdp._check_items(items jsonb, on_error text, example text) RETURNS int
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF items IS NULL OR on_error IS NULL THEN
		RAISE EXCEPTION 'items and on_error must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = format('For example %s.', example);
	ELSIF on_error NOT IN ('raise', 'skip') THEN
		RAISE EXCEPTION 'on_error must be ''raise'' or ''skip''' USING ERRCODE = 'invalid_parameter_value',
			HINT = '''skip'' leaves bad items out and takes the others.';
	ELSIF jsonb_typeof(items) <> 'array' THEN
		RAISE EXCEPTION 'items must be an array of objects' USING ERRCODE = 'invalid_parameter_value',
			HINT = format('For example %s.', example);
	ELSIF jsonb_array_length(items) > 100000 THEN
		RAISE EXCEPTION 'more than 100000 items in one call' USING ERRCODE = 'program_limit_exceeded',
			HINT = 'Send them in parts.';
	END IF;
	RETURN jsonb_array_length(items);
END $$;
COMMENT ON FUNCTION cdp._check_items(jsonb, text, text) IS 'internal: refuses the arguments of a verb for many when they are no batch; answers the number of items';

CREATE OR REPLACE FUNCTION cdp._raise_item(ord int, n int, sqlstate text, reason text, hint text) RETURNS void
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION '%', reason USING ERRCODE = sqlstate, HINT = coalesce(hint, ''), DETAIL = format('Item %s of %s.', ord, n);
END $$;
COMMENT ON FUNCTION cdp._raise_item(int, int, text, text, text) IS 'internal: the error of a bad item, with its number in the detail';

CREATE OR REPLACE FUNCTION cdp._read_orders(items jsonb)
	RETURNS TABLE (ord int, identifiers jsonb, order_id text, ordered_at timestamptz, status text, amount numeric,
		refunded numeric, currency text, channel text, store_id text, payment_method text, paid_at timestamptz,
		shipped_at timestamptz, completed_at timestamptz, cancelled_at timestamptz, tracking_no text, lines jsonb,
		products jsonb, state text, why text, advice text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	item jsonb;
BEGIN
	FOR item, ord IN SELECT j.value, j.ordinality FROM jsonb_array_elements(items) WITH ORDINALITY j LOOP
		state := NULL; why := NULL; advice := NULL;
		BEGIN
			IF jsonb_typeof(item) <> 'object' OR item - '{identifiers,order}'::text[] <> '{}' THEN
				RAISE EXCEPTION 'an item must be an object with the keys identifiers and order' USING ERRCODE = 'invalid_parameter_value',
					HINT = 'For example {"identifiers": {"phone": "…"}, "order": {"order_id": "1001", "amount": 12.50}}.';
			END IF;
			identifiers := nullif(item -> 'identifiers', 'null');
			SELECT r.* INTO order_id, ordered_at, status, amount, refunded, currency, channel, store_id, payment_method, paid_at,
				shipped_at, completed_at, cancelled_at, tracking_no, lines, products
			FROM cdp._read_order(nullif(item -> 'order', 'null')) r;
		EXCEPTION WHEN data_exception THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, why = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT;
			order_id := NULL; identifiers := NULL; lines := NULL; products := NULL;
		END;
		RETURN NEXT;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._read_orders(jsonb) IS 'internal: the items of record_order_many as rows; a bad one has its SQLSTATE in state, why and advice, and no order_id';

-- @access
('function', 'record_order_many', 'EXECUTE', '{application,operator}'),
('function', 'record_products', 'EXECUTE', '{application,operator}'),
('function', 'refund_order_many', 'EXECUTE', '{application,operator}'),

-- @data

-- @view
CREATE OR REPLACE FUNCTION cdp.record_order_many(items jsonb, on_error text DEFAULT 'raise')
	RETURNS TABLE (ord int, order_id text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_hashagg = off
AS $$
#variable_conflict use_column
DECLARE
	n   int;
	bad int[] := '{}';
	-- One row is one batch: the items that were refused (round 0), then the rounds.  It is a cursor, and groups what is
	-- sorted, so that no more than one batch is in memory.
	batches CURSOR FOR
		WITH given AS MATERIALIZED (
			SELECT * FROM cdp._read_orders(items)
		), known AS MATERIALIZED (
			SELECT g.ords[i.ord] AS ord, i.profile_id, i.sqlstate, i.message, i.hint
			FROM (SELECT array_agg(v.ord ORDER BY v.ord) AS ords, array_agg(v.identifiers ORDER BY v.ord) AS identifiers,
				array_agg(v.ordered_at ORDER BY v.ord) AS ats FROM given v WHERE v.state IS NULL) g,
				LATERAL cdp._identify_rows(g.identifiers, NULL, NULL, g.ats) i
		), placed AS (
			SELECT v.*, k.profile_id, coalesce(v.state, k.sqlstate) AS sqlstate, coalesce(v.why, k.message) AS reason,
				coalesce(v.advice, k.hint) AS hint, CASE WHEN v.state IS NOT NULL OR k.sqlstate IS NOT NULL THEN 0
				ELSE row_number() OVER (PARTITION BY v.order_id, v.state IS NULL AND k.sqlstate IS NULL ORDER BY v.ord) END AS round
			FROM given v LEFT JOIN known k ON k.ord = v.ord
		), numbered AS (
			SELECT p.*, sum(1 + coalesce(jsonb_array_length(p.lines), 0))
				OVER (PARTITION BY p.round ORDER BY p.order_id COLLATE "C", p.ord ROWS UNBOUNDED PRECEDING) / 10000 AS place
			FROM placed p
		)
		SELECT round, array_agg(ord) AS ords, array_agg(sqlstate) AS sqlstates, array_agg(reason) AS reasons, array_agg(hint) AS hints,
			array_agg(profile_id) AS profile_ids, array_agg(order_id) AS order_ids, array_agg(ordered_at) AS ordered_ats,
			array_agg(status) AS statuses, array_agg(amount) AS amounts, array_agg(refunded) AS refundeds,
			array_agg(currency) AS currencies, array_agg(channel) AS channels, array_agg(store_id) AS store_ids,
			array_agg(payment_method) AS payment_methods, array_agg(paid_at) AS paid_ats, array_agg(shipped_at) AS shipped_ats,
			array_agg(completed_at) AS completed_ats, array_agg(cancelled_at) AS cancelled_ats, array_agg(tracking_no) AS tracking_nos,
			array_agg(lines) AS lines, jsonb_object_agg(order_id, products) FILTER (WHERE products IS NOT NULL) AS products
		FROM (SELECT * FROM numbered ORDER BY round, place, order_id COLLATE "C", ord) s	-- the arrays keep this order
		GROUP BY round, place ORDER BY round, place;
BEGIN
	PERFORM cdp._require_version();
	n := cdp._check_items(items, on_error,
		'SELECT * FROM cdp.record_order_many(''[{"identifiers": {"member_id": "1"}, "order": {"order_id": "1001", "amount": 12.50}}]'')');
	FOR b IN batches LOOP
		IF b.round = 0 THEN
			IF on_error = 'raise' THEN
				PERFORM cdp._raise_item(u.ord, n, u.s, u.r, u.h) FROM unnest(b.ords, b.sqlstates, b.reasons, b.hints) u(ord, s, r, h) ORDER BY u.ord LIMIT 1;
			END IF;
			bad := bad || b.ords;
			CONTINUE;
		END IF;
		bad := bad || cdp._record_batch(b.ords, b.profile_ids, b.order_ids, b.ordered_ats, b.statuses, b.amounts, b.refundeds,
			b.currencies, b.channels, b.store_ids, b.payment_methods, b.paid_ats, b.shipped_ats, b.completed_ats,
			b.cancelled_ats, b.tracking_nos, b.lines, b.products, CASE on_error WHEN 'raise' THEN n END);
	END LOOP;
	RETURN QUERY SELECT j.ordinality::int, CASE WHEN j.ordinality IN (SELECT unnest(bad)) THEN NULL ELSE j.value #>> '{order,order_id}' END
		FROM jsonb_array_elements(items) WITH ORDINALITY j ORDER BY 1;
END $$;
COMMENT ON FUNCTION cdp.record_order_many(jsonb, text) IS 'record_order() for up to 100,000 items [{"identifiers": {…}, "order": {…}}, …] in one transaction; the result is that of record_order() item by item, also when an order comes several times. Answers ord, counted from 1, and the order_id. on_error: raise (the first bad item found, its number in the detail; nothing is written) or skip (NULL order_id for it, the others are taken; its customer may be known from now on). Errors as record_order(), 54000 more items.';

CREATE OR REPLACE FUNCTION cdp._record_batch(ords int[], profile_ids bigint[], order_ids text[], ordered_ats timestamptz[],
	statuses text[], amounts numeric[], refundeds numeric[], currencies text[], channels text[], store_ids text[],
	payment_methods text[], paid_ats timestamptz[], shipped_ats timestamptz[], completed_ats timestamptz[],
	cancelled_ats timestamptz[], tracking_nos text[], lines jsonb[], products jsonb, raise_of int) RETURNS int[]
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	bad    int[] := '{}';
	r      record;
	with_lines text[];
	news   jsonb;
BEGIN
	-- an item with lines that a source writes is refused before anything of it is written: without its key it goes no further
	FOR r IN
		SELECT u.n, u.ord, c.* FROM unnest(ords, order_ids, lines) WITH ORDINALITY u(ord, id, lines, n), LATERAL (
			SELECT l.line_no, l.source FROM cdp.sales_order_line l WHERE l.order_id = u.id AND l.source IS NOT NULL ORDER BY l.line_no LIMIT 1) l,
			LATERAL cdp._commerce_complaint('owner', u.id || '/' || l.line_no, l.source, 'order line') c
		WHERE u.lines IS NOT NULL ORDER BY u.ord
	LOOP
		IF raise_of IS NOT NULL THEN
			PERFORM cdp._raise_item(r.ord, raise_of, r.sqlstate, r.reason, 'An attached source writes the lines of this order: leave "lines" out.');
		END IF;
		order_ids[r.n] := NULL;
	END LOOP;
	-- a new order without a time was placed now
	IF array_position(ordered_ats, NULL) IS NOT NULL THEN
		ordered_ats := ARRAY(SELECT CASE WHEN u.at IS NULL AND NOT EXISTS (SELECT FROM cdp.sales_order s WHERE s.order_id = u.id)
			THEN cdp.now() ELSE u.at END FROM unnest(order_ids, ordered_ats) WITH ORDINALITY u(id, at, n) ORDER BY u.n);
	END IF;
	FOR r IN SELECT a.* FROM cdp._apply_orders(profile_ids, order_ids, ordered_ats, statuses, amounts, refundeds, currencies, channels,
		store_ids, payment_methods, paid_ats, shipped_ats, completed_ats, tracking_nos, NULL, true, cancelled_ats, products) a ORDER BY ords[a.ord]
	LOOP
		IF raise_of IS NOT NULL THEN
			PERFORM cdp._raise_item(ords[r.ord], raise_of, r.sqlstate, r.reason, CASE r.sqlstate WHEN '23505'
				THEN 'An attached source writes that order. Record this one under a key of its own, for example "api-1001".' ELSE r.hint END);
		END IF;
		bad := bad || ords[r.ord];
	END LOOP;
	SELECT array_agg(u.id), jsonb_agg(u.lines) INTO with_lines, news
	FROM unnest(ords, order_ids, lines) u(ord, id, lines) WHERE u.lines IS NOT NULL AND u.ord NOT IN (SELECT unnest(bad));
	IF with_lines IS NOT NULL THEN
		PERFORM cdp._replace_lines(with_lines, news);
	END IF;
	RETURN bad;
END $$;
COMMENT ON FUNCTION cdp._record_batch(int[], bigint[], text[], timestamptz[], text[], numeric[], numeric[], text[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[], timestamptz[], text[], jsonb[], jsonb, int) IS 'internal: one batch of record_order_many, no two items of one order; answers the numbers of those that were not taken. raise_of: the number of items of the call, when the first of them is to be raised';

CREATE OR REPLACE FUNCTION cdp.refund_order_many(items jsonb, on_error text DEFAULT 'raise')
	RETURNS TABLE (ord int, refund_id text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- One after the other, because what is left of an order depends on the refund before; but all orders are locked first,
-- in the order in which everybody locks them.
#variable_conflict use_column
DECLARE
	n    int;
	item jsonb;
	state text;
	why   text;
	advice text;
BEGIN
	PERFORM cdp._require_version();
	n := cdp._check_items(items, on_error, 'SELECT * FROM cdp.refund_order_many(''[{"order_id": "1001", "amount": 12.50, "refund_id": "r-1"}]'')');
	PERFORM FROM cdp.sales_order o WHERE o.order_id = ANY (ARRAY(SELECT j.value ->> 'order_id' FROM jsonb_array_elements(items) j))
		ORDER BY o.order_id COLLATE "C" FOR NO KEY UPDATE;
	FOR item, ord IN SELECT j.value, j.ordinality FROM jsonb_array_elements(items) WITH ORDINALITY j LOOP
		refund_id := NULL;
		state := NULL;
		BEGIN
			PERFORM cdp._check_object(item, 'the refund', '{order_id,reason,refund_id}', '{amount}', '{}', '{}');
			refund_id := cdp.refund_order(item ->> 'order_id', (item ->> 'amount')::numeric, item ->> 'reason', item ->> 'refund_id');
		EXCEPTION WHEN data_exception THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, why = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT;
		END;
		IF state IS NOT NULL AND on_error = 'raise' THEN
			PERFORM cdp._raise_item(ord, n, state, why, advice);
		END IF;
		RETURN NEXT;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp.refund_order_many(jsonb, text) IS 'refund_order() for up to 100,000 items [{"order_id": …, "amount": …, "reason": …, "refund_id": …}, …] in one transaction and one lock order, in the order of the items. Answers ord, counted from 1, and the refund_id. on_error: raise (the first bad item, its number in the detail; nothing is written) or skip (NULL refund_id for it, the others are taken). Errors as refund_order(), 54000 more items.';

CREATE OR REPLACE FUNCTION cdp.record_products(items jsonb, on_error text DEFAULT 'raise') RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
DECLARE
	n     int;
	e     record;
	c     record;
	bad   int[] := '{}';
	ords  int[];
	ids   text[];
	names text[];
	categories text[];
	prices numeric[];
	currencies text[];
	statuses text[];
	made  bigint;
	total bigint;
	state text;
	why   text;
	advice text;
BEGIN
	PERFORM cdp._require_version();
	n := cdp._check_items(items, on_error, 'SELECT cdp.record_products(''[{"product_id": "tea", "name": "绿茶", "price": 30}]'')');
	FOR e IN SELECT j.value, j.ordinality::int AS ord FROM jsonb_array_elements(items) WITH ORDINALITY j LOOP
		state := NULL;
		BEGIN
			PERFORM cdp._check_object(e.value, 'the product', '{product_id,name,category,currency,status}', '{price}', '{}', '{}');
			SELECT t.* INTO c FROM cdp._commerce_complaint(cdp._product_defect(e.value ->> 'product_id', e.value ->> 'name',
				e.value ->> 'category', (e.value ->> 'price')::numeric, e.value ->> 'currency', e.value ->> 'status')) t;
			IF FOUND THEN
				state := c.sqlstate; why := c.reason; advice := c.hint;
			END IF;
		EXCEPTION WHEN data_exception THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, why = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT;
		END;
		IF state IS NOT NULL THEN
			IF on_error = 'raise' THEN
				PERFORM cdp._raise_item(e.ord, n, state, why, advice);
			END IF;
			bad := bad || e.ord;
		END IF;
	END LOOP;
	-- of a product that comes several times the last value of every key counts; ascending, so that two calls never wait
	-- for each other in a circle
	SELECT array_agg(s.ord), array_agg(s.id), array_agg(s.name), array_agg(s.category), array_agg(s.price), array_agg(s.currency), array_agg(s.status)
	INTO ords, ids, names, categories, prices, currencies, statuses
	FROM (SELECT v.id, max(v.ord) AS ord, (array_agg(v.name ORDER BY v.ord DESC) FILTER (WHERE v.name IS NOT NULL))[1] AS name,
			(array_agg(v.category ORDER BY v.ord DESC) FILTER (WHERE v.category IS NOT NULL))[1] AS category,
			(array_agg(v.price ORDER BY v.ord DESC) FILTER (WHERE v.price IS NOT NULL))[1] AS price,
			(array_agg(v.currency ORDER BY v.ord DESC) FILTER (WHERE v.currency IS NOT NULL))[1] AS currency,
			(array_agg(v.status ORDER BY v.ord DESC) FILTER (WHERE v.status IS NOT NULL))[1] AS status
		FROM (SELECT j.ordinality::int AS ord, j.value ->> 'product_id' AS id, j.value ->> 'name' AS name, j.value ->> 'category' AS category,
				(j.value ->> 'price')::numeric AS price, j.value ->> 'currency' AS currency, j.value ->> 'status' AS status
			FROM jsonb_array_elements(items) WITH ORDINALITY j WHERE j.ordinality NOT IN (SELECT unnest(bad))) v
		GROUP BY v.id ORDER BY v.id COLLATE "C") s;
	INSERT INTO cdp.product (product_id, name, category, price, currency, status)
		SELECT u.id, u.name, u.category, u.price, coalesce(u.currency, 'CNY'), coalesce(u.status, 'listed')
		FROM unnest(ids, names, categories, prices, currencies, statuses) u(id, name, category, price, currency, status)
		ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS made = ROW_COUNT;
	IF made = cardinality(ids) THEN
		RETURN made;
	END IF;
	SELECT u.ord, t.* INTO c FROM unnest(ords, ids) u(ord, id) JOIN cdp.product p ON p.product_id = u.id,
		LATERAL cdp._commerce_complaint('owner', p.product_id, p.source, 'product') t
	WHERE p.source IS NOT NULL ORDER BY u.ord LIMIT 1;
	IF FOUND AND on_error = 'raise' THEN
		PERFORM cdp._raise_item(c.ord, n, c.sqlstate, c.reason, 'An attached source writes that product: give this one a key of its own.');
	END IF;
	-- two statements, so that the second one sees what the locks have waited for
	PERFORM FROM unnest(ids, names, categories, prices, currencies, statuses) u(id, name, category, price, currency, status)
		JOIN cdp.product p ON p.product_id = u.id
	WHERE p.source IS NULL AND (p.name, p.category, p.price, p.currency, p.status) IS DISTINCT FROM (coalesce(u.name, p.name),
		coalesce(u.category, p.category), coalesce(u.price, p.price), coalesce(u.currency, p.currency), coalesce(u.status, p.status))
	ORDER BY p.product_id COLLATE "C" FOR NO KEY UPDATE OF p;
	UPDATE cdp.product p SET (name, category, price, currency, status, updated_at) = (coalesce(u.name, p.name),
		coalesce(u.category, p.category), coalesce(u.price, p.price), coalesce(u.currency, p.currency), coalesce(u.status, p.status), cdp.now())
	FROM unnest(ids, names, categories, prices, currencies, statuses) u(id, name, category, price, currency, status)
	WHERE p.product_id = u.id AND p.source IS NULL
	  AND (p.name, p.category, p.price, p.currency, p.status) IS DISTINCT FROM (coalesce(u.name, p.name),
		coalesce(u.category, p.category), coalesce(u.price, p.price), coalesce(u.currency, p.currency), coalesce(u.status, p.status));
	GET DIAGNOSTICS total = ROW_COUNT;
	RETURN made + total;
END $$;
COMMENT ON FUNCTION cdp.record_products(jsonb, text) IS 'Writes up to 100,000 products [{"product_id": …, "name": …, "category": …, "price": …, "currency": ISO 4217 (default CNY), "status": draft|listed|delisted (default listed)}, …] in one transaction, or what is new about them; keys left out, or null, stay as they are. Answers how many rows were made or changed: the same call again answers 0. Of a product that comes several times the last value of each key counts. on_error: raise (the first bad item found, its number in the detail; nothing is written) or skip (the others are taken). Errors: 22004 NULL items or no product_id, 22023 unknown key or malformed value, 23505 an attached source owns the product, 54000 more items.';
