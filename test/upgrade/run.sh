#!/bin/bash
# Whatever way a database came to the version of this tree, its catalog must be the one of a fresh install: migrated
# twice, dumped and restored, dropped and created again, upgraded from every release, and that dumped and restored.
# Rows must survive all of it.  Prints "ok - …" and "not ok - …"; a difference is shown as a diff, "-" is what a fresh
# install has.
#
# sql/release/customer_cdp--V.sql is the frozen script of release V; test/upgrade/data-V.sql, when it is there, fills the
# tables of that release with plain INSERTs (its verbs would refuse the newer library).  data.sql fills those of today.
set -uo pipefail
new=$(sed -n "s/^default_version *= *'\(.*\)'/\1/p" customer_cdp.control)
out=test/out/upgrade; rm -rf $out; mkdir -p $out
rc=0
# cdp.now is fixed so that seed rows that remember when they were made are equal everywhere
export PGOPTIONS="-c cdp.now=2026-03-01T09:00:00Z -c client_min_messages=warning"
q() { local db=$1; shift; psql -Xq -v ON_ERROR_STOP=1 -d "$db" "$@"; }
fresh() { q postgres -c "DROP DATABASE IF EXISTS $1" -c "CREATE DATABASE $1"; }
# half a list must not be compared with half a list
catalog() { q "$1" -f test/upgrade/catalog.sql > "$out/$2.catalog" || { echo "not ok - catalog of $1 is read"; exit 1; }; }
rows() { q "$1" -f test/upgrade/rows.sql > "$out/$2.rows" || { echo "not ok - rows of $1 are read"; exit 1; }; }
verdict() { if [ "$1" = 0 ]; then echo "ok - $2"; else echo "not ok - $2"; rc=1; fi; }
same() {	# WANTED GOT TITLE
	[ -s "$1" ] && diff -U0 "$1" "$2"; verdict $? "$3"
}
backup() {	# DB COPY: dump and restore, any error is one
	fresh "$2" && pg_dump -Fc -d "$1" -f "$out/$2.dump" && pg_restore --exit-on-error -d "$2" "$out/$2.dump"
}
# the whole life of one database that holds rows
life() {	# DB TITLE
	rows "$1" "$1"
	backup "$1" "${1}_back"; verdict $? "$2: dump and restore run"
	catalog "${1}_back" "${1}_back"; same $out/fresh.catalog "$out/${1}_back.catalog" "$2: catalog after restore"
	rows "${1}_back" "${1}_back"; same "$out/$1.rows" "$out/${1}_back.rows" "$2: rows after restore"
	q "$1" -c 'DROP EXTENSION customer_cdp CASCADE' -c 'CREATE EXTENSION customer_cdp' -c 'CALL cdp.migrate()'
	verdict $? "$2: drop, create and migrate run"
	catalog "$1" "${1}_again"; same $out/fresh.catalog "$out/${1}_again.catalog" "$2: catalog after drop, create and migrate"
	rows "$1" "${1}_again"; same "$out/$1.rows" "$out/${1}_again.rows" "$2: rows after drop, create and migrate"
}

fresh cdp_fresh && q cdp_fresh -c "CREATE EXTENSION customer_cdp VERSION '$new'" -c 'CALL cdp.migrate()' || { echo "not ok - fresh install"; exit 1; }
catalog cdp_fresh fresh; rows cdp_fresh fresh
q cdp_fresh -c 'CALL cdp.migrate()'
catalog cdp_fresh twice; same $out/fresh.catalog $out/twice.catalog 'migrate() again changes nothing in the catalog'
rows cdp_fresh twice; same $out/fresh.rows $out/twice.rows 'migrate() again changes no row'
if [ -f test/upgrade/data.sql ]; then q cdp_fresh -f test/upgrade/data.sql; verdict $? 'rows are written'; fi
life cdp_fresh "$new"

for script in sql/release/*.sql; do
	[ -f "$script" ] || continue
	old=$(basename "$script" .sql); old=${old#*--}
	[ "$old" = "$new" ] && continue
	step="$old -> $new"
	for data in none with; do
		[ $data = none ] || [ -f "test/upgrade/data-$old.sql" ] || continue
		db=cdp_old_$data
		fresh $db && q $db -c "CREATE EXTENSION customer_cdp VERSION '$old'" -c 'CALL cdp.migrate()'; verdict $? "$step: $old installs ($data rows)"
		[ $data = none ] || { q $db -f "test/upgrade/data-$old.sql"; verdict $? "$step: rows of $old"; }
		q $db -c 'BEGIN' -c "ALTER EXTENSION customer_cdp UPDATE TO '$new'" -c 'CALL cdp.migrate()' -c 'COMMIT'; verdict $? "$step: update runs ($data rows)"
		catalog $db $db; same $out/fresh.catalog $out/$db.catalog "$step: catalog ($data rows)"
		if [ $data = none ]; then
			rows $db $db; same $out/fresh.rows $out/$db.rows "$step: seed rows"
		else
			[ ! -f "test/upgrade/check-$old.sql" ] || { q $db -f "test/upgrade/check-$old.sql"; verdict $? "$step: rows of $old read by $new"; }
			life $db "$step"
		fi
	done
done
exit $rc
