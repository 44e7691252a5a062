#!/bin/bash
# One customer out of many: timeline, customer_360, search_customers beside one index probe.  ROWS events (default
# 500,000; ROWS=10000000 is the size the design names, and there timeline <= 5 ms), ROWS / 10 profiles, 24 months.
# heavy: a customer with ROWS / 100 events more; merged: one of 1,000 profiles; range: 200 days in the past; nobody: no events.
set -eu
rows=${ROWS:-500000} secs=${SECS:-3} rounds=${ROUNDS:-3}
q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
q -v rows="$rows" <<'X'
SET client_min_messages = warning;
SET synchronous_commit = off;
DO $$ BEGIN PERFORM cdp._make_partitions('cdp.event', now() - interval '23 months', now()); END $$;
INSERT INTO cdp.profile (profile_id, traits) SELECT g, jsonb_build_object('name', '客户' || g) FROM generate_series(1, :rows / 10) g;
INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen)
	SELECT 'phone', '+86138' || to_char(g, 'FM00000000'), g, now(), now() FROM generate_series(1, :rows / 10) g;
INSERT INTO cdp.event (profile_id, name, occurred_at, properties)
	SELECT 1 + (g::bigint * 7919) % (:rows / 10), 'Page Viewed', now() - (g % 690) * interval '1 day' - (g % 86400) * interval '1 second', '{"url": "/a"}'
	FROM generate_series(1, :rows) g;
-- profile 5 has many events, 1001 .. 2000 are one customer (the guard of profile_alias is for users), 1001 is his id
INSERT INTO cdp.event (profile_id, name, occurred_at, properties)
	SELECT 5, 'Page Viewed', now() - (g % 690) * interval '1 day' - (g % 86400) * interval '1 second', '{"url": "/a"}'
	FROM generate_series(1, :rows / 100) g;
ALTER TABLE cdp.profile_alias DISABLE TRIGGER USER;
INSERT INTO cdp.profile_alias (profile_id, customer_id) SELECT g, 1001 FROM generate_series(1002, 2000) g;
ALTER TABLE cdp.profile_alias ENABLE TRIGGER USER;
INSERT INTO cdp.profile (profile_id) VALUES (:rows);
VACUUM ANALYZE;
X
tmp=$(mktemp -d)
c="\\set c random(1, $((rows / 10)))"
printf '%s\n%s\n' "$c" 'SELECT traits FROM cdp.profile WHERE profile_id = :c;' > $tmp/probe.sql
printf '%s\n%s\n' "$c" 'SELECT count(*) FROM cdp.timeline(:c);' > $tmp/timeline.sql
printf '%s\n%s\n' "$c" 'SELECT cdp.customer_360(:c);' > $tmp/customer_360.sql
past="now() - interval '400 days', now() - interval '200 days'"
for w in heavy:5 merged:1001 nobody:$rows; do
	echo "SELECT count(*) FROM cdp.timeline(${w#*:});" > "$tmp/timeline_${w%:*}.sql"
	echo "SELECT count(*) FROM cdp.timeline(${w#*:}, $past);" > "$tmp/timeline_${w%:*}_range.sql"
	echo "SELECT cdp.customer_360(${w#*:});" > "$tmp/customer_360_${w%:*}.sql"
done
printf '%s\n%s\n' "$c" "SELECT count(*) FROM cdp.timeline(:c, $past);" > $tmp/timeline_range.sql
printf '%s\n%s\n' "\\set c random(10000000, 99999999)" "SELECT count(*) FROM cdp.search_customers(:c::text);" > $tmp/search.sql
ms() { pgbench -n -M prepared -T "$secs" -c 1 -f "$1" 2>/dev/null | sed -n 's/^latency average = \([0-9.]*\) ms/\1/p'; }
median() { sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }
all="timeline timeline_range timeline_heavy timeline_heavy_range timeline_merged timeline_merged_range timeline_nobody
	customer_360 customer_360_heavy customer_360_merged customer_360_nobody search"
for i in $(seq "$rounds"); do for f in probe $all; do ms $tmp/$f.sql >> $tmp/$f.ms; done; done
base=$(median < $tmp/probe.ms)
for f in $all; do
	awk -v n="$f, $rows events" -v a="$(median < $tmp/$f.ms)" -v b="$base" 'BEGIN {printf "%-42s %9.2f ms   %6.1f x one primary key SELECT (%.2f ms)\n", n, a, a / b, b}'
done
rm -r $tmp
