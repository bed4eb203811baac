# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Packages of suites that the machine itself does not follow, through an apt
# of our own: its lists and its sources are in the cache, so that nothing of
# the system's configuration changes and nothing is upgraded.

archive=$cache/apt
suites='trixie trixie-backports'
types=deb

# archive_apt TOOL ARGUMENTS...: apt-get or apt-cache, with that configuration.
archive_apt() {
	"$@" -o Dir::Etc::SourceList="$archive/suites.sources" \
		-o Dir::Etc::SourceParts=/dev/null \
		-o Dir::Etc::PreferencesParts=/dev/null \
		-o Dir::State::Lists="$archive/lists" \
		-o Dir::Cache="$archive/cache" \
		-o Acquire::Languages=none
}

# Refreshes the lists, at most once a run of the scripts.
archive_update() {
	[ -z "${KQUEUE_ARCHIVE_FRESH:-}" ] || return 0
	local uri keys
	# The mirror is whichever one this machine already uses.
	uri=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' |
		sed -n 's/^Debian|Debian|//p' | sort -u | head -n 1)
	[ -n "$uri" ] || die "apt follows no Debian archive; run 'apt-get update' first"
	keys=$(printf '%s ' /usr/share/keyrings/debian-archive-*-automatic.gpg)
	mkdir -p "$archive/lists/partial" "$archive/cache/archives/partial"
	cat >"$archive/suites.sources" <<-SOURCES
		Types: $types
		URIs: $uri
		Suites: $suites
		Components: main
		Signed-By: $keys
	SOURCES
	logged "$archive/update.log" archive_apt apt-get update
	export KQUEUE_ARCHIVE_FRESH=1
}

# archive_unpack PACKAGE=VERSION DIR: the package's files below DIR.
archive_unpack() {
	local dir=$2
	mkdir -p "$dir/deb"
	(cd "$dir/deb" && logged "$archive/download.log" archive_apt apt-get download "$1")
	dpkg-deb -x "$dir"/deb/*.deb "$dir"
	rm -r "$dir/deb"
}
