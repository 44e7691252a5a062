-- special functions of the value models: known values, identities, arguments where the naive way loses digits
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
SET search_path = cdp, pg_catalog;
SET extra_float_digits = 0;
CREATE FUNCTION pg_temp.near(got float8, want float8, tolerance float8 DEFAULT 1e-14) RETURNS text LANGUAGE sql AS
	$$ SELECT CASE WHEN abs(got - want) <= tolerance * greatest(1, abs(want)) THEN 'ok' ELSE format('%s instead of %s', got, want) END $$;
-- known values: Gamma(1/2), factorials, Euler's constant, pi squared over six
SELECT what, pg_temp.near(got, want) FROM (VALUES
	('ln Gamma(1/2)', _value_math('log_gamma', 0.5), ln(pi()) / 2),
	('ln Gamma(1)', _value_math('log_gamma', 1), 0),
	('ln Gamma(1e-10)', _value_math('log_gamma', 1e-10), 23.0258509298827),
	('ln 20!', _value_math('log_gamma', 21), ln(2432902008176640000::float8)),
	('ln Gamma(1e6)', _value_math('log_gamma', 1e6), 12815504.5691476),
	('digamma(1)', _value_math('digamma', 1), -0.577215664901533),
	('digamma(1/4)', _value_math('digamma', 0.25), -0.577215664901533 - pi() / 2 - 3 * ln(2::float8)),
	('digamma(1e8)', _value_math('digamma', 1e8), ln(1e8::float8) - 5e-9),
	('trigamma(1)', _value_math('trigamma', 1), pi() ^ 2 / 6),
	('trigamma(1/2)', _value_math('trigamma', 0.5), pi() ^ 2 / 2),
	('trigamma(1e5)', _value_math('trigamma', 1e5), 1e-5 + 0.5e-10 + 1e-15 / 6),
	('ln B(1/2, 1/2)', _value_math('log_beta', 0.5, 0.5), ln(pi())),
	('ln B(3, 1e9)', _value_math('log_beta', 3, 1e9), ln(2 / 1e9::float8) - ln(1 + 1e-9::float8) - ln(1e9 + 2::float8) - ln(1e9::float8)),
	('rising 1e9, 3', _value_math('log_rising', 1e9, 3), ln(1e9::float8) + ln(1e9 + 1::float8) + ln(1e9 + 2::float8)),
	('rising 1e9, 1/2', _value_math('log_rising', 1e9, 0.5), ln(1e9::float8) / 2 - 1 / 8e9),
	('ln(e^-1000 + e^-1000)', _value_math('log_add', -1000, -1000), -1000 + ln(2::float8)),
	('ln of a sum', _value_math('log_sum', 800, 801, '-Infinity', 799), 801 + ln(1 + exp(-1::float8) + exp(-2::float8))),
	('ln(1 - e^-1e-9)', _value_math('log1mexp', -1e-9), ln(1e-9::float8) - 0.5e-9),
	('ln(1 - e^-40)', _value_math('log1mexp', -40), -exp(-40::float8))) v(what, got, want);
-- recurrences at 600 arguments between 1e-3 and 1e12
SELECT max(abs(_value_math('log_gamma', x + 1) - _value_math('log_gamma', x) - ln(x)) / greatest(1, _value_math('log_gamma', x + 1))) < 1e-14 AS gamma,
	max(abs(_value_math('digamma', x + 1) - _value_math('digamma', x) - 1 / x) * least(x, 1)) < 1e-14 AS digamma,
	max(abs(_value_math('trigamma', x + 1) - _value_math('trigamma', x) + 1 / x ^ 2) * least(x ^ 2, 1)) < 1e-14 AS trigamma,
	max(abs(_value_math('log_beta', x, 0.3) - _value_math('log_beta', x + 1, 0.3) - ln(1 + 0.3 / x)) / greatest(1, ln(x))) < 1e-14 AS beta,
	max(abs(_value_math('log_beta', x, 30) - _value_math('log_beta', x + 1, 30) - ln(1 + 30 / x)) / greatest(1, ln(x) * 30)) < 1e-14 AS beta_30,
	max(abs(_value_math('log_rising', x, 40) - (SELECT sum(ln(x + i)) FROM generate_series(0, 39) i)) / greatest(1, 40 * ln(x + 40))) < 1e-14 AS rising
FROM (SELECT 10 ^ (-3 + n / 40.0::float8) FROM generate_series(0, 600) n) g(x);
-- the derivatives are those of ln Gamma
SELECT max(abs((_value_math('log_gamma', x * 1.001) - _value_math('log_gamma', x * 0.999)) / (0.002 * x) - _value_math('digamma', x)) * x) < 1e-5 AS digamma,
	max(abs((_value_math('digamma', x * 1.001) - _value_math('digamma', x * 0.999)) / (0.002 * x) - _value_math('trigamma', x)) * x) < 1e-5 AS trigamma
FROM (SELECT 0.5 + n / 7.0::float8 FROM generate_series(0, 200) n) g(x);
-- incomplete beta: for whole a, b it is a tail of the binomial distribution; both tails make one
SELECT max(abs(exp(_value_math('log_beta_inc', a, b, x)) - (SELECT sum(exp(-_value_math('log_beta', k + 1, n - k + 1) - ln(n + 1)) * x ^ k * (1 - x) ^ (n - k))
		FROM generate_series(a, n) k))) < 1e-13 AS binomial
FROM (SELECT a, b, x, a + b - 1 AS n FROM generate_series(1, 40, 3) a, generate_series(1, 60, 7) b, unnest(ARRAY[0.02, 0.3, 0.5, 0.77, 0.99]::float8[]) x) g;
SELECT max(abs(_value_math('log_add', _value_math('log_beta_inc', a, b, x), _value_math('log_beta_inc', b, a, 1 - x)))) < 1e-10 AS tails
FROM (SELECT 10::float8 ^ (i - 3) * 1.7, 10::float8 ^ (j - 3) * 0.9, x FROM generate_series(0, 9) i, generate_series(0, 9) j, unnest(ARRAY[1e-6, 0.01, 0.25, 0.5, 0.875]::float8[]) x) g(a, b, x);
SELECT _value_math('log_beta_inc', 2, 3, 0) AS zero, _value_math('log_beta_inc', 2, 3, 1) AS one, pg_temp.near(_value_math('log_beta_inc', 500, 500, 0.01), -1618.81598497247852, 1e-14) AS far;
-- quadrature: 16 nodes are exact to the power 31, 96 nodes to 191
SELECT max(abs(_value_math('legendre', k) - CASE WHEN k % 2 = 0 THEN 2.0 / (k + 1) ELSE 0 END)) < 1e-15 AS legendre FROM generate_series(0, 31) k;
SELECT nodes, max(abs(ln(_value_math('jacobi', a, b, nodes, k)) - (_value_math('log_rising', a, k) - _value_math('log_rising', a + b, k)))) < 1e-11 AS exact
FROM unnest(ARRAY[12, 24, 48, 96]) nodes, unnest(ARRAY[1e-3, 0.5, 1, 7.3, 1222.8]::float8[]) a, unnest(ARRAY[0.2, 1, 3.5, 240, 9043.8]::float8[]) b, unnest(ARRAY[0, 1, 2, 3, 23]) k
WHERE a > 0.1 OR b > 0.3 GROUP BY nodes ORDER BY nodes;
SELECT pg_temp.near(ln(_value_math('jacobi', 0.8, 2.4, 96, 180)), _value_math('log_rising', 0.8, 180) - _value_math('log_rising', 3.2, 180), 1e-12) AS high;
-- outside the domain
SELECT _value_math('log_gamma', 0) AS a, _value_math('log_gamma', -1) AS b, _value_math('digamma', -2) AS c, _value_math('trigamma', 'NaN') AS d, _value_math('log_gamma', 'Infinity') AS e,
	_value_math('log_beta', -1, 2) AS f, _value_math('log_beta_inc', 1, 1, -0.5) AS g, _value_math('log_rising', 1, -1) AS h, _value_math('log_gamma', NULL) AS i;
SELECT _value_math('log_gamma', 1, 2);
SELECT _value_math('lambda', 1);
