-- value_judge: what the views of a fitted model show, against the purchases themselves and by hand
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
RESET client_min_messages;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET cdp.now = '2025-07-01 00:00+08';
CALL cdp.load_demo(500);
CALL cdp.fit_value_models();

-- what the views show adds up
SELECT sum(actual) = (SELECT sum(x) FROM cdp.btyd_table()) AS every_repeat_purchase, count(*) AS periods, max(actual_cumulative) = sum(actual) AS cumulated
FROM cdp.value_tracking;
SELECT sum(customers) = (SELECT count(*) FROM cdp.btyd_table()) AS every_customer, count(*) AS classes FROM cdp.value_frequency;
SELECT (SELECT sum(customers) FROM cdp.value_calibration) = h.customers AS same_customers, (SELECT sum(actual) FROM cdp.value_calibration) = h.actual AS same_purchases,
	h.actual = (SELECT sum(n.x - c.x) FROM cdp.btyd_table() n JOIN cdp.btyd_table(cdp.now() - interval '90 days') c USING (customer_id)) AS counted_again,
	h.last_period = (SELECT sum(c.x - coalesce(p.x, 0)) FROM cdp.btyd_table(cdp.now() - interval '90 days') c LEFT JOIN cdp.btyd_table(cdp.now() - interval '180 days') p USING (customer_id)) AS period_before,
	h.holdout, h.expected BETWEEN 0.5 * h.actual AND 2 * h.actual AS near
FROM cdp.value_holdout h;
SELECT count(*) AS tenths, sum(customers) = (SELECT customers FROM cdp.value_holdout) AS same_customers, bool_and(predicted BETWEEN 0 AND 1 AND observed BETWEEN 0 AND 1) AS probabilities,
	abs(sum(customers * (predicted - observed))) < 0.001 AS right_on_the_whole FROM cdp.churn_calibration;

-- by hand: days of Shanghai; the second purchase of customer 2 is in a week that begins there on Monday, when it is Sunday in UTC
CREATE TABLE value_judge (customer_id int, at timestamptz, amount numeric);
INSERT INTO value_judge VALUES
	(1, '2025-06-02 10:00+08', 5), (1, '2025-06-02 20:00+08', 5), (1, '2025-06-10 10:00+08', 5), (1, '2025-06-24 10:00+08', 5),
	(2, '2025-06-02 10:00+08', 5), (2, '2025-06-16 00:30+08', 5),
	(3, '2025-06-09 10:00+08', 5), (3, '2025-06-09 11:00+08', -5), (3, '2025-06-11 10:00+08', -1),
	(4, '2025-06-23 10:00+08', 5), (4, '2025-06-30 10:00+08', 5), (4, '2025-07-02 10:00+08', 5);
CALL cdp.fit_value_models('2025-06-30 12:00+08', 'SELECT * FROM value_judge', '7 days', '14 days');	-- a name of the caller's search_path
SELECT max(value_model_id) AS id FROM cdp.value_model WHERE chosen AND scope = 'query' AND name <> 'gammagamma' \gset
SELECT period, until, actual, expected > 0 AS expected, actual_cumulative, expected_cumulative = sum(expected) OVER (ORDER BY period) AS cumulated FROM cdp.value_tracking WHERE value_model_id = :id ORDER BY 1;
SELECT x, and_more, customers FROM cdp.value_frequency WHERE value_model_id = :id ORDER BY 1;
-- two weeks before, 1 and 2 had bought again and 3 had not; then 1 came once more, and 4 for the first time
SELECT x, and_more, customers, actual FROM cdp.value_calibration WHERE value_model_id = :id ORDER BY 1;
SELECT holdout, customers, actual, last_period, last_period_mean_absolute_error FROM cdp.value_holdout WHERE value_model_id = :id;
-- of these three, 2 and 3 stayed away
SELECT sum(customers) AS customers, sum(customers * observed) AS gone, abs(sum(customers * (predicted - observed))) < 0.001 AS right_on_the_whole FROM cdp.churn_calibration c
WHERE c.value_model_id = (SELECT max(value_model_id) FROM cdp.value_model WHERE name = 'churn' AND scope = 'query');

-- buyers as regular as a clock: several phases between two purchases, for which the spread of x has no closed form
CALL cdp.fit_value_models('2025-06-30 12:00+08', 'SELECT c, timestamptz ''2024-07-01 10:00+08'' + (c % 60) * interval ''1 day'' + i * (20 + c % 15) * interval ''1 day'', 10
	FROM generate_series(1, 300) c, generate_series(0, 5 + c % 12) i WHERE c % 5 <> 0 OR i = 0');
SELECT m.name, (m.parameters->>'k')::int > 1 AS phases, (SELECT count(*) FROM cdp.value_frequency f WHERE f.value_model_id = m.value_model_id AND f.expected IS NULL) AS without_expectation,
	(SELECT bool_and(t.expected >= 0) FROM cdp.value_tracking t WHERE t.value_model_id = m.value_model_id) AS tracked
FROM cdp.value_model m WHERE m.chosen AND m.scope = 'query' AND m.name NOT IN ('gammagamma', 'churn');
-- buyers at random, who leave at random: every customer is expected in some class, and the classes are about right
CALL cdp.fit_value_models('2025-06-30 12:00+08', 'SELECT g, timestamptz ''2024-12-01 10:00+08'' + (d + g % 30) * interval ''1 day'', 10 FROM generate_series(1, 400) g, generate_series(0, 180) d
	WHERE d = 0 OR (d < 20 + abs(hashint4(g)::bigint) % 400 AND abs(hashint4(g * 1000 + d)::bigint) % 1000 < (g % 10 + 1) * 3)');
SELECT max(value_model_id) AS id FROM cdp.value_model WHERE chosen AND scope = 'query' AND name NOT IN ('gammagamma', 'churn') \gset
SELECT abs(sum(expected) - sum(customers)) < 0.01 AS everybody, sum(customers) AS customers, max(abs(expected - customers)) < 40 AS about_right FROM cdp.value_frequency WHERE value_model_id = :id;
-- nobody came back: no gap, so no churn model; nobody was known before the holdout: no holdout
CALL cdp.fit_value_models('2025-06-30 12:00+08', 'SELECT g, timestamptz ''2025-06-01 10:00+08'' - g * interval ''1 day'', 10 FROM generate_series(1, 40) g');
SELECT count(*) FILTER (WHERE name = 'churn') AS churn, max(diagnostics->>'mean_gap') AS mean_gap FROM cdp.value_model WHERE chosen AND scope = 'query';
CALL cdp.fit_value_models('2025-06-30 12:00+08', 'SELECT g, timestamptz ''2025-06-01 10:00+08'' + i * interval ''5 days'', 10 FROM generate_series(1, 40) g, generate_series(0, g % 4) i');
SELECT max(value_model_id) AS id FROM cdp.value_model WHERE chosen AND scope = 'query' AND name NOT IN ('gammagamma', 'churn') \gset
SELECT (SELECT count(*) FROM cdp.value_tracking WHERE value_model_id = :id) AS periods, (SELECT count(*) FROM cdp.value_holdout WHERE value_model_id = :id) AS holdout,
	(SELECT count(*) FROM cdp.value_calibration WHERE value_model_id = :id) AS calibration;
DROP TABLE value_judge;
