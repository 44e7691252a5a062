-- An online shop with a few stores, as it may have stood for years: five tables of its own that know nothing of
-- customer_cdp.  Set-based and without random(): every row follows from a hash of its number, so every run shows the
-- same shop; only the dates are counted back from today.
--
--   2,000 people.  Some registered twice (app and till) and wrote their phone differently each time; some never
--   registered and bought as guests with a phone; most looked around as a cookie before they logged in; some cookies
--   never logged in.

CREATE SCHEMA shop;
SET search_path = shop;

-- a number in [0, 1) that belongs to (n, salt)
CREATE FUNCTION u(n bigint, salt int) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN ((hashint8extended(n, salt) >> 11) & 9007199254740991) / 9007199254740992.0::float8;
-- and an element of a list
CREATE FUNCTION pick(list anyarray, n bigint, salt int) RETURNS anyelement LANGUAGE sql IMMUTABLE PARALLEL SAFE
	AS 'SELECT list[1 + floor(shop.u(n, salt) * cardinality(list))::int]';

CREATE TABLE products (
	sku      text PRIMARY KEY,
	title    text NOT NULL,
	category text NOT NULL,
	price    numeric(10,2) NOT NULL,
	on_sale  boolean NOT NULL DEFAULT true
);
CREATE TABLE members (
	id            bigint PRIMARY KEY,
	full_name     text,
	mobile        text,
	email         text,
	wechat_openid text,
	gender        text,
	born          date,
	city          text,
	joined_via    text NOT NULL,
	created_at    timestamp NOT NULL
);
CREATE TABLE orders (
	id           bigint PRIMARY KEY,
	member_id    bigint REFERENCES members,
	guest_mobile text,
	state        text NOT NULL,
	total        numeric(10,2) NOT NULL,
	refunded     numeric(10,2) NOT NULL DEFAULT 0,
	pay_method   text,
	channel      text NOT NULL,
	shop         text,
	created_at   timestamp NOT NULL
);
CREATE TABLE order_lines (
	order_id bigint REFERENCES orders,
	line_no  int,
	sku      text REFERENCES products,
	qty      int NOT NULL,
	price    numeric(10,2) NOT NULL,
	PRIMARY KEY (order_id, line_no)
);
CREATE TABLE web_clicks (
	id         bigint PRIMARY KEY,
	cookie     text NOT NULL,
	member_id  bigint,
	page       text NOT NULL,
	sku        text,
	utm_source text,
	at         timestamptz NOT NULL
);

INSERT INTO products (sku, title, category, price)
SELECT format('%s-%s', c.code, lpad(n::text, 2, '0')), pick('{经典,轻享,家庭装,限定,加量,迷你}'::text[], n, c.ord) || c.category || n || '号', c.category,
	round((c.price * (0.6 + 1.2 * u(n, c.ord)))::numeric, 0) - 0.10
FROM (VALUES ('CF', '咖啡', 68, 1), ('SK', '护肤', 189, 2), ('BB', '母婴', 228, 3), ('PT', '宠物', 129, 4), ('SN', '零食', 39, 5), ('SP', '运动', 299, 6))
	AS c(code, category, price, ord), generate_series(1, 10) n;

-- The people behind the tables; the shop itself never sees this list.
CREATE TEMP TABLE person AS
SELECT p.*,
	CASE p.lang WHEN 'en' THEN pick('{James,Emma,Oliver,Sophia,Daniel,Grace,Thomas,Alice}'::text[], n, 2) || ' ' || pick('{Miller,Brown,Wilson,Clarke,Evans,Fischer,Martin,Lee}'::text[], n, 3)
	ELSE pick('{王,李,张,刘,陈,杨,赵,黄,周,吴,徐,孙}'::text[], n, 2) || pick('{伟,芳,娜,敏,静,强,磊,洋,艳,勇,杰,婷}'::text[], n, 3)
		|| CASE WHEN u(n, 4) < 0.6 THEN pick('{明,华,丽,军,平,霞,鹏,玲,宇,欣}'::text[], n, 5) ELSE '' END END AS full_name,
	'1' || pick('{38,39,50,58,77,86,88,99}'::text[], n, 6) || lpad((10000000 + n * 7919 % 89999999)::text, 8, '0') AS phone,
	pick('{上海,北京,广州,深圳,成都,杭州}'::text[], n, 7) AS city,
	-- days ago of the first visit, and how often a person buys in all: a few very often, most once or never
	(20 + 520 * u(n, 8))::int AS first_day,
	CASE WHEN u(n, 9) < 0.25 THEN 0 ELSE least(40, floor(0.8 * power(1 - u(n, 10), -0.8)))::int END AS buys
FROM (SELECT n, CASE WHEN u(n, 1) < 0.12 THEN 'en' ELSE 'zh' END AS lang, u(n, 11) < 0.12 AS is_guest, u(n, 12) < 0.15 AS joined_twice,
	u(n, 13) < 0.70 AS browses FROM generate_series(1, 2000) n) p;

-- one phone, six ways to write it
CREATE FUNCTION pg_temp.spelling(phone text, way int) RETURNS text LANGUAGE sql IMMUTABLE
	RETURN CASE way WHEN 0 THEN phone WHEN 1 THEN '+86 ' || phone WHEN 2 THEN '0086' || phone
		WHEN 3 THEN regexp_replace(phone, '(...)(....)(....)', '\1-\2-\3') WHEN 4 THEN regexp_replace(phone, '(...)(....)(....)', '+86 \1 \2 \3')
		ELSE translate(phone, '0123456789', '０１２３４５６７８９') END;

INSERT INTO members (id, full_name, mobile, email, wechat_openid, gender, born, city, joined_via, created_at)
SELECT 10000 + n, full_name, pg_temp.spelling(phone, (6 * u(n, 20))::int),
	CASE WHEN u(n, 21) < 0.4 THEN CASE WHEN lang = 'en' THEN replace(full_name, ' ', '.') ELSE 'user' END || n || pick('{@example.com,@Example.com,@example.cn}'::text[], n, 22) END,
	CASE WHEN u(n, 23) < 0.5 THEN 'oX' || left(md5(n::text), 12) END,
	pick('{f,m}'::text[], n, 24), date '1960-01-01' + (16000 * u(n, 25))::int, city, pick('{app,wechat,web}'::text[], n, 26),
	current_date - first_day + interval '9 hours' + interval '1 minute' * floor(800 * u(n, 27))
FROM person WHERE NOT is_guest
UNION ALL
-- the same person again, at the till of a store: another number, another spelling, no e-mail
SELECT 20000 + n, full_name, pg_temp.spelling(phone, (6 * u(n, 30))::int), NULL, NULL, NULL, NULL, city, 'pos',
	current_date - (first_day * u(n, 31))::int + interval '11 hours' + interval '1 minute' * floor(500 * u(n, 32))
FROM person WHERE NOT is_guest AND joined_twice;

INSERT INTO orders (id, member_id, guest_mobile, state, total, pay_method, channel, shop, created_at)
SELECT row_number() OVER (ORDER BY o.day DESC, o.n, o.k), CASE WHEN NOT is_guest THEN CASE WHEN in_store AND joined_twice THEN 20000 ELSE 10000 END + n END,
	CASE WHEN is_guest THEN pg_temp.spelling(phone, (6 * u(h, 40))::int) END,
	CASE WHEN u(h, 41) < 0.03 THEN 'closed' WHEN day < 1 THEN 'paid' WHEN day < 4 THEN 'shipped' ELSE 'done' END,
	0, pick('{wechat,alipay,card}'::text[], h, 42), CASE WHEN in_store THEN 'store' ELSE pick('{app,wechat,web}'::text[], h, 43) END,
	CASE WHEN in_store THEN (CASE city WHEN '上海' THEN 'SH01' WHEN '北京' THEN 'BJ01' WHEN '广州' THEN 'GZ01' WHEN '深圳' THEN 'SZ01' WHEN '成都' THEN 'CD01' ELSE 'HZ01' END) END,
	-- the day before yesterday at the latest, so that no order lies ahead of now
	current_date - day - 1 + interval '8 hours' + interval '1 minute' * floor(840 * u(h, 44))
FROM (SELECT p.*, k, n * 100 + k AS h, u(n * 100 + k, 45) < 0.3 AS in_store,
		(first_day * power(u(n * 100 + k, 46), 1.3))::int AS day
	FROM person p, generate_series(1, p.buys) k) o;

INSERT INTO order_lines (order_id, line_no, sku, qty, price)
SELECT o.id, k, p.sku, 1 + floor(2 * power(u(o.id * 10 + k, 51), 3))::int, p.price
FROM orders o CROSS JOIN LATERAL generate_series(1, 1 + floor(3 * power(u(o.id, 52), 2))::int) k
JOIN (SELECT *, row_number() OVER (ORDER BY sku) AS i FROM products) p ON p.i = 1 + floor(60 * u(o.id * 10 + k, 53))::int;
UPDATE orders o SET total = l.total FROM (SELECT order_id, sum(qty * price) AS total FROM order_lines GROUP BY 1) l WHERE l.order_id = o.id;
UPDATE orders SET refunded = CASE WHEN u(id, 61) < 0.5 THEN total ELSE round(total / 2, 2) END WHERE state = 'done' AND u(id, 60) < 0.05;

-- Visits of one to four pages; the later ones of a member with his number, the earlier ones as a cookie only.
INSERT INTO web_clicks (id, cookie, member_id, page, sku, utm_source, at)
SELECT row_number() OVER (ORDER BY v.at, v.n, v.visit, k), cookie, member_id,
	CASE k WHEN 1 THEN 'home' WHEN 4 THEN 'cart' ELSE 'product' END,
	CASE WHEN k > 1 THEN (SELECT sku FROM products p ORDER BY sku OFFSET floor(60 * u(v.h, 77))::int LIMIT 1) END,
	CASE WHEN k = 1 AND u(v.h, 78) < 0.5 THEN pick('{wechat,douyin,baidu,xiaohongshu,email}'::text[], v.h, 79) END,
	v.at + k * interval '40 seconds'
FROM (
	SELECT n, visit, n * 50 + visit AS h, 'c' || left(md5(n || CASE WHEN visit > 5 THEN '-new-phone' ELSE '' END), 10) AS cookie,
		CASE WHEN NOT is_guest AND visit > 1 AND u(n * 50 + visit, 70) < 0.6 THEN 10000 + n END AS member_id,
		current_date - ceil(first_day * (1 - visit / 10.0))::int - 1 + interval '1 minute' * floor(1400 * u(n * 50 + visit, 71)) AS at
	FROM person, generate_series(1, 1 + floor(8 * u(n, 72))::int) visit WHERE browses
	UNION ALL
	-- passers-by
	SELECT n, 1, n * 50, 'c' || left(md5('visitor ' || n), 10), NULL, current_date - 1 - (500 * u(n, 73))::int + interval '1 minute' * floor(1400 * u(n, 74))
	FROM generate_series(3001, 3600) n
) v CROSS JOIN LATERAL generate_series(1, 1 + floor(4 * u(v.h, 75))::int) k;

DROP FUNCTION pick(anyarray, bigint, int);
DROP TABLE person;
DROP FUNCTION u(bigint, int);
ANALYZE products, members, orders, order_lines, web_clicks;
