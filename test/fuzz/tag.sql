-- The input of cdp.tagset, text and binary, under mutations: whatever comes, it is a set that prints and sends as it is read,
-- or an error of the reader's own.  Part of make fuzz (CDP_SEED=N CDP_FUZZ=N), or psql -v seed=N -v rounds=N -f
-- test/fuzz/tag.sql as a superuser on a database with the extension; prints TAP.  The bytes go through a file of the server in directory dir, best one in memory (the default is
-- /dev/shm where that exists).
\if :{?seed}
\else
\getenv seed CDP_SEED
\endif
\if :{?seed}
\else
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint % 1000000 AS seed \gset
\endif
\if :{?rounds}
\else
\set rounds 100000
\endif
\if :{?dir}
\else
SELECT CASE WHEN (pg_stat_file('/dev/shm', true)).isdir THEN '/dev/shm' ELSE current_setting('data_directory') END AS dir \gset
\endif
\echo # tag: seed :seed, :rounds texts and as many binary values
SELECT setseed((:seed % 1000000) / 1000000.0)::text = '' AS seeded \gset
SET search_path = pg_temp, public, cdp;
SET client_min_messages = warning;
CREATE FUNCTION pg_temp.pick(n int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1 + floor(random() * n)::int';
CREATE TABLE pg_temp.corpus AS SELECT row_number() OVER () AS i, t FROM unnest(ARRAY[
	'vip, region.华东.上海, aov=1280.5, churn_risk=0.83@2026-12-31', '"a ""b"" c"="d ""e"""@2026-12-31T08:30:00.123456+08:00, "夏季 促销"', 'd=2024-02-29, e=9999-12-31@9999-12-31T23:59:59.999999Z, f=0001-01-01@0001-01-01',
	'a=1e300, b=-5e-324, c=123456789012345, d=0, e=9.877089e19', 'a' || repeat('.b', 15) || ', ' || repeat('n', 255) || '=' || repeat('v', 255), '', 'a', (SELECT string_agg(format('t%s=%s@2026-01-01', i, i), ', ') FROM generate_series(1, 60) i)]) t;
CREATE FUNCTION pg_temp.fuzz_text(rounds int, OUT sound bigint, OUT refused bigint, OUT wrong text) LANGUAGE plpgsql AS $$
DECLARE
	corpus text[] := ARRAY(SELECT c.t FROM corpus c ORDER BY i);
	scraps text[] := ARRAY[',', '=', '@', '.', '.*', '*', '"', '""', ' ', '-', '+', '0', '9', 'e', 'Z', 'T', ':', '+08:00', '2026-02-29', '1e308', '999999999999999', 'now', '华', '，', '＝', '　', chr(8203), chr(1), chr(127), '\', '''', 'a', '(', '&'];
	t text;
	s tagset;
	k int;
BEGIN
	sound := 0; refused := 0;
	FOR i IN 1..rounds LOOP
		t := corpus[pg_temp.pick(cardinality(corpus))];
		FOR j IN 1..pg_temp.pick(4) LOOP
			k := pg_temp.pick(length(t) + 1);
			t := CASE pg_temp.pick(5)
				WHEN 1 THEN left(t, k - 1) || substr(t, k + 1)
				WHEN 2 THEN left(t, k - 1) || scraps[pg_temp.pick(cardinality(scraps))] || substr(t, k)
				WHEN 3 THEN left(t, k - 1) || scraps[pg_temp.pick(cardinality(scraps))] || substr(t, k + 1)
				WHEN 4 THEN left(t, k - 1) || substr(corpus[pg_temp.pick(cardinality(corpus))], pg_temp.pick(40))
				ELSE left(t, k) || substr(t, pg_temp.pick(length(t) + 1)) END;
		END LOOP;
		BEGIN
			s := t;
		EXCEPTION
			WHEN invalid_text_representation OR numeric_value_out_of_range OR program_limit_exceeded THEN
				refused := refused + 1;
				CONTINUE;
			WHEN OTHERS THEN
				wrong := format('%s: %s %s', t, sqlstate, sqlerrm);
				RETURN;
		END;
		-- what was read may not be refused again
		sound := sound + 1;
		BEGIN
			IF s::text::tagset <> s OR s::text::tagset::text <> s::text OR s::jsonb::tagset <> s THEN
				wrong := format('%s is %s', t, s);
			END IF;
		EXCEPTION WHEN OTHERS THEN
			wrong := format('%s is read, but then: %s %s', t, sqlstate, sqlerrm);
		END;
		EXIT WHEN wrong IS NOT NULL;
	END LOOP;
END $$;
-- COPY writes a bytea as its bytes, so that a column of the type reads them
CREATE TABLE pg_temp.received (s tagset);
CREATE FUNCTION pg_temp.fuzz_binary(rounds int, file text, OUT sound bigint, OUT refused bigint, OUT wrong text) LANGUAGE plpgsql AS $$
DECLARE
	corpus bytea[] := ARRAY(SELECT _tagset_send(c.t::tagset) FROM corpus c ORDER BY i);
	scraps bytea[] := ARRAY['\x00', '\x01', '\x04', '\x07', '\x2e', '\x2a', '\xff', '\x7f', '\x80', '\xe5', '\x00000000', '\x00000001', '\x000000ff', '\x00000100', '\x7fffffff', '\x80000000', '\xffffffff', '\x00001000', '\x00001001', '\x7ff0000000000000', '\x8000000000000000', '\x7fffffffffffffff']::bytea[];
	b bytea;
	s tagset;
	k int;
	n int;
BEGIN
	sound := 0; refused := 0;
	FOR i IN 1..rounds LOOP
		b := corpus[pg_temp.pick(cardinality(corpus))];
		FOR j IN 1..pg_temp.pick(3) LOOP
			k := pg_temp.pick(length(b) + 1);
			n := pg_temp.pick(cardinality(scraps));
			b := CASE pg_temp.pick(6)
				WHEN 1 THEN substr(b, 1, k - 1) || substr(b, k + 1)
				WHEN 2 THEN substr(b, 1, k - 1) || scraps[n] || substr(b, k)
				WHEN 3 THEN substr(b, 1, k - 1) || scraps[n] || substr(b, k + length(scraps[n]))
				WHEN 4 THEN substr(b, 1, k - 1) || substr(corpus[pg_temp.pick(cardinality(corpus))], pg_temp.pick(40))
				WHEN 5 THEN substr(b, 1, k - 1)
				ELSE substr(b, 1, k - 1) || set_byte('\x00', 0, pg_temp.pick(256) - 1) || substr(b, k + 1) END;
		END LOOP;
		BEGIN
			EXECUTE format('COPY (SELECT %L::bytea) TO %L (FORMAT binary)', b, file);
			EXECUTE format('COPY received FROM %L (FORMAT binary)', file);
			DELETE FROM received RETURNING received.s INTO s;
		EXCEPTION
			WHEN invalid_binary_representation THEN
				refused := refused + 1;
				CONTINUE;
			WHEN OTHERS THEN
				wrong := format('%s: %s %s', b, sqlstate, sqlerrm);
				RETURN;
		END;
		sound := sound + 1;
		BEGIN
			IF s::text::tagset <> s OR s::jsonb::tagset <> s OR length(_tagset_send(s)) <> length(b) THEN
				wrong := format('%s is %s', b, s);
			END IF;
		EXCEPTION WHEN OTHERS THEN
			wrong := format('%s is read, but then: %s %s', b, sqlstate, sqlerrm);
		END;
		EXIT WHEN wrong IS NOT NULL;
		IF sound % 1000 = 0 THEN TRUNCATE received; END IF;
	END LOOP;
END $$;
\echo 1..2
SELECT CASE WHEN wrong IS NULL AND sound > 0 AND refused > 0 THEN 'ok' ELSE 'not ok' END || format(' 1 - cdp.tagset under mutated texts: %s read, %s refused', sound, refused) || coalesce(E'\n# ' || wrong, '') FROM pg_temp.fuzz_text(:rounds);
SELECT CASE WHEN wrong IS NULL AND sound > 0 AND refused > 0 THEN 'ok' ELSE 'not ok' END || format(' 2 - cdp.tagset under mutated bytes: %s read, %s refused', sound, refused) || coalesce(E'\n# ' || wrong, '')
	FROM pg_temp.fuzz_binary(:rounds, format('%s/tag_fuzz.%s', :'dir', pg_backend_pid()));
-- nothing but a program can remove a file of the server
SELECT format('COPY (SELECT 1) TO PROGRAM %L', format('rm -f %s/tag_fuzz.%s', :'dir', pg_backend_pid())) \gexec
