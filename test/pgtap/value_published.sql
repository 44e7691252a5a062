-- The published figures of the models: CDNOW, donations, contracts.  CDP_DATA names the directory with cdnow/ and clv/;
-- without it everything is skipped.
BEGIN;
SELECT plan(22);
\set have `[ -r "${CDP_DATA:-}/clv/expected.json" ] && [ -r "${CDP_DATA:-}/cdnow/cdnow_sample.csv" ] && echo 1 || echo 0`
\if :have
\set expected `cat "$CDP_DATA/clv/expected.json"`
\set edge `cat "$CDP_DATA/clv/edge_points.json"`
CREATE TEMP TABLE e AS SELECT :'expected'::jsonb AS j, :'edge'::jsonb AS edge;
-- what of a fit does not agree with its figures: parameters within 1e-3, ln L within 1e-3, standard errors within 2 %
CREATE FUNCTION pg_temp.wrong(m anyelement, path text[], names text[]) RETURNS SETOF text LANGUAGE sql AS $$
	WITH j AS (SELECT to_jsonb(m) AS m, (SELECT j #> path FROM e) AS f)
	SELECT n FROM j, unnest(names) n WHERE (abs((m ->> n)::float8 / (f ->> n)::float8 - 1) < 1e-3) IS NOT TRUE
	UNION ALL SELECT 'log_likelihood' FROM j WHERE (abs((m ->> 'log_likelihood')::float8 - (f ->> 'LL')::float8) < 1e-3) IS NOT TRUE
	UNION ALL SELECT 'se_' || n FROM j, unnest(names) WITH ORDINALITY u(n, o) WHERE (abs((m -> 'se' ->> (o - 1)::int)::float8 / (f ->> ('se_' || n))::float8 - 1) < 0.02) IS NOT TRUE
	UNION ALL SELECT m ->> 'reason' FROM j WHERE m ->> 'reason' <> 'ok' $$;

-- CDNOW: weeks, calibration until 1997-09-30, purchases merged by day, the first day left out of x and of the mean
CREATE TEMP TABLE cdnow_log (customer_id int, ordered_at date, quantity int, amount numeric);
\copy cdnow_log FROM PROGRAM 'cat "$CDP_DATA"/cdnow/cdnow_sample.csv' (FORMAT csv, HEADER)
CREATE TEMP TABLE c AS
WITH d AS (SELECT customer_id, ordered_at AS day, sum(amount) AS amount FROM cdnow_log WHERE ordered_at <= '1997-09-30' GROUP BY 1, 2),
g AS (SELECT *, min(day) OVER c AS first, day - lag(day) OVER (PARTITION BY customer_id ORDER BY day) AS gap FROM d WINDOW c AS (PARTITION BY customer_id))
SELECT customer_id, (count(*) - 1)::float8 AS x, (max(day) - min(day)) / 7.0::float8 AS t_x, (date '1997-09-30' - min(day)) / 7.0::float8 AS t_cal,
	(avg(amount) FILTER (WHERE day > first))::float8 AS z, coalesce(sum(ln(gap / 7.0::float8)), 0) AS log_gaps FROM g GROUP BY 1;
SELECT results_eq('SELECT count(*), count(*) FILTER (WHERE x > 0), sum(x), count(DISTINCT (x, t_x, t_cal)) FROM c', 'VALUES (2357::bigint, 946::bigint, 2457::float8, 1016::bigint)', 'CDNOW: customers, repeaters, repeat purchases, triples');
SELECT is_empty($$SELECT w FROM (SELECT cdp.fit_bgnbd(x, t_x, t_cal) AS m FROM c) f, pg_temp.wrong(m, '{cdnow_sample,bgnbd}', '{r,alpha,a,b}') w$$, 'CDNOW: BG/NBD');
SELECT is_empty($$SELECT w FROM (SELECT cdp.fit_mbgnbd(x, t_x, t_cal) AS m FROM c) f, pg_temp.wrong(m, '{cdnow_sample,mbgnbd}', '{r,alpha,a,b}') w$$, 'CDNOW: MBG/NBD');
SELECT is_empty($$SELECT w FROM (SELECT cdp.fit_paretonbd(x, t_x, t_cal) AS m FROM c) f, pg_temp.wrong(m, '{cdnow_sample,pnbd}', '{r,alpha,s,beta}') w$$, 'CDNOW: Pareto/NBD');
SELECT is_empty($$SELECT w FROM (SELECT cdp.fit_nbd(x, t_cal) AS m FROM c) f, pg_temp.wrong(m, '{cdnow_sample,nbd}', '{r,alpha}') w$$, 'CDNOW: NBD');
SELECT is_empty($$SELECT w FROM (SELECT cdp.fit_gammagamma(x, z) AS m FROM c) f, pg_temp.wrong(m, '{cdnow_sample,gg}', '{p,q,v}') w$$, 'CDNOW: Gamma-Gamma');
SELECT is((SELECT (cdp.fit_gammagamma(x, z)).customers FROM c), (SELECT (j #>> '{cdnow_sample,gg,n}')::float8 FROM e), 'CDNOW: Gamma-Gamma takes the customers with x > 0 and money');
SELECT is((SELECT format('%s %s %s %s %s', round((b).r::numeric, 3), round((b).alpha::numeric, 3), round((b).a::numeric, 3), round((b).b::numeric, 3), round((b).log_likelihood::numeric, 1)) FROM (SELECT cdp.fit_bgnbd(x, t_x, t_cal) AS b FROM c) f),
	'0.243 4.414 0.793 2.426 -9582.4', 'BG/NBD as printed');
SELECT is((SELECT format('%s %s %s %s %s', round((b).r::numeric, 3), round((b).alpha::numeric, 3), round((b).s::numeric, 3), round((b).beta::numeric, 3), round((b).log_likelihood::numeric, 1)) FROM (SELECT cdp.fit_paretonbd(x, t_x, t_cal) AS b FROM c) f),
	'0.553 10.578 0.606 11.669 -9595.0', 'Pareto/NBD as printed');
SELECT is((SELECT format('%s %s', (m).k, round((m).log_likelihood::numeric, 3)) FROM (SELECT cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps) AS m FROM c) f), '1 -9582.136', 'MBG/CNBD-k: no regularity in CDNOW');
SELECT is((SELECT round(sum(cdp.log_likelihood(cdp.mbgcnbd_model(2, 0.57989615950616, 2.28814880106477, 1.1344526959705, 1.58497422451445), x, t_x, t_cal, log_gaps))::numeric, 3) FROM c), -9853.253, 'MBG/CNBD-2 at its best point');
SELECT is((SELECT round(sum(cdp.log_likelihood(cdp.mbgcnbd_model(3, 0.532968359320569, 1.2581955896117, 1.28866398782414, 1.84520942864657), x, t_x, t_cal, log_gaps))::numeric, 3) FROM c), -10394.363, 'MBG/CNBD-3 at its best point');

-- days instead of weeks: alpha and beta 7 times as large, all else the same
CREATE TEMP TABLE u AS SELECT cdp.fit_bgnbd(x, t_x, t_cal) AS bg, cdp.fit_mbgnbd(x, t_x, t_cal) AS mbg, cdp.fit_paretonbd(x, t_x, t_cal) AS par, cdp.fit_nbd(x, t_cal) AS nbd,
	cdp.fit_bgnbd(x, 7 * t_x, 7 * t_cal) AS bg7, cdp.fit_mbgnbd(x, 7 * t_x, 7 * t_cal) AS mbg7, cdp.fit_paretonbd(x, 7 * t_x, 7 * t_cal) AS par7, cdp.fit_nbd(x, 7 * t_cal) AS nbd7 FROM c;
SELECT cmp_ok((SELECT greatest(abs((bg7).r - (bg).r), abs((bg7).alpha / (7 * (bg).alpha) - 1), abs((bg7).a - (bg).a), abs((bg7).b - (bg).b), abs((bg7).log_likelihood - (bg).log_likelihood + 2457 * ln(7::float8))) FROM u), '<', 1e-6::float8, 'days instead of weeks: BG/NBD');
SELECT cmp_ok((SELECT greatest(abs((mbg7).r - (mbg).r), abs((mbg7).alpha / (7 * (mbg).alpha) - 1), abs((mbg7).a - (mbg).a), abs((mbg7).b - (mbg).b)) FROM u), '<', 1e-6::float8, '... MBG/NBD');
SELECT cmp_ok((SELECT greatest(abs((par7).r - (par).r), abs((par7).alpha / (7 * (par).alpha) - 1), abs((par7).s - (par).s), abs((par7).beta / (7 * (par).beta) - 1)) FROM u), '<', 1e-6::float8, '... Pareto/NBD');
SELECT cmp_ok((SELECT greatest(abs((nbd7).r - (nbd).r), abs((nbd7).alpha / (7 * (nbd).alpha) - 1), 1e-2 * abs((bg7).se[2] / (7 * (bg).se[2]) - 1)) FROM u), '<', 1e-6::float8, '... NBD, and a standard error');

-- the rounded table of the papers has optima of its own
CREATE TEMP TABLE rounded (id text, x float8, t_x float8, t_cal float8, z float8);
\copy rounded FROM PROGRAM 'cat "$CDP_DATA"/clv/cdnow_summary_published.csv' (FORMAT csv, HEADER)
SELECT is_empty($$SELECT * FROM (SELECT w FROM (SELECT cdp.fit_bgnbd(x, t_x, t_cal) AS m FROM rounded) f, pg_temp.wrong(m, '{cdnow_published_summary,bgnbd}', '{r,alpha,a,b}') w
	UNION ALL SELECT w FROM (SELECT cdp.fit_mbgnbd(x, t_x, t_cal) AS m FROM rounded) f, pg_temp.wrong(m, '{cdnow_published_summary,mbgnbd}', '{r,alpha,a,b}') w
	UNION ALL SELECT w FROM (SELECT cdp.fit_paretonbd(x, t_x, t_cal) AS m FROM rounded) f, pg_temp.wrong(m, '{cdnow_published_summary,pnbd}', '{r,alpha,s,beta}') w
	UNION ALL SELECT w FROM (SELECT cdp.fit_nbd(x, t_cal) AS m FROM rounded) f, pg_temp.wrong(m, '{cdnow_published_summary,nbd}', '{r,alpha}') w
	UNION ALL SELECT w FROM (SELECT cdp.fit_gammagamma(x, z) AS m FROM rounded) f, pg_temp.wrong(m, '{cdnow_published_summary,gg}', '{p,q,v}') w) s$$, 'the rounded table: all models');
SELECT is((SELECT round((cdp.fit_bgnbd(x, t_x, t_cal)).log_likelihood::numeric, 5) FROM rounded), -9582.42556, 'the rounded table: its own likelihood');

-- donations: BG/BB of a table with weights; contracts: sBG of two cohorts
CREATE TEMP TABLE donations (x float8, t_x float8, n float8, donors float8);
\copy donations FROM PROGRAM 'cat "$CDP_DATA"/clv/donations_bgbb.csv' (FORMAT csv, HEADER)
SELECT is_empty($$SELECT w FROM (SELECT cdp.fit_bgbb(x, t_x, n, donors) AS m FROM donations) f, pg_temp.wrong(m, '{donations_bgbb,bgbb}', '{alpha,beta,gamma,delta}') w$$, 'donations: BG/BB');
CREATE TEMP TABLE contracts (cohort text, year int, lost float8, alive_after float8);
\copy contracts FROM PROGRAM 'cat "$CDP_DATA"/clv/sbg_regular_highend.csv' (FORMAT csv, HEADER)
SELECT is_empty($$SELECT cohort, w FROM (SELECT cohort, cdp.fit_sbg(year, churned, n) AS m FROM (SELECT cohort, year, true AS churned, lost AS n FROM contracts
	UNION ALL SELECT cohort, year, false, alive_after FROM contracts WHERE year = 7) s GROUP BY 1) f, pg_temp.wrong(m, ARRAY['sbg', cohort, 'fit'], '{alpha,beta}') w$$, 'contracts: sBG of both cohorts');
SELECT is((SELECT count(DISTINCT cohort) FROM contracts), 2::bigint, 'there are two');

-- Pareto/NBD at hard points, against 2,500 digits
SELECT is_empty($$SELECT * FROM (SELECT p -> 'params' AS params, (p ->> 'LL')::float8 AS theirs, cdp.log_likelihood(cdp.paretonbd_model((p #>> '{params,0}')::float8, (p #>> '{params,1}')::float8, (p #>> '{params,2}')::float8, (p #>> '{params,3}')::float8),
	(p ->> 'x')::float8, (p ->> 't_x')::float8, (p ->> 'T')::float8) AS ours FROM e, jsonb_array_elements(edge -> 'pnbd') p) s WHERE (abs(ours - theirs) <= 1e-9 * greatest(1, abs(theirs))) IS NOT TRUE$$, 'Pareto/NBD at hard points');
\else
SELECT skip('no figures: CDP_DATA names the directory with clv/ and cdnow/', 22);
\endif
SELECT * FROM finish();
ROLLBACK;
