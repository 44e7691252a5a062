-- Properties of the order engine over random batches.
BEGIN;
SELECT plan(10);
SELECT (random() * 1000000)::int AS seed \gset
SELECT diag('seed of commerce: ' || :seed);
SELECT setseed(:seed / 1000001.0);
SET LOCAL cdp.now = '2026-03-10 12:00:00+00';
-- 1,500 rows about 300 orders, about one in eight of them bad, many of them saying what is known
CREATE TEMP TABLE feed AS
SELECT g AS n, 'k' || (random() * 300)::int AS k, CASE WHEN random() < 0.95 THEN 1 + (random() * 9)::bigint END AS p,
	CASE WHEN random() < 0.9 THEN timestamptz '2026-01-01+00' + g * interval '1 hour' WHEN random() < 0.2 THEN 'infinity' END AS at,
	(ARRAY['placed','paid','shipped','completed','cancelled','refunded','lost',NULL])[1 + floor(random() ^ 2 * 8)::int] AS st,
	CASE WHEN random() < 0.85 THEN round((random() * 5)::numeric) * 10 WHEN random() < 0.1 THEN 'NaN' WHEN random() < 0.1 THEN -1 END AS amt,
	CASE WHEN random() < 0.3 THEN round((random() * 6)::numeric) * 8 END AS ref,
	CASE WHEN random() < 0.2 THEN timestamptz '2026-02-01+00' END AS paid,
	(ARRAY['web','app',NULL])[1 + floor(random() * 3)::int] AS ch
FROM generate_series(1, 1500) g;
CREATE TEMP TABLE refused (side text, n int, code text);

CREATE FUNCTION pg_temp.apply(side text, from_n int, to_n int, strict boolean) RETURNS void LANGUAGE sql AS $$
	INSERT INTO refused
	SELECT side, f.ns[a.ord], a.sqlstate FROM (
		SELECT array_agg(n ORDER BY n) ns, array_agg(p ORDER BY n) p, array_agg(side || '/' || k ORDER BY n) k, array_agg(at ORDER BY n) at,
			array_agg(st ORDER BY n) st, array_agg(amt ORDER BY n) amt, array_agg(ref ORDER BY n) ref, array_agg(paid ORDER BY n) paid,
			array_agg(ch ORDER BY n) ch FROM feed WHERE n BETWEEN from_n AND to_n) f,
	LATERAL cdp._apply_orders(p, k, at, st, amt, ref, NULL, ch, NULL, NULL, paid, NULL, NULL, NULL, side, strict) a $$;
SELECT pg_temp.apply('A', g, g + 499, g > 1000) FROM generate_series(1, 1001, 500) g;
SELECT pg_temp.apply('B', g, g, g > 1000) FROM generate_series(1, 1500) g;
-- every order once, nothing bad: the way without conflicts
DELETE FROM feed f USING feed first WHERE f.k = first.k AND f.n > first.n;
UPDATE feed SET p = 1, at = '2026-01-01+00', st = coalesce(nullif(st, 'lost'), 'paid'), amt = 48, ref = least(ref, 40);
SELECT pg_temp.apply('C', 1, 1500, false);
SELECT pg_temp.apply('D', n, n, false) FROM feed ORDER BY n;

CREATE FUNCTION pg_temp.orders(side text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT (substr(order_id, 2), profile_id, ordered_at, status, amount, refunded, channel, paid_at, shipped_at, completed_at, cancelled_at)::text
	FROM cdp.sales_order WHERE source = side $$;
-- what happened to each order, in the order of the log
CREATE FUNCTION pg_temp.history(side text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s %s %s', name, profile_id, occurred_at, regexp_replace(properties::text, side || '/', '', 'g')), E'\n' ORDER BY event_id)
	FROM cdp.event WHERE properties ->> 'order_id' LIKE side || '/%' GROUP BY properties ->> 'order_id' $$;
SELECT bag_eq($$SELECT pg_temp.orders('A')$$, $$SELECT pg_temp.orders('B')$$, 'a batch leaves the orders that its rows one by one leave');
SELECT bag_eq($$SELECT pg_temp.history('A')$$, $$SELECT pg_temp.history('B')$$, '… and the events');
SELECT bag_eq($$SELECT n, code FROM refused WHERE side = 'A'$$, $$SELECT n, code FROM refused WHERE side = 'B'$$, '… and refuses the same rows for the same reasons');
SELECT cmp_ok((SELECT count(*) FROM refused WHERE side = 'A'), '>', 50::bigint, '… of which there are some');
SELECT bag_eq($$SELECT pg_temp.orders('C')$$, $$SELECT pg_temp.orders('D')$$, 'a batch of new orders leaves the same orders');
SELECT bag_eq($$SELECT pg_temp.history('C')$$, $$SELECT pg_temp.history('D')$$, '… and the same events');
SELECT is_empty($$SELECT order_id, refunded FROM cdp.sales_order o
	WHERE refunded <> (SELECT coalesce(sum(amount), 0) FROM cdp.sales_refund r WHERE r.order_id = o.order_id)$$,
	'refunded is the sum of the refunds');
SELECT is_empty($$SELECT message_id FROM cdp.event_key FULL JOIN cdp.event USING (event_id, message_id)
	WHERE event_key.source IS DISTINCT FROM 'cdp' OR event.source IS DISTINCT FROM 'cdp' OR NOT permanent$$,
	'every event has its key, every key its event');
SELECT is_empty($$SELECT order_id FROM cdp.sales_order WHERE refunded > 0 AND refunded >= amount AND status NOT IN ('refunded', 'cancelled')$$,
	'an order that is given back whole is refunded or cancelled');
-- all of it again: nothing new
CREATE TEMP TABLE was AS SELECT (SELECT count(*) FROM cdp.event) AS events, (SELECT sum(hashtextextended(o::text || o.xmin || o.xmax || o.ctid, 0)) FROM cdp.sales_order o) AS orders;
SELECT pg_temp.apply('D', 1, 1500, false);
SELECT results_eq('SELECT * FROM was', $$SELECT (SELECT count(*) FROM cdp.event), (SELECT sum(hashtextextended(o::text || o.xmin || o.xmax || o.ctid, 0)) FROM cdp.sales_order o)$$,
	'what is said again writes no event and no row version');
SELECT * FROM finish();
ROLLBACK;
