-- event_ingest: files through staging tables; views and foreign tables.
-- C: src/event_ingest.c, src/event_source*.c  Page: doc/event_ingest.md  Tests: test/sql/event_ingest.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.make_staging(role text, name text DEFAULT NULL, columns text[] DEFAULT NULL) RETURNS regclass
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_make_staging';
COMMENT ON FUNCTION cdp.make_staging(text, text, text[]) IS 'Makes a table of yours to COPY a file into: file_line (the number of the line), then a text column per kind of identifier and per key of the role (customer, order, order_line, product, event), for customers and events also traits or properties (a JSON object) and your own columns, each a trait or property. name: of the table, NULL is staging_ROLE in your current schema. Answers the table. Errors: 22023 no such role, 42P07 the table is there already, 42501 you may not create there, 22004 NULL.';

CREATE OR REPLACE FUNCTION cdp._ingest_batch(source regclass, role text, mapping jsonb, source_name text, after_key text[],
	line bigint, batch int, OUT last_key text[], OUT seen bigint, OUT taken bigint, OUT rejected bigint)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_ingest_batch';
COMMENT ON FUNCTION cdp._ingest_batch(regclass, text, jsonb, text, text[], bigint, int) IS 'internal: takes the rows of a relation after a key (NULL: from the first on), without a key all of them; line: rows seen before. Answers the last key (NULL: there is none, it is done) and counts';

CREATE OR REPLACE PROCEDURE cdp.ingest(source regclass, role text, mapping jsonb DEFAULT NULL, source_name text DEFAULT NULL,
	batch int DEFAULT 10000, INOUT taken bigint DEFAULT 0, INOUT rejected bigint DEFAULT 0)
	LANGUAGE plpgsql
AS $$
DECLARE
	run_id bigint;
	b      record;
	lines  bigint;
	pos    text[];
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	taken := 0;
	rejected := 0;
	lines := 0;
	-- whose rows one may not read, whose rejects one may not clear
	IF NOT pg_catalog.has_table_privilege(source, 'SELECT') THEN
		RAISE EXCEPTION 'permission denied for table %', source USING ERRCODE = 'insufficient_privilege',
			HINT = 'Its owner grants you SELECT on it.';
	END IF;
	run_id := cdp._job_begin(cdp._ingest_begin(source, role, source_name, batch));
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	LOOP
		PERFORM cdp._job_step(run_id);
		b := cdp._ingest_batch(source, role, mapping, source_name, pos, lines, batch);
		pos := b.last_key;
		lines := lines + b.seen;
		taken := taken + b.taken;
		rejected := rejected + b.rejected;
		PERFORM cdp._job_progress(run_id, b.seen);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		EXIT WHEN pos IS NULL;
	END LOOP;
	PERFORM cdp._job_end(run_id);
END $$;
COMMENT ON PROCEDURE cdp.ingest(regclass, text, jsonb, text, int, bigint, bigint) IS 'Takes the rows of a staging table, a view, a foreign or any other table in as they are now. role and mapping as for cdp.attach_source(); mapping NULL: columns by name, as in a table of make_staging(). source_name: what the rows are remembered to come from, NULL is schema.table. batch: rows per transaction (a relation without a primary key or "key" is taken in one). The mapping runs as you; functions in it are written with their schema. Good rows go in; bad rows are kept in cdp.ingest_reject with line number and reason, those of the last run of that name only. The same file again adds nothing. Answers the numbers of rows taken and rejected. Errors: 22023 and others as attach_source, 42501 no right to read, 54000 source_name is longer than 200 bytes, 55006 it is running, 2D000 inside a transaction block.';

-- @access
('function', 'make_staging', 'EXECUTE', '{application,operator,admin}'),
('function', 'ingest', 'EXECUTE', '{application,operator,admin}'),
('function', '_ingest_batch', 'EXECUTE', '{application,operator,admin}'),
('function', '_ingest_begin', 'EXECUTE', '{application,operator,admin}'),
('table', 'ingest_reject', 'SELECT, DELETE', '{operator,admin}'),

-- @data
PERFORM cdp._ensure_table('ingest_reject', $t$ (
	reject_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	source    text NOT NULL,
	role      text NOT NULL,
	line_no   bigint NOT NULL,
	row_image jsonb NOT NULL,
	sqlstate  text NOT NULL,
	reason    text NOT NULL,
	hint      text,
	at        timestamptz NOT NULL DEFAULT cdp.now()
) $t$);
CREATE INDEX IF NOT EXISTS ingest_reject_source ON cdp.ingest_reject (source, line_no);
COMMENT ON TABLE cdp.ingest_reject IS 'Rows of files that were not taken by the last cdp.ingest() of their source.';
COMMENT ON COLUMN cdp.ingest_reject.line_no IS 'column file_line of a staging table, else the number of the row as it was read';
COMMENT ON COLUMN cdp.ingest_reject.row_image IS 'the row as it was';

-- @view
CREATE OR REPLACE FUNCTION cdp._ingest_begin(source regclass, role text, source_name text, batch int) RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s text;
BEGIN
	IF source IS NULL OR role IS NULL THEN
		RAISE EXCEPTION '% must not be NULL', CASE WHEN source IS NULL THEN 'source' ELSE 'role' END
			USING ERRCODE = 'null_value_not_allowed', HINT = 'For example CALL cdp.ingest(''staging_order'', ''order'').';
	ELSIF batch IS NULL OR batch < 1 OR batch > 100000 THEN
		RAISE EXCEPTION 'batch must be between 1 and 100000' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'The default of 10000 rows is right for most files.';
	ELSIF octet_length(source_name) > 200 THEN
		RAISE EXCEPTION 'source_name is longer than 200 bytes' USING ERRCODE = 'program_limit_exceeded', HINT = 'Send a shorter one.';
	END IF;
	SELECT coalesce(source_name, n.nspname || '.' || c.relname) INTO s
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'relation with OID % does not exist', source::oid USING ERRCODE = 'undefined_table',
			HINT = 'Name an existing table or view: ''schema.table''.';
	END IF;
	DELETE FROM cdp.ingest_reject r WHERE r.source = s;
	RETURN 'ingest ' || s;
END $$;
COMMENT ON FUNCTION cdp._ingest_begin(regclass, text, text, int) IS 'internal: checks the arguments of ingest(), clears the rejects of the last run, names the job';

