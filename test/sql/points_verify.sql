-- points_verify: a sound ledger has no row; every rule finds who breaks it, in words and numbers
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET IntervalStyle = 'postgres';
SET cdp.now = '2026-01-01 00:00:00+00';
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 9) i;
SELECT * FROM cdp.verify_points();
SELECT * FROM cdp.health() WHERE check_name = 'points';
SET cdp.now = '2025-12-31 00:00:00+00';
UPDATE cdp.points_program SET transferable = true, debt_limit = 100 WHERE program = 'points';
SET cdp.now = '2026-01-01 00:00:00+00';
INSERT INTO cdp.points_program (program, expiry_mode, validity) VALUES ('idle', 'inactivity', '40 days');

-- everything that can happen
SELECT cdp.earn_points(1, 100, 'e1', 'order 1'), cdp.earn_points(1, 50, 'e2', 'order 2', expires_at => '2026-02-01Z'), cdp.earn_points(2, 80, 'e3', 'order 3'),
	cdp.earn_points(3, 30, 'e4', available_at => '2026-01-20Z'), cdp.earn_points(4, 60, 'e5', program => 'idle'), cdp.earn_points(5, 40, 'e6', 'order 6');
SET cdp.now = '2026-01-02 00:00:00+00';
SELECT cdp.spend_points(1, 70, 's1', 'order 11') AS spend, cdp.hold_points(1, 30, 'h1', 'order 12', release_at => '2026-03-01Z') AS hold, cdp.hold_points(2, 20, 'h2') AS hold2,
	cdp.hold_points(2, 10, 'h3') AS hold3 \gset
SELECT cdp.transfer_points(2, 3, 25, 't1') AS transfer \gset
SELECT cdp.spend_points(5, 35, 's2', 'order 13') AS spend5 \gset
SET cdp.now = '2026-01-03 00:00:00+00';
SELECT cdp.refund_points('order 11', 40, 'r1') AS refund, cdp.clawback_points('order 6', 30, 'c1') AS clawback, cdp.capture_hold(:hold2, 15) AS capture \gset
SELECT cdp.release_hold(:hold3), cdp.adjust_points(3, 5, 'a1', 'goodwill') > 0 AS given, cdp.adjust_points(3, -2, 'a2', 'too much') > 0 AS taken;
SELECT customer_id, balance, held, debt FROM cdp.points_account ORDER BY program, customer_id;
-- a stricter rule makes no debt unsound that is there already
BEGIN;
UPDATE cdp.points_program SET debt_limit = 10 WHERE program = 'points';
SELECT * FROM cdp.verify_points();
UPDATE cdp.points_program SET negative = 'refuse', label = 'strict' WHERE program = 'points';
SELECT negative, ruled_at FROM cdp.points_program WHERE program = 'points';
SELECT * FROM cdp.verify_points();
ROLLBACK;
SET cdp.now = '2026-02-20 00:00:00+00';
CALL cdp.expire_points();
SELECT cdp.earn_points(5, 50, 'e7') AS pays_the_debt \gset
SELECT kind, count(*), sum(amount) FROM cdp.points_entry GROUP BY 1 ORDER BY 1;
SELECT * FROM cdp.verify_points();

-- guards and triggers are off from here on: this is what a superuser can do
\set ECHO none
\i test/sql/points_naive.psql
\set ECHO all
SELECT naive.merge(1, 2);
SET cdp.now = '2026-02-21 00:00:00+00';
SELECT * FROM cdp.verify_points();
SELECT * FROM cdp.verify_points('points');
SELECT * FROM cdp.verify_points('idle');
SELECT lot_id, program, customer_id, entry_id, amount, remaining, held FROM cdp.points_lot ORDER BY lot_id;
CALL cdp.check_points();
SELECT * FROM cdp.health() WHERE check_name = 'points';

-- Every damage is done and undone.  What the fingerprints call for and what all the queries find must be the same.
CREATE FUNCTION naive.plant(what text, damage text) RETURNS TABLE (damage_ text, check_name text, program text, customer_id bigint, detail text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	found  jsonb;
	all_of jsonb;
BEGIN
	BEGIN
		EXECUTE damage;
		SELECT jsonb_agg(v ORDER BY v::text) INTO found FROM cdp.verify_points() v;
		SELECT jsonb_agg(v ORDER BY v::text) INTO all_of FROM (SELECT * FROM cdp._verify_points_sums(NULL, '{balance,count,lots,lot,entry,key,held,total,reversal,move}')
			UNION ALL SELECT * FROM cdp._verify_points_rows(NULL, '{used late,expired early}', 'infinity')) v;
		RAISE EXCEPTION USING ERRCODE = 'ZZ000';
	EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
	END;
	IF found IS DISTINCT FROM all_of THEN
		RETURN QUERY SELECT what, 'FINGERPRINTS AND QUERIES DIFFER', NULL, NULL::bigint, format('%s and %s', found, all_of);
	END IF;
	IF found IS NULL THEN
		RETURN QUERY SELECT what, 'NOT FOUND', NULL, NULL::bigint, NULL;
	END IF;
	RETURN QUERY SELECT what, v.check_name, v.program, v.customer_id, v.detail FROM jsonb_to_recordset(found) v(check_name text, program text, customer_id bigint, detail text)
		ORDER BY 2, 3, 4, 5;
END $$;
\t on
\a
-- balance, count
SELECT * FROM naive.plant('points from nowhere', 'UPDATE cdp.points_account SET balance = balance + 1000 WHERE customer_id = 1 AND program = ''points''');
SELECT * FROM naive.plant('an entry is gone', 'DELETE FROM cdp.points_entry WHERE idempotency_key = ''e3''');
SELECT * FROM naive.plant('an entry says more', 'UPDATE cdp.points_entry SET amount = amount + 1 WHERE idempotency_key = ''e1''');
SELECT * FROM naive.plant('an entry is somebody else''s', 'UPDATE cdp.points_entry SET customer_id = 9 WHERE idempotency_key = ''a1''');
SELECT * FROM naive.plant('an account is gone', 'DELETE FROM cdp.points_account WHERE customer_id = 5');
SELECT * FROM naive.plant('two accounts, the same sum', 'UPDATE cdp.points_account SET balance = balance + CASE customer_id WHEN 1 THEN 7 ELSE -7 END WHERE customer_id IN (1, 3) AND program = ''points''');
SELECT * FROM naive.plant('one entry twice', 'INSERT INTO cdp.points_entry SELECT (jsonb_populate_record(e, jsonb_build_object(''posted_at'', posted_at + interval ''1 hour''))).* FROM cdp.points_entry e WHERE idempotency_key = ''s2''');
SELECT * FROM naive.plant('the count', 'UPDATE cdp.points_account SET entries = entries - 1 WHERE customer_id = 3');
-- lots
SELECT * FROM naive.plant('points in a lot', 'UPDATE cdp.points_lot SET remaining = remaining + 1 WHERE lot_id = 1');
SELECT * FROM naive.plant('two lots of one, the same sum', 'UPDATE cdp.points_lot SET remaining = remaining + CASE lot_id WHEN 1 THEN -5 ELSE 5 END WHERE lot_id IN (1, 2)');
SELECT * FROM naive.plant('a lot is gone', 'DELETE FROM cdp.points_lot WHERE entry_id = (SELECT result FROM cdp.points_key WHERE idempotency_key = ''e7'')');
SELECT * FROM naive.plant('a lot is somebody else''s', 'UPDATE cdp.points_lot SET customer_id = 3 WHERE entry_id = (SELECT result FROM cdp.points_key WHERE idempotency_key = ''e7'')');
SELECT * FROM naive.plant('more held than there is', 'UPDATE cdp.points_lot SET held = remaining + 1 WHERE lot_id = 4');
SELECT * FROM naive.plant('debt from nowhere', 'UPDATE cdp.points_account SET debt = 3, balance = balance - 3 WHERE customer_id = 3');
-- uses
SELECT * FROM naive.plant('a use is gone', format('DELETE FROM cdp.points_lot_use WHERE entry_id = %s', :spend5));
SELECT * FROM naive.plant('a use of another lot', format('UPDATE cdp.points_lot_use SET lot_id = 4 WHERE entry_id = %s', :spend5));
SELECT * FROM naive.plant('a use by another entry', format('UPDATE cdp.points_lot_use SET entry_id = 1, ord = 9 WHERE entry_id = %s', :spend5));
SELECT * FROM naive.plant('a use of nothing', format('UPDATE cdp.points_lot_use SET lot_id = 999 WHERE entry_id = %s', :spend5));
SELECT * FROM naive.plant('the wrong sign', 'UPDATE cdp.points_entry SET kind = ''refund'' WHERE idempotency_key = ''s2''');
-- keys
SELECT * FROM naive.plant('a key is gone', 'DELETE FROM cdp.points_key WHERE idempotency_key = ''s1''');
SELECT * FROM naive.plant('a key answers something else', 'UPDATE cdp.points_key SET result = 1 WHERE idempotency_key = ''e2''');
SELECT * FROM naive.plant('a key answers nothing', 'UPDATE cdp.points_key SET result = 999 WHERE idempotency_key = ''e2''');
SELECT * FROM naive.plant('a key says more', 'UPDATE cdp.points_key SET posted = posted + 1 WHERE idempotency_key = ''e2''');
SELECT * FROM naive.plant('another key', 'UPDATE cdp.points_key SET idempotency_key = ''another'' WHERE idempotency_key = ''e2''');
SELECT * FROM naive.plant('one operation, two keys', 'INSERT INTO cdp.points_key SELECT (jsonb_populate_record(k, ''{"idempotency_key": "again"}'')).* FROM cdp.points_key k WHERE idempotency_key = ''e2''');
SELECT * FROM naive.plant('the key of a hold', 'DELETE FROM cdp.points_key WHERE idempotency_key = ''h1''');
SELECT * FROM naive.plant('what a hold was worth', 'UPDATE cdp.points_key SET posted = 14 WHERE idempotency_key = ''h2''');
-- debt
SELECT * FROM naive.plant('a program without debt', 'UPDATE cdp.points_account SET debt = 5, balance = balance - 5 WHERE customer_id = 4; UPDATE cdp.points_entry SET debt = 5, amount = amount - 5 WHERE idempotency_key = ''e5''; UPDATE cdp.points_key SET posted = posted - 5 WHERE idempotency_key = ''e5''');
SELECT * FROM naive.plant('more than the limit', 'UPDATE cdp.points_account SET debt = 101, balance = balance - 101 WHERE customer_id = 1 AND program = ''points''; UPDATE cdp.points_entry SET debt = debt + 101, amount = amount - 101 WHERE idempotency_key = ''e1''; UPDATE cdp.points_key SET posted = 1 WHERE idempotency_key = ''e1''');
SELECT * FROM naive.plant('the program is gone', 'DELETE FROM cdp.points_program WHERE program = ''idle''');
-- holds
SELECT * FROM naive.plant('a hold is gone', format('DELETE FROM cdp.points_hold WHERE hold_id = %s', :hold));
SELECT * FROM naive.plant('a hold reserves more', format('UPDATE cdp.points_hold SET amount = amount + 1 WHERE hold_id = %s', :hold));
SELECT * FROM naive.plant('its lots are gone', format('DELETE FROM cdp.points_hold_lot WHERE hold_id = %s', :hold));
SELECT * FROM naive.plant('the account says more', 'UPDATE cdp.points_account SET held = held + 1 WHERE customer_id = 3');
SELECT * FROM naive.plant('captured twice', format('UPDATE cdp.points_hold SET captured = captured + 5 WHERE hold_id = %s', :hold2));
SELECT * FROM naive.plant('captured by nobody', format('UPDATE cdp.points_hold SET entry_id = NULL WHERE hold_id = %s', :hold2));
SELECT * FROM naive.plant('captured by another', format('UPDATE cdp.points_hold SET entry_id = 1 WHERE hold_id = %s', :hold2));
SELECT * FROM naive.plant('open again', format('UPDATE cdp.points_hold SET state = ''open'' WHERE hold_id = %s', :hold3));
-- what goes from one to another
SELECT * FROM naive.plant('nobody got it', format('DELETE FROM cdp.points_entry WHERE reverses = %s', :transfer));
SELECT * FROM naive.plant('he got more', format('UPDATE cdp.points_entry SET amount = amount + 1 WHERE reverses = %s', :transfer));
SELECT * FROM naive.plant('in another month', format('UPDATE cdp.points_entry SET posted_at = ''2026-02-10Z'' WHERE reverses = %s', :transfer));
-- time
SELECT * FROM naive.plant('used after it expired', 'UPDATE cdp.points_lot SET expires_at = ''2026-01-02Z'' WHERE lot_id = 1');
SELECT * FROM naive.plant('a hold was captured in time', 'UPDATE cdp.points_lot SET expires_at = ''2026-01-03Z'' WHERE lot_id IN (3, 7, 10)');
SELECT * FROM naive.plant('used before it was available', 'UPDATE cdp.points_lot SET available_at = ''2026-01-02 00:00:01Z'' WHERE lot_id = 1');
UPDATE cdp.points_program SET expiry_mode = 'rolling' WHERE program = 'idle';
SELECT * FROM cdp.verify_points();
SELECT * FROM naive.plant('expired too early', 'UPDATE cdp.points_lot SET expires_at = ''2026-03-02Z'' WHERE lot_id = 2');
-- undone
SELECT * FROM naive.plant('refunded twice', 'UPDATE cdp.points_key SET reversed = 80 WHERE idempotency_key = ''s1''');
SELECT * FROM naive.plant('a refund is gone from the key', 'UPDATE cdp.points_key SET reversed = 0 WHERE idempotency_key = ''s1''');
SELECT * FROM naive.plant('given back twice', format('UPDATE cdp.points_lot_use SET restored = amount + 1 WHERE entry_id = %s AND restored > 0', :spend));
SELECT * FROM naive.plant('clawed back more than was earned', 'UPDATE cdp.points_key SET reversed = 41 WHERE idempotency_key = ''e6''');
SELECT * FROM naive.plant('another reference', 'UPDATE cdp.points_entry SET reference = ''order 1'' WHERE idempotency_key = ''r1''');
-- moves
SELECT * FROM naive.plant('a link is gone', format('DELETE FROM cdp.points_lot_move WHERE entry_id = %s', :transfer));
SELECT * FROM naive.plant('a link says more', format('UPDATE cdp.points_lot_move SET amount = amount + 1 WHERE entry_id = %s', :transfer));
SELECT * FROM naive.plant('longer life by transfer', format('UPDATE cdp.points_lot SET expires_at = ''2030-01-01Z'' WHERE lot_id IN (SELECT to_lot FROM cdp.points_lot_move WHERE entry_id = %s)', :transfer));
SELECT * FROM naive.plant('points stay behind', 'UPDATE cdp.points_account SET moved_to = NULL, balance = 5 WHERE customer_id = 2');
SELECT * FROM naive.plant('points went to a stranger', 'UPDATE cdp.points_account SET moved_to = 5 WHERE customer_id = 2');
\a
\t off
SELECT * FROM cdp.verify_points();

-- one program; health shows what was found
UPDATE cdp.points_account SET balance = balance + 1 WHERE customer_id IN (4, 5);
SELECT * FROM cdp.verify_points('idle');
SELECT * FROM cdp.verify_points() ORDER BY program, check_name;
CALL cdp.check_points();
SET cdp.now = '2026-02-22 06:00:00+00';
SELECT * FROM cdp.health() WHERE check_name = 'points';
SELECT * FROM cdp.verify_points('coins');
SELECT job, command, schedule FROM cdp.job WHERE job = 'check_points';
UPDATE cdp.points_account SET balance = balance - 1 WHERE customer_id IN (4, 5);

-- what a fingerprint is: equal sums for each id, in whatever rows
SELECT cdp._fingerprint(a, id, 7) = cdp._fingerprint(b, id, 7) AS same, cdp._fingerprint(a, id, 7) = cdp._fingerprint(a, id, 8) AS other_seed
	FROM (VALUES (5::bigint, 5::bigint, 1::bigint), (-3, -3, 2), (9e15::bigint, 9e15::bigint, 3)) v(a, b, id);
SELECT (SELECT cdp._fingerprint(a, id, 7) FROM (VALUES (5::bigint, 1::bigint), (-3, 2), (4, 2)) v(a, id)) = (SELECT cdp._fingerprint(a, id, 7) FROM (VALUES (1::bigint, 2::bigint), (2, 1), (3, 1)) v(a, id)) AS split,
	(SELECT cdp._fingerprint(a, id, 7) FROM (VALUES (5::bigint, 1::bigint), (3, 2)) v(a, id)) = (SELECT cdp._fingerprint(a, id, 7) FROM (VALUES (3::bigint, 1::bigint), (5, 2)) v(a, id)) AS exchanged,
	(SELECT cdp._fingerprint(a, NULL, 7) FROM (VALUES (5::bigint)) v(a)) AS no_id, (SELECT cdp._fingerprint(a, a, 7) FROM (SELECT 1::bigint WHERE false) v(a)) AS no_row;
-- whatever the amounts, they end where they began
SELECT cdp._fingerprint(a, id, 7) FROM (SELECT a, i % 10 AS id FROM generate_series(1, 1000) i, LATERAL (VALUES (i * 9007199254740993), (-i * 9007199254740993)) v(a)) x;
SELECT cdp._fingerprint(a, 1, 7) = 0 AS zero FROM (VALUES (9223372036854775807), (-9223372036854775807), (1), (-9223372036854775807), (9223372036854775806)) v(a);
-- more than the tables of one process: the parts are combined
SET min_parallel_table_scan_size = 0;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
CREATE TABLE naive.big AS SELECT i AS id, (i * 7919) % 1000 - 500 AS a FROM generate_series(1::bigint, 200000) i;
ANALYZE naive.big;
EXPLAIN (COSTS OFF) SELECT cdp._fingerprint(a, id, 7) FROM naive.big;
SELECT cdp._fingerprint(a, id, 7) = (SELECT cdp._fingerprint(a, id, 7) FROM (SELECT a, id FROM naive.big ORDER BY id DESC OFFSET 0) x) AS same FROM naive.big;
SELECT count(*) FROM cdp.verify_points();

-- a reader may look, an application may not
CREATE ROLE regress_points_reader;
CREATE ROLE regress_points_app;
SELECT cdp.grant_access('reader', 'regress_points_reader'), cdp.grant_access('application', 'regress_points_app');
SET ROLE regress_points_reader;
SELECT count(*) FROM cdp.verify_points();
CALL cdp.check_points();
RESET ROLE;
SET ROLE regress_points_app;
SELECT count(*) FROM cdp.verify_points();
SELECT check_name, ok FROM cdp.health() WHERE check_name = 'points';
RESET ROLE;
SELECT cdp.revoke_access('reader', 'regress_points_reader'), cdp.revoke_access('application', 'regress_points_app');
DROP ROLE regress_points_reader;
DROP ROLE regress_points_app;
DROP SCHEMA naive CASCADE;
