-- tag_bits: how many customers does a query hold for, and which, from one bitmap per tag.
-- C: src/tag_bits.c (verbs), tag_bits_plan.c, tag_bits_read.c, tag_bits_value.c, tag_bits_dirty.c (reading),
-- tag_bits_merge.c, tag_bits_facts.c, tag_bits_write.c, tag_bits_everyone.c, tag_bits_verify.c (writing)
-- Page: doc/tag_bits.md  Tests: test/sql/tag_bits.sql, test/pgtap/tag_bits.sql, test/specs/tag_*.spec, test/t/023_tag_crash.pl

-- @code
CREATE OR REPLACE FUNCTION cdp.count_customers(query cdp.tagquery, at timestamptz DEFAULT NULL) RETURNS bigint
	LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'cdp_count_customers';
COMMENT ON FUNCTION cdp.count_customers(cdp.tagquery, timestamptz) IS 'How many customers a query holds for, exactly: changes that were never merged into the bitmaps, also those of the caller''s own transaction, count. Customers without any tag are asked like all others. at: as of this moment, for entries that end; NULL: cdp.now(). A moment before the last merge is answered from the rows, which takes longer. Never NULL. Errors: 22004 NULL query, 42704 unknown segment, 22008 infinite at.';

CREATE OR REPLACE FUNCTION cdp.find_customers(query cdp.tagquery, at timestamptz DEFAULT NULL) RETURNS SETOF bigint
	LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 10000 AS 'MODULE_PATHNAME', 'cdp_find_customers';
COMMENT ON FUNCTION cdp.find_customers(cdp.tagquery, timestamptz) IS 'The One IDs of the customers a query holds for, ascending. at: as of this moment; NULL: cdp.now(). Many ids go to disk above work_mem; cdp.audience_of() is smaller and faster where a set will do. Errors: as count_customers().';

CREATE OR REPLACE FUNCTION cdp.audience_of(query cdp.tagquery, at timestamptz DEFAULT NULL) RETURNS cdp.audience
	LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'cdp_audience_of';
COMMENT ON FUNCTION cdp.audience_of(cdp.tagquery, timestamptz) IS 'The customers a query holds for, as an audience. at: as of this moment; NULL: cdp.now(). Never NULL. Errors: as count_customers(), 22003 a customer with an id below 0.';

CREATE OR REPLACE FUNCTION cdp.overlap_customers(queries cdp.tagquery[]) RETURNS TABLE (i int, j int, n bigint)
	LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 100 AS 'MODULE_PATHNAME', 'cdp_overlap_customers';
COMMENT ON FUNCTION cdp.overlap_customers(cdp.tagquery[]) IS 'For each two of the queries, by their places in the array from 1 on, i <= j: how many customers both hold for. i = j counts one query. As of cdp.now(); each bitmap is read once. Errors: 22004 NULL array or query in it, 54000 more than 1,024 queries, and as count_customers().';

CREATE OR REPLACE FUNCTION cdp.matches_customer(customer_id bigint, query cdp.tagquery, at timestamptz DEFAULT NULL) RETURNS boolean
	LANGUAGE c STABLE PARALLEL RESTRICTED COST 100 AS 'MODULE_PATHNAME', 'cdp_matches_customer';
COMMENT ON FUNCTION cdp.matches_customer(bigint, cdp.tagquery, timestamptz) IS 'Whether a query holds for one customer, from his row. customer_id: any profile id of the customer. at: as of this moment; NULL: cdp.now(). segment(name) is answered from the stored members. Never NULL. Errors: 22004 NULL customer or query, 23503 unknown customer, 42704 unknown segment.';

CREATE OR REPLACE FUNCTION cdp._tags_of(customer_id bigint) RETURNS cdp.tagset
	LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_tags_of';
COMMENT ON FUNCTION cdp._tags_of(bigint) IS 'internal: tags of the customer to whom an id belongs, '''' when there are none; 22004 NULL, 23503 unknown';

CREATE OR REPLACE FUNCTION cdp.explain_tags(customer_id bigint, query cdp.tagquery)
	RETURNS TABLE (term text, holds boolean, value text, valid_until timestamptz)
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10 SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF query IS NULL THEN
		RAISE EXCEPTION 'query must not be NULL' USING ERRCODE = 'null_value_not_allowed', HINT = '''*'' asks for everyone.';
	END IF;
	-- what a set of tags alone cannot tell is asked of the customer
	RETURN QUERY SELECT e.term, coalesce(e.holds, cdp.matches_customer(explain_tags.customer_id, e.term::cdp.tagquery)), e.value, e.valid_until
		FROM cdp.tagset_explain(cdp._tags_of(explain_tags.customer_id), explain_tags.query, cdp.now()) e;
END $$;
COMMENT ON FUNCTION cdp.explain_tags(bigint, cdp.tagquery) IS 'Which terms of a query hold for a customer now, in the order of its text: term, holds, the value and valid_until of the tag by which it was told. customer_id: any profile id of the customer. For why a whole query holds see cdp.matches_customer(). Errors: 22004 NULL customer or query, 23503 unknown customer, 42704 unknown segment.';

CREATE OR REPLACE FUNCTION cdp._profile_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_profile_changed';
COMMENT ON FUNCTION cdp._profile_changed() IS 'internal: trigger on cdp.profile, after each statement: who is a customer and who is none any more';

CREATE OR REPLACE FUNCTION cdp._rebuild_everyone() RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_rebuild_everyone';
COMMENT ON FUNCTION cdp._rebuild_everyone() IS 'internal: makes the bitmap of everyone from profiles and aliases; answers the number of customers';

CREATE OR REPLACE FUNCTION cdp._everyone_is_sound() RETURNS boolean
	LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_everyone_is_sound';
COMMENT ON FUNCTION cdp._everyone_is_sound() IS 'internal: whether the bitmap of everyone says what profiles and aliases say; 55000 where its bytes cannot be read';

CREATE OR REPLACE FUNCTION cdp._merge_tags_step(batch int, OUT changes bigint, OUT ended bigint, OUT everyone bigint,
	OUT more boolean, OUT rebuild boolean)
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_merge_tags_step';
COMMENT ON FUNCTION cdp._merge_tags_step(int) IS 'internal: one batch of merge_tags(): how many changes, ends of entries and changes of customers it used up, whether there is more, and whether the bitmaps have to be made first';

CREATE OR REPLACE FUNCTION cdp._rebuild_bits_step(after bigint, at timestamptz) RETURNS bigint
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_rebuild_bits_step';
COMMENT ON FUNCTION cdp._rebuild_bits_step(bigint, timestamptz) IS 'internal: puts customers from an id on into bitmaps, as of a moment; the id to go on from, NULL: that was all';

CREATE OR REPLACE FUNCTION cdp._verify_bits(most int) RETURNS TABLE (problem text, tag text, customer_id bigint)
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_verify_bits';
COMMENT ON FUNCTION cdp._verify_bits(int) IS 'internal: where bitmaps and rows of cdp.profile_tag disagree, up to so many rows';

CREATE OR REPLACE PROCEDURE cdp.merge_tags(batch int DEFAULT 10000) LANGUAGE plpgsql
AS $$
-- Readers are exact before, while and after; this only makes them fast again.
DECLARE
	run  bigint;
	step record;
	at   timestamptz;
	next bigint;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	IF batch IS NULL OR batch < 1 OR batch > 1000000 THEN
		RAISE EXCEPTION 'batch must be from 1 to 1000000' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for 10000.';
	END IF;
	BEGIN
		run := cdp._job_begin('merge_tags');
	EXCEPTION WHEN object_in_use THEN
		RAISE NOTICE 'tags are being merged already' USING HINT = 'SELECT * FROM cdp.job_status shows by whom.';
		RETURN;
	END;
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	LOOP
		PERFORM cdp._job_step(run);
		SELECT * INTO step FROM cdp._merge_tags_step(batch);
		PERFORM cdp._job_progress(run, step.changes + step.ended);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		IF step.rebuild THEN
			at := cdp._empty_bits();
			next := -9223372036854775808;
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
			WHILE next IS NOT NULL LOOP
				PERFORM cdp._job_step(run);
				next := cdp._rebuild_bits_step(next, at);
				PERFORM cdp._job_progress(run, 0);
				COMMIT;
				PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
			END LOOP;
			PERFORM cdp._set_horizon(at);
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		END IF;
		EXIT WHEN NOT (step.more OR step.rebuild);
	END LOOP;
	PERFORM cdp._job_step(run);
	PERFORM cdp._declare_tags();
	PERFORM cdp._job_end(run);
END $$;
COMMENT ON PROCEDURE cdp.merge_tags(int) IS 'Folds changes of tags into the bitmaps and takes out what has ended by cdp.now(): counts become fast again, they were exact before. Also declares tags that are used without a row in cdp.tag, brings cdp.tag.member_count up to date, and says each end of an entry once, in cdp.tag_history and, where the tag emits events, as Tag Expired. Rows keep entries that ended. batch: changes per transaction. Waits for no writer and none waits for it. A second one at the same time returns at once with a notice. Stopped, the next call goes on. Progress in cdp.job_status. Commits, so it cannot run inside a transaction. Errors: 22023 batch, 42501.';

CREATE OR REPLACE PROCEDURE cdp.rebuild_tags() LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	PERFORM cdp._lock_tags();
	PERFORM cdp._restore_tags();
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._rebuild_everyone();
	PERFORM cdp._restore_segments();
	PERFORM cdp._set_horizon('infinity');
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	CALL cdp.merge_tags();
END $$;
COMMENT ON PROCEDURE cdp.rebuild_tags() IS 'Makes cdp.profile_tag what the newest rows of cdp.tag_history say, and the bitmaps what the rows say: after damage, after DROP EXTENSION … CASCADE, or when the clock cdp.now was ahead during a merge. No event, no history. Writers of tags wait while the rows are compared with the history; counts are exact all the time, from the rows. Stopped, CALL cdp.merge_tags() goes on. Commits. Errors: 42501.';

CREATE OR REPLACE PROCEDURE cdp.prune_tags(keep interval DEFAULT '30 days') LANGUAGE plpgsql
AS $$
DECLARE
	run  bigint;
	last bigint := -9223372036854775808;
	step record;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	IF keep IS NULL OR keep < '0' THEN
		RAISE EXCEPTION 'keep must not be negative' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example interval ''30 days''.';
	END IF;
	run := cdp._job_begin('prune_tags');
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	LOOP
		PERFORM cdp._job_step(run);
		SELECT * INTO step FROM cdp._prune_tags(keep, last, 1000);
		EXIT WHEN step.last IS NULL;
		last := step.last;
		PERFORM cdp._job_progress(run, step.pruned);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	END LOOP;
	PERFORM cdp._job_end(run);
END $$;
COMMENT ON PROCEDURE cdp.prune_tags(interval) IS 'Takes entries out of the rows of cdp.profile_tag that ended longer ago than keep and were merged since; a question about a moment before does not find them any more. cdp.tag_history says removed. Progress in cdp.job_status (done: rows that changed). Commits. Errors: 22023 keep, 55006 running already, 42501.';

CREATE OR REPLACE FUNCTION cdp._health_tag_bits() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s record;
BEGIN
	IF to_regclass('cdp.tag_horizon') IS NULL THEN
		RETURN;
	END IF;
	SELECT * INTO s FROM cdp._tag_backlog();
	RETURN QUERY VALUES
		('tag_changes', s.changes < 100000, CASE WHEN s.changes < 100000 THEN format('%s changes are not merged yet', s.changes)
			ELSE '100000 changes or more are not merged yet; CALL cdp.merge_tags()' END),
		('tag_horizon', s.at <= cdp.now(), CASE
			WHEN s.at = 'infinity' THEN 'the bitmaps have to be made; CALL cdp.merge_tags()'
			WHEN s.at = '-infinity' THEN 'never merged; CALL cdp.merge_tags()'
			WHEN s.at > cdp.now() THEN 'tags were merged with a clock that is ahead, counts go by rows; CALL cdp.rebuild_tags()'
			ELSE format('merged as of %s', to_char(s.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')) END);
END $$;
COMMENT ON FUNCTION cdp._health_tag_bits() IS 'internal: rows of tag_bits in cdp.health(): what waits to be merged, and as of when the bitmaps are';

-- @access
('function', 'count_customers', 'EXECUTE', '{reader,application}'),
('function', 'find_customers', 'EXECUTE', '{reader,application}'),
('function', 'audience_of', 'EXECUTE', '{reader,application}'),
('function', 'overlap_customers', 'EXECUTE', '{reader,application}'),
('function', 'matches_customer', 'EXECUTE', '{reader,application}'),
('function', 'explain_tags', 'EXECUTE', '{reader,application}'),
('function', '_tags_of', 'EXECUTE', '{reader,application}'),
('function', 'merge_tags', 'EXECUTE', '{operator}'),
('function', 'rebuild_tags', 'EXECUTE', '{operator}'),
('function', 'prune_tags', 'EXECUTE', '{operator}'),
('function', 'verify_tags', 'EXECUTE', '{reader}'),
('function', '_verify_bits', 'EXECUTE', '{reader}'),
('function', '_merge_tags_step', 'EXECUTE', '{operator}'),
('function', '_rebuild_bits_step', 'EXECUTE', '{operator}'),
('function', '_rebuild_everyone', 'EXECUTE', '{operator}'),
('function', '_everyone_is_sound', 'EXECUTE', '{operator}'),
('function', '_restore_tags', 'EXECUTE', '{operator}'),
('function', '_lock_tags', 'EXECUTE', '{operator}'),
('function', '_empty_bits', 'EXECUTE', '{operator}'),
('function', '_set_horizon', 'EXECUTE', '{operator}'),
('function', '_declare_tags', 'EXECUTE', '{operator}'),
('function', '_prune_tags', 'EXECUTE', '{operator}'),
('function', '_tag_backlog', 'EXECUTE', '{reader,application}'),
('function', '_health_tag_bits', 'EXECUTE', '{reader,application}'),
('table', 'tag_key', 'SELECT', '{reader}'),

-- @data
PERFORM cdp._ensure_table('tag_key', $t$ (
	key_id  int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	key     bytea NOT NULL UNIQUE,
	kind    text NOT NULL CHECK (kind IN ('tag', 'below', 'value', 'text', 'number', 'date', 'everyone')),
	tag     text COLLATE "C",
	value   text,
	members bigint NOT NULL DEFAULT 0
) $t$);
ALTER TABLE cdp.tag_key SET (fillfactor = 70);
COMMENT ON TABLE cdp.tag_key IS 'What there is a bitmap of, and how many customers it had at the last merge.';
COMMENT ON COLUMN cdp.tag_key.key_id IS 'number of the key in cdp.tag_bits, given out by the merge that met it first';
COMMENT ON COLUMN cdp.tag_key.key IS 'the key as bytes: a letter for the kind, the name, and after a zero byte the text value';
COMMENT ON COLUMN cdp.tag_key.kind IS 'tag: has it; below: anything strictly below it; value: has it with this text; text, number, date: has it with a value of this type; everyone: all customers';
COMMENT ON COLUMN cdp.tag_key.tag IS 'name of the tag; NULL: everyone';
COMMENT ON COLUMN cdp.tag_key.value IS 'the text, of kind value';
COMMENT ON COLUMN cdp.tag_key.members IS 'customers in the bitmap; changes that are not merged yet are not in it';

PERFORM cdp._ensure_table('tag_bits', $t$ (
	key_id int NOT NULL,
	part   smallint NOT NULL DEFAULT 0,
	chunk  bigint NOT NULL,
	n      int NOT NULL,
	bits   bytea NOT NULL,
	PRIMARY KEY (key_id, chunk, part)
) $t$);
-- read where it stands on the page; the largest row still leaves room for two more
ALTER TABLE cdp.tag_bits ALTER COLUMN bits SET STORAGE PLAIN;
ALTER TABLE cdp.tag_bits SET (autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE cdp.tag_bits IS 'internal: customers of a key as bitmaps, one row per 16,384 ids where there are any; written by CALL cdp.merge_tags() alone';
COMMENT ON COLUMN cdp.tag_bits.key_id IS 'row of cdp.tag_key';
COMMENT ON COLUMN cdp.tag_bits.part IS 'numbers and dates may take several rows; otherwise 0';
COMMENT ON COLUMN cdp.tag_bits.chunk IS 'customer_id / 16384, rounded down';
COMMENT ON COLUMN cdp.tag_bits.n IS 'customers in this row';
COMMENT ON COLUMN cdp.tag_bits.bits IS 'a container (src/audience_container.h), or values (src/tag_bits_value.c)';

PERFORM cdp._ensure_table('tag_expiry', $t$ (
	valid_until timestamptz NOT NULL,
	customer_id bigint NOT NULL,
	PRIMARY KEY (valid_until, customer_id)
) $t$);
COMMENT ON TABLE cdp.tag_expiry IS 'internal: when an entry of a customer will end that the bitmaps show';

PERFORM cdp._ensure_table('tag_everyone', $t$ (
	seq      bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	first_id bigint NOT NULL,
	last_id  bigint NOT NULL,
	added    boolean NOT NULL,
	CHECK (first_id <= last_id)
) $t$);
COMMENT ON TABLE cdp.tag_everyone IS 'internal: who became a customer (added) and who is none any more, in ranges of ids that are not merged into the bitmap of everyone yet';

PERFORM cdp._ensure_table('tag_horizon', $t$ (
	one         boolean PRIMARY KEY DEFAULT true CHECK (one),
	at          timestamptz NOT NULL,
	customer_id bigint NOT NULL DEFAULT 9223372036854775807,
	said_until  timestamptz NOT NULL DEFAULT '-infinity',
	merged_at   timestamptz,
	made_seq    bigint NOT NULL DEFAULT 0
) $t$);
COMMENT ON TABLE cdp.tag_horizon IS 'As of when the bitmaps of tags are; one row, locked by whoever writes them.';
COMMENT ON COLUMN cdp.tag_horizon.at IS 'entries that ended by then are out of the bitmaps; infinity: there are no bitmaps, counts go by rows';
COMMENT ON COLUMN cdp.tag_horizon.customer_id IS 'those that ended at that very moment are out up to this customer';
COMMENT ON COLUMN cdp.tag_horizon.said_until IS 'ends of entries by then were said; bitmaps that are made again are as of then, so that no end is passed over in silence';
COMMENT ON COLUMN cdp.tag_horizon.merged_at IS 'when a merge last wrote, in real time; NULL: never';
COMMENT ON COLUMN cdp.tag_horizon.made_seq IS 'the last number in cdp.tag_change when the bitmaps had been made from the rows: of a customer with an older change they may show what he was before it or after it, until it is merged';

-- tables whose rows come and go: what is gone must not be walked over for long
ALTER TABLE cdp.tag_change SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE cdp.tag_everyone SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
INSERT INTO cdp.tag_horizon (at) SELECT CASE WHEN EXISTS (SELECT FROM cdp.profile_tag) THEN 'infinity' ELSE '-infinity' END::timestamptz
	ON CONFLICT DO NOTHING;
-- while the triggers were missing nobody noted who came and went
IF (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = 'cdp.profile'::regclass
	AND t.tgname IN ('profile_inserted', 'profile_deleted', 'profile_truncated')) < 3 THEN
	DECLARE
		sound boolean := false;
	BEGIN
		BEGIN
			sound := cdp._everyone_is_sound();
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
			NULL;
		END;
		IF NOT sound THEN
			PERFORM cdp._rebuild_everyone();
		END IF;
	END;
	UPDATE cdp.tag_horizon SET at = 'infinity' WHERE at <> '-infinity';
END IF;
CREATE OR REPLACE TRIGGER profile_inserted AFTER INSERT ON cdp.profile
	REFERENCING NEW TABLE AS newtab FOR EACH STATEMENT EXECUTE FUNCTION cdp._profile_changed();
CREATE OR REPLACE TRIGGER profile_deleted AFTER DELETE ON cdp.profile
	REFERENCING OLD TABLE AS oldtab FOR EACH STATEMENT EXECUTE FUNCTION cdp._profile_changed();
CREATE OR REPLACE TRIGGER profile_truncated BEFORE TRUNCATE ON cdp.profile
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._profile_changed();
INSERT INTO cdp.job (job, command, schedule, description) VALUES
	('merge_tags', 'CALL cdp.merge_tags()', '* * * * *', 'folds changes of tags into the bitmaps, says which tags have ended'),
	('prune_tags', 'CALL cdp.prune_tags()', '23 3 * * *', 'takes entries that ended long ago out of the rows of tags')
	ON CONFLICT (job) DO NOTHING;

-- @view
CREATE OR REPLACE FUNCTION cdp._lock_tags() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- who locks rows of it has to be done, too: a merge of customers that is half-way through would be undone
BEGIN
	LOCK TABLE cdp.profile_tag IN EXCLUSIVE MODE;
END $$;
COMMENT ON FUNCTION cdp._lock_tags() IS 'internal: nobody but this transaction writes tags until it ends; they may be read';

CREATE OR REPLACE FUNCTION cdp._empty_bits() RETURNS timestamptz
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM cdp.tag_horizon FOR UPDATE;
	DELETE FROM cdp.tag_bits b USING cdp.tag_key k WHERE k.key_id = b.key_id AND k.kind <> 'everyone';
	DELETE FROM cdp.tag_expiry;
	UPDATE cdp.tag_key SET members = 0 WHERE kind <> 'everyone' AND members <> 0;
	-- ends that were not said yet are said by the merges that follow
	RETURN (SELECT least(cdp.now(), h.said_until) FROM cdp.tag_horizon h);
END $$;
COMMENT ON FUNCTION cdp._empty_bits() IS 'internal: takes all tags out of the bitmaps, of which there is no horizon; the moment to make them as of';

CREATE OR REPLACE FUNCTION cdp._set_horizon(at timestamptz) RETURNS void
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE cdp.tag_horizon h SET at = $1, customer_id = 9223372036854775807, merged_at = clock_timestamp(),
		made_seq = CASE WHEN isfinite($1) THEN coalesce(pg_sequence_last_value(pg_get_serial_sequence('cdp.tag_change', 'seq')), 0) ELSE h.made_seq END
$$;
COMMENT ON FUNCTION cdp._set_horizon(timestamptz) IS 'internal: the bitmaps are as of that moment; infinity: they are none';

CREATE OR REPLACE FUNCTION cdp._declare_tags() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- Rows that somebody else is writing are left for the next time: a merge waits for nobody.
BEGIN
	INSERT INTO cdp.tag (name, kind, value_type) SELECT k.tag, 'fact', NULL FROM cdp.tag_key k
		WHERE k.kind = 'tag' AND k.members > 0 AND NOT EXISTS (SELECT FROM cdp.tag t WHERE t.name = k.tag)
		ORDER BY k.tag ON CONFLICT DO NOTHING;
	UPDATE cdp.tag t SET member_count = w.members FROM (
		SELECT g.name, coalesce(k.members, 0) AS members FROM cdp.tag g LEFT JOIN cdp.tag_key k ON k.tag = g.name AND k.kind = 'tag'
		WHERE g.member_count IS DISTINCT FROM coalesce(k.members, 0)
		ORDER BY g.name FOR NO KEY UPDATE OF g SKIP LOCKED) w
	WHERE t.name = w.name;
END $$;
COMMENT ON FUNCTION cdp._declare_tags() IS 'internal: rows of cdp.tag for tags that are used, and how many customers have each';

CREATE OR REPLACE FUNCTION cdp._prune_tags(keep interval, after bigint, batch int, OUT last bigint, OUT pruned bigint)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	until timestamptz := (SELECT least(cdp.now() - keep, CASE WHEN isfinite(h.at) THEN h.at - interval '1 microsecond' ELSE '-infinity' END)
		FROM cdp.tag_horizon h);
	ids   bigint[];
BEGIN
	SELECT array_agg(p.profile_id ORDER BY p.profile_id), max(p.profile_id) INTO ids, last FROM (
		SELECT t.profile_id FROM cdp.profile_tag t WHERE t.profile_id > after ORDER BY t.profile_id LIMIT batch) p;
	pruned := 0;
	IF last IS NULL OR until = '-infinity' THEN
		RETURN;
	END IF;
	-- profiles first, ascending, as everyone who changes tags does
	PERFORM FROM cdp.profile p WHERE p.profile_id IN (SELECT t.profile_id FROM cdp.profile_tag t WHERE t.profile_id = ANY (ids)
			AND (cdp.tagset_prune(t.tags, until) OPERATOR(cdp.<>) t.tags OR cdp.tagset_prune(t.own_tags, until) OPERATOR(cdp.<>) t.own_tags))
		ORDER BY p.profile_id FOR NO KEY UPDATE;
	UPDATE cdp.profile_tag t SET tags = cdp.tagset_prune(t.tags, until), own_tags = cdp.tagset_prune(t.own_tags, until)
	WHERE t.profile_id = ANY (ids)
	  AND (cdp.tagset_prune(t.tags, until) OPERATOR(cdp.<>) t.tags OR cdp.tagset_prune(t.own_tags, until) OPERATOR(cdp.<>) t.own_tags);
	GET DIAGNOSTICS pruned = ROW_COUNT;
END $$;
COMMENT ON FUNCTION cdp._prune_tags(interval, bigint, int) IS 'internal: one batch of prune_tags(): the rows after an id; last NULL: the end';

CREATE OR REPLACE FUNCTION cdp._tag_backlog(OUT changes bigint, OUT at timestamptz)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT (SELECT count(*) FROM (SELECT FROM cdp.tag_change UNION ALL SELECT FROM cdp.tag_everyone LIMIT 100000) c), h.at FROM cdp.tag_horizon h $$;
COMMENT ON FUNCTION cdp._tag_backlog() IS 'internal: changes of tags and of customers that wait to be merged, counted up to 100,000, and as of when the bitmaps are';

CREATE OR REPLACE FUNCTION cdp.verify_tags() RETURNS TABLE (problem text, tag text, customer_id bigint)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._require_version();
	RETURN QUERY SELECT * FROM cdp._verify_bits(1000);
	RETURN QUERY SELECT 'row: this is no customer', NULL::text, t.profile_id FROM cdp.profile_tag t
		WHERE t.tags IS NOT NULL AND (EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = t.profile_id)
			OR NOT EXISTS (SELECT FROM cdp.profile p WHERE p.profile_id = t.profile_id)) ORDER BY 3 LIMIT 1000;
	-- of each tag the newest word but the one that it ended
	RETURN QUERY WITH said AS (
			SELECT DISTINCT ON (h.profile_id, h.tag) h.profile_id, h.tag, h.change, h.value, h.value_type, h.valid_until
			FROM cdp.tag_history h JOIN cdp.profile p USING (profile_id) WHERE h.change <> 'expired'
			ORDER BY h.profile_id, h.tag, h.change_id DESC
		), has AS (
			SELECT t.profile_id, e.tag, e.value, e.value_type, e.valid_until
			FROM cdp.profile_tag t, cdp.tagset_entries(coalesce(t.own_tags, t.tags)) e
		)
		SELECT CASE WHEN s.change = 'removed' OR s.tag IS NULL THEN 'history: the row has more' WHEN h.tag IS NULL THEN 'history: the row has less'
				ELSE 'history: the row has something else' END,
			coalesce(s.tag, h.tag), coalesce(s.profile_id, h.profile_id)
		FROM said s FULL JOIN has h ON h.profile_id = s.profile_id AND h.tag = s.tag COLLATE "C"
		WHERE (h.tag IS NOT NULL) <> (s.tag IS NOT NULL AND s.change <> 'removed')
		   OR (h.tag IS NOT NULL AND (h.value, h.value_type, h.valid_until) IS DISTINCT FROM (s.value, s.value_type, s.valid_until))
		ORDER BY 3, 2 LIMIT 1000;
END $$;
COMMENT ON FUNCTION cdp.verify_tags() IS 'Where bitmaps, rows and history of tags disagree: problem in words, tag (NULL: none in particular), customer_id (of history: the profile). No row: all is sound. Bitmaps are compared with what they have to show, so changes that wait to be merged are no problem, and neither are bitmaps that are being made again. At most 1,000 rows of a sort. Reads everything. CALL cdp.rebuild_tags() mends it. Errors: 42501.';
