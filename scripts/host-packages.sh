#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# host-packages.sh [PACKAGE...]: installs the Debian packages that are required to build and boot a
# development kernel, and the named packages. Does nothing if all of them are installed. The emulator of
# another processor is named by its program, such as qemu-system-aarch64.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"

# Prints the first of these versions that this Debian has. The kernel requires 17 or later. The
# newest is not preferred, because bindgen misreads the C of releases that are much newer than
# itself.
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
	die "this script supports only Debian and its derivatives; on other systems install the packages of its list"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q '^install ok'; }

llvm=$(llvm_version)
if [ -z "$llvm" ]; then
	as_root apt-get -qq update
	llvm=$(llvm_version)
fi
[ -n "$llvm" ] || die "the Debian archive has no clang 17 or later"

want=(
	"clang-$llvm" "lld-$llvm" "llvm-$llvm" "libclang-$llvm-dev"
	gcc make flex bison bc cpio kmod libelf-dev libssl-dev xz-utils rsync perl
	busybox-static python3 python3-venv procps iproute2 netcat-openbsd e2fsprogs mount pkg-config g++ mandoc dkms debootstrap
	ca-certificates dpkg-dev debhelper dh-dkms
)
# For 32-bit programs.
[ "$(dpkg --print-architecture)" != amd64 ] || want+=(gcc-multilib)
# The packages of the emulators provide the names of their programs. All emulators must be of one
# version, so those of other processors are installed below, together with a newer QEMU.
native=qemu-system-$(uname -m)
emulators=("$native")
for package; do
	case $package in
	qemu-system-*) emulators+=("$package") ;;
	*) want+=("$package") ;;
	esac
done
missing=()
for package in "${want[@]}"; do
	installed "$package" || missing+=("$package")
done
command -v "$native" >/dev/null || missing+=("${native//_/-}")
if [ ${#missing[@]} -gt 0 ]; then
	say "installing: ${missing[*]}"
	as_root apt-get -qq update
	logged "$cache/apt-install.log" as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${missing[@]}"
fi

# QEMU before 8.1 loses a write to code that another processor is translating at that moment. A
# kernel that patches itself, as ftrace does, then dies at a breakpoint that no longer exists
# ("Oops: int3").
qemu_is_sound() {
	local version
	version=$("$1" --version 2>/dev/null | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
	[ -n "$version" ] && printf '8.1\n%s\n' "$version" | sort -CV
}
for emulator in "${emulators[@]}"; do
	if qemu_is_sound "$emulator" || { [ "$emulator" = "$native" ] && has_kvm; }; then
		continue
	fi
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	say "installing a newer QEMU from $codename-backports"
	# shellcheck disable=SC2034 # Both are for archive_apt; its own lists, as for the emulation.
	archive=$cache/apt-host suites="$codename $codename-updates $codename-backports"
	archive_update
	logged "$cache/apt-qemu.log" archive_apt as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -o DPkg::Lock::Timeout=600 install -t "$codename-backports" -y --no-install-recommends "${emulator//_/-}"
	qemu_is_sound "$emulator" || die "QEMU 8.1 or later is required without KVM; see $cache/apt-qemu.log"
done
echo "$llvm" >"$cache/llvm-version"
