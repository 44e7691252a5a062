-- Stages, tiers and the churn score: what must hold whatever the numbers are.  To repeat a run:
-- psql -v seed=NUMBER -f test/pgtap/value_lifecycle.sql (or CDP_SEED).
\if :{?seed}
\else
\getenv seed CDP_SEED
\endif
\if :{?seed}
\else
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 1000000 AS seed \gset
\endif
BEGIN;
SELECT plan(15);
SELECT diag('value_lifecycle: seed ' || :seed || ' (CDP_SEED chooses another)');
SELECT setseed((:seed % 1000000) / 1000000.0)::text = '' AS seeded \gset
SET LOCAL client_min_messages = warning;
SET LOCAL cdp.now = '2026-07-01T12:00:00+08:00';

CREATE TEMP TABLE c AS SELECT i, floor(random() * 9)::bigint AS n, CASE WHEN random() < 0.9 THEN round((random() * 5)::numeric, 2)::float8 END AS g, CASE WHEN random() < 0.9 THEN round(random()::numeric, 2)::float8 END AS p,
	(ARRAY['获取期', '成长期', '成熟期', '衰退期', '流失期', NULL])[1 + floor(6 * random())::int] AS previous, random() < 0.5 AS bought, random() AS u FROM generate_series(1, 5000) i;
CREATE FUNCTION pg_temp.plain(n bigint, g float8, p float8) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE WHEN g > 3 OR p < 0.2 THEN '流失期' WHEN g > 1.5 OR p < 0.5 THEN '衰退期' WHEN n <= 1 THEN '获取期' WHEN n >= 5 THEN '成熟期' ELSE '成长期' END $$;
CREATE FUNCTION pg_temp.down(stage text) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT CASE stage WHEN '流失期' THEN 2 WHEN '衰退期' THEN 1 ELSE 0 END $$;
SELECT is_empty('SELECT * FROM c WHERE cdp.lifecycle_stage(n, g, p) IS DISTINCT FROM pg_temp.plain(n, g, p)', 'the rules as rows are the rules as CASE');
SELECT is_empty('SELECT * FROM c WHERE bought AND cdp.lifecycle_stage(n, g, p, previous, bought) IS DISTINCT FROM pg_temp.plain(n, g, p)', 'who has bought is where the rules put him');
SELECT is_empty('SELECT * FROM c WHERE NOT bought AND previous IS NOT NULL AND cdp.lifecycle_stage(n, g, p, previous, false) IS DISTINCT FROM
	CASE WHEN pg_temp.down(pg_temp.plain(n, g, p)) > pg_temp.down(previous) THEN pg_temp.plain(n, g, p) ELSE previous END', 'who has not only goes down');
-- random walks of a refitted model without a purchase: no stage is entered twice
SELECT is_empty($$WITH RECURSIVE w(i, step, stage) AS (
		SELECT i, 0, cdp.lifecycle_stage(n, g, p) FROM c WHERE i <= 300
		UNION ALL SELECT w.i, step + 1, cdp.lifecycle_stage(5, random() * 4, random(), stage, false) FROM w WHERE step < 20)
	SELECT i FROM (SELECT i, stage, lag(stage) OVER (PARTITION BY i ORDER BY step) AS before FROM w) x WHERE pg_temp.down(stage) < pg_temp.down(before) OR (stage <> before AND pg_temp.down(stage) = pg_temp.down(before))$$, 'nothing flaps');

-- tiers
CREATE TEMP TABLE clv AS SELECT i, floor(200 * random() * random()) AS clv FROM generate_series(1, 1237) i;
CREATE TEMP TABLE tiered AS SELECT *, cdp._value_tier(rank() OVER (ORDER BY clv DESC), count(*) OVER ()) AS tier FROM clv;
SELECT is_empty('SELECT clv FROM tiered GROUP BY clv HAVING count(DISTINCT tier) > 1', 'equal values are in one tier');
SELECT is_empty($$SELECT t.* FROM tiered t WHERE tier <> (SELECT v.value_tier FROM cdp.value_tier v
	WHERE t.clv >= (SELECT c.clv FROM clv c ORDER BY c.clv DESC OFFSET ceil(1237 * v.top_percent / 100)::int - 1 LIMIT 1) ORDER BY v.top_percent LIMIT 1)$$, 'a tier reaches to the value of the last customer of its share');

-- churn
CREATE TEMP TABLE m AS SELECT j, ROW(ARRAY[b[1], b[2], b[3], b[4], b[5]], NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::cdp.logistic_model AS model, b
	FROM (SELECT j, ARRAY(SELECT 4 * random() - 2 + j * 0 FROM generate_series(1, 5)) AS b FROM generate_series(1, 20) j) x;
INSERT INTO m VALUES (0, NULL, NULL);
CREATE TEMP TABLE s AS SELECT c.i, c.n::float8 AS x, c.g, c.p, c.u * 300 AS t, m.j, m.model, m.b FROM c, m WHERE c.i <= 300 AND c.g IS NOT NULL AND c.p IS NOT NULL;
SELECT is_empty('SELECT * FROM s WHERE NOT coalesce(cdp.churn_score(p, g, x, t, model) BETWEEN 0 AND 1, false)', 'a score is a probability');
SELECT is_empty('SELECT * FROM s WHERE p < 1 AND cdp.churn_score(least(p + 0.1, 1), g, x, t, model) > cdp.churn_score(p, g, x, t, model) + 1e-12', 'it falls with p_alive');
SELECT is_empty('SELECT * FROM s WHERE cdp.churn_score(p, g + 0.3, x, t, model) < cdp.churn_score(p, g, x, t, model) - 1e-12', 'it rises with gap_ratio');
SELECT is_empty('SELECT * FROM s WHERE j > 0 AND b[2] < 0 AND b[3] > 0 AND abs(cdp.churn_score(p, g, x, t, model) - cdp.predict_logistic(model, cdp._churn_features(p, g, x, t))) > 1e-12', 'with the signs as they should be it is the prediction of the model');
SELECT is_empty('SELECT * FROM s WHERE j = 0 AND abs(cdp.churn_score(p, g) - (1 - p * least(1, 1 / nullif(g, 0)))) > 1e-12', 'without a model it is the formula');
-- a model fitted to data that such a model made
CREATE TEMP TABLE seen AS SELECT p, g, x, t, random() < cdp.churn_score(p, g, x, t, ROW('{0.2,-0.7,0.9,-0.3,0.1}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)) AS gone
	FROM (SELECT 0.02 + 0.96 * random() AS p, exp(3 * random() - 1.5) AS g, floor(10 * random()) AS x, 1 + 100 * random() AS t FROM generate_series(1, 20000)) y;
SELECT is_empty($$SELECT b FROM (SELECT cdp.fit_logistic(gone, cdp._churn_features(p, g, x, t)) AS f FROM seen) y, unnest((f).coefficients, (f).se, '{0.2,-0.7,0.9,-0.3,0.1}'::float8[]) u(b, se, truth)
	WHERE abs(b - truth) > 4.5 * se$$, 'the trainer and the score look at the same features');

-- log: 200 customers, some merged, random changes
SELECT count(cdp.identify(jsonb_build_object('member_id', 'l' || i))) AS customers FROM generate_series(1, 200) i \gset
INSERT INTO cdp.lifecycle_log (customer_id, from_stage, to_stage, as_of)
	SELECT customer_id, lag(stage) OVER (PARTITION BY customer_id ORDER BY at), stage, at FROM (
		SELECT cdp.resolve('member_id', 'l' || i) AS customer_id, (ARRAY['获取期', '成长期', '成熟期', '衰退期', '流失期'])[1 + floor(5 * random())::int] AS stage, timestamptz '2026-07-05' - random() * interval '120 days' AS at
		FROM generate_series(1, 200) i, generate_series(1, 4)) x;
SELECT count(cdp.merge_customers(cdp.resolve('member_id', 'l' || i), cdp.resolve('member_id', 'l' || i + 100), 'test')) AS merged FROM generate_series(1, 20) i \gset
SELECT results_eq('SELECT from_stage, to_stage, customers FROM cdp.lifecycle_matrix WHERE customers > 0 ORDER BY from_stage COLLATE "C", to_stage COLLATE "C"', $$
	WITH who AS (SELECT DISTINCT cdp.customer_id(customer_id) AS c FROM cdp.lifecycle_log),
	at AS (SELECT (SELECT to_stage FROM cdp.lifecycle_log l WHERE l.customer_id = c AND as_of <= '2026-06-01T12:00:00+08:00' ORDER BY as_of DESC LIMIT 1) AS a,
		(SELECT to_stage FROM cdp.lifecycle_log l WHERE l.customer_id = c AND as_of <= '2026-07-01T12:00:00+08:00' ORDER BY as_of DESC LIMIT 1) AS b FROM who)
	SELECT a, b, count(*) FROM at WHERE a IS NOT NULL GROUP BY 1, 2 ORDER BY a COLLATE "C", b COLLATE "C"$$, 'the matrix is plain SQL');
SELECT is_empty('SELECT from_stage FROM cdp.lifecycle_matrix GROUP BY 1 HAVING sum(customers) > 0 AND abs(sum(share) - 1) > 0.001', 'shares of a stage add up');
SELECT results_eq('SELECT * FROM cdp.lifecycle_flow ORDER BY month, from_stage COLLATE "C", to_stage COLLATE "C"', $$
	SELECT to_char(as_of AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-01')::date, from_stage, to_stage, count(DISTINCT cdp.customer_id(customer_id)) FROM cdp.lifecycle_log
	GROUP BY 1, 2, 3 ORDER BY 1, from_stage COLLATE "C", to_stage COLLATE "C"$$, 'the flow is plain SQL');
SELECT * FROM finish();
ROLLBACK;
