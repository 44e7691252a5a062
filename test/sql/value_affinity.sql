-- value_affinity: products that go together, recommendations
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET cdp.now = '2026-07-01T12:00:00+08:00';
SELECT job, command, schedule FROM cdp.job WHERE job = 'refresh_product_pairs';
-- nothing there
SELECT * FROM cdp.also_bought('tea');
CALL cdp.refresh_product_pairs();
SELECT * FROM cdp.also_bought('tea');
SELECT cdp.identify('{"member_id": "m-0"}') AS customer;
SELECT * FROM cdp.recommend_products(1);

-- 60 customers: 1 to 30 buy tea, 16 to 35 a cup, 25 to 44 a pot, 50 a kettle, everybody sugar; prices do not matter
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm-' || i))) FROM generate_series(1, 60) i;
SELECT cdp.record_products('[{"product_id": "tea", "category": "food"}, {"product_id": "sugar", "category": "food"}, {"product_id": "cup"}, {"product_id": "pot", "status": "delisted"}, {"product_id": "kettle", "status": "draft"}]');
CREATE FUNCTION pg_temp.buy(who int, products text[], day date DEFAULT '2026-06-01', status text DEFAULT 'paid', back numeric DEFAULT 0) RETURNS text LANGUAGE sql AS $$
	SELECT cdp.record_order(jsonb_build_object('member_id', 'm-' || who), jsonb_strip_nulls(jsonb_build_object('order_id', who || '/' || day || '/' || array_to_string(products, '+'),
		'ordered_at', day, 'status', status, 'amount', 10, 'refunded', nullif(back, 0),
		'lines', (SELECT jsonb_agg(jsonb_build_object('product_id', p, 'unit_price', CASE WHEN p = 'voucher' THEN -5 ELSE 10 END)) FROM unnest(products) p)))); $$;
SELECT count(pg_temp.buy(i, array_remove(ARRAY['sugar', 'voucher', CASE WHEN i <= 30 THEN 'tea' END, CASE WHEN i BETWEEN 16 AND 35 THEN 'cup' END,
	CASE WHEN i BETWEEN 25 AND 44 THEN 'pot' END, CASE WHEN i = 50 THEN 'kettle' END], NULL))) FROM generate_series(1, 60) i;
-- what does not count: not paid, all refunded, too long ago
SELECT count(pg_temp.buy(i, '{tea,cup}', '2026-06-02', 'placed')), count(pg_temp.buy(i, '{cup,kettle}', '2026-06-03', 'refunded', 10)), count(pg_temp.buy(i, '{tea,cup}', '2025-06-30')) FROM generate_series(45, 49) i;
-- before the first count from the orders, after it from the table: the same
CREATE TEMP TABLE live AS SELECT 'tea' AS of_product, * FROM cdp.also_bought('tea') UNION ALL SELECT 'cup', * FROM cdp.also_bought('cup');
SELECT count(*) FROM cdp.product_popularity;
CALL cdp.refresh_product_pairs(7);
SELECT product_id, customers, of_customers FROM cdp.product_popularity ORDER BY 2 DESC, 1;
SELECT product_id, other_product_id, customers FROM cdp.product_pair ORDER BY 1, 2;
SELECT count(*) AS left_in_scratch FROM cdp.product_buyer;
SELECT product_id, customers, round(lift::numeric, 4) AS lift FROM cdp.also_bought('tea');
SELECT count(*) AS different FROM (SELECT * FROM live EXCEPT (SELECT 'tea', * FROM cdp.also_bought('tea') UNION ALL SELECT 'cup', * FROM cdp.also_bought('cup'))) d;
SELECT product_id, customers, round(lift::numeric, 4) AS lift FROM cdp.also_bought('tea', 1);
-- another time is counted when asked: with the purchases of last year
SELECT product_id, customers, round(lift::numeric, 4) AS lift FROM cdp.also_bought('tea', 10, '370 days');
SELECT product_id, customers FROM cdp.also_bought('tea', 10, '1 day');
SELECT product_id FROM cdp.also_bought('nothing');
-- a second run writes nothing; a change writes its pairs; batches make no difference
CREATE TEMP TABLE before AS SELECT p.xmin::text AS version, p.* FROM cdp.product_pair p;
CALL cdp.refresh_product_pairs();
SELECT count(*) AS changed FROM (SELECT p.xmin::text AS version, p.* FROM cdp.product_pair p EXCEPT SELECT * FROM before) d;
SELECT pg_temp.buy(44, '{cup,pot}', '2026-06-05');
CALL cdp.refresh_product_pairs();
SELECT product_id, other_product_id, customers FROM (SELECT p.xmin::text AS version, p.* FROM cdp.product_pair p EXCEPT SELECT * FROM before) d ORDER BY 1, 2;
SELECT job, status, done = total AS all_done FROM cdp.job_status WHERE job = 'refresh_product_pairs';
CALL cdp.run_job('refresh_product_pairs');
SELECT status FROM cdp.job_run WHERE job = 'refresh_product_pairs' ORDER BY run_id;

-- recommendations: 1 (m-0) has bought nothing: best sellers, of those that are listed
SELECT product_id, round(score::numeric, 6) AS score, because FROM cdp.recommend_products(1);
-- m-1 has tea and sugar: a cup, not the pot, which is delisted
SELECT product_id, round(score::numeric, 6) AS score, because FROM cdp.recommend_products(cdp.resolve('member_id', 'm-1'));
SELECT round(((15 - 30 * 21 / 60.0) / (sqrt(30 * 21) + 10) + 21 / 60.0 / 1000)::numeric, 6) AS by_hand;
-- owned is owned, until its cycle is over: of the product, else of the category
INSERT INTO cdp.repurchase_cycle (repurchase_cycle, by, key, k, r, alpha, customers, gaps, median_gap, unit_k, unit_r, unit_alpha, unit_median_gap, converged, boundary)
	VALUES ('product:tea', 'product', 'tea', 2, 3, 30, 9, 9, 29, 2, 3, 30, 29, true, false), ('category:food', 'category', 'food', 2, 3, 30, 9, 9, 31, 2, 3, 30, 31, true, false);
SELECT product_id, because FROM cdp.recommend_products(cdp.resolve('member_id', 'm-1'));			-- tea was bought 30 days ago, 29 are its cycle
SET cdp.now = '2026-07-03T12:00:00+08:00';
SELECT product_id, because FROM cdp.recommend_products(cdp.resolve('member_id', 'm-1'), 3);			-- sugar, too
SELECT count(*) FROM cdp.recommend_products(cdp.resolve('member_id', 'm-1'), 1);
SET cdp.now = '2026-07-01T12:00:00+08:00';
-- any id of a customer
SELECT cdp.resolve('member_id', 'm-36') AS winner, cdp.resolve('member_id', 'm-35') AS loser \gset
SELECT cdp.merge_customers(:winner, :loser, 'the same person') = :winner AS merged;
SELECT w.product_id, w.because, w = l AS same FROM cdp.recommend_products(:winner) w FULL JOIN cdp.recommend_products(:loser) l USING (product_id);
SELECT count(*) AS has_the_cup FROM cdp.recommend_products(:winner) WHERE product_id = 'cup';
UPDATE cdp.product SET status = 'delisted' WHERE product_id = 'tea';
SELECT product_id, because FROM cdp.recommend_products(cdp.resolve('member_id', 'm-1'));
-- refused
SELECT * FROM cdp.recommend_products(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp.recommend_products(4711);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp.recommend_products(1, 0);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp.recommend_products(1, NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp.also_bought(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp.also_bought('tea', 10001);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp.also_bought('tea', 5, '-1 day');
\echo :LAST_ERROR_SQLSTATE
CALL cdp.refresh_product_pairs(0);
\echo :LAST_ERROR_SQLSTATE
BEGIN;
CALL cdp.refresh_product_pairs();
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
-- an operator runs the job, a reader asks
CREATE ROLE regress_cdp_affinity;
SELECT cdp.grant_access('operator', 'regress_cdp_affinity');
SET ROLE regress_cdp_affinity;
CALL cdp.refresh_product_pairs();
SELECT cdp._fit_repurchase() > 0 AS fitted, cdp.lifecycle_stage(3, 1) AS stage;
RESET ROLE;
SELECT cdp.revoke_access('operator', 'regress_cdp_affinity'), cdp.grant_access('reader', 'regress_cdp_affinity');
SET ROLE regress_cdp_affinity;
SELECT (SELECT count(*) FROM cdp.also_bought('tea')) AS pairs, (SELECT count(*) FROM cdp.repurchase_due(by => 'customer', within => '1 year')) > 0 AS due, (SELECT count(*) FROM cdp.repurchase_rate()) AS months,
	(SELECT count(*) FROM cdp.recommend_products(1)) AS offers, cdp.lifecycle_stage(3, 1) AS stage, (SELECT count(*) FROM cdp.lifecycle_matrix) AS cells;
CALL cdp.refresh_product_pairs();
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._fit_repurchase();
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
SELECT cdp.revoke_access('reader', 'regress_cdp_affinity');
DROP ROLE regress_cdp_affinity;
-- pairs of products that nobody has any more go
DELETE FROM cdp.sales_order_line WHERE product_id IN ('sugar', 'kettle');
CALL cdp.refresh_product_pairs();
SELECT product_id, customers, of_customers FROM cdp.product_popularity ORDER BY 1;
SELECT product_id, other_product_id, customers FROM cdp.product_pair ORDER BY 1, 2;
DROP EXTENSION customer_cdp CASCADE;
