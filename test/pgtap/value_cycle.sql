-- Repurchase cycles against data that come from the model, and against plain SQL that shares no formula with the code:
-- for a whole k the distribution of a next gap is a finite sum (negative binomial), for which no incomplete beta is
-- needed.  To repeat a run: psql -v seed=NUMBER -f test/pgtap/value_cycle.sql (or CDP_SEED).
\if :{?seed}
\else
\getenv seed CDP_SEED
\endif
\if :{?seed}
\else
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 1000000 AS seed \gset
\endif
BEGIN;
SELECT plan(23);
SELECT diag('value_cycle: seed ' || :seed || ' (CDP_SEED chooses another)');
SELECT setseed((:seed % 1000000) / 1000000.0)::text = '' AS seeded \gset
SET LOCAL client_min_messages = warning;
SET LOCAL cdp.now = '2026-07-01T12:00:00+08:00';

-- Gamma(a, 1) by Marsaglia and Tsang (2000), a >= 1
CREATE FUNCTION pg_temp.gamma(a float8) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
	d float8 := a - 1.0 / 3;
	c float8 := 1 / sqrt(9 * d);
	x float8; v float8;
BEGIN
	LOOP
		x := sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random());
		v := (1 + c * x) ^ 3;
		CONTINUE WHEN v <= 0;
		IF ln(1 - random()) < 0.5 * x * x + d - d * v + d * ln(v) THEN
			RETURN d * v;
		END IF;
	END LOOP;
END $$;
-- ln Gamma by recursion and Stirling's series
CREATE FUNCTION pg_temp.log_gamma(x float8) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	s float8 := 0;
BEGIN
	WHILE x < 20 LOOP s := s - ln(x); x := x + 1; END LOOP;
	RETURN s + (x - 0.5) * ln(x) - x + 0.5 * ln(2 * pi()) + 1 / (12 * x) - 1 / (360 * x ^ 3) + 1 / (1260 * x ^ 5);
END $$;
-- P(next gap <= t) for a whole k: the rate is Gamma(r, scale), fewer than k events in t are negative binomial
CREATE FUNCTION pg_temp.cdf(k int, r float8, scale float8, t float8) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	term float8 := (scale / (scale + t)) ^ r;
	s    float8 := 0;
BEGIN
	FOR j IN 0 .. k - 1 LOOP
		s := s + term;
		term := term * (r + j) / (j + 1) * t / (scale + t);
	END LOOP;
	RETURN 1 - s;
END $$;

CREATE TYPE pg_temp.fit AS (k float8, r float8, alpha float8, customers bigint, gap_count bigint, log_likelihood float8, converged boolean, boundary boolean);
CREATE FUNCTION pg_temp.fit(gaps float8[], sums float8[], logs float8[]) RETURNS pg_temp.fit LANGUAGE sql AS $$ SELECT ROW(f.*)::pg_temp.fit FROM cdp._fit_cycle(gaps, sums, logs) f $$;

-- three shops: as by chance, regular and alike, regular and unlike
CREATE TEMP TABLE shop (shop int, k float8, r float8, alpha float8);
INSERT INTO shop VALUES (1, 1, 3, 60), (2, 4, 10, 75), (3, 6, 2.5, 8);
-- some have no gap yet, some many; the gap number 0 is the one to come
CREATE TEMP TABLE gap AS SELECT c.shop, c.i, j, pg_temp.gamma(c.k) / c.rate AS gap
	FROM (SELECT s.shop, s.k, i, pg_temp.gamma(s.r) / s.alpha AS rate, floor(random() * random() * 12)::int AS n FROM shop s, generate_series(1, 3000) i) c, generate_series(0, c.n) j;
CREATE INDEX ON gap (shop, i);
ANALYZE gap;
CREATE TEMP TABLE fitted AS SELECT s.*, (pg_temp.fit(array_agg(g.n), array_agg(g.sum), array_agg(g.logs))) AS f
	FROM shop s JOIN (SELECT shop, i, count(*)::float8 AS n, sum(gap) AS sum, sum(ln(gap)) AS logs FROM gap WHERE j > 0 GROUP BY shop, i) g USING (shop) GROUP BY s.shop, s.k, s.r, s.alpha;
SELECT diag(format('shop %s: k %s -> %s, r %s -> %s, alpha %s -> %s', shop, k, round((f).k::numeric, 3), r, round((f).r::numeric, 3), alpha, round((f).alpha::numeric, 2))) FROM fitted ORDER BY shop;
SELECT is_empty('SELECT shop, f FROM fitted WHERE NOT (f).converged OR (f).boundary', 'the fits converge inside');
SELECT is_empty('SELECT shop, k, (f).k FROM fitted WHERE abs((f).k / k - 1) > 0.1', 'k is found within 10 %');
SELECT is_empty('SELECT shop, r, (f).r FROM fitted WHERE abs((f).r / r - 1) > 0.3', 'r is found within 30 %');
SELECT is_empty('SELECT shop FROM fitted WHERE abs((f).k * (f).alpha / ((f).r - 1) / (k * alpha / (r - 1)) - 1) > 0.15', 'the mean gap is found within 15 %');

-- the likelihood, written down anew; the fit with its prior is a maximum of it
CREATE FUNCTION pg_temp.log_likelihood(which int, k float8, r float8, alpha float8) RETURNS float8 LANGUAGE sql AS $$
	SELECT sum(r * ln(alpha) - pg_temp.log_gamma(r) + pg_temp.log_gamma(r + k * n) - n * pg_temp.log_gamma(k) + (k - 1) * logs - (r + k * n) * ln(alpha + s))
	FROM (SELECT count(*) AS n, sum(gap) AS s, sum(ln(gap)) AS logs FROM gap WHERE shop = which AND j > 0 AND i <= 100 GROUP BY i) c $$;
CREATE TEMP TABLE small AS SELECT g.shop, pg_temp.fit(array_agg(g.n), array_agg(g.sum), array_agg(g.logs)) AS f
	FROM (SELECT shop, i, count(*)::float8 AS n, sum(gap) AS sum, sum(ln(gap)) AS logs FROM gap WHERE j > 0 AND i <= 100 GROUP BY shop, i) g GROUP BY g.shop;
SELECT is_empty('SELECT shop FROM small WHERE abs((f).log_likelihood / pg_temp.log_likelihood(shop, (f).k, (f).r, (f).alpha) - 1) > 1e-9', 'log_likelihood is that of the formula');
SELECT is_empty($$SELECT s.shop, dk, dr, da FROM small s, unnest('{-0.02,0,0.02}'::float8[]) dk, unnest('{-0.02,0,0.02}'::float8[]) dr, unnest('{-0.02,0,0.02}'::float8[]) da
	WHERE (dk <> 0 OR dr <> 0 OR da <> 0)
	  AND pg_temp.log_likelihood(s.shop, (f).k * exp(dk), (f).r * exp(dr), (f).alpha * exp(da)) - (ln((f).k) + dk - ln(2.0)) ^ 2 / 2 - (ln((f).r) + dr - ln(3.0)) ^ 2 / 4.5
		> (f).log_likelihood - (ln((f).k) - ln(2.0)) ^ 2 / 2 - (ln((f).r) - ln(3.0)) ^ 2 / 4.5 + 1e-9 * abs((f).log_likelihood)$$, 'no neighbour is better');
SELECT is_empty($$SELECT a.shop FROM (SELECT s.shop, pg_temp.fit(array_agg(g.n ORDER BY random()), array_agg(g.sum ORDER BY -g.sum), array_agg(g.logs)) AS f
	FROM small s JOIN (SELECT shop, 1::float8 AS n, 30::float8 AS sum, ln(30)::float8 AS logs FROM gap WHERE i <= 50) g USING (shop) GROUP BY s.shop) a
	JOIN (SELECT shop, pg_temp.fit(array_agg(1::float8), array_agg(30::float8), array_agg(ln(30)::float8)) AS f FROM gap WHERE i <= 50 GROUP BY shop) b USING (shop) WHERE a.f::text <> b.f::text$$, 'equal data, equal digits');
SELECT is((SELECT count(DISTINCT f::text) FROM (SELECT pg_temp.fit(array_agg(g.n ORDER BY o), array_agg(g.sum ORDER BY o), array_agg(g.logs ORDER BY o)) AS f
	FROM (SELECT p, random() AS o, g.* FROM generate_series(1, 3) p, (SELECT i, count(*)::float8 AS n, sum(gap) AS sum, sum(ln(gap)) AS logs FROM gap WHERE j > 0 AND shop = 2 GROUP BY i) g) g GROUP BY g.p) x),
	1::bigint, 'the order of the rows does not move a digit');

-- the predictive distribution
CREATE TEMP TABLE point AS SELECT 1 + i % 7 AS k, 0.3 + 20 * random() AS r, exp(random() * 8) AS alpha, (i % 4)::float8 AS n, (i % 4) * exp(random() * 4) AS s, 0.02 + 0.96 * random() AS p
	FROM generate_series(1, 500) i;
SELECT is_empty('SELECT * FROM point WHERE abs(pg_temp.cdf(k, r + k * n, alpha + s, cdp._cycle_quantile(k, r, alpha, n, s, p)) - p) > 1e-9', 'quantiles invert the distribution');
SELECT is_empty($$SELECT * FROM (SELECT p.*, t, w, q, cdp._cycle_due(k, r, alpha, n, s, t, w, q) AS d, pg_temp.cdf(k, r + k * n, alpha + s, t / q) AS f0, pg_temp.cdf(k, r + k * n, alpha + s, (t + w) / q) AS f1
		FROM point p, LATERAL (SELECT alpha * random() AS t, alpha / 5 * random() + p * 0 AS w, 1 + random() AS q) x) y
	WHERE (d IS NOT NULL) <> (f0 <= 0.9 AND f1 > 0.5) AND least(abs(f0 - 0.9), abs(f1 - 0.5)) > 1e-9
	   OR abs(d[4] - (f1 - f0) / (1 - f0)) > 1e-9 OR abs(pg_temp.cdf(k, r + k * n, alpha + s, d[3] / q) - 0.9) > 1e-9$$, 'who is due, until when and how probably');

-- is what comes what was said: the next gap against quantiles and probabilities, with the fitted parameters
CREATE TEMP TABLE next AS SELECT g.shop, g.i, g.gap AS next, (f).k, (f).r, (f).alpha, h.n, h.s
	FROM gap g JOIN fitted USING (shop), LATERAL (SELECT count(*)::float8 AS n, coalesce(sum(gap), 0) AS s FROM gap h WHERE h.shop = g.shop AND h.i = g.i AND h.j > 0) h WHERE g.j = 0;
SELECT is_empty($$SELECT shop, p, new, share FROM (SELECT shop, p, n = 0 AS new, count(*) AS customers, avg((next <= cdp._cycle_quantile(k, r, alpha, n, s, p))::int) AS share
	FROM next, unnest('{0.1,0.5,0.9}'::float8[]) p GROUP BY 1, 2, 3) x WHERE abs(share - p) > 4.5 * sqrt(p * (1 - p) / customers) + 0.01$$,
	'of the new and of the old, 10, 50 and 90 of 100 come before these points of theirs');
CREATE TEMP TABLE chance AS SELECT shop, next, t, w, cdp._cycle_due(k, r, alpha, n, s, t, w, 1) AS d
	FROM (SELECT x.*, cdp._cycle_quantile(k, r, alpha, n, s) * random() * 2 AS t, cdp._cycle_quantile(k, r, alpha, n, s) * random() AS w FROM next x) y WHERE next > t;
SELECT diag(format('shop %s: %s due, %s should buy, %s did', shop, count(*), round(sum(d[4])::numeric, 1), count(*) FILTER (WHERE next <= t + w))) FROM chance WHERE d IS NOT NULL GROUP BY shop ORDER BY shop;
SELECT is_empty('SELECT shop FROM chance WHERE d IS NOT NULL GROUP BY shop HAVING abs(sum(d[4]) - count(*) FILTER (WHERE next <= t + w)) > 4.5 * sqrt(sum(d[4] * (1 - d[4]))) + 0.01 * count(*)',
	'as many buy within the time as the probabilities say together');
SELECT is_empty('SELECT shop, width_bucket(d[4], 0, 1, 5) FROM chance WHERE d IS NOT NULL GROUP BY 1, 2 HAVING abs(sum(d[4]) - count(*) FILTER (WHERE next <= t + w)) > 4.5 * sqrt(sum(d[4] * (1 - d[4]))) + 2 + 0.02 * count(*)',
	'also among those with a low and those with a high one');

-- orders: 300 customers, some of two profiles, four products of two categories, every status
SELECT count(cdp.identify(jsonb_build_object('member_id', 'c' || i))) AS customers FROM generate_series(1, 300) i \gset
SELECT count(cdp.merge_customers(cdp.resolve('member_id', 'c' || i), cdp.resolve('member_id', 'c' || i + 150), 'test')) AS merged FROM generate_series(1, 30) i \gset
INSERT INTO cdp.product (product_id, category) VALUES ('p0', 'x'), ('p1', 'x'), ('p2', 'y'), ('p3', NULL);
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount, refunded)
	SELECT 'o' || i, d.profile_id, timestamptz '2026-07-10 00:00+08' - random() * interval '200 days',
		(ARRAY['paid', 'paid', 'shipped', 'completed', 'refunded', 'placed', 'cancelled'])[1 + floor(7 * random())::int], 10, (ARRAY[0, 0, 0, 4, 10])[1 + floor(5 * random())::int]
	FROM (SELECT i, 'c' || (1 + floor(300 * random() * random()))::int AS who FROM generate_series(1, 4000) i) x JOIN cdp.identifier d ON d.kind = 'member_id' AND d.value = x.who;
INSERT INTO cdp.sales_order_line (order_id, line_no, product_id, quantity, unit_price, category)
	SELECT 'o' || i, n, 'p' || floor(4 * random())::int, floor(4 * random())::int, CASE WHEN random() < 0.1 THEN -1 ELSE 5 END, CASE WHEN random() < 0.2 THEN 'z' END
	FROM generate_series(1, 4000) i, generate_series(1, 2) n;
SELECT cdp._fit_repurchase() > 0 AS fitted \gset
-- a whole k, so that the finite sum can say it; unit and plain parameters differ
UPDATE cdp.repurchase_cycle SET k = 2, r = 3, alpha = 15, unit_k = 3, unit_r = 4, unit_alpha = 5;
CREATE TEMP VIEW bought AS SELECT cdp.customer_id(o.profile_id) AS customer_id, l.product_id, coalesce(l.category, p.category) AS category, (o.ordered_at AT TIME ZONE 'Asia/Shanghai')::date AS day, o.ordered_at, l.quantity
	FROM cdp.sales_order o JOIN cdp.sales_order_line l USING (order_id) LEFT JOIN cdp.product p USING (product_id)
	WHERE o.status IN ('paid', 'shipped', 'completed', 'refunded') AND o.refunded < 10 AND o.ordered_at <= '2026-07-01T12:00:00+08:00' AND l.quantity > 0 AND l.unit_price > 0;
CREATE FUNCTION pg_temp.expected(key_column text, by_unit boolean, within float8) RETURNS TABLE (customer_id bigint, key text, last_at timestamptz, purchases bigint, probability float8) LANGUAGE plpgsql AS $$
BEGIN
	-- each purchase day with the one before, found by a subquery; the quantity of the earlier day divides the gap
	RETURN QUERY EXECUTE format($q$
	WITH d AS (SELECT customer_id, %s AS key, day, max(ordered_at) AS last_at, sum(quantity)::float8 AS q FROM bought WHERE %1$s IS NOT NULL GROUP BY 1, 2, 3),
	g AS (SELECT d.*, (SELECT max(e.day) FROM d e WHERE (e.customer_id, e.key) = (d.customer_id, d.key) AND e.day < d.day) AS before FROM d),
	h AS (SELECT g.*, (g.day - g.before) / CASE WHEN $1 THEN (SELECT q FROM d e WHERE (e.customer_id, e.key, e.day) = (g.customer_id, g.key, g.before)) ELSE 1 END AS gap FROM g),
	s AS (SELECT customer_id, key, max(last_at) AS last_at, count(*) AS purchases, count(gap) AS n, coalesce(sum(gap), 0) AS s FROM h GROUP BY 1, 2),
	f AS (SELECT s.*, CASE WHEN $1 THEN 3 ELSE 2 END AS k, CASE WHEN $1 THEN 4 + 3 * n ELSE 3 + 2 * n END AS r, CASE WHEN $1 THEN 5 ELSE 15 END + s AS scale,
		extract(epoch FROM '2026-07-01T12:00:00+08:00' - last_at)::float8 / 86400 AS t,
		CASE WHEN $1 THEN (SELECT q FROM d WHERE (d.customer_id, d.key) = (s.customer_id, s.key) ORDER BY day DESC LIMIT 1) ELSE 1 END AS q FROM s),
	p AS (SELECT f.*, pg_temp.cdf(k, r, scale, t / q) AS f0, pg_temp.cdf(k, r, scale, (t + $2) / q) AS f1 FROM f)
	SELECT customer_id, key, last_at, purchases, (f1 - f0) / (1 - f0) FROM p WHERE f0 <= 0.9 AND f1 > 0.5 AND EXISTS (SELECT FROM cdp.repurchase_cycle c WHERE c.key = p.key AND c.by <> 'customer')$q$, key_column)
	USING by_unit, within;
END $$;
SELECT results_eq($$SELECT customer_id, key, last_at, purchases, round(probability::numeric, 8) FROM cdp.repurchase_due() ORDER BY 1, 2$$,
	$$SELECT customer_id, key, last_at, purchases, round(probability::numeric, 8) FROM pg_temp.expected('category', false, 7) ORDER BY 1, 2$$, 'repurchase_due by category is plain SQL');
SELECT results_eq($$SELECT customer_id, key, last_at, purchases, round(probability::numeric, 8) FROM cdp.repurchase_due(within => '20 days', by => 'product', scale_by_quantity => true) ORDER BY 1, 2$$,
	$$SELECT customer_id, key, last_at, purchases, round(probability::numeric, 8) FROM pg_temp.expected('product_id', true, 20) ORDER BY 1, 2$$, 'by product and unit, too');
SELECT cmp_ok((SELECT count(*) FROM cdp.repurchase_due(by => 'customer')), '>', 5::bigint, 'by customer somebody is due');
SELECT is_empty($$SELECT * FROM cdp.repurchase_due(within => '20 days') WHERE due_at >= cdp.now() + interval '20 days' OR due_until < cdp.now() OR due_at <> last_at + typical_gap OR due_from > due_at OR probability NOT BETWEEN 0 AND 1$$,
	'rows are due before the end of the time, and their window is not past');
SELECT is_empty($$SELECT a.customer_id, a.key FROM cdp.repurchase_due(within => '5 days') a JOIN cdp.repurchase_due(within => '10 days') b USING (customer_id, key) WHERE b.probability < a.probability$$, 'more time, more probability');
SELECT set_config('TimeZone', 'America/New_York', true) AS zone, cdp._fit_repurchase() AS again \gset
SELECT is(cdp._fit_repurchase(), 0::bigint, 'a second fit writes nothing');

-- the rate
CREATE FUNCTION pg_temp.rate(days int, from_time timestamptz, to_time timestamptz, as_of timestamptz) RETURNS TABLE (month date, first_buyers bigint, complete bigint, repurchased bigint, rate numeric, pending bigint) LANGUAGE sql AS $$
	WITH o AS (SELECT cdp.customer_id(profile_id) AS c, ordered_at AS at, (ordered_at AT TIME ZONE 'Asia/Shanghai')::date AS day FROM cdp.sales_order
		WHERE status IN ('paid', 'shipped', 'completed', 'refunded') AND refunded < amount AND ordered_at <= as_of),
	f AS (SELECT DISTINCT ON (c) * FROM o ORDER BY c, at),
	r AS (SELECT f.*, EXISTS (SELECT FROM o WHERE o.c = f.c AND o.day > f.day AND o.at < f.at + make_interval(hours => 24 * days)) AS again, f.at + make_interval(hours => 24 * days) <= as_of AS done
		FROM f WHERE (from_time IS NULL OR f.at >= from_time) AND (to_time IS NULL OR f.at < to_time))
	SELECT date_trunc('month', day)::date, count(*), sum(done::int), sum((done AND again)::int), round(sum((done AND again)::int)::numeric / nullif(sum(done::int), 0), 4), sum((NOT done)::int) FROM r GROUP BY 1 $$;
SELECT results_eq('SELECT * FROM cdp.repurchase_rate() ORDER BY 1', $$SELECT * FROM pg_temp.rate(30, NULL, NULL, '2026-07-01T12:00:00+08:00') ORDER BY 1$$, 'repurchase_rate is plain SQL');
SELECT results_eq($$SELECT * FROM cdp.repurchase_rate('7 days', '2026-01-10', '2026-04-01', '2026-05-01') ORDER BY 1$$, $$SELECT * FROM pg_temp.rate(7, '2026-01-10', '2026-04-01', '2026-05-01') ORDER BY 1$$,
	'with a window, a range and an as_of of its own, too');
SELECT is_empty('SELECT * FROM cdp.repurchase_rate() WHERE first_buyers <> complete + pending OR repurchased > complete', 'everybody is complete or pending');
SELECT cmp_ok((SELECT sum(pending) FROM cdp.repurchase_rate('90 days')), '>', 0::numeric, 'some are pending');
SELECT * FROM finish();
ROLLBACK;
