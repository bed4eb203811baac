# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='the Rust crates `kqueue` 1.1 and `notify` 8.2'
package=
switch='its `target_os`: Linux is where DragonFly is, by two sed scripts and a file of ours'
native=inotify
what="the tests in their libraries; those of \`kqueue\`, ten, have no other backend. The one that is skipped changes a limit of
inotify's"
own=(selftests/programs/notify/* selftests/programs/mio/*)
minutes=15

# fetched NAME=VERSION...: their sources, each in a folder of its own name.
fetched() {
	printf '%s\n' '[package]' 'name = "sources"' 'version = "0.0.0"' 'edition = "2021"' '[lib]' 'path = "lib.rs"' '[workspace]' \
		'[dependencies]' >Cargo.toml
	printf '%s\n' "$@" | sed 's/\(.*\)=\(.*\)/\1 = "=\2"/' >>Cargo.toml
	touch lib.rs
	step fetch cargo vendor
	mv $(printf 'vendor/%s ' "${@%%=*}") .
	rm -r vendor Cargo.lock
}

build() {
	local ours=$top/selftests/programs crate unix
	fetched kqueue=1.1.1 kqueue-sys=1.0.4 notify=8.2.0 mio=1.2.5
	if [ "$1" = kqueue ]; then
		sed -i -f "$ours/notify/linux.sed" kqueue-sys/src/constants/mod.rs notify/src/lib.rs notify/Cargo.toml
		unix=mio/src/sys/unix
		sed -i -f "$ours/mio/linux.sed" $unix/mod.rs $unix/{selector/kqueue,waker/selector}.rs
		{ cat "$ours/mio/libc.rs"; rust_constants; } >$unix/selector/libc.rs
	fi
	mkdir bin
	for crate in kqueue notify; do
		[ "$1 $crate" != "native kqueue" ] || continue
		rm -f $crate/Cargo.lock
		printf '%s\n' '[workspace]' '[patch.crates-io]' 'kqueue-sys = { path = "../kqueue-sys" }' 'mio = { path = "../mio" }' >>$crate/Cargo.toml
		[ $crate = kqueue ] || echo 'kqueue = { path = "../kqueue" }' >>$crate/Cargo.toml
		(cd $crate && RUSTFLAGS="-L native=$top/build/lib -l static=kqueue_c -C debuginfo=0" step $crate cargo test --no-run --lib \
			--target-dir ../target --message-format json)
		cp "$(sed -nE 's/.*"executable":"([^"]*)".*/\1/p' "$log/$name.$which.$crate")" bin/$crate
	done
	rm -r target
}

# Each where cargo would run it: one watches the folder src.
run() {
	local crate name
	for crate in "$built"/bin/*; do
		name=$(basename "$crate")
		cp -r "$built/$name" "$name"
		cd "$name" || return
		rust_tests "$name" "$crate"
		cd ..
	done
}
