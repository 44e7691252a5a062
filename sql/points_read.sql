-- points_read: what a customer has, had and will have; what expires; his statement.
-- Page: doc/points_read.md  Tests: test/sql/points_read.sql
--
-- What counts at a moment t is told by the dates of lots and holds, never by whether a job ran:
--
--	a lot can be spent when available_at <= t < expires_at, and in a program with expiry_mode inactivity only while
--	t < account.active_until; a hold reserves its part of a lot while t < release_at; spendable is the unheld rest of
--	such lots, less the debt of the account
--
-- So the present and the future are one formula over the open lots as they are.  For a moment that is past the state is
-- walked back first: what entries after it took from a lot (cdp.points_lot_use) is put back, lots and debts that they
-- made are left out, and holds that were resolved after it reserve again.  That costs what happened since, not what
-- happened before.

-- @code
CREATE OR REPLACE FUNCTION cdp._points_customer(customer_id bigint, program text) RETURNS bigint
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	one bigint;
BEGIN
	PERFORM cdp._require_version();
	one := cdp._existing_customer(customer_id);
	IF program IS NULL THEN
		RAISE EXCEPTION 'program must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'Leave it out for points; programs are listed in cdp.points_program.';
	END IF;
	IF NOT EXISTS (SELECT FROM cdp.points_program p WHERE p.program = _points_customer.program) THEN
		RAISE EXCEPTION 'there is no program "%"', program USING ERRCODE = 'undefined_object',
			HINT = 'Programs are listed in cdp.points_program; a row there makes one.';
	END IF;
	RETURN one;
END $$;
COMMENT ON FUNCTION cdp._points_customer(bigint, text) IS 'internal: the One ID to whom a question about points goes; 22004, 23503, 42704';

CREATE OR REPLACE FUNCTION cdp._points_balance_at(ids bigint[], program text, at timestamptz) RETURNS bigint
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- The accounts of all these profiles as they were, together; program and profiles are known to exist.
DECLARE
	rule   cdp.points_program;
	zone   text := coalesce(current_setting('cdp.timezone', true), 'Asia/Shanghai');
	ended  bigint[];
	answer bigint;
BEGIN
	SELECT * INTO rule FROM cdp.points_program p WHERE p.program = _points_balance_at.program;
	-- Accounts that had expired as a whole.  active_until is kept for the present only.  What has moved it since is told
	-- by the entries: then it is validity after the last one before, and whoever was merged brought his last one along.
	IF rule.expiry_mode = 'inactivity' THEN
		WITH active AS (
			SELECT e.customer_id, max(e.posted_at) FILTER (WHERE e.posted_at <= at AND e.kind <> 'merge_in') AS last_at, bool_or(e.posted_at > at) AS later
			FROM cdp.points_entry e
			WHERE e.customer_id = ANY (ids) AND e.program = rule.program AND e.kind IN ('earn', 'spend', 'adjust', 'transfer_out', 'merge_in')
			GROUP BY e.customer_id
		), was AS (
			SELECT a.customer_id, CASE WHEN NOT x.later THEN a.active_until ELSE cdp._local_to_utc((CASE
				WHEN EXISTS (SELECT FROM cdp.points_entry e WHERE e.customer_id = a.customer_id AND e.program = rule.program AND e.kind = 'merge_in'
					AND e.posted_at <= at) THEN (SELECT max(y.last_at) FROM active y) ELSE x.last_at END AT TIME ZONE zone) + rule.validity) END AS active_until
			FROM active x JOIN cdp.points_account a ON a.customer_id = x.customer_id AND a.program = rule.program
		)
		SELECT array_agg(w.customer_id) INTO ended FROM was w WHERE w.active_until <= at;
	END IF;
	WITH later AS MATERIALIZED (
			SELECT e.entry_id, e.debt FROM cdp.points_entry e
			WHERE e.customer_id = ANY (ids) AND e.program = rule.program AND e.posted_at > at
		), back AS (
			SELECT u.lot_id, sum(u.amount) AS amount FROM later y JOIN cdp.points_lot_use u USING (entry_id) GROUP BY u.lot_id
		), reserved AS (
			SELECT h.hold_id FROM cdp.points_hold h
			WHERE h.customer_id = ANY (ids) AND h.program = rule.program AND h.state = 'open' AND h.held_at <= at AND h.release_at > at
			UNION ALL
			SELECT h.hold_id FROM cdp.points_hold h
			WHERE h.customer_id = ANY (ids) AND h.program = rule.program AND h.state <> 'open' AND h.resolved_at > at
			  AND h.held_at <= at AND h.release_at > at
		), part AS (
			SELECT l.customer_id, l.available_at, l.expires_at, l.remaining AS amount FROM cdp.points_lot l
			WHERE l.customer_id = ANY (ids) AND l.program = rule.program AND l.open AND l.expires_at > at
			  AND NOT EXISTS (SELECT FROM later y WHERE y.entry_id = l.entry_id)
			UNION ALL
			SELECT l.customer_id, l.available_at, l.expires_at, b.amount FROM back b JOIN cdp.points_lot l USING (lot_id)
			WHERE NOT EXISTS (SELECT FROM later y WHERE y.entry_id = l.entry_id)
			UNION ALL
			SELECT l.customer_id, l.available_at, l.expires_at, -r.amount FROM reserved h
			JOIN cdp.points_hold_lot r USING (hold_id) JOIN cdp.points_lot l USING (lot_id)
		)
	SELECT coalesce((SELECT sum(x.amount) FROM part x
			WHERE x.available_at <= at AND x.expires_at > at AND x.customer_id <> ALL (coalesce(ended, '{}'))), 0)
		- coalesce((SELECT sum(a.debt) FROM cdp.points_account a WHERE a.customer_id = ANY (ids) AND a.program = rule.program), 0)
		+ coalesce((SELECT sum(y.debt) FROM later y), 0)
	INTO answer;
	RETURN answer;
END $$;
COMMENT ON FUNCTION cdp._points_balance_at(bigint[], text, timestamptz) IS 'internal: cdp.points_balance() at a moment that is past, of the accounts of these profiles together';

-- @access
('function', 'points_balance', 'EXECUTE', '{reader,application}'),
('function', 'points_statement', 'EXECUTE', '{reader,application}'),
('function', 'points_expiring', 'EXECUTE', '{reader,application}'),
('table', 'points_account_status', 'SELECT', '{reader,application}'),

-- @data
-- holds that were resolved since, for the past
CREATE INDEX IF NOT EXISTS points_hold_resolved ON cdp.points_hold (customer_id, program, resolved_at) WHERE state <> 'open';

-- @view
-- One row per open lot, and one per lot of a hold that is past its time but stands as open still: what it reserved is free.
CREATE OR REPLACE VIEW cdp._points_free AS
	SELECT l.customer_id, l.program, l.available_at, l.expires_at, l.remaining - l.held AS amount, l.held
	FROM cdp.points_lot l WHERE l.open
	UNION ALL
	SELECT h.customer_id, h.program, l.available_at, l.expires_at, r.amount, -r.amount
	FROM cdp.points_hold h JOIN cdp.points_hold_lot r USING (hold_id) JOIN cdp.points_lot l USING (lot_id)
	WHERE h.state = 'open' AND h.release_at <= cdp.now() AND h.release_at < 'infinity';
COMMENT ON VIEW cdp._points_free IS 'internal: parts of open lots, amount: not held; held: what holds reserve by now. Several rows per lot, to be added up; lots that have expired are among them.';

CREATE OR REPLACE VIEW cdp.points_account_status AS
	SELECT a.customer_id || ':' || a.program AS account_id, a.customer_id, a.program, a.balance,
		(l.available - a.debt)::bigint AS available, l.pending::bigint AS pending, l.held::bigint AS held, a.debt,
		l.next_expiry_at, n.amount::bigint AS next_expiry_amount, l.expiring_30_days::bigint AS expiring_30_days
	FROM cdp.points_account a
	JOIN cdp.points_program p USING (program)
	CROSS JOIN LATERAL (SELECT cdp.now() AS now, CASE WHEN p.expiry_mode = 'inactivity' THEN a.active_until END AS active_until) t
	CROSS JOIN LATERAL (
		SELECT coalesce(sum(f.amount) FILTER (WHERE f.available_at <= t.now AND f.ends_at > t.now), 0) AS available,
			coalesce(sum(f.amount) FILTER (WHERE f.available_at > t.now AND f.ends_at > t.now), 0) AS pending,
			coalesce(sum(f.held), 0) AS held,
			coalesce(sum(f.amount) FILTER (WHERE f.ends_at > t.now AND f.ends_at <= t.now + interval '30 days'), 0) AS expiring_30_days,
			min(f.ends_at) FILTER (WHERE f.ends_at > t.now AND f.ends_at < 'infinity' AND f.amount > 0) AS next_expiry_at
		FROM (SELECT f.available_at, least(f.expires_at, t.active_until) AS ends_at, f.amount, f.held FROM cdp._points_free f
			WHERE f.customer_id = a.customer_id AND f.program = a.program) f) l
	CROSS JOIN LATERAL (
		SELECT sum(f.amount) AS amount FROM cdp._points_free f
		WHERE f.customer_id = a.customer_id AND f.program = a.program
		  AND f.expires_at >= l.next_expiry_at AND least(f.expires_at, t.active_until) = l.next_expiry_at) n
	WHERE a.moved_to IS NULL;
COMMENT ON VIEW cdp.points_account_status IS 'What customers have: a row per customer (One ID) and program that ever had an entry. account_id: unique, customer_id:program. balance: sum of the entries. available: what can be spent, less the debt, as cdp.points_balance() says; below 0: he owes more than he has. pending: not available yet. held: reserved by holds. debt: owed. balance is available + pending + held + what has expired but was not taken out yet. next_expiry_at, next_expiry_amount: when the next points expire, and how many at that moment, held ones not counted; NULL: none do. expiring_30_days: how many within 30 days. As of cdp.now().';

CREATE OR REPLACE FUNCTION cdp.points_balance(customer_id bigint, program text DEFAULT 'points', as_of timestamptz DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
	one    bigint := cdp._points_customer(customer_id, program);
	at     timestamptz := coalesce(as_of, cdp.now());
	a      record;
	answer bigint := 0;
	due    bigint := 0;
BEGIN
	IF NOT isfinite(at) THEN
		RAISE EXCEPTION 'as_of must be a finite time' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for the present moment.';
	ELSIF at < cdp.now() THEN
		RETURN cdp._points_balance_at(ARRAY(SELECT cdp.profiles_of(one)), program, at);
	END IF;
	SELECT c.debt, c.held, p.expiry_mode = 'inactivity' AND c.active_until <= at AS ended INTO a
	FROM cdp.points_account c JOIN cdp.points_program p USING (program)
	WHERE c.customer_id = one AND c.program = points_balance.program;
	IF NOT FOUND THEN
		RETURN 0;
	END IF;
	IF a.ended IS NOT TRUE THEN
		SELECT coalesce(sum(l.remaining - l.held), 0) INTO answer FROM cdp.points_lot l
		WHERE l.customer_id = one AND l.program = points_balance.program AND l.open AND l.expires_at > at AND l.available_at <= at;
		IF a.held > 0 THEN
			SELECT coalesce(sum(r.amount), 0) INTO due
			FROM cdp.points_hold h JOIN cdp.points_hold_lot r USING (hold_id) JOIN cdp.points_lot l USING (lot_id)
			WHERE h.customer_id = one AND h.program = points_balance.program AND h.state = 'open' AND h.release_at <= at
			  AND l.expires_at > at AND l.available_at <= at;
		END IF;
	END IF;
	RETURN answer + due - a.debt;
END $$;
COMMENT ON FUNCTION cdp.points_balance(bigint, text, timestamptz) IS 'How many points a customer can spend: available, not expired, not held, less what he owes; below 0 when he owes more than that. 0 without an account. customer_id: any profile id of the customer. as_of: NULL: now. A moment that is past is walked back to through the entries after it, by their posted_at: the points of the customer as he is today, with those of everybody who was merged into him since; under expiry_mode inactivity by the rule of today. A later moment: the forecast if nothing else happens, so points expire, pending ones become available and holds end. Errors: 22004 NULL customer or program, 23503 unknown customer, 42704 unknown program, 22023 as_of infinity.';

CREATE OR REPLACE FUNCTION cdp.points_statement(customer_id bigint, program text DEFAULT 'points', from_time timestamptz DEFAULT NULL,
	to_time timestamptz DEFAULT NULL)
	RETURNS TABLE (entry_id bigint, posted_at timestamptz, kind text, amount bigint, balance bigint, reference text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- Counted from the end, where the sum is known, so that the statement of last month does not read years.
DECLARE
	ids  bigint[];
	last bigint;
BEGIN
	ids := ARRAY(SELECT cdp.profiles_of(cdp._points_customer(points_statement.customer_id, program)));
	SELECT sum(a.balance) INTO last FROM cdp.points_account a WHERE a.customer_id = ANY (ids) AND a.program = points_statement.program;
	RETURN QUERY WITH own AS MATERIALIZED (
			SELECT e.entry_id, e.posted_at, e.kind, e.amount, e.reference, e.reverses FROM cdp.points_entry e
			WHERE e.customer_id = ANY (ids) AND e.program = points_statement.program
			  AND e.posted_at >= coalesce(from_time, '-infinity')
		), inside AS (
			SELECT i.entry_id AS in_id, o.entry_id AS out_id FROM own i JOIN own o ON o.entry_id = i.reverses
			WHERE i.kind = 'merge_in' AND o.kind = 'merge_out'
		), shown AS (
			SELECT o.*, last - (SELECT sum(n.amount) FROM own n) + sum(o.amount) OVER (ORDER BY o.posted_at, o.entry_id) AS balance
			FROM own o
			WHERE o.kind NOT IN ('merge_in', 'merge_out')
			   OR NOT EXISTS (SELECT FROM inside i WHERE o.entry_id IN (i.in_id, i.out_id))
		)
		SELECT s.entry_id, s.posted_at, s.kind, s.amount, s.balance::bigint, s.reference FROM shown s
		WHERE s.posted_at < coalesce(to_time, 'infinity') ORDER BY s.posted_at, s.entry_id;
END $$;
COMMENT ON FUNCTION cdp.points_statement(bigint, text, timestamptz, timestamptz) IS 'What happened to the points of a customer, in the order of posted_at: entry_id, posted_at, kind, amount (what the balance changed by), balance after it, reference. customer_id: any profile id of the customer. Entries of those who were merged into him are among them; what only went from one of his accounts to another is not. from_time, to_time: posted_at >= from_time and < to_time, NULL: no bound; balance counts what was before, too. It is the sum of the entries: pending, held and expired points that were not taken out yet count in it. No rows without entries. Errors: 22004 NULL customer or program, 23503 unknown customer, 42704 unknown program.';

CREATE OR REPLACE FUNCTION cdp.points_expiring(within interval)
	RETURNS TABLE (customer_id bigint, program text, expires_at timestamptz, amount bigint)
	LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 10000 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	now   timestamptz := cdp.now();
	until timestamptz;
BEGIN
	PERFORM cdp._require_version();
	IF within IS NULL OR within < interval '0' THEN
		RAISE EXCEPTION 'within must be an interval of 0 or more' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Write ''30 days'', say.';
	END IF;
	until := now + within;
	RETURN QUERY WITH idle AS MATERIALIZED (
			SELECT p.program FROM cdp.points_program p WHERE p.expiry_mode = 'inactivity'
		), free AS (
			-- lots that expire by their own date, unless the account has expired before
			SELECT f.customer_id, f.program, f.expires_at, f.amount FROM cdp._points_free f
			WHERE f.expires_at > now AND f.expires_at <= until AND f.expires_at < 'infinity'
			  AND (NOT EXISTS (SELECT FROM idle i WHERE i.program = f.program)
			    OR NOT EXISTS (SELECT FROM cdp.points_account a
					WHERE a.customer_id = f.customer_id AND a.program = f.program AND a.active_until < f.expires_at))
			UNION ALL
			-- all that is left of accounts that expire as a whole
			SELECT a.customer_id, a.program, a.active_until, f.amount
			FROM cdp.points_account a JOIN cdp._points_free f ON f.customer_id = a.customer_id AND f.program = a.program
			WHERE a.active_until > now AND a.active_until <= until AND f.expires_at > a.active_until
			  AND a.program IN (SELECT i.program FROM idle i)
		)
		SELECT f.customer_id, f.program, f.expires_at, sum(f.amount)::bigint FROM free f
		GROUP BY f.customer_id, f.program, f.expires_at HAVING sum(f.amount) > 0
		ORDER BY f.expires_at, f.customer_id, f.program;
END $$;
COMMENT ON FUNCTION cdp.points_expiring(interval) IS 'Points that expire after cdp.now() and within that time from it, unless they are spent: a row per customer (One ID), program and moment. amount: without what holds reserve. Accounts that expire for inactivity are told by the moment at which they do. Errors: 22023 within NULL or below 0.';
