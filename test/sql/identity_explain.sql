-- why two are one customer
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET cdp.now = '2026-03-01 09:00:00+08';
-- a chain: member i is seen with cookie i and with cookie i + 1
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm-' || i, 'anonymous_id', 'c-' || i), source => 'web')) FROM generate_series(1, 12) i;
SELECT cdp.resolve('member_id', 'm-1') AS first, cdp.resolve('member_id', 'm-12') AS last \gset
SELECT count(*) FROM cdp.explain_identity(:first, :last);
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm-' || i, 'anonymous_id', 'c-' || i + 1), source => 'app')) FROM generate_series(1, 11) i;
SELECT count(*) AS customers FROM cdp.customer;
SELECT step, from_profile, to_profile, rule, evidence, linked_at FROM cdp.explain_identity(:first, :last);
-- steps are connected, from a to b, and each has its rule
SELECT bool_and(from_profile = coalesce(before, :first)) AS connected, max(to_profile) FILTER (WHERE last) = :last AS arrives, bool_and(rule IS NOT NULL) AS rules
FROM (SELECT *, lag(to_profile) OVER (ORDER BY step) AS before, step = max(step) OVER () AS last FROM cdp.explain_identity(:first, :last)) s;
SELECT step, from_profile, to_profile FROM cdp.explain_identity(:last, :first) ORDER BY step LIMIT 2;
-- a shorter way; of equal ones the smaller link
SELECT cdp.identify('{"member_id": ["m-2", "m-11"]}') IS NOT NULL AS seen;
SELECT count(*) FROM cdp.explain_identity(:first, :last);
SELECT cdp.identify('{"anonymous_id": ["c-2", "c-11"]}') IS NOT NULL AS seen;
SELECT rule FROM cdp.explain_identity(:first, :last);
-- one profile; two customers; nobody
SELECT * FROM cdp.explain_identity(:first, :first);
SELECT cdp.identify('{"member_id": "alone"}') AS alone \gset
SELECT count(*) FROM cdp.explain_identity(:first, :alone);
SELECT count(*) FROM cdp.explain_identity(:first, 987654321);
SELECT count(*) FROM cdp.explain_identity(:first, NULL);
-- a reader sees kinds and no values
CREATE ROLE regress_cdp_reader;
SELECT cdp.grant_access('reader', 'regress_cdp_reader');
SET ROLE regress_cdp_reader;
SELECT step, evidence FROM cdp.explain_identity(:first, :last) ORDER BY step LIMIT 2;
SELECT value FROM cdp.identifier LIMIT 1;
SELECT what, day, kind, source, reason, n, customer_id FROM cdp.identity_audit ORDER BY what, day, kind, source;
RESET ROLE;
SELECT cdp.revoke_access('reader', 'regress_cdp_reader');
DROP ROLE regress_cdp_reader;
-- a link in the middle is revoked: no way any more
DROP SCHEMA cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm-' || i, 'anonymous_id', 'c-' || i))) FROM generate_series(1, 12) i;
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm-' || i, 'anonymous_id', 'c-' || i + 1))) FROM generate_series(1, 11) i;
SELECT cdp.customer_id(p.profile_id) = 1 AS one, count(*) FROM cdp.profile p GROUP BY 1;
SELECT merge_id AS middle FROM cdp.identity_link WHERE merge_id IS NOT NULL ORDER BY link_id OFFSET 5 LIMIT 1 \gset
SELECT min(i.profile_id) AS first, max(i.profile_id) AS last FROM cdp.identifier i WHERE i.kind = 'member_id' \gset
SELECT count(*) FROM cdp.explain_identity(:first, :last);
SELECT cdp.unmerge_customer(:last, 'two people', :middle) <> 1 AS apart;
SELECT count(*) FROM cdp.explain_identity(:first, :last);
SELECT count(*) AS customers, array_agg(cardinality(profile_ids) ORDER BY customer_id) AS profiles FROM cdp.customer;
