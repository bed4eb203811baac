#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# run.sh MODULE PROGRAMS OUT NAME...: runs in a guest. Runs the tests of each program with each of
# $KQUEUE_INTERFACES: "kqueue", and "native" for the interface that it uses on Linux otherwise
# (selftests/programs/NAME.sh). Writes OUT/NAME.WHICH.log, and "PASSED FAILED SKIPPED" to
# OUT/NAME.WHICH.counts.
here=$(cd "$(dirname "$0")" && pwd)
source "$here/tools.sh"

# run.sh --one NAME WHICH: runs one of them in a process that can be killed.
if [ "$1" = --one ]; then
	describe "$2"
	run "$3"
	exit
fi

insmod "$1" || exit
work=$(mktemp -d /dev/shm/programs.XXXXXX)
# Use paths that stay valid when /tmp, which the programs need, is mounted.
export programs=$work/programs out=$work/out TMPDIR=$work HOME=$work TERM=linux
mkdir "$programs" "$out"
mount --bind "$2" "$programs" && mount --bind "$3" "$out" || exit
shift 3
bad=0
mount -t tmpfs none /tmp
chmod 1777 /tmp
chmod 755 "$work"

# Failed tests can leave processes running, which would keep the module in use.
end_programs() {
	local exe
	for exe in /proc/[0-9]*/exe; do
		[[ $(readlink "$exe") != "$work"/* ]] || kill -9 "$(basename "$(dirname "$exe")")"
	done
}

# tally: counts the lines "ok", "not ok" and "skip" of a log; "ok ... # skip" is a skip.
tally() {
	awk '/^ok .*# *[Ss][Kk][Ii][Pp]/ || /^skip / { skipped++; next }
		/^ok / { passed++ }
		/^not ok / { failed++ }
		END { print passed + 0, failed + 0, skipped + 0 }'
}

# as_known FAILED LOG: checks that all failed tests are in the list of known failures.
as_known() {
	local failed
	failed=$(sed -nE 's/^not ok ([0-9]+ - )?//p' "$2")
	[ "$(wc -l <<<"$failed")" = "$1" ] &&
		! grep -vxF -f <(printf '%s\n' "${known[@]}") <<<"$failed"
}

for name in "$@"; do
	describe "$name"
	for which in ${KQUEUE_INTERFACES:?}; do
		start=$SECONDS
		echo "$name, $which"
		log=$out/$name.$which.log
		export built counts=$out/$name.$which.counts
		rm -f "$counts"
		built=$(realpath "$programs/$name/$which")
		mkdir "$work/run"
		(cd "$work/run" && timeout -k 10 $((minutes * 60)) "$here/run.sh" --one "$name" $which) >"$log" 2>&1
		status=$?
		end_programs
		rm -rf "$work/run"
		[ -f "$counts" ] || tally <"$log" >"$counts"
		read -r passed failed skipped <"$counts"
		# A run that stops early has failed, whatever it printed before.
		if [ $status = 124 ] || [ $status = 137 ] || [ "$passed$failed" = 00 ]; then
			failed=$((failed + 1))
			echo "$passed $failed $skipped" >"$counts"
		fi
		echo "  $passed passed, $failed failed, $skipped skipped ($((SECONDS - start)) s)"
		grep '^not ok ' "$log" | head -n 20
		[ $which = native ] || [ "$failed" = 0 ] || as_known "$failed" "$log" || bad=1
	done
done
umount /tmp "$programs" "$out"
rm -rf --one-file-system "$work"
rmmod kqueue || exit
exit $bad
