-- currencies are never mixed
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-10 12:00:00+00';
CREATE TEMP TABLE sale (amount numeric, currency text, at timestamptz);
INSERT INTO sale VALUES (1.10, 'CNY', '2026-01-01+00'), (2.20, 'CNY', '2026-01-02+00'), (NULL, 'USD', '2026-01-03+00'), (NULL, NULL, NULL);
SELECT cdp.sum_amount(amount, currency) FROM sale;
SELECT cdp.sum_amount(amount, currency) FROM sale WHERE false;
SELECT cdp.sum_amount(amount, currency) OVER (ORDER BY at) FROM sale ORDER BY at;
INSERT INTO sale VALUES (10, 'USD', '2026-01-04+00');
SELECT currency, cdp.sum_amount(amount, currency) FROM sale GROUP BY 1 ORDER BY 1;
SELECT cdp.sum_amount(amount, currency) FROM sale;
SELECT cdp.sum_amount(amount, currency, 'CNY', at) FROM sale;
-- rates count from their time on, in both directions, the newest one wins
INSERT INTO cdp.currency_rate (from_currency, to_currency, valid_from, rate) VALUES
	('USD', 'CNY', '2026-01-01 00:00:00+00', 7), ('USD', 'CNY', '2026-02-01 00:00:00+00', 8), ('CNY', 'JPY', '2026-01-01 00:00:00+00', 20);
SELECT cdp.sum_amount(amount, currency, 'CNY', at) FROM sale;
SELECT cdp.convert_amount(10, 'USD', 'CNY'), cdp.convert_amount(10, 'USD', 'CNY', '2026-01-31 23:59:59+00'),
	round(cdp.convert_amount(10, 'CNY', 'USD'), 4) AS back, cdp.convert_amount(10, 'EUR', 'EUR'), cdp.convert_amount(NULL, 'EUR', 'CNY');
SELECT cdp.convert_amount(10, 'USD', 'CNY', '2025-12-31 00:00:00+00');
SELECT cdp.convert_amount(10, 'EUR', 'CNY');
SELECT cdp.convert_amount(10, NULL, 'CNY');
SELECT cdp.sum_amount(1, NULL);
SELECT cdp.sum_amount(1, 'Renminbi');
INSERT INTO cdp.currency_rate (from_currency, to_currency, rate) VALUES ('USD', 'USD', 1);
INSERT INTO cdp.currency_rate (from_currency, to_currency, rate) VALUES ('USD', 'CNY', 'NaN');
-- the same sum from parallel workers
CREATE TABLE sale_many AS SELECT (g % 997)::numeric / 100 AS amount, 'CNY' AS currency FROM generate_series(1, 20000) g;
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT cdp.sum_amount(amount, currency) FROM sale_many;
SELECT cdp.sum_amount(amount, currency) = sum(amount) AS same FROM sale_many;
DROP TABLE sale_many;
-- the inside of the aggregate is closed
SELECT cdp._sum_amount_accum('\x00', 1, 'CNY');
SELECT cdp._sum_amount_final('\x00');
SELECT cdp._sum_amount_final(convert_to(repeat('x', 100), 'UTF8'));
-- a numeric with a digit that is none, and one whose header is cut off: its functions would trust them
SELECT cdp._sum_amount_final('\x434e590000000000200000000080ff7f');
SELECT cdp._sum_amount_combine('\x434e590000000000180000000000', '\x434e590000000000180000000000');
-- NaN is a number of its kind
SELECT cdp.sum_amount('NaN', 'CNY'), cdp.sum_amount(-12345678901234.5, 'CNY') FROM generate_series(1, 2);

-- refunds: numbers of any length are exact or refused, and never in two currencies
CREATE FUNCTION pg_temp.refused(call text) RETURNS TABLE (sqlstate text, message text, hint text) LANGUAGE plpgsql AS $$
DECLARE h text;
BEGIN
	EXECUTE call;
	RETURN QUERY VALUES ('00000', 'was taken', NULL);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
	RETURN QUERY VALUES (SQLSTATE::text, SQLERRM::text, h);
END $$;
INSERT INTO cdp.currency_rate (from_currency, to_currency, rate) VALUES ('GBP', 'SEK', 7.1), ('JPY', 'GBP', 3);
SELECT cdp.convert_amount(71, 'SEK', 'GBP') = 10 AS exact, cdp.convert_amount(3, 'GBP', 'JPY') = 1 AS exact;
SELECT r.* FROM unnest(ARRAY['1e30', '1e-41', '1e-3000', '1e5000', '1.5e30']) WITH ORDINALITY u(amount, n),
	LATERAL pg_temp.refused(format('SELECT cdp.record_order(''{"member_id": "m"}'', ''{"order_id": "long", "amount": %s}'')', amount)) r ORDER BY n;
SELECT cdp.record_order('{"member_id": "m"}', '{"order_id": "long", "amount": 999999999999999999999999999999.0000000000000000000000000000000000000001, "status": "paid"}');
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order('long', 1e-41)$$);
SELECT cdp.refund_order('long', 1e-40), cdp.refund_order('long', 1.000000000000000000000000000000000000000000000000000000000, NULL, 'long-1'),
	cdp.refund_order('long', 1, NULL, 'long-1') AS again;
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order('long', 999999999999999999999999999998.0000000000000000000000000000000000000001)$$);
SELECT cdp.refund_order('long', 999999999999999999999999999998);
SELECT status, refunded = amount AS whole, refunded = (SELECT sum(f.amount) FROM cdp.sales_refund f WHERE f.order_id = o.order_id) AS sum,
	(SELECT count(*) FROM cdp.event e WHERE e.message_id ~ '^refund/long') AS events FROM cdp.sales_order o WHERE order_id = 'long';
SELECT cdp.record_order('{"member_id": "m"}', '{"order_id": "fx", "amount": 10, "status": "paid", "currency": "USD"}'),
	cdp.record_order('{"member_id": "m"}', '{"order_id": "fx", "amount": 71, "currency": "SEK", "refunded": 1}'),
	cdp.record_order('{"member_id": "m"}', '{"order_id": "fx", "currency": "SEK", "channel": "app"}');
SELECT * FROM pg_temp.refused($$SELECT cdp.record_order('{"member_id": "m"}', '{"order_id": "fx", "currency": "USD", "amount": 10}')$$);
-- ids: those of running totals are not for applications, but answer them; a generated one gives way
SELECT * FROM pg_temp.refused($$SELECT cdp.refund_order('fx', 1, NULL, 'other/refunded/2')$$);
SELECT cdp.refund_order('fx', 1, NULL, 'fx/refunded/1') AS known;
SELECT cdp.refund_order('fx', 2, NULL, 'fx/3'), cdp.refund_order('fx', 3);
SELECT refund_id, amount FROM cdp.sales_refund WHERE order_id = 'fx' ORDER BY 1;
