# SPDX-License-Identifier: GPL-2.0
# layers.awk: implements scripts/layers.sh. It reads all files of the module in one run. The first
# file must be engine/mod.rs.

BEGIN {
	# The names of the crate that each layer may import. The macro module! defines `LocalModule`.
	layers["sys"] = "generated sys LocalModule"
	layers["uapi.rs"] = "generated sys"
	layers["engine"] = "generated sys uapi engine LocalModule"
	layers["file"] = "generated sys uapi engine file"
	layers["filter"] = "generated sys uapi engine file filter"
	layers["device.rs"] = "generated sys uapi engine file filter"
	layers["main.rs"] = "generated sys uapi engine file filter device LocalModule"
	# This is the only file of the engine that may import the table of filters.
	table = "engine/filter_ops.rs"
	most_lines = 600
}

function violation(text) {
	print text
	violations++
}

# Reports a name of the crate's root that the file must not import.
function imported(name) {
	if (name in seen || index(" " layers[layer] " ", " " name " "))
		return
	seen[name]
	if (!(file == table && name == "filter"))
		violation(file ": imports crate::" name " from a layer above it")
}

# Checks all paths that begin with `crate`. The imported names of a group are at depth 1 of its
# braces.
function check_imports(    i, c, depth, begins) {
	delete seen
	while (match(text, /(^|[^A-Za-z0-9_$])crate::/)) {
		text = substr(text, RSTART + RLENGTH)
		if (text !~ /^[ \t]*\{/) {
			match(text, /^[A-Za-z0-9_]*/)
			imported(substr(text, 1, RLENGTH))
			continue
		}
		depth = 0
		begins = 1
		for (i = 1; i <= length(text); i++) {
			c = substr(text, i, 1)
			if (c == "{") {
				depth++
			} else if (c == "}") {
				if (--depth == 0)
					break
			} else if (c == "," && depth == 1) {
				begins = 1
			} else if (depth == 1 && begins && c ~ /[A-Za-z0-9_]/) {
				match(substr(text, i), /^[A-Za-z0-9_]+/)
				imported(substr(text, i, RLENGTH))
				i += RLENGTH - 1
				begins = 0
			}
		}
		text = substr(text, i)
	}
}

# Checks the file that has been read.
function check(    folder) {
	if (file == "")
		return
	layer = file
	sub(/\/.*/, "", layer)
	if (!(layer in layers)) {
		violation(file ": is in no layer")
		return
	}
	if (text ~ /super::super/)
		violation(file ": names its grandparent: write crate::")
	if (file == layer "/mod.rs" && text ~ /(^|[^A-Za-z0-9_(])super::/)
		violation(file ": names its parent: write crate::")
	if (text ~ /(^|[^A-Za-z0-9_])unsafe([^A-Za-z0-9_]|$)/) {
		folder = file
		sub(/\/[^\/]*$/, "", folder)
		name = file
		sub(/\.rs$/, "", name)
		if (name in listed)
			listed[name] = 1
		else if (folder in listed)
			listed[folder] = 1
		else if (layer != "sys")
			violation(file ": has unsafe code, and is not in the list of engine/mod.rs")
	}
	if (layer == "sys" && speaks)
		violation(file ": speaks of kqueues or knotes")
	if (lines > most_lines)
		violation(file ": has " lines " lines, more than " most_lines)
	check_imports()
}

FNR == 1 {
	check()
	file = FILENAME
	sub(/^\.\//, "", file)
	text = ""
	speaks = 0
}

{
	lines = FNR
	if (tolower($0) ~ /(^|[^a-z])kqueues?([^a-z]|$)|knote/)
		speaks = 1
	# A line `//! - NAME: REASON` lists a file of the engine that has unsafe code.
	if (file == "engine/mod.rs" && match($0, /^\/\/! - `[a-z_\/]+`/))
		listed["engine/" substr($0, RSTART + 7, RLENGTH - 8)] = 0
	sub(/\/\/.*/, "")
	text = text " " $0
}

END {
	check()
	for (name in listed)
		if (!listed[name])
			violation(name ": has no unsafe code, and is in the list of engine/mod.rs")
	exit violations > 0
}
