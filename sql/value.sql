-- value: what a customer is worth.
-- C: src/value.c, src/value_state.c, src/value_query.c  Page: doc/value.md  Tests: test/sql/value.sql, test/pgtap/value.sql

-- @type
CREATE TYPE cdp.rfm AS (recency interval, frequency bigint, monetary numeric);
COMMENT ON TYPE cdp.rfm IS 'One customer in three numbers: recency = as_of minus last purchase, frequency = number of purchases, monetary = money spent less refunds.';
COMMENT ON COLUMN cdp.rfm.recency IS 'as_of minus the time of the last purchase';
COMMENT ON COLUMN cdp.rfm.frequency IS 'number of purchases; refunds are no purchases';
COMMENT ON COLUMN cdp.rfm.monetary IS 'sum of purchases less refunds, exact';

CREATE TYPE cdp._rfm_detail AS (first_at timestamptz, last_at timestamptz, frequency bigint, gross numeric, refunded numeric, net numeric);
COMMENT ON TYPE cdp._rfm_detail IS 'internal: what cdp.rfm_table needs of one customer';

CREATE TYPE cdp._rfm_options AS (as_of timestamptz, method text, bins int, r_cuts interval[], f_cuts numeric[], m_cuts numeric[],
	high text, r_high interval, f_high numeric, m_high numeric, monetary text, refunds text, currency text, lang text);
COMMENT ON TYPE cdp._rfm_options IS 'internal: the arguments of cdp.rfm_table but the source';

CREATE TYPE cdp.rfm_state;
CREATE FUNCTION cdp._rfm_state_in(cstring) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_state_in';
CREATE FUNCTION cdp._rfm_state_out(cdp.rfm_state) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_state_out';
CREATE FUNCTION cdp._rfm_state_recv(internal) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_state_recv';
CREATE FUNCTION cdp._rfm_state_send(cdp.rfm_state) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_state_send';
CREATE TYPE cdp.rfm_state (INPUT = cdp._rfm_state_in, OUTPUT = cdp._rfm_state_out,
	RECEIVE = cdp._rfm_state_recv, SEND = cdp._rfm_state_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = extended);
COMMENT ON TYPE cdp.rfm_state IS 'State of the aggregate cdp.rfm, written (as_of,first_at,last_at,purchases,gross,refunded) with times in microseconds since 2000-01-01 UTC; () is the state before the first row. Partial results of it combine exactly.';
COMMENT ON FUNCTION cdp._rfm_state_in(cstring) IS 'internal: text form of cdp.rfm_state; 22P02 when it is not a sound state';
COMMENT ON FUNCTION cdp._rfm_state_out(cdp.rfm_state) IS 'internal: text form of cdp.rfm_state';
COMMENT ON FUNCTION cdp._rfm_state_recv(internal) IS 'internal: binary form of cdp.rfm_state; 22P03 when it is not a sound state';
COMMENT ON FUNCTION cdp._rfm_state_send(cdp.rfm_state) IS 'internal: binary form of cdp.rfm_state';

-- @code
CREATE OR REPLACE FUNCTION cdp._rfm_accum(state cdp.rfm_state, occurred_at timestamptz, amount numeric, as_of timestamptz) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_accum_numeric';
COMMENT ON FUNCTION cdp._rfm_accum(cdp.rfm_state, timestamptz, numeric, timestamptz) IS 'internal: one row into the state, in place; 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._rfm_accum(state cdp.rfm_state, occurred_at timestamptz, amount bigint, as_of timestamptz) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_accum_bigint';
COMMENT ON FUNCTION cdp._rfm_accum(cdp.rfm_state, timestamptz, bigint, timestamptz) IS 'internal: one row into the state, in place; 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._rfm_accum(state cdp.rfm_state, occurred_at timestamptz, amount float8, as_of timestamptz) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_accum_float8';
COMMENT ON FUNCTION cdp._rfm_accum(cdp.rfm_state, timestamptz, float8, timestamptz) IS 'internal: one row into the state, in place; 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._rfm_accum(state cdp.rfm_state, occurred_at timestamptz, amount numeric, as_of timestamptz, refunded numeric) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_accum_order';
COMMENT ON FUNCTION cdp._rfm_accum(cdp.rfm_state, timestamptz, numeric, timestamptz, numeric) IS 'internal: one order with its refunded part into the state, in place; 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._rfm_combine(a cdp.rfm_state, b cdp.rfm_state) RETURNS cdp.rfm_state
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_combine';
COMMENT ON FUNCTION cdp._rfm_combine(cdp.rfm_state, cdp.rfm_state) IS 'internal: b into a, in place; 22023 when their as_of differ, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._rfm_final(state cdp.rfm_state) RETURNS cdp.rfm
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_final';
COMMENT ON FUNCTION cdp._rfm_final(cdp.rfm_state) IS 'internal: result of cdp.rfm; NULL without a purchase';
CREATE OR REPLACE FUNCTION cdp._rfm_detail_final(state cdp.rfm_state) RETURNS cdp._rfm_detail
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_detail_final';
COMMENT ON FUNCTION cdp._rfm_detail_final(cdp.rfm_state) IS 'internal: all facts of the state; NULL without a purchase';

CREATE OR REPLACE AGGREGATE cdp.rfm(occurred_at timestamptz, amount numeric, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm(timestamptz, numeric, timestamptz) IS 'Recency, frequency and money of one customer: amount >= 0 is a purchase, amount < 0 a refund, which lowers the money and is no purchase; rows after as_of do not exist. Exact. A row with a NULL is skipped; NULL without a purchase. Errors: 22023 for NaN or infinite amounts, infinite times, as_of that differ within a group.';
CREATE OR REPLACE AGGREGATE cdp.rfm(occurred_at timestamptz, amount bigint, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm(timestamptz, bigint, timestamptz) IS 'Recency, frequency and money of one customer, of whole amounts (say cents: the money comes back in the same unit). All else as cdp.rfm with numeric amounts.';
CREATE OR REPLACE AGGREGATE cdp.rfm(occurred_at timestamptz, amount float8, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm(timestamptz, float8, timestamptz) IS 'Recency, frequency and money of one customer; each amount counts as its cast to numeric, so 0.1 is 0.1 and the sum does not depend on the order of the rows. All else as cdp.rfm with numeric amounts.';

CREATE OR REPLACE AGGREGATE cdp.rfm_partial(occurred_at timestamptz, amount numeric, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm_partial(timestamptz, numeric, timestamptz) IS 'As cdp.rfm, but answers the state, to be kept (per month, per shard) and put together by cdp.rfm_combine. Never NULL.';
CREATE OR REPLACE AGGREGATE cdp.rfm_combine(state cdp.rfm_state) (
	SFUNC = cdp._rfm_combine, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.rfm_combine(cdp.rfm_state) IS 'The cdp.rfm of all rows behind several states: what cdp.rfm says of the rows themselves. NULL states are skipped; NULL without a purchase. Errors: 22023 when the states have different as_of.';

CREATE OR REPLACE AGGREGATE cdp._rfm_detail(occurred_at timestamptz, amount numeric, as_of timestamptz) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_detail_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp._rfm_detail(timestamptz, numeric, timestamptz) IS 'internal: as cdp.rfm, with all facts of the state';
CREATE OR REPLACE AGGREGATE cdp._rfm_detail(occurred_at timestamptz, amount numeric, as_of timestamptz, refunded numeric) (
	SFUNC = cdp._rfm_accum, STYPE = cdp.rfm_state, SSPACE = 96, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_combine, FINALFUNC = cdp._rfm_detail_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp._rfm_detail(timestamptz, numeric, timestamptz, numeric) IS 'internal: as cdp.rfm over orders that know their refunds, with all facts of the state';

CREATE OR REPLACE FUNCTION cdp._purchases_query(query text) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_purchases_query';
COMMENT ON FUNCTION cdp._purchases_query(text) IS 'internal: a query for purchases, looked up in the caller''s search_path, checked, and printed so that it needs none; columns customer_id, occurred_at, amount and, when it has four, currency. Errors: 42601, 42804 and 0A000 with a hint, and those of the query itself.';

CREATE OR REPLACE FUNCTION cdp._rfm_refuse(message text, hint text) RETURNS boolean
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = message, HINT = hint;
END $$;
COMMENT ON FUNCTION cdp._rfm_refuse(text, text) IS 'internal: raises 22023';

CREATE OR REPLACE FUNCTION cdp._rfm_one_currency(lowest text, highest text) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN lowest <> highest THEN cdp._rfm_refuse(format('purchases are in more than one currency, %s and %s among them', lowest, highest),
	'Name the currency of the result, currency => ''CNY'', and give the rates in cdp.currency_rate; or select one currency in the query.') ELSE true END;
COMMENT ON FUNCTION cdp._rfm_one_currency(text, text) IS 'internal: true, or 22023 when there are two currencies';

CREATE OR REPLACE FUNCTION cdp._rfm_rate(rate numeric, from_currency text, to_currency text) RETURNS numeric
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF rate IS NULL THEN
		PERFORM cdp._rfm_refuse(format('there is no rate from %s to %s for the time of some purchase', from_currency, to_currency),
			'Insert it into cdp.currency_rate, with valid_from before the first purchase.');
	END IF;
	RETURN rate;
END $$;
COMMENT ON FUNCTION cdp._rfm_rate(numeric, text, text) IS 'internal: the rate, or 22023 when there is none';

CREATE OR REPLACE FUNCTION cdp._rfm_check(o cdp._rfm_options) RETURNS cdp._rfm_options
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- Fills in defaults (an argument that is NULL means its default) and refuses what makes no sense.
BEGIN
	o.as_of := coalesce(o.as_of, cdp.now());
	o.method := coalesce(o.method, 'quintile');
	o.bins := coalesce(o.bins, 5);
	o.high := coalesce(o.high, 'mean');
	o.monetary := coalesce(o.monetary, 'sum');
	o.refunds := coalesce(o.refunds, 'net');
	o.lang := coalesce(o.lang, 'zh');
	IF NOT isfinite(o.as_of) THEN
		PERFORM cdp._rfm_refuse('as_of must be a finite time', 'Leave it out for now.');
	ELSIF o.method NOT IN ('quintile', 'nested', 'threshold') THEN
		PERFORM cdp._rfm_refuse(format('there is no method "%s"', o.method), 'The methods are quintile, nested and threshold.');
	ELSIF o.bins NOT BETWEEN 2 AND 100 THEN
		PERFORM cdp._rfm_refuse(format('bins is %s', o.bins), 'It must lie between 2 and 100; the usual number is 5.');
	ELSIF o.high NOT IN ('mean', 'median') THEN
		PERFORM cdp._rfm_refuse(format('there is no high "%s"', o.high), 'The values are mean and median; limits of your own are r_high, f_high and m_high.');
	ELSIF o.monetary NOT IN ('sum', 'mean') THEN
		PERFORM cdp._rfm_refuse(format('there is no monetary "%s"', o.monetary), 'The values are sum and mean (per purchase).');
	ELSIF o.refunds NOT IN ('ignore', 'net') THEN
		PERFORM cdp._rfm_refuse(format('there is no rule for refunds "%s"', o.refunds), 'The rules are ignore and net.');
	ELSIF o.lang NOT IN ('zh', 'en') THEN
		PERFORM cdp._rfm_refuse(format('there is no language "%s"', o.lang), 'The languages are zh and en.');
	ELSIF 'NaN' IN (o.f_high, o.m_high) THEN
		PERFORM cdp._rfm_refuse('a limit is not a number', 'Give f_high and m_high as numbers, or leave them out.');
	END IF;
	IF o.method = 'threshold' THEN
		PERFORM cdp._rfm_check_cuts('r_cuts', o.r_cuts, o.bins), cdp._rfm_check_cuts('f_cuts', o.f_cuts, o.bins),
			cdp._rfm_check_cuts('m_cuts', o.m_cuts, o.bins);
	ELSIF o.r_cuts IS NOT NULL OR o.f_cuts IS NOT NULL OR o.m_cuts IS NOT NULL THEN
		PERFORM cdp._rfm_refuse(format('method %s takes no cuts', o.method), 'Say method => ''threshold''.');
	END IF;
	RETURN o;
END $$;
COMMENT ON FUNCTION cdp._rfm_check(cdp._rfm_options) IS 'internal: the arguments of cdp.rfm_table with their defaults; 22023 for what makes no sense';

CREATE OR REPLACE FUNCTION cdp._rfm_check_cuts(name text, cuts anyarray, bins int) RETURNS void
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF cuts IS NULL OR array_ndims(cuts) IS DISTINCT FROM 1 OR cardinality(cuts) <> bins - 1 THEN
		PERFORM cdp._rfm_refuse(format('method threshold needs %s with %s values, one less than bins', name, bins - 1),
			'For five scores for example f_cuts => ''{2,3,5,10}'' and r_cuts => ''{7 days,30 days,90 days,180 days}''.');
	ELSIF EXISTS (SELECT FROM (SELECT c, lag(c) OVER (ORDER BY ord) AS before FROM unnest(cuts) WITH ORDINALITY u(c, ord)) x
	              WHERE c IS NULL OR c <= before OR c::text = 'NaN') THEN
		PERFORM cdp._rfm_refuse(format('%s must be ascending, each value once, without NULL', name), 'Sort it.');
	END IF;
END $$;
COMMENT ON FUNCTION cdp._rfm_check_cuts(text, anyarray, int) IS 'internal: 22023 unless cuts has bins - 1 ascending values';

CREATE OR REPLACE FUNCTION cdp._rfm_sql(source text, has_refunded boolean, has_currency boolean, o cdp._rfm_options) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- The statement behind rfm_table.  Parameters: $1 as_of, $2 bins, $3 $4 $5 cuts of r, f, m, $6 $7 $8 limits of
-- r, f, m, $9 lang, $10 currency.  Only the fixed words of o shape the text; every value of the caller is a parameter.
DECLARE
	amount text := 's.amount';
	taken  text := 's.refunded';
	rates  text := '';
	scores text;
	x      text;
	limits text := '';
	highs  text := '';
	m      text;
	given  boolean;
BEGIN
	IF o.currency IS NOT NULL THEN
		IF NOT has_currency THEN
			PERFORM cdp._rfm_refuse('the query returns no currency', 'Add it as fourth column, or leave out the argument currency.');
		END IF;
		amount := 'CASE WHEN s.currency = $10 THEN s.amount ELSE s.amount * cdp._rfm_rate(e.rate, s.currency, $10) END';
		taken := 'CASE WHEN s.currency = $10 THEN s.refunded ELSE s.refunded * cdp._rfm_rate(e.rate, s.currency, $10) END';
		-- cdp.convert_amount() as a join; of two rows for one moment, one in each direction, the direct one counts
		rates := $q$ LEFT JOIN (
			SELECT currency, rate, valid_from, lead(valid_from) OVER (PARTITION BY currency ORDER BY valid_from) AS valid_to
			FROM (SELECT DISTINCT ON (currency, valid_from) currency, rate, valid_from FROM (
				SELECT from_currency AS currency, rate, valid_from, 1 AS way FROM cdp.currency_rate WHERE to_currency = $10
				UNION ALL SELECT to_currency, 1 / rate, valid_from, 2 FROM cdp.currency_rate WHERE from_currency = $10) b
				ORDER BY currency, valid_from, way) d
			) e ON e.currency = s.currency AND s.currency <> $10
			   AND s.occurred_at >= e.valid_from AND (e.valid_to IS NULL OR s.occurred_at < e.valid_to)$q$;
	END IF;
	CASE o.method
	WHEN 'quintile' THEN
		scores := $q$SELECT w.*,
			1 + ($2 * (rank() OVER (ORDER BY last_at) - 1) / count(*) OVER ())::int AS r,
			1 + ($2 * (rank() OVER (ORDER BY frequency) - 1) / count(*) OVER ())::int AS f,
			1 + ($2 * (rank() OVER (ORDER BY monetary) - 1) / count(*) OVER ())::int AS m FROM who w$q$;
	WHEN 'nested' THEN
		scores := $q$SELECT b.*, 1 + ($2 * (rank() OVER (PARTITION BY r, f ORDER BY monetary) - 1) / count(*) OVER (PARTITION BY r, f))::int AS m FROM (
			SELECT a.*, 1 + ($2 * (rank() OVER (PARTITION BY r ORDER BY frequency) - 1) / count(*) OVER (PARTITION BY r))::int AS f FROM (
			SELECT w.*, 1 + ($2 * (rank() OVER (ORDER BY last_at) - 1) / count(*) OVER ())::int AS r FROM who w) a) b$q$;
	WHEN 'threshold' THEN
		-- a score falls when recency is beyond a cut, and rises when frequency or money reaches one
		scores := $q$SELECT w.*, $2 - (SELECT count(*) FROM unnest($3) c WHERE c < w.recency)::int AS r,
			1 + width_bucket(frequency::numeric, $4) AS f, 1 + width_bucket(monetary, $5) AS m FROM who w$q$;
	END CASE;
	-- High is compared without division: measure * a against b, with a = n and b = sum for the mean, a = 2 and b the
	-- two middle values together for the median.
	FOREACH m IN ARRAY ARRAY['r', 'f', 'm'] LOOP
		x := CASE m WHEN 'r' THEN 'seconds' WHEN 'f' THEN 'frequency' ELSE 'monetary' END;
		given := CASE m WHEN 'r' THEN o.r_high IS NOT NULL WHEN 'f' THEN o.f_high IS NOT NULL ELSE o.m_high IS NOT NULL END;
		IF given THEN
			highs := highs || CASE m WHEN 'r' THEN ' || (s.recency <= $6)::int' WHEN 'f' THEN ' || (s.frequency >= $7)::int'
				ELSE ' || (s.monetary >= $8)::int' END;
		ELSE
			limits := limits || format(CASE o.high WHEN 'mean' THEN ', count(*)::numeric AS %1$s_a, sum(%2$s)::numeric AS %1$s_b'
				ELSE ', 2::numeric AS %1$s_a, percentile_disc(0.5) WITHIN GROUP (ORDER BY %2$s)::numeric + percentile_disc(0.5) WITHIN GROUP (ORDER BY %2$s DESC) AS %1$s_b'
				END, m, x);
			highs := highs || format(' || (s.%2$s * l.%1$s_a %3$s l.%1$s_b)::int', m, x, CASE m WHEN 'r' THEN '<=' ELSE '>=' END);
		END IF;
	END LOOP;
	RETURN format($q$
		WITH grp AS (
			SELECT s.customer_id, cdp._rfm_detail(s.occurred_at, %s, $1%s) AS d%s
			FROM (%s) s%s WHERE s.customer_id IS NOT NULL%s GROUP BY s.customer_id
		), who AS MATERIALIZED (
			SELECT customer_id, $1 - (d).last_at AS recency, extract(epoch FROM $1) - extract(epoch FROM (d).last_at) AS seconds,
				(d).frequency, %s AS monetary, (d).first_at, (d).last_at, (d).gross, %s AS refunded%s
			FROM (SELECT * FROM grp OFFSET 0) g WHERE (d).frequency IS NOT NULL
		), lim AS (SELECT count(*) AS n%s FROM who%s)
		SELECT s.customer_id, s.recency, s.frequency, s.monetary, s.first_at, s.last_at, s.gross, s.refunded, s.r, s.f, s.m,
			concat_ws(CASE WHEN $2 > 9 THEN '-' ELSE '' END, s.r, s.f, s.m), coalesce(CASE $9 WHEN 'en' THEN g.label_en ELSE g.label_zh END, g8)
		FROM lim l CROSS JOIN (%s) s CROSS JOIN LATERAL (SELECT ''%s AS g8 OFFSET 0) k
		LEFT JOIN cdp.rfm_group g ON g.rfm_group = k.g8 AND g.scheme = 8$q$,
		amount,
		CASE WHEN has_refunded THEN ', ' || taken ELSE '' END,
		CASE WHEN has_currency THEN ', min(s.currency COLLATE "C") AS lowest, max(s.currency COLLATE "C") AS highest' ELSE '' END,
		source, rates,
		CASE WHEN has_currency THEN ' AND s.currency IS NOT NULL AND (s.occurred_at <= $1 OR s.occurred_at = ''infinity'') AND s.amount IS NOT NULL' ELSE '' END,
		format(CASE o.monetary WHEN 'mean' THEN '%s / (d).frequency' ELSE '%s' END, CASE o.refunds WHEN 'net' THEN '(d).net' ELSE '(d).gross' END),
		CASE o.refunds WHEN 'net' THEN '(d).refunded' ELSE '0::numeric' END,
		CASE WHEN has_currency THEN ', lowest, highest' ELSE '' END,
		limits,
		CASE WHEN has_currency AND o.currency IS NULL THEN ' HAVING cdp._rfm_one_currency(min(lowest), max(highest))' ELSE '' END,
		scores, highs);
END $$;
COMMENT ON FUNCTION cdp._rfm_sql(text, boolean, boolean, cdp._rfm_options) IS 'internal: the statement behind cdp.rfm_table over a source with columns customer_id, occurred_at, amount [, refunded] [, currency]';

CREATE OR REPLACE FUNCTION cdp._rfm_query(source text, o cdp._rfm_options)
	RETURNS TABLE (customer_id bigint, recency interval, frequency bigint, monetary numeric, first_at timestamptz, last_at timestamptz,
		gross numeric, refunded numeric, r int, f int, m int, score text, group8 text)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
-- The source comes from cdp._purchases_query and runs as the caller; functions in it cannot write either.
BEGIN
	o := cdp._rfm_check(o);
	PERFORM cdp._begin_read_only();
	RETURN QUERY EXECUTE cdp._rfm_sql(source, false, source LIKE '%q(c1, c2, c3, c4)', o)
		USING o.as_of, o.bins, o.r_cuts, o.f_cuts, o.m_cuts, o.r_high, o.f_high, o.m_high, o.lang, o.currency;
	PERFORM cdp._end_read_only();
END $$;
COMMENT ON FUNCTION cdp._rfm_query(text, cdp._rfm_options) IS 'internal: cdp.rfm_table over a query';

-- @access
('function', 'rfm', 'EXECUTE', '{public}'),
('function', 'rfm_partial', 'EXECUTE', '{public}'),
('function', 'rfm_combine', 'EXECUTE', '{public}'),
('function', '_rfm_detail', 'EXECUTE', '{reader}'),
('function', '_local_to_utc', 'EXECUTE', '{reader}'),
('function', '_purchases_query', 'EXECUTE', '{reader}'),
('function', '_rfm_query', 'EXECUTE', '{reader}'),
('function', '_rfm_check', 'EXECUTE', '{reader}'),
('function', '_rfm_check_cuts', 'EXECUTE', '{reader}'),
('function', '_rfm_refuse', 'EXECUTE', '{reader}'),
('function', '_rfm_one_currency', 'EXECUTE', '{reader}'),
('function', '_rfm_rate', 'EXECUTE', '{reader}'),
('function', '_rfm_sql', 'EXECUTE', '{reader}'),
('function', '_rfm_sales', 'EXECUTE', '{reader}'),
('function', 'rfm_table', 'EXECUTE', '{reader}'),
('table', 'rfm_group', 'SELECT', '{reader}'),
('table', 'rfm_group', 'UPDATE', '{operator}'),
('table', 'rfm_group_summary', 'SELECT', '{reader}'),

-- @data
PERFORM cdp._ensure_table('rfm_group', $t$ (
	rfm_group    text PRIMARY KEY,
	scheme       int NOT NULL DEFAULT 8,
	label_zh     text NOT NULL,
	label_en     text NOT NULL,
	treatment_zh text,
	treatment_en text,
	sort         int NOT NULL,
	UNIQUE (scheme, label_zh),
	UNIQUE (scheme, label_en)
) $t$);
COMMENT ON TABLE cdp.rfm_group IS 'Names of the RFM groups and what to do with them, to be changed as you like; a group keeps its key.';
COMMENT ON COLUMN cdp.rfm_group.rfm_group IS 'key; of the eight groups: recency, frequency, money, 1 high and 0 low, so 111 is the best';
COMMENT ON COLUMN cdp.rfm_group.scheme IS 'which set of groups: 8';
COMMENT ON COLUMN cdp.rfm_group.label_zh IS 'name in Chinese, shown with lang => ''zh''';
COMMENT ON COLUMN cdp.rfm_group.label_en IS 'name in English, shown with lang => ''en''';
COMMENT ON COLUMN cdp.rfm_group.treatment_zh IS 'what to do with these customers, in Chinese';
COMMENT ON COLUMN cdp.rfm_group.treatment_en IS 'the same in English';
COMMENT ON COLUMN cdp.rfm_group.sort IS 'place in lists, best first';
INSERT INTO cdp.rfm_group (rfm_group, scheme, label_zh, label_en, treatment_zh, treatment_en, sort) VALUES
	('111', 8, '重要价值客户', 'Important: value',    '重点维护，优先服务，专属权益', 'look after them first, exclusive benefits', 1),
	('101', 8, '重要发展客户', 'Important: develop',  '提高购买频次，交叉推荐', 'raise how often they buy, cross-sell', 2),
	('011', 8, '重要保持客户', 'Important: keep',     '主动联系，了解近期未购原因', 'get in touch, find out why they stay away', 3),
	('001', 8, '重要挽留客户', 'Important: win back', '高额专属优惠，人工挽回', 'a strong personal offer, a call', 4),
	('110', 8, '一般价值客户', 'General: value',      '提高客单价，套餐与升级推荐', 'raise the basket: bundles, upgrades', 5),
	('100', 8, '一般发展客户', 'General: develop',    '新客培育，引导二次购买', 'welcome them, lead to the second purchase', 6),
	('010', 8, '一般保持客户', 'General: keep',       '定期触达，积分与内容唤醒', 'reach out now and then: points, content', 7),
	('000', 8, '一般挽留客户', 'General: win back',   '低成本自动触达，或放弃', 'cheap automatic messages, or let go', 8)
	ON CONFLICT DO NOTHING;

-- @view
CREATE OR REPLACE FUNCTION cdp._rfm_sales(o cdp._rfm_options)
	RETURNS TABLE (customer_id bigint, recency interval, frequency bigint, monetary numeric, first_at timestamptz, last_at timestamptz,
		gross numeric, refunded numeric, r int, f int, m int, score text, group8 text)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._require_version();
	o := cdp._rfm_check(o);
	RETURN QUERY EXECUTE cdp._rfm_sql(
		'SELECT coalesce(a.customer_id, o.profile_id) AS customer_id, o.ordered_at AS occurred_at, o.amount, o.refunded, o.currency
		 FROM cdp.sales_order o LEFT JOIN cdp.profile_alias a ON a.profile_id = o.profile_id
		 WHERE o.status IN (''paid'', ''shipped'', ''completed'', ''refunded'')', true, true, o)
		USING o.as_of, o.bins, o.r_cuts, o.f_cuts, o.m_cuts, o.r_high, o.f_high, o.m_high, o.lang, o.currency;
END $$;
COMMENT ON FUNCTION cdp._rfm_sales(cdp._rfm_options) IS 'internal: cdp.rfm_table over the orders of the CDP, by One ID';

CREATE OR REPLACE FUNCTION cdp.rfm_table(as_of timestamptz DEFAULT NULL, purchases text DEFAULT NULL, method text DEFAULT 'quintile',
	bins int DEFAULT 5, r_cuts interval[] DEFAULT NULL, f_cuts numeric[] DEFAULT NULL, m_cuts numeric[] DEFAULT NULL,
	high text DEFAULT 'mean', r_high interval DEFAULT NULL, f_high numeric DEFAULT NULL, m_high numeric DEFAULT NULL,
	monetary text DEFAULT 'sum', refunds text DEFAULT 'net', currency text DEFAULT NULL, lang text DEFAULT 'zh')
	RETURNS TABLE (customer_id bigint, recency interval, frequency bigint, monetary numeric, first_at timestamptz, last_at timestamptz,
		gross numeric, refunded numeric, r int, f int, m int, score text, group8 text)
	LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT t.* FROM cdp._rfm_sales(ROW(rfm_table.as_of, rfm_table.method, rfm_table.bins, rfm_table.r_cuts, rfm_table.f_cuts, rfm_table.m_cuts,
		rfm_table.high, rfm_table.r_high, rfm_table.f_high, rfm_table.m_high, rfm_table.monetary, rfm_table.refunds, rfm_table.currency,
		rfm_table.lang)::cdp._rfm_options) t WHERE purchases IS NULL
	UNION ALL
	SELECT t.* FROM cdp._rfm_query(cdp._purchases_query(purchases), ROW(rfm_table.as_of, rfm_table.method, rfm_table.bins, rfm_table.r_cuts,
		rfm_table.f_cuts, rfm_table.m_cuts, rfm_table.high, rfm_table.r_high, rfm_table.f_high, rfm_table.m_high, rfm_table.monetary,
		rfm_table.refunds, rfm_table.currency, rfm_table.lang)::cdp._rfm_options) t WHERE purchases IS NOT NULL;
END;
COMMENT ON FUNCTION cdp.rfm_table(timestamptz, text, text, int, interval[], numeric[], numeric[], text, interval, numeric, numeric, text, text, text, text) IS
'RFM of every customer with a purchase up to as_of: recency (as_of minus last purchase), frequency (purchases), monetary (money), first_at, last_at, gross (money before refunds), refunded (what was taken off, >= 0), scores r, f, m from 1 to bins (best), score (543), group8 (one of eight groups).
as_of: NULL is cdp.now(). purchases: NULL is cdp.sales_order (paid, shipped, completed and refunded orders, by One ID), else the text of a query for (customer_id bigint, occurred_at timestamptz, amount numeric [, currency text]) that runs read-only with your rights; a negative amount is a refund; date and timestamp are read in cdp.timezone. method: quintile (1 + floor(bins * (rank - 1) / customers), rank counts those strictly worse, so equal values share a score), nested (f within each r, m within each r and f), threshold (f_cuts, m_cuts: 1 + number of cuts <= value; r_cuts: bins minus number of cuts < recency). high: what parts high from low in group8, mean or median; r_high, f_high, m_high are limits of your own (high is recency <= r_high, frequency >= f_high, monetary >= m_high). monetary: sum or mean per purchase. refunds: net or ignore. currency: NULL when there is only one; else all money is converted at the time of the purchase as cdp.convert_amount() does, not rounded. lang: names of groups in zh or en.
An argument that is NULL means its default; rows with a NULL are skipped. Errors: 22023 for arguments out of range, two currencies, a missing rate, NaN or infinite values; 42601, 42804, 0A000, 25006 and any other for a query that is not fit; 42501.';

CREATE OR REPLACE VIEW cdp.rfm_group_summary AS
SELECT g.label_zh AS group8, coalesce(t.customers, 0) AS customers,
	round(coalesce(t.customers, 0) / nullif(sum(t.customers) OVER (), 0), 4) AS share,
	coalesce(t.monetary, 0) AS monetary,
	round(coalesce(t.monetary, 0) / nullif(sum(t.monetary) OVER (), 0), 4) AS monetary_share,
	t.recency_days
FROM cdp.rfm_group g
LEFT JOIN (SELECT r.group8, count(*) AS customers, sum(r.monetary) AS monetary,
		round(avg(extract(epoch FROM r.recency)) / 86400, 1) AS recency_days
	FROM cdp.rfm_table() r GROUP BY r.group8) t ON t.group8 = g.label_zh
WHERE g.scheme = 8
ORDER BY g.sort;
COMMENT ON VIEW cdp.rfm_group_summary IS 'The eight RFM groups of all customers now, best first: customers, their share, money, its share (NULL when there is none), mean recency in days (NULL for an empty group).';
