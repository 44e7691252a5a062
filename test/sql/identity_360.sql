-- find a customer, see everything about him, correct what is wrong
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET cdp.now = '2026-03-01 09:00:00+08';
SELECT cdp.identify('{"anonymous_id": "a-1"}', '{}', 'web', '2026-01-01 10:00+08') AS cookie;
SELECT cdp.identify('{"anonymous_id": "a-1", "member_id": "m-1", "phone": "138 0000 1234"}', '{"name": "王芳", "city": "上海"}', 'web', '2026-01-02 10:00+08') AS member;
SELECT cdp.identify('{"member_id": "m-2", "email": "Wang.Wu@Example.COM"}', '{"name": "王五 100%_"}', 'crm', '2026-01-03 10:00+08') AS other;
SELECT count(cdp.track('{"anonymous_id": "a-1"}', 'Page Viewed', jsonb_build_object('n', n), timestamptz '2026-01-01 12:00+08' + n * interval '1 hour')) FROM generate_series(1, 25) n;
SELECT cdp.track('{"member_id": "m-1"}', 'Product Viewed', '{"product_id": "p"}', '2026-01-05 12:00+08', channel => 'app') IS NOT NULL AS tracked;
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount, refunded, currency) VALUES
	('o-1', 1, '2026-01-10 00:00+08', 'completed', 100.50, 0, 'CNY'), ('o-2', 2, '2026-02-10 00:00+08', 'paid', 50, 10, 'CNY'),
	('o-3', 2, '2026-02-11 00:00+08', 'placed', 70, 0, 'CNY'), ('o-4', 2, '2026-02-12 00:00+08', 'completed', 9, 0, 'USD');
-- search: whole identifiers in any spelling, the end of a phone, the beginning of a name
SELECT * FROM cdp.search_customers('+86 138-0000-1234');
SELECT * FROM cdp.search_customers('1234');
SELECT * FROM cdp.search_customers('001234');
SELECT * FROM cdp.search_customers('234');
SELECT * FROM cdp.search_customers('wang.wu@example.com');
SELECT * FROM cdp.search_customers('a-1');
SELECT * FROM cdp.search_customers('王');
SELECT * FROM cdp.search_customers('王五 100%');
SELECT * FROM cdp.search_customers('%');
SELECT * FROM cdp.search_customers(NULL);
SELECT * FROM cdp.search_customers('王', 1);
SELECT * FROM cdp.search_customers('王', 0);
-- 360 degrees, by any id
SELECT jsonb_pretty(cdp.customer_360(2) - 'events');
SELECT cdp.customer_360(1) = cdp.customer_360(2) AS same, jsonb_array_length(cdp.customer_360(1) -> 'events') AS events, cdp.customer_360(99), cdp.customer_360(NULL);
SELECT cdp.customer_360(1) #> '{events,0}';
SELECT to_char(at, 'MM-DD HH24:MI'), kind, title, detail FROM cdp.timeline(2, max_rows => 4);
SELECT to_char(at, 'MM-DD HH24:MI'), kind, title FROM cdp.timeline(1, '2026-01-01 13:00+08', '2026-01-01 15:00+08');
SELECT count(*) FROM cdp.timeline(77);
SELECT * FROM cdp.timeline(1, max_rows => 0);
SELECT * FROM cdp.timeline(1, '2026-02-01', '2026-01-01');
-- traits by hand
SELECT cdp.set_traits(2, '{"city": "北京", "name": null, "vip": true}');
SELECT traits FROM cdp.customer WHERE customer_id = 1;
INSERT INTO cdp.trait_definition VALUES ('birthday', 'date', true, '生日'), ('children', 'integer', false, NULL), ('name', 'string', true, '姓名');
SELECT cdp.set_traits(1, '{"birthday": "1990-02-30", "children": 2.5, "city": "广州"}');
SELECT cdp.identify('{"member_id": "m-1"}', '{"birthday": 19900101}', 'shop') AS member;
SELECT trait, profile_id, source, found_type FROM cdp.trait_reject ORDER BY trait, source;
SELECT cdp.set_traits(1, '{"birthday": "1992-02-29", "children": 2}');
SELECT traits FROM cdp.customer WHERE customer_id = 1;
SELECT cdp.customer_360(1) -> 'missing_traits' AS missing;
SELECT cdp.set_traits(NULL, '{}');
SELECT cdp.set_traits(1, NULL);
SELECT cdp.set_traits(1, '[]');
SELECT cdp.set_traits(4711, '{}');
-- who sees values
CREATE ROLE regress_cdp_reader;
CREATE ROLE regress_cdp_operator;
SELECT cdp.grant_access('reader', 'regress_cdp_reader'), cdp.grant_access('operator', 'regress_cdp_operator');
SET ROLE regress_cdp_reader;
SELECT cdp.customer_360(1) ? 'identifiers' AS identifiers, cdp.customer_360(1) ? 'orders' AS orders;
SELECT count(*) > 0 AS timeline FROM cdp.timeline(1);
SELECT * FROM cdp.search_customers('1234');
SET ROLE regress_cdp_operator;
SELECT cdp.customer_360(1) ? 'identifiers' AS identifiers;
SELECT customer_id, matched FROM cdp.search_customers('1234');
SELECT cdp.set_traits(1, '{"note": "VIP"}') AS set;
RESET ROLE;
SELECT cdp.revoke_access('reader', 'regress_cdp_reader'), cdp.revoke_access('operator', 'regress_cdp_operator');
DROP ROLE regress_cdp_reader, regress_cdp_operator;
-- index-driven: every branch of search_customers, and one customer's timeline whatever the size of the log
INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen)
	SELECT 'phone', '+86139' || to_char(g, 'FM00000000'), 1000000 + g, cdp.now(), cdp.now() FROM generate_series(1, 20000) g;
INSERT INTO cdp.profile (profile_id, traits) SELECT 1000000 + g, jsonb_build_object('name', 'n' || g) FROM generate_series(1, 20000) g;
ANALYZE cdp.identifier, cdp.profile;
EXPLAIN (COSTS OFF) SELECT 1 FROM cdp.identifier i WHERE i.valid_to IS NULL AND i.kind = 'phone' AND reverse(i.value) LIKE '4321%';
EXPLAIN (COSTS OFF) SELECT 1 FROM cdp.identifier i WHERE i.valid_to IS NULL AND i.value = ANY ('{a,b}');
EXPLAIN (COSTS OFF) SELECT 1 FROM cdp.profile p WHERE p.traits ? 'name' AND left(lower(p.traits ->> 'name'), 100) LIKE '王%';
-- a name is whatever somebody calls one: longer than an index can hold
SELECT cdp.identify('{"member_id": "long"}', jsonb_build_object('name', 'Long ' || (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 600) g))) IS NOT NULL AS taken;
SELECT count(*), max(length(name)) FROM cdp.search_customers('long c4ca4238a0b923820dcc509a6f75849bc8');
SELECT count(*) FROM cdp.search_customers((SELECT traits ->> 'name' FROM cdp.customer WHERE customer_id = cdp.resolve('member_id', 'long')));
-- the timeline of many profiles, window by window, is the timeline
INSERT INTO cdp.event (profile_id, name, occurred_at) SELECT 2000000 + g % 40, 'E' || g, cdp.now() + interval '3 days' - g * g * interval '13 minutes' FROM generate_series(1, 400) g;
SELECT count(*) AS same, bool_and(w.got = w.want) AS all_same FROM (
	SELECT (SELECT string_agg(t.title, ',' ORDER BY n) FROM cdp._timeline_event(p.ids, r.lower, r.upper, m) WITH ORDINALITY t(at, kind, title, detail, n)) AS got,
		(SELECT string_agg(e.name, ',' ORDER BY e.occurred_at DESC, e.event_id DESC) FROM (SELECT * FROM cdp.event v WHERE v.profile_id = ANY (p.ids)
			AND v.occurred_at >= r.lower AND v.occurred_at < r.upper ORDER BY v.occurred_at DESC, v.event_id DESC LIMIT m) e) AS want
	FROM (SELECT array_agg(2000000::bigint + g) AS ids FROM generate_series(1, 40) g UNION ALL SELECT array_agg(2000000::bigint + g) FROM generate_series(1, 5) g) p,
		(VALUES ('-infinity'::timestamptz, 'infinity'::timestamptz), (cdp.now() - interval '1 year', cdp.now()), ('-infinity', cdp.now() - interval '400 days'),
			(cdp.now(), 'infinity'), (cdp.now() + interval '1 year', 'infinity')) r(lower, upper), unnest('{1,7,100,1000}'::int[]) m
	) w WHERE w.got IS NOT DISTINCT FROM w.want;
SELECT count(*) FROM cdp._timeline_event(ARRAY(SELECT 3000000::bigint + g FROM generate_series(1, 30) g), '-infinity', 'infinity', 10);
