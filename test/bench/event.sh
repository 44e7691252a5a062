#!/bin/bash
# track and track_many against plain inserts into an identical table.  Runs on the server of `make bench`.
#
# Baseline: table plain.event, partitioned and indexed as cdp.event, no module behind it.
#   track       one event per call, known customer, 1 client, synchronous_commit=off   >= 0.5  x prepared INSERT
#   track_many  1,000 events, known identifiers                                          >= 0.4  x INSERT .. SELECT
#               1,000 events, new identifiers                                            >= 0.2  x INSERT .. SELECT
set -eu
rounds=${ROUNDS:-5} secs=${SECS:-4}
db=$PGDATABASE
q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
q <<'X'
SET client_min_messages = warning;
CREATE SCHEMA plain;
CREATE TABLE plain.event (LIKE cdp.event INCLUDING DEFAULTS INCLUDING IDENTITY) PARTITION BY RANGE (occurred_at);
ALTER TABLE plain.event ADD PRIMARY KEY (event_id, occurred_at);
CREATE INDEX ON plain.event (profile_id, occurred_at);
CREATE INDEX ON plain.event (xid, event_id);
-- the same partitions on both sides, 24 months
DO $$
DECLARE p record;
BEGIN
	FOR i IN 0..23 LOOP
		EXECUTE format('CREATE TABLE plain.e%s PARTITION OF plain.event FOR VALUES FROM (%L) TO (%L)', i,
			date_trunc('month', now() AT TIME ZONE 'UTC') - (22 - i) * interval '1 month', date_trunc('month', now() AT TIME ZONE 'UTC') - (21 - i) * interval '1 month');
	END LOOP;
	IF to_regproc('cdp._make_partitions') IS NOT NULL THEN
		EXECUTE $q$SELECT cdp._make_partitions('cdp.event', now() - interval '22 months', now() + interval '1 month')$q$;
	END IF;
END $$;
CREATE TEMP TABLE t AS SELECT * FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 20000) i));
CREATE TABLE ids AS SELECT row_number() OVER (ORDER BY profile_id) AS n, profile_id FROM cdp.profile;
VACUUM ANALYZE;
X
tmp=$(mktemp -d)
cat > $tmp/plain.sql <<'X'
\set c random(1, 20000)
\set ago random(1, 20000)
INSERT INTO plain.event (profile_id, name, occurred_at, properties, message_id, source, channel) VALUES (:c, 'Product Viewed', now() - :ago * interval '1 minute', '{"product_id": "p-1", "price": 9.9}', 'x' || :c || '/' || :ago, 'web', 'app');
X
cat > $tmp/track.sql <<'X'
\set c random(1, 20000)
\set ago random(1, 2000000)
SELECT cdp.track(jsonb_build_object('member_id', 'm' || :c), 'Product Viewed', '{"product_id": "p-1", "price": 9.9}', now() - :ago * interval '1 second', 'x' || :c || '/' || :ago, 'web', 'app');
X
tps() { PGOPTIONS='-c synchronous_commit=off' pgbench -n -M prepared -T $secs -c 1 -f "$1" $db 2>/dev/null | sed -n 's/^tps = \([0-9.]*\).*/\1/p'; }
median() { sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }
row() { awk -v n="$1" -v a="$2" -v b="$3" -v want="$4" -v unit="$5" 'BEGIN {r = a / b; printf "%-42s %12.1f %12.1f %s  ratio %.2f  (at least %s) %s\n", n, a, b, unit, r, want, (r >= want ? "ok" : "MISSED")}'; }
tps $tmp/track.sql >/dev/null; tps $tmp/plain.sql >/dev/null
for i in $(seq $rounds); do tps $tmp/track.sql >> $tmp/a; tps $tmp/plain.sql >> $tmp/b; done
row "track, 1 client" $(median < $tmp/a) $(median < $tmp/b) 0.5 "calls/s"

# rows per second of one statement of 1,000 events, measured inside the server
cat > $tmp/many.sql <<'X'
CREATE OR REPLACE PROCEDURE plain.run(kind text, times int, INOUT rate float8 DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE items jsonb; t0 timestamptz; spent interval := '0'; base int := floor(random() * 1e9);
BEGIN
	FOR r IN 1..times LOOP
		SELECT jsonb_agg(jsonb_build_object('identifiers', CASE kind WHEN 'new' THEN jsonb_build_object('member_id', 'n' || base + r * 1000 + i)
				ELSE jsonb_build_object('member_id', 'm' || 1 + (i * 17 + r) % 20000) END,
			'name', 'Product Viewed', 'occurred_at', now() - i * interval '10 minutes', 'message_id', 'y' || base + r * 1000 + i,
			'source', 'web', 'channel', 'app', 'properties', jsonb_build_object('product_id', 'p-' || i, 'price', 9.9)))
		INTO items FROM generate_series(1, 1000) i;
		t0 := clock_timestamp();
		IF kind = 'plain' THEN
			INSERT INTO plain.event (profile_id, name, occurred_at, properties, message_id, source, channel)
			SELECT 1 + (i * 17 + r) % 20000, 'Product Viewed', now() - i * interval '10 minutes',
				jsonb_build_object('product_id', 'p-' || i, 'price', 9.9), 'y' || base + r * 1000 + i, 'web', 'app' FROM generate_series(1, 1000) i;
		ELSE
			PERFORM cdp.track_many(items);
		END IF;
		spent := spent + (clock_timestamp() - t0);
		COMMIT;
	END LOOP;
	rate := times * 1000 / extract(epoch FROM spent);
END $$;
X
q -f $tmp/many.sql
many() { PGOPTIONS='-c synchronous_commit=off' q -c "CALL plain.run('$1', ${BATCHES:-20})"; }
many known >/dev/null
for i in $(seq $rounds); do many known >> $tmp/k; many new >> $tmp/n; many plain >> $tmp/p; done
row "track_many 1,000, known identifiers" $(median < $tmp/k) $(median < $tmp/p) 0.4 "rows/s "
row "track_many 1,000, new identifiers" $(median < $tmp/n) $(median < $tmp/p) 0.2 "rows/s "
rm -r $tmp
