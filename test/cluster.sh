# Private PostgreSQL for tests and the demo: source this file, it touches no cluster and no installation of yours.
#
# The server finds its libraries and extensions relative to its own binary.  So a tree with copied binaries and
# symlinks for everything else is an installation of its own, into which the extension can be installed without
# being root and without a trace in /usr.
#
#   cluster_prefix DIR [PG_CONFIG]   make the tree in DIR, set PGBIN and PG_CONFIG to it
#   cluster_start  DIR               initdb and start in DIR/data, export PGHOST PGPORT PGUSER
#   cluster_stop   DIR

cluster_find_pg_config() {
	for c in ${PG_CONFIG:-} /usr/lib/postgresql/15/bin/pg_config $(ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null) pg_config; do
		command -v "$c" >/dev/null 2>&1 && [ -f "$("$c" --pgxs)" ] && { echo "$c"; return; }
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

cluster_start() {
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
	X
	"$PGBIN/pg_ctl" -D "$_dir/data" -l "$_dir/server.log" -w start >/dev/null ||
		{ tail -20 "$_dir/server.log"; return 1; }
}

cluster_stop() {
	"$PGBIN/pg_ctl" -D "$1/data" -m "${2:-fast}" -w stop >/dev/null 2>&1 || true
}
