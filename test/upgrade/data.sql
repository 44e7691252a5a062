-- Rows for the check that no way to this version loses or doubles any.
SELECT count(cdp.identify(jsonb_build_object('anonymous_id', 'c-' || i), jsonb_build_object('name', '客户 ' || i)))
	FROM generate_series(1, 50) i;
-- every fifth cookie logs in: two profiles, one customer
SELECT count(cdp.identify(jsonb_build_object('anonymous_id', 'c-' || i, 'member_id', 'm-' || i), '{}', 'shop'))
	FROM generate_series(5, 50, 5) i;
SELECT sum(cdp.track_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('anonymous_id', 'c-' || i),
	'name', 'Page Viewed', 'message_id', i || '/' || n, 'occurred_at', cdp.now() - n * interval '17 days', 'properties', jsonb_build_object('n', n)))
	FROM generate_series(1, 50) i))) FROM generate_series(1, 10) n;
INSERT INTO cdp.survivorship (trait, strategy, sources) VALUES ('name', 'source_rank', '{crm,shop}'), ('*', 'newest', NULL);
