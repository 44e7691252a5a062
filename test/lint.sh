#!/bin/bash
# What a compiler and two readers of code find, and what the tree must hold.  Usage: test/lint.sh; ends with
# "lint: clean" or with what is wrong.  Works on a copy; nothing is installed.
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/test/cluster.sh"
for tool in cppcheck clang-tidy; do
	command -v $tool >/dev/null || { echo "lint: $tool is missing; run: make deps-lint" >&2; exit 1; }
done
PG_CONFIG=$(cluster_find_pg_config) || exit 1
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL MODULES
work=$(mktemp -d "${TMPDIR:-/tmp}/customer_cdp_lint.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cp -r "$here/Makefile" "$here/Makefile.targets" "$here"/customer_cdp.control "$here/src" "$here/sql" "$work"
cp "$here/.clang-tidy" "$work"
cd "$work" || exit 1
rm -f src/*.o src/*.so src/*.bc
bad=0
step() { echo "== $1"; shift; "$@" >"$work/step.log" 2>&1 || { grep -v 'warnings generated' "$work/step.log" | head -100; bad=$((bad + 1)); }; }

# with assertions and without: a variable that only an Assert reads is a warning without them
build() { make -s clean && make -s -j2 with_llvm=no PG_CONFIG="$PG_CONFIG" CDP_CFLAGS="-Werror $1" customer_cdp.so; }
step "gcc -Wall -Wextra -Werror" build ''
step "gcc -Wall -Wextra -Werror -DUSE_ASSERT_CHECKING" build -DUSE_ASSERT_CHECKING

# cppcheck reads our files without PostgreSQL's headers: it is told the macros that would mislead it
version=$(sed -n "s/^default_version *= *'\(.*\)'/\1/p" customer_cdp.control)
step cppcheck cppcheck --quiet --std=c11 --language=c --enable=warning,portability,performance --inline-suppr --error-exitcode=1 \
	--library=posix --suppress=missingInclude --suppress=unknownMacro --suppress=nullPointerRedundantCheck \
	-DPG_VERSION_NUM=150000 -DHAVE_INT128=1 -DCDP_VERSION='"x"' '-DPG_FUNCTION_INFO_V1(x)=' '-Dereport(level, rest)=abort()' '-Delog(level, ...)=abort()' \
	'-DAssert(c)=((c) ? (void) 0 : abort())' \
	-I src src

server=$($PG_CONFIG --includedir-server)
step clang-tidy clang-tidy --quiet src/*.c -- -std=gnu11 -I src -isystem "$server" -isystem "$($PG_CONFIG --includedir)" \
	-isystem /usr/include/libxml2 -DCDP_VERSION="\"$version\"" -D_GNU_SOURCE
cd "$here" || exit 1
step "tests, pages, lengths, META.json" sh test/tree.sh
if [ $bad = 0 ]; then echo "lint: clean"; else echo "lint: $bad of 5 checks found something" >&2; exit 1; fi
