# SPDX-License-Identifier: GPL-2.0
# kcsan-filter.awk: a kernel log without those reports of KCSAN that are about races of the kernel's
# own: no function of the module's is in the title or in one of the two stacks. What an interrupt
# has interrupted, be it the module, is no part of its stack. Without those, too, of lists that the
# kernel itself walks without RCU's protection, as SCTP does when an association is aborted under
# its socket's lock (CONFIG_PROVE_RCU_LIST).

# A report has ended: it is printed if it is the module's.
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
# Its last line may be lost.
in_report && text ~ /BUG: |WARNING: / { end_report() }
text ~ /^BUG: KCSAN: / { in_report = 1 }
# It counts unless its stack ends, and has no function of the module in it.
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
# The title, and a line of a stack. (Held locks are listed too, with who has taken them.)
text ~ /^BUG: KCSAN: .*\[kqueue\]/ { ours = 1 }
# The queue of those who spin for a mutex, whoever's that is: osq_wait_next() reads it plainly.
text ~ /^BUG: KCSAN: data-race in osq_(un)?lock[^ ]*( \/ osq_(un)?lock[^ ]*)?$/ { of_spinners = 1 }
text ~ / of [0-9]+ bytes by / { interrupted = 0 }
text ~ /^ +(asm_[a-z_]+|handle_softirqs)\+0x/ { interrupted = 1 }
!interrupted && text ~ /^ +[^ ]+\+0x[0-9a-f]+\/0x[0-9a-f]+ \[kqueue\]/ { ours = 1 }
text ~ /reordered to: .*\[kqueue\]/ { ours = 1 }
text ~ /^=+$/ { end_report() }
END { end_report() }
