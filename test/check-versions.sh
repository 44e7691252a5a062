#!/bin/bash
# Every suite on other major versions of PostgreSQL, in Debian chroots.  Usage: test/check-versions.sh [17] [18]
#
# 17 comes from Debian trixie, 18 from sid; 16 is in no Debian release.  A chroot is made once and kept for the next run
# in $CDP_CHROOTS (default /var/cache/customer_cdp; about 2.5 GB each); remove the directory to be rid of it.  The mirror
# is the one this machine's apt uses (CDP_MIRROR=URL names another).  SUITES="regress pgtap" and MODULES narrow.
#
# Exit code: 0 all passed, 1 a test failed, 3 no test failed but a version could not be set up.  The last line is
# "N passed, N failed" when any test ran.
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
base=${CDP_CHROOTS:-/var/cache/customer_cdp}
[ "$(id -u)" = 0 ] || { echo "check-versions: chroots need root" >&2; exit 3; }
[ $# -gt 0 ] || set -- 17 18
command -v debootstrap >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends debootstrap </dev/null >&2 ||
	{ echo "check-versions: debootstrap is missing and cannot be installed" >&2; exit 3; }

# the first "main" of the machine's own release, or any Debian main
mirror=${CDP_MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
	awk -v own="$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" '$3 == "main" && $2 == own {print $1; exit}')}
[ -n "$mirror" ] || { echo "check-versions: apt of this machine names no Debian mirror; set CDP_MIRROR" >&2; exit 3; }
# apt's proxy is also debootstrap's
if [ -z "${http_proxy:-}" ]; then
	eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
	[ -z "${http_proxy:-}" ] || export http_proxy
fi

root= lock=
unmount() {
	[ -n "$root" ] || return 0
	for m in dev/shm dev proc; do mountpoint -q "$root/$m" && umount -l "$root/$m"; done
	[ -z "$work" ] || rm -rf "$work"
	root=
}
trap unmount EXIT
trap 'exit 130' INT TERM HUP

setup() {	# MAJOR SUITE: leaves root mounted and equipped
	major=$1 suite=$2
	mkdir -p "$base" && exec 9>"$base/$suite.lock" && flock -w 600 9 || { echo "another run uses $base/$suite"; return 1; }
	if [ ! -e "$base/$suite/.customer_cdp" ]; then
		echo "$suite: making the chroot"
		rm -rf "${base:?}/$suite"
		debootstrap --variant=minbase "$suite" "$base/$suite" "$mirror" >"$base/$suite.log" 2>&1 || { tail -5 "$base/$suite.log"; return 1; }
		printf '#!/bin/sh\nexit 101\n' > "$base/$suite/usr/sbin/policy-rc.d"
		chmod 755 "$base/$suite/usr/sbin/policy-rc.d"
		# a snapshot of sid may be older than its Release file likes
		echo 'Acquire::Check-Valid-Until "false";' > "$base/$suite/etc/apt/apt.conf.d/90customer_cdp"
		touch "$base/$suite/.customer_cdp"
	fi
	root=$base/$suite work=
	mountpoint -q "$root/proc" || mount -t proc proc "$root/proc" || return 1
	# not the machine's /dev: nothing in there needs a disk
	if ! mountpoint -q "$root/dev"; then
		mount -t tmpfs -o mode=755 tmpfs "$root/dev" || return 1
		for n in null zero full random urandom tty; do cp -a "/dev/$n" "$root/dev/"; done
		ln -s /proc/self/fd "$root/dev/fd"
		mkdir "$root/dev/shm"
	fi
	mountpoint -q "$root/dev/shm" || mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm" || return 1
	work=$(mktemp -d "$root/tmp/tree.XXXXXX") || return 1
	(cd "$here" && tar -cf - --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' --exclude=./test/out \
		--exclude=./coverage --exclude=./dist --exclude='./sql/customer_cdp--*' .) | tar -xf - -C "$work" || return 1
	chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin ${http_proxy:+http_proxy="$http_proxy"} LC_ALL=C.UTF-8 PG_MAJOR="$major" \
		bash "/tmp/${work##*/}/.ci/deps" build >"$base/$suite.log" 2>&1 </dev/null || { tail -20 "$base/$suite.log"; return 1; }
}

passed=0 failed=0 unset_up= ran= summary=
for major in "$@"; do
	case $major in 17) suite=trixie;; 18) suite=sid;; *) echo "check-versions: 17 and 18 are available from Debian" >&2; exit 2;; esac
	echo "== PostgreSQL $major (Debian $suite)"
	if ! setup "$major" "$suite"; then
		echo "PostgreSQL $major: the set-up failed"; unset_up="$unset_up $major"; unmount; continue
	fi
	log=$base/$suite.log
	chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 MODULES="${MODULES:-}" \
		CDP_DIFF_LINES="${CDP_DIFF_LINES:-200}" PG_CONFIG="/usr/lib/postgresql/$major/bin/pg_config" \
		bash "/tmp/${work##*/}/test/run.sh" ${SUITES:-regress isolation pgtap tap upgrade examples} </dev/null 2>&1 | tee "$log" |
		grep -vE '^[0-9]+ passed, [0-9]+ failed$'
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -1)
	ran=yes
	p=${line%% passed*} f=${line##*, }; f=${f%% failed*}
	# no result line: the build or the server broke, which is a failure of ours
	[ -n "$line" ] || { p=0 f=1; echo "PostgreSQL $major: no result"; }
	passed=$((passed + p)) failed=$((failed + f))
	summary="$summary  PostgreSQL $major: $p passed, $f failed
"
	unmount
done
printf '%s' "$summary"
[ -z "$unset_up" ] || echo "  not set up:$unset_up"
[ -z "$ran" ] || echo "$passed passed, $failed failed"
[ $failed = 0 ] || exit 1
[ -z "$unset_up" ] || exit 3
