-- Pairs of products and recommendations against plain SQL over random orders.  To repeat a run:
-- psql -v seed=NUMBER -f test/pgtap/value_affinity.sql (or CDP_SEED).
\if :{?seed}
\else
\getenv seed CDP_SEED
\endif
\if :{?seed}
\else
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 1000000 AS seed \gset
\endif
BEGIN;
SELECT plan(12);
SELECT diag('value_affinity: seed ' || :seed || ' (CDP_SEED chooses another)');
SELECT setseed((:seed % 1000000) / 1000000.0)::text = '' AS seeded \gset
SET LOCAL client_min_messages = warning;
SET LOCAL cdp.now = '2026-07-01T12:00:00+08:00';

-- 250 customers, 50 of them in two profiles; 120 products, the lower ones bought more, neighbours bought together
SELECT count(cdp.identify(jsonb_build_object('member_id', 'a' || i))) AS customers FROM generate_series(1, 300) i \gset
SELECT count(cdp.merge_customers(cdp.resolve('member_id', 'a' || i), cdp.resolve('member_id', 'a' || i + 250), 'test')) AS merged FROM generate_series(1, 50) i \gset
INSERT INTO cdp.product (product_id, category, status) SELECT 'p' || i, 'c' || i % 5, (ARRAY['listed', 'listed', 'listed', 'delisted', 'draft'])[1 + floor(5 * random())::int] FROM generate_series(1, 110) i;
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount, refunded)
	SELECT 'a' || i, d.profile_id, timestamptz '2026-07-05 00:00+08' - random() * interval '450 days',
		(ARRAY['paid', 'paid', 'shipped', 'completed', 'refunded', 'placed', 'cancelled'])[1 + floor(7 * random())::int], 10, (ARRAY[0, 0, 0, 4, 10])[1 + floor(5 * random())::int]
	FROM (SELECT i, 'a' || (1 + floor(300 * random()))::int AS who FROM generate_series(1, 3000) i) x JOIN cdp.identifier d ON d.kind = 'member_id' AND d.value = x.who;
INSERT INTO cdp.sales_order_line (order_id, line_no, product_id, quantity, unit_price)
	SELECT 'a' || i, n, 'p' || greatest(1, least(120, p + floor(3 * random())::int)), floor(4 * random())::int, CASE WHEN random() < 0.1 THEN -1 WHEN random() < 0.9 THEN 5 END
	FROM (SELECT i, n, 1 + floor(120 * power(random(), 3))::int AS p FROM generate_series(1, 3000) i, generate_series(1, 2) n OFFSET 0) x;
INSERT INTO cdp.repurchase_cycle (repurchase_cycle, by, key, k, r, alpha, customers, gaps, median_gap, unit_k, unit_r, unit_alpha, unit_median_gap, converged, boundary)
	SELECT t || ':' || k, t, k, 2, 3, 30, 9, 9, m, 2, 3, 30, 30, true, false
	FROM (VALUES ('category', 'c1', 40), ('category', 'c2', 100), ('product', 'p3', 30), ('product', 'p1', 200)) v(t, k, m);

CREATE TEMP TABLE owns AS SELECT cdp.customer_id(o.profile_id) AS c, l.product_id AS p, max(o.ordered_at) AS last_at
	FROM cdp.sales_order o JOIN cdp.sales_order_line l USING (order_id)
	WHERE o.status IN ('paid', 'shipped', 'completed', 'refunded') AND o.refunded < 10 AND o.ordered_at <= cdp.now() AND l.quantity > 0 AND l.unit_price IS DISTINCT FROM -1
	GROUP BY 1, 2;
CREATE INDEX ON owns (c);
ANALYZE owns;
-- by counting: N, a, b and c of every pair whose later purchase lies in the window
CREATE FUNCTION pg_temp.plain(days int) RETURNS TABLE (a text, b text, customers bigint, lift float8, affinity float8) LANGUAGE sql AS $$
	WITH o AS MATERIALIZED (SELECT c, p FROM owns WHERE last_at > cdp.now() - make_interval(days => days)),
	n AS (SELECT p, count(*)::float8 AS n FROM o GROUP BY p), t AS (SELECT count(DISTINCT c)::float8 AS n FROM o)
	SELECT x.p, y.p, count(*), count(*) / t.n / (min(nx.n) / t.n * min(ny.n) / t.n), (count(*) - min(nx.n) * min(ny.n) / t.n) / (sqrt(min(nx.n) * min(ny.n)) + 10)
	FROM o x JOIN o y ON y.c = x.c AND y.p <> x.p JOIN n nx ON nx.p = x.p JOIN n ny ON ny.p = y.p, t GROUP BY x.p, y.p, t.n $$;
CREATE FUNCTION pg_temp.refresh(batch bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	step record;
	upto text := '';
BEGIN
	PERFORM cdp._pairs_begin();
	LOOP
		SELECT * INTO step FROM cdp._pairs_step(upto, batch);
		EXIT WHEN step.upto IS NULL;
		upto := step.upto;
	END LOOP;
	PERFORM cdp._pairs_end();
END $$;

CREATE TEMP TABLE pair AS SELECT * FROM pg_temp.plain(365);
CREATE INDEX ON pair (a, b);
ANALYZE pair;
CREATE TEMP TABLE live AS SELECT p AS of_product, t.place, t.product_id, t.customers, t.lift FROM (SELECT DISTINCT p FROM owns) o, LATERAL cdp.also_bought(p, 100) WITH ORDINALITY t(product_id, customers, lift, place);
SELECT is_empty('SELECT * FROM cdp.product_pair', 'nothing is counted yet');
SELECT bag_eq('SELECT of_product, product_id, customers, round(lift::numeric, 9) FROM live', $$SELECT a, b, customers, round(lift::numeric, 9) FROM (SELECT *, row_number() OVER (PARTITION BY a ORDER BY round(affinity::numeric, 12) DESC, customers DESC, b COLLATE "C") AS place FROM pair) x WHERE place <= 100$$,
	'also_bought from the orders is plain SQL');
SELECT is_empty($$SELECT * FROM (SELECT l.*, lag(p.affinity) OVER (PARTITION BY of_product ORDER BY l.place) AS before, p.affinity FROM live l JOIN pair p ON (p.a, p.b) = (l.of_product, l.product_id)) x WHERE affinity > before + 1e-12$$,
	'the best comes first');
SELECT pg_temp.refresh(50);
SELECT bag_eq('SELECT product_id, other_product_id, customers FROM cdp.product_pair', 'SELECT of_product, product_id, customers FROM live', 'the table holds the same');
SELECT bag_eq($$SELECT p, t.place, t.product_id, t.customers, t.lift FROM (SELECT DISTINCT p FROM owns) o, LATERAL cdp.also_bought(p, 100) WITH ORDINALITY t(product_id, customers, lift, place)$$, 'SELECT * FROM live', 'also_bought from the table is that from the orders, in the same order');
SELECT bag_eq($$SELECT 'p2', t.product_id, t.customers, round(t.lift::numeric, 9) FROM cdp.also_bought('p2', 1000, '100 days') t$$, $$SELECT a, b, customers, round(lift::numeric, 9) FROM pg_temp.plain(100) WHERE a = 'p2'$$, 'another window is plain SQL');
CREATE TEMP TABLE pairs AS SELECT product_pair_id, product_id, other_product_id, customers FROM cdp.product_pair;
SELECT pg_temp.refresh(10000000);
SELECT bag_eq('SELECT product_pair_id, product_id, other_product_id, customers FROM cdp.product_pair', 'SELECT * FROM pairs', 'one batch or many, nothing changes');
SELECT is_empty('SELECT * FROM cdp.product_buyer', 'the scratch is empty');

-- everybody's recommendations
CREATE TEMP TABLE got AS SELECT c, t.* FROM (SELECT DISTINCT cdp.customer_id(profile_id) AS c FROM cdp.identifier WHERE value LIKE 'a%') x, LATERAL cdp.recommend_products(c, 1000) t;
CREATE TEMP TABLE share AS SELECT p, count(*)::float8 / (SELECT count(DISTINCT c) FROM owns WHERE last_at > cdp.now() - interval '365 days') AS share FROM owns WHERE last_at > cdp.now() - interval '365 days' GROUP BY p;
CREATE TEMP TABLE want AS
	WITH seed AS (SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY c ORDER BY last_at DESC) AS n FROM owns) o WHERE n <= 50),
	aff AS (SELECT s.c, r.b AS p, sum(r.affinity) AS affinity FROM seed s JOIN pair r ON r.a = s.p WHERE r.affinity > 0 GROUP BY 1, 2)
	SELECT x.c, h.p, coalesce(f.affinity, 0) + h.share / 1000 AS score
	FROM (SELECT DISTINCT cdp.customer_id(profile_id) AS c FROM cdp.identifier WHERE value LIKE 'a%') x CROSS JOIN share h LEFT JOIN aff f ON (f.c, f.p) = (x.c, h.p)
	WHERE NOT EXISTS (SELECT FROM cdp.product d WHERE d.product_id = h.p AND d.status <> 'listed')
	  AND NOT EXISTS (SELECT FROM owns o LEFT JOIN cdp.product d ON d.product_id = o.p WHERE (o.c, o.p) = (x.c, h.p) AND
		coalesce(o.last_at + CASE WHEN o.p = 'p3' THEN 30 WHEN o.p = 'p1' THEN 200 WHEN d.category = 'c1' THEN 40 WHEN d.category = 'c2' THEN 100 END * interval '24 hours' > cdp.now(), true));
SELECT bag_eq('SELECT c, product_id, round(score::numeric, 9) FROM got', 'SELECT c, p, round(score::numeric, 9) FROM want', 'recommendations are plain SQL');
SELECT is_empty($$SELECT * FROM got g WHERE because = 'best seller' AND EXISTS (SELECT FROM pair p JOIN owns o ON o.p = p.a WHERE o.c = g.c AND p.b = g.product_id AND p.affinity > 0)
		AND (SELECT count(*) FROM owns o WHERE o.c = g.c) <= 50
	UNION ALL SELECT * FROM got g WHERE because <> 'best seller' AND NOT EXISTS (SELECT FROM owns o WHERE o.c = g.c AND 'bought ' || o.p = g.because)$$, 'the reason is something he bought');
SELECT cmp_ok((SELECT count(*) FROM got g JOIN owns o ON (o.c, o.p) = (g.c, g.product_id)), '>', 0::bigint, 'what is due again is offered again');
SELECT bag_eq('SELECT c, product_id FROM (SELECT *, row_number() OVER (PARTITION BY c ORDER BY score DESC, product_id COLLATE "C") AS n FROM got) x WHERE n <= 3',
	'SELECT c, t.product_id FROM (SELECT DISTINCT c FROM got) x, LATERAL cdp.recommend_products(c, 3) t', 'three of them are the first three');
SELECT * FROM finish();
ROLLBACK;
