#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# kernel.sh debug|race: builds that development kernel for the processor of this machine, or finds
# it in the cache, and prints the path of its build tree.
source "$(dirname "$0")/common.sh"

flavour=${1:?debug or race}
processor=$(uname -m)
fragments=("$top"/scripts/kconfig/{base,"$processor","$flavour"}.config)
[ -f "${fragments[1]}" ] || die "scripts/kconfig has no options for $processor"
[ -f "${fragments[2]}" ] || die "no such kernel: $flavour"

"$top/scripts/host-packages.sh"
assignments=$("$top/scripts/toolchain.sh")
eval "$assignments"
source=$("$top/scripts/kernel-source.sh")

# What the result depends on; the tree of any other key is left alone.
key=$({
	echo "$source"
	cat "${fragments[@]}" "$0"
	rustc -Vv
	"clang$LLVM" --version
	bindgen --version
} | sha256sum | cut -c 1-16)
tree=$cache/kernel-$flavour-$key
if [ -f "$tree/.built" ]; then
	echo "$tree"
	exit 0
fi

say "building the $flavour kernel in $tree (15 to 25 minutes on two cores)"
rm -rf "$tree"
mkdir -p "$tree"
build() { make -C "$source" O="$tree" LLVM="$LLVM" -s "$@"; }

logged "$tree/log.config" build tinyconfig
(
	cd "$tree"
	logged log.merge "$source/scripts/kconfig/merge_config.sh" -m -O . .config "${fragments[@]}"
)
logged "$tree/log.config" build olddefconfig

# An option that Kconfig dropped would weaken the tests without a word.
dropped=()
while IFS='=' read -r option value; do
	case $value in
	n) ! grep -q "^$option=" "$tree/.config" || dropped+=("$option=n") ;;
	*) grep -qx "$option=$value" "$tree/.config" || dropped+=("$option=$value") ;;
	esac
done < <(sed -n 's/^\(CONFIG_[A-Z0-9_]*=.*\)$/\1/p' "${fragments[@]}")
[ ${#dropped[@]} = 0 ] || die "options that this kernel did not take: ${dropped[*]}"

# The name of the image depends on the architecture and on the generated configuration. 'modules'
# makes Module.symvers, which a module outside the tree is linked with.
logged "$tree/log.build" build prepare
image=$(build image_name)
logged "$tree/log.build" build -j "$(($(nproc) + 1))" "${image##*/}" modules
touch "$tree/.built"
echo "$tree"
