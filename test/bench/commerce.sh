#!/bin/bash
# What the order engine costs over plain INSERTs of the same rows.  Runs in a database of its own (test/run.sh bench).
#
# 20 batches of 10,000 orders: INSERT .. SELECT of a batch into sales_order, event_key and event, then the engine for
# the next one from arrays, as the back-fill calls it, in turn and into the same tables; the medians are compared.
set -eu
psql -Xq -v ON_ERROR_STOP=1 <<'SQL'
SET client_min_messages = warning;
CREATE TABLE feed AS
SELECT g AS n, 1 + g % 20000 AS profile_id, 'shop-' || lpad(g::text, 8, '0') AS order_id,
	timestamptz '2024-01-01' + g * interval '4 minutes' AS ordered_at,
	(ARRAY['completed','completed','completed','paid','shipped'])[1 + g % 5] AS status,
	(10 + g % 500)::numeric / 4 AS amount, 'CNY'::text AS currency, 'online'::text AS channel, 'store-' || g % 7 AS store_id,
	'alipay'::text AS payment_method
FROM generate_series(1, 200000) g;
CREATE INDEX ON feed (n);
VACUUM ANALYZE feed;
DO $$ BEGIN		-- the partitions that a back-fill would find
	IF to_regprocedure('cdp._make_partitions(regclass,timestamptz,timestamptz)') IS NOT NULL THEN
		EXECUTE $x$SELECT cdp._make_partitions('cdp.event', '2024-01-01+00', '2025-09-01+00')$x$;
	END IF;
END $$;
CREATE TABLE result (batch int, what text, ms float8);
CREATE PROCEDURE plain(b int) LANGUAGE plpgsql AS $$
DECLARE t timestamptz := clock_timestamp();
BEGIN
	INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount, currency, channel, store_id, payment_method, source)
		SELECT order_id, profile_id, ordered_at, status, amount, currency, channel, store_id, payment_method, 'feed'
		FROM feed WHERE n BETWEEN b * 10000 + 1 AND (b + 1) * 10000;
	INSERT INTO cdp.event (profile_id, name, occurred_at, properties, message_id, source, channel)
		SELECT profile_id, 'Order ' || initcap(status), ordered_at,
			jsonb_build_object('order_id', order_id, 'total', amount, 'currency', currency), 'order/' || order_id || '/' || status, 'cdp', channel
		FROM feed WHERE n BETWEEN b * 10000 + 1 AND (b + 1) * 10000;
	INSERT INTO cdp.event_key (source, message_id, event_id, permanent)
		SELECT 'cdp', 'order/' || order_id || '/' || status, n, true
		FROM feed WHERE n BETWEEN b * 10000 + 1 AND (b + 1) * 10000;
	INSERT INTO result VALUES (b, 'plain', extract(epoch FROM clock_timestamp() - t) * 1000);
END $$;
CREATE PROCEDURE engine(b int, what text) LANGUAGE plpgsql AS $$
DECLARE
	t timestamptz; r record; bad int;
BEGIN
	SELECT array_agg(profile_id::bigint) AS profile_ids, array_agg(order_id) AS order_ids, array_agg(ordered_at) AS ordered_ats,
		array_agg(CASE WHEN what = 'refund' THEN 'completed' ELSE status END) AS statuses,
		array_agg(amount) AS amounts, array_agg(CASE WHEN what = 'refund' THEN amount / 2 ELSE 0 END) AS refundeds, array_agg(currency) AS currencies, array_agg(channel) AS channels,
		array_agg(store_id) AS store_ids, array_agg(payment_method) AS payment_methods
	INTO r FROM (SELECT * FROM feed WHERE n BETWEEN b * 10000 + 1 AND (b + 1) * 10000 ORDER BY n) f;
	t := clock_timestamp();
	SELECT count(*) INTO bad FROM cdp._apply_orders(r.profile_ids, r.order_ids, r.ordered_ats, r.statuses, r.amounts, r.refundeds, r.currencies,
		r.channels, r.store_ids, r.payment_methods, NULL, NULL, NULL, NULL, 'feed', false);
	INSERT INTO result VALUES (b, what, extract(epoch FROM clock_timestamp() - t) * 1000);
	IF bad > 0 THEN RAISE EXCEPTION '% orders were refused', bad; END IF;
END $$;
SELECT CASE b % 2 WHEN 0 THEN format('CALL plain(%s)', b) ELSE format('CALL engine(%s, %L)', b, 'new') END
	FROM generate_series(0, 19) b \gexec
SELECT format('CALL engine(%s, %L)', b, 'same') FROM generate_series(0, 4) b \gexec
SELECT format('CALL engine(%s, %L)', b, 'refund') FROM generate_series(0, 4) b \gexec
\pset footer off
WITH m AS (SELECT what, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS ms, min(ms) AS best FROM result GROUP BY what)
SELECT CASE m.what WHEN 'plain' THEN 'INSERT .. SELECT, 10,000 orders and events' WHEN 'new' THEN '_apply_orders, 10,000 new orders'
		WHEN 'same' THEN '_apply_orders, 10,000 unchanged orders' ELSE '_apply_orders, 10,000 status changes and refunds' END AS commerce,
	round(m.ms::numeric, 1) AS "ms a batch", round((m.ms / p.ms)::numeric, 2) AS "x plain", CASE m.what WHEN 'new' THEN '<= 1.3' END AS target
FROM m, m AS p WHERE p.what = 'plain' ORDER BY array_position('{plain,new,same,refund}', m.what);
SQL
