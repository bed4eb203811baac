# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='Twisted 24.11'
switch='its reactor for kqueue finds that of CPython'
what='its tests of what a reactor does: sockets, processes, threads, timers. 23 of those that are skipped need an IPv6 address,
which a guest lacks; the others need GLib, TLS or Windows, or are of a reactor that detects lost descriptors'
builds=1
needs=(cpython)
minutes=30

# What it needs besides is from PyPI.
build() {
	step needs python3 -m pip install --quiet --target needed --only-binary :all: --python-version 3.13 \
		--implementation cp 'zope.interface>=5' PyHamcrest constantly 'incremental>=24.7' 'Automat>=24.8' hyperlink attrs \
		typing_extensions
}

tests="core fdset process sigchld socket stdio tcp threads time udp unix"

run() {
	local name=epoll reactor=epollreactor.EPollReactor test modules=()
	[ "$1" = native ] || name=kqueue reactor=kqreactor.KQueueReactor
	for test in $tests; do modules+=("twisted.internet.test.test_$test"); done
	# Its tests are of each reactor that it knows for the system; for Linux kqueue is none of them.
	cat >trial.py <<-END
		from twisted.internet.test.reactormixins import ReactorBuilder
		from twisted.scripts.trial import run
		ReactorBuilder._reactors = ["twisted.internet.$reactor"]
		run()
	END
	export PYTHONPATH=$built/src:$built/needed
	timeout 1500 "$programs/cpython/kqueue/python" trial.py --reactor=$name --reporter=verbose "${modules[@]}" >log 2>&1
	cat log
	expect "$name is used" grep -q "_${reactor#*.}Tests\$" log | tee -a log
	# One that does not come to its end counts as a failure.
	counted "$(sed -nE 's/^(PASSED|FAILED) \((.*)\)$/\2/p; s/^ok .*/used=1/p; s/^not ok .*/notused=1/p' log | tr -d ',' | awk '
		{ for (i = 1; i <= NF; i++) { split($i, a, "="); n[a[1]] += a[2] } }
		/successes/ { ended = 1 }
		END { print n["successes"] + n["used"], n["failures"] + n["errors"] + n["notused"] + !ended, n["skips"] + 0 }')"
}
