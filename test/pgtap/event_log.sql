-- consumers, logs and partitions in the catalog
BEGIN;
SELECT plan(8);
SELECT is_empty($$
	SELECT l.log FROM cdp.log_table l WHERE NOT EXISTS (
		SELECT FROM pg_index i WHERE i.indrelid = to_regclass('cdp.' || l.log) AND i.indisvalid
		AND (SELECT array_agg(a.attname ORDER BY k.ord) FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, ord)
		     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) = ARRAY['xid', l.id_column]::name[])
$$, 'every log has its index (xid, id)');
SELECT is_empty($$
	SELECT l.log FROM cdp.log_table l LEFT JOIN (pg_attrdef d JOIN pg_attribute a ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum) AND a.attname = 'xid')
		ON d.adrelid = to_regclass('cdp.' || l.log)
	WHERE pg_get_expr(d.adbin, d.adrelid) IS DISTINCT FROM 'cdp._log_xid()'
$$, 'the xid of every log is logical');
SELECT is_empty($$
	SELECT l.log, m FROM cdp.log_table l, generate_series(-1, 3) m WHERE l.time_column IS NOT NULL
	AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = to_regclass('cdp.' || l.log)
		AND i.inhrelid = to_regclass('cdp.' || cdp._partition_name(l.log, cdp._month(cdp.now(), m))))
$$, 'last month, this month and three more have their partitions');
SELECT is_empty($$
	SELECT c.relname FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid JOIN pg_class p ON p.oid = i.inhparent
	WHERE p.relnamespace = 'cdp'::regnamespace AND p.relkind = 'p' AND c.relowner <> p.relowner
$$, 'partitions belong to the owner of their log');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
	WHERE p.pronamespace = 'cdp'::regnamespace AND a.grantee = 0
	AND p.proname IN ('_log_xid', '_log_snapshot', '_repair_log_epoch', '_next_log', '_next_rows', '_next_events', '_create_consumer',
		'_drop_consumer', '_make_partitions', '_maintain_partition', '_missing_partitions', 'maintain_partitions', '_health_event_log')
$$, 'PUBLIC may use none of it');
SELECT is((SELECT system_identifier FROM cdp.log_epoch), (SELECT system_identifier::text FROM pg_control_system()), 'the log belongs to this cluster');
-- plain owners and users: who may not touch the tables may still be the one that adopts the log
CREATE ROLE cdp_log_reader;
SELECT cdp.grant_access('reader', 'cdp_log_reader');
SELECT cdp._create_consumer('tap', 'event');
INSERT INTO cdp.event (profile_id, name, occurred_at, received_at) VALUES (1, 'old', cdp.now(), cdp.now() - interval '2 hours');
SET ROLE cdp_log_reader;
SELECT results_eq($$ SELECT check_name, ok FROM cdp._health_event_log() WHERE check_name IN ('partitions_ahead event', 'oldest_unprocessed_event tap') ORDER BY 1 $$,
	$$ VALUES ('oldest_unprocessed_event tap', false), ('partitions_ahead event', true) $$, 'a reader sees the health of logs and consumers');
SELECT throws_ok($$ SELECT * FROM cdp._next_events('tap', 1) $$, '42501', NULL, 'and moves no consumer');
RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
