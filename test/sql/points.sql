-- the points ledger: earn, spend, hold, refund, claw back, transfer, adjust, batches, dates, limits, what is refused
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET cdp.now = '2026-03-01 00:00:00+00';
SELECT cdp.identify('{"member_id": "a"}') AS a, cdp.identify('{"member_id": "b"}') AS b \gset
CREATE TEMP VIEW account AS SELECT customer_id, program, balance, held, debt, entries FROM cdp.points_account ORDER BY 1, 2;
CREATE TEMP VIEW lot AS SELECT lot_id, customer_id, amount, remaining, held, available_at, expires_at FROM cdp.points_lot ORDER BY 1;
CREATE TEMP VIEW entry AS SELECT entry_id, customer_id, kind, amount, debt, reference, reverses FROM cdp.points_entry ORDER BY 1;
-- what every account has to be, whatever happened
CREATE TEMP VIEW unsound AS SELECT a.customer_id, a.program FROM cdp.points_account a
	WHERE a.balance IS DISTINCT FROM (SELECT coalesce(sum(amount), 0) FROM cdp.points_entry e WHERE (e.customer_id, e.program) = (a.customer_id, a.program))
	   OR a.balance + a.debt IS DISTINCT FROM (SELECT coalesce(sum(remaining), 0) FROM cdp.points_lot l WHERE (l.customer_id, l.program) = (a.customer_id, a.program))
	   OR a.held IS DISTINCT FROM (SELECT coalesce(sum(held), 0) FROM cdp.points_lot l WHERE (l.customer_id, l.program) = (a.customer_id, a.program))
	   OR a.entries IS DISTINCT FROM (SELECT count(*) FROM cdp.points_entry e WHERE (e.customer_id, e.program) = (a.customer_id, a.program));
SELECT program, expiry_mode, validity, consumption, negative FROM cdp.points_program ORDER BY program;

-- first what expires first
SELECT cdp.earn_points(:a, 100, 'e1', 'order 1');
SELECT cdp.earn_points(:a, 50, 'e2', 'order 2', '2027-01-01 00:00+00');
SELECT cdp.earn_points(:a, 30, 'e3', 'order 3', '2026-06-01 00:00+00');
SELECT cdp.spend_points(:a, 70, 's1', 'gift 1');
SELECT * FROM lot;
SELECT * FROM entry;
-- once more is once
SELECT cdp.spend_points(:a, 70, 's1', 'gift 1'), cdp.earn_points(:a, 100, 'e1', 'order 1', '2020-01-01');
SELECT * FROM account;
-- a key is one operation
SELECT cdp.spend_points(:a, 71, 's1', 'gift 1');
SELECT cdp.spend_points(:a, 70, 's1', 'gift 2');
SELECT cdp.spend_points(:b, 70, 's1', 'gift 1');
SELECT cdp.spend_points(:a, 70, 's1', 'gift 1', 'growth');
SELECT cdp.earn_points(:a, 70, 's1', 'gift 1');
-- not more than there is
SELECT cdp.spend_points(:a, 111, 's2');
SELECT cdp.spend_points(:b, 1, 's2');
-- a refund goes back where it came from, last taken first
SELECT cdp.refund_points('gift 1', 50, 'r1');
SELECT * FROM lot;
SELECT cdp.refund_points('gift 1', 21, 'r2');
SELECT cdp.refund_points('gift 1', NULL, 'r2');
SELECT cdp.refund_points('gift 1', NULL, 'r3');
SELECT cdp.refund_points('gift 9', NULL, 'r3');
SELECT * FROM lot;
SELECT * FROM unsound;

-- holds
SELECT cdp.hold_points(:a, 100, 'h1', 'gift 2');
SELECT * FROM lot;
SELECT cdp.spend_points(:a, 81, 's3');
SELECT cdp.capture_hold(1, 101);
SELECT cdp.capture_hold(1, 60);
SELECT cdp.capture_hold(1, 60);
SELECT cdp.capture_hold(1);
SELECT cdp.release_hold(1);
SELECT cdp.refund_points('gift 2', 10, 'r4');
SELECT * FROM lot;
SELECT cdp.hold_points(:a, 130, 'h2'), cdp.hold_points(:a, 130, 'h2');
SELECT cdp.release_hold(2), cdp.release_hold(2);
SELECT cdp.capture_hold(2);
-- one that is over reserves nothing
SELECT cdp.hold_points(:a, 130, 'h3', NULL, 'points', '2026-03-02 00:00+00');
SELECT cdp.hold_points(:a, 1, 'h4');
SET cdp.now = '2026-03-02 00:00:00+00';
SELECT cdp.capture_hold(3);
SELECT cdp.hold_points(:a, 1, 'h4');
SELECT hold_id, amount, captured, released, state, release_at FROM cdp.points_hold ORDER BY 1;
SET cdp.now = '2026-03-10 00:00:00+00';
CALL cdp.release_holds();
SELECT hold_id, state FROM cdp.points_hold WHERE hold_id = 4;
SELECT * FROM account;
SELECT * FROM unsound;

-- claw-back: that earning first, then others, then debt, which later earnings pay
SELECT cdp.clawback_points('order 3', 31, 'c1');
SELECT cdp.clawback_points('order 1', 40, 'c1');
SELECT * FROM lot;
SELECT cdp.clawback_points('order 2', NULL, 'c2'), cdp.clawback_points('order 1', NULL, 'c3');
SELECT * FROM account;
SELECT cdp.spend_points(:a, 1, 's4');
SELECT cdp.earn_points(:a, 5, 'e4'), cdp.earn_points(:a, 200, 'e5', 'order 5');
SELECT * FROM account;
SELECT entry_id, kind, amount, debt FROM entry WHERE debt <> 0;
SELECT * FROM unsound;

-- dates: points that expired are gone, job or not
SELECT cdp.earn_points(:b, 100, 'x1', NULL, '2026-03-13 00:00+00');
SET cdp.now = '2026-03-14 00:00:00+00';
SELECT cdp.spend_points(:b, 1, 'x2');
CALL cdp.expire_points();
CALL cdp.expire_points();
SELECT * FROM entry WHERE kind = 'expire';
SELECT * FROM account WHERE customer_id = :b;
-- pending ones cannot be spent yet
SELECT cdp.earn_points(:b, 10, 'x3', NULL, NULL, 'points', '2026-03-20 00:00+00');
SELECT cdp.spend_points(:b, 1, 'x2');
SET cdp.now = '2026-03-20 00:00:00+00';
SELECT cdp.spend_points(:b, 1, 'x2');
INSERT INTO cdp.points_program (program, expiry_mode, validity, pending) VALUES ('rolling', 'rolling', '1 month', '7 days'), ('month', 'end_of_month', '1 month', '0'),
	('year', 'end_of_year', NULL, '0'), ('never', 'never', NULL, '0');
INSERT INTO cdp.points_program (program, expiry_mode, fixed_month_day) VALUES ('fixed', 'fixed_date', '03-31'), ('leap', 'fixed_date', '02-29');
SELECT count(cdp.earn_points(:b, 1, 'p ' || program, NULL, NULL, program, NULL, '2026-03-19 15:59:00+00')) FROM cdp.points_program WHERE program <> 'points';
SELECT program, available_at, expires_at FROM cdp.points_lot WHERE program <> 'points' ORDER BY program;
-- by age
INSERT INTO cdp.points_program (program, consumption) VALUES ('fifo', 'fifo'), ('lifo', 'lifo');
SELECT cdp.earn_points(:b, 10, program || i, NULL, CASE WHEN i = 2 THEN '2026-12-01'::timestamptz END, program, NULL, '2026-03-01'::timestamptz + i * interval '1 day') IS NOT NULL AS earned
	FROM generate_series(1, 3) i, unnest('{fifo,lifo}'::text[]) program;
SELECT cdp.spend_points(:b, 15, program, NULL, program) IS NOT NULL AS spent FROM unnest('{fifo,lifo}'::text[]) program;
SELECT program, earned_at, remaining FROM cdp.points_lot WHERE program IN ('fifo', 'lifo') ORDER BY 1, 2;
-- inactivity: whatever there is goes, and does not come back by earning anew
INSERT INTO cdp.points_program (program, expiry_mode, validity) VALUES ('active', 'inactivity', '30 days');
SELECT cdp.earn_points(:b, 10, 'i1', NULL, NULL, 'active');
SET cdp.now = '2026-04-18 00:00:00+00';
SELECT cdp.spend_points(:b, 1, 'i2', NULL, 'active');
SET cdp.now = '2026-04-19 00:00:00+00';
SELECT cdp.spend_points(:b, 1, 'i2', NULL, 'active');
SELECT cdp.earn_points(:b, 5, 'i3', NULL, NULL, 'active');
SELECT kind, amount FROM cdp.points_entry WHERE program = 'active' ORDER BY entry_id;
SET cdp.now = '2026-06-01 00:00:00+00';
CALL cdp.expire_points(1);
SELECT kind, amount FROM cdp.points_entry WHERE program = 'active' ORDER BY entry_id;
SELECT program, balance, active_until FROM cdp.points_account WHERE program = 'active';
-- refunds that live long enough
INSERT INTO cdp.points_program (program, expiry_mode, validity, refund_min_validity) VALUES ('kind', 'rolling', '10 days', '5 days');
SELECT cdp.earn_points(:b, 10, 'k1', NULL, NULL, 'kind'), cdp.spend_points(:b, 10, 'k2', 'gift', 'kind');
SET cdp.now = '2026-06-05 00:00:00+00';
SELECT cdp.refund_points('gift', 4, 'k3', 'kind');
SET cdp.now = '2026-06-08 00:00:00+00';
SELECT cdp.refund_points('gift', 6, 'k4', 'kind');
SELECT lot_id, amount, remaining, expires_at, origin_lot FROM cdp.points_lot WHERE program = 'kind' ORDER BY 1;
-- policies of claw-back
INSERT INTO cdp.points_program (program, negative, debt_limit) VALUES ('refuse', 'refuse', NULL), ('within', 'within_balance', NULL), ('owe', 'debt', 10);
SELECT cdp.earn_points(:b, 50, p || 1, p || 1, NULL, p), cdp.earn_points(:b, 20, p || 2, p || 2, NULL, p), cdp.spend_points(:b, 60, p || 3, NULL, p) FROM unnest('{refuse,within,owe}'::text[]) p;
SELECT cdp.clawback_points('refuse2', 20, 'rc1', 'refuse');
SELECT cdp.clawback_points('refuse1', 1, 'rc2', 'refuse');
SELECT cdp.clawback_points('within1', 11, 'wc1', 'within');
SELECT cdp.clawback_points('within1', 10, 'wc1', 'within');
SELECT cdp.clawback_points('owe1', 21, 'oc1', 'owe');
SELECT cdp.clawback_points('owe1', 20, 'oc1', 'owe');
SELECT program, balance, debt FROM cdp.points_account WHERE program IN ('refuse', 'within', 'owe') ORDER BY 1;
-- limits
INSERT INTO cdp.points_program (program, max_balance, max_earn_per_day) VALUES ('capped', 100, 60);
SELECT cdp.earn_points(:b, 60, 'm1', NULL, NULL, 'capped');
SELECT cdp.earn_points(:b, 1, 'm2', NULL, NULL, 'capped');
-- midnight is that of cdp.timezone
SET cdp.now = '2026-06-08 16:00:00+00';
SELECT cdp.earn_points(:b, 41, 'm2', NULL, NULL, 'capped');
SELECT cdp.earn_points(:b, 40, 'm2', NULL, NULL, 'capped');
-- transfers keep dates
SELECT cdp.transfer_points(:b, :a, 1, 't1');
INSERT INTO cdp.points_program (program, transferable) VALUES ('given', true);
SELECT cdp.earn_points(:b, 10, 'g1', NULL, '2026-07-01', 'given'), cdp.earn_points(:b, 10, 'g2', NULL, NULL, 'given');
SELECT cdp.transfer_points(:b, :b, 1, 't1', NULL, 'given');
SELECT cdp.transfer_points(:b, :a, 21, 't1', NULL, 'given');
SELECT cdp.transfer_points(:b, :a, 15, 't1', 'birthday', 'given') IS NOT NULL AS given;
SELECT customer_id, kind, amount, reference FROM cdp.points_entry WHERE program = 'given' ORDER BY entry_id;
SELECT customer_id, amount, remaining, expires_at, origin_lot IS NOT NULL AS moved FROM cdp.points_lot WHERE program = 'given' ORDER BY lot_id;
SELECT amount FROM cdp.points_lot_move ORDER BY from_lot DESC LIMIT 2;
-- corrections
SELECT cdp.adjust_points(:b, 5, 'a1', 'forgotten', 'given') IS NOT NULL AS adjusted, cdp.adjust_points(:b, -7, 'a2', 'too much', 'given') IS NOT NULL AS adjusted;
SELECT kind, amount, details FROM cdp.points_entry WHERE kind = 'adjust' ORDER BY entry_id;
SELECT cdp.adjust_points(:b, -5, 'a3', 'too much', 'given');
SELECT * FROM unsound;

-- many at once: later items find what earlier ones left
SELECT ord, balance, replayed FROM cdp.post_points(jsonb_build_array(
	jsonb_build_object('kind', 'earn', 'customer_id', :a, 'amount', 100, 'idempotency_key', 'b1', 'program', 'never', 'expires_at', '2026-12-01'),
	jsonb_build_object('kind', 'spend', 'customer_id', :a, 'amount', '40', 'idempotency_key', 'b2', 'reference', 'cup', 'program', 'never'),
	jsonb_build_object('kind', 'refund', 'reference', 'cup', 'amount', 10, 'idempotency_key', 'b3', 'program', 'never'),
	jsonb_build_object('kind', 'refund', 'reference', 'cup', 'amount', 10, 'idempotency_key', 'b4', 'program', 'never'),
	jsonb_build_object('kind', 'earn', 'customer_id', :b, 'amount', 7, 'idempotency_key', 'b5', 'program', 'never'),
	jsonb_build_object('kind', 'earn', 'customer_id', :b, 'amount', 7, 'idempotency_key', 'b5', 'program', 'never'),
	jsonb_build_object('kind', 'adjust', 'customer_id', :b, 'amount', -3, 'idempotency_key', 'b6', 'program', 'never', 'reason', 'x')));
SELECT ord, balance, replayed FROM cdp.post_points(jsonb_build_array(
	jsonb_build_object('kind', 'earn', 'customer_id', :a, 'amount', 100, 'idempotency_key', 'b1', 'program', 'never')));
SELECT * FROM cdp.post_points('[]');
SELECT count(*) AS entries FROM cdp.points_entry \gset
SELECT cdp.post_points(jsonb_build_array(
	jsonb_build_object('kind', 'earn', 'customer_id', :a, 'amount', 1, 'idempotency_key', 'b7'),
	jsonb_build_object('kind', 'spend', 'customer_id', :b, 'amount', 100000, 'idempotency_key', 'b8')));
SELECT cdp.post_points(jsonb_build_array(
	jsonb_build_object('kind', 'earn', 'customer_id', :a, 'amount', 1, 'idempotency_key', 'b7'),
	jsonb_build_object('kind', 'earn', 'customer_id', :a, 'amount', 2, 'idempotency_key', 'b7')));
SELECT cdp.post_points('{}');
SELECT cdp.post_points('[1]');
SELECT cdp.post_points('[{"amount": 1}]');
SELECT cdp.post_points('[{"kind": "win"}]');
SELECT cdp.post_points('[{"kind": "spend", "customer_id": 1, "expires_at": "2026-01-01", "amount": 1, "idempotency_key": "x"}]');
SELECT cdp.post_points('[{"kind": "spend", "customer_id": 1, "amount": 1.5, "idempotency_key": "x"}]');
SELECT cdp.post_points('[{"kind": "spend", "customer_id": 1, "amount": "one", "idempotency_key": "x"}]');
SELECT cdp.post_points('[{"kind": "spend", "customer_id": 1, "amount": 1e300, "idempotency_key": "x"}]');
SELECT cdp.post_points('[{"kind": "spend", "customer_id": 1, "amount": 1}]');
SELECT cdp.post_points(NULL);
SELECT count(*) - :entries AS more FROM cdp.points_entry;

-- bad input
SELECT cdp.earn_points(NULL, 1, 'z');
SELECT cdp.earn_points(:a, NULL, 'z');
SELECT cdp.earn_points(:a, 1, NULL);
SELECT cdp.earn_points(:a, 0, 'z');
SELECT cdp.earn_points(:a, -1, 'z');
SELECT cdp.earn_points(:a, 9000000000000001, 'z');
SELECT cdp.earn_points(:a, 1, '');
SELECT cdp.earn_points(:a, 1, repeat('k', 201));
SELECT cdp.earn_points(:a, 1, 'z', NULL, '2020-01-01');
SELECT cdp.earn_points(:a, 1, 'z', NULL, '2026-07-01', 'points', '2026-08-01');
SELECT cdp.earn_points(:a, 1, 'z', NULL, NULL, 'points', 'infinity');
SELECT cdp.earn_points(:a, 1, 'z', NULL, '-infinity');
SELECT cdp.earn_points(:a, 1, 'z', NULL, NULL, 'points', NULL, '2030-01-01');
SELECT cdp.earn_points(:a, 1, 'z', NULL, NULL, 'none');
SELECT cdp.earn_points(:a, 1, 'z', NULL, NULL, NULL);
SELECT cdp.earn_points(987654, 1, 'z');
SELECT cdp.hold_points(:a, 1, 'z', NULL, 'points', '2020-01-01');
SELECT cdp.capture_hold(987654);
SELECT cdp.release_hold(NULL);
SELECT cdp.refund_points(NULL, 1, 'z');
SELECT cdp.transfer_points(:a, NULL, 1, 'z');
SELECT cdp.adjust_points(:a, 1, 'z', NULL);
SELECT cdp.earn_points(:a, 9000000000000000, 'z1', NULL, NULL, 'never');
SELECT cdp.earn_points(:a, 1, 'z2', 'both'), cdp.spend_points(:a, 1, 'z3', 'shared'), cdp.spend_points(:b, 1, 'z4', 'shared');
SELECT cdp.refund_points('shared', NULL, 'z5');
SELECT cdp.refund_points('shared', NULL, 'z5', customer_id => :b) IS NOT NULL AS refunded;
BEGIN READ ONLY;
SELECT cdp.earn_points(:a, 1, 'z6');
ROLLBACK;
CALL cdp.expire_points(0);
SELECT * FROM unsound;
-- what somebody else may do
CREATE ROLE regress_cdp_points;
SELECT cdp.grant_access('application', 'regress_cdp_points');
SET ROLE regress_cdp_points;
SELECT cdp.earn_points(:a, 1, 'role 1') IS NOT NULL AS earned;
SELECT cdp.adjust_points(:a, 1, 'role 2', 'x');
SELECT cdp.post_points('[{"kind": "adjust", "customer_id": 1, "amount": 1, "idempotency_key": "role 2", "reason": "x"}]');
INSERT INTO cdp.points_entry (profile_id, kind, amount, idempotency_key) VALUES (:a, 'earn', 1, 'role 3');
RESET ROLE;
SELECT cdp.revoke_access('application', 'regress_cdp_points');
DROP ROLE regress_cdp_points;
