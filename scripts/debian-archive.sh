# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Downloads packages of suites that the configuration of this machine does not include. The lists and
# sources of apt are in the cache, so the configuration of the system does not change and nothing is
# upgraded.

archive=$cache/apt
suites='trixie trixie-backports'
types=deb

# archive_apt TOOL ARGUMENTS...: runs apt-get or apt-cache with this configuration.
archive_apt() {
	"$@" -o Dir::Etc::SourceList="$archive/suites.sources" \
		-o Dir::Etc::SourceParts=/dev/null \
		-o Dir::Etc::PreferencesParts=/dev/null \
		-o Dir::State::Lists="$archive/lists" \
		-o Dir::Cache="$archive/cache" \
		-o Acquire::Languages=none
}

# Updates the lists, at most once per run of the scripts.
archive_update() {
	[ -z "${KQUEUE_ARCHIVE_FRESH:-}" ] || return 0
	local uri keys
	# Use the mirror that this machine already uses.
	uri=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' |
		sed -n 's/^Debian|Debian|//p' | sort -u | head -n 1)
	[ -n "$uri" ] || die "apt has no lists of a Debian archive: run 'apt-get update' first"
	keys=$(printf '%s ' /usr/share/keyrings/debian-archive-*-automatic.gpg)
	mkdir -p "$archive/lists/partial" "$archive/cache/archives/partial"
	cat >"$archive/suites.sources" <<-SOURCES
		Types: $types
		URIs: $uri
		Suites: $suites
		Components: main
		Signed-By: $keys
	SOURCES
	# Another script may be updating the same lists.
	archive_apt flock "$archive/lock" apt-get update --error-on=any >"$archive/update.log" 2>&1 || {
		tail -n 20 "$archive/update.log" >&2
		die "cannot download the package lists of $uri: check the network"
	}
	export KQUEUE_ARCHIVE_FRESH=1
}

# archive_unpack PACKAGE=VERSION DIR: unpacks the files of the package into DIR.
archive_unpack() {
	local dir=$2
	mkdir -p "$dir/deb"
	(cd "$dir/deb" && logged "$archive/download.log" archive_apt apt-get download "$1")
	dpkg-deb -x "$dir"/deb/*.deb "$dir"
	rm -r "$dir/deb"
}

# debian_release ROOT FLAVOUR: prints the release of the newest kernel of the flavour in that root
# directory.
debian_release() {
	dpkg-query --root="$1" -W -f '${Depends}' "linux-headers-$2" | grep -oE 'linux-headers-[^ ,]+' | sed 's/linux-headers-//'
}
