-- identity_trait: what is known about a customer, and which source is believed.
-- C: src/identity_trait.c, src/identity_trait_rule.c  Page: doc/identity_trait.md  Tests: test/sql/identity_trait.sql

-- @code
CREATE OR REPLACE FUNCTION cdp._survivors(candidates record[], rules jsonb) RETURNS jsonb
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_survivors';
COMMENT ON FUNCTION cdp._survivors(record[], jsonb) IS 'internal: the traits that survive of candidates (trait, value, source, observed_at, profile_id) under rules {trait: [strategy, sources]}; an object, never NULL';

CREATE OR REPLACE FUNCTION cdp._judge_traits(candidates record[], rules jsonb) RETURNS TABLE (trait text, value jsonb, source text,
	profile_id bigint, observed_at timestamptz, survives boolean, reason text)
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_judge_traits';
COMMENT ON FUNCTION cdp._judge_traits(record[], jsonb) IS 'internal: each candidate of cdp._survivors() and what became of it';

CREATE OR REPLACE FUNCTION cdp._has_trait_type(value jsonb, value_type text) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT CASE value_type
		WHEN 'integer' THEN jsonb_typeof(value) = 'number' AND value::numeric = trunc(value::numeric)
		WHEN 'date' THEN jsonb_typeof(value) = 'string' AND (value #>> '{}') ~ '^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$'
			AND substr(value #>> '{}', 9, 2)::int <= CASE
				WHEN substr(value #>> '{}', 6, 2) IN ('04', '06', '09', '11') THEN 30
				WHEN substr(value #>> '{}', 6, 2) <> '02' THEN 31
				WHEN substr(value #>> '{}', 1, 4)::int % 4 = 0 AND (substr(value #>> '{}', 1, 4)::int % 100 <> 0
					OR substr(value #>> '{}', 1, 4)::int % 400 = 0) THEN 29
				ELSE 28 END
		ELSE jsonb_typeof(value) = value_type END;
END;
COMMENT ON FUNCTION cdp._has_trait_type(jsonb, text) IS 'internal: whether a JSON value is of a type of cdp.trait_definition';

-- @access
('table', 'customer', 'SELECT', '{reader,application}'),
('function', '_survivors', 'EXECUTE', '{reader,application}'),
('function', 'explain_trait', 'EXECUTE', '{reader,application}'),
('function', 'set_traits', 'EXECUTE', '{operator,application}'),
('table', 'survivorship', 'SELECT', '{reader}'),
('table', 'survivorship', 'INSERT, UPDATE, DELETE', '{operator}'),
('table', 'trait_definition', 'SELECT', '{reader}'),
('table', 'trait_definition', 'INSERT, UPDATE, DELETE', '{operator}'),
('table', 'trait_reject', 'SELECT, DELETE', '{operator}'),

-- @data
PERFORM cdp._ensure_table('profile_trait', $t$ (
	profile_id  bigint NOT NULL,
	trait       text NOT NULL,
	source      text NOT NULL DEFAULT '',
	value       jsonb NOT NULL,
	observed_at timestamptz NOT NULL,
	PRIMARY KEY (profile_id, trait, source)
) $t$);
COMMENT ON TABLE cdp.profile_trait IS 'What was said: the last word of each source on each trait of each profile, with its time; JSON null: removed. View cdp.customer says what holds, by the rules of cdp.survivorship.';
COMMENT ON COLUMN cdp.profile_trait.profile_id IS 'the profile it was said of';
COMMENT ON COLUMN cdp.profile_trait.trait IS 'name of the trait';
COMMENT ON COLUMN cdp.profile_trait.source IS 'who said it; empty: nobody was named';
COMMENT ON COLUMN cdp.profile_trait.value IS 'what was said last; JSON null: removed by hand';
COMMENT ON COLUMN cdp.profile_trait.observed_at IS 'occurred_at of the sighting';

PERFORM cdp._ensure_table('survivorship', $t$ (
	trait    text PRIMARY KEY,
	strategy text NOT NULL DEFAULT 'newest' CHECK (strategy IN ('newest', 'oldest', 'source_rank', 'most_frequent', 'longest', 'min', 'max', 'union')),
	sources  text[] CHECK (array_position(sources, NULL) IS NULL),
	CONSTRAINT survivorship_sources_ranked CHECK (strategy <> 'source_rank' OR coalesce(cardinality(sources), 0) > 0)
) $t$);
COMMENT ON TABLE cdp.survivorship IS 'Which of several values of a trait is the customer''s: newest (also without a row), oldest, source_rank (sources lists them, best first), most_frequent, longest, min, max, union. Trait * is for all that have no row. A change holds at once. Ties are decided by source, then profile_id.';
COMMENT ON COLUMN cdp.survivorship.trait IS 'name of a trait; *: all that have no row';
COMMENT ON COLUMN cdp.survivorship.strategy IS 'which of several values survives';
COMMENT ON COLUMN cdp.survivorship.sources IS 'of source_rank: sources, the most trusted first; others ignore it';

PERFORM cdp._ensure_table('trait_definition', $t$ (
	trait      text PRIMARY KEY,
	value_type text NOT NULL CHECK (value_type IN ('string', 'number', 'integer', 'boolean', 'date', 'array', 'object')),
	required   boolean NOT NULL DEFAULT false,
	label      text
) $t$);
COMMENT ON TABLE cdp.trait_definition IS 'What a trait must look like. A trait without a row is not checked; a value of another type is kept out and counted in cdp.trait_reject; required ones are listed as missing in customer_360.';
COMMENT ON COLUMN cdp.trait_definition.trait IS 'name of the trait';
COMMENT ON COLUMN cdp.trait_definition.value_type IS 'JSON type, or integer, or date (YYYY-MM-DD)';
COMMENT ON COLUMN cdp.trait_definition.required IS 'listed as missing by cdp.customer_360() where it is not known';
COMMENT ON COLUMN cdp.trait_definition.label IS 'what to call it on a screen';

PERFORM cdp._ensure_table('trait_reject', $t$ (
	reject_id   bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	rejected_at timestamptz NOT NULL DEFAULT cdp.now(),
	trait       text NOT NULL,
	profile_id  bigint NOT NULL,
	source      text NOT NULL,
	found_type  text NOT NULL
) $t$);
CREATE INDEX IF NOT EXISTS trait_reject_trait ON cdp.trait_reject (trait);
COMMENT ON TABLE cdp.trait_reject IS 'Values that were kept out because cdp.trait_definition wants another type: trait, profile, source and the type found, never the value.';
COMMENT ON COLUMN cdp.trait_reject.reject_id IS 'number of the row';
COMMENT ON COLUMN cdp.trait_reject.rejected_at IS 'when';
COMMENT ON COLUMN cdp.trait_reject.trait IS 'which trait';
COMMENT ON COLUMN cdp.trait_reject.profile_id IS 'of whom it was said';
COMMENT ON COLUMN cdp.trait_reject.source IS 'who said it; empty: nobody was named';
COMMENT ON COLUMN cdp.trait_reject.found_type IS 'JSON type of the value';

-- @view
CREATE OR REPLACE FUNCTION cdp._put_traits(profile_ids bigint[], traits jsonb[], sources text[], observed_ats timestamptz[],
	removing boolean DEFAULT false) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan
AS $$
-- Keep the last word per profile, trait and source, and the newest of these in profile.traits.  The last is the one with
-- the greatest (observed_at, value), so that order of arrival does not matter.  A word said again takes its new time,
-- but what an application says of now with every call is written once per cdp.last_seen_resolution.  JSON null is not
-- given, or with removing a removal.  Values of the wrong type are kept out; answers how many.
DECLARE
	live       timestamptz := CASE WHEN NOT removing THEN cdp.now() END;
	resolution interval := current_setting('cdp.last_seen_resolution')::interval;
	w          record;
BEGIN
	IF EXISTS (SELECT FROM unnest(traits) t(o), jsonb_object_keys(t.o) k WHERE octet_length(k) > 200) THEN
		RAISE EXCEPTION 'the name of a trait is longer than 200 bytes' USING ERRCODE = 'program_limit_exceeded', HINT = 'Send a shorter one.';
	END IF;
	WITH said AS (
		SELECT u.profile_id, t.key AS trait, coalesce(u.source, '') AS source, t.value, u.at,
			d.value_type IS NULL OR t.value = 'null' OR cdp._has_trait_type(t.value, d.value_type) AS fits
		FROM unnest(profile_ids, traits, sources, observed_ats) u(profile_id, traits, source, at)
		CROSS JOIN LATERAL jsonb_each(u.traits) t
		LEFT JOIN cdp.trait_definition d ON d.trait = t.key
		WHERE removing OR t.value <> 'null'
	), kept_out AS (
		INSERT INTO cdp.trait_reject (trait, profile_id, source, found_type)
		SELECT s.trait, s.profile_id, s.source, jsonb_typeof(s.value) FROM said s WHERE NOT s.fits
		RETURNING 1
	), given AS (
		SELECT DISTINCT ON (s.profile_id, s.trait, s.source) s.* FROM said s WHERE s.fits
		ORDER BY s.profile_id, s.trait, s.source, s.at DESC, s.value::text COLLATE "C" DESC
	)
	SELECT array_agg(g.profile_id) AS ids, array_agg(g.trait) AS traits, array_agg(g.source) AS sources, array_agg(g.value) AS vals,
		array_agg(g.at) AS ats, (SELECT count(*) FROM kept_out) AS refused
	INTO w FROM given g
	LEFT JOIN cdp.profile_trait o ON (o.profile_id, o.trait, o.source) = (g.profile_id, g.trait, g.source)
	WHERE o.profile_id IS NULL
	   OR (g.at, g.value::text COLLATE "C") > (o.observed_at, o.value::text)
	      AND (g.at IS DISTINCT FROM live OR g.value::text <> o.value::text OR g.at >= o.observed_at + resolution);
	IF w.ids IS NOT NULL THEN
		-- first the profiles, ascending, as everybody who merges does
		PERFORM FROM cdp.profile p WHERE p.profile_id = ANY (w.ids) ORDER BY p.profile_id FOR NO KEY UPDATE;
		INSERT INTO cdp.profile_trait AS pt (profile_id, trait, source, value, observed_at)
		SELECT * FROM unnest(w.ids, w.traits, w.sources, w.vals, w.ats) g(profile_id, trait, source, value, at)
		ORDER BY g.profile_id, g.trait, g.source
		ON CONFLICT (profile_id, trait, source) DO UPDATE SET value = excluded.value, observed_at = excluded.observed_at
			WHERE (excluded.observed_at, excluded.value::text COLLATE "C") > (pt.observed_at, pt.value::text);
		UPDATE cdp.profile p SET traits = s.traits
		FROM (SELECT t.profile_id, cdp._survivors(array_agg(ROW(t.trait, t.value, t.source, t.observed_at, t.profile_id)), NULL) AS traits
		      FROM cdp.profile_trait t WHERE t.profile_id = ANY (w.ids) GROUP BY t.profile_id) s
		WHERE p.profile_id = s.profile_id AND p.traits::text <> s.traits::text;
	END IF;
	RETURN w.refused;
END $$;
COMMENT ON FUNCTION cdp._put_traits(bigint[], jsonb[], text[], timestamptz[], boolean) IS 'internal: records what sources say of profiles, with its time; the answer does not depend on the order of calls; answers how many values were of the wrong type';

CREATE OR REPLACE VIEW cdp.customer AS
SELECT p.profile_id AS customer_id,
	least(p.created_at, m.created_at) AS created_at,
	t.traits,
	p.profile_id || coalesce(m.profile_ids, '{}') AS profile_ids,
	greatest(p.created_at, t.observed_at) AS updated_at
FROM cdp.profile p
CROSS JOIN (SELECT jsonb_object_agg(s.trait, jsonb_build_array(s.strategy, s.sources)) AS object FROM cdp.survivorship s) rules
LEFT JOIN LATERAL (
	-- no join: nothing shall tempt the planner to read the profiles of others
	SELECT array_agg(a.profile_id ORDER BY a.profile_id) AS profile_ids,
		min((SELECT o.created_at FROM cdp.profile o WHERE o.profile_id = a.profile_id)) AS created_at
	FROM cdp.profile_alias a WHERE a.customer_id = p.profile_id
) m ON true
LEFT JOIN LATERAL (
	SELECT cdp._survivors(array_agg(ROW(t.trait, t.value, t.source, t.observed_at, t.profile_id)), rules.object) AS traits,
		max(t.observed_at) AS observed_at
	FROM cdp.profile_trait t WHERE t.profile_id = ANY (p.profile_id || m.profile_ids)
) t ON true
WHERE NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = p.profile_id);
COMMENT ON VIEW cdp.customer IS 'One row per One ID: customer_id, created_at (first sighting), traits (of each trait the value that survives over all profiles and sources, by cdp.survivorship), profile_ids (the One ID first), updated_at (last word about a trait, or created_at).';
COMMENT ON COLUMN cdp.customer.customer_id IS 'the One ID';
COMMENT ON COLUMN cdp.customer.created_at IS 'first sighting of any of the profiles';
COMMENT ON COLUMN cdp.customer.traits IS 'object of trait and surviving value; {} when nothing is known';
COMMENT ON COLUMN cdp.customer.profile_ids IS 'all profiles, the One ID first, the others ascending';
COMMENT ON COLUMN cdp.customer.updated_at IS 'time of the last word about any trait, or created_at';
COMMENT ON COLUMN cdp.profile.traits IS 'newest traits of this profile alone, for searching; what holds of the customer is in view cdp.customer';

CREATE OR REPLACE FUNCTION cdp.explain_trait(customer_id bigint, trait text) RETURNS TABLE (value jsonb, source text, profile_id bigint,
	observed_at timestamptz, survives boolean, reason text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 5 SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._require_version();
	RETURN QUERY SELECT j.value, j.source, j.profile_id, j.observed_at, j.survives, j.reason
		FROM cdp._judge_traits(
			(SELECT array_agg(ROW(t.trait, t.value, t.source, t.observed_at, t.profile_id)) FROM cdp.profile_trait t
			 WHERE t.trait = explain_trait.trait AND t.profile_id IN (SELECT cdp.profiles_of(explain_trait.customer_id))),
			(SELECT jsonb_object_agg(s.trait, jsonb_build_array(s.strategy, s.sources)) FROM cdp.survivorship s)) j
		ORDER BY j.survives DESC, j.source COLLATE "C", j.profile_id;
END $$;
COMMENT ON FUNCTION cdp.explain_trait(bigint, text) IS 'Why a trait of a customer is what it is: one row per word of a source on one of his profiles, value (JSON null: removed), source, profile_id, observed_at; survives says whether its value is the one in view cdp.customer, or part of it (none does when the trait has no value); reason in words. Any id that ever was this customer is accepted; no rows for a trait nobody spoke of, an id that never existed, and NULL.';

CREATE OR REPLACE FUNCTION cdp.set_traits(customer_id bigint, traits jsonb, source text DEFAULT 'operator') RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id   bigint := cdp.customer_id(customer_id);
	last timestamptz;
	n    bigint;
BEGIN
	PERFORM cdp._require_version();
	IF customer_id IS NULL THEN
		RAISE EXCEPTION 'customer_id must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'cdp.resolve() answers NULL when nobody has the identifier.';
	ELSIF traits IS NULL OR jsonb_typeof(traits) <> 'object' THEN
		RAISE EXCEPTION 'traits must be an object' USING ERRCODE = CASE WHEN traits IS NULL THEN 'null_value_not_allowed' ELSE 'invalid_parameter_value' END,
			HINT = 'For example {"city": "上海", "nickname": null}; null removes a trait.';
	ELSIF octet_length(source) > 200 THEN
		RAISE EXCEPTION 'source is longer than 200 bytes' USING ERRCODE = 'program_limit_exceeded', HINT = 'Send a shorter one.';
	ELSIF NOT EXISTS (SELECT FROM cdp.profile p WHERE p.profile_id = id) THEN
		RAISE EXCEPTION 'there is no customer %', customer_id USING ERRCODE = 'invalid_parameter_value',
			HINT = 'cdp.search_customers() finds the id.';
	END IF;
	-- what is set by hand is newer than all that was said before, be it by a clock that goes ahead
	last := (SELECT max(t.observed_at) + interval '1 microsecond' FROM cdp.profile_trait t
		WHERE t.profile_id IN (SELECT cdp.profiles_of(id)) AND t.trait IN (SELECT jsonb_object_keys(traits)));
	n := cdp._put_traits(ARRAY[id], ARRAY[traits], ARRAY[coalesce(source, 'operator')], ARRAY[greatest(cdp.now(), last)], true);
	IF n > 0 THEN
		RAISE WARNING '% of the traits were kept out because of their type', n USING HINT = 'cdp.trait_definition says which type a trait has.';
	END IF;
	RETURN id;
END $$;
COMMENT ON FUNCTION cdp.set_traits(bigint, jsonb, text) IS 'Sets traits of a customer by hand: object of trait and value, JSON null removes a trait. It counts as newer than all that was said of these traits before; where cdp.survivorship does not go by time, source decides: who says so. Any id that ever was this customer is accepted; answers the One ID. A value of another type than cdp.trait_definition wants is kept out, counted, and gives a warning. Errors: 22004 NULL customer or traits, 22023 not an object or unknown customer, 54000 a source or the name of a trait is longer than 200 bytes.';
