-- 0.1.0 to 0.2.0: what one step needs beside the modules' own sections, see sql/assemble.sh.

-- @drop

-- @type
CREATE TYPE cdp.tagset;
CREATE FUNCTION cdp._tagset_in(cstring) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_in';
CREATE FUNCTION cdp._tagset_out(cdp.tagset) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_out';
CREATE FUNCTION cdp._tagset_recv(internal) RETURNS cdp.tagset
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_recv';
CREATE FUNCTION cdp._tagset_send(cdp.tagset) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_tagset_send';
CREATE TYPE cdp.tagset (INPUT = cdp._tagset_in, OUTPUT = cdp._tagset_out,
	RECEIVE = cdp._tagset_recv, SEND = cdp._tagset_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = extended);
COMMENT ON TYPE cdp.tagset IS 'What is known of a customer: entries name, name=value or name=value@valid_until with commas between them, such as vip, region.华东.上海, aov=1280.5, churn_risk=0.83@2026-12-31. A value is a number, a date or a text; levels of a name are parted by dots. Sorted by name, each name once: equal sets are equal bytes.';
COMMENT ON FUNCTION cdp._tagset_in(cstring) IS 'internal: text form of cdp.tagset. Errors: 22P02 with the position, 22003 for a number of more than 15 significant digits or out of range, 54000 above 4096 entries, 255 bytes or 16 levels';
COMMENT ON FUNCTION cdp._tagset_out(cdp.tagset) IS 'internal: canonical text form of cdp.tagset';
COMMENT ON FUNCTION cdp._tagset_recv(internal) IS 'internal: binary form of cdp.tagset; 22P03 when it is damaged';
COMMENT ON FUNCTION cdp._tagset_send(cdp.tagset) IS 'internal: binary form of cdp.tagset, see doc/tag.md';

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
	RESTRICT = pg_catalog.matchingsel, JOIN = pg_catalog.matchingjoinsel);
COMMENT ON OPERATOR cdp.@@(cdp.tagset, cdp.tagquery) IS 'does the query hold for these tags now (cdp.now())? 0A000 when it asks for a segment';
CREATE OPERATOR cdp.@@ (LEFTARG = cdp.tagquery, RIGHTARG = cdp.tagset, FUNCTION = cdp._query_tagset, COMMUTATOR = OPERATOR(cdp.@@),
	RESTRICT = pg_catalog.matchingsel, JOIN = pg_catalog.matchingjoinsel);
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
