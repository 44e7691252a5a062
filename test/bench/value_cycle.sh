#!/bin/bash
# Repurchase cycles and product affinity over 1 million order lines (SCALE=10: 10 million): 400,000 orders of 100,000
# customers, 20,000 of them in two profiles, 2,000 products in 20 categories, few products and few customers having
# most.  Every row says how many times the join of lines and orders it costs, serial and warm.
set -euo pipefail
n=$((${SCALE:-1} * 1000000))
psql -XAtq -v ON_ERROR_STOP=1 -v n="$n" <<'X'
SET client_min_messages = warning;
SET synchronous_commit = off;
SET work_mem = '256MB';
SET max_parallel_workers_per_gather = 0;
SET jit = off;
SET cdp.now = '2026-06-30 13:00+08';
SELECT setseed(0.3) IS NULL AS seeded \gset
INSERT INTO cdp.profile (profile_id) SELECT i FROM generate_series(1, :n / 10) i;
SET session_replication_role = replica;
INSERT INTO cdp.profile_alias (profile_id, customer_id) SELECT i, i - 1 FROM generate_series(2, :n / 50, 2) i;
SET session_replication_role = origin;
INSERT INTO cdp.product (product_id, category) SELECT 'p' || i, 'c' || i % 20 FROM generate_series(1, 2000) i;
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount)
	SELECT i, 1 + floor(:n / 10 * power(random(), 2))::int, '2026-06-30 12:00+08'::timestamptz - 500 * random() * interval '1 day', 'paid', 10 FROM generate_series(1, :n / 5 * 2) i;
INSERT INTO cdp.sales_order_line (order_id, line_no, product_id, quantity)
	SELECT 1 + i % (:n / 5 * 2), i / (:n / 5 * 2), 'p' || 1 + floor(2000 * power(random(), 2))::int, 1 + i % 2 FROM generate_series(0, :n - 1) i;
VACUUM ANALYZE cdp.sales_order;
VACUUM ANALYZE cdp.sales_order_line;
VACUUM ANALYZE cdp.product;
VACUUM ANALYZE cdp.profile_alias;
CREATE FUNCTION ms(statement text, times int) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	t timestamptz;
	ms float8[];
BEGIN
	FOR i IN 1 .. times LOOP
		t := clock_timestamp();
		EXECUTE statement;
		ms := ms || extract(epoch FROM clock_timestamp() - t)::float8 * 1000;
	END LOOP;
	RETURN (SELECT round((percentile_cont(0.5) WITHIN GROUP (ORDER BY m))::numeric, 1) FROM unnest(ms) m);
END $$;
SELECT ms('SELECT count(*), sum(l.quantity) FROM cdp.sales_order_line l JOIN cdp.sales_order o USING (order_id)', 4) AS scan \gset
\echo lines :n, join of lines and orders :scan ms
\echo what | ms | times the join
SELECT v.what, m.ms, round(m.ms / :scan, 1) FROM (VALUES
	('GROUP BY customer, category and day', 'SELECT count(*) FROM (SELECT coalesce(a.customer_id, o.profile_id), p.category, (o.ordered_at AT TIME ZONE ''Asia/Shanghai'')::date, sum(l.quantity), max(o.ordered_at) FROM cdp.sales_order_line l JOIN cdp.sales_order o USING (order_id) JOIN cdp.product p USING (product_id) LEFT JOIN cdp.profile_alias a USING (profile_id) GROUP BY 1, 2, 3) x', 1),
	('_fit_repurchase: category, product, customer', 'SELECT cdp._fit_repurchase()', 3),
	('repurchase_due by category', 'SELECT count(*) FROM cdp.repurchase_due()', 3),
	('repurchase_due by product', 'SELECT count(*) FROM cdp.repurchase_due(by => ''product'')', 3),
	('repurchase_due by customer', 'SELECT count(*) FROM cdp.repurchase_due(by => ''customer'')', 3),
	('repurchase_rate', 'SELECT count(*) FROM cdp.repurchase_rate()', 3),
	('also_bought of the best seller, from the orders', 'SELECT count(*) FROM cdp.also_bought(''p1'', 10, ''366 days'')', 3)) v(what, statement, times), LATERAL (SELECT ms(v.statement, v.times) AS ms) m;
SELECT clock_timestamp() AS t \gset
CALL cdp.refresh_product_pairs();
SELECT extract(epoch FROM clock_timestamp() - :'t') * 1000 AS ms \gset
SELECT 'refresh_product_pairs, first', round(:ms), round(:ms / :scan, 1), (SELECT sum(customers) FROM cdp.product_popularity) || ' buyers of products, ' || count(*) || ' pairs kept' FROM cdp.product_pair;
SELECT clock_timestamp() AS t \gset
CALL cdp.refresh_product_pairs();
SELECT extract(epoch FROM clock_timestamp() - :'t') * 1000 AS ms \gset
SELECT 'refresh_product_pairs, nothing changed', round(:ms), round(:ms / :scan, 1);
SELECT 'also_bought from the table', ms('SELECT count(*) FROM generate_series(1, 1000) i, LATERAL cdp.also_bought(''p'' || i)', 3) / 1000, 'each';
SELECT 'recommend_products', ms('SELECT count(*) FROM generate_series(1, 1000) i, LATERAL cdp.recommend_products(i)', 1) / 1000, 'each';
X
