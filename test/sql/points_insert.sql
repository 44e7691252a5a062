-- rows in plain SQL: INSERT and COPY into cdp.points_entry are posted, or refused as a whole; nobody writes the rest
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET cdp.now = '2026-03-01 00:00:00+00';
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i)) ORDER BY i) FROM generate_series(1, 10) i));
CREATE TEMP VIEW unsound AS SELECT a.customer_id, a.program FROM cdp.points_account a
	WHERE a.balance IS DISTINCT FROM (SELECT coalesce(sum(amount), 0) FROM cdp.points_entry e WHERE (e.customer_id, e.program) = (a.customer_id, a.program))
	   OR a.balance + a.debt IS DISTINCT FROM (SELECT coalesce(sum(remaining), 0) FROM cdp.points_lot l WHERE (l.customer_id, l.program) = (a.customer_id, a.program))
	   OR a.entries IS DISTINCT FROM (SELECT count(*) FROM cdp.points_entry e WHERE (e.customer_id, e.program) = (a.customer_id, a.program));
INSERT INTO cdp.points_entry (profile_id, kind, amount, reference, idempotency_key, expires_at) VALUES
	(1, 'earn', 100, 'o1', 'i1', NULL), (1, 'earn', 50, NULL, 'i2', '2026-06-01'), (2, 'earn', 10, NULL, 'i3', NULL), (1, 'spend', -60, 'g1', 'i4', NULL), (2, 'adjust', -3, NULL, 'i5', NULL);
SELECT entry_id, profile_id, customer_id, kind, amount, posted_at = cdp.now() AS now, occurred_at FROM cdp.points_entry ORDER BY entry_id;
SELECT customer_id, balance, entries FROM cdp.points_account ORDER BY 1;
SELECT customer_id, amount, remaining, expires_at FROM cdp.points_lot ORDER BY lot_id;
SELECT idempotency_key, verb, amount, result FROM cdp.points_key ORDER BY 1;
-- the verbs know these rows
SELECT cdp.earn_points(1, 100, 'i1', 'o1'), cdp.refund_points('g1', 5, 'r1'), cdp.clawback_points('o1', 10, 'c1');
COPY cdp.points_entry (profile_id, kind, amount, idempotency_key, program, occurred_at) FROM stdin;
3	earn	7	c3	growth	2026-02-01 00:00+00
4	earn	8	c4	growth	2026-02-02 00:00+00
\.
SELECT customer_id, earned_at, expires_at FROM cdp.points_lot WHERE program = 'growth' ORDER BY 1;
-- debt is paid by rows, too
SELECT cdp.clawback_points('o1', NULL, 'c2') IS NOT NULL AS clawed, cdp.spend_points(1, 5, 's1') IS NOT NULL AS spent;
SELECT cdp.earn_points(5, 10, 'd1', 'o5') IS NOT NULL AS earned, cdp.spend_points(5, 10, 'd2') IS NOT NULL AS spent, cdp.clawback_points('o5', NULL, 'd3') IS NOT NULL AS clawed;
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) VALUES (5, 'earn', 4, 'd4'), (5, 'earn', 16, 'd5');
SELECT kind, amount, debt FROM cdp.points_entry WHERE customer_id = 5 ORDER BY entry_id;
SELECT balance, debt FROM cdp.points_account WHERE customer_id = 5;
SELECT * FROM unsound;
-- one that cannot be posted, and none is
SELECT count(*) AS entries, (SELECT sum(balance) FROM cdp.points_account) AS points FROM cdp.points_entry \gset
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) SELECT 1 + i % 5, 'spend', CASE i WHEN 700 THEN -100000 ELSE -1 END, 'x' || i FROM generate_series(1, 1000) i;
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) VALUES (1, 'earn', 1, 'y1'), (1, 'earn', 1, 'i1');
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) VALUES (1, 'earn', 1, 'y1'), (1, 'earn', 1, 'y1');
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) VALUES (1, 'earn', 1, 'y1') ON CONFLICT DO NOTHING;
DELETE FROM cdp.points_entry WHERE idempotency_key = 'y1';
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) VALUES (1, 'earn', -1, 'y2');
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) VALUES (1, 'spend', 1, 'y2');
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) VALUES (1, 'earn', 0, 'y2');
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) VALUES (1, 'refund', 1, 'y2');
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) VALUES (1, 'gift', 1, 'y2');
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) VALUES (1, 'earn', 1, NULL);
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) VALUES (NULL, 'earn', 1, 'y2');
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) VALUES (4711, 'earn', 1, 'y2');
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key, program) VALUES (1, 'earn', 1, 'y2', 'none');
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key, posted_at) VALUES (1, 'earn', 1, 'y2', '2026-01-01');
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key, expires_at) VALUES (1, 'earn', 1, 'y2', '2026-01-01');
SELECT count(*) - :entries AS more, (SELECT sum(balance) FROM cdp.points_account) - :points AS points FROM cdp.points_entry;
-- many rows, customers in any order
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) SELECT 1 + (i * 7) % 10, 'earn', i, 'many ' || i FROM generate_series(1, 3000) i;
SELECT count(*), sum(balance) FROM cdp.points_account WHERE program = 'points';
SELECT * FROM unsound;
-- more than are posted at a time: still one statement
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key, program)
	SELECT 1 + (i * 7) % 10, CASE WHEN i > 100000 THEN 'spend' ELSE 'earn' END, CASE WHEN i > 100000 THEN -3 ELSE 1 END, 'more ' || i, CASE WHEN i % 2 = 0 THEN 'points' ELSE 'growth' END
	FROM generate_series(1, 101000) i;
SELECT program, sum(balance), sum(entries) FROM cdp.points_account GROUP BY 1 ORDER BY 1;
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key)
	SELECT 1, CASE WHEN i > 100000 THEN 'spend' ELSE 'earn' END, CASE WHEN i > 100000 THEN -100000000 ELSE 1 END, 'yet more ' || i FROM generate_series(1, 100001) i;
SELECT count(*) FROM cdp.points_key WHERE idempotency_key LIKE 'yet more%';
SELECT * FROM unsound;
SELECT * FROM cdp.verify_points();
-- merged customers are found
SELECT cdp.merge_customers(6, 7, 'x') IS NOT NULL AS merged;
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) VALUES (7, 'earn', 1000000, 'z1');
SELECT profile_id, customer_id, amount FROM cdp.points_entry WHERE idempotency_key = 'z1';
SELECT * FROM unsound;
-- guards: the owner and superusers, too
UPDATE cdp.points_entry SET amount = 1;
DELETE FROM cdp.points_entry;
TRUNCATE cdp.points_entry;
INSERT INTO cdp.points_entry_default (profile_id, kind, amount, idempotency_key, customer_id, occurred_at) VALUES (1, 'earn', 1, 'y2', 1, now());
DELETE FROM cdp.points_entry_default;
UPDATE cdp.points_account SET balance = 0;
DELETE FROM cdp.points_lot;
INSERT INTO cdp.points_lot_use (entry_id, ord, lot_id, amount) VALUES (1, 1, 1, 1);
TRUNCATE cdp.points_lot_move;
UPDATE cdp.points_hold SET state = 'open';
DELETE FROM cdp.points_hold_lot;
DELETE FROM cdp.points_key;
COPY cdp.points_key FROM stdin;
\.
MERGE INTO cdp.points_account a USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE;
SET session_replication_role = replica;
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key, customer_id, occurred_at) VALUES (1, 'earn', 1, 'y2', 1, now());
UPDATE cdp.points_account SET balance = 0;
RESET session_replication_role;
-- new partitions are guarded, and rows move into theirs
SET cdp.now = '2040-03-01 00:00:00+00';
SELECT cdp.earn_points(1, 1, 'late') IS NOT NULL AS earned;
SELECT count(*) FROM cdp.points_entry_default;
CALL cdp.maintain_partitions();
SELECT count(*) FROM cdp.points_entry_default;
SELECT idempotency_key FROM cdp.points_entry_2040_03;
DELETE FROM cdp.points_entry_2040_03;
DELETE FROM cdp.points_entry_default;
SELECT count(*) AS unguarded FROM pg_inherits i WHERE i.inhparent = 'cdp.points_entry'::regclass
	AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = i.inhrelid AND t.tgname = 'points_entry_guard' AND t.tgenabled = 'A');
