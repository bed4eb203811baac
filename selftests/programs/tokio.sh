# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='tokio 1.54 on mio 1.2'
package=
switch='its `target_os`: Linux is where DragonFly is, by a sed script and a file of ours'
what="24 files of tokio's tests: those of descriptors, sockets, pipes, child processes, signals and its runtimes. Not
\`io_async_fd\`, which waits for errors and urgent data as epoll alone tells of them"
own=(selftests/programs/mio/*)
minutes=15

tests="io_driver net_unix_pipe process_kill_on_drop process_smoke rt_basic signal_multi_rt signal_notify_both signal_twice
signal_usr1 tcp_accept tcp_echo tcp_into_split tcp_peek tcp_shutdown tcp_socket tcp_split tcp_stream time_rt udp uds_cred
uds_datagram uds_split uds_stream unix_shutdown"

build() {
	local ours=$top/selftests/programs/mio unix test options=()
	printf '%s\n' '[package]' 'name = "sources"' 'version = "0.0.0"' 'edition = "2021"' '[lib]' 'path = "lib.rs"' '[workspace]' \
		'[dependencies]' 'mio = "=1.2.5"' 'tokio = { version = "=1.54.1", features = ["full"] }' >Cargo.toml
	touch lib.rs
	step fetch cargo vendor
	mv vendor/{mio,tokio} .
	rm -r vendor
	if [ "$1" = kqueue ]; then
		unix=mio/src/sys/unix
		sed -i -f "$ours/linux.sed" $unix/mod.rs $unix/{selector/kqueue,waker/selector}.rs
		{ cat "$ours/libc.rs"; rust_constants; } >$unix/selector/libc.rs
	fi
	# Its own would have other versions of the two.
	rm tokio/Cargo.lock
	cd tokio
	printf '%s\n' '[workspace]' '[patch.crates-io]' 'mio = { path = "../mio" }' 'tokio = { path = "." }' >>Cargo.toml
	for test in $tests; do options+=(--test "$test"); done
	RUSTFLAGS="-L native=$top/build/lib -C debuginfo=0" step build cargo test --no-run --features full,test-util \
		--target-dir ../target --message-format json "${options[@]}"
	mkdir ../bin
	sed -nE 's/.*"name":"([^"]*)".*"executable":"([^"]*)".*/\1 \2/p' "$log/$name.$which.build" |
		while read -r test file; do cp "$file" "../bin/$test"; done
	rm -r ../target
}

run() {
	local test
	for test in $tests; do
		rust_tests "$test" "$built/bin/$test"
	done
}
