-- segment_sets: several segments, and one over time.
-- C: src/segment_read.c  Page: doc/segment_sets.md  Tests: test/sql/segment_sets.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.segment_overlap(names text[]) RETURNS TABLE (a text, b text, n bigint, jaccard float8)
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 10000 ROWS 100 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	sets  cdp.audience[] := '{}';
	left_ bigint;
BEGIN
	PERFORM cdp._check_segment_names(names, 1000);
	FOR i IN 1 .. cardinality(names) LOOP
		sets := sets || ARRAY[cdp.segment_audience(names[i])];
	END LOOP;
	FOR i IN 1 .. cardinality(names) LOOP
		a := names[i];
		left_ := cdp.audience_count(sets[i]);
		FOR j IN i .. cardinality(names) LOOP
			b := names[j];
			n := CASE WHEN i = j THEN left_ ELSE cdp.audience_count(sets[i] OPERATOR(cdp.&) sets[j]) END;
			-- two empty sets have nothing in common and nothing apart
			jaccard := n::float8 / nullif(left_ + cdp.audience_count(sets[j]) - n, 0);
			RETURN NEXT;
		END LOOP;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp.segment_overlap(text[]) IS 'For each two of the segments, a not behind b in the list: n, how many customers are in both (a = b: in that one), and jaccard, n divided by how many are in either (Jaccard 1901), NULL where both are empty. Members as of the last refresh. Errors: 22004 NULL, 22023 a name twice, 54000 more than 1,000 names, 42704 no such segment.';

CREATE OR REPLACE FUNCTION cdp.segment_venn(names text[]) RETURNS TABLE (members_of text[], n bigint)
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 10000 ROWS 255 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	sets cdp.audience[] := '{}';
	rest cdp.audience;
BEGIN
	PERFORM cdp._check_segment_names(names, 8);
	FOR i IN 1 .. cardinality(names) LOOP
		sets := sets || ARRAY[cdp.segment_audience(names[i])];
	END LOOP;
	FOR region IN 1 .. (1 << cardinality(names)) - 1 LOOP
		members_of := '{}';
		rest := NULL;
		FOR i IN 1 .. cardinality(names) LOOP
			IF region & (1 << (i - 1)) <> 0 THEN
				members_of := members_of || names[i];
				rest := CASE WHEN rest IS NULL THEN sets[i] ELSE rest OPERATOR(cdp.&) sets[i] END;
			END IF;
		END LOOP;
		FOR i IN 1 .. cardinality(names) LOOP
			IF region & (1 << (i - 1)) = 0 THEN
				rest := rest OPERATOR(cdp.-) sets[i];
			END IF;
		END LOOP;
		n := cdp.audience_count(rest);
		RETURN NEXT;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp.segment_venn(text[]) IS 'The regions of up to 8 segments: members_of, in exactly which of them, in the order of the list, and n, how many customers. All 2^k - 1 regions, so the sum of n is how many are in any. Members as of the last refresh. Errors: 22004 NULL, 22023 a name twice, 54000 more than 8 names, 42704 no such segment.';

CREATE OR REPLACE FUNCTION cdp._check_segment_names(names text[], most int) RETURNS void
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF array_ndims(names) > 1 THEN
		RAISE EXCEPTION 'names must be a plain list' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example ''{vip, "big spenders"}''.';
	ELSIF names IS NULL OR array_position(names, NULL) IS NOT NULL THEN
		RAISE EXCEPTION 'names must not be NULL' USING ERRCODE = 'null_value_not_allowed', HINT = 'SELECT name FROM cdp.segment lists the segments.';
	ELSIF cardinality(names) > most THEN
		RAISE EXCEPTION '% names are more than %', cardinality(names), most USING ERRCODE = 'program_limit_exceeded', HINT = 'Ask for fewer at a time.';
	ELSIF cardinality(names) <> (SELECT count(DISTINCT u) FROM unnest(names) u) THEN
		RAISE EXCEPTION 'a segment is named twice' USING ERRCODE = 'invalid_parameter_value', HINT = 'Name each segment once.';
	END IF;
END $$;
COMMENT ON FUNCTION cdp._check_segment_names(text[], int) IS 'internal: 22004, 22023, 54000 unless these can be names of so many segments';

CREATE OR REPLACE FUNCTION cdp._audience_of_now(a cdp.audience) RETURNS cdp.audience
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 1000 AS 'MODULE_PATHNAME', 'cdp_audience_of_now';
COMMENT ON FUNCTION cdp._audience_of_now(cdp.audience) IS 'internal: the One IDs of now of these ids; those of nobody are left out';

-- @access
('function', 'segment_overlap', 'EXECUTE', '{reader,application}'),
('function', 'segment_venn', 'EXECUTE', '{reader,application}'),
('function', '_check_segment_names', 'EXECUTE', '{reader,application}'),
('function', 'segment_changes', 'EXECUTE', '{reader,application}'),
('function', '_audience_of_now', 'EXECUTE', '{reader,application}'),

-- @view
CREATE OR REPLACE FUNCTION cdp.segment_changes(name text, from_time timestamptz, to_time timestamptz) RETURNS TABLE (customer_id bigint, change text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 1000 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	before cdp.audience;
	after  cdp.audience;
BEGIN
	PERFORM cdp._require_version();
	IF name IS NULL OR from_time IS NULL OR to_time IS NULL THEN
		RAISE EXCEPTION 'name and times must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = '-infinity and infinity are moments before and behind all others.';
	ELSIF NOT EXISTS (SELECT FROM cdp.segment s WHERE s.name = segment_changes.name) THEN
		RAISE EXCEPTION 'there is no segment "%"', name USING ERRCODE = 'undefined_object', HINT = 'SELECT name FROM cdp.segment lists the segments.';
	ELSIF to_time < from_time THEN
		RAISE EXCEPTION 'to_time lies before from_time' USING ERRCODE = 'invalid_parameter_value', HINT = 'Exchange the two.';
	END IF;
	SELECT cdp._audience_of_now(cdp.audience_from_roaring64(s.members)) INTO before FROM cdp.segment_snapshot s
		WHERE s.segment = segment_changes.name AND s.refreshed_at <= from_time ORDER BY s.refreshed_at DESC, s.snapshot_id DESC LIMIT 1;
	SELECT cdp._audience_of_now(cdp.audience_from_roaring64(s.members)) INTO after FROM cdp.segment_snapshot s
		WHERE s.segment = segment_changes.name AND s.refreshed_at <= to_time ORDER BY s.refreshed_at DESC, s.snapshot_id DESC LIMIT 1;
	before := coalesce(before, '{}');
	after := coalesce(after, '{}');
	RETURN QUERY SELECT c.id, c.what FROM (
		SELECT cdp.audience_ids(after OPERATOR(cdp.-) before), 'entered'
		UNION ALL SELECT cdp.audience_ids(before OPERATOR(cdp.-) after), 'left') c(id, what) ORDER BY c.id;
END $$;
COMMENT ON FUNCTION cdp.segment_changes(text, timestamptz, timestamptz) IS 'Who is in a segment at to_time and was not at from_time (entered), and the other way (left), by customer. Told from the newest snapshots that are not later than each; where there is none, also because snapshots_kept has let it go, the segment counts as empty. Merged customers are one. Errors: 22004 NULL, 22023 to_time before from_time, 42704 no such segment.';
