#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# host-packages.sh [PACKAGE...]: installs the Debian packages that building and booting a dev kernel
# takes, and the named ones. Does nothing when all of them are there.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"

# The first of these that this Debian has. 17 is the kernel's minimum; bindgen
# misreads the C of releases much newer than itself, so newest is not best.
llvm_version() {
	local version
	for version in 19 20 21 18 17; do
		if apt-cache show "clang-$version" >/dev/null 2>&1; then
			echo "$version"
			return
		fi
	done
}

command -v apt-get >/dev/null ||
	die "only Debian and its derivatives are set up by script; Documentation/testing.md lists what is needed"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q '^install ok'; }

llvm=$(llvm_version)
if [ -z "$llvm" ]; then
	as_root apt-get -qq update
	llvm=$(llvm_version)
fi
[ -n "$llvm" ] || die "no clang at or above 17 in this Debian's archive"

want=(
	"clang-$llvm" "lld-$llvm" "llvm-$llvm" "libclang-$llvm-dev"
	gcc make flex bison bc cpio kmod libelf-dev libssl-dev xz-utils rsync perl
	qemu-system-x86 busybox-static python3 python3-venv procps iproute2 netcat-openbsd e2fsprogs mount pkg-config g++ mandoc dkms debootstrap
	dpkg-dev debhelper dh-dkms
)
# For 32-bit programs.
[ "$(dpkg --print-architecture)" != amd64 ] || want+=(gcc-multilib)
want+=("$@")
missing=()
for package in "${want[@]}"; do
	installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
	say "installing: ${missing[*]}"
	as_root apt-get -qq update
	logged "$cache/apt-install.log" as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y --no-install-recommends "${missing[@]}"
fi

# An emulator before 8.1 loses a write to code that another processor is just translating: a kernel
# that patches itself, as ftrace does, then dies of a breakpoint that is long gone ("Oops: int3").
qemu_is_sound() {
	local version
	version=$(qemu-system-x86_64 --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
	printf '8.1\n%s\n' "$version" | sort -CV
}
if ! has_kvm && ! qemu_is_sound; then
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	say "installing a newer QEMU from $codename-backports"
	# shellcheck disable=SC2034 # Both are for archive_apt; its own lists, as for the emulation.
	archive=$cache/apt-host suites="$codename $codename-updates $codename-backports"
	archive_update
	logged "$cache/apt-qemu.log" archive_apt as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -t "$codename-backports" -y --no-install-recommends qemu-system-x86
	qemu_is_sound || die "QEMU 8.1 or later is needed where there is no KVM; see $cache/apt-qemu.log"
fi
echo "$llvm" >"$cache/llvm-version"
