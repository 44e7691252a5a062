-- segment(name) in a tagquery, answered from rows: matches_customer, explain_tags and customers whose tags no merge has met,
-- against bitmaps and against plain SQL over the members
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET cdp.now = '2026-03-01 00:00:00+00';
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 40) i;
SELECT count(*) FROM (SELECT cdp.add_tag(i, 'vip') FROM generate_series(1, 40, 2) i UNION ALL SELECT cdp.add_tag(i, 'aov', (i * 10)::text) FROM generate_series(1, 30) i
	UNION ALL SELECT cdp.add_tag(i, 'soon', valid_until => '2026-03-02Z') FROM generate_series(5, 15) i) t;
CREATE TABLE fans AS SELECT i::bigint AS customer_id FROM generate_series(10, 25) i;
SELECT cdp.define_segment('rich', 'aov > 100', holdout_percent => 50), cdp.define_segment('fans, "all"', 'TABLE fans'),
	cdp.define_segment('nested', 'segment(rich) & !segment("fans, ""all""")'), cdp.define_segment('soon', 'soon'), cdp.define_segment('empty', 'nobody'),
	cdp.define_segment('never', 'vip', refresh_every => NULL), cdp.define_static_segment('list', '{1-3,39,40}');
CALL cdp.merge_tags();
CALL cdp.refresh_segments();

-- each question, and what it asks for in plain SQL: members are those of the last refresh, tags those of now
CREATE TABLE question (q cdp.tagquery, n int GENERATED ALWAYS AS IDENTITY, judge text);
INSERT INTO question (q, judge) VALUES
	('segment(rich)', 'rich'), ('!segment(rich)', 'NOT rich'), ('segment("fans, ""all""")', 'fans'), ('segment(nested) | segment(list)', 'nested OR list'),
	('segment(never)', 'false'), ('!segment(empty)', 'true'), ('segment(rich) & vip', 'rich AND vip'), ('segment(rich) & !aov > 100', 'rich AND NOT aov > 100'),
	('!segment(list) & (soon | segment(nested)) & !vip', 'NOT list AND (soon OR nested) AND NOT vip'), ('segment(soon) & !soon', 'expired AND NOT soon'),
	('(segment(rich) | segment("fans, ""all""")) & !(segment(rich) & segment("fans, ""all"""))', 'rich <> fans'),
	('!(!segment(rich) | !segment("fans, ""all""") | segment(list))', 'rich AND fans AND NOT list'), ('* & segment(list)', 'list');
-- customers for whom the three differ
CREATE FUNCTION differ() RETURNS TABLE (q text, by_row text, by_bitmap text, by_sql text) LANGUAGE plpgsql AS $$
DECLARE
	a record;
	judged cdp.audience;
	rows cdp.audience;
BEGIN
	FOR a IN SELECT * FROM question ORDER BY n LOOP
		EXECUTE format('SELECT coalesce(cdp.audience_agg(customer_id), ''{}'') FROM (SELECT c.customer_id, cdp.tagset_matches(t.tags, ''vip'', cdp.now()) AS vip,
				cdp.tagset_matches(t.tags, ''soon'', cdp.now()) AS soon, coalesce(cdp.tag_number(t.tags, ''aov''), 0) AS aov,
				EXISTS (SELECT FROM cdp.segment_members(''rich'') m WHERE m = c.customer_id) AS rich, c.customer_id IN (SELECT cdp.segment_members(''fans, "all"'')) AS fans,
				c.customer_id IN (SELECT cdp.segment_members(''nested'')) AS nested, c.customer_id IN (SELECT cdp.segment_members(''list'')) AS list,
				c.customer_id IN (SELECT cdp.segment_members(''soon'')) AS expired
			FROM cdp.customer c JOIN cdp.customer_tag t USING (customer_id)) x WHERE %s', a.judge) INTO judged;
		SELECT coalesce(cdp.audience_agg(c.customer_id), '{}') INTO rows FROM cdp.customer c WHERE cdp.matches_customer(c.customer_id, a.q);
		IF rows OPERATOR(cdp.<>) judged OR cdp.audience_of(a.q) OPERATOR(cdp.<>) judged OR cdp.count_customers(a.q) <> cdp.audience_count(judged) THEN
			RETURN QUERY SELECT a.q::text, rows::text, cdp.audience_of(a.q)::text, judged::text;
		END IF;
	END LOOP;
END $$;
SELECT * FROM differ();
SELECT n, q, cdp.audience_of(q) FROM question ORDER BY n;
-- tags that no merge has met: these customers are answered from their rows
SELECT count(*) FROM (SELECT cdp.remove_tag(i, 'aov') FROM generate_series(11, 20) i UNION ALL SELECT cdp.add_tag(i, 'vip') FROM generate_series(2, 40, 4) i
	UNION ALL SELECT cdp.add_tag(cdp.identify(jsonb_build_object('member_id', 'n' || i)), 'aov', '500') FROM generate_series(1, 3) i) t;
SELECT * FROM differ();
SELECT n, q, cdp.audience_of(q) FROM question WHERE n IN (1, 8, 9) ORDER BY n;
-- an entry ended: its segment has not heard of it
SET cdp.now = '2026-03-02 00:00:00+00';
SELECT * FROM differ();
SELECT cdp.matches_customer(7, 'segment(soon)'), cdp.matches_customer(7, 'soon'), cdp.matches_customer(7, 'soon', '2026-03-01Z'), cdp.audience_of('segment(soon) & !soon');
CALL cdp.merge_tags();
SELECT * FROM differ();
CALL cdp.refresh_segments();
SELECT * FROM differ();
SELECT cdp.matches_customer(7, 'segment(soon)'), cdp.matches_customer(14, 'segment(rich)');
-- merged customers are asked for under any of their ids, and are members when one of them was
SELECT cdp.merge_customers(31, 1, 'x'), cdp.merge_customers(2, 24, 'x');
SELECT * FROM differ();
SELECT i, cdp.matches_customer(i, 'segment(list)') AS list, cdp.matches_customer(i, 'segment("fans, ""all""") & !segment(rich)') AS fans FROM unnest('{1,31,2,24,3}'::bigint[]) i;
CALL cdp.refresh_segments('list');
SELECT * FROM differ();
SELECT cdp.unmerge_customer(1, 'x'), cdp.unmerge_customer(24, 'x');
SELECT * FROM differ();
SELECT i, cdp.matches_customer(i, 'segment(list)') AS list FROM unnest('{1,31,2,24,3}'::bigint[]) i;
-- one who is deleted
DELETE FROM cdp.identifier WHERE profile_id = 3;
DELETE FROM cdp.profile WHERE profile_id = 3;
SELECT * FROM differ();
SELECT cdp.matches_customer(3, 'segment(list)');
-- inside a transaction, members that it made itself
BEGIN;
SELECT cdp.define_static_segment('list', '{5,6}');
SELECT * FROM differ();
SELECT cdp.matches_customer(5, 'segment(list)'), cdp.count_customers('segment(list)');
ROLLBACK;
SELECT cdp.matches_customer(5, 'segment(list)'), cdp.count_customers('segment(list)');

-- explained in the order of the text; only a term about tags has a value
SELECT * FROM cdp.explain_tags(25, 'segment("fans, ""all""") & !segment(rich) | vip & aov > 100 & segment(never)');
SELECT * FROM cdp.explain_tags(1, 'segment(list)');
SELECT count(*) AS wrong FROM cdp.customer c, question, LATERAL cdp.explain_tags(c.customer_id, question.q) e
	WHERE e.holds IS DISTINCT FROM cdp.matches_customer(c.customer_id, e.term::cdp.tagquery);
-- what no tagset can tell, and what is no segment: also where another term has decided already
SELECT cdp.tagset_matches('vip', 'vip | segment(rich)', now());
SELECT cdp.matches_customer(1, 'vip | segment(nix)');
SELECT cdp.explain_tags(1, 'segment(nix)');
SELECT cdp.count_customers('!vip & vip & segment(nix)');
SELECT cdp.matches_customer(1, 'segment("Rich")');
SELECT cdp.overlap_customers('{segment(rich),segment(nix)}');
SELECT * FROM cdp.overlap_customers('{segment(rich),!segment(rich),"segment(list) | vip"}') ORDER BY i, j;
DROP FUNCTION differ();
DROP TABLE fans, question;
