-- points: the ledger. Programs, accounts, lots, holds; every way in ends in one engine.
-- C: src/points*.c  Page: doc/points.md  Tests: test/sql/points.sql, test/pgtap/points*.sql, test/specs/points_*.spec

-- @code
CREATE OR REPLACE FUNCTION cdp.earn_points(customer_id bigint, amount bigint, idempotency_key text, reference text DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL, program text DEFAULT 'points', available_at timestamptz DEFAULT NULL,
	occurred_at timestamptz DEFAULT NULL, details jsonb DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_earn_points';
COMMENT ON FUNCTION cdp.earn_points(bigint, bigint, text, text, timestamptz, text, timestamptz, timestamptz, jsonb) IS 'Points for a customer; answers the entry_id. customer_id: any id of the customer. amount: whole points above 0. idempotency_key: 1 to 200 bytes, one key is one operation for ever: the same call again answers the same id. reference: what they are for, an order say; cdp.clawback_points() finds them by it. expires_at, available_at: NULL: by the rules of the program, counted from occurred_at, so what is posted late may have expired already; expires_at infinity: never. occurred_at: when it happened, NULL: now. details: kept with the entry. Pays a debt of the account first. Errors: 22004 NULL customer, amount or key; 22023 amount, key, times; 22003 too many points; 23503 no such customer; 42704 no such program; LC302 the key was used for something else; LC304 a limit of the program; 55000 the period is closed; 40001 run the transaction again.';

CREATE OR REPLACE FUNCTION cdp.spend_points(customer_id bigint, amount bigint, idempotency_key text, reference text DEFAULT NULL,
	program text DEFAULT 'points', details jsonb DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_spend_points';
COMMENT ON FUNCTION cdp.spend_points(bigint, bigint, text, text, text, jsonb) IS 'Takes points that are available, not expired and not held, those that expire first first (or as points_program.consumption says); answers the entry_id. Arguments as in cdp.earn_points(). Errors: LC301 not enough points, the detail says how many there are; 22004, 22023, 22003, 23503, 42704, LC302, 40001.';

CREATE OR REPLACE FUNCTION cdp.hold_points(customer_id bigint, amount bigint, idempotency_key text, reference text DEFAULT NULL,
	program text DEFAULT 'points', release_at timestamptz DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_hold_points';
COMMENT ON FUNCTION cdp.hold_points(bigint, bigint, text, text, text, timestamptz) IS 'Reserves points until they are captured or released; answers the hold_id. release_at: from then on it reserves nothing, whether or not a job ran; NULL: after the setting cdp.hold_timeout, infinity: never. Errors: LC301 not enough points, 22023 a release_at that is past, and those of cdp.spend_points().';

CREATE OR REPLACE FUNCTION cdp.capture_hold(hold_id bigint, amount bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_capture_hold';
COMMENT ON FUNCTION cdp.capture_hold(bigint, bigint) IS 'Spends what a hold reserves; answers the entry_id. amount: NULL: all of it, a part: the rest is released. Points that expired while they were held can be captured. The same call again answers the same id. Errors: 42704 no such hold; LC303 released, or captured with another amount; 22004, 22023 amount; 40001.';

CREATE OR REPLACE FUNCTION cdp.release_hold(hold_id bigint) RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_release_hold';
COMMENT ON FUNCTION cdp.release_hold(bigint) IS 'Gives back what a hold reserves; false: it was released before. Errors: 42704 no such hold, LC303 captured, 22004, 40001.';

CREATE OR REPLACE FUNCTION cdp.refund_points(reference text, amount bigint, idempotency_key text, program text DEFAULT 'points',
	customer_id bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_refund_points';
COMMENT ON FUNCTION cdp.refund_points(text, bigint, text, text, bigint) IS 'Gives points back that were spent under a reference: to the very lots they were taken from, last taken first, with the dates these had; answers the entry_id. amount: NULL: all that is left of them. customer_id: needed when several customers have that reference. Points whose lot has expired meanwhile are given back and expire with the next run, unless points_program.refund_min_validity says otherwise. Errors: 22023 unknown reference, more than is left, reference of several customers; 22004 reference or key; LC302, 42704, 40001.';

CREATE OR REPLACE FUNCTION cdp.clawback_points(reference text, amount bigint, idempotency_key text, program text DEFAULT 'points',
	customer_id bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_clawback_points';
COMMENT ON FUNCTION cdp.clawback_points(text, bigint, text, text, bigint) IS 'Takes points back that were earned under a reference, because the order came back; answers the entry_id. First what is left of that earning, then by points_program.negative: refuse: nothing else; within_balance: other points, those that expire first first; debt: these, then the account owes the rest, up to debt_limit, and later earnings pay it. amount: NULL: all that was not taken back yet. Errors: LC301 that is not there, 22023 unknown reference, more than was earned, reference of several customers; 22004, LC302, 42704, 40001.';

CREATE OR REPLACE FUNCTION cdp.transfer_points(from_customer bigint, to_customer bigint, amount bigint, idempotency_key text,
	reference text DEFAULT NULL, program text DEFAULT 'points') RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_transfer_points';
COMMENT ON FUNCTION cdp.transfer_points(bigint, bigint, bigint, text, text, text) IS 'Gives points of one customer to another; they keep the days on which they expire. Answers the entry_id of the giver. Errors: 55000 the program is not transferable, 22023 both are one customer, LC301, LC304 the balance of the receiver, and those of cdp.spend_points().';

CREATE OR REPLACE FUNCTION cdp.adjust_points(customer_id bigint, amount bigint, idempotency_key text, reason text,
	program text DEFAULT 'points') RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_adjust_points';
COMMENT ON FUNCTION cdp.adjust_points(bigint, bigint, text, text, text) IS 'A correction by hand: amount above 0 gives points, below 0 takes them, as earning and spending do but for caps. reason: for the books, kept in details. Answers the entry_id. Errors: 22004 also for reason, 22023 amount 0, LC301, and those of cdp.earn_points().';

CREATE OR REPLACE FUNCTION cdp.post_points(batch jsonb) RETURNS TABLE (ord int, entry_id bigint, balance bigint, replayed boolean)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_post_points';
COMMENT ON FUNCTION cdp.post_points(jsonb) IS 'Many operations as one: all of them or none. batch: an array of up to 100,000 objects with kind (earn, spend, refund, clawback, adjust, transfer) and the arguments of that verb by name. Answers a row per item in their order (ord from 1): the entry_id, the balance of the account (of transfer: the giver''s) after it, and whether the key was known already (then the balance is the present one). Later items find what earlier ones left. Errors: 22023 not such an array, a kind or argument nobody knows; 22P02 text that is no number; 22003; and those of the verbs. The message begins with the number of the item.';

CREATE OR REPLACE FUNCTION cdp._expire_points(batch int) RETURNS bigint
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_expire_points';
COMMENT ON FUNCTION cdp._expire_points(int) IS 'internal: takes out of up to so many lots what has expired and is not held; answers how many lots it took something from';

CREATE OR REPLACE FUNCTION cdp._release_holds(batch int) RETURNS bigint
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_release_holds';
COMMENT ON FUNCTION cdp._release_holds(int) IS 'internal: releases up to so many holds that are past release_at; answers how many';

CREATE OR REPLACE FUNCTION cdp.merge_points(winner bigint, loser bigint) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_merge_points';
COMMENT ON FUNCTION cdp.merge_points(bigint, bigint) IS 'internal: the points of a customer who was merged go to the one he is part of now, lots, holds and debt of every program; identity calls it in the same transaction. Answers how many points went. Nothing to do: 0. Errors: 22004, 55000 they are not one customer, 40001.';

CREATE OR REPLACE FUNCTION cdp.unmerge_points(winner bigint, loser bigint) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_unmerge_points';
COMMENT ON FUNCTION cdp.unmerge_points(bigint, bigint) IS 'internal: a customer has left another: what is left of his lots goes back to the lots it came from, and what was earned since under one of his ids goes with it; what was spent stays spent. identity calls it in the same transaction. Answers how many points went back. Errors: 22004, 55000 they are one customer, 40001.';

CREATE OR REPLACE FUNCTION cdp._guard_points() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_guard_points';
COMMENT ON FUNCTION cdp._guard_points() IS 'internal: refuses writes to the tables of the ledger that do not come from its engine';

CREATE OR REPLACE PROCEDURE cdp.expire_points(batch int DEFAULT 1000) LANGUAGE plpgsql
AS $$
DECLARE
	run bigint;
	n   bigint;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	IF batch IS NULL OR batch < 1 OR batch > 100000 THEN
		RAISE EXCEPTION 'batch must be from 1 to 100000' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for 1000.';
	END IF;
	BEGIN
		run := cdp._job_begin('expire_points');
	EXCEPTION WHEN object_in_use THEN
		RAISE NOTICE 'points are being expired already' USING HINT = 'SELECT * FROM cdp.job_status shows by whom.';
		RETURN;
	END;
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	LOOP
		PERFORM cdp._job_step(run);
		n := cdp._expire_points(batch);
		PERFORM cdp._job_progress(run, n);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		EXIT WHEN n = 0;
	END LOOP;
	PERFORM cdp._job_end(run);
END $$;
COMMENT ON PROCEDURE cdp.expire_points(int) IS 'Takes points out of the accounts that have expired by cdp.now() and are not held: one entry of kind expire per account and batch. They could not be spent before either. batch: lots per transaction. A second one at the same time returns at once with a notice; stopped, the next call goes on. Progress in cdp.job_status (done: lots). Commits, so it cannot run inside a transaction. Errors: 22023 batch, 42501.';

CREATE OR REPLACE PROCEDURE cdp.release_holds(batch int DEFAULT 1000) LANGUAGE plpgsql
AS $$
DECLARE
	run bigint;
	n   bigint;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	IF batch IS NULL OR batch < 1 OR batch > 100000 THEN
		RAISE EXCEPTION 'batch must be from 1 to 100000' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for 1000.';
	END IF;
	BEGIN
		run := cdp._job_begin('release_holds');
	EXCEPTION WHEN object_in_use THEN
		RAISE NOTICE 'holds are being released already' USING HINT = 'SELECT * FROM cdp.job_status shows by whom.';
		RETURN;
	END;
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	LOOP
		PERFORM cdp._job_step(run);
		n := cdp._release_holds(batch);
		PERFORM cdp._job_progress(run, n);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		EXIT WHEN n = 0;
	END LOOP;
	PERFORM cdp._job_end(run);
END $$;
COMMENT ON PROCEDURE cdp.release_holds(int) IS 'Marks holds as released that are past release_at; they reserved nothing any more. batch: holds per transaction. Progress in cdp.job_status. Commits. Errors: 22023 batch, 42501.';

-- @access
('function', 'earn_points', 'EXECUTE', '{application,operator}'),
('function', 'spend_points', 'EXECUTE', '{application,operator}'),
('function', 'hold_points', 'EXECUTE', '{application,operator}'),
('function', 'capture_hold', 'EXECUTE', '{application,operator}'),
('function', 'release_hold', 'EXECUTE', '{application,operator}'),
('function', 'refund_points', 'EXECUTE', '{application,operator}'),
('function', 'clawback_points', 'EXECUTE', '{application,operator}'),
('function', 'transfer_points', 'EXECUTE', '{application,operator}'),
('function', 'post_points', 'EXECUTE', '{application,operator}'),
('function', 'adjust_points', 'EXECUTE', '{admin}'),
('function', 'expire_points', 'EXECUTE', '{operator}'),
('function', 'release_holds', 'EXECUTE', '{operator}'),
('function', 'merge_points', 'EXECUTE', '{owner}'),
('function', 'unmerge_points', 'EXECUTE', '{owner}'),
('function', '_expire_points', 'EXECUTE', '{operator}'),
('function', '_release_holds', 'EXECUTE', '{operator}'),
('table', 'points_program', 'SELECT, INSERT, UPDATE, DELETE', '{operator}'),
('table', 'points_account', 'SELECT', '{reader}'),
('table', 'points_entry', 'SELECT', '{reader}'),
('table', 'points_lot', 'SELECT', '{reader}'),
('table', 'points_lot_use', 'SELECT', '{reader}'),
('table', 'points_lot_move', 'SELECT', '{reader}'),
('table', 'points_hold', 'SELECT', '{reader}'),
('table', 'points_hold_lot', 'SELECT', '{reader}'),
('table', 'points_key', 'SELECT', '{reader}'),

-- @data
PERFORM cdp._ensure_table('points_program', $t$ (
	program             text COLLATE "C" PRIMARY KEY CHECK (octet_length(program) BETWEEN 1 AND 63),
	label               text,
	label_zh            text,
	expiry_mode         text NOT NULL DEFAULT 'never' CHECK (expiry_mode IN ('never', 'rolling', 'end_of_month', 'end_of_year', 'fixed_date', 'inactivity')),
	validity            interval CHECK (validity > interval '0'),
	fixed_month_day     text CHECK (fixed_month_day ~ '^(02-(0[1-9]|[12][0-9])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01]))$'),
	pending             interval NOT NULL DEFAULT '0' CHECK (pending >= interval '0'),
	consumption         text NOT NULL DEFAULT 'fefo' CHECK (consumption IN ('fefo', 'fifo', 'lifo')),
	negative            text NOT NULL DEFAULT 'within_balance' CHECK (negative IN ('refuse', 'within_balance', 'debt')),
	debt_limit          bigint CHECK (debt_limit >= 0),
	max_balance         bigint CHECK (max_balance > 0),
	max_earn_per_day    bigint CHECK (max_earn_per_day > 0),
	refund_min_validity interval NOT NULL DEFAULT '0' CHECK (refund_min_validity >= interval '0'),
	transferable        boolean NOT NULL DEFAULT false,
	point_value         numeric CHECK (point_value >= 0 AND point_value < 'infinity'),
	currency            text CHECK (currency ~ '^[A-Z]{3}$'),
	expected_breakage   numeric NOT NULL DEFAULT 0 CHECK (expected_breakage >= 0 AND expected_breakage < 1),
	ruled_at            timestamptz NOT NULL DEFAULT '-infinity',
	CHECK (expiry_mode NOT IN ('rolling', 'inactivity') OR validity IS NOT NULL),
	CHECK (expiry_mode <> 'fixed_date' OR fixed_month_day IS NOT NULL)
) $t$);
COMMENT ON TABLE cdp.points_program IS 'The rules of a currency of points: spendable ones, growth value, a gift card, store credit. A changed rule governs what is earned later.';
COMMENT ON COLUMN cdp.points_program.expiry_mode IS 'rolling: validity after they are earned; end_of_month, end_of_year: at the end of the month or year in which validity (NULL: 0) after earning lies; fixed_date: at the end of the next fixed_month_day, validity (NULL: 0) after earning at the earliest; inactivity: all of the account validity after the last earning or spending; in the zone cdp.timezone';
COMMENT ON COLUMN cdp.points_program.validity IS 'how long points live, see expiry_mode';
COMMENT ON COLUMN cdp.points_program.fixed_month_day IS 'month and day, such as 03-31';
COMMENT ON COLUMN cdp.points_program.pending IS 'how long after they are earned points cannot be spent yet: the time in which an order may come back';
COMMENT ON COLUMN cdp.points_program.consumption IS 'which points are spent first: fefo those that expire first, fifo the oldest, lifo the newest';
COMMENT ON COLUMN cdp.points_program.negative IS 'what cdp.clawback_points() may take when the points of that earning are gone: refuse nothing, within_balance other points, debt more than there are';
COMMENT ON COLUMN cdp.points_program.debt_limit IS 'how many points an account may owe; NULL: any number';
COMMENT ON COLUMN cdp.points_program.max_balance IS 'nothing is earned above that balance; NULL: no limit';
COMMENT ON COLUMN cdp.points_program.max_earn_per_day IS 'so many points are earned in a day of cdp.timezone; NULL: no limit';
COMMENT ON COLUMN cdp.points_program.refund_min_validity IS 'points that are given back live at least so long; 0: as long as they did';
COMMENT ON COLUMN cdp.points_program.point_value IS 'what one point is worth, in currency';
COMMENT ON COLUMN cdp.points_program.expected_breakage IS 'the share of points that is expected to be never spent, 0 to 1';
COMMENT ON COLUMN cdp.points_program.ruled_at IS 'since when negative, debt_limit and expiry_mode are what they are; kept by a trigger, for cdp.verify_points()';
INSERT INTO cdp.points_program (program, label, label_zh, expiry_mode, validity, consumption, negative) VALUES
	('points', 'Points', '积分', 'never', NULL, 'fefo', 'debt'),
	('growth', 'Growth value', '成长值', 'rolling', '12 months', 'fefo', 'within_balance') ON CONFLICT (program) DO NOTHING;
CREATE OR REPLACE TRIGGER points_program_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cdp.points_program
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._rules_changed();

PERFORM cdp._ensure_table('points_account', $t$ (
	customer_id  bigint NOT NULL,
	program      text COLLATE "C" NOT NULL,
	balance      bigint NOT NULL DEFAULT 0,
	held         bigint NOT NULL DEFAULT 0,
	debt         bigint NOT NULL DEFAULT 0,
	entries      bigint NOT NULL DEFAULT 0,
	moved_to     bigint,
	active_until timestamptz,
	earned_day   date,
	earned_today bigint NOT NULL DEFAULT 0,
	moved_debt   bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (customer_id, program)
) WITH (fillfactor = 60) $t$);
CREATE INDEX IF NOT EXISTS points_account_inactive ON cdp.points_account (active_until) WHERE active_until IS NOT NULL;
COMMENT ON TABLE cdp.points_account IS 'One row per customer and program: what the engine locks first. balance is the sum of the entries and of what is left in the lots, less debt.';
COMMENT ON COLUMN cdp.points_account.held IS 'sum of lot.held: what open holds reserve';
COMMENT ON COLUMN cdp.points_account.debt IS 'what the account owes; later earnings pay it';
COMMENT ON COLUMN cdp.points_account.entries IS 'how many entries there are';
COMMENT ON COLUMN cdp.points_account.moved_to IS 'merged: the points are with that customer';
COMMENT ON COLUMN cdp.points_account.moved_debt IS 'the debt that went there; it comes back when the merge is undone';
COMMENT ON COLUMN cdp.points_account.active_until IS 'expiry_mode inactivity: everything expires then; NULL in other modes';
COMMENT ON COLUMN cdp.points_account.earned_day IS 'day of cdp.timezone that earned_today counts for';

PERFORM cdp._ensure_table('points_entry', $t$ (
	entry_id        bigint GENERATED BY DEFAULT AS IDENTITY,
	posted_at       timestamptz NOT NULL DEFAULT cdp.now(),
	occurred_at     timestamptz NOT NULL,
	profile_id      bigint NOT NULL,
	customer_id     bigint NOT NULL,
	program         text COLLATE "C" NOT NULL DEFAULT 'points',
	kind            text COLLATE "C" NOT NULL,
	amount          bigint NOT NULL,
	debt            bigint NOT NULL DEFAULT 0,
	reference       text COLLATE "C",
	idempotency_key text COLLATE "C",
	expires_at      timestamptz,
	available_at    timestamptz,
	reverses        bigint,
	details         jsonb,
	xid             xid8 NOT NULL DEFAULT cdp._log_xid(),
	PRIMARY KEY (entry_id, posted_at),
	CHECK (kind IN ('earn', 'spend', 'refund', 'clawback', 'expire', 'adjust', 'transfer_out', 'transfer_in', 'merge_out', 'merge_in')),
	CHECK (amount <> 0)
) PARTITION BY RANGE (posted_at) $t$);
CREATE INDEX IF NOT EXISTS points_entry_account ON cdp.points_entry (customer_id, program, entry_id);
CREATE INDEX IF NOT EXISTS points_entry_log ON cdp.points_entry (xid, entry_id);
CREATE TABLE IF NOT EXISTS cdp.points_entry_default PARTITION OF cdp.points_entry DEFAULT;
COMMENT ON TABLE cdp.points_entry IS 'The journal: what happened to an account, by month of posted_at (UTC). Append-only. amount is what the balance changed by, never 0.';
COMMENT ON COLUMN cdp.points_entry.posted_at IS 'cdp.now() of the transaction that posted it';
COMMENT ON COLUMN cdp.points_entry.occurred_at IS 'when it happened, as the caller says';
COMMENT ON COLUMN cdp.points_entry.profile_id IS 'the id that the caller passed';
COMMENT ON COLUMN cdp.points_entry.customer_id IS 'whose account it was then';
COMMENT ON COLUMN cdp.points_entry.debt IS 'what the debt of the account rose by; below 0: was paid';
COMMENT ON COLUMN cdp.points_entry.expires_at IS 'of what was earned; NULL: by the rules of the program, or nothing was';
COMMENT ON COLUMN cdp.points_entry.reverses IS 'refund, clawback: the entry that it undoes, the last one when several; transfer_in, merge_in: the entry of the other side';
COMMENT ON COLUMN cdp.points_entry.xid IS 'logical id of the transaction';
INSERT INTO cdp.log_table (log, id_column, time_column, seen_column)
	VALUES ('points_entry', 'entry_id', 'posted_at', 'posted_at') ON CONFLICT (log) DO NOTHING;

PERFORM cdp._ensure_table('points_lot', $t$ (
	lot_id       bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	customer_id  bigint NOT NULL,
	program      text COLLATE "C" NOT NULL,
	profile_id   bigint NOT NULL,
	entry_id     bigint NOT NULL,
	earned_entry bigint NOT NULL,
	origin_lot   bigint,
	amount       bigint NOT NULL,
	remaining    bigint NOT NULL,
	held         bigint NOT NULL DEFAULT 0,
	earned_at    timestamptz NOT NULL,
	available_at timestamptz NOT NULL,
	expires_at   timestamptz NOT NULL DEFAULT 'infinity',
	open         boolean GENERATED ALWAYS AS (remaining > 0) STORED
) WITH (fillfactor = 70) $t$);
CREATE INDEX IF NOT EXISTS points_lot_open ON cdp.points_lot (customer_id, program, expires_at, lot_id) WHERE open;
CREATE INDEX IF NOT EXISTS points_lot_expiry ON cdp.points_lot (expires_at, customer_id) WHERE open AND expires_at < 'infinity';
COMMENT ON TABLE cdp.points_lot IS 'What an earning left: each lot has its own dates, and whatever is taken names the lots it was taken from.';
COMMENT ON COLUMN cdp.points_lot.profile_id IS 'the id under which it was earned';
COMMENT ON COLUMN cdp.points_lot.entry_id IS 'the entry that made the lot';
COMMENT ON COLUMN cdp.points_lot.earned_entry IS 'the entry that earned the points, also when they were moved since';
COMMENT ON COLUMN cdp.points_lot.origin_lot IS 'the lot that they were in before they were moved, or given back with another date';
COMMENT ON COLUMN cdp.points_lot.held IS 'what open holds reserve of remaining';

PERFORM cdp._ensure_table('points_lot_use', $t$ (
	entry_id  bigint NOT NULL,
	ord       int NOT NULL,
	lot_id    bigint NOT NULL,
	amount    bigint NOT NULL,
	restored  bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (entry_id, ord)
) WITH (fillfactor = 90) $t$);
COMMENT ON TABLE cdp.points_lot_use IS 'Which entry took how much from which lot, in order; below 0: gave back. It is what makes refunds exact.';
COMMENT ON COLUMN cdp.points_lot_use.restored IS 'what was given back of it since';

PERFORM cdp._ensure_table('points_lot_move', $t$ (
	from_lot bigint NOT NULL,
	to_lot   bigint NOT NULL,
	amount   bigint NOT NULL,
	entry_id bigint NOT NULL,
	PRIMARY KEY (from_lot, to_lot)
) $t$);
CREATE INDEX IF NOT EXISTS points_lot_move_entry ON cdp.points_lot_move (entry_id);
COMMENT ON TABLE cdp.points_lot_move IS 'Lots that changed hands by transfer or merge.';
COMMENT ON COLUMN cdp.points_lot_move.entry_id IS 'transfer_out or merge_out; 0: a refund made the lot, of one that was used up before a merge';

PERFORM cdp._ensure_table('points_hold', $t$ (
	hold_id     bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	customer_id bigint NOT NULL,
	program     text COLLATE "C" NOT NULL,
	profile_id  bigint NOT NULL,
	amount      bigint NOT NULL,
	captured    bigint NOT NULL DEFAULT 0,
	released    bigint NOT NULL DEFAULT 0,
	state       text COLLATE "C" NOT NULL DEFAULT 'open',
	release_at  timestamptz NOT NULL,
	reference   text COLLATE "C",
	idempotency_key text COLLATE "C" NOT NULL,
	entry_id    bigint,
	held_at     timestamptz NOT NULL,
	resolved_at timestamptz,
	CHECK (state IN ('open', 'captured', 'released'))
) WITH (fillfactor = 70) $t$);
CREATE INDEX IF NOT EXISTS points_hold_open ON cdp.points_hold (customer_id, program, hold_id) WHERE state = 'open';
CREATE INDEX IF NOT EXISTS points_hold_due ON cdp.points_hold (release_at) WHERE state = 'open' AND release_at < 'infinity';
COMMENT ON TABLE cdp.points_hold IS 'Points that are reserved; a hold resolves once.';
COMMENT ON COLUMN cdp.points_hold.profile_id IS 'the id that the caller passed';
COMMENT ON COLUMN cdp.points_hold.entry_id IS 'captured: the entry that spent them';

PERFORM cdp._ensure_table('points_hold_lot', $t$ (
	hold_id bigint NOT NULL,
	ord     int NOT NULL,
	lot_id  bigint NOT NULL,
	amount  bigint NOT NULL,
	PRIMARY KEY (hold_id, ord)
) $t$);
COMMENT ON TABLE cdp.points_hold_lot IS 'Which lots a hold reserves, in the order in which they are captured.';

PERFORM cdp._ensure_table('points_key', $t$ (
	idempotency_key text COLLATE "C" PRIMARY KEY,
	verb            text COLLATE "C" NOT NULL,
	profile_id      bigint,
	other_id        bigint,
	customer_id     bigint NOT NULL,
	program         text COLLATE "C" NOT NULL,
	amount          bigint,
	reference       text COLLATE "C",
	result          bigint NOT NULL,
	lot_id          bigint,
	posted          bigint NOT NULL DEFAULT 0,
	reversed        bigint NOT NULL DEFAULT 0,
	posted_at       timestamptz NOT NULL
) WITH (fillfactor = 90) $t$);
CREATE INDEX IF NOT EXISTS points_key_reference ON cdp.points_key (reference, program) WHERE reference IS NOT NULL;
COMMENT ON TABLE cdp.points_key IS 'Idempotency keys, for ever: what was asked for under a key, and what was answered.';
COMMENT ON COLUMN cdp.points_key.profile_id IS 'the id that the caller passed; NULL: none, the reference told who it was';
COMMENT ON COLUMN cdp.points_key.other_id IS 'transfer: the id of the receiver that the caller passed';
COMMENT ON COLUMN cdp.points_key.customer_id IS 'whose account it was then';
COMMENT ON COLUMN cdp.points_key.lot_id IS 'of what was earned';
COMMENT ON COLUMN cdp.points_key.amount IS 'as asked for; NULL: all that is left';
COMMENT ON COLUMN cdp.points_key.result IS 'entry_id, of verb hold the hold_id';
COMMENT ON COLUMN cdp.points_key.posted IS 'points that the entry took or gave; of a hold: that were captured';
COMMENT ON COLUMN cdp.points_key.reversed IS 'how many of them were refunded or clawed back since';

-- nobody but the engine writes, whoever he is
DECLARE
	t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['points_account', 'points_lot', 'points_lot_use', 'points_lot_move', 'points_hold', 'points_hold_lot', 'points_key'] LOOP
		EXECUTE format('CREATE OR REPLACE TRIGGER %1$s_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON cdp.%1$s'
			' FOR EACH STATEMENT EXECUTE FUNCTION cdp._guard_points()', t);
		EXECUTE format('ALTER TABLE cdp.%1$s ENABLE ALWAYS TRIGGER %1$s_guard', t);
	END LOOP;
END;

INSERT INTO cdp.job (job, command, schedule, description) VALUES
	('expire_points', 'CALL cdp.expire_points()', '7 * * * *', 'takes out points that have expired'),
	('release_holds', 'CALL cdp.release_holds()', '*/5 * * * *', 'marks holds as released that are past their time')
	ON CONFLICT (job) DO NOTHING;
