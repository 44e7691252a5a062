-- identity_360: find a customer, see everything about him, correct what is wrong.
-- Page: doc/identity_360.md  Tests: test/sql/identity_360.sql

-- @code
CREATE OR REPLACE FUNCTION cdp._normalize(kind text, value text) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_normalize_sql';
COMMENT ON FUNCTION cdp._normalize(text, text) IS 'internal: the comparable form of a value under the rules of its kind; NULL when the kind is unknown or refuses it';

CREATE OR REPLACE FUNCTION cdp._told_elsewhere(name text, source text) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN name IN ('Customer Merged', 'Customer Unmerged') OR (source IS NOT DISTINCT FROM 'cdp'
		AND name IN ('Tag Added', 'Tag Removed', 'Tag Expired', 'Segment Entered', 'Segment Left', 'Lifecycle Stage Changed'));
COMMENT ON FUNCTION cdp._told_elsewhere(text, text) IS 'internal: whether an event is one of those that other functions _timeline_NAME tell from tables of their own, which say more';

-- @access
('function', 'search_customers', 'EXECUTE', '{operator}'),
('function', 'customer_360', 'EXECUTE', '{reader}'),
('function', 'timeline', 'EXECUTE', '{reader}'),
('function', '_customer_360_identity', 'EXECUTE', '{reader}'),
('function', '_customer_360_orders', 'EXECUTE', '{reader}'),
('function', '_customer_360_events', 'EXECUTE', '{reader}'),
('function', '_timeline_event', 'EXECUTE', '{reader}'),
('function', '_timeline_merge', 'EXECUTE', '{reader}'),
('function', '_told_elsewhere', 'EXECUTE', '{reader}'),
('function', '_normalize', 'EXECUTE', '{operator}'),
('function', '_profiles_of', 'EXECUTE', '{reader}'),
('table', 'identifier', 'SELECT', '{operator}'),
('table', 'merge_log', 'SELECT', '{reader}'),

-- @data
-- what search_customers looks in
CREATE INDEX IF NOT EXISTS identifier_value ON cdp.identifier (value) WHERE valid_to IS NULL;
CREATE INDEX IF NOT EXISTS identifier_phone_end ON cdp.identifier (reverse(value) text_pattern_ops) WHERE valid_to IS NULL AND kind = 'phone';
-- the beginning of a name: an index cannot hold whatever somebody calls one
DROP INDEX IF EXISTS cdp.profile_name;
CREATE INDEX IF NOT EXISTS profile_name_start ON cdp.profile (left(lower(traits ->> 'name'), 100) text_pattern_ops) WHERE traits ? 'name';

-- @view
CREATE OR REPLACE FUNCTION cdp._profiles_of(customer_id bigint) RETURNS bigint[]
	LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT c.id || ARRAY(SELECT a.profile_id FROM cdp.profile_alias a WHERE a.customer_id = c.id ORDER BY a.profile_id)
	FROM (SELECT cdp.customer_id(_profiles_of.customer_id) AS id) c;
END;
COMMENT ON FUNCTION cdp._profiles_of(bigint) IS 'internal: all profiles of the customer to whom an id belongs, the One ID first';

CREATE OR REPLACE FUNCTION cdp.search_customers(term text, n int DEFAULT 20) RETURNS TABLE (customer_id bigint, name text, matched text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan
AS $$
-- Best first: a whole identifier, then the end of a phone number, then the beginning of a name.  Every branch is a
-- probe of an index and stops at n.
DECLARE
	wanted text := btrim(term);
	digits text := regexp_replace(term, '[^0-9]', '', 'g');
	prefix text;
BEGIN
	PERFORM cdp._require_version();
	IF n IS NULL OR n < 1 OR n > 1000 THEN
		RAISE EXCEPTION 'n must be between 1 and 1000' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for 20.';
	END IF;
	IF wanted IS NULL OR wanted = '' THEN
		RETURN;
	END IF;
	prefix := replace(replace(replace(left(lower(wanted), 100), '\', '\\'), '%', '\%'), '_', '\_') || '%';
	RETURN QUERY
	WITH hit AS (
		(SELECT i.profile_id, i.kind || ' ' || i.value AS matched, 1 AS rank
		 FROM cdp.identifier i
		 WHERE i.valid_to IS NULL AND i.value = ANY (ARRAY(
			SELECT wanted UNION SELECT cdp._normalize(k.kind, wanted) FROM cdp.identifier_kind k))
		 LIMIT n)
		UNION ALL
		(SELECT i.profile_id, i.kind || ' ' || i.value, 2
		 FROM cdp.identifier i
		 WHERE length(digits) >= 4 AND i.valid_to IS NULL AND i.kind = 'phone'
		   AND reverse(i.value) LIKE reverse(digits) || '%'
		 LIMIT n)
		UNION ALL
		(SELECT p.profile_id, 'name ' || (p.traits ->> 'name'), 3
		 FROM cdp.profile p
		 WHERE p.traits ? 'name' AND left(lower(p.traits ->> 'name'), 100) LIKE prefix
		 LIMIT n)
	), best AS (
		SELECT DISTINCT ON (c.id) c.id, h.matched, h.rank
		FROM hit h CROSS JOIN LATERAL (SELECT cdp.customer_id(h.profile_id) AS id) c
		ORDER BY c.id, h.rank, h.matched
	)
	SELECT b.id, (SELECT v.traits ->> 'name' FROM cdp.customer v WHERE v.customer_id = b.id), b.matched
	FROM best b ORDER BY b.rank, b.id LIMIT n;
END $$;
COMMENT ON FUNCTION cdp.search_customers(text, int) IS 'Customers for a term an operator types: any whole identifier (normalised by its kind), the last 4 or more digits of a phone number, or the beginning of a name; best first, at most n (1 to 1000). matched says what fitted. No rows for NULL or a blank term. Needs SELECT on cdp.identifier, since it shows values (kind operator). Errors: 22023 n out of range.';

CREATE OR REPLACE FUNCTION cdp._customer_360_identity(customer_id bigint, profile_ids bigint[]) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result jsonb;
BEGIN
	SELECT jsonb_build_object('created_at', c.created_at, 'traits', c.traits,
			'missing_traits', coalesce((SELECT jsonb_agg(d.trait ORDER BY d.trait) FROM cdp.trait_definition d
				WHERE d.required AND NOT c.traits ? d.trait), '[]'))
	INTO result FROM cdp.customer c WHERE c.customer_id = _customer_360_identity.customer_id;
	IF has_table_privilege('cdp.identifier', 'SELECT') THEN
		result := result || jsonb_build_object('identifiers', coalesce((
			SELECT jsonb_agg(jsonb_build_object('kind', i.kind, 'value', i.value, 'profile_id', i.profile_id,
				'first_seen', i.first_seen, 'last_seen', i.last_seen, 'source', i.source) ORDER BY k.priority, i.kind, i.first_seen, i.value)
			FROM cdp.identifier i LEFT JOIN cdp.identifier_kind k USING (kind)
			WHERE i.profile_id = ANY (profile_ids) AND i.valid_to IS NULL), '[]'));
	END IF;
	RETURN result;
END $$;
COMMENT ON FUNCTION cdp._customer_360_identity(bigint, bigint[]) IS 'internal: keys created_at, traits, missing_traits and, for those who may see values, identifiers of customer_360';

CREATE OR REPLACE FUNCTION cdp._customer_360_orders(customer_id bigint, profile_ids bigint[]) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET intervalstyle = iso_8601
AS $$
BEGIN
	RETURN jsonb_build_object(
		'orders', (SELECT jsonb_build_object('count', count(*), 'first_at', min(o.ordered_at), 'last_at', max(o.ordered_at),
				'open', count(*) FILTER (WHERE o.status IN ('placed', 'paid', 'shipped')),
				'by_currency', coalesce((SELECT jsonb_object_agg(c.currency, jsonb_build_object('count', c.n, 'amount', c.amount, 'refunded', c.refunded))
					FROM (SELECT s.currency, count(*) AS n, sum(s.amount) AS amount, sum(s.refunded) AS refunded FROM cdp.sales_order s
					      WHERE s.profile_id = ANY (profile_ids) AND s.status NOT IN ('placed', 'cancelled') GROUP BY s.currency) c), '{}'))
			FROM cdp.sales_order o WHERE o.profile_id = ANY (profile_ids)),
		'rfm', (SELECT jsonb_object_agg(r.currency, jsonb_build_object('recency', (r.v).recency, 'frequency', (r.v).frequency, 'monetary', (r.v).monetary))
			FROM (SELECT s.currency, cdp.rfm(s.ordered_at, s.amount - s.refunded, cdp.now()) AS v FROM cdp.sales_order s
			      WHERE s.profile_id = ANY (profile_ids) AND cdp._is_purchase(s.status) AND s.ordered_at <= cdp.now()
			      GROUP BY s.currency) r));
END $$;
COMMENT ON FUNCTION cdp._customer_360_orders(bigint, bigint[]) IS 'internal: keys orders and rfm of customer_360, per currency';

CREATE OR REPLACE FUNCTION cdp._customer_360_events(customer_id bigint, profile_ids bigint[]) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('events', coalesce((SELECT jsonb_agg(jsonb_build_object('at', t.at, 'name', t.title, 'detail', t.detail) ORDER BY t.at DESC, t.title)
		FROM cdp._timeline_event(profile_ids, '-infinity', 'infinity', 20) t), '[]'));
END $$;
COMMENT ON FUNCTION cdp._customer_360_events(bigint, bigint[]) IS 'internal: key events of customer_360, the last twenty';

CREATE OR REPLACE FUNCTION cdp.customer_360(customer_id bigint) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- Every module adds its keys by a function cdp._customer_360_NAME(customer_id, profile_ids) -> jsonb object.
DECLARE
	ids    bigint[] := cdp._profiles_of(customer_id);
	result jsonb;
	part   jsonb;
	f      regproc;
BEGIN
	PERFORM cdp._require_version();
	IF NOT EXISTS (SELECT FROM cdp.customer c WHERE c.customer_id = ids[1]) THEN
		RETURN NULL;
	END IF;
	result := jsonb_build_object('customer_id', ids[1], 'profile_ids', to_jsonb(ids));
	FOR f IN SELECT p.oid::regproc FROM pg_proc p
		WHERE p.pronamespace = 'cdp'::regnamespace AND p.proname LIKE '\_customer\_360\_%'
		  AND has_function_privilege(p.oid, 'EXECUTE') ORDER BY p.proname
	LOOP
		EXECUTE format('SELECT %s($1, $2)', f) INTO part USING ids[1], ids;
		result := result || coalesce(part, '{}');
	END LOOP;
	RETURN result;
END $$;
COMMENT ON FUNCTION cdp.customer_360(bigint) IS 'Everything known about a customer as one object: customer_id, profile_ids, created_at, traits, missing_traits, identifiers (only for a caller who may SELECT cdp.identifier), orders (count, first_at, last_at, open, by_currency), rfm by currency, events (the last twenty), tags (the jsonb form of cdp.tagset, without those that have expired), segments (name and entered_at, as of their last refresh); later modules add keys. Any id that ever was this customer is accepted; NULL for an id that never existed and for NULL.';

CREATE OR REPLACE FUNCTION cdp._timeline_event(profile_ids bigint[], from_time timestamptz, to_time timestamptz, max_rows int)
	RETURNS TABLE (at timestamptz, kind text, title text, detail jsonb)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	-- the partitions are merged as their indexes give them, newest first; the one sort that is left makes the plan look
	-- costly enough for the compiler
	SET enable_sort = off SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
-- Each profile walks its own indexes backwards and stops.  For a customer of many profiles that would be too many
-- probes (profiles times partitions): he is looked at window by window, each four times as long as the one after it.
DECLARE
	lower timestamptz;
	upper timestamptz := to_time;
	width interval := '7 days';
	rest  int := max_rows;
	got   int;
BEGIN
	IF cardinality(profile_ids) <= 16 THEN
		RETURN QUERY SELECT e.occurred_at, 'event', e.name, e.properties ||
			jsonb_strip_nulls(jsonb_build_object('event_id', e.event_id, 'source', e.source, 'channel', e.channel))
		FROM unnest(profile_ids) p(id) CROSS JOIN LATERAL (
			SELECT v.* FROM cdp.event v
			WHERE v.profile_id = p.id AND v.occurred_at >= from_time AND v.occurred_at < to_time
			  AND NOT cdp._told_elsewhere(v.name, v.source)
			ORDER BY v.occurred_at DESC LIMIT max_rows) e
		ORDER BY e.occurred_at DESC, e.event_id DESC LIMIT max_rows;
		RETURN;
	END IF;
	LOOP
		lower := CASE WHEN width > interval '10 years' THEN from_time
		              ELSE greatest(from_time, least(upper, cdp.now()) - width) END;
		RETURN QUERY SELECT e.occurred_at, 'event', e.name, e.properties ||
			jsonb_strip_nulls(jsonb_build_object('event_id', e.event_id, 'source', e.source, 'channel', e.channel))
		FROM (SELECT v.* FROM cdp.event v
			WHERE v.profile_id = ANY (profile_ids) AND v.occurred_at >= lower AND v.occurred_at < upper
			  AND NOT cdp._told_elsewhere(v.name, v.source)
			ORDER BY v.occurred_at DESC, v.event_id DESC LIMIT rest) e;
		GET DIAGNOSTICS got = ROW_COUNT;
		rest := rest - got;
		EXIT WHEN rest = 0 OR lower <= from_time;
		upper := lower;
		width := width * 4;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._timeline_event(bigint[], timestamptz, timestamptz, int) IS 'internal: events in the timeline';

CREATE OR REPLACE FUNCTION cdp._timeline_merge(profile_ids bigint[], from_time timestamptz, to_time timestamptz, max_rows int)
	RETURNS TABLE (at timestamptz, kind text, title text, detail jsonb)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT m.at, 'identity', m.action, jsonb_strip_nulls(jsonb_build_object('customer_id', m.customer_id, 'other_id', m.other_id, 'rule', m.rule, 'reason', m.reason))
	FROM unnest(profile_ids) p(id) CROSS JOIN LATERAL (
		SELECT l.* FROM cdp.merge_log l WHERE l.other_id = p.id AND l.at >= from_time AND l.at < to_time
		ORDER BY l.at DESC LIMIT max_rows) m
	ORDER BY m.at DESC, m.merge_id DESC LIMIT max_rows;
END $$;
COMMENT ON FUNCTION cdp._timeline_merge(bigint[], timestamptz, timestamptz, int) IS 'internal: merges and their undoing in the timeline';

CREATE OR REPLACE FUNCTION cdp.timeline(customer_id bigint, from_time timestamptz DEFAULT NULL, to_time timestamptz DEFAULT NULL,
	max_rows int DEFAULT 100) RETURNS TABLE (at timestamptz, kind text, title text, detail jsonb)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- Every module adds its rows by a function cdp._timeline_NAME(profile_ids, from_time, to_time, max_rows), each of
-- which stops at max_rows by its own index.
DECLARE
	ids  bigint[] := cdp._profiles_of(customer_id);
	arms text;
BEGIN
	PERFORM cdp._require_version();
	IF max_rows IS NULL OR max_rows < 1 OR max_rows > 100000 THEN
		RAISE EXCEPTION 'max_rows must be between 1 and 100000' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for 100.';
	ELSIF from_time > to_time THEN
		RAISE EXCEPTION 'from_time lies after to_time' USING ERRCODE = 'invalid_parameter_value', HINT = 'The range is from_time inclusive, to_time exclusive.';
	END IF;
	SELECT string_agg(format('SELECT * FROM %s($1, $2, $3, $4)', p.oid::regproc), ' UNION ALL ' ORDER BY p.proname) INTO arms
	FROM pg_proc p WHERE p.pronamespace = 'cdp'::regnamespace AND p.proname LIKE '\_timeline\_%' AND has_function_privilege(p.oid, 'EXECUTE');
	RETURN QUERY EXECUTE format('SELECT * FROM (%s) t ORDER BY 1 DESC, 2, 3, 4 LIMIT $4', arms)
		USING ids, coalesce(from_time, '-infinity'), coalesce(to_time, 'infinity'), max_rows;
END $$;
COMMENT ON FUNCTION cdp.timeline(bigint, timestamptz, timestamptz, int) IS 'What happened to a customer, newest first, at most max_rows (1 to 100,000): at, kind (event, identity, tag, segment; later modules add theirs), title, detail. Range from_time inclusive to to_time exclusive, NULL: open. Any id that ever was this customer is accepted; no rows for an unknown id. Errors: 22023 range or max_rows.';
