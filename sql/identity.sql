-- identity: who is who.
-- C: src/identity.c  Page: doc/identity.md  Tests: test/sql/identity.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.identify(identifiers jsonb, traits jsonb DEFAULT '{}', source text DEFAULT NULL,
	occurred_at timestamptz DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_identify_sql';
COMMENT ON FUNCTION cdp.identify(jsonb, jsonb, text, timestamptz) IS 'One stable customer id for whatever identifiers an application has. identifiers: object {"kind": "value" or ["value", …]}, up to 32 values of up to 512 bytes; kinds are rows of cdp.identifier_kind; JSON null and blank count as not given; what the rule of a kind blocks or its normaliser refuses is dropped and noted in cdp.merge_refusal. traits: object of attributes, names up to 200 bytes; which of several values holds is a rule of cdp.survivorship, without one the newest; JSON null is not given, NULL: none. source: who says so, up to 200 bytes; NULL: nobody is named. occurred_at: when; NULL: cdp.now(). Known identifiers cost index probes and write nothing. Identifiers of several customers make them one, the older id stays; where a limit or a judgement forbids that, the weakest identifiers are left out. Answers the customer of the strongest. Errors: LC101 no usable identifier; 22004 NULL identifiers; 22023 malformed, unknown kind, or occurred_at infinite or beyond cdp.max_future; 54000 more or longer than that; 25006 read-only; 40001.';

CREATE OR REPLACE FUNCTION cdp.identify_many(items jsonb, on_error text DEFAULT 'raise')
	RETURNS TABLE (ord int, profile_id bigint, customer_id bigint)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_identify_many';
COMMENT ON FUNCTION cdp.identify_many(jsonb, text) IS 'identify() for a batch: items is an array of up to 100,000 objects {"identifiers": {…}, "traits": {…}, "source": …, "occurred_at": …}, of which only identifiers must be there; one transaction and one lock order; the result equals identify() item by item. Answers a row per item: ord, from 1; profile_id, the origin profile of the strongest accepted identifier, under which facts are stored; customer_id. on_error: raise (also NULL): the first bad item fails the call, its number in the detail; skip: NULL ids for it, the others are taken. Errors: those of identify(); 22023 also for items that is no array and another on_error; 54000 for more items.';

CREATE OR REPLACE FUNCTION cdp._identify_rows(identifiers jsonb[], traits jsonb[], source text, occurred_ats timestamptz[])
	RETURNS TABLE (ord int, profile_id bigint, customer_id bigint, sqlstate text, message text, hint text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_identify_rows';
COMMENT ON FUNCTION cdp._identify_rows(jsonb[], jsonb[], text, timestamptz[]) IS 'internal: identify for sets; bad elements come back with their reason instead of raising';

CREATE OR REPLACE FUNCTION cdp.resolve(kind text, value text) RETURNS bigint
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_resolve';
COMMENT ON FUNCTION cdp.resolve(text, text) IS 'The customer id who has this identifier now, after normalising the value; NULL when nobody has, or when an argument is NULL. Errors: 22023 unknown kind.';

CREATE OR REPLACE FUNCTION cdp._customers_changed(winner bigint, loser bigint, action text) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_customers_changed_sql';
COMMENT ON FUNCTION cdp._customers_changed(bigint, bigint, text) IS 'internal: tells the modules, in their order, that two customers became one (merge) or two again (unmerge); called when the alias rows already show it';

CREATE OR REPLACE FUNCTION cdp._guard_alias() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_guard_alias';
COMMENT ON FUNCTION cdp._guard_alias() IS 'internal: refuses writes to cdp.profile_alias that do not come from identity';

CREATE OR REPLACE FUNCTION cdp._normalizer_problem(function regproc, policy text) RETURNS text
	LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_normalizer_problem';
COMMENT ON FUNCTION cdp._normalizer_problem(regproc, text) IS 'internal: why a function with this policy cannot be a normalizer, NULL when it can';

CREATE OR REPLACE FUNCTION cdp._tombstone_hash(kind text, value text) RETURNS bytea
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_tombstone_hash';
COMMENT ON FUNCTION cdp._tombstone_hash(text, text) IS 'internal: key of a normalised identifier in cdp.identifier_tombstone';

CREATE OR REPLACE FUNCTION cdp._check_identifier_kind() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- A rule that cannot work is refused when it is written, not at the next event.
DECLARE
	part    text[];
	fn      regproc;
	f       record;
	problem text;
	context text;
BEGIN
	IF NEW.blocked_pattern IS NOT NULL AND (TG_OP = 'INSERT' OR NEW.blocked_pattern IS DISTINCT FROM OLD.blocked_pattern) THEN
		BEGIN
			PERFORM '' ~ NEW.blocked_pattern;
		EXCEPTION WHEN invalid_regular_expression THEN
			GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
			RAISE EXCEPTION 'blocked_pattern of kind "%": %', NEW.kind, problem
				USING ERRCODE = 'invalid_regular_expression', HINT = 'Write a regular expression as ~ takes it, for example ^0+$.';
		END;
	END IF;
	IF TG_OP = 'INSERT' OR NEW.normalizer IS DISTINCT FROM OLD.normalizer OR NEW.owner IS DISTINCT FROM OLD.owner THEN
		-- a normalizer of the user's runs as the one who wrote it here
		NEW.owner := current_user;
	END IF;
	IF NEW.normalizer IS NULL OR (TG_OP = 'UPDATE' AND NEW.normalizer IS NOT DISTINCT FROM OLD.normalizer
		AND NEW.owner IS NOT DISTINCT FROM OLD.owner) THEN
		RETURN NEW;
	END IF;
	part := regexp_match(btrim(NEW.normalizer), '^([^()]+?)\s*(?:\(([^()]*)\))?$');
	IF part IS NULL THEN
		problem := 'it is not a function name, with or without a policy in brackets';
	ELSE
		part[2] := btrim(part[2]);
		BEGIN
			fn := to_regproc(btrim(part[1]));
		EXCEPTION WHEN syntax_error OR invalid_name OR feature_not_supported THEN
			fn := NULL;
		END;
		SELECT p.prokind, p.provolatile, p.prorettype, p.proretset, p.pronargs, p.proargtypes::oid[] AS args,
			format('%I.%I', n.nspname, p.proname) AS name
		INTO f FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = fn;
		problem := CASE
			WHEN fn IS NULL THEN 'there is no such function, or more than one'
			WHEN f.prokind <> 'f' OR f.proretset OR f.prorettype <> 'text'::regtype THEN 'the function must return one text'
			WHEN f.provolatile <> 'i' THEN 'the function must be IMMUTABLE'
			WHEN f.pronargs NOT IN (1, 2) OR 'text'::regtype <> ALL (f.args) THEN 'the function must take a text, and a text for a policy if it has any'
			WHEN NOT has_function_privilege(fn, 'EXECUTE') THEN 'you may not execute the function'
			ELSE cdp._normalizer_problem(fn, part[2]) END;
	END IF;
	IF problem IS NOT NULL THEN
		RAISE EXCEPTION 'normalizer of kind "%": %', NEW.kind, problem USING ERRCODE = 'invalid_function_definition',
			HINT = 'For example cdp.normalize_email(gmail), or a function of yours with its schema: shop.clean_card_no.';
	END IF;
	NEW.normalizer := f.name || coalesce('(' || part[2] || ')', '');
	RETURN NEW;
END $$;
COMMENT ON FUNCTION cdp._check_identifier_kind() IS 'internal: trigger on cdp.identifier_kind, refuses broken patterns and normalizers and notes who wrote them';

-- @access
('function', 'identify', 'EXECUTE', '{application,operator}'),
('function', 'identify_many', 'EXECUTE', '{application,operator}'),
('function', 'resolve', 'EXECUTE', '{application,operator}'),
('function', '_normalizer_problem', 'EXECUTE', '{operator}'),
('table', 'identifier_kind', 'SELECT, INSERT, UPDATE, DELETE', '{operator}'),
('table', 'profile', 'SELECT', '{operator}'),
('table', 'profile_alias', 'SELECT', '{reader}'),

-- @data
PERFORM cdp._ensure_table('identifier_kind', $t$ (
	kind             text PRIMARY KEY CHECK (kind ~ '^[a-z][a-z0-9_]{0,62}$'),
	priority         int NOT NULL,
	max_per_customer int CHECK (max_per_customer > 0),
	max_window       interval CHECK (max_window > '0'),
	blocked_pattern  text DEFAULT '^[-:. ]*0[-:. ]*0[-:. 0]*$',
	blocked_values   text[] NOT NULL DEFAULT '{-1,"null",undefined,none,unknown,anonymous,test,n/a,无,未知}',
	normalizer       text,
	ttl              interval CHECK (ttl > '0'),
	own_profile      boolean NOT NULL DEFAULT false,
	owner            name NOT NULL DEFAULT current_user
) $t$);
COMMENT ON TABLE cdp.identifier_kind IS 'Rules of identity, one row per kind of identifier. A change counts from the next statement of every session; CALL cdp.recheck_identities() applies it to the past.';
COMMENT ON COLUMN cdp.identifier_kind.kind IS 'name of the kind, as it stands in identifiers: small letters, digits and _, a letter first';
COMMENT ON COLUMN cdp.identifier_kind.priority IS '1 is the strongest: what the weakest identifiers of a sighting bring together is given up first';
COMMENT ON COLUMN cdp.identifier_kind.max_per_customer IS 'how many of this kind one customer may have; NULL: no limit';
COMMENT ON COLUMN cdp.identifier_kind.max_window IS 'max_per_customer counts those seen within this time only; NULL: all';
COMMENT ON COLUMN cdp.identifier_kind.blocked_pattern IS 'regular expression over the value as given and as normalised: values that mean nothing; NULL: none';
COMMENT ON COLUMN cdp.identifier_kind.blocked_values IS 'values that mean nothing, compared without case';
COMMENT ON COLUMN cdp.identifier_kind.normalizer IS 'IMMUTABLE function(text) or function(text, policy) that returns the comparable text, e.g. cdp.normalize_email(gmail); NULL: blanks at both ends go';
COMMENT ON COLUMN cdp.identifier_kind.ttl IS 'an identifier unseen for longer has changed hands when it turns up beside somebody else''s; NULL: never';
COMMENT ON COLUMN cdp.identifier_kind.own_profile IS 'facts that arrive under it get a profile of their own, so that a merge can be taken back exactly';
COMMENT ON COLUMN cdp.identifier_kind.owner IS 'who wrote the normalizer: it runs with the rights of this role';
CREATE OR REPLACE TRIGGER identifier_kind_check BEFORE INSERT OR UPDATE ON cdp.identifier_kind
	FOR EACH ROW EXECUTE FUNCTION cdp._check_identifier_kind();
CREATE OR REPLACE TRIGGER identifier_kind_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cdp.identifier_kind
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._rules_changed();

PERFORM cdp._ensure_table('profile', $t$ (
	profile_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	created_at timestamptz NOT NULL DEFAULT cdp.now(),
	traits     jsonb NOT NULL DEFAULT '{}'
) $t$);
COMMENT ON TABLE cdp.profile IS 'Origin profiles: what facts are recorded under, for ever. A merge never touches or deletes one.';
COMMENT ON COLUMN cdp.profile.profile_id IS 'never reused; that of the oldest profile of a customer is his customer_id';
COMMENT ON COLUMN cdp.profile.created_at IS 'first sighting';

PERFORM cdp._ensure_table('identifier', $t$ (
	identifier_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	kind          text COLLATE "C" NOT NULL,
	value         text COLLATE "C" NOT NULL,
	profile_id    bigint NOT NULL,
	first_seen    timestamptz NOT NULL,
	last_seen     timestamptz NOT NULL,
	source        text,
	valid_to      timestamptz,
	generic_since timestamptz
) $t$);
CREATE UNIQUE INDEX IF NOT EXISTS identifier_live ON cdp.identifier (kind, value) WHERE valid_to IS NULL;
CREATE INDEX IF NOT EXISTS identifier_profile_id ON cdp.identifier (profile_id);
COMMENT ON TABLE cdp.identifier IS 'Normalised identifiers, one live row per (kind, value); rows with valid_to are history.';
COMMENT ON COLUMN cdp.identifier.identifier_id IS 'by which cdp.identity_link and cdp.merge_refusal name it';
COMMENT ON COLUMN cdp.identifier.kind IS 'row of cdp.identifier_kind';
COMMENT ON COLUMN cdp.identifier.value IS 'personal data, as the normalizer of the kind writes it';
COMMENT ON COLUMN cdp.identifier.first_seen IS 'occurred_at of the earliest sighting';
COMMENT ON COLUMN cdp.identifier.source IS 'who brought it first; NULL: nobody was named';
COMMENT ON COLUMN cdp.identifier.profile_id IS 'origin profile: facts that arrive under this identifier are stored there';
COMMENT ON COLUMN cdp.identifier.last_seen IS 'occurred_at of the latest sighting, written at most once per cdp.last_seen_resolution';
COMMENT ON COLUMN cdp.identifier.valid_to IS 'when the identifier stopped to mean this profile; NULL: it does';
COMMENT ON COLUMN cdp.identifier.generic_since IS 'since when so many refused merges met here that it tells nobody apart: it resolves and merges nothing; NULL: it does tell';

PERFORM cdp._ensure_table('profile_alias', $t$ (
	profile_id  bigint PRIMARY KEY,
	customer_id bigint NOT NULL,
	CHECK (profile_id <> customer_id)
) $t$);
CREATE INDEX IF NOT EXISTS profile_alias_customer_id ON cdp.profile_alias (customer_id);
CREATE OR REPLACE TRIGGER profile_alias_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON cdp.profile_alias
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._guard_alias();
COMMENT ON TABLE cdp.profile_alias IS 'Merged profile to One ID; sparse (a profile of its own has no row), depth 1 always. Only identity writes it.';
COMMENT ON COLUMN cdp.profile_alias.profile_id IS 'a profile that is not its customer''s own';
COMMENT ON COLUMN cdp.profile_alias.customer_id IS 'the customer it belongs to: a profile without a row here';

PERFORM cdp._ensure_table('identity_link', $t$ (
	link_id      bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	identifier_a bigint NOT NULL,
	identifier_b bigint NOT NULL,
	relation     text NOT NULL DEFAULT 'same' CHECK (relation IN ('same', 'apart', 'household')),
	rule         text NOT NULL,
	weight       float8,
	source       text,
	occurred_at  timestamptz NOT NULL,
	linked_at    timestamptz NOT NULL DEFAULT cdp.now(),
	merge_id     bigint,
	refusal      text CHECK (refusal IN ('limit', 'customer_too_large', 'kept_apart')),
	overrides_limits boolean NOT NULL DEFAULT false,
	revoked_at   timestamptz,
	revoked_by   name,
	revoked_reason text,
	CHECK (identifier_a < identifier_b)
) $t$);
-- without the refused ones, so that nobody who is refused waits for another's transaction
CREATE UNIQUE INDEX IF NOT EXISTS identity_link_live ON cdp.identity_link (identifier_a, identifier_b, relation)
	WHERE revoked_at IS NULL AND refusal IS NULL;
CREATE INDEX IF NOT EXISTS identity_link_refused ON cdp.identity_link (identifier_a, identifier_b)
	WHERE revoked_at IS NULL AND refusal IS NOT NULL;
CREATE INDEX IF NOT EXISTS identity_link_apart ON cdp.identity_link (identifier_a)
	WHERE relation = 'apart' AND revoked_at IS NULL;
CREATE INDEX IF NOT EXISTS identity_link_b ON cdp.identity_link (identifier_b);
-- for a re-check of what is new: rows come in order of time, so that a range of blocks tells
CREATE INDEX IF NOT EXISTS identity_link_linked_at ON cdp.identity_link USING brin (linked_at) WITH (autosummarize = on);
CREATE INDEX IF NOT EXISTS identity_link_revoked_at ON cdp.identity_link (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS identity_link_merge_id ON cdp.identity_link (merge_id) WHERE merge_id IS NOT NULL;
COMMENT ON TABLE cdp.identity_link IS 'Evidence, one row per pair of identifiers that were seen together, or that somebody judged. Holds ids, never values. Rows are never deleted.';
COMMENT ON COLUMN cdp.identity_link.link_id IS 'never reused; decides ties';
COMMENT ON COLUMN cdp.identity_link.identifier_a IS 'the smaller identifier_id of the two';
COMMENT ON COLUMN cdp.identity_link.identifier_b IS 'the greater one';
COMMENT ON COLUMN cdp.identity_link.relation IS 'same (one customer), apart (never one customer), household (neighbours; merges nobody)';
COMMENT ON COLUMN cdp.identity_link.rule IS 'kinds of the two, the stronger first (member_id+phone); manual; or match: and the name of a match model';
COMMENT ON COLUMN cdp.identity_link.weight IS 'log2 of the odds, of a match; NULL: certain';
COMMENT ON COLUMN cdp.identity_link.source IS 'who said so first; NULL: nobody was named';
COMMENT ON COLUMN cdp.identity_link.occurred_at IS 'when the two were first seen together';
COMMENT ON COLUMN cdp.identity_link.linked_at IS 'when the row was written';
COMMENT ON COLUMN cdp.identity_link.merge_id IS 'the merge that this evidence caused; NULL: none';
COMMENT ON COLUMN cdp.identity_link.refusal IS 'why the evidence was not followed: limit, customer_too_large, kept_apart; NULL: it was';
COMMENT ON COLUMN cdp.identity_link.overrides_limits IS 'an operator wants it in spite of the limits; a re-check hears it last and asks none';
COMMENT ON COLUMN cdp.identity_link.revoked_at IS 'when it was taken back; NULL: it counts';
COMMENT ON COLUMN cdp.identity_link.revoked_by IS 'the role that took it back';
COMMENT ON COLUMN cdp.identity_link.revoked_reason IS 'what the operator said who took it back';

PERFORM cdp._ensure_table('merge_log', $t$ (
	merge_id    bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	action      text NOT NULL CHECK (action IN ('merge', 'unmerge', 'recheck')),
	customer_id bigint NOT NULL,
	other_id    bigint NOT NULL,
	rule        text,
	reason      text,
	actor       name NOT NULL DEFAULT session_user,
	at          timestamptz NOT NULL DEFAULT cdp.now(),
	before      jsonb,
	after       jsonb,
	undoes      bigint
) $t$);
CREATE INDEX IF NOT EXISTS merge_log_at ON cdp.merge_log USING brin (at) WITH (autosummarize = on);
CREATE INDEX IF NOT EXISTS merge_log_customer_id ON cdp.merge_log (customer_id, at);
CREATE INDEX IF NOT EXISTS merge_log_other_id ON cdp.merge_log (other_id, at);
CREATE INDEX IF NOT EXISTS merge_log_undoes ON cdp.merge_log (undoes) WHERE undoes IS NOT NULL;
COMMENT ON TABLE cdp.merge_log IS 'Every change of who is one customer: who did it, why, before and after.';
COMMENT ON COLUMN cdp.merge_log.merge_id IS 'by which cdp.unmerge_customer() takes it back';
COMMENT ON COLUMN cdp.merge_log.action IS 'merge; unmerge, also of an identifier alone (rule detach); recheck: either, by cdp.recheck_identity()';
COMMENT ON COLUMN cdp.merge_log.rule IS 'of a merge its evidence, as in cdp.identity_link; manual: an operator; detach: an identifier alone; recheck';
COMMENT ON COLUMN cdp.merge_log.reason IS 'what the operator said; of a recheck what it found; NULL: nothing was said';
COMMENT ON COLUMN cdp.merge_log.actor IS 'the role that was logged in';
COMMENT ON COLUMN cdp.merge_log.at IS 'when';
COMMENT ON COLUMN cdp.merge_log.customer_id IS 'whose id stays';
COMMENT ON COLUMN cdp.merge_log.other_id IS 'who became part of it (merge), or left it (unmerge)';
COMMENT ON COLUMN cdp.merge_log.before IS 'profiles of the sides before: {"winner": [7], "loser": [8, 9]}; of an unmerge {"winner": [7, 8, 9]}';
COMMENT ON COLUMN cdp.merge_log.after IS 'profiles of the sides after; {"winner": [7, 8, 9]} of a merge, both sides of an unmerge';
COMMENT ON COLUMN cdp.merge_log.undoes IS 'of an unmerge: the merge_id that it took back';

PERFORM cdp._ensure_table('merge_refusal', $t$ (
	refusal_id  bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	at          timestamptz NOT NULL DEFAULT cdp.now(),
	reason      text NOT NULL CHECK (reason IN ('limit', 'customer_too_large', 'kept_apart', 'blocked_value', 'invalid_value',
		'generic_value', 'tombstone')),
	kind        text,
	identifier_id bigint,
	customer_id bigint,
	other_id    bigint,
	source      text,
	occurred_at timestamptz,
	times       bigint NOT NULL DEFAULT 1,
	last_at     timestamptz NOT NULL DEFAULT cdp.now()
) WITH (fillfactor = 70) $t$);
-- of an expression, as no index serves IS NOT DISTINCT FROM: who counts must not read everybody's refusals
CREATE INDEX IF NOT EXISTS merge_refusal_same ON cdp.merge_refusal (reason, coalesce(identifier_id, 0));
COMMENT ON TABLE cdp.merge_refusal IS 'Every merge not made and every value dropped, with the reason; never the value. The same refusal is counted in times; who counts never waits, so two who count at once make two rows.';
COMMENT ON COLUMN cdp.merge_refusal.refusal_id IS 'number of the row';
COMMENT ON COLUMN cdp.merge_refusal.at IS 'when it was refused first';
COMMENT ON COLUMN cdp.merge_refusal.reason IS 'limit, customer_too_large, kept_apart, generic_value: not merged; blocked_value, invalid_value, tombstone: a value that was dropped';
COMMENT ON COLUMN cdp.merge_refusal.kind IS 'whose limit forbade it, or the kind of the value dropped';
COMMENT ON COLUMN cdp.merge_refusal.identifier_id IS 'the identifier that was left out; NULL: a value that is none';
COMMENT ON COLUMN cdp.merge_refusal.customer_id IS 'who has that identifier';
COMMENT ON COLUMN cdp.merge_refusal.other_id IS 'who was refused it, the last time';
COMMENT ON COLUMN cdp.merge_refusal.source IS 'of the sighting; of a match its rule; NULL: nobody was named';
COMMENT ON COLUMN cdp.merge_refusal.occurred_at IS 'of the sighting that was refused, the last one';
COMMENT ON COLUMN cdp.merge_refusal.times IS 'how often';
COMMENT ON COLUMN cdp.merge_refusal.last_at IS 'when it was refused last';

PERFORM cdp._ensure_table('identifier_tombstone', $t$ (
	hash      bytea PRIMARY KEY,
	kind      text NOT NULL,
	erased_at timestamptz NOT NULL DEFAULT cdp.now()
) $t$);
COMMENT ON TABLE cdp.identifier_tombstone IS 'Identifiers that were erased and must not come back: SHA-256 over the salt in cdp.meta (key tombstone_salt, made with the first one), the kind and the normalised value, a zero byte between.';
COMMENT ON COLUMN cdp.identifier_tombstone.hash IS 'cdp._tombstone_hash(kind, value)';
COMMENT ON COLUMN cdp.identifier_tombstone.kind IS 'kind of the identifier';
COMMENT ON COLUMN cdp.identifier_tombstone.erased_at IS 'when';
CREATE OR REPLACE TRIGGER identifier_tombstone_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cdp.identifier_tombstone
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._rules_changed();

INSERT INTO cdp.identifier_kind (kind, priority, normalizer, own_profile) VALUES
	('customer_no',    1, NULL, true),
	('member_id',      2, NULL, true),
	('wechat_unionid', 3, NULL, true),
	('alipay_id',      4, NULL, true),
	('phone',          5, 'cdp.normalize_phone', false),
	('email',          6, 'cdp.normalize_email', false),
	('wechat_openid',  7, NULL, false),
	('device_id',      8, NULL, false),
	('anonymous_id',   9, NULL, false)
	ON CONFLICT (kind) DO NOTHING;
