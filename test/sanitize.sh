# The private server with AddressSanitizer and UndefinedBehaviorSanitizer in our library; sourced by test/run.sh with
# CDP_MODE=sanitize.
#
# The server itself is built without them, so the runtime is loaded before it.  A block of palloc lies in one of malloc: what
# runs out of the whole block is seen, what runs into a neighbour is not.  Leaks are none of ours: contexts are dropped.

sanitize_start() {
	_asan=$(gcc -print-file-name=libasan.so) _ubsan=$(gcc -print-file-name=libubsan.so)
	[ -f "$_asan" ] && [ -f "$_ubsan" ] || { echo "sanitize: libasan and libubsan of gcc are missing" >&2; return 1; }
	# the runtime starts with the first malloc, and does not come back when that one is in bindtextdomain(), whose lock it
	# wants too; messages are not translated here
	printf '%s\n' 'char *bindtextdomain(const char *d, const char *p) { return (char *) p; }' 'char *textdomain(const char *d) { return (char *) d; }' \
		'char *bind_textdomain_codeset(const char *d, const char *c) { return (char *) c; }' >"$1/untranslated.c"
	gcc -shared -fPIC -fno-builtin -o "$1/untranslated.so" "$1/untranslated.c" && cluster_init "$1" || return 1
	# a fake stack would mislead the server's check of stack depth
	ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=0:log_path=$1/sanitize \
	UBSAN_OPTIONS=print_stacktrace=1:abort_on_error=1:log_path=$1/sanitize \
	LD_PRELOAD="$_asan $_ubsan $1/untranslated.so" "$PGBIN/pg_ctl" -D "$1/data" -l "$1/server.log" -w start >/dev/null || { tail -20 "$1/server.log"; return 1; }
}

sanitize_report() {
	set -- "$1"/sanitize.*
	[ -e "$1" ] || { echo "sanitize: nothing found"; return 0; }
	cat "$@" | head -200
	echo "sanitize: findings of $# processes, see above" >&2; return 1
}
