-- tag_rule: tags that a rule gives and takes.
-- C: src/tag_rule.c, src/segment_definition.c  Page: doc/tag_rule.md  Tests: test/sql/tag_rule.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.define_tag(name text, kind text DEFAULT 'fact', value_type text DEFAULT 'none', default_ttl interval DEFAULT NULL,
	rule text DEFAULT NULL, owner text DEFAULT NULL, description text DEFAULT NULL, emits_events boolean DEFAULT false) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_define_tag';
COMMENT ON FUNCTION cdp.define_tag(text, text, text, interval, text, text, text, boolean) IS 'Says what a tag is; again with the same name: says it anew. name: as it is, without quotes. kind: fact, behaviour, consumption, predictive. value_type: none, number, date, text; new entries must be of it, entries that are there stay. default_ttl: how long an entry without valid_until lasts; NULL: for ever. rule: a tagquery, or one SELECT with customer_id bigint, value (number, date or text; where value_type is not none) and valid_until timestamptz (or none), that says who has it; it runs as the role that calls this, under its search_path; CALL cdp.refresh_tags() gives and takes the tag, nobody else does; NULL: nobody but who calls add_tag(). owner: the current role, which a rule runs as. emits_events: whether Tag Added, Tag Removed and Tag Expired are written. Errors: 22004 NULL name, 22023 a name that is none, unknown kind or value_type, default_ttl that is not positive, 42501 another''s role as owner, and of a rule: 42601, 25006, 0A000, 42703, 42804, 42P02, 42501, 42P01, 22P02 as a definition of cdp.define_segment(), 42704 unknown segment, 42P19 rules that ask for each other, 22023 a value where value_type is none, or none where it is not.';

CREATE OR REPLACE FUNCTION cdp._tag_rule_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_tag_rule_changed';
COMMENT ON FUNCTION cdp._tag_rule_changed() IS 'internal: trigger on cdp.tag, checks a rule as the role that writes it';

CREATE OR REPLACE FUNCTION cdp._refresh_tag(tag text, quietly boolean, OUT changed bigint, OUT state text, OUT message text, OUT hint text)
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_refresh_tag';
COMMENT ON FUNCTION cdp._refresh_tag(text, boolean) IS 'internal: one tag in this transaction; changed: entries written; quietly: a rule that the caller may not have run is left out, else 42501; state, message, hint: the error of the rule, which is kept in last_error';

CREATE OR REPLACE FUNCTION cdp._tag_order(tag text) RETURNS text[]
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
-- Tags with rules, each after those it asks for; with a name: that tag and what it asks for.
DECLARE
	todo   text[];
	ready  text[];
	sorted text[] := '{}';
BEGIN
	IF tag IS NOT NULL AND NOT EXISTS (SELECT FROM cdp.tag t WHERE t.name = _tag_order.tag) THEN
		RAISE EXCEPTION 'there is no tag "%"', tag USING ERRCODE = 'undefined_object', HINT = 'Tags are listed in cdp.tag.';
	ELSIF tag IS NOT NULL AND NOT EXISTS (SELECT FROM cdp.tag t WHERE t.name = _tag_order.tag AND t.rule IS NOT NULL) THEN
		RAISE EXCEPTION 'tag "%" has no rule', tag USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'cdp.define_tag(name, rule => …) gives it one; without, cdp.add_tag() says who has it.';
	END IF;
	WITH RECURSIVE asked(name) AS (
		SELECT t.name FROM cdp.tag t WHERE t.rule IS NOT NULL AND (_tag_order.tag IS NULL OR t.name = _tag_order.tag)
		UNION
		SELECT x.name FROM asked JOIN cdp.tag t ON t.name = asked.name, unnest(t.rule_tags) a, cdp.tag x
		WHERE x.rule IS NOT NULL AND (x.name = a OR (a LIKE '%.*' AND (x.name = left(a, -2) OR starts_with(x.name, left(a, -1)))))
	) SELECT array_agg(a.name) INTO todo FROM asked a;
	WHILE todo <> '{}' LOOP
		SELECT array_agg(t.name ORDER BY t.name) INTO ready FROM cdp.tag t
		WHERE t.name = ANY (todo) AND NOT EXISTS (SELECT FROM unnest(t.rule_tags) a, unnest(todo) x
			WHERE x = a OR (a LIKE '%.*' AND (x = left(a, -2) OR starts_with(x, left(a, -1)))));
		EXIT WHEN ready IS NULL;
		sorted := sorted || ready;
		todo := ARRAY(SELECT x FROM unnest(todo) x WHERE x <> ALL (ready));
	END LOOP;
	RETURN sorted;
END $$;
COMMENT ON FUNCTION cdp._tag_order(text) IS 'internal: tags whose rules refresh_tags() runs, in their order; 42704 no such tag, 55000 it has no rule';

CREATE OR REPLACE PROCEDURE cdp.refresh_tags(tag text DEFAULT NULL) LANGUAGE plpgsql
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
	todo := cdp._tag_order(tag);
	IF tag IS NULL THEN
		BEGIN
			run := cdp._job_begin('refresh_tags', cardinality(todo));
		EXCEPTION WHEN object_in_use THEN
			RAISE NOTICE 'tags are being refreshed already' USING HINT = 'SELECT * FROM cdp.job_status shows by whom.';
			RETURN;
		END;
	END IF;
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	FOR i IN 1 .. cardinality(todo) LOOP
		IF run IS NOT NULL THEN
			PERFORM cdp._job_step(run);
		END IF;
		SELECT * INTO step FROM cdp._refresh_tag(todo[i], run IS NOT NULL);
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
		RAISE EXCEPTION 'tag "%" was not refreshed: %', failed[cardinality(failed)], last.message USING ERRCODE = last.state,
			HINT = coalesce(last.hint, 'Who has it is as it was; cdp.tag.last_error keeps the error.');
	END IF;
	RAISE WARNING 'tags that were not refreshed: %', array_to_string(failed, ', ')
		USING HINT = 'Who has them is as it was; SELECT name, last_error FROM cdp.tag shows why.';
END $$;
COMMENT ON PROCEDURE cdp.refresh_tags(text) IS 'Gives tags to those for whom their rules say so and takes them from all others. tag: that tag and those with rules it asks for; NULL: all tags with rules, each after those it asks for. Only differences are written. One transaction per tag. Of several rows for one customer the one with the largest value counts, then the one that holds longest; rows of nobody, rows that have ended and, where the tag takes a value, rows without one are left out; default_ttl is not for rules. A rule that fails leaves its tag as it was, stands in last_error, and the others go on: the call ends with a warning, by name with the error. A query runs as the role that wrote it: the caller must be a superuser or have the privileges of that role, else it is left out, by name 42501. A second call for all at the same time returns with a notice. Progress in cdp.job_status. Commits, so it cannot run inside a transaction. Errors: 42704 no such tag, 55000 it has no rule, 42501, 25006, and those of the rule.';

CREATE OR REPLACE FUNCTION cdp._health_tag_rule() RETURNS TABLE (check_name text, ok boolean, detail text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('cdp.tag') IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY SELECT 'rules_of_tags', count(*) FILTER (WHERE t.last_error IS NOT NULL) = 0,
		format('%s rules, %s with an error%s', count(*), count(*) FILTER (WHERE t.last_error IS NOT NULL),
			coalesce(': ' || string_agg(t.name, ', ' ORDER BY t.name) FILTER (WHERE t.last_error IS NOT NULL), ''))
	FROM cdp.tag t WHERE t.rule IS NOT NULL;
END $$;
COMMENT ON FUNCTION cdp._health_tag_rule() IS 'internal: rows of tag_rule in cdp.health(): rules that fail';

-- @access
('function', 'define_tag', 'EXECUTE', '{operator}'),
('function', '_refresh_tag', 'EXECUTE', '{operator}'),
('function', '_tag_order', 'EXECUTE', '{operator}'),
('function', 'refresh_tags', 'EXECUTE', '{operator}'),
('function', '_health_tag_rule', 'EXECUTE', '{reader,application}'),

-- @data
CREATE OR REPLACE TRIGGER tag_rule BEFORE INSERT OR UPDATE ON cdp.tag
	FOR EACH ROW EXECUTE FUNCTION cdp._tag_rule_changed();
INSERT INTO cdp.job (job, command, schedule, description)
	VALUES ('refresh_tags', 'CALL cdp.refresh_tags()', '7,22,37,52 * * * *', 'gives and takes tags as their rules say')
	ON CONFLICT (job) DO NOTHING;
