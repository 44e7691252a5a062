-- A shop that knows nothing of customer_cdp: its own tables, its own habits.  Deterministic, so that everybody sees the
-- same figures.
\set QUIET on
CREATE SCHEMA shop;
CREATE TABLE shop.member (
	id        int PRIMARY KEY,
	full_name text NOT NULL,
	mobile    text,
	email     text,
	city      text,
	joined_at timestamp NOT NULL
);
CREATE TABLE shop.orders (
	id        int PRIMARY KEY,
	member_id int,
	phone     text,
	paid_at   timestamp NOT NULL,
	state     text NOT NULL,
	total     numeric(10,2) NOT NULL,
	returned  numeric(10,2) NOT NULL DEFAULT 0,
	shop      text
);
CREATE TABLE shop.order_line (
	order_id int,
	line_no  int,
	sku      text NOT NULL,
	quantity int NOT NULL,
	price    numeric(10,2) NOT NULL,
	PRIMARY KEY (order_id, line_no)
);
CREATE TABLE shop.web_click (
	id        bigint PRIMARY KEY,
	cookie    text NOT NULL,
	member_id int,
	sku       text,
	at        timestamp NOT NULL
);
-- a number in [0, 1) that depends on nothing but its arguments
CREATE FUNCTION shop.u(n int, salt int) RETURNS float8 LANGUAGE sql IMMUTABLE AS $$
	SELECT (hashint8extended(n, salt) & 1048575) / 1048576.0 $$;

INSERT INTO shop.member
SELECT i,
	(ARRAY['王','李','张','刘','陈','杨','赵','黄','欧阳','司马'])[1 + floor(10 * shop.u(i, 1))::int]
		|| (ARRAY['芳','伟','娜','敏','静','强','磊','洋','艳','勇'])[1 + floor(10 * shop.u(i, 2))::int],
	-- one phone in many spellings
	CASE i % 4 WHEN 0 THEN '138' || lpad(i::text, 8, '0') WHEN 1 THEN '+86 138-' || lpad((i / 10000)::text, 4, '0') || '-' || lpad((i % 10000)::text, 4, '0')
		WHEN 2 THEN '0086138' || lpad(i::text, 8, '0') ELSE '138 ' || lpad((i / 10000)::text, 4, '0') || ' ' || lpad((i % 10000)::text, 4, '0') END,
	CASE WHEN shop.u(i, 3) < 0.6 THEN 'member' || i || '@example.com' END,
	(ARRAY['上海','北京','广州','深圳','成都','杭州'])[1 + floor(6 * shop.u(i, 4))::int],
	timestamp '2025-01-01 09:00' + shop.u(i, 5) * interval '300 days'
FROM generate_series(1, 2000) i;

-- few buy often, many buy once; one order in five is made at the counter, with a phone number and no member
INSERT INTO shop.orders
SELECT row_number() OVER (ORDER BY m.id, k), CASE WHEN shop.u(m.id * 100 + k, 11) < 0.8 THEN m.id END,
	'138' || lpad(m.id::text, 8, '0'),
	date_trunc('second', m.joined_at + shop.u(m.id * 100 + k, 12) * (timestamp '2026-06-30' - m.joined_at)),
	CASE WHEN shop.u(m.id * 100 + k, 13) < 0.03 THEN 'cancelled' WHEN shop.u(m.id * 100 + k, 13) < 0.1 THEN 'paid' ELSE 'completed' END,
	round((20 + 400 * shop.u(m.id * 100 + k, 14) ^ 3)::numeric, 2),
	0, 'S' || 1 + floor(6 * shop.u(m.id, 15))::int
FROM shop.member m, LATERAL generate_series(1, floor(1 + 8 * shop.u(m.id, 10) ^ 4)::int) k
WHERE shop.u(m.id, 9) < 0.85;
UPDATE shop.orders SET returned = round(total / 2, 2) WHERE state = 'completed' AND id % 40 = 0;
INSERT INTO shop.order_line
SELECT o.id, n, 'SKU-' || 1 + floor(50 * shop.u(o.id * 10 + n, 20))::int, 1 + floor(2 * shop.u(o.id * 10 + n, 21))::int, round(o.total / 2, 2)
FROM shop.orders o, generate_series(1, 2) n;

-- visitors look around anonymously; a third of them log in on the way
INSERT INTO shop.web_click
SELECT row_number() OVER (ORDER BY c, k), 'cookie-' || c,
	CASE WHEN shop.u(c, 31) < 0.35 AND k >= 3 THEN 1 + floor(2000 * shop.u(c, 32))::int END,
	'SKU-' || 1 + floor(50 * shop.u(c * 10 + k, 33))::int,
	date_trunc('second', timestamp '2026-01-01' + shop.u(c, 34) * interval '150 days' + k * interval '70 seconds')
FROM generate_series(1, 3000) c, LATERAL generate_series(1, 2 + floor(4 * shop.u(c, 35))::int) k;
ANALYZE shop.member, shop.orders, shop.order_line, shop.web_click;
