-- Numbers and dates in bitmaps, dense enough for bit slices: every comparison at values that are there, beside them and far
-- off, against plain SQL over the same values.  To repeat a run: psql -v seed=NUMBER (or CDP_SEED).
\if :{?seed}
\else
\getenv seed CDP_SEED
\endif
\if :{?seed}
\else
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 1000000 AS seed \gset
\endif
BEGIN;
SELECT plan(9);
SELECT diag('tag_bits_values: seed ' || :seed || ' (CDP_SEED chooses another)');
SELECT setseed((:seed % 1000000) / 1000000.0)::text = '' AS seeded \gset
SET LOCAL search_path = pg_temp, public, cdp;
SET LOCAL client_min_messages = warning;
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO, YMD';
SET LOCAL cdp.now = '2026-02-01 00:00:00Z';
-- two chunks and a bit; k: whole numbers, cents, 15 digits that no scale makes whole, far apart, negative, one for all, few, dates
CREATE TEMP TABLE v AS SELECT 3000000000000 + i AS id, floor(random() * 1000)::float8 AS whole, round(random()::numeric * 10000, 2)::float8 AS cents,
	(random() * 1e-5)::numeric(30, 19)::float8 AS tiny, (ARRAY[1e15, 0.5, -1e-9, 3, 123456789012345])[1 + floor(random() * 5)::int] AS far,
	-round(random()::numeric * 5, 3)::float8 AS negative, 7::float8 AS same, CASE WHEN random() < 0.01 THEN floor(random() * 100)::float8 END AS few,
	date '2020-01-01' + floor(random() * 2000)::int AS day, random() < 0.1 AS vip
	FROM generate_series(1, 17000) i;
UPDATE v SET tiny = to_char(tiny, '9.99999999999999EEEE')::float8;
INSERT INTO cdp.profile (profile_id) SELECT id FROM v;
CREATE FUNCTION pg_temp.tags_of(v) RETURNS cdp.tagset LANGUAGE sql AS $$
	SELECT concat_ws(', ', 'whole=' || $1.whole, 'cents=' || $1.cents, 'tiny=' || $1.tiny, 'far=' || $1.far, 'negative=' || $1.negative, 'same=' || $1.same,
		'few=' || $1.few, 'day=' || $1.day, CASE WHEN $1.vip THEN 'vip' END)::cdp.tagset $$;
INSERT INTO cdp.profile_tag (profile_id, tags) SELECT id, pg_temp.tags_of(v) FROM v;
CREATE FUNCTION pg_temp.merge() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	s record;
	n int := 0;
BEGIN
	LOOP
		SELECT * INTO s FROM cdp._merge_tags_step(7000);
		n := n + 1;
		EXIT WHEN NOT s.more;
	END LOOP;
	RETURN n;
END $$;
SELECT cmp_ok(pg_temp.merge(), '>', 2, 'merged in batches');
SELECT is_empty('SELECT * FROM cdp._verify_bits(10)', 'bitmaps are what they have to be');
SELECT is((SELECT string_agg(DISTINCT k.tag, ' ' ORDER BY k.tag) FROM cdp.tag_bits b JOIN cdp.tag_key k USING (key_id)
	WHERE k.kind IN ('number', 'date') AND b.chunk = 3000000000000 / 16384 + 1 AND b.part = 0 AND get_byte(b.bits, 0) = 1), 'cents day negative same whole', 'these are slices');
SELECT ok(bool_and(pg_column_size(b.*) <= 8160), 'every row fits on a page') FROM cdp.tag_bits b;
CREATE TEMP TABLE asked (query text, bits bigint, rows bigint);
CREATE FUNCTION pg_temp.ask(n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	c text;
	op text;
	x text;
	a asked;
	r bigint;
BEGIN
	FOR i IN 1..n LOOP
		c := (ARRAY['whole', 'cents', 'tiny', 'far', 'negative', 'same', 'few', 'day'])[1 + i % 8];
		op := (ARRAY['=', '!=', '<', '<=', '>', '>='])[1 + floor(random() * 6)::int];
		r := 3000000000000 + 1 + floor(random() * 17000)::int;
		IF c = 'day' THEN
			SELECT coalesce((day + (ARRAY[0, 0, 1, -1, 3000, -3000])[1 + floor(random() * 6)::int])::text, '2020-02-29') INTO x FROM v WHERE id = r;
		ELSE
			EXECUTE format('SELECT coalesce(to_char(%I::numeric * $1 + $2, ''FM9999999999999990.999999999999999''), ''5'') FROM v WHERE id = $3', c) INTO x
				USING (ARRAY[1, 1, 1, 1.001, -1])[1 + floor(random() * 5)::int], (ARRAY[0, 0, 0, 0.005, 1e14])[1 + floor(random() * 5)::int], r;
			x := rtrim(left(x, 16), '.');
			x := CASE WHEN x IN ('', '-') THEN '0' ELSE x::float8::text END;
		END IF;
		a.query := format('%s %s %s', c, op, x);
		EXECUTE format('SELECT count(*) FROM v WHERE %I %s %L', c, CASE op WHEN '!=' THEN '<>' ELSE op END, x) INTO a.rows;
		a.bits := cdp.count_customers(a.query::cdp.tagquery);
		INSERT INTO asked VALUES (a.*);
		EXECUTE format('SELECT count(*) FROM v WHERE vip AND %I %s %L', c, CASE op WHEN '!=' THEN '<>' ELSE op END, x) INTO a.rows;
		a.query := 'vip & ' || a.query;
		a.bits := cdp.count_customers(a.query::cdp.tagquery);
		INSERT INTO asked VALUES (a.*);
	END LOOP;
END $$;
SELECT pg_temp.ask(200) IS NULL AS asked \gset
SELECT diag(format('%s of %s comparisons hold for some', count(*) FILTER (WHERE rows > 0), count(*))) FROM asked;
SELECT is_empty('SELECT * FROM asked WHERE bits <> rows LIMIT 5', 'comparisons say what SQL says');
-- values change, go and come
UPDATE v SET cents = round(random()::numeric * 1e6, 2)::float8, whole = -whole, few = NULL WHERE random() < 0.3;
UPDATE v SET day = NULL, far = NULL, cents = 0.001 WHERE random() < 0.001;
UPDATE cdp.profile_tag t SET tags = pg_temp.tags_of(v) FROM v WHERE v.id = t.profile_id AND t.tags OPERATOR(cdp.<>) pg_temp.tags_of(v);
DELETE FROM asked;
SELECT pg_temp.ask(100) IS NULL AS asked \gset
SELECT is_empty('SELECT * FROM asked WHERE bits <> rows LIMIT 5', 'also before they are merged');
SELECT pg_temp.merge() > 0 AS merged \gset
SELECT is_empty('SELECT * FROM cdp._verify_bits(10)', 'merged: bitmaps are what they have to be');
DELETE FROM asked;
SELECT pg_temp.ask(200) IS NULL AS asked \gset
SELECT is_empty('SELECT * FROM asked WHERE bits <> rows LIMIT 5', 'and say what SQL says');
SELECT is((SELECT sum(k.members) FROM cdp.tag_key k WHERE k.kind IN ('number', 'date')), (SELECT count(whole) + count(cents) + count(tiny) + count(far) + count(negative) + count(same) + count(few) + count(day) FROM v)::numeric,
	'members are counted');
SELECT * FROM finish();
ROLLBACK;
