-- points_verify: is the ledger what its own rules say?
-- C: src/points_verify.c  Page: doc/points_verify.md  Tests: test/sql/points_verify.sql
--
-- Each rule is one query that names who breaks it.  Most of them say that two sums are equal for every account, every lot
-- or every entry; to group millions of rows by these takes long, and nearly always finds nothing.  So verify_points() first
-- asks, in one pass over each table, for a number on either side of each such rule (cdp._fingerprint(), which see) and runs
-- the query of a rule only where its two numbers differ, or where a row was met that is wrong by itself.
--
-- Everything is read in one statement of the caller, so under one snapshot, and by queries that can run in parallel.

-- @code
CREATE OR REPLACE FUNCTION cdp._fingerprint_add(state bigint, amount bigint, id bigint, seed bigint) RETURNS bigint
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fingerprint_add';
COMMENT ON FUNCTION cdp._fingerprint_add(bigint, bigint, bigint, bigint) IS 'internal: next state of cdp._fingerprint()';

CREATE OR REPLACE FUNCTION cdp._fingerprint_combine(a bigint, b bigint) RETURNS bigint
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_fingerprint_combine';
COMMENT ON FUNCTION cdp._fingerprint_combine(bigint, bigint) IS 'internal: state of cdp._fingerprint() over both parts of the rows';

CREATE OR REPLACE AGGREGATE cdp._fingerprint(amount bigint, id bigint, seed bigint) (
	SFUNC = cdp._fingerprint_add, STYPE = bigint, INITCOND = '0', COMBINEFUNC = cdp._fingerprint_combine, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp._fingerprint(bigint, bigint, bigint) IS 'internal: a number that is equal for two sets of rows when the sums of amount are equal for each id, and otherwise, but for one chance in 2^61, is not; seed: drawn anew each time';

CREATE OR REPLACE FUNCTION cdp._points_ruled() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF (NEW.negative, NEW.debt_limit, NEW.expiry_mode) IS DISTINCT FROM (OLD.negative, OLD.debt_limit, OLD.expiry_mode) THEN
		NEW.ruled_at := cdp.now();
	END IF;
	RETURN NEW;
END $$;
COMMENT ON FUNCTION cdp._points_ruled() IS 'internal: trigger on cdp.points_program, notes when its rules of debt and of expiry changed';

CREATE OR REPLACE PROCEDURE cdp.check_points() LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._require_version();
	PERFORM cdp._store_points_check();
END $$;
COMMENT ON PROCEDURE cdp.check_points() IS 'Runs verify_points() and keeps its result for cdp.health(). A job of that name is in cdp.job.';

CREATE OR REPLACE FUNCTION cdp._health_points_verify() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r   jsonb;
	age interval;
BEGIN
	IF to_regclass('cdp.points_entry') IS NULL THEN
		RETURN;
	END IF;
	SELECT m.value::jsonb INTO r FROM cdp.meta m WHERE m.key = 'points_check';
	age := date_trunc('minute', cdp.now() - (r ->> 'at')::timestamptz);
	RETURN QUERY VALUES ('points', r IS NULL OR (r ->> 'problems')::bigint = 0, CASE
		WHEN r IS NULL THEN 'never verified; CALL cdp.check_points()'
		WHEN (r ->> 'problems')::bigint = 0 THEN format('sound %s ago', age)
		ELSE format('%s problems %s ago, the first: %s; SELECT * FROM cdp.verify_points()', r ->> 'problems', age, r ->> 'first') END);
END $$;
COMMENT ON FUNCTION cdp._health_points_verify() IS 'internal: row of points in cdp.health(): the last stored result of verify_points()';

-- @access
('function', 'verify_points', 'EXECUTE', '{reader}'),
('function', 'check_points', 'EXECUTE', '{operator}'),
('function', '_store_points_check', 'EXECUTE', '{operator}'),
('function', '_health_points_verify', 'EXECUTE', '{reader,application}'),

-- @data
-- what happened under other rules was sound then
CREATE OR REPLACE TRIGGER points_program_ruled BEFORE UPDATE ON cdp.points_program
	FOR EACH ROW EXECUTE FUNCTION cdp._points_ruled();
INSERT INTO cdp.job (job, command, schedule, description) VALUES
	('check_points', 'CALL cdp.check_points()', '17 4 * * *', 'verifies the points ledger, for cdp.health()')
	ON CONFLICT (job) DO NOTHING;

-- @view
CREATE OR REPLACE FUNCTION cdp._points_suspects(seed bigint) RETURNS TABLE (check_name text, latest timestamptz)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
-- One query, so that every table is read once; RETURN QUERY, because plpgsql runs nothing else in parallel; OFFSET 0,
-- because what is said once for a row shall be reckoned once.  An account is known by a hash of its key.
BEGIN
	RETURN QUERY
	SELECT s.name, e.latest FROM (
			SELECT cdp._fingerprint(x.amount, x.account, seed) AS balance, cdp._fingerprint(x.debt, x.account, seed) AS debt,
				cdp._fingerprint(1, x.account, seed) AS entries, cdp._fingerprint(x.amount + x.debt, x.entry_id, seed) AS made,
				cdp._fingerprint(abs(x.amount) + 1, hashtextextended(x.idempotency_key, x.entry_id), seed) AS keys,
				cdp._fingerprint(x.amount, CASE WHEN x.rare THEN hashint8extended(CASE WHEN x.kind IN ('transfer_in', 'merge_in') THEN coalesce(x.reverses, 0)
					WHEN x.kind IN ('transfer_out', 'merge_out') THEN x.entry_id END, extract(epoch FROM x.posted_at)::bigint) END, seed) AS pairs,
				cdp._fingerprint(abs(x.amount), CASE WHEN x.rare THEN CASE WHEN x.kind IN ('refund', 'clawback')
					THEN hashtextextended(x.reference, hashtextextended(x.program, (x.kind = 'refund')::int)) END END, seed) AS reversals,
				count(*) FILTER (WHERE x.rare AND (x.amount < 0 AND x.kind IN ('earn', 'refund', 'transfer_in')
					OR x.amount > 0 AND x.kind IN ('spend', 'expire', 'clawback', 'transfer_out'))) AS signs,
				count(*) FILTER (WHERE x.rare AND x.kind = 'expire') AS expired, max(x.posted_at) AS latest
			FROM (SELECT e.entry_id, e.posted_at, e.program, e.kind, e.amount, e.debt, e.reference, e.idempotency_key, e.reverses,
					hashtextextended(e.program, e.customer_id) AS account,
					NOT CASE WHEN e.amount > 0 THEN e.kind = 'earn' ELSE e.kind = 'spend' END AS rare
				FROM cdp.points_entry e OFFSET 0) x
		) e, (
			SELECT cdp._fingerprint(x.balance, x.account, seed) AS balance, cdp._fingerprint(x.debt, x.account, seed) AS debt,
				cdp._fingerprint(x.entries, x.account, seed) AS entries, cdp._fingerprint(x.balance + x.debt, x.account, seed) AS remaining,
				cdp._fingerprint(x.held, x.account, seed) AS held
			FROM (SELECT a.balance, a.debt, a.entries, a.held, hashtextextended(a.program, a.customer_id) AS account
				FROM cdp.points_account a OFFSET 0) x
		) a, (
			SELECT cdp._fingerprint(x.remaining, x.account, seed) AS remaining, cdp._fingerprint(x.held, x.account, seed) AS held,
				cdp._fingerprint(x.amount - x.remaining, x.lot_id, seed) AS gone, cdp._fingerprint(x.amount, x.entry_id, seed) AS made,
				cdp._fingerprint(x.held, x.lot_id, seed) AS reserved, cdp._fingerprint(1, CASE WHEN x.origin_lot IS NOT NULL THEN x.lot_id END, seed) AS moved,
				count(*) FILTER (WHERE x.amount <= 0 OR x.held < 0 OR x.held > x.remaining OR x.remaining > x.amount) AS bounds,
				min(x.expires_at) AS first_expired,
				count(*) FILTER (WHERE x.available_at > x.earned_at) AS pending
			FROM (SELECT l.lot_id, l.entry_id, l.origin_lot, l.amount, l.remaining, l.held, l.earned_at, l.available_at, l.expires_at,
					CASE WHEN l.remaining <> 0 OR l.held <> 0 THEN hashtextextended(l.program, l.customer_id) END AS account
				FROM cdp.points_lot l OFFSET 0) x
		) l, (
			SELECT cdp._fingerprint(u.amount, u.lot_id, seed) AS gone, cdp._fingerprint(u.amount, u.entry_id, seed) AS used,
				sum(u.restored) FILTER (WHERE u.restored <> 0) AS restored, count(*) FILTER (WHERE u.restored < 0 OR u.restored > greatest(u.amount, 0)) AS bounds
			FROM cdp.points_lot_use u
		) u, (
			SELECT cdp._fingerprint(k.posted + 1, hashtextextended(k.idempotency_key, k.result), seed) AS keys,
				cdp._fingerprint(k.reversed, CASE WHEN k.reversed <> 0
					THEN hashtextextended(k.reference, hashtextextended(k.program, (k.verb <> 'earn')::int)) END, seed) AS reversals,
				sum(k.reversed) FILTER (WHERE k.reversed <> 0 AND k.verb <> 'earn') AS restored,
				count(*) FILTER (WHERE k.reversed < 0 OR k.reversed > k.posted) AS bounds
			FROM cdp.points_key k
		) k, (
			SELECT cdp._fingerprint(h.captured + 1, hashtextextended(h.idempotency_key, h.hold_id), seed) AS keys FROM cdp.points_hold h
		) h, (
			SELECT cdp._fingerprint(r.amount, r.lot_id, seed) AS reserved
			FROM cdp.points_hold_lot r JOIN cdp.points_hold h USING (hold_id) WHERE h.state = 'open'
		) r, (
			SELECT cdp._fingerprint(1, m.to_lot, seed) AS moved FROM cdp.points_lot_move m
		) m,
		LATERAL (VALUES
			('balance', e.balance <> a.balance),
			('count', e.entries <> a.entries),
			('lots', a.remaining <> l.remaining OR e.debt <> a.debt),
			('lot', u.gone <> l.gone OR l.bounds > 0),
			-- what an entry is worth and what it used make the lots
			('entry', cdp._fingerprint_combine(e.made, u.used) <> l.made OR e.signs > 0),
			('key', cdp._fingerprint_combine(e.keys, h.keys) <> k.keys),
			('held', a.held <> l.held OR l.reserved <> r.reserved),
			('total', e.pairs <> 0),
			('reversal', e.reversals <> k.reversals OR u.restored IS DISTINCT FROM k.restored OR u.bounds > 0 OR k.bounds > 0),
			('move', l.moved <> m.moved),
			-- not wrong, but there is something to look at
			('used late', l.first_expired <= e.latest OR l.pending > 0),
			('expired early', e.expired > 0)
		) s(name, wrong)
	WHERE s.wrong;
END $$;
COMMENT ON FUNCTION cdp._points_suspects(bigint) IS 'internal: rules of verify_points() that somebody breaks or may break, as far as one pass over the tables can tell; latest: of all posted_at';

CREATE OR REPLACE FUNCTION cdp._verify_points_sums(which text, suspects text[]) RETURNS TABLE (check_name text, program text, customer_id bigint, detail text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off SET work_mem = '32MB'
AS $$
#variable_conflict use_column
BEGIN
	-- the balance is the sum of the entries, and they are as many as the account says
	IF suspects && '{balance,count}' THEN
		RETURN QUERY
		SELECT v.name, p.program, p.customer_id, v.detail
		FROM (SELECT e.customer_id, e.program, sum(e.amount) AS amount, count(*) AS n FROM cdp.points_entry e
				WHERE which IS NULL OR e.program = which GROUP BY e.customer_id, e.program) e
		FULL JOIN (SELECT * FROM cdp.points_account a WHERE which IS NULL OR a.program = which) a USING (customer_id, program)
		CROSS JOIN LATERAL (SELECT program, customer_id, coalesce(e.amount, 0) AS amount, coalesce(e.n, 0) AS n) p
		CROSS JOIN LATERAL (VALUES
			('balance', CASE WHEN a.balance IS NULL THEN format('there is no account for %s entries that add up to %s', p.n, p.amount)
				WHEN a.balance <> p.amount THEN format('the balance is %s, its entries add up to %s', a.balance, p.amount) END),
			('count', CASE WHEN a.entries <> p.n THEN format('the account counts %s entries, there are %s', a.entries, p.n) END)) v(name, detail)
		WHERE v.detail IS NOT NULL;
	END IF;

	-- what is left in the lots is the balance and the debt; the debt is what the entries made it
	IF 'lots' = ANY (suspects) THEN
		RETURN QUERY
		SELECT 'lots', program, customer_id, CASE
			WHEN a.balance IS NULL THEN format('there is no account for lots with %s points', l.remaining)
			ELSE format('balance %s and debt %s are not the %s points left in lots', a.balance, a.debt, coalesce(l.remaining, 0)) END
		FROM (SELECT l.customer_id, l.program, sum(l.remaining) AS remaining FROM cdp.points_lot l
				WHERE l.remaining <> 0 AND (which IS NULL OR l.program = which) GROUP BY l.customer_id, l.program) l
		FULL JOIN (SELECT * FROM cdp.points_account a WHERE which IS NULL OR a.program = which) a USING (customer_id, program)
		WHERE a.balance + a.debt IS DISTINCT FROM coalesce(l.remaining, 0);
		RETURN QUERY
		SELECT 'lots', program, customer_id, format('the debt is %s, its entries make it %s', coalesce(a.debt, 0), coalesce(e.debt, 0))
		FROM (SELECT e.customer_id, e.program, sum(e.debt) AS debt FROM cdp.points_entry e
				WHERE e.debt <> 0 AND (which IS NULL OR e.program = which) GROUP BY e.customer_id, e.program) e
		FULL JOIN (SELECT * FROM cdp.points_account a WHERE which IS NULL OR a.program = which) a USING (customer_id, program)
		WHERE coalesce(a.debt, 0) <> coalesce(e.debt, 0);
	END IF;

	-- what has gone from a lot is what its uses say
	IF 'lot' = ANY (suspects) THEN
		RETURN QUERY
		SELECT 'lot', l.program, l.customer_id, CASE
			WHEN l.amount <= 0 OR l.held < 0 OR l.held > l.remaining OR l.remaining > l.amount
				THEN format('lot %s: of %s points %s are left and %s held', l.lot_id, l.amount, l.remaining, l.held)
			ELSE format('lot %s: of %s points %s are left, but %s were used', l.lot_id, l.amount, l.remaining, coalesce(u.amount, 0)) END
		FROM cdp.points_lot l LEFT JOIN (SELECT u.lot_id, sum(u.amount) AS amount FROM cdp.points_lot_use u GROUP BY u.lot_id) u USING (lot_id)
		WHERE (which IS NULL OR l.program = which)
		  AND (l.amount - l.remaining <> coalesce(u.amount, 0) OR l.amount <= 0 OR l.held < 0 OR l.held > l.remaining OR l.remaining > l.amount);
		RETURN QUERY
		SELECT 'lot', e.program, e.customer_id, format('entry %s has used %s points of lot %s, which is not there', u.entry_id, u.amount, u.lot_id)
		FROM cdp.points_lot_use u LEFT JOIN cdp.points_entry e USING (entry_id)
		WHERE NOT EXISTS (SELECT FROM cdp.points_lot l WHERE l.lot_id = u.lot_id) AND (which IS NULL OR e.program = which);
	END IF;

	-- an entry is worth the lots that it made, less what it used of others, less what it made a debt
	IF 'entry' = ANY (suspects) THEN
		RETURN QUERY
		SELECT 'entry', e.program, e.customer_id, CASE
			WHEN coalesce(m.amount, 0) - coalesce(u.amount, 0) - e.debt = e.amount THEN format('entry %s: %s by %s', e.entry_id, e.kind, e.amount)
			ELSE format('entry %s: %s by %s, but lots of %s were made, %s were used, and the debt rose by %s', e.entry_id, e.kind, e.amount,
				coalesce(m.amount, 0), coalesce(u.amount, 0), e.debt) END
		FROM cdp.points_entry e
		LEFT JOIN (SELECT l.entry_id, sum(l.amount) AS amount FROM cdp.points_lot l GROUP BY l.entry_id) m USING (entry_id)
		LEFT JOIN (SELECT u.entry_id, sum(u.amount) AS amount FROM cdp.points_lot_use u GROUP BY u.entry_id) u USING (entry_id)
		WHERE (which IS NULL OR e.program = which)
		  AND (coalesce(m.amount, 0) - coalesce(u.amount, 0) - e.debt <> e.amount
			OR e.amount < 0 AND e.kind IN ('earn', 'refund', 'transfer_in')
			OR e.amount > 0 AND e.kind IN ('spend', 'expire', 'clawback', 'transfer_out'));
		RETURN QUERY
		SELECT 'entry', l.program, l.customer_id, format('lot %s of %s points was made by entry %s, which is not there', l.lot_id, l.amount, l.entry_id)
		FROM cdp.points_lot l
		WHERE NOT EXISTS (SELECT FROM cdp.points_entry e WHERE e.entry_id = l.entry_id) AND (which IS NULL OR l.program = which);
		RETURN QUERY
		SELECT 'entry', l.program, l.customer_id, format('%s points of lot %s were used by entry %s, which is not there', u.amount, u.lot_id, u.entry_id)
		FROM cdp.points_lot_use u LEFT JOIN cdp.points_lot l USING (lot_id)
		WHERE NOT EXISTS (SELECT FROM cdp.points_entry e WHERE e.entry_id = u.entry_id) AND (which IS NULL OR l.program = which);
	END IF;

	-- a key answers one entry or hold, which is there; an entry that was asked for has its key
	IF 'key' = ANY (suspects) THEN
		RETURN QUERY
		SELECT 'key', k.program, k.customer_id, CASE
			WHEN e.entry_id IS NULL THEN format('a key of %s answers entry %s, which is not there', k.verb, k.result)
			WHEN e.idempotency_key IS DISTINCT FROM k.idempotency_key THEN format('a key of %s answers entry %s, which was asked for under another', k.verb, k.result)
			ELSE format('a key of %s says that entry %s is worth %s, it is %s', k.verb, k.result, k.posted, abs(e.amount)) END
		FROM cdp.points_key k LEFT JOIN cdp.points_entry e ON e.entry_id = k.result
		WHERE k.verb <> 'hold' AND (which IS NULL OR k.program = which)
		  AND (e.idempotency_key IS DISTINCT FROM k.idempotency_key OR abs(e.amount) <> k.posted);
		RETURN QUERY
		SELECT 'key', e.program, e.customer_id, format('nothing answers the key of entry %s', e.entry_id)
		FROM cdp.points_entry e
		WHERE e.idempotency_key IS NOT NULL AND (which IS NULL OR e.program = which)
		  AND NOT EXISTS (SELECT FROM cdp.points_key k WHERE k.result = e.entry_id AND k.verb <> 'hold' AND k.idempotency_key = e.idempotency_key);
		RETURN QUERY
		SELECT 'key', coalesce(k.program, h.program), coalesce(k.customer_id, h.customer_id), CASE
			WHEN k.result IS NULL THEN format('nothing answers the key of hold %s', h.hold_id)
			WHEN h.hold_id IS NULL THEN format('a key answers hold %s, which is not there', k.result)
			WHEN h.idempotency_key <> k.idempotency_key THEN format('a key answers hold %s, which was asked for under another', k.result)
			ELSE format('a key says that %s of hold %s were captured, it is %s', k.posted, k.result, h.captured) END
		FROM (SELECT * FROM cdp.points_key k WHERE k.verb = 'hold' AND (which IS NULL OR k.program = which)) k
		FULL JOIN (SELECT * FROM cdp.points_hold h WHERE which IS NULL OR h.program = which) h ON h.hold_id = k.result
		WHERE (h.idempotency_key, h.captured) IS DISTINCT FROM (k.idempotency_key, k.posted);
	END IF;

	-- holds, what they reserve, and what lots and accounts say about it
	IF 'held' = ANY (suspects) THEN
		RETURN QUERY
		SELECT 'hold', program, customer_id, format('the account says that %s are held, its lots %s', coalesce(a.held, 0), coalesce(l.held, 0))
		FROM (SELECT l.customer_id, l.program, sum(l.held) AS held FROM cdp.points_lot l
				WHERE l.held <> 0 AND (which IS NULL OR l.program = which) GROUP BY l.customer_id, l.program) l
		FULL JOIN (SELECT * FROM cdp.points_account a WHERE a.held <> 0 AND (which IS NULL OR a.program = which)) a USING (customer_id, program)
		WHERE coalesce(a.held, 0) <> coalesce(l.held, 0);
		RETURN QUERY
		SELECT 'hold', coalesce(l.program, r.program), coalesce(l.customer_id, r.customer_id),
			format('%s of lot %s are held, open holds reserve %s of it', coalesce(l.held, 0), lot_id, coalesce(r.amount, 0))
		FROM (SELECT * FROM cdp.points_lot l WHERE l.held <> 0 AND (which IS NULL OR l.program = which)) l
		FULL JOIN (SELECT r.lot_id, min(h.program) AS program, min(h.customer_id) AS customer_id, sum(r.amount) AS amount
				FROM cdp.points_hold h JOIN cdp.points_hold_lot r USING (hold_id)
				WHERE h.state = 'open' AND (which IS NULL OR h.program = which) GROUP BY r.lot_id) r USING (lot_id)
		WHERE coalesce(l.held, 0) <> coalesce(r.amount, 0);
	END IF;

	-- what one account gives another gets: in pairs, and so at the end of every month
	IF 'total' = ANY (suspects) THEN
		RETURN QUERY
		SELECT 'total', coalesce(i.program, o.program), coalesce(i.customer_id, o.customer_id), CASE
			WHEN i.entry_id IS NULL THEN format('%s of entry %s, nobody got it', o.amount, o.entry_id)
			WHEN o.entry_id IS NULL THEN format('%s of entry %s, nobody gave it', i.amount, i.entry_id)
			WHEN i.amount <> -o.amount THEN format('entry %s gives %s, entry %s gets %s', o.entry_id, o.amount, i.entry_id, i.amount)
			ELSE format('entry %s gives at %s, entry %s gets at %s', o.entry_id, o.posted_at AT TIME ZONE 'UTC', i.entry_id, i.posted_at AT TIME ZONE 'UTC') END
		FROM (SELECT * FROM cdp.points_entry e WHERE e.kind IN ('transfer_in', 'merge_in') AND (which IS NULL OR e.program = which)) i
		FULL JOIN (SELECT * FROM cdp.points_entry e WHERE e.kind IN ('transfer_out', 'merge_out') AND (which IS NULL OR e.program = which)) o
			ON o.entry_id = i.reverses
		WHERE (i.amount, i.posted_at) IS DISTINCT FROM (-o.amount, o.posted_at);
		RETURN QUERY
		SELECT 'total', e.program, NULL::bigint, format('at the end of %s accounts had %s points that no operation gave them',
			to_char(e.month, 'YYYY-MM'), sum(e.amount) OVER (PARTITION BY e.program ORDER BY e.month))
		FROM (SELECT e.program, date_trunc('month', e.posted_at AT TIME ZONE 'UTC') AS month, sum(e.amount) AS amount FROM cdp.points_entry e
				WHERE e.kind IN ('transfer_in', 'merge_in', 'transfer_out', 'merge_out') AND (which IS NULL OR e.program = which)
				GROUP BY 1, 2 HAVING sum(e.amount) <> 0) e;
	END IF;

	-- what was undone of a reference is what its keys and uses say, and never more than there was
	IF 'reversal' = ANY (suspects) THEN
		RETURN QUERY
		SELECT 'reversal', program, coalesce(e.customer_id, k.customer_id), format('%s of the reference of %s: entries add up to %s, its keys say %s', kind,
			CASE WHEN e.entry_id IS NOT NULL THEN format('entry %s', e.entry_id) ELSE format('the key that answers %s', k.result) END,
			coalesce(e.amount, 0), coalesce(k.amount, 0))
		FROM (SELECT e.program, e.kind, e.reference, sum(abs(e.amount)) AS amount, min(e.entry_id) AS entry_id, min(e.customer_id) AS customer_id
				FROM cdp.points_entry e WHERE e.kind IN ('refund', 'clawback') AND (which IS NULL OR e.program = which) GROUP BY 1, 2, 3) e
		FULL JOIN (SELECT k.program, CASE k.verb WHEN 'earn' THEN 'clawback' ELSE 'refund' END AS kind, k.reference, sum(k.reversed) AS amount,
					min(k.result) AS result, min(k.customer_id) AS customer_id
				FROM cdp.points_key k WHERE k.reversed <> 0 AND (which IS NULL OR k.program = which) GROUP BY 1, 2, 3) k USING (program, kind, reference)
		WHERE coalesce(e.amount, 0) <> coalesce(k.amount, 0);
		RETURN QUERY
		SELECT 'reversal', k.program, k.customer_id, format('%s of %s points of the key that answers %s are undone', k.reversed, k.posted, k.result)
		FROM cdp.points_key k WHERE (k.reversed < 0 OR k.reversed > k.posted) AND (which IS NULL OR k.program = which);
		RETURN QUERY
		SELECT 'reversal', e.program, e.customer_id, format('entry %s: %s of %s points of lot %s were given back', u.entry_id, u.restored, u.amount, u.lot_id)
		FROM cdp.points_lot_use u LEFT JOIN cdp.points_entry e USING (entry_id)
		WHERE (u.restored < 0 OR u.restored > greatest(u.amount, 0)) AND (which IS NULL OR e.program = which);
		RETURN QUERY
		SELECT 'reversal', coalesce(e.program, k.program), coalesce(e.customer_id, k.customer_id),
			format('entry %s: %s points were refunded, its lots got %s', entry_id, coalesce(k.amount, 0), coalesce(e.amount, 0))
		FROM (SELECT e.entry_id, e.program, e.customer_id, sum(u.restored) AS amount FROM cdp.points_lot_use u JOIN cdp.points_entry e USING (entry_id)
				WHERE u.restored <> 0 AND (which IS NULL OR e.program = which) GROUP BY 1, 2, 3) e
		FULL JOIN (SELECT coalesce(h.entry_id, k.result) AS entry_id, k.program, k.customer_id, k.reversed AS amount
				FROM cdp.points_key k LEFT JOIN cdp.points_hold h ON k.verb = 'hold' AND h.hold_id = k.result
				WHERE k.reversed <> 0 AND k.verb <> 'earn' AND (which IS NULL OR k.program = which)) k USING (entry_id)
		WHERE coalesce(e.amount, 0) <> coalesce(k.amount, 0);
	END IF;

	-- a lot that was made of another is linked to it
	IF 'move' = ANY (suspects) THEN
		RETURN QUERY
		SELECT 'move', l.program, l.customer_id, format('nothing says how the points of lot %s came into lot %s', l.origin_lot, l.lot_id)
		FROM cdp.points_lot l
		WHERE l.origin_lot IS NOT NULL AND (which IS NULL OR l.program = which)
		  AND NOT EXISTS (SELECT FROM cdp.points_lot_move m WHERE m.from_lot = l.origin_lot AND m.to_lot = l.lot_id);
	END IF;
END $$;
COMMENT ON FUNCTION cdp._verify_points_sums(text, text[]) IS 'internal: who breaks these rules of verify_points(), those that say that sums are equal';

CREATE OR REPLACE FUNCTION cdp._verify_points_rows(which text, suspects text[], latest timestamptz) RETURNS TABLE (check_name text, program text, customer_id bigint, detail text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off SET work_mem = '32MB'
AS $$
#variable_conflict use_column
BEGIN
	-- nobody has come to owe more than his program allows; of those who were merged, what each of them could
	RETURN QUERY
	SELECT 'debt', a.program, a.customer_id, CASE
		WHEN p.program IS NULL THEN 'the program of the account is not there'
		WHEN a.debt < 0 THEN format('the debt is %s', a.debt)
		WHEN p.negative <> 'debt' THEN format('%s are owed, negative is %s', a.debt, p.negative)
		ELSE format('%s are owed, debt_limit is %s', a.debt, p.debt_limit) END
	FROM cdp.points_account a LEFT JOIN cdp.points_program p USING (program)
	WHERE (which IS NULL OR a.program = which) AND (p.program IS NULL OR a.debt < 0 OR a.debt > 0
		AND (p.negative <> 'debt' OR a.debt > p.debt_limit + coalesce((SELECT sum(e.debt) FROM cdp.points_entry e
			WHERE e.customer_id = a.customer_id AND e.program = a.program AND e.kind = 'merge_in'), 0))
		AND EXISTS (SELECT FROM cdp.points_entry e WHERE e.customer_id = a.customer_id AND e.program = a.program AND e.debt > 0
			AND e.kind <> 'merge_in' AND e.posted_at > p.ruled_at));

	-- a hold is what its lots say, and resolved as it says
	RETURN QUERY
	SELECT 'hold', h.program, h.customer_id, CASE
		WHEN h.state = 'open' AND (h.captured, h.released) <> (0, 0) THEN format('hold %s is open, and %s captured, %s released', h.hold_id, h.captured, h.released)
		WHEN h.state <> 'open' AND h.captured + h.released <> h.amount
			THEN format('hold %s: of %s points %s were captured and %s released', h.hold_id, h.amount, h.captured, h.released)
		WHEN coalesce(r.amount, 0) <> h.amount THEN format('hold %s is about %s points, its lots about %s', h.hold_id, h.amount, coalesce(r.amount, 0))
		ELSE format('hold %s is %s, %s captured, by entry %s', h.hold_id, h.state, h.captured, coalesce(h.entry_id::text, 'none')) END
	FROM cdp.points_hold h
	LEFT JOIN (SELECT r.hold_id, sum(r.amount) AS amount FROM cdp.points_hold_lot r GROUP BY r.hold_id) r USING (hold_id)
	WHERE (which IS NULL OR h.program = which)
	  AND (coalesce(r.amount, 0) <> h.amount
		OR h.state = 'open' AND ((h.captured, h.released) <> (0, 0) OR h.entry_id IS NOT NULL)
		OR h.state <> 'open' AND h.captured + h.released <> h.amount
		OR (h.state = 'captured') <> (h.captured > 0) OR (h.state = 'captured') <> (h.entry_id IS NOT NULL)
		OR h.state = 'captured' AND NOT EXISTS (SELECT FROM cdp.points_entry e
			WHERE e.entry_id = h.entry_id AND e.kind = 'spend' AND e.amount = -h.captured AND e.program = h.program));

	-- nobody uses what has expired, but for holds, nor what is not available yet; nothing expires too early
	IF 'used late' = ANY (suspects) THEN
		RETURN QUERY
		SELECT 'time', l.program, l.customer_id, format('entry %s: %s of lot %s at %s, which is available from %s and expires %s', e.entry_id, e.kind, l.lot_id,
			e.posted_at AT TIME ZONE 'UTC', l.available_at AT TIME ZONE 'UTC', l.expires_at AT TIME ZONE 'UTC')
		FROM cdp.points_lot l JOIN cdp.points_lot_use u USING (lot_id) JOIN cdp.points_entry e ON e.entry_id = u.entry_id
		WHERE u.amount > 0
		  -- lots of which neither can be said need not be looked for
		  AND (l.expires_at <= latest OR l.available_at > l.earned_at) AND (which IS NULL OR l.program = which)
		  AND e.kind IN ('spend', 'adjust', 'transfer_out') AND e.entry_id <> l.entry_id
		  AND (e.posted_at < l.available_at OR e.posted_at >= l.expires_at)
		  AND NOT EXISTS (SELECT FROM cdp.points_hold h WHERE h.entry_id = e.entry_id AND h.state = 'captured');
	END IF;
	IF 'expired early' = ANY (suspects) THEN
		RETURN QUERY
		SELECT 'time', e.program, e.customer_id, format('entry %s: %s points of lot %s expire at %s, not %s', e.entry_id, u.amount, l.lot_id,
			e.posted_at AT TIME ZONE 'UTC', l.expires_at AT TIME ZONE 'UTC')
		FROM cdp.points_entry e JOIN cdp.points_lot_use u USING (entry_id) JOIN cdp.points_lot l USING (lot_id)
		WHERE e.kind = 'expire' AND e.posted_at < least(l.expires_at, e.expires_at) AND (which IS NULL OR e.program = which)
		  AND EXISTS (SELECT FROM cdp.points_program p WHERE p.program = e.program AND p.expiry_mode <> 'inactivity' AND e.posted_at > p.ruled_at);
	END IF;

	-- lots change hands with what they are; after a merge nothing is left behind
	RETURN QUERY
	SELECT 'move', coalesce(t.program, f.program), coalesce(t.customer_id, f.customer_id), CASE
		WHEN f.lot_id IS NULL OR t.lot_id IS NULL THEN format('%s points went from lot %s to lot %s, which are not both there', m.amount, m.from_lot, m.to_lot)
		WHEN t.amount <> m.amount THEN format('%s points went from lot %s to lot %s, which got %s', m.amount, m.from_lot, m.to_lot, t.amount)
		WHEN m.entry_id <> 0 AND coalesce(u.amount, 0) < m.amount
			THEN format('%s points went from lot %s to lot %s by entry %s, which took %s', m.amount, m.from_lot, m.to_lot, m.entry_id, coalesce(u.amount, 0))
		ELSE format('lot %s is not what lot %s was', m.to_lot, m.from_lot) END
	FROM cdp.points_lot_move m
	LEFT JOIN cdp.points_lot f ON f.lot_id = m.from_lot
	LEFT JOIN cdp.points_lot t ON t.lot_id = m.to_lot
	LEFT JOIN cdp.points_entry e ON e.entry_id = t.entry_id
	LEFT JOIN LATERAL (SELECT sum(u.amount) AS amount FROM cdp.points_lot_use u WHERE u.entry_id = m.entry_id AND u.lot_id = m.from_lot) u ON true
	WHERE (which IS NULL OR coalesce(t.program, f.program) = which)
	  AND (f.lot_id IS NULL OR t.lot_id IS NULL OR t.amount <> m.amount OR m.entry_id <> 0 AND coalesce(u.amount, 0) < m.amount
		OR (t.program, t.earned_entry, t.available_at) <> (f.program, f.earned_entry, f.available_at) OR t.origin_lot IS DISTINCT FROM f.lot_id
		OR t.expires_at < f.expires_at OR m.entry_id <> 0 AND t.expires_at <> f.expires_at
		OR m.entry_id <> CASE WHEN e.kind IN ('transfer_in', 'merge_in') THEN e.reverses ELSE 0 END);
	RETURN QUERY
	SELECT 'move', a.program, a.customer_id, CASE
		WHEN a.moved_to IS NULL THEN format('he is customer %s, who did not get balance %s, held %s, debt %s', cdp.customer_id(a.customer_id), a.balance, a.held, a.debt)
		WHEN (a.balance, a.held, a.debt) <> (0, 0, 0) THEN format('the points went to %s, left are balance %s, held %s, debt %s', a.moved_to, a.balance, a.held, a.debt)
		ELSE format('the points went to %s, who is not the customer he is', a.moved_to) END
	FROM cdp.points_account a LEFT JOIN cdp.profile_alias p ON p.profile_id = a.customer_id
	WHERE (which IS NULL OR a.program = which) AND CASE
		WHEN a.moved_to IS NULL THEN p.customer_id IS NOT NULL AND (a.balance, a.held, a.debt) <> (0, 0, 0)
		ELSE (a.balance, a.held, a.debt) <> (0, 0, 0) OR p.customer_id IS DISTINCT FROM cdp.customer_id(a.moved_to) END;
	-- Seals and closed periods will be verified here.
END $$;
COMMENT ON FUNCTION cdp._verify_points_rows(text, text[], timestamptz) IS 'internal: who breaks those rules of verify_points() that single rows can break';

CREATE OR REPLACE FUNCTION cdp._verify_points(which text) RETURNS TABLE (check_name text, program text, customer_id bigint, detail text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- An argument and a column of one name is what plpgsql cannot have: so this is not verify_points() itself.
DECLARE
	suspects text[];
	latest   timestamptz;
BEGIN
	PERFORM cdp._require_version();
	IF which IS NOT NULL AND NOT EXISTS (SELECT FROM cdp.points_program p WHERE p.program = which) THEN
		RAISE EXCEPTION 'there is no program "%"', which USING ERRCODE = 'undefined_object', HINT = 'Programs are listed in cdp.points_program.';
	END IF;
	SELECT array_agg(s.check_name), max(s.latest) INTO suspects, latest
	FROM cdp._points_suspects(hashtextextended(gen_random_uuid()::text, 0)) s;
	RETURN QUERY SELECT * FROM cdp._verify_points_sums(which, coalesce(suspects, '{}'));
	RETURN QUERY SELECT * FROM cdp._verify_points_rows(which, coalesce(suspects, '{}'), latest);
END $$;
COMMENT ON FUNCTION cdp._verify_points(text) IS 'internal: cdp.verify_points()';

CREATE OR REPLACE FUNCTION cdp.verify_points(program text DEFAULT NULL) RETURNS TABLE (check_name text, program text, customer_id bigint, detail text)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT * FROM cdp._verify_points($1) $$;
COMMENT ON FUNCTION cdp.verify_points(text) IS 'What is wrong with the ledger, a row each; no row: it is sound. check_name: balance (not the sum of the entries), count (of the entries), lots (do not add up to balance and debt), lot (what is gone is not what was used), entry (is not what its lots say), key (answers nothing, or something else), debt (not allowed), hold (is not what lots and account say), total (points went from one account and did not come into another), time (used when expired or not available), reversal (more given or taken back than there was), move (lots changed on the way, or something was left behind). customer_id: whose account, NULL: nobody''s in particular. detail: in words and numbers. program: only this one; NULL: all. Reads everything, under one snapshot. CALL cdp.check_points() does it for cdp.health(). Errors: 42704 unknown program, 42501.';

CREATE OR REPLACE FUNCTION cdp._store_points_check() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result jsonb;
BEGIN
	SELECT jsonb_build_object('at', cdp.now(), 'problems', count(*), 'first', min(v.check_name || ': ' || v.detail)) INTO result
	FROM cdp.verify_points() v;
	INSERT INTO cdp.meta AS m (key, value) VALUES ('points_check', result)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value;
END $$;
COMMENT ON FUNCTION cdp._store_points_check() IS 'internal: runs verify_points() and keeps its result';
