# Private PostgreSQL for tests and the demo: source this file, it touches no cluster and no installation of yours.
#
# The server finds its libraries and extensions relative to its own binary.  So a tree with copied binaries and
# symlinks for everything else is an installation of its own, into which the extension can be installed without
# being root and without a trace in /usr.
#
#   cluster_stage  TREE SCRIPT [ARG...]   run TREE/SCRIPT in a copy of TREE, as role postgres when root; the script
#                                         sees CDP_STAGE (the copy is CDP_STAGE/src) and never comes back here
#   cluster_prefix DIR                    make the installation in DIR, set PGBIN, PATH and PG_CONFIG to it
#   cluster_build                         build the tree in the current directory and install it there
#   cluster_start  DIR                    initdb and start in DIR/data, export PGHOST PGPORT PGUSER PGDATABASE
#   cluster_stop   DIR
#
# Variables: PG_CONFIG (which server), CDP_CONF (more lines for postgresql.conf), CDP_CFLAGS, CDP_LDFLAGS,
# CDP_DATA (data sets beside the checkout), CDP_KEEP=1 (leave the stage).

cluster_stage() {
	_tree=$1 _script=$2; shift 2
	# what a caller has set for his own server, or for his own make, must not reach ours: a PG_CONFIG= of the
	# command line that a sub-make inherits would install into /usr
	unset $(env | sed -n 's/^\(PG[A-Z]*\)=.*/\1/p') MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL GNUMAKEFLAGS
	# root's TMPDIR may be closed to postgres, and a socket's path may have 107 characters
	_tmp=${TMPDIR:-/tmp}
	[ "$(id -u)" != 0 ] && [ ${#_tmp} -lt 50 ] || _tmp=/tmp
	CDP_STAGE=$(mktemp -d "$_tmp/customer_cdp.XXXXXX") || return 1
	unset TMPDIR
	export CDP_STAGE HOME=$CDP_STAGE LC_ALL=C.UTF-8
	trap '[ -n "${CDP_KEEP:-}" ] && echo "kept: $CDP_STAGE" >&2 || rm -rf "$CDP_STAGE"' EXIT
	trap 'exit 130' INT TERM HUP
	# data sets that stand beside a checkout, never in it
	export CDP_DATA="${CDP_DATA:-$_tree/../shared/data}"
	# what only root can reach is copied; what is not there must look so to postgres, not forbidden
	if [ ! -d "$CDP_DATA" ]; then CDP_DATA=$CDP_STAGE/datasets
	elif [ "$(id -u)" = 0 ]; then cp -r "$CDP_DATA" "$CDP_STAGE/datasets" && CDP_DATA=$CDP_STAGE/datasets
	fi
	# the file that DATA names may be readable for root only
	[ -z "${DATA:-}" ] || { cp "$DATA" "$CDP_STAGE/data.csv" && export DATA="$CDP_STAGE/data.csv"; } || return 1
	mkdir "$CDP_STAGE/src"
	(cd "$_tree" && tar -cf - --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' --exclude=./test/out \
		--exclude=./tmp_check --exclude=./coverage --exclude=./dist --exclude='./sql/customer_cdp--*' .) |
		tar -xf - --no-same-owner -C "$CDP_STAGE/src"
	if [ "$(id -u)" = 0 ]; then
		id postgres >/dev/null 2>&1 || { echo "there is no role postgres on this machine; run: make deps" >&2; return 1; }
		chown -R postgres "$CDP_STAGE"
		runuser -u postgres -- bash "$CDP_STAGE/src/$_script" "$@" </dev/null
	else
		bash "$CDP_STAGE/src/$_script" "$@" </dev/null
	fi
}

cluster_find_pg_config() {
	for c in ${PG_CONFIG:-} $(ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -rV) pg_config; do
		command -v "$c" >/dev/null 2>&1 && [ -f "$("$c" --pgxs)" ] && [ -x "$("$c" --bindir)/postgres" ] && { echo "$c"; return; }
	done
	echo "no PostgreSQL server with development files found; run: make deps" >&2
	return 1
}

cluster_prefix() {
	_dir=$1
	_from=$(cluster_find_pg_config) || return 1
	_bin=$($_from --bindir) _lib=$($_from --pkglibdir) _share=$($_from --sharedir)
	mkdir -p "$_dir$_bin" "$_dir$_lib" "$_dir$_share/extension"
	cp -a "$_bin"/. "$_dir$_bin"
	ln -sf "$_lib"/* "$_dir$_lib"
	for _f in "$_share"/*; do
		[ "$(basename "$_f")" = extension ] || ln -sf "$_f" "$_dir$_share"
	done
	ln -sf "$_share"/extension/* "$_dir$_share/extension"
	# an installed customer_cdp of the machine must not be seen from here
	rm -f "$_dir$_lib"/customer_cdp* "$_dir$_share"/extension/customer_cdp*
	for _f in $($_from --includedir) $($_from --libdir); do
		[ -e "$_dir$_f" ] || { mkdir -p "$(dirname "$_dir$_f")"; ln -s "$_f" "$_dir$_f"; }
	done
	# Debian keeps the headers one level up
	[ -e "$_dir/usr/include" ] || ln -s /usr/include "$_dir/usr/include"
	PG_CONFIG=$_dir$_bin/pg_config
	PGBIN=$_dir$_bin
	PATH=$PGBIN:$PATH
	export PG_CONFIG PGBIN PATH
}

# bitcode costs half of the build and nothing here reads it; PGXS has another meaning for MODULES
cluster_build() {
	env -u MODULES make -s -j2 with_llvm=no PG_CONFIG="$PG_CONFIG" CDP_CFLAGS="${CDP_CFLAGS:-}" CDP_LDFLAGS="${CDP_LDFLAGS:-}" install \
		>"$CDP_STAGE/build.log" 2>&1 || { grep -E -A3 'error:|Error|missing' "$CDP_STAGE/build.log" | head -60; return 1; }
	# a warning of the compiler is worth a line in every run
	grep -A3 'warning:' "$CDP_STAGE/build.log" || true
}

cluster_init() {
	_dir=$1
	PGHOST=$_dir/sock PGUSER=postgres PGPORT=${CDP_PORT:-$((20000 + $$ % 20000))} PGDATABASE=postgres
	export PGHOST PGUSER PGPORT PGDATABASE
	mkdir -p "$_dir/sock"
	"$PGBIN/initdb" -D "$_dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 -N >"$_dir/initdb.log" 2>&1 ||
		{ cat "$_dir/initdb.log"; return 1; }
	cat >> "$_dir/data/postgresql.conf" <<-X
	listen_addresses = ''
	unix_socket_directories = '$_dir/sock'
	port = $PGPORT
	fsync = off
	shared_buffers = 256MB
	max_wal_size = 4GB
	jit = off
	timezone = 'UTC'
	log_min_messages = warning
	${CDP_CONF:-}
	X
}

cluster_start() {
	cluster_init "$1" || return 1
	"$PGBIN/pg_ctl" -D "$1/data" -l "$1/server.log" -w start >/dev/null || { tail -20 "$1/server.log"; return 1; }
}

cluster_stop() {
	"$PGBIN/pg_ctl" -D "$1/data" -m "${2:-fast}" -w stop >/dev/null 2>&1 || true
}
