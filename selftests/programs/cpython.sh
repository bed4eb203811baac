# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='CPython 3.13'
package=python3.13
switch='configure finds it'
what='18 files of its tests: those of `select`, `selectors`, `socketserver` and `asyncio`. On epoll they run without
`select.kqueue`, which `selectors` would take'
builds=1
minutes=60
host=(libssl-dev zlib1g-dev libffi-dev)

build() {
	step configure ./configure --prefix="$PWD/installed" --without-ensurepip CFLAGS='-g0 -O1' \
		CPPFLAGS="$include" LIBS="$object"
	grep -q 'define HAVE_KQUEUE 1' pyconfig.h || die "configure did not find kqueue()"
	step make make -j "$(nproc)"
	# What is not needed in the guest.
	find . -name '*.o' -delete
}

tests="test_select test_selectors test_kqueue test_epoll test_socketserver test_eintr test_asyncio.test_events
test_asyncio.test_unix_events test_asyncio.test_selector_events test_asyncio.test_base_events
test_asyncio.test_subprocess test_asyncio.test_streams test_asyncio.test_server test_asyncio.test_sock_lowlevel
test_asyncio.test_sendfile test_asyncio.test_ssl test_asyncio.test_buffered_proto test_asyncio.test_runners"

# count NAME STATUS: what a log of unittest says in its last lines. One that does not come to its
# end counts as a failure.
count() {
	sed -nE 's/^Ran ([0-9]+) tests? .*/ran \1/p; s/^(OK|FAILED|NO TESTS RAN)(.*)/end \2/p
		s/^unittest.case.SkipTest: .*/end skipped=1/p' log | tr -d '(),' | awk -v name="$1" -v status="$2" '
		/^ran/ { ran = $2; ended = 0 }
		/^end/ { ended = 1; delete n; for (i = 2; i <= NF; i++) { split($i, a, "="); n[a[1]] = a[2] } }
		END {
			bad = n["failures"] + n["errors"]
			if (!ended || (status && !bad && ran)) bad++
			passed = ran - bad - n["skipped"]
			# A file that is skipped has not even a test.
			print name, (passed > 0 ? passed : 0), bad, n["skipped"] + 0
		}'
}

run() {
	local test selector=KqueueSelector
	mkdir without
	echo 'import select; del select.kqueue, select.kevent' >without/sitecustomize.py
	local python=("$built/python")
	# Without a kqueue everything takes what it does on Linux.
	[ "$1" = kqueue ] || selector=EpollSelector python=(env "PYTHONPATH=$PWD/without" "$built/python")
	if "${python[@]}" -c "import selectors; assert selectors.DefaultSelector.__name__ == '$selector'"; then
		echo "$selector 1 0 0"
	else
		echo "$selector 0 1 0"
	fi | tee sums
	for test in $tests; do
		timeout 900 "${python[@]}" -m unittest -v "test.$test" >log 2>&1
		count "$test" $? >>sums
		cat log
		tail -n 1 sums
	done
	counted "$(awk '{ p += $2; f += $3; s += $4 } END { print p, f, s }' sums)"
}
