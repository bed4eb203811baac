#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# arm64.sh: builds the module, the library, the samples and the tests for Debian's stock kernel for
# arm64, and copies them into a root directory for a guest (arm64-roots.sh). Prints the shell assignments
# kernel=DIRECTORY and root=DIRECTORY (for guest.sh), and place=DIRECTORY, which contains everything
# within the root directory. It requires the rights of root, debootstrap and qemu-system-aarch64.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
cd "$top"
scripts/need-rust.sh
source scripts/arm64-roots.sh

# Several clones can build and run at the same time, so each has directories of its own.
place=/root/kqueue-$(cksum <<<"$top" | cut -d' ' -f1)
say "building for $release"
logged "$log" within make -C "$inside" KDIR="/usr/src/linux-headers-$release" modules
logged "$log" within make -C "$trees/$release/build" M="$inside/selftests/guest" modules
logged "$log" within env CARGO_TARGET_DIR=$target RUSTFLAGS= sh -c "cd $inside && scripts/selftests.sh >assignments &&
	cargo build --quiet --release --target aarch64-unknown-linux-gnu -p kqueue-samples"
eval "$(sed 's/^tests=/inner_tests=/; s/ c_tests=/ inner_c_tests=/' "$source/assignments")"
stage=$root$place
rm -rf "$stage"
mkdir -p "$stage/c-tests" "$stage/selftests" "$stage/samples"
# shellcheck disable=SC2154 # Both come from the assignments.
cp "$cross$inner_tests" "$stage/tests"
cp "$cross$inner_c_tests"/* "$stage/c-tests/"
cp "$source/kqueue.ko" "$source/selftests/guest/slowpoll.ko" "$programs/echo-server" "$programs/kqtrace" "$stage/"
cp selftests/*.sh selftests/*.skips "$stage/selftests/"
cp -r samples/demo "$stage/samples/"
echo "kernel=$root/usr/lib/modules/$release root=$root place=$place"
