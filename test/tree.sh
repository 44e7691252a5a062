#!/bin/sh
# What can be said about the tree without a server: every module has its room, META.json holds what PGXN asks for.
# Run in the top directory; prints TAP without numbers.
failed=$(mktemp) || exit 1
trap 'rm -f "$failed"' EXIT
check() {	# TITLE, complaints on stdin: the end of a pipe, so a subshell
	complaints=$(cat)
	if [ -z "$complaints" ]; then echo "ok - $1"; else echo "not ok - $1"; echo "$complaints" | sed 's/^/#   /'; echo >> "$failed"; fi
}
modules=$(echo $(sed -e ':a' -e '/\\$/{N;s/\\\n//;ba' -e '}' Makefile | sed -n 's/^CDP_MODULES *= *//p'))

for f in sql/*.sql; do
	n=$(basename "$f" .sql)
	case $n in guard|*--*) continue;; esac
	case " $modules " in *" $n "*) ;; *) echo "sql/$n.sql is not in CDP_MODULES";; esac
	ls test/sql/"$n".sql test/sql/"$n"_*.sql 2>/dev/null | grep -q . || echo "sql/$n.sql has no test: test/sql/$n.sql or ${n}_TOPIC.sql"
	[ -f "doc/$n.md" ] || echo "sql/$n.sql has no page doc/$n.md"
done | check 'every sql/NAME.sql is in the module list and has its test and its page'
for n in $modules; do [ -f "sql/$n.sql" ] || echo "sql/$n.sql is missing"; done | check 'every module of the list has its file'
for f in test/sql/*.sql; do n=$(basename "$f" .sql); [ -f "expected/$n.out" ] || echo "expected/$n.out is missing"; done |
	check 'every regress file has its expected answer'
for f in test/specs/*.spec; do n=$(basename "$f" .spec); [ -f "expected/$n.out" ] || echo "expected/$n.out is missing"; done |
	check 'every isolation spec has its expected answer'
for f in expected/*.out; do n=$(basename "$f" .out); [ -f "test/sql/$n.sql" ] || [ -f "test/specs/$n.spec" ] || echo "$f belongs to nothing"; done |
	check 'every expected answer belongs to a test'
wc -l src/*.[ch] | awk '$2 != "total" && $1 > 800 {print $2 ": " $1 " lines; split it by topic"}' | check 'no C file is longer than 800 lines'
grep -n 'PG_VERSION_NUM' src/*.[ch] | grep -v -e '^src/cdp_compat.h:' -e PG_MODULE_MAGIC -e '^src/customer_cdp.c:' |
	check 'version differences stand in cdp_compat.h only'
# each condition that the code raises, as PL/pgSQL writes it
{ grep -hoE 'ERRCODE_[A-Z0-9_]+' src/*.[ch] | sed -E 's/^ERRCODE_(T_R_|E_R_I_E_|CDP_)?//' | tr A-Z a-z
  grep -hoE "ERRCODE = '[a-z_]+'" sql/*.sql | sed "s/.*'\(.*\)'/\1/"; } | sort -u | grep -vx to_category | while read -r c; do
	grep -q "^| ..... | \`$c\` |" doc/errors.md || echo "doc/errors.md does not explain $c"
done | check 'every condition that the code raises stands in doc/errors.md'
{ sed -nE "s/.*MAKE_SQLSTATE\('(.)', *'(.)', *'(.)', *'(.)', *'(.)'\).*/\1\2\3\4\5/p" src/cdp_errors.h
  grep -hoE "ERRCODE = 'LC...'" sql/*.sql | grep -o 'LC...'; } | sort -u > "$failed.lc"
grep -oE '^\| LC... ' doc/errors.md | grep -o 'LC...' | sort | diff "$failed.lc" - | check 'the codes of our own are those of doc/errors.md (< code, > page)'
rm -f "$failed.lc"
statements() { awk '/^```sql/ {on = 1; next} /^```/ {on = 0} on && !/^--/ {sub(/ +--.*/, ""); print}' "$1"; }
statements README.md > "$failed.en"
statements README.zh-CN.md | diff "$failed.en" - | check 'both READMEs show the same statements'
rm -f "$failed.en"
perl test/meta.pl 2>&1 | check 'META.json holds what PGXN asks for and agrees with the control file'
[ ! -s "$failed" ]
