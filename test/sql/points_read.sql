-- points_read: balances of now, of then and to come, status, statement, what expires; against plain loops, over merges
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET IntervalStyle = 'postgres';
SET cdp.now = '2026-01-01 00:00:00+00';
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 12) i;
\set ECHO none
\i test/sql/points_naive.psql
\set ECHO all
INSERT INTO cdp.points_program (program, expiry_mode, validity) VALUES ('idle', 'inactivity', '40 days');

-- one customer, step by step
SELECT cdp.points_balance(1) AS nothing_yet;
SELECT naive.earn(1, 100, '2026-02-01Z'), naive.earn(1, 50), naive.earn(1, 30, available => '2026-01-10Z');
SELECT cdp.points_balance(1), cdp.points_balance(1, as_of => '2026-01-10Z') AS pending_came, cdp.points_balance(1, as_of => '2026-02-01Z') AS first_expired,
	cdp.points_balance(1, as_of => '2025-12-31Z') AS before;
SET cdp.now = '2026-01-02 00:00:00+00';
SELECT naive.hold(1, 120, '2026-01-05Z') AS hold \gset
SELECT * FROM cdp.points_account_status;
SELECT cdp.points_balance(1), cdp.points_balance(1, as_of => '2026-01-04 23:59:59Z') AS held, cdp.points_balance(1, as_of => '2026-01-05Z') AS not_held;
SELECT * FROM cdp.points_expiring('30 days');
-- past its time it reserves nothing, though it stands as open
SET cdp.now = '2026-01-05 00:00:00+00';
SELECT cdp.points_balance(1), cdp.points_balance(1, as_of => '2026-01-04Z') AS then_held;
SELECT * FROM cdp.points_account_status;
SELECT * FROM cdp.points_expiring('27 days'), cdp.points_expiring('26 days 23:59:59') AS not_yet;
SELECT * FROM cdp.points_expiring('27 days');
SELECT naive.spend(1, 110, reference => 'order 7') AS spent \gset
SELECT naive.release(:hold);
SET cdp.now = '2026-01-06 00:00:00+00';
SELECT naive.refund(:spent, 60);
-- debt: it may be below 0
SELECT naive.earn(2, 20, reference => 'order 8') AS earned \gset
SELECT naive.spend(2, 15);
SET cdp.now = '2026-01-07 00:00:00+00';
SELECT naive.clawback(:earned, 20);
SELECT cdp.points_balance(2), cdp.points_balance(2, as_of => '2026-01-06 12:00Z') AS before;
SELECT * FROM cdp.points_account_status ORDER BY account_id;
SELECT * FROM cdp.points_statement(1);
SELECT * FROM cdp.points_statement(1, from_time => '2026-01-05Z', to_time => '2026-01-06Z');
SELECT * FROM cdp.points_statement(1, to_time => '2026-01-01Z');
SELECT * FROM cdp.points_statement(3);
-- expired, whether or not a job has run; the past knows it still
SET cdp.now = '2026-02-01 00:00:00+00';
SELECT cdp.points_balance(1), cdp.points_balance(1, as_of => '2026-01-31 23:59:59.999999Z') AS just_before;
SELECT balance, available, pending, held, next_expiry_at, expiring_30_days FROM cdp.points_account_status WHERE account_id = '1:points';
SELECT naive.expire();
SELECT balance, available FROM cdp.points_account_status WHERE account_id = '1:points';
SELECT cdp.points_balance(1), cdp.points_balance(1, as_of => '2026-01-31 23:59:59.999999Z') AS just_before;
-- inactivity: the account as a whole, and who was active again later
SELECT naive.earn(3, 10, program => 'idle'), naive.earn(4, 5, '2026-02-20Z', program => 'idle'), naive.earn(4, 6, program => 'idle');
SELECT cdp.points_balance(3, 'idle'), cdp.points_balance(3, 'idle', '2026-03-12 23:59Z') AS last_day, cdp.points_balance(3, 'idle', '2026-03-13Z') AS over;
SELECT * FROM cdp.points_expiring('40 days');
SELECT * FROM cdp.points_account_status WHERE program = 'idle' ORDER BY customer_id;
SET cdp.now = '2026-03-01 00:00:00+00';
SELECT naive.spend(3, 1, 'idle');
SET cdp.now = '2026-04-20 00:00:00+00';
SELECT cdp.points_balance(3, 'idle'), cdp.points_balance(3, 'idle', '2026-04-09Z') AS still, cdp.points_balance(3, 'idle', '2026-03-20Z') AS kept_by_spending;
SELECT naive.earn(3, 7, program => 'idle');
SELECT cdp.points_balance(3, 'idle'), cdp.points_balance(3, 'idle', '2026-04-09Z') AS still, cdp.points_balance(3, 'idle', '2026-04-15Z') AS over;
-- a merge: his points of then are those of both
SELECT naive.transfer(1, 5, 20);
SET cdp.now = '2026-05-01 00:00:00+00';
SELECT naive.merge(1, 2), naive.merge(1, 5);
SET cdp.now = '2026-05-02 00:00:00+00';
SELECT cdp.points_balance(1), cdp.points_balance(2) AS by_old_id, cdp.points_balance(5, as_of => '2026-04-30Z') AS both, cdp.points_balance(1, as_of => '2026-01-06 12:00Z') AS before_debt;
SELECT kind, amount, balance, reference FROM cdp.points_statement(5);
SELECT kind, amount, balance, reference FROM cdp.points_statement(5, from_time => '2026-01-06Z', to_time => '2026-05-01Z');
SELECT account_id, balance, available FROM cdp.points_account_status ORDER BY 1;
-- and who was active last keeps what both have
SELECT naive.earn(4, 11, program => 'idle');
SET cdp.now = '2026-05-05 00:00:00+00';
SELECT naive.spend(3, 1, 'idle');
SET cdp.now = '2026-05-10 00:00:00+00';
SELECT naive.merge(4, 3);
SELECT active_until FROM cdp.points_account WHERE customer_id = 4 AND program = 'idle';
SET cdp.now = '2026-06-13 00:00:00+00';
SELECT naive.spend(4, 2, 'idle');
SET cdp.now = '2026-06-14 12:00:00+00';
SELECT cdp.points_balance(4, 'idle'), cdp.points_balance(4, 'idle', '2026-06-12Z') AS kept_by_the_other, cdp.points_balance(4, 'idle', '2026-05-09Z') AS before_merge;
SELECT * FROM naive.check_sums();

-- what is refused
CREATE FUNCTION naive.refused(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE sql;
	RETURN 'taken';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN format('%s %s; %s', SQLSTATE, SQLERRM, hint);
END $$;
SELECT q, naive.refused('SELECT * FROM cdp.' || q) FROM unnest(ARRAY['points_balance(NULL)', 'points_balance(99)', 'points_balance(1, ''coins'')', 'points_balance(1, NULL)',
	'points_balance(1, as_of => ''infinity'')', 'points_balance(1, as_of => ''-infinity'')', 'points_statement(NULL)', 'points_statement(99)', 'points_statement(1, ''coins'')',
	'points_statement(1, NULL)', 'points_expiring(NULL)', 'points_expiring(''-1 second'')']) q;
SELECT count(*) FROM cdp.points_expiring('0');
SELECT count(*) FROM cdp.points_statement(1, from_time => '2026-03-01Z', to_time => '2026-02-01Z');

-- an application asks, though it cannot read the tables
CREATE ROLE regress_points_app;
SELECT cdp.grant_access('application', 'regress_points_app');
SET ROLE regress_points_app;
SELECT cdp.points_balance(1), (SELECT count(*) FROM cdp.points_statement(1)) > 0 AS statement, (SELECT count(*) FROM cdp.points_account_status) > 0 AS status,
	(SELECT count(*) FROM cdp.points_expiring('1 year')) AS expiring;
SELECT count(*) FROM cdp.points_lot;
RESET ROLE;
SELECT cdp.revoke_access('application', 'regress_points_app');
DROP ROLE regress_points_app;

-- two hundred days of everything, and what could be spent after each step, by the definition
CREATE TABLE naive.seen (at timestamptz, customer_id bigint, program text, n bigint);
CREATE FUNCTION naive.play(steps int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	c   bigint;
	d   bigint;
	n   bigint;
	p   text;
	did jsonb := '{}';
	k   int;
	what text;
	now timestamptz;
BEGIN
	FOR i IN 1 .. steps LOOP
		now := cdp.now() + random() * 12 * interval '1 hour' + interval '1 second';
		PERFORM set_config('cdp.now', now::text, false);
		c := (ARRAY(SELECT customer_id FROM cdp.customer WHERE customer_id > 5))[1 + floor(random() * (SELECT count(*) FROM cdp.customer WHERE customer_id > 5))];
		d := (ARRAY(SELECT customer_id FROM cdp.customer WHERE customer_id > 5))[1 + floor(random() * (SELECT count(*) FROM cdp.customer WHERE customer_id > 5))];
		n := 1 + floor(random() * 40);
		p := (ARRAY['points', 'points', 'idle'])[1 + floor(random() * 3)];
		k := floor(random() * 100);
		what := NULL;
		IF k < 35 THEN
			IF naive.earn(c, n * 2, CASE WHEN random() < 0.7 THEN now + interval '9 days' + random() * interval '30 days' ELSE 'infinity' END,
				CASE WHEN random() < 0.5 THEN now + random() * interval '9 days' END, p) IS NOT NULL THEN what := 'earn'; END IF;
		ELSIF k < 55 THEN
			IF naive.spend(c, n, p) IS NOT NULL THEN what := 'spend'; END IF;
		ELSIF k < 65 THEN
			IF naive.hold(c, n, now + random() * interval '15 days', p) IS NOT NULL THEN what := 'hold'; END IF;
		ELSIF k < 70 THEN
			IF naive.capture((SELECT hold_id FROM cdp.points_hold WHERE state = 'open' ORDER BY random() LIMIT 1), n) IS NOT NULL THEN what := 'capture'; END IF;
		ELSIF k < 74 THEN
			PERFORM naive.release((SELECT hold_id FROM cdp.points_hold WHERE state = 'open' ORDER BY random() LIMIT 1));
			what := 'release';
		ELSIF k < 82 THEN
			IF naive.refund((SELECT entry_id FROM cdp.points_entry WHERE kind = 'spend' ORDER BY random() LIMIT 1), n) IS NOT NULL THEN what := 'refund'; END IF;
		ELSIF k < 88 THEN
			IF naive.clawback((SELECT k.result FROM cdp.points_key k
				WHERE k.verb = 'earn' AND k.posted > k.reversed AND k.profile_id IN (SELECT customer_id FROM cdp.customer WHERE customer_id > 5)
				ORDER BY (SELECT sum(l.remaining) FROM cdp.points_lot l WHERE l.earned_entry = k.result), naive.spendable(k.profile_id, k.program), random() LIMIT 1), n * 2) IS NOT NULL THEN what := 'clawback'; END IF;
		ELSIF k < 94 THEN
			IF naive.transfer(c, d, n, p) IS NOT NULL THEN what := 'transfer'; END IF;
		ELSIF k < 99 THEN
			PERFORM naive.expire();
			what := 'expire';
		ELSIF c <> d AND (SELECT count(*) FROM cdp.customer WHERE customer_id > 5) > 4 THEN
			PERFORM naive.merge(c, d);
			what := 'merge';
		END IF;
		did := did || jsonb_build_object(coalesce(what, 'refused'), coalesce((did ->> coalesce(what, 'refused'))::int, 0) + 1);
		INSERT INTO naive.seen SELECT now, a.customer_id, a.program, naive.spendable(a.customer_id, a.program) FROM cdp.points_account a;
	END LOOP;
	RETURN did::text;
END $$;
\set seed 0.4711
\echo seed :seed
SELECT setseed(:seed);
SELECT string_agg(key, ' ' ORDER BY key) AS happened FROM jsonb_object_keys(naive.play(500)::jsonb) key;
SELECT * FROM naive.check_sums();
-- now: function, view and definition
SELECT count(*) > 5 AS some, count(*) FILTER (WHERE s.available <> naive.spendable(s.customer_id, s.program)) AS view_wrong,
	count(*) FILTER (WHERE s.available <> cdp.points_balance(s.customer_id, s.program)) AS function_wrong FROM cdp.points_account_status s;
SELECT * FROM cdp.points_account_status s, LATERAL (
	SELECT coalesce(sum(l.free) FILTER (WHERE NOT l.is_available AND l.ends_at > cdp.now()), 0) AS pending, coalesce(sum(l.remaining - l.free), 0) AS held,
		coalesce(sum(l.free) FILTER (WHERE l.ends_at <= cdp.now()), 0) AS expired,
		min(l.ends_at) FILTER (WHERE l.ends_at > cdp.now() AND l.ends_at < 'infinity' AND l.free > 0) AS next_at,
		coalesce(sum(l.free) FILTER (WHERE l.ends_at > cdp.now() AND l.ends_at <= cdp.now() + interval '30 days'), 0) AS soon
	FROM naive.lot l WHERE l.customer_id = s.customer_id AND l.program = s.program) n,
	LATERAL (SELECT sum(l.free) AS next_amount FROM naive.lot l WHERE l.customer_id = s.customer_id AND l.program = s.program AND l.ends_at = n.next_at AND l.free > 0) m
WHERE (s.pending, s.held, s.next_expiry_at, s.next_expiry_amount, s.expiring_30_days) IS DISTINCT FROM (n.pending, n.held, n.next_at, m.next_amount, n.soon)
   OR s.balance <> s.available + s.pending + s.held + n.expired;
SELECT count(*) FILTER (WHERE pending > 0) > 0 AS pending, count(*) FILTER (WHERE held > 0) > 0 AS held, count(*) FILTER (WHERE debt > 0) > 0 AS debt,
	count(*) FILTER (WHERE next_expiry_amount > 0) > 0 AS expiring FROM cdp.points_account_status;
SELECT * FROM (
	SELECT l.customer_id, l.program, l.ends_at, sum(l.free)::bigint FROM naive.lot l WHERE l.ends_at > cdp.now() AND l.ends_at <= cdp.now() + interval '12 days' AND l.free > 0 GROUP BY 1, 2, 3
	EXCEPT ALL SELECT * FROM cdp.points_expiring('12 days')) x;
SELECT * FROM (
	SELECT * FROM cdp.points_expiring('12 days')
	EXCEPT ALL SELECT l.customer_id, l.program, l.ends_at, sum(l.free)::bigint FROM naive.lot l WHERE l.ends_at > cdp.now() AND l.ends_at <= cdp.now() + interval '12 days' AND l.free > 0 GROUP BY 1, 2, 3) x;
-- then: of those who are one today, what was seen of each
CREATE TABLE naive.told AS SELECT s.at, c.customer_id, c.program, sum(s.n) AS seen, cdp.points_balance(c.customer_id, c.program, s.at) AS told
	FROM cdp.points_account c JOIN naive.seen s ON s.program = c.program AND cdp.customer_id(s.customer_id) = c.customer_id WHERE c.moved_to IS NULL GROUP BY 1, 2, 3;
SELECT count(*) > 3000 AS many, count(*) FILTER (WHERE seen <> told) AS wrong, count(*) FILTER (WHERE seen < 0) > 0 AS debts, count(DISTINCT seen) > 100 AS different FROM naive.told;
SELECT * FROM naive.told WHERE seen <> told ORDER BY at, customer_id, program LIMIT 5;
-- to come: move the clock and do nothing
CREATE TABLE naive.forecast AS SELECT t.at, s.customer_id, s.program, cdp.points_balance(s.customer_id, s.program, t.at) AS told
	FROM cdp.points_account_status s, (SELECT cdp.now() + i * interval '7 hours' AS at FROM generate_series(1, 200) i) t;
DO $$
DECLARE
	was text := current_setting('cdp.now');
	t   timestamptz;
BEGIN
	FOR t IN SELECT DISTINCT at FROM naive.forecast LOOP
		PERFORM set_config('cdp.now', t::text, false);
		IF EXISTS (SELECT FROM naive.forecast f WHERE f.at = t AND f.told <> naive.spendable(f.customer_id, f.program)) THEN
			RAISE WARNING 'forecast for % is wrong', t;
		END IF;
	END LOOP;
	PERFORM set_config('cdp.now', was, false);
END $$;
SELECT count(DISTINCT told) > 10 AS different FROM naive.forecast;
-- statements: the sums of entries, without what went from one of his accounts to another
CREATE VIEW naive.statement AS
	SELECT c.customer_id, c.program, e.entry_id, e.posted_at, e.kind, e.amount, sum(e.amount) OVER (PARTITION BY c.customer_id, c.program ORDER BY e.posted_at, e.entry_id)::bigint AS balance, e.reference
	FROM cdp.points_account c JOIN cdp.points_entry e ON e.program = c.program AND cdp.customer_id(e.customer_id) = c.customer_id
	WHERE c.moved_to IS NULL AND e.kind NOT IN ('merge_in', 'merge_out');
SELECT count(*) > 200 AS many FROM naive.statement;
SELECT * FROM (SELECT * FROM naive.statement EXCEPT ALL SELECT a.customer_id, a.program, s.* FROM cdp.points_account a, cdp.points_statement(a.customer_id, a.program) s WHERE a.moved_to IS NULL) x;
SELECT * FROM (SELECT a.customer_id, a.program, s.* FROM cdp.points_account a, cdp.points_statement(a.customer_id, a.program) s WHERE a.moved_to IS NULL EXCEPT ALL SELECT * FROM naive.statement) x;
SELECT count(*) AS wrong_when_cut FROM (SELECT n.* FROM naive.statement n WHERE n.posted_at >= '2026-06-01Z' AND n.posted_at < '2026-09-01Z'
	EXCEPT ALL SELECT a.customer_id, a.program, s.* FROM cdp.points_account a, cdp.points_statement(a.customer_id, a.program, '2026-06-01Z', '2026-09-01Z') s WHERE a.moved_to IS NULL) x;
-- a customer who was merged and left again: what came with him stands in the statement of the other
BEGIN;
SELECT cdp.unmerge_customer(2, 'test');
SELECT kind, amount FROM cdp.points_statement(1) WHERE kind = 'merge_in';
ROLLBACK;

-- one account of many lots: its open lots by the index, added up, not sorted
INSERT INTO cdp.points_lot (customer_id, program, profile_id, entry_id, earned_entry, amount, remaining, earned_at, available_at, expires_at)
	SELECT 1000 + i % 100, 'points', 1000, 0, 0, 10, 10, '2026-01-01Z', '2026-01-01Z', '2027-01-01Z'::timestamptz + i * interval '1 second' FROM generate_series(1, 5000) i;
ANALYZE cdp.points_lot;
EXPLAIN (COSTS OFF) SELECT sum(l.remaining - l.held) FROM cdp.points_lot l
	WHERE l.customer_id = 1001 AND l.program = 'points' AND l.open AND l.expires_at > '2026-06-01Z' AND l.available_at <= '2026-06-01Z';
DROP SCHEMA naive CASCADE;
