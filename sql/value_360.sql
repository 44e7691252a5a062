-- value_360: value, stages and tiers as tags, in cdp.customer_360() and in cdp.timeline(), which find these functions by their names.
-- Page: doc/value_360.md  Tests: test/sql/value_360.sql

-- @code
CREATE OR REPLACE PROCEDURE cdp.define_value_tags() LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t record;
BEGIN
	PERFORM cdp._require_version();
	FOR t IN
		SELECT 'rfm.' || g.label_zh AS name, 'none' AS value_type, format('SELECT v.customer_id FROM cdp.customer_value v WHERE v.group8 = %L', g.label_zh) AS rule,
			'RFM: ' || g.label_en AS description
		FROM cdp.rfm_group g WHERE g.scheme = 8
		UNION ALL
		SELECT 'value_tier.' || v.value_tier, 'none', format('SELECT v.customer_id FROM cdp.customer_value v WHERE v.value_tier = %L', v.value_tier), v.label_en
		FROM cdp.value_tier v
		UNION ALL
		SELECT 'lifecycle.' || l.lifecycle_rule, 'none', format('SELECT v.customer_id FROM cdp.customer_value v WHERE v.lifecycle_stage = %L', l.lifecycle_rule), l.label_en
		FROM cdp.lifecycle_rule l
		UNION ALL
		VALUES ('churn_risk', 'number', 'SELECT v.customer_id, v.churn_score AS value FROM cdp.customer_value v WHERE v.churn_score IS NOT NULL', 'probability of no purchase, see cdp.churn_score()'),
			('p_alive', 'number', 'SELECT v.customer_id, v.p_alive AS value FROM cdp.customer_value v WHERE v.p_alive IS NOT NULL', 'probability that he has not left for ever')
		ORDER BY 1
	LOOP
		PERFORM cdp.define_tag(t.name, 'predictive', t.value_type, NULL, t.rule, NULL, t.description);
	END LOOP;
END $$;
COMMENT ON PROCEDURE cdp.define_value_tags() IS 'Defines tags with rules over cdp.customer_value: rfm.GROUP (the eight groups), value_tier.TIER, lifecycle.STAGE, and the numbers churn_risk and p_alive; CALL cdp.refresh_tags() gives and takes them. Again after a group, tier or stage has got another name. The rules run as the role that calls this, which must be able to read cdp.customer_value. Errors: 42501.';

-- @access
('function', 'define_value_tags', 'EXECUTE', '{operator}'),
('function', '_customer_360_value', 'EXECUTE', '{reader}'),
('function', '_timeline_value', 'EXECUTE', '{reader}'),

-- @view
CREATE OR REPLACE FUNCTION cdp._customer_360_value(customer_id bigint, profile_ids bigint[]) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('value', (SELECT to_jsonb(v) - 'customer_id' FROM cdp.customer_value v WHERE v.customer_id = _customer_360_value.customer_id));
END $$;
COMMENT ON FUNCTION cdp._customer_360_value(bigint, bigint[]) IS 'internal: key value of customer_360, the row of cdp.customer_value; null before the first cdp.score_customers()';

CREATE OR REPLACE FUNCTION cdp._timeline_value(profile_ids bigint[], from_time timestamptz, to_time timestamptz, max_rows int)
	RETURNS TABLE (at timestamptz, kind text, title text, detail jsonb)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- Tiers and churn are told by their events, stages by the log, which knows why and also the first.
BEGIN
	RETURN QUERY SELECT l.as_of, 'lifecycle', coalesce(l.from_stage || ' → ', '') || l.to_stage,
		jsonb_strip_nulls(jsonb_build_object('from', l.from_stage, 'to', l.to_stage, 'reason', l.reason))
	FROM cdp.lifecycle_log l
	WHERE l.customer_id = ANY (profile_ids) AND l.as_of >= from_time AND l.as_of < to_time
	ORDER BY l.as_of DESC, l.lifecycle_log_id DESC LIMIT max_rows;
END $$;
COMMENT ON FUNCTION cdp._timeline_value(bigint[], timestamptz, timestamptz, int) IS 'internal: stages of the lifecycle in the timeline';
