-- One line per table of schema cdp: number of rows and a checksum of what is in them, whatever the order of the columns.
\pset format unaligned
\pset tuples_only on
SET timezone = 'UTC';
SELECT format($$SELECT %L, count(*), md5(coalesce(string_agg(to_jsonb(t)::text, E'\n' ORDER BY to_jsonb(t)::text COLLATE "C"), '')) FROM %s t$$, c.oid::regclass, c.oid::regclass)
FROM pg_class c WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY c.relname COLLATE "C" \gexec
