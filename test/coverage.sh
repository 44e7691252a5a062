#!/bin/bash
# Line coverage of src/ from the counters that a run with CDP_MODE=coverage left: a table, and html in $CDP_STAGE/coverage.
# Called by test/run.sh when the server has stopped; fails when coverage is below CDP_COVERAGE_MIN (default 85 %), or a file of
# tag, segment, audience or value below 90 %.  MODULES judges the files of these modules alone, as their tests alone did run.
set -euo pipefail
min=${CDP_COVERAGE_MIN:-85}
info=$CDP_STAGE/coverage.info
command -v lcov >/dev/null || { echo "coverage: lcov is missing; run: make deps-lint" >&2; exit 1; }
lcov --quiet --capture --directory src --base-directory "$PWD" --output-file "$info.all" >"$CDP_STAGE/lcov.log" 2>&1 ||
	{ cat "$CDP_STAGE/lcov.log"; exit 1; }
# the headers of the server that our files expand are not ours
lcov --quiet --extract "$info.all" "$PWD/src/*" --output-file "$info" >>"$CDP_STAGE/lcov.log" 2>&1
genhtml --quiet --prefix "$PWD" --output-directory "$CDP_STAGE/coverage" "$info" >>"$CDP_STAGE/lcov.log" 2>&1
awk -v min="$min" -v top="$PWD/" -v only="$(echo ${MODULES:-} | tr ' ' '|')" '
	/^SF:/ {file = substr($0, 4); sub("^" top, "", file); found = hit = 0}
	/^DA:/ {split(substr($0, 4), d, ","); found++; if (d[2] > 0) hit++}
	/^end_of_record/ {
		if (only != "" && file !~ "^src/(" only ")[_.]") next
		printf "%-32s %6d of %6d lines  %5.1f %%\n", file, hit, found, found ? 100 * hit / found : 100 | "sort"
		all += found; sum += hit
		if (file ~ /^src\/(tag|segment|audience|value)[_.].*c$/ && 10 * hit < 9 * found) low = low " " file
	}
	END {
		close("sort")
		if (all == 0) {print "coverage: no counters were written"; exit 1}
		printf "%-32s %6d of %6d lines  %5.1f %%\n", only == "" ? "src/" : "these", sum, all, 100 * sum / all
		if (100 * sum / all < min) {printf "coverage: below %d %%\n", min; bad = 1}
		if (low != "") {printf "coverage: below 90 %%:%s\n", low; bad = 1}
		exit bad
	}' "$info"
