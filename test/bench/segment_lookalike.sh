#!/bin/bash
# Lift of 200 tags and lookalikes among 2 million customers (SCALE=10: 10 million), rates as in tag.sh, beside the same
# tables made by GROUP BY over int[].  The seed is t30 and one in three of t20; then 20,000 customers with changes that
# are not merged.
set -euo pipefail
n=$((${SCALE:-2} * 1000000))
psql -XAtq -v ON_ERROR_STOP=1 -v n="$n" <<'X'
SET client_min_messages = warning;
SET synchronous_commit = off;
SET work_mem = '256MB';
CREATE FUNCTION rate(k int) RETURNS float8 LANGUAGE sql IMMUTABLE
	AS $$ SELECT greatest(0.0005, least(0.9, 5.5 / k * (1 - k / 199.0))) $$;
SELECT setseed(0.42) IS NULL AS seeded \gset
CREATE UNLOGGED TABLE fact AS
	SELECT i::bigint AS id, ARRAY(SELECT k::int FROM unnest(r.rates) WITH ORDINALITY t(p, k) WHERE random() < p AND i > 0) AS tags
	FROM generate_series(1, :n) i, (SELECT array_agg(rate(k) ORDER BY k) AS rates FROM generate_series(1, 200) k) r;
INSERT INTO cdp.profile (profile_id) SELECT id FROM fact ORDER BY id;
ALTER TABLE cdp.profile_tag DISABLE TRIGGER USER;
INSERT INTO cdp.profile_tag (profile_id, tags) SELECT id, ('t' || array_to_string(tags, ', t'))::cdp.tagset FROM fact WHERE tags <> '{}' ORDER BY id;
ALTER TABLE cdp.profile_tag ENABLE TRIGGER USER;
SELECT cdp._set_horizon('infinity');
CALL cdp.merge_tags();
VACUUM ANALYZE cdp.profile_tag;
VACUUM ANALYZE cdp.tag_bits;
VACUUM ANALYZE cdp.tag_everyone;
VACUUM ANALYZE cdp.tag_key;
CREATE TABLE seed AS SELECT cdp.audience_of('t30') OPERATOR(cdp.|) cdp.audience_agg(x) AS s FROM cdp.find_customers('t20') x WHERE x % 3 = 0;
CREATE TABLE seed_id AS SELECT x FROM seed, cdp.audience_ids(s) x;
ANALYZE seed_id;
CREATE FUNCTION ms(statement text, times int) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	t timestamptz;
	ms float8[];
BEGIN
	FOR i IN 0 .. times LOOP
		t := clock_timestamp();
		EXECUTE statement;
		-- the first one warms up
		IF i > 0 THEN
			ms := ms || extract(epoch FROM clock_timestamp() - t)::float8 * 1000;
		END IF;
	END LOOP;
	RETURN (SELECT round((percentile_cont(0.5) WITHIN GROUP (ORDER BY m))::numeric, 1) FROM unnest(ms) m);
END $$;
SET max_parallel_workers_per_gather = 0;
SET jit = off;
SELECT 'customers ' || :n || ', seed ' || cdp.audience_count(s) || ', tags that count ' || (SELECT count(*) FROM cdp.lift_table(s) WHERE z >= 3) FROM seed;
SELECT ms('SELECT count(*) FROM cdp.lift_table((SELECT s FROM seed))', 5) AS lift \gset
\echo lift_table :lift ms
SELECT ms('SELECT count(*) FROM cdp.find_lookalikes((SELECT s FROM seed), 10000)', 5) AS three, ms('SELECT count(*) FROM cdp.find_lookalikes((SELECT s FROM seed), 10000, ''-Infinity'')', 5) AS every,
	ms('SELECT count(*) FROM cdp.find_lookalikes((SELECT s FROM seed), 1000000, ''-Infinity'')', 3) AS million \gset
\echo find_lookalikes of 10,000: :three ms, with all 200 tags as weights :every ms, of 1,000,000 with these :million ms
SELECT ms('SELECT k, count(*), count(*) FILTER (WHERE x IS NOT NULL) FROM (SELECT id, unnest(tags) AS k FROM fact) f LEFT JOIN seed_id ON x = id GROUP BY k', 1) AS rows \gset
SELECT round(:rows / :lift) AS times \gset
\echo GROUP BY over int[] :rows ms, lift_table is :times times faster
UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.+) 'fresh' WHERE profile_id IN (SELECT 1 + (i::bigint * 7919 * 31) % :n FROM generate_series(1, 20000) i);
SELECT ms('SELECT count(*) FROM cdp.lift_table((SELECT s FROM seed))', 3) AS lift, ms('SELECT count(*) FROM cdp.find_lookalikes((SELECT s FROM seed), 10000)', 3) AS three \gset
\echo with 20,000 changes not merged: lift_table :lift ms, find_lookalikes :three ms
SELECT cdp._set_horizon('infinity');
SELECT ms('SELECT count(*) FROM cdp.lift_table((SELECT s FROM seed))', 1) AS lift, ms('SELECT count(*) FROM cdp.find_lookalikes((SELECT s FROM seed), 10000)', 1) AS three \gset
\echo by rows: lift_table :lift ms, find_lookalikes :three ms
X
