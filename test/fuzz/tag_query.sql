-- The parser of cdp.tagquery under mutated texts: whatever comes, it is a query that prints as it is read, or an error of
-- the parser's own.  Part of make fuzz (CDP_SEED=N CDP_FUZZ=N), or psql -v seed=N -v rounds=N -f test/fuzz/tag_query.sql on
-- a database with the extension; prints TAP.
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
\echo # tag_query: seed :seed, :rounds texts
SELECT setseed((:seed % 1000000) / 1000000.0)::text = '' AS seeded \gset
SET search_path = pg_temp, public, cdp;
CREATE FUNCTION pg_temp.pick(n int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1 + floor(random() * n)::int';
CREATE FUNCTION pg_temp.fuzz(rounds int, OUT sound bigint, OUT refused bigint, OUT wrong text) LANGUAGE plpgsql AS $$
DECLARE
	corpus text[] := ARRAY['region.华东.* & (aov > 1000 | 高价值) & !churned', 'a in (1, "x""y", 2026-01-31, now-30d, gold) | !b', 'segment("big spenders") & *', '!(a & !(b | "c.d e".*)) & d >= now-12h',
		'in in (in) | now = now | segment', 'a = 1e-7 & b != -0.5 & c < 9999-12-31', '((a | b) & (c | d)) & x_1-2/3:4 = v1.2+3', '（a）＆b', 'a' || repeat(' & a', 300), repeat('(', 200) || 'a' || repeat(')', 200), repeat('!', 200) || 'a', 'a = ' || repeat('n', 250)];
	scraps text[] := ARRAY['(', ')', '&', '|', '!', '*', '.', '.*', ',', '"', '""', ' ', '=', '!=', '<', '<=', '>', ' in (', 'in', 'now', 'now-1mo', 'now+', 'segment(', '1', '-', '0.5', 'e9', '2026-02-29', '华', '（', '｜', '　', chr(8203), chr(1), chr(127), '\', '''', 'a', 'a.b', '@', '!!!!', '((((', '))))'];
	t text;
	q cdp.tagquery;
	complement cdp.tagquery;
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
			q := t;
		EXCEPTION
			WHEN invalid_text_representation OR numeric_value_out_of_range OR program_limit_exceeded OR statement_too_complex THEN
				refused := refused + 1;
				CONTINUE;
			WHEN OTHERS THEN
				wrong := format('%s: %s %s', t, sqlstate, sqlerrm);
				RETURN;
		END;
		-- what was read may not be refused again
		sound := sound + 1;
		BEGIN
			IF q::text::cdp.tagquery <> q OR q::text::cdp.tagquery::text <> q::text THEN
				wrong := format('%s is %s', t, q);
			END IF;
			BEGIN
				complement := ! q;
			EXCEPTION WHEN statement_too_complex OR program_limit_exceeded THEN
				-- one level or term more than there may be
				CONTINUE;
			END;
			IF complement = q OR complement::text::cdp.tagquery <> complement THEN
				wrong := format('the complement of %s is %s', q, complement);
			ELSIF cdp.tagset_matches('a, 高价值, b@2026-06-01', complement, '2026-03-01Z') = cdp.tagset_matches('a, 高价值, b@2026-06-01', q, '2026-03-01Z') THEN
				wrong := format('%s and its complement hold both or none', t);
			END IF;
		EXCEPTION
			WHEN feature_not_supported THEN
				-- no set of tags knows a segment
				IF q::text !~ 'segment' THEN
					wrong := format('%s: %s %s', t, sqlstate, sqlerrm);
				END IF;
			WHEN OTHERS THEN
				wrong := format('%s is read, but then: %s %s', t, sqlstate, sqlerrm);
		END;
		EXIT WHEN wrong IS NOT NULL;
	END LOOP;
END $$;
\echo 1..1
SELECT CASE WHEN wrong IS NULL AND sound > 0 AND refused > 0 THEN 'ok' ELSE 'not ok' END || format(' 1 - cdp.tagquery under mutated texts: %s read, %s refused', sound, refused) || coalesce(E'\n# ' || wrong, '') FROM pg_temp.fuzz(:rounds);
