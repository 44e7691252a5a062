-- cdp.audience against bigint[] and the set operators of SQL, over random sets of every density; samples; round trips.
BEGIN;
SELECT plan(28);
\getenv seed CDP_SEED
\if :{?seed}
\else
\set seed 20260101
\endif
SELECT diag('seed ' || :'seed' || ' (CDP_SEED chooses another)');
SELECT setseed((:seed % 1000) / 1000.0) IS NULL AS x \gset
SET LOCAL search_path = cdp, public, pg_catalog;

-- a set: some parts of the axis, each filled in its own way; and the places where something begins or ends
CREATE FUNCTION pg_temp.random_ids() RETURNS bigint[] LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	ids   bigint[] := '{}';
	edges bigint[] := '{0,1,65534,65535,65536,65537,131071,131072,4294967295,4294967296,4294967297,9223372036854775807,9223372036854775806}';
	base  bigint;
	n     int;
BEGIN
	FOR part IN 1 .. floor(random() * 4)::int LOOP
		base := (ARRAY[0, 65536, 4294901760, 4294967296, 9223372036854710272])[1 + floor(random() * 5)::int];
		n := floor(random() ^ 3 * 6000)::int;
		ids := ids || CASE floor(random() * 5)::int
			WHEN 0 THEN ARRAY(SELECT base + floor(random() * 65536)::bigint FROM generate_series(1, n))
			WHEN 1 THEN ARRAY(SELECT base + floor(random() * 200)::bigint FROM generate_series(1, n))
			WHEN 2 THEN ARRAY(SELECT base + i FROM generate_series(60000 - n, 60000 + floor(random() * 5535)::int) i)
			WHEN 3 THEN ARRAY(SELECT base + i FROM generate_series(0, 65535) i WHERE i % 500 < n % 60)
			ELSE ARRAY(SELECT base + i FROM generate_series(0, 65535, 1 + n % 30) i) END;
	END LOOP;
	RETURN ids || ARRAY(SELECT e FROM unnest(edges) e WHERE random() < 0.2);
END $$;
CREATE FUNCTION pg_temp.sorted(ids bigint[]) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS $$SELECT ARRAY(SELECT DISTINCT i FROM unnest(ids) i ORDER BY i)$$;
CREATE TEMP TABLE s AS SELECT n, pg_temp.random_ids() AS raw FROM generate_series(1, 40) n;
ALTER TABLE s ADD ids bigint[], ADD a audience;
UPDATE s SET ids = pg_temp.sorted(raw), a = raw::audience;
INSERT INTO s VALUES (41, '{}', '{}', '{}');
-- pairs: neighbours, some of which share a part
-- (the operators of arrays compare everything with everything: too slow for these)
CREATE FUNCTION pg_temp.common(i bigint[], j bigint[]) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS $$SELECT ARRAY(SELECT unnest(i) INTERSECT SELECT unnest(j) ORDER BY 1)$$;
CREATE TEMP TABLE p AS
SELECT x.n, x.ids AS i, x.a, y.ids AS j, y.a AS b FROM (SELECT n, CASE WHEN n % 3 = 0 THEN ids ELSE raw END AS raw, ids, a FROM s) x
JOIN (SELECT n, CASE WHEN n % 4 = 0 THEN pg_temp.sorted(ids || (SELECT o.ids FROM s o WHERE o.n = (s.n + 7) % 40 + 1)) ELSE ids END AS ids, NULL::audience AS a FROM s) y ON y.n = x.n % 41 + 1;
UPDATE p SET b = j::audience;
SELECT cmp_ok((SELECT count(*) FROM p WHERE pg_temp.common(i, j) <> '{}' AND i <> j), '>', 10::bigint, 'there are pairs that overlap');

SELECT is_empty('SELECT n FROM s WHERE a::bigint[] <> ids', 'array to audience to array: sorted, each id once');
SELECT is_empty('SELECT n FROM s WHERE _audience_check(a) IS NOT NULL UNION ALL SELECT n FROM p WHERE _audience_check(a & b) IS NOT NULL OR _audience_check(a # b) IS NOT NULL', 'bytes are sound and in their one form');
SELECT is_empty('SELECT n FROM s WHERE audience_count(a) <> cardinality(ids)', 'audience_count');
SELECT is_empty('SELECT n FROM s WHERE ARRAY(SELECT audience_ids(a)) <> ids', 'audience_ids, ascending');
SELECT is_empty('SELECT n FROM s WHERE (SELECT audience_agg(i) FROM (SELECT i FROM unnest(raw) i ORDER BY random()) x) <> a', 'audience_agg, in any order');
SELECT is_empty('SELECT n FROM s WHERE (SELECT audience_union(ARRAY[i]::audience) FROM unnest(raw[1:3000]) i) <> raw[1:3000]::audience', 'audience_union of sets of one');
SELECT is((SELECT audience_union(a) FROM s), (SELECT audience_agg(i) FROM s, unnest(ids) i), 'audience_union of all');
SELECT is((SELECT audience_intersection(a | '{7,65536,4294967296}') FROM s),
	(SELECT array_agg(i)::audience FROM (SELECT i FROM s, unnest(pg_temp.sorted(ids || '{7,65536,4294967296}')) i GROUP BY i HAVING count(*) = 41) x), 'audience_intersection of all');
SELECT is_empty('SELECT n FROM p WHERE (a & b)::bigint[] <> pg_temp.common(i, j)', '&');
SELECT is_empty('SELECT n FROM p WHERE (a | b)::bigint[] <> ARRAY(SELECT unnest(i) UNION SELECT unnest(j) ORDER BY 1)', '|');
SELECT is_empty('SELECT n FROM p WHERE (a - b)::bigint[] <> ARRAY(SELECT unnest(i) EXCEPT SELECT unnest(j) ORDER BY 1)', '-');
SELECT is_empty('SELECT n FROM p WHERE (a # b)::bigint[] <> ARRAY((SELECT unnest(i) EXCEPT SELECT unnest(j)) UNION (SELECT unnest(j) EXCEPT SELECT unnest(i)) ORDER BY 1)', '#');
SELECT is_empty('SELECT n FROM p WHERE (a && b) <> (cardinality(pg_temp.common(i, j)) > 0)', '&&');
SELECT is_empty('SELECT n FROM p WHERE (a = b) <> (i = j) OR (a <> b) <> (i <> j) OR (i = j AND _audience_hash(a) <> _audience_hash(b))', '=, <> and hash');
SELECT is_empty($$SELECT n, k FROM p, unnest(j[1:20] || j[cardinality(j) - 20:] || i[1:20] || '{0,1,65535,65536,4294967295,4294967296,9223372036854775807,-1}') k
	WHERE (a @> k) <> (k = ANY (i)) OR (k <@ a) <> (k = ANY (i))$$, '@> and <@');
SELECT is_empty($$SELECT n FROM p WHERE (a - b) | (a & b) <> a OR a # b <> (a | b) - (a & b) OR a | b <> b | a OR a & b <> b & a OR a - a <> '{}' OR a # b # b <> a
	OR audience_count(a | b) + audience_count(a & b) <> audience_count(a) + audience_count(b)$$, 'algebraic laws');

-- the text as SQL would write it: islands of neighbours
CREATE FUNCTION pg_temp.text_of(ids bigint[]) RETURNS text LANGUAGE sql AS $$
	SELECT '{' || coalesce(string_agg(CASE last - first WHEN 0 THEN first::text WHEN 1 THEN first || ',' || last ELSE first || '-' || last END, ',' ORDER BY first), '') || '}'
	FROM (SELECT min(i) AS first, max(i) AS last FROM (SELECT i, i - row_number() OVER (ORDER BY i) AS island FROM unnest(ids) i) x GROUP BY island) y
$$;
SELECT is_empty('SELECT n FROM s WHERE a::text <> pg_temp.text_of(ids)', 'the text form');
SELECT is_empty('SELECT n FROM s WHERE a::text::audience <> a', 'text round trip');
CREATE FUNCTION pg_temp.shuffled(t text) RETURNS text LANGUAGE sql AS $$
	SELECT '{' || string_agg(w, ' , ' ORDER BY random()) || '}' FROM unnest(string_to_array(btrim(t, '{}'), ',')) WITH ORDINALITY u(w, n)
$$;
SELECT is_empty($$SELECT n FROM s WHERE a <> '{}' AND pg_temp.shuffled(a::text)::audience <> a$$, 'text in any order');
SELECT is_empty('SELECT n FROM s WHERE audience_from_roaring64(audience_to_roaring64(a)) <> a', '64-bit Roaring round trip');
SELECT is_empty($$SELECT n FROM s, LATERAL (SELECT a & '{0-4294967295}' AS low) l WHERE low::bytea::audience <> low OR (low = a) <> (ids = '{}' OR ids[cardinality(ids)] < 4294967296)$$, '32-bit Roaring round trip');
SELECT current_setting('data_directory') || '/audience.bin' AS file \gset
COPY (SELECT n, a FROM s) TO :'file' (FORMAT binary);
CREATE TEMP TABLE back (n int, a audience);
COPY back FROM :'file' (FORMAT binary);
SELECT is_empty('SELECT n FROM s JOIN back USING (n) WHERE s.a <> back.a', 'binary round trip');
SELECT is((SELECT count(*) FROM back), 41::bigint, '… of all');

-- samples, and the formula of the comment in SQL
SELECT is_empty('SELECT n, k FROM s, unnest(''{1,10,1000,100000}''::int[]) k, LATERAL (SELECT array_agg(i) AS sample FROM audience_sample(a, k, n) i) x
	WHERE cardinality(coalesce(sample, ''{}'')) <> least(k, cardinality(ids)) OR sample <> pg_temp.common(sample, ids)
	OR sample <> pg_temp.common(sample, ARRAY(SELECT audience_sample(a, k + 5, n)))', 'a sample has its size, ids of the audience, ascending, and is part of a larger one');
CREATE FUNCTION pg_temp.whole(x numeric) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE WHEN m >= 9223372036854775808 THEN (m - 18446744073709551616)::bigint ELSE m::bigint END FROM (SELECT mod(mod(x, 18446744073709551616) + 18446744073709551616, 18446744073709551616) AS m) y $$;
CREATE FUNCTION pg_temp.shifted(x bigint, k int) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$SELECT (x >> k) & ((1::bigint << (64 - k)) - 1)$$;
CREATE FUNCTION pg_temp.m(x bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
	SELECT c # pg_temp.shifted(c, 31) FROM (SELECT pg_temp.whole((b # pg_temp.shifted(b, 27))::numeric * 10723151780598845931) AS c
	FROM (SELECT pg_temp.whole((a # pg_temp.shifted(a, 30))::numeric * 13787848793156543929) AS b
	FROM (SELECT pg_temp.whole(x::numeric + 11400714819323198485) AS a) q) r) t $$;
SELECT is(pg_temp.m(0), -2152535657050944081, 'm(0) is what the paper''s generator gives first');
SELECT is((SELECT array_agg(i) FROM audience_sample('{1-2000,9223372036854775807}', 20, -3) i),
	ARRAY(SELECT i FROM (SELECT i FROM (SELECT generate_series(1, 2000::bigint) AS i UNION SELECT 9223372036854775807) x
		ORDER BY pg_temp.m(i # pg_temp.m(-3)) # (-9223372036854775807 - 1) LIMIT 20) y ORDER BY i), 'a sample is the n smallest by the formula');
-- even: every tenth of the ids gets its share, 5 sigma
SELECT is_empty('SELECT tenth, n FROM (SELECT i / 100000 AS tenth, count(*) AS n FROM audience_sample(''{0-999999}'', 10000, 5) i GROUP BY 1) x WHERE abs(n - 1000) > 150', 'a sample is even');
SELECT * FROM finish();
ROLLBACK;
