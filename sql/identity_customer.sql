-- identity_customer: reading through the One ID.
-- C: src/identity_customer.c  Page: doc/identity.md  Tests: test/sql/identity_customer.sql

-- @code
-- the cost of an addition is what it has in bulk; with a higher one the planner takes parallel plans that send every row
CREATE OR REPLACE FUNCTION cdp.customer_id(profile_id bigint) RETURNS bigint
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_customer_id';
COMMENT ON FUNCTION cdp.customer_id(bigint) IS 'The One ID of a profile: the customer it was merged into, or itself. Any id that ever was a customer answers; an id that never existed is answered as it is. NULL for NULL. Reads with the snapshot of the query. A query that asks for many reads all merged profiles once and keeps them, up to cdp.alias_cache_limit, until it ends: GROUP BY cdp.customer_id(profile_id) costs about what GROUP BY profile_id does. Not for indexes: a merge changes the answer.';

CREATE OR REPLACE FUNCTION cdp.profiles_of(customer_id bigint) RETURNS SETOF bigint
	LANGUAGE c STABLE STRICT PARALLEL SAFE ROWS 4 AS 'MODULE_PATHNAME', 'cdp_profiles_of';
COMMENT ON FUNCTION cdp.profiles_of(bigint) IS 'All profiles of the customer to whom an id belongs, the One ID first, the others ascending: facts WHERE profile_id IN (SELECT cdp.profiles_of(7)) uses the index of the facts. Any id that ever was this customer is accepted; no rows for an id that never existed and for NULL.';

CREATE OR REPLACE FUNCTION cdp._existing_customer(customer_id bigint) RETURNS bigint
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	one bigint;
BEGIN
	IF customer_id IS NULL THEN
		RAISE EXCEPTION 'customer_id must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'cdp.resolve() answers NULL when nobody has the identifier.';
	END IF;
	SELECT coalesce(a.customer_id, p.profile_id) INTO one FROM cdp.profile p LEFT JOIN cdp.profile_alias a USING (profile_id)
		WHERE p.profile_id = _existing_customer.customer_id;
	IF one IS NULL THEN
		RAISE EXCEPTION 'there is no customer %', customer_id USING ERRCODE = 'foreign_key_violation',
			HINT = 'Any id that ever was a customer or a profile will do; cdp.resolve(kind, value) finds one.';
	END IF;
	RETURN one;
END $$;
COMMENT ON FUNCTION cdp._existing_customer(bigint) IS 'internal: the One ID of any id of a customer; 22004 NULL, 23503 unknown';

-- @access
('function', 'customer_id', 'EXECUTE', '{reader,application}'),
('function', 'profiles_of', 'EXECUTE', '{reader,application}'),
('function', 'identifiers_of', 'EXECUTE', '{application,operator}'),

-- @view
CREATE OR REPLACE FUNCTION cdp.identifiers_of(customer_id bigint) RETURNS TABLE (kind text, value text, profile_id bigint,
	first_seen timestamptz, last_seen timestamptz, source text, valid_to timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 10 SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._require_version();
	RETURN QUERY SELECT i.kind, i.value, i.profile_id, i.first_seen, i.last_seen, i.source, i.valid_to
		FROM cdp.profiles_of(identifiers_of.customer_id) p(id)
		JOIN cdp.identifier i ON i.profile_id = p.id
		LEFT JOIN cdp.identifier_kind k ON k.kind = i.kind
		ORDER BY i.valid_to IS NOT NULL, k.priority, i.kind, i.first_seen, i.value COLLATE "C", i.identifier_id;
END $$;
COMMENT ON FUNCTION cdp.identifiers_of(bigint) IS 'Every identifier of a customer, normalised, over all profiles: kind, value, the profile it belongs to, first and last sighting, who said so, and valid_to, NULL for those that count now. History is included: a phone that went to somebody else keeps its row. Those that count come first, strongest kind first. Any id that ever was this customer is accepted; no rows for an id that never existed and for NULL. Shows personal data.';
