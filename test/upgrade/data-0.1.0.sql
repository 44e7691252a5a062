-- Rows as 0.1.0 leaves them, with plain INSERTs: customers of one and of two profiles, a shared phone, traits, events in
-- several months and in the default partition, orders with lines and refunds, an attached source, rates, jobs.
SET timezone = 'UTC';
INSERT INTO cdp.profile (profile_id, created_at, traits)
	SELECT g, timestamptz '2025-06-01 00:00+08' + g * interval '1 hour', jsonb_build_object('name', '客户 ' || g) FROM generate_series(1, 60) g;
SELECT setval('cdp.profile_profile_id_seq', 60);
-- 1..50 are cookies, 51..60 members; a member has a phone in his own profile
INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen, source)
	SELECT CASE WHEN g <= 50 THEN 'anonymous_id' ELSE 'member_id' END, CASE WHEN g <= 50 THEN 'c-' ELSE 'm-' END || g, g,
		timestamptz '2025-06-01 00:00+08' + g * interval '1 hour', timestamptz '2025-07-01 00:00+08', 'shop'
	FROM generate_series(1, 60) g;
INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen, source)
	SELECT 'phone', '+86138000000' || g, g, timestamptz '2025-06-05 00:00+08', timestamptz '2025-07-01 00:00+08', 'shop'
	FROM generate_series(51, 60) g;
-- cookie 5 n logged in as member 50 + n
ALTER TABLE cdp.profile_alias DISABLE TRIGGER profile_alias_guard;
INSERT INTO cdp.profile_alias (profile_id, customer_id) SELECT 50 + n, 5 * n FROM generate_series(1, 10) n;
ALTER TABLE cdp.profile_alias ENABLE TRIGGER profile_alias_guard;
INSERT INTO cdp.identity_link (identifier_a, identifier_b, rule, source, occurred_at)
	SELECT a.identifier_id, b.identifier_id, 'member_id+anonymous_id', 'shop', timestamptz '2025-06-10 00:00+08'
	FROM generate_series(1, 10) n
	JOIN cdp.identifier a ON (a.kind, a.value) = ('anonymous_id', 'c-' || 5 * n) JOIN cdp.identifier b ON (b.kind, b.value) = ('member_id', 'm-' || 50 + n);
INSERT INTO cdp.merge_log (action, customer_id, other_id, rule, at, before, after)
	SELECT 'merge', 5 * n, 50 + n, 'member_id+anonymous_id', timestamptz '2025-06-10 00:00+08',
		jsonb_build_object('winner', ARRAY[5 * n], 'loser', ARRAY[50 + n]), jsonb_build_object('winner', ARRAY[5 * n, 50 + n])
	FROM generate_series(1, 10) n;
INSERT INTO cdp.profile_trait (profile_id, trait, source, value, observed_at)
	SELECT g, 'name', s, to_jsonb('客户 ' || g), timestamptz '2025-06-01 00:00+08' FROM generate_series(1, 60) g, unnest('{shop,crm}'::text[]) s;
INSERT INTO cdp.event (profile_id, name, occurred_at, received_at, properties, message_id, source)
	SELECT 1 + g % 60, 'Page Viewed', timestamptz '2025-01-15 00:00+00' + g * interval '1 day', timestamptz '2025-12-01 00:00+00',
		jsonb_build_object('n', g), 'p' || g, 'web'
	FROM generate_series(1, 400) g;
INSERT INTO cdp.event_key (source, message_id, event_id, received_at)
	SELECT source, message_id, event_id, received_at FROM cdp.event;
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount, refunded, currency, channel, updated_at)
	SELECT 'o' || g, 51 + g % 10, timestamptz '2025-06-15 00:00+08' + g * interval '1 day', CASE WHEN g % 7 = 0 THEN 'refunded' ELSE 'completed' END,
		100, CASE WHEN g % 7 = 0 THEN 100 ELSE 0 END, 'CNY', 'web', timestamptz '2025-12-01 00:00+00'
	FROM generate_series(1, 100) g;
INSERT INTO cdp.sales_order_line (order_id, line_no, product_id, quantity, unit_price, updated_at)
	SELECT 'o' || g, n, 'p' || g % 9, n, 50, timestamptz '2025-12-01 00:00+00' FROM generate_series(1, 100) g, generate_series(1, 2) n;
INSERT INTO cdp.sales_refund (refund_id, order_id, amount, refunded_at)
	SELECT 'o' || g || '/1', 'o' || g, 100, timestamptz '2025-11-01 00:00+00' FROM generate_series(7, 100, 7) g;
INSERT INTO cdp.product (product_id, name, category, price, updated_at)
	SELECT 'p' || g, '商品 ' || g, 'tea', 50, timestamptz '2025-12-01 00:00+00' FROM generate_series(0, 8) g;
INSERT INTO cdp.currency_rate (from_currency, to_currency, rate) VALUES ('USD', 'CNY', 7.1);
INSERT INTO cdp.event_consumer (name, log, done) VALUES ('reader', 'event', '1:1:');
