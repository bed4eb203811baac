#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# distro-tree.sh RELEASE|TREE: prints the path of a build tree in which a module in Rust can be built
# for that kernel. A tree that contains the Rust part is used unchanged: a complete tree, the headers
# of Arch Linux, and those of Ubuntu with linux-lib-rust. The header packages of Debian lack the Rust
# part. This script generates it from the directory rust/ of linux-source of the same version, and
# accepts the result only if it has exactly the symbols that the kernel exports. Nothing else is
# compiled. The trees are stored in /var/cache/kqueue, or in the cache of the user if the caller is
# not root. KQUEUE_TREES sets another directory.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

case $1 in
*/*) tree=$1 ;;
*) tree=/lib/modules/$1/build ;;
esac
release=$(cat "$tree/include/config/kernel.release" 2>/dev/null) || release=
# The headers of a package have no rmeta files, and their .config belongs to a package.
if [ -z "$release" ] || [ -f "$tree/rust/libkernel.rmeta" ] || ! headers=$(readlink -e "$tree") ||
	! owner=$(dpkg-query -S "$headers/.config" 2>/dev/null); then
	"$here/check-tree.sh" "$tree"
	echo "$tree"
	exit 0
fi
"$here/check-tree.sh" --headers "$tree"
if [ -L "$tree/rust" ]; then
	die "install the package linux-lib-rust-$release: it contains the Rust part of these kernel headers"
fi
package=${owner%%:*}
version=$(dpkg-query -W -f '${Version}' "$package")

if [ -n "${KQUEUE_TREES:-}" ]; then
	trees=$KQUEUE_TREES
elif [ "$(id -u)" = 0 ]; then
	trees=/var/cache/kqueue
else
	trees=${XDG_CACHE_HOME:-$HOME/.cache}/kqueue-dev/trees
fi
out=$trees/$release
rustc=$("$here/rustc-of.sh" "$tree")
stamp="$version $(md5sum <"$headers/Module.symvers") $(md5sum <"$0")"
library=$("$rustc" --print sysroot)/lib/rustlib/src/rust/library
current() { [ "$(cat "$out/made-of" 2>/dev/null)" = "$stamp" ]; }
if current; then
	echo "$out/build"
	exit 0
fi

# try MESSAGE COMMAND...: runs the command. If it fails, prints the end of its output, then MESSAGE as the
# last line.
try() {
	local what=$1 said
	shift
	said=$("$@" 2>&1) && return
	case $said in
	*'No space left on device'*) die "the disk of $trees is full: generating a tree takes 600 MB there, of which 220 MB remain" ;;
	esac
	tail -n 20 <<<"$said" >&2
	die "$what"
}
[ -f "$library/core/src/lib.rs" ] ||
	die "the source of Rust's core library is missing ($library): install the package rust-src"
try "cannot write to $trees" mkdir -p "$trees"
exec 9>"$trees/.lock" || die "cannot write to $trees"
flock 9
if current; then
	echo "$out/build"
	exit 0
fi
# Remove the trees of kernels whose headers were removed.
for old in "$trees"/*/build; do
	[ ! -d "$old" ] || [ -d "$(cat "${old%/build}/headers" 2>/dev/null)" ] || rm -rf "${old%/build}"
done
work=$trees/.work
# However the script ends, no incomplete tree remains.
clean() {
	[ "$finished" = 1 ] || rm -rf "$out"
	rm -rf "$work"
}
finished=0
rm -rf "$out" "$work"
trap clean EXIT
trap 'exit 1' HUP INT TERM
try "cannot write to $trees" mkdir "$work"
printf '== generating the Rust part of the headers of %s, once (2 minutes)\n' "$release" >&2

# The source: rust/, scripts/, and the few headers of other directories that the bindings include.
common=$(sed -n 's/^include \(.*\)\/Makefile$/\1/p' "$headers/Makefile")
[ -f "$common/Makefile" ] || die "$headers/Makefile has not the form of Debian's: set KDIR= to a complete build tree"
series=$(sed -nE 's/^(VERSION|PATCHLEVEL) = ([0-9]+)/\2/p' "$common/Makefile" | paste -sd.)
tarball=/usr/src/linux-source-$series.tar.xz
fetch() { (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "linux-source-$series=$version"); }
unpack() { dpkg-deb --fsys-tarfile "$work"/linux-source-*.deb | tar -xO "./usr/src/linux-source-$series.tar.xz" >"$work/source.tar.xz"; }
if [ "$(dpkg-query -W -f '${Version}' "linux-source-$series" 2>/dev/null)" != "$version" ] || [ ! -f "$tarball" ]; then
	try "linux-source-$series $version is not installed and cannot be downloaded: apt install linux-source-$series=$version" fetch
	tarball=$work/source.tar.xz
	try "cannot unpack linux-source-$series" unpack
	rm "$work"/*.deb
fi
source=$work/source
try "cannot unpack $tarball" mkdir "$source"
try "cannot unpack $tarball" tar -xJf "$tarball" -C "$source" --strip-components=1 --no-wildcards-match-slash --wildcards \
	'*/rust' '*/scripts' '*/drivers/base' '*/drivers/android'

lay_out() {
	set -e
	mkdir -p "$out/source/include/uapi" "$out/source/scripts" "$out/build"
	echo "$headers" >"$out/headers"
	ln -s "$common/arch" "$common/tools" "$out/source/"
	# These are real directories, because a path with .. in it must lead into this tree.
	ln -s "$common"/include/uapi/* "$out/source/include/uapi/"
	for entry in "$common"/include/*; do
		[ "${entry##*/}" = uapi ] || ln -s "$entry" "$out/source/include/"
	done
	# The scripts of the header package are compiled, so they replace those of the source.
	cp -a "$source/scripts/." "$out/source/scripts/"
	cp -aL --remove-destination "$common/scripts/." "$out/source/scripts/"
	cp -a "$source/rust" "$out/source/"
	(
		cd "$source"
		sed -nE 's|^#[ \t]*include[ \t]*["<]\.\./\.\./(.*)[">]|\1|p' rust/bindings/*.h rust/uapi/*.h rust/helpers/*.c |
			xargs -r cp --parents -t "$out/source"
	)
	{
		cat "$common/Makefile"
		# shellcheck disable=SC2016
		printf '%s\n' '' 'ifndef need-sub-make' 'PHONY += rust-only' 'rust-only:' \
			'	$(if $(or $(CONFIG_X86_64),$(CONFIG_X86_32)),$(Q)$(MAKE) $(build)=scripts scripts/target.json)' \
			'	$(Q)$(MAKE) $(build)=rust' 'endif'
	} >"$out/source/Makefile"
	cp -a "$headers/." "$out/build/"
	rm "$out/build/scripts" "$out/build/tools" "$out/build/Makefile"
	ln -s ../source/scripts ../source/tools "$out/build/"
	printf 'KBUILD_OUTPUT=%s\ninclude %s\n' "$out/build" "$out/source/Makefile" >"$out/build/Makefile"
	# The generated configuration must be newer than .config. Otherwise make generates it again.
	touch -d '1 minute ago' "$out/build/.config"
	touch "$out"/build/include/config/auto.conf{.cmd,} "$out"/build/include/generated/{autoconf.h,rustc_cfg}
}
lay_out_apart() { (lay_out); }
try "cannot write the tree in $out" lay_out_apart
try "the Rust part of $release cannot be built" make -s -C "$out/build" -j"$(nproc)" RUSTC="$rustc" rust-only

# The tree must have exactly the symbols that the kernel exports.
differ=$(diff <(sed -nE 's/EXPORT_SYMBOL_RUST_GPL\((.*)\);/\1/p' "$out"/build/rust/exports_*_generated.h | sort) \
	<(awk -F'\t' '$3 == "vmlinux" && $2 ~ /^(_R|rust_)/ { print $2 }' "$headers/Module.symvers" | sort) |
	grep -c '^[<>]') || true
[ "$differ" = 0 ] || die "$release was not built from linux-source-$series $version: $differ symbols differ"
rm -rf "$out"/build/rust/*.o "$out"/build/rust/helpers/*.o "$out"/build/rust/host
write_stamp() { echo "$stamp" >"$out/made-of"; }
try "cannot write to $trees" write_stamp
finished=1
echo "$out/build"
