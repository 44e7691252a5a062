-- What the ledger refuses leaves every table as it was, and no key; what is wrong whatever the books say is refused before
-- anything is written at all.  Each error has its SQLSTATE and a hint, and names the item of a batch.
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL cdp.now = '2026-03-01 00:00Z';
SET LOCAL search_path = pg_temp, public, pg_catalog;
CREATE TEMP TABLE cust AS SELECT i, cdp.identify(jsonb_build_object('member_id', 'rejection:' || i)) AS id FROM generate_series(1, 4) i;
SELECT id AS c1 FROM cust WHERE i = 1 \gset
SELECT id AS c2 FROM cust WHERE i = 2 \gset
SELECT id AS c3 FROM cust WHERE i = 3 \gset
SELECT id AS merged FROM cust WHERE i = 4 \gset
SELECT cdp.merge_customers(:c1, :merged, 'rejection') \g /dev/null
INSERT INTO cdp.points_program (program, negative, debt_limit, max_balance, max_earn_per_day, transferable) VALUES
	('r:limits', 'debt', 10, 100, 50, true), ('r:refuse', 'refuse', NULL, NULL, NULL, false), ('r:within', 'within_balance', NULL, NULL, NULL, false);
-- books to be left alone: two customers with points, spent, held and clawed back ones, an order of both
SELECT cdp.earn_points(:c1, 30, 'r:1', 'r:o1'), cdp.earn_points(:c1, 20, 'r:2', 'r:both', available_at => '2026-03-09 00:00Z'), cdp.earn_points(:c2, 10, 'r:3', 'r:both'),
	cdp.earn_points(:c1, 40, 'r:4', 'r:o2', program => 'r:limits'), cdp.earn_points(:c1, 5, 'r:5', 'r:o3', program => 'r:refuse'), cdp.earn_points(:c1, 5, 'r:6', 'r:o3', program => 'r:within'),
	cdp.spend_points(:c1, 4, 'r:7', 'r:s1'), cdp.spend_points(:c1, 1, 'r:8', 'r:sboth'), cdp.spend_points(:c2, 1, 'r:9', 'r:sboth'), cdp.spend_points(:c1, 3, 'r:10', program => 'r:refuse'),
	cdp.spend_points(:c1, 3, 'r:11', program => 'r:within'), cdp.spend_points(:c1, 40, 'r:12', program => 'r:limits'), cdp.refund_points('r:s1', 3, 'r:13'),
	cdp.hold_points(:c1, 5, 'r:h1') AS open_hold, cdp.hold_points(:c1, 5, 'r:h2') AS captured, cdp.hold_points(:c1, 5, 'r:h3') AS released,
	cdp.hold_points(:c2, 5, 'r:h4', release_at => '2026-03-01 01:00Z') AS due \gset
SELECT cdp.capture_hold(:captured, 2), cdp.release_hold(:released) \g /dev/null
SET LOCAL cdp.now = '2026-03-01 02:00Z';
-- customer 1 now: 30 - 4 - 1 + 3 - 2 = 26, of which 5 are held, and 20 to come; customer 2: 9, none held any more

CREATE TEMP TABLE bad (n serial, early boolean, state text, said text, call text);
-- early: nothing may be written
INSERT INTO bad (early, state, said, call) SELECT true, state, said, call FROM (VALUES
	('22004', '', 'cdp.earn_points(NULL, 1, ''k'')'), ('22004', '', 'cdp.earn_points(c1, NULL, ''k'')'), ('22004', '', 'cdp.earn_points(c1, 1, NULL)'),
	('22004', '', 'cdp.earn_points(c1, 1, ''k'', program => NULL)'),
	('22004', '', 'cdp.spend_points(NULL, 1, ''k'')'), ('22004', '', 'cdp.spend_points(c1, NULL, ''k'')'), ('22004', '', 'cdp.spend_points(c1, 1, NULL)'),
	('22004', '', 'cdp.hold_points(NULL, 1, ''k'')'), ('22004', '', 'cdp.hold_points(c1, NULL, ''k'')'), ('22004', '', 'cdp.hold_points(c1, 1, NULL)'),
	('22004', '', 'cdp.capture_hold(NULL)'), ('22004', '', 'cdp.release_hold(NULL)'), ('22004', '', 'cdp.refund_points(NULL, 1, ''k'')'), ('22004', '', 'cdp.refund_points(''r:s1'', 1, NULL)'),
	('22004', '', 'cdp.clawback_points(NULL, 1, ''k'')'), ('22004', '', 'cdp.clawback_points(''r:o1'', 1, NULL)'), ('22004', '', 'cdp.transfer_points(NULL, c2, 1, ''k'', program => ''r:limits'')'),
	('22004', '', 'cdp.transfer_points(c1, NULL, 1, ''k'', program => ''r:limits'')'), ('22004', '', 'cdp.adjust_points(c1, 1, ''k'', NULL)'), ('22004', '', 'cdp.adjust_points(NULL, 1, ''k'', ''x'')'),
	('22004', '', 'cdp.earn_points(cdp.resolve(''member_id'', ''rejection:nobody''), 1, ''k'')'), ('22004', '', 'cdp.post_points(NULL)'),
	('22023', '', 'cdp.earn_points(c1, 0, ''k'')'), ('22023', '', 'cdp.earn_points(c1, -1, ''k'')'), ('22023', '', 'cdp.spend_points(c1, 0, ''k'')'), ('22023', '', 'cdp.spend_points(c1, -1, ''k'')'),
	('22023', '', 'cdp.hold_points(c1, 0, ''k'')'), ('22023', '', 'cdp.hold_points(c1, -5, ''k'')'), ('22023', '', 'cdp.capture_hold(open_hold, 0)'), ('22023', '', 'cdp.capture_hold(open_hold, -1)'),
	('22023', '', 'cdp.refund_points(''r:s1'', 0, ''k'')'), ('22023', '', 'cdp.clawback_points(''r:o1'', -1, ''k'')'), ('22023', '', 'cdp.transfer_points(c1, c2, 0, ''k'', program => ''r:limits'')'),
	('22023', '', 'cdp.adjust_points(c1, 0, ''k'', ''x'')'), ('22023', '', 'cdp.earn_points(c1, 1, '''')'), ('22023', '', 'cdp.earn_points(c1, 1, repeat(''k'', 201))'),
	('22023', '', 'cdp.earn_points(c1, 1, repeat(''积'', 67))'), ('22023', '', 'cdp.earn_points(c1, 1, ''k'', available_at => ''infinity'')'), ('22023', '', 'cdp.earn_points(c1, 1, ''k'', available_at => ''-infinity'')'),
	('22023', '', 'cdp.earn_points(c1, 1, ''k'', expires_at => ''2026-02-28 00:00Z'')'), ('22023', '', 'cdp.earn_points(c1, 1, ''k'', expires_at => ''-infinity'')'),
	('22023', '', 'cdp.earn_points(c1, 1, ''k'', expires_at => ''2026-03-03 00:00Z'', available_at => ''2026-03-04 00:00Z'')'), ('22023', '', 'cdp.earn_points(c1, 1, ''k'', occurred_at => ''infinity'')'),
	('22023', '', 'cdp.hold_points(c1, 1, ''k'', release_at => ''2026-02-28 00:00Z'')'), ('22023', '', 'cdp.hold_points(c1, 1, ''k'', release_at => ''-infinity'')'),
	('22003', '', 'cdp.earn_points(c1, 9000000000000001, ''k'')'), ('22003', '', 'cdp.earn_points(c1, 9223372036854775807, ''k'')'), ('22003', '', 'cdp.adjust_points(c1, -9223372036854775808, ''k'', ''x'')'),
	('23503', '', 'cdp.earn_points(9000000000, 1, ''k'')'), ('23503', '', 'cdp.earn_points(-1, 1, ''k'')'), ('23503', '', 'cdp.earn_points(0, 1, ''k'')'),
	('23503', '', 'cdp.hold_points(9000000000, 1, ''k'')'), ('23503', '', 'cdp.spend_points(9223372036854775807, 1, ''k'')'), ('23503', '', 'cdp.adjust_points(9000000000, 1, ''k'', ''x'')'),
	('23503', '', 'cdp.transfer_points(c1, 9000000000, 1, ''k'', program => ''r:limits'')'), ('23503', '', 'cdp.transfer_points(9000000000, c1, 1, ''k'', program => ''r:limits'')'),
	('42704', '', 'cdp.earn_points(c1, 1, ''k'', program => ''nothing'')'), ('42704', '', 'cdp.spend_points(c1, 1, ''k'', program => '''')'), ('42704', '', 'cdp.earn_points(c1, 1, ''k'', program => repeat(''p'', 5000))'),
	('42704', '', 'cdp.refund_points(''r:s1'', 1, ''k'', ''nothing'')'), ('42704', '', 'cdp.capture_hold(9000000000)'), ('42704', '', 'cdp.release_hold(-1)'),
	('22023', '', 'cdp.transfer_points(c1, c1, 1, ''k'', program => ''r:limits'')'), ('22023', '', 'cdp.transfer_points(c1, merged, 1, ''k'', program => ''r:limits'')'), ('55000', '', 'cdp.transfer_points(c1, c2, 1, ''k'')'),
	-- batches: not one
	('22023', '', 'cdp.post_points(''{}'')'), ('22023', '', 'cdp.post_points(''1'')'), ('22023', '', 'cdp.post_points(''null'')'), ('22023', '', 'cdp.post_points(''"x"'')')) v(state, said, call);
-- the second item of a batch whose first is good
INSERT INTO bad (early, state, said, call)
SELECT early, state, 'item 2: ', format('cdp.post_points(format(%L, c1, c2)::jsonb)', '[{"kind": "earn", "customer_id": %1$s, "amount": 1, "idempotency_key": "k"}, ' || item || ']') FROM (VALUES
	(true, '22023', '[]'), (true, '22023', '1'), (true, '22023', 'null'), (true, '22023', '{}'), (true, '22023', '{"kind": null}'), (true, '22023', '{"kind": "hold", "customer_id": %1$s, "amount": 1, "idempotency_key": "l"}'),
	(true, '22023', '{"kind": "Earn", "customer_id": %1$s, "amount": 1, "idempotency_key": "l"}'), (true, '22023', '{"kind": "expire", "customer_id": %1$s, "amount": 1, "idempotency_key": "l"}'),
	(true, '22023', '{"kind": "earn", "customer_id": %1$s, "amount": 1.5, "idempotency_key": "l"}'), (true, '22P02', '{"kind": "earn", "customer_id": %1$s, "amount": "x", "idempotency_key": "l"}'),
	(true, '22003', '{"kind": "earn", "customer_id": %1$s, "amount": 1e300, "idempotency_key": "l"}'), (true, '22003', '{"kind": "earn", "customer_id": %1$s, "amount": 9223372036854775808, "idempotency_key": "l"}'),
	(true, '22003', '{"kind": "earn", "customer_id": 1e300, "amount": 1, "idempotency_key": "l"}'), (true, '22023', '{"kind": "earn", "customer_id": %1$s, "amount": 1, "idempotency_key": "l", "amout": 2}'),
	(true, '22004', '{"kind": "earn", "customer_id": %1$s, "amount": 1}'), (true, '22004', '{"kind": "earn", "customer_id": %1$s, "idempotency_key": "l"}'), (true, '22004', '{"kind": "earn", "customer_id": null, "amount": 1, "idempotency_key": "l"}'),
	(true, '22004', '{"kind": "adjust", "customer_id": %1$s, "amount": 1, "idempotency_key": "l"}'), (true, '22004', '{"kind": "refund", "amount": 1, "idempotency_key": "l"}'),
	(true, '22023', '{"kind": "earn", "customer_id": %1$s, "amount": 0, "idempotency_key": "l"}'), (true, '22023', '{"kind": "spend", "customer_id": %1$s, "amount": -1, "idempotency_key": "l"}'),
	(true, '22023', '{"kind": "earn", "customer_id": %1$s, "amount": 1, "idempotency_key": ""}'), (true, '22023', '{"kind": "earn", "customer_id": %1$s, "amount": 1, "idempotency_key": "l", "available_at": "infinity"}'),
	(true, '22023', '{"kind": "earn", "customer_id": %1$s, "amount": 1, "idempotency_key": "l", "expires_at": "2020-01-01 00:00Z"}'), (true, '42704', '{"kind": "earn", "customer_id": %1$s, "amount": 1, "idempotency_key": "l", "program": "nothing"}'),
	(true, '22023', '{"kind": "earn", "customer_id": %1$s, "amount": 1, "idempotency_key": "l", "expires_at": "soon"}'),
	(true, '23503', '{"kind": "earn", "customer_id": 9000000000, "amount": 1, "idempotency_key": "l"}'), (true, 'LC302', '{"kind": "earn", "customer_id": %1$s, "amount": 2, "idempotency_key": "k"}'),
	(true, 'LC302', '{"kind": "earn", "customer_id": %2$s, "amount": 1, "idempotency_key": "k"}'), (true, 'LC302', '{"kind": "spend", "customer_id": %1$s, "amount": 1, "idempotency_key": "k"}'),
	(true, '55000', '{"kind": "transfer", "from_customer": %1$s, "to_customer": %2$s, "amount": 1, "idempotency_key": "l"}'), (true, '22023', '{"kind": "transfer", "from_customer": %1$s, "to_customer": %1$s, "amount": 1, "idempotency_key": "l", "program": "r:limits"}'),
	(false, 'LC302', '{"kind": "earn", "customer_id": %1$s, "amount": 2, "idempotency_key": "r:1"}'), (false, 'LC301', '{"kind": "spend", "customer_id": %1$s, "amount": 23, "idempotency_key": "l"}'),
	(false, 'LC301', '{"kind": "spend", "customer_id": %2$s, "amount": 10, "idempotency_key": "l"}'), (false, 'LC301', '{"kind": "adjust", "customer_id": %2$s, "amount": -10, "idempotency_key": "l", "reason": "x"}'),
	(false, 'LC304', '{"kind": "earn", "customer_id": %1$s, "amount": 11, "idempotency_key": "l", "program": "r:limits"}'), (false, '22023', '{"kind": "refund", "reference": "r:s1", "amount": 2, "idempotency_key": "l"}'),
	(false, '22023', '{"kind": "clawback", "reference": "r:both", "amount": 1, "idempotency_key": "l"}'), (false, 'LC301', '{"kind": "clawback", "reference": "r:o3", "program": "r:refuse", "idempotency_key": "l"}')) v(early, state, item);
-- what only the books can tell
INSERT INTO bad (early, state, said, call) SELECT false, state, said, call FROM (VALUES
	-- the same error whether 0 or 1 are there
	('LC301', '22.*21', 'cdp.spend_points(c1, 22, ''k'')'), ('LC301', '100.*21', 'cdp.spend_points(merged, 100, ''k'')'), ('LC301', '1.*0', 'cdp.spend_points(c3, 1, ''k'')'),
	('LC301', '22.*21', 'cdp.hold_points(c1, 22, ''k'')'), ('LC301', '22.*21', 'cdp.adjust_points(c1, -22, ''k'', ''x'')'), ('LC301', '1.*0', 'cdp.transfer_points(c1, c2, 1, ''k'', program => ''r:limits'')'),
	('LC302', '', 'cdp.earn_points(c1, 31, ''r:1'', ''r:o1'')'), ('LC302', '', 'cdp.earn_points(c1, 30, ''r:1'', ''r:o2'')'), ('LC302', '', 'cdp.earn_points(c1, 30, ''r:1'')'),
	('LC302', '', 'cdp.earn_points(c2, 30, ''r:1'', ''r:o1'')'), ('LC302', '', 'cdp.earn_points(c3, 30, ''r:1'', ''r:o1'')'), ('LC302', '', 'cdp.earn_points(c1, 30, ''r:1'', ''r:o1'', program => ''growth'')'),
	('LC302', '', 'cdp.spend_points(c1, 30, ''r:1'', ''r:o1'')'), ('LC302', '', 'cdp.hold_points(c1, 30, ''r:1'', ''r:o1'')'), ('LC302', '', 'cdp.adjust_points(c1, 30, ''r:1'', ''x'')'),
	('LC302', '', 'cdp.refund_points(''r:s1'', 1, ''r:1'')'), ('LC302', '', 'cdp.refund_points(''r:s1'', 2, ''r:13'')'), ('LC302', '', 'cdp.refund_points(''r:s1'', NULL, ''r:13'')'),
	('LC302', '', 'cdp.refund_points(''r:nothing'', 3, ''r:13'')'), ('LC302', '', 'cdp.clawback_points(''r:s1'', 3, ''r:13'')'), ('LC302', '', 'cdp.hold_points(c1, 6, ''r:h1'')'),
	('LC302', '', 'cdp.transfer_points(c1, c2, 30, ''r:1'', ''r:o1'', ''r:limits'')'), ('LC302', '', 'cdp.spend_points(c1, 3, ''r:13'', ''r:s1'')'),
	('LC303', '', 'cdp.capture_hold(captured)'), ('LC303', '', 'cdp.capture_hold(captured, 3)'), ('LC303', '', 'cdp.release_hold(captured)'), ('LC303', '', 'cdp.capture_hold(released)'),
	('LC303', '', 'cdp.capture_hold(released, 1)'), ('LC303', '', 'cdp.capture_hold(due)'), ('22023', '', 'cdp.capture_hold(open_hold, 6)'),
	('LC304', '10', 'cdp.earn_points(c1, 11, ''k'', program => ''r:limits'')'), ('LC304', '50', 'cdp.earn_points(c3, 51, ''k'', program => ''r:limits'')'),
	('22003', '', 'cdp.earn_points(c1, 9000000000000000, ''k'')'),
	('22023', '1', 'cdp.refund_points(''r:s1'', 2, ''k'')'), ('22023', '', 'cdp.refund_points(''r:nothing'', 1, ''k'')'), ('22023', '', 'cdp.refund_points(''r:sboth'', 1, ''k'')'),
	('22023', '', 'cdp.refund_points(''r:sboth'', NULL, ''k'')'), ('22023', '1', 'cdp.refund_points(''r:sboth'', 2, ''k'', customer_id => c1)'), ('22023', '', 'cdp.refund_points(''r:s1'', 1, ''k'', customer_id => c2)'),
	('22023', '', 'cdp.refund_points(''r:o1'', 1, ''k'')'), ('22023', '', 'cdp.refund_points(''r:s1'', 1, ''k'', ''growth'')'),
	('22023', '30', 'cdp.clawback_points(''r:o1'', 31, ''k'')'), ('22023', '', 'cdp.clawback_points(''r:s1'', 1, ''k'')'), ('22023', '', 'cdp.clawback_points(''r:both'', 1, ''k'')'),
	('22023', '', 'cdp.clawback_points(''r:nothing'', NULL, ''k'')'), ('LC301', '', 'cdp.clawback_points(''r:o3'', 3, ''k'', ''r:refuse'')'), ('LC301', '', 'cdp.clawback_points(''r:o3'', 3, ''k'', ''r:within'')'),
	('LC301', '', 'cdp.clawback_points(''r:o2'', 11, ''k'', ''r:limits'')')) v(state, said, call);
SELECT plan(5 + count(*)::int) FROM bad;

-- every row of every table of the ledger, and of the journal's partitions
CREATE FUNCTION pg_temp.sums() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	t regclass;
	one text;
	of_all text := '';
BEGIN
	FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'cdp'::regnamespace AND relkind IN ('r', 'p') AND relname LIKE 'points%' AND NOT relispartition ORDER BY relname LOOP
		EXECUTE format('SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM %s t', t) INTO one;
		of_all := of_all || format('%s %s ', t, one);
	END LOOP;
	RETURN of_all;
END $$;
-- what this transaction wrote so far, taken back or not
CREATE FUNCTION pg_temp.writes() RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_tuples_inserted(oid) + pg_stat_get_xact_tuples_updated(oid) + pg_stat_get_xact_tuples_deleted(oid))::bigint
	FROM pg_class WHERE relnamespace = 'cdp'::regnamespace AND relkind = 'r' AND relname LIKE 'points%' $$;
CREATE TEMP TABLE books AS SELECT pg_temp.sums() AS sums;
CREATE FUNCTION pg_temp.refused(b bad, ids text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint := pg_temp.writes();
	call text := b.call;
	state text := 'nothing';
	message text;
	detail text;
	hint text;
BEGIN
	FOR i IN 1 .. cardinality(ids) / 2 LOOP
		call := regexp_replace(call, '\y' || ids[2 * i - 1] || '\y', ids[2 * i], 'g');
	END LOOP;
	BEGIN
		EXECUTE 'SELECT ' || call;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	END;
	RETURN NULLIF(concat_ws(', ', CASE WHEN state <> b.state THEN format('wanted %s, got %s (%s)', b.state, state, message) END,
		CASE WHEN state <> 'nothing' AND coalesce(hint, '') = '' THEN 'no hint: ' || message END,
		CASE WHEN b.said LIKE 'item%' AND message NOT LIKE b.said || '%' THEN 'no item: ' || message END,
		CASE WHEN b.said NOT LIKE 'item%' AND concat(detail, ' ', hint) !~ b.said THEN format('no %s: %s %s', b.said, detail, hint) END,
		CASE WHEN concat(message, detail, hint) ~ 'rejection:|r:s1|r:o1' THEN 'data in the message' END,
		CASE WHEN pg_temp.sums() <> (SELECT sums FROM books) THEN 'the books are changed' END,
		CASE WHEN b.early AND pg_temp.writes() <> before THEN format('%s rows were written', pg_temp.writes() - before) END), '');
END $$;
SELECT is(pg_temp.refused(b, ARRAY['c1', :'c1', 'c2', :'c2', 'c3', :'c3', 'merged', :'merged', 'open_hold', :'open_hold', 'captured', :'captured', 'released', :'released', 'due', :'due']),
	NULL, left(format('%s %s %s', b.n, b.state, b.call), 150)) FROM bad b ORDER BY n;
SELECT is((SELECT count(*) FROM cdp.points_key WHERE idempotency_key IN ('k', 'l')), 0::bigint, 'no key was kept');
-- a subtransaction that goes back takes all with it, keys too; afterwards the key is free
SAVEPOINT s;
SELECT cdp.earn_points(:c1, 7, 'k', 'r:o9'), cdp.spend_points(:c1, 12, 'm', 'r:o9') \g /dev/null
SELECT cdp.release_hold(:open_hold) \g /dev/null
ROLLBACK TO s;
SELECT is(pg_temp.sums(), sums, 'a savepoint takes everything back') FROM books;
SELECT ok(cdp.spend_points(:c1, 21, 'k') > 0, 'what was refused did not use up its key, and all that is there can be spent');
SELECT is((SELECT row(balance, held)::text FROM cdp.points_account WHERE customer_id = :c1 AND program = 'points'), '(25,5)', 'held and pending points are left');
SELECT ok(cdp.spend_points(:c2, 9, 'l') > 0, 'what was under a hold that is over, too');
SELECT * FROM finish();
ROLLBACK;
