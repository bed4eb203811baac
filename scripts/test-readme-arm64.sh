#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test-readme-arm64.sh: does what test-readme.sh does for arm64, with the cross compiler. The lines that
# build are typed in the root directory of the cross compiler (arm64-roots.sh), where `make deb` builds
# the packages for arm64. They are unpacked into a copy of the root directory of arm64. The programs of
# arm64 do not run here, so DKMS does not build the module: the script of the package that DKMS would
# run builds it, from the source in the package. A guest, which is an emulated machine with Debian's stock
# kernel for arm64, boots on that directory, and the lines that use the module are typed in it. Must run
# as root. Prints "ok ..." and "not ok ..." lines.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
cd "$top"
scripts/host-packages.sh qemu-system-aarch64
[ "$(id -u)" = 0 ] || die "run this as root: it makes and enters root directories of Debian"
source scripts/arm64-roots.sh
out=$top/build/guest/readme-arm64
source scripts/readme-lines.sh
# The packages of Debian that these lines install are in the root directories already. The commands of a
# line are typed one by one.
sed -i 's/ && /\n/g' "$out/lines"
sed -i -E '/^(echo deb |sudo apt update$|sudo apt install linux-)/d' "$out/lines"
installed=$cache/debian-13-readme-arm64
trap 'rm -rf --one-file-system "$source" "$installed"' EXIT
rm -rf --one-file-system "$installed"
cp -a "$root" "$installed"
useradd --prefix "$installed" --create-home --shell /bin/bash user
echo 'user ALL=(ALL) NOPASSWD: ALL' >"$installed/etc/sudoers.d/user"
home=$installed/home/user/kqueue
mkdir -p "$home/target/release"
cp "$out/program.c" "$source/"

unpack() {
	local package
	for package in "$source/build/deb/$1"*.deb; do
		dpkg-deb -x "$package" "$2" || return
	done
}
# The compiler takes the headers and the library from a directory in its own root directory.
install_packages() {
	unpack '' "$installed" && unpack libkqueue-c "$source/installed" &&
		cp -r "$installed/usr/src/kqueue-$(scripts/version.sh)" "$source/dkms" &&
		within "$inside/dkms/scripts/dkms-build.sh" "/usr/src/linux-headers-$release" &&
		install -D -m 644 "$source/dkms/kqueue.ko" "$installed/usr/lib/modules/$release/updates/dkms/kqueue.ko" &&
		depmod -b "$installed" "$release"
}
# What cc and cargo are on a machine that is of arm64 itself.
natives='cc() { aarch64-linux-gnu-gcc "$@"; }
cargo() { CARGO_TARGET_DIR='$target' CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu command cargo "$@"; }'
# type_line LINE: types the line in the root directory of the cross compiler.
type_line() {
	if [ "$1" = 'sudo apt install ./build/deb/*.deb' ]; then
		install_packages
		return
	fi
	within env RUSTFLAGS= PKG_CONFIG_SYSROOT_DIR="$inside/installed" \
		PKG_CONFIG_LIBDIR="$inside/installed/usr/lib/aarch64-linux-gnu/pkgconfig" \
		bash -c "cd $inside || exit; $natives; $1" </dev/null
}
type_lines type_line

cp "$source/program" "$home/"
cp "$programs/echo-server" "$home/target/release/"
cp selftests/readme.sh "$out/typed.sh" "$installed/root/"
export KQUEUE_GUEST_ROOT=$installed KQUEUE_GUEST_ARCH=arm64
if ! scripts/guest.sh "$installed/usr/lib/modules/$release" 1800 "$out" bash /root/readme.sh; then
	echo "not ok readme::guest"
	exit 1
fi
