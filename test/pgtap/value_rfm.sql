-- cdp.rfm_table against plain SQL that shares nothing with it, over random data with heavy ties: every refund rule,
-- every method, serial, parallel, permuted, split and combined; the 125 cells.
BEGIN;
SELECT plan(46);
SET LOCAL jit = off;
\getenv seed CDP_SEED
\if :{?seed}
\else
\set seed 20260101
\endif
SELECT diag('seed ' || :'seed' || ' (CDP_SEED chooses another)');
SELECT setseed((:seed % 1000) / 1000.0) IS NULL AS x \gset
SET LOCAL TimeZone = 'UTC';
SET LOCAL cdp.now = '2026-01-01 00:00:00Z';

-- the eleven groups: 125 cells, each once
SELECT set_eq('SELECT rfm_cell FROM cdp.rfm_cell', 'SELECT concat(r, f, m) FROM generate_series(1, 5) r, generate_series(1, 5) f, generate_series(1, 5) m', 'every cell is there');
SELECT is((SELECT count(*) FROM cdp.rfm_cell), 125::bigint, '... and once');
SELECT set_eq('SELECT DISTINCT rfm_group FROM cdp.rfm_cell', 'SELECT rfm_group FROM cdp.rfm_group WHERE scheme = 11', 'every group has cells, every cell a group');
SELECT set_eq('SELECT label_en FROM cdp.rfm_group WHERE scheme = 11', 'SELECT unnest(string_to_array(''Champions,Loyal,Potential Loyalist,New Customers,Promising,Need Attention,About to Sleep,At Risk,Cannot Lose Them,Hibernating,Lost'', '',''))', 'they have the names of the field');
-- more of one score never leads from a group of buyers who are here to one of those who are gone
SELECT is_empty($$SELECT a.rfm_cell, b.rfm_cell FROM cdp.rfm_cell a JOIN cdp.rfm_cell b ON substr(b.rfm_cell, 2) = substr(a.rfm_cell, 2) AND b.rfm_cell > a.rfm_cell
	WHERE a.rfm_group IN ('champions', 'loyal', 'potential_loyalist', 'new_customers', 'promising', 'need_attention', 'about_to_sleep') AND b.rfm_group IN ('at_risk', 'cannot_lose_them', 'hibernating', 'lost')$$,
	'who came back later is not further gone');

-- rows: heavy ties, refunds (many equal a purchase), NULLs, refund-only customers, rows after as_of, several rows a day, gifts, money no integer holds
CREATE TABLE value_rfm_p AS
SELECT CASE WHEN random() < 0.01 THEN NULL ELSE floor(random() ^ 2 * 500)::bigint - 20 END AS customer_id,
	CASE WHEN random() < 0.01 THEN NULL ELSE '2025-01-01'::timestamptz + floor(random() * 60) * interval '6 days' + floor(random() * 6) * interval '4 hours' END AS at,
	CASE WHEN random() < 0.01 THEN NULL WHEN random() < 0.25 THEN -5 * floor(1 + random() * 4)::numeric WHEN random() < 0.004 THEN round((random() * 1e6)::numeric, 12) WHEN random() < 0.004 THEN 1e17
	     WHEN random() < 0.05 THEN 0 ELSE (5 * floor(1 + random() * 4)::numeric)::numeric(10,2) END AS amount, random() AS shuffle, floor(random() * 5)::int AS part
FROM generate_series(1, 8000);
INSERT INTO value_rfm_p SELECT 1000 + i, '2025-01-01', -1 FROM generate_series(1, 5) i;
ANALYZE value_rfm_p;
\set as_of '''2025-12-15 00:00:00Z''::timestamptz'
CREATE TEMP VIEW good_rows AS SELECT *, row_number() OVER (ORDER BY shuffle) AS id, (at AT TIME ZONE 'Asia/Shanghai')::date AS day FROM value_rfm_p WHERE customer_id IS NOT NULL AND amount IS NOT NULL AND at <= :as_of;
CREATE TEMP TABLE good AS SELECT * FROM good_rows;
CREATE INDEX ON good (customer_id, amount);
ANALYZE good;

-- cancel, slowly: one refund after the other takes the latest purchase of its amount that is still there
CREATE FUNCTION pg_temp.cancelled() RETURNS SETOF bigint LANGUAGE plpgsql AS $$
DECLARE
	refund record; taken bigint; gone bigint[] := '{}';
BEGIN
	FOR refund IN SELECT * FROM good WHERE amount < 0 ORDER BY customer_id, at, id LOOP
		SELECT p.id INTO taken FROM good p WHERE p.customer_id = refund.customer_id AND p.amount = -refund.amount AND p.at <= refund.at AND p.id <> ALL (gone) ORDER BY p.at DESC, p.id DESC LIMIT 1;
		IF FOUND THEN gone := gone || taken; END IF;
	END LOOP;
	RETURN QUERY SELECT unnest(gone);
END $$;
CREATE TEMP TABLE gone AS SELECT * FROM pg_temp.cancelled() AS id;
SELECT ok((SELECT count(*) > 100 FROM gone), 'refunds that equal purchases are among the data');
CREATE TEMP TABLE money AS SELECT customer_id, sum(amount) AS net, coalesce(sum(amount) FILTER (WHERE amount >= 0), 0) AS gross, coalesce(-sum(amount) FILTER (WHERE amount < 0), 0) AS refunded FROM good GROUP BY 1;
CREATE TEMP TABLE facts AS
	SELECT 'net' AS rule, customer_id, count(*) AS frequency, min(at) AS first_at, max(at) AS last_at FROM good WHERE amount >= 0 GROUP BY 2
	UNION ALL SELECT 'cancel', customer_id, count(*), min(at), max(at) FROM good WHERE amount >= 0 AND id NOT IN (SELECT id FROM gone) GROUP BY 2
	UNION ALL SELECT 'net_day', customer_id, count(*), min(first_at), max(last_at) FROM (
		SELECT customer_id, day, min(at) FILTER (WHERE amount >= 0) AS first_at, max(at) FILTER (WHERE amount >= 0) AS last_at FROM good GROUP BY 1, 2 HAVING sum(amount) > 0) d GROUP BY 2;
INSERT INTO facts SELECT 'ignore', customer_id, frequency, first_at, last_at FROM facts WHERE rule = 'net';
-- scores by counting who is worse, groups by multiplying; method quintile or nested
CREATE FUNCTION pg_temp.plain(rule text, bins int, high text, nested boolean, mean boolean) RETURNS TABLE (customer_id bigint, recency interval, frequency bigint, monetary numeric,
	first_at timestamptz, last_at timestamptz, gross numeric, refunded numeric, score text, group8 text, group11 text) LANGUAGE sql AS $$
	WITH w AS MATERIALIZED (SELECT f.customer_id, timestamptz '2025-12-15 00:00:00Z' - f.last_at AS recency, f.frequency, (CASE plain.rule WHEN 'ignore' THEN m.gross ELSE m.net END) / CASE WHEN mean THEN f.frequency ELSE 1 END AS monetary,
		f.first_at, f.last_at, m.gross, CASE plain.rule WHEN 'ignore' THEN 0 ELSE m.refunded END AS refunded, extract(epoch FROM timestamptz '2025-12-15 00:00:00Z' - f.last_at) AS s FROM facts f JOIN money m USING (customer_id) WHERE f.rule = plain.rule),
	mid AS (SELECT avg(s) AS s, avg(frequency) AS f, avg(monetary) AS m FROM (SELECT (SELECT s FROM w ORDER BY s OFFSET i LIMIT 1) AS s, (SELECT frequency FROM w ORDER BY frequency OFFSET i LIMIT 1) AS frequency,
		(SELECT monetary FROM w ORDER BY monetary OFFSET i LIMIT 1) AS monetary FROM (SELECT (count(*) - 1) / 2 AS i FROM w UNION ALL SELECT count(*) / 2 FROM w) i) x),
	lim AS (SELECT count(*) AS n, sum(s) AS s, sum(frequency) AS f, sum(monetary) AS m FROM w),
	r AS MATERIALIZED (SELECT w.*, (SELECT 1 + bins * count(*) FILTER (WHERE o.recency > w.recency) / count(*) FROM w o) AS rs FROM w),
	f AS MATERIALIZED (SELECT r.*, (SELECT 1 + bins * count(*) FILTER (WHERE o.frequency < r.frequency) / count(*) FROM r o WHERE NOT nested OR o.rs = r.rs) AS fs FROM r),
	m AS MATERIALIZED (SELECT f.*, (SELECT 1 + bins * count(*) FILTER (WHERE o.monetary < f.monetary) / count(*) FROM f o WHERE NOT nested OR (o.rs, o.fs) = (f.rs, f.fs)) AS ms FROM f)
	SELECT m.customer_id, m.recency, m.frequency, m.monetary, m.first_at, m.last_at, m.gross, m.refunded, concat_ws(CASE WHEN bins > 9 THEN '-' ELSE '' END, m.rs, m.fs, m.ms), g.label_zh,
		CASE WHEN bins = 5 THEN (SELECT c.label_zh FROM cdp.rfm_cell JOIN cdp.rfm_group c USING (rfm_group) WHERE rfm_cell = concat(m.rs, m.fs, m.ms)) END
	FROM m, lim, mid, cdp.rfm_group g WHERE g.rfm_group = CASE high WHEN 'mean' THEN concat((m.s * n <= lim.s)::int, (m.frequency * n >= lim.f)::int, (m.monetary * n >= lim.m)::int)
		ELSE concat((m.s <= mid.s)::int, (m.frequency >= mid.f)::int, (m.monetary >= mid.m)::int) END $$;
CREATE FUNCTION pg_temp.ours(args text) RETURNS text LANGUAGE sql AS $$ SELECT 'SELECT customer_id, recency, frequency, monetary, first_at, last_at, gross, refunded, score, group8, group11 FROM cdp.rfm_table(''2025-12-15 00:00:00Z'', ''SELECT customer_id, at, amount FROM value_rfm_p''' || args || ')' $$;
SELECT set_eq(pg_temp.ours(format(', refunds => %L', rule)), format('SELECT * FROM pg_temp.plain(%L, 5, ''mean'', false, false)', rule), 'plain SQL says the same: ' || rule)
	FROM unnest('{ignore,net,net_day,cancel}'::text[]) rule;
SELECT set_eq(pg_temp.ours(format(', refunds => %L, bins => %s, high => ''median''', rule, bins)), format('SELECT * FROM pg_temp.plain(%L, %s, ''median'', false, false)', rule, bins), format('... medians, %s bins: %s', bins, rule))
	FROM unnest('{ignore,net,net_day,cancel}'::text[], '{2,7,12,100}'::int[]) x(rule, bins);
SELECT set_eq(pg_temp.ours(format(', refunds => %L, bins => %s, method => ''nested'', high => %L', rule, bins, high)), format('SELECT * FROM pg_temp.plain(%L, %s, %L, true, false)', rule, bins, high), format('... nested, %s bins, %s: %s', bins, high, rule))
	FROM unnest('{ignore,net,net_day,cancel}'::text[], '{5,3,5,10}'::int[], '{mean,median,median,mean}'::text[]) x(rule, bins, high);
SELECT set_eq(pg_temp.ours(format(', refunds => %L, monetary => ''mean'', high => %L', rule, high)), format('SELECT * FROM pg_temp.plain(%L, 5, %L, false, true)', rule, high), format('... money per purchase, %s: %s', high, rule))
	FROM unnest('{ignore,net,net_day,cancel}'::text[], '{mean,median,median,mean}'::text[]) x(rule, high);
-- without the amounts that no integer holds, money takes the other way through the code
UPDATE value_rfm_p SET amount = round(amount, 2) % 1000;
TRUNCATE gone, money, facts, good;
INSERT INTO good SELECT * FROM good_rows;
INSERT INTO gone SELECT * FROM pg_temp.cancelled();
INSERT INTO money SELECT customer_id, sum(amount), coalesce(sum(amount) FILTER (WHERE amount >= 0), 0), coalesce(-sum(amount) FILTER (WHERE amount < 0), 0) FROM good GROUP BY 1;
INSERT INTO facts
	SELECT 'net', customer_id, count(*), min(at), max(at) FROM good WHERE amount >= 0 GROUP BY 2
	UNION ALL SELECT 'cancel', customer_id, count(*), min(at), max(at) FROM good WHERE amount >= 0 AND id NOT IN (SELECT id FROM gone) GROUP BY 2;
SELECT set_eq(pg_temp.ours(format(', refunds => %L, bins => %s, method => %L, high => %L', rule, bins, method, high)), format('SELECT * FROM pg_temp.plain(%L, %s, %L, %L, false)', rule, bins, high, method = 'nested'), format('plain SQL, whole cents, %s, %s bins, %s: %s', method, bins, high, rule))
	FROM unnest('{net,cancel,net,cancel}'::text[], '{5,5,4,9}'::int[], '{quintile,nested,nested,quintile}'::text[], '{mean,mean,median,median}'::text[]) x(rule, bins, method, high);

-- sums to the cent, counts
SELECT is((SELECT sum(money) FROM (SELECT group11, sum(monetary) AS money FROM cdp.rfm_table(:as_of, 'SELECT customer_id, at, amount FROM value_rfm_p') GROUP BY 1) g),
	(SELECT sum(amount) FROM good WHERE customer_id IN (SELECT customer_id FROM facts WHERE rule = 'net')), 'sums of the eleven groups are the total of the rows');
SELECT is((SELECT sum(money) FROM (SELECT group8, sum(gross) - sum(refunded) AS money FROM cdp.rfm_table(:as_of, 'SELECT customer_id, at, amount FROM value_rfm_p', refunds => 'cancel') GROUP BY 1) g),
	(SELECT sum(amount) FROM good WHERE customer_id IN (SELECT customer_id FROM facts WHERE rule = 'cancel')), '... of the eight, under cancel, too');
SELECT results_eq($$SELECT measure, customers FROM cdp.rfm_cuts('2025-12-15 00:00:00Z', 'SELECT customer_id, at, amount FROM value_rfm_p') WHERE score IS NULL$$,
	$$SELECT 'refund_only', (SELECT count(*) FROM money WHERE customer_id NOT IN (SELECT customer_id FROM facts WHERE rule = 'net')) UNION ALL
	SELECT 'skipped_null', count(*) FILTER (WHERE customer_id IS NULL OR at IS NULL OR amount IS NULL) FROM value_rfm_p UNION ALL
	SELECT 'after_as_of', count(*) FILTER (WHERE customer_id IS NOT NULL AND amount IS NOT NULL AND at > '2025-12-15 00:00:00Z') FROM value_rfm_p$$, 'rfm_cuts counts what is left out');
SELECT is((SELECT sum(customers) FROM cdp.rfm_cuts(:as_of, 'SELECT customer_id, at, amount FROM value_rfm_p', refunds => 'cancel') WHERE measure = 'refund_only'),
	(SELECT count(*)::numeric FROM money WHERE customer_id NOT IN (SELECT customer_id FROM facts WHERE rule = 'cancel')), '... customers whose purchases were all cancelled among them');
SELECT set_eq($$SELECT measure, score, from_value, to_value, customers FROM cdp.rfm_cuts('2025-12-15 00:00:00Z', 'SELECT customer_id, at, amount FROM value_rfm_p') WHERE customers > 0 AND score IS NOT NULL$$,
	$$WITH t AS (SELECT * FROM cdp.rfm_table('2025-12-15 00:00:00Z', 'SELECT customer_id, at, amount FROM value_rfm_p')) SELECT 'recency', r, min(extract(epoch FROM recency)), max(extract(epoch FROM recency)), count(*) FROM t GROUP BY r
	UNION ALL SELECT 'frequency', f, min(frequency), max(frequency), count(*) FROM t GROUP BY f UNION ALL SELECT 'monetary', m, min(monetary), max(monetary), count(*) FROM t GROUP BY m$$, 'rfm_cuts gives the range and size of every score');

-- order, parallel, split: the state is the same to the byte, with every kind of money
UPDATE value_rfm_p SET amount = 1e17 WHERE shuffle < 0.01;
UPDATE value_rfm_p SET amount = amount + 1e-11 WHERE shuffle BETWEEN 0.01 AND 0.02;
-- four of them are more than 64 bits of 10^-8
UPDATE value_rfm_p SET amount = sign(amount) * 3e10 WHERE customer_id BETWEEN 1 AND 50 AND amount <> 0;
CREATE TEMP TABLE state AS SELECT cdp._rfm_all(customer_id, at, amount, :as_of) AS s FROM value_rfm_p;
SELECT is((SELECT cdp._rfm_all(customer_id, at, amount, :as_of)::text FROM (SELECT * FROM value_rfm_p ORDER BY shuffle OFFSET 0) x), (SELECT s::text FROM state), 'the order of the rows does not matter');
SELECT is((SELECT cdp._rfm_all(customer_id, at, amount, :as_of)::text FROM (SELECT * FROM value_rfm_p ORDER BY shuffle DESC OFFSET 0) x), (SELECT s::text FROM state), '... another order');
CREATE AGGREGATE pg_temp.put_together(cdp.rfm_summary) (SFUNC = cdp._rfm_all_combine, STYPE = cdp.rfm_summary, FINALFUNC = cdp._rfm_all_final);
SELECT is((SELECT pg_temp.put_together(s)::text FROM (SELECT cdp._rfm_all(customer_id, at, amount, :as_of) AS s FROM value_rfm_p GROUP BY part) x), (SELECT s::text FROM state), 'split and combined, as objects');
SELECT is((SELECT pg_temp.put_together(s::text::cdp.rfm_summary)::text FROM (SELECT cdp._rfm_all(customer_id, at, amount, :as_of) AS s FROM value_rfm_p GROUP BY part) x), (SELECT s::text FROM state), 'split, written, read and combined');
CREATE FUNCTION pg_temp.plan_of(q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE t text := ''; l text;
BEGIN FOR l IN EXECUTE 'EXPLAIN (COSTS OFF) ' || q LOOP t := t || l || E'\n'; END LOOP; RETURN t; END $$;
CREATE TEMP TABLE serial AS SELECT * FROM cdp.rfm_table(:as_of, 'SELECT customer_id, at, amount, ''CNY'' FROM value_rfm_p');
CREATE TEMP TABLE serial_cancel AS SELECT * FROM cdp.rfm_table(:as_of, 'SELECT customer_id, at, amount FROM value_rfm_p', refunds => 'cancel');
ALTER TABLE value_rfm_p SET (parallel_workers = 2);
SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0;
SELECT matches(pg_temp.plan_of('SELECT cdp._rfm_all(customer_id, at, amount, now()) FROM value_rfm_p'), 'Finalize.*Gather.*Partial', 'the plan is parallel');
SELECT is((SELECT cdp._rfm_all(customer_id, at, amount, :as_of)::text FROM value_rfm_p), (SELECT s::text FROM state), 'parallel: the same');
SELECT set_eq('SELECT * FROM cdp.rfm_table(''2025-12-15 00:00:00Z'', ''SELECT customer_id, at, amount, ''''CNY'''' FROM value_rfm_p'')', 'SELECT * FROM serial', '... the table as well');
SELECT set_eq('SELECT * FROM cdp.rfm_table(''2025-12-15 00:00:00Z'', ''SELECT customer_id, at, amount FROM value_rfm_p'', refunds => ''cancel'')', 'SELECT * FROM serial_cancel', '... and under a rule');
SELECT set_eq('SELECT * FROM cdp._rfm_rows((SELECT s FROM state))', 'SELECT * FROM serial', 'a stored state gives the same rows');
-- sorting by bytes against the server's, beyond what is sorted by comparing
SELECT is((SELECT cdp._rfm_all(i, '2025-01-01', 1, '2026-01-01')::text::cdp.rfm_summary::text FROM (SELECT (hashint8extended(i, 7) >> (i % 60)::int) AS i FROM generate_series(1, 3000) i) x),
	(SELECT cdp._rfm_all(i, '2025-01-01', 1, '2026-01-01')::text FROM (SELECT (hashint8extended(i, 7) >> (i % 60)::int) AS i FROM generate_series(1, 3000) i ORDER BY 1 OFFSET 0) x), 'ids all over bigint, below zero too');
-- more customers than the first table of them has room for
SELECT results_eq($$SELECT count(*), sum(customer_id), min(frequency), max(frequency), sum(monetary) FROM cdp._rfm_rows((SELECT cdp._rfm_all(i, '2025-01-01', 1, '2026-01-01') FROM generate_series(1, 300000) i))$$,
	$$VALUES (300000::bigint, 45000150000::numeric, 1::bigint, 1::bigint, 300000::numeric)$$, 'three hundred thousand customers');
-- an order below zero is a refund, and what was paid back of it another one
SELECT results_eq($$SELECT gross, refunded, frequency FROM cdp._rfm_rows((SELECT cdp._rfm_all(1, '2025-01-01', a, '2026-01-01', r, 'CNY') FROM (VALUES (20, 1.5), (-5, 2)) v(a, r)))$$,
	$$VALUES (20::numeric, 8.5::numeric, 1::bigint)$$, 'refunds of a refund');

-- binary states: what is sent comes back; damaged ones are refused or are states again, the server lives
CREATE TEMP TABLE sent AS SELECT cdp._rfm_all(customer_id, at, amount, :as_of) AS s FROM value_rfm_p GROUP BY part;
INSERT INTO sent VALUES ('()');
SELECT current_setting('data_directory') || '/value_rfm.bin' AS file \gset
COPY sent TO :'file' (FORMAT binary);
CREATE TEMP TABLE back (s cdp.rfm_summary);
COPY back FROM :'file' (FORMAT binary);
SELECT bag_eq('SELECT s::text FROM back', 'SELECT s::text FROM sent', 'binary round trip');
CREATE FUNCTION pg_temp.damage(path text) RETURNS TABLE (how text, answer text) LANGUAGE plpgsql AS $$
DECLARE
	good bytea := (SELECT cdp._rfm_summary_send(cdp._rfm_all(i, '2025-12-31Z', 1.50 * i, '2026-01-01Z', 0.5, 'CNY')) FROM generate_series(1, 9) i);
	bad  bytea;
BEGIN
	FOR i IN 0 .. 999 LOOP
		how := CASE i % 3 WHEN 0 THEN 'cut' WHEN 1 THEN 'changed' ELSE 'longer' END;
		bad := CASE i % 3 WHEN 0 THEN substr(good, 1, 1 + floor(random() * (length(good) - 1))::int)
		                  WHEN 1 THEN set_byte(good, floor(random() * length(good))::int, floor(random() * 256)::int)
		                  ELSE good || decode(lpad(to_hex(floor(random() * 65536)::int), 4, '0'), 'hex') END;
		BEGIN
			EXECUTE format('COPY (SELECT %L::bytea) TO %L (FORMAT binary)', bad, path);
			TRUNCATE pg_temp.back;
			EXECUTE format('COPY pg_temp.back FROM %L (FORMAT binary)', path);
			-- what came in is sound: its own text form is accepted
			SELECT CASE WHEN s::text::cdp.rfm_summary::text = s::text THEN 'sound' ELSE 'unsound' END INTO answer FROM pg_temp.back;
		EXCEPTION WHEN OTHERS THEN
			answer := sqlstate;
		END;
		RETURN NEXT;
	END LOOP;
END $$;
CREATE TEMP TABLE damage AS SELECT * FROM pg_temp.damage(:'file');
SELECT set_has($$VALUES ('22P03'), ('08P01'), ('sound')$$, 'SELECT DISTINCT answer FROM damage', 'damaged binary states: 22P03, a protocol error or a sound state');
SELECT is_empty('SELECT FROM damage WHERE how <> ''changed'' AND answer = ''sound'' ', 'neither short nor long ones come in');
SELECT * FROM finish();
ROLLBACK;
