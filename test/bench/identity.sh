#!/bin/bash
# Reading through the One ID, and the customer view.  FACTS facts (default 2,000,000) of PROFILES profiles (200,000) with
# 5 traits from 2 sources each; first nobody is merged, then 30 %.  Each pair of queries runs ROUNDS times (9) in turn in
# one session; ratios are of medians.  A line that misses its ratio says so and the script ends with an error.
# ONLY=regex picks lines.
set -eu
facts=${FACTS:-2000000} profiles=${PROFILES:-200000} rounds=${ROUNDS:-9}
q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
missed=0

# TITLE LIMIT SETTINGS BASE QUERY
compare() {
	[[ $1 =~ ${ONLY:-} ]] || return 0
	{
		echo "SET jit = off; SET work_mem = '256MB'; $3;"
		echo '\o /dev/null'
		echo "$4; $5;"		# both warm
		echo '\timing on'
		for _ in $(seq "$rounds"); do echo "$4;"; echo "$5;"; done
	} > "$tmp/script.sql"
	q -f "$tmp/script.sql" > "$tmp/out"
	sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' "$tmp/out" > "$tmp/ms"
	a=$(awk 'NR % 2 == 1' "$tmp/ms" | sort -n | sed -n "$((rounds / 2 + 1))p")
	b=$(awk 'NR % 2 == 0' "$tmp/ms" | sort -n | sed -n "$((rounds / 2 + 1))p")
	awk -v t="$1" -v a="$a" -v b="$b" -v l="$2" 'BEGIN {
		bad = l ~ /ms/ ? b > l + 0 : b > l * a
		printf "%-58s %9.2f ms %9.2f ms %6.2f x (<= %s)%s\n", t, a, b, b / a, l, bad ? " MISSED" : ""
		exit bad}' || missed=1
}

q -v facts="$facts" -v profiles="$profiles" <<'X'
SET client_min_messages = warning;
INSERT INTO cdp.profile (profile_id) SELECT g FROM generate_series(1, :profiles) g;
INSERT INTO cdp.profile_trait
	SELECT p, t, s, to_jsonb(t || ' ' || (p * 31 + length(s)) % 1000), '2026-01-01'::timestamptz + (p * 7 + length(s) * 13) % 1000 * interval '1 hour'
	FROM generate_series(1, :profiles) p, unnest('{birthday,city,email_opt_in,name,nickname}'::text[]) t, unnest('{crm,shop}'::text[]) s;
VACUUM ANALYZE;
X
one='SET max_parallel_workers_per_gather = 0'
grouped='SELECT profile_id, jsonb_object_agg(trait, value) FROM cdp.profile_trait GROUP BY 1'
view='SELECT * FROM cdp.customer'
compare 'customer view, all rows, nobody merged' 3 "$one" "$grouped" "$view"
q -c "INSERT INTO cdp.survivorship VALUES ('city', 'source_rank', '{shop,crm}'), ('name', 'longest', NULL), ('birthday', 'most_frequent', NULL), ('nickname', 'union', NULL), ('*', 'min', NULL)"
compare '... with a rule for every trait' 3 "$one" "$grouped" "$view"
q -c 'DELETE FROM cdp.survivorship'
q -v profiles="$profiles" -v facts="$facts" <<'X'
SET client_min_messages = warning;
ALTER TABLE cdp.profile_alias DISABLE TRIGGER profile_alias_guard;
INSERT INTO cdp.profile_alias SELECT g, g - g % 10 - 7 FROM generate_series(11, :profiles) g WHERE g % 10 < 3;
ALTER TABLE cdp.profile_alias ENABLE TRIGGER profile_alias_guard;
-- in no order: rows that come again and again in the order of the groups' memory would flatter GROUP BY profile_id
SELECT setseed(0.42) \g /dev/null
CREATE TABLE fact AS SELECT 1 + floor(random() * :profiles)::bigint AS profile_id, round((random() * 100)::numeric, 2) AS amount FROM generate_series(1, :facts) g;
CREATE INDEX fact_profile_id ON fact (profile_id);
VACUUM ANALYZE;
X
compare 'customer view, all rows, 30 % merged' 3 "$one" "$grouped" "$view"
compare 'one customer, four profiles' 1ms "$one" "SELECT * FROM cdp.profile WHERE profile_id = 13" "$view WHERE customer_id = 13"
two='SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0'
by() { echo "SELECT count(*), sum(x) FROM (SELECT $1 AS id, count(*) AS n, $2 AS x FROM fact GROUP BY 1) g WHERE n > 0"; }
all() { echo "SELECT $1 AS id, count(*), $2 FROM fact GROUP BY 1"; }
id='cdp.customer_id(profile_id)'
compare 'GROUP BY One ID, count and sum' 1.2 "$one" "$(by profile_id 'sum(amount)')" "$(by "$id" 'sum(amount)')"
compare '... count and sum, 2 workers' 1.2 "$two" "$(by profile_id 'sum(amount)')" "$(by "$id" 'sum(amount)')"
compare '... count and sum, every group to the client' 1.2 "$one" "$(all profile_id 'sum(amount)')" "$(all "$id" 'sum(amount)')"
compare '... count alone' 1.2 "$one" "$(by profile_id 1)" "$(by "$id" 1)"
compare '... count alone, 2 workers' 1.2 "$two" "$(by profile_id 1)" "$(by "$id" 1)"
compare '... count alone, every group to the client' 1.2 "$one" "$(all profile_id 1)" "$(all "$id" 1)"
# customer 13 has four profiles with ten facts each
compare 'one customer by index, GROUP BY One ID' 1.5 "$one" \
	"SELECT profile_id, count(*), sum(amount) FROM fact WHERE profile_id = ANY ('{13,20,21,22}') GROUP BY 1" \
	"SELECT $id, count(*), sum(amount) FROM fact WHERE profile_id = ANY ('{13,20,21,22}') GROUP BY 1"
compare 'one customer by index, profiles_of' 1.5 "$one" \
	"SELECT count(*), sum(amount) FROM fact WHERE profile_id = ANY ('{13,20,21,22}')" \
	"SELECT count(*), sum(amount) FROM fact WHERE profile_id = ANY (ARRAY(SELECT cdp.profiles_of(21)))"
compare 'one customer by index, joined with profiles_of' 1.5 "$one" \
	"SELECT count(*), sum(amount) FROM fact JOIN unnest('{13,20,21,22}'::bigint[]) p(id) ON profile_id = p.id" \
	"SELECT count(*), sum(amount) FROM fact JOIN cdp.profiles_of(21) p(id) ON profile_id = p.id"
exit $missed
