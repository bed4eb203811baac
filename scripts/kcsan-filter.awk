# SPDX-License-Identifier: GPL-2.0
# kcsan-filter.awk: copies a kernel log without the reports of KCSAN about races of the kernel
# itself. In such a report neither the title nor one of the two stacks has a function of the module.
# The code that an interrupt has interrupted does not belong to the stack, even if it is the module.
# The filter also removes reports of lists that the kernel itself walks without the protection of
# RCU, as SCTP does when an association is aborted under the lock of its socket
# (CONFIG_PROVE_RCU_LIST).

# Called when a report has ended. Prints the report if it is about the module.
function end_report(  i) {
	if (ours && !of_spinners) {
		for (i = 1; i <= length_of_report; i++)
			print report[i]
	}
	in_report = ours = interrupted = length_of_report = of_list = of_spinners = 0
}
{
	text = $0
	sub(/\r$/, "", text)
	sub(/^\[ *[0-9]+\.[0-9]+\](\[[^]]*\])? /, "", text)
}
# The last line of a report can be lost.
in_report && text ~ /BUG: |WARNING: / { end_report() }
text ~ /^BUG: KCSAN: / { in_report = 1 }
# The report is printed unless its stack is complete and has no function of the module.
text ~ /^WARNING: suspicious RCU usage/ { in_report = of_list = ours = 1 }
!in_report { print; next }
{ report[++length_of_report] = $0 }
of_list {
	if (text ~ /RCU-list traversed in non-reader section/)
		of_list = 2
	if (text ~ /\[kqueue\]/)
		of_list = 3
	if (text ~ /^ *<\/TASK>/) {
		ours = of_list != 2
		end_report()
	}
	next
}
# Match the title and the lines of the stacks. (A report also lists held locks and the functions
# that took them, which must not match.)
text ~ /^BUG: KCSAN: .*\[kqueue\]/ { ours = 1 }
# osq_wait_next() reads the queue of the tasks that spin for a mutex without annotation. All mutexes
# of the kernel use this queue.
text ~ /^BUG: KCSAN: data-race in osq_(un)?lock[^ ]*( \/ osq_(un)?lock[^ ]*)?$/ { of_spinners = 1 }
text ~ / of [0-9]+ bytes by / { interrupted = 0 }
text ~ /^ +(asm_[a-z_]+|handle_softirqs)\+0x/ { interrupted = 1 }
!interrupted && text ~ /^ +[^ ]+\+0x[0-9a-f]+\/0x[0-9a-f]+ \[kqueue\]/ { ours = 1 }
text ~ /reordered to: .*\[kqueue\]/ { ours = 1 }
text ~ /^=+$/ { end_report() }
END { end_report() }
