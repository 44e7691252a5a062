#!/bin/bash
# Tags of 2 million customers (SCALE=10: 10 million), 200 tags with rates from 0.9 to 0.0005 and three numbers, as bitmaps
# beside the same facts as boolean columns (sequential scan, one core) and as int[] with intarray's GIN index.  Times of
# small questions are means over several hundred calls in one statement, those of the baselines medians.
#	Q1 t20 & t30 & t50   Q2 (t30 | t50) & !t20   Q3 t195 & (t10 | t20) & !t50 & t15   Q4 (t12 | t20) & t10
#	Q5 t30 & spend > 1000   Q6 Q2 for one customer   Q7 45 overlaps
# PARTS narrows to some of: count dirty write memory.  BASELINES=0 leaves the tables of comparison out.
set -euo pipefail
n=$((${SCALE:-2} * 1000000)) parts=${PARTS:-count dirty write memory} baselines=${BASELINES:-1}
q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
has() { case " $parts " in *" $1 "*) ;; *) false;; esac; }
say() { printf '%s\n' "$*"; }

q -v n="$n" <<'X'
SET client_min_messages = warning;
SET synchronous_commit = off;
SET work_mem = '256MB';
CREATE EXTENSION IF NOT EXISTS intarray;
CREATE FUNCTION rate(k int) RETURNS float8 LANGUAGE sql IMMUTABLE
	AS $$ SELECT greatest(0.0005, least(0.9, 5.5 / k * (1 - k / 199.0))) $$;
SELECT setseed(0.42);
CREATE UNLOGGED TABLE fact AS
	SELECT i::bigint AS id, ARRAY(SELECT k::int FROM unnest(r.rates) WITH ORDINALITY t(p, k) WHERE random() < p AND i > 0) AS tags,
		round((-ln(1 - random()) * 486)::numeric, 2) AS spend, (random() * 50)::int AS visits, round(random()::numeric, 4) AS score
	FROM generate_series(1, :n) i, (SELECT array_agg(rate(k) ORDER BY k) AS rates FROM generate_series(1, 200) k) r;
INSERT INTO cdp.profile (profile_id) SELECT id FROM fact ORDER BY id;
SELECT setval(pg_get_serial_sequence('cdp.profile', 'profile_id'), :n);
-- history and changes of a load say nothing here
ALTER TABLE cdp.profile_tag DISABLE TRIGGER USER;
INSERT INTO cdp.profile_tag (profile_id, tags)
	SELECT id, (coalesce('t' || nullif(array_to_string(tags, ', t'), '') || ', ', '') || format('spend=%s, visits=%s, score=%s', spend, visits, score))::cdp.tagset
	FROM fact ORDER BY id;
ALTER TABLE cdp.profile_tag ENABLE TRIGGER USER;
SELECT cdp._set_horizon('infinity');
VACUUM ANALYZE cdp.profile;
VACUUM ANALYZE cdp.profile_tag;
\timing on
CALL cdp.merge_tags();
\timing off
VACUUM ANALYZE cdp.tag_bits;
VACUUM ANALYZE cdp.tag_everyone;
VACUUM ANALYZE cdp.tag_key;
-- milliseconds of one call out of many in one statement; QUERY is an expression in which at is the moment
CREATE FUNCTION small(query text, calls int DEFAULT 400) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
	best float8;
	t timestamptz;
	ms float8[];
BEGIN
	FOR i IN 1 .. 5 LOOP
		t := clock_timestamp();
		EXECUTE format('SELECT count(x) FROM (SELECT %s AS x FROM (SELECT now() + g * interval ''1 microsecond'' AS at FROM generate_series(1, $1) g) s OFFSET 0) y', query) USING calls;
		ms := ms || extract(epoch FROM clock_timestamp() - t)::float8 * 1000 / calls;
	END LOOP;
	RETURN (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY m) FROM unnest(ms) m);
END $$;
-- median of a whole statement
CREATE FUNCTION large(statement text, times int DEFAULT 5) RETURNS float8 LANGUAGE plpgsql AS $$
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
	RETURN (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY m) FROM unnest(ms) m);
END $$;
CREATE FUNCTION mb(relation text) RETURNS numeric LANGUAGE sql AS $$ SELECT round(pg_total_relation_size(relation::regclass) / 1048576.0, 1) $$;
CREATE TABLE result (what text PRIMARY KEY, ms float8);
SELECT 'customers ' || count(*) || ', pairs ' || sum(cardinality(tags)) FROM fact;
X
[ "$baselines" = 0 ] || q <<'X'
SET client_min_messages = warning;
SET synchronous_commit = off;
SET maintenance_work_mem = '512MB';
CREATE TABLE ints AS SELECT id, tags, spend::float8, visits::float8, score::float8 FROM fact ORDER BY id;
CREATE INDEX ints_tags ON ints USING gin (tags gin__int_ops);
SELECT format('CREATE TABLE cols AS SELECT id, %s, spend::float8, visits::float8, score::float8 FROM fact ORDER BY id',
	string_agg(format('%s = ANY (tags) AS t%1$s', k), ', ' ORDER BY k)) FROM generate_series(1, 200) k \gexec
VACUUM ANALYZE ints;
VACUUM ANALYZE cols;
X

# NAME, expression over count_customers, WHERE of boolean columns, query_int
count() {
	q -c "SET max_parallel_workers_per_gather = 0" -c "SET jit = off" \
		-c "INSERT INTO result SELECT '$1', small(\$\$cdp.count_customers('$2', at)\$\$)"
	[ "$baselines" = 0 ] || q -c "SET max_parallel_workers_per_gather = 0" -c "SET jit = off" \
		-c "INSERT INTO result SELECT '$1 columns', large(\$\$SELECT count(*) FROM cols WHERE $3\$\$)" \
		-c "INSERT INTO result SELECT '$1 intarray', large(\$\$SELECT count(*) FROM ints WHERE $4\$\$)"
}
if has count; then
	count Q1 't20 & t30 & t50' 't20 AND t30 AND t50' "tags @@ '20&30&50'"
	count Q2 '(t30 | t50) & !t20' '(t30 OR t50) AND NOT t20' "tags @@ '(30|50)&!20'"
	count Q3 't195 & (t10 | t20) & !t50 & t15' 't195 AND (t10 OR t20) AND NOT t50 AND t15' "tags @@ '195&(10|20)&!50&15'"
	count Q4 '(t12 | t20) & t10' '(t12 OR t20) AND t10' "tags @@ '(12|20)&10'"
	count Q5 't30 & spend > 1000' 't30 AND spend > 1000' "tags @@ '30' AND spend > 1000"
	q <<-'X'
	INSERT INTO result SELECT 'Q6', small($$cdp.matches_customer(12345, '(t30 | t50) & !t20', at)$$, 4000);
	INSERT INTO result SELECT 'Q7', large($$SELECT cdp.overlap_customers('{t11,t12,t13,t14,t15,t16,t17,t18,t19}') FROM generate_series(1, 20)$$) / 20;
	INSERT INTO result SELECT 'ids', large($$SELECT count(x) FROM cdp.find_customers('(t30 | t50) & !t20') x$$);
	INSERT INTO result SELECT 'ids as audience', small($$cdp.audience_of('(t30 | t50) & !t20', at)$$, 100);
	INSERT INTO result SELECT 'everyone else', small($$cdp.count_customers('!t20', at)$$);
	INSERT INTO result SELECT 'everyone', small($$cdp.count_customers('*', at)$$);
	X
	[ "$baselines" = 0 ] || q <<-'X'
	SET max_parallel_workers_per_gather = 0;
	SET jit = off;
	INSERT INTO result SELECT 'Q7 columns', large((SELECT 'SELECT ' || string_agg(format('count(*) FILTER (WHERE t%s AND t%s)', i, j), ', ') || ' FROM cols'
		FROM generate_series(11, 19) i, generate_series(i, 19) j), 3);
	INSERT INTO result SELECT 'ids columns', large($$SELECT count(id) FROM (SELECT id FROM cols WHERE (t30 OR t50) AND NOT t20 OFFSET 0) x$$);
	X
	q -P format=aligned -P footer=off <<-'X'
	SELECT r.what, round(r.ms::numeric, 3) AS ms, round((c.ms / r.ms)::numeric) AS "columns / bitmaps", round((i.ms / r.ms)::numeric) AS "intarray / bitmaps",
		round(c.ms::numeric) AS "columns ms", round(i.ms::numeric) AS "intarray ms"
	FROM result r LEFT JOIN result c ON c.what = r.what || ' columns' LEFT JOIN result i ON i.what = r.what || ' intarray'
	WHERE r.what !~ ' (columns|intarray)$' ORDER BY r.what;
	X
	say "MB: tag_bits $(q -c "SELECT mb('cdp.tag_bits')"), of it tags without numbers $(q -c "SELECT round(sum(length(b.bits) + 56) / 1048576.0, 1) FROM cdp.tag_bits b JOIN cdp.tag_key k USING (key_id) WHERE k.kind = 'tag'")"
	[ "$baselines" = 0 ] || say "MB: int[] and its GIN $(q -c "SELECT mb('ints')"), boolean columns $(q -c "SELECT mb('cols')")"
fi

# questions while changes are not merged, 1,000 and 20,000 customers; then the merges
if has dirty; then
	q <<-'X'
	CREATE TABLE dirty (changes int, what text, ms float8);
	SET jit = off;
	X
	[ "$baselines" = 0 ] && columns=NULL || columns=$(q -c "SET max_parallel_workers_per_gather = 0" -c "SELECT large(\$\$SELECT count(*) FROM cols WHERE (t30 OR t50) AND NOT t20\$\$)")
	clean=$(q -c "SELECT small(\$\$cdp.count_customers('(t30 | t50) & !t20', at)\$\$)")
	done=0
	for n_dirty in 1000 20000; do
		q -c "UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.+) 'fresh' WHERE profile_id IN (SELECT 1 + (i::bigint * 7919 * 31) % $n FROM generate_series($done + 1, $n_dirty) i)"
		done=$n_dirty
		q -P format=aligned -P footer=off -c "SELECT (SELECT count(*) FROM cdp.tag_change) AS unmerged, round(ms::numeric, 2) AS ms, round((ms / $clean)::numeric, 1) AS \"times clean\",
			round(($columns::numeric / ms)::numeric) AS \"columns / bitmaps\" FROM (SELECT small(\$\$cdp.count_customers('(t30 | t50) & !t20', at)\$\$, 100) AS ms) s"
	done
	q -c '\timing on' -c 'CALL cdp.merge_tags()' | sed 's/^Time: /merge of 20,000 customers all over: /'
fi

# one value of 10 % of the customers
if has write; then
	q -c '\timing on' -c "UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.+) 'score=0.5' WHERE profile_id % 10 = 3" | sed 's/^Time: /UPDATE of a value of 10 %: /'
	q -c '\timing on' -c 'CALL cdp.merge_tags()' | sed 's/^Time: /merge of these: /'
	if [ "$baselines" != 0 ]; then
		q -c '\timing on' -c "UPDATE ints SET tags = tags + 999 WHERE id % 10 = 3" | sed 's/^Time: /UPDATE of int[] with its GIN, 10 %: /'
	fi
fi

# The most private memory (RssAnon) of a session while it runs SQL, above what it holds when it has connected, caches of the
# catalog included; looked at every few milliseconds.  Shared buffers are not in it.
anon() { local k v; while read -r k v _; do [ "$k" != RssAnon: ] || echo "$v"; done <"/proc/$1/status"; }
peak() {	# WHAT, LIMIT in MB or -, SQL
	local pid base now most=0 line part temp
	coproc session { psql -XAtq -v ON_ERROR_STOP=1 2>&1; }
	echo "SET jit = off; SET max_parallel_workers_per_gather = 0; SELECT pg_stat_reset(); SELECT pg_backend_pid();" >&"${session[1]}"
	read -r line <&"${session[0]}"; read -r pid <&"${session[0]}"
	base=$(anon "$pid")
	echo "\\o /dev/null" >&"${session[1]}"; echo "$3;" >&"${session[1]}"
	printf '%s\n' '\o' "SELECT 'ended';" >&"${session[1]}"
	# what has come of a line when the time is over is not there to be read again
	line= part=
	until read -r -t 0.003 part <&"${session[0]}"; do
		line=$line$part now=$(anon "$pid"); [ "${now:-0}" -le "$most" ] || most=$now
	done
	line=$line$part
	[ "$line" = ended ] || { say "$1: $line"; return 1; }
	echo "SELECT pg_stat_force_next_flush(); SELECT round(sum(temp_bytes) / 1048576.0, 1) FROM pg_stat_database WHERE datname = current_database();" >&"${session[1]}"
	read -r line <&"${session[0]}"; read -r temp <&"${session[0]}"
	echo '\q' >&"${session[1]}"; wait "$session_PID" || true
	most=$((most - base))
	say "$1: $((most / 1024)).$((most % 1024 * 10 / 1024)) MB of memory (limit $2), $temp MB on disk"
	[ "$2" = - ] || [ "$most" -le $(($2 * 1024)) ]
}
if has memory; then
	all="count(cdp.count_customers('t20 & t30 & t50', at)), count(cdp.count_customers('(t30 | t50) & !t20', at)), count(cdp.count_customers('t195 & (t10 | t20) & !t50 & t15', at)), count(cdp.count_customers('t30 & spend > 1000', at)), count(cdp.count_customers('score > 0.5 & visits < 20 | !(spend <= 100)', at))"
	peak 'counts, 300 times five' 16 "SELECT $all FROM (SELECT now() + g * interval '1 microsecond' AS at FROM generate_series(1, 300) g) s"
	peak '45 overlaps, 50 times' 16 "SELECT cdp.overlap_customers('{t11,t12,t13,t14,t15,t16,t17,t18,t19}') FROM generate_series(1, 50)"
	peak 'count as of a moment before the horizon' 16 "SELECT cdp.count_customers('(t30 | t50) & !t20', '2000-01-01Z')"
	peak 'find_customers of everyone' 32 "SET work_mem = '4MB'; SELECT count(x) FROM cdp.find_customers('*') x"
	peak 'find_customers of everyone, in the list of columns' 32 "SET work_mem = '4MB'; SELECT count(x) FROM (SELECT cdp.find_customers('*') x OFFSET 0) y"
	peak 'find_customers of a third' 32 "SET work_mem = '4MB'; SELECT count(x) FROM cdp.find_customers('t3 | spend > 2000') x"
	peak 'audience_of a third' - "SELECT cdp.audience_of('t3 | spend > 2000')"
	peak 'UPDATE of 20,000 customers' - "UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.+) 'recent' WHERE profile_id % ($n / 20000) = 1"
	peak 'counts with these not merged, 20 times five' 16 "SELECT $all FROM (SELECT now() + g * interval '1 microsecond' AS at FROM generate_series(1, 20) g) s"
	peak 'merge of these' 256 'CALL cdp.merge_tags()'
	peak 'UPDATE of a tenth of the customers' - "UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.+) 'score=0.25' WHERE profile_id % 10 = 4"
	peak 'merge of these' 256 'CALL cdp.merge_tags()'
	q -c "SELECT cdp._set_horizon('infinity')" >/dev/null
	peak 'merge of everything, from the rows' 256 'CALL cdp.merge_tags()'
fi
