-- tag_customer: which tags a customer has, and every word that was ever said about it.
-- C: src/tag_customer.c (verbs), src/tag_change.c (triggers), src/tag_reunite.c (merged customers), src/tag_dictionary.c
-- Page: doc/tag_customer.md  Tests: test/sql/tag_customer.sql, test/pgtap/tag_customer.sql, test/specs/tag_*.spec

-- @code
CREATE OR REPLACE FUNCTION cdp.add_tag(customer_id bigint, tag text, value text DEFAULT NULL, valid_until timestamptz DEFAULT NULL,
	source text DEFAULT NULL) RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_add_tag';
COMMENT ON FUNCTION cdp.add_tag(bigint, text, text, timestamptz, text) IS 'Says that a customer has a tag; a value and valid_until it had before are replaced. customer_id: any profile id of the customer. tag: its name as it is, without quotes, levels joined by dots. value: taken as the tag''s declared value_type; of an undeclared tag what looks like a number or a date is one, anything else a text; NULL: none. valid_until: the tag is there before that moment; NULL or infinity: for ever, or for the tag''s default_ttl from now. source: who says so, for cdp.tag_history. Answers whether anything changed. Errors: 22004 NULL customer or tag, 23503 unknown customer, 22023 a name that is none, a value of another type, 22003 a number that cannot be held exactly, 54000 a name or value over 255 bytes, more than 4096 tags, 55000 a tag that a rule owns, 25006.';

CREATE OR REPLACE FUNCTION cdp.remove_tag(customer_id bigint, tag text, source text DEFAULT NULL) RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_remove_tag';
COMMENT ON FUNCTION cdp.remove_tag(bigint, text, text) IS 'Takes a tag from a customer; region.* takes region and everything below it. customer_id: any profile id of the customer. source: who says so, for cdp.tag_history. Answers whether anything was there. Errors: 22004 NULL customer or tag, 23503 unknown customer, 22023 a name that is none, 55000 a tag that a rule owns, 25006.';

CREATE OR REPLACE FUNCTION cdp.add_tag_many(items jsonb, source text DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_add_tag_many';
COMMENT ON FUNCTION cdp.add_tag_many(jsonb, text) IS 'add_tag() and remove_tag() for up to 100,000 items [{"customer_id": 7, "tag": "vip", "value": …, "valid_until": …}, {"customer_id": 8, "tag": "region.*", "remove": true}] in one transaction and one lock order; of two items about one tag of one customer the later one counts. value: a JSON number, or a string as add_tag() takes it. valid_until: ISO 8601 with offset. source: as add_tag(). Answers how many entries changed. Errors: as add_tag(), the number of the bad item in the detail; nothing is written then.';

CREATE OR REPLACE FUNCTION cdp._check_tag_name(name text) RETURNS void
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_check_tag_name';
COMMENT ON FUNCTION cdp._check_tag_name(text) IS 'internal: 22023 or 54000 unless the text can be the name of a tag';

CREATE OR REPLACE FUNCTION cdp._profile_tag_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_profile_tag_changed';
COMMENT ON FUNCTION cdp._profile_tag_changed() IS 'internal: trigger on cdp.profile_tag, after each statement: history, changes to be counted, events, and what a write means for merged customers';

CREATE OR REPLACE FUNCTION cdp._is_tag_change(change text, value_type text) RETURNS boolean
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_is_tag_change';
COMMENT ON FUNCTION cdp._is_tag_change(text, text) IS 'internal: constraint of cdp.tag_history: change is added, changed, removed or expired, value_type none, number, date, text or NULL. A function because each statement that writes the table reads and compiles its constraints anew, and lists of texts take longer than the row';

CREATE OR REPLACE FUNCTION cdp._reunite_tags(customer_id bigint) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_reunite_tags_sql';
COMMENT ON FUNCTION cdp._reunite_tags(bigint) IS 'internal: makes the rows of cdp.profile_tag of a customer''s profiles what own_tags and the aliases say';

CREATE OR REPLACE FUNCTION cdp._restore_tags() RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_restore_tags';
COMMENT ON FUNCTION cdp._restore_tags() IS 'internal: makes cdp.profile_tag what the newest rows of cdp.tag_history say, without history or events; answers how many rows were wrong';

CREATE OR REPLACE FUNCTION cdp._tagset_of(tags text[], "values" text[], value_types text[], valid_untils timestamptz[]) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_of';
COMMENT ON FUNCTION cdp._tagset_of(text[], text[], text[], timestamptz[]) IS 'internal: the set of entries whose parts are columns of cdp.tag_history';

CREATE OR REPLACE FUNCTION cdp._check_tag() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._check_tag_name(NEW.name);
	IF TG_OP = 'UPDATE' AND NEW.name <> OLD.name THEN
		RAISE EXCEPTION 'a tag cannot be renamed' USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Customers carry tags by name: define the new one, give it to those who have the old one, drop the old one.';
	END IF;
	IF NEW.kind IS NULL THEN
		RAISE EXCEPTION 'kind of tag "%" must not be NULL', NEW.name USING ERRCODE = 'null_value_not_allowed',
			HINT = 'Kinds are fact, behaviour, consumption and predictive.';
	END IF;
	IF NEW.kind NOT IN ('fact', 'behaviour', 'consumption', 'predictive') THEN
		RAISE EXCEPTION 'unknown kind "%" of tag "%"', NEW.kind, NEW.name USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Kinds are fact, behaviour, consumption and predictive.';
	END IF;
	IF NEW.value_type NOT IN ('none', 'number', 'date', 'text') THEN
		RAISE EXCEPTION 'unknown value_type "%" of tag "%"', NEW.value_type, NEW.name USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Types are none, number, date and text.';
	END IF;
	IF NEW.default_ttl <= '0' THEN
		RAISE EXCEPTION 'default_ttl of tag "%" must be positive', NEW.name USING ERRCODE = 'invalid_parameter_value',
			HINT = 'For example interval ''90 days''; NULL: tags of this name stay until they are removed.';
	END IF;
	IF TG_OP = 'INSERT' OR NEW.rule IS DISTINCT FROM OLD.rule OR NEW.owner IS DISTINCT FROM OLD.owner THEN
		-- a rule runs with the rights of the one who wrote it here
		NEW.owner := current_user;
	END IF;
	RETURN NEW;
END $$;
COMMENT ON FUNCTION cdp._check_tag() IS 'internal: trigger on cdp.tag, refuses what cannot be a tag and notes who wrote the rule';

-- @access
('function', 'add_tag', 'EXECUTE', '{application,operator}'),
('function', 'remove_tag', 'EXECUTE', '{application,operator}'),
('function', 'add_tag_many', 'EXECUTE', '{application,operator}'),
('function', 'drop_tag', 'EXECUTE', '{operator}'),
('function', '_check_tag_name', 'EXECUTE', '{operator}'),
('table', 'tag', 'SELECT', '{reader,application}'),
('table', 'tag', 'INSERT, UPDATE, DELETE', '{operator}'),
('table', 'profile_tag', 'SELECT', '{reader}'),
('table', 'profile_tag', 'INSERT, UPDATE, DELETE', '{operator}'),
('table', 'tag_history', 'SELECT', '{reader}'),
('table', 'customer_tag', 'SELECT', '{reader,application}'),

-- @data
PERFORM cdp._ensure_table('tag', $t$ (
	name         text COLLATE "C" PRIMARY KEY,
	kind         text NOT NULL DEFAULT 'fact' CHECK (kind IN ('fact', 'behaviour', 'consumption', 'predictive')),
	value_type   text CHECK (value_type IN ('none', 'number', 'date', 'text')),
	default_ttl  interval,
	rule         text,
	owner        name NOT NULL DEFAULT current_user,
	description  text,
	emits_events boolean NOT NULL DEFAULT false,
	member_count bigint,
	refreshed_at timestamptz,
	last_error   text,
	rule_path    text,
	rule_tags    text[],
	rule_segments text[]
) $t$);
COMMENT ON TABLE cdp.tag IS 'What is known of each tag. A tag that is used without a row is declared by the next CALL cdp.merge_tags(). Rows are written with cdp.define_tag() or by hand.';
COMMENT ON COLUMN cdp.tag.name IS 'levels joined by dots, as it is, without quotes';
COMMENT ON COLUMN cdp.tag.kind IS 'fact, behaviour, consumption or predictive';
COMMENT ON COLUMN cdp.tag.value_type IS 'none, number, date, text: what every new entry must have; NULL: anything, the tag was only ever used';
COMMENT ON COLUMN cdp.tag.default_ttl IS 'add_tag() without valid_until: this long; NULL: for ever';
COMMENT ON COLUMN cdp.tag.rule IS 'tagquery or SELECT that says who has the tag; NULL: applications and operators say so';
COMMENT ON COLUMN cdp.tag.owner IS 'who wrote the rule: it runs with the rights of this role';
COMMENT ON COLUMN cdp.tag.emits_events IS 'whether Tag Added, Tag Removed and Tag Expired are written to the event log';
COMMENT ON COLUMN cdp.tag.member_count IS 'customers who had it at the last merge of changes';
COMMENT ON COLUMN cdp.tag.refreshed_at IS 'when the rule ran last';
COMMENT ON COLUMN cdp.tag.rule_path IS 'search_path under which the rule was written, and finds its names';
COMMENT ON COLUMN cdp.tag.rule_tags IS 'tags that a rule which is a tagquery asks for; they are refreshed before';
COMMENT ON COLUMN cdp.tag.rule_segments IS 'segments that the rule asks for';
COMMENT ON COLUMN cdp.tag.last_error IS 'why the rule failed the last time; NULL: it did not';
CREATE OR REPLACE TRIGGER tag_check BEFORE INSERT OR UPDATE ON cdp.tag
	FOR EACH ROW EXECUTE FUNCTION cdp._check_tag();
CREATE OR REPLACE TRIGGER tag_changed AFTER INSERT OR UPDATE OF value_type, default_ttl, rule, emits_events OR DELETE OR TRUNCATE ON cdp.tag
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._rules_changed();

PERFORM cdp._ensure_table('profile_tag', $t$ (
	profile_id bigint PRIMARY KEY,
	tags       cdp.tagset,
	own_tags   cdp.tagset
) $t$);
COMMENT ON TABLE cdp.profile_tag IS 'Tags, one row per profile that has any. Plain INSERT, UPDATE, DELETE, TRUNCATE and COPY are fine: history, counts and events follow.';
COMMENT ON COLUMN cdp.profile_tag.profile_id IS 'origin profile; the One ID where tags is not NULL';
COMMENT ON COLUMN cdp.profile_tag.tags IS 'what the customer has, entries that have expired included; NULL: this profile is part of another customer';
COMMENT ON COLUMN cdp.profile_tag.own_tags IS 'what was recorded under this profile of a merged customer; NULL: tags is';
CREATE INDEX IF NOT EXISTS profile_tag_tags ON cdp.profile_tag USING gin (tags);
CREATE OR REPLACE TRIGGER profile_tag_inserted AFTER INSERT ON cdp.profile_tag
	REFERENCING NEW TABLE AS newtab FOR EACH STATEMENT EXECUTE FUNCTION cdp._profile_tag_changed();
CREATE OR REPLACE TRIGGER profile_tag_updated AFTER UPDATE ON cdp.profile_tag
	REFERENCING OLD TABLE AS oldtab NEW TABLE AS newtab FOR EACH STATEMENT EXECUTE FUNCTION cdp._profile_tag_changed();
CREATE OR REPLACE TRIGGER profile_tag_deleted AFTER DELETE ON cdp.profile_tag
	REFERENCING OLD TABLE AS oldtab FOR EACH STATEMENT EXECUTE FUNCTION cdp._profile_tag_changed();
CREATE OR REPLACE TRIGGER profile_tag_truncated BEFORE TRUNCATE ON cdp.profile_tag
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._profile_tag_changed();

PERFORM cdp._ensure_table('tag_history', $t$ (
	change_id   bigint GENERATED BY DEFAULT AS IDENTITY,
	profile_id  bigint NOT NULL,
	tag         text COLLATE "C" NOT NULL,
	change      text NOT NULL,
	value       text,
	value_type  text,
	valid_until timestamptz,
	source      text,
	changed_at  timestamptz NOT NULL DEFAULT cdp.now(),
	PRIMARY KEY (profile_id, tag, change_id),
	CHECK (cdp._is_tag_change(change, value_type))
) $t$);
COMMENT ON TABLE cdp.tag_history IS 'Every tag that was given, changed or taken, under the profile it was recorded for. Text only: it survives DROP EXTENSION … CASCADE, and the newest row of each tag brings cdp.profile_tag back.';
COMMENT ON COLUMN cdp.tag_history.change IS 'added, changed (another value or valid_until), removed, expired';
COMMENT ON COLUMN cdp.tag_history.value IS 'the value as text, of added and changed; a date YYYY-MM-DD';
COMMENT ON COLUMN cdp.tag_history.value_type IS 'type of value: none, number, date, text';
COMMENT ON COLUMN cdp.tag_history.valid_until IS 'the tag is there before this moment; NULL: for ever';
COMMENT ON COLUMN cdp.tag_history.source IS 'who said so; NULL: nobody was named, or a plain statement';

-- what the bitmaps do not know yet
PERFORM cdp._ensure_table('tag_change', $t$ (
	seq         bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	customer_id bigint NOT NULL,
	old         cdp.tagset,
	new         cdp.tagset
) $t$);
COMMENT ON TABLE cdp.tag_change IS 'internal: changes of cdp.profile_tag.tags that CALL cdp.merge_tags() has not folded into the bitmaps yet, in their order for each customer';

-- @view
CREATE OR REPLACE VIEW cdp.customer_tag AS
	SELECT p.profile_id AS customer_id, coalesce(t.tags, ''::cdp.tagset) AS tags
	FROM cdp.profile p LEFT JOIN cdp.profile_tag t USING (profile_id)
	WHERE NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = p.profile_id);
COMMENT ON VIEW cdp.customer_tag IS 'Every customer and the tags he has: customer_id (One ID), tags (entries that have expired included; @@ looks at the clock), '''' where none.';

CREATE OR REPLACE FUNCTION cdp.drop_tag(name text) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n   bigint;
	who text;
BEGIN
	PERFORM cdp._require_version();
	IF name IS NULL THEN
		RAISE EXCEPTION 'name must not be NULL' USING ERRCODE = 'null_value_not_allowed', HINT = 'Tags are listed in cdp.tag.';
	END IF;
	PERFORM cdp._check_tag_name(name);
	SELECT string_agg(format('%s %s', w.what, w.name), ', ' ORDER BY w.what, w.name) INTO who FROM (
		SELECT 'segment' AS what, s.name FROM cdp.segment s WHERE drop_tag.name = ANY (s.asks_tags)
		UNION ALL SELECT 'rule of tag', t.name FROM cdp.tag t WHERE drop_tag.name = ANY (t.rule_tags)) w;
	IF who IS NOT NULL THEN
		RAISE EXCEPTION 'tag "%" is asked for by others', name USING ERRCODE = 'dependent_objects_still_exist',
			DETAIL = format('These ask for it: %s.', who), HINT = 'Define them without it first.';
	END IF;
	DELETE FROM cdp.tag t WHERE t.name = drop_tag.name;
	IF NOT FOUND AND NOT EXISTS (SELECT FROM cdp.profile_tag t WHERE (t.tags OPERATOR(cdp.-) ARRAY[drop_tag.name]) OPERATOR(cdp.<>) t.tags) THEN
		RAISE EXCEPTION 'there is no tag "%"', name USING ERRCODE = 'undefined_object', HINT = 'Tags are listed in cdp.tag.';
	END IF;
	UPDATE cdp.profile_tag t SET tags = t.tags OPERATOR(cdp.-) ARRAY[drop_tag.name]
	WHERE (t.tags OPERATOR(cdp.-) ARRAY[drop_tag.name]) OPERATOR(cdp.<>) t.tags;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END $$;
COMMENT ON FUNCTION cdp.drop_tag(text) IS 'Takes a tag from everyone and forgets what it was; tags below it stay. Answers how many customers had it. cdp.tag_history keeps what was. Errors: 22004 NULL name, 22023 a name that is none (region.* as well), 42704 no such tag, 2BP01 a segment or the rule of another tag asks for it.';
