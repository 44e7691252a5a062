-- Predictions against figures computed elsewhere: CDNOW, donations, contracts, points where digits are easily lost.
-- CDP_DATA names the directory with cdnow/ and clv/; without it everything is skipped.
BEGIN;
SELECT plan(14);
\set have `[ -r "${CDP_DATA:-}/clv/expected.json" ] && [ -r "${CDP_DATA:-}/cdnow/cdnow_sample.csv" ] && echo 1 || echo 0`
\if :have
\set expected `cat "$CDP_DATA/clv/expected.json"`
\set edge `cat "$CDP_DATA/clv/edge_points.json"`
SET LOCAL search_path = cdp, public;
CREATE TEMP TABLE e AS SELECT :'expected'::jsonb AS j, :'edge'::jsonb AS edge;
CREATE FUNCTION pg_temp.num(j jsonb, VARIADIC path text[]) RETURNS float8 LANGUAGE sql AS 'SELECT (j #>> path)::float8';
-- the models at their published optimum
CREATE FUNCTION pg_temp.model(kind text) RETURNS float8[] LANGUAGE sql AS $$
	SELECT ARRAY[pg_temp.num(m, 'r'), pg_temp.num(m, 'alpha'), coalesce(pg_temp.num(m, 'a'), pg_temp.num(m, 's')), coalesce(pg_temp.num(m, 'b'), pg_temp.num(m, 'beta'))] FROM (SELECT j #> ARRAY['cdnow_sample', kind] AS m FROM e) q $$;
CREATE TEMP TABLE m AS SELECT bgnbd_model(bg[1], bg[2], bg[3], bg[4]) AS bg, mbgnbd_model(mbg[1], mbg[2], mbg[3], mbg[4]) AS mbg, mbgcnbd_model(1, mbg[1], mbg[2], mbg[3], mbg[4]) AS mbgc,
	paretonbd_model(pn[1], pn[2], pn[3], pn[4]) AS pn, gammagamma_model(pg_temp.num(j, 'cdnow_sample', 'gg', 'p'), pg_temp.num(j, 'cdnow_sample', 'gg', 'q'), pg_temp.num(j, 'cdnow_sample', 'gg', 'v')) AS gg,
	pg_temp.num(j, 'cdnow_sample', 'discount_per_unit') AS discount
FROM e, (SELECT pg_temp.model('bgnbd') AS bg, pg_temp.model('mbgnbd') AS mbg, pg_temp.model('pnbd') AS pn) q;
-- CDNOW: weeks, calibration until 1997-09-30, purchases merged by day, the first day left out of x
CREATE TEMP TABLE cdnow_log (customer_id int, ordered_at date, quantity int, amount numeric);
\copy cdnow_log FROM PROGRAM 'cat "$CDP_DATA"/cdnow/cdnow_sample.csv' (FORMAT csv, HEADER)
CREATE TEMP TABLE c AS SELECT customer_id, (count(DISTINCT ordered_at) - 1)::float8 AS x, (max(ordered_at) - min(ordered_at)) / 7.0::float8 AS t_x, (date '1997-09-30' - min(ordered_at)) / 7.0::float8 AS t_cal
FROM cdnow_log WHERE ordered_at <= '1997-09-30' GROUP BY 1;
SELECT is((SELECT round(sum(expected_purchases(bg, x, t_x, t_cal, 39))::numeric, 2) FROM c, m), 1653.41, 'CDNOW: purchases of 39 weeks to come, BG/NBD');
SELECT is((SELECT round(sum(expected_purchases(mbg, x, t_x, t_cal, 39))::numeric, 2) FROM c, m), 1576.73, 'CDNOW: MBG/NBD');
SELECT is((SELECT round(sum(expected_purchases(pn, x, t_x, t_cal, 39))::numeric, 2) FROM c, m), 1665.51, 'CDNOW: Pareto/NBD');
SELECT is((SELECT format('%s %s', round(sum(p_alive(bg, x, t_x, t_cal))::numeric, 4), round(sum(p_alive(pn, x, t_x, t_cal))::numeric, 4)) FROM c, m),
	(SELECT format('%s %s', round(pg_temp.num(j, 'cdnow_sample', 'sum_palive', 'bgnbd')::numeric, 4), round(pg_temp.num(j, 'cdnow_sample', 'sum_palive', 'pnbd')::numeric, 4)) FROM e), 'CDNOW: customers who are alive');
CREATE TEMP TABLE k AS SELECT f, pg_temp.num(f, 'x') AS x, pg_temp.num(f, 't_x') AS t_x, pg_temp.num(f, 'T') AS t, pg_temp.num(f, 'z') AS z FROM e, jsonb_array_elements(j #> '{cdnow_sample,customers}') f;
SELECT is_empty($$SELECT f ->> 'customer_id', what, got, want FROM k, m, LATERAL (VALUES ('alive', p_alive(bg, x, t_x, t), pg_temp.num(f, 'bgnbd_palive')), ('purchases', expected_purchases(bg, x, t_x, t, 39), pg_temp.num(f, 'bgnbd_cet')),
	('alive', p_alive(mbg, x, t_x, t), pg_temp.num(f, 'mbgnbd_palive')), ('purchases', expected_purchases(mbg, x, t_x, t, 39), pg_temp.num(f, 'mbgnbd_cet')),
	('alive', p_alive(mbgc, x, t_x, t), pg_temp.num(f, 'mbgnbd_palive')), ('purchases', expected_purchases(mbgc, x, t_x, t, 39), pg_temp.num(f, 'mbgnbd_cet'))) v(what, got, want)
	WHERE (abs(got / want - 1) < 1e-9) IS NOT TRUE$$, 'CDNOW, customer by customer: BG/NBD, MBG/NBD and MBG/CNBD-1');
SELECT is_empty($$SELECT f ->> 'customer_id', what, got, want FROM k, m, LATERAL (VALUES ('alive', p_alive(pn, x, t_x, t), pg_temp.num(f, 'pnbd_palive')), ('purchases', expected_purchases(pn, x, t_x, t, 39), pg_temp.num(f, 'pnbd_cet')),
	('dert', dert(pn, x, t_x, t, discount), pg_temp.num(f, 'pnbd_dert')), ('amount', expected_amount(gg, x, z), pg_temp.num(f, 'gg_mean')), ('clv', clv(pn, gg, x, t_x, t, z, 'Infinity', discount), pg_temp.num(f, 'pnbd_clv'))) v(what, got, want)
	WHERE (abs(got / want - 1) < 1e-9) IS NOT TRUE$$, 'CDNOW, customer by customer: Pareto/NBD and its money');
-- points where digits are easily lost, computed with 2,500 of them
CREATE TEMP TABLE p AS SELECT paretonbd_model(pg_temp.num(f, 'params', '0'), pg_temp.num(f, 'params', '1'), pg_temp.num(f, 'params', '2'), pg_temp.num(f, 'params', '3')) AS m, pg_temp.num(f, 'x') AS x, pg_temp.num(f, 't_x') AS t_x, pg_temp.num(f, 'T') AS t, pg_temp.num(f, 'log_palive') AS want
FROM e, jsonb_array_elements(edge -> 'pnbd') f;
SELECT is_empty($$SELECT m, x, t_x, t, _log_p_alive(m, x, t_x, t), want FROM p WHERE (abs(_log_p_alive(m, x, t_x, t) - want) < 1e-9) IS NOT TRUE$$, 'Pareto/NBD at hard points: ln P(alive)');
SELECT is_empty($$SELECT m, x, t_x, t, p_alive(m, x, t_x, t), want FROM p WHERE (CASE WHEN want > -700 THEN abs(ln(p_alive(m, x, t_x, t)) - want) < 1e-9 ELSE p_alive(m, x, t_x, t) = 0 END) IS NOT TRUE$$, 'Pareto/NBD at hard points: P(alive), 0 where it is below float8');
SELECT is_empty($$SELECT f, got FROM e, jsonb_array_elements(edge -> 'bgnbd_cet') f, LATERAL (SELECT expected_purchases(bgnbd_model(pg_temp.num(f, 'params', '0'), pg_temp.num(f, 'params', '1'), pg_temp.num(f, 'params', '2'), pg_temp.num(f, 'params', '3')),
	pg_temp.num(f, 'x'), pg_temp.num(f, 't_x'), pg_temp.num(f, 'T'), pg_temp.num(f, 't')) AS got) g WHERE (abs(ln(got / pg_temp.num(f, 'cet'))) < 1e-9) IS NOT TRUE$$, 'BG/NBD at hard points: purchases');
-- donations
CREATE TEMP TABLE d AS SELECT bgbb_model(pg_temp.num(j, 'donations_bgbb', 'bgbb', 'alpha'), pg_temp.num(j, 'donations_bgbb', 'bgbb', 'beta'), pg_temp.num(j, 'donations_bgbb', 'bgbb', 'gamma'), pg_temp.num(j, 'donations_bgbb', 'bgbb', 'delta')) AS m FROM e;
SELECT is_empty($$SELECT f FROM e, d, jsonb_array_elements(j #> '{donations_bgbb,rows}') f, LATERAL (SELECT pg_temp.num(f, 'x') AS x, pg_temp.num(f, 't_x') AS t_x, pg_temp.num(f, 'n') AS n) v
	WHERE (abs(p_alive(m, x, t_x, n, 1) - pg_temp.num(f, 'palive_next')) < 1e-9 AND abs(expected_purchases(m, x, t_x, n, 5) - pg_temp.num(f, 'cet5')) < 1e-9 AND abs(dert(m, x, t_x, n, 0.1) - pg_temp.num(f, 'dert_10pct')) < 1e-9) IS NOT TRUE$$, 'donations: BG/BB for every past');
SELECT is((SELECT round(expected_purchases(m, 0, 0, 0, 10)::numeric, 9) FROM d), (SELECT round(pg_temp.num(j, 'donations_bgbb', 'E10')::numeric, 9) FROM e), 'donations: a new donor in 10 periods');
-- contracts
CREATE TEMP TABLE s AS SELECT f.key, f.value AS f, sbg_model(pg_temp.num(f.value, 'fit', 'alpha'), pg_temp.num(f.value, 'fit', 'beta')) AS m FROM e, jsonb_each(j -> 'sbg') f WHERE f.value ? 'fit';
SELECT is_empty($$SELECT key, t, survival(m, t::int) FROM s, jsonb_each(f -> 'survival') v(t, want) WHERE (abs(survival(m, t::int) - want::float8) < 1e-9) IS NOT TRUE$$, 'contracts: survival');
SELECT is_empty($$SELECT key FROM s WHERE (abs(del(m, 0.1) - pg_temp.num(f, 'del_10pct')) < 1e-9) IS NOT TRUE$$, 'contracts: discounted lifetime');
SELECT is_empty($$SELECT key, n FROM s, jsonb_each(f -> 'derl_10pct') v(n, want) WHERE (abs(derl(m, 0.1, n::int) - want::float8) < 1e-9) IS NOT TRUE$$, 'contracts: discounted rest of it');
\else
SELECT skip('no figures: CDP_DATA names the directory with clv/ and cdnow/', 14);
\endif
SELECT * FROM finish();
ROLLBACK;
