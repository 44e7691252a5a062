#!/bin/bash
# The demo: a private server, a shop with tables of its own, the extension attached to it, the first answers.
# Usage: demo/run.sh, or make demo; DATA=FILE.csv plays a file of purchases instead.  Nothing of the machine's
# PostgreSQL is touched, and nothing is left behind.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/test/cluster.sh"
if [ -z "${CDP_STAGE:-}" ]; then
	cluster_stage "$here" demo/run.sh "$@"
	exit
fi
cd "$CDP_STAGE/src"
trap 'cluster_stop "$CDP_STAGE"' EXIT
cluster_prefix "$CDP_STAGE"
cluster_build
cluster_start "$CDP_STAGE"
psql -Xq -c 'CREATE DATABASE shop'
export PGDATABASE=shop PGCLIENTENCODING=UTF8 PGOPTIONS='-c timezone=Asia/Shanghai'
if [ -z "${DATA:-}" ]; then
	psql -Xq -v ON_ERROR_STOP=1 -f demo/shop.sql
	psql -X -f demo/attach.sql
	exit
fi

psql -X -f demo/purchases.sql < "$DATA"
# the file itself has the last word
want=$(awk -F, 'NR > 1 {n++; if (!($1 in seen)) {seen[$1] = 1; c++} s += $4} END {printf "%d customers, %d purchases, %.2f", c, n, s}' "$DATA")
have=$(psql -XAt -c "SELECT format('%s customers, %s purchases, %s', (SELECT count(*) FROM cdp.customer), count(*), sum(amount)) FROM cdp.sales_order")
echo "the file:     $want"
echo "customer_cdp: $have"
[ "$want" = "$have" ]
