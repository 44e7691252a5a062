-- cdp.fit_logistic, cdp.predict_logistic: known answers, data that cannot be fitted, bad input, the state
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
-- a 2x2 table: the log odds ratio and its standard error (Woolf 1955), to 1e-8
CREATE TEMP TABLE two (y boolean, x float8, n int);
INSERT INTO two VALUES (true, 1, 30), (false, 1, 20), (true, 0, 10), (false, 0, 25);
SELECT abs(coefficients[2] - ln(30 * 25 / (20 * 10.0))) < 1e-8 AS log_odds_ratio, abs(se[2] - sqrt(1 / 30.0 + 1 / 25.0 + 1 / 20.0 + 1 / 10.0)) < 1e-8 AS its_error,
	abs(coefficients[1] - ln(10 / 25.0)) < 1e-8 AS intercept, abs(se[1] - sqrt(1 / 10.0 + 1 / 25.0)) < 1e-8 AS its_error,
	abs(log_likelihood - (30 * ln(0.6) + 20 * ln(0.4) + 10 * ln(10 / 35.0) + 25 * ln(25 / 35.0))) < 1e-8 AS log_likelihood,
	abs(null_log_likelihood - (40 * ln(40 / 85.0) + 45 * ln(45 / 85.0))) < 1e-8 AS null_log_likelihood,
	customers, positives, converged, separated, reason, abs(auc - (30 * 25 + (30 * 20 + 10 * 25) / 2.0) / (40 * 45)) < 1e-15 AS auc
FROM (SELECT (cdp.fit_logistic(y, ARRAY[x], 0, n)).* FROM two) m;
-- rows or weights, any order, any scale of the feature
SELECT (SELECT cdp.fit_logistic(y, ARRAY[x])::text FROM two, generate_series(1, n)) = cdp.fit_logistic(y, ARRAY[x], NULL, n)::text AS rows_or_weights FROM two;
SELECT (SELECT cdp.fit_logistic(y, ARRAY[x] ORDER BY i, n)::text FROM two, generate_series(1, n) i) = cdp.fit_logistic(y, ARRAY[x] ORDER BY n DESC)::text AS any_order FROM two, generate_series(1, n);
SELECT scale, round((coefficients[2] * scale)::numeric, 8) AS coefficient, round((se[2] * abs(scale))::numeric, 8) AS se
FROM unnest('{1,1e-280,1e280,-7}'::float8[]) scale, LATERAL (SELECT (cdp.fit_logistic(y, ARRAY[x * scale], 0, n)).* FROM two) m;
-- the probability, also far out
SELECT round(cdp.predict_logistic(m, ARRAY[1])::numeric, 10) AS at_1, round(cdp.predict_logistic(m, '{0}')::numeric, 10) AS at_0 FROM (SELECT cdp.fit_logistic(y, ARRAY[x], 0, n) AS m FROM two) q;
SELECT f, cdp.predict_logistic(cdp.logistic_model('{0,1}'::float8[]), f) AS p FROM (VALUES ('{0}'::float8[]), ('{40}'), ('{-40}'), ('{1e5}'), ('{-1e5}'), ('{NULL}'), (NULL)) v(f);
SELECT cdp.predict_logistic(cdp.logistic_model('{-1.5}'::float8[]), '{}') BETWEEN 0.1824 AND 0.1825 AS intercept_alone, cdp.predict_logistic(NULL, '{}') IS NULL AS no_model, cdp.logistic_model(NULL) IS NULL AS no_coefficients;
-- separated: told, and finite; with a ridge it is none
CREATE TEMP TABLE apart (y boolean, x float8);
INSERT INTO apart VALUES (false, 1), (false, 2), (true, 3), (true, 4);
CREATE VIEW pg_temp.finite AS SELECT f.name, (m).converged, (m).separated, (m).reason, (m).auc,
	(SELECT bool_and(abs(c) < 1e6) FROM unnest((m).coefficients) c) AS finite, (SELECT bool_and(abs(s) < 1e12) FROM unnest((m).se) s) AS finite_se
FROM (SELECT 'complete' AS name, cdp.fit_logistic(y, ARRAY[x]) AS m FROM apart
	UNION ALL SELECT 'quasi', cdp.fit_logistic(y, ARRAY[x]) FROM (TABLE apart UNION ALL VALUES (true, 2::float8)) a
	UNION ALL SELECT 'one cell empty', cdp.fit_logistic(y, ARRAY[x], 0, n) FROM two WHERE n <> 20
	UNION ALL SELECT 'with a ridge', cdp.fit_logistic(y, ARRAY[x], 0.1, 1) FROM apart
	UNION ALL SELECT 'overlap', cdp.fit_logistic(y, ARRAY[x]) FROM (TABLE apart UNION ALL VALUES (true, 1::float8)) a
	UNION ALL SELECT 'all true', cdp.fit_logistic(true, ARRAY[x]) FROM apart
	UNION ALL SELECT 'all false', cdp.fit_logistic(false, ARRAY[x], 1, 1) FROM apart
	UNION ALL SELECT 'one row', cdp.fit_logistic(true, ARRAY[x]) FROM apart WHERE x = 1) f;
TABLE pg_temp.finite;
SELECT y, round(cdp.predict_logistic(m, ARRAY[x])::numeric, 6) AS p FROM apart, (SELECT cdp.fit_logistic(y, ARRAY[x]) AS m FROM apart) q ORDER BY x;
-- a feature far out does not look like separation
SELECT converged, separated, reason, round(coefficients[2]::numeric, 6) AS coefficient
FROM (SELECT (cdp.fit_logistic(i % 3 = 0, ARRAY[CASE WHEN i = 3 THEN 1e4 ELSE i % 7 END])).* FROM generate_series(1, 1000) i) m;
-- features that tell nothing are left out
SELECT converged, reason, round(coefficients[1]::numeric, 6) AS c1, round(coefficients[2]::numeric, 6) AS c2, coefficients[3:] AS others, se[3:] AS their_se
FROM (SELECT (cdp.fit_logistic(y, ARRAY[x, 7, 3 - 2 * x, 1e-300], 0, n)).* FROM two) m;
-- with a ridge, twins share
SELECT converged, reason, round(coefficients[2]::numeric, 6) = round(coefficients[3]::numeric, 6) AS same FROM (SELECT (cdp.fit_logistic(y, ARRAY[x, x], 1, n)).* FROM two) m;
-- no features; NULLs are skipped; nothing is NULL
SELECT round(coefficients[1]::numeric, 8) AS c, round(ln(40 / 45.0), 8) AS log_odds, auc FROM (SELECT (cdp.fit_logistic(y, '{}', 0, n)).* FROM two) m;
SELECT customers, positives FROM (SELECT (cdp.fit_logistic(y, f, 0, w)).* FROM (VALUES (true, '{1}'::float8[], 1), (false, '{2}', 1), (true, '{2}', 1), (NULL, '{1,2}', 1), (true, NULL, 1), (true, '{NULL}', 1),
	(true, '{NULL,1}', 1), (true, '{1}', NULL), (true, '{1}', 0)) v(y, f, w)) m;
SELECT cdp.fit_logistic(y, ARRAY[x]) IS NULL AS no_row, cdp.fit_logistic(NULL, ARRAY[x]) IS NULL AS no_outcome FROM two WHERE n = 20 AND y;
-- bad input
CREATE FUNCTION pg_temp.fit(VARIADIC features text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text; message text;
BEGIN
	RETURN (SELECT (cdp.fit_logistic(f LIKE '{1%', f::float8[])).reason FROM unnest(features) f);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT, message = MESSAGE_TEXT;
	RETURN sqlstate || ' ' || message || ' | ' || hint;
END $$;
SELECT pg_temp.fit('{1}', '{2,3}');
SELECT pg_temp.fit('{1}', '{}');
SELECT pg_temp.fit('{1}', '{{2}}');
SELECT pg_temp.fit('{1}', '{NaN}');
SELECT pg_temp.fit('{1}', '{Infinity}');
SELECT pg_temp.fit('{1}', '{-Infinity}');
SELECT pg_temp.fit('{1}', (SELECT array_agg(0)::text FROM generate_series(1, 201)));
SELECT pg_temp.fit('{1e308}', '{-1e308}', '{1e307}', '{-1e-308}');
SELECT cdp.fit_logistic(y, ARRAY[x], -1, n) FROM two;
SELECT cdp.fit_logistic(y, ARRAY[x], 'NaN', n) FROM two;
SELECT cdp.fit_logistic(y, ARRAY[x], n, 1) FROM two;
SELECT cdp.fit_logistic(y, ARRAY[x], 0, -n) FROM two;
SELECT cdp.fit_logistic(y, ARRAY[x], 0, 'NaN') FROM two;
SELECT cdp.fit_logistic(y, ARRAY[x], 0, 1e-10) FROM two;
SELECT cdp.predict_logistic(cdp.logistic_model('{0,1}'::float8[]), '{1,2}');
SELECT cdp.predict_logistic(cdp.logistic_model('{0,1}'::float8[]), '{{1}}');
SELECT cdp.predict_logistic(cdp.logistic_model('{0,1}'::float8[]), '{NaN}');
SELECT cdp.predict_logistic(cdp.logistic_model('{0,1e308,-1e308}'::float8[]), '{1e5,1e5}');
SELECT cdp.predict_logistic(ROW(NULL, NULL, NULL, NULL, NULL, NULL, 1, NULL, NULL, NULL, NULL)::cdp.logistic_model, '{1}');
SELECT cdp.predict_logistic(ROW('{1,NULL}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::cdp.logistic_model, '{1}');
SELECT cdp.logistic_model('{}'::float8[]);
SELECT cdp.logistic_model('{{1,2}}'::float8[]);
SELECT cdp.logistic_model('{1,NaN}'::float8[]);
SELECT cdp._logistic_accum('()', true, '{1}');
SELECT cdp._logistic_accum('()', true, '{1}', 0, 1);
SELECT cdp._logistic_combine('()', '()');
-- states: sound ones come back, others do not come in
CREATE FUNCTION pg_temp.try(state text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	why text;
BEGIN
	RETURN state::cdp.logistic_state;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
	RETURN sqlstate || ' ' || coalesce(nullif(why, ''), sqlerrm);
END $$;
SELECT t AS text, pg_temp.try(t) = t AS same FROM unnest(ARRAY['()', '(0,0)(1)', '(2,0.5)(1,0.25,-3)(-2,1e+300,0)']) t;
SELECT t AS text, pg_temp.try(t) AS answer FROM unnest(ARRAY['', '(', '(0,0)', '(1,0)(1)', '(1,0)(1,2,3)', '(1,0)(1,2', '(1,0)(0,2)', '(1,0)(1,nan)', '(1,0)(1,1e999)', '(1,0)(0x10,2)', '(1,0)( 1,2)',
	'(1,-1)(1,2)', '(1,nan)(1,2)', '(201,0)(1)', '(-1,0)(1)', '(1.5,0)(1,2)', '(1,0)(1,2)x', '(1,0)(1e16,2)', '(1,0)(1e-10,2)', '()(1,2)', '(1,0)(1,-0)']) t;
SELECT encode(cdp._logistic_state_send(t::cdp.logistic_state), 'hex') AS binary FROM unnest(ARRAY['()', '(1,0.5)(1,0.25)(-2,0)']) t;
-- a state in a table, combined: the stored one stays as it is
CREATE AGGREGATE pg_temp.collect(boolean, float8[]) (SFUNC = cdp._logistic_accum, STYPE = cdp.logistic_state, INITCOND = '()');
CREATE AGGREGATE pg_temp.merge(cdp.logistic_state) (SFUNC = cdp._logistic_combine, STYPE = cdp.logistic_state);
CREATE TEMP TABLE s AS SELECT x, pg_temp.collect(y, ARRAY[x]) AS st FROM two, generate_series(1, n) GROUP BY x;
SELECT cdp._logistic_final(pg_temp.merge(st))::text = (SELECT cdp.fit_logistic(y, ARRAY[x], 0, n)::text FROM two) AS same FROM s;
SELECT cdp._logistic_final(pg_temp.merge(st ORDER BY x DESC))::text = (SELECT cdp.fit_logistic(y, ARRAY[x], 0, n)::text FROM two) AS same FROM s;
SELECT pg_temp.merge(st) FROM (VALUES ('(1,0)(1,2)'::cdp.logistic_state), ('(2,0)(1,2,3)')) v(st);
SELECT pg_temp.merge(st) FROM (VALUES ('(1,0)(1,2)'::cdp.logistic_state), ('(1,1)(1,2)')) v(st);
SELECT pg_temp.merge(st) FROM (VALUES ('()'::cdp.logistic_state), ('(1,1)(1,2)'), ('()')) v(st);
-- as a window the rows before are kept
SELECT x, round(((m).coefficients)[1]::numeric, 6) AS intercept, (m).customers FROM (SELECT x, i, cdp.fit_logistic(y, '{}') OVER (ORDER BY x, i) AS m FROM (SELECT *, row_number() OVER () AS i FROM apart) a) q ORDER BY x;
