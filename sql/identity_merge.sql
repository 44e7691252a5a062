-- identity_merge: an operator makes two customers one.
-- C: src/identity_merge.c, src/identity_step.c  Page: doc/identity_merge.md  Tests: test/sql/identity_merge.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.merge_customers(winner bigint, loser bigint, reason text, override_limits boolean DEFAULT false)
	RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_merge_customers';
COMMENT ON FUNCTION cdp.merge_customers(bigint, bigint, text, boolean) IS 'Makes two customers one and answers its id, which is the winner''s. winner, loser: any id that ever was theirs; when they are one already nothing is written. reason: why, for cdp.merge_log; NULL: none. override_limits: true: also when a limit of a kind or the size of a customer forbids it, a re-check then lets it be; false or NULL: not. Writes a link of rule manual between the strongest identifiers of both. Errors: LC102 a limit or an earlier unmerge forbids it, the detail says which; 22023 NULL or unknown id, or twice the same; 55000 a side without identifier; 40001; 25006.';

CREATE OR REPLACE FUNCTION cdp._merge_match(left_id bigint, right_id bigint, rule text, weight float8, source text, reason text,
	identifier_a bigint DEFAULT NULL, identifier_b bigint DEFAULT NULL) RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_merge_match';
COMMENT ON FUNCTION cdp._merge_match(bigint, bigint, text, float8, text, text, bigint, bigint) IS 'internal: merge_customers for evidence that was weighed, between two identifiers of theirs (NULL: the strongest); the older id stays; false, and noted as refused evidence, when a limit or a judgement forbids it';

CREATE OR REPLACE FUNCTION cdp.preview_merge(a bigint, b bigint, OUT allowed boolean, OUT violations jsonb, OUT profiles bigint,
	OUT identifiers bigint)
	LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_preview_merge';
COMMENT ON FUNCTION cdp.preview_merge(bigint, bigint) IS 'What merge_customers(a, b) would meet: allowed; violations, an array like [{"reason": "limit", "kind": "phone", "identifiers": 6, "max": 5}], reason also customer_too_large or kept_apart; how many profiles and live identifiers the one customer would have. Writes nothing. Errors: 22023 NULL or unknown id, or twice the same.';

CREATE OR REPLACE FUNCTION cdp.allow_merge(a bigint, b bigint, reason text) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_allow_merge';
COMMENT ON FUNCTION cdp.allow_merge(bigint, bigint, text) IS 'Two customers that were taken apart may become one again, when new evidence or an operator says so; merges nothing itself. a, b: any id of theirs. reason: kept with the links; NULL: none. Answers how many apart links it revoked, 0 when none is between them. Errors: 22004 NULL id; 22023 unknown id or twice the same; 40001; 25006.';

CREATE OR REPLACE FUNCTION cdp.detach_identifier(kind text, value text, reason text) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_detach_identifier';
COMMENT ON FUNCTION cdp.detach_identifier(text, text, text) IS 'The identifier means its customer no more: its row is closed and stays as history, its next sighting opens a new one. What it brought together stays together. kind: row of cdp.identifier_kind. value: as people write it, it is normalised. reason: for cdp.merge_log; NULL: none. Answers the customer who had it, NULL when nobody had. Errors: 22004 NULL kind or value; 22023 unknown kind; 40001; 25006.';

-- @access
('function', 'merge_customers', 'EXECUTE', '{operator}'),
('function', 'preview_merge', 'EXECUTE', '{reader}'),
('function', 'allow_merge', 'EXECUTE', '{operator}'),
('function', 'detach_identifier', 'EXECUTE', '{operator}'),
('table', 'merge_refusal', 'SELECT', '{operator}'),
('table', 'identity_link', 'SELECT', '{operator}'),
