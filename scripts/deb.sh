#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# deb.sh [VERSION OUT]: builds the Debian packages in build/deb. Needs debhelper, dh-dkms and cargo.
# The version is that of Cargo.toml; for tests of upgrades, VERSION and the directory OUT replace it
# and build/deb. The date is that of the last commit, or SOURCE_DATE_EPOCH. DEBEMAIL is the address
# of the maintainer. With ARCH=arm64 the packages are cross-built for that architecture of Debian, which
# also needs its C compiler, its libc and its libstd-rust-dev.
set -euo pipefail
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
cd "$(dirname "$0")/.."
for tool in dpkg-buildpackage dh dh_dkms cargo; do
	command -v $tool >/dev/null || die "$tool is missing: install dpkg-dev, debhelper, dh-dkms and cargo"
done
scripts/need-rust.sh
# debhelper changes HOME, and cargo must still find its files.
export CARGO_HOME=${CARGO_HOME:-$HOME/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}
version=${1:-$(scripts/version.sh)}
cross=()
if [ -n "${ARCH:-}" ]; then
	[ "$ARCH" = arm64 ] || die "ARCH can be arm64, or not set"
	cross=("-a$ARCH")
	unset ARCH
fi
# dpkg checks Build-Depends. It does not know a cargo that is not from a package of Debian. For a cross
# build it would also ask for build-essential, which contains more than such a build uses.
unchecked=()
if [ ${#cross[@]} -gt 0 ] || ! dpkg-query -S "$(command -v cargo)" >/dev/null 2>&1; then
	unchecked=(-d)
fi
mail=${DEBEMAIL:-kqueue@localhost}
when=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
out=${2:-build/deb}
source=$out/kqueue-$version
rm -rf "$out"
mkdir -p "$source"
cp -r Cargo.toml Cargo.lock COPYING Documentation Kbuild Makefile README.md bench dkms.conf include lib packaging rust \
	samples scripts selftests "$source/"
find "$source/rust" -name '*.o' -delete -o -name '*_generated.rs' -delete -o -name '.*.cmd' -delete
if [ "$version" != "$(scripts/version.sh)" ]; then
	# In Cargo.lock the packages of this workspace are those without a source.
	sed -i '/^\[workspace.package\]/,/^\[/s/^version = .*/version = "'"$version"'"/' "$source/Cargo.toml"
	awk -v RS= -v ORS='\n\n' -v version="$version" \
		'!/\nsource = /{ sub(/\nversion = "[^"]*"/, "\nversion = \"" version "\"") } 1' Cargo.lock >"$source/Cargo.lock"
fi
mv "$source/packaging/debian" "$source/debian"
sed -i "s/@mail@/$mail/" "$source/debian/control"
printf 'kqueue (%s) unstable; urgency=medium\n\n  * Release %s.\n\n -- The kqueue for Linux developers <%s>  %s\n' \
	"$version" "$version" "$mail" "$(date -uR -d "@$when")" >"$source/debian/changelog"
(cd "$source" && SOURCE_DATE_EPOCH=$when dpkg-buildpackage "${unchecked[@]}" -b -us -uc "${cross[@]}") >"$out/log" 2>&1 || {
	tail -n 30 "$out/log" >&2
	die "the packages cannot be built (complete log: $out/log)"
}
ls "$out"/*.deb
