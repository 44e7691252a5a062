-- segment: a condition with a name; its members, who entered and who left.
-- C: src/segment.c, segment_definition.c, segment_dependency.c, segment_refresh.c, segment_read.c, segment_customer.c
-- Page: doc/segment.md  Tests: test/sql/segment.sql, test/specs/segment_*.spec, test/t/03*_segment_*.pl

-- @code
CREATE OR REPLACE FUNCTION cdp.define_segment(name text, definition text, description text DEFAULT NULL, refresh_every interval DEFAULT '15 minutes',
	holdout_percent int DEFAULT 0, holdout_salt text DEFAULT NULL, snapshots_kept int DEFAULT 30) RETURNS int
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_define_segment';
COMMENT ON FUNCTION cdp.define_segment(text, text, text, interval, int, text, int) IS 'Gives a condition a name; again with the same name: defines it anew. name: as that of a tag, without quotes. definition: a cdp.tagquery, or one query (its first word is SELECT, WITH, VALUES or TABLE) with the column customer_id bigint, ids of any profile of a customer; it runs as the role that calls this, under its search_path, and can neither write nor lock. refresh_every: how old the members may get before CALL cdp.refresh_segments() makes them anew; NULL: only by name. holdout_percent: so many of 100 members are no targets, told by cdp.holdout_bucket(customer, salt). holdout_salt: NULL: the one it has, at first its name. snapshots_kept: refreshes that changed something and can be compared. Answers the version, one higher when the definition, its role or its path changed. Members come with the next refresh. Errors: 22004 NULL name or definition, 22P02 no tagquery, 42601 two statements or bad syntax, 25006 it writes, 0A000 it locks rows or is no SELECT, 42703 and 42804 name or type of the column, 42P02 a parameter, 42501 not allowed to read or to write cdp.segment, 42P01 no such table, 22023 a setting, or members of a segment that is not named by a constant, 42704 unknown segment, 42P19 a circle.';

CREATE OR REPLACE FUNCTION cdp.define_static_segment(name text, members cdp.audience) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_define_static_segment';
COMMENT ON FUNCTION cdp.define_static_segment(text, cdp.audience) IS 'Gives a set of customers a name; again with the same name: makes these its members, whatever it was. members: ids of any profile of a customer. Who enters and who leaves is an event, at once. Answers the number of members. Errors: 22004 NULL, 23503 members that are no customers, 42501.';

CREATE OR REPLACE FUNCTION cdp.drop_segment(name text) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_drop_segment';
COMMENT ON FUNCTION cdp.drop_segment(text) IS 'Takes a segment away: its members leave, by event, its snapshots go, history and definitions stay. Answers how many left. Errors: 22004 NULL name, 42704 no such segment, 2BP01 another segment or the rule of a tag asks for it.';

CREATE OR REPLACE FUNCTION cdp._segment_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_segment_changed';
COMMENT ON FUNCTION cdp._segment_changed() IS 'internal: trigger on cdp.segment, checks a definition as the role that writes it and keeps every version';

CREATE OR REPLACE FUNCTION cdp._segment_order(names text[]) RETURNS text[]
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_segment_order';
COMMENT ON FUNCTION cdp._segment_order(text[]) IS 'internal: these segments and what they ask for, NULL: all that are due and that the caller may have run, each after those it asks for; 42704';

CREATE OR REPLACE FUNCTION cdp._refresh_segment(name text, only_due boolean, OUT refreshed boolean, OUT state text, OUT message text, OUT hint text)
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_refresh_segment';
COMMENT ON FUNCTION cdp._refresh_segment(text, boolean) IS 'internal: one segment in this transaction; refreshed false without a state: it was not due; state, message, hint: the error of its definition, which is kept in last_error';

CREATE OR REPLACE FUNCTION cdp._restore_segment(name text, members cdp.audience) RETURNS int
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_restore_segment';
COMMENT ON FUNCTION cdp._restore_segment(text, cdp.audience) IS 'internal: makes these the stored members of a segment, without history or events; 1 when it had others';

CREATE OR REPLACE PROCEDURE cdp.refresh_segments(name text DEFAULT NULL) LANGUAGE plpgsql
AS $$
DECLARE
	run    bigint;
	todo   text[];
	step   record;
	failed text[] := '{}';
	last   record;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	todo := cdp._segment_order(CASE WHEN name IS NOT NULL THEN ARRAY[name] END);
	IF name IS NULL THEN
		BEGIN
			run := cdp._job_begin('refresh_segments', cardinality(todo));
		EXCEPTION WHEN object_in_use THEN
			RAISE NOTICE 'segments are being refreshed already' USING HINT = 'SELECT * FROM cdp.job_status shows by whom.';
			RETURN;
		END;
	END IF;
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	FOR i IN 1 .. cardinality(todo) LOOP
		IF run IS NOT NULL THEN
			PERFORM cdp._job_step(run);
		END IF;
		SELECT * INTO step FROM cdp._refresh_segment(todo[i], run IS NOT NULL);
		IF step.state IS NOT NULL THEN
			failed := failed || todo[i];
			last := step;
		END IF;
		IF run IS NOT NULL THEN
			PERFORM cdp._job_progress(run, 1);
		END IF;
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	END LOOP;
	IF run IS NOT NULL THEN
		PERFORM cdp._job_end(run);
	END IF;
	IF failed = '{}' THEN
		RETURN;
	ELSIF run IS NULL THEN
		RAISE EXCEPTION 'segment "%" was not refreshed: %', failed[cardinality(failed)], last.message USING ERRCODE = last.state,
			HINT = coalesce(last.hint, 'Its members are as they were; cdp.segment_status shows the error.');
	END IF;
	RAISE WARNING 'segments that were not refreshed: %', array_to_string(failed, ', ')
		USING HINT = 'Their members are as they were; SELECT name, last_error FROM cdp.segment_status shows why.';
END $$;
COMMENT ON PROCEDURE cdp.refresh_segments(text) IS 'Makes members what definitions say. name: that segment and those it asks for, due or not; NULL: all that are due, each after those it asks for. Who enters and who leaves is written once: cdp.segment_history, a snapshot, events Segment Entered and Segment Left; where nothing changed only refreshed_at is written. One transaction per segment. A definition that fails leaves its segment as it was, stands in last_error, and the others go on: the call ends with a warning, by name with the error. A query runs as the role that defined it: the caller must be a superuser or have the privileges of that role, else it is left out, by name 42501. A second call for all at the same time returns with a notice. Progress in cdp.job_status. Commits, so it cannot run inside a transaction. Errors: 42704 no such segment, 42501, 25006, and those of the definition.';

CREATE OR REPLACE FUNCTION cdp.segment_audience(name text) RETURNS cdp.audience
	LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000 AS 'MODULE_PATHNAME', 'cdp_segment_audience';
COMMENT ON FUNCTION cdp.segment_audience(text) IS 'The members of a segment as of its last refresh, under the One IDs of now. {} before the first refresh. Errors: 22004 NULL, 42704 no such segment.';

CREATE OR REPLACE FUNCTION cdp._segment_targets(name text) RETURNS cdp.audience
	LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'cdp_segment_target_audience';
COMMENT ON FUNCTION cdp._segment_targets(text) IS 'internal: members without the holdout';

CREATE OR REPLACE FUNCTION cdp.segment_members(name text) RETURNS SETOF bigint
	LANGUAGE sql STABLE PARALLEL RESTRICTED COST 1000 ROWS 10000
BEGIN ATOMIC
	SELECT cdp.audience_ids(cdp.segment_audience(name));
END;
COMMENT ON FUNCTION cdp.segment_members(text) IS 'The One IDs of the members of a segment as of its last refresh, ascending, the holdout among them. In the definition of another segment: name must be a constant. Errors: 22004 NULL, 42704 no such segment.';

CREATE OR REPLACE FUNCTION cdp.segment_targets(name text) RETURNS SETOF bigint
	LANGUAGE sql STABLE PARALLEL RESTRICTED COST 10000 ROWS 10000
BEGIN ATOMIC
	SELECT cdp.audience_ids(cdp._segment_targets(name));
END;
COMMENT ON FUNCTION cdp.segment_targets(text) IS 'The members of a segment without its holdout, ascending: those to send to. Errors: 22004 NULL, 42704 no such segment.';

CREATE OR REPLACE FUNCTION cdp.in_segment(customer_id bigint, name text) RETURNS boolean
	LANGUAGE c STABLE PARALLEL RESTRICTED COST 100 AS 'MODULE_PATHNAME', 'cdp_in_segment';
COMMENT ON FUNCTION cdp.in_segment(bigint, text) IS 'Is a customer a member as of the last refresh? customer_id: any profile id of the customer. Errors: 22004 NULL, 42704 no such segment, 23503 unknown customer.';

CREATE OR REPLACE FUNCTION cdp._segment_holds(name text, customer_id bigint) RETURNS boolean
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_segment_holds';
COMMENT ON FUNCTION cdp._segment_holds(text, bigint) IS 'internal: does the definition hold for him now; NULL: the caller may not have it run, or it is static';

CREATE OR REPLACE FUNCTION cdp.holdout_bucket(customer_id bigint, salt text, buckets int DEFAULT 100) RETURNS int
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_holdout_bucket';
COMMENT ON FUNCTION cdp.holdout_bucket(bigint, text, int) IS 'A number from 0 to buckets - 1 that is always the same for a customer and a salt, and independent for another salt: the first 8 bytes of the SHA-256 (FIPS 180-4) of salt, colon and customer_id in decimal, as UTF-8, read as an unsigned number with the most significant byte first, modulo buckets. NULL for NULL. Errors: 22023 buckets below 1.';

CREATE OR REPLACE FUNCTION cdp.explain_segment(name text, customer_id bigint) RETURNS TABLE (term text, holds boolean, detail text)
	LANGUAGE plpgsql VOLATILE ROWS 10 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	is_in boolean := cdp.in_segment(customer_id, name);
	s     record;
BEGIN
	SELECT * INTO s FROM cdp._segment_story(name, customer_id);
	RETURN QUERY SELECT format('segment(%s)', name), is_in, CASE
		WHEN is_in THEN format('entered %s, version %s', to_char(s.entered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'), s.version)
		WHEN s.left_at IS NOT NULL THEN format('left %s', to_char(s.left_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'))
		ELSE 'never entered' END;
	IF s.kind = 'tagquery' THEN
		RETURN QUERY SELECT e.term, e.holds, CASE
			WHEN e.holds AND e.valid_until IS NOT NULL THEN format('%suntil %s', e.value || ', ', to_char(e.valid_until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'))
			ELSE e.value END
		FROM cdp.explain_tags(explain_segment.customer_id, s.definition::cdp.tagquery) e;
	ELSIF s.kind = 'query' THEN
		RETURN QUERY SELECT s.definition, cdp._segment_holds(explain_segment.name, explain_segment.customer_id), 'now'::text;
	END IF;
END $$;
COMMENT ON FUNCTION cdp.explain_segment(text, bigint) IS 'Why a customer is in a segment or not, and since when. First row: segment(name), is he a member as of the last refresh, when he entered or left last. Then the terms of its tagquery as cdp.explain_tags() has them now, detail being value and valid-until; or its query, holds telling whether it returns him now (NULL: the caller may not have it run). customer_id: any profile id of the customer. Errors: 22004 NULL, 42704 no such segment, 23503 unknown customer.';

CREATE OR REPLACE FUNCTION cdp._health_segment() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('cdp.segment_status') IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY SELECT 'segments', count(*) FILTER (WHERE s.last_error IS NOT NULL OR s.late) = 0,
		format('%s segments, %s with an error, %s not refreshed in time%s', count(*), count(*) FILTER (WHERE s.last_error IS NOT NULL),
			count(*) FILTER (WHERE s.late), coalesce(': ' || string_agg(s.name, ', ' ORDER BY s.name) FILTER (WHERE s.last_error IS NOT NULL OR s.late), ''))
	FROM (SELECT t.name, t.last_error, t.due AND cdp.now() > coalesce(t.refreshed_at, t.defined_at) + 2 * t.refresh_every + interval '15 minutes' AS late
		FROM cdp.segment_status t) s;
END $$;
COMMENT ON FUNCTION cdp._health_segment() IS 'internal: rows of segment in cdp.health(): definitions that fail, and members that are older than they should be';

-- @access
('function', 'define_segment', 'EXECUTE', '{operator}'),
('function', 'define_static_segment', 'EXECUTE', '{operator}'),
('function', 'drop_segment', 'EXECUTE', '{operator}'),
('function', '_segment_order', 'EXECUTE', '{operator}'),
('function', '_refresh_segment', 'EXECUTE', '{operator}'),
('function', 'refresh_segments', 'EXECUTE', '{operator}'),
('function', 'segment_audience', 'EXECUTE', '{reader,application}'),
('function', '_segment_targets', 'EXECUTE', '{reader,application}'),
('function', 'segment_members', 'EXECUTE', '{reader,application}'),
('function', 'segment_targets', 'EXECUTE', '{reader,application}'),
('function', 'in_segment', 'EXECUTE', '{reader,application}'),
('function', 'segments_of', 'EXECUTE', '{reader,application}'),
('function', 'explain_segment', 'EXECUTE', '{reader,application}'),
('function', '_segment_story', 'EXECUTE', '{reader,application}'),
('function', '_segment_holds', 'EXECUTE', '{reader,application}'),
('function', '_restore_segments', 'EXECUTE', '{operator}'),
('function', '_restore_segment', 'EXECUTE', '{owner}'),
('function', 'holdout_bucket', 'EXECUTE', '{public}'),
('function', '_health_segment', 'EXECUTE', '{reader,application}'),
('table', 'segment', 'SELECT', '{reader}'),
('table', 'segment', 'INSERT, UPDATE', '{operator}'),
('table', 'segment_definition', 'SELECT', '{reader}'),
('table', 'segment_history', 'SELECT', '{reader}'),
('table', 'segment_snapshot', 'SELECT', '{reader}'),
('table', 'segment_status', 'SELECT', '{reader,application}'),

-- @data
PERFORM cdp._ensure_table('segment', $t$ (
	name              text COLLATE "C" PRIMARY KEY,
	definition        text,
	kind              text NOT NULL CHECK (kind IN ('tagquery', 'query', 'static')),
	version           int NOT NULL DEFAULT 1,
	owner             name NOT NULL DEFAULT current_user,
	search_path       text NOT NULL DEFAULT '',
	description       text,
	holdout_percent   int NOT NULL DEFAULT 0 CHECK (holdout_percent BETWEEN 0 AND 100),
	holdout_salt      text,
	refresh_every     interval DEFAULT '15 minutes' CHECK (refresh_every > '0'),
	snapshots_kept    int NOT NULL DEFAULT 30 CHECK (snapshots_kept >= 0),
	depends_on        text[] NOT NULL DEFAULT '{}',
	asks_tags         text[] NOT NULL DEFAULT '{}',
	members           cdp.audience,
	member_count      bigint,
	refreshed_at      timestamptz,
	refreshed_version int,
	last_error        text,
	last_duration     interval
) $t$);
COMMENT ON TABLE cdp.segment IS 'Segments, one row each. Plain INSERT and UPDATE of definition and settings are checked as cdp.define_segment() does; members and what a refresh writes nobody else writes.';
COMMENT ON COLUMN cdp.segment.definition IS 'tagquery or query; NULL: static';
COMMENT ON COLUMN cdp.segment.kind IS 'tagquery, query or static: what definition is';
COMMENT ON COLUMN cdp.segment.version IS 'of the definition; all are in cdp.segment_definition';
COMMENT ON COLUMN cdp.segment.owner IS 'who wrote the definition: a query runs with the rights of this role';
COMMENT ON COLUMN cdp.segment.search_path IS 'in force when the definition was written: a query finds its names there';
COMMENT ON COLUMN cdp.segment.holdout_percent IS 'so many of 100 members are no targets';
COMMENT ON COLUMN cdp.segment.holdout_salt IS 'of cdp.holdout_bucket(); NULL: the name';
COMMENT ON COLUMN cdp.segment.refresh_every IS 'how old members may get; NULL: refreshed by name only';
COMMENT ON COLUMN cdp.segment.snapshots_kept IS 'newest snapshots that stay';
COMMENT ON COLUMN cdp.segment.depends_on IS 'segments that the definition asks for';
COMMENT ON COLUMN cdp.segment.asks_tags IS 'tags that the definition asks for by name; name.*: the name and all below';
COMMENT ON COLUMN cdp.segment.members IS 'One IDs as of refreshed_at; cdp.segment_audience() has them as of now. Can be made again from cdp.segment_history.';
COMMENT ON COLUMN cdp.segment.member_count IS 'number of members as of refreshed_at';
COMMENT ON COLUMN cdp.segment.refreshed_version IS 'version that the members are of';
COMMENT ON COLUMN cdp.segment.last_error IS 'why the definition failed the last time; NULL: it did not';
COMMENT ON COLUMN cdp.segment.last_duration IS 'of the last refresh that changed something or failed';
CREATE OR REPLACE TRIGGER segment_check BEFORE INSERT OR UPDATE OR DELETE ON cdp.segment
	FOR EACH ROW EXECUTE FUNCTION cdp._segment_changed();
CREATE OR REPLACE TRIGGER segment_defined AFTER INSERT OR UPDATE ON cdp.segment
	FOR EACH ROW EXECUTE FUNCTION cdp._segment_changed();
CREATE OR REPLACE TRIGGER segment_truncate BEFORE TRUNCATE ON cdp.segment
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._segment_changed();

PERFORM cdp._ensure_table('segment_definition', $t$ (
	definition_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	segment       text COLLATE "C" NOT NULL,
	version       int NOT NULL,
	definition    text,
	kind          text NOT NULL,
	owner         name NOT NULL,
	search_path   text NOT NULL,
	defined_at    timestamptz NOT NULL DEFAULT cdp.now(),
	UNIQUE (segment, version)
) $t$);
COMMENT ON TABLE cdp.segment_definition IS 'Every version of every segment: what it said, who wrote it, when. Stays when the segment is dropped; a new one of that name goes on counting.';
COMMENT ON COLUMN cdp.segment_definition.owner IS 'who wrote it';

PERFORM cdp._ensure_table('segment_history', $t$ (
	history_id  bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	segment     text COLLATE "C" NOT NULL,
	customer_id bigint NOT NULL,
	entered_at  timestamptz NOT NULL,
	left_at     timestamptz,
	version     int NOT NULL
) $t$);
CREATE UNIQUE INDEX IF NOT EXISTS segment_history_open ON cdp.segment_history (segment, customer_id) WHERE left_at IS NULL;
CREATE INDEX IF NOT EXISTS segment_history_customer_id ON cdp.segment_history (customer_id);
COMMENT ON TABLE cdp.segment_history IS 'Who was in a segment from when to when. The rows without left_at are its members, so it brings them back after DROP EXTENSION … CASCADE.';
COMMENT ON COLUMN cdp.segment_history.customer_id IS 'One ID at the time of entering; cdp.customer_id() has that of now';
COMMENT ON COLUMN cdp.segment_history.left_at IS 'NULL: is a member';
COMMENT ON COLUMN cdp.segment_history.version IS 'version of the definition by which he entered';

PERFORM cdp._ensure_table('segment_snapshot', $t$ (
	snapshot_id  bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	segment      text COLLATE "C" NOT NULL,
	refreshed_at timestamptz NOT NULL,
	member_count bigint NOT NULL,
	members      bytea NOT NULL
) $t$);
-- short already
ALTER TABLE cdp.segment_snapshot ALTER COLUMN members SET STORAGE EXTERNAL;
CREATE INDEX IF NOT EXISTS segment_snapshot_segment ON cdp.segment_snapshot (segment, snapshot_id);
COMMENT ON TABLE cdp.segment_snapshot IS 'Members as each refresh left them that changed any, the newest snapshots_kept of each segment.';
COMMENT ON COLUMN cdp.segment_snapshot.snapshot_id IS 'refresh_id of the events';
COMMENT ON COLUMN cdp.segment_snapshot.members IS 'portable 64-bit Roaring format: cdp.audience_from_roaring64()';

INSERT INTO cdp.job (job, command, schedule, description)
	VALUES ('refresh_segments', 'CALL cdp.refresh_segments()', '*/5 * * * *', 'members of segments that are due; who entered, who left')
	ON CONFLICT (job) DO NOTHING;

-- @view
CREATE OR REPLACE VIEW cdp.segment_status AS
	SELECT s.name, s.kind, s.definition, s.description, s.version, s.owner, s.member_count, s.refreshed_at, s.refresh_every,
		s.kind <> 'static' AND s.refresh_every IS NOT NULL AND (s.refreshed_at IS NULL OR s.refreshed_version IS DISTINCT FROM s.version
			OR cdp.now() < s.refreshed_at OR cdp.now() >= s.refreshed_at + s.refresh_every) AS due,
		s.last_error, s.last_duration, s.depends_on, s.holdout_percent, coalesce(s.holdout_salt, s.name) AS holdout_salt, s.snapshots_kept,
		(SELECT max(d.defined_at) FROM cdp.segment_definition d WHERE d.segment = s.name) AS defined_at
	FROM cdp.segment s;
COMMENT ON VIEW cdp.segment_status IS 'Segments and how fresh they are. due: the next CALL cdp.refresh_segments() makes members anew; last_error: why the definition failed the last time; last_duration: of the last refresh that changed something; depends_on: segments it asks for; defined_at: when the definition was written. Members are in cdp.segment_members(name).';

CREATE OR REPLACE FUNCTION cdp.segments_of(customer_id bigint) RETURNS TABLE (name text, entered_at timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	one bigint;
BEGIN
	PERFORM cdp._require_version();
	one := cdp._existing_customer(customer_id);
	RETURN QUERY SELECT h.segment, min(h.entered_at) FROM cdp.segment_history h
		WHERE h.left_at IS NULL AND h.customer_id IN (SELECT one UNION ALL SELECT a.profile_id FROM cdp.profile_alias a WHERE a.customer_id = one)
		GROUP BY h.segment ORDER BY h.segment;
END $$;
COMMENT ON FUNCTION cdp.segments_of(bigint) IS 'The segments that a customer is a member of as of their last refresh, and since when. customer_id: any profile id of the customer. Errors: 22004 NULL, 23503 unknown customer.';

CREATE OR REPLACE FUNCTION cdp._segment_story(name text, customer_id bigint, OUT kind text, OUT definition text, OUT version int,
	OUT entered_at timestamptz, OUT left_at timestamptz)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT s.kind, s.definition, coalesce(o.version, c.version), o.entered_at, c.left_at
	FROM cdp.segment s,
		LATERAL (SELECT coalesce((SELECT a.customer_id FROM cdp.profile_alias a WHERE a.profile_id = $2), $2) AS one) who,
		LATERAL (SELECT array_agg(i.id) AS ids FROM (SELECT who.one AS id UNION ALL
			SELECT a.profile_id FROM cdp.profile_alias a WHERE a.customer_id = who.one) i) his
		LEFT JOIN LATERAL (SELECT h.version, h.entered_at FROM cdp.segment_history h WHERE h.segment = s.name AND h.customer_id = ANY (his.ids)
			AND h.left_at IS NULL ORDER BY h.entered_at, h.history_id LIMIT 1) o ON true
		LEFT JOIN LATERAL (SELECT h.version, h.left_at FROM cdp.segment_history h WHERE h.segment = s.name AND h.customer_id = ANY (his.ids)
			AND h.left_at IS NOT NULL ORDER BY h.left_at DESC, h.history_id DESC LIMIT 1) c ON true
	WHERE s.name = $1 COLLATE "C"
$$;
COMMENT ON FUNCTION cdp._segment_story(text, bigint) IS 'internal: what a segment is, and when a customer entered it, or left it last';

CREATE OR REPLACE FUNCTION cdp._restore_segments() RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint := 0;
	s record;
BEGIN
	FOR s IN SELECT g.name FROM cdp.segment g WHERE g.refreshed_version IS NOT NULL ORDER BY g.name FOR NO KEY UPDATE LOOP
		n := n + cdp._restore_segment(s.name, (SELECT cdp.audience_agg(coalesce(a.customer_id, h.customer_id))
			FROM cdp.segment_history h LEFT JOIN cdp.profile_alias a ON a.profile_id = h.customer_id
			WHERE h.segment = s.name AND h.left_at IS NULL));
	END LOOP;
	RETURN n;
END $$;
COMMENT ON FUNCTION cdp._restore_segments() IS 'internal: makes members of segments what the open rows of cdp.segment_history say, without events; answers how many segments were wrong';

-- members went away with their type, history did not
IF EXISTS (SELECT FROM cdp.segment s WHERE s.refreshed_version IS NOT NULL AND s.members IS NULL) THEN
	PERFORM cdp._restore_segments();
END IF;
