-- identity_unmerge: a merge is taken back, exactly.
-- C: src/identity_unmerge.c  Page: doc/identity_unmerge.md  Tests: test/sql/identity_unmerge.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.unmerge_customer(profile_id bigint, reason text, merge_id bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cdp_unmerge_customer';
COMMENT ON FUNCTION cdp.unmerge_customer(bigint, text, bigint) IS 'Takes a merge back: the one that merge_id names, else the last that brought the side of this profile in; for the One ID itself the last of that customer. Both sides are as they were, what came later goes where its own evidence leads; the sides stay apart until cdp.allow_merge(). Answers the customer of the profile''s side. A profile that is merged with nobody is answered as it is, and nothing is written. reason: for cdp.merge_log; NULL: none. Errors: 22004 NULL profile, 22023 unknown profile, or a merge that is not of this customer or was taken back; 40001; 25006.';

CREATE OR REPLACE FUNCTION cdp.preview_unmerge(profile_id bigint, merge_id bigint DEFAULT NULL)
	RETURNS TABLE (profile_id bigint, customer_before bigint, customer_after bigint)
	LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_preview_unmerge';
COMMENT ON FUNCTION cdp.preview_unmerge(bigint, bigint) IS 'The profiles that unmerge_customer() with the same arguments would give to another customer, ascending; none: it would do nothing. Writes nothing. Errors: 22004, 22023 as unmerge_customer().';

-- @access
('function', 'unmerge_customer', 'EXECUTE', '{operator}'),
('function', 'preview_unmerge', 'EXECUTE', '{reader}'),
