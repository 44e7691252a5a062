-- tags and segments of a customer in customer_360() and timeline()
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET cdp.now = '2026-03-01 09:00:00+00';
SELECT cdp.identify('{"anonymous_id": "a-1"}', '{}', 'web', '2026-01-01 10:00+00') AS cookie;
SELECT cdp.identify('{"member_id": "m-1"}', '{"name": "王芳"}', 'web', '2026-01-02 10:00+00') AS member;
-- nothing yet
SELECT cdp.customer_360(1) -> 'tags' AS tags, cdp.customer_360(1) -> 'segments' AS segments, cdp.customer_360(99) AS nobody;
SELECT cdp.define_tag('vip', emits_events => true);
SELECT cdp.define_tag('aov', value_type => 'number');
SELECT cdp.add_tag(1, 'region.华东.上海', source => 'shop'), cdp.add_tag(1, 'churn_risk', '0.83', '2026-03-10 00:00+00', 'model'),
	cdp.add_tag(2, 'aov', '1280.5'), cdp.add_tag(2, 'joined', '2026-01-02'), cdp.add_tag(2, 'grade', 'gold'), cdp.add_tag(2, 'vip');
SELECT cdp.define_segment('east', 'region.华东.*'), cdp.define_segment('at risk', 'churn_risk > 0.5');
CALL cdp.refresh_segments();
SET cdp.now = '2026-03-02 09:00:00+00';
SELECT cdp.add_tag(2, 'aov', '990'), cdp.remove_tag(2, 'grade');
SELECT jsonb_pretty(cdp.customer_360(2) -> 'tags') AS tags, cdp.customer_360(2) -> 'segments' AS segments;
SELECT cdp.customer_360(1) -> 'tags' AS tags, cdp.customer_360(1) -> 'segments' AS segments;
SELECT to_char(at, 'MM-DD HH24:MI'), kind, title, detail FROM cdp.timeline(2);
-- one customer: the tags and the past of both
SELECT cdp.merge_customers(1, 2, 'the same person');
SET cdp.now = '2026-03-10 00:00:00+00';
CALL cdp.merge_tags();
CALL cdp.refresh_segments();
SELECT cdp.customer_360(1) = cdp.customer_360(2) AS same, cdp.customer_360(2) -> 'tags' ? 'churn_risk' AS expired_is_out, cdp.customer_360(2) -> 'segments' AS segments;
SELECT string_agg(k, ', ' ORDER BY k COLLATE "C") AS tags FROM jsonb_object_keys(cdp.customer_360(2) -> 'tags') k;
SELECT to_char(at, 'MM-DD HH24:MI'), kind, title, detail ->> 'source' AS source FROM cdp.timeline(1);
-- the moment before it was there
SET cdp.now = '2026-03-09 23:59:59+00';
SELECT cdp.customer_360(1) #> '{tags,churn_risk}' AS churn_risk;
-- the range, and where it stops
SELECT title FROM cdp.timeline(1, '2026-03-02 00:00+00', '2026-03-03 00:00+00') WHERE kind = 'tag';
SELECT kind, title FROM cdp.timeline(1, max_rows => 2);
SELECT title FROM cdp.timeline(1, '2026-03-01 09:00+00', '2026-03-10 00:00+00') WHERE kind = 'segment';
-- such events are told once, those of another's are his
SELECT cdp.track('{"member_id": "m-1"}', 'Tag Added', '{"tag": "theirs"}', '2026-03-05 00:00+00', source => 'crm') > 0 AS theirs,
	cdp.track('{"member_id": "m-1"}', 'Segment Entered', '{}', '2026-03-05 01:00+00') > 0 AS nobodys;
SELECT count(*) AS in_the_log FROM cdp.event WHERE name IN ('Tag Added', 'Segment Entered', 'Segment Left');
SELECT to_char(at, 'MM-DD'), kind, title, detail ->> 'source' AS source FROM cdp.timeline(1) WHERE kind = 'event';
SELECT cdp.customer_360(1) #>> '{events,0,name}' AS last, jsonb_array_length(cdp.customer_360(1) -> 'events') AS events;
-- a timeline of many profiles leaves the same ones out
SELECT count(*) AS events FROM cdp._timeline_event(ARRAY(SELECT generate_series(1, 40)::bigint), '-infinity', 'infinity', 100);
-- readers may, applications have no view of everything
CREATE ROLE regress_cdp_reader;
SELECT cdp.grant_access('reader', 'regress_cdp_reader');
SET ROLE regress_cdp_reader;
SELECT cdp.customer_360(1) ? 'tags' AS tags, cdp.customer_360(1) ? 'segments' AS segments;
SELECT count(*) FILTER (WHERE kind = 'tag') > 0 AS tags, count(*) FILTER (WHERE kind = 'segment') > 0 AS segments FROM cdp.timeline(1);
RESET ROLE;
SELECT cdp.revoke_access('reader', 'regress_cdp_reader');
DROP ROLE regress_cdp_reader;
RESET cdp.now;
DROP EXTENSION customer_cdp CASCADE;
DROP SCHEMA cdp CASCADE;
