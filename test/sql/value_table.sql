-- cdp.rfm_table: sources, ties, groups, currencies, who may, what is refused
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
DROP SCHEMA IF EXISTS value_shop CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET cdp.now = '2026-01-01 00:00:00Z';
-- nothing there: no rows, eight empty groups
SELECT * FROM cdp.rfm_table();
SELECT * FROM cdp.rfm_group_summary;
SELECT cdp.identify('{"phone": "13800000001"}'), cdp.identify('{"email": "one@example.com"}');
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount, refunded) VALUES
	('a1', 1, '2025-12-01', 'completed', 100, 0), ('a2', 1, '2025-12-11', 'paid', 50.5, 10),	-- part of a2 came back
	('b1', 2, '2025-06-01', 'refunded', 80, 80),												-- all came back: still a purchase
	('c1', 3, '2025-11-01', 'placed', 1000, 0), ('c2', 3, '2025-11-01', 'cancelled', 1000, 0),	-- neither counts
	('d1', 4, '2025-12-21', 'shipped', 20, 0), ('e1', 5, '2025-12-21', 'completed', 20, 0),		-- equal in all
	('f1', 6, '2026-06-01', 'paid', 20, 0);														-- not yet
SELECT * FROM cdp.rfm_table() ORDER BY 1;
SELECT * FROM cdp.rfm_group_summary;
SELECT customer_id, recency, frequency, monetary, score, group8 FROM cdp.rfm_table('2025-12-05', lang => 'en') ORDER BY 1;
-- two profiles become one customer
SELECT cdp.identify('{"phone": "13800000001", "email": "one@example.com"}');
SELECT customer_id, recency, frequency, monetary, gross, refunded, score FROM cdp.rfm_table() ORDER BY 1;
-- names of groups are rows
UPDATE cdp.rfm_group SET label_zh = '铁粉' WHERE rfm_group = '111';
SELECT customer_id, group8 FROM cdp.rfm_table() ORDER BY 1;
UPDATE cdp.rfm_group SET label_zh = '重要价值客户' WHERE rfm_group = '111';
SELECT rfm_group, label_zh, label_en FROM cdp.rfm_group WHERE scheme = 8 ORDER BY sort;
-- all equal: lowest scores and all high; bins beyond nine are told apart
SELECT customer_id, score, group8 FROM cdp.rfm_table(purchases => $$ SELECT i, '2025-06-01'::date, 10 FROM generate_series(1, 3) i $$) ORDER BY 1;
SELECT customer_id, score FROM cdp.rfm_table(purchases => $$ SELECT i, '2025-06-01'::date + i, 10 * i FROM generate_series(1, 12) i $$, bins => 12) ORDER BY 1;
-- high and low: mean, median, own limits; a value on the limit is high
SELECT high, customer_id, monetary, group8 FROM (VALUES ('mean'), ('median')) h(high), LATERAL
	cdp.rfm_table(purchases => $$ SELECT i, '2025-06-01'::date, i * i FROM generate_series(1, 5) i $$, high => h.high) ORDER BY 1, 2;
SELECT customer_id, recency, monetary, group8 FROM cdp.rfm_table(purchases => $$ SELECT i, '2025-12-02 08:00+08'::timestamptz - i * interval '1 second', 50 - i FROM generate_series(-1, 1) i $$,
	r_high => '30 days', f_high => 2, m_high => 50) ORDER BY 1;
-- names are the caller's, wherever they are
CREATE SCHEMA value_shop;
CREATE TABLE value_shop.orders (buyer smallint, day date, at timestamp, total real, big int, code varchar(3));
INSERT INTO value_shop.orders VALUES (1, '2025-12-31', '2025-12-31 08:00', 1.1, 2, 'CNY'), (2, '2025-12-30', '2025-12-30 00:00', 3.3, 4, 'CNY'), (NULL, '2025-12-30', '2025-12-30', 1, 1, 'CNY');
CREATE FUNCTION value_shop.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
CREATE OPERATOR value_shop.<+> (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
SELECT * FROM cdp.rfm_table(purchases => 'SELECT buyer, day, total FROM orders');
SET search_path = value_shop;
SELECT customer_id, recency, monetary FROM cdp.rfm_table(purchases => 'SELECT buyer, day, total FROM orders') ORDER BY 1;
SELECT customer_id, recency, monetary FROM cdp.rfm_table(purchases => 'SELECT buyer, at, twice(big) <+> 1 AS x FROM orders o;') ORDER BY 1;
SELECT customer_id, monetary FROM cdp.rfm_table(purchases => 'WITH w AS (TABLE orders) SELECT buyer, at, big FROM w UNION ALL VALUES (7, ''2025-01-01''::timestamp, 0) ORDER BY 1 LIMIT 5') ORDER BY 1;
CREATE TEMP TABLE mine AS SELECT * FROM orders;
SELECT customer_id, monetary FROM cdp.rfm_table(purchases => 'SELECT buyer, at, big, code FROM mine') ORDER BY 1;
-- the caller's zone does not matter for days
SET TimeZone = 'America/New_York';
SELECT customer_id, recency FROM cdp.rfm_table(purchases => 'SELECT buyer, day, total FROM orders') ORDER BY 1;
SET TimeZone = 'UTC';
RESET search_path;
-- currencies
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount, refunded, currency) VALUES
	('u1', 5, '2025-12-01', 'paid', 10, 1, 'USD'), ('u2', 5, '2025-07-01', 'paid', 10, 0, 'USD'), ('u3', 5, '2026-07-01', 'paid', 10, 0, 'EUR');
SELECT * FROM cdp.rfm_table();
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM cdp.rfm_table(currency => 'CNY');
\echo :LAST_ERROR_SQLSTATE
INSERT INTO cdp.currency_rate (from_currency, to_currency, valid_from, rate) VALUES ('USD', 'CNY', '2025-01-01', 7), ('CNY', 'USD', '2025-11-01', 0.125), ('USD', 'CNY', '2025-12-15', 100);
SELECT customer_id, frequency, monetary, gross, refunded FROM cdp.rfm_table(currency => 'CNY') ORDER BY 1;
SELECT customer_id, frequency, monetary FROM cdp.rfm_table(currency => 'USD') WHERE customer_id = 5;
SELECT t.customer_id, t.gross = s.sum AS as_sum_amount FROM cdp.rfm_table(currency => 'CNY') t JOIN (
	SELECT cdp.customer_id(profile_id) AS customer_id, cdp.sum_amount(amount, currency, 'CNY', ordered_at) AS sum FROM cdp.sales_order
	WHERE status IN ('paid', 'shipped', 'completed', 'refunded') AND ordered_at <= cdp.now() GROUP BY 1) s USING (customer_id) ORDER BY 1;
SELECT count(*) FROM cdp.rfm_table('2025-02-01', currency => 'CNY');
SELECT customer_id, monetary FROM cdp.rfm_table(purchases => $$ SELECT 1, '2025-10-01'::date, 10, 'USD' $$, currency => 'CNY');
SELECT * FROM cdp.rfm_table(purchases => $$ SELECT 1, '2025-10-01'::date, 10, c FROM unnest('{CNY,USD}'::text[]) c $$);
SELECT * FROM cdp.rfm_table(purchases => $$ SELECT 1, '2025-10-01'::date, 10 $$, currency => 'CNY');
-- arguments out of range
CREATE FUNCTION pg_temp.try(args text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	h text;
BEGIN
	EXECUTE 'SELECT FROM cdp.rfm_table(' || args || ')';
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', sqlstate, sqlerrm, h);
END $$;
DELETE FROM cdp.sales_order WHERE currency <> 'CNY';
SELECT a, pg_temp.try(a) FROM unnest(ARRAY['''infinity''', 'method => ''decile''', 'bins => 1', 'bins => 101', 'bins => 0', 'high => ''mode''', 'monetary => ''max''', 'refunds => ''all''', 'lang => ''fr''',
	'm_high => ''NaN''', 'method => ''threshold''', 'f_cuts => ''{1,2,3,4}''', 'bins => NULL, method => NULL, high => NULL, refunds => NULL, lang => NULL, monetary => NULL']) a;
SELECT a, pg_temp.try('method => ''threshold'', bins => 3, ' || a) FROM unnest(ARRAY['r_cuts => ''{1 day,2 days}'', f_cuts => ''{1,2}'', m_cuts => ''{1,2}''', 'r_cuts => ''{1 day,2 days}'', f_cuts => ''{1,2}'', m_cuts => ''{1}''',
	'r_cuts => ''{1 day,2 days}'', f_cuts => ''{2,1}'', m_cuts => ''{1,2}''', 'r_cuts => ''{1 day,1 day}'', f_cuts => ''{1,2}'', m_cuts => ''{1,2}''', 'r_cuts => ''{1 day,NULL}'', f_cuts => ''{1,2}'', m_cuts => ''{1,2}''',
	'r_cuts => ''{30 days,1 month}'', f_cuts => ''{1,2}'', m_cuts => ''{1,2}''', 'r_cuts => ''{1 day,2 days}'', f_cuts => ''{1,NaN}'', m_cuts => ''{1,2}''', 'r_cuts => ''{{1 day,2 days}}'', f_cuts => ''{1,2}'', m_cuts => ''{1,2}''']) a;
-- queries that are not fit; nothing is written
CREATE TABLE value_shop.log (t text);
CREATE FUNCTION value_shop.noisy(int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO value_shop.log VALUES ('x'); RETURN $1; END $$;
CREATE FUNCTION value_shop.sly(int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET transaction_read_only = off; INSERT INTO value_shop.log VALUES ('x'); RETURN $1; END $$;
SELECT q, pg_temp.try(format('purchases => %L', q)) FROM unnest(ARRAY['', 'SELEKT 1', 'SELECT 1', 'SELECT 1, now(), 1, ''CNY'', 5', 'SELECT 1, now(), 1; SELECT 1, now(), 1', 'SELECT ''a'', now(), 1', 'SELECT 1, 2, 3', 'SELECT 1, now(), ''x''', 'SELECT 1, now(), 1, 1',
	'SELECT 1, now(), 1 FROM nowhere', 'SELECT $1, now(), 1', 'INSERT INTO value_shop.log VALUES (1) RETURNING 1, now(), 1', 'SELECT 1, now(), 1 INTO value_shop.x', 'WITH d AS (DELETE FROM value_shop.log RETURNING 1) SELECT 1, now(), 1 FROM d',
	'SELECT 1, now(), 1 FROM value_shop.log FOR UPDATE', 'SELECT value_shop.noisy(1), now(), 1', 'SELECT value_shop.sly(1), now(), 1', 'SELECT 1, now(), 1 / (i - 500) FROM generate_series(1, 1000) i',
	'SELECT 1, ''2025-01-01''::date, ''NaN''::numeric', 'SELECT 1, ''infinity''::date, 1', 'SELECT 1, ''-infinity''::timestamptz, 1, ''CNY''', 'SELECT 1, ''infinity''::timestamptz, 1, ''CNY''', 'SELECT 1, now(), 1) q(c1, c2, c3); DROP TABLE value_shop.log; --', 'EXPLAIN SELECT 1', 'CALL cdp.migrate()', 'SELECT 1, now(), NULL::numeric']) q;
SELECT count(*) AS written FROM value_shop.log;
-- and the transaction can write afterwards
BEGIN;
SELECT count(*) FROM cdp.rfm_table(purchases => 'SELECT 1, ''2025-01-01''::date, 1');
INSERT INTO value_shop.log VALUES ('mine');
SHOW transaction_read_only;
COMMIT;
-- who may: a reader needs nothing on the orders for the default source, and his own rights for a query
CREATE ROLE value_reader;
CREATE ROLE value_other;
SELECT cdp.grant_access('reader', 'value_reader');
REVOKE ALL ON cdp.sales_order, cdp.profile_alias FROM value_reader;
SET ROLE value_reader;
SELECT customer_id, score, group8 FROM cdp.rfm_table() ORDER BY 1;
SELECT sum(customers) FROM cdp.rfm_group_summary;
SELECT count(*) FROM cdp.rfm_table(purchases => 'SELECT profile_id, ordered_at, amount FROM cdp.sales_order');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM cdp.rfm_table(purchases => 'SELECT i, ''2025-10-01''::date, i, ''CNY'' FROM generate_series(1, 10) i', currency => 'USD');
SELECT count(*) FROM cdp.rfm_table(method => 'threshold', bins => 2, r_cuts => '{1 day}', f_cuts => '{2}', m_cuts => '{3}');
UPDATE cdp.rfm_group SET label_zh = 'x';
RESET ROLE;
SET ROLE value_other;
SELECT count(*) FROM cdp.rfm_table();
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
SELECT cdp.revoke_access('reader', 'value_reader');
DROP ROLE value_reader; DROP ROLE value_other;
-- the query is planned as one statement with ours, so that it may be parallel
SELECT cdp._purchases_query('SELECT buyer, day, total FROM value_shop.orders');
DROP SCHEMA value_shop CASCADE;
-- what went missing comes back
DELETE FROM cdp.rfm_group WHERE rfm_group = '010';
DROP VIEW cdp.rfm_group_summary;
CALL cdp.migrate();
SELECT count(*), (SELECT count(*) FROM cdp.rfm_group WHERE scheme = 8) AS groups FROM cdp.rfm_group_summary;
