# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034 # Other scripts use what this one sets.
# For scripts that build for arm64 with the cross compiler of Debian 13. Makes two root directories in
# the cache, once: $cross, of amd64, contains the compiler and the headers of Debian's stock kernel for
# arm64, whose release is $release; $root, of arm64, contains that kernel, and guests can boot it. Its
# packages are only unpacked, because the programs of arm64 do not run here. Requires the rights of root,
# debootstrap, and what common.sh and debian-archive.sh define.
[ "$(dpkg --print-architecture)" = amd64 ] ||
	die "cross building is only prepared on amd64 (on arm64, 'make test-stock' tests Debian's kernel for arm64)"
cross=$(KQUEUE_ROOT=$cache/debian-13-cross scripts/debian-root.sh)
root=$cache/debian-13-arm64
log=$cache/arm64.log
# The trees of kernels, for distro-tree.sh, within $cross.
trees=/root/trees
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
		AR=aarch64-linux-gnu-ar KQUEUE_TARGET=aarch64-unknown-linux-gnu KQUEUE_TREES=$trees \
		CARGO_NET_OFFLINE=true CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc "$@"
}
cargo fetch --quiet --locked

# Both depend on this script, so they are completed or made again after a change of it.
complete=$(cksum <scripts/arm64-roots.sh)
if [ "$(cat "$cross/.cross" 2>/dev/null)" != "$complete" ]; then
	say "installing the cross compiler for arm64 and the headers of its stock kernel"
	logged "$log" within dpkg --add-architecture arm64
	logged "$log" within apt-get -q update
	logged "$log" within apt-get -qy --no-install-recommends -t trixie-backports install linux-headers-arm64:arm64
	logged "$log" within apt-get -qy --no-install-recommends install gcc-aarch64-linux-gnu \
		g++-aarch64-linux-gnu libc6-dev-arm64-cross libstd-rust-dev:arm64 cargo debhelper dh-dkms
	echo "$complete" >"$cross/.cross"
fi
release=$(debian_release "$cross" arm64)

if [ "$(cat "$root/.made" 2>/dev/null)" != "$release $complete" ]; then
	say "making a root directory for guests of arm64 in $root"
	archive_update
	uri=$(sed -n 's/^URIs: //p' "$archive/suites.sources")
	rm -rf --one-file-system "$root"
	logged "$log" debootstrap --foreign --arch=arm64 --variant=minbase \
		--include=busybox-static,kmod,iproute2,python3,procps,mount,netcat-openbsd,e2fsprogs,man-db,sudo \
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
	# The packages' own programs would have made these files as they are in the other root directory.
	cp -a "$cross"/etc/{passwd,group,shadow,gshadow} "$root/etc/"
	cp -a "$cross"/etc/pam.d/common-* "$root/etc/pam.d/"
	ln -sf /usr/bin/busybox "$root/usr/sbin/poweroff"
	mkdir -p "$root/srv" "$root/opt"
	echo "$release $complete" >"$root/.made"
fi

# A copy of the sources, within $cross, for one build.
source=$(mktemp -d "$cross/root/kqueue.XXXXXX")
trap 'rm -rf "$source"' EXIT
cp -r Cargo.toml Cargo.lock COPYING Kbuild Makefile README.md Documentation bench dkms.conf include lib packaging rust \
	samples scripts selftests "$source/"
find "$source" \( -name '*.o' -o -name '*.ko' -o -name '*_generated.rs' -o -name '.*.cmd' \) -delete
inside=${source#"$cross"}
# What cargo builds is kept for the next run.
target=/root/target
programs=$cross$target/aarch64-unknown-linux-gnu/release
