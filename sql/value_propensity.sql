-- value_propensity: how likely a customer does something soon, from what he did lately.
-- Page: doc/value_propensity.md  Tests: test/sql/value_propensity.sql
--
-- A logistic model per goal, an event's name.  It learns from the customers who were seen in the lookback before as_of - horizon:
-- their features then, and whether the goal came within the horizon.
--
--	     |-- lookback: features --|-- horizon: did the goal come? --|
--	                         as_of - horizon                      as_of

-- @code
CREATE OR REPLACE PROCEDURE cdp.fit_propensity(goal text, horizon interval DEFAULT '7 days', lookback interval DEFAULT '30 days', as_of timestamptz DEFAULT NULL)
	LANGUAGE plpgsql
AS $$
DECLARE
	run  bigint;
	fits jsonb;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	as_of := cdp._as_of(as_of);
	horizon := coalesce(horizon, '7 days');
	lookback := coalesce(lookback, '30 days');
	IF goal IS NULL THEN
		RAISE EXCEPTION 'goal must not be NULL' USING ERRCODE = 'null_value_not_allowed', HINT = 'It is the name of an event, Order Completed for example.';
	ELSIF extract(epoch FROM horizon) <= 0 OR extract(epoch FROM lookback) <= 0 THEN
		RAISE EXCEPTION 'horizon and lookback must be longer than nothing' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example 7 days and 30 days.';
	END IF;
	BEGIN
		run := cdp._job_begin('fit_propensity', 1);
	EXCEPTION WHEN object_in_use THEN
		RAISE EXCEPTION 'a propensity is being fitted already' USING ERRCODE = 'lock_not_available', HINT = 'SELECT * FROM cdp.job_status shows by whom.';
	END;
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._job_step(run);
	fits := cdp._fit_propensity(goal, horizon, lookback, as_of);
	PERFORM cdp._store_value_models(goal, fits);
	PERFORM cdp._job_progress(run, 1);
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._job_end(run);
	IF fits = '[]' THEN
		RAISE NOTICE 'nobody was seen in the lookback, there is no model of this goal';
	END IF;
END $$;
COMMENT ON PROCEDURE cdp.fit_propensity(text, interval, interval, timestamptz) IS 'Fits a logistic model of whether a customer does goal, the name of an event, within horizon, from his last lookback: ln(1 + n) of each of the 20 most frequent events (those of the extension left out), days since the last one, visits (30 minutes without an event end one), money put into the cart, repeat purchases. A ridge of 1 keeps coefficients finite where few customers seem to tell the goal for sure. Learns from the customers seen in the lookback before as_of - horizon. The model is a row of cdp.value_model, name propensity, scope goal. as_of: NULL is cdp.now(). Commits, so it cannot run inside a transaction. Errors: 22004, 22023, 55P03 one is being fitted already, 42501.';

CREATE OR REPLACE FUNCTION cdp._propensity_features(events text[], lookback interval, as_of timestamptz, only_customer bigint DEFAULT NULL)
	RETURNS TABLE (customer_id bigint, features float8[])
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	WITH seen AS (
		SELECT coalesce(a.customer_id, e.profile_id) AS customer_id, e.name, e.occurred_at, e.properties
		FROM cdp.event e LEFT JOIN cdp.profile_alias a USING (profile_id)
		WHERE e.occurred_at > as_of - lookback AND e.occurred_at <= as_of AND e.source IS DISTINCT FROM 'cdp'
			AND (only_customer IS NULL OR e.profile_id IN (SELECT only_customer UNION ALL SELECT x.profile_id FROM cdp.profile_alias x WHERE x.customer_id = only_customer))),
	gaps AS (
		SELECT s.*, s.occurred_at - lag(s.occurred_at) OVER (PARTITION BY s.customer_id ORDER BY s.occurred_at) AS gap FROM seen s),
	told AS (
		SELECT g.customer_id, ARRAY[
				ln(1 + count(*) FILTER (WHERE g.name = events[1])),
				ln(1 + count(*) FILTER (WHERE g.name = events[2])),
				ln(1 + count(*) FILTER (WHERE g.name = events[3])),
				ln(1 + count(*) FILTER (WHERE g.name = events[4])),
				ln(1 + count(*) FILTER (WHERE g.name = events[5])),
				ln(1 + count(*) FILTER (WHERE g.name = events[6])),
				ln(1 + count(*) FILTER (WHERE g.name = events[7])),
				ln(1 + count(*) FILTER (WHERE g.name = events[8])),
				ln(1 + count(*) FILTER (WHERE g.name = events[9])),
				ln(1 + count(*) FILTER (WHERE g.name = events[10])),
				ln(1 + count(*) FILTER (WHERE g.name = events[11])),
				ln(1 + count(*) FILTER (WHERE g.name = events[12])),
				ln(1 + count(*) FILTER (WHERE g.name = events[13])),
				ln(1 + count(*) FILTER (WHERE g.name = events[14])),
				ln(1 + count(*) FILTER (WHERE g.name = events[15])),
				ln(1 + count(*) FILTER (WHERE g.name = events[16])),
				ln(1 + count(*) FILTER (WHERE g.name = events[17])),
				ln(1 + count(*) FILTER (WHERE g.name = events[18])),
				ln(1 + count(*) FILTER (WHERE g.name = events[19])),
				ln(1 + count(*) FILTER (WHERE g.name = events[20])),
				extract(epoch FROM as_of - max(g.occurred_at)) / 86400,
				ln(count(*) FILTER (WHERE g.gap IS NULL OR g.gap > '30 minutes')),
				ln(1 + greatest(0, coalesce(sum(CASE WHEN g.name = 'Product Added' AND jsonb_typeof(g.properties->'price') = 'number'
					THEN (g.properties->>'price')::float8 * CASE WHEN jsonb_typeof(g.properties->'quantity') = 'number' THEN (g.properties->>'quantity')::float8 ELSE 1 END END), 0)))
			]::float8[] AS list
		FROM gaps g GROUP BY g.customer_id),
	bought AS (
		SELECT coalesce(a.customer_id, o.profile_id) AS customer_id, count(DISTINCT (o.ordered_at AT TIME ZONE current_setting('cdp.timezone'))::date) - 1 AS x
		FROM cdp.sales_order o LEFT JOIN cdp.profile_alias a USING (profile_id)
		WHERE cdp._is_purchase(o.status) AND o.ordered_at <= as_of
			AND (only_customer IS NULL OR o.profile_id IN (SELECT only_customer UNION ALL SELECT x.profile_id FROM cdp.profile_alias x WHERE x.customer_id = only_customer))
		GROUP BY 1)
	SELECT t.customer_id, t.list || ln(1 + coalesce(b.x, 0))::float8 FROM told t LEFT JOIN bought b USING (customer_id);
END $$;
COMMENT ON FUNCTION cdp._propensity_features(text[], interval, timestamptz, bigint) IS 'internal: 24 features of every customer, or of one, who was seen in the lookback';

CREATE OR REPLACE FUNCTION cdp._fit_propensity(goal text, horizon interval, lookback interval, as_of timestamptz) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1
AS $$
DECLARE
	begun  timestamptz := as_of - horizon;
	events text[];
	fit    jsonb;
	n      bigint;
BEGIN
	SELECT coalesce(array_agg(x.name ORDER BY x.n DESC, x.name COLLATE "C"), '{}') INTO events FROM (
		SELECT e.name, count(*) AS n FROM cdp.event e
		WHERE e.occurred_at > begun - lookback AND e.occurred_at <= begun AND e.source IS DISTINCT FROM 'cdp'
		GROUP BY e.name ORDER BY count(*) DESC, e.name COLLATE "C" LIMIT 20) x;
	WITH did AS (
		SELECT DISTINCT coalesce(a.customer_id, e.profile_id) AS customer_id FROM cdp.event e LEFT JOIN cdp.profile_alias a USING (profile_id)
		WHERE e.name = goal AND e.occurred_at > begun AND e.occurred_at <= as_of)
	SELECT to_jsonb(cdp.fit_logistic(d.customer_id IS NOT NULL, f.features, 1, 1)), count(*) INTO fit, n
	FROM cdp._propensity_features(events, lookback, begun) f LEFT JOIN did d USING (customer_id);
	IF n = 0 OR fit IS NULL OR jsonb_typeof(fit) = 'null' THEN
		RETURN '[]';
	END IF;
	RETURN jsonb_build_array(cdp._model_fields(fit, '{coefficients}') || jsonb_build_object('name', 'propensity', 'chosen', true,
		'data_from', begun - lookback, 'data_until', as_of, 'customers', n, 'time_zone', current_setting('cdp.timezone'),
		'bic', jsonb_array_length(fit->'coefficients') * ln(n) - 2 * (fit->>'log_likelihood')::float8,
		'diagnostics', jsonb_build_object('events', events, 'horizon', horizon, 'lookback', lookback)));
END $$;
COMMENT ON FUNCTION cdp._fit_propensity(text, interval, interval, timestamptz) IS 'internal: the model of a goal as a row for cdp._store_value_models(); [] when nobody was seen';

CREATE OR REPLACE FUNCTION cdp._propensity_model(goal text, OUT value_model_id bigint, OUT events text[], OUT lookback interval) RETURNS record
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF goal IS NULL THEN
		RAISE EXCEPTION 'goal must not be NULL' USING ERRCODE = 'null_value_not_allowed', HINT = 'It is the name of an event, Order Completed for example.';
	END IF;
	SELECT m.value_model_id, ARRAY(SELECT jsonb_array_elements_text(m.diagnostics->'events')), (m.diagnostics->>'lookback')::interval
	INTO _propensity_model.value_model_id, events, lookback
	FROM cdp.value_model m WHERE m.name = 'propensity' AND m.scope = goal ORDER BY m.value_model_id DESC LIMIT 1;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no propensity of "%"', goal USING ERRCODE = 'undefined_object', HINT = 'CALL cdp.fit_propensity(goal) makes one.';
	END IF;
END $$;
COMMENT ON FUNCTION cdp._propensity_model(text) IS 'internal: the newest model of a goal; 22004, 42704';

-- @access
('function', 'fit_propensity', 'EXECUTE', '{operator}'),
('function', '_fit_propensity', 'EXECUTE', '{operator}'),
('function', '_propensity_features', 'EXECUTE', '{operator}'),
('function', '_propensity_model', 'EXECUTE', '{operator}'),
('function', 'propensity', 'EXECUTE', '{reader,application}'),
('function', 'propensity_table', 'EXECUTE', '{reader}'),

-- @view
CREATE OR REPLACE FUNCTION cdp.propensity(customer_id bigint, goal text, as_of timestamptz DEFAULT NULL) RETURNS float8
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m    record;
	id   bigint := cdp.customer_id(propensity.customer_id);
	list float8[];
BEGIN
	PERFORM cdp._require_version();
	SELECT * INTO m FROM cdp._propensity_model(goal);
	IF id IS NULL THEN
		RETURN NULL;
	END IF;
	SELECT f.features INTO list FROM cdp._propensity_features(m.events, m.lookback, coalesce(propensity.as_of, cdp.now()), id) f;
	RETURN cdp.predict_logistic(cdp.as_logistic(m.value_model_id), list);
END $$;
COMMENT ON FUNCTION cdp.propensity(bigint, text, timestamptz) IS 'Probability that a customer does goal within the horizon that cdp.fit_propensity() was given, from what he did before as_of (NULL: cdp.now()). customer_id: any profile of his. NULL when he was not seen in the lookback. Errors: 22004 NULL goal, 42704 no model of this goal.';

CREATE OR REPLACE FUNCTION cdp.propensity_table(goal text, as_of timestamptz DEFAULT NULL) RETURNS TABLE (customer_id bigint, score float8)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m record;
BEGIN
	PERFORM cdp._require_version();
	SELECT * INTO m FROM cdp._propensity_model(goal);
	RETURN QUERY SELECT f.customer_id, cdp.predict_logistic((SELECT cdp.as_logistic(m.value_model_id)), f.features)
	FROM cdp._propensity_features(m.events, m.lookback, coalesce(propensity_table.as_of, cdp.now())) f;
END $$;
COMMENT ON FUNCTION cdp.propensity_table(text, timestamptz) IS 'The same as cdp.propensity() for every customer who was seen in the lookback, in no order. Errors: 22004 NULL goal, 42704 no model of this goal.';
