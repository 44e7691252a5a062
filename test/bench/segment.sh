#!/bin/bash
# Refreshing tags and segments.  CUSTOMERS=2000000 for the full size (default 200,000), TAGS=100 tags with rates from 0.5 down.
#
#	refresh_tags		a value for every tenth customer, against the set-based UPDATE of int[] with GIN		<= 1.5 x
#						the same again, nothing changed													<= 0.1 x
#	refresh_segments	100 tagqueries, one customer in a hundred changed, against 3 x (100 x audience_of)
#						+ INSERT ... SELECT of what changes												<= 1 x
#
# What changes is, for each who enters or leaves, one event and one row of history (written, or given its left_at), in
# the same tables with all their indexes; the baseline writes exactly these rows, one statement per table for all
# segments, history by its index (the planner would read all of it), and is rolled back.  Events alone are printed too.  A checkpoint before each, so that both write the first
# image of each page.  Processor time of the session is printed beside the clock: other work on the machine is not in it.
set -euo pipefail
n=${CUSTOMERS:-200000}
q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
# milliseconds by the clock; those of the processor go to the file cpu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
cpu="SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::bigint / 1000000.0"
ms() {
	q -c "SET synchronous_commit = off" ${2:+-c "SET cdp.now = '$2'"} -c "$cpu" -c '\timing on' -c "$1" -c '\timing off' -c "$cpu" >"$dir/out"
	awk '/^[0-9.]+$/ {if (!n++) a = $1; b = $1} END {printf "%.1f", b - a}' "$dir/out" >"$dir/cpu"
	awk '/^Time: / {w = $2} END {printf "%.1f", w}' "$dir/out"
}
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
q <<'X'
CREATE UNLOGGED TABLE changes AS SELECT s.name, s.version, d.entered, i AS id
	FROM cdp.segment s, LATERAL (SELECT cdp.audience_of(s.definition::cdp.tagquery) AS now OFFSET 0) n,
		LATERAL (VALUES (true, n.now OPERATOR(cdp.-) s.members), (false, s.members OPERATOR(cdp.-) n.now)) d(entered, ids), cdp.audience_ids(d.ids) i;
CREATE UNLOGGED TABLE same AS SELECT id AS profile_id, CASE WHEN entered THEN 'Segment Entered' ELSE 'Segment Left' END AS name,
	timestamptz '2040-01-01 00:00+00' AS occurred_at, jsonb_build_object('segment', name, 'version', version, 'refresh_id', 1000, 'initial', false,
	'holdout', false, 'reason', 'refresh') AS properties, format('segment:1000:%s:%s', id, CASE WHEN entered THEN 'entered' ELSE 'left' END) AS message_id, 'cdp' AS source
	FROM changes;
VACUUM ANALYZE changes, same;
X
sets=$(ms "SELECT sum(cdp.audience_count(cdp.audience_of(definition::cdp.tagquery))) FROM cdp.segment")
sets=$(ms "SELECT sum(cdp.audience_count(cdp.audience_of(definition::cdp.tagquery))) FROM cdp.segment") sets_cpu=$(cat "$dir/cpu")
q -c CHECKPOINT
q >"$dir/base" <<X
SET synchronous_commit = off;
BEGIN;
$cpu;
\timing on
INSERT INTO cdp.event (profile_id, name, occurred_at, received_at, properties, message_id, source)
	SELECT profile_id, name, occurred_at, occurred_at, properties, message_id, source FROM same;
\timing off
$cpu;
SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
\timing on
UPDATE cdp.segment_history h SET left_at = '2040-01-01 00:00+00' FROM changes c WHERE NOT c.entered AND h.segment = c.name AND h.customer_id = c.id AND h.left_at IS NULL;
INSERT INTO cdp.segment_history (segment, customer_id, entered_at, version) SELECT name, id, '2040-01-01 00:00+00', version FROM changes WHERE entered;
\timing off
$cpu;
ROLLBACK;
X
read -r events history events_cpu history_cpu < <(awk '/^Time: / {t[++n] = $2} /^[0-9.]+$/ {c[++m] = $1} END {print t[1], t[2] + t[3], c[2] - c[1], c[3] - c[2]}' "$dir/base")
q -c "VACUUM cdp.event, cdp.segment_history" -c CHECKPOINT
before=$(q -c "SELECT coalesce(max(event_id), 0) FROM cdp.event")
ours=$(ms "CALL cdp.refresh_segments()" '2040-01-01 00:00+00') ours_cpu=$(cat "$dir/cpu")
n_events=$(q -c "SELECT count(*) FROM cdp.event WHERE event_id > $before")
[ "$n_events" = "$(q -c 'SELECT count(*) FROM same')" ] || { echo "other events than those of the baseline" >&2; exit 1; }
line() {	# NAME SETS EVENTS HISTORY OURS
	awk -v n="$1" -v s="$2" -v e="$3" -v h="$4" -v o="$5" 'BEGIN {printf "%-44s %10.1f %10.1f %8.2f  (<= 1)\n", n, 3 * s + e + h, o, o / (3 * s + e + h);
		printf "  100 x audience_of %.1f, events %.1f, history %.1f; with events alone %.2f\n", s, e, h, o / (3 * s + e)}'
}
line "100 segments, 1 % changed, $n_events events" "$sets" "$events" "$history" "$ours"
line 'the same, processor time' "$sets_cpu" "$events_cpu" "$history_cpu" "$ours_cpu"
again=$(ms "CALL cdp.refresh_segments()" '2040-01-02 00:00+00')
ratio 'the same again, nothing changed' "$sets" "$again" 'of 100 x audience_of'
