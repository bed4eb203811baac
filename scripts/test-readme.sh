#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test-readme.sh: types the command lines of README.md, as they stand there, on a new machine. These
# are the lines of "On Debian 13", and those of "Write a program". A root directory of Debian 13 is
# made by debootstrap, with a user who may use sudo. The lines that build and install are typed
# there. Then a guest boots the kernel that they have installed, with that root directory, and the
# lines that use the module are typed in it. In the end the echo server has to answer, and the
# manual has to be readable. Must run as root. Prints "ok ..." and "not ok ..." lines, and stops at
# the first line that fails in the root directory. With ARCH=arm64 it is test-readme-arm64.sh.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
cd "$top"
scripts/host-packages.sh
[ "$(id -u)" = 0 ] || die "run this as root: it makes and enters a root directory of Debian"
case ${ARCH:-} in
'') ;;
arm64) exec env -u ARCH scripts/test-readme-arm64.sh ;;
*) die "ARCH can be arm64, or not set" ;;
esac
root=$cache/debian-13-readme
out=$top/build/guest/readme
log=$out/log
# The downloads of earlier runs.
packages=$cache/debian-13-packages
crates=$cache/debian-13-crates
mkdir -p "$packages" "$crates"
source scripts/readme-lines.sh

say "making a root directory of Debian 13 in $root"
archive_update
uri=$(sed -n 's/^URIs: //p' "$archive/suites.sources")
rm -rf --one-file-system "$root"
trap 'rm -rf --one-file-system "$root"' EXIT
logged "$log" debootstrap --variant=minbase --cache-dir="$packages" \
	--include=ca-certificates,iproute2,kmod,man-db,sudo trixie "$root" "$uri"
# What the installer of Debian would have configured, and the answers that a person would give.
echo "deb $uri trixie main" >"$root/etc/apt/sources.list"
apt-config dump Acquire::Check-Valid-Until >"$root/etc/apt/apt.conf.d/90valid-until"
printf '%s "true";\n' APT::Get::Assume-Yes Binary::apt::APT::Keep-Downloaded-Packages \
	>"$root/etc/apt/apt.conf.d/90yes"
printf '127.0.0.1 localhost\n127.0.0.1 %s\n' "$(hostname)" >"$root/etc/hosts"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
printf '%s\n' 'Defaults env_keep += "DEBIAN_FRONTEND"' 'user ALL=(ALL) NOPASSWD: ALL' \
	>"$root/etc/sudoers.d/user"
# This machine may have certificates of its own.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/this-machine.crt"
chroot "$root" useradd -m -s /bin/bash user
home=$root/home/user
mkdir -p "$home/kqueue" "$home/.cargo/registry"
git ls-files -z --cached --others --exclude-standard |
	tar -c --null --files-from - --ignore-failed-read | tar -x -C "$home/kqueue"
cp "$out/program.c" "$home/kqueue/"
chroot "$root" chown -R user: /home/user
chown -R "$(stat -c %u:%g "$home")" "$crates"

# Types a line as the user. All processes end with it.
type_in_root() {
	# shellcheck disable=SC2016
	timeout 3600 unshare --mount --pid --fork sh -c '
		mount -t proc proc "$0/proc"
		mount -t devpts devpts "$0/dev/pts"
		mount --bind "$1" "$0/var/cache/apt/archives"
		mount --bind "$2" "$0/home/user/.cargo/registry"
		exec chroot "$0" runuser -l user -c "export DEBIAN_FRONTEND=noninteractive \
			CARGO_HTTP_CAINFO=/etc/this-machine.crt; cd kqueue; $3"' \
		"$root" "$packages" "$crates" "$1" </dev/null
}

type_lines type_in_root

kernel=$(echo "$root"/usr/lib/modules/*/vmlinuz)
cp selftests/readme.sh "$root/root/"
cp "$out/typed.sh" "$root/root/"
export KQUEUE_GUEST_ROOT=$root
if ! scripts/guest.sh "${kernel%/vmlinuz}" 1800 "$out" bash /root/readme.sh; then
	echo "not ok readme::guest"
	exit 1
fi
