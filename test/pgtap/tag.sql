-- cdp.tagset against plain SQL over a table of facts, over random data: forms, algebra, answers, keys, order.
-- Another run takes other values: psql -v seed=NUMBER -f test/pgtap/tag.sql, or CDP_SEED=NUMBER.
BEGIN;
\getenv seed CDP_SEED
\if :{?seed}
\else
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 1000000 AS seed \gset
\endif
SELECT plan(35);
SELECT diag('tag: seed ' || :'seed' || ' (CDP_SEED chooses another)');
SELECT setseed((:seed % 1000000) / 1000000.0) IS NULL AS x \gset
SET LOCAL search_path = public, cdp;
SET LOCAL TimeZone = 'Asia/Shanghai';
SET LOCAL DateStyle = 'German';

-- names and texts with everything that needs care
CREATE FUNCTION pg_temp.pick(what text[]) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT what[1 + floor(random() * cardinality(what))::int]';
CREATE FUNCTION pg_temp.word() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT pg_temp.pick('{a,b,c,vip,region,华东,上海,金卡,A,a-b,a/b,a:b,a_b,0,12,"a b","a\"b","a=b","a,b","a@b","（促销）","*x","x*","\u00A0","\u3000",👨‍👩‍👧,now,now-30d,é,~,"\t",longer-than-eight-bytes,longer-than-eight,"(","&"}')
$$;
CREATE FUNCTION pg_temp.name() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT pg_temp.word() || CASE WHEN random() < 0.5 THEN '' ELSE '.' || pg_temp.word() || CASE WHEN random() < 0.5 THEN '' ELSE '.' || pg_temp.word() END END
$$;
CREATE FUNCTION pg_temp.number() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT CASE WHEN random() < 0.3 THEN '-' ELSE '' END || CASE WHEN random() < 0.3 THEN '0' ELSE (1 + floor(random() * 10 ^ floor(random() * 8)))::bigint::text END
		|| CASE WHEN random() < 0.5 THEN '' ELSE '.' || lpad(floor(random() * 1e7)::bigint::text, 7, '0') END
		|| CASE WHEN random() < 0.8 THEN '' ELSE pg_temp.pick('{e3,E+20,e-7,e290,e-290,e-320}') END
$$;
CREATE FUNCTION pg_temp.text() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT CASE WHEN random() < 0.2 THEN pg_temp.number() WHEN random() < 0.1 THEN '' WHEN random() < 0.2 THEN pg_temp.pick('{2026-01-01,1.2.3,.5,-,0815,1e5,+1,now,now+2w,"a.b.*"}')
		ELSE pg_temp.word() || pg_temp.pick('{""," ",.,+}') || pg_temp.word() END
$$;
CREATE FUNCTION pg_temp.quoted(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT '"' || replace(t, '"', '""') || '"'$$;

-- facts: what the sets say, one row per entry, as written; the later row of a name wins
CREATE TEMP TABLE written AS
SELECT id, ord, pg_temp.name() AS tag, k.kind, CASE k.kind WHEN 'number' THEN pg_temp.number() WHEN 'text' THEN pg_temp.text()
		WHEN 'date' THEN to_char(date '0001-01-01' + floor(random() ^ 0.2 * 3652058)::int, 'YYYY-MM-DD') END AS value,
	CASE WHEN random() < 0.7 THEN NULL WHEN random() < 0.5 THEN timestamptz '2026-01-01Z' + floor(random() * 3) * interval '1 day'
		ELSE timestamptz '2026-01-01Z' + floor(random() * 1e12) * interval '1 microsecond' END AS valid_until
FROM generate_series(1, 1500) id, generate_series(1, floor(random() ^ 3 * 30 + id * 0)::int) ord,
	LATERAL (SELECT CASE WHEN ord > 0 THEN pg_temp.pick('{none,number,date,text}') END AS kind) k;
-- a few large ones
INSERT INTO written SELECT 2000 + id, ord, CASE WHEN random() < 0.3 THEN 'same' ELSE 'tag' || floor(random() * 1500) END || CASE WHEN random() < 0.3 THEN '.x' ELSE '' END,
	'number', (ord % 100)::text, NULL FROM generate_series(1, 5) id, generate_series(1, 3000) ord;
CREATE TEMP TABLE fact AS SELECT DISTINCT ON (id, tag) id, tag, kind,
	CASE WHEN kind = 'number' THEN CASE WHEN value::float8 = 0 THEN '0' ELSE value::float8::text END ELSE value END AS value, valid_until
	FROM written ORDER BY id, tag, ord DESC;
CREATE INDEX ON fact (id, tag);
ANALYZE fact;
CREATE TEMP TABLE s AS
SELECT i.id, coalesce(w.t, '') AS written, coalesce(w.t, '')::tagset AS tags FROM (SELECT generate_series(1, 1500) AS id UNION ALL SELECT generate_series(2001, 2005)) i
LEFT JOIN (SELECT id, string_agg(pg_temp.quoted(tag) || CASE kind WHEN 'none' THEN '' WHEN 'text' THEN '=' || pg_temp.quoted(value) ELSE ' = ' || value END
	|| coalesce(' @' || to_char(valid_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), ''), ',' ORDER BY ord) AS t FROM written GROUP BY id) w USING (id);
ANALYZE s;
SELECT ok((SELECT count(*) > 5000 FROM fact) AND (SELECT count(DISTINCT kind) = 4 FROM fact), 'there is something to compare');

-- forms
-- float8 prints some numbers of 15 digits with 16: those that lie between two doubles
CREATE TEMP VIEW entry AS SELECT s.id, tag, CASE value_type WHEN 'number' THEN value::float8::text ELSE value END AS value, value_type, valid_until, value AS text FROM s, tagset_entries(tags);
SELECT bag_eq('SELECT id, tag, value, value_type, valid_until FROM entry', 'SELECT id, tag, value, kind, valid_until FROM fact', 'the entries of a set are what was written');
SELECT is_empty($$SELECT id, text FROM entry WHERE value_type = 'number' AND length(btrim(replace(regexp_replace(text, 'e.*|-', '', 'g'), '.', ''), '0')) > 15$$, 'no number is told with more than 15 digits');
SELECT is_empty($$SELECT id, tags FROM s WHERE tags::text::tagset <> tags OR tags::text::tagset::text <> tags::text$$, 'text: printed, read and printed again it is the same');
SELECT is_empty($$SELECT id FROM s WHERE (SELECT array_agg(tag ORDER BY ordinality) FROM tagset_entries(tags) WITH ORDINALITY) <> (SELECT array_agg(tag ORDER BY tag COLLATE "C") FROM fact f WHERE f.id = s.id)$$,
	'entries stand in the order of their bytes');
SELECT is_empty($$SELECT id, tags FROM s, regexp_matches(tags::text, '"([A-Za-z0-9_/:.-]*[A-Za-z_/:-][A-Za-z0-9_/:.-]*)"(?!")', 'g') m WHERE m[1] !~ '^now|^[0-9+.-][0-9eE+.-]*$|^[=@,.]' AND tags::text !~ '""'$$, 'text: no quotes that are not needed');
SELECT is_empty($$SELECT id, tags FROM s WHERE tags::jsonb::tagset <> tags OR tags::jsonb::text::jsonb::tagset <> tags OR tagset_from_jsonb(tagset_to_jsonb(tags)) <> tags$$, 'jsonb and back is the same');
SELECT is_empty($$SELECT s.id, key FROM s, jsonb_each(tags::jsonb) j LEFT JOIN LATERAL (SELECT * FROM fact f WHERE f.id = s.id AND f.tag = j.key) f ON true
	WHERE tag IS NULL OR (kind = 'number' AND jsonb_typeof(j.value -> 'value') <> 'number') OR (kind IN ('text', 'date') AND j.value ->> 'value' <> f.value) OR (kind = 'date') <> coalesce(j.value ->> 'type' = 'date', false)$$,
	'jsonb says what the facts say');
SELECT current_setting('data_directory') || '/tag_property.copy' AS file \gset
COPY s TO :'file' (FORMAT binary);
CREATE TEMP TABLE s2 (LIKE s);
COPY s2 FROM :'file' (FORMAT binary);
SELECT is_empty('SELECT id FROM s FULL JOIN s2 USING (id) WHERE s.tags IS DISTINCT FROM s2.tags', 'COPY BINARY: out and in is the same');
CREATE TEMP TABLE chinese AS SELECT id, tags FROM s WHERE tags::text !~ '[👨\u00A0]';
CREATE TEMP TABLE chinese2 (LIKE chinese);
SET LOCAL client_encoding = 'GBK';
COPY chinese TO :'file' (FORMAT binary);
COPY chinese2 FROM :'file' (FORMAT binary);
SET LOCAL client_encoding = 'UTF8';
SELECT is_empty('SELECT id FROM chinese FULL JOIN chinese2 USING (id) WHERE chinese.tags IS DISTINCT FROM chinese2.tags', '… also in another client_encoding');

-- answers
SELECT is_empty($$SELECT id, tag FROM s JOIN fact f USING (id) WHERE CASE kind WHEN 'number' THEN tag_value(tags, tag)::float8::text ELSE tag_value(tags, tag) END IS DISTINCT FROM value OR tag_valid_until(tags, tag) IS DISTINCT FROM valid_until
	OR tag_number(tags, tag) IS DISTINCT FROM CASE kind WHEN 'number' THEN value::float8 END OR tag_date(tags, tag) IS DISTINCT FROM CASE kind WHEN 'date' THEN to_date(value, 'YYYY-MM-DD') END$$,
	'each getter finds each tag');
SELECT is_empty($$SELECT s.id, n FROM s, LATERAL (SELECT DISTINCT tag || x AS n FROM fact f, unnest('{x,.x,"",-}'::text[]) x WHERE f.id = s.id % 7 + 1) n
	WHERE NOT EXISTS (SELECT FROM fact f WHERE f.id = s.id AND f.tag = n) AND (tag_value(tags, n) IS NOT NULL OR tag_valid_until(tags, n) IS NOT NULL OR tags - ARRAY[n] <> tags)$$, 'and no tag that is not there');
SELECT is_empty($$SELECT id, names FROM (SELECT id, array_agg(tag ORDER BY random()) AS names FROM fact GROUP BY id) n WHERE tagset(names) <> (SELECT tagset(array_agg(e.tag)) FROM s, tagset_entries(tags) e WHERE s.id = n.id)$$, 'tagset(names)');

-- order and hash
SELECT results_eq('SELECT id FROM s ORDER BY tags, id', $$SELECT s.id FROM s LEFT JOIN (SELECT id, array_agg(ROW(convert_to(tag, 'UTF8'), array_position('{none,number,date,text}', kind),
		CASE kind WHEN 'number' THEN value::float8 END, CASE kind WHEN 'date' THEN to_date(value, 'YYYY-MM-DD') END, CASE kind WHEN 'text' THEN convert_to(value, 'UTF8') END,
		coalesce(valid_until, 'infinity')) ORDER BY tag COLLATE "C") AS a FROM fact GROUP BY id) f USING (id) ORDER BY coalesce(a, '{}'), id$$, 'the btree order is that of the entries');
SELECT is_empty($$SELECT a.id, b.id FROM s a JOIN s b ON a.id < 60 AND b.id < 60 WHERE (a.tags < b.tags)::int + (a.tags = b.tags)::int + (a.tags > b.tags)::int <> 1
	OR (a.tags <= b.tags) = (a.tags > b.tags) OR (a.tags >= b.tags) = (a.tags < b.tags) OR (a.tags <> b.tags) = (a.tags = b.tags) OR (a.tags = b.tags) <> (a.tags::text = b.tags::text)$$, 'one of <, =, > holds');
SELECT is((SELECT count(*) FROM (SELECT tags FROM s GROUP BY tags) x), (SELECT count(DISTINCT tags::text) FROM s), 'groups by value are groups by text');
SELECT is((SELECT count(*) FROM s a JOIN s b USING (tags)), (SELECT count(*) FROM s a JOIN s b ON a.tags::text = b.tags::text), 'joins by value are joins by text');

-- algebra: pairs of neighbours
CREATE TEMP TABLE pair AS SELECT a.id AS a_id, b.id AS b_id, a.tags AS a, b.tags AS b, c.tags AS c FROM s a JOIN s b ON b.id = a.id + 1 JOIN s c ON c.id = a.id + 2;
SELECT is_empty('SELECT a_id FROM pair WHERE a + a <> a OR a + '''' <> a OR ''''::tagset + a <> a', '+ is idempotent; the empty set is neutral');
SELECT is_empty('SELECT a_id FROM pair WHERE (a + b) + c <> a + (b + c)', '+ is associative');
SELECT is_empty('SELECT a_id FROM pair WHERE (a + b) + b <> a + b OR a + (a + b) <> a + b', '+ absorbs');
SELECT bag_eq('SELECT a_id, tag, CASE value_type WHEN ''number'' THEN value::float8::text ELSE value END, value_type, valid_until FROM pair, tagset_entries(a + b)', $$SELECT a_id, tag, value, kind, valid_until FROM pair JOIN fact ON id = b_id
	UNION ALL SELECT a_id, tag, value, kind, valid_until FROM pair JOIN fact f ON id = a_id WHERE NOT EXISTS (SELECT FROM fact g WHERE g.id = b_id AND g.tag = f.tag)$$, 'a + b is the union where the right side wins');
CREATE TEMP TABLE cut AS SELECT s.id, tags, (SELECT array_agg(pg_temp.pick('{"","","",.*}') ORDER BY random()) FROM generate_series(1, 3) WHERE s.id > 0) AS tail,
	(SELECT array_agg(t) FROM (SELECT regexp_replace(tag, CASE WHEN random() < 0.5 THEN '\.[^.]*$' ELSE '\.x$' END, '') AS t FROM fact f WHERE f.id IN (s.id, s.id + 1) ORDER BY random() LIMIT 3) x) AS base FROM s;
DELETE FROM cut WHERE base IS NULL;
ALTER TABLE cut ADD names text[];
UPDATE cut SET names = (SELECT array_agg(base[i] || tail[i]) FROM generate_subscripts(base, 1) i);
SELECT bag_eq('SELECT id, tag, CASE value_type WHEN ''number'' THEN value::float8::text ELSE value END, value_type, valid_until FROM cut, tagset_entries(tags - names)', $$SELECT id, tag, value, kind, valid_until FROM cut JOIN fact f USING (id)
	WHERE NOT EXISTS (SELECT FROM unnest(names) n WHERE f.tag = n OR n LIKE '%.*' AND (f.tag = left(n, -2) OR starts_with(f.tag, left(n, -1))))$$, 'tags - names leaves what no name and no name.* stands for');
SELECT ok((SELECT count(*) > 100 FROM cut WHERE tags - names <> tags AND names::text LIKE '%.*%'), '… and there was something below');
SELECT is_empty($$SELECT id FROM s WHERE tags - ARRAY(SELECT tag FROM tagset_entries(tags)) <> ''$$, 'tags - their names is the empty set');

-- the aggregate is the fold
CREATE FUNCTION pg_temp.fold(sets tagset[]) RETURNS tagset LANGUAGE plpgsql AS $$
DECLARE t tagset := ''; x tagset;
BEGIN FOREACH x IN ARRAY sets LOOP t := t + x; END LOOP; RETURN t; END $$;
SELECT is_empty('SELECT g FROM (SELECT id % 50 AS g, tagset_union(tags ORDER BY id) AS u, array_agg(tags ORDER BY id) AS sets, tagset_union(tags ORDER BY -id) AS v, array_agg(tags ORDER BY -id) AS back FROM s WHERE id <= 1500 GROUP BY 1) x
	WHERE u <> pg_temp.fold(sets) OR v <> pg_temp.fold(back)', 'tagset_union is the fold of +, in the order that is asked for');
SELECT is((SELECT tagset_union(tags ORDER BY id) FROM s WHERE id > 1500 AND id < 2002), (SELECT pg_temp.fold(array_agg(tags ORDER BY id)) FROM s WHERE id > 1500 AND id < 2002), '… and of large sets');
SELECT is_empty($$SELECT id FROM (SELECT id, tags, tagset_union(part) OVER w AS u, pg_temp.fold(array_agg(part) OVER w) AS f FROM (SELECT id, tags, tags - ARRAY(SELECT tag FROM tagset_entries(tags) WHERE random() < 0.5) AS part FROM s WHERE id < 300) p
	WINDOW w AS (ORDER BY id ROWS BETWEEN 5 PRECEDING AND CURRENT ROW)) x WHERE u <> f$$, '… and as a window function');
CREATE TABLE tag_many AS SELECT i % 200 AS g, tagset(ARRAY['t' || i % 997, 'u.' || i % 31]) AS tags FROM generate_series(1, 60000) i;
ALTER TABLE tag_many SET (parallel_workers = 2);
ANALYZE tag_many;
SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0;
CREATE FUNCTION pg_temp.plan_of(q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE t text := ''; l text;
BEGIN FOR l IN EXECUTE 'EXPLAIN (COSTS OFF) ' || q LOOP t := t || l || E'\n'; END LOOP; RETURN t; END $$;
SELECT matches(pg_temp.plan_of('SELECT g, cdp.tagset_union(tags) FROM tag_many GROUP BY 1'), 'Finalize.*Gather.*Partial', 'the plan is parallel');
SELECT is_empty('SELECT g FROM (SELECT g, tagset_union(tags) AS u FROM tag_many GROUP BY g) x WHERE u <> (SELECT tagset(array_agg(DISTINCT tag)) FROM tag_many m, tagset_entries(m.tags) WHERE m.g = x.g AND m.g < 20) AND g < 20', '… and says the same');
SELECT is((SELECT tagset_union(tags) FROM tag_many), (SELECT tagset(array_agg(DISTINCT tag)) FROM tag_many m, tagset_entries(m.tags)), '… also without groups');

-- time and change
CREATE TEMP TABLE moment AS SELECT s.id, tags, at FROM s JOIN LATERAL (SELECT valid_until + floor(random() * 3 - 1) * interval '1 microsecond' AS at FROM fact f WHERE f.id = s.id AND valid_until IS NOT NULL ORDER BY random() LIMIT 2) m ON true;
SELECT bag_eq('SELECT id, at, tag, CASE value_type WHEN ''number'' THEN value::float8::text ELSE value END, value_type, valid_until FROM moment, tagset_entries(tagset_prune(tags, at))', $$SELECT id, at, tag, value, kind, valid_until FROM moment JOIN fact USING (id) WHERE valid_until IS NULL OR at < valid_until$$,
	'tagset_prune leaves what is valid at < valid_until');
CREATE TEMP TABLE changed AS SELECT id, tags AS old, (tags - ARRAY(SELECT tag FROM tagset_entries(tags) WHERE random() < 0.3 ORDER BY random() LIMIT 3)) + (SELECT b.tags - ARRAY(SELECT tag FROM tagset_entries(b.tags) WHERE random() < 0.5) FROM s b WHERE b.id = s.id % 1500 + 1) AS new FROM s;
SELECT bag_eq('SELECT id, d.* FROM changed, tagset_diff(old, new) d', $$SELECT c.id, coalesce(o.tag, n.tag), CASE WHEN o.tag IS NULL THEN 'added' WHEN n.tag IS NULL THEN 'removed' ELSE 'changed' END
	FROM (SELECT id, e.* FROM changed, tagset_entries(old) e) o FULL JOIN (SELECT id, e.* FROM changed, tagset_entries(new) e) n USING (id, tag) JOIN changed c USING (id)
	WHERE (o.tag IS NULL) OR (n.tag IS NULL) OR (o.value, o.value_type, o.valid_until) IS DISTINCT FROM (n.value, n.value_type, n.valid_until)$$, 'tagset_diff is the full join');
SELECT is_empty('SELECT id, d.* FROM s, tagset_diff(tags, tags) d', 'nothing differs from itself');

-- keys
SELECT bag_eq('SELECT id, k.* FROM s, _tagset_keys(tags) k', $$WITH k AS (
	SELECT id, '\x6e'::bytea || convert_to(tag, 'UTF8') AS key, valid_until FROM fact
	UNION ALL SELECT id, '\x70' || convert_to(array_to_string(l[1:n], '.'), 'UTF8'), valid_until FROM fact, string_to_array(tag, '.') l, generate_series(1, cardinality(l)) n
	UNION ALL SELECT id, '\x76' || convert_to(tag, 'UTF8') || '\x00' || convert_to(value, 'UTF8'), valid_until FROM fact WHERE kind = 'text')
	SELECT id, key, nullif(max(coalesce(valid_until, 'infinity')), 'infinity') FROM k GROUP BY 1, 2$$, 'keys are names, ancestors and text values, each once, for as long as one of its entries holds');
SELECT is_empty('SELECT id FROM (SELECT id, array_agg(key ORDER BY ordinality) AS a, array_agg(key ORDER BY key) AS b FROM s, _tagset_keys(tags) WITH ORDINALITY GROUP BY 1) x WHERE a <> b', 'keys are sorted by bytes');
SELECT * FROM finish();
ROLLBACK;
