-- Lift and lookalikes against plain SQL over rows, in every state that customers and bitmaps can be in.  To repeat a run:
-- psql -v seed=NUMBER -f test/pgtap/segment_lookalike.sql (or CDP_SEED).
\if :{?seed}
\else
\getenv seed CDP_SEED
\endif
\if :{?seed}
\else
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 1000000 AS seed \gset
\endif
BEGIN;
SELECT plan(25);
SELECT diag('segment_lookalike: seed ' || :seed || ' (CDP_SEED chooses another)');
SELECT setseed((:seed % 1000000) / 1000000.0)::text = '' AS seeded \gset
SET LOCAL search_path = pg_temp, public, cdp;
SET LOCAL client_min_messages = warning;
\ir tag_judge.psql
SELECT pg_temp.fill_entries(150) IS NULL AS filled \gset
-- neighbours, chunks far apart, an id below 0, and the end of the numbers there are
CREATE TEMP TABLE who AS SELECT i::bigint AS id, CASE WHEN i = 7 THEN -20000 WHEN i % 3 = 0 THEN 5000000000 + i WHEN i % 3 = 1 THEN 1000000 + i * 5000
	ELSE 9223372036854775807 - (i / 2) * 16384 END AS customer FROM generate_series(1, 150) i;
INSERT INTO cdp.profile (profile_id) SELECT customer FROM who ORDER BY customer;
INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen) SELECT 'member_id', 'look' || id, customer, now(), now() FROM who;
CREATE FUNCTION pg_temp.write_rows() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM cdp.profile_tag t USING who w WHERE t.profile_id = w.customer AND pg_temp.entries_text(w.id) = '';
	INSERT INTO cdp.profile_tag AS t (profile_id, tags) SELECT w.customer, pg_temp.entries_text(w.id)::cdp.tagset FROM who w WHERE pg_temp.entries_text(w.id) <> ''
		AND NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = w.customer)
		ON CONFLICT (profile_id) DO UPDATE SET tags = excluded.tags WHERE t.tags OPERATOR(cdp.<>) excluded.tags;
END $$;
CREATE FUNCTION pg_temp.merge() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	s record;
	rounds int := 0;
BEGIN
	LOOP
		SELECT * INTO s FROM cdp._merge_tags_step(50);
		rounds := rounds + 1;
		EXIT WHEN NOT s.more;
	END LOOP;
	RETURN rounds;
END $$;
CREATE FUNCTION pg_temp.term(name text, rest text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT (pg_temp.quoted(name) || rest)::cdp.tagquery::text $$;
-- what a customer has, as terms of queries, told from the rows by plain SQL
CREATE FUNCTION pg_temp.facts() RETURNS TABLE (customer bigint, term text) LANGUAGE sql AS $$
	WITH live AS (SELECT t.customer_id, e.* FROM cdp.customer_tag t, cdp.tagset_entries(t.tags) e WHERE e.valid_until IS NULL OR e.valid_until > cdp.now())
	SELECT customer_id, pg_temp.term(tag, '') FROM live
	UNION SELECT customer_id, pg_temp.term(tag, ' = ' || pg_temp.quoted(value)) FROM live WHERE value_type = 'text'
	UNION SELECT customer_id, pg_temp.term(array_to_string((string_to_array(tag, '.'))[1:n], '.'), '.*')
		FROM live, generate_series(1, cardinality(string_to_array(tag, '.'))) n $$;
CREATE FUNCTION pg_temp.table_of(seed bigint[], base bigint[], few int)
	RETURNS TABLE (tag text, seed_count bigint, base_count bigint, seed_rate float8, base_rate float8, lift float8, tgi float8, z float8) LANGUAGE sql AS $$
	WITH everyone AS (SELECT customer_id AS id FROM cdp.customer), s AS (SELECT id FROM everyone WHERE id = ANY (seed)),
		b AS (SELECT id FROM everyone WHERE base IS NULL OR id = ANY (base)),
		size AS (SELECT (SELECT count(*) FROM s)::float8 AS n1, (SELECT count(*) FROM b)::float8 AS n2),
		counted AS (SELECT f.term, count(*) FILTER (WHERE f.customer IN (SELECT id FROM s)) AS x1, count(*) FILTER (WHERE f.customer IN (SELECT id FROM b)) AS x2
			FROM pg_temp.facts() f GROUP BY f.term),
		rate AS (SELECT term, x1, x2, x1 / n1 AS p1, x2 / n2 AS p2, (x1 + x2) / (n1 + n2) AS p, 1 / n1 + 1 / n2 AS v FROM counted, size WHERE n1 > 0 AND n2 > 0)
	SELECT r.term, x1, x2, p1, p2, CASE WHEN x2 = 0 THEN 'Infinity' ELSE p1 / p2 END, CASE WHEN x2 = 0 THEN 'Infinity' ELSE p1 / p2 * 100 END,
		CASE WHEN p1 = p2 THEN 0 ELSE (p1 - p2) / sqrt(p * (1 - p) * v) END
	FROM rate r WHERE x2 >= few AND x1 + x2 > 0
		AND NOT (term LIKE '%.*' AND EXISTS (SELECT FROM rate o WHERE o.term || '.*' = r.term AND o.x1 = r.x1 AND o.x2 = r.x2)) $$;
CREATE FUNCTION pg_temp.some(part float8) RETURNS bigint[] LANGUAGE sql AS $$ SELECT coalesce(array_agg(customer), '{}') FROM who WHERE random() < part AND customer >= 0 $$;
CREATE FUNCTION pg_temp.near(a float8, b float8) RETURNS boolean LANGUAGE sql AS $$ SELECT a = b OR abs(a - b) <= 1e-9 * greatest(1, abs(a)) $$;
CREATE FUNCTION pg_temp.most() RETURNS cdp.audience LANGUAGE sql AS $$ SELECT array_agg(customer)::cdp.audience FROM who WHERE customer >= 0 $$;
CREATE TEMP TABLE wrong (state text, what text, seed bigint[], base bigint[], few int, detail text);
CREATE FUNCTION pg_temp.ask(state text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	seed bigint[];
	base bigint[];
	few int;
	bar float8;
	k int;
BEGIN
	FOR i IN 1..12 LOOP
		seed := pg_temp.some((ARRAY[0.05, 0.2, 0.5, 0.9])[pg_temp.pick(4)]) || CASE WHEN random() < 0.3 THEN '{3,99999999999}'::bigint[] ELSE '{}' END;
		base := CASE WHEN random() < 0.5 THEN pg_temp.some((ARRAY[0.1, 0.5, 1])[pg_temp.pick(3)]) END;
		few := (ARRAY[0, 1, 5, 30])[pg_temp.pick(4)];
		INSERT INTO wrong SELECT state, 'lift', seed, base, few, coalesce(j::text, 'none') || ' but ' || coalesce(c::text, 'none')
			FROM pg_temp.table_of(seed, base, few) j FULL JOIN cdp.lift_table(seed::cdp.audience, base::cdp.audience, few) c USING (tag)
			WHERE (j.seed_count, j.base_count, j.seed_rate, j.base_rate) IS DISTINCT FROM (c.seed_count, c.base_count, c.seed_rate, c.base_rate)
			   OR NOT coalesce(pg_temp.near(j.lift, c.lift) AND pg_temp.near(j.tgi, c.tgi) AND pg_temp.near(j.z, c.z), false);
		bar := (ARRAY['-Infinity', 0, 0.5, 1, 3])[pg_temp.pick(5)];
		k := (ARRAY[1, 10, 1000])[pg_temp.pick(3)];
		CREATE TEMP TABLE judge AS
			SELECT f.customer, sum(ln(t.lift)) AS score FROM pg_temp.table_of(seed, NULL, 30) t JOIN pg_temp.facts() f ON f.term = t.tag
			WHERE t.z >= bar AND t.seed_count > 0 AND NOT f.customer = ANY (seed) GROUP BY f.customer;
		CREATE TEMP TABLE answer AS SELECT * FROM cdp.find_lookalikes(seed::cdp.audience, k, bar) WITH ORDINALITY a(customer, score, place);
		INSERT INTO wrong SELECT state, 'score', seed, NULL, k, a::text || ' but ' || coalesce(j::text, 'none') FROM answer a LEFT JOIN judge j USING (customer)
			WHERE NOT coalesce(pg_temp.near(a.score, j.score), false);
		INSERT INTO wrong SELECT state, 'best', seed, NULL, k, count(*) || ' found' FROM answer a HAVING count(*) <> least(k, (SELECT count(*) FROM judge));
		INSERT INTO wrong SELECT state, 'best', seed, NULL, k, j::text || ' was left out' FROM judge j
			WHERE NOT EXISTS (SELECT FROM answer a WHERE a.customer = j.customer) AND j.score > (SELECT min(a.score) FROM answer a) + 1e-9;
		INSERT INTO wrong SELECT state, 'order', seed, NULL, k, a::text FROM (SELECT a.*, lag(a.score) OVER w AS before, lag(a.customer) OVER w AS other FROM answer a WINDOW w AS (ORDER BY place)) a
			WHERE a.score > a.before OR (a.score = a.before AND a.customer <= a.other);
		DROP TABLE judge, answer;
	END LOOP;
	RETURN NEXT is_empty(format('SELECT * FROM wrong WHERE state = %L AND what = %L LIMIT 3', state, 'lift'), state || ': lift_table() says what SQL says');
	RETURN NEXT is_empty(format('SELECT * FROM wrong WHERE state = %L AND what <> %L LIMIT 3', state, 'lift'), state || ': find_lookalikes() finds whom SQL finds');
	RETURN NEXT is_empty('SELECT tag FROM cdp.lift_table(pg_temp.most(), NULL, 0) WHERE tag <> tag::cdp.tagquery::text OR base_count <> cdp.count_customers(tag::cdp.tagquery)',
		state || ': a tag is a query that counts base_count');
END $$;
SET LOCAL cdp.now = '2026-02-01 00:00:00Z';
SELECT pg_temp.write_rows() IS NULL AS written \gset
SELECT pg_temp.ask('never merged');
SELECT pg_temp.merge() > 1 AS merged \gset
SELECT pg_temp.ask('clean');
-- other entries for some
CREATE TEMP TABLE kept AS SELECT * FROM entry;
DELETE FROM entry;
SELECT pg_temp.fill_entries(150) IS NULL AS filled \gset
DELETE FROM entry WHERE id % 4 <> 0;
INSERT INTO entry SELECT * FROM kept WHERE id % 4 <> 0;
SELECT pg_temp.write_rows() IS NULL AS written \gset
SELECT pg_temp.ask('dirty');
SET LOCAL cdp.now = '2026-12-31 16:00:00Z';
SELECT pg_temp.ask('dirty and ended');
SELECT pg_temp.merge() > 1 AS merged \gset
SELECT pg_temp.ask('ended and merged');
SET LOCAL cdp.now = '2026-02-28 12:34:56.789012Z';
SELECT pg_temp.ask('clock behind the merge');
SET LOCAL cdp.now = '2027-01-01 00:00:00Z';
SELECT count(cdp.merge_customers((SELECT customer FROM who WHERE id = i), (SELECT customer FROM who WHERE id = i + 30), 'test')) FROM generate_series(10, 30) i \gset
SELECT pg_temp.ask('merged customers');
DELETE FROM cdp.profile WHERE profile_id IN (SELECT customer FROM who WHERE id BETWEEN 100 AND 110);
SELECT pg_temp.ask('and gone ones');
SELECT is((SELECT count(*) FROM cdp.lift_table(pg_temp.most(), NULL, 1)), (SELECT count(*) FROM pg_temp.table_of((SELECT array_agg(customer) FROM who WHERE customer >= 0), NULL, 1)),
	'there is something to compare');
SELECT * FROM finish();
ROLLBACK;
