-- segment_lookalike: what members of a set have in common, and who else has it.
-- C: src/segment_lookalike.c  Page: doc/segment.md  Tests: test/sql/segment_lookalike.sql

-- @code
CREATE OR REPLACE FUNCTION cdp._count_keys(queries cdp.tagquery[], seed cdp.audience, baseline cdp.audience)
	RETURNS TABLE (i int, seed_count bigint, base_count bigint)
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'cdp_count_keys';
COMMENT ON FUNCTION cdp._count_keys(cdp.tagquery[], cdp.audience, cdp.audience) IS 'internal: how many of two sets each of up to 1,024 queries holds for';

CREATE OR REPLACE FUNCTION cdp._score_keys(queries cdp.tagquery[], weights float8[], without cdp.audience, n int)
	RETURNS TABLE (customer_id bigint, score float8)
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'cdp_score_keys';
COMMENT ON FUNCTION cdp._score_keys(cdp.tagquery[], float8[], cdp.audience, int) IS 'internal: the n customers with the largest sum of weights of queries that hold for them, ties by id';

CREATE OR REPLACE FUNCTION cdp.lift_table(seed cdp.audience, baseline cdp.audience DEFAULT NULL, min_count int DEFAULT 30)
	RETURNS TABLE (tag text, seed_count bigint, base_count bigint, seed_rate float8, base_rate float8, lift float8, tgi float8, z float8)
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 10000 ROWS 100 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	base  cdp.audience;
	own   cdp.audience;
	keys  cdp.tagquery[];
	n_own float8;
	n_base float8;
	p     float8;
BEGIN
	PERFORM cdp._require_version();
	IF seed IS NULL THEN
		RAISE EXCEPTION 'seed must not be NULL' USING ERRCODE = 'null_value_not_allowed', HINT = 'For example cdp.segment_audience(name).';
	END IF;
	own := cdp._audience_of_now(seed);
	base := CASE WHEN baseline IS NULL THEN cdp.audience_of('*') ELSE cdp._audience_of_now(baseline) END;
	n_own := cdp.audience_count(own);
	n_base := cdp.audience_count(base);
	IF n_own = 0 OR n_base = 0 THEN
		RETURN;
	END IF;
	FOR keys IN SELECT array_agg(k.query ORDER BY k.query::text COLLATE "C") FROM (
		SELECT q.query, (row_number() OVER (ORDER BY q.query::text COLLATE "C") - 1) / 1000 AS part FROM cdp._tag_queries() q(query)) k
		GROUP BY k.part ORDER BY k.part
	LOOP
		FOR tag, seed_count, base_count IN SELECT keys[c.i]::text, c.seed_count, c.base_count FROM cdp._count_keys(keys, own, base) c
			WHERE c.base_count >= coalesce(min_count, 0) AND c.base_count > 0 ORDER BY c.i
		LOOP
			seed_rate := seed_count / n_own;
			base_rate := base_count / n_base;
			lift := seed_rate / base_rate;
			tgi := 100 * lift;
			p := (seed_count + base_count) / (n_own + n_base);
			-- what everybody has, of both sets, tells nothing apart
			z := (seed_rate - base_rate) / nullif(sqrt(p * (1 - p) * (1 / n_own + 1 / n_base)), 0);
			RETURN NEXT;
		END LOOP;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp.lift_table(cdp.audience, cdp.audience, int) IS 'How much more often the members of seed have each tag, each level above tags (name.*) and each text value than those of baseline; NULL baseline: everyone. Rates of both, lift = seed_rate / base_rate, tgi = 100 lift (target group index), z of the two proportions with pooled variance (Pearson 1900; NULL where both rates are 1). Only keys that at least min_count of baseline have. Tags of the last merge and later changes of them; a tag that no merge has met yet is not listed. Ids of merged profiles are mapped. No row for an empty set. Errors: 22004 NULL seed.';

CREATE OR REPLACE FUNCTION cdp.find_lookalikes(seed cdp.audience, n int, min_z float8 DEFAULT 3) RETURNS TABLE (customer_id bigint, score float8)
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 10000 ROWS 1000 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	keys    cdp.tagquery[];
	weights float8[];
BEGIN
	PERFORM cdp._require_version();
	IF seed IS NULL OR n IS NULL OR min_z IS NULL THEN
		RAISE EXCEPTION 'seed, n and min_z must not be NULL' USING ERRCODE = 'null_value_not_allowed', HINT = 'For example cdp.find_lookalikes(cdp.segment_audience(''fans''), 1000).';
	ELSIF n < 1 OR n > 10000000 THEN
		RAISE EXCEPTION 'n must be from 1 to 10000000' USING ERRCODE = 'invalid_parameter_value', HINT = 'So many customers are answered at most.';
	ELSIF min_z < 0 OR min_z = 'NaN' THEN
		RAISE EXCEPTION 'min_z must not be negative' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for 3: a tag counts when chance explains its lift once in 700 times.';
	END IF;
	SELECT array_agg(t.tag::cdp.tagquery ORDER BY t.tag COLLATE "C"), array_agg(ln(t.lift) ORDER BY t.tag COLLATE "C") INTO keys, weights
	FROM (SELECT l.tag, l.lift FROM cdp.lift_table(find_lookalikes.seed) l WHERE l.z >= min_z AND l.lift > 1 ORDER BY l.z DESC, l.tag COLLATE "C" LIMIT 1024) t;
	IF keys IS NOT NULL THEN
		RETURN QUERY SELECT * FROM cdp._score_keys(keys, weights, cdp._audience_of_now(seed), find_lookalikes.n);
	END IF;
END $$;
COMMENT ON FUNCTION cdp.find_lookalikes(cdp.audience, int, float8) IS 'The n customers outside of seed who are most like its members: score is the sum of ln(lift) over the keys that a customer has, of those whose z in cdp.lift_table(seed) is at least min_z (the 1,024 largest z); best first, ties by id. Who has none of them is not answered. Errors: 22004 NULL, 22023 n or min_z.';

-- @access
('function', 'lift_table', 'EXECUTE', '{reader}'),
('function', 'find_lookalikes', 'EXECUTE', '{reader}'),
('function', '_count_keys', 'EXECUTE', '{reader}'),
('function', '_score_keys', 'EXECUTE', '{reader}'),
('function', '_tag_queries', 'EXECUTE', '{reader}'),

-- @view
CREATE OR REPLACE FUNCTION cdp._tag_queries() RETURNS SETOF cdp.tagquery
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	-- a level says something of its own only where tags lie below it
	SELECT CASE k.kind WHEN 'tag' THEN n.quoted WHEN 'below' THEN n.quoted || '.*' ELSE n.quoted || ' = "' || replace(k.value, '"', '""') || '"' END::cdp.tagquery
	FROM cdp.tag_key k, LATERAL (SELECT '"' || replace(k.tag, '"', '""') || '"' AS quoted) n
	WHERE k.kind IN ('tag', 'value')
	   OR (k.kind = 'below' AND EXISTS (SELECT FROM cdp.tag_key b WHERE b.kind = 'tag' AND b.tag >= k.tag || '.' AND b.tag < k.tag || '/'))
$$;
COMMENT ON FUNCTION cdp._tag_queries() IS 'internal: what is counted of each key of cdp.tag_key, as queries';
