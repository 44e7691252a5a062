#!/bin/bash
# cdp.score_pairs against the same comparisons in SQL with fuzzystrmatch and pg_trgm.  Runs on the server of
# `make bench`; RECORDS=200000 for more, RUNS=5 repetitions.
#
# Both join by the same rules, remove pairs found twice, compare the same six columns, and give weight, probability and
# levels of every pair; the baseline asks levenshtein_less_equal() for one edit and similarity() for likeness, which is
# what these two extensions have.  Runs alternate, medians are compared.  Reach: at least 4 times the pairs per second.
set -euo pipefail
records=${RECORDS:-50000} runs=${RUNS:-5}

psql -Xq -v ON_ERROR_STOP=1 <<SQL
CREATE EXTENSION fuzzystrmatch;
CREATE EXTENSION pg_trgm;
SELECT setseed(0.42) \g /dev/null
-- names of syllables, so that many are alike; every fourth record is a copy of the one before, with a typing error
CREATE FUNCTION word(n int) RETURNS text LANGUAGE sql AS \$\$
	SELECT string_agg(substr('bcdfghjklmnprstvwz', 1 + floor(18 * random() ^ 2)::int, 1) || substr('aeiou', 1 + floor(5 * random())::int, 1), '')
	FROM generate_series(1, n) \$\$;
CREATE FUNCTION typo(t text) RETURNS text LANGUAGE sql AS \$\$
	SELECT CASE WHEN random() < 0.3 THEN overlay(t PLACING 'x' FROM 1 + floor(random() * length(t))::int FOR 1) ELSE t END \$\$;
CREATE TABLE person AS
SELECT i::bigint AS id, word(2 + (random() * 2)::int) AS given_name, word(2 + (random() * 2)::int) AS surname,
	to_char('1930-01-01'::date + (random() * 25000)::int, 'YYYYMMDD') AS dob, word(4) || ' street' AS address,
	word(3) AS city, (2000 + floor(random() * 400))::text AS postcode FROM generate_series(1, $records) i;
UPDATE person p SET given_name = typo(o.given_name), surname = typo(o.surname), dob = typo(o.dob), address = typo(o.address),
	city = typo(o.city), postcode = o.postcode FROM person o WHERE p.id % 4 = 0 AND o.id = p.id - 1;
VACUUM ANALYZE person;
CREATE FUNCTION level(a text, b text) RETURNS int LANGUAGE sql IMMUTABLE AS \$\$
	SELECT CASE WHEN a = b THEN 3 WHEN levenshtein_less_equal(a, b, 1) <= 1 OR similarity(a, b) >= 0.7 THEN 2
		WHEN similarity(a, b) >= 0.4 THEN 1 ELSE 0 END \$\$;
CREATE TABLE weight AS SELECT i AS level, i * 3.0 - 4 AS weight FROM generate_series(0, 3) i;
CREATE TABLE model AS SELECT cdp.fit_match('SELECT * FROM person',
	(SELECT jsonb_agg(jsonb_build_object('column', c, 'kind', 'text')) FROM unnest('{given_name,surname,dob,address,city,postcode}'::text[]) c),
	ARRAY['l.postcode = r.postcode AND left(l.surname, 1) = left(r.surname, 1)', 'l.dob = r.dob', 'l.surname = r.surname']) AS m;
SQL

ours="SELECT count(*), sum(probability), sum(levels[1]) FROM model, cdp.score_pairs('SELECT * FROM person', m)"
# the pairs of both are the same, the weights are of one kind
plain="WITH pair AS (
	SELECT l.id AS a, r.id AS b FROM person l JOIN person r ON l.postcode = r.postcode AND left(l.surname, 1) = left(r.surname, 1) AND l.id < r.id
	UNION SELECT l.id, r.id FROM person l JOIN person r ON l.dob = r.dob AND l.id < r.id
	UNION SELECT l.id, r.id FROM person l JOIN person r ON l.surname = r.surname AND l.id < r.id),
vector AS MATERIALIZED (SELECT a, b, level(l.given_name, r.given_name) AS l1, level(l.surname, r.surname) AS l2, level(l.dob, r.dob) AS l3,
	level(l.address, r.address) AS l4, level(l.city, r.city) AS l5, level(l.postcode, r.postcode) AS l6
	FROM pair JOIN person l ON l.id = a JOIN person r ON r.id = b),
weighed AS (SELECT a, b, l1 * 3.0::float8 + l2 + l3 + l4 + l5 + l6 - 20 AS weight, ARRAY[l1, l2, l3, l4, l5, l6]::smallint[] AS levels FROM vector)
SELECT count(*), sum(1 / (1 + exp(-weight))), sum(levels[1]) FROM weighed"

once() {	# QUERY
	psql -XAtq -v ON_ERROR_STOP=1 -c "SET jit = off; SET work_mem = '512MB'; SET max_parallel_workers_per_gather = 0" \
		-c "EXPLAIN (ANALYZE, TIMING OFF) $1" | sed -n 's/Execution Time: \([0-9.]*\) ms/\1/p'
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
pairs=$(psql -XAtq -c "SELECT m ->> 'pairs' FROM model")
[ "$pairs" = "$(psql -XAtq -c "$plain" | cut -d'|' -f1)" ] || { echo "the two do not compare the same pairs"; exit 1; }
a='' b=''
for i in $(seq "$runs"); do a+="$(once "$plain")"$'\n'; b+="$(once "$ours")"$'\n'; done
a=$(printf %s "$a" | median) b=$(printf %s "$b" | median)
awk -v r="$records" -v n="$pairs" -v a="$a" -v b="$b" 'BEGIN {
	printf "%d records, %d pairs, six columns, medians, pairs per second\n", r, n
	printf "%-44s %10.0f\n%-44s %10.0f\n%-44s %10.2f\n", "SQL, fuzzystrmatch and pg_trgm", n / a * 1000, "cdp.score_pairs", n / b * 1000, "ratio (reach: 4)", a / b}'
