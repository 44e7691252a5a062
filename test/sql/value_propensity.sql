-- value_propensity: the goal is a purchase; who filled his cart in week 1 buys in week 2, mostly.
\set SHOW_CONTEXT never
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
RESET client_min_messages;
SET cdp.now = '2026-03-15 00:00:00+00';
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', i::text)) ORDER BY i) FROM generate_series(1, 60) i));
-- all look; every third fills the cart; of those five in six buy in the week after, of the others one in ten
SELECT cdp.track_many(jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', i::text), 'name', e.name, 'occurred_at', e.at, 'properties', e.properties))) AS events
FROM generate_series(1, 60) i CROSS JOIN LATERAL (
	VALUES ('Product Viewed', timestamptz '2026-03-03 10:00+00', '{}'::jsonb, true),
		('Product Viewed', '2026-03-03 10:20+00', '{}', i % 2 = 0),
		('Product Viewed', '2026-03-04 10:00+00', '{}', i % 5 = 0),
		('Product Added', '2026-03-04 11:00+00', '{"price": 10, "quantity": 2}', i % 3 = 0),
		('Order Completed', '2026-03-10 09:00+00', '{}', CASE WHEN i % 3 = 0 THEN i % 6 <> 0 OR i % 4 = 0 ELSE i % 10 = 0 END),
		('Product Viewed', '2026-03-13 10:00+00', '{}', i <= 30),
		('Product Added', '2026-03-13 11:00+00', '{"price": "x", "quantity": null}', i <= 3)) e(name, at, properties, holds)
WHERE e.holds;

-- bad input, nothing is written
CALL cdp.fit_propensity(NULL);
CALL cdp.fit_propensity('Order Completed', horizon => '0 days');
CALL cdp.fit_propensity('Order Completed', as_of => 'infinity');
SELECT cdp.propensity(1, 'Order Completed');
SELECT * FROM cdp.propensity_table(NULL);
SELECT count(*) FROM cdp.value_model;

CALL cdp.fit_propensity('Order Completed', as_of => '2026-03-12 00:00+00');
SELECT name, scope, chosen, customers, data_from, data_until, converged, reason, diagnostics->'events' AS events, diagnostics->>'lookback' AS lookback,
	jsonb_array_length(parameters->'coefficients') AS coefficients, (diagnostics->'fit'->>'auc')::float8 > 0.8 AS tells
FROM cdp.value_model;
-- who looks now: those with a full cart are likelier, and the two faces agree
SELECT count(*) AS seen, count(*) FILTER (WHERE score BETWEEN 0 AND 1) AS probabilities,
	min(score) FILTER (WHERE customer_id <= 3) > max(score) FILTER (WHERE customer_id BETWEEN 4 AND 30 AND customer_id % 3 <> 0) AS cart_counts,
	bool_and(score = cdp.propensity(customer_id, 'Order Completed', '2026-03-14 00:00+00')) AS agree
FROM cdp.propensity_table('Order Completed', '2026-03-14 00:00+00');
-- two people are one: what both did counts, under both ids
SELECT cdp.merge_customers(1, 60, 'test');
SELECT count(*) FILTER (WHERE customer_id = 60) AS merged_away, count(*) AS seen FROM cdp.propensity_table('Order Completed');
SELECT cdp.propensity(60, 'Order Completed') = cdp.propensity(1, 'Order Completed') AS same;
-- not seen in the lookback, nobody at all
SELECT cdp.propensity(1, 'Order Completed', '2026-06-01') IS NULL AS not_seen, cdp.propensity(4711, 'Order Completed') IS NULL AS nobody, cdp.propensity(NULL, 'Order Completed') IS NULL AS null_in;
-- a time without events gives no model; a goal that nobody reached gives one that says so
CALL cdp.fit_propensity('Order Completed', as_of => '2020-01-01');
CALL cdp.fit_propensity('Quote Requested', as_of => '2026-03-12 00:00+00');
SELECT name, scope, converged, boundary, reason FROM cdp.value_model ORDER BY value_model_id;
SELECT cdp.propensity(1, 'Quote Requested') < 0.1 AS unlikely;
-- a goal with the name of a scope is no model of purchases
SELECT cdp.track_many(jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', i::text), 'name', 'sales_order', 'occurred_at', timestamptz '2026-03-10 10:00+00'))) AS events
FROM generate_series(1, 60) i WHERE i % 7 IN (0, 3);
CALL cdp.fit_propensity('sales_order', as_of => '2026-03-12 00:00+00');
SELECT (SELECT count(*) FROM cdp.value_model WHERE scope = 'sales_order' AND chosen) AS chosen, name AS scores, model_id FROM cdp._score_model();
CALL cdp.score_customers();
SELECT cdp.model() IS NULL AS no_model_of_purchases, (SELECT detail FROM cdp.health() WHERE check_name = 'value_model') AS health;
