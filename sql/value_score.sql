-- value_score: every customer's value in one row, rewritten only where it changed.
-- C: src/value_score.c  Page: doc/value_score.md  Tests: test/sql/value_score.sql, test/specs/value_score_*.spec, test/t/*_value_*.pl
--
-- A run is two steps.  _score_prepare() reads all purchases once, computes what the row of every customer should be and
-- keeps those that differ from cdp.customer_value in cdp.value_work.  _apply_scores() takes them from there in batches, each
-- with its events and its commit.  Who is interrupted begins anew and finds the rows that were written equal.
--
--	sales_order --> rfm_table, btyd_table --> model --> rounded row --differs?--> value_work --batch--> customer_value, events
--
-- Rounding is what keeps a run small: T grows every day and with it every probability, by less than can be seen.

-- @code
CREATE OR REPLACE FUNCTION cdp._score_outlook(model cdp.mbgnbd_model, money cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8,
	days float8, discount float8, margin float8, OUT p_alive float8, OUT expected_30 float8, OUT expected_90 float8, OUT expected_365 float8,
	OUT expected_amount float8, OUT clv float8, OUT next_purchase float8) RETURNS record
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 200 AS 'MODULE_PATHNAME', 'cdp_score_outlook';
COMMENT ON FUNCTION cdp._score_outlook(cdp.mbgnbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8) IS 'internal: what cdp.customer_value keeps of a customer''s future, rounded; next_purchase in units from t_cal on. NULL for what needs a model that is NULL';
CREATE OR REPLACE FUNCTION cdp._score_outlook(model cdp.mbgcnbd_model, money cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8,
	days float8, discount float8, margin float8, OUT p_alive float8, OUT expected_30 float8, OUT expected_90 float8, OUT expected_365 float8,
	OUT expected_amount float8, OUT clv float8, OUT next_purchase float8) RETURNS record
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 200 AS 'MODULE_PATHNAME', 'cdp_score_outlook';
COMMENT ON FUNCTION cdp._score_outlook(cdp.mbgcnbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8) IS 'internal: what cdp.customer_value keeps of a customer''s future, rounded; next_purchase in units from t_cal on. NULL for what needs a model that is NULL';
CREATE OR REPLACE FUNCTION cdp._score_outlook(model cdp.paretonbd_model, money cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8,
	days float8, discount float8, margin float8, OUT p_alive float8, OUT expected_30 float8, OUT expected_90 float8, OUT expected_365 float8,
	OUT expected_amount float8, OUT clv float8, OUT next_purchase float8) RETURNS record
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 200 AS 'MODULE_PATHNAME', 'cdp_score_outlook';
COMMENT ON FUNCTION cdp._score_outlook(cdp.paretonbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8) IS 'internal: what cdp.customer_value keeps of a customer''s future, rounded; next_purchase in units from t_cal on. NULL for what needs a model that is NULL';
CREATE OR REPLACE FUNCTION cdp._score_outlook(model cdp.nbd_model, money cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8,
	days float8, discount float8, margin float8, OUT p_alive float8, OUT expected_30 float8, OUT expected_90 float8, OUT expected_365 float8,
	OUT expected_amount float8, OUT clv float8, OUT next_purchase float8) RETURNS record
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 200 AS 'MODULE_PATHNAME', 'cdp_score_outlook';
COMMENT ON FUNCTION cdp._score_outlook(cdp.nbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8) IS 'internal: what cdp.customer_value keeps of a customer''s future, rounded; next_purchase in units from t_cal on. NULL for what needs a model that is NULL';
CREATE OR REPLACE FUNCTION cdp._score_outlook(model cdp.bgnbd_model, money cdp.gammagamma_model, x float8, t_x float8, t_cal float8, mean_amount float8,
	days float8, discount float8, margin float8, OUT p_alive float8, OUT expected_30 float8, OUT expected_90 float8, OUT expected_365 float8,
	OUT expected_amount float8, OUT clv float8, OUT next_purchase float8) RETURNS record
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 200 AS 'MODULE_PATHNAME', 'cdp_score_outlook';
COMMENT ON FUNCTION cdp._score_outlook(cdp.bgnbd_model, cdp.gammagamma_model, float8, float8, float8, float8, float8, float8, float8) IS 'internal: what cdp.customer_value keeps of a customer''s future, rounded; next_purchase in units from t_cal on. NULL for what needs a model that is NULL';

CREATE OR REPLACE FUNCTION cdp._round_value(value float8) RETURNS numeric
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value >= 1 AND value < 'Infinity' THEN round(value::numeric, greatest(-15, least(2, 2 - floor(log(value))::int))) WHEN value < 1 THEN round(value::numeric, 2) END;
COMMENT ON FUNCTION cdp._round_value(float8) IS 'internal: money with three significant digits, not finer than two decimals; NULL when it is not finite';

CREATE OR REPLACE FUNCTION cdp._round_ratio(ratio float8) RETURNS float8
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN ratio < 10 THEN round(ratio * 100) / 100 ELSE round(ratio) END;
COMMENT ON FUNCTION cdp._round_ratio(float8) IS 'internal: 2 decimals, none from 10 on, where a customer is long gone: else every row of every such customer would be written every day';

CREATE OR REPLACE FUNCTION cdp._score_sql(name text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN format($q$
	SELECT b.*, $1::bigint AS value_model_id, (o.a).p_alive, (o.a).expected_30, (o.a).expected_90, (o.a).expected_365, (o.a).expected_amount, (o.a).clv,
		-- a whole day, so that it moves only when the customer's own numbers do
		(((b.first_at AT TIME ZONE $8)::date + ceil((b.t_cal + (o.a).next_purchase) * $4)::int)::timestamp AT TIME ZONE $8) AS next_purchase_at,
		CASE WHEN g.typical_gap IS NOT NULL THEN make_interval(days => greatest(1, round(g.typical_gap * $4)::int)) END AS typical_gap, g.gap_ratio,
		round(cdp.churn_score((o.a).p_alive, g.gap_ratio, b.x, b.t_cal, (SELECT cdp.as_logistic($3))) * 100) / 100 AS churn_score,
		rank() OVER (ORDER BY (o.a).clv DESC NULLS LAST) AS "position", count((o.a).clv) OVER () AS valued
	FROM base b
	CROSS JOIN LATERAL (SELECT cdp._score_outlook((SELECT cdp.as_%1$s($1)), (SELECT cdp.as_gammagamma($2)), b.x::float8, b.t_x, b.t_cal, b.exact_mean, $4, $6, $7) AS a OFFSET 0) o
	CROSS JOIN LATERAL (SELECT cdp._typical_gap(b.x, b.t_x, $5) AS typical_gap,
		cdp._round_ratio((b.t_cal - b.t_x) / nullif(cdp._typical_gap(b.x, b.t_x, $5), 0)) AS gap_ratio OFFSET 0) g$q$, name);
COMMENT ON FUNCTION cdp._score_sql(text) IS 'internal: the query from base (RFM and BTYD of customers) to rows of cdp.customer_value without stage, tier and the interval of clv. $1 model of this name, $2 of money, $3 of churn, $4 days of a unit, $5 mean gap, $6 discount per unit, $7 margin, $8 time zone';

CREATE OR REPLACE PROCEDURE cdp.score_customers(as_of timestamptz DEFAULT NULL, batch int DEFAULT 10000, events boolean DEFAULT true) LANGUAGE plpgsql
AS $$
DECLARE
	run   bigint;
	total bigint;
	n     bigint;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	as_of := cdp._as_of(as_of);
	batch := coalesce(batch, 10000);
	events := coalesce(events, true);
	IF batch < 1 THEN
		RAISE EXCEPTION 'batch is %', batch USING ERRCODE = 'invalid_parameter_value', HINT = 'It is the number of customers per transaction; the usual one is 10000.';
	END IF;
	BEGIN
		run := cdp._job_begin('score_customers');
	EXCEPTION WHEN object_in_use THEN
		RAISE EXCEPTION 'customers are being scored already' USING ERRCODE = 'lock_not_available', HINT = 'SELECT * FROM cdp.job_status shows by whom.';
	END;
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._job_step(run);
	total := cdp._score_prepare(as_of);
	PERFORM cdp._job_progress(run, 0, total);
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	LOOP
		PERFORM cdp._job_step(run);
		n := cdp._apply_scores(as_of, batch, events);
		EXIT WHEN n = 0;
		PERFORM cdp._job_progress(run, n);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	END LOOP;
	PERFORM cdp._job_end(run);
END $$;
COMMENT ON PROCEDURE cdp.score_customers(timestamptz, int, boolean) IS
'Brings cdp.customer_value up to date: one row per customer with a purchase up to as_of, from cdp.sales_order and the chosen models of cdp.value_model (without one: what needs no model). Only rows whose rounded values differ are written; rows of customers that were merged away, were erased or have no purchase go. as_of: NULL is cdp.now(). batch: customers per transaction. events: write Lifecycle Stage Changed, Value Tier Changed and Churn Risk Raised, none for a customer''s first row. What was interrupted is finished by the next call. Progress in cdp.job_status. Commits, so it cannot run inside a transaction. Errors: 22023, 55P03 it is running already, 42501.';

CREATE OR REPLACE FUNCTION cdp._value_profile_gone() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		DELETE FROM cdp.customer_value;
		DELETE FROM cdp.lifecycle_log;
	ELSE
		DELETE FROM cdp.customer_value c USING oldtab o WHERE c.customer_id = o.profile_id;
		DELETE FROM cdp.lifecycle_log l USING oldtab o WHERE l.customer_id = o.profile_id;
	END IF;
	RETURN NULL;
END $$;
COMMENT ON FUNCTION cdp._value_profile_gone() IS 'internal: trigger on cdp.profile; value and stages of a profile go with it';

CREATE OR REPLACE FUNCTION cdp._health_value_score() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('cdp.value_run') IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY SELECT 'customer_value', coalesce(r.as_of > cdp.now() - interval '3 days', true),
		CASE WHEN r.as_of IS NULL THEN 'not scored yet; CALL cdp.score_customers()'
			ELSE format('%s customers scored as of %s', r.customers, to_char(r.as_of AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')) END
	FROM (VALUES (1)) one LEFT JOIN LATERAL (SELECT v.* FROM cdp.value_run v ORDER BY v.value_run_id DESC LIMIT 1) r ON true;
END $$;
COMMENT ON FUNCTION cdp._health_value_score() IS 'internal: row of value_score in cdp.health(): when customers were scored last';

-- @access
('function', 'score_customers', 'EXECUTE', '{operator}'),
('function', 'value_of', 'EXECUTE', '{reader,application}'),
('function', '_score_model', 'EXECUTE', '{reader}'),
('function', '_score_prepare', 'EXECUTE', '{operator}'),
('function', '_apply_scores', 'EXECUTE', '{operator}'),
('function', '_health_value_score', 'EXECUTE', '{reader,application}'),
('table', 'customer_value', 'SELECT', '{reader}'),
('table', 'value_run', 'SELECT', '{reader}'),

-- @data
PERFORM cdp._ensure_table('customer_value', $t$ (
	customer_id      bigint PRIMARY KEY,
	value_model_id   bigint,
	first_at         timestamptz NOT NULL,
	last_at          timestamptz NOT NULL,
	frequency        bigint NOT NULL,
	monetary         numeric NOT NULL,
	x                bigint NOT NULL,
	mean_amount      numeric,
	r                int NOT NULL,
	f                int NOT NULL,
	m                int NOT NULL,
	group8           text NOT NULL,
	group11          text,
	p_alive          float8,
	expected_30      float8,
	expected_90      float8,
	expected_365     float8,
	expected_amount  numeric,
	clv              numeric,
	clv_lo           numeric,
	clv_hi           numeric,
	next_purchase_at timestamptz,
	typical_gap      interval,
	gap_ratio        float8,
	churn_score      float8,
	lifecycle_stage  text,
	value_tier       text,
	changed_at       timestamptz NOT NULL
) $t$);
COMMENT ON TABLE cdp.customer_value IS 'What a customer is worth, one row per customer with a purchase, written by cdp.score_customers(). Scores are rounded, so that a row changes when its meaning does. What needs a model is NULL until cdp.fit_value_models() has run.';
COMMENT ON COLUMN cdp.customer_value.customer_id IS 'the One ID';
COMMENT ON COLUMN cdp.customer_value.value_model_id IS 'the model of purchases behind the row';
COMMENT ON COLUMN cdp.customer_value.first_at IS 'first purchase';
COMMENT ON COLUMN cdp.customer_value.last_at IS 'last purchase';
COMMENT ON COLUMN cdp.customer_value.frequency IS 'number of purchases';
COMMENT ON COLUMN cdp.customer_value.monetary IS 'money spent less refunds';
COMMENT ON COLUMN cdp.customer_value.x IS 'repeat purchases as models count them: days with a purchase less one';
COMMENT ON COLUMN cdp.customer_value.mean_amount IS 'mean money of these days; NULL when x = 0';
COMMENT ON COLUMN cdp.customer_value.r IS 'recency score, 1 to 5 (best), as in cdp.rfm_table()';
COMMENT ON COLUMN cdp.customer_value.f IS 'frequency score, 1 to 5';
COMMENT ON COLUMN cdp.customer_value.m IS 'money score, 1 to 5';
COMMENT ON COLUMN cdp.customer_value.group8 IS 'one of the eight RFM groups';
COMMENT ON COLUMN cdp.customer_value.group11 IS 'one of the eleven RFM groups';
COMMENT ON COLUMN cdp.customer_value.p_alive IS 'probability that he has not left for ever, 2 decimals';
COMMENT ON COLUMN cdp.customer_value.expected_30 IS 'purchase days expected within 30 days, 2 decimals';
COMMENT ON COLUMN cdp.customer_value.expected_90 IS 'within 90 days';
COMMENT ON COLUMN cdp.customer_value.expected_365 IS 'within 365 days';
COMMENT ON COLUMN cdp.customer_value.expected_amount IS 'expected money of a purchase day';
COMMENT ON COLUMN cdp.customer_value.clv IS 'expected money of the next 12 months times cdp.clv_margin, discounted by cdp.clv_discount a year, 3 significant digits';
COMMENT ON COLUMN cdp.customer_value.clv_lo IS 'lower bound of its 95 % interval for what is not known of the models'' parameters, as of changed_at; NULL at a boundary';
COMMENT ON COLUMN cdp.customer_value.clv_hi IS 'upper bound';
COMMENT ON COLUMN cdp.customer_value.next_purchase_at IS 'day by which he buys with probability 1/2; NULL when that is never';
COMMENT ON COLUMN cdp.customer_value.typical_gap IS 'time between his purchases, drawn to that of all customers; whole days; NULL without a model';
COMMENT ON COLUMN cdp.customer_value.gap_ratio IS 'time since last_at divided by typical_gap; 2 decimals, none from 10 on';
COMMENT ON COLUMN cdp.customer_value.churn_score IS 'probability of no purchase within the holdout of the churn model, 2 decimals; see cdp.churn_score()';
COMMENT ON COLUMN cdp.customer_value.lifecycle_stage IS 'see cdp.lifecycle_rule; NULL where no rule holds';
COMMENT ON COLUMN cdp.customer_value.value_tier IS 'see cdp.value_tier; NULL without clv';
COMMENT ON COLUMN cdp.customer_value.changed_at IS 'as_of of the run that wrote the row last';

PERFORM cdp._ensure_table('value_run', $t$ (
	value_run_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	as_of          timestamptz NOT NULL,
	value_model_id bigint,
	customers      bigint NOT NULL,
	differ         bigint NOT NULL,
	cuts           jsonb NOT NULL,
	prepared_at    timestamptz NOT NULL DEFAULT clock_timestamp()
) $t$);
COMMENT ON TABLE cdp.value_run IS 'Runs of cdp.score_customers(), with the limits of scores and tiers that cdp.value_of() measures one customer by.';
COMMENT ON COLUMN cdp.value_run.as_of IS 'the moment customers were looked at';
COMMENT ON COLUMN cdp.value_run.value_model_id IS 'the model of purchases';
COMMENT ON COLUMN cdp.value_run.customers IS 'customers with a purchase';
COMMENT ON COLUMN cdp.value_run.differ IS 'rows that had to be written or to go';
COMMENT ON COLUMN cdp.value_run.cuts IS 'limits of r, f and m, of high and low, and of tiers';
COMMENT ON COLUMN cdp.value_run.prepared_at IS 'when the rows had been computed';

PERFORM cdp._ensure_table('value_work', $t$ (
	LIKE cdp.customer_value,
	gone boolean NOT NULL,
	PRIMARY KEY (customer_id)
) $t$);
COMMENT ON TABLE cdp.value_work IS 'internal: rows of cdp.customer_value that a run of cdp.score_customers() has yet to write';
COMMENT ON COLUMN cdp.value_work.gone IS 'the row is to go';
CREATE OR REPLACE TRIGGER profile_value_deleted AFTER DELETE ON cdp.profile
	REFERENCING OLD TABLE AS oldtab FOR EACH STATEMENT EXECUTE FUNCTION cdp._value_profile_gone();
CREATE OR REPLACE TRIGGER profile_value_truncated BEFORE TRUNCATE ON cdp.profile
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._value_profile_gone();
INSERT INTO cdp.job (job, command, schedule, description)
	VALUES ('score_customers', 'CALL cdp.score_customers()', '41 3 * * *', 'scores customers: value, churn, stage, tier')
	ON CONFLICT (job) DO NOTHING;

-- @view
CREATE OR REPLACE FUNCTION cdp._score_model(OUT model_id bigint, OUT name text, OUT money_id bigint, OUT churn_id bigint, OUT days int,
	OUT mean_gap float8, OUT currency text, OUT discount float8, OUT margin float8) RETURNS record
	LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT m.value_model_id, coalesce(m.name, 'mbgnbd'), cdp._chosen_model('gammagamma'), cdp._chosen_model('churn'),
		coalesce(extract(epoch FROM m.unit) / 86400, 7)::int, (m.diagnostics->>'mean_gap')::float8, m.currency,
		ln(1 + current_setting('cdp.clv_discount')::float8) * coalesce(extract(epoch FROM m.unit) / 86400, 7)::float8 / 365,
		current_setting('cdp.clv_margin')::float8
	FROM (VALUES (1)) one LEFT JOIN cdp.value_model m ON m.value_model_id = cdp._chosen_model('purchases');
END;
COMMENT ON FUNCTION cdp._score_model() IS 'internal: the models that score, and what is to be known of them';

CREATE OR REPLACE FUNCTION cdp._score_prepare(as_of timestamptz) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s    record;
	n    bigint;
	cuts jsonb;
	size bigint;
BEGIN
	PERFORM cdp._require_version();
	SELECT * INTO s FROM cdp._score_model();
	TRUNCATE cdp.value_work;
	EXECUTE format($q$
		WITH base AS MATERIALIZED (
			SELECT r.customer_id, r.recency, r.frequency, round(r.monetary, 2) AS monetary, r.first_at, r.last_at, r.r, r.f, r.m, r.group8, r.group11,
				b.x, b.t_x, b.t_cal, b.mean_amount AS exact_mean, round(b.mean_amount * 100) / 100 AS mean_amount
			FROM cdp.rfm_table(as_of => $9, currency => $10) r
			JOIN cdp.btyd_table($9, NULL, make_interval(days => $4), 'ignore', $10) b USING (customer_id)),
		scored AS MATERIALIZED (%1$s),
		staged AS MATERIALIZED (
			SELECT n.*, cdp.lifecycle_stage(n.frequency, n.gap_ratio, n.p_alive, c.lifecycle_stage, coalesce(n.last_at > c.last_at, true)) AS lifecycle_stage,
				CASE WHEN n.clv IS NOT NULL THEN cdp._value_tier(n."position", n.valued) END AS value_tier
			FROM scored n LEFT JOIN cdp.customer_value c USING (customer_id)),
		work AS (
			INSERT INTO cdp.value_work (customer_id, value_model_id, first_at, last_at, frequency, monetary, x, mean_amount, r, f, m, group8,
				group11, p_alive, expected_30, expected_90, expected_365, expected_amount, clv, clv_lo, clv_hi,
				next_purchase_at, typical_gap, gap_ratio, churn_score, lifecycle_stage, value_tier, changed_at, gone)
			SELECT n.customer_id, n.value_model_id, n.first_at, n.last_at, n.frequency, n.monetary, n.x, n.mean_amount::numeric, n.r, n.f, n.m,
				n.group8, n.group11, n.p_alive, n.expected_30, n.expected_90, n.expected_365, n.expected_amount::numeric,
				n.clv::numeric, coalesce(cdp._round_value(i.lo), CASE WHEN n.clv = 0 THEN 0 END), coalesce(cdp._round_value(i.hi), CASE WHEN n.clv = 0 THEN 0 END),
				n.next_purchase_at, n.typical_gap, n.gap_ratio, n.churn_score, n.lifecycle_stage, n.value_tier, $9, false
			FROM (SELECT n.* FROM staged n LEFT JOIN cdp.customer_value c USING (customer_id)
				WHERE c.customer_id IS NULL
					OR (n.value_model_id, n.first_at, n.last_at, n.frequency, n.monetary, n.x, n.mean_amount, n.r, n.f, n.m, n.group8,
					n.group11, n.p_alive, n.expected_30, n.expected_90, n.expected_365, n.expected_amount, n.clv,
					n.next_purchase_at, n.typical_gap, n.gap_ratio, n.churn_score, n.lifecycle_stage, n.value_tier) IS DISTINCT FROM
					(c.value_model_id, c.first_at, c.last_at, c.frequency, c.monetary, c.x, c.mean_amount::float8, c.r, c.f, c.m,
					c.group8, c.group11, c.p_alive, c.expected_30, c.expected_90, c.expected_365, c.expected_amount::float8,
					c.clv::float8, c.next_purchase_at, c.typical_gap, c.gap_ratio, c.churn_score, c.lifecycle_stage, c.value_tier) OFFSET 0) n
			-- what is not known of the models costs most: it is asked for rows that are written anyway
			LEFT JOIN LATERAL (SELECT f.lo, f.hi FROM cdp.clv_ci((SELECT cdp.as_%2$s($1)), (SELECT cdp.as_gammagamma($2)), n.x::float8, n.t_x, n.t_cal, n.exact_mean,
				365 / $4::float8, $6, $7) f WHERE n.clv > 0 OFFSET 0) i ON true
			UNION ALL
			SELECT c.customer_id, c.value_model_id, c.first_at, c.last_at, c.frequency, c.monetary, c.x, c.mean_amount, c.r, c.f, c.m,
				c.group8, c.group11, c.p_alive, c.expected_30, c.expected_90, c.expected_365, c.expected_amount, c.clv,
				c.clv_lo, c.clv_hi, c.next_purchase_at, c.typical_gap, c.gap_ratio, c.churn_score, c.lifecycle_stage,
				c.value_tier, $9, true
			-- an anti join would make a hash table of staged, and one for as many rows as the planner fears: 50 million
			FROM (SELECT c.*, n.customer_id AS known FROM staged n RIGHT JOIN cdp.customer_value c USING (customer_id) OFFSET 0) c WHERE c.known IS NULL
			RETURNING 1)
		SELECT (SELECT count(*) FROM work), (SELECT count(*) FROM staged), jsonb_build_object(
			'r', (SELECT jsonb_agg(jsonb_build_array(r, recency) ORDER BY r DESC) FROM (SELECT r, max(extract(epoch FROM recency)) AS recency FROM base GROUP BY r) x),
			'f', (SELECT jsonb_agg(jsonb_build_array(f, frequency) ORDER BY f DESC) FROM (SELECT f, min(frequency) AS frequency FROM base GROUP BY f) x),
			'm', (SELECT jsonb_agg(jsonb_build_array(m, monetary) ORDER BY m DESC) FROM (SELECT m, min(monetary) AS monetary FROM base GROUP BY m) x),
			'mean', (SELECT jsonb_build_object('n', count(*), 'recency', sum(extract(epoch FROM recency)), 'frequency', sum(frequency), 'monetary', sum(monetary)) FROM base),
			'tier', (SELECT jsonb_agg(jsonb_build_array(value_tier, clv) ORDER BY clv DESC) FROM (SELECT value_tier, min(clv) AS clv FROM staged
				WHERE value_tier IS NOT NULL GROUP BY value_tier) x))$q$, cdp._score_sql(s.name), s.name)
	INTO n, size, cuts USING s.model_id, s.money_id, s.churn_id, s.days, s.mean_gap, s.discount, s.margin, current_setting('cdp.timezone'),
		as_of, s.currency;
	INSERT INTO cdp.value_run (as_of, value_model_id, customers, differ, cuts) VALUES (as_of, s.model_id, size, n, cuts);
	RETURN n;
END $$;
COMMENT ON FUNCTION cdp._score_prepare(timestamptz) IS 'internal: what the rows of all customers should be; keeps those that differ in cdp.value_work and answers their number';

CREATE OR REPLACE FUNCTION cdp._apply_scores(as_of timestamptz, batch int, events boolean) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- Profiles first and ascending, as whoever writes for several customers: a merge waits for us or we see it.
DECLARE
	ids  bigint[];
	mine bigint[];
	n    bigint;
	at   timestamptz := least(as_of, cdp.now());
BEGIN
	SELECT array_agg(w.customer_id) INTO ids FROM (SELECT w.customer_id FROM cdp.value_work w ORDER BY w.customer_id LIMIT batch) w;
	IF ids IS NULL THEN
		RETURN 0;
	END IF;
	PERFORM FROM cdp.profile p WHERE p.profile_id = ANY (ids) ORDER BY p.profile_id FOR NO KEY UPDATE;
	-- who was merged or erased since has no row to write, and none to keep
	SELECT array_agg(p.profile_id) INTO mine FROM cdp.profile p JOIN cdp.value_work w ON w.customer_id = p.profile_id AND NOT w.gone
	WHERE p.profile_id = ANY (ids) AND NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = p.profile_id);
	mine := coalesce(mine, '{}');
	DELETE FROM cdp.customer_value c WHERE c.customer_id = ANY (ids) AND c.customer_id <> ALL (mine);

	WITH change AS MATERIALIZED (
		SELECT w.customer_id, c.customer_id IS NULL AS is_first, c.lifecycle_stage AS old_stage, w.lifecycle_stage AS new_stage,
			c.value_tier AS old_tier, w.value_tier AS new_tier, c.churn_score AS old_churn, w.churn_score AS new_churn,
			w.frequency, w.gap_ratio, w.p_alive
		FROM cdp.value_work w LEFT JOIN cdp.customer_value c USING (customer_id) WHERE w.customer_id = ANY (mine)),
	log AS (
		INSERT INTO cdp.lifecycle_log (customer_id, from_stage, to_stage, as_of, reason)
		SELECT d.customer_id, d.old_stage, d.new_stage, _apply_scores.as_of,
			jsonb_strip_nulls(jsonb_build_object('purchases', d.frequency, 'gap_ratio', d.gap_ratio, 'p_alive', d.p_alive))
		FROM change d WHERE d.new_stage <> coalesce(d.old_stage, '') ORDER BY d.customer_id),
	happened AS (
		SELECT d.customer_id, 'Lifecycle Stage Changed' AS name, jsonb_build_object('from', d.old_stage, 'to', d.new_stage) AS properties, 'stage' AS kind
		FROM change d WHERE NOT d.is_first AND d.old_stage <> d.new_stage
		UNION ALL
		SELECT d.customer_id, 'Value Tier Changed', jsonb_build_object('from', d.old_tier, 'to', d.new_tier), 'tier'
		FROM change d WHERE NOT d.is_first AND d.old_tier <> d.new_tier
		UNION ALL
		SELECT d.customer_id, 'Churn Risk Raised', jsonb_build_object('from', d.old_churn, 'to', d.new_churn), 'churn'
		FROM change d WHERE NOT d.is_first AND d.old_churn < current_setting('cdp.churn_threshold')::float8
			AND d.new_churn >= current_setting('cdp.churn_threshold')::float8)
	SELECT cdp._insert_events(array_agg(h.customer_id), array_agg(h.name), array_agg(at), array_agg(h.properties),
		array_agg(format('value:%s:%s:%s:%s', h.kind, h.customer_id, extract(epoch FROM _apply_scores.as_of), h.properties->>'to')), array_agg('cdp'::text), array_agg(NULL::text), true)
	INTO n FROM happened h WHERE events HAVING count(*) > 0;

	INSERT INTO cdp.customer_value AS c (customer_id, value_model_id, first_at, last_at, frequency, monetary, x, mean_amount, r, f, m, group8,
				group11, p_alive, expected_30, expected_90, expected_365, expected_amount, clv, clv_lo, clv_hi,
				next_purchase_at, typical_gap, gap_ratio, churn_score, lifecycle_stage, value_tier, changed_at)
	SELECT w.customer_id, w.value_model_id, w.first_at, w.last_at, w.frequency, w.monetary, w.x, w.mean_amount, w.r,
				w.f, w.m, w.group8, w.group11, w.p_alive, w.expected_30, w.expected_90, w.expected_365, w.expected_amount,
				w.clv, w.clv_lo, w.clv_hi, w.next_purchase_at, w.typical_gap, w.gap_ratio, w.churn_score,
				w.lifecycle_stage, w.value_tier, w.changed_at FROM cdp.value_work w WHERE w.customer_id = ANY (mine) ORDER BY w.customer_id
	ON CONFLICT (customer_id) DO UPDATE SET (value_model_id, first_at, last_at, frequency, monetary, x, mean_amount, r, f, m, group8, group11, p_alive,
				expected_30, expected_90, expected_365, expected_amount, clv, clv_lo, clv_hi, next_purchase_at,
				typical_gap, gap_ratio, churn_score, lifecycle_stage, value_tier, changed_at) = ROW (excluded.value_model_id, excluded.first_at, excluded.last_at, excluded.frequency, excluded.monetary,
				excluded.x, excluded.mean_amount, excluded.r, excluded.f, excluded.m, excluded.group8, excluded.group11,
				excluded.p_alive, excluded.expected_30, excluded.expected_90, excluded.expected_365,
				excluded.expected_amount, excluded.clv, excluded.clv_lo, excluded.clv_hi, excluded.next_purchase_at,
				excluded.typical_gap, excluded.gap_ratio, excluded.churn_score, excluded.lifecycle_stage,
				excluded.value_tier, excluded.changed_at);
	DELETE FROM cdp.value_work w WHERE w.customer_id = ANY (ids);
	RETURN cardinality(ids);
END $$;
COMMENT ON FUNCTION cdp._apply_scores(timestamptz, int, boolean) IS 'internal: writes so many rows of cdp.value_work with their events; answers their number, 0 at the end';

CREATE OR REPLACE FUNCTION cdp.value_of(customer_id bigint, as_of timestamptz DEFAULT NULL) RETURNS cdp.customer_value
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s       record;
	v       cdp.customer_value;
	old     cdp.customer_value;
	cuts    jsonb;
	id      bigint;
	is_high boolean[];
BEGIN
	PERFORM cdp._require_version();
	as_of := cdp._as_of(as_of);
	id := cdp.customer_id(value_of.customer_id);
	SELECT * INTO s FROM cdp._score_model();
	SELECT r.cuts INTO cuts FROM cdp.value_run r ORDER BY r.value_run_id DESC LIMIT 1;
	SELECT * INTO old FROM cdp.customer_value c WHERE c.customer_id = id;
	EXECUTE format($q$
		WITH mine AS (
			SELECT o.ordered_at, CASE WHEN $10 IS NULL OR o.currency = $10 THEN o.amount ELSE cdp.convert_amount(o.amount, o.currency, $10, o.ordered_at) END AS amount,
				CASE WHEN $10 IS NULL OR o.currency = $10 THEN o.refunded ELSE cdp.convert_amount(o.refunded, o.currency, $10, o.ordered_at) END AS refunded
			FROM cdp.sales_order o
			WHERE o.profile_id IN (SELECT $11 UNION ALL SELECT a.profile_id FROM cdp.profile_alias a WHERE a.customer_id = $11)
				AND cdp._is_purchase(o.status) AND o.ordered_at <= $9),
		one AS (
			SELECT count(*) AS frequency, sum(m.amount - coalesce(m.refunded, 0)) AS monetary, min(m.ordered_at) AS first_at, max(m.ordered_at) AS last_at,
				cdp.btyd(m.ordered_at, m.amount, $9, make_interval(days => $4)) AS b
			FROM mine m HAVING count(*) > 0),
		base AS (
			SELECT $11 AS customer_id, o.frequency, round(o.monetary, 2) AS monetary, o.first_at, o.last_at, NULL::int AS r, NULL::int AS f, NULL::int AS m, NULL::text AS group8, NULL::text AS group11,
				(o.b).x AS x, (o.b).t_x AS t_x, (o.b).t_cal AS t_cal, (o.b).mean_amount AS exact_mean, round((o.b).mean_amount * 100) / 100 AS mean_amount FROM one o)
		SELECT n.customer_id, n.value_model_id, n.first_at, n.last_at, n.frequency, n.monetary, n.x, n.mean_amount::numeric, n.r, n.f, n.m, n.group8, n.group11,
			n.p_alive, n.expected_30, n.expected_90, n.expected_365, n.expected_amount::numeric, n.clv::numeric,
			coalesce(cdp._round_value(i.lo), CASE WHEN n.clv = 0 THEN 0 END), coalesce(cdp._round_value(i.hi), CASE WHEN n.clv = 0 THEN 0 END),
			n.next_purchase_at, n.typical_gap, n.gap_ratio, n.churn_score,
			cdp.lifecycle_stage(n.frequency, n.gap_ratio, n.p_alive, $12, coalesce(n.last_at > $13, true)), NULL::text, $9
		FROM (%1$s) n
		LEFT JOIN LATERAL (SELECT f.lo, f.hi FROM cdp.clv_ci((SELECT cdp.as_%2$s($1)), (SELECT cdp.as_gammagamma($2)), n.x::float8, n.t_x, n.t_cal, n.exact_mean,
			365 / $4::float8, $6, $7) f WHERE n.clv > 0 OFFSET 0) i ON true$q$, cdp._score_sql(s.name), s.name)
	INTO v USING s.model_id, s.money_id, s.churn_id, s.days, s.mean_gap, s.discount, s.margin, current_setting('cdp.timezone'),
		as_of, s.currency, id, old.lifecycle_stage, old.last_at;
	IF v.customer_id IS NULL THEN
		RETURN NULL;
	ELSIF cuts IS NOT NULL AND cuts->'r' <> 'null' THEN
		v.r := coalesce((SELECT max((c->>0)::int) FROM jsonb_array_elements(cuts->'r') c WHERE extract(epoch FROM as_of - v.last_at) <= (c->>1)::numeric), 1);
		v.f := coalesce((SELECT max((c->>0)::int) FROM jsonb_array_elements(cuts->'f') c WHERE v.frequency >= (c->>1)::numeric), 1);
		v.m := coalesce((SELECT max((c->>0)::int) FROM jsonb_array_elements(cuts->'m') c WHERE v.monetary >= (c->>1)::numeric), 1);
		is_high := ARRAY[extract(epoch FROM as_of - v.last_at) * (cuts->'mean'->>'n')::numeric <= (cuts->'mean'->>'recency')::numeric,
			v.frequency * (cuts->'mean'->>'n')::numeric >= (cuts->'mean'->>'frequency')::numeric,
			v.monetary * (cuts->'mean'->>'n')::numeric >= (cuts->'mean'->>'monetary')::numeric];
		SELECT g.label_zh INTO v.group8 FROM cdp.rfm_group g WHERE g.scheme = 8 AND g.rfm_group = (SELECT string_agg(h::int::text, '' ORDER BY ord) FROM unnest(is_high) WITH ORDINALITY u(h, ord));
		SELECT g.label_zh INTO v.group11 FROM cdp.rfm_cell c JOIN cdp.rfm_group g USING (rfm_group) WHERE c.rfm_cell = concat(v.r, v.f, v.m);
		SELECT c->>0 INTO v.value_tier FROM jsonb_array_elements(nullif(cuts->'tier', 'null')) c WHERE v.clv >= (c->>1)::numeric ORDER BY (c->>1)::numeric DESC LIMIT 1;
		IF v.value_tier IS NULL AND v.clv IS NOT NULL THEN
			SELECT c->>0 INTO v.value_tier FROM jsonb_array_elements(nullif(cuts->'tier', 'null')) c ORDER BY (c->>1)::numeric LIMIT 1;
		END IF;
	END IF;
	RETURN v;
END $$;
COMMENT ON FUNCTION cdp.value_of(bigint, timestamptz) IS 'One customer as cdp.score_customers() would score him at as_of (NULL: cdp.now()), from his orders as they are now; scores r, f, m, groups and tier by the limits of the last run. customer_id: any profile of his. NULL when he has no purchase, or there is no such customer. Writes nothing. Errors: 22023 as_of is infinite.';
