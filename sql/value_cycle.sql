-- value_cycle: when customers buy again.
-- C: src/value_cycle.c, src/value_cycle_fit.c  Page: doc/value_cycle.md  Tests: test/sql/value_cycle.sql, test/pgtap/value_cycle.sql

-- @code
CREATE OR REPLACE FUNCTION cdp._fit_cycle(gaps float8[], sums float8[], logs float8[], OUT k float8, OUT r float8, OUT alpha float8,
	OUT customers bigint, OUT gap_count bigint, OUT log_likelihood float8, OUT converged boolean, OUT boundary boolean)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'cdp_fit_cycle';
COMMENT ON FUNCTION cdp._fit_cycle(float8[], float8[], float8[]) IS 'internal: fits gap ~ Gamma(k, rate), rate ~ Gamma(r, alpha) per customer. One element of each array per customer: number of gaps, their sum, the sum of their logarithms, in any order. alpha: in the unit of the gaps; boundary: k or r stopped at the end of its range; NULL for no customer; 22023 impossible gaps, arrays of other shape';

CREATE OR REPLACE FUNCTION cdp._cycle_quantile(k float8, r float8, alpha float8, gaps float8, sum_gap float8, probability float8 DEFAULT 0.5) RETURNS float8
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_cycle_quantile';
COMMENT ON FUNCTION cdp._cycle_quantile(float8, float8, float8, float8, float8, float8) IS 'internal: the next gap of a customer with so many gaps of that sum, which is reached with a probability (0.5: the typical gap), in the unit of alpha; 22023 out of range';

CREATE OR REPLACE FUNCTION cdp._cycle_due(k float8, r float8, alpha float8, gaps float8, sum_gap float8, elapsed float8, within float8, quantity float8)
	RETURNS float8[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 50 AS 'MODULE_PATHNAME', 'cdp_cycle_due';
COMMENT ON FUNCTION cdp._cycle_due(float8, float8, float8, float8, float8, float8, float8, float8) IS 'internal: median, 10 % and 90 % point of the open gap, and the probability that it ends within the time given, as it has not yet; NULL when the median is later than that, or the 90 % point past. Gaps are per unit, quantity is how many units were bought last; 22023 out of range';

CREATE OR REPLACE FUNCTION cdp._repurchase_sql(what text) RETURNS text
	LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
-- The gaps of each customer and key up to $1, one row each.  An order is a purchase when it is paid, shipped, completed
-- or refunded and something of it was not refunded; what is bought on one calendar day is one purchase.
DECLARE
	zone text := quote_literal(coalesce(current_setting('cdp.timezone', true), 'Asia/Shanghai'));
	key  text;
BEGIN
	IF what = 'category' THEN
		key := 'coalesce(l.category, p.category)';
	ELSIF what = 'product' THEN
		key := 'l.product_id';
	ELSIF what <> 'customer' THEN
		RAISE EXCEPTION 'there is no cycle by "%"', left(what, 40) USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Cycles are by category, product or customer.';
	END IF;
	RETURN format($q$
		SELECT g.customer_id, g.key, count(*) AS purchases, max(g.last_at) AS last_at, count(g.gap)::float8 AS gaps,
			coalesce(sum(g.gap), 0) AS sum_gap, sum(ln(g.gap)) AS log_gaps,
			coalesce(sum(g.gap / g.units), 0) AS sum_unit, sum(ln(g.gap / g.units)) AS log_units,
			max(g.quantity) FILTER (WHERE g.is_last) AS quantity
		FROM (
			SELECT d.customer_id, d.key, d.last_at, d.quantity, (d.day - lag(d.day) OVER w)::float8 AS gap,
				lag(d.quantity) OVER w AS units, lead(d.day) OVER w IS NULL AS is_last
			FROM (
				SELECT coalesce(a.customer_id, o.profile_id) AS customer_id, %s AS key, (o.ordered_at AT TIME ZONE %s)::date AS day,
					max(o.ordered_at) AS last_at, %s AS quantity
				FROM cdp.sales_order o%s
				LEFT JOIN cdp.profile_alias a ON a.profile_id = o.profile_id
				WHERE cdp._is_purchase(o.status) AND (o.refunded < o.amount OR o.amount = 0)
				  AND o.ordered_at <= $1 AND o.ordered_at > '-infinity'%s
				GROUP BY 1, 2, 3) d
			WINDOW w AS (PARTITION BY d.customer_id, d.key ORDER BY d.day)) g
		GROUP BY g.customer_id, g.key$q$,
		coalesce(key, '''*''::text'), zone,
		CASE WHEN key IS NULL THEN '1::float8' ELSE 'greatest(least(sum(l.quantity), 1e9), 1e-9)::float8' END,
		CASE WHEN key IS NULL THEN '' ELSE ' JOIN cdp.sales_order_line l ON l.order_id = o.order_id' END ||
			CASE what WHEN 'category' THEN ' LEFT JOIN cdp.product p ON p.product_id = l.product_id' ELSE '' END,
		CASE WHEN key IS NULL THEN '' ELSE format(' AND l.quantity > 0 AND coalesce(l.unit_price, 0) >= 0 AND %s IS NOT NULL', key) END);
END $$;
COMMENT ON FUNCTION cdp._repurchase_sql(text) IS 'internal: query for customer_id, key, purchases, last_at, gaps (number, sum and sum of logarithms in days, and the same per unit bought), quantity bought last, as of $1; 22023 for an unknown kind of key';

CREATE OR REPLACE FUNCTION cdp._check_within(within interval) RETURNS float8
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
-- a month has 30 days here, as wherever intervals are compared
BEGIN
	IF within <= interval '0' OR within > interval '100 years' THEN
		RAISE EXCEPTION 'within must be a time span above 0, up to 100 years' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'For example within => ''30 days''.';
	END IF;
	RETURN extract(epoch FROM within) / 86400;
END $$;
COMMENT ON FUNCTION cdp._check_within(interval) IS 'internal: a span of time in days; 22023 unless it is positive and up to 100 years';

CREATE OR REPLACE PROCEDURE cdp.track_repurchases(as_of timestamptz DEFAULT NULL, batch int DEFAULT 10000) LANGUAGE plpgsql
AS $$
DECLARE
	run       bigint;
	d         record;
	customers bigint[] := '{}';
	dues      jsonb[] := '{}';
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	as_of := cdp._as_of(as_of);
	batch := coalesce(batch, 10000);
	IF batch < 1 THEN
		RAISE EXCEPTION 'batch is %', batch USING ERRCODE = 'invalid_parameter_value', HINT = 'It is the number of customers per transaction; the usual one is 10000.';
	END IF;
	BEGIN
		run := cdp._job_begin('track_repurchases');
	EXCEPTION WHEN object_in_use THEN
		RAISE EXCEPTION 'repurchases are being tracked already' USING ERRCODE = 'lock_not_available', HINT = 'SELECT * FROM cdp.job_status shows by whom.';
	END;
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._job_step(run);
	FOR d IN SELECT r.customer_id, jsonb_build_object('category', r.key, 'last_at', r.last_at, 'due_at', r.due_at, 'purchases', r.purchases) AS due
		FROM cdp.repurchase_due(as_of, '1 second') r ORDER BY r.customer_id
	LOOP
		customers := customers || d.customer_id;
		dues := dues || d.due;
		IF cardinality(customers) >= batch THEN
			PERFORM cdp._write_due(as_of, customers, dues);
			PERFORM cdp._job_progress(run, cardinality(customers));
			customers := '{}';
			dues := '{}';
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
			PERFORM cdp._job_step(run);
		END IF;
	END LOOP;
	PERFORM cdp._write_due(as_of, customers, dues);
	PERFORM cdp._job_progress(run, cardinality(customers));
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._job_end(run);
END $$;
COMMENT ON PROCEDURE cdp.track_repurchases(timestamptz, int) IS 'Writes the event Repurchase Due (properties category, last_at, due_at, purchases) for every customer and category whose repurchase is due at as_of and not overdue beyond its window, as cdp.repurchase_due() says; once for each last purchase. as_of: NULL is cdp.now(). batch: customers per transaction. Progress in cdp.job_status. Commits, so it cannot run inside a transaction. Errors: 22023, 55P03 it is running already, 42501.';

-- @access
('function', '_fit_repurchase', 'EXECUTE', '{operator}'),
('function', '_cycle_quantile', 'EXECUTE', '{reader,application}'),
('function', 'repurchase_due', 'EXECUTE', '{reader}'),
('function', 'repurchase_rate', 'EXECUTE', '{reader}'),
('function', 'track_repurchases', 'EXECUTE', '{operator}'),
('function', '_write_due', 'EXECUTE', '{operator}'),
('table', 'repurchase_cycle', 'SELECT', '{reader}'),

-- @data
PERFORM cdp._ensure_table('repurchase_cycle', $t$ (
	repurchase_cycle text PRIMARY KEY,
	by               text NOT NULL CHECK (by IN ('category', 'product', 'customer')),
	key              text NOT NULL,
	k                float8 NOT NULL,
	r                float8 NOT NULL,
	alpha            float8 NOT NULL,
	customers        bigint NOT NULL,
	gaps             bigint NOT NULL,
	median_gap       float8 NOT NULL,
	unit_k           float8 NOT NULL,
	unit_r           float8 NOT NULL,
	unit_alpha       float8 NOT NULL,
	unit_median_gap  float8 NOT NULL,
	converged        boolean NOT NULL,
	boundary         boolean NOT NULL,
	fitted_at        timestamptz NOT NULL DEFAULT cdp.now(),
	CHECK (repurchase_cycle = by || ':' || key)
) $t$);
COMMENT ON TABLE cdp.repurchase_cycle IS 'How regularly customers come back: a gap between two purchases of a customer is Gamma(k, rate), his rate Gamma(r, alpha), times in days. One row per category, per product, and one for purchases of any kind; none for what nobody has bought twice.';
COMMENT ON COLUMN cdp.repurchase_cycle.repurchase_cycle IS 'by, a colon, and key';
COMMENT ON COLUMN cdp.repurchase_cycle.by IS 'category, product or customer (purchases of any kind)';
COMMENT ON COLUMN cdp.repurchase_cycle.key IS 'the category, the product_id, or *';
COMMENT ON COLUMN cdp.repurchase_cycle.k IS 'regularity: 1 as by chance, larger more regular';
COMMENT ON COLUMN cdp.repurchase_cycle.r IS 'likeness of the customers: small when some come often and others seldom';
COMMENT ON COLUMN cdp.repurchase_cycle.alpha IS 'scale of the gaps, in days; a customer of whom nothing is known has gaps of k * alpha / (r - 1) on average, when r is above 1';
COMMENT ON COLUMN cdp.repurchase_cycle.customers IS 'who have bought twice or more';
COMMENT ON COLUMN cdp.repurchase_cycle.gaps IS 'of these customers';
COMMENT ON COLUMN cdp.repurchase_cycle.median_gap IS 'in days: half of the customers of whom nothing else is known come back sooner';
COMMENT ON COLUMN cdp.repurchase_cycle.unit_k IS 'k of gaps divided by the quantity bought before; so unit_r, unit_alpha, unit_median_gap';
COMMENT ON COLUMN cdp.repurchase_cycle.converged IS 'whether the fit found its maximum';
COMMENT ON COLUMN cdp.repurchase_cycle.boundary IS 'whether k or r stopped at the end of its range, as with gaps that are all equal';
COMMENT ON COLUMN cdp.repurchase_cycle.fitted_at IS 'when the row changed last';
INSERT INTO cdp.job (job, command, schedule, description)
	VALUES ('track_repurchases', 'CALL cdp.track_repurchases()', '11 5 * * *', 'tells in events whose repurchase is due')
	ON CONFLICT (job) DO NOTHING;

-- @view
CREATE OR REPLACE FUNCTION cdp._fit_repurchase(as_of timestamptz DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	written bigint := 0;
	n       bigint;
	what    text;
BEGIN
	PERFORM cdp._require_version();
	as_of := cdp._as_of(as_of);
	FOREACH what IN ARRAY '{category,product,customer}'::text[] LOOP
		EXECUTE format($q$
			WITH fit AS MATERIALIZED (
				SELECT s.key, cdp._fit_cycle(array_agg(s.gaps), array_agg(s.sum_gap), array_agg(s.log_gaps)) AS f,
					cdp._fit_cycle(array_agg(s.gaps), array_agg(s.sum_unit), array_agg(s.log_units)) AS u
				FROM (%s) s WHERE s.gaps > 0 GROUP BY s.key
			), new AS MATERIALIZED (
				SELECT $2 || ':' || key AS repurchase_cycle, $2 AS by, key, (f).k, (f).r, (f).alpha, (f).customers, (f).gap_count AS gaps,
					cdp._cycle_quantile((f).k, (f).r, (f).alpha, 0, 0) AS median_gap, (u).k AS unit_k, (u).r AS unit_r, (u).alpha AS unit_alpha,
					cdp._cycle_quantile((u).k, (u).r, (u).alpha, 0, 0) AS unit_median_gap,
					(f).converged AND (u).converged AS converged, (f).boundary OR (u).boundary AS boundary
				FROM fit
			), gone AS (
				DELETE FROM cdp.repurchase_cycle c WHERE c.by = $2 AND c.repurchase_cycle NOT IN (SELECT n.repurchase_cycle FROM new n) RETURNING 1
			), put AS (
				INSERT INTO cdp.repurchase_cycle AS c (repurchase_cycle, by, key, k, r, alpha, customers, gaps, median_gap,
					unit_k, unit_r, unit_alpha, unit_median_gap, converged, boundary)
				SELECT n.* FROM new n
				ON CONFLICT (repurchase_cycle) DO UPDATE SET (k, r, alpha, customers, gaps, median_gap, unit_k, unit_r, unit_alpha, unit_median_gap,
						converged, boundary, fitted_at)
					= (excluded.k, excluded.r, excluded.alpha, excluded.customers, excluded.gaps, excluded.median_gap, excluded.unit_k,
						excluded.unit_r, excluded.unit_alpha, excluded.unit_median_gap, excluded.converged, excluded.boundary, excluded.fitted_at)
				WHERE (c.k, c.r, c.alpha, c.customers, c.gaps, c.unit_k, c.unit_r, c.unit_alpha, c.converged, c.boundary) IS DISTINCT FROM
					(excluded.k, excluded.r, excluded.alpha, excluded.customers, excluded.gaps, excluded.unit_k, excluded.unit_r,
						excluded.unit_alpha, excluded.converged, excluded.boundary)
				RETURNING 1
			) SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM put)$q$, cdp._repurchase_sql(what))
			INTO n USING as_of, what;
		written := written + n;
	END LOOP;
	RETURN written;
END $$;
COMMENT ON FUNCTION cdp._fit_repurchase(timestamptz) IS 'internal: fits cdp.repurchase_cycle to the orders up to as_of (NULL: cdp.now()), in the caller''s transaction; answers how many rows changed. Errors: 22023 infinite as_of.';

CREATE OR REPLACE FUNCTION cdp.repurchase_due(as_of timestamptz DEFAULT NULL, within interval DEFAULT '7 days', by text DEFAULT 'category',
	scale_by_quantity boolean DEFAULT false)
	RETURNS TABLE (customer_id bigint, key text, last_at timestamptz, purchases bigint, typical_gap interval, due_at timestamptz,
		due_from timestamptz, due_until timestamptz, probability float8)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER ROWS 10000 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	what ALIAS FOR $3;		-- by is a word of PL/pgSQL
	days float8;
	sql  text;
BEGIN
	PERFORM cdp._require_version();
	as_of := cdp._as_of(as_of);
	what := coalesce(what, 'category');
	scale_by_quantity := coalesce(scale_by_quantity, false);
	days := cdp._check_within(coalesce(within, interval '7 days'));
	sql := cdp._repurchase_sql(what);
	IF scale_by_quantity AND what = 'customer' THEN
		RAISE EXCEPTION 'a cycle by customer has no quantity' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Use by => ''category'' or by => ''product'' with scale_by_quantity.';
	ELSIF NOT EXISTS (SELECT FROM cdp.repurchase_cycle c WHERE c.by = what) THEN
		RAISE NOTICE 'no repurchase cycle by % is known', what USING HINT = 'CALL cdp.fit_value_models(); learns them from the orders, once customers have bought twice.';
		RETURN;
	END IF;
	RETURN QUERY EXECUTE format($q$
		SELECT t.customer_id, t.key, t.last_at, t.purchases, justify_hours(make_interval(secs => t.d[1])), t.last_at + make_interval(secs => t.d[1]),
			t.last_at + make_interval(secs => t.d[2]), t.last_at + make_interval(secs => t.d[3]), t.d[4]
		FROM (
			SELECT s.customer_id, s.key, s.last_at, s.purchases,
				ARRAY[least(round(s.d[1] * 86400), 3e9), least(round(s.d[2] * 86400), 3e9), least(round(s.d[3] * 86400), 3e9), s.d[4]] AS d
			FROM (
				SELECT s.customer_id, s.key, s.last_at, s.purchases, cdp._cycle_due(%s, extract(epoch FROM $1 - s.last_at)::float8 / 86400, $2, %s) AS d
				FROM (%s) s JOIN cdp.repurchase_cycle c ON c.repurchase_cycle = $3 || ':' || s.key
				OFFSET 0) s
			WHERE s.d IS NOT NULL) t
		ORDER BY 6, 1, 2$q$,
		CASE WHEN scale_by_quantity THEN 'c.unit_k, c.unit_r, c.unit_alpha, s.gaps, s.sum_unit' ELSE 'c.k, c.r, c.alpha, s.gaps, s.sum_gap' END,
		CASE WHEN scale_by_quantity THEN 's.quantity' ELSE '1' END, sql) USING as_of, days, what;
END $$;
COMMENT ON FUNCTION cdp.repurchase_due(timestamptz, interval, text, boolean) IS
'Who should buy again by now or soon, earliest first: rows whose due_at lies before as_of + within and whose due_until is not past. key: the category or product_id, * by customer. last_at: his last purchase of it; purchases: days on which he bought it; typical_gap: median of his next gap, from his own gaps and those of all who buy the key; due_at = last_at + typical_gap; due_from, due_until: the gap ends before them with probability 0.1 and 0.9; probability: that he buys within the time given from as_of on, since he has not yet.
as_of: NULL is cdp.now(). within: up to 100 years. by: category (of the order line, else of the product), product, or customer (anything). scale_by_quantity: gaps are per unit bought, so two bags last twice as long. Orders that are paid, shipped, completed or refunded count, by One ID, unless all their money was given back; the cycles are those of cdp.repurchase_cycle, and a notice tells when there are none. An argument that is NULL means its default. Errors: 22023 unknown by, within out of range, infinite as_of, scale_by_quantity by customer.
Model: Gamma gaps, rates Gamma over customers; the next gap is (alpha + sum) * BetaPrime(k, r + k n) (Chatfield, Goodhardt 1973; Gupta 1991).';

CREATE OR REPLACE FUNCTION cdp.repurchase_rate(within interval DEFAULT '30 days', from_time timestamptz DEFAULT NULL, to_time timestamptz DEFAULT NULL,
	as_of timestamptz DEFAULT NULL)
	RETURNS TABLE (month date, first_buyers bigint, complete bigint, repurchased bigint, rate numeric, pending bigint)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER ROWS 60 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	zone text := coalesce(current_setting('cdp.timezone', true), 'Asia/Shanghai');
BEGIN
	PERFORM cdp._require_version();
	as_of := cdp._as_of(as_of);
	within := coalesce(within, interval '30 days');
	PERFORM cdp._check_within(within);
	IF from_time > to_time THEN
		RAISE EXCEPTION 'from_time is later than to_time' USING ERRCODE = 'invalid_parameter_value', HINT = 'Exchange them.';
	END IF;
	RETURN QUERY
	SELECT f.month, count(*), count(*) FILTER (WHERE f.until <= repurchase_rate.as_of), count(*) FILTER (WHERE f.until <= repurchase_rate.as_of AND f.next_at < f.until),
		round(count(*) FILTER (WHERE f.until <= repurchase_rate.as_of AND f.next_at < f.until)::numeric / nullif(count(*) FILTER (WHERE f.until <= repurchase_rate.as_of), 0), 4),
		count(*) FILTER (WHERE f.until > repurchase_rate.as_of)
	FROM (
		SELECT date_trunc('month', d.at AT TIME ZONE zone)::date AS month, d.next_at, (d.at AT TIME ZONE zone + within) AT TIME ZONE zone AS until, d.at
		FROM (
			SELECT min(o.ordered_at) AS at, lead(min(o.ordered_at)) OVER w AS next_at, row_number() OVER w AS n
			FROM cdp.sales_order o LEFT JOIN cdp.profile_alias a ON a.profile_id = o.profile_id
			WHERE cdp._is_purchase(o.status) AND (o.refunded < o.amount OR o.amount = 0)
			  AND o.ordered_at <= repurchase_rate.as_of AND o.ordered_at > '-infinity'
			GROUP BY coalesce(a.customer_id, o.profile_id), (o.ordered_at AT TIME ZONE zone)::date
			WINDOW w AS (PARTITION BY coalesce(a.customer_id, o.profile_id) ORDER BY (o.ordered_at AT TIME ZONE zone)::date)) d
		WHERE d.n = 1 AND d.at >= coalesce(from_time, '-infinity') AND d.at < coalesce(to_time, 'infinity')) f
	GROUP BY f.month ORDER BY f.month;
END $$;
COMMENT ON FUNCTION cdp.repurchase_rate(interval, timestamptz, timestamptz, timestamptz) IS
'How many first buyers of each calendar month (of cdp.timezone) bought again within a time. first_buyers: customers whose first purchase fell into the month; complete: those among them whose window, within from that purchase on, has fully passed at as_of; repurchased: those of complete who bought again inside it, on another calendar day; rate = repurchased / complete, rounded to 4 digits, NULL while nobody is complete; pending: those whose window is still open.
within: up to 100 years. from_time, to_time: of the first purchase, half-open; NULL: no limit. as_of: NULL is cdp.now(); later orders do not exist. Orders that are paid, shipped, completed or refunded count, by One ID, unless all their money was given back. Errors: 22023 within out of range, infinite as_of, from_time after to_time.';

CREATE OR REPLACE FUNCTION cdp._write_due(as_of timestamptz, customers bigint[], dues jsonb[]) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
BEGIN
	PERFORM FROM cdp.profile p WHERE p.profile_id = ANY (customers) ORDER BY p.profile_id FOR NO KEY UPDATE;
	-- who was merged since is told of by the next run, as the customer he is now
	SELECT cdp._insert_events(array_agg(u.customer_id), array_agg('Repurchase Due'::text), array_agg(least(as_of, cdp.now())), array_agg(u.due),
		array_agg(format('repurchase:%s:%s:%s', u.customer_id, extract(epoch FROM (u.due->>'last_at')::timestamptz), u.due->>'category')),
		array_agg('cdp'::text), array_agg(NULL::text), true)
	INTO n FROM unnest(customers, dues) u(customer_id, due) JOIN cdp.profile p ON p.profile_id = u.customer_id
	WHERE NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = u.customer_id) HAVING count(*) > 0;
	RETURN coalesce(n, 0);
END $$;
COMMENT ON FUNCTION cdp._write_due(timestamptz, bigint[], jsonb[]) IS 'internal: events Repurchase Due of these customers, each last purchase once; answers the number of new events';
