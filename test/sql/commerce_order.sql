-- the engine that writes orders, lines and products, batch by batch
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-10 12:00:00+00';
SET TimeZone = 'UTC';
-- orders from jsonb rows: [{"p": profile, "id": …, "at": …, "st": …, "amt": …, "ref": …, "cur": …, "paid": …}]
CREATE FUNCTION pg_temp.apply(rows jsonb, source text DEFAULT 'shop', strict boolean DEFAULT false)
	RETURNS TABLE (ord int, sqlstate text, reason text, hint text) LANGUAGE sql AS $$
	SELECT a.* FROM (
		SELECT array_agg(p) p, array_agg(id) id, array_agg(at) at, array_agg(st) st, array_agg(amt) amt, array_agg(ref) ref,
			array_agg(cur) cur, array_agg(ch) ch, array_agg(paid) paid, array_agg(done) done, array_agg(track) track
		FROM jsonb_to_recordset(rows) x(p bigint, id text, at timestamptz, st text, amt numeric, ref numeric, cur text,
			ch text, paid timestamptz, done timestamptz, track text)) r,
	LATERAL cdp._apply_orders(p, id, at, st, amt, ref, cur, ch, NULL, NULL, paid, NULL, done, track, source, strict) a $$;
CREATE VIEW pg_temp.orders AS SELECT order_id, profile_id AS p, ordered_at, status, amount, refunded AS ref, currency AS cur,
	paid_at, completed_at, cancelled_at, source FROM cdp.sales_order ORDER BY 1;
CREATE VIEW pg_temp.events AS SELECT profile_id AS p, name, occurred_at, message_id, properties, source, channel
	FROM cdp.event ORDER BY event_id;

-- history: any status at first sight, one event of that status, at the time of the step when it is given
SELECT * FROM pg_temp.apply('[
	{"p":1,"id":"a","at":"2026-01-01","st":"placed","amt":10},
	{"p":2,"id":"b","at":"2026-01-02","st":"completed","amt":20.50,"ref":5,"done":"2026-01-05","ch":"app"},
	{"p":3,"id":"c","at":"2026-01-03","st":"refunded","amt":30},
	{"p":4,"id":"d","at":"2026-01-04","amt":0,"cur":"USD"}]');
TABLE pg_temp.orders;
TABLE pg_temp.events;
SELECT * FROM cdp.sales_refund ORDER BY 1;
SELECT count(*), bool_and(permanent), min(source) FROM cdp.event_key;

-- the same again writes nothing: not a row version, not an event
CREATE TEMP TABLE was AS SELECT order_id, xmin::text AS x, ctid::text AS c, xmax::text AS l FROM cdp.sales_order;
SELECT * FROM pg_temp.apply('[
	{"p":1,"id":"a","at":"2026-01-01","st":"placed","amt":10},
	{"p":2,"id":"b","at":"2026-01-02","st":"completed","amt":20.5,"ref":5,"done":"2026-01-05"},
	{"p":3,"id":"c","at":"2026-01-03","st":"completed","amt":30.00},
	{"id":"d"}]');
SELECT count(*) AS changed FROM (SELECT order_id, xmin::text, ctid::text, xmax::text FROM cdp.sales_order EXCEPT TABLE was) x;
SELECT count(*) FROM cdp.event;

-- steps, several rows of one order, bad rows among them: the others go in
SELECT * FROM pg_temp.apply('[
	{"p":1,"id":"a","st":"paid","paid":"2026-01-01 08:00"},
	{"p":1,"id":"a","st":"completed","ch":"store"},
	{"p":9,"id":"e","at":"2026-02-01","st":"placed"},
	{"p":9,"id":"e","at":"2026-02-01","st":"placed","amt":7},
	{"p":9,"id":"e","st":"cancelled"},
	{"p":9,"id":"f","at":"2026-02-01","st":"lost","amt":7},
	{"p":9,"id":"g","at":"infinity","st":"paid","amt":7},
	{"p":9,"id":"h","at":"2026-02-01","st":"paid","amt":7,"paid":"-infinity"},
	{"p":9,"id":"i","at":"2026-02-01","st":"paid","amt":-7},
	{"p":9,"id":"j","at":"2026-02-01","st":"paid","amt":"NaN"},
	{"p":9,"id":"k","at":"2026-02-01","st":"paid","amt":"Infinity"},
	{"p":9,"id":"l","at":"2026-02-01","st":"paid","amt":1,"ref":"NaN"},
	{"p":9,"id":"m","at":"2026-02-01","st":"paid","amt":1,"cur":"cny"},
	{"p":9,"at":"2026-02-01","st":"paid","amt":1},
	{"p":9,"id":"","at":"2026-02-01","st":"paid","amt":1},
	{"id":"n","at":"2026-02-01","st":"paid","amt":1},
	{"p":4,"id":"d","ref":3}]');
SELECT * FROM pg_temp.orders WHERE order_id NOT IN ('b', 'c');
SELECT * FROM pg_temp.events OFFSET 5;
SELECT ord, sqlstate, reason FROM pg_temp.apply(jsonb_build_array(jsonb_build_object('p', 1, 'id', repeat('x', 201), 'at', '2026-01-01', 'amt', 1)));

-- the source is the truth: backwards is taken; a step that comes again is no second event
SELECT * FROM pg_temp.apply('[{"id":"a","st":"placed"}]');
SELECT * FROM pg_temp.apply('[{"id":"a","st":"completed"}]');
SELECT name, count(*) FROM cdp.event WHERE message_id LIKE 'order/a/%' GROUP BY 1 ORDER BY 1;
-- strict: it is refused, with what would go
SELECT * FROM pg_temp.apply('[{"id":"a","st":"paid"},{"id":"e","st":"paid"},{"id":"c","st":"paid"}]', strict => true);
SELECT * FROM pg_temp.apply('[{"id":"a","ref":99},{"p":1,"id":"new","at":"2026-01-01","amt":1,"ref":2}]', strict => true);
-- a key of another source
SELECT * FROM pg_temp.apply('[{"id":"a","st":"completed"},{"p":1,"id":"b","amt":1}]', source => 'pos');
SELECT * FROM pg_temp.apply('[{"p":1,"id":"api-1","at":"2026-01-01","amt":1}]', source => NULL);
SELECT ord, sqlstate, reason FROM pg_temp.apply('[{"id":"api-1","amt":1}]', source => 'pos');

-- running totals of refunds: each raise is a refund, a lower total is not taken, the whole amount closes the order
SELECT * FROM pg_temp.apply('[{"id":"b","ref":8.00},{"id":"b","ref":8},{"id":"b","ref":6},{"id":"b","ref":20.5}]');
SELECT * FROM cdp.sales_refund WHERE order_id = 'b' ORDER BY refunded_at, amount;
SELECT status, refunded FROM cdp.sales_order WHERE order_id = 'b';
SELECT name, occurred_at, message_id, properties FROM pg_temp.events WHERE message_id LIKE 'refund/b/%';
SELECT order_id FROM cdp.sales_order o WHERE refunded <> (SELECT coalesce(sum(amount), 0) FROM cdp.sales_refund r WHERE r.order_id = o.order_id);
-- a cancelled order stays cancelled when its money goes back
SELECT * FROM pg_temp.apply('[{"id":"e","ref":7}]');
SELECT status, refunded FROM cdp.sales_order WHERE order_id = 'e';

-- large batches: new ones at once, mixed ones over the careful path; lines are in the events of later steps
SELECT * FROM cdp._apply_order_lines('{z150,z150}', '{2,1}', '{tea,cup}', '{3,NULL}', '{2.5,10}', '{drinks,NULL}', 'shop');
SELECT count(*) FROM (SELECT pg_temp.apply(jsonb_agg(jsonb_build_object('p', g, 'id', 'z' || g, 'at', '2026-02-01', 'st', 'placed', 'amt', g))) FROM generate_series(1, 200) g) x;
SELECT count(*), sum(amount) FROM cdp.sales_order WHERE order_id LIKE 'z%';
SELECT count(*) FROM (SELECT pg_temp.apply(jsonb_agg(jsonb_build_object('p', g, 'id', 'z' || g, 'at', '2026-02-01', 'st', 'paid', 'amt', g) ORDER BY g)) FROM generate_series(149, 350) g WHERE g <> 349) x;
SELECT status, count(*), sum(amount) FROM cdp.sales_order WHERE order_id LIKE 'z%' GROUP BY 1 ORDER BY 1;
SELECT name, count(*) FROM cdp.event WHERE message_id LIKE 'order/z%' GROUP BY 1 ORDER BY 1;
-- looks new (neither first, middle nor last is known) and is not
SELECT count(*) FROM (SELECT pg_temp.apply(jsonb_agg(jsonb_build_object('p', g, 'id', CASE g WHEN 500 THEN 'z1' ELSE 'z' || g END, 'at', '2026-02-01', 'st', 'completed', 'amt', g) ORDER BY g)) FROM generate_series(400, 550) g) x;
SELECT count(*), (SELECT status FROM cdp.sales_order WHERE order_id = 'z1') FROM cdp.sales_order WHERE order_id LIKE 'z%';
SELECT count(*) - count(DISTINCT event_id) AS lost FROM cdp.event_key;
SELECT count(*) AS keys_without_event FROM cdp.event_key k LEFT JOIN cdp.event e USING (event_id) WHERE e.event_id IS NULL;
SELECT properties FROM cdp.event WHERE message_id = 'order/z150/paid';
SELECT * FROM cdp._apply_orders('{}', '{}', '{}', '{}', '{}', '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'shop', false);

-- orders of deleted source rows
SELECT cdp._cancel_orders('{z2,z2,api-1,c,nothing}', 'shop');
SELECT order_id, status, cancelled_at FROM cdp.sales_order WHERE order_id IN ('z2', 'api-1', 'c') ORDER BY 1;

-- lines: each with its whole content, the last of a batch counts
SELECT * FROM cdp._apply_order_lines('{z150,z150,z150,z150,z150,z150,NULL,z150}', '{1,1,3,4,5,NULL,1,6}', '{cup,mug,tea,tea,tea,tea,tea,NULL}',
	'{1,2,-1,NaN,1,1,1,1}', '{9,9,1,1,Infinity,1,1,1}', '{NULL,kitchen,NULL,NULL,NULL,NULL,NULL,NULL}', 'shop');
SELECT * FROM cdp._apply_order_lines('{z150}', '{1}', '{pan}', '{1}', NULL, NULL, 'pos');
SELECT order_id, line_no, product_id, quantity, unit_price, category, source FROM cdp.sales_order_line ORDER BY 1, 2;
-- products: NULL keeps
SELECT * FROM cdp._apply_products('{tea,cup,tea,x,y,z,NULL}', '{Tea,Cup,Green tea,X,Y,Z,N}', '{drinks,NULL,NULL,NULL,NULL,NULL,NULL}',
	'{10,NULL,NULL,-1,1,1,1}', '{NULL,USD,NULL,NULL,yuan,NULL,NULL}', '{NULL,draft,NULL,NULL,NULL,sold,NULL}', 'shop');
SELECT product_id, name, category, price, currency, status, source FROM cdp.product ORDER BY 1;
SELECT * FROM cdp._apply_products('{tea,cup}', NULL, NULL, '{12,3}', NULL, '{delisted,listed}', 'shop');
SELECT * FROM cdp._apply_products('{tea}', NULL, NULL, '{12}', NULL, NULL, 'pos');
SELECT product_id, name, category, price, currency, status, source FROM cdp.product ORDER BY 1;
-- the rows of a batch: what ends early or is NULL is NULL
SELECT ord, profile_id, order_id, amount, tracking_no, nth FROM cdp._order_rows('{1,2}', '{a,NULL,c}', NULL, NULL, '{1.50}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{t}', '{0,-1,2}');
SELECT count(*) FROM cdp._order_rows('{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
