#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# stock-program.sh NAME: builds that program of samples/ with the cargo of Debian 13, in the root directory
# that contains the stock kernel (debian-root.sh), and prints its path. So no Rust is required on this
# machine. The program is linked statically, because the C library of this machine can be older. Must run
# as root.
source "$(dirname "$0")/common.sh"
cd "$top"
root=$(scripts/debian-root.sh)
triple=$(uname -m)-unknown-linux-gnu
mkdir -p build/stock "$root/srv/kqueue"
# This machine may have certificates of its own.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/this-machine.crt"
say "building $1"
# shellcheck disable=SC2016
logged build/stock/log.program unshare --mount sh -c '
	mount -t proc proc "$0/proc" && mount --bind "$1" "$0/srv/kqueue" && shift && exec chroot "$0" "$@"' "$root" "$top" \
	env LC_ALL=C HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin CARGO_HOME=/root/.cargo \
	CARGO_HTTP_CAINFO=/etc/this-machine.crt CARGO_TARGET_DIR=/srv/kqueue/build/stock/target \
	RUSTFLAGS='-C target-feature=+crt-static' sh -c 'cd /srv/kqueue && exec cargo build --locked --release "$@"' sh \
	--target "$triple" -p kqueue-samples --bin "$1"
echo "$top/build/stock/target/$triple/release/$1"
