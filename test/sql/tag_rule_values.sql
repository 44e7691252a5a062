-- values that a rule may give: every type of SQL that stands for one of a tag, what a tag cannot hold, and what a value that
-- changes, or changes its type, writes
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET cdp.now = '2026-03-01 00:00:00+00';
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 4) i;
CREATE TABLE given (id bigint, s smallint, i int, b bigint, r real, f float8, n numeric, d date, t text, until timestamptz);
INSERT INTO given VALUES (1, -7, 2000000, 9007199254740992, 0.1, 1e300, 1280.50, '2019-05-01', '12.5', '2026-04-01Z'),
	(2, 0, -1, -5, -2.5, 0.30000000000000004, 0, '0001-01-01', '-3', 'infinity'),
	(3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
-- each by itself: without a declared type it is what it is, with one it is made that
SELECT count(cdp.define_tag('as_is.' || c, rule => format('SELECT id AS customer_id, %s AS value FROM given', c), value_type => CASE c WHEN 'd' THEN 'date' WHEN 't' THEN 'text' ELSE 'number' END)),
	count(cdp.define_tag('text.' || c, value_type => 'text', rule => format('SELECT id AS customer_id, %s AS value FROM given', c)))
	FROM unnest('{s,i,b,r,f,n,d,t}'::text[]) c;
SELECT cdp.define_tag('number.t', value_type => 'number', rule => 'SELECT id AS customer_id, t AS value FROM given'),
	cdp.define_tag('date.t', value_type => 'date', rule => 'SELECT id AS customer_id, d::text AS value FROM given'),
	cdp.define_tag('until', value_type => 'number', rule => 'SELECT id AS customer_id, s AS value, until AS valid_until FROM given');
CALL cdp.refresh_tags();
SELECT name, last_error FROM cdp.tag WHERE last_error IS NOT NULL ORDER BY name;
SELECT customer_id, e.* FROM cdp.customer_tag c, cdp.tagset_entries(c.tags) e ORDER BY 2, 1;
-- the same again writes nothing
SELECT max(change_id) AS last FROM cdp.tag_history \gset
CALL cdp.refresh_tags();
SELECT count(*) AS written FROM cdp.tag_history WHERE change_id > :last;
-- a value that changes, one that comes and one that goes
UPDATE given SET i = i + 1, d = d + 1, t = CASE id WHEN 1 THEN '12.6' ELSE t END WHERE id < 3;
UPDATE given SET s = 9, until = '2026-03-02Z' WHERE id = 3;
UPDATE given SET until = '2026-02-01Z' WHERE id = 2;
CALL cdp.refresh_tags();
SELECT tag, profile_id, change, value, value_type, valid_until FROM cdp.tag_history WHERE change_id > :last ORDER BY tag, profile_id;
-- what a tag cannot hold leaves it as it was, and stands in last_error; by name it is an error
SELECT cdp.define_tag('strict', value_type => 'number', rule => 'SELECT id AS customer_id, i AS value FROM given');
CALL cdp.refresh_tags('strict');
CREATE FUNCTION refused(type text, sql text) RETURNS TABLE (changed bigint, state text, message text, hint text) LANGUAGE plpgsql AS $$
BEGIN
	UPDATE cdp.tag SET value_type = type, rule = 'SELECT id AS customer_id, ' || sql || ' FROM given WHERE id = 1' WHERE name = 'strict';
	RETURN QUERY SELECT * FROM cdp._refresh_tag('strict', false);
	IF (SELECT t.last_error IS NULL FROM cdp.tag t WHERE t.name = 'strict') OR (SELECT count(*) FROM cdp.profile_tag p WHERE p.tags OPERATOR(cdp.@@) 'strict') <> 2 THEN
		RAISE 'the tag was touched';
	END IF;
END $$;
SELECT t.*, r.* FROM (VALUES ('number', '''1.2.3'' AS value'), ('number', '''1234567890123456'' AS value'), ('number', '''NaN''::float8 AS value'), ('number', '''-Infinity''::real AS value'),
	('number', '''1e400''::numeric AS value'), ('number', 'd AS value'), ('date', 's AS value'), ('date', '''2026-02-30'' AS value'), ('date', '''infinity''::date AS value'),
	('date', '''0001-01-01 BC''::date AS value'), ('text', 'repeat(''x'', 256) AS value'), ('number', 's AS value, ''294276-01-01Z''::timestamptz AS valid_until')) t(type, sql),
	LATERAL refused(t.type, t.sql) r;
SELECT profile_id, cdp.tag_value(tags, 'strict') FROM cdp.profile_tag WHERE tags OPERATOR(cdp.@@) 'strict' ORDER BY 1;
CALL cdp.refresh_tags('strict');
-- another type: every value is said anew
SELECT cdp.define_tag('as_is.i', value_type => 'text', rule => 'SELECT id AS customer_id, i AS value FROM given');
CALL cdp.refresh_tags('as_is.i');
SELECT profile_id, tags OPERATOR(cdp.@@) 'as_is.i = "2000001"' AS as_text, tags OPERATOR(cdp.@@) 'as_is.i = 2000001' AS as_number FROM cdp.profile_tag WHERE profile_id = 1;
-- more rows than room was made for at first; the largest value of a customer counts
SELECT cdp.define_tag('many', value_type => 'number', rule => 'SELECT 1 + i % 4 AS customer_id, i AS value FROM generate_series(1::bigint, 5000) i');
CALL cdp.refresh_tags('many');
SELECT customer_id, cdp.tag_number(tags, 'many') FROM cdp.customer_tag ORDER BY 1;
CALL cdp.merge_tags();
SELECT * FROM cdp.verify_tags();
DROP TABLE given CASCADE;
DROP FUNCTION refused;
