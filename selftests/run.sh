#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# run.sh MODULE OUT TEST-BINARY C-TESTS ECHO-SERVER SLOWPOLL-MODULE [NAME]: in a guest, runs every test in a
# process of its own; with NAME, those whose name matches it. Leaves
# "PASSED FAILED" in OUT/counts.
out=$2 server=$(realpath "$5") only=${7:-}
here=$(cd "$(dirname "$0")" && pwd)
passed=0 failed=0

# From memory: the guest's file system is slow. All of it is linked statically.
stage=$(mktemp -d /dev/shm/kqueue.XXXXXX)
cp "$1" "$stage/kqueue.ko"
cp "$6" "$stage/slowpoll.ko"
cp "$3" "$stage/tests"
cp "$4"/* "$stage/"
cp "$(command -v busybox)" "$stage/busybox"
cd "$stage" || exit
# A folder of another machine, by 9p.
export KQUEUE_SHARED_FOLDER=$out
log=$stage/log

# result NAME STATUS [REMARK]
result() {
	if [ "$2" = 0 ]; then
		passed=$((passed + 1))
		echo "ok $1${3:-}"
	else
		failed=$((failed + 1))
		echo "not ok $1 (status $2)"
		./busybox sed 's/^/  | /' "$log"
	fi
	echo "$passed $failed" >"$out/counts"
}

# run NAME COMMAND...: fails also if it takes longer than anything does.
run() {
	local name=$1 start=$SECONDS
	shift
	[[ $name =~ $only ]] || return 0
	# What the kernel reports can be told by it to be of this test.
	echo "kqueue-selftest: $name" >/dev/kmsg
	./busybox timeout -k 5 $((300 + ${KQUEUE_STRESS_SECONDS:-0})) "$@" >"$log" 2>&1
	local status=$? remark=
	[ $((SECONDS - start)) -lt 10 ] || remark=" ($((SECONDS - start)) s)"
	result "$name" "$status" "$remark"
}

# Opened, used and closed, 50 times, with the module loaded and unloaded around it.
cat >load-and-unload <<'SCRIPT'
for i in $(./busybox seq 50); do
	./busybox insmod kqueue.ko || exit
	./header64 || exit
	# A module in use stays.
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
run sample::killed_server "$here/kill-server.sh" "$server"
run sample::kqtrace "$here/kqtrace.sh" "$(dirname "$server")/kqtrace"
mkdir empty
run sample::sandbox ./sandbox64 empty
for program in manual-*; do
	run "manual::${program#manual-}" "$here/manual.sh" "${program#manual-}" "./$program"
done
# Other calls each time. What fails is printed with the seed of its round, which is enough to do it again.
printf -v seed '0x%08x%08x' "$SRANDOM" "$SRANDOM"
if [[ fuzz::random_calls =~ $only ]]; then
	echo "# fuzz::random_calls: the same again by: make fuzz SECONDS=60 SEED=$seed"
fi
run fuzz::random_calls ./kqueue-fuzz --seconds 60 --seed "$seed"
./busybox rmmod kqueue >"$log" 2>&1
result module::unload_at_the_end $?
[ "$failed" = 0 ]
