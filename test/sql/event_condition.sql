-- event conditions: the window and its edges, merged customers, refusals, partitions, rights, orders of a product
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
SELECT cdp.version() IS NOT NULL AS loaded;
SET cdp.now = '2026-03-15 12:00:00+08';
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SELECT cdp._make_partitions('cdp.event', '2025-10-01 00:00+00', '2026-02-01 00:00+00') AS made;
SELECT 'c' || n AS customer, cdp.identify(jsonb_build_object('member_id', 'm-' || n), '{}', 'crm') AS id FROM generate_series(1, 6) n;
SELECT count(cdp.track(jsonb_build_object('member_id', 'm-' || n), event, properties::jsonb, at)) AS tracked FROM (VALUES
	-- 1 month is since 2026-02-15 12:00+08
	(1, 'Product Viewed', '{"product_id": "A", "price": 10}', timestamptz '2026-02-15 12:00:00.000001+08'),	-- just inside
	(2, 'Product Viewed', '{"product_id": "A"}', '2026-02-15 12:00:00+08'),		-- the start is outside
	(3, 'Product Viewed', '{"product_id": "B"}', '2026-03-15 12:00:00+08'),		-- the end is inside
	(4, 'Product Viewed', '{"product_id": "A"}', '2026-03-15 12:00:00.000001+08'),	-- just after it
	(5, 'Product Viewed', '{"product_id": "A"}', '2026-03-01 00:00:00+08'),
	(5, 'Product Viewed', '{"product_id": "B"}', '2026-03-02 00:00:00+08'),
	(5, 'Product Viewed', '{"product_id": "A", "price": 10}', '2025-10-05 00:00:00+08'),
	(6, 'product viewed', '{"product_id": "A"}', '2026-03-01 00:00:00+08'),		-- another name
	(6, 'Page Viewed', '{}', '2026-03-01 00:00:00+08')) v(n, event, properties, at);
-- who, as one line
CREATE FUNCTION pg_temp.ids(q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text;
BEGIN EXECUTE format('SELECT coalesce(string_agg(id::text, '','' ORDER BY id), ''nobody'') FROM (%s) q(id)', q) INTO r; RETURN r; END $$;

SELECT pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed')$$) AS ever,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 month')$$) AS month,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 month 1 microsecond')$$) AS longer,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', '0')$$) AS zero,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 microsecond')$$) AS smallest;
SELECT pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', at_least => 2)$$) AS twice,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 month', 2)$$) AS twice_in_month,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', at_least => 3)$$) AS three,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 month', 3)$$) AS three_in_month;
SELECT pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 month', matching => '{"product_id": "A"}')$$) AS a,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', matching => '{"product_id": "A", "price": 10.0}')$$) AS a_10,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', NULL, 2, '{"product_id": "A"}')$$) AS a_twice,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', matching => '{}')$$) AS empty,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', matching => '{"price": null}')$$) AS null_value;
SELECT pg_temp.ids($$SELECT * FROM cdp.find_customers_who('No Such Event')$$) AS unknown, pg_temp.ids($$SELECT * FROM cdp.find_customers_who('')$$) AS empty;
-- at: earlier, later, in the far future; the clock
SELECT pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 month', at => '2026-03-15 12:00:00.000001+08')$$) AS later,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 day', at => '2026-03-02 00:00+08')$$) AS that_day,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', at => '2025-10-05 00:00+08')$$) AS first,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', at => '2025-10-04 23:59:59.999999+08')$$) AS before,
	pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', '2 years', at => '2027-01-01 00:00+08')$$) AS future;
SET cdp.now = '2026-03-16 00:00:00+08';
SELECT pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed')$$) AS tomorrow;
SET cdp.now = '2026-03-15 12:00:00+08';

-- one customer
SELECT n AS c, cdp.did(n, 'Product Viewed') AS ever, cdp.did(n, 'Product Viewed', '1 month') AS month, cdp.did(n, 'Product Viewed', '1 month', 2) AS twice_in_month,
	cdp.did(n, 'Product Viewed', at_least => 3) AS three, cdp.did(n, 'Product Viewed', '1 month', matching => '{"product_id": "A"}') AS a,
	cdp.did(n, 'Product Viewed', '2 years', at => '2027-01-01 00:00+08') AS future
FROM generate_series(1, 7) n ORDER BY n;
SELECT cdp.did(4711, 'Product Viewed') AS nobody, cdp.did(-1, 'Product Viewed') AS negative, cdp.did(1, 'No Such Event') AS unknown;

-- two profiles, one customer: each id of his, and the sum
SELECT cdp.merge_customers(1, 2, 'the same person') AS merged;
SELECT pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 month 1 day', 2)$$) AS twice, cdp.did(1, 'Product Viewed', '1 month 1 day', 2) AS one, cdp.did(2, 'Product Viewed', '1 month 1 day', 2) AS other;
SELECT pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed')$$) AS once_each;
SELECT cdp.unmerge_customer(2, 'no, they are two');
SELECT pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 month 1 day', 2)$$) AS twice, cdp.did(1, 'Product Viewed', '1 month 1 day', 2) AS one, cdp.did(2, 'Product Viewed', '1 month 1 day', 1) AS other;

-- refused, wherever it stands: as constants, as parameters, in a select list, with nothing to read
CREATE FUNCTION pg_temp.refusal(q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE m text; h text;
BEGIN EXECUTE q; RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, h = PG_EXCEPTION_HINT; RETURN format('%s %s / %s', SQLSTATE, m, h); END $$;
SELECT * FROM cdp.find_customers_who(NULL);
SELECT * FROM cdp.find_customers_who('E', at_least => 0);
SELECT * FROM cdp.find_customers_who('E', at_least => NULL);
SELECT * FROM cdp.find_customers_who('E', '-1 day');
SELECT * FROM cdp.find_customers_who('E', at => 'infinity');
SELECT * FROM cdp.find_buyers(NULL);
SELECT cdp.did(NULL, 'E');
SELECT cdp._condition_key(NULL, NULL, NULL, NULL);
SELECT cdp._condition_start(NULL, NULL, NULL, NULL, NULL);
SELECT args, left(pg_temp.refusal(format('SELECT * FROM cdp.find_customers_who(%s)', args)), 5) AS "from", left(pg_temp.refusal(format('SELECT cdp.find_customers_who(%s)', args)), 5) AS list,
	left(pg_temp.refusal(format('SELECT cdp.did(1, %s)', args)), 5) AS did, left(pg_temp.refusal(format('SELECT * FROM cdp.find_buyers(%s)', args)), 5) AS buyers
FROM unnest(ARRAY['NULL', '''E'', at_least => 0', '''E'', at_least => -1', '''E'', at_least => NULL', '''E'', ''-1 day''', '''E'', ''1 month -1 day''', '''E'', ''-1 microsecond''',
	'''E'', at => ''infinity''', '''E'', at => ''-infinity''']) args;
SET plan_cache_mode = force_generic_plan;
PREPARE who(text, interval, int, jsonb, timestamptz) AS SELECT * FROM cdp.find_customers_who($1, $2, $3, $4, $5);
EXECUTE who(NULL, NULL, 1, NULL, NULL);
EXECUTE who('No Such Event', NULL, 0, NULL, NULL);
EXECUTE who('No Such Event', '-1 day', 1, NULL, NULL);
EXECUTE who('No Such Event', '1 day', 1, NULL, '-infinity');
EXECUTE who('Product Viewed', '1 day', 1, '{"product_id": "B"}', NULL);
DEALLOCATE who;
RESET plan_cache_mode;

-- months and days are those of cdp.timezone, whatever the session's TimeZone is
CREATE FUNCTION pg_temp.start(zone text, at timestamptz, within interval) RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('cdp.timezone', zone, false);
	RETURN cdp._condition_start('event', 'E', within, 1, at);
END $$;
SELECT x.*, pg_temp.start(x.zone, x.at, x.within::interval) AS start FROM (VALUES
	('Asia/Shanghai', timestamptz '2026-03-01 07:00+08', '1 month'),		-- still February in UTC
	('Asia/Shanghai', '2026-03-31 12:00+08', '1 month'), ('Asia/Shanghai', '2024-03-31 12:00+08', '1 month'),
	('Asia/Shanghai', '2026-03-31 12:00+08', '1 month 1 day 1 hour'), ('Asia/Shanghai', '2024-02-29 12:00+08', '1 year'),
	('Europe/Berlin', '2026-03-29 12:00+02', '1 day'), ('Europe/Berlin', '2026-03-29 12:00+02', '24 hours'),
	('Europe/Berlin', '2026-10-25 02:30+01', '1 hour'),			-- the second half past two
	('Europe/Berlin', '2026-03-30 02:30+02', '1 day')) x(zone, at, within);	-- an hour that there was not
SELECT pg_temp.start('UTC', '2026-03-15', '6700 years') AS long_ago, pg_temp.start('UTC', '2026-03-15', '6740 years') AS no_such_year, pg_temp.start('UTC', '2026-03-15', '178000000 years') AS longest,
	pg_temp.start('UTC', '2026-03-15', '2000000000 days') AS days, pg_temp.start('UTC', '2026-03-15', '2000000000 hours') AS hours, pg_temp.start('UTC', '2026-03-15', NULL) AS ever;
SELECT count(DISTINCT ours) AS ours, count(DISTINCT theirs) AS of_the_operator FROM (
	SELECT set_config('TimeZone', z, false), extract(epoch FROM pg_temp.start('Asia/Shanghai', '2026-03-01 07:00+08', '1 month')) AS ours,
		extract(epoch FROM timestamptz '2026-03-01 07:00+08' - interval '1 month') AS theirs
	FROM unnest('{UTC,Asia/Tokyo,America/New_York,Pacific/Kiritimati}'::text[]) z) s;
SET TimeZone = 'UTC';
-- a call site that sees other arguments, another clock or another zone answers anew
SELECT w, cdp._condition_start('event', 'E', w::interval, 1, a) AS start FROM (VALUES ('1 day', timestamptz '2026-03-01'), ('1 day', '2026-03-02'), ('2 days', '2026-03-02'), (NULL, '2026-03-02'), ('1 day', '2026-03-02')) v(w, a);
DO $$
DECLARE s timestamptz[];
BEGIN
	FOR i IN 1 .. 3 LOOP
		PERFORM set_config('cdp.now', CASE WHEN i < 3 THEN '2026-04-01 06:00:00+08' ELSE '2026-05-01 06:00:00+08' END, true), set_config('cdp.timezone', CASE i WHEN 1 THEN 'Asia/Shanghai' ELSE 'UTC' END, true);
		s := s || cdp._condition_start('event', 'E', '1 month', 1, NULL);
	END LOOP;
	RAISE WARNING '%', s;
END $$;

-- which partitions stand in the plan, how many were left out, and which were really read
CREATE FUNCTION pg_temp.in_plan(q text) RETURNS TABLE (partitions text, left_out text) LANGUAGE plpgsql AS $$
DECLARE l text;
BEGIN
	left_out := '0';
	FOR l IN EXECUTE 'EXPLAIN (COSTS OFF) ' || q LOOP
		partitions := concat_ws(' ', nullif(partitions, ''), substring(l FROM ' on (event_\w+) '));
		left_out := coalesce(substring(l FROM 'Subplans Removed: (\d+)'), left_out);
	END LOOP;
	RETURN NEXT;
END $$;
CREATE FUNCTION pg_temp.scans() RETURNS jsonb LANGUAGE sql VOLATILE AS $$
	SELECT jsonb_object_agg(relname, seq_scan + coalesce(idx_scan, 0)) FROM pg_stat_xact_user_tables WHERE schemaname = 'cdp' AND relname LIKE 'event\_20%' OR relname = 'event_default' $$;
CREATE FUNCTION pg_temp.was_read(q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE before jsonb := pg_temp.scans();
BEGIN
	EXECUTE q;
	RETURN (SELECT coalesce(string_agg(key, ' ' ORDER BY key), 'none') FROM jsonb_each_text(pg_temp.scans()) WHERE value::int > (before ->> key)::int);
END $$;
SELECT count(*) AS partitions FROM pg_inherits WHERE inhparent = 'cdp.event'::regclass;
SELECT * FROM pg_temp.in_plan($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 month')$$);
SELECT * FROM pg_temp.in_plan($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 hour')$$);
SELECT * FROM pg_temp.in_plan($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 day', 2, '{"a": 1}', '2026-01-01 05:00+08')$$);
SELECT * FROM pg_temp.in_plan($$SELECT * FROM cdp.find_customers_who('Product Viewed', at => '2025-11-15')$$);
SELECT pg_temp.was_read($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 month')$$) AS month,
	pg_temp.was_read($$SELECT cdp.find_customers_who('Product Viewed', '1 month')$$) AS month_in_select_list,
	pg_temp.was_read($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 hour', at => cdp.now() - interval '40 days')$$) AS hour;
SELECT pg_temp.was_read($$SELECT cdp.did(1, 'Product Viewed', '1 month')$$) AS month, pg_temp.was_read($$SELECT cdp.did(6, 'Product Viewed', '1 hour')$$) AS hour,
	pg_temp.was_read($$SELECT cdp.did(6, 'Product Viewed', '1 day', at => '2025-12-05')$$) AS past, pg_temp.was_read($$SELECT cdp.did(5, 'Product Viewed')$$) AS stops_at_the_first;
-- inlined into the query that calls
CREATE FUNCTION pg_temp.plan_of(q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text := ''; l text;
BEGIN FOR l IN EXECUTE 'EXPLAIN (COSTS OFF) ' || q LOOP r := r || l || E'\n'; END LOOP; RETURN r; END $$;
SELECT pg_temp.plan_of($$SELECT c FROM cdp.find_customers_who('E', '1 day') c JOIN cdp.profile p ON p.profile_id = c$$) ~ 'Function Scan' AS function_scan,
	pg_temp.plan_of($$SELECT * FROM cdp.find_buyers('P', '1 day')$$) ~ 'Function Scan' AS function_scan_of_buyers;

-- buyers: whole orders, whatever their lines
SELECT cdp.record_order(jsonb_build_object('member_id', 'm-' || n), o::jsonb || jsonb_build_object('order_id', id, 'amount', 100)) FROM (VALUES
	(1, 'o-1', '{"status": "completed", "ordered_at": "2026-03-01 00:00", "lines": [{"product_id": "P-1"}, {"product_id": "P-1", "quantity": 3}, {"product_id": "P-2"}]}'),
	(2, 'o-2', '{"status": "cancelled", "ordered_at": "2026-03-01 00:00", "lines": [{"product_id": "P-1"}]}'),
	(3, 'o-3', '{"status": "paid", "ordered_at": "2026-03-01 00:00", "lines": [{"product_id": "P-1"}]}'),
	(4, 'o-4', '{"status": "completed", "ordered_at": "2026-02-15 12:00", "lines": [{"product_id": "P-1"}]}'),
	(5, 'o-5', '{"status": "completed", "ordered_at": "2026-02-15 12:00:00.000001", "lines": [{"product_id": "P-1"}]}'),
	(5, 'o-6', '{"ordered_at": "2026-03-15 12:00", "lines": [{"product_id": "P-1"}, {"product_id": "P-2", "quantity": 0}]}'),
	(6, 'o-7', '{"status": "paid", "ordered_at": "2026-03-15 12:00:00.000001", "lines": [{"product_id": "P-1"}]}')) v(n, id, o);
CREATE FUNCTION pg_temp.buyers() RETURNS TABLE (ever text, month text, twice text, p_2 text, p_3 text, tomorrow text) LANGUAGE sql AS $$
	SELECT pg_temp.ids('SELECT * FROM cdp.find_buyers(''P-1'')'), pg_temp.ids('SELECT * FROM cdp.find_buyers(''P-1'', ''1 month'')'), pg_temp.ids('SELECT * FROM cdp.find_buyers(''P-1'', at_least => 2)'),
		pg_temp.ids('SELECT * FROM cdp.find_buyers(''P-2'')'), pg_temp.ids('SELECT * FROM cdp.find_buyers(''P-3'')'), pg_temp.ids('SELECT * FROM cdp.find_buyers(''P-1'', at => ''2026-03-16 00:00+08'')') $$;
SELECT * FROM pg_temp.buyers();
-- a part given back leaves an order, all of it does not; nor does what was cancelled afterwards
SELECT cdp.refund_order('o-1', 99.99, NULL, 'r-1'), cdp.refund_order('o-3', 100, NULL, 'r-2'), cdp.record_order('{"member_id": "m-5"}', '{"order_id": "o-6", "status": "cancelled"}');
SELECT * FROM pg_temp.buyers();
SELECT cdp.refund_order('o-1', 0.01, NULL, 'r-3');
SELECT * FROM pg_temp.buyers();
-- a gift is bought, a shop that says completed of what it gave back is not believed
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount, refunded) VALUES ('o-8', 1, '2026-03-01', 'completed', 0, 0), ('o-9', 2, '2026-03-01', 'completed', 50, 50);
INSERT INTO cdp.sales_order_line (order_id, line_no, product_id) VALUES ('o-8', 1, 'P-1'), ('o-9', 1, 'P-1'), ('o-0', 1, 'P-1');
SELECT * FROM pg_temp.buyers();
SELECT cdp.merge_customers(4, 5, 'one buyer') AS merged;
SELECT twice FROM pg_temp.buyers();
-- by index of the product
INSERT INTO cdp.sales_order_line (order_id, line_no, product_id) SELECT 'x' || g, 1, 'X-' || g FROM generate_series(1, 5000) g;
ANALYZE cdp.sales_order_line;
SELECT pg_temp.plan_of($$SELECT * FROM cdp.find_buyers('X-77', '1 month')$$) ~ 'sales_order_line_product_id' AS by_index;

-- a reader may, others may not
CREATE ROLE regress_cdp_reader;
CREATE ROLE regress_cdp_nobody;
SELECT cdp.grant_access('reader', 'regress_cdp_reader');
SET ROLE regress_cdp_reader;
SELECT pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 month')$$) AS who, cdp.did(1, 'Product Viewed') AS did, pg_temp.ids($$SELECT * FROM cdp.find_buyers('P-1')$$) AS buyers;
SET ROLE regress_cdp_nobody;
SELECT * FROM cdp.find_customers_who('Product Viewed');
SELECT cdp.did(1, 'Product Viewed');
SELECT * FROM cdp.find_buyers('P-1');
RESET ROLE;
SELECT cdp.revoke_access('reader', 'regress_cdp_reader');
DROP ROLE regress_cdp_reader, regress_cdp_nobody;
-- reading only
BEGIN READ ONLY;
SELECT pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed', '1 month')$$) AS who, cdp.did(1, 'Product Viewed') AS did, pg_temp.ids($$SELECT * FROM cdp.find_buyers('P-1')$$) AS buyers;
COMMIT;
-- in the workers of a parallel plan
CREATE TABLE asked AS SELECT n::bigint AS id FROM generate_series(1, 6) n;
ALTER TABLE asked SET (parallel_workers = 2);
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2; SET parallel_leader_participation = off;
SELECT pg_temp.plan_of($$SELECT count(*) FILTER (WHERE cdp.did(id, 'Product Viewed')) FROM asked$$) ~ 'Gather.*Partial Aggregate' AS in_workers;
SELECT count(*) FILTER (WHERE cdp.did(id, 'Product Viewed')) AS did FROM asked;
SELECT pg_temp.ids($$SELECT * FROM cdp.find_customers_who('Product Viewed')$$) AS who, pg_temp.ids($$SELECT * FROM cdp.find_buyers('P-1', '1 month')$$) AS buyers;
DROP TABLE asked;
-- tables of another version
UPDATE cdp.meta SET value = '0.0.9' WHERE key = 'version';
CREATE FUNCTION pg_temp.forget() RETURNS void LANGUAGE sql AS '';
\set VERBOSITY sqlstate
SELECT * FROM cdp.find_customers_who('Product Viewed');
SELECT * FROM cdp.find_buyers('P-1');
SELECT cdp.did(1, 'Product Viewed');
