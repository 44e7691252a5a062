#!/bin/bash
# What an attached source costs over plain INSERTs of the same rows.  Runs in a database of its own (test/run.sh bench).
#
#   back-fill       CALL cdp.backfill_source of N orders      <= 1.7 x INSERT .. SELECT into sales_order, event, event_key
#   user's INSERT   10,000 rows into the attached table       <= 1.7 x the same, source table included
# The members are known to the CDP; plain SQL is spared finding them.  All rows go into the same cdp tables, by turns:
# plain SQL writes one half of its orders before the back-fill and the other half after it, because an index that has
# grown costs more.  ROWS orders (default 200,000).
set -eu
n=${ROWS:-200000}
q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
q <<X
SET client_min_messages = warning;
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id bigint PRIMARY KEY, member_id bigint, paid_at timestamp NOT NULL, state text, total numeric(12,2), channel text, shop text);
CREATE TABLE shop.more (LIKE shop.orders INCLUDING ALL);
CREATE TABLE shop.plain (LIKE shop.orders INCLUDING ALL);
CREATE TEMP TABLE k AS SELECT * FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', g::text))) FROM generate_series(1, 50000) g));
CREATE TABLE known AS SELECT ord AS member_id, profile_id FROM k;
DO \$\$ BEGIN
	IF to_regprocedure('cdp._make_partitions(regclass,timestamptz,timestamptz)') IS NOT NULL THEN
		EXECUTE \$x\$SELECT cdp._make_partitions('cdp.event', '2024-01-01+00', '2026-01-01+00')\$x\$;
	END IF;
END \$\$;
-- orders 1 .. n / 2 are copied by plain SQL, n + 1 .. 2 n by the back-fill, n / 2 + 1 .. n by plain SQL, and so on
CREATE FUNCTION feed(lo bigint, hi bigint) RETURNS SETOF shop.orders LANGUAGE sql AS \$\$
	SELECT g, 1 + g * 7919 % 50000, timestamp '2024-01-05' + g * 7919 % 31000000 * interval '2 seconds', 'completed', g % 1000, 'web', 's' || g % 9 FROM generate_series(lo, hi) g \$\$;
CREATE TABLE shop.first AS SELECT f.*, k.profile_id FROM feed(1, $n) f JOIN known k USING (member_id) ORDER BY f.id;
INSERT INTO shop.orders SELECT * FROM feed($n + 1, 2 * $n);
CREATE TABLE result (what text, ms float8);
CREATE PROCEDURE take(src regclass, lo bigint, hi bigint) LANGUAGE plpgsql AS \$\$
BEGIN
	EXECUTE format(\$q\$INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount, currency, channel, store_id, source)
		SELECT id::text, profile_id, paid_at AT TIME ZONE 'Asia/Shanghai', state, total, 'CNY', channel, shop, 'shop.orders' FROM %s WHERE id BETWEEN %s AND %s\$q\$, src, lo, hi);
	EXECUTE format(\$q\$INSERT INTO cdp.event (profile_id, name, occurred_at, properties, message_id, source, channel)
		SELECT profile_id, 'Order Completed', paid_at AT TIME ZONE 'Asia/Shanghai', jsonb_build_object('order_id', id::text, 'total', total, 'currency', 'CNY'),
			'order/' || id || '/completed', 'cdp', channel FROM %s WHERE id BETWEEN %s AND %s\$q\$, src, lo, hi);
	EXECUTE format(\$q\$INSERT INTO cdp.event_key (source, message_id, event_id, permanent)
		SELECT 'cdp', 'order/' || id || '/completed', id, true FROM %s WHERE id BETWEEN %s AND %s\$q\$, src, lo, hi);
END \$\$;
CREATE PROCEDURE plain_insert(src regclass, lo bigint) LANGUAGE plpgsql AS \$\$
DECLARE t timestamptz := clock_timestamp();
BEGIN
	EXECUTE format('INSERT INTO shop.plain SELECT id, member_id, paid_at, state, total, channel, shop FROM %s WHERE id BETWEEN %s AND %s', src, lo, lo + 9999);
	CALL take(src, lo, lo + 9999);
	INSERT INTO result VALUES ('plain insert', extract(epoch FROM clock_timestamp() - t) * 1000);
END \$\$;
CREATE PROCEDURE user_insert(src regclass, lo bigint) LANGUAGE plpgsql AS \$\$
DECLARE t timestamptz := clock_timestamp();
BEGIN
	EXECUTE format('INSERT INTO shop.more SELECT id, member_id, paid_at, state, total, channel, shop FROM %s WHERE id BETWEEN %s AND %s', src, lo, lo + 9999);
	INSERT INTO result VALUES ('user insert', extract(epoch FROM clock_timestamp() - t) * 1000);
END \$\$;
X
map='{"order_id": "id", "identifiers": {"member_id": "member_id"}, "ordered_at": "paid_at", "status": "state", "amount": "total", "currency": "'"''CNY''"'", "channel": "channel", "store_id": "shop"}'
q -c "SET cdp.backfill_inline_rows = 0; SET client_min_messages = warning" -c "SELECT cdp.attach_source('shop.orders', 'order', '$map')" -c "SELECT cdp.attach_source('shop.more', 'order', '$map')" >/dev/null
q -c "VACUUM ANALYZE"
time_of() { q -c '\timing on' -c "$2" | sed -n "s/^Time: \([0-9.]*\) ms.*/INSERT INTO result VALUES ('$1', \1)/p" | q; }
time_of 'plain copy' "CALL take('shop.first', 1, $((n / 2)))"
time_of 'back-fill' "CALL cdp.backfill_source('shop.orders')"
time_of 'plain copy' "CALL take('shop.first', $((n / 2 + 1)), $n)"
q -c "CREATE TABLE shop.rest AS SELECT f.*, k.profile_id FROM feed(2 * $n + 1, 2 * $n + 200000) f JOIN known k USING (member_id) ORDER BY f.id" -c "CREATE INDEX ON shop.rest (id)" -c "VACUUM ANALYZE"
for i in 0 1 2 3 4 5 6 7; do
	q -c "CALL plain_insert('shop.rest', 2 * $n + 1 + $i * 20000)" -c "CALL user_insert('shop.rest', 2 * $n + 10001 + $i * 20000)"
done
q -c '\pset format aligned' -c '\pset tuples_only off' -c '\pset footer off' -c "
WITH m AS (SELECT what, CASE what WHEN 'plain copy' THEN sum(ms) ELSE percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) END AS ms
	FROM result GROUP BY what)
SELECT format('back-fill of %s orders', $n) AS what, round(e.ms) AS ms, round(p.ms) AS plain_ms, round((e.ms / p.ms)::numeric, 2) AS ratio, '<= 1.7' AS wanted
FROM m e, m p WHERE e.what = 'back-fill' AND p.what = 'plain copy'
UNION ALL SELECT 'INSERT of 10,000 rows into an attached table', round(e.ms), round(p.ms), round((e.ms / p.ms)::numeric, 2), '<= 1.7'
FROM m e, m p WHERE e.what = 'user insert' AND p.what = 'plain insert'"
q -c "SELECT 'orders ' || count(*) FROM cdp.sales_order" -c "SELECT 'queued ' || count(*) FROM cdp.source_queue" -c "SELECT 'taken ' || sum(taken) FROM cdp.source_status"
