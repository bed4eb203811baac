#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# install.sh install|install-lib|uninstall|dkms-install|dkms-uninstall: implements the `make`
# targets of these names. install-lib installs only the C library, its headers and its manual.
#
# Variables: PREFIX (default /usr/local), LIBDIR (default PREFIX/lib), DESTDIR, KDIR. With
# EMULATION=1 the library is also installed under the name of the userspace emulation, libkqueue,
# for programs that ask pkg-config for it or link with -lkqueue.
#
# If a step fails, for example because the disk is full, nothing remains installed. Files are written
# next to their destinations first, and renamed when all of them are complete.
source "$(dirname "$0")/common.sh"
cd "$top"
prefix=${PREFIX:-/usr/local}
libdir=${LIBDIR:-$prefix/lib}
root=${DESTDIR:-}
version=$(scripts/version.sh)
source_tree=$root/usr/src/kqueue-$version
# With DESTDIR, the directories of DKMS are below it.
dkms_places=()
dkms_modules=()
if [ -n "$root" ]; then
	dkms_places=(--sourcetree "$root/usr/src" --dkmstree "$root/var/lib/dkms")
	dkms_modules=(--installtree "$root/lib/modules" --no-depmod)
fi

files=(
	"$prefix/include/kqueue/sys/event.h"
	"$prefix/include/kqueue/linux/kqueue.h"
	"$libdir/libkqueue_c.a"
	"$libdir/libkqueue_c.so"
	"$libdir/libkqueue_c.so.0"
	"$libdir/libkqueue_c.so.$version"
	"$libdir/pkgconfig/kqueue.pc"
	"$libdir/pkgconfig/libkqueue.pc"
	"$libdir/libkqueue.so"
	"$prefix/bin/kqtrace"
	"$prefix/share/bash-completion/completions/kqtrace"
	"$prefix/share/fish/vendor_completions.d/kqtrace.fish"
	"$prefix/share/zsh/site-functions/_kqtrace"
	"$prefix/share/man/man1/kqtrace.1"
	"$prefix/share/man/man2/kqueue.2"
	"$prefix/share/man/man2/kevent.2"
	"$prefix/share/man/man4/kqueue.4"
	"$prefix/share/man/man7/kqueue.7"
	/usr/lib/udev/rules.d/60-kqueue.rules
	/usr/lib/modules-load.d/kqueue.conf
)

new=.kqueue-new
staged=()
discard() {
	local file
	for file in "${staged[@]}"; do
		rm -f "$file$new"
	done
}
trap discard EXIT
trap 'exit 1' HUP INT TERM
put() {
	staged+=("$root$3")
	install -D -m "$1" "$2" "$root$3$new"
}
# link TARGET PATH
link() {
	staged+=("$root$2")
	ln -sf "$1" "$root$2$new"
}
complete() {
	local file
	for file in "${staged[@]}"; do
		mv -fT "$file$new" "$file"
	done
}
fill() {
	sed "s|@prefix@|$prefix|; s|@libdir@|$libdir|; s|@version@|$version|; s|@minimum@|$(cat scripts/minimum-kernel)|" "$1"
}

install_library() {
	[ -f "build/lib/libkqueue_c.so.$version" ] || die "the library is not built: run 'make lib' first, without root's rights"
	put 644 include/sys/event.h "$prefix/include/kqueue/sys/event.h"
	put 644 include/uapi/linux/kqueue.h "$prefix/include/kqueue/linux/kqueue.h"
	put 644 build/lib/libkqueue_c.a "$libdir/libkqueue_c.a"
	put 755 "build/lib/libkqueue_c.so.$version" "$libdir/libkqueue_c.so.$version"
	link "libkqueue_c.so.$version" "$libdir/libkqueue_c.so.0"
	link libkqueue_c.so.0 "$libdir/libkqueue_c.so"
	fill packaging/kqueue.pc.in >build/kqueue.pc
	put 644 build/kqueue.pc "$libdir/pkgconfig/kqueue.pc"
	if [ -n "${EMULATION:-}" ]; then
		# Programs require version 2.0 or later of the emulation.
		sed "s/^Name: .*/Name: libkqueue/; s/^Version: .*/Version: 2.6.3/" build/kqueue.pc >build/libkqueue.pc
		put 644 build/libkqueue.pc "$libdir/pkgconfig/libkqueue.pc"
		link libkqueue_c.so.0 "$libdir/libkqueue.so"
	fi
	for page in Documentation/man/*.[2-9]; do
		put 644 "$page" "$prefix/share/man/man${page##*.}/${page##*/}"
	done
}

install_userspace() {
	[ -f target/release/kqtrace ] || die "kqtrace is not built: run 'make userspace' first, without root's rights"
	install_library
	put 755 target/release/kqtrace "$prefix/bin/kqtrace"
	mkdir -p build/completions
	for shell in bash fish zsh; do
		target/release/kqtrace completions "$shell" >"build/completions/$shell"
	done
	put 644 build/completions/bash "$prefix/share/bash-completion/completions/kqtrace"
	put 644 build/completions/fish "$prefix/share/fish/vendor_completions.d/kqtrace.fish"
	put 644 build/completions/zsh "$prefix/share/zsh/site-functions/_kqtrace"
	put 644 Documentation/man/kqtrace.1 "$prefix/share/man/man1/kqtrace.1"
	put 644 packaging/60-kqueue.rules /usr/lib/udev/rules.d/60-kqueue.rules
	put 644 packaging/kqueue.conf /usr/lib/modules-load.d/kqueue.conf
}

# The module is installed in the directory of the kernel of KDIR, which need not be the running one.
check_module() {
	release=$(cat "$KDIR/include/config/kernel.release" 2>/dev/null) ||
		die "there is no kernel build tree $KDIR: set KDIR= to the one for which the module was built"
	[[ $(modinfo -F vermagic kqueue.ko) = "$release "* ]] ||
		die "kqueue.ko was not built for Linux $release: set KDIR= to the tree for which it was built"
}
install_module() {
	if ! { make -C "$KDIR" M="$top" modules_install && depmod "$release"; }; then
		rm -f "/lib/modules/$release"/updates/kqueue.ko*
		die "the module cannot be installed, so nothing was installed"
	fi
}
remove_modules() {
	local module updates
	for module in "$root"/lib/modules/*/updates/kqueue.ko*; do
		[ -e "$module" ] || continue
		rm "$module"
		updates=${module%/*}
		rmdir --ignore-fail-on-non-empty "$updates"
		[ -n "$root" ] || depmod "$(basename "${updates%/*}")"
	done
}

case $1 in
install)
	if [ -z "$root" ] && [ -f kqueue.ko ]; then
		check_module
		install_userspace
		install_module
		complete
		ldconfig
	else
		install_userspace
		complete
		say "the module was not installed, because it was not built or DESTDIR is set; see 'make dkms-install'"
	fi
	;;
install-lib)
	install_library
	complete
	[ -n "$root" ] || ldconfig
	;;
uninstall)
	# Earlier versions installed these two files.
	rm -f "$root/etc/udev/rules.d/60-kqueue.rules" "$root/etc/modules-load.d/kqueue.conf"
	for file in "${files[@]}"; do
		rm -f "$root$file"
	done
	rmdir -p --ignore-fail-on-non-empty "$root$prefix"/include/kqueue/{sys,linux} 2>/dev/null || true
	remove_modules
	;;
dkms-install)
	command -v dkms >/dev/null || die "dkms is missing: install the package dkms"
	# Check the tools with the PATH of root too. Otherwise the build would fail at the next
	# update of the kernel, which does not use the PATH of the caller.
	scripts/check-tree.sh --headers "$KDIR"
	PATH=${DKMS_PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin} scripts/check-tree.sh --headers "$KDIR" ||
		die "DKMS needs rustc and bindgen in a directory of the default PATH, such as /usr/local/bin"
	[ ! -e "$root/var/lib/dkms/kqueue/$version" ] ||
		die "DKMS has kqueue $version already: run 'make dkms-uninstall' first"
	# Whatever fails, DKMS must not keep a module that it cannot build.
	undo() {
		local reason
		reason=$(scripts/dkms-reason.sh "$root/var/lib/dkms/kqueue/$version") || true
		cat "$root/var/lib/dkms/kqueue/$version/build/make.log" >&2 2>/dev/null || true
		dkms remove "kqueue/$version" --all "${dkms_places[@]}" "${dkms_modules[@]}" >/dev/null 2>&1 || true
		rm -rf "$source_tree" "$root/var/lib/dkms/kqueue/$version"
		die "DKMS cannot install the module, so nothing was installed${reason:+: $reason}"
	}
	rm -rf "$source_tree"
	trap undo EXIT
	mkdir -p "$source_tree"
	cp -r Kbuild Makefile Cargo.toml COPYING rust include scripts "$source_tree/"
	fill dkms.conf >"$source_tree/dkms.conf"
	dkms add "kqueue/$version" "${dkms_places[@]}"
	release=$(cat "$KDIR/include/config/kernel.release")
	[ -z "$root" ] || mkdir -p "$root/lib/modules/$release"
	dkms install "kqueue/$version" -k "$release" --kernelsourcedir "$KDIR" "${dkms_places[@]}" "${dkms_modules[@]}"
	trap - EXIT
	;;
dkms-uninstall)
	if [ -e "$root/var/lib/dkms/kqueue/$version" ]; then
		dkms remove "kqueue/$version" --all "${dkms_places[@]}" "${dkms_modules[@]}"
	else
		say "DKMS does not have kqueue $version"
	fi
	rm -rf "$source_tree"
	[ -n "$root" ] || rm -rf /var/cache/kqueue
	;;
*) die "usage: install.sh install|install-lib|uninstall|dkms-install|dkms-uninstall" ;;
esac
