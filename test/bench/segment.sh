#!/bin/bash
# Refreshing tags and segments.  CUSTOMERS=2000000 for the full size (default 200,000), TAGS=100 tags with rates from 0.5 down.
#
#	refresh_tags		a value for every tenth customer, against the set-based UPDATE of int[] with GIN		<= 1.5 x
#						the same again, nothing changed													<= 0.1 x
#	refresh_segments	100 tagqueries, one customer in a hundred changed, against 3 x (100 x audience_of)
#						+ INSERT ... SELECT of the events												<= 1 x
set -euo pipefail
n=${CUSTOMERS:-200000}
q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
ms() { q -c "SET synchronous_commit = off" ${2:+-c "SET cdp.now = '$2'"} -c '\timing on' -c "$1" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -1; }
ratio() { awk -v n="$1" -v a="$2" -v b="$3" -v l="$4" 'BEGIN {printf "%-44s %10.1f %10.1f %8.2f  (%s)\n", n, a, b, b / a, l}'; }
q -v n="$n" <<'X'
SET client_min_messages = warning;
SET synchronous_commit = off;
CREATE EXTENSION IF NOT EXISTS intarray;
INSERT INTO cdp.profile (profile_id) SELECT i FROM generate_series(1, :n) i;
SELECT setval(pg_get_serial_sequence('cdp.profile', 'profile_id'), :n);
ALTER TABLE cdp.profile_tag DISABLE TRIGGER USER;
INSERT INTO cdp.profile_tag (profile_id, tags) SELECT i, t.s::cdp.tagset FROM generate_series(1, :n) i,
	LATERAL (SELECT string_agg('t' || k, ', ') AS s FROM generate_series(1, 100) k WHERE hashint4(i * 131 + k) & 1023 < 5120 / (k + 9)) t WHERE t.s IS NOT NULL;
ALTER TABLE cdp.profile_tag ENABLE TRIGGER USER;
CREATE TABLE ints AS SELECT i AS id, ARRAY(SELECT k FROM generate_series(1, 100) k WHERE hashint4(i * 131 + k) & 1023 < 5120 / (k + 9)) AS tags FROM generate_series(1, :n) i;
CREATE INDEX ON ints USING gin (tags gin__int_ops);
CREATE TABLE worth AS SELECT i::bigint AS customer_id, (i % 977)::float8 AS value FROM generate_series(10, :n, 10) i;
SELECT cdp._set_horizon('infinity');
SELECT cdp.define_tag('worth', value_type => 'number', rule => 'TABLE worth');
SELECT count(cdp.define_segment('s' || k, CASE k % 4 WHEN 0 THEN format('t%s & t%s', k, k / 2 + 1) WHEN 1 THEN format('t%s & !t%s', k, k + 1)
	WHEN 2 THEN format('(t%s | t%s) & !t3', k, k / 3 + 1) ELSE format('t%s & t1 & !t2', k) END)) FROM generate_series(1, 100) k;
VACUUM ANALYZE;
CALL cdp.merge_tags();
CALL cdp.refresh_segments();
VACUUM ANALYZE;
X
printf '%s customers; milliseconds\n%-44s %10s %10s %8s\n' "$n" '' baseline ours ratio
base=$(ms "UPDATE ints SET tags = tags + 1000 FROM worth w WHERE w.customer_id = ints.id")
first=$(ms "CALL cdp.refresh_tags('worth')")
again=$(ms "CALL cdp.refresh_tags('worth')")
ratio 'refresh_tags, a value for 10 %' "$base" "$first" '<= 1.5'
ratio 'refresh_tags, nothing changed' "$base" "$again" '<= 0.1'
ratio 'merge_tags of these changes' "$first" "$(ms 'CALL cdp.merge_tags(100000)')" '<= 0.5 x the refresh'
# one customer in a hundred gets or loses a tag
q -c "SET synchronous_commit = off" -c "UPDATE cdp.profile_tag SET tags = CASE WHEN profile_id % 200 = 0 THEN tags OPERATOR(cdp.-) '{t1,t3}'::text[] ELSE tags OPERATOR(cdp.+) 't2, t5' END WHERE profile_id % 100 = 0"
q -c "CALL cdp.merge_tags(100000)" -c "VACUUM ANALYZE"
sets=$(ms "SELECT sum(cdp.audience_count(cdp.audience_of(definition::cdp.tagquery))) FROM cdp.segment")
before=$(q -c "SELECT coalesce(max(event_id), 0) FROM cdp.event")
ours=$(ms "CALL cdp.refresh_segments()" '2040-01-01 00:00+00')
n_events=$(q -c "SELECT count(*) FROM cdp.event WHERE event_id > $before")
events=$(ms "INSERT INTO cdp.event (profile_id, name, occurred_at, properties, message_id, source) SELECT profile_id, name, occurred_at, properties, message_id || ' again', source FROM cdp.event WHERE event_id > $before")
awk -v s="$sets" -v e="$events" -v o="$ours" -v n="$n_events" 'BEGIN {printf "%-44s %10.1f %10.1f %8.2f  (<= 1)\n", "refresh of 100 segments, 1 % changed", 3 * s + e, o, o / (3 * s + e);
	printf "  100 x audience_of %.1f, INSERT of %d events %.1f\n", s, n, e}'
again=$(ms "CALL cdp.refresh_segments()" '2040-01-02 00:00+00')
ratio 'the same again, nothing changed' "$sets" "$again" 'of 100 x audience_of'
