#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test-install.sh TREE: installs the library and the headers into a directory, builds programs
# against them, and uninstalls them. Then DKMS builds and installs the module for the kernel of that
# build tree. Prints "ok ..." and "not ok ..." lines.
source "$(dirname "$0")/common.sh"
cd "$top"
tree=$1
assignments=$(scripts/toolchain.sh)
eval "$assignments"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
log=$place.log

check() {
	local name=$1
	shift
	if "$@" >"$log" 2>&1; then
		echo "ok install::$name"
	else
		echo "not ok install::$name"
		sed 's/^/  | /' "$log"
	fi
	rm -f "$log"
}

run() { DESTDIR=$place PREFIX=/usr EMULATION=1 scripts/install.sh "$1"; }
# Asks pkg-config for the options, with the root directory of the installation.
flags() {
	PKG_CONFIG_LIBDIR=$place/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$place \
		PKG_CONFIG_ALLOW_SYSTEM_LIBS=1 pkg-config --cflags --libs "$@"
}
build() {
	# shellcheck disable=SC2046
	cc -D_GNU_SOURCE -Wall -Wextra -Werror -o "$place/program" selftests/header.c $(flags "$@")
}
symbols() {
	local got
	got=$(nm -D --defined-only "$place/usr/lib/libkqueue_c.so.0" | awk '$2 == "T" { print $3 }' | sort | tr '\n' ' ')
	echo "exported: $got"
	[ "$got" = "kevent@@KQUEUE_0 kqueue1@@KQUEUE_0 kqueue@@KQUEUE_0 kqueuex@@KQUEUE_0 " ]
}
soname() { readelf -d "$place/usr/lib/libkqueue_c.so" | grep -q 'SONAME.*libkqueue_c\.so\.0'; }
needs_it() { build kqueue && readelf -d "$place/program" | grep -q 'NEEDED.*libkqueue_c\.so\.0'; }
# Without the module, kqueue() must fail, and nothing else may happen.
fails_cleanly() {
	[ ! -e /dev/kqueue ] || return 0
	printf '%s\n' '#include <sys/event.h>' '#include <errno.h>' \
		'int main(void) { return !(kqueue() == -1 && errno == ENOENT); }' >"$place/no-module.c"
	# shellcheck disable=SC2046
	cc -o "$place/program" "$place/no-module.c" $(flags kqueue) &&
		LD_LIBRARY_PATH=$place/usr/lib "$place/program"
}
# Configure scripts run programs on machines without the module; there the emulation must work.
configures() {
	[ ! -e /dev/kqueue ] || return 0
	local emulation which
	emulation=$(scripts/emulation.sh)
	# shellcheck disable=SC2046
	cc -Wall -Wextra -Werror -o "$place/program" selftests/configure.c $(flags kqueue)
	for which in 0 1 2; do
		if LD_LIBRARY_PATH=$place/usr/lib "$place/program" $which; then
			echo "$which works without the module"
			return 1
		fi
		LD_PRELOAD=$emulation LD_LIBRARY_PATH=$place/usr/lib timeout 300 "$place/program" $which || return
	done
}
# Configure scripts search by version and by -lkqueue.
is_the_emulation() {
	PKG_CONFIG_LIBDIR=$place/usr/lib/pkgconfig pkg-config --atleast-version=2.0 libkqueue && build libkqueue &&
		cc -D_GNU_SOURCE -I"$place/usr/include/kqueue" -o "$place/program" selftests/header.c "-L$place/usr/lib" -lkqueue &&
		readelf -d "$place/program" | grep -q 'NEEDED.*libkqueue_c\.so\.0'
}
# Install only the C library, with another compiler and other flags, and without cargo.
library_alone() {
	local tools=$place/tools
	mkdir "$tools"
	printf '#!/bin/sh\necho cargo >&2\nexit 1\n' >"$tools/cargo"
	printf '#!/bin/sh\necho "$*" >>%s\nexec cc "$@"\n' "$tools/log" >"$tools/other-cc"
	chmod +x "$tools"/*
	PATH=$tools:$PATH CC=other-cc CFLAGS="-O1 -DMARK_C" LDFLAGS=-Wl,-z,nodelete make lib &&
		PATH=$tools:$PATH DESTDIR=$place/alone PREFIX=/usr make install-lib &&
		grep -q -e '-O1 -DMARK_C.* -c' "$tools/log" && ! grep -q -e -Werror "$tools/log" &&
		readelf -d "$place/alone/usr/lib/libkqueue_c.so" | grep -q NODELETE && [ ! -e "$place/alone/usr/bin" ] &&
		[ -f "$place/alone/usr/share/man/man2/kevent.2" ] && [ ! -e "$place/alone/usr/lib/udev" ] &&
		make lib && rm -r "$place/alone" "$tools"
}
# Outside PREFIX, only these two files are installed.
only_in_prefix() {
	local other=$place/other found
	DESTDIR=$other PREFIX=/opt/kqueue EMULATION=1 scripts/install.sh install || return
	found=$(cd "$other" && find . ! -type d ! -path './opt/kqueue/*' | sort | xargs)
	echo "outside PREFIX: $found"
	rm -r "$other"
	[ "$found" = "./usr/lib/modules-load.d/kqueue.conf ./usr/lib/udev/rules.d/60-kqueue.rules" ]
}
# The module is removed too, with any compression and for each kernel, and no other module.
nothing_left() {
	local modules=$place/lib/modules
	mkdir -p "$modules"/{7.3.4,7.4.0}/updates
	touch "$modules"/7.3.4/updates/{kqueue.ko,other.ko} "$modules/7.4.0/updates/kqueue.ko.xz"
	run uninstall && [ "$(find "$place" ! -type d ! -name program ! -name no-module.c)" = "$modules/7.3.4/updates/other.ko" ] &&
		[ ! -e "$modules/7.4.0/updates" ] && rm -r "$place/lib"
}
compiles_as() {
	# shellcheck disable=SC2046
	c++ -x c++ -D_GNU_SOURCE -Wall -Wextra -Werror -fsyntax-only $(flags --cflags-only-I kqueue | sed 's/-l[^ ]*//g') - \
		<<<$'#include <sys/event.h>\nint main() { struct kevent k; EV_SET(&k, 1, EVFILT_USER, EV_ADD, 0, 0, nullptr); return kqueuex(KQUEUE_CLOEXEC) + k.filter; }'
}

# On a full disk, and if an earlier installation is there, nothing changes.
full_disk() {
	local disk=$place/disk status=0
	mkdir "$disk"
	mount -t tmpfs -o size=100k none "$disk"
	mkdir -p "$disk/usr/include/kqueue/sys"
	echo earlier >"$disk/usr/include/kqueue/sys/event.h"
	if DESTDIR=$disk PREFIX=/usr scripts/install.sh install; then
		status=1
	fi
	[ "$(find "$disk" ! -type d -exec cat {} +)" = earlier ] || status=1
	find "$disk"
	umount "$disk"
	rmdir "$disk"
	return $status
}
# If DKMS cannot build the module, it does not keep it. dkms_fails OUTPUT REASON: the output of the build,
# and the reason that must be printed.
dkms_fails() {
	local tools=$place/tools said
	mkdir -p "$tools" "$place/var/lib/dkms"
	printf '#!/bin/sh\necho "%s"\nexit 1\n' "$1" >"$tools/make"
	chmod +x "$tools/make"
	if said=$(PATH=$tools:$PATH DESTDIR=$place KDIR=$tree DKMS_PATH=$PATH scripts/install.sh dkms-install 2>&1); then
		return 1
	fi
	rm -r "$tools"
	echo "$said"
	[[ $(tail -n 1 <<<"$said") = *"so nothing was installed: $2"* ]] &&
		[ -z "$(find "$place/lib/modules" "$place/usr/src" "$place/var/lib/dkms" -type f | grep -v -e mok -e '\.lock$')" ]
}
dkms_install() {
	mkdir -p "$place/var/lib/dkms"
	DESTDIR=$place KDIR=$tree DKMS_PATH=$PATH scripts/install.sh dkms-install || {
		cat "$place"/var/lib/dkms/kqueue/*/build/make.log
		return 1
	}
	local module
	module=$(find "$place/lib/modules" -name 'kqueue.ko*')
	modinfo "$module"
	[ "$(modinfo -F version "$module")" = "$(scripts/version.sh)" ] && [ -n "$(modinfo -F description "$module")" ]
}
dkms_installed_twice() {
	local said
	! said=$(DESTDIR=$place KDIR=$tree DKMS_PATH=$PATH scripts/install.sh dkms-install 2>&1) &&
		[[ $said = *"DKMS has kqueue "*" already"* ]] && [ -n "$(find "$place/lib/modules" -name 'kqueue.ko*')" ]
}
# Where DKMS does not have the module, there is nothing to do.
dkms_uninstalled_twice() { DESTDIR=$place scripts/install.sh dkms-uninstall; }
dkms_uninstall() {
	DESTDIR=$place scripts/install.sh dkms-uninstall &&
		[ -z "$(find "$place/lib/modules" "$place/usr/src" -type f)" ] && rm -r "$place/var" "$place/lib" "$place/usr/src"
}

check install run install
check symbols symbols
check soname soname
check builds_with_pkg_config needs_it
check only_in_prefix only_in_prefix
check builds_by_the_emulation_s_name is_the_emulation
check library_alone library_alone
check header_as_cplusplus compiles_as
check without_the_module fails_cleanly
check configure_without_the_module configures
[ "$(id -u)" != 0 ] || check full_disk full_disk
check dkms_fails dkms_fails "check-tree.sh: an artificial reason" "check-tree.sh: an artificial reason"
check dkms_fails_on_a_full_disk dkms_fails "cannot write main.o: No space left on device" \
	"the disk of $place/var/lib/dkms is full"
check dkms_install dkms_install
check dkms_installed_twice dkms_installed_twice
check dkms_uninstall dkms_uninstall
check dkms_uninstalled_twice dkms_uninstalled_twice
check uninstall nothing_left
