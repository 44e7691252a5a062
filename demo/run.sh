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
export PGDATABASE=shop
psql -Xq -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION customer_cdp' -c 'CALL cdp.migrate()'
if [ -f demo/shop.sql ]; then
	psql -Xq -v ON_ERROR_STOP=1 -f demo/shop.sql
fi
