-- identity_recheck: today's rules on all evidence; is the partition sound.
-- C: src/identity_recheck.c, src/identity_graph.c, src/identity_replay.c, src/identity_verdict.c, src/identity_verify.c
-- Page: doc/identity_recheck.md  Tests: test/sql/identity_recheck.sql, test/pgtap/identity_recheck.sql, test/pgtap/identity_recheck_size.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.recheck_identity(since timestamptz DEFAULT NULL, dry_run boolean DEFAULT true)
	RETURNS TABLE (profile_id bigint, customer_before bigint, customer_after bigint, reason text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_recheck_identity';
COMMENT ON FUNCTION cdp.recheck_identity(timestamptz, boolean) IS 'Replays the evidence, refused evidence included, in canonical order under the rules of now, and answers every profile whose customer is another by it. since: only where something was seen, linked, revoked, judged or closed since then, and only that is read; NULL: everybody. dry_run: only say so; false: do it, in one transaction, and answer the same. A row of an identifier that has to leave its profile names that profile; customer_after NULL: for a customer yet to be made. reason: evidence, limit of KIND, kept_apart, customer_too_large or no evidence. A second call answers nothing. Errors: 40001, 25006. For millions: CALL cdp.recheck_identities().';

CREATE OR REPLACE FUNCTION cdp._recheck_step(after bigint, batch int, touched bigint[], rebuild boolean,
	OUT last bigint, OUT scanned bigint, OUT changed bigint)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_recheck_step';
COMMENT ON FUNCTION cdp._recheck_step(bigint, int, bigint[], boolean) IS 'internal: one batch of recheck_identities() or rebuild_aliases(): the touched customers, ascending and without NULL, or the profiles after an id; scanned 0: the end';

CREATE OR REPLACE FUNCTION cdp._recheck_touched(since timestamptz) RETURNS bigint[]
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_recheck_touched';
COMMENT ON FUNCTION cdp._recheck_touched(timestamptz) IS 'internal: customers of whom something was seen, linked, revoked, judged or closed since then, ascending';

CREATE OR REPLACE FUNCTION cdp.verify_identity() RETURNS TABLE (check_name text, detail text)
	LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_verify_identity';
COMMENT ON FUNCTION cdp.verify_identity() IS 'What is wrong with the partition, one row each, without values; no row: it is sound. check_name: alias (not what the links give), alias_depth, orphan, live_value (two live rows of one value), limit (more identifiers of a kind than its rule allows, as after a tightened rule: recheck_identity() helps; with max_window: evidence that neither in order of time nor in canonical order could have joined them), apart. Reads everything: CALL cdp.check_identity() does it for cdp.health().';

CREATE OR REPLACE PROCEDURE cdp.check_identity() LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._require_version();
	PERFORM cdp._store_identity_check();
END $$;
COMMENT ON PROCEDURE cdp.check_identity() IS 'Runs verify_identity() and keeps its result for cdp.health(). A job of that name is in cdp.job.';

CREATE OR REPLACE PROCEDURE cdp.recheck_identities(since timestamptz DEFAULT NULL, batch int DEFAULT 1000) LANGUAGE plpgsql
AS $$
-- Walks the profiles, or with since the customers touched, in order of their ids, a batch per transaction; who is stopped
-- goes on where he was.
DECLARE
	run     bigint;
	step    record;
	at      bigint;
	touched bigint[];	-- with since
	n       int := 0;	-- of them
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	IF batch IS NULL OR batch < 1 THEN
		RAISE EXCEPTION 'batch must be at least 1' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for 1000.';
	END IF;
	touched := cdp._recheck_touched(since);
	run := cdp._job_begin('recheck_identities', coalesce(cardinality(touched), cdp._recheck_total()));
	at := cdp._recheck_position(since, NULL);
	touched := ARRAY(SELECT t FROM unnest(touched) t WHERE t > at ORDER BY t);
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	LOOP
		PERFORM cdp._job_step(run);
		SELECT s.last, s.scanned, s.changed INTO step FROM cdp._recheck_step(at, batch, CASE WHEN since IS NOT NULL THEN touched[n + 1 : n + batch] END, false) s;
		n := n + batch;
		EXIT WHEN step.scanned = 0;
		at := step.last;
		PERFORM cdp._recheck_position(since, at);
		PERFORM cdp._job_progress(run, step.scanned);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	END LOOP;
	PERFORM cdp._recheck_position(since, -1);
	PERFORM cdp._job_end(run);
END $$;
COMMENT ON PROCEDURE cdp.recheck_identities(timestamptz, int) IS 'recheck_identity(since, false) for many: batch profiles (with since: touched customers) per transaction, progress in cdp.job_status (done: how many were looked at). Stopped, it goes on where it was when it is called again with the same since and unchanged rules. Commits, so it cannot run inside a transaction. Errors: 22023 batch, 55006 running already, 40001, 42501.';

CREATE OR REPLACE PROCEDURE cdp.rebuild_aliases(batch int DEFAULT 1000) LANGUAGE plpgsql
AS $$
DECLARE
	run     bigint;
	step    record;
	at      bigint := 0;
	changed bigint := 0;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	IF batch IS NULL OR batch < 1 THEN
		RAISE EXCEPTION 'batch must be at least 1' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for 1000.';
	END IF;
	run := cdp._job_begin('rebuild_aliases', cdp._recheck_total());
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	LOOP
		PERFORM cdp._job_step(run);
		SELECT s.last, s.scanned, s.changed INTO step FROM cdp._recheck_step(at, batch, NULL, true) s;
		changed := changed + step.changed;
		EXIT WHEN step.scanned = 0;
		at := step.last;
		PERFORM cdp._job_progress(run, step.scanned);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	END LOOP;
	PERFORM cdp._job_end(run);
	IF changed > 0 THEN
		RAISE NOTICE '% aliases were not what the evidence says and have been mended', changed;
	END IF;
END $$;
COMMENT ON PROCEDURE cdp.rebuild_aliases(int) IS 'Makes cdp.profile_alias again what the followed links and, for the choice of ids, cdp.merge_log say: after damage, or a restore without it. Changes nothing that is sound, writes no log and no event, tells no module. batch: profiles per transaction. Commits. Errors: 22023 batch, 55006 running already, 42501.';

CREATE OR REPLACE FUNCTION cdp._health_identity_recheck() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r jsonb;
BEGIN
	IF to_regclass('cdp.meta') IS NULL THEN
		RETURN;
	END IF;
	SELECT m.value::jsonb INTO r FROM cdp.meta m WHERE m.key = 'identity_check';
	RETURN QUERY VALUES ('identity', r IS NULL OR (r ->> 'problems')::bigint = 0, CASE
		WHEN r IS NULL THEN 'never verified; CALL cdp.check_identity()'
		WHEN (r ->> 'problems')::bigint = 0 THEN format('sound %s ago', date_trunc('minute', cdp.now() - (r ->> 'at')::timestamptz))
		ELSE format('%s problems %s ago, the first: %s; SELECT * FROM cdp.verify_identity()', r ->> 'problems',
			date_trunc('minute', cdp.now() - (r ->> 'at')::timestamptz), r ->> 'first') END);
END $$;
COMMENT ON FUNCTION cdp._health_identity_recheck() IS 'internal: row of identity in cdp.health(): the last stored result of verify_identity()';

-- @access
('function', 'recheck_identity', 'EXECUTE', '{operator}'),
('function', 'recheck_identities', 'EXECUTE', '{operator}'),
('function', '_recheck_step', 'EXECUTE', '{operator}'),
('function', '_recheck_touched', 'EXECUTE', '{operator}'),
('function', '_recheck_total', 'EXECUTE', '{operator}'),
('function', '_recheck_position', 'EXECUTE', '{operator}'),
('function', 'verify_identity', 'EXECUTE', '{reader}'),
('function', 'check_identity', 'EXECUTE', '{operator}'),
('function', '_store_identity_check', 'EXECUTE', '{operator}'),
('function', 'rebuild_aliases', 'EXECUTE', '{operator}'),
('function', '_health_identity_recheck', 'EXECUTE', '{reader,application}'),

-- @data
INSERT INTO cdp.job (job, command, schedule, description) VALUES
	('check_identity', 'CALL cdp.check_identity()', '37 3 * * *', 'verifies who is one customer, for cdp.health()'),
	('recheck_identities', 'CALL cdp.recheck_identities()', NULL, 'applies the rules of identity to all evidence')
	ON CONFLICT (job) DO NOTHING;

-- @view
CREATE OR REPLACE FUNCTION cdp._recheck_total() RETURNS bigint
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT count(*) FROM cdp.profile $$;
COMMENT ON FUNCTION cdp._recheck_total() IS 'internal: profiles that recheck_identities() has to look at';

CREATE OR REPLACE FUNCTION cdp._recheck_position(since timestamptz, at bigint) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- What a run that was stopped has done: NULL asks, -1 forgets.  It counts only for the same question: rules that have
-- changed since ask another one.
DECLARE
	question text := md5(concat_ws('|', extract(epoch FROM since), current_setting('cdp.max_profiles_per_customer', true),
		(SELECT string_agg(k::text, '|' ORDER BY k.kind) FROM cdp.identifier_kind k)));
	stored   jsonb;
BEGIN
	IF at IS NULL THEN
		SELECT m.value::jsonb INTO stored FROM cdp.meta m WHERE m.key = 'recheck_position';
		RETURN CASE WHEN stored ->> 'question' = question THEN (stored ->> 'at')::bigint ELSE 0 END;
	ELSIF at < 0 THEN
		DELETE FROM cdp.meta m WHERE m.key = 'recheck_position';
	ELSE
		INSERT INTO cdp.meta AS m (key, value) VALUES ('recheck_position', jsonb_build_object('question', question, 'at', at))
			ON CONFLICT (key) DO UPDATE SET value = excluded.value;
	END IF;
	RETURN at;
END $$;
COMMENT ON FUNCTION cdp._recheck_position(timestamptz, bigint) IS 'internal: remembers how far recheck_identities() came; NULL asks, -1 forgets';

CREATE OR REPLACE FUNCTION cdp._store_identity_check() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result jsonb;
BEGIN
	SELECT jsonb_build_object('at', cdp.now(), 'problems', count(*), 'first', min(v.check_name || ': ' || v.detail)) INTO result
	FROM cdp.verify_identity() v;
	INSERT INTO cdp.meta AS m (key, value) VALUES ('identity_check', result)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value;
END $$;
COMMENT ON FUNCTION cdp._store_identity_check() IS 'internal: runs verify_identity() and keeps its result';
