-- cdp.match_profiles, decide_match, match_queue: zones, what is asked and what never again, who may
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET cdp.now = '2026-01-01 00:00:00Z';
SET extra_float_digits = 0;

-- 40 customers nobody is alike, then three pairs: 41/42 are sure, 43/44 and 45/46 doubtful
SELECT count(*) FROM generate_series(1, 40) i, LATERAL cdp.identify(jsonb_build_object('member_id', 'm' || i),
	jsonb_build_object('name', 'name' || md5(i::text), 'birthday', (date '1960-01-01' + i * 37)::text, 'city', 'c' || i % 8));
SELECT i, cdp.identify(jsonb_build_object('member_id', 'm' || i, 'phone', '138000000' || i), t::jsonb) FROM (VALUES
	(41, '{"name": "欧阳修", "birthday": "1980-05-05", "city": "庐陵"}'), (42, '{"name": "歐陽修", "birthday": "1980-05-05", "city": "庐陵"}'),
	(43, '{"name": "王安石", "birthday": "1981-12-18", "city": "临川"}'), (44, '{"name": "王安石", "birthday": "1971-02-20", "city": "临川"}'),
	(45, '{"name": "苏轼", "birthday": "1987-01-08", "city": "眉山"}'), (46, '{"name": "苏辙", "birthday": "1987-01-08", "city": "眉山"}')) v(i, t) ORDER BY i;
INSERT INTO cdp.match_model (name, comparisons, blocking) VALUES ('person',
	'[{"column": "name", "kind": "han_name"}, {"column": "birthday", "kind": "date"}, {"column": "city", "kind": "text"}]',
	ARRAY['l.birthday = r.birthday', 'l.name = r.name', 'l.city = r.city']);
SELECT name, options, fitted, fitted_at, owner = current_user AS mine FROM cdp.match_model;
SELECT left_id, right_id, zone, probability FROM cdp.match_profiles('person', 0.9, 0.05);
SELECT left_id, right_id, zone FROM cdp.match_profiles('person', 0.9, 0.05, true);
SELECT count(*) FROM cdp.match_candidate;
