#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# programs.sh NAME...: fetches the sources of these programs from Debian and builds them, each with
# its kqueue backend on our library and with what it uses on Linux otherwise; prints the folder
# that they are in: NAME/kqueue and NAME/native. How each is built and tested is said in
# selftests/programs/NAME.sh; nothing in their event code is changed.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
source "$top/selftests/programs/tools.sh"
cd "$top"

out=$top/build/programs
log=$out/log
mkdir -p "$out" "$log" "$cache/programs"
scripts/library.sh
# For the files of the programs: what a compiler and a linker need. The object is for those that
# name their own libraries last.
include="-I$top/include -I$top/include/uapi"
library="$top/build/lib/libkqueue_c.a"
# shellcheck disable=SC2034 # Used by the programs' files.
object="$top/build/lib/kqueue.o"

# fetch PACKAGE SUITE: the path of the program's own source, as its authors released it.
fetch() (
	dir=$cache/programs/$1
	if [ ! -f "$dir/.fetched" ]; then
		say "fetching the source of $1"
		# Lists of its own for each suite, of sources.
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

# step NAME COMMAND...: a command of a build, with a log.
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
		# One that has all backends is built once.
		if [ $which = native ] && [ $builds = 1 ]; then
			ln -sfnT kqueue "$dir"
			continue
		fi
		recipe=$({ declare -f build; cat lib/c/* include/*/*.h include/uapi/linux/*.h "${own[@]}"; } | sha256sum)
		[ "$(cat "$dir/.built" 2>/dev/null)" != "$recipe" ] || continue
		say "building $name ($which)"
		rm -rf "$dir"
		mkdir -p "$dir"
		tar -x -f "$(fetch "$package" "$suite")" -C "$dir" --strip-components 1
		(cd "$dir" && build "$which")
		echo "$recipe" >"$dir/.built"
	done
)

for program in "$@"; do
	build_program "$program"
done
echo "$out"
