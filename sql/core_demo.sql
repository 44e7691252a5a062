-- core_demo: CALL cdp.load_demo(), a retailer that does not exist, the same one for everybody who gives the same seed.
-- Page: doc/core_demo.md  Tests: test/sql/core_demo.sql, test/t/011_core_demo_checksums.pl
--
-- Nothing here is random: a number that looks so is a hash of (row, what it is for, seed), and no time of the real
-- clock is written, so two databases get the same rows down to received_at and linked_at.  People are worked out
-- first, then what they said of themselves (through identify_many, in the order of time), then orders (through the
-- engine of record_order), events and tags, each set in one statement.

-- @code
CREATE OR REPLACE FUNCTION cdp._demo_u(n bigint, salt int, seed int) RETURNS float8
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN ((hashint8extended(n, seed::bigint * 1000003 + salt) >> 11) & 9007199254740991) / 9007199254740992.0::float8;
COMMENT ON FUNCTION cdp._demo_u(bigint, int, int) IS 'internal: the number in [0, 1) that belongs to row n, purpose salt and seed';

CREATE OR REPLACE FUNCTION cdp._demo_pick(list text[], n bigint, salt int, seed int) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN list[1 + floor(cdp._demo_u(n, salt, seed) * cardinality(list))::int];
COMMENT ON FUNCTION cdp._demo_pick(text[], bigint, int, int) IS 'internal: the element of list that belongs to row n, purpose salt and seed';

CREATE OR REPLACE FUNCTION cdp._demo_spelling(phone text, way int) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE way WHEN 0 THEN phone WHEN 1 THEN '+86 ' || phone WHEN 2 THEN '0086' || phone
		WHEN 3 THEN regexp_replace(phone, '(...)(....)(....)', '\1-\2-\3')
		WHEN 4 THEN regexp_replace(phone, '(...)(....)(....)', '+86 (\1) \2 \3')
		ELSE translate(phone, '0123456789', '０１２３４５６７８９') END;
COMMENT ON FUNCTION cdp._demo_spelling(text, int) IS 'internal: one of six ways to write a Chinese mobile number';

CREATE OR REPLACE FUNCTION cdp._demo_campaign(at timestamptz) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
	RETURN (SELECT CASE WHEN d BETWEEN '0105' AND '0205' THEN '年货节' WHEN d BETWEEN '0301' AND '0308' THEN '女神节'
		WHEN d BETWEEN '0525' AND '0620' THEN '618' WHEN d BETWEEN '0801' AND '0812' THEN '七夕'
		WHEN d BETWEEN '1020' AND '1112' THEN '双11' ELSE 'always-on' END
		FROM (SELECT to_char(at AT TIME ZONE 'Asia/Shanghai', 'MMDD') AS d) x);
COMMENT ON FUNCTION cdp._demo_campaign(timestamptz) IS 'internal: which campaign of the synthetic retailer ran then';

CREATE OR REPLACE FUNCTION cdp._demo_begin(customers int, seed int) RETURNS timestamptz
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- Checks, and the end of the 18 months.  Ids begin at 1 again: an earlier try that was rolled back has used some.
DECLARE
	t      text;
	c      text;
	filled boolean;
BEGIN
	PERFORM cdp._require_version();
	IF customers IS NULL OR seed IS NULL THEN
		RAISE EXCEPTION 'customers and seed must not be NULL'
			USING ERRCODE = 'null_value_not_allowed', HINT = 'CALL cdp.load_demo(); makes 10,000 customers with seed 42.';
	ELSIF customers NOT BETWEEN 10 AND 1000000 THEN
		RAISE EXCEPTION 'customers is %', customers
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a number from 10 to 1000000.';
	END IF;
	FOREACH t IN ARRAY '{profile,event,sales_order,sales_order_line,product,profile_tag,tag,segment}'::text[] LOOP
		EXECUTE format('SELECT EXISTS (SELECT FROM cdp.%I)', t) INTO filled;
		IF filled THEN
			RAISE EXCEPTION 'this database already holds customers, events, orders, products, tags or segments'
				USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Load the demo into a database of its own: CREATE DATABASE demo, there CREATE EXTENSION customer_cdp and CALL cdp.migrate().';
		END IF;
	END LOOP;
	FOR t, c IN VALUES ('profile', 'profile_id'), ('identifier', 'identifier_id'), ('identity_link', 'link_id'),
		('merge_log', 'merge_id'), ('merge_refusal', 'refusal_id'), ('sales_order_line', 'line_id'), ('event', 'event_id'),
		('tag_history', 'change_id'), ('tag_change', 'seq'), ('tag_everyone', 'seq'), ('segment_definition', 'definition_id')
	LOOP
		EXECUTE format('SELECT EXISTS (SELECT FROM cdp.%I)', t) INTO filled;
		IF t = 'event' THEN
			filled := EXISTS (SELECT FROM cdp.event_key) OR EXISTS (SELECT FROM cdp.event_reject);
		END IF;
		IF NOT filled THEN
			PERFORM setval(pg_get_serial_sequence('cdp.' || t, c), 1, false);
		END IF;
	END LOOP;
	RETURN CASE current_setting('cdp.now') WHEN '' THEN '2025-07-01 00:00:00+08'::timestamptz
		ELSE date_trunc('day', cdp.now(), 'Asia/Shanghai') END;
END $$;
COMMENT ON FUNCTION cdp._demo_begin(int, int) IS 'internal: first step of load_demo, answers the moment up to which it plays';

CREATE OR REPLACE FUNCTION cdp._demo_people(customers int, seed int, start_at timestamptz, end_at timestamptz) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	span float8 := extract(epoch FROM end_at - start_at);
BEGIN
	-- cycle: days after which such a thing is usually bought again
	CREATE TEMP TABLE _cdp_demo_category ON COMMIT DROP AS
	SELECT * FROM (VALUES (1, 'CF', '咖啡', 59, 24), (2, 'SN', '零食', 29, 17), (3, 'BB', '母婴', 218, 28), (4, 'PT', '宠物', 119, 35),
		(5, 'HC', '家清', 45, 48), (6, 'SK', '护肤', 189, 62), (7, 'SP', '运动', 269, 120), (8, 'DG', '数码', 399, 240)) c(no, code, category, price, cycle);
	CREATE TEMP TABLE _cdp_demo_product ON COMMIT DROP AS
	SELECT (c.no - 1) * 12 + n AS no, c.no AS category_no, format('%s-%s', c.code, lpad(n::text, 3, '0')) AS product_id,
		cdp._demo_pick('{经典,轻享,家庭装,限定,加量,迷你}', n, 100 + c.no, seed) || c.category || n || '号' AS name, c.category,
		round((c.price * (0.5 + 1.5 * cdp._demo_u(n, 200 + c.no, seed)))::numeric, 0) - 0.10 AS price
	FROM _cdp_demo_category c, generate_series(1, 12) n;
	CREATE TEMP TABLE _cdp_demo_shop ON COMMIT DROP AS
	SELECT * FROM (VALUES (1, 'SH01', '上海南京东路店', '上海', 31.2354, 121.4809), (2, 'BJ01', '北京三里屯店', '北京', 39.9339, 116.4546),
		(3, 'GZ01', '广州天河城店', '广州', 23.1325, 113.3215), (4, 'SZ01', '深圳万象城店', '深圳', 22.5387, 114.1101),
		(5, 'CD01', '成都太古里店', '成都', 30.6538, 104.0834), (6, 'HZ01', '杭州湖滨店', '杭州', 30.2549, 120.1642)) s(no, store_id, name, city, lat, lon);

	-- origin: visitor (never says who he is), web, wechat, store.  first_at: first visit; join_at: says who he is.
	-- buys: most nothing or once, few very often.
	CREATE TEMP TABLE _cdp_demo_person ON COMMIT DROP AS
	SELECT p.n, p.origin, p.english, p.shop_no, s.city, p.category_no, c.cycle, p.gender,
		CASE WHEN p.english THEN cdp._demo_pick('{James,Emma,Oliver,Sophia,Daniel,Grace,Thomas,Alice,Henry,Laura}', n, 5, seed) || ' '
			|| cdp._demo_pick('{Miller,Brown,Wilson,Clarke,Evans,Fischer,Martin,Lee,Young,Baker}', n, 6, seed)
		ELSE cdp._demo_pick('{王,李,张,刘,陈,杨,赵,黄,周,吴,徐,孙,欧阳,上官}', n, 5, seed) || cdp._demo_pick('{伟,芳,娜,敏,静,强,磊,洋,艳,勇,杰,婷}', n, 6, seed)
			|| cdp._demo_pick('{"",明,华,丽,"",平,霞,鹏,"",宇,欣}', n, 7, seed) END AS name,
		cdp._demo_pick('{138,139,150,158,177,186,188,199}', n, 8, seed) || lpad((12345678 + n::bigint * 7919 % 87654321)::text, 8, '0') AS phone,
		date '1958-01-01' + floor(17500 * cdp._demo_u(n, 9, seed))::int AS birthday,
		p.first_at, CASE WHEN p.origin <> 'visitor' THEN p.first_at + interval '1 second' * round(
			CASE WHEN p.origin = 'store' THEN 0 ELSE least(30 * 86400, extract(epoch FROM end_at - p.first_at) * 0.5) * power(cdp._demo_u(n, 10, seed), 2) END) END AS join_at,
		CASE WHEN p.origin = 'visitor' OR cdp._demo_u(n, 11, seed) < 0.25 THEN 0
			ELSE least(80, floor(0.9 * power(1 - cdp._demo_u(n, 12, seed), -0.85)))::int END AS buys
	FROM (
		SELECT n, cdp._demo_u(n, 1, seed) < 0.12 AS english, 1 + floor(6 * power(cdp._demo_u(n, 2, seed), 1.3))::int AS shop_no,
			CASE WHEN u < 0.10 THEN 'visitor' WHEN u < 0.45 THEN 'web' WHEN u < 0.75 THEN 'wechat' ELSE 'store' END AS origin,
			1 + floor(8 * power(cdp._demo_u(n, 4, seed), 1.2))::int AS category_no, cdp._demo_pick('{f,f,m}', n, 13, seed) AS gender,
			-- in the hours from 8 to 22
			date_trunc('day', start_at + interval '1 second' * floor((span - 3 * 86400) * power(cdp._demo_u(n, 14, seed), 0.8)), 'Asia/Shanghai')
				+ interval '1 second' * floor(28800 + 50400 * cdp._demo_u(n, 15, seed)) AS first_at
		FROM (SELECT n, cdp._demo_u(n, 3, seed) AS u FROM generate_series(1, customers) n) g
	) p JOIN _cdp_demo_shop s ON s.no = p.shop_no JOIN _cdp_demo_category c ON c.no = p.category_no;
	ANALYZE _cdp_demo_person;

	PERFORM cdp._apply_products(array_agg(product_id ORDER BY no), array_agg(name ORDER BY no), array_agg(category ORDER BY no),
		array_agg(price ORDER BY no), array_agg('CNY'::text), array_agg('listed'::text), NULL) FROM _cdp_demo_product;
	UPDATE cdp.product SET updated_at = start_at;
END $$;
COMMENT ON FUNCTION cdp._demo_people(int, int, timestamptz, timestamptz) IS 'internal: second step of load_demo, the retailer and its people, as temporary tables';

CREATE OR REPLACE FUNCTION cdp._demo_identify(seed int, end_at timestamptz) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- What was seen of whom and when; part says which profile of a person later facts belong to.
	CREATE TEMP TABLE _cdp_demo_sighting ON COMMIT DROP AS
	SELECT row_number() OVER (ORDER BY s.at, s.n, s.part) AS ord, s.*, NULL::bigint AS profile_id
	FROM (
		SELECT n, 'cookie' AS part, first_at AS at, 'web' AS source, jsonb_build_object('anonymous_id', 'a-' || md5(seed || '/' || n)) AS identifiers, '{}'::jsonb AS traits
		FROM _cdp_demo_person WHERE origin <> 'store'
		UNION ALL
		-- logs in for the first time, with the cookie; at the till a customer number is given out
		SELECT n, 'join', join_at, origin,
			CASE origin WHEN 'store' THEN jsonb_build_object('customer_no', 'C' || lpad(n::text, 7, '0'), 'phone', cdp._demo_spelling(phone, floor(6 * cdp._demo_u(n, 20, seed))::int))
			ELSE jsonb_strip_nulls(jsonb_build_object('member_id', 'M' || lpad(n::text, 7, '0'), 'phone', cdp._demo_spelling(phone, floor(6 * cdp._demo_u(n, 20, seed))::int),
				'anonymous_id', 'a-' || md5(seed || '/' || n), 'wechat_openid', CASE origin WHEN 'wechat' THEN 'oX' || left(md5(seed || '/open/' || n), 20) END,
				'wechat_unionid', CASE origin WHEN 'wechat' THEN 'uX' || left(md5(seed || '/union/' || n), 20) END)) END,
			jsonb_build_object('name', name, 'gender', gender, 'birthday', birthday, 'city', city, 'language', CASE WHEN english THEN 'en' ELSE 'zh' END)
		FROM _cdp_demo_person WHERE origin <> 'visitor'
		UNION ALL
		-- an online customer comes into a shop and gives his phone, in yet another spelling
		SELECT n, 'till', least(join_at + interval '1 second' * floor(86400 * 60 * cdp._demo_u(n, 22, seed)), end_at - interval '1 hour'), 'store',
			jsonb_build_object('phone', cdp._demo_spelling(phone, floor(6 * cdp._demo_u(n, 23, seed))::int)), '{}'
		FROM _cdp_demo_person WHERE origin IN ('web', 'wechat') AND cdp._demo_u(n, 21, seed) < 0.35
		UNION ALL
		-- and a customer of a shop registers online: two profiles become one by their phone
		SELECT n, 'online', least(join_at + interval '1 second' * floor(86400 * 90 * cdp._demo_u(n, 25, seed)), end_at - interval '30 minutes'), 'web',
			jsonb_build_object('member_id', 'M' || lpad(n::text, 7, '0'), 'phone', cdp._demo_spelling(phone, floor(6 * cdp._demo_u(n, 26, seed))::int)),
			jsonb_build_object('name', name, 'city', city)
		FROM _cdp_demo_person WHERE origin = 'store' AND cdp._demo_u(n, 24, seed) < 0.3
		UNION ALL
		SELECT n, 'email', least(join_at + interval '1 second' * floor(86400 * 30 * cdp._demo_u(n, 28, seed)), end_at - interval '20 minutes'), 'web',
			jsonb_build_object('member_id', 'M' || lpad(n::text, 7, '0'), 'email', CASE WHEN english THEN replace(name, ' ', '.') ELSE 'User' END || n
				|| cdp._demo_pick('{@example.com,@Example.COM,@example.cn}', n, 29, seed)), '{}'
		FROM _cdp_demo_person WHERE origin IN ('web', 'wechat') AND cdp._demo_u(n, 27, seed) < 0.4
		UNION ALL
		-- a phone or a tablet; one in 25 is the household's, which the neighbour in the list logs in on as well
		SELECT n, 'device', least(join_at + interval '1 second' * floor(86400 * 20 * cdp._demo_u(n, 31, seed)), end_at - interval '10 minutes'), 'app',
			jsonb_build_object('member_id', 'M' || lpad(n::text, 7, '0'), 'device_id', 'd-' || left(md5(seed || '/device/'
				|| CASE WHEN cdp._demo_u((n + 1) / 2, 32, seed) < 0.04 THEN (n + 1) / 2 * 2 ELSE n END), 16)), '{}'
		FROM _cdp_demo_person WHERE origin IN ('web', 'wechat') AND (cdp._demo_u(n, 30, seed) < 0.5 OR cdp._demo_u((n + 1) / 2, 32, seed) < 0.04)
	) s;
	FOR batch IN 0 .. (SELECT max(ord) / 5000 FROM _cdp_demo_sighting) LOOP
		UPDATE _cdp_demo_sighting s SET profile_id = i.profile_id
		FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', q.identifiers, 'traits', q.traits, 'source', q.source,
				'occurred_at', q.at) ORDER BY q.ord) FROM _cdp_demo_sighting q WHERE q.ord > batch * 5000 AND q.ord <= (batch + 1) * 5000)) i
		WHERE s.ord = batch * 5000 + i.ord;
	END LOOP;
	CREATE INDEX ON _cdp_demo_sighting (n, part);
	ANALYZE _cdp_demo_sighting;
	UPDATE cdp.identity_link SET linked_at = occurred_at;
	UPDATE cdp.merge_log m SET at = greatest(a.created_at, b.created_at)
	FROM cdp.profile a, cdp.profile b WHERE a.profile_id = m.customer_id AND b.profile_id = m.other_id;
	UPDATE cdp.event e SET occurred_at = m.at, received_at = m.at FROM cdp.merge_log m
		WHERE e.source = 'cdp' AND e.name = 'Customer Merged' AND (e.properties ->> 'merge_id')::bigint = m.merge_id;
	UPDATE cdp.merge_refusal SET at = occurred_at, last_at = occurred_at WHERE occurred_at IS NOT NULL;
END $$;
COMMENT ON FUNCTION cdp._demo_identify(int, timestamptz) IS 'internal: third step of load_demo, what the people said of themselves, in the order of time';

CREATE OR REPLACE FUNCTION cdp._demo_orders(seed int, end_at timestamptz) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- the great sale: orders of some weeks around it wait for it, or come forward
	sale timestamptz := make_timestamptz(extract(year FROM (end_at - interval '330 days') AT TIME ZONE 'Asia/Shanghai')::int, 11, 11, 0, 0, 0, 'Asia/Shanghai');
BEGIN
	CREATE TEMP TABLE _cdp_demo_order ON COMMIT DROP AS
	SELECT 'SO' || lpad((row_number() OVER (ORDER BY o.at, o.n, o.k))::text, 8, '0') AS order_id, row_number() OVER (ORDER BY o.at, o.n, o.k) AS ord,
		o.*, s.profile_id, d.dead, NULL::numeric AS amount,
		CASE WHEN o.in_store THEN o.at WHEN NOT d.dead AND NOT (cdp._demo_u(o.h, 44, seed) < 0.5 AND o.at > end_at - interval '1 day') THEN o.at + interval '4 minutes' END AS paid_at,
		CASE WHEN NOT o.in_store AND NOT d.dead THEN o.at + interval '1 second' * floor(43200 + 86400 * cdp._demo_u(o.h, 45, seed)) END AS shipped_at,
		CASE WHEN o.in_store THEN o.at WHEN NOT d.dead THEN o.at + interval '1 second' * floor(86400 * (3.5 + 3 * cdp._demo_u(o.h, 46, seed))) END AS completed_at
	FROM (
		SELECT x.n, x.k, x.h, x.in_store, x.shop_no, x.origin,
			CASE WHEN cdp._demo_u(x.h, 47, seed) < 0.75 THEN x.category_no ELSE 1 + floor(8 * cdp._demo_u(x.h, 48, seed))::int END AS category_no,
			CASE WHEN NOT x.in_store AND x.at BETWEEN sale - interval '25 days' AND sale + interval '20 days' AND x.since < sale
			          AND cdp._demo_u(x.h, 49, seed) < 0.5
			     THEN sale + interval '1 second' * floor(86000 * power(cdp._demo_u(x.h, 50, seed), 2)) ELSE x.at END AS at
		FROM (
			-- who is known in both worlds buys in both, from then on
			SELECT w.*, greatest(w.join_at, t.at) AS since,
				CASE WHEN t.at IS NULL OR w.at < t.at + interval '10 minutes' THEN w.origin = 'store'
				     ELSE cdp._demo_u(w.h, 41, seed) < CASE w.origin WHEN 'store' THEN 0.7 ELSE 0.4 END END AS in_store
			FROM (
				SELECT p.*, k, p.n::bigint * 100 + k AS h,
					p.join_at + interval '1 second' * floor(sum(CASE WHEN k = 1 THEN 600 + 86400 * 12 * power(cdp._demo_u(p.n, 42, seed), 3)
						ELSE 86400 * p.cycle / (1 + ln(p.buys)) * (0.5 + cdp._demo_u(p.n::bigint * 100 + k, 43, seed)) END)
						OVER (PARTITION BY p.n ORDER BY k)) AS at
				FROM _cdp_demo_person p CROSS JOIN LATERAL generate_series(1, p.buys) k
			) w LEFT JOIN _cdp_demo_sighting t ON t.n = w.n AND t.part = CASE w.origin WHEN 'store' THEN 'online' ELSE 'till' END
		) x
	) o
	CROSS JOIN LATERAL (SELECT NOT o.in_store AND cdp._demo_u(o.h, 40, seed) < 0.03 AS dead) d
	JOIN _cdp_demo_sighting s ON s.n = o.n AND s.part = CASE WHEN o.in_store = (o.origin = 'store') THEN 'join' WHEN o.in_store THEN 'till' ELSE 'online' END
	WHERE o.at < end_at;
	CREATE TEMP TABLE _cdp_demo_line ON COMMIT DROP AS
	SELECT o.order_id, i AS line_no, p.product_id, p.name, p.category, p.price, 1 + floor(3 * power(cdp._demo_u(o.h * 10 + i, 60, seed), 4))::int AS quantity
	FROM _cdp_demo_order o CROSS JOIN LATERAL generate_series(1, 1 + floor(4 * power(cdp._demo_u(o.h, 61, seed), 2))::int) i
	JOIN _cdp_demo_product p ON p.no = floor(12 * cdp._demo_u(o.h * 10 + i, 62, seed))::int + 1
		+ 12 * (CASE WHEN i = 1 THEN o.category_no - 1 ELSE floor(8 * cdp._demo_u(o.h * 10 + i, 63, seed))::int END);
	CREATE INDEX ON _cdp_demo_line (order_id);
	UPDATE _cdp_demo_order o SET amount = l.amount FROM (SELECT order_id, sum(quantity * price) AS amount FROM _cdp_demo_line GROUP BY order_id) l WHERE l.order_id = o.order_id;
	CREATE INDEX ON _cdp_demo_order (ord);
	ANALYZE _cdp_demo_order, _cdp_demo_line;

	FOR batch IN 0 .. (SELECT coalesce(max(ord), 0) / 5000 FROM _cdp_demo_order) LOOP
		PERFORM cdp._apply_orders(array_agg(o.profile_id ORDER BY ord), array_agg(o.order_id ORDER BY ord), array_agg(o.at ORDER BY ord),
			array_agg(CASE WHEN o.dead THEN 'cancelled' WHEN o.completed_at < end_at THEN 'completed' WHEN o.shipped_at < end_at THEN 'shipped'
				WHEN o.paid_at < end_at THEN 'paid' ELSE 'placed' END ORDER BY ord),
			array_agg(o.amount ORDER BY ord), array_agg(0::numeric), array_agg('CNY'::text),
			array_agg(CASE WHEN o.in_store THEN 'store' WHEN o.origin = 'wechat' THEN 'wechat' ELSE cdp._demo_pick('{app,web}', o.h, 51, seed) END ORDER BY ord),
			array_agg(CASE WHEN o.in_store THEN s.store_id END ORDER BY ord), array_agg(cdp._demo_pick('{wechat,wechat,alipay,card}', o.h, 52, seed) ORDER BY ord),
			array_agg(CASE WHEN o.paid_at < end_at THEN o.paid_at END ORDER BY ord), array_agg(CASE WHEN o.shipped_at < end_at THEN o.shipped_at END ORDER BY ord),
			array_agg(CASE WHEN o.completed_at < end_at THEN o.completed_at END ORDER BY ord),
			array_agg(CASE WHEN o.shipped_at < end_at THEN 'SF' || (1000000000 + o.ord) END ORDER BY ord), NULL, false,
			array_agg(CASE WHEN o.dead THEN least(o.at + interval '2 hours', end_at - interval '1 second') END ORDER BY ord),
			jsonb_object_agg(o.order_id, l.products))
		FROM _cdp_demo_order o JOIN _cdp_demo_shop s ON s.no = o.shop_no
		JOIN (SELECT order_id, jsonb_agg(jsonb_build_object('product_id', product_id, 'category', category, 'quantity', quantity, 'price', price) ORDER BY line_no) AS products
		      FROM _cdp_demo_line GROUP BY order_id) l ON l.order_id = o.order_id
		WHERE o.ord > batch * 5000 AND o.ord <= (batch + 1) * 5000 HAVING count(*) > 0;
	END LOOP;
	PERFORM cdp._apply_order_lines(array_agg(order_id ORDER BY order_id, line_no), array_agg(line_no::bigint ORDER BY order_id, line_no),
		array_agg(product_id ORDER BY order_id, line_no), array_agg(quantity::numeric ORDER BY order_id, line_no), array_agg(price ORDER BY order_id, line_no),
		array_agg(category ORDER BY order_id, line_no), NULL) FROM _cdp_demo_line HAVING count(*) > 0;

	-- some of what was completed goes back, all of it or a half
	CREATE TEMP TABLE _cdp_demo_refund ON COMMIT DROP AS
	SELECT 'RF-' || o.order_id AS refund_id, o.order_id, o.profile_id, o.amount AS total, r.at,
		CASE WHEN cdp._demo_u(o.h, 71, seed) < 0.4 THEN o.amount ELSE round(o.amount / 2, 2) END AS amount,
		cdp._demo_pick('{尺寸不合适,质量问题,不喜欢,"damaged on arrival","changed mind"}', o.h, 72, seed) AS reason
	FROM _cdp_demo_order o CROSS JOIN LATERAL (SELECT o.completed_at + interval '1 second' * floor(86400 * (1 + 9 * cdp._demo_u(o.h, 73, seed))) AS at) r
	WHERE NOT o.dead AND cdp._demo_u(o.h, 70, seed) < 0.05 AND r.at < end_at;
	INSERT INTO cdp.sales_refund (refund_id, order_id, amount, reason, refunded_at)
		SELECT refund_id, order_id, amount, reason, at FROM _cdp_demo_refund ORDER BY refund_id;
	PERFORM cdp._insert_events(array_agg(profile_id ORDER BY refund_id), array_agg('Order Refunded'::text), array_agg(at ORDER BY refund_id),
		array_agg(jsonb_build_object('order_id', order_id, 'refund_id', refund_id, 'total', amount, 'currency', 'CNY', 'full', amount = total) ORDER BY refund_id),
		array_agg('refund/' || refund_id ORDER BY refund_id), array_agg('cdp'::text), array_agg(NULL::text), true) FROM _cdp_demo_refund HAVING count(*) > 0;
	-- the last touches: what the refunds changed, and times of the retailer's days instead of ours
	UPDATE cdp.sales_order o SET refunded = coalesce(r.amount, 0), status = cdp._order_status(o.status, o.amount, coalesce(r.amount, 0)),
		updated_at = greatest(o.ordered_at, o.paid_at, o.shipped_at, o.completed_at, o.cancelled_at, r.at)
	FROM _cdp_demo_order d LEFT JOIN _cdp_demo_refund r ON r.order_id = d.order_id WHERE o.order_id = d.order_id;
	UPDATE cdp.sales_order_line l SET updated_at = o.at FROM _cdp_demo_order o WHERE o.order_id = l.order_id;
	UPDATE cdp.event SET received_at = occurred_at WHERE source = 'cdp';
	UPDATE cdp.event_key k SET received_at = e.received_at FROM cdp.event e WHERE e.event_id = k.event_id;
END $$;
COMMENT ON FUNCTION cdp._demo_orders(int, timestamptz) IS 'internal: fourth step of load_demo, orders, lines and refunds';

CREATE OR REPLACE FUNCTION cdp._demo_events(seed int, end_at timestamptz) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- a visit is a page, a search now and then, and products; before somebody has logged in it is the cookie's
	CREATE TEMP TABLE _cdp_demo_visit ON COMMIT DROP AS
	SELECT v.n, v.h, v.at, v.pages, s.profile_id, CASE WHEN v.origin = 'wechat' AND s.part <> 'cookie' THEN 'wechat' ELSE 'web' END AS channel,
		CASE WHEN cdp._demo_u(v.h, 80, seed) < 0.45 THEN cdp._demo_pick('{wechat,douyin,baidu,xiaohongshu,email,sms}', v.h, 81, seed) END AS utm_source
	FROM (
		SELECT p.n, p.origin, p.join_at, p.n::bigint * 1000 + k AS h, 1 + floor(3 * cdp._demo_u(p.n::bigint * 1000 + k, 82, seed))::int AS pages,
			p.first_at + interval '1 second' * floor(CASE WHEN k = 1 THEN 0 ELSE extract(epoch FROM end_at - p.first_at) * 0.95 * power(cdp._demo_u(p.n::bigint * 1000 + k, 83, seed), 1.5) END) AS at
		FROM _cdp_demo_person p CROSS JOIN LATERAL generate_series(1, 1 + floor(8 * power(cdp._demo_u(p.n, 84, seed), 2))::int) k
		WHERE p.origin <> 'store'
	) v JOIN _cdp_demo_sighting s ON s.n = v.n AND s.part = CASE WHEN v.at < v.join_at OR v.join_at IS NULL THEN 'cookie' ELSE 'join' END;

	INSERT INTO cdp.event (profile_id, name, occurred_at, received_at, properties, source, channel)
	SELECT e.profile_id, e.name, e.at, e.at, e.properties, e.source, e.channel
	FROM (
		SELECT v.profile_id, 'Page Viewed' AS name, v.at, 'web' AS source, v.channel, v.h, 0 AS k,
			jsonb_strip_nulls(jsonb_build_object('url', '/', 'duration', floor(5 + 120 * cdp._demo_u(v.h, 85, seed))::int, 'utm_source', v.utm_source,
				'utm_medium', CASE WHEN v.utm_source IN ('email', 'sms') THEN v.utm_source WHEN v.utm_source = 'baidu' THEN 'cpc' WHEN v.utm_source IS NOT NULL THEN 'social' END,
				'utm_campaign', CASE WHEN v.utm_source IS NOT NULL THEN cdp._demo_campaign(v.at) END)) AS properties
		FROM _cdp_demo_visit v
		UNION ALL
		SELECT v.profile_id, 'Products Searched', v.at + interval '20 seconds', 'web', v.channel, v.h, 1,
			jsonb_build_object('query', (SELECT c.category FROM _cdp_demo_category c WHERE c.no = 1 + floor(8 * cdp._demo_u(v.h, 87, seed))::int))
		FROM _cdp_demo_visit v WHERE cdp._demo_u(v.h, 86, seed) < 0.25
		UNION ALL
		SELECT v.profile_id, 'Product Viewed', v.at + k * interval '45 seconds', 'web', v.channel, v.h, 1 + k,
			jsonb_build_object('product_id', p.product_id, 'name', p.name, 'category', p.category, 'price', p.price)
		FROM _cdp_demo_visit v JOIN _cdp_demo_person w ON w.n = v.n CROSS JOIN LATERAL generate_series(1, v.pages) k
		JOIN _cdp_demo_product p ON p.no = 1 + floor(12 * cdp._demo_u(v.h * 10 + k, 88, seed))::int
			+ 12 * (CASE WHEN cdp._demo_u(v.h * 10 + k, 89, seed) < 0.6 THEN w.category_no - 1 ELSE floor(8 * cdp._demo_u(v.h * 10 + k, 90, seed))::int END)
		UNION ALL
		-- what leads to an order online
		SELECT o.profile_id, x.name, o.at - x.before, 'web', CASE o.origin WHEN 'wechat' THEN 'wechat' ELSE 'web' END, o.h, 10 + x.step * 10 + l.line_no,
			jsonb_build_object('product_id', l.product_id, 'name', l.name, 'category', l.category, 'price', l.price)
				|| CASE x.step WHEN 2 THEN jsonb_build_object('quantity', l.quantity) ELSE '{}' END
		FROM _cdp_demo_order o JOIN _cdp_demo_line l ON l.order_id = o.order_id
		CROSS JOIN (VALUES (1, 'Product Viewed', interval '9 minutes'), (2, 'Product Added', interval '7 minutes')) x(step, name, before) WHERE NOT o.in_store
		UNION ALL
		SELECT o.profile_id, 'Checkout Started', o.at - interval '2 minutes', 'web', CASE o.origin WHEN 'wechat' THEN 'wechat' ELSE 'web' END, o.h, 50,
			jsonb_build_object('order_id', o.order_id, 'value', o.amount) FROM _cdp_demo_order o WHERE NOT o.in_store
		UNION ALL
		SELECT o.profile_id, 'Store Visited', o.at - interval '1 second' * floor(120 + 440 * cdp._demo_u(o.h, 91, seed)), 'store', 'store', o.h, 60,
			jsonb_build_object('store_id', s.store_id, 'store', s.name, 'city', s.city, 'lat', s.lat, 'lon', s.lon)
		FROM _cdp_demo_order o JOIN _cdp_demo_shop s ON s.no = o.shop_no WHERE o.in_store
		UNION ALL
		SELECT o.profile_id, 'Survey Answered', o.completed_at + interval '1 day', 'web', 'web', o.h, 70,
			jsonb_build_object('survey', 'nps', 'order_id', o.order_id, 'score', floor(11 * power(cdp._demo_u(o.h, 93, seed), 0.4))::int)
		FROM _cdp_demo_order o WHERE NOT o.dead AND o.completed_at + interval '1 day' < end_at AND cdp._demo_u(o.h, 92, seed) < 0.06
	) e WHERE e.at < end_at ORDER BY e.at, e.h, e.k, e.name;
END $$;
COMMENT ON FUNCTION cdp._demo_events(int, timestamptz) IS 'internal: fifth step of load_demo, what the people did';

CREATE OR REPLACE FUNCTION cdp._demo_tags(end_at timestamptz) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- predictions hold for a month
	until text := to_char((end_at + interval '30 days') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
BEGIN
	INSERT INTO cdp.tag (name, kind, value_type, description) VALUES
		('gender', 'fact', 'text', 'female, male'), ('aov', 'consumption', 'number', 'average order value, yuan'),
		('orders', 'consumption', 'number', 'number of orders'), ('last_order', 'consumption', 'date', 'day of the last order'),
		('高价值', 'consumption', 'none', 'spent 2000 yuan or more'), ('nps.promoter', 'behaviour', 'none', 'last answer 9 or 10'),
		('nps.detractor', 'behaviour', 'none', 'last answer 6 or less'),
		('churn_risk', 'predictive', 'number', 'chance that there is no further order, for a month'), ('churned', 'predictive', 'none', 'as good as certain that there is none');
	-- what stands is one row of a purse: cancelled orders and those that went back do not count
	CREATE TEMP TABLE _cdp_demo_purse ON COMMIT DROP AS
	SELECT cdp.customer_id(o.profile_id) AS customer_id, count(*) AS orders, sum(o.amount - o.refunded) AS amount, max(o.ordered_at) AS last_at,
		(max(d.cycle) / (1 + ln(count(*)::numeric)))::numeric AS pace
	FROM cdp.sales_order o JOIN _cdp_demo_order x USING (order_id) JOIN _cdp_demo_category d ON d.no = x.category_no
	WHERE cdp._order_stands(o.status, o.amount, o.refunded) GROUP BY 1;
	INSERT INTO cdp.profile_tag (profile_id, tags)
	SELECT t.customer_id, t.tags::cdp.tagset FROM (
		SELECT c.customer_id, concat_ws(', ',
			'region.' || CASE c.traits ->> 'city' WHEN '上海' THEN '华东.上海' WHEN '杭州' THEN '华东.杭州' WHEN '北京' THEN '华北.北京'
				WHEN '广州' THEN '华南.广州' WHEN '深圳' THEN '华南.深圳' WHEN '成都' THEN '西南.成都' END,
			'gender=' || CASE c.traits ->> 'gender' WHEN 'f' THEN 'female' WHEN 'm' THEN 'male' END,
			'aov=' || round(p.amount / p.orders, 2), 'orders=' || p.orders,
			'last_order=' || to_char(p.last_at AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-DD'), CASE WHEN p.amount >= 2000 THEN '高价值' END,
			'nps.' || CASE WHEN n.score >= 9 THEN 'promoter' WHEN n.score <= 6 THEN 'detractor' END,
			'churn_risk=' || r.risk || '@' || until, CASE WHEN r.risk >= 0.95 THEN 'churned@' || until END) AS tags
		FROM cdp.customer c LEFT JOIN _cdp_demo_purse p USING (customer_id)
		LEFT JOIN LATERAL (SELECT round(1 - exp(- extract(epoch FROM end_at - p.last_at) / 86400 / (4 * p.pace)), 2) AS risk WHERE p.orders IS NOT NULL) r ON true
		LEFT JOIN (SELECT DISTINCT ON (1) cdp.customer_id(e.profile_id) AS customer_id, (e.properties ->> 'score')::int AS score
			FROM cdp.event e WHERE e.name = 'Survey Answered' ORDER BY 1, e.occurred_at DESC, e.event_id DESC) n USING (customer_id)
	) t WHERE t.tags <> '' ORDER BY t.customer_id;
	UPDATE cdp.tag_history SET changed_at = end_at, source = 'demo';

	PERFORM cdp.define_segment('华东高价值', 'region.华东.* & 高价值', 'worth a visit of the shop');
	PERFORM cdp.define_segment('流失预警', 'churn_risk >= 0.7 & !churned', 'about to be lost', holdout_percent => 10);
	PERFORM cdp.define_segment('咖啡与零食', 'SELECT b.customer_id FROM cdp.find_customers_who(''Product Viewed'', ''30 days'', 2, ''{"category": "咖啡"}'') b(customer_id)
INTERSECT SELECT b.customer_id FROM cdp.find_customers_who(''Product Viewed'', ''30 days'', 1, ''{"category": "零食"}'') b(customer_id)', 'looked at both within a month');
	UPDATE cdp.segment_definition SET defined_at = end_at;
END $$;
COMMENT ON FUNCTION cdp._demo_tags(timestamptz) IS 'internal: last step of load_demo, tags of the customers and three segments';

CREATE OR REPLACE PROCEDURE cdp.load_demo(customers int DEFAULT 10000, seed int DEFAULT 42)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
	-- days have 24 hours whatever the session's zone is
	SET timezone = 'UTC' SET work_mem = '64MB'
AS $$
DECLARE
	end_at   timestamptz := cdp._demo_begin(customers, seed);
	start_at timestamptz := (end_at AT TIME ZONE 'Asia/Shanghai' - interval '18 months') AT TIME ZONE 'Asia/Shanghai';
	t        text;
BEGIN
	PERFORM cdp._make_partitions('cdp.event', start_at - interval '1 day', end_at);
	PERFORM cdp._demo_people(customers, seed, start_at, end_at);
	PERFORM cdp._demo_identify(seed, end_at);
	PERFORM cdp._demo_orders(seed, end_at);
	PERFORM cdp._demo_events(seed, end_at);
	PERFORM cdp._demo_tags(end_at);
	FOREACH t IN ARRAY '{purse,visit,refund,line,order,sighting,person,shop,product,category}'::text[] LOOP
		EXECUTE format('DROP TABLE pg_temp.%I', '_cdp_demo_' || t);
	END LOOP;
	ANALYZE cdp.profile, cdp.identifier, cdp.profile_alias, cdp.profile_trait, cdp.event, cdp.event_key, cdp.sales_order, cdp.sales_order_line, cdp.profile_tag;
END $$;
COMMENT ON PROCEDURE cdp.load_demo(int, int) IS 'Fills an empty database with a synthetic retailer: 18 months, an online shop and six shops in Chinese cities, as many people as customers says (10 to 1000000; a tenth of them never says who they are), their cookies, logins, visits, orders and refunds, their tags and three segments, which CALL cdp.merge_tags() and CALL cdp.refresh_segments() then fill. The same customers and seed give the same rows in every database, ids and times included. The 18 months end on 2025-07-01 (UTC+8), or on the day of the setting cdp.now when it is set. One transaction; run it as the owner of the tables. Errors: 55000 when there are customers, events, orders, products, tags or segments already, 22023 customers out of range, 22004 NULL, 42501.';
