# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# For the scripts that type the command lines of README.md. Writes the lines of "On Debian 13" and "Write
# a program" to $out/lines, and the program to $out/program.c.

mkdir -p "$out"
# The lines between a heading and the next one are typed if they are indented as code.
sed -n -e '/^\*\*On Debian 13/,/^\*\*On Ubuntu/s/^    //p' \
	-e '/^## Write a program/,/^## /s/^    //p' README.md >"$out/lines"
awk '/^```/ && inside { exit } inside; /^```c$/ { inside = 1 }' README.md >"$out/program.c"
for word in apt deb modprobe cc cargo echo-server man; do
	grep -qw -e "$word" "$out/lines" || die "no line with '$word' in these sections of README.md"
done

# uses LINE: whether the line uses the module.
uses() { [[ $1 =~ ^(sudo\ modprobe|kqtrace|man\ |target/|.*\|\ \./) ]]; }

# type_lines COMMAND: writes the lines that use the module to $out/typed.sh, and runs the command with
# each of the others. Ends the script at the first one that fails.
type_lines() {
	local line
	: >"$out/typed.sh"
	while IFS= read -r line <&3; do
		if uses "$line"; then
			printf '%s\n' "$line" >>"$out/typed.sh"
			continue
		fi
		if "$1" "$line" >"$out/log" 2>&1; then
			echo "ok readme::$line"
		else
			echo "not ok readme::$line"
			tail -n 40 "$out/log" | sed 's/^/  | /'
			exit 1
		fi
	done 3<"$out/lines"
}
