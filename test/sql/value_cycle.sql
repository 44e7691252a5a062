-- value_cycle: cycles, who is due, events of it, repurchase rate
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET intervalstyle = 'postgres';
SET cdp.now = '2026-07-01T12:00:00+08:00';

-- the fit: no customer, one gap, order of the rows, gaps that are all equal, gaps in other units
SELECT (cdp._fit_cycle('{}', '{}', '{}')).k IS NULL AS none;
SELECT round(k::numeric, 3) AS k, round(r::numeric, 3) AS r, round((k * alpha / (r - 1))::numeric, 2) AS mean, customers, gap_count, converged, boundary
FROM cdp._fit_cycle('{1}', '{30}', ARRAY[ln(30)]::float8[]);
SELECT a::text = b::text AS same FROM cdp._fit_cycle('{2,3,1}', '{60,70,30}', '{6.7,9.2,3.4}') a, cdp._fit_cycle('{1,2,3}', '{30,60,70}', '{3.4,6.7,9.2}') b;
SELECT round(k::numeric, 1) AS k, round(cdp._cycle_quantile(k, r, alpha, 50, 350)::numeric, 2) AS own, converged, boundary
FROM cdp._fit_cycle('{50,50,50}', '{350,350,350}', array_fill(50 * ln(7)::float8, '{3}'));
SELECT abs(a.k / b.k - 1) < 1e-6 AS k, abs(a.r / b.r - 1) < 1e-6 AS r, abs(a.alpha * 86400 / b.alpha - 1) < 1e-6 AS alpha,
	abs(a.log_likelihood - 6 * ln(86400) - b.log_likelihood) < 1e-6 AS log_likelihood
FROM cdp._fit_cycle('{2,3,1}', '{60,70,30}', '{6.7,9.2,3.4}') a,
	cdp._fit_cycle('{2,3,1}', '{5184000,6048000,2592000}', ARRAY[6.7 + 2 * ln(86400), 9.2 + 3 * ln(86400), 3.4 + ln(86400)]) b;
SELECT cdp._fit_cycle('{1,1}', '{30}', '{3}');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._fit_cycle('{1,NULL}', '{30,30}', '{3,3}');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._fit_cycle('{{1}}', '{{30}}', '{{3}}');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._fit_cycle('{1.5}', '{30}', '{3}');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._fit_cycle('{1}', '{NaN}', '{3}');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._fit_cycle('{1}', '{30}', '{3.5}');	-- the logarithm of 30 is 3.4
\echo :LAST_ERROR_SQLSTATE

-- a next gap: k = r = 1 is alpha * p / (1 - p); own gaps add up
SELECT round(cdp._cycle_quantile(1, 1, 10, 0, 0, p)::numeric, 9) FROM unnest('{0.1,0.5,0.9}'::float8[]) p;
SELECT round(cdp._cycle_quantile(1, 1, 10, 1, 30)::numeric, 9) AS own, round((40 * (sqrt(2) - 1))::numeric, 9) AS by_hand;
SELECT cdp._cycle_quantile(1, 1, 10, 0, 0, 1);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._cycle_quantile(0, 1, 10, 0, 0);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._cycle_quantile(1, 1, 10, -1, 0);
\echo :LAST_ERROR_SQLSTATE
-- F(t) = t / (10 + t): due while F(elapsed) <= 0.9 and F(elapsed + within) > 0.5
SELECT e, cdp._cycle_due(1, 1, 10, 0, 0, e, 2, 1) IS NOT NULL AS due FROM unnest('{0,8,8.001,90,90.001}'::float8[]) e;
SELECT round(unnest(cdp._cycle_due(1, 1, 10, 0, 0, 20, 10, 2))::numeric, 6);	-- median 20, 2.22, 180; (F(15) - F(10)) / (1 - F(10)) = 0.2
SELECT cdp._cycle_due(1, 1, 10, 0, 0, -1, 2, 1);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._cycle_due(1, 1, 10, 0, 0, 1, 0, 1);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._cycle_due(1, 1, 10, 0, 0, 1, 1, 'NaN');
\echo :LAST_ERROR_SQLSTATE

-- nothing fitted: a notice, no rows
SET client_min_messages = notice;
SELECT * FROM cdp.repurchase_due();
SET client_min_messages = warning;
SELECT * FROM cdp.repurchase_rate();
SELECT cdp._fit_repurchase();

-- customers 1 to 8 buy nappies every 30 days, give or take; 9 once; 10 had it all refunded; 11 did not pay
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm-' || i))) FROM generate_series(1, 12) i;
SELECT cdp.record_products('[{"product_id": "nappies", "category": "baby"}, {"product_id": "soap", "category": "home"}, {"product_id": "gift"}]');
CREATE FUNCTION pg_temp.buy(who int, day date, product text, quantity numeric DEFAULT 1, status text DEFAULT 'paid', price numeric DEFAULT 10, back numeric DEFAULT 0, category text DEFAULT NULL)
	RETURNS void LANGUAGE sql AS $$
	SELECT cdp.record_order(jsonb_build_object('member_id', 'm-' || who), jsonb_strip_nulls(jsonb_build_object('order_id', who || '/' || day || '/' || product || '/' || status,
		'ordered_at', day::timestamp AT TIME ZONE 'Asia/Shanghai' + interval '10 hours', 'status', status, 'amount', quantity * greatest(price, 0), 'refunded', nullif(back, 0),
		'lines', jsonb_build_array(jsonb_build_object('product_id', product, 'quantity', quantity, 'unit_price', price, 'category', category))))); $$;
SET cdp.now = '2026-08-01T12:00:00+08:00';
SELECT count(*) FROM (SELECT pg_temp.buy(who, '2026-06-08'::date - 30 * i + (who * 7 + i * 3) % 5, 'nappies') FROM generate_series(1, 8) who, generate_series(0, 4) i) b;
SELECT pg_temp.buy(9, '2026-06-08', 'nappies'), pg_temp.buy(10, '2026-06-08', 'nappies', 1, 'refunded', 10, 10), pg_temp.buy(11, '2026-06-08', 'nappies', 1, 'placed'),
	pg_temp.buy(12, '2026-06-08', 'gift'), pg_temp.buy(9, '2026-06-09', 'nappies', 0), pg_temp.buy(9, '2026-06-09', 'soap', 1, 'paid', -5),
	pg_temp.buy(9, '2026-07-20', 'nappies');	-- the last is not yet
SET cdp.now = '2026-07-01T12:00:00+08:00';
SELECT cdp._fit_repurchase() AS written;
SELECT cdp._fit_repurchase() AS written_again;
SELECT repurchase_cycle, by, key, customers, gaps, round(k::numeric) AS k, round(median_gap::numeric, 1) AS median_gap, round(unit_median_gap::numeric, 1) AS unit_median_gap,
	converged, boundary, fitted_at FROM cdp.repurchase_cycle ORDER BY 1;
SELECT customer_id, key, last_at, purchases, date_trunc('hour', typical_gap) AS typical_gap, date_trunc('hour', due_at) AS due_at, due_at = last_at + typical_gap AS adds_up,
	due_from < due_at AND due_at < due_until AS in_order, round(probability::numeric, 3) AS probability
FROM cdp.repurchase_due(within => '12 days');
-- the rows of a later day, of the past; by product, by customer
SELECT count(*), min(due_at) < '2026-07-10 12:00+08' AS soon FROM cdp.repurchase_due('2026-07-03 12:00+08');
SELECT count(*) FROM cdp.repurchase_due('2027-07-03 12:00+08');
SELECT customer_id, key, purchases FROM cdp.repurchase_due(within => '12 days', by => 'product') WHERE customer_id > 7;
SELECT customer_id, key, purchases FROM cdp.repurchase_due(within => '12 days', by => 'customer') WHERE customer_id > 7;
-- NULL is the default
SELECT (SELECT count(*) FROM cdp.repurchase_due(NULL, NULL, NULL, NULL)) = (SELECT count(*) FROM cdp.repurchase_due()) AS same;
-- two bags last twice as long
SELECT pg_temp.buy(1, '2026-06-30', 'nappies', 2);
SELECT (SELECT round(extract(epoch FROM typical_gap) / 86400) FROM cdp.repurchase_due(within => '90 days') WHERE customer_id = 1) AS once,
	(SELECT round(extract(epoch FROM typical_gap) / 86400) FROM cdp.repurchase_due(within => '90 days', scale_by_quantity => true) WHERE customer_id = 1) AS twice;
-- the category of the line wins over that of the product
SELECT count(*) FROM (SELECT pg_temp.buy(12, '2026-06-01'::date - 10 * i, 'soap', category => 'wash') FROM generate_series(0, 3) i) b;
SELECT cdp._fit_repurchase() AS written;
SELECT repurchase_cycle, customers, gaps FROM cdp.repurchase_cycle WHERE repurchase_cycle ~ 'soap|wash|home' ORDER BY 1;
-- one customer in two profiles has one history: 9 and 12 merged
SELECT purchases FROM cdp.repurchase_due(within => '90 days') WHERE customer_id IN (9, 12) AND key = 'baby';
SELECT pg_temp.buy(12, '2026-05-01', 'nappies') IS NULL AS bought, cdp.merge_customers(9, 12, 'the same person') IS NOT NULL AS merged;
SELECT customer_id, purchases FROM cdp.repurchase_due(within => '90 days') WHERE customer_id IN (9, 12) AND key = 'baby';
SELECT cdp._fit_repurchase() AS written;
-- what nobody buys any more leaves the table
BEGIN;
DELETE FROM cdp.sales_order_line WHERE product_id = 'soap';
SELECT cdp._fit_repurchase() AS written;
SELECT repurchase_cycle FROM cdp.repurchase_cycle WHERE repurchase_cycle ~ 'soap|wash|home' ORDER BY 1;
ROLLBACK;
-- whose repurchase is due, as events: what repurchase_due says of now, once per last purchase, in batches
SET cdp.now = '2026-07-12T12:00:00+08:00';
CALL cdp.track_repurchases(batch => 3);
SELECT profile_id, occurred_at, properties->>'category' AS category, (properties->>'purchases')::int AS purchases, properties ?& '{last_at,due_at}' AS times
FROM cdp.event WHERE name = 'Repurchase Due' ORDER BY 1, 3;
SELECT count(*) = (SELECT count(*) FROM cdp.repurchase_due(within => '1 second')) AS all_of_them FROM cdp.event WHERE name = 'Repurchase Due';
SET cdp.now = '2026-07-12T18:00:00+08:00';
CALL cdp.track_repurchases();
SELECT count(*) AS again FROM cdp.event WHERE name = 'Repurchase Due' AND occurred_at = cdp.now();
-- one who has bought is told of anew when his next one is due
SELECT pg_temp.buy(3, '2026-07-12', 'nappies');
SET cdp.now = '2026-08-12T12:00:00+08:00';
CALL cdp.track_repurchases();
SELECT profile_id, count(*) FROM cdp.event WHERE name = 'Repurchase Due' AND properties->>'category' = 'baby' GROUP BY 1 HAVING count(*) > 1;
CALL cdp.track_repurchases('-infinity');
CALL cdp.track_repurchases(batch => -1);
SET cdp.now = '2026-07-01T12:00:00+08:00';
-- refused
SELECT * FROM cdp.repurchase_due(by => 'shop');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp.repurchase_due(within => '0');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp.repurchase_due(within => '101 years');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp.repurchase_due(as_of => 'infinity');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp.repurchase_due(by => 'customer', scale_by_quantity => true);
\echo :LAST_ERROR_SQLSTATE
SELECT cdp._fit_repurchase('-infinity');
\echo :LAST_ERROR_SQLSTATE
-- the session's zone changes nothing
SET TimeZone = 'America/New_York';
SELECT cdp._fit_repurchase() AS written;
SET TimeZone = 'UTC';

-- repurchase rate, by hand
SET cdp.now = '2026-08-01T12:00:00+08:00';
DELETE FROM cdp.sales_order_line;
DELETE FROM cdp.sales_order;
SELECT pg_temp.buy(1, '2026-04-01', 'a'), pg_temp.buy(1, '2026-04-30', 'a'),		-- day 29: bought again
	pg_temp.buy(2, '2026-04-02', 'a'), pg_temp.buy(2, '2026-05-02', 'a'),			-- day 30, the same hour: too late
	pg_temp.buy(3, '2026-04-03', 'a'), pg_temp.buy(3, '2026-04-03', 'b'),			-- the same day: no second purchase
	pg_temp.buy(4, '2026-04-04', 'a'), pg_temp.buy(4, '2026-04-10', 'a', 1, 'cancelled'), pg_temp.buy(4, '2026-04-11', 'a', 1, 'refunded', 10, 10),
	pg_temp.buy(5, '2026-04-05', 'a', 1, 'completed', 10, 4), pg_temp.buy(5, '2026-04-09', 'a', 1, 'shipped'), pg_temp.buy(5, '2026-04-12', 'a'),
	pg_temp.buy(6, '2026-06-01', 'a'),												-- its window ends on 2026-07-01 10:00, just passed
	pg_temp.buy(7, '2026-06-02', 'a'), pg_temp.buy(7, '2026-06-03', 'a'),			-- bought again, yet open
	pg_temp.buy(8, '2026-06-20', 'a'), pg_temp.buy(11, '2026-07-10', 'a');
SET cdp.now = '2026-07-01T12:00:00+08:00';
SELECT * FROM cdp.repurchase_rate();
SELECT * FROM cdp.repurchase_rate('31 days');
SELECT * FROM cdp.repurchase_rate(from_time => '2026-04-03 10:00+08', to_time => '2026-06-01 10:00+08');
SELECT * FROM cdp.repurchase_rate(as_of => '2026-04-20 00:00+08');
SELECT * FROM cdp.repurchase_rate(NULL, NULL, NULL, NULL) EXCEPT SELECT * FROM cdp.repurchase_rate();
-- months are those of cdp.timezone
SELECT cdp.record_order('{"member_id": "m-10"}', '{"order_id": "edge", "ordered_at": "2026-04-30T16:30:00Z", "status": "paid", "amount": 1}');
SELECT month, first_buyers FROM cdp.repurchase_rate();
SELECT * FROM cdp.repurchase_rate('-1 day');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp.repurchase_rate(as_of => 'infinity');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp.repurchase_rate(from_time => '2026-02-01', to_time => '2026-01-01');
\echo :LAST_ERROR_SQLSTATE
-- the session goes on
SELECT count(*) FROM cdp.repurchase_rate();
DROP EXTENSION customer_cdp CASCADE;
