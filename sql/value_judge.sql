-- value_judge: how well a fitted model tells what is known by now, and who left of those it knew.
-- Page: doc/value_judge.md  Tests: test/sql/value_judge.sql
--
-- The functions run in the middle of cdp.fit_value_models() and read its temporary table _cdp_value_fit (value_store): x, t_x,
-- t_cal of every customer as of now, c_x, c_t_x, c_t_cal one holdout ago, later and before the purchases of the holdout and of
-- the time as long before it.  What they find goes into value_model.diagnostics; the views here take it out again.

-- @code
CREATE OR REPLACE FUNCTION cdp._judge_model(name text, model jsonb, as_of timestamptz, purchases text, days int, zone text, data_from timestamptz) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
-- What the model expects of the time it was fitted to.  A customer's clock starts on his first day; by the end of day d he
-- has been known for d - first day.
DECLARE
	max_periods CONSTANT int := 10000;
	day0      date := (data_from AT TIME ZONE zone)::date;
	last_day  date := (as_of AT TIME ZONE zone)::date;
	tracking  jsonb := '[]';
	frequency jsonb;
	source    text := coalesce(cdp._purchases_query(purchases), cdp._orders_query());
	pmf       text;
BEGIN
	-- one date of the year 1 among the purchases must not cost hours
	IF (last_day - day0) / days < max_periods THEN
		PERFORM cdp._begin_read_only();
		EXECUTE format($q$
			WITH firsts AS MATERIALIZED (
				SELECT (t.first_at AT TIME ZONE $3)::date AS day, count(*) AS n FROM pg_temp._cdp_value_fit t GROUP BY 1),
			lags AS MATERIALIZED (
				SELECT lag, cdp.expected_purchases((SELECT jsonb_populate_record(NULL::cdp.%1$I, $1)), lag / $4::float8) AS e
				FROM generate_series(0, $6 - $5) lag),
			days AS (
				SELECT DISTINCT s.customer_id, (s.occurred_at AT TIME ZONE $3)::date AS day FROM (%2$s) s
				WHERE s.amount >= 0 AND s.occurred_at <= $2),
			actual AS (SELECT (d.day - $5) / $4 + 1 AS period, count(*) AS n FROM days d GROUP BY 1),
			begun AS (SELECT (f.day - $5) / $4 + 1 AS period, sum(f.n) AS n FROM firsts f GROUP BY 1),
			expected AS (
				SELECT p AS period, sum(f.n * l.e) AS total FROM generate_series(1, ($6 - $5) / $4 + 1) p CROSS JOIN firsts f
				JOIN lags l ON l.lag = least($5 + p * $4 - 1, $6) - f.day GROUP BY p)
			SELECT jsonb_agg(jsonb_build_object('period', e.period, 'until', least($5 + e.period * $4, $6 + 1),
				'actual', coalesce(a.n, 0) - coalesce(b.n, 0), 'expected', round((coalesce(e.total, 0) - coalesce(e.before, 0))::numeric, 4)) ORDER BY e.period)
			FROM (SELECT *, lag(total) OVER (ORDER BY period) AS before FROM expected) e LEFT JOIN actual a USING (period) LEFT JOIN begun b USING (period)$q$,
			name || '_model', source) INTO tracking USING model, as_of, zone, days, day0, last_day;
		PERFORM cdp._end_read_only();
	END IF;
	pmf := CASE WHEN name = 'mbgcnbd' AND (model->>'k')::int = 1 THEN 'mbgnbd_model' WHEN name <> 'mbgcnbd' THEN name || '_model' END;
	EXECUTE format($q$
		WITH spans AS MATERIALIZED (SELECT t.t_cal, count(*) AS n FROM pg_temp._cdp_value_fit t GROUP BY 1),
		classes AS (SELECT least(t.x, 7)::int AS x, count(*) AS n FROM pg_temp._cdp_value_fit t GROUP BY 1),
		expected AS (SELECT k, %s AS n FROM generate_series(0, 6) k)
		SELECT jsonb_agg(jsonb_build_object('x', k, 'customers', coalesce(c.n, 0), 'expected', round(CASE WHEN k < 7 THEN e.n
			ELSE (SELECT count(*) FROM pg_temp._cdp_value_fit) - (SELECT sum(n) FROM expected) END::numeric, 4)) ORDER BY k)
		FROM generate_series(0, 7) k LEFT JOIN classes c ON c.x = k LEFT JOIN expected e USING (k)$q$,
		CASE WHEN pmf IS NULL THEN 'NULL::float8'
			ELSE format('(SELECT sum(s.n * cdp.purchase_pmf((SELECT jsonb_populate_record(NULL::cdp.%I, $1)), k, s.t_cal)) FROM spans s)', pmf) END)
		INTO frequency USING model;
	RETURN jsonb_build_object('tracking', tracking, 'frequency', frequency);
END $$;
COMMENT ON FUNCTION cdp._judge_model(text, jsonb, timestamptz, text, int, text, timestamptz) IS 'internal: repeat purchases per period (none when there are more than 10,000 periods) and customers per number of them, as they were and as the model expects them';

CREATE OR REPLACE FUNCTION cdp._judge_holdout(name text, model jsonb, span float8) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result jsonb;
BEGIN
	EXECUTE format($q$
		WITH told AS MATERIALIZED (
			SELECT least(t.c_x, 7)::int AS x, t.later, t.before,
				cdp.expected_purchases((SELECT jsonb_populate_record(NULL::cdp.%I, $1)), t.c_x, t.c_t_x, t.c_t_cal, $2) AS expected
			FROM pg_temp._cdp_value_fit t WHERE t.c_x IS NOT NULL)
		SELECT jsonb_build_object(
			'calibration', (SELECT jsonb_agg(jsonb_build_object('x', c.x, 'customers', c.n, 'actual', c.actual, 'expected', round(c.expected::numeric, 4)) ORDER BY c.x)
				FROM (SELECT x, count(*) AS n, sum(later) AS actual, sum(expected) AS expected FROM told GROUP BY x) c),
			'holdout_totals', (SELECT jsonb_build_object('customers', count(*), 'actual', sum(later), 'expected', round(sum(expected)::numeric, 4),
				'mean_absolute_error', round(avg(abs(later - expected))::numeric, 6), 'last_period', sum(before),
				'last_period_mean_absolute_error', round(avg(abs(later - before))::numeric, 6)) FROM told))$q$, name || '_model')
	INTO result USING model, span;
	RETURN result;
END $$;
COMMENT ON FUNCTION cdp._judge_holdout(text, jsonb, float8) IS 'internal: what a model of the time before the holdout expects of the holdout, and what came';

CREATE OR REPLACE FUNCTION cdp._fit_churn(name text, model jsonb, mean_gap float8) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
-- Churn is no purchase within the holdout, of those who were known before it.
DECLARE
	fit     jsonb;
	deciles jsonb;
BEGIN
	IF mean_gap IS NULL OR NOT mean_gap > 0 THEN
		RETURN NULL;
	END IF;
	EXECUTE format($q$
		CREATE TEMP TABLE _cdp_value_churn ON COMMIT DROP AS
		SELECT t.later = 0 AS gone, cdp._churn_features(
			cdp.p_alive((SELECT jsonb_populate_record(NULL::cdp.%I, %L::jsonb)), %s),
			(t.c_t_cal - t.c_t_x) / cdp._typical_gap(t.c_x, t.c_t_x, %L::float8), t.c_x, t.c_t_cal) AS features
		FROM pg_temp._cdp_value_fit t WHERE t.c_x IS NOT NULL$q$, name || '_model', model, 't.c_x, t.c_t_x, t.c_t_cal', mean_gap);
	SELECT to_jsonb(cdp.fit_logistic(t.gone, t.features)) INTO fit FROM pg_temp._cdp_value_churn t;
	IF fit IS NULL OR jsonb_typeof(fit) = 'null' THEN
		RETURN NULL;
	END IF;
	SELECT jsonb_agg(jsonb_build_object('decile', d.decile, 'customers', d.n, 'predicted', round(d.predicted::numeric, 6), 'observed', round(d.observed::numeric, 6)) ORDER BY d.decile)
	INTO deciles FROM (
		SELECT s.decile, count(*) AS n, avg(s.p) AS predicted, avg(s.gone::int) AS observed
		FROM (SELECT t.gone, t.p, ntile(10) OVER (ORDER BY t.p) AS decile
			FROM (SELECT c.gone, cdp.predict_logistic((SELECT jsonb_populate_record(NULL::cdp.logistic_model, fit)), c.features) AS p
				FROM pg_temp._cdp_value_churn c) t WHERE t.p IS NOT NULL) s
		GROUP BY s.decile) d;
	DROP TABLE pg_temp._cdp_value_churn;
	RETURN jsonb_build_array(cdp._model_fields(fit, '{coefficients}') || jsonb_build_object('name', 'churn', 'chosen', fit->'converged', 'bic',
		jsonb_array_length(fit->'coefficients') * ln((fit->>'customers')::float8) - 2 * (fit->>'log_likelihood')::float8,
		'diagnostics', jsonb_build_object('deciles', deciles)));
END $$;
COMMENT ON FUNCTION cdp._fit_churn(text, jsonb, float8) IS 'internal: logistic model of no purchase within the holdout';

-- @access
('function', '_judge_model', 'EXECUTE', '{operator}'),
('function', '_judge_holdout', 'EXECUTE', '{operator}'),
('function', '_fit_churn', 'EXECUTE', '{operator}'),
('table', 'value_tracking', 'SELECT', '{reader}'),
('table', 'value_frequency', 'SELECT', '{reader}'),
('table', 'value_calibration', 'SELECT', '{reader}'),
('table', 'value_holdout', 'SELECT', '{reader}'),
('table', 'churn_calibration', 'SELECT', '{reader}'),

-- @view
CREATE OR REPLACE VIEW cdp.value_tracking AS
SELECT m.value_model_id, t.period, t.until, t.actual, t.expected,
	sum(t.actual) OVER w AS actual_cumulative, sum(t.expected) OVER w AS expected_cumulative
FROM cdp.value_model m, jsonb_to_recordset(m.diagnostics->'tracking') t(period int, until date, actual bigint, expected numeric)
WINDOW w AS (PARTITION BY m.value_model_id ORDER BY t.period);
COMMENT ON VIEW cdp.value_tracking IS 'Repeat purchases per period (unit of the model) over its data, as they were and as the chosen model expects them; no rows when the data last longer than 10,000 periods; until: the day after the period''s last. Unique: value_model_id, period.';

CREATE OR REPLACE VIEW cdp.value_frequency AS
SELECT m.value_model_id, t.x, t.x = 7 AS and_more, t.customers, t.expected
FROM cdp.value_model m, jsonb_to_recordset(m.diagnostics->'frequency') t(x int, customers bigint, expected numeric);
COMMENT ON VIEW cdp.value_frequency IS 'Customers by number of repeat purchases x (7: seven and more), as they are and as the chosen model expects them; expected is NULL for MBG/CNBD-k with k > 1, which has no closed form for it. Unique: value_model_id, x.';

CREATE OR REPLACE VIEW cdp.value_calibration AS
SELECT m.value_model_id, t.x, t.x = 7 AS and_more, t.customers, t.actual, t.expected
FROM cdp.value_model m, jsonb_to_recordset(m.diagnostics->'calibration') t(x int, customers bigint, actual bigint, expected numeric);
COMMENT ON VIEW cdp.value_calibration IS 'Customers by x before the holdout (7: seven and more) with the purchases they made in the holdout and those that a model of the same kind, fitted to the time before it, expected. Unique: value_model_id, x.';

CREATE OR REPLACE VIEW cdp.value_holdout AS
SELECT m.value_model_id, (m.diagnostics->>'holdout')::interval AS holdout, t.customers, t.actual, t.expected, t.mean_absolute_error,
	t.last_period, t.last_period_mean_absolute_error
FROM cdp.value_model m, jsonb_to_record(m.diagnostics->'holdout_totals')
	t(customers bigint, actual bigint, expected numeric, mean_absolute_error numeric, last_period bigint, last_period_mean_absolute_error numeric)
WHERE m.diagnostics ? 'holdout_totals';
COMMENT ON VIEW cdp.value_holdout IS 'Purchases in the holdout by customers known before it: actual, expected by a model fitted to the time before, mean absolute error per customer; last_period and its error: what "as many as in the period before" would have said. Unique: value_model_id.';

CREATE OR REPLACE VIEW cdp.churn_calibration AS
SELECT m.value_model_id, t.decile, t.customers, t.predicted, t.observed
FROM cdp.value_model m, jsonb_to_recordset(m.diagnostics->'deciles') t(decile int, customers bigint, predicted numeric, observed numeric);
COMMENT ON VIEW cdp.churn_calibration IS 'Tenths of the customers by churn score, 1 the lowest: mean predicted probability of no purchase in the holdout, and the share of those who made none. Unique: value_model_id, decile.';
