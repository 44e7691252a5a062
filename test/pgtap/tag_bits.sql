-- Bitmaps against a judge in plain SQL, the rows and the index over random expressions, in every state that customers and
-- bitmaps can be in: never merged, clean, dirty, ended, clock set back, merged customers.  To repeat a run:
-- psql -v seed=NUMBER -f test/pgtap/tag_bits.sql (or CDP_SEED); CDP_QUERIES chooses how many expressions in each state.
-- The long run, about an hour and a half:  make check MODULES=tag_bits CDP_QUERIES=100000 CDP_SEED=NUMBER
\if :{?seed}
\else
\getenv seed CDP_SEED
\endif
\if :{?seed}
\else
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 1000000 AS seed \gset
\endif
\getenv queries CDP_QUERIES
\if :{?queries}
\else
\set queries 2000
\endif
BEGIN;
SELECT plan(35);
SELECT diag('tag_bits: seed ' || :seed || ' (CDP_SEED chooses another), ' || :queries || ' expressions in each state (CDP_QUERIES)');
SELECT setseed((:seed % 1000000) / 1000000.0)::text = '' AS seeded \gset
SET LOCAL search_path = pg_temp, public, cdp;
SET LOCAL TimeZone = 'Asia/Shanghai';
SET LOCAL client_min_messages = warning;
\ir tag_judge.psql
SELECT pg_temp.fill_entries(60) IS NULL AS filled \gset
-- neighbours, chunks far apart, and the end of the numbers there are
CREATE TEMP TABLE who AS SELECT i::bigint AS id, CASE i % 3 WHEN 0 THEN 5000000000 + i WHEN 1 THEN 1000000 + i * 20000 ELSE 9223372036854775807 - (i / 2) * 16384 END AS customer
	FROM generate_series(1, 60) i;
INSERT INTO cdp.profile (profile_id) SELECT customer FROM who ORDER BY customer;
INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen) SELECT 'member_id', 'bits' || id, customer, now(), now() FROM who;
-- who is a customer now; a merged one is not
CREATE TEMP VIEW subject AS SELECT w.id, w.customer FROM who w WHERE NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = w.customer);
SET LOCAL cdp.now = '2026-02-01 00:00:00Z';
-- rows follow the entries of the judge
CREATE FUNCTION pg_temp.write_rows() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM cdp.profile_tag t USING subject s WHERE t.profile_id = s.customer AND pg_temp.entries_text(s.id) = '';
	INSERT INTO cdp.profile_tag AS t (profile_id, tags) SELECT s.customer, pg_temp.entries_text(s.id)::cdp.tagset FROM subject s WHERE pg_temp.entries_text(s.id) <> ''
		ON CONFLICT (profile_id) DO UPDATE SET tags = excluded.tags WHERE t.tags OPERATOR(cdp.<>) excluded.tags;
END $$;
CREATE FUNCTION pg_temp.change_entries(n int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	CREATE TEMP TABLE kept AS SELECT * FROM entry;
	DELETE FROM entry;
	PERFORM pg_temp.fill_entries(60);
	-- of n customers the new ones count, of the others the old ones
	CREATE TEMP TABLE chosen AS SELECT id FROM who ORDER BY random() LIMIT n;
	DELETE FROM entry WHERE id NOT IN (SELECT id FROM chosen);
	INSERT INTO entry SELECT * FROM kept WHERE id NOT IN (SELECT id FROM chosen);
	DELETE FROM entry WHERE id NOT IN (SELECT id FROM subject);
	DROP TABLE kept, chosen;
	PERFORM pg_temp.write_rows();
END $$;
CREATE FUNCTION pg_temp.merge(batch int DEFAULT 7) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	s record;
	rounds int := 0;
BEGIN
	LOOP
		SELECT * INTO s FROM cdp._merge_tags_step(batch);
		rounds := rounds + 1;
		EXIT WHEN NOT s.more;
	END LOOP;
	RETURN rounds;
END $$;
CREATE FUNCTION pg_temp.index_answers(q cdp.tagquery) RETURNS bigint[] LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
	RETURN (SELECT array_agg(t.profile_id ORDER BY t.profile_id) FROM cdp.profile_tag t JOIN who w ON w.customer = t.profile_id WHERE t.tags @@ q);
END $$;
CREATE TEMP TABLE asked (state text, text text, query cdp.tagquery, at timestamptz, judge bigint[], bits bigint[], n bigint, sequential bigint[], index bigint[], audience bigint[], matches bigint[]);
-- n expressions; answers how many chose some customers and not all
CREATE FUNCTION pg_temp.ask(state text, n int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	a asked;
	tree jsonb;
	parted int := 0;
	others bigint;
BEGIN
	FOR i IN 1..n LOOP
		a.state := ask.state;
		tree := pg_temp.random_query(pg_temp.pick(4) - 1);
		a.text := pg_temp.query_text(tree);
		a.query := a.text;
		-- mostly now, else any moment before or after
		a.at := CASE WHEN random() < 0.6 THEN cdp.now() ELSE pg_temp.some_moment() + (ARRAY['0', '1 microsecond', '-1 microsecond', '1 day', '-1 month'])[pg_temp.pick(5)]::interval END;
		EXECUTE format('SELECT array_agg(c.customer ORDER BY c.customer) FROM subject c WHERE %s', pg_temp.query_sql(tree, a.at)) INTO a.judge;
		SELECT array_agg(f.id ORDER BY f.id) INTO a.bits FROM cdp.find_customers(a.query, a.at) f(id) JOIN who w ON w.customer = f.id;
		SELECT count(*) INTO others FROM cdp.find_customers(a.query, a.at) f(id) WHERE NOT EXISTS (SELECT FROM who w WHERE w.customer = f.id);
		a.n := cdp.count_customers(a.query, a.at) - others;
		SELECT array_agg(t.customer_id ORDER BY t.customer_id) INTO a.sequential FROM cdp.customer_tag t JOIN who w ON w.customer = t.customer_id WHERE cdp.tagset_matches(t.tags, a.query, a.at);
		IF i % 10 = 0 THEN
			SELECT array_agg(x ORDER BY x) INTO a.audience FROM cdp.audience_ids(cdp.audience_of(a.query, a.at)) x JOIN who w ON w.customer = x;
			SELECT array_agg(s.customer ORDER BY s.customer) FILTER (WHERE cdp.matches_customer(s.customer, a.query, a.at)) INTO a.matches FROM subject s;
		ELSE
			a.audience := a.judge;
			a.matches := a.judge;
		END IF;
		-- customers without a row are not in the index
		a.index := a.judge;
		IF a.at = cdp.now() AND NOT cdp.tagset_matches('', a.query, a.at) THEN
			a.index := pg_temp.index_answers(a.query);
		END IF;
		-- what disagrees is kept, and a few for the laws below
		IF i <= 20 OR a.bits IS DISTINCT FROM a.judge OR a.n <> coalesce(cardinality(a.judge), 0) OR a.audience IS DISTINCT FROM a.judge OR a.matches IS DISTINCT FROM a.judge
			OR a.sequential IS DISTINCT FROM a.judge OR a.index IS DISTINCT FROM a.judge THEN
			INSERT INTO asked VALUES (a.*);
		END IF;
		parted := parted + coalesce(cardinality(a.judge) BETWEEN 1 AND 47, false)::int;
	END LOOP;
	RETURN parted;
END $$;
CREATE FUNCTION pg_temp.agree(state text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT cmp_ok(pg_temp.ask(state, current_setting('pgtap.queries')::int), '>', current_setting('pgtap.queries')::int / 3, state || ': a third and more of the expressions tell customers apart');
	RETURN NEXT is_empty(format($q$SELECT text, at, judge, bits, n FROM asked WHERE state = %L AND (bits IS DISTINCT FROM judge OR n <> coalesce(cardinality(judge), 0)
		OR audience IS DISTINCT FROM judge OR matches IS DISTINCT FROM judge) LIMIT 3$q$, state), state || ': bitmaps say what the judge says');
	RETURN NEXT is_empty(format($q$SELECT text, at, judge, sequential, index FROM asked WHERE state = %L AND (sequential IS DISTINCT FROM judge OR index IS DISTINCT FROM judge) LIMIT 3$q$, state),
		state || ': and so do rows and index');
	RETURN NEXT is_empty('SELECT * FROM cdp._verify_bits(10)', state || ': bitmaps are what they have to be');
END $$;
SET LOCAL pgtap.queries = :queries;
SELECT pg_temp.write_rows() IS NULL AS written \gset
SELECT pg_temp.agree('never merged');
SELECT pg_temp.merge() > 1 AS merged \gset
SELECT pg_temp.agree('clean');
SELECT pg_temp.change_entries(20) IS NULL AS changed \gset
SELECT pg_temp.change_entries(10) IS NULL AS changed \gset
SELECT pg_temp.agree('dirty');
-- entries end, and nothing was merged
SET LOCAL cdp.now = '2026-12-31 16:00:00Z';
SELECT pg_temp.agree('dirty and ended');
SELECT pg_temp.merge(3) > 1 AS merged \gset
SELECT pg_temp.agree('ended and merged');
-- the clock goes back behind the merge
SET LOCAL cdp.now = '2026-02-28 12:34:56.789012Z';
SELECT pg_temp.change_entries(10) IS NULL AS changed \gset
SELECT pg_temp.agree('clock behind the merge');
-- two customers become one, several times; the entries of the winner win
SET LOCAL cdp.now = '2027-01-01 00:00:00Z';
CREATE FUNCTION pg_temp.marry(winner bigint, loser bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM cdp.merge_customers((SELECT customer FROM who WHERE id = winner), (SELECT customer FROM who WHERE id = loser), 'test');
	UPDATE entry e SET id = winner WHERE e.id = loser AND NOT EXISTS (SELECT FROM entry w WHERE w.id = winner AND w.tag = e.tag);
	DELETE FROM entry WHERE id = loser;
END $$;
CREATE TEMP TABLE single AS SELECT * FROM entry;
SELECT count(pg_temp.marry(i, i + 30)) = 12 AS married FROM generate_series(1, 12) i \gset
SELECT pg_temp.agree('merged customers');
SELECT pg_temp.merge() > 0 AS merged \gset
SELECT count(cdp.unmerge_customer((SELECT customer FROM who WHERE id = i + 30), 'test')) = 12 AS parted FROM generate_series(1, 12) i \gset
DELETE FROM entry;
INSERT INTO entry SELECT * FROM single;
SELECT pg_temp.agree('and parted again');
SELECT pg_temp.merge() > 0 AS merged \gset
SELECT is_empty('SELECT * FROM cdp._verify_bits(10)', 'merged: bitmaps are what they have to be');
-- laws
SELECT is(cdp.count_customers('a | !a'), (SELECT count(*) FROM cdp.customer), 'x | !x is everyone');
SELECT is_empty($q$SELECT o.i, o.j, o.n FROM (SELECT array_agg(query) AS queries FROM (SELECT query FROM asked ORDER BY random() LIMIT 15) a) q,
	cdp.overlap_customers(q.queries) o WHERE o.n <> cdp.count_customers(q.queries[o.i] & q.queries[o.j])$q$, 'overlap_customers() counts what count_customers() does of both');
SELECT * FROM finish();
ROLLBACK;
