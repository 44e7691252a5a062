#!/bin/bash
# A merge costs the same whatever the customers did: time and WAL of merges of customers with 10 and with 100,000 events,
# in turns; medians.  Then what explaining, unmerging and re-checking cost.  Run by: test/run.sh bench, MODULES=identity_merge.
set -euo pipefail
q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
pairs=${CDP_BENCH_PAIRS:-15}
q <<X
SET client_min_messages = warning;
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', s || i || '-' || p)) ORDER BY s, i, p)
	FROM unnest('{few,many}'::text[]) s, generate_series(1, $pairs) i, generate_series(1, 2) p)) \g /dev/null
-- both sides together 10 or 100,000 events
INSERT INTO cdp.event (profile_id, name, occurred_at, properties)
SELECT i.profile_id, 'Page Viewed', cdp.now() - n * interval '1 minute', '{"url": "/"}'
FROM cdp.identifier i, generate_series(1, CASE WHEN i.value LIKE 'few%' THEN 5 ELSE 50000 END) n WHERE i.kind = 'member_id';
-- no checkpoint between: the first touch of a page after one writes the whole page, which says nothing about a merge
CREATE TABLE result (size text, us float8, wal numeric);
CREATE FUNCTION one(s text, i int) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
	a bigint := cdp.resolve('member_id', s || i || '-1');
	b bigint := cdp.resolve('member_id', s || i || '-2');
	t timestamptz := clock_timestamp();
	w pg_lsn := pg_current_wal_insert_lsn();
BEGIN
	PERFORM cdp.merge_customers(a, b, 'bench');
	INSERT INTO result VALUES (s, extract(epoch FROM clock_timestamp() - t) * 1e6, pg_current_wal_insert_lsn() - w);
END \$\$;
X
# in turns, so that a busy machine hurts both; the first of each warms up
{ for i in $(seq 1 "$pairs"); do echo "SELECT one('few', $i);"; echo "SELECT one('many', $i);"; done; } | q >/dev/null
q -P format=aligned <<'X'
WITH m AS (SELECT size, percentile_cont(0.5) WITHIN GROUP (ORDER BY us) AS us, percentile_cont(0.5) WITHIN GROUP (ORDER BY wal) AS wal
	FROM (SELECT *, row_number() OVER (PARTITION BY size ORDER BY ctid) AS k FROM result) r WHERE k > 2 GROUP BY size)
SELECT 'merge, 10 events' AS what, round(f.us) AS us, round(f.wal) AS wal_bytes, NULL::numeric AS time_ratio, NULL::numeric AS wal_ratio FROM m f WHERE f.size = 'few'
UNION ALL
SELECT 'merge, 100,000 events', round(n.us), round(n.wal), round((n.us / f.us)::numeric, 2), round((n.wal / f.wal)::numeric, 2)
FROM m f, m n WHERE f.size = 'few' AND n.size = 'many';
X
q <<'X'
SET client_min_messages = warning;
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'c' || i, 'device_id', 'cd' || i / 2)))
	FROM generate_series(1, 50000) i)) \g /dev/null
ANALYZE cdp.profile; ANALYZE cdp.identifier; ANALYZE cdp.identity_link; ANALYZE cdp.profile_alias;
\timing on
\echo recheck_identity, 50,000 customers of two profiles, dry run
SELECT count(*) FROM cdp.recheck_identity();
\echo verify_identity
SELECT count(*) FROM cdp.verify_identity();
\echo tightened: every customer is split
UPDATE cdp.identifier_kind SET max_per_customer = 1 WHERE kind = 'member_id';
CALL cdp.recheck_identities();
SELECT count(*) AS splits FROM cdp.merge_log WHERE action = 'recheck';
X
