#!/bin/bash
# One customer out of many: timeline, customer_360, search_customers beside one index probe.  ROWS events (default
# 500,000; ROWS=10000000 is the size the design names), ROWS / 10 profiles, 24 months.
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
VACUUM ANALYZE;
X
tmp=$(mktemp -d)
c="\\set c random(1, $((rows / 10)))"
printf '%s\n%s\n' "$c" 'SELECT traits FROM cdp.profile WHERE profile_id = :c;' > $tmp/probe.sql
printf '%s\n%s\n' "$c" 'SELECT count(*) FROM cdp.timeline(:c);' > $tmp/timeline.sql
printf '%s\n%s\n' "$c" 'SELECT cdp.customer_360(:c);' > $tmp/customer_360.sql
printf '%s\n%s\n' "\\set c random(10000000, 99999999)" "SELECT count(*) FROM cdp.search_customers(:c::text);" > $tmp/search.sql
ms() { pgbench -n -M prepared -T "$secs" -c 1 -f "$1" 2>/dev/null | sed -n 's/^latency average = \([0-9.]*\) ms/\1/p'; }
median() { sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }
for i in $(seq "$rounds"); do for f in probe timeline customer_360 search; do ms $tmp/$f.sql >> $tmp/$f.ms; done; done
base=$(median < $tmp/probe.ms)
for f in timeline customer_360 search; do
	awk -v n="$f, $rows events" -v a="$(median < $tmp/$f.ms)" -v b="$base" 'BEGIN {printf "%-42s %9.2f ms   %6.1f x one primary key SELECT (%.2f ms)\n", n, a, a / b, b}'
done
rm -r $tmp
