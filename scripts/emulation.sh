#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# emulation.sh: fetches the userspace emulation of kqueue, which the benchmarks use for comparison,
# and prints the path of its library. It does not change the system.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
# The lists are separate, because the kernel must not be taken from this suite.
archive=$cache/apt-experimental
suites=experimental
unset KQUEUE_ARCHIVE_FRESH

dir=$cache/libkqueue
if [ ! -f "$dir/.unpacked" ]; then
	say "fetching libkqueue"
	archive_update
	package=$(archive_apt apt-cache search --names-only '^libkqueue0' | sed -n '1s/ .*//p')
	[ -n "$package" ] || die "the archive has no libkqueue"
	rm -rf "$dir"
	archive_unpack "$package" "$dir"
	touch "$dir/.unpacked"
fi
find "$dir" -name 'libkqueue.so.0' | head -n 1
