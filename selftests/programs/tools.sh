# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Functions for the files of the programs, selftests/programs/NAME.sh. Each of these files sets
#   version    the name of the program in the table
#   package    the source package of Debian, by default NAME; empty if build() fetches the source;
#              suite: its suite, by default trixie
#   switch     how the program is built for kqueue, for the table
#   native     the interface that it uses on Linux otherwise
#   what       which tests are run, and the reasons for differences
#   builds     2 if it is built twice, 1 if it contains all backends and selects one when it runs
#   needs      other programs that it is built with
#   host       Debian packages that are required to build and run it
#   known      tests that fail with kqueue; "what" gives the reasons
#   own        files of this project that are compiled with it
#   minutes    the time limit of one run
# and defines two functions:
#   build WHICH    builds it in a directory with its source; WHICH is kqueue or native. It can use
#                  $include, $library, $object, and step STEP COMMAND...
#   run WHICH      runs its tests in the guest, in an empty directory; $built is the build. It prints
#                  the log of the tests. If the log has no lines "ok NAME", "not ok NAME" and
#                  "skip NAME" (or those of TAP), it calls counted PASSED FAILED SKIPPED.

# describe NAME: reads the file of the program.
describe() {
	package=$1 suite=trixie version=$1 switch= native=epoll what= builds=2 minutes=30
	needs=() host=() own=() known=()
	# shellcheck source=/dev/null
	source "$(dirname "${BASH_SOURCE[0]}")/$1.sh"
}

counted() { echo "$*" >"$counts"; }

# expect NAME COMMAND...: runs a test of this project. It fails if it takes more than ten minutes.
expect() {
	local name=$1
	shift
	if "$@"; then
		echo "ok $name"
	else
		echo "not ok $name: $*"
	fi
}

# eventually COMMAND...: repeats the command until it succeeds, for two minutes at most.
eventually() {
	local end=$((SECONDS + 120))
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}

# requests COUNT AT-A-TIME URL [OPTION...]: checks that all requests are answered successfully.
requests() {
	local count=$1 load=$2 url=$3
	shift 3
	timeout 600 ab -q -s 300 -n "$count" -c "$load" "$@" "$url" >load 2>&1 &&
		grep -q "^Complete requests: *$count\$" load && grep -q '^Failed requests: *0$' load &&
		! grep -q '^Non-2xx' load || { cat load; false; }
}

# same URL FILE: checks that the response is the contents of the file.
same() { timeout 300 busybox wget -q -O - "$1" | cmp - "$2"; }

# listens PORT: checks that a process listens on the port.
listens() { ss -Hltn "sport = :$1" | grep -q .; }

# watches_with kqueue|epoll PID...: checks that one of the processes has such a descriptor.
watches_with() {
	local pid kind=/dev/kqueue
	[ "$1" = kqueue ] || kind=eventpoll
	shift
	for pid in "$@"; do
		ls -l "/proc/$pid/fd" | grep -q "$kind" && return
	done
	return 1
}

# gone PID...: checks that the processes have exited. They can be zombies.
gone() {
	local pid
	for pid in "$@"; do
		! grep -qs '^State:.[^Z]' "/proc/$pid/status" || return
	done
}

# libevent_backend WHICH: selects the backend of programs that use libevent.
libevent_backend() {
	local other
	for other in EVPORT KQUEUE EPOLL DEVPOLL POLL SELECT; do
		export "EVENT_NO$other=yes"
	done
	if [ "$1" = kqueue ]; then unset EVENT_NOKQUEUE; else unset EVENT_NOEPOLL; fi
}

# rust_constants: those of our header, as the libc crate would have them.
rust_constants() {
	awk '/^#define (EVFILT_|EV_|NOTE_)[A-Z0-9_]*[ \t]/ {
		type = $2 ~ /^EVFILT_/ ? "c_short" : $2 ~ /^EV_/ ? "c_ushort" : "c_uint"
		gsub(/[()U]/, "", $3)
		printf "pub const %s: %s = %s;\n", $2, type, $3
	}' "$top/include/uapi/linux/kqueue.h"
}

# rust_tests NAME PROGRAM: runs the tests of a program that cargo has built, and tells the results of each.
rust_tests() {
	local status
	timeout 600 "$2" --test-threads 2 >log 2>&1
	status=$?
	cat log
	sed -nE "s/^test (.*) \.\.\. ok\$/ok $1::\1/p; s/^test (.*) \.\.\. ignored.*/skip $1::\1/p
		s/^test (.*) \.\.\. FAILED\$/not ok $1::\1/p" log >results
	cat results
	[ $status = 0 ] || grep -q '^not ok' results || echo "not ok $1: $status"
}
