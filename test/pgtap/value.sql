-- cdp.rfm and cdp.rfm_table against plain SQL that shares nothing with them, over random data; damaged states.
BEGIN;
SELECT plan(25);
\getenv seed CDP_SEED
\if :{?seed}
\else
\set seed 20260101
\endif
SELECT diag('seed ' || :'seed' || ' (CDP_SEED chooses another)');
SELECT setseed((:seed % 1000) / 1000.0) IS NULL AS x \gset
SET LOCAL TimeZone = 'UTC';
SET LOCAL cdp.now = '2026-01-01 00:00:00Z';
-- heavy ties, NULLs, refunds, customers with refunds only, rows after as_of, a few amounts no integer holds
CREATE TEMP TABLE p AS
SELECT CASE WHEN random() < 0.01 THEN NULL ELSE floor(random() ^ 2 * 400)::bigint END AS customer_id,
	CASE WHEN random() < 0.01 THEN NULL ELSE '2024-01-01'::timestamptz + floor(random() * 800) * interval '1 day' END AS occurred_at,
	CASE WHEN random() < 0.01 THEN NULL WHEN random() < 0.1 THEN -round((random() * 50)::numeric, 2)
	     WHEN random() < 0.005 THEN round((random() * 1e6)::numeric, 12) WHEN random() < 0.005 THEN 1e17
	     ELSE round((random() * 20)::numeric) * 5 END AS amount, random() AS shuffle, floor(random() * 5)::int AS part
FROM generate_series(1, 6000);
INSERT INTO p SELECT 1000 + i, '2025-01-01', -1 FROM generate_series(1, 5) i;
\set as_of '''2026-01-01 00:00:00Z''::timestamptz'
CREATE TEMP VIEW plain AS
SELECT customer_id, :as_of - max(occurred_at) FILTER (WHERE amount >= 0) AS recency, count(*) FILTER (WHERE amount >= 0) AS frequency, sum(amount) AS monetary,
	min(occurred_at) FILTER (WHERE amount >= 0) AS first_at, max(occurred_at) FILTER (WHERE amount >= 0) AS last_at,
	sum(amount) FILTER (WHERE amount >= 0) AS gross, -coalesce(sum(amount) FILTER (WHERE amount < 0), 0) AS refunded
FROM p WHERE occurred_at <= :as_of AND amount IS NOT NULL AND customer_id IS NOT NULL GROUP BY customer_id HAVING count(*) FILTER (WHERE amount >= 0) > 0;
CREATE TEMP TABLE ours AS SELECT customer_id, (cdp.rfm(occurred_at, amount, :as_of)).* FROM p WHERE customer_id IS NOT NULL GROUP BY customer_id;
DELETE FROM ours WHERE frequency IS NULL;
SELECT ok((SELECT count(*) > 250 FROM ours), 'there is something to compare');
SELECT set_eq('SELECT customer_id, recency, frequency, monetary::text FROM ours', 'SELECT customer_id, recency, frequency, monetary::text FROM plain',
	'rfm is what plain SQL says, to the last digit');
SELECT set_eq('SELECT customer_id, cdp.rfm(occurred_at, amount, ''2026-01-01 00:00:00Z'')::text FROM (SELECT * FROM p ORDER BY shuffle OFFSET 0) s GROUP BY 1 HAVING cdp.rfm(occurred_at, amount, ''2026-01-01 00:00:00Z'') IS NOT NULL AND customer_id IS NOT NULL',
	'SELECT customer_id, ROW(recency, frequency, monetary)::cdp.rfm::text FROM ours', 'the order of the rows does not matter');
SELECT set_eq('SELECT customer_id, cdp.rfm_combine(s)::text FROM (SELECT customer_id, cdp.rfm_partial(occurred_at, amount, ''2026-01-01 00:00:00Z'')::text::cdp.rfm_state AS s FROM p WHERE customer_id IS NOT NULL GROUP BY customer_id, part) x GROUP BY 1 HAVING cdp.rfm_combine(s) IS NOT NULL',
	'SELECT customer_id, ROW(recency, frequency, monetary)::cdp.rfm::text FROM ours', 'split, written as text, read and combined: the same');
CREATE TABLE value_p AS SELECT * FROM p;
ALTER TABLE value_p SET (parallel_workers = 2);
SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0;
CREATE FUNCTION pg_temp.plan_of(q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE t text := ''; l text;
BEGIN FOR l IN EXECUTE 'EXPLAIN (COSTS OFF) ' || q LOOP t := t || l || E'\n'; END LOOP; RETURN t; END $$;
SELECT matches(pg_temp.plan_of('SELECT customer_id, cdp.rfm(occurred_at, amount, now()) FROM value_p GROUP BY 1'), 'Finalize.*Gather.*Partial', 'the plan is parallel');
SELECT set_eq('SELECT customer_id, cdp.rfm(occurred_at, amount, ''2026-01-01 00:00:00Z'')::text FROM value_p GROUP BY 1 HAVING cdp.rfm(occurred_at, amount, ''2026-01-01 00:00:00Z'') IS NOT NULL AND customer_id IS NOT NULL',
	'SELECT customer_id, ROW(recency, frequency, monetary)::cdp.rfm::text FROM ours', 'parallel: the same');
RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size;

-- the table: scores by counting, group by multiplying, both on the plain facts
CREATE FUNCTION pg_temp.plain_table(bins int, high text) RETURNS TABLE (customer_id bigint, recency interval, frequency bigint, monetary numeric,
	first_at timestamptz, last_at timestamptz, gross numeric, refunded numeric, score text, group8 text) LANGUAGE sql AS $$
	WITH w AS MATERIALIZED (SELECT * FROM plain),
	lim AS (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM recency)::float8) AS r,
		percentile_cont(0.5) WITHIN GROUP (ORDER BY frequency::float8) AS f, count(*) AS n, sum(extract(epoch FROM recency)) AS sr, sum(frequency) AS sf, sum(monetary) AS sm FROM w),
	mid AS (SELECT avg(monetary) AS m FROM (SELECT monetary, row_number() OVER (ORDER BY monetary) AS i, count(*) OVER () AS n FROM w) x WHERE i IN ((n + 1) / 2, n / 2 + 1))
	SELECT w.customer_id, w.recency, w.frequency, w.monetary, w.first_at, w.last_at, w.gross, w.refunded,
		concat((SELECT 1 + floor(bins * count(*) FILTER (WHERE o.recency > w.recency)::numeric / count(*)) FROM w o),
		       (SELECT 1 + floor(bins * count(*) FILTER (WHERE o.frequency < w.frequency)::numeric / count(*)) FROM w o),
		       (SELECT 1 + floor(bins * count(*) FILTER (WHERE o.monetary < w.monetary)::numeric / count(*)) FROM w o)),
		g.label_zh
	FROM w, lim, mid, cdp.rfm_group g WHERE g.rfm_group = CASE high
		WHEN 'mean' THEN concat((extract(epoch FROM w.recency) * n <= sr)::int, (w.frequency * n >= sf)::int, (w.monetary * n >= sm)::int)
		ELSE concat((extract(epoch FROM w.recency) <= lim.r)::int, (w.frequency >= lim.f)::int, (w.monetary >= mid.m)::int) END $$;
\set columns 'customer_id, recency, frequency, monetary::text, first_at, last_at, gross::text, refunded::numeric, score, group8'
SELECT set_eq('SELECT customer_id, recency, frequency, monetary, first_at, last_at, gross, refunded, score, group8 FROM cdp.rfm_table(NULL, ''SELECT customer_id, occurred_at, amount FROM p'')',
	'SELECT * FROM pg_temp.plain_table(5, ''mean'')', 'rfm_table, quintiles and means');
SELECT set_eq('SELECT customer_id, recency, frequency, monetary, first_at, last_at, gross, refunded, score, group8 FROM cdp.rfm_table(NULL, ''SELECT customer_id, occurred_at, amount FROM p'', bins => 7, high => ''median'')',
	'SELECT * FROM pg_temp.plain_table(7, ''median'')', 'rfm_table, sevenths and medians');
CREATE TEMP TABLE t AS SELECT * FROM cdp.rfm_table(NULL, 'SELECT customer_id, occurred_at, amount FROM p');
SELECT is_empty('SELECT FROM t WHERE score <> r || '''' || f || m OR r NOT BETWEEN 1 AND 5 OR f NOT BETWEEN 1 AND 5 OR m NOT BETWEEN 1 AND 5', 'score is made of r, f and m');
SELECT is_empty('SELECT FROM t a JOIN t b ON a.frequency = b.frequency WHERE a.f <> b.f', 'equal frequencies share a score');
SELECT is_empty('SELECT FROM t a JOIN t b ON a.monetary < b.monetary WHERE a.m > b.m', 'more money, no lower score');
SELECT is((SELECT sum(monetary) FROM t), (SELECT sum(amount) FROM p WHERE occurred_at <= :as_of AND customer_id IN (SELECT customer_id FROM t)), 'the sum over all customers is the sum of the rows');
SELECT is_empty('SELECT FROM t WHERE monetary <> gross - refunded OR refunded < 0', 'money = gross - refunded');
SELECT is_empty('SELECT FROM cdp.rfm_table(NULL, ''SELECT customer_id, occurred_at, amount FROM p'', refunds => ''ignore'') i JOIN t USING (customer_id) WHERE i.monetary <> t.gross OR i.gross <> t.gross OR i.refunded <> 0 OR i.frequency <> t.frequency', 'refunds ignored');
SELECT is_empty('SELECT FROM cdp.rfm_table(NULL, ''SELECT customer_id, occurred_at, amount FROM p'', monetary => ''mean'') i JOIN t USING (customer_id) WHERE i.monetary <> t.monetary / t.frequency', 'money per purchase');
SELECT set_eq('SELECT customer_id, r, f, m FROM cdp.rfm_table(NULL, ''SELECT customer_id, occurred_at, amount FROM p'', method => ''threshold'', bins => 4, r_cuts => ''{30 days,90 days,1 year}'', f_cuts => ''{2,10,20}'', m_cuts => ''{0,100,1000.5}'')',
	'SELECT customer_id, 4 - (recency > ''30 days'')::int - (recency > ''90 days'')::int - (recency > ''1 year'')::int AS r, 1 + (frequency >= 2)::int + (frequency >= 10)::int + (frequency >= 20)::int AS f,
	1 + (monetary >= 0)::int + (monetary >= 100)::int + (monetary >= 1000.5)::int AS m FROM plain', 'thresholds: a cut itself belongs to the better side');
SELECT set_eq('SELECT customer_id, r, f, m FROM cdp.rfm_table(NULL, ''SELECT customer_id, occurred_at, amount FROM p'', method => ''nested'', bins => 3)',
	'WITH a AS (SELECT *, (SELECT 1 + 3 * count(*) FILTER (WHERE o.recency > w.recency) / count(*) FROM plain o) AS r FROM plain w), a2 AS MATERIALIZED (SELECT * FROM a),
	b AS MATERIALIZED (SELECT *, (SELECT 1 + 3 * count(*) FILTER (WHERE o.frequency < w.frequency) / count(*) FROM a2 o WHERE o.r = w.r) AS f FROM a2 w)
	SELECT customer_id, r::int, f::int, (SELECT 1 + 3 * count(*) FILTER (WHERE o.monetary < w.monetary) / count(*) FROM b o WHERE (o.r, o.f) = (w.r, w.f))::int AS m FROM b w', 'nested scores');

-- the orders of the CDP give what a query over them gives, One IDs included
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount, refunded)
SELECT 'value-' || i, 1 + floor(random() * 300), '2024-01-01'::timestamptz + random() * interval '600 days',
	(ARRAY['placed', 'paid', 'shipped', 'completed', 'cancelled', 'refunded'])[1 + floor(random() * 6)],
	round((random() * 100)::numeric, 2) + 10, CASE WHEN random() < 0.2 THEN round((random() * 10)::numeric, 2) ELSE 0 END FROM generate_series(1, 2000) i;
SELECT results_eq('SELECT customer_id, recency, frequency, monetary, gross, refunded, score, group8 FROM cdp.rfm_table() ORDER BY 1',
	'SELECT customer_id, recency, frequency, monetary, gross, refunded, score, group8 FROM cdp.rfm_table(purchases => $q$
		SELECT cdp.customer_id(profile_id), ordered_at, amount FROM cdp.sales_order WHERE status IN (''paid'', ''shipped'', ''completed'', ''refunded'')
		UNION ALL SELECT cdp.customer_id(profile_id), ordered_at, -refunded FROM cdp.sales_order WHERE refunded > 0 AND status IN (''paid'', ''shipped'', ''completed'', ''refunded'')$q$) ORDER BY 1',
	'the default source');
SELECT results_eq('SELECT sum(customers)::bigint, sum(monetary), sum(share) BETWEEN 0.999 AND 1.001 FROM cdp.rfm_group_summary', 'SELECT count(*), sum(monetary), true FROM cdp.rfm_table()', 'rfm_group_summary adds up');
SELECT is((SELECT count(*) FROM cdp.rfm_group_summary), 8::bigint, 'eight groups, also when some are empty');

-- binary states: what is sent comes back; damaged ones are refused or are states again, the server lives
CREATE TEMP TABLE st (s cdp.rfm_state);
INSERT INTO st SELECT cdp.rfm_partial(occurred_at, amount, :as_of) FROM p GROUP BY customer_id;
INSERT INTO st VALUES ('()');
\set file '''/value_state.bin'''
SELECT current_setting('data_directory') || :file AS file \gset
COPY st TO :'file' (FORMAT binary);
CREATE TEMP TABLE back (s cdp.rfm_state);
COPY back FROM :'file' (FORMAT binary);
SELECT bag_eq('SELECT s::text FROM back', 'SELECT s::text FROM st', 'binary round trip');
CREATE FUNCTION pg_temp.damage(path text) RETURNS TABLE (how text, answer text) LANGUAGE plpgsql AS $$
DECLARE
	good bytea := (SELECT cdp._rfm_state_send('(10,-5,7,3,123456.7800,0.50)'::cdp.rfm_state));
	bad  bytea;
BEGIN
	FOR i IN 0 .. 999 LOOP
		how := CASE i % 3 WHEN 0 THEN 'cut' WHEN 1 THEN 'changed' ELSE 'longer' END;
		bad := CASE i % 3 WHEN 0 THEN substr(good, 1, floor(random() * length(good))::int)
		                  WHEN 1 THEN set_byte(good, floor(random() * length(good))::int, floor(random() * 256)::int)
		                  ELSE good || decode(lpad(to_hex(floor(random() * 65536)::int), 4, '0'), 'hex') END;
		BEGIN
			EXECUTE format('COPY (SELECT %L::bytea) TO %L (FORMAT binary)', bad, path);
			TRUNCATE pg_temp.back;
			EXECUTE format('COPY pg_temp.back FROM %L (FORMAT binary)', path);
			-- what came in is sound: its own text form is accepted
			SELECT CASE WHEN s::text::cdp.rfm_state::text = s::text AND cdp._rfm_final(s) IS DISTINCT FROM ROW('1 hour', 0, 0)::cdp.rfm THEN 'sound' ELSE 'unsound' END INTO answer FROM pg_temp.back;
		EXCEPTION WHEN OTHERS THEN
			answer := sqlstate;
		END;
		RETURN NEXT;
	END LOOP;
END $$;
CREATE TEMP TABLE damage AS SELECT * FROM pg_temp.damage(:'file');
SELECT set_has('VALUES (''22P03''), (''08P01''), (''sound'')', 'SELECT DISTINCT answer FROM damage', 'damaged binary states: 22P03, a protocol error or a sound state');
SELECT is_empty('SELECT FROM damage WHERE how <> ''changed'' AND answer = ''sound'' ', 'neither short nor long ones come in');

-- real purchases, where they are at hand
\getenv data CDP_DATA
\if :{?data}
\else
\set data /nowhere
\endif
\set file :data '/cdnow/cdnow_sample.csv'
CREATE TEMP TABLE cdnow (customer_id int, ordered_at date, quantity int, amount numeric);
SELECT coalesce((pg_stat_file(:'file', true)).size > 0, false) AS have \gset
\if :have
\copy cdnow FROM PROGRAM 'cat "$CDP_DATA"/cdnow/cdnow_sample.csv' (FORMAT csv, HEADER)
CREATE TEMP TABLE c AS SELECT * FROM cdp.rfm_table('1998-07-01 00:00+08', 'SELECT customer_id, ordered_at, amount FROM cdnow');
SELECT results_eq('SELECT count(*), sum(frequency)::bigint, sum(monetary) FROM c', 'VALUES (2357::bigint, 6919::bigint, 244091.94)', 'CDNOW: 2,357 customers, 6,919 purchases, 244,091.94');
SELECT results_eq('SELECT count(*) FROM c WHERE frequency = 1 AND f <> 1', 'VALUES (0::bigint)', 'CDNOW: all one-time buyers have the lowest F');
\else
SELECT skip('no CDNOW data: CDP_DATA names the directory', 2);
\endif
SELECT * FROM finish();
ROLLBACK;
