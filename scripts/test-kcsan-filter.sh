#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test-kcsan-filter.sh: checks which reports of data races, and of lists that are walked without the
# protection of RCU, make a run fail. Prints "ok NAME" or "not ok NAME" for each.
source "$(dirname "$0")/common.sh"
line="=================================================================="

# report TITLE [LINE]: prints a report as KCSAN does, with that line in it.
report() {
	printf '[  %s.000001] %s\n' 12 "$line" 12 "BUG: KCSAN: $1" 12 ""
	printf '[  %s.000001] %s\n' 12 "read to 0xffff888004b0a0a8 of 8 bytes by task 91 on cpu 2:" \
		12 " somewhere+0x12/0x40" 12 "${2:- elsewhere+0x1/0x20}" 12 "" 12 "$line"
}

# left NAME WANTED: filters a log, and checks that WANTED reports and all lines around them are
# left.
left() {
	local name=$1 wanted=$2 log rest
	log=$(cat)
	rest=$(awk -f "$top/scripts/kcsan-filter.awk" <<<"$log")
	if [ "$(grep -cE 'BUG: |WARNING: ' <<<"$rest" || true)" = "$wanted" ] &&
		[ "$(grep -c 'before\|after' <<<"$rest" || true)" = "$(grep -c 'before\|after' <<<"$log" || true)" ]; then
		echo "ok kcsan::$name"
	else
		echo "not ok kcsan::$name"
		sed 's/^/  | /' <<<"$rest"
	fi
}

of_kernel() { report "data-race in __mod_timer / tcp_poll"; }
of_module() { report "data-race in _RNvMs0_Cs_6kqueue6kqueueNtB5_6Kqueue4scan [kqueue] / tcp_poll"; }

left a_race_of_the_kernel 0 < <(echo before; of_kernel; echo after)
left a_race_of_the_module 1 < <(echo before; of_module; echo after)
left a_race_of_the_module_with_itself 1 < <(report "data-race in a [kqueue] / b [kqueue]")
left of_the_kernel_on_behalf_of_the_module 1 < <(report "data-race in a / b" " _RNv_4scan+0x12/0x40 [kqueue]")
left in_an_interrupt_of_the_module 0 < <(report "data-race in a / b" \
	"$(printf '%s\n' " asm_sysvec_apic_timer_interrupt+0x1a/0x20" " _RNv_4scan+0x12/0x40 [kqueue]")")
left in_the_other_stack 1 < <(report "data-race in a / b" "$(printf '%s\n' " asm_common_interrupt+0x1a/0x20" "" \
	"read to 0xffff888004b0a0a8 of 8 bytes by task 92 on cpu 1:" " _RNv_4scan+0x12/0x40 [kqueue]")")
left reordered_in_the_module 1 < <(report "data-race in a / b" "  +-> reordered to: _RNv_4scan+0x12/0x40 [kqueue]")
left under_a_lock_of_the_module 0 < <(report "data-race in a / b" \
	" #0: ffff888004b0a0a8 (&lock){+.+.}-{3:3}, at: _RNv_4scan+0x12/0x40 [kqueue]")
left of_who_spins_for_its_mutex 0 < <(echo before; report "data-race in osq_unlock+0x12b/0x180" \
	" kq_mutex_lock_killable+0x12/0x20 [kqueue]"; echo after)
left of_who_spins_with_others 0 < <(report "data-race in osq_lock / osq_unlock" " _RNv_4scan+0x12/0x40 [kqueue]")
left of_what_the_mutex_guards 1 < <(report "data-race in osq_lock / a [kqueue]")
left of_unknown_origin 1 < <(report "data-race in a+0x12/0x40 [kqueue]")
left one_after_the_other 1 < <(echo before; of_kernel; of_module; of_kernel; echo after)
# Other reports can interrupt a report, and its last line can be lost.
left a_warning_inside 1 < <(of_kernel | head -4; echo "[   12.000001] WARNING: CPU: 1 PID: 12 at mm/slub.c:1"; echo after)
left without_an_end 1 < <(of_kernel | head -4; of_module)
left on_a_console 0 < <(of_kernel | sed 's/$/\r/'; echo after)
left another_module_of_that_name 0 < <(report "data-race in kqueue_like [other] / b")

# list FUNCTION [TITLE]: prints lockdep's report of a list that was walked outside of an RCU
# read-side critical section.
list() {
	printf '[  %s.000001] %s\n' 12 "WARNING: suspicious RCU usage" 12 "${2:-net/a.c:7 RCU-list traversed in non-reader section!!}" \
		12 "Call Trace:" 12 " <TASK>" 12 " $1+0x12/0x40" 12 " </TASK>"
}

left a_list_of_the_kernel 0 < <(echo before; list sctp_sendmsg; echo after)
left a_list_of_the_module 1 < <(list scan | sed 's/0x40/0x40 [kqueue]/'; echo after)
left other_use_of_rcu 1 < <(list sctp_sendmsg "net/a.c:7 suspicious rcu_dereference_check() usage!")
left a_list_without_an_end 1 < <(list sctp_sendmsg | head -5; echo after)
left a_warning_after_a_list 1 < <(list sctp_sendmsg; echo "[   12.000001] WARNING: CPU: 1 PID: 12 at mm/slub.c:1")
