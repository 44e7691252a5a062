-- Properties of event conditions over random events, merges and questions: what a slow query in plain SQL says.
\set seed `echo ${CDP_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d " ")}`
BEGIN;
SELECT plan(12);
SELECT diag('event_condition: seed ' || :'seed' || ' (CDP_SEED chooses another)');
SELECT setseed(:seed::float8 / 65536) \g /dev/null
SET LOCAL client_min_messages = warning;
SET LOCAL cdp.now = '2026-03-31 12:00+08';
SET LOCAL cdp.timezone = 'Asia/Shanghai';
SET LOCAL TimeZone = 'America/New_York';
SELECT cdp._make_partitions('cdp.event', '2026-01-01 00:00+00', '2026-04-01 00:00+00') IS NULL AS x \gset

-- sixty profiles, some of which become one; moments at which windows begin and end, and all around them; some months
-- have a partition, the others lie in the default one
CREATE TEMP TABLE p AS SELECT i.profile_id AS id FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'event_condition-' || n))) FROM generate_series(1, 60) n)) i;
CREATE TEMP TABLE n AS SELECT id, row_number() OVER (ORDER BY id) AS n FROM p;
CREATE TEMP TABLE edge AS SELECT row_number() OVER () AS i, x AS at FROM unnest('{2026-03-31 12:00+08,2026-03-31 11:00+08,2026-03-30 12:00+08,2026-03-01 12:00+08,2026-02-28 12:00+08,2026-02-28 00:00+08,2025-12-31 12:00+08,2025-03-31 12:00+08,2026-04-01 00:00+08}'::timestamptz[]) x;
CREATE FUNCTION pg_temp.moment() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
	SELECT e.at + (ARRAY['0', '1 microsecond', '-1 microsecond', '1 day', '-3 days', '-40 days', '1 hour']::interval[])[1 + floor(random() * 7)::int]
	FROM (SELECT 1 + floor(random() * 9)::int AS i OFFSET 0) r JOIN edge e USING (i) $$;
INSERT INTO cdp.event (profile_id, name, occurred_at, properties)
	SELECT (SELECT id FROM n WHERE n.n = r.n), 'tap ' || r.name, r.at, jsonb_strip_nulls(jsonb_build_object('k', r.k, 'l', r.l, 'deep', CASE WHEN r.k = 2 THEN '{"a": [1, 2]}'::jsonb END))
	FROM (SELECT 1 + floor(random() ^ 2 * 60)::int AS n, (ARRAY['a', 'b', 'c'])[1 + floor(random() * 3)::int] AS name, pg_temp.moment() AS at,
			floor(random() * 4)::int AS k, CASE WHEN random() < 0.5 THEN floor(random() * 2)::int END AS l FROM generate_series(1, 1500)) r;
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount, refunded)
	SELECT 'event_condition-' || o, (SELECT id FROM n WHERE n.n = r.n), r.at, r.status, r.amount, CASE WHEN r.part < 0.6 THEN 0 WHEN r.part < 0.8 THEN r.amount ELSE r.amount / 2 END
	FROM (SELECT o, 1 + floor(random() * 60)::int AS n, pg_temp.moment() AS at, (ARRAY['placed', 'paid', 'shipped', 'completed', 'cancelled', 'refunded'])[1 + floor(random() * 6)::int] AS status,
			floor(random() * 3) * 50 AS amount, random() AS part FROM generate_series(1, 600) o) r;
INSERT INTO cdp.sales_order_line (order_id, line_no, product_id, quantity)
	SELECT 'event_condition-' || o, l, 'tap ' || (ARRAY['a', 'b', 'c'])[1 + floor(random() * 3)::int], floor(random() * 3) FROM generate_series(1, 620) o, generate_series(1, 2) l;
SELECT count(cdp.merge_customers((SELECT id FROM n WHERE n.n = a), (SELECT id FROM n WHERE n.n = b), NULL)) AS merges
	FROM (SELECT 1 + floor(random() * 60)::int AS a, 1 + floor(random() * 60)::int AS b FROM generate_series(1, 25)) m WHERE a <> b \gset
SELECT cmp_ok((SELECT count(DISTINCT cdp.customer_id(id)) FROM p), '<', 55::bigint, 'some profiles have become one');

CREATE TEMP TABLE q AS SELECT g AS q, 'tap ' || (ARRAY['a', 'b', 'c', 'd'])[1 + floor(random() * 4)::int] AS name,
	(ARRAY[NULL, '0', '1 microsecond', '1 hour', '1 day', '24 hours', '1 month', '1 month 1 microsecond', '3 months', '1 year', '1 month 1 day', '31 days']::interval[])[1 + floor(random() * 12)::int] AS within,
	1 + floor(random() ^ 2 * 5)::int AS at_least,
	(ARRAY[NULL, NULL, '{"k": 1}', '{"k": 2, "l": 0}', '{"deep": {"a": [2]}}', '{}', '{"k": 9}', '[]']::jsonb[])[1 + floor(random() * 8)::int] AS matching,
	CASE WHEN random() < 0.6 THEN pg_temp.moment() END AS at
	FROM generate_series(1, 300) g;
-- the judge: the operator of PostgreSQL in a session of that zone, aliases by a join
CREATE FUNCTION pg_temp.begin_of(at timestamptz, within interval) RETURNS timestamptz LANGUAGE plpgsql SET TimeZone = 'Asia/Shanghai' AS $$ BEGIN RETURN at - within; END $$;
CREATE TEMP TABLE win AS SELECT q, name, at_least, matching, pg_temp.begin_of(coalesce(at, cdp.now()), within) AS lower, coalesce(at, cdp.now()) AS upper FROM q;
CREATE TEMP TABLE judge AS SELECT w.q, coalesce(a.customer_id, e.profile_id) AS id FROM win w JOIN cdp.event e ON e.name = w.name
		AND (w.lower IS NULL OR e.occurred_at > w.lower) AND NOT e.occurred_at > w.upper AND coalesce(e.properties @> w.matching, true)
	LEFT JOIN cdp.profile_alias a ON a.profile_id = e.profile_id GROUP BY 1, 2, w.at_least HAVING count(*) >= w.at_least;
CREATE TEMP TABLE judge_buyers AS SELECT w.q, coalesce(a.customer_id, o.profile_id) AS id FROM win w JOIN (SELECT DISTINCT order_id, product_id FROM cdp.sales_order_line WHERE quantity <> 0) l ON l.product_id = w.name
	JOIN cdp.sales_order o ON o.order_id = l.order_id AND (w.lower IS NULL OR o.ordered_at > w.lower) AND NOT o.ordered_at > w.upper
		AND o.status <> 'cancelled' AND o.status <> 'refunded' AND (o.refunded = 0 OR o.refunded < o.amount)
	LEFT JOIN cdp.profile_alias a ON a.profile_id = o.profile_id GROUP BY 1, 2, w.at_least HAVING count(*) >= w.at_least;
SELECT cmp_ok((SELECT count(DISTINCT q) FROM judge), '>', 50::bigint, 'questions are answered by somebody');
SELECT cmp_ok((SELECT count(*) FROM judge_buyers), '>', 100::bigint, '… those for buyers too');

-- with constants, as a person writes them; with the columns of a row
CREATE TEMP TABLE ours (q int, id bigint);
CREATE TEMP TABLE ours_buyers (q int, id bigint);
DO $$
DECLARE r record;
BEGIN
	FOR r IN SELECT * FROM q LOOP
		EXECUTE format('INSERT INTO ours SELECT %s, * FROM cdp.find_customers_who(%L, %L, %L, %L, %L)', r.q, r.name, r.within, r.at_least, r.matching, r.at);
		EXECUTE format('INSERT INTO ours_buyers SELECT %s, * FROM cdp.find_buyers(%L, %L, %L, %L)', r.q, r.name, r.within, r.at_least, r.at);
	END LOOP;
END $$;
SELECT bag_eq('SELECT q, id FROM ours', 'SELECT q, id FROM judge', 'find_customers_who: the customers of the judge, each once');
SELECT bag_eq('SELECT q.q, w FROM q, LATERAL cdp.find_customers_who(q.name, q.within, q.at_least, q.matching, q.at) w', 'SELECT q, id FROM judge', '… asked laterally');
SELECT bag_eq('SELECT q.q, cdp.find_customers_who(q.name, q.within, q.at_least, q.matching, q.at) FROM q', 'SELECT q, id FROM judge', '… in a select list');
SELECT bag_eq('SELECT q, id FROM ours_buyers', 'SELECT q, id FROM judge_buyers', 'find_buyers: the customers of the judge, each once');
SELECT bag_eq('SELECT q.q, w FROM q, LATERAL cdp.find_buyers(q.name, q.within, q.at_least, q.at) w', 'SELECT q, id FROM judge_buyers', '… asked laterally');
SELECT is_empty('SELECT q.q, p.id FROM q, p WHERE cdp.did(p.id, q.name, q.within, q.at_least, q.matching, q.at) <> EXISTS (SELECT FROM ours o WHERE o.q = q.q AND o.id = cdp.customer_id(p.id))',
	'did, of every profile: whether its customer is among those');
SELECT bag_eq('SELECT q, cdp.customer_id(id) FROM (SELECT DISTINCT o.q, n.id FROM ours o JOIN p n ON cdp.customer_id(n.id) = o.id) x GROUP BY 1, 2', 'SELECT q, id FROM ours', 'answers are One IDs');

-- the window itself, in zones with and without summer time, back to where the calendar ends
CREATE TEMP TABLE w AS SELECT g, (ARRAY['Asia/Shanghai', 'Europe/Berlin', 'America/Sao_Paulo', 'Australia/Lord_Howe', 'Asia/Kathmandu', 'UTC'])[1 + floor(random() * 6)::int] AS zone,
	timestamptz '1900-01-01' + random() * interval '200 years' + (floor(random() * 2) - 1) * interval '1000 years' * random() AS at,
	make_interval(months => CASE WHEN random() < 0.5 THEN floor(random() ^ 4 * 2400)::int ELSE 0 END, days => CASE WHEN random() < 0.5 THEN floor(random() ^ 4 * 2000)::int ELSE 0 END,
		secs => CASE WHEN random() < 0.5 THEN random() ^ 4 * 1e7 ELSE 0 END) AS within
	FROM generate_series(1, 5000) g;
CREATE FUNCTION pg_temp.wrong_windows() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE r record; want timestamptz; got timestamptz;
BEGIN
	FOR r IN SELECT * FROM w LOOP
		PERFORM set_config('cdp.timezone', r.zone, true), set_config('TimeZone', r.zone, true);
		want := r.at - r.within;
		PERFORM set_config('TimeZone', 'America/New_York', true);
		got := cdp._condition_start('event', 'E', r.within, 1, r.at);
		IF got <> want THEN
			RETURN NEXT format('%s: %s - %s is %s, not %s', r.zone, r.at, r.within, want, got);
		END IF;
	END LOOP;
END $$;
SELECT is_empty('SELECT pg_temp.wrong_windows()', 'a window begins where at - within lies for a session in that zone');
SELECT is((SELECT count(*) FROM w WHERE cdp._condition_start('event', 'E', make_interval(years => 8000) + within, 1, at) <> '-infinity'), 0::bigint, '… or at the end of the calendar');
SELECT * FROM finish();
ROLLBACK;
