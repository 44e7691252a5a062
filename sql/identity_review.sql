-- identity_review: matching over the customers, and the queue of what a person has to decide.
-- C: src/identity_review.c  Page: doc/identity_review.md  Tests: test/sql/identity_review.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.match_profiles(model text, auto_threshold float8 DEFAULT 0.99, review_threshold float8 DEFAULT 0.5,
	dry_run boolean DEFAULT true) RETURNS TABLE (left_id bigint, right_id bigint, probability float8, zone text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 1000 AS 'MODULE_PATHNAME', 'cdp_match_profiles';
COMMENT ON FUNCTION cdp.match_profiles(text, float8, float8, boolean) IS 'Finds customers who may be one, by a row of cdp.match_model, which is fitted first when it has not been. Pairs at or above auto_threshold that guarded clusters (cdp.cluster_pairs) hold together are zone auto, other pairs at or above review_threshold are zone review, the rest is nothing; likeliest first, left_id < right_id. What a person has decided, and what an apart or household link says, is not proposed again, by whatever ids the two are known now. dry_run: only tells, and exactly what the run would do: a pair at or above auto_threshold that a limit or the size of a customer will refuse is zone review already. Without it, auto pairs are merged with their evidence (those that a limit or apart forbids go to review), and review pairs become open rows of cdp.match_candidate: known ones get their new probability, open ones of this model that no longer reach review_threshold, or whose sides are one customer now, are closed. The texts of the model run as the role that wrote them, for callers who have its privileges. Errors: 22023 unknown model, threshold out of 0..1 or NaN, review above auto, records whose ids are no customers; 22004 NULL; 42501; those of fit_match; 25006 when it writes in a read-only transaction.';

CREATE OR REPLACE FUNCTION cdp._match_edges() RETURNS TABLE (left_id bigint, right_id bigint, probability float8)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_match_edges';
COMMENT ON FUNCTION cdp._match_edges() IS 'internal: the pairs that a running match_profiles() has scored, for cluster_pairs(); 55000 otherwise';

CREATE OR REPLACE FUNCTION cdp._check_match_model(comparisons jsonb, blocking text[], options jsonb) RETURNS void
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_check_match_model';
COMMENT ON FUNCTION cdp._check_match_model(jsonb, text[], jsonb) IS 'internal: 22023 or 42601 for what can never be a match model';

CREATE OR REPLACE FUNCTION cdp._match_model_apply() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- Whoever writes a text of a model is the role as which it runs; a change of it makes the fit void.
BEGIN
	IF TG_OP = 'INSERT' OR (NEW.records, NEW.comparisons, NEW.blocking, NEW.options) IS DISTINCT FROM (OLD.records, OLD.comparisons, OLD.blocking, OLD.options) THEN
		PERFORM cdp._check_match_model(NEW.comparisons, NEW.blocking, NEW.options);
		NEW.owner := current_user;
		IF TG_OP = 'UPDATE' AND NEW.fitted IS NOT DISTINCT FROM OLD.fitted THEN
			NEW.fitted := NULL;
		END IF;
	ELSE
		NEW.owner := OLD.owner;
	END IF;
	IF TG_OP = 'INSERT' OR NEW.fitted IS DISTINCT FROM OLD.fitted THEN
		NEW.fitted_at := CASE WHEN NEW.fitted IS NOT NULL THEN cdp.now() END;
	ELSE
		NEW.fitted_at := OLD.fitted_at;
	END IF;
	RETURN NEW;
END $$;
COMMENT ON FUNCTION cdp._match_model_apply() IS 'internal: trigger of cdp.match_model, checks it, sets owner and fitted_at';

-- @access
('function', 'match_profiles', 'EXECUTE', '{operator}'),
('function', 'decide_match', 'EXECUTE', '{operator}'),
('function', '_check_match_model', 'EXECUTE', '{operator}'),
('table', 'match_model', 'SELECT, INSERT, UPDATE, DELETE', '{operator}'),
('table', 'match_candidate', 'SELECT', '{reader}'),
('table', 'match_queue', 'SELECT', '{reader}'),

-- @data
PERFORM cdp._ensure_table('match_model', $t$ (
	name        text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{0,62}$'),
	records     text NOT NULL DEFAULT 'SELECT c.customer_id AS id, c.traits ->> ''name'' AS name, c.traits ->> ''birthday'' AS birthday, c.traits ->> ''gender'' AS gender, c.traits ->> ''city'' AS city, c.traits ->> ''address'' AS address FROM cdp.customer c',
	comparisons jsonb NOT NULL,
	blocking    text[] NOT NULL,
	options     jsonb NOT NULL DEFAULT '{}',
	fitted      jsonb,
	fitted_at   timestamptz,
	owner       name NOT NULL
) $t$);
CREATE OR REPLACE TRIGGER match_model_apply BEFORE INSERT OR UPDATE ON cdp.match_model
	FOR EACH ROW EXECUTE FUNCTION cdp._match_model_apply();
COMMENT ON TABLE cdp.match_model IS 'How customers are compared: one row per model, used by cdp.match_profiles(). The texts run with search_path = pg_catalog, pg_temp, so names outside of these have their schema.';
COMMENT ON COLUMN cdp.match_model.name IS 'by which cdp.match_profiles() is told it; match:NAME is the rule of its evidence';
COMMENT ON COLUMN cdp.match_model.records IS 'a SELECT with id = customer_id and the columns compared; the default reads name, birthday, gender, city and address from the traits';
COMMENT ON COLUMN cdp.match_model.comparisons IS 'as in cdp.fit_match()';
COMMENT ON COLUMN cdp.match_model.blocking IS 'as in cdp.fit_match()';
COMMENT ON COLUMN cdp.match_model.options IS 'as in cdp.fit_match()';
COMMENT ON COLUMN cdp.match_model.fitted IS 'what cdp.fit_match() returned; NULL: the next cdp.match_profiles() fits, and keeps it unless dry_run';
COMMENT ON COLUMN cdp.match_model.fitted_at IS 'when fitted was written; set by trigger';
COMMENT ON COLUMN cdp.match_model.owner IS 'role as which the texts run: who wrote them last; set by trigger';

PERFORM cdp._ensure_table('match_candidate', $t$ (
	candidate_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	left_id      bigint NOT NULL,
	right_id     bigint NOT NULL,
	model        text NOT NULL,
	weight       float8 NOT NULL,
	probability  float8 NOT NULL,
	levels       smallint[] NOT NULL,
	level_names  jsonb NOT NULL,
	status       text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'same', 'apart', 'household', 'refused', 'closed')),
	proposed_at  timestamptz NOT NULL DEFAULT cdp.now(),
	decided_by   name,
	decided_at   timestamptz,
	note         text,
	CHECK (left_id < right_id)
) $t$);
-- decided ones too: who decides while a matching runs is not asked again by it
CREATE UNIQUE INDEX IF NOT EXISTS match_candidate_pair ON cdp.match_candidate (left_id, right_id) WHERE status <> 'closed';
CREATE INDEX IF NOT EXISTS match_candidate_decided ON cdp.match_candidate (status) WHERE status NOT IN ('open', 'closed');
COMMENT ON TABLE cdp.match_candidate IS 'Pairs of customers that a person was asked about, and the answers. A pair once answered is never asked again.';
COMMENT ON COLUMN cdp.match_candidate.candidate_id IS 'what cdp.decide_match() takes';
COMMENT ON COLUMN cdp.match_candidate.left_id IS 'the smaller customer_id, as it was when the pair was proposed last';
COMMENT ON COLUMN cdp.match_candidate.right_id IS 'the greater one';
COMMENT ON COLUMN cdp.match_candidate.model IS 'row of cdp.match_model that proposed it last';
COMMENT ON COLUMN cdp.match_candidate.probability IS 'that the two are one person, 0 to 1';
COMMENT ON COLUMN cdp.match_candidate.weight IS 'log2 of the odds that the columns give, without lambda';
COMMENT ON COLUMN cdp.match_candidate.levels IS 'level per column of the model, in its order';
COMMENT ON COLUMN cdp.match_candidate.level_names IS 'the same in words: {"name": "close", "birthday": "equal"}';
COMMENT ON COLUMN cdp.match_candidate.status IS 'open; same, apart, household: what was decided; refused: decided same, but a limit or an apart forbids it; closed: became one customer otherwise, or no longer likely';
COMMENT ON COLUMN cdp.match_candidate.proposed_at IS 'when it was proposed first';
COMMENT ON COLUMN cdp.match_candidate.decided_at IS 'when it was decided or closed; NULL: it is open';
COMMENT ON COLUMN cdp.match_candidate.note IS 'what was said with the decision';
COMMENT ON COLUMN cdp.match_candidate.decided_by IS 'session_user of cdp.decide_match()';

-- @view
CREATE OR REPLACE VIEW cdp._match_decided AS
SELECT DISTINCT least(x.a, x.b) AS left_id, greatest(x.a, x.b) AS right_id FROM (
	SELECT cdp.customer_id(i.profile_id) AS a, cdp.customer_id(j.profile_id) AS b
	FROM cdp.identity_link l JOIN cdp.identifier i ON i.identifier_id = l.identifier_a JOIN cdp.identifier j ON j.identifier_id = l.identifier_b
	WHERE l.relation IN ('apart', 'household') AND l.revoked_at IS NULL
	UNION ALL
	SELECT cdp.customer_id(c.left_id), cdp.customer_id(c.right_id) FROM cdp.match_candidate c
	WHERE c.status IN ('same', 'apart', 'household', 'refused')) x
WHERE x.a <> x.b;
COMMENT ON VIEW cdp._match_decided IS 'internal: pairs of customers of whom it is decided whether they are one, by the ids of now; never proposed again';

CREATE OR REPLACE FUNCTION cdp._match_identifiers(customer_ids bigint[]) RETURNS TABLE (customer_id bigint, identifier_id bigint)
	LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT DISTINCT ON (c.given) c.given, i.identifier_id
	FROM (SELECT DISTINCT u.id AS given, cdp.customer_id(u.id) AS id FROM unnest(_match_identifiers.customer_ids) u(id)) c
	CROSS JOIN LATERAL (SELECT c.id AS profile_id UNION ALL SELECT a.profile_id FROM cdp.profile_alias a WHERE a.customer_id = c.id) p
	JOIN cdp.identifier i ON i.profile_id = p.profile_id
	LEFT JOIN cdp.identifier_kind k ON k.kind = i.kind
	ORDER BY c.given, i.valid_to IS NULL DESC, k.priority, i.kind, i.identifier_id;
END;
COMMENT ON FUNCTION cdp._match_identifiers(bigint[]) IS 'internal: the strongest identifier of each customer, live ones first, to which evidence about him is tied; no row for one who has none';

CREATE OR REPLACE FUNCTION cdp._match_link(left_id bigint, right_id bigint, identifiers bigint[], relation text, model text, weight float8,
	source text, reason text) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
-- The one place where matching touches identity: evidence between the strongest identifiers that both sides had, and
-- for 'same' the merge.  Answers false when a limit or an apart forbids it.
BEGIN
	IF relation = 'same' AND cdp.customer_id(left_id) <> cdp.customer_id(right_id) THEN
		RETURN cdp._merge_match(cdp.customer_id(left_id), cdp.customer_id(right_id), 'match:' || model, weight, source, reason, identifiers[1], identifiers[2]);
	END IF;
	-- same also when other evidence has made them one already: it holds when the other is taken back
	INSERT INTO cdp.identity_link (identifier_a, identifier_b, relation, rule, weight, source, occurred_at)
	SELECT least(identifiers[1], identifiers[2]), greatest(identifiers[1], identifiers[2]), relation, 'match:' || model, weight, source, cdp.now()
	WHERE identifiers[1] <> identifiers[2]
	ON CONFLICT DO NOTHING;
	RETURN true;
END $$;
COMMENT ON FUNCTION cdp._match_link(bigint, bigint, bigint[], text, text, float8, text, text) IS 'internal: writes evidence of a match (same, apart, household) between two identifiers and merges for same; false: a limit or an apart forbids it';

CREATE OR REPLACE FUNCTION cdp._match_write(model text, fitted jsonb, left_ids bigint[], right_ids bigint[], weights float8[],
	probabilities float8[], level_texts text[], zones text[]) RETURNS TABLE (ord bigint)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan
AS $$
-- Zones as match_profiles() found them, likeliest first; answers the places of auto pairs that were refused.
DECLARE
	p       record;
	refused bigint[] := '{}';
BEGIN
	-- one matching at a time; then everybody who may be merged, in the order of all verbs
	PERFORM pg_advisory_xact_lock(hashtextextended('cdp.match_profiles', 0));
	PERFORM FROM cdp.profile f WHERE f.profile_id IN (
		SELECT unnest(ARRAY[u.l, u.r]) FROM unnest(left_ids, right_ids, zones) u(l, r, zone) WHERE u.zone = 'auto')
		ORDER BY f.profile_id FOR NO KEY UPDATE;
	UPDATE cdp.match_model m SET fitted = _match_write.fitted WHERE m.name = model AND m.fitted IS NULL;
	-- now that nobody can decide otherwise
	FOR p IN
		WITH side AS MATERIALIZED (
			SELECT m.customer_id, m.identifier_id FROM cdp._match_identifiers(
				ARRAY(SELECT unnest(ARRAY[u.l, u.r]) FROM unnest(left_ids, right_ids, zones) u(l, r, zone) WHERE u.zone = 'auto')) m)
		SELECT u.l, u.r, u.weight, u.ord, ARRAY[a.identifier_id, b.identifier_id] AS identifiers
		FROM unnest(left_ids, right_ids, weights, zones) WITH ORDINALITY u(l, r, weight, zone, ord)
		CROSS JOIN LATERAL (SELECT cdp.customer_id(u.l) AS l, cdp.customer_id(u.r) AS r) i
		LEFT JOIN side a ON a.customer_id = u.l
		LEFT JOIN side b ON b.customer_id = u.r
		WHERE u.zone = 'auto' AND NOT EXISTS (SELECT FROM cdp._match_decided d WHERE (d.left_id, d.right_id) = (least(i.l, i.r), greatest(i.l, i.r)))
		ORDER BY u.ord
	LOOP
		-- evidence is between identifiers: who has none is a person's to judge
		IF p.identifiers[1] IS NULL OR p.identifiers[2] IS NULL
			OR NOT cdp._match_link(p.l, p.r, p.identifiers, 'same', model, p.weight, NULL, 'match:' || model) THEN
			refused := refused || p.ord;
		END IF;
	END LOOP;

	-- the queue by the ids of now: two rows that came to be one question are one, the older; one that was decided is none
	UPDATE cdp.match_candidate c SET status = 'closed', decided_at = cdp.now()
	FROM (SELECT o.candidate_id, row_number() OVER (PARTITION BY least(i.l, i.r), greatest(i.l, i.r) ORDER BY o.candidate_id) AS n, i.l = i.r AS one,
	             least(i.l, i.r) AS l, greatest(i.l, i.r) AS r
	      FROM cdp.match_candidate o CROSS JOIN LATERAL (SELECT cdp.customer_id(o.left_id) AS l, cdp.customer_id(o.right_id) AS r) i
	      WHERE o.status = 'open') x
	WHERE c.candidate_id = x.candidate_id AND (x.one OR x.n > 1
		OR EXISTS (SELECT FROM cdp._match_decided d WHERE (d.left_id, d.right_id) = (x.l, x.r)));
	UPDATE cdp.match_candidate c SET left_id = least(i.l, i.r), right_id = greatest(i.l, i.r)
	FROM (SELECT o.candidate_id, cdp.customer_id(o.left_id) AS l, cdp.customer_id(o.right_id) AS r FROM cdp.match_candidate o WHERE o.status = 'open') i
	WHERE c.candidate_id = i.candidate_id AND (c.left_id, c.right_id) <> (least(i.l, i.r), greatest(i.l, i.r));

	WITH proposal AS MATERIALIZED (
		SELECT DISTINCT ON (least(i.l, i.r), greatest(i.l, i.r)) least(i.l, i.r) AS l, greatest(i.l, i.r) AS r, u.weight, u.probability, u.levels::smallint[] AS levels
		FROM unnest(left_ids, right_ids, weights, probabilities, level_texts, zones) WITH ORDINALITY u(l, r, weight, probability, levels, zone, ord)
		CROSS JOIN LATERAL (SELECT cdp.customer_id(u.l) AS l, cdp.customer_id(u.r) AS r) i
		WHERE (u.zone = 'review' OR u.ord = ANY (refused)) AND i.l <> i.r
		ORDER BY least(i.l, i.r), greatest(i.l, i.r), u.ord
	), wanted AS MATERIALIZED (
		-- a merge of this run may have brought somebody here of whom it was decided
		SELECT q.* FROM proposal q WHERE NOT EXISTS (SELECT FROM cdp._match_decided d WHERE (d.left_id, d.right_id) = (q.l, q.r))
	), stale AS (
		UPDATE cdp.match_candidate c SET status = 'closed', decided_at = cdp.now()
		WHERE c.status = 'open' AND c.model = _match_write.model AND NOT EXISTS (SELECT FROM wanted w WHERE (w.l, w.r) = (c.left_id, c.right_id))
	)
	INSERT INTO cdp.match_candidate AS c (left_id, right_id, model, weight, probability, levels, level_names)
	SELECT w.l, w.r, model, w.weight, w.probability, w.levels,
		(SELECT jsonb_object_agg(e.col ->> 'column', v.level ->> 'name')
		 FROM jsonb_array_elements(fitted -> 'columns') WITH ORDINALITY e(col, i), jsonb_array_elements(e.col -> 'levels') v(level)
		 WHERE (v.level ->> 'level')::int = w.levels[e.i])
	FROM wanted w ORDER BY w.l, w.r
	ON CONFLICT (left_id, right_id) WHERE status <> 'closed' DO UPDATE SET model = excluded.model, weight = excluded.weight,
		probability = excluded.probability, levels = excluded.levels, level_names = excluded.level_names
		WHERE c.status = 'open' AND (c.model, c.weight, c.probability, c.levels, c.level_names)
			IS DISTINCT FROM (excluded.model, excluded.weight, excluded.probability, excluded.levels, excluded.level_names);
	RETURN QUERY SELECT unnest(refused);
END $$;
COMMENT ON FUNCTION cdp._match_write(text, jsonb, bigint[], bigint[], float8[], float8[], text[], text[]) IS 'internal: merges and queues what match_profiles() found; answers the places of the auto pairs that were refused';

CREATE OR REPLACE FUNCTION cdp.decide_match(candidate_id bigint, decision text, note text DEFAULT NULL) RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c        cdp.match_candidate;
	ids      bigint[];
	profiles bigint[];
BEGIN
	PERFORM cdp._require_version();
	IF candidate_id IS NULL OR decision IS NULL THEN
		RAISE EXCEPTION 'candidate_id and decision must not be NULL' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'View cdp.match_queue lists what is to be decided.';
	ELSIF decision NOT IN ('same', 'apart', 'household') THEN
		RAISE EXCEPTION 'there is no such decision' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'It is same (one customer), apart (never one customer) or household (two customers who live together).';
	END IF;
	SELECT * INTO c FROM cdp.match_candidate m WHERE m.candidate_id = decide_match.candidate_id;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no candidate %', candidate_id USING ERRCODE = 'invalid_parameter_value',
			HINT = 'View cdp.match_queue lists what is to be decided.';
	END IF;
	-- customers first, in the order of all verbs, then the row
	ids := ARRAY[cdp.customer_id(c.left_id), cdp.customer_id(c.right_id)];
	PERFORM FROM cdp.profile p WHERE p.profile_id = ANY (ids) ORDER BY p.profile_id FOR NO KEY UPDATE;
	SELECT * INTO c FROM cdp.match_candidate m WHERE m.candidate_id = decide_match.candidate_id FOR UPDATE;
	ids := ARRAY[cdp.customer_id(c.left_id), cdp.customer_id(c.right_id)];
	IF c.status = decision THEN
		RETURN c.status;
	ELSIF c.status NOT IN ('open', 'refused') AND NOT (c.status = 'closed' AND decision = 'same' AND ids[1] = ids[2]) THEN
		RAISE EXCEPTION 'candidate % is % already', candidate_id, c.status USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'A merge is taken back by cdp.unmerge_customer(), an apart by cdp.allow_merge(); a candidate is decided once.';
	ELSIF ids[1] = ids[2] AND decision <> 'same' THEN
		RAISE EXCEPTION 'the two of candidate % are one customer already', candidate_id USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'cdp.unmerge_customer() takes them apart.';
	END IF;
	profiles := cdp._profiles_of(ids[1]) || cdp._profiles_of(ids[2]);
	IF ids[1] <> ids[2] AND NOT cdp._match_link(ids[1], ids[2],
		ARRAY(SELECT m.identifier_id FROM cdp._match_identifiers(ids) m), decision, c.model, c.weight, 'review', coalesce(note, 'match:' || c.model)) THEN
		decision := 'refused';
	END IF;
	UPDATE cdp.match_candidate m SET status = decision, decided_by = session_user, decided_at = cdp.now(), note = coalesce(decide_match.note, m.note)
	WHERE m.candidate_id = c.candidate_id;
	-- the same question by other ids of the two is answered with it
	UPDATE cdp.match_candidate m SET status = 'closed', decided_at = cdp.now()
	WHERE m.status = 'open' AND m.left_id = ANY (profiles) AND m.right_id = ANY (profiles);
	RETURN decision;
END $$;
COMMENT ON FUNCTION cdp.decide_match(bigint, text, text) IS 'Answers a question of cdp.match_queue. decision: same (merges the two, the older id stays), apart (they stay two, also when identifiers bring them together later), household (two customers of one household: evidence that merges nobody). note: why, kept with it. Answers the status: the decision, or refused when a limit or an apart forbids the merge; repeat it when the limit has changed. The same decision again changes nothing. Any ids the two are known by now count. Errors: 22004 NULL; 22023 no such decision or candidate; 55000 decided otherwise before, or the two are one customer already.';

CREATE OR REPLACE VIEW cdp.match_queue AS
SELECT c.candidate_id, c.model, c.probability,
	c.probability * least(l.identifiers, r.identifiers) AS gain,
	c.level_names AS levels, i.left_id, l.traits AS left_traits, l.identifiers AS left_identifiers, i.right_id, r.traits AS right_traits,
	r.identifiers AS right_identifiers, c.proposed_at
FROM (SELECT DISTINCT ON (least(n.l, n.r), greatest(n.l, n.r)) o.*, least(n.l, n.r) AS now_left, greatest(n.l, n.r) AS now_right
	FROM cdp.match_candidate o CROSS JOIN LATERAL (SELECT cdp.customer_id(o.left_id) AS l, cdp.customer_id(o.right_id) AS r) n
	WHERE o.status = 'open' AND n.l <> n.r
	ORDER BY least(n.l, n.r), greatest(n.l, n.r), o.candidate_id) c
CROSS JOIN LATERAL (SELECT c.now_left AS left_id, c.now_right AS right_id) i
CROSS JOIN LATERAL (SELECT v.traits, (SELECT count(*) FROM cdp.identifier x WHERE x.profile_id = ANY (v.profile_ids) AND x.valid_to IS NULL) AS identifiers
	FROM cdp.customer v WHERE v.customer_id = i.left_id) l
CROSS JOIN LATERAL (SELECT v.traits, (SELECT count(*) FROM cdp.identifier x WHERE x.profile_id = ANY (v.profile_ids) AND x.valid_to IS NULL) AS identifiers
	FROM cdp.customer v WHERE v.customer_id = i.right_id) r
WHERE NOT EXISTS (SELECT FROM cdp._match_decided d WHERE (d.left_id, d.right_id) = (c.now_left, c.now_right))
ORDER BY gain DESC, c.probability DESC, c.candidate_id;
COMMENT ON VIEW cdp.match_queue IS 'What a person has to decide with cdp.decide_match(), one row per open pair: both customers side by side with their traits and the number of their identifiers (never the values), in words how alike each compared column is, highest gain first. gain = probability * identifiers of the smaller side: how many identifiers the answer same is expected to bring to their customer.';
COMMENT ON COLUMN cdp.match_queue.candidate_id IS 'what cdp.decide_match() takes';
COMMENT ON COLUMN cdp.match_queue.model IS 'row of cdp.match_model that proposed it last';
COMMENT ON COLUMN cdp.match_queue.probability IS 'that the two are one person, 0 to 1';
COMMENT ON COLUMN cdp.match_queue.left_id IS 'the smaller customer_id, as the two are known now';
COMMENT ON COLUMN cdp.match_queue.left_traits IS 'traits of the left customer';
COMMENT ON COLUMN cdp.match_queue.left_identifiers IS 'how many live identifiers he has';
COMMENT ON COLUMN cdp.match_queue.right_id IS 'the greater customer_id';
COMMENT ON COLUMN cdp.match_queue.right_traits IS 'traits of the right customer';
COMMENT ON COLUMN cdp.match_queue.right_identifiers IS 'how many live identifiers he has';
COMMENT ON COLUMN cdp.match_queue.proposed_at IS 'when it was proposed first';
COMMENT ON COLUMN cdp.match_queue.gain IS 'probability * identifiers of the smaller side';
COMMENT ON COLUMN cdp.match_queue.levels IS 'level in words per column of the model: {"name": "close", "birthday": "equal"}';
