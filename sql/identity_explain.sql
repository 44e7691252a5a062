-- identity_explain: why two are one customer, and how much that happens.
-- C: src/identity_explain.c  Page: doc/identity_explain.md  Tests: test/sql/identity_explain.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.explain_identity(a bigint, b bigint)
	RETURNS TABLE (step int, from_profile bigint, to_profile bigint, rule text, evidence jsonb, linked_at timestamptz)
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_explain_identity';
COMMENT ON FUNCTION cdp.explain_identity(bigint, bigint) IS 'Why two profiles are one customer: a shortest chain of evidence from profile a to profile b, one row per link, of equally short ones the links with the smallest ids. evidence: link_id, kinds of the two identifiers (that of from_profile first), source, occurred_at, weight of a match; values only for a caller who may SELECT cdp.identifier. One row with step 0 when a is b. No row: they are two customers, or there is no such profile, or an argument is NULL.';

-- @access
('function', 'explain_identity', 'EXECUTE', '{reader}'),
('table', 'identity_audit', 'SELECT', '{reader}'),

-- @view
-- the library, and with it the default of the setting, may not be loaded yet
CREATE OR REPLACE VIEW cdp.identity_audit AS
SELECT 'merge' AS what, (l.at AT TIME ZONE coalesce(current_setting('cdp.timezone', true), 'Asia/Shanghai'))::date AS day, l.rule AS kind, s.source,
	NULL::text AS reason, count(*) AS n, NULL::bigint AS customer_id
FROM cdp.merge_log l
LEFT JOIN LATERAL (SELECT k.source FROM cdp.identity_link k WHERE k.merge_id = l.merge_id ORDER BY k.link_id LIMIT 1) s ON true
WHERE l.before ? 'loser'
GROUP BY 2, 3, 4
UNION ALL
SELECT 'unmerge', (l.at AT TIME ZONE coalesce(current_setting('cdp.timezone', true), 'Asia/Shanghai'))::date, l.rule, NULL, NULL, count(*), NULL
FROM cdp.merge_log l WHERE NOT l.before ? 'loser'
GROUP BY 2, 3
UNION ALL
SELECT 'refusal', (r.at AT TIME ZONE coalesce(current_setting('cdp.timezone', true), 'Asia/Shanghai'))::date, r.kind, r.source, r.reason, sum(r.times)::bigint, NULL
FROM cdp.merge_refusal r
GROUP BY 2, 3, 4, 5
UNION ALL
SELECT 'largest_customer', NULL, NULL, NULL, NULL, c.n, c.customer_id
FROM (SELECT a.customer_id, count(*) + 1 AS n FROM cdp.profile_alias a GROUP BY a.customer_id
	ORDER BY count(*) DESC, a.customer_id LIMIT 20) c;
COMMENT ON VIEW cdp.identity_audit IS 'How identity works, in numbers. what: merge, unmerge or refusal, n of them per day (in cdp.timezone), kind (rule of a merge, kind of a refusal), source and reason; largest_customer: the twenty with most profiles, n of them. Ask for one what: the others are not computed then.';
COMMENT ON COLUMN cdp.identity_audit.what IS 'merge, unmerge, refusal or largest_customer';
COMMENT ON COLUMN cdp.identity_audit.day IS 'in cdp.timezone; NULL of largest_customer';
COMMENT ON COLUMN cdp.identity_audit.kind IS 'rule of a merge or unmerge; kind of a refusal';
COMMENT ON COLUMN cdp.identity_audit.source IS 'who said it; NULL: nobody was named, or an unmerge';
COMMENT ON COLUMN cdp.identity_audit.reason IS 'of a refusal, as in cdp.merge_refusal';
COMMENT ON COLUMN cdp.identity_audit.n IS 'how many; profiles of largest_customer';
COMMENT ON COLUMN cdp.identity_audit.customer_id IS 'of largest_customer';
