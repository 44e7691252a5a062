-- what happened, to whom, when, once
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'America/New_York';
SET cdp.now = '2026-03-01 09:00:00+08';
SELECT cdp.track('{"member_id": "m-1"}', 'Product Viewed', '{"product_id": "p1", "price": 9.9}', message_id => 'x-1', source => 'web', channel => 'app') AS first;
-- the same message is one event, also when it says another time
SELECT cdp.track('{"member_id": "m-1"}', 'Product Viewed', '{"product_id": "p1"}', '2026-01-05 00:00+08', 'x-1', 'web') AS again;
-- of another source it is another event; no source is one source
SELECT cdp.track('{"member_id": "m-1"}', 'Page Viewed', message_id => 'x-1') AS none, cdp.track('{"member_id": "m-1"}', 'Page Viewed', message_id => 'x-1', source => '') AS none_again;
-- without message_id each is an event
SELECT cdp.track('{"member_id": "m-1"}', 'Page Viewed') <> cdp.track('{"member_id": "m-1"}', 'Page Viewed') AS two;
SELECT event_id, profile_id, name, occurred_at AT TIME ZONE 'UTC' AS at, properties, message_id, source, channel FROM cdp.event ORDER BY event_id;
-- the window: what is older than it is news
SET cdp.now = '2026-04-15 09:00:00+08';
SELECT cdp.track('{"member_id": "m-1"}', 'Product Viewed', '{"product_id": "p1"}', message_id => 'x-1', source => 'web') > 5 AS new_again;
SET cdp.now = '2026-03-01 09:00:00+08';
-- a batch; duplicates inside it; times without offset are of cdp.timezone
SELECT cdp.track_many('[{"identifiers": {"phone": "13800000001"}, "name": "Product Added", "properties": {"product_id": "p2"}, "message_id": "b-1", "occurred_at": "2026-02-28 10:00"},
	{"identifiers": {"phone": "138 0000 0001"}, "name": "Product Added", "properties": {"product_id": "p2"}, "message_id": "b-1"},
	{"identifiers": {"anonymous_id": "c"}, "name": "Page Viewed", "traits": {"city": "上海"}}]') AS new_events;
SELECT profile_id, name, occurred_at AT TIME ZONE 'UTC' AS at, message_id FROM cdp.event WHERE event_id > (SELECT max(event_id) - 3 FROM cdp.event) ORDER BY event_id;
SELECT cdp.track_many('[]');
-- bad items: raise says which and keeps nothing, reject keeps them
SELECT count(*) AS before FROM cdp.event \gset
SELECT cdp.track_many('[{"identifiers": {"phone": "13800000001"}, "name": "Page Viewed"}, {"identifiers": {"phone": "13800000001"}}]');
SELECT count(*) - :before AS added FROM cdp.event;
SELECT cdp.track_many('[{"identifiers": {"phone": "13800000001"}, "name": "Page Viewed"}, {"identifiers": {"phone": "13800000001"}}, 5, {"x": 1},
	{"identifiers": {"phone": "13800000001"}, "name": "Page Viewed", "occurred_at": "the day before"},
	{"identifiers": {"phone": "13800000001"}, "name": "Page Viewed", "properties": [1]},
	{"identifiers": {}, "name": "Page Viewed"}, {"identifiers": {"phone": 1}, "name": "Page Viewed"},
	{"identifiers": {"phone": "13800000001"}, "name": "Page Viewed", "occurred_at": "infinity"}]', 'reject') AS taken;
SELECT ord, status, sqlstate, reason, item FROM cdp.event_reject ORDER BY ord;
DELETE FROM cdp.event_reject;
-- the tracking plan
INSERT INTO cdp.event_schema (name, required, properties, traits, mode) VALUES
	('Q', '{a}', '{"a": "integer", "b": "date"}', '{b}', 'quarantine'), ('R', '{a}', '{}', '{}', 'reject');
SELECT cdp.track('{"member_id": "m-1"}', 'Product Viewed', '{"price": 1}') IS NOT NULL AS warned;
SELECT cdp.track('{"member_id": "m-1"}', 'Q', '{"a": 1.5}', message_id => 'q') AS quarantined;
SELECT cdp.track('{"member_id": "m-1"}', 'Q', '{"a": 1, "b": "2026-01-01"}', message_id => 'q2') IS NOT NULL AS fine;
SELECT traits FROM cdp.customer WHERE customer_id = cdp.resolve('member_id', 'm-1');
SELECT cdp.track('{"member_id": "m-1"}', 'R', '{}');
SELECT cdp.track_many('[{"identifiers": {"member_id": "m-1"}, "name": "R"}, {"identifiers": {"member_id": "m-1"}, "name": "Q"}, {"identifiers": {"member_id": "m-1"}, "name": "Q", "properties": {"a": 3}}]', 'reject');
-- the clock
SELECT cdp.track('{"member_id": "m-1"}', 'Page Viewed', occurred_at => '2026-03-04 09:00+08') AS future;
SELECT ord, name, status, sqlstate, reason, item FROM cdp.event_reject ORDER BY reject_id;
SELECT reject_id, event_id, received_at INTO TEMP kept FROM cdp.event_reject;
UPDATE cdp.event_schema SET properties = '{}', required = '{}' WHERE name IN ('Q', 'R');
SELECT cdp.retry_rejects('Q') AS only_q;
SET cdp.now = '2026-03-05 09:00:00+08';
SELECT cdp.retry_rejects() AS the_rest;
SELECT count(*) AS same_ids_and_times FROM kept JOIN cdp.event USING (event_id, received_at);
SELECT count(*) AS left_over FROM cdp.event_reject;
INSERT INTO cdp.event_schema (name, properties) VALUES ('Z', '{"a": "text"}');
-- refused
SELECT cdp.track('{"member_id": "m-1"}', NULL);
SELECT cdp.track('{"member_id": "m-1"}', '  ');
SELECT cdp.track('{"member_id": "m-1"}', repeat('x', 201));
SELECT cdp.track('{"member_id": "m-1"}', 'x', '[]');
SELECT cdp.track('{"member_id": "m-1"}', 'x', jsonb_build_object('a', repeat('x', 70000)));
SELECT cdp.track('{"member_id": "m-1"}', 'x', message_id => repeat('x', 513));
SELECT cdp.track('{"member_id": "m-1"}', 'x', occurred_at => '-infinity');
SELECT cdp.track(NULL, 'x');
SELECT cdp.track('{"member_id": 5}', 'x');
SELECT cdp.track_many(NULL);
SELECT cdp.track_many('{"a": 1}');
SELECT cdp.track_many('[]', 'ignore');
BEGIN READ ONLY;
SELECT cdp.track('{"member_id": "m-1"}', 'x');
ROLLBACK;
-- old keys are pruned, those known for ever stay
SELECT source, message_id, permanent FROM cdp.event_key ORDER BY 1, 2;
UPDATE cdp.event_key SET permanent = true WHERE message_id = 'b-1';
SET cdp.now = '2026-05-01 09:00+08';
CALL cdp.prune_event_keys(1);
SELECT source, message_id, permanent FROM cdp.event_key ORDER BY 1, 2;
SELECT job, status, done FROM cdp.job_run;
CALL cdp.prune_event_keys(0);
SELECT * FROM cdp.health() WHERE check_name = 'rejected_events';
