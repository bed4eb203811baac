#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# floors.sh [DIR]: checks the structure of the module's source, rust/ or DIR.
# - A file imports from its own floor and the floors below it.
# - Unsafe code is in rust/sys and in the files that rust/engine/mod.rs lists.
# - rust/sys does not speak of kqueues and knotes.
# - No file has more than 600 lines.
# Prints each violation, and fails if there is one.
source "$(dirname "$0")/common.sh"
cd "${1:-$top/rust}"

# What each floor may name of the crate. `LocalModule` is a name that module! makes.
declare -A floors=(
	[sys]="generated sys LocalModule"
	[uapi.rs]="generated sys"
	[engine]="generated sys uapi engine LocalModule"
	[file]="generated sys uapi engine file"
	[filter]="generated sys uapi engine file filter"
	[device.rs]="generated sys uapi engine file filter"
	[main.rs]="generated sys uapi engine file filter device LocalModule"
)
# The engine names the table of filters in this file only.
table=engine/ops.rs
most_lines=600

violations=0
violation() {
	printf '%s\n' "$*"
	violations=$((violations + 1))
}

# The names that a file imports from the root of the crate, by paths that begin with `crate`. Comments do not count.
imports() {
	awk '
		{ sub(/\/\/.*/, ""); text = text " " $0 }
		END {
			while (match(text, /(^|[^A-Za-z0-9_$])crate::/)) {
				text = substr(text, RSTART + RLENGTH)
				if (text !~ /^[ \t]*\{/) {
					match(text, /^[A-Za-z0-9_]+/)
					print substr(text, 1, RLENGTH)
					continue
				}
				# The names of a group: what begins at depth 1.
				depth = 0
				begins = 1
				for (i = 1; i <= length(text); i++) {
					c = substr(text, i, 1)
					if (c == "{") {
						depth++
					} else if (c == "}") {
						if (--depth == 0) break
						begins = 0
					} else if (c == "," && depth == 1) {
						begins = 1
					} else if (depth == 1 && begins && c ~ /[A-Za-z0-9_]/) {
						match(substr(text, i), /^[A-Za-z0-9_]+/)
						print substr(text, i, RLENGTH)
						i += RLENGTH - 1
						begins = 0
					}
				}
				text = substr(text, i)
			}
		}' "$1" | sort -u
}

# The files of the engine that have unsafe code, as its documentation lists them: `//! - `name``.
listed=$(sed -nE 's|^//! - `([a-z_/]+)`.*|engine/\1|p' engine/mod.rs)

# The source without comments.
code() { sed 's|//.*||' "$@"; }
has_unsafe() { grep -qw unsafe <<<"$(code "$@")"; }
is_listed() { grep -qxF -e "${1%.rs}" -e "${1%/*}" <<<"$listed"; }

while read -r file; do
	floor=${file%%/*}
	allowed=${floors[$floor]-}
	if [ -z "$allowed" ]; then
		violation "$file: is on no floor"
		continue
	fi
	while read -r name; do
		case " $allowed " in
		*" $name "*) ;;
		*) [ "$file $name" = "$table filter" ] || violation "$file: imports crate::$name from a floor above it" ;;
		esac
	done < <(imports "$file")
	# By `super` a file could leave its floor.
	if grep -q 'super::super' <<<"$(code "$file")"; then
		violation "$file: names its grandparent: write crate::"
	fi
	if [ "$file" = "$floor/mod.rs" ] && grep -qw 'super' <<<"$(code "$file")"; then
		violation "$file: names its parent: write crate::"
	fi
	if has_unsafe "$file" && [ "$floor" != sys ] && ! is_listed "$file"; then
		violation "$file: has unsafe code, and is not in the list of engine/mod.rs"
	fi
	if [ "$floor" = sys ] && grep -qiE '(^|[^a-z])kqueues?([^a-z]|$)|knote' "$file"; then
		violation "$file: speaks of kqueues or knotes"
	fi
	lines=$(wc -l <"$file")
	if [ "$lines" -gt "$most_lines" ]; then
		violation "$file: has $lines lines, more than $most_lines"
	fi
done < <(find . -name '*.rs' ! -name '*_generated.rs' | sed 's|^\./||' | sort)

# Each name in the list is a file, or a folder, with unsafe code.
for name in $listed; do
	files=("$name.rs")
	if [ -d "$name" ]; then
		files=("$name"/*.rs)
	fi
	has_unsafe "${files[@]}" || violation "$name: has no unsafe code, and is in the list of engine/mod.rs"
done

[ "$violations" = 0 ]
