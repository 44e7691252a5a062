-- identity_trait: x
-- @access
('table', 'customer', 'SELECT', '{reader,application}'),
-- @data
PERFORM cdp._ensure_table('profile_trait', $t$ (
	profile_id  bigint NOT NULL,
	trait       text NOT NULL,
	source      text NOT NULL DEFAULT '',
	value       jsonb NOT NULL,
	observed_at timestamptz NOT NULL,
	PRIMARY KEY (profile_id, trait, source)
) $t$);
COMMENT ON TABLE cdp.profile_trait IS 'Last value of a trait per profile and source, with its time; JSON null: removed.';

-- @view
CREATE OR REPLACE FUNCTION cdp._put_traits(profile_ids bigint[], traits jsonb[], sources text[], observed_ats timestamptz[],
	removing boolean DEFAULT false) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan
AS $$
-- Keep the last value per profile, trait and source, and the newest of these in profile.traits.  A value that is
-- already the surviving one is not written again.  JSON null is not given, or with removing a removal.  Values of
-- the wrong type are kept out; answers how many.
DECLARE
	changed bigint[];
	refused bigint;
BEGIN
	WITH given AS (
		SELECT DISTINCT ON (u.profile_id, t.key, coalesce(u.source, ''))
			u.profile_id, t.key AS trait, coalesce(u.source, '') AS source, t.value, u.at
		FROM unnest(profile_ids, traits, sources, observed_ats) WITH ORDINALITY u(profile_id, traits, source, at, ord)
		CROSS JOIN LATERAL jsonb_each(u.traits) t
		WHERE removing OR t.value <> 'null'
		ORDER BY u.profile_id, t.key, coalesce(u.source, ''), u.at DESC, u.ord DESC
	), kept_out AS (
		INSERT INTO cdp.trait_reject (trait, profile_id, source, found_type)
		SELECT g.trait, g.profile_id, g.source, jsonb_typeof(g.value)
		FROM given g JOIN cdp.trait_definition d USING (trait)
		WHERE g.value <> 'null' AND NOT cdp._has_trait_type(g.value, d.value_type)
		RETURNING 1
	), written AS (
		INSERT INTO cdp.profile_trait AS pt (profile_id, trait, source, value, observed_at)
		SELECT g.profile_id, g.trait, g.source, g.value, g.at FROM given g
		JOIN cdp.profile p USING (profile_id)
		LEFT JOIN cdp.trait_definition d USING (trait)
		LEFT JOIN cdp.profile_trait o ON (o.profile_id, o.trait, o.source) = (g.profile_id, g.trait, g.source)
		WHERE (o.observed_at IS NULL
		       OR (o.observed_at <= g.at AND (o.value <> g.value OR p.traits -> g.trait IS DISTINCT FROM g.value)))
		  AND (d.value_type IS NULL OR g.value = 'null' OR cdp._has_trait_type(g.value, d.value_type))
		ORDER BY g.profile_id, g.trait, g.source
		ON CONFLICT (profile_id, trait, source) DO UPDATE SET value = excluded.value, observed_at = excluded.observed_at
			WHERE pt.observed_at <= excluded.observed_at
		RETURNING pt.profile_id
	)
	SELECT array_agg(DISTINCT w.profile_id), (SELECT count(*) FROM kept_out) INTO changed, refused FROM written w;
	IF changed IS NOT NULL THEN
		PERFORM FROM cdp.profile p WHERE p.profile_id = ANY (changed) ORDER BY p.profile_id FOR NO KEY UPDATE;
		UPDATE cdp.profile p SET traits = s.traits
		FROM (SELECT n.profile_id, coalesce(jsonb_object_agg(n.trait, n.value) FILTER (WHERE n.value <> 'null'), '{}') AS traits
		      FROM (SELECT DISTINCT ON (t.profile_id, t.trait) t.profile_id, t.trait, t.value FROM cdp.profile_trait t
		            WHERE t.profile_id = ANY (changed)
		            ORDER BY t.profile_id, t.trait, t.observed_at DESC, t.source) n
		      GROUP BY n.profile_id) s
		WHERE p.profile_id = s.profile_id AND p.traits <> s.traits;
	END IF;
	RETURN refused;
END $$;
COMMENT ON FUNCTION cdp._put_traits(bigint[], jsonb[], text[], timestamptz[], boolean) IS 'internal: records traits of profiles with their source and time; the newest value survives; answers how many were of the wrong type';

CREATE OR REPLACE VIEW cdp.customer AS
SELECT p.profile_id AS customer_id,
	CASE WHEN m.profile_ids IS NULL THEN p.created_at ELSE least(p.created_at, m.created_at) END AS created_at,
	CASE WHEN m.profile_ids IS NULL THEN p.traits ELSE coalesce(s.traits, '{}') END AS traits,
	p.profile_id || coalesce(m.profile_ids, '{}') AS profile_ids,
	greatest((SELECT max(t.observed_at) FROM cdp.profile_trait t WHERE t.profile_id = ANY (p.profile_id || m.profile_ids)),
		p.created_at) AS updated_at
FROM cdp.profile p
LEFT JOIN LATERAL (
	SELECT array_agg(a.profile_id ORDER BY a.profile_id) AS profile_ids, min(o.created_at) AS created_at
	FROM cdp.profile_alias a JOIN cdp.profile o ON o.profile_id = a.profile_id WHERE a.customer_id = p.profile_id
) m ON true
LEFT JOIN LATERAL (
	SELECT jsonb_object_agg(n.trait, n.value) FILTER (WHERE n.value <> 'null') AS traits
	FROM (SELECT DISTINCT ON (t.trait) t.trait, t.value FROM cdp.profile_trait t
	      WHERE t.profile_id = ANY (p.profile_id || m.profile_ids)
	      ORDER BY t.trait, t.observed_at DESC, t.source, t.profile_id) n
) s ON m.profile_ids IS NOT NULL
WHERE NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = p.profile_id);
COMMENT ON VIEW cdp.customer IS 'One row per One ID: customer_id, created_at (first sighting), traits (newest value of each over all profiles), profile_ids (the One ID first), updated_at.';
