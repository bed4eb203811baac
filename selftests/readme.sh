#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# readme.sh: runs in the guest of scripts/test-readme.sh. Types the lines of typed.sh as the user,
# and checks what they do. Prints "ok ..." and "not ok ..." lines.
log=/run/readme.log
failed=0

# result NAME STATUS
result() {
	if [ "$2" = 0 ]; then
		echo "ok readme::$1"
	else
		failed=1
		echo "not ok readme::$1"
		sed 's/^/  | /' $log
	fi
}
typed() { timeout 300 runuser -l user -c "cd kqueue; $1" </dev/null; }
# Two lines, before and after the server has waited for an event again.
echoes() {
	local first second
	exec 5<>/dev/tcp/127.0.0.1/7007 || return
	echo first >&5 && read -r -t 60 first <&5 && echo second >&5 && read -r -t 60 second <&5 || return
	exec 5>&-
	[ "$first $second" = "first second" ]
}

# The init program of virtme-ng can hide this file behind one that knows only root.
! mountpoint -q /etc/sudoers || umount /etc/sudoers

while IFS= read -r line <&3; do
	case $line in
	target/*)
		# A server has no end.
		typed "$line" >$log 2>&1 &
		until grep -q '^listening' $log; do
			kill -0 $! || break
			sleep 0.2
		done
		echoes
		result "$line" $?
		;;
	*)
		typed "$line" >$log 2>&1
		result "$line" $?
		;;
	esac
	# What the lines print.
	case $line in
	kqtrace*)
		[ "$(grep -c '^timer 1000: ' $log)" = 3 ]
		result "three ticks" $?
		;;
	man*)
		grep -q 'the kqueue event model for users of epoll' $log
		result "the manual is readable" $?
		;;
	*program)
		[ "$(grep -c '^tick' $log)" -ge 2 ] && grep -q '^0 bytes to read' $log
		result "ticks, and the end" $?
		;;
	esac
done 3</root/typed.sh
exit $failed
