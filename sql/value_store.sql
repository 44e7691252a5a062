-- value_store: fitted models as rows: which one is used, and on what it stands.
-- Page: doc/value_store.md  Tests: test/sql/value_store.sql, test/specs/value_fit_fit.spec
--
-- A fit reads the purchases three times, as of now, one holdout ago and two holdouts ago, into one temporary table:
--
--	---- two holdouts ago ---------- one holdout ago ---------- as_of
--	     |  "same as last period"    |  the holdout            |
--	      -> p_x                      -> c_x, c_t_x, c_t_cal     -> x, t_x, t_cal
--
-- The models that are stored are fitted to all of it; the chosen one is fitted once more to what was known one holdout ago, to
-- be judged by what came then, and the churn model learns from the same split (value_judge).

-- @code
CREATE OR REPLACE FUNCTION cdp._model_row(value_model_id bigint, name text) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- All fields of the model's type, as jsonb_populate_record() takes them.
DECLARE
	m record;
BEGIN
	IF value_model_id IS NULL THEN
		RETURN NULL;
	END IF;
	SELECT v.name, v.parameters || (v.diagnostics->'fit') AS fields INTO m FROM cdp.value_model v WHERE v.value_model_id = _model_row.value_model_id;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no model %', value_model_id USING ERRCODE = 'undefined_object', HINT = 'Models are listed in cdp.value_model.';
	ELSIF m.name <> _model_row.name AND NOT (_model_row.name = 'logistic' AND m.name IN ('churn', 'propensity')) THEN
		RAISE EXCEPTION 'model % is of type %', value_model_id, m.name USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Every type has a function of its own: cdp.as_bgnbd(), cdp.as_logistic(), and so on.';
	END IF;
	RETURN m.fields;
END $$;
COMMENT ON FUNCTION cdp._model_row(bigint, text) IS 'internal: the fields of a stored model of this type; 42704 no such model, 22023 it is of another type';

CREATE OR REPLACE FUNCTION cdp.as_bgnbd(value_model_id bigint) RETURNS cdp.bgnbd_model
	LANGUAGE sql STABLE
RETURN jsonb_populate_record(NULL::cdp.bgnbd_model, cdp._model_row(value_model_id, 'bgnbd'));
COMMENT ON FUNCTION cdp.as_bgnbd(bigint) IS 'The stored bgnbd model value_model_id as a value of its type, to the last digit, for the functions of models. NULL for NULL. Errors: 42704 no such model, 22023 it is of another type.';

CREATE OR REPLACE FUNCTION cdp.as_mbgnbd(value_model_id bigint) RETURNS cdp.mbgnbd_model
	LANGUAGE sql STABLE
RETURN jsonb_populate_record(NULL::cdp.mbgnbd_model, cdp._model_row(value_model_id, 'mbgnbd'));
COMMENT ON FUNCTION cdp.as_mbgnbd(bigint) IS 'The stored mbgnbd model value_model_id as a value of its type, to the last digit, for the functions of models. NULL for NULL. Errors: 42704 no such model, 22023 it is of another type.';

CREATE OR REPLACE FUNCTION cdp.as_paretonbd(value_model_id bigint) RETURNS cdp.paretonbd_model
	LANGUAGE sql STABLE
RETURN jsonb_populate_record(NULL::cdp.paretonbd_model, cdp._model_row(value_model_id, 'paretonbd'));
COMMENT ON FUNCTION cdp.as_paretonbd(bigint) IS 'The stored paretonbd model value_model_id as a value of its type, to the last digit, for the functions of models. NULL for NULL. Errors: 42704 no such model, 22023 it is of another type.';

CREATE OR REPLACE FUNCTION cdp.as_nbd(value_model_id bigint) RETURNS cdp.nbd_model
	LANGUAGE sql STABLE
RETURN jsonb_populate_record(NULL::cdp.nbd_model, cdp._model_row(value_model_id, 'nbd'));
COMMENT ON FUNCTION cdp.as_nbd(bigint) IS 'The stored nbd model value_model_id as a value of its type, to the last digit, for the functions of models. NULL for NULL. Errors: 42704 no such model, 22023 it is of another type.';

CREATE OR REPLACE FUNCTION cdp.as_mbgcnbd(value_model_id bigint) RETURNS cdp.mbgcnbd_model
	LANGUAGE sql STABLE
RETURN jsonb_populate_record(NULL::cdp.mbgcnbd_model, cdp._model_row(value_model_id, 'mbgcnbd'));
COMMENT ON FUNCTION cdp.as_mbgcnbd(bigint) IS 'The stored mbgcnbd model value_model_id as a value of its type, to the last digit, for the functions of models. NULL for NULL. Errors: 42704 no such model, 22023 it is of another type.';

CREATE OR REPLACE FUNCTION cdp.as_gammagamma(value_model_id bigint) RETURNS cdp.gammagamma_model
	LANGUAGE sql STABLE
RETURN jsonb_populate_record(NULL::cdp.gammagamma_model, cdp._model_row(value_model_id, 'gammagamma'));
COMMENT ON FUNCTION cdp.as_gammagamma(bigint) IS 'The stored gammagamma model value_model_id as a value of its type, to the last digit, for the functions of models. NULL for NULL. Errors: 42704 no such model, 22023 it is of another type.';

CREATE OR REPLACE FUNCTION cdp.as_bgbb(value_model_id bigint) RETURNS cdp.bgbb_model
	LANGUAGE sql STABLE
RETURN jsonb_populate_record(NULL::cdp.bgbb_model, cdp._model_row(value_model_id, 'bgbb'));
COMMENT ON FUNCTION cdp.as_bgbb(bigint) IS 'The stored bgbb model value_model_id as a value of its type, to the last digit, for the functions of models. NULL for NULL. Errors: 42704 no such model, 22023 it is of another type.';

CREATE OR REPLACE FUNCTION cdp.as_sbg(value_model_id bigint) RETURNS cdp.sbg_model
	LANGUAGE sql STABLE
RETURN jsonb_populate_record(NULL::cdp.sbg_model, cdp._model_row(value_model_id, 'sbg'));
COMMENT ON FUNCTION cdp.as_sbg(bigint) IS 'The stored sbg model value_model_id as a value of its type, to the last digit, for the functions of models. NULL for NULL. Errors: 42704 no such model, 22023 it is of another type.';

CREATE OR REPLACE FUNCTION cdp.as_logistic(value_model_id bigint) RETURNS cdp.logistic_model
	LANGUAGE sql STABLE
RETURN jsonb_populate_record(NULL::cdp.logistic_model, cdp._model_row(value_model_id, 'logistic'));
COMMENT ON FUNCTION cdp.as_logistic(bigint) IS 'The stored churn or propensity model value_model_id as a value of its type, to the last digit, for the functions of models. NULL for NULL. Errors: 42704 no such model, 22023 it is of another type.';

CREATE OR REPLACE FUNCTION cdp._typical_gap(x float8, t_x float8, mean_gap float8) RETURNS float8
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (t_x + mean_gap) / (x + 1);
COMMENT ON FUNCTION cdp._typical_gap(float8, float8, float8) IS 'internal: own mean gap between purchases, drawn to that of all customers as if one gap of theirs had been seen; in the unit of t_x; NULL when an argument is';

CREATE OR REPLACE FUNCTION cdp._unit_days(unit interval) RETURNS int
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF extract(month FROM unit) <> 0 OR extract(year FROM unit) <> 0 OR extract(epoch FROM unit) < 86400 OR extract(epoch FROM unit)::numeric % 86400 <> 0 THEN
		RAISE EXCEPTION 'unit must be a whole number of days' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example 7 days; months have no fixed length.';
	END IF;
	RETURN (extract(epoch FROM unit) / 86400)::int;
END $$;
COMMENT ON FUNCTION cdp._unit_days(interval) IS 'internal: days of a unit; 22023 when it is not a whole number of them';

CREATE OR REPLACE FUNCTION cdp._model_fields(fit jsonb, parameters text[]) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	-- what a row of cdp.value_model keeps of a fitted model; of a vector of parameters (logistic) the vector itself
	SELECT jsonb_build_object(
		'parameters', (SELECT jsonb_object_agg(p, fit->p) FROM unnest(parameters) p),
		'standard_errors', CASE WHEN jsonb_typeof(fit->'se') = 'array' THEN
			CASE WHEN parameters = '{coefficients}' THEN jsonb_build_object('coefficients', fit->'se')
				-- k of MBG/CNBD-k is chosen, not estimated: it has no standard error
				ELSE (SELECT jsonb_object_agg(p, fit->'se'->(ord::int - 1))
					FROM unnest(array_remove(parameters, 'k')) WITH ORDINALITY u(p, ord)) END END,
		'fit', fit - parameters);
END;
COMMENT ON FUNCTION cdp._model_fields(jsonb, text[]) IS 'internal: a fitted model in the parts that cdp.value_model keeps';

CREATE OR REPLACE FUNCTION cdp._fit_value_models(as_of timestamptz, purchases text, unit interval, holdout interval, currency text) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1
AS $$
-- Runs with the caller's rights: what the purchases are is the caller's query, what is stored is the answer.
DECLARE
	days       int := cdp._unit_days(unit);
	zone       text := current_setting('cdp.timezone');
	span       float8 := extract(epoch FROM holdout) / 86400 / days;
	bound      timestamptz := as_of - holdout;
	all_models CONSTANT jsonb := '{"bgnbd": ["r", "alpha", "a", "b"], "mbgnbd": ["r", "alpha", "a", "b"], "paretonbd": ["r", "alpha", "s", "beta"],
		"nbd": ["r", "alpha"], "mbgcnbd": ["k", "r", "alpha", "a", "b"], "gammagamma": ["p", "q", "v"]}';
	facts      record;
	name       text;
	arguments  text;
	names      text[];
	fit        jsonb;
	row_       jsonb;
	result     jsonb := '[]';
	chosen     jsonb;
	chosen_bic float8;
	nbd        jsonb;
	judged     jsonb := '{}';
	churn      jsonb;
	mean_gap   float8;
	correlation float8;
BEGIN
	IF to_regclass('pg_temp._cdp_value_fit') IS NOT NULL THEN
		DROP TABLE pg_temp._cdp_value_fit;	-- two fits in one transaction
	END IF;
	CREATE TEMP TABLE _cdp_value_fit ON COMMIT DROP AS
	SELECT n.customer_id, n.x::float8 AS x, n.t_x, n.t_cal, n.mean_amount, coalesce(n.log_gaps, 0) AS log_gaps, n.first_at, n.last_at,
		c.x::float8 AS c_x, c.t_x AS c_t_x, c.t_cal AS c_t_cal, coalesce(c.log_gaps, 0) AS c_log_gaps,
		CASE WHEN c.x IS NOT NULL THEN n.x - c.x END AS later, CASE WHEN c.x IS NOT NULL THEN c.x - coalesce(p.x, 0) END AS before
	FROM cdp.btyd_table(as_of, purchases, unit, 'ignore', currency) n
	LEFT JOIN cdp.btyd_table(bound, purchases, unit, 'ignore', currency) c USING (customer_id)
	LEFT JOIN cdp.btyd_table(bound - holdout, purchases, unit, 'ignore', currency) p USING (customer_id);
	SELECT count(*) AS customers, sum(t.x + 1)::bigint AS purchases, min(t.first_at) AS data_from, max(t.last_at) AS data_until,
		count(t.c_x) AS known INTO facts FROM pg_temp._cdp_value_fit t;
	IF facts.customers = 0 THEN
		RETURN result;
	END IF;
	SELECT sum(t.t_x) / nullif(sum(t.x), 0) INTO mean_gap FROM pg_temp._cdp_value_fit t;
	SELECT corr(t.x, t.mean_amount) INTO correlation FROM pg_temp._cdp_value_fit t WHERE t.x > 0;

	FOR name, arguments IN VALUES ('bgnbd', 'x, t.t_x, t.t_cal'), ('mbgnbd', 'x, t.t_x, t.t_cal'), ('paretonbd', 'x, t.t_x, t.t_cal'),
		('nbd', 'x, t.t_cal'), ('mbgcnbd', 'x, t.t_x, t.t_cal, t.log_gaps'), ('gammagamma', 'x, t.mean_amount')
	LOOP
		EXECUTE format('SELECT to_jsonb(cdp.%I(t.%s)) FROM pg_temp._cdp_value_fit t', 'fit_' || name, arguments) INTO fit;
		CONTINUE WHEN fit IS NULL OR jsonb_typeof(fit) = 'null';
		names := ARRAY(SELECT jsonb_array_elements_text(all_models->name));
		row_ := cdp._model_fields(fit, names) || jsonb_build_object('name', name, 'chosen', false, 'bic',
			cardinality(names) * ln(nullif((fit->>'customers')::float8, 0)) - 2 * (fit->>'log_likelihood')::float8);
		IF name = 'gammagamma' THEN
			row_ := row_ || jsonb_build_object('chosen', (fit->>'converged')::boolean, 'diagnostics', jsonb_build_object('correlation', correlation));
		ELSIF name = 'nbd' THEN
			nbd := row_;
		ELSIF name <> 'bgnbd' AND (fit->>'converged')::boolean AND (chosen IS NULL OR (row_->>'bic')::float8 < chosen_bic) THEN
			chosen := row_;
			chosen_bic := (row_->>'bic')::float8;
		END IF;
		result := result || row_;
	END LOOP;
	chosen := coalesce(chosen, nbd);
	IF chosen IS NULL THEN
		RETURN result;
	END IF;
	name := chosen->>'name';

	judged := cdp._judge_model(name, chosen->'parameters' || (chosen->'fit'), as_of, purchases, days, zone, facts.data_from);
	IF facts.known > 0 THEN
		-- the same kind of model, from what was known then
		EXECUTE format('SELECT to_jsonb(cdp.%I(%s)) FROM pg_temp._cdp_value_fit t WHERE t.c_x IS NOT NULL', 'fit_' || name,
			CASE name WHEN 'nbd' THEN 't.c_x, t.c_t_cal' WHEN 'mbgcnbd' THEN 't.c_x, t.c_t_x, t.c_t_cal, t.c_log_gaps'
			ELSE 't.c_x, t.c_t_x, t.c_t_cal' END) INTO fit;
		IF (fit->>'r')::float8 > 0 THEN
			judged := judged || cdp._judge_holdout(name, fit, span);
			churn := cdp._fit_churn(name, fit, mean_gap);
		END IF;
	END IF;
	judged := judged || jsonb_build_object('mean_gap', mean_gap, 'holdout', holdout);
	SELECT jsonb_agg(CASE WHEN r = chosen THEN r || jsonb_build_object('chosen', true, 'diagnostics', judged) ELSE r END) INTO result
	FROM jsonb_array_elements(result) r;
	RETURN (SELECT jsonb_agg(r || jsonb_build_object('unit', unit, 'time_zone', zone, 'refunds', 'ignore', 'currency', currency,
			'data_from', facts.data_from, 'data_until', facts.data_until, 'customers', facts.customers, 'purchases', facts.purchases))
		FROM jsonb_array_elements(result || coalesce(churn, '[]')) r);
END $$;
COMMENT ON FUNCTION cdp._fit_value_models(timestamptz, text, interval, interval, text) IS 'internal: all models of these purchases as rows for cdp._store_value_models(), the best of them judged by the past';

CREATE OR REPLACE PROCEDURE cdp.fit_value_models(as_of timestamptz DEFAULT NULL, purchases text DEFAULT NULL, unit interval DEFAULT '7 days',
	holdout interval DEFAULT '90 days', currency text DEFAULT NULL) LANGUAGE plpgsql
AS $$
DECLARE
	-- names in a query are the caller's: it is looked up before the path is pinned
	source CONSTANT text := cdp._purchases_query(purchases);
	run    bigint;
	fits   jsonb;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	as_of := cdp._as_of(as_of);
	unit := coalesce(unit, '7 days');
	holdout := coalesce(holdout, '90 days');
	PERFORM cdp._unit_days(unit);
	IF extract(epoch FROM holdout) <= 0 THEN
		RAISE EXCEPTION 'holdout must be longer than nothing' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example 90 days.';
	END IF;
	BEGIN
		run := cdp._job_begin('fit_value_models', 3);
	EXCEPTION WHEN object_in_use THEN
		RAISE EXCEPTION 'models are being fitted already' USING ERRCODE = 'lock_not_available', HINT = 'SELECT * FROM cdp.job_status shows by whom.';
	END;
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._job_step(run);
	fits := cdp._fit_value_models(as_of, source, unit, holdout, currency);
	PERFORM cdp._job_progress(run, 1);
	PERFORM cdp._store_value_models(CASE WHEN purchases IS NULL THEN 'sales_order' ELSE 'query' END, fits);
	PERFORM cdp._job_progress(run, 1);
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._job_step(run);
	IF purchases IS NULL THEN
		PERFORM cdp._fit_repurchase(as_of);
	END IF;
	PERFORM cdp._job_progress(run, 1);
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._job_end(run);
	IF fits = '[]' THEN
		RAISE NOTICE 'there are no purchases to fit a model to';
	END IF;
END $$;
COMMENT ON PROCEDURE cdp.fit_value_models(timestamptz, text, interval, interval, text) IS
'Fits BG/NBD, MBG/NBD, Pareto/NBD, NBD, MBG/CNBD-k and Gamma-Gamma to the purchases up to as_of, chooses one by BIC among the converged MBG/NBD, MBG/CNBD-k and Pareto/NBD (NBD when none is), trains the churn model on what came in the last holdout, fits the repurchase cycles and keeps all of it in cdp.value_model and cdp.repurchase_cycle; older rows stay. as_of: NULL is cdp.now(). purchases: NULL is cdp.sales_order (scope sales_order, which cdp.score_customers() uses), else the text of a query as cdp.rfm_table() takes it, run read-only with your rights (scope query). unit: of t_x and t_cal, whole days. holdout: how much at the end the chosen model is judged by. currency: as in cdp.btyd_table(). Data that cannot be fitted is no error: converged, boundary and reason tell. Progress in cdp.job_status. Commits, so it cannot run inside a transaction. Errors: 22023, 55P03 it is running already, 42501, and those of the query.';

CREATE OR REPLACE FUNCTION cdp._health_value_store() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('cdp.value_model') IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY SELECT 'value_model', coalesce(m.fitted_at > cdp.now() - interval '21 days' AND NOT m.boundary, true),
		CASE WHEN m.name IS NULL THEN 'no model yet; CALL cdp.fit_value_models()' ELSE format('%s fitted %s days ago to %s customers: %s',
			m.name, floor(extract(epoch FROM cdp.now() - m.fitted_at) / 86400), m.customers, m.reason) END
	FROM (VALUES (1)) one LEFT JOIN cdp.value_model m ON m.value_model_id = cdp._chosen_model('purchases');
END $$;
COMMENT ON FUNCTION cdp._health_value_store() IS 'internal: row of value_store in cdp.health(): the chosen model, its age, whether it stands at a boundary';

-- @access
('function', 'fit_value_models', 'EXECUTE', '{operator}'),
('function', '_fit_value_models', 'EXECUTE', '{operator}'),
('function', '_model_fields', 'EXECUTE', '{operator}'),
('function', '_store_value_models', 'EXECUTE', '{operator}'),
('function', '_typical_gap', 'EXECUTE', '{reader}'),
('function', '_unit_days', 'EXECUTE', '{reader}'),
('function', '_model_row', 'EXECUTE', '{reader}'),
('function', '_chosen_model', 'EXECUTE', '{reader}'),
('function', 'model', 'EXECUTE', '{reader}'),
('function', 'as_bgnbd', 'EXECUTE', '{reader}'),
('function', 'as_mbgnbd', 'EXECUTE', '{reader}'),
('function', 'as_paretonbd', 'EXECUTE', '{reader}'),
('function', 'as_nbd', 'EXECUTE', '{reader}'),
('function', 'as_mbgcnbd', 'EXECUTE', '{reader}'),
('function', 'as_gammagamma', 'EXECUTE', '{reader}'),
('function', 'as_bgbb', 'EXECUTE', '{reader}'),
('function', 'as_sbg', 'EXECUTE', '{reader}'),
('function', 'as_logistic', 'EXECUTE', '{reader}'),
('function', '_health_value_store', 'EXECUTE', '{reader,application}'),
('table', 'value_model', 'SELECT', '{reader}'),

-- @data
PERFORM cdp._ensure_table('value_model', $t$ (
	value_model_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name            text NOT NULL,
	scope           text NOT NULL,
	chosen          boolean NOT NULL DEFAULT false,
	unit            interval,
	time_zone       text,
	refunds         text,
	currency        text,
	data_from       timestamptz,
	data_until      timestamptz,
	customers       bigint,
	purchases       bigint,
	parameters      jsonb NOT NULL,
	standard_errors jsonb,
	log_likelihood  float8,
	bic             float8,
	converged       boolean NOT NULL,
	boundary        boolean NOT NULL DEFAULT false,
	reason          text,
	diagnostics     jsonb NOT NULL DEFAULT '{}',
	fitted_at       timestamptz NOT NULL DEFAULT cdp.now()
) $t$);
CREATE INDEX IF NOT EXISTS value_model_chosen ON cdp.value_model (scope, name, value_model_id) WHERE chosen;
COMMENT ON TABLE cdp.value_model IS 'Fitted models, one row per model and fit, written by cdp.fit_value_models() and cdp.fit_propensity(); old rows stay until you delete them.';
COMMENT ON COLUMN cdp.value_model.name IS 'bgnbd, mbgnbd, paretonbd, nbd, mbgcnbd, gammagamma, churn, propensity';
COMMENT ON COLUMN cdp.value_model.scope IS 'what it was fitted to: sales_order, query; of propensity the event';
COMMENT ON COLUMN cdp.value_model.chosen IS 'used by cdp.score_customers(): the newest fit, one model of purchases, one of money, one of churn';
COMMENT ON COLUMN cdp.value_model.unit IS 'unit of t_x, t_cal and of all horizons of the model';
COMMENT ON COLUMN cdp.value_model.time_zone IS 'whose calendar days purchases were merged by';
COMMENT ON COLUMN cdp.value_model.refunds IS 'rule for refunds of the data: ignore';
COMMENT ON COLUMN cdp.value_model.currency IS 'currency of the money, when one was given';
COMMENT ON COLUMN cdp.value_model.data_from IS 'first purchase';
COMMENT ON COLUMN cdp.value_model.data_until IS 'last purchase';
COMMENT ON COLUMN cdp.value_model.customers IS 'customers in the data';
COMMENT ON COLUMN cdp.value_model.purchases IS 'days with a purchase, summed over customers';
COMMENT ON COLUMN cdp.value_model.parameters IS 'parameters by name';
COMMENT ON COLUMN cdp.value_model.standard_errors IS 'their standard errors; NULL at a boundary';
COMMENT ON COLUMN cdp.value_model.log_likelihood IS 'at the parameters';
COMMENT ON COLUMN cdp.value_model.bic IS 'parameters * ln(customers) - 2 * log likelihood (Schwarz 1978): the smaller, the better';
COMMENT ON COLUMN cdp.value_model.converged IS 'the optimiser found a maximum';
COMMENT ON COLUMN cdp.value_model.boundary IS 'a parameter ran off to 0 or infinity: read reason before you believe predictions';
COMMENT ON COLUMN cdp.value_model.reason IS 'how the fit ended: ok, or why not';
COMMENT ON COLUMN cdp.value_model.diagnostics IS 'fit: the other fields of the model; and what the views value_tracking, value_frequency, value_calibration, value_holdout and churn_calibration show';
COMMENT ON COLUMN cdp.value_model.fitted_at IS 'cdp.now() of the fit';
INSERT INTO cdp.job (job, command, schedule, description)
	VALUES ('fit_value_models', 'CALL cdp.fit_value_models()', '23 2 * * 0', 'fits the models of purchases, money, churn and repurchase')
	ON CONFLICT (job) DO NOTHING;

-- @view
CREATE OR REPLACE FUNCTION cdp._store_value_models(scope text, fits jsonb) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
BEGIN
	PERFORM cdp._require_version();
	UPDATE cdp.value_model m SET chosen = false
	WHERE m.chosen AND m.scope = _store_value_models.scope AND (m.name = 'propensity') = (fits->0->>'name' = 'propensity');
	INSERT INTO cdp.value_model (name, scope, chosen, unit, time_zone, refunds, currency, data_from, data_until, customers, purchases,
		parameters, standard_errors, log_likelihood, bic, converged, boundary, reason, diagnostics)
	SELECT f->>'name', _store_value_models.scope, (f->>'chosen')::boolean, (f->>'unit')::interval, f->>'time_zone', f->>'refunds', f->>'currency',
		(f->>'data_from')::timestamptz, (f->>'data_until')::timestamptz, (f->>'customers')::bigint, (f->>'purchases')::bigint,
		f->'parameters', nullif(f->'standard_errors', 'null'), (f->'fit'->>'log_likelihood')::float8, (f->>'bic')::float8,
		coalesce((f->'fit'->>'converged')::boolean, false), coalesce((f->'fit'->>'boundary')::boolean, (f->'fit'->>'separated')::boolean, false), f->'fit'->>'reason',
		coalesce(f->'diagnostics', '{}') || jsonb_build_object('fit', f->'fit')
	FROM jsonb_array_elements(fits) WITH ORDINALITY u(f, ord) ORDER BY ord;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END $$;
COMMENT ON FUNCTION cdp._store_value_models(text, jsonb) IS 'internal: keeps fitted models, which take the place of those chosen before in this scope; answers their number';

CREATE OR REPLACE FUNCTION cdp._chosen_model(kind text) RETURNS bigint
	LANGUAGE sql STABLE
BEGIN ATOMIC
	-- a propensity may have any event for its scope, sales_order too
	SELECT m.value_model_id FROM cdp.value_model m
	WHERE m.chosen AND m.scope = 'sales_order' AND m.name <> 'propensity'
		AND CASE WHEN m.name IN ('gammagamma', 'churn') THEN m.name ELSE 'purchases' END = _chosen_model.kind
	ORDER BY m.value_model_id DESC LIMIT 1;
END;
COMMENT ON FUNCTION cdp._chosen_model(text) IS 'internal: the model that scores customers, of kind purchases, gammagamma or churn; NULL when there is none';

CREATE OR REPLACE FUNCTION cdp.model(name text DEFAULT NULL) RETURNS jsonb
	LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT to_jsonb(m) - 'diagnostics' FROM cdp.value_model m
	WHERE CASE WHEN model.name IS NULL THEN m.value_model_id = cdp._chosen_model('purchases') ELSE m.name = model.name END
	ORDER BY m.chosen DESC, m.value_model_id DESC LIMIT 1;
END;
COMMENT ON FUNCTION cdp.model(text) IS 'A stored model as jsonb: the columns of cdp.value_model but diagnostics. name: the chosen or else newest model of that name; NULL: the chosen model of purchases. NULL when there is none.';
