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
CREATE TYPE cdp.audience (INPUT = cdp._audience_in, OUTPUT = cdp._audience_out,
	RECEIVE = cdp._audience_recv, SEND = cdp._audience_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = external);
COMMENT ON TYPE cdp.audience IS 'A set of ids from 0 to 2^63 - 1, packed (about a bit per id and less where ids are dense), written {1-5,9}: ids and ranges in any order, overlaps are fine; printed ascending, each id once. Equal sets are equal values. Errors: 22P02 for malformed text, 22003 for ids out of range, 54000 beyond 1 GB.';
COMMENT ON FUNCTION cdp._audience_in(cstring) IS 'internal: text form of cdp.audience; 22P02, 22003, 54000';
COMMENT ON FUNCTION cdp._audience_out(cdp.audience) IS 'internal: text form of cdp.audience';
COMMENT ON FUNCTION cdp._audience_recv(internal) IS 'internal: binary form of cdp.audience, a byte 1 and the portable 64-bit Roaring format; 22P03 when it is not sound';
COMMENT ON FUNCTION cdp._audience_send(cdp.audience) IS 'internal: binary form of cdp.audience';
CREATE TYPE cdp.tagset;
CREATE FUNCTION cdp._tagset_in(cstring) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_in';
CREATE FUNCTION cdp._tagset_out(cdp.tagset) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_out';
CREATE FUNCTION cdp._tagset_recv(internal) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_recv';
CREATE FUNCTION cdp._tagset_send(cdp.tagset) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_send';
CREATE FUNCTION cdp._tagset_typanalyze(internal) RETURNS boolean
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_typanalyze';
CREATE TYPE cdp.tagset (INPUT = cdp._tagset_in, OUTPUT = cdp._tagset_out,
	RECEIVE = cdp._tagset_recv, SEND = cdp._tagset_send, ANALYZE = cdp._tagset_typanalyze,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = extended);
COMMENT ON TYPE cdp.tagset IS 'What is known of a customer: entries name, name=value or name=value@valid_until with commas between them, such as vip, region.华东.上海, aov=1280.5, churn_risk=0.83@2026-12-31. A value is a number, a date or a text; levels of a name are parted by dots. Sorted by name, each name once: equal sets are equal bytes.';
COMMENT ON FUNCTION cdp._tagset_in(cstring) IS 'internal: text form of cdp.tagset. Errors: 22P02 with the position, 22003 for a number of more than 15 significant digits or out of range, 54000 above 4096 entries, 255 bytes or 16 levels';
COMMENT ON FUNCTION cdp._tagset_out(cdp.tagset) IS 'internal: canonical text form of cdp.tagset';
COMMENT ON FUNCTION cdp._tagset_recv(internal) IS 'internal: binary form of cdp.tagset; 22P03 when it is damaged';
COMMENT ON FUNCTION cdp._tagset_send(cdp.tagset) IS 'internal: binary form of cdp.tagset, see doc/tag.md';
COMMENT ON FUNCTION cdp._tagset_typanalyze(internal) IS 'internal: what ANALYZE keeps of a tagset column';
CREATE TYPE cdp.tagquery;
CREATE FUNCTION cdp._tagquery_in(cstring) RETURNS cdp.tagquery
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_in';
CREATE FUNCTION cdp._tagquery_out(cdp.tagquery) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_out';
CREATE FUNCTION cdp._tagquery_recv(internal) RETURNS cdp.tagquery
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_recv';
CREATE FUNCTION cdp._tagquery_send(cdp.tagquery) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagquery_send';
CREATE TYPE cdp.tagquery (INPUT = cdp._tagquery_in, OUTPUT = cdp._tagquery_out,
	RECEIVE = cdp._tagquery_recv, SEND = cdp._tagquery_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = extended);
COMMENT ON TYPE cdp.tagquery IS 'A question about tags, such as region.华东.* & (aov > 1000 | 高价值) & !churned. Terms: name (has the tag), name.* (it or any below), name = value with = != < <= > >=, name in (value, value), segment(name), * (everyone); signs in the order they bind: ! (not), & (and), | (or), parentheses. Values: number, date, text, and dates told from the time of evaluation in UTC: now, now-30d, now+2w, now-3mo, now-1y, now-12h. A term is true or false: false where the tag is missing, has expired or has a value of another kind; ! is the complement. At most 64 KiB of text, 4096 terms, 256 levels. Errors: 22P02 with position and hint, 22003, 54000, 54001. Binary form: a byte 1 and the text.';
COMMENT ON FUNCTION cdp._tagquery_in(cstring) IS 'internal: text form of cdp.tagquery; 22P02 with position and hint, 22003 for numbers, 54000 and 54001 above the limits';
COMMENT ON FUNCTION cdp._tagquery_out(cdp.tagquery) IS 'internal: canonical text form of cdp.tagquery';
COMMENT ON FUNCTION cdp._tagquery_recv(internal) IS 'internal: binary form of cdp.tagquery; 22P03 when it is not one';
COMMENT ON FUNCTION cdp._tagquery_send(cdp.tagquery) IS 'internal: binary form of cdp.tagquery';

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
CREATE OPERATOR cdp.= (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_eq,
	COMMUTATOR = OPERATOR(cdp.=), NEGATOR = OPERATOR(cdp.<>), RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES);
CREATE OPERATOR cdp.<> (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_ne,
	COMMUTATOR = OPERATOR(cdp.<>), NEGATOR = OPERATOR(cdp.=), RESTRICT = neqsel, JOIN = neqjoinsel);
CREATE OPERATOR cdp.< (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_lt,
	COMMUTATOR = OPERATOR(cdp.>), NEGATOR = OPERATOR(cdp.>=), RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
CREATE OPERATOR cdp.<= (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_le,
	COMMUTATOR = OPERATOR(cdp.>=), NEGATOR = OPERATOR(cdp.>), RESTRICT = scalarlesel, JOIN = scalarlejoinsel);
CREATE OPERATOR cdp.> (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_gt,
	COMMUTATOR = OPERATOR(cdp.<), NEGATOR = OPERATOR(cdp.<=), RESTRICT = scalargtsel, JOIN = scalargtjoinsel);
CREATE OPERATOR cdp.>= (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_ge,
	COMMUTATOR = OPERATOR(cdp.<=), NEGATOR = OPERATOR(cdp.<), RESTRICT = scalargesel, JOIN = scalargejoinsel);
CREATE OPERATOR cdp.+ (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagset, FUNCTION = cdp._tagset_add);
CREATE OPERATOR cdp.- (LEFTARG = cdp.tagset, RIGHTARG = text[], FUNCTION = cdp._tagset_remove);
COMMENT ON OPERATOR cdp.= (cdp.tagset, cdp.tagset) IS 'the same entries';
COMMENT ON OPERATOR cdp.<> (cdp.tagset, cdp.tagset) IS 'not the same entries';
COMMENT ON OPERATOR cdp.< (cdp.tagset, cdp.tagset) IS 'comes before, in the order of the btree class';
COMMENT ON OPERATOR cdp.<= (cdp.tagset, cdp.tagset) IS 'equal or before, in the order of the btree class';
COMMENT ON OPERATOR cdp.> (cdp.tagset, cdp.tagset) IS 'comes behind, in the order of the btree class';
COMMENT ON OPERATOR cdp.>= (cdp.tagset, cdp.tagset) IS 'equal or behind, in the order of the btree class';
COMMENT ON OPERATOR cdp.+ (cdp.tagset, cdp.tagset) IS 'entries of both; of a name that is in both, the entry of the right one';
COMMENT ON OPERATOR cdp.- (cdp.tagset, text[]) IS 'without these names (raw); region.* stands for region and everything below';
CREATE OPERATOR CLASS cdp.tagset_btree_ops DEFAULT FOR TYPE cdp.tagset USING btree AS
	OPERATOR 1 cdp.<, OPERATOR 2 cdp.<=, OPERATOR 3 cdp.=, OPERATOR 4 cdp.>=, OPERATOR 5 cdp.>,
	FUNCTION 1 cdp._tagset_cmp(cdp.tagset, cdp.tagset);
CREATE OPERATOR CLASS cdp.tagset_hash_ops DEFAULT FOR TYPE cdp.tagset USING hash AS
	OPERATOR 1 cdp.=, FUNCTION 1 cdp._tagset_hash(cdp.tagset), FUNCTION 2 cdp._tagset_hash_extended(cdp.tagset, bigint);
CREATE CAST (cdp.tagset AS jsonb) WITH FUNCTION cdp.tagset_to_jsonb(cdp.tagset);
CREATE CAST (jsonb AS cdp.tagset) WITH FUNCTION cdp.tagset_from_jsonb(jsonb);
CREATE OPERATOR cdp.@@ (LEFTARG = cdp.tagset, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagset_query, COMMUTATOR = OPERATOR(cdp.@@),
	RESTRICT = cdp._tagset_sel, JOIN = cdp._tagset_joinsel);
COMMENT ON OPERATOR cdp.@@(cdp.tagset, cdp.tagquery) IS 'does the query hold for these tags now (cdp.now())? 0A000 when it asks for a segment';
CREATE OPERATOR cdp.@@ (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagset, FUNCTION = cdp._query_tagset, COMMUTATOR = OPERATOR(cdp.@@),
	RESTRICT = cdp._tagset_sel, JOIN = cdp._tagset_joinsel);
COMMENT ON OPERATOR cdp.@@(cdp.tagquery, cdp.tagset) IS 'does the query hold for these tags now (cdp.now())? 0A000 when it asks for a segment';
CREATE OPERATOR cdp.& (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_and);
COMMENT ON OPERATOR cdp.&(cdp.tagquery, cdp.tagquery) IS 'both hold; 54000, 54001 above the limits of a query';
CREATE OPERATOR cdp.| (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_or);
COMMENT ON OPERATOR cdp.|(cdp.tagquery, cdp.tagquery) IS 'one of them holds, or both; 54000, 54001 above the limits of a query';
CREATE OPERATOR cdp.! (RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_not);
COMMENT ON OPERATOR cdp.!(NONE, cdp.tagquery) IS 'it does not hold; 54000, 54001 above the limits of a query';
CREATE OPERATOR cdp.= (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_eq, COMMUTATOR = OPERATOR(cdp.=),
	NEGATOR = OPERATOR(cdp.<>), RESTRICT = pg_catalog.eqsel, JOIN = pg_catalog.eqjoinsel, HASHES);
COMMENT ON OPERATOR cdp.=(cdp.tagquery, cdp.tagquery) IS 'equal: the same text, not the same meaning (a & b is not b & a)';
CREATE OPERATOR cdp.<> (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagquery, FUNCTION = cdp._tagquery_ne, COMMUTATOR = OPERATOR(cdp.<>),
	NEGATOR = OPERATOR(cdp.=), RESTRICT = pg_catalog.neqsel, JOIN = pg_catalog.neqjoinsel);
COMMENT ON OPERATOR cdp.<>(cdp.tagquery, cdp.tagquery) IS 'not equal';
CREATE OPERATOR CLASS cdp.tagquery_hash_ops DEFAULT FOR TYPE cdp.tagquery USING hash AS
	OPERATOR 1 cdp.=, FUNCTION 1 cdp._tagquery_hash(cdp.tagquery), FUNCTION 2 cdp._tagquery_hash_extended(cdp.tagquery, bigint);
CREATE OPERATOR CLASS cdp.tagset_ops DEFAULT FOR TYPE cdp.tagset USING gin AS
	OPERATOR 1 cdp.@@ (cdp.tagset, cdp.tagquery),
	FUNCTION 2 cdp._tagset_gin_extract(cdp.tagset, internal),
	FUNCTION 3 cdp._tagset_gin_extract_query(cdp.tagset, internal, int2, internal, internal, internal, internal),
	FUNCTION 6 cdp._tagset_gin_consistent(internal, int2, cdp.tagset, int4, internal, internal, internal),
	STORAGE bytea;
COMMENT ON OPERATOR CLASS cdp.tagset_ops USING gin IS 'tags @@ query: names, prefixes and text values come from the index alone; comparisons, negations and entries that expire are looked up in the row';

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
