#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# check-kernels.sh [KERNELS [TESTS]]: checks the module with the newest kernels of the Debian archive:
# those of trixie-backports, and the next one in experimental. Builds the module for each kernel, boots
# this very kernel, loads the module, and runs a group of the selftests. Prints a row for each kernel.
# Fails if a kernel fails. With KERNELS only the kernels whose release matches are checked, and with
# TESTS another group of tests is run. Must run as root.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
cd "$top"
only=${1:-}
# The group has tests of all ways in which the module gets its events.
group=${2:-^(module|c|close|mounts|pipe|process|socket|timer|user|vnode)::}
architecture=$(dpkg --print-architecture)
out=$top/build/check-kernels
mkdir -p "$out"
failed=0

scripts/host-packages.sh
assignments=$(scripts/selftests.sh)
eval "$assignments"
cargo build --quiet --release -p kqueue-samples

# row RELEASE VERSION BUILDS LOADS SELFTESTS
row() { printf '%-26s %-17s %-7s  %-6s %s\n' "$@"; }

# Makes $out/bin/virtiofsd, which runs the program of the root directory, with its libraries. Debian 12 has
# no such package.
make_virtiofsd() {
	local libraries
	[ -x "$KQUEUE_ROOT/usr/libexec/virtiofsd" ] ||
		logged "$out/virtiofsd.log" chroot "$KQUEUE_ROOT" env DEBIAN_FRONTEND=noninteractive \
			PATH=/usr/sbin:/usr/bin:/sbin:/bin apt-get -qy --no-install-recommends install virtiofsd
	libraries=$(dirname "$KQUEUE_ROOT"/usr/lib/*/libc.so.6)
	mkdir -p "$out/bin"
	printf '#!/bin/sh\nexec %q --library-path %q %q "$@"\n' "$libraries"/ld-linux-*.so.* "$libraries" \
		"$KQUEUE_ROOT/usr/libexec/virtiofsd" >"$out/bin/virtiofsd"
	chmod +x "$out/bin/virtiofsd"
}

# check RELEASE VERSION: checks the kernel in $KQUEUE_ROOT, and prints its row.
check() {
	local release=$1 version=$2 log=$out/$1 passed=0 bad=0 skipped=0 status=0 kernel module helpers reason
	local virtiofs='' skips=''
	mkdir -p "$log"
	if ! assignments=$(scripts/stock.sh "$release" 2>"$log/build"); then
		reason=$(sed -nE 's/^(check|distro)-tree\.sh: ([^ ]+: )?//p' "$log/build" | tail -n 1)
		row "$release" "$version" no - "${reason:-see $log/build}"
		failed=1
		return
	fi
	eval "$assignments"
	if ! grep -q '^CONFIG_NET_9P=' "$KQUEUE_ROOT/usr/src/linux-headers-$release/.config"; then
		make_virtiofsd
		virtiofs=$out/bin skips=$top/selftests/virtiofs.skips
	fi
	rm -f "$log/counts"
	KQUEUE_GUEST_VIRTIOFS=$virtiofs scripts/guest.sh "$kernel" 2400 "$log" env "KQUEUE_SKIPS=$skips" \
		selftests/run.sh "$module" "$log" "$tests" "$c_tests" target/release/echo-server \
		"$helpers/slowpoll.ko" "$group" >"$log/log" 2>&1 || status=$?
	if ! read -r passed bad skipped <"$log/counts"; then
		row "$release" "$version" yes no "see $log/log"
		failed=1
	elif [ $status != 0 ]; then
		row "$release" "$version" yes yes "$passed passed, $bad failed (see $log/log)"
		failed=1
	elif [ "$skipped" != 0 ]; then
		row "$release" "$version" yes yes "$passed passed, $skipped skipped"
	else
		row "$release" "$version" yes yes "$passed passed"
	fi
}

row kernel version builds loads selftests
for suite in trixie sid; do
	export KQUEUE_ROOT=$cache/kernels-$suite
	flavours=("$architecture")
	[ $suite = sid ] || flavours+=("cloud-$architecture" "rt-$architecture")
	scripts/debian-root.sh $suite "${flavours[@]}" >/dev/null
	for flavour in "${flavours[@]}"; do
		release=$(debian_release "$KQUEUE_ROOT" "$flavour")
		[[ $release =~ $only ]] || continue
		check "$release" "$(dpkg-query --root="$KQUEUE_ROOT" -W -f '${Version}' "linux-headers-$release")"
	done
done
exit $failed
