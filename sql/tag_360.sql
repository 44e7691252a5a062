-- tag_360: tags and segments in cdp.customer_360() and cdp.timeline(), which find these functions by their names.
-- Page: doc/tag_360.md  Tests: test/sql/tag_360.sql
--
-- The timeline tells changes of tags from cdp.tag_history and stays from cdp.segment_history, where all of them are;
-- events of both are told there and nowhere else.

-- @access
('function', '_customer_360_tags', 'EXECUTE', '{reader}'),
('function', '_customer_360_segments', 'EXECUTE', '{reader}'),
('function', '_timeline_tag', 'EXECUTE', '{reader}'),
('function', '_timeline_segment', 'EXECUTE', '{reader}'),

-- @view
CREATE OR REPLACE FUNCTION cdp._customer_360_tags(customer_id bigint, profile_ids bigint[]) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('tags', coalesce((SELECT cdp.tagset_to_jsonb(cdp.tagset_prune(t.tags, cdp.now()))
		FROM cdp.profile_tag t WHERE t.profile_id = _customer_360_tags.customer_id), '{}'));
END $$;
COMMENT ON FUNCTION cdp._customer_360_tags(bigint, bigint[]) IS 'internal: key tags of customer_360, those that are there at cdp.now()';

CREATE OR REPLACE FUNCTION cdp._customer_360_segments(customer_id bigint, profile_ids bigint[]) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('segments', coalesce((SELECT jsonb_agg(jsonb_build_object('name', s.name, 'entered_at', s.entered_at)
			ORDER BY s.name COLLATE "C")
		FROM cdp.segments_of(_customer_360_segments.customer_id) s), '[]'));
END $$;
COMMENT ON FUNCTION cdp._customer_360_segments(bigint, bigint[]) IS 'internal: key segments of customer_360, as of their last refresh';

CREATE OR REPLACE FUNCTION cdp._timeline_tag(profile_ids bigint[], from_time timestamptz, to_time timestamptz, max_rows int)
	RETURNS TABLE (at timestamptz, kind text, title text, detail jsonb)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- All that was ever said of the tags of these profiles is read: an index by time would be paid for by every add_tag().
BEGIN
	RETURN QUERY SELECT h.changed_at, 'tag', h.tag || ' ' || h.change, jsonb_strip_nulls(jsonb_build_object('tag', h.tag, 'change', h.change,
		'value', CASE h.value_type WHEN 'number' THEN to_jsonb(h.value::numeric) ELSE to_jsonb(h.value) END,
		'valid_until', h.valid_until, 'source', h.source))
	FROM cdp.tag_history h
	WHERE h.profile_id = ANY (profile_ids) AND h.changed_at >= from_time AND h.changed_at < to_time
	ORDER BY h.changed_at DESC, h.change_id DESC LIMIT max_rows;
END $$;
COMMENT ON FUNCTION cdp._timeline_tag(bigint[], timestamptz, timestamptz, int) IS 'internal: changes of tags in the timeline';

CREATE OR REPLACE FUNCTION cdp._timeline_segment(profile_ids bigint[], from_time timestamptz, to_time timestamptz, max_rows int)
	RETURNS TABLE (at timestamptz, kind text, title text, detail jsonb)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- All stays of these profiles are read, which are as many as the times they entered a segment: an index by time would be paid
-- for by every refresh.
BEGIN
	RETURN QUERY SELECT c.at, 'segment', h.segment || ' ' || c.change,
		jsonb_build_object('segment', h.segment, 'change', c.change, 'version', h.version)
	FROM cdp.segment_history h CROSS JOIN LATERAL (VALUES (h.entered_at, 'entered'), (h.left_at, 'left')) c(at, change)
	WHERE h.customer_id = ANY (profile_ids) AND c.at >= from_time AND c.at < to_time
	ORDER BY c.at DESC, h.history_id DESC, c.change DESC LIMIT max_rows;
END $$;
COMMENT ON FUNCTION cdp._timeline_segment(bigint[], timestamptz, timestamptz, int) IS 'internal: segments entered and left in the timeline';
