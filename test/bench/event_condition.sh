#!/bin/bash
# Event conditions against the GROUP BY that one would write by hand, same run, same settings.  Runs on the server of
# `make bench`; ROWS=10000000 for the full size (default 2,000,000 events in 24 months, ROWS / 10 profiles, one in ten
# merged; ROWS / 5 orders of two lines), RUNS=5 repetitions, medians.
#
#   find_customers_who, find_buyers   against LEFT JOIN profile_alias, GROUP BY coalesce(customer_id, profile_id)   <= 1.1 x
#   did                               µs per call, many calls in one statement; one ordinary customer               <= 1000 µs
set -euo pipefail
rows=${ROWS:-2000000} runs=${RUNS:-5}
q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
q -v rows="$rows" <<'X'
SET client_min_messages = warning;
SET synchronous_commit = off;
DO $$ BEGIN PERFORM cdp._make_partitions('cdp.event', now() - interval '23 months', now()); END $$;
INSERT INTO cdp.profile (profile_id) SELECT g FROM generate_series(1, :rows / 10) g;
INSERT INTO cdp.event (profile_id, name, occurred_at, properties)
	SELECT 1 + (g::bigint * 7919) % (:rows / 10),
		CASE WHEN h < 614 THEN 'Page Viewed' WHEN h < 819 THEN 'Product Viewed' WHEN h < 1023 THEN 'Product Added' ELSE 'Product Reviewed' END,
		now() - (g % 690) * interval '1 day' - (hashint4(g) & 65535) * interval '1 second',
		jsonb_build_object('product_id', 'P-' || (hashint4(g * 3) & 127), 'price', 99)
	FROM (SELECT g, hashint4(g + 7) & 1023 AS h FROM generate_series(1, :rows) g) g;
-- profile 5 has many events, 1001 .. 2000 are one customer (the guard of profile_alias is for users)
INSERT INTO cdp.event (profile_id, name, occurred_at)
	SELECT 5, 'Page Viewed', now() - (g % 690) * interval '1 day' - (g % 86400) * interval '1 second' FROM generate_series(1, :rows / 100) g;
ALTER TABLE cdp.profile_alias DISABLE TRIGGER USER;
INSERT INTO cdp.profile_alias (profile_id, customer_id) SELECT g, CASE WHEN g BETWEEN 1002 AND 2000 THEN 1001 ELSE g - 1 END
	FROM generate_series(10, :rows / 10) g WHERE g BETWEEN 1002 AND 2000 OR g % 10 = 0 AND g NOT BETWEEN 1001 AND 2001;
ALTER TABLE cdp.profile_alias ENABLE TRIGGER USER;
INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount, refunded)
	SELECT 'o' || g, 1 + (g::bigint * 7919) % (:rows / 10), now() - (g % 690) * interval '1 day' - (g % 86400) * interval '1 second',
		CASE g % 20 WHEN 0 THEN 'cancelled' WHEN 1 THEN 'refunded' ELSE 'completed' END, 100, CASE g % 20 WHEN 1 THEN 100 WHEN 2 THEN 10 ELSE 0 END
	FROM generate_series(1, :rows / 5) g;
INSERT INTO cdp.sales_order_line (order_id, line_no, product_id, unit_price)
	SELECT 'o' || g, n, 'P-' || (hashint4(g * 2 + n) & 127), 50 FROM generate_series(1, :rows / 5) g, generate_series(1, 2) n;
VACUUM ANALYZE;
X
# milliseconds of one execution
once() { q -c "SET jit = off; $1" -c "EXPLAIN (ANALYZE, TIMING OFF) $2" | sed -n 's/Execution Time: \([0-9.]*\) ms/\1/p'; }
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
compare() {	# NAME SETTINGS BASELINE OURS
	local a='' b='' i
	[ "$(q -c "SELECT count(*) FROM (($3) EXCEPT ($4)) d")$(q -c "SELECT count(*) FROM (($4) EXCEPT ($3)) d")" = 00 ] ||
		{ echo "$1: not the same customers" >&2; exit 1; }
	for i in $(seq "$runs"); do a+="$(once "$2" "$3")"$'\n'; b+="$(once "$2" "$4")"$'\n'; done
	awk -v n="$1" -v a="$(printf %s "$a" | median)" -v b="$(printf %s "$b" | median)" 'BEGIN {printf "%-52s %9.1f %9.1f %6.2f\n", n, a, b, b / a}'
}
plain() {	# EVENT INTERVAL AT_LEAST CONDITION
	echo "SELECT coalesce(a.customer_id, e.profile_id) FROM cdp.event e LEFT JOIN cdp.profile_alias a ON a.profile_id = e.profile_id
	WHERE e.name = '$1' AND e.occurred_at > now() - interval '$2' AND e.occurred_at <= now() ${4:-} GROUP BY 1 HAVING count(*) >= $3"
}
ours() { echo "SELECT * FROM cdp.find_customers_who('$1', '$2', $3 ${4:-})"; }
bought() {	# INTERVAL AT_LEAST
	echo "SELECT coalesce(a.customer_id, o.profile_id) FROM cdp.sales_order o LEFT JOIN cdp.profile_alias a ON a.profile_id = o.profile_id
	WHERE o.order_id IN (SELECT order_id FROM cdp.sales_order_line WHERE product_id = 'P-7' AND quantity > 0) AND o.ordered_at > now() - interval '$1'
	AND o.ordered_at <= now() AND o.status NOT IN ('cancelled', 'refunded') AND NOT (o.refunded > 0 AND o.refunded >= o.amount)
	GROUP BY 1 HAVING count(*) >= $2"
}
serial='SET max_parallel_workers_per_gather = 0' two='SET max_parallel_workers_per_gather = 2'
m="AND e.properties @> '{\"product_id\": \"P-7\"}'" n=", '{\"product_id\": \"P-7\"}'"
printf '%s events, medians of %s alternating runs, milliseconds\n' "$rows" "$runs"
printf '%-52s %9s %9s %6s\n' '' 'by hand' 'ours' ratio
compare 'find_customers_who, 30 days, twice, serial' "$serial" "$(plain 'Product Viewed' '30 days' 2)" "$(ours 'Product Viewed' '30 days' 2)"
compare 'find_customers_who, 1 year, twice, serial' "$serial" "$(plain 'Product Viewed' '365 days' 2)" "$(ours 'Product Viewed' '365 days' 2)"
compare 'find_customers_who, 1 year, twice, 2 workers' "$two" "$(plain 'Product Viewed' '365 days' 2)" "$(ours 'Product Viewed' '365 days' 2)"
compare 'find_customers_who, 1 year, 60 % of events, serial' "$serial" "$(plain 'Page Viewed' '365 days' 1)" "$(ours 'Page Viewed' '365 days' 1)"
compare 'find_customers_who, 1 year, rare event, serial' "$serial" "$(plain 'Product Reviewed' '365 days' 1)" "$(ours 'Product Reviewed' '365 days' 1)"
compare 'find_customers_who, 1 year, matching, serial' "$serial" "$(plain 'Product Viewed' '365 days' 1 "$m")" "$(ours 'Product Viewed' '365 days' 1 "$n")"
compare 'find_buyers, 1 year, serial' "$serial" "$(bought '365 days' 1)" "SELECT * FROM cdp.find_buyers('P-7', '365 days')"
compare 'find_buyers, 1 year, twice, serial' "$serial" "$(bought '365 days' 2)" "SELECT * FROM cdp.find_buyers('P-7', '365 days', 2)"
per_call() {	# NAME CALLS ARGUMENTS
	local v='' i
	for i in $(seq "$runs"); do v+="$(once '' "SELECT count(*) FILTER (WHERE cdp.did($3)) FROM generate_series(1, $2) g")"$'\n'; done
	awk -v n="did, $1" -v t="$(printf %s "$v" | median)" -v c="$2" 'BEGIN {printf "%-52s %9.0f µs a call\n", n, t * 1000 / c}'
}
c="1 + (g * 7919) % ($rows / 10)"
per_call 'ordinary customer, 30 days' 2000 "$c, 'Product Viewed', '30 days'"
per_call 'ordinary customer, 1 year, 3 times' 2000 "$c, 'Product Viewed', '1 year', 3"
per_call 'ordinary customer, ever' 2000 "$c, 'Product Viewed'"
per_call 'ordinary customer, ever, matching' 2000 "$c, 'Product Viewed', matching => '{\"product_id\": \"P-7\"}'"
per_call 'nobody, ever' 2000 "-g, 'Product Viewed'"
per_call "$((rows / 100)) events, 30 days, he did" 500 "5, 'Page Viewed', '30 days'"
per_call "$((rows / 100)) events, 30 days, he did not" 200 "5, 'Nothing', '30 days'"
per_call '1,000 profiles, 30 days, he did' 500 "1001, 'Page Viewed', '30 days'"
per_call '1,000 profiles, 30 days, he did not' 100 "1001, 'Nothing', '30 days'"
