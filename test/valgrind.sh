# The private server under valgrind; sourced by test/run.sh with CDP_MODE=valgrind.
#
# The server of a distribution is built without valgrind's client requests, so an overrun inside one palloc block goes
# unseen; reads of memory that was never written or already given back to the system, and calls with such arguments, do
# not.  Only errors with a line of src/ in the stack, or in the history of the memory, count.  Padding bytes that the
# server writes to disk or to the log are known and harmless, whoever made it write: "Syscall param" is left out.  So is
# "overlap" unless our code itself called the copying function: valgrind takes the memmove of the server's cache of regular
# expressions for a memcpy.

valgrind_start() {
	command -v valgrind >/dev/null || { echo "valgrind is missing; run: make deps-lint" >&2; return 1; }
	# a server that is 20 times slower must not be thought dead, nor analyse tables by itself meanwhile
	CDP_CONF="autovacuum = off
${CDP_CONF:-}"
	cluster_init "$1" || return 1
	valgrind --quiet --leak-check=no --track-origins=yes --trace-children=yes --num-callers=30 --fullpath-after= \
		--log-file="$1/valgrind.%p.log" "$PGBIN/postgres" -D "$1/data" >"$1/server.log" 2>&1 &
	for _i in $(seq 120); do "$PGBIN/pg_isready" -q && return 0; sleep 0.5; done
	tail -20 "$1/server.log"; return 1
}

# errors are blocks of lines "==PID== …" that begin with a sentence and end with an empty one
valgrind_report() {
	awk -v ours="$1/src/src/" '
		function flush() {
			split(block, line, "\n")	# sentence, the copying function, who called it
			if (index(block, ours) && block !~ /Syscall param/ && (block !~ /^==[0-9]+== Source and destination overlap/ || index(line[3], ours))) {print block; n++}
			block = ""
		}
		/^==[0-9]+== *$/ {flush(); next}
		/^==/ {block = block $0 "\n"}
		END {flush(); exit n > 0}' "$1"/valgrind.*.log || { echo "valgrind: errors in our code, see above" >&2; return 1; }
	echo "valgrind: no error in our code ($(ls "$1"/valgrind.*.log | wc -l) processes)"
}
