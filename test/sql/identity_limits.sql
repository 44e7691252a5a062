-- rules as rows: how many identifiers a customer may have, which mean nothing, which changed hands
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-01 09:00:00+08';
CREATE VIEW who AS SELECT i.kind, i.value, i.profile_id, cdp.customer_id(i.profile_id) AS customer_id, i.valid_to IS NULL AS live, i.generic_since IS NOT NULL AS generic
	FROM cdp.identifier i;
CREATE VIEW evidence AS SELECT a.value AS a, b.value AS b, l.relation, l.rule, l.refusal, l.merge_id IS NOT NULL AS merged, l.revoked_at IS NOT NULL AS revoked
	FROM cdp.identity_link l JOIN cdp.identifier a ON a.identifier_id = l.identifier_a JOIN cdp.identifier b ON b.identifier_id = l.identifier_b;
CREATE VIEW refusal AS SELECT r.reason, r.kind, i.value, r.customer_id, r.other_id, r.source, r.times
	FROM cdp.merge_refusal r LEFT JOIN cdp.identifier i USING (identifier_id);

-- values that mean nothing are dropped and counted, never stored
SELECT cdp.identify('{"member_id": "m-1", "device_id": ["0000-0000", "NULL", "-1", "未知"], "phone": "12", "email": "nobody"}', source => 'web') AS one;
SELECT cdp.identify('{"member_id": "m-1", "device_id": "unknown"}', source => 'web') AS again;
SELECT * FROM refusal ORDER BY 1, 2;
SELECT kind, value FROM who;
SELECT cdp.identify('{"device_id": "00000000-0000-0000-0000-000000000000"}');
\echo :LAST_ERROR_SQLSTATE

-- one member number per customer: a tablet in the shop does not make all who sign in one
UPDATE cdp.identifier_kind SET max_per_customer = 1 WHERE kind = 'member_id';
UPDATE cdp.identifier_kind SET max_per_customer = 2 WHERE kind = 'phone';
SELECT cdp.identify('{"member_id": "m-1", "device_id": "tablet"}') AS first;
SELECT cdp.identify('{"member_id": "m-2", "device_id": "tablet"}', source => 'shop') AS second;
SELECT cdp.identify('{"member_id": "m-2", "device_id": "tablet"}', source => 'shop') AS second_again;
SELECT * FROM who ORDER BY 1, 2;
SELECT * FROM evidence ORDER BY 1, 2;
SELECT * FROM refusal WHERE reason = 'limit';
-- a third phone is somebody else's until the rule allows it
SELECT cdp.identify('{"member_id": "m-1", "phone": ["13800000001", "13800000002"]}') AS two;
SELECT cdp.identify('{"member_id": "m-1", "phone": "13800000003"}') AS third;
SELECT cdp.identify('{"phone": ["13800000001", "13800000002", "13800000003"], "member_id": "m-1"}') AS together;
SELECT * FROM who WHERE kind = 'phone' ORDER BY 2;
SELECT * FROM evidence WHERE refusal IS NOT NULL ORDER BY 1, 2;
-- more than the limit in one sighting of nobody known
SELECT cdp.identify('{"phone": ["13800000011", "13800000012", "13800000013"]}') AS three;
SELECT * FROM who WHERE value LIKE '+861380000001_' ORDER BY 2;
-- loosened: known to every session at its next statement, and refused evidence is followed
UPDATE cdp.identifier_kind SET max_per_customer = NULL WHERE kind = 'phone';
SELECT cdp.identify('{"member_id": "m-1", "phone": "13800000003"}') AS third;
SELECT * FROM who WHERE kind = 'phone' AND value LIKE '+861380000000_' ORDER BY 2;
SELECT * FROM evidence WHERE 'm-1' IN (a, b) AND a LIKE '%3' OR 'm-1' IN (a, b) AND b LIKE '%3';
SELECT action, customer_id, other_id, rule FROM cdp.merge_log ORDER BY merge_id;

-- within a window: who was not seen for 30 days does not count
INSERT INTO cdp.identifier_kind (kind, priority, max_per_customer, max_window) VALUES ('browser', 9, 1, '30 days');
SELECT cdp.identify('{"member_id": "w-1", "browser": "b-1"}', occurred_at => '2026-01-01 00:00+08') AS first;
SELECT cdp.identify('{"member_id": "w-1", "browser": "b-2"}', occurred_at => '2026-01-20 00:00+08') AS refused;
SELECT cdp.identify('{"member_id": "w-1", "browser": "b-3"}', occurred_at => '2026-02-15 00:00+08') AS taken;
SELECT value, customer_id = cdp.resolve('member_id', 'w-1') AS his FROM who WHERE kind = 'browser' ORDER BY 1;

-- a value that was refused to more than cdp.generic_after customers tells nobody apart
SET cdp.generic_after = 3;
SELECT cdp.identify('{"member_id": "m-1", "anonymous_id": "kiosk"}') AS first;
SELECT count(cdp.identify(jsonb_build_object('member_id', 'k-' || g, 'anonymous_id', 'kiosk'))) FROM generate_series(1, 10) g;
SELECT count(cdp.identify(jsonb_build_object('member_id', 'k-1', 'anonymous_id', 'kiosk'))) FROM generate_series(1, 3) g;
SELECT reason, kind, value, times FROM refusal WHERE value = 'kiosk' ORDER BY 1;
SELECT kind, value, generic FROM who WHERE generic;
SELECT count(DISTINCT customer_id) AS customers FROM who WHERE value LIKE 'k-%';
SELECT cdp.resolve('anonymous_id', 'kiosk') = cdp.resolve('member_id', 'm-1') AS resolves;
SELECT cdp.identify('{"anonymous_id": "kiosk"}');
-- the same one again is one and the same refusal, and no reason to call the value generic
SELECT cdp.identify('{"member_id": "m-1", "anonymous_id": "home"}') AS first;
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm-2', 'anonymous_id', 'home'))) FROM generate_series(1, 10) g;
SELECT reason, kind, value, times FROM refusal WHERE value = 'home';
RESET cdp.generic_after;

-- a customer that is too large
SET cdp.max_profiles_per_customer = 3;
SELECT cdp.identify('{"wechat_unionid": "u-1", "alipay_id": "a-1"}') AS two;
SELECT cdp.identify('{"wechat_unionid": "u-1", "alipay_id": "a-2"}') AS three;
SELECT cdp.identify('{"wechat_unionid": "u-1", "alipay_id": "a-3"}') AS too_many;
SELECT value, customer_id = cdp.resolve('wechat_unionid', 'u-1') AS his FROM who WHERE kind = 'alipay_id' ORDER BY 1;
SELECT reason, kind, value, times FROM refusal WHERE reason = 'customer_too_large';
RESET cdp.max_profiles_per_customer;

-- a phone number that was given to somebody else
UPDATE cdp.identifier_kind SET ttl = '90 days' WHERE kind = 'phone';
SELECT cdp.identify('{"member_id": "old", "phone": "13900000001"}', occurred_at => '2025-10-01 00:00+08') AS old_owner;
SELECT cdp.identify('{"member_id": "new", "phone": "13900000001"}', occurred_at => '2026-01-29 00:00+08') AS newcomer;
SELECT kind, value, customer_id, live FROM who WHERE value IN ('old', 'new', '+8613900000001') ORDER BY customer_id, kind;
SELECT * FROM evidence WHERE '+8613900000001' IN (a, b) ORDER BY 1, 2;
-- the owner himself, after a long time, keeps it
SELECT cdp.identify('{"member_id": "slow", "phone": "13900000002"}', occurred_at => '2025-10-01 00:00+08') AS slow;
SELECT cdp.identify('{"member_id": "slow", "phone": "13900000002"}', occurred_at => '2026-02-01 00:00+08') AS same;
SELECT count(*) FROM who WHERE value = '+8613900000002';
-- all in one batch: handed on twice
SELECT * FROM cdp.identify_many('[{"identifiers": {"member_id": "x-1", "phone": "13900000003"}, "occurred_at": "2025-01-01T00:00:00+08:00"},
	{"identifiers": {"member_id": "x-2", "phone": "13900000003"}, "occurred_at": "2025-06-01T00:00:00+08:00"},
	{"identifiers": {"phone": "13900000003"}, "occurred_at": "2025-06-02T00:00:00+08:00"},
	{"identifiers": {"member_id": "x-3", "phone": "13900000003"}, "occurred_at": "2026-01-01T00:00:00+08:00"}]');
SELECT value, profile_id, live FROM who WHERE value = '+8613900000003' ORDER BY profile_id;
-- who is refused it meanwhile does not keep it for the old owner
SELECT cdp.identify('{"member_id": "y-1", "phone": "13900000004"}', occurred_at => '2025-01-01 00:00+08') AS old_owner;
SELECT cdp.identify('{"member_id": "y-2", "phone": "13900000004"}', occurred_at => '2025-02-15 00:00+08') AS refused;
SELECT cdp.identify('{"member_id": "y-2", "phone": "13900000004"}', occurred_at => '2025-05-01 00:00+08') AS newcomer;
SELECT cdp.resolve('phone', '13900000004') = cdp.resolve('member_id', 'y-2') AS his;
UPDATE cdp.identifier_kind SET ttl = NULL WHERE kind = 'phone';

-- erased for ever
INSERT INTO cdp.identifier_tombstone (hash, kind) VALUES (cdp._tombstone_hash('email', 'gone@example.com'), 'email');
SELECT cdp.identify('{"email": "Gone@example.com"}');
SELECT cdp.identify('{"member_id": "m-1", "email": "Gone@example.com"}') AS without;
SELECT reason, kind, times FROM refusal WHERE reason = 'tombstone';
SELECT count(*) FROM who WHERE kind = 'email';

-- rules that cannot work are refused
INSERT INTO cdp.identifier_kind (kind, priority, blocked_pattern) VALUES ('bad', 1, '(');
INSERT INTO cdp.identifier_kind (kind, priority, normalizer) VALUES ('bad', 1, 'no_such_function');
INSERT INTO cdp.identifier_kind (kind, priority, normalizer) VALUES ('bad', 1, 'pg_catalog.now');
INSERT INTO cdp.identifier_kind (kind, priority, normalizer) VALUES ('bad', 1, 'cdp.normalize_email(gmial)');
INSERT INTO cdp.identifier_kind (kind, priority, normalizer) VALUES ('bad', 1, 'cdp.normalize_name(x)');
INSERT INTO cdp.identifier_kind (kind, priority, normalizer) VALUES ('bad', 1, 'cdp.normalize_email(a)(b)');
INSERT INTO cdp.identifier_kind (kind, priority, max_per_customer) VALUES ('bad', 1, 0);
INSERT INTO cdp.identifier_kind (kind, priority, ttl) VALUES ('bad', 1, '-1 day');
CREATE FUNCTION random_id(text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT $1 || random()';
INSERT INTO cdp.identifier_kind (kind, priority, normalizer) VALUES ('bad', 1, 'public.random_id');
-- one of the user's, which runs as the one who wrote the rule
CREATE FUNCTION card(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF $1 = 'who' THEN RETURN current_user; END IF;
	IF $1 LIKE 'bad%' THEN RAISE data_exception; END IF;
	RETURN upper(replace($1, ' ', ''));
END $$;
INSERT INTO cdp.identifier_kind (kind, priority, normalizer) VALUES ('card', 4, 'public.card') RETURNING kind, normalizer, owner = current_user AS mine;
INSERT INTO cdp.identifier_kind (kind, priority, normalizer) VALUES ('gmail', 6, 'cdp.normalize_email( gmail )') RETURNING normalizer;
SELECT cdp.identify('{"card": "ab 12"}') = cdp.identify('{"card": ["AB12", "bad one"]}') AS same;
SELECT cdp.identify('{"gmail": "a.b+c@googlemail.com"}') AS gmail \gset
SELECT cdp.resolve('gmail', 'AB@gmail.com') = :gmail AS same;
CREATE ROLE regress_cdp_rules;
SELECT cdp.grant_access('operator', 'regress_cdp_rules');
GRANT USAGE ON SCHEMA public TO regress_cdp_rules;
SET ROLE regress_cdp_rules;
-- a rule that is not changed stays with its owner; nobody writes one in another's name
UPDATE cdp.identifier_kind SET normalizer = 'public.card' WHERE kind = 'card' RETURNING owner <> current_user AS as_before;
UPDATE cdp.identifier_kind SET owner = 'pg_monitor' WHERE kind = 'card' RETURNING owner;
RESET ROLE;
SELECT cdp.identify('{"card": "who"}') AS who \gset
SELECT value FROM who WHERE kind = 'card' AND customer_id = :who;
REVOKE EXECUTE ON FUNCTION card(text) FROM PUBLIC;
SELECT cdp.identify('{"card": "y"}');
SELECT cdp.revoke_access('operator', 'regress_cdp_rules');
REVOKE USAGE ON SCHEMA public FROM regress_cdp_rules;
DROP ROLE regress_cdp_rules;
SELECT cdp.identify('{"card": "x"}');
-- one zero alone may be somebody's number
SELECT cdp.identify('{"customer_no": "0"}') IS NOT NULL AS zero_is_a_number;

-- who counts a refusal reads his own, not everybody's: a thousand identifiers that were refused once
BEGIN;
UPDATE cdp.identifier_kind SET max_per_customer = 1 WHERE kind = 'member_id';
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', m || g, 'device_id', 'dev-' || g)) ORDER BY m, g)
	FROM unnest('{r-,s-}'::text[]) m, generate_series(1, 1000) g));
SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS before FROM pg_stat_xact_user_tables WHERE relname = 'merge_refusal' \gset
SELECT cdp.identify('{"member_id": "s-500", "device_id": "dev-500"}') = cdp.resolve('member_id', 's-500') AS himself;
SELECT seq_tup_read + idx_tup_fetch - :before < 10 AS only_his FROM pg_stat_xact_user_tables WHERE relname = 'merge_refusal';
SELECT times FROM cdp.merge_refusal r JOIN cdp.identifier i USING (identifier_id) WHERE i.value = 'dev-500';
ROLLBACK;

-- nor does a sighting read everybody's identifiers while the tables have never been analyzed
BEGIN;
UPDATE cdp.identifier_kind SET max_per_customer = 2 WHERE kind IN ('phone', 'device_id');
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('occurred_at', '2026-01-01Z', 'identifiers',
	jsonb_build_object('member_id', 'q-' || g, 'device_id', 'qev-' || g))) FROM generate_series(1, 2000) g));
SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS before FROM pg_stat_xact_user_tables WHERE relname = 'identifier' \gset
SELECT cdp.identify('{"member_id": "q-1", "device_id": "qev-1"}', occurred_at => '2026-01-09Z') = cdp.resolve('member_id', 'q-1') AS seen_later;
SELECT cdp.identify('{"member_id": "q-2", "phone": "13800001234"}', occurred_at => '2026-01-09Z') = cdp.resolve('member_id', 'q-2') AS a_new_phone;
SELECT seq_tup_read + idx_tup_fetch - :before < 100 AS only_theirs FROM pg_stat_xact_user_tables WHERE relname = 'identifier';
ROLLBACK;

-- who has too many since a limit was lowered is no worse for somebody who joins with none; with one more he is refused
BEGIN;
SELECT cdp.identify('{"member_id": "w-1", "phone": ["13800005001", "13800005002", "13800005003"]}') AS many \gset
SELECT cdp.identify('{"email": "w@example.com"}') AS none, cdp.identify('{"customer_no": "w-2", "phone": "13800005004"}') AS one \gset
UPDATE cdp.identifier_kind SET max_per_customer = 2 WHERE kind = 'phone';
SELECT max(refusal_id) AS last FROM cdp.merge_refusal \gset
SELECT cdp.identify('{"member_id": "w-1", "email": "w@example.com"}') = :many AS himself;
SELECT cdp.customer_id(:none) = :many AS joined;
SELECT allowed FROM cdp.preview_merge(:many, :one);
SELECT cdp.identify('{"member_id": "w-1", "customer_no": "w-2"}') = :one AS the_other;
SELECT cdp.identify('{"member_id": "w-1", "phone": "13800005005"}') = :many AS himself;
SELECT cdp.customer_id(:one) = :many AS joined, cdp.resolve('phone', '13800005005') = :many AS one_more;
SELECT reason, kind, times FROM cdp.merge_refusal WHERE refusal_id > :last ORDER BY refusal_id;
ROLLBACK;

-- a value that turned generic is nobody's: it takes no place in the limit of who has it, one by one or in one batch
BEGIN;
UPDATE cdp.identifier_kind SET max_per_customer = 1 WHERE kind IN ('member_id', 'phone');
SET LOCAL cdp.generic_after = 2;
SELECT count(cdp.identify(jsonb_build_object('member_id', 'y-' || g, 'phone', '13800006000'))) FROM generate_series(1, 5) g;
SELECT cdp.identify('{"member_id": "y-1", "phone": "13800006001"}') \g /dev/null
SELECT cdp.resolve('phone', '13800006000') = cdp.resolve('member_id', 'y-1') AS still_his, cdp.resolve('phone', '13800006001') = cdp.resolve('member_id', 'y-1') AS his_too;
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', i) ORDER BY n) FROM (
	SELECT g AS n, jsonb_build_object('member_id', 'z-' || g, 'phone', '13800007000') AS i FROM generate_series(1, 5) g
	UNION ALL SELECT 6, '{"member_id": "z-1", "phone": "13800007001"}') x));
SELECT cdp.resolve('phone', '13800007000') = cdp.resolve('member_id', 'z-1') AS still_his, cdp.resolve('phone', '13800007001') = cdp.resolve('member_id', 'z-1') AS his_too;
SELECT cdp.identify('{"member_id": "z-1", "phone": "13800007002"}') \g /dev/null
SELECT cdp.resolve('phone', '13800007002') = cdp.resolve('member_id', 'z-1') AS a_third_is;
SELECT * FROM cdp.recheck_identity() WHERE profile_id >= cdp.resolve('member_id', 'y-1');
ROLLBACK;
