-- the usual call, in which everybody is known, takes a short way; whatever is not quite usual must not take it
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-01 09:00:00+08';
SET TimeZone = 'Asia/Shanghai';
SELECT cdp.identify('{"member_id": "m", "device_id": "d", "phone": "138 0000 0001"}', occurred_at => '2026-02-28 12:00+08') AS customer;
CREATE FUNCTION seen() RETURNS TABLE (kind text, value text, first_seen timestamptz, last_seen timestamptz) LANGUAGE sql AS $$
	SELECT kind, value, first_seen, last_seen FROM cdp.identifier WHERE valid_to IS NULL ORDER BY identifier_id $$;
CREATE FUNCTION links() RETURNS TABLE (a text, b text, occurred_at timestamptz, refusal text) LANGUAGE sql AS $$
	SELECT a.value, b.value, l.occurred_at, l.refusal FROM cdp.identity_link l JOIN cdp.identifier a ON a.identifier_id = identifier_a
	JOIN cdp.identifier b ON b.identifier_id = identifier_b WHERE relation = 'same' AND revoked_at IS NULL ORDER BY 1, 2 $$;
-- known in whatever spelling: nothing is written, no row locked
BEGIN;
SELECT cdp.identify('{"member_id": " m ", "phone": "+86-138-0000-0001"}', '{}', 'web', '2026-02-28 20:00+08'),
	cdp.identify('{"device_id": "d"}'), cdp.identify('{"device_id": "d", "phone": "13800000001", "member_id": "m"}'),
	cdp.identify('{"device_id": ["d", "d"], "email": null, "anonymous_id": " "}');
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;
SELECT * FROM seen();
-- it was seen by the profile of the strongest, and a batch of one says so
SELECT * FROM cdp.identify_many('[{"identifiers": {"device_id": "d", "member_id": "m"}}]');
SELECT * FROM cdp.identify_many('[{"identifiers": {"device_id": "d"}, "occurred_at": "never"}]', 'skip');
-- earlier than known: the first sighting and the evidence move
SELECT cdp.identify('{"device_id": "d", "member_id": "m"}', occurred_at => '2026-02-01 12:00+08');
SELECT * FROM seen();
SELECT * FROM links();
-- between the first sighting of each and the first of both
SELECT cdp.identify('{"phone": "13800000001"}', occurred_at => '2026-01-15 12:00+08');
SELECT cdp.identify('{"phone": "13800000001", "member_id": "m"}', occurred_at => '2026-02-15 12:00+08');
SELECT * FROM links();
-- later by the resolution, and by less
SELECT cdp.identify('{"device_id": "d"}', occurred_at => '2026-03-01 12:00:00.000001+08');
SELECT cdp.identify('{"member_id": "m"}', occurred_at => '2026-03-01 12:00+08');
SELECT * FROM seen();
-- moments that are none
SELECT cdp.identify('{"device_id": "d"}', occurred_at => '2026-03-02 09:00:01+08');
SELECT cdp.identify('{"device_id": "d"}', occurred_at => '-infinity');
-- traits are kept
SELECT cdp.identify('{"device_id": "d"}', '{"city": "上海"}');
SELECT cdp.identify('{"device_id": "d"}', '{"city": null}'), cdp.identify('{"device_id": "d"}', NULL);
SELECT cdp.identify('{"device_id": "d"}', '[]');
SELECT profile_id, traits FROM cdp.profile;
-- a value that is dropped is noted although the others are known
SELECT cdp.identify('{"device_id": "d", "phone": "000"}'), cdp.identify('{"device_id": "d", "email": "nobody"}'), cdp.identify('{"device_id": "d", "member_id": "NULL"}');
SELECT reason, kind, times FROM cdp.merge_refusal ORDER BY 1, 2;
-- known, and of one profile, but never seen together: that is evidence
SELECT cdp.identify('{"device_id": "d", "anonymous_id": "a"}', occurred_at => '2026-02-28 12:00+08');
SELECT cdp.identify('{"member_id": "m", "anonymous_id": "a"}', occurred_at => '2026-02-28 13:00+08');
SELECT a, b FROM links() WHERE 'a' IN (a, b);
-- two customers, one by a merge, two again by a judgement
SELECT cdp.identify('{"member_id": "n"}', occurred_at => '2026-02-28 14:00+08') AS other;
SELECT cdp.identify('{"member_id": "n", "device_id": "d"}', occurred_at => '2026-02-28 15:00+08') AS together;
SELECT cdp.identify('{"member_id": "n", "device_id": "d"}', occurred_at => '2026-02-28 16:00+08') AS known, cdp.identify('{"member_id": "n"}') AS alone;
BEGIN;
SELECT cdp.unmerge_customer(cdp.resolve('member_id', 'n'), 'a shared device') IS NOT NULL AS unmerged;
SELECT cdp.identify('{"member_id": "n"}') AS n, cdp.identify('{"device_id": "d"}') AS d, cdp.identify('{"member_id": "n", "device_id": "d"}') AS n_again;
SELECT a, b, refusal FROM links() WHERE 'n' IN (a, b);
ROLLBACK;
SELECT cdp.identify('{"member_id": "n", "device_id": "d"}') AS as_before;
-- rules that change count from the next statement, which reads them, and from then on
BEGIN;
SAVEPOINT s;
UPDATE cdp.identifier_kind SET blocked_values = array_append(blocked_values, 'd') WHERE kind = 'device_id';
SAVEPOINT t;
SELECT cdp.identify('{"device_id": "d"}');
ROLLBACK TO t;
SELECT cdp.identify('{"device_id": "d"}');
ROLLBACK TO s;
SELECT cdp.identify('{"device_id": "d"}');
ROLLBACK;
BEGIN;
UPDATE cdp.identifier_kind SET priority = 99 WHERE kind = 'member_id';
SELECT profile_id FROM cdp.identify_many('[{"identifiers": {"device_id": "d", "member_id": "n"}}]');
SELECT profile_id FROM cdp.identify_many('[{"identifiers": {"device_id": "d", "member_id": "n"}}]');
ROLLBACK;
SELECT profile_id FROM cdp.identify_many('[{"identifiers": {"device_id": "d", "member_id": "n"}}]');
SELECT profile_id FROM cdp.identify_many('[{"identifiers": {"device_id": "d", "member_id": "n"}}]');
BEGIN;
DELETE FROM cdp.identifier_kind WHERE kind = 'device_id';
SELECT cdp.identify('{"device_id": "d"}');
ROLLBACK;
BEGIN;
INSERT INTO cdp.identifier_tombstone (hash, kind) VALUES (cdp._tombstone_hash('device_id', 'd'), 'device_id');
SAVEPOINT t;
SELECT cdp.identify('{"device_id": "d"}');
ROLLBACK TO t;
SELECT cdp.identify('{"device_id": "d"}');
ROLLBACK;
-- a normalizer of the user's
CREATE FUNCTION public.without_zeros(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT ltrim($1, '0') $$;
INSERT INTO cdp.identifier_kind (kind, priority, normalizer) VALUES ('card_no', 4, 'public.without_zeros');
SELECT cdp.identify('{"card_no": "0042"}') = cdp.identify('{"card_no": "42"}') AS one_card;
DROP FUNCTION public.without_zeros(text);
SELECT cdp.identify('{"card_no": "42"}');
SELECT cdp.identify('{"device_id": "d"}');
-- one that tells nobody apart does not tell
UPDATE cdp.identifier SET generic_since = cdp.now() WHERE value = 'd';
SELECT cdp.identify('{"device_id": "d"}');
SELECT cdp.identify('{"device_id": "d", "member_id": "m"}');
SELECT reason, kind, times FROM cdp.merge_refusal WHERE reason = 'generic_value';
-- what a subtransaction took back is not known
BEGIN;
SAVEPOINT s;
SELECT cdp.identify('{"wechat_openid": "w"}') AS new \gset
SELECT cdp.identify('{"wechat_openid": "w"}') = :new AS known;
ROLLBACK TO s;
SELECT cdp.identify('{"wechat_openid": "w"}') <> :new AS newer;
ROLLBACK;
-- nor may it be asked where nothing may be written, or by who may not
BEGIN READ ONLY;
SELECT cdp.identify('{"member_id": "m"}');
ROLLBACK;
CREATE ROLE regress_cdp_known;
SET ROLE regress_cdp_known;
SELECT cdp.identify('{"member_id": "m"}');
RESET ROLE;
SELECT cdp.grant_access('application', 'regress_cdp_known');
SET ROLE regress_cdp_known;
SELECT cdp.identify('{"member_id": "m"}');
RESET ROLE;
SELECT cdp.revoke_access('application', 'regress_cdp_known');
DROP ROLE regress_cdp_known;
-- tables that are gone, renamed, or not what they were
BEGIN;
DROP TABLE cdp.profile_alias CASCADE;
SELECT cdp.identify('{"member_id": "m"}');
ROLLBACK;
SELECT cdp.identify('{"member_id": "m"}');
BEGIN;
ALTER INDEX cdp.identity_link_live RENAME TO identity_link_lost;
SELECT cdp.identify('{"member_id": "m", "phone": "13800000001"}');
ROLLBACK;
BEGIN;
ALTER TABLE cdp.identifier RENAME TO identifier_was;
CREATE VIEW cdp.identifier AS SELECT * FROM cdp.identifier_was;
SELECT cdp.identify('{"member_id": "m"}');
ROLLBACK;
BEGIN;
ALTER SCHEMA cdp RENAME TO crm;
CREATE SCHEMA cdp;
SELECT crm.identify('{"member_id": "m"}');
ROLLBACK;
SELECT cdp.identify('{"member_id": "m", "phone": "13800000001"}');
-- nor does the short way lead past the versions
BEGIN;
DELETE FROM cdp.meta WHERE key = 'version';
CREATE FUNCTION pg_temp.something() RETURNS int LANGUAGE sql AS 'SELECT 1';
\set VERBOSITY sqlstate
SELECT cdp.identify('{"member_id": "m"}');
ROLLBACK;
SELECT cdp.identify('{"member_id": "m"}');
DROP FUNCTION links(), seen();
