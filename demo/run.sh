#!/bin/bash
# The demo: a private server, a shop with tables of its own, the extension attached to it, the first answers.
# Usage: demo/run.sh, or make demo; DATA=FILE.csv (customer_id,ordered_at,quantity,amount) plays a file of purchases
# instead.  Nothing of the machine's PostgreSQL is touched, and nothing is left behind.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/test/cluster.sh"
if [ -z "${CDP_STAGE:-}" ]; then
	cluster_stage "$here" demo/run.sh "$@"
	exit
fi
cd "$CDP_STAGE/src"
trap 'cluster_stop "$CDP_STAGE"' EXIT
echo "demo: building the extension, starting a private PostgreSQL (make demo DATA=purchases.csv plays a file of yours)"
cluster_prefix "$CDP_STAGE"
cluster_build
cluster_start "$CDP_STAGE"
psql -Xqc 'CREATE DATABASE shop'
export PGDATABASE=shop PGCLIENTENCODING=UTF8 PGTZ=Asia/Shanghai
show() { psql -Xq -v ON_ERROR_STOP=1 -v ECHO=queries -P pager=off "$@"; }
if [ -n "${DATA:-}" ]; then
	set -- $(awk -F, 'NR > 1 && NF >= 4 {n++; if (!($1 in seen)) {seen[$1]; c++}; s += $4} END {printf "%d %d %.2f", c, n, s}' "$DATA")
	show -v awk_customers="$1" -v awk_purchases="$2" -v awk_sum="$3" -f demo/purchases.sql < "$DATA"
else
	psql -Xq -v ON_ERROR_STOP=1 -f demo/shop.sql
	show -f demo/tour.sql
fi
