-- 0.1.0 to 0.2.0: what one step needs beside the modules' own sections, see sql/assemble.sh.

-- @drop

-- @type
CREATE TYPE cdp.audience;
CREATE FUNCTION cdp._audience_in(cstring) RETURNS cdp.audience
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_audience_in';
CREATE FUNCTION cdp._audience_out(cdp.audience) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_audience_out';
CREATE FUNCTION cdp._audience_recv(internal) RETURNS cdp.audience
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_audience_recv';
CREATE FUNCTION cdp._audience_send(cdp.audience) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_audience_send';
-- external: containers are in their shortest form already, pglz takes time and hardly any byte off; and what is not
-- compressed can be read in parts
CREATE TYPE cdp.audience (INPUT = cdp._audience_in, OUTPUT = cdp._audience_out,
	RECEIVE = cdp._audience_recv, SEND = cdp._audience_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = external);
COMMENT ON TYPE cdp.audience IS 'A set of ids from 0 to 2^63 - 1, packed (about a bit per id and less where ids are dense), written {1-5,9}: ids and ranges in any order, overlaps are fine; printed ascending, each id once. Equal sets are equal values. Errors: 22P02 for malformed text, 22003 for ids out of range, 54000 beyond 1 GB.';
COMMENT ON FUNCTION cdp._audience_in(cstring) IS 'internal: text form of cdp.audience; 22P02, 22003, 54000';
COMMENT ON FUNCTION cdp._audience_out(cdp.audience) IS 'internal: text form of cdp.audience';
COMMENT ON FUNCTION cdp._audience_recv(internal) IS 'internal: binary form of cdp.audience, a byte 1 and the portable 64-bit Roaring format; 22P03 when it is not sound';
COMMENT ON FUNCTION cdp._audience_send(cdp.audience) IS 'internal: binary form of cdp.audience';

-- @bind
CREATE OPERATOR cdp.& (FUNCTION = cdp._audience_and, LEFTARG = cdp.audience, RIGHTARG = cdp.audience, COMMUTATOR = OPERATOR(cdp.&));
COMMENT ON OPERATOR cdp.& (cdp.audience, cdp.audience) IS 'ids that are in both';
CREATE OPERATOR cdp.| (FUNCTION = cdp._audience_or, LEFTARG = cdp.audience, RIGHTARG = cdp.audience, COMMUTATOR = OPERATOR(cdp.|));
COMMENT ON OPERATOR cdp.| (cdp.audience, cdp.audience) IS 'ids that are in one of them or in both';
CREATE OPERATOR cdp.- (FUNCTION = cdp._audience_minus, LEFTARG = cdp.audience, RIGHTARG = cdp.audience);
COMMENT ON OPERATOR cdp.- (cdp.audience, cdp.audience) IS 'ids of the left one that are not in the right one';
CREATE OPERATOR cdp.# (FUNCTION = cdp._audience_xor, LEFTARG = cdp.audience, RIGHTARG = cdp.audience, COMMUTATOR = OPERATOR(cdp.#));
COMMENT ON OPERATOR cdp.# (cdp.audience, cdp.audience) IS 'ids that are in one of them only';
CREATE OPERATOR cdp.&& (FUNCTION = cdp._audience_overlaps, LEFTARG = cdp.audience, RIGHTARG = cdp.audience, COMMUTATOR = OPERATOR(cdp.&&),
	RESTRICT = contsel, JOIN = contjoinsel);
COMMENT ON OPERATOR cdp.&& (cdp.audience, cdp.audience) IS 'have they an id in common?';
CREATE OPERATOR cdp.@> (FUNCTION = cdp._audience_contains, LEFTARG = cdp.audience, RIGHTARG = bigint, COMMUTATOR = OPERATOR(cdp.<@),
	RESTRICT = contsel, JOIN = contjoinsel);
COMMENT ON OPERATOR cdp.@> (cdp.audience, bigint) IS 'is the id in the audience?';
CREATE OPERATOR cdp.<@ (FUNCTION = cdp._audience_contained, LEFTARG = bigint, RIGHTARG = cdp.audience, COMMUTATOR = OPERATOR(cdp.@>),
	RESTRICT = contsel, JOIN = contjoinsel);
COMMENT ON OPERATOR cdp.<@ (bigint, cdp.audience) IS 'is the id in the audience?';
CREATE OPERATOR cdp.= (FUNCTION = cdp._audience_eq, LEFTARG = cdp.audience, RIGHTARG = cdp.audience, COMMUTATOR = OPERATOR(cdp.=), NEGATOR = OPERATOR(cdp.<>),
	RESTRICT = eqsel, JOIN = eqjoinsel, HASHES);
COMMENT ON OPERATOR cdp.= (cdp.audience, cdp.audience) IS 'the same ids?';
CREATE OPERATOR cdp.<> (FUNCTION = cdp._audience_ne, LEFTARG = cdp.audience, RIGHTARG = cdp.audience, COMMUTATOR = OPERATOR(cdp.<>), NEGATOR = OPERATOR(cdp.=),
	RESTRICT = neqsel, JOIN = neqjoinsel);
COMMENT ON OPERATOR cdp.<> (cdp.audience, cdp.audience) IS 'other ids?';
CREATE OPERATOR CLASS cdp.audience_hash_ops DEFAULT FOR TYPE cdp.audience USING hash AS
	OPERATOR 1 cdp.=, FUNCTION 1 cdp._audience_hash(cdp.audience), FUNCTION 2 cdp._audience_hash_extended(cdp.audience, bigint);
COMMENT ON OPERATOR CLASS cdp.audience_hash_ops USING hash IS 'equality of audiences: GROUP BY, DISTINCT, hash joins';
COMMENT ON OPERATOR FAMILY cdp.audience_hash_ops USING hash IS 'equality of audiences';

CREATE CAST (bigint[] AS cdp.audience) WITH FUNCTION cdp._audience_from_array(bigint[]) AS ASSIGNMENT;
COMMENT ON CAST (bigint[] AS cdp.audience) IS 'the set of the ids of an array';
CREATE CAST (cdp.audience AS bigint[]) WITH FUNCTION cdp._audience_to_array(cdp.audience);
COMMENT ON CAST (cdp.audience AS bigint[]) IS 'ids ascending';
CREATE CAST (bytea AS cdp.audience) WITH FUNCTION cdp._audience_from_roaring(bytea);
COMMENT ON CAST (bytea AS cdp.audience) IS 'portable 32-bit Roaring format';
CREATE CAST (cdp.audience AS bytea) WITH FUNCTION cdp._audience_to_roaring(cdp.audience);
COMMENT ON CAST (cdp.audience AS bytea) IS 'portable 32-bit Roaring format; ids below 2^32 only';

-- @data
-- 0.1.0 had evidence for identifiers of different profiles only; what is in one profile was seen together, too
INSERT INTO cdp.identity_link (identifier_a, identifier_b, rule, source, occurred_at)
	SELECT a.identifier_id, b.identifier_id, CASE WHEN (ka.priority, a.kind, a.value) < (kb.priority, b.kind, b.value)
			THEN a.kind || '+' || b.kind ELSE b.kind || '+' || a.kind END, b.source, greatest(a.first_seen, b.first_seen)
	FROM cdp.identifier a JOIN cdp.identifier b ON b.profile_id = a.profile_id AND b.identifier_id > a.identifier_id
	JOIN cdp.identifier_kind ka ON ka.kind = a.kind JOIN cdp.identifier_kind kb ON kb.kind = b.kind
	WHERE a.valid_to IS NULL AND b.valid_to IS NULL
	ON CONFLICT DO NOTHING;
-- made again without the refused pairs
DROP INDEX IF EXISTS cdp.identity_link_live;
ALTER TABLE cdp.merge_refusal SET (fillfactor = 70);
-- values that mean nothing: for the kinds that have no such rule of their own
ALTER TABLE cdp.identifier_kind ALTER COLUMN blocked_pattern SET DEFAULT '^[-:. ]*0[-:. ]*0[-:. 0]*$',
	ALTER COLUMN blocked_values SET DEFAULT '{-1,"null",undefined,none,unknown,anonymous,test,n/a,无,未知}';
UPDATE cdp.identifier_kind SET blocked_pattern = DEFAULT, blocked_values = DEFAULT WHERE blocked_pattern IS NULL AND blocked_values = '{}';
