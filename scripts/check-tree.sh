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
no() { echo "${0##*/}: $tree: $*" >&2; exit 1; }
has() { grep -qx "CONFIG_$1=y" "$tree/.config"; }

[ -d "$tree" ] || no "there is no such kernel build tree: install the headers of the kernel, or set KDIR= to a build tree"
[ -f "$tree/.config" ] || no "the kernel tree is not configured: configure and build it, or set KDIR= to another one"

release=$(cat "$tree/include/config/kernel.release" 2>/dev/null)
[ -n "$release" ] || no "the kernel is not built: run 'make' there first"
printf '%s\n' "$minimum" "$release" | sort -CV ||
	no "Linux $release is too old: $minimum or later is required"
has RUST || no "the kernel has no CONFIG_RUST: enable it ('make rustavailable' there shows what it requires) and rebuild the kernel"
missing=()
for option in MODULES FPROBE TRACEPOINTS FILE_LOCKING FSNOTIFY KALLSYMS HIGH_RES_TIMERS UNIX INET; do
	has $option || missing+=("CONFIG_$option")
done
[ ${#missing[@]} = 0 ] || no "the kernel lacks ${missing[*]}: enable this and rebuild the kernel"
if [ -z "$headers" ] && [ ! -f "$tree/rust/libkernel.rmeta" ]; then
	! dpkg-query -S "$(readlink -e "$tree")/.config" >/dev/null 2>&1 ||
		no "the header package lacks the Rust part: 'make' and DKMS generate it, and so does scripts/distro-tree.sh $tree"
	no "rust/libkernel.rmeta is missing, and the headers are not of a Debian package: set KDIR= to a complete build tree"
fi
[ -f "$tree/Module.symvers" ] || no "Module.symvers is missing: run 'make modules' there"

built_with=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="\(.*\)"/\1/p' "$tree/.config")
"$top/scripts/rustc-of.sh" "$tree" >/dev/null ||
	no "the kernel was built with '$built_with', but rustc here is '$(rustc --version 2>/dev/null || echo none)': install the rustc of the kernel"
if ! "$top/scripts/bindgen-of.sh" >/dev/null; then
	bindgen=$(bindgen --version 2>/dev/null) ||
		no "bindgen is missing: install the package bindgen, or run 'cargo install --locked bindgen-cli'"
	no "$bindgen is too old: 0.71 or later is required"
fi
