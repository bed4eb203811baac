# SPDX-License-Identifier: GPL-2.0
# kcsan-filter.awk: a kernel log without those reports of KCSAN that are about races of the kernel's
# own, neither of whose functions is the module's. (The title names both.)
{
	text = $0
	sub(/\r$/, "", text)
	sub(/^\[ *[0-9]+\.[0-9]+\](\[[^]]*\])? /, "", text)
}
# Such a report goes up to its last line, or to where another one begins.
foreign && text ~ /^=+$/ { foreign = 0; next }
text ~ /BUG: |WARNING: / { foreign = 0 }
text ~ /^BUG: KCSAN: / && text !~ /\[kqueue\]/ { foreign = 1 }
!foreign
