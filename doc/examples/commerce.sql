-- the examples of doc/commerce.md
SELECT cdp.record_order('{"member_id": "m-1"}',
    '{"order_id": "1001", "ordered_at": "2026-03-01T09:00:00+08:00", "amount": 100, "channel": "app",
      "lines": [{"product_id": "tea", "quantity": 2, "unit_price": 30}, {"product_id": "cup", "unit_price": 40}]}');
SELECT cdp.record_order('{"member_id": "m-1"}', '{"order_id": "1001", "status": "paid", "payment_method": "wechat"}');
SELECT cdp.refund_order('1001', 30, 'damaged', 'refund-77');   -- with a key: can be repeated
SELECT cdp.refund_order('1001', 10);                           -- without: each call is a new refund
SELECT order_id, status, paid_at, shipped_at, hours_to_pay, hours_waiting FROM cdp.order_track WHERE customer_id = 1;
SELECT currency, cdp.sum_amount(amount - refunded, currency) FROM cdp.sales_order GROUP BY currency;
SELECT cdp.sum_amount(amount, currency) FROM cdp.sales_order;                            -- 22023 when there are two
INSERT INTO cdp.currency_rate (from_currency, to_currency, valid_from, rate) VALUES ('USD', 'CNY', '2026-01-01 00:00:00+08', 7.1);
SELECT cdp.sum_amount(amount, currency, 'CNY', ordered_at) FROM cdp.sales_order;         -- each order at its own rate
SELECT cdp.convert_amount(10, 'USD', 'CNY', '2026-03-01 00:00:00+08');
