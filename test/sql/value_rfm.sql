-- cdp.rfm_table: refund rules, the eleven groups, cdp.rfm_cuts, the aggregate behind it, what is refused
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
DROP SCHEMA IF EXISTS value_rfm CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET cdp.now = '2026-01-01 00:00:00Z';
CREATE SCHEMA value_rfm;
CREATE TABLE value_rfm.p (customer_id bigint, at timestamptz, amount numeric, why text);
INSERT INTO value_rfm.p VALUES
	(1, '2025-10-01 10:00', 50, 'a'), (1, '2025-11-01 10:00', 50, 'b'), (1, '2025-12-01 10:00', 30, 'c'),
	(1, '2025-12-05 10:00', -50, 'takes b, the latest of 50'), (1, '2025-12-06 10:00', -7, 'equals nothing'),
	(2, '2025-12-01 10:00', 80, 'all of it comes back'), (2, '2025-12-09 10:00', -80, 'the next week'),
	(3, '2025-12-01 10:00', 80, 'all of it comes back'), (3, '2025-12-01 12:00', -80, 'the same day'),
	(4, '2025-12-01 10:00', -5, 'refunds only'), (4, '2025-12-02 10:00', -5, NULL),
	(5, '2025-12-10 10:00', -20, 'before what it would take'), (5, '2025-12-11 10:00', 20, NULL),
	(6, '2025-12-12 15:59', 10, 'before midnight in Shanghai'), (6, '2025-12-12 16:00', 10, 'after'), (6, '2025-12-12 20:00', -4, NULL),
	(6, '2025-12-20 10:00', 0, 'a gift'),
	(7, '2025-12-15', 5, 'refund and purchase of one moment'), (7, '2025-12-15', -5, NULL), (7, '2025-12-16', 5.00, NULL), (7, '2025-12-17', -5.0, NULL), (7, '2025-12-18', -5, 'nothing left to take'),
	(8, '2025-12-20 10:00', 1e-12, 'small'), (8, '2025-12-20 11:00', 1e30, 'huge'), (8, '2025-12-21 10:00', -1e30, 'takes the huge one'), (8, '2025-12-22 10:00', 1e-12, NULL),
	(NULL, '2025-12-01', 1, 'skipped'), (1, NULL, 1, 'skipped'), (1, '2025-12-01', NULL, 'skipped'), (NULL, '2026-05-01', NULL, 'skipped'),
	(1, '2026-01-01 00:00:00.000001', 1, 'not yet'), (9, '2026-03-01', 'NaN', 'not yet');
\set source '''SELECT customer_id, at, amount FROM value_rfm.p'''
SELECT rule, customer_id AS id, recency, frequency AS f, monetary, first_at::date, last_at, gross, refunded
FROM unnest('{ignore,net,net_day,cancel}'::text[]) WITH ORDINALITY r(rule, ord), LATERAL cdp.rfm_table(NULL, :source, refunds => rule) t ORDER BY ord, customer_id;
-- who has no purchase left is counted, and so are rows that are no row
SELECT rule, measure, customers FROM unnest('{ignore,net,net_day,cancel}'::text[]) WITH ORDINALITY r(rule, ord), LATERAL cdp.rfm_cuts(NULL, :source, refunds => rule) c
WHERE score IS NULL ORDER BY ord, measure;
-- days are those of cdp.timezone, whatever the session's is
SET cdp.timezone = 'UTC';
SELECT customer_id, frequency, first_at, last_at FROM cdp.rfm_table(NULL, :source, refunds => 'net_day') WHERE customer_id = 6;
RESET cdp.timezone;
SET TimeZone = 'America/New_York';
SELECT customer_id, frequency FROM cdp.rfm_table(NULL, :source, refunds => 'net_day') WHERE customer_id = 6;
SET TimeZone = 'UTC';

-- orders know their refunds: only a refund in full cancels, and it cancels that order
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount, refunded) VALUES
	('a', 1, '2025-12-01', 'completed', 50, 0), ('b', 1, '2025-12-10', 'completed', 100, 50), ('c', 1, '2025-12-20', 'refunded', 70, 70),
	('d', 2, '2025-12-01', 'refunded', 10, 10), ('e', 3, '2025-12-01', 'paid', 0, 0), ('f', 3, '2025-12-02', 'cancelled', 5, 0);
SELECT rule, customer_id AS id, recency, frequency AS f, monetary, last_at, gross, refunded
FROM unnest('{ignore,net,net_day,cancel}'::text[]) WITH ORDINALITY r(rule, ord), LATERAL cdp.rfm_table(refunds => rule) t ORDER BY ord, customer_id;
SELECT measure, customers FROM cdp.rfm_cuts(refunds => 'cancel') WHERE score IS NULL ORDER BY 1;
SELECT customer_id, monetary, refunded FROM cdp.rfm_table(refunds => 'cancel', currency => 'CNY') ORDER BY 1;
-- the rules with other currencies: a refund that is converted equals no purchase of another day's rate
INSERT INTO cdp.currency_rate (from_currency, to_currency, valid_from, rate) VALUES ('USD', 'CNY', '2025-01-01', 7), ('USD', 'CNY', '2025-12-01', 8);
SELECT rule, t.customer_id, frequency, monetary FROM unnest('{net,net_day,cancel}'::text[]) WITH ORDINALITY r(rule, ord), LATERAL cdp.rfm_table(NULL, $$
	SELECT * FROM (VALUES (1, date '2025-10-01', 10, 'USD'), (1, '2025-10-02', -10, 'USD'), (2, '2025-10-01', 10, 'USD'), (2, '2025-12-02', -10, 'USD'), (3, '2025-12-02', 80, 'CNY'), (3, '2025-12-03', -10, 'USD')) v $$,
	currency => 'CNY', refunds => rule) t ORDER BY ord, 2;

-- cuts of each method
CREATE TABLE value_rfm.ten AS SELECT i AS customer_id, '2025-12-11'::timestamptz - least(i, 7) * interval '1 day' AS at, (i % 4)::numeric(10,2) AS amount FROM generate_series(1, 10) i UNION ALL
	SELECT i, '2025-12-01', 1 FROM generate_series(6, 10) i;
\set ten '''SELECT customer_id, at, amount FROM value_rfm.ten'''
SELECT * FROM cdp.rfm_cuts(NULL, :ten);
SELECT measure, score, from_value, to_value, customers FROM cdp.rfm_cuts(NULL, :ten, method => 'nested', bins => 2) WHERE score IS NOT NULL;
SELECT measure, score, from_value, to_value, customers FROM cdp.rfm_cuts(NULL, :ten, method => 'threshold', bins => 3, r_cuts => '{22 days,25 days}', f_cuts => '{2,Infinity}', m_cuts => '{-1,2.005}') WHERE score IS NOT NULL;
SELECT customer_id, score FROM cdp.rfm_table(NULL, :ten, method => 'threshold', bins => 3, r_cuts => '{22 days,25 days}', f_cuts => '{2,Infinity}', m_cuts => '{-1,2.005}') ORDER BY 1;
SELECT * FROM cdp.rfm_cuts(NULL, 'SELECT 1, now(), 1 WHERE false', bins => 2);
SELECT measure, score, from_value, to_value FROM cdp.rfm_cuts(NULL, 'SELECT i, date ''2025-01-01'', 10.0 / i FROM generate_series(1, 3) i', bins => 2, monetary => 'mean') WHERE measure = 'monetary';
-- limits that nobody and everybody reaches
SELECT DISTINCT group8 FROM cdp.rfm_table(NULL, :ten, lang => 'en', r_high => '-100 days', f_high => 'Infinity', m_high => 1e40);
SELECT DISTINCT group8 FROM cdp.rfm_table(NULL, :ten, lang => 'en', r_high => '100000 years', f_high => '-Infinity', m_high => -1e40);

-- the eleven groups: by five scores, names and cells are rows
SELECT sort, rfm_group, label_zh, label_en, count(c) AS cells FROM cdp.rfm_group g LEFT JOIN cdp.rfm_cell c USING (rfm_group) WHERE scheme = 11 GROUP BY g.rfm_group ORDER BY sort;
SELECT customer_id, score, group8, group11 FROM cdp.rfm_table(NULL, :ten, lang => 'en') ORDER BY 1;
SELECT count(*), count(group11) FROM cdp.rfm_table(NULL, :ten, bins => 4);
UPDATE cdp.rfm_cell SET rfm_group = 'loyal' WHERE rfm_cell = '511';
UPDATE cdp.rfm_group SET label_zh = '老朋友' WHERE rfm_group = 'loyal';
DELETE FROM cdp.rfm_cell WHERE rfm_cell = '415';
SELECT score, group11 FROM cdp.rfm_table(NULL, :ten) WHERE score IN ('511', '415') ORDER BY 1;
CALL cdp.migrate();
SELECT count(*), count(*) FILTER (WHERE rfm_cell = '511' AND rfm_group = 'loyal') AS kept FROM cdp.rfm_cell;

-- money that 64 bits of 10^-8 do not hold
SELECT customer_id, monetary, gross, refunded, m FROM cdp.rfm_table(NULL, $$ SELECT * FROM (VALUES (1, date '2025-10-01', 90000000000), (1, '2025-10-01', 90000000000.5), (1, '2025-10-02', -1),
	(2, '2025-10-01', 1e15), (3, '2025-10-01', 0.000000001), (3, '2025-10-01', 1), (4, '2025-10-01', 1.00), (5, '2025-10-01', -3), (5, '2025-10-02', 3.0000000000)) v $$) ORDER BY 1;
SELECT customer_id, monetary, m, group8 FROM cdp.rfm_table(NULL, $$ SELECT * FROM (VALUES (1, date '2025-10-01', 1), (1, '2025-10-01', 1), (1, '2025-10-01', 0), (2, '2025-10-01', 0.6666), (3, '2025-10-01', 2)) v $$,
	monetary => 'mean', high => 'median', lang => 'en') ORDER BY 1;

-- the aggregate: state, combining, misuse
SELECT cdp._rfm_all(NULL, NULL, NULL, '2026-01-01Z') FROM generate_series(1, 2);
SELECT (cdp._rfm_rows(cdp._rfm_all(i, '2025-12-01Z', i, '2026-01-01Z'))).score FROM generate_series(1, 5) i ORDER BY 1;
SELECT customer_id, frequency, monetary FROM cdp._rfm_rows((SELECT cdp._rfm_all(1, '2025-12-01Z', 10, '2026-01-01Z', 3, 'CNY') FROM generate_series(1, 3)), lang => 'en');
CREATE AGGREGATE value_rfm.put_together(cdp.rfm_summary) (SFUNC = cdp._rfm_all_combine, STYPE = cdp.rfm_summary);
CREATE FUNCTION pg_temp.try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	h text;
	v text;
BEGIN
	EXECUTE sql INTO v;
	RETURN concat_ws(' ', 'accepted:', v);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', sqlstate, sqlerrm, h);
END $$;
SELECT q, pg_temp.try(q) FROM unnest(ARRAY[
	'SELECT cdp._rfm_all(1, now(), 1, NULL)', 'SELECT cdp._rfm_all(1, now(), 1, ''infinity'')', 'SELECT cdp._rfm_all(1, now(), 1, now() + i * interval ''1 s'') FROM generate_series(1, 2) i',
	'SELECT cdp._rfm_all(1, ''2025-01-01Z'', ''-Infinity'', ''2026-01-01Z'')', 'SELECT cdp._rfm_all(1, ''-infinity'', 1, ''2026-01-01Z'')',
	'SELECT cdp._rfm_all(1, ''2025-01-01Z'', 1, ''2026-01-01Z'', -1, ''CNY'')', 'SELECT cdp._rfm_all(1, ''2025-01-01Z'', 1, ''2026-01-01Z'', ''NaN'', ''CNY'')',
	'SELECT cdp._rfm_all(1, ''2025-01-01Z'', 1, ''2026-01-01Z'', 0, c) FROM unnest(''{USD,CNY}''::text[]) c', 'SELECT cdp._rfm_all(1, ''2025-01-01Z'', 1, ''2026-01-01Z'', 0, NULL)',
	'SELECT cdp._rfm_sorted(i, ''2025-01-01Z'', 1, ''2026-01-01Z'', NULL, '''', true) FROM unnest(''{1,2,1}''::int[]) i', 'SELECT cdp._rfm_sorted(1, ''2025-01-01Z'', 1, ''2026-01-01Z'', NULL, '''', i = 1) FROM generate_series(1, 2) i',
	'SELECT cdp._rfm_sorted(1, ''2025-01-01Z'', 1, ''2026-01-01Z'', -1, '''', false)', 'SELECT cdp._rfm_sorted(1, ''2025-01-01Z'', ''NaN'', ''2026-01-01Z'', 1, '''', false)',
	'SELECT cdp._rfm_all_accum(''()'', 1, now(), 1, now())', 'SELECT cdp._rfm_all_combine(''()'', ''()'')', 'SELECT cdp._rfm_all_final(''()'')', 'SELECT cdp._rfm_all_final(NULL)',
	'SELECT value_rfm.put_together(s) FROM (SELECT cdp._rfm_all(1, ''2025-01-01Z'', 1, d) AS s FROM unnest(''{2026-01-01Z,2026-01-02Z}''::timestamptz[]) d GROUP BY d) x',
	'SELECT value_rfm.put_together(s) FROM (SELECT cdp._rfm_all(1, ''2025-01-01Z'', 1, ''2026-01-01Z'', 0, c) AS s FROM unnest(''{CNY,USD}''::text[]) c GROUP BY c) x',
	'SELECT value_rfm.put_together(s) FROM (SELECT cdp._rfm_sorted(1, ''2025-01-01Z'', 1, ''2026-01-01Z'', 0, ''CNY'', c) AS s FROM unnest(''{true,false}''::boolean[]) c GROUP BY c) x',
	'SELECT value_rfm.put_together(s) FROM (SELECT cdp._rfm_sorted(1, ''2025-01-01Z'', 1, ''2026-01-01Z'', 0, ''CNY'', true) AS s FROM generate_series(1, 2) c GROUP BY c) x',
	'SELECT count(*) FROM cdp._rfm_rows((SELECT cdp._rfm_sorted(1, ''2025-01-01Z'', 1, ''2026-01-01Z'', 0, ''CNY'', true)))', 'SELECT count(*) FROM cdp._rfm_rows((SELECT cdp._rfm_sorted(1, ''2025-01-01Z'', 1, ''2026-01-01Z'', 0, ''CNY'', true)), refunds => ''net_day'')',
	'SELECT count(*) FROM cdp._rfm_rows((SELECT cdp._rfm_all(1, ''2025-01-01Z'', 1, ''2026-01-01Z'')), refunds => ''cancel'')', 'SELECT count(*) FROM cdp._rfm_rows(NULL)', 'SELECT count(*) FROM cdp._rfm_rows(''()'')',
	'SELECT count(*) FROM cdp.rfm_table(''294000-01-01Z'', ''SELECT 1, timestamptz ''''4700-01-01 BC'''', 1'')',
	'SELECT count(*) FROM cdp.rfm_cuts(''294000-01-01Z'', ''SELECT 1, timestamptz ''''4700-01-01 BC'''', 1'')']) q;

-- what a query can do wrong; after each the session goes on
CREATE TABLE value_rfm.log (t text);
CREATE FUNCTION value_rfm.noisy(int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO value_rfm.log VALUES ('x'); RETURN $1; END $$;
CREATE FUNCTION value_rfm.fails_late(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF i = 50000 THEN RAISE EXCEPTION 'late' USING ERRCODE = 'P0042'; END IF; RETURN i; END $$;
SELECT f, rule, pg_temp.try(format('SELECT count(*) FROM cdp.%s(NULL, %L, refunds => %L)', f, q, rule)) FROM unnest('{rfm_table,rfm_cuts}'::text[]) f, unnest('{net,cancel}'::text[]) rule, unnest(ARRAY['SELEKT', 'SELECT 1, 2, 3', 'SELECT 1',
	'SELECT 1, now(), 1; SELECT 1', 'DELETE FROM value_rfm.log', 'SELECT value_rfm.noisy(1), now(), 1', 'SELECT value_rfm.fails_late(i), now(), 1 FROM generate_series(1, 60000) i', 'SELECT 1, date ''2025-01-01'', ''NaN''::float8',
	'SELECT 1, ''infinity''::timestamptz, 1', 'SELECT 1, date ''2025-01-01'', 1, c FROM unnest(''{EUR,USD}''::text[]) c']) q;
SELECT count(*) AS written FROM value_rfm.log;
SELECT count(*) FROM cdp.rfm_table(NULL, :ten);
SELECT a, pg_temp.try('SELECT count(*) FROM cdp.rfm_cuts(' || a || ')') FROM unnest(ARRAY['''infinity''', 'method => ''decile''', 'method => repeat(''x'', 100)', 'bins => 1', 'bins => 101', 'high => ''mode''', 'monetary => ''max''', 'refunds => ''all''', 'lang => ''fr''', 'm_high => ''NaN''',
	'f_cuts => ''{1,2,3,4}''', 'method => ''threshold''', 'method => ''threshold'', bins => 2, r_cuts => ''{1 day}'', f_cuts => ''{2}'', m_cuts => ''{NULL}''', 'purchases => ''SELECT 1, now(), 1'', currency => ''CNY''',
	'purchases => ''SELECT 1, date ''''2024-01-01'''', 1, ''''USD'''''', currency => ''CNY''']) a;
SET statement_timeout = '20ms';
SELECT count(*) FROM cdp.rfm_table(NULL, 'SELECT i, date ''2025-01-01'', 1 FROM generate_series(1, 100000000) i');
\echo :LAST_ERROR_SQLSTATE
RESET statement_timeout;
SELECT count(*) FROM cdp.rfm_table(NULL, :ten);

-- who may: a query reads with the caller's rights, whatever the caller may of ours
CREATE ROLE value_rfm_reader;
SELECT cdp.grant_access('reader', 'value_rfm_reader');
REVOKE ALL ON cdp.sales_order, cdp.profile_alias FROM value_rfm_reader;
SET ROLE value_rfm_reader;
SELECT count(*) FROM cdp.rfm_table(refunds => 'net_day');
SELECT count(*) FROM cdp.rfm_cuts();
SELECT count(*) FROM cdp.rfm_cuts(NULL, 'SELECT profile_id, ordered_at, amount FROM cdp.sales_order');
\echo :LAST_ERROR_SQLSTATE
UPDATE cdp.rfm_cell SET rfm_group = 'lost';
RESET ROLE;
SELECT cdp.revoke_access('reader', 'value_rfm_reader');
DROP ROLE value_rfm_reader;

-- plans: the aggregate is split between workers; under a rule the rows are sorted, by workers too
CREATE TABLE value_rfm.big AS SELECT i % 5000 AS customer_id, '2025-01-01'::timestamptz + i * interval '1 minute' AS at, i % 97 AS amount FROM generate_series(1, 50000) i;
ALTER TABLE value_rfm.big SET (parallel_workers = 2);
ANALYZE value_rfm.big;
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
EXPLAIN (COSTS OFF) SELECT cdp._rfm_all(customer_id, at, amount, '2026-01-01') FROM value_rfm.big;
EXPLAIN (COSTS OFF) SELECT cdp._rfm_sorted(customer_id, at, amount, '2026-01-01', NULL, '', true) FROM (SELECT * FROM value_rfm.big ORDER BY customer_id) s;
SELECT count(*), sum(monetary) FROM cdp.rfm_table(NULL, 'SELECT customer_id, at, amount FROM value_rfm.big');
DROP SCHEMA value_rfm CASCADE;
