# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='libuv 1.50'
package=libuv1
switch='`-U__linux__ -D__GNU__`, two headers and a file of ours: its loops are as on the BSDs, the rest as on an unknown system'
native='epoll, inotify'
what='its tests. `fs_copyfile` is not for root; the seven others are not of its loops: a system that is not known to it
has no process titles, `utimensat`, `sendmmsg` or list of processors, and tells no name of a file that is gone'
known=(platform_output fs_copyfile fs_event_watch_delete_dir fs_utime fs_utime_round process_title
	process_title_threadsafe udp_try_send)
own=(selftests/programs/libuv/*/*.h selftests/programs/libuv/platform.c)
minutes=60

# As its CMakeLists.txt has it: of a system without anything else of its own, and of Linux.
build() {
	local flags='-D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude -Isrc -pthread -g -O1 -w'
	local unix='async core dl fs getaddrinfo getnameinfo loop-watcher loop pipe poll process random-devurandom
		random-getrandom signal stream tcp thread tty udp procfs-exepath'
	mkdir -p objects/library objects/tests
	ls src/*.c >objects/library/sources
	if [ "$1" = kqueue ]; then
		flags="-I$top/selftests/programs/libuv $flags $include -Isrc/unix -U__linux__ -D__GNU__"
		unix+=' bsd-ifaddrs kqueue cygwin no-proctitle posix-hrtime sysinfo-loadavg sysinfo-memory'
		echo "$top/selftests/programs/libuv/platform.c" >>objects/library/sources
	else
		unix+=' linux proctitle random-sysctl-linux'
	fi
	# shellcheck disable=SC2086 # It is a list.
	printf 'src/unix/%s.c\n' $unix >>objects/library/sources
	ls test/test-*.c test/{blackhole-server,echo-server,run-tests,runner,runner-unix}.c >objects/tests/sources
	step make sh -c "for part in library tests; do
		xargs -a objects/\$part/sources -P $(nproc) -n 8 cc $flags -c || exit
		mv ./*.o objects/\$part || exit
	done"
	# Some tests bring files of the library, which are then not to come from that.
	step archive ar rcs libuv.a objects/library/*.o
	step link cc -pthread -o run-tests objects/tests/*.o libuv.a "$library" -ldl -lrt
	rm -r objects
}

run() {
	cp -r "$built" libuv
	cd libuv || return
	# Its time-outs are for hardware.
	export UV_TEST_TIMEOUT_MULTIPLIER=30 UV_RUN_AS_ROOT=1 UV_USE_IO_URING=0
	timeout 3000 ./run-tests >log 2>&1
	cat log
	counted "$(grep -cE '^ok .* - [^#]*$' log)" "$(grep -c '^not ok ' log)" "$(grep -ciE '^ok .*# (skip|todo)' log)"
}
