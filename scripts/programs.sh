#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# programs.sh NAME...: fetches the sources of these programs from Debian and builds each program
# twice: with its kqueue backend and this library, and with the interface that it uses on Linux
# otherwise. Prints the directory that contains them as NAME/kqueue and NAME/native.
# selftests/programs/NAME.sh defines how each program is built and tested. The event code of the
# programs is not changed.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
source "$top/selftests/programs/tools.sh"
cd "$top"

out=$top/build/programs
log=$out/log
mkdir -p "$out" "$log" "$cache/programs"
scripts/library.sh
# Options of the compiler and the linker, for the files of the programs. The object file is for
# programs that name their own libraries last.
include="-I$top/include -I$top/include/uapi"
library="$top/build/lib/libkqueue_c.a"
# shellcheck disable=SC2034 # Used by the programs' files.
object="$top/build/lib/kqueue.o"

# fetch PACKAGE SUITE: fetches the original source of the program and prints its path.
fetch() (
	dir=$cache/programs/$1
	if [ ! -f "$dir/.fetched" ]; then
		say "fetching the source of $1"
		# Each suite has its own lists of source packages.
		archive=$cache/apt-source suites=$2 types=deb-src
		[ "$2" = trixie ] || archive=$cache/apt-source-$2
		unset KQUEUE_ARCHIVE_FRESH
		archive_update
		rm -rf "$dir"
		mkdir -p "$dir"
		(cd "$dir" && logged "$log/$1.fetch" archive_apt apt-get source --download-only --tar-only "$1")
		touch "$dir/.fetched"
	fi
	find "$dir" -name "${1}_*.orig.tar.*" ! -name '*.asc'
)

# step NAME COMMAND...: runs one command of a build with a log.
step() {
	local step=$1
	shift
	logged "$log/$name.$which.$step" "$@"
}

build_program() (
	name=$1
	describe "$name"
	for other in "${needs[@]}"; do
		build_program "$other"
	done
	mkdir -p "$out/$name"
	for which in kqueue native; do
		dir=$out/$name/$which
		# A program that contains both backends is built once.
		if [ $which = native ] && [ $builds = 1 ]; then
			ln -sfnT kqueue "$dir"
			continue
		fi
		recipe=$({ declare -f build; cat lib/c/* include/*/*.h include/uapi/linux/*.h "${own[@]}"; } | sha256sum)
		[ "$(cat "$dir/.built" 2>/dev/null)" != "$recipe" ] || continue
		say "building $name ($which)"
		rm -rf "$dir"
		mkdir -p "$dir"
		# A program without a package fetches its sources itself.
		[ -z "$package" ] || tar -x -f "$(fetch "$package" "$suite")" -C "$dir" --strip-components 1
		(cd "$dir" && build "$which")
		echo "$recipe" >"$dir/.built"
	done
)

for program in "$@"; do
	build_program "$program"
done
echo "$out"
