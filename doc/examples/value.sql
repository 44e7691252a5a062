-- The examples of doc/value.md and doc/value_rfm.md; test/sql/value_examples.sql runs them.
-- one customer, by hand
SELECT cdp.rfm(bought_at, amount, '2026-01-01')
FROM (VALUES (timestamptz '2025-11-02 10:00Z', 120.00), ('2025-12-20 09:30Z', 80.50), ('2025-12-22 18:00Z', -80.50)) AS purchase(bought_at, amount);
-- every customer of a table of yours
CREATE SCHEMA example_shop;
CREATE TABLE example_shop.orders (buyer bigint, bought_on date, total numeric);
INSERT INTO example_shop.orders VALUES (1, '2025-12-20', 250), (1, '2025-10-02', 90), (1, '2025-12-28', 40), (2, '2025-12-30', 30),
	(3, '2025-06-18', 900), (3, '2025-07-01', -900), (4, '2025-03-08', 15), (4, '2025-04-01', 25), (5, '2025-12-31', 600);
SELECT buyer, (cdp.rfm(bought_on, total, '2026-01-01')).* FROM example_shop.orders GROUP BY buyer ORDER BY buyer;
-- scores and groups
SELECT customer_id, recency, frequency, monetary, score, group8
FROM cdp.rfm_table('2026-01-01 00:00+08', 'SELECT buyer, bought_on, total FROM example_shop.orders') ORDER BY customer_id;
-- the groups, with money
SELECT group8, count(*) AS customers, sum(monetary) AS money
FROM cdp.rfm_table('2026-01-01 00:00+08', 'SELECT buyer, bought_on, total FROM example_shop.orders', lang => 'en')
GROUP BY group8 ORDER BY money DESC, group8;
-- cuts of your own
SELECT customer_id, score FROM cdp.rfm_table('2026-01-01 00:00+08', 'SELECT buyer, bought_on, total FROM example_shop.orders',
	method => 'threshold', bins => 3, r_cuts => '{7 days, 90 days}', f_cuts => '{2, 3}', m_cuts => '{50, 300}') ORDER BY customer_id;
-- high is what you say it is
SELECT customer_id, group8 FROM cdp.rfm_table('2026-01-01 00:00+08', 'SELECT buyer, bought_on, total FROM example_shop.orders',
	r_high => '30 days', f_high => 2, m_high => 300) ORDER BY customer_id;
-- refunds left out, money per purchase
SELECT customer_id, frequency, monetary, gross, refunded FROM cdp.rfm_table('2026-01-01 00:00+08', 'SELECT buyer, bought_on, total FROM example_shop.orders',
	refunds => 'ignore', monetary => 'mean') ORDER BY customer_id;
-- what refunds do
SELECT refunds, recency, frequency, monetary, gross, refunded
FROM unnest('{net,ignore,net_day,cancel}'::text[]) WITH ORDINALITY AS r(refunds, place),
LATERAL cdp.rfm_table('2026-01-01 00:00+08', $$
	SELECT 1, bought_at, amount FROM (VALUES
		(timestamp '2025-12-01 10:00',  50),		-- the first
		(timestamp '2025-12-10 10:00',  80),		-- two on one day
		(timestamp '2025-12-10 18:00',  50),
		(timestamp '2025-12-20 09:00',  30),		-- comes back the same day, and more
		(timestamp '2025-12-20 17:00', -50)) AS v(bought_at, amount) $$, refunds => r.refunds) ORDER BY place;
-- the eleven groups
SELECT customer_id, score, group11 FROM cdp.rfm_table('2026-01-01 00:00+08', 'SELECT buyer, bought_on, total FROM example_shop.orders') ORDER BY customer_id;
-- what the scores mean
SELECT * FROM cdp.rfm_cuts('2026-01-01 00:00+08', 'SELECT buyer, bought_on, total FROM example_shop.orders') WHERE customers > 0;
-- two currencies
INSERT INTO cdp.currency_rate (from_currency, to_currency, valid_from, rate) VALUES ('USD', 'CNY', '2025-01-01', 7.2), ('USD', 'CNY', '2025-12-01', 7.1);
SELECT customer_id, frequency, monetary FROM cdp.rfm_table('2026-01-01 00:00+08', $$
	SELECT * FROM (VALUES (1, date '2025-10-01', 100, 'USD'), (1, '2025-12-24', 100, 'USD'), (1, '2025-12-25', 50, 'CNY')) v $$, currency => 'CNY');
-- your own words for the groups
UPDATE cdp.rfm_group SET label_zh = '铁杆会员', treatment_zh = '专属顾问' WHERE rfm_group = '111';
SELECT rfm_group, label_zh, treatment_zh FROM cdp.rfm_group WHERE scheme = 8 AND rfm_group IN ('111', '000') ORDER BY sort;
-- partial results: a closed month is counted once
CREATE TABLE example_shop.month AS
	SELECT buyer, date_trunc('month', bought_on) AS month, cdp.rfm_partial(bought_on, total, '2026-01-01') AS state FROM example_shop.orders GROUP BY 1, 2;
SELECT buyer, cdp.rfm_combine(state) FROM example_shop.month GROUP BY buyer ORDER BY buyer;
DROP SCHEMA example_shop CASCADE;
