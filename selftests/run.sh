#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# run.sh MODULE OUT TEST-BINARY C-TESTS ECHO-SERVER SLOWPOLL-MODULE [NAME]: runs in a guest. Runs
# each test in a process of its own; with NAME, only the tests whose names match. Writes "PASSED
# FAILED SKIPPED" to OUT/counts. The files KQUEUE_SKIPS=FILE:FILE... have a line "NAME: REASON" for each
# test that this kernel must skip. Any other test that is skipped fails, and so does one of these that is
# not.
out=$2 only=${7:-}
here=$(cd "$(dirname "$0")" && pwd)
passed=0 failed=0 skipped=0
declare -A must_skip
IFS=: read -ra skip_files <<<"${KQUEUE_SKIPS:-}"
while IFS= read -r line; do
	must_skip[${line%%: *}]=${line#*: }
done < <(cat /dev/null "${skip_files[@]}")

# Where these are modules, an administrator loads them. (On Debian no user can load TIPC by the
# creation of a socket.)
modprobe -aq loop snd-dummy tipc tls

# The file system of the guest is slow, so all programs are copied to memory. The tests are linked
# statically.
stage=$(mktemp -d /dev/shm/kqueue.XXXXXX)
cp "$1" "$stage/kqueue.ko"
cp "$6" "$stage/slowpoll.ko"
cp "$3" "$stage/tests"
cp "$4"/* "$5" "$(dirname "$5")/kqtrace" "$stage/"
cp "$(command -v busybox)" "$stage/busybox"
cd "$stage" || exit
# This directory of the host is mounted by 9p, or by virtiofs if the kernel has no 9p.
export KQUEUE_SHARED_FOLDER=$out
log=$stage/log

# result NAME STATUS [REMARK]: prints and counts one result.
result() {
	if [ "$2" = 0 ]; then
		passed=$((passed + 1))
		echo "ok $1${3:-}"
	else
		failed=$((failed + 1))
		echo "not ok $1 (status $2)"
		./busybox sed 's/^/  | /' "$log"
	fi
	echo "$passed $failed $skipped" >"$out/counts"
}

# skip NAME: prints and counts a test that ended with the status of a skipped one.
skip() {
	local reason
	reason=$(./busybox sed -n 's/^skip: //p' "$log")
	if [ -n "$reason" ] && [ "$reason" = "${must_skip[$1]:-}" ]; then
		skipped=$((skipped + 1))
		echo "skip $1: $reason"
		echo "$passed $failed $skipped" >"$out/counts"
	else
		result "$1" 77
	fi
	unset "must_skip[$1]"
}

# run NAME COMMAND...: runs one test with a timeout that no working test reaches.
run() {
	local name=$1 start=$SECONDS
	shift
	[[ $name =~ $only ]] || return 0
	# This line in the kernel log shows to which test a report belongs.
	echo "kqueue-selftest: $name" >/dev/kmsg
	./busybox timeout -k 5 $((600 + ${KQUEUE_STRESS_SECONDS:-0})) "$@" >"$log" 2>&1
	local status=$? remark=
	[ $((SECONDS - start)) -lt 10 ] || remark=" ($((SECONDS - start)) s)"
	# Tests return 77 as skip() does.
	if [ "$status" = 77 ]; then
		skip "$name"
		return
	fi
	result "$name" "$status" "$remark"
}

# Loads the module, opens, uses and closes a kqueue, and unloads the module, ten times.
cat >load-and-unload <<'SCRIPT'
for i in $(./busybox seq 10); do
	./busybox insmod kqueue.ko || exit
	./header64 || exit
	# A module in use cannot be unloaded.
	exec 9<>/dev/kqueue || exit
	if ./busybox rmmod kqueue 2>/dev/null; then exit 1; fi
	exec 9<&-
	./busybox rmmod kqueue || exit
done
SCRIPT

./busybox insmod slowpoll.ko || exit
run module::load_and_unload ./busybox sh load-and-unload
./busybox insmod kqueue.ko || exit
for program in header64 library64 header32 library32 headertime64 librarytime64; do
	[ ! -x $program ] || run "c::$program" "./$program"
done
while IFS= read -r test; do
	run "${test%: test}" ./tests --exact "${test%: test}" --test-threads 1
done < <(./tests --list --format terse)
run sample::killed_server "$here/kill-server.sh" "$stage/echo-server"
run sample::kqtrace "$here/kqtrace.sh" "$stage/kqtrace"
mkdir empty
run sample::sandbox ./sandbox64 empty
for program in manual-*; do
	run "manual::${program#manual-}" "$here/manual.sh" "${program#manual-}" "./$program"
done
# The seed is different in each run. A failure is printed with the seed of its round, which repeats
# it.
printf -v seed '0x%08x%08x' "$SRANDOM" "$SRANDOM"
if [[ fuzz::random_calls =~ $only ]]; then
	echo "# fuzz::random_calls: to repeat this run: make fuzz SECONDS=${KQUEUE_FUZZ_SECONDS:-30} SEED=$seed"
fi
run fuzz::random_calls ./kqueue-fuzz --seconds "${KQUEUE_FUZZ_SECONDS:-30}" --seed "$seed"
./busybox rmmod kqueue >"$log" 2>&1
result module::unload_at_the_end $?
for name in "${!must_skip[@]}"; do
	echo "not skipped: ${must_skip[$name]}" >"$log"
	[[ ! $name =~ $only ]] || result "$name" 1
done
[ "$failed" = 0 ]
