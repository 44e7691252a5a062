-- audience: a set of customer ids, packed.
-- C: src/audience.c and audience_*.c  Page: doc/audience.md  Tests: test/sql/audience.sql, test/pgtap/audience.sql, test/t/021_audience_*.pl

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

-- @code
CREATE OR REPLACE FUNCTION cdp._audience_and(a cdp.audience, b cdp.audience) RETURNS cdp.audience
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_audience_and';
COMMENT ON FUNCTION cdp._audience_and(cdp.audience, cdp.audience) IS 'internal: operator &, and the state of cdp.audience_intersection';
CREATE OR REPLACE FUNCTION cdp._audience_or(a cdp.audience, b cdp.audience) RETURNS cdp.audience
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_audience_or';
COMMENT ON FUNCTION cdp._audience_or(cdp.audience, cdp.audience) IS 'internal: operator |';
CREATE OR REPLACE FUNCTION cdp._audience_minus(a cdp.audience, b cdp.audience) RETURNS cdp.audience
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_audience_minus';
COMMENT ON FUNCTION cdp._audience_minus(cdp.audience, cdp.audience) IS 'internal: operator -';
CREATE OR REPLACE FUNCTION cdp._audience_xor(a cdp.audience, b cdp.audience) RETURNS cdp.audience
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_audience_xor';
COMMENT ON FUNCTION cdp._audience_xor(cdp.audience, cdp.audience) IS 'internal: operator #';
CREATE OR REPLACE FUNCTION cdp._audience_overlaps(a cdp.audience, b cdp.audience) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 50 AS 'MODULE_PATHNAME', 'cdp_audience_overlaps';
COMMENT ON FUNCTION cdp._audience_overlaps(cdp.audience, cdp.audience) IS 'internal: operator &&';
CREATE OR REPLACE FUNCTION cdp._audience_contains(a cdp.audience, id bigint) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_audience_contains';
COMMENT ON FUNCTION cdp._audience_contains(cdp.audience, bigint) IS 'internal: operator @>';
CREATE OR REPLACE FUNCTION cdp._audience_contained(id bigint, a cdp.audience) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_audience_contained';
COMMENT ON FUNCTION cdp._audience_contained(bigint, cdp.audience) IS 'internal: operator <@';
CREATE OR REPLACE FUNCTION cdp._audience_eq(a cdp.audience, b cdp.audience) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_audience_eq';
COMMENT ON FUNCTION cdp._audience_eq(cdp.audience, cdp.audience) IS 'internal: operator =';
CREATE OR REPLACE FUNCTION cdp._audience_ne(a cdp.audience, b cdp.audience) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_audience_ne';
COMMENT ON FUNCTION cdp._audience_ne(cdp.audience, cdp.audience) IS 'internal: operator <>';
CREATE OR REPLACE FUNCTION cdp._audience_hash(a cdp.audience) RETURNS int
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_audience_hash';
COMMENT ON FUNCTION cdp._audience_hash(cdp.audience) IS 'internal: hash of an audience';
CREATE OR REPLACE FUNCTION cdp._audience_hash_extended(a cdp.audience, seed bigint) RETURNS bigint
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'cdp_audience_hash_extended';
COMMENT ON FUNCTION cdp._audience_hash_extended(cdp.audience, bigint) IS 'internal: hash of an audience with a seed';

CREATE OR REPLACE FUNCTION cdp._audience_from_array(ids bigint[]) RETURNS cdp.audience
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_audience_from_array';
COMMENT ON FUNCTION cdp._audience_from_array(bigint[]) IS 'internal: cast of bigint[] to cdp.audience, ids in any order, of any number of dimensions; 22004 for a NULL in it, 22003 for a negative id';
CREATE OR REPLACE FUNCTION cdp._audience_to_array(a cdp.audience) RETURNS bigint[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_audience_to_array';
COMMENT ON FUNCTION cdp._audience_to_array(cdp.audience) IS 'internal: cast of cdp.audience to bigint[], ascending; 54000 beyond 134 million ids';
CREATE OR REPLACE FUNCTION cdp._audience_from_roaring(b bytea) RETURNS cdp.audience
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_audience_from_roaring';
COMMENT ON FUNCTION cdp._audience_from_roaring(bytea) IS 'internal: cast of bytea to cdp.audience; 22P03 when it is not the portable 32-bit Roaring format';
CREATE OR REPLACE FUNCTION cdp._audience_to_roaring(a cdp.audience) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_audience_to_roaring';
COMMENT ON FUNCTION cdp._audience_to_roaring(cdp.audience) IS 'internal: cast of cdp.audience to bytea; 22003 when an id is 2^32 or more';

CREATE OR REPLACE FUNCTION cdp.audience_count(a cdp.audience) RETURNS bigint
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 2 AS 'MODULE_PATHNAME', 'cdp_audience_count';
COMMENT ON FUNCTION cdp.audience_count(cdp.audience) IS 'Number of ids. It stands at the front of a value, so a large stored audience is not read as a whole. NULL for NULL.';
CREATE OR REPLACE FUNCTION cdp.audience_ids(a cdp.audience) RETURNS SETOF bigint
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000 ROWS 10000 AS 'MODULE_PATHNAME', 'cdp_audience_ids';
COMMENT ON FUNCTION cdp.audience_ids(cdp.audience) IS 'The ids, ascending, a row each; in FROM they go through disk beyond work_mem, in a select list they come one by one. No rows for NULL.';
CREATE OR REPLACE FUNCTION cdp.audience_sample(a cdp.audience, n int, seed int) RETURNS SETOF bigint
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 1000 ROWS 1000 AS 'MODULE_PATHNAME', 'cdp_audience_sample';
COMMENT ON FUNCTION cdp.audience_sample(cdp.audience, int, int) IS 'n ids by chance, ascending, without repetition; all of them when there are fewer. The same seed gives the same ids, on every server, and a larger n those of a smaller n and more: they are the n ids with the smallest m(id # m(seed)), unsigned, m being the finalizer of splitmix64 (Steele, Lea, Flood 2014). No rows when a is NULL. Errors: 22023 for n below 1, 22004 when n or seed is NULL.';
CREATE OR REPLACE FUNCTION cdp.audience_to_roaring64(a cdp.audience) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_audience_to_roaring64';
COMMENT ON FUNCTION cdp.audience_to_roaring64(cdp.audience) IS 'The portable 64-bit Roaring format (public specification at roaringbitmap.org): a count of 8 bytes, then per upper half of ids 4 bytes and the portable 32-bit format of the lower halves. a::bytea is the 32-bit format. NULL for NULL.';
CREATE OR REPLACE FUNCTION cdp.audience_from_roaring64(b bytea) RETURNS cdp.audience
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_audience_from_roaring64';
COMMENT ON FUNCTION cdp.audience_from_roaring64(bytea) IS 'The audience of bytes in the portable 64-bit Roaring format. b::cdp.audience reads the 32-bit format. NULL for NULL. Errors: 22P03 when the bytes are not sound in every respect, 22003 for ids of 2^63 and more.';

CREATE OR REPLACE FUNCTION cdp._audience_check(a cdp.audience) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'cdp_audience_check_sql';
COMMENT ON FUNCTION cdp._audience_check(cdp.audience) IS 'internal: NULL when the bytes of an audience are sound, otherwise what is wrong with them; for tests and for values that a damaged disk gave back';
CREATE OR REPLACE FUNCTION cdp._audience_add(state cdp.audience, id bigint) RETURNS cdp.audience
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_audience_add';
COMMENT ON FUNCTION cdp._audience_add(cdp.audience, bigint) IS 'internal: an id into the state of cdp.audience_agg, in place; 22003 for a negative id';
CREATE OR REPLACE FUNCTION cdp._audience_add_all(state cdp.audience, a cdp.audience) RETURNS cdp.audience
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 50 AS 'MODULE_PATHNAME', 'cdp_audience_add_all';
COMMENT ON FUNCTION cdp._audience_add_all(cdp.audience, cdp.audience) IS 'internal: the ids of an audience into the state of cdp.audience_union, in place';

CREATE OR REPLACE AGGREGATE cdp.audience_agg(id bigint) (
	SFUNC = cdp._audience_add, STYPE = cdp.audience, SSPACE = 4096, INITCOND = '{}',
	COMBINEFUNC = cdp._audience_add_all, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.audience_agg(bigint) IS 'The set of all ids, in any order; fastest when they ascend. NULL is skipped; {} without a row, never NULL. Errors: 22003 for a negative id.';
CREATE OR REPLACE AGGREGATE cdp.audience_union(a cdp.audience) (
	SFUNC = cdp._audience_add_all, STYPE = cdp.audience, SSPACE = 16384, INITCOND = '{}',
	COMBINEFUNC = cdp._audience_add_all, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.audience_union(cdp.audience) IS 'The ids that are in any of the audiences. NULL is skipped; {} without a row, never NULL.';
CREATE OR REPLACE AGGREGATE cdp.audience_intersection(a cdp.audience) (
	SFUNC = cdp._audience_and, STYPE = cdp.audience, SSPACE = 16384,
	COMBINEFUNC = cdp._audience_and, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp.audience_intersection(cdp.audience) IS 'The ids that are in all of the audiences. NULL is skipped; NULL without a row: what is in all of no sets would be everything.';

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

-- @access
('function', 'audience_count', 'EXECUTE', '{public}'),
('function', 'audience_ids', 'EXECUTE', '{public}'),
('function', 'audience_sample', 'EXECUTE', '{public}'),
('function', 'audience_to_roaring64', 'EXECUTE', '{public}'),
('function', 'audience_from_roaring64', 'EXECUTE', '{public}'),
('function', 'audience_agg', 'EXECUTE', '{public}'),
('function', 'audience_union', 'EXECUTE', '{public}'),
('function', 'audience_intersection', 'EXECUTE', '{public}'),
-- behind operators and casts, which ask for the right as any call does
('function', '_audience_and', 'EXECUTE', '{public}'),
('function', '_audience_or', 'EXECUTE', '{public}'),
('function', '_audience_minus', 'EXECUTE', '{public}'),
('function', '_audience_xor', 'EXECUTE', '{public}'),
('function', '_audience_overlaps', 'EXECUTE', '{public}'),
('function', '_audience_contains', 'EXECUTE', '{public}'),
('function', '_audience_contained', 'EXECUTE', '{public}'),
('function', '_audience_eq', 'EXECUTE', '{public}'),
('function', '_audience_ne', 'EXECUTE', '{public}'),
('function', '_audience_hash', 'EXECUTE', '{public}'),
('function', '_audience_hash_extended', 'EXECUTE', '{public}'),
('function', '_audience_from_array', 'EXECUTE', '{public}'),
('function', '_audience_to_array', 'EXECUTE', '{public}'),
('function', '_audience_from_roaring', 'EXECUTE', '{public}'),
('function', '_audience_to_roaring', 'EXECUTE', '{public}'),
