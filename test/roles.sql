-- The body of doc/roles.md: a line per rule of access, what each kind of user may do.  make docs writes the page with
-- it and test/pgtap/access.sql compares.  reader is part of operator, admin has everything that any kind has.
SELECT line FROM (
	SELECT r.object_type = 'function' AS is_verb, r.object,
	       format('| `cdp.%s` | %s |', r.object || CASE r.object_type WHEN 'function' THEN '()' ELSE '' END,
	              string_agg(coalesce(
	                  (SELECT string_agg(DISTINCT CASE p WHEN 'EXECUTE' THEN 'yes' ELSE p END, ', ') FROM cdp._access_rules() a, regexp_split_to_table(a.privileges, ', *(?![^(]*\))') p
	                   WHERE (a.object_type, a.object) = (r.object_type, r.object)
	                     AND (a.kinds && k.has OR 'public' = ANY (a.kinds))), '–'), ' | ' ORDER BY k.ord)) AS line
	FROM (SELECT DISTINCT object_type, object FROM cdp._access_rules()) r,
	     (VALUES (1, '{public}'::text[]), (2, '{reader}'), (3, '{application}'), (4, '{reader,operator}'),
	             (5, '{reader,application,operator,admin}')) AS k(ord, has)
	GROUP BY r.object_type, r.object
) t ORDER BY is_verb DESC, object COLLATE "C", line COLLATE "C"
