-- points follow the customer: merge, unmerge, chains, holds, debt, what was earned and spent meanwhile
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET cdp.now = '2026-03-01 00:00:00+00';
SELECT cdp.identify('{"member_id": "a"}') AS a, cdp.identify('{"member_id": "b"}') AS b, cdp.identify('{"member_id": "c"}') AS c, cdp.identify('{"member_id": "d"}') AS d \gset
CREATE TEMP VIEW account AS SELECT customer_id, program, balance, held, debt, moved_to FROM cdp.points_account ORDER BY 1, 2;
CREATE TEMP VIEW lot AS SELECT lot_id, customer_id, profile_id, origin_lot, amount, remaining, held, expires_at FROM cdp.points_lot ORDER BY 1;
CREATE TEMP VIEW unsound AS SELECT a.customer_id, a.program FROM cdp.points_account a
	WHERE a.balance IS DISTINCT FROM (SELECT coalesce(sum(amount), 0) FROM cdp.points_entry e WHERE (e.customer_id, e.program) = (a.customer_id, a.program))
	   OR a.balance + a.debt IS DISTINCT FROM (SELECT coalesce(sum(remaining), 0) FROM cdp.points_lot l WHERE (l.customer_id, l.program) = (a.customer_id, a.program))
	   OR a.held IS DISTINCT FROM (SELECT coalesce(sum(held), 0) FROM cdp.points_lot l WHERE (l.customer_id, l.program) = (a.customer_id, a.program))
	   OR a.entries IS DISTINCT FROM (SELECT count(*) FROM cdp.points_entry e WHERE (e.customer_id, e.program) = (a.customer_id, a.program));
SELECT count(cdp.earn_points(w, n, k, k, x)) FROM (VALUES (:a, 100, 'k1', NULL), (:b, 50, 'k2', '2027-01-01'::timestamptz), (:b, 60, 'k3', NULL), (:c, 5, 'k4', NULL)) v(w, n, k, x);
SELECT cdp.spend_points(:b, 20, 's1', 'gift'), cdp.hold_points(:b, 35, 'h1'), cdp.earn_points(:b, 9, 'k5', NULL, NULL, 'growth');
CREATE TEMP TABLE before AS SELECT * FROM cdp.points_lot;
-- merged and taken apart again: every lot is what it was
SELECT cdp.merge_customers(:a, :b, 'x');
SELECT * FROM account;
SELECT * FROM lot;
SELECT l.lot_id, h.amount FROM cdp.points_hold_lot h JOIN cdp.points_lot l USING (lot_id) ORDER BY 1;
SELECT * FROM unsound;
SELECT cdp.unmerge_customer(:b, 'y'), cdp.allow_merge(:a, :b, 'z');
SELECT * FROM account;
SELECT count(*) AS other FROM (SELECT * FROM before EXCEPT SELECT * FROM cdp.points_lot) x;
SELECT * FROM unsound;
-- both ids are the customer meanwhile; keys and references, too
SELECT cdp.merge_customers(:a, :b, 'x');
SELECT cdp.earn_points(:a, 50, 'k2', 'k2'), cdp.spend_points(:b, 90, 's2', 'gift 2'), cdp.earn_points(:b, 7, 'k6'), cdp.refund_points('gift', NULL, 'r1'), cdp.capture_hold(1, 30);
SELECT * FROM account;
SELECT * FROM lot;
SELECT cdp.unmerge_customer(:b, 'y'), cdp.allow_merge(:a, :b, 'z');
-- what was spent stays spent, by whose account it was
SELECT * FROM account;
SELECT * FROM lot WHERE remaining > 0;
SELECT cdp.refund_points('gift 2', 40, 'r2');
SELECT * FROM account WHERE program = 'points';
SELECT sum(balance) FROM cdp.points_account WHERE program = 'points';
SELECT * FROM unsound;
-- a chain, taken apart in another order
SELECT cdp.merge_customers(:b, :c, 'x'), cdp.merge_customers(:a, :b, 'x');
SELECT * FROM account;
SELECT cdp.unmerge_customer(:c, 'y');
SELECT * FROM account;
SELECT cdp.unmerge_customer(:b, 'y');
SELECT * FROM account;
SELECT * FROM unsound;
-- debt and holds
SELECT cdp.earn_points(:d, 10, 'd1', 'do'), cdp.spend_points(:d, 10, 'd2'), cdp.clawback_points('do', NULL, 'd3'), cdp.earn_points(:d, 30, 'd4', 'dh', NULL, 'growth'), cdp.hold_points(:d, 12, 'd5', NULL, 'growth');
SELECT cdp.merge_customers(:a, :d, 'x');
SELECT * FROM account WHERE customer_id IN (:a, :d);
SELECT * FROM unsound;
SELECT cdp.unmerge_customer(:d, 'y'), cdp.allow_merge(:a, :d, 'z');
SELECT * FROM account WHERE customer_id IN (:a, :d);
SELECT * FROM unsound;
-- a hold that spans lots of both stays with who keeps a part of it
SELECT cdp.merge_customers(:a, :d, 'x');
SELECT cdp.earn_points(:a, 5, 'd6', NULL, NULL, 'growth'), cdp.hold_points(:d, 20, 'd7', NULL, 'growth');
SELECT cdp.unmerge_customer(:d, 'y');
SELECT * FROM account WHERE program = 'growth';
SELECT hold_id, customer_id, amount FROM cdp.points_hold WHERE state = 'open' ORDER BY 1;
SELECT * FROM unsound;
-- who was merged into one who leaves goes with him, and his account says so
SELECT cdp.identify('{"member_id": "e"}') AS e, cdp.identify('{"member_id": "f"}') AS f, cdp.identify('{"member_id": "g"}') AS g \gset
SELECT count(cdp.earn_points(w, 10, 'm' || w)) FROM unnest(ARRAY[:e, :f, :g]) w;
SELECT cdp.merge_customers(:g, :f, 'x'), cdp.merge_customers(:f, :e, 'x');
SELECT * FROM account WHERE customer_id IN (:e, :f, :g);
SELECT cdp.unmerge_customer(:f, 'y');
SELECT * FROM account WHERE customer_id IN (:e, :f, :g);
SELECT cdp.unmerge_customer(:e, 'y');
SELECT * FROM account WHERE customer_id IN (:e, :f, :g);
SELECT * FROM cdp.verify_points();
-- internal, and only what is so
SELECT cdp.merge_points(:a, :d);
SELECT cdp.merge_points(NULL, :d);
SELECT cdp.unmerge_points(:a, :a);
