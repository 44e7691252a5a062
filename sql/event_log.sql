-- event_log: logs with logical transaction ids, consumers that read them in commit order, monthly partitions.
-- C: src/event_log.c, src/event_log_consumer.c  Page: doc/event_log.md
-- Tests: test/sql/event_log.sql, test/specs/event_late_commit.spec, test/specs/event_log_*.spec, test/pgtap/event_log.sql,
-- test/t/*_event_log_*.pl
--
-- It stands before the modules that have logs.  Such a module gives its table the columns xid (as cdp.event has it) and
-- an id, an index (xid, id), and adds a row to cdp.log_table; the rest happens here.

-- @code
CREATE OR REPLACE FUNCTION cdp._log_xid() RETURNS xid8
	LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_log_xid';
COMMENT ON FUNCTION cdp._log_xid() IS 'internal: logical id of the running top-level transaction, larger than every id stored before it began, also after dump and restore into another cluster. The default of the column xid of a log.';

CREATE OR REPLACE FUNCTION cdp._log_snapshot() RETURNS pg_snapshot
	LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_log_snapshot';
COMMENT ON FUNCTION cdp._log_snapshot() IS 'internal: the snapshot of the statement in logical ids; the own transaction counts as in progress';

CREATE OR REPLACE FUNCTION cdp._repair_log_epoch() RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_repair_log_epoch';
COMMENT ON FUNCTION cdp._repair_log_epoch() IS 'internal: adopts the logs for this cluster when a dump was restored, or when its transaction ids fell behind what is stored; true when it had to';

CREATE OR REPLACE FUNCTION cdp._next_log(consumer text, n int, wait boolean DEFAULT true) RETURNS TABLE (xid xid8, id bigint)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_next_log';
COMMENT ON FUNCTION cdp._next_log(text, int, boolean) IS 'internal: positions of the next up to n committed rows of a consumer''s log, in the order (xid, id); empty: there was nothing. Moves the consumer in the caller''s transaction. Read the rows in a later statement: the one that calls this has an older snapshot. wait false: answers nothing while another session holds the consumer. Errors: 42704 no such consumer, 22023 n below 1, 22004, 40001.';

CREATE OR REPLACE FUNCTION cdp._next_rows(consumer text, n int, row_type anyelement, wait boolean DEFAULT true) RETURNS SETOF anyelement
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_next_rows';
COMMENT ON FUNCTION cdp._next_rows(text, int, anyelement, boolean) IS 'internal: as cdp._next_log, but answers the rows themselves; row_type is a NULL of the log''s row type, as in NULL::cdp.event. Errors also: 42804 the consumer reads another log.';

CREATE OR REPLACE FUNCTION cdp._create_consumer(name text, log text, from_start boolean DEFAULT true) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- Nothing was done: the empty snapshot.  Everything up to here was done: the one of this statement.
DECLARE
	has text;
BEGIN
	IF name IS NULL OR log IS NULL OR from_start IS NULL THEN
		RAISE EXCEPTION 'name, log and start of a consumer must not be null'
			USING ERRCODE = 'null_value_not_allowed', HINT = 'For example cdp._create_consumer(''journeys'', ''event'', false).';
	END IF;
	IF NOT EXISTS (SELECT FROM cdp.log_table l WHERE l.log = _create_consumer.log) THEN
		RAISE EXCEPTION 'there is no log "%"', log
			USING ERRCODE = 'undefined_object', HINT = 'cdp.log_table lists them.';
	END IF;
	INSERT INTO cdp.event_consumer AS c (name, log, done)
		VALUES (_create_consumer.name, _create_consumer.log,
			CASE WHEN from_start THEN '1:1:'::pg_snapshot ELSE cdp._log_snapshot() END)
		ON CONFLICT DO NOTHING;
	IF FOUND THEN
		RETURN true;
	END IF;
	SELECT c.log INTO has FROM cdp.event_consumer c WHERE c.name = _create_consumer.name;
	IF has IS DISTINCT FROM log THEN
		RAISE EXCEPTION 'consumer "%" reads another log', name
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Choose another name, or drop it with cdp._drop_consumer(name).';
	END IF;
	RETURN false;
END $$;
COMMENT ON FUNCTION cdp._create_consumer(text, text, boolean) IS 'internal: makes a consumer of a log, from its first row or from now on (rows of transactions that run now included); false when it is there already, where it is. Errors: 42704 no such log, 22023 the name reads another log, 22004.';

CREATE OR REPLACE FUNCTION cdp._drop_consumer(name text) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM cdp.event_consumer c WHERE c.name = _drop_consumer.name;
	RETURN FOUND;
END $$;
COMMENT ON FUNCTION cdp._drop_consumer(text) IS 'internal: forgets a consumer; false when there was none';

CREATE OR REPLACE FUNCTION cdp._month(at timestamptz, months int DEFAULT 0) RETURNS timestamptz
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (date_trunc('month', at AT TIME ZONE 'UTC') + make_interval(months => months)) AT TIME ZONE 'UTC';
COMMENT ON FUNCTION cdp._month(timestamptz, int) IS 'internal: midnight UTC at the start of the month, so many months later';

CREATE OR REPLACE FUNCTION cdp._partition_name(log text, month timestamptz) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
RETURN log || to_char(month AT TIME ZONE 'UTC', '_YYYY_MM');
COMMENT ON FUNCTION cdp._partition_name(text, timestamptz) IS 'internal: name of the partition of a month';

CREATE OR REPLACE FUNCTION cdp._default_partition(log regclass) RETURNS regclass
	LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT nullif(p.partdefid, 0)::regclass FROM pg_partitioned_table p WHERE p.partrelid = log;
END;
COMMENT ON FUNCTION cdp._default_partition(regclass) IS 'internal: the partition for what no other takes; NULL: none';

CREATE OR REPLACE FUNCTION cdp._make_partitions(log regclass, from_time timestamptz, to_time timestamptz) RETURNS int
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- Locks, in this order: the log, its default partition, the new table.
-- * SHARE UPDATE EXCLUSIVE on the log keeps other makers of partitions away; events are written beside it.  That is
--   enough for a month that nobody can write to yet; the default partition is locked only to attach the new one.
-- * Any other month takes ACCESS EXCLUSIVE on the log before it locks the default partition.  A statement that has chosen the default
--   partition for its row before the new one was there would fail when it gets to it, and a transaction that has read
--   the log and then writes to it would meet us half way: both are impossible once nobody has the log.
-- A caller must not have read or written the log in the same transaction; attach_source and the like call this first.
DECLARE
	rel     name := (SELECT c.relname FROM pg_class c WHERE c.oid = log);
	time_column name;
	strays  regclass := cdp._default_partition(log);
	part    text;
	month   timestamptz;
	upto    timestamptz;
	columns text;
	guard   record;
	stray   boolean := false;
	made    int := 0;
BEGIN
	IF log IS NULL OR from_time IS NULL OR to_time IS NULL THEN
		RAISE EXCEPTION 'log and range must not be null'
			USING ERRCODE = 'null_value_not_allowed', HINT = 'Give the table and the range [from_time, to_time).';
	END IF;
	IF NOT isfinite(from_time) OR NOT isfinite(to_time) OR from_time < '0001-01-01 00:00:00+00'
		OR to_time > '9999-12-01 00:00:00+00' OR to_time > from_time + interval '100 years' THEN
		RAISE EXCEPTION 'no partitions can be made for this range of time'
			USING ERRCODE = 'invalid_parameter_value', HINT = 'A range has finite ends, at most 100 years apart, in the years 1 to 9999.';
	END IF;
	SELECT l.time_column INTO time_column FROM cdp.log_table l WHERE to_regclass(format('cdp.%I', l.log)) = _make_partitions.log;
	IF time_column IS NULL THEN
		RAISE EXCEPTION '% is not a log with partitions', log
			USING ERRCODE = 'wrong_object_type', HINT = 'cdp.log_table lists the logs; time_column names what they are partitioned by.';
	END IF;
	month := cdp._month(from_time);
	WHILE month < to_time LOOP
		upto := cdp._month(month, 1);
		part := cdp._partition_name(rel, month);
		-- one that stands aside was detached by hand, to be archived: left alone
		IF to_regclass(format('cdp.%I', part)) IS NULL THEN
			EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', log);
			IF strays IS NOT NULL THEN
				EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %2$I >= $1 AND %2$I < $2)', strays, time_column)
					INTO stray USING month, upto;
			END IF;
			IF stray OR month <= cdp.now() + current_setting('cdp.max_future')::interval THEN
				EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', log);
			END IF;
		END IF;
		-- another session may have made it while we waited
		IF to_regclass(format('cdp.%I', part)) IS NULL THEN
			EXECUTE format('CREATE TABLE cdp.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED'
				' INCLUDING STORAGE INCLUDING COMPRESSION)', part, log);
			-- what guards the default partition guards each
			FOR guard IN SELECT t.tgname, pg_get_triggerdef(t.oid) AS definition FROM pg_trigger t
				WHERE t.tgrelid = strays AND NOT t.tgisinternal AND t.tgenabled = 'A' AND t.tgparentid = 0
			LOOP
				EXECUTE replace(guard.definition, format(' ON %s ', strays), format(' ON cdp.%I ', part));
				EXECUTE format('ALTER TABLE cdp.%I DISABLE TRIGGER %I', part, guard.tgname);
				EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', strays, guard.tgname);
			END LOOP;
			IF strays IS NOT NULL THEN
				EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', strays);
				SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns FROM pg_attribute a
					WHERE a.attrelid = strays AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
				EXECUTE format('WITH moved AS (DELETE FROM %s WHERE %2$I >= $1 AND %2$I < $2 RETURNING %3$s)'
					' INSERT INTO cdp.%4$I (%3$s) SELECT %3$s FROM moved', strays, time_column, columns, part)
					USING month, upto;
			END IF;
			FOR guard IN SELECT t.tgname FROM pg_trigger t WHERE t.tgrelid = strays AND NOT t.tgisinternal AND t.tgenabled = 'D' AND t.tgparentid = 0
				AND EXISTS (SELECT FROM pg_trigger p WHERE p.tgrelid = format('cdp.%I', part)::regclass AND p.tgname = t.tgname)
			LOOP
				EXECUTE format('ALTER TABLE cdp.%I ENABLE ALWAYS TRIGGER %I', part, guard.tgname);
				EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', strays, guard.tgname);
			END LOOP;
			EXECUTE format('ALTER TABLE %s ATTACH PARTITION cdp.%I FOR VALUES FROM (%L) TO (%L)', log, part,
				to_char(month AT TIME ZONE 'UTC', 'YYYY-MM-DD 00:00:00+00'), to_char(upto AT TIME ZONE 'UTC', 'YYYY-MM-DD 00:00:00+00'));
			made := made + 1;
		END IF;
		month := upto;
	END LOOP;
	RETURN made;
END $$;
COMMENT ON FUNCTION cdp._make_partitions(regclass, timestamptz, timestamptz) IS 'internal: makes the monthly partitions (midnight UTC) that a log lacks in [from_time, to_time) and moves their rows out of the default partition, ids and xids as they were; answers how many. Call it before the transaction touches the log. Errors: 22004, 22023 range, 42809 not such a log.';

CREATE OR REPLACE PROCEDURE cdp.maintain_partitions() LANGUAGE plpgsql
AS $$
-- One month per transaction; a log that is busy is tried again, then left for the next run.
DECLARE
	logs   text[];
	months timestamptz[];
	made   boolean;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	SELECT array_agg(t.log ORDER BY t.log, t.month), array_agg(t.month ORDER BY t.log, t.month) INTO logs, months
		FROM cdp._missing_partitions() t;
	FOR i IN 1 .. coalesce(cardinality(logs), 0) LOOP
		FOR attempt IN 1 .. 5 LOOP
			made := cdp._maintain_partition(logs[i], months[i]);
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
			EXIT WHEN made;
			PERFORM pg_sleep(0.2 * attempt);
		END LOOP;
		IF NOT made THEN
			RAISE WARNING 'partition % was not made: the log is busy', cdp._partition_name(logs[i], months[i])
				USING HINT = 'CALL cdp.maintain_partitions() again when long transactions have ended.';
		END IF;
	END LOOP;
END $$;
COMMENT ON PROCEDURE cdp.maintain_partitions() IS 'Makes the partitions of this month and the next three of every log, and moves what lies in the default partitions to partitions of its month. Commits per month, so it cannot run inside a transaction; may be stopped and started at any time. Rows dated before 1970 or beyond those months stay in the default partition. Waits at most a second at a time for others. Errors: 55000, 42501.';

-- @access
('function', '_partition_name', 'EXECUTE', '{admin}'),
('function', 'maintain_partitions', 'EXECUTE', '{admin}'),
('function', '_missing_partitions', 'EXECUTE', '{admin}'),
('function', '_maintain_partition', 'EXECUTE', '{admin}'),
('function', '_health_event_log', 'EXECUTE', '{reader,application}'),
('table', 'event_consumer', 'SELECT', '{reader}'),
('table', 'log_table', 'SELECT', '{reader}'),
('table', 'log_epoch', 'SELECT', '{reader}'),

-- @data
PERFORM cdp._ensure_table('log_epoch', $t$ (
	one               boolean PRIMARY KEY DEFAULT true CHECK (one),
	system_identifier text NOT NULL,
	xid_offset        bigint NOT NULL DEFAULT 0
) $t$);
COMMENT ON TABLE cdp.log_epoch IS 'Which cluster the logical transaction ids of the logs belong to, and what is added to its own. One row.';
COMMENT ON COLUMN cdp.log_epoch.system_identifier IS 'of the cluster that wrote last';
COMMENT ON COLUMN cdp.log_epoch.xid_offset IS 'logical id = transaction id + this';
INSERT INTO cdp.log_epoch (system_identifier)
	SELECT system_identifier::text FROM pg_control_system() ON CONFLICT DO NOTHING;
CREATE OR REPLACE TRIGGER log_epoch_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cdp.log_epoch
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._rules_changed();

PERFORM cdp._ensure_table('log_table', $t$ (
	log         text PRIMARY KEY,
	id_column   text NOT NULL,
	time_column text,
	seen_column text
) $t$);
COMMENT ON TABLE cdp.log_table IS 'The logs: tables of schema cdp with a column xid, an id and an index (xid, id). Modules enter theirs.';
COMMENT ON COLUMN cdp.log_table.id_column IS 'bigint, unique; orders the rows of one transaction';
COMMENT ON COLUMN cdp.log_table.time_column IS 'what the monthly partitions go by; NULL: it has none';
COMMENT ON COLUMN cdp.log_table.seen_column IS 'when a row came in, for cdp.health(); NULL: it does not say';
INSERT INTO cdp.log_table (log, id_column, time_column, seen_column)
	VALUES ('event', 'event_id', 'occurred_at', 'received_at') ON CONFLICT (log) DO NOTHING;

PERFORM cdp._ensure_table('event_consumer', $t$ (
	name     text PRIMARY KEY,
	log      text NOT NULL,
	done     pg_snapshot NOT NULL,
	target   pg_snapshot,
	last_xid xid8,
	last_id  bigint
) WITH (fillfactor = 50) $t$);
COMMENT ON TABLE cdp.event_consumer IS 'Who reads a log and how far he is. Logical transaction ids throughout.';
COMMENT ON COLUMN cdp.event_consumer.done IS 'everything that this snapshot sees has been delivered';
COMMENT ON COLUMN cdp.event_consumer.target IS 'what the pass under way will have delivered; NULL: none is under way';
COMMENT ON COLUMN cdp.event_consumer.last_xid IS 'with last_id: how far the pass has come';

IF to_regclass('cdp.job') IS NOT NULL THEN
	INSERT INTO cdp.job (job, command, schedule, description)
		VALUES ('maintain_partitions', 'CALL cdp.maintain_partitions()', '17 * * * *', 'partitions ahead; stray dates into theirs')
		ON CONFLICT DO NOTHING;
END IF;

-- @view
CREATE OR REPLACE FUNCTION cdp._next_events(consumer text, n int, wait boolean DEFAULT true) RETURNS SETOF cdp.event
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT * FROM cdp._next_rows(consumer, n, NULL::cdp.event, wait);
END $$;
COMMENT ON FUNCTION cdp._next_events(text, int, boolean) IS 'internal: the next up to n committed events of a consumer in the order (xid, event_id), each exactly once; empty: there was nothing. Moves the consumer in the caller''s transaction, whose own events come in the next pass. wait false: answers nothing while another session holds the consumer. Errors: 42704 no such consumer, 22023 n below 1, 22004, 40001.';

CREATE OR REPLACE FUNCTION cdp._missing_partitions(ahead int DEFAULT 3) RETURNS TABLE (log text, month timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- This month and those ahead; for every month that has rows in the default partition its own, within reason: a broken
-- clock must not make partitions for the year 1 or 9000.
DECLARE
	l record;
BEGIN
	IF ahead NOT BETWEEN 0 AND 120 THEN
		RAISE EXCEPTION 'ahead must be between 0 and 120 months' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for 3.';
	END IF;
	FOR l IN SELECT t.log, t.time_column, cdp._default_partition(to_regclass(format('cdp.%I', t.log))) AS strays
		FROM cdp.log_table t WHERE t.time_column IS NOT NULL AND to_regclass(format('cdp.%I', t.log)) IS NOT NULL ORDER BY t.log
	LOOP
		log := l.log;
		FOR month IN SELECT cdp._month(cdp.now(), i) FROM generate_series(0, ahead) i LOOP
			IF to_regclass(format('cdp.%I', cdp._partition_name(log, month))) IS NULL THEN
				RETURN NEXT;
			END IF;
		END LOOP;
		IF l.strays IS NOT NULL THEN
			FOR month IN EXECUTE format('SELECT DISTINCT cdp._month(%2$I) FROM %1$s WHERE %2$I >= %3$L AND %2$I < $1',
				l.strays, l.time_column, '1970-01-01 00:00:00+00') USING cdp._month(cdp.now(), ahead + 1)
			LOOP
				IF month < cdp._month(cdp.now()) AND to_regclass(format('cdp.%I', cdp._partition_name(log, month))) IS NULL THEN
					RETURN NEXT;
				END IF;
			END LOOP;
		END IF;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._missing_partitions(int) IS 'internal: the months for which cdp.maintain_partitions() makes a partition';

CREATE OR REPLACE FUNCTION cdp._maintain_partition(log text, month timestamptz) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
AS $$
BEGIN
	PERFORM cdp._require_version();
	PERFORM cdp._make_partitions(to_regclass(format('cdp.%I', log)), month, cdp._month(month, 1));
	RETURN true;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
	RETURN false;
END $$;
COMMENT ON FUNCTION cdp._maintain_partition(text, timestamptz) IS 'internal: the partition of one month; false: the log is busy';

CREATE OR REPLACE FUNCTION cdp._health_event_log() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
AS $$
-- A few index probes.  It also runs while the versions disagree, to say so: hence no guard.
DECLARE
	l      record;
	ahead  int;
	stray  timestamptz;
	oldest timestamptz;
	waits  boolean;
BEGIN
	FOR l IN SELECT t.log, t.time_column, cdp._default_partition(to_regclass(format('cdp.%I', t.log))) AS strays
		FROM cdp.log_table t WHERE t.time_column IS NOT NULL AND to_regclass(format('cdp.%I', t.log)) IS NOT NULL ORDER BY t.log
	LOOP
		ahead := -1;
		WHILE ahead < 120 AND to_regclass(format('cdp.%I', cdp._partition_name(l.log, cdp._month(cdp.now(), ahead + 1)))) IS NOT NULL LOOP
			ahead := ahead + 1;
		END LOOP;
		stray := NULL;
		IF l.strays IS NOT NULL THEN
			EXECUTE format('SELECT %1$I FROM %2$s WHERE %1$I >= %3$L AND %1$I < $1 LIMIT 1', l.time_column, l.strays,
				'1970-01-01 00:00:00+00') INTO stray USING cdp._month(cdp.now(), greatest(ahead, 3) + 1);
		END IF;
		check_name := 'partitions_ahead ' || l.log;
		ok := ahead >= 1;
		detail := CASE WHEN ahead < 0 THEN 'none for this month' ELSE format('this month and %s more', ahead) END
			|| CASE WHEN stray IS NULL THEN ''
			        ELSE format('; the default partition holds rows of %s and maybe others', to_char(stray AT TIME ZONE 'UTC', 'YYYY-MM')) END
			|| CASE WHEN ok AND stray IS NULL THEN '' ELSE '; CALL cdp.maintain_partitions()' END;
		RETURN NEXT;
	END LOOP;
	FOR l IN SELECT c.*, t.id_column, coalesce(quote_ident(t.seen_column), 'NULL::timestamptz') AS seen
		FROM cdp.event_consumer c JOIN cdp.log_table t USING (log)
		WHERE to_regclass(format('cdp.%I', c.log)) IS NOT NULL ORDER BY c.name
	LOOP
		-- what done saw running and has ended since, then the first one after it that the pass has not reached; the
		-- conditions are such that only the index (xid, id) can give the order
		EXECUTE format(
			'SELECT s.seen, true FROM ('
			' (SELECT e.* FROM unnest($3) x, LATERAL (SELECT %2$s AS seen FROM cdp.%1$I l'
			'   WHERE (l.xid, l.%3$I) > (x, CASE WHEN x = $1 THEN $2 ELSE -9223372036854775808 END) AND l.xid <= x'
			'   ORDER BY l.xid, l.%3$I LIMIT 1) e WHERE x >= $1)'
			' UNION ALL'
			' (SELECT %2$s FROM cdp.%1$I l WHERE (l.xid, l.%3$I) > ($4, $5) ORDER BY l.xid, l.%3$I LIMIT 1)) s ORDER BY s.seen LIMIT 1',
			l.log, l.seen, l.id_column)
			INTO oldest, waits
			USING coalesce(l.last_xid, '0'), coalesce(l.last_id, 0), ARRAY(SELECT pg_snapshot_xip(l.done)),
				greatest(pg_snapshot_xmax(l.done), l.last_xid),
				CASE WHEN l.last_xid >= pg_snapshot_xmax(l.done) THEN l.last_id ELSE -9223372036854775808 END;
		check_name := 'oldest_unprocessed_event ' || l.name;
		ok := waits IS NULL OR oldest IS NULL OR oldest > cdp.now() - interval '1 hour';
		detail := CASE WHEN waits IS NULL THEN format('nothing waits in %s', l.log)
		               WHEN oldest IS NULL THEN format('rows wait in %s', l.log)
		               ELSE format('came into %s at %s UTC', l.log, to_char(oldest AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')) END;
		RETURN NEXT;
	END LOOP;
END $$;
COMMENT ON FUNCTION cdp._health_event_log() IS 'internal: rows of event_log in cdp.health(): partitions ahead, what waits for each consumer';

-- a dump that was restored here is adopted before anybody writes
PERFORM cdp._repair_log_epoch();
PERFORM cdp._make_partitions(to_regclass(format('cdp.%I', l.log)), cdp._month(cdp.now(), -1), cdp._month(cdp.now(), 4))
	FROM cdp.log_table l WHERE l.time_column IS NOT NULL AND to_regclass(format('cdp.%I', l.log)) IS NOT NULL;
