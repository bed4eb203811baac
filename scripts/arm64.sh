#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# arm64.sh: builds the module, the library, the samples and the tests for Debian's stock kernel for
# arm64, with the cross compiler of Debian 13, and makes a root directory for a guest in which they are.
# Prints the shell assignments kernel=DIRECTORY and root=DIRECTORY (for guest.sh), and place=DIRECTORY,
# which contains everything within the root directory. It requires the rights of root, debootstrap and
# qemu-system-aarch64.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
cd "$top"
[ "$(dpkg --print-architecture)" = amd64 ] || die "cross building is only prepared on amd64"
export KQUEUE_ROOT=$cache/debian-13-cross
cross=$(scripts/debian-root.sh)
unset KQUEUE_ROOT
mkdir -p "$cross/root/.cargo/registry"
cargo_home=${CARGO_HOME:-$HOME/.cargo}
# within COMMAND...: runs it in the root directory of the cross compiler, with the crates that this
# machine has downloaded.
within() {
	# shellcheck disable=SC2016
	unshare --mount sh -c 'mount -t proc proc "$0/proc" && mount --bind "$1" "$0/root/.cargo/registry" &&
		shift && exec chroot "$0" "$@"' "$cross" "$cargo_home/registry" \
		env LC_ALL=C HOME=/root DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++ \
		AR=aarch64-linux-gnu-ar KQUEUE_TARGET=aarch64-unknown-linux-gnu \
		CARGO_NET_OFFLINE=true CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc "$@"
}
cargo fetch --quiet --locked

log=$cache/arm64.log
if [ ! -f "$cross/.cross" ]; then
	say "installing the cross compiler for arm64 and the headers of its stock kernel"
	logged "$log" within dpkg --add-architecture arm64
	logged "$log" within apt-get -q update
	logged "$log" within apt-get -qy --no-install-recommends -t trixie-backports install linux-headers-arm64:arm64
	logged "$log" within apt-get -qy --no-install-recommends install gcc-aarch64-linux-gnu \
		g++-aarch64-linux-gnu libc6-dev-arm64-cross libstd-rust-dev:arm64 cargo
	touch "$cross/.cross"
fi
release=$(debian_release "$cross" arm64)

# The programs of arm64 do not run here, so the packages are only unpacked. That is enough for the
# guest.
root=$cache/debian-13-arm64
if [ "$(cat "$root/.made" 2>/dev/null)" != "$release" ]; then
	say "making a root directory for guests of arm64 in $root"
	archive_update
	uri=$(sed -n 's/^URIs: //p' "$archive/suites.sources")
	rm -rf --one-file-system "$root"
	logged "$log" debootstrap --foreign --arch=arm64 --variant=minbase \
		--include=busybox-static,kmod,iproute2,python3,procps,mount,netcat-openbsd,e2fsprogs \
		trixie "$root" "$uri"
	packages=$cross/root/packages
	rm -rf "$packages"
	mkdir -p "$packages"
	logged "$log" within sh -c 'cd /root/packages && exec apt-get -q -o APT::Sandbox::User=root download "$@"' sh \
		"linux-binary-$release:arm64" "linux-modules-$release:arm64" "linux-base-$release:arm64"
	for package in "$root"/var/cache/apt/archives/*.deb "$packages"/*.deb; do
		dpkg-deb -x "$package" "$root"
	done
	logged "$log" depmod -b "$root" "$release"
	cp /etc/passwd /etc/group "$root/etc/"
	ln -sf /usr/bin/busybox "$root/usr/sbin/poweroff"
	mkdir -p "$root/srv" "$root/opt"
	echo "$release" >"$root/.made"
fi

# Several clones can build and run at the same time, so each has directories of its own.
place=/root/kqueue-$(cksum <<<"$top" | cut -d' ' -f1)
say "building for $release"
source=$(mktemp -d "$cross/root/kqueue.XXXXXX")
trap 'rm -rf "$source"' EXIT
cp -r Cargo.toml Cargo.lock Kbuild Makefile README.md Documentation bench include lib packaging rust samples \
	scripts selftests "$source/"
find "$source" \( -name '*.o' -o -name '*.ko' -o -name '*_generated.rs' -o -name '.*.cmd' \) -delete
inside=${source#"$cross"}
logged "$log" within env KQUEUE_TREES=/root/trees make -C "$inside" \
	KDIR="/usr/src/linux-headers-$release" modules
logged "$log" within make -C "/root/trees/$release/build" M="$inside/selftests/guest" modules
# What cargo builds is kept for the next run.
target=/root/target
logged "$log" within env CARGO_TARGET_DIR=$target RUSTFLAGS= sh -c "cd $inside && scripts/selftests.sh >assignments &&
	cargo build --quiet --release --target aarch64-unknown-linux-gnu -p kqueue-samples"
programs=$cross$target/aarch64-unknown-linux-gnu/release
eval "$(sed 's/^tests=/inner_tests=/; s/ c_tests=/ inner_c_tests=/' "$source/assignments")"
stage=$root$place
rm -rf "$stage"
mkdir -p "$stage/c-tests"
# shellcheck disable=SC2154 # Both come from the assignments.
cp "$cross$inner_tests" "$stage/tests"
cp "$cross$inner_c_tests"/* "$stage/c-tests/"
cp "$source/kqueue.ko" "$source/selftests/guest/slowpoll.ko" "$programs/echo-server" "$programs/kqtrace" "$stage/"
cp -r selftests/*.sh selftests/stock.skips samples/demo "$stage/"
echo "kernel=$root/usr/lib/modules/$release root=$root place=$place"
