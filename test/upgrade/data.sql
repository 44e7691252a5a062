-- Rows for the check that no way to this version loses or doubles any.
INSERT INTO cdp.profile (traits) SELECT jsonb_build_object('name', '客户 ' || i) FROM generate_series(1, 50) i;
INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen)
	SELECT 'member_id', 'm-' || profile_id, profile_id, cdp.now(), cdp.now() FROM cdp.profile;
INSERT INTO cdp.profile_alias (profile_id, customer_id) SELECT profile_id, profile_id - 1 FROM cdp.profile WHERE profile_id % 10 = 0;
INSERT INTO cdp.event (profile_id, name, occurred_at, properties)
	SELECT profile_id, 'Product Viewed', cdp.now() - n * interval '17 days', jsonb_build_object('n', n)
	FROM cdp.profile, generate_series(1, 10) n;
