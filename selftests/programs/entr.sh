# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='entr 5.7'
switch='`Makefile.freebsd`'
native=inotify
what='its system tests'
host=(file git tmux vim)
minutes=75

build() {
	if [ "$1" = native ]; then
		step make sh -c './configure && make'
		return
	fi
	# Build it as on FreeBSD, with the awk of Linux. The C library may lack strlcpy.
	step status make -f Makefile.freebsd EXTRA_SRC=missing/strlcpy.c \
		CPPFLAGS="-D_GNU_SOURCE -D_LINUX_PORT $include" status.o
	step make make -f Makefile.freebsd EXTRA_SRC=missing/strlcpy.c \
		CPPFLAGS="-D_GNU_SOURCE $include" LDFLAGS="$library"
}

# The tests of entr wait a quarter of a second for each event, which can be too short here. There
# are three attempts with longer waits, and one of them must pass completely.
run() {
	local pause status passed
	for pause in 0.25 1 4; do
		rm -rf entr
		cp -r "$built" entr
		sed -i "s/sleep 0.25/sleep $pause/" entr/system_test.sh
		(cd entr && timeout 1200 ./system_test.sh) >log 2>&1
		status=$?
		echo "== with pauses of $pause s"
		cat log
		[ $status != 0 ] || break
	done
	# The script ends at the first failure.
	passed=$(sed -n 's/^\([0-9]*\) tests PASSED$/\1/p' log)
	counted "${passed:-0}" $((status != 0)) "$(grep -oE '^\.[.s]*|^[.s]+$' log | tr -dc s | wc -c)"
}
