-- Properties of the normalisers over generated values.  Another run takes other values; to repeat one:
-- psql -v seed=NUMBER -f test/pgtap/identity_normalize.sql
\if :{?seed}
\else
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 1000000 AS seed \gset
\endif
BEGIN;
SELECT plan(18);
SELECT diag('identity_normalize: seed ' || :seed);
SELECT setseed(:seed / 1000000.0)::text = '' AS seeded \gset

-- one of the characters or words
CREATE FUNCTION pg_temp.pick(VARIADIC choices text[]) RETURNS text LANGUAGE sql VOLATILE
	AS $$ SELECT choices[1 + floor(random() * cardinality(choices))::int] $$;
CREATE FUNCTION pg_temp.digits(n int) RETURNS text LANGUAGE sql VOLATILE
	AS $$ SELECT string_agg(floor(random() * 10)::int::text, '') FROM generate_series(1, n) $$;
-- n characters of an alphabet
CREATE FUNCTION pg_temp.noise(alphabet text, n int) RETURNS text LANGUAGE sql VOLATILE
	AS $$ SELECT coalesce(string_agg(substr(alphabet, 1 + floor(random() * length(alphabet))::int, 1), ''), '') FROM generate_series(1, n) $$;
-- separators strewn between the characters, digits sometimes full-width
CREATE FUNCTION pg_temp.spell(s text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	res text := '';
	wide boolean := random() < 0.2;
BEGIN
	FOR i IN 1..length(s) LOOP
		IF random() < 0.3 THEN
			res := res || pg_temp.pick(' ', '-', '.', '(', ')', '　', '－', '（', '）', '．', E'\u00A0', E'\u2013', E'\t', E'\u200B');
		END IF;
		res := res || CASE WHEN wide THEN translate(substr(s, i, 1), '+0123456789', '＋０１２３４５６７８９') ELSE substr(s, i, 1) END;
	END LOOP;
	RETURN res || pg_temp.pick('', ' ', E'\n');
END $$;
-- the normalised value, or the SQLSTATE and whether the message holds the value or no hint is given
CREATE FUNCTION pg_temp.try(call text, v text, OUT result text, OUT state text, OUT bad boolean) LANGUAGE plpgsql AS $$
DECLARE
	msg text; hint text;
BEGIN
	EXECUTE 'SELECT ' || call INTO result USING v;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, msg = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	bad := state <> '22023' OR hint = '' OR (length(v) > 4 AND strpos(msg, v) > 0);
END $$;

-- phone: a number is generated, then spelled
CREATE TEMP TABLE num AS
SELECT i, CASE WHEN i % 2 = 0 THEN '1' || pg_temp.pick('3', '4', '5', '6', '7', '8', '9') || pg_temp.digits(9)
	ELSE pg_temp.pick('10', '21', '22', '755', '571', '898', '991') || pg_temp.pick('2', '6', '8') || pg_temp.digits(6 + (random() < 0.7)::int) END AS nsn
FROM generate_series(1, 2000) i;
CREATE TEMP TABLE spelled AS
SELECT n.i, '+86' || n.nsn AS want, pg_temp.spell(p || n.nsn) AS v
FROM num n CROSS JOIN unnest(ARRAY['', '0', '86', '860', '+86', '+860', '0086', '00860', '086', '+0086']) p;
SELECT is_empty('SELECT v, want, cdp.normalize_phone(v) FROM spelled WHERE cdp.normalize_phone(v) <> want LIMIT 5',
	'twenty thousand spellings of mainland numbers find their number');
SELECT is_empty($$SELECT want FROM spelled WHERE cdp.normalize_phone(v, '44') <> want AND v ~ '[+＋]' LIMIT 5$$,
	'with a plus the country code of the call does not matter');
SELECT is_empty($$SELECT x FROM (SELECT v || pg_temp.pick('x', 'ext', '转', '#', ',', '/', '*', '分机') || pg_temp.digits(3) AS x FROM spelled WHERE i % 10 = 0) s
	WHERE (pg_temp.try('cdp.normalize_phone($1)', x)).state IS DISTINCT FROM '22023' LIMIT 5$$, 'no extension is swallowed');
SELECT is_empty($$SELECT x FROM (SELECT pg_temp.spell(pg_temp.pick('', '0', '86', '+86', '+860', '0086') || pg_temp.pick('400', '800') || pg_temp.digits(7)) AS x
	FROM generate_series(1, 500)) s WHERE (pg_temp.try('cdp.normalize_phone($1)', x)).state IS DISTINCT FROM '22023' LIMIT 5$$, 'no hotline is taken for a person');
CREATE TEMP TABLE noise AS
SELECT i, CASE WHEN i % 3 = 0 THEN pg_temp.noise('0123456789', (random() * 20)::int)
	WHEN i % 3 = 1 THEN pg_temp.noise('+0123456789 -.()', (random() * 30)::int)
	ELSE pg_temp.noise('+018６３9 （）－	a转#' || E'\u200B\u202A\U0001F600é', (random() * 20)::int) END AS v,
	pg_temp.pick('86', '44', '1', '39', '852', '7') AS cc
FROM generate_series(1, 20000) i;
CREATE TEMP TABLE phone_tried AS
SELECT n.v, cc, (pg_temp.try(format('cdp.normalize_phone($1, %L)', cc), v)).* FROM noise n;
SELECT is_empty('SELECT * FROM phone_tried WHERE bad OR result !~ ''^\+[1-9][0-9]{6,14}$'' LIMIT 5', 'noise gives E.164 or 22023 with a hint and without the value');
SELECT is_empty('SELECT * FROM phone_tried WHERE result IS NOT NULL AND cdp.normalize_phone(result, cc) <> result LIMIT 5', 'a normalised number normalises to itself');

-- e-mail
CREATE TEMP TABLE mail AS
SELECT i, pg_temp.noise('abcxyz0189.+-_', 1 + (random() * 8)::int) || pg_temp.pick('@', '@', '@', '@', '＠', '@@', '') ||
	pg_temp.pick('gmail.com', 'GoogleMail.com', 'QQ.com', 'qq。com', 'a.b-c.cn', 'x', '-x.com', 'x-.com', 'x..com', '例子.中国', 'ｑｑ．ｃｏｍ', 'q q.com') || pg_temp.pick('', '', ' ', '　') AS v
FROM generate_series(1, 20000) i;
CREATE TEMP TABLE mail_tried AS
SELECT v, p, (pg_temp.try(format('cdp.normalize_email($1, %L)', p), v)).* FROM mail, unnest('{keep,strip_tag,gmail}'::text[]) p;
SELECT is_empty('SELECT * FROM mail_tried WHERE bad LIMIT 5', 'noise gives an address or 22023 with a hint and without the value');
SELECT is_empty('SELECT * FROM mail_tried WHERE result IS NOT NULL AND cdp.normalize_email(result, p) <> result LIMIT 5', 'under every policy a normalised address normalises to itself');
SELECT is_empty($$SELECT * FROM mail_tried WHERE result !~ '^[^@\s]+@[^@\s.]+(\.[^@\s.]+)+$' OR result <> lower(result) OR result ~ '(^|[.@])\.|\.@|@-|@.*-\.|@.*\.-|-$' LIMIT 5$$,
	'an address has one @, a dotted domain, lower case and no empty part');
SELECT is_empty($$SELECT * FROM (SELECT l, cdp.normalize_email(regexp_replace(l, '(.)', '\1.') || pg_temp.pick('', '+', '+x', '+x+.y') || pg_temp.pick('@gmail.com', '@GOOGLEMAIL.com'), 'gmail') AS got
	FROM (SELECT pg_temp.noise('abcdef01', 3 + (random() * 8)::int) AS l FROM generate_series(1, 2000)) s) t WHERE got <> l || '@gmail.com' LIMIT 5$$,
	'dots, tags and both domains of Gmail are one address');

-- names
CREATE TEMP TABLE name AS
SELECT CASE i % 4 WHEN 0 THEN pg_temp.noise('张王李欧阳诸葛司马先生女士小姐太太老师·•・‧　 ', (random() * 8)::int)
	WHEN 1 THEN pg_temp.noise('aBÉéŁł,.·• ' || E'\u0301\u0331\u200DHİẞΣЖＡ', (random() * 12)::int)
	WHEN 2 THEN chr(1 + (i * 7919) % 55295) || pg_temp.noise('张a ·', 2)
	ELSE 'H' || chr(57344 + (i * 7919) % 190000) || pg_temp.noise('张a ·', 2) END AS v
FROM generate_series(1, 40000) i;
SELECT is_empty('SELECT v FROM name WHERE cdp.normalize_name(cdp.normalize_name(v)) <> cdp.normalize_name(v) LIMIT 5', 'a normalised name normalises to itself');
SELECT is_empty($$SELECT v, n FROM (SELECT v, cdp.normalize_name(v) AS n FROM name) s WHERE n IS NOT NFKC NORMALIZED OR n ~ '^ | $|  |[•・‧]|·[ ·]| ·|[一-龥] [一-龥]' LIMIT 5$$,
	'a normalised name is NFKC, has one kind of dot and no blank too many');
SELECT is_empty($$SELECT c, cdp.normalize_name(c) FROM (SELECT chr(i) AS c FROM generate_series(1, 200000) i WHERE i NOT BETWEEN 55296 AND 57343) s
	WHERE cdp.normalize_name(cdp.normalize_name('x' || c)) <> cdp.normalize_name('x' || c) OR cdp.normalize_name(c) IS NOT NFKC NORMALIZED LIMIT 5$$, 'so for every single character');
SELECT is_empty($$SELECT v, s FROM (SELECT v, cdp.normalize_name(v) AS n, cdp.split_name(v) AS s FROM name) t
	WHERE n ~ '^[一-龥]+$' AND concat((s).surname, (s).given_name) <> n OR (s).surname = '' OR (s).given_name = '' OR (n = '') <> (s IS NULL) LIMIT 5$$,
	'the parts of a Han name are the name; no part is an empty string');
SELECT is_empty('SELECT v FROM name WHERE cdp.split_name(v) IS DISTINCT FROM cdp.split_name(cdp.normalize_name(v)) LIMIT 5', 'a name falls apart as its normalised form does');

-- identity calls the form that does not raise: it must agree
CREATE TEMP TABLE known AS
SELECT kind, value, cdp.identify(jsonb_build_object(kind, value)) AS customer_id
FROM (SELECT DISTINCT 'phone' AS kind, want AS value FROM spelled WHERE i <= 20
	UNION SELECT 'email', result FROM mail_tried WHERE p = 'keep' AND result IS NOT NULL AND length(v) < 13) s;
SELECT is_empty($$SELECT v FROM spelled JOIN known k ON k.value = want WHERE cdp.resolve('phone', v) IS DISTINCT FROM k.customer_id LIMIT 5$$,
	'a customer is found under every spelling of the number');
SELECT is_empty($$SELECT v FROM mail_tried JOIN known k ON k.value = result WHERE p = 'keep' AND length(v) < 13 AND cdp.resolve('email', v) IS DISTINCT FROM k.customer_id LIMIT 5$$,
	'a customer is found under every spelling of the address');
SELECT cmp_ok((SELECT count(DISTINCT customer_id) FROM known), '=', (SELECT count(*) FROM known), 'and no two normalised values are one customer');
SELECT * FROM finish();
ROLLBACK;
