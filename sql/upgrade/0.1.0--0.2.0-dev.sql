-- 0.1.0 to 0.2.0: what one step needs beside the modules' own sections, see sql/assemble.sh.

-- @drop

-- @type

-- @bind

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
