#!/bin/bash
# Every suite, on a private temporary cluster.  Usage: test/run.sh [SUITE...]; MODULES="event value" narrows.
#
# Suites: regress isolation pgtap tap upgrade.  As root the work is done by role postgres in a copy of the tree; as
# any other user in a copy of his own.  Nothing of the machine's PostgreSQL is changed.  The last line is
# "N passed, N failed"; the exit code is not 0 when something failed or a suite ran nothing.
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
if [ -z "${CDP_STAGE:-}" ]; then
	CDP_STAGE=$(mktemp -d "${TMPDIR:-/tmp}/customer_cdp.XXXXXX")
	mkdir "$CDP_STAGE/src"
	(cd "$here" && tar -cf - --exclude=.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' --exclude=test/out \
		--exclude='sql/customer_cdp--*' .) | tar -xf - -C "$CDP_STAGE/src"
	export CDP_STAGE
	# data sets that stand beside a checkout, never in it
	export CDP_DATA=${CDP_DATA:-$here/../shared/data}
	if [ "$(id -u)" = 0 ]; then
		chown -R postgres "$CDP_STAGE"
		runuser -u postgres -- bash "$CDP_STAGE/src/test/run.sh" "$@" </dev/null; rc=$?
	else
		bash "$CDP_STAGE/src/test/run.sh" "$@" </dev/null; rc=$?
	fi
	[ -n "${CDP_KEEP:-}" ] && echo "kept: $CDP_STAGE" || rm -rf "$CDP_STAGE"
	exit $rc
fi

cd "$CDP_STAGE/src" || exit 1
. test/cluster.sh
suites=${*:-regress isolation pgtap tap upgrade}
MODULES=${MODULES:-}
passed=0 failed=0
trap 'cluster_stop "$CDP_STAGE"' EXIT

cluster_prefix "$CDP_STAGE" || exit 1
env -u MODULES make -s -j2 with_llvm=no ${CDP_MAKE:-} install >"$CDP_STAGE/build.log" 2>&1 || { cat "$CDP_STAGE/build.log"; exit 1; }
cluster_start "$CDP_STAGE" || exit 1
pgxs=$(dirname "$($PG_CONFIG --pgxs)")/../..
mkdir -p test/out

# names of DIR/*.EXT, narrowed to MODULES (NAME and NAME_topic)
pick() {
	for f in "$1"/*."$2"; do
		[ -f "$f" ] || continue
		n=$(basename "$f" ".$2"); m=${n#[0-9][0-9][0-9]_}
		[ -z "$MODULES" ] && { echo "$n"; continue; }
		for want in $MODULES; do case $m in $want|${want}_*) echo "$n"; break;; esac; done
	done
}
report() {	# SUITE PASSED FAILED
	printf '%-10s %s passed, %s failed\n' "$1" "$2" "$3"
	passed=$((passed + $2)) failed=$((failed + $3))
	if [ $(($2 + $3)) = 0 ] && [ -z "$MODULES" ]; then echo "$1: no test ran" >&2; failed=$((failed + 1)); fi
}
# pg_regress prints "test x ... ok" on 15 and TAP from 16 on
regress_report() {	# SUITE LOG
	report "$1" "$(grep -cE '^(test .*\.\.\. ok|ok [0-9])' "$2")" "$(grep -cE '^(test .*\.\.\. FAILED|not ok [0-9])' "$2")"
}

for suite in $suites; do
	log=$CDP_STAGE/$suite.log
	case $suite in
	regress)
		names=$(pick test/sql sql); : > "$log"
		# core first, as its test creates nothing others need; each file makes its own database state
		[ -n "$names" ] && "$pgxs/src/test/regress/pg_regress" --inputdir=test --outputdir=test/out --bindir="$PGBIN" \
			--dlpath="$($PG_CONFIG --pkglibdir)" --host="$PGHOST" --port="$PGPORT" --user=postgres \
			--dbname=contrib_regression $names >"$log" 2>&1
		grep -E 'FAILED|not ok' "$log"; [ -s test/out/regression.diffs ] && head -${CDP_DIFF_LINES:-200} test/out/regression.diffs
		[ -n "${CDP_OUT:-}" ] && [ -d test/out/results ] && cp test/out/results/*.out "$CDP_OUT"
		regress_report regress "$log" ;;
	isolation)
		names=$(pick test/specs spec); : > "$log"; rm -f test/out/regression.diffs
		[ -n "$names" ] && "$pgxs/src/test/isolation/pg_isolation_regress" --inputdir=test --outputdir=test/out --bindir="$PGBIN" \
			--dlpath="$($PG_CONFIG --pkglibdir)" --host="$PGHOST" --port="$PGPORT" --user=postgres \
			--dbname=isolation_regression $names >"$log" 2>&1
		grep -E 'FAILED|not ok' "$log"; [ -s test/out/regression.diffs ] && head -${CDP_DIFF_LINES:-200} test/out/regression.diffs
		[ -n "${CDP_OUT:-}" ] && [ -d test/out/results ] && cp test/out/results/*.out "$CDP_OUT"
		regress_report isolation "$log" ;;
	pgtap)
		names=$(pick test/pgtap sql | sed 's,.*,test/pgtap/&.sql,'); ok=0 bad=0
		psql -Xqc 'CREATE DATABASE pgtap' && psql -Xq -d pgtap -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION pgtap' \
			-c 'CREATE EXTENSION customer_cdp' -c 'CALL cdp.migrate()' || bad=1
		for f in $names; do
			psql -XAtq -v ON_ERROR_STOP=1 -d pgtap -f "$f" >"$log" 2>&1 || { echo "not ok - $f stopped" >>"$log"; }
			# a plan that was not fulfilled is a failure too
			grep -E '^(not ok|# Looks like)|ERROR' "$log" | sed "s,^,$f: ,"
			grep -E '^#' "$log" | head -40
			ok=$((ok + $(grep -cE '^ok [0-9]' "$log"))); bad=$((bad + $(grep -cE '^(not ok|# Looks like)' "$log")))
		done
		report pgtap $ok $bad ;;
	tap)
		names=$(pick test/t pl | sed 's,.*,test/t/&.pl,'); ok=0 bad=0
		for f in $names; do
			PERL5LIB=$pgxs/src/test/perl:$CDP_STAGE/src/test/perl TESTDIR=$PWD/test/out PG_REGRESS=$pgxs/src/test/regress/pg_regress \
			TESTDATADIR=$PWD/test/out/tmp_check TESTLOGDIR=$PWD/test/out/tmp_check/log \
			timeout ${CDP_TAP_TIMEOUT:-600} perl "$f" >"$log" 2>&1 || { grep -q '^not ok' "$log" || echo "not ok - $f stopped" >>"$log"; }
			grep -E '^not ok' "$log" >/dev/null && { echo "$f:"; tail -60 "$log"; }
			ok=$((ok + $(grep -cE '^ok [0-9]' "$log"))); bad=$((bad + $(grep -cE '^not ok' "$log")))
		done
		report tap $ok $bad ;;
	upgrade)
		[ -n "$MODULES" ] && continue
		sh test/upgrade/run.sh >"$log" 2>&1 || { echo "not ok" >>"$log"; cat "$log"; }
		report upgrade "$(grep -c '^ok' "$log")" "$(grep -c '^not ok' "$log")" ;;
	*)	echo "unknown suite $suite" >&2; exit 2 ;;
	esac
done
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
