#!/bin/bash
# Every suite, on a private temporary cluster.  Usage: test/run.sh [SUITE...]; MODULES="event value" narrows to the
# tests NAME and NAME_topic of these modules.
#
# Suites: tree regress isolation pgtap tap upgrade examples (the default: all of them), bench, fuzz, docs (doc/roles.md).
# As root the work is done by role postgres in a copy of the tree; as any other user in a copy of his own.  Nothing of the
# machine's PostgreSQL is changed.  The last line is "N passed, N failed"; the exit code is not 0 when something failed
# or a suite ran nothing.
#
# CDP_MODE=plain (default; with assertions), coverage (gcov), valgrind or sanitize (addresses and undefined behaviour).  CDP_OUT=DIR (writable for everybody) gets the
# result files of regress and isolation; CDP_KEEP=1 leaves the stage.
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/test/cluster.sh"
mode=${CDP_MODE:-plain}
if [ -z "${CDP_STAGE:-}" ]; then
	cluster_stage "$here" test/run.sh "$@"; rc=$?
	if [ -d "$CDP_STAGE/coverage" ]; then
		rm -rf "$here/coverage"; cp -r "$CDP_STAGE/coverage" "$here/coverage" && echo "report: coverage/index.html"
	fi
	[ $rc != 0 ] || [ ! -d "$CDP_STAGE/docs" ] || cp "$CDP_STAGE"/docs/*.md "$here/doc/"
	exit $rc
fi

cd "$CDP_STAGE/src" || exit 1
suites=${*:-tree regress isolation pgtap tap upgrade examples}
MODULES=${MODULES:-}
passed=0 failed=0 summary=
trap 'cluster_stop "$CDP_STAGE"' EXIT

case $mode in
plain)	CDP_CFLAGS="-DUSE_ASSERT_CHECKING -DCDP_TEST_HANDLER ${CDP_CFLAGS:-}" ;;
coverage)
	CDP_CFLAGS="--coverage -O0 -DCDP_TEST_HANDLER" CDP_LDFLAGS=--coverage ;;
valgrind)
	CDP_CFLAGS="-DUSE_ASSERT_CHECKING -DCDP_TEST_HANDLER -O1 -fno-omit-frame-pointer" ;;
sanitize)
	# the first finding ends its backend, and so fails the test that made it
	CDP_CFLAGS="-DUSE_ASSERT_CHECKING -DCDP_TEST_HANDLER -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all" CDP_LDFLAGS="-fsanitize=address,undefined" ;;
*)	echo "CDP_MODE is plain, coverage, valgrind or sanitize" >&2; exit 2 ;;
esac
# a benchmark measures what a user runs: no assertions, and commits that are written as his are
[ "$suites" != bench ] || { CDP_CFLAGS= CDP_CONF=${CDP_CONF:-"fsync = on
synchronous_commit = off
shared_buffers = 1GB
maintenance_work_mem = 256MB
max_wal_size = 8GB"}; }
# a test that has changed a catalog row lets autovacuum wait with a table locked, and then waits for it
[ "$suites" = bench ] || CDP_CONF="${CDP_CONF:-}
autovacuum = off"

cluster_prefix "$CDP_STAGE" && cluster_build || exit 1
if [ $mode = valgrind ]; then
	. test/valgrind.sh
	valgrind_start "$CDP_STAGE" || exit 1
elif [ $mode = sanitize ]; then
	. test/sanitize.sh
	sanitize_start "$CDP_STAGE" || exit 1
else
	cluster_start "$CDP_STAGE" || exit 1
fi
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
	line=$(printf '%-10s %4s passed, %s failed  (%s s)' "$1" "$2" "$3" $((SECONDS - suite_start)))
	echo "$line"; summary="$summary$line
"
	passed=$((passed + $2)) failed=$((failed + $3))
	if [ $(($2 + $3)) = 0 ] && [ -z "$MODULES" ]; then echo "$1: no test ran" >&2; failed=$((failed + 1)); fi
}
# pg_regress and pg_isolation_regress; they print "test x ... ok" on 15 and TAP from 16 on
regress() {	# SUITE PROGRAM NAME...
	suite=$1 prog=$2 log=$CDP_STAGE/$1.log; shift 2
	: > "$log"; rm -f test/out/regression.diffs
	[ $# = 0 ] || "$pgxs/$prog" --inputdir=test --outputdir=test/out --bindir="$PGBIN" \
		--dlpath="$($PG_CONFIG --pkglibdir)" --host="$PGHOST" --port="$PGPORT" --user=postgres \
		--dbname="${suite}_customer_cdp" "$@" >"$log" 2>&1
	grep -E 'FAILED|not ok' "$log"
	[ -s test/out/regression.diffs ] && head -"${CDP_DIFF_LINES:-200}" test/out/regression.diffs
	[ -n "${CDP_OUT:-}" ] && [ -d test/out/results ] && cp test/out/results/*.out "$CDP_OUT"
	ok=$(grep -cE '^(test .*\.\.\. ok|ok [0-9])' "$log")
	# whatever did not say ok failed: a server that died says nothing at all
	[ "$ok" = $# ] || grep -qE 'FAILED|not ok' "$log" || tail -30 "$log"
	report "$suite" "$ok" $(($# - ok))
}
# TAP in $log: adds to ok and bad.  A plan that was not fulfilled is a failure too.
count_tap() {
	o=$(grep -cE '^(ok [0-9]|not ok .*# TODO)' "$log") b=$(grep -E '^not ok' "$log" | grep -vc '# TODO')
	p=$(sed -n 's/^1\.\.\([0-9]*\).*/\1/p' "$log" | tail -1)
	[ $((o + b)) = "${p:-0}" ] || { echo "not ok - $1: $((o + b)) tests of ${p:-?} planned" | tee -a "$log"; b=$((b + 1)); }
	ok=$((ok + o)) bad=$((bad + b))
}

for suite in $suites; do
	log=$CDP_STAGE/$suite.log ok=0 bad=0 suite_start=$SECONDS
	case $suite in
	tree)
		[ -n "$MODULES" ] && continue
		sh test/tree.sh >"$log" 2>&1 || grep -v '^ok' "$log"
		report tree "$(grep -c '^ok' "$log")" "$(grep -c '^not ok' "$log")" ;;
	regress)
		regress regress src/test/regress/pg_regress $(pick test/sql sql) ;;
	isolation)
		regress isolation src/test/isolation/pg_isolation_regress $(pick test/specs spec) ;;
	pgtap)
		names=$(pick test/pgtap sql)
		[ -z "$names" ] || { psql -Xqc 'CREATE DATABASE pgtap' && psql -Xq -d pgtap -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION pgtap' \
			-c 'CREATE EXTENSION customer_cdp' -c 'CALL cdp.migrate()'; } || bad=1
		for f in $names; do
			psql -XAtq -v ON_ERROR_STOP=1 -d pgtap -f "test/pgtap/$f.sql" >"$log" 2>&1 || echo "not ok - stopped" >>"$log"
			count_tap "$f"
			grep -E '^(not ok|#)|ERROR|HINT' "$log" | head -100 | sed "s,^,$f: ,"
		done
		report pgtap $ok $bad ;;
	tap|fuzz)
		names=$(pick test/t pl)
		# the files NNN_NAME_fuzz.pl, longer and with a seed of the day
		[ $suite = tap ] || { names=$(echo "$names" | grep '_fuzz$'); export CDP_FUZZ=${CDP_FUZZ:-20} CDP_SEED=${CDP_SEED:-$RANDOM} CDP_TAP_TIMEOUT=${CDP_TAP_TIMEOUT:-7200}; }
		for f in $names; do
			PERL5LIB=$pgxs/src/test/perl:$CDP_STAGE/src/test/perl TESTDIR=$PWD/test/out PG_REGRESS=$pgxs/src/test/regress/pg_regress \
			TESTDATADIR=$PWD/test/out/tmp_check TESTLOGDIR=$PWD/test/out/tmp_check/log \
			timeout "${CDP_TAP_TIMEOUT:-600}" perl "test/t/$f.pl" >"$log" 2>&1 ||
				grep -E '^not ok' "$log" | grep -qv '# TODO' || echo "not ok - $f stopped" >>"$log"
			# a file that skips itself as a whole ("1..0 # SKIP why") says so
			sed -n "s/^1\.\.0 # \(SKIP.*\)/$f: \1/p" "$log"
			# where a test died it says why in its own log only
			grep -q '^not ok' "$log" && { echo "$f:"; tail -60 "$log"; grep -q stopped "$log" && tail -15 "test/out/tmp_check/log/regress_log_$f"; }
			[ $suite = tap ] || sed -n "s/^# /$f: /p" "$log"
			count_tap "$f"
		done
		# and test/fuzz/NAME.sql, each in a database of its own
		[ $suite = tap ] || for f in $(pick test/fuzz sql); do
			{ psql -Xqc "CREATE DATABASE fuzz_$f" && psql -Xq -d "fuzz_$f" -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION customer_cdp' &&
				timeout "$CDP_TAP_TIMEOUT" psql -XAtq -v ON_ERROR_STOP=1 -v rounds=$((CDP_FUZZ * 5000)) -d "fuzz_$f" -f "test/fuzz/$f.sql"; } >"$log" 2>&1 ||
				{ echo "not ok - $f stopped" >>"$log"; tail -5 "$CDP_STAGE/server.log"; }
			sed "s/^# /$f: /; s/^\(not \)\{0,1\}ok/$f: &/" "$log"
			count_tap "$f"
		done
		report $suite $ok $bad ;;
	upgrade)
		[ -n "$MODULES" ] && continue
		bash test/upgrade/run.sh >"$log" 2>&1 || { grep -q '^not ok' "$log" || echo "not ok - stopped" >>"$log"; cat "$log"; }
		report upgrade "$(grep -c '^ok' "$log")" "$(grep -c '^not ok' "$log")" ;;
	examples)
		# the ```sql blocks of a page are one session in a database of their own, after test/examples/NAME.sql when there is
		# one; a block that begins with ```sql (not run) is for the eye
		for f in $(for p in README.md doc/*.md; do grep -q '^```sql$' "$p" && basename "$p" .md; done | sort); do
			m=${f%%_*}
			[ -z "$MODULES" ] || case " $MODULES " in *" $f "*|*" $m "*) ;; *) continue;; esac
			# one line of psql per line of the page, so that an error tells its place
			awk '/^```sql$/ {on = 1; print ""; next} /^```/ {on = 0} {print on ? $0 : ""}' "$([ "$f" = README ] && echo README.md || echo "doc/$f.md")" > "$CDP_STAGE/$f.sql"
			psql -Xqc "CREATE DATABASE example_${f,,}" &&
			# the README begins where its reader does, without the extension
			{ [ "$f" = README ] || psql -Xq -d "example_${f,,}" -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION customer_cdp' -c 'CALL cdp.migrate()'; } &&
			{ [ ! -f "test/examples/$f.sql" ] || psql -Xq -d "example_${f,,}" -v ON_ERROR_STOP=1 -f "test/examples/$f.sql"; } &&
			psql -X -d "example_${f,,}" -v ON_ERROR_STOP=1 -f "$CDP_STAGE/$f.sql" >"$log" 2>&1 && ok=$((ok + 1)) ||
				{ bad=$((bad + 1)); grep -E 'ERROR|LINE|HINT|DETAIL' "$log" | sed "s,^psql:[^:]*/,doc/,; s,\.sql:,.md:,"; }
			psql -Xqc "DROP DATABASE IF EXISTS example_${f,,}"
		done
		report examples $ok $bad ;;
	bench)
		# one after the other, each in a database of its own that has the extension and its tables
		for f in $(pick test/bench sh); do
			echo "== $f"
			psql -Xqc "CREATE DATABASE bench_$f" -c "CHECKPOINT" &&
			psql -Xq -d "bench_$f" -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION customer_cdp' -c 'CALL cdp.migrate()' &&
			PGDATABASE=bench_$f bash "test/bench/$f.sh" && ok=$((ok + 1)) || bad=$((bad + 1))
			psql -Xqc "DROP DATABASE bench_$f"
		done
		report bench $ok $bad ;;
	docs)
		psql -Xqc 'CREATE DATABASE docs' && psql -Xq -d docs -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION customer_cdp' -c 'CALL cdp.migrate()' &&
			mkdir "$CDP_STAGE/docs" && PGDATABASE=docs bash test/docs.sh > "$CDP_STAGE/docs/roles.md" && ok=1 || bad=1
		report docs $ok $bad ;;
	*)	echo "unknown suite $suite" >&2; exit 2 ;;
	esac
done

case $mode in
coverage)
	cluster_stop "$CDP_STAGE"
	bash test/coverage.sh || failed=$((failed + 1)) ;;
valgrind)
	cluster_stop "$CDP_STAGE"
	valgrind_report "$CDP_STAGE" || failed=$((failed + 1)) ;;
sanitize)
	cluster_stop "$CDP_STAGE"
	sanitize_report "$CDP_STAGE" || failed=$((failed + 1)) ;;
esac
[ $failed = 0 ] || printf '\n%s' "$summary"
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
