#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# manual.sh OUT: builds the example programs of the manual and of README.md as statically linked
# programs OUT/manual-NAME. In a manual page, the comment `.\" Example: NAME` precedes the display
# that contains the program NAME. In README.md, the program is the block of C. An example without a
# name is an error.
source "$(dirname "$0")/common.sh"
cd "$top"
out=$1
sources=build/manual
rm -rf "$sources"
mkdir -p "$sources" "$out"

awk -v dir="$sources" '
	function fail(what) { print FILENAME ":" FNR ": " what >"/dev/stderr"; failed = 1; exit 1 }
	/^\.\\" Example: / { name = $3; next }
	/^\.Bd -literal/ { first = 1; inside = 1; next }
	/^\.Ed/ { if (program != "") close(program); inside = 0; program = ""; name = ""; next }
	inside && first {
		first = 0
		if (name == "" && /^#(include|define)/) fail("a program without a name")
		if (name != "") program = dir "/" name ".c"
	}
	program != "" {
		# Replaces the escape sequences of the page.
		gsub(/\\e/, "\001"); gsub(/\\\(aq/, "\x27"); gsub(/\\\(ti/, "~"); gsub(/\\-/, "-")
		if (/\\/) fail("an escape that is not known here")
		gsub("\001", "\\")
		print >program
	}
	END { if (!failed && name != "") fail("no display after the name " name) }
' Documentation/man/*.[0-9]
awk -v program="$sources/readme.c" '/^```c$/ { inside = 1; next } /^```$/ { inside = 0 } inside { print >program }' README.md

[ -f build/lib/libkqueue_c.a ] || scripts/library.sh
for program in "$sources"/*.c; do
	name=${program##*/}
	"${CC:-cc}" -std=gnu11 -O2 -Wall -Wextra -Werror -pedantic -static -pthread -Iinclude -Iinclude/uapi \
		-o "$out/manual-${name%.c}" "$program" build/lib/libkqueue_c.a
done
