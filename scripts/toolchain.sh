#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# toolchain.sh [--vng]: finds or downloads the tools that the kernel needs to build Rust code: the
# source of the standard library of exactly the version of rustc, bindgen, and virtme-ng, which
# boots the result. Prints shell assignments for eval "$(scripts/toolchain.sh)". With --vng, only
# virtme-ng, which needs no Rust.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"

bindgen_version=0.72.1
virtme_version=1.42

library_source() {
	local candidate version
	for candidate in \
		"$(rustc --print sysroot)/lib/rustlib/src/rust/library" \
		"/usr/src/rustc-$rustc_version/library" \
		"$cache/rust-src-$rustc_version/usr/src/rustc-$rustc_version/library"; do
		if [ -f "$candidate/core/src/lib.rs" ]; then
			echo "$candidate"
			return
		fi
	done
	archive_update
	version=$(archive_apt apt-cache madison rust-src | awk '{print $3}' |
		grep -m 1 -F "$rustc_version+") ||
		die "the source of the standard library of Rust $rustc_version is missing: run 'rustup component add rust-src'"
	say "downloading rust-src $version"
	archive_unpack "rust-src=$version" "$cache/rust-src-$rustc_version"
	[ -f "$candidate/core/src/lib.rs" ] || die "rust-src $version does not contain $candidate"
	echo "$candidate"
}

bindgen_path() {
	local root=$cache/bindgen-$bindgen_version
	if [ ! -x "$root/bin/bindgen" ]; then
		say "building bindgen $bindgen_version"
		logged "$cache/bindgen.log" cargo install --locked --quiet --root "$root" \
			--version "$bindgen_version" bindgen-cli
	fi
	echo "$root/bin/bindgen"
}

vng_path() {
	local root=$cache/virtme-ng-$virtme_version
	if [ ! -x "$root/bin/vng" ]; then
		say "installing virtme-ng $virtme_version"
		rm -rf "$root"
		python3 -m venv "$root"
		logged "$cache/virtme-ng.log" "$root/bin/pip" install "virtme-ng==$virtme_version"
	fi
	echo "$root/bin/vng"
}

if [ "${1:-}" = --vng ]; then
	vng=$(vng_path)
	echo "export VNG=$vng"
	exit 0
fi
"$top/scripts/need-rust.sh"
rustc_version=$(rustc --version | awk '{print $2}')
llvm=$(cat "$cache/llvm-version" 2>/dev/null) || die "run scripts/host-packages.sh first"
library=$(library_source)
bindgen=$(bindgen_path)
vng=$(vng_path)
cat <<ASSIGNMENTS
export LLVM=-$llvm
export LIBCLANG_PATH=/usr/lib/llvm-$llvm/lib
export RUST_LIB_SRC=$library
export PATH=${bindgen%/bindgen}:$PATH
export VNG=$vng
ASSIGNMENTS
