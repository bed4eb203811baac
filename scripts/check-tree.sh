#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# check-tree.sh [--headers] TREE: checks whether a module in Rust can be built for the kernel of
# that build tree. If not, it fails and prints the reason in one line. With --headers, it ignores
# the files that the header packages of distributions lack, because distro-tree.sh generates them.
top=$(cd "$(dirname "$0")/.." && pwd)
headers=
if [ "$1" = --headers ]; then
	headers=1
	shift
fi
tree=$1
minimum=$(cat "$top/scripts/minimum-kernel")
no() { echo "$tree: $*" >&2; exit 1; }
has() { grep -qx "CONFIG_$1=y" "$tree/.config"; }

[ -d "$tree" ] || no "no such kernel build tree; give one as KDIR=, or run 'make demo' to have one made"
[ -f "$tree/.config" ] || no "not a configured kernel tree: configure and build it, or give another as KDIR="

release=$(cat "$tree/include/config/kernel.release" 2>/dev/null)
[ -n "$release" ] || no "not built yet: run 'make' there first"
printf '%s\n' "$minimum" "$release" | sort -CV ||
	no "Linux $release is too old: $minimum or later is needed"
has RUST || no "the kernel has no CONFIG_RUST: enable it ('make rustavailable' there says what it wants) and rebuild"
missing=()
for option in MODULES FPROBE TRACEPOINTS FILE_LOCKING FSNOTIFY KALLSYMS HIGH_RES_TIMERS UNIX INET; do
	has $option || missing+=("CONFIG_$option")
done
[ ${#missing[@]} = 0 ] || no "the kernel lacks ${missing[*]}: enable and rebuild"
# Function probes run with preemption disabled. There the spin locks of a real-time kernel must not
# be taken, because they sleep.
! has PREEMPT_RT || no "a kernel with CONFIG_PREEMPT_RT is not supported: what hears of closes may not sleep, its locks do"
[ -n "$headers" ] || [ -f "$tree/rust/libkernel.rmeta" ] ||
	no "rust/libkernel.rmeta is missing, as in header packages: 'scripts/distro-tree.sh $release' makes it from linux-source"
[ -f "$tree/Module.symvers" ] || no "Module.symvers is missing: run 'make modules' there"

built_with=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="\(.*\)"/\1/p' "$tree/.config")
"$top/scripts/rustc-of.sh" "$tree" >/dev/null ||
	no "built with '$built_with', but rustc here is '$(rustc --version 2>/dev/null || echo none)': install that very one"
command -v bindgen >/dev/null || no "bindgen is needed: Debian's package bindgen, or 'cargo install --locked bindgen-cli'"
