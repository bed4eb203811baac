# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the files of the programs, selftests/programs/NAME.sh, are made of. Each sets
#   version    what it is called in the table
#   package    Debian's source package, NAME unless said; empty if build() fetches the source; suite: of which
#              suite, trixie unless said
#   switch     by what it is built for kqueue, for the table
#   native     what it uses on Linux otherwise
#   what       what is run, and why there are differences
#   builds     2 if it is built twice, 1 if it has all backends and chooses when it runs
#   needs      other programs that it is built with
#   host       Debian packages that building and running it take
#   known      tests that fail on kqueue, of which "what" says why
#   own        files of ours that are compiled with it
#   minutes    how long one run may take
# and has two functions:
#   build WHICH    in a folder with its source; WHICH is kqueue or native. There are $include,
#                  $library and $object, and step STEP COMMAND...
#   run WHICH      in the guest, in an empty folder; the build is in $built. Prints the log of its
#                  tests. If that has no lines "ok NAME", "not ok NAME" and "skip NAME" (or those of TAP), it calls
#                  counted PASSED FAILED SKIPPED.

# describe NAME: reads the file of that program.
describe() {
	package=$1 suite=trixie version=$1 switch= native=epoll what= builds=2 minutes=30
	needs=() host=() own=() known=()
	# shellcheck source=/dev/null
	source "$(dirname "${BASH_SOURCE[0]}")/$1.sh"
}

counted() { echo "$*" >"$counts"; }

# expect NAME COMMAND...: a test of ours. Where it is not done after ten minutes it has failed.
expect() {
	local name=$1
	shift
	if "$@"; then
		echo "ok $name"
	else
		echo "not ok $name: $*"
	fi
}

# eventually COMMAND...: waits until it succeeds, for two minutes at most.
eventually() {
	local end=$((SECONDS + 120))
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}

# requests COUNT AT-A-TIME URL [OPTION...]: all are answered, and well.
requests() {
	local count=$1 load=$2 url=$3
	shift 3
	timeout 600 ab -q -s 300 -n "$count" -c "$load" "$@" "$url" >load 2>&1 &&
		grep -q "^Complete requests: *$count\$" load && grep -q '^Failed requests: *0$' load &&
		! grep -q '^Non-2xx' load || { cat load; false; }
}

# same URL FILE: the answer is what is in that file.
same() { timeout 300 busybox wget -q -O - "$1" | cmp - "$2"; }

# listens PORT: somebody does.
listens() { ss -Hltn "sport = :$1" | grep -q .; }

# watches_with kqueue|epoll PID...: one of them has such a descriptor.
watches_with() {
	local pid kind=/dev/kqueue
	[ "$1" = kqueue ] || kind=eventpoll
	shift
	for pid in "$@"; do
		ls -l "/proc/$pid/fd" | grep -q "$kind" && return
	done
	return 1
}

# gone PID...: they have ended, be it that nobody has waited for them.
gone() {
	local pid
	for pid in "$@"; do
		! grep -qs '^State:.[^Z]' "/proc/$pid/status" || return
	done
}

# libevent_backend WHICH: what programs on libevent are to use.
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
