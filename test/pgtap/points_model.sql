-- Random sequences of verbs against a model: every answer and every SQLSTATE is predicted, and afterwards accounts, lots, holds
-- and entries are those of the model and agree with each other.  CDP_SEED chooses another run, CDP_SEQUENCES and CDP_OPS
-- how long it is, CDP_SEQUENCE=N runs the N-th sequence of a seed alone and tells each of its steps.
\set seed `echo ${CDP_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d " ")}`
\set sequences `echo ${CDP_SEQUENCES:-60}`
\set ops `echo ${CDP_OPS:-60}`
\set only `echo ${CDP_SEQUENCE:-0}`
BEGIN;
SELECT plan(10);
SELECT diag('points_model: seed ' || :'seed');
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_temp, public, pg_catalog;
SET LOCAL cdp.now = '2026-01-01 00:00Z';
\ir points_model.psql
\ir points_books.psql
CREATE TEMP TABLE wrong (seq int, step int, op jsonb, wanted text, got text);
CREATE TEMP TABLE step (step int, op jsonb, wanted text, got text, at timestamptz);
CREATE TEMP TABLE told (LIKE step);
CREATE TEMP TABLE met (kind text, answer text, n int, PRIMARY KEY (kind, answer));
CREATE TEMP TABLE cust (i int PRIMARY KEY, id bigint);

CREATE FUNCTION pg_temp.pick(n int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1 + floor(random() * n)::int';
CREATE FUNCTION pg_temp.one_of(VARIADIC a text[]) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT a[pg_temp.pick(cardinality(a))]';
CREATE FUNCTION pg_temp.some() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	k int := pg_temp.pick(CASE WHEN random() < 0.5 THEN 2 ELSE 5 END);
BEGIN
	RETURN (SELECT id FROM cust WHERE i = k);
END $$;
CREATE FUNCTION pg_temp.maybe(share float8, v text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT CASE WHEN random() < share THEN v END';

-- a program of every kind; what needs what is kept
CREATE FUNCTION pg_temp.new_program(name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	mode text := pg_temp.one_of('never', 'rolling', 'rolling', 'end_of_month', 'end_of_year', 'fixed_date', 'inactivity');
BEGIN
	INSERT INTO cdp.points_program (program, expiry_mode, validity, fixed_month_day, pending, consumption, negative, debt_limit, max_balance, max_earn_per_day,
		refund_min_validity, transferable)
	SELECT name, mode, CASE WHEN mode IN ('rolling', 'inactivity') THEN pg_temp.one_of('20 days', '1 month', '45 days') WHEN mode <> 'never' THEN pg_temp.one_of(NULL, '10 days', '1 month') END::interval,
		CASE WHEN mode = 'fixed_date' THEN pg_temp.one_of('01-31', '03-31', '12-31') END, pg_temp.one_of('0', '0', '2 days', '5 hours')::interval,
		pg_temp.one_of('fefo', 'fefo', 'fifo', 'lifo'), pg_temp.one_of('refuse', 'within_balance', 'debt', 'debt'), pg_temp.maybe(0.5, '60')::bigint,
		pg_temp.maybe(0.2, '400')::bigint, pg_temp.maybe(0.2, '150')::bigint,
		CASE WHEN mode = 'inactivity' THEN '0' ELSE pg_temp.one_of('0', '0', '10 days') END::interval, mode <> 'inactivity' AND random() < 0.7;
END $$;
CREATE FUNCTION pg_temp.change_program(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	CASE pg_temp.pick(5)
		WHEN 1 THEN UPDATE cdp.points_program SET pending = pg_temp.one_of('0', '3 days')::interval WHERE program = name;
		WHEN 2 THEN UPDATE cdp.points_program SET validity = validity + '5 days' WHERE program = name;
		WHEN 3 THEN UPDATE cdp.points_program SET consumption = pg_temp.one_of('fefo', 'fifo', 'lifo') WHERE program = name;
		WHEN 4 THEN UPDATE cdp.points_program SET negative = pg_temp.one_of('refuse', 'within_balance', 'debt') WHERE program = name;
		ELSE UPDATE cdp.points_program SET max_balance = pg_temp.maybe(0.5, '300')::bigint, max_earn_per_day = pg_temp.maybe(0.5, '200')::bigint WHERE program = name;
	END CASE;
END $$;

-- what somebody might ask next
CREATE FUNCTION pg_temp.dream(seq int, k int) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	prog text := CASE WHEN random() < 0.9 THEN 'model' || seq ELSE 'model' || seq || 'b' END;
	dice float8 := random();
	at timestamptz := cdp.now();
	op jsonb;
	h bigint;
	verb text;
BEGIN
	op := jsonb_build_object('program', prog, 'customer_id', pg_temp.some(), 'amount', pg_temp.pick(60), 'idempotency_key', format('model:%s:%s', seq, k),
		'reference', pg_temp.maybe(0.8, format('%s:o%s', seq, pg_temp.pick(5))));
	-- again, or with something else under the same key, perhaps under another id of the customer
	IF dice < 0.09 THEN
		SELECT s.op INTO op FROM step s WHERE s.op ? 'idempotency_key' ORDER BY random() LIMIT 1;
		IF op IS NULL OR random() < 0.6 THEN
			RETURN op;
		END IF;
		RETURN op || CASE pg_temp.pick(3) WHEN 1 THEN jsonb_build_object('amount', 61) WHEN 2 THEN jsonb_build_object(CASE op ->> 'kind' WHEN 'transfer' THEN 'from_customer' ELSE 'customer_id' END, pg_temp.some())
			ELSE jsonb_build_object('program', prog) END;
	END IF;
	verb := CASE WHEN dice < 0.31 THEN 'earn' WHEN dice < 0.47 THEN 'spend' WHEN dice < 0.56 THEN 'hold' WHEN dice < 0.62 THEN 'capture' WHEN dice < 0.66 THEN 'release'
		WHEN dice < 0.74 THEN 'refund' WHEN dice < 0.80 THEN 'clawback' WHEN dice < 0.85 THEN 'transfer' WHEN dice < 0.87 THEN 'adjust' WHEN dice < 0.90 THEN 'expire'
		WHEN dice < 0.98 THEN 'clock' ELSE 'rule' END;
	op := op || jsonb_build_object('kind', verb);
	-- rather what there is, or a little more
	IF verb IN ('spend', 'hold', 'transfer') AND random() < 0.8 THEN
		SELECT f.customer_id, f.program INTO h, prog FROM free f WHERE NOT f.expired AND NOT f.pending ORDER BY random() LIMIT 1;
		IF h IS NULL THEN
			RETURN NULL;
		END IF;
		op := op || jsonb_build_object('customer_id', h, 'program', prog, 'amount', pg_temp.pick(greatest(pg_temp.spendable(h, prog)::int, 0) + 3));
	END IF;
	CASE verb
		WHEN 'earn' THEN
			IF random() < 0.3 THEN
				op := op || jsonb_build_object('expires_at', CASE WHEN random() < 0.1 THEN 'infinity' ELSE (at + (pg_temp.pick(33) - 2.5) * interval '1 day')::text END);
			END IF;
			IF random() < 0.15 THEN
				op := op || jsonb_build_object('available_at', CASE WHEN random() < 0.1 THEN 'infinity' ELSE (at + pg_temp.pick(9) * interval '1 day')::text END);
			END IF;
		WHEN 'hold' THEN
			IF random() < 0.7 THEN
				op := op || jsonb_build_object('release_at', CASE WHEN random() < 0.2 THEN 'infinity' ELSE (at + (pg_temp.pick(12) - 1.5) * interval '1 day')::text END);
			END IF;
		WHEN 'capture', 'release' THEN
			SELECT o.hold INTO h FROM hold o ORDER BY o.state = 'open' AND random() < 0.8 DESC, random() LIMIT 1;
			IF h IS NULL AND random() < 0.95 THEN
				RETURN NULL;
			END IF;
			op := jsonb_build_object('kind', verb, 'hold', CASE WHEN random() < 0.95 THEN h ELSE (-1)::bigint END);
			IF verb = 'capture' AND random() < 0.5 THEN
				op := op || jsonb_build_object('amount', CASE WHEN random() < 0.6 THEN (SELECT pg_temp.pick(greatest(o.amount::int, 1)) FROM hold o WHERE o.hold = h) ELSE pg_temp.pick(60) END);
			END IF;
		WHEN 'refund', 'clawback' THEN
			-- rather one that there is, and not more than that
			op := op || jsonb_build_object('amount', pg_temp.pick(25));
			IF random() < 0.85 THEN
				op := op || coalesce((SELECT jsonb_build_object('reference', e.reference, 'program', e.program) FROM entry e
					WHERE e.reference IS NOT NULL AND e.kind = CASE verb WHEN 'refund' THEN 'spend' ELSE 'earn' END ORDER BY random() LIMIT 1), '{}');
			END IF;
			IF random() < 0.4 THEN
				op := op - 'customer_id';
			ELSIF random() < 0.7 THEN
				op := op || coalesce((SELECT jsonb_build_object('customer_id', e.customer_id) FROM entry e WHERE e.reference = op ->> 'reference' ORDER BY random() LIMIT 1), '{}');
			END IF;
			IF random() < 0.3 THEN
				op := op - 'amount';
			END IF;
		WHEN 'transfer' THEN
			IF random() < 0.8 AND NOT (SELECT transferable FROM cdp.points_program WHERE program = prog) THEN
				RETURN NULL;
			END IF;
			op := op - 'customer_id' || jsonb_build_object('from_customer', op -> 'customer_id', 'to_customer', pg_temp.some());
		WHEN 'adjust' THEN
			op := op - 'reference' || jsonb_build_object('reason', 'because', 'amount', pg_temp.pick(60) - 31);
		WHEN 'clock' THEN
			-- hours, days, weeks; back only to where nothing was otherwise
			op := jsonb_build_object('kind', 'clock', 'to', CASE WHEN random() < 0.15 THEN at - interval '40 minutes'
				ELSE at + CASE pg_temp.pick(4) WHEN 1 THEN interval '1 hour' WHEN 2 THEN interval '13 days' ELSE interval '26 hours' END * pg_temp.pick(2) END);
		WHEN 'expire' THEN op := '{"kind": "expire"}';
		WHEN 'rule' THEN op := jsonb_build_object('kind', 'rule', 'program', prog);
		ELSE NULL;
	END CASE;
	-- and sometimes nonsense
	IF op ? 'idempotency_key' AND verb NOT IN ('refund', 'clawback') AND random() < 0.02 THEN
		op := CASE pg_temp.pick(5) WHEN 1 THEN op - 'idempotency_key' WHEN 2 THEN op || '{"amount": -1}' WHEN 3 THEN op || '{"program": "nothing"}'
			WHEN 4 THEN op || '{"idempotency_key": ""}' ELSE op || jsonb_build_object('idempotency_key', repeat('k', 201)) END;
		IF verb = 'adjust' AND op ->> 'amount' = '-1' THEN
			op := op || '{"amount": 0}';
		END IF;
	END IF;
	RETURN jsonb_strip_nulls(op);
END $$;

-- rows that only one of two queries has
CREATE FUNCTION pg_temp.differ(seq int, what text, model text, engine text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('INSERT INTO wrong SELECT %s, 0, to_jsonb(%L::text), r::text, NULL FROM (%s EXCEPT ALL %s) r
		UNION ALL SELECT %1$s, 0, to_jsonb(%2$L::text), NULL, r::text FROM (%4$s EXCEPT ALL %3$s) r', seq, what, model, engine);
END $$;
CREATE FUNCTION pg_temp.compare(seq int) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
	-- what can be spent is said the same whether or not a job has run
	PERFORM pg_temp.differ(seq, 'account', $$SELECT customer_id, program, pg_temp.spendable(customer_id, program) FROM account$$,
		$$SELECT customer_id, program, cdp.points_balance(customer_id, program) FROM cdp.points_account WHERE customer_id IN (SELECT id FROM cust)$$);
	-- the jobs of both have run
	PERFORM pg_temp.expire(NULL, NULL);
	UPDATE hold SET state = 'released' WHERE state = 'open' AND release_at <= cdp.now();
	WHILE cdp._release_holds(1000) > 0 LOOP NULL; END LOOP;
	WHILE cdp._expire_points(1000) > 0 LOOP NULL; END LOOP;
	PERFORM pg_temp.differ(seq, 'account', $$SELECT customer_id, program, pg_temp.balance(customer_id, program), debt,
			coalesce((SELECT sum(h.amount) FROM hold h WHERE h.customer_id = a.customer_id AND h.program = a.program AND h.state = 'open'), 0), CASE WHEN active_until > cdp.now() THEN active_until END FROM account a$$,
		$$SELECT customer_id, program, balance, debt, held, CASE WHEN active_until > cdp.now() THEN active_until END FROM cdp.points_account WHERE customer_id IN (SELECT id FROM cust)$$);
	PERFORM pg_temp.differ(seq, 'lot', $$SELECT customer_id, program, remaining, held, earned_at, available_at, expires_at FROM free$$,
		$$SELECT customer_id, program, remaining, held, earned_at, available_at, expires_at FROM cdp.points_lot WHERE remaining > 0 AND customer_id IN (SELECT id FROM cust)$$);
	PERFORM pg_temp.differ(seq, 'entry', $$SELECT e.customer_id, e.program, e.kind, e.amount, e.debt, e.reference, k.theirs, e.posted_at
			FROM entry e LEFT JOIN known k ON k.kind = 'entry' AND k.mine = e.entry WHERE e.kind <> 'expire'$$,
		$$SELECT e.customer_id, e.program, e.kind, e.amount, e.debt, e.reference, CASE WHEN e.kind <> 'transfer_in' THEN e.entry_id END, e.posted_at
			FROM cdp.points_entry e WHERE e.kind <> 'expire' AND customer_id IN (SELECT id FROM cust)$$);
	PERFORM pg_temp.differ(seq, 'expired', $$SELECT customer_id, program, sum(amount) FROM entry WHERE kind = 'expire' GROUP BY 1, 2$$,
		$$SELECT customer_id, program, sum(amount) FROM cdp.points_entry WHERE kind = 'expire' AND customer_id IN (SELECT id FROM cust) GROUP BY 1, 2$$);
	PERFORM pg_temp.differ(seq, 'hold', $$SELECT k.theirs, h.customer_id, h.program, h.amount, h.captured, CASE h.state WHEN 'open' THEN 0 ELSE h.amount - h.captured END,
			h.state, h.release_at, h.reference, e.theirs
			FROM hold h LEFT JOIN known k ON k.kind = 'hold' AND k.mine = h.hold LEFT JOIN known e ON e.kind = 'entry' AND e.mine = h.entry$$,
		$$SELECT hold_id, customer_id, program, amount, captured, released, state, release_at, reference, entry_id FROM cdp.points_hold WHERE customer_id IN (SELECT id FROM cust)$$);
	INSERT INTO wrong SELECT seq, 0, '"books"', '0', format('%s: %s', b.n, b.what) FROM pg_temp.broken() b WHERE b.n > 0;
	INSERT INTO wrong SELECT seq, 0, '"books"', NULL, v::text FROM cdp.verify_points() v WHERE seq % 5 = 0;
END $f$;
-- several at once: what comes of each is compared
CREATE FUNCTION pg_temp.batch(seq int, k int) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	op jsonb;
	items jsonb := '[]';
BEGIN
	FOR i IN 1 .. 20 LOOP
		op := pg_temp.dream(seq, k * 1000 + i);
		CONTINUE WHEN op IS NULL OR op ->> 'kind' NOT IN ('earn', 'spend', 'refund', 'clawback', 'transfer', 'adjust') OR NOT op ? 'amount' AND random() < 0.5;
		items := items || jsonb_build_array(op);
		EXIT WHEN jsonb_array_length(items) = 5 OR random() < 0.35;
	END LOOP;
	RETURN items;
END $$;
CREATE FUNCTION pg_temp.run_batch(seq int, k int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	items jsonb := pg_temp.batch(seq, k);
	ours jsonb := 'null';
	theirs jsonb := 'null';
	why text;
	r record;
BEGIN
	IF items = '[]' THEN
		RETURN;
	END IF;
	BEGIN
		ours := (SELECT jsonb_agg(to_jsonb(b) ORDER BY b.ord) FROM pg_temp.model_batch(items) b);
	EXCEPTION WHEN OTHERS THEN
		IF SQLERRM NOT LIKE 'model: %' THEN
			RAISE;
		END IF;
		why := SQLERRM;
	END;
	BEGIN
		theirs := (SELECT jsonb_agg(to_jsonb(b) ORDER BY b.ord) FROM pg_temp.engine_batch(items) b);
	EXCEPTION WHEN OTHERS THEN
		why := concat_ws(' / ', why, SQLSTATE, SQLERRM);
	END;
	INSERT INTO step VALUES (k, items, ours::text, concat_ws(' ', theirs, why), cdp.now());
	INSERT INTO met VALUES ('batch', CASE ours WHEN 'null' THEN 'refused' ELSE 'ok' END, 1) ON CONFLICT (kind, answer) DO UPDATE SET n = met.n + 1;
	IF ours <> 'null' AND theirs <> 'null' THEN
		INSERT INTO known SELECT 'entry', o.entry, t.entry FROM jsonb_to_recordset(ours) o(ord int, entry bigint, replayed boolean) JOIN jsonb_to_recordset(theirs) t(ord int, entry bigint) USING (ord)
			WHERE NOT o.replayed;
		ours := (SELECT jsonb_agg(jsonb_build_object('ord', o.ord, 'entry', n.theirs, 'balance', o.balance, 'replayed', o.replayed) ORDER BY o.ord)
			FROM jsonb_to_recordset(ours) o(ord int, entry bigint, balance bigint, replayed boolean) JOIN known n ON n.kind = 'entry' AND n.mine = o.entry);
	END IF;
	-- which of several errors is told is nobody's promise
	IF ours <> theirs THEN
		INSERT INTO wrong VALUES (seq, k, items, ours::text, concat_ws(' ', theirs, why));
	END IF;
END $$;
CREATE FUNCTION pg_temp.run(seq int, ops int, seed int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	op jsonb;
	wanted text;
	got text;
	why text;
	our_id bigint;
	their_id bigint;
	of_kind text;
	over boolean;
BEGIN
	PERFORM setseed(((seed::bigint * 1000003 + seq::bigint * 7919) % 1000000) / 1000000.0);
	PERFORM set_config('cdp.now', (timestamptz '2026-01-01Z' + pg_temp.pick(3000) * interval '37 minutes')::text, true);
	-- four customers, of whom the last has two ids
	INSERT INTO cust SELECT i, cdp.identify(jsonb_build_object('member_id', format('model%s:%s', seq, i))) FROM generate_series(1, 5) i;
	PERFORM cdp.merge_customers((SELECT id FROM cust WHERE i = 4), (SELECT id FROM cust WHERE i = 5), 'model');
	PERFORM pg_temp.new_program('model' || seq), pg_temp.new_program('model' || seq || 'b');
	FOR k IN 1 .. ops LOOP
		IF random() < 0.05 THEN
			PERFORM pg_temp.run_batch(seq, k);
			EXIT WHEN EXISTS (SELECT FROM wrong w WHERE w.seq = run.seq);
			CONTINUE;
		END IF;
		op := pg_temp.dream(seq, k);
		CONTINUE WHEN op IS NULL;
		IF op ->> 'kind' = 'clock' THEN
			-- back only where that makes no difference to what a job may have done
			CONTINUE WHEN (op ->> 'to')::timestamptz < cdp.now() AND (((op ->> 'to')::timestamptz AT TIME ZONE current_setting('cdp.timezone'))::date <> (cdp.now() AT TIME ZONE current_setting('cdp.timezone'))::date
				OR EXISTS (SELECT FROM lot WHERE expires_at BETWEEN (op ->> 'to')::timestamptz AND cdp.now() OR available_at BETWEEN (op ->> 'to')::timestamptz AND cdp.now() OR earned_at > (op ->> 'to')::timestamptz)
				OR EXISTS (SELECT FROM hold WHERE release_at BETWEEN (op ->> 'to')::timestamptz AND cdp.now()) OR EXISTS (SELECT FROM account WHERE active_until BETWEEN (op ->> 'to')::timestamptz AND cdp.now()));
			PERFORM set_config('cdp.now', op ->> 'to', true);
			INSERT INTO step VALUES (k, op, NULL, NULL, cdp.now());
			CONTINUE;
		ELSIF op ->> 'kind' = 'rule' THEN
			PERFORM pg_temp.change_program(op ->> 'program');
			INSERT INTO step SELECT k, to_jsonb(p), 'rule', 'rule', cdp.now() FROM cdp.points_program p WHERE program = op ->> 'program';
			CONTINUE;
		END IF;
		our_id := NULL; their_id := NULL; why := NULL;
		over := EXISTS (SELECT FROM hold WHERE state = 'open' AND release_at <= cdp.now());
		BEGIN
			our_id := pg_temp.model(op);
			wanted := 'ok';
		EXCEPTION WHEN OTHERS THEN
			IF SQLERRM NOT LIKE 'model: %' THEN
				RAISE;
			END IF;
			wanted := SQLSTATE;
			why := SQLERRM;
		END;
		BEGIN
			their_id := pg_temp.engine(op);
			got := 'ok';
		EXCEPTION WHEN OTHERS THEN
			got := SQLSTATE;
			why := concat_ws(' / ', why, SQLERRM);
		END;
		INSERT INTO met VALUES (op ->> 'kind', wanted, 1) ON CONFLICT (kind, answer) DO UPDATE SET n = met.n + 1;
		-- ids of a kind belong together; release and expire answer no id
		of_kind := CASE op ->> 'kind' WHEN 'hold' THEN 'hold' WHEN 'release' THEN NULL WHEN 'expire' THEN NULL ELSE 'entry' END;
		IF wanted = 'ok' AND got = 'ok' THEN
			-- releasing holds that are over may expire something, too
			IF op ->> 'kind' = 'expire' AND over THEN
				NULL;
			ELSIF of_kind IS NULL THEN
				wanted := our_id::text;
				got := their_id::text;
			ELSIF EXISTS (SELECT FROM known n WHERE n.kind = of_kind AND n.mine = our_id) THEN
				wanted := (SELECT n.theirs FROM known n WHERE n.kind = of_kind AND n.mine = our_id)::text;
				got := their_id::text;
			ELSIF EXISTS (SELECT FROM known n WHERE n.kind = of_kind AND n.theirs = their_id) THEN
				wanted := 'a new id';
				got := their_id::text;
			ELSE
				INSERT INTO known VALUES (of_kind, our_id, their_id);
			END IF;
		END IF;
		INSERT INTO step VALUES (k, op, wanted, concat_ws(' ', got, why), cdp.now());
		IF wanted <> got THEN
			INSERT INTO wrong VALUES (seq, k, op, wanted, concat_ws(' ', got, why));
			EXIT;
		END IF;
	END LOOP;
	IF NOT EXISTS (SELECT FROM wrong w WHERE w.seq = run.seq) THEN
		PERFORM pg_temp.compare(seq);
	END IF;
END $$;
-- each leaves no rows, ours or theirs, but what was found
CREATE FUNCTION pg_temp.sequence(seq int, ops int, seed int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	found record;
BEGIN
	BEGIN
		DELETE FROM met;
		PERFORM pg_temp.run(seq, ops, seed);
		SELECT (SELECT array_agg(w) FROM wrong w WHERE w.seq = sequence.seq) AS wrong, (SELECT array_agg(m) FROM met m) AS met, (SELECT array_agg(s) FROM step s) AS step INTO found;
		RAISE SQLSTATE 'DONE0';
	EXCEPTION WHEN SQLSTATE 'DONE0' THEN
		INSERT INTO wrong SELECT * FROM unnest(found.wrong);
		INSERT INTO met SELECT * FROM unnest(found.met) ON CONFLICT (kind, answer) DO UPDATE SET n = met.n + excluded.n;
		INSERT INTO told SELECT * FROM unnest(found.step);
	END;
END $$;

-- with merges and unmerges in between nothing is predicted but this: no other error, no point made or lost, and the books agree
CREATE FUNCTION pg_temp.wild(seq int, ops int, seed int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	op jsonb;
	before text;
	after text;
	found jsonb := '[]';
	sums text := 'SELECT row(sum(balance), sum(held), sum(balance + debt))::text FROM cdp.points_account WHERE customer_id IN (SELECT id FROM cust)';
	a bigint;
	b bigint;
BEGIN
	BEGIN
		PERFORM setseed(((seed::bigint * 1000003 + seq::bigint * 104729) % 1000000) / 1000000.0);
		PERFORM set_config('cdp.now', (timestamptz '2026-01-01Z' + pg_temp.pick(3000) * interval '37 minutes')::text, true);
		INSERT INTO cust SELECT i, cdp.identify(jsonb_build_object('member_id', format('wild%s:%s', seq, i))) FROM generate_series(1, 5) i;
		PERFORM pg_temp.new_program('model' || seq), pg_temp.new_program('model' || seq || 'b');
		FOR k IN 1 .. ops LOOP
			-- what op to dream of follows from what there is
			DELETE FROM account; DELETE FROM lot; DELETE FROM entry; DELETE FROM hold;
			INSERT INTO account SELECT customer_id, program, debt, active_until FROM cdp.points_account WHERE customer_id IN (SELECT id FROM cust);
			INSERT INTO lot SELECT lot_id, lot_id, customer_id, profile_id, program, earned_entry, remaining, earned_at, available_at, expires_at FROM cdp.points_lot WHERE customer_id IN (SELECT id FROM cust);
			INSERT INTO entry SELECT entry_id, customer_id, program, kind, amount, debt, reference FROM cdp.points_entry WHERE customer_id IN (SELECT id FROM cust);
			INSERT INTO hold SELECT hold_id, customer_id, profile_id, program, amount, captured, state, release_at, reference, entry_id FROM cdp.points_hold WHERE customer_id IN (SELECT id FROM cust);
			IF random() < 0.15 THEN
				a := pg_temp.some();
				b := pg_temp.some();
				op := jsonb_build_object('kind', CASE WHEN random() < 0.5 THEN 'merge' ELSE 'unmerge' END, 'a', a, 'b', b);
				-- what time has done is booked first, so that the sums compare
				PERFORM cdp._release_holds(1000), cdp._expire_points(1000);
				EXECUTE sums INTO before;
				BEGIN
					IF op ->> 'kind' = 'merge' THEN
						PERFORM cdp.merge_customers(a, b, 'wild');
					ELSE
						PERFORM cdp.unmerge_customer(a, 'wild');
					END IF;
				EXCEPTION WHEN invalid_parameter_value OR SQLSTATE 'LC102' THEN NULL;
				END;
				EXECUTE sums INTO after;
				IF before <> after THEN
					found := found || jsonb_build_array(op, before, after);
				END IF;
				CONTINUE;
			END IF;
			op := pg_temp.dream(seq, k);
			IF op ->> 'kind' = 'clock' THEN
				PERFORM set_config('cdp.now', greatest((op ->> 'to')::timestamptz, cdp.now())::text, true);
			ELSIF op ->> 'kind' = 'rule' THEN
				PERFORM pg_temp.change_program(op ->> 'program');
			ELSIF op IS NOT NULL THEN
				INSERT INTO step VALUES (k, op);
				BEGIN
					PERFORM pg_temp.engine(op);
				EXCEPTION WHEN OTHERS THEN
					IF SQLSTATE NOT IN ('22004', '22023', '42704', '55000', 'LC301', 'LC302', 'LC303', 'LC304') THEN
						found := found || jsonb_build_array(op, SQLSTATE, SQLERRM);
					END IF;
				END;
			END IF;
		END LOOP;
		found := found || coalesce((SELECT jsonb_agg(to_jsonb(v)) FROM cdp.verify_points() v), '[]')
			|| coalesce((SELECT jsonb_agg(to_jsonb(v)) FROM pg_temp.broken() v WHERE n > 0 AND what ~ '^balance|^held|^restored|^hold'), '[]')
			|| coalesce((SELECT jsonb_agg(to_jsonb(v)) FROM cdp.points_account v WHERE moved_to IS NOT NULL AND (balance <> 0 OR held <> 0 OR debt <> 0)), '[]');
		RAISE SQLSTATE 'DONE0';
	EXCEPTION WHEN SQLSTATE 'DONE0' THEN
		INSERT INTO wrong SELECT seq, 0, '"wild"', NULL, f::text FROM jsonb_array_elements(found) f;
	END;
END $$;

SELECT count(pg_temp.sequence(i, :ops, :seed)) FROM generate_series(1, :sequences) i WHERE :only IN (0, i) \g /dev/null
SELECT count(pg_temp.wild(1000000 + i, :ops, :seed)) FROM generate_series(1, :sequences / 4) i WHERE :only IN (0, 1000000 + i) \g /dev/null
SELECT is((SELECT count(*) FROM wrong WHERE step > 0), 0::bigint, 'every answer was predicted');
SELECT is((SELECT count(*) FROM wrong WHERE op = '"account"'), 0::bigint, 'accounts are those of the model');
SELECT is((SELECT count(*) FROM wrong WHERE op = '"lot"'), 0::bigint, 'so are lots');
SELECT is((SELECT count(*) FROM wrong WHERE op IN ('"entry"', '"expired"')), 0::bigint, 'so are entries');
SELECT is((SELECT count(*) FROM wrong WHERE op = '"hold"'), 0::bigint, 'so are holds');
SELECT diag(format('sequence %s step %s: %s wanted %s, got %s', seq, step, op, wanted, got)) FROM wrong ORDER BY seq, step LIMIT 12;
SELECT diag(format('%s %s: %s -> %s, %s', at, step, op, wanted, got)) FROM told WHERE :only > 0 ORDER BY step;
SELECT is((SELECT count(*) FROM wrong WHERE op = '"books"'), 0::bigint, 'and the books agree with themselves');
SELECT is((SELECT count(*) FROM wrong WHERE op = '"wild"'), 0::bigint, 'also after merges and unmerges, which neither make nor lose a point');
-- a run that met nothing proves nothing
SELECT ok(:only > 0 OR :sequences * :ops < 3000 OR (SELECT count(*) FROM met) >= 30, 'answers of every kind were met: ' || (SELECT count(*) FROM met));
SELECT diag((SELECT string_agg(format('%s %s %s', kind, answer, n), ', ' ORDER BY kind, answer) FROM met)) WHERE :only > 0 OR :sequences > 60;
-- a batch of many more rows than the engine keeps before it writes them: every entry and key is that of its item
SELECT cdp.identify('{"member_id": "model:1"}') AS c1, cdp.identify('{"member_id": "model:2"}') AS c2, cdp.identify('{"member_id": "model:3"}') AS c3 \gset
SELECT count(cdp.earn_points(c, 1000000, 'long:start:' || c)) FROM unnest(ARRAY[:c1, :c2, :c3]) c \g /dev/null
CREATE TEMP TABLE item AS SELECT i, CASE i % 3 WHEN 1 THEN 'earn' WHEN 2 THEN 'spend' ELSE 'adjust' END AS kind, 1 + i % 7 AS amount, 'long:' || i AS key,
		CASE WHEN i % 3 > 0 AND i % 5 > 0 THEN repeat('order ' || i, 1 + i % 9) END AS reference, (ARRAY[:c1, :c2, :c3])[1 + i % 3 * (i % 2)] AS customer
	FROM generate_series(1, 3500) i;
CREATE TEMP TABLE answer AS SELECT p.* FROM cdp.post_points((SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('kind', kind, 'customer_id', customer, 'amount', amount,
	'idempotency_key', key, 'reference', reference, 'reason', CASE kind WHEN 'adjust' THEN 'x' END, 'program', 'points')) ORDER BY i) FROM item)) p;
SELECT is_empty($$SELECT i.i, e.kind, e.amount, e.reference, k.verb, k.reference FROM item i JOIN answer a ON a.ord = i.i LEFT JOIN cdp.points_entry e USING (entry_id)
	LEFT JOIN cdp.points_key k ON k.idempotency_key = i.key AND k.result = a.entry_id
	WHERE (i.kind, i.kind, i.key, i.reference, i.reference, i.amount, i.customer) IS DISTINCT FROM
		(e.kind, k.verb, e.idempotency_key, e.reference, k.reference, CASE i.kind WHEN 'spend' THEN -e.amount ELSE e.amount END, e.customer_id)$$, 'a long batch: entries and keys are those of their items');
SELECT is_empty('SELECT * FROM pg_temp.broken() WHERE n > 0', 'and the books agree');
SELECT * FROM finish();
ROLLBACK;
