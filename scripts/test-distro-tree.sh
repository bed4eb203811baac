#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test-distro-tree.sh: tests what distro-tree.sh and check-tree.sh refuse. Each refusal must print its
# reason in one line and leave no files. The header package, dpkg, apt and rustc are artificial. Prints
# "ok ..." and "not ok ..." lines.
source "$(dirname "$0")/common.sh"
cd "$top"
place=$(mktemp -d)
trap 'umount -q "$place/full" || true; rm -rf "$place"' EXIT
headers=$place/headers
common=$place/common
fake=$place/bin

# Makes the headers of a kernel in the form of a Debian package.
fresh() {
	rm -rf "$headers" "$common" "$fake" "$place/trees"
	mkdir -p "$headers/include/config" "$headers/include/generated" "$common" "$fake"
	printf 'VERSION = 7\nPATCHLEVEL = 3\n' >"$common/Makefile"
	echo "include $common/Makefile" >"$headers/Makefile"
	echo 7.3.4-made-up >"$headers/include/config/kernel.release"
	printf 'CONFIG_%s=y\n' RUST MODULES FPROBE TRACEPOINTS FILE_LOCKING FSNOTIFY KALLSYMS HIGH_RES_TIMERS UNIX INET \
		>"$headers/.config"
	echo 'CONFIG_RUSTC_VERSION_TEXT="rustc 1.85.1 (made up)"' >>"$headers/.config"
	printf '0x0\t_R1a\tvmlinux\tEXPORT_SYMBOL_GPL\t\n' >"$headers/Module.symvers"
	mkdir -p "$place/rust/lib/rustlib/src/rust/library/core/src"
	touch "$place/rust/lib/rustlib/src/rust/library/core/src/lib.rs"
	program rustc "[ \$1 = --version ] && echo 'rustc 1.85.1 (made up)' || echo $place/rust"
	program bindgen 'echo bindgen 0.71.1'
	program dpkg-query 'case $* in -S*) echo "linux-headers-made-up: $2" ;; *linux-source*) exit 1 ;; *) printf 7.3.4-1 ;; esac'
	program apt-get 'echo "E: Failed to fetch: no network"; exit 100'
	program make false
}
program() { printf '#!/bin/bash\n%s\n' "$2" >"$fake/$1" && chmod +x "$fake/$1"; }
# with_source SYMBOL: adds a linux-source that can be downloaded, whose rust/ exports SYMBOL.
with_source() {
	local package=$place/package
	rm -rf "$package"
	mkdir -p "$package"/linux/{rust/{bindings,uapi,helpers},scripts,drivers/{base,android}} "$package/usr/src" \
		"$common"/{arch,tools,include/uapi,scripts} "$headers"/{rust,scripts,tools}
	touch "$package"/linux/rust/{bindings,uapi}/a.h "$package/linux/rust/helpers/a.c" "$common/include/uapi/a" \
		"$headers"/include/generated/{autoconf.h,rustc_cfg} "$headers"/include/config/auto.conf{,.cmd}
	rm -d "$headers"/{scripts,tools}
	ln -s "$common/scripts" "$common/tools" "$headers/"
	tar -cJf "$package/usr/src/linux-source-7.3.tar.xz" -C "$package" linux
	tar -cf "$package/fs.tar" -C "$package" ./usr
	program apt-get 'touch linux-source-7.3_made-up.deb'
	program dpkg-deb "cat $package/fs.tar"
	program make "echo 'EXPORT_SYMBOL_RUST_GPL($1);' >$place/trees/7.3.4-made-up/build/rust/exports_core_generated.h"
}
run() { PATH=$fake:$PATH KQUEUE_TREES=$place/trees scripts/distro-tree.sh "$headers/"; }
left() { find "$place/trees" -mindepth 1 ! -name .lock ! -name lost+found 2>/dev/null; }

# refuses NAME WORDS: run must fail, its last line must contain WORDS, and no files may remain.
refuses() {
	local said
	if said=$(run 2>&1); then
		echo "not ok distro_tree::$1 (not refused)"
	elif [[ $(tail -n 1 <<<"$said") != *"$2"* ]]; then
		echo "not ok distro_tree::$1"
		sed 's/^/  | /' <<<"$said"
	elif [ -n "$(left)" ]; then
		echo "not ok distro_tree::$1 (left: $(left))"
	else
		echo "ok distro_tree::$1"
	fi
}
is() {
	if [ "$2" = "$3" ]; then
		echo "ok distro_tree::$1"
	else
		printf 'not ok distro_tree::%s\n  | %s\n  | %s\n' "$1" "$2" "$3"
	fi
}

fresh
program rustc 'echo "rustc 1.85.1 (from elsewhere)"'
refuses other_rustc_of_the_same_number "was built with 'rustc 1.85.1 (made up)', but rustc here is 'rustc 1.85.1 (from elsewhere)'"
fresh
program rustc 'exit 1'
refuses no_rustc "but rustc here is 'none'"
fresh
program bindgen 'exit 1'
refuses no_bindgen "bindgen is missing"
fresh
program bindgen 'echo bindgen 0.60.1'
refuses old_bindgen "bindgen 0.60.1 is too old"
# A command that has its version in its name is used instead. The headers are refused for another reason.
program bindgen-0.71 'echo bindgen 0.71.1'
refuses bindgen_of_another_name "linux-source-7.3 7.3.4-1 is not installed"
is bindgen_of_another_name_is_used "$(PATH=$fake:$PATH scripts/tree-make-flags.sh "$headers" | grep BINDGEN)" \
	BINDGEN=bindgen-0.71
fresh
rm -r "$place/rust/lib"
refuses rust_without_its_source "install the package rust-src"
fresh
sed -i /CONFIG_RUST=/d "$headers/.config"
refuses kernel_without_rust "no CONFIG_RUST"
fresh
sed -i /CONFIG_FPROBE=/d "$headers/.config"
refuses kernel_without_fprobe "the kernel lacks CONFIG_FPROBE"
fresh
rm -r "$headers"
refuses no_headers "there is no such kernel build tree: install the headers"
fresh
echo 7.2.12 >"$headers/include/config/kernel.release"
refuses old_kernel "Linux 7.2.12 is too old"
fresh
ln -s ../linux-lib-rust/rust "$headers/rust"
refuses ubuntu_without_its_rust_package "install the package linux-lib-rust-7.3.4-made-up"
fresh
refuses no_network_and_no_source "linux-source-7.3 7.3.4-1 is not installed and cannot be downloaded"
fresh
program dpkg-query 'case $* in -S*) echo "linux-headers-made-up: $2" ;; *linux-source*) printf 7.3.3-1 ;; *) printf 7.3.4-1 ;; esac'
refuses no_network_and_source_of_another_version "linux-source-7.3 7.3.4-1 is not installed and cannot be downloaded"
fresh
program dpkg-query 'case $* in -S*) exit 1 ;; esac'
refuses tree_of_no_package "rust/libkernel.rmeta is missing"
fresh
said=$(PATH=$fake:$PATH scripts/check-tree.sh "$headers" 2>&1) && status=0 || status=$?
is check_tree_names_the_way_out "$status $said" "1 check-tree.sh: $headers: the header package lacks the Rust part:\
 'make' and DKMS generate it, and so does scripts/distro-tree.sh $headers"
fresh
with_source _R1b
refuses symbols_differ "2 symbols differ"
fresh
with_source _R1a
program make 'echo "error: it does not compile"; exit 2'
refuses does_not_build "cannot be built"
fresh
with_source _R1a
is made "$(run 2>/dev/null)" "$place/trees/7.3.4-made-up/build"
program make 'exit 1'
is made_once "$(run 2>&1)" "$place/trees/7.3.4-made-up/build"
program dpkg-query 'case $* in -S*) echo "linux-headers-made-up: $2" ;; *linux-source*) exit 1 ;; *) printf 7.3.4-2 ;; esac'
refuses made_again_for_a_new_version "cannot be built"
fresh
mkdir "$headers/rust"
touch "$headers/rust/libkernel.rmeta"
is headers_with_the_rust_part_are_used "$(run)" "$headers/"
# What the programs need.
need_rust() { PATH=$fake:$PATH scripts/need-rust.sh 2>&1 || true; }
fresh
program cargo 'echo "cargo 1.63.0 (made up)"'
is old_cargo "$(need_rust)" \
	"need-rust.sh: cargo 1.63.0 is too old: install rustc and cargo 1.85 or later, with rustup or from Debian 13"
program cargo 'exit 127'
is no_cargo "$(need_rust)" \
	"need-rust.sh: cargo is missing: install rustc and cargo 1.85 or later, with rustup or from Debian 13"
program cargo 'echo "cargo 1.85.0 (made up)"'
is cargo_is_new_enough "$(need_rust)" ""
if [ "$(id -u)" = 0 ]; then
	fresh
	with_source _R1a
	program make "head -c 2M /dev/zero >$place/trees/7.3.4-made-up/build/rust/core.o"
	mkdir "$place/full"
	mount -t tmpfs -o size=1M none "$place/full"
	ln -s "$place/full" "$place/trees"
	refuses full_disk "is full"
	fresh
	ln -s "$place/full" "$place/trees"
	program apt-get 'head -c 2M /dev/zero >linux-source-7.3_made-up.deb'
	refuses full_disk_while_downloading "is full"

	# The root directory of Debian 13 is removed if it cannot be completed.
	if said=$(unshare --net env KQUEUE_CACHE="$place/cache" scripts/debian-root.sh 2>&1); then
		echo "not ok distro_tree::root_without_network (not refused)"
	elif [[ $(tail -n 1 <<<"$said") != *"check the network" ]] || [ -e "$place/cache/debian-13" ]; then
		echo "not ok distro_tree::root_without_network"
		printf '%s\n' "$said" "$(ls "$place/cache")" | sed 's/^/  | /'
	else
		echo "ok distro_tree::root_without_network"
	fi
fi
