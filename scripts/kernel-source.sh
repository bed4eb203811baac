#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# kernel-source.sh [--update]: fetches Debian's newest kernel source package of the 7.x series,
# which must not be older than scripts/minimum-kernel. Prints the path of the unpacked tree.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"

minimum=$(cat "$top/scripts/minimum-kernel")

# A tree that is there already is used unchanged, because it is a part of the key of everything that is
# built from it. --update looks for a newer one.
if [ "${1:-}" != --update ] && [ -f "$cache/kernel-source" ]; then
	tree=$(cat "$cache/kernel-source")
	if [ -f "$tree/Makefile" ]; then
		echo "$tree"
		exit 0
	fi
fi

archive_update
series=$(archive_apt apt-cache search --names-only '^linux-source-7[.][0-9]+$' |
	sed -E 's/^linux-source-([0-9.]+) .*/\1/' | sort -V | tail -n 1)
if [ -z "$series" ] || ! printf '%s\n' "$minimum" "$series" | sort -CV; then
	die "the archive's newest kernel source is ${series:-none}; $minimum or later is needed"
fi
version=$(archive_apt apt-cache madison "linux-source-$series" | awk '{print $3}' | sort -V | tail -n 1)
tree=$cache/linux-source-${version//[^0-9A-Za-z.]/-} # make dislikes the rest in a path
if [ ! -f "$tree/Makefile" ]; then
	say "fetching linux-source-$series $version"
	rm -rf "$tree" "$tree.unpack"
	archive_unpack "linux-source-$series=$version" "$tree.unpack"
	mkdir -p "$tree.new"
	tar -xf "$tree.unpack/usr/src/linux-source-$series.tar.xz" -C "$tree.new" --strip-components=1
	mv "$tree.new" "$tree"
	rm -rf "$tree.unpack"
fi
say "kernel source: Debian's linux-source-$series, $version"
echo "$tree" >"$cache/kernel-source"
echo "$tree"
