#!/bin/sh
# Every released version, upgraded, must equal a fresh install; so must its dump, restored.
set -eu
new=$(sed -n "s/^default_version *= *'\(.*\)'/\1/p" customer_cdp.control)
out=test/out/upgrade; mkdir -p $out
q() { db=$1; shift; psql -Xq -v ON_ERROR_STOP=1 -d "$db" "$@"; }
fresh() { q postgres -c "DROP DATABASE IF EXISTS $1" -c "CREATE DATABASE $1"; }
fresh cdp_fresh
q cdp_fresh -c "CREATE EXTENSION customer_cdp VERSION '$new'" -c 'CALL cdp.migrate()'
q cdp_fresh -f test/upgrade/catalog.sql > $out/fresh.txt
# migrate() again changes nothing
q cdp_fresh -c 'CALL cdp.migrate()'
q cdp_fresh -f test/upgrade/catalog.sql | diff -u $out/fresh.txt -
echo "ok migrate twice"
for script in sql/release/*.sql; do
	[ -f "$script" ] || continue
	old=$(basename "$script" .sql); old=${old#*--}
	[ "$old" = "$new" ] && continue
	fresh cdp_old; fresh cdp_back
	q cdp_old -c "CREATE EXTENSION customer_cdp VERSION '$old'" -c 'CALL cdp.migrate()'
	[ -f "test/upgrade/data-$old.sql" ] && q cdp_old -f "test/upgrade/data-$old.sql"
	q cdp_old -c 'BEGIN' -c "ALTER EXTENSION customer_cdp UPDATE TO '$new'" -c 'CALL cdp.migrate()' -c 'COMMIT'
	q cdp_old -f test/upgrade/catalog.sql > "$out/from-$old.txt"
	diff -u $out/fresh.txt "$out/from-$old.txt"
	pg_dump -Fc -d cdp_old -f $out/old.dump
	pg_restore -e -d cdp_back $out/old.dump
	q cdp_back -f test/upgrade/catalog.sql | diff -u $out/fresh.txt -
	echo "ok $old -> $new"
done
