#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# compatibility.sh [--check]: generates the table of Documentation/compatibility.md from the tests
# whose comments contain "Differs from WHOM: WHAT" and "Because WHY". With --check, compares the
# existing table with the tests.
source "$(dirname "$0")/common.sh"
cd "$top"
page=Documentation/compatibility.md
made=$(mktemp)
trap 'rm -f "$made"' EXIT

rows() {
	awk '
		FNR == 1 { text = ""; taking = 0; split(FILENAME, path, "/"); sub(/\.rs$/, "", path[3]) }
		/^\/\/\/ Differs from / { taking = 1 }
		/^\/\/\/ / && taking { text = text substr($0, 5) " "; next }
		/^#\[test\]/ { next }
		/^fn / && taking {
			match($0, /[a-z0-9_]+\(/)
			test = substr($0, RSTART, RLENGTH - 1)
			sub(/^Differs from /, "", text)
			from = text; sub(/: .*/, "", from)
			what = substr(text, length(from) + 3)
			why = what; sub(/.* Because /, "", why); sub(/ Because .*/, "", what); sub(/ $/, "", why)
			why = toupper(substr(why, 1, 1)) substr(why, 2)
			printf "| %s | %s | %s | `%s::%s` |\n", what, from, why, path[3], test
		}
		{ text = ""; taking = 0 }
	' selftests/src/*.rs
}

awk '/^<!-- begin/ { print; exit } { print }' "$page" >"$made"
{
	echo "| What | Not so on | Why | Test |"
	echo "|---|---|---|---|"
	rows
	awk '/^<!-- end/ { found = 1 } found' "$page"
} >>"$made"
[ "$(rows | wc -l)" = "$(grep -c '^/// Differs from' -r selftests/src --include='*.rs' -h | awk '{ n += $1 } END { print n }')" ] ||
	die "a comment \"Differs from\" is not in the form from which the table is generated"
if [ "${1:-}" = --check ]; then
	diff -u "$page" "$made" || die "$page does not match the tests: run scripts/compatibility.sh"
else
	cp "$made" "$page"
fi
