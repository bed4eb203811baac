#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test-layers.sh: checks that scripts/layers.sh finds each kind of violation, and finds none in the
# unchanged source. Prints "ok NAME" or "not ok NAME" for each.
source "$(dirname "$0")/common.sh"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

# Makes a copy of the module's source.
fresh() {
	rm -rf "${copy:?}"/*
	cp -r "$top/rust/." "$copy"
}

# finds NAME FILE WANTED [LINE]: appends LINE, or the lines of standard input, to FILE in a copy of
# the source, and checks that layers.sh prints WANTED.
finds() {
	local name=$1 file=$2 wanted=$3 output
	fresh
	mkdir -p "$copy/$(dirname "$file")"
	cat >>"$copy/$file"
	if output=$("$top/scripts/layers.sh" "$copy"); then
		echo "not ok layers::$name (no violation was found)"
	elif [ "$output" = "$file: $wanted" ]; then
		echo "ok layers::$name"
	else
		echo "not ok layers::$name"
		sed 's/^/  | /' <<<"$output"
	fi
}

fresh
if output=$("$top/scripts/layers.sh" "$copy"); then
	echo "ok layers::as_it_is"
else
	echo "not ok layers::as_it_is"
	sed 's/^/  | /' <<<"$output"
fi

above="from a layer above it"
finds sys_imports_the_engine sys/lock/flag.rs "imports crate::engine $above" <<<'use crate::engine::state::State;'
finds sys_imports_the_abi sys/lock/flag.rs "imports crate::uapi $above" <<<'const A: u16 = crate::uapi::EV_ADD;'
finds abi_imports_the_engine uapi.rs "imports crate::engine $above" <<<'use crate::engine::knote::Knote;'
finds engine_imports_a_filter engine/knote_limit.rs "imports crate::filter $above" <<<'use crate::filter::Filter;'
finds engine_imports_the_device engine/filter_ops.rs "imports crate::device $above" <<<'use crate::device::create;'
finds engine_imports_a_kind_of_file engine/kqueue/scan.rs "imports crate::file $above" <<'END'
use crate::{
    sys::file::{fdtable, poll}, //
    file::{self, FileKind},
};
END
finds file_imports_a_filter file/pipe.rs "imports crate::filter $above" <<<'pub(crate) use crate::{filter::Filter, sys::file};'
finds filter_imports_the_device filter/user.rs "imports crate::device $above" <<<'use crate::device;'
finds grandparent sys/lock/flag.rs "names its grandparent: write crate::" <<<'use super::super::memory;'
finds parent_of_a_layer filter/mod.rs "names its parent: write crate::" <<<'use super::device;'
finds file_without_a_layer new.rs "is in no layer" <<<'// Nothing.'
finds unsafe_in_the_engine engine/state.rs "has unsafe code, and is not in the list of engine/mod.rs" <<<'unsafe fn f() {}'
finds unsafe_in_a_filter filter/timer.rs "has unsafe code, and is not in the list of engine/mod.rs" <<'END'
fn f() {
    unsafe { g() };
}
END
finds kqueue_in_sys sys/lock/flag.rs "speaks of kqueues or knotes" <<<'// A kqueue has one.'
finds knote_in_sys sys/lock/flag.rs "speaks of kqueues or knotes" <<<'struct KnoteFlag;'
finds long_file filter/aio.rs "has $(($(wc -l <"$top/rust/filter/aio.rs") + 600)) lines, more than 600" <<<"$(yes '// Line.' | head -n 600)"
fresh
sed -i 's/\bunsafe\b/safe/' "$copy/engine/module_params.rs"
if [ "$("$top/scripts/layers.sh" "$copy")" = "engine/module_params: has no unsafe code, and is in the list of engine/mod.rs" ]; then
	echo "ok layers::listed_without_unsafe"
else
	echo "not ok layers::listed_without_unsafe"
fi

# Comments, and the import of the table by the engine, are no violations.
fresh
cat >>"$copy/engine/state.rs" <<<'// An unsafe block, and crate::filter::Filter.'
if [ -z "$("$top/scripts/layers.sh" "$copy")" ]; then
	echo "ok layers::comments"
else
	echo "not ok layers::comments"
fi
