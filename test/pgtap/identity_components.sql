-- Components and clusters of random graphs against searches in SQL.  Another run takes other graphs; to repeat one:
-- psql -v seed=NUMBER -f test/pgtap/identity_components.sql
\if :{?seed}
\else
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 1000000 AS seed \gset
\endif
BEGIN;
SELECT plan(13);
SELECT diag('identity_components: seed ' || :seed);
SELECT setseed(:seed / 1000000.0)::text = '' AS seeded \gset

-- sixty graphs of different size and density, with loops, repeats, missing sides, ids of every size
CREATE TEMP TABLE edge AS
SELECT g, CASE WHEN random() < 0.02 THEN NULL ELSE scale * floor(random() * nodes)::bigint - nodes / 2 END AS a,
	CASE WHEN random() < 0.02 THEN NULL ELSE scale * floor(random() * nodes)::bigint - nodes / 2 END AS b
FROM (SELECT g, (2 + random() * 60)::int AS nodes, (1 + random() * 80)::int AS edges, (ARRAY[1, 3, 1024, 1::bigint << 32, -(1::bigint << 55)])[1 + g % 5] AS scale
	FROM generate_series(1, 60) g) s, LATERAL generate_series(1, edges);
-- the smallest node that can be reached, by spreading labels until nothing changes
CREATE FUNCTION pg_temp.spread(graph int) RETURNS TABLE (node bigint, component bigint) LANGUAGE plpgsql AS $$
DECLARE
	changed bigint;
BEGIN
	CREATE TEMP TABLE label ON COMMIT DROP AS
		SELECT DISTINCT n AS node, n AS component FROM edge, LATERAL (VALUES (a), (b)) v(n) WHERE g = graph AND n IS NOT NULL;
	LOOP
		UPDATE label l SET component = m.least FROM (
			SELECT x.node, min(y.component) AS least FROM edge e JOIN label x ON x.node IN (e.a, e.b) JOIN label y ON y.node IN (e.a, e.b) WHERE e.g = graph GROUP BY x.node) m
		WHERE m.node = l.node AND m.least < l.component;
		GET DIAGNOSTICS changed = ROW_COUNT;
		EXIT WHEN changed = 0;
	END LOOP;
	RETURN QUERY TABLE label;
	DROP TABLE label;
END $$;
CREATE TEMP TABLE got AS
	SELECT g, c.* FROM generate_series(1, 60) g, cdp.connected_components(format('SELECT a, b FROM edge WHERE g = %s', g)) c;
CREATE TEMP TABLE want AS SELECT g, s.* FROM generate_series(1, 60) g, pg_temp.spread(g) s;
SELECT is((SELECT count(*) FROM got), (SELECT count(*) FROM want), 'every node comes back once');
SELECT is_empty('(TABLE got EXCEPT TABLE want) UNION ALL (TABLE want EXCEPT TABLE got)', 'components are those that labels spread to');
SELECT is_empty('SELECT * FROM (SELECT g, c.* FROM generate_series(1, 60) g, cdp.connected_components(format(''SELECT b, a FROM edge WHERE g = %s ORDER BY random()'', g)) c) x EXCEPT TABLE got',
	'the order and the direction of the edges do not matter');
SELECT is_empty('SELECT * FROM got WHERE component > node', 'a component is named by its smallest node');
-- one graph over all, with growth of the tables inside
SELECT is((SELECT count(DISTINCT component) FROM cdp.connected_components('SELECT (i * 7919) % 200003, ((i * 7919) % 200003) / 2 FROM generate_series(0, 200002::bigint) i')), 1::bigint, 'a tree of 200,003 nodes is one component');
SELECT is((SELECT count(*) FROM cdp.connected_components('SELECT i, i FROM generate_series(1, 300000::bigint) i') WHERE node <> component), 0::bigint, '300,000 loops are 300,000 components');

-- scored pairs: groups of likely pairs, noise between them, some given twice with another probability
CREATE TEMP TABLE pair AS
SELECT g, l, r, round(CASE WHEN l / size = r / size THEN least(1, 0.6 + random() * 0.45) WHEN random() < 0.3 THEN random() ELSE random() * 0.2 END::numeric, 2)::float8 AS p
FROM (SELECT g, 3 + g % 5 AS size, (10 + random() * 30)::int AS nodes FROM generate_series(1, 60) g) s,
	LATERAL (SELECT floor(random() * nodes)::int AS l, floor(random() * nodes)::int AS r FROM generate_series(1, nodes * 4)) e;
CREATE TEMP TABLE setting AS
SELECT g, (ARRAY[0.9, 0.8, 0.95])[1 + g % 3] AS threshold, (ARRAY[0.05, 0.1, 0, 0.3])[1 + g % 4] AS reject, (ARRAY[0.5, 0, 0.3, 1, 0.75])[1 + g % 5] AS density FROM generate_series(1, 60) g;
-- one row per pair of two nodes
CREATE TEMP TABLE once AS SELECT g, least(l, r)::bigint AS l, greatest(l, r)::bigint AS r, min(p) AS p FROM pair WHERE l <> r GROUP BY 1, 2, 3;
-- the rule by the book: sets in an array, every merge judged by counting
CREATE FUNCTION pg_temp.cluster(graph int, threshold float8, reject float8, density float8) RETURNS TABLE (node bigint, component bigint) LANGUAGE plpgsql AS $$
DECLARE
	e record; x bigint; y bigint; size float8;
BEGIN
	CREATE TEMP TABLE label ON COMMIT DROP AS
		SELECT DISTINCT n::bigint AS node, n::bigint AS component FROM pair, LATERAL (VALUES (l), (r)) v(n) WHERE g = graph;
	FOR e IN SELECT * FROM once WHERE g = graph AND p >= threshold ORDER BY p DESC, l, r LOOP
		SELECT label.component INTO x FROM label WHERE label.node = e.l;
		SELECT label.component INTO y FROM label WHERE label.node = e.r;
		CONTINUE WHEN x = y;
		CONTINUE WHEN EXISTS (SELECT FROM once o JOIN label a ON a.node = o.l JOIN label b ON b.node = o.r
			WHERE o.g = graph AND o.p < reject AND a.component IN (x, y) AND b.component IN (x, y));
		SELECT count(*) INTO size FROM label WHERE label.component IN (x, y);
		CONTINUE WHEN (SELECT count(*) FROM once o JOIN label a ON a.node = o.l JOIN label b ON b.node = o.r
			WHERE o.g = graph AND o.p >= threshold AND a.component IN (x, y) AND b.component IN (x, y)) / (size * (size - 1) / 2) < density;
		UPDATE label SET component = least(x, y) WHERE label.component IN (x, y);
	END LOOP;
	RETURN QUERY TABLE label;
	DROP TABLE label;
END $$;
CREATE TEMP TABLE cluster AS
	SELECT g, c.* FROM setting, cdp.cluster_pairs(format('SELECT l, r, p FROM pair WHERE g = %s', g), threshold, reject, density) c;
SELECT is_empty('(SELECT s.g, c.* FROM setting s, pg_temp.cluster(s.g, s.threshold, s.reject, s.density) c EXCEPT TABLE cluster)
	UNION ALL (TABLE cluster EXCEPT SELECT s.g, c.* FROM setting s, pg_temp.cluster(s.g, s.threshold, s.reject, s.density) c)', 'clusters are those of the rule by the book');
SELECT is((SELECT count(*) FROM cluster), (SELECT count(*) FROM (SELECT DISTINCT g, n FROM pair, LATERAL (VALUES (l), (r)) v(n)) x), 'every node comes back once');
SELECT is_empty('SELECT * FROM once JOIN setting USING (g) JOIN cluster a USING (g) JOIN cluster b USING (g, component)
	WHERE a.node = l AND b.node = r AND p < reject', 'no cluster holds a rejected pair');
SELECT is_empty('SELECT g, component, size, support FROM (
		SELECT c.g, c.component, count(*) AS size, (SELECT count(*) FROM once o JOIN cluster a ON a.g = o.g AND a.node = l JOIN cluster b ON b.g = o.g AND b.node = r
			WHERE o.g = c.g AND a.component = c.component AND b.component = c.component AND p >= (SELECT threshold FROM setting s WHERE s.g = c.g)) AS support
		FROM cluster c GROUP BY 1, 2 HAVING count(*) > 1) x JOIN setting USING (g)
	WHERE support / (size * (size - 1) / 2.0) < density', 'no cluster falls below its density');
SELECT is_empty('SELECT * FROM (SELECT g, c.* FROM setting, cdp.cluster_pairs(format(''SELECT r::bigint, l::smallint, p FROM pair WHERE g = %s ORDER BY random()'', g), threshold, reject, density) c) x EXCEPT TABLE cluster',
	'the order of the rows and the direction of the pairs do not matter');
SELECT is_empty('SELECT * FROM (SELECT g, c.* FROM setting, cdp.cluster_pairs(format(''SELECT l, r, p FROM pair WHERE g = %s'', g), threshold, 0, 0) c) x
	EXCEPT SELECT g, c.* FROM setting, cdp.connected_components(format(''SELECT CASE WHEN p >= %s THEN l END::bigint, r FROM once WHERE g = %s UNION ALL SELECT l, NULL FROM pair WHERE g = %s UNION ALL SELECT NULL, r FROM pair WHERE g = %s'', threshold, g, g, g)) c',
	'without guards clusters are components');
SELECT ok((SELECT count(DISTINCT (g, component)) FROM cluster) < (SELECT count(*) FROM cluster) - 100, 'there was something to merge');
SELECT * FROM finish();
ROLLBACK;
