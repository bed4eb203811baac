#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test-deb.sh [DEBS]: tests the Debian packages of the directory DEBS (build/deb) in a clean root
# directory of Debian 13 that has the stock kernel and its headers (debian-root.sh). lintian checks
# them. An older version is built and installed: this must fail with one clear line without a network
# and on a full disk, and it must need no network if linux-source is installed. Then it is upgraded to
# the current version, downgraded, and upgraded again. Each time DKMS builds the module. Then a guest
# boots the stock kernel on this root directory and uses the packages. With lockdown=integrity the kernel
# must refuse the module, unless the firmware has the key of DKMS. Then the packages are purged. In the
# end the same is installed by `make install`, and uninstalled. Must run as root. Prints "ok ..." and
# "not ok ..." lines.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
cd "$top"
debs=$(cd "${1:-build/deb}" && pwd)
root=$(scripts/debian-root.sh)
release=$(debian_release "$root" "$(dpkg --print-architecture)")
version=$(scripts/version.sh)
older=0.0.1

place=$root/root/debs
rm -rf "$place"
mkdir -p "$place/current" "$place/older"
packages=(kqueue-dkms libkqueue-c0 libkqueue-c-dev kqtrace)
take() {
	local package
	for package in "${packages[@]}"; do
		cp "$1/$package"_*.deb "$2/"
	done
}
take "$debs" "$place/current"
mounted=0
mountpoint -q "$root/proc" || { mount -t proc proc "$root/proc" && mounted=1; }
log=$(mktemp)
trees=$root/var/cache/kqueue
dkms=$root/var/lib/dkms/kqueue
clean() {
	! mountpoint -q "$trees" || umount "$trees"
	! mountpoint -q "$dkms" || umount "$dkms"
	[ $mounted = 0 ] || umount "$root/proc"
	rm -rf "$log" "$place" "$root"/lib/modules/*-artificial
}
trap clean EXIT

entered=(chroot "$root" env LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin)
within() { "${entered[@]}" "$@"; }
offline() { unshare --net "${entered[@]}" "$@"; }
check() {
	local name=$1
	shift
	if "$@" >"$log" 2>&1; then
		echo "ok deb::$name"
	else
		echo "not ok deb::$name"
		tail -n 40 "$log" | sed 's/^/  | /'
	fi
}
modules() { find "$root/lib/modules/" -name 'kqueue.ko*'; }
# apt DIRECTORY ARGUMENTS...: runs apt-get with the packages of older or current.
# shellcheck disable=SC2016
apt_script='directory=$1; shift; apt-get -qy --no-install-recommends "$@" "/root/debs/$directory"/*.deb'
apt() { within sh -c "$apt_script" apt "$@"; }
# The kernel of this machine is not that of the root directory. The package says where the module is.
upgraded() {
	local said
	said=$(apt current install 2>&1) || return
	echo "$said"
	[ "$(uname -r)" = "$release" ] ||
		grep -qx "kqueue-dkms: the module is installed for $release, and not for the running kernel" <<<"$said"
}

# The default address of the maintainer is not one that gets mail; DEBEMAIL sets the real one.
lint() {
	mkdir "$place/all"
	cp "$debs"/*.{deb,changes,buildinfo} "$place/all/"
	# shellcheck disable=SC2016
	within sh -c 'lintian --allow-root --fail-on error,warning \
		--suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog /root/debs/all/*.changes'
}
# The packages contain no paths of the machine that built them.
no_paths() {
	local package
	for package in "$place"/current/*.deb; do
		dpkg-deb -x "$package" "$place/unpacked"
	done
	! grep -raF -e "$top/" -e "${CARGO_HOME:-$HOME/.cargo}/" -e "${RUSTUP_HOME:-$HOME/.rustup}/" "$place/unpacked"
}
build_older() { scripts/deb.sh "$older" build/deb-older && take build/deb-older "$place/older"; }
# explains WORDS COMMAND...: the command must fail and print one line of the package with WORDS, and
# no module may remain.
explains() {
	local words=$1 said
	shift
	if said=$("$@" 2>&1); then
		echo "$said"
		return 1
	fi
	echo "$said"
	[ "$(grep -c "^kqueue-dkms: .*$words" <<<"$said")" = 1 ] && [ -z "$(modules)" ]
}
no_network() {
	explains 'linux-source-.* is not installed and cannot be downloaded: apt install' \
		offline sh -c "$apt_script" apt older install && [ -z "$(trees)" ]
}
# The disk fills while the tree of the kernel is generated.
full_disk() {
	local status=0
	mkdir -p "$trees"
	mount -t tmpfs -o size=50M none "$trees"
	explains 'the disk of /var/cache/kqueue is full' within dpkg --configure -a && [ -z "$(trees)" ] || status=1
	umount "$trees"
	return $status
}
# full_disk_of_dkms SIZE: the disk of that size fills while DKMS copies the source, or builds the module.
full_disk_of_dkms() {
	local status=0
	mount -t tmpfs -o size="$1" none "$dkms"
	explains 'the disk of /var/lib/dkms is full' offline dpkg --configure -a &&
		[ -z "$(find "$dkms" -name build)" ] || status=1
	umount "$dkms"
	return $status
}
# The source is installed alone, so that the packages are configured without a network.
install_source() {
	local version
	version=$(within dpkg-query -W -f '${Version}' "linux-headers-$(dpkg --print-architecture)")
	source=linux-source-$(cut -d. -f1,2 <<<"$version")
	# shellcheck disable=SC2016
	within sh -c 'cd /root/debs && apt-get -q download "$1" && dpkg -i linux-source-*.deb && rm linux-source-*.deb' sh \
		"$source=$version"
}
# module_is VERSION: the only module is of that version, signed, and the only one that DKMS knows.
module_is() {
	local module
	module=$(modules) && [ "$(wc -l <<<"$module")" = 1 ] && modinfo "$module" &&
		[ "$(modinfo -F version "$module")" = "$1" ] && [ -n "$(modinfo -F signer "$module")" ] &&
		within dkms status && [ "$(within dkms status | sed 's/^kqueue\/\([^,]*\),.*: installed$/\1/')" = "$1" ] &&
		[ "$(ls -d "$root"/usr/src/kqueue-*)" = "$root/usr/src/kqueue-$1" ]
}
# The tree of the kernel was made only once.
trees() { [ ! -e "$trees" ] || find "$trees" -name made-of -printf '%p %T@\n'; }
tree_is_kept() { [ -n "$made" ] && [ "$(trees)" = "$made" ]; }
compiles() {
	cp selftests/header.c "$place/"
	# shellcheck disable=SC2016
	within sh -c 'cd /root/debs && cc -D_GNU_SOURCE -o header header.c $(pkg-config --cflags --libs kqueue) && ldd header' |
		grep 'libkqueue_c.so.0 => /'
}
symbols() { nm -D --defined-only "$root"/usr/lib/*/libkqueue_c.so.0 | awk '{ print $3 }' | sort; }
# A program that was built with the older version still finds everything.
still_links() {
	[ -n "$symbols" ] && [ -z "$(comm -23 <(echo "$symbols") <(symbols))" ] && within ldd -r /root/debs/header &&
		! within ldd -r /root/debs/header 2>&1 | grep -E 'not found|undefined'
}
kqtrace_is() { [ "$(within kqtrace --version)" = "kqtrace $1" ] && [ -f "$root/usr/share/man/man1/kqtrace.1.gz" ]; }
in_place() { [ -f "$root/usr/lib/udev/rules.d/60-kqueue.rules" ] && [ -f "$root/usr/lib/modules-load.d/kqueue.conf" ]; }
# apt-get asks before it installs an older version, and refuses if nobody can answer.
downgrade_is_refused() { ! apt older install && module_is "$version"; }
# other_kernel_is_skipped RELEASE OPTION...: a kernel that is not supported is skipped, and is no error.
other_kernel_is_skipped() {
	local other=$root/lib/modules/$1
	mkdir -p "$other/build/include/config"
	echo "$1" >"$other/build/include/config/kernel.release"
	shift
	printf 'CONFIG_%s=y\n' "$@" >"$other/build/.config"
	within dkms autoinstall -k "${other##*/}" && [ -z "$(find "$other" -name 'kqueue*')" ] && module_is "$version"
}
# guest NAME COMMAND...: runs a script of selftests/ in a guest on the root directory.
guest() {
	local name=$1
	shift
	cp "selftests/${1##*/}" "$place/"
	KQUEUE_GUEST_ROOT=$root scripts/guest.sh "$root/usr/lib/modules/$release" 1200 "build/guest/$name" "$@"
}
locked_guest() {
	cp Documentation/install.md "$place/"
	KQUEUE_GUEST_APPEND=lockdown=integrity guest deb-locked /root/debs/locked.sh /root/debs/install.md
}
trusted_guest() {
	local firmware
	firmware=$(scripts/firmware.sh "$root/var/lib/dkms/mok.pub" build/guest/firmware) &&
		KQUEUE_GUEST_QEMU=$firmware KQUEUE_GUEST_APPEND=lockdown=integrity guest deb-trusted \
			/root/debs/installed.sh /root/debs/header "$version" integrity
}
nothing_left() {
	[ -z "$(within dkms status)" ] && [ ! -e "$root/var/cache/kqueue" ] &&
		[ -z "$(find "$root/usr" "$root/etc" "$root/var/lib/dkms" \( -name '*kqueue*' -o -name '*kqtrace*' \) ! -name 'workqueue*')" ]
}
purged() { within apt-get -qy purge "${packages[@]}" "$source" && [ -z "$(modules)" ] && nothing_left; }

# What `make` has built, without DKMS and packages: the module of DKMS, and what the packages were built from.
take_build() {
	local module
	module=$(modules)
	mkdir "$place/built"
	(cd "$debs/kqueue-$version" && cp -r --parents Cargo.toml Documentation/man Makefile build/lib include packaging \
		scripts target/release/kqtrace "$place/built/") &&
		case $module in
		*.xz) xz -dc "$module" ;;
		*) cat "$module" ;;
		esac >"$place/built/kqueue.ko" && echo kqueue.o >"$place/built/modules.order" && modinfo "$place/built/kqueue.ko"
}
# make_in_root TREE TARGET...
make_in_root() { within make -C /root/debs/built KDIR="$1" "${@:2}"; }
# It is installed for the kernel of KDIR, which is not the running one, and found by its name.
make_install() {
	make_in_root "/lib/modules/$release/build" install &&
		[ "$(within modinfo -k "$release" -F version kqueue)" = "$version" ]
}
make_install_for_another_kernel() {
	local other=$place/other said
	mkdir -p "$other/include/config"
	echo 7.3.5-artificial >"$other/include/config/kernel.release"
	! said=$(make_in_root /root/debs/other install 2>&1) || return
	echo "$said"
	[[ $said = *"kqueue.ko was not built for Linux 7.3.5-artificial: set KDIR="* ]] && nothing_left
}
make_uninstall() {
	make_in_root "/lib/modules/$release/build" uninstall dkms-uninstall &&
		! within modinfo -k "$release" kqueue && nothing_left
}

check lintian lint
check no_paths_of_this_machine no_paths
check older_version_is_built build_older
check no_network_is_explained no_network
check full_disk_is_explained full_disk
check linux_source_is_installed install_source
check full_disk_of_dkms_is_explained full_disk_of_dkms 8M
check full_disk_of_dkms_at_the_beginning_is_explained full_disk_of_dkms 500k
check older_version_is_installed_offline offline dpkg --configure -a
check module_is_built_and_signed module_is "$older"
check program_is_built compiles
symbols=$(symbols) || true
made=$(trees) || true
check upgraded upgraded
check module_is_built_again module_is "$version"
check tree_is_kept tree_is_kept
check program_still_links still_links
check kqtrace_is_upgraded kqtrace_is "$version"
check rule_and_load_below_usr in_place
check older_kernel_is_skipped other_kernel_is_skipped 7.2.12-artificial RUST FPROBE TRACEPOINTS
check kernel_without_fprobe_is_skipped other_kernel_is_skipped 7.3.4-artificial RUST TRACEPOINTS
check downgrade_is_refused downgrade_is_refused
check downgraded_on_request apt older --allow-downgrades install
check module_is_downgraded module_is "$older"
check upgraded_again apt current install
check module_is_upgraded_again module_is "$version"
check used_in_a_guest guest deb /root/debs/installed.sh /root/debs/header "$version" none
check refused_by_a_locked_guest locked_guest
check used_in_a_locked_guest_that_trusts_the_key trusted_guest
check build_is_taken take_build
check purged purged
check make_install_for_another_kernel make_install_for_another_kernel
check make_install make_install
check make_uninstall make_uninstall
