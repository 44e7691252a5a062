-- event_source: existing tables as sources, followed by triggers.
-- C: src/event_source*.c  Page: doc/event_source.md  Tests: test/sql/event_source*.sql

-- @code
CREATE OR REPLACE FUNCTION cdp._source_apply() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_source_apply';
COMMENT ON FUNCTION cdp._source_apply() IS 'internal: trigger function of attached sources; arguments source_id, on_error, digest of the mapping, on_delete';

CREATE OR REPLACE FUNCTION cdp.attach_source(source regclass, role text, mapping jsonb, on_error text DEFAULT 'queue',
	on_delete text DEFAULT 'keep', backfill boolean DEFAULT true) RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_attach_source';
COMMENT ON FUNCTION cdp.attach_source(regclass, text, jsonb, text, text, boolean) IS 'Takes what is in a table of yours into the CDP and follows its changes. role: customer, order, order_line, product or event. mapping: an object whose values are SQL expressions over one row (doc/event_source.md lists the keys of each role); date and timestamp values are read in cdp.timezone. on_error: queue (a row that cannot be taken goes to cdp.source_queue, your statement goes on) or raise. on_delete: keep, or cancel (role order: orders of deleted rows are cancelled). backfill: copy what is there; up to cdp.backfill_inline_rows rows before it returns, above that with CALL cdp.backfill_source(). Nothing about the table changes but its triggers. Run it as the owner of the table. Answers what was done, in words. Errors: 22023 or the SQLSTATE of the expression, with the offending key in the message; 22004 NULL; 42710 attached already; 42501 not the owner; 0A000 views, foreign and temporary tables (use cdp.ingest).';

CREATE OR REPLACE FUNCTION cdp.detach_source(source regclass) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_detach_source';
COMMENT ON FUNCTION cdp.detach_source(regclass) IS 'Stops following a table: its triggers and its queue go, what was taken stays. Run it as the owner of the table. Errors: 42704 not attached, 42501 not the owner, 22004 NULL.';

CREATE OR REPLACE FUNCTION cdp.detach_source(source text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_detach_source_name';
COMMENT ON FUNCTION cdp.detach_source(text) IS 'The same by name, ''schema.table'': also forgets a source whose table was dropped. Errors: 42704 not attached, 42501 not the owner, 22004 NULL.';

CREATE OR REPLACE FUNCTION cdp._backfill_batch(source_id bigint, source regclass, batch int) RETURNS bigint
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_backfill_batch';
COMMENT ON FUNCTION cdp._backfill_batch(bigint, regclass, int) IS 'internal: copies the next rows of a source, notes the position in the same transaction; answers how many rows there were, 0: done';

CREATE OR REPLACE FUNCTION cdp._retry_batch(source_id bigint, source regclass, after_id bigint, last_id bigint, batch int,
	OUT queue_id bigint, OUT seen bigint, OUT taken bigint)
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_retry_batch';
COMMENT ON FUNCTION cdp._retry_batch(bigint, regclass, bigint, bigint, int) IS 'internal: tries the next rows of source_queue of a source, those with after_id < queue_id <= last_id; answers the last queue_id looked at (NULL: there is none left), how many rows were looked at and how many were taken';

CREATE OR REPLACE FUNCTION cdp._make_source_triggers(source_id bigint, source regclass) RETURNS boolean
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_make_source_triggers';
COMMENT ON FUNCTION cdp._make_source_triggers(bigint, regclass) IS 'internal: makes the triggers of a source that are missing on its table or on a partition; true: some were made. 42501 when the caller has not the rights of the source''s role and of the table''s owner';

CREATE OR REPLACE PROCEDURE cdp.backfill_source(source regclass, batch int DEFAULT 10000)
	LANGUAGE plpgsql
AS $$
DECLARE
	src    record;
	run_id bigint;
	n      bigint;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	src := cdp._backfill_begin(source, batch);
	run_id := cdp._job_begin(src.job, src.total);
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	LOOP
		PERFORM cdp._job_step(run_id);
		n := cdp._backfill_batch(src.source_id, source, batch);
		PERFORM cdp._job_progress(run_id, n);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		EXIT WHEN n = 0;
	END LOOP;
	PERFORM cdp._job_end(run_id);
END $$;
COMMENT ON PROCEDURE cdp.backfill_source(regclass, int) IS 'Copies what is in an attached table, batch rows per transaction, in the order of its key; progress is in cdp.job_status as "backfill schema.table". It holds no lock on the table beyond a batch, and rows that change meanwhile end with their newest content. When it was stopped or killed, call it again: it goes on after the last batch that was committed; after it was done, it starts from the beginning and changes only what differs. Errors: 42704 not attached, 22023 batch below 1, 55006 running already, 2D000 inside a transaction block.';

CREATE OR REPLACE PROCEDURE cdp.backfill_sources()
	LANGUAGE plpgsql
AS $$
DECLARE
	name regclass;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	LOOP
		name := cdp._backfill_pending();
		EXIT WHEN name IS NULL;
		CALL cdp.backfill_source(name);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	END LOOP;
END $$;
COMMENT ON PROCEDURE cdp.backfill_sources() IS 'CALL cdp.backfill_source() for every attached table whose back-fill is pending or was interrupted: a job for a scheduler.';

CREATE OR REPLACE PROCEDURE cdp.retry_sources(batch int DEFAULT 1000)
	LANGUAGE plpgsql
AS $$
DECLARE
	src    record;
	got    record;
	at_id  bigint;
	run_id bigint;
	id     bigint := 0;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	run_id := cdp._job_begin('retry_sources', cdp._queued_rows(batch));
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	LOOP
		src := cdp._retry_begin(id);
		EXIT WHEN src.source_id IS NULL;
		id := src.source_id;
		at_id := 0;
		WHILE at_id IS NOT NULL AND src.relid IS NOT NULL LOOP
			PERFORM cdp._job_step(run_id);
			got := cdp._retry_batch(src.source_id, src.relid, at_id, src.last_id, batch);
			at_id := got.queue_id;
			PERFORM cdp._job_progress(run_id, got.seen);
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		END LOOP;
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	END LOOP;
	PERFORM cdp._job_end(run_id);
END $$;
COMMENT ON PROCEDURE cdp.retry_sources(int) IS 'Brings in the rows of cdp.source_queue with the content they have in their table now (rows that are gone: with the content they had), folds the counters of cdp.source_status and makes triggers on partitions that have none yet; batch rows per transaction. What cannot be taken stays in the queue with its newest reason. A job for a scheduler. Errors: 22023 batch below 1, 55006 running already, 2D000 inside a transaction block.';

CREATE OR REPLACE FUNCTION cdp._health_event_source() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('cdp.source_status') IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY SELECT 'source ' || s.source, s.state = 'following' AND s.queued = 0,
		concat_ws('; ', s.state, CASE WHEN s.queued > 0 THEN format('%s rows queued; CALL cdp.retry_sources()', s.queued) END,
			CASE WHEN s.backfill IN ('pending', 'running') THEN format('back-fill %s; CALL cdp.backfill_source(%L)', s.backfill, s.source) END)
		FROM cdp.source_status s ORDER BY s.source;
END $$;
COMMENT ON FUNCTION cdp._health_event_source() IS 'internal: rows of event_source in cdp.health()';

-- @access
('function', '_source_apply', 'EXECUTE', '{operator,admin}'),
('function', 'attach_source', 'EXECUTE', '{operator,admin}'),
('function', 'detach_source', 'EXECUTE', '{operator,admin}'),
('function', 'backfill_source', 'EXECUTE', '{operator,admin}'),
('function', 'backfill_sources', 'EXECUTE', '{operator,admin}'),
('function', 'retry_sources', 'EXECUTE', '{operator,admin}'),
('function', '_backfill_batch', 'EXECUTE', '{operator,admin}'),
('function', '_backfill_begin', 'EXECUTE', '{operator,admin}'),
('function', '_backfill_pending', 'EXECUTE', '{operator,admin}'),
('function', '_retry_batch', 'EXECUTE', '{operator,admin}'),
('function', '_retry_begin', 'EXECUTE', '{operator,admin}'),
('function', '_queued_rows', 'EXECUTE', '{operator,admin}'),
('function', '_health_event_source', 'EXECUTE', '{reader,application}'),
('table', 'source_status', 'SELECT', '{reader,application}'),
('table', 'source_queue', 'SELECT, DELETE', '{operator,admin}'),

-- @data
PERFORM cdp._ensure_table('source', $t$ (
	source_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	schema_name      text NOT NULL,
	table_name       text NOT NULL,
	role             text NOT NULL CHECK (role IN ('customer', 'order', 'order_line', 'product', 'event')),
	mapping          jsonb NOT NULL,
	select_list      text NOT NULL,
	key_columns      text[] NOT NULL,
	identifier_kinds text[] NOT NULL,
	on_error         text NOT NULL CHECK (on_error IN ('queue', 'raise')),
	on_delete        text NOT NULL CHECK (on_delete IN ('keep', 'cancel')),
	owner            name NOT NULL,
	attached_at      timestamptz NOT NULL DEFAULT cdp.now(),
	UNIQUE (schema_name, table_name)
) $t$);
COMMENT ON TABLE cdp.source IS 'Attached tables. Written by attach_source() and detach_source() only: the triggers carry a digest of the row.';
COMMENT ON COLUMN cdp.source.schema_name IS 'with table_name: the table, as text, so that a dump restores';
COMMENT ON COLUMN cdp.source.mapping IS 'as it was given';
COMMENT ON COLUMN cdp.source.select_list IS 'the checked mapping: one expression per column of the engine, every name qualified';
COMMENT ON COLUMN cdp.source.key_columns IS 'columns that tell the rows apart';
COMMENT ON COLUMN cdp.source.owner IS 'role as which the mapping runs';
CREATE OR REPLACE TRIGGER source_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cdp.source
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._rules_changed();

PERFORM cdp._ensure_table('source_state', $t$ (
	source_id         bigint PRIMARY KEY,
	backfill          text NOT NULL CHECK (backfill IN ('none', 'pending', 'running', 'done')),
	key_position      text[],
	backfill_rows     bigint NOT NULL DEFAULT 0,
	taken             bigint NOT NULL DEFAULT 0,
	deletes_ignored   bigint NOT NULL DEFAULT 0,
	truncates_ignored bigint NOT NULL DEFAULT 0,
	last_error        text,
	last_error_at     timestamptz,
	finished_at       timestamptz
) $t$);
COMMENT ON TABLE cdp.source_state IS 'Where the back-fill of a source is, and its counters as they were folded last; view cdp.source_status adds what came since.';
COMMENT ON COLUMN cdp.source_state.key_position IS 'key of the last row that was copied; NULL: at the beginning';
COMMENT ON COLUMN cdp.source_state.backfill_rows IS 'rows that back-fills have copied';

PERFORM cdp._ensure_table('source_delta', $t$ (
	delta_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	source_id         bigint NOT NULL,
	taken             bigint NOT NULL DEFAULT 0,
	deletes_ignored   bigint NOT NULL DEFAULT 0,
	truncates_ignored bigint NOT NULL DEFAULT 0
) $t$);
COMMENT ON TABLE cdp.source_delta IS 'One row per statement on a source: what it adds to the counters. Folded into source_state by retry_sources().';

PERFORM cdp._ensure_table('source_queue', $t$ (
	queue_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	source_id bigint NOT NULL,
	op        text NOT NULL CHECK (op IN ('insert', 'update', 'delete')),
	row_image jsonb NOT NULL,
	sqlstate  text NOT NULL,
	error     text NOT NULL,
	hint      text,
	queued_at timestamptz NOT NULL DEFAULT cdp.now(),
	tries     int NOT NULL DEFAULT 0,
	tried_at  timestamptz
) $t$);
CREATE INDEX IF NOT EXISTS source_queue_source ON cdp.source_queue (source_id, queue_id);
COMMENT ON TABLE cdp.source_queue IS 'Rows of sources that could not be taken, with the reason; CALL cdp.retry_sources() tries them again. No job locks this table above ROW EXCLUSIVE.';
COMMENT ON COLUMN cdp.source_queue.row_image IS 'the row as it was; a retry takes the present row of the table when it is still there';

IF to_regclass('cdp.job') IS NOT NULL THEN
	INSERT INTO cdp.job (job, command, schedule, description) VALUES
		('retry_sources', 'CALL cdp.retry_sources()', '*/5 * * * *', 'queued rows of sources; their counters, their new partitions'),
		('backfill_sources', 'CALL cdp.backfill_sources()', '*/10 * * * *', 'copies of attached tables that are not complete')
		ON CONFLICT DO NOTHING;
END IF;

-- @view
CREATE OR REPLACE FUNCTION cdp._source_by_relation(relid regclass) RETURNS cdp.source
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s cdp.source;
BEGIN
	IF relid IS NULL THEN
		RAISE EXCEPTION 'source must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'SELECT * FROM cdp.source_status lists the sources.';
	END IF;
	SELECT q.* INTO s FROM cdp.source q JOIN pg_class c ON c.relname = q.table_name
	JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = q.schema_name WHERE c.oid = relid;
	IF NOT FOUND THEN
		RAISE EXCEPTION '"%" is not an attached source', relid USING ERRCODE = 'undefined_object',
			HINT = 'SELECT * FROM cdp.source_status lists the sources; SELECT cdp.attach_source(...) adds one.';
	END IF;
	RETURN s;
END $$;
COMMENT ON FUNCTION cdp._source_by_relation(regclass) IS 'internal: the source that a table is; 42704 when it is none';

CREATE OR REPLACE FUNCTION cdp._backfill_begin(source regclass, batch int, OUT source_id bigint, OUT job text, OUT total bigint)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s cdp.source;
BEGIN
	IF batch IS NULL OR batch < 1 OR batch > 1000000 THEN
		RAISE EXCEPTION 'batch must be between 1 and 1000000' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'The default of 10000 rows is right for most tables.';
	END IF;
	s := cdp._source_by_relation(source);
	source_id := s.source_id;
	job := format('backfill %s.%s', s.schema_name, s.table_name);
	-- an estimate: counting would read the whole table
	SELECT sum(greatest(c.reltuples, 0)) - t.backfill_rows * (t.key_position IS NOT NULL)::int INTO total
	FROM cdp.source_state t, pg_class c
	WHERE t.source_id = s.source_id AND (c.oid = source OR c.oid IN (SELECT relid FROM pg_partition_tree(source) WHERE isleaf))
	  AND c.relkind = 'r' GROUP BY t.backfill_rows, t.key_position;
	total := nullif(greatest(total, 0), 0);
END $$;
COMMENT ON FUNCTION cdp._backfill_begin(regclass, int) IS 'internal: checks the arguments of backfill_source(), names its job and guesses its size';

CREATE OR REPLACE FUNCTION cdp._backfill_pending() RETURNS regclass
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT c.oid::regclass FROM cdp.source s JOIN cdp.source_state t USING (source_id)
	JOIN pg_class c ON c.relname = s.table_name JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = s.schema_name
	WHERE t.backfill IN ('pending', 'running') ORDER BY s.source_id LIMIT 1;
END;
COMMENT ON FUNCTION cdp._backfill_pending() IS 'internal: a source that is not copied yet, NULL when there is none';

CREATE OR REPLACE FUNCTION cdp._queued_rows(batch int) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF batch IS NULL OR batch < 1 OR batch > 100000 THEN
		RAISE EXCEPTION 'batch must be between 1 and 100000' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'The default of 1000 rows is right for most queues.';
	END IF;
	RETURN (SELECT count(*) FROM cdp.source_queue);
END $$;
COMMENT ON FUNCTION cdp._queued_rows(int) IS 'internal: size of the queue; checks the argument of retry_sources()';

CREATE OR REPLACE FUNCTION cdp._repair_sources(only_source bigint DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- Triggers that DROP EXTENSION .. CASCADE took, or that a new partition lacks.
DECLARE
	s record;
BEGIN
	FOR s IN SELECT q.source_id, to_regclass(format('%I.%I', q.schema_name, q.table_name)) AS relid FROM cdp.source q
		WHERE only_source IS NULL OR q.source_id = only_source ORDER BY q.source_id
	LOOP
		BEGIN
			PERFORM cdp._make_source_triggers(s.source_id, s.relid);
		EXCEPTION WHEN insufficient_privilege THEN
			RAISE WARNING 'the triggers of source % are missing and role % may not make them', s.relid, current_user
				USING HINT = 'The owner of the table runs SELECT cdp.attach_source(...) again.';
		END;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._repair_sources(bigint) IS 'internal: makes triggers of sources that are missing, as far as the caller may';

CREATE OR REPLACE FUNCTION cdp._retry_begin(after_source bigint, OUT source_id bigint, OUT relid regclass, OUT last_id bigint)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- The next source; folds its counters, follows its new partitions.
DECLARE
	s cdp.source;
	d record;
BEGIN
	SELECT q.* INTO s FROM cdp.source q WHERE q.source_id > after_source ORDER BY q.source_id LIMIT 1;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	source_id := s.source_id;
	PERFORM cdp._repair_sources(s.source_id);
	relid := to_regclass(format('%I.%I', s.schema_name, s.table_name));
	SELECT max(q.queue_id) INTO last_id FROM cdp.source_queue q WHERE q.source_id = s.source_id;
	last_id := coalesce(last_id, 0);
	WITH gone AS (DELETE FROM cdp.source_delta w WHERE w.source_id = s.source_id RETURNING w.*)
	SELECT sum(g.taken) AS taken, sum(g.deletes_ignored) AS deletes, sum(g.truncates_ignored) AS truncates INTO d FROM gone g;
	UPDATE cdp.source_state t SET taken = t.taken + coalesce(d.taken, 0),
		deletes_ignored = t.deletes_ignored + coalesce(d.deletes, 0),
		truncates_ignored = t.truncates_ignored + coalesce(d.truncates, 0)
	WHERE t.source_id = s.source_id AND d.taken IS NOT NULL;
	UPDATE cdp.source_state t SET last_error = q.error, last_error_at = q.queued_at
	FROM (SELECT w.error, w.queued_at FROM cdp.source_queue w WHERE w.source_id = s.source_id ORDER BY w.queue_id DESC LIMIT 1) q
	WHERE t.source_id = s.source_id AND t.last_error_at IS DISTINCT FROM q.queued_at;
END $$;
COMMENT ON FUNCTION cdp._retry_begin(bigint) IS 'internal: the source after this one (NULL: none), its table (NULL: dropped) and the last row of its queue; folds its counters';

CREATE OR REPLACE VIEW cdp.source_status AS
SELECT s.schema_name || '.' || s.table_name AS source, s.role, s.on_error, s.on_delete, s.attached_at,
	CASE WHEN c.oid IS NULL THEN 'table is gone'
	     WHEN NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgname IN ('cdp_source_insert', 'cdp_source_row'))
	     THEN 'triggers are missing' ELSE 'following' END AS state,
	t.backfill,
	t.taken + coalesce(d.taken, 0) AS taken,
	coalesce(q.queued, 0) AS queued,
	t.deletes_ignored + coalesce(d.deletes_ignored, 0) AS deletes_ignored,
	t.truncates_ignored + coalesce(d.truncates_ignored, 0) AS truncates_ignored,
	coalesce(round(extract(epoch FROM greatest(cdp.now() - q.oldest, '0'))), 0)::bigint AS lag_seconds,
	CASE WHEN q.newest > coalesce(t.last_error_at, '-infinity') THEN q.error ELSE t.last_error END AS last_error,
	greatest(q.newest, t.last_error_at) AS last_error_at
FROM cdp.source s
JOIN cdp.source_state t USING (source_id)
LEFT JOIN (pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace) ON c.relname = s.table_name AND n.nspname = s.schema_name
LEFT JOIN (SELECT source_id, sum(taken)::bigint AS taken, sum(deletes_ignored)::bigint AS deletes_ignored,
		sum(truncates_ignored)::bigint AS truncates_ignored FROM cdp.source_delta GROUP BY source_id) d USING (source_id)
LEFT JOIN LATERAL (SELECT count(*) AS queued, min(w.queued_at) AS oldest, max(w.queued_at) AS newest,
		(array_agg(w.error ORDER BY w.queue_id DESC))[1] AS error FROM cdp.source_queue w WHERE w.source_id = s.source_id) q ON true;
COMMENT ON VIEW cdp.source_status IS 'One row per attached table (unique: source, as schema.table): state (following, triggers are missing, table is gone), backfill (none, pending, running, done), rows taken, rows queued now, deleted rows and TRUNCATEs ignored, lag_seconds (age of the oldest queued row, 0 when all is in), the last error and when it was.';

PERFORM cdp._repair_sources();
