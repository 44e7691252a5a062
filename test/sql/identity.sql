-- one customer id for whatever identifiers an application has
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-01 09:00:00+08';
-- a cookie, then a login: two profiles, one customer
SELECT cdp.identify('{"anonymous_id": "a-1"}') AS cookie;
SELECT cdp.identify('{"anonymous_id": "a-1", "member_id": "m-1"}', '{"name": "王芳"}', 'web') AS login;
SELECT cdp.identify('{"member_id": "m-1"}') AS member;
SELECT profile_id, customer_id FROM cdp.profile_alias;
SELECT kind, value, profile_id FROM cdp.identifier ORDER BY identifier_id;
SELECT identifier_a, identifier_b, relation, rule, source FROM cdp.identity_link;
SELECT action, customer_id, other_id, rule, before, after FROM cdp.merge_log;
SELECT customer_id, traits, profile_ids FROM cdp.customer;
-- the same again writes nothing
BEGIN;
SELECT cdp.identify('{"anonymous_id": "a-1", "member_id": "m-1"}', '{"name": "王芳"}', 'web');
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;
-- two known customers are brought together; the older id stays, every id answers
SELECT cdp.identify('{"member_id": "m-2", "phone": "+8613900000002"}') AS second;
SELECT cdp.identify('{"anonymous_id": ["a-1", "a-2"], "member_id": "m-2"}') AS together;
SELECT cdp.customer_id(p) FROM generate_series(1, 3) p;
SELECT cdp.resolve('phone', '+8613900000002'), cdp.resolve('phone', '+8613900000099'), cdp.resolve('phone', NULL);
-- traits: the newest moment wins, not the last call
SELECT cdp.identify('{"member_id": "m-1"}', '{"name": "旧", "city": "上海"}', 'crm', '2025-01-01 00:00+08');
SELECT traits FROM cdp.customer WHERE customer_id = 1;
SELECT cdp.identify('{"member_id": "m-1"}', '{"city": "北京"}', 'shop', '2025-06-01 00:00+08');
SELECT traits, profile_ids FROM cdp.customer WHERE customer_id = 1;
-- a batch equals item by item
SELECT * FROM cdp.identify_many('[{"identifiers": {"anonymous_id": "b-1"}}, {"identifiers": {"anonymous_id": "b-1", "member_id": "m-9"}, "traits": {"city": "广州"}},
	{"identifiers": {"phone": "+8613900000009", "anonymous_id": "b-2"}}, {"identifiers": {"member_id": "m-9", "phone": "+8613900000009"}},
	{"identifiers": {"anonymous_id": "b-2"}, "occurred_at": "2026-02-28 10:00"}]');
SELECT kind, value, profile_id, first_seen AT TIME ZONE 'Asia/Shanghai' AS first_seen FROM cdp.identifier WHERE value LIKE 'b-%' OR value LIKE '%9' ORDER BY 1, 2;
-- bad items
SELECT * FROM cdp.identify_many('[{"identifiers": {"phone": 5}}, {"identifiers": {"member_id": "m-1"}}, {"ident": 1}, 7, {"identifiers": {"member_id": " "}}]', 'skip');
SELECT * FROM cdp.identify_many('[{"identifiers": {"member_id": "m-1"}}, {"identifiers": {"phone": 5}}]');
SELECT * FROM cdp.identify_many('{}');
SELECT * FROM cdp.identify_many('[]', 'maybe');
SELECT ord, profile_id, sqlstate, message FROM cdp._identify_rows(ARRAY['{"member_id": "m-1"}', '{}', NULL]::jsonb[], NULL, 'x', NULL);
-- refused, each with its reason
SELECT cdp.identify(NULL);
SELECT cdp.identify('[]');
SELECT cdp.identify('7');
SELECT cdp.identify('{}');
SELECT cdp.identify('{"phone": null, "email": "  ", "device_id": []}');
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.identify('{"shoe_size": "43"}');
SELECT cdp.identify('{"member_id": 43}');
SELECT cdp.identify('{"member_id": {"a": "b"}}');
SELECT cdp.identify('{"member_id": [["a"]]}');
SELECT cdp.identify('{"member_id": [true]}');
SELECT cdp.identify(jsonb_build_object('member_id', repeat('x', 513)));
SELECT cdp.identify(jsonb_build_object('device_id', (SELECT jsonb_agg(g::text) FROM generate_series(1, 33) g)));
SELECT cdp.identify('{"member_id": "m-1"}', '[]');
SELECT cdp.identify('{"member_id": "m-1"}', occurred_at => 'infinity');
SELECT cdp.identify('{"member_id": "m-1"}', occurred_at => '2026-03-03 09:00+08');
SELECT cdp.resolve('shoe_size', '43');
SELECT count(*) AS identifiers_unchanged FROM cdp.identifier;
-- aliases are written by nobody else
INSERT INTO cdp.profile_alias VALUES (5, 1);
DELETE FROM cdp.profile_alias;
-- a read-only transaction is refused before anything happens
BEGIN READ ONLY;
SELECT cdp.identify('{"member_id": "m-1"}');
ROLLBACK;
-- a role with EXECUTE alone
CREATE ROLE regress_cdp_app;
SELECT cdp.grant_access('application', 'regress_cdp_app');
SET ROLE regress_cdp_app;
SELECT cdp.identify('{"member_id": "m-77"}') IS NOT NULL AS ok;
SELECT * FROM cdp.identifier;
RESET ROLE;
SELECT cdp.revoke_access('application', 'regress_cdp_app');
SET ROLE regress_cdp_app;
SELECT cdp.identify('{"member_id": "m-77"}');
RESET ROLE;
DROP ROLE regress_cdp_app;
-- the rules are rows: a new kind is known at the next statement
INSERT INTO cdp.identifier_kind (kind, priority) VALUES ('loyalty_card', 4);
SELECT cdp.identify('{"loyalty_card": " 12 "}') AS card \gset
SELECT cdp.resolve('loyalty_card', '12') = :card AS trimmed;
-- a lookup that meets the remains of a rolled back identifier
BEGIN;
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'gone' || g))) FROM generate_series(1, 100) g));
ROLLBACK;
SELECT count(DISTINCT customer_id) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'gone' || 1 + g % 100))) FROM generate_series(1, 200) g));
SELECT count(DISTINCT customer_id) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'gone' || 1 + g % 100))) FROM generate_series(1, 200) g));
